r"""What is asked: problems that are made here, the author whose text the base model learns, their
words as tokens.

What this file is not: it grades nothing (rewards.py), samples nothing (rollout.py) and knows no
model. Problems that are read from files (MATH, programs) are in extras/datasets.py.

The generated world asks to invert an iterated function. f permutes 1..n and is listed in random
order:

    Let f(3)=1, f(1)=4, f(5)=5, f(4)=2, f(2)=3, and find x with f(f(f(x)))=3.
    Try 1: f(1)=4, f(4)=2, f(2)=3, it fits. \boxed{1}

To find x is to look f up K times backwards, all before the first word is written; to check a guess
is to look f up K times forwards, one look-up a word. So checking is easier than finding, which is
what self-correction lives on.

    world = World(values=6, levels=(1, 2, 3, 4))
    problem = draw_problem(world, random.Random(0), "train")
    task = world_task(world, held_out=4096)          # all that the loop needs to know of a domain
    ids = task.prompt_ids(problem)
"""

import functools
import hashlib
import random
import re
from dataclasses import dataclass
from typing import Callable

import tiktoken

END = "<|end|>"  # the word that ends an attempt
REQUEST = (
    " There might be an error in the attempt above."
    " Correct it if there is one, and rewrite the solution. "
)
GENERATED = r"Let( f\(\d+\)=\d+,)+ and find x with (f\()+x\)+=\d+\."  # a question of the world
HELD_OUT_BYTES = 51  # a hash's first byte below this is held out: 51 of 256, a fifth


class BadInput(ValueError):
    """Something the user gave cannot be used; the message is the one line to show."""


# ---- what the loop needs to know of a domain -----------------------------------------------------
@dataclass(frozen=True)
class Problem:
    """One question with its reference answer. The fields with a default are for problems read from
    files."""

    question: str
    answer: str
    tests: tuple[str, ...] = ()  # for problems that are answered by a program
    solution: str = ""  # a worked one
    name: str = ""  # where the problem stands: file and row
    stub: str = ""  # code that a reply goes on from
    wrong: str = ""  # a wrong attempt to repair


@dataclass(frozen=True)
class Chat:
    r"""The markers that a family of models puts around what is said.

    >>> chat = Chat(start="<s>", user="\nuser: ", model="\nmodel: ", end="</s>")
    >>> chat.prompt("1 + 1?")
    '<s>user: 1 + 1?\nmodel: '
    >>> chat.request("Look again.")
    '\nuser: Look again.\nmodel: '
    """

    start: str  # before all
    user: str  # before the user's words
    model: str  # before the model's words
    end: str  # after the model's words
    other_ends: tuple[int, ...] = ()  # ids of further tokens at which the model stops

    def prompt(self, text: str) -> str:
        """What stands before attempt 1."""
        return self.start + self.user.lstrip("\n") + text + self.model

    def request(self, text: str) -> str:
        """What stands between two attempts."""
        return self.user + text + self.model


@dataclass(frozen=True)
class Task:
    """All that the loop needs to know of a domain."""

    tokenizer: tiktoken.Encoding
    end: int  # the token that ends an attempt, and closes one that was cut
    prompt: str  # what stands before attempt 1, with {question} in it
    request: str  # what stands between two attempts, whether the first was right or wrong
    train: list[Problem]  # empty: drawn anew from the world in every step
    test: list[Problem]
    final: Callable[[str], str | None] | None = None  # what counts of an attempt; None: its box
    # Which programs are right; None: an attempt is right by its final answer (rewards.is_correct).
    judge: Callable[[list[Problem], list[str]], list[bool]] | None = None
    other_ends: tuple[int, ...] = ()  # further tokens that end one: a downloaded model's

    def prompt_ids(self, problem: Problem) -> list[int]:
        """x1 as token ids. Only the prompt's own words may be special tokens: a question that
        spells one gets its letters. Raises BadInput where the tokenizer has no words for the
        question."""
        marker = "|".join(re.escape(word) for word in self.tokenizer.special_tokens_set)
        ids = []
        for piece in re.split(f"({marker})", self.prompt):  # markers and what stands between
            if piece in self.tokenizer.special_tokens_set:
                ids.append(self.tokenizer.encode_single_token(piece))
            else:
                # subtle: encoded together with what stands around it, as the model learnt it.
                words = piece.replace("{question}", problem.question)
                ids += encode(self.tokenizer, words, special=())
        return ids

    def request_ids(self) -> list[int]:
        """What stands between two attempts, as token ids."""
        return encode(self.tokenizer, self.request)


