"""The command line: whole tiny runs through train.main, resumed ones, and what a user can get
wrong.

Also what one update keeps and forgets: micro-batches, slices of the head, float32 masters.
"""

import ast
import copy
import csv
import dataclasses
import io
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import rollout
import train
import world
from extras import methods, options
from model import GPT, GPTConfig

TINY = (
    "--values 4 --levels 1,2 --layers 1 --width 16 --heads 2 --hidden 16 --warm-steps 3"
    " --warm-batch 8 --stage-one-steps 4 --stage-two-steps 3 --problems 3 --samples 2"
    " --eval-problems 16 --checkpoint-every 1 --log-every 2 --show-every 2 --device cpu --threads 1"
).split()


def start(folder, *more):
    train.main([*TINY, "--out", str(folder), *more])


def weights(folder, run="score-seed0"):
    return torch.load(folder / run / "model.pt", weights_only=True)["policy"]


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first) and list(first) == list(
        second
    )


def numbers(folder):
    """Every figure of the CSV but the one that is a time."""
    with open(folder / "score-seed0" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        {key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows
    ]


# ---- whole runs ----------------------------------------------------------------------------------
def test_one_command_ends_with_everything_promised(tmp_path, capsys):
    start(tmp_path)
    printed = capsys.readouterr().out
    folder = tmp_path / "score-seed0"
    for promised in (
        "vital signs",
        "P(rewrite | wrong)",
        "Stage I  ",
        "Stage II  ",
        "attempt 2 [",
        "Accuracy@t1",
        "base ",
        "curves",
        "model.pt",
    ):
        assert promised in printed
    files = {file.name for file in folder.iterdir()}
    assert {"config.json", "log.csv", "results.json", "model.pt", "curves.png"} <= files
    assert [(row["stage"], row["step"]) for row in numbers(tmp_path)] == (
        [("Stage I", str(i)) for i in (1, 2, 3, 4)] + [("Stage II", str(i)) for i in (1, 2, 3)]
    )
    results = json.loads((folder / "results.json").read_text())["results"]
    assert list(results) == ["base", "Stage I", "Stage II"]
    for result in results.values():
        assert result["greedy"]["delta"] == pytest.approx(
            result["greedy"]["i_to_c"] - result["greedy"]["c_to_i"]
        )
    assert not list(tmp_path.glob("**/*.tmp"))


def test_without_matplotlib_one_line_says_how_to_get_the_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # import raises
    start(tmp_path)
    assert (
        '".[plot]"' in capsys.readouterr().out
        and not (tmp_path / "score-seed0" / "curves.png").exists()
    )


def test_same_seed_same_numbers_and_another_seed_others(tmp_path):
    for name in ("a", "b"):
        start(tmp_path / name)
    start(tmp_path / "a", "--seed", "1")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "a", "score-seed1"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "stop", [("warm start", 2), ("Stage I", 0), ("Stage I", 3), ("Stage II", 1)]
)
def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path, monkeypatch, capsys, stop, dtype):
    """A lost optimiser state, a repeated step, another stream of random numbers or, in bfloat16,
    weights whose float32 masters were rounded on the way would show in the weights."""
    start(tmp_path / "whole", "--dtype", dtype)
    step_of = train.train_step

    def killed(config, stage, step, *rest):
        if (stage.name, step) == stop:
            raise KeyboardInterrupt
        return step_of(config, stage, step, *rest)

    monkeypatch.setattr(train, "train_step", killed)
    with pytest.raises(SystemExit) as ended:
        start(tmp_path / "killed", "--dtype", dtype)
    assert ended.value.code == 130 and "goes on" in capsys.readouterr().err
    monkeypatch.setattr(train, "train_step", step_of)
    start(tmp_path / "killed", "--dtype", dtype)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "killed")
    assert {weight.dtype for weight in weights(tmp_path / "killed").values()} == {
        getattr(torch, dtype)
    }


