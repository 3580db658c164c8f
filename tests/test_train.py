"""The loop and its command line: whole tiny runs through train.main, resumed ones, and what a user can get wrong."""
import ast
import copy
import csv
import dataclasses
import io
import json
import random
import sys
from pathlib import Path

import pytest
import torch

import data
import score
import train
from model import GPT, GPTConfig

TINY = ("--values 4 --levels 1,2 --layers 1 --width 16 --heads 2 --hidden 16 --warm-steps 3 --warm-batch 8 "
        "--stage-one-steps 4 --stage-two-steps 3 --problems 3 --samples 2 --eval-problems 16 --checkpoint-every 1 "
        "--log-every 2 --show-every 2 --device cpu --threads 1").split()


def start(folder, *more):
    train.main([*TINY, "--out", str(folder), *more])


def weights(folder, run="score-seed0"):
    return torch.load(folder / run / "model.pt", weights_only=True)["policy"]


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first) and list(first) == list(second)


def numbers(folder):
    """Every figure of the CSV but the one that is a time."""
    with open(folder / "score-seed0" / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key != "tokens_per_second"} for row in rows]


# ---- whole runs ------------------------------------------------------------------------------------------------------
def test_one_command_ends_with_everything_promised(tmp_path, capsys):
    start(tmp_path)
    printed = capsys.readouterr().out
    folder = tmp_path / "score-seed0"
    for promised in ("vital signs", "P(rewrite | wrong)", "Stage I  ", "Stage II  ", "attempt 2 [", "Accuracy@t1",
                     "base ", "curves", "model.pt"):
        assert promised in printed
    assert {"config.json", "log.csv", "results.json", "model.pt", "curves.png"} <= {file.name for file in folder.iterdir()}
    assert [(row["stage"], row["step"]) for row in numbers(tmp_path)] == (
        [("Stage I", str(i)) for i in (1, 2, 3, 4)] + [("Stage II", str(i)) for i in (1, 2, 3)])
    results = json.loads((folder / "results.json").read_text())["results"]
    assert list(results) == ["base", "Stage I", "Stage II"]
    for result in results.values():
        assert result["greedy"]["delta"] == pytest.approx(result["greedy"]["i_to_c"] - result["greedy"]["c_to_i"])
    assert not list(tmp_path.glob("**/*.tmp"))


