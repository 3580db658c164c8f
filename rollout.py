"""Play the turns: the model answers, is asked to look again, and answers again.

What this file is not: it grades nothing and trains nothing. It returns what was said and by whom.

    episodes = two_turns(model, prompts, request, end, max_new_tokens=16, temperature=1.0)
    episodes.tokens, episodes.turn           # (B, T): ids; 0 = given, 1 = first attempt, 2 = second
    episodes.texts(tokenizer, end)           # B lists of two strings

Shapes: B episodes (rows), T positions. Rows are filled from the left without gaps, so the learner
sees each token at the position at which it was sampled.
"""

import random
from dataclasses import dataclass

import tiktoken
import torch
import torch.nn.functional as F
from torch import Tensor

from model import GPT, Cache


# ---- what was said, and by whom ------------------------------------------------------------------
@dataclass
class Episodes:
    """B conversations, one a row.

    `turn` says of each token who said it: 0, nobody (the problem, the request, padding); i, the
    model in its attempt i; -i, somebody else in place of the model's attempt i. Only tokens with a
    positive turn are ever trained. It is made from lengths, never from the value of a token: what
    ends an attempt may well have the id of the padding.
    """

    tokens: Tensor  # (B, T) ids; 0 past a row's length
    turn: Tensor  # (B, T)
    log_probs: Tensor  # (B, T) the sampler's log-probability of each sampled token, else 0
    lengths: Tensor  # (B,) tokens in each row
    ended: Tensor  # (B, turns) whether attempt i stopped by itself; if not, it was cut

    def append(self, new: Tensor, counts: Tensor, turn: int, log_probs: Tensor | None = None):
        """Write the first counts[b] tokens of new[b] behind row b, in place.

        new (B, N), counts (B,), log_probs (B, N) or None.

        >>> episodes = empty_episodes(batch=1, size=4, turns=2, device="cpu")
        >>> episodes.append(torch.tensor([[7, 8, 9]]), torch.tensor([2]), turn=1)
        >>> episodes.tokens.tolist(), episodes.turn.tolist(), episodes.lengths.tolist()
        ([[7, 8, 0, 0]], [[1, 1, 0, 0]], [2])
        """
        offsets = torch.arange(new.shape[1], device=new.device)  # (N,)
        is_real = offsets < counts[:, None]  # (B, N)
        row, offset = is_real.nonzero(as_tuple=True)
        position = self.lengths[row] + offset
        self.tokens[row, position] = new[is_real]
        self.turn[row, position] = turn
        if log_probs is not None:
            self.log_probs[row, position] = log_probs[is_real]
        self.lengths = self.lengths + counts

    def said(self, row: int, turn: int) -> list[int]:
        """The token ids of one attempt, whoever made it."""
        is_said = self.turn[row].abs() == turn
        return self.tokens[row][is_said].tolist()

    def texts(
        self, tokenizer: tiktoken.Encoding, end: int, other_ends: tuple[int, ...] = ()
    ) -> list[list[str]]:
        """The attempts of each row as text, without the token that ends them.

        Ids for which the tokenizer has no word are left out: the embedding of a downloaded model
        may have more rows than its tokenizer has words.
        """
        unspoken = {end, *other_ends}
        rows = []
        for row in range(len(self.tokens)):
            attempts = []
            for turn in range(1, self.ended.shape[1] + 1):
                ids = self.said(row, turn)
                words = [id for id in ids if id not in unspoken and id < tokenizer.n_vocab]
                attempts.append(tokenizer.decode(words))
            rows.append(attempts)
        return rows


def empty_episodes(batch: int, size: int, turns: int, device: torch.device) -> Episodes:
    """Episodes in which nothing has been said yet, with room for `size` tokens a row."""
    nothing = torch.zeros(batch, size, device=device)  # (B, T)
    ended = torch.zeros(batch, turns, device=device)  # (B, turns)
    return Episodes(
        tokens=nothing.long(),
        turn=nothing.long(),
        log_probs=nothing,
        lengths=nothing[:, 0].long(),
        ended=ended.bool(),
    )


def join(parts: list[Episodes]) -> Episodes:
    """Batches of episodes as one batch, without positions that no row reaches."""
    longest = max(int(part.lengths.max()) for part in parts)

    def joined(tensors: list[Tensor]) -> Tensor:
        same_width = [F.pad(x, (0, longest - x.shape[1])) for x in tensors]  # negative: cut
        return torch.cat(same_width)

    return Episodes(
        tokens=joined([part.tokens for part in parts]),
        turn=joined([part.turn for part in parts]),
        log_probs=joined([part.log_probs for part in parts]),
        lengths=torch.cat([part.lengths for part in parts]),
        ended=torch.cat([part.ended for part in parts]),
    )


