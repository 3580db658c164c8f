"""Hugging Face folders: logits and token ids against the reference libraries on tiny random
checkpoints."""

import json
import os
import random
import re
import shutil
import struct

import pytest
import tiktoken
import torch

import model as ours
import rollout
import train
import world
from extras import checkpoints, datasets

transformers = pytest.importorskip("transformers")

SHAPE = dict(
    vocab_size=61,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=500_000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
FAMILIES = {
    "qwen2": lambda: transformers.Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen2_untied": lambda: transformers.Qwen2Config(**SHAPE, tie_word_embeddings=False),
    "qwen3": lambda: transformers.Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=False),
    "llama": lambda: transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama3": lambda: transformers.LlamaConfig(
        **SHAPE, head_dim=16, tie_word_embeddings=False, rope_parameters=LLAMA3
    ),
}


def checkpoint(folder, family, dtype=torch.float32, shards=False):
    """A random checkpoint, biases and norms included, as `transformers` writes it."""
    torch.manual_seed(0)
    config = FAMILIES[family]()
    theirs = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, dtype=torch.float32).to(dtype))
    theirs.save_pretrained(folder, max_shard_size="10KB" if shards else "1GB")
    return theirs


def tokens():
    return torch.randint(0, 61, (3, 70), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shards", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_equal_those_of_transformers(tmp_path, family, shards):
    """70 positions with 32 original ones: Llama 3's three kinds of frequency all matter."""
    theirs = checkpoint(tmp_path, family, shards=shards)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 or not shards
    loaded = checkpoints.load_pretrained(tmp_path)
    with torch.no_grad():
        expected = theirs(tokens()).logits
        torch.testing.assert_close(loaded(tokens()), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_equals_that_of_transformers(tmp_path, family):
    """Token for token, 25 of them after 20 given ones."""
    theirs, prompts = checkpoint(tmp_path, family), tokens()[:, :20]
    expected = theirs.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=25,
        min_new_tokens=25,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=-1,
    )
    loaded = checkpoints.load_pretrained(tmp_path)
    cache, counts = ours.Cache(loaded, 3, 45), torch.full((3,), 20)
    new, counts, _, _ = rollout.generate(loaded, cache, prompts, counts, -1, 25, 0.0)
    assert torch.equal(new, expected[:, 20:]) and counts.tolist() == [25] * 3


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_read_by_transformers(tmp_path, family):
    """A trained model that only this program can read is of no use to anybody else."""
    checkpoint(tmp_path / "before", family)
    loaded = checkpoints.load_pretrained(tmp_path / "before")
    with torch.no_grad():
        for weight in loaded.parameters():
            weight.mul_(1.1)
        checkpoints.save_pretrained(loaded, tmp_path / "after", like=tmp_path / "before")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path / "after", dtype=torch.float32
        )
        expected = loaded(tokens())
        torch.testing.assert_close(theirs(tokens()).logits, expected, atol=1e-4, rtol=1e-4)


def test_what_is_saved_is_a_whole_folder(tmp_path):
    """Config and tokenizer come along; an index of the old files would name weights that are not
    there. The numbers begin at a multiple of 8 bytes, as the format asks."""
    checkpoint(tmp_path / "before", "qwen2", shards=True)
    trained_tokenizer(tmp_path / "before", "qwen2")
    before = {file.name: file.read_bytes() for file in (tmp_path / "before").glob("*.json")}
    assert before.pop("model.safetensors.index.json")
    loaded = checkpoints.load_pretrained(tmp_path / "before")
    checkpoints.save_pretrained(loaded, tmp_path / "after", like=tmp_path / "before")
    after = {file.name: file.read_bytes() for file in (tmp_path / "after").iterdir()}
    weights = after.pop("model.safetensors")
    assert after == before and {"config.json", "tokenizer.json"} <= set(after)
    assert struct.unpack("<Q", weights[:8])[0] % 8 == 0


def test_bfloat16_keeps_its_bits(tmp_path):
    """Weights that go through another type on their way lose digits each time they are saved."""
    theirs = checkpoint(tmp_path, "qwen2", dtype=torch.bfloat16)
    loaded = checkpoints.load_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(loaded.embedding.weight, theirs.get_input_embeddings().weight)
    checkpoints.save_pretrained(loaded, tmp_path / "after", like=tmp_path)
    again = checkpoints.load_pretrained(tmp_path / "after", dtype=torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), again.parameters()))
    assert again.head.weight is again.embedding.weight


