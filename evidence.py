"""Methods x seeds: run them, then turn their result files into the README's table.

    python evidence.py run --methods score,multi_turn_rl --seeds 0-4 --name other -- --careless 0.3
    python evidence.py table                # mean and 95 % interval over seeds, from results/: no training, no torch
    python evidence.py seeds                # a row per seed and stage
    python evidence.py claims               # the paper's claims, one by one: confirmed, not confirmed, the other way
    python evidence.py picture --name default,careless40 --knobs careless     # delta of every method over a knob

What this file is not: it trains nothing itself (train.py does, one process a run) and averages only finished runs.
A run that was stopped goes on where it was when the same command is given again; a finished one is not run again.
Result files are small and meant to be committed.
"""
import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
# 97.5 % points of Student's t for 1, 2, ... degrees of freedom; beyond these the normal's 1.96 is near enough.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
CLAIMS = (  # what the paper says: of which method, compared with which, the metric is larger (+1) or smaller (-1)
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
METRICS = ("accuracy_t1", "accuracy_t2", "delta", "i_to_c", "c_to_i", "changed", "edit_ratio", "truthful")


def run_one(method: str, seed: int, name: str, options: list[str]) -> str:
    """One run in a process of its own; its result file is copied to results/. Returns a line that says how it ended."""
    target = RESULTS / name / f"{method}-seed{seed}.json"
    if target.exists():
        return f"{target} is there already"
    out = Path("out") / name
    command = [sys.executable, str(Path(__file__).with_name("train.py")), "--method", method, "--seed", str(seed),
               "--out", str(out), *options]
    out.mkdir(parents=True, exist_ok=True)
    with open(out / f"{method}-seed{seed}.log", "a") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    if code:
        return f"{method}, seed {seed}: ended with status {code}, see {log.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(out / f"{method}-seed{seed}" / "results.json", target)
    return f"{target} written"


def run(methods: list[str], seeds: list[int], name: str, jobs: int, options: list[str]):
    """All of them, method by method. The first method's runs make the base models that the others share, so no two runs
    of one seed go side by side."""
    with ThreadPoolExecutor(min(jobs, len(seeds))) as pool:
        pairs = [(method, seed) for method in methods for seed in seeds]
        for line in pool.map(lambda pair: run_one(*pair, name, options), pairs):
            print(line, flush=True)


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval (Student), in points. One value, or nothing to measure (nan, as truthfulness
    without verdicts), has no interval: nan."""
    mean = 100 * statistics.mean(values)
    if len(values) < 2 or math.isnan(mean):
        return mean, math.nan
    t = STUDENT[len(values) - 2] if len(values) - 2 < len(STUDENT) else 1.96
    return mean, 100 * t * statistics.stdev(values) / math.sqrt(len(values))


def interval(values: list[float]) -> str:
    """The same in words: "17.2 ± 1.3"."""
    mean, half = mean_and_half(values)
    return f"{mean:.1f}" if math.isnan(half) else f"{mean:.1f} ± {half:.1f}"


def reports(names: str) -> list[dict]:
    """The result files of finished runs in one folder, or in several (with commas), by method and seed."""
    found = [json.loads(file.read_text()) | {"folder": name} for name in names.split(",")
             for file in (RESULTS / name).glob("*.json")]
    return sorted(found, key=lambda report: (report["config"]["method"], report["folder"], report["config"]["seed"]))


def metrics_of(names: str, way: str, stage: int = -1) -> dict[str, dict[tuple[str, int], dict]]:
    """method -> (folder, seed) -> the metrics after its last stage; with stage 0, those of its own base model."""
    runs: dict[str, dict[tuple[str, int], dict]] = {}
    for report in reports(names):
        run = runs.setdefault(report["config"]["method"], {})
        run[report["folder"], report["config"]["seed"]] = list(report["results"].values())[stage][way]
    return runs


def finals(name: str, way: str) -> dict[str, dict[tuple[str, int], dict]]:
    """The same behind a row "base": of each seed the base model of the first method that has it."""
    bases = metrics_of(name, way, 0).values()
    return {"base": {seed: result for seeds in reversed(bases) for seed, result in seeds.items()},
            **metrics_of(name, way)}


def paired(ours: dict[tuple, dict], theirs: dict[tuple, dict], metric: str) -> tuple[float, float, int]:
    """Mean over the runs that both have of ours - theirs, in points, its standard error, and how many runs."""
    gaps = [100 * (ours[seed][metric] - theirs[seed][metric]) for seed in sorted(ours.keys() & theirs.keys())]
    if len(gaps) < 2:
        return math.nan, math.nan, len(gaps)
    return statistics.mean(gaps), statistics.stdev(gaps) / math.sqrt(len(gaps)), len(gaps)


def to_score(method: str, runs: dict[str, dict[tuple, dict]]) -> str:
    """The paired difference of a method's delta to `score`'s: "+3.9 (se 1.1)"; nothing where there is no pair."""
    mean, error, both = paired(runs[method], runs.get("score", {}), "delta")
    return f"{mean:+.1f} (se {error:.1f})" if both > 1 and method not in ("score", "base") else ""


def seeds_table(name: str, way: str) -> str:
    """Markdown: a row per method, seed and stage."""
    lines = [f"| method | seed | stage | {' | '.join(METRICS)} |", "|---" * (len(METRICS) + 3) + "|"]
    for report in reports(name):
        for stage, result in report["results"].items():
            cells = " | ".join(f"{100 * result[way][metric]:.1f}" for metric in METRICS)
            lines.append(f"| {report['config']['method']} | {report['config']['seed']} | {stage} | {cells} |")
    return "\n".join(lines)


def table(name: str, way: str) -> str:
    """Markdown: a row per method with mean and 95 % interval over seeds, the base model first, and for delta the paired
    difference to `score` with its standard error."""
    runs = finals(name, way)
    lines = [f"| method | seeds | {' | '.join(METRICS)} | delta minus score's |", "|---" * (len(METRICS) + 3) + "|"]
    for method, seeds in runs.items():
        cells = [interval([result[metric] for result in seeds.values()]) for metric in METRICS]
        lines.append(f"| {method} | {len(seeds)} | " + " | ".join(cells) + f" | {to_score(method, runs)} |")
    folders = [folder for part in name.split(",") for folder in Path("out", part).glob("*-seed*/")]
    unfinished = [folder.name for folder in folders if not (folder / "results.json").exists()]
    return "\n".join(lines + [f"\nnot finished, not averaged: {', '.join(sorted(unfinished))}"] * bool(unfinished))


def claims(name: str, way: str) -> str:
    """Markdown: each claim of the paper as a paired difference over seeds (and folders, if several are named); 3
    standard errors or more decide. "base" is the base model that the method itself started from."""
    runs, bases = metrics_of(name, way), metrics_of(name, way, 0)
    lines = ["| the paper | measured | difference | se | runs | verdict |", "|---" * 6 + "|"]
    for claim, method, other, metric, sign in CLAIMS:
        theirs = bases.get(method, {}) if other == "base" else runs.get(other, {})
        mean, error, seeds = paired(runs.get(method, {}), theirs, metric)
        verdict = "not run" if seeds < 2 else "not confirmed" if abs(mean) < 3 * error or mean == 0 else \
            "confirmed" if mean * sign > 0 else "the other way"
        measured = f"{metric} of {method} minus {other} | {mean:+.1f} | {error:.1f} | {seeds}"
        lines.append(f"| {claim} | {measured} | {verdict} |")
    return "\n".join(lines)


def over(names: list[str], way: str, knob: str, methods: list[str]) -> dict[str, dict]:
    """method -> value of the knob -> (mean of delta, half of its interval, both in words with the paired difference to
    `score`). Only folders that differ from the first in that option alone, or not at all (an option that an older run
    did not have yet is no difference), and of the methods those with two points or more. Without a knob: every method
    of the first folder, over its own name."""
    points: dict[str, dict] = {}
    first = reports(names[0])[0]["config"]
    for name in names if knob else names[:1]:
        config, runs = reports(name)[0]["config"], finals(name, way)
        if any(config.get(o, value) != value for o, value in first.items() if o not in ("method", "seed", knob)):
            continue
        for method in methods or runs:
            values = [result["delta"] for result in runs.get(method, {}).values()]
            if values:
                words = f"{interval(values)}, n={len(values)}; {to_score(method, runs)}".strip("; ")
                at = points.setdefault(method, {})
                at[config.get(knob, first.get(knob, method))] = *mean_and_half(values), words
    return {method: at for method, at in points.items() if len(at) > 1 or not knob}


def over_table(knob: str, points: dict[str, dict]) -> str:
    """Markdown: a row per method, a column per value of the knob."""
    values = sorted({value for at in points.values() for value in at})
    lines = [f"| {knob} | {' | '.join(map(str, values))} |", "|---" * (len(values) + 1) + "|"]
    lines += [f"| {method} | {' | '.join(at[value][2] if value in at else '' for value in values)} |"
              for method, at in points.items()]
    return "\n".join(lines)


def picture(names: list[str], way: str, knobs: list[str], methods: list[str], path: Path):
    """Delta, mean and 95 % interval over seeds: of every method or, in a panel for each knob, of these methods over the
    knob's values, which are printed as tables too."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    columns = min(len(knobs), 4)
    rows = math.ceil(len(knobs) / columns)
    figure, panels = pyplot.subplots(rows, columns, figsize=(6 + 2 * columns, 1.5 + 3 * rows), sharey=True,
                                     squeeze=False, constrained_layout=True)
    colours = {method: f"C{place}" for place, method in enumerate(methods or finals(names[0], way))}
    for axes, knob in zip(panels.flat, knobs):
        points = over(names, way, knob, methods)
        for method, at in points.items():
            means, halves, _ = zip(*(at[value] for value in sorted(at)))
            axes.errorbar(sorted(at), means, halves, fmt="o-", capsize=3, label=method, color=colours.get(method))
        axes.axhline(0, color="grey", linewidth=0.5)
        axes.set_xlabel(knob)
        if knob:
            print(over_table(knob, points))
        else:
            axes.tick_params(axis="x", rotation=60, labelsize=8)
    if any(knobs):
        labelled = {label: line for axes in panels.flat for line, label in zip(*axes.get_legend_handles_labels())}
        figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=4)
    for axes in panels.flat[len(knobs):]:
        axes.axis("off")
    figure.suptitle(f"delta on held-out problems, points ({way}; bars: 95 % over seeds)")
    figure.savefig(path, dpi=110)


