r"""Problems that are read from files: MATH, MBPP, HumanEval, and MBPP-R (the repair of wrong
programs); the words in which they are asked.

What this file is not: it downloads nothing, grades nothing (rewards.py, and extras/sandbox.py for
programs), and knows no model. The problems that are made, not read, are in world.py.

A row of a file becomes a Problem; what else the row says (what it is of, its split, its level)
stands beside it in a Row, until read_problems has chosen what to train on and what to test:

    train, test, bad = read_problems(Path("MATH"), levels=(1, 2), subjects=("algebra",))
    train, test, bad = read_problems(Path("programs"), task="mbpp")   # mbpp.jsonl is in there
    task = chat_task(train, test)                    # all that the loop needs to know of a domain

Where the rows come with a split it is kept. Where they do not, a fifth is held out by a hash of the
text, the same in every process. No problem is ever in both splits, under whatever spacing.
"""

import functools
import gzip
import hashlib
import json
import re
import unicodedata
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator

import tiktoken

from extras.sandbox import extract_code, judge
from rewards import extract_answer
from world import END, HELD_OUT_BYTES, BadInput, Chat, Problem, Task

TASKS = ("math", "mbpp", "humaneval", "mbpp_r")  # what can be read and tested
PLAIN = Chat(start="", user="\n\n", model="\n\nSolution: ", end=END)  # where a model has no markers

# ---- the words of the turns ----------------------------------------------------------------------
MATH_PROMPT = (
    "Solve the problem below. Work step by step, and write the final answer as \\boxed{...} at the"
    " end.\n\nProblem: {question}"
)
MATH_REQUEST = (
    "There might be an error in the solution above. If there is one, find and correct it. Then"
    " rewrite the whole solution, with the final answer as \\boxed{...} at the end."
)
MATH_CRITIQUE = (
    "Review the solution above: say of each step whether it holds, and what is wrong where not."
    " Then rewrite the solution in the light of your review, with the final answer as \\boxed{...}"
    " at the end."
)
CODE_PROMPT = (
    "Solve the task below with a Python program. Write the whole program in one block that starts"
    " with ```python and ends with ```.\n\nTask: {question}"
)
CODE_REQUEST = (
    "There might be an error in the program above. If there is one, find and correct it. Then write"
    " the whole program again, in one block that starts with ```python and ends with ```."
)
CODE_CRITIQUE = (
    "Review the program above: follow it on an example, and say what is wrong where it is. Then"
    " write the whole program again in the light of your review, in one block that starts with"
    " ```python and ends with ```."
)


def byte_tokenizer() -> tiktoken.Encoding:
    """Every byte of UTF-8 is a token: for any text at all, without a download.

    >>> byte_tokenizer().encode("a b")
    [97, 32, 98]
    """
    return tiktoken.Encoding(
        "bytes",
        pat_str=r"(?s:.)",
        mergeable_ranks={bytes([byte]): byte for byte in range(256)},
        special_tokens={END: 256},
    )


def chat_task(
    train: list[Problem],
    test: list[Problem],
    tokenizer: tiktoken.Encoding | None = None,
    chat: Chat | None = None,
    critique: bool = False,
    timeout: float = 5.0,
) -> Task:
    """Problems that were read, in the tokens and the chat markers of a model; without a tokenizer
    bytes are the tokens.

    critique: the request asks for a review first. timeout: seconds that a program and its tests may
    take.
    """
    tokenizer = tokenizer or byte_tokenizer()
    chat = chat or PLAIN
    are_programs = any(problem.tests for problem in test)
    if are_programs:
        prompt = CODE_PROMPT
        request = CODE_CRITIQUE if critique else CODE_REQUEST
    else:
        prompt = MATH_PROMPT
        request = MATH_CRITIQUE if critique else MATH_REQUEST
    return Task(
        tokenizer=tokenizer,
        end=tokenizer.encode_single_token(chat.end),
        prompt=chat.prompt(prompt),
        request=chat.request(request),
        train=train,
        test=test,
        final=extract_code if are_programs else None,
        judge=functools.partial(judge, timeout=timeout) if are_programs else None,
        other_ends=chat.other_ends,
    )


# ---- files to rows -------------------------------------------------------------------------------
def find_files(path: Path) -> list[Path]:
    """The JSON files of a folder, or the one file. BadInput where there is nothing to read."""
    files = [path] if path.is_file() else sorted(path.rglob("*.*"))
    for file in files:
        if file.suffix == ".parquet":
            lines = file.with_suffix(".jsonl")
            raise BadInput(
                f'{file}: make JSON lines of it first: python -c "import pandas;'
                f" pandas.read_parquet('{file}').to_json('{lines}', orient='records', lines=True)\""
            )
    found = [file for file in files if file.name.endswith((".json", ".jsonl", ".jsonl.gz"))]
    if not found:
        raise BadInput(f"--data {path}: no .json or .jsonl(.gz) file there")
    return found


