r"""Is an answer right, and what do the answers of both turns add up to: what is reported.

What this file is not: it shapes no reward (score.py makes from this what is optimised), and it runs no model's text but
in the sandbox. `is_correct(text, reference)` grades a response, `judge` many, programs too, `metrics` the episodes.

`extract_answer` finds the final answer of a response, `is_equivalent` says whether two answers are the same mathematics
(good style is not asked for: 2/4 is 1/2). This is no computer algebra system: a small parser turns LaTeX into a tree,
and the tree into a number, exactly if it is rational, else at three fixed pseudo-random values of the variables.
Expressions that agree at random points are equal with overwhelming probability: the Schwartz-Zippel lemma (J. T.
Schwartz, J. ACM 27(4), 1980; R. Zippel, EUROSAM 1979), proved for polynomials over exact numbers and borrowed here for
floating point. No answer is ever run; what is too long, deep, large or strange to read equals only itself.
"""
import cmath
import functools
import math
import os
import random
import re
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import torch
from torch import Tensor

from sandbox import passes_tests

MAX_CHARS = 600  # a longer answer equals only itself
MAX_DEPTH = 40  # nested brackets; each takes up to four Python frames
MAX_BITS = 15_000  # of an exact number: 2^{4950} is computed, 9^{9^9} is not
MAX_ITEMS = 30  # of a set: matching its members in any order takes quadratic time
TOLERANCE = 1e-13  # relative: ten digits of \sqrt{2} are not \sqrt{2}


# --- find the final answer
def extract_answer(text: str) -> str | None:
    r"""What the last \boxed{...} (or \fbox{...}) holds; None if there is none or it was cut off.

    No earlier box and no other number stands in for one that was cut off: the policy would be paid for stopping early.
    Only the paper's closing words do without a box: "The final answer is X. I hope it is correct."
    """
    start = max(text.rfind(r"\boxed"), text.rfind(r"\fbox"))
    if start < 0:
        answer, found, _ = text.rpartition("final answer is ")[2].partition("I hope it is correct")
        return answer.strip(" .\n") if found else None
    opening, depth = re.compile(r"\\[a-z]+\s*\{").match(text, start), 1
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, opening.end()) if opening else ():
        depth += {"{": 1, "}": -1}.get(brace[0], 0)  # subtle: \{ and \} are no braces
        if depth == 0:
            return text[opening.end():brace.start()].strip()
    return None


def extract_code(text: str) -> str | None:
    """What the last fenced block holds, or the whole text if there is no fence; None if the last one was cut off."""
    parts = re.split(r"^[ \t]*```[^\n`]*(?:\n|$)", text, flags=re.MULTILINE)  # text, code, text, code, ..., text
    if len(parts) == 1:
        return text
    return parts[-2] if len(parts) % 2 else None


# --- normalise: one spelling of each thing
UNICODE = str.maketrans({
    "π": r"\pi ", "√": r"\sqrt ", "∞": r"\infty ", "°": r"^\circ ", "±": r"\pm ", "≤": r"\le ", "≥": r"\ge ",
    "∪": r"\cup ", "²": "^2", "³": "^3", "½": r"\frac12 ", "×": "*", "·": "*", "÷": "/", "⁄": "/", "−": "-", "–": "-"})
BASES = {word: str(base) for base, word in enumerate("two three four five six seven eight nine ten".split(), 2)}
TEXT = r"\\(?:text[a-z]*|mbox|hbox|mathrm|mathbf|mathit|operatorname)\s*\{"
AND_OR = rf",?\s*(?:{TEXT}[\s,]*(?:and|or)\s*\}}|(?<![a-zA-Z\\{{])(?:and|or)(?![a-zA-Z]))\s*,?"
UNIT = (rf"(?:{TEXT}\s*(?:[a-zA-Z]{{2}}[^{{}}]*|m\s*)\}}|(?<=[0-9])\{{[a-z]{{2}}[^{{}}]*\}}"  # 4\text{ cm}, 4{cm}
        r"|(?<=[0-9}])\s+(?:[a-z]{3,}|[ckm]?m|ft|in|kg|sq)\b[a-zA-Z .]*)(?:\s*\^\s*\{?[0-9]\}?)?$")  # 25 ft^2
