"""Play the turns: the model answers, is asked to look again, and answers again.

What this file is not: it grades nothing and trains nothing. It returns what was said and who said it, as tensors.

    episodes = two_turns(model, prompts, request, end, max_new_tokens=16, temperature=1.0, generator=generator)
    episodes.tokens, episodes.turn                       # (B, T): ids, and 0 = given, 1 = first attempt, 2 = second
    episodes.texts(tokenizer, end)                       # B lists of two strings
"""
from dataclasses import dataclass
from typing import Callable

import tiktoken
import torch
import torch.nn.functional as F
from torch import Tensor

from model import GPT, Cache

GRAPHS_ON, GRAPHS_FROM = "cuda", 64  # where a step is recorded, and for how many steps at least that pays


@dataclass
class Episodes:
    """B conversations, one a row, each filled from the left without gaps."""

    tokens: Tensor  # (B, T) ids; past a row's length, 0
    turn: Tensor  # (B, T) i = sampled in attempt i, -i = attempt i of somebody else, 0 = given words or past the end.
    #               Made from lengths, never from ids
    log_probs: Tensor  # (B, T) the sampler's log-probability of each sampled token, 0 elsewhere
    lengths: Tensor  # (B,)
    ended: Tensor  # (B, turns) whether attempt i stopped by itself; if not, it was truncated

    def append(self, new: Tensor, counts: Tensor, turn: int, log_probs: Tensor | None = None):
        """Write the first counts[b] of new[b] (B, N) at the end of row b."""
        real = torch.arange(new.shape[1], device=new.device) < counts[:, None]  # (B, N)
        rows, offsets = real.nonzero(as_tuple=True)
        columns = self.lengths[rows] + offsets
        self.tokens[rows, columns], self.turn[rows, columns] = new[real], turn
        if log_probs is not None:
            self.log_probs[rows, columns] = log_probs[real]
        self.lengths = self.lengths + counts

    def texts(self, tokenizer: tiktoken.Encoding, end: int) -> list[list[str]]:
        """The attempts as text, without the token that ends them, and without ids for which there is no word (the
        embedding of a downloaded model may have more rows than its tokenizer has words)."""
        turns, words = range(1, self.ended.shape[1] + 1), tokenizer.n_vocab
        return [[tokenizer.decode([t for t, said in zip(tokens, turn) if abs(said) == i and end != t < words])
                 for i in turns] for tokens, turn in zip(self.tokens.tolist(), self.turn.tolist())]


def empty_episodes(batch: int, size: int, turns: int, device: torch.device) -> Episodes:
    """Episodes in which nothing has been said yet, with room for `size` tokens a row."""
    ids = torch.zeros(batch, size, dtype=torch.long, device=device)
    return Episodes(ids, ids.clone(), torch.zeros(batch, size, device=device), ids.new_zeros(batch),
                    torch.zeros(batch, turns, dtype=torch.bool, device=device))


def join(parts: list[Episodes]) -> Episodes:
    """Batches of episodes as one batch, without columns that no row reaches."""
    longest = max(int(part.lengths.max()) for part in parts)
    widen = lambda x: F.pad(x, (0, longest - x.shape[1]))  # a negative pad cuts
    columns = [torch.cat([widen(getattr(part, name)) for part in parts]) for name in ("tokens", "turn", "log_probs")]
    return Episodes(*columns, torch.cat([part.lengths for part in parts]), torch.cat([part.ended for part in parts]))


