"""The loop: what is drawn, graded, evaluated, logged and printed; and that it learns.

A model that says what is written down stands in for the GPT, so what a step and an evaluation must
report is known before they run. The update itself is in tests/test_step.py, resuming in
tests/test_resume.py.
"""

import copy
import csv
import dataclasses
import hashlib
import json
import math
import random
import shutil
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

import rollout
import score
import train
import world
from extras import datasets, options, report
from extras.options import Config
from model import GPT, GPTConfig
from world import Problem, Task

NAN = math.nan


# ---- a model that says what is written down ------------------------------------------------------
class Scripted(torch.nn.Module):
    """Stands in for a GPT: it goes on as those of its conversations do that begin with what it has
    read, each with the share of its weight. What it has read it keeps in the keys of the cache."""

    def __init__(self, vocab_size: int, conversations: list[tuple[list[int], float]]):
        super().__init__()
        self.config = GPTConfig(vocab_size, layers=1, kv_heads=1, head_width=1)
        self.embedding = torch.nn.Embedding(1, 1)  # whose dtype the cache takes
        self.head = torch.nn.Linear(vocab_size, vocab_size, bias=False)
        torch.nn.init.eye_(self.head.weight)
        self.conversations = conversations

    def hidden(self, tokens, cache, counts):
        """Reads (B, L), and says the same at every position: the scores of the next word."""
        keys = cache.keys_values[0, 0, :, :, 0, 0]  # (B, P)
        keys[cache.slots(tokens.shape[1])] = tokens.float()
        cache.advance(tokens.shape[1], counts)
        scores = []
        for row, length in enumerate(cache.lengths.tolist()):
            scores.append(self.scores_after(keys[row, :length].long().tolist()))
        return torch.stack(scores)[:, None].expand(-1, tokens.shape[1], -1)  # (B, L, V)

    def scores_after(self, read: list[int]) -> torch.Tensor:
        """log of each word's share, (V,)."""
        weights = torch.zeros(self.config.vocab_size)
        for ids, weight in self.conversations:
            if ids[: len(read)] == read:
                weights[ids[len(read)]] += weight
        assert weights.sum() > 0, "no conversation begins like this"
        return weights.clamp(min=1e-30).log()


def conversation(task: Task, problem: Problem, texts: list[str]) -> list[int]:
    """Problem, attempt 1, request, attempt 2. An attempt that is cut ends where its text does."""
    y1, y2 = [task.tokenizer.encode_ordinary(text) for text in texts]
    return [*task.prompt_ids(problem), *y1, task.end, *task.request_ids(), *y2, task.end]


# ---- fifteen problems of three kinds, and what is said about them --------------------------------
# By count: right 6 and 10 of 15, i->c 5, c->i 1, another answer 8, cut 3 and 2. All differ.
FATES = (
    [("right", "right")] * 2
    + [("right", "again")] * 3  # the same answer in other words
    + [("wrong", "right")] * 3
    + [("right", "wrong")]
    + [("wrong", "wrong")]
    + [("wrong", "other")]  # another wrong answer
    + [("cut", "right")] * 2
    + [("wrong", "cut")]
    + [("cut", "cut")]
)
FIVE = {
    "accuracy_t1": 6 / 15,
    "accuracy_t2": 10 / 15,
    "delta": 4 / 15,
    "i_to_c": 5 / 15,
    "c_to_i": 1 / 15,
}
SHARES = {
    "changed": 8 / 15,
    "rewrite_if_wrong": 7 / 9,
    "rewrite_if_right": 1 / 6,
    "right_if_rewritten": 5 / 7,
}
CORRECTED = 5  # the first that is wrong and then right


class Case(NamedTuple):
    """Problems with different answers, and two attempts at each."""

    config: Config
    task: Task
    attempts: list[list[str]]
    truthful: float

    def conversations(self) -> list[list[int]]:
        """Each problem with its attempts, as token ids."""
        pairs = zip(self.task.test, self.attempts)
        return [conversation(self.task, problem, texts) for problem, texts in pairs]

    def model(self) -> Scripted:
        """Says these attempts."""
        weighted = [(ids, 1.0) for ids in self.conversations()]
        return Scripted(self.task.tokenizer.n_vocab, weighted)


CONFIG = Config(values=20, levels=(1,), problems=1, samples=2, temperature=0.8, gradient_clip=0.5)


def world_case() -> Case:
    """f(x) = x + 1 at 20 values; a wrong guess is the answer to the next problem."""
    f = {x: x % 20 + 1 for x in range(1, 21)}
    problems = []
    attempts = []
    for answer, (y1, y2) in enumerate(FATES, start=1):
        question = world.write_question(f, list(f), level=1, target=f[answer])
        problems.append(Problem(question, str(answer)))
        looks = f" f({answer})={f[answer]},"
        texts = {
            "right": f"Try {answer}:{looks} it fits. \\boxed{{{answer}}}",
            "again": f"Try {answer}:{looks}{looks} it does not fit. \\boxed{{{answer}}}",  # untrue
            "wrong": world.write_attempt(CONFIG, random.Random(0), question, answer + 1),
            "other": f"Try {answer + 2}:{looks} it fits. \\boxed{{{answer + 2}}}",  # untrue
            "cut": f"Try {answer}:" + 6 * looks,  # seven words, and no verdict
        }
        attempts.append([texts[y1], texts[y2]])
    config = dataclasses.replace(CONFIG, max_new_tokens=7)
    task = dataclasses.replace(world.world_task(config, held_out=1), test=problems)
    return Case(config, task, attempts, truthful=21 / 30)


