"""Is an answer right, and what do the answers of both turns add up to.

What this file is not: it shapes no reward (score.py) and never runs or evaluates a model's text.

    is_correct(r"Try 3: f(3)=1, it fits. \\boxed{3}", "3")       # True
    metrics(correct, attempts)                                  # Accuracy@t1, Accuracy@t2, delta, i->c, c->i, ...
"""
import torch
from torch import Tensor


# ---- the answer checker ----------------------------------------------------------------------------------------------
def extract_answer(text: str) -> str | None:
    r"""What stands in the last \boxed{...} with balanced braces; None where there is none.

    >>> extract_answer(r"so \boxed{1} or rather \boxed{\frac{1}{2}}")
    '\\frac{1}{2}'
    """
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    start += len("\\boxed{")
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
    return None


def is_equivalent(prediction: str, reference: str) -> bool:
    """Whether two final answers are the same once spaces, $ and \\left, \\right, \\dfrac are written alike."""
    def normal(answer: str) -> str:
        for old, new in (("\\left", ""), ("\\right", ""), ("dfrac", "frac"), ("$", ""), ("\\!", ""), (" ", "")):
            answer = answer.replace(old, new)
        return answer.rstrip(".")
    return normal(prediction) == normal(reference)


def is_correct(text: str, reference: str) -> bool:
    """Whether the final answer of a whole response is the reference answer. No answer is a wrong answer."""
    answer = extract_answer(text)
    return answer is not None and is_equivalent(answer, reference)


# ---- what the answers add up to --------------------------------------------------------------------------------------
def edit_distance(a: str, b: str) -> int:
    """Levenshtein distance: the least number of characters to insert, delete or replace.

    Myers' bit-parallel method (1999), a column of the table in one integer: bit i of `up` (`down`) says that the
    entry in row i is one more (less) than the one above it.

    >>> edit_distance("kitten", "sitting")
    3
    """
    if not a:
        return len(b)
    where: dict[str, int] = {}
    for i, character in enumerate(a):
        where[character] = where.get(character, 0) | 1 << i
    full, last, distance = (1 << len(a)) - 1, 1 << len(a) - 1, len(a)
    up, down = full, 0
    for character in b:
        match = where.get(character, 0)
        diagonal = (((match & up) + up) ^ up) | match | down
        right_up, right_down = (down | ~(diagonal | up)) & full, up & diagonal
        distance += bool(right_up & last) - bool(right_down & last)
        right_up, right_down = right_up << 1 | 1, right_down << 1
        up, down = (right_down | ~(match | down | right_up)) & full, right_up & (match | down) & full
    return distance


def metrics(correct: Tensor, attempts: list[list[str]]) -> dict[str, float]:
    """The paper's five metrics and more, from the first and the last attempt at each problem.

    correct (B, turns) of 0 and 1; attempts: B lists of texts. Shares of all problems: accuracy_t1, accuracy_t2,
    delta = t2 - t1 = i_to_c - c_to_i, and `changed`, whose final answer is another. `edit_ratio` is the mean of
    edit distance / (length of y1 + length of y2). Conditional shares, 0 where the condition never holds:
    P(changed | y1 wrong), P(changed | y1 right), P(y2 right | y1 wrong and changed).
    """
    first, last = correct[:, 0].bool(), correct[:, -1].bool()
    share = lambda rows: rows.float().mean().item() if len(rows) else 0.0
    changed = [extract_answer(texts[0]) != extract_answer(texts[-1]) for texts in attempts]
    edits = [edit_distance(texts[0], texts[-1]) / max(1, len(texts[0]) + len(texts[-1])) for texts in attempts]
    moved, wrong = torch.tensor(changed, device=first.device), ~first
    return {"accuracy_t1": share(first), "accuracy_t2": share(last), "delta": share(last) - share(first),
            "i_to_c": share(~first & last), "c_to_i": share(first & ~last),
            "changed": share(moved), "edit_ratio": sum(edits) / len(edits), "rewrite_if_wrong": share(moved[wrong]),
            "rewrite_if_right": share(moved[first]), "right_if_rewritten": share(last[wrong & moved])}
