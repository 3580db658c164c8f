r"""Does a program pass its tests? A stranger's code is run so that it can neither hurt the machine
nor forge the verdict.

    passes_tests("def twice(x): return 2 * x", ["assert twice(3) == 6"], timeout=5.0)   # True
    judge(problems, texts, timeout=5.0)        # the same for many replies, [True, False, ...]

Trusted: the Linux kernel, Python, and the tests themselves (their process has limits of time and
memory only). Not trusted: the program, and every byte that its process sends.

There are four processes. The last two are forked from a small one that never holds a program's text
or a test: both travel as files in memory, which only the process that needs one reads.

    caller --job--> server --fork--> the program:  confined; it runs the program, then answers calls
                           --fork--> the tests:    they call the program over a pipe

The tests see the program's functions, classes and generators as proxies: a call sends the arguments
over, and plain values come back as data. Nothing on the pipe is code: a message is JSON, built by a
short table of plain kinds (see "the pipe"), so the worst that a program can do is to answer. It
cannot read the tests, patch what they use or end them early. The verdict is the exit status of the
tests' process, in which no line of the program ever runs. Lists, dictionaries and the like are
shared: what one side changes, the other sees at the next call.

Comparing is done in the tests' process: an object of the program's own class equals no plain value
but the one that it extends (an IntEnum its number, a namedtuple its tuple), and another object of
the program if the program says so. In order, arithmetic and `in` it has a say about plain values
only where the tests name a class of the program, by a capital letter (`Money(3) < 5`): elsewhere a
function could answer with an object that is close to everything.

The program's process may compute, read Python's standard library, use 200 threads and write 100
files of at most 1 MiB in an empty directory that is removed afterwards. Landlock, seccomp's list of
allowed system calls and `resource` limits keep it from all else: other files, the network, new
processes, signals, other processes' memory; it has no capabilities, even as root. Threads and files
are counted by the server, which the kernel asks before each. Both processes are killed when the
verdict is there, or when the time is over. Sets and hashes come in the same order in every run.

What this file is not: a virtual machine. A program can warm the processor, learn from how long
things take, and see that a file exists and how large it is (not what it holds). Against that, run
all of it in a container: docker run --network none --memory 8g --pids-limit 4096. It needs Linux
5.13 or later with Landlock on x86-64; elsewhere passes_tests raises.

What the tests do not see: exceptions of the program's own classes (they arrive as the built-in one
that they extend, or as ProgramError), global names that are bound anew after the program has run,
what the program prints, and its classes as classes (`type(x) is C` is False; `isinstance(x, C)` and
`type(x).__name__` are right). What the program does not see: objects of the tests' own classes.

The server and its children run this file as a script of its own, without site-packages: at its top
it imports the standard library only.
"""

import _thread
import ast
import builtins
import copy
import ctypes
import errno
import fcntl
import functools
import importlib
import itertools
import json
import math
import operator
import os
import platform
import queue
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time as clock
import types
from collections import Counter, OrderedDict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from multiprocessing.connection import Connection, Pipe
from typing import Callable, NamedTuple

MEMORY = 1 << 30  # bytes of address space, of the program and of the tests
FILE_SIZE = 1 << 20  # bytes of a file that a program writes
FILES = 100  # that a program may have in its folder
THREADS = 200  # that a program may have at a time
STACK = 1 << 21  # bytes of a thread's stack, where the program does not say
MESSAGE = 1 << 26  # bytes of one answer
LONGEST = 86_400.0  # seconds: a timeout above a day is a day
PATIENCE = 60.0  # seconds that a server may take beyond a program's own time
TRIES = 3  # servers, before what fails on the sandbox's side is an error
HASH_SEED = "2"  # of every server, so that sets have one order


# ---- the program of a reply ----------------------------------------------------------------------
FENCE = re.compile(r"(`{3,}|~{3,})")
DEFINITION = re.compile(
    r"^(?:(?:async +)?def|class) +(\w+)|^(\w+)(?: *: *[^=\n]+)? *=(?!=)", re.MULTILINE
)
FUNCTION = re.compile(r"^(?:(?:async +)?def|class) +\w", re.MULTILINE)
FIRST_LINE = re.compile(r"^(?:(?:async +)?def|class|import|from \S+ import|@) ?\w", re.MULTILINE)


def extract_code(text: str, wanted: set[str] | frozenset[str] = frozenset(), stub="") -> str | None:
    r"""The program of a reply: the last fenced block that defines something wanted, behind those
    earlier ones that define what it lacks.

    wanted: names that the tests use. Where no block defines any of them, the last one with a
    function or class counts, or the last one. stub: code that a reply may go on from, as a block
    that begins with white space does. Without a fence it is all of the text, from the first line
    of code. None if the last block was cut off: no earlier one stands in for it.

    >>> extract_code("Do:\n```python\ndef f(x): return x\n```\nTry:\n```\nf(1)\n```", {"f"})
    'def f(x): return x\n'
    >>> extract_code("x = 3")
    'x = 3'
    """
    blocks, is_cut_off = fenced_blocks(text)
    if is_cut_off:
        return None
    if not blocks:
        return without_prose(text)
    tests = (
        lambda block: bool(wanted & defined(block)) or bool(stub) and block[:1].isspace(),
        lambda block: FUNCTION.search(block) is not None,
        lambda block: True,
    )
    for test in tests:
        chosen = [place for place, block in enumerate(blocks) if test(block)]
        if chosen:
            break
    code = blocks[chosen[-1]]
    for block in reversed(blocks[: chosen[-1]]):
        needed = wanted | set(re.findall(r"\w+", code))
        if (defined(block) - defined(code)) & needed:
            code = block + code
    return code


def defined(code: str) -> set[str]:
    r"""The names that code defines at its outermost level.

    >>> sorted(defined("import math\ndef f(x):\n    y = 1\nz: int = 3\nassert f(1) == 2"))
    ['f', 'z']
    """
    return {function or variable for function, variable in DEFINITION.findall(code)}


