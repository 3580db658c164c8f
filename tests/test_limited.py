"""Training problems that come to an end: which they are, what is kept, what is reported of them."""

import csv
import dataclasses
import json
import random

import pytest
import torch
from test_train import refused, start, weights

import score
import train
import world
from extras import options, report


def task_of(*said):
    """The task that the stages of such a run train on."""
    config = options.parse(["--values", "4", "--eval-problems", "8", *said])
    return train.limit_training(config, train.make_task(config, trains=True))


def results_of(folder, run="score-seed0"):
    """What a finished run reports."""
    return json.loads((folder / run / "results.json").read_text())["results"]


# ---- which problems ------------------------------------------------------------------------------
def test_limited_problems_are_different_ones_of_the_training_split():
    """Catches a training set with doubles, or with problems that are evaluated."""
    task = task_of("--train-problems", "100")
    assert len({problem.question for problem in task.train}) == 100
    for problem in task.train:
        assert not world.in_test_split(*world.read_question(problem.question))


def test_limited_problems_are_the_seed_s():
    """Catches the same training set for every seed, and another one at every start."""
    first = task_of("--train-problems", "20").train
    again = task_of("--train-problems", "20").train
    other = task_of("--train-problems", "20", "--seed", "1").train
    assert first == again and first != other
    assert task_of("--train-problems", "0").train == []  # no end of them


def test_rows_from_files_are_a_sample_of_the_training_rows():
    """Catches the first N rows of a file (one subject of MATH), and rows of the test split."""
    rows = [world.Problem(str(i), "1", solution="1") for i in range(50)]
    whole = world.Task(None, 0, "", "", train=rows, test=[world.Problem("held out", "1")])
    config = options.Config(data="folder", train_problems=10)
    train_rows = train.limit_training(config, whole).train
    assert len(set(train_rows)) == 10 and set(train_rows) <= set(rows)
    assert train_rows != rows[:10]
    again = train.limit_training(dataclasses.replace(config, seed=1), whole).train
    assert again != train_rows


def test_rows_from_files_have_no_limit_of_their_own():
    """Catches a MATH run on 256 of its 7,500 rows that nobody asked for."""
    assert options.parse(["--data", "x"]).train_problems == 0
    assert options.parse(["--data", "x", "--train-problems", "64"]).train_problems == 64


def test_the_base_model_does_not_depend_on_the_limit(tmp_path):
    """Catches a warm start on the few training problems: methods would differ in their base."""
    start(tmp_path, "--train-problems", "6")
    start(tmp_path, "--method", "multi_turn_rl")
    assert len(list(tmp_path.glob("base-*"))) == 1
    assert (
        results_of(tmp_path)["base"]["greedy"]
        == results_of(tmp_path, "multi_turn_rl-seed0")["base"]["greedy"]
    )


def test_the_stages_train_on_the_limited_problems_alone(tmp_path, monkeypatch):
    """Catches a limit that no step reads."""
    drawn = []
    collect = train.collect

    def watched(config, stage, player, reference, task, rng):
        problems, episodes = collect(config, stage, player, reference, task, rng)
        drawn.append((stage.name, [problem.question for problem in problems]))
        return problems, episodes

    monkeypatch.setattr(train, "collect", watched)
    start(tmp_path, "--train-problems", "4")
    config = options.parse(
        "--values 4 --levels 1,2 --train-problems 4 --problems 3 --eval-problems 16".split()
    )
    few = {
        problem.question
        for problem in train.limit_training(config, train.make_task(config, True)).train
    }
    warm = {question for name, asked in drawn if name == "warm start" for question in asked}
    rl = {question for name, asked in drawn if name != "warm start" for question in asked}
    assert len(rl) > 1 and rl <= few and not warm <= few


@pytest.mark.parametrize(
    "said, named",
    [
        ("--train-problems 2 --problems 3", "less than a step's --problems"),
        ("--train-problems 1000000", "do not exist"),
        ("--train-problems -1", "--train-problems"),
        ("--train-problems 5 --stage-one-steps 0 --stage-two-steps 0", "without a step"),
        ("--keep first", "--keep"),
    ],
)
def test_limits_that_cannot_be_are_named(tmp_path, capsys, said, named):
    """Catches a traceback, or a run that trains on something else than was asked for."""
    arguments = "--values 4 --problems 3 --eval-problems 8".split()
    message = refused(capsys, [*arguments, "--out", str(tmp_path), *said.split()])
    assert named in message and message.count("error") == 1 and not list(tmp_path.iterdir())