RULES = [(needed, re.compile(pattern, re.DOTALL), new) for needed, pattern, new in (  # in this order, where `needed` is
    ("$", r"\\?\$", ""),  # money, and the limits of formulas
    (",", r"(?<=[0-9])\s*(?:\{,\}|,\s*\\!|\\,)\s*(?=[0-9]{3}(?![0-9]))", ""),  # 10{,}000, 10,\!000
    (",", r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])(?=[^)\]]*$)(?!.*\\\})",  # 10,000; but (2,102) is an interval
     lambda match: match[0].replace(",", "")),
    ("\\", r"(?<!\\)\\(?:[,;:! ]|q?quad(?![a-z])|$)", " "),
    ("\\approx", r"^(.*\S)\s*\\approx.*|\\approx", r"\1"),  # \frac23 \approx 0.67
    ("\\circ", r"\^\s*\{?\s*\\circ\s*\}?", ""),  # degrees: see _call
    ("\\overline", r"([0-9]*)\.([0-9]*)\\overline\s*\{([0-9]+)\}", lambda match: r"\frac{%d}{%d}" % (  # 0.\overline{3}
        int(match[1] + match[2] + match[3]) - int(match[1] + match[2] or 0),
        (10 ** len(match[3]) - 1) * 10 ** len(match[2]))),
    ("", r"(?<![a-zA-Z\\])(sqrt|pi|sin|cos|tan|cot|sec|csc|ln|log|infty)(?![a-zA-Z])", r"\\\1 "),
    ("and", AND_OR, ","), ("or", AND_OR, ","),
    ("", rf"^([^:]*(?:[0-9]|\\pi)[^:]*?){UNIT}", r"\1"),  # but p.m. after 8:34 is not a unit
    ("\\mathbb", r"\\mathbb\s*\{?R\}?", r"(-\\infty,\\infty)"),
    ("text", TEXT + r"([a-z]+)\}", lambda match: BASES.get(match[1], match[0])),  # 40_{\text{nine}}
    ("/", r"(?<![0-9.}^_])([0-9]+)\s+([0-9]+)/([0-9]+)", r"\1\\frac{\2}{\3}"),  # 1 1/2
    ("frac", r"frac\s*([0-9])", r"frac{\1}"),  # \frac43
    ("matrix", r"(?:\\\\\s*)?\\(begin|end)\s*\{[bp]?matrix\}", r"\\\1 "))]  # the last row may end like the others
LETTERS = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]{2}|\\(?:text|[mh]box|math|operator)")  # no '' rules without
WORDS = re.compile(TEXT + r"[^{}]*(?:[a-zA-Z]{2}|[ap]\.m)|^[A-Z]{2,}$|^[{A-Za-z .]*[A-Za-z]{3}[A-Za-z0-9 .}]*$")
TOKEN = re.compile(r"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,3}(?![0-9a-zA-Z]))?|\.[0-9]+"  # 12, 0.5, 4.5e33, .5
                   r"|\\[a-zA-Z]+|\\.|\*\*|[<>]=|\S", re.DOTALL)
SPELLINGS = {r"\frac": r"\dfrac \tfrac \cfrac", "*": r"\cdot \times", "/": r"\div :", "^": "**",
             "|": r"\lvert \rvert \vert", "(": r"\langle", ")": r"\rangle", ",": "; &", "<": r"\lt", ">": r"\gt",
             r"\le": r"\leq \leqslant <=", r"\ge": r"\geq \geqslant >=", r"\ne": r"\neq", r"\emptyset": r"\varnothing",
             "": r"\left \right \big \Big \bigl \bigr \Bigl \Bigr \displaystyle ~ % \% \( \) \[ \]"}
SAME_TOKEN = {spelling: token for token, spellings in SPELLINGS.items() for spelling in spellings.split()}

# --- parse. A tree is a number, a symbol (str), or a tuple of its kind and its children. Kinds: + * ^ ! call, where
# a - b is a + -1 * b and a / b is a * b^-1; list, set, union, rows; tuple, whose first child is its brackets (a matrix
# is a tuple of rows); chain: a = b, a < b <= c with its signs. Signs that bind tighter have a larger number.
EXACT = {int, Fraction}
FUNCTIONS = {"\\sin": cmath.sin, "\\cos": cmath.cos, "\\tan": cmath.tan, "\\cot": lambda x: 1 / cmath.tan(x),
             "\\sec": lambda x: 1 / cmath.cos(x), "\\csc": lambda x: 1 / cmath.sin(x), "\\arcsin": cmath.asin,
             "\\arccos": cmath.acos, "\\arctan": cmath.atan, "\\ln": cmath.log, "\\log": cmath.log10, "|": abs}
