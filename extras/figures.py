"""Pictures of finished runs: the paper's figures, and delta by method or over an option.

    python extras/figures.py paper --name default      # results/default-figures.png
    python extras/figures.py deltas --name default     # results/default-deltas.png
    python extras/figures.py map --name default,problems64 --knobs train_problems
    python extras/figures.py sick                      # results/sick.png: runs with a planted bug

paper: four panels over the methods of one folder of results/, means over its seeds:
1. accuracy of both attempts on the training problems, over the steps (the paper's Figure 5a);
2. share of second attempts that differ from the first, over the steps (Figure 5b);
3. accuracy of second attempts at the base model's first attempts, and at the method's own, held
   out and sampled (Figure 4);
4. how much of the text changes between the attempts (Figure 3).
deltas: a metric of every method; each run is a dot, mean and 95 % interval stand beside them.
map: the same over the values of an option that differs between folders.
sick: training curves of the runs in results/sick, a column each (log.csv of a run, under its name).

What this file is not: it trains nothing, and decides no claim (evidence.py does). It reads what
`evidence.py run` leaves: METHOD-seedN.json, and METHOD-seedN.csv with some columns of log.csv.
"""

import argparse
import csv
import json
import math
import statistics
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
if str(REPOSITORY) not in sys.path:  # as a script, without an installation
    sys.path.insert(0, str(REPOSITORY))

from extras import evidence
from extras.intervals import running_mean

WINDOW = 20  # steps of the running mean


def pyplot():
    """matplotlib's drawing functions, for files; or one line that says how to get them."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit('matplotlib is missing: pip install -e ".[plot]"') from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


# ---- the paper's figures -------------------------------------------------------------------------
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
    return running_mean(means, window)


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


def draw_paper(folder: Path, methods: list[str], path: Path):
    """The four panels of these methods."""
    draw = pyplot()
    figure, panels = draw.subplots(2, 2, figsize=(12, 8), constrained_layout=True)
    training, differing, after_base, edits = panels.flat
    for number, method in enumerate(methods):
        runs = runs_of(folder, method)
        reports = [report for report, _ in runs]
        logs = [log for _, log in runs]
        colour = f"C{number}"
        label = f"{method} ({len(runs)} seeds)"
        training.plot(mean_curve(logs, "accuracy_t1"), "--", color=colour)
        training.plot(mean_curve(logs, "accuracy_t2"), color=colour, label=label)
        changed = [1 - same for same in mean_curve(logs, "unchanged")]
        differing.plot(changed, color=colour, label=label)
        for shift, kind in ((-0.2, "after_base"), (0.2, "sampled")):
            height = 100 * final_metric(reports, kind, "accuracy_t2")
            hatch = "//" if kind == "after_base" else ""
            after_base.bar(number + shift, height, 0.4, color=colour, hatch=hatch, alpha=0.7)
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
    draw.close(figure)


# ---- a metric by method, or over an option -------------------------------------------------------
def draw_panel(axes, knob: str, points: dict[str, dict], colours: dict[str, str]):
    """One panel: of each method the mean over the values of the knob with its interval, and every
    run as a dot. The values stand side by side at equal distances."""
    values = evidence.in_order(knob, points)
    for number, (method, at) in enumerate(points.items()):
        colour = colours.get(method)
        shift = 0.06 * (number - len(points) / 2) if knob else 0  # so that methods do not hide
        there = [value for value in values if value in at]
        places = [values.index(value) + shift for value in there]
        means = [at[value].mean for value in there]
        halves = [at[value].half for value in there]
        axes.errorbar(places, means, halves, fmt="o-", capsize=3, label=method, color=colour)
        for place, value in zip(places, there):
            runs = at[value].runs
            axes.plot([place + 0.03] * len(runs), runs, ".", color=colour, alpha=0.4, markersize=4)
    axes.axhline(0, color="grey", linewidth=0.5)
    names = [
        "no end" if knob == "train_problems" and value == 0 else str(value) for value in values
    ]
    axes.set_xticks(range(len(values)), names)
    axes.set_xlabel(knob)
    if not knob:  # the values are names of methods
        axes.tick_params(axis="x", rotation=60, labelsize=8)


def draw_legend(figure, panels):
    """One legend for all panels: each method once."""
    labelled = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        for handle, label in zip(handles, labels):
            labelled[label] = handle
    figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=4)


def draw_map(
    names: list[str], way: str, knobs: list[str], methods: list[str], metric: str, path: Path
):
    """A panel for each knob (one over the methods, without); its table is printed, too."""
    draw = pyplot()
    columns = min(len(knobs), 4)
    rows = math.ceil(len(knobs) / columns)
    size = (6 + 2 * columns, 1.5 + 3.5 * rows)
    figure, grid = draw.subplots(
        rows, columns, figsize=size, sharey=True, squeeze=False, constrained_layout=True
    )
    panels = list(grid.flat)
    colours = {}
    for number, method in enumerate(methods or evidence.finals(names[0], way)):
        colours[method] = f"C{number}"
    for axes, knob in zip(panels, knobs):
        points = evidence.over(names, way, knob, methods, metric)
        draw_panel(axes, knob, points, colours)
        if knob:
            print(evidence.over_table(knob, points) + "\n")
    if any(knobs):
        draw_legend(figure, panels)
    for axes in panels[len(knobs) :]:  # of the last row
        axes.axis("off")
    figure.suptitle(
        f"{metric} on held-out problems, points ({way}; bars: 95 % over the runs, dots)"
    )
    figure.savefig(path, dpi=110)
    draw.close(figure)


# ---- runs with a planted bug ---------------------------------------------------------------------
def draw_sick(files: list[Path], path: Path):
    """A column a run: accuracy of both attempts above; below, share of copies and turn 1's KL."""
    draw = pyplot()
    size = (3 * len(files), 5)
    figure, grid = draw.subplots(2, len(files), figsize=size, sharey="row", constrained_layout=True)
    for file, (above, below) in zip(files, zip(*grid)):
        with open(file, newline="") as opened:
            log = [list(csv.DictReader(opened))]
        above.plot(mean_curve(log, "accuracy_t1"), "--", label="attempt 1")
        above.plot(mean_curve(log, "accuracy_t2"), label="attempt 2")
        below.plot(mean_curve(log, "unchanged"), color="C2", label="copies")
        below.plot(mean_curve(log, "kl_t1"), ":", color="C3", label="KL of turn 1")
        above.set_title(file.stem, fontsize=9)
        below.set(xlabel="step", ylim=(0, 1.5))
    grid[0][0].legend(frameon=False, fontsize=8)
    grid[1][0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=90)
    draw.close(figure)


