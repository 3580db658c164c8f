"""Inference-time scaling: is a budget of samples better spent side by side, or on corrections?

    python extras/scaling.py vote out/score-seed0 out/multi_turn_rl-seed0     # the paper's Figure 1
    python extras/scaling.py attempts out/score-seed0      # 1 to 10 attempts (Appendix A.1)
    python extras/scaling.py controls out/score-seed0      # what else explains a second attempt

A run's folder holds config.json and model.pt, as train.py leaves it; out/base-... is the base
model. Runs of one method are averaged over their seeds. Every command prints a table and leaves it
as results/NAME-COMMAND.csv; `vote` draws results/NAME-vote.png, too.

What this file is not: it has no sampler of its own (rollout.py's plays), no checker (rewards.py's
grades) and trains nothing.

Words: a chain is a first attempt with the corrections that follow it. A budget is a number of
sampled responses: K first attempts, or K / 2 chains of two. A pool holds many chains for each
problem, drawn once; every budget is drawn from it again and again.
"""

import argparse
import copy
import csv
import dataclasses
import json
import math
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

REPOSITORY = Path(__file__).resolve().parent.parent
if str(REPOSITORY) not in sys.path:  # as a script, without an installation
    sys.path.insert(0, str(REPOSITORY))

import rewards
import rollout
import score
import train
from extras import intervals
from extras.evidence import markdown
from extras.files import load_state, write_whole
from extras.options import Config
from model import GPT
from world import BadInput, Problem, Task

RESULTS = REPOSITORY / "results"
CHUNK = 32  # problems of a pool that are drawn, and kept, together
DRAWS = 20  # subsets of the pool for each problem and budget


# ---- a finished run ------------------------------------------------------------------------------
class Run(NamedTuple):
    """A trained model, and what it was trained for."""

    folder: Path
    method: str  # "base" for a base model; with its number of attempts, if that is not 2
    seed: int
    config: Config
    task: Task
    policy: GPT


def load_run(folder: Path, problems: int) -> Run:
    """The model that a run of train.py left, and so many held-out problems. BadInput if there is
    none, or if there are fewer."""
    try:
        settings = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder} is no folder of a run: config.json: {error}") from error
    known = {option.name for option in dataclasses.fields(Config)}
    if not isinstance(settings, dict) or not {"seed", "values"} <= settings.keys():
        raise BadInput(
            f"{folder} is no folder of a run of train.py; of a checkpoint, make one:"
            f" python train.py --init {folder} --stage-one-steps 0 --stage-two-steps 0"
        )
    if not (folder / "model.pt").exists():
        raise BadInput(f"{folder} holds no model.pt: the run has not ended")
    said = {name: value for name, value in settings.items() if name in known}
    for name in ("levels", "subjects"):
        said[name] = tuple(said[name])
    config = Config(**{"max_new_tokens": None} | said | {"eval_problems": problems})
    if config.max_new_tokens is None:  # a base model's settings do not hold it
        longest = train.options.longest_attempt(config)
        config = dataclasses.replace(config, max_new_tokens=longest)
    torch.set_num_threads(config.threads)
    task = train.make_task(config, trains=False)
    if len(task.test) < problems:
        raise BadInput(f"--problems {problems}: {folder} has {len(task.test)} held out")
    policy = train.make_policy(config, task, train.device_of(config))
    load_state(folder / "model.pt", policy)
    method = settings.get("method", "base")
    if config.attempts != 2:
        method += f", {config.attempts} attempts"
    return Run(folder, method, config.seed, config, task, policy)


def load_runs(folders: list[str], problems: int) -> list[Run]:
    """Runs over the same problems; BadInput if they are not."""
    runs = [load_run(Path(folder), problems) for folder in folders]
    for run in runs:
        if run.task.test != runs[0].task.test or run.task.prompt != runs[0].task.prompt:
            raise BadInput(f"{run.folder} is of another world, data or tokenizer than {folders[0]}")
    return runs


def check_room(run: Run, attempts: int):
    """BadInput if so many attempts do not fit the model."""
    longest = max(len(run.task.prompt_ids(problem)) for problem in run.task.test)
    each = run.config.max_new_tokens + len(run.task.request_ids()) + 1
    positions = run.policy.config.positions
    if longest + attempts * each > positions:
        raise BadInput(
            f"--attempts {attempts}: {longest + attempts * each} positions are needed, the model"
            f" in {run.folder} has {positions}"
        )


