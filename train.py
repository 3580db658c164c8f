"""From nothing to a model that corrects itself: base model, the stages of a method, evaluation, report.

    python train.py                        # problems, base model, Stage I, Stage II, table, curves
    python train.py --seed 1               # the same with another seed; -h lists every option
    python train.py                        # again: goes on where a killed run stopped, shows a finished one

What this file is not: the paper's equations are in score.py, the turns in rollout.py, the problems in data.py. Here
is one loop, `train_stage`. It serves the base model's supervised warm start, both stages and every method: they
differ in a row of data (score.Stage), not in code.

Every step draws its randomness from (seed, stage, step) alone, so a resumed run repeats the numbers of an
uninterrupted one, bit for bit on a CPU of the same kind with the same number of threads.
"""
import argparse
import copy
import csv
import dataclasses
import hashlib
import json
import math
import os
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as recomputed
from tqdm import tqdm

import data
import rewards
import rollout
import score
from data import BadInput, Problem, Task, World, option
from model import GPT, GPTConfig, load_pretrained, save_pretrained
from rollout import Episodes


@dataclass(frozen=True)
class Config(World):
    """Every option of a run: those of the generated world (data.World) and these. Each becomes --name-with-dashes."""

    levels: tuple[int, ...] = option((), "numbers of applications K, empty: 1-4; with --data MATH's levels, empty: all")
    init: str = option("", "a downloaded checkpoint: its folder in Hugging Face's format; empty: the small GPT")
    data: str = option("", "MATH, MBPP, HumanEval: a folder, or a file of JSON lines; empty: the generated world")
    task: str = option("", "what --data tests: math, mbpp, humaneval (trained on MBPP), mbpp_r; empty: as the rows are")
    subjects: tuple[str, ...] = option((), "of MATH's subjects only these, e.g. algebra,number_theory; empty: all")
    skip_bad_rows: bool = option(False, "leave rows of --data that cannot be used out, and say why")
    timeout: float = option(5.0, "seconds that a program and its tests may take", 1e-3)
    method: str = option("score", f"what to run: {', '.join(score.METHODS)}")
    seed: int = option(0, "seed of the base model, of the training problems and of the sampling", 0)
    layers: int = option(4, "decoder layers of the small GPT", 1)
    width: int = option(64, "its width", 2)
    heads: int = option(4, "its attention heads", 1)
    hidden: int = option(192, "width inside its SwiGLU", 1)
    warm_steps: int = option(-1, "supervised steps on the author's text first; -1: 600, with --init and --data 0", -1)
    warm_batch: int = option(256, "rows a step of them", 1)
    warm_learning_rate: float = option(3e-3, "their peak learning rate (AdamW)", 1e-9)
    stage_one_steps: int = option(60, "steps of Stage I", 0)
    stage_two_steps: int = option(200, "steps of Stage II", 0)
    problems: int = option(16, "problems a step", 1)
    samples: int = option(8, "episodes per problem (k of the leave-one-out baseline)", 2)
    learning_rate: float = option(3e-4, "of both stages (AdamW, no weight decay, fresh in each stage)", 1e-9)
    gradient_clip: float = option(1.0, "largest norm of a step's gradient", 1e-9)
    alpha: float = option(10.0, "weight of the bonus r2 - r1 in Stage II", 0)
    beta1: float = option(0.05, "weight of the KL to the base model", 0)
    beta2: float = option(0.1, "weight of turn 1's KL in Stage I", 0)
    offline_share: float = option(1.0, "share of Stage II's problems with first attempts of the base model", 0, 1)
    temperature: float = option(1.0, "sampling temperature in training", 1e-3)
    max_new_tokens: int = option(0, "longest attempt in tokens; 0: the author's + 2, with --data or --init 256", 0)
    micro_batch: int = option(128, "episodes per forward pass; changes memory, not gradients", 1)
    eval_problems: int = option(4096, "held-out problems, the same for every seed", 1)
    recompute: bool = option(False, "forget what is inside a layer and compute it again backwards: less memory")
    dtype: str = option("", "of the weights: float32 or bfloat16; empty: bfloat16 with --init on a GPU, else float32")
    device: str = option("", "cuda or cpu; empty: cuda where there is one")
    threads: int = option(1, "CPU threads; a second helps so small a model little, and hurts if its core is busy", 1)
    out: str = option("out", "folder that holds a folder per run and per base model", free=True)
    log_every: int = option(10, "steps between printed lines (the CSV has every step)", 1, free=True)
    show_every: int = option(60, "steps between whole episodes shown as text", 1, free=True)
    checkpoint_every: int = option(20, "steps between checkpoints: what a killed run can lose", 1, free=True)


