"""Does a program pass its tests? A stranger's code, run so that it can neither hurt the machine nor forge the verdict.

    passes_tests("def twice(x): return 2 * x", ["assert twice(3) == 6"], timeout=5.0)        # True

Four processes, forked from a small one of this file's own that never holds a test:

    caller --program, tests--> server --fork--> the program:  confined; runs the program, then answers calls
                                      --fork--> the tests:    reads the tests, calls the program over a pipe

The tests see the program's functions, classes and generators as proxies: a call sends the arguments over, and plain
values come back as data. So a program cannot read the tests, patch what they use, end them early or look equal to
everything: it can only answer. The verdict is the exit status of the tests' process, in which no line of the program
ever runs. Comparing is done there too: an object of the program's own class equals no plain value but the one that it
extends (an IntEnum its number, a namedtuple its tuple), and another object of the program if the program says so.

The program's process may compute, read Python's standard library, use threads and write files of at most 1 MiB in an
empty directory that is removed afterwards. Landlock, seccomp's list of allowed system calls and `resource` limits keep
it from all else: other files, the network, new processes, signals, other processes' memory; it has no capabilities,
even as root. Everything is killed when the verdict is there, or the time is over.

What this file is not: a virtual machine. It trusts the Linux kernel and the tests themselves (the tests' process has
limits of time and memory only). A program can still fill its directory's disk until its time is over, warm the
processor, or learn from how long things take. Against that, run all of it in a container: docker run --network none
--memory 8g --pids-limit 512. Needs Linux 5.13 or later with Landlock on x86-64; elsewhere passes_tests raises.

Not seen from the tests: objects that the tests' own classes make (the program cannot get them), exceptions of the
program's own classes (they arrive as ProgramError), global variables that change after the program has run.
"""
import builtins
import ctypes
import importlib
import io
import json
import marshal
import math
import os
import pickle
import platform
import queue
import select
import signal
import struct
import subprocess
import sys
import tempfile
import types
from collections import deque
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from multiprocessing.connection import Connection, Pipe

MEMORY = 1 << 30  # bytes of address space, of the program and of the tests
FILE_SIZE = 1 << 20  # bytes of a file that a program writes
MESSAGE = 1 << 26  # bytes of one answer
# System calls of x86-64 that a program may make: all others, and those to come, fail. Of the files, Landlock decides.
ALLOWED = (
    "0-15 17-28 32-40 "  # read, write, open, stat, poll, mmap, one's own signals, pipe, select, dup, sleep, alarm
    "44-48 53 60-61 63 72-75 77-84 87 89 "  # send and receive on a socketpair, exit, wait, fcntl, rename, unlink
    "96-100 102 104 107-108 110-111 121 124 127-128 130-131 137-138 186 "  # clocks, limits, who am I, signal stack
    "201-202 204 213 217-218 228-233 247 257 262-264 267 269-271 273 281 283 286-287 290-293 "  # futex, *at, epoll
    "295-296 309 316 318 324 326-328 332 334 439 441 449 454-456")  # getrandom, statx, rseq
PLAIN = {type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset, range, slice,
         deque, Decimal, Fraction, date, datetime, time, timedelta}
PLAIN_CLASSES = {(kind.__module__, kind.__qualname__): kind for kind in PLAIN}
KINDS = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)  # what a program's class may extend


class ProgramError(Exception):
    """The program raised what is not one of Python's own exceptions."""


def passes_tests(program: str, tests: list[str], timeout: float) -> bool:
    """Does the program run to its end, and then every piece of test code, in order, in one namespace, in time?

    timeout: seconds of wall clock for all of it. Can be called from many threads; each has a server of its own.
    Raises RuntimeError where the sandbox cannot be built, and ValueError for a timeout that is not positive.
    """
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout {timeout} is not a positive number of seconds")
    try:
        server = IDLE.get_nowait()
    except queue.Empty:
        server = start_server()
    try:
        server.send_bytes(json.dumps({"program": program, "timeout": timeout}).encode())
        server.send_bytes(json.dumps(tests).encode())
        passed = server.recv_bytes() == b"passed"
    except (EOFError, OSError) as error:
        raise RuntimeError(f"the sandbox's server was killed from outside ({error!r})") from error
    IDLE.put(server)
    return passed