def split_in_name(file: Path, path: Path) -> str:
    """ "train" or "test": what a folder on the way from `path`, or the file, is called; else ""."""
    on_the_way = file.relative_to(path).parts if path.is_dir() else (file.name,)
    for part in on_the_way:
        name = part.split(".")[0]
        if name in ("train", "test"):
            return name
    return ""


def data_rows(path: Path) -> Iterator[tuple[str, bytes, str]]:
    """(place, raw bytes, "train" or "test" or "") of every row of a MATH folder, where a file is a
    row, or of JSON-lines files. Raises BadInput where there is nothing to read."""
    for file in find_files(path):
        split = split_in_name(file, path)
        content = file.read_bytes()
        if file.suffix == ".json":
            yield str(file), content, split
            continue
        if file.suffix == ".gz":
            content = unpack(file, content)
        for number, line in enumerate(content.splitlines(), start=1):
            if line.strip():
                yield f"{file}:{number}", line, split


def unpack(file: Path, content: bytes) -> bytes:
    """What a gzip file holds."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{file}: not a whole gzip file ({error})") from error


# ---- rows to problems ----------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """A problem, and what its row says of it."""

    problem: Problem
    kind: str  # what it is of: "math", "mbpp" or "humaneval"
    split: str  # "train" or "test", another of MBPP's, or "": to be drawn
    level: int = 0  # of MATH; 0 if unknown
    subject: str = ""  # of MATH


def read_row(place: str, raw: bytes, split: str) -> Row:
    """One row; its fields say what it is of. `split` is what its file says. Raises ValueError
    saying what is wrong where."""
    try:
        row = json.loads(unicodedata.normalize("NFC", raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        raise ValueError(f"{place}: not UTF-8 text ({reason})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON ({error})") from error
    if not isinstance(row, dict):
        row = {}
    if "entry_point" in row or "canonical_solution" in row:
        return Row(human_eval_problem(place, row), "humaneval", "test")  # all of it is for tests
    if "test_list" in row or "code" in row:
        return Row(mbpp_problem(place, row), "mbpp", mbpp_split(row.get("task_id"), split))
    problem = math_problem(place, row)
    level = re.search(r"\d+", str(row.get("level", "")))
    subject = row.get("type") or row.get("subject") or ""
    return Row(problem, "math", split, int(level[0]) if level else 0, subject_key(str(subject)))


def subject_key(name: str) -> str:
    """A subject as MATH's folders are called.

    >>> subject_key("Counting & Probability")
    'counting_and_probability'
    """
    words = name.lower().replace("&", "and")
    return re.sub(r"[^a-z]+", "_", words).strip("_")


def text_in(place: str, row: dict, *fields: str) -> str:
    """The first of these fields that holds text. Raises ValueError where none does."""
    for name in fields:
        text = row.get(name)
        if isinstance(text, str) and text.strip():
            return text
    names = " or ".join(repr(name) for name in fields)
    raise ValueError(f"{place}: no text in field {names}")


# ---- MATH
def math_problem(place: str, row: dict) -> Problem:
    """A row of MATH. Its field `answer` counts; where there is none, the last box of the solution
    does."""
    question = str(row.get("problem") or "")
    if not question.strip():
        raise ValueError(f"{place}: the row has no problem text (field 'problem')")
    solution = str(row.get("solution") or "")
    answer = row.get("answer")
    if answer in (None, ""):
        answer = extract_answer(solution)
    if answer is None or not str(answer).strip():
        raise ValueError(f"{place}: no field 'answer', and no \\boxed{{}} in the solution")
    solution = solution or f"\\boxed{{{answer}}}"
    return Problem(question, str(answer), solution=solution, name=place)


# ---- MBPP
def mbpp_split(number, split: str) -> str:
    """MBPP's own split, by a row's `task_id`; `split` where that is none of MBPP's.

    >>> mbpp_split(10, ""), mbpp_split(11, ""), mbpp_split(601, ""), mbpp_split(975, "test")
    ('prompt', 'test', 'train', 'test')
    """
    if type(number) is not int or not 1 <= number <= 974:
        return split
    if number <= 10:
        return "prompt"
    if number <= 510:
        return "test"
    if number <= 600:
        return "validation"
    return "train"


def mbpp_problem(place: str, row: dict) -> Problem:
    """A row of MBPP. The question shows the first test alone: it names the function, and what it
    must return for other arguments cannot be copied."""
    text = text_in(place, row, "text", "prompt")
    solution = text_in(place, row, "code")
    imports = row.get("test_imports") or []
    setup = row.get("test_setup_code") or ""
    tests = row.get("test_list")
    is_code = is_list_of_code(imports) and is_list_of_code(tests) and isinstance(setup, str)
    if not is_code or not tests:
        raise ValueError(
            f"{place}: no tests ('test_list' and 'test_imports' are lists of code, the first not"
            " empty)"
        )
    setup = "\n".join([*imports, setup]).strip()
    shown = f"{setup}\n{tests[0]}".strip()
    return Problem(
        question=f"{text.strip()}\nIt has to pass tests like this one:\n{shown}",
        answer="",
        tests=(setup, *tests),
        solution=fenced(solution),
        name=place,
        wrong=fenced(text_in(place, row, "wrong")) if "wrong" in row else "",
    )


def is_list_of_code(value) -> bool:
    """Whether a row's field is a list of texts."""
    return isinstance(value, list) and all(isinstance(code, str) for code in value)


