"""The paper: SCoRe, "Training Language Models to Self-Correct via Reinforcement Learning", arXiv 2409.12917.

Tensors in, tensors out. What this file is not: it knows no model, no tokenizer, no text and no optimiser.
B episodes, T positions, V tokens in the vocabulary; column i of a (B, 2) tensor is attempt i + 1.

What the paper leaves open, and what we chose:
1. the baseline is RLOO's: the mean reward of the *other* samples of the same problem, each turn against its own;
2. advantages are not divided by a standard deviation (with the bonus that would undo alpha);
3. a turn's log-probabilities and KL are summed over its tokens and averaged over episodes;
4. the KL to the base model is exact over the vocabulary at each sampled prefix, in both stages, and its gradient is
   complete: the part through the sampled prefixes is there too (see policy_loss);
5. in Stage I, beta2 weighs turn 1 and beta1 turn 2.
"""
from dataclasses import dataclass, replace
from typing import Callable

import torch
from torch import Tensor


def log_probs_and_kl(logits: Tensor, reference_logits: Tensor, targets: Tensor,
                     temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """log pi(y_t | prefix) and KL(pi || ref) = sum_v pi(v) (log pi(v) - log ref(v)) at each prefix.

    (N, V), (N, V), (N,) -> (N,), (N,), in float32. The policy is the one that was sampled from, temperature included.
    """
    policy = torch.log_softmax(logits.float() / temperature, dim=-1)  # (N, V)
    reference = torch.log_softmax(reference_logits.float() / temperature, dim=-1)  # (N, V)
    kl = (policy.exp() * (policy - reference)).sum(dim=-1)  # (N,) pi in front: KL(pi || ref), not KL(ref || pi)
    return policy.gather(1, targets[:, None])[:, 0], kl


def stage_one_rewards(r: Tensor, alpha: float = 0.0) -> Tensor:
    """Eq. 3: attempt 2 is paid for being right, attempt 1 for nothing (only its KL speaks). (B, 2) -> (B, 2)."""
    r1, r2 = r.unbind(dim=1)
    return torch.stack((torch.zeros_like(r1), r2), dim=1)


def stage_two_rewards(r: Tensor, alpha: float) -> Tensor:
    """Eq. 4: each attempt is paid for being right, attempt 2 also for the change. (B, 2) -> (B, 2).

    With alpha = 10, attempt 2 gets: right-right 1, wrong-right 11, wrong-wrong 0, right-wrong -10.
    With alpha = 0 it is Eq. 1, plain multi-turn RL.
    """
    r1, r2 = r.unbind(dim=1)
    return torch.stack((r1, r2 + alpha * (r2 - r1)), dim=1)


def weighted_rewards(r: Tensor, alpha: float) -> Tensor:
    """(1 + alpha) r2 for attempt 2: Eq. 4's gradient in expectation, without its control variate -alpha r1."""
    r1, r2 = r.unbind(dim=1)
    return torch.stack((r1, (1 + alpha) * r2), dim=1)


def single_turn_rewards(r: Tensor, alpha: float = 0.0) -> Tensor:
    """Eq. 2 on attempt 1 alone."""
    r1, r2 = r.unbind(dim=1)
    return torch.stack((r1, torch.zeros_like(r2)), dim=1)


def revision_weights(r: Tensor, alpha: float = 0.0) -> Tensor:
    """STaR and Pair-SFT learn attempt 2 where it is right after a wrong attempt 1. Weights of log-likelihoods."""
    r1, r2 = r.unbind(dim=1)
    return torch.stack((torch.zeros_like(r1), (1 - r1) * r2), dim=1)


def revision_weights_plus(r: Tensor, alpha: float = 0.0) -> Tensor:
    """The same with the right-right pairs (D+): every right attempt 2."""
    return stage_one_rewards(r)


def author_weights(r: Tensor, alpha: float = 0.0) -> Tensor:
    """The warm start learns all that its author wrote, right or wrong."""
    return torch.ones_like(r)


def leave_one_out(rewards: Tensor, group_size: int, r: Tensor | None = None) -> Tensor:
    """Reward minus the mean reward of the other group_size - 1 samples of the same problem, turn by turn.

    Rows of one problem are neighbours. (B, 2) -> (B, 2). With rewards 1, 0, 0 the advantages are 1, -1/2, -1/2.
    """
    groups = rewards.view(-1, group_size, rewards.shape[1])  # (P, G, 2)
    others = (groups.sum(dim=1, keepdim=True) - groups) / (group_size - 1)
    return (groups - others).view_as(rewards)


def leave_one_out_alike(rewards: Tensor, group_size: int, r: Tensor) -> Tensor:
    """Ours, not the paper's: attempt 2 against the others whose attempt 1 was equally right. r (B, 2): correctness.

    Still unbiased, as attempt 1 is what attempt 2 answers. The bonus's -alpha r1, the same in all that are compared,
    drops out: a right answer kept is no longer charged for a neighbour that was paid 1 + alpha for correcting a wrong
    one. A sample that is alone with its r1 is compared with all others. With r2 = 1, 0, 1 after r1 = 1, 1, 0 the
    advantages of attempt 2 are 1, -1, 1/2.
    """
    r1, plain = r[:, 0].view(-1, group_size), leave_one_out(rewards, group_size)
    alike = (r1[:, :, None] == r1[:, None, :]).float() - torch.eye(group_size, device=r.device)  # (P, G, G)
    count = alike.sum(dim=2)  # (P, G)
    others = (alike @ rewards[:, 1].view(-1, group_size, 1))[:, :, 0] / count.clamp(min=1)
    second = torch.where(count > 0, rewards[:, 1].view_as(r1) - others, plain[:, 1].view_as(r1))
    return torch.stack((plain[:, 0], second.view(-1)), dim=1)


def policy_loss(log_probs: Tensor, kl: Tensor, turn: Tensor, advantages: Tensor, betas: tuple[float, float],
                episodes: int) -> Tensor:
    """The number whose gradient is minus that of  mean over episodes of sum_i (A_i log pi(y_i | x_i) - beta_i KL_i).

    log_probs, kl, turn: (B, T); advantages: (B, 2). Column i of advantages and betas meets the tokens of turn i + 1
    and no others. `episodes` is the size of the whole batch, so the losses of micro-batches add up to that of the
    batch. The KL of a turn is an expectation over its own samples, KL_i = E[sum_t KL_t], so its gradient has two
    parts: through KL_t, and through how likely the prefix of each later KL_s was (log pi_t times the KL behind it).
    """
    loss = log_probs.new_zeros(())
    for i, beta in enumerate(betas):
        mine = (turn == i + 1).float()  # (B, T)
        kl_mine = kl * mine
        kl_behind = (kl_mine.sum(dim=1, keepdim=True) - kl_mine.cumsum(dim=1)).detach()  # (B, T) of later tokens
        weight = advantages[:, i, None] - beta * kl_behind
        loss = loss - (weight * log_probs * mine).sum() + beta * kl_mine.sum()
    return loss / episodes


@dataclass(frozen=True)
class Stage:
    """One stage of a method, as data: what the loop reads of it. steps, betas, alpha and offline name options.

    steps: their sum is the stage's length. rewards: what each attempt is paid or, with `supervised`, what its
    log-likelihood weighs. betas: weights of the KL of turn 1 and of turn 2 ("" is 0). alpha: for `rewards` ("" is 0).
    rounds: 0, the learner itself is sampled from; n, a copy of it, renewed n times (STaR's rounds of collect and
    fine-tune). offline: the share of problems whose first attempts are the base model's, given and not learnt.
    pairs: attempt 2 is replaced by a random right attempt 1 at the same problem (Pair-SFT). baseline: what is
    subtracted from the rewards.
    """

    name: str
    steps: tuple[str, ...]
    rewards: Callable[[Tensor, float], Tensor]
    betas: tuple[str, str] = ("", "")
    alpha: str = ""
    supervised: bool = False
    rounds: int = 0
    offline: str = ""
    pairs: bool = False
    baseline: Callable[[Tensor, int, Tensor], Tensor] = leave_one_out

    def reads(self) -> set[str]:
        """The options that mean something to this stage."""
        return {*self.steps, *self.betas, self.alpha, self.offline} - {""}


WHOLE = ("stage_one_steps", "stage_two_steps")  # the budget of both stages, for methods that have one
WARM_START = Stage("warm start", ("warm_steps",), author_weights, supervised=True)
STAGE_ONE = Stage("Stage I", ("stage_one_steps",), stage_one_rewards, ("beta2", "beta1"))
STAGE_TWO = Stage("Stage II", ("stage_two_steps",), stage_two_rewards, ("beta1", "beta1"), alpha="alpha")
STAR = Stage("STaR", WHOLE, revision_weights, supervised=True, rounds=3)
PAIR_SFT = Stage("Pair-SFT", WHOLE, revision_weights, supervised=True, rounds=1, pairs=True)

# A method is a row: the stages that follow the base model, each from the weights of the one before.
METHODS = {
    "score": (STAGE_ONE, STAGE_TWO),
    "score_without_bonus": (STAGE_ONE, replace(STAGE_TWO, alpha="")),
    "score_without_stage_one": (replace(STAGE_TWO, steps=WHOLE),),
    "score_weighted": (STAGE_ONE, replace(STAGE_TWO, rewards=weighted_rewards)),
    "score_star_stage_two": (STAGE_ONE, replace(STAR, steps=("stage_two_steps",))),
    "score_offline_first_attempts": (STAGE_ONE, replace(STAGE_TWO, offline="offline_share")),
    "score_alike": (replace(STAGE_ONE, baseline=leave_one_out_alike), replace(STAGE_TWO, baseline=leave_one_out_alike)),
    "multi_turn_rl": (replace(STAGE_TWO, name="RL", steps=WHOLE, alpha=""),),
    "single_turn_rl": (Stage("RL", WHOLE, single_turn_rewards, ("beta1", "")),),
    "star": (STAR,),
    "star_plus": (replace(STAR, rewards=revision_weights_plus),),
    "pair_sft": (PAIR_SFT,),
    "pair_sft_plus": (replace(PAIR_SFT, rewards=revision_weights_plus),),
    "prompt": (),  # no training: the request asks for a critique and a rewrite (Self-Refine)
}
