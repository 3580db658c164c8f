"""From nothing to a model that corrects itself: base model, Stage I, Stage II, evaluation, report.

    python train.py                # problems, base model, both stages, table, curves
    python train.py --seed 1       # the same with another seed; -h lists every option
    python train.py                # again: goes on where a killed run stopped, shows a finished one

What this file is not: the paper's equations are in score.py, the turns in rollout.py, the problems
in world.py; options, files and printing are in extras/. Here is one loop. It serves the base
model's supervised warm start, both stages and every method: they differ in a row of data
(score.Stage), not in code. From the smallest piece to the whole: one update (learn), one step
(train_step), one stage (train_stage), a run (run).

Every step draws its randomness from (seed, stage, step) alone, so a resumed run repeats the numbers
of an uninterrupted one, bit for bit on a CPU of the same kind with the same number of threads.
"""

import copy
import dataclasses
import hashlib
import json
import math
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed
from tqdm import tqdm

import rewards
import rollout
import score
import world
from extras import options, report
from extras.files import (
    append_rows,
    fingerprint,
    load_state,
    locked,
    open_folder,
    read_rows,
    write_json,
    write_whole,
)
from extras.options import Config
from model import GPT, GPTConfig
from rollout import Episodes, Scene
from world import BadInput, Problem, Task

SLICE = 2**26  # logits at a time in the learner: 256 MB in float32
KEEP_OVER = 20  # steps over which the training reward is averaged to choose the weights to keep


class NotFinite(ArithmeticError):
    """A step's loss, gradient or KL is infinite or not a number; the message says which."""


# ---- one update ----------------------------------------------------------------------------------
def masters(policy: GPT) -> dict[str, Tensor]:
    """The weights in float32, which the optimiser moves: a step of 1e-6 would be lost in bfloat16's
    8 bits. Float32 weights are their own masters: the same storage."""
    return {name: weight.detach().float() for name, weight in policy.named_parameters()}


