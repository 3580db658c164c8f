"""One step against an oracle: the weights after an update, computed a second time in plain loops.

For every stage of every method a tiny model plays a dozen episodes in a language of eight words,
and train.train_step moves its weights. Then the same is computed here from the paper alone, one
episode after the other and one token after the other, in float64. Nothing of the project is used
for it but the model's forward pass. Numbers among the options that could stand in each other's
place differ, and three different models play, learn and are held to: whatever is exchanged, left
out or 1 % too large shows in the weights.

From the inside out: the tiny task, what the paper says of each method (PAPER), the oracle, one
step, who says what in the episodes, a whole run.
"""

import copy
import math
import random
import re
from collections import Counter
from typing import Callable, NamedTuple

import pytest
import tiktoken
import torch

import score
import train
import world
from extras import methods, options
from model import GPT, GPTConfig

# ---- a tiny task ---------------------------------------------------------------------------------
WORDS = ["Say ", "one ", "two ", "Again: ", "so ", "\\boxed{1}", "\\boxed{2}", world.END]
END = WORDS.index(world.END)
PROBLEMS = [  # question, answer, what its author writes
    ("one ", "1", "so \\boxed{2}"),
    ("one one ", "1", "\\boxed{1}"),
    ("two ", "2", "\\boxed{1}so "),
    ("so two ", "2", "\\boxed{2}\\boxed{2}"),
]

OPTIONS = """
    --stage-one-steps 40 --stage-two-steps 70 --warm-steps 50 --problems 3 --samples 4
    --warm-batch 7 --learning-rate 0.02 --warm-learning-rate 0.05 --alpha 5 --beta1 0.3 --beta2 0.7
    --offline-share 0.6 --max-new-tokens 4 --temperature 0.8 --gradient-clip 1000 --micro-batch 5
    --values 4 --levels 1 --eval-problems 4 --layers 1 --width 8 --heads 2 --hidden 8 --seed 3
    --device cpu
"""
SAMPLES = 4
TEMPERATURE = 0.8


def config_of(method: str, more: str = "") -> options.Config:
    """The options above and some that take their place."""
    return options.parse(f"--method {method} {OPTIONS} {more}".split())


def tiny_task() -> world.Task:
    """Questions of one or two words; an attempt is right or wrong by its last box."""
    tokenizer = tiktoken.Encoding(
        "tiny",
        pat_str="|".join(re.escape(word) for word in WORDS[:END]),
        mergeable_ranks={word.encode(): id for id, word in enumerate(WORDS[:END])},
        special_tokens={world.END: END},
    )
    asked = [world.Problem(q, answer, solution=text) for q, answer, text in PROBLEMS]
    held_out = [world.Problem("so so ", "1"), world.Problem("two one ", "2")]
    return world.Task(tokenizer, END, "Say {question}", "Again: so ", asked, held_out)


def tiny_model(seed: int, vocab_size: int = len(WORDS)) -> GPT:
    """Random weights, which differ from those of another seed as two models can."""
    torch.manual_seed(seed)
    shape = GPTConfig(vocab_size, layers=1, width=8, heads=2, kv_heads=2, head_width=4, hidden=8)
    return GPT(shape)


# Of these seeds all four kinds of episodes are to be had (test_the_episodes_are_of_every_kind).
POLICY = 33
PLAYER = 27
REFERENCE = 41


# ---- what the paper says -------------------------------------------------------------------------
def second(r1: float, r2: float) -> tuple[float, float]:
    return 0.0, r2


def both(r1: float, r2: float) -> tuple[float, float]:
    return r1, r2


def both_and_the_change(r1: float, r2: float) -> tuple[float, float]:
    return r1, r2 + 5.0 * (r2 - r1)  # alpha = 5


def second_six_times(r1: float, r2: float) -> tuple[float, float]:
    return r1, 6.0 * r2  # 1 + alpha


def first(r1: float, r2: float) -> tuple[float, float]:
    return r1, 0.0


def second_if_mended(r1: float, r2: float) -> tuple[float, float]:
    return 0.0, 1.0 if r1 == 0 and r2 == 1 else 0.0


def whatever(r1: float, r2: float) -> tuple[float, float]:
    return 1.0, 1.0


class Row(NamedTuple):
    """What the paper (or the README, for what is ours) says of one stage of a method."""

    name: str
    steps: int
    paid: Callable[[float, float], tuple[float, float]]  # r1, r2 -> what each attempt is paid
    betas: tuple[float, float]  # of turn 1 and turn 2
    baseline: str = "others"  # "others", "alike" or, where log-likelihoods are weighed, "none"
    attempts: str = "own"  # "own", "given" (some first ones by the reference) or "pairs"
    rounds: int = 0  # in which a copy of the policy plays
    learning_rate: float = 0.02
    weight_decay: float = 0.0


