"""The turns as they are played, against a player that reads the whole row again for every token it says.

Two kinds of model: small random ones, and one that counts down (it says the digit below the last one, and END after
"0"), whose episodes can be written out by hand. Two kinds of ids: END is 0, as is the padding; or "0" is 0, so that the
padding looks like a word. One word is "10": whoever decodes an attempt and encodes it again gets other tokens.
"""
import random
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import tiktoken
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import rollout
from data import END, REQUEST, World, draw_problem, encode, world_tokenizer
from model import GPT, Cache, GPTConfig
from rollout import empty_episodes, generate, pad, two_turns


def digits(end_is_zero, words="0123456789"):
    """A tokenizer of single digits and the word "10"; END has id 0 or the last one."""
    words = [*words, "10"]
    ranks = {word.encode(): rank + end_is_zero for rank, word in enumerate(words)}
    return tiktoken.Encoding("digits", pat_str=r"\d+", mergeable_ranks=ranks,
                             special_tokens={END: 0 if end_is_zero else len(words)})


TOKENIZERS = {"END is 0": digits(True), "END is the last id": digits(False)}
both_tokenizers = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())


def ids_of(tokenizer, text):
    """Digit by digit, E for END."""
    return [tokenizer.encode_single_token(END if letter == "E" else letter) for letter in text]


def end_of(tokenizer):
    return tokenizer.encode_single_token(END)


def text_of(tokenizer, ids):
    return "".join(tokenizer.decode([token]).replace(END, "E") for token in ids)


@torch.no_grad()
def countdown(tokenizer):
    """A model without layers: the last token alone decides. "3" is followed by "2", "0" by END."""
    V = tokenizer.n_vocab
    model = GPT(GPTConfig(V, layers=0, width=V))
    model.embedding.weight.copy_(torch.eye(V))
    model.head.weight.zero_()
    for above, below in zip("9876543210", "876543210E"):
        model.head.weight[ids_of(tokenizer, below)[0], ids_of(tokenizer, above)[0]] = 20.0
    return model


def random_model(vocab_size, seed=0):
    """In float64: no rounding may decide what is the likeliest token."""
    torch.manual_seed(seed)
    return GPT(GPTConfig(vocab_size, layers=2, width=16, heads=2, kv_heads=1, head_width=8, hidden=16)).double()


def random_prompts(tokenizer, count, seed=0):
    """Of 1 to 7 digits."""
    rng = random.Random(seed)
    return [ids_of(tokenizer, rng.choices("0123456789", k=rng.randint(1, 7))) for _ in range(count)]


def rows_of(episodes):
    """(ids, turns, log-probs) of each row, cut at its length."""
    columns = (episodes.tokens.tolist(), episodes.turn.tolist(), episodes.log_probs.tolist(), episodes.lengths.tolist())
    return [(tokens[:n], turn[:n], log_probs[:n]) for tokens, turn, log_probs, n in zip(*columns)]


def watch(model):
    """From now on, the shape of every batch of tokens the model reads is kept in the list returned."""
    shapes, original = [], model.hidden

    def hidden(tokens, *rest, **named):
        shapes.append(tuple(tokens.shape))
        return original(tokens, *rest, **named)
    model.hidden = hidden
    return shapes


@torch.no_grad()
def play_slowly(model, end, prompt, request, max_new_tokens, turns):
    """One row, greedy, no cache, lists only: (tokens, turn, ended)."""
    tokens, turn, ended = list(prompt), [0] * len(prompt), []
    for i in range(1, turns + 1):
        given = [] if i == 1 else request if ended[-1] else [end] + request
        tokens, turn = tokens + given, turn + [0] * len(given)
        ended.append(False)
        for _ in range(max_new_tokens):
            tokens, turn = tokens + [int(model(torch.tensor([tokens]))[0, -1].argmax())], turn + [i]
            if tokens[-1] == end:
                ended[-1] = True
                break
    return tokens, turn, ended


