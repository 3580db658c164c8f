"""The classroom: take a function's body out, put it back, make a student's edition, grade it.

    python tests/exercise.py list                        # the cards of EXERCISES.md
    python tests/exercise.py blank leave_one_out         # here, in place; `restore` brings it back
    python tests/exercise.py blank all ../students       # an edition of its own, without solutions
    python tests/exercise.py grade ../students           # points a card, and Gradescope's JSON
    python tests/exercise.py plant 3                     # one of eight silent bugs, not said which

What this file is not: it knows no solution (they are the repository) and no text (EXERCISES.md).
A card is graded by tests of *this* repository on the student's source files, in a process and a
copy of its own: a student's edited tests do not count, and an endless loop fails one card alone.
"""

import argparse
import ast
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = ("score.py", "rollout.py", "model.py", "world.py", "rewards.py")  # what students write
NOT_IN_AN_EDITION = ("mutations.jsonl", "test_mutations.py", "exercise.py", "test_exercise.py")
SECONDS = 120  # for the tests of one card


class Card(NamedTuple):
    """One exercise."""

    file: str
    function: str  # or Class.method
    points: int
    tests: tuple[str, ...]  # file::name, that grade it


def of(file: str, *names: str) -> tuple[str, ...]:
    """Tests of one file by their names."""
    return tuple(f"tests/{file}::{name}" for name in names)


CARDS = (
    Card(
        "score.py",
        "stage_one_rewards",
        1,
        of(
            "test_score.py",
            "test_stage_one_by_hand",
            "test_in_stage_one_turn_one_is_free_of_both_rewards",
        )
        + of("test_attempts.py", "test_rewards_of_three_attempts_by_hand"),
    ),
    Card(
        "score.py",
        "stage_two_rewards",
        2,
        of(
            "test_score.py",
            "test_stage_two_by_hand",
            "test_turn_one_is_free_of_r2_and_alpha",
            "test_the_bonus_is_one_plus_alpha_times_r2_in_expectation",
        ),
    ),
    Card("score.py", "leave_one_out", 2, of("test_score.py", "test_leave_one_out_against_a_loop")),
    Card(
        "score.py",
        "metrics",
        1,
        of("test_metrics.py", "test_five_problems_counted_by_eye", "test_metrics_against_a_loop"),
    ),
    Card(
        "score.py",
        "log_probs_and_kl",
        3,
        of(
            "test_score.py",
            "test_kl_is_that_of_the_policy_to_the_reference",
            "test_log_probs_are_those_of_the_tempered_policy",
            "test_the_reference_has_the_policy_s_temperature",
        ),
    ),
    Card(
        "score.py",
        "kl_of_later_tokens",
        2,
        of(
            "test_score.py",
            "test_the_gradient_of_the_kl_by_hand",
            "test_expected_gradient_is_the_gradient_of_the_objective",
        ),
    ),
    Card(
        "score.py",
        "policy_loss",
        4,
        of(
            "test_score.py",
            "test_loss_against_a_loop",
            "test_the_loss_is_averaged_over_episodes_and_not_over_tokens",
            "test_micro_batches_add_up_to_the_batch",
        ),
    ),
    Card("rollout.py", "pad", 1, of("test_rollout.py", "test_pad_keeps_every_row_and_its_length")),
    Card("rollout.py", "Episodes.append", 3, of("test_rollout.py", "test_append_against_lists")),
    Card(
        "rollout.py",
        "sample",
        2,
        of(
            "test_rollout.py",
            "test_sample_draws_every_word_as_often_as_it_is_likely",
            "test_sample_says_how_likely_its_word_was_at_the_temperature",
            "test_sample_at_temperature_0_is_the_likeliest_word",
        ),
    ),
    Card(
        "rollout.py",
        "ask_again",
        2,
        of(
            "test_rollout.py",
            "test_ask_again_against_lists",
            "test_the_request_is_the_same_after_a_right_and_a_wrong_attempt",
        ),
    ),
    Card(
        "rollout.py",
        "generate",
        4,
        of(
            "test_rollout.py",
            "test_episodes_written_out_by_hand",
            "test_generate_goes_on_where_it_stopped",
            "test_finished_rows_are_left_behind",
        ),
    ),
    Card(
        "rollout.py",
        "two_turns",
        4,
        of(
            "test_rollout.py",
            "test_episodes_written_out_by_hand",
            "test_each_sampled_row_is_prompt_attempt_request_attempt",
            "test_given_first_attempts_by_hand",
        ),
    ),
    Card(
        "model.py",
        "rotate",
        3,
        of("test_model.py", "test_logits_equal_those_of_a_decoder_written_in_loops"),
    ),
    Card(
        "model.py",
        "Cache.mask",
        3,
        of("test_model.py", "test_a_few_tokens_at_a_time_equal_the_full_forward"),
    ),
    Card(
        "world.py",
        "write_attempts",
        3,
        of(
            "test_world.py",
            "test_the_author_does_not_correct_himself",
            "test_the_extreme_authors",
            "test_a_third_attempt_repeats_the_second",
        )
        + of("test_limited.py", "test_the_author_s_later_guesses_have_a_share_of_their_own"),
    ),
    Card(
        "world.py",
        "is_truthful",
        2,
        of(
            "test_world.py",
            "test_is_truthful_against_every_guess_and_verdict",
            "test_is_truthful_is_none_where_no_guess_or_no_verdict_is_stated",
        ),
    ),
    Card(
        "rewards.py",
        "extract_answer",
        2,
        of(
            "test_checker.py",
            "test_extract_answer",
            "test_the_last_box_counts",
            "test_braces_inside_a_box_are_counted",
        ),
    ),
)
# Silent bugs: a run goes on and learns something else. Which is which is for the student to find.
PLANTS = (
    ("score.py", "bonus = alpha * (later - before)", "bonus = 0 * alpha * (later - before)"),
    (
        "score.py",
        "(policy.exp() * (policy - reference))",
        "(reference.exp() * (reference - policy))",
    ),
    (
        "score.py",
        "baseline = others / (group_size - 1)",
        "baseline = groups.mean(dim=1, keepdim=True)",
    ),
    ("score.py", "advantages[:, i, None] - beta", "advantages[:, -1, None] - beta"),
    (
        "rollout.py",
        "lengths[speakers] += 1\n",
        "lengths[speakers] += (token[speaks] != end).long()\n",
    ),
    ("score.py", "paid[:, -1] = r[:, -1]\n", "paid[:, -1] = 1 - r[:, -1]\n"),
    ("train.py", "copy.deepcopy(policy).requires_grad_(False)  # the base", "policy  # the base"),
    (
        "train.py",
        "play_all(config, policy, task, test, 0.0,",
        "play_all(config, policy, task, test, 1.0,",
    ),
)


