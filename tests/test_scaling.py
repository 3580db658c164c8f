"""Inference-time scaling: votes by enumeration, pools and controls on a tiny run and on models that
do as they are told."""

import csv
import itertools
import json
from collections import Counter

import numpy as np
import pytest
import torch

import rewards
import train
from extras import intervals, scaling
from test_train import TINY


# ---- votes ---------------------------------------------------------------------------------------
def winner_by_counting(votes):
    """The answer with most votes; of several, the first one that was said; -1: nobody votes."""
    said = [vote for vote in votes if vote >= 0]
    if not said:
        return -1
    counts = Counter(said)
    most = max(counts.values())
    return next(vote for vote in said if counts[vote] == most)


def test_the_winner_of_every_vote_of_five():
    """Catches a tie that goes to the lowest number, a vote for no answer that counts, and a
    plurality for a majority: every list of five votes among three answers and none."""
    for votes in itertools.product((-1, 0, 1, 2), repeat=5):
        assert scaling.winner(np.array(votes)) == winner_by_counting(votes)


def test_votes_are_counted_by_mathematical_equality():
    """Catches votes that are split between two ways to write one answer, and answers that differ
    and vote together."""
    answers = ["1/2", "0.5", r"\frac12", "2", None, "0.50", "x", "2"]
    classes = scaling.classes_of(answers)
    assert classes == [0, 0, 0, 1, -1, 0, 2, 1]
    for (i, one), (j, other) in itertools.combinations(enumerate(answers), 2):
        if one is not None and other is not None:
            assert (classes[i] == classes[j]) == rewards.is_equivalent(one, other)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_vote_over_subsets_is_the_mean_over_all_of_them(monkeypatch, size):
    """Catches subsets drawn with replacement, of another size, or always the first ones. The oracle
    counts over every order of every subset of four samples, in which ties are broken."""
    monkeypatch.setattr(scaling, "DRAWS", 20_000)
    votes = np.array([0, 1, 1, 2])
    right = np.array([True, False, False, False])
    found = scaling.voted_right(votes, right, size, np.random.default_rng(0))
    orders = list(itertools.permutations(votes, size))
    expected = sum(winner_by_counting(order) == 0 for order in orders) / len(orders)
    if size == 4:  # the whole pool: one draw, in an order of chance
        assert found in (0.0, 1.0)
    else:
        assert found == pytest.approx(expected, abs=0.012)  # three standard errors


def pool_of(votes, right):
    """A pool of one problem."""
    return scaling.Pool(np.array([votes]), np.array([right]))


def test_both_ways_cost_what_they_sample():
    """Catches a corrected vote that is drawn at the cost of its first attempts alone, or that
    counts first attempts: here the first are all wrong and the second all right."""
    votes = [[0, 1]] * 8
    right = [[False, True]] * 8
    run = scaling.Run(None, "score", 3, None, None, None)
    rows = scaling.curves(run, pool_of(votes, right), [1, 2, 4, 8])
    found = {(row["way"], row["responses"]): row["accuracy"] for row in rows}
    assert found == {
        ("in parallel", 1): 0,
        ("in parallel", 2): 0,
        ("in parallel", 4): 0,
        ("in parallel", 8): 0,
        ("corrected", 2): 100,
        ("corrected", 4): 100,
        ("corrected", 8): 100,
    }


def test_chains_of_three_cost_three_each():
    """Catches a budget that is counted in pairs where a chain has three attempts, and the middle
    attempt's vote."""
    votes = [[0, 1, 2]] * 8
    right = [[False, False, True]] * 8
    run = scaling.Run(None, "score", 0, None, None, None)
    rows = scaling.curves(run, pool_of(votes, right), [1, 2, 4, 8])
    found = [(row["responses"], row["accuracy"]) for row in rows if row["way"] == "corrected"]
    assert found == [(3, 100), (6, 100)]


