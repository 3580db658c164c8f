"""Baselines and ablations, each a row of data: the stages that follow the base model.

What this file is not: no method has a loop of its own. `table(config)` gives the stages of each by
name, and train.py's one loop runs them, each from the weights of the one before.

    table(config)["multi_turn_rl"]                   # (Stage("RL", ...),)

The paper's baselines: multi_turn_rl (Eq. 1 on both attempts), second_turn_rl (on attempt 2 alone,
as the paper trains its "standard multi-turn RL"), single_turn_rl, star, star_plus, pair_sft,
pair_sft_plus and prompt (Self-Refine); its ablations, score_without_bonus, score_without_stage_one,
score_star_stage_two and score_offline_first_attempts; ours, score_weighted and score_alike.
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

import rewards
import rollout
from rollout import Episodes, Scene
from score import Stage, leave_one_out, stage_one, stage_one_rewards, stage_two, stage_two_rewards


# ---- what each attempt is paid, or how much its log-likelihood weighs ----------------------------
def weighted_rewards(r: Tensor, alpha: float) -> Tensor:
    """(1 + alpha) r2 for attempt 2: Eq. 4's gradient in expectation, without its -alpha r1.

    >>> weighted_rewards(torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), alpha=10.0).tolist()
    [[1.0, 11.0], [0.0, 11.0], [1.0, 0.0]]
    """
    r1, r2 = r.unbind(dim=1)
    return torch.stack((r1, (1 + alpha) * r2), dim=1)


def single_turn_rewards(r: Tensor) -> Tensor:
    """Eq. 2 on attempt 1 alone."""
    r1, r2 = r.unbind(dim=1)
    return torch.stack((r1, torch.zeros_like(r2)), dim=1)


def revision_weights(r: Tensor) -> Tensor:
    """STaR and Pair-SFT learn attempt 2 where it is right after a wrong attempt 1.

    >>> revision_weights(torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])).tolist()
    [[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    r1, r2 = r.unbind(dim=1)
    return torch.stack((torch.zeros_like(r1), (1 - r1) * r2), dim=1)


def revision_weights_plus(r: Tensor) -> Tensor:
    """The same with the right-right pairs (D+): every right attempt 2 weighs 1."""
    return stage_one_rewards(r)


def leave_one_out_alike(rewards: Tensor, group_size: int, r: Tensor) -> Tensor:
    """Ours: attempt 2 against the others of its problem whose attempt 1 was equally right.

    rewards, r (correctness): (B, 2) -> (B, 2). Still unbiased, as attempt 1 is what attempt 2
    answers. The bonus's -alpha r1, the same in all that are compared, drops out: a right answer
    kept is not charged for a neighbour that was paid 1 + alpha for mending a wrong one. A sample
    that is alone with its r1 is compared with all others.

    Three samples with r1 = 1, 1, 0 and r2 = 1, 0, 1; attempt 2 (the right column) is paid r2:

    >>> r = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    >>> leave_one_out_alike(r, group_size=3, r=r).tolist()
    [[0.5, 1.0], [0.5, -1.0], [-1.0, 0.5]]
    """
    plain = leave_one_out(rewards, group_size)  # (B, 2)
    r1 = r[:, 0].view(-1, group_size)  # (P, G)
    paid = rewards[:, 1].view(-1, group_size, 1)  # (P, G, 1)
    itself = torch.eye(group_size, device=r.device)  # (G, G)
    alike = (r1[:, :, None] == r1[:, None, :]).float() - itself  # (P, G, G): who is compared
    count = alike.sum(dim=2)  # (P, G)
    others = (alike @ paid)[:, :, 0] / count.clamp(min=1)  # (P, G): their mean reward
    compared = paid[:, :, 0] - others
    alone = plain[:, 1].view_as(r1)
    second = torch.where(count > 0, compared, alone)
    return torch.stack((plain[:, 0], second.view(-1)), dim=1)


# ---- who plays -----------------------------------------------------------------------------------
def offline_first_attempts(share: float, scene: Scene) -> Episodes:
    """For the first `share` of the problems attempt 1 is the base model's, given and not learnt."""
    count = scene.config.samples * round(share * scene.config.problems)
    offline = scene.problems[:count]
    online = scene.problems[count:]
    parts = []
    if offline:
        first = scene.play(scene.reference, offline, turns=1)
        parts.append(scene.play(scene.player, offline, first=first))
    if online:
        parts.append(scene.play(scene.player, online))
    return rollout.join(parts)


def paired_second_attempts(scene: Scene) -> Episodes:
    """Pair-SFT: attempt 2 is a random *right* first attempt at the same problem.

    Where there is no other right one, it is attempt 1 again (and weighs nothing where that is
    wrong).
    """
    task = scene.task
    played = scene.play(scene.player, scene.problems, turns=1)
    texts = rollout.texts_of(task, played)
    right = rewards.grade(scene.problems, texts, task.judge)
    first = [closed_attempt(played, row, task.end) for row in range(len(texts))]
    attempts = []
    for row, y1 in enumerate(first):
        others = others_of_group(row, scene.config.samples)
        right_others = [other for other in others if right[other][0]]
        chosen = scene.rng.choice(right_others or [row])
        attempts.append([y1, first[chosen]])
    return scene.given(attempts)


def others_of_group(row: int, group_size: int) -> list[int]:
    """The other rows of the same problem.

    >>> others_of_group(5, group_size=4)
    [4, 6, 7]
    """
    start = row - row % group_size
    return [other for other in range(start, start + group_size) if other != row]


def closed_attempt(episodes: Episodes, row: int, end: int) -> list[int]:
    """The ids of a first attempt, with an `end` if it was cut."""
    ids = episodes.said(row, turn=1)
    return ids if episodes.ended[row, 0] else ids + [end]


# ---- the methods, a row each ---------------------------------------------------------------------
def supervised_stage(config, name: str, rounds: int) -> Stage:
    """STaR or Pair-SFT: the log-likelihood of chosen second attempts, collected in `rounds`."""
    return Stage(
        name=name,
        steps=config.stage_one_steps + config.stage_two_steps,
        problems=config.problems,
        samples=config.samples,
        learning_rate=config.learning_rate,
        rewards=revision_weights,
        betas=(0.0, 0.0),
        supervised=True,
        rounds=rounds,
    )


def more_attempts(config) -> dict[str, tuple[Stage, ...]]:
    """SCoRe, its ablations and plain RL with more than two attempts (the paper's Appendix A.3).

    Stage I comes once for each later attempt: attempt i is paid, and those before it are held at
    the model that this stage starts from. Stage II pays all, each later one also for its change.
    """
    attempts = config.attempts
    one = [stage_one(config)]
    for last in range(3, attempts + 1):
        betas = (config.beta2,) * (last - 1) + (config.beta1,)
        next_one = replace(one[0], name=f"Stage I({last})", betas=betas, pinned_to_start=True)
        one.append(next_one)
    two = replace(stage_two(config), betas=(config.beta1,) * attempts)
    plain = replace(two, rewards=partial(stage_two_rewards, alpha=0.0))
    total = (attempts - 1) * config.stage_one_steps + config.stage_two_steps
    return {
        "score": (*one, two),
        "score_without_bonus": (*one, plain),
        "score_without_stage_one": (replace(two, steps=total),),
        "multi_turn_rl": (replace(plain, name="RL", steps=total),),
    }


def table(config) -> dict[str, tuple[Stage, ...]]:
    """The stages of every method by its name. Methods of one stage have the steps of both."""
    if config.attempts > 2:
        return more_attempts(config)
    steps = config.stage_one_steps + config.stage_two_steps
    one = stage_one(config)
    two = stage_two(config)
    # Eq. 1: Stage II without the bonus.
    no_bonus = replace(two, rewards=partial(stage_two_rewards, alpha=0.0))
    # Ours: the bonus's expected gradient without its control variate.
    weighted = replace(two, rewards=partial(weighted_rewards, alpha=config.alpha))
    offline = replace(two, collect=partial(offline_first_attempts, config.offline_share))
    # The paper's "standard multi-turn RL": Eq. 1 on the pairs (x2, y2) alone; attempt 1 is sampled,
    # and neither paid nor pinned. It is Stage I without its strict KL.
    second_turn = replace(one, betas=(0.0, config.beta1))
    # Eq. 2 on attempt 1: attempt 2 is neither paid nor pinned.
    single_turn = replace(two, rewards=single_turn_rewards, betas=(config.beta1, 0.0))
    star = supervised_stage(config, "STaR", rounds=3)
    pairs = supervised_stage(config, "Pair-SFT", rounds=1)
    pairs = replace(pairs, collect=paired_second_attempts)
    plus = revision_weights_plus
    return {
        "score": (one, two),
        "score_without_bonus": (one, no_bonus),
        "score_without_stage_one": (replace(two, steps=steps),),
        "score_weighted": (one, weighted),
        "score_star_stage_two": (one, replace(star, steps=config.stage_two_steps)),
        "score_offline_first_attempts": (one, offline),
        "score_alike": (
            replace(one, advantages=leave_one_out_alike),
            replace(two, advantages=leave_one_out_alike),
        ),
        "multi_turn_rl": (replace(no_bonus, name="RL", steps=steps),),
        "second_turn_rl": (replace(second_turn, name="RL", steps=steps),),
        "single_turn_rl": (replace(single_turn, name="RL", steps=steps),),
        "star": (star,),
        "star_plus": (replace(star, rewards=plus),),
        "pair_sft": (pairs,),
        "pair_sft_plus": (replace(pairs, rewards=plus),),
        "prompt": (),  # no training: the request asks for a critique and a rewrite (Self-Refine)
    }