SLICE = 2 ** 26  # logits at a time in the learner: 256 MB in float32
# What the base model depends on besides the world: runs that agree on these share it.
BASE = ("init", "data", "task", "subjects", "skip_bad_rows", "timeout", "seed", "layers", "width", "heads", "hidden",
        "warm_steps", "warm_batch", "warm_learning_rate", "dtype", "device", "threads")


# ---- options ---------------------------------------------------------------------------------------------------------
def numbers(text: str) -> tuple[int, ...]:
    """"1-3,5" -> (1, 2, 3, 5)."""
    ends = [(int(first), int(last or first)) for first, _, last in (part.partition("-") for part in text.split(","))]
    return tuple(number for first, last in ends for number in range(first, last + 1))


def parse(argv: list[str] | None) -> Config:
    """The command line as a Config. An unknown option or value ends the program with status 2."""
    parser = argparse.ArgumentParser("train.py", usage="python train.py [--option value ...]   (-h lists them)",
                                     description=__doc__.split("\n")[0], allow_abbrev=False)
    for f in dataclasses.fields(Config):
        kind = {bool: {"action": argparse.BooleanOptionalAction}, tuple[int, ...]: {"type": numbers},
                tuple[str, ...]: {"type": lambda text: tuple(text.split(","))}}.get(f.type, {"type": f.type})
        shown = ",".join(map(str, f.default)) if isinstance(f.default, tuple) else f.default
        text = f"{f.metadata['help']} (default: {shown!r})".replace("%", "%%")
        parser.add_argument(flag(f.name), dest=f.name, default=f.default, help=text, **kind)
    config = Config(**vars(parser.parse_args(argv)))
    if not config.data and not config.levels:
        config = dataclasses.replace(config, levels=World.levels)
    if config.warm_steps < 0:  # with --init and --data the checkpoint is the base model
        config = dataclasses.replace(config, warm_steps=0 if config.init and config.data else 600)
    return check(config)


def flag(name: str) -> str:
    """"beta1" -> "--beta1"."""
    return "--" + name.replace("_", "-")


def check(config: Config) -> Config:
    """The config itself, if such a run can be; BadInput names the option and what would be right."""
    c, reach = config, math.lcm(*range(1, config.values + 1))
    bounds = [(f.name, getattr(c, f.name), f.metadata["low"], f.metadata["high"] or math.inf)
              for f in dataclasses.fields(c) if f.metadata["low"] is not None]
    rules = [(low <= value <= high, f"{flag(name)} {value} is not in {low} .. {high}")
             for name, value, low, high in bounds]
    rules += [
        (c.method in score.METHODS, f"--method {c.method!r} is unknown; there are: {', '.join(score.METHODS)}"),
        (min(c.levels, default=1) >= 1 and len(set(c.levels)) == len(c.levels), "--levels: different numbers from 1"),
        (c.data or all(level % reach for level in c.levels),
         f"--levels must not hold a multiple of {reach}: so often applied, every permutation is the identity"),
        (c.task in ("", *data.TASKS), f"--task {c.task!r} is unknown; there are: {', '.join(data.TASKS)}"),
        (c.data or c.method != "prompt", "--method prompt needs --data: the world has no words for a critique"),
        (c.warm_steps or c.init, "--warm-steps 0 needs --init: without training the small GPT is no base model"),
        (c.width % (2 * c.heads) == 0, f"--width {c.width} must be a multiple of twice --heads {c.heads}"),
        (c.verdict or not c.careless, "--careless is about verdicts; with --no-verdict there are none"),
        (c.dtype in ("", "float32", "bfloat16"), f"--dtype {c.dtype!r} is not float32 or bfloat16"),
        (c.device in ("", "cpu") or c.device.startswith("cuda") and torch.cuda.is_available(),
         f"--device {c.device!r} is not here; leave it empty or say cpu"),
    ]
    read = {method: {name for stage in stages for name in stage.reads()} for method, stages in score.METHODS.items()}
    rules += [(name in read.get(c.method, ()) or getattr(c, name) == getattr(Config, name),
               f"--method {c.method} does not read {flag(name)}") for name in sorted(set().union(*read.values()))]
    idle = set(World.__dataclass_fields__) - {"levels"} if c.data else ("task", "subjects", "skip_bad_rows", "timeout")
    rules += [(getattr(c, name) == getattr(Config, name),
               f"{flag(name)} is not read {'with' if c.data else 'without'} --data") for name in idle]
    rules += [(not c.init or getattr(c, name) == getattr(Config, name), f"{flag(name)} is not read with --init")
              for name in ("layers", "width", "heads", "hidden")]
    for holds, message in rules:
        if not holds:
            raise BadInput(message)
    return c


