"""What a person sees of a run: a line a step, whole episodes, a table, vital signs, curves.

What this file is not: it decides and changes nothing.

    print(line(row, steps))                          # a step, as one line
    print(table(results))                            # base model and stages, a row each
    draw_curves(history, results, Path("curves.png"))

Words, as in the README: i->c is the share of problems whose first attempt is wrong and the second
right, c->i the opposite; `changed` the share whose final answer is another; `edit` the edit
distance between the attempts as a share of their length; `truthful` the share of attempts whose
verdict ("it fits") is true.
"""

import math
from pathlib import Path
from typing import Callable

import numpy as np
from torch import Tensor

from extras.intervals import running_mean
from rollout import Episodes
from score import metrics, share
from world import Problem, is_truthful


# ---- what the texts of the attempts add up to ----------------------------------------------------
def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: the least number of characters to insert, delete or replace.

    The textbook's table, row by row; `row[j]` is the distance from the part of a so far to b[:j].

    >>> edit_distance("kitten", "sitting")
    3
    """
    if a == b:
        return 0
    letters = np.array(list(b))
    j = np.arange(len(b) + 1)
    row = j  # from nothing to b[:j]: insert j
    for i, letter in enumerate(a, start=1):
        replaced = row[:-1] + (letters != letter)
        deleted = row[1:] + 1
        best = np.concatenate(([i], np.minimum(replaced, deleted)))
        # An insertion comes from the left: the least of best[k] + (j - k) over all k up to j.
        row = np.minimum.accumulate(best - j) + j
    return int(row[-1])


def changes(attempts: list[list[str]], final: Callable[[str], str | None]) -> list[bool]:
    """Whether the last attempt's final answer is another than the first's, for each problem."""
    return [final(texts[0]) != final(texts[-1]) for texts in attempts]


def text_metrics(r: Tensor, attempts: list[list[str]], final) -> dict[str, float]:
    """What the texts say beside the paper's five metrics. r (B, turns), attempts: B lists of texts.

    Shares of all problems: `changed`. `edit_ratio`: the mean of edit distance / (length of y1 +
    length of y2). Conditional shares, 0 where the condition never holds: P(changed | y1 wrong),
    P(changed | y1 right) and P(y2 right | y1 wrong and changed). `edit_histogram` counts problems.
    """
    first = r[:, 0].bool()
    last = r[:, -1].bool()
    changed = first.new_tensor(changes(attempts, final))  # (B,)
    edits = edit_ratios(attempts)
    return {
        "changed": share(changed),
        "edit_ratio": sum(edits) / len(edits),
        "edit_histogram": histogram(edits),
        "rewrite_if_wrong": share(changed[~first]),
        "rewrite_if_right": share(changed[first]),
        "right_if_rewritten": share(last[~first & changed]),
    }


def edit_ratios(attempts: list[list[str]]) -> list[float]:
    """Edit distance / (length of y1 + length of y2) of each problem's first and last attempt."""
    ratios = []
    for texts in attempts:
        letters = len(texts[0]) + len(texts[-1])
        ratios.append(edit_distance(texts[0], texts[-1]) / max(1, letters))
    return ratios


def histogram(ratios: list[float], bins: int = 20) -> list[int]:
    """How many lie in each of `bins` equal parts of 0 .. 1; 1 itself in the last.

    >>> histogram([0.0, 0.1, 0.6, 1.0], bins=2)
    [2, 2]
    """
    counts = [0] * bins
    for ratio in ratios:
        counts[min(bins - 1, int(ratio * bins))] += 1
    return counts


def truthful_share(problems: list[Problem], attempts: list[list[str]]) -> float:
    """The share of attempts whose verdict is true of their guess; nan where none states one."""
    checks = []
    for problem, texts in zip(problems, attempts):
        checks += [is_truthful(problem.question, text) for text in texts]
    if all(check is None for check in checks):
        return math.nan
    return checks.count(True) / len(checks)  # an attempt without a verdict is not truthful


def evaluation(
    problems: list[Problem], attempts: list[list[str]], r: Tensor, final
) -> dict[str, float]:
    """Every metric of an evaluation."""
    truthful = {"truthful": truthful_share(problems, attempts)}
    return metrics(r) | text_metrics(r, attempts, final) | truthful


