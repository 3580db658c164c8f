"""A decoder-only transformer, and the cache that lets it read a text a few tokens at a time.

RMSNorm, rotary positions, grouped-query attention, SwiGLU. One class serves the small GPT and, by
its config alone, the Qwen2, Qwen3 and Llama families. What this file is not: it samples nothing
(rollout.py), knows no loss (score.py), no text (world.py) and no files (extras/checkpoints.py).

    model = GPT(GPTConfig(vocab_size=100))
    logits = model(tokens)                               # (B, T) -> (B, T, V), causal
    with torch.no_grad():                                # the same in two pieces: for sampling only
        cache = Cache(model, batch=len(tokens), positions=64)
        before = model(tokens[:, :5], cache)
        after = model(tokens[:, 5:], cache)

Shapes: B rows, T tokens, V words, D = head_width, H heads of queries, KV heads of keys and values,
P positions for which a cache has room, S of them that can be seen.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu
from torch.utils.checkpoint import checkpoint

Scaling = tuple[float, float, float, float]  # factor, low, high, original: see `stretched`


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a decoder. The defaults are the small GPT."""

    vocab_size: int
    layers: int = 4
    width: int = 64
    heads: int = 4  # of queries
    kv_heads: int = 4  # of keys and values; fewer than `heads`: grouped-query attention
    head_width: int = 16
    hidden: int = 192  # the width between the two halves of the feed-forward layer
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    rope_scaling: Scaling | None = None  # Llama 3's
    qkv_bias: bool = False  # Qwen2's
    qk_norm: bool = False  # Qwen3's
    tied: bool = False  # head and embedding are one matrix
    positions: int = 2**31  # the longest text a checkpoint was made for; the small GPT takes any


# ---- positions -----------------------------------------------------------------------------------
def rotary(
    positions: Tensor,
    head_width: int,
    theta: float,
    scaling: Scaling | None = None,
) -> tuple[Tensor, Tensor]:
    """cos and sin of the angle by which each pair of a head is turned (RoPE, arXiv 2104.09864).

        angle(p, i) = p * theta^(-2i / d)        position p, pair i of d/2, in radians

    (...) -> twice (..., d). Element i is paired with element i + d/2, so each angle is there twice.
    A query and a key that are both turned meet at the difference of their angles: attention sees
    how far apart two tokens are, not where they stand.

    Position 1, two pairs; theta = 100 makes the second ten times as slow as the first:

    >>> cos, sin = rotary(torch.tensor([1]), head_width=4, theta=100.0)
    >>> sin.asin()
    tensor([[1.0000, 0.1000, 1.0000, 0.1000]])
    """
    twice_i = torch.arange(0, head_width, 2, device=positions.device).float()  # (d/2,)
    frequencies = theta ** (-twice_i / head_width)  # (d/2,) radians a position
    if scaling is not None:
        frequencies = stretched(frequencies, scaling)
    angles = positions[..., None].float() * frequencies  # (..., d/2)
    angles = torch.cat((angles, angles), dim=-1)  # (..., d)
    return angles.cos(), angles.sin()