# ---- who said what ---------------------------------------------------------------------------------------------------
@both_tokenizers
def test_episodes_written_out_by_hand(tokenizer):
    """Every kind of row: stopped, END as the very first token, cut off after 4 tokens (then END is given, not said),
    and prompts of other lengths. A mask made from ids would lose END where the padding is END, or "0" where that is.
    Each row is written with E for END, and beside it who said what."""
    prompts = [ids_of(tokenizer, text) for text in ("2", "0", "5", "983", "77")]
    played = two_turns(countdown(tokenizer), prompts, ids_of(tokenizer, "61"), end_of(tokenizer), max_new_tokens=4,
                       temperature=0.0)
    expected = [("2" "10E" "61" "0E",     "0" "111" "00" "22"),
                ("0" "E" "61" "0E",       "0" "1" "00" "22"),
                ("5" "4321" "E61" "0E",   "0" "1111" "000" "22"),
                ("983" "210E" "61" "0E",  "000" "1111" "00" "22"),
                ("77" "6543" "E61" "0E",  "00" "1111" "000" "22")]
    assert [(text_of(tokenizer, tokens), "".join(map(str, turn))) for tokens, turn, _ in rows_of(played)] == expected
    assert played.lengths.tolist() == [8, 6, 10, 11, 11]
    assert played.ended.tolist() == [[True, True], [True, True], [False, True], [True, True], [False, True]]
    for row, length in enumerate(played.lengths.tolist()):  # past the end, nobody says anything
        assert not played.tokens[row, length:].any() and not played.turn[row, length:].any()
    assert played.tokens.shape == played.turn.shape == played.log_probs.shape == (5, 11)


@both_tokenizers
def test_a_last_attempt_that_is_cut_off_stays_open(tokenizer):
    """An END that nobody said, behind the last attempt, would be trained for or graded as if it had been said."""
    prompt, request = ids_of(tokenizer, "1"), ids_of(tokenizer, "8")
    played = two_turns(countdown(tokenizer), [prompt], request, end_of(tokenizer), max_new_tokens=3, temperature=0.0)
    assert text_of(tokenizer, played.tokens[0].tolist()) == "1" "0E" "8" "765"
    assert played.ended.tolist() == [[True, False]]


@both_tokenizers
def test_the_attempts_as_text(tokenizer):
    """Neither END, nor the request, nor padding is part of an answer that gets graded."""
    prompts, request = [ids_of(tokenizer, text) for text in ("2", "0", "9")], ids_of(tokenizer, "65")
    played = two_turns(countdown(tokenizer), prompts, request, end_of(tokenizer), 3, temperature=0.0, turns=3)
    attempts = played.texts(tokenizer, end_of(tokenizer))
    assert attempts == [["10", "432", "432"], ["", "432", "432"], ["876", "432", "432"]]


@both_tokenizers
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_each_sampled_row_is_prompt_attempt_request_attempt(tokenizer, temperature):
    """The request trained as if it were said, y2 without y1 in front of it, y1 decoded and encoded again, tokens after
    END: none of them fits this shape. Checked row by row on 40 random conversations."""
    end, request, prompts = end_of(tokenizer), ids_of(tokenizer, "4207"), random_prompts(tokenizer, 40)
    played = two_turns(random_model(tokenizer.n_vocab), prompts, request, end, max_new_tokens=8,
                       temperature=temperature, generator=torch.Generator().manual_seed(0))
    assert 0 < played.ended[:, 0].sum() < 40, "both kinds of row must occur"
    for prompt, (tokens, turn, log_probs), ended in zip(prompts, rows_of(played), played.ended.tolist()):
        y1, y2 = ([token for token, said in zip(tokens, turn) if said == i] for i in (1, 2))
        given = request if ended[0] else [end] + request
        assert tokens == prompt + y1 + given + y2
        assert turn == [0] * len(prompt) + [1] * len(y1) + [0] * len(given) + [2] * len(y2)
        for attempt, stopped in zip((y1, y2), ended):
            assert stopped == (attempt[-1] == end) and end not in attempt[:-1]
            assert len(attempt) == 8 or stopped and len(attempt) < 8
        assert [log_prob != 0 for log_prob in log_probs] == [said > 0 for said in turn]


# ---- one row or many -------------------------------------------------------------------------------------------------
@both_tokenizers
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_every_row_of_a_batch_is_played_as_if_alone(tokenizer, turns):
    """Ragged prompts, rows that stop early and are left out of the batch, a cache that goes on: none of it may show.
    The oracle plays each row alone and reads everything again for every token."""
    end, request, prompts = end_of(tokenizer), ids_of(tokenizer, "58"), random_prompts(tokenizer, 16, seed=1)
    model = random_model(tokenizer.n_vocab, seed=25 if end else 14)  # two that often say END
    played = two_turns(model, prompts, request, end, max_new_tokens=6, temperature=0.0, turns=turns)
    alone = [play_slowly(model, end, prompt, request, 6, turns) for prompt in prompts]
    assert all(sum(stopped) > 8 for stopped in zip(*(ended for _, _, ended in alone))), "most rows must stop early"
    assert len({turn.count(1) for _, turn, _ in alone}) > 4, "and at different times"
    assert [(tokens, turn) for tokens, turn, _ in rows_of(played)] == [row[:2] for row in alone]
    assert played.ended.tolist() == [row[2] for row in alone]