def math_case() -> Case:
    """Answers in seventeenths, with bytes for words."""
    problems = []
    attempts = []
    for answer, (y1, y2) in enumerate(FATES, start=1):
        problems.append(Problem(f"What is ${answer} / 17$?", f"{answer}/17"))
        texts = {
            "right": rf"So \boxed{{\frac{{{answer}}}{{17}}}}",
            "again": rf"It is still \boxed{{\frac{{{answer}}}{{17}}}}",
            "wrong": rf"So \boxed{{\frac{{{answer + 1}}}{{17}}}}",
            "other": rf"So \boxed{{{answer + 2}}}",
            "cut": "?" * 40,
        }
        attempts.append([texts[y1], texts[y2]])
    config = dataclasses.replace(CONFIG, max_new_tokens=40)
    return Case(config, datasets.chat_task([], problems), attempts, truthful=NAN)


def program_case() -> Case:
    """Programs, of which a stand-in for the sandbox says which are right."""
    problems = []
    attempts = []
    for answer, (y1, y2) in enumerate(FATES, start=1):
        problems.append(Problem(f"Return {answer}.", "", tests=(f"== {answer}",)))
        texts = {
            "right": f"```\nreturn {answer}\n```",
            "again": f"Yes:\n```\nreturn {answer}\n```",
            "wrong": f"```\nreturn {answer + 1}\n```",
            "other": f"```\nreturn {answer + 2}\n```",
            "cut": "```\n" + "#" * 36,
        }
        attempts.append([texts[y1], texts[y2]])

    def judge(asked: list[Problem], texts: list[str]) -> list[bool]:
        pairs = zip(asked, texts, strict=True)
        return [f"return {problem.tests[0][3:]}\n" in text for problem, text in pairs]

    config = dataclasses.replace(CONFIG, max_new_tokens=40)
    task = dataclasses.replace(datasets.chat_task([], problems), judge=judge)
    return Case(config, task, attempts, truthful=NAN)


CASES = {"world": world_case, "MATH": math_case, "programs": program_case}


@pytest.fixture(params=CASES, scope="module")
def case(request) -> Case:
    return CASES[request.param]()


def small_gpt(vocab_size: int, seed: int = 0) -> GPT:
    """Random weights."""
    torch.manual_seed(seed)
    shape = GPTConfig(vocab_size, layers=1, width=16, heads=2, kv_heads=2, head_width=8, hidden=16)
    return GPT(shape)


def same(first: dict, second: dict) -> bool:
    """Are these the same weights, to the last bit?"""
    return all(torch.equal(first[name], second[name]) for name in first | second)


def distance(a: str, b: str) -> int:
    """Levenshtein's table, cell by cell."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        above = row
        row = [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def edit_ratio(attempts: list[list[str]]) -> float:
    """The mean of edit distance / (length of y1 + length of y2)."""
    ratios = [distance(y1, y2) / (len(y1) + len(y2)) for y1, y2 in attempts]
    return sum(ratios) / len(ratios)


# ---- grading -------------------------------------------------------------------------------------
def test_attempts_are_graded_by_their_own_problem(case):
    """Catches attempts that meet a neighbour's problem, or the other attempt's verdict."""
    found = train.grade(case.task, case.task.test, case.attempts)
    right = ("right", "again")
    assert found.tolist() == [[y1 in right, y2 in right] for y1, y2 in FATES]
    shifted = train.grade(case.task, case.task.test[1:] + case.task.test[:1], case.attempts)
    assert not (shifted * found).any()


# ---- a step: every column of the CSV -------------------------------------------------------------
def odd_rewards(r: torch.Tensor) -> torch.Tensor:
    """No method's: 3 r1 + 0.5 and 2 r2 - r1, so that no reward is an accuracy."""
    r1, r2 = r.unbind(dim=1)
    return torch.stack((3 * r1 + 0.5, 2 * r2 - r1), dim=1)


def rewards_themselves(rewards: torch.Tensor, group_size: int, r: torch.Tensor) -> torch.Tensor:
    """In the place of a baseline: none."""
    return rewards


def said_by_turn(case: Case, number: int) -> tuple[list[int], list[list[int]]]:
    """One conversation as it is played, and at which positions each turn was said."""
    task = case.task
    limit = case.config.max_new_tokens
    y1, y2 = [len(task.tokenizer.encode_ordinary(text)) for text in case.attempts[number]]
    ids = case.conversations()[number]
    start = len(task.prompt_ids(task.test[number]))
    first = range(start, start + min(y1 + 1, limit))  # with its end, unless it is cut
    start += y1 + 1 + len(task.request_ids())
    second = range(start, start + min(y2 + 1, limit))
    return ids[: second.stop], [list(first), list(second)]


def figures_by_loop(case: Case, policy: GPT, reference: GPT) -> dict[str, float]:
    """What the learner and the sampler have to report, episode by episode and token by token."""
    sums = Counter()
    gaps = []
    loss = 0.0
    r = train.grade(case.task, case.task.test, case.attempts)
    paid = odd_rewards(r)
    for number in range(len(FATES)):
        ids, turns = said_by_turn(case, number)
        tokens = torch.tensor([ids])
        log_p = torch.log_softmax(policy(tokens)[0] / case.config.temperature, dim=-1)
        log_q = torch.log_softmax(reference(tokens)[0] / case.config.temperature, dim=-1)
        sums["tokens"] += 2 * len(ids)  # two samples of each problem
        for turn, positions in enumerate(turns):
            for t in positions:
                said = log_p[t - 1, ids[t]]
                kl = (log_p[t - 1].exp() * (log_p[t - 1] - log_q[t - 1])).sum()
                sums[f"log_prob_t{turn + 1}"] += said.item() / 15
                sums[f"kl_t{turn + 1}"] += kl.item() / 15
                sums[f"length_t{turn + 1}"] += 1 / 15
                gaps.append(abs(said.item()))  # the sampler was sure of it: log 1
                loss -= paid[number, turn] * said / 15
    gradients = torch.autograd.grad(loss, list(policy.parameters()))
    norm = math.sqrt(sum(gradient.square().sum().item() for gradient in gradients))
    return dict(sums) | {"gradient_norm": norm, "sampler_gap": max(gaps)}


