"""The table of the evidence: its arithmetic by hand, its runs on a tiny model."""
import json
import math
import statistics

import pytest

import evidence
import score
from test_train import TINY


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(evidence, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def result_file(place, method, seed, delta, name="default", careless=0.0, base=0.0, **options):
    shares = dict.fromkeys(evidence.METRICS, 0.5)
    folder = place / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    stages = {"base": {"greedy": shares | {"delta": base}}, "Stage II": {"greedy": shares | {"delta": delta}}}
    config = {"method": method, "seed": seed, "careless": careless, **options}
    report = {"config": config, "results": stages}
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


def test_claims_are_decided_by_three_standard_errors(place, monkeypatch):
    """Gaps of -10, -8, -4: mean -7.3, standard error 1.8, so 4.2 standard errors. 3, -1, 2: less than one."""
    claims = [("less than", "star", "score", "delta", -1), ("more than", "star", "score", "delta", 1),
              ("none", "pair_sft", "score", "delta", 1), ("both 0", "star", "base", "c_to_i", 1),
              ("absent", "prompt", "score", "delta", 1), ("one seed", "single_turn_rl", "score", "delta", 1)]
    monkeypatch.setattr(evidence, "CLAIMS", claims)
    for seed, (ours, less, noise) in enumerate([(0.20, 0.10, 0.23), (0.22, 0.14, 0.21), (0.15, 0.11, 0.17)]):
        result_file(place, "score", seed, ours)
        result_file(place, "star", seed, less)
        result_file(place, "pair_sft", seed, noise)
    result_file(place, "single_turn_rl", 0, 0.5)
    rows = [line.split(" | ") for line in evidence.claims("default", "greedy").splitlines()[2:]]
    assert [row[-1].strip(" |") for row in rows] == ["confirmed", "the other way", "not confirmed", "not confirmed",
                                                     "not run", "not run"]
    assert rows[0][2:5] == ["-7.3", "1.8", "3"]


def test_a_claim_against_the_base_is_against_the_method_s_own(place, monkeypatch):
    """On another processor the same seed makes another base model: star's gains are 2, 3, 4 points over its own."""
    monkeypatch.setattr(evidence, "CLAIMS", [("gains", "star", "base", "delta", 1)])
    for seed, gain in enumerate([0.02, 0.03, 0.04]):
        result_file(place, "score", seed, 0.2, base=0.01)
        result_file(place, "star", seed, 0.05 + gain, base=0.05)
        result_file(place, "star_plus", seed, 0.2, base=0.5)
    assert "| +3.0 | 0.6 | 3 | confirmed |" in evidence.claims("default", "greedy")
    assert "| base | 3 |" in evidence.table("default", "greedy")
    assert evidence.finals("default", "greedy")["base"]["default", 0]["delta"] == 0.01  # of the first method, score


def test_claims_over_several_folders_pair_within_each(place, monkeypatch):
    """Gaps of 5 and 6 in one world, 9 and 8 in another, where all is higher: mean 7, standard error 0.9."""
    monkeypatch.setattr(evidence, "CLAIMS", [("more", "score", "star", "delta", 1)])
    for name, seed, ours, theirs in (("a", 0, 0.10, 0.05), ("a", 1, 0.11, 0.05), ("b", 0, 0.50, 0.41),
                                     ("b", 1, 0.49, 0.41), ("b", 2, 0.90, None)):
        result_file(place, "score", seed, ours, name)
        if theirs:
            result_file(place, "star", seed, theirs, name)
    assert "| +7.0 | 0.9 | 4 | confirmed |" in evidence.claims("a,b", "greedy")


def test_claims_are_about_methods_and_metrics_that_exist():
    for _, method, other, metric, sign in evidence.CLAIMS:
        assert {method, other} <= {"base", *score.METHODS} and metric in evidence.METRICS and sign in (-1, 1)


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: (x, y, half of the interval) of every line."""
    from matplotlib.axes import Axes
    lines, errorbar = [], Axes.errorbar
    monkeypatch.setattr(Axes, "errorbar", lambda axes, x, y, yerr, **how: (
        lines.append((how["label"], list(x), list(y), list(yerr))), errorbar(axes, x, y, yerr, **how))[1])
    return lines


def test_picture_holds_every_method(place, drawn):
    for seed, delta in enumerate([0.1, 0.2, 0.3]):
        result_file(place, "score", seed, delta)
    result_file(place, "star", 0, 0.05)
    evidence.main(["picture"])
    assert drawn[1] == ("score", ["score"], [pytest.approx(20)], [pytest.approx(24.83, abs=0.01)])
    assert drawn[2][:3] == ("star", ["star"], [pytest.approx(5)]) and math.isnan(drawn[2][3][0])
    assert (place / "results" / "default-deltas.png").stat().st_size > 1000


def test_picture_over_a_knob_orders_its_values(place, drawn, capsys):
    for name, careless, delta in (("b", 0.4, 0.3), ("a", 0.0, 0.1), ("c", 0.2, 0.2)):
        for seed in range(2):
            result_file(place, "score", seed, delta, name, careless)
    evidence.main(["picture", "--name", "b,a,c", "--knobs", "careless"])
    label, values, means, halves = drawn[-1]
    assert (label, values) == ("score", [0.0, 0.2, 0.4])
    assert means == pytest.approx([10, 20, 30]) and halves == pytest.approx([0, 0, 0])
    assert (place / "results" / "b-map.png").exists()
    assert capsys.readouterr().out.splitlines()[-1] == (
        "| score | 10.0 ± 0.0, n=2 | 20.0 ± 0.0, n=2 | 30.0 ± 0.0, n=2 |")


def test_panels_hold_what_differs_from_the_first_folder_in_their_knob_alone(place, drawn, capsys):
    for name, options in (("a", {"values": 6}), ("b", {"values": 6, "careless": 0.4}), ("c", {"values": 8}),
                          ("d", {"values": 9, "careless": 0.6}), ("old", {"careless": 0.2})):
        result_file(place, "score", 0, 0.1, name, **options)
    result_file(place, "star", 0, 0.1, "a", values=6)
    evidence.main(["picture", "--name", "a,b,c,d,old", "--knobs", "careless,values"])
    assert [(label, x) for label, x, *_ in drawn if label != "base"] == [("score", [0.0, 0.2, 0.4]), ("score", [6, 8])]
    assert (place / "results" / "a-map.png").exists()
    drawn.clear()
    evidence.main(["picture", "--name", "a,b", "--knobs", "careless", "--methods", "score,prompt"])
    assert [label for label, *_ in drawn] == ["score"]


def test_an_unknown_folder_or_knob_is_named(place, capsys):
    result_file(place, "score", 0, 0.1)
    for arguments, named in (("table --name defualt", "--name defualt"), ("claims --name x", "--name x"),
                             ("picture --knobs carless", "--knobs carless"), ("picture --name default,x", "--name x")):
        with pytest.raises(SystemExit) as ended:
            evidence.main(arguments.split())
        assert ended.value.code == 2 and named in capsys.readouterr().err


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
