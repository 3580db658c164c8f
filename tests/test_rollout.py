"""The turns as they are played, against a player that reads the whole row again for every token it
says, and the parts they are made of, against plain lists.

Two kinds of model: small random ones, and one that counts down (it says the digit below the last
one, and END after "0"), whose episodes can be written out by hand. Two kinds of ids: END is 0, as
is the padding; or "0" is 0, so that the padding looks like a word. One word is "10": whoever
decodes an attempt and encodes it again gets other tokens.
"""

import math
import random
from types import SimpleNamespace

import pytest
import tiktoken
import torch

import rollout
from model import GPT, Cache, GPTConfig
from rollout import Scene, empty_episodes, generate, given_episodes, pad, sample, two_turns
from world import END, REQUEST, Problem, Task, World, draw_problem, encode, world_tokenizer

CPU = torch.device("cpu")


def digits(end_is_zero, words="0123456789"):
    """A tokenizer of single digits and the word "10"; END has id 0 or the last one."""
    words = [*words, "10"]
    ranks = {word.encode(): rank + end_is_zero for rank, word in enumerate(words)}
    end = 0 if end_is_zero else len(words)
    return tiktoken.Encoding(
        "digits", pat_str=r"\d+", mergeable_ranks=ranks, special_tokens={END: end}
    )


END_FIRST = digits(True)
TOKENIZERS = {"END is 0": END_FIRST, "END is the last id": digits(False)}
both_tokenizers = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS.keys())


def ids_of(tokenizer, text):
    """Digit by digit, E for END."""
    ids = []
    for letter in text:
        ids.append(tokenizer.encode_single_token(END if letter == "E" else letter))
    return ids


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
        (row,) = ids_of(tokenizer, below)
        (column,) = ids_of(tokenizer, above)
        model.head.weight[row, column] = 20.0
    return model


def random_model(vocab_size, seed=0):
    """In float64: no rounding may decide what is the likeliest token."""
    torch.manual_seed(seed)
    shape = GPTConfig(vocab_size, layers=2, width=16, heads=2, kv_heads=1, head_width=8, hidden=16)
    return GPT(shape).double()


def random_prompts(tokenizer, count, seed=0):
    """Of 1 to 7 digits."""
    rng = random.Random(seed)
    prompts = []
    for _ in range(count):
        prompts.append(ids_of(tokenizer, rng.choices("0123456789", k=rng.randint(1, 7))))
    return prompts


def generator_of(seed):
    return torch.Generator().manual_seed(seed)


def rows_of(episodes):
    """(ids, turns, log-probs) of each row, cut at its length."""
    rows = []
    for b, n in enumerate(episodes.lengths.tolist()):
        columns = (episodes.tokens[b], episodes.turn[b], episodes.log_probs[b])
        rows.append(tuple(column[:n].tolist() for column in columns))
    return rows


def written(tokenizer, episodes):
    """Each row as text, and beside it who said what: a letter a token, "a" for -1 and "b" for -2
    (somebody else, in place of attempt 1 or 2)."""
    letters = {0: "0", 1: "1", 2: "2", -1: "a", -2: "b"}
    rows = []
    for tokens, turn, _ in rows_of(episodes):
        rows.append((text_of(tokenizer, tokens), "".join(letters[said] for said in turn)))
    return rows


def watch(model):
    """From now on, the shape of every batch of tokens the model reads is in the list returned."""
    shapes = []
    original = model.hidden

    def hidden(tokens, *rest, **named):
        shapes.append(tuple(tokens.shape))
        return original(tokens, *rest, **named)

    model.hidden = hidden
    return shapes


@torch.no_grad()
def play_slowly(model, end, prompt, request, max_new_tokens, turns):
    """One row, greedy, no cache, lists only: (tokens, turn, ended)."""
    tokens = list(prompt)
    turn = [0] * len(prompt)
    ended = []
    for i in range(1, turns + 1):
        given = []
        if i > 1:
            given = request if ended[-1] else [end] + request
        tokens += given
        turn += [0] * len(given)
        ended.append(False)
        for _ in range(max_new_tokens):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
            turn.append(i)
            if tokens[-1] == end:
                ended[-1] = True
                break
    return tokens, turn, ended


