"""What the answers add up to, against a loop over rows that reads like the definitions."""
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards import edit_distance, metrics


def table_distance(a, b):
    """Levenshtein's table, cell by cell."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def text(answer, working):
    """An attempt whose final answer is known; None: it has none."""
    return working if answer is None else rf"{working} \boxed{{{answer}}}"


def by_hand(rows):
    """rows of (r1, r2, answer 1, answer 2): every metric but edit_ratio, counted one row at a time."""
    share = lambda holds, among: sum(map(holds, among)) / len(among) if among else 0.0
    wrong, right = [row for row in rows if not row[0]], [row for row in rows if row[0]]
    moved = lambda row: row[2] != row[3]
    return {"accuracy_t1": share(lambda row: row[0], rows), "accuracy_t2": share(lambda row: row[1], rows),
            "delta": share(lambda row: row[1], rows) - share(lambda row: row[0], rows),
            "i_to_c": share(lambda row: not row[0] and row[1], rows),
            "c_to_i": share(lambda row: row[0] and not row[1], rows), "changed": share(moved, rows),
            "rewrite_if_wrong": share(moved, wrong), "rewrite_if_right": share(moved, right),
            "right_if_rewritten": share(lambda row: row[1], [row for row in wrong if moved(row)])}


def measure(rows):
    """The same rows through the code under test."""
    attempts = [[text(a, "so"), text(b, "no, so")] for _, _, a, b in rows]
    return metrics(torch.tensor([[float(r1), float(r2)] for r1, r2, _, _ in rows]), attempts)


def test_four_problems_counted_by_eye():
    """One row of each kind, and a second wrong-to-right: t1 2/5, t2 3/5, delta 2/5 - 1/5."""
    found = measure([(1, 1, "3", "3"), (0, 1, "4", "3"), (0, 1, None, "3"), (0, 0, "4", "4"), (1, 0, "3", "5")])
    assert {name: round(value, 6) for name, value in found.items() if name != "edit_ratio"} == {
        "accuracy_t1": 0.4, "accuracy_t2": 0.6, "delta": 0.2, "i_to_c": 0.4, "c_to_i": 0.2, "changed": 0.6,
        "rewrite_if_wrong": 0.666667, "rewrite_if_right": 0.5, "right_if_rewritten": 1.0}


@pytest.mark.parametrize("seed", range(20))
def test_metrics_against_a_loop(seed):
    """Swapped names, shares of the wrong whole, c->i for i->c: each is a table that looks fine and is false."""
    rng = random.Random(seed)
    draw = lambda: rng.choice(["1", "2", "3", None])
    rows = [(a == "1", b == "1", a, b) for a, b in ((draw(), draw()) for _ in range(rng.randint(1, 30)))]
    found = measure(rows)
    for name, value in by_hand(rows).items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    assert found["delta"] == pytest.approx(found["i_to_c"] - found["c_to_i"], abs=1e-6)


@pytest.mark.parametrize("rows, empty", [
    ([(1, 1, "3", "3"), (1, 0, "3", "4")], ["rewrite_if_wrong", "right_if_rewritten", "i_to_c"]),
    ([(0, 0, "4", "4"), (0, 0, "5", "5")], ["rewrite_if_right", "right_if_rewritten", "c_to_i", "changed"]),
])
def test_a_condition_that_never_holds_gives_zero(rows, empty):
    """The mean of no rows is nan, and a nan in one step spoils the curve and the report."""
    found = measure(rows)
    assert [found[name] for name in empty] == [0.0] * len(empty)
    assert all(value == value for value in found.values())


def test_of_many_attempts_the_first_and_the_last_count():
    """With three attempts, the middle one is on the way."""
    attempts = [[text(a, "") for a in answers] for answers in (("4", "5", "3"), ("3", "4", "3"))]
    found = metrics(torch.tensor([[0, 0, 1], [1, 0, 1]]), attempts)
    assert (found["accuracy_t1"], found["accuracy_t2"], found["i_to_c"], found["c_to_i"]) == (0.5, 1.0, 0.5, 0.0)
    assert found["changed"] == 0.5 and found["rewrite_if_right"] == 0.0


def test_changed_is_about_the_final_answer_and_edit_ratio_about_the_text():
    """Other words around the same answer are no correction, yet they are edits: "ab" -> "abcd" is 2 of 6 letters."""
    same_answer = metrics(torch.ones(1, 2), [[r"ab\boxed{3}", r"cd\boxed{3}"]])
    assert same_answer["changed"] == 0.0 and same_answer["edit_ratio"] == pytest.approx(2 / 22)
    assert metrics(torch.ones(2, 2), [["ab", "abcd"], ["", ""]])["edit_ratio"] == pytest.approx((2 / 6 + 0) / 2)


@pytest.mark.parametrize("a, b, distance", [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3),
                                            ("abc", "abc", 0), ("ab", "ba", 2), ("a" * 70, "b" + "a" * 70, 1)])
def test_edit_distance_by_eye(a, b, distance):
    """Empty texts and texts longer than a machine word are where bit tricks break."""
    assert edit_distance(a, b) == distance


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.text("abc", max_size=90), st.text("abc", max_size=90))
def test_edit_distance_against_the_table(a, b):
    """The bit-parallel method is fast and opaque; the table is slow and plain. They must agree."""
    assert edit_distance(a, b) == edit_distance(b, a) == table_distance(a, b)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.text(max_size=20), st.text(max_size=20))
def test_edit_distance_of_any_characters(a, b):
    """Model text is any Unicode there is."""
    assert edit_distance(a, b) == table_distance(a, b)
