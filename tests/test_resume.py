"""A killed run goes on as if nothing had happened: in the middle of every stage of every method.

Each method runs once in one piece and once in pieces: it is killed in the middle of each of its
stages, at a step behind its last checkpoint, and started again. Then everything it left must be the
same to the last bit: weights, the log, the results. The base model is made once for all.
"""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

import train
from extras import files, methods, options, report

# Steps, checkpoints and rounds do not fit into one another: STaR's three rounds begin at steps 0, 5
# and 10 of 13 (0, 3, 6 of 7), checkpoints come after 2, 4, 6, ..., and a run is killed at step 7 of
# 13 (5 of 7, 3 of 6): in the middle of a round, a step behind a checkpoint in that round.
SAID = """
    --values 4 --levels 1 --layers 1 --width 16 --heads 2 --hidden 16 --warm-steps 50
    --warm-batch 16 --warm-learning-rate 0.02 --stage-one-steps 6 --stage-two-steps 7 --problems 3
    --samples 4 --learning-rate 0.01 --eval-problems 8 --checkpoint-every 2 --log-every 100
    --show-every 100 --offline-share 0.6 --device cpu --threads 1
"""
KILLED_AT = {6: 3, 7: 5, 13: 7}  # steps of a stage: at which of them, counted from 0
TRAINED = [method for method in options.METHODS if method != "prompt"]


class Killed(BaseException):
    """Like KeyboardInterrupt, but nobody catches it."""


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """It takes longer than all the rest of a run."""
    monkeypatch.setattr(report, "draw_curves", lambda history, results, path: None)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A folder that holds the base model and nothing else."""
    folder = tmp_path_factory.mktemp("base")
    config = options.parse([*SAID.split(), "--out", str(folder)])
    task = train.make_task(config, trains=True)
    policy = train.make_policy(config, task, torch.device("cpu"))
    train.make_base_model(config, policy, task, train.Counter())
    return folder


def start(folder: Path, method: str, more: str = ""):
    """Run a method, or go on with it."""
    said = SAID
    if method != "score_offline_first_attempts":
        said = said.replace("--offline-share 0.6", "")
    train.main([*said.split(), "--method", method, "--out", str(folder), *more.split()])


def killed(monkeypatch, name: str, when):
    """Plant a kill: train.<name> dies where `when` of its arguments holds, before it does
    anything."""
    whole = getattr(train, name)

    def dies(*arguments):
        if when(*arguments):
            raise Killed
        return whole(*arguments)

    monkeypatch.setattr(train, name, dies)


def stages(method: str) -> list[str]:
    """The stages of a method by name."""
    config = options.parse(SAID.split())
    return [stage.name for stage in methods.table(config)[method]]


def left_by(folder: Path, method: str) -> dict:
    """All that a run left and that must not depend on how often it was killed."""
    folder = folder / f"{method}-seed0"
    rows = log(folder)
    for row in rows:
        row.pop("tokens_per_second")  # a time
    return {
        "log": rows,
        "results": json.dumps(json.loads((folder / "results.json").read_text())["results"]),
        "weights": torch.load(folder / "model.pt")["policy"],
        "checkpoint": torch.load(folder / "checkpoint.pt")["policy"],
        "files": sorted(file.name for file in folder.iterdir()),
    }


def log(folder: Path) -> list[dict[str, str]]:
    """The rows of the CSV."""
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def assert_same(found: dict, expected: dict):
    """Equal to the last bit."""
    for name in ("log", "results", "files"):
        assert found[name] == expected[name], name
    for name in ("weights", "checkpoint"):
        assert found[name].keys() == expected[name].keys()
        for key, weight in expected[name].items():
            assert torch.equal(found[name][key], weight), (name, key)


@pytest.fixture(scope="module")
def in_one_piece(base, tmp_path_factory):
    """left_by of each method's unbroken run, which is made when it is first asked for."""
    made = {}

    def left_by_unbroken(method: str) -> dict:
        if method not in made:
            folder = tmp_path_factory.mktemp("whole")
            shutil.copytree(base, folder, dirs_exist_ok=True)
            start(folder, method)
            made[method] = left_by(folder, method)
        return made[method]

    return left_by_unbroken