# ---- one step --------------------------------------------------------------------------------------------------------
def given_episodes(task: Task, problems: list[Problem], attempts: list[tuple[list[int], ...]],
                   device: torch.device) -> Episodes:
    """Episodes that nobody samples here, from the token ids of the one or two attempts at each problem."""
    request = data.encode(task.tokenizer, task.request)
    turns = len(attempts[0])
    rows = [(data.encode_prompt(task, problem), said[0], request, said[-1])[:2 * turns]
            for problem, said in zip(problems, attempts)]
    episodes = rollout.empty_episodes(len(rows), max(sum(map(len, row)) for row in rows), turns, device)
    for turn, column in zip((0, 1, 0, 2), zip(*rows)):
        episodes.append(*rollout.pad(list(column), device), turn)
    episodes.ended[:] = True
    return episodes


def author_attempts(config: Config, task: Task, problem: Problem, rng: random.Random) -> tuple[list[int], list[int]]:
    """The author's two attempts at a problem."""
    y1, y2 = (task.tokenizer.encode_ordinary(text) + [task.end] for text in data.write_attempts(config, rng, problem))
    return y1, y2


def paired_attempts(config: Config, task: Task, problems: list[Problem], first: Episodes,
                    rng: random.Random) -> list[tuple[list[int], list[int]]]:
    """Pair-SFT's attempts: y1 as sampled; y2 a random right y1 at the same problem, or y1 again if there is none."""
    said = [[t for t, turn in zip(*row) if turn] for row in zip(first.tokens.tolist(), first.turn.tolist())]
    closed = [ids + [task.end] * (not done) for ids, done in zip(said, first.ended[:, 0].tolist())]
    right = grade(config, problems, first.texts(task.tokenizer, task.end), first.tokens.device)[:, 0].tolist()
    group = lambda i: range(i - i % config.samples, i - i % config.samples + config.samples)
    others = [[j for j in group(i) if right[j] and j != i] or [i] for i in range(len(closed))]
    return [(y1, closed[rng.choice(candidates)]) for y1, candidates in zip(closed, others)]


def collect(config: Config, stage: score.Stage, sampler: GPT, reference: GPT | None, task: Task, rng: random.Random,
            device: torch.device) -> tuple[list[Problem], Episodes]:
    """Problems and episodes of one step: the author's, the sampler's, or with the base model's first attempts."""
    generator = torch.Generator(device).manual_seed(rng.getrandbits(63))
    if stage is score.WARM_START:
        problems = draw(config, task, rng, config.warm_batch)
        attempts = [author_attempts(config, task, problem, rng) for problem in problems]
        return problems, given_episodes(task, problems, attempts, device)
    problems = [p for p in draw(config, task, rng, config.problems) for _ in range(config.samples)]  # groups
    if stage.pairs:
        first = play(config, sampler, task, problems, config.temperature, generator, turns=1)
        return problems, given_episodes(task, problems, paired_attempts(config, task, problems, first, rng), device)
    offline = config.samples * round(config.offline_share * config.problems) if stage.offline else 0
    parts = []
    if offline:
        first = play(config, reference, task, problems[:offline], config.temperature, generator, turns=1)
        parts.append(play(config, sampler, task, problems[:offline], config.temperature, generator, first=first))
    if offline < len(problems):
        parts.append(play(config, sampler, task, problems[offline:], config.temperature, generator))
    return problems, rollout.join(parts)


def masters(policy: GPT) -> dict[str, Tensor]:
    """The weights in float32, which the optimiser moves: a step of 1e-6 would be lost in bfloat16's 8 bits. Float32
    weights are their own masters: the same storage."""
    return {name: weight.detach().float() for name, weight in policy.named_parameters()}


