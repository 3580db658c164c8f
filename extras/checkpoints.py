"""Downloaded models: folders in Hugging Face's format, with weights, tokenizer and chat markers.

What this file is not: it downloads nothing, and needs neither `transformers` nor `tokenizers`; the
tests compare with both. Families: Qwen2, Qwen2.5, Qwen3, Llama 3, SmolLM2.

    folder = Path("Qwen2.5-0.5B-Instruct")
    model = load_pretrained(folder, "cuda", torch.bfloat16)
    tokenizer = load_tokenizer(folder)                   # a tiktoken.Encoding
    chat = chat_of(tokenizer)                            # the markers around what is said
    save_pretrained(model, "trained", like=folder)       # `transformers` can read it
"""

import json
import shutil
import struct
from pathlib import Path
from typing import Iterator

import tiktoken
import torch
from torch import Tensor

from model import GPT, GPTConfig
from world import BadInput, Chat

# ---- chat markers --------------------------------------------------------------------------------
CHATS = {
    "qwen2": Chat(  # SmolLM2's, too
        start="",
        user="\n<|im_start|>user\n",
        model="<|im_end|>\n<|im_start|>assistant\n",
        end="<|im_end|>",
    ),
    "llama3": Chat(
        start="<|begin_of_text|>",
        user="<|start_header_id|>user<|end_header_id|>\n\n",
        model="<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        end="<|eot_id|>",
    ),
}


def chat_of(tokenizer: tiktoken.Encoding) -> Chat:
    """The markers that a tokenizer has as special tokens. Raises BadInput where it has none."""
    for chat in CHATS.values():
        if chat.end in tokenizer.special_tokens_set:
            return chat
    ends = ", ".join(chat.end for chat in CHATS.values())
    raise BadInput(
        f"{tokenizer.name}: no chat markers known for its special tokens (one of {ends} is needed)"
    )


# ---- config.json ---------------------------------------------------------------------------------
NEEDED = (
    "vocab_size",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "rms_norm_eps",
)
SCALING = (  # in the order of model.Scaling
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
)


def read_config(folder: Path) -> GPTConfig:
    """config.json of a Qwen2, Qwen3 or Llama folder. Raises ValueError naming what is missing or
    not supported."""
    file = folder / "config.json"
    try:
        theirs = json.loads(file.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: {error}") from error
    reason = not_supported(theirs)
    if reason:
        raise ValueError(f"{file}: not supported: {reason}")
    for name in NEEDED:
        if theirs.get(name) is None:
            raise ValueError(f"{file}: {name} is missing")
    width = theirs["hidden_size"]
    heads = theirs["num_attention_heads"]
    rope = rotary_settings(theirs)
    scaling = None
    if rotary_type(rope) == "llama3":
        scaling = tuple(float(rope[name]) for name in SCALING)
    return GPTConfig(
        vocab_size=theirs["vocab_size"],
        layers=theirs["num_hidden_layers"],
        width=width,
        heads=heads,
        kv_heads=theirs.get("num_key_value_heads") or heads,
        head_width=theirs.get("head_dim") or width // heads,
        hidden=theirs["intermediate_size"],
        rope_theta=theirs.get("rope_theta") or rope.get("rope_theta", 10_000.0),
        norm_eps=theirs["rms_norm_eps"],
        rope_scaling=scaling,
        qkv_bias=theirs["model_type"] == "qwen2",
        qk_norm=theirs["model_type"] == "qwen3",
        tied=bool(theirs.get("tie_word_embeddings")),
        positions=theirs.get("max_position_embeddings") or GPTConfig.positions,
    )


def not_supported(theirs: dict) -> str:
    """What of a config.json this decoder cannot do; empty where there is nothing."""
    family = theirs.get("model_type")
    kind = rotary_type(rotary_settings(theirs))
    activation = theirs.get("hidden_act")
    if family not in ("qwen2", "qwen3", "llama"):
        return f"model type {family!r} (supported: qwen2, qwen3, llama)"
    if kind not in ("default", "llama3"):
        return f"rotary type {kind!r} (supported: default, llama3)"
    if activation != "silu":
        return f"activation {activation!r} (supported: silu)"
    if family != "qwen2" and theirs.get("attention_bias"):
        return "a bias on every attention projection"
    if theirs.get("mlp_bias") or theirs.get("use_sliding_window"):
        return "a bias in the MLP, or a sliding window"
    return ""


def rotary_settings(theirs: dict) -> dict:
    """What config.json says of positions, under its new or its old name."""
    return theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}


def rotary_type(rope: dict) -> str:
    """The kind of rotary positions, under its new or its old name."""
    return rope.get("rope_type", rope.get("type", "default"))


# ---- their names of the weights ------------------------------------------------------------------
Pieces = list[tuple[str, int]]  # their tensors that are stacked in one of ours: name, rows