# ---- the server ------------------------------------------------------------------------------------------------------
IDLE: queue.SimpleQueue = queue.SimpleQueue()  # connections to servers that wait for a program


def start_server() -> Connection:
    """A small Python process that forks: the caller's own may be large, and hold threads and a GPU."""
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise RuntimeError(f"programs are judged on Linux on x86-64 only, not on {platform.system()} on "
                           f"{platform.machine()}: there is no sandbox there (a Linux container is one way)")
    ours, theirs = Pipe()
    with theirs:
        command = [sys.executable, "-I", "-S", __file__, str(theirs.fileno())]
        subprocess.Popen(command, pass_fds=[theirs.fileno()], env={}, cwd="/", stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        problem = ours.recv_bytes().decode()
    except EOFError:
        problem = "the sandbox's server did not start"
    if problem:
        raise RuntimeError(problem)
    return ours


def serve(control: Connection):
    """Judge one program after another until the caller is gone."""
    version = LIBC.syscall(444, None, 0, 1)  # landlock_create_ruleset: which version is there
    control.send_bytes(b"" if version > 0 else b"programs need a Linux kernel of 5.13 or later with Landlock enabled")
    while version > 0:
        try:
            job = json.loads(control.recv_bytes())
        except EOFError:
            return
        if isinstance(job, dict):  # else the tests of a program whose time was over before they were read
            with tempfile.TemporaryDirectory(prefix="judged-") as home:
                passed = judge(job["program"], job["timeout"], control, home)
            control.send_bytes(b"passed" if passed else b"failed")


def judge(program: str, timeout: float, control: Connection, home: str) -> bool:
    """Fork the program and the tests, and wait for the tests."""
    for_tests, for_program = Pipe()
    # subtle: the program is forked before anything has read the tests, so they are nowhere in its memory
    children = [fork(run_program, program, for_program, timeout, home)]
    for_program.close()  # so that the tests see it when the program dies
    children.append(fork(run_tests, control, for_tests, timeout))
    for_tests.close()
    ended = os.pidfd_open(children[1])
    in_time = select.select([ended], [], [], timeout)[0]
    os.close(ended)
    for child in children:
        os.kill(child, signal.SIGKILL)  # a zombie takes it without harm
    statuses = [os.waitpid(child, 0)[1] for child in children]
    return bool(in_time) and statuses[1] == 0


def fork(run, *arguments) -> int:
    """run(*arguments) in a child that dies with its parent. Exit status 0 means that it came to its end."""
    child = os.fork()
    if child:
        return child
    try:
        LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        os.dup2(0, 2)
        run(*arguments)
        os._exit(0)
    finally:
        os._exit(1)


def limit(timeout: float):
    """The limits of both children; open files are closed by hand."""
    import resource
    for name, most in (("CPU", math.ceil(timeout) + 1), ("AS", MEMORY), ("FSIZE", FILE_SIZE), ("CORE", 0),
                       ("NOFILE", 64), ("MSGQUEUE", 0), ("MEMLOCK", 0)):
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (most, most))