# ---- a step --------------------------------------------------------------------------------------
def step_figures(
    episodes: Episodes, r: Tensor, rewards: Tensor, changed: list[bool], turns: int = 2
) -> dict[str, float]:
    """What a step's episodes add up to, for its row of the CSV. Shares are of episodes; what
    belongs to a turn ends in _t1, _t2; it is nan for a turn, of `turns`, that was not played.

    accuracy is the mean of r (B, 2), correctness, which is reported; reward the mean of `rewards`
    (B, 2), which is optimised.
    """
    row = {}
    for turn in range(1, turns + 1):
        figures = dict.fromkeys(("accuracy", "reward", "length", "truncated"), math.nan)
        if turn <= r.shape[1]:
            figures["accuracy"] = r[:, turn - 1].mean().item()
            figures["reward"] = rewards[:, turn - 1].mean().item()
            figures["length"] = (episodes.turn == turn).sum().item() / len(r)
            figures["truncated"] = 1 - episodes.ended[:, turn - 1].float().mean().item()
        row |= {f"{name}_t{turn}": figure for name, figure in figures.items()}
    five = metrics(r)
    row["i_to_c"] = five["i_to_c"]
    row["c_to_i"] = five["c_to_i"]
    row["unchanged"] = 1 - share(r.bool().new_tensor(changed))
    return row


def line(row: dict, steps: int) -> str:
    """The row as one line to read. Figures that stand together are those of turn 1, 2, ..."""

    def turns(name: str, form: str) -> str:
        figures = [row[column] for column in row if column.startswith(f"{name}_t")]
        return " ".join(format(figure, form) for figure in figures if not math.isnan(figure))

    parts = (
        f"{row['stage']:10} {row['step']:4}/{steps}",
        f"right {turns('accuracy', '.0%')}",
        f"reward {turns('reward', '.2f')}",
        f"i->c {row['i_to_c']:.1%} c->i {row['c_to_i']:.1%}",
        f"same {row['unchanged']:.0%}",
        f"KL {turns('kl', '.3f')}",
        f"log p {turns('log_prob', '.2f')}",
        f"length {turns('length', '.1f')}",
        f"cut {turns('truncated', '.0%')}",
        f"gradient {row['gradient_norm']:.2f}",
        f"{row['tokens_per_second']:,.0f} tok/s",
    )
    return " | ".join(parts)


LOOK_OVER = 20  # steps over which a warning looks back


def looks(history: list[dict], said: list[str]) -> list[str]:
    """What a person should look at, each thing once: lines that begin with "look:". history: the
    last rows of the CSV; `said` is added to.

    >>> looks([{"stage": "Stage I", "moved": 0.0}] * 20, [])[0][:53]
    'look: no reward differed in the last 20 steps (Stage '
    """
    recent = history[-LOOK_OVER:]
    stage = recent[-1]["stage"]
    if len(recent) < LOOK_OVER or recent[0]["stage"] != stage or stage == "warm start":
        return []

    def mean(name: str) -> float:
        figures = [row.get(name, math.nan) for row in recent]
        return sum(figures) / len(figures)

    cut = max(mean("truncated_t1"), mean("truncated_t2"))
    signs = {
        "no reward differed": (mean("moved") == 0, "nothing was learnt: easier problems"),
        "98 % of answers were copies": (
            mean("unchanged") > 0.98,
            "the second attempt copies the first: see the README's sick runs",
        ),
        "half of the attempts were cut": (cut > 0.5, "raise --max-new-tokens"),
        "turn 1 left the base model": (
            stage.split("(")[0] == "Stage I" and mean("kl_t1") > 0.2,
            "its KL is above 0.2 nats: raise --beta2 or lower --learning-rate",
        ),
        "the KL is above 20 nats": (
            max(mean("kl_t1"), mean("kl_t2")) > 20,
            "far from the base model: lower --learning-rate or raise --beta1",
        ),
    }
    lines = []
    for sign, (is_there, advice) in signs.items():
        if is_there and f"{stage} {sign}" not in said:
            said.append(f"{stage} {sign}")
            lines.append(f"look: {sign} in the last {LOOK_OVER} steps ({stage}): {advice}")
    return lines