def fenced_blocks(text: str) -> tuple[list[str], bool]:
    """What the fenced blocks hold, and whether the last one was cut off.

    A fence is three or more backquotes or tildes, at least as many at the end as at the beginning.
    One may follow text on its line. In a block in a list, code begins where the fence does. A fence
    within a docstring is text.
    """
    blocks = []
    fence = ""
    for line in text.splitlines(keepends=True):
        found = FENCE.findall(line)
        if not fence:
            if len(found) == 1 and "`" not in line.split(found[0], 1)[1]:
                fence = found[0]
                before = line.split(fence)[0]
                indent = len(before) if re.fullmatch(r"\s*(?:[-*+]|\d+[.)])?\s*", before) else 0
                lines = []
            continue
        code, last = line.rstrip(), found[-1] if found else ""
        is_end = last[:1] == fence[0] and len(last) >= len(fence) and code.endswith(last)
        if is_end and not in_docstring("".join(lines)):
            rest = code[: -len(last)]
            blocks.append("".join([*lines, rest.strip() and f"{without_indent(rest, indent)}\n"]))
            fence = ""
        else:
            lines.append(without_indent(line, indent))
    return blocks, bool(fence)


def without_indent(line: str, width: int) -> str:
    """The line without white space at its beginning, at most so much of it."""
    return line[:width].lstrip(" \t") + line[width:]


def in_docstring(code: str) -> bool:
    """Whether a triple quote is open at the end of the code."""
    quotes = re.findall(r'"""|\'\'\'', code)
    opened = ""
    for quote in quotes:
        if not opened:
            opened = quote
        elif quote == opened:
            opened = ""
    return bool(opened)


def without_prose(text: str) -> str:
    """A text without a fence, from its first line of code, if what stands before is no code."""
    first = FIRST_LINE.search(text)
    if first is None:
        return text
    try:
        ast.parse(text[: first.start()])
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return text[first.start() :]
    return text


# ---- what the caller asks ------------------------------------------------------------------------
def judge(problems: list, texts: list[str], timeout: float) -> list[bool]:
    """Does the program of texts[k] pass all tests of problems[k] (world.Problem)?

    Programs run side by side, a thread for each core. The same reply to the same problem is judged
    once, so that it has one verdict. Raises what passes_tests raises.
    """
    # subtle: imported here, so that neither the server nor a program's process holds it
    from concurrent.futures import ThreadPoolExecutor

    def is_right(attempt) -> bool:
        problem, text = attempt
        code = extract_code(text, names_for(problem.tests), problem.stub)
        if code is None:
            return False
        return passes_once(f"{problem.stub}\n{code}", problem.tests, timeout)

    attempts = list(zip(problems, texts, strict=True))
    different = list(dict.fromkeys(attempts))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        verdicts = dict(zip(different, pool.map(is_right, different)))
    return [verdicts[attempt] for attempt in attempts]


@functools.lru_cache(maxsize=1 << 14)
def names_for(tests: tuple[str, ...]) -> frozenset[str]:
    """The words of the tests that they do not define themselves: what is asked for is among
    them."""
    code = "\n".join(tests)
    return frozenset(re.findall(r"\w+", code)) - defined(code)


@functools.lru_cache(maxsize=1 << 14)
def passes_once(program: str, tests: tuple[str, ...], timeout: float) -> bool:
    """passes_tests, remembered: after a warm start a model says the same programs again."""
    return passes_tests(program, tests, timeout)


def passes_tests(program: str, tests: list[str] | tuple[str, ...], timeout: float) -> bool:
    """Does the program run to its end, and then every piece of test code, in order, in one
    namespace, in time?

    timeout: seconds of wall clock for all of it. Can be called from many threads, and after a fork;
    each has a server of its own. What fails on the sandbox's side is tried again on a fresh server.
    Raises RuntimeError where the sandbox cannot be built or fails again, and ValueError for a
    timeout that is not positive.
    """
    if not 0 < timeout < math.inf:
        raise ValueError(f"timeout {timeout} is not a positive number of seconds")
    job = {"timeout": min(timeout, LONGEST), "folder": tempfile.gettempdir()}
    try:
        server = IDLE.get_nowait()
    except queue.Empty:
        server = None
    for attempt in range(TRIES):
        clock.sleep(attempt / 2)
        try:
            server = server or start_server()
            verdict = ask_server(server, job, program, tests)
        except OSError as error:
            verdict = repr(error)
        if verdict in ("passed", "failed"):
            IDLE.put(server)
            return verdict == "passed"
        stop_server(server)
        server = None
    raise RuntimeError(f"the sandbox failed {TRIES} times, at last with: {verdict}")


class Server(NamedTuple):
    """A process that judges one program after another, and the way to ask it."""

    control: socket.socket
    process: subprocess.Popen


IDLE: queue.SimpleQueue = queue.SimpleQueue()  # servers that wait for a program


def forget_servers():
    """After a fork: the servers are the parent's, and a verdict for it must not be taken here."""
    global IDLE
    IDLE = queue.SimpleQueue()


os.register_at_fork(after_in_child=forget_servers)


def start_server() -> Server:
    """A small Python process that forks: the caller's own may be large, and hold threads and a
    GPU."""
    system = platform.system()
    machine = platform.machine()
    if system != "Linux" or machine != "x86_64":
        raise RuntimeError(
            f"programs are judged on Linux on x86-64 only, not on {system} on {machine}:"
            " there is no sandbox there (a Linux container is one way)"
        )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # -s, -S, and the first folder of the path left out: no site-packages, and nothing is imported
    # from where the caller or this file is. (-I would leave out the hash seed, too.)
    start = "import sys; del sys.path[0]; import runpy; runpy.run_path(sys.argv[1], {}, '__main__')"
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-sSc", start, os.path.abspath(__file__), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={"PYTHONHASHSEED": HASH_SEED},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    server = Server(ours, process)
    ours.settimeout(PATIENCE)
    problem = ours.recv(MESSAGE).decode() or "the sandbox's server did not start"
    if problem != "ready":
        stop_server(server)
        raise RuntimeError(problem)
    return server


