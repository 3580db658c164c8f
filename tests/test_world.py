"""The generated world: problems that can be solved, splits that never meet, an author who does not
correct himself, and the words of the turns as tokens.

The oracle reads each text with regular expressions of its own, applies f step by step, and works
out the author's probabilities by hand.
"""

import math
import os
import random
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
import tiktoken
import torch

import world
from world import (
    END,
    REQUEST,
    BadInput,
    Chat,
    Problem,
    Task,
    World,
    draw_problem,
    encode,
    in_test_split,
    is_truthful,
    world_task,
    world_tokenizer,
    write_attempt,
    write_attempts,
)

WORLDS = [
    World(),
    World(values=4, levels=(1,)),
    World(values=12, levels=(2, 5, 7)),
    World(values=5, levels=(1, 3), verdict=False),
    World(values=11, levels=(1, 2), careless=0.5),
]
every_world = pytest.mark.parametrize("a_world", WORLDS)
# 1 -> 4 -> 2 -> 3: x = 1
QUESTION = "Let f(3)=1, f(1)=4, f(4)=2, f(2)=3, and find x with f(f(f(x)))=3."
SMALL = World(values=4, levels=(1, 2, 3, 4))


def read(question):
    """(f, K, target), from the text alone."""
    form = r"Let( f\(\d+\)=\d+,)+ and find x with (f\()+x\)+=\d+\."
    assert re.fullmatch(form, question), question
    listing, asked = question.split(" and find x with ")
    f = {}
    for x, image in re.findall(r"f\((\d+)\)=(\d+)", listing):
        f[int(x)] = int(image)
    assert asked.count("f(") == asked.count(")")
    return f, asked.count("f("), int(asked.split("=")[1].rstrip("."))


def triple(question):
    """The problem whatever the order of its listing: (pairs of f, K, target)."""
    f, level, target = read(question)
    return tuple(sorted(f.items())), level, target


def apply(f, x, times):
    for _ in range(times):
        x = f[x]
    return x


def guess_of(text):
    """The guess that an attempt tries, as text."""
    return re.match(r"Try (\d+):", text)[1]


def problems(a_world, count, split="train", seed=0):
    rng = random.Random(seed)
    return [draw_problem(a_world, rng, split) for _ in range(count)]


# ---- problems ------------------------------------------------------------------------------------
@pytest.mark.parametrize("split", ["train", "test"])
@every_world
def test_the_answer_solves_the_problem_and_is_not_the_target(a_world, split):
    """Catches an answer that does not solve f^K(x) = target, which trains noise, one that equals
    the target, which is found by copying, and a level that never occurs."""
    levels = set()
    for problem in problems(a_world, 200, split):
        f, level, target = read(problem.question)
        everything = list(range(1, a_world.values + 1))
        assert sorted(f) == sorted(f.values()) == everything, "f must permute 1..n"
        assert [x for x in f if apply(f, x, level) == target] == [int(problem.answer)], problem
        assert int(problem.answer) != target, problem
        levels.add(level)
    assert levels == set(a_world.levels)


def test_f_is_listed_in_random_order():
    """Catches a sorted listing: look-ups would be positional, and the problems of a level few."""
    orders = Counter()
    for problem in problems(World(values=4), 2000):
        orders[tuple(re.findall(r"f\((\d+)\)=", problem.question))] += 1
    assert len(orders) == 24 and max(orders.values()) < 2000 * 0.08  # 1/24 = 4.2 %


def test_same_seed_same_problems():
    """Catches a draw that reads anything but its generator: no run could be repeated."""
    assert problems(World(), 20, seed=7) == problems(World(), 20, seed=7)
    assert problems(World(), 20, seed=7) != problems(World(), 20, seed=8)


# ---- the splits ----------------------------------------------------------------------------------
def all_triples(values, levels):
    """(pairs of f, K, target) of every problem that could be asked, with its solution."""
    numbers = range(1, values + 1)
    found = {}
    for images in permutations(numbers):
        f = dict(zip(numbers, images))
        for level in levels:
            for x in numbers:
                found[tuple(f.items()), level, apply(f, x, level)] = x
    return found


