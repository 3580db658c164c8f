"""The table of planted bugs (tests/mutations.py): the test that each one names notices it."""

import random
import subprocess
import sys
from pathlib import Path

import mutations
import pytest
from mutations import Mutation

ROWS = mutations.read_table()
COMMAND = [sys.executable, mutations.__file__]


def run(*said):
    """The command, from the repository's root."""
    root = Path(mutations.__file__).parent.parent
    return subprocess.run([*COMMAND, *said], cwd=root, capture_output=True, text=True)


def test_every_row_fits_the_source():
    """Catches a bug that is no longer planted, since the line it changes was rewritten."""
    for row in ROWS:
        source = (mutations.REPOSITORY / row.file).read_text()
        assert mutations.mutated(source, row) != source
        file, _, name = row.test.partition("::")
        assert f"def {name}(" in (mutations.REPOSITORY / file).read_text(), row.test


def test_the_bugs_are_different_and_many():
    """Catches a table that grew by copies."""
    changes = {(row.file, row.old, row.new) for row in ROWS}
    assert len(changes) == len(ROWS) >= 120


def test_some_of_them_are_caught():
    """Catches a test that no longer fails when its bug is there: a random twentieth, another in
    every run, and the command that shows the survivor again."""
    seed = random.randrange(10_000)
    ended = run("--share", "0.05", "--seed", str(seed))
    assert ended.returncode == 0, f"--share 0.05 --seed {seed}\n{ended.stdout}{ended.stderr}"


@pytest.mark.slow
def test_every_bug_is_caught():
    """Catches what the random twentieth does not."""
    ended = run()
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_bug_that_changes_nothing_survives(tmp_path, monkeypatch):
    """Catches a verdict that is "caught" whatever happens, and a row that does not fit and is not
    named."""
    rows = [
        Mutation("a comment", "score.py", "not KL(ref || pi)", "never KL(ref || pi)", ROWS[0].test),
        Mutation("no such text", "score.py", "no such text", "", ROWS[0].test),
    ]
    table = tmp_path / "table.jsonl"
    lines = [mutations.json.dumps(row._asdict()) for row in rows]
    table.write_text("\n".join(lines))
    code = (
        "import sys, pathlib; sys.path.insert(0, 'tests'); sys.argv = sys.argv[:1];"
        f"import mutations; mutations.TABLE = pathlib.Path({str(table)!r}); mutations.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=mutations.REPOSITORY, capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "survived: a comment" in ended.stdout and "stands 0 times" in ended.stdout
    assert "2 bugs planted, 0 caught, 2 not" in ended.stdout