def stop_server(server: Server | None):
    """Its children die with it."""
    if server:
        server.control.close()
        server.process.kill()
        server.process.wait()


def ask_server(server: Server, job: dict, program: str, tests) -> str:
    """ "passed" or "failed"; any other text says what is wrong with the server."""
    number = next(NUMBERS)
    files = []
    try:
        for text in (program, tests):
            files.append(file_in_memory(json.dumps(text).encode()))
        server.control.settimeout(job["timeout"] + PATIENCE)
        message = json.dumps(job | {"number": number}).encode()
        socket.send_fds(server.control, [message], files)
    finally:
        for file in files:
            os.close(file)
    answer = server.control.recv(MESSAGE)
    if not answer:
        return "its server was killed"
    its_number, verdict = json.loads(answer)
    return verdict if its_number == number else f"a verdict of job {its_number}, not {number}"


NUMBERS = itertools.count()  # of jobs, so that no verdict is taken for another's


def file_in_memory(content: bytes) -> int:
    """A descriptor of a file that holds this and has no name."""
    descriptor = os.memfd_create("judged")
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    return descriptor


def read_file(descriptor: int):
    """What a file in memory holds."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return json.loads(file.read())


# ---- the server ----------------------------------------------------------------------------------
def serve(control: socket.socket):
    """Judge one program after another until the caller is gone, or until something here fails: then
    say so and end."""
    os.environ.clear()
    if landlock_version() <= 0:
        control.send(b"programs need a Linux kernel of 5.13 or later with Landlock enabled")
        return
    control.send(b"ready")
    while True:
        message, files, _, _ = socket.recv_fds(control, 1 << 16, 2)
        if not message:
            return
        job = json.loads(message)
        try:
            with tempfile.TemporaryDirectory(prefix="judged-", dir=job["folder"]) as home:
                verdict = "passed" if run_both(job["timeout"], *files, home) else "failed"
        except OSError as error:
            verdict = repr(error)
        for file in files:
            os.close(file)
        control.send(json.dumps([job["number"], verdict]).encode())


def run_both(timeout: float, program: int, tests: int, home: str) -> bool:
    """Fork the program and the tests, and wait for the tests: do they end well, and in time? Raises
    OSError where the sandbox itself fails."""
    for_tests, for_program = Pipe()
    ours, theirs = socket.socketpair()
    children = []
    try:
        children.append(fork(run_program, program, for_program, theirs, timeout, home))
        for_program.close()  # so that the tests see it when the program dies
        theirs.close()
        children.append(fork(run_tests, tests, for_tests, timeout))
        in_time = wait_for_tests(children[1], children[0], ours, timeout, home)
    finally:
        for end in (for_tests, for_program, ours, theirs):
            end.close()
        for child in children:
            os.kill(child, signal.SIGKILL)  # one that has ended takes it without harm
        ended = [os.waitpid(child, 0)[1] for child in children]
    return in_time and ended[1] == 0


def wait_for_tests(tests: int, program: int, from_program, timeout: float, home: str) -> bool:
    """Do the tests end in time? Meanwhile, the kernel asks here before the program's process starts
    a thread or makes a file."""
    _, descriptors, _, _ = socket.recv_fds(from_program, 1, 1)
    if not descriptors:
        raise OSError("the program's process could not be confined")
    (questions,) = descriptors
    tests_end = os.pidfd_open(tests)
    try:
        return ends_in_time(tests_end, questions, timeout, (program, home))
    finally:
        os.close(questions)
        os.close(tests_end)


def ends_in_time(tests_end: int, questions: int, timeout: float, whose: tuple[int, str]) -> bool:
    """Wait for the tests' end, and answer the kernel's questions of the program (its number, its
    folder)."""
    until = clock.monotonic() + timeout
    waiting = select.poll()
    waiting.register(tests_end, select.POLLIN)
    waiting.register(questions, select.POLLIN)
    while (left := until - clock.monotonic()) > 0:
        for descriptor, event in waiting.poll(math.ceil(1000 * left)):
            if descriptor == tests_end:
                return True
            if event & select.POLLIN:
                allow_or_refuse(questions, *whose)
            else:
                waiting.unregister(questions)  # the program has ended
    return False


def allow_or_refuse(questions: int, program: int, home: str):
    """Answer one question of the kernel's: one thread, or one file, more?"""
    question = bytearray(80)  # struct seccomp_notif
    try:
        fcntl.ioctl(questions, NOTIFICATION_RECEIVE, question)
        number, call = struct.unpack_from("Q8xI", question)
        if call == CLONE:
            are_few = os.stat(f"/proc/{program}/task").st_nlink - 2 < THREADS
            refusal = errno.EAGAIN
        else:
            are_few = len(os.listdir(home)) < FILES
            refusal = errno.EDQUOT
        # struct seccomp_notif_resp; the last 1 is "let the call go on"
        answer = (number, 0, 0, 1) if are_few else (number, 0, -refusal, 0)
        fcntl.ioctl(questions, NOTIFICATION_SEND, struct.pack("QqiI", *answer))
    except OSError:
        pass  # who asked has ended meanwhile


def fork(run, *arguments) -> int:
    """run(*arguments) in a child that dies with its parent; returns its process number.

    Exit status 0 means that it came to its end.
    """
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # it has not died before that
            os.dup2(0, 2)  # nobody reads its errors
            run(*arguments)
            os._exit(0)
    finally:
        os._exit(1)


