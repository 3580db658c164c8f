"""What is asked: the world that makes problems, its noisy author, MATH, programs, tokenizers, the words of the turns.

What this file is not: it grades nothing (rewards.py), samples nothing (rollout.py) and knows no model.

The generated world asks to invert an iterated function. f permutes 1..n and is listed in random order:

    Let f(3)=1, f(1)=4, f(5)=5, f(4)=2, f(2)=3, and find x with f(f(f(x)))=3.
    Try 1: f(1)=4, f(4)=2, f(2)=3, it fits. \\boxed{1}

To find x is to look f up K times backwards, all before the first word is written; to check a guess is to look f up K
times forwards, one look-up per word. So checking is easier than finding, which is what self-correction lives on.

    world = World(values=6, levels=(1, 2, 3, 4))
    problem = draw_problem(world, random.Random(0), "train")
    task = world_task(world, held_out=4096)              # all that the loop needs of a domain; chat_task is another
    ids = encode(task.tokenizer, problem.question)
"""
import gzip
import hashlib
import json
import random
import re
import unicodedata
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Callable, Iterator

import tiktoken

from rewards import extract_answer, extract_code, judge

END = "<|end|>"  # ends every attempt in the tokenizers made here
REQUEST = " There might be an error in the attempt above. Correct it if there is one, and rewrite the solution. "


@dataclass(frozen=True)
class Problem:
    """One question with its reference answer. `tests` is for problems that are answered by a program; `solution` is a
    worked one and `name` says where the problem stands, if it was read from a file. `stub` is code that a reply goes on
    from, `wrong` a wrong attempt to repair."""

    question: str
    answer: str
    tests: tuple[str, ...] = ()
    solution: str = ""
    name: str = ""
    stub: str = ""
    wrong: str = ""


@dataclass(frozen=True)
class Task:
    """All that the loop needs to know of a domain."""

    tokenizer: tiktoken.Encoding
    end: int  # the token that ends an attempt
    prompt: str  # what stands before attempt 1, {question} in it
    request: str  # what stands between two attempts, the same whether the one before was right or wrong
    train: list[Problem]  # empty: drawn anew from the world in every step
    test: list[Problem]
    final: Callable[[str], str | None] = extract_answer  # what counts of an attempt


class BadInput(ValueError):
    """Something the user gave cannot be used; the message is the one line to show."""


def option(default, text, low=None, high=None, free=False):
    """A dataclass field that becomes a command-line option: its help, its range, and whether it is `free`, that is,
    does not change a run's numbers."""
    return field(default=default, metadata={"help": text, "low": low, "high": high, "free": free})


@dataclass(frozen=True)
class World:
    """The knobs of the generated problems and of the author who writes the base model's training text."""

    values: int = option(6, "n: f permutes 1..n", 4, 20)
    levels: tuple[int, ...] = option((1, 2, 3, 4), "the numbers of applications K that occur")
    author_right: float = option(0.7, "share of the author's fresh guesses that are right", 0, 1)
    author_repeats: float = option(0.4, "share of second attempts that repeat the first, right or wrong", 0, 1)
    verdict: bool = option(True, "whether an attempt ends by saying if the guess fits")
    careless: float = option(0.0, "share of attempts that say 'it fits' without having looked", 0, 1)


