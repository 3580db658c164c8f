"""Nothing lost, nothing silent: steps that come to no number or teach nothing, kills, damage, two
runs at once, other inputs."""

import json
import math
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

import score
import train
from extras import files, report
from test_resume import SAID, assert_same, left_by, log
from world import BadInput

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = SAID.replace("--offline-share 0.6", "").split()


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    """It takes longer than all the rest of a run."""
    monkeypatch.setattr(report, "draw_curves", lambda history, results, path: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run in one piece."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_curves", lambda history, results, path: None)
        train.main([*TINY, "--out", str(folder)])
    return folder


def weights_of(folder: Path) -> dict:
    """The weights that a run left."""
    return torch.load(folder / "model.pt", weights_only=True)["policy"]


# ---- a step without signal -----------------------------------------------------------------------
def test_where_no_reward_differs_nothing_moves(tmp_path, monkeypatch, capsys):
    """Catches Adam making whole steps of rounding noise: with every attempt wrong the weights after
    two stages are the base model's, bit for bit, and the log says so."""
    monkeypatch.setattr(
        train, "grade", lambda task, problems, attempts: torch.zeros(len(attempts), 2)
    )
    train.main([*TINY, "--out", str(tmp_path), "--stage-one-steps", "25"])
    base = weights_of(next(tmp_path.glob("base-*")))
    after = weights_of(tmp_path / "score-seed0")
    assert all(torch.equal(base[name], after[name]) for name in base)
    assert {row["moved"] for row in log(tmp_path / "score-seed0")} == {"0.0"}
    said = capsys.readouterr().out
    assert said.count("look: no reward differed in the last 20 steps (Stage I)") == 1


def test_a_step_with_signal_moves(whole):
    """Catches a step that is left out though its rewards differ."""
    rows = log(whole / "score-seed0")
    assert "1.0" in {row["moved"] for row in rows}


# ---- what a person should look at ----------------------------------------------------------------
HEALTHY = {
    "stage": "Stage I",
    "moved": 1.0,
    "unchanged": 0.5,
    "truncated_t1": 0.0,
    "truncated_t2": 0.1,
    "kl_t1": 0.01,
    "kl_t2": 0.5,
}


@pytest.mark.parametrize(
    "sick, said",
    [
        ({}, None),
        ({"moved": 0.0}, "no reward differed"),
        ({"unchanged": 0.99}, "copies"),
        ({"unchanged": 0.97}, None),
        ({"truncated_t2": 0.6}, "cut"),
        ({"truncated_t1": 0.6}, "cut"),
        ({"kl_t1": 0.3}, "turn 1 left the base model"),
        ({"kl_t1": 0.3, "stage": "Stage I(3)"}, "turn 1 left the base model"),
        ({"kl_t1": 0.3, "stage": "Stage II"}, None),
        ({"kl_t2": 21.0}, "20 nats"),
        ({"moved": 0.0, "stage": "warm start"}, None),
    ],
)
def test_each_sign_is_said_once(sick, said):
    """Catches a sign that is not seen, seen in a healthy run, or said at every step."""
    rows = [HEALTHY | sick] * 20
    once: list[str] = []
    lines = report.looks(rows, once)
    assert len(lines) == (said is not None)
    for line in lines:
        assert line.startswith("look: ") and said in line
    assert report.looks(rows, once) == []
    assert report.looks(rows[:19], []) == []


# ---- a step that comes to no number --------------------------------------------------------------
def spoil(monkeypatch, stage: str, step: int, value: float):
    """One step's loss is multiplied by a value."""
    at: list = []
    train_step = train.train_step
    policy_loss = score.policy_loss

    def noted(config, at_stage, at_step, *rest):
        at[:] = [at_stage.name, at_step]
        return train_step(config, at_stage, at_step, *rest)

    def spoilt(*arguments, **named):
        loss = policy_loss(*arguments, **named)
        return loss * value if at == [stage, step] else loss

    monkeypatch.setattr(train, "train_step", noted)
    monkeypatch.setattr(score, "policy_loss", spoilt)


