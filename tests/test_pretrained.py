"""Hugging Face folders: logits and token ids against the reference libraries on tiny random checkpoints."""
import dataclasses
import json
import os
import random
import shutil
import struct

import pytest
import torch

import data
import model as ours
import rollout
import train

transformers = pytest.importorskip("transformers")

SHAPE = dict(vocab_size=61, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=512)
LLAMA3 = dict(rope_type="llama3", rope_theta=500_000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
FAMILIES = {
    "qwen2": lambda: transformers.Qwen2Config(**SHAPE, tie_word_embeddings=True),
    "qwen2_untied": lambda: transformers.Qwen2Config(**SHAPE, tie_word_embeddings=False),
    "qwen3": lambda: transformers.Qwen3Config(**SHAPE, head_dim=16, tie_word_embeddings=False),
    "llama": lambda: transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True),
    "llama3": lambda: transformers.LlamaConfig(**SHAPE, head_dim=16, tie_word_embeddings=False, rope_parameters=LLAMA3),
}


def checkpoint(folder, family, dtype=torch.float32, shards=False):
    """A random checkpoint, biases and norms included, as `transformers` writes it."""
    torch.manual_seed(0)
    theirs = transformers.AutoModelForCausalLM.from_config(FAMILIES[family]()).to(dtype).eval()
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
    loaded = ours.load_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens()), theirs(tokens()).logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_equals_that_of_transformers(tmp_path, family):
    """Token for token, 25 of them after 20 given ones."""
    theirs, prompts = checkpoint(tmp_path, family), tokens()[:, :20]
    expected = theirs.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=25, min_new_tokens=25,
                               do_sample=False, pad_token_id=0, eos_token_id=-1)
    loaded = ours.load_pretrained(tmp_path)
    new, counts, _, _ = rollout.generate(loaded, ours.Cache(loaded, 3, 45), prompts, torch.full((3,), 20), -1, 25, 0.0)
    assert torch.equal(new, expected[:, 20:]) and counts.tolist() == [25] * 3


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_read_by_transformers(tmp_path, family):
    checkpoint(tmp_path / "before", family)
    loaded = ours.load_pretrained(tmp_path / "before")
    with torch.no_grad():
        for weight in loaded.parameters():
            weight.mul_(1.1)
        ours.save_pretrained(loaded, tmp_path / "after", like=tmp_path / "before")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "after", dtype=torch.float32)
        torch.testing.assert_close(theirs(tokens()).logits, loaded(tokens()), atol=1e-4, rtol=1e-4)


def test_bfloat16_keeps_its_bits(tmp_path):
    theirs = checkpoint(tmp_path, "qwen2", dtype=torch.bfloat16)
    loaded = ours.load_pretrained(tmp_path, dtype=torch.bfloat16)
    assert torch.equal(loaded.embedding.weight, theirs.get_input_embeddings().weight)
    ours.save_pretrained(loaded, tmp_path / "after", like=tmp_path)
    again = ours.load_pretrained(tmp_path / "after", dtype=torch.bfloat16)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), again.parameters()))
    assert again.head.weight is again.embedding.weight


def edit(folder, **change):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


@pytest.mark.parametrize("change, said", [
    ({"model_type": "mamba"}, "'mamba'"), ({"hidden_act": "gelu"}, "'gelu'"), ({"use_sliding_window": True}, "sliding"),
    ({"rope_parameters": {"rope_type": "yarn"}}, "'yarn'"),
    ({"intermediate_size": 40}, r"down_proj.weight has shape \[32, 48\], not \[32, 40\]"),
    ({"hidden_size": None}, "hidden_size is missing"),
    ({"num_hidden_layers": 3}, "model.layers.2.* is missing"), ({"num_hidden_layers": 1}, "model.layers.1.* not part"),
])
def test_what_does_not_fit_is_named(tmp_path, change, said):
    checkpoint(tmp_path, "qwen2")
    edit(tmp_path, **change)
    with pytest.raises(ValueError, match=said):
        ours.load_pretrained(tmp_path)


@pytest.mark.parametrize("damage", [
    lambda old: old[:-10], lambda old: old[:20], lambda old: b"", lambda old: struct.pack("<Q", 2 ** 40) + old[8:],
    lambda old: old[:8] + b"{" + old[9:].replace(b"[0,", b"[9,", 1), lambda old: old.replace(b'"F32"', b'"I7"', 1),
    lambda old: struct.pack("<Q", 8) + b"12345678", lambda old: struct.pack("<Q", 8) + b'{"a": 1}',
])
def test_damaged_or_lying_safetensors_are_refused(tmp_path, damage):
    checkpoint(tmp_path, "qwen2")
    file = tmp_path / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(ValueError, match="model.safetensors is damaged or not supported"):
        ours.load_pretrained(tmp_path)