def fine_tuning(name: str, steps: int, paid: Callable, rounds: int, attempts="own") -> Row:
    """Log-likelihood of chosen attempts: no baseline, no KL."""
    return Row(name, steps, paid, (0.0, 0.0), "none", attempts, rounds)


WARM_START = Row(
    "warm start", 50, whatever, (0.0, 0.0), "none", learning_rate=0.05, weight_decay=0.01
)
STAGE_ONE = Row("Stage I", 40, second, (0.7, 0.3))  # Eq. 3
STAGE_TWO = Row("Stage II", 70, both_and_the_change, (0.3, 0.3))  # Eq. 4
PAPER = {
    "score": (STAGE_ONE, STAGE_TWO),
    "score_without_bonus": (STAGE_ONE, Row("Stage II", 70, both, (0.3, 0.3))),
    "score_without_stage_one": (Row("Stage II", 110, both_and_the_change, (0.3, 0.3)),),
    "score_weighted": (STAGE_ONE, Row("Stage II", 70, second_six_times, (0.3, 0.3))),
    "score_star_stage_two": (STAGE_ONE, fine_tuning("STaR", 70, second_if_mended, rounds=3)),
    "score_offline_first_attempts": (
        STAGE_ONE,
        Row("Stage II", 70, both_and_the_change, (0.3, 0.3), attempts="given"),
    ),
    "score_alike": (
        Row("Stage I", 40, second, (0.7, 0.3), baseline="alike"),
        Row("Stage II", 70, both_and_the_change, (0.3, 0.3), baseline="alike"),
    ),
    "multi_turn_rl": (Row("RL", 110, both, (0.3, 0.3)),),  # Eq. 1
    "second_turn_rl": (Row("RL", 110, second, (0.0, 0.3)),),  # Eq. 1 on the pairs (x2, y2) alone
    "single_turn_rl": (Row("RL", 110, first, (0.3, 0.0)),),  # Eq. 2 on attempt 1
    "star": (fine_tuning("STaR", 110, second_if_mended, rounds=3),),
    "star_plus": (fine_tuning("STaR", 110, second, rounds=3),),
    "pair_sft": (fine_tuning("Pair-SFT", 110, second_if_mended, 1, "pairs"),),
    "pair_sft_plus": (fine_tuning("Pair-SFT", 110, second, 1, "pairs"),),
    "prompt": (),
}


class Case(NamedTuple):
    """One stage of one method; number -1 is the warm start that all have in common."""

    method: str
    number: int

    def row(self) -> Row:
        """What the paper says of it."""
        return WARM_START if self.number < 0 else PAPER[self.method][self.number]

    def stage(self, config: options.Config) -> score.Stage:
        """What the project makes of it."""
        return train.warm_start(config) if self.number < 0 else train.stages_of(config)[self.number]

    def task(self) -> world.Task:
        """The base model learns the text of the world's author; all others play the tiny task."""
        if self.number < 0:
            return world.world_task(world.World(values=4, levels=(1,)), held_out=4)
        return tiny_task()


def stages() -> list:
    """A case for each stage of each method."""
    found = []
    for method, rows in PAPER.items():
        for number, row in enumerate(rows):
            found.append(pytest.param(Case(method, number), id=f"{method}, {row.name}"))
    return found


WARM = [pytest.param(Case("score", -1), id="warm start")]


# ---- the oracle: episodes, and what they are worth -----------------------------------------------
class Said(NamedTuple):
    """One episode as lists."""

    ids: list[int]
    turns: list[int]
    log_probs: list[float]
    ended: list[bool]

    def attempt(self, turn: int) -> list[int]:
        """The ids of one attempt, whoever made it."""
        return [id for id, by in zip(self.ids, self.turns) if abs(by) == turn]


def as_lists(episodes) -> list[Said]:
    """rollout.Episodes, row by row."""
    found = []
    for b, length in enumerate(episodes.lengths.tolist()):
        ids = episodes.tokens[b, :length].tolist()
        turns = episodes.turn[b, :length].tolist()
        log_probs = episodes.log_probs[b, :length].tolist()
        found.append(Said(ids, turns, log_probs, episodes.ended[b].bool().tolist()))
    return found


def is_right(task: world.Task, problem: world.Problem, ids: list[int]) -> float:
    """An attempt is right if its last box holds the answer."""
    boxes = re.findall(r"\\boxed\{(\d)\}", task.tokenizer.decode(ids))
    return 1.0 if boxes and boxes[-1] == problem.answer else 0.0


