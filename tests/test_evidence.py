"""The evidence: its arithmetic by hand, its runs on a stand-in for train.py and on a tiny model."""

import json
import math
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from extras import evidence, figures, intervals, options
from test_train import TINY

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of its own for results/ and out/."""
    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_report(place, name, method, seed, stages, **config):
    """A result file: stages is {"base": {"greedy": metrics, "sampled": metrics}, ...}."""
    folder = place / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    report = {"config": {"method": method, "seed": seed, **config}, "results": stages}
    (folder / f"{method}-seed{seed}.json").write_text(json.dumps(report))


def result_file(
    place, method, seed, delta, name="default", careless=0.0, base=0.0, sampled=None, **config
):
    """A result file in which all but delta is 0.5."""
    shares = dict.fromkeys(evidence.METRICS, 0.5)
    greedy = {"base": shares | {"delta": base}, "Stage II": shares | {"delta": delta}}
    other = {"base": shares, "Stage II": shares | {"delta": sampled or delta}}
    stages = {stage: {"greedy": greedy[stage], "sampled": other[stage]} for stage in greedy}
    write_report(place, name, method, seed, stages, careless=careless, **config)


def cells(line):
    """The cells of a line of a Markdown table.

    >>> cells("| a | b |  |")
    ['a', 'b', '']
    """
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


# ---- the arithmetic ------------------------------------------------------------------------------
def test_interval_by_hand():
    """Catches another formula: 10, 20, 30 have mean 20, standard error 10 / sqrt(3), and Student's
    97.5 % point for 2 degrees of freedom is 4.30."""
    assert intervals.interval([0.1, 0.2, 0.3]) == "20.0 ± 24.8"
    assert intervals.interval([0.1]) == "10.0"
    assert intervals.interval([math.nan, math.nan]) == "nan"


def test_interval_holds_the_true_mean_95_times_in_100():
    """Catches an interval that is too tight: with the normal's 1.96 at five seeds it would hold the
    true mean 88 times in 100. By simulation."""
    rng = random.Random(0)
    held = 0
    for _ in range(4000):
        mean, half = intervals.interval([rng.gauss(0.5, 0.1) for _ in range(5)]).split(" ± ")
        held += abs(float(mean) - 50) <= float(half)
    assert 0.935 < held / 4000 < 0.965


@pytest.mark.parametrize(
    "count, t", [(2, 12.706), (3, 4.303), (5, 2.776), (6, 2.571), (16, 2.131), (60, 2.001)]
)
def test_n_values_have_n_minus_1_degrees_of_freedom(count, t):
    """Catches n or n - 2 degrees of freedom, and a standard error with n for n - 1. The values are
    0 and 1 in turn; everything is computed here by sums, with the points of a printed table."""
    values = [float(number % 2) for number in range(count)]
    mean = sum(values) / count
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    found_mean, half = intervals.mean_and_half(values)
    assert found_mean == pytest.approx(100 * mean)
    assert half == pytest.approx(100 * t * math.sqrt(variance / count), rel=3e-4)


def student_share(t, freedom):
    """P(|T| <= t) for Student's T, by the midpoint rule over its density."""
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    pieces = 20_000
    total = 0.0
    for piece in range(pieces):
        x = (piece + 0.5) / pieces * t
        total += (1 + x * x / freedom) ** (-(freedom + 1) / 2)
    return 2 * scale * total * t / pieces


@pytest.mark.parametrize("mean, error, count", [(3.0, 1.0, 2), (-2.5, 1.0, 5), (0.7, 0.2, 12)])
def test_a_p_value_is_what_lies_outside_to_either_side(mean, error, count):
    """Catches a one-sided p value, other degrees of freedom, and a sign that changes it: the oracle
    integrates the density."""
    found = intervals.p_value(intervals.Gap(mean, error, count))
    expected = 1 - student_share(abs(mean / error), count - 1)
    assert found == pytest.approx(expected, abs=1e-6)


def test_p_values_where_there_is_no_spread():
    """Catches a division by 0: runs that differ by the same every time leave no doubt, runs that
    never differ leave all, and one run says nothing."""
    assert intervals.p_value(intervals.Gap(2.0, 0.0, 3)) == 0
    assert intervals.p_value(intervals.Gap(0.0, 0.0, 3)) == 1
    assert math.isnan(intervals.p_value(intervals.Gap(math.nan, math.nan, 1)))


def test_holm_by_its_definition():
    """Catches a step that starts at n - 1, an order that is lost, and values that fall again. The
    oracle is the definition: of p (1) <= p (2) <= ..., the i-th is the largest of
    (n - j + 1) p (j) over j <= i, at most 1."""
    rng = random.Random(0)
    for count in range(1, 8):
        p_values = [rng.random() ** 3 for _ in range(count)]
        order = sorted(p_values)
        expected = []
        for p in p_values:
            steps = [(count - j) * order[j] for j in range(order.index(p) + 1)]
            expected.append(min(1.0, max(steps)))
        assert intervals.holm(p_values) == pytest.approx(expected)
    with_gap = intervals.holm([0.01, math.nan, 0.02])
    assert with_gap[0] == 0.02 and with_gap[2] == 0.02 and math.isnan(with_gap[1])


def test_holm_keeps_false_alarms_of_a_family_below_5_in_100():
    """Catches a correction that is none: of 20 claims without anything behind them, over ten seeds,
    one or more is confirmed in at most 5 % of families; uncorrected it would be 64 %."""
    rng = random.Random(0)
    alarms = 0
    for _ in range(300):
        p_values = []
        for _ in range(20):
            gap = intervals.gap_of([rng.gauss(0, 1) for _ in range(10)])
            p_values.append(intervals.p_value(gap))
        alarms += min(intervals.holm(p_values)) < 0.05
    assert alarms / 300 < 0.09  # 5 % and three standard errors


