"""MATH and GSM8K as people have them, on small folders written here: what is read, how it is split,
what is refused, and in which words it is asked. Programs are in test_programs.py."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiktoken

import rewards
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
    """Catches a filter that is not applied, or to one of the two splits only; and a misspelt
    subject that is missing in silence."""
    hard_train, hard_test, _ = datasets.read_problems(original, levels=(5,))
    assert [p.answer for p in hard_train] == ["10"] and [p.answer for p in hard_test] == ["9"]
    about_numbers = datasets.read_problems(original, subjects=("Number Theory",))
    assert [p.answer for p in about_numbers[1]] == ["9"]
    assert [p.answer for p in about_numbers[0]] == ["10"]
    both = ("algebra", "number_theory")
    assert len(datasets.read_problems(original, levels=(2, 5), subjects=both)[0]) == 7
    for unknown in (("geometry",), ("algebra", "geometry"), ("algebra", "")):
        expected = f"no --subjects '{unknown[-1]}'; there are: algebra, number_theory"
        with pytest.raises(BadInput, match=expected):
            datasets.read_problems(original, subjects=unknown)
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
    two characters, are read as one, escaped or not; and the n of an escaped line end that takes the
    mark after it."""
    rows = [row(1, problem="Cafe\u0301?"), row(2, problem="Cafe\u0301\n\u0303?")]
    for escaped in (False, True):
        lines = [json.dumps(fields, ensure_ascii=escaped) for fields in rows]
        (tmp_path / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
        _, test_set, _ = datasets.read_problems(tmp_path, trains=False)
        assert [p.question for p in test_set] == ["Caf\u00e9?", "Caf\u00e9\n\u0303?"]


DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.mark.parametrize(
    "content, said",
    [
        (b'{"problem": "  ", "answer": "1"}', "no problem text"),
        (b'{"answer": "1"}', "no problem text"),
        (b'["problem"]', "no problem text"),
        (b'{"problem": "a", ', "not JSON"),
        (b'{"problem": "caf\xe9", "answer": "1"}', "not UTF-8"),
        (b'{"problem": ["a"], "answer": "1"}', "field 'problem' holds [\"a\"], not text"),
        (b'{"problem": "a", "solution": 3}', "field 'solution' holds 3, not text"),
        (b'{"problem": "a", "answer": ["2"]}', "field 'answer' holds [\"2\"], not text or a"),
        (b'{"problem": "a", "answer": {"value": 2}}', "field 'answer' holds {"),
        (b'{"problem": "a", "answer": true}', "field 'answer' holds true"),
        (b'{"problem": "a", "answer": NaN}', "field 'answer' holds NaN"),
        (b'{"problem": "a", "answer": -1e999}', "field 'answer' holds -Infinity"),
        (b'{"problem": "a", "answer": "So 1+1=2.\\n#### 2"}', "a whole solution"),
        (b'{"problem": "a", "answer": "So it is \\\\boxed{2}."}', "a whole solution"),
        (b'{"problem": "a", "answer": "' + b"So it is. " * 61 + b'"}', "a whole solution"),
        (b'{"problem": "a", "answer": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"problem": "a", "answer": "1", "more": ' + DEEP + b"}", "brackets too deep"),
        (b'{"problem": "\\ud800?", "answer": "1"}', "half a character, '\\ud800'"),
        (b'{"question": "a", "answer": "So 2.\\n#### two"}', "'####' is no number: \"two\""),
        (b'{"question": "", "answer": "So 2.\\n#### 2"}', "no text in field 'question'"),
        (b'{"question": "a", "answer": 2}', "field 'answer' holds 2, not text"),
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
        datasets.read_problems(file, "math")
    assert said in str(refused.value) and "\n" not in str(refused.value)
    train_set, test_set, bad = datasets.read_problems(file, "math", skip_bad_rows=True)
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


def test_a_row_without_an_answer_or_a_copy_is_counted_and_left_out(tmp_path):
    """Catches a run of 12,500 rows that two empty boxes stop, as MATH has them, and a row that is
    left out in silence."""
    empty = "There are $\\boxed{}$ of them."
    wrong = [row(70, solution="no box"), row(71, solution=empty), row(72, solution="", answer=" ")]
    rows = [*map(row, range(5)), *wrong, row(3, problem="What is $3 + 1$?")]
    file = write(tmp_path / "train.jsonl", *rows)
    write(tmp_path / "test.jsonl", row(9))
    said = []
    train_set, _, left_out = datasets.read_problems(tmp_path, say=said.append)
    assert [p.answer for p in train_set] == ["1", "2", "3", "4", "5"]
    assert [reason.split(": ")[0] for reason in left_out] == [f"{file}:{i}" for i in (6, 7, 8, 9)]
    assert said == [
        f"{tmp_path}: 5 training and 1 test problems, 0 bad rows left out",
        "    test.jsonl: 1 read, 0 to train on, 1 to test",
        "    train.jsonl: 9 read, 5 to train on, 0 to test",
        f"    left out, no answer: 3, the first {left_out[0]}",
        f"    left out, a copy: 1, the first {file}:9: the same problem as {file}:4",
    ]
    with pytest.raises(BadInput, match=r"algebra \(3 rows have no answer\)"):
        datasets.read_problems(write(tmp_path / "other.jsonl", *wrong))


@pytest.mark.parametrize(
    "solution, answer",
    [
        ("It is $\\boxed 2$.", "2"),
        ("First $\\boxed{1}$, then $x = \\boxed 9$.", "9"),
        ("First $\\boxed 1$, then $\\boxed{12}$.", "12"),
        ("First $\\boxed 1$, then $\\boxed{12", ""),  # cut off: no earlier one stands in for it
        ("It is $\\boxed{}$.", ""),
        ("It is 2.", ""),
    ],
)
def test_the_box_of_a_reference_solution(solution, answer):
    """Catches MATH's two boxes without braces, which hold the next sign in TeX."""
    assert datasets.boxed(solution) == answer


@pytest.mark.parametrize(
    "number, text",
    [(4, "4"), (-2.5, "-2.5"), (1.0, "1.0"), (1e-7, "0.0000001"), (1e22, "1" + 22 * "0")],
)
def test_an_answer_that_is_a_number(tmp_path, number, text):
    """Catches 1e-07, which no checker of mathematics reads as a number."""
    file = write(tmp_path / "test.jsonl", row(1, answer=number))
    assert datasets.read_problems(file, trains=False)[1][0].answer == text


# ---- files ---------------------------------------------------------------------------------------
TWO = [row(1), row(2)]
LINES = "\n".join(map(json.dumps, TWO)).encode()
PRETTY = "\n\n".join(json.dumps(fields, indent=2) for fields in TWO)


@pytest.mark.parametrize(
    "name, content",
    [
        ("test.jsonl", LINES),
        ("test.jsonl", LINES.replace(b"\n", b"\r\n")),
        ("test.jsonl", b"\xef\xbb\xbf" + LINES),
        ("test.json", LINES),
        ("test.json", b"\xef\xbb\xbf" + LINES + b"\n\n"),
        ("test.json", json.dumps(TWO).encode()),
        ("test.json", b"\xef\xbb\xbf" + json.dumps(TWO, indent=2).encode()),
        ("test.jsonl", json.dumps(TWO, indent=1).encode()),
        ("test.jsonl.gz", gzip.compress(LINES)),
        ("test.json.gz", gzip.compress(json.dumps(TWO).encode())),
    ],
)
def test_rows_are_read_whatever_the_file_is_called(tmp_path, name, content):
    """Catches a list in .json, JSON lines in .json and a byte-order mark that are taken for one bad
    row each."""
    (tmp_path / name).write_bytes(content)
    _, test_set, left_out = datasets.read_problems(tmp_path, trains=False)
    assert [p.answer for p in test_set] == ["2", "3"] and not left_out
    assert [p.name for p in test_set] == [f"{tmp_path / name}:{i}" for i in (1, 2)]


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("a.json", PRETTY.encode(), r"a\.json: not JSON .*; 1 bad row in all"),
        ("a.json.gz", gzip.compress(PRETTY.encode()), r"a\.json\.gz: not JSON .*; 1 bad row in"),
        ("a.json", json.dumps(TWO).encode()[:-9], r"a\.json: not JSON .*; 1 bad row in all"),
        ("a.json", LINES + b'\n{"prob', r"a\.json:3: not JSON .*; 1 bad row in all"),
        ("a.json", b"[1, 2]", r"a\.json:1: the row has no problem text .*; 2 bad rows in all"),
        ("a.json", b'{"problem": ["a"]}', r"a\.json: field 'problem' holds"),
        ("a.jsonl", b"", "no train problem of math left .* there are: no rows"),
        ("a.jsonl", LINES.decode().encode("utf-16"), r"a\.jsonl:1: not UTF-8"),
        (
            "a.jsonl",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 439\n",
            r"a\.jsonl: a Git LFS pointer .*git lfs pull",
        ),
        ("a.jsonl.gz", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
)
def test_files_that_hold_something_else_are_named(tmp_path, name, content, said):
    """Catches the three lines of a pointer that are counted as three bad rows, and a damaged list
    whose every line is one."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=said) as refused:
        datasets.read_problems(tmp_path)
    assert "\n" not in str(refused.value)


def make_link(file):
    """A link to nothing."""
    file.symlink_to("nowhere")


@pytest.mark.parametrize(
    "make, said",
    [
        (None, "--data .*a.jsonl: No such file or directory; a folder or a JSON file is needed"),
        (make_link, "a.jsonl: cannot be read .No such file"),
        (os.mkfifo, "a.jsonl: not a file"),
        (Path.mkdir, "--data .*: no .json or .jsonl.* file there"),
    ],
)
def test_paths_that_are_no_files_are_named(tmp_path, make, said):
    """Catches a traceback, and a pipe that is waited for for ever."""
    file = tmp_path / "data" / "a.jsonl"
    file.parent.mkdir()
    if make:
        make(file)
    with pytest.raises(BadInput, match=said) as refused:
        datasets.read_problems(file.parent if make else file)
    assert "\n" not in str(refused.value)
    with pytest.raises(BadInput, match="File name too long; a folder"):
        datasets.read_problems(tmp_path / ("n" * 300))


# ---- GSM8K ---------------------------------------------------------------------------------------
def gsm8k(number, **change):
    """A row in GSM8K's format."""
    worked = f"It is 2*{number} = $<<2*{number}={2 * number}>>{2 * number}.\nWell."
    return {
        "question": f"What are {number} and {number} dollars?",
        "answer": f"{worked}\n#### {2 * number:,}",
    } | change


def test_gsm8k_is_a_task_of_its_own(tmp_path):
    """Catches GSM8K whose reference is the whole worked solution, or has a comma in it; a solution
    that boxes nothing, so that it teaches no right answer; and rows that are taken for MATH's."""
    write(tmp_path / "train.jsonl", gsm8k(1), gsm8k(5), gsm8k(7, answer="It is 14."))
    write(tmp_path / "test.jsonl", gsm8k(900), gsm8k(3, answer="#### $-2,006.50"))
    train_set, test_set, left_out = datasets.read_problems(tmp_path)
    assert [p.answer for p in train_set] == ["2", "10"] and len(left_out) == 1
    assert "train.jsonl:3: no number after '####'" in left_out[0]
    assert test_set[0] == Problem(
        question="What are 900 and 900 dollars?",
        answer="1800",
        solution="It is 2*900 = $1800.\nWell.\n\\boxed{1800}",
        name=f"{tmp_path / 'test.jsonl'}:1",
    )
    for problem in train_set + test_set[:1]:
        assert rewards.is_correct(problem.solution, problem.answer)
    assert test_set[1].answer == "-2006.50"
    task = datasets.chat_task(train_set, test_set)
    assert "\\boxed" in task.prompt and task.judge is None
    write(tmp_path / "math.jsonl", row(1, unique_id="test/algebra/1.json"))
    with pytest.raises(BadInput, match="rows of gsm8k.math; say with --task"):
        datasets.read_problems(tmp_path)
    assert len(datasets.read_problems(tmp_path, "gsm8k")[1]) == 2
    assert len(datasets.read_problems(tmp_path, "math", trains=False)[1]) == 1


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


@pytest.mark.parametrize(
    "layout", ["folders", "lines", "deeper", "both names", "shards", "prefix", "capitals"]
)
def test_the_split_is_named_on_the_way(tmp_path, layout):
    """Catches a layout whose own split is not seen, so that its test rows are drawn into training.
    The outermost name counts."""
    names = {
        "folders": "{}/algebra/{}.json",
        "lines": "{}.of.{}.jsonl",
        "deeper": "MATH/v1/{}/a{}.json",
        "both names": "{}/test.{}.jsonl",
        "shards": "data/{}-000{}-of-00040.jsonl",
        "prefix": "my_{}_rows/a{}.jsonl",
        "capitals": "MATH-{}/{}.json",
    }[layout]
    for i in range(40):
        split = "test" if i % 2 else "train"
        split = split.upper() if layout == "capitals" else split
        write(tmp_path / names.format(split, i), row(i))
    train_set, test_set, bad = datasets.read_problems(tmp_path)
    assert sorted(int(p.answer) for p in train_set) == list(range(1, 41, 2))
    assert sorted(int(p.answer) for p in test_set) == list(range(2, 41, 2)) and not bad


@pytest.mark.parametrize("name", ["validation", "valid-00000-of-00001", "my.val", "dev/a", "Dev2"])
def test_validation_rows_are_never_trained_on(tmp_path, name):
    """Catches validation rows that are drawn into training. Where nothing else is there to test,
    they are tested."""
    said = []
    write(tmp_path / f"{name}.jsonl", *map(row, range(30)))
    write(tmp_path / "train.jsonl", *map(row, range(30, 40)))
    train_set, test_set, _ = datasets.read_problems(tmp_path, say=said.append)
    assert [p.answer for p in train_set] == [str(i + 1) for i in range(30, 40)]
    assert len(test_set) == 30
    assert f"    {name}.jsonl: 30 read, 0 to train on, 30 to test" in said
    write(tmp_path / "test.jsonl", *map(row, range(50, 55)))
    train_set, test_set, _ = datasets.read_problems(tmp_path, say=said.append)
    assert (len(train_set), len(test_set)) == (10, 5)
    assert f"    {name}.jsonl: 30 read, 0 to train on, 0 to test" in said
    (tmp_path / "test.jsonl").rename(tmp_path / "latest.jsonl")  # drawn
    train_set, test_set, _ = datasets.read_problems(tmp_path, trains=False)
    drawn = sum(is_held_out(f"What is ${i}+1$?", 0) for i in range(50, 55))
    assert (len(train_set), len(test_set)) == (15 - drawn, drawn) and drawn < 5


def test_it_is_said_which_file_went_where(tmp_path):
    """Catches a file that is drawn into both splits and nobody knows, and a line for each of 12,500
    files."""
    said = []
    for i in range(20):
        write(tmp_path / "a" / "train" / "algebra" / f"{i}.json", row(i))
        write(tmp_path / "a" / "test" / f"{i}.json", row(20 + i))
    write(tmp_path / "b.jsonl", *map(row, range(100, 120)))
    train_set, test_set, _ = datasets.read_problems(tmp_path, say=said.append, seed=3)
    drawn = sum(is_held_out(f"What is ${i}+1$?", 3) for i in range(100, 120))
    assert said == [
        f"{tmp_path}: {40 - drawn} training and {20 + drawn} test problems, 0 bad rows left out",
        "    a/test/*.json: 20 read, 0 to train on, 20 to test",
        "    a/train/algebra/*.json: 20 read, 20 to train on, 0 to test",
        f"    b.jsonl: 20 read, {20 - drawn} to train on, {drawn} to test"
        " (drawn by a hash, --seed 3)",
    ]
    assert (len(train_set), len(test_set)) == (40 - drawn, 20 + drawn)
    said.clear()
    datasets.read_problems(tmp_path / "b.jsonl", say=said.append)
    assert said[1].startswith("    b.jsonl: 20 read, ")


def test_a_name_with_two_splits_is_refused(tmp_path):
    """Catches a guess where both are in one name."""
    write(tmp_path / "train_dev.jsonl", row(1))
    expected = "'train_dev.jsonl' names two splits .train and validation.: rename it"
    with pytest.raises(BadInput, match=expected):
        datasets.read_problems(tmp_path)


def test_math_500_alone_is_for_evaluation(tmp_path):
    """Catches MATH's test problems in training, where its 500 are called something else; and a
    refusal that does not name the options. A file's name goes before: in the split that has these
    500 to test, MATH's other test rows are trained on."""
    rows = [row(i, unique_id=f"test/algebra/{i}.json") for i in range(30)]
    file = write(tmp_path / "math500.json", *rows)
    assert len(datasets.read_problems(file, trains=False)[1]) == 30
    options = "to evaluate only: --init CHECKPOINT --stage-one-steps 0 --stage-two-steps 0"
    with pytest.raises(BadInput, match=f"no train problem of math left .*{options}"):
        datasets.read_problems(file)
    file.rename(tmp_path / "train.jsonl")
    write(tmp_path / "test.jsonl", row(70, unique_id="train/algebra/1.json"))
    assert [len(part) for part in datasets.read_problems(tmp_path)[:2]] == [30, 1]
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(BadInput, match="no test problem of math left .*with test in its name"):
        datasets.read_problems(tmp_path)


def test_a_folder_above_the_data_names_no_split(tmp_path):
    """Catches a split that is read from where the data happens to lie."""
    file = write(tmp_path / "test" / "mine" / "all.jsonl", *[row(i) for i in range(60)])
    for path in (file, file.parent):
        train_set, test_set, _ = datasets.read_problems(path)
        assert all(is_held_out(p.question, 0) for p in test_set) and train_set


def test_a_training_problem_that_is_also_a_test_problem_is_left_out_of_training(original):
    """Catches a test problem that is trained on under other spacing."""
    write(original / "train" / "algebra" / "copy.json", row(7, problem="What is  $7 + 1$ ?"))
    train_set, test_set, left_out = datasets.read_problems(original)
    assert "copy.json: the same problem as " in left_out[0] and "7.json" in left_out[0]
    assert len(train_set) == 7 and "8" in [p.answer for p in test_set]


def test_no_problem_is_in_both_splits_or_twice(tmp_path):
    """Catches copies across files of every kind: train, test, and rows that are drawn."""
    for seed, name in enumerate(("train.jsonl", "all.jsonl", "test.jsonl")):
        rows = [row(i, problem="What is" + " " * (seed + 1) + f"{i}?") for i in range(50)]
        write(tmp_path / name, *rows[10 * seed :])
    train_set, test_set, bad = datasets.read_problems(tmp_path)
    assert not questions(train_set) & questions(test_set)
    assert len(questions(train_set)) == len(train_set)
    assert len(questions(test_set)) == len(test_set)
    # 50 texts on 50 + 40 + 30 rows; the 30 of the test split are all tested.
    assert len(train_set) + len(test_set) == 50 and len(bad) == 70
    assert {f"Whatis{i}?" for i in range(20, 50)} <= questions(test_set)


# ---- which are evaluated -------------------------------------------------------------------------
def sampled_by_hand(asked, count):
    """The rule, written a second time: the lowest SHA-256 of the question."""
    hashes = {question: hashlib.sha256(question.encode()).hexdigest() for question in asked}
    lowest = sorted(hashes.values())[:count]
    return [question for question in asked if hashes[question] in lowest]


@pytest.mark.parametrize("seed", ["0", "1"])
def test_a_sample_of_the_rows_is_evaluated(tmp_path, capsys, seed):
    """Catches 256 problems of MATH that are all Algebra since that file comes first, a sample that
    is another for every seed, and one that nobody is told of."""
    for split in ("train", "test"):
        rows = [row(i, problem=f"{split} {i}", type="AB"[i // 200]) for i in range(400)]
        write(tmp_path / f"{split}.jsonl", *rows)
    config = options.parse(["--data", str(tmp_path), "--eval-problems", "100", "--seed", seed])
    task = train.make_task(config, trains=True)
    expected = sampled_by_hand([f"test {i}" for i in range(400)], 100)
    assert [problem.question for problem in task.test] == expected
    of_the_first = sum(int(question.split()[1]) < 200 for question in expected)
    assert 35 <= of_the_first <= 65 and len(task.train) == 400
    said = capsys.readouterr().out
    assert "evaluated on 100 of 400 test problems, a random sample" in said
    assert "the same for every seed" in said
    asked = []

    def listen(config, policy, task, problems, *rest):
        asked.append([problem.question for problem in problems])
        return [["", ""]] * len(problems)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "play_all", listen)
        train.evaluate(config, None, task, "base")
    assert asked[-1] == sampled_by_hand([f"train {i}" for i in range(400)], 100)


def test_a_sample_grows_by_adding(tmp_path):
    """Catches samples of two sizes that have little in common, and one that is larger than what
    there is."""
    problems = [Problem(f"question {i}", "1") for i in range(50)]
    few, many = (world.fixed_sample(problems, count) for count in (10, 20))
    assert set(few) < set(many) and len(few) == 10 and len(many) == 20
    assert world.fixed_sample(problems, 50) == world.fixed_sample(problems, 4096) == problems
    assert world.fixed_sample(problems[::-1], 10) == few[::-1]


# ---- real data -----------------------------------------------------------------------------------
SHARED = Path(world.__file__).resolve().parent.parent / "shared" / "data"


@pytest.mark.slow
@pytest.mark.parametrize("name, counts", [("math", (7494, 5000, 6)), ("gsm8k", (7473, 1319, 0))])
def test_official_data_is_read_whole(name, counts):
    """Catches MATH's own 12,500 rows, of which two have an empty box and four stand twice, that
    stop a run; and a reference answer by which its own solution is wrong."""
    folder = SHARED / name
    if not folder.exists():
        pytest.skip(f"the public data are not beside the repository: ../shared/data/{name}")
    read = datasets.read_problems(folder)
    assert tuple(map(len, read)) == counts
    for problem in read[0] + read[1]:
        assert problem.answer == datasets.boxed(problem.solution) != ""


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
    said = capsys.readouterr().out
    assert "7 training and 2 test problems" in said
    assert "train/algebra/*.json: 6 read, 6 to train on, 0 to test" in said
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
    write(original / "train" / "algebra" / "bad.json", row(50, answer=["51"]))
    with pytest.raises(SystemExit) as ended:
        train.main(["--data", str(original), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and "bad.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_ranges_of_levels():
    """Catches levels that are those of the world where MATH is read, or the other way round."""
    assert options.numbers("1-3,5") == (1, 2, 3, 5)
    assert options.parse(["--data", "somewhere"]).levels == ()
    assert options.parse([]).levels == (1, 2, 3, 4)