def seconds_and_tokens(started: float, tokens: int) -> str:
    """How fast it was."""
    seconds = time.perf_counter() - started
    return f"{seconds:.0f} s, {tokens / seconds:,.0f} sampled tokens a second"


# ---- a pool of chains ----------------------------------------------------------------------------
class Pool(NamedTuple):
    """Chains of attempts at P problems, S at each, of N attempts."""

    votes: np.ndarray  # (P, S, N) which answer: equal ones have the same number; -1: none
    right: np.ndarray  # (P, S, N) whether it is right


def classes_of(answers: list[str | None]) -> list[int]:
    r"""A number for each answer, the same for those that are equal as mathematics; -1: no answer.

    >>> classes_of([r"\frac{1}{2}", "3", "0.5", None])
    [0, 1, 0, -1]
    """
    known: dict[str, int] = {}
    representatives: list[str] = []
    found = []
    for answer in answers:
        if answer is not None and answer not in known:
            known[answer] = number_among(representatives, answer)
        found.append(-1 if answer is None else known[answer])
    return found


def number_among(representatives: list[str], answer: str) -> int:
    """The place of the first answer that is equal to this one; a new one goes to the end."""
    for number, representative in enumerate(representatives):
        if rewards.is_equivalent(answer, representative):
            return number
    representatives.append(answer)
    return len(representatives) - 1


def draw_chunk(run: Run, problems: list[Problem], samples: int, temperature: float, seed: int):
    """A pool of some problems, and how many tokens were sampled for it."""
    generator = torch.Generator(run.policy.head.weight.device).manual_seed(seed)
    attempts = run.config.attempts
    repeated = [problem for problem in problems for _ in range(samples)]
    how = (run.config.max_new_tokens, temperature, generator, attempts)
    texts = []
    tokens = 0
    for start in range(0, len(repeated), 1024):
        part = repeated[start : start + 1024]
        episodes = rollout.play(run.policy, run.task, part, *how)
        texts += rollout.texts_of(run.task, episodes)
        tokens += int((episodes.turn > 0).sum())
    right = train.grade(run.task, repeated, texts).numpy() > 0
    final = train.final_of(run.task)
    votes = []
    for start in range(0, len(texts), samples):
        answers = [final(text) for chain in texts[start : start + samples] for text in chain]
        votes.append(np.array(classes_of(answers)).reshape(samples, attempts))
    return Pool(np.stack(votes), right.reshape(len(problems), samples, attempts)), tokens


def draw_pool(run: Run, problems: int, samples: int, temperature: float) -> Pool:
    """The pool of a run, from its folder as far as it was drawn before."""
    folder = run.folder / f"pool-{samples}-at-{temperature:g}"
    folder.mkdir(exist_ok=True)
    started = time.perf_counter()
    tokens = 0
    parts = []
    starts = range(0, problems, CHUNK)
    for start in tqdm(starts, f"{run.method}, seed {run.seed}", leave=False, disable=None):
        part = run.task.test[start : min(start + CHUNK, problems)]
        file = folder / f"{start:05}-{len(part)}.npz"
        if not file.exists():
            pool, new_tokens = draw_chunk(run, part, samples, temperature, seed=start)
            tokens += new_tokens
            write_whole(file, lambda path: save_pool(path, pool))
        with np.load(file) as kept:
            parts.append(Pool(kept["votes"], kept["right"]))
    if tokens:
        print(f"{run.method}, seed {run.seed}: {seconds_and_tokens(started, tokens)}")
    return Pool(*(np.concatenate(arrays) for arrays in zip(*parts)))


def save_pool(path: Path, pool: Pool):
    """A pool as a file of numpy's."""
    with open(path, "wb") as file:
        np.savez_compressed(file, votes=pool.votes, right=pool.right)


# ---- votes ---------------------------------------------------------------------------------------
def winner(votes: np.ndarray) -> int:
    """The answer with most votes; of several, the one that was sampled first; -1 if there is none.

    >>> winner(np.array([2, 0, 0, 2, 1, -1, -1, -1])), winner(np.array([-1]))
    (2, -1)
    """
    said = votes[votes >= 0]
    if len(said) == 0:
        return -1
    counts = np.bincount(said)
    most = counts.max()
    return int(said[np.argmax(counts[said] == most)])  # argmax: the first that is true