def pad(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ragged lists -> (B, longest) ids filled up with 0, and their lengths (B,).

    >>> tokens, counts = pad([[5, 6], [7]], "cpu")
    >>> tokens.tolist(), counts.tolist()
    ([[5, 6], [7, 0]], [2, 1])
    """
    longest = max(len(row) for row in rows)
    filled = [row + [0] * (longest - len(row)) for row in rows]
    counts = [len(row) for row in rows]
    tokens = torch.tensor(filled, dtype=torch.long, device=device)  # (B, longest)
    return tokens, torch.tensor(counts, device=device)


# ---- one turn ------------------------------------------------------------------------------------
def sample(
    logits: Tensor, temperature: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """(B, V) logits -> for each row a token (B,) and its log-probability (B,).

    pi(v) = softmax(logits / temperature); temperature 0 is greedy, the likeliest token (whose
    log-probability is given at temperature 1). No top-k and no top-p: the learner knows none.

    >>> token, log_prob = sample(torch.tensor([[0.0, 0.0, -1e9]]), temperature=1.0)
    >>> token.item() in (0, 1), round(log_prob.item(), 4)
    (True, -0.6931)
    """
    log_probs = torch.log_softmax(logits.float() / (temperature or 1.0), dim=-1)  # (B, V)
    if temperature == 0:
        token = log_probs.argmax(dim=-1)  # (B,)
    else:
        token = torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]  # (B,)
    return token, log_probs.gather(1, token[:, None])[:, 0]


def next_logits(model: GPT, cache: Cache, tokens: Tensor, counts: Tensor) -> Tensor:
    """Read the first counts[b] of tokens[b] (B, L) and predict what follows: (B, V)."""
    hidden = model.hidden(tokens, cache, counts)  # (B, L, width)
    row = torch.arange(len(tokens), device=tokens.device)
    last = (counts - 1).clamp(min=0)  # (B,) a row that reads nothing has no use for its logits
    return model.head(hidden[row, last])


@torch.no_grad()
def generate(
    model: GPT,
    cache: Cache,
    tokens: Tensor,
    counts: Tensor,
    end: int,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator | None = None,
    other_ends: tuple[int, ...] = (),
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Continue every row until it says `end` (or one of other_ends) or has said max_new_tokens.

    tokens (B, L), counts (B,): what each row has to read first, behind what `cache` holds already.
    Returns the new tokens (B, N), how many of them are each row's own (B,), their log-probabilities
    (B, N), and whether the row ended by itself (B,). A row's last token is not in the cache yet.
    """
    B = len(tokens)
    device = tokens.device
    log_probs = torch.zeros(B, max_new_tokens, device=device)
    new = torch.zeros_like(log_probs).long()  # (B, N)
    lengths = torch.zeros_like(counts)  # (B,)
    ends = torch.tensor([end, *other_ends], device=device)
    ended = torch.zeros(B, dtype=torch.bool, device=device)
    rows = torch.arange(B, device=device)  # who is still being played, and in `playing`
    playing = cache
    for step in range(max_new_tokens):
        logits = next_logits(model, playing, tokens, counts)  # (rows, V)
        token, log_prob = sample(logits, temperature, generator)  # (rows,)
        speaks = ~ended[rows]  # (rows,) one that has ended says no more
        speakers = rows[speaks]
        new[speakers, step] = token[speaks]
        log_probs[speakers, step] = log_prob[speaks]
        lengths[speakers] += 1
        ended[speakers] = torch.isin(token[speaks], ends)
        goes_on = ~ended[rows]  # (rows,)
        left = int(goes_on.sum())
        if left == 0:
            break
        if 2 * left <= len(rows):  # half of the rows are done: go on without them
            if playing is not cache:
                cache.put(rows, playing)
            rows = rows[goes_on]
            token = token[goes_on]
            playing = cache.take(rows)
        tokens = token[:, None]  # (rows, 1)
        counts = (~ended[rows]).long()  # (rows,) one that has ended reads nothing
    if playing is not cache:
        cache.put(rows, playing)
    return new, lengths, log_probs, ended


# ---- both turns ----------------------------------------------------------------------------------
@torch.no_grad()
def two_turns(
    model: GPT,
    prompts: list[list[int]],
    request: list[int],
    end: int,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator | None = None,
    turns: int = 2,
    first: Episodes | None = None,
    other_ends: tuple[int, ...] = (),
) -> Episodes:
    """x1 -> y1, then x2 = x1 + y1 + request -> y2 (and so on for more turns).

    y1's sampled ids stay as they are in x2, never decoded and encoded again, and the cache goes on
    from where turn 1 left it: in each turn the model reads exactly the tokens it has not seen.
    With `first` (episodes of one turn, say of another model) its attempts are turn 1, as given.
    """
    assert all(prompts), f"an empty prompt: {[len(prompt) for prompt in prompts]}"
    device = model.head.weight.device
    B = len(prompts)
    longest_turn = max_new_tokens + len(request) + 1  # 1: the `end` that closes a cut attempt
    if first is None:
        size = max(len(prompt) for prompt in prompts) + turns * longest_turn
        episodes = empty_episodes(B, size, turns, device)
        episodes.append(*pad(prompts, device), turn=0)
        next_turn = 1
    else:
        size = first.tokens.shape[1] + (turns - 1) * longest_turn
        episodes = begin_with(first, size, turns)
        next_turn = 2
    cache = Cache(model, B, size)
    for turn in range(next_turn, turns + 1):
        if turn > 1:
            ask_again(episodes, turn - 1, request, end)
        tokens, counts = unread(episodes, cache)
        attempt, lengths, log_probs, ended = generate(
            model, cache, tokens, counts, end, max_new_tokens, temperature, generator, other_ends
        )
        episodes.append(attempt, lengths, turn, log_probs)
        episodes.ended[:, turn - 1] = ended
    return join([episodes])  # without the positions that nobody reached


def begin_with(first: Episodes, size: int, turns: int) -> Episodes:
    """Episodes whose turn 1 is somebody else's: what was said there counts as given."""
    B, T = first.tokens.shape
    episodes = empty_episodes(B, size, turns, first.tokens.device)
    episodes.tokens[:, :T] = first.tokens
    episodes.turn[:, :T] = -first.turn
    episodes.lengths = first.lengths
    episodes.ended[:, 0] = first.ended[:, 0]
    return episodes


def ask_again(episodes: Episodes, turn: int, request: list[int], end: int):
    """Write the request behind attempt `turn`. A cut attempt is closed first, by an `end` that
    counts as given: nobody said it, so it is not trained."""
    given = []
    for ended in episodes.ended[:, turn - 1].tolist():
        given.append(request if ended else [end] + request)
    episodes.append(*pad(given, episodes.tokens.device), turn=0)


def unread(episodes: Episodes, cache: Cache) -> tuple[Tensor, Tensor]:
    """The tokens of each row that are not in the cache yet, (B, L), and how many they are (B,)."""
    counts = episodes.lengths - cache.lengths  # (B,)
    offsets = torch.arange(int(counts.max()), device=counts.device)  # (L,)
    positions = cache.lengths[:, None] + offsets  # (B, L) beyond a row's end for short rows
    positions = positions.clamp(max=episodes.tokens.shape[1] - 1)
    return episodes.tokens.gather(1, positions), counts


# ---- the episodes of a step ----------------------------------------------------------------------
def play(
    model: GPT,
    task,
    problems: list,
    max_new_tokens: int,
    temperature: float,
    generator: torch.Generator | None = None,
    turns: int = 2,
    first: Episodes | None = None,
) -> Episodes:
    """two_turns at problems of a world.Task."""
    prompts = [task.prompt_ids(problem) for problem in problems]
    return two_turns(
        model,
        prompts,
        task.request_ids(),
        task.end,
        max_new_tokens,
        temperature,
        generator,
        turns,
        first,
        task.other_ends,
    )


def texts_of(task, episodes: Episodes) -> list[list[str]]:
    """The attempts of each row as text, in the words of a world.Task."""
    return episodes.texts(task.tokenizer, task.end, task.other_ends)


@dataclass(frozen=True)
class Scene:
    """All that the episodes of one training step are made from."""

    config: object  # extras.options.Config
    task: object  # world.Task
    problems: list  # world.Problem, those of one group side by side
    player: GPT  # the policy, or in STaR's rounds a copy of it
    reference: GPT | None  # the base model; None while it is being made
    rng: random.Random
    generator: torch.Generator

    def play(
        self, model: GPT, problems: list, turns: int = 2, first: Episodes | None = None
    ) -> Episodes:
        """Both turns of some of the problems, as they are sampled in training."""
        config = self.config
        return play(
            model,
            self.task,
            problems,
            config.max_new_tokens,
            config.temperature,
            self.generator,
            turns,
            first,
        )

    def given(self, attempts: list[list[list[int]]]) -> Episodes:
        """Episodes that nobody samples here: attempts[b][i] are the token ids of attempt i + 1 at
        problem b, `end` included. They carry a positive turn, so they can be trained."""
        return given_episodes(self.task, self.problems, attempts, self.generator.device)


def given_episodes(task, problems: list, attempts: list, device: torch.device) -> Episodes:
    """Episodes of attempts that are written down: see Scene.given."""
    prompts = [task.prompt_ids(problem) for problem in problems]
    requests = [task.request_ids()] * len(problems)
    turns = len(attempts[0])
    size = max(len(prompt) for prompt in prompts)
    for turn in range(turns):
        size += max(len(said[turn]) for said in attempts) + len(requests[0])
    episodes = empty_episodes(len(problems), size, turns, device)
    episodes.append(*pad(prompts, device), turn=0)
    for turn in range(1, turns + 1):
        if turn > 1:
            episodes.append(*pad(requests, device), turn=0)
        said = [texts[turn - 1] for texts in attempts]
        episodes.append(*pad(said, device), turn)
    episodes.ended[:] = True
    return join([episodes])
