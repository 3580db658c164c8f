"""The generated world: problems that can be solved, splits that never meet, an author who does not correct himself.

The oracle reads each text with regular expressions of its own, applies f step by step, and works out the author's
probabilities by hand.
"""
import os
import random
import re
import subprocess
import sys
from collections import Counter
from itertools import permutations
from pathlib import Path

import pytest

import data
from data import END, REQUEST, World, draw_problem, encode, in_test_split, is_truthful, world_tokenizer, write_attempts

WORLDS = [World(), World(values=4, levels=(1,)), World(values=12, levels=(2, 5, 7)),
          World(values=5, levels=(1, 3), verdict=False), World(values=11, levels=(1, 2), careless=0.5)]
QUESTION = "Let f(3)=1, f(1)=4, f(4)=2, f(2)=3, and find x with f(f(f(x)))=3."  # 1 -> 4 -> 2 -> 3: x = 1


def read(question):
    """(f, K, target), from the text alone."""
    assert re.fullmatch(r"Let( f\(\d+\)=\d+,)+ and find x with (f\()+x\)+=\d+\.", question), question
    listing, asked = question.split(" and find x with ")
    f = {int(a): int(b) for a, b in re.findall(r"f\((\d+)\)=(\d+)", listing)}
    assert asked.count("f(") == asked.count(")")
    return f, asked.count("f("), int(asked.split("=")[1].rstrip("."))


def apply(f, x, times):
    for _ in range(times):
        x = f[x]
    return x


def problems(world, count, split="train", seed=0):
    rng = random.Random(seed)
    return [draw_problem(world, rng, split) for _ in range(count)]


# ---- problems --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("world", WORLDS)
def test_the_answer_solves_the_problem_and_is_not_the_target(world, split):
    """An answer that does not solve f^K(x) = target trains noise; one that equals the target is found by copying."""
    levels = set()
    for problem in problems(world, 200, split):
        f, level, target = read(problem.question)
        assert sorted(f) == sorted(f.values()) == list(range(1, world.values + 1)), "f must permute 1..n"
        assert [x for x in f if apply(f, x, level) == target] == [int(problem.answer)], problem
        assert int(problem.answer) != target, problem
        levels.add(level)
    assert levels == set(world.levels)


def test_a_split_does_not_depend_on_the_order_of_the_listing():
    """Held-out problems in another order would be training problems: the test accuracy would be memory."""
    for images in permutations((1, 2, 3, 4)):
        pairs = list(zip((1, 2, 3, 4), images))
        for level in (1, 2, 3):
            for target in (1, 2, 3, 4):
                assert len({in_test_split(dict(order), level, target) for order in permutations(pairs)}) == 1


def test_train_and_test_never_share_a_problem_and_together_are_all_of_them():
    """In a world this small every problem is drawn many times, so any leak between the splits shows."""
    world = World(values=4, levels=(1, 2, 3))
    seen = {split: {(tuple(sorted(f.items())), level, target) for f, level, target
                    in (read(p.question) for p in problems(world, 6000, split))} for split in ("train", "test")}
    whole = set()
    for images in permutations((1, 2, 3, 4)):
        f = dict(zip((1, 2, 3, 4), images))
        asked = {(level, apply(f, x, level)) for level in (1, 2, 3) for x in f if apply(f, x, level) != x}
        whole |= {(tuple(f.items()), level, target) for level, target in asked}
    assert not seen["train"] & seen["test"]
    assert seen["train"] | seen["test"] == whole
    assert 0.1 < len(seen["test"]) / len(whole) < 0.3


def test_f_is_listed_in_random_order():
    """A sorted listing would make the look-ups positional, and the problems of a level few."""
    orders = Counter(tuple(map(int, re.findall(r"f\((\d+)\)=", p.question))) for p in problems(World(values=4), 2000))
    assert len(orders) == 24 and max(orders.values()) < 2000 * 0.08  # 1/24 = 4.2 %


def test_same_seed_same_problems():
    """A generator that reads anything but its seed makes no run repeatable."""
    assert problems(World(), 20, seed=7) == problems(World(), 20, seed=7) != problems(World(), 20, seed=8)


