"""Bugs planted one at a time: does a test notice?

    python tests/mutations.py                       # all of them, two side by side: shows survivors
    python tests/mutations.py --only reference      # those whose name, file or test holds a text
    python tests/mutations.py --share 0.1 --seed 3  # a random tenth

What this file is not: it tests nothing itself. A row of tests/mutations.jsonl is a bug's name, a
file, a text that stands once in it (`old`), what a tired programmer would have written in its place
(`new`), and the test that must fail then. The bug is planted in a copy of the repository, in a
temporary folder, and that one test is run there. A bug survives if the test passes; then the test
is too weak, or the code does nothing.

To start Python and torch takes longer than most of the tests. So they are loaded once, and every
bug gets a fork of this process, in which no module of the repository is loaded yet.
"""

import argparse
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
TABLE = Path(__file__).with_name("mutations.jsonl")
NOT_COPIED = shutil.ignore_patterns("out", ".git", ".venv", "*.egg-info", "__pycache__", ".*_cache")
FAILED = 1  # pytest's exit status where a test ran and failed; another is an error of the row
TIMEOUT = 300  # seconds; a bug that never ends is noticed, too
PRELOADED = ("pytest", "torch", "torch.utils.checkpoint", "numpy", "tiktoken", "tqdm", "hypothesis")


class Mutation(NamedTuple):
    """One planted bug."""

    bug: str
    file: str
    old: str
    new: str
    test: str


def read_table() -> list[Mutation]:
    """Every row of the table."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return [Mutation(**json.loads(line)) for line in lines]


def mutated(text: str, mutation: Mutation) -> str:
    """The source with the bug in it. ValueError if `old` does not stand there exactly once."""
    count = text.count(mutation.old)
    if count != 1:
        raise ValueError(f"{mutation.bug}: its text stands {count} times in {mutation.file}")
    return text.replace(mutation.old, mutation.new)


def chosen(mutations: list[Mutation], only: str, share: float, seed: int) -> list[Mutation]:
    """Those whose name or file holds a text, and of these a random share (at least one)."""
    found = [row for row in mutations if any(only in x for x in (row.bug, row.file, row.test))]
    count = max(1, round(share * len(found))) if found else 0
    return random.Random(seed).sample(found, count)


def plant(mutation: Mutation, folder: Path) -> int:
    """Fork a process that runs the test on a copy of the repository with the bug in it. Its id."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(REPOSITORY, copy, ignore=NOT_COPIED)
    source = copy / mutation.file
    source.write_text(mutated(source.read_text(), mutation))
    process = os.fork()
    if process == 0:
        run_test(copy, mutation.test, folder / "said")
    return process


def run_test(copy: Path, test: str, said: Path):
    """In the forked process: one test, and the end. What it prints goes to the file `said`."""
    import pytest

    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(copy)
    sys.dont_write_bytecode = True
    sys.path[0] = str(copy)
    os.environ["PYTHONPATH"] = str(copy)  # for processes that a test starts
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "", test])
    sys.stdout.flush()
    os._exit(int(status))


def verdict(process: int, said: Path) -> str:
    """ "caught", "survived", or what is wrong with the row itself."""
    started = time.monotonic()
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - started > TIMEOUT:
            os.kill(process, 9)
            os.waitpid(process, 0)
            return "caught"
        time.sleep(0.02)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return "survived"
    if code == FAILED:
        return "caught"
    return f"pytest ended with {code}: {said.read_text()[-400:]}"


def survivors(rows: list[Mutation], progress) -> list[tuple[str, Mutation]]:
    """Those of the rows that no test noticed, with what was said of each."""
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for row in rows:
            try:
                said = verdict(plant(row, Path(temporary)), Path(temporary) / "said")
            except ValueError as error:
                said = str(error)
            if said != "caught":
                found.append((said, row))
            progress(row, said)
    return found


def run_part(rows: list[Mutation]) -> int:
    """Half of the rows, in a process of its own; how many survived."""
    for name in PRELOADED:
        importlib.import_module(name)

    def show(row: Mutation, said: str):
        if said != "caught":
            print(f"{said}: {row.bug}\n    {row.file}, {row.test}", flush=True)

    return len(survivors(rows, show))


def main():
    """Run the table; the exit status is 1 if a bug survived or a row does not fit the source."""
    parser = argparse.ArgumentParser("mutations.py", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="bugs whose name, file or test holds this text")
    parser.add_argument("--share", type=float, default=1.0, help="a random share of them")
    parser.add_argument("--seed", type=int, default=0, help="which share")
    parser.add_argument("--jobs", type=int, default=2, help="side by side")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    rows = chosen(read_table(), asked.only, asked.share, asked.seed)
    parts = []
    for job in range(asked.jobs):
        process = os.fork()
        if process == 0:
            os._exit(min(255, run_part(rows[job :: asked.jobs])))
        parts.append(process)
    statuses = [os.waitpid(process, 0)[1] for process in parts]
    lost = sum(os.waitstatus_to_exitcode(status) for status in statuses)
    print(f"{len(rows)} bugs planted, {len(rows) - lost} caught, {lost} not")
    raise SystemExit(lost > 0)


if __name__ == "__main__":
    main()
