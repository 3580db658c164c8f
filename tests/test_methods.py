"""The other methods: each row of the table by hand, and what is theirs alone.

The oracle of the table is what it says in words, written down here a second time; that of the
baseline an enumeration of every trajectory (tests/test_score.py) and a loop. Who plays which
episode is watched on a small random model.
"""

import copy
import random
from dataclasses import replace

import pytest
import test_score
import torch
from test_score import CASES, exact_gradient, expected_gradient, make_game

import rollout
import score
import train
import world
from extras import methods
from extras.options import METHODS, Config
from model import GPT, GPTConfig
from rollout import Scene

CONFIG = replace(test_score.CONFIG, offline_share=0.4)
FATES = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])


# ---- what each attempt is paid -------------------------------------------------------------------
def test_the_other_methods_rewards_and_weights_by_hand():
    """Catches a right-wrong fate that is learnt, a right-right one in STaR, or a paid attempt 2 in
    single-turn RL."""
    assert methods.weighted_rewards(FATES, 10.0).tolist() == [[1, 11], [0, 11], [0, 0], [1, 0]]
    assert methods.single_turn_rewards(FATES).tolist() == [[1, 0], [0, 0], [0, 0], [1, 0]]
    assert methods.revision_weights(FATES).tolist() == [[0, 0], [0, 1], [0, 0], [0, 0]]
    assert methods.revision_weights_plus(FATES).tolist() == [[0, 1], [0, 1], [0, 0], [0, 0]]
    assert train.warm_start(CONFIG).rewards(FATES).tolist() == [[1, 1]] * 4  # right or wrong


# ---- the baseline among those that are alike -----------------------------------------------------
@pytest.mark.parametrize("name", CASES)
def test_the_alike_baseline_is_unbiased(name):
    """Catches a baseline that depends on the sample itself: its expected gradient is another."""
    game = make_game()
    stage, pay, betas = CASES[name]
    stage = replace(stage, advantages=methods.leave_one_out_alike)
    ours = expected_gradient(game, stage)
    torch.testing.assert_close(ours, exact_gradient(game, pay, betas), rtol=1e-5, atol=1e-6)


def test_the_alike_baseline_against_a_loop():
    """Catches a comparison with those of other problems or of another r1, and a sample that is
    alone with its r1 and compared with nobody."""
    coin = torch.Generator().manual_seed(1)
    r = (torch.rand(24, 2, generator=coin) < 0.4).float()
    shaped = score.stage_two_rewards(r, 10.0)
    advantages = methods.leave_one_out_alike(shaped, 4, r)
    assert torch.equal(advantages[:, 0], score.leave_one_out(shaped, 4)[:, 0])
    alone = 0
    for row in range(24):
        start = row // 4 * 4
        others = [i for i in range(start, start + 4) if i != row]
        alike = [i for i in others if r[i, 0] == r[row, 0]]
        alone += not alike
        paid = [shaped[i, 1].item() for i in alike or others]
        expected = shaped[row, 1].item() - sum(paid) / len(paid)
        assert advantages[row, 1].item() == pytest.approx(expected, abs=1e-5)
    assert 0 < alone < 24


def test_a_right_answer_kept_is_not_charged_for_a_neighbour_that_mended_one():
    """Catches the plain baseline: against 11 for mending, keeping (paid 1) would be punished."""
    r = torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    shaped = score.stage_two_rewards(r, 10.0)  # attempt 2 is paid 1, 1, 11, 0
    assert methods.leave_one_out_alike(shaped, 4, r)[:, 1].tolist() == [0, 0, 11, -11]


# ---- the table, row by row -----------------------------------------------------------------------
STAGE_ONE = {
    "name": "Stage I",
    "steps": 3,
    "betas": (0.7, 0.03),
    "pays": [[0, 1], [0, 1], [0, 0], [0, 0]],
}
STAGE_TWO = {
    "name": "Stage II",
    "steps": 5,
    "betas": (0.03, 0.03),
    "pays": [[1, 1], [0, 4], [0, 0], [1, -3]],
}
PLAIN = [[1, 1], [0, 1], [0, 0], [1, 0]]
STAR = {
    "name": "STaR",
    "steps": 8,
    "betas": (0.0, 0.0),
    "pays": [[0, 0], [0, 1], [0, 0], [0, 0]],
    "supervised": True,
    "rounds": 3,
}
PAIRS = STAR | {"name": "Pair-SFT", "rounds": 1, "collect": "paired_second_attempts"}
PLUS = [[0, 1], [0, 1], [0, 0], [0, 0]]
ALIKE = {"advantages": methods.leave_one_out_alike}
RL = STAGE_TWO | {"name": "RL", "steps": 8}
ROWS = {
    "score": [STAGE_ONE, STAGE_TWO],
    "score_without_bonus": [STAGE_ONE, STAGE_TWO | {"pays": PLAIN}],
    "score_without_stage_one": [STAGE_TWO | {"steps": 8}],
    "score_weighted": [STAGE_ONE, STAGE_TWO | {"pays": [[1, 4], [0, 4], [0, 0], [1, 0]]}],
    "score_star_stage_two": [STAGE_ONE, STAR | {"steps": 5}],
    "score_offline_first_attempts": [STAGE_ONE, STAGE_TWO | {"collect": "offline_first_attempts"}],
    "score_alike": [STAGE_ONE | ALIKE, STAGE_TWO | ALIKE],
    "multi_turn_rl": [RL | {"pays": PLAIN}],
    "second_turn_rl": [RL | {"betas": (0.0, 0.03), "pays": PLUS}],
    "single_turn_rl": [RL | {"betas": (0.03, 0.0), "pays": [[1, 0], [0, 0], [0, 0], [1, 0]]}],
    "star": [STAR],
    "star_plus": [STAR | {"pays": PLUS}],
    "pair_sft": [PAIRS],
    "pair_sft_plus": [PAIRS | {"pays": PLUS}],
    "prompt": [],
}


