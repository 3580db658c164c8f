"""The decoder against a slow one written here in loops over positions and heads, and its cache
against itself.

Everything runs in float64, so that a difference is a mistake and no rounding.
"""

import cmath
import copy
import math

import pytest
import torch

import model as ours
from model import GPT, Cache, GPTConfig

SHAPES = {
    "plain": GPTConfig(11, layers=2, width=12, heads=3, kv_heads=3, head_width=4, hidden=10),
    "grouped queries, bias, tied": GPTConfig(
        11,
        layers=2,
        width=12,
        heads=4,
        kv_heads=2,
        head_width=6,
        hidden=10,
        rope_theta=50.0,
        norm_eps=1e-2,
        qkv_bias=True,
        tied=True,
    ),
    "one key head": GPTConfig(
        7, layers=1, width=8, heads=4, kv_heads=1, head_width=2, hidden=4, rope_theta=3.0
    ),
    "query and key norms": GPTConfig(
        11,
        layers=2,
        width=12,
        heads=4,
        kv_heads=2,
        head_width=4,
        hidden=10,
        norm_eps=1e-2,
        qk_norm=True,
    ),
    "stretched positions": GPTConfig(
        11,
        layers=1,
        width=12,
        heads=2,
        kv_heads=2,
        head_width=6,
        hidden=10,
        rope_theta=20.0,
        rope_scaling=(8.0, 0.5, 2.0, 10.0),
    ),
}
GROUPED = SHAPES["grouped queries, bias, tied"]


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def make(config, seed=0):
    """A model with every weight random, the norms' and biases' too: a factor of 1 and a term of 0
    hide mistakes."""
    torch.manual_seed(seed)
    model = GPT(config).double()
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.normal_(1.0, 0.3)
    return model


def some_tokens(config, rows, length, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (rows, length), generator=generator)


def same(a, b):
    return torch.testing.assert_close(a, b, rtol=0, atol=1e-5)  # the angles are float32


# ---- a decoder, slowly ---------------------------------------------------------------------------
def normed(x, weight, eps):
    return x / math.sqrt(sum(float(v) ** 2 for v in x) / len(x) + eps) * weight


def slowed(frequency, scaling):
    """Llama 3's rule for one frequency, by its three cases."""
    if scaling is None:
        return frequency
    factor, low, high, original = scaling
    turns = original / (2 * math.pi / frequency)  # how often the wave fits into the text
    if turns >= high:
        return frequency
    if turns <= low:
        return frequency / factor
    share = (turns - low) / (high - low)
    return share * frequency + (1 - share) * frequency / factor


def turned(x, position, config):
    """Pair (i, i + d/2) as a complex number, times e^(i * angle)."""
    half = len(x) // 2
    pairs = []
    for i in range(half):
        frequency = slowed(config.rope_theta ** (-2 * i / len(x)), config.rope_scaling)
        pairs.append(complex(x[i], x[i + half]) * cmath.exp(1j * position * frequency))
    return torch.tensor([z.real for z in pairs] + [z.imag for z in pairs], dtype=x.dtype)


def slow_logits(model, tokens):
    """Logits of one row of tokens, a position at a time; memory holds each layer's earlier keys and
    values."""
    c, w = model.config, model.state_dict()
    memory = [([], []) for _ in range(c.layers)]
    logits = []
    for position, token in enumerate(tokens):
        x = w["embedding.weight"][token]
        for layer, (keys, values) in enumerate(memory):
            block = {name: w[f"blocks.{layer}.{name}"] for name in block_names(c)}
            x = x + slow_attention(c, block, x, position, keys, values)
            y = normed(x, block["norm2.weight"], c.norm_eps)
            gate, up = (block["gate_up.weight"] @ y).split(c.hidden)
            x = x + block["down.weight"] @ (gate / (1 + torch.exp(-gate)) * up)
        head = w["embedding.weight"] if c.tied else w["head.weight"]
        logits.append(head @ normed(x, w["norm.weight"], c.norm_eps))
    return torch.stack(logits)


def block_names(c):
    layers = "norm1 attention.qkv attention.out norm2 gate_up down".split()
    if c.qk_norm:
        layers += ["attention.q_norm", "attention.k_norm"]
    names = [f"{layer}.weight" for layer in layers]
    return names + ["attention.qkv.bias"] if c.qkv_bias else names