# ---- who said what -------------------------------------------------------------------------------
@both_tokenizers
def test_episodes_written_out_by_hand(tokenizer):
    """Catches a mask made from ids, which loses END where the padding is END, or "0" where that is;
    an END that is not said, or said although it was given; a request that is trained.

    Every kind of row: stopped, END as the very first token, cut off after 4 tokens (then END is
    given, not said), and prompts of other lengths.
    """
    prompts = [ids_of(tokenizer, text) for text in ("2", "0", "5", "983", "77")]
    request = ids_of(tokenizer, "61")
    model = countdown(tokenizer)
    played = two_turns(model, prompts, request, end_of(tokenizer), 4, temperature=0.0)
    assert written(tokenizer, played) == [
        ("2" "10E" "61" "0E", "0" "111" "00" "22"),
        ("0" "E" "61" "0E", "0" "1" "00" "22"),
        ("5" "4321" "E61" "0E", "0" "1111" "000" "22"),
        ("983" "210E" "61" "0E", "000" "1111" "00" "22"),
        ("77" "6543" "E61" "0E", "00" "1111" "000" "22"),
    ]
    assert played.lengths.tolist() == [8, 6, 10, 11, 11]
    cut_first = [False, True]
    both_ended = [True, True]
    assert played.ended.tolist() == [both_ended, both_ended, cut_first, both_ended, cut_first]
    for row, length in enumerate(played.lengths.tolist()):  # past the end, nobody says anything
        assert not played.tokens[row, length:].any() and not played.turn[row, length:].any()
    assert played.tokens.shape == played.turn.shape == played.log_probs.shape == (5, 11)


@both_tokenizers
def test_a_last_attempt_that_is_cut_off_stays_open(tokenizer):
    """Catches an END that nobody said behind the last attempt, trained for or graded as if it had
    been said."""
    prompt = ids_of(tokenizer, "1")
    request = ids_of(tokenizer, "8")
    model = countdown(tokenizer)
    played = two_turns(model, [prompt], request, end_of(tokenizer), 3, temperature=0.0)
    assert written(tokenizer, played) == [("1" "0E" "8" "765", "0" "11" "0" "222")]
    assert played.ended.tolist() == [[True, False]]


@both_tokenizers
def test_the_attempts_as_text(tokenizer):
    """Catches an END, a request or padding that is part of an answer that gets graded."""
    prompts = [ids_of(tokenizer, text) for text in ("2", "0", "9")]
    request = ids_of(tokenizer, "65")
    end = end_of(tokenizer)
    played = two_turns(countdown(tokenizer), prompts, request, end, 3, temperature=0.0, turns=3)
    attempts = played.texts(tokenizer, end)
    assert attempts == [["10", "432", "432"], ["", "432", "432"], ["876", "432", "432"]]


@both_tokenizers
@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_each_sampled_row_is_prompt_attempt_request_attempt(tokenizer, temperature):
    """Catches a request trained as if it were said, y2 without y1 in front of it, y1 decoded and
    encoded again, and tokens after END: none of them fits this shape, in 40 conversations."""
    end = end_of(tokenizer)
    request = ids_of(tokenizer, "4207")
    prompts = random_prompts(tokenizer, 40)
    model = random_model(tokenizer.n_vocab)
    played = two_turns(model, prompts, request, end, 8, temperature, generator_of(0))
    assert 0 < played.ended[:, 0].sum() < 40, "both kinds of row must occur"
    rows = zip(prompts, rows_of(played), played.ended.tolist())
    for prompt, (tokens, turn, log_probs), ended in rows:
        y1 = [token for token, said in zip(tokens, turn) if said == 1]
        y2 = [token for token, said in zip(tokens, turn) if said == 2]
        given = request if ended[0] else [end] + request
        assert tokens == prompt + y1 + given + y2
        assert turn == [0] * len(prompt) + [1] * len(y1) + [0] * len(given) + [2] * len(y2)
        for attempt, stopped in zip((y1, y2), ended):
            assert stopped == (attempt[-1] == end) and end not in attempt[:-1]
            assert len(attempt) == 8 or stopped and len(attempt) < 8
        assert [log_prob != 0 for log_prob in log_probs] == [said > 0 for said in turn]


# ---- one row or many -----------------------------------------------------------------------------
@both_tokenizers
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_every_row_of_a_batch_is_played_as_if_alone(tokenizer, turns):
    """Catches ragged prompts, rows that stop early and are left out of the batch, or a cache that
    goes on, wherever they show: the oracle plays each row alone and reads everything again for
    every token."""
    end = end_of(tokenizer)
    request = ids_of(tokenizer, "58")
    prompts = random_prompts(tokenizer, 16, seed=1)
    model = random_model(tokenizer.n_vocab, seed=25 if end else 14)  # two that often say END
    played = two_turns(model, prompts, request, end, 6, temperature=0.0, turns=turns)
    alone = [play_slowly(model, end, prompt, request, 6, turns) for prompt in prompts]
    for turn in range(turns):
        assert sum(ended[turn] for _, _, ended in alone) > 8, "most rows must stop early"
    assert len({turn.count(1) for _, turn, _ in alone}) > 4, "and at different times"
    assert [row[:2] for row in rows_of(played)] == [row[:2] for row in alone]
    assert played.ended.tolist() == [row[2] for row in alone]