def test_more_turns_begin_with_the_same_turns():
    """A third attempt is the same loop once more: what was said before it stays."""
    tokenizer = TOKENIZERS["END is 0"]
    model, prompts, request = random_model(tokenizer.n_vocab, 3), random_prompts(tokenizer, 16), ids_of(tokenizer, "58")
    two, three = (two_turns(model, prompts, request, end_of(tokenizer), 6, 0.0, turns=turns) for turns in (2, 3))
    assert three.ended.shape == (16, 3) and three.turn.max() == 3
    assert torch.equal(three.ended[:, :2], two.ended)
    for (tokens, turn, log_probs), (more_tokens, more_turn, more_log_probs) in zip(rows_of(two), rows_of(three)):
        assert more_tokens[:len(tokens)] == tokens and more_turn[:len(turn)] == turn
        assert more_log_probs[:len(tokens)] == pytest.approx(log_probs, abs=1e-5)


def test_arguments_stay_as_they_are():
    """Prompts are repeated once per sample and used again by the next evaluation."""
    tokenizer = TOKENIZERS["END is 0"]
    prompts, request = [[3], [7, 2]], [5]
    two_turns(countdown(tokenizer), prompts, request, end_of(tokenizer), 2, 0.0)
    assert prompts == [[3], [7, 2]] and request == [5]


# ---- what it costs ---------------------------------------------------------------------------------------------------
@both_tokenizers
def test_each_token_is_read_once(tokenizer):
    """Turn 2 goes on from turn 1's cache. One that reads x2 from the start costs twice as much and looks the same.
    A single row reads all its tokens but the last, each of them once."""
    for text in ("2", "0", "97531"):
        model = countdown(tokenizer)
        shapes = watch(model)
        prompt, request = ids_of(tokenizer, text), ids_of(tokenizer, "643")
        played = two_turns(model, [prompt], request, end_of(tokenizer), 5, 0.0, turns=3)
        assert sum(rows * length for rows, length in shapes) == int(played.lengths) - 1


@both_tokenizers
def test_rows_that_were_left_behind_read_nothing_again(tokenizer):
    """The same for a batch whose rows stop one after the other: what a row read while the batch had shrunk is kept too.
    All that is ever read at once is the prompt, or a row's last token, an END given to it, and the request."""
    model, request = countdown(tokenizer), ids_of(tokenizer, "643")
    shapes = watch(model)
    for digits_last, widths in (("7654321000", [3, 4, 4]), ("9321000", [3, 5, 4])):  # "9" talks on alone and is cut off
        shapes.clear()
        prompts = [ids_of(tokenizer, "55" + digit) for digit in digits_last]
        two_turns(model, prompts, request, end_of(tokenizer), 8, 0.0, turns=3)
        assert [length for _, length in shapes if length > 1] == widths


def test_finished_rows_are_left_behind():
    """One row that never stops must not make 63 finished ones be computed to the end. At no step may more than two rows
    be read for each one that is still talking, and after the last END nothing is read."""
    tokenizer = TOKENIZERS["END is the last id"]
    model, lengths = countdown(tokenizer), [1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 4, 8]  # tokens of y1: "0" says 1, "7" says 8
    shapes = watch(model)
    two_turns(model, [ids_of(tokenizer, str(n - 1)) for n in lengths], [], end_of(tokenizer), 50, 0.0, turns=1)
    assert len(shapes) == 8
    for step, (rows, _) in enumerate(shapes):
        assert rows <= 2 * sum(n > step for n in lengths), f"step {step} of {shapes}"


# ---- the sampler -----------------------------------------------------------------------------------------------------
@both_tokenizers
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_the_samplers_log_probs_are_those_of_a_full_forward(tokenizer, temperature):
    """If sampler and learner disagree in temperature, positions or padding, the gradient is that of another policy.
    The oracle is one pass over each whole row, alone, without a cache."""
    model, request = random_model(tokenizer.n_vocab), ids_of(tokenizer, "58")
    played = two_turns(model, random_prompts(tokenizer, 24), request, end_of(tokenizer), 6, temperature,
                       torch.Generator().manual_seed(1))
    for tokens, turn, log_probs in rows_of(played):
        with torch.no_grad():
            expected = torch.log_softmax(model(torch.tensor([tokens]))[0] / temperature, dim=-1)
        for t in range(1, len(tokens)):
            assert log_probs[t] == pytest.approx(float(expected[t - 1, tokens[t]]) if turn[t] else 0.0, abs=1e-4)