def limit(timeout: float):
    """The limits of both children; open files are closed by hand."""
    import resource

    most = {
        resource.RLIMIT_CPU: math.ceil(timeout) + 1,  # seconds
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_FSIZE: FILE_SIZE,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    for what, amount in most.items():
        resource.setrlimit(what, (amount, amount))


# ---- how the program's process is confined -------------------------------------------------------
LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
M_ARENA_MAX = -8

# Numbers of system calls on x86-64.
OPEN = 2
IOCTL = 16
CLONE = 56
FCNTL = 72
TRUNCATE = 77
CAPSET = 126
OPENAT = 257
SECCOMP = 317
CLONE3 = 435
CLOSE_RANGE = 436
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
# The calls that a program may make: all others, and those to come, fail. Of the files, Landlock
# decides.
ALLOWED = (
    # read, write, open, stat, poll, mmap, one's own signals, pipe, select, dup, sleep, alarm
    "0-15 17-28 32-40 "
    # send and receive on a socketpair, exit, wait, fcntl, rename, unlink
    "44-48 53 60-61 63 72-75 77-84 87 89 "
    # clocks, limits, who am I, signal stack
    "96-100 102 104 107-108 110-111 121 124 127-128 130-131 137-138 186 "
    # futex, epoll, files beneath a folder
    "201-202 204 213 217-218 228-233 247 257 262-264 267 269-271 273 281 283 286-287 290-293 "
    # getrandom, statx, rseq
    "295-296 309 316 318 324 326-328 332 334 439 441 449 454-456"
)


def confine(home: str, server: int):
    """From here on this process may do no more than the file's head says; the server gets the
    descriptor at which the kernel asks it. Raises OSError if the kernel refuses.

    Descriptors 0 to 3 stay open, all others are closed.
    """
    version = landlock_version()
    ruleset = landlock_ruleset(home, version)
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    system_call(LANDLOCK_RESTRICT_SELF, ruleset, 0)
    header = struct.pack("Ii", 0x20080522, 0)  # version 3 of capabilities, this process
    system_call(CAPSET, header, bytes(24))  # none, even for root
    os.dup2(server, 4)
    to_server = socket.socket(fileno=4)
    # subtle: to the highest number there can be, as a caller with many files gives high ones
    system_call(CLOSE_RANGE, ctypes.c_uint(5), ctypes.c_uint(0xFFFFFFFF), 0)
    lines = seccomp_filter(version)
    packed = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(packed)
    pointer = struct.pack("HxxxxxxQ", len(lines), ctypes.addressof(buffer))
    # SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER
    questions = system_call(SECCOMP, 1, 1 << 3, pointer)
    socket.send_fds(to_server, [b"!"], [questions])
    to_server.close()
    os.close(questions)


def system_call(number: int, *arguments) -> int:
    """A system call by its number. Raises OSError if it fails."""
    result = LIBC.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


# ---- files: Landlock
READ_FILE = 1 << 2
READ_FOLDER = 1 << 3
WRITE_FILE = 1 << 1
REMOVE_FILE = 1 << 5
MAKE_FILE = 1 << 8
TRUNCATE_FILE = 1 << 14  # since version 3
ALL_OF_VERSION_1 = (1 << 13) - 1
PATH_BENEATH = 1  # the kind of rule


def landlock_version() -> int:
    """Which version of Landlock the kernel has; 0 or less if it has none."""
    return LIBC.syscall(LANDLOCK_CREATE_RULESET, None, 0, 1)


def landlock_ruleset(home: str, version: int) -> int:
    """A descriptor of the rules: read Python's library; read and write, but make no folder, in
    `home`; nothing else."""
    may_read = READ_FILE | READ_FOLDER
    may_write = WRITE_FILE | REMOVE_FILE | MAKE_FILE
    handled = ALL_OF_VERSION_1
    if version > 2:
        may_write |= TRUNCATE_FILE
        handled |= TRUNCATE_FILE
    ruleset = system_call(LANDLOCK_CREATE_RULESET, struct.pack("Q", handled), 8, 0)
    places = [(home, may_read | may_write)]
    for folder in (*sys.path, "/lib", "/lib64", "/usr/lib"):
        places.append((folder, may_read))
    for folder, access in places:
        if os.path.isdir(folder):
            rule = struct.pack("=Qi", access, os.open(folder, os.O_PATH))
            system_call(LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, rule, 0)
    return ruleset


# ---- system calls: seccomp. The filter is a program for a little machine in the kernel (BPF) that
# looks at one call. A line is (what to do, lines to skip if true, lines to skip if false, number).
LOAD = 0x20  # from this place of the call's description (struct seccomp_data)
EQUAL = 0x15
AT_LEAST = 0x35
ABOVE = 0x25
SOME_BIT = 0x45
RETURN = 0x06
NUMBER = 0  # places in the description
ARCHITECTURE = 4
ARGUMENT_1 = 16
ARGUMENT_2 = 24
ARGUMENT_3 = 32
ALLOW = (RETURN, 0, 0, 0x7FFF0000)
REFUSE = (RETURN, 0, 0, 0x00050000 | 1)  # EPERM
NOT_THERE = (RETURN, 0, 0, 0x00050000 | 38)  # ENOSYS
ASK = (RETURN, 0, 0, 0x7FC00000)  # the server, which counts
NOTIFICATION_RECEIVE = 0xC0502100  # requests of ioctl at the server's end
NOTIFICATION_SEND = 0xC0182101
X86_64 = 0xC000003E
CLONE_THREAD = 1 << 16
F_SETOWN = 8  # of fcntl: have a process killed by a signal
F_SETOWN_EX = 15
FIOCLEX = 0x5451  # of ioctl
FIONBIO = 0x5421


def seccomp_filter(version: int) -> list[tuple[int, int, int, int]]:
    """The lines of the filter, where Landlock has this version."""
    lines = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, X86_64),
        REFUSE,
        (LOAD, 0, 0, NUMBER),
        (EQUAL, 0, 1, CLONE3),  # threads use clone where it is not there
        NOT_THERE,
        (EQUAL, 0, 4, CLONE),  # for threads only
        (LOAD, 0, 0, ARGUMENT_1),
        (SOME_BIT, 0, 1, CLONE_THREAD),
        ASK,
        REFUSE,
        (EQUAL, 0, 5, FCNTL),  # but for the owner of a descriptor
        (LOAD, 0, 0, ARGUMENT_2),
        (EQUAL, 2, 0, F_SETOWN),
        (EQUAL, 1, 0, F_SETOWN_EX),
        ALLOW,
        REFUSE,
        (EQUAL, 0, 5, IOCTL),  # these two requests only
        (LOAD, 0, 0, ARGUMENT_2),
        (EQUAL, 1, 0, FIOCLEX),
        (EQUAL, 0, 1, FIONBIO),
        ALLOW,
        REFUSE,
    ]
    cut = os.O_TRUNC if version < 3 else 0  # Landlock did not know of truncating yet; 0: no bit
    if cut:
        lines += [(EQUAL, 0, 1, TRUNCATE), REFUSE]
    for call, flags in ((OPENAT, ARGUMENT_3), (OPEN, ARGUMENT_2)):
        lines += [
            (EQUAL, 0, 6, call),
            (LOAD, 0, 0, flags),
            (SOME_BIT, 0, 1, cut),
            REFUSE,
            (SOME_BIT, 0, 1, os.O_CREAT),
            ASK,
            ALLOW,
        ]
    for part in ALLOWED.split():
        first, _, last = part.partition("-")
        lines += [
            (AT_LEAST, 0, 2, int(first)),
            (ABOVE, 1, 0, int(last or first)),
            ALLOW,
        ]
    return [*lines, REFUSE]