CONSTANTS = {"\\pi": math.pi, "e": math.e, "i": 1j}
SIGNS = {"+": 1, "-": -1, "\\pm": "\\pm", "\\mp": ("*", -1, "\\pm")}
FLIPPED = {">": "<", "\\ge": "\\le"}
BINDING = {"\\\\": 1, ",": 2, "=": 3, "<": 3, ">": 3, "\\le": 3, "\\ge": 3, "\\ne": 3, "\\in": 3, "\\cup": 4,
           "\\cap": 4, "\\setminus": 4, "+": 5, "-": 5, "\\pm": 5, "\\mp": 5, "*": 6, "/": 6, "^": 7, "!": 8, "_": 8}
KINDS = {"\\\\": "rows", ",": "list", "\\cup": "union", "+": "+", "*": "*", "": "*"}
CLOSING = {"(": (")", "]"), "[": (")", "]"), "\\{": ("\\}",), "{": ("}",), "|": ("|",), "\\begin": ("\\end",)}
ENDS = {"", "'"}.union(*CLOSING.values())


def _kind(tree) -> str:
    return tree[0] if isinstance(tree, tuple) else ""


def _members(tree, *kinds: str) -> tuple:
    return tree[1:] if _kind(tree) in kinds else (tree,)


def _parse(tokens, binding: int, depth: int):
    """Precedence climbing: an atom, and all that follows with signs that bind tighter than `binding`."""
    left = _atom(tokens, depth)
    while tokens[-1] not in ENDS and BINDING.get(tokens[-1], BINDING["*"]) > binding:
        left = _join(left, tokens.pop() if tokens[-1] in BINDING else "", tokens, depth + 1)
    return left


def _join(left, sign: str, tokens, depth: int):
    r"""`left sign right`. Nothing between two factors is a product, except in the mixed number 2\frac{1}{3}."""
    if sign == "!" and _kind(left) != "!":
        return ("!", left)
    if sign == "_":
        return f"{left}_{_atom(tokens, depth)}"  # x_1 and 40_9 are symbols: 40_9 equals no number but itself
    following = tokens[-1]
    right = _parse(tokens, BINDING[sign or "*"] - (sign == "^"), depth)  # 2^3^2 is 2^(3^2)
    factors = _members(left, "*")
    if sign == "" and type(factors[-1]) is int and following[0].isdigit():
        raise ValueError("two numbers side by side")
    if sign == "" and type(factors[-1]) is int and following == "\\frac" and type(right) is Fraction:
        return ("*", *factors[:-1], ("+", factors[-1], right))
    if sign in SIGNS:
        sign, right = "+", ("*", SIGNS[sign], right)
    if sign == "/":
        sign, right = "*", ("^", right, -1)
    if sign in FLIPPED:
        return ("chain", right, FLIPPED[sign], *_members(left, "chain"))
    kind = KINDS.get(sign, "chain")
    return ("^", left, right) if sign == "^" else (kind, *_members(left, kind), *[sign] * (kind == "chain"), right)


def _atom(tokens, depth: int):
    token = tokens.pop()
    if depth > MAX_DEPTH or token == "":
        raise ValueError("too deep, or nothing left")
    if token in SIGNS:
        return ("*", SIGNS[token], _parse(tokens, BINDING["*"], depth + 1))
    if token[0] in "0123456789.":
        return int(token) if token.isdecimal() else Fraction(token)
    if token in CLOSING:
        return _bracket(token, tokens, depth + 1)
    if token == "\\frac":
        top, bottom = _atom(tokens, depth + 1), _atom(tokens, depth + 1)
        return Fraction(top, bottom) if type(top) is type(bottom) is int else ("*", top, ("^", bottom, -1))
    if token == "\\sqrt":
        index = _bracket(tokens.pop(), tokens, depth + 1) if tokens[-1] == "[" else 2
        return ("^", _atom(tokens, depth + 1), ("^", index, -1))
    if token in FUNCTIONS and tokens[-1] != "_":
        exponent = _atom(tokens, depth + 1) if tokens[-1] == "^" and tokens.pop() else 1
        bracket = tokens[-1] in CLOSING  # \sin(x) y ends at the bracket, \sin 2x at a sign or another function
        argument = _atom(tokens, depth + 1) if bracket else _parse(tokens, BINDING["*"], depth + 1)
        while not bracket and tokens[-1] not in ENDS.union(BINDING, FUNCTIONS):
            argument = _join(argument, "", tokens, depth + 1)
        return ("^", ("call", token, argument), exponent)
    if token in ("f", "g") and tokens[-1] == "(" or token[0] == "\\" and tokens[-1] == "{":
        return ("call", token, _atom(tokens, depth + 1))
    if token.lstrip("\\").isalpha():
        return token
    raise ValueError(f"cannot read {token}")


