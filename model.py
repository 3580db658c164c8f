"""A decoder-only transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU, and its key/value cache.

One class serves the small GPT and, by its config alone, the Qwen2 and Llama families. What this file is not: it
samples nothing (rollout.py), knows no loss (score.py) and no text (data.py).

    model = GPT(GPTConfig(vocab_size=100))
    logits = model(tokens)                               # (B, T) -> (B, T, V), causal
    with torch.no_grad():                                # the same, a few tokens at a time: for sampling only
        cache = Cache(model, batch=B, positions=64)
        logits = model(tokens[:, :5], cache), model(tokens[:, 5:], cache)
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a decoder. `kv_heads` < `heads` is grouped-query attention; `qkv_bias` is Qwen2's; `tied` shares the
    embedding with the head."""

    vocab_size: int
    layers: int = 4
    width: int = 64
    heads: int = 4
    kv_heads: int = 4
    head_width: int = 16
    hidden: int = 192
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    qkv_bias: bool = False
    tied: bool = False


class Cache:
    """Keys and values of the tokens seen so far, allocated once.

    Row b's tokens lie at positions 0 .. lengths[b] - 1, without left padding: sampling and learning see the same
    positions. `end`, the sum of the widths fed so far, bounds every length without asking the device; `positions` must
    be at least that sum.
    """

    def __init__(self, model: "GPT", batch: int, positions: int):
        c, weight = model.config, model.embedding.weight
        shape = (c.layers, 2, batch, positions, c.kv_heads, c.head_width)
        self.keys_values = torch.zeros(shape, dtype=weight.dtype, device=weight.device)
        self.lengths = torch.zeros(batch, dtype=torch.long, device=weight.device)  # (B,)
        self.end = 0

    def take(self, rows: Tensor) -> "Cache":
        """A smaller cache with a copy of these rows."""
        part = object.__new__(Cache)
        part.keys_values, part.lengths, part.end = self.keys_values[:, :, rows], self.lengths[rows], self.end
        return part

    def put(self, rows: Tensor, part: "Cache"):
        """Write a smaller cache back to the rows it was taken from."""
        self.keys_values[:, :, rows], self.lengths[rows], self.end = part.keys_values, part.lengths, part.end


def rotary(positions: Tensor, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """cos and sin of position * theta^(-2i/d), (..., head_width): pair (i, i + d/2) turns by that angle."""
    inverse = theta ** (-torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width)
    angles = positions[..., None].float() * inverse  # (..., d/2)
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x_i, x_{i + d/2}) by its angle."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Attention(nn.Module):
    def __init__(self, c: GPTConfig):
        super().__init__()
        self.heads, self.kv_heads, self.head_width = c.heads, c.kv_heads, c.head_width
        self.qkv = nn.Linear(c.width, (c.heads + 2 * c.kv_heads) * c.head_width, bias=c.qkv_bias)
        self.out = nn.Linear(c.heads * c.head_width, c.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, memory=None) -> Tensor:
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, -1, self.head_width)  # (B, T, H + 2 KV, D)
        qk, v = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        q, k = rotate(qk, cos, sin).split((self.heads, self.kv_heads), dim=2)
        mask = None
        if memory is not None:
            stored, write_at, mask = memory
            stored[0][write_at], stored[1][write_at] = k, v
            if mask is not None:  # an empty cache needs neither: the new tokens are all there is
                k, v = stored[:, :, : mask.shape[-1]]
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask, is_causal=mask is None,
            enable_gqa=self.kv_heads != self.heads)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))


class Block(nn.Module):
    def __init__(self, c: GPTConfig):
        super().__init__()
        self.norm1, self.attention = nn.RMSNorm(c.width, c.norm_eps), Attention(c)
        self.norm2 = nn.RMSNorm(c.width, c.norm_eps)
        self.gate_up, self.down = nn.Linear(c.width, 2 * c.hidden, bias=False), nn.Linear(c.hidden, c.width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, memory=None) -> Tensor:
        x = x + self.attention(self.norm1(x), cos, sin, memory)
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class GPT(nn.Module):
    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.norm_eps)
        self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02 if "embedding" in name else weight.shape[1] ** -0.5)
        if config.tied:
            self.head.weight = self.embedding.weight

    def hidden(self, tokens: Tensor, cache: Cache | None = None, counts: Tensor | None = None) -> Tensor:
        """(B, T) token ids -> (B, T, width), after the last norm.

        With a cache, row b's tokens follow its lengths[b] earlier ones, and only its first counts[b] tokens are
        real (all, if None): the rest is written past the row's end, where the next call overwrites it.
        """
        B, T = tokens.shape
        if cache is None:
            positions, memory = torch.arange(T, device=tokens.device)[None], [None] * len(self.blocks)
        else:
            positions = cache.lengths[:, None] + torch.arange(T, device=tokens.device)  # (B, T)
            write_at = torch.arange(B, device=tokens.device)[:, None], positions
            mask = None
            if cache.end:
                slots = torch.arange(cache.end + T, device=tokens.device)
                mask = (slots <= positions[..., None])[:, None]  # (B, 1, T, S): each token sees itself and before
            cache.end += T
            cache.lengths = cache.lengths + (T if counts is None else counts)
            memory = [(stored, write_at, mask) for stored in cache.keys_values]
        cos, sin = rotary(positions, self.config.head_width, self.config.rope_theta)
        x = self.embedding(tokens)
        cos, sin = cos[:, :, None].to(x.dtype), sin[:, :, None].to(x.dtype)  # (B or 1, T, 1, D)
        for block, layer_memory in zip(self.blocks, memory):
            x = block(x, cos, sin, layer_memory)
        return self.norm(x)

    def forward(self, tokens: Tensor, cache: Cache | None = None, counts: Tensor | None = None) -> Tensor:
        """(B, T) token ids -> (B, T, V) logits: position t predicts token t + 1."""
        return self.head(self.hidden(tokens, cache, counts))