def test_without_matplotlib_one_line_says_how_to_get_the_picture(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # import raises
    start(tmp_path)
    assert '".[plot]"' in capsys.readouterr().out and not (tmp_path / "score-seed0" / "curves.png").exists()


def test_same_seed_same_numbers_and_another_seed_others(tmp_path):
    for name in ("a", "b"):
        start(tmp_path / name)
    start(tmp_path / "a", "--seed", "1")
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "a", "score-seed1"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("stop", [("warm start", 2), ("Stage I", 0), ("Stage I", 3), ("Stage II", 1)])
def test_a_killed_run_goes_on_to_the_same_numbers(tmp_path, monkeypatch, capsys, stop, dtype):
    """A lost optimiser state, a repeated step, another stream of random numbers or, in bfloat16, weights whose float32
    masters were rounded on the way would show in the weights."""
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
    assert {weight.dtype for weight in weights(tmp_path / "killed").values()} == {getattr(torch, dtype)}


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


# ---- one step --------------------------------------------------------------------------------------------------------
@pytest.fixture
def small():
    torch.manual_seed(0)
    config = train.Config(values=4, levels=(1, 2), problems=3, samples=2, micro_batch=6)
    task = data.world_task(config, 4)
    policy = GPT(GPTConfig(task.tokenizer.n_vocab, layers=1, width=16, heads=2, kv_heads=2, head_width=8, hidden=16))
    problems = [data.draw_problem(config, random.Random(i // 2), "train") for i in range(6)]
    episodes = train.play(config, policy, task, problems, 1.0, torch.Generator().manual_seed(0))
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
    advantages = torch.tensor([[1.0, -0.5], [0.0, 2.0], [-1.0, 0.3], [0.2, 0.0], [0.5, 0.5], [0.0, -1.0]])
    report = train.learn(policy, reference, optimizer, episodes, advantages, (0.1, 0.2), config)
    assert same(before, reference.state_dict())
    return policy.state_dict(), report


def test_micro_batches_change_memory_and_not_gradients(small):
    whole, report = learnt(small)
    for size in (1, 2, 4):
        parts, again = learnt(small, micro_batch=size)
        for name in whole:
            torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6)
        assert again["kl_t1"] == pytest.approx(report["kl_t1"], rel=1e-4)  # of the batch, not of the last micro-batch


def test_slices_of_the_head_and_recomputed_layers_change_memory_and_not_gradients(small, monkeypatch):
    """The head never sees more positions at once than a slice; what is kept for the way back shrinks."""
    config, _, policy, episodes = small

    def measured(**change):
        seen, kept = [], []
        start = copy.deepcopy(policy)
        start.recompute = change.pop("recompute", False)
        start.head.register_forward_hook(lambda module, inputs, output: seen.append(output.numel()))
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
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
    """Against float64: 100 steps of 1e-3 of a weight's size, each far below bfloat16's spacing of 2^-8."""
    config, _, policy, episodes = small
    policy = copy.deepcopy(policy).to(torch.bfloat16)
    held = train.masters(policy)
    before = {name: master.double() for name, master in held.items()}
    assert all(master.dtype == torch.float32 for master in held.values())
    optimizer, moved = torch.optim.SGD(held.values(), lr=1e-4), {name: 0.0 for name in held}
    for _ in range(100):
        train.learn(policy, policy, optimizer, episodes, torch.ones(6, 2), (0.0, 0.0),
                    dataclasses.replace(config, micro_batch=4))
        for name, master in held.items():
            moved[name] = moved[name] - 1e-4 * master.grad.double()
    for name, weight in policy.named_parameters():
        torch.testing.assert_close(held[name].double(), before[name] + moved[name], rtol=1e-5, atol=1e-6)
        assert torch.equal(weight, held[name].to(torch.bfloat16)) and weight.grad is None
    assert any((weight != before[name]).any() for name, weight in policy.named_parameters())


def test_float32_weights_are_their_own_masters(small):
    _, _, policy, _ = small
    held = train.masters(policy)
    assert all(held[name].data_ptr() == weight.data_ptr() for name, weight in policy.named_parameters())


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
        kl = sum((p[b, t - 1].exp() * (p[b, t - 1] - q[b, t - 1])).sum().item() for b, t in spots) / 6
        log_prob = sum(p[b, t - 1, episodes.tokens[b, t]].item() for b, t in spots) / 6
        assert report[f"kl_t{turn}"] == pytest.approx(kl, rel=1e-4)
        assert report[f"log_prob_t{turn}"] == pytest.approx(log_prob, rel=1e-4)


def test_padding_and_given_tokens_are_not_trained(small):
    """The request, the prompt and what stands past a row's end may be anything: with the hidden states of the said
    positions unchanged, only the sampled tokens are targets."""
    config, task, policy, episodes = small
    changed = copy.deepcopy(episodes)
    past = torch.arange(changed.tokens.shape[1]) >= changed.lengths[:, None]
    changed.tokens[past] = 5
    one, other = learnt(small)[0], learnt((config, task, policy, changed))[0]
    assert past.any() and all(torch.allclose(one[name], other[name], atol=1e-7) for name in one)


def test_warm_start_rows_are_the_author_s_text(small):
    config, task, _, _ = small
    problems = [data.draw_problem(config, random.Random(i), "train") for i in range(8)]
    rng = random.Random(0)
    attempts = [train.author_attempts(config, task, problem, rng) for problem in problems]
    episodes = train.given_episodes(task, problems, attempts, torch.device("cpu"))
    rng = random.Random(0)
    texts = [data.write_attempts(config, rng, problem) for problem in problems]
    assert episodes.texts(task.tokenizer, task.end) == texts
    for b, (problem, (y1, y2)) in enumerate(zip(problems, texts)):
        ids = [t for t in episodes.tokens[b].tolist()][:episodes.lengths[b]]
        assert task.tokenizer.decode(ids) == problem.question + y1 + data.END + data.REQUEST + y2 + data.END
        said = [(turn, task.tokenizer.decode([t])) for turn, t in zip(episodes.turn[b].tolist(), ids) if turn]
        assert "".join(word for turn, word in said if turn == 1) == y1 + data.END
        assert "".join(word for turn, word in said if turn == 2) == y2 + data.END


def test_learning_rate_rises_stays_and_falls():
    config = train.Config(warm_steps=100, warm_learning_rate=1.0)
    rates = [train.learning_rate(config, score.WARM_START, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[4:61] == pytest.approx([1.0] * 57)
    assert rates[80] == pytest.approx(0.5) and rates[99] == pytest.approx(0.025)


def test_a_number_of_warm_steps_that_is_asked_for_is_taken():
    """600 is also what the small GPT gets unasked: with a checkpoint and data it used to be taken for "not said"."""
    said = lambda text: train.parse(text.split()).warm_steps
    assert (said(""), said("--init x"), said("--init x --data y"), said("--warm-steps 7")) == (600, 600, 0, 7)
    assert said("--init x --data y --warm-steps 600") == 600 and said("--init x --data y --warm-steps 0") == 0


def test_every_option_is_read():
    """An option that no line reads is a lie in -h. Reading it to check it does not count."""
    stages = [score.WARM_START, *(stage for method in score.METHODS.values() for stage in method)]
    read = {name for stage in stages for name in stage.reads()}
    for file in Path(train.__file__).parent.glob("*.py"):
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name not in ("check", "parse"):
                read |= {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)
                         and isinstance(node.value, ast.Name) and node.value.id in ("config", "world")}
    assert {field.name for field in dataclasses.fields(train.Config)} - read == set()


# ---- bad input -------------------------------------------------------------------------------------------------------
def refused(capsys, arguments):
    """The one line on standard error with which the program ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        train.main(arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("arguments, named", [
    ("--metod score", "--metod"), ("--method scor", "score"), ("--seed one", "--seed"), ("--levels 0,1", "--levels"),
    ("--levels 2,2", "--levels"), ("--levels a", "--levels"), ("--values 3", "--values"),
    ("--values 4 --levels 12", "--levels"), ("--subjects algebra", "--subjects"), ("--skip-bad-rows", "--skip-bad"),
    ("--data . --careless 0.5", "--careless"), ("--data . --values 5", "--values"),
    ("--samples 1", "--samples"), ("--careless 1.5", "--careless"), ("--careless 0.5 --no-verdict", "--no-verdict"),
    ("--width 60 --heads 8", "--width"), ("--temperature 0", "--temperature"), ("--alpha -1", "--alpha"),
    ("--device tpu", "--device"), ("--method prompt", "--data"), ("--warm-steps 0", "--warm-steps"),
    ("--learning-rate nan", "--learning-rate"), ("--dtype float16", "--dtype"),
])
def test_bad_options_are_named_and_nothing_is_written(tmp_path, capsys, arguments, named):
    message = refused(capsys, ["--out", str(tmp_path / "out"), *arguments.split()])
    assert named in message and "error" in message.splitlines()[-1]
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
@pytest.mark.parametrize("damage", [lambda old: old[:len(old) // 2], lambda old: b"", lambda old: b"text", other])
def test_a_damaged_file_is_named(tmp_path, capsys, file, damage):
    start(tmp_path)
    (tmp_path / "score-seed0" / "results.json").unlink()
    path, = tmp_path.glob(file)
    path.write_bytes(damage(path.read_bytes()))
    message = refused(capsys, [*TINY, "--out", str(tmp_path)])
    assert path.name in message and "damaged" in message and message.count("\n") == 1


# ---- methods ---------------------------------------------------------------------------------------------------------
def collected(small, stage, **change):
    config, task, policy, _ = small
    config = dataclasses.replace(config, problems=8, samples=4, **change)
    other = copy.deepcopy(policy)
    torch.nn.init.normal_(other.head.weight)
    return other, *train.collect(config, stage, policy, other, task, random.Random(1), torch.device("cpu"))


def test_offline_first_attempts_are_the_base_model_s_and_are_not_trained(small, monkeypatch):
    """Half of the problems: there y1 is the reference's (its own log-probs would be the policy's elsewhere), and no
    token of it is a target; y2 is the policy's as ever."""
    stage = dataclasses.replace(score.STAGE_TWO, offline="offline_share")
    played, play = [], train.play
    monkeypatch.setattr(train, "play", lambda config, model, *rest, **how: (
        played.append((model, sorted(how))), play(config, model, *rest, **how))[1])
    reference, problems, episodes = collected(small, stage, offline_share=0.5)
    _, task, policy, _ = small
    assert played == [(reference, ["turns"]), (policy, ["first"]), (policy, [])]
    assert [problems[i] is problems[i - i % 4] for i in range(32)] == [True] * 32
    assert (episodes.turn[:16] == 1).sum() == 0 and (episodes.turn[:16] == -1).any(dim=1).all()
    assert (episodes.turn[16:] < 0).sum() == 0
    with torch.no_grad():
        log_probs = torch.log_softmax(policy(episodes.tokens[:, :-1]), dim=-1)
    expected = log_probs.gather(2, episodes.tokens[:, 1:, None])[:, :, 0] * (episodes.turn[:, 1:] > 0)
    torch.testing.assert_close(episodes.log_probs[:, 1:], expected, atol=1e-4, rtol=1e-4)
    assert any(texts[0] for texts in episodes.texts(task.tokenizer, task.end)[:16])


def test_pairs_are_a_wrong_attempt_and_a_right_one_at_the_same_problem(small, monkeypatch):
    """With "right" meaning here: an even number of letters."""
    monkeypatch.setattr(train.rewards, "is_correct", lambda text, answer: len(text) % 2 == 0)
    _, task, _, _ = small
    _, problems, episodes = collected(small, score.PAIR_SFT)
    first, second = zip(*episodes.texts(task.tokenizer, task.end))
    for i, text in enumerate(second):
        group = range(i - i % 4, i - i % 4 + 4)
        right = [first[j] for j in group if len(first[j]) % 2 == 0 and j != i]
        assert text in (right or [first[i]])
    assert {len(text) % 2 for text in first} == {0, 1}


def test_star_samples_from_a_copy_renewed_three_times(tmp_path, monkeypatch):
    """Rounds of collect and fine-tune: within a round the sampler stands still while the learner moves."""
    seen, step_of = [], train.train_step

    def watched(config, stage, step, policy, sampler, *rest):
        seen.append((sampler.head.weight.sum().item(), policy.head.weight.sum().item()))
        stage = dataclasses.replace(stage, baseline=None)  # supervised stages take the weights as they are
        return step_of(config, stage, step, policy, sampler, *rest)

    start(tmp_path)  # makes the base model
    monkeypatch.setattr(train, "train_step", watched)
    monkeypatch.setattr(train.rewards, "is_correct", lambda text, answer: len(text) % 2 == 0)
    start(tmp_path, "--method", "star_plus", "--stage-one-steps", "6")  # 6 + 3 steps: rounds of 3
    samplers, learners = zip(*seen)
    assert len(seen) == 9 and len(set(samplers)) == 3
    assert [samplers[i] for i in (0, 3, 6)] == [learners[i] for i in (0, 3, 6)]


@pytest.mark.parametrize("method", [method for method, stages in score.METHODS.items() if stages])
def test_every_method_runs_through_the_one_loop(tmp_path, method):
    read = {name for stage in score.METHODS[method] for name in stage.reads()}
    steps = "" if "stage_one_steps" in read else "--stage-one-steps 60"
    start(tmp_path, "--method", method, *steps.split())
    results = json.loads((tmp_path / f"{method}-seed0" / "results.json").read_text())["results"]
    assert list(results) == ["base", *(stage.name for stage in score.METHODS[method])]


def test_an_option_the_method_does_not_read_is_an_error(tmp_path, capsys):
    message = refused(capsys, [*TINY, "--out", str(tmp_path), "--method", "multi_turn_rl", "--alpha", "3"])
    assert "--method multi_turn_rl does not read --alpha" in message