def fenced(code: str) -> str:
    r"""A program as a reply.

    >>> fenced("x = 1\r\n")
    '```python\nx = 1\n```'
    """
    return "```python\n" + code.replace("\r\n", "\n").strip("\n") + "\n```"


# ---- HumanEval
def human_eval_problem(place: str, row: dict) -> Problem:
    """A row of HumanEval.

    A reply may be the body of the prompt's function or the whole function again: behind the prompt,
    which ends in a docstring, both are a program. What the prompt defines before that function is a
    test's own: a program that defines it anew is not judged by it.
    """
    prompt = text_in(place, row, "prompt")
    test = text_in(place, row, "test")
    name = text_in(place, row, "entry_point")
    helpers, found, _ = prompt.rpartition(f"def {name}(")
    if not found:
        raise ValueError(f"{place}: the prompt does not define the entry point {name!r}")
    return Problem(
        question=prompt,
        answer="",
        tests=(helpers, f"{test}\ncheck({name})"),
        solution=fenced(prompt + text_in(place, row, "canonical_solution")),
        name=place,
        stub=prompt,
    )


# ---- MBPP-R: wrong programs to repair
CHANGES = {
    "+": "-",
    "-": "+",
    "*": "+",
    "/": "*",
    "//": "/",
    "%": "//",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "and": "or",
    "or": "and",
    "0": "1",
    "1": "2",
    "2": "1",
    "return": "return not",
}
WORD_OR_SIGN = re.compile(r"\w+|[^\w\s()\[\],:]+")


def changed_programs(code: str) -> Iterator[str]:
    """The program with one operator or number changed, in the order of the text; then with a
    negated result.

    >>> list(changed_programs("return a+b"))
    ['return a-b', 'return not a+b']
    """
    places = [found for found in WORD_OR_SIGN.finditer(code) if found[0] in CHANGES]
    places.sort(key=lambda found: found[0] == "return")  # these last, the others as they stand
    for found in places:
        yield code[: found.start()] + CHANGES[found[0]] + code[found.end() :]


def wrong_program(problem: Problem, timeout: float) -> str:
    """A wrong reply: the row's own, or the first changed solution that runs to its end and fails
    the tests. "" where there is none such."""
    if problem.wrong:
        replies = [problem.wrong]
    else:
        replies = map(fenced, changed_programs(extract_code(problem.solution)))
    without_tests = replace(problem, tests=())
    for reply in replies:
        runs, passes = judge([without_tests, problem], [reply, reply], timeout)
        if runs and not passes:
            return reply
    return ""


def repairs(problems: list[Problem], timeout: float, bad: list[str]) -> list[Problem]:
    """The problems with a wrong reply each; where there is none, `bad` says so."""
    found = []
    for problem in problems:
        wrong = wrong_program(problem, timeout)
        if wrong:
            found.append(replace(problem, wrong=wrong))
        else:
            bad.append(
                f"{problem.name}: no wrong program that runs (field 'wrong', or a change of the"
                " solution)"
            )
    return found


def runnable(problems: list[Problem], timeout: float, bad: list[str]) -> list[Problem]:
    """The problems whose solution passes its own tests; what is wrong with the others is added to
    `bad`. BadInput where this machine has no sandbox."""
    solutions = [problem.solution for problem in problems]
    try:
        right = judge(problems, solutions, timeout)
    except RuntimeError as error:
        raise BadInput(f"--data: {error}") from error
    found = []
    for problem, passed in zip(problems, right):
        if passed:
            found.append(problem)
        else:
            bad.append(
                f"{problem.name}: the solution fails its own tests, or takes more than"
                f" {timeout:g} s (--timeout)"
            )
    return found