def episode(problem: Problem, texts: list[str], r: list[float]) -> str:
    """One whole episode, each attempt marked right or wrong."""
    asked = problem.question
    if not problem.tests:
        asked += f"   (answer: {problem.answer})"
    lines = [f"    problem           {asked}"]
    for turn, (text, right) in enumerate(zip(texts, r), start=1):
        mark = "right" if right else "wrong"
        lines.append(f"    attempt {turn} [{mark}] {text}")
    return "\n".join(lines)


# ---- an evaluation -------------------------------------------------------------------------------
GREEDY_COLUMNS = (  # title, width, name of the metric
    ("Accuracy@t1", 12, "accuracy_t1"),
    ("Accuracy@t2", 12, "accuracy_t2"),
    ("delta", 8, "delta"),
    ("i->c", 7, "i_to_c"),
    ("c->i", 7, "c_to_i"),
    ("changed", 9, "changed"),
    ("edit", 7, "edit_ratio"),
    ("truthful", 10, "truthful"),
)
SHORT_COLUMNS = (("t1", 6, "accuracy_t1"), ("t2", 7, "accuracy_t2"), ("delta", 8, "delta"))


def table(results: dict[str, dict]) -> str:
    """A row for the base model and each stage: greedy on held-out problems, in %; on the right the
    same sampled at temperature 1 and, where training problems are limited, greedy on those; then
    the step whose weights the stage kept."""
    limited = any("train" in result for result in results.values())
    first = next(iter(results.values()))["greedy"]
    long_columns = with_later_attempts(GREEDY_COLUMNS, first)
    short_columns = with_later_attempts(SHORT_COLUMNS, first)
    short = heading(short_columns)
    lines = [f"{'':12}{heading(long_columns)}  |  T=1:{short}"]
    if limited:
        lines[0] += f"  |  train:{short}  |  kept step"
    for name, result in results.items():
        line = f"{name:12}{cells(result['greedy'], long_columns)}"
        line += f"  |      {cells(result['sampled'], short_columns)}"
        if limited:
            line += f"  |        {cells(result['train'], short_columns)}"
            line += f"  |  {result.get('kept_step', ''):>9}"
        lines.append(line)
    return "\n".join(lines)


def with_later_attempts(columns: tuple, result: dict[str, float]) -> tuple:
    """The columns, and behind that of attempt 2 one for each attempt after it, if there are any.

    >>> with_later_attempts(SHORT_COLUMNS, {"accuracy_t2": 0.5, "accuracy_t3": 0.6})[2]
    ('t3', 7, 'accuracy_t3')
    """
    title, width, second = columns[1]
    later = []
    for name in result:
        turn = name.removeprefix("accuracy_t")
        if turn.isdigit() and int(turn) > 2:
            later.append((title.replace("2", turn), width, name))
    return (*columns[:2], *later, *columns[2:])


def heading(columns) -> str:
    """The titles of some columns."""
    return "".join(f"{title:>{width}}" for title, width, _ in columns)


def cells(result: dict[str, float], columns) -> str:
    """The metrics of one row, in %; a difference with its sign."""
    text = ""
    for _, width, name in columns:
        sign = "+" if name == "delta" else ""
        text += format(100 * result[name], f"{sign}{width}.1f")
    return text


def vital_signs(sampled: dict[str, float]) -> str:
    """What the base model does when sampled at T = 1: is there anything for RL to amplify?"""
    truthful = sampled["truthful"]
    checks = f"truthful checks {truthful:.3f}"
    if math.isnan(truthful):
        checks = "no verdict stated that could be checked"
    figures = (
        f"Accuracy@t1 {sampled['accuracy_t1']:.3f}",
        f"Accuracy@t2 {sampled['accuracy_t2']:.3f}",
        f"P(rewrite | wrong) {sampled['rewrite_if_wrong']:.2f}",
        f"P(rewrite | right) {sampled['rewrite_if_right']:.2f}",
        f"P(right | wrong, rewritten) {sampled['right_if_rewritten']:.2f}",
        checks,
    )
    return f"vital signs of the base model at T = 1: {', '.join(figures)}\n{prospect(sampled)}"


