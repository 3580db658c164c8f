"""The classroom: bodies go out and come back, editions hold no solution, points are right."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import exercise

REPOSITORY = Path(exercise.__file__).resolve().parent.parent
every_card = pytest.mark.parametrize("card", exercise.CARDS, ids=lambda card: card.function)


@every_card
def test_a_blank_keeps_signature_and_docstring(card):
    """Catches a body that stays, a docstring or an example that goes, and a file that is no Python
    any more."""
    text = (REPOSITORY / card.file).read_text()
    before = exercise.find(card, text)
    blanked = exercise.without_body(card, text)
    after = exercise.find(card, blanked)
    assert ast.dump(after.args) == ast.dump(before.args)
    assert ast.get_docstring(after) == ast.get_docstring(before) is not None
    assert len(after.body) == 2 and isinstance(after.body[1], ast.Raise)
    others = [line for line in text.splitlines() if line not in ast.unparse(before)]
    assert len(blanked.splitlines()) < len(text.splitlines()) and len(others) > 10
    assert exercise.with_function_of(card, text) == text


@every_card
def test_a_card_names_tests_that_exist(card):
    """Catches a card that is graded by nothing."""
    for test in card.tests:
        file, name = test.split("::")
        assert f"def {name}(" in (REPOSITORY / file).read_text()


@every_card
def test_a_card_has_three_planted_bugs_that_its_tests_catch(card):
    """Catches an exercise that a wrong solution passes: the table of planted bugs, which
    mutations.py tries, has at least three in this function that name the card's tests."""
    text = (REPOSITORY / card.file).read_text()
    function = exercise.find(card, text)
    lines = text.splitlines(keepends=True)
    body = "".join(lines[function.lineno - 1 : function.end_lineno])
    rows = (REPOSITORY / "tests" / "mutations.jsonl").read_text().splitlines()
    found = 0
    for row in map(json.loads, rows):
        if row["file"] == card.file and row["old"] in body:
            found += any(row["test"].startswith(test) for test in card.tests)
    assert found >= 3, found


def test_the_text_and_the_table_are_of_the_same_cards():
    """Catches a card of EXERCISES.md that nothing grades, and one that nobody is told of."""
    text = (REPOSITORY / "EXERCISES.md").read_text()
    told = re.findall(r"^### (\d+)\. `([\w.]+)`", text, flags=re.M)
    assert told == [(str(n), card.function) for n, card in enumerate(exercise.CARDS, start=1)]
    assert text.count("**Question.**") >= len(exercise.CARDS)
    for command in re.findall(r"tests/[\w.]+::\w+", text):
        file, name = command.split("::")
        assert f"def {name}(" in (REPOSITORY / file).read_text()


@pytest.mark.parametrize("number", range(1, len(exercise.PLANTS) + 1))
def test_a_silent_bug_still_fits(number):
    """Catches a bug that plants nothing, or plants twice, since the source has changed."""
    file, old, new = exercise.PLANTS[number - 1]
    text = (REPOSITORY / file).read_text()
    assert text.count(old) == 1 and old != new
    ast.parse(text.replace(old, new))


# ---- as a teacher --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A copy of the repository with a git of its own."""
    folder = tmp_path_factory.mktemp("home") / "repository"
    copied = [*REPOSITORY.glob("*.py"), *REPOSITORY.glob("*.md"), REPOSITORY / "pyproject.toml"]
    for place in ("tests", "extras"):
        copied += list((REPOSITORY / place).glob("*"))
    for path in copied:
        if path.is_file():
            target = folder / path.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def teacher(home, monkeypatch):
    """The module, at work in the copy; whatever a test changed is undone."""
    monkeypatch.setattr(exercise, "REPOSITORY", home)
    yield home
    subprocess.run(["git", "checkout", "-q", "--", "."], cwd=home, check=True)


def test_blank_and_restore_in_place(teacher, capsys):
    """Catches a restore that brings back less, and a blank over a student's work."""
    before = (teacher / "score.py").read_text()
    exercise.main(["blank", "leave_one_out"])
    blanked = (teacher / "score.py").read_text()
    assert 'raise NotImplementedError("exercise: leave_one_out")' in blanked
    with pytest.raises(SystemExit):
        exercise.main(["blank", "metrics"])
    assert "score.py: commit or undo your changes first" in capsys.readouterr().err
    exercise.main(["restore"])
    assert (teacher / "score.py").read_text() == before