def voted_right(votes: np.ndarray, right: np.ndarray, size: int, rng: np.random.Generator) -> float:
    """How often a vote of `size` of these samples is right, over DRAWS subsets without replacement.

    votes, right (S,): of one attempt at one problem.
    """
    right_answers = set(votes[right].tolist()) - {-1}
    if size == 1:  # no subset needs to be drawn
        return float(right.mean())
    draws = DRAWS if size < len(votes) else 1
    wins = 0
    for _ in range(draws):
        subset = rng.permutation(len(votes))[:size]
        wins += winner(votes[subset]) in right_answers
    return wins / draws


def curve(pool: Pool, attempt: int, sizes: list[int]) -> np.ndarray:
    """Accuracy of votes over `size` chains' answers at one attempt (0: the first), (P, sizes)."""
    rng = np.random.default_rng(0)
    rows = []
    for votes, right in zip(pool.votes[:, :, attempt], pool.right[:, :, attempt]):
        rows.append([voted_right(votes, right, size, rng) for size in sizes])
    return np.array(rows)


def curves(run: Run, pool: Pool, budgets: list[int]) -> list[dict]:
    """Both ways to spend each budget: a row each, with the interval over problems, in %."""
    attempts = pool.votes.shape[2]
    chains = [budget for budget in budgets if budget * attempts <= max(budgets)]
    ways = {  # way: which attempt votes, how many chains, and what they cost
        "in parallel": (0, budgets, budgets),
        "corrected": (attempts - 1, chains, [attempts * size for size in chains]),
    }
    rows = []
    for way, (attempt, sizes, costs) in ways.items():
        right = 100 * curve(pool, attempt, sizes)
        for column, cost in enumerate(costs):
            values = right[:, column]
            half = 1.96 * values.std() / math.sqrt(len(values))
            row = {"method": run.method, "seed": run.seed, "way": way, "responses": cost}
            rows.append(row | {"accuracy": values.mean(), "half": half})
    return rows


# ---- more attempts than it was trained for -------------------------------------------------------
def play_on(run: Run, problems: list[Problem], attempts: int, temperature: float, window: str):
    """So many attempts at each problem, as text. window: "all" earlier attempts stand in the
    context, or the "last" alone, so that every request looks like the first."""
    generator = torch.Generator(run.policy.head.weight.device).manual_seed(run.seed)
    how = (run.config.max_new_tokens, temperature, generator)
    task = run.task
    if window == "all":
        episodes = rollout.play(run.policy, task, problems, *how, attempts)
        return rollout.texts_of(task, episodes)
    episodes = rollout.play(run.policy, task, problems, *how, 1)
    texts = rollout.texts_of(task, episodes)
    for _ in range(attempts - 1):
        given = [[train.closed(task, chain[-1])] for chain in texts]
        first = rollout.given_episodes(task, problems, given, generator.device)
        episodes = rollout.play(run.policy, task, problems, *how, 2, first)
        for chain, (_, text) in zip(texts, rollout.texts_of(task, episodes)):
            chain.append(text)
    return texts


def attempt_rows(answers: list[list[int]], right: torch.Tensor) -> list[dict[str, float]]:
    """For each attempt, in %: accuracy; what turned right and wrong since the attempt before; the
    share of changed answers, and of those that went back to an earlier wrong answer.

    answers: P lists of N classes; right (P, N). One problem, answered 3 (wrong), 5 (right), 3:

    >>> rows = attempt_rows([[0, 1, 0]], torch.tensor([[False, True, False]]))
    >>> [row["returned"] for row in rows], [row["c_to_i"] for row in rows]
    ([0.0, 0.0, 100.0], [0.0, 0.0, 100.0])
    """
    rows = []
    for turn in range(right.shape[1]):
        before = max(0, turn - 1)
        changed = []
        returned = []
        for chain, is_right in zip(answers, right[:, turn].tolist()):
            changed.append(chain[turn] != chain[before])
            said_before = chain[turn] in chain[:before]
            returned.append(changed[-1] and said_before and not is_right)
        five = score.metrics(right[:, [before, turn]])
        row = {
            "attempt": turn + 1,
            "accuracy": right[:, turn].float().mean().item(),
            "i_to_c": five["i_to_c"],
            "c_to_i": five["c_to_i"],
            "changed": sum(changed) / len(changed),
            "returned": sum(returned) / len(returned),
        }
        rows.append({name: 100 * x if name != "attempt" else x for name, x in row.items()})
    return rows