def pad(rows: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ragged lists -> (B, longest) ids filled up with 0, and their lengths (B,)."""
    counts = torch.tensor([len(row) for row in rows], device=device)
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device), counts


def sample(logits: Tensor, temperature: float, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    """(B, V) logits -> a token and its log-probability for each row, (B,) and (B,). Temperature 0 is greedy."""
    log_probs = torch.log_softmax(logits.float() / (temperature or 1.0), dim=-1)  # (B, V)
    if temperature == 0:
        token = log_probs.argmax(dim=-1)
    else:
        token = torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]
    return token, log_probs.gather(1, token[:, None])[:, 0]


def recorded(model: GPT, cache: Cache, tokens: Tensor, counts: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """One step of decoding as a CUDA graph: (rows, 1) tokens, (rows,) counts -> (rows, V) logits.

    Starting a layer's kernels one by one takes longer than running them; a graph starts all at once, on the same
    memory, with the same shapes: so the mask spans the whole cache from here on. Recording costs some dozens of steps.
    """
    tokens, counts, before = tokens.clone(), counts.clone(), cache.lengths.clone()
    cache.end, side, graph = cache.keys_values.shape[3], torch.cuda.Stream(), torch.cuda.CUDAGraph()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # once without recording: libraries allocate what they need
        model(tokens, cache, counts)
    torch.cuda.current_stream().wait_stream(side)
    cache.lengths.copy_(before)
    with torch.cuda.graph(graph):
        logits = model(tokens, cache, counts)[:, 0]
    cache.lengths.copy_(before)

    def replay(new_tokens: Tensor, new_counts: Tensor) -> Tensor:
        tokens.copy_(new_tokens)
        counts.copy_(new_counts)
        graph.replay()
        return logits

    return replay


@torch.no_grad()
def generate(model: GPT, cache: Cache, tokens: Tensor, counts: Tensor, end: int, max_new_tokens: int,
             temperature: float, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Continue every row until it says `end` or has said max_new_tokens.

    tokens (B, L), counts (B,): what each row has to read first, behind what `cache` holds already.
    Returns the new tokens (B, N), how many of them are each row's own (B,), their log-probabilities (B, N), and
    whether the row said `end` (B,). The last token of each row is not in the cache yet.
    """
    B, device = len(tokens), tokens.device
    new = torch.zeros(B, max_new_tokens, dtype=torch.long, device=device)
    log_probs = torch.zeros(B, max_new_tokens, device=device)
    lengths, ended = torch.zeros_like(counts), torch.zeros(B, dtype=torch.bool, device=device)
    rows, part, replay = torch.arange(B, device=device), cache, None
    for step in range(max_new_tokens):
        if replay is None and step and device.type == GRAPHS_ON and max_new_tokens - step >= GRAPHS_FROM:
            replay = recorded(model, part, tokens, counts)
        if replay is not None:
            logits = replay(tokens, counts)
        else:
            hidden = model.hidden(tokens, part, counts)
            logits = model.head(hidden[torch.arange(len(rows), device=device), (counts - 1).clamp(min=0)])  # (rows, V)
        token, log_prob = sample(logits, temperature, generator)
        going = ~ended[rows]
        alive = rows[going]
        new[alive, step], log_probs[alive, step] = token[going], log_prob[going]
        lengths[alive] += 1
        ended[alive] = token[going] == end
        left = rows[~ended[rows]]
        if 2 * len(left) <= len(rows):  # half of the rows are done: go on with the others alone
            if part is not cache:
                cache.put(rows, part)
            if len(left) == 0:
                break
            token, rows, part, replay = token[~ended[rows]], left, cache.take(left), None
        tokens, counts = token[:, None], (~ended[rows]).long()  # a finished row among them reads nothing
    if part is not cache:
        cache.put(rows, part)
    return new, lengths, log_probs, ended


@torch.no_grad()
def two_turns(model: GPT, prompts: list[list[int]], request: list[int], end: int, max_new_tokens: int,
              temperature: float, generator: torch.Generator | None = None, turns: int = 2,
              first: Episodes | None = None) -> Episodes:
    """x1 -> y1, x2 = x1 + y1 + request -> y2 (and so on for more turns).

    y1's sampled ids stay as they are in x2, and the cache goes on from where turn 1 left it: in each turn the model
    reads exactly the tokens it has not seen. A truncated y1 is closed by an `end` that counts as given.
    With `first` (episodes of one turn, say of another model), its attempts take the place of turn 1, as given.
    """
    assert all(prompts), f"an empty prompt: {[len(prompt) for prompt in prompts]}"
    device, B, each = model.head.weight.device, len(prompts), max_new_tokens + len(request) + 1
    after_one = max(len(prompt) for prompt in prompts) + each if first is None else first.tokens.shape[1]
    size = after_one + (turns - 1) * each
    episodes, cache = empty_episodes(B, size, turns, device), Cache(model, B, size)
    if first is None:
        episodes.append(*pad(prompts, device), turn=0)
    else:
        T = first.tokens.shape[1]
        episodes.tokens[:, :T], episodes.turn[:, :T] = first.tokens, -first.turn
        episodes.lengths, episodes.ended[:, 0] = first.lengths, first.ended[:, 0]
    for turn in range(1 if first is None else 2, turns + 1):
        if turn > 1:
            said_end = episodes.ended[:, turn - 2].tolist()
            episodes.append(*pad([request if done else [end] + request for done in said_end], device), turn=0)
        unread = episodes.lengths - cache.lengths  # (B,)
        columns = (cache.lengths[:, None] + torch.arange(int(unread.max()), device=device)).clamp(max=size - 1)
        attempt, counts, log_probs, episodes.ended[:, turn - 1] = generate(
            model, cache, episodes.tokens.gather(1, columns), unread, end, max_new_tokens, temperature, generator)
        episodes.append(attempt, counts, turn, log_probs)
    return join([episodes])