CHATS = {  # markers of a family of models: before all, before the user's words, before the model's, end of an attempt
    "plain": ("", "\n\n", "\n\nSolution: ", END),
    "qwen2": ("", "\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
    "llama3": ("<|begin_of_text|>", "<|start_header_id|>user<|end_header_id|>\n\n",
               "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
}


def chat(family: str, prompt: str, request: str) -> tuple[str, str]:
    """What stands before attempt 1 and between two attempts, with a family's markers around the user's words."""
    start, user, model, _ = CHATS[family]
    return start + user.lstrip("\n") + prompt + model, user + request + model


def family_of(tokenizer: tiktoken.Encoding) -> str:
    """The family of CHATS whose markers a tokenizer has. Raises BadInput where there is none."""
    for family, (*_, end) in CHATS.items():
        if end in tokenizer.special_tokens_set:
            return family
    ends = ", ".join(end for *_, end in CHATS.values())
    raise BadInput(f"{tokenizer.name}: no chat markers known for its special tokens (one of {ends} is needed)")


# ---- the generated world ---------------------------------------------------------------------------------------------
def in_test_split(f: dict[int, int], level: int, target: int) -> bool:
    """A fifth of all (f, K, target) is held out. The order in which f is listed does not count, so a held-out problem
    is never a training problem in another order."""
    key = f"{sorted(f.items())} {level} {target}"
    return hashlib.sha256(key.encode()).digest()[0] < 51  # 51/256: 20 %


def iterate(f: dict[int, int], x: int, times: int) -> list[int]:
    """[x, f(x), f(f(x)), ...] with `times` applications.

    >>> iterate({1: 2, 2: 3, 3: 1}, 1, 2)
    [1, 2, 3]
    """
    path = [x]
    for _ in range(times):
        path.append(f[path[-1]])
    return path


def draw_problem(world: World, rng: random.Random, split: str) -> Problem:
    """One problem of the split "train" or "test". Its answer is never the target itself: a model that only learns
    "answer the target" would look right far too often."""
    while True:
        order, images = rng.sample(range(1, world.values + 1), world.values), list(range(1, world.values + 1))
        rng.shuffle(images)
        f, level, x = dict(zip(order, images)), rng.choice(world.levels), rng.randint(1, world.values)
        target = iterate(f, x, level)[-1]
        if target != x and in_test_split(f, level, target) == (split == "test"):
            listing = "".join(f" f({a})={f[a]}," for a in order)
            return Problem(f"Let{listing} and find x with {'f(' * level}x{')' * level}={target}.", str(x))


def read_problem(question: str) -> tuple[dict[int, int], int, int]:
    """(f, K, target) of a generated question."""
    f = {int(a): int(b) for a, b in re.findall(r"f\((\d+)\)=(\d+),", question)}
    asked = re.search(r"with ([f(]+)x\)+=(\d+)\.", question)
    return f, asked[1].count("f"), int(asked[2])


def write_attempt(world: World, rng: random.Random, question: str, guess: int) -> str:
    """The author's text for one guess: plug it in, say whether it fits, box it whether it fits or not."""
    f, level, target = read_problem(question)
    path = iterate(f, guess, level)
    steps = "".join(f" f({a})={b}," for a, b in zip(path, path[1:]))
    fits = path[-1] == target or rng.random() < world.careless
    verdict = "" if not world.verdict else " it fits." if fits else " it does not fit."
    return f"Try {guess}:{steps}{verdict} \\boxed{{{guess}}}"


def write_attempts(world: World, rng: random.Random, problem: Problem, turns: int = 2) -> list[str]:
    """The author's attempts at one problem. Each later one repeats the one before or guesses afresh, by a coin that
    does not look at whether it was right. So in expectation i->c = c->i and delta is 0: nothing here teaches to correct
    (the *answer* still changes more often after a wrong one, as fresh guesses are mostly right). Where a solution is
    written down already, both attempts are that."""
    if problem.solution:
        return [problem.solution] * turns
    guesses: list[int] = []
    for _ in range(turns):
        if guesses and rng.random() < world.author_repeats:
            guesses.append(guesses[-1])
        elif rng.random() < world.author_right:
            guesses.append(int(problem.answer))
        else:
            guesses.append(rng.randint(1, world.values))
    return [write_attempt(world, rng, problem.question, guess) for guess in guesses]


def is_truthful(question: str, attempt: str) -> bool | None:
    """Whether an attempt's verdict is true of the guess it tried; None where it states no verdict or no guess. A guess
    outside 1..n, which a model with words of its own can make, fits nothing."""
    tried, said = re.match(r"Try (\d{1,9}):", attempt), re.search(r" it (fits|does not fit)\.", attempt)
    if not tried or not said:
        return None
    f, level, target = read_problem(question)
    guess = int(tried[1])
    return (guess in f and iterate(f, guess, level)[-1] == target) == (said[1] == "fits")


def world_task(world: World, held_out: int, tokenizer: tiktoken.Encoding | None = None) -> Task:
    """The generated world with `held_out` different problems of the test split, the same ones for every seed: in its
    own words, or in the tokens and the chat markers of another tokenizer."""
    rng, found, seen_before = random.Random("held out"), {}, 0
    while len(found) < held_out:
        problem = draw_problem(world, rng, "test")
        seen_before = seen_before + 1 if problem.question in found else 0
        found[problem.question] = problem
        if seen_before == 100:  # what is left to find is about a hundredth of what there is
            raise BadInput(f"--eval-problems {held_out}: so many different held-out problems do not exist at --values "
                           f"{world.values}; there are about {len(found)}")
    prompt, request, end = "{question}", REQUEST, END
    if tokenizer is not None:
        family = family_of(tokenizer)
        (prompt, request), end = chat(family, "{question}", REQUEST.strip()), CHATS[family][-1]
    tokenizer = tokenizer or world_tokenizer(world)
    return Task(tokenizer, tokenizer.encode_single_token(end), prompt, request, [], list(found.values()))


# ---- MATH ------------------------------------------------------------------------------------------------------------
MATH_PROMPT = ("Solve the problem below. Work step by step, and write the final answer as \\boxed{...} at the end."
               "\n\nProblem: {question}")
MATH_REQUEST = ("There might be an error in the solution above. If there is one, find and correct it. Then rewrite the "
                "whole solution, with the final answer as \\boxed{...} at the end.")
MATH_CRITIQUE = ("Review the solution above: say of each step whether it holds, and what is wrong where not. Then "
                 "rewrite the solution in the light of your review, with the final answer as \\boxed{...} at the end.")
TASKS = ("math", "mbpp", "humaneval", "mbpp_r")  # what can be read and tested


def squeeze(text: str) -> str:
    """The text without white space: what two copies of one problem share."""
    return "".join(text.split())


def subject_key(name: str) -> str:
    """"Counting & Probability" -> "counting_and_probability", the name of MATH's folder."""
    return re.sub(r"[^a-z]+", "_", name.lower().replace("&", "and")).strip("_")


def data_rows(path: Path):
    """(place, raw bytes of one row, "train" or "test" or "") for every row of a MATH folder or of JSON-lines files.

    The split is the name of a folder or file on the way. Raises BadInput where there is nothing to read.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.*"))
    for file in files:
        if file.suffix == ".parquet":
            raise BadInput(f"{file}: make JSON lines of it first: python -c \"import pandas; pandas.read_parquet("
                           f"'{file}').to_json('{file.with_suffix('.jsonl')}', orient='records', lines=True)\"")
    files = [file for file in files if file.name.endswith((".json", ".jsonl", ".jsonl.gz"))]
    if not files:
        raise BadInput(f"--data {path}: no .json or .jsonl(.gz) file there")
    for file in files:
        names = [*file.relative_to(path).parts[:-1], file.name] if path.is_dir() else [file.name]
        split = next((name for name in (name.split(".")[0] for name in names) if name in ("train", "test")), "")
        content = file.read_bytes()
        if file.suffix == ".json":
            yield str(file), content, split
            continue
        try:
            content = gzip.decompress(content) if file.suffix == ".gz" else content
        except (OSError, EOFError, zlib.error) as error:
            raise BadInput(f"{file}: not a whole gzip file ({error})") from error
        lines = enumerate(content.splitlines(), 1)
        yield from ((f"{file}:{number}", line, split) for number, line in lines if line.strip())


def read_row(place: str, raw: bytes, split: str) -> tuple[Problem, str, str, int, str]:
    """One row as a problem, what its fields say it is of, its split ("": to be drawn), its level (0 if unknown) and its
    subject. Raises ValueError saying what is wrong where."""
    try:
        row = json.loads(unicodedata.normalize("NFC", raw.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise ValueError(f"{place}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{place}: not JSON ({error})") from error
    fields = row.keys() if isinstance(row, dict) else set()
    if fields & {"entry_point", "canonical_solution"}:
        return human_eval_problem(place, row), "humaneval", "test", 0, ""
    if fields & {"test_list", "code"}:
        number = row["task_id"] if type(row.get("task_id")) is int else 0
        standard = "prompt" if number <= 10 else "test" if number <= 510 else "validation" if number <= 600 else "train"
        return mbpp_problem(place, row), "mbpp", standard if 1 <= number <= 974 else split, 0, ""
    if not str(fields and row.get("problem") or "").strip():
        raise ValueError(f"{place}: the row has no problem text (field 'problem')")
    level = re.search(r"\d+", str(row.get("level", "")))
    subject = subject_key(str(row.get("type") or row.get("subject") or ""))
    return math_problem(place, row), "math", split, int(level[0]) if level else 0, subject


def math_problem(place: str, row: dict) -> Problem:
    """A row of MATH."""
    solution = str(row.get("solution") or "")
    answer = row.get("answer") if row.get("answer") not in (None, "") else extract_answer(solution)
    if answer is None or not str(answer).strip():
        raise ValueError(f"{place}: no field 'answer', and no \\boxed{{}} in the solution")
    return Problem(str(row["problem"]), str(answer), (), solution or f"\\boxed{{{answer}}}", place)


def read_problems(path: Path, task: str = "", levels: tuple[int, ...] = (), subjects: tuple[str, ...] = (),
                  seed: int = 0, skip_bad_rows: bool = False, timeout: float = 5.0,
                  trains: bool = True) -> tuple[list[Problem], list[Problem], list[str]]:
    """Training problems, test problems, and what is wrong with each row left out. No levels or subjects: all of them.

    The split is MBPP's own by its ids, HumanEval is all test, else the folder's; rows without one are split by a hash
    of seed and text, a fifth to test. `task` names what is tested; programs are trained on MBPP's rows. A problem that
    stands in both splits, or twice in one, under whatever spacing, is a bad row, and so is a program's problem whose
    solution fails its own tests (within `timeout` seconds). BadInput at any bad row unless skip_bad_rows.
    """
    rows, bad, kept, places = [], [], {"train": [], "test": []}, {}
    for place, raw, split in data_rows(path):
        try:
            rows.append(read_row(place, raw, split))
        except ValueError as error:
            bad.append(str(error))
    kinds = "+".join(sorted({kind for _, kind, *_ in rows}))
    task = task or {"humaneval+mbpp": "humaneval", "": "math"}.get(kinds, kinds)
    if "+" in task:
        raise BadInput(f"--data {path}: rows of {kinds}; say with --task which to take")
    wanted = {"train": "math" if task == "math" else "mbpp", "test": "mbpp" if task == "mbpp_r" else task}
    for problem, kind, split, level, subject in sorted(rows, key=lambda row: row[2] != "test"):  # it keeps its rows
        key = squeeze(problem.question)
        if key in places:
            bad.append(f"{problem.name}: the same problem as {places[key]}")
            continue
        places[key] = problem.name
        drawn = "test" if hashlib.sha256(f"{seed} {key}".encode()).digest()[0] < 51 else "train"  # 51/256: 20 %
        chosen = (not levels or level in levels) and (not subjects or subject in map(subject_key, subjects))
        if chosen and kind == wanted.get(split or drawn):
            kept[split or drawn].append(problem)
    if task != "math":
        kept = {split: runnable(problems, timeout, bad) for split, problems in kept.items()}
    if task == "mbpp_r":
        kept["test"] = repairs(kept["test"], timeout, bad)
    if bad and not skip_bad_rows:
        raise BadInput(f"{bad[0]}; {len(bad)} bad row{'s' * (len(bad) > 1)} in all, --skip-bad-rows goes on without")
    for split in ("train", "test") if trains else ("test",):
        if not kept[split]:
            known = ", ".join(sorted({subject or kind for _, kind, *_, subject in rows}))
            raise BadInput(f"--data {path}: no {split} problem of {wanted[split]} left with levels {levels or 'all'} "
                           f"and subjects {subjects or 'all'}; there are: {known}")
    return kept["train"], kept["test"], bad


# ---- programs: MBPP, HumanEval, MBPP-R -------------------------------------------------------------------------------
CODE_PROMPT = ("Solve the task below with a Python program. Write the whole program in one block that starts with "
               "```python and ends with ```.\n\nTask: {question}")
CODE_REQUEST = ("There might be an error in the program above. If there is one, find and correct it. Then write the "
                "whole program again, in one block that starts with ```python and ends with ```.")
CODE_CRITIQUE = ("Review the program above: follow it on an example, and say what is wrong where it is. Then write the "
                 "whole program again in the light of your review, in one block that starts with ```python and ends "
                 "with ```.")


def fenced(code: str) -> str:
    """A program as a response."""
    return "```python\n" + code.replace("\r\n", "\n").strip("\n") + "\n```"


def text_in(place: str, row: dict, *fields: str) -> str:
    """The first of these fields that holds text. Raises ValueError where none does."""
    for name in fields:
        if isinstance(row.get(name), str) and row[name].strip():
            return row[name]
    raise ValueError(f"{place}: no text in field {' or '.join(map(repr, fields))}")


def mbpp_problem(place: str, row: dict) -> Problem:
    """A row of MBPP. The question shows the first test alone: it names the function, and what it must return for other
    arguments cannot be copied."""
    text, code = text_in(place, row, "text", "prompt"), text_in(place, row, "code")
    imports, setup, tests = row.get("test_imports") or [], row.get("test_setup_code") or "", row.get("test_list")
    lists = isinstance(imports, list) and isinstance(tests, list) and tests
    if not lists or not all(isinstance(code, str) for code in (*imports, setup, *tests)):
        raise ValueError(f"{place}: no tests ('test_list' and 'test_imports' are lists of code, the first not empty)")
    setup = "\n".join([*imports, setup]).strip()
    shown = f"{setup}\n{tests[0]}".strip()
    wrong = fenced(text_in(place, row, "wrong")) if "wrong" in row else ""
    return Problem(f"{text.strip()}\nIt has to pass tests like this one:\n{shown}", "", (setup, *tests), fenced(code),
                   place, wrong=wrong)


def human_eval_problem(place: str, row: dict) -> Problem:
    """A row of HumanEval. A reply may be the body of the prompt's function or the whole function again: behind the
    prompt, which ends in a docstring, both are a program. What the prompt defines before that function is a test's own:
    a program that defines it anew is not judged by it."""
    prompt, test, name = (text_in(place, row, field) for field in ("prompt", "test", "entry_point"))
    before, found, _ = prompt.rpartition(f"def {name}(")
    if not found:
        raise ValueError(f"{place}: the prompt does not define the entry point {name!r}")
    solution = fenced(prompt + text_in(place, row, "canonical_solution"))
    return Problem(prompt, "", (before, f"{test}\ncheck({name})"), solution, place, stub=prompt)


def runnable(problems: list[Problem], timeout: float, bad: list[str]) -> list[Problem]:
    """The problems whose solution passes its own tests; what is wrong with the others is added to `bad`."""
    try:
        right = judge(problems, [problem.solution for problem in problems], timeout)
    except RuntimeError as error:  # no sandbox on this machine
        raise BadInput(f"--data: {error}") from error
    bad += [f"{p.name}: the solution fails its own tests, or takes more than {timeout:g} s (--timeout)"
            for p, passed in zip(problems, right) if not passed]
    return [problem for problem, passed in zip(problems, right) if passed]


CHANGES = {"+": "-", "-": "+", "*": "+", "/": "*", "//": "/", "%": "//", "<": "<=", "<=": "<", ">": ">=", ">=": ">",
           "==": "!=", "!=": "==", "and": "or", "or": "and", "0": "1", "1": "2", "2": "1", "return": "return not"}


def changed_programs(code: str) -> Iterator[str]:
    """The program with one operator or number changed, in the order of the text; then with a negated result.

    >>> list(changed_programs("return a+b"))
    ['return a-b', 'return not a+b']
    """
    for found in sorted(re.finditer(r"\w+|[^\w\s()\[\],:]+", code), key=lambda found: found[0] == "return"):
        if found[0] in CHANGES:
            yield code[:found.start()] + CHANGES[found[0]] + code[found.end():]


def repairs(problems: list[Problem], timeout: float, bad: list[str]) -> list[Problem]:
    """The problems with a wrong attempt each: the row's own, or the first changed program. It runs to its end and fails
    the tests; where there is none such, `bad` says so."""
    found = []
    for problem in problems:
        tries = [problem.wrong] if problem.wrong else map(fenced, changed_programs(extract_code(problem.solution)))
        both = [replace(problem, tests=("",)), problem]
        wrong = next((text for text in tries if judge(both, [text, text], timeout) == [True, False]), "")
        if wrong:
            found.append(replace(problem, wrong=wrong))
        else:
            bad.append(f"{problem.name}: no wrong program that runs (field 'wrong', or a change of the solution)")
    return found


def chat_task(train: list[Problem], test: list[Problem], tokenizer: tiktoken.Encoding | None = None,
              critique: bool = False) -> Task:
    """Problems that were read, in the chat markers of a tokenizer. Without one, bytes are the tokens. With `critique`,
    the request asks for a review first."""
    programs, tokenizer = any(problem.tests for problem in test), tokenizer or byte_tokenizer()
    prompt, request, review, final = ((CODE_PROMPT, CODE_REQUEST, CODE_CRITIQUE, extract_code) if programs else
                                      (MATH_PROMPT, MATH_REQUEST, MATH_CRITIQUE, extract_answer))
    family = family_of(tokenizer)
    prompt, request = chat(family, prompt, review if critique else request)
    return Task(tokenizer, tokenizer.encode_single_token(CHATS[family][-1]), prompt, request, train, test, final)


# ---- text to tokens --------------------------------------------------------------------------------------------------
def world_tokenizer(world: World) -> tiktoken.Encoding:
    """One token per word of the world: a pair " f(3)=1,", a target "2.", a guess "Try 3:", an answer " \\boxed{3}".

    A piece that `pat_str` finds whole in `mergeable_ranks` is one token, so the pattern is the list of words itself.
    """
    numbers = range(1, world.values + 1)
    words = ["Let", " and find x with ", " it fits.", " it does not fit.", REQUEST]
    words += [f" f({a})={b}," for a in numbers for b in numbers]
    words += [f"{'f(' * level}x{')' * level}=" for level in world.levels]
    words += [text for a in numbers for text in (f"{a}.", f"Try {a}:", f" \\boxed{{{a}}}")]
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    ranks = {word.encode(): rank for rank, word in enumerate(words)}
    return tiktoken.Encoding("world", pat_str=pattern, mergeable_ranks=ranks, special_tokens={END: len(words)})


def byte_tokenizer() -> tiktoken.Encoding:
    """Every byte of UTF-8 is a token: for any text at all, without a download."""
    return tiktoken.Encoding("bytes", pat_str=r"(?s:.)", mergeable_ranks={bytes([i]): i for i in range(256)},
                             special_tokens={END: 256})


WORDS = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+|\s+(?!NEXT)|\s+"  # GPT-2's, but for digits
GPT2_PATTERN = WORDS.replace("DIGITS", r" ?\p{N}+").replace("NEXT", r"\S")
DIGIT_PATTERN = WORDS.replace("DIGITS", r"\p{N}").replace("NEXT", r"[^\s\p{N}]")  # a digit alone ends what is before it


def load_tokenizer(folder: Path) -> tiktoken.Encoding:
    """The byte-level BPE of a tokenizer.json (Qwen2, Llama 3, SmolLM2, GPT-2) as a tiktoken.Encoding.

    tiktoken merges the pair whose result has the lowest id, Hugging Face the pair that comes first in its list: the
    same where ids rise along the list. The only normalizer is NFC, and text is NFC already (see read_row). Raises
    BadInput for any other kind of tokenizer.
    """
    file = Path(folder) / "tokenizer.json"
    try:
        spec = json.loads(file.read_text(encoding="utf-8"))
        model, chain = spec["model"], spec["pre_tokenizer"].get("pretokenizers", [spec["pre_tokenizer"]])
        steps = {step["type"]: step for step in chain}
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        ids = [model["vocab"]["".join(merge)] for merge in merges]
        split, digits, level = (steps.get(name, {}) for name in ("Split", "Digits", "ByteLevel"))
        pattern = {
            ("ByteLevel",): GPT2_PATTERN if level.get("use_regex", True) else None,
            ("Digits", "ByteLevel"): DIGIT_PATTERN if digits.get("individual_digits") else None,
            ("Split", "ByteLevel"): None if level.get("use_regex", True) else split.get("pattern", {}).get("Regex"),
        }.get(tuple(step["type"] for step in chain))
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{file}: cannot be read as byte-level BPE ({type(error).__name__}: {error})") from error
    first_seen, normalizer = list(dict.fromkeys(ids)), (spec.get("normalizer") or {}).get("type", "NFC")
    if (model.get("type") != "BPE" or not pattern or first_seen != sorted(first_seen) or normalizer != "NFC"
            or level.get("add_prefix_space") or split.get("invert") or split.get("behavior", "Isolated") != "Isolated"):
        raise BadInput(f"{file}: not supported (byte-level BPE whose ids follow the order of merges is, with the steps "
                       "of GPT-2, SmolLM2, Qwen2 or Llama 3 before it)")
    letters = [*range(33, 127), *range(161, 173), *range(174, 256)]  # bytes that are written as themselves
    byte_of = {chr(b): b for b in letters}
    byte_of |= {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in letters)}
    special = {token["content"]: token["id"] for token in spec.get("added_tokens", [])}
    ranks = {bytes(byte_of[c] for c in word): id for word, id in model["vocab"].items() if word not in special}
    return tiktoken.Encoding(str(folder), pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)


def encode(tokenizer: tiktoken.Encoding, text: str) -> list[int]:
    """Token ids of a text. tiktoken drops what its pattern does not match; here that is an error.

    Raises ValueError where the text does not survive the round trip.
    """
    ids = tokenizer.encode(text, allowed_special="all")
    if tokenizer.decode(ids) != text:
        raise ValueError(f"the tokenizer {tokenizer.name!r} has no words for {text!r}")
    return ids


def encode_prompt(task: Task, problem: Problem) -> list[int]:
    """x1. Only the prompt's own words may hold special tokens; a question that spells one gets its letters."""
    before, after = task.prompt.split("{question}")
    question = task.tokenizer.encode_ordinary(problem.question)
    if task.tokenizer.decode(question) != problem.question:
        raise ValueError(f"the tokenizer {task.tokenizer.name!r} has no words for {problem.question!r}")
    return encode(task.tokenizer, before) + question + encode(task.tokenizer, after)