def attempts_of(run: Run, problems: int, attempts: int, temperature: float) -> list[dict]:
    """The rows of a run for both windows."""
    final = train.final_of(run.task)
    test = run.task.test[:problems]
    rows = []
    for window in ("all", "last"):
        texts = []
        starts = range(0, problems, 1024)
        for start in tqdm(starts, f"{run.method}, {window}", leave=False, disable=None):
            part = test[start : start + 1024]
            texts += play_on(run, part, attempts, temperature, window)
        right = train.grade(run.task, test, texts) > 0
        answers = [classes_of([final(text) for text in chain]) for chain in texts]
        for row in attempt_rows(answers, right):
            rows.append({"method": run.method, "seed": run.seed, "context": window} | row)
    return rows


# ---- what else could explain a second attempt ----------------------------------------------------
def base_of(run: Run) -> GPT | None:
    """The base model of a run, if its folder still lies beside the run's."""
    if run.method == "base":
        return None
    wanted = json.loads(json.dumps(run.config.base_settings()))  # tuples become lists, as in files
    for folder in run.folder.parent.glob("base-*"):
        settings = json.loads((folder / "config.json").read_text())
        differing = [name for name in settings if settings[name] != wanted.get(name)]
        if not differing and (folder / "model.pt").exists():
            base = copy.deepcopy(run.policy)
            load_state(folder / "model.pt", base)
            return base
    return None


def controls_of(run: Run, problems: int, temperature: float) -> list[dict]:
    """The metrics of second attempts, and of what stands in their place, in %."""
    test = run.task.test[:problems]
    generator = torch.Generator(run.policy.head.weight.device).manual_seed(run.seed)
    how = (run.config.max_new_tokens, temperature, generator)

    def first_of(model: GPT) -> rollout.Episodes:
        return rollout.play(model, run.task, test, *how, 1)

    def graded(episodes: rollout.Episodes) -> torch.Tensor:
        texts = rollout.texts_of(run.task, episodes)
        return train.grade(run.task, test, texts)

    def second_to(first: rollout.Episodes, task: Task = run.task) -> torch.Tensor:
        return graded(rollout.play(run.policy, task, test, *how, 2, first))

    own = first_of(run.policy)
    r1 = graded(own)[:, 0]
    again = graded(first_of(run.policy))[:, 0]
    as_trained = second_to(own)
    ends = [train.closed(run.task, text) for [text] in rollout.texts_of(run.task, own)]
    others = [[ends[(row + 1) % len(ends)]] for row in range(len(ends))]
    hidden = second_to(rollout.given_episodes(run.task, test, others, generator.device))
    unasked = second_to(own, dataclasses.replace(run.task, request=""))
    either = torch.maximum(r1, as_trained[:, 1])
    rows = {
        "as trained": as_trained,
        "a copy of the first attempt": torch.stack((r1, r1), dim=1),
        "an independent first attempt": torch.stack((r1, again), dim=1),
        "after another problem's attempt": torch.stack((r1, hidden[:, 1]), dim=1),
        "without the request": torch.stack((r1, unasked[:, 1]), dim=1),
        "right if either is (an oracle chooses)": torch.stack((r1, either), dim=1),
    }
    base = base_of(run)
    if base is not None:
        rows["after the base model's attempt"] = second_to(first_of(base))
    found = []
    for control, r in rows.items():
        five = {name: 100 * share for name, share in score.metrics(r).items()}
        found.append({"method": run.method, "seed": run.seed, "second attempt": control} | five)
    return found


# ---- tables and picture --------------------------------------------------------------------------
def write_rows(rows: list[dict], path: Path):
    """All rows as a CSV, with four digits."""

    def save(temporary: Path):
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            for row in rows:
                short = {name: f"{x:.4g}" if isinstance(x, float) else x for name, x in row.items()}
                writer.writerow(short)

    write_whole(path, save)
    print(path)