def test_pickles_and_empty_folders_are_refused(tmp_path):
    checkpoint(tmp_path, "qwen2")
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="pickled .bin weights are refused"):
        ours.load_pretrained(tmp_path)
    shutil.rmtree(tmp_path)
    with pytest.raises(ValueError, match="config.json"):
        ours.load_pretrained(tmp_path)


def test_cache_decoding_equals_the_full_forward_with_query_and_key_norms(tmp_path):
    checkpoint(tmp_path, "qwen3")
    loaded = ours.load_pretrained(tmp_path)
    with torch.no_grad():
        cache = ours.Cache(loaded, 3, 70)
        pieces = [loaded(tokens()[:, i:i + 7], cache) for i in range(0, 70, 7)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), loaded(tokens()), atol=1e-4, rtol=1e-4)
    assert dataclasses.replace(loaded.config, qk_norm=False) != loaded.config


# ---- tokenizers ------------------------------------------------------------------------------------------------------
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")


def trained_tokenizer(folder, kind):
    """A small byte-level BPE in the layout of a family, trained on a few lines of LaTeX and code."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
    level, llama = pre_tokenizers.ByteLevel, QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|")
    chain = lambda pattern: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                                     level(add_prefix_space=False, use_regex=False)])
    steps = {"gpt2": level(add_prefix_space=False),
             "smollm2": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), level(add_prefix_space=False)]),
             "qwen2": chain(QWEN), "llama3": chain(llama)}
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = steps[kind], decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<|im_start|>", "<|im_end|>"], show_progress=False,
                                  initial_alphabet=level.alphabet())
    text = ("The answer is \\boxed{\\frac{12}{35}}. We don't know  that f(x) = x^2 + 10.\n\n"
            "  for i in range(100):\n\treturn")
    tokenizer.train_from_iterator([text, text.upper(), "naïve café déjà vu, 中文字, Ωμέγα " * 3], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


@pytest.mark.parametrize("kind", ["gpt2", "smollm2", "qwen2", "llama3"])
def test_token_ids_equal_those_of_tokenizers(tmp_path, kind):
    """Spaces before digits, runs of white space, line ends, contractions, other scripts, LaTeX and code."""
    theirs, mine = trained_tokenizer(tmp_path, kind), data.load_tokenizer(tmp_path)
    rng, letters = random.Random(0), "aeTi sS'  \n\n\t0129.,$\\{}()^_é中文字😀½²ⅷ\u00a0\u3000\r-+*/=<>|Ωd"
    texts = ["".join(rng.choices(letters, k=rng.randint(0, 40))) for _ in range(3000)]
    texts += ["a  1", "x = 12   345", "don't DON'T we'LL", "\n \n  a", "1 000,5", "\\frac{1}{2}", "  ", "\t\tif x:\r\n"]
    for text in texts:
        assert mine.encode_ordinary(text) == theirs.encode(text, add_special_tokens=False).ids, repr(text)
        assert mine.decode(mine.encode_ordinary(text)) == text
    assert mine.encode("<|im_start|>a<|im_end|>", allowed_special="all") == theirs.encode("<|im_start|>a<|im_end|>").ids


def test_other_tokenizers_are_refused(tmp_path):
    with pytest.raises(data.BadInput, match="tokenizer.json: cannot be read"):
        data.load_tokenizer(tmp_path)
    trained_tokenizer(tmp_path, "gpt2")
    whole = json.loads((tmp_path / "tokenizer.json").read_text())
    level, split = whole["pre_tokenizer"], {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated"}
    steps = lambda *chain: {"pre_tokenizer": {"type": "Sequence", "pretokenizers": list(chain)}}
    plain = level | {"use_regex": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole | steps(split, plain)))
    assert data.load_tokenizer(tmp_path)._pat_str == r"\w+"
    for change in ({"pre_tokenizer": {"type": "Whitespace"}}, {"model": whole["model"] | {"type": "Unigram"}},
                   {"model": whole["model"] | {"merges": whole["model"]["merges"][::-1]}}, {"pre_tokenizer": None},
                   {"normalizer": {"type": "Lowercase"}}, {"pre_tokenizer": level | {"add_prefix_space": True}},
                   {"pre_tokenizer": plain}, steps(split, split, plain), steps(split, level), steps(level, split),
                   steps({**split, "behavior": "Removed"}, plain), steps({**split, "invert": True}, plain),
                   steps({"type": "Digits", "individual_digits": False}, level)):
        (tmp_path / "tokenizer.json").write_text(json.dumps(whole | change))
        with pytest.raises(data.BadInput, match="not supported|cannot be read"):
            data.load_tokenizer(tmp_path)


# ---- the whole path --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("task", ["world", "MATH"])
def test_the_loop_trains_a_checkpoint_and_writes_one(tmp_path, task, capsys):
    """--init: its tokenizer and chat markers, its weights as the base model, and a folder that `transformers` reads."""
    start = tmp_path / "start"
    torch.manual_seed(0)
    config = transformers.Qwen2Config(**SHAPE | {"vocab_size": 610}, tie_word_embeddings=True)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(start)
    trained_tokenizer(start, "qwen2")
    options = ("--stage-one-steps 1 --stage-two-steps 2 --problems 2 --samples 2 --eval-problems 4 --max-new-tokens 6 "
               "--device cpu --micro-batch 2 --learning-rate 0.01").split()
    if task == "MATH":
        rows = [{"problem": f"What is ${i}+1$?", "solution": f"\\boxed{{{i + 1}}}", "level": 1} for i in range(40)]
        (tmp_path / "all.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
        options += ["--data", str(tmp_path / "all.jsonl")]
    else:
        options += ["--warm-steps", "2", "--warm-batch", "2", "--levels", "1"]
    train.main([*options, "--init", str(start), "--out", str(tmp_path / "out")])
    saved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "score-seed0" / "model")
    before = ours.load_pretrained(start)
    assert not torch.equal(saved.get_input_embeddings().weight, before.embedding.weight)
    base, = (tmp_path / "out").glob("base-*/model.pt")
    weights = torch.load(base, weights_only=True)["policy"]
    assert torch.equal(weights["embedding.weight"], before.embedding.weight) == (task == "MATH")
    assert "attempt 2 [" in capsys.readouterr().out


def test_a_prompt_longer_than_the_model_s_positions_is_named(tmp_path, capsys):
    """512 positions in the checkpoint: two attempts of up to 120 tokens, the request and the longest prompt."""
    checkpoint(tmp_path / "start", "qwen2")
    trained_tokenizer(tmp_path / "start", "qwen2")
    rows = [{"problem": f"What is ${'1+' * i}1$?", "solution": f"\\boxed{{{i + 1}}}", "level": 1} for i in range(40)]
    (tmp_path / "all.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    capsys.readouterr()
    with pytest.raises(SystemExit):
        train.main(["--init", str(tmp_path / "start"), "--data", str(tmp_path / "all.jsonl"), "--max-new-tokens", "120",
                    "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert "all.jsonl" in said and "the model has 512" in said and "two attempts of up to 120" in said
    assert said.count("\n") == 1 and not (tmp_path / "out").exists()


def test_an_unreadable_checkpoint_leaves_no_folder(tmp_path, capsys):
    (tmp_path / "start").mkdir()
    trained_tokenizer(tmp_path / "start", "qwen2")
    with pytest.raises(SystemExit):
        train.main(["--init", str(tmp_path / "start"), "--out", str(tmp_path / "out"), "--eval-problems", "4"])
    assert "config.json" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_real_checkpoint():
    """CHECKPOINT=FOLDER python -m pytest -m slow tests/test_pretrained.py: the same for one that was downloaded."""
    folder = os.environ.get("CHECKPOINT") or pytest.skip("CHECKPOINT names no folder")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    words, mine = transformers.AutoTokenizer.from_pretrained(folder), data.load_tokenizer(folder)
    loaded = ours.load_pretrained(folder)
    rng, letters = random.Random(0), "aeTi sS'  \n\n\t0129.,$\\{}()^_é中文字😀½²ⅷ\u00a0\u3000\r-+*/=<>|Ωd"
    for text in ("".join(rng.choices(letters, k=rng.randint(0, 60))) for _ in range(20_000)):
        assert mine.encode_ordinary(text) == words.encode(text, add_special_tokens=False), repr(text)
    task = data.chat_task([], [], tokenizer=mine)
    prompt = data.encode_prompt(task, data.Problem("What is $12+30$?", "42"))
    greedy = theirs.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0].tolist()
    episodes = rollout.two_turns(loaded, [prompt], [], task.end, 40, 0.0, turns=1)
    said = episodes.tokens[0, :episodes.lengths[0]].tolist()
    assert said == greedy[:len(said)] and (len(said) == len(prompt) + 40 or said[-1] == task.end)
    with torch.no_grad():
        gap = (loaded(torch.tensor([said])) - theirs(torch.tensor([said])).logits).abs().max().item()
    print(f"largest difference of logits {gap:.1e}, {len(said) - len(prompt)} greedy tokens and 20,000 texts equal")
    assert gap < 1e-3