# ---- which weights are kept ----------------------------------------------------------------------
def kept_steps(rewards, window, monkeypatch):
    """After each step, the step whose weights would be kept. The weights are the step's number."""
    monkeypatch.setattr(train, "KEEP_OVER", window)
    policy = torch.nn.Linear(1, 1, bias=False)
    stage = score.stage_two(options.Config())
    state = {"best": None, "history": [{"stage": "Stage I", "reward_t1": 99, "reward_t2": 99}]}
    kept = []
    for step, reward in enumerate(rewards, start=1):
        policy.weight.data.fill_(step)
        row = {"stage": stage.name, "step": step}
        second = step * step  # neither attempt's reward alone goes up and down with their sum
        row |= {"reward_t1": reward - second, "reward_t2": second}
        state["history"].append(row)
        train.keep_best(state, stage, policy, {})
        best = state["best"]
        kept.append(None if best is None else best["step"])
        assert best is None or best["policy"]["weight"].item() == best["step"]
    return kept


def test_the_weights_of_the_highest_mean_reward_are_kept(monkeypatch):
    """By hand, means of two steps: -, 2, 4, 3, 4, 6. Catches one step's luck, the last weights, a
    later equal mean, the rewards of another stage or of one attempt alone, and a kept copy that
    goes on being trained."""
    assert kept_steps([0, 4, 4, 2, 6, 6], 2, monkeypatch) == [None, 2, 3, 3, 3, 6]


def test_a_stage_ends_with_the_weights_it_kept(tmp_path, monkeypatch):
    """Catches a report, or a next stage, of the last weights instead of the best ones."""
    seen = []
    monkeypatch.setattr(train, "KEEP_OVER", 1)
    keep = train.keep_best

    def watched(state, stage, policy, held):
        keep(state, stage, policy, held)
        seen.append((stage.name, state["best"]["step"], state["best"]["policy"]))

    monkeypatch.setattr(train, "keep_best", watched)
    start(tmp_path, "--train-problems", "4", "--stage-two-steps", "6", "--learning-rate", "0.01")
    results = results_of(tmp_path)
    for name in ("Stage I", "Stage II"):
        last = [kept for kept in seen if kept[0] == name][-1]
        assert results[name]["kept_step"] == last[1]
    final = weights(tmp_path)
    assert all(torch.equal(final[name], seen[-1][2][name]) for name in final)


def pay(monkeypatch, rewards):
    """Let the steps of each stage say that these were their rewards."""
    step_of = train.train_step

    def paid(config, stage, step, *rest):
        row, example = step_of(config, stage, step, *rest)
        if stage.name in rewards:
            row |= {"reward_t1": rewards[stage.name][step], "reward_t2": 0.0}
        return row, example

    monkeypatch.setattr(train, "train_step", paid)


def test_each_stage_keeps_weights_of_its_own(tmp_path, monkeypatch):
    """Catches Stage I's weights that end Stage II since its rewards, without a bonus to lose, were
    higher; and a stage that ends with its last weights where its first were best."""
    monkeypatch.setattr(train, "KEEP_OVER", 1)
    pay(monkeypatch, {"Stage I": [9.0, 8.0, 7.0, 6.0], "Stage II": [-3.0, -1.0, -2.0]})
    after_step = {}
    step_of = train.train_step

    def watched(config, stage, step, policy, *rest):
        told = step_of(config, stage, step, policy, *rest)
        copied = {name: weight.clone() for name, weight in policy.state_dict().items()}
        after_step[stage.name, step + 1] = copied
        return told

    monkeypatch.setattr(train, "train_step", watched)
    start(tmp_path, "--train-problems", "4")
    results = results_of(tmp_path)
    assert (results["Stage I"]["kept_step"], results["Stage II"]["kept_step"]) == (1, 2)
    final = weights(tmp_path)
    assert all(torch.equal(final[name], after_step["Stage II", 2][name]) for name in final)