def test_more_turns_begin_with_the_same_turns():
    """Catches a third attempt that is another loop: what was said before it must stay."""
    tokenizer = END_FIRST
    model = random_model(tokenizer.n_vocab, seed=3)
    prompts = random_prompts(tokenizer, 16)
    request = ids_of(tokenizer, "58")
    two = two_turns(model, prompts, request, end_of(tokenizer), 6, 0.0, turns=2)
    three = two_turns(model, prompts, request, end_of(tokenizer), 6, 0.0, turns=3)
    assert three.ended.shape == (16, 3) and three.turn.max() == 3
    assert torch.equal(three.ended[:, :2], two.ended)
    for (tokens, turn, log_probs), more in zip(rows_of(two), rows_of(three)):
        n = len(tokens)
        more_tokens, more_turn, more_log_probs = more
        assert more_tokens[:n] == tokens and more_turn[:n] == turn
        assert more_log_probs[:n] == pytest.approx(log_probs, abs=1e-5)


def test_arguments_stay_as_they_are():
    """Catches a prompt or request that grows: they are used again for the next sample, and by the
    next evaluation."""
    tokenizer = END_FIRST
    prompts = [[3], [7, 2]]
    request = [5]
    two_turns(countdown(tokenizer), prompts, request, end_of(tokenizer), 2, 0.0)
    assert prompts == [[3], [7, 2]] and request == [5]


def test_an_empty_prompt_is_refused():
    """Catches a row that has nothing to read: its first word would come from padding."""
    with pytest.raises(AssertionError, match="empty prompt"):
        two_turns(countdown(END_FIRST), [[3], []], [5], 0, 2, 0.0)


# ---- attempt 1 of somebody else ------------------------------------------------------------------
@both_tokenizers
def test_given_first_attempts_by_hand(tokenizer):
    """Catches given attempts that are trained, played again, closed although they ended, or counted
    as ended although they were cut (then no `end` would be given before the request)."""
    prompts = [ids_of(tokenizer, text) for text in ("2", "5", "0")]
    request = ids_of(tokenizer, "61")
    end = end_of(tokenizer)
    model = countdown(tokenizer)
    first = two_turns(model, prompts, request, end, 4, 0.0, turns=1)
    before = written(tokenizer, first)
    played = two_turns(model, prompts, request, end, 1, 0.0, first=first)
    assert written(tokenizer, played) == [
        ("2" "10E" "61" "0", "0" "aaa" "00" "2"),
        ("5" "4321" "E61" "0", "0" "aaaa" "000" "2"),
        ("0" "E" "61" "0", "0" "a" "00" "2"),
    ]
    assert played.ended.tolist() == [[True, False], [False, False], [True, False]]
    assert played.texts(tokenizer, end) == [["10", "0"], ["4321", "0"], ["", "0"]]
    assert written(tokenizer, first) == before


def test_what_follows_a_given_attempt_is_the_player_s():
    """Catches an attempt 2 that does not read the given attempt 1: the oracle goes on from its text
    alone, row by row."""
    tokenizer = END_FIRST
    prompts = random_prompts(tokenizer, 12)
    request = ids_of(tokenizer, "58")
    teller = random_model(tokenizer.n_vocab, seed=1)
    player = random_model(tokenizer.n_vocab, seed=2)
    first = two_turns(teller, prompts, request, 0, 5, 0.0, turns=1)
    played = two_turns(player, prompts, request, 0, 6, 0.0, first=first)
    assert 0 < first.ended.sum() < 12, "both kinds of row must occur"
    for row, (tokens, turn, log_probs) in enumerate(rows_of(played)):
        said, _, _ = rows_of(first)[row]
        given = request if first.ended[row, 0] else [0] + request
        alone, _, _ = play_slowly(player, 0, said + given, request, 6, turns=1)
        assert tokens == alone
        assert [log_prob != 0 for log_prob in log_probs] == [said == 2 for said in turn]