def is_held_out(asked):
    pairs, level, target = asked
    return in_test_split(dict(pairs), level, target)


def test_a_split_does_not_depend_on_the_order_of_the_listing():
    """Catches held-out problems that are training problems in another order: the test accuracy
    would be memory."""
    for pairs, level, target in all_triples(4, levels=(1, 2, 3)):
        said = {in_test_split(dict(order), level, target) for order in permutations(pairs)}
        assert len(said) == 1


def test_the_splits_are_the_ones_that_were_published():
    """Catches another split than the one that results were measured on: of the 384 triples of four
    values and four levels, 65 are held out."""
    triples = all_triples(4, SMALL.levels)
    assert len(triples) == 4 * math.factorial(4) * 4
    assert sum(is_held_out(asked) for asked in triples) == 65
    five = all_triples(5, SMALL.levels)
    share = sum(is_held_out(asked) for asked in five) / len(five)
    assert abs(share - 0.2) < 0.025  # 3 standard errors of 2,400


def test_the_splits_look_at_f_and_level_and_target():
    """Catches a split that ignores one of the three: for four values there are always problems that
    differ in that one alone and are in different splits."""
    triples = all_triples(4, SMALL.levels)
    seen = {"f": {}, "level": {}, "target": {}}
    for pairs, level, target in triples:
        held_out = is_held_out((pairs, level, target))
        seen["f"].setdefault((level, target), set()).add(held_out)
        seen["level"].setdefault((pairs, target), set()).add(held_out)
        seen["target"].setdefault((pairs, level), set()).add(held_out)
    for name, groups in seen.items():
        mixed = [key for key, splits in groups.items() if len(splits) == 2]
        assert len(mixed) > len(groups) / 3, name


def test_train_and_test_never_share_a_problem_and_together_are_all_of_them():
    """Catches any leak between the splits: in a world this small each of the 192 problems whose
    answer is not the target is drawn many times."""
    asked = set()
    for (pairs, level, target), solution in all_triples(4, SMALL.levels).items():
        if solution != target:
            asked.add((pairs, level, target))
    held_out = {triple_asked for triple_asked in asked if is_held_out(triple_asked)}
    train = {triple(problem.question) for problem in problems(SMALL, 6000, "train")}
    test = {triple(problem.question) for problem in problems(SMALL, 3000, "test")}
    assert len(asked) == 192 and len(held_out) == 38  # a fifth
    assert test == held_out
    assert train == asked - held_out


PROGRAM = """
import random
from world import World, draw_problem, world_task
rng = random.Random(0)
print([draw_problem(World(), rng, "test").question for _ in range(9)])
print([problem.question for problem in world_task(World(), 50).test])
"""


def test_the_splits_are_the_same_in_every_process():
    """Catches a split made of Python's hash(), which differs from process to process: when a run is
    resumed it would leak."""
    said = set()
    for seed in ("1", "2"):
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=Path(world.__file__).parent,
            check=True,
            capture_output=True,
            text=True,
        )
        said.add(ended.stdout)
    assert len(said) == 1
    assert str([problem.question for problem in world_task(World(), 50).test]) in said.pop()


@every_world
def test_held_out_problems_are_of_the_test_split_and_all_different(a_world):
    """Catches an evaluation on training problems, or on fewer problems than it says."""
    test = world_task(a_world, 100).test
    questions = [problem.question for problem in test]
    assert len(test) == len(set(questions)) == 100
    for question in questions:
        assert is_held_out(triple(question))


def test_held_out_problems_are_the_same_for_every_seed():
    """Catches an evaluation that changes with the seed: two runs could not be compared."""
    found = []
    for seed in (1, 2):
        random.seed(seed)
        torch.manual_seed(seed)
        found.append(world_task(World(), 60).test)
    assert found[0] == found[1]
    assert world_task(World(), 20).test == found[0][:20]
    first = "Let f(4)=3, f(3)=5, f(1)=6, f(2)=1, f(6)=4, f(5)=2, and find x with f(x)=3."
    assert found[0][0] == Problem(first, "4")


