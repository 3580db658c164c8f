"""Every option of a run: one frozen dataclass, a line each with default, help and range.

What this file is not: it runs nothing. `parse(argv)` makes a Config of a command line, or raises
BadInput with the one line that says which option is wrong and what would be right. A class here is
a group in `python train.py -h`; its docstring is the group's title.

    config = parse(["--seed", "1", "--levels", "1-3"])
    config.seed, config.levels                       # 1, (1, 2, 3)
"""

import argparse
import dataclasses
import math
from dataclasses import dataclass, field
from typing import Callable

import torch

from world import BadInput, World

METHODS = (
    "score",
    "score_without_bonus",
    "score_without_stage_one",
    "score_weighted",
    "score_star_stage_two",
    "score_offline_first_attempts",
    "score_alike",
    "multi_turn_rl",
    "second_turn_rl",
    "single_turn_rl",
    "star",
    "star_plus",
    "pair_sft",
    "pair_sft_plus",
    "prompt",
)
TASKS = ("math", "gsm8k", "mbpp", "humaneval", "mbpp_r")


def numbers(text: str) -> tuple[int, ...]:
    """A list of numbers and ranges. Raises ValueError where one is missing, or a range is empty.

    >>> numbers("1-3,5")
    (1, 2, 3, 5)
    """
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        values = range(int(first), int(last if dash else first) + 1)
        if not values:
            raise ValueError(f"{part}: from the smaller to the larger")
        found += values
    return tuple(found)


def names(text: str) -> tuple[str, ...]:
    """A list of names: "algebra,geometry"."""
    return tuple(text.split(","))


def option(default, help: str, kind: Callable = str, low=None, high=None):
    """A field that becomes --name-with-dashes. `kind` makes a value of its text (bool: a switch).

    A default of None is decided by `parse` or where the option is used; the help says how.
    """
    return field(default=default, metadata={"help": help, "kind": kind, "low": low, "high": high})


# ---- the options, group by group -----------------------------------------------------------------
@dataclass(frozen=True)
class MethodOptions:
    """the method: what is done with the base model"""

    method: str = option("score", f"one of {', '.join(METHODS)}")
    stage_one_steps: int = option(100, "steps of Stage I", int, 0)
    stage_two_steps: int = option(80, "steps of Stage II", int, 0)
    train_problems: int | None = option(
        None,
        "training problems, drawn by the seed; 0: no end of them (256; with --data all)",
        int,
        0,
    )
    keep: str | None = option(
        None, "weights of a stage: best, by training reward, or last (best if problems end)"
    )
    problems: int = option(16, "problems a step", int, 1)
    samples: int = option(8, "episodes a problem: k of the leave-one-out baseline", int, 2)
    learning_rate: float = option(5e-4, "of both stages (AdamW, fresh in each)", float, 1e-9, 1)
    alpha: float = option(10.0, "weight of the bonus r2 - r1 in Stage II", float, 0, 1e4)
    beta1: float = option(0.1, "weight of the KL to the base model", float, 0, 1e4)
    beta2: float = option(0.5, "weight of turn 1's KL in Stage I", float, 0, 1e4)
    offline_share: float = option(
        1.0, "share of Stage II's problems with first attempts of the base model", float, 0, 1
    )
    eval_problems: int = option(
        4096, "held-out problems, the same for every seed; with --data a random sample", int, 1
    )
    max_new_tokens: int | None = option(
        None,
        "tokens after which an attempt is cut (the author's + 2; with --data or --init 256)",
        int,
        1,
    )


@dataclass(frozen=True)
class WorldOptions(World):
    """the world: the generated problems, and the author whose text the base model learns"""

    values: int = option(World.values, "n: f permutes 1..n", int, 4, 20)
    levels: tuple[int, ...] | None = option(
        None, "applications K, such as 1-3,5 (1-4); with --data MATH's levels (all)", numbers
    )
    author_right: float = option(
        World.author_right, "share of the author's first guesses that are right", float, 0, 1
    )
    author_right_again: float = option(
        World.author_right_again, "the same of his later fresh guesses", float, 0, 1
    )
    author_repeats: float = option(
        World.author_repeats, "share of second attempts that repeat the first", float, 0, 1
    )
    verdict: bool = option(World.verdict, "end an attempt by saying if the guess fits", bool)
    careless: float = option(
        World.careless, "share of attempts that say 'it fits' without having looked", float, 0, 1
    )


