"""Methods x seeds: run them, then turn their result files into the tables of results/README.md.

    python extras/evidence.py run --methods score,star --seeds 0-4 --name other -- --careless 0.3
    python extras/evidence.py table        # mean and 95 % interval over seeds; needs no torch
    python extras/evidence.py seeds        # a row per seed and stage
    python extras/evidence.py claims       # the paper's claims, one by one: confirmed or not
    python extras/evidence.py picture --name default,careless40 --knobs careless

What this file is not: it trains nothing itself (train.py does, one process a run; what stands after
-- goes to it) and averages only finished runs. A run that was stopped goes on where it was when the
same command is given again; a finished one is not run again. Result files are small and meant to be
committed.

Words: a run is one method with one seed; its folder (`--name`) is where its result file lies under
results/, one folder for each set of options. A way is how held-out problems were answered, greedy
or sampled. A knob is an option whose value differs from folder to folder.
"""

import argparse
import csv
import json
import math
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "results"
METRICS = (
    "accuracy_t1",
    "accuracy_t2",
    "delta",
    "i_to_c",
    "c_to_i",
    "changed",
    "edit_ratio",
    "truthful",
)
# 97.5 % points of Student's t for 1, 2, ... degrees of freedom; beyond them the normal's, 1.96.
STUDENT = (
    12.71,
    4.30,
    3.18,
    2.78,
    2.57,
    2.45,
    2.36,
    2.31,
    2.26,
    2.23,
    2.20,
    2.18,
    2.16,
    2.14,
    2.13,
)
# The paper: of which method, compared with which other, which metric is larger (1) or smaller (-1).
CLAIMS = (
    ("1. plain multi-turn RL raises the first attempt", "multi_turn_rl", "base", "accuracy_t1", 1),
    ("and the second", "multi_turn_rl", "base", "accuracy_t2", 1),
    ("but its delta stays below SCoRe's", "multi_turn_rl", "score", "delta", -1),
    ("for it copies the first attempt more often", "multi_turn_rl", "score", "changed", -1),
    ("2. supervised methods correct less: STaR", "star", "score", "delta", -1),
    ("STaR with right-right pairs", "star_plus", "score", "delta", -1),
    ("Pair-SFT", "pair_sft", "score", "delta", -1),
    ("Pair-SFT with right-right pairs", "pair_sft_plus", "score", "delta", -1),
    ("they make smaller edits: STaR", "star", "score", "edit_ratio", -1),
    ("Pair-SFT's edits", "pair_sft", "score", "edit_ratio", -1),
    ("and break more right answers: STaR", "star", "score", "c_to_i", 1),
    ("Pair-SFT's broken answers", "pair_sft", "score", "c_to_i", 1),
    ("3. Stage I matters", "score", "score_without_stage_one", "delta", 1),
    ("so does the bonus", "score", "score_without_bonus", "delta", 1),
    ("and REINFORCE rather than STaR in Stage II", "score", "score_star_stage_two", "delta", 1),
    ("and first attempts of one's own", "score", "score_offline_first_attempts", "delta", 1),
    ("4. single-turn RL raises the first attempt", "single_turn_rl", "base", "accuracy_t1", 1),
    ("and lowers delta", "single_turn_rl", "base", "delta", -1),
    ("5. SCoRe corrects more", "score", "base", "i_to_c", 1),
    ("and breaks less", "score", "base", "c_to_i", -1),
)
LOGGED = ("stage", "step", "accuracy_t1", "accuracy_t2", "unchanged")  # of log.csv, for figures.py
# Of the stages in a result file: the first is the base model, the last what the method ends with.
BASE = 0
LAST = -1
# The runs of one method: (folder, seed) -> metric -> share of the held-out problems.
Runs = dict[tuple[str, int], dict[str, float]]