# ---- the program's process -------------------------------------------------------------------------------------------
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def confine(home: str):
    """From here on this process may do no more than the file's head says. Raises OSError if the kernel refuses."""
    def call(number, *arguments):
        result = LIBC.syscall(number, *arguments)
        if result < 0:
            raise OSError(ctypes.get_errno(), f"system call {number}")
        return result

    version = call(444, None, 0, 1)
    read, write = 1 << 2 | 1 << 3, 1 << 1 | 1 << 5 | 1 << 8 | (version > 2) << 14  # write, remove, make, truncate
    ruleset = call(444, struct.pack("Q", (1 << 13) - 1 | (version > 2) << 14), 8, 0)
    places = [(home, read | write), *((place, read) for place in (*sys.path, "/lib", "/lib64", "/usr/lib"))]
    for place, access in places:
        if os.path.isdir(place):
            call(445, ruleset, 1, struct.pack("=Qi", access, os.open(place, os.O_PATH)), 0)  # landlock_add_rule
    LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    call(446, ruleset, 0)  # landlock_restrict_self
    call(126, struct.pack("Ii", 0x20080522, 0), bytes(24))  # capset: none, even for root
    os.closerange(4, 1 << 10)
    load, equal, at_least, above, some_bit, end = 0x20, 0x15, 0x35, 0x25, 0x45, 0x06
    fail, allow = (end, 0, 0, 0x00050000 | 1), (end, 0, 0, 0x7FFF0000)  # EPERM
    code = [(load, 0, 0, 4), (equal, 1, 0, 0xC000003E), fail, (load, 0, 0, 0)]  # x86-64; then the call's number
    code += [(equal, 0, 1, 435), (end, 0, 0, 0x00050000 | 38)]  # clone3 is "not there" (ENOSYS): threads use clone
    code += [(equal, 0, 4, 56), (load, 0, 0, 16), (some_bit, 0, 1, 1 << 16), allow, fail]  # clone: CLONE_THREAD only
    code += [(equal, 0, 5, 72), (load, 0, 0, 24), (equal, 2, 0, 8), (equal, 1, 0, 15), allow, fail]  # no F_SETOWN
    code += [(equal, 0, 5, 16), (load, 0, 0, 24), (equal, 1, 0, 0x5451), (equal, 0, 1, 0x5421), allow, fail]  # ioctl:
    #                                                                               FIOCLEX and FIONBIO, no FIOSETOWN
    if version < 3:  # Landlock did not know of truncating yet
        code += [(equal, 0, 4, 257), (load, 0, 0, 32), (some_bit, 0, 1, os.O_TRUNC), fail, allow,
                 (equal, 1, 0, 2), (equal, 0, 1, 77), fail]
    for first, _, last in (part.partition("-") for part in ALLOWED.split()):
        code += [(at_least, 0, 2, int(first)), (above, 1, 0, int(last or first)), allow]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in [*code, fail]))
    call(317, 1, 0, struct.pack("HxxxxxxQ", len(code) + 1, ctypes.addressof(filters)))  # seccomp


def run_program(program: str, tests: Connection, timeout: float, home: str):
    """Answer calls until the tests hang up. The first is to run the program, whose names are the answer."""
    os.dup2(tests.fileno(), 3)  # 0, 1 and 2 are the null device; all others will be closed
    tests = Connection(3)
    os.chdir(home)
    tempfile.tempdir = home
    limit(timeout)
    confine(home)
    module = sys.modules["program"] = types.ModuleType("program")
    link = Link(tests, trusted=False)

    def run(_):
        exec(compile(program, "program", "exec"), module.__dict__)
        return {name: value for name, value in module.__dict__.items() if not name.startswith("__")}

    operations = OPERATIONS | {"run": run}
    while True:
        operation, target, arguments, keywords = link.receive()
        link.answer(lambda: operations[operation](target, *arguments, **keywords), arguments)


OPERATIONS = {
    "__call__": lambda target, *arguments, **keywords: target(*arguments, **keywords),
    "__getattr__": getattr, "__setattr__": setattr, "__getitem__": lambda target, key: target[key],
    "__setitem__": lambda target, key, value: target.__setitem__(key, value), "__iter__": iter, "__next__": next,
    "__len__": len, "__bool__": bool, "__str__": str, "__repr__": repr,
    "__instancecheck__": lambda target, value: isinstance(value, target), "__eq__": lambda left, right: left == right,
}


# ---- the pipe between them -------------------------------------------------------------------------------------------
class Link:
    """One end of the pipe: messages are pickles in which the program's objects stand as numbers."""

    def __init__(self, pipe: Connection, trusted: bool):
        self.pipe, self.trusted = pipe, trusted
        self.objects: dict[int, object] = {}  # the program's, by number; in the tests' process, their proxies

    def send(self, message):
        """Pickle and send."""
        data = io.BytesIO()
        Writer(data, self).dump(message)
        self.pipe.send_bytes(data.getvalue())

    def receive(self):
        """Receive and unpickle. The tests' process gets plain values and proxies, whatever the bytes say."""
        return Reader(io.BytesIO(self.pipe.recv_bytes(MESSAGE)), self).load()

    def answer(self, action, arguments):
        """The program's side: do it and send how it ended, what came out, and the arguments, which may have changed."""
        try:
            self.send((True, action(), arguments))
        except BaseException as error:
            name = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins")
            self.send((False, (name, str(error)[:1000]), ()))

    def ask(self, operation, target=None, arguments=(), keywords={}):
        """The tests' side: returns or raises what the program's side did, and changes the arguments as it did."""
        self.send((operation, target, arguments, keywords))
        done, result, changed = self.receive()
        if not done:
            kind = getattr(builtins, result[0], None)
            own = isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception
            raise (kind if own else ProgramError)(result[1])
        for old, new in zip(arguments, changed):
            if type(old) is type(new) and type(old) in (list, dict, set, bytearray, deque):
                old.clear()
                (old.update if type(old) in (dict, set) else old.extend)(new)
                result = old if result is new else result
        return result