def test_log_probs_in_the_worlds_own_words():
    """The same through the world's tokenizer, in float32 and padded to one width, as the training loop has it."""
    world, rng = World(), random.Random(0)
    tokenizer = world_tokenizer(world)
    torch.manual_seed(0)
    model = GPT(GPTConfig(tokenizer.n_vocab, layers=2, width=32, heads=2, kv_heads=2))
    prompts = [encode(tokenizer, draw_problem(world, rng, "train").question) for _ in range(32)]
    request, generator = encode(tokenizer, REQUEST), torch.Generator().manual_seed(0)
    played = two_turns(model, prompts, request, end_of(tokenizer), 30, 1.0, generator)
    assert 0 < played.ended.sum() < 64
    with torch.no_grad():
        policy = torch.log_softmax(model(played.tokens[:, :-1]), dim=-1)
    log_probs = policy.gather(2, played.tokens[:, 1:, None])[..., 0] * (played.turn[:, 1:] > 0)
    torch.testing.assert_close(played.log_probs[:, 1:], log_probs, rtol=0, atol=1e-4)
    assert not played.log_probs.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0])
def test_attempts_are_drawn_as_often_as_they_are_likely(temperature):
    """Top-k left on, a temperature applied twice, rows that share a draw: the words look right, their rates do not.
    Every attempt of at most 2 tokens over {END, 0, 1, 10} has its exact probability; 6,000 are drawn.
    Chi-square with 12 degrees of freedom exceeds 40 once in 10,000 seeds, and the seed is fixed."""
    tokenizer, draws = digits(True, words="01"), 6000
    model, end = random_model(tokenizer.n_vocab, seed=5), 0
    prompt = ids_of(tokenizer, "0110")
    after = lambda said: torch.softmax(model(torch.tensor([prompt + said]))[0, -1] / temperature, dim=-1).tolist()
    first = after([])
    likely = {(end,): first[end]} | {(a, b): first[a] * p for a in (1, 2, 3) for b, p in enumerate(after([a]))}
    generator = torch.Generator().manual_seed(0)
    played = two_turns(model, [prompt] * draws, [], end, 2, temperature, generator, turns=1)
    counts = dict.fromkeys(likely, 0)
    for tokens, turn, _ in rows_of(played):
        counts[tuple(token for token, said in zip(tokens, turn) if said)] += 1
    assert len(likely) == 13 and sum(likely.values()) == pytest.approx(1.0)
    assert sum((counts[y] - draws * p) ** 2 / (draws * p) for y, p in likely.items()) < 40, (counts, likely)


def test_same_generator_same_episodes():
    """A draw from the global generator, and a run can never be repeated or resumed."""
    tokenizer = TOKENIZERS["END is 0"]
    model, prompts, request = random_model(tokenizer.n_vocab), random_prompts(tokenizer, 16), ids_of(tokenizer, "58")

    def played(seed, global_seed):
        torch.manual_seed(global_seed)
        return two_turns(model, prompts, request, end_of(tokenizer), 6, 1.0, torch.Generator().manual_seed(seed))
    first, again, other = played(0, 1), played(0, 2), played(1, 1)
    assert rows_of(first) == rows_of(again) != rows_of(other)


# ---- the parts -------------------------------------------------------------------------------------------------------
@both_tokenizers
def test_generate_goes_on_where_it_stopped(tokenizer):
    """generate leaves each row's last token unread, so 3 tokens and 4 more must be the 7 of one call, row by row.
    Rows that said END in the first call are not asked again."""
    model, end = random_model(tokenizer.n_vocab, seed=4), end_of(tokenizer)
    tokens, counts = pad(random_prompts(tokenizer, 12), torch.device("cpu"))
    once, lengths, _, ended = generate(model, Cache(model, 12, 40), tokens, counts, end, 7, 0.0)
    cache = Cache(model, 12, 40)
    new, said, _, stopped = generate(model, cache, tokens, counts, end, 3, 0.0)
    assert cache.lengths.tolist() == (counts + said - 1).tolist()
    going = (~stopped).nonzero()[:, 0]
    assert 0 < len(going) < 12
    part, last = cache.take(going), new[going, -1:]
    more, more_said, _, more_stopped = generate(model, part, last, torch.ones_like(going), end, 4, 0.0)
    together = [row[:n] for row, n in zip(new.tolist(), said.tolist())]
    for row, tail, n, stop in zip(going.tolist(), more.tolist(), more_said.tolist(), more_stopped.tolist()):
        together[row] += tail[:n]
        stopped[row] = stop
    assert together == [row[:n] for row, n in zip(once.tolist(), lengths.tolist())]
    assert torch.equal(stopped, ended)


