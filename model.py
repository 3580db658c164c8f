"""A decoder-only transformer: RMSNorm, rotary positions, grouped-query attention, SwiGLU, and its key/value cache.

One class serves the small GPT and, by its config alone, the Qwen2 and Llama families. What this file is not: it
samples nothing (rollout.py), knows no loss (score.py) and no text (data.py).

    model = load_pretrained("Qwen2.5-0.5B-Instruct", "cuda", torch.bfloat16)   # a folder in Hugging Face's format
    save_pretrained(model, "trained", like="Qwen2.5-0.5B-Instruct")            # and back
    model = GPT(GPTConfig(vocab_size=100))
    logits = model(tokens)                               # (B, T) -> (B, T, V), causal
    with torch.no_grad():                                # the same, a few tokens at a time: for sampling only
        cache = Cache(model, batch=B, positions=64)
        logits = model(tokens[:, :5], cache), model(tokens[:, 5:], cache)
"""
import json
import math
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass(frozen=True)
class GPTConfig:
    """Shape of a decoder. `kv_heads` < `heads` is grouped-query attention; `qkv_bias` is Qwen2's, `qk_norm` Qwen3's;
    `rope_scaling` is Llama 3's (factor, low, high, original positions); `tied` shares the embedding with the head;
    `positions` is the longest text a checkpoint was made for (the small GPT takes any)."""

    vocab_size: int
    layers: int = 4
    width: int = 64
    heads: int = 4
    kv_heads: int = 4
    head_width: int = 16
    hidden: int = 192
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    rope_scaling: tuple[float, float, float, float] | None = None
    qkv_bias: bool = False
    qk_norm: bool = False
    tied: bool = False
    positions: int = 2 ** 31


