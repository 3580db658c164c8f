"""Measure the answer checker on the labelled data: one row of the README's table a line.

    python tests/measure_checker.py [--checker-data ../shared/checker] [--against math-verify] [--wrong]
"""
import argparse
import json
import random
import sys
import time
import tracemalloc
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import rewards  # noqa: E402  (the file may be run from anywhere)

NOT_BY_AGREEMENT = "all 5 checkers agree"  # how_labelled of the pairs whose label says nothing about who is better


def read(folder: Path, name: str) -> list:
    with open(folder / name, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def score(pairs: list, said: list) -> dict:
    """Accuracy in percent, in all and on two parts; errors of both kinds."""
    right = [bool(pair["label"]) == yes for pair, yes in zip(pairs, said)]

    def accuracy(keep) -> float:
        chosen = [ok for pair, ok in zip(pairs, right) if keep(pair)]
        return 100 * sum(chosen) / len(chosen)

    return {
        "accuracy %": accuracy(lambda pair: True),
        "false positives": sum(yes and not pair["label"] for pair, yes in zip(pairs, said)),
        "false negatives": sum(pair["label"] and not yes for pair, yes in zip(pairs, said)),
        "accuracy %, real only": accuracy(lambda pair: pair["kind"] == "real"),
        "accuracy %, not by agreement": accuracy(lambda pair: not pair["how_labelled"].startswith(NOT_BY_AGREEMENT)),
    }


def timed(check, pairs: list) -> tuple:
    """What `check` says of each pair, and pairs per second of this core; every pair once."""
    start = time.process_time()
    said = [check(pair["pred"], pair["gold"]) for pair in pairs]
    return said, len(pairs) / (time.process_time() - start)


def hostile(texts: list, golds: list) -> dict:
    """The slowest call in milliseconds and the most memory in MB, hostile text on either side and on both."""
    random.seed(0)
    pairs = [(text, gold) for text in texts for gold in ("42", random.choice(golds))]
    pairs += [tuple(random.sample(texts, 2)) for _ in range(3000)]
    slowest = 0.0
    for left, right in pairs + [(right, left) for left, right in pairs]:
        start = time.process_time()
        assert isinstance(rewards.is_equivalent(left, right), bool)
        rewards.extract_answer(left)
        slowest = max(slowest, time.process_time() - start)
    rewards._read.cache_clear()
    tracemalloc.start()
    for left, right in pairs:
        rewards.is_equivalent(left, right)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {"adversarial: slowest call, ms": 1000 * slowest, "adversarial: peak memory, MB": memory / 2 ** 20}


def measure(folder: Path) -> dict:
    """Every row of the table."""
    pairs = [pair for pair in read(folder, "pairs_dev.jsonl") if not pair["debatable"]]
    said, speed = timed(rewards.is_equivalent, pairs)
    rows = score(pairs, said)
    rows["not symmetric"] = sum(rewards.is_equivalent(p["gold"], p["pred"]) != yes for p, yes in zip(pairs, said))
    cases = read(folder, "extraction_cases.jsonl")
    found = sum(rewards.extract_answer(case["response"]) == case["expected_boxed"] for case in cases)
    rows["extraction %"] = 100 * found / len(cases)
    golds = (folder / "math_gold_answers.txt").read_text(encoding="utf-8").splitlines()
    rows["gold answers not equal to themselves"] = sum(not rewards.is_equivalent(gold, f" {gold} ") for gold in golds)
    rows |= hostile(read(folder, "adversarial.jsonl"), golds)
    rows["checks per second"] = speed
    return rows


def against_math_verify(folder: Path, speed: float) -> dict:
    """Math-Verify on the same pairs in the same run; its parser wants mathematics between dollars."""
    import math_verify

    def check(prediction: str, reference: str) -> bool:
        gold, answer = (math_verify.parse(f"${text}$") for text in (reference, prediction))
        return math_verify.verify(gold, answer)

    pairs = [pair for pair in read(folder, "pairs_dev.jsonl") if not pair["debatable"]]
    said, its_speed = timed(check, pairs)
    rows = score(pairs, said) | {"checks per second": its_speed, "we are faster, times": speed / its_speed}
    return {f"math-verify: {name}": value for name, value in rows.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checker-data", type=Path, default=ROOT.parent / "shared" / "checker", help="labelled data")
    parser.add_argument("--against", choices=["math-verify"], help="measure this checker too, if it is installed")
    args = parser.parse_args()
    rows = measure(args.checker_data)
    if args.against:
        rows |= against_math_verify(args.checker_data, rows["checks per second"])
    for name, value in rows.items():
        print(f"{name:45s} {value:12,.2f}" if isinstance(value, float) else f"{name:45s} {value:12,d}")


if __name__ == "__main__":
    main()