def test_the_middle_half_by_scipy():
    """Catches another share that is cut off, or one side alone: scipy's trimmed mean."""
    stats = pytest.importorskip("scipy.stats")
    rng = random.Random(0)
    for count in range(1, 20):
        values = [rng.gauss(0, 1) for _ in range(count)]
        assert intervals.middle_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_the_bootstrap_draws_within_each_stratum():
    """Catches a bootstrap over all runs at once. Two folders, 0 and 100 throughout: drawn within
    each, half of every draw is 0 and half 100, so nothing ever moves."""
    assert intervals.bootstrap([[0.0] * 8, [100.0] * 8]) == (50.0, 50.0)
    low, high = intervals.bootstrap([[0.0] * 8 + [100.0] * 8])
    assert low < 30 and high > 70


def test_the_bootstrap_interval_is_scipy_s():
    """Catches wrong percentiles and a share of the runs in each draw."""
    stats = pytest.importorskip("scipy.stats")
    rng = random.Random(1)
    values = [rng.gauss(10, 3) for _ in range(12)]
    theirs = stats.bootstrap(
        (values,), lambda v, axis: stats.trim_mean(v, 0.25, axis=axis), method="percentile"
    ).confidence_interval
    assert intervals.bootstrap([values]) == pytest.approx(tuple(theirs), abs=0.2)


# ---- the paper's claims --------------------------------------------------------------------------
# What the paper says, by the number of the claim; its figures on MATH, where it has them.
PAPER = [
    # Plain multi-turn RL: "both accuracies rise, delta does not: the second attempt copies".
    (1, "multi_turn_rl", "base", "accuracy_t1", 1),
    (1, "multi_turn_rl", "base", "accuracy_t2", 1),
    (1, "multi_turn_rl", "score", "delta", -1),
    (1, "multi_turn_rl", "score", "changed", -1),
    (1, "second_turn_rl", "score", "delta", -1),
    # Supervised methods correct less, make smaller edits and break more right answers.
    (2, "star", "score", "delta", -1),  # -14.2, 4.4
    (2, "star_plus", "score", "delta", -1),  # 0.4, 4.4
    (2, "pair_sft", "score", "delta", -1),  # 1.8, 4.4
    (2, "pair_sft_plus", "score", "delta", -1),  # 0.0, 4.4
    (2, "star", "score", "edit_ratio", -1),
    (2, "pair_sft", "score", "edit_ratio", -1),
    (2, "star", "score", "c_to_i", 1),  # 19.6, 1.4
    (2, "pair_sft", "score", "c_to_i", 1),  # 3.6, 1.4
    # The ablations: each part counts.
    (3, "score", "score_without_stage_one", "delta", 1),  # 4.4, 2.2
    (3, "score", "score_without_bonus", "delta", 1),  # 4.4, 2.6
    (3, "score", "score_star_stage_two", "delta", 1),  # 4.4, 2.2
    (3, "score", "score_offline_first_attempts", "delta", 1),  # 4.4, 0.2
    # Single-turn RL learns the first attempt alone.
    (4, "single_turn_rl", "base", "accuracy_t1", 1),  # 61.8, 52.6
    (4, "single_turn_rl", "score", "delta", -1),  # -2.4, 4.4
    (5, "score", "base", "i_to_c", 1),  # 5.8, 4.6
    (5, "score", "base", "c_to_i", -1),  # 1.4, 15.8
]
MATH = {
    "base": {
        "accuracy_t1": 52.6,
        "accuracy_t2": 41.4,
        "delta": -11.2,
        "i_to_c": 4.6,
        "c_to_i": 15.8,
    },
    "star": {"accuracy_t2": 41.2, "delta": -14.2, "c_to_i": 19.6},
    "star_plus": {"accuracy_t2": 54.0, "delta": 0.4},
    "pair_sft": {"accuracy_t2": 54.2, "delta": 1.8, "c_to_i": 3.6},
    "pair_sft_plus": {"accuracy_t2": 55.0, "delta": 0.0},
    "score": {"accuracy_t2": 64.4, "delta": 4.4, "i_to_c": 5.8, "c_to_i": 1.4},
    "single_turn_rl": {"accuracy_t1": 61.8, "accuracy_t2": 59.4, "delta": -2.4},
    "score_without_stage_one": {"accuracy_t2": 61.4, "delta": 2.2},
    "score_without_bonus": {"accuracy_t2": 62.6, "delta": 2.6},
    "score_star_stage_two": {"accuracy_t2": 58.4, "delta": 2.2},
    "score_offline_first_attempts": {"accuracy_t2": 60.6, "delta": 0.2},
}


def test_every_claim_is_the_paper_s():
    """Catches a claim about another method, another metric, or with the sign turned round; and one
    about delta between two methods that is not followed by the same of Accuracy@t2."""
    found = []
    of_delta = []
    of_accuracy = []
    number = 0
    for words, method, other, metric, sign in evidence.CLAIMS:
        if words[0].isdigit():
            number = int(words.split(".")[0])
        if metric == "accuracy_t2" and other != "base":
            of_accuracy.append((len(found), method, other, sign))
            continue
        found.append((number, method, other, metric, sign))
        if metric == "delta":
            of_delta.append((len(found), method, other, sign))
    assert found == PAPER
    assert of_accuracy == of_delta


def test_the_fixed_contrasts_are_plain_rl_and_the_two_parts():
    """Catches a fourth contrast that was added when the results were known."""
    assert [claim[1:] for claim in evidence.FIXED] == [
        ("multi_turn_rl", "score", "delta", -1),
        ("score", "score_without_stage_one", "delta", 1),
        ("score", "score_without_bonus", "delta", 1),
    ]


def test_the_signs_of_the_claims_are_those_of_the_paper_s_figures():
    """Catches a sign that was copied wrongly into both tables: on MATH the figures point that
    way, every one."""
    against = []
    counted = 0
    for _, method, other, metric, sign in (*evidence.CLAIMS, *evidence.FIXED):
        if metric in MATH.get(method, {}) and metric in MATH.get(other, {}):
            counted += 1
            gap = MATH[method][metric] - MATH[other][metric]
            if gap * sign <= 0:
                against.append((method, other, metric))
    assert counted == 25
    assert against == []