@pytest.mark.parametrize("method", TRAINED)
def test_a_run_killed_in_every_stage_ends_as_if_it_had_not_been(
    base, in_one_piece, tmp_path, monkeypatch, method
):
    """Catches what is lost on the way: the optimiser's state, the step, a row of the log, an
    earlier result, the player of a STaR round, or draws that depend on what was drawn before."""
    expected = in_one_piece(method)
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    for name in stages(method):
        with monkeypatch.context() as patch:

            def is_middle(config, stage, step, *rest):
                return stage.name == name and step == KILLED_AT[stage.steps]

            killed(patch, "train_step", is_middle)
            with pytest.raises(Killed):
                start(tmp_path, method)
    start(tmp_path, method)
    assert_same(left_by(tmp_path, method), expected)


@pytest.mark.parametrize("method", TRAINED)
def test_the_unbroken_runs_have_something_to_lose(in_one_piece, method):
    """Catches a test of resuming in which nothing is learnt, so that nothing can be lost: every
    stage moves the weights in the half before it is killed and in the half after."""
    rows = in_one_piece(method)["log"]
    for name in stages(method):
        norms = [float(row["gradient_norm"]) for row in rows if row["stage"] == name]
        kept = KILLED_AT[len(norms)] // 2 * 2  # done at the last checkpoint
        assert max(norms[:kept]) > 0
        assert max(norms[kept - 1 : kept + 1]) > 0  # what a player that is lost would have missed
        assert max(norms[kept:]) > 0


def test_a_round_is_played_by_the_model_that_it_began_with(base, tmp_path, monkeypatch):
    """Catches a player that is the policy as it was when the run was started again."""
    players = {}

    def watched(config, stage, step, policy, player, *rest):
        assert player is not policy
        players.setdefault(step, []).append(player.head.weight.detach().clone())
        if step == 7 and len(players[7]) == 1:
            raise Killed
        return train_step(config, stage, step, policy, player, *rest)

    train_step = train.train_step
    monkeypatch.setattr(train, "train_step", watched)
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    with pytest.raises(Killed):
        start(tmp_path, "star_plus")
    start(tmp_path, "star_plus")
    before, after = players[7]
    assert torch.equal(before, after)
    assert [len(seen) for _, seen in sorted(players.items())] == 6 * [1] + 2 * [2] + 5 * [1]
    for first, last in ((0, 4), (5, 9), (10, 12)):
        assert torch.equal(players[first][-1], players[last][-1])
    assert not torch.equal(players[4][-1], players[5][-1])
    assert not torch.equal(players[9][-1], players[10][-1])


def test_bfloat16_weights_go_on_with_what_bfloat16_has_no_bits_for(tmp_path, monkeypatch):
    """Catches a checkpoint of the rounded weights without their float32 masters."""
    start(tmp_path, "score", "--dtype bfloat16")
    expected = left_by(tmp_path, "score")
    shutil.rmtree(tmp_path / "score-seed0")  # the base model stays
    with monkeypatch.context() as patch:
        killed(patch, "train_step", is_in_stage_one)
        with pytest.raises(Killed):
            start(tmp_path, "score", "--dtype bfloat16")
    start(tmp_path, "score", "--dtype bfloat16")
    found = left_by(tmp_path, "score")
    assert_same(found, expected)
    assert {weight.dtype for weight in found["weights"].values()} == {torch.bfloat16}


# ---- other places to be killed at ----------------------------------------------------------------
def is_in_stage_one(config, stage, step, *rest) -> bool:
    return stage.name == "Stage I" and step == 3


def is_first_step(config, stage, step, *rest) -> bool:
    return stage.name == "Stage II" and step == 0


def is_right_behind_a_checkpoint(config, stage, step, *rest) -> bool:
    return stage.name == "Stage I" and step == 2


def is_warm_start(config, stage, step, *rest) -> bool:
    return stage.name == "warm start" and step == 27


def is_evaluation_of_the_base_model(config, policy, task, name) -> bool:
    return name == "base"


