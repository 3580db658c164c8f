r"""Problems that are read from files: MATH, GSM8K, MBPP, HumanEval, and MBPP-R (the repair of wrong
programs); the words in which they are asked.

What this file is not: it downloads nothing, grades nothing (rewards.py, and extras/sandbox.py for
programs), and knows no model. The problems that are made, not read, are in world.py.

A row of a file becomes a Problem; what else the row says (what it is of, its split, its level)
stands beside it in a Row, until read_problems has chosen what to train on and what to test:

    train, test, left_out = read_problems(Path("MATH"), levels=(1, 2), subjects=("algebra",))
    train, test, left_out = read_problems(Path("programs"), task="mbpp")  # mbpp.jsonl is in there
    task = chat_task(train, test)                    # all that the loop needs to know of a domain

Where the rows come with a split it is kept. Where they do not, a fifth is held out by a hash of the
text, the same in every process. No problem is ever in both splits, under whatever spacing.

A copy, and a row without an answer, is counted and left out: the other rows are as good without it.
A row that cannot be read, or whose answer is of a wrong kind, says that something is wrong with the
whole file, and stops the run.
"""

import codecs
import functools
import gzip
import hashlib
import json
import math
import re
import unicodedata
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Iterable, Iterator

import tiktoken

from extras.sandbox import extract_code, judge
from rewards import MAX_CHARS, extract_answer
from world import END, HELD_OUT_BYTES, BadInput, Chat, Problem, Task

PATIENCE = 10  # times --timeout that a reference solution may take, on a machine that may be busy
OF_ANSWERS = ("math", "gsm8k")  # right by their final answer, not by tests
TASKS = (*OF_ANSWERS, "mbpp", "humaneval", "mbpp_r")  # what can be read and tested
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
SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
LFS = b"version https://git-lfs.github.com/spec/"  # how a Git LFS pointer begins
SPLITS = {  # the words of a name that name a split, as on the Hugging Face Hub
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
}


def find_files(path: Path) -> list[Path]:
    """The JSON files of a folder, or the one file. BadInput where there is nothing to read."""
    try:
        path.stat()
    except (OSError, ValueError) as error:
        reason = reason_of(error)
        raise BadInput(f"--data {path}: {reason}; a folder or a JSON file is needed") from error
    files = sorted(path.rglob("*.*")) if path.is_dir() else [path]
    for file in files:
        if file.suffix == ".parquet":
            lines = file.with_suffix(".jsonl")
            raise BadInput(
                f'{file}: make JSON lines of it first: python -c "import pandas;'
                f" pandas.read_parquet('{file}').to_json('{lines}', orient='records', lines=True)\""
            )
    found = [file for file in files if file.name.endswith(SUFFIXES) and not file.is_dir()]
    if not found:
        raise BadInput(f"--data {path}: no .json or .jsonl(.gz) file there")
    return found


def reason_of(error: Exception) -> str:
    """What the system said of a file, without its name."""
    return getattr(error, "strerror", None) or str(error)


def read_file(file: Path) -> bytes:
    """The content of a data file, unpacked and without a byte-order mark. BadInput where it is
    none."""
    if file.exists() and not file.is_file():  # to open a pipe would wait for ever
        raise BadInput(f"{file}: not a file (a pipe or a device)")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({reason_of(error)})") from error
    if content.startswith(LFS):
        raise BadInput(
            f"{file}: a Git LFS pointer in place of the data: run `git lfs pull` where it was"
            " cloned, or download the file itself"
        )
    if file.suffix == ".gz":
        content = unpack(file, content)
    return content.removeprefix(codecs.BOM_UTF8)