def test_claims_are_about_methods_and_metrics_that_exist():
    """Catches a claim that is for ever "not run" because of a typing error."""
    for _, method, other, metric, sign in (*evidence.CLAIMS, *evidence.FIXED):
        assert {method, other} <= {"base", *options.METHODS}
        assert metric in evidence.METRICS and sign in (-1, 1)


def claim_rows(names="default", way="greedy"):
    """The cells of the claims' table, without those fixed beforehand: what is measured,
    difference, standard error, runs, p, verdict."""
    table = evidence.claims(names, way).split("\n\n")[-1]
    return [cells(row)[1:] for row in table.splitlines()[2:]]


def gaps_of(mean):
    """Twelve gaps, in points, with this mean and the standard error 1, by hand: mean - d and
    mean + d in turn have the variance 12 d^2 / 11, so d = sqrt(11)."""
    return [mean + (-1) ** seed * math.sqrt(11) for seed in range(12)]


@pytest.mark.parametrize(
    "mean, larger, smaller",
    [
        (2.01, "not confirmed", "not confirmed"),
        (2.99, "not confirmed", "not confirmed"),
        (3.01, "confirmed", "the other way"),  # "3 standard errors or more decide"
        (-2.99, "not confirmed", "not confirmed"),
        (-3.01, "the other way", "confirmed"),
    ],
)
def test_three_standard_errors_are_the_edge(place, monkeypatch, mean, larger, smaller):
    """Catches another number of standard errors and a sign that is not looked at: the same figures
    for a claim that says "larger" and one that says "smaller". Over 12 seeds 3 standard errors
    are p = 0.012, twice that for two claims."""
    claims = [("", "star", "score", "delta", 1), ("", "star", "score", "delta", -1)]
    monkeypatch.setattr(evidence, "CLAIMS", claims)
    for seed, gap in enumerate(gaps_of(mean)):
        result_file(place, "star", seed, gap / 100)
        result_file(place, "score", seed, 0.0)
    rows = claim_rows()
    assert [row[-1] for row in rows] == [larger, smaller]
    assert rows[0][1:4] == [f"{mean:+.1f}", "1.0", "12"]


def test_a_claim_is_corrected_for_the_number_of_its_family(place, monkeypatch):
    """Catches a p value that is not corrected, or corrected for claims that were not run. 3.01
    standard errors over 12 seeds are p = 0.012: enough for four claims, not for five."""
    for seed, gap in enumerate(gaps_of(3.01)):
        result_file(place, "star", seed, gap / 100)
        result_file(place, "score", seed, 0.0)
    absent = ("", "prompt", "score", "delta", 1)
    for count, said in ((4, "confirmed"), (5, "not confirmed")):
        claims = [("", "star", "score", "delta", 1)] * count + [absent] * 3
        monkeypatch.setattr(evidence, "CLAIMS", claims)
        rows = claim_rows()
        assert [row[-1] for row in rows] == [said] * count + ["not run"] * 3
        p = 1 - student_share(3.01, 11)
        assert float(rows[0][4]) == pytest.approx(count * p, abs=6e-4)


def test_the_fixed_contrasts_are_a_family_of_their_own(place):
    """Catches three contrasts that are corrected for thirty claims, and the other way round."""
    for seed, gap in enumerate(gaps_of(3.01)):
        result_file(place, "multi_turn_rl", seed, -gap / 100)
        result_file(place, "score", seed, 0.0)
    fixed = evidence.claims("default", "greedy").split("\n\n")[0]
    rows = [cells(row) for row in fixed.splitlines()]
    assert rows[0][0] == "fixed beforehand"
    p = 1 - student_share(3.01, 11)
    assert float(rows[2][5]) == pytest.approx(p, abs=6e-4) and rows[2][6] == "confirmed"
    assert [row[-1] for row in rows[3:]] == ["not run", "not run"]


def test_claims_are_decided_by_three_standard_errors(place, monkeypatch):
    """Catches a verdict that does not follow from the figures beside it. Gaps of -10, -9, -8: mean
    -9, standard error 0.6, so 15.6 standard errors, p = 0.004. 3, -1, 2: less than one."""
    claims = [
        ("less than", "star", "score", "delta", -1),
        ("more than", "star", "score", "delta", 1),
        ("none", "pair_sft", "score", "delta", 1),
        ("both 0", "star", "base", "c_to_i", 1),
        ("absent", "prompt", "score", "delta", 1),
        ("one seed", "single_turn_rl", "score", "delta", 1),
    ]
    monkeypatch.setattr(evidence, "CLAIMS", claims)
    deltas = [(0.20, 0.10, 0.23), (0.22, 0.13, 0.21), (0.15, 0.07, 0.17)]
    for seed, (ours, less, noise) in enumerate(deltas):
        result_file(place, "score", seed, ours)
        result_file(place, "star", seed, less)
        result_file(place, "pair_sft", seed, noise)
    result_file(place, "single_turn_rl", 0, 0.5)
    rows = claim_rows()
    assert [row[-1] for row in rows] == [
        "confirmed",
        "the other way",
        "not confirmed",
        "not confirmed",
        "not run",
        "not run",
    ]
    assert rows[0][1:4] == ["-9.0", "0.6", "3"]


def test_what_cannot_be_lower_is_not_called_unconfirmed(place, monkeypatch):
    """Catches a verdict about a share that cannot fall: greedy, a base model that never changes an
    answer breaks none, so "breaks less" is no question. Against one that breaks some, it is."""
    monkeypatch.setattr(evidence, "CLAIMS", [("breaks less", "score", "base", "c_to_i", -1)])
    shares = dict.fromkeys(evidence.METRICS, 0.5)
    for seed in range(3):
        base = {"greedy": shares | {"c_to_i": 0.0}, "sampled": shares | {"c_to_i": 0.2}}
        last = {"greedy": shares | {"c_to_i": 0.01}, "sampled": shares | {"c_to_i": 0.01}}
        write_report(place, "default", "score", seed, {"base": base, "Stage II": last})
    assert claim_rows()[0][-1] == "cannot be tested: base has none"
    assert claim_rows(way="sampled")[0][-1] == "confirmed"