@pytest.mark.parametrize("value", [math.nan, 1e30])  # the norm of 1e30 in float32 is infinite
@pytest.mark.parametrize("stage, step", [("warm start", 10), ("Stage I", 3), ("Stage II", 5)])
def test_a_step_that_is_no_number_is_not_taken(
    whole, tmp_path, monkeypatch, capsys, stage, step, value
):
    """Catches NaN weights that are kept as a base model or a checkpoint: the run stops with one
    line and status 1, and goes on from its last checkpoint to the numbers of a whole run."""
    with monkeypatch.context() as patch:
        spoil(patch, stage, step, value)
        with pytest.raises(SystemExit) as ended:
            train.main([*TINY, "--out", str(tmp_path)])
    assert ended.value.code == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"{stage}, step {step + 1}: gradient_norm is" in said and "--replay" in said
    failed = next(tmp_path.glob("*/failed.pt"))
    state = torch.load(failed, weights_only=True)
    assert all(weight.isfinite().all() for weight in state["policy"].values())
    train.main([*TINY, "--out", str(tmp_path), "--replay", str(failed)])
    expected = log(whole / "score-seed0")
    if stage == "warm start":
        expected = log(next(whole.glob("base-*")))
    [row] = [row for row in expected if (row["stage"], row["step"]) == (stage, str(step + 1))]
    numbers = {name: x if name == "stage" else float(x) for name, x in row.items()}
    line = report.line(numbers | {"step": int(row["step"])}, 0).rpartition("|")[0]
    assert line.partition("/")[2][2:] in capsys.readouterr().out
    failed.unlink()
    train.main([*TINY, "--out", str(tmp_path)])
    assert_same(left_by(tmp_path, "score"), left_by(whole, "score"))


# ---- the log and the checkpoint ------------------------------------------------------------------
def test_rows_are_appended_behind_the_size_that_counts(tmp_path):
    """Catches rows twice after a kill between log and checkpoint, and a log written anew."""
    path = tmp_path / "log.csv"
    first = files.append_rows(path, [{"stage": "I", "a": 0.1}], 0)
    files.append_rows(path, [{"stage": "I", "a": 9.0}], first)  # its checkpoint was never written
    size = files.append_rows(path, [{"stage": "I", "a": 1 / 3}], first)
    assert files.read_rows(path) == [{"stage": "I", "a": 0.1}, {"stage": "I", "a": 1 / 3}]
    assert files.append_rows(path, [], size) == size == path.stat().st_size
    with pytest.raises(BadInput, match="log.csv has"):
        files.append_rows(path, [], size + 1)
    assert files.append_rows(tmp_path / "none.csv", [], 0) == 0
    assert not (tmp_path / "none.csv").exists()


def test_a_kill_between_log_and_checkpoint_loses_no_row(whole, tmp_path, monkeypatch):
    """Catches a log with rows twice, or with 12 of 13: the disk takes the log and not the
    checkpoint."""
    write_whole = train.write_whole
    for number in (3, 9):
        written: list = []

        def dies(path, save):
            if path.name == "checkpoint.pt" and path.parent.name == "score-seed0":
                written.append(path)
                if len(written) == number:
                    raise KeyboardInterrupt
            return write_whole(path, save)

        with monkeypatch.context() as patch:
            patch.setattr(train, "write_whole", dies)
            try:
                train.main([*TINY, "--out", str(tmp_path)])
            except SystemExit as ended:
                assert ended.code == 130
    train.main([*TINY, "--out", str(tmp_path)])
    assert_same(left_by(tmp_path, "score"), left_by(whole, "score"))


def test_a_checkpoint_does_not_grow(tmp_path):
    """Catches a history that is kept whole: after 60 steps a checkpoint holds 20 rows, and is no
    larger than after 30."""
    sizes = []
    write_whole = train.write_whole
    with pytest.MonkeyPatch.context() as patch:

        def watched(path, save):
            write_whole(path, save)
            if path.name == "checkpoint.pt" and path.parent.name == "score-seed0":
                sizes.append(path.stat().st_size)

        patch.setattr(train, "write_whole", watched)
        train.main([*TINY, "--out", str(tmp_path), "--stage-two-steps", "60"])
    state = torch.load(tmp_path / "score-seed0" / "checkpoint.pt", weights_only=True)
    assert len(state["history"]) == train.KEEP_OVER and state["unwritten"] == []
    assert max(sizes[-15:-1]) < 1.02 * max(sizes[-29:-15])


def test_a_flipped_bit_is_seen(whole, tmp_path):
    """Catches damaged weights that are loaded as they are: a bit flipped at 40 places of a
    checkpoint either is refused with the file's name or changes no weight."""
    data = (whole / "score-seed0" / "model.pt").read_bytes()
    expected = weights_of(whole / "score-seed0")
    config = train.options.parse(TINY)
    task = train.make_task(config, trains=True)
    policy = train.make_policy(config, task, torch.device("cpu"))
    rng = random.Random(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "model.pt").write_bytes(damaged)
        try:
            files.load_state(tmp_path / "model.pt", policy)
        except BadInput as error:
            assert "model.pt is damaged" in str(error)
            refused += 1
            continue
        for name, weight in policy.state_dict().items():
            assert torch.equal(weight, expected[name])
    assert refused > 20


