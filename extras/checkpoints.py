"""Downloaded models: folders in Hugging Face's format, with weights, tokenizer and chat markers.

What this file is not: it downloads nothing, and needs neither `transformers` nor `tokenizers`; the
tests compare with both. Families: Qwen2, Qwen2.5, Qwen3, Llama 3, SmolLM2.

    folder = Path("Qwen2.5-0.5B-Instruct")
    model = load_pretrained(folder, "cuda", torch.bfloat16)
    tokenizer = load_tokenizer(folder)                   # a tiktoken.Encoding
    chat = chat_of(tokenizer, folder)                    # the markers around what is said
    save_pretrained(model, "trained", like=folder)       # `transformers` can read it
"""

import json
import math
import re
import shutil
import struct
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator

import tiktoken
import torch
from torch import Tensor

from model import GPT, GPTConfig
from world import BadInput, Chat


# ---- files ---------------------------------------------------------------------------------------
def read_json(file: Path) -> dict:
    """The object in a JSON file. Raises BadInput where there is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise BadInput(f"{file}: cannot be read (it holds no JSON object)")
    return content


# ---- chat markers --------------------------------------------------------------------------------
# A folder brings its chat template along: a program in Jinja that writes a conversation as the
# model learnt it. It is not run here. This table says what the published ones write; which row a
# folder's template is, is told by its words (family_of).
@dataclass(frozen=True)
class Family:
    """What one chat template writes, thinking off."""

    chat: Chat  # without a system message
    system: str  # a system message, {} being its text
    default: str | None = None  # its text where nobody gives another; None: no system message
    says: tuple[str, ...] = ()  # what else the template has to say,
    may_say: tuple[str, ...] = ()  # and what it may


CHATML = Chat(
    start="",
    user="\n<|im_start|>user\n",
    model="<|im_end|>\n<|im_start|>assistant\n",
    end="<|im_end|>",
)
NOT_THINKING = replace(CHATML, model=CHATML.model + "<think>\n\n</think>\n\n")
LLAMA = Chat(
    start="<|begin_of_text|>",
    user="<|start_header_id|>user<|end_header_id|>\n\n",
    model="<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    end="<|eot_id|>",
)
CHATML_SYSTEM = "<|im_start|>system\n{}<|im_end|>\n"
LLAMA_SYSTEM = "<|start_header_id|>system<|end_header_id|>\n\n{}<|eot_id|>"
# subtle: Llama 3.2's template writes the day on which it is run. Here it is always the day that
# Llama 3.1's writes: a run has to be the same tomorrow.
LLAMA_DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
FAMILIES = {
    "ChatML": Family(CHATML, CHATML_SYSTEM),  # Qwen3-Instruct-2507, too
    "Qwen2": Family(CHATML, CHATML_SYSTEM, "You are a helpful assistant."),
    "Qwen2.5": Family(
        CHATML,
        CHATML_SYSTEM,
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.",
    ),
    "Qwen2.5-Math": Family(
        CHATML,
        CHATML_SYSTEM,
        "Please reason step by step, and put your final answer within \\boxed{}.",
    ),
    "SmolLM2": Family(
        CHATML,
        CHATML_SYSTEM,
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
    ),
    "Qwen3": Family(NOT_THINKING, CHATML_SYSTEM, says=("<think>", "</think>")),
    "Llama 3": Family(LLAMA, LLAMA_SYSTEM),
    "Llama 3.1 to 3.3": Family(
        LLAMA,
        LLAMA_SYSTEM.replace("{}", LLAMA_DATES + "{}"),
        default="",
        says=("Cutting Knowledge Date: December 2023\n", "Today Date: ", "26 Jul 2024"),
        may_say=("%d %b %Y", "}"),
    ),
}
ROLE = re.compile(r"(<\|im_start\|>|<\|start_header_id\|>)(system|user|assistant)")
MARKERS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)


def chat_of(
    tokenizer: tiktoken.Encoding, folder: str | Path | None = None, system: str | None = None
) -> Chat:
    """The markers around what is said, as the folder's own chat template writes them, and the
    tokens at which its model stops.

    system: the system message, in place of the template's default one. Without a template (or a
    folder) the markers are those that the tokenizer has as special tokens, with no system message.
    Raises BadInput where a template is none that is known, or where there are no such tokens.
    """
    template = read_template(Path(folder)) if folder else None
    if template is not None:
        name = family_of(template, where=f"--init {folder}")
    else:
        name = family_by_tokens(tokenizer)
    family = FAMILIES[name]
    if family.chat.end not in tokenizer.special_tokens_set:
        raise BadInput(
            f"{tokenizer.name}: its chat template is that of {name}, but its tokenizer has no"
            f" special token {family.chat.end}"
        )
    chat = family.chat
    text = family.default if system is None else unicodedata.normalize("NFC", system)
    if text is not None:
        chat = replace(chat, start=chat.start + family.system.replace("{}", text, 1))
    if folder is None:
        return chat
    end = tokenizer.encode_single_token(chat.end)
    others = tuple(id for id in end_tokens(Path(folder)) if id != end)
    return replace(chat, other_ends=others)


def family_by_tokens(tokenizer: tiktoken.Encoding) -> str:
    """The family whose end of turn a tokenizer has as a special token."""
    for name in ("ChatML", "Llama 3"):
        if FAMILIES[name].chat.end in tokenizer.special_tokens_set:
            return name
    raise BadInput(
        f"{tokenizer.name}: no chat markers known for its special tokens (one of"
        f" {CHATML.end}, {LLAMA.end} is needed)"
    )


def read_template(folder: Path) -> str | None:
    """A folder's chat template: chat_template.jinja, or a field of tokenizer_config.json."""
    file = folder / "chat_template.jinja"
    if file.exists():
        return file.read_text(encoding="utf-8")
    file = folder / "tokenizer_config.json"
    found = read_json(file).get("chat_template") if file.exists() else None
    if isinstance(found, list):  # several, each with a name
        found = {entry["name"]: entry["template"] for entry in found}.get("default")
    return found