def test_a_config_is_read_under_its_old_names_too(tmp_path):
    """Llama 3.1 and SmolLM2 were published with `rope_scaling` and `rope_theta`: read as defaults,
    they would load without a word and talk nonsense."""
    checkpoint(tmp_path, "llama3")
    expected = checkpoints.read_config(tmp_path)
    assert expected.rope_scaling == (8.0, 1.0, 4.0, 32.0) and expected.rope_theta == 500_000.0
    theirs = json.loads((tmp_path / "config.json").read_text())
    rope = theirs.pop("rope_parameters")
    theirs["rope_theta"] = rope.pop("rope_theta")
    theirs["rope_scaling"] = rope
    (tmp_path / "config.json").write_text(json.dumps(theirs))
    assert checkpoints.read_config(tmp_path) == expected
    rope["type"] = rope.pop("rope_type")
    for name in ("num_key_value_heads", "head_dim", "max_position_embeddings"):
        del theirs[name]
    (tmp_path / "config.json").write_text(json.dumps(theirs))
    old = checkpoints.read_config(tmp_path)
    assert old.rope_scaling == expected.rope_scaling
    assert (old.heads, old.kv_heads, old.head_width, old.positions) == (4, 4, 8, 2**31)


def edit(folder, **change):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


@pytest.mark.parametrize(
    "change, said",
    [
        ({"model_type": "mamba"}, "'mamba'"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"use_sliding_window": True}, "sliding"),
        ({"mlp_bias": True}, "a bias in the MLP"),
        ({"model_type": "llama", "attention_bias": True}, "every attention projection"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "'yarn'"),
        ({"intermediate_size": 40}, r"down_proj.weight has shape \[32, 48\], not \[32, 40\]"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"num_hidden_layers": 3}, "model.layers.2.* is missing, with 11 more"),
        ({"num_hidden_layers": 1}, "model.layers.1.* not part"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, said):
    """A model that is nearly the one in the folder answers, but not as its author meant."""
    checkpoint(tmp_path, "qwen2")
    edit(tmp_path, **change)
    with pytest.raises(ValueError, match=said):
        checkpoints.load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda old: old[:-10],
        lambda old: old[:20],
        lambda old: b"",
        lambda old: struct.pack("<Q", 2**40) + old[8:],
        lambda old: old[:8] + b"{" + old[9:].replace(b"[0,", b"[9,", 1),
        lambda old: old.replace(b'"F32"', b'"I7"', 1),
        lambda old: struct.pack("<Q", 8) + b"12345678",
        lambda old: struct.pack("<Q", 8) + b'{"a": 1}',
    ],
)
def test_damaged_or_lying_safetensors_are_refused(tmp_path, damage):
    """A download that broke off must not become a model with some weights of noise."""
    checkpoint(tmp_path, "qwen2")
    file = tmp_path / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="model.safetensors is damaged or not supported"):
        checkpoints.load_pretrained(tmp_path)


def test_a_tensor_that_is_there_twice_is_refused(tmp_path):
    """Two copies of the weights in one folder: which of them won would be a matter of file
    names."""
    checkpoint(tmp_path, "qwen2")
    shutil.copy(tmp_path / "model.safetensors", tmp_path / "older.safetensors")
    with pytest.raises(ValueError, match="older.safetensors: .* or is there twice"):
        checkpoints.load_pretrained(tmp_path)


