"""The arithmetic of the evidence: means, intervals, paired differences, what they say of a claim.

    mean_and_half([0.1, 0.2, 0.3])                    # 20.0 and 24.8 points: a 95 % interval
    gap = paired(ours, theirs, "delta")               # mean, standard error, number of runs
    verdict(gap, corrected, sign=1)                   # "confirmed", "not confirmed", ...

What this file is not: it reads no file (evidence.py does). A run's metrics are shares of the
held-out problems, 0 to 1; all that is returned is in points, 0 to 100.
"""

import math
import random
import statistics
from typing import NamedTuple

# The runs of one method: (folder, seed) -> metric -> share of the held-out problems.
Runs = dict[tuple[str, int], dict[str, float]]


def student():
    """Student's t distribution: scipy's, or one line that says how to get it."""
    try:
        from scipy import stats
    except ImportError:
        raise SystemExit('scipy is missing: pip install -e ".[plot]"') from None
    return stats.t


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """Mean of shares and half of its 95 % interval, in points: 100 t s / sqrt(n).

    One value, or nothing to measure (nan, as truthfulness without verdicts), has no interval: nan.
    """
    mean = 100 * statistics.mean(values)
    if len(values) < 2 or math.isnan(mean):
        return mean, math.nan
    t = student().ppf(0.975, len(values) - 1)
    return mean, 100 * t * statistics.stdev(values) / math.sqrt(len(values))


def interval(values: list[float]) -> str:
    """The same in words.

    10, 20, 30 points: standard error 10 / sqrt(3), times 4.30 for 2 degrees of freedom.

    >>> interval([0.1, 0.2, 0.3])
    '20.0 ± 24.8'
    """
    mean, half = mean_and_half(values)
    return f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"


def running_mean(values: list[float], window: int) -> list[float]:
    """At each place the mean of the last `window` values, of fewer at the beginning.

    >>> running_mean([1.0, 3.0, 5.0], window=2)
    [1.0, 2.0, 4.0]
    """
    means = []
    for end in range(1, len(values) + 1):
        last = values[max(0, end - window) : end]
        means.append(sum(last) / len(last))
    return means


def middle_mean(values: list[float]) -> float:
    """The interquartile mean: of the sorted values without the lowest and the highest quarter
    (rounded down), so that one run that fell apart does not decide.

    >>> middle_mean([-50.0, 1.0, 2.0, 3.0, 90.0])
    2.0
    """
    cut = len(values) // 4
    return statistics.mean(sorted(values)[cut : len(values) - cut])


def bootstrap(strata: list[list[float]], draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of the interquartile mean by a stratified bootstrap: every stratum (the
    runs of one folder) is drawn again from itself, with replacement; then all are put together.

    >>> bootstrap([[1.0, 1.0], [1.0]])
    (1.0, 1.0)
    """
    rng = random.Random(0)
    means = []
    for _ in range(draws):
        drawn = []
        for values in strata:
            drawn += rng.choices(values, k=len(values))
        means.append(middle_mean(drawn))
    means.sort()
    return means[round(0.025 * draws)], means[round(0.975 * draws) - 1]


def middle(runs: Runs, metric: str) -> str:
    """Interquartile mean over runs and its interval, in points: "12.1 [10.0, 13.9]"."""
    strata: dict[str, list[float]] = {}
    for (folder, _), metrics in runs.items():
        strata.setdefault(folder, []).append(100 * metrics[metric])
    values = [value for stratum in strata.values() for value in stratum]
    if len(values) < 4:  # no quarter of them is a run
        return ""
    low, high = bootstrap(list(strata.values()))
    return f"{middle_mean(values):.1f} [{low:.1f}, {high:.1f}]"


class Gap(NamedTuple):
    """A difference of two methods over the runs that both have, in points."""

    mean: float
    error: float  # its standard error; both are nan with fewer than two runs
    count: int  # how many runs


def paired(ours: Runs, theirs: Runs, metric: str) -> Gap:
    """Ours - theirs. A pair has one folder and one seed, hence one base model, and what the seed
    moves drops out.

    >>> ours = {("a", 0): {"delta": 0.5}, ("a", 1): {"delta": 0.75}, ("a", 2): {"delta": 0.9}}
    >>> theirs = {("a", 0): {"delta": 0.25}, ("a", 1): {"delta": 0.25}}
    >>> paired(ours, theirs, "delta")           # gaps of 25 and 50 points
    Gap(mean=37.5, error=12.5, count=2)
    """
    gaps = []
    for key in sorted(ours.keys() & theirs.keys()):
        gap = ours[key][metric] - theirs[key][metric]
        gaps.append(100 * gap)
    return gap_of(gaps)


def gap_of(differences: list[float]) -> Gap:
    """Mean, standard error and number of differences."""
    count = len(differences)
    if count < 2:
        return Gap(math.nan, math.nan, count)
    return Gap(statistics.mean(differences), statistics.stdev(differences) / count**0.5, count)


def p_value(gap: Gap) -> float:
    """How often chance alone makes so large a difference, to either side (Student's t test).

    2 standard errors over 5 runs: t = 2 with 4 degrees of freedom.

    >>> round(p_value(Gap(mean=-2.0, error=1.0, count=5)), 3)
    0.116
    """
    if gap.count < 2:
        return math.nan
    if gap.error == 0:
        return 0.0 if gap.mean else 1.0
    return float(2 * student().sf(abs(gap.mean / gap.error), gap.count - 1))


def holm(p_values: list[float]) -> list[float]:
    """P values corrected for their number (Holm): the smallest times n, the next times n - 1, ...,
    none smaller than one before it. nan, of what was not run, stays and does not count.

    >>> holm([0.5, 0.01, 0.03])
    [0.5, 0.03, 0.06]
    """
    order = sorted(i for i, p in enumerate(p_values) if not math.isnan(p))
    order.sort(key=lambda i: p_values[i])
    corrected = list(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def verdict(gap: Gap, corrected: float, sign: int) -> str:
    """What a difference says of a claim: 3 standard errors or more, and a corrected p value below
    0.05, decide.

    >>> verdict(Gap(-6.0, 2.0, 12), 0.01, sign=-1), verdict(Gap(-6.0, 2.0, 12), 0.01, sign=1)
    ('confirmed', 'the other way')
    >>> verdict(Gap(-5.9, 2.0, 12), 0.01, sign=-1), verdict(Gap(-6.0, 2.0, 12), 0.06, sign=-1)
    ('not confirmed', 'not confirmed')
    """
    if gap.count < 2:
        return "not run"
    if abs(gap.mean) < 3 * gap.error or corrected >= 0.05:
        return "not confirmed"
    return "confirmed" if gap.mean * sign > 0 else "the other way"