def family_of(template: str, where: str) -> str:
    """The row of the table that writes what this template writes. Raises BadInput, with what is
    unknown in it, where there is none."""
    said = words_of_template(template)
    nearest = ""
    for name, family in FAMILIES.items():
        rest = too_much(said, family)
        if rest == "":
            return name
        if rest:
            nearest = f"; it is {name}'s, but says also {rest[:60]!r}"
    raise BadInput(
        f"{where}: its chat template is none of those that are known"
        f" ({', '.join(FAMILIES)}){nearest}"
    )


def too_much(said: str, family: Family) -> str | None:
    """What a template says that this family's does not; None where it does not say all that this
    family's says."""
    chat = family.chat
    before_role, after_role = chat.user.lstrip("\n").split("user")
    after_words = chat.model[: chat.model.index(before_role)]
    message = after_role + after_words
    begins = chat.model[len(after_words) :]  # what asks the model to speak
    writes_users = any(before_role + role + message in said for role in ("", "user"))
    if not writes_users or not said.endswith(begins):
        return None
    needed = (family.default or "", *family.says)
    if not all(words in said for words in needed):
        return None
    rest = ROLE.sub(r"\1", said)
    for words in (*needed, *family.may_say, *MARKERS):
        if words:
            rest = rest.replace(words, "")
    return rest.strip()


TAG = re.compile(r"(\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\})", re.DOTALL)
SPEAKING = re.compile(r"\{\{|\{%-?\s*set\b")  # the tags that write, or keep what is written later
FIELD = re.compile(r"\[\s*(['\"])\w+\1\s*\]")  # message['role']
QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'" r'|"((?:[^"\\]|\\.)*)"', re.DOTALL)
ASIDE = re.compile(r"tool|function|argument|parameter|variable|ipython|raise_exception", re.I)


def words_of_template(template: str) -> str:
    r"""What a chat template says by itself: its quoted words and the text between its tags, one
    after the other, but for its talk of tools.

    >>> words_of_template("{% if a %}{{- '<s>' + message['role'] + '\\n' }}{% endif %}</s>")
    '<s>\n</s>'
    """
    said = ""
    for part in TAG.split(template):
        if ASIDE.search(part):
            continue
        if SPEAKING.match(part):
            for found in QUOTED.finditer(FIELD.sub("", part)):
                quoted = found[1] or found[2] or ""
                said += quoted.encode("ascii", "backslashreplace").decode("unicode_escape")
        elif part.strip() and not TAG.fullmatch(part):
            said += part
    return said


