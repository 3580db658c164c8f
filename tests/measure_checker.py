"""Measure the answer checker on the labelled data: one row of the results a line.

python tests/measure_checker.py [--checker-data ../shared/checker] [--math-data ../shared/data/math]
    [--against math-verify]
"""

import argparse
import gzip
import json
import random
import re
import sys
import time
import tracemalloc
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import rewards  # noqa: E402  (the file may be run from anywhere)

# `how_labelled` of the pairs whose label says nothing about which checker is better.
BY_AGREEMENT = "all 5 checkers agree"

FORMULA = re.compile(r"\$([^$]+)\$|\\\[(.+?)\\\]", re.DOTALL)  # $...$ or \[...\]


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


def count_refused(pairs: list[dict]) -> int:
    """Right answers that earn nothing, as work is left to be done in them."""
    count = 0
    for pair in pairs:
        if pair["label"] and rewards.is_equivalent(pair["pred"], pair["gold"]):
            count += not rewards.is_worked_out(pair["pred"], pair["gold"])
    return count


def formulas_in(question: str) -> list[str]:
    """Every formula of a question, and each side of its equations."""
    found = []
    for groups in FORMULA.findall(question.replace(r"\$", "")):
        formula = "".join(groups).strip(" \n.,")
        sides = formula.split("=") if "=" in formula else []
        found += [formula, *sides]
    return found


def copied(folder: Path) -> dict:
    """Of MATH's test problems: how many pay a formula of their question for the answer?

    As mathematics; for the reward; and for the reward though none is the reference itself, but for
    spaces and sizes.
    """
    counts = {"equivalent": 0, "paid": 0, "paid, other than the reference": 0}
    with gzip.open(folder / "test.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            answer = rewards.extract_answer(row["solution"])
            same = [
                formula
                for formula in formulas_in(row["problem"])
                if rewards.is_equivalent(formula, answer)
            ]
            paid = [formula for formula in same if rewards.is_worked_out(formula, answer)]
            itself = bare(answer) in map(bare, paid)
            counts["equivalent"] += bool(same)
            counts["paid"] += bool(paid)
            counts["paid, other than the reference"] += bool(paid) and not itself
    return {f"copied from the question: {name}": count for name, count in counts.items()}


def bare(formula: str) -> str:
    """Without spaces, sizes and braces."""
    return re.sub(r"\s|\\left|\\right|\\[!,]|d(?=frac)|[{}$]", "", formula)


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
    rows["right, but refused as unfinished"] = count_refused(pairs)
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
        "--math-data",
        type=Path,
        default=ROOT.parent / "shared" / "data" / "math",
        help="folder of MATH's test.jsonl.gz",
    )
    parser.add_argument(
        "--against",
        choices=["math-verify"],
        help="measure this checker too, if it is installed",
    )
    args = parser.parse_args()
    rows = measure(args.checker_data) | copied(args.math_data)
    if args.against:
        rows |= against_math_verify(args.checker_data, rows["checks per second"])
    for name, value in rows.items():
        number = f"{value:,.2f}" if isinstance(value, float) else f"{value:,d}"
        print(f"{name:55s} {number:>12s}")


if __name__ == "__main__":
    main()