def test_a_claim_against_the_base_is_against_the_method_s_own(place, monkeypatch):
    """Catches a gain over another folder's base model: star's gains are 2, 3, 4 points over its
    own."""
    monkeypatch.setattr(evidence, "CLAIMS", [("gains", "star", "base", "delta", 1)])
    for seed, gain in enumerate([0.02, 0.03, 0.04]):
        result_file(place, "score", seed, 0.2, "a", base=0.01)
        result_file(place, "star", seed, 0.05 + gain, "b", base=0.05)
    assert claim_rows("a,b")[0][1:4] == ["+3.0", "0.6", "3"]
    base = evidence.finals("a,b", "greedy")["base"]
    assert base["a", 0]["delta"] == 0.01 and base["b", 0]["delta"] == 0.05


def test_claims_over_several_folders_pair_within_each(place, monkeypatch):
    """Catches a pair of two worlds. Gaps of 5 and 6 in one, 9 and 8 in another, where all is
    higher: mean 7, standard error 0.9."""
    monkeypatch.setattr(evidence, "CLAIMS", [("more", "score", "star", "delta", 1)])
    for name, seed, ours, theirs in (
        ("a", 0, 0.10, 0.05),
        ("a", 1, 0.11, 0.05),
        ("b", 0, 0.50, 0.41),
        ("b", 1, 0.49, 0.41),
        ("b", 2, 0.90, None),
    ):
        result_file(place, "score", seed, ours, name)
        if theirs:
            result_file(place, "star", seed, theirs, name)
    assert claim_rows("a,b")[0][1:] == ["+7.0", "0.9", "4", "0.005", "confirmed"]


def test_seeds_that_only_one_method_has_are_dropped(place, monkeypatch):
    """Catches a difference of means where a mean of differences is promised: seeds 0 and 4 have no
    partner and are far off; seeds 1, 2 and 3 differ by 3, 3 and 6 points."""
    monkeypatch.setattr(evidence, "CLAIMS", [("more", "star", "score", "delta", 1)])
    for seed, delta in ((0, 0.9), (1, 0.13), (2, 0.23), (3, 0.26)):
        result_file(place, "star", seed, delta)
    for seed, delta in ((1, 0.10), (2, 0.20), (3, 0.20), (4, 0.7)):
        result_file(place, "score", seed, delta)
    assert claim_rows()[0][1:4] == ["+4.0", "1.0", "3"]
    row = cells(evidence.table("default", "greedy").splitlines()[-1])
    assert row[:2] == ["star", "4"] and row[-1] == "+4.0 (se 1.0)"


def test_the_same_seed_in_two_folders_is_no_pair(place, monkeypatch):
    """Catches pairing by seed alone: one method ran in one world only, the other in another."""
    monkeypatch.setattr(evidence, "CLAIMS", [("more", "star", "score", "delta", 1)])
    for seed in range(3):
        result_file(place, "star", seed, 0.2, "a")
        result_file(place, "score", seed, 0.1, "b")
    assert claim_rows("a,b")[0][1:] == ["+nan", "nan", "0", "nan", "not run"]


def test_the_factorial_by_hand(place):
    """Catches a main effect of one half of the design, an interaction of the wrong sign, and a seed
    that not every cell has. Seed 0: 20 with both, 14 with Stage I alone, 15 with the bonus alone,
    11 with none: Stage I adds 5 and 3, the bonus 6 and 4, and 2 more together. Seed 1: 22, 14, 15,
    11: Stage I adds 7 and 3, the bonus 8 and 4, 4 more together."""
    for seed, both in ((0, 0.20), (1, 0.22)):
        result_file(place, "score", seed, both)
        result_file(place, "score_without_bonus", seed, 0.14)
        result_file(place, "score_without_stage_one", seed, 0.15)
        result_file(place, "multi_turn_rl", seed, 0.11)
    result_file(place, "score", 2, 0.9)
    rows = [cells(row) for row in evidence.factorial("default", "greedy").splitlines()[2:]]
    assert [row[:5] for row in rows[:3]] == [
        ["delta", "Stage I", "+4.5", "0.5", "2"],
        ["delta", "the bonus", "+5.5", "0.5", "2"],
        ["delta", "interaction", "+3.0", "1.0", "2"],
    ]
    p = 1 - student_share(9, 1)
    assert float(rows[0][5]) == pytest.approx(p, abs=6e-4)


# ---- tables by hand ------------------------------------------------------------------------------
# Percent, in the order of METRICS; seeds 5, 6 and 7.
GREEDY_BASE = [
    (50, 48, -2, 2, 4, 10, 1, 97),
    (50, 50, 0, 4, 4, 20, 2, 98),
    (50, 52, 2, 6, 4, 30, 3, 99),
]
GREEDY_LAST = [
    (50, 60, 10, 11, 1, 30, 3, 99),
    (52, 70, 18, 19, 1, 40, 4, 99),
    (54, 80, 26, 27, 1, 50, 5, 96),
]
SAMPLED_BASE = [(41, 44, 3, 12, 9, 60, 7, 95)] * 3
SAMPLED_LAST = [
    (45, 45, 0, 5, 5, 66, 8, 90),
    (45, 47, 2, 6, 4, 66, 8, 90),
    (45, 49, 4, 7, 3, 66, 8, 90),
]


@pytest.fixture
def three_files(place):
    """Seeds 5, 6 and 7 of score, with every figure above in its place."""

    def shares(percents):
        return {metric: percent / 100 for metric, percent in zip(evidence.METRICS, percents)}

    for number in range(3):
        base = {
            "greedy": shares(GREEDY_BASE[number]),
            "sampled": shares(SAMPLED_BASE[number]),
        }
        last = {
            "greedy": shares(GREEDY_LAST[number]),
            "sampled": shares(SAMPLED_LAST[number]),
        }
        between = {"greedy": shares([77] * 8), "sampled": shares([78] * 8)}
        stages = {"base": base, "Stage I": between, "Stage II": last}
        write_report(place, "default", "score", 5 + number, stages)
    return place