class Writer(pickle.Pickler):
    """Plain values by value; an object of the program as its number and the plain value that it extends, if any."""

    def __init__(self, file, link: Link):
        super().__init__(file, 5)
        self.link = link

    def persistent_id(self, value):
        if self.link.trusted:
            return (value._number, None) if type(value) is Proxy else None
        if type(value) in PLAIN or isinstance(value, type) and value in PLAIN:
            return None
        self.link.objects[id(value)] = value  # kept, so that no other object gets its id
        kind = next((kind for kind in KINDS if isinstance(value, kind)), None)
        return id(value), kind and (kind(value),)

    def reducer_override(self, value):
        if self.link.trusted and isinstance(value, types.FunctionType) and value.__module__ == "tests":
            return rebuild, (marshal.dumps(value.__code__), value.__defaults__)  # refused there if it needs a closure
        return NotImplemented


class Reader(pickle.Unpickler):
    """The other way round."""

    def __init__(self, file, link: Link):
        super().__init__(file)
        self.link = link

    def persistent_load(self, token):
        number, extends = token
        if not self.link.trusted:
            return self.link.objects[number]
        return self.link.objects.setdefault(number, Proxy(self.link, number, extends and extends[0]))

    def find_class(self, module, name):
        return PLAIN_CLASSES[module, name] if self.link.trusted else super().find_class(module, name)


def rebuild(code: bytes, defaults: tuple | None):
    """A function that a test passes, among the program's names."""
    return types.FunctionType(marshal.loads(code), sys.modules["program"].__dict__, argdefs=defaults)


class Proxy:
    """An object of the program, as the tests see it: what one does to it is done over there."""

    def __init__(self, link: Link, number: int, extends):
        self.__dict__.update(_link=link, _number=number, _extends=extends)

    def __eq__(self, other):
        if type(other) is Proxy:  # only then may the program's own idea of equality count
            return self is other or self._link.ask("__eq__", self, (other,), {}) is True
        return self._extends is not None and self._extends == other

    def __hash__(self):
        return hash(self._number if self._extends is None else self._extends)


for _name in set(OPERATIONS) - {"__eq__"}:
    setattr(Proxy, _name, lambda self, *arguments, _name=_name, **keywords:
            self._link.ask(_name, self, arguments, keywords))


# ---- the tests' process ----------------------------------------------------------------------------------------------
def run_tests(control: Connection, program: Connection, timeout: float):
    """Read the tests, wait for the program's names, run every test. What is raised here is a verdict: failed."""
    tests = json.loads(control.recv_bytes())
    limit(timeout)
    codes = [compile(test, "test", "exec") for test in tests]
    namespace = visible(Link(program, trusted=True).ask("run"), set().union(*map(names_in, codes)))
    for code in codes:
        exec(code, namespace)


def names_in(code: types.CodeType) -> set[str]:
    """All names that a piece of code, or a function in it, looks up."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(names_in, inner))


def visible(names: dict, used: set[str]) -> dict:
    """Of the program's names those that the tests use. A program that defines what is asked for cannot also replace
    `set` or `math` under the tests' feet; one whose only such name is a built-in's, as in "write sum(a, b)", can."""
    standard = used & sys.stdlib_module_names
    mine = {name: value for name, value in names.items() if name in used}
    asked = {name: value for name, value in mine.items() if name not in standard and not hasattr(builtins, name)}
    modules = {name: importlib.import_module(name) for name in standard & mine.keys()} if asked else {}
    return modules | (asked or mine) | {"__name__": "tests"}


if __name__ == "__main__":
    sys.modules["sandbox"] = sys.modules["__main__"]  # one name for what goes over the pipe
    serve(Connection(int(sys.argv[1])))