def test_more_held_out_problems_than_there_are_is_said():
    """Catches a search without end: at four values and one level there are about 300."""
    with pytest.raises(BadInput, match="--eval-problems 400: .* --values 4; there are about 29"):
        world_task(World(values=4, levels=(1,)), 400)


# ---- the author ----------------------------------------------------------------------------------
def test_an_attempt_as_it_reads():
    """Catches a changed word, letter by letter: the text of the module's own example."""
    right = write_attempt(World(values=4), random.Random(0), QUESTION, guess=1)
    wrong = write_attempt(World(values=4), random.Random(0), QUESTION, guess=3)
    assert right == r"Try 1: f(1)=4, f(4)=2, f(2)=3, it fits. \boxed{1}"
    assert wrong == r"Try 3: f(3)=1, f(1)=4, f(4)=2, it does not fit. \boxed{3}"


@every_world
def test_every_attempt_plugs_its_guess_in(a_world):
    """Catches a look-up that is wrong, missing or of another guess: it teaches to check badly."""
    rng = random.Random(1)
    for problem in problems(a_world, 100):
        f, level, _ = read(problem.question)
        for text in write_attempts(a_world, rng, problem, turns=3):
            guess = int(guess_of(text))
            path = [guess]
            for x, image in re.findall(r" f\((\d+)\)=(\d+),", text):
                assert f[int(x)] == int(image)
                path.append(int(image))
            assert path == [apply(f, guess, k) for k in range(level + 1)]
            assert text.endswith(rf"\boxed{{{guess}}}")


def author_of(right, again, repeats, values=5):
    """A world of one look-up whose author is so."""
    return World(values, (1,), right, again, repeats)


AUTHORS = [
    author_of(0.7, 0.7, 0.4),
    author_of(0.7, 0.2, 0.55),  # the default: later guesses are worse than first ones
    author_of(0.3, 0.3, 0.7),
    author_of(0.0, 0.0, 0.5, values=4),
    author_of(0.6, 0.6, 0.0),
    author_of(0.2, 0.8, 0.3),
]


def first_and_second(a_world, count=20_000):
    """(first guess, second guess, answer) of many problems, as the author wrote them."""
    rng = random.Random(3)
    asked = problems(a_world, 100)
    for i in range(count):
        problem = asked[i % 100]
        first, second = write_attempts(a_world, rng, problem)
        yield guess_of(first), guess_of(second), problem.answer


def is_near(count, total, expected):
    """Whether a share is what it should be, within 3.5 standard errors."""
    error = math.sqrt(expected * (1 - expected) / total)
    return abs(count / total - expected) <= 3.5 * error


@pytest.mark.parametrize("author", AUTHORS)
def test_the_author_does_not_correct_himself(author):
    """Catches an author who repeats, or is right, more or less often after a right attempt than
    after a wrong one: the base model would have learnt to correct before RL began.

    The law by hand, with g = P(a first guess is right), h the same of a later fresh one, and one
    coin for all: a second attempt repeats with probability c, whatever the first was, and else is
    right with probability h. Of 20,000 draws each share may be 3.5 standard errors off, 0.004 to
    0.02; a bias of 0.05 in any of the three knobs is more than that in one of the authors.
    """
    n = author.values
    c = author.author_repeats
    g = author.author_right + (1 - author.author_right) / n
    stray = (1 - author.author_right_again) / n  # a later guess is this number, not on purpose
    h = author.author_right_again + stray
    law = {
        "right": {"right": c + (1 - c) * h, "wrong": (1 - c) * (1 - h)},
        "wrong": {
            "right": (1 - c) * h,
            "same": c + (1 - c) * stray,
            "wrong": (1 - c) * (n - 2) * stray,
        },
    }
    counts = {"right": Counter(), "wrong": Counter()}
    for first, second, answer in first_and_second(author):
        again = "wrong"
        if second == answer:
            again = "right"
        elif second == first:
            again = "same"
        counts["right" if first == answer else "wrong"][again] += 1
    assert is_near(counts["right"].total(), 20_000, g)
    for first, expected in law.items():
        total = counts[first].total()
        assert counts[first].keys() <= expected.keys()
        for again, chance in expected.items():
            assert is_near(counts[first][again], total, chance), (first, again, counts)
    i_to_c = counts["wrong"]["right"] / 20_000
    c_to_i = counts["right"]["wrong"] / 20_000
    delta = (1 - c) * (h - g)
    assert abs(i_to_c - c_to_i - delta) < 0.02, "the author's own delta: 0 if h is g, else its sign"


