"""The table of the evidence: its arithmetic by hand, its runs on a tiny model."""
import json
import math
import statistics

import pytest

import evidence
from test_train import TINY


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def result_file(place, method, seed, delta):
    shares = dict.fromkeys(evidence.METRICS, 0.5)
    folder = place / "results" / "default"
    folder.mkdir(parents=True, exist_ok=True)
    stages = {"base": {"greedy": shares | {"delta": 0.0}}, "Stage II": {"greedy": shares | {"delta": delta}}}
    report = {"config": {"method": method, "seed": seed}, "results": stages}
    (folder / f"{method}-seed{seed}.json").write_text(json.dumps(report))


def test_interval_by_hand():
    """10, 20, 30: mean 20, standard error 10 / sqrt(3), Student's 97.5 % point for 2 degrees of freedom 4.30."""
    assert evidence.interval([0.1, 0.2, 0.3]) == "20.0 ± 24.8"
    assert evidence.interval([0.1]) == "10.0"


def test_interval_holds_the_true_mean_95_times_in_100():
    """By simulation: with the normal's 1.96 at five seeds it would be 88 times."""
    import random
    rng, held = random.Random(0), 0
    for _ in range(4000):
        mean, half = evidence.interval([rng.gauss(0.5, 0.1) for _ in range(5)]).split(" ± ")
        held += abs(float(mean) - 50) <= float(half)
    assert 0.935 < held / 4000 < 0.965


def test_table_pairs_by_seed_and_leaves_unfinished_runs_out(place):
    for seed, (ours, theirs) in enumerate([(0.20, 0.10), (0.22, 0.14), (0.15, 0.11)]):
        result_file(place, "score", seed, ours)
        result_file(place, "multi_turn_rl", seed, theirs)
    (place / "out" / "default" / "star-seed0").mkdir(parents=True)
    table = evidence.table("default", "greedy")
    gaps = [-10, -8, -4]
    row = next(line for line in table.splitlines() if "multi_turn_rl" in line)
    assert f"{statistics.mean(gaps):+.1f} (se {statistics.stdev(gaps) / math.sqrt(3):.1f})" in row and "| 3 |" in row
    assert "not finished, not averaged: star-seed0" in table
    assert sum("| Stage II |" in line for line in evidence.seeds_table("default", "greedy").splitlines()) == 6


def test_picture_holds_every_method_of_every_folder(place, monkeypatch):
    from matplotlib.axes import Axes
    drawn, errorbar = [], Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", lambda axes, x, y, yerr, **how: (
        drawn.append((x, y, yerr)), errorbar(axes, x, y, yerr, **how))[1])
    for seed, delta in enumerate([0.1, 0.2, 0.3]):
        result_file(place, "score", seed, delta)
    result_file(place, "star", 0, 0.05)
    evidence.main(["picture"])
    assert drawn == [("score\n(default, n=3)", 20.0, 24.8), ("star\n(default, n=1)", 5.0, 0.0)]
    assert (place / "results" / "deltas.png").stat().st_size > 1000


def test_runs_are_kept_and_not_repeated(place):
    options = [*TINY, "--learning-rate", "1e-3"]
    evidence.run(["score", "multi_turn_rl"], [0], "default", 1, options)
    files = sorted((place / "results" / "default").iterdir())
    assert [file.name for file in files] == ["multi_turn_rl-seed0.json", "score-seed0.json"]
    before = [file.stat().st_mtime_ns for file in files]
    assert "is there already" in evidence.run_one("score", 0, "default", options)
    assert before == [file.stat().st_mtime_ns for file in files]
    assert "status 2" in evidence.run_one("scor", 0, "default", options)
    evidence.main(["run", "--methods", "score", "--seeds", "3-4", "--name", "other", "--", *options])
    assert {file.name for file in (place / "results" / "other").iterdir()} == {"score-seed3.json", "score-seed4.json"}
