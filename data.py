"""What is asked: problems, the world that makes them, its noisy author, the tokenizer and the words of the turns.

What this file is not: it grades nothing (rewards.py), samples nothing (rollout.py) and knows no model.

The generated world asks to invert an iterated function. f permutes 1..n and is listed in random order:

    Let f(3)=1, f(1)=4, f(5)=5, f(4)=2, f(2)=3, and find x with f(f(f(x)))=3.
    Try 1: f(1)=4, f(4)=2, f(2)=3, it fits. \\boxed{1}

To find x is to look f up K times backwards, all before the first word is written; to check a guess is to look f up K
times forwards, one look-up per word. So checking is easier than finding, which is what self-correction lives on.

    world = World(values=6, levels=(1, 2, 3, 4))
    problem = draw_problem(world, random.Random(0), "train")
    tokenizer = world_tokenizer(world)
    ids = encode(tokenizer, problem.question)
"""
import hashlib
import random
import re
from dataclasses import dataclass, field

import tiktoken

END = "<|end|>"  # ends every attempt: the one token the sampler stops at
REQUEST = " There might be an error in the attempt above. Correct it if there is one, and rewrite the solution. "


@dataclass(frozen=True)
class Problem:
    """One question with its reference answer; `tests` is for problems that are answered by a program."""

    question: str
    answer: str
    tests: tuple[str, ...] = ()


def option(default, text):
    """A dataclass field whose help text becomes the command line's."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class World:
    """The knobs of the generated problems and of the author who writes the base model's training text."""

    values: int = option(6, "n: f permutes 1..n")
    levels: tuple[int, ...] = option((1, 2, 3, 4), "the numbers of applications K that occur, e.g. 1,2,3")
    author_right: float = option(0.7, "share of the author's fresh guesses that are right")
    author_repeats: float = option(0.4, "share of second attempts that repeat the first, right or wrong")
    verdict: bool = option(True, "whether an attempt ends by saying if the guess fits")
    careless: float = option(0.0, "share of attempts that say 'it fits' without having looked")


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
    does not look at whether it was right: nothing here teaches correction."""
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
    """Whether an attempt's verdict is true of the guess it tried; None where it states no verdict or no guess."""
    tried, said = re.match(r"Try (\d+):", attempt), re.search(r" it (fits|does not fit)\.", attempt)
    if not tried or not said:
        return None
    f, level, target = read_problem(question)
    return (iterate(f, int(tried[1]), level)[-1] == target) == (said[1] == "fits")


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


def encode(tokenizer: tiktoken.Encoding, text: str) -> list[int]:
    """Token ids of a text. tiktoken drops what its pattern does not match; here that is an error.

    Raises ValueError where the text does not survive the round trip.
    """
    ids = tokenizer.encode(text, allowed_special="all")
    if tokenizer.decode(ids) != text:
        raise ValueError(f"the tokenizer {tokenizer.name!r} has no words for {text!r}")
    return ids