def _bracket(opening: str, tokens, depth: int):
    """What brackets hold: a group, a set, a tuple or interval, a matrix, an absolute value."""
    tree = "" if tokens[-1] in ENDS else _parse(tokens, 0, depth)
    closing = tokens.pop()
    if closing not in CLOSING[opening] or tree == "" and opening != "\\{":
        raise ValueError(f"{opening} closed by {closing}")
    if _kind(tree) != "list" and opening + closing in ("(]", "[)"):
        raise ValueError("half an interval")
    if opening == "|":
        return ("call", "|", tree)
    if opening == "\\begin":
        return ("tuple", "matrix", *(("tuple", "row", *_members(row, "list")) for row in _members(tree, "rows")))
    if opening == "\\{":
        return ("set", *_members(tree, "list")) if tree != "" else "\\emptyset"
    return ("tuple", opening + closing, *tree[1:]) if opening != "{" and _kind(tree) == "list" else tree


# --- evaluate: rational numbers exactly, others at a random point
def _value(tree, point: int):
    """An int or Fraction where that is exact, else a float or complex. Raises ValueError or ArithmeticError."""
    if type(tree) in EXACT:
        return tree
    if isinstance(tree, str):
        return _symbol(tree, point)
    kind, *children = tree
    values = [_value(child, point) for child in children[kind == "call":]]
    if kind == "call":
        result = _call(children[0], values)
    elif kind == "^":
        base, result = values
        if type(base) in EXACT and type(result) in EXACT and result.denominator == 1:
            _bounded(base, abs(result))
            base, result = Fraction(base), int(result)
        result = base ** result
    elif kind == "!":
        result = math.factorial(values[0]) if type(values[0]) is int and values[0] < 500 else math.gamma(values[0] + 1)
    elif kind in ("+", "*"):
        result = functools.reduce(lambda a, b: _bounded(a + b if kind == "+" else a * b), values)
    else:
        raise ValueError(f"{kind} is not a number")
    if result == 0 and kind in ("*", "^") and all(values):
        raise OverflowError("too small for a float")
    return _bounded(result)


def _bounded(number, times=1):
    bits = number.numerator.bit_length() + number.denominator.bit_length() if type(number) in EXACT else 0
    if times * bits > MAX_BITS:
        raise OverflowError("too large to compute")
    return number


def _call(name: str, values: list):
    r"""A known function; for f(x) and \overline{AB} any fixed function of the arguments."""
    if name in FUNCTIONS:
        degrees = name in ("\\sin", "\\cos", "\\tan", "\\cot", "\\sec", "\\csc") and type(values[0]) in EXACT
        result = FUNCTIONS[name](values[0] * math.pi / 180 if degrees else values[0])  # 15^\circ has lost its \circ
        return 0 if abs(result) < 1e-15 else result
    return cmath.sin(sum((_symbol(name, place) + 1) * value for place, value in enumerate(values)))


@functools.lru_cache(maxsize=1024)
def _symbol(name: str, point: int):
    """A constant, or the fixed value of a variable: near 1 so that powers stay finite, and at one point negative."""
    return CONSTANTS.get(name) or random.Random(name + str(point)).uniform(0.8, 1.2) * (1, 1, -1)[point % 3]


# --- compare
def is_correct(text: str, reference: str) -> bool:
    r"""Does the response end in the reference answer? is_correct(r"It fits. \boxed{x = \frac{6}{2}}", "3") is True."""
    return is_equivalent(extract_answer(text) or "", reference)