def last_of_each_stage(monkeypatch):
    """A dictionary that gets, stage by stage, the weights after its last step."""
    last = {}
    step_of = train.train_step

    def watched(config, stage, step, policy, *rest):
        told = step_of(config, stage, step, policy, *rest)
        last[stage.name] = {name: weight.clone() for name, weight in policy.state_dict().items()}
        return told

    monkeypatch.setattr(train, "train_step", watched)
    return last


def test_keep_last_ends_with_the_last_weights(tmp_path, monkeypatch):
    """Catches --keep last that keeps the best: its runs could not be compared with older ones."""
    monkeypatch.setattr(train, "KEEP_OVER", 1)
    last = last_of_each_stage(monkeypatch)
    said = ("--train-problems", "4", "--stage-two-steps", "6", "--learning-rate", "0.01")
    start(tmp_path, *said, "--keep", "last")
    final = weights(tmp_path)
    assert all(torch.equal(final[name], last["Stage II"][name]) for name in final)
    results = results_of(tmp_path)
    assert (results["Stage I"]["kept_step"], results["Stage II"]["kept_step"]) == (4, 6)


def test_the_warm_start_keeps_its_last_weights(tmp_path, monkeypatch):
    """Catches a base model that ends early: its rewards are all 1, so the first would be best."""
    monkeypatch.setattr(train, "KEEP_OVER", 1)
    last = last_of_each_stage(monkeypatch)
    start(tmp_path, "--train-problems", "4", "--stage-two-steps", "1")
    (folder,) = tmp_path.glob("base-*")
    base = torch.load(folder / "model.pt", weights_only=True)["policy"]
    assert all(torch.equal(base[name], last["warm start"][name]) for name in base)


def test_best_is_the_default_where_problems_are_limited_only():
    """Catches a default that moves the results of the endless world."""
    assert options.parse(["--train-problems", "0"]).keep == "last"
    assert options.parse([]).keep == options.parse(["--train-problems", "64"]).keep == "best"
    assert options.parse(["--data", "x"]).keep == "best"
    assert options.parse(["--train-problems", "64", "--keep", "last"]).keep == "last"


@pytest.mark.parametrize("stop", [2, 4])
def test_a_killed_run_keeps_the_same_weights(tmp_path, monkeypatch, stop):
    """Catches the best weights lost on resume."""
    monkeypatch.setattr(train, "KEEP_OVER", 1)
    pay(monkeypatch, {"Stage II": [0.0, 9.0, 1.0, 2.0, 3.0]})  # the best is before both stops
    said = ("--train-problems", "4", "--checkpoint-every", "1", "--stage-two-steps", "5")
    start(tmp_path / "whole", *said)
    step_of = train.train_step

    def killed(config, stage, step, *rest):
        if (stage.name, step) == ("Stage II", stop):
            raise KeyboardInterrupt
        return step_of(config, stage, step, *rest)

    monkeypatch.setattr(train, "train_step", killed)
    with pytest.raises(SystemExit):
        start(tmp_path / "killed", *said)
    monkeypatch.setattr(train, "train_step", step_of)
    start(tmp_path / "killed", *said)
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    kept = [results_of(tmp_path / run)["Stage II"]["kept_step"] for run in ("whole", "killed")]
    assert kept == [2, 2]


# ---- what is reported ----------------------------------------------------------------------------
def test_training_problems_are_evaluated_beside_the_held_out_ones(tmp_path, capsys):
    """Catches a table in which memorising cannot be seen: each evaluation has both, and the table
    their columns; with no end of problems it has neither."""
    start(tmp_path, "--train-problems", "6")
    for result in results_of(tmp_path).values():
        assert {"greedy", "sampled", "train"} <= set(result)
    printed = capsys.readouterr().out
    assert "train:" in printed and "kept step" in printed
    start(tmp_path, "--seed", "1", "--train-problems", "0")
    assert "train:" not in capsys.readouterr().out