def mean_rows(rows: list[dict], keys: list[str], figures: list[str]) -> list[dict]:
    """A row for each value of the keys: the mean of each figure over seeds with its interval."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    found = []
    for values, group in groups.items():
        row = dict(zip(keys, values)) | {"seeds": len(group)}
        for figure in figures:
            shares = [member[figure] / 100 for member in group]
            row[figure] = intervals.interval(shares)
        found.append(row)
    return found


def print_table(rows: list[dict]):
    """Rows as a Markdown table."""
    print(markdown(list(rows[0]), [list(map(str, row.values())) for row in rows]))


def draw_curve(axes, rows: list[dict], **how):
    """Accuracy over responses: the mean over seeds with its interval."""
    found: dict[int, list[float]] = {}
    for row in rows:
        found.setdefault(row["responses"], []).append(row["accuracy"] / 100)
    points = [intervals.mean_and_half(values) for values in found.values()]
    means = [mean for mean, _ in points]
    halves = [half for _, half in points]
    axes.errorbar(list(found), means, halves, capsize=3, **how)


def draw_votes(rows: list[dict], path: Path):
    """Both curves of each method against the number of sampled responses, means over seeds."""
    from extras.figures import pyplot

    draw = pyplot()
    figure, axes = draw.subplots(figsize=(9, 5.5), constrained_layout=True)
    methods = dict.fromkeys(row["method"] for row in rows)
    for number, method in enumerate(methods):
        for way, style in (("corrected", "o-"), ("in parallel", "s--")):
            mine = [row for row in rows if row["method"] == method and row["way"] == way]
            draw_curve(axes, mine, fmt=style, color=f"C{number}", label=f"{method}, {way}")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="sampled responses", ylabel="accuracy of the vote, %")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    draw.close(figure)
    print(path)


# ---- the command line ----------------------------------------------------------------------------
def budgets_up_to(samples: int) -> list[int]:
    """1, 2, 4, ... up to the size of the pool, which has to be a power of two.

    >>> budgets_up_to(8)
    [1, 2, 4, 8]
    """
    if samples < 2 or samples & (samples - 1):
        raise BadInput(f"--samples {samples} is not a power of two such as 64")
    return [2**power for power in range(samples.bit_length())]


def check(asked: argparse.Namespace):
    """BadInput names the option that cannot be."""
    budgets_up_to(asked.samples)
    if not 0 < asked.temperature < math.inf:
        raise BadInput(f"--temperature {asked.temperature} is not above 0")
    if asked.problems < 2:
        raise BadInput(f"--problems {asked.problems}: two or more are needed")
    if not 2 <= asked.attempts <= 100:
        raise BadInput(f"--attempts {asked.attempts} is not in 2 .. 100")


def do(asked: argparse.Namespace):
    """What the command line asks for."""
    check(asked)
    runs = load_runs(asked.runs, asked.problems)
    rows = []
    for run in runs:
        check_room(run, asked.attempts if asked.do == "attempts" else run.config.attempts)
        if asked.do == "vote":
            pool = draw_pool(run, asked.problems, asked.samples, asked.temperature)
            rows += curves(run, pool, budgets_up_to(asked.samples))
        elif asked.do == "attempts":
            rows += attempts_of(run, asked.problems, asked.attempts, asked.temperature)
        else:
            rows += controls_of(run, asked.problems, asked.temperature)
    path = RESULTS / f"{asked.name}-{asked.do}.csv"
    if asked.do == "vote":
        print_table(mean_rows(rows, ["method", "way", "responses"], ["accuracy"]))
        draw_votes(rows, path.with_suffix(".png"))
    elif asked.do == "attempts":
        figures = ["accuracy", "i_to_c", "c_to_i", "changed", "returned"]
        print_table(mean_rows(rows, ["method", "context", "attempt"], figures))
    else:
        figures = ["accuracy_t1", "accuracy_t2", "delta", "i_to_c", "c_to_i"]
        print_table(mean_rows(rows, ["method", "second attempt"], figures))
    write_rows(rows, path)


def main(argv: list[str] | None = None):
    """Read the command line. What cannot be is one line and status 2."""
    parser = argparse.ArgumentParser("scaling.py", description=__doc__.split("\n")[0])
    parser.add_argument("do", choices=("vote", "attempts", "controls"))
    parser.add_argument("runs", nargs="+", help="folders of finished runs, or out/base-...")
    parser.add_argument("--name", default="default", help="of the files in results/")
    parser.add_argument("--problems", type=int, default=1024, help="held-out problems")
    parser.add_argument("--samples", type=int, default=64, help="vote: chains for each problem")
    parser.add_argument("--temperature", type=float, default=0.7, help="sampling temperature")
    parser.add_argument("--attempts", type=int, default=10, help="attempts: how many")
    try:
        do(parser.parse_args(argv))
    except BadInput as error:
        print(f"scaling.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