class Cache:
    """Keys and values of the tokens seen so far, allocated once.

    Row b's tokens lie at positions 0 .. lengths[b] - 1, without left padding: sampling and learning see the same
    positions. `end`, the sum of the widths fed so far, bounds every length without asking the device.
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


def rotary(positions: Tensor, head_width: int, theta: float, scaling=None) -> tuple[Tensor, Tensor]:
    """cos and sin of position * theta^(-2i/d), (..., head_width): pair (i, i + d/2) turns by that angle.

    Llama 3's scaling divides slow frequencies by `factor`, keeps fast ones, and goes from one to the other between
    `low` and `high` turns within the original number of positions.
    """
    inverse = theta ** (-torch.arange(0, head_width, 2, device=positions.device, dtype=torch.float32) / head_width)
    if scaling is not None:
        factor, low, high, original = scaling
        kept = ((original * inverse / (2 * math.pi) - low) / (high - low)).clamp(0, 1)
        inverse = kept * inverse + (1 - kept) * inverse / factor
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
        self.qk_norm = c.qk_norm
        if c.qk_norm:
            self.q_norm, self.k_norm = nn.RMSNorm(c.head_width, c.norm_eps), nn.RMSNorm(c.head_width, c.norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, memory=None) -> Tensor:
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, -1, self.head_width)  # (B, T, H + 2 KV, D)
        qk, v = qkv.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        if self.qk_norm:
            qk = torch.cat((self.q_norm(qk[:, :, :self.heads]), self.k_norm(qk[:, :, self.heads:])), dim=2)
        q, k = rotate(qk, cos, sin).split((self.heads, self.kv_heads), dim=2)
        mask = None
        if memory is not None:
            stored, write_at, mask = memory
            stored[0][write_at], stored[1][write_at] = k, v
            if mask is not None:  # an empty cache needs neither: the new tokens are all there is
                k, v = stored[:, :, : mask.shape[-1]]
        # One token a row: the queries that share a key head stand in T's place, so that its keys are read once for all.
        q = q.reshape(B, self.kv_heads, -1, self.head_width) if T == 1 else q.transpose(1, 2)
        y = F.scaled_dot_product_attention(
            q, k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask, is_causal=mask is None,
            enable_gqa=q.shape[1] != self.kv_heads)
        return self.out((y if T == 1 else y.transpose(1, 2)).reshape(B, T, -1))


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
        self.config, self.recompute = config, False  # recompute: keep no more than the input of a block for backward
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
                slots = torch.arange(min(cache.end + T, cache.keys_values.shape[3]), device=tokens.device)
                mask = (slots <= positions[..., None])[:, None]  # (B, 1, T, S): each token sees itself and before
            cache.end += T
            cache.lengths += T if counts is None else counts  # in place: a recorded graph knows this tensor alone
            memory = [(stored, write_at, mask) for stored in cache.keys_values]
        cos, sin = rotary(positions, self.config.head_width, self.config.rope_theta, self.config.rope_scaling)
        x = self.embedding(tokens)
        cos, sin = cos[:, :, None].to(x.dtype), sin[:, :, None].to(x.dtype)  # (B or 1, T, 1, D)
        for block, layer_memory in zip(self.blocks, memory):
            inputs = x, cos, sin, layer_memory
            x = checkpoint(block, *inputs, use_reentrant=False) if self.recompute and cache is None else block(*inputs)
        return self.norm(x)

    def forward(self, tokens: Tensor, cache: Cache | None = None, counts: Tensor | None = None) -> Tensor:
        """(B, T) token ids -> (B, T, V) logits: position t predicts token t + 1."""
        return self.head(self.hidden(tokens, cache, counts))


# ---- checkpoints in Hugging Face's format ----------------------------------------------------------------------------
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_config(folder: Path) -> GPTConfig:
    """config.json of a Qwen2, Qwen3 or Llama folder. Raises ValueError naming what is not supported."""
    try:
        c = json.loads((folder / "config.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error
    rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
    kind, rope_type = c.get("model_type"), rope.get("rope_type", rope.get("type", "default"))
    for fits, what in (
            (kind in ("qwen2", "qwen3", "llama"), f"model type {kind!r} (supported: qwen2, qwen3, llama)"),
            (rope_type in ("default", "llama3"), f"rotary type {rope_type!r} (supported: default, llama3)"),
            (c.get("hidden_act") == "silu", f"activation {c.get('hidden_act')!r} (supported: silu)"),
            (kind == "qwen2" or not c.get("attention_bias"), "a bias on every attention projection"),
            (not c.get("mlp_bias") and not c.get("use_sliding_window"), "a bias in the MLP, or a sliding window")):
        if not fits:
            raise ValueError(f"{folder / 'config.json'}: not supported: {what}")
    for name in ("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size",
                 "rms_norm_eps"):
        if c.get(name) is None:
            raise ValueError(f"{folder / 'config.json'}: {name} is missing")
    scaling = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    return GPTConfig(
        vocab_size=c["vocab_size"], layers=c["num_hidden_layers"], width=c["hidden_size"],
        heads=c["num_attention_heads"], kv_heads=c.get("num_key_value_heads") or c["num_attention_heads"],
        head_width=c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"], hidden=c["intermediate_size"],
        rope_theta=c.get("rope_theta") or rope.get("rope_theta", 10_000.0), norm_eps=c["rms_norm_eps"],
        rope_scaling=tuple(float(rope[name]) for name in scaling) if rope_type == "llama3" else None,
        qkv_bias=kind == "qwen2", qk_norm=kind == "qwen3", tied=bool(c.get("tie_word_embeddings")),
        positions=c.get("max_position_embeddings") or GPTConfig.positions)


def their_names(c: GPTConfig) -> dict[str, list[tuple[str, int]]]:
    """Our parameter -> the tensors of a Hugging Face folder that are stacked in it, with their numbers of rows."""
    D, names = c.head_width, {"embedding.weight": [("model.embed_tokens.weight", c.vocab_size)],
                              "norm.weight": [("model.norm.weight", c.width)]}
    for i in range(c.layers):
        ours, theirs = f"blocks.{i}.", f"model.layers.{i}."
        for kind in ("weight", "bias") if c.qkv_bias else ("weight",):
            names[f"{ours}attention.qkv.{kind}"] = [(f"{theirs}self_attn.{p}_proj.{kind}", heads * D)
                                                    for p, heads in zip("qkv", (c.heads, c.kv_heads, c.kv_heads))]
        for norm in ("q_norm", "k_norm") if c.qk_norm else ():
            names[f"{ours}attention.{norm}.weight"] = [(f"{theirs}self_attn.{norm}.weight", D)]
        names |= {f"{ours}attention.out.weight": [(f"{theirs}self_attn.o_proj.weight", c.width)],
                  f"{ours}gate_up.weight": [(f"{theirs}mlp.{p}_proj.weight", c.hidden) for p in ("gate", "up")],
                  f"{ours}down.weight": [(f"{theirs}mlp.down_proj.weight", c.width)],
                  f"{ours}norm1.weight": [(f"{theirs}input_layernorm.weight", c.width)],
                  f"{ours}norm2.weight": [(f"{theirs}post_attention_layernorm.weight", c.width)]}
    return names if c.tied else names | {"head.weight": [("lm_head.weight", c.vocab_size)]}


def their_tensors(model: GPT) -> dict[str, Tensor]:
    """Every tensor of a Hugging Face folder by its name, as a view of the parameter that holds it."""
    ours = {name: weight.detach() for name, weight in model.named_parameters()}
    return {theirs: part for name, pieces in their_names(model.config).items()
            for (theirs, _), part in zip(pieces, ours[name].split([rows for _, rows in pieces]))}


def read_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a memory-mapped file, one after another: 8 bytes of header length, a JSON header, the data.

    Raises ValueError where the header does not fit the file.
    """
    size = path.stat().st_size
    content = torch.from_file(str(path), size=size, dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
    try:
        start = 8 + struct.unpack("<Q", content[:8].numpy().tobytes())[0]
        header = json.loads(content[8:start].numpy().tobytes())
        header.pop("__metadata__", None)
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            part = content[start + first:start + last].clone()  # too short where the file is: it has no such shape
            yield name, part.view(DTYPES[entry["dtype"]]).view(entry["shape"])
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, struct.error) as error:
        raise ValueError(f"{path} is damaged or not supported: {error}") from error


