"""More than two attempts: the stages against an enumeration, a run of three, killed and whole.

The policy of the enumeration is a table: three tokens, one token an attempt, a row of logits for
every context. So an episode of three attempts has 27 forms, and every expectation is a finite sum.
The oracle is PyTorch's gradient of that sum, written without the code under test.
"""

import itertools
import json
import math

import pytest
import torch

import score
import train
from extras import methods, options, report
from test_resume import SAID, Killed, assert_same, killed, left_by, log
from world import BadInput

TOKENS = range(3)
EPISODES = list(itertools.product(TOKENS, repeat=3))
GROUPS = torch.tensor(list(itertools.product(range(27), repeat=2)))  # (729, 2)
CONTEXTS = [said for turns in range(3) for said in itertools.product(TOKENS, repeat=turns)]
ROWS = torch.tensor([[CONTEXTS.index(said[:turn]) for turn in range(3)] for said in EPISODES])
SAID_TOKENS = torch.tensor(EPISODES)  # (27, 3)
THREE = options.Config(attempts=3, alpha=3.0, beta1=0.03, beta2=0.7, samples=2)


def table(seed: int) -> torch.Tensor:
    """Logits of every context, (13, 3)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(CONTEXTS), 3, generator=generator, dtype=torch.float64)


RIGHT = (table(2)[ROWS, SAID_TOKENS] > 0.2).double()  # (27, 3): r of each attempt, by its context


def expected_gradient(stage: score.Stage, policy: torch.Tensor, reference: torch.Tensor):
    """What the loop does, over every group of two episodes of one problem. A stage of two attempts
    never plays the third."""
    turns = len(stage.betas)
    rows = ROWS[:, :turns].flatten()
    targets = SAID_TOKENS[:, :turns].flatten()
    log_probs, kl = score.log_probs_and_kl(policy[rows], reference[rows], targets)
    log_probs = log_probs.view(27, turns)
    chance = torch.log_softmax(policy, dim=1)[ROWS, SAID_TOKENS].sum(dim=1).exp().detach()  # (27,)
    turn = torch.arange(1, turns + 1).expand(27, turns)
    shaped = stage.rewards(RIGHT[GROUPS.flatten(), :turns])
    advantages = score.leave_one_out(shaped, group_size=2).view(-1, 2, turns)
    loss_of_groups = torch.vmap(score.policy_loss, in_dims=(0, 0, 0, 0, None, None))
    losses = loss_of_groups(
        log_probs[GROUPS], kl.view(27, turns)[GROUPS], turn[GROUPS], advantages, stage.betas, 2
    )
    return torch.autograd.grad((chance[GROUPS].prod(dim=1) * losses).sum(), policy)[0]


def exact_gradient(pay, betas, policy: torch.Tensor, reference: torch.Tensor):
    """Gradient of the sum over attempts of -E[R_i] + beta_i KL_i, with probabilities of whole
    episodes. What came before an attempt is where it stands, and is not moved by it."""
    p = torch.softmax(policy, dim=1)
    q = torch.softmax(reference, dim=1)
    loss = 0.0
    for turn, beta in enumerate(betas):
        for before in itertools.product(TOKENS, repeat=turn):
            reached = 1.0
            for earlier in range(turn):
                reached = reached * p[CONTEXTS.index(before[:earlier]), before[earlier]].detach()
            row = CONTEXTS.index(before)
            for token in TOKENS:
                said = (*before, token)
                right = [r for r in RIGHT[EPISODES.index((*said, 0, 0)[:3])].tolist()]
                chance = p[row, token]
                kl = chance * (chance / q[row, token]).log()
                loss = loss + reached * (-chance * pay(right)[turn] + beta * kl)
    return torch.autograd.grad(loss, policy)[0]


CASES = [  # stage, what is paid, betas
    ("Stage I", lambda r: (0, r[1]), (0.7, 0.03)),
    ("Stage I(3)", lambda r: (0, 0, r[2]), (0.7, 0.7, 0.03)),
    (
        "Stage II",
        lambda r: (r[0], r[1] + 3 * (r[1] - r[0]), r[2] + 3 * (r[2] - r[1])),
        (0.03, 0.03, 0.03),
    ),
]


@pytest.mark.parametrize("name, pay, betas", CASES)
def test_expected_gradient_is_the_gradient_of_the_objective(name, pay, betas):
    """Catches an attempt that is paid for another, a bonus over two attempts, a KL weight that
    stands at another turn, and a third attempt that the loss leaves out."""
    stages = {stage.name: stage for stage in methods.table(THREE)["score"]}
    policy = table(0).requires_grad_()
    reference = table(1)
    ours = expected_gradient(stages[name], policy, reference)
    theirs = exact_gradient(pay, betas, policy, reference)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_rewards_of_three_attempts_by_hand():
    """Catches a change that is measured from the first attempt: wrong, right, right earns 1 + alpha
    once; right, wrong, right is charged alpha and then paid it."""
    r = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    assert score.stage_two_rewards(r, alpha=10.0).tolist() == [[0, 11, 1], [1, -10, 11]]
    assert score.stage_one_rewards(r).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_the_stages_of_every_method_of_three_attempts():
    """Catches a method with fewer steps than the others, one with a Stage I or a bonus that it must
    not have, and a Stage I that is held at the base model."""
    config = options.Config(attempts=4, stage_one_steps=5, stage_two_steps=7, beta1=0.1, beta2=0.5)
    table = methods.table(config)
    found = {}
    for method, stages in table.items():
        found[method] = [(stage.name, stage.steps, stage.betas) for stage in stages]
    one = [("Stage I", 5, (0.5, 0.1)), ("Stage I(3)", 5, (0.5, 0.5, 0.1))]
    one.append(("Stage I(4)", 5, (0.5, 0.5, 0.5, 0.1)))
    assert found == {
        "score": [*one, ("Stage II", 7, (0.1,) * 4)],
        "score_without_bonus": [*one, ("Stage II", 7, (0.1,) * 4)],
        "score_without_stage_one": [("Stage II", 22, (0.1,) * 4)],
        "multi_turn_rl": [("RL", 22, (0.1,) * 4)],
    }
    assert [stage.pinned_to_start for stage in table["score"]] == [False, True, True, False]
    mended = torch.tensor([[0.0, 1.0, 1.0, 1.0]])
    for method, paid in (("score", 11), ("score_without_stage_one", 11), ("multi_turn_rl", 1)):
        assert table[method][-1].rewards(mended).tolist() == [[0, paid, 1, 1]]
    assert table["score_without_bonus"][-1].rewards(mended).tolist() == [[0, 1, 1, 1]]


# ---- a run of three attempts ---------------------------------------------------------------------
OF_THREE = [*SAID.replace("--offline-share 0.6", "").split(), "--attempts", "3"]


def same(model, other) -> bool:
    """Whether two models have the same weights."""
    return all(map(torch.equal, model.state_dict().values(), other.state_dict().values()))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run in one piece, and (stage, step, policy before it, reference) of every
    step."""
    folder = tmp_path_factory.mktemp("three")
    seen = []
    train_step = train.train_step

    def watched(config, stage, step, policy, player, reference, *rest):
        before = train.copy.deepcopy(policy)
        seen.append((stage.name, step, before, train.copy.deepcopy(reference)))
        return train_step(config, stage, step, policy, player, reference, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_curves", lambda history, results, path: None)
        patch.setattr(train, "train_step", watched)
        train.main([*OF_THREE, "--out", str(folder)])
    return folder, seen


def test_each_stage_one_is_held_at_the_model_it_starts_from(whole):
    """Catches a Stage I(3) held at the base model or at the moving policy, and a Stage II that is
    held at anything but the base model."""
    _, seen = whole
    begins = {stage: policy for stage, step, policy, _ in seen if step == 0}
    assert list(begins) == ["warm start", "Stage I", "Stage I(3)", "Stage II"]
    base = begins["Stage I"]
    assert not same(base, begins["Stage I(3)"])
    for stage, _, _, reference in seen:
        if stage == "Stage I(3)":
            assert same(reference, begins["Stage I(3)"])
        elif stage != "warm start":
            assert same(reference, base)


def test_every_attempt_is_in_the_table_and_in_the_log(whole):
    """Catches a third attempt that is played and not reported, or reported where it was not
    played."""
    folder, _ = whole
    results = json.loads((folder / "score-seed0" / "results.json").read_text())["results"]
    for stage in results.values():
        for way in ("greedy", "sampled", "train"):
            metrics = stage[way]
            delta = metrics["accuracy_t3"] - metrics["accuracy_t1"]
            assert metrics["delta"] == pytest.approx(delta)
            assert metrics["delta"] == pytest.approx(metrics["i_to_c"] - metrics["c_to_i"])
    assert "Accuracy@t3" in report.table(results)
    rows = log(folder / "score-seed0")
    for row in rows:
        figures = [float(row[f"{name}_t3"]) for name in ("accuracy", "reward", "length")]
        assert all(map(math.isnan, figures)) == (row["stage"] == "Stage I")
        assert "nan" not in report.line(with_numbers(row), 6)
    moved = {row["stage"] for row in rows if float(row["kl_t3"]) > 0}
    assert moved == {"Stage I(3)", "Stage II"}


def with_numbers(row: dict[str, str]) -> dict:
    """A row of the CSV as it was."""
    return {name: text if name == "stage" else float(text) for name, text in row.items()} | {
        "step": int(row["step"])
    }


def test_a_killed_run_of_three_is_the_whole_one(whole, tmp_path, monkeypatch):
    """Catches a reference of Stage I(3) that a resumed run takes from the policy as it is then."""
    folder, _ = whole
    monkeypatch.setattr(report, "draw_curves", lambda history, results, path: None)
    for stage, step in (("Stage I", 3), ("Stage I(3)", 3), ("Stage II", 5)):
        with monkeypatch.context() as patch:

            def at(config, at_stage, at_step, *rest):
                return (at_stage.name, at_step) == (stage, step)

            killed(patch, "train_step", at)
            with pytest.raises(Killed):
                train.main([*OF_THREE, "--out", str(tmp_path)])
    train.main([*OF_THREE, "--out", str(tmp_path)])
    assert_same(left_by(tmp_path, "score"), left_by(folder, "score"))


def test_the_author_writes_as_many_attempts_as_are_played(whole):
    """Catches a base model that never saw a third attempt."""
    folder, _ = whole
    base = next(folder.glob("base-*"))
    rows = log(base)
    assert all(float(row["length_t3"]) > 0 and float(row["log_prob_t3"]) < 0 for row in rows)


@pytest.mark.parametrize(
    "said, named",
    [
        ("--attempts 1", "--attempts 1"),
        ("--attempts 0", "--attempts 0"),
        ("--attempts 11", "--attempts 11"),
        ("--attempts 3 --method star", "--attempts 3"),
        ("--attempts 3 --method single_turn_rl", "--attempts 3"),
        ("--attempts 3 --data x --task mbpp_r", "mbpp_r"),
    ],
)
def test_what_has_two_attempts_says_so(said, named):
    """Catches a number of attempts that nothing can play, or that a method would not read."""
    with pytest.raises(BadInput, match=named):
        options.parse(said.split())