# ---- running -------------------------------------------------------------------------------------
def run_one(method: str, seed: int, name: str, options: list[str]) -> str:
    """One run in a process of its own; its result file is copied to results/.

    Returns a line that says how it ended.
    """
    run_name = f"{method}-seed{seed}"
    target = RESULTS / name / f"{run_name}.json"
    if target.exists():
        return f"{target} is there already"
    out = Path("out") / name
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(REPOSITORY / "train.py")]
    command += ["--method", method]
    command += ["--seed", str(seed)]
    command += ["--out", str(out)]
    command += options
    with open(out / f"{run_name}.log", "a") as log:
        ended = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    if ended.returncode != 0:
        return f"{method}, seed {seed}: ended with status {ended.returncode}, see {log.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(out / run_name / "results.json", target)
    log = out / run_name / "log.csv"
    if log.exists():  # a run without a step of training has none
        copy_columns(log, target.with_suffix(".csv"))
    return f"{target} written"


def run(methods: list[str], seeds: list[int], name: str, jobs: int, options: list[str]):
    """All of them, method by method, `jobs` side by side; prints how each ended.

    The first method's runs make the base models that the others share, one for each seed. So runs
    of one seed should not start side by side: there are never more jobs than seeds.
    """
    pairs = []
    for method in methods:
        for seed in seeds:
            pairs.append((method, seed))

    def run_pair(pair: tuple[str, int]) -> str:
        return run_one(*pair, name, options)

    with ThreadPoolExecutor(min(jobs, len(seeds))) as pool:
        for line in pool.map(run_pair, pairs):
            print(line, flush=True)