def test_begin_with_against_lists():
    """Catches a given attempt whose tokens, length or end are lost, or that has a positive turn."""
    first = empty_episodes(batch=2, size=4, turns=1, device=CPU)
    first.append(*pad([[5], [6, 7]], CPU), turn=0)
    first.append(*pad([[8, 9], [3]], CPU), turn=1, log_probs=-torch.ones(2, 2))
    first.ended[0, 0] = True
    episodes = rollout.begin_with(first, size=6, turns=3)
    assert episodes.tokens.tolist() == [[5, 8, 9, 0, 0, 0], [6, 7, 3, 0, 0, 0]]
    assert episodes.turn.tolist() == [[0, -1, -1, 0, 0, 0], [0, 0, -1, 0, 0, 0]]
    assert episodes.lengths.tolist() == [3, 3]
    assert episodes.ended.tolist() == [[True, False, False], [False, False, False]]
    assert not episodes.log_probs.any()


def test_ask_again_against_lists():
    """Catches a request that is trained, an attempt that is closed twice or not at all, and a look
    at the end of another turn than the last."""
    episodes = empty_episodes(batch=2, size=9, turns=3, device=CPU)
    episodes.append(*pad([[5, 6, 9], [7]], CPU), turn=1)
    episodes.ended[0, 0] = True
    rollout.ask_again(episodes, 1, request=[1, 2], end=9)
    assert episodes.tokens.tolist() == [[5, 6, 9, 1, 2, 0, 0, 0, 0], [7, 9, 1, 2, 0, 0, 0, 0, 0]]
    assert episodes.turn.tolist() == [[1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 0]]
    assert episodes.lengths.tolist() == [5, 4]
    episodes.ended[1, 1] = True
    rollout.ask_again(episodes, 2, request=[3], end=9)
    assert episodes.tokens.tolist() == [[5, 6, 9, 1, 2, 9, 3, 0, 0], [7, 9, 1, 2, 3, 0, 0, 0, 0]]
    assert episodes.ended.tolist() == [[True, False, False], [False, True, False]]


def test_unread_against_lists():
    """Catches a token that is read twice or never: the cache holds the first 1, 4 and 2 of them."""
    episodes = empty_episodes(batch=3, size=5, turns=1, device=CPU)
    episodes.append(*pad([[1, 2, 3], [4, 5, 6, 7, 8], [1, 9]], CPU), turn=0)
    cache = SimpleNamespace(lengths=torch.tensor([1, 4, 2]))
    tokens, counts = rollout.unread(episodes, cache)
    assert counts.tolist() == [2, 1, 0]
    assert tokens.shape == (3, 2)
    rows = zip(tokens.tolist(), counts.tolist())
    assert [row[:count] for row, count in rows] == [[2, 3], [8], []]


# ---- what it costs -------------------------------------------------------------------------------
@both_tokenizers
def test_each_token_is_read_once(tokenizer):
    """Catches a turn 2 that reads x2 from the start, which costs twice as much and looks the same:
    a single row reads all its tokens but the last, each of them once."""
    for text in ("2", "0", "97531"):
        model = countdown(tokenizer)
        shapes = watch(model)
        prompt = ids_of(tokenizer, text)
        request = ids_of(tokenizer, "643")
        played = two_turns(model, [prompt], request, end_of(tokenizer), 5, 0.0, turns=3)
        assert sum(rows * length for rows, length in shapes) == int(played.lengths) - 1


@both_tokenizers
def test_rows_that_were_left_behind_read_nothing_again(tokenizer):
    """Catches what a row read while the batch had shrunk and that was not kept.

    Rows stop one after the other. All that is ever read at once is the prompt, or a row's last
    token, an END given to it, and the request. In the second batch "9" talks on alone and is cut.
    """
    model = countdown(tokenizer)
    request = ids_of(tokenizer, "643")
    shapes = watch(model)
    for last_digits, widths in (("7654321000", [3, 4, 4]), ("9321000", [3, 5, 4])):
        shapes.clear()
        prompts = [ids_of(tokenizer, "55" + digit) for digit in last_digits]
        two_turns(model, prompts, request, end_of(tokenizer), 8, 0.0, turns=3)
        assert [length for _, length in shapes if length > 1] == widths


def test_finished_rows_are_left_behind():
    """Catches one row that never stops and makes 63 finished ones be computed to the end.

    At no step may more than two rows be read for each one that still talks, and after the last END
    nothing is read.
    """
    tokenizer = TOKENIZERS["END is the last id"]
    model = countdown(tokenizer)
    lengths = [1, 1, 1, 1, 1, 2, 2, 3, 3, 3, 4, 8]  # tokens of y1: "0" says 1, "7" says 8
    shapes = watch(model)
    prompts = [ids_of(tokenizer, str(n - 1)) for n in lengths]
    two_turns(model, prompts, [], end_of(tokenizer), 50, 0.0, turns=1)
    assert len(shapes) == 8
    for step, (rows, _) in enumerate(shapes):
        assert rows <= 2 * sum(n > step for n in lengths), f"step {step} of {shapes}"


