"""Methods x seeds: run them, then turn their result files into the tables of results/README.md.

    python extras/evidence.py run --methods score,star --seeds 0-4 --name other -- --careless 0.3
    python extras/evidence.py table        # mean and 95 % interval over seeds; needs no torch
    python extras/evidence.py seeds        # a row per seed and stage
    python extras/evidence.py claims       # the paper's claims, one by one: confirmed or not
    python extras/evidence.py factorial    # {Stage I, none} x {bonus, none}: main effects
    python extras/evidence.py over --name default,careless40 --knobs careless

What this file is not: it trains nothing itself (train.py does, one process a run; what stands after
-- goes to it), draws nothing (figures.py does) and averages only finished runs. A run that was
stopped goes on where it was when the same command is given again; a finished one is not run again.
Result files are small and meant to be committed.

Words: a run is one method with one seed; its folder (`--name`) is where its result file lies under
results/, one folder for each set of options. A way is how held-out problems were answered, greedy
or sampled. A knob is an option whose value differs from folder to folder.
"""

import argparse
import csv
import json
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
if str(REPOSITORY) not in sys.path:  # as a script, without an installation
    sys.path.insert(0, str(REPOSITORY))

from extras.intervals import (
    Gap,
    Runs,
    gap_of,
    holm,
    interval,
    mean_and_half,
    middle,
    p_value,
    paired,
    verdict,
)

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
# Three contrasts, fixed before the seeds that are reported were run: a family of their own.
FIXED = (
    ("plain multi-turn RL's delta is below SCoRe's", "multi_turn_rl", "score", "delta", -1),
    ("Stage I matters", "score", "score_without_stage_one", "delta", 1),
    ("the bonus matters", "score", "score_without_bonus", "delta", 1),
)
# The paper: of which method, compared with which other, which metric is larger (1) or smaller (-1).
# A claim about delta is followed by the same of Accuracy@t2: delta alone can mislead.
CLAIMS = (
    ("1. plain multi-turn RL raises the first attempt", "multi_turn_rl", "base", "accuracy_t1", 1),
    ("and the second", "multi_turn_rl", "base", "accuracy_t2", 1),
    ("but its delta stays below SCoRe's", "multi_turn_rl", "score", "delta", -1),
    ("and so does Accuracy@t2", "multi_turn_rl", "score", "accuracy_t2", -1),
    ("for it copies the first attempt more often", "multi_turn_rl", "score", "changed", -1),
    ("paid for attempt 2 alone, it corrects less", "second_turn_rl", "score", "delta", -1),
    ("and is right less often", "second_turn_rl", "score", "accuracy_t2", -1),
    ("2. supervised methods correct less: STaR", "star", "score", "delta", -1),
    ("and is right less often", "star", "score", "accuracy_t2", -1),
    ("STaR with right-right pairs", "star_plus", "score", "delta", -1),
    ("and is right less often", "star_plus", "score", "accuracy_t2", -1),
    ("Pair-SFT", "pair_sft", "score", "delta", -1),
    ("and is right less often", "pair_sft", "score", "accuracy_t2", -1),
    ("Pair-SFT with right-right pairs", "pair_sft_plus", "score", "delta", -1),
    ("and is right less often", "pair_sft_plus", "score", "accuracy_t2", -1),
    ("they make smaller edits: STaR", "star", "score", "edit_ratio", -1),
    ("Pair-SFT's edits", "pair_sft", "score", "edit_ratio", -1),
    ("and break more right answers: STaR", "star", "score", "c_to_i", 1),
    ("Pair-SFT's broken answers", "pair_sft", "score", "c_to_i", 1),
    ("3. Stage I matters", "score", "score_without_stage_one", "delta", 1),
    ("for Accuracy@t2, too", "score", "score_without_stage_one", "accuracy_t2", 1),
    ("so does the bonus", "score", "score_without_bonus", "delta", 1),
    ("for Accuracy@t2, too", "score", "score_without_bonus", "accuracy_t2", 1),
    ("and REINFORCE rather than STaR in Stage II", "score", "score_star_stage_two", "delta", 1),
    ("for Accuracy@t2, too", "score", "score_star_stage_two", "accuracy_t2", 1),
    ("and first attempts of one's own", "score", "score_offline_first_attempts", "delta", 1),
    ("for Accuracy@t2, too", "score", "score_offline_first_attempts", "accuracy_t2", 1),
    ("4. single-turn RL raises the first attempt", "single_turn_rl", "base", "accuracy_t1", 1),
    ("and corrects less than SCoRe", "single_turn_rl", "score", "delta", -1),
    ("and is right less often", "single_turn_rl", "score", "accuracy_t2", -1),
    ("5. SCoRe corrects more than its base", "score", "base", "i_to_c", 1),
    ("and breaks less", "score", "base", "c_to_i", -1),
)
LOGGED = ("stage", "step", "accuracy_t1", "accuracy_t2", "unchanged")  # of log.csv, for figures.py
# Options in which the runs of one folder may differ: not every method reads them all.
OF_METHODS = (
    "method",
    "seed",
    "stage_one_steps",
    "stage_two_steps",
    "alpha",
    "beta1",
    "beta2",
    "offline_share",
)
# Of the stages in a result file: the first is the base model, the last what the method ends with.
BASE = 0
LAST = -1