@pytest.fixture
def clock(monkeypatch) -> Counter:
    """A clock that shows 10 s, 12 s, 15 s and 19 s: two of playing, three of grading, four of
    learning."""
    times = iter((10.0, 12.0, 15.0, 19.0))
    fake = SimpleNamespace(perf_counter=lambda: next(times))
    monkeypatch.setattr(train, "time", fake)
    return Counter()


def test_every_column_of_a_step(case, tmp_path, monkeypatch, clock):
    """Catches columns that are exchanged, negated or of another batch: all are known beforehand,
    and no two are alike."""
    task = case.task
    policy = small_gpt(task.tokenizer.n_vocab)
    reference = copy.deepcopy(policy).requires_grad_(False)
    reference.head.weight.mul_(0.5)
    expected = figures_by_loop(case, policy, reference)
    expected["tokens_per_second"] = expected.pop("tokens") / 9
    expected |= {
        "step": 1,
        "accuracy_t1": 6 / 15,
        "accuracy_t2": 10 / 15,
        "reward_t1": 1.7,  # 3 * 6/15 + 0.5
        "reward_t2": 14 / 15,  # 2 * 10/15 - 6/15
        "truncated_t1": 3 / 15,
        "truncated_t2": 2 / 15,
        "i_to_c": 5 / 15,
        "c_to_i": 1 / 15,
        "unchanged": 7 / 15,
    }
    stage = score.Stage(
        name="Stage I",
        steps=1,
        problems=15,
        samples=2,
        learning_rate=0.1,
        rewards=odd_rewards,
        betas=(0.0, 0.0),
        advantages=rewards_themselves,
        collect=lambda scene: scene.play(case.model(), scene.problems),
    )
    monkeypatch.setattr(train, "draw", lambda config, task, rng, count: task.test[:count])
    config = dataclasses.replace(case.config, checkpoint_every=1, micro_batch=7)
    state = train.new_state()
    train.begin_stage(state, 0, policy)
    train.train_stage(config, tmp_path, stage, state, policy, reference, task, clock)
    with open(tmp_path / "log.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row.pop("stage") == "Stage I" and float(row.pop("moved")) == 1
    found = {name: float(value) for name, value in row.items()}
    assert found == pytest.approx(expected, rel=1e-4)
    different = {round(value, 4) for value in found.values()}
    assert len(different) == len(found)  # else exchanged columns would not show
    assert clock == {"playing": 2.0, "grading": 3.0, "learning": 4.0}


def test_the_episode_that_is_shown_is_one_in_which_something_happens(case, monkeypatch):
    """Catches an episode under another problem's name, and one where nothing changes though there
    is one where something does."""
    task = case.task
    policy = small_gpt(task.tokenizer.n_vocab)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    stage = dataclasses.replace(
        score.stage_two(case.config),
        problems=15,
        collect=lambda scene: scene.play(case.model(), scene.problems),
    )
    monkeypatch.setattr(train, "draw", lambda config, task, rng, count: task.test[:count])
    _, shown = train.train_step(
        case.config, stage, 0, policy, policy, policy, optimizer, task, Counter()
    )
    assert shown == shown_by_hand(case, CORRECTED, "wrong", "right")


def shown_by_hand(case: Case, number: int, first: str, second: str) -> str:
    """An episode as it is printed."""
    problem = case.task.test[number]
    y1, y2 = case.attempts[number]
    asked = problem.question
    if problem.answer:
        asked += f"   (answer: {problem.answer})"
    return (
        f"    problem           {asked}\n"
        f"    attempt 1 [{first}] {y1}\n"
        f"    attempt 2 [{second}] {y2}"
    )


# ---- an evaluation -------------------------------------------------------------------------------
def test_an_evaluation_of_what_is_written_down(case):
    """Catches metrics of other attempts or problems, exchanged ones, and a batch that is lost."""
    result = train.evaluate(case.config, case.model(), case.task, "base")  # batches of 4, of 15
    expected = FIVE | SHARES | {"truthful": case.truthful, "edit_ratio": edit_ratio(case.attempts)}
    for way in ("greedy", "sampled"):
        assert sum(result[way].pop("edit_histogram")) == len(case.attempts)
    assert result["greedy"] == pytest.approx(expected, nan_ok=True)
    assert result["sampled"] == pytest.approx(expected, nan_ok=True)
    assert result["example"] == shown_by_hand(case, CORRECTED, "wrong", "right")


@pytest.fixture
def three_minds() -> tuple[Case, Scripted]:
    """480 problems and a model that is wrong in both attempts with a share of 0.7, right in both
    with 0.2, and corrects another wrong guess with 0.1."""
    case = world_case()
    rng = random.Random(0)
    conversations = []
    for problem in case.task.test:
        texts = []
        for guess in range(int(problem.answer), int(problem.answer) + 3):
            texts.append(world.write_attempt(case.config, rng, problem.question, guess))
        right, wrong, other = texts
        for pair, weight in (([wrong, wrong], 0.7), ([right, right], 0.2), ([other, right], 0.1)):
            conversations.append((conversation(case.task, problem, pair), weight))
    task = dataclasses.replace(case.task, test=32 * case.task.test)
    config = dataclasses.replace(case.config, problems=512, seed=5, temperature=0.5)
    model = Scripted(task.tokenizer.n_vocab, conversations)
    return case._replace(config=config, task=task), model


def test_greedy_is_the_likeliest_and_sampled_is_temperature_one(three_minds):
    """Catches ways that are exchanged, training's temperature in the evaluation, 0.7, and an
    example that was sampled."""
    case, model = three_minds
    result = train.evaluate(case.config, model, case.task, "base")
    assert result["greedy"]["accuracy_t1"] == result["greedy"]["accuracy_t2"] == 0
    assert abs(result["sampled"]["accuracy_t1"] - 0.2) < 0.055  # three standard errors
    assert abs(result["sampled"]["accuracy_t2"] - 0.3) < 0.063
    assert result["example"].count("[wrong]") == 2  # greedy corrects nothing


def test_sampled_evaluation_has_the_seed_s_draws(three_minds, monkeypatch):
    """Catches an evaluation that is sampled alike for every seed, or otherwise in every call."""
    case, model = three_minds
    task = dataclasses.replace(case.task, test=case.task.test[:60])
    graded = []
    monkeypatch.setattr(train, "grade", recorder(graded, train.grade))
    for seed in (5, 5, 6):
        config = dataclasses.replace(case.config, seed=seed)
        train.evaluate(config, model, task, "base")
    sampled = [attempts for _, attempts in graded[1::2]]
    assert sampled[0] == sampled[1] != sampled[2]
    generator = torch.Generator().manual_seed(6)
    prompts = [task.prompt_ids(problem) for problem in task.test]
    played = rollout.two_turns(
        model, prompts, task.request_ids(), task.end, 7, temperature=1.0, generator=generator
    )
    assert sampled[2] == played.texts(task.tokenizer, task.end)


def recorder(graded: list, grade):
    """`grade`, and a list of what it was asked."""

    def recorded(task, problems, attempts):
        graded.append((problems, attempts))
        return grade(task, problems, attempts)

    return recorded


def test_a_wrong_program_that_is_given_is_attempt_1():
    """Catches --task mbpp_r where the model writes attempt 1 itself, or repairs a neighbour's."""
    case = program_case()
    problems = []
    conversations = []
    for number, problem in enumerate(case.task.test):
        wrong = f"```\nreturn {50 + number}\n```"
        right = f"```\nreturn {number + 1}\n```"
        problems.append(dataclasses.replace(problem, wrong=wrong))
        conversations.append((conversation(case.task, problem, [wrong, right]), 0.1))
        conversations.append((conversation(case.task, problem, [right, wrong]), 0.9))
    task = dataclasses.replace(case.task, test=problems)
    model = Scripted(task.tokenizer.n_vocab, conversations)
    for name, right in (("mbpp_r", (0.0, 1.0)), ("mbpp", (1.0, 0.0))):
        config = dataclasses.replace(case.config, task=name)
        result = train.evaluate(config, model, task, "base")["greedy"]
        assert (result["accuracy_t1"], result["accuracy_t2"]) == right


# ---- what is drawn -------------------------------------------------------------------------------
SMALL = Config(values=6, levels=(1, 2), problems=5, samples=4, max_new_tokens=8)


def drawn(seed: int, stage_name: str, step: int, problems: list[Problem] | None = None):
    """The problems of a step and what a small random model said there. Some `problems` to draw
    from, or the world's."""
    config = dataclasses.replace(SMALL, seed=seed)
    task = world.world_task(config, held_out=4)
    task = dataclasses.replace(task, train=problems or [])
    policy = small_gpt(task.tokenizer.n_vocab)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    seen = []

    def watched(scene):
        episodes = scene.play(scene.player, scene.problems)
        seen.append((scene.problems, episodes.texts(task.tokenizer, task.end)))
        return episodes

    stage = dataclasses.replace(score.stage_two(config), name=stage_name, collect=watched)
    train.train_step(config, stage, step, policy, policy, policy, optimizer, task, Counter())
    return seen[0]


OTHERS = [(1, "Stage I", 7), (0, "Stage II", 7), (0, "Stage I", 8)]


def test_problems_are_others_in_every_step_stage_and_run():
    """Catches the same problems in every step, in both stages or for every seed."""
    problems, _ = drawn(0, "Stage I", 7)
    assert problems == drawn(0, "Stage I", 7)[0]
    assert len(set(problems)) == 5
    for other in OTHERS:
        assert not set(problems) & set(drawn(*other)[0])


def test_samples_are_others_in_every_step_stage_and_run():
    """Catches a generator with the same seed in every step, and a group of copies."""
    one = [world.draw_problem(SMALL, random.Random(0), "train")]
    problems, texts = drawn(0, "Stage I", 7, one)
    assert problems == 20 * one
    assert texts == drawn(0, "Stage I", 7, one)[1]
    assert len({text for text, _ in texts}) > 10
    for other in OTHERS:
        assert texts != drawn(*other, one)[1]


def test_samples_of_a_problem_are_neighbours():
    """Catches problems in turn (a b a b), which leave_one_out would compare with one another."""
    problems, _ = drawn(0, "Stage I", 7)
    for group in range(5):
        assert len(set(problems[4 * group : 4 * group + 4])) == 1


def is_held_out(problem: Problem) -> bool:
    """Whether a problem of the world is of the test split."""
    return world.in_test_split(*world.read_question(problem.question))


def test_the_world_s_training_problems_are_not_held_out():
    """Catches training on the test split."""
    problems = []
    for step in range(4):
        problems += drawn(0, "Stage I", step)[0]
    warm = train.warm_start(SMALL)
    task = world.world_task(SMALL, held_out=4)
    policy = small_gpt(task.tokenizer.n_vocab)
    problems += train.collect(SMALL, warm, policy, None, task, random.Random(0))[0]
    assert len(set(problems)) > 100
    assert not any(is_held_out(problem) for problem in problems)


def test_the_world_is_evaluated_on_held_out_problems(monkeypatch):
    """Catches an evaluation on the training split, and other problems for another seed."""
    graded = []
    monkeypatch.setattr(train, "grade", recorder(graded, train.grade))
    for seed in (0, 1):
        config = dataclasses.replace(SMALL, seed=seed, eval_problems=30)
        task = train.make_task(config, trains=True)
        train.evaluate(config, small_gpt(task.tokenizer.n_vocab), task, "base")
    assert len(graded) == 4  # greedy and sampled, twice
    for problems, _ in graded:
        assert problems == graded[0][0]
        assert len(set(problems)) == 30
        assert all(is_held_out(problem) for problem in problems)


def test_rows_are_trained_on_and_evaluated_in_their_split():
    """Catches training on the test rows, and rows that are never drawn."""
    rows = [Problem(f"training {i}", str(i)) for i in range(5)]
    test = [Problem(f"test {i}", str(i)) for i in range(5)]
    task = datasets.chat_task(rows, test)
    problems = train.draw(SMALL, task, random.Random(0), 200)
    assert len(problems) == 200
    assert set(problems) == set(rows)


# ---- whole runs ----------------------------------------------------------------------------------
TINY = """
    --values 4 --levels 1,2 --layers 1 --width 16 --heads 2 --hidden 16 --warm-steps 3
    --warm-batch 8 --stage-one-steps 3 --stage-two-steps 2 --problems 3 --samples 4
    --learning-rate 0.05 --eval-problems 16 --device cpu --threads 1
"""


def start(folder: Path, more: str = ""):
    """A tiny run from the command line."""
    train.main([*TINY.split(), "--out", str(folder), *more.split()])


def rows_of(folder: Path) -> list[dict[str, str]]:
    """The CSV of a run."""
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def no_picture(monkeypatch):
    """A run without its picture, which takes longer than the rest."""
    monkeypatch.setattr(report, "draw_curves", lambda history, results, path: None)


def test_every_evaluation_is_of_the_policy_as_it_is_then(tmp_path, monkeypatch, capsys, no_picture):
    """Catches an evaluation of the base model after a stage, results under another stage's name,
    weights that are saved before the last stage, and vital signs that are greedy."""
    weights = {}
    results = {}
    last = {}

    def evaluate(config, policy, task, name):
        weights[name] = copy.deepcopy(policy.state_dict())
        results[name] = evaluate_it(config, policy, task, name)
        return results[name]

    def train_step(config, stage, step, policy, *rest):
        told = train_it(config, stage, step, policy, *rest)
        last[stage.name] = copy.deepcopy(policy.state_dict())
        return told

    evaluate_it = train.evaluate
    train_it = train.train_step
    monkeypatch.setattr(train, "evaluate", evaluate)
    monkeypatch.setattr(train, "train_step", train_step)
    start(tmp_path)
    assert list(weights) == ["base", "Stage I", "Stage II"]
    assert same(weights["base"], last["warm start"])
    assert same(weights["Stage I"], last["Stage I"])
    assert same(weights["Stage II"], last["Stage II"])
    assert not same(weights["base"], weights["Stage I"])
    assert not same(weights["Stage I"], weights["Stage II"])
    folder = tmp_path / "score-seed0"
    written = json.loads((folder / "results.json").read_text())["results"]
    assert list(written) == list(results)
    added = {"base": set(), "Stage I": {"kept_step"}, "Stage II": {"kept_step", "after_base"}}
    for name, result in results.items():
        assert set(written[name]) == set(result) | added[name]
        for kind, found in result.items():  # as text: a nan is unlike itself
            assert json.dumps(written[name][kind]) == json.dumps(found)
    assert same(torch.load(folder / "model.pt")["policy"], weights["Stage II"])
    printed = capsys.readouterr().out
    assert report.vital_signs(results["base"]["sampled"]) in printed
    assert report.table(written) in printed
    assert f"after Stage II:\n{results['Stage II']['example']}\n" in printed


def test_what_a_run_says_of_itself(tmp_path, capsys, no_picture):
    """Catches a stage of no steps that is evaluated as if it were one, the options of another run,
    a clock whose parts are not the whole, and lines or episodes at other steps than was asked."""
    more = "--stage-one-steps 0 --stage-two-steps 5 --log-every 2 --show-every 3"
    start(tmp_path, f"--alpha 3 --seed 4 {more}")
    printed = capsys.readouterr().out.splitlines()
    lines = [line.split()[2] for line in printed if line.startswith("Stage II ") and "|" in line]
    assert lines[:-1] == ["2/5", "4/5", "5/5"]  # and its row of the table
    assert sum("attempt 1 [" in line for line in printed) == 2  # step 3, and at the end
    folder = tmp_path / "score-seed4"
    said = json.loads((folder / "results.json").read_text())
    assert list(said["results"]) == ["base", "Stage II"]
    assert said["config"] == json.loads((folder / "config.json").read_text())
    assert (said["config"]["alpha"], said["config"]["seed"]) == (3.0, 4)
    assert said["clock"].keys() == {"playing", "grading", "learning", "the rest"}
    assert min(said["clock"].values()) > 0
    assert said["seconds"] < 600  # since the run began
    assert sum(said["clock"].values()) == pytest.approx(said["seconds"])


def test_the_reference_is_the_base_model_in_both_stages(tmp_path, no_picture):
    """Catches a reference that moves with the policy, one that is renewed for Stage II, and the
    model from before the warm start: the KL is 0 where the policy is the base model, and only
    there."""
    start(tmp_path)
    rows = rows_of(tmp_path / "score-seed0")
    assert [(row["stage"], row["step"]) for row in rows] == [
        ("Stage I", "1"),
        ("Stage I", "2"),
        ("Stage I", "3"),
        ("Stage II", "1"),
        ("Stage II", "2"),
    ]
    kl = [float(row["kl_t1"]) for row in rows]
    assert abs(kl[0]) < 1e-5
    assert min(kl[1:]) > 1e-3


def questions_of(problems: list[Problem]) -> list[str]:
    return [problem.question for problem in problems]


MATH_ROW = {"level": "Level 1", "type": "Algebra", "solution": r"It is $\boxed{2}$."}


def test_a_run_on_rows_keeps_their_splits(tmp_path, monkeypatch, no_picture):
    """Catches splits that are exchanged on the way from --data to the loop, and --eval-problems
    that is not read."""
    for split in ("train", "test"):
        rows = [MATH_ROW | {"problem": f"{split} {i}"} for i in range(6)]
        lines = [json.dumps(row) for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    graded = []
    monkeypatch.setattr(train, "grade", recorder(graded, train.grade))
    train.main(
        f"--data {tmp_path} --out {tmp_path / 'out'} --layers 1 --width 16 --heads 2 --hidden 16"
        " --warm-steps 2 --warm-batch 8 --stage-one-steps 2 --stage-two-steps 1 --problems 4"
        " --samples 2 --eval-problems 5 --max-new-tokens 3 --device cpu".split()
    )
    (split,) = (tmp_path / "out").glob("*/split.json")
    names = json.loads(split.read_text())
    assert names["train"] == [f"{tmp_path / 'train.jsonl'}:{i}" for i in range(1, 7)]
    left_out = max(range(6), key=lambda i: hashlib.sha256(f"test {i}".encode()).digest())
    tested = [i for i in range(6) if i != left_out]
    assert names["test"] == [f"{tmp_path / 'test.jsonl'}:{i + 1}" for i in tested]
    asked = [questions_of(problems) for problems, _ in graded]
    test = [f"test {i}" for i in tested]
    # After two steps of warm start, two and one: greedy, sampled, and then training problems. The
    # last is of second attempts at the base model's first ones.
    evaluations = [2, 3, 7, 8, 11, 12, 14]
    assert [i for i, questions in enumerate(asked) if questions == test] == evaluations
    for i, questions in enumerate(asked):
        if i not in evaluations:
            assert set(questions) <= {f"train {i}" for i in range(6)}


# ---- the base model's name -----------------------------------------------------------------------
class Watched:
    """Options that write down which of them are read."""

    def __init__(self, config: Config):
        self.config = config
        self.read = set()

    def __getattr__(self, name: str):
        if name in vars(self.config):
            self.read.add(name)
        return getattr(self.config, name)


NO_NUMBER = {  # of the base model
    "out",  # where its files are
    "log_every",
    "show_every",
    "checkpoint_every",
    "eval_problems",  # the warm start is not evaluated
    "max_new_tokens",  # nor sampled from: only that two attempts fit the model is checked
    "method",  # but for "prompt": in the name as `critique`
}


@pytest.mark.parametrize("kind", ["world", "rows"])
def test_the_base_model_s_name_has_every_option_that_making_it_reads(tmp_path, kind):
    """Catches two runs that share a base model though an option that shapes it differs: then the
    numbers of one depend on whether the other ran before."""
    said = TINY
    if kind == "rows":
        row = json.dumps(MATH_ROW | {"problem": "a"})
        (tmp_path / "train.jsonl").write_text(row)
        (tmp_path / "test.jsonl").write_text(row.replace('"a"', '"b"'))
        said = said.replace("--values 4 --levels 1,2", f"--data {tmp_path}")
    config = options.parse([*said.split(), "--out", str(tmp_path / "out")])
    watched = Watched(config)
    task = train.make_task(watched, trains=True)
    policy = train.make_policy(watched, task, torch.device("cpu"))
    train.make_base_model(watched, policy, task, Counter())
    assert watched.read >= {"warm_steps", "gradient_clip", "temperature", "micro_batch", "seed"}
    assert watched.read - set(config.base_settings()) <= NO_NUMBER


SHAPING = [
    "--temperature 0.9",
    "--gradient-clip 0.5",
    "--micro-batch 4",
    "--author-right 0.6",
    "--warm-learning-rate 0.002",
    "--warm-batch 7",
    "--hidden 24",
    "--no-verdict",
    "--dtype bfloat16",
    "--seed 1",
]


def test_runs_that_differ_in_what_shapes_the_base_model_do_not_share_it(tmp_path, no_picture):
    """Catches a name that leaves an option out; and one with too many, which would train the same
    base model again."""
    made = set()
    for more in ["", *SHAPING]:
        shutil.rmtree(tmp_path / "score-seed0", ignore_errors=True)
        start(tmp_path, f"--warm-steps 1 --stage-one-steps 0 --stage-two-steps 0 {more}")
        now = set(tmp_path.glob("base-*/model.pt"))
        assert len(now - made) == 1, more
        made = now
    for more in ("--alpha 3", "--beta1 0.3", "--learning-rate 0.5", "--checkpoint-every 1"):
        shutil.rmtree(tmp_path / "score-seed0", ignore_errors=True)
        start(tmp_path, f"--warm-steps 1 --stage-one-steps 1 --stage-two-steps 1 {more}")
    assert set(tmp_path.glob("base-*/model.pt")) == made


# ---- what is printed -----------------------------------------------------------------------------
ROW = {
    "stage": "Stage II",
    "step": 30,
    "accuracy_t1": 0.31,
    "accuracy_t2": 0.42,
    "reward_t1": 0.53,
    "reward_t2": 6.4,
    "length_t1": 7.51,
    "length_t2": 8.62,
    "truncated_t1": 0.09,
    "truncated_t2": 0.11,
    "i_to_c": 0.125,
    "c_to_i": 0.013,
    "unchanged": 0.77,
    "kl_t1": 0.0123,
    "kl_t2": 0.4567,
    "log_prob_t1": -1.25,
    "log_prob_t2": -2.51,
    "gradient_norm": 3.14,
    "sampler_gap": 1e-6,
    "tokens_per_second": 12345.6,
}


def test_the_line_of_a_step_by_hand():
    """Catches figures that are exchanged in what a person reads."""
    assert report.line(ROW, 200) == (
        "Stage II     30/200 | right 31% 42% | reward 0.53 6.40 | i->c 12.5% c->i 1.3% | same 77%"
        " | KL 0.012 0.457 | log p -1.25 -2.51 | length 7.5 8.6 | cut 9% 11% | gradient 3.14"
        " | 12,346 tok/s"
    )


def test_the_table_by_hand():
    """Catches columns under another's title, and greedy figures in the place of sampled ones."""
    greedy = {
        "accuracy_t1": 0.31,
        "accuracy_t2": 0.425,
        "delta": 0.115,
        "i_to_c": 0.22,
        "c_to_i": 0.105,
        "changed": 0.53,
        "edit_ratio": 0.07,
        "truthful": 0.99,
    }
    sampled = {"accuracy_t1": 0.34, "accuracy_t2": 0.288, "delta": -0.052}
    results = {"base": {"greedy": greedy, "sampled": sampled}}
    results["Stage I"] = {"greedy": greedy | {"truthful": NAN}, "sampled": sampled}
    assert report.table(results).splitlines() == [
        "             Accuracy@t1 Accuracy@t2   delta   i->c   c->i  changed   edit  truthful"
        "  |  T=1:    t1     t2   delta",
        "base                31.0        42.5   +11.5   22.0   10.5     53.0    7.0      99.0"
        "  |        34.0   28.8    -5.2",
        "Stage I             31.0        42.5   +11.5   22.0   10.5     53.0    7.0       nan"
        "  |        34.0   28.8    -5.2",
    ]


SIGNS = {
    "accuracy_t1": 0.512,
    "accuracy_t2": 0.498,
    "rewrite_if_wrong": 0.61,
    "rewrite_if_right": 0.27,
    "right_if_rewritten": 0.43,
    "truthful": 0.987,
}


def test_the_vital_signs_by_hand():
    """Catches conditional shares that are exchanged."""
    first, second = report.vital_signs(SIGNS).splitlines()
    assert first == (
        "vital signs of the base model at T = 1: Accuracy@t1 0.512, Accuracy@t2 0.498,"
        " P(rewrite | wrong) 0.61, P(rewrite | right) 0.27, P(right | wrong, rewritten) 0.43,"
        " truthful checks 0.987"
    )
    assert second.startswith("It can check")
    assert "truthful" not in report.vital_signs(SIGNS | {"truthful": NAN})


@pytest.mark.parametrize(
    "change, verdict",
    [
        ({}, "It can check"),
        ({"rewrite_if_wrong": 0.11, "right_if_rewritten": 0.01, "truthful": 0.91}, "It can check"),
        ({"rewrite_if_wrong": 0.1}, "It hardly"),
        ({"right_if_rewritten": 0.0}, "It hardly"),
        ({"truthful": 0.9}, "It hardly"),
        ({"truthful": 0.0}, "It hardly"),
        ({"truthful": NAN}, "It both repeats and rewrites"),
        ({"truthful": NAN, "rewrite_if_wrong": 0.1}, "It hardly"),
        ({"truthful": NAN, "right_if_rewritten": 0.0}, "It hardly"),
    ],
)
def test_what_each_verdict_on_the_base_model_needs(change, verdict):
    """Catches "It can check" where nothing is checked, and a threshold that is not looked at."""
    assert report.prospect(SIGNS | change).startswith(verdict)


def test_the_share_of_true_verdicts_by_hand():
    """Catches an attempt without a verdict that counts as a true one, or is left out."""
    problem = Problem("Let f(2)=1, f(1)=2, and find x with f(x)=1.", "2")
    true = "Try 2: f(2)=1, it fits. \\boxed{2}"
    untrue = "Try 1: f(1)=2, it fits. \\boxed{1}"
    none = "Try 1: f(1)=2, \\boxed{1}"
    for texts, expected in (
        ([[true, true]], 1.0),
        ([[true, untrue], [none, untrue]], 0.25),
        ([[true, none], [true, true]], 0.75),
        ([[none, untrue]], 0.0),
    ):
        assert report.truthful_share([problem] * len(texts), texts) == expected
    assert math.isnan(report.truthful_share([problem], [[none, none]]))


def test_the_picture_shows_each_column_under_its_name(tmp_path, monkeypatch):
    """Catches a curve, a dot or a cross of another column, dots that are not where a stage ends,
    steps that are not drawn, and a mean of more steps than 20, or of fewer."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    drawings = []
    monkeypatch.setattr(pyplot, "close", drawings.append)
    names = ("accuracy_t1", "accuracy_t2", "i_to_c", "c_to_i", "unchanged", "kl_t1", "kl_t2")
    history = []
    for step in range(1, 26):
        row = ROW | {"stage": "Stage I" if step == 1 else "Stage II"}
        for place, name in enumerate(names):
            row[name] = (step * step + 7 * place) % 31 / 32  # exact in binary: so are their sums
        history.append(row)
    results = {}
    for i, name in enumerate(("base", "I", "II")):
        results[name] = {
            "greedy": {"accuracy_t1": i / 10, "accuracy_t2": i / 5},
            "train": {"accuracy_t1": i / 4, "accuracy_t2": i / 3},
        }
    report.draw_curves(history, results, tmp_path / "curves.png")
    monkeypatch.undo()
    drawn_lines = {}
    marks = {}
    without_a_name = []
    for panel in drawings[0].axes:
        for curve in panel.get_lines():
            points = zip(curve.get_xdata(), curve.get_ydata())
            drawn = [tuple(map(float, point)) for point in points]
            if curve.get_label().startswith("_"):  # matplotlib's own label: not in the legend
                without_a_name.append((drawn, curve.get_alpha()))
            else:
                assert curve.get_label() not in drawn_lines
                drawn_lines[curve.get_label()] = drawn
                marks[curve.get_label()] = curve.get_marker()
    pyplot.close(drawings[0])
    for name in names:
        every_step = []
        means = []
        for step in range(1, 26):
            every_step.append((float(step), history[step - 1][name]))
            total = 0.0
            count = 0
            for earlier in range(max(1, step - 19), step + 1):
                total += history[earlier - 1][name]
                count += 1
            means.append((float(step), total / count))
        assert drawn_lines[name] == means
        assert (every_step, 0.3) in without_a_name
    assert drawn_lines["accuracy_t1, greedy, held out"] == [(0, 0.0), (1, 0.1), (25, 0.2)]
    assert drawn_lines["accuracy_t2, greedy, held out"] == [(0, 0.0), (1, 0.2), (25, 0.4)]
    for turn, share in ((1, 4), (2, 3)):
        label = f"accuracy_t{turn}, greedy, training problems"
        assert drawn_lines[label] == [(0, 0.0), (1, 1 / share), (25, 2 / share)]
        assert (marks[label], marks[f"accuracy_t{turn}, greedy, held out"]) == ("x", "o")
    assert len(drawn_lines) == 7 + 4


# ---- it learns -----------------------------------------------------------------------------------
class Base(NamedTuple):
    """A base model that knows eight problems by heart, and guesses among the answers."""

    config: Config
    task: Task
    policy: GPT


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Base:
    """A world of eight problems; their author is right with 0.2 and a fourth of the rest."""
    said = """
        --values 4 --levels 1 --layers 2 --width 32 --hidden 64 --warm-steps 80 --warm-batch 32
        --warm-learning-rate 0.01 --author-right 0.2 --author-repeats 0.5 --stage-one-steps 30
        --problems 8 --learning-rate 0.003 --beta2 0.2 --eval-problems 8 --device cpu
    """
    folder = tmp_path_factory.mktemp("base")
    config = options.parse([*said.split(), "--out", str(folder)])
    rng = random.Random(5)
    problems = [world.draw_problem(config, rng, "train") for _ in range(8)]
    task = train.make_task(config, trains=True)
    task = dataclasses.replace(task, train=problems, test=30 * problems)
    policy = train.make_policy(config, task, torch.device("cpu"))
    train.make_base_model(config, policy, task, Counter())
    return Base(config, task, policy)


def after_stage_one(base: Base, folder: Path) -> tuple[dict, dict, dict]:
    """What the base model and the trained one are when sampled, and the last row of the CSV."""
    policy = copy.deepcopy(base.policy)
    stages = (score.stage_one(base.config),)
    reference = copy.deepcopy(policy).requires_grad_(False)
    state = train.run_stages(base.config, folder, stages, policy, reference, base.task, Counter())
    before = state["results"]["base"]["sampled"]
    after = state["results"]["Stage I"]["sampled"]
    return before, after, state["history"][-1]


def has_learnt(before: dict, after: dict, last: dict) -> bool:
    """Attempt 2 is right more often, by more than attempt 1 is, and attempt 1 stays near."""
    better = after["accuracy_t2"] > before["accuracy_t2"] + 0.2
    corrects = after["delta"] > before["delta"] + 0.1
    stays = last["kl_t1"] < 0.5
    return better and corrects and stays


def test_thirty_steps_of_stage_one_teach_to_correct(base, tmp_path):
    """Catches a loop whose parts are all right and which does not learn."""
    told = after_stage_one(base, tmp_path)
    assert has_learnt(*told), told


def against_the_loss(log_probs, kl, turn, advantages, betas, episodes):
    """Gradient ascent."""
    return -POLICY_LOSS(log_probs, kl, turn, advantages, betas, episodes)


def against_the_advantages(log_probs, kl, turn, advantages, betas, episodes):
    """What is paid becomes less likely; the KL is as it should be."""
    return POLICY_LOSS(log_probs, kl, turn, -advantages, betas, episodes)


def without_advantages(log_probs, kl, turn, advantages, betas, episodes):
    """The KL alone."""
    return POLICY_LOSS(log_probs, kl, turn, 0 * advantages, betas, episodes)


POLICY_LOSS = score.policy_loss


@pytest.mark.parametrize("loss", [against_the_loss, against_the_advantages, without_advantages])
def test_a_wrong_loss_does_not(base, tmp_path, monkeypatch, loss):
    """Catches a check that any loop passes."""
    monkeypatch.setattr(score, "policy_loss", loss)
    told = after_stage_one(base, tmp_path)
    assert not has_learnt(*told), told
    gained = told[1]["accuracy_t2"] - told[0]["accuracy_t2"]
    assert gained < 0.1


def test_a_stage_hands_on_its_weights_and_nothing_else(base, tmp_path):
    """Catches a Stage II that goes on with Stage I's optimiser, or with weights of its last
    checkpoint: it must end where one does that begins with Stage I's weights."""
    config = dataclasses.replace(
        base.config, stage_one_steps=4, stage_two_steps=3, checkpoint_every=3
    )
    one, two = train.stages_of(config)
    reference = base.policy
    in_a_row = copy.deepcopy(base.policy)
    train.run_stages(
        config, new(tmp_path / "a"), (one, two), in_a_row, reference, base.task, Counter()
    )
    alone = copy.deepcopy(base.policy)
    train.run_stages(config, new(tmp_path / "b"), (one,), alone, reference, base.task, Counter())
    after_one = copy.deepcopy(alone.state_dict())
    train.run_stages(config, new(tmp_path / "c"), (two,), alone, reference, base.task, Counter())
    assert not same(after_one, alone.state_dict())
    assert same(in_a_row.state_dict(), alone.state_dict())


def new(folder: Path) -> Path:
    """The folder, made."""
    folder.mkdir()
    return folder