@pytest.mark.parametrize("seed", range(10))
def test_append_against_lists(seed):
    """One column off, and the turn mask trains the request. Rows grow by different counts, some of them 0."""
    rng, batch = random.Random(seed), 4
    episodes = empty_episodes(batch, 40, 2, torch.device("cpu"))
    expected = [([], [], []) for _ in range(batch)]
    for turn in (0, 1, 0, 2, 0):
        width = rng.randint(1, 6)
        counts = [rng.randint(0, width) for _ in range(batch)]
        new = torch.tensor([[rng.randint(0, 9) for _ in range(width)] for _ in range(batch)])
        log_probs = -torch.rand(batch, width) if turn else None
        kept = new.clone()
        episodes.append(new, torch.tensor(counts), turn, log_probs)
        assert torch.equal(new, kept)
        for b, (tokens, turns, logs) in enumerate(expected):
            tokens += new[b, :counts[b]].tolist()
            turns += [turn] * counts[b]
            logs += log_probs[b, :counts[b]].tolist() if turn else [0.0] * counts[b]
    assert rows_of(episodes) == expected
    for b, length in enumerate(episodes.lengths.tolist()):
        assert not any(tensor[b, length:].any() for tensor in (episodes.tokens, episodes.turn, episodes.log_probs))


def test_pad_keeps_every_row_and_its_length():
    """A row that ends in the padding's own id is as long as it says, not as it looks."""
    tokens, counts = pad([[5, 0], [1], [0, 0, 0]], torch.device("cpu"))
    assert tokens.tolist() == [[5, 0, 0], [1, 0, 0], [0, 0, 0]] and counts.tolist() == [2, 1, 3]


# ---- a recorded step -------------------------------------------------------------------------------------------------
class Recording(TorchDispatchMode):
    """What a CUDA graph is, on a CPU: it notes every operation with the tensors it read and wrote, and repeats them
    on the same memory. No line of Python between them is repeated."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, inputs=(), options=None):
        result = function(*inputs, **(options or {}))
        self.operations.append((function, inputs, options or {}, result))
        return result

    def replay(self):
        for function, inputs, options, result in self.operations:
            for old, new in zip(tree_leaves(result), tree_leaves(function(*inputs, **options))):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def graphs(monkeypatch):
    """rollout.recorded with recordings in place of CUDA's graphs; the list of them."""
    made = []
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: made.append(Recording()) or made[-1])
    monkeypatch.setattr(torch.cuda, "graph", lambda graph: graph)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    for name in ("current_stream", "Stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: SimpleNamespace(wait_stream=lambda other: None))
    monkeypatch.setattr(rollout, "GRAPHS_ON", "cpu")
    return made


@both_tokenizers
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_recorded_steps_say_the_same(tokenizer, graphs, temperature):
    """Rows of different lengths that end at different times: a mask, a position or a length that Python computes in
    each step would stand still in a recording. Every half of the rows is recorded anew, as is the second turn."""
    model, rng = random_model(tokenizer.n_vocab, seed=1), random.Random(0)
    prompts = [[rng.randrange(tokenizer.n_vocab) for _ in range(rng.randint(1, 9))] for _ in range(16)]
    play = lambda: two_turns(model, prompts, [1, 2], end_of(tokenizer), 90, temperature,
                             torch.Generator().manual_seed(3), turns=3)
    with_graphs = play()
    assert len(graphs) >= 3 and all(graph.operations for graph in graphs)
    rollout.GRAPHS_ON = "cuda"
    without = play()
    assert torch.equal(with_graphs.tokens, without.tokens) and torch.equal(with_graphs.turn, without.turn)
    assert torch.equal(with_graphs.ended, without.ended)
    torch.testing.assert_close(with_graphs.log_probs, without.log_probs)


def test_short_attempts_are_not_recorded(graphs):
    tokenizer = TOKENIZERS["END is 0"]
    two_turns(random_model(tokenizer.n_vocab), [[1], [2, 3]], [1], 0, rollout.GRAPHS_FROM, 0.0)
    assert graphs == []