def is_equivalent(prediction: str, reference: str) -> bool:
    r"""Is it the same answer? x \le 5 and (-\infty, 5] are, (1,2) and (2,1) are not. Symmetric; raises nothing."""
    if prediction == reference or max(len(prediction), len(reference)) > MAX_CHARS:
        return prediction.strip() == reference.strip() != ""
    try:
        return _same(_read(prediction), _read(reference))
    except (ValueError, ArithmeticError, TypeError):  # TypeError: a complex number where only a real one will do
        return False


@functools.lru_cache(maxsize=512)
def _read(text: str):
    r"""The tree of an answer. Words (\text{odd}, odd; not \text{(B)}) and what cannot be parsed are one symbol."""
    text = (text if text.isascii() else text.translate(UNICODE)).strip().rstrip(" .,;:")
    if "\\begin" not in text:
        text = text.replace("\\\\", "\\")  # escaped twice
    letters = LETTERS.search(text)
    for needed, pattern, new in RULES:
        if needed in text and (needed or letters):
            text = pattern.sub(new, text.rstrip(" .,;:\n"))
    words = letters and WORDS.search(text)
    text = re.sub(TEXT + r"([^{}]*)\}", r" \1 ", text) if letters else text
    spelling = [SAME_TOKEN.get(token, token) for token in TOKEN.findall(text)]
    tokens = ["", *(token for token in reversed(spelling) if token)]  # pop() takes the next; "" is the end, never taken
    try:
        tree = () if words else _parse(tokens, 0, 0)
    except (ValueError, ArithmeticError):
        tree = ()
    unread = tree == () or tokens != [""]
    return " " + re.sub("[.{}]", "", "".join(spelling)).casefold() if unread else tree  # 1:03 PM is 1:03 p.m.


def _same(left, right) -> bool:
    if left == right or type(left) in EXACT and type(right) in EXACT:
        return left == right
    if _kind(left) == _kind(right) == "chain" and left[2::2] == right[2::2]:
        return _same_relation(left, right)
    left, right = (tree[3] if _kind(tree) == "chain" and tree[2::2] == ("=",) and _is_name(tree[1]) else tree
                   for tree in (_interval(left), _interval(right)))  # 5 for x = 5, but x + 1 = 5 names nothing
    kinds = {_kind(left), _kind(right)}
    if kinds & {"chain", "tuple"}:
        return len(kinds) == 1 and len(left) == len(right) and all(map(_same, left[1:], right[1:]))
    left_items, right_items = _items(left), _items(right)
    if len(left_items) != len(right_items) or len(left_items) > MAX_ITEMS or "union" in kinds and len(kinds) > 1:
        return False
    if len(left_items) == 1:
        return _same_expression(left_items[0], right_items[0])
    while len(left_items) == len(right_items) > 0:  # the same members as often, in any order
        item = left_items.pop()
        match = next((place for place, other in enumerate(right_items) if _same(item, other)), len(right_items))
        right_items = right_items[:match] + right_items[match + 1:]
    return not right_items


def _is_name(tree) -> bool:
    """x, f(2), AB, (x, y), S_1 : S; no number is a part of a name."""
    parts = tree[1:2] if _kind(tree) == "^" else tree[1:] if _kind(tree) in ("*", "tuple") else ()
    return isinstance(tree, str) and tree not in CONSTANTS or all(map(_is_name, parts)) and parts != () or \
        _kind(tree) == "call" and tree[1] not in FUNCTIONS


def _items(tree) -> list:
    r"""The members of a set, list or union; a \pm b as two; anything else alone."""
    if _kind(tree) in ("list", "set", "union"):
        return [item for member in tree[1:] for item in _items(member)]
    return list(dict.fromkeys(_replaced(tree, "\\pm", sign) for sign in (1, -1)))


def _replaced(tree, old, new):
    if isinstance(tree, tuple):
        return tuple(_replaced(child, old, new) for child in tree)
    return new if tree == old else tree


def _same_expression(left, right) -> bool:
    r"""left - right is zero at three points. The exact terms stay apart: 10^{20} + \pi is not 10^{20} + 4."""
    for point in range(3):
        terms = [sign * _value(term, point) for sign, tree in ((1, left), (-1, right)) for term in _members(tree, "+")]
        exact = sum(term for term in terms if type(term) in EXACT)
        rough = [term for term in terms if type(term) not in EXACT]
        if not (rough and abs(exact + sum(rough)) <= TOLERANCE * sum(map(abs, rough)) < math.inf):
            return not rough and exact == 0
    return True