def encode(
    tokenizer: tiktoken.Encoding, text: str, special: str | tuple[str, ...] = "all"
) -> list[int]:
    """Token ids of a text. special: the words that are read as special tokens; () for none.

    tiktoken drops what its pattern does not match, and panics at a byte for which it has no token;
    here both raise BadInput.
    """
    if not set(text.encode()) <= known_bytes(tokenizer):
        raise BadInput(no_words(tokenizer, text))
    allowed = special if special == "all" else set(special)
    ids = tokenizer.encode(text, allowed_special=allowed, disallowed_special=())
    if tokenizer.decode(ids) != text:
        raise BadInput(no_words(tokenizer, text))
    return ids


@functools.cache
def known_bytes(tokenizer: tiktoken.Encoding) -> frozenset[int]:
    """The bytes that occur in a tokenizer's words."""
    words = tokenizer.token_byte_values() + [word.encode() for word in tokenizer.special_tokens_set]
    return frozenset(b"".join(words))


def no_words(tokenizer: tiktoken.Encoding, text: str) -> str:
    """The message about a text that does not survive the round trip."""
    return f"the tokenizer {tokenizer.name!r} has no words for {text!r}"


# ---- the generated problems ----------------------------------------------------------------------
@dataclass(frozen=True)
class World:
    """The knobs of the generated problems and of the author who writes the base model's training
    text."""

    values: int = 6  # n: f permutes 1..n
    levels: tuple[int, ...] = (1, 2, 3, 4)  # the numbers of applications K that occur
    author_right: float = 0.7  # share of the author's first guesses that are right
    author_right_again: float = 0.2  # share of his later fresh guesses that are right
    author_repeats: float = 0.55  # share of second attempts that repeat the first, right or wrong
    verdict: bool = True  # whether an attempt ends by saying if the guess fits
    careless: float = 0.0  # share of attempts that say "it fits" without having looked


def iterate(f: dict[int, int], x: int, times: int) -> list[int]:
    """[x, f(x), f(f(x)), ...] with `times` applications.

    >>> iterate({1: 2, 2: 3, 3: 1}, 1, 2)
    [1, 2, 3]
    """
    path = [x]
    for _ in range(times):
        path.append(f[path[-1]])
    return path


def in_test_split(f: dict[int, int], level: int, target: int) -> bool:
    """Whether (f, K, target) is held out: a fifth is, by a hash. The order in which f is listed
    does not count, so a held-out problem is never a training problem in another order."""
    key = f"{sorted(f.items())} {level} {target}"
    return hashlib.sha256(key.encode()).digest()[0] < HELD_OUT_BYTES


def draw_problem(world: World, rng: random.Random, split: str) -> Problem:
    """One problem of the split "train" or "test". Its answer is never the target itself: a model
    that only learns "answer the target" would look right far too often."""
    values = range(1, world.values + 1)
    while True:
        order = rng.sample(values, world.values)
        images = list(values)
        rng.shuffle(images)
        f = dict(zip(order, images))
        level = rng.choice(world.levels)
        x = rng.randint(1, world.values)
        target = iterate(f, x, level)[-1]
        is_test = in_test_split(f, level, target)
        if target != x and is_test == (split == "test"):
            return Problem(write_question(f, order, level, target), str(x))


def write_question(f: dict[int, int], order: list[int], level: int, target: int) -> str:
    """The problem as text.

    >>> write_question({1: 2, 2: 1}, order=[2, 1], level=3, target=1)
    'Let f(2)=1, f(1)=2, and find x with f(f(f(x)))=1.'
    """
    listing = "".join(f" f({x})={f[x]}," for x in order)
    return f"Let{listing} and find x with {application(level)}={target}."


def application(level: int) -> str:
    """f applied `level` times: "f(f(x))" for 2."""
    return "f(" * level + "x" + ")" * level


def read_question(question: str) -> tuple[dict[int, int], int, int]:
    """(f, K, target) of a generated question: what write_question wrote.

    >>> read_question("Let f(2)=1, f(1)=2, and find x with f(f(f(x)))=1.")
    ({2: 1, 1: 2}, 3, 1)
    """
    f = {}
    for x, image in re.findall(r"f\((\d+)\)=(\d+),", question):
        f[int(x)] = int(image)
    asked = re.search(r"with ([f(]+)x\)+=(\d+)\.", question)
    return f, asked[1].count("f"), int(asked[2])


# ---- their author: what the base model learns from -----------------------------------------------
def write_attempt(world: World, rng: random.Random, question: str, guess: int) -> str:
    """The author's text for one guess: plug it in, say whether it fits, box it whether it fits or
    not."""
    f, level, target = read_question(question)
    path = iterate(f, guess, level)
    steps = "".join(f" f({x})={image}," for x, image in zip(path, path[1:]))
    fits = path[-1] == target or rng.random() < world.careless
    verdict = ""
    if world.verdict:
        verdict = " it fits." if fits else " it does not fit."
    return f"Try {guess}:{steps}{verdict} \\boxed{{{guess}}}"