def test_the_default_author_is_the_one_that_was_measured():
    """Catches another author than the one whose base model the results were measured on."""
    assert World() == World(6, (1, 2, 3, 4), 0.7, 0.2, 0.55, True, 0.0)
    named = World(author_right=0.7, author_right_again=0.2, author_repeats=0.55)
    assert World() == named


def test_with_blind_guesses_the_rate_of_repeats_is_the_same_after_right_and_wrong():
    """Catches a coin that looks at the answer: no guess is better than chance here, so even the
    visible rate of repeats, lucky ones included, is one number, 0.5 + 0.5 / 4."""
    author = author_of(0.0, 0.0, 0.5, values=4)
    same = Counter()
    total = Counter()
    for first, second, answer in first_and_second(author):
        total[first == answer] += 1
        same[first == answer] += first == second
    for right in (True, False):
        assert is_near(same[right], total[right], 0.625)


def test_the_extreme_authors():
    """Catches a swapped pair of knobs: at 0 and 1 each is exact, so no tolerance hides it."""
    sure = World(author_right=1.0, author_right_again=1.0)
    for first, second, answer in first_and_second(sure, 100):
        assert first == second == answer
    stubborn = World(author_right=0.0, author_right_again=0.0, author_repeats=1.0)
    guesses = list(first_and_second(stubborn, 200))
    assert all(first == second for first, second, _ in guesses)
    assert {first for first, _, _ in guesses} == set("123456")


def test_a_third_attempt_repeats_the_second():
    """Catches an author who goes back to his first attempt."""
    author = World(author_right=0.0, author_right_again=0.0, author_repeats=0.5)
    rng = random.Random(0)
    (problem,) = problems(author, 1)
    as_the_second = 0
    different = 0
    for _ in range(600):
        texts = write_attempts(author, rng, problem, turns=3)
        assert len(texts) == 3
        if texts[0] != texts[1]:
            different += 1
            as_the_second += texts[2] == texts[1]
    assert is_near(as_the_second, different, 0.5 + 0.5 / 6)


def test_where_a_solution_is_written_down_every_attempt_is_that():
    """Catches a problem from a file that the world's author tries to solve."""
    problem = Problem("1 + 1?", "2", solution=r"It is \boxed{2}.")
    assert write_attempts(World(), random.Random(0), problem) == [r"It is \boxed{2}."] * 2
    assert len(write_attempts(World(), random.Random(0), problem, turns=3)) == 3


@pytest.mark.parametrize("careless", [0.0, 0.3, 1.0])
def test_verdicts_are_truthful_exactly_when_nobody_is_careless(careless):
    """Catches a share of careless verdicts that is another's, or a right guess that is said not to
    fit: a wrong guess is called fitting with probability `careless`, a right one always.

    About 20,000 verdicts on wrong guesses: within 3.5 standard errors, 0.011.
    """
    careless_world = World(values=4, levels=(2,), careless=careless)
    rng = random.Random(3)
    said = Counter()
    for problem in problems(careless_world, 6700):
        f, level, target = read(problem.question)
        for guess in range(1, 5):
            text = write_attempt(careless_world, rng, problem.question, guess)
            fits = " it fits." in text
            right = apply(f, guess, level) == target
            assert fits != (" it does not fit." in text)
            assert is_truthful(problem.question, text) == (fits == right)
            said[right, fits] += 1
    assert said[True, False] == 0
    wrong = said[False, True] + said[False, False]
    assert wrong > 20_000
    assert is_near(said[False, True], wrong, careless)