@torch.no_grad()
def load_pretrained(folder: str | Path, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> GPT:
    """A model from a Hugging Face folder (config.json, *.safetensors). ValueError names the file, tensor or shape."""
    folder = Path(folder)
    config, files = read_config(folder), sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no .safetensors file (pickled .bin weights are refused: they can run code)")
    with torch.device("meta"):  # no time spent on an initialisation that is thrown away
        model = GPT(config).to(dtype)
    model.to_empty(device=device)
    if config.tied:
        model.head.weight = model.embedding.weight
    places = their_tensors(model)
    for file in files:
        for name, tensor in read_safetensors(file):
            if config.tied and name == "lm_head.weight":
                continue  # a copy of the embedding
            if name not in places:
                raise ValueError(f"{file}: tensor {name} is not part of this model, or is there twice")
            if places[name].shape != tensor.shape:
                raise ValueError(f"{file}: {name} has shape {list(tensor.shape)}, not {list(places[name].shape)}")
            places.pop(name).copy_(tensor)
    if places:
        raise ValueError(f"{folder}: tensor {next(iter(places))} is missing, with {len(places) - 1} more")
    return model


def save_pretrained(model: GPT, folder: str | Path, like: str | Path):
    """Write the model as a Hugging Face folder; config and tokenizer files are copied from the folder it came from."""
    folder, header, start = Path(folder), {}, 0
    tensors = {name: tensor.cpu().contiguous() for name, tensor in their_tensors(model).items()}
    for name, tensor in tensors.items():
        dtype = next(key for key, value in DTYPES.items() if value == tensor.dtype)
        end = start + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps({"__metadata__": {"format": "pt"}} | header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.flatten().view(torch.uint8).numpy())
    for file in Path(like).glob("*.json"):
        if not file.name.endswith(".index.json"):
            shutil.copy(file, folder / file.name)