def test_the_interval_over_problems_by_hand():
    """Catches an interval over samples: of four problems two are always right and two never, so the
    mean is 50 and the deviation 50: 1.96 * 50 / sqrt(4) = 49."""
    votes = np.zeros((4, 2, 2), dtype=int)
    right = np.zeros((4, 2, 2), dtype=bool)
    right[:2] = True
    run = scaling.Run(None, "score", 0, None, None, None)
    rows = scaling.curves(run, scaling.Pool(votes, right), [1, 2])
    assert {(row["accuracy"], row["half"]) for row in rows} == {(50, 49)}


# ---- attempts, one after the other ---------------------------------------------------------------
def test_attempts_by_hand():
    """Catches a change that is counted from the first attempt, a return to a right answer, and one
    that is no return but a repetition. Two problems: 4, 5, 4, 4 of which 5 is right, and 7 four
    times, right."""
    answers = [[0, 1, 0, 0], [0, 0, 0, 0]]
    right = torch.tensor([[0, 1, 0, 0], [1, 1, 1, 1]]).bool()
    rows = scaling.attempt_rows(answers, right)
    assert [row["accuracy"] for row in rows] == [50, 100, 50, 50]
    assert [row["i_to_c"] for row in rows] == [0, 50, 0, 0]
    assert [row["c_to_i"] for row in rows] == [0, 0, 50, 0]
    assert [row["changed"] for row in rows] == [0, 50, 50, 0]
    assert [row["returned"] for row in rows] == [0, 0, 50, 0]


# ---- a run ---------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A folder with a finished run, its base model, and one of three attempts."""
    folder = tmp_path_factory.mktemp("out")
    train.main([*TINY, "--out", str(folder)])
    train.main([*TINY, "--attempts", "3", "--out", str(folder / "three")])
    return folder


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder for what is written."""
    monkeypatch.setattr(scaling, "RESULTS", tmp_path)
    return tmp_path


def rows_of(file):
    """The rows of a CSV."""
    with open(file, newline="") as opened:
        return list(csv.DictReader(opened))


FEW = ["--problems", "16", "--samples", "4"]


def test_a_pool_is_what_the_rollout_plays(out, results):
    """Catches chains that stand with another problem, attempts exchanged, and an accuracy that is
    not the checker's: the pool's mean is that of the same episodes graded here."""
    run = scaling.load_run(out / "score-seed0", 16)
    problems = run.task.test[:3]
    pool, tokens = scaling.draw_chunk(run, problems, samples=2, temperature=0.7, seed=5)
    generator = torch.Generator().manual_seed(5)
    repeated = [problem for problem in problems for _ in range(2)]
    episodes = train.rollout.play(
        run.policy, run.task, repeated, run.config.max_new_tokens, 0.7, generator
    )
    texts = episodes.texts(run.task.tokenizer, run.task.end)
    for row, (problem, chain) in enumerate(zip(repeated, texts)):
        answers = [rewards.extract_answer(text) for text in chain]
        for turn, text in enumerate(chain):
            assert pool.right[row // 2, row % 2, turn] == rewards.is_correct(text, problem.answer)
        none = [answer is None for answer in answers]
        assert [vote == -1 for vote in pool.votes[row // 2, row % 2]] == none
    assert tokens == int((episodes.turn > 0).sum())


def test_an_interrupted_pool_goes_on_and_is_the_same(out, results, monkeypatch):
    """Catches a pool whose numbers depend on where it was stopped, and one that is drawn again."""
    monkeypatch.setattr(scaling, "CHUNK", 4)
    command = ["vote", str(out / "score-seed0"), *FEW]
    scaling.main(command)
    whole = (results / "default-vote.csv").read_text()
    kept = sorted((out / "score-seed0" / "pool-4-at-0.7").iterdir())
    assert len(kept) == 4
    for file in kept[1:]:
        file.unlink()
    drawn = []
    draw_chunk = scaling.draw_chunk
    monkeypatch.setattr(
        scaling, "draw_chunk", lambda *a, **k: drawn.append(k["seed"]) or draw_chunk(*a, **k)
    )
    scaling.main(command)
    assert drawn == [4, 8, 12]
    assert (results / "default-vote.csv").read_text() == whole


def test_every_command_leaves_its_table(out, results, capsys):
    """Catches a method, a way or a control without a row, and figures of other runs under a
    method's name."""
    base = next(out.glob("base-*"))
    runs = [str(out / "score-seed0"), str(base), str(out / "three" / "score-seed0")]
    scaling.main(["vote", *runs, *FEW])
    scaling.main(["controls", *runs, *FEW])
    scaling.main(["attempts", *runs, "--problems", "16", "--attempts", "3"])
    methods = {"score", "base", "score, 3 attempts"}
    votes = rows_of(results / "default-vote.csv")
    assert {row["method"] for row in votes} == methods
    assert (results / "default-vote.png").stat().st_size > 1000
    attempts = rows_of(results / "default-attempts.csv")
    assert len(attempts) == 3 * 2 * 3
    controls = rows_of(results / "default-controls.csv")
    for method in methods:
        mine = {row["second attempt"]: row for row in controls if row["method"] == method}
        assert len(mine) == (6 if method == "base" else 7)
        assert float(mine["a copy of the first attempt"]["delta"]) == 0
        oracle = mine["right if either is (an oracle chooses)"]
        assert oracle["i_to_c"] == mine["as trained"]["i_to_c"] and float(oracle["c_to_i"]) == 0
        firsts = {row["accuracy_t1"] for name, row in mine.items() if "base" not in name}
        assert len(firsts) == 1
    assert "| score, 3 attempts |" in capsys.readouterr().out