def stretched(frequencies: Tensor, scaling: Scaling) -> Tensor:
    """Llama 3's way to longer texts: slow pairs turn `factor` times slower, fast ones as before.

    scaling: (factor, low, high, original). A pair that makes `high` turns or more within the
    `original` number of positions is fast, one that makes `low` or fewer is slow; in between the
    two are mixed.

    >>> turns = torch.tensor([4.0, 2.5, 1.0])
    >>> frequencies = turns * 2 * math.pi / 100
    >>> stretched(frequencies, scaling=(8.0, 1.0, 4.0, 100.0)) / frequencies
    tensor([1.0000, 0.5625, 0.1250])
    """
    factor, low, high, original = scaling
    turns = original * frequencies / (2 * math.pi)  # (d/2,)
    kept = ((turns - low) / (high - low)).clamp(0, 1)  # (d/2,) 1: fast, 0: slow
    return kept * frequencies + (1 - kept) * frequencies / factor


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (a, b) = (x_i, x_{i + d/2}) by its angle.

        a' = a cos - b sin        b' = b cos + a sin

    x (..., d), cos and sin as `rotary` gives them -> (..., d).

    Two pairs, (1, 3) and (2, 4); the first makes a quarter turn, the second none:

    >>> x, cos = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, 1.0, 0.0, 1.0])
    >>> rotate(x, cos, sin=1 - cos)
    tensor([-3.,  2.,  1.,  4.])
    """
    a, b = x.chunk(2, dim=-1)
    across = torch.cat((-b, a), dim=-1)
    return x * cos + across * sin


# ---- what has been read --------------------------------------------------------------------------
class Cache:
    """Keys and values of the tokens read so far, so that sampling reads each token only once.

    Row b's tokens lie at positions 0 .. lengths[b] - 1, without left padding: sampling and learning
    see the same positions. Whatever lies behind a row's length is garbage that nobody looks at and
    the row's next tokens overwrite.

        keys_values (layers, 2, B, P, KV, D)    allocated once
        lengths     (B,)
        end         the sum of the widths fed so far: no length is greater, and unlike the lengths
                    it is known without asking the device
    """

    def __init__(self, model: "GPT", batch: int, positions: int):
        c = model.config
        weights = model.embedding.weight  # of the dtype and on the device that the cache needs
        shape = (c.layers, 2, batch, positions, c.kv_heads, c.head_width)
        self.keys_values = weights.new_zeros(shape)
        self.lengths = weights.new_zeros(batch, dtype=torch.long)
        self.end = 0

    def slots(self, width: int) -> tuple[Tensor, Tensor]:
        """Where the next `width` tokens of each row go: row (B, 1) and position (B, T)."""
        device = self.lengths.device
        rows = torch.arange(len(self.lengths), device=device)
        offsets = torch.arange(width, device=device)
        return rows[:, None], self.lengths[:, None] + offsets

    def mask(self, positions: Tensor) -> Tensor | None:
        """What new tokens at these positions see: themselves and all that is before them.

        (B, T) -> (B, 1, T, S), true where key s <= position. None while the cache is empty: then
        the new tokens are all there is, and plain causal attention among them says the same.
        """
        if self.end == 0:
            return None
        room = self.keys_values.shape[3]
        size = min(self.end + positions.shape[1], room)
        keys = torch.arange(size, device=positions.device)  # (S,)
        return (keys <= positions[..., None])[:, None]

    def advance(self, width: int, counts: Tensor | None):
        """The first counts[b] (all, if None) of `width` tokens written to row b are its own."""
        self.end += width
        self.lengths += width if counts is None else counts

    def take(self, rows: Tensor) -> "Cache":
        """A smaller cache with a copy of these rows."""
        part = copy.copy(self)
        part.keys_values = self.keys_values[:, :, rows]  # a copy: `rows` is a tensor, no slice
        part.lengths = self.lengths[rows]
        return part

    def put(self, rows: Tensor, part: "Cache"):
        """Write a smaller cache back to the rows it was taken from."""
        self.keys_values[:, :, rows] = part.keys_values
        self.lengths[rows] = part.lengths
        self.end = part.end


@dataclass
class Past:
    """What the attention of one layer needs of a cache, for one reading."""

    keys: Tensor  # (B, P, KV, D)
    values: Tensor  # (B, P, KV, D)
    slots: tuple[Tensor, Tensor]  # (B, 1) and (B, T): row and position of the new tokens
    mask: Tensor | None  # (B, 1, T, S)

    def extended(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write the new keys and values, (B, T, KV, D); return old and new, (B, S, KV, D)."""
        self.keys[self.slots] = k
        self.values[self.slots] = v
        if self.mask is None:  # there are no old ones
            return k, v
        size = self.mask.shape[-1]
        return self.keys[:, :size], self.values[:, :size]


# ---- the decoder ---------------------------------------------------------------------------------
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """softmax(q k^T / sqrt(D)) v in each head: the mean of the values that a query sees.

    q (B, T, H, D), k and v (B, S, KV, D), mask (B, 1, T, S) or None: causal -> (B, T, H, D).
    Neighbours share: query head h looks at key head h // (H / KV).

    Three tokens, one head, D = 1. A query of 0 fits every key alike: the mean of all so far.

    >>> q = k = torch.zeros(1, 3, 1, 1)
    >>> v = torch.tensor([3.0, 5.0, 10.0]).view(1, 3, 1, 1)
    >>> [round(x, 4) for x in attend(q, k, v, mask=None).flatten().tolist()]
    [3.0, 4.0, 6.0]
    """
    B, T, heads, head_width = q.shape
    kv_heads = k.shape[2]
    group = heads // kv_heads
    k = k.transpose(1, 2)  # (B, KV, S, D)
    v = v.transpose(1, 2)  # (B, KV, S, D)
    if T == 1:
        # Sampling, a token a row. subtle: the queries that share a key head stand where the T
        # queries of one head would stand, so its keys are read once for all of them and not once
        # for each. The result is the same; on a CPU attention is up to 2 times as fast in
        # float32, 3 to 13 times in bfloat16.
        q = q.reshape(B, kv_heads, group, head_width)
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, KV, group, D)
        return y.reshape(B, 1, heads, head_width)
    y = scaled_dot_product_attention(
        q.transpose(1, 2),  # (B, H, T, D)
        k,
        v,
        attn_mask=mask,
        is_causal=mask is None,
        enable_gqa=group > 1,
    )
    return y.transpose(1, 2)


