"""MATH as people have it, on small folders written here: what is read, how it is split, what is
refused, and in which words it is asked. Programs are in test_programs.py."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiktoken

import rollout
import train
import world
from extras import checkpoints, datasets, options
from world import BadInput, Problem

TINY = (
    "--layers 1 --width 16 --heads 2 --hidden 16 --warm-batch 2 --eval-problems 2 --device cpu"
).split()
SHORT = "--stage-one-steps 1 --stage-two-steps 1 --problems 2 --samples 2".split()


def row(number, **change):
    """A row in MATH's format. An earlier box of the solution holds a step, not the answer."""
    return {
        "problem": f"What is ${number}+1$?",
        "level": "Level 2",
        "type": "Algebra",
        "solution": f"First $\\boxed{{{number}}}$. It is $\\boxed{{{number + 1}}}$.",
    } | change


def write(path, *rows):
    """One .json file of one row, or a .jsonl file of many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return path


def questions(problems):
    """What is asked, without white space."""
    return {datasets.squeeze(problem.question) for problem in problems}


@pytest.fixture
def original(tmp_path):
    """The layout of the original release."""
    for i in range(6):
        write(tmp_path / "train" / "algebra" / f"{i}.json", row(i))
    hard = {"level": "Level 5", "type": "Number Theory"}
    write(tmp_path / "train" / "number_theory" / "9.json", row(9, **hard))
    write(tmp_path / "test" / "algebra" / "7.json", row(7))
    write(tmp_path / "test" / "number_theory" / "8.json", row(8, **hard))
    return tmp_path


# ---- rows ----------------------------------------------------------------------------------------
def test_the_original_folder_keeps_its_split(original):
    """Catches rows of train/ that are tested, and rows of test/ that are trained on."""
    train_set, test_set, bad = datasets.read_problems(original)
    assert [p.question for p in test_set] == ["What is $7+1$?", "What is $8+1$?"]
    assert len(train_set) == 7 and not bad
    solution = "First $\\boxed{7}$. It is $\\boxed{8}$."
    assert test_set[0] == Problem("What is $7+1$?", "8", (), solution, test_set[0].name)
    assert test_set[0].name.endswith("7.json")


def test_the_last_box_is_the_answer(original):
    """Catches an answer taken from a box in the middle of the solution."""
    train_set, _, _ = datasets.read_problems(original)
    assert [p.answer for p in train_set] == ["1", "2", "3", "4", "5", "6", "10"]


def test_levels_and_subjects_choose(original):
    """Catches a filter that is not applied, or to one of the two splits only."""
    hard_train, hard_test, _ = datasets.read_problems(original, levels=(5,))
    assert [p.answer for p in hard_train] == ["10"] and [p.answer for p in hard_test] == ["9"]
    about_numbers = datasets.read_problems(original, subjects=("Number Theory",))
    assert [p.answer for p in about_numbers[1]] == ["9"]
    assert [p.answer for p in about_numbers[0]] == ["10"]
    both = ("algebra", "number_theory")
    assert len(datasets.read_problems(original, levels=(2, 5), subjects=both)[0]) == 7
    with pytest.raises(BadInput, match="geometry.*there are: algebra, number_theory"):
        datasets.read_problems(original, subjects=("geometry",))
    with pytest.raises(BadInput, match="no train problem"):
        datasets.read_problems(original, levels=(5,), subjects=("algebra",))


def test_json_lines_as_in_math_500(tmp_path):
    """Fields problem, solution, answer, subject, level (a number), unique_id; `answer` goes before
    the box."""
    change = {"subject": "Counting & Probability", "type": None, "level": 3}
    rows = [row(i, answer=f"{i + 1}.0", unique_id=str(i), **change) for i in range(4)]
    write(tmp_path / "train.jsonl", *rows[:2])
    write(tmp_path / "test.jsonl", *rows[2:])
    train_set, test_set, _ = datasets.read_problems(
        tmp_path, levels=(3,), subjects=("counting_and_probability",)
    )
    assert [p.answer for p in train_set] == ["1.0", "2.0"]
    assert [p.answer for p in test_set] == ["3.0", "4.0"]
    assert train_set[1].name.endswith("train.jsonl:2")


def test_an_answer_without_a_solution_still_warms_up(tmp_path):
    """Catches a base model that learns to say nothing, or that has no box."""
    rows = [row(i, solution=None, answer="5") for i in range(40)]
    file = write(tmp_path / "all.jsonl", *rows)
    assert {p.solution for p in datasets.read_problems(file)[0]} == {"\\boxed{5}"}


def test_text_is_composed(tmp_path):
    """Catches text that a tokenizer whose normalizer is NFC would never see: an e and an accent,
    two characters, are read as one."""
    line = json.dumps(row(1, problem="Cafe\u0301?"), ensure_ascii=False)
    (tmp_path / "test.jsonl").write_text(line)
    _, test_set, _ = datasets.read_problems(tmp_path, trains=False)
    assert test_set[0].question == "Caf\u00e9?"


@pytest.mark.parametrize(
    "content, said",
    [
        (b'{"problem": "a", "solution": "no box"}', "no field 'answer'"),
        (b'{"problem": "  ", "answer": "1"}', "no problem text"),
        (b'{"answer": "1"}', "no problem text"),
        (b'["problem"]', "no problem text"),
        (b'{"problem": "a", ', "not JSON"),
        (b'{"problem": "caf\xe9", "answer": "1"}', "not UTF-8"),
        (b'{"problem": "What is $3 + 1$?", "answer": "4"}', "the same problem as"),
        (b'{"problem": "a", "answer": ""}', "no field 'answer'"),
    ],
)
def test_bad_rows_are_named_with_file_and_row(tmp_path, content, said):
    """Catches a bad row that is passed over in silence, or whose place in the file nobody can
    find."""
    good = [json.dumps(row(i)).encode() for i in range(40)]
    file = tmp_path / "some.jsonl"
    file.write_bytes(b"\n".join([*good, content]) + b"\n")
    expected = r"some\.jsonl:41: .*1 bad row in all.*--skip-bad-rows"
    with pytest.raises(BadInput, match=expected) as refused:
        datasets.read_problems(file)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    train_set, test_set, bad = datasets.read_problems(file, skip_bad_rows=True)
    assert len(train_set) + len(test_set) == 40 and len(bad) == 1 and said in bad[0]


def test_empty_lines_count_in_the_place_but_are_no_rows(tmp_path):
    """Catches a row number that is off by the empty lines before it."""
    file = tmp_path / "test.jsonl"
    file.write_text("\n\n" + json.dumps(row(1)) + "\n   \n" + json.dumps(row(2)) + "\n")
    _, test_set, bad = datasets.read_problems(file, trains=False)
    assert [Path(p.name).name for p in test_set] == ["test.jsonl:3", "test.jsonl:5"] and not bad


def test_parquet_and_nothing_at_all_are_refused_in_one_line(tmp_path):
    """Catches an empty training set where there was a file to convert first."""
    with pytest.raises(BadInput, match="no .json or .jsonl"):
        datasets.read_problems(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match="to_json"):
        datasets.read_problems(tmp_path)


# ---- splits --------------------------------------------------------------------------------------
def is_held_out(question, seed):
    """The rule, written a second time: a hash of seed and text, a fifth of its first bytes."""
    text = f"{seed} " + question.replace(" ", "").replace("\n", "")
    return int(hashlib.sha256(text.encode()).hexdigest()[:2], 16) < 51


def test_a_file_without_a_split_is_split_by_seed_and_text(tmp_path):
    """By a hash of the text without white space, so that no copy of a test problem can be in
    training."""
    first = write(tmp_path / "a.jsonl", *[row(i) for i in range(300)])
    copies = [row(i, problem=f"What  is\n$ {i} + 1 $ ?") for i in reversed(range(300))]
    second = write(tmp_path / "b.jsonl", *copies)
    train_set, test_set, _ = datasets.read_problems(first)
    assert 30 < len(test_set) < 100 and len(train_set) + len(test_set) == 300
    assert not questions(train_set) & questions(test_set)
    assert questions(datasets.read_problems(second)[1]) == questions(test_set)
    assert questions(datasets.read_problems(first, seed=1)[1]) != questions(test_set)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_drawn_split_is_the_one_that_was_published(tmp_path, seed):
    """Catches another rule than the one that results were measured on: a share that is not a fifth,
    a border that is off by one, splits that are exchanged."""
    file = write(tmp_path / "all.jsonl", *[row(i) for i in range(1500)])
    train_set, test_set, _ = datasets.read_problems(file, seed=seed)
    assert len(train_set) + len(test_set) == 1500
    assert all(is_held_out(p.question, seed) for p in test_set)
    assert not any(is_held_out(p.question, seed) for p in train_set)
    assert 0.17 < len(test_set) / 1500 < 0.23
    if seed == 0:
        assert [int(p.answer) - 1 for p in test_set][:6] == [10, 13, 15, 16, 17, 22]


def test_the_split_is_the_same_in_every_process(tmp_path):
    """Catches a split made of Python's hash(), which differs from process to process: when a run is
    resumed, test problems would be trained on."""
    file = write(tmp_path / "all.jsonl", *[row(i) for i in range(60)])
    code = (
        "import sys, pathlib; from extras import datasets;"
        "problems = datasets.read_problems(pathlib.Path(sys.argv[1]));"
        "print([[problem.name for problem in split] for split in problems[:2]])"
    )
    said = []
    for hash_seed in ("1", "2"):
        ended = subprocess.run(
            [sys.executable, "-c", code, str(file)],
            cwd=Path(world.__file__).parent,
            env=os.environ | {"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
        )
        said.append(ended.stdout)
    train_set, test_set, _ = datasets.read_problems(file)
    here = [[problem.name for problem in split] for split in (train_set, test_set)]
    assert said == [f"{here}\n"] * 2


@pytest.mark.parametrize("layout", ["folders", "lines", "deeper", "both names"])
def test_the_split_is_named_on_the_way(tmp_path, layout):
    """Catches a layout whose own split is not seen, so that its test rows are drawn into training.
    The outermost name counts."""
    names = {
        "folders": "{}/algebra/{}.json",
        "lines": "{}.of.{}.jsonl",
        "deeper": "MATH/v1/{}/a{}.json",
        "both names": "{}/test.{}.jsonl",
    }[layout]
    for i in range(40):
        write(tmp_path / names.format("test" if i % 2 else "train", i), row(i))
    train_set, test_set, bad = datasets.read_problems(tmp_path)
    assert sorted(int(p.answer) for p in train_set) == list(range(1, 41, 2))
    assert sorted(int(p.answer) for p in test_set) == list(range(2, 41, 2)) and not bad


def test_a_folder_above_the_data_names_no_split(tmp_path):
    """Catches a split that is read from where the data happens to lie."""
    file = write(tmp_path / "test" / "mine" / "all.jsonl", *[row(i) for i in range(60)])
    for path in (file, file.parent):
        train_set, test_set, _ = datasets.read_problems(path)
        assert all(is_held_out(p.question, 0) for p in test_set) and train_set


def test_a_training_problem_that_is_also_a_test_problem_is_left_out_of_training(original):
    """Catches a test problem that is trained on under other spacing."""
    write(original / "train" / "algebra" / "copy.json", row(7, problem="What is  $7 + 1$ ?"))
    with pytest.raises(BadInput, match="copy.json: the same problem as .*7.json"):
        datasets.read_problems(original)
    train_set, test_set, _ = datasets.read_problems(original, skip_bad_rows=True)
    assert len(train_set) == 7 and "8" in [p.answer for p in test_set]


def test_no_problem_is_in_both_splits_or_twice(tmp_path):
    """Catches copies across files of every kind: train, test, and rows that are drawn."""
    for seed, name in enumerate(("train.jsonl", "all.jsonl", "test.jsonl")):
        rows = [row(i, problem="What is" + " " * (seed + 1) + f"{i}?") for i in range(50)]
        write(tmp_path / name, *rows[10 * seed :])
    train_set, test_set, bad = datasets.read_problems(tmp_path, skip_bad_rows=True)
    assert not questions(train_set) & questions(test_set)
    assert len(questions(train_set)) == len(train_set)
    assert len(questions(test_set)) == len(test_set)
    # 50 texts on 50 + 40 + 30 rows; the 30 of the test split are all tested.
    assert len(train_set) + len(test_set) == 50 and len(bad) == 70
    assert {f"Whatis{i}?" for i in range(20, 50)} <= questions(test_set)


# ---- the words of the turns ----------------------------------------------------------------------
def test_the_words_of_the_turns():
    """The request is one text for right and wrong first attempts, and a question cannot smuggle in
    special tokens."""
    task = datasets.chat_task([], [])
    assert task.prompt.count("{question}") == 1 and "\\boxed" in task.prompt
    for word in ("might", "error", "correct", "ewrite"):
        assert word in task.request
    question = f"a {world.END} é {{question}}"
    ids = task.prompt_ids(Problem(question, "1"))
    assert task.end not in ids
    assert task.tokenizer.decode(ids) == task.prompt.replace("{question}", question)


@pytest.mark.parametrize("tests", [(), ("assert f()",)])
def test_the_request_does_not_say_whether_there_is_an_error(tests):
    """Catches words that give the verdict away, or that ask for a review where none is wanted: the
    model is to find out by itself."""
    problems = [Problem("?", "3", tests)]
    plain = datasets.chat_task([], problems).request
    review = datasets.chat_task([], problems, critique=True).request
    assert "There might be an error" in plain and "If there is one" in plain
    assert "Review" not in plain and "Review" in review and "error" not in review
    assert plain.startswith("\n\n") and plain.endswith("\n\nSolution: ")


def test_math_is_graded_by_its_answers():
    """Catches MATH that is sent to the sandbox."""
    task = datasets.chat_task([], [Problem("1 + 2?", "3")])
    assert task.final is None and task.judge is None


@pytest.mark.parametrize("family", ["qwen2", "llama3"])
def test_chat_markers_of_a_family(family):
    """What a Qwen2.5 and a Llama 3 chat look like without a system message, from their model
    cards."""
    expected = {
        "qwen2": "<|im_start|>user\n{0}<|im_end|>\n<|im_start|>assistant\nY1<|im_end|>\n"
        "<|im_start|>user\n{1}<|im_end|>\n<|im_start|>assistant\n",
        "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{0}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nY1<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n{1}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    }[family]
    special = {
        "qwen2": ("<|im_start|>", "<|im_end|>"),
        "llama3": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    }[family]
    tokenizer = tiktoken.Encoding(
        "test",
        pat_str=r"(?s:.)",
        mergeable_ranks={bytes([i]): i for i in range(256)},
        special_tokens={name: 256 + i for i, name in enumerate(special)},
    )
    task = datasets.chat_task([], [], tokenizer, checkpoints.chat_of(tokenizer))
    ids = task.prompt_ids(Problem("What is $1+1$?", "2")) + list(b"Y1") + [task.end]
    ids += task.request_ids()
    question = datasets.MATH_PROMPT.replace("{question}", "What is $1+1$?")
    expected = expected.replace("{0}", question).replace("{1}", datasets.MATH_REQUEST)
    assert tokenizer.decode(ids) == expected
    assert sum(i >= 256 for i in ids) == expected.count("<|")


def test_bytes_are_tokens():
    """Catches a tokenizer that has no words for some text."""
    text = "é\n\t🙂 " + "".join(map(chr, range(300)))
    ids = datasets.byte_tokenizer().encode_ordinary(text)
    assert ids == list(text.encode())


# ---- whole runs ----------------------------------------------------------------------------------
def test_the_whole_command_on_math(original, tmp_path, capsys):
    """Catches a run whose split.json is not the folder's split."""
    steps = [*SHORT, "--warm-steps", "2", "--max-new-tokens", "8", "--levels", "2-5"]
    out = tmp_path / "out"
    train.main([*TINY, *steps, "--data", str(original), "--out", str(out)])
    assert "7 training and 2 test problems" in capsys.readouterr().out
    split = json.loads((out / "score-seed0" / "split.json").read_text())
    assert len(split["train"]) == 7 and len(split["test"]) == 2
    assert all(str(original / "train") in name for name in split["train"])
    assert all(str(original / "test") in name for name in split["test"])


