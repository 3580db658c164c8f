"""The files of a run: folders that belong to one run each, and files that are whole or not there.

What this file is not: it knows nothing of what is written.

    folder = open_folder(Path("out/score-seed0"), settings)      # BadInput if it is another run's
    write_whole(folder / "model.pt", lambda path: torch.save(weights, path))
"""

import csv
import fcntl
import hashlib
import json
import os
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import torch

from extras.options import flag
from world import BadInput


def write_whole(path: Path, save: Callable[[Path], object]):
    """save(a temporary path), then put it in place: a killed run leaves the old file or the new
    one, never half of one."""
    temporary = path.with_name(path.name + ".tmp")
    save(temporary)
    os.replace(temporary, path)


def write_json(path: Path, content):
    """The content as an indented JSON file."""
    text = json.dumps(content, indent=1)
    write_whole(path, lambda temporary: temporary.write_text(text))


def open_folder(folder: Path, settings: dict) -> Path:
    """The folder of a run with these settings, made if need be.

    Raises BadInput if it belongs to another run, or to no run and is not empty.
    """
    settings = json.loads(json.dumps(settings))  # tuples become lists, as in the file
    try:
        before = settings_in(folder, settings)
    except (OSError, json.JSONDecodeError) as error:
        raise BadInput(f"{folder} cannot be used: {error}") from error
    changed = []
    for name, value in settings.items():
        if before.get(name) != value:
            changed.append(f"{flag(name)} was {before.get(name)!r} and is {value!r}")
    if changed:
        raise BadInput(
            f"{folder} holds a run with other options ({'; '.join(changed)}):"
            " remove it, or name another with --out"
        )
    return folder


def settings_in(folder: Path, settings: dict) -> dict:
    """The settings that a folder was opened with: these, if it is new."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.json"
    if not file.exists():
        if any(folder.iterdir()):
            raise BadInput(
                f"{folder} is not empty and holds no config.json: name another folder with --out"
            )
        write_json(file, settings)
    return json.loads(file.read_text())


def load_state(path: Path, policy: torch.nn.Module) -> dict:
    """A checkpoint, whose weights become the policy's.

    Raises BadInput if the file is damaged or holds something else.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # torch does not look at its checksums
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"the checksum of {damaged} is another")
        state = torch.load(path, map_location="cpu", weights_only=True)
        policy.load_state_dict(state["policy"])
    except Exception as error:  # damaged bytes can make an unpickler raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        message = f"{path} is damaged ({reason}): remove it to start this part again"
        raise BadInput(message) from error
    return state


# ---- the log: a row a step -----------------------------------------------------------------------
def append_rows(path: Path, rows: list[dict], size: int) -> int:
    """Write rows behind the first `size` bytes of a CSV; what stood behind them goes. Returns its
    new size. Raises BadInput if there are not so many bytes."""
    if not rows and size == 0:
        return 0
    with open(path, "r+" if size else "w", newline="") as file:
        there = file.seek(0, os.SEEK_END)
        if there < size:
            raise BadInput(
                f"{path} has {there} bytes, and the checkpoint beside it is of {size}: remove the"
                " folder to run it again"
            )
        file.seek(size)
        file.truncate()
        if rows:
            writer = csv.DictWriter(file, list(rows[0]))
            if size == 0:
                writer.writeheader()
            writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())  # it is on the disk before the checkpoint that counts on it
        return file.tell()


def read_rows(path: Path) -> list[dict]:
    """The rows of such a CSV, figures as numbers; none, if there is no file."""
    if not path.exists():
        return []
    rows = []
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            rows.append({name: x if name == "stage" else float(x) for name, x in row.items()})
    return rows


# ---- one run at a time, and the same inputs ------------------------------------------------------
@contextmanager
def locked(folder: Path, wait: bool = False):
    """Keep other processes out of a folder for a while; a lock ends with its owner.

    Raises BadInput if another is in it; with `wait`, says so and waits for its end.
    """
    with open(folder / "lock", "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if not wait:
                raise BadInput(f"another run is at work in {folder}: wait for its end") from None
            print(f"waiting for another run, which is at work in {folder}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fingerprint(folder: Path) -> str:
    """A hash of a checkpoint's weights: of each file its name, its size, and its first and last
    megabyte."""
    found = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        found.update(f"{file.name} {size}".encode())
        with open(file, "rb") as opened:
            found.update(opened.read(2**20))
            opened.seek(max(0, size - 2**20))
            found.update(opened.read())
    return found.hexdigest()