# ---- the command line ----------------------------------------------------------------------------
def draw(asked: argparse.Namespace):
    """What the command line asks for."""
    if asked.do == "sick":
        files = sorted((evidence.RESULTS / "sick").glob("*.csv"))
        if len(files) < 2:
            raise evidence.Refused(f"{evidence.RESULTS / 'sick'} holds no logs of two runs")
        draw_sick(files, evidence.RESULTS / "sick.png")
        return print(evidence.RESULTS / "sick.png")
    names = asked.name.split(",")
    knobs = asked.knobs.replace("-", "_").split(",")
    methods = asked.methods.split(",") if asked.methods else []
    evidence.check_names(names, knobs, methods)
    endings = {"paper": "figures", "deltas": "deltas", "map": "map"}
    path = evidence.RESULTS / f"{names[0]}-{endings[asked.do]}.png"
    if asked.do == "paper":
        folder = evidence.RESULTS / names[0]
        there = sorted({file.name.rpartition("-seed")[0] for file in folder.glob("*-seed*.csv")})
        missing = [method for method in methods if method not in there]
        if missing or not there:
            absent = ", ".join(missing) or "any method"
            raise evidence.Refused(f"{folder} holds no steps (.csv) of {absent}")
        draw_paper(folder, methods or there, path)
    elif asked.do == "map" and knobs == [""]:
        raise evidence.Refused("map needs --knobs: the options in which the folders differ")
    else:
        draw_map(names, asked.way, knobs, methods, asked.metric, path)
    print(path)


def main(argv: list[str] | None = None):
    """Read the command line. What cannot be is one line and status 2."""
    parser = argparse.ArgumentParser("figures.py", description=__doc__.split("\n")[0])
    parser.add_argument("do", choices=("paper", "deltas", "map", "sick"))
    parser.add_argument("--name", default="default", help="folders under results/, with commas")
    parser.add_argument("--methods", default="", help="with commas (all that have runs)")
    ways = ("greedy", "sampled")
    parser.add_argument("--way", choices=ways, default="sampled", help="which evaluation is drawn")
    parser.add_argument("--knobs", default="", help="map: options in which the folders differ")
    parser.add_argument("--metric", choices=evidence.METRICS, default="delta")
    try:
        draw(parser.parse_args(argv))
    except evidence.Refused as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
