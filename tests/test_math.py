"""MATH as people have it, on small folders written here: what is read, how it is split, what is refused."""
import dataclasses
import json

import pytest
import tiktoken

import data
import train


def row(number, **change):
    return {"problem": f"What is ${number}+1$?", "level": "Level 2", "type": "Algebra",
            "solution": f"It is $\\boxed{{{number + 1}}}$."} | change


def write(path, *rows):
    """One .json file of one row, or a .jsonl file of many."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return path


@pytest.fixture
def original(tmp_path):
    """The layout of the original release."""
    for i in range(6):
        write(tmp_path / "train" / "algebra" / f"{i}.json", row(i))
    write(tmp_path / "train" / "number_theory" / "9.json", row(9, level="Level 5", type="Number Theory"))
    write(tmp_path / "test" / "algebra" / "7.json", row(7))
    write(tmp_path / "test" / "number_theory" / "8.json", row(8, level="Level 5", type="Number Theory"))
    return tmp_path


def test_the_original_folder_keeps_its_split(original):
    train_set, test_set, bad = data.read_problems(original)
    assert [p.question for p in test_set] == ["What is $7+1$?", "What is $8+1$?"] and len(train_set) == 7 and not bad
    assert test_set[0] == data.Problem("What is $7+1$?", "8", (), "It is $\\boxed{8}$.", test_set[0].name)
    assert test_set[0].name.endswith("7.json")


def test_levels_and_subjects_choose(original):
    assert [p.answer for p in data.read_problems(original, levels=(5,))[0]] == ["10"]
    assert [p.answer for p in data.read_problems(original, subjects=("Number Theory",))[1]] == ["9"]
    assert len(data.read_problems(original, levels=(2, 5), subjects=("algebra", "number_theory"))[0]) == 7
    with pytest.raises(data.BadInput, match="geometry.*there are: algebra, number_theory"):
        data.read_problems(original, subjects=("geometry",))


def test_json_lines_as_in_math_500(tmp_path):
    """Fields problem, solution, answer, subject, level (a number), unique_id; `answer` goes before the box."""
    rows = [row(i, answer=f"{i + 1}.0", subject="Counting & Probability", type=None, level=3, unique_id=str(i))
            for i in range(4)]
    write(tmp_path / "train.jsonl", *rows[:2])
    write(tmp_path / "test.jsonl", *rows[2:])
    train_set, test_set, _ = data.read_problems(tmp_path, levels=(3,), subjects=("counting_and_probability",))
    assert [p.answer for p in train_set] == ["1.0", "2.0"] and [p.answer for p in test_set] == ["3.0", "4.0"]
    assert train_set[1].name.endswith("train.jsonl:2")


def test_an_answer_without_a_solution_still_warms_up(tmp_path):
    file = write(tmp_path / "all.jsonl", *[row(i, solution=None, answer="5") for i in range(40)])
    assert {p.solution for p in data.read_problems(file)[0]} == {"\\boxed{5}"}


def test_a_file_without_a_split_is_split_by_seed_and_text(tmp_path):
    """By a hash of the text without white space, so that no copy of a test problem can be in training."""
    first = write(tmp_path / "a.jsonl", *[row(i) for i in range(300)])
    second = write(tmp_path / "b.jsonl", *[row(i, problem=f"What  is\n$ {i} + 1 $ ?") for i in reversed(range(300))])
    text = lambda problems: {data.squeeze(p.question) for p in problems}
    train_set, test_set, _ = data.read_problems(first)
    assert 30 < len(test_set) < 100 and len(train_set) + len(test_set) == 300 and not text(train_set) & text(test_set)
    assert text(data.read_problems(second)[1]) == text(test_set)
    assert text(data.read_problems(first, seed=1)[1]) != text(test_set)


@pytest.mark.parametrize("content, said", [
    (b'{"problem": "a", "solution": "no box"}', "no field 'answer'"),
    (b'{"problem": "  ", "answer": "1"}', "no problem text"),
    (b'{"answer": "1"}', "no problem text"),
    (b'["problem"]', "no problem text"),
    (b'{"problem": "a", ', "not JSON"),
    (b'{"problem": "caf\xe9", "answer": "1"}', "not UTF-8"),
    (b'{"problem": "What is $3 + 1$?", "answer": "4"}', "the same problem as"),
    (b'{"problem": "a", "answer": ""}', "no field 'answer'"),
])
def test_bad_rows_are_named_with_file_and_row(tmp_path, content, said):
    good = [json.dumps(row(i)).encode() for i in range(40)]
    file = tmp_path / "some.jsonl"
    file.write_bytes(b"\n".join([*good, content]) + b"\n")
    with pytest.raises(data.BadInput, match=r"some\.jsonl:41: .*1 bad row in all.*--skip-bad-rows") as refused:
        data.read_problems(file)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    train_set, test_set, bad = data.read_problems(file, skip_bad_rows=True)
    assert len(train_set) + len(test_set) == 40 and len(bad) == 1 and said in bad[0]


def test_a_training_problem_that_is_also_a_test_problem_is_left_out_of_training(original):
    write(original / "train" / "algebra" / "copy.json", row(7, problem="What is  $7 + 1$ ?"))
    with pytest.raises(data.BadInput, match="copy.json: the same problem as .*7.json"):
        data.read_problems(original)
    train_set, test_set, _ = data.read_problems(original, skip_bad_rows=True)
    assert len(train_set) == 7 and "8" in [p.answer for p in test_set]


def test_parquet_and_nothing_at_all_are_refused_in_one_line(tmp_path):
    with pytest.raises(data.BadInput, match="no .json or .jsonl"):
        data.read_problems(tmp_path)
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(data.BadInput, match="to_json"):
        data.read_problems(tmp_path)


def test_the_words_of_the_turns():
    """The request is one text for right and wrong first attempts, and a question cannot smuggle in special tokens."""
    task = data.chat_task([], [])
    assert task.prompt.count("{question}") == 1 and "\\boxed" in task.prompt
    for word in ("might", "error", "correct", "ewrite"):
        assert word in task.request
    question = f"a {data.END} é {{question}}"
    ids = data.encode_prompt(task, data.Problem(question, "1"))
    assert task.end not in ids and task.tokenizer.decode(ids) == task.prompt.replace("{question}", question)


def test_chat_markers_of_a_family(tmp_path):
    """What a Qwen2.5 and a Llama 3 chat look like without a system message, from their model cards."""
    for family, expected in (("qwen2", "<|im_start|>user\n{0}<|im_end|>\n<|im_start|>assistant\nY1<|im_end|>\n"
                                       "<|im_start|>user\n{1}<|im_end|>\n<|im_start|>assistant\n"),
                             ("llama3", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{0}<|eot_id|>"
                                        "<|start_header_id|>assistant<|end_header_id|>\n\nY1<|eot_id|>"
                                        "<|start_header_id|>user<|end_header_id|>\n\n{1}<|eot_id|>"
                                        "<|start_header_id|>assistant<|end_header_id|>\n\n")):
        special = {"qwen2": ("<|im_start|>", "<|im_end|>"), "llama3": (
            "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")}[family]
        tokenizer = tiktoken.Encoding("test", pat_str=r"(?s:.)", mergeable_ranks={bytes([i]): i for i in range(256)},
                                      special_tokens={name: 256 + i for i, name in enumerate(special)})
        task = data.chat_task([], [], tokenizer=tokenizer)
        ids = data.encode_prompt(task, data.Problem("What is $1+1$?", "2")) + list(b"Y1") + [task.end]
        ids += data.encode(tokenizer, task.request)
        question = data.MATH_PROMPT.replace("{question}", "What is $1+1$?")
        assert tokenizer.decode(ids) == expected.replace("{0}", question).replace("{1}", data.MATH_REQUEST)
        assert sum(i >= 256 for i in ids) == expected.count("<|")


def test_the_whole_command_on_math(original, tmp_path, capsys):
    arguments = ("--layers 1 --width 16 --heads 2 --hidden 16 --warm-steps 2 --warm-batch 2 --stage-one-steps 1 "
                 "--stage-two-steps 1 --problems 2 --samples 2 --eval-problems 2 --max-new-tokens 8").split()
    train.main([*arguments, "--data", str(original), "--levels", "2-5", "--out", str(tmp_path / "out")])
    assert "7 training and 2 test problems" in capsys.readouterr().out
    split = json.loads((tmp_path / "out" / "score-seed0" / "split.json").read_text())
    assert len(split["train"]) == 7 and all("test" in name for name in split["test"])


def test_prompt_trains_nothing_and_asks_for_a_critique(original, tmp_path, monkeypatch):
    asked = []
    two_turns = train.rollout.two_turns
    monkeypatch.setattr(train.rollout, "two_turns", lambda policy, prompts, request, *rest, **how: (
        asked.append(request), two_turns(policy, prompts, request, *rest, **how))[1])
    arguments = ("--layers 1 --width 16 --heads 2 --hidden 16 --warm-steps 1 --warm-batch 2 --eval-problems 2 "
                 "--max-new-tokens 4 --device cpu --method prompt").split()
    train.main([*arguments, "--data", str(original), "--out", str(tmp_path / "out")])
    results = json.loads((tmp_path / "out" / "prompt-seed0" / "results.json").read_text())["results"]
    assert list(results) == ["base"] and all(data.MATH_CRITIQUE in bytes(request).decode() for request in asked)


def test_training_stops_before_anything_is_written_at_a_bad_row(original, tmp_path, capsys):
    write(original / "train" / "algebra" / "bad.json", row(50, solution="none"))
    with pytest.raises(SystemExit) as ended:
        train.main(["--data", str(original), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2 and "bad.json" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_ranges_of_levels():
    assert train.numbers("1-3,5") == (1, 2, 3, 5)
    assert dataclasses.replace(train.parse([]), levels=()).levels == () and train.parse([]).levels == (1, 2, 3, 4)