def test_controls_put_what_they_say_before_the_second_attempt(out, monkeypatch):
    """Catches a control that is the trained setting under another name: what stands in the context
    of each second attempt."""
    run = scaling.load_run(out / "score-seed0", 16)
    seen = []
    play = scaling.rollout.play

    def watched(model, task, problems, *how):
        episodes = play(model, task, problems, *how)
        seen.append((task.request, how[3], episodes))
        return episodes

    monkeypatch.setattr(scaling.rollout, "play", watched)
    scaling.controls_of(run, 16, 0.7)
    own, again, trained, hidden, unasked, of_base, after_base = seen

    def first(step):
        return [step[2].said(row, 1) for row in range(16)]

    assert [step[1] for step in seen] == [1, 1, 2, 2, 2, 1, 2]
    assert first(trained) == first(own) == first(unasked) != first(again)
    closed = [ids if ids[-1] == run.task.end else [*ids, run.task.end] for ids in first(own)]
    assert first(hidden) == closed[1:] + closed[:1]
    assert unasked[0] == "" and trained[0] == run.task.request
    assert first(after_base) == first(of_base) != first(own)


def test_runs_of_other_seeds_are_sampled_by_other_draws(out):
    """Catches one run's luck in every run: intervals over seeds would not see it."""
    run = scaling.load_run(out / "score-seed0", 16)
    problems = run.task.test
    first = scaling.play_on(run, problems, 2, 1.0, "all")
    assert first == scaling.play_on(run, problems, 2, 1.0, "all")
    assert first != scaling.play_on(run._replace(seed=1), problems, 2, 1.0, "all")
    controls = [row["accuracy_t2"] for row in scaling.controls_of(run, 16, 1.0)]
    assert controls != [
        row["accuracy_t2"] for row in scaling.controls_of(run._replace(seed=1), 16, 1.0)
    ]