# ---- the sampler ---------------------------------------------------------------------------------
FORTY = [0.075 * (v - 20) for v in range(40)]  # logits of 40 words, the last ones the likeliest


def softmax_by_hand(logits, temperature):
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sample_draws_every_word_as_often_as_it_is_likely(temperature):
    """Catches a top-k or top-p left on, and a temperature that is applied twice, upside down or not
    at all: the words look right, their rates do not.

    40,000 draws; each of the 40 words is expected 15 times at the least. Chi-square with 39 degrees
    of freedom exceeds 85 once in 30,000 seeds, and the seed is fixed.
    """
    draws = 40_000
    logits = torch.tensor([FORTY] * draws)
    token, _ = sample(logits, temperature, generator_of(0))
    counts = torch.bincount(token, minlength=40).tolist()
    gap = 0.0
    for count, p in zip(counts, softmax_by_hand(FORTY, temperature)):
        assert count > 0
        gap += (count - draws * p) ** 2 / (draws * p)
    assert gap < 85, counts


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_sample_says_how_likely_its_word_was_at_the_temperature(temperature):
    """Catches a log-probability at temperature 1, or of another word than the one drawn."""
    token, log_prob = sample(torch.tensor([FORTY] * 50), temperature, generator_of(1))
    assert len(set(token.tolist())) > 10
    likely = softmax_by_hand(FORTY, temperature)
    expected = [math.log(likely[v]) for v in token.tolist()]
    assert log_prob.tolist() == pytest.approx(expected, abs=1e-5)


def test_sample_at_temperature_0_is_the_likeliest_word():
    """Catches a greedy evaluation that draws; its log-probability is that at temperature 1."""
    logits = torch.randn(200, 7, generator=generator_of(2))
    generator = generator_of(3)
    before = generator.get_state()
    token, log_prob = sample(logits, 0.0, generator)
    assert torch.equal(generator.get_state(), before)
    for row, v, said in zip(logits.tolist(), token.tolist(), log_prob.tolist()):
        assert row[v] == max(row)
        assert said == pytest.approx(math.log(softmax_by_hand(row, 1.0)[v]), abs=1e-5)


def test_sample_draws_from_its_generator_and_from_no_other():
    """Catches a draw from the global generator: a run could never be repeated or resumed."""
    logits = torch.zeros(20, 40)

    def drawn(seed, global_seed):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        token, _ = sample(logits, 1.0, generator_of(seed))
        assert torch.equal(torch.get_rng_state(), before)
        return token.tolist()

    assert drawn(0, 1) == drawn(0, 2)
    assert drawn(0, 1) != drawn(1, 1)


def test_sample_draws_each_row_anew_and_from_its_own_logits():
    """Catches rows that share a draw, or that are drawn from a neighbour's logits."""
    logits = torch.full((6, 8), -1e9)
    for row, v in enumerate([3, 0, 7, 7, 1, 2]):
        logits[row, v] = 0.0
    token, log_prob = sample(logits, 1.0, generator_of(0))
    assert token.tolist() == [3, 0, 7, 7, 1, 2]
    assert log_prob.tolist() == [0.0] * 6
    token, _ = sample(torch.zeros(30, 8), 1.0, generator_of(0))
    assert len(set(token.tolist())) > 4


def test_sample_of_bfloat16_logits_is_made_in_float32():
    """Catches log-probabilities with bfloat16's 8 bits: the learner's have float32's."""
    logits = torch.randn(9, 30, generator=generator_of(5)).bfloat16()
    token, log_prob = sample(logits, 1.0, generator_of(6))
    assert log_prob.dtype == torch.float32
    for row, v, said in zip(logits.tolist(), token.tolist(), log_prob.tolist()):
        assert said == pytest.approx(math.log(softmax_by_hand(row, 1.0)[v]), abs=1e-5)