def their_names(c: GPTConfig) -> dict[str, Pieces]:
    """Our parameter -> the tensors of a Hugging Face folder that are stacked in it."""
    names = {
        "embedding.weight": [("model.embed_tokens.weight", c.vocab_size)],
        "norm.weight": [("model.norm.weight", c.width)],
    }
    in_block = their_names_in_block(c)
    for layer in range(c.layers):
        for ours, pieces in in_block.items():
            names[f"blocks.{layer}.{ours}"] = [
                (f"model.layers.{layer}.{theirs}", rows) for theirs, rows in pieces
            ]
    if not c.tied:
        names["head.weight"] = [("lm_head.weight", c.vocab_size)]
    return names


def their_names_in_block(c: GPTConfig) -> dict[str, Pieces]:
    """The same within one block."""
    names = {"attention.qkv.weight": stacked_heads(c, "weight")}
    if c.qkv_bias:
        names["attention.qkv.bias"] = stacked_heads(c, "bias")
    if c.qk_norm:
        names["attention.q_norm.weight"] = [("self_attn.q_norm.weight", c.head_width)]
        names["attention.k_norm.weight"] = [("self_attn.k_norm.weight", c.head_width)]
    names["attention.out.weight"] = [("self_attn.o_proj.weight", c.width)]
    names["gate_up.weight"] = [
        ("mlp.gate_proj.weight", c.hidden),
        ("mlp.up_proj.weight", c.hidden),
    ]
    names["down.weight"] = [("mlp.down_proj.weight", c.width)]
    names["norm1.weight"] = [("input_layernorm.weight", c.width)]
    names["norm2.weight"] = [("post_attention_layernorm.weight", c.width)]
    return names


def stacked_heads(c: GPTConfig, kind: str) -> Pieces:
    """The three projections of an attention, "weight" or "bias"."""
    return [
        (f"self_attn.q_proj.{kind}", c.heads * c.head_width),
        (f"self_attn.k_proj.{kind}", c.kv_heads * c.head_width),
        (f"self_attn.v_proj.{kind}", c.kv_heads * c.head_width),
    ]


def their_tensors(model: GPT) -> dict[str, Tensor]:
    """Every tensor of a Hugging Face folder by its name, as a view of the parameter that holds it:
    to copy into it is to load it."""
    parameters = dict(model.named_parameters())
    tensors = {}
    for ours, pieces in their_names(model.config).items():
        sizes = [rows for _, rows in pieces]
        views = parameters[ours].detach().split(sizes)
        for (theirs, _), view in zip(pieces, views):
            tensors[theirs] = view
    return tensors