def printed(capsys, command):
    """The cells of what a command prints, line by line."""
    evidence.main(command.split())
    return [cells(line) for line in capsys.readouterr().out.splitlines()]


HEAD = "accuracy_t1 accuracy_t2 delta i_to_c c_to_i changed edit_ratio truthful".split()


def test_the_table_by_hand(three_files, capsys):
    """Catches a column that holds another metric, another stage, or the other evaluation. Three
    values a - b, a, a + b: mean a, half of the interval 4.30 b / sqrt(3) = 2.4826 b."""
    rows = printed(capsys, "table --way greedy")
    assert rows[0] == ["method", "seeds", *HEAD, "delta, middle half", "delta minus score's"]
    assert rows[2] == (
        "base | 3 | 50.0 ± 0.0 | 50.0 ± 5.0 | 0.0 ± 5.0 | 4.0 ± 5.0 | 4.0 ± 0.0 | 20.0 ± 24.8"
        " | 2.0 ± 2.5 | 98.0 ± 2.5 |  | "
    ).split(" | ")
    # truthful: 99, 99, 96 have mean 98 and variance 3, so 4.30 sqrt(3) / sqrt(3).
    assert rows[3] == (
        "score | 3 | 52.0 ± 5.0 | 70.0 ± 24.8 | 18.0 ± 19.9 | 19.0 ± 19.9 | 1.0 ± 0.0"
        " | 40.0 ± 24.8 | 4.0 ± 2.5 | 98.0 ± 4.3 |  | "
    ).split(" | ")
    assert len(rows) == 4


def test_the_sampled_table_by_hand(three_files, capsys):
    """Catches a table of the greedy evaluation under the name of the sampled one."""
    rows = printed(capsys, "table --way sampled")
    assert rows[2][2:6] == ["41.0 ± 0.0", "44.0 ± 0.0", "3.0 ± 0.0", "12.0 ± 0.0"]
    assert rows[3][2:6] == ["45.0 ± 0.0", "47.0 ± 5.0", "2.0 ± 5.0", "6.0 ± 2.5"]


def test_the_middle_half_of_a_table_needs_four_runs(place):
    """Catches a middle half of other runs or of another metric: of 1, 10, 20 and 90 points the
    lowest and the highest are left out."""
    for seed, delta in enumerate((0.20, 0.01, 0.90, 0.10)):
        result_file(place, "score", seed, delta)
    row = cells(evidence.table("default", "greedy").splitlines()[-1])
    assert row[-2].startswith("15.0 [") and row[-2].endswith("]")
    low, high = row[-2][6:-1].split(", ")
    assert 1 <= float(low) < 15 < float(high) <= 90
    result_file(place, "star", 0, 0.1)
    assert cells(evidence.table("default", "greedy").splitlines()[-1])[-2] == ""


def test_claims_by_hand(three_files, capsys):
    """Catches a claim that is decided by another metric than it names, or by the other evaluation.
    Greedy, i->c gains 9, 15, 21: mean 15, standard error 6 / sqrt(3), p = 0.049; c->i loses 3
    each time. Sampled, i->c gains -7, -6, -5 and c->i -4, -5, -6: standard error 1 / sqrt(3),
    p = 0.009 and 0.013, the smaller twice for there are two."""
    greedy = {row[0]: row for row in printed(capsys, "claims --way greedy")}
    more = "5. SCoRe corrects more than its base"
    assert greedy[more][1:5] == ["i_to_c of score minus base", "+15.0", "3.5", "3"]
    assert greedy[more][5:] == ["0.049", "confirmed"]
    assert greedy["and breaks less"][1:5] == ["c_to_i of score minus base", "-3.0", "0.0", "3"]
    assert greedy["and breaks less"][5:] == ["0.000", "confirmed"]
    assert greedy["3. Stage I matters"][2:] == ["+nan", "nan", "0", "nan", "not run"]
    sampled = {row[0]: row for row in printed(capsys, "claims")}
    assert sampled[more][2:] == ["-6.0", "0.6", "3", "0.018", "the other way"]
    assert sampled["and breaks less"][2:] == ["-5.0", "0.6", "3", "0.018", "confirmed"]


def test_the_rows_of_seeds_by_hand(three_files, capsys):
    """Catches a row of another seed or stage, and one that is left out."""
    rows = printed(capsys, "seeds --way greedy")
    assert rows[0] == ["method", "seed", "stage", *HEAD]
    assert [row[:3] for row in rows[2:5]] == [
        ["score", "5", "base"],
        ["score", "5", "Stage I"],
        ["score", "5", "Stage II"],
    ]
    assert [row[1] for row in rows[2:]] == ["5", "5", "5", "6", "6", "6", "7", "7", "7"]
    assert rows[2][3:] == "50.0 48.0 -2.0 2.0 4.0 10.0 1.0 97.0".split()
    assert rows[4][3:] == "50.0 60.0 10.0 11.0 1.0 30.0 3.0 99.0".split()
    sampled = printed(capsys, "seeds --way sampled")
    assert sampled[-1][3:] == "45.0 49.0 4.0 7.0 3.0 66.0 8.0 90.0".split()


def test_table_pairs_by_seed_and_leaves_unfinished_runs_out(place):
    """Catches a standard error that is not the paired one, and a run that stands in no table
    without a word."""
    for seed, (ours, theirs) in enumerate([(0.20, 0.10), (0.22, 0.14), (0.15, 0.11)]):
        result_file(place, "score", seed, ours)
        result_file(place, "multi_turn_rl", seed, theirs)
    (place / "out" / "default" / "star-seed0").mkdir(parents=True)
    table = evidence.table("default", "greedy")
    gaps = [-10, -8, -4]
    row = next(line for line in table.splitlines() if "multi_turn_rl" in line)
    error = statistics.stdev(gaps) / math.sqrt(3)
    assert f"{statistics.mean(gaps):+.1f} (se {error:.1f})" in row and "| 3 |" in row
    assert "left out: star-seed0 (not finished)" in table
    seeds = evidence.seeds_table("default", "greedy").splitlines()
    assert sum("| Stage II |" in line for line in seeds) == 6


