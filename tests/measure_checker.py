"""Measure the answer checker on the labelled data: one row of the results a line.

python tests/measure_checker.py [--checker-data ../shared/checker] [--against math-verify]
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

# `how_labelled` of the pairs whose label says nothing about which checker is better.
BY_AGREEMENT = "all 5 checkers agree"


def read(folder: Path, name: str) -> list:
    """The rows of a file, one JSON value a line."""
    with open(folder / name, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def read_pairs(folder: Path) -> list[dict]:
    """The labelled pairs without those that people disagree about."""
    pairs = read(folder, "pairs_dev.jsonl")
    return [pair for pair in pairs if not pair["debatable"]]


def score(pairs: list[dict], said: list[bool]) -> dict:
    """Accuracy in percent, of all pairs and of two parts; errors of both kinds."""
    everywhere = []
    on_real_output = []
    not_by_agreement = []
    false_positives = 0
    false_negatives = 0
    for pair, yes in zip(pairs, said):
        label = bool(pair["label"])
        right = label == yes
        everywhere.append(right)
        if pair["kind"] == "real":
            on_real_output.append(right)
        if not pair["how_labelled"].startswith(BY_AGREEMENT):
            not_by_agreement.append(right)
        false_positives += yes and not label
        false_negatives += label and not yes
    return {
        "accuracy %": percent(everywhere),
        "false positives": false_positives,
        "false negatives": false_negatives,
        "accuracy %, real only": percent(on_real_output),
        "accuracy %, not by agreement": percent(not_by_agreement),
    }


def percent(rows: list[bool]) -> float:
    return 100 * sum(rows) / len(rows)


def timed(check, pairs: list[dict]) -> tuple[list[bool], float]:
    """What `check` says of each pair, and pairs per second of this core; every pair once."""
    start = time.process_time()
    said = [check(pair["pred"], pair["gold"]) for pair in pairs]
    return said, len(pairs) / (time.process_time() - start)


def hostile_pairs(texts: list[str], golds: list[str]) -> list[tuple[str, str]]:
    """Hostile text beside a number, beside a real answer and beside other hostile text."""
    random.seed(0)
    pairs = []
    for text in texts:
        pairs.append((text, "42"))
        pairs.append((text, random.choice(golds)))
    for _ in range(3000):
        left, right = random.sample(texts, 2)
        pairs.append((left, right))
    return pairs


def hostile(texts: list[str], golds: list[str]) -> dict:
    """The slowest call in milliseconds (both orders), and the most memory in MB."""
    pairs = hostile_pairs(texts, golds)
    slowest = 0.0
    for left, right in pairs + [(right, left) for left, right in pairs]:
        start = time.process_time()
        assert isinstance(rewards.is_equivalent(left, right), bool)
        rewards.extract_answer(left)
        slowest = max(slowest, time.process_time() - start)
    rewards.read.cache_clear()
    tracemalloc.start()
    for left, right in pairs:
        rewards.is_equivalent(left, right)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return {
        "adversarial: slowest call, ms": 1000 * slowest,
        "adversarial: peak memory, MB": peak / 2**20,
    }


def count_asymmetric(pairs: list[dict], said: list[bool]) -> int:
    """Pairs that are judged otherwise when left and right are exchanged."""
    count = 0
    for pair, yes in zip(pairs, said):
        count += rewards.is_equivalent(pair["gold"], pair["pred"]) != yes
    return count


def measure(folder: Path) -> dict:
    """Every row of the table."""
    pairs = read_pairs(folder)
    said, speed = timed(rewards.is_equivalent, pairs)
    rows = score(pairs, said)
    rows["not symmetric"] = count_asymmetric(pairs, said)
    cases = read(folder, "extraction_cases.jsonl")
    found = [rewards.extract_answer(case["response"]) == case["expected_boxed"] for case in cases]
    rows["extraction %"] = percent(found)
    golds = (folder / "math_gold_answers.txt").read_text(encoding="utf-8").splitlines()
    strange = [gold for gold in golds if not rewards.is_equivalent(gold, f" {gold} ")]
    rows["gold answers not equal to themselves"] = len(strange)
    rows |= hostile(read(folder, "adversarial.jsonl"), golds)
    rows["checks per second"] = speed
    return rows


def against_math_verify(folder: Path, speed: float) -> dict:
    """Math-Verify on the same pairs in the same run; its parser wants text between dollars."""
    import math_verify

    def check(prediction: str, reference: str) -> bool:
        gold = math_verify.parse(f"${reference}$")
        answer = math_verify.parse(f"${prediction}$")
        return math_verify.verify(gold, answer)

    pairs = read_pairs(folder)
    said, its_speed = timed(check, pairs)
    rows = score(pairs, said)
    rows["checks per second"] = its_speed
    rows["we are faster, times"] = speed / its_speed
    return {f"math-verify: {name}": value for name, value in rows.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checker-data",
        type=Path,
        default=ROOT.parent / "shared" / "checker",
        help="folder of the labelled data",
    )
    parser.add_argument(
        "--against",
        choices=["math-verify"],
        help="measure this checker too, if it is installed",
    )
    args = parser.parse_args()
    rows = measure(args.checker_data)
    if args.against:
        rows |= against_math_verify(args.checker_data, rows["checks per second"])
    for name, value in rows.items():
        number = f"{value:,.2f}" if isinstance(value, float) else f"{value:,d}"
        print(f"{name:45s} {number:>12s}")


if __name__ == "__main__":
    main()