def main(argv: list[str] | None = None):
    """Read the command line; what stands after -- goes to train.py."""
    argv = sys.argv[1:] if argv is None else argv
    own, options = (argv[:argv.index("--")], argv[argv.index("--") + 1:]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser("evidence.py", description=__doc__.split("\n")[0])
    parser.add_argument("do", choices=("run", "table", "seeds", "claims", "picture"))
    parser.add_argument("--methods", default="", help="names of score.METHODS, with commas (run: score; picture: all)")
    parser.add_argument("--seeds", default="0-4", help="first-last")
    parser.add_argument("--name", default="default", help="folder under out/ and results/; to read, several")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one CPU thread each")
    parser.add_argument("--way", choices=("greedy", "sampled"), default="greedy", help="which evaluation is read")
    parser.add_argument("--knobs", default="", help="picture: options in which the folders differ, with commas")
    a = parser.parse_args(own)
    names, knobs = a.name.split(","), a.knobs.replace("-", "_").split(",")
    methods = a.methods.split(",") if a.methods else []
    if a.do == "run":
        first, last = (a.seeds.split("-") * 2)[:2]
        return run(methods or ["score"], list(range(int(first), int(last) + 1)), a.name, a.jobs, options)
    for name in names:
        if not reports(name):
            parser.error(f"--name {name}: {RESULTS / name} holds no result of a finished run")
    known = reports(names[0])[0]["config"]
    for knob in set(knobs) - {""} - known.keys():
        parser.error(f"--knobs {knob} is no option of {names[0]}'s runs; there are: {', '.join(known)}")
    if a.do == "picture":
        return picture(names, a.way, knobs, methods, RESULTS / f"{names[0]}-{'map' if a.knobs else 'deltas'}.png")
    print({"table": table, "seeds": seeds_table, "claims": claims}[a.do](a.name, a.way))


if __name__ == "__main__":
    main()