def test_without_verdicts_nothing_is_said_and_nothing_is_truthful_or_not():
    """Catches a knob that turns the sentence into a lie where it should take it out."""
    silent = World(verdict=False)
    rng = random.Random(4)
    for problem in problems(silent, 100):
        for text in write_attempts(silent, rng, problem):
            assert "fit" not in text
            assert is_truthful(problem.question, text) is None


def test_is_truthful_against_every_guess_and_verdict():
    """Catches a lie that counts as true, or a truth as a lie: the share of truthful checks is how a
    rotten check is noticed.

    A downloaded model once tried 9 where f permutes 1..5: that fits nothing, and must not raise.
    """
    for problem in problems(World(values=5, levels=(1, 2, 3)), 40):
        f, level, target = read(problem.question)
        for guess in (*f, 0, 9, 123456789):
            right = guess in f and apply(f, guess, level) == target
            fits = rf"Try {guess}: f(1)=1, it fits. \boxed{{{guess}}}"
            does_not = rf"Try {guess}: f(1)=1, it does not fit. \boxed{{{guess}}}"
            assert is_truthful(problem.question, fits) is right
            assert is_truthful(problem.question, does_not) is not right


@pytest.mark.parametrize(
    "text",
    [
        "",
        " it fits.",
        r"Try 1: f(1)=4, \boxed{1}",
        r"\boxed{1} it fits.",
        "Try 1:",
        "Try one: it fits.",
        "I try 1: it fits.",
        "Try 1: it fits",
        f"Try {'9' * 5000}: it fits.",
    ],
)
def test_is_truthful_is_none_where_no_guess_or_no_verdict_is_stated(text):
    """Catches half a sentence that counts as a true check or as a lie, or that raises: a model can
    say anything."""
    assert is_truthful(QUESTION, text) is None


@pytest.mark.parametrize(
    "question",
    [
        "",
        "What is 1 + 1?",
        "Find x with f(x)=3.",
        "Write a function that tries every number.",
        "Let y = 2 and find x with x + y = 3.",
        "Let f(x)=2x, and find x with f(x)=3.",
    ],
)
def test_is_truthful_is_none_where_the_question_is_not_the_world_s(question):
    """Catches a verdict on a problem from a file, which nothing here can check."""
    assert is_truthful(question, "Try 1: f(1)=4, it fits.") is None
    assert is_truthful(question, "Try 1: f(1)=4, it does not fit.") is None
    assert is_truthful(question, r"It is \boxed{1}.") is None


# ---- text to tokens ------------------------------------------------------------------------------
@every_world
def test_every_text_survives_the_tokenizer_with_one_token_per_word(a_world):
    """Catches a word that falls apart or vanishes: the model reads something else, and its loss
    would never say so."""
    tokenizer = world_tokenizer(a_world)
    rng = random.Random(5)
    for problem in problems(a_world, 100) + problems(a_world, 20, "test"):
        _, level, _ = read(problem.question)
        ids = encode(tokenizer, problem.question)
        assert tokenizer.decode(ids) == problem.question
        # Let, the pairs, "and find x with", "f(f(x))=", "3."
        assert len(ids) == a_world.values + 4
        for text in write_attempts(a_world, rng, problem):
            ids = encode(tokenizer, text)
            assert tokenizer.decode(ids) == text
            # "Try 3:", the look-ups, the verdict, the box
            assert len(ids) == level + 2 + a_world.verdict
    ids = encode(tokenizer, REQUEST)
    assert len(ids) == 1 and tokenizer.decode(ids) == REQUEST