class Refused(Exception):
    """What cannot be, in one line."""


# ---- taking bodies out ---------------------------------------------------------------------------
def find(card: Card, text: str) -> ast.FunctionDef:
    """The function of a card in its file's text."""
    body = ast.parse(text).body
    for name in card.function.split("."):
        [node] = [node for node in body if getattr(node, "name", None) == name]
        body = node.body
    return node


def without_body(card: Card, text: str) -> str:
    """The file's text with this function's body taken out: signature, docstring and example stay.

    >>> card = Card("a.py", "double", 1, ())
    >>> print(without_body(card, 'def double(x):\\n    "Twice x."\\n    return 2 * x\\n'))
    def double(x):
        "Twice x."
        raise NotImplementedError("exercise: double")
    <BLANKLINE>
    """
    function = find(card, text)
    first = function.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    begin = first.end_lineno if has_docstring else first.lineno - 1
    lines = text.splitlines()
    indent = " " * first.col_offset
    lines[begin : function.end_lineno] = [
        f'{indent}raise NotImplementedError("exercise: {card.function}")'
    ]
    return "\n".join(lines) + "\n"


def card_of(name: str) -> Card:
    """The card of a function. Refused, with the names that there are, if there is none."""
    for card in CARDS:
        if name == card.function:
            return card
    there = ", ".join(card.function for card in CARDS)
    raise Refused(f"{name} is no exercise; there are: {there}")


def git(*arguments: str, at: Path) -> str:
    """What git says. Refused if it fails."""
    ended = subprocess.run(["git", *arguments], cwd=at, capture_output=True, text=True)
    if ended.returncode != 0:
        raise Refused(f"git {arguments[0]} in {at}: {ended.stderr.strip().splitlines()[-1]}")
    return ended.stdout


def refuse_changes(at: Path, files: tuple[str, ...]):
    """Refused if one of these files has changes that a blank or a restore would lose."""
    changed = git("status", "--porcelain", "--", *files, at=at).split("\n")
    named = [line[3:] for line in changed if line]
    if named:
        raise Refused(f"{', '.join(named)}: commit or undo your changes first")


def blank(names: list[str], at: Path):
    """Take the bodies of these functions out, in place."""
    cards = [card_of(name) for name in names]
    refuse_changes(at, tuple(card.file for card in cards))
    for card in cards:
        path = at / card.file
        path.write_text(without_body(card, path.read_text()))
        print(f"{card.file}: {card.function} is yours to write; `restore` brings it back")


def restore(at: Path):
    """Bring back every file that students write, as it was committed."""
    git("checkout", "--", *SOURCES, at=at)
    print(f"{', '.join(SOURCES)}: as committed")


