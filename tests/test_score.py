"""The paper's equations against an enumeration of every trajectory.

The policy here is a table: three tokens (0 ends an attempt), at most two tokens an attempt, one row of logits for
every context. So an attempt has 7 forms, an episode 49, and every expectation is a finite sum. The oracle is PyTorch's
gradient of that sum, written with probabilities of whole attempts and none of the code under test.
"""
import itertools
import math

import pytest
import torch

import score

END, LONGEST = 0, 2
ATTEMPTS = [(0,), (1, 0), (2, 0), (1, 1), (1, 2), (2, 1), (2, 2)]
CONTEXTS = {}  # (y1 or None, prefix) -> row of the table
for before in [None, *ATTEMPTS]:
    for prefix in [(), (1,), (2,)]:
        CONTEXTS[before, prefix] = len(CONTEXTS)
TURN_ONE = slice(0, 3)  # rows of the table that belong to attempt 1
EPISODES = list(itertools.product(ATTEMPTS, ATTEMPTS))


def random_table(seed):
    return torch.randn(len(CONTEXTS), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def world():
    """A policy, a reference and the correctness of each attempt: r1 of y1, r2 of (y1, y2)."""
    policy = random_table(0).requires_grad_()
    coin = torch.Generator().manual_seed(2)
    r1 = {y1: float(torch.rand((), generator=coin) < 0.4) for y1 in ATTEMPTS}
    r2 = {pair: float(torch.rand((), generator=coin) < 0.5) for pair in EPISODES}
    return policy, random_table(1), r1, r2


def probability(table, before, attempt):
    """pi(attempt | x, before) as a product over its tokens."""
    rows = torch.stack([table[CONTEXTS[before, attempt[:t]]] for t in range(len(attempt))])
    return torch.softmax(rows, dim=-1)[range(len(attempt)), attempt].prod()


def batch(policy, reference):
    """All 49 episodes as the learner sees them: log_probs, kl, turn of shape (49, 4), and their probabilities (49,)."""
    rows, targets, turn = [], [], []
    for y1, y2 in EPISODES:
        spots = [(CONTEXTS[before, y[:t]], y[t], i) for i, before, y in ((1, None, y1), (2, y1, y2))
                 for t in range(len(y))]
        spots += [(0, 0, 0)] * (2 * LONGEST - len(spots))  # past the end
        for column, value in zip((rows, targets, turn), zip(*spots)):
            column.append(value)
    rows, targets, turn = torch.tensor(rows), torch.tensor(targets), torch.tensor(turn)
    log_probs, kl = score.log_probs_and_kl(policy[rows].flatten(0, 1), reference[rows].flatten(0, 1), targets.flatten())
    chance = torch.stack([probability(policy, None, y1) * probability(policy, y1, y2) for y1, y2 in EPISODES])
    return log_probs.view_as(turn), kl.view_as(turn), turn, chance.detach()


def expected_gradient(world, rewards_of, betas, samples=2, baseline=score.leave_one_out):
    """E[gradient of the loss] over every group of two episodes of one problem, with leave-one-out advantages."""
    policy, reference, r1, r2 = world
    log_probs, kl, turn, chance = batch(policy, reference)
    r = torch.tensor([[r1[y1], r2[y1, y2]] for y1, y2 in EPISODES])
    shaped = rewards_of(r)
    total = 0.0
    for group in itertools.product(range(len(EPISODES)), repeat=samples):
        group = list(group)
        advantages = baseline(shaped[group], samples, r[group])
        loss = score.policy_loss(log_probs[group], kl[group], turn[group], advantages, betas, samples)
        total = total + chance[group].prod() * loss
    return torch.autograd.grad(total, policy)[0]


def exact_gradient(world, rewards_of, betas):
    """Gradient of  - E[R1] - E[R2] + beta_1 KL(y1) + beta_2 KL(y2), attempt 2 not moving the probability of y1."""
    policy, reference, r1, r2 = world
    loss = 0.0
    for y1 in ATTEMPTS:
        p1, q1 = probability(policy, None, y1), probability(reference, None, y1)
        loss = loss - p1 * rewards_of(torch.tensor([[r1[y1], 0.0]]))[0, 0] + betas[0] * p1 * (p1 / q1).log()
        for y2 in ATTEMPTS:
            p2, q2 = probability(policy, y1, y2), probability(reference, y1, y2)
            reward = rewards_of(torch.tensor([[r1[y1], r2[y1, y2]]]))[0, 1]
            loss = loss + p1.detach() * (-p2 * reward + betas[1] * p2 * (p2 / q2).log())
    return torch.autograd.grad(loss, policy)[0]


def stage_two(r):
    return score.stage_two_rewards(r, alpha=10.0)


@pytest.mark.parametrize("baseline", [score.leave_one_out, score.leave_one_out_alike])
@pytest.mark.parametrize("rewards_of, betas", [(score.stage_one_rewards, (0.1, 0.01)), (stage_two, (0.01, 0.01)),
                                               (stage_two, (0.0, 0.0)), (score.stage_one_rewards, (2.0, 0.0))])
def test_expected_gradient_is_the_gradient_of_the_objective(world, rewards_of, betas, baseline):
    """Leave-one-out, masks, turns, KL and signs at once: a baseline that holds the sample itself, a KL of the wrong
    direction, or a KL whose later prefixes are forgotten, all miss the enumerated gradient."""
    torch.testing.assert_close(expected_gradient(world, rewards_of, betas, baseline=baseline),
                               exact_gradient(world, rewards_of, betas), rtol=1e-5, atol=1e-6)


def test_turn_one_is_free_of_r2_and_alpha(world):
    """Turn-1 tokens moved by r2 or by the bonus teach the model to fail first."""
    policy, reference, r1, r2 = world
    flipped = policy, reference, r1, {pair: 1 - right for pair, right in r2.items()}
    before = expected_gradient(world, stage_two, (0.01, 0.01))
    for other, alpha in ((flipped, 10.0), (world, 0.0), (world, 3.0)):
        after = expected_gradient(other, lambda r: score.stage_two_rewards(r, alpha), (0.01, 0.01))
        assert torch.equal(before[TURN_ONE], after[TURN_ONE])
        assert not torch.allclose(before[3:], after[3:])


def test_the_bonus_is_one_plus_alpha_times_r2_in_expectation(world):
    """r2 + alpha (r2 - r1) and (1 + alpha) r2 have the same expected gradient: -alpha r1 is a control variate."""
    weighted = lambda r: torch.stack((r[:, 0], 11.0 * r[:, 1]), dim=1)
    torch.testing.assert_close(expected_gradient(world, stage_two, (0.0, 0.0)),
                               expected_gradient(world, weighted, (0.0, 0.0)), rtol=1e-5, atol=1e-6)


def test_stage_one_pays_turn_one_nothing_and_pins_it(world):
    """In Stage I attempt 1 feels its KL alone: at the reference it does not move at all."""
    policy, _, r1, r2 = world
    at_reference = policy, policy.detach(), r1, r2
    assert expected_gradient(at_reference, score.stage_one_rewards, (0.1, 0.01))[TURN_ONE].abs().max() < 1e-7


# ---- the pieces, on numbers to check by eye --------------------------------------------------------------------------
def test_stage_rewards_by_hand():
    r = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    assert score.stage_one_rewards(r).tolist() == [[0, 1], [0, 1], [0, 0], [0, 0]]
    assert score.stage_two_rewards(r, 10.0).tolist() == [[1, 1], [0, 11], [0, 0], [1, -10]]


def test_the_other_methods_rewards_and_weights_by_hand():
    r = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    assert score.stage_two_rewards(r, 0.0).tolist() == r.tolist()  # Eq. 1, plain multi-turn RL
    assert score.weighted_rewards(r, 10.0).tolist() == [[1, 11], [0, 11], [0, 0], [1, 0]]
    assert score.single_turn_rewards(r).tolist() == [[1, 0], [0, 0], [0, 0], [1, 0]]
    assert score.revision_weights(r).tolist() == [[0, 0], [0, 1], [0, 0], [0, 0]]
    assert score.revision_weights_plus(r).tolist() == [[0, 1], [0, 1], [0, 0], [0, 0]]
    assert score.author_weights(r).tolist() == [[1, 1]] * 4


def test_leave_one_out_against_a_loop():
    """The baseline is the mean of the others of the same problem and turn; the sample itself is not in it."""
    rewards = torch.randn(12, 2, generator=torch.Generator().manual_seed(0))
    kept = rewards.clone()
    advantages = score.leave_one_out(rewards, 4)
    for row, turn in itertools.product(range(12), range(2)):
        others = [rewards[i, turn].item() for i in range(row // 4 * 4, row // 4 * 4 + 4) if i != row]
        assert advantages[row, turn].item() == pytest.approx(rewards[row, turn].item() - sum(others) / 3, abs=1e-6)
    assert torch.equal(rewards, kept)  # an in-place baseline would corrupt the rewards that are printed
    assert score.leave_one_out(torch.tensor([[1.0], [0.0], [0.0]]), 3).tolist() == [[1.0], [-0.5], [-0.5]]


def test_the_alike_baseline_against_a_loop():
    """Attempt 2 against those whose attempt 1 was equally right, against all others where there is none of them."""
    coin = torch.Generator().manual_seed(1)
    r = (torch.rand(24, 2, generator=coin) < 0.4).float()
    shaped = score.stage_two_rewards(r, 10.0)
    advantages, alone = score.leave_one_out_alike(shaped, 4, r), 0
    assert torch.equal(advantages[:, 0], score.leave_one_out(shaped, 4)[:, 0])
    for row in range(24):
        others = [i for i in range(row // 4 * 4, row // 4 * 4 + 4) if i != row]
        alike = [i for i in others if r[i, 0] == r[row, 0]]
        alone += not alike
        mean = sum(shaped[i, 1].item() for i in alike or others) / len(alike or others)
        assert advantages[row, 1].item() == pytest.approx(shaped[row, 1].item() - mean, abs=1e-5)
    assert 0 < alone < 24
    kept = score.stage_two_rewards(torch.tensor([[1.0, 1], [1, 1], [0, 1], [0, 0]]), 10.0)  # 1, 1, 11, 0
    r = torch.tensor([[1.0, 1], [1, 1], [0, 1], [0, 0]])
    assert score.leave_one_out_alike(kept, 4, r)[:, 1].tolist() == [0, 0, 11, -11]  # nothing against what is right


def test_kl_is_that_of_the_policy_to_the_reference():
    """KL((1/2, 1/2) || (9/10, 1/10)) = ln(5/3) = 0.511; the other direction would be 0.368."""
    policy, reference = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    log_probs, kl = score.log_probs_and_kl(policy, reference, torch.tensor([1]))
    assert kl.item() == pytest.approx(math.log(5 / 3), abs=1e-6)
    assert log_probs.item() == pytest.approx(math.log(0.5), abs=1e-6)


def test_log_probs_are_those_of_the_tempered_policy():
    """At temperature 2, logits (2 ln 3, 0) are probabilities (3/4, 1/4)."""
    logits = torch.tensor([[2 * math.log(3), 0.0]])
    log_probs, _ = score.log_probs_and_kl(logits, logits, torch.tensor([0]), temperature=2.0)
    assert log_probs.item() == pytest.approx(math.log(0.75), abs=1e-6)


def test_loss_against_a_loop():
    """Value and gradient, token by token: padding, given tokens and the other turn's advantage must not enter."""
    generator = torch.Generator().manual_seed(3)
    log_probs = torch.randn(5, 7, generator=generator, requires_grad=True)
    kl = torch.rand(5, 7, generator=generator, requires_grad=True)
    turn = torch.tensor([[0, 1, 1, 0, 2, 2, 2], [0, 1, 0, 2, 0, 0, 0], [1, 1, 1, 0, 0, 2, 0], [0, 0, 1, 1, 0, 2, 2],
                         [1, 2, 0, 0, 0, 0, 0]])
    advantages, betas = torch.randn(5, 2, generator=generator), (0.3, 0.7)
    kept = [x.clone() for x in (log_probs, kl, turn, advantages)]
    loss = score.policy_loss(log_probs, kl, turn, advantages, betas, episodes=5)
    expected = 0.0
    for b, t in itertools.product(range(5), range(7)):
        if turn[b, t]:
            i = int(turn[b, t]) - 1
            behind = sum(kl[b, s].item() for s in range(t + 1, 7) if turn[b, s] == i + 1)
            expected = expected - (advantages[b, i] - betas[i] * behind) * log_probs[b, t] / 5 + betas[i] * kl[b, t] / 5
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(torch.autograd.grad(loss, (log_probs, kl)), torch.autograd.grad(expected, (log_probs, kl))):
        torch.testing.assert_close(ours, theirs)
    assert all(torch.equal(x, y) for x, y in zip((log_probs, kl, turn, advantages), kept))


def test_micro_batches_add_up_to_the_batch():
    """Weighing each micro-batch by its own number of tokens or episodes would change the gradient."""
    generator = torch.Generator().manual_seed(4)
    log_probs, kl = torch.randn(6, 5, generator=generator), torch.rand(6, 5, generator=generator)
    turn, advantages = torch.randint(0, 3, (6, 5), generator=generator), torch.randn(6, 2, generator=generator)
    whole = score.policy_loss(log_probs, kl, turn, advantages, (0.1, 0.2), 6)
    parts = [score.policy_loss(log_probs[rows], kl[rows], turn[rows], advantages[rows], (0.1, 0.2), 6)
             for rows in ([0], [1, 2, 3], [4, 5])]
    torch.testing.assert_close(sum(parts), whole)


def test_no_reward_no_gradient_and_some_reward_some(world):
    """A reward that never reaches the gradient looks like training and is none."""
    policy, reference, r1, r2 = world
    nothing = policy, reference, dict.fromkeys(r1, 0.0), dict.fromkeys(r2, 0.0)
    assert expected_gradient(nothing, stage_two, (0.0, 0.0)).abs().max() == 0
    assert expected_gradient(world, stage_two, (0.0, 0.0)).abs().max() > 0.01
