"""The paper: SCoRe, "Training Language Models to Self-Correct via Reinforcement Learning".

arXiv 2409.12917, equations 1 to 4 and the metrics.

Tensors in, tensors out. What this file is not: it knows no model, no tokenizer, no text and no
optimiser. It is used by train.py, a few lines a step:

    log_probs, kl = log_probs_and_kl(logits, reference_logits, targets)
    rewards = stage_two_rewards(r, alpha=10.0)
    advantages = leave_one_out(rewards, group_size=8)
    loss = policy_loss(log_probs, kl, turn, advantages, betas, episodes)

Letters as in the paper: x1 is the problem, y1 the first attempt, x2 = x1 + y1 + a request to look
again, y2 the second attempt, r(y, y*) 1 where an attempt is right and 0 where it is wrong.
Shapes: B episodes, T positions, V tokens in the vocabulary; column i of a (B, 2) tensor belongs to
attempt i + 1.

What the paper leaves open, and what we chose:
1. the baseline is RLOO's: the mean reward of the *other* samples of the same problem, each turn
   against its own;
2. advantages are not divided by a standard deviation (with the bonus that would undo alpha);
3. a turn's log-probabilities and KL are summed over its tokens and averaged over episodes;
4. the KL to the base model is exact over the vocabulary at each sampled prefix, in both stages, and
   within a turn its gradient is complete: the part through the sampled prefixes is there too (see
   policy_loss);
5. in Stage I, beta2 weighs the KL of turn 1 and beta1 that of turn 2.
"""

from dataclasses import dataclass
from functools import partial
from typing import Callable

import torch
from torch import Tensor