# ---- the program's process -----------------------------------------------------------------------
def run_program(program: int, tests: Connection, server: socket.socket, timeout: float, home: str):
    """Answer requests until the tests hang up. The first is to run the program."""
    text = read_file(program)
    to_server = fcntl.fcntl(server, fcntl.F_DUPFD, 10)  # out of the way of 3 and 4
    os.dup2(tests.fileno(), 3)  # 0, 1 and 2 are the null device
    os.chdir(home)
    tempfile.tempdir = home
    limit(timeout)
    _thread.stack_size(STACK)
    LIBC.mallopt(M_ARENA_MAX, 2)  # else every thread takes 64 MiB of address space
    confine(home, to_server)
    module = types.ModuleType("program")
    sys.modules["program"] = module

    def run(_) -> tuple[str, ...]:
        exec(compile(text, "program", "exec"), module.__dict__)
        return tuple(name for name in module.__dict__ if not name.startswith("__"))

    def global_name(_, name: str):
        return module.__dict__[name]

    operations = OPERATIONS | {"run": run, "global name": global_name}
    link = Link(Connection(3), trusted=False)
    while True:
        _, operation, target, arguments, keywords = link.receive()
        link.answer(operations[operation], (target, *arguments), keywords)


def call(target, *arguments, **keywords):
    return target(*arguments, **keywords)


def is_instance(target, value):
    return isinstance(value, target)


def is_subclass(target, value):
    return issubclass(value, target)


def leave(target):
    target.__exit__(None, None, None)


def deep_copy(target, memo):
    return copy.deepcopy(target)


def run_coroutine(target):
    import asyncio

    return asyncio.run(target)


def plain_part(target):
    return extended_part(target)[1]


# What the tests can do to an object of the program. The first table reveals nothing of what a test
# expects but what it says itself, as an argument.
ASKED = {
    "__call__": call,
    "__getattr__": getattr,
    "__setattr__": setattr,
    "__delattr__": delattr,
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "__delitem__": operator.delitem,
    "__iter__": iter,
    "__next__": next,
    "__reversed__": reversed,
    "__len__": len,
    "__bool__": bool,
    "__int__": int,
    "__float__": float,
    "__index__": operator.index,
    "__abs__": abs,
    "__neg__": operator.neg,
    "__pos__": operator.pos,
    "__invert__": operator.invert,
    "__round__": round,
    "__trunc__": math.trunc,
    "__floor__": math.floor,
    "__ceil__": math.ceil,
    "__str__": str,
    "__repr__": repr,
    "__format__": format,
    "__copy__": copy.copy,
    "__deepcopy__": deep_copy,
    "__enter__": lambda target: target.__enter__(),
    "__instancecheck__": is_instance,
    "__subclasscheck__": is_subclass,
}
ORDER = ("lt", "le", "gt", "ge")
ARITHMETIC = (
    *("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow"),
    *("lshift", "rshift", "and", "or", "xor"),
)
OPERATIONS = ASKED | {
    "eq": operator.eq,
    "contains": operator.contains,
    "leave": leave,
    "plain part": plain_part,
    "run coroutine": run_coroutine,
    "divmod": divmod,
}
for _name in (*ORDER, *ARITHMETIC):
    OPERATIONS[_name] = getattr(operator, f"__{_name}__")
for _name in ARITHMETIC:
    OPERATIONS[f"i{_name}"] = getattr(operator, f"__i{_name}__")


# ---- the pipe: what goes over --------------------------------------------------------------------
# A message is JSON: None, bool, float, str and int as they are; all else is a list, a kind and its
# parts. The kinds are below; no message can name anything else.
SMALL = 1 << 60  # integers from here on go as hexadecimal digits, whose length is no matter


class ProgramError(Exception):
    """The program raised what is not one of Python's own exceptions, or sent what is no answer."""


def in_order(items, make: Callable):
    """make(items), a set that gives them in this order, if that can be had.

    The order depends on how the table grew, item by item or at once.
    """
    for grown in (items, dict.fromkeys(items), items[::-1], items):
        made = make(grown)
        if [*map(id, made)] == [*map(id, items)]:
            break
    return made


class Kind(NamedTuple):
    """How a plain value is taken apart, put together, and of which types its parts have to be."""

    parts: Callable
    build: Callable
    allowed: tuple[type, ...] = (object,)


def moment_parts(value) -> list:
    """The numbers and the time zone of a datetime or time."""
    names = ("year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo")
    return [getattr(value, name) for name in names if hasattr(value, name)]


VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
KINDS = {
    int: Kind(lambda value: [hex(value)], lambda digits: int(digits, 16), (str,)),
    complex: Kind(lambda value: [value.real, value.imag], complex, (float,)),
    bytes: Kind(lambda value: [value.hex()], bytes.fromhex, (str,)),
    tuple: Kind(list, lambda *items: items),
    frozenset: Kind(list, lambda *items: in_order(items, frozenset)),
    range: Kind(lambda value: [value.start, value.stop, value.step], range, (int,)),
    slice: Kind(lambda value: [value.start, value.stop, value.step], slice),
    Decimal: Kind(lambda value: [str(value)], Decimal, (str,)),
    Fraction: Kind(lambda value: [value.numerator, value.denominator], Fraction, (int,)),
    date: Kind(lambda value: [value.year, value.month, value.day], date, (int,)),
    time: Kind(moment_parts, time, (int, timezone, type(None))),
    datetime: Kind(moment_parts, datetime, (int, timezone, type(None))),
    timedelta: Kind(
        lambda value: [value.days, value.seconds, value.microseconds], timedelta, (int,)
    ),
    timezone: Kind(lambda value: [value.utcoffset(None)], timezone, (timedelta,)),
    VIEWS[0]: Kind(list, lambda *items: dict.fromkeys(items).keys()),
    VIEWS[1]: Kind(list, lambda *items: dict(enumerate(items)).values()),
    VIEWS[2]: Kind(list, lambda *items: dict(items).items()),
    type: Kind(lambda value: [value.__name__], lambda name: PLAIN[name], (str,)),
}
KIND_OF_NAME = {kind.__name__: how for kind, how in KINDS.items()}
# Containers that can change: both sides have one of each, with the same number.
SHARED = {kind.__name__: kind for kind in (list, dict, set, bytearray, deque, Counter, OrderedDict)}
PLAIN = SHARED | {kind.__name__: kind for kind in (*KINDS, bool, float, str, type(None))}
PLAIN |= {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}


def contents(container) -> list:
    """What a shared container holds."""
    if isinstance(container, bytearray):
        return [container.hex()]
    return list(container.items()) if isinstance(container, dict) else list(container)


def refill(container, items: list):
    """Make a shared container hold these."""
    if isinstance(container, bytearray):
        container[:] = bytes.fromhex(*items)
        return
    container.clear()
    if isinstance(container, set):

        def again(grown):
            container.clear()
            container.update(grown)
            return container

        in_order(items, again)
    elif isinstance(container, Counter):
        dict.update(container, items)  # its own update would count
    elif isinstance(container, dict):
        container.update(items)
    else:
        container.extend(items)


# What a program's class may extend, and is then equal to; how to get at the plain part.
EXTENDED = {
    int: int.__int__,
    float: float.__float__,
    complex: complex,
    str: str.__str__,
    bytes: bytes,
    tuple: tuple,
    frozenset: frozenset,
    list: list,
    dict: dict,
    set: set,
}
CHANGING = (list, dict, set)


def extended_part(value) -> tuple[type | None, object]:
    """The plain class that a program's object extends, and the plain value."""
    for kind, plain_value in EXTENDED.items():
        if isinstance(value, kind):
            return kind, plain_value(value)
    return None, None


# ---- the pipe: its two ends ----------------------------------------------------------------------
_alone = {0: []}
ALONE = sys.getrefcount(_alone[0])  # references to a container that only a table holds