# ---- two runs, other inputs ----------------------------------------------------------------------
def hold(folder, ready, ended):
    """Another process at work in a folder."""
    with files.locked(folder):
        ready.set()
        ended.wait(60)


@pytest.fixture
def other_run(tmp_path):
    """Another process at work in the folder, and the event that ends its work."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    ended = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready, ended))
    process.start()
    assert ready.wait(60)
    yield process, ended
    process.kill()
    process.join()


def test_a_folder_has_one_run_at_a_time(tmp_path, other_run):
    """Catches two runs that write into one another's files, and a lock that outlives its owner."""
    process, _ = other_run
    with pytest.raises(BadInput, match="another run is at work"):
        with files.locked(tmp_path):
            pass
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with files.locked(tmp_path):
        pass


def test_a_base_model_in_the_making_is_waited_for(tmp_path, other_run):
    """Catches two runs that make one base model at once, and a wait without a word or an end."""
    _, ended = other_run
    threading.Timer(1.0, ended.set).start()
    began = time.perf_counter()
    with files.locked(tmp_path, wait=True):
        assert time.perf_counter() - began > 0.5


def test_other_weights_have_another_fingerprint(tmp_path):
    """Catches a run that goes on from other weights: another byte at either end, another size,
    another name."""
    found = set()
    for name, content in (
        ("a.safetensors", b"x" * 3_000_000),
        ("a.safetensors", b"y" + b"x" * 2_999_999),
        ("a.safetensors", b"x" * 2_999_999 + b"y"),
        ("a.safetensors", b"x" * 3_000_001),
        ("b.safetensors", b"x" * 3_000_000),
    ):
        for file in tmp_path.iterdir():
            file.unlink()
        (tmp_path / name).write_bytes(content)
        found.add(files.fingerprint(tmp_path))
    assert len(found) == 5


def test_a_run_does_not_go_on_with_other_data(tmp_path, monkeypatch, capsys):
    """Catches a table whose first half was trained on one file and whose second on another."""
    data = tmp_path / "math.jsonl"
    rows = [
        {"problem": f"{n} + 1?", "solution": f"\\boxed{{{n + 1}}}", "split": "train"}
        for n in range(30)
    ]
    data.write_text("\n".join(json.dumps(row) for row in rows))
    said = (
        f"--data {data} --layers 1 --width 16 --heads 2 --hidden 16 --warm-steps 1 --warm-batch 2"
        " --stage-one-steps 1 --stage-two-steps 0 --problems 2 --samples 2 --max-new-tokens 3"
        f" --device cpu --out {tmp_path / 'out'}"
    ).split()
    with monkeypatch.context() as patch:
        patch.setattr(train, "train_stage", lambda *rest: 1 / 0)
        with pytest.raises(BaseException):
            train.main(said)
    rows[0]["solution"] = r"\boxed{77}"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        train.main(said)
    assert ended.value.code == 2
    assert "begun with other content of --data" in capsys.readouterr().err


# ---- kills from outside --------------------------------------------------------------------------
def kill_and_finish(folder: Path, times: int, seed: int):
    """Run in processes that are killed at random moments, then to the end."""
    rng = random.Random(seed)
    command = [sys.executable, str(REPOSITORY / "train.py"), *TINY, "--out", str(folder)]
    began = time.perf_counter()
    subprocess.run(command + ["--help"], capture_output=True)
    start = time.perf_counter() - began  # that long it takes to begin
    for _ in range(times):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(start + rng.random() * 2 * start)
        process.send_signal(rng.choice((signal.SIGKILL, signal.SIGTERM)))
        process.wait()
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def without_picture(found: dict) -> dict:
    """All but the list of files: these runs drew a picture."""
    return found | {"files": [name for name in found["files"] if name != "curves.png"]}


@pytest.mark.parametrize(
    "times", [3, pytest.param(25, marks=pytest.mark.slow)], ids=["three", "twenty-five"]
)
def test_runs_killed_at_random_moments_end_the_same(whole, tmp_path, times):
    """Catches anything half-written that a later start stumbles over, or that changes a number:
    kill -9, or SIGTERM, at moments of chance."""
    kill_and_finish(tmp_path, times, seed=times)
    found = without_picture(left_by(tmp_path, "score"))
    assert_same(found, without_picture(left_by(whole, "score")))