@dataclass(frozen=True)
class BaseModelOptions:
    """the small GPT, and the warm start that makes the base model"""

    layers: int = option(4, "decoder layers", int, 1)
    width: int = option(64, "width of a layer", int, 2)
    heads: int = option(4, "attention heads", int, 1)
    hidden: int = option(192, "width inside the SwiGLU", int, 1)
    warm_steps: int | None = option(
        None, "supervised steps on the author's text (400; with --init and --data 0)", int, 0
    )
    warm_batch: int = option(256, "rows a step of them", int, 1)
    warm_learning_rate: float = option(3e-3, "their peak learning rate (AdamW)", float, 1e-9, 1)


@dataclass(frozen=True)
class CheckpointOptions:
    """a downloaded checkpoint, and problems from files"""

    init: str | None = option(None, "folder of a checkpoint in Hugging Face's format")
    system: str | None = option(
        None, "system message in place of the checkpoint's default one (its own chat template's)"
    )
    data: str | None = option(
        None, "MATH, GSM8K, MBPP, HumanEval: a folder, or a JSON file (the generated world)"
    )
    task: str | None = option(
        None, f"what --data tests: {', '.join(TASKS)} (as the rows are); programs train on MBPP"
    )
    subjects: tuple[str, ...] = option(
        (), "only these of MATH's subjects, such as algebra,number_theory (all)", names
    )
    skip_bad_rows: bool = option(False, "leave out rows that cannot be used, and say why", bool)
    timeout: float = option(5.0, "seconds that a program and its tests may take", float, 1e-3, 3600)
    dtype: str | None = option(
        None, "of the weights: float32 or bfloat16 (bfloat16 with --init on a GPU, else float32)"
    )


@dataclass(frozen=True)
class LearningOptions:
    """how it learns, and on what"""

    seed: int = option(0, "of base model, training problems and sampling", int, 0)
    attempts: int = option(2, "attempts at a problem: 2 as in the paper, or 3 and more", int, 2, 10)
    temperature: float = option(1.0, "sampling temperature in training", float, 1e-3, 100)
    gradient_clip: float = option(1.0, "largest norm of a step's gradient", float, 1e-9, 1e9)
    micro_batch: int = option(128, "episodes per forward pass: memory, not gradients", int, 1)
    recompute: bool = option(False, "compute layers again backwards: less memory, slower", bool)
    device: str | None = option(None, "cuda or cpu (cuda where there is one)")
    threads: int = option(1, "CPU threads; more hardly help so small a model", int, 1)


@dataclass(frozen=True)
class FileOptions:
    """files and printing: these change no number"""

    out: str = option("out", "folder that holds a folder per run and per base model")
    replay: str | None = option(None, "failed.pt of a run that stopped: take that step again")
    log_every: int = option(10, "steps between printed lines (the CSV has every step)", int, 1)
    show_every: int = option(60, "steps between whole episodes shown as text", int, 1)
    checkpoint_every: int = option(
        20, "steps between checkpoints: what a killed run can lose", int, 1
    )


GROUPS = (
    MethodOptions,
    WorldOptions,
    BaseModelOptions,
    CheckpointOptions,
    LearningOptions,
    FileOptions,
)
BASE_GROUPS = (WorldOptions, BaseModelOptions, CheckpointOptions, LearningOptions)