@both_tokenizers
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_the_samplers_log_probs_are_those_of_a_full_forward(tokenizer, temperature):
    """Catches a sampler and a learner that differ in temperature, positions or padding: the
    gradient is another policy's. The oracle is one pass over each whole row, without a cache."""
    model = random_model(tokenizer.n_vocab)
    prompts = random_prompts(tokenizer, 24)
    request = ids_of(tokenizer, "58")
    end = end_of(tokenizer)
    played = two_turns(model, prompts, request, end, 6, temperature, generator_of(1))
    for tokens, turn, log_probs in rows_of(played):
        with torch.no_grad():
            logits = model(torch.tensor([tokens]))[0]
        policy = torch.log_softmax(logits / temperature, dim=-1)
        for t in range(1, len(tokens)):
            expected = float(policy[t - 1, tokens[t]]) if turn[t] else 0.0
            assert log_probs[t] == pytest.approx(expected, abs=1e-4)


def test_log_probs_in_the_worlds_own_words():
    """Catches the same gap through the world's tokenizer, in float32 and padded to one width, as
    the training loop has it."""
    world = World()
    rng = random.Random(0)
    tokenizer = world_tokenizer(world)
    torch.manual_seed(0)
    model = GPT(GPTConfig(tokenizer.n_vocab, layers=2, width=32, heads=2, kv_heads=2))
    prompts = []
    for _ in range(32):
        prompts.append(encode(tokenizer, draw_problem(world, rng, "train").question))
    request = encode(tokenizer, REQUEST)
    played = two_turns(model, prompts, request, end_of(tokenizer), 30, 1.0, generator_of(0))
    assert 0 < played.ended.sum() < 64
    with torch.no_grad():
        policy = torch.log_softmax(model(played.tokens[:, :-1]), dim=-1)
    log_probs = policy.gather(2, played.tokens[:, 1:, None])[..., 0] * (played.turn[:, 1:] > 0)
    torch.testing.assert_close(played.log_probs[:, 1:], log_probs, rtol=0, atol=1e-4)
    assert not played.log_probs.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.0])
def test_attempts_are_drawn_as_often_as_they_are_likely(temperature):
    """Catches whole attempts whose rate is not the product of their words': a temperature applied
    twice, a word drawn from the wrong prefix, rows that share a draw.

    Every attempt of at most 2 tokens over {END, 0, 1, 10} has its exact probability; 6,000 are
    drawn. Chi-square with 12 degrees of freedom exceeds 40 once in 10,000 seeds; the seed is fixed.
    """
    tokenizer = digits(True, words="01")
    draws = 6000
    end = 0
    model = random_model(tokenizer.n_vocab, seed=5)
    prompt = ids_of(tokenizer, "0110")

    def after(said):
        logits = model(torch.tensor([prompt + said]))[0, -1]
        return torch.softmax(logits / temperature, dim=-1).tolist()

    first = after([])
    likely = {(end,): first[end]}
    for a in (1, 2, 3):
        for b, p in enumerate(after([a])):
            likely[a, b] = first[a] * p
    played = two_turns(model, [prompt] * draws, [], end, 2, temperature, generator_of(0), turns=1)
    counts = dict.fromkeys(likely, 0)
    for row in range(draws):
        counts[tuple(played.said(row, turn=1))] += 1
    assert len(likely) == 13 and sum(likely.values()) == pytest.approx(1.0)
    gap = 0.0
    for attempt, p in likely.items():
        gap += (counts[attempt] - draws * p) ** 2 / (draws * p)
    assert gap < 40, (counts, likely)


def test_same_generator_same_episodes():
    """Catches a draw from the global generator, after which a run can never be repeated or
    resumed."""
    tokenizer = END_FIRST
    model = random_model(tokenizer.n_vocab)
    prompts = random_prompts(tokenizer, 16)
    request = ids_of(tokenizer, "58")

    def played(seed, global_seed):
        torch.manual_seed(global_seed)
        return rows_of(two_turns(model, prompts, request, 0, 6, 1.0, generator_of(seed)))

    assert played(0, 1) == played(0, 2)
    assert played(0, 1) != played(1, 1)


# ---- the parts -----------------------------------------------------------------------------------
@both_tokenizers
def test_generate_goes_on_where_it_stopped(tokenizer):
    """Catches a cache that is not where the row is: generate leaves each row's last token unread,
    so 3 tokens and 4 more must be the 7 of one call, row by row.

    Rows that said END in the first call are not asked again.
    """
    model = random_model(tokenizer.n_vocab, seed=4)
    end = end_of(tokenizer)
    tokens, counts = pad(random_prompts(tokenizer, 12), CPU)
    once, lengths, _, ended = generate(model, Cache(model, 12, 40), tokens, counts, end, 7, 0.0)
    cache = Cache(model, 12, 40)
    new, said, _, stopped = generate(model, cache, tokens, counts, end, 3, 0.0)
    assert cache.lengths.tolist() == (counts + said - 1).tolist()
    going = (~stopped).nonzero()[:, 0]
    assert 0 < len(going) < 12
    part = cache.take(going)
    last = new[going, -1:]
    more = generate(model, part, last, torch.ones_like(going), end, 4, 0.0)
    together = [row[:n] for row, n in zip(new.tolist(), said.tolist())]
    for i, row in enumerate(going.tolist()):
        together[row] += more[0][i, : more[1][i]].tolist()
        stopped[row] = more[3][i]
    assert together == [row[:n] for row, n in zip(once.tolist(), lengths.tolist())]
    assert torch.equal(stopped, ended)