def slow_attention(c, block, x, position, keys, values):
    """One token's attention; its keys and values are appended to those of the earlier ones."""
    qkv = block["attention.qkv.weight"] @ normed(x, block["norm1.weight"], c.norm_eps)
    if c.qkv_bias:
        qkv = qkv + block["attention.qkv.bias"]
    heads = list(qkv.split(c.head_width))
    queries, new_keys = heads[: c.heads], heads[c.heads : c.heads + c.kv_heads]
    if c.qk_norm:
        queries = [normed(q, block["attention.q_norm.weight"], c.norm_eps) for q in queries]
        new_keys = [normed(k, block["attention.k_norm.weight"], c.norm_eps) for k in new_keys]
    queries = [turned(q, position, c) for q in queries]
    keys.append([turned(k, position, c) for k in new_keys])
    values.append(heads[c.heads + c.kv_heads :])
    mixed = []
    for head, query in enumerate(queries):
        shared = head // (c.heads // c.kv_heads)  # neighbouring queries share a key
        scores = []
        for key in keys:
            scores.append(math.exp(float(query @ key[shared]) / math.sqrt(c.head_width)))
        weighed = [score / sum(scores) * value[shared] for score, value in zip(scores, values)]
        mixed.append(sum(weighed))
    return block["attention.out.weight"] @ torch.cat(mixed)


@pytest.mark.parametrize("name", SHAPES)
def test_logits_equal_those_of_a_decoder_written_in_loops(name):
    """A rotation the wrong way, queries paired with the wrong key, gate and up swapped: such a
    model still learns, and then no checkpoint of the family it claims to be would load into it."""
    model = make(SHAPES[name])
    tokens = some_tokens(model.config, 2, 9)
    same(model(tokens), torch.stack([slow_logits(model, row) for row in tokens.tolist()]))


@pytest.mark.parametrize("name", SHAPES)
def test_a_later_token_changes_no_earlier_logit(name):
    """A model that sees the token it is asked for learns to copy it, and is helpless when
    sampled."""
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
    """Without positions a single layer reads a bag of tokens: 1, 2, 3 would be the same as
    2, 1, 3."""
    model = make(SHAPES["one key head"])
    one, other = (model(torch.tensor([order]))[:, -1] for order in ([1, 2, 3], [2, 1, 3]))
    assert not torch.allclose(one, other)


def test_only_the_distance_of_two_tokens_counts():
    """Positions that are not turned as one angle each (another sign for keys, another theta) would
    make the same words mean something else further down the text."""
    torch.manual_seed(0)
    q, k = torch.randn(2, 6, dtype=torch.double)
    scores = []
    for first, second in ((0, 3), (50, 53), (400, 403)):
        cos, sin = ours.rotary(torch.tensor([first, second]), head_width=6, theta=100.0)
        scores.append(ours.rotate(k, cos[0], sin[0]) @ ours.rotate(q, cos[1], sin[1]))
    assert scores[0] == pytest.approx(scores[1].item(), abs=1e-4)
    assert scores[0] == pytest.approx(scores[2].item(), abs=1e-4)
    assert scores[0] != pytest.approx((q @ k).item(), abs=1e-2)


def test_a_tied_head_is_the_embedding():
    """Two copies that begin alike drift apart with the first step, or after the copy that serves as
    reference."""
    for model in (make(GROUPED), copy.deepcopy(make(GROUPED))):
        model.embedding.weight.add_(1.0)
        assert torch.equal(model.head.weight, model.embedding.weight)

    def count(tied):
        model = GPT(GPTConfig(vocab_size=11, tied=tied))
        return sum(weight.numel() for weight in model.parameters())

    assert count(False) - count(True) == 11 * 64


def test_the_first_weights_are_as_large_as_the_depth_needs():
    """Too large, and the first steps of training are lost to a wild start; too small, and they are
    lost to a slow one: every matrix keeps the size of what it reads, the embedding is small."""
    torch.manual_seed(0)
    config = GPTConfig(500, layers=1, width=100, heads=5, kv_heads=5, head_width=40, hidden=400)
    weights = dict(GPT(config).named_parameters())
    expected = {  # 1 / sqrt(columns)
        "embedding.weight": 0.02,
        "blocks.0.attention.qkv.weight": 100**-0.5,
        "blocks.0.attention.out.weight": 200**-0.5,
        "blocks.0.gate_up.weight": 100**-0.5,
        "blocks.0.down.weight": 400**-0.5,
        "head.weight": 100**-0.5,
    }
    for name, std in expected.items():
        assert weights.pop(name).std().item() == pytest.approx(std, rel=0.03), name
    assert len(weights) == 3
    assert all((weight == 1).all() for weight in weights.values()), "the norms"


def test_recomputing_changes_memory_and_no_gradient():
    """What --recompute leaves out of memory must come back the same, for every block."""
    kept, gradients = {}, {}
    for recompute in (False, True):
        model = make(GROUPED)
        model.recompute = recompute
        kept[recompute] = []

        def keep(tensor):
            kept[recompute].append(tensor)
            return tensor

        with torch.enable_grad():
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = model(some_tokens(GROUPED, 2, 9)).logsumexp(dim=-1).sum()
            loss.backward()
        gradients[recompute] = [weight.grad for weight in model.parameters()]
    assert len(kept[True]) < len(kept[False]) / 3
    for plain, recomputed in zip(gradients[False], gradients[True]):
        assert torch.equal(plain, recomputed)