class Link:
    """One end of the pipe. Both ends can ask: the tests for anything in OPERATIONS, the program for
    a call of a function that the tests passed to it."""

    def __init__(self, pipe: Connection, trusted: bool):
        self.pipe = pipe
        self.trusted = trusted  # the tests' end; the other is the program's
        self.objects: dict[int, object] = {}  # the program's; at the tests' end, their proxies
        self.unknown: dict[int, list] = {}  # of these, what the tests have not been told
        self.classes: dict[int, type] = {}  # at the tests' end: of proxies, by class
        self.functions: dict[int, Callable] = {}  # the tests', which the program may call
        self.shared: dict[int, object] = {}  # containers that both ends hold
        self.numbers: dict[int, int] = {}  # of these, by id
        self.known: dict[int, str] = {}  # of these, the contents that both ends know
        self.next_number = 0 if trusted else 1  # so that the two ends never give the same
        self.is_reading = False
        self.asks_objects = False  # whether the program's objects compare with plain values

    # -- sending
    def send(self, *message):
        """Send a message, and what has changed in the shared containers since the last one."""
        body = self.encode(message)
        changed = {} if self.is_reading else self.changes()
        # subtle: after that, as what a test drops may have changed: x.items().append(1)
        forgotten = self.forget_unused() if self.trusted else []
        data = json.dumps([body, changed, self.unknown, forgotten])
        self.pipe.send_bytes(data.encode())
        self.known |= {number: changed[number] for number in changed.keys() & self.shared.keys()}
        self.unknown = {}

    def forget_unused(self) -> list[int]:
        """The containers that no test holds any more need not be compared again."""
        forgotten = []
        for number in list(self.shared):
            if sys.getrefcount(self.shared[number]) <= ALONE:
                self.forget(number)
                forgotten.append(number)
        return forgotten

    def forget(self, number: int):
        """One container less is shared."""
        del self.numbers[id(self.shared[number])]
        del self.shared[number]
        self.known.pop(number, None)

    def changes(self) -> dict[int, str]:
        """The contents of the containers that the other end does not know."""
        found = {}
        while new := self.shared.keys() - found.keys():  # their contents may be new, too
            for number in new:
                container = self.shared[number]
                length = container.maxlen if type(container) is deque else None
                items = [self.encode(item) for item in contents(container)]
                found[number] = json.dumps([type(container).__name__, length, items])
        return {number: text for number, text in found.items() if self.known.get(number) != text}

    def encode(self, value):
        """A value as JSON has it."""
        kind = type(value)
        if value is None or kind in (str, float, bool) or kind is int and -SMALL < value < SMALL:
            return value
        if kind in SHARED.values():
            return ["shared", self.number_of(value)]
        if kind is type and PLAIN.get(value.__name__) is not value:
            kind = None
        if kind in KINDS:
            return [kind.__name__, *map(self.encode, KINDS[kind].parts(value))]
        return self.encode_of_tests(value) if self.trusted else self.encode_of_program(value)

    def number_of(self, container) -> int:
        """The number of a shared container; a new one gets a new number."""
        if id(container) not in self.numbers:
            self.share(self.next_number, container)
            self.next_number += 2
        return self.numbers[id(container)]

    def share(self, number: int, container):
        """One container more is shared."""
        self.shared[number] = container
        self.numbers[id(container)] = number

    def encode_of_tests(self, value):
        """The tests pass objects of the program, modules, classes of the standard library, and what
        can be called, or gives one item after another. Raises TypeError for anything else."""
        if isinstance(value, Proxy):
            return ["object", value._number]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, type) and value.__module__ in sys.stdlib_module_names:
            return ["class", value.__module__, value.__qualname__]
        if callable(value):
            self.functions[id(value)] = value
            return ["function", id(value)]
        if hasattr(value, "__next__"):
            step = functools.partial(one_more, value)
            self.functions[id(step)] = step
            return ["iterator", id(step)]
        raise TypeError(f"a test cannot pass a {type(value).__name__} to the program")

    def encode_of_program(self, value):
        """An object of the program goes as a number, at first with what the tests have to know."""
        number = id(value)
        if number not in self.objects:
            self.objects[number] = value  # kept, so that no other object gets its id
            kind, plain_value = extended_part(value)
            try:
                hashed = hash(value)
            except Exception:
                hashed = None
            self.unknown[number] = [
                id(type(value)),
                type(value).__name__,
                hashed,
                kind and kind.__name__,
                None if kind in CHANGING else self.encode(plain_value),
            ]
        return ["coroutine" if isinstance(value, types.CoroutineType) else "object", number]

    # -- receiving
    def receive(self) -> tuple:
        """The next message. The tests' end gets plain values and proxies, whatever the bytes say;
        ProgramError if they are no message."""
        data = self.pipe.recv_bytes(MESSAGE)
        self.is_reading = True
        try:
            return self.read(*json.loads(data))
        except Exception as error:
            raise ProgramError(f"the program sent no answer ({error!r})") from None
        finally:
            self.is_reading = False

    def read(self, body, changed: dict, unknown: dict, forgotten: list) -> tuple:
        """The message; first what it says of objects and containers."""
        for number, (class_number, name, *_) in unknown.items():
            self.meet(int(number), class_number, name)
        changes = {}
        for number, text in changed.items():
            number = int(number)
            name, length, items = json.loads(text)
            if number not in self.shared:
                made = deque([], length) if name == "deque" else SHARED[name]()
                self.share(number, made)
            if type(self.shared[number]) is not SHARED[name]:
                raise TypeError("a container has become another")
            changes[number] = items
            self.known[number] = text
        for number, (_, _, hashed, kind, plain_value) in unknown.items():
            self.describe(self.objects[int(number)], hashed, kind, plain_value)
        for number, items in changes.items():
            refill(self.shared[number], [self.decode(item) for item in items])
        message = self.decode(body)
        for number in forgotten if not self.trusted else ():
            self.forget(number)
        return message

    def meet(self, number: int, class_number: int, name: str):
        """A proxy of its own class for an object that is new."""
        if not self.trusted or number in self.objects:
            raise ValueError("this object is known")
        if class_number not in self.classes:
            self.classes[class_number] = type(name, (Proxy,), {"__slots__": ()})
        proxy = object.__new__(self.classes[class_number])
        # subtle: all of them, as the program is asked for an attribute that is not set
        for slot, value in zip(Proxy.__slots__, (self, number, None, None, None), strict=True):
            object.__setattr__(proxy, slot, value)
        self.objects[number] = proxy

    def describe(self, proxy: "Proxy", hashed: int | None, kind: str | None, plain_value):
        """What a proxy knows by itself."""
        kind = kind and {known.__name__: known for known in EXTENDED}[kind]
        value = self.decode(plain_value)
        if kind and kind not in CHANGING and type(value) is not kind:
            raise TypeError("not what it extends")
        if not isinstance(hashed, int | None):
            raise TypeError("no hash")
        object.__setattr__(proxy, "_hash", hashed)
        object.__setattr__(proxy, "_kind", kind)
        object.__setattr__(proxy, "_value", value)

    def decode(self, value):
        """The value that encode was given, or what stands for it here."""
        if type(value) is not list:
            return value
        name, *parts = value
        if name in KIND_OF_NAME:
            how = KIND_OF_NAME[name]
            items = [self.decode(part) for part in parts]
            is_allowed = how.allowed == (object,) or all(type(i) in how.allowed for i in items)
            if not is_allowed:
                raise TypeError(f"no parts of a {name}")
            return how.build(*items)
        if name == "shared":
            return self.shared[parts[0]]
        if name == "object":
            return self.objects[parts[0]]
        return self.coroutine(*parts) if self.trusted else self.decode_of_tests(name, *parts)

    async def coroutine(self, number: int):
        """A coroutine of the program, to be awaited by a test: it runs over there, from beginning
        to end."""
        return self.ask("run coroutine", self.objects[number])

    def decode_of_tests(self, name: str, what, qualified_name: str = ""):
        """At the program's end: what the tests have and the program has not."""
        if name == "module":
            return importlib.import_module(what)
        if name == "class":
            return operator.attrgetter(qualified_name)(importlib.import_module(what))

        def function(*arguments, **keywords):
            return self.ask("__call__", what, arguments, keywords)

        return function if name == "function" else pulled(function)

    # -- asking and answering
    def ask(self, operation: str, target=None, arguments=(), keywords={}):
        """Have it done at the other end; returns or raises what was done there."""
        self.send("ask", operation, target, tuple(arguments), tuple(keywords.items()))
        kind, *result = self.receive()
        while kind == "ask":
            _, number, arguments, keywords = result
            # subtle: all that can be asked of the tests is to call a function that they passed
            self.answer(self.functions[number], arguments, keywords)
            kind, *result = self.receive()
        if kind == "done":
            return result[0]
        name, arguments = result
        if name.startswith("Stop") and operation != "__next__":
            name = "RuntimeError"  # as Python does in generators: else it would end a test's loop
        raise exception_of(name, arguments)

    def answer(self, function: Callable, arguments, keywords):
        """Do it and send how it ended."""
        try:
            self.send("done", function(*arguments, **dict(keywords)))
        except BaseException as error:
            kind = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
            says_the_same = type(error).__str__ is kind.__str__
            self.send("raised", kind.__name__, error.args if says_the_same else (str(error),))