@pytest.mark.parametrize("seed", range(10))
def test_append_against_lists(seed):
    """Catches an append that is one column off, after which the turn mask trains the request. Rows
    grow by different counts, some of them 0."""
    rng = random.Random(seed)
    batch = 4
    episodes = empty_episodes(batch, 40, 2, CPU)
    expected = [([], [], []) for _ in range(batch)]
    for turn in (0, 1, 0, 2, 0):
        width = rng.randint(1, 6)
        counts = [rng.randint(0, width) for _ in range(batch)]
        new = torch.tensor([rng.choices(range(10), k=width) for _ in range(batch)])
        log_probs = -torch.rand(batch, width) if turn else None
        kept = new.clone()
        episodes.append(new, torch.tensor(counts), turn, log_probs)
        assert torch.equal(new, kept)
        for b, (tokens, turns, logs) in enumerate(expected):
            tokens += new[b, : counts[b]].tolist()
            turns += [turn] * counts[b]
            logs += log_probs[b, : counts[b]].tolist() if turn else [0.0] * counts[b]
    assert rows_of(episodes) == expected
    for b, length in enumerate(episodes.lengths.tolist()):
        for tensor in (episodes.tokens, episodes.turn, episodes.log_probs):
            assert not tensor[b, length:].any()


def test_pad_keeps_every_row_and_its_length():
    """Catches a length that is guessed from the ids: a row that ends in the padding's own id is as
    long as it says, not as it looks."""
    tokens, counts = pad([[5, 0], [1], [0, 0, 0]], CPU)
    assert tokens.tolist() == [[5, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert counts.tolist() == [2, 1, 3]


def test_join_against_lists():
    """Catches a batch that loses the end of its longest row, or keeps columns that no row reaches,
    or moves what was said."""
    short = empty_episodes(batch=1, size=2, turns=2, device=CPU)
    short.append(*pad([[1, 2]], CPU), turn=1, log_probs=torch.tensor([[-1.0, -2.0]]))
    long = empty_episodes(batch=2, size=6, turns=2, device=CPU)
    long.append(*pad([[3], [4, 5, 6]], CPU), turn=2)
    long.ended[1, 1] = True
    joined = rollout.join([short, long])
    assert joined.tokens.tolist() == [[1, 2, 0], [3, 0, 0], [4, 5, 6]]
    assert joined.turn.tolist() == [[1, 1, 0], [2, 0, 0], [2, 2, 2]]
    assert joined.log_probs.tolist() == [[-1, -2, 0], [0, 0, 0], [0, 0, 0]]
    assert joined.lengths.tolist() == [2, 1, 3]
    assert joined.ended.tolist() == [[False, False], [False, False], [False, True]]


def test_ids_without_a_word_are_left_out_of_the_text():
    """Catches a checkpoint whose embedding has more rows than its tokenizer has words: sampled from
    them, the run would end with an error."""
    tokenizer = END_FIRST
    episodes = empty_episodes(batch=1, size=4, turns=1, device=CPU)
    said = [*ids_of(tokenizer, "4"), tokenizer.n_vocab, tokenizer.n_vocab + 7]
    episodes.append(torch.tensor([[*said, 0]]), torch.tensor([4]), turn=1)
    assert episodes.texts(tokenizer, end=0) == [["4"]]


# ---- the episodes of a step ----------------------------------------------------------------------
def task_of(tokenizer):
    """Questions of digits; "3" stands before each and "9" behind it; the request is "61"."""
    return Task(tokenizer, end_of(tokenizer), "3{question}9", "61", train=[], test=[])


def scene_of(model, problems, tokenizer=END_FIRST, seed=0):
    config = SimpleNamespace(max_new_tokens=5, temperature=0.5)
    task = task_of(tokenizer)
    return Scene(config, task, problems, model, None, random.Random(0), generator_of(seed))


PROBLEMS = [Problem("4", ""), Problem("77", ""), Problem("108", "")]


@both_tokenizers
def test_play_reads_the_task_s_words(tokenizer):
    """Catches a prompt without the task's words around the question, another request, or another
    end."""
    model = countdown(tokenizer)
    played = rollout.play(model, task_of(tokenizer), PROBLEMS[:2], 2, temperature=0.0)
    assert written(tokenizer, played) == [
        ("349" "87" "E61" "0E", "000" "11" "000" "22"),
        ("3779" "87" "E61" "0E", "0000" "11" "000" "22"),
    ]
    alone = rollout.play(model, task_of(tokenizer), PROBLEMS[:1], 12, temperature=0.0, turns=1)
    assert written(tokenizer, alone) == [("349" "876543210E", "000" "1111111111")]
    again = rollout.play(model, task_of(tokenizer), PROBLEMS[:1], 1, temperature=0.0, first=alone)
    assert written(tokenizer, again) == [("349" "876543210E" "61" "0", "000" "aaaaaaaaaa" "00" "2")]


def test_a_scene_plays_as_its_config_says():
    """Catches training episodes at another temperature or length than the options say, or from
    another generator than the step's."""
    model = random_model(END_FIRST.n_vocab)
    scene = scene_of(model, PROBLEMS, seed=4)
    task = scene.task
    prompts = [task.prompt_ids(problem) for problem in PROBLEMS]
    expected = two_turns(model, prompts, task.request_ids(), 0, 5, 0.5, generator_of(4))
    assert rows_of(scene.play(model, PROBLEMS)) == rows_of(expected)
    scene = scene_of(model, PROBLEMS, seed=4)
    first = scene.play(model, PROBLEMS[1:], turns=1)
    generator = generator_of(4)
    one = two_turns(model, prompts[1:], [], 0, 5, 0.5, generator, turns=1)
    assert rows_of(first) == rows_of(one)
    both = two_turns(model, prompts[1:], task.request_ids(), 0, 5, 0.5, generator, first=one)
    assert rows_of(scene.play(model, PROBLEMS[1:], first=first)) == rows_of(both)


@both_tokenizers
def test_given_episodes_by_hand(tokenizer):
    """Catches written attempts that are not trained, stand behind another problem or another turn,
    or count as cut."""
    scene = scene_of(None, PROBLEMS[:2], tokenizer)
    attempts = [
        [ids_of(tokenizer, "5E"), ids_of(tokenizer, "867E")],
        [ids_of(tokenizer, "12E"), ids_of(tokenizer, "E")],
    ]
    given = scene.given(attempts)
    assert written(tokenizer, given) == [
        ("349" "5E" "61" "867E", "000" "11" "00" "2222"),
        ("3779" "12E" "61" "E", "0000" "111" "00" "2"),
    ]
    assert given.ended.tolist() == [[True, True], [True, True]]
    assert given.texts(tokenizer, end_of(tokenizer)) == [["5", "867"], ["12", ""]]
    assert not given.log_probs.any()
    assert given.tokens.shape[1] == 11


def test_a_written_attempt_1_is_given_and_followed_by_the_player():
    """Catches a wrong attempt to repair that the player is trained on, or that is not closed by its
    own `end` alone."""
    tokenizer = END_FIRST
    task = task_of(tokenizer)
    wrong = [[ids_of(tokenizer, "20E")], [ids_of(tokenizer, "5E")]]
    first = given_episodes(task, PROBLEMS[:2], wrong, CPU)
    assert first.ended.tolist() == [[True], [True]]
    played = rollout.play(countdown(tokenizer), task, PROBLEMS[:2], 4, 0.0, first=first)
    assert written(tokenizer, played) == [
        ("349" "20E" "61" "0E", "000" "aaa" "00" "22"),
        ("3779" "5E" "61" "0E", "0000" "aa" "00" "22"),
    ]


def test_the_request_is_the_same_after_a_right_and_a_wrong_attempt():
    """Catches a request that tells whether attempt 1 was right: what stands between the attempts is
    the task's request, whatever was said."""
    tokenizer = END_FIRST
    task = task_of(tokenizer)
    between = set()
    first = [[ids_of(tokenizer, text + "E")] for text in ("4", "8", "")]
    given = given_episodes(task, PROBLEMS, first, CPU)
    played = rollout.play(random_model(tokenizer.n_vocab), task, PROBLEMS, 3, 0.0, first=given)
    for tokens, turn, _ in rows_of(played):
        last_of_first = max(t for t, said in enumerate(turn) if said == -1)
        second = turn.index(2)
        between.add(text_of(tokenizer, tokens[last_of_first + 1 : second]))
    assert between == {"61"}