def log_probs_and_kl_of_said(
    policy: GPT, reference: GPT | None, tokens: Tensor, is_said: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """log pi and the exact KL at every token that was said, 0 elsewhere.

    tokens (B, T + 1), is_said (B, T): whether token t + 1 was. -> (B, T) and (B, T). Without a
    reference the KL is 0.

    The head sees only the positions that predict such a token, and of these a slice at a time,
    forgotten and computed again backwards: never a (B, T, V), nor an (N, V) of a large vocabulary.
    """
    # subtle: position t predicts token t + 1: the inputs lose the last, the targets the first.
    hidden = policy.hidden(tokens[:, :-1])[is_said]  # (N, width)
    targets = tokens[:, 1:][is_said]  # (N,)
    with torch.no_grad():
        reference_hidden = hidden
        if reference is not None:
            reference_hidden = reference.hidden(tokens[:, :-1])[is_said]

    def of_slice(hidden: Tensor, reference_hidden: Tensor, targets: Tensor):
        logits = policy.head(hidden)  # (n, V)
        reference_logits = logits.detach()
        if reference is not None:
            with torch.no_grad():
                reference_logits = reference.head(reference_hidden)
        return score.log_probs_and_kl(logits, reference_logits, targets, temperature)

    size = max(1, SLICE // policy.config.vocab_size)
    log_probs = []
    kl = []
    for start in range(0, len(targets), size):
        rows = slice(start, start + size)
        slice_log_probs, slice_kl = recomputed(
            of_slice,
            hidden[rows],
            reference_hidden[rows],
            targets[rows],
            use_reentrant=False,
            preserve_rng_state=False,
        )
        log_probs.append(slice_log_probs)
        kl.append(slice_kl)
    nothing = torch.zeros_like(is_said, dtype=torch.float32)  # (B, T)
    return (
        nothing.masked_scatter(is_said, torch.cat(log_probs)),
        nothing.masked_scatter(is_said, torch.cat(kl)),
    )


def learn(
    policy: GPT,
    reference: GPT | None,
    optimizer: torch.optim.Optimizer,
    episodes: Episodes,
    advantages: Tensor,
    betas: tuple[float, ...],
    config: Config,
) -> dict[str, float]:
    """One optimiser step on one batch of episodes. advantages (B, 2): a column an attempt.

    The batch goes through in micro-batches, whose gradients add up in the optimiser's float32
    masters. Returns the batch's KL and log-probability of each turn (per episode), its gradient's
    norm before clipping, the largest difference between the log-probabilities of sampler and
    learner, and whether the weights moved: where all advantages are 0 they do not, since Adam would
    make a whole step of rounding noise. Raises NotFinite.
    """
    B = len(episodes.tokens)
    held = optimizer.param_groups[0]["params"]
    turns = range(1, config.attempts + 1)  # a turn that this stage does not play adds nothing
    sums = {f"{figure}_t{turn}": 0.0 for figure in ("kl", "log_prob") for turn in turns}
    sampler_gap = 0.0
    optimizer.zero_grad()  # this step's gradient alone, not the last one's too
    for rows in torch.arange(B, device=advantages.device).split(config.micro_batch):
        longest = int(episodes.lengths[rows].max())
        tokens = episodes.tokens[rows, :longest]  # (b, T + 1)
        target_turn = episodes.turn[rows, 1:longest]  # (b, T): position t predicts token t + 1
        log_probs, kl = log_probs_and_kl_of_said(
            policy, reference, tokens, target_turn > 0, config.temperature
        )
        # divided by the whole batch's B: the losses of the micro-batches add up to the batch's
        loss = score.policy_loss(log_probs, kl, target_turn, advantages[rows], betas, episodes=B)
        loss.backward()  # fills weight.grad; the masters' are filled next
        move_gradients(policy, held)
        for turn in turns:
            mine = target_turn == turn
            sums[f"kl_t{turn}"] += (kl.detach() * mine).sum()
            sums[f"log_prob_t{turn}"] += (log_probs.detach() * mine).sum()
        if reference is not None:
            gap = (log_probs.detach() - episodes.log_probs[rows, 1:longest]).abs().max()
            sampler_gap = max(sampler_gap, gap.item())
    norm = torch.nn.utils.clip_grad_norm_(held, config.gradient_clip)  # before it is clipped
    figures = {name: (total / B).item() for name, total in sums.items()}
    figures |= {"gradient_norm": norm.item(), "sampler_gap": sampler_gap}
    refuse_infinite(figures)
    if moved := bool(advantages.any()):
        optimizer.step()
        for weight, master in zip(policy.parameters(), held):
            weight.data.copy_(master)  # rounded, if the weights are bfloat16; if not, they are one
    return figures | {"moved": float(moved)}


def refuse_infinite(figures: dict[str, float]):
    """Raises NotFinite, naming the first figure that is no number or has no end."""
    for name, figure in figures.items():
        if not math.isfinite(figure):
            raise NotFinite(f"{name} is {figure}")


def move_gradients(policy: GPT, held: list[Tensor]):
    """Add the gradients of a micro-batch to the masters', in float32."""
    for weight, master in zip(policy.parameters(), held):
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad.add_(weight.grad)
        weight.grad = None


# ---- one step ------------------------------------------------------------------------------------
def draw(config: Config, task: Task, rng: random.Random, count: int) -> list[Problem]:
    """Training problems for one step."""
    if task.train:
        return rng.choices(task.train, k=count)
    return [world.draw_problem(config, rng, "train") for _ in range(count)]


def collect(
    config: Config,
    stage: score.Stage,
    player: GPT,
    reference: GPT | None,
    task: Task,
    rng: random.Random,
) -> tuple[list[Problem], Episodes]:
    """The problems of one step, each stage.samples times side by side, and episodes at them."""
    device = player.head.weight.device
    generator = torch.Generator(device).manual_seed(rng.getrandbits(63))  # another in every step
    problems = []
    for problem in draw(config, task, rng, stage.problems):
        problems += [problem] * stage.samples  # neighbours: one group of leave_one_out
    scene = Scene(config, task, problems, player, reference, rng, generator)
    if stage.collect is not None:
        return problems, stage.collect(scene)
    return problems, scene.play(player, problems, turns=len(stage.betas))


def grade(task: Task, problems: list[Problem], attempts: list[list[str]]) -> Tensor:
    """r (B, turns) of 0 and 1: is each attempt right."""
    right = rewards.grade(problems, attempts, task.judge)
    return torch.tensor(right, dtype=torch.float32)


def advantages_of(stage: score.Stage, shaped: Tensor, r: Tensor) -> Tensor:
    """What multiplies each attempt's log-probability, (B, 2), from its shaped reward (B, 2)."""
    if stage.supervised:
        return shaped  # weights of log-likelihoods
    if stage.advantages is not None:
        return stage.advantages(shaped, stage.samples, r)
    return score.leave_one_out(shaped, stage.samples)


def learning_rate(stage: score.Stage, step: int) -> float:
    """Up over the first 5 % of a stage's steps, level, and down to 0 over its last 40 %."""
    up = (step + 1) / (0.05 * stage.steps)
    down = (stage.steps - step) / (0.4 * stage.steps)
    return stage.learning_rate * min(1.0, up, down)


def train_step(
    config: Config,
    stage: score.Stage,
    step: int,
    policy: GPT,
    player: GPT,
    reference: GPT | None,
    optimizer: torch.optim.Optimizer,
    task: Task,
    clock: Counter,
) -> tuple[dict, str]:
    """Draw, play, grade, learn. Returns the step's row of the CSV and one whole episode as text.

    `player` is who is sampled from: the policy itself, or in STaR's rounds a copy of it.
    """
    started = time.perf_counter()
    # subtle: no state is carried from step to step, so a resumed run draws what it would have drawn
    rng = random.Random(f"{config.seed} {stage.name} {step}")
    problems, episodes = collect(config, stage, player, reference, task, rng)
    played = time.perf_counter()
    attempts = rollout.texts_of(task, episodes)
    r = grade(task, problems, attempts).to(episodes.tokens.device)  # (B, 2): what is reported
    shaped = stage.rewards(r)  # (B, 2): what is optimised
    advantages = advantages_of(stage, shaped, r)
    graded = time.perf_counter()
    for group in optimizer.param_groups:  # there is one
        group["lr"] = learning_rate(stage, step)
    learnt = learn(policy, reference, optimizer, episodes, advantages, stage.betas, config)
    done = time.perf_counter()
    clock["playing"] += played - started
    clock["grading"] += graded - played
    clock["learning"] += done - graded
    changed = report.changes(attempts, final_of(task))
    row = {"stage": stage.name, "step": step + 1}
    row |= report.step_figures(episodes, r, shaped, changed, config.attempts)
    row |= learnt
    row["tokens_per_second"] = episodes.lengths.sum().item() / (done - started)
    i = int((r[:, 0] != r[:, 1]).float().argmax())  # one in which something happens, if any
    return row, report.episode(problems[i], attempts[i], r[i].tolist())


def final_of(task: Task):
    """The function that says what counts of an attempt: by default its box."""
    return task.final or rewards.extract_answer


# ---- evaluation ----------------------------------------------------------------------------------
def evaluate(config: Config, policy: GPT, task: Task, name: str) -> dict:
    """The metrics on held-out problems, greedy and sampled at temperature 1; greedy on training
    problems, where there is an end of them; and one greedy episode as text: a corrected one if
    there is one."""
    test = task.test
    attempts = play_all(config, policy, task, test, 0.0, f"{name}, greedy")
    r = grade(task, test, attempts)
    i = int((r[:, 1] - r[:, 0]).argmax())
    result = {
        "greedy": report.evaluation(test, attempts, r, final_of(task)),
        "example": report.episode(test[i], attempts[i], r[i].tolist()),
    }
    attempts = play_all(config, policy, task, test, 1.0, f"{name}, sampled")
    result["sampled"] = measure(task, test, attempts)
    if task.train:
        train = world.fixed_sample(task.train, config.eval_problems)
        attempts = play_all(config, policy, task, train, 0.0, f"{name}, training problems")
        result["train"] = measure(task, train, attempts)
    return result


def measure(task: Task, problems: list[Problem], attempts: list[list[str]]) -> dict[str, float]:
    """Every metric of attempts at these problems."""
    r = grade(task, problems, attempts)
    return report.evaluation(problems, attempts, r, final_of(task))


def correct_base(config: Config, policy: GPT, reference: GPT, task: Task) -> dict[str, float]:
    """The metrics of the policy's second attempts at first attempts of the base model, sampled:
    beside its own, they say whether it learnt to correct others' errors or to make fewer."""
    attempts = play_all(config, policy, task, task.test, 1.0, "after the base", reference)
    return measure(task, task.test, attempts)


def play_all(
    config: Config,
    policy: GPT,
    task: Task,
    problems: list[Problem],
    temperature: float,
    title: str,
    first_player: GPT | None = None,
) -> list[list[str]]:
    """Every attempt at every problem, as text. With a `first_player`, attempt 1 is that model's.
    Where a problem has a wrong attempt to repair (--task mbpp_r), that is attempt 1."""
    device = policy.head.weight.device
    generator = torch.Generator(device).manual_seed(config.seed)
    batch = min(1024, 2 * config.problems * config.samples)
    how = (config.max_new_tokens, temperature, generator)
    attempts = []
    starts = range(0, len(problems), batch)
    for start in tqdm(starts, desc=f"evaluate {title}", leave=False, disable=None):
        part = problems[start : start + batch]
        first = None
        if config.task == "mbpp_r":
            wrong = [[closed(task, problem.wrong)] for problem in part]
            first = rollout.given_episodes(task, part, wrong, device)
        elif first_player is not None:
            first = rollout.play(first_player, task, part, *how, turns=1)
        episodes = rollout.play(policy, task, part, *how, config.attempts, first)
        attempts += rollout.texts_of(task, episodes)
    return attempts


def closed(task: Task, text: str) -> list[int]:
    """An attempt as token ids, with the token that ends it."""
    return world.encode(task.tokenizer, text, special=()) + [task.end]


# ---- one stage -----------------------------------------------------------------------------------
def train_stage(
    config: Config,
    folder: Path,
    stage: score.Stage,
    state: dict,
    policy: GPT,
    reference: GPT | None,
    task: Task,
    clock: Counter,
):
    """The one loop: from state["step"] to the end of the stage, with a checkpoint now and then."""
    learner = open_stage(stage, state, policy)
    done = state["step"]
    steps = range(done, stage.steps)
    for step in tqdm(steps, stage.name, total=stage.steps, initial=done, disable=None):
        if stage.rounds and step % math.ceil(stage.steps / stage.rounds) == 0:
            learner.player.load_state_dict(policy.state_dict())
        try:
            row, example = train_step(
                config,
                stage,
                step,
                policy,
                learner.player,
                reference,
                learner.optimizer,
                task,
                clock,
            )
        except NotFinite as error:
            state["step"] = step
            raise NotFinite(keep_failure(folder, stage, state, policy, learner, error)) from error
        note(state, row)
        if not stage.supervised and config.keep == "best":
            keep_best(state, stage, policy, learner.held)
        done = step + 1
        if done % config.log_every == 0 or done == stage.steps:
            tqdm.write(report.line(row, stage.steps))
        if done % config.show_every == 0 and reference is not None:
            tqdm.write(example)
        for warning in report.looks(state["history"], state["said"]):
            tqdm.write(warning)
        if done % config.checkpoint_every == 0:
            state["step"] = done
            freeze(stage, state, policy, learner)
            save_checkpoint(folder, state)
    if state["best"] is not None:
        policy.load_state_dict(state["best"]["policy"])


class Learner(NamedTuple):
    """What a stage moves, beside the policy."""

    held: dict[str, Tensor]  # float32 masters of the policy's weights
    optimizer: torch.optim.Optimizer
    player: GPT  # who is sampled from


def open_stage(stage: score.Stage, state: dict, policy: GPT) -> Learner:
    """The learner of a stage, as it was at the last checkpoint."""
    held = masters(policy)
    for name, master in held.items():
        master.copy_(state["policy"][name])  # what bfloat16 has no bits for is in the checkpoint
    decay = stage.weight_decay
    optimizer = torch.optim.AdamW(held.values(), betas=(0.9, 0.99), weight_decay=decay)
    if state["optimizer"]:
        optimizer.load_state_dict(state["optimizer"])
    player = policy
    if stage.rounds:  # collect and fine-tune: the player stands still while the policy moves
        player = copy.deepcopy(policy).requires_grad_(False)
    if state["player"]:
        player.load_state_dict(state["player"])
    return Learner(held, optimizer, player)


def freeze(stage: score.Stage, state: dict, policy: GPT, learner: Learner):
    """The learner as it is, in the state: the opposite of open_stage."""
    state["policy"] = policy.state_dict() | learner.held
    state["optimizer"] = learner.optimizer.state_dict()
    state["player"] = learner.player.state_dict() if stage.rounds else None


def note(state: dict, row: dict):
    """A step's row, for the next checkpoint to write down; the last ones stay at hand."""
    state["steps"] += 1
    state["unwritten"].append(row)
    state["history"].append(row)
    del state["history"][:-KEEP_OVER]


def keep_failure(
    folder: Path, stage: score.Stage, state: dict, policy: GPT, learner: Learner, error: NotFinite
) -> str:
    """Leave all that is needed to take a step again that came to no number, beside the last
    checkpoint; returns the line that says so."""
    freeze(stage, state, policy, learner)
    failed = state | {"stage_name": stage.name}
    write_whole(folder / "failed.pt", lambda path: torch.save(failed, path))
    return (
        f"{stage.name}, step {state['step'] + 1}: {error}, so the step was not taken: lower"
        f" --learning-rate (or --warm-learning-rate, --alpha); --replay {folder / 'failed.pt'}"
        " takes it again"
    )


def replay(config: Config, policy: GPT, task: Task, whole_task: Task):
    """Take the step again that --replay's file was left by, and print what it comes to."""
    state = load_state(Path(config.replay), policy)
    weights = copied(policy.state_dict())
    stages = {stage.name: stage for stage in (warm_start(config), *stages_of(config))}
    stage = stages.get(state.get("stage_name"))
    if stage is None:
        raise BadInput(f"--replay {config.replay} is of no stage of --method {config.method}")
    reference = None
    if stage.name != "warm start":
        make_base_model(config, policy, whole_task, Counter())
        reference = copy.deepcopy(policy).requires_grad_(False)
        policy.load_state_dict(weights)
        if stage.pinned_to_start:
            reference = model_at_start(state, policy)
    learner = open_stage(stage, state, policy)
    played_by = (policy, learner.player, reference, learner.optimizer)
    at = whole_task if reference is None else task
    row, example = train_step(config, stage, state["step"], *played_by, at, Counter())
    print(report.line(row, stage.steps))
    print(example)


def keep_best(state: dict, stage: score.Stage, policy: GPT, held: dict[str, Tensor]):
    """Keep a copy of the weights if the mean training reward of the last KEEP_OVER steps (what is
    optimised, bonus included) is the highest of the stage so far."""
    recent = [row for row in state["history"][-KEEP_OVER:] if row["stage"] == stage.name]
    if len(recent) < KEEP_OVER:
        return
    paid = [f"reward_t{turn}" for turn in range(1, len(stage.betas) + 1)]
    reward = sum(sum(row[name] for name in paid) for row in recent) / KEEP_OVER
    if state["best"] is None or reward > state["best"]["reward"]:
        weights = policy.state_dict() | held
        state["best"] = {
            "reward": reward,
            "step": recent[-1]["step"],
            "policy": copied(weights),
        }


def copied(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of weights that stays as it is while the model goes on learning."""
    return {name: weight.to("cpu", copy=True) for name, weight in weights.items()}


def save_checkpoint(folder: Path, state: dict):
    """Everything that a later start needs to go on as if nothing had happened.

    The log goes first, and the checkpoint holds its size: rows behind that are of steps that will
    be made again, and the next append cuts them off.
    """
    log = folder / "log.csv"
    state["log_size"] = append_rows(log, state["unwritten"], state["log_size"])
    state["unwritten"] = []
    write_whole(folder / "checkpoint.pt", lambda path: torch.save(state, path))


def new_state() -> dict:
    """The state of a run before its first step."""
    return {
        "results": {},
        "steps": 0,  # made so far, over all stages
        "history": [],  # rows of the last KEEP_OVER of them
        "unwritten": [],  # rows that are not in log.csv yet
        "log_size": 0,  # bytes of log.csv that belong to this state
        "said": [],  # warnings, each of which is said once
    }


def begin_stage(state: dict, number: int, policy: GPT):
    """The state before the first step of a stage: a fresh optimiser, weights as they are."""
    state["stage"] = number
    state["step"] = 0
    state["optimizer"] = None
    state["player"] = None
    state["best"] = None
    state["start"] = None
    state["policy"] = policy.state_dict()


def model_at_start(state: dict, policy: GPT) -> GPT:
    """The model from which the stage in progress started; the checkpoint holds it, too."""
    if state["start"] is None:
        state["start"] = copied(policy.state_dict())
    start = copy.deepcopy(policy).requires_grad_(False)
    start.load_state_dict(state["start"])
    return start


def run_stages(
    config: Config,
    folder: Path,
    stages: tuple[score.Stage, ...],
    policy: GPT,
    reference: GPT | None,
    task: Task,
    clock: Counter,
) -> dict:
    """Stage after stage from the last checkpoint on, evaluated before the first and after each (the
    base model's warm start, which has no reference, is not). Leaves model.pt."""
    state = new_state()
    begin_stage(state, 0, policy)
    if (folder / "checkpoint.pt").exists():
        state = state | load_state(folder / "checkpoint.pt", policy)
        print(f"going on in {folder} after {state['steps']} steps")
    if reference is not None and not state["results"]:
        state["results"]["base"] = evaluate(config, policy, task, "base")
        print(report.vital_signs(state["results"]["base"]["sampled"]))
        if config.init:  # it can take longer than all the rest
            save_checkpoint(folder, state)
    while state["stage"] < len(stages):
        stage = stages[state["stage"]]
        pinned_to = reference
        if stage.pinned_to_start:
            pinned_to = model_at_start(state, policy)
        train_stage(config, folder, stage, state, policy, pinned_to, task, clock)
        if reference is not None:
            kept = state["best"]["step"] if state["best"] else stage.steps
            result = evaluate(config, policy, task, stage.name)
            state["results"][stage.name] = result | {"kept_step": kept}
        begin_stage(state, state["stage"] + 1, policy)
        save_checkpoint(folder, state)
    weights = {"policy": policy.state_dict()}
    write_whole(folder / "model.pt", lambda path: torch.save(weights, path))
    return state


# ---- what a run starts from ----------------------------------------------------------------------
def author_plays(scene: Scene) -> Episodes:
    """The warm start's episodes: every attempt as the author writes it."""
    attempts = []
    for problem in scene.problems:
        texts = world.write_attempts(scene.config, scene.rng, problem, scene.config.attempts)
        attempts.append([closed(scene.task, text) for text in texts])
    return scene.given(attempts)


def warm_start(config: Config) -> score.Stage:
    """The base model's training: the author's text, right or wrong, word for word."""
    return score.Stage(
        name="warm start",
        steps=config.warm_steps,
        problems=config.warm_batch,
        samples=1,
        learning_rate=config.warm_learning_rate,
        rewards=torch.ones_like,
        betas=(0.0,) * config.attempts,
        supervised=True,
        collect=author_plays,
        weight_decay=0.01,
    )


def stages_of(config: Config) -> tuple[score.Stage, ...]:
    """The stages that follow the base model."""
    if config.method == "score" and config.attempts == 2:
        return score.stage_one(config), score.stage_two(config)
    from extras import methods

    return methods.table(config)[config.method]


def make_task(config: Config, trains: bool) -> Task:
    """The generated world, or what --data holds, in the tokens of --init."""
    tokenizer = None
    chat = None
    if config.init:
        from extras import checkpoints

        tokenizer = checkpoints.load_tokenizer(config.init)
        chat = checkpoints.chat_of(tokenizer, Path(config.init), config.system)
    if not config.data:
        return world.world_task(config, config.eval_problems, tokenizer, chat)
    from extras import datasets

    train, all_test, _ = datasets.read_problems(
        Path(config.data),
        config.task,
        config.levels,
        config.subjects,
        config.seed,
        config.skip_bad_rows,
        config.timeout,
        trains,
        say=print,
    )
    if not all_test[0].tests and config.timeout != Config.timeout:
        raise BadInput("--timeout is not read with MATH or GSM8K: no program is run there")
    test = world.fixed_sample(all_test, config.eval_problems)
    if len(test) < len(all_test):
        print(
            f"evaluated on {len(test):,} of {len(all_test):,} test problems, a random sample by a"
            " hash of their text: the same for every seed (--eval-problems)"
        )
    critique = config.method == "prompt"
    return datasets.chat_task(train, test, tokenizer, chat, critique, config.timeout)


def limit_training(config: Config, task: Task) -> Task:
    """The task with --train-problems problems to train on, drawn by the seed; without, as it is.
    The base model is made before: it does not depend on them."""
    count = config.train_problems
    if not count:
        return task
    rng = random.Random(f"training problems {config.seed}")
    if not config.data:
        train = world.different_problems(config, rng, "train", count)
    elif count > len(task.train):
        raise BadInput(f"--train-problems {count}: there are {len(task.train)} training problems")
    else:
        train = rng.sample(task.train, count)
    return dataclasses.replace(task, train=train)


def device_of(config: Config) -> torch.device:
    """What was asked for; unsaid, the GPU where there is one."""
    return torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))


def make_policy(config: Config, task: Task, device: torch.device) -> GPT:
    """The checkpoint of --init, or a small GPT with random weights. Here, and nowhere else, the
    dtype of the weights is decided."""
    on_gpu = config.init and device.type == "cuda"
    dtype = getattr(torch, config.dtype or ("bfloat16" if on_gpu else "float32"))
    torch.manual_seed(config.seed)
    if config.init:
        from extras import checkpoints

        try:
            policy = checkpoints.load_pretrained(config.init, device, dtype)
        except ValueError as error:
            raise BadInput(f"--init: {error}") from error
    else:
        shape = GPTConfig(
            vocab_size=task.tokenizer.n_vocab,
            layers=config.layers,
            width=config.width,
            heads=config.heads,
            kv_heads=config.heads,
            head_width=config.width // config.heads,
            hidden=config.hidden,
        )
        policy = GPT(shape).to(device, dtype)
    check_positions(config, policy, task)
    words = task.tokenizer.n_vocab
    if words > policy.config.vocab_size:
        raise BadInput(
            f"--init {config.init}: the tokenizer has {words:,} words, the model"
            f" {policy.config.vocab_size:,} (vocab_size): they are not of one checkpoint"
        )
    policy.recompute = config.recompute
    return policy


def check_positions(config: Config, policy: GPT, task: Task):
    """BadInput if the longest conversation of this task does not fit the model."""
    lengths = {}
    for problem in task.train + task.test:
        lengths[problem.name or problem.question] = len(task.prompt_ids(problem))
    problem = max(lengths, key=lengths.get)
    attempts = config.attempts * config.max_new_tokens
    between = (config.attempts - 1) * (len(task.request_ids()) + 1)  # 1: closes a cut attempt
    needed = lengths[problem] + attempts + between
    if needed > policy.config.positions:
        raise BadInput(
            f"{problem}: {needed} positions are needed (prompt {lengths[problem]},"
            f" {config.attempts} attempts of up to {config.max_new_tokens}), the model has"
            f" {policy.config.positions}: lower"
            " --max-new-tokens, or leave such problems out"
        )


def make_base_model(config: Config, policy: GPT, task: Task, clock: Counter):
    """Load the base model's weights into the policy, training them on the author's text if no run
    with the same options has done so."""
    settings = config.base_settings()
    name = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:10]
    folder = open_folder(Path(config.out) / f"base-{name}", settings)
    with locked(folder, wait=True):  # while another run makes it
        check_inputs(config, folder, task)
        if not (folder / "model.pt").exists():
            print(
                f"base model: {config.warm_steps} supervised steps on the author's text"
                f" (kept in {folder})"
            )
            run_stages(config, folder, (warm_start(config),), policy, None, task, clock)
    load_state(folder / "model.pt", policy)


def check_inputs(config: Config, folder: Path, task: Task):
    """BadInput if the problems of --data, or the weights of --init, are no longer those with which
    the folder's run began."""
    now = {"--data": None, "--init": None}
    if config.data:
        problems = repr(task.train + task.test)
        now["--data"] = hashlib.sha256(problems.encode()).hexdigest()
    if config.init:
        now["--init"] = fingerprint(Path(config.init))
    file = folder / "inputs.json"
    if not file.exists():
        write_json(file, now)
    before = json.loads(file.read_text())
    for option, value in now.items():
        if before.get(option) != value:
            raise BadInput(
                f"{folder} was begun with other content of {option}: bring it back, or name another"
                " folder with --out"
            )


# ---- a run ---------------------------------------------------------------------------------------
def run(config: Config):
    """The whole path: base model, stages, report."""
    device = device_of(config)
    torch.set_num_threads(config.threads)
    settings = config.run_settings()
    folder = Path(config.out) / f"{config.method}-seed{config.seed}"
    if (folder / "results.json").exists():
        open_folder(folder, settings)
        print(f"{folder} holds this run, finished; remove the folder to run it again.")
        print(report.table(json.loads((folder / "results.json").read_text())["results"]))
        return
    stages = tuple(stage for stage in stages_of(config) if stage.steps)  # none: evaluate only
    whole_task = make_task(config, trains=bool(config.warm_steps or stages))
    task = limit_training(config, whole_task)
    policy = make_policy(config, whole_task, device)
    if config.replay:
        return replay(config, policy, task, whole_task)
    open_folder(folder, settings)  # after all that can be wrong with --data and --init
    with locked(folder):
        check_inputs(config, folder, whole_task)
        print_heading(config, policy, task, folder)
        run_in(folder, config, stages, policy, task, whole_task)


def run_in(
    folder: Path,
    config: Config,
    stages: tuple[score.Stage, ...],
    policy: GPT,
    task: Task,
    whole_task: Task,
):
    """The run itself, in a folder that is its own; whole_task is the task before --train-problems,
    for the base model."""
    started = time.perf_counter()
    clock = Counter()
    make_base_model(config, policy, whole_task, clock)
    if config.data:
        names = {
            "train": [problem.name for problem in task.train],
            "test": [problem.name for problem in task.test],
        }
        write_json(folder / "split.json", names)
    reference = copy.deepcopy(policy).requires_grad_(False)  # the base model, in every stage
    state = run_stages(config, folder, stages, policy, reference, task, clock)
    results = state["results"]
    if stages:  # else the policy is the base model still
        last = list(results)[-1]
        results[last]["after_base"] = correct_base(config, policy, reference, task)
    if config.init:
        from extras import checkpoints

        checkpoints.save_pretrained(policy, folder / "model", like=config.init)
    report.draw_curves(read_rows(folder / "log.csv"), results, folder / "curves.png")
    seconds = time.perf_counter() - started
    clock["the rest"] = seconds - sum(clock.values())
    settings = config.run_settings()
    content = {"config": settings, "results": results, "seconds": seconds, "clock": clock}
    write_json(folder / "results.json", content)
    print_ending(results, task, folder, clock)


def print_heading(config: Config, policy: GPT, task: Task, folder: Path):
    """What is about to run, in a line."""
    size = sum(weight.numel() for weight in policy.parameters())
    device = policy.head.weight.device.type
    threads = "1 CPU thread" if config.threads == 1 else f"{config.threads} CPU threads"
    print(
        f"{config.method}, seed {config.seed}: {size:,} parameters,"
        f" {task.tokenizer.n_vocab} words, {device}, {threads}, in {folder}"
    )


def print_ending(results: dict[str, dict], task: Task, folder: Path, clock: Counter):
    """The table, an episode, and where everything is."""
    last = list(results)[-1]
    print(f"\n{len(task.test):,} held-out problems, greedy (right: sampled), shares in %")
    print(report.table(results))
    print(f"\na held-out episode after {last}:\n{results[last]['example']}\n")
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in clock.items())
    print(f"{sum(clock.values()):.0f} s: {spent}")
    print(
        f"every step: {folder / 'log.csv'}; curves: {folder / 'curves.png'};"
        f" model: {folder / 'model.pt'}"
    )


def main(argv: list[str] | None = None):
    """Run the command line. Bad input is one line and status 2; Ctrl-C keeps the last checkpoint
    and says so."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        config = options.parse(argv)
        options.check_read_by_method(config, stages_of)
        run(config)
    except BadInput as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except NotFinite as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        message = "\nstopped. The same command goes on from the last checkpoint."
        print(message, file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