def test_a_run_killed_before_its_report_only_reports(tmp_path):
    """The last checkpoint is past the last stage then."""
    start(tmp_path)
    before = (tmp_path / "score-seed0" / "results.json").read_text()
    (tmp_path / "score-seed0" / "results.json").unlink()
    start(tmp_path)
    again = json.loads((tmp_path / "score-seed0" / "results.json").read_text())
    assert again["results"] == json.loads(before)["results"]


def test_a_finished_run_is_shown_and_not_touched(tmp_path, capsys):
    start(tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("**/*")}
    capsys.readouterr()
    start(tmp_path)
    assert "finished" in (printed := capsys.readouterr().out) and "Stage II" in printed
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.glob("**/*")}


def test_runs_share_the_base_model_only_if_it_is_the_same(tmp_path):
    start(tmp_path)
    start(tmp_path, "--seed", "1")
    start(tmp_path, "--seed", "2", "--careless", "0.5")
    assert len(list(tmp_path.glob("base-*"))) == 3
    (tmp_path / "score-seed0").rename(tmp_path / "kept")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("base-*/*")}
    start(tmp_path, "--alpha", "1")  # the base model does not depend on alpha
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.glob("base-*/*")}


# ---- one step ------------------------------------------------------------------------------------
@pytest.fixture
def small():
    torch.manual_seed(0)
    config = options.Config(
        values=4, levels=(1, 2), problems=3, samples=2, micro_batch=6, max_new_tokens=8
    )
    task = world.world_task(config, 4)
    shape = GPTConfig(
        task.tokenizer.n_vocab, layers=1, width=16, heads=2, kv_heads=2, head_width=8, hidden=16
    )
    policy = GPT(shape)
    problems = [world.draw_problem(config, random.Random(i // 2), "train") for i in range(6)]
    generator = torch.Generator().manual_seed(0)
    episodes = rollout.play(policy, task, problems, config.max_new_tokens, 1.0, generator)
    return config, task, policy, episodes


def learnt(small, **change):
    """Weights after one step from the same start, and what `learn` reports."""
    config, _, policy, episodes = small
    policy, reference = copy.deepcopy(policy), copy.deepcopy(policy).requires_grad_(False)
    with torch.no_grad():
        reference.head.weight.mul_(0.5)  # so that the KL is not 0
    before = copy.deepcopy(reference.state_dict())
    optimizer = torch.optim.SGD(train.masters(policy).values(), lr=0.1)
    config = dataclasses.replace(config, **change)
    advantages = torch.tensor(
        [[1.0, -0.5], [0.0, 2.0], [-1.0, 0.3], [0.2, 0.0], [0.5, 0.5], [0.0, -1.0]]
    )
    report = train.learn(policy, reference, optimizer, episodes, advantages, (0.1, 0.2), config)
    assert same(before, reference.state_dict())
    return policy.state_dict(), report


def test_micro_batches_change_memory_and_not_gradients(small):
    whole, report = learnt(small)
    for size in (1, 2, 4):
        parts, again = learnt(small, micro_batch=size)
        for name in whole:
            torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6)
        assert again["kl_t1"] == pytest.approx(
            report["kl_t1"], rel=1e-4
        )  # of the batch, not of the last micro-batch


def test_slices_of_the_head_and_recomputed_layers_change_memory_and_not_gradients(
    small, monkeypatch
):
    """The head never sees more positions at once than a slice; what is kept for the way back
    shrinks."""
    config, _, policy, episodes = small

    def measured(**change):
        seen, kept = [], []
        start = copy.deepcopy(policy)
        start.recompute = change.pop("recompute", False)
        start.head.register_forward_hook(lambda module, inputs, output: seen.append(output.numel()))
        with torch.autograd.graph.saved_tensors_hooks(
            lambda x: kept.append(x.numel()) or x, lambda x: x
        ):
            result = learnt((config, None, start, episodes), **change)
        return *result, max(seen), sum(kept)

    whole, report, widest, kept = measured()
    assert widest > 5 * policy.config.vocab_size
    again, _, _, fewer = measured(recompute=True)
    assert same(again, whole) and fewer < 0.5 * kept
    monkeypatch.setattr(train, "SLICE", 5 * policy.config.vocab_size)
    parts, sliced, narrow, fewer = measured()
    assert narrow == train.SLICE
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6)
    assert sliced["kl_t2"] == pytest.approx(report["kl_t2"], rel=1e-4)


def test_steps_too_small_for_bfloat16_add_up_in_the_masters(small):
    """Against float64: 100 steps of 1e-3 of a weight's size, each far below bfloat16's spacing of
    2^-8."""
    config, _, policy, episodes = small
    policy = copy.deepcopy(policy).to(torch.bfloat16)
    held = train.masters(policy)
    before = {name: master.double() for name, master in held.items()}
    assert all(master.dtype == torch.float32 for master in held.values())
    optimizer, moved = torch.optim.SGD(held.values(), lr=1e-4), {name: 0.0 for name in held}
    for _ in range(100):
        train.learn(
            policy,
            policy,
            optimizer,
            episodes,
            torch.ones(6, 2),
            (0.0, 0.0),
            dataclasses.replace(config, micro_batch=4),
        )
        for name, master in held.items():
            moved[name] = moved[name] - 1e-4 * master.grad.double()
    for name, weight in policy.named_parameters():
        torch.testing.assert_close(
            held[name].double(), before[name] + moved[name], rtol=1e-5, atol=1e-6
        )
        assert torch.equal(weight, held[name].to(torch.bfloat16)) and weight.grad is None
    assert any((weight != before[name]).any() for name, weight in policy.named_parameters())


def test_float32_weights_are_their_own_masters(small):
    _, _, policy, _ = small
    held = train.masters(policy)
    assert all(
        held[name].data_ptr() == weight.data_ptr() for name, weight in policy.named_parameters()
    )


def test_the_learner_sees_the_sampler_s_policy(small):
    """Other positions, another temperature or shifted targets on one side would open a gap."""
    assert learnt(small)[1]["sampler_gap"] < 1e-4
    assert learnt(small, temperature=0.5)[1]["sampler_gap"] > 1e-2


def test_reported_kl_and_log_prob_against_a_loop(small):
    _, _, policy, episodes = small
    _, report = learnt(small)
    reference = copy.deepcopy(policy)
    with torch.no_grad():
        reference.head.weight.mul_(0.5)
        p, q = (torch.log_softmax(model(episodes.tokens), dim=-1) for model in (policy, reference))
    for turn in (1, 2):
        spots = [(b, t) for b, t in episodes.turn.eq(turn).nonzero().tolist()]
        kl = (
            sum((p[b, t - 1].exp() * (p[b, t - 1] - q[b, t - 1])).sum().item() for b, t in spots)
            / 6
        )
        log_prob = sum(p[b, t - 1, episodes.tokens[b, t]].item() for b, t in spots) / 6
        assert report[f"kl_t{turn}"] == pytest.approx(kl, rel=1e-4)
        assert report[f"log_prob_t{turn}"] == pytest.approx(log_prob, rel=1e-4)


def test_padding_and_given_tokens_are_not_trained(small):
    """The request, the prompt and what stands past a row's end may be anything: with the hidden
    states of the said positions unchanged, only the sampled tokens are targets."""
    config, task, policy, episodes = small
    changed = copy.deepcopy(episodes)
    past = torch.arange(changed.tokens.shape[1]) >= changed.lengths[:, None]
    changed.tokens[past] = 5
    one, other = learnt(small)[0], learnt((config, task, policy, changed))[0]
    assert past.any() and all(torch.allclose(one[name], other[name], atol=1e-7) for name in one)


def test_warm_start_rows_are_the_author_s_text(small):
    """Catches a base model that learns the request, or other words than the author's, or words of
    attempt 2 as attempt 1's."""
    config, task, policy, _ = small
    stage = train.warm_start(dataclasses.replace(config, warm_steps=1, warm_batch=8))
    problems, episodes = train.collect(config, stage, policy, None, task, random.Random(0))
    rng = random.Random(0)
    rng.getrandbits(63)  # the generator's seed
    assert problems == [world.draw_problem(config, rng, "train") for _ in range(8)]
    texts = [world.write_attempts(config, rng, problem) for problem in problems]
    assert episodes.texts(task.tokenizer, task.end) == texts
    for b, (problem, (y1, y2)) in enumerate(zip(problems, texts)):
        ids = episodes.tokens[b].tolist()[: episodes.lengths[b]]
        whole = problem.question + y1 + world.END + world.REQUEST + y2 + world.END
        assert task.tokenizer.decode(ids) == whole
        turns = episodes.turn[b].tolist()
        first = [token for token, turn in zip(ids, turns) if turn == 1]
        second = [token for token, turn in zip(ids, turns) if turn == 2]
        assert task.tokenizer.decode(first) == y1 + world.END
        assert task.tokenizer.decode(second) == y2 + world.END


def test_learning_rate_rises_stays_and_falls():
    """Catches a schedule that is not read, or that ends early."""
    stage = train.warm_start(options.Config(warm_steps=100, warm_learning_rate=1.0))
    rates = [train.learning_rate(stage, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[4:61] == pytest.approx([1.0] * 57)
    assert rates[80] == pytest.approx(0.5) and rates[99] == pytest.approx(0.025)


@pytest.mark.parametrize(
    "said, steps",
    [
        ("", 400),
        ("--init x", 400),
        ("--init x --data y", 0),
        ("--warm-steps 7", 7),
        ("--init x --data y --warm-steps 400", 400),
        ("--init x --data y --warm-steps 0", 0),
    ],
)
def test_a_number_of_warm_steps_that_is_asked_for_is_taken(said, steps):
    """Catches 400 taken for "not said": with a checkpoint and data it once was."""
    assert options.parse(said.split()).warm_steps == steps


@pytest.mark.parametrize(
    "said, tokens",
    [
        ("", 10),  # Try 1: and four look-ups, a verdict, a box, the end; two to spare
        ("--levels 1,2", 8),
        ("--init x", 256),
        ("--data x", 256),
        ("--max-new-tokens 5", 5),
    ],
)
def test_an_attempt_may_be_as_long_as_the_author_s_and_two_more(said, tokens):
    """Catches attempts that are cut before a right one can end."""
    assert options.parse(said.split()).max_new_tokens == tokens


def test_the_longest_text_of_the_author_fits_with_two_to_spare():
    """Catches a limit that was counted wrongly: the author's own words are counted here."""
    config = options.parse([])
    task = world.world_task(config, 64)
    longest = 0
    for problem in task.test:
        for text in world.write_attempts(config, random.Random(0), problem):
            longest = max(longest, len(task.tokenizer.encode_ordinary(text)) + 1)
    assert config.max_new_tokens == longest + 2


def test_help_has_every_option_in_its_group(capsys):
    """Catches an option without help, and defaults that mean something else than they say."""
    with pytest.raises(SystemExit):
        options.parse(["-h"])
    printed = " ".join(capsys.readouterr().out.split())
    for group in options.GROUPS:
        assert " ".join(group.__doc__.split()) in printed
        for field in dataclasses.fields(group):
            assert options.flag(field.name) in printed
            assert field.default != ""


def test_names_of_methods_and_tasks_are_those_that_there_are():
    """Catches a method that -h does not name, or one that it names and nobody wrote."""
    assert list(methods.table(options.Config())) == list(options.METHODS)
    from extras import datasets

    assert datasets.TASKS == options.TASKS


LAZY = ["extras.methods", "extras.datasets", "extras.checkpoints", "extras.sandbox"]


@pytest.mark.parametrize("more, loaded", [("", []), ("--method multi_turn_rl", ["extras.methods"])])
def test_the_paper_alone_loads_no_extras_that_it_does_not_need(tmp_path, more, loaded):
    """Catches an import that lets the toy world load a sandbox."""
    code = (
        "import runpy, sys; sys.argv = ['train.py', *sys.argv[1:]];"
        "runpy.run_path('train.py', run_name='__main__');"
        f"print('loaded', [name for name in {LAZY} if name in sys.modules])"
    )
    root = Path(train.__file__).parent
    command = [sys.executable, "-c", code, *TINY, "--out", str(tmp_path), *more.split()]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert f"loaded {loaded}" in ended.stdout, ended.stderr


def test_the_core_imports_nothing_that_it_should_not():
    """Catches a core file that needs the extras, and extras that need the loop."""
    root = Path(train.__file__).parent
    core = ("score", "rollout", "model", "rewards", "formulas", "world")
    own = {*core, "train", "extras"}
    allowed = {"rollout": {"model"}, "rewards": {"formulas"}, "train": own}
    for name in core:
        assert imported(root / f"{name}.py") & own <= allowed.get(name, set())
    for file in (root / "extras").glob("*.py"):
        if file.name != "scaling.py":  # a command of its own, beside train.py
            assert "train" not in imported(file), file


def imported(file):
    """The top names that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found


# ---- bad input -----------------------------------------------------------------------------------
def refused(capsys, arguments):
    """The one line on standard error with which the program ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        train.main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, named",
    [
        ("--metod score", "--metod"),
        ("--method scor", "score"),
        ("--seed one", "--seed"),
        ("--levels 0,1", "--levels"),
        ("--levels 2,2", "--levels"),
        ("--levels a", "--levels"),
        ("--values 3", "--values"),
        ("--values 4 --levels 12", "--levels"),
        ("--subjects algebra", "--subjects"),
        ("--skip-bad-rows", "--skip-bad"),
        ("--data . --careless 0.5", "--careless"),
        ("--data . --values 5", "--values"),
        ("--samples 1", "--samples"),
        ("--careless 1.5", "--careless"),
        ("--careless 0.5 --no-verdict", "--no-verdict"),
        ("--width 60 --heads 8", "--width"),
        ("--temperature 0", "--temperature"),
        ("--alpha -1", "--alpha"),
        ("--device tpu", "--device"),
        ("--method prompt", "--data"),
        ("--warm-steps 0", "--warm-steps"),
        ("--learning-rate nan", "--learning-rate"),
        ("--dtype float16", "--dtype"),
        ("--warm-steps -1", "--warm-steps"),
        ("--max-new-tokens 0", "--max-new-tokens"),
        ("--levels 3-1", "--levels"),
        ("--levels 1-", "--levels"),
        ("--levels -2", "--levels"),
        ("--levels ,", "--levels"),
        ("--levels=", "--levels"),
        ("--warm-steps=-2", "--warm-steps"),
        ("--temperature inf", "--temperature"),
        ("--temperature nan", "--temperature"),
        ("--temperature 1e9", "--temperature"),
        ("--learning-rate inf", "--learning-rate"),
        ("--learning-rate 1e6", "--learning-rate"),
        ("--learning-rate 0", "--learning-rate"),
        ("--warm-learning-rate 1e20", "--warm-learning-rate"),
        ("--alpha inf", "--alpha"),
        ("--alpha 1e30", "--alpha"),
        ("--alpha nan", "--alpha"),
        ("--beta1 inf", "--beta1"),
        ("--beta1 -0.1", "--beta1"),
        ("--beta2 1e30", "--beta2"),
        ("--gradient-clip inf", "--gradient-clip"),
        ("--gradient-clip 0", "--gradient-clip"),
        ("--seed -1", "--seed"),
        ("--seed 1.5", "--seed"),
        ("--seed", "--seed"),
        ("--samples eight", "--samples"),
        ("--problems 0", "--problems"),
        ("--layers 0", "--layers"),
        ("--threads 0", "--threads"),
        ("--keep worst", "--keep"),
        ("--attempts 2.5", "--attempts"),
        ("--offline-share 2", "--offline-share"),
        ("--careless nan", "--careless"),
        ("--author-right -1", "--author-right"),
        ("--micro-batch 0", "--micro-batch"),
        ("--checkpoint-every 0", "--checkpoint-every"),
        ("score", "score"),
        ("--verdict maybe", "maybe"),
        ("--replay nowhere.pt", "nowhere.pt"),
    ],
)
def test_bad_options_are_named_and_nothing_is_written(tmp_path, capsys, arguments, named):
    """Catches a value that is taken silently or ends in a traceback, and more than one line."""
    message = refused(capsys, ["--out", str(tmp_path / "out"), *arguments.split()])
    assert named in message and message.startswith("train.py: error: ")
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_too_few_held_out_problems_is_said(tmp_path, capsys):
    message = refused(capsys, [*TINY, "--out", str(tmp_path), "--eval-problems", "100000"])
    assert "--eval-problems 100000" in message and not list(tmp_path.iterdir())


def test_a_folder_of_another_run_is_refused(tmp_path, capsys):
    start(tmp_path)
    message = refused(capsys, [*TINY, "--out", str(tmp_path), "--alpha", "3"])
    assert "--alpha was 10.0 and is 3.0" in message and message.count("\n") == 1
    (tmp_path / "score-seed5").mkdir()
    (tmp_path / "score-seed5" / "thesis.txt").write_text("keep me")
    assert "not empty" in refused(capsys, [*TINY, "--out", str(tmp_path), "--seed", "5"])


def other(_):
    """A whole file of somebody else's."""
    buffer = io.BytesIO()
    torch.save({"policy": {"weight": torch.zeros(2)}}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("file", ["score-seed0/checkpoint.pt", "base-*/model.pt"])
@pytest.mark.parametrize(
    "damage", [lambda old: old[: len(old) // 2], lambda old: b"", lambda old: b"text", other]
)
def test_a_damaged_file_is_named(tmp_path, capsys, file, damage):
    start(tmp_path)
    (tmp_path / "score-seed0" / "results.json").unlink()
    (path,) = tmp_path.glob(file)
    path.write_bytes(damage(path.read_bytes()))
    message = refused(capsys, [*TINY, "--out", str(tmp_path)])
    assert path.name in message and "damaged" in message and message.count("\n") == 1


# ---- methods -------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", [method for method in options.METHODS if method != "prompt"])
def test_every_method_runs_through_the_one_loop(tmp_path, method):
    """Catches a row of the table with which the loop cannot run."""
    start(tmp_path, "--method", method)
    results = json.loads((tmp_path / f"{method}-seed0" / "results.json").read_text())["results"]
    names = [stage.name for stage in methods.table(options.Config())[method]]
    assert list(results) == ["base", *names]


@pytest.mark.parametrize(
    "said, named",
    [
        ("--method multi_turn_rl --alpha 3", "--alpha"),
        ("--method star --beta1 0.2", "--beta1"),
        ("--method star_plus --beta2 0.2", "--beta2"),
        ("--method score_without_stage_one --beta2 0.2", "--beta2"),
        ("--method score --offline-share 0.5", "--offline-share"),
        ("--method score_without_bonus --alpha 3", "--alpha"),
        ("--method prompt --data x --stage-one-steps 3", "--stage-one-steps"),
    ],
)
def test_an_option_the_method_does_not_read_is_an_error(tmp_path, capsys, said, named):
    """Catches an option that is taken and has no effect."""
    message = refused(capsys, ["--out", str(tmp_path), *said.split()])
    method = said.split()[1]
    assert f"--method {method} does not read {named}" in message and not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", options.METHODS)
def test_an_option_the_method_reads_is_taken(method):
    """Catches a check that refuses what a stage does read."""
    config = options.Config(method=method)
    for name in ("stage_one_steps", "stage_two_steps", "alpha", "beta1", "beta2"):
        changed = dataclasses.replace(config, **{name: 7})
        is_read = str(methods.table(config)[method]) != str(methods.table(changed)[method])
        try:
            options.check_read_by_method(changed, train.stages_of)
        except world.BadInput:
            assert not is_read
        else:
            assert is_read