@dataclass(frozen=True)
class Config(
    FileOptions, LearningOptions, CheckpointOptions, BaseModelOptions, WorldOptions, MethodOptions
):
    """Every option of a run."""

    def values_of(self, groups: tuple) -> dict:
        """The options of some groups, by name."""
        found = {}
        for group in groups:
            for option_field in dataclasses.fields(group):
                found[option_field.name] = getattr(self, option_field.name)
        return found

    def run_settings(self) -> dict:
        """All that a run's numbers depend on: two runs that agree in it are the same run."""
        return self.values_of((MethodOptions, *BASE_GROUPS))

    def base_settings(self) -> dict:
        """All that the base model depends on: runs that agree in it share one. A critique stands in
        the request, so in the text that the warm start learns."""
        return self.values_of(BASE_GROUPS) | {"critique": self.method == "prompt"}


# ---- the command line ----------------------------------------------------------------------------
def flag(name: str) -> str:
    """An option as it is typed.

    >>> flag("learning_rate")
    '--learning-rate'
    """
    return "--" + name.replace("_", "-")


def refuse(message: str):
    """BadInput with argparse's words."""
    raise BadInput(message)


def make_parser() -> argparse.ArgumentParser:
    """argparse's parser with a group for each class above."""
    parser = argparse.ArgumentParser(
        "train.py",
        usage="python train.py [--option value ...]   (-h lists them)",
        description="From nothing to a model that corrects itself.",
        allow_abbrev=False,
    )
    parser.error = refuse  # one line, like all other bad input
    for group in GROUPS:
        arguments = parser.add_argument_group(group.__doc__)
        for option_field in dataclasses.fields(group):
            add_argument(arguments, option_field)
    return parser


def add_argument(arguments, option_field: dataclasses.Field):
    """One option of the parser."""
    default = option_field.default
    kind = option_field.metadata["kind"]
    help = option_field.metadata["help"]
    if default not in (None, ()):
        help += f" ({default})"
    if kind is bool:
        how = {"action": argparse.BooleanOptionalAction}
    else:
        how = {"type": kind, "metavar": kind.__name__.upper()}
    arguments.add_argument(
        flag(option_field.name),
        dest=option_field.name,
        default=default,
        help=help.replace("%", "%%"),
        **how,
    )


def parse(argv: list[str] | None = None) -> Config:
    """The command line as a Config in which every default is decided but the device and the dtype.

    Raises BadInput for an unknown option, text that is no value, and a value that cannot be.
    """
    config = Config(**vars(make_parser().parse_args(argv)))
    check(config)
    changes = {}
    if config.levels is None:
        changes["levels"] = () if config.data else World.levels
    if config.warm_steps is None:  # with --init and --data the checkpoint is the base model
        changes["warm_steps"] = 0 if config.init and config.data else 400
    if config.train_problems is None:
        changes["train_problems"] = 0 if config.data else 256
    if config.keep is None:
        changes["keep"] = "last" if config.train_problems == 0 and not config.data else "best"
    config = dataclasses.replace(config, **changes)
    if config.max_new_tokens is None:
        config = dataclasses.replace(config, max_new_tokens=longest_attempt(config))
    return config


def longest_attempt(config: Config) -> int:
    """Tokens after which an attempt is cut, where the user says nothing."""
    if config.data or config.init:
        return 256
    # The author's: "Try 1:", K look-ups, a verdict, a box, the end. And two to spare.
    return max(config.levels) + 4 + 2


# ---- what cannot be ------------------------------------------------------------------------------
def require(holds: bool, message: str):
    """BadInput with this message unless it holds."""
    if not holds:
        raise BadInput(message)


def check(config: Config):
    """BadInput names the option that cannot be, and what would be right."""
    check_ranges(config)
    check_names(config)
    check_levels(config)
    check_combinations(config)
    check_unread(config)


def check_ranges(config: Config):
    """Every number within its bounds; NaN is within none."""
    for option_field in dataclasses.fields(Config):
        value = getattr(config, option_field.name)
        low = option_field.metadata["low"]
        high = option_field.metadata["high"]
        if value is None or low is None:
            continue
        highest = math.inf if high is None else high
        require(
            low <= value <= highest,
            f"{flag(option_field.name)} {value} is not in {low} .. {highest}",
        )