def described(stage):
    """What a stage says, to compare: its functions by what they return or by their names."""
    told = {
        "name": stage.name,
        "steps": stage.steps,
        "betas": stage.betas,
        "pays": stage.rewards(FATES).tolist(),
    }
    if stage.supervised:
        told["supervised"] = True
    if stage.rounds:
        told["rounds"] = stage.rounds
    if stage.advantages is not None:
        told["advantages"] = stage.advantages
    if stage.collect is not None:
        function = getattr(stage.collect, "func", stage.collect)  # of a partial
        told["collect"] = function.__name__
    return told


@pytest.mark.parametrize("method", METHODS)
def test_every_row_of_the_table_by_hand(method):
    """Catches a baseline that is SCoRe by another name: an ablation that ablates nothing, a method
    with another's steps, betas, rewards, rounds or episodes."""
    stages = methods.table(CONFIG)[method]
    assert [described(stage) for stage in stages] == ROWS[method]
    for stage in stages:
        assert (stage.problems, stage.samples, stage.learning_rate) == (7, 2, 0.25)
        assert stage.weight_decay == 0.0


def test_the_offline_share_is_the_option_s():
    """Catches a share that is fixed: an option that is read by nobody."""
    stage = methods.table(CONFIG)["score_offline_first_attempts"][1]
    assert stage.collect.args == (0.4,)


# ---- who plays -----------------------------------------------------------------------------------
def is_even(problems, texts):
    """A judge for tests: right is an even number of letters."""
    return [len(text) % 2 == 0 for text in texts]


@pytest.fixture
def scene():
    """8 problems 4 times each, a random policy, and a base model that says other things."""
    torch.manual_seed(0)
    config = Config(values=4, levels=(1, 2), problems=8, samples=4, max_new_tokens=8)
    task = replace(world.world_task(config, 4), judge=is_even)
    shape = GPTConfig(
        task.tokenizer.n_vocab, layers=1, width=16, heads=2, kv_heads=2, head_width=8, hidden=16
    )
    policy = GPT(shape)
    reference = copy.deepcopy(policy)
    torch.nn.init.normal_(reference.head.weight)
    rng = random.Random(1)
    problems = []
    for _ in range(8):
        problems += [world.draw_problem(config, rng, "train")] * 4
    generator = torch.Generator().manual_seed(3)
    return Scene(config, task, problems, policy, reference, rng, generator)


def log_probs_of(model, episodes):
    """The model's log-probability of every token from the second on, (B, T - 1)."""
    with torch.no_grad():
        log_probs = torch.log_softmax(model(episodes.tokens[:, :-1]), dim=-1)
    return log_probs.gather(2, episodes.tokens[:, 1:, None])[:, :, 0]


def test_offline_first_attempts_are_the_base_model_s_and_are_not_trained(scene, monkeypatch):
    """Catches first attempts that are the policy's own, or that are trained though the base model
    said them: for half of the problems y1 is the reference's, and y2 is the policy's as ever."""
    played = []
    play = rollout.play

    def watched(model, task, problems, *rest):
        episodes = play(model, task, problems, *rest)
        played.append((model, problems, episodes))
        return episodes

    monkeypatch.setattr(rollout, "play", watched)
    episodes = methods.offline_first_attempts(0.5, scene)
    half = scene.problems[:16]
    assert [model for model, _, _ in played] == [scene.reference, scene.player, scene.player]
    assert [problems for _, problems, _ in played] == [half, half, scene.problems[16:]]
    given = played[0][2]
    assert given.ended.shape == (16, 1)
    for row in range(16):
        assert episodes.said(row, turn=1) == given.said(row, turn=1)
    assert (episodes.turn[:16] == 1).sum() == 0 and (episodes.turn[:16] == -1).any(dim=1).all()
    assert (episodes.turn[16:] < 0).sum() == 0 and (episodes.turn[16:] == 1).any(dim=1).all()
    expected = log_probs_of(scene.player, episodes) * (episodes.turn[:, 1:] > 0)
    torch.testing.assert_close(episodes.log_probs[:, 1:], expected, atol=1e-4, rtol=1e-4)
    texts = episodes.texts(scene.task.tokenizer, scene.task.end)
    assert any(attempts[0] for attempts in texts[:16])