def test_an_edition_holds_no_solution_and_is_graded_right(teacher, tmp_path, monkeypatch, capsys):
    """Catches points for an empty card, a wrong one, an edited test or a loop without an end, and
    none for a right one. Three cards are solved, one wrongly, one with an endless loop."""
    edition = tmp_path / "students"
    exercise.main(["blank", "all", str(edition)])
    held = "".join(path.read_text() for path in edition.glob("**/*.py"))
    held += subprocess.run(["git", "log", "-p"], cwd=edition, capture_output=True, text=True).stdout
    for line in ("bonus = alpha * (later - before)", "groups.sum(dim=1, keepdim=True)"):
        assert line not in held
    assert held.count("NotImplementedError") >= 2 * len(exercise.CARDS)
    by_name = {card.function: card for card in exercise.CARDS}
    few = [by_name[name] for name in ("stage_one_rewards", "leave_one_out", "pad", "metrics")]
    few += [by_name["sample"], by_name["extract_answer"]]
    for card in few[:3]:  # solved
        ours = (teacher / card.file).read_text()
        theirs = (edition / card.file).read_text()
        solved = ast.get_source_segment(ours, exercise.find(card, ours))
        empty = ast.get_source_segment(theirs, exercise.find(card, theirs))
        (edition / card.file).write_text(theirs.replace(empty, solved))
    for name, body in (("metrics", "return {}"), ("sample", "while True: pass")):
        path = edition / by_name[name].file
        empty = f'raise NotImplementedError("exercise: {name}")'
        path.write_text(path.read_text().replace(empty, body))
    (edition / "tests" / "test_metrics.py").write_text("def test_nothing():\n    pass\n")
    monkeypatch.setattr(exercise, "CARDS", tuple(few))
    monkeypatch.setattr(exercise, "SECONDS", 25)
    capsys.readouterr()
    exercise.main(["grade", str(edition)])
    results = json.loads((edition / "results.json").read_text())
    assert [row["score"] for row in results["tests"]] == [1, 2, 1, 0, 0, 0]
    assert results["score"] == 4
    said = {row["name"].split()[1]: row["output"] for row in results["tests"]}
    assert "endless loop" in said["sample"] and "NotImplementedError" in said["extract_answer"]
    assert Counter(capsys.readouterr().out.split())["of"] == 7


@pytest.mark.parametrize(
    "said, named",
    [
        ("blank nosuch", "there are: stage_one_rewards"),
        ("blank", "what?"),
        ("blank all", "FOLDER"),
        ("grade nowhere", "no copy of this repository"),
        ("plant 9", "1 to 8"),
        ("plant x", "1 to 8"),
    ],
)
def test_what_cannot_be_is_one_line(teacher, tmp_path, monkeypatch, capsys, said, named):
    """Catches a traceback in front of a class, and a folder that is overwritten."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        exercise.main(said.split())
    error = capsys.readouterr().err
    assert ended.value.code == 2 and named in error and error.count("\n") == 1
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work.py").write_text("mine")
    with pytest.raises(SystemExit):
        exercise.main(["blank", "all", "full"])
    assert (tmp_path / "full" / "work.py").read_text() == "mine"


def test_a_planted_bug_is_not_named(teacher, capsys):
    """Catches a hunt that is over before it begins."""
    exercise.main(["plant", "4"])
    assert "score.py" not in capsys.readouterr().out
    changed = subprocess.run(
        ["git", "diff", "--name-only"], cwd=teacher, capture_output=True, text=True
    ).stdout
    assert changed.split() == ["score.py"]


def test_the_step_taken_apart_runs(tmp_path, monkeypatch, capsys):
    """Catches a piece of EXERCISES.md that no longer runs: eight episodes of one problem."""
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "EXERCISES.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    exec(code.replace('"50"', '"2"'), {})
    said = capsys.readouterr().out
    assert said.count("tensor(") == 5


def test_it_runs_as_a_command():
    """Catches an import that only works inside pytest."""
    command = [sys.executable, str(REPOSITORY / "tests" / "exercise.py"), "list"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(ended.stdout.splitlines()) == len(exercise.CARDS)