def end_tokens(folder: Path) -> list[int]:
    """The ids at which the folder's model stops: in generation_config.json, else in config.json."""
    file = folder / "generation_config.json"
    if not file.exists():
        file = folder / "config.json"
    found = read_json(file).get("eos_token_id") if file.exists() else None
    if found is None:
        return []
    ids = found if isinstance(found, list) else [found]
    if not all(type(id) is int and id >= 0 for id in ids):
        raise BadInput(f"{file}: eos_token_id is {found!r}, not a token's id or a list of such")
    return ids


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
    theirs = read_json(file)
    reason = not_supported(theirs)
    if reason:
        raise ValueError(f"{file}: not supported: {reason}")
    check_numbers(file, theirs)
    width = theirs["hidden_size"]
    heads = theirs["num_attention_heads"]
    rope = rotary_settings(theirs)
    scaling = None
    if rotary_type(rope) == "llama3":
        scaling = tuple(positive(file, name, rope.get(name)) for name in SCALING)
    theta = theirs.get("rope_theta") or rope.get("rope_theta", 10_000.0)
    config = GPTConfig(
        vocab_size=theirs["vocab_size"],
        layers=theirs["num_hidden_layers"],
        width=width,
        heads=heads,
        kv_heads=theirs.get("num_key_value_heads") or heads,
        head_width=theirs.get("head_dim") or width // heads,
        hidden=theirs["intermediate_size"],
        rope_theta=positive(file, "rope_theta", theta),
        norm_eps=positive(file, "rms_norm_eps", theirs["rms_norm_eps"]),
        rope_scaling=scaling,
        qkv_bias=theirs["model_type"] == "qwen2",
        qk_norm=theirs["model_type"] == "qwen3",
        tied=bool(theirs.get("tie_word_embeddings")),
        positions=theirs.get("max_position_embeddings") or GPTConfig.positions,
    )
    if config.heads % config.kv_heads or config.head_width % 2:
        raise ValueError(
            f"{file}: {config.heads} heads are no multiple of {config.kv_heads} key heads, or a"
            f" head is {config.head_width} wide, which is odd"
        )
    return config


def check_numbers(file: Path, theirs: dict):
    """ValueError if a size is missing, or is no whole number from 1."""
    for name in NEEDED:
        if theirs.get(name) is None:
            raise ValueError(f"{file}: {name} is missing")
    for name in (*NEEDED, "num_key_value_heads", "head_dim", "max_position_embeddings"):
        size = theirs.get(name)
        is_size = size is None or type(size) is int and size > 0
        if name != "rms_norm_eps" and not is_size:
            raise ValueError(f"{file}: {name} is {size!r}, not a whole number from 1")


def positive(file: Path, name: str, value) -> float:
    """The value, if it is a number above 0; else ValueError."""
    if value is None:
        raise ValueError(f"{file}: {name} is missing")
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{file}: {name} is {value!r}, not a number above 0")
    return float(value)