def test_what_is_evaluated_on_training_problems_is_of_them(tmp_path, monkeypatch):
    """Catches held-out problems under the name of training problems."""
    asked = {}
    play_all = train.play_all

    def watched(config, policy, task, problems, temperature, title, *rest):
        asked[title] = (problems, temperature, rest)
        return play_all(config, policy, task, problems, temperature, title, *rest)

    monkeypatch.setattr(train, "play_all", watched)
    start(tmp_path, "--train-problems", "6")
    config = options.parse(
        "--values 4 --levels 1,2 --train-problems 6 --problems 3 --eval-problems 16".split()
    )
    whole = train.make_task(config, True)
    few = train.limit_training(config, whole).train
    assert asked["Stage II, training problems"][:2] == (few, 0.0)
    assert asked["Stage II, greedy"][:2] == (whole.test, 0.0)
    assert asked["Stage II, sampled"][:2] == (whole.test, 1.0)
    assert asked["after the base"][:2] == (whole.test, 1.0)


def test_corrections_of_the_base_model_s_attempts_start_from_those(tmp_path, monkeypatch):
    """Catches Figure 4 drawn from the policy's own first attempts: played with the base model as
    first player, first attempts are the base model's, draw for draw."""
    start(tmp_path, "--learning-rate", "0.02", "--problems", "8")  # one batch: one order of draws
    report_of = results_of(tmp_path)
    assert "after_base" in report_of["Stage II"] and "after_base" not in report_of["Stage I"]
    assert (
        report_of["Stage II"]["after_base"]["accuracy_t1"]
        == report_of["base"]["sampled"]["accuracy_t1"]
    )


def test_a_base_model_that_nothing_trains_is_not_held_against_itself(tmp_path):
    """Catches an evaluation made twice: without a stage the policy is the base model still."""
    for split in ("train", "test"):
        row = {"problem": f"{split}?", "solution": r"\boxed{2}", "level": "Level 1"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row))
    said = "--method prompt --warm-steps 1 --warm-batch 2 --layers 1 --width 8 --heads 1 --hidden 8"
    out = tmp_path / "out"
    train.main(f"--data {tmp_path} --out {out} --max-new-tokens 2 {said}".split())
    results = results_of(out, "prompt-seed0")
    assert list(results) == ["base"] and "after_base" not in results["base"]


def test_the_histogram_counts_every_problem_once():
    """Catches a bin that loses its edge: against a count of each part of 0 .. 1."""
    rng = random.Random(0)
    ratios = [rng.random() for _ in range(500)] + [0.0, 0.05, 0.5, 1.0]
    counts = report.histogram(ratios)
    assert sum(counts) == len(ratios) and len(counts) == 20
    for place, count in enumerate(counts[:-1]):
        assert count == sum(place / 20 <= ratio < (place + 1) / 20 for ratio in ratios)


def test_second_turn_rl_neither_pays_nor_pins_attempt_one():
    """The paper's "standard multi-turn RL". Catches one of the two multi-turn baselines under the
    other's name."""
    from extras import methods

    config = options.Config(beta1=0.3, beta2=0.7)
    (second,) = methods.table(config)["second_turn_rl"]
    (both,) = methods.table(config)["multi_turn_rl"]
    r = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
    assert second.rewards(r).tolist() == [[0, 1], [0, 1], [0, 0], [0, 0]]
    assert second.betas == (0.0, 0.3)
    assert both.rewards(r).tolist() == r.tolist() and both.betas == (0.3, 0.3)
    assert second.steps == both.steps == config.stage_one_steps + config.stage_two_steps


def test_the_author_s_later_guesses_have_a_share_of_their_own():
    """Catches a share that no line reads: in 20,000 attempts, first guesses are right in 0.7 + the
    luck of a blind one, later fresh ones in 0.2 + that luck."""
    knobs = world.World(author_right=0.7, author_right_again=0.2, author_repeats=0.0)
    rng = random.Random(0)
    right = [0, 0]
    for _ in range(20_000):
        problem = world.draw_problem(knobs, rng, "train")
        for turn, text in enumerate(world.write_attempts(knobs, rng, problem)):
            right[turn] += f"\\boxed{{{problem.answer}}}" in text
    assert right[0] / 20_000 == pytest.approx(0.7 + 0.3 / 6, abs=0.012)
    assert right[1] / 20_000 == pytest.approx(0.2 + 0.8 / 6, abs=0.012)


def test_the_csv_has_what_the_paper_s_figures_need(tmp_path):
    """Figure 5: training accuracy of both attempts and the share of equal ones, over training."""
    start(tmp_path, "--train-problems", "6")
    with open(tmp_path / "score-seed0" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"accuracy_t1", "accuracy_t2", "unchanged"} <= set(rows[0])
