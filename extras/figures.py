"""The paper's figures, drawn from finished runs without training again.

    python extras/figures.py --name default          # results/default-figures.png

Four panels over the methods of one folder of results/, means over its seeds:
1. accuracy of both attempts on the training problems, over the steps (the paper's Figure 5a);
2. share of second attempts that differ from the first, over the steps (Figure 5b);
3. accuracy of second attempts at the base model's first attempts, and at the method's own, held
   out and sampled (Figure 4);
4. how much of the text changes between the attempts (Figure 3).

What this file is not: it trains nothing, and decides no claim (evidence.py does). It reads what
`evidence.py run` leaves: METHOD-seedN.json, and METHOD-seedN.csv with some columns of log.csv.
"""

import argparse
import csv
import json
import statistics
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "results"
WINDOW = 20  # steps of the running mean


def runs_of(folder: Path, method: str) -> list[tuple[dict, list[dict]]]:
    """The report and the steps of every finished run of a method, by seed."""
    found = []
    for file in sorted(folder.glob(f"{method}-seed*.json")):
        log = file.with_suffix(".csv")
        if log.exists():
            with open(log, newline="") as opened:
                found.append((json.loads(file.read_text()), list(csv.DictReader(opened))))
    return found


def mean_curve(logs: list[list[dict]], column: str, window: int = WINDOW) -> list[float]:
    """A column's mean over runs at each step, and of that the mean over the last `window` steps.

    >>> logs = [[{"a": "1"}, {"a": "3"}], [{"a": "3"}, {"a": "5"}]]
    >>> mean_curve(logs, "a", window=2)
    [2.0, 3.0]
    """
    steps = min(len(log) for log in logs)
    means = []
    for step in range(steps):
        means.append(statistics.mean(float(log[step][column]) for log in logs))
    smooth = []
    for end in range(1, steps + 1):
        smooth.append(statistics.mean(means[max(0, end - window) : end]))
    return smooth


def final_metric(reports: list[dict], kind: str, metric: str) -> float:
    """The mean over runs of a metric after the last stage; kind: sampled, after_base, ..."""
    finals = [list(report["results"].values())[-1] for report in reports]
    return statistics.mean(final[kind][metric] for final in finals)


def mean_histogram(reports: list[dict]) -> list[float]:
    """The shares of problems in each bin of the edit ratio, sampled, after the last stage."""
    histograms = []
    for report in reports:
        final = list(report["results"].values())[-1]
        counts = final["sampled"]["edit_histogram"]
        histograms.append([count / sum(counts) for count in counts])
    return [statistics.mean(column) for column in zip(*histograms)]


def draw(folder: Path, methods: list[str], path: Path):
    """The four panels of these methods."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(12, 8), constrained_layout=True)
    training, differing, after_base, edits = panels.flat
    for place, method in enumerate(methods):
        runs = runs_of(folder, method)
        reports = [report for report, _ in runs]
        logs = [log for _, log in runs]
        colour = f"C{place}"
        label = f"{method} ({len(runs)} seeds)"
        training.plot(mean_curve(logs, "accuracy_t1"), "--", color=colour)
        training.plot(mean_curve(logs, "accuracy_t2"), color=colour, label=label)
        changed = [1 - same for same in mean_curve(logs, "unchanged")]
        differing.plot(changed, color=colour, label=label)
        for shift, kind in ((-0.2, "after_base"), (0.2, "sampled")):
            height = 100 * final_metric(reports, kind, "accuracy_t2")
            hatch = "//" if kind == "after_base" else ""
            after_base.bar(place + shift, height, 0.4, color=colour, hatch=hatch, alpha=0.7)
        shares = mean_histogram(reports)
        lower = [bin / len(shares) for bin in range(len(shares))]
        edits.step(lower, shares, where="post", color=colour, label=label)
    training.set(title="accuracy on training problems (dashed: attempt 1)", xlabel="step")
    differing.set(title="share of second attempts that differ", xlabel="step")
    after_base.set(title="Accuracy@t2, %: hatched, after the base model's attempts; plain, own")
    after_base.set_xticks(range(len(methods)), methods, rotation=20, fontsize=8)
    edits.set(title="share of problems by edit distance / length of both attempts", xlim=(0, 0.6))
    training.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main(argv: list[str] | None = None):
    """Read the command line."""
    parser = argparse.ArgumentParser("figures.py", description=__doc__.split("\n")[0])
    parser.add_argument("--name", default="default", help="folder under results/")
    parser.add_argument("--methods", default="", help="with commas (all that have runs)")
    asked = parser.parse_args(argv)
    folder = RESULTS / asked.name
    there = sorted({file.name.rpartition("-seed")[0] for file in folder.glob("*-seed*.csv")})
    methods = asked.methods.split(",") if asked.methods else there
    missing = [method for method in methods if method not in there]
    if missing or not there:
        parser.error(f"{folder} holds no finished run of {', '.join(missing) or 'any method'}")
    draw(folder, methods, RESULTS / f"{asked.name}-figures.png")
    print(f"{RESULTS / asked.name}-figures.png: {', '.join(methods)}")


if __name__ == "__main__":
    main()