def not_supported(theirs: dict) -> str:
    """What of a config.json this decoder cannot do; empty where there is nothing."""
    family = theirs.get("model_type")
    activation = theirs.get("hidden_act")
    if theirs.get("quantization_config"):
        how = dict(theirs["quantization_config"]).get("quant_method", "of some kind")
        return f"quantised weights ({how}): training needs the model's own, in bfloat16 or float32"
    if family not in ("qwen2", "qwen3", "llama"):
        return f"model type {family!r} (supported: qwen2, qwen3, llama)"
    rope = rotary_settings(theirs)
    if not isinstance(rope, dict):
        return f"rotary settings that are {rope!r}"
    kind = rotary_type(rope)
    if kind not in ("default", "llama3"):
        return f"rotary type {kind!r} (supported: default, llama3)"
    if activation != "silu":
        return f"activation {activation!r} (supported: silu)"
    if family != "qwen2" and theirs.get("attention_bias"):
        return "a bias on every attention projection"
    if theirs.get("mlp_bias"):
        return "a bias in the MLP"
    if theirs.get("use_sliding_window") or "sliding_attention" in (theirs.get("layer_types") or ()):
        return "a sliding window (use_sliding_window, layer_types): here every token sees all"
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
    try:
        size = path.stat().st_size
        content = torch.empty(0, dtype=torch.uint8)
        if size:
            content = torch.from_file(str(path), size=size, dtype=torch.uint8)  # memory-mapped
        (header_size,) = struct.unpack("<Q", to_bytes(content[:8]))
        start = 8 + header_size
        header = json.loads(to_bytes(content[8:start]))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if entry["dtype"] not in DTYPES:
                kind = entry["dtype"]
                raise ValueError(
                    f"{name} is {kind}; F32, F16, BF16 are read, quantised weights not"
                )
            first, last = entry["data_offsets"]
            # Where the file is too short, so is this part: it has no such shape.
            part = content[start + first : start + last].clone()
            numbers = part.view(DTYPES[entry["dtype"]])
            yield name, numbers.view(entry["shape"])
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        struct.error,
    ) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path} is damaged or not supported: {reason}") from error


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
    try:
        model = empty_model(config, device, dtype)
    except RuntimeError as error:
        raise ValueError(f"{folder}: no memory for its weights on {device}") from error
    missing = their_tensors(model)
    head = None
    for file in files:
        for name, tensor in read_safetensors(file):
            if config.tied and name == "lm_head.weight":
                head = tensor  # a copy of the embedding, if all is well
                continue
            load_tensor(file, name, tensor, missing)
    if missing:
        name = next(iter(missing))
        raise ValueError(f"{folder}: tensor {name} is missing, with {len(missing) - 1} more")
    if head is not None and not torch.equal(
        head.to(model.embedding.weight), model.embedding.weight
    ):
        raise ValueError(
            f"{folder}: lm_head.weight is not model.embed_tokens.weight, as tie_word_embeddings in"
            " config.json says: one of the two is wrong"
        )
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
    if not tensor.isfinite().all():
        raise ValueError(f"{file}: {name} holds numbers that are infinite or none (NaN)")
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
    for pattern in ("*.json", "*.jinja", "merges.txt", "tokenizer.model"):
        for file in Path(like).glob(pattern):
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
    check_folder(Path(folder))
    file = Path(folder) / "tokenizer.json"
    theirs = read_json(file)
    try:
        model = theirs["model"]
        rises = ids_rise(model)
        pattern = cutting_pattern(theirs["pre_tokenizer"])
        normalizer = (theirs.get("normalizer") or {}).get("type", "NFC")
        added = theirs.get("added_tokens") or []
        special = {token["content"]: token["id"] for token in added}
        ranks = word_ranks(model["vocab"], special)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(
            f"{file}: cannot be read as byte-level BPE ({type(error).__name__}: {error})"
        ) from error
    if model.get("type") != "BPE" or normalizer != "NFC" or not rises or not pattern:
        raise BadInput(
            f"{file}: not supported (byte-level BPE whose ids follow the order of merges is,"
            " with the steps of GPT-2, SmolLM2, Qwen2 or Llama 3 before it)"
        )
    return tiktoken.Encoding(
        str(folder),
        pat_str=pattern,
        mergeable_ranks=ranks,
        special_tokens=special,
    )


def check_folder(folder: Path):
    """BadInput unless this is a folder with a tokenizer.json, with what to do about it."""
    if not folder.is_dir():
        advice = "name a folder"
        if re.fullmatch(r"[\w.-]+/[\w.-]+", str(folder)):
            advice = f"nothing is downloaded here: hf download {folder} --local-dir FOLDER first"
        raise BadInput(f"--init {folder}: there is no such folder; {advice}")
    if not (folder / "tokenizer.json").exists():
        raise BadInput(
            f"{folder / 'tokenizer.json'}: cannot be read, it is not there; transformers'"
            " AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER) writes one"
        )


def word_ranks(vocabulary: dict[str, int], special: dict[str, int]) -> dict[bytes, int]:
    """The bytes of every ordinary word -> its id. Raises ValueError where ids are none, or twice
    there."""
    letters = byte_letters()
    ranks = {}
    for word, id in vocabulary.items():
        if word not in special:
            ranks[bytes(letters[letter] for letter in word)] = id
    ids = [*ranks.values(), *special.values()]
    if not all(type(id) is int and 0 <= id < 2**31 for id in ids):
        raise ValueError("an id is no whole number from 0")
    if len(set(ids)) < len(ids):
        raise ValueError("two words have one id")
    for byte in sorted(set(b"".join(ranks))):
        if bytes([byte]) not in ranks:
            raise ValueError(f"words hold byte {byte}, which is no word itself")
    return ranks


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