class Attention(nn.Module):
    """Each token asks (query) those before it, weighs their answers (values) by how well their keys
    fit, and adds the heads' results up: out(attend(q, k, v)).

    One matrix makes all queries, keys and values: its rows are H + KV + KV heads of D. Queries and
    keys are turned by their position before they meet (`rotate`); values are not.
    """

    def __init__(self, c: GPTConfig):
        super().__init__()
        self.config = c
        all_heads = c.heads + 2 * c.kv_heads
        self.qkv = nn.Linear(c.width, all_heads * c.head_width, bias=c.qkv_bias)
        self.out = nn.Linear(c.heads * c.head_width, c.width, bias=False)
        if c.qk_norm:
            self.q_norm = nn.RMSNorm(c.head_width, c.norm_eps)
            self.k_norm = nn.RMSNorm(c.head_width, c.norm_eps)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        past: Past | None = None,
    ) -> Tensor:
        """x (B, T, width), cos and sin (B or 1, T, 1, D) -> (B, T, width).

        Without a past the T tokens are the whole text; with one they go on from it.
        """
        c = self.config
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, -1, c.head_width)  # (B, T, H + 2 KV, D)
        sizes = (c.heads, c.kv_heads, c.kv_heads)
        q, k, v = qkv.split(sizes, dim=2)
        if c.qk_norm:
            q = self.q_norm(q)
            k = self.k_norm(k)
        q = rotate(q, cos, sin)
        k = rotate(k, cos, sin)
        mask = None
        if past is not None:
            k, v = past.extended(k, v)
            mask = past.mask
        y = attend(q, k, v, mask)  # (B, T, H, D)
        return self.out(y.reshape(B, T, -1))


class Block(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x)) with SwiGLU(x) = down(silu(gate x) * up x).

    What each half computes is added to its input, which itself is never normalised.
    """

    def __init__(self, c: GPTConfig):
        super().__init__()
        self.norm1 = nn.RMSNorm(c.width, c.norm_eps)
        self.attention = Attention(c)
        self.norm2 = nn.RMSNorm(c.width, c.norm_eps)
        self.gate_up = nn.Linear(c.width, 2 * c.hidden, bias=False)  # both in one matrix
        self.down = nn.Linear(c.hidden, c.width, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        past: Past | None = None,
    ) -> Tensor:
        """(B, T, width) -> (B, T, width); the rest as in Attention."""
        x = x + self.attention(self.norm1(x), cos, sin, past)
        gate_up = self.gate_up(self.norm2(x))
        gate, up = gate_up.chunk(2, dim=-1)  # (B, T, hidden) each
        return x + self.down(silu(gate) * up)


class GPT(nn.Module):
    """Embedding, blocks, a last norm, and a head that scores every word as the next one."""

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.recompute = False  # keep no more than each block's input for the backward pass
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.norm_eps)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:  # norms stay 1; a bias comes with a checkpoint
                std = 0.02 if "embedding" in name else weight.shape[1] ** -0.5
                nn.init.normal_(weight, std=std)
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """(B, T) token ids -> (B, T, V) logits: position t predicts token t + 1."""
        return self.head(self.hidden(tokens, cache, counts))

    def hidden(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        counts: Tensor | None = None,
    ) -> Tensor:
        """(B, T) token ids -> (B, T, width), after the last norm: what the head reads.

        With a cache, row b's tokens follow its lengths[b] earlier ones, and only its first
        counts[b] are real (all, if None): the rest is written behind the row's end.
        """
        if cache is None:
            return self.read_whole(tokens)
        return self.read_on(tokens, cache, counts)

    def read_whole(self, tokens: Tensor) -> Tensor:
        """`hidden` of whole texts at once, as in training."""
        T = tokens.shape[1]
        positions = torch.arange(T, device=tokens.device)[None]  # (1, T)
        x = self.embedding(tokens)  # (B, T, width)
        cos, sin = self.rotation(positions, x.dtype)
        for block in self.blocks:
            if self.recompute:
                x = checkpoint(block, x, cos, sin, use_reentrant=False)
            else:
                x = block(x, cos, sin)
        return self.norm(x)

    def read_on(self, tokens: Tensor, cache: Cache, counts: Tensor | None) -> Tensor:
        """`hidden` of the next tokens of texts that begin in the cache, as in sampling."""
        T = tokens.shape[1]
        slots = cache.slots(T)
        positions = slots[1]  # (B, T)
        mask = cache.mask(positions)  # (B, 1, T, S)
        x = self.embedding(tokens)  # (B, T, width)
        cos, sin = self.rotation(positions, x.dtype)
        for block, (keys, values) in zip(self.blocks, cache.keys_values):
            past = Past(keys, values, slots, mask)
            x = block(x, cos, sin, past)
        cache.advance(T, counts)
        return self.norm(x)

    def rotation(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin for these positions: (B, T) -> (B, T, 1, D), the same for every head."""
        c = self.config
        cos, sin = rotary(positions, c.head_width, c.rope_theta, c.rope_scaling)
        return cos[:, :, None].to(dtype), sin[:, :, None].to(dtype)