def prospect(sampled: dict[str, float]) -> str:
    """The vital signs in a sentence."""
    rewrites = sampled["rewrite_if_wrong"] > 0.1
    some_right = sampled["right_if_rewritten"] > 0
    is_checked = not math.isnan(sampled["truthful"])
    if not rewrites or not some_right or sampled["truthful"] <= 0.9:
        return (
            "It hardly checks, or hardly rewrites, or its rewrites are never right: expect RL to"
            " learn to repeat the first attempt. Give the warm start more steps (--warm-steps)."
        )
    if not is_checked:
        return (
            "It both repeats and rewrites, and some rewrites are right; whether it can check is not"
            " known, since it states no verdict: RL may find nothing to go by."
        )
    return (
        "It can check, it both repeats and rewrites, and some rewrites are right: RL has something"
        " to amplify."
    )


# ---- curves --------------------------------------------------------------------------------------
PANELS = (  # title, columns of the CSV; what ends in _t stands for that of every attempt
    ("accuracy of sampled episodes", ("accuracy_t",)),
    ("answers that change", ("i_to_c", "c_to_i")),
    ("share of repeated answers", ("unchanged",)),
    ("KL to the base model, nats per attempt", ("kl_t",)),
)
COLOURS = ("tab:blue", "tab:red", "tab:green", "tab:purple", "tab:brown", "tab:pink", "tab:grey")


def draw_curves(history: list[dict], results: dict[str, dict], path: Path):
    """A picture of every step. Without matplotlib, one line says how to get it."""
    try:
        import matplotlib
    except ImportError:
        print('no picture of the curves: matplotlib is missing (pip install -e ".[plot]")')
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    ends = stage_ends(history)
    stages = dict.fromkeys(row["stage"] for row in history)  # each once, in order
    for panel, (title, names) in zip(panels.flat, PANELS):
        for name, colour in zip(columns_of(history, names), COLOURS):
            draw_column(panel, history, name, colour)
            if name.startswith("accuracy"):
                draw_evaluations(panel, ends, results, name, colour)
        for end in ends[:-1]:
            panel.axvline(end, color="grey", linestyle=":")
        panel.set(title=title, xlabel=f"step ({', then '.join(stages)})")
        if history:
            panel.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def columns_of(history: list[dict], names: tuple[str, ...]) -> list[str]:
    """The columns of the CSV by these names, those of every attempt where a name ends in _t.

    >>> columns_of([{"step": 1, "kl_t1": 0.0, "kl_t2": 0.1}], ("step", "kl_t"))
    ['step', 'kl_t1', 'kl_t2']
    """
    found = []
    for row in history[:1]:  # none, where nothing was trained
        for name in names:
            of_attempts = [column for column in row if column.startswith(name)]
            found += of_attempts if name.endswith("_t") else [name]
    return found


def stage_ends(history: list[dict]) -> list[int]:
    """After how many steps each stage ended.

    >>> stage_ends([{"stage": "Stage I"}, {"stage": "Stage I"}, {"stage": "Stage II"}])
    [2, 3]
    """
    ends = []
    for done in range(1, len(history) + 1):
        is_last = done == len(history)
        if is_last or history[done]["stage"] != history[done - 1]["stage"]:
            ends.append(done)
    return ends


def draw_column(panel, history: list[dict], name: str, colour: str):
    """One figure over the steps: every step faintly, and the mean of the last 20 over it."""
    steps = range(1, len(history) + 1)
    values = [row[name] for row in history]
    panel.plot(steps, values, color=colour, linewidth=0.5, alpha=0.3)
    panel.plot(steps, running_mean(values, 20), color=colour, linewidth=1.5, label=name)


def draw_evaluations(panel, ends: list[int], results: dict[str, dict], name: str, colour: str):
    """Dots for the base model and after each stage; crosses for training problems."""
    for kind, mark, where in (("greedy", "o", "held out"), ("train", "x", "training problems")):
        values = [result[kind][name] for result in results.values() if kind in result]
        steps = [0, *ends][: len(values)]
        if values:
            panel.plot(steps, values, mark, color=colour, label=f"{name}, greedy, {where}")
