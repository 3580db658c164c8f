"""What the answers add up to, against a loop over rows that reads like the definitions."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import score
from extras import report
from extras.report import edit_distance
from rewards import extract_answer
from world import Problem


def table_distance(a, b):
    """Levenshtein's table, cell by cell."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above = row
        row = [i]
        for j, y in enumerate(b, 1):
            replaced = above[j - 1] + (x != y)
            row.append(min(above[j] + 1, row[j - 1] + 1, replaced))
    return row[-1]


def text(answer, working):
    """An attempt whose final answer is known; None: it has none."""
    return working if answer is None else rf"{working} \boxed{{{answer}}}"


def share(holds, among):
    """The share of rows for which something holds; 0 of no rows."""
    return sum(holds(row) for row in among) / len(among) if among else 0.0


def is_right_first(row):
    return bool(row[0])


def is_right_second(row):
    return bool(row[1])


def moved(row):
    return row[2] != row[3]


def by_hand(rows):
    """rows of (r1, r2, answer 1, answer 2): every metric but edit_ratio, counted row by row."""
    wrong = [row for row in rows if not row[0]]
    right = [row for row in rows if row[0]]
    wrong_and_moved = [row for row in wrong if moved(row)]
    return {
        "accuracy_t1": share(is_right_first, rows),
        "accuracy_t2": share(is_right_second, rows),
        "delta": share(is_right_second, rows) - share(is_right_first, rows),
        "i_to_c": share(lambda row: not row[0] and row[1], rows),
        "c_to_i": share(lambda row: row[0] and not row[1], rows),
        "changed": share(moved, rows),
        "rewrite_if_wrong": share(moved, wrong),
        "rewrite_if_right": share(moved, right),
        "right_if_rewritten": share(is_right_second, wrong_and_moved),
    }


def metrics(r, attempts):
    """The paper's five and what the texts say, in one."""
    return score.metrics(r) | report.text_metrics(r, attempts, extract_answer)


def measure(rows):
    """The same rows through the code under test."""
    attempts = []
    r = []
    for r1, r2, first, second in rows:
        attempts.append([text(first, "so"), text(second, "no, so")])
        r.append([float(r1), float(r2)])
    return metrics(torch.tensor(r), attempts)


def test_five_problems_counted_by_eye():
    """Catches names that are swapped or shares of the wrong whole: one row of each kind, and a
    second wrong-to-right. t1 is 2/5, t2 3/5, delta 2/5 - 1/5."""
    rows = [
        (1, 1, "3", "3"),
        (0, 1, "4", "3"),
        (0, 1, None, "3"),
        (0, 0, "4", "4"),
        (1, 0, "3", "5"),
    ]
    found = measure(rows)
    del found["edit_ratio"]
    # 4 letters of 28 are in part 2 of 20, 5 of 28 in part 3, and 14 of 18 in part 15
    assert found.pop("edit_histogram") == [0, 0, 2, 2] + 11 * [0] + [1] + 4 * [0]
    assert {name: round(value, 6) for name, value in found.items()} == {
        "accuracy_t1": 0.4,
        "accuracy_t2": 0.6,
        "delta": 0.2,
        "i_to_c": 0.4,
        "c_to_i": 0.2,
        "changed": 0.6,
        "rewrite_if_wrong": 0.666667,
        "rewrite_if_right": 0.5,
        "right_if_rewritten": 1.0,
    }


@pytest.mark.parametrize("seed", range(20))
def test_metrics_against_a_loop(seed):
    """Catches swapped names, shares of the wrong whole, c->i for i->c: each is a table that looks
    fine and is false."""
    rng = random.Random(seed)
    rows = []
    for _ in range(rng.randint(1, 30)):
        first = rng.choice(["1", "2", "3", None])
        second = rng.choice(["1", "2", "3", None])
        rows.append((first == "1", second == "1", first, second))
    found = measure(rows)
    for name, value in by_hand(rows).items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert found["delta"] == pytest.approx(found["i_to_c"] - found["c_to_i"], abs=1e-6)


NONE_WRONG = [(1, 1, "3", "3"), (1, 0, "3", "4")]
NONE_RIGHT = [(0, 0, "4", "4"), (0, 0, "5", "5")]