def test_the_splits_are_the_same_in_every_process():
    """Python's hash() of a string differs from process to process: a split made of it leaks when a run is resumed."""
    program = ("import random, data; rng = random.Random(0);"
               "print([data.draw_problem(data.World(), rng, 'test') for _ in range(9)])")
    said = {subprocess.run([sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": seed}, check=True,
                           cwd=Path(data.__file__).parent, capture_output=True).stdout for seed in ("1", "2")}
    assert len(said) == 1


# ---- the author ------------------------------------------------------------------------------------------------------
def test_an_attempt_as_it_reads():
    """The text of the module's own example, letter by letter."""
    right, wrong = (data.write_attempt(World(values=4), random.Random(0), QUESTION, guess) for guess in (1, 3))
    assert right == r"Try 1: f(1)=4, f(4)=2, f(2)=3, it fits. \boxed{1}"
    assert wrong == r"Try 3: f(3)=1, f(1)=4, f(4)=2, it does not fit. \boxed{3}"


@pytest.mark.parametrize("world", WORLDS)
def test_every_attempt_plugs_its_guess_in(world):
    """A look-up that is wrong, missing or of another guess teaches the model to check badly."""
    rng = random.Random(1)
    for problem in problems(world, 100):
        f, level, _ = read(problem.question)
        for text in write_attempts(world, rng, problem, turns=3):
            guess = re.match(r"Try (\d+):", text)[1]
            pairs = [(int(a), int(b)) for a, b in re.findall(r" f\((\d+)\)=(\d+),", text)]
            assert [int(guess), *(b for _, b in pairs)] == [apply(f, int(guess), k) for k in range(level + 1)]
            assert all(f[a] == b for a, b in pairs)
            assert text.endswith(rf"\boxed{{{guess}}}")


AUTHORS = [World(values=5, levels=(1,)), World(values=5, levels=(1,), author_right=0.3, author_repeats=0.7),
           World(values=4, levels=(1,), author_right=0.0, author_repeats=0.5),
           World(values=5, levels=(1,), author_right=0.6, author_repeats=0.0)]


def first_and_second(world, count=6000):
    """(first guess, second guess, answer) of many problems, as the author wrote them."""
    rng = random.Random(3)
    for problem in problems(world, count):
        first, second = (re.match(r"Try (\d+):", text)[1] for text in write_attempts(world, rng, problem))
        yield first, second, problem.answer


@pytest.mark.parametrize("world", AUTHORS)
def test_the_author_does_not_correct_himself(world):
    """If repeating or being right depended on whether the first attempt was right, the base model would have learnt to
    correct before RL began. The law worked out by hand, with g = P(a fresh guess is right) and one coin for all:
    a second attempt repeats with probability c, whatever the first was, and else is right with probability g.

    Tolerance: 0.05 on each share of the right or of the wrong first attempts (3.8 standard errors of a share of 1,440,
    the smallest such group of 6,000), 0.035 on delta (4 standard errors)."""
    n, e, c = world.values, world.author_right, world.author_repeats
    g = e + (1 - e) / n
    law = {("right", "right"): g * (c + (1 - c) * g), ("right", "wrong"): g * (1 - c) * (1 - g),
           ("wrong", "right"): (1 - g) * (1 - c) * g, ("wrong", "same"): (1 - g) * (c + (1 - c) * (1 - e) / n),
           ("wrong", "wrong"): (1 - g) * (1 - c) * (n - 2) * (1 - e) / n}
    counts = Counter()
    for first, second, answer in first_and_second(world):
        again = "right" if second == answer else "same" if second == first else "wrong"
        counts["right" if first == answer else "wrong", again] += 1
    total = sum(counts.values())
    for first in ("right", "wrong"):
        here = {pair: count for pair, count in counts.items() if pair[0] == first}
        assert abs(sum(here.values()) / total - (g if first == "right" else 1 - g)) < 0.03
        for pair in law:
            if pair[0] == first:
                expected = law[pair] / (g if first == "right" else 1 - g)
                assert abs(here.get(pair, 0) / sum(here.values()) - expected) < 0.05, (pair, counts)
    i_to_c, c_to_i = counts["wrong", "right"] / total, counts["right", "wrong"] / total
    assert abs(i_to_c - c_to_i) < 0.035, "the author's own delta must be 0"


def test_with_blind_guesses_the_rate_of_repeats_is_the_same_after_right_and_wrong():
    """No guess is better than chance here, so even the visible rate of repeats (lucky ones included) is one number."""
    world, same, all_of = World(values=4, levels=(1,), author_right=0.0, author_repeats=0.5), Counter(), Counter()
    for first, second, answer in first_and_second(world):
        all_of[first == answer] += 1
        same[first == answer] += first == second
    for right in (True, False):  # 0.5 + 0.5 / 4
        assert abs(same[right] / all_of[right] - 0.625) < 0.05


def test_the_extreme_authors():
    """At 0 and 1 each knob is exact, so no tolerance hides a swapped pair of them."""
    sure = World(author_right=1.0)
    assert all(first == second == answer for first, second, answer in first_and_second(sure, 100))
    stubborn = World(author_right=0.0, author_repeats=1.0)
    guesses = list(first_and_second(stubborn, 200))
    assert all(first == second for first, second, _ in guesses)
    assert {first for first, _, _ in guesses} == set("123456")


@pytest.mark.parametrize("careless", [0.0, 0.3, 1.0])
def test_verdicts_are_truthful_exactly_when_nobody_is_careless(careless):
    """A wrong guess is called fitting with probability `careless` (4,000 drawn: within 0.04), a right one always."""
    world, rng, said = World(values=4, levels=(2,), careless=careless), random.Random(3), Counter()
    for problem in problems(world, 1300):
        f, level, target = read(problem.question)
        for guess in range(1, 5):
            text = data.write_attempt(world, rng, problem.question, guess)
            fits, right = " it fits." in text, apply(f, guess, level) == target
            assert fits != (" it does not fit." in text)
            assert is_truthful(problem.question, text) == (fits == right)
            said[right, fits] += 1
    assert said[True, False] == 0
    share = said[False, True] / (said[False, True] + said[False, False])
    assert share == careless if careless in (0.0, 1.0) else abs(share - careless) < 0.04


def test_without_verdicts_nothing_is_said_and_nothing_is_truthful_or_not():
    """The knob must take the sentence out, not turn it into a lie; other tests then see that `None` is no truth."""
    world, rng = World(verdict=False), random.Random(4)
    for problem in problems(world, 100):
        for text in write_attempts(world, rng, problem):
            assert "fit" not in text
            assert is_truthful(problem.question, text) is None


def test_is_truthful_against_every_guess_and_verdict():
    """The share of truthful checks is how a rotten check is noticed: it must count lies and no others. A downloaded
    model once tried 9 where f permutes 1..5: that fits nothing, and must not raise."""
    for problem in problems(World(values=5, levels=(1, 2, 3)), 40):
        f, level, target = read(problem.question)
        for guess in (*f, 0, 9, 123456789):
            right = guess in f and apply(f, guess, level) == target
            for said in (True, False):
                text = rf"Try {guess}: f(1)=1, it {'fits' if said else 'does not fit'}. \boxed{{{guess}}}"
                assert is_truthful(problem.question, text) is (said == right)


@pytest.mark.parametrize("text", ["", " it fits.", r"Try 1: f(1)=4, \boxed{1}", r"\boxed{1} it fits.", "Try 1:",
                                  f"Try {'9' * 5000}: it fits."])
def test_is_truthful_is_none_where_no_guess_or_no_verdict_is_stated(text):
    """A model can say anything; half a sentence is neither a true check nor a lie, and must not raise."""
    assert is_truthful(QUESTION, text) is None


# ---- text to tokens --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("world", WORLDS)
def test_every_text_survives_the_tokenizer_with_one_token_per_word(world):
    """A word that falls apart or vanishes changes what the model reads, and its loss would never say so."""
    tokenizer, rng = world_tokenizer(world), random.Random(5)
    for problem in problems(world, 100) + problems(world, 20, "test"):
        _, level, _ = read(problem.question)
        ids = encode(tokenizer, problem.question)
        assert tokenizer.decode(ids) == problem.question
        assert len(ids) == world.values + 4  # Let, the pairs, "and find x with", "f(f(x))=", "3."
        for text in write_attempts(world, rng, problem):
            ids = encode(tokenizer, text)
            assert tokenizer.decode(ids) == text
            assert len(ids) == level + 2 + world.verdict  # "Try 3:", the look-ups, the verdict, the box
    assert len(encode(tokenizer, REQUEST)) == 1 and tokenizer.decode(encode(tokenizer, REQUEST)) == REQUEST


@pytest.mark.parametrize("world", WORLDS)
def test_a_conversation_has_the_tokens_of_its_parts(world):
    """Words that merged across a border would give the learner other ids than the ones that were sampled."""
    tokenizer, rng = world_tokenizer(world), random.Random(6)
    for problem in problems(world, 20):
        y1, y2 = write_attempts(world, rng, problem)
        parts = [problem.question, y1, END, REQUEST, y2, END]
        assert encode(tokenizer, "".join(parts)) == [token for part in parts for token in encode(tokenizer, part)]


@pytest.mark.parametrize("world", WORLDS)
def test_end_is_one_token_and_the_ids_have_no_gaps(world):
    """The sampler stops at one id. An END of many tokens, or one that shares its id with a word, never stops it."""
    tokenizer = world_tokenizer(world)
    end = tokenizer.encode_single_token(END)
    assert encode(tokenizer, END) == [end]
    words = [tokenizer.decode([token]) for token in range(tokenizer.n_vocab)]
    assert len(set(words)) == tokenizer.n_vocab and words[end] == END
    assert [encode(tokenizer, word) for word in words] == [[token] for token in range(tokenizer.n_vocab)]


@pytest.mark.parametrize("text", ["hello", "Let f(7)=1,", "Let\n", " it fits", "Try 3: it fits. ", "Let f(3) =1,"])
def test_text_the_world_has_no_words_for_is_refused(text):
    """tiktoken silently drops what its pattern does not match: the model would read another problem."""
    with pytest.raises(ValueError):
        encode(world_tokenizer(World()), text)