# ---- *.safetensors -------------------------------------------------------------------------------
# A file is 8 bytes that say how long the header is, the header as JSON, and the numbers one tensor
# after the other: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}.
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_safetensors(path: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a file, one after another: never the whole file in memory.

    Raises ValueError where the header does not fit the file.
    """
    size = path.stat().st_size
    content = torch.empty(0, dtype=torch.uint8)
    if size:
        content = torch.from_file(str(path), size=size, dtype=torch.uint8)  # memory-mapped
    try:
        (header_size,) = struct.unpack("<Q", to_bytes(content[:8]))
        start = 8 + header_size
        header = json.loads(to_bytes(content[8:start]))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            # Where the file is too short, so is this part: it has no such shape.
            part = content[start + first : start + last].clone()
            numbers = part.view(DTYPES[entry["dtype"]])
            yield name, numbers.view(entry["shape"])
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        struct.error,
    ) as error:
        raise ValueError(f"{path} is damaged or not supported: {error}") from error


def write_safetensors(path: Path, tensors: dict[str, Tensor]):
    """Write tensors, each contiguous and in memory, as a file that read_safetensors reads."""
    header = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, tensor in tensors.items():
        end = start + tensor.nbytes
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the numbers begin at a multiple of 8 bytes
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for tensor in tensors.values():
            file.write(to_bytes(tensor))


def to_bytes(tensor: Tensor) -> bytes:
    """The numbers as they lie in memory (numpy has no bfloat16)."""
    return tensor.flatten().view(torch.uint8).numpy().tobytes()


# ---- whole models --------------------------------------------------------------------------------
@torch.no_grad()
def load_pretrained(
    folder: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> GPT:
    """The model of a Hugging Face folder (config.json, *.safetensors).

    Raises ValueError naming the file, tensor or shape that does not fit.
    """
    folder = Path(folder)
    config = read_config(folder)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(
            f"{folder} holds no .safetensors file"
            " (pickled .bin weights are refused: they can run code)"
        )
    model = empty_model(config, device, dtype)
    missing = their_tensors(model)
    for file in files:
        for name, tensor in read_safetensors(file):
            if config.tied and name == "lm_head.weight":
                continue  # a copy of the embedding
            load_tensor(file, name, tensor, missing)
    if missing:
        name = next(iter(missing))
        raise ValueError(f"{folder}: tensor {name} is missing, with {len(missing) - 1} more")
    return model


def empty_model(config: GPTConfig, device: str | torch.device, dtype: torch.dtype) -> GPT:
    """A model whose weights are yet to be loaded: no time is spent on drawing random ones."""
    with torch.device("meta"):
        model = GPT(config).to(dtype)
    model.to_empty(device=device)
    if config.tied:  # to_empty has made two of them
        model.head.weight = model.embedding.weight
    return model


def load_tensor(file: Path, name: str, tensor: Tensor, missing: dict[str, Tensor]):
    """Copy one tensor of a file to where it belongs, and take it off the missing ones."""
    if name not in missing:
        raise ValueError(f"{file}: tensor {name} is not part of this model, or is there twice")
    place = missing.pop(name)
    if place.shape != tensor.shape:
        raise ValueError(f"{file}: {name} has shape {list(tensor.shape)}, not {list(place.shape)}")
    place.copy_(tensor)


def save_pretrained(model: GPT, folder: str | Path, like: str | Path):
    """Write the model as a Hugging Face folder; its config and tokenizer files are copied from the
    folder `like` that it came from."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, tensor in their_tensors(model).items():
        tensors[name] = tensor.cpu().contiguous()
    write_safetensors(folder / "model.safetensors", tensors)
    for file in Path(like).glob("*.json"):
        if not file.name.endswith(".index.json"):  # which names the files of their weights
            shutil.copy(file, folder / file.name)


# ---- tokenizer.json ------------------------------------------------------------------------------
# How a text is cut before letters are merged, as GPT-2 does it,
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d" r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# and where each digit is cut out first: it stands alone and ends the white space before it.
DIGIT_PATTERN = (
    r"'s|'t|'re|'ve|'m|'ll|'d" r"| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
)


def load_tokenizer(folder: str | Path) -> tiktoken.Encoding:
    """The byte-level BPE of a tokenizer.json (Qwen2, Llama 3, SmolLM2, GPT-2) as a
    tiktoken.Encoding. Raises BadInput for any other kind of tokenizer.

    The only normalizer that is allowed is NFC, and text is NFC already (extras/datasets.py).
    """
    file = Path(folder) / "tokenizer.json"
    try:
        theirs = json.loads(file.read_text(encoding="utf-8"))
        model = theirs["model"]
        rises = ids_rise(model)
        pattern = cutting_pattern(theirs["pre_tokenizer"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"{file}: cannot be read as byte-level BPE ({type(error).__name__}: {error})"
        ) from error
    normalizer = (theirs.get("normalizer") or {}).get("type", "NFC")
    if model.get("type") != "BPE" or normalizer != "NFC" or not rises or not pattern:
        raise BadInput(
            f"{file}: not supported (byte-level BPE whose ids follow the order of merges is,"
            " with the steps of GPT-2, SmolLM2, Qwen2 or Llama 3 before it)"
        )
    special = {token["content"]: token["id"] for token in theirs.get("added_tokens", [])}
    letters = byte_letters()
    ranks = {}
    for word, id in model["vocab"].items():
        if word not in special:
            ranks[bytes(letters[letter] for letter in word)] = id
    return tiktoken.Encoding(
        str(folder),
        pat_str=pattern,
        mergeable_ranks=ranks,
        special_tokens=special,
    )


def ids_rise(model: dict) -> bool:
    """Whether the ids of merged words rise along the list of merges.

    tiktoken merges the pair whose result has the lowest id, Hugging Face the pair that comes first
    in the list: the same where they rise. A word that two merges make counts where it comes first.

    >>> ids_rise({"vocab": {"ab": 5, "abc": 6}, "merges": ["a b", "ab c"]})
    True
    """
    ids = []
    for merge in model["merges"]:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        ids.append(model["vocab"]["".join(pair)])
    in_order = list(dict.fromkeys(ids))  # each once
    return in_order == sorted(in_order)


def cutting_pattern(pre_tokenizer: dict) -> str | None:
    """The regular expression that cuts text as the steps before the merges do; None where a step
    is not supported."""
    chain = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    kinds = [step["type"] for step in chain]
    if "ByteLevel" not in kinds:
        return None
    level = chain[-1]
    cuts_words = level.get("use_regex", True)
    if level.get("add_prefix_space"):
        return None
    if kinds == ["ByteLevel"] and cuts_words:
        return GPT2_PATTERN
    if kinds == ["Digits", "ByteLevel"] and chain[0].get("individual_digits"):
        return DIGIT_PATTERN
    if kinds == ["Split", "ByteLevel"] and not cuts_words:
        return split_pattern(chain[0])
    return None


def split_pattern(split: dict) -> str | None:
    """The pattern of a Split that keeps what it finds as pieces; None for any other Split."""
    if split.get("invert") or split.get("behavior", "Isolated") != "Isolated":
        return None
    return split.get("pattern", {}).get("Regex")


def byte_letters() -> dict[str, int]:
    """The letter that stands for a byte in a byte-level vocabulary -> the byte (GPT-2's alphabet).

    Bytes with a printable letter are written as that, all others as letters from 256 on; so a
    space, the 33rd without one, is letter 256 + 32:

    >>> letters = byte_letters()
    >>> letters["A"], letters[chr(256 + 32)] == ord(" "), len(letters)
    (65, True, 256)
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in printable]
    for i, byte in enumerate(others):
        letters[chr(256 + i)] = byte
    return letters