def check_names(config: Config):
    """Every name one of those that there are."""
    methods = ", ".join(METHODS)
    tasks = ", ".join(TASKS)
    method = config.method
    task = config.task
    dtype = config.dtype
    device = config.device
    require(method in METHODS, f"--method {method!r} is unknown; there are: {methods}")
    require(config.keep in (None, "best", "last"), f"--keep {config.keep!r} is not best or last")
    require(task in (None, *TASKS), f"--task {task!r} is unknown; there are: {tasks}")
    require(dtype in (None, "float32", "bfloat16"), f"--dtype {dtype!r} is not float32 or bfloat16")
    is_cuda = device is not None and device.startswith("cuda") and torch.cuda.is_available()
    require(
        device in (None, "cpu") or is_cuda,
        f"--device {device!r} is not here; leave it out or say cpu",
    )


def check_levels(config: Config):
    """Levels are different numbers from 1; in the world, none at which f is undone."""
    levels = config.levels or ()
    different = len(set(levels)) == len(levels)
    require(min(levels, default=1) >= 1 and different, "--levels: different numbers from 1")
    if config.data:
        return
    identity = math.lcm(*range(1, config.values + 1))
    for level in levels:
        require(
            level % identity != 0,
            f"--levels must not hold a multiple of {identity}: so often applied, every permutation"
            " is the identity",
        )


def check_combinations(config: Config):
    """What does not go together."""
    require(
        config.data is not None or config.method != "prompt",
        "--method prompt needs --data: the world has no words for a critique",
    )
    require(
        config.warm_steps != 0 or config.init is not None,
        "--warm-steps 0 needs --init: without training the small GPT is no base model",
    )
    require(
        config.width % (2 * config.heads) == 0,
        f"--width {config.width} must be a multiple of twice --heads {config.heads}",
    )
    limit = config.train_problems or config.problems
    require(
        limit >= config.problems,
        f"--train-problems {limit} is less than a step's --problems {config.problems}",
    )
    trains = config.stage_one_steps + config.stage_two_steps > 0 and config.method != "prompt"
    require(
        trains or not config.train_problems,
        "--train-problems is not read without a step of training",
    )
    for_more = ("score", "score_without_bonus", "score_without_stage_one", "multi_turn_rl")
    require(
        config.attempts == 2 or config.method in for_more,
        f"--attempts {config.attempts} is for {', '.join(for_more)}; {config.method} has two",
    )
    require(
        config.attempts == 2 or config.task != "mbpp_r",
        "--task mbpp_r has two attempts: the first is given",
    )
    require(
        config.verdict or config.careless == 0,
        "--careless is about verdicts; with --no-verdict there are none",
    )


def check_unread(config: Config):
    """An option that nothing would read is an error, not a silence."""
    if config.data:
        world = [name for name in vars(World()) if name != "levels"]
        require_default(config, world, "is not read with --data")
    else:
        rows = ["task", "subjects", "skip_bad_rows", "timeout"]
        require_default(config, rows, "is not read without --data")
    if config.init:
        shape = ["layers", "width", "heads", "hidden"]
        require_default(config, shape, "is not read with --init")
    else:
        require_default(config, ["system"], "is not read without --init")


def require_default(config: Config, option_names: list[str], reason: str):
    """BadInput if one of these options is not as it would be unsaid."""
    for name in option_names:
        require(getattr(config, name) == getattr(Config, name), f"{flag(name)} {reason}")


def check_read_by_method(config: Config, stages_of: Callable[[Config], tuple]):
    """BadInput if an option of the method is said that would change none of its stages."""
    for name in ("stage_one_steps", "stage_two_steps", "alpha", "beta1", "beta2", "offline_share"):
        unsaid = dataclasses.replace(config, **{name: getattr(Config, name)})
        # subtle: as text, since two partial functions are never equal, though they say the same.
        changes = str(stages_of(config)) != str(stages_of(unsaid))
        said = getattr(config, name) != getattr(Config, name)
        require(changes or not said, f"--method {config.method} does not read {flag(name)}")