def test_prompt_trains_nothing_and_asks_for_a_critique(original, tmp_path, monkeypatch):
    """Catches a prompted baseline that asks in the words of the trained methods."""
    asked = []
    two_turns = rollout.two_turns

    def listen(policy, prompts, request, *rest, **how):
        asked.append(request)
        return two_turns(policy, prompts, request, *rest, **how)

    monkeypatch.setattr(rollout, "two_turns", listen)
    out = tmp_path / "out"
    how = "--warm-steps 1 --max-new-tokens 4 --method prompt".split()
    train.main([*TINY, *how, "--data", str(original), "--out", str(out)])
    results = json.loads((out / "prompt-seed0" / "results.json").read_text())["results"]
    assert list(results) == ["base"] and asked
    assert all(datasets.MATH_CRITIQUE in bytes(request).decode() for request in asked)


def test_training_stops_before_anything_is_written_at_a_bad_row(original, tmp_path, capsys):
    """Catches a folder that is left behind by a run that never began."""
    write(original / "train" / "algebra" / "bad.json", row(50, solution="none"))
    with pytest.raises(SystemExit) as ended:
        train.main(["--data", str(original), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and "bad.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ranges_of_levels():
    """Catches levels that are those of the world where MATH is read, or the other way round."""
    assert options.numbers("1-3,5") == (1, 2, 3, 5)
    assert options.parse(["--data", "somewhere"]).levels == ()
    assert options.parse([]).levels == (1, 2, 3, 4)