@every_world
def test_a_conversation_has_the_tokens_of_its_parts(a_world):
    """Catches words that merge across a border: the learner would see other ids than were
    sampled."""
    tokenizer = world_tokenizer(a_world)
    rng = random.Random(6)
    for problem in problems(a_world, 20):
        y1, y2 = write_attempts(a_world, rng, problem)
        parts = [problem.question, y1, END, REQUEST, y2, END]
        ids = []
        for part in parts:
            ids += encode(tokenizer, part)
        assert encode(tokenizer, "".join(parts)) == ids


@every_world
def test_end_is_one_token_and_the_ids_have_no_gaps(a_world):
    """Catches an END of many tokens, or one that shares its id with a word: the sampler stops at
    one id, and would never stop."""
    tokenizer = world_tokenizer(a_world)
    end = tokenizer.encode_single_token(END)
    assert encode(tokenizer, END) == [end]
    words = [tokenizer.decode([token]) for token in range(tokenizer.n_vocab)]
    assert len(set(words)) == tokenizer.n_vocab and words[end] == END
    for token, word in enumerate(words):
        assert encode(tokenizer, word) == [token]


@pytest.mark.parametrize(
    "text", ["hello", "Let f(7)=1,", "Let\n", " it fits", "Try 3: it fits. ", "Let f(3) =1,"]
)
def test_text_the_world_has_no_words_for_is_refused(text):
    """Catches what tiktoken drops in silence: the model would read another problem."""
    tokenizer = world_tokenizer(World())
    with pytest.raises(ValueError, match="'world' has no words for"):
        encode(tokenizer, text)
    task = replace(world_task(World(), 1), tokenizer=tokenizer)
    with pytest.raises(ValueError, match="'world' has no words for"):
        task.prompt_ids(Problem(text, ""))


# ---- the words of the turns ----------------------------------------------------------------------
SPECIAL = {"<|user|>": 256, "<|model|>": 257, "<|stop|>": 258}
BYTES = tiktoken.Encoding(
    "bytes",
    pat_str=r"[\s\S]",
    mergeable_ranks={bytes([byte]): byte for byte in range(256)},
    special_tokens=SPECIAL,
)
CHAT = Chat(start="", user="\n<|user|>", model="<|model|>", end="<|stop|>")


def test_the_request_does_not_say_that_there_is_an_error():
    """Catches a request that gives away whether attempt 1 is wrong: it is asked before anybody has
    looked, so it must say "might" and "if"."""
    words = REQUEST.lower().split()
    assert "might" in words and "if" in words
    for said in ("there is an error", "is wrong", "incorrect", "was wrong", "your error"):
        assert said not in REQUEST.lower()


def test_the_world_s_task_in_its_own_words():
    """Catches a prompt with more than the question, another request, or another end."""
    task = world_task(World(), 3)
    problem, *_ = task.test
    assert task.train == [] and len(task.test) == 3
    assert task.tokenizer.decode(task.prompt_ids(problem)) == problem.question
    assert task.tokenizer.decode(task.request_ids()) == REQUEST
    assert task.end == task.tokenizer.encode_single_token(END)
    assert task.final is None and task.judge is None


def test_the_world_s_task_in_the_words_of_a_downloaded_model():
    """Catches a prompt or request without the model's markers, or an attempt that ends with the
    world's token instead of the model's."""
    task = world_task(World(), 3, BYTES, CHAT)
    assert task.test == world_task(World(), 3).test
    problem, *_ = task.test
    prompt = f"<|user|>{problem.question}<|model|>"
    assert task.prompt_ids(problem) == [256, *problem.question.encode(), 257]
    assert BYTES.decode(task.prompt_ids(problem)) == prompt
    assert task.request_ids() == [10, 256, *REQUEST.strip().encode(), 257]
    assert task.end == 258


def test_a_question_that_spells_a_special_token_gets_its_letters():
    """Catches a question from a file that ends the prompt, or opens a turn, by what it says."""
    task = Task(BYTES, 258, "<|user|>{question}<|model|>", "again", train=[], test=[])
    question = "What does <|stop|> do?"
    assert task.prompt_ids(Problem(question, "")) == [256, *question.encode(), 257]