def test_unfinished_runs_are_folders_without_results(place):
    """Catches a finished run or a log file that is called unfinished."""
    result_file(place, "score", 0, 0.1)
    out = place / "out" / "default"
    for run in ("star-seed1", "star-seed0", "score-seed0", "base-0123456789"):
        (out / run).mkdir(parents=True)
    (out / "score-seed0" / "results.json").write_text("{}")
    (out / "score-seed7.log").write_text("")
    left_out = evidence.read_all("default")[1]
    assert left_out == ["star-seed0 (not finished)", "star-seed1 (not finished)"]
    (out / "star-seed0" / "results.json").write_text("{}")
    (out / "star-seed1" / "results.json").write_text("{}")
    assert "left out" not in evidence.table("default", "greedy")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"config": {"method": "star", "seed": 0}}',
        '{"config": {"method": "star", "seed": 0}, "results": {}}',
        '{"config": {"method": "star", "seed": 0}, "results": {"base": {"greedy": {}}}}',
        '{"config": {"method": "star", "seed": 0}, "results": {"base": 3}}',
        '{"config": {"seed": 0}, "results": {"base": {"greedy": %s, "sampled": %s}}}',
        '{"config": {"method": "star", "seed": 0}, "results": {"base": {"greedy": %s}}}',
    ],
)
def test_a_damaged_result_file_is_left_out_and_said(place, content):
    """Catches a traceback, or a table without a word about what it lacks."""
    shares = json.dumps(dict.fromkeys(evidence.METRICS, 0.5))
    result_file(place, "score", 0, 0.1)
    damaged = place / "results" / "default" / "star-seed0.json"
    damaged.write_text(content.replace("%s", shares))
    table = evidence.table("default", "greedy")
    assert "left out: star-seed0.json (" in table and "| star |" not in table


def test_a_folder_of_two_kinds_is_refused(place):
    """Catches a mean over two worlds, or over two processors: the base models of one seed differ,
    or an option that is not the method's own does."""
    result_file(place, "score", 0, 0.1, careless=0.0)
    result_file(place, "star", 0, 0.1, careless=0.4)
    with pytest.raises(evidence.Refused, match="careless is 0.0 and 0.4 .star, seed 0"):
        evidence.table("default", "greedy")
    result_file(place, "star", 0, 0.1, base=0.01)
    with pytest.raises(evidence.Refused, match="two base models of seed 0 .star's is another"):
        evidence.claims("default", "greedy")
    result_file(place, "star", 0, 0.1, beta1=0.3)
    evidence.table("default", "greedy")


# ---- pictures ------------------------------------------------------------------------------------
@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: (label, names on the x axis, x, y, half of the interval, dots) of every line."""
    from matplotlib.axes import Axes

    lines = []
    errorbar = Axes.errorbar
    plot = Axes.plot

    def watched_bar(axes, x, y, yerr, **how):
        lines.append((how["label"], list(x), list(y), list(yerr), []))
        return errorbar(axes, x, y, yerr, **how)

    def watched_plot(axes, x, y, *style, **how):
        if "." in style:
            lines[-1][-1].append(list(y))
        return plot(axes, x, y, *style, **how)

    monkeypatch.setattr(Axes, "errorbar", watched_bar)
    monkeypatch.setattr(Axes, "plot", watched_plot)
    return lines


def test_picture_holds_every_method_and_every_run(place, drawn):
    """Catches a method or a run that is not drawn, and bars that are not the table's intervals."""
    for seed, delta in enumerate([0.1, 0.2, 0.3]):
        result_file(place, "score", seed, delta, sampled=0.7)
    result_file(place, "star", 0, 0.05)
    figures.main(["deltas", "--way", "greedy"])
    label, x, y, half, dots = drawn[1]
    assert (label, x, y) == ("score", [1], [pytest.approx(20)])
    assert half == [pytest.approx(24.84, abs=0.01)]
    assert dots == [pytest.approx([10, 20, 30])]
    assert drawn[2][:3] == ("star", [2], [pytest.approx(5)])
    assert math.isnan(drawn[2][3][0])
    assert (place / "results" / "default-deltas.png").stat().st_size > 1000
    figures.main(["deltas"])
    assert drawn[4][2] == [pytest.approx(70)]


def test_picture_over_a_knob_orders_its_values(place, drawn, capsys):
    """Catches a line that goes to and fro: folders come in any order, values in theirs."""
    for name, careless, delta in (("b", 0.4, 0.3), ("a", 0.0, 0.1), ("c", 0.2, 0.2)):
        for seed in range(2):
            result_file(place, "score", seed, delta, name, careless)
    figures.main("map --name b,a,c --knobs careless --way greedy".split())
    label, places, means, halves, dots = drawn[-1]
    assert label == "score" and places == sorted(places)
    assert means == pytest.approx([10, 20, 30]) and halves == pytest.approx([0, 0, 0])
    assert dots == [pytest.approx([value, value]) for value in (10, 20, 30)]
    assert (place / "results" / "b-map.png").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| careless | 0.0 | 0.2 | 0.4 |"
    assert lines[3] == "| score | 10.0 ± 0.0, n=2 | 20.0 ± 0.0, n=2 | 30.0 ± 0.0, n=2 |"
    evidence.main("over --name b,a,c --knobs careless --way greedy".split())
    assert capsys.readouterr().out.splitlines() == lines[:-1]


def test_no_end_of_problems_is_more_than_any_number(place, drawn, capsys):
    """Catches a map over the training problems on which none, 0, stands left of 32."""
    for name, count in (("a", 256), ("b", 0), ("c", 32)):
        keep = "best" if count else "last"  # what unsaid follows from it
        result_file(place, "score", 0, count / 1000, name, train_problems=count, keep=keep)
    figures.main("map --name a,b,c --knobs train-problems --way greedy".split())
    assert capsys.readouterr().out.splitlines()[0] == "| train_problems | 32 | 256 | 0 |"
    assert drawn[-1][2] == pytest.approx([3.2, 25.6, 0])