def exception_of(name: str, arguments: tuple) -> Exception:
    """The built-in exception of this name; ProgramError for any other name."""
    kind = PLAIN.get(name)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
        try:
            return kind(*arguments)
        except Exception:
            pass  # it has other arguments than it says
    return ProgramError(*arguments)


def one_more(iterator) -> list:
    """The next item in a list, which is empty at the end."""
    for item in iterator:
        return [item]
    return []


def pulled(step: Callable):
    """At the program's end, an iterator that a test passes."""
    while item := step():
        yield item[0]


# ---- objects of the program, as the tests see them -----------------------------------------------
class Proxy:
    """An object of the program: what one does to it is done over there."""

    __slots__ = ("_link", "_number", "_hash", "_kind", "_value")

    @property
    def __class__(self):
        # an int of the program's own is an int for isinstance
        own = type(self)
        return type(own.__name__, (self._kind,), {}) if self._kind else own

    def __eq__(self, other):
        if isinstance(other, Proxy):  # only then may the program's own idea of equality count
            return self is other or self._link.ask("eq", self, (other,)) is True
        return self._kind is not None and plain(self) == other

    def __hash__(self):
        if self._hash is None:
            raise TypeError(f"unhashable type: {type(self).__name__!r}")
        return self._hash

    def __contains__(self, item):
        if self._link.asks_objects or isinstance(item, Proxy):
            return self._link.ask("contains", self, (item,))
        items = self if self._kind is None else plain(self)
        return item in iter(items) if items is self else item in items

    def __exit__(self, *error):
        self._link.ask("leave", self)  # it is not told of an error, and cannot make it undone


def plain(value):
    """The plain value that an object of the program extends; any other value as it is. Raises
    TypeError where it extends none."""
    if not isinstance(value, Proxy):
        return value
    if value._kind is None:
        raise TypeError(f"{type(value).__name__!r} and a plain value do not go together")
    if value._kind not in CHANGING:
        return value._value
    part = value._link.ask("plain part", value)  # as it is now
    if type(part) is not value._kind:
        raise TypeError(f"no {value._kind.__name__}")
    return part


def asked_over_there(operation: str):
    """A method of Proxy."""

    def method(self, *arguments, **keywords):
        return self._link.ask(operation, self, arguments, keywords)

    return method


def of_two(operation: str, is_swapped: bool = False):
    """A method of Proxy that takes another value."""

    def method(self, other):
        both = (other, self) if is_swapped else (self, other)
        if isinstance(other, Proxy) or self._link.asks_objects:
            return self._link.ask(operation, both[0], both[1:])
        return OPERATIONS[operation](*map(plain, both))

    return method


for _name in ASKED:
    setattr(Proxy, _name, asked_over_there(_name))
for _name in ORDER:
    setattr(Proxy, f"__{_name}__", of_two(_name))
for _name in (*ARITHMETIC, "divmod"):
    setattr(Proxy, f"__{_name}__", of_two(_name))
    setattr(Proxy, f"__r{_name}__", of_two(_name, is_swapped=True))
for _name in ARITHMETIC:
    setattr(Proxy, f"__i{_name}__", of_two(f"i{_name}"))


# ---- the tests' process --------------------------------------------------------------------------
def run_tests(tests: int, program: Connection, timeout: float):
    """Read the tests, have the program run, run every test. What is raised here is a verdict:
    failed."""
    limit(timeout)
    codes = [compile(test, "test", "exec") for test in read_file(tests)]
    used = set()
    for code in codes:
        used |= names_in(code)
    link = Link(program, trusted=True)
    mine = {}
    for name in link.ask("run"):
        if name in used:
            mine[name] = link.ask("global name", None, (name,))
    namespace = visible(mine)
    link.asks_objects = any(name[0].isupper() for name in namespace)
    for code in codes:
        exec(code, namespace)


def names_in(code: types.CodeType) -> set[str]:
    """All names that a piece of code, or a function in it, looks up."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= names_in(constant)
    return found


def visible(mine: dict) -> dict:
    """What the tests see of the program's names that they use.

    A program that defines what is asked for cannot also replace `set` or `math` under the tests'
    feet; one whose only such name is a built-in's, as in "write sum(a, b)", can.
    """
    seen = {}
    for name, value in mine.items():
        if name not in sys.stdlib_module_names and not hasattr(builtins, name):
            seen[name] = value
    if not seen:
        return mine | {"__name__": "tests"}
    for name, value in mine.items():
        standard = getattr(builtins, name, None)
        if name in sys.stdlib_module_names:
            seen[name] = standard_name(name, value)
        elif callable(standard) and not isinstance(standard, type) and isinstance(value, Proxy):
            seen[name] = for_own_objects(value, standard)
    return seen | {"__name__": "tests"}


def standard_name(name: str, value):
    """The module of this name, or, after `from datetime import datetime`, what it holds."""
    module = importlib.import_module(name)
    is_module = isinstance(value, Proxy) and type(value).__name__ == "module"
    return module if is_module else getattr(module, name, module)


def for_own_objects(mine: Proxy, standard: Callable):
    """A built-in function, and the program's own where nothing but its objects is passed: that
    reveals nothing of what a test expects."""

    def function(*arguments, **keywords):
        values = (*arguments, *keywords.values())
        is_own = values and all(isinstance(value, Proxy) for value in values)
        return (mine if is_own else standard)(*arguments, **keywords)

    return function


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[-1])))