@pytest.mark.parametrize("share, offline", [(0.0, 0), (0.25, 8), (0.3, 8), (1.0, 32)])
def test_the_offline_share_counts_whole_problems(scene, share, offline):
    """Catches a group of one problem that is torn: half of it would be compared with other first
    attempts. Of 8 problems with 4 samples 0.3 is 2 problems, 8 episodes."""
    episodes = methods.offline_first_attempts(share, scene)
    is_given = (episodes.turn < 0).any(dim=1)
    assert is_given.tolist() == [True] * offline + [False] * (32 - offline)


def test_pairs_are_a_wrong_attempt_and_a_right_one_at_the_same_problem(scene):
    """Catches a second attempt that is wrong, of another problem, or attempt 1 itself where another
    right one was there."""
    episodes = methods.paired_second_attempts(scene)
    texts = episodes.texts(scene.task.tokenizer, scene.task.end)
    first = [attempts[0] for attempts in texts]
    for i, (_, second) in enumerate(texts):
        start = i - i % 4
        right = [first[j] for j in range(start, start + 4) if len(first[j]) % 2 == 0 and j != i]
        assert second in (right or [first[i]])
    assert {len(text) % 2 for text in first} == {0, 1}


def test_pairs_are_said_and_closed(scene):
    """Catches a cut attempt that stays open, and pairs that are given and so never trained."""
    end = scene.task.end
    alone = scene.play(scene.player, scene.problems, turns=1)
    assert 0 < alone.ended.sum() < 32, "both kinds of row must occur"
    scene.generator.manual_seed(3)  # the same first attempts once more
    episodes = methods.paired_second_attempts(scene)
    first = []
    for row in range(32):
        said = alone.said(row, turn=1)
        first.append(said if said[-1] == end else [*said, end])
    for row in range(32):
        assert episodes.said(row, turn=1) == first[row]
        assert episodes.said(row, turn=2) in first
        for turn in (1, 2):
            assert (episodes.turn[row] == turn).sum() == len(episodes.said(row, turn))
    assert episodes.ended.all()


def test_the_right_attempt_of_a_pair_is_a_random_one(scene):
    """Catches a pair that is always made with the first right attempt: the others are never learnt.
    Here all are right, and each row has three others to choose from."""
    task = replace(scene.task, judge=lambda problems, texts: [True] * len(texts))
    episodes = methods.paired_second_attempts(replace(scene, task=task))
    first = [episodes.said(row, turn=1) for row in range(32)]
    chosen = set()
    for row in range(32):
        others = methods.others_of_group(row, group_size=4)
        said = [first[other] for other in others]
        assert episodes.said(row, turn=2) in said
        chosen.add(said.index(episodes.said(row, turn=2)))
    assert chosen == {0, 1, 2}


def test_a_cut_attempt_is_closed_and_another_is_not_closed_twice():
    """Catches an `end` missing where an attempt was cut, or there twice where it was not."""
    episodes = rollout.empty_episodes(batch=2, size=4, turns=1, device="cpu")
    episodes.append(torch.tensor([[7, 8], [7, 9]]), torch.tensor([2, 2]), turn=1)
    episodes.ended[1, 0] = True
    assert methods.closed_attempt(episodes, row=0, end=9) == [7, 8, 9]
    assert methods.closed_attempt(episodes, row=1, end=9) == [7, 9]


def test_star_samples_from_a_copy_renewed_three_times(tmp_path, monkeypatch):
    """Catches a sampler that moves with the learner, or is never renewed: within one of the three
    rounds of collect and fine-tune it stands still."""
    seen = []
    step_of = train.train_step

    def watched(config, stage, step, policy, player, reference, optimizer, task, clock):
        seen.append((player.head.weight.sum().item(), policy.head.weight.sum().item()))
        task = replace(task, judge=is_even)
        return step_of(config, stage, step, policy, player, reference, optimizer, task, clock)

    monkeypatch.setattr(train, "train_step", watched)
    # 6 + 3 steps: three rounds of 3
    train.main(
        (
            "--values 4 --levels 1,2 --layers 1 --width 16 --heads 2 --hidden 16 --warm-steps 3"
            " --warm-batch 8 --stage-one-steps 6 --stage-two-steps 3 --problems 3 --samples 2"
            f" --eval-problems 16 --device cpu --method star_plus --out {tmp_path}"
        ).split()
    )
    seen = seen[3:]  # without the warm start
    players = [player for player, _ in seen]
    policies = [policy for _, policy in seen]
    assert len(seen) == 9 and len(set(players)) == 3
    for step in (0, 3, 6):
        assert players[step] == policies[step]