def make_edition(folder: Path):
    """The student's edition: every card's body taken out, in a repository whose history does not
    hold the solutions."""
    if folder.exists() and any(folder.iterdir()):
        raise Refused(f"{folder} is there already and not empty: name another")
    refuse_changes(REPOSITORY, SOURCES)
    for name in git("ls-files", at=REPOSITORY).splitlines():
        if Path(name).name in NOT_IN_AN_EDITION or name.startswith((".ci", "results/")):
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, folder / name)
    for card in CARDS:
        path = folder / card.file
        path.write_text(without_body(card, path.read_text()))
    git("init", "-q", at=folder)
    git("add", "-A", at=folder)
    author = ("-c", "user.name=teacher", "-c", "user.email=teacher@example.org")
    git(*author, "commit", "-q", "-m", "Exercises", at=folder)
    print(f"{folder}: {len(CARDS)} exercises, {sum(card.points for card in CARDS)} points")


# ---- grading -------------------------------------------------------------------------------------
def graded(card: Card, student: Path) -> tuple[bool, str]:
    """Whether the card's tests pass on the student's function, and what they said.

    Only this card's file is the student's, with the other cards' bodies as they are here: a card
    does not fail for another one.
    """
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "repository"
        ignored = shutil.ignore_patterns(".git", "out", "results", "__pycache__", ".*_cache")
        shutil.copytree(REPOSITORY, copy, ignore=ignored)
        try:
            text = with_function_of(card, (student / card.file).read_text())
        except (OSError, SyntaxError, ValueError) as error:
            return False, f"{card.file}: {error}"
        (copy / card.file).write_text(text)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=short", *card.tests]
        try:
            ended = subprocess.run(
                command, cwd=copy, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return False, f"not done after {SECONDS} seconds: an endless loop?"
    return ended.returncode == 0, ended.stdout[-3000:]


def with_function_of(card: Card, theirs: str) -> str:
    """Our file with the student's version of the card's function in the place of ours."""
    ours = (REPOSITORY / card.file).read_text()
    mine = find(card, ours)
    other = find(card, theirs)
    lines = ours.splitlines()
    lines[mine.lineno - 1 : mine.end_lineno] = theirs.splitlines()[
        other.lineno - 1 : other.end_lineno
    ]
    return "\n".join(lines) + "\n"


def grade(student: Path):
    """Points a card as a table, and results.json for Gradescope's autograder in the folder."""
    missing = [name for name in SOURCES if not (student / name).exists()]
    if missing:
        raise Refused(f"{student} is no copy of this repository: {', '.join(missing)} is not there")
    results = []
    for number, card in enumerate(CARDS, start=1):
        passed, output = graded(card, student)
        points = card.points if passed else 0
        name = f"{number}. {card.function}"
        print(f"{name:28} {points} of {card.points}", flush=True)
        row = {"name": name, "score": points, "max_score": card.points, "output": output}
        results.append(row)
    total = sum(row["score"] for row in results)
    print(f"{'in all':28} {total} of {sum(card.points for card in CARDS)}")
    content = {"score": total, "tests": results}
    (student / "results.json").write_text(json.dumps(content, indent=1))


# ---- silent bugs ---------------------------------------------------------------------------------
def plant(number: int, at: Path):
    """Plant a silent bug without saying which; `git diff` would tell, `restore` does not."""
    if not 1 <= number <= len(PLANTS):
        raise Refused(f"plant {number}: there are 1 to {len(PLANTS)}")
    file, old, new = PLANTS[number - 1]
    refuse_changes(at, (*SOURCES, "train.py"))
    path = at / file
    text = path.read_text()
    path.write_text(text.replace(old, new))
    print(f"bug {number} is planted: run `python train.py`, read its curves, name the line")
    print("`git checkout -- .` takes it out")


def do(asked: argparse.Namespace):
    """What the command line asks for."""
    names = asked.names
    if asked.do == "list":
        for number, card in enumerate(CARDS, start=1):
            print(f"{number:2}. {card.file}: {card.function} ({card.points} points)")
    elif asked.do == "blank" and names[:1] == ["all"]:
        if len(names) != 2:
            raise Refused("blank all FOLDER: where shall the edition lie?")
        make_edition(Path(names[1]))
    elif asked.do == "restore":
        restore(REPOSITORY)
    elif not names:
        raise Refused(f"{asked.do} what? see --help")
    elif asked.do == "blank":
        blank(names, REPOSITORY)
    elif asked.do == "grade":
        grade(Path(names[0]).resolve())
    elif not names[0].isdigit():
        raise Refused(f"plant {names[0]}: a number from 1 to {len(PLANTS)}")
    else:
        plant(int(names[0]), REPOSITORY)


def main(argv: list[str] | None = None):
    """Read the command line. What cannot be is one line and status 2."""
    parser = argparse.ArgumentParser("exercise.py", description=__doc__.split("\n")[0])
    parser.add_argument("do", choices=("list", "blank", "restore", "grade", "plant"))
    parser.add_argument("names", nargs="*", help="functions, `all FOLDER`, a folder, or a number")
    try:
        do(parser.parse_args(argv))
    except Refused as error:
        print(f"exercise.py: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