def is_evaluation_of_stage_one(config, policy, task, name) -> bool:
    return name == "Stage I"


def is_evaluation_of_stage_two(config, policy, task, name) -> bool:
    return name == "Stage II"


PLACES = [
    ("train_step", is_warm_start),
    ("train_step", is_right_behind_a_checkpoint),
    ("train_step", is_first_step),
    ("evaluate", is_evaluation_of_the_base_model),
    ("evaluate", is_evaluation_of_stage_one),
    ("evaluate", is_evaluation_of_stage_two),
]


@pytest.mark.parametrize("name, when", PLACES, ids=lambda place: getattr(place, "__name__", place))
def test_a_run_killed_elsewhere_ends_as_if_it_had_not_been(
    base, in_one_piece, tmp_path, monkeypatch, name, when
):
    """Catches a stage that is skipped or begun again, results that are made anew of a policy that
    has moved on, and a checkpoint that leaves out its last row."""
    expected = in_one_piece("score")
    if when is not is_warm_start:
        shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    with monkeypatch.context() as patch:
        killed(patch, name, when)
        with pytest.raises(Killed):
            start(tmp_path, "score")
    start(tmp_path, "score")
    assert_same(left_by(tmp_path, "score"), expected)


@pytest.mark.parametrize("done, rows", [(7, 6), (11, 10)])
def test_a_run_goes_on_from_its_last_checkpoint_and_not_from_the_start(
    base, tmp_path, monkeypatch, capsys, done, rows
):
    """Catches a checkpoint that is not written, or written and never read: the numbers would be
    right, and the time lost."""
    happened = []

    def step_watched(config, stage, step, *rest):
        if len(happened) == done + 2:  # two evaluations before Stage II
            happened.append("killed")
            raise Killed
        happened.append((stage.name, step))
        return train_step(config, stage, step, *rest)

    def evaluation_watched(config, policy, task, name):
        happened.append(name)
        return evaluate(config, policy, task, name)

    train_step = train.train_step
    evaluate = train.evaluate
    monkeypatch.setattr(train, "train_step", step_watched)
    monkeypatch.setattr(train, "evaluate", evaluation_watched)
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    with pytest.raises(Killed):
        start(tmp_path, "score")
    assert len(log(tmp_path / "score-seed0")) == rows
    start(tmp_path, "score")
    left = [("Stage II", step) for step in range(rows - 6, 7)]
    assert happened[done + 2 :] == ["killed", *left, "Stage II"]
    assert f"after {rows} steps" in capsys.readouterr().out


def test_how_often_checkpoints_are_written_changes_no_number(base, in_one_piece, tmp_path):
    """Catches an option for files that is one for numbers."""
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    start(tmp_path, "score", "--checkpoint-every 3 --log-every 1 --show-every 2")
    assert_same(left_by(tmp_path, "score"), in_one_piece("score"))


# ---- files are whole -----------------------------------------------------------------------------
def test_a_run_killed_while_it_writes_keeps_the_file_from_before(
    base, in_one_piece, tmp_path, monkeypatch
):
    """Catches a checkpoint that is half written when the run is killed, and then damaged."""
    saved = []

    def half(state, path):
        saved.append(path)
        if len(saved) == 2:
            Path(path).write_bytes(b"half")
            raise Killed
        save(state, path)

    save = torch.save
    shutil.copytree(base, tmp_path, dirs_exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(Killed):
            start(tmp_path, "score")
    start(tmp_path, "score")
    assert_same(left_by(tmp_path, "score"), in_one_piece("score"))


def test_a_file_is_whole_or_as_it_was(tmp_path):
    """Catches a file that is opened, emptied and then written."""
    file = tmp_path / "results.json"
    files.write_json(file, {"seed": 1})

    def dies(path: Path):
        path.write_text("{")
        raise Killed

    with pytest.raises(Killed):
        files.write_whole(file, dies)
    assert json.loads(file.read_text()) == {"seed": 1}
    files.write_json(file, {"seed": 2})
    assert json.loads(file.read_text()) == {"seed": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
