"""The decoder against a slow one written here in loops over positions and heads, and its cache against itself.

Everything runs in float64, so that a difference is a mistake and no rounding.
"""
import cmath
import copy
import math

import pytest
import torch

from model import GPT, Cache, GPTConfig

SHAPES = {
    "plain": GPTConfig(11, layers=2, width=12, heads=3, kv_heads=3, head_width=4, hidden=10),
    "grouped queries, bias, tied": GPTConfig(11, layers=2, width=12, heads=4, kv_heads=2, head_width=6, hidden=10,
                                             rope_theta=50.0, norm_eps=1e-2, qkv_bias=True, tied=True),
    "one key head": GPTConfig(7, layers=1, width=8, heads=4, kv_heads=1, head_width=2, hidden=4, rope_theta=3.0),
}
GROUPED = SHAPES["grouped queries, bias, tied"]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def make(config, seed=0):
    """A model with every weight random, the norms' and biases' too: a factor of 1 and a term of 0 hide mistakes."""
    torch.manual_seed(seed)
    model = GPT(config).double()
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.normal_(1.0, 0.3)
    return model


def some_tokens(config, rows, length, seed=1):
    return torch.randint(config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def same(a, b):
    return torch.testing.assert_close(a, b, rtol=0, atol=1e-5)  # the angles are float32


# ---- a decoder, slowly -----------------------------------------------------------------------------------------------
def normed(x, weight, eps):
    return x / math.sqrt(sum(float(v) ** 2 for v in x) / len(x) + eps) * weight


def turned(x, position, theta):
    """Pair (i, i + d/2) as a complex number, times e^(i * angle)."""
    half = len(x) // 2
    pairs = [complex(x[i], x[i + half]) * cmath.exp(1j * position * theta ** (-2 * i / len(x))) for i in range(half)]
    return torch.tensor([z.real for z in pairs] + [z.imag for z in pairs], dtype=x.dtype)


def slow_logits(model, tokens):
    """Logits of one row of tokens, a position at a time; memory holds each layer's earlier keys and values."""
    c, w = model.config, model.state_dict()
    memory = [([], []) for _ in range(c.layers)]
    logits = []
    for position, token in enumerate(tokens):
        x = w["embedding.weight"][token]
        for layer, (keys, values) in enumerate(memory):
            at = lambda name: w[f"blocks.{layer}.{name}"]
            qkv = at("attention.qkv.weight") @ normed(x, at("norm1.weight"), c.norm_eps)
            if c.qkv_bias:
                qkv = qkv + at("attention.qkv.bias")
            heads = list(qkv.split(c.head_width))
            queries = [turned(q, position, c.rope_theta) for q in heads[:c.heads]]
            keys.append([turned(k, position, c.rope_theta) for k in heads[c.heads:c.heads + c.kv_heads]])
            values.append(heads[c.heads + c.kv_heads:])
            mixed = []
            for head, query in enumerate(queries):
                shared = head // (c.heads // c.kv_heads)  # neighbouring queries share a key
                scores = [math.exp(float(query @ key[shared]) / math.sqrt(c.head_width)) for key in keys]
                mixed.append(sum(s / sum(scores) * value[shared] for s, value in zip(scores, values)))
            x = x + at("attention.out.weight") @ torch.cat(mixed)
            y = normed(x, at("norm2.weight"), c.norm_eps)
            gate, up = (at("gate_up.weight") @ y).split(c.hidden)
            x = x + at("down.weight") @ (gate / (1 + torch.exp(-gate)) * up)
        logits.append((w["embedding.weight"] if c.tied else w["head.weight"]) @ normed(x, w["norm.weight"], c.norm_eps))
    return torch.stack(logits)


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_those_of_a_decoder_written_in_loops(name):
    """A rotation the wrong way, queries paired with the wrong key, gate and up swapped: such a model still learns, and
    then no checkpoint of the family it claims to be would load into it."""
    model = make(SHAPES[name])
    tokens = some_tokens(model.config, 2, 9)
    same(model(tokens), torch.stack([slow_logits(model, row) for row in tokens.tolist()]))


@pytest.mark.parametrize("name", SHAPES)
def test_a_later_token_changes_no_earlier_logit(name):
    """A model that sees the token it is asked for learns to copy it, and is helpless when sampled."""
    model = make(SHAPES[name])
    tokens = some_tokens(model.config, 1, 8)
    before = model(tokens)
    for changed in range(8):
        other = tokens.clone()
        other[0, changed] = (tokens[0, changed] + 1) % model.config.vocab_size
        differs = (model(other) != before).any(dim=-1)[0]
        assert not differs[:changed].any()
        assert differs[changed:].all(), "and every later one must see the change"


def test_positions_count_from_the_left_and_order_matters():
    """Without positions a single layer reads a bag of tokens: 1, 2, 3 would be the same as 2, 1, 3."""
    model = make(SHAPES["one key head"])
    assert not torch.allclose(model(torch.tensor([[1, 2, 3]]))[:, -1], model(torch.tensor([[2, 1, 3]]))[:, -1])


def test_a_tied_head_is_the_embedding():
    """Two copies that begin alike drift apart with the first step, or after the copy that serves as reference."""
    for model in (make(GROUPED), copy.deepcopy(make(GROUPED))):
        model.embedding.weight.add_(1.0)
        assert torch.equal(model.head.weight, model.embedding.weight)
    count = lambda tied: sum(w.numel() for w in GPT(GPTConfig(vocab_size=11, tied=tied)).parameters())
    assert count(False) - count(True) == 11 * 64


# ---- the cache -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("chunks", [[1] * 9, [9], [3, 1, 5], [1, 8], [4, 4, 1]])
@pytest.mark.parametrize("name", SHAPES)
def test_a_few_tokens_at_a_time_equal_the_full_forward(name, chunks):
    """Sampling reads through the cache, learning in one pass: any difference trains another policy than was sampled.
    The cache has room for exactly these tokens."""
    model = make(SHAPES[name])
    tokens = some_tokens(model.config, 3, 9)
    cache = Cache(model, batch=3, positions=9)
    parts = [model(part, cache) for part in tokens.split(chunks, dim=1)]
    same(torch.cat(parts, dim=1), model(tokens))
    assert cache.lengths.tolist() == [9, 9, 9]


def feed(model, cache, rows, chunk, garbage):
    """Next chunk[b] tokens of each row, padded with garbage to one width. Returns the logits of the real ones."""
    starts = cache.lengths.tolist()
    tokens = torch.full((len(rows), max(chunk)), garbage)
    for b, (row, start, count) in enumerate(zip(rows, starts, chunk)):
        tokens[b, :count] = row[start:start + count]
    logits = model(tokens, cache, torch.tensor(chunk))
    return [logits[b, :count] for b, count in enumerate(chunk)]


@pytest.mark.parametrize("garbage", [0, 5])
@pytest.mark.parametrize("name", SHAPES)
def test_rows_of_different_lengths_share_a_cache(name, garbage):
    """What is written past a row's end must never be read: it is overwritten by the row's next tokens. Prompts of
    different lengths, rows that pause and rows that go on, as in sampling."""
    model = make(SHAPES[name])
    rows = some_tokens(model.config, 4, 12)
    full = model(rows)
    cache, seen = Cache(model, batch=4, positions=24), [[] for _ in rows]
    for chunk in ([1, 5, 3, 2], [1, 1, 0, 1], [1, 0, 1, 1], [4, 2, 0, 3], [0, 0, 1, 1], [1, 4, 3, 2]):
        for b, logits in enumerate(feed(model, cache, rows, chunk, garbage)):
            seen[b].append(logits)
    assert cache.lengths.tolist() == [8, 12, 8, 10]
    for b, parts in enumerate(seen):
        logits = torch.cat(parts)
        same(logits, full[b, :len(logits)])


def test_rows_taken_out_of_a_cache_go_on_alone_and_come_back():
    """Finished rows are left behind while the others go on. Mixed-up rows, or a cache that forgets what was appended
    meanwhile, would answer another row's question in turn 2."""
    model = make(GROUPED)
    rows = some_tokens(model.config, 4, 12)
    full, cache = model(rows), Cache(model, batch=4, positions=24)
    feed(model, cache, rows, [2, 4, 3, 1], 0)
    chosen = torch.tensor([3, 1])
    part = cache.take(chosen)
    assert part.lengths.tolist() == [1, 4]
    for b, logits in zip((3, 1), feed(model, part, rows[chosen], [3, 2], 0)):
        start = int(cache.lengths[b])
        same(logits, full[b, start:start + len(logits)])
    assert cache.lengths.tolist() == [2, 4, 3, 1], "what happens to a part is its own until it is put back"
    cache.put(chosen, part)
    assert cache.lengths.tolist() == [2, 6, 3, 4]
    for b, logits in enumerate(feed(model, cache, rows, [5, 2, 1, 4], 0)):
        start = int(cache.lengths[b]) - len(logits)
        same(logits, full[b, start:start + len(logits)])


def test_a_part_that_is_not_put_back_leaves_the_cache_as_it_was():
    """`take` promises a copy: a view would let one row write into its neighbour's past."""
    model = make(GROUPED)
    rows = some_tokens(model.config, 3, 10)
    cache = Cache(model, batch=3, positions=20)
    feed(model, cache, rows, [2, 2, 2], 0)
    part = cache.take(torch.tensor([0, 2]))
    feed(model, part, rows[[0, 2]], [4, 4], 0)
    for b, logits in enumerate(feed(model, cache, rows, [3, 3, 3], 0)):
        same(logits, model(rows)[b, 2:5])