def test_the_words_of_a_map_are_paired_with_score_in_each_folder(place, capsys):
    """Catches a difference to another folder's score, and a cell that stands in another column."""
    for name, careless, base in (("a", 0.0, 0.1), ("b", 0.5, 0.5)):
        for seed, gap in enumerate((0.02, 0.04)):
            result_file(place, "score", seed, base, name, careless)
            result_file(place, "star", seed, base + gap, name, careless)
    for seed in range(2):
        result_file(place, "star", seed, 0.8, "c", 0.7)
    command = "over --name a,b,c --knobs careless --methods score,star --way greedy"
    evidence.main(command.split())
    rows = [cells(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[2] == ["score", "10.0 ± 0.0, n=2", "50.0 ± 0.0, n=2", ""]
    assert rows[3] == [
        "star",
        "13.0 ± 12.7, n=2; +3.0 (se 1.0)",
        "53.0 ± 12.7, n=2; +3.0 (se 1.0)",
        "80.0 ± 0.0, n=2",
    ]


def test_a_map_is_of_the_metric_asked_for(place, capsys):
    """Catches delta under the name of another metric: everything but delta is 0.5."""
    for name, careless in (("a", 0.0), ("b", 0.5)):
        result_file(place, "score", 0, 0.1, name, careless)
    evidence.main("over --name a,b --knobs careless --metric accuracy_t2".split())
    rows = [cells(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[3] == ["score", "50.0, n=1", "50.0, n=1"]


def test_panels_hold_what_differs_from_the_first_folder_in_their_knob_alone(place):
    """Catches a point at which something else than the knob was changed, too."""
    for name, config in (
        ("a", {"values": 6}),
        ("b", {"values": 6, "careless": 0.4}),
        ("c", {"values": 8}),
        ("d", {"values": 9, "careless": 0.6}),
        ("old", {"careless": 0.2}),
    ):
        result_file(place, "score", 0, 0.1, name, **config)
    result_file(place, "star", 0, 0.1, "a", values=6)
    names = ["a", "b", "c", "d", "old"]
    for knob, values in (("careless", [0.0, 0.2, 0.4]), ("values", [6, 8])):
        points = evidence.over(names, "greedy", knob, [])
        assert list(points) == ["base", "score"] and sorted(points["score"]) == values
    assert list(evidence.over(["a", "b"], "greedy", "careless", ["score", "prompt"])) == ["score"]


# What results/README.md gives as the options of the problems without end.
ENDLESS = (
    "--train-problems 0 --author-right-again 0.7 --author-repeats 0.4 --warm-steps 600"
    " --stage-one-steps 60 --stage-two-steps 200 --learning-rate 3e-4 --beta1 0.05"
    " --beta2 0.1"
).split()


def test_an_option_not_given_is_the_same_in_old_and_new_result_files():
    """Catches a new folder that is silently left out of a map, since an older run wrote "" or 0
    where a newer one writes null or what was decided; and two data sets taken for one."""
    path = REPOSITORY / "results" / "endless" / "score-seed5.json"
    committed = json.loads(path.read_text())["config"]
    settings = options.parse([*ENDLESS, "--careless", "0.2"]).run_settings()
    new = json.loads(json.dumps(settings))
    assert evidence.differs_only_in("careless", new, committed)
    assert evidence.differs_only_in("careless", committed, new)
    assert not evidence.differs_only_in("beta1", new, committed)
    assert not evidence.differs_only_in("careless", new | {"data": "math"}, committed)
    assert not evidence.differs_only_in("careless", new | {"max_new_tokens": 20}, new)


def test_an_unknown_folder_or_knob_is_named(place, capsys):
    """Catches an empty table, or a traceback, where a name was mistyped."""
    result_file(place, "score", 0, 0.1)
    for arguments, named in (
        ("table --name defualt", "--name defualt"),
        ("claims --name x", "--name x"),
        ("over --knobs carless", "--knobs carless"),
        ("over --name default,x", "--name x"),
        ("over --methods nosuch", "--methods nosuch"),
        ("factorial", "fewer than two seeds"),
        ("run --seeds 4-1", "--seeds 4-1"),
        ("run --seeds x", "--seeds x"),
        ("run --methods nosuch", "nosuch"),
        ("run --methods score,nosuch", "nosuch"),
        ("run -- --alpha nan", "--alpha nan"),
    ):
        with pytest.raises(SystemExit) as ended:
            evidence.main(arguments.split())
        said = capsys.readouterr().err
        assert ended.value.code == 2 and named in said and said.count("\n") == 1
    assert not (place / "out").exists()


# ---- runs ----------------------------------------------------------------------------------------
STAND_IN = """
import json, pathlib, sys
with open("calls.jsonl", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
print("said by the run")
asked = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if asked["--method"] == "star":
    sys.exit(3)
folder = pathlib.Path(asked["--out"], asked["--method"] + "-seed" + asked["--seed"])
folder.mkdir(parents=True)
metrics = {name: 0.5 for name in %r}
stages = {"base": {"greedy": metrics, "sampled": metrics}}
config = {"method": asked["--method"], "seed": int(asked["--seed"])}
config["careless"] = float(asked.get("--careless", 0))
(folder / "results.json").write_text(json.dumps({"config": config, "results": stages}))
""" % (evidence.METRICS,)


@pytest.fixture
def other_repository(tmp_path, monkeypatch):
    """A repository of its own, with a train.py that only writes down how it was called; the
    working directory is elsewhere."""
    repository = tmp_path / "repository"
    shutil.copytree(REPOSITORY / "extras", repository / "extras")
    for file in REPOSITORY.glob("*.py"):
        shutil.copy(file, repository)
    (repository / "train.py").write_text(STAND_IN)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return repository


def call(repository, command, status=0):
    """What the command prints, as a process of its own that ends with this status."""
    script = str(repository / "extras" / "evidence.py")
    ended = subprocess.run(
        [sys.executable, script, *command.split()], capture_output=True, text=True
    )
    assert ended.returncode == status, ended.stderr
    return ended.stdout.splitlines()


def test_a_run_is_train_py_with_its_method_seed_and_options(other_repository):
    """Catches a method, a seed or an option that does not reach train.py, runs in another order,
    results in another place, and an own option that does."""
    command = "run --methods multi_turn_rl,score --seeds 3-4 --name n --jobs 1 -- --careless 0.3 --verdict"
    lines = call(other_repository, command)
    calls = [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]
    assert calls == [
        ["--method", method, "--seed", seed, "--out", "out/n", "--careless", "0.3", "--verdict"]
        for method, seed in (
            ("multi_turn_rl", "3"),
            ("multi_turn_rl", "4"),
            ("score", "3"),
            ("score", "4"),
        )
    ]
    written = sorted(path.name for path in (other_repository / "results" / "n").iterdir())
    assert written == [
        "multi_turn_rl-seed3.json",
        "multi_turn_rl-seed4.json",
        "score-seed3.json",
        "score-seed4.json",
    ]
    assert [line.split("/")[-1] for line in lines] == [f"{name} written" for name in written]
    assert Path("out/n/score-seed3.log").read_text() == "said by the run\n"


def test_without_methods_and_options_it_is_score_over_five_seeds(other_repository):
    """Catches other defaults: python extras/evidence.py run."""
    call(other_repository, "run")
    calls = [json.loads(line) for line in Path("calls.jsonl").read_text().splitlines()]
    assert sorted(calls) == [
        ["--method", "score", "--seed", str(seed), "--out", "out/default"] for seed in range(5)
    ]


def test_runs_of_one_seed_are_never_side_by_side(monkeypatch):
    """Catches two runs that make the same base model at the same time: with four jobs and two
    seeds, the second method's runs wait until one of the first's has ended."""
    running = []
    most = []

    def run_one(method, seed, name, options):
        running.append(seed)
        most.append(len(running))
        time.sleep(0.02)
        running.remove(seed)
        return f"{method} {seed}"

    monkeypatch.setattr(evidence, "run_one", run_one)
    evidence.run(["score", "star", "pair_sft"], [0, 1], "default", 4, [])
    assert max(most) == 2 and len(most) == 6


def test_a_failed_run_is_named_and_a_finished_one_is_not_made_again(other_repository):
    """Catches a failure that passes for a result, and hours spent twice."""
    lines = call(other_repository, "run --methods star,score --seeds 1", status=2)
    assert lines[0] == "star, seed 1: ended with status 3, see out/default/star-seed1.log"
    assert lines[1].endswith("score-seed1.json written")
    again = call(other_repository, "run --methods star,score --seeds 1", status=2)
    assert again[1].endswith("score-seed1.json is there already")
    assert len(Path("calls.jsonl").read_text().splitlines()) == 3
    log = Path("out/default/star-seed1.log").read_text()
    assert log == "said by the run\n" * 2


def test_a_result_of_other_options_is_not_taken_for_this_one(other_repository):
    """Catches "is there already" of a run with other options: its numbers would stand in the
    table of this one."""
    call(other_repository, "run --seeds 1 -- --careless 0.3")
    again = call(other_repository, "run --seeds 1 -- --careless 0.3")
    assert again[0].endswith("is there already")
    refused = call(other_repository, "run --seeds 1", status=2)
    assert "is of other options (careless 0.3)" in refused[0]
    assert len(Path("calls.jsonl").read_text().splitlines()) == 1


def test_a_killed_evidence_leaves_no_run_behind(other_repository):
    """Catches runs that go on, unseen, after the command that started them was ended."""
    slow = STAND_IN + "\nimport os, time\npathlib.Path('pid').write_text(str(os.getpid()))"
    (other_repository / "train.py").write_text(slow + "\ntime.sleep(60)\n")
    script = str(other_repository / "extras" / "evidence.py")
    process = subprocess.Popen([sys.executable, script, "run", "--seeds", "1"])
    deadline = time.time() + 60
    while not Path("pid").exists() and time.time() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)  # for the file's content
    child = int(Path("pid").read_text())
    process.terminate()
    process.wait(30)
    while Path(f"/proc/{child}").exists() and time.time() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_tables_are_of_the_repository_wherever_one_stands(other_repository):
    """Catches results looked for in the working directory, or beside evidence.py."""
    call(other_repository, "run --seeds 7 --jobs 1")
    elsewhere = call(other_repository, "table")
    assert "| score | 1 | 50.0 |" in elsewhere[-1]
    relative = subprocess.run(
        [sys.executable, "extras/evidence.py", "table"],
        cwd=other_repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert relative.stdout.splitlines() == elsewhere


def test_it_needs_no_torch():
    """Catches an import that makes a table wait for torch, or fail where there is none."""
    code = (
        "import sys; sys.path.insert(0, 'extras'); import evidence;"
        " evidence.main(['table', '--name', 'endless']);"
        " evidence.main(['claims', '--name', 'endless']);"
        " print({'torch', 'train', 'matplotlib'} & set(sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "set()"


def test_runs_are_kept_and_not_repeated(place):
    """Catches a train.py that does not understand how it is called: real runs of a tiny model."""
    tiny = [*TINY, "--learning-rate", "1e-3"]
    evidence.run(["score", "multi_turn_rl"], [0], "default", 1, tiny)
    files = sorted((place / "results" / "default").glob("*.json"))
    assert len(list((place / "results" / "default").glob("*.csv"))) == 2  # for figures.py
    assert [file.name for file in files] == ["multi_turn_rl-seed0.json", "score-seed0.json"]
    before = [file.stat().st_mtime_ns for file in files]
    assert "is there already" in evidence.run_one("score", 0, "default", tiny)
    with pytest.raises(evidence.Refused, match="of other options .careless 0.0."):
        evidence.run_one("score", 0, "default", [*tiny, "--careless", "0.2"])
    assert before == [file.stat().st_mtime_ns for file in files]
    with pytest.raises(evidence.Refused, match="scor"):
        evidence.run_one("scor", 0, "default", tiny)
    evidence.main(["run", "--methods", "score", "--seeds", "3-4", "--name", "other", "--", *tiny])
    names = {file.name for file in (place / "results" / "other").glob("*.json")}
    assert names == {"score-seed3.json", "score-seed4.json"}