def of_said(policy: GPT, reference: GPT | None, tokens: Tensor, said: Tensor,
            temperature: float) -> tuple[Tensor, Tensor]:
    """log pi and the exact KL of the N tokens that were said, (N,) and (N,).

    The head sees only the positions that predict one of them, and of these a slice at a time, forgotten and computed
    again backwards: never a (B, T, V), nor an (N, V) of a large vocabulary.
    """
    hidden, targets = policy.hidden(tokens[:, :-1])[said], tokens[:, 1:][said]  # (N, width), (N,)
    with torch.no_grad():
        base = hidden if reference is None else reference.hidden(tokens[:, :-1])[said]

    def piece(hidden: Tensor, base: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = policy.head(hidden)  # (n, V)
        with torch.no_grad():
            base_logits = logits if reference is None else reference.head(base)
        return score.log_probs_and_kl(logits, base_logits, targets, temperature)

    size = max(1, SLICE // policy.config.vocab_size)
    pieces = [recomputed(piece, *part, use_reentrant=False, preserve_rng_state=False)
              for part in zip(hidden.split(size), base.split(size), targets.split(size))]
    log_probs, kl = (torch.cat(parts) for parts in zip(*pieces))
    return log_probs, kl


def learn(policy: GPT, reference: GPT | None, optimizer: torch.optim.Optimizer, episodes: Episodes, advantages: Tensor,
          betas: tuple[float, float], config: Config) -> dict[str, float]:
    """One optimiser step on one batch of episodes. advantages (B, 2). Without a reference the KL is 0.

    The optimiser's parameters are the policy's `masters`; the micro-batches' gradients are summed there, in float32.
    """
    B, sums, gap = len(episodes.tokens), torch.zeros(4, device=advantages.device), 0.0
    weights, held = list(policy.parameters()), optimizer.param_groups[0]["params"]
    optimizer.zero_grad()
    for rows in torch.arange(B, device=advantages.device).split(config.micro_batch):
        longest = int(episodes.lengths[rows].max())
        tokens, turn = episodes.tokens[rows, :longest], episodes.turn[rows, 1:longest]  # t predicts token t + 1
        said = turn > 0
        flat_log_probs, flat_kl = of_said(policy, reference, tokens, said, config.temperature)  # (N,), (N,)
        log_probs = torch.zeros_like(said, dtype=torch.float32).masked_scatter(said, flat_log_probs)  # (b, T)
        kl = torch.zeros_like(log_probs).masked_scatter(said, flat_kl)
        score.policy_loss(log_probs, kl, turn, advantages[rows], betas, B).backward()
        for weight, master in zip(weights, held):
            master.grad = weight.grad.float() if master.grad is None else master.grad.add_(weight.grad)
            weight.grad = None
        sums += torch.stack([(value.detach() * (turn == i)).sum() for value in (kl, log_probs) for i in (1, 2)])
        if reference is not None:  # what was sampled from and what is trained must be one policy
            gap = max(gap, (log_probs.detach() - episodes.log_probs[rows, 1:longest]).abs().max().item())
    norm = torch.nn.utils.clip_grad_norm_(held, config.gradient_clip)
    optimizer.step()
    for weight, master in zip(weights, held):
        weight.data.copy_(master)  # rounded, if the weights are bfloat16; if not, they are one tensor
    means = dict(zip(("kl_t1", "kl_t2", "log_prob_t1", "log_prob_t2"), (sums / B).tolist()))
    return means | {"gradient_norm": norm.item(), "sampler_gap": gap}


def grade(config: Config, problems: list[Problem], attempts: list[list[str]], device: torch.device) -> Tensor:
    """(B, 2) of 0 and 1: is each attempt right."""
    repeated = [problem for problem, texts in zip(problems, attempts) for _ in texts]
    right = rewards.judge(repeated, [text for texts in attempts for text in texts], config.timeout)
    return torch.tensor(right, dtype=torch.float32, device=device).view(len(problems), -1)


def length(config: Config, stage: score.Stage) -> int:
    """Steps of a stage."""
    return sum(getattr(config, name) for name in stage.steps)


def learning_rate(config: Config, stage: score.Stage, step: int) -> float:
    """Up over the first 5 % of a stage's steps, level, and down to 0 over its last 40 %."""
    peak = config.warm_learning_rate if stage is score.WARM_START else config.learning_rate
    steps = length(config, stage)
    return peak * min(1.0, (step + 1) / (0.05 * steps), (steps - step) / (0.4 * steps))


def train_step(config: Config, stage: score.Stage, step: int, policy: GPT, sampler: GPT, reference: GPT | None,
               optimizer: torch.optim.Optimizer, task: Task, clock: Counter) -> tuple[dict, str]:
    """Draw, play, grade, learn. Returns the step's row of the CSV and one whole episode as lines of text."""
    rng, started = random.Random(f"{config.seed} {stage.name} {step}"), time.perf_counter()
    device = policy.head.weight.device
    problems, episodes = collect(config, stage, sampler, reference, task, rng, device)
    played = time.perf_counter()
    attempts = episodes.texts(task.tokenizer, task.end)
    r = grade(config, problems, attempts, device)  # (B, 2) correctness: what is reported
    shaped = stage.rewards(r, getattr(config, stage.alpha) if stage.alpha else 0.0)  # (B, 2) reward: what is optimised
    advantages = shaped if stage.supervised else stage.baseline(shaped, config.samples, r)
    betas = tuple(getattr(config, name) if name else 0.0 for name in stage.betas)
    graded = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, stage, step)
    learnt = learn(policy, reference, optimizer, episodes, advantages, betas, config)
    done = time.perf_counter()
    clock.update({"playing": played - started, "grading": graded - played, "learning": done - graded})
    changed = (r[:, 0] != r[:, 1]).nonzero()[:, 0].tolist()  # show one in which something happens
    i = changed[0] if changed else 0
    met = rewards.metrics(r, attempts, task.final)
    return (describe(stage, step, episodes, r, met, shaped, learnt, done - started),
            show(problems[i], attempts[i], r[i].tolist()))


def draw(config: Config, task: Task, rng: random.Random, count: int) -> list[Problem]:
    """Training problems for one step."""
    if task.train:
        return rng.choices(task.train, k=count)
    return [data.draw_problem(config, rng, "train") for _ in range(count)]


def play(config: Config, policy: GPT, task: Task, problems: list[Problem], temperature: float,
         generator: torch.Generator | None, **how) -> Episodes:
    """Both turns of every problem."""
    prompts, request = [data.encode_prompt(task, p) for p in problems], data.encode(task.tokenizer, task.request)
    return rollout.two_turns(policy, prompts, request, task.end, longest_attempt(config), temperature, generator, **how)


def longest_attempt(config: Config) -> int:
    """Tokens after which an attempt is cut."""
    return config.max_new_tokens or (256 if config.data or config.init else max(config.levels) + 6)


# ---- what a person sees ----------------------------------------------------------------------------------------------
def describe(stage: score.Stage, step: int, episodes: Episodes, r: Tensor, met: dict[str, float], shaped: Tensor,
             learnt: dict[str, float], seconds: float) -> dict:
    """A step's row of the CSV. Shares are of episodes; per-turn quantities end in _t1 and _t2."""
    row = {"stage": stage.name, "step": step + 1}
    for i, turn in enumerate(("t1", "t2")):
        row |= {f"accuracy_{turn}": r[:, i].mean().item(), f"reward_{turn}": shaped[:, i].mean().item(),
                f"length_{turn}": (episodes.turn == i + 1).sum().item() / len(r),
                f"truncated_{turn}": 1 - episodes.ended[:, i].float().mean().item()}
    return row | {"i_to_c": met["i_to_c"], "c_to_i": met["c_to_i"], "unchanged": 1 - met["changed"],
                  **learnt, "tokens_per_second": episodes.lengths.sum().item() / seconds}


def line(row: dict, steps: int) -> str:
    """The row as one line to read; pairs are turn 1 and turn 2."""
    pair = lambda name, form: f"{row[name + '_t1']:{form}} {row[name + '_t2']:{form}}"
    return (f"{row['stage']:10} {row['step']:4}/{steps} | right {pair('accuracy', '.0%')} | "
            f"reward {pair('reward', '.2f')} | i->c {row['i_to_c']:.1%} c->i {row['c_to_i']:.1%} | "
            f"same {row['unchanged']:.0%} | KL {pair('kl', '.3f')} | log p {pair('log_prob', '.2f')} | "
            f"length {pair('length', '.1f')} | cut {pair('truncated', '.0%')} | gradient {row['gradient_norm']:.2f} | "
            f"{row['tokens_per_second']:,.0f} tok/s")


def show(problem: Problem, texts: list[str], right: list[float]) -> str:
    """One whole episode, right and wrong marked."""
    said = [f"    attempt {turn} [{'right' if ok else 'wrong'}] {text}"
            for turn, (text, ok) in enumerate(zip(texts, right), 1)]
    asked = problem.question + f"   (answer: {problem.answer})" * (not problem.tests)
    return "\n".join([f"    problem           {asked}", *said])


def table(results: dict[str, dict]) -> str:
    """The five metrics and their company, greedy on held-out problems; on the right the same at temperature 1."""
    lines = [f"{'':12}{'Accuracy@t1':>12}{'Accuracy@t2':>12}{'delta':>8}{'i->c':>7}{'c->i':>7}{'changed':>9}{'edit':>7}"
             f"{'truthful':>10}  |  T=1:{'t1':>6}{'t2':>7}{'delta':>8}"]
    for name, result in results.items():
        g, s = ({key: 100 * value for key, value in result[way].items()} for way in ("greedy", "sampled"))
        lines.append(f"{name:12}{g['accuracy_t1']:12.1f}{g['accuracy_t2']:12.1f}{g['delta']:+8.1f}{g['i_to_c']:7.1f}"
                     f"{g['c_to_i']:7.1f}{g['changed']:9.1f}{g['edit_ratio']:7.1f}{g['truthful']:10.1f}  |      "
                     f"{s['accuracy_t1']:6.1f}{s['accuracy_t2']:7.1f}{s['delta']:+8.1f}")
    return "\n".join(lines)


def vital_signs(s: dict[str, float]) -> str:
    """What the base model does when sampled at temperature 1: is there anything for RL to amplify?"""
    promising = not s["truthful"] <= 0.9 and 0.1 < s["rewrite_if_wrong"] and s["right_if_rewritten"] > 0
    verdict = ("It can check, it both repeats and rewrites, and some rewrites are right: RL has something to amplify."
               if promising else "It hardly checks, or hardly rewrites, or its rewrites are never right: expect RL to "
                                 "learn to repeat the first attempt. Give the warm start more steps (--warm-steps).")
    return (f"vital signs of the base model at T = 1: Accuracy@t1 {s['accuracy_t1']:.3f}, "
            f"Accuracy@t2 {s['accuracy_t2']:.3f}, P(rewrite | wrong) {s['rewrite_if_wrong']:.2f}, "
            f"P(rewrite | right) {s['rewrite_if_right']:.2f}, "
            f"P(right | wrong, rewritten) {s['right_if_rewritten']:.2f}, "
            f"truthful checks {s['truthful']:.3f}\n{verdict}")


def draw_curves(history: list[dict], results: dict[str, dict], path: Path):
    """A picture of every step. Without matplotlib, one line says how to get it."""
    try:
        import matplotlib
    except ImportError:
        return print('no picture of the curves: matplotlib is missing (pip install -e ".[plot]")')
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, panels = pyplot.subplots(2, 2, figsize=(11, 7), constrained_layout=True)
    shown = (("accuracy of sampled episodes", ("accuracy_t1", "accuracy_t2")),
             ("answers that change", ("i_to_c", "c_to_i")), ("share of repeated answers", ("unchanged",)),
             ("KL to the base model, nats per attempt", ("kl_t1", "kl_t2")))
    steps, colours = range(1, len(history) + 1), ("tab:blue", "tab:red")
    ends = [i for i, (a, b) in enumerate(zip(history, history[1:] + [{"stage": ""}]), 1) if a["stage"] != b["stage"]]
    for panel, (title, names) in zip(panels.flat, shown):
        for name, colour in zip(names, colours):
            panel.plot(steps, [row[name] for row in history], color=colour, linewidth=1, label=name)
            if name.startswith("accuracy"):
                greedy = [result["greedy"][name] for result in results.values()]
                panel.plot([0, *ends][:len(greedy)], greedy, "o", color=colour, label=f"{name}, greedy, held out")
        for end in ends[:-1]:
            panel.axvline(end, color="grey", linestyle=":")
        panel.set(title=title, xlabel=f"step ({', then '.join(dict.fromkeys(row['stage'] for row in history))})")
        panel.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


# ---- evaluation ------------------------------------------------------------------------------------------------------
def make_task(config: Config) -> Task:
    """The generated world, or what --data holds, in the tokens of --init."""
    tokenizer = data.load_tokenizer(Path(config.init)) if config.init else None
    if not config.data:
        return data.world_task(config, config.eval_problems, tokenizer)
    trains = config.warm_steps or any(length(config, stage) for stage in score.METHODS[config.method])
    train, test, bad = data.read_problems(Path(config.data), config.task, config.levels, config.subjects, config.seed,
                                          config.skip_bad_rows, config.timeout, bool(trains))
    print(f"{config.data}: {len(train):,} training and {len(test):,} test problems, {len(bad)} bad rows left out"
          + "".join(f"\n    {reason}" for reason in bad[:10]))
    if not test[0].tests and config.timeout != Config.timeout:
        raise BadInput("--timeout is not read with MATH: no program is run there")
    return data.chat_task(train, test[:config.eval_problems], tokenizer, critique=config.method == "prompt")


def evaluate(config: Config, policy: GPT, task: Task, name: str) -> dict:
    """The metrics on the held-out problems, greedy and at temperature 1, and one episode as text: a corrected one if
    there is one. With --task mbpp_r the first attempts are given, and wrong."""
    result, device, problems = {}, policy.head.weight.device, task.test
    batch = min(1024, 2 * config.problems * config.samples)
    for way, temperature in (("greedy", 0.0), ("sampled", 1.0)):
        generator, attempts = torch.Generator(device).manual_seed(config.seed), []
        for i in tqdm(range(0, len(problems), batch), desc=f"evaluate {name}, {way}", leave=False, disable=None):
            part, first = problems[i:i + batch], None
            if config.task == "mbpp_r":
                given = [(task.tokenizer.encode_ordinary(problem.wrong) + [task.end],) for problem in part]
                first = given_episodes(task, part, given, device)
            episodes = play(config, policy, task, part, temperature, generator, first=first)
            attempts += episodes.texts(task.tokenizer, task.end)
        r = grade(config, problems, attempts, device)
        checks = [data.is_truthful(p.question, text) for p, texts in zip(problems, attempts) for text in texts]
        truthful = sum(c is True for c in checks) / len(checks) if any(c is not None for c in checks) else math.nan
        result[way] = rewards.metrics(r, attempts, task.final) | {"truthful": truthful}
        if way == "greedy":
            chosen = int((r[:, 1] - r[:, 0]).argmax())
            result["example"] = show(problems[chosen], attempts[chosen], r[chosen].tolist())
    return result


# ---- files -----------------------------------------------------------------------------------------------------------
def write(path: Path, save):
    """save(temporary path), then put it in place: a killed run leaves the old file or the new one, never half a one."""
    temporary = path.with_name(path.name + ".tmp")
    save(temporary)
    os.replace(temporary, path)


def open_folder(folder: Path, settings: dict) -> Path:
    """The folder of a run with these settings, made if need be. BadInput if it belongs to another run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "config.json"
        if not file.exists() and any(folder.iterdir()):
            raise BadInput(f"{folder} is not empty and holds no config.json: name another folder with --out")
        if not file.exists():
            write(file, lambda path: path.write_text(json.dumps(settings, indent=1)))
        before = json.loads(file.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"{folder} cannot be used: {error}") from error
    settings = json.loads(json.dumps(settings))  # tuples become lists, as in the file
    changed = "; ".join(f"{flag(name)} was {before.get(name)!r} and is {value!r}"
                        for name, value in settings.items() if before.get(name) != value)
    if changed:
        raise BadInput(f"{folder} holds a run with other options ({changed}): remove it, or name another with --out")
    return folder


def load(path: Path, policy: GPT) -> dict:
    """A checkpoint, whose weights become the policy's; BadInput if the file is damaged or holds something else."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        policy.load_state_dict(state["policy"])
    except Exception as error:  # damaged bytes can make an unpickler raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadInput(f"{path} is damaged ({reason}): remove it to start this part again") from error
    return state


def write_csv(history: list[dict], path: Path):
    """Every step so far, a row each."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(history[0]))
        writer.writeheader()
        writer.writerows(history)


# ---- the loop --------------------------------------------------------------------------------------------------------
def train_stage(config: Config, folder: Path, stage: score.Stage, state: dict, policy: GPT, reference: GPT | None,
                task: Task, clock: Counter):
    """The one loop: steps state["step"] .. the end of the stage, with a checkpoint now and then."""
    steps, warm = length(config, stage), stage is score.WARM_START
    held = masters(policy)
    for name, master in held.items():
        master.copy_(state["policy"][name])  # what bfloat16 has no bits for is in the checkpoint
    optimizer = torch.optim.AdamW(held.values(), betas=(0.9, 0.99), weight_decay=0.01 if warm else 0.0)
    if state["optimizer"]:
        optimizer.load_state_dict(state["optimizer"])
    sampler = copy.deepcopy(policy).requires_grad_(False) if stage.rounds else policy
    if state["sampler"]:
        sampler.load_state_dict(state["sampler"])
    for step in tqdm(range(state["step"], steps), stage.name, total=steps, initial=state["step"], disable=None):
        if stage.rounds and step % math.ceil(steps / stage.rounds) == 0:
            sampler.load_state_dict(policy.state_dict())
        row, example = train_step(config, stage, step, policy, sampler, reference, optimizer, task, clock)
        state["history"].append(row)
        if (step + 1) % config.log_every == 0 or step + 1 == steps:
            tqdm.write(line(row, steps))
        if (step + 1) % config.show_every == 0 and not warm:
            tqdm.write(example)
        if (step + 1) % config.checkpoint_every == 0:
            state |= {"step": step + 1, "policy": policy.state_dict() | held, "optimizer": optimizer.state_dict(),
                      "sampler": sampler.state_dict() if stage.rounds else None}
            checkpoint(folder, state)


def checkpoint(folder: Path, state: dict):
    """Everything that a later start needs to go on as if nothing had happened."""
    write(folder / "checkpoint.pt", lambda path: torch.save(state, path))
    if state["history"]:
        write(folder / "log.csv", lambda path: write_csv(state["history"], path))


def run_stages(config: Config, folder: Path, stages: tuple[score.Stage, ...], policy: GPT, reference: GPT | None,
               task: Task, clock: Counter) -> dict:
    """Stage after stage from the last checkpoint on, evaluated before the first and after each (the base model's warm
    start, which has no reference, is not). Leaves model.pt."""
    fresh = {"step": 0, "optimizer": None, "sampler": None}
    state = {"stage": 0, **fresh, "policy": policy.state_dict(), "history": [], "results": {}}
    if (folder / "checkpoint.pt").exists():
        state = load(folder / "checkpoint.pt", policy)
        print(f"going on in {folder} after {len(state['history'])} steps")
    if reference is not None and not state["results"]:
        state["results"]["base"] = evaluate(config, policy, task, "base")
        print(vital_signs(state["results"]["base"]["sampled"]))
    while state["stage"] < len(stages):
        stage = stages[state["stage"]]
        train_stage(config, folder, stage, state, policy, reference, task, clock)
        if reference is not None:
            state["results"][stage.name] = evaluate(config, policy, task, stage.name)
        state |= {"stage": state["stage"] + 1, **fresh, "policy": policy.state_dict()}
        checkpoint(folder, state)
    write(folder / "model.pt", lambda path: torch.save({"policy": policy.state_dict()}, path))
    return state


def base_model(config: Config, policy: GPT, task: Task, clock: Counter):
    """Load the base model's weights into the policy, training them on the author's text if that has not been done."""
    settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)
                if f.name in BASE or f.name in World.__dataclass_fields__}
    name = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:10]
    folder = open_folder(Path(config.out) / f"base-{name}", settings)
    if not (folder / "model.pt").exists():
        print(f"base model: {config.warm_steps} supervised steps on the author's text (kept in {folder})")
        run_stages(config, folder, (score.WARM_START,), policy, None, task, clock)
    load(folder / "model.pt", policy)


def make_policy(config: Config, task: Task, device: torch.device) -> GPT:
    """The checkpoint of --init, or a small GPT with random weights, for conversations as long as this task's. Here,
    and nowhere else, the dtype of the weights is decided."""
    half = config.dtype == "bfloat16" or not config.dtype and config.init and device.type == "cuda"
    dtype = torch.bfloat16 if half else torch.float32
    torch.manual_seed(config.seed)
    try:
        policy = load_pretrained(config.init, device, dtype) if config.init else GPT(GPTConfig(
            task.tokenizer.n_vocab, config.layers, config.width, config.heads, config.heads,
            config.width // config.heads, config.hidden)).to(device, dtype)
    except ValueError as error:
        raise BadInput(f"--init: {error}") from error
    prompt, problem = max((len(data.encode_prompt(task, problem)), problem.name or problem.question)
                          for problem in task.train + task.test)
    needed = prompt + len(data.encode(task.tokenizer, task.request)) + 2 * longest_attempt(config) + 1
    if needed > policy.config.positions:
        raise BadInput(f"{problem}: {needed} positions are needed (prompt {prompt}, two attempts of up to "
                       f"{longest_attempt(config)}), the model has {policy.config.positions}: lower --max-new-tokens, "
                       "or leave such problems out")
    policy.recompute = config.recompute
    return policy


def run(config: Config):
    """The whole path: base model, stages, report."""
    device = torch.device(config.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.set_num_threads(config.threads)
    settings = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if not f.metadata["free"]}
    folder = Path(config.out) / f"{config.method}-seed{config.seed}"
    if (folder / "results.json").exists():
        open_folder(folder, settings)
        print(f"{folder} holds this run, finished; remove the folder to run it again.")
        return print(table(json.loads((folder / "results.json").read_text())["results"]))
    task = make_task(config)
    clock, started = Counter(), time.perf_counter()
    policy = make_policy(config, task, device)
    open_folder(folder, settings)  # after all that can be wrong with --data and --init
    size = sum(weight.numel() for weight in policy.parameters())
    print(f"{config.method}, seed {config.seed}: {size:,} parameters, {task.tokenizer.n_vocab} words, {device.type}, "
          f"{config.threads} CPU thread{'s' * (config.threads > 1)}, in {folder}")
    base_model(config, policy, task, clock)
    if config.data:
        names = {"train": [p.name for p in task.train], "test": [p.name for p in task.test]}
        write(folder / "split.json", lambda path: path.write_text(json.dumps(names, indent=1)))
    reference = copy.deepcopy(policy).requires_grad_(False)
    stages = tuple(stage for stage in score.METHODS[config.method] if length(config, stage))  # none: evaluate only
    state = run_stages(config, folder, stages, policy, reference, task, clock)
    if config.init:
        save_pretrained(policy, folder / "model", like=config.init)
    draw_curves(state["history"], state["results"], folder / "curves.png")
    seconds = time.perf_counter() - started
    clock["the rest"] = seconds - sum(clock.values())
    report = {"config": settings, "results": state["results"], "seconds": seconds, "clock": clock}
    write(folder / "results.json", lambda path: path.write_text(json.dumps(report, indent=1)))
    last = list(state["results"])[-1]
    print(f"\n{len(task.test):,} held-out problems, greedy (right: sampled), shares in %\n{table(state['results'])}\n\n"
          f"a held-out episode after {last}:\n{state['results'][last]['example']}\n")
    print(f"{seconds:.0f} s: " + ", ".join(f"{name} {spent:.0f} s" for name, spent in clock.items()))
    print(f"every step: {folder / 'log.csv'}; curves: {folder / 'curves.png'}; model: {folder / 'model.pt'}")


def main(argv: list[str] | None = None):
    """Run the command line. Bad input is one line and status 2; Ctrl-C keeps the last checkpoint and says so."""
    try:
        run(parse(argv))
    except BadInput as error:
        print(f"train.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("\nstopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