class Refused(Exception):
    """What cannot be, in one line for the person who asked."""


# ---- running -------------------------------------------------------------------------------------
RUNNING: list[subprocess.Popen] = []  # ended with this process


def wanted(method: str, seed: int, out: Path, options: list[str]) -> tuple[list[str], dict]:
    """The command line of train.py for one run, and the options that it comes to.

    Raises Refused, with train.py's own words, if there is no such method or option.
    """
    from extras import options as of_run
    from world import BadInput

    arguments = ["--method", method]
    arguments += ["--seed", str(seed)]
    arguments += ["--out", str(out)]
    arguments += options
    try:
        config = of_run.parse(arguments)
    except BadInput as error:
        raise Refused(str(error)) from error
    return arguments, json.loads(json.dumps(config.run_settings()))


def run_one(method: str, seed: int, name: str, options: list[str]) -> str:
    """One run in a process of its own; its result file is copied to results/.

    Returns a line that says how it ended. Raises Refused if the file that is there already is of
    other options, or if the run fails.
    """
    run_name = f"{method}-seed{seed}"
    out = Path("out") / name
    arguments, settings = wanted(method, seed, out, options)
    target = RESULTS / name / f"{run_name}.json"
    if target.exists():
        before = read_report(target)["config"]
        changed = [option for option in settings if not agree(option, before, settings)]
        if changed:
            figures = [f"{option} {before[option]!r}" for option in changed]
            raise Refused(f"{target} is of other options ({', '.join(figures)}): --name another")
        return f"{target} is there already"
    out.mkdir(parents=True, exist_ok=True)
    with open(out / f"{run_name}.log", "a") as log:
        command = [sys.executable, str(REPOSITORY / "train.py"), *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        RUNNING.append(process)
        status = process.wait()
    if status != 0:
        raise Refused(f"{method}, seed {seed}: ended with status {status}, see {log.name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(out / run_name / "results.json", target)
    log = out / run_name / "log.csv"
    if log.exists():  # a run without a step of training has none
        copy_columns(log, target.with_suffix(".csv"))
    return f"{target} written"


def run(methods: list[str], seeds: list[int], name: str, jobs: int, options: list[str]) -> int:
    """All of them, method by method, `jobs` side by side; prints how each ended.

    The first method's runs make the base models that the others share, one for each seed. So runs
    of one seed should not start side by side: there are never more jobs than seeds. Returns how
    many failed. Nothing starts if one of them is asked for wrongly.
    """
    for method in methods:
        wanted(method, seeds[0], Path("out") / name, options)
    pairs = []
    for method in methods:
        for seed in seeds:
            pairs.append((method, seed))

    def run_pair(pair: tuple[str, int]) -> tuple[str, bool]:
        try:
            return run_one(*pair, name, options), True
        except Refused as error:
            return str(error), False

    failed = 0
    with ThreadPoolExecutor(min(jobs, len(seeds))) as pool:
        try:
            for line, is_done in pool.map(run_pair, pairs):
                print(line, flush=True)
                failed += not is_done
        except BaseException:  # Ctrl-C, or a signal: no run outlives this process
            pool.shutdown(wait=False, cancel_futures=True)
            for process in RUNNING:
                process.terminate()
            raise
    return failed


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


# ---- reading -------------------------------------------------------------------------------------
def place(report: dict) -> tuple[str, str, int]:
    """Where a run stands in the tables: by method, folder and seed."""
    config = report["config"]
    return config["method"], report["folder"], config["seed"]


def read_report(file: Path) -> dict:
    """A result file. Raises Refused, saying why, if it is not one."""
    try:
        report = json.loads(file.read_text())
        stages = list(report["results"].values())
        for way in ("greedy", "sampled"):
            for metric in METRICS:
                float(stages[BASE][way][metric] + stages[LAST][way][metric])
        place(report | {"folder": ""})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Refused(f"{file.name} ({type(error).__name__}: {error})") from error
    return report


def read_all(names: str) -> tuple[list[dict], list[str]]:
    """The result files of finished runs in one folder, or in several (with commas), in order; and
    what was left out, and why: damaged files, runs under out/ that have begun and not ended."""
    found = []
    left_out = []
    for name in names.split(","):
        for file in sorted((RESULTS / name).glob("*.json")):
            try:
                found.append(read_report(file) | {"folder": name})
            except Refused as error:
                left_out.append(str(error))
        for folder in sorted(Path("out", name).glob("*-seed*")):
            if folder.is_dir() and not (folder / "results.json").exists():
                left_out.append(f"{folder.name} (not finished)")
    found.sort(key=place)
    refuse_mixtures(found)
    return found, left_out


def refuse_mixtures(found: list[dict]):
    """Raises Refused where the runs of one folder are not of one kind: other options than the seed
    and those of methods, or two base models for one seed (two processors, or two versions of the
    code: the last bits differ, and with them everything after)."""
    firsts: dict[str, dict] = {}
    bases: dict[tuple[str, int], dict] = {}
    for report in found:
        method, folder, seed = place(report)
        if method == "prompt":  # it asks otherwise, so its base model answers otherwise
            continue
        config = report["config"]
        first = firsts.setdefault(folder, config)
        for option in first:
            if option not in OF_METHODS and not agree(option, config, first):
                raise Refused(
                    f"{folder} mixes runs of other options: {option} is {first[option]!r} and"
                    f" {config.get(option)!r} ({method}, seed {seed})"
                )
        of_first = base_of(bases.setdefault((folder, seed), report))
        for way in ("greedy", "sampled"):
            if str(base_of(report)[way]) != str(of_first[way]):  # as text: nan is not nan
                raise Refused(
                    f"{folder} mixes two base models of seed {seed} ({method}'s is another): made"
                    " on another processor, or by another version of the code"
                )


def base_of(report: dict) -> dict:
    """How the base model of a run answered."""
    return next(iter(report["results"].values()))


def reports(names: str) -> list[dict]:
    """The finished runs alone."""
    return read_all(names)[0]


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
    gap = paired(methods[method], methods.get("score", {}), "delta")
    return f"{gap.mean:+.1f} (se {gap.error:.1f})" if gap.count > 1 else ""


def table(names: str, way: str) -> str:
    """A row per method: means and 95 % intervals over seeds, the base model first.

    The last columns are delta's interquartile mean with its bootstrap interval, and the paired
    difference of delta to `score` with its standard error.
    """
    methods = finals(names, way)
    rows = []
    for method, runs in methods.items():
        cells = []
        for metric in METRICS:
            values = [metrics[metric] for metrics in runs.values()]
            cells.append(interval(values))
        last = [middle(runs, "delta"), gap_to_score(method, methods)]
        rows.append([method, str(len(runs)), *cells, *last])
    head = ["method", "seeds", *METRICS, "delta, middle half", "delta minus score's"]
    text = markdown(head, rows)
    left_out = read_all(names)[1]
    if left_out:
        text += f"\n\nleft out: {'; '.join(left_out)}"
    return text


def claims(names: str, way: str) -> str:
    """Each claim of the paper as a paired difference over seeds, and folders if several are named;
    before them the contrasts that were fixed beforehand. Each of the two families is corrected for
    its number by itself. "base" is the base model that the method started from."""
    methods = metrics_of(names, way)
    bases = metrics_of(names, way, BASE)
    families = (("fixed beforehand", FIXED), ("the paper", CLAIMS))
    return "\n\n".join(
        claims_of_family(title, family, methods, bases) for title, family in families
    )


def claims_of_family(title: str, family, methods: dict, bases: dict) -> str:
    """The table of one family of claims."""
    gaps = []
    floors = []
    for _, method, other, metric, sign in family:
        ours = methods.get(method, {})
        theirs = bases.get(method, {}) if other == "base" else methods.get(other, {})
        gaps.append(paired(ours, theirs, metric))
        is_zero = all(metrics[metric] == 0 for metrics in theirs.values())
        floors.append(is_zero and sign < 0 and metric != "delta")  # a share below 0 is none
    testable = [gap if not floor else Gap(0, 0, 0) for gap, floor in zip(gaps, floors)]
    corrected = holm([p_value(gap) for gap in testable])
    rows = []
    for (claim, method, other, metric, sign), gap, floor, p in zip(family, gaps, floors, corrected):
        measured = f"{metric} of {method} minus {other}"
        figures = [f"{gap.mean:+.1f}", f"{gap.error:.1f}", str(gap.count), f"{p:.3f}"]
        said = verdict(gap, p, sign)
        if floor and gap.count > 1:
            said = f"cannot be tested: {other} has none"
        rows.append([claim, measured, *figures, said])
    return markdown([title, "measured", "difference", "se", "runs", "p (Holm)", "verdict"], rows)


# {Stage I, none} x {bonus, none}
CELLS = {
    (1, 1): "score",
    (1, 0): "score_without_bonus",
    (0, 1): "score_without_stage_one",
    (0, 0): "multi_turn_rl",
}


def factorial(names: str, way: str) -> str:
    """The two parts of SCoRe as a 2 x 2 design over the seeds that all four cells have, in points.

    A main effect is the mean of the part's two effects, with and without the other part; the
    interaction is how much larger Stage I's effect is with the bonus than without.
    """
    methods = metrics_of(names, way)
    runs = {cell: methods.get(method, {}) for cell, method in CELLS.items()}
    keys = sorted(set.intersection(*(set(found) for found in runs.values())))
    if len(keys) < 2:
        raise Refused(f"{names}: fewer than two seeds have all of {', '.join(CELLS.values())}")
    rows = []
    for metric in ("delta", "accuracy_t2", "accuracy_t1"):
        effects: dict[str, list[float]] = {"Stage I": [], "the bonus": [], "interaction": []}
        for key in keys:
            y = {cell: 100 * found[key][metric] for cell, found in runs.items()}
            with_bonus = y[1, 1] - y[0, 1]  # what Stage I adds where there is the bonus
            without_bonus = y[1, 0] - y[0, 0]
            effects["Stage I"].append((with_bonus + without_bonus) / 2)
            effects["the bonus"].append((y[1, 1] - y[1, 0] + y[0, 1] - y[0, 0]) / 2)
            effects["interaction"].append(with_bonus - without_bonus)
        for name, values in effects.items():
            gap = gap_of(values)
            figures = [f"{gap.mean:+.1f}", f"{gap.error:.1f}", str(gap.count)]
            rows.append([metric, name, *figures, f"{p_value(gap):.3f}"])
    return markdown(["metric", "effect of", "points", "se", "runs", "p"], rows)


# ---- delta over a knob ---------------------------------------------------------------------------
class Point(NamedTuple):
    """A metric of one method in one folder, over its seeds, in points."""

    mean: float
    half: float  # of the 95 % interval; nan for one seed
    runs: list[float]  # each run's own
    words: str  # mean and interval, the number of seeds, delta's paired difference to `score`


def point(method: str, methods: dict[str, Runs], metric: str = "delta") -> Point:
    """The point of a method among the runs of one folder."""
    values = [metrics[metric] for metrics in methods[method].values()]
    words = f"{interval(values)}, n={len(values)}; {gap_to_score(method, methods)}"
    mean, half = mean_and_half(values)
    return Point(mean, half, [100 * value for value in values], words.strip("; "))


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
    """Whether a folder's options are the first one's, but for the knob, the method, the seed, and
    what follows from the knob: the weights that are kept, from the number of training problems."""
    free = ["method", "seed", knob]
    if knob == "train_problems":
        free.append("keep")
    for option in first:
        if option not in free and not agree(option, config, first):
            return False
    return True


def over(
    names: list[str], way: str, knob: str, asked: list[str], metric: str = "delta"
) -> dict[str, dict]:
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
                points.setdefault(method, {})[value] = point(method, methods, metric)
    return {method: at for method, at in points.items() if len(at) > 1 or not knob}


def in_order(knob: str, points: dict[str, dict]) -> list:
    """The values of the knob, from low to high; 0 training problems are no end of them: last."""
    found = set()
    for at in points.values():
        found |= at.keys()
    return sorted(found, key=lambda value: (knob == "train_problems" and value == 0, value))


def over_table(knob: str, points: dict[str, dict]) -> str:
    """A row per method, a column per value of the knob."""
    values = in_order(knob, points)
    rows = []
    for method, at in points.items():
        cells = [at[value].words if value in at else "" for value in values]
        rows.append([method, *cells])
    return markdown([knob, *map(str, values)], rows)


# ---- the command line ----------------------------------------------------------------------------
def make_parser() -> argparse.ArgumentParser:
    """The options that are ours; those of train.py stand after -- and are not looked at."""
    parser = argparse.ArgumentParser("evidence.py", description=__doc__.split("\n")[0])
    parser.add_argument("do", choices=("run", "table", "seeds", "claims", "factorial", "over"))
    parser.add_argument(
        "--methods", default="", help="of train.py, with commas (run: score; over: all)"
    )
    parser.add_argument("--seeds", default="0-4", help="first-last")
    parser.add_argument(
        "--name", default="default", help="folder under out/ and results/; to read, several"
    )
    parser.add_argument(
        "--jobs", type=int, default=2, help="runs side by side, one CPU thread each"
    )
    ways = ("greedy", "sampled")
    parser.add_argument("--way", choices=ways, default="sampled", help="which evaluation is read")
    parser.add_argument(
        "--knobs", default="", help="over: options in which the folders differ, with commas"
    )
    parser.add_argument("--metric", choices=METRICS, default="delta", help="over: of which metric")
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
    """The seeds from the first to the last. Raises Refused if that is none.

    >>> seeds_of("5-7"), seeds_of("3")
    ([5, 6, 7], [3])
    """
    first, _, last = text.partition("-")
    if not (first.isdigit() and (last or first).isdigit() and int(first) <= int(last or first)):
        raise Refused(f"--seeds {text}: first-last is wanted, such as 0-4")
    return list(range(int(first), int(last or first) + 1))


def check_names(names: list[str], knobs: list[str], methods: list[str]):
    """Refused unless the folders have finished runs, of these methods and with these options."""
    for name in names:
        found, left_out = read_all(name)
        if not found:
            reason = f" (left out: {'; '.join(left_out)})" if left_out else ""
            raise Refused(
                f"--name {name}: {RESULTS / name} holds no result of a finished run{reason}"
            )
    config = reports(names[0])[0]["config"]
    for knob in knobs:
        if knob and knob not in config:
            there = ", ".join(config)
            raise Refused(f"--knobs {knob} is no option of {names[0]}'s runs; there are: {there}")
    there = sorted(finals(",".join(names), "greedy"))
    for method in methods:
        if method not in there:
            raise Refused(f"--methods {method}: no finished run; there are: {', '.join(there)}")


def do(asked: argparse.Namespace, options: list[str]):
    """What the command line asks for."""
    names = asked.name.split(",")
    knobs = asked.knobs.replace("-", "_").split(",")
    methods = asked.methods.split(",") if asked.methods else []
    if asked.do == "run":
        seeds = seeds_of(asked.seeds)
        failed = run(methods or ["score"], seeds, asked.name, max(1, asked.jobs), options)
        if failed:
            raise Refused(f"{failed} of {len(methods or ['score']) * len(seeds)} runs failed")
        return
    check_names(names, knobs, methods)
    if asked.do == "seeds":
        print(seeds_table(asked.name, asked.way))
    elif asked.do == "claims":
        print(claims(asked.name, asked.way))
    elif asked.do == "factorial":
        print(factorial(asked.name, asked.way))
    elif asked.do == "over":
        for knob in knobs:
            points = over(names, asked.way, knob, methods, asked.metric)
            print(over_table(knob, points) + "\n")
    else:
        print(table(asked.name, asked.way))


def main(argv: list[str] | None = None):
    """Read the command line and do it. What cannot be is one line and status 2."""
    own, options = split_at_dashes(sys.argv[1:] if argv is None else argv)
    asked = make_parser().parse_args(own)
    try:
        do(asked, options)
    except Refused as error:
        print(f"evidence.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: children are ended, too
    main()