def _same_relation(left, right) -> bool:
    """a = b is c = d if a - b is everywhere the same multiple of c - d; for a < b a positive multiple."""
    same_sides = all(map(_same, left[1::2], right[1::2]))
    if same_sides or len(left) > 4:
        return same_sides
    values = [[_value(side, point) for side in left[1::2] + right[1::2]] for point in range(3)]
    (first, second), *others = [(a - b, c - d) for a, b, c, d in values]
    # subtle: the change from point to point tells x = 40000 from x = 40001; with no unknown, 0.56 = 56\%, there is none
    multiple = all(p != first and abs(p * second - q * first) <= 1e-8 * abs((p - first) * second) for p, q in others)
    ratio = complex(first / second)
    return multiple and ratio != 0 and (left[2] in ("=", "\\ne") or ratio.real > 0)


def _interval(tree):
    r"""[5, \infty) for x >= 5, (1, 2] for 1 < x <= 2, S for x \in S, a union for x < 1 or x > 2; others unchanged."""
    if _kind(tree) == "list" and all(_kind(item) == "chain" and item[2] in ("<", "\\le") for item in tree[1:]):
        return ("union", *map(_interval, tree[1:]))
    sides, signs = (tree[1::2], tree[2::2]) if _kind(tree) == "chain" else ((), ())
    if signs == ("\\in",):
        return sides[1]
    if len(sides) == 2:
        least, first = ("*", -1, "\\infty"), _is_name(sides[0])
        sides, signs = ((least, *sides), ("<", *signs)) if first else ((*sides, "\\infty"), (*signs, "<"))
    if len(sides) != 3 or not set(signs) <= {"<", "\\le"} or not _is_name(sides[1]):
        return tree
    return ("tuple", "[("[signs[0] == "<"] + "])"[signs[1] == "<"], sides[0], sides[2])


# --- what the answers add up to
passes_once = functools.lru_cache(maxsize=1 << 14)(passes_tests)  # a warm start says the same programs again and again


def judge(problems: list, texts: list[str], timeout: float) -> list[bool]:
    """Is each response (of data.Problem) right: its final answer, or its program by all of the problem's tests?

    Programs run side by side, one for each core. The same program is judged once, so that it has one verdict.
    """
    def right(pair) -> bool:
        problem, text = pair
        if not problem.tests:
            return is_correct(text, problem.answer)
        code = extract_code(text)
        return code is not None and passes_once(f"{problem.stub}\n{code}", problem.tests, timeout)

    pairs = list(zip(problems, texts))
    distinct = list(dict.fromkeys(pairs))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        each = pool.map if any(problem.tests for problem in problems) else map
        verdict = dict(zip(distinct, each(right, distinct)))
    return [verdict[pair] for pair in pairs]


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


def metrics(correct: Tensor, attempts: list[list[str]], final=extract_answer) -> dict[str, float]:
    """The paper's five metrics and more, from the first and the last attempt at each problem.

    correct (B, turns) of 0 and 1; attempts: B lists of texts. Shares of all problems: accuracy_t1, accuracy_t2,
    delta = t2 - t1 = i_to_c - c_to_i, and `changed`, whose final(text) is another. `edit_ratio` is the mean of
    edit distance / (length of y1 + length of y2). Conditional shares, 0 where the condition never holds:
    P(changed | y1 wrong), P(changed | y1 right), P(y2 right | y1 wrong and changed).
    """
    first, last = correct[:, 0].bool(), correct[:, -1].bool()
    share = lambda rows: rows.float().mean().item() if len(rows) else 0.0
    changed = [final(texts[0]) != final(texts[-1]) for texts in attempts]
    edits = [edit_distance(texts[0], texts[-1]) / max(1, len(texts[0]) + len(texts[-1])) for texts in attempts]
    moved, wrong = torch.tensor(changed, device=first.device), ~first
    return {"accuracy_t1": share(first), "accuracy_t2": share(last), "delta": share(last) - share(first),
            "i_to_c": share(~first & last), "c_to_i": share(first & ~last),
            "changed": share(moved), "edit_ratio": sum(edits) / len(edits), "rewrite_if_wrong": share(moved[wrong]),
            "rewrite_if_right": share(moved[first]), "right_if_rewritten": share(last[wrong & moved])}
