"""The paper's equations against an enumeration of every trajectory.

The policy here is a table: three tokens (0 ends an attempt), at most two tokens an attempt, one row
of logits for every context. So an attempt has 7 forms, an episode 49, and every expectation is a
finite sum. The oracle is PyTorch's gradient of that sum, written with probabilities of whole
attempts and none of the code under test. The stages are those that the loop gets, made from a
config in which no option has its default or its neighbour's value.
"""

import itertools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

import score
from extras.options import Config

CONFIG = Config(
    stage_one_steps=3,
    stage_two_steps=5,
    problems=7,
    samples=2,
    learning_rate=0.25,
    alpha=3.0,
    beta1=0.03,
    beta2=0.7,
)
LONGEST = 2  # tokens of an attempt
ATTEMPTS = [(0,), (1, 0), (2, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
EPISODES = list(itertools.product(ATTEMPTS, ATTEMPTS))
GROUPS = torch.tensor(list(itertools.product(range(len(EPISODES)), repeat=2)))  # (2401, 2)
CONTEXTS = {}  # (attempt 1 or None, prefix) -> row of the table
for before in [None, *ATTEMPTS]:
    for prefix in [(), (1,), (2,)]:
        CONTEXTS[before, prefix] = len(CONTEXTS)
TURN_ONE = slice(0, 3)  # the rows of the table that belong to attempt 1
TURN_TWO = slice(3, None)


@dataclass(frozen=True)
class Game:
    """A policy and a reference, and which attempts are right."""

    policy: Tensor  # (contexts, 3) logits
    reference: Tensor  # (contexts, 3) logits
    r1: dict  # y1 -> 0 or 1
    r2: dict  # (y1, y2) -> 0 or 1


def random_table(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(CONTEXTS), 3, generator=generator, dtype=torch.float64)


def make_game():
    """A random policy and reference; about half of the attempts are right."""
    coin = torch.Generator().manual_seed(2)
    r1 = {y1: float(torch.rand((), generator=coin) < 0.4) for y1 in ATTEMPTS}
    r2 = {pair: float(torch.rand((), generator=coin) < 0.5) for pair in EPISODES}
    return Game(random_table(0).requires_grad_(), random_table(1), r1, r2)


@pytest.fixture
def game():
    return make_game()


# ---- what the loop would do, over every episode --------------------------------------------------
def episode_rows(y1, y2):
    """Row of the table, token said, and turn at each of the 4 positions of an episode."""
    spots = []
    for turn, before, attempt in ((1, None, y1), (2, y1, y2)):
        for t, token in enumerate(attempt):
            spots.append((CONTEXTS[before, attempt[:t]], token, turn))
    while len(spots) < 2 * LONGEST:
        spots.append((0, 0, 0))  # past the end nobody speaks
    return spots


def batch(game):
    """All 49 episodes as the learner sees them: log_probs, kl and turn, each (49, 4)."""
    spots = torch.tensor([episode_rows(y1, y2) for y1, y2 in EPISODES])  # (49, 4, 3)
    rows, targets, turn = spots.unbind(dim=-1)
    log_probs, kl = score.log_probs_and_kl(
        game.policy[rows].flatten(0, 1), game.reference[rows].flatten(0, 1), targets.flatten()
    )
    return log_probs.view_as(turn), kl.view_as(turn), turn


def correctness(game):
    """r (49, 2) of every episode."""
    return torch.tensor([[game.r1[y1], game.r2[y1, y2]] for y1, y2 in EPISODES])


def chances(game):
    """How likely each episode is, (49,)."""
    found = []
    for y1, y2 in EPISODES:
        first = probability(game.policy, None, y1)
        found.append(first * probability(game.policy, y1, y2))
    return torch.stack(found).detach()


def expected_gradient(game, stage):
    """E[gradient of the loss] over every group of two episodes of one problem."""
    log_probs, kl, turn = batch(game)
    r = correctness(game)[GROUPS].flatten(0, 1)  # (2 * 2401, 2): a group's rows side by side
    shaped = stage.rewards(r)
    if stage.advantages is None:
        advantages = score.leave_one_out(shaped, group_size=2)
    else:
        advantages = stage.advantages(shaped, 2, r)
    loss_of_groups = torch.vmap(score.policy_loss, in_dims=(0, 0, 0, 0, None, None))
    losses = loss_of_groups(
        log_probs[GROUPS],
        kl[GROUPS],
        turn[GROUPS],
        advantages.view(-1, 2, 2),
        stage.betas,
        2,
    )
    chance = chances(game)[GROUPS].prod(dim=1)  # (2401,)
    return torch.autograd.grad((chance * losses).sum(), game.policy)[0]


# ---- what the paper asks for, without the code under test ----------------------------------------
def probability(table, before, attempt):
    """pi(attempt | x, before) as a product over its tokens."""
    product = torch.ones((), dtype=table.dtype)
    for t, token in enumerate(attempt):
        row = table[CONTEXTS[before, attempt[:t]]]
        product = product * torch.softmax(row, dim=-1)[token]
    return product


def exact_gradient(game, pay, betas):
    """Gradient of  - E[R1] - E[R2] + beta_1 KL(y1) + beta_2 KL(y2).

    pay(r1, r2) is (R1, R2) in plain numbers. Attempt 2 does not move the probability of y1.
    """
    loss = 0.0
    for y1 in ATTEMPTS:
        p1 = probability(game.policy, None, y1)
        q1 = probability(game.reference, None, y1)
        first, _ = pay(game.r1[y1], 0.0)
        loss = loss - p1 * first + betas[0] * p1 * (p1 / q1).log()
        for y2 in ATTEMPTS:
            p2 = probability(game.policy, y1, y2)
            q2 = probability(game.reference, y1, y2)
            _, second = pay(game.r1[y1], game.r2[y1, y2])
            second_turn = -p2 * second + betas[1] * p2 * (p2 / q2).log()
            loss = loss + p1.detach() * second_turn
    return torch.autograd.grad(loss, game.policy)[0]


def pay_of_stage_one(r1, r2):
    return 0.0, r2


def pay_of_stage_two(r1, r2):
    return r1, r2 + 3.0 * (r2 - r1)


def pay_of_plain_rl(r1, r2):
    return r1, r2


CASES = {  # stage, what each attempt is paid, betas of turn 1 and turn 2
    "Stage I": (score.stage_one(CONFIG), pay_of_stage_one, (0.7, 0.03)),
    "Stage I, turn 2 without KL": (
        score.stage_one(replace(CONFIG, beta1=0.0, beta2=2.0)),
        pay_of_stage_one,
        (2.0, 0.0),
    ),
    "Stage II": (score.stage_two(CONFIG), pay_of_stage_two, (0.03, 0.03)),
    "Stage II without KL": (
        score.stage_two(replace(CONFIG, beta1=0.0)),
        pay_of_stage_two,
        (0.0, 0.0),
    ),
    "Stage II without a bonus": (
        score.stage_two(replace(CONFIG, alpha=0.0)),
        pay_of_plain_rl,
        (0.03, 0.03),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_expected_gradient_is_the_gradient_of_the_objective(game, name):
    """Catches, all at once, a baseline that holds the sample itself, betas or rewards of the other
    stage or turn, a KL of the wrong direction or without its later prefixes, and a wrong sign."""
    stage, pay, betas = CASES[name]
    ours = expected_gradient(game, stage)
    torch.testing.assert_close(ours, exact_gradient(game, pay, betas), rtol=1e-5, atol=1e-6)


def test_turn_one_is_free_of_r2_and_alpha(game):
    """Catches turn-1 tokens that are moved by r2 or by the bonus: they learn to fail first."""
    stage = score.stage_two(CONFIG)
    before = expected_gradient(game, stage)
    flipped = replace(game, r2={pair: 1 - right for pair, right in game.r2.items()})
    after = [expected_gradient(flipped, stage)]
    for alpha in (0.0, 10.0):
        after.append(expected_gradient(game, score.stage_two(replace(CONFIG, alpha=alpha))))
    for gradient in after:
        assert torch.equal(before[TURN_ONE], gradient[TURN_ONE])
        assert not torch.allclose(before[TURN_TWO], gradient[TURN_TWO])


def test_in_stage_one_turn_one_is_free_of_both_rewards(game):
    """Catches a Stage I whose first attempt is paid for anything, its own success included."""
    stage = score.stage_one(CONFIG)
    before = expected_gradient(game, stage)
    flipped_first = replace(game, r1={y1: 1 - right for y1, right in game.r1.items()})
    flipped_second = replace(game, r2={pair: 1 - right for pair, right in game.r2.items()})
    assert torch.equal(before, expected_gradient(flipped_first, stage))
    after = expected_gradient(flipped_second, stage)
    assert torch.equal(before[TURN_ONE], after[TURN_ONE])
    assert not torch.allclose(before[TURN_TWO], after[TURN_TWO])


def test_the_bonus_is_one_plus_alpha_times_r2_in_expectation(game):
    """Catches a bonus that is no control variate: r2 + alpha (r2 - r1) and (1 + alpha) r2 have the
    same expected gradient."""

    def weighted(r):
        return torch.stack((r[:, 0], 4.0 * r[:, 1]), dim=1)

    stage = score.stage_two(CONFIG)
    torch.testing.assert_close(
        expected_gradient(game, stage),
        expected_gradient(game, replace(stage, rewards=weighted)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_stage_one_pays_turn_one_nothing_and_pins_it(game):
    """Catches a Stage I in which attempt 1 feels more than its KL: at the reference it must not
    move at all."""
    at_reference = replace(game, reference=game.policy.detach())
    gradient = expected_gradient(at_reference, score.stage_one(CONFIG))
    assert gradient[TURN_ONE].abs().max() < 1e-7
    assert gradient[TURN_TWO].abs().max() > 0.001


def test_the_kl_of_a_turn_is_that_of_whole_attempts(game):
    """Catches a KL of one token where the whole attempt's is meant: summed over a turn's tokens and
    averaged over its samples it is sum over y of p(y) log(p(y) / q(y))."""
    _, kl, turn = batch(game)
    chance = chances(game)
    first = 0.0
    second = 0.0
    for y1 in ATTEMPTS:
        p1 = probability(game.policy, None, y1)
        first += p1 * (p1 / probability(game.reference, None, y1)).log()
        for y2 in ATTEMPTS:
            p2 = probability(game.policy, y1, y2)
            second += p1 * p2 * (p2 / probability(game.reference, y1, y2)).log()
    for i, expected in ((1, first), (2, second)):
        ours = (chance * (kl * (turn == i)).sum(dim=1)).sum()
        assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_no_reward_no_gradient_and_some_reward_some(game):
    """Catches a reward that never reaches the gradient: it looks like training and is none."""
    stage = score.stage_two(replace(CONFIG, beta1=0.0))
    nothing = replace(game, r1=dict.fromkeys(game.r1, 0.0), r2=dict.fromkeys(game.r2, 0.0))
    assert expected_gradient(nothing, stage).abs().max() == 0
    assert expected_gradient(game, stage).abs().max() > 0.01


# ---- the stages ----------------------------------------------------------------------------------
FATES = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])


def test_stage_one_by_hand():
    """Catches an option of Stage I that is another's: beta2 pins turn 1, beta1 holds turn 2."""
    stage = score.stage_one(CONFIG)
    assert (stage.name, stage.steps, stage.problems, stage.samples) == ("Stage I", 3, 7, 2)
    assert stage.learning_rate == 0.25
    assert stage.betas == (0.7, 0.03)
    assert stage.rewards(FATES).tolist() == [[0, 1], [0, 1], [0, 0], [0, 0]]


def test_stage_two_by_hand():
    """Catches an option of Stage II that is another's: beta1 for both turns, alpha as said."""
    stage = score.stage_two(CONFIG)
    assert (stage.name, stage.steps, stage.problems, stage.samples) == ("Stage II", 5, 7, 2)
    assert stage.learning_rate == 0.25
    assert stage.betas == (0.03, 0.03)
    assert stage.rewards(FATES).tolist() == [[1, 1], [0, 4], [0, 0], [1, -3]]


@pytest.mark.parametrize("stage", [score.stage_one(CONFIG), score.stage_two(CONFIG)])
def test_both_stages_are_plain_reinforcement_learning(stage):
    """Catches a stage of the paper's that is supervised, decays its weights, or samples a copy."""
    assert not stage.supervised
    assert stage.advantages is None and stage.collect is None
    assert stage.rounds == 0 and stage.weight_decay == 0.0


# ---- the pieces, on numbers to check by eye ------------------------------------------------------
def test_stage_rewards_by_hand():
    """Catches a bonus of the wrong sign, size or turn, fate by fate, with the paper's alpha."""
    assert score.stage_one_rewards(FATES).tolist() == [[0, 1], [0, 1], [0, 0], [0, 0]]
    assert score.stage_two_rewards(FATES, 10.0).tolist() == [[1, 1], [0, 11], [0, 0], [1, -10]]
    assert score.stage_two_rewards(FATES, 0.0).tolist() == FATES.tolist()  # Eq. 1: plain RL


def test_leave_one_out_against_a_loop():
    """Catches a baseline of other problems, of the other turn, or with the sample itself in it."""
    rewards = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    kept = rewards.clone()
    advantages = score.leave_one_out(rewards, group_size=4)
    for row, turn in itertools.product(range(12), range(2)):
        start = row // 4 * 4
        others = [rewards[i, turn].item() for i in range(start, start + 4) if i != row]
        expected = rewards[row, turn].item() - sum(others) / 3
        assert advantages[row, turn].item() == pytest.approx(expected, abs=1e-6)
    assert torch.equal(rewards, kept)  # changed in place, they would be printed wrongly
    by_eye = score.leave_one_out(torch.tensor([[1.0], [0.0], [0.0]]), group_size=3)
    assert by_eye.tolist() == [[1.0], [-0.5], [-0.5]]


def test_kl_is_that_of_the_policy_to_the_reference():
    """Catches KL(ref || pi): KL((1/2, 1/2) || (9/10, 1/10)) = ln(5/3) = 0.511, not 0.368."""
    policy = torch.tensor([[0.5, 0.5]]).log()
    reference = torch.tensor([[0.9, 0.1]]).log()
    log_probs, kl = score.log_probs_and_kl(policy, reference, torch.tensor([1]))
    assert kl.item() == pytest.approx(math.log(5 / 3), abs=1e-6)
    assert log_probs.item() == pytest.approx(math.log(0.5), abs=1e-6)


def test_the_gradient_of_the_kl_by_hand():
    """Catches a KL that is not differentiated, or whose reference is: at one prefix
    d KL / d logit(v) = pi(v) (log pi(v) - log ref(v) - KL)."""
    policy = torch.tensor([[0.5, 0.3, 0.2]]).log().requires_grad_()
    reference = torch.tensor([[0.2, 0.2, 0.6]]).log()
    _, kl = score.log_probs_and_kl(policy, reference, torch.tensor([0]))
    kl.sum().backward()
    value = 0.5 * math.log(0.5 / 0.2) + 0.3 * math.log(0.3 / 0.2) + 0.2 * math.log(0.2 / 0.6)
    expected = []
    for p, q in ((0.5, 0.2), (0.3, 0.2), (0.2, 0.6)):
        expected.append(p * (math.log(p / q) - value))
    assert kl.item() == pytest.approx(value, abs=1e-6)
    assert policy.grad[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_log_probs_are_those_of_the_tempered_policy():
    """Catches a temperature that is left out or multiplied: at 2, the logits (2 ln 3, 0) are the
    probabilities (3/4, 1/4)."""
    logits = torch.tensor([[2 * math.log(3), 0.0]])
    log_probs, _ = score.log_probs_and_kl(logits, logits, torch.tensor([0]), temperature=2.0)
    assert log_probs.item() == pytest.approx(math.log(0.75), abs=1e-6)


def test_the_reference_has_the_policy_s_temperature():
    """Catches a reference at temperature 1: KL((3/4, 1/4) || (1/4, 3/4)) = ln(3) / 2 at 2."""
    policy = torch.tensor([[2 * math.log(3), 0.0]])
    reference = torch.tensor([[0.0, 2 * math.log(3)]])
    _, kl = score.log_probs_and_kl(policy, reference, torch.tensor([0]), temperature=2.0)
    assert kl.item() == pytest.approx(math.log(3) / 2, abs=1e-6)


def test_bfloat16_logits_are_made_float32_first():
    """Catches log-probabilities and KL with bfloat16's 8 bits: their rounding is the gap between
    sampler and learner."""
    generator = torch.Generator().manual_seed(0)
    policy = torch.randn(5, 30, generator=generator).bfloat16()
    reference = torch.randn(5, 30, generator=generator).bfloat16()
    targets = torch.randint(30, (5,), generator=generator)
    log_probs, kl = score.log_probs_and_kl(policy, reference, targets)
    exact, exact_kl = score.log_probs_and_kl(policy.float(), reference.float(), targets)
    assert log_probs.dtype == kl.dtype == torch.float32
    torch.testing.assert_close(log_probs, exact)
    torch.testing.assert_close(kl, exact_kl)


def test_loss_against_a_loop():
    """Catches padding, given tokens or the other turn's advantage, beta or later KL in the loss or
    in its gradient, token by token."""
    generator = torch.Generator().manual_seed(3)
    log_probs = torch.randn(5, 7, generator=generator, requires_grad=True)
    kl = torch.rand(5, 7, generator=generator, requires_grad=True)
    turn = torch.tensor(
        [
            [0, 1, 1, 0, 2, 2, 2],
            [0, 1, 0, 2, 0, 0, 0],
            [1, 1, 1, 0, 0, 2, 0],
            [0, 0, 1, 1, 0, 2, 2],
            [1, 2, 0, 0, 0, -1, -1],
        ]
    )
    advantages = torch.randn(5, 2, generator=generator)
    betas = (0.3, 0.7)
    kept = [x.clone() for x in (log_probs, kl, turn, advantages)]
    loss = score.policy_loss(log_probs, kl, turn, advantages, betas, episodes=5)
    expected = 0.0
    for b, t in itertools.product(range(5), range(7)):
        if turn[b, t] > 0:
            i = int(turn[b, t]) - 1
            later = [kl[b, s].item() for s in range(t + 1, 7) if turn[b, s] == i + 1]
            weight = advantages[b, i] - betas[i] * sum(later)
            expected = expected - weight * log_probs[b, t] / 5 + betas[i] * kl[b, t] / 5
    torch.testing.assert_close(loss, expected)
    ours = torch.autograd.grad(loss, (log_probs, kl))
    theirs = torch.autograd.grad(expected, (log_probs, kl))
    torch.testing.assert_close(ours, theirs)
    for x, before in zip((log_probs, kl, turn, advantages), kept):
        assert torch.equal(x, before)


def test_micro_batches_add_up_to_the_batch():
    """Catches a micro-batch that is weighed by its own number of tokens or episodes."""
    generator = torch.Generator().manual_seed(4)
    log_probs = torch.randn(6, 5, generator=generator)
    kl = torch.rand(6, 5, generator=generator)
    turn = torch.randint(0, 3, (6, 5), generator=generator)
    advantages = torch.randn(6, 2, generator=generator)

    def loss_of(rows):
        return score.policy_loss(
            log_probs[rows], kl[rows], turn[rows], advantages[rows], (0.1, 0.2), episodes=6
        )

    parts = loss_of([0]) + loss_of([1, 2, 3]) + loss_of([4, 5])
    torch.testing.assert_close(parts, loss_of([0, 1, 2, 3, 4, 5]))


def test_the_loss_is_averaged_over_episodes_and_not_over_tokens():
    """Catches a mean over tokens, in which a long attempt weighs less: two tokens of -1 and one of
    -1 with advantage 1 are a loss of 3 / 2."""
    turn = torch.tensor([[1, 1], [1, 0]])
    log_probs = -torch.ones(2, 2)
    loss = score.policy_loss(log_probs, torch.zeros(2, 2), turn, torch.ones(2, 2), (0, 0), 2)
    assert loss.item() == 1.5