# ---- log-probabilities and KL --------------------------------------------------------------------
def log_probs_and_kl(
    logits: Tensor,
    reference_logits: Tensor,
    targets: Tensor,
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """log pi(y_t | prefix) of each target, and the exact KL(pi || ref) at its prefix.

        KL(pi || ref) = sum over tokens v of pi(v) (log pi(v) - log ref(v))

    (N, V), (N, V), (N,) -> (N,) and (N,), in float32 and nats. The policy is the one that was
    sampled from, temperature included.

    Two tokens, pi = (1/2, 1/2), ref = (3/4, 1/4), token 0 was said:
    log 1/2 = -0.6931 and KL = 1/2 log(2/3) + 1/2 log 2 = 0.1438.

    >>> reference_logits = torch.tensor([[3.0, 1.0]]).log()
    >>> log_probs, kl = log_probs_and_kl(torch.zeros(1, 2), reference_logits, torch.tensor([0]))
    >>> round(log_probs.item(), 4), round(kl.item(), 4)
    (-0.6931, 0.1438)
    """
    policy = torch.log_softmax(logits.float() / temperature, dim=-1)  # (N, V)
    reference = torch.log_softmax(reference_logits.float() / temperature, dim=-1)  # (N, V)
    kl = (policy.exp() * (policy - reference)).sum(dim=-1)  # (N,) pi in front: not KL(ref || pi)
    log_probs = policy.gather(1, targets[:, None])[:, 0]  # (N,)
    return log_probs, kl


# ---- what each attempt is paid -------------------------------------------------------------------
def stage_one_rewards(r: Tensor) -> Tensor:
    """Eq. 3: attempt 2 is paid for being right, attempt 1 for nothing (only its KL speaks).

    r (B, 2) correctness -> (B, 2); of more attempts the last is paid. The four fates, right-right,
    wrong-right, wrong-wrong and right-wrong:

    >>> r = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    >>> stage_one_rewards(r).tolist()
    [[0.0, 1.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    """
    paid = torch.zeros_like(r)
    paid[:, -1] = r[:, -1]
    return paid


def stage_two_rewards(r: Tensor, alpha: float) -> Tensor:
    """Eq. 4: each attempt is paid for being right, attempt 2 also for the change it made.

        attempt 1: r1        attempt 2: r2 + alpha (r2 - r1)

    r (B, 2) correctness -> (B, 2); of more attempts each is paid for the change to the one before.
    With alpha = 0 it is Eq. 1, plain multi-turn RL. The same four fates with the paper's alpha:

    >>> r = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    >>> stage_two_rewards(r, alpha=10.0).tolist()
    [[1.0, 1.0], [0.0, 11.0], [0.0, 0.0], [1.0, -10.0]]
    """
    first = r[:, :1]  # (B, 1)
    later = r[:, 1:]  # (B, 1)
    before = r[:, :-1]  # (B, 1) of each later attempt, the one before it: with two attempts, r1
    bonus = alpha * (later - before)  # paid to attempt 1, too, it would teach to fail first
    return torch.cat((first, later + bonus), dim=1)


# ---- the gradient --------------------------------------------------------------------------------
def leave_one_out(rewards: Tensor, group_size: int) -> Tensor:
    """Reward minus the mean reward of the other group_size - 1 samples of the same problem (RLOO).

        A_j = R_j - (sum over the group of R - R_j) / (group_size - 1)

    (B, 2) -> (B, 2), each turn against its own; the rows of one problem are neighbours. The sample
    itself is left out, so the baseline does not depend on it and the gradient stays unbiased.

    >>> leave_one_out(torch.tensor([[1.0], [0.0], [0.0]]), group_size=3).tolist()
    [[1.0], [-0.5], [-0.5]]
    """
    groups = rewards.view(-1, group_size, rewards.shape[1])  # (problems, group_size, 2)
    others = groups.sum(dim=1, keepdim=True) - groups  # the sum without the sample itself
    baseline = others / (group_size - 1)
    return (groups - baseline).view_as(rewards)


def policy_loss(
    log_probs: Tensor,
    kl: Tensor,
    turn: Tensor,
    advantages: Tensor,
    betas: tuple[float, ...],
    episodes: int,
) -> Tensor:
    """The number whose gradient is minus that of the objective (REINFORCE, Eq. 2 to 4):

        mean over episodes of  sum over turns i of  A_i log pi(y_i | x_i) - beta_i KL_i

    log_probs, kl, turn: (B, T); advantages: (B, 2). Column i of advantages and betas meets the
    tokens whose turn is i + 1, and no others: turn 1 is never paid for what turn 2 did.
    `episodes` is the size of the whole batch, so the losses of its micro-batches add up to its own.

    The KL of a turn is an expectation over its own samples, KL_i = E[sum over t of KL_t], so its
    gradient has two parts: through each KL_t, and through how likely the prefix of each later KL_s
    was (log pi_t times the KL of the tokens after t).

    One episode, two tokens of turn 1 with log pi = -1 and -2, the advantage 3 and no KL:
    the loss is -(3 * -1 + 3 * -2) / 1 = 9.

    >>> log_probs, kl = torch.tensor([[-1.0, -2.0]]), torch.zeros(1, 2)
    >>> turn, advantages = torch.tensor([[1, 1]]), torch.tensor([[3.0, 5.0]])
    >>> policy_loss(log_probs, kl, turn, advantages, betas=(0.0, 0.0), episodes=1).item()
    9.0
    """
    loss = log_probs.new_zeros(())
    for i, beta in enumerate(betas):
        mine = (turn == i + 1).float()  # (B, T) 1 on the tokens of this turn
        kl_mine = kl * mine
        weight = advantages[:, i, None] - beta * kl_of_later_tokens(kl_mine)  # (B, T)
        loss = loss - (weight * log_probs * mine).sum() + beta * kl_mine.sum()
    return loss / episodes  # not by the number of tokens: long attempts would weigh less


def kl_of_later_tokens(kl: Tensor) -> Tensor:
    """At each token, the sum of the KL at the tokens after it: its share in how they came about.

    (B, T) -> (B, T), a number to weigh with and not to differentiate.

    >>> kl_of_later_tokens(torch.tensor([[0.5, 0.25, 2.0]])).tolist()
    [[2.25, 2.0, 0.0]]
    """
    total = kl.sum(dim=1, keepdim=True)  # (B, 1)
    up_to_here = kl.cumsum(dim=1)  # (B, T) this token included
    return (total - up_to_here).detach()


# ---- what is reported ----------------------------------------------------------------------------
def metrics(r: Tensor) -> dict[str, float]:
    """The paper's five metrics, from the first and the last attempt at each problem.

    r (B, turns) of 0 and 1: correctness, never a shaped reward. All are shares of all problems:
    accuracy_t1, accuracy_t2, delta = t2 - t1, i_to_c (incorrect, then correct) and c_to_i;
    delta = i_to_c - c_to_i. With more attempts there is an accuracy of each, and the last stands in
    the second's place in the other three.

    >>> metrics(torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
    {'accuracy_t1': 0.5, 'accuracy_t2': 0.75, 'delta': 0.25, 'i_to_c': 0.5, 'c_to_i': 0.25}
    """
    first = r[:, 0].bool()
    last = r[:, -1].bool()
    accuracies = {f"accuracy_t{i}": share(right) for i, right in enumerate(r.T.bool(), start=1)}
    return accuracies | {
        "delta": share(last) - share(first),
        "i_to_c": share(~first & last),
        "c_to_i": share(first & ~last),
    }


def share(rows: Tensor) -> float:
    """The share of rows that are true; 0 where there is no row at all."""
    return rows.float().mean().item() if len(rows) else 0.0


# ---- the two stages ------------------------------------------------------------------------------
@dataclass(frozen=True)
class Stage:
    """One stage of training as data: all in which stages and methods differ for the one loop."""

    name: str
    steps: int
    problems: int  # a step
    samples: int  # episodes a problem: the group of leave_one_out
    learning_rate: float  # at its highest (train.learning_rate)
    rewards: Callable[[Tensor], Tensor]  # correctness (B, 2) -> what each attempt is paid (B, 2)
    betas: tuple[float, ...]  # weights of the KL of turn 1, of turn 2: as many as attempts
    # What follows is for the warm start (train.py) and for baselines (extras/methods.py).
    supervised: bool = False  # `rewards` are weights of log-likelihoods, and have no baseline
    advantages: Callable[[Tensor, int, Tensor], Tensor] | None = None  # in leave_one_out's place
    collect: Callable | None = None  # rollout.Scene -> Episodes; None: the player plays both turns
    rounds: int = 0  # the player is a copy of the policy, renewed so often; 0: the policy itself
    weight_decay: float = 0.0
    pinned_to_start: bool = False  # the KL is to the model that the stage starts from, not the base


def stage_one(config) -> Stage:
    """Stage I, Eq. 3: learn to correct, and leave the first attempt as it was.

        maximise E[ r(y2, y*) - beta2 KL(pi(.|x1) || ref(.|x1)) - beta1 KL(pi(.|x2) || ref(.|x2)) ]

    Only the second attempt is paid; a strict KL holds the first at the base model. So the two come
    apart, and correcting is all there is to gain. (beta1 is Eq. 2's small KL, which stays on.)
    """
    return Stage(
        name="Stage I",
        steps=config.stage_one_steps,
        problems=config.problems,
        samples=config.samples,
        learning_rate=config.learning_rate,
        rewards=stage_one_rewards,
        betas=(config.beta2, config.beta1),
    )


def stage_two(config) -> Stage:
    """Stage II, Eq. 4, from Stage I's weights: better at both attempts, and still a correction.

        maximise E[ sum over i of r(y_i, y*) + [i = 2] alpha (r2 - r1)
                                  - beta1 KL(pi(.|x_i) || ref(.|x_i)) ]

    Both attempts are paid, the second also for the change: repeating a right answer earns nothing
    extra, mending a wrong one 1 + alpha, breaking a right one -alpha.
    """
    return Stage(
        name="Stage II",
        steps=config.stage_two_steps,
        problems=config.problems,
        samples=config.samples,
        learning_rate=config.learning_rate,
        rewards=partial(stage_two_rewards, alpha=config.alpha),
        betas=(config.beta1, config.beta1),
    )