def unpack(file: Path, content: bytes) -> bytes:
    """What a gzip file holds."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{file}: not a whole gzip file ({error})") from error


def split_in_names(names: Iterable[str]) -> str:
    """The split that the first of these names with one in it names: "train", "test", "validation";
    "" if none does. BadInput where a name holds two.

    >>> split_in_names(["math", "train-00000-of-00001.jsonl"]), split_in_names(["latest.jsonl"])
    ('train', '')
    """
    for name in names:
        words = re.split(r"[^a-z]+", name.lower())
        splits = sorted({SPLITS[word] for word in words if word in SPLITS})
        if len(splits) > 1:
            raise BadInput(f"--data: {name!r} names two splits ({' and '.join(splits)}): rename it")
        if splits:
            return splits[0]
    return ""


def splits_of(files: list[Path], path: Path) -> dict[Path, str]:
    """The split of each file, by the folders on the way from `path` and its name; "" if none is
    named. Validation rows are tested where there are no others to test, and never trained on."""
    splits = {}
    for file in files:
        on_the_way = file.relative_to(path).parts if path.is_dir() else (file.name,)
        splits[file] = split_in_names(on_the_way)
    if "test" not in splits.values() and "" not in splits.values():
        for file, split in splits.items():
            splits[file] = "test" if split == "validation" else split
    return splits


def rows_in(file: Path, content: bytes) -> Iterator[tuple[str, bytes]]:
    """(place, raw bytes) of every row, whatever the file is called: the members of a JSON list,
    JSON lines, or a file that is one row, as in the original MATH."""
    lines = content.splitlines()
    is_json = file.name.removesuffix(".gz").endswith(".json")
    whole = None  # where it is not one JSON value
    try:
        if is_json or content.lstrip().startswith(b"["):
            whole = json.loads(content)
    except (ValueError, RecursionError):
        # A row's place and what is wrong with it are said by read_row, line by line.
        is_json = not all(line.lstrip().startswith(b"{") for line in lines if line.strip())
    if isinstance(whole, list):
        for number, member in enumerate(whole, start=1):
            yield f"{file}:{number}", json.dumps(member).encode()
    elif is_json:
        yield str(file), content
    else:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield f"{file}:{number}", line


def data_rows(path: Path) -> Iterator[tuple[str, bytes, str]]:
    """(place, raw bytes, split or "") of every row of a folder or a file. Raises BadInput where
    there is nothing to read."""
    for file, split in splits_of(find_files(path), path).items():
        for place, raw in rows_in(file, read_file(file)):
            yield place, raw, split


# ---- rows to problems ----------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """A problem, and what its row says of it."""

    problem: Problem
    kind: str  # what it is of: "math", "gsm8k", "mbpp" or "humaneval"
    split: str  # "train", "test", "validation", MBPP's "prompt", or "": to be drawn
    level: int = 0  # of MATH; 0 if unknown
    subject: str = ""  # of MATH


def read_row(place: str, raw: bytes, split: str) -> Row:
    """One row; its fields say what it is of. `split` is what its file says. Raises ValueError
    saying what is wrong where."""
    row = fields_of(place, raw)
    if "entry_point" in row or "canonical_solution" in row:
        return Row(human_eval_problem(place, row), "humaneval", "test")  # all of it is for tests
    if "test_list" in row or "code" in row:
        return Row(mbpp_problem(place, row), "mbpp", mbpp_split(row.get("task_id"), split))
    if "question" in row and "problem" not in row:
        return Row(gsm8k_problem(place, row), "gsm8k", split)
    problem = math_problem(place, row)
    if not split:  # MATH-500's rows say where in MATH they stood: "test/algebra/1.json"
        split = split_in_names(str(row.get("unique_id", "")).split("/")[:-1])
    level = re.search(r"\d{1,9}", str(row.get("level", "")))
    subject = row.get("type") or row.get("subject") or ""
    return Row(problem, "math", split, int(level[0]) if level else 0, subject_key(str(subject)))


def fields_of(place: str, raw: bytes) -> dict[str, Any]:
    """The fields of a row, none if it is no JSON object. Raises ValueError where it is no JSON."""
    try:
        row = composed(json.loads(raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        reason = f"{error.reason} at byte {error.start}"
        raise ValueError(f"{place}: not UTF-8 text ({reason})") from error
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise ValueError(f"{place}: half a character, {half}, stands alone") from error
    except RecursionError as error:
        raise ValueError(f"{place}: brackets too deep for a row of data") from error
    except ValueError as error:  # of Python's own, too: a number of 5,000 digits
        raise ValueError(f"{place}: not JSON ({error})") from error
    return row if isinstance(row, dict) else {}


def composed(value):
    """A JSON value with every text in NFC, as tokenizers expect it. After json.loads, since a mark
    may be escaped. Raises UnicodeEncodeError where a text is none that UTF-8 can hold.

    >>> composed({"text": ["e\u0301"]}) == {"text": ["\u00e9"]}
    True
    """
    if isinstance(value, str):
        value.encode()
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [composed(member) for member in value]
    if isinstance(value, dict):
        return {name: composed(member) for name, member in value.items()}
    return value


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


def given_text(place: str, row: dict, name: str) -> str:
    """A field that may be missing: its text, else "". Raises ValueError where it holds something
    else."""
    text = row.get(name)
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{place}: field {name!r} holds {excerpt(text)}, not text")
    return text or ""


def excerpt(value) -> str:
    """A JSON value as it stands in a message: the beginning of it."""
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "..."


# ---- MATH
def math_problem(place: str, row: dict) -> Problem:
    """A row of MATH. Its field `answer` counts; where there is none, the last box of the solution
    does; without either, the answer is ""."""
    question = given_text(place, row, "problem")
    if not question.strip():
        raise ValueError(
            f"{place}: the row has no problem text (field 'problem', or GSM8K's 'question')"
        )
    solution = given_text(place, row, "solution")
    answer = given_answer(place, row.get("answer")) or boxed(solution)
    solution = solution or f"\\boxed{{{answer}}}"
    return Problem(question, answer, solution=solution, name=place)


def given_answer(place: str, answer) -> str:
    """The field `answer` as text, a number as plain digits; "" where there is none. Raises
    ValueError where no answer could be right by it: a list, NaN, a whole solution."""
    if isinstance(answer, float) and math.isfinite(answer):
        return format(Decimal(repr(answer)), "f")  # 0.0000001, not 1e-07
    if answer is None or type(answer) in (int, str):
        text = "" if answer is None else str(answer).strip()
    else:
        raise ValueError(f"{place}: field 'answer' holds {excerpt(answer)}, not text or a number")
    if "####" in text or "\\boxed" in text or len(text) > MAX_CHARS:
        raise ValueError(
            f"{place}: field 'answer' holds a whole solution: MATH has it in 'solution', GSM8K has"
            " its problem in 'question'"
        )
    return text


def boxed(solution: str) -> str:
    r"""What the last box of a reference solution holds, "" if nothing. As in TeX, a box without
    braces holds the next sign, which two rows of MATH rely on.

    >>> boxed(r"It is $\boxed{12}$."), boxed(r"It is $\boxed 2$."), boxed(r"It is $\boxed{}$.")
    ('12', '2', '')
    """
    answer = extract_answer(solution)
    bare = re.search(r"\\boxed\s+(\w)(?!.*\\boxed)", solution, re.DOTALL)
    if answer is None and bare:
        return bare[1]
    return answer or ""


# ---- GSM8K
NUMBER = re.compile(r"-?\d+(\.\d+)?")
CALCULATION = re.compile(r"<<[^<>]*>>")  # 2 * 3 = <<2*3=6>>6: for a calculator, not for a reader


def gsm8k_problem(place: str, row: dict) -> Problem:
    r"""A row of GSM8K: its answer is the number after the last ####, "" where there is none. The
    solution is what stands before, and boxes it, as the prompt asks.

    >>> row = {"question": "Twice $900?", "answer": "2*900 = $<<2*900=1800>>1800.\n#### 1,800"}
    >>> problem = gsm8k_problem("here", row)
    >>> problem.answer, problem.solution
    ('1800', '2*900 = $1800.\n\\boxed{1800}')
    """
    question = text_in(place, row, "question")
    worked, mark, number = given_text(place, row, "answer").rpartition("####")
    number = number.strip() if mark else ""
    answer = number.replace(",", "").lstrip("$")
    if answer and not NUMBER.fullmatch(answer):
        raise ValueError(f"{place}: what follows '####' is no number: {excerpt(number)}")
    solution = CALCULATION.sub("", worked).strip() + f"\n\\boxed{{{answer}}}"
    return Problem(question, answer, solution=solution, name=place)


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
        right = judge(problems, solutions, PATIENCE * timeout)
    except RuntimeError as error:
        raise BadInput(f"--data: {error}") from error
    found = []
    for problem, passed in zip(problems, right):
        if passed:
            found.append(problem)
        else:
            bad.append(
                f"{problem.name}: the solution fails its own tests, or takes more than"
                f" {PATIENCE * timeout:g} s ({PATIENCE} times --timeout)"
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


def with_answers(rows: list[Row], left_out: list[str]) -> list[Row]:
    """The rows but for those without an answer or tests."""
    answered = []
    for row in rows:
        if row.problem.answer or row.problem.tests:
            answered.append(row)
        elif row.kind == "gsm8k":
            left_out.append(f"{row.problem.name}: no number after '####' in field 'answer'")
        else:
            left_out.append(
                f"{row.problem.name}: no field 'answer', and no \\boxed{{}} in the solution"
            )
    return answered


def without_copies(rows: list[Row], left_out: list[str]) -> list[Row]:
    """The rows but for those that ask what an earlier one asks. As the test split stands first, it
    keeps its rows, and the copy in training goes."""
    places: dict[str, str] = {}
    different = []
    for row in rows:
        key = squeeze(row.problem.question)
        if key in places:
            left_out.append(f"{row.problem.name}: the same problem as {places[key]}")
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


def kinds_of(task: str) -> dict[str, str]:
    """Of what kind the rows are that a task trains on, and those that it tests.

    >>> kinds_of("humaneval")
    {'train': 'mbpp', 'test': 'humaneval'}
    """
    return {
        "train": task if task in OF_ANSWERS else "mbpp",
        "test": "mbpp" if task == "mbpp_r" else task,
    }


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


def check_subjects(path: Path, rows: list[Row], subjects: tuple[str, ...]):
    """BadInput if no row is of one of these subjects: one that is misspelt would be missing in
    silence."""
    known = sorted({row.subject for row in rows if row.subject})
    for subject in subjects:
        if subject_key(subject) not in known:
            there_are = ", ".join(known) or "none"
            raise BadInput(f"--data {path}: no --subjects {subject!r}; there are: {there_are}")


def too_few(path: Path, rows: list[Row], split: str, kind: str, chosen: str, missing: int):
    """The BadInput of a split that holds no problem: what there is, and what to do."""
    known = ", ".join(sorted({row.subject or row.kind for row in rows})) or "no rows"
    advice = ""
    if split == "train":
        advice = "; to evaluate only: --init CHECKPOINT --stage-one-steps 0 --stage-two-steps 0"
    elif kind in OF_ANSWERS:
        advice = "; a file with test in its name is tested, of one without a split's name a fifth"
    unanswered = f" ({missing} rows have no answer)" if missing else ""
    return BadInput(
        f"--data {path}: no {split} problem of {kind} left with {chosen}; there are:"
        f" {known}{unanswered}{advice}"
    )


def read_problems(
    path: Path,
    task: str | None = None,
    levels: tuple[int, ...] = (),
    subjects: tuple[str, ...] = (),
    seed: int = 0,
    skip_bad_rows: bool = False,
    timeout: float = 5.0,
    trains: bool = True,
    say: Callable[[str], object] | None = None,
) -> tuple[list[Problem], list[Problem], list[str]]:
    """Training problems, test problems, and why each row that is left out is.

    The split is MBPP's own by its ids, HumanEval is all test, else the folder's; rows without one
    are split by a hash of seed and text, a fifth to test. `task` names what is tested (None: as the
    rows are); programs are trained on MBPP's rows. `say` gets lines about which file went where.

    A problem that stands twice, and a row without an answer, are left out. A bad row cannot be read,
    has an answer that cannot be one, or a program that fails its own tests (within ten times
    `timeout` seconds). Raises BadInput at a bad row unless skip_bad_rows, at a subject that no row
    is of, and where nothing is left to test or, if it `trains`, to train on.
    """
    bad: list[str] = []
    unanswered: list[str] = []
    copies: list[str] = []
    rows = read_rows(path, bad)
    task = task or task_of(path, rows)
    different = without_copies(with_answers(rows, unanswered), copies)
    kinds = kinds_of(task)
    train = choose(different, kinds["train"], "train", levels, subjects, seed)
    test = choose(different, kinds["test"], "test", levels, subjects, seed)
    if task not in OF_ANSWERS:
        train = runnable(train, timeout, bad)
        test = runnable(test, timeout, bad)
    if task == "mbpp_r":
        test = repairs(test, timeout, bad)
    if bad and not skip_bad_rows:
        count = "1 bad row" if len(bad) == 1 else f"{len(bad)} bad rows"
        raise BadInput(f"{bad[0]}; {count} in all, --skip-bad-rows goes on without")
    check_subjects(path, rows, subjects)
    chosen = f"levels {levels or 'all'} and subjects {subjects or 'all'}"
    for split, problems in (("train", train), ("test", test)):
        if not problems and (trains or split == "test"):
            raise too_few(path, rows, split, kinds[split], chosen, len(unanswered))
    if say:
        counts = f"{len(train):,} training and {len(test):,} test problems"
        say(f"{path}: {counts}, {len(bad)} bad rows left out")
        for line in file_lines(path, rows, train, test, seed) + left_lines(bad, unanswered, copies):
            say(f"    {line}")
    return train, test, bad + unanswered + copies


# ---- what is said of them ------------------------------------------------------------------------
def file_lines(
    path: Path, rows: list[Row], train: list[Problem], test: list[Problem], seed: int
) -> list[str]:
    """Which file went to which split: a line a file. A folder of files of one row each, as the
    original MATH has them, is one line."""
    there = Counter(file_of(row.problem, path) for row in rows)
    to_train = Counter(file_of(problem, path) for problem in train)
    to_test = Counter(file_of(problem, path) for problem in test)
    drawn = {file_of(row.problem, path) for row in rows if not row.split}
    lines = []
    for file in sorted(there):
        how = f" (drawn by a hash, --seed {seed})" if file in drawn else ""
        lines.append(
            f"{file}: {there[file]:,} read, {to_train[file]:,} to train on,"
            f" {to_test[file]:,} to test{how}"
        )
    return lines


def file_of(problem: Problem, path: Path) -> str:
    """The file in which a problem stands, seen from `path`.

    >>> file_of(Problem("1 + 1?", "2", name="MATH/train.jsonl:3"), Path("MATH"))
    'train.jsonl'
    >>> file_of(Problem("1 + 1?", "2", name="MATH/train/algebra/3.json"), Path("MATH"))
    'train/algebra/*.json'
    """
    file, _, number = problem.name.rpartition(":")
    place = Path(file) if number.isdigit() else Path(problem.name).with_name("*.json")
    return place.name if place.parent == path.parent else str(place.relative_to(path))


def left_lines(bad: list[str], unanswered: list[str], copies: list[str]) -> list[str]:
    """What was left out: a line for all that lack an answer, one for copies, then ten bad rows."""
    lines = []
    for what, reasons in (("no answer", unanswered), ("a copy", copies)):
        if reasons:
            lines.append(f"left out, {what}: {len(reasons)}, the first {reasons[0]}")
    return lines + bad[:10]