def test_pickles_and_empty_folders_are_refused(tmp_path):
    """A pickle runs what its author likes when it is opened."""
    checkpoint(tmp_path, "qwen2")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled .bin weights are refused"):
        checkpoints.load_pretrained(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(ValueError, match="config.json"):
        checkpoints.load_pretrained(tmp_path)


def test_cache_decoding_equals_the_full_forward_with_query_and_key_norms(tmp_path):
    """Keys must be stored as attention reads them: after their norm and their turn."""
    checkpoint(tmp_path, "qwen3")
    loaded = checkpoints.load_pretrained(tmp_path)
    assert loaded.config.qk_norm
    with torch.no_grad():
        cache = ours.Cache(loaded, 3, 70)
        pieces = [loaded(tokens()[:, i : i + 7], cache) for i in range(0, 70, 7)]
        expected = loaded(tokens())
        torch.testing.assert_close(torch.cat(pieces, dim=1), expected, atol=1e-4, rtol=1e-4)


# ---- tokenizers ----------------------------------------------------------------------------------
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LETTERS = "aeTi sS'  \n\n\t0129.,$\\{}()^_é中文字😀½²ⅷ\u00a0\u3000\r-+*/=<>|Ωd"


def trained_tokenizer(folder, kind, special=("<|im_start|>", "<|im_end|>")):
    """A small byte-level BPE in a family's layout, trained on a few lines of LaTeX and code."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    def split_by(pattern):
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    steps = {
        "gpt2": level,
        "smollm2": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), level]),
        "qwen2": split_by(QWEN),
        "llama3": split_by(QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|")),
    }
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = steps[kind]
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[*special, "<|no letters of bytes|>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    text = (
        "The answer is \\boxed{\\frac{12}{35}}. We don't know  that f(x) = x^2 + 10.\n\n"
        "  for i in range(100):\n\treturn"
    )
    lines = [text, text.upper(), "naïve café déjà vu, 中文字, Ωμέγα " * 3]
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


@pytest.mark.parametrize("kind", ["gpt2", "smollm2", "qwen2", "llama3"])
def test_token_ids_equal_those_of_tokenizers(tmp_path, kind):
    """Spaces before digits, runs of white space, line ends, contractions, other scripts, LaTeX and
    code."""
    theirs, mine = trained_tokenizer(tmp_path, kind), checkpoints.load_tokenizer(tmp_path)
    rng = random.Random(0)
    texts = ["".join(rng.choices(LETTERS, k=rng.randint(0, 40))) for _ in range(3000)]
    texts += ["a  1", "x = 12   345", "don't DON'T we'LL", "\n \n  a", "1 000,5", "\\frac{1}{2}"]
    texts += ["  ", "\t\tif x:\r\n"]
    for text in texts:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert mine.encode_ordinary(text) == ids, repr(text)
        assert mine.decode(mine.encode_ordinary(text)) == text
    marked = "<|im_start|>a<|no letters of bytes|> b<|im_end|>"
    assert mine.encode(marked, allowed_special="all") == theirs.encode(marked).ids


def test_other_tokenizers_are_refused(tmp_path):
    """A tokenizer that is nearly read right gives other ids here and there: the model is fed words
    that it never saw, and nobody is told."""
    file = tmp_path / "tokenizer.json"
    with pytest.raises(world.BadInput, match="tokenizer.json: cannot be read"):
        checkpoints.load_tokenizer(tmp_path)
    trained_tokenizer(tmp_path, "gpt2")
    whole = json.loads(file.read_text())
    model, level = whole["model"], whole["pre_tokenizer"]
    split = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated"}
    plain = level | {"use_regex": False}

    def steps(*chain):
        return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(chain)}}

    file.write_text(json.dumps(whole | steps(split, plain)))
    assert checkpoints.load_tokenizer(tmp_path)._pat_str == r"\w+"
    changes = (
        {"pre_tokenizer": {"type": "Whitespace"}},
        {"pre_tokenizer": None},
        {"pre_tokenizer": level | {"add_prefix_space": True}},
        {"pre_tokenizer": plain},
        {"model": model | {"type": "Unigram"}},
        {"model": model | {"merges": model["merges"][::-1]}},
        {"normalizer": {"type": "Lowercase"}},
        steps(split, split, plain),
        steps(split, level),
        steps(level, split),
        steps({**split, "behavior": "Removed"}, plain),
        steps({**split, "invert": True}, plain),
        steps({"type": "Digits", "individual_digits": False}, level),
    )
    for change in changes:
        file.write_text(json.dumps(whole | change))
        with pytest.raises(world.BadInput, match="not supported|cannot be read"):
            checkpoints.load_tokenizer(tmp_path)


def with_special(*words):
    """A tokenizer of bytes and these special tokens."""
    return tiktoken.Encoding(
        "a folder",
        pat_str=r"(?s:.)",
        mergeable_ranks={bytes([i]): i for i in range(256)},
        special_tokens={word: 256 + i for i, word in enumerate(words)},
    )


def conversation(chat):
    """Two attempts in the markers of a family."""
    return chat.prompt("Q") + "one" + chat.end + chat.request("R") + "two" + chat.end


def test_chat_markers_are_those_of_the_family():
    """A model that is asked in another family's words, or with a line end too few, answers worse
    than it can, and sometimes never ends."""
    qwen = checkpoints.chat_of(with_special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    assert conversation(qwen) == (
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\none<|im_end|>"
        "\n<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>"
    )
    llama = checkpoints.chat_of(with_special("<|begin_of_text|>", "<|eot_id|>"))
    user, model = (
        f"<|start_header_id|>{who}<|end_header_id|>\n\n" for who in ("user", "assistant")
    )
    assert conversation(llama) == (
        f"<|begin_of_text|>{user}Q<|eot_id|>{model}one<|eot_id|>"
        f"{user}R<|eot_id|>{model}two<|eot_id|>"
    )
    with pytest.raises(world.BadInput, match="a folder: no chat markers known"):
        checkpoints.chat_of(with_special("<|endoftext|>"))


# Chat templates in the manner of the published ones: a default system message, a branch for tools,
# thoughts that are forgotten. The words that a family speaks are exact, the programs are shorter.
CHATML_TURNS = """{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>' + message.content + '<|im_end|>\\n' }}
    {%- elif not (message.role == 'system' and loop.first) %}
        {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    THOUGHT
{%- endif %}
"""
CHATML_HEAD = """{%- if tools %}
    {{- "<|im_start|>system\\nSYSTEM# You may call one of these tools" + (tools | tojson) }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nSYSTEM<|im_end|>\\n' }}
{%- endif %}
"""
CHATML_TEMPLATE = CHATML_HEAD + CHATML_TURNS.replace("THOUGHT", "")
QWEN25_WORDS = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
SMOLLM2_WORDS = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
NO_SYSTEM = """{%- else %}
    {{- '<|im_start|>system\\nSYSTEM<|im_end|>\\n' }}
"""
THOUGHT = """{%- if enable_thinking is defined and enable_thinking is false %}
    {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}"""
LLAMA32_TEMPLATE = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{#- The system message, with the words of a first user message never in it. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'
        + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
TEMPLATES = {
    "Qwen2.5": CHATML_TEMPLATE.replace("SYSTEM", QWEN25_WORDS),
    "SmolLM2": CHATML_TEMPLATE.replace("SYSTEM", SMOLLM2_WORDS).replace("\\n", "\n"),
    "Qwen3": (CHATML_HEAD.replace(NO_SYSTEM, "") + CHATML_TURNS)
    .replace("SYSTEM", "")
    .replace("THOUGHT", THOUGHT),
    "Llama 3.2": LLAMA32_TEMPLATE,
}
CHATML_TOKENS = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")
LLAMA_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
LAYOUTS = {
    "Qwen2.5": ("qwen2", CHATML_TOKENS),
    "SmolLM2": ("smollm2", CHATML_TOKENS),
    "Qwen3": ("qwen2", CHATML_TOKENS),
    "Llama 3.2": ("llama3", LLAMA_TOKENS),
}


def chat_folder(folder, family, in_config=False):
    """A tokenizer of a family with its chat template; as `transformers` reads it."""
    trained_tokenizer(folder, *LAYOUTS[family])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>"}
    if family != "Llama 3.2":
        del config["bos_token"]
    if in_config:
        config["chat_template"] = TEMPLATES[family]
    else:
        (folder / "chat_template.jinja").write_text(TEMPLATES[family])
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return transformers.AutoTokenizer.from_pretrained(folder)


def template_ids(theirs, messages):
    """What `transformers` makes of a conversation, ready for the model to speak."""
    return theirs.apply_chat_template(
        messages,
        add_generation_prompt=True,
        enable_thinking=False,
        date_string="26 Jul 2024",
        return_dict=False,
    )


@pytest.mark.parametrize("in_config", [False, True])
@pytest.mark.parametrize("system", [None, "Be brief.", ""])
@pytest.mark.parametrize("family", TEMPLATES)
def test_a_conversation_equals_that_of_the_chat_template(tmp_path, family, system, in_config):
    """Catches a default system message left out, a line end too few, thinking left on, a question
    encoded apart from what stands before it: id by id, for one and two user turns."""
    theirs = chat_folder(tmp_path, family, in_config)
    mine = checkpoints.load_tokenizer(tmp_path)
    task = datasets.chat_task([], [], mine, checkpoints.chat_of(mine, tmp_path, system))
    first = [] if system is None else [{"role": "system", "content": system}]
    for question in ("What is $12+30$?", "don't", "  for i in", "\n\nA  1", "12", "é中<|im_end"):
        asked = datasets.MATH_PROMPT.replace("{question}", question)
        messages = [*first, {"role": "user", "content": asked}]
        ids = task.prompt_ids(world.Problem(question, "42"))
        assert ids == template_ids(theirs, messages), question
        said = "It is \\boxed{42}."
        messages += [{"role": "assistant", "content": said}]
        messages += [{"role": "user", "content": datasets.MATH_REQUEST}]
        ids += [*mine.encode_ordinary(said), task.end, *task.request_ids()]
        if family == "Qwen3":  # whose template forgets that attempt 1 did not think: x2 is x1 + y1
            block = world.encode(mine, "<think>\n\n</think>\n\n")
            at = ids.index(block[0])
            assert ids[at : at + len(block)] == block
            del ids[at : at + len(block)]
        assert ids == template_ids(theirs, messages), question


@pytest.mark.parametrize(
    "change, said",
    [
        (
            lambda old: old.replace("Alibaba", "Nobody"),
            "says also 'You are Qwen, created by Nobody",
        ),
        (lambda old: old + "{{ ' /no_think' }}", "none of those that are known"),
        (lambda old: "{{- 'Answer in French.' }}" + old, "says also 'Answer in French.'"),
        (lambda old: "Answer in French." + old, "says also 'Answer in French.'"),
        (lambda old: old.replace("'<|im_end|>' + '\\n'", "'<|im_end|>'"), "none of those"),
        (lambda old: old.replace("assistant\\n", "model\\n"), "none of those"),
        (
            lambda old: old.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}"),
            "none of those",
        ),
        (lambda old: "{{ '[INST]' + messages[0].content + '[/INST]' }}", "none of those"),
    ],
)
def test_a_template_that_is_not_in_the_table_is_refused(tmp_path, change, said):
    """Catches a model that is asked in nearly its own words: it answers worse, and nobody knows."""
    chat_folder(tmp_path, "Qwen2.5")
    file = tmp_path / "chat_template.jinja"
    file.write_text(change(file.read_text()))
    tokenizer = checkpoints.load_tokenizer(tmp_path)
    with pytest.raises(world.BadInput, match=re.escape(said)) as refused:
        checkpoints.chat_of(tokenizer, tmp_path)
    assert f"--init {tmp_path}" in str(refused.value) and "Qwen2.5" in str(refused.value)


def test_a_template_that_always_thinks_is_refused(tmp_path):
    """Catches a thinking model that is taken for Qwen3, whose thoughts can be switched off."""
    theirs = TEMPLATES["Qwen3"]
    always = "{%- set thought = '</think>' %}" + theirs.replace(THOUGHT, "{{- '<think>\\n' }}")
    assert "enable_thinking" in theirs and "enable_thinking" not in always
    assert checkpoints.family_of(theirs, "") == "Qwen3"
    with pytest.raises(world.BadInput, match="none of those that are known"):
        checkpoints.family_of(always, "")


def test_a_question_for_which_there_are_no_bytes_is_named(tmp_path):
    """Catches tiktoken's panic, which no `except` of ours sees: SmolLM2 has no token for 21
    bytes."""
    trained_tokenizer(tmp_path, "smollm2")
    file = tmp_path / "tokenizer.json"
    theirs = json.loads(file.read_text())
    byte = {number: letter for letter, number in checkpoints.byte_letters().items()}[0xF1]
    theirs["model"]["vocab"]["unused"] = theirs["model"]["vocab"].pop(byte)
    file.write_text(json.dumps(theirs))
    mine = checkpoints.load_tokenizer(tmp_path)
    task = datasets.chat_task([], [], mine, checkpoints.chat_of(mine))
    assert task.prompt_ids(world.Problem("é中文字😀", "1"))
    with pytest.raises(world.BadInput, match=r"has no words for .*a \\U00040000"):
        task.prompt_ids(world.Problem("a \U00040000", "1"))


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_a_model_stops_at_each_of_its_end_tokens(tmp_path, file):
    """Catches an attempt that goes on where `transformers` stops, and one whose text holds the
    token that ended it."""
    theirs = checkpoint(tmp_path, "qwen2")
    prompts = tokens()[:, :20]
    counts = torch.full((3,), 20)
    loaded = checkpoints.load_pretrained(tmp_path)
    free, *_ = rollout.generate(loaded, ours.Cache(loaded, 3, 45), prompts, counts, -1, 25, 0.0)
    ends = [free[0, 3].item(), free[1, 9].item()]
    (tmp_path / "generation_config.json").unlink()
    (tmp_path / file).write_text(
        json.dumps(json.loads((tmp_path / "config.json").read_text()) | {"eos_token_id": ends})
    )
    assert checkpoints.end_tokens(tmp_path) == ends
    expected = theirs.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=25,
        do_sample=False,
        pad_token_id=60,
        eos_token_id=ends,
    )
    played = rollout.two_turns(
        loaded, prompts.tolist(), [1, 2], ends[0], 25, 0.0, other_ends=(ends[1],)
    )
    letters = with_special(*(f"<{i}>" for i in range(61)))
    texts = played.texts(letters, ends[0], (ends[1],))
    for row in range(3):
        said = played.said(row, turn=1)
        assert said == expected[row, 20 : 20 + len(said)].tolist()
        assert played.ended[row, 0] == (said[-1] in ends)
        assert texts[row][0] == bytes(id for id in said if id not in ends).decode()
    assert {played.said(row, turn=1)[-1] for row in (0, 1)} == set(ends)


@pytest.mark.parametrize(
    "found, others", [([2, 1, 0], (2, 0)), ([1], ()), (1, ()), (2, (2,)), (None, ())]
)
def test_end_tokens_of_a_folder_reach_the_loop(tmp_path, found, others):
    """Catches end tokens that are read and then passed to nobody."""
    chat_folder(tmp_path, "Qwen2.5")
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": found}))
    mine = checkpoints.load_tokenizer(tmp_path)
    chat = checkpoints.chat_of(mine, tmp_path)
    assert mine.encode_single_token("<|im_end|>") == 1
    for task in (
        datasets.chat_task([], [], mine, chat),
        world.world_task(world.World(values=4, levels=(1,)), 4, mine, chat),
    ):
        assert (task.end, task.other_ends) == (1, others)


# ---- what a folder has to be ---------------------------------------------------------------------
def put(name, content):
    """A change of a folder: this file has this content."""

    def change(folder):
        if content is None:
            (folder / name).unlink()
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text)

    return change


def configured(**change):
    """A change of a folder's config.json."""
    return lambda folder: edit(folder, **change)


def in_tokenizer(change):
    """A change of a folder's tokenizer.json."""

    def changed(folder):
        file = folder / "tokenizer.json"
        theirs = json.loads(file.read_text())
        change(theirs)
        file.write_text(json.dumps(theirs))

    return changed


def in_weights(change):
    """A change of a folder's tensors."""

    def changed(folder):
        file = folder / "model.safetensors"
        tensors = dict(checkpoints.read_safetensors(file))
        change(tensors)
        checkpoints.write_safetensors(file, tensors)

    return changed


def become_a_folder(folder):
    file = folder / "model.safetensors"
    file.unlink()
    file.mkdir()


def as_another_type(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(b'"F32"', b'"I32"', 1))


def renamed(old, new):
    def change(theirs):
        theirs["model"]["vocab"][new] = theirs["model"]["vocab"].pop(old)

    return in_tokenizer(change)


LLAMA3_KEYS = {name: value for name, value in LLAMA3.items() if name != "high_freq_factor"}
FAULTS = {
    "no tokenizer": (
        put("tokenizer.json", None),
        "tokenizer.json: cannot be read, it is not there",
    ),
    "no config": (put("config.json", None), "config.json: cannot be read"),
    "a list": (put("config.json", []), "config.json: cannot be read (it holds no JSON object)"),
    "bytes": (put("config.json", "\x00"), "config.json: cannot be read"),
    "fp8": (configured(quantization_config={"quant_method": "fp8"}), "quantised weights (fp8)"),
    "gptq": (
        configured(quantization_config={"quant_method": "gptq", "bits": 4}),
        "quantised weights (gptq)",
    ),
    "4-bit": (
        configured(quantization_config={"load_in_4bit": True}),
        "quantised weights (of some kind)",
    ),
    "int32 weights": (as_another_type, "is I32; F32, F16, BF16 are read, quantised weights not"),
    "sliding": (configured(use_sliding_window=True), "a sliding window (use_sliding_window"),
    "sliding layers": (configured(layer_types=["sliding_attention"] * 2), "a sliding window"),
    "rope": (
        configured(rope_parameters=LLAMA3_KEYS),
        "config.json: high_freq_factor is missing",
    ),
    "rope text": (
        configured(rope_parameters=LLAMA3 | {"factor": "x"}),
        "config.json: factor is 'x', not a number above 0",
    ),
    "rope list": (configured(rope_parameters=[1]), "rotary settings that are [1]"),
    "small vocabulary": (
        in_tokenizer(lambda theirs: theirs["model"]["vocab"].update({"zzz": 700})),
        "the tokenizer has 701 words, the model 610",
    ),
    "half a size": (configured(hidden_size=32.0), "hidden_size is 32.0, not a whole number from 1"),
    "a negative size": (configured(num_hidden_layers=-1), "num_hidden_layers is -1, not a whole"),
    "no heads": (configured(num_key_value_heads=0), "num_key_value_heads is 0, not a whole"),
    "odd heads": (configured(num_key_value_heads=3), "4 heads are no multiple of 3 key heads"),
    "an epsilon": (configured(rms_norm_eps="1e-6"), "rms_norm_eps is '1e-6', not a number above"),
    "a huge vocabulary": (configured(vocab_size=10**15), "no memory for"),
    "weights that are a folder": (become_a_folder, "model.safetensors is damaged or not supported"),
    "NaN": (
        in_weights(lambda tensors: tensors["model.norm.weight"].fill_(float("nan"))),
        "model.norm.weight holds numbers that are infinite or none",
    ),
    "another head": (
        in_weights(lambda old: old.update({"lm_head.weight": torch.ones(610, 32)})),
        "lm_head.weight is not model.embed_tokens.weight",
    ),
    "ids of text": (
        in_tokenizer(lambda theirs: theirs["model"]["vocab"].update({"zzz": "7"})),
        "an id is no whole number",
    ),
    "one id twice": (
        in_tokenizer(lambda theirs: theirs["model"]["vocab"].update({"zzz": 70})),
        "two words have one id",
    ),
    "an emoji": (renamed("a", "😀"), "cannot be read as byte-level BPE"),
    "no letter f": (renamed("f", "f" * 9), "words hold byte 102, which is no word itself"),
    "added tokens of text": (
        in_tokenizer(lambda theirs: theirs.update(added_tokens=["a"])),
        "cannot be read as byte-level BPE",
    ),
    "a normalizer of text": (
        in_tokenizer(lambda theirs: theirs.update(normalizer="NFC")),
        "cannot be read as byte-level BPE",
    ),
    "a template": (put("chat_template.jinja", "{{ messages }}"), "its chat template is none of"),
    "an end": (put("generation_config.json", {"eos_token_id": "a"}), "eos_token_id is 'a', not a"),
}


SHORT = (  # a fault that is not noticed is not trained on for long
    "--warm-steps 1 --warm-batch 2 --levels 1 --stage-one-steps 0 --stage-two-steps 1 --problems 2"
    " --samples 2 --eval-problems 4 --max-new-tokens 2 --device cpu"
).split()


def refused(capsys, *options):
    """What the command line says of bad input: one line, and nothing is left behind."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        train.main([*options, *SHORT])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and "Traceback" not in said
    return said


def whole_folder(folder):
    """A checkpoint with which a run begins."""
    torch.manual_seed(0)
    config = transformers.Qwen2Config(**SHAPE | {"vocab_size": 610}, tie_word_embeddings=True)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    trained_tokenizer(folder, "qwen2")


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_a_folder_is_one_clear_line(tmp_path, fault, capfd):
    """Catches a traceback, or a panic, where the folder that --init names is not a checkpoint that
    can be used."""
    change, expected = FAULTS[fault]
    whole_folder(tmp_path / "start")
    change(tmp_path / "start")
    out = tmp_path / "out"
    said = refused(capfd, "--init", str(tmp_path / "start"), "--out", str(out))
    assert expected in said and str(tmp_path / "start") in said and not out.exists()


def test_a_name_on_the_hub_is_no_folder(capsys, tmp_path, monkeypatch):
    """Catches a name that `transformers` would download, and the system message of no model."""
    monkeypatch.chdir(tmp_path)
    said = refused(capsys, "--init", "Qwen/Qwen2.5-0.5B-Instruct")
    assert "hf download Qwen/Qwen2.5-0.5B-Instruct --local-dir FOLDER" in said
    assert "there is no such folder" in refused(capsys, "--init", str(tmp_path / "nothing"))
    assert "--system is not read without --init" in refused(capsys, "--system", "Be brief.")


def test_an_equal_copy_of_a_tied_head_is_skipped(tmp_path):
    """Catches a copy that is refused for being there."""
    checkpoint(tmp_path, "qwen2")
    expected = checkpoints.load_pretrained(tmp_path)
    in_weights(
        lambda old: old.update({"lm_head.weight": old["model.embed_tokens.weight"].clone()})
    )(tmp_path)
    loaded = checkpoints.load_pretrained(tmp_path)
    assert loaded.head.weight is loaded.embedding.weight
    assert torch.equal(loaded.head.weight, expected.head.weight)


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_saved_folder_chats_in_transformers(tmp_path, family):
    """Catches a chat template, or another file of the tokenizer, that is left behind."""
    before = tmp_path / "before"
    torch.manual_seed(0)
    config = transformers.Qwen2Config(**SHAPE | {"vocab_size": 610})
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(before)
    theirs = chat_folder(before, family)
    (before / "merges.txt").write_text("#version: 0.2\n")
    (before / "tokenizer.model").write_bytes(b"\x00")
    loaded = checkpoints.load_pretrained(before)
    checkpoints.save_pretrained(loaded, tmp_path / "after", like=before)
    assert {file.name for file in before.iterdir()} == {
        file.name for file in (tmp_path / "after").iterdir()
    }
    words = transformers.AutoTokenizer.from_pretrained(tmp_path / "after")
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "after")
    messages = [{"role": "user", "content": "What is $12+30$?"}]
    ids = template_ids(words, messages)
    assert ids == template_ids(theirs, messages)
    prompt = torch.tensor([ids])
    answer = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=5,
        do_sample=False,
        pad_token_id=0,
    )
    mine = checkpoints.load_tokenizer(tmp_path / "after")
    end = mine.encode_single_token(checkpoints.chat_of(mine, tmp_path / "after").end)
    played = rollout.two_turns(loaded, [ids], [], end, 5, 0.0, turns=1)
    assert played.said(0, turn=1) == answer[0, len(ids) :].tolist()[: len(played.said(0, turn=1))]


# ---- the whole path ------------------------------------------------------------------------------
def sums(count, long=False):
    """Rows of MATH."""
    for i in range(count):
        left = "1+" * i if long else f"{i}+"
        yield {"problem": f"What is ${left}1$?", "solution": f"\\boxed{{{i + 1}}}", "level": 1}


def write_rows(file, rows):
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return str(file)


@pytest.mark.parametrize("task", ["world", "MATH"])
def test_the_loop_trains_a_checkpoint_and_writes_one(tmp_path, task, capsys, monkeypatch):
    """--init: its tokenizer and chat markers, its weights as the base model, and a folder that
    `transformers` reads."""
    start = tmp_path / "start"
    torch.manual_seed(0)
    config = transformers.Qwen2Config(**SHAPE | {"vocab_size": 610}, tie_word_embeddings=True)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(start)
    trained_tokenizer(start, "qwen2")
    options = (
        "--stage-one-steps 1 --stage-two-steps 2 --problems 2 --samples 2 --eval-problems 4"
        " --max-new-tokens 6 --device cpu --micro-batch 2 --learning-rate 0.01"
    ).split()
    if task == "MATH":
        options += ["--data", write_rows(tmp_path / "all.jsonl", sums(40))]

        def every_second_row(task, problems, attempts):
            """Random weights are never right, and without a reward nothing moves."""
            return torch.tensor([[i % 2, (i + 1) % 2] for i in range(len(attempts))]).float()

        monkeypatch.setattr(train, "grade", every_second_row)
    else:
        options += ["--warm-steps", "2", "--warm-batch", "2", "--levels", "1"]
    train.main([*options, "--init", str(start), "--out", str(tmp_path / "out")])
    trained = tmp_path / "out" / "score-seed0" / "model"
    saved = transformers.AutoModelForCausalLM.from_pretrained(trained)
    before = checkpoints.load_pretrained(start)
    assert not torch.equal(saved.get_input_embeddings().weight, before.embedding.weight)
    (base,) = (tmp_path / "out").glob("base-*/model.pt")
    weights = torch.load(base, weights_only=True)["policy"]
    is_unchanged = torch.equal(weights["embedding.weight"], before.embedding.weight)
    assert is_unchanged == (task == "MATH")
    assert "attempt 2 [" in capsys.readouterr().out


def test_a_prompt_longer_than_the_model_s_positions_is_named(tmp_path, capsys):
    """512 positions in the checkpoint: 2 attempts of up to 120 tokens, the request and the
    longest prompt."""
    checkpoint(tmp_path / "start", "qwen2")
    trained_tokenizer(tmp_path / "start", "qwen2")
    data = write_rows(tmp_path / "all.jsonl", sums(40, long=True))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        train.main(
            [
                "--init",
                str(tmp_path / "start"),
                "--data",
                data,
                "--max-new-tokens",
                "120",
                "--out",
                str(tmp_path / "out"),
            ]
        )
    said = capsys.readouterr().err
    assert "all.jsonl" in said and "the model has 512" in said
    assert "2 attempts of up to 120" in said
    assert said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_unreadable_checkpoint_leaves_no_folder(tmp_path, capsys):
    """A run that could not begin must not look like one that was killed."""
    (tmp_path / "start").mkdir()
    trained_tokenizer(tmp_path / "start", "qwen2")
    options = ["--init", str(tmp_path / "start"), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit):
        train.main([*options, "--eval-problems", "4"])
    assert "config.json" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_real_checkpoint():
    """CHECKPOINT=FOLDER python -m pytest -m slow tests/test_checkpoints.py: the same for one that
    was downloaded."""
    folder = os.environ.get("CHECKPOINT") or pytest.skip("CHECKPOINT names no folder")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    mine = checkpoints.load_tokenizer(folder)
    loaded = checkpoints.load_pretrained(folder)
    rng = random.Random(0)
    for _ in range(20_000):
        text = "".join(rng.choices(LETTERS, k=rng.randint(0, 60)))
        assert mine.encode_ordinary(text) == words.encode(text, add_special_tokens=False), text
    task = datasets.chat_task([], [], tokenizer=mine, chat=checkpoints.chat_of(mine))
    prompt = task.prompt_ids(world.Problem("What is $12+30$?", "42"))
    greedy = theirs.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0].tolist()
    episodes = rollout.two_turns(loaded, [prompt], [], task.end, 40, 0.0, turns=1)
    said = episodes.tokens[0, : episodes.lengths[0]].tolist()
    assert said == greedy[: len(said)]
    assert len(said) == len(prompt) + 40 or said[-1] == task.end
    with torch.no_grad():
        gap = (loaded(torch.tensor([said])) - theirs(torch.tensor([said])).logits).abs().max()
    print(
        f"largest difference of logits {gap.item():.1e}, {len(said) - len(prompt)} greedy tokens"
        " and 20,000 texts equal"
    )
    assert gap.item() < 1e-3
