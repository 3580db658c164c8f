"""The paper's figures: which numbers are drawn, from small result files made here."""

import csv
import json

import pytest

from extras import evidence, figures

BINS = [5] + [0] * 18 + [5]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of results with two methods of two seeds, three steps each."""
    monkeypatch.setattr(evidence, "RESULTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    shares = dict.fromkeys(evidence.METRICS, 0.5)
    base = {"greedy": shares, "sampled": shares}
    folder = tmp_path / "default"
    folder.mkdir()
    for shift, method in ((0.0, "score"), (0.2, "star")):
        for seed in (0, 1):
            sampled = shares | {"accuracy_t2": 0.6 + shift, "edit_histogram": BINS}
            final = {
                "greedy": shares,
                "sampled": sampled,
                "after_base": {"accuracy_t2": 0.4 + shift + seed / 10},
            }
            config = {"method": method, "seed": seed}
            report = {"config": config, "results": {"base": base, "Stage II": final}}
            (folder / f"{method}-seed{seed}.json").write_text(json.dumps(report))
            with open(folder / f"{method}-seed{seed}.csv", "w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(evidence.LOGGED)
                for step in (1, 2, 3):
                    writer.writerow(["RL", step, shift + step / 10, seed / 10, 1 - step / 10])
    return tmp_path


def test_the_columns_of_a_log_that_figures_need(tmp_path):
    """Catches exchanged columns, and a step that is lost."""
    log = tmp_path / "log.csv"
    log.write_text(
        "unchanged,stage,step,accuracy_t2,accuracy_t1,other\n0.123456,I,1,0.5,0.25,9\n1,II,1,0,1,9\n"
    )
    evidence.copy_columns(log, tmp_path / "small.csv")
    assert (tmp_path / "small.csv").read_text().split() == [
        "stage,step,accuracy_t1,accuracy_t2,unchanged",
        "I,1,0.25,0.5,0.1235",
        "II,1,1,0,1",
    ]


def test_a_mean_curve_by_hand():
    """Catches a mean over seeds of other steps, and a window that looks ahead: seeds 1, 3, 5, 7 and
    3, 5, 7, 9 have the means 2, 4, 6, 8, and of two steps 2, 3, 5, 7."""
    logs = [[{"a": str(1 + 2 * i)} for i in range(4)], [{"a": str(3 + 2 * i)} for i in range(6)]]
    assert figures.mean_curve(logs, "a", window=2) == [2, 3, 5, 7]


def test_metrics_are_of_the_last_stage_and_of_the_kind_asked_for(place):
    """Catches the base model's numbers, and own attempts under the name of the base model's."""
    reports = [report for report, _ in figures.runs_of(place / "default", "score")]
    assert len(reports) == 2
    assert figures.final_metric(reports, "after_base", "accuracy_t2") == pytest.approx(0.45)
    assert figures.final_metric(reports, "sampled", "accuracy_t2") == pytest.approx(0.6)
    assert figures.mean_histogram(reports) == [0.5] + [0] * 18 + [0.5]


def test_every_method_is_drawn_in_each_panel(place, monkeypatch):
    """Catches a curve under another method's name, and "differs" drawn as "is equal"."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    figures.main(["paper"])
    assert (place / "default-figures.png").exists()
    training, differing, after_base, edits = drawn[0].axes
    lines = {line.get_label(): list(line.get_ydata()) for line in differing.get_lines()}
    assert lines["score (2 seeds)"] == pytest.approx([0.1, 0.15, 0.2])
    second = {line.get_label(): list(line.get_ydata()) for line in training.get_lines()}
    assert second["star (2 seeds)"] == pytest.approx([0.05, 0.05, 0.05])
    first = [
        list(line.get_ydata()) for line in training.get_lines() if line.get_linestyle() == "--"
    ]
    assert first[1] == pytest.approx([0.3, 0.35, 0.4])
    heights = [bar.get_height() for bar in after_base.patches]
    assert heights == pytest.approx([45, 60, 65, 80])
    assert len(edits.get_lines()) == 2
    monkeypatch.undo()
    pyplot.close(drawn[0])


@pytest.mark.parametrize(
    "said, named", [("--name nowhere", "nowhere"), ("--methods score,nosuch", "nosuch")]
)
def test_what_is_not_there_is_named(place, capsys, said, named):
    """Catches a committed picture that an empty one replaces."""
    with pytest.raises(SystemExit) as ended:
        figures.main(["paper", *said.split()])
    assert ended.value.code == 2 and named in capsys.readouterr().err
    assert not list(place.glob("*.png"))


def test_a_sick_run_has_a_column_of_its_own(place, monkeypatch, capsys):
    """Catches curves under another run's name."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    with pytest.raises(SystemExit):
        figures.main(["sick"])
    (place / "sick").mkdir()
    for name, level in (("0 healthy", 0.5), ("1 collapse", 0.9)):
        with open(place / "sick" / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["accuracy_t1", "accuracy_t2", "unchanged", "kl_t1"])
            writer.writerow([0.1, 0.2, level, 0.3])
    figures.main(["sick"])
    above, other, below, last = drawn[0].axes
    assert [above.get_title(), other.get_title()] == ["0 healthy", "1 collapse"]
    assert [list(axes.get_lines()[0].get_ydata()) for axes in (below, last)] == [[0.5], [0.9]]
    monkeypatch.undo()
    pyplot.close(drawn[0])