# ---- the cache -----------------------------------------------------------------------------------
@pytest.mark.parametrize("chunks", [[1] * 9, [9], [3, 1, 5], [1, 8], [4, 4, 1]])
@pytest.mark.parametrize("name", SHAPES)
def test_a_few_tokens_at_a_time_equal_the_full_forward(name, chunks):
    """Sampling reads through the cache, learning in one pass: any difference trains another policy
    than was sampled. The cache has room for exactly these tokens."""
    model = make(SHAPES[name])
    tokens = some_tokens(model.config, 3, 9)
    cache = Cache(model, batch=3, positions=9)
    parts = [model(part, cache) for part in tokens.split(chunks, dim=1)]
    same(torch.cat(parts, dim=1), model(tokens))
    assert cache.lengths.tolist() == [9, 9, 9]


def feed(model, cache, rows, chunk, garbage):
    """Next chunk[b] tokens of each row, padded with garbage to one width. Returns the logits of the
    real ones."""
    starts = cache.lengths.tolist()
    tokens = torch.full((len(rows), max(chunk)), garbage)
    for b, (row, start, count) in enumerate(zip(rows, starts, chunk)):
        tokens[b, :count] = row[start : start + count]
    logits = model(tokens, cache, torch.tensor(chunk))
    return [logits[b, :count] for b, count in enumerate(chunk)]


@pytest.mark.parametrize("garbage", [0, 5])
@pytest.mark.parametrize("name", SHAPES)
def test_rows_of_different_lengths_share_a_cache(name, garbage):
    """What is written past a row's end must never be read: it is overwritten by the row's next
    tokens. Prompts of different lengths, rows that pause and rows that go on, as in sampling."""
    model = make(SHAPES[name])
    rows = some_tokens(model.config, 4, 12)
    full = model(rows)
    cache, seen = Cache(model, batch=4, positions=24), [[] for _ in rows]
    chunks = ([1, 5, 3, 2], [1, 1, 0, 1], [1, 0, 1, 1], [4, 2, 0, 3], [0, 0, 1, 1], [1, 4, 3, 2])
    for chunk in chunks:
        for b, logits in enumerate(feed(model, cache, rows, chunk, garbage)):
            seen[b].append(logits)
    assert cache.lengths.tolist() == [8, 12, 8, 10]
    for b, parts in enumerate(seen):
        logits = torch.cat(parts)
        same(logits, full[b, : len(logits)])


def test_a_cache_needs_room_for_its_rows_and_not_for_all_that_was_fed():
    """Rows that take turns: ten tokens were fed, five to each row, and six positions are enough. A
    mask that is wider than the cache fits no keys."""
    model = make(GROUPED)
    rows = some_tokens(model.config, 2, 5)
    full, cache = model(rows), Cache(model, batch=2, positions=6)
    for step in range(10):
        chunk = [1, 0] if step % 2 == 0 else [0, 1]
        b = step % 2
        same(feed(model, cache, rows, chunk, 0)[b][0], full[b, step // 2])


def test_rows_taken_out_of_a_cache_go_on_alone_and_come_back():
    """Finished rows are left behind while the others go on. Mixed-up rows, or a cache that forgets
    what was appended meanwhile, would answer another row's question in turn 2."""
    model = make(GROUPED)
    rows = some_tokens(model.config, 4, 12)
    full, cache = model(rows), Cache(model, batch=4, positions=24)
    feed(model, cache, rows, [2, 4, 3, 1], 0)
    chosen = torch.tensor([3, 1])
    part = cache.take(chosen)
    assert part.lengths.tolist() == [1, 4]
    for b, logits in zip((3, 1), feed(model, part, rows[chosen], [3, 2], 0)):
        start = int(cache.lengths[b])
        same(logits, full[b, start : start + len(logits)])
    assert cache.lengths.tolist() == [2, 4, 3, 1], "a part is its own until it is put back"
    cache.put(chosen, part)
    assert cache.lengths.tolist() == [2, 6, 3, 4]
    for b, logits in enumerate(feed(model, cache, rows, [5, 2, 1, 4], 0)):
        start = int(cache.lengths[b]) - len(logits)
        same(logits, full[b, start : start + len(logits)])


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


def test_a_cache_that_gets_a_part_back_sees_all_of_it():
    """A part that went on for longer than the whole cache had come: with the old end, the mask cuts
    off the newest of its tokens."""
    model = make(GROUPED)
    rows = some_tokens(model.config, 2, 10)
    cache = Cache(model, batch=2, positions=10)
    feed(model, cache, rows, [1, 2], 0)
    chosen = torch.tensor([1])
    part = cache.take(chosen)
    feed(model, part, rows[chosen], [7], 0)
    cache.put(chosen, part)
    _, logits = feed(model, cache, rows, [1, 1], 0)
    same(logits[0], model(rows)[1, 9])