def correctness(task: world.Task, problems: list, said: list[Said]) -> list[tuple[float, float]]:
    """(r1, r2) of each episode."""
    found = []
    for problem, episode in zip(problems, said, strict=True):
        r1 = is_right(task, problem, episode.attempt(1))
        r2 = is_right(task, problem, episode.attempt(2))
        found.append((r1, r2))
    return found


def group_of(b: int, samples: int = SAMPLES) -> range:
    """The episodes of the problem of episode b."""
    start = b // samples * samples
    return range(start, start + samples)


def advantages_by_hand(row: Row, r: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """What each attempt is paid, minus the mean of what those it is compared with are paid."""
    paid = [row.paid(r1, r2) for r1, r2 in r]
    if row.baseline == "none":
        return paid
    found = []
    for b in range(len(r)):
        others = [k for k in group_of(b) if k != b]
        compared = others
        if row.baseline == "alike":
            compared = [k for k in others if r[k][0] == r[b][0]] or others
        mean1 = sum(paid[k][0] for k in others) / len(others)
        mean2 = sum(paid[k][1] for k in compared) / len(compared)
        found.append((paid[b][0] - mean1, paid[b][1] - mean2))
    return found


# ---- the oracle: the gradient --------------------------------------------------------------------
def distributions(model: GPT, ids: list[int]) -> list:
    """pi(. | ids before t) for each t, at the temperature of sampling; for t = 0 there is none."""
    logits = model(torch.tensor([ids]))[0] / TEMPERATURE
    return [None, *logits.softmax(dim=-1)]


def objective_of_episode(
    said: Said, row: Row, advantages: tuple, policy: GPT, reference: GPT | None
):
    """Sum over turns of A log pi(y) - beta KL, with the KL's whole gradient: KL = E[sum of KL_s],
    and each KL_s stands at a prefix whose tokens t < s were sampled, hence log pi_t times KL_s."""
    pi = distributions(policy, said.ids)
    ref = pi if reference is None else distributions(reference, said.ids)
    objective = torch.zeros((), dtype=torch.float64)
    for turn, advantage, beta in zip((1, 2), advantages, row.betas):
        before = torch.zeros((), dtype=torch.float64)  # log pi of this turn's tokens before t
        for t, by in enumerate(said.turns):
            if by != turn:
                continue
            kl = (pi[t] * (pi[t].log() - ref[t].detach().log())).sum()
            log_prob = pi[t][said.ids[t]].log()
            objective = objective + advantage * log_prob - beta * kl - beta * kl.detach() * before
            before = before + log_prob
    return objective


def gradient_by_hand(
    row: Row, said: list[Said], r: list, policy: GPT, reference: GPT | None
) -> list[torch.Tensor]:
    """Of minus the mean over all episodes of the objective."""
    advantages = advantages_by_hand(row, r)
    total = torch.zeros((), dtype=torch.float64)
    for episode, pair in zip(said, advantages, strict=True):
        total = total + objective_of_episode(episode, row, pair, policy, reference)
    return list(torch.autograd.grad(-total / len(said), list(policy.parameters())))


# ---- the oracle: the update ----------------------------------------------------------------------
def rate_by_hand(peak: float, steps: int, step: int) -> float:
    """Up over the first 5 % of the steps, level, and down to 0 over the last 40 %."""
    if step + 1 < 0.05 * steps:
        return peak * (step + 1) / (0.05 * steps)
    if step > 0.6 * steps:
        return peak * (1 - (step - 0.6 * steps) / (0.4 * steps))
    return peak


def norm_of(gradient: list[torch.Tensor]) -> float:
    return math.sqrt(sum((part.detach() ** 2).sum().item() for part in gradient))


def clipped(gradient: list[torch.Tensor], largest: float) -> list[torch.Tensor]:
    """The whole gradient, no longer than `largest`."""
    factor = min(1.0, largest / max(norm_of(gradient), 1e-12))
    return [part * factor for part in gradient]


class Adam:
    """AdamW (arXiv 1711.05101, algorithm 2) with 0.9 and 0.99: running means of the gradient and of
    its square for each weight, both zero at the start of a stage."""

    def __init__(self, model: GPT, decay: float, epsilon: float):
        self.weights = list(model.parameters())
        self.means = [torch.zeros_like(weight.detach()) for weight in self.weights]
        self.squares = [torch.zeros_like(weight.detach()) for weight in self.weights]
        self.done = 0
        self.decay = decay
        self.epsilon = epsilon

    def step(self, gradient: list[torch.Tensor], rate: float):
        """Move the weights, in place."""
        self.done += 1
        for k, weight in enumerate(self.weights):
            self.means[k] = 0.9 * self.means[k] + 0.1 * gradient[k]
            self.squares[k] = 0.99 * self.squares[k] + 0.01 * gradient[k] ** 2
            mean = self.means[k] / (1 - 0.9**self.done)
            square = self.squares[k] / (1 - 0.99**self.done)
            weight.data -= rate * self.decay * weight.data
            weight.data -= rate * mean / (square.sqrt() + self.epsilon)


# ---- one step ------------------------------------------------------------------------------------
# So large that a step depends on how large the gradient is, and not on its sign alone.
EPSILON = 0.1


class Actors(NamedTuple):
    """Who takes part in a step: three different models, or fewer."""

    policy: GPT
    player: GPT
    reference: GPT | None


def actors_of(case: Case, task: world.Task) -> Actors:
    size = task.tokenizer.n_vocab
    policy = tiny_model(POLICY, size)
    player = tiny_model(PLAYER, size) if case.row().rounds else policy
    reference = None if case.number < 0 else tiny_model(REFERENCE, size)
    return Actors(policy, player, reference)


def in_float64(model: GPT | None) -> GPT | None:
    return None if model is None else copy.deepcopy(model).double()


def note_collected(patch: pytest.MonkeyPatch) -> list:
    """(problems, episodes) of every step from now on, as train.collect gives them to the loop."""
    seen = []
    collect = train.collect

    def noted(*arguments):
        problems, episodes = collect(*arguments)
        seen.append((list(problems), copy.deepcopy(episodes)))
        return problems, episodes

    patch.setattr(train, "collect", noted)
    patch.setattr(train, "SLICE", 3 * len(WORDS))  # the head sees three positions at a time
    return seen


@pytest.fixture
def collected(monkeypatch) -> list:
    return note_collected(monkeypatch)


def adamw(policy: GPT, decay: float) -> torch.optim.Optimizer:
    """As train_stage has it, but for EPSILON."""
    held = train.masters(policy).values()
    return torch.optim.AdamW(held, betas=(0.9, 0.99), eps=EPSILON, weight_decay=decay)


def apart(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """The norm of the difference as a share of the norm of what is expected."""
    differences = [x - y for x, y in zip(found, expected, strict=True)]
    return norm_of(differences) / norm_of(expected)


def moved(before: GPT, after: GPT) -> list[torch.Tensor]:
    """The way that each weight has gone."""
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return [now.detach().double() - was.detach().double() for was, now in pairs]


def check_steps(case: Case, config: options.Config, steps: list[int], collected: list) -> list:
    """Make some steps of a stage, each compared with the oracle's. Returns the gradients' norms."""
    row = case.row()
    stage = case.stage(config)
    task = case.task()
    actors = actors_of(case, task)
    start = in_float64(actors.policy)
    policy = in_float64(actors.policy)
    reference = in_float64(actors.reference)
    optimizer = adamw(actors.policy, stage.weight_decay)
    oracle = Adam(policy, row.weight_decay, EPSILON)
    norms = []
    for step in steps:
        train.train_step(config, stage, step, *actors, optimizer, task, Counter())
        problems, episodes = collected[-1]
        said = as_lists(episodes)
        r = correctness(task, problems, said)
        gradient = gradient_by_hand(row, said, r, policy, reference)
        norms.append(norm_of(gradient))
        rate = rate_by_hand(row.learning_rate, row.steps, step)
        oracle.step(clipped(gradient, config.gradient_clip), rate)
        assert apart(moved(start, actors.policy), moved(start, policy)) < 1e-4
    return norms


@pytest.mark.parametrize("case", stages() + WARM)
def test_weights_after_one_step_and_after_two(case, collected):
    """Catches a reward, a beta, an alpha, a baseline, a mask, a reference, a temperature, a
    denominator, a learning rate or a sign that is not the paper's on its way to the weights."""
    config = config_of(case.method)
    norms = check_steps(case, config, [0, int(0.85 * case.row().steps)], collected)
    assert min(norms) > 0.1  # something was there to be compared


@pytest.mark.parametrize("clip, bites", [(2.0, True), (500.0, False)])
def test_a_long_gradient_is_shortened_and_a_short_one_is_not(clip, bites, collected):
    """Catches a clip that is not read, is taken of each weight or each micro-batch, or makes every
    gradient as long as the clip."""
    config = config_of("score", f"--gradient-clip {clip}")
    norms = check_steps(Case("score", 1), config, [3, 4], collected)
    for norm in norms:
        assert (norm > clip) == bites


def test_the_episodes_are_of_every_kind(collected):
    """Catches a comparison of nothing: all four fates, cut and ended attempts, groups in which some
    are right and some wrong, must be among the episodes of the steps above."""
    task = tiny_task()
    fates = Counter()
    ends = Counter()
    mixed = 0
    for number in (0, 1):
        case = Case("score", number)
        check_steps(case, config_of("score"), [0, int(0.85 * case.row().steps)], collected)
    for problems, episodes in collected:
        said = as_lists(episodes)
        r = correctness(task, problems, said)
        fates.update(r)
        ends.update(tuple(episode.ended) for episode in said)
        for start in range(0, len(r), SAMPLES):
            firsts = [r[b][0] for b in group_of(start)]
            if min(firsts) < max(firsts):
                mixed += 1
    for fate in ((1.0, 1.0), (0.0, 1.0), (0.0, 0.0), (1.0, 0.0)):
        assert fates[fate] >= 3
    assert len(ends) >= 3
    assert mixed >= 4


def test_stages_are_the_paper_s():
    """Catches a stage too many or too few, with another name, length, size or number of rounds."""
    assert set(PAPER) == set(options.METHODS)
    for method, rows in PAPER.items():
        config = config_of("score")
        found = methods.table(config)[method]
        assert [stage.name for stage in found] == [row.name for row in rows]
        for stage, row in zip(found, rows):
            assert (stage.steps, stage.rounds) == (row.steps, row.rounds), method
            assert (stage.problems, stage.samples) == (3, SAMPLES)
    warm = train.warm_start(config)
    assert (warm.name, warm.steps, warm.problems, warm.samples) == ("warm start", 50, 7, 1)


def test_learning_rate_of_every_step_of_every_stage():
    """Catches a schedule of another stage's length or peak."""
    for parameter in stages() + WARM:
        case = parameter.values[0]
        row = case.row()
        stage = case.stage(config_of(case.method))
        for step in range(row.steps):
            expected = rate_by_hand(row.learning_rate, row.steps, step)
            assert train.learning_rate(stage, step) == pytest.approx(expected, rel=1e-9)


def test_what_is_said_of_no_option_is_as_published():
    """Catches other numbers than the paper's for MATH where we use the paper's."""
    config = options.parse([])
    assert (config.method, config.alpha, config.temperature) == ("score", 10, 1)
    assert config.beta1 < config.beta2  # a small KL and a strict one


def test_what_is_said_of_no_option_is_what_results_were_measured_with():
    """Catches a default that moves without being noticed, where ours is not the paper's."""
    config = options.parse([])
    assert (config.beta1, config.beta2, config.learning_rate) == (0.1, 0.5, 5e-4)
    assert (config.stage_one_steps, config.stage_two_steps, config.warm_steps) == (100, 80, 400)
    assert (config.train_problems, config.keep) == (256, "best")
    assert train.KEEP_OVER == 20
    assert options.Config().train_problems is None
    shares = (config.author_right, config.author_right_again, config.author_repeats)
    assert shares == (0.7, 0.2, 0.55)


# ---- who says what -------------------------------------------------------------------------------
def laid_out(task: world.Task, problem: world.Problem, said: Said, given: bool) -> list:
    """(id, turn) of a row as it should be: prompt, y1, an END if y1 was cut, request, y2."""
    by = -1 if given else 1
    before = [WORDS.index("Say ")] + task.tokenizer.encode(problem.question)
    row = [(id, 0) for id in before]
    row += [(id, by) for id in said.attempt(1)]
    if said.attempt(1)[-1] != END:
        row += [(END, 0)]
    row += [(WORDS.index("Again: "), 0), (WORDS.index("so "), 0)]
    return row + [(id, 2) for id in said.attempt(2)]


def log_prob_of(model: GPT, said: Said, turn: int) -> list[float]:
    """log pi of each token of an attempt, read in the whole row."""
    pi = distributions(model, said.ids)
    positions = [t for t, by in enumerate(said.turns) if abs(by) == turn]
    return [pi[t][said.ids[t]].log().item() for t in positions]


def likeliest(models: dict[str, GPT], said: list[Said], turn: int) -> str:
    """Who of these would have said that."""
    totals = {}
    for name, model in models.items():
        totals[name] = sum(sum(log_prob_of(model, episode, turn)) for episode in said)
    return max(totals, key=totals.get)


@pytest.mark.parametrize("case", stages())
def test_who_says_what_in_which_context(case, collected):
    """Catches attempts of another model than the method's, a second attempt that has not read the
    first and the request, and given tokens that are trained."""
    config = config_of(case.method)
    row = case.row()
    task = tiny_task()
    actors = actors_of(case, task)
    for model in set(actors):
        model.head.weight.data *= 3  # each has words that the others would hardly say
    models = {name: in_float64(model) for name, model in actors._asdict().items()}
    if actors.player is actors.policy:
        del models["policy"]  # one and the same
    optimizer = adamw(actors.policy, 0.0)
    train.train_step(config, case.stage(config), 0, *actors, optimizer, task, Counter())
    problems, episodes = collected[0]
    said = as_lists(episodes)
    given = 2 * SAMPLES if row.attempts == "given" else 0  # 0.6 of 3 problems
    for b, (problem, episode) in enumerate(zip(problems, said, strict=True)):
        expected = laid_out(task, problem, episode, given=b < given)
        assert list(zip(episode.ids, episode.turns)) == expected
        assert problem is problems[group_of(b)[0]]
    assert likeliest(models, said[given:], turn=1) == "player"
    if given:
        assert likeliest(models, said[:given], turn=1) == "reference"
    if row.attempts == "pairs":
        for b, episode in enumerate(said):
            assert episode.attempt(2) in [said[k].attempt(1) for k in group_of(b)]
    else:
        assert likeliest(models, said, turn=2) == "player"
        check_noted_log_probs(models["player"], said)


def check_noted_log_probs(player: GPT, said: list[Said]):
    """What the sampler noted is the player's log pi in the whole row, and 0 of what was given."""
    for episode in said:
        pi = distributions(player, episode.ids)
        expected = []
        for t, by in enumerate(episode.turns):
            expected.append(pi[t][episode.ids[t]].log().item() if by > 0 else 0.0)
        assert episode.log_probs == pytest.approx(expected, abs=1e-4)


def collect_once(config: options.Config, seed: int, actors: Actors) -> tuple[list, list[Said]]:
    """The episodes of the last stage of a method."""
    stage = train.stages_of(config)[-1]
    task = tiny_task()
    rng = random.Random(seed)
    problems, episodes = train.collect(config, stage, actors.player, actors.reference, task, rng)
    return problems, as_lists(episodes)


def test_pairs_are_right_first_attempts_of_the_same_problem():
    """Catches y2 from a neighbour's problem, a wrong or always the same one where there are several
    right ones, an attempt paired with itself, a cut one that is never closed."""
    config = config_of("pair_sft", "--samples 5 --problems 2")
    task = tiny_task()
    actors = actors_of(Case("pair_sft", 0), task)
    choices = Counter()  # where two others are right: which of them is taken
    for seed in range(30):
        problems, said = collect_once(config, seed, actors)
        firsts = [episode.attempt(1) for episode in said]
        right = [is_right(task, problem, y1) for problem, y1 in zip(problems, firsts)]
        for b, episode in enumerate(said):
            allowed = [firsts[k] for k in group_of(b, 5) if k != b and right[k]]
            y2 = episode.attempt(2)
            assert firsts[b].count(END) == 1 and firsts[b][-1] == END
            assert y2 in (allowed or [firsts[b]])
            if len(allowed) == 2 and allowed[0] != allowed[1]:
                choices[allowed.index(y2)] += 1
    assert choices.total() > 20 and min(choices[0], choices[1]) > choices.total() / 4


@pytest.mark.parametrize("share, problems", [(0.0, 0), (0.3, 1), (0.6, 2), (0.7, 3), (1.0, 4)])
def test_the_offline_share_is_of_problems(share, problems):
    """Catches a share of episodes or of all but that share, one that is cut and not rounded, and
    first attempts that are not given to all samples of a problem."""
    method = "score_offline_first_attempts"
    config = config_of(method, f"--problems 4 --samples 2 --offline-share {share}")
    _, said = collect_once(config, 0, actors_of(Case(method, 1), tiny_task()))
    given = [-1 in episode.turns for episode in said]
    assert given == [True] * (2 * problems) + [False] * (8 - 2 * problems)
    for episode in said:
        assert set(episode.turns) == {0, 2, -1 if -1 in episode.turns else 1}


@pytest.mark.parametrize("method", ["score", "score_offline_first_attempts", "pair_sft"])
def test_a_step_draws_from_its_own_number_alone(method, collected):
    """Catches a generator that goes on from the step before, or none: a resumed run would play
    other episodes than an uninterrupted one."""
    config = config_of(method)
    case = Case(method, len(PAPER[method]) - 1)
    for steps in ([0, 1], [1, 0]):
        for step in steps:
            task = tiny_task()
            actors = actors_of(case, task)  # the same weights each time
            torch.manual_seed(len(collected))  # what torch's own generator would give differs
            optimizer = adamw(actors.policy, 0.0)
            train.train_step(config, case.stage(config), step, *actors, optimizer, task, Counter())
    played = [as_lists(episodes) for _, episodes in collected]
    assert played[0] == played[3] and played[1] == played[2]
    assert played[0] != played[1]


def test_seed_stage_and_step_each_change_what_is_played(collected):
    """Catches the same problems and draws in every step, in both stages or for every seed."""
    task = tiny_task()
    for seed, number, step in ((3, 0, 0), (4, 0, 0), (3, 1, 0), (3, 0, 1)):
        config = config_of("score", f"--seed {seed}")
        case = Case("score", number)
        actors = actors_of(case, task)
        optimizer = adamw(actors.policy, 0.0)
        train.train_step(config, case.stage(config), step, *actors, optimizer, task, Counter())
    played = [as_lists(episodes) for _, episodes in collected]
    asked = [problems for problems, _ in collected]
    for k in (1, 2, 3):
        assert played[k] != played[0]
        assert asked[k] != asked[0]


def test_evaluation_draws_from_the_seed_alone(monkeypatch):
    """Catches an evaluation that every seed repeats, or that none can."""
    task = tiny_task()
    model = tiny_model(POLICY)
    played = []
    play_all = train.play_all

    def noted(*arguments):
        played.append(play_all(*arguments))
        return played[-1]

    monkeypatch.setattr(train, "play_all", noted)
    for seed in (3, 4, 3):
        torch.manual_seed(len(played))  # what torch's own generator would give differs
        train.evaluate(config_of("score", f"--seed {seed}"), model, task, "base")
    turn = len(played) // 3  # evaluations at one seed: greedy, sampled, maybe training problems
    greedy, sampled = played[::turn], played[1::turn]
    assert greedy[0] == greedy[1] == greedy[2]
    assert sampled[0] != sampled[1] and sampled[0] == sampled[2]


def test_runs_share_a_base_model_if_nothing_that_makes_it_differs():
    """Catches a base model of another world, author or training under the same name, and one that
    is made anew for a method's own option."""
    base = config_of("score").base_settings()
    for own in ("--alpha 7", "--beta1 0.4", "--learning-rate 0.01", "--stage-one-steps 5"):
        assert config_of("score", own).base_settings() == base, own
    assert config_of("star").base_settings() == base
    for its in (
        "--author-right 0.6",
        "--author-repeats 0.5",
        "--values 5",
        "--width 16",
        "--warm-steps 51",
        "--warm-batch 8",
        "--warm-learning-rate 0.04",
        "--temperature 0.9",
        "--gradient-clip 2",
        "--micro-batch 6",
        "--seed 4",
    ):
        assert config_of("score", its).base_settings() != base, its


# ---- a whole run ---------------------------------------------------------------------------------
SHORT = """
    --warm-steps 3 --stage-one-steps 4 --stage-two-steps 7 --checkpoint-every 2 --train-problems 0
"""
LENGTHS = {"warm start": 3, "Stage I": 4, "Stage II": 7, "STaR": 7, "Pair-SFT": 11}


class Step(NamedTuple):
    """What was seen of one step of a run. Models are copies in float64."""

    stage: str
    number: int
    before: GPT  # the policy
    after: GPT
    player: GPT | None  # None: the policy itself
    reference: GPT | None
    problems: list
    said: list[Said]
    means: list[torch.Tensor]  # the optimiser's, of the gradient and of its square
    squares: list[torch.Tensor]


def same(model: GPT, other: GPT) -> bool:
    """Equal to the last bit."""
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    return all(torch.equal(weight, its) for weight, its in pairs)


class Killed(Exception):
    """A run ends before its time."""


def watched_step(made: list, train_step: Callable, *arguments) -> tuple[Step, tuple]:
    """Make a step. Returns what was seen of it, and its own result."""
    _, stage, number, policy, player, reference, optimizer, _, _ = arguments
    assert reference is not policy
    before = in_float64(policy)
    playing = None if player is policy else in_float64(player)
    base = in_float64(reference)
    result = train_step(*arguments)
    problems, episodes = made[-1]
    kept = [optimizer.state[weight] for weight in optimizer.param_groups[0]["params"]]
    step = Step(
        stage.name,
        number,
        before,
        in_float64(policy),
        playing,
        base,
        problems,
        as_lists(episodes),
        [memory["exp_avg"].double() for memory in kept],
        [memory["exp_avg_sq"].double() for memory in kept],
    )
    return step, result


def run_and_watch(
    method: str, folder, patch: pytest.MonkeyPatch, collected: list, killed: tuple[str, int] | None
) -> list[Step]:
    """Every step of train.run on the tiny task. It is killed before one of them (None: before none)
    and started again."""
    seen = {}
    deaths = [killed]
    train_step = train.train_step

    def watched(config, stage, number, *rest):
        if (stage.name, number) in deaths:
            deaths.clear()
            raise Killed
        step, result = watched_step(collected, train_step, config, stage, number, *rest)
        first_time = seen.setdefault((stage.name, number), step)
        assert same(step.after, first_time.after)  # those after the last checkpoint are made again
        return result

    patch.setattr(train, "train_step", watched)
    patch.setattr(train, "make_task", lambda config, trains: tiny_task())
    patch.setattr(train.report, "draw_curves", lambda *arguments: None)
    config = config_of(method, f"{SHORT} --out {folder}")
    if killed is not None:
        with pytest.raises(Killed):
            train.run(config)
    train.run(config)
    return list(seen.values())


KILLED = {"score": ("Stage II", 3), "score_star_stage_two": ("STaR", 5), "pair_sft": None}
every_run = pytest.mark.parametrize("method", list(KILLED))


@pytest.fixture(scope="module")
def watch(tmp_path_factory) -> Callable[[str], list[Step]]:
    """The steps of a method's run, which is made once."""
    made = {}

    def steps_of(method: str) -> list[Step]:
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            with pytest.MonkeyPatch.context() as patch:
                collected = note_collected(patch)
                made[method] = run_and_watch(method, folder, patch, collected, KILLED[method])
        return made[method]

    return steps_of


def rows_of(method: str) -> dict[str, Row]:
    """What the paper says of each stage of a short run, by its name."""
    rows = (WARM_START, *PAPER[method])
    return {row.name: row._replace(steps=LENGTHS[row.name]) for row in rows}


@every_run
def test_every_step_of_a_run_is_the_oracle_s(method, watch):
    """Catches an optimiser that is not Adam with 0.9 and 0.99, goes on from another stage's or is
    lost on resume, a weight decay but the warm start's, and a schedule that is another stage's."""
    rows = rows_of(method)
    oracle = None
    for step in watch(method):
        row = rows[step.stage]
        policy = in_float64(step.before)
        if step.number == 0:
            oracle = Adam(policy, row.weight_decay, epsilon=1e-8)
        oracle.weights = list(policy.parameters())
        r = correctness(tiny_task(), step.problems, step.said)
        gradient = gradient_by_hand(row, step.said, r, policy, step.reference)
        oracle.step(gradient, rate_by_hand(row.learning_rate, row.steps, step.number))
        # Where Adam's step is all sign, its running means still show how large the gradient was.
        assert apart(step.means, oracle.means) < 1e-4
        assert apart(step.squares, oracle.squares) < 1e-4
        assert apart(moved(step.before, step.after), moved(step.before, policy)) < 1e-4


@every_run
def test_each_step_begins_where_the_last_one_ended(method, watch):
    """Catches a stage that begins from other weights than the stage before left, an evaluation that
    moves them, steps left out, made twice or in another stage."""
    steps = watch(method)
    expected = []
    for row in rows_of(method).values():
        expected += [(row.name, number) for number in range(row.steps)]
    assert [(step.stage, step.number) for step in steps] == expected
    for earlier, later in zip(steps, steps[1:]):
        assert same(earlier.after, later.before)


@every_run
def test_the_reference_is_the_base_model_and_stays(method, watch):
    """Catches a KL to the policy itself, to the untrained model or to the stage before."""
    steps = watch(method)
    warm = steps[: LENGTHS["warm start"]]
    base = warm[-1].after
    assert not same(base, warm[0].before)
    for step in warm:
        assert step.reference is None
    for step in steps[len(warm) :]:
        assert same(step.reference, base)
    assert not same(steps[-1].after, base)


@every_run
def test_the_player_is_the_policy_or_as_it_was_when_its_round_began(method, watch):
    """Catches a STaR that collects from a policy in training, or from the base model for ever, or
    whose player is forgotten when a run goes on."""
    rows = rows_of(method)
    began = None  # the policy at the beginning of the round
    for step in watch(method):
        row = rows[step.stage]
        if row.rounds == 0:
            assert step.player is None
            continue
        assert step.player is not None
        length = math.ceil(row.steps / row.rounds)
        if step.number % length == 0:
            began = step.before
        assert same(step.player, began)
        assert (step.number % length == 0) == same(step.player, step.before)