@pytest.mark.parametrize(
    "rows, empty",
    [
        (NONE_WRONG, ["rewrite_if_wrong", "right_if_rewritten", "i_to_c"]),
        (NONE_RIGHT, ["rewrite_if_right", "right_if_rewritten", "c_to_i", "changed"]),
    ],
)
def test_a_condition_that_never_holds_gives_zero(rows, empty):
    """Catches the mean of no rows, which is nan: one in a step spoils the curve and the report."""
    found = measure(rows)
    assert [found[name] for name in empty] == [0.0] * len(empty)
    assert sum(found.pop("edit_histogram")) == len(rows)
    assert not any(math.isnan(value) for value in found.values())


def test_of_many_attempts_the_first_and_the_last_count():
    """Catches a delta, or a change, to a middle attempt: with three, it is on the way."""
    attempts = []
    for answers in (("4", "5", "3"), ("3", "4", "3")):
        attempts.append([text(answer, "") for answer in answers])
    found = metrics(torch.tensor([[0, 0, 1], [1, 0, 1]]), attempts)
    accuracies = [found[f"accuracy_t{turn}"] for turn in (1, 2, 3)]
    assert accuracies == [0.5, 0.0, 1.0] and found["delta"] == 0.5
    assert (found["i_to_c"], found["c_to_i"]) == (0.5, 0.0)
    assert found["changed"] == 0.5 and found["rewrite_if_right"] == 0.0


def test_changed_is_about_the_final_answer_and_edit_ratio_about_the_text():
    """Catches other words around the same answer that count as a correction, or not as an edit:
    "ab" -> "abcd" is 2 of 6 letters."""
    same_answer = metrics(torch.ones(1, 2), [[r"ab\boxed{3}", r"cd\boxed{3}"]])
    assert same_answer["changed"] == 0.0
    assert same_answer["edit_ratio"] == pytest.approx(2 / 22)
    other = metrics(torch.ones(2, 2), [["ab", "abcd"], ["", ""]])
    assert other["edit_ratio"] == pytest.approx((2 / 6 + 0) / 2)


def test_what_counts_of_an_attempt_is_the_task_s():
    """Catches "changed" that looks for a box in a program: here an attempt's last letter counts."""
    attempts = [["abx", "cdx"], ["abx", "aby"]]
    r = torch.tensor([[0.0, 0.0], [1.0, 0.0]])

    def final(attempt):
        return attempt[-1]

    assert report.changes(attempts, final) == [False, True]
    found = report.text_metrics(r, attempts, final)
    assert (found["changed"], found["rewrite_if_wrong"]) == (0.5, 0.0)
    assert found["rewrite_if_right"] == 1.0


def test_truthful_share_by_eye():
    """Catches an attempt without a verdict that counts as a true one, or is left out of the whole:
    of four attempts one is true, one a lie, one says nothing and one is no text of the world."""
    problem = Problem("Let f(2)=1, f(1)=2, and find x with f(x)=1.", "2")
    attempts = [
        ["Try 1: f(1)=2, it does not fit.", "Try 1: f(1)=2, it fits."],
        ["Try 2: f(2)=1,", ""],
    ]
    assert report.truthful_share([problem, problem], attempts) == 0.25
    assert math.isnan(report.truthful_share([problem], [["", "Try 2: f(2)=1,"]]))


@pytest.mark.parametrize(
    "a, b, distance",
    [
        ("", "", 0),
        ("", "abc", 3),
        ("abc", "", 3),
        ("kitten", "sitting", 3),
        ("abc", "abc", 0),
        ("ab", "ba", 2),
        ("a" * 70, "b" + "a" * 70, 1),
    ],
)
def test_edit_distance_by_eye(a, b, distance):
    """Catches empty texts, and texts longer than a machine word, that a quick method gets wrong."""
    assert edit_distance(a, b) == distance


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.text("abc", max_size=90), st.text("abc", max_size=90))
def test_edit_distance_against_the_table(a, b):
    """Catches a row-by-row method that is fast and wrong: the table, cell by cell, is slow and
    plain."""
    assert edit_distance(a, b) == edit_distance(b, a) == table_distance(a, b)


@settings(deadline=None, derandomize=True, max_examples=100)
@given(st.text("aé文😀\u0301\x00", max_size=20), st.text("aé文😀\u0301\x00", max_size=20))
def test_edit_distance_of_any_characters(a, b):
    """Catches a method for ASCII alone: a model's text is any Unicode there is."""
    assert edit_distance(a, b) == table_distance(a, b)