def test_the_last_attempt_alone_stands_in_a_window_of_one(out):
    """Catches a window that keeps the whole conversation: with it, every later attempt sees a
    context as long as the second's."""
    run = scaling.load_run(out / "score-seed0", 16)
    problems = run.task.test[:4]
    lengths = []
    two_turns = scaling.rollout.two_turns
    with pytest.MonkeyPatch.context() as patch:

        def watched(*arguments):
            episodes = two_turns(*arguments)
            lengths.append(episodes.tokens.shape[1])
            return episodes

        patch.setattr(scaling.rollout, "two_turns", watched)
        chains = scaling.play_on(run, problems, 5, 0.7, "last")
        all_in_one = scaling.play_on(run, problems, 5, 0.7, "all")
    assert [len(chain) for chain in chains] == [5] * 4 == [len(chain) for chain in all_in_one]
    limit = max(len(run.task.prompt_ids(problem)) for problem in problems)
    limit += 2 * (run.config.max_new_tokens + 1) + len(run.task.request_ids())
    assert max(lengths[1:5]) <= limit < lengths[5]


def test_means_over_seeds_are_those_of_the_evidence():
    """Catches rows of one seed, or of two methods, in one mean."""
    rows = [
        {"method": method, "seed": seed, "way": "corrected", "accuracy": accuracy}
        for method, seed, accuracy in (("a", 0, 10.0), ("a", 1, 20.0), ("b", 0, 70.0))
    ]
    found = scaling.mean_rows(rows, ["method", "way"], ["accuracy"])
    assert [row["accuracy"] for row in found] == [intervals.interval([0.1, 0.2]), "70.0"]
    assert [row["seeds"] for row in found] == [2, 1]


@pytest.mark.parametrize(
    "said, named",
    [
        ("vote nowhere", "nowhere"),
        ("vote {out}", "no folder of a run"),
        ("vote {out}/score-seed0 --samples 6", "--samples 6"),
        ("vote {out}/score-seed0 --samples 0", "--samples 0"),
        ("vote {out}/score-seed0 --problems 9999", "9999"),
        ("vote {out}/score-seed0 --problems 1", "--problems 1"),
        ("vote {out}/score-seed0 --temperature 0", "--temperature 0"),
        ("vote {out}/score-seed0 --temperature nan", "--temperature nan"),
        ("attempts {out}/score-seed0 --attempts 1", "--attempts 1"),
        ("vote {out}/score-seed0 {out}/other", "another world"),
        ("vote {out}/unfinished", "no model.pt"),
        ("vote {out}/checkpoint", "--init"),
        ("vote {out}/damaged", "damaged"),
        ("attempts {out}/score-seed0 --attempts 9 --problems 8", "positions are needed"),
    ],
)
def test_bad_input_is_one_line(out, results, capsys, monkeypatch, said, named):
    """Catches a traceback, and a table of two worlds."""
    settings = json.loads((out / "score-seed0" / "config.json").read_text())
    for name, change in (("other", {"values": 5}), ("unfinished", {}), ("damaged", {})):
        (out / name).mkdir(exist_ok=True)
        (out / name / "config.json").write_text(json.dumps(settings | change))
    (out / "damaged" / "model.pt").write_bytes(b"PK")
    if not (out / "other" / "model.pt").exists():
        run = scaling.load_run(out / "score-seed0", 16)
        task = train.make_task(scaling.dataclasses.replace(run.config, values=5), False)
        policy = train.make_policy(run.config, task, torch.device("cpu"))
        torch.save({"policy": policy.state_dict()}, out / "other" / "model.pt")
    (out / "checkpoint").mkdir(exist_ok=True)
    (out / "checkpoint" / "config.json").write_text('{"model_type": "qwen2"}')
    if "positions" in named:
        loaded = scaling.load_run

        def short(folder, problems):
            run = loaded(folder, problems)
            run.policy.config = scaling.dataclasses.replace(run.policy.config, positions=50)
            return run

        monkeypatch.setattr(scaling, "load_run", short)
    with pytest.raises(SystemExit) as ended:
        scaling.main(
            said.format(out=out).split() + ["--problems", "16"] * ("--problems" not in said)
        )
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert named in said and said.count("\n") == 1
    assert not list(results.iterdir())