def write_attempts(world: World, rng: random.Random, problem: Problem, turns: int = 2) -> list[str]:
    """The author's attempts at one problem.

    Each later one repeats the one before or guesses afresh, by a coin that does not look at whether
    it was right. So nothing here teaches to correct; and as his later guesses are worse than his
    first (author_right_again), asked again he breaks more than he mends, as the paper's base model
    does. With author_right_again = author_right, i->c = c->i in expectation.
    Where a solution is written down, every attempt is that.
    """
    if problem.solution:
        return [problem.solution] * turns
    guesses: list[int] = []
    for _ in range(turns):
        right = world.author_right_again if guesses else world.author_right
        if guesses and rng.random() < world.author_repeats:
            guess = guesses[-1]
        elif rng.random() < right:
            guess = int(problem.answer)
        else:
            guess = rng.randint(1, world.values)
        guesses.append(guess)
    return [write_attempt(world, rng, problem.question, guess) for guess in guesses]


def is_truthful(question: str, attempt: str) -> bool | None:
    """Whether an attempt's verdict is true of the guess it tried; None where it states no verdict
    or no guess.

    A guess outside 1..n, which a model with words of its own can make, fits nothing.

    >>> question = "Let f(2)=1, f(1)=2, and find x with f(x)=1."
    >>> is_truthful(question, "Try 1: f(1)=2, it fits.")
    False
    >>> is_truthful(question, "Try 1: f(1)=2, it does not fit.")
    True
    """
    tried = re.match(r"Try (\d{1,9}):", attempt)
    said = re.search(r" it (fits|does not fit)\.", attempt)
    if not tried or not said or not re.fullmatch(GENERATED, question):
        return None
    f, level, target = read_question(question)
    guess = int(tried[1])
    fits = guess in f and iterate(f, guess, level)[-1] == target
    return fits == (said[1] == "fits")


# ---- the world as a task -------------------------------------------------------------------------
def world_tokenizer(world: World) -> tiktoken.Encoding:
    r"""One token a word of the world: a pair " f(3)=1,", a target "2.", a guess "Try 3:", an answer
    " \boxed{3}".

    A piece that `pat_str` finds whole in `mergeable_ranks` is one token, so the pattern is the list
    of words itself.
    """
    numbers = range(1, world.values + 1)
    words = ["Let", " and find x with ", " it fits.", " it does not fit.", REQUEST]
    for x in numbers:
        words += [f" f({x})={image}," for image in numbers]
    words += [f"{application(level)}=" for level in world.levels]
    for number in numbers:
        words += [f"{number}.", f"Try {number}:", f" \\boxed{{{number}}}"]
    longest_first = sorted(words, key=len, reverse=True)
    pattern = "|".join(re.escape(word) for word in longest_first)
    ranks = {word.encode(): rank for rank, word in enumerate(words)}
    return tiktoken.Encoding(
        "world",
        pat_str=pattern,
        mergeable_ranks=ranks,
        special_tokens={END: len(words)},
    )


def different_problems(world: World, rng: random.Random, split: str, count: int) -> list[Problem]:
    """`count` problems of a split, no two alike. BadInput if there are not so many."""
    found: dict[str, Problem] = {}
    seen_before = 0
    while len(found) < count:
        problem = draw_problem(world, rng, split)
        seen_before = seen_before + 1 if problem.question in found else 0
        found[problem.question] = problem
        if seen_before == 100:  # what is left to find is about a hundredth of what there is
            said = "--eval-problems" if split == "test" else "--train-problems"
            raise BadInput(
                f"{said} {count}: so many different {split} problems do not exist"
                f" at --values {world.values}; there are about {len(found)}"
            )
    return list(found.values())


def fixed_sample(problems: list[Problem], count: int) -> list[Problem]:
    """`count` of these problems (all, if there are no more), in their order: those whose text has
    the lowest hashes. So it is the same in every run, and no matter where in a file they stand."""
    by_hash = sorted(problems, key=lambda problem: text_hash(problem.question))
    chosen = set(by_hash[:count])
    return [problem for problem in problems if problem in chosen]


def text_hash(text: str) -> bytes:
    """A text's own random number, the same everywhere."""
    return hashlib.sha256(text.encode()).digest()


def world_task(
    world: World,
    held_out: int,
    tokenizer: tiktoken.Encoding | None = None,
    chat: Chat | None = None,
) -> Task:
    """The generated world with `held_out` test problems, the same for every seed: in its own words,
    or in the tokens and the chat markers of a downloaded model."""
    test = different_problems(world, random.Random("held out"), "test", held_out)
    if tokenizer is None:
        tokenizer = world_tokenizer(world)
        prompt = "{question}"
        request = REQUEST
        end = END
        other_ends = ()
    else:
        prompt = chat.prompt("{question}")
        request = chat.request(REQUEST.strip())
        end = chat.end
        other_ends = chat.other_ends
    end_token = tokenizer.encode_single_token(end)
    return Task(tokenizer, end_token, prompt, request, train=[], test=test, other_ends=other_ends)
