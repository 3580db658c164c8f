"""The files of a run: folders that belong to one run each, and files that are whole or not there.

What this file is not: it knows nothing of what is written.

    folder = open_folder(Path("out/score-seed0"), settings)      # BadInput if it is another run's
    write_whole(folder / "model.pt", lambda path: torch.save(weights, path))
"""

import csv
import json
import os
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
        state = torch.load(path, map_location="cpu", weights_only=True)
        policy.load_state_dict(state["policy"])
    except Exception as error:  # damaged bytes can make an unpickler raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        message = f"{path} is damaged ({reason}): remove it to start this part again"
        raise BadInput(message) from error
    return state


def write_csv(path: Path, history: list[dict]):
    """A row a step."""

    def save(temporary: Path):
        with open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, list(history[0]))
            writer.writeheader()
            writer.writerows(history)

    write_whole(path, save)