# ---- what to train on, and what to test ----------------------------------------------------------
def squeeze(text: str) -> str:
    """The text without white space: what two copies of one problem share."""
    return "".join(text.split())


def drawn_split(problem: Problem, seed: int) -> str:
    """The split of a problem whose row has none: a fifth is held out, by a hash."""
    key = f"{seed} {squeeze(problem.question)}"
    is_test = hashlib.sha256(key.encode()).digest()[0] < HELD_OUT_BYTES
    return "test" if is_test else "train"


def read_rows(path: Path, bad: list[str]) -> list[Row]:
    """All rows that can be read, those of the test split first; what is wrong with the others is
    added to `bad`."""
    rows = []
    for place, raw, split in data_rows(path):
        try:
            rows.append(read_row(place, raw, split))
        except ValueError as error:
            bad.append(str(error))
    return sorted(rows, key=lambda row: row.split != "test")


def without_copies(rows: list[Row], bad: list[str]) -> list[Row]:
    """The rows but for those that ask what an earlier one asks. As the test split stands first, it
    keeps its rows, and the copy in training goes."""
    places: dict[str, str] = {}
    different = []
    for row in rows:
        key = squeeze(row.problem.question)
        if key in places:
            bad.append(f"{row.problem.name}: the same problem as {places[key]}")
        else:
            places[key] = row.problem.name
            different.append(row)
    return different


def task_of(path: Path, rows: list[Row]) -> str:
    """What the rows are for, where the user does not say. BadInput where that is not clear."""
    kinds = sorted({row.kind for row in rows})
    if not kinds:
        return "math"
    if kinds == ["humaneval", "mbpp"]:
        return "humaneval"  # and MBPP to train on
    if len(kinds) > 1:
        names = "+".join(kinds)
        raise BadInput(f"--data {path}: rows of {names}; say with --task which to take")
    return kinds[0]


def choose(
    rows: list[Row],
    kind: str,
    split: str,
    levels: tuple[int, ...],
    subjects: tuple[str, ...],
    seed: int,
) -> list[Problem]:
    """The problems of a kind that are in a split, of these levels and subjects (none: all)."""
    wanted_subjects = [subject_key(subject) for subject in subjects]
    chosen = []
    for row in rows:
        if levels and row.level not in levels:
            continue
        if subjects and row.subject not in wanted_subjects:
            continue
        its_split = row.split or drawn_split(row.problem, seed)
        if row.kind == kind and its_split == split:
            chosen.append(row.problem)
    return chosen


def read_problems(
    path: Path,
    task: str | None = None,
    levels: tuple[int, ...] = (),
    subjects: tuple[str, ...] = (),
    seed: int = 0,
    skip_bad_rows: bool = False,
    timeout: float = 5.0,
    trains: bool = True,
) -> tuple[list[Problem], list[Problem], list[str]]:
    """Training problems, test problems, and what is wrong with each row left out.

    The split is MBPP's own by its ids, HumanEval is all test, else the folder's; rows without one
    are split by a hash of seed and text, a fifth to test. `task` names what is tested (None: as the
    rows are); programs are trained on MBPP's rows. No levels or subjects: all of them.

    A problem that stands in both splits, or twice in one, is a bad row, and so is a program's
    problem whose solution fails its own tests (within `timeout` seconds). Raises BadInput at any
    bad row unless skip_bad_rows, and where nothing is left to test or, if it `trains`, to train on.
    """
    bad: list[str] = []
    rows = read_rows(path, bad)
    task = task or task_of(path, rows)
    different = without_copies(rows, bad)
    kinds = {
        "train": "math" if task == "math" else "mbpp",
        "test": "mbpp" if task == "mbpp_r" else task,
    }
    train = choose(different, kinds["train"], "train", levels, subjects, seed)
    test = choose(different, kinds["test"], "test", levels, subjects, seed)
    if task != "math":
        train = runnable(train, timeout, bad)
        test = runnable(test, timeout, bad)
    if task == "mbpp_r":
        test = repairs(test, timeout, bad)
    if bad and not skip_bad_rows:
        count = "1 bad row" if len(bad) == 1 else f"{len(bad)} bad rows"
        raise BadInput(f"{bad[0]}; {count} in all, --skip-bad-rows goes on without")
    for split, problems in (("train", train), ("test", test)):
        if not problems and (trains or split == "test"):
            known = ", ".join(sorted({row.subject or row.kind for row in rows}))
            raise BadInput(
                f"--data {path}: no {split} problem of {kinds[split]} left with levels"
                f" {levels or 'all'} and subjects {subjects or 'all'}; there are: {known}"
            )
    return train, test, bad