def copy_columns(log: Path, target: Path):
    """The columns of a run's log.csv that figures.py draws, with four digits."""
    with open(log, newline="") as file:
        rows = list(csv.DictReader(file))
    with open(target, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(LOGGED)
        for row in rows:
            numbers = [f"{float(row[name]):.4g}" for name in LOGGED[2:]]
            writer.writerow([row["stage"], row["step"], *numbers])


# ---- the arithmetic ------------------------------------------------------------------------------
def student(count: int) -> float:
    """Student's t for the mean of `count` values: count - 1 degrees of freedom.

    >>> student(2), student(5), student(100)
    (12.71, 2.78, 1.96)
    """
    freedom = count - 1
    return STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """Mean of shares and half of its 95 % interval, in points: 100 t s / sqrt(n).

    One value, or nothing to measure (nan, as truthfulness without verdicts), has no interval: nan.
    """
    mean = 100 * statistics.mean(values)
    if len(values) < 2 or math.isnan(mean):
        return mean, math.nan
    t = student(len(values))
    return mean, 100 * t * statistics.stdev(values) / math.sqrt(len(values))


def interval(values: list[float]) -> str:
    """The same in words.

    10, 20, 30 points: standard error 10 / sqrt(3), times 4.30 for 2 degrees of freedom.

    >>> interval([0.1, 0.2, 0.3])
    '20.0 ± 24.8'
    """
    mean, half = mean_and_half(values)
    return f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"


def paired(ours: Runs, theirs: Runs, metric: str) -> tuple[float, float, int]:
    """Mean over the runs that both have of ours - theirs, its standard error, and how many runs.

    Both figures are in points; with fewer than two pairs they are nan. A pair has one folder and
    one seed, hence one base model (nearly: see `claims`), and what the seed moves drops out.

    >>> ours = {("a", 0): {"delta": 0.5}, ("a", 1): {"delta": 0.75}, ("a", 2): {"delta": 0.9}}
    >>> theirs = {("a", 0): {"delta": 0.25}, ("a", 1): {"delta": 0.25}}
    >>> paired(ours, theirs, "delta")           # gaps of 25 and 50 points
    (37.5, 12.5, 2)
    """
    gaps = []
    for key in sorted(ours.keys() & theirs.keys()):
        gap = ours[key][metric] - theirs[key][metric]
        gaps.append(100 * gap)
    if len(gaps) < 2:
        return math.nan, math.nan, len(gaps)
    error = statistics.stdev(gaps) / math.sqrt(len(gaps))
    return statistics.mean(gaps), error, len(gaps)


def verdict(mean: float, error: float, count: int, sign: int) -> str:
    """What a paired difference says of a claim: 3 standard errors or more decide.

    >>> verdict(-6.0, 2.0, 5, sign=-1), verdict(-6.0, 2.0, 5, sign=1), verdict(-5.9, 2.0, 5, sign=1)
    ('confirmed', 'the other way', 'not confirmed')
    """
    if count < 2:
        return "not run"
    # subtle: two methods that never differ have mean 0 and error 0, and that decides nothing.
    if abs(mean) < 3 * error or mean == 0:
        return "not confirmed"
    return "confirmed" if mean * sign > 0 else "the other way"


# ---- reading -------------------------------------------------------------------------------------
def place(report: dict) -> tuple[str, str, int]:
    """Where a run stands in the tables: by method, folder and seed."""
    config = report["config"]
    return config["method"], report["folder"], config["seed"]


def reports(names: str) -> list[dict]:
    """The result files of finished runs in one folder, or in several (with commas), in order."""
    found = []
    for name in names.split(","):
        for file in (RESULTS / name).glob("*.json"):
            report = json.loads(file.read_text())
            found.append(report | {"folder": name})
    return sorted(found, key=place)


def metrics_of(names: str, way: str, stage: int = LAST) -> dict[str, Runs]:
    """method -> its runs, as they are after the last stage or, with BASE, before the first."""
    methods: dict[str, Runs] = {}
    for report in reports(names):
        method, folder, seed = place(report)
        stages = list(report["results"].values())
        runs = methods.setdefault(method, {})
        runs[folder, seed] = stages[stage][way]
    return methods


def finals(names: str, way: str) -> dict[str, Runs]:
    """The same behind a row "base": of each seed the base model of the first method that has it."""
    base: Runs = {}
    for runs in metrics_of(names, way, BASE).values():
        for key, metrics in runs.items():
            base.setdefault(key, metrics)
    return {"base": base} | metrics_of(names, way)


def unfinished(names: str) -> list[str]:
    """The runs under out/ that have begun and not ended."""
    found = []
    for name in names.split(","):
        for folder in Path("out", name).glob("*-seed*"):
            if folder.is_dir() and not (folder / "results.json").exists():
                found.append(folder.name)
    return sorted(found)


# ---- tables --------------------------------------------------------------------------------------
def line(cells: list[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table.

    >>> print(markdown(["seed", "delta"], [["0", "20.0"]]))
    | seed | delta |
    |---|---|
    | 0 | 20.0 |
    """
    rule = "|---" * len(head) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def seeds_table(names: str, way: str) -> str:
    """A row per method, seed and stage."""
    rows = []
    for report in reports(names):
        method, _, seed = place(report)
        for stage, result in report["results"].items():
            metrics = result[way]
            cells = [f"{100 * metrics[metric]:.1f}" for metric in METRICS]
            rows.append([method, str(seed), stage, *cells])
    return markdown(["method", "seed", "stage", *METRICS], rows)


def gap_to_score(method: str, methods: dict[str, Runs]) -> str:
    """The paired difference of a method's delta to score's: "+3.9 (se 1.1)"; "" without a pair."""
    if method in ("score", "base"):
        return ""
    score = methods.get("score", {})
    mean, error, count = paired(methods[method], score, "delta")
    return f"{mean:+.1f} (se {error:.1f})" if count > 1 else ""


def table(names: str, way: str) -> str:
    """A row per method: means and 95 % intervals over seeds, the base model first.

    The last column is the paired difference of delta to `score` with its standard error.
    """
    methods = finals(names, way)
    rows = []
    for method, runs in methods.items():
        cells = []
        for metric in METRICS:
            values = [metrics[metric] for metrics in runs.values()]
            cells.append(interval(values))
        rows.append([method, str(len(runs)), *cells, gap_to_score(method, methods)])
    text = markdown(["method", "seeds", *METRICS, "delta minus score's"], rows)
    left_out = unfinished(names)
    if left_out:
        text += f"\n\nnot finished, not averaged: {', '.join(left_out)}"
    return text


def claims(names: str, way: str) -> str:
    """Each claim of the paper as a paired difference over seeds, and folders if several are named.

    "base" is the base model that the method itself started from: the last bits, and with them the
    base model of a seed, can differ between runs that were made on different processors.
    """
    methods = metrics_of(names, way)
    bases = metrics_of(names, way, BASE)
    rows = []
    for claim, method, other, metric, sign in CLAIMS:
        ours = methods.get(method, {})
        theirs = bases.get(method, {}) if other == "base" else methods.get(other, {})
        mean, error, count = paired(ours, theirs, metric)
        measured = f"{metric} of {method} minus {other}"
        figures = [f"{mean:+.1f}", f"{error:.1f}", str(count)]
        rows.append([claim, measured, *figures, verdict(mean, error, count, sign)])
    return markdown(["the paper", "measured", "difference", "se", "runs", "verdict"], rows)


# ---- delta over a knob ---------------------------------------------------------------------------
class Point(NamedTuple):
    """Delta of one method in one folder, over its seeds, in points."""

    mean: float
    half: float  # of the 95 % interval; nan for one seed
    words: str  # both, with the number of seeds and the paired difference to `score`


def point(method: str, methods: dict[str, Runs]) -> Point:
    """The point of a method among the runs of one folder."""
    deltas = [metrics["delta"] for metrics in methods[method].values()]
    words = f"{interval(deltas)}, n={len(deltas)}; {gap_to_score(method, methods)}"
    mean, half = mean_and_half(deltas)
    return Point(mean, half, words.strip("; "))


def agree(option: str, config: dict, first: dict) -> bool:
    """Whether two runs have the same value of an option.

    An option that an older run did not have yet is no difference. One that was not given is null in
    a result file, in older ones "" or 0; of max_new_tokens newer ones have what was decided.
    """
    theirs = first[option]
    ours = config.get(option, theirs)
    if option == "max_new_tokens" and 0 in (ours, theirs):
        return True
    return (ours or None) == (theirs or None)


def differs_only_in(knob: str, config: dict, first: dict) -> bool:
    """Whether a folder's options are the first one's, but for the knob, the method and the seed."""
    for option in first:
        if option not in ("method", "seed", knob) and not agree(option, config, first):
            return False
    return True


def over(names: list[str], way: str, knob: str, asked: list[str]) -> dict[str, dict]:
    """method -> value of the knob -> its Point, for the methods asked for (all, if none is).

    Folders that differ from the first in another option are left out, and methods with one point.
    Without a knob: every method of the first folder, over its own name.
    """
    points: dict[str, dict] = {}
    first = reports(names[0])[0]["config"]
    for name in names if knob else names[:1]:
        config = reports(name)[0]["config"]
        if not differs_only_in(knob, config, first):
            continue
        methods = finals(name, way)
        for method in asked or methods:
            if method in methods:
                value = config.get(knob, first.get(knob, method))
                points.setdefault(method, {})[value] = point(method, methods)
    return {method: at for method, at in points.items() if len(at) > 1 or not knob}


def over_table(knob: str, points: dict[str, dict]) -> str:
    """A row per method, a column per value of the knob."""
    found = set()
    for at in points.values():
        found |= at.keys()
    values = sorted(found)
    rows = []
    for method, at in points.items():
        cells = [at[value].words if value in at else "" for value in values]
        rows.append([method, *cells])
    return markdown([knob, *map(str, values)], rows)


def draw_panel(axes, knob: str, points: dict[str, dict], colours: dict[str, str]):
    """One panel: a line per method over the values of the knob, with bars."""
    for method, at in points.items():
        values = sorted(at)
        means = [at[value].mean for value in values]
        halves = [at[value].half for value in values]
        colour = colours.get(method)
        axes.errorbar(values, means, halves, fmt="o-", capsize=3, label=method, color=colour)
    axes.axhline(0, color="grey", linewidth=0.5)
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


def picture(names: list[str], way: str, knobs: list[str], methods: list[str], path: Path):
    """Delta, mean and 95 % interval over seeds, of every method or, with knobs, over their values.

    There is a panel for each knob; what it shows is printed as a table, too.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(len(knobs), 4)
    rows = math.ceil(len(knobs) / columns)
    size = (6 + 2 * columns, 1.5 + 3 * rows)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=size, sharey=True, squeeze=False, constrained_layout=True
    )
    panels = list(grid.flat)
    colours = {}
    for number, method in enumerate(methods or finals(names[0], way)):
        colours[method] = f"C{number}"
    for axes, knob in zip(panels, knobs):
        points = over(names, way, knob, methods)
        draw_panel(axes, knob, points, colours)
        if knob:
            print(over_table(knob, points))
    if any(knobs):
        draw_legend(figure, panels)
    for axes in panels[len(knobs) :]:  # of the last row
        axes.axis("off")
    figure.suptitle(f"delta on held-out problems, points ({way}; bars: 95 % over seeds)")
    figure.savefig(path, dpi=110)


# ---- the command line ----------------------------------------------------------------------------
def make_parser() -> argparse.ArgumentParser:
    """The options that are ours; those of train.py stand after -- and are not looked at."""
    parser = argparse.ArgumentParser("evidence.py", description=__doc__.split("\n")[0])
    parser.add_argument("do", choices=("run", "table", "seeds", "claims", "picture"))
    parser.add_argument(
        "--methods", default="", help="of train.py, with commas (run: score; picture: all)"
    )
    parser.add_argument("--seeds", default="0-4", help="first-last")
    parser.add_argument(
        "--name", default="default", help="folder under out/ and results/; to read, several"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="runs side by side, one CPU thread each"
    )
    ways = ("greedy", "sampled")
    parser.add_argument("--way", choices=ways, default="greedy", help="which evaluation is read")
    parser.add_argument(
        "--knobs", default="", help="picture: options in which the folders differ, with commas"
    )
    return parser


def split_at_dashes(argv: list[str]) -> tuple[list[str], list[str]]:
    """What stands before -- and what stands after it.

    >>> split_at_dashes(["run", "--seeds", "0-4", "--", "--careless", "0.3"])
    (['run', '--seeds', '0-4'], ['--careless', '0.3'])
    """
    if "--" not in argv:
        return argv, []
    dashes = argv.index("--")
    return argv[:dashes], argv[dashes + 1 :]


def seeds_of(text: str) -> list[int]:
    """The seeds from the first to the last.

    >>> seeds_of("5-7"), seeds_of("3")
    ([5, 6, 7], [3])
    """
    first, _, last = text.partition("-")
    return list(range(int(first), int(last or first) + 1))


def main(argv: list[str] | None = None):
    """Read the command line and do it."""
    own, options = split_at_dashes(sys.argv[1:] if argv is None else argv)
    parser = make_parser()
    asked = parser.parse_args(own)
    names = asked.name.split(",")
    knobs = asked.knobs.replace("-", "_").split(",")
    methods = asked.methods.split(",") if asked.methods else []
    if asked.do == "run":
        return run(methods or ["score"], seeds_of(asked.seeds), asked.name, asked.jobs, options)
    for name in names:
        if not reports(name):
            parser.error(f"--name {name}: {RESULTS / name} holds no result of a finished run")
    known = reports(names[0])[0]["config"]
    for knob in knobs:
        if knob and knob not in known:
            there = ", ".join(known)
            parser.error(f"--knobs {knob} is no option of {names[0]}'s runs; there are: {there}")
    if asked.do == "picture":
        kind = "map" if asked.knobs else "deltas"
        picture(names, asked.way, knobs, methods, RESULTS / f"{names[0]}-{kind}.png")
    elif asked.do == "seeds":
        print(seeds_table(asked.name, asked.way))
    elif asked.do == "claims":
        print(claims(asked.name, asked.way))
    else:
        print(table(asked.name, asked.way))


if __name__ == "__main__":
    main()
