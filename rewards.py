r"""Is an answer right? The checker of final answers to MATH problems.

What this file is not: it shapes no reward (score.py makes of right and wrong what is optimised), it
runs no program (extras/sandbox.py), and it is no computer algebra system. It needs the standard
library alone, and no answer is ever run.

    is_correct(r"It fits. \boxed{x = \frac{6}{2}}", "3")        # True
    grade(problems, attempts)                                   # a row of bools for each problem

Two answers are read as mathematics: each thing gets one spelling (normalise), the text becomes a
tree (parse), the tree a number (evaluate). The number is exact where it is rational; otherwise it
is computed at three fixed pseudo-random values of the variables. Expressions that agree at random
points are equal with overwhelming probability: the Schwartz-Zippel lemma (J. T. Schwartz, J. ACM
27(4), 1980; R. Zippel, EUROSAM 1979), proved for polynomials over exact numbers and borrowed here
for floating point.

Conventions, as people do not agree about them:
1. the form does not count: 2/4 is 1/2, \sqrt{12} is 2\sqrt{3}, (x-1)(x+1) is x^2-1;
2. numbers are equal only exactly: 0.33 is not 1/3, and 1.414 is not \sqrt{2} (floating point
   decides about irrational numbers: two that agree to 13 digits at three points are equal);
3. units are dropped, not converted: 12 cm and 12 m are 12, 25\% is 25, \$5 is 5, 60^\circ is 60.
   So \sin and the like take a rational number in degrees, any other in radians;
4. a bare list is a set, which has no order and counts its members: 1,2 is \{2,1\}, and 1,1,2 is not
   1,2,2; a \pm b is two members;
5. tuples, intervals and matrices have an order and ends: (1,2) is not (2,1), nor [1,2];
6. an inequality is its interval, and x \in S is S: x \le 5 is (-\infty,5];
7. a name before "=" does not count: x = 5 is 5, but x + 1 = 5 is not 4. Of two equations one must
   be a multiple of the other, of two inequalities a positive one;
8. a number in base n is the same digits in the same base only: 40_9 is neither 40_7 nor 36;
9. 2\frac{1}{3} is the mixed number 7/3;
10. words have no case and letters do: Even is even, x is not X;
11. what is too long, deep, large or strange to read equals only itself. Not read are products of
    matrices, sums and integrals with limits, binomial coefficients, logarithms to a base other than
    10 and e, and `array`.
"""

import cmath
import functools
import math
import random
import re
from fractions import Fraction
from typing import Callable

MAX_CHARS = 600  # of an answer
MAX_DEPTH = 40  # of nested brackets, each of which takes up to four Python frames
MAX_BITS = 15_000  # of an exact number: 2^{4950} is computed, 9^{9^9} is not
MAX_ITEMS = 30  # of a set: to match its members in any order takes quadratic time
POINTS = range(3)  # where irrational numbers and variables are evaluated
TOLERANCE = 1e-13  # relative: ten digits of \sqrt{2} are not \sqrt{2}


# ---- is it right ---------------------------------------------------------------------------------
def is_correct(text: str, reference: str) -> bool:
    r"""Does the response end in the reference answer? Without a final answer it does not.

    >>> is_correct(r"It fits. \boxed{x = \frac{6}{2}}", "3")
    True
    >>> is_correct("It is 3.", "3")
    False
    """
    return is_equivalent(extract_answer(text) or "", reference)


BOX = re.compile(r"\\[a-z]+\s*\{")  # \boxed{
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # subtle: \{ and \} are found whole, and are no braces


def extract_answer(text: str) -> str | None:
    r"""What the last \boxed{...} (or \fbox{...}) holds; None if there is none or it was cut off.

    No earlier box and no other number stands in for one that was cut off: the policy would be paid
    for stopping early. Only the paper's closing words do without a box: "The final answer is X. I
    hope it is correct."

    >>> extract_answer(r"\boxed{1}, or rather \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> extract_answer(r"\boxed{1}, or rather \boxed{\frac{1}{2}") is None
    True
    """
    start = max(text.rfind(r"\boxed"), text.rfind(r"\fbox"))
    if start < 0:
        return answer_in_closing_words(text)
    opening = BOX.match(text, start)
    if opening is None:
        return None
    depth = 1
    for brace in BRACE.finditer(text, opening.end()):
        if brace[0] == "{":
            depth += 1
        elif brace[0] == "}":
            depth -= 1
        if depth == 0:
            return text[opening.end() : brace.start()].strip()
    return None


def answer_in_closing_words(text: str) -> str | None:
    """The X of "The final answer is X. I hope it is correct."; None if the end is not there."""
    after = text.rpartition("final answer is ")[2]
    answer, end, _ = after.partition("I hope it is correct")
    return answer.strip(" .\n") if end else None


def is_equivalent(prediction: str, reference: str) -> bool:
    r"""Is it the same answer, by the conventions above? Symmetric; raises nothing.

    >>> is_equivalent(r"\frac{2}{4}", "0.5")
    True
    >>> is_equivalent(r"x \le 5", r"(-\infty, 5]")
    True
    >>> is_equivalent("(1,2)", "(2,1)")
    False
    """
    if prediction == reference or max(len(prediction), len(reference)) > MAX_CHARS:
        return prediction.strip() == reference.strip() != ""
    try:
        return same(read(prediction), read(reference))
    except (ValueError, ArithmeticError, TypeError):  # TypeError: complex where a real is wanted
        return False


def grade(
    problems: list,
    attempts: list[list[str]],
    judge: Callable[[list, list[str]], list[bool]] | None = None,
) -> list[list[bool]]:
    r"""Is attempt i at problem b right? A row of bools for each problem, in the order of its texts.

    problems: anything with an `answer` (world.Problem); attempts: a row of texts for each problem.
    judge(problems, texts) says it of all texts at once where a final answer does not decide
    (programs: extras/sandbox.py); problems[k] is then the problem of texts[k]. Without a judge,
    `is_correct` says it. Raises ValueError where problems and rows differ in number.

    >>> from world import Problem
    >>> problems = [Problem("1 + 1?", answer="2"), Problem("1 + 2?", answer="3")]
    >>> grade(problems, [[r"\boxed{2}", r"\boxed{3}"], [r"\boxed{2}", r"\boxed{3}"]])
    [[True, False], [False, True]]
    """
    asked = []  # the problem of each text
    texts = []
    for problem, row in zip(problems, attempts, strict=True):
        for text in row:
            asked.append(problem)
            texts.append(text)
    if judge is None:
        right = [is_correct(text, problem.answer) for problem, text in zip(asked, texts)]
    else:
        right = judge(asked, texts)
    verdicts = iter(right)
    graded = []
    for row in attempts:
        graded.append([next(verdicts) for _ in row])
    return graded


# ---- normalise: one spelling of each thing -------------------------------------------------------
UNICODE = str.maketrans(
    {
        "π": r"\pi ",
        "√": r"\sqrt ",
        "∞": r"\infty ",
        "°": r"^\circ ",
        "±": r"\pm ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "∪": r"\cup ",
        "²": "^2",
        "³": "^3",
        "½": r"\frac12 ",
        "×": "*",
        "·": "*",
        "÷": "/",
        "⁄": "/",
        "−": "-",
        "–": "-",
    }
)
BASES = {
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}

TEXT = r"\\(?:text[a-z]*|mbox|hbox|mathrm|mathbf|mathit|operatorname)\s*\{"  # \text{
AND_OR_IN_TEXT = rf"{TEXT}[\s,]*(?:and|or)\s*\}}"  # \text{ and }
AND_OR_ALONE = r"(?<![a-zA-Z\\{])(?:and|or)(?![a-zA-Z])"
AND_OR = rf",?\s*(?:{AND_OR_IN_TEXT}|{AND_OR_ALONE})\s*,?"
UNIT_IN_TEXT = rf"{TEXT}\s*(?:[a-zA-Z]{{2}}[^{{}}]*|m\s*)\}}"  # 4\text{ cm}
UNIT_IN_BRACES = r"(?<=[0-9])\{[a-z]{2}[^{}]*\}"  # 4{cm}
UNIT_ALONE = r"(?<=[0-9}])\s+(?:[a-z]{3,}|[ckm]?m|ft|in|kg|sq)\b[a-zA-Z .]*"  # 4 cm, 4 right angles
UNIT_POWER = r"(?:\s*\^\s*\{?[0-9]\}?)?"  # 25 ft^2
UNIT = rf"(?:{UNIT_IN_TEXT}|{UNIT_IN_BRACES}|{UNIT_ALONE}){UNIT_POWER}$"
THOUSANDS = r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])"  # 10,000
NO_BRACKET_CLOSES = r"(?=[^)\]]*$)(?!.*\\\})"  # from here to the end
FUNCTION_NAMES = "sqrt|pi|sin|cos|tan|cot|sec|csc|ln|log|infty"


def without_commas(match: re.Match) -> str:
    return match[0].replace(",", "")


def repeating_decimal(match: re.Match) -> str:
    r"""0.1\overline{6} as a fraction: (16 - 1) / 90."""
    whole, once, repeated = match.groups()
    difference = int(whole + once + repeated) - int(whole + once or 0)
    denominator = (10 ** len(repeated) - 1) * 10 ** len(once)
    return rf"\frac{{{difference}}}{{{denominator}}}"


def base_in_digits(match: re.Match) -> str:
    r"""\text{nine} as 9; other words stay."""
    return BASES.get(match[1], match[0])


ANY_WORD = ""  # needed: two letters side by side, or \text and the like

# Applied in this order. A rule is what must occur in the text (so that most are skipped at once), a
# pattern, and what stands in its place.
RULES = [
    # The dollars of money and around a formula: \$5 and $5$ -> 5
    ("$", r"\\?\$", ""),
    # Thousands, as LaTeX spaces them: 10{,}000 and 10,\!000 -> 10000
    (",", r"(?<=[0-9])\s*(?:\{,\}|,\s*\\!|\\,)\s*(?=[0-9]{3}(?![0-9]))", ""),
    # Thousands, where no bracket closes later: 10,000 -> 10000, but (2,102) is an interval
    (",", THOUSANDS + NO_BRACKET_CLOSES, without_commas),
    # Spaces: 1\,\quad 2 -> 1  2
    ("\\", r"(?<!\\)\\(?:[,;:! ]|q?quad(?![a-z])|$)", " "),
    # An approximation after the exact value: \frac23 \approx 0.67 -> \frac23, \approx 8.2 -> 8.2
    (r"\approx", r"^(.*\S)\s*\\approx.*|\\approx", r"\1"),
    # Degrees: 60^\circ -> 60 (functions of angles know: see call_function)
    (r"\circ", r"\^\s*\{?\s*\\circ\s*\}?", ""),
    # Repeating decimals: 0.\overline{3} -> \frac{3}{9}
    (r"\overline", r"([0-9]*)\.([0-9]*)\\overline\s*\{([0-9]+)\}", repeating_decimal),
    # Functions without a backslash: sqrt(2) -> \sqrt (2)
    (ANY_WORD, rf"(?<![a-zA-Z\\])({FUNCTION_NAMES})(?![a-zA-Z])", r"\\\1 "),
    # Lists in words: 1 and 2 -> 1,2
    ("and", AND_OR, ","),
    ("or", AND_OR, ","),
    # Units at the end of something with a number: 25 ft^2 -> 25; but the p.m. of 8:34 p.m. is none
    (ANY_WORD, rf"^([^:]*(?:[0-9]|\\pi)[^:]*?){UNIT}", r"\1"),
    # All real numbers: \mathbb{R} -> (-\infty,\infty)
    (r"\mathbb", r"\\mathbb\s*\{?R\}?", r"(-\\infty,\\infty)"),
    # Bases in words: 40_{\text{nine}} -> 40_{9}
    ("text", TEXT + r"([a-z]+)\}", base_in_digits),
    # Mixed numbers: 1 1/2 -> 1\frac{1}{2}
    ("/", r"(?<![0-9.}^_])([0-9]+)\s+([0-9]+)/([0-9]+)", r"\1\\frac{\2}{\3}"),
    # Fractions of digits: \frac43 -> \frac{4}3
    ("frac", r"frac\s*([0-9])", r"frac{\1}"),
    # Brackets of matrices: \begin{pmatrix}1\\2\\\end{pmatrix} -> \begin 1\\2\end
    ("matrix", r"(?:\\\\\s*)?\\(begin|end)\s*\{[bp]?matrix\}", r"\\\1 "),
]
COMPILED_RULES = [(needed, re.compile(pattern, re.DOTALL), new) for needed, pattern, new in RULES]

LETTERS = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]{2}|\\(?:text|[mh]box|math|operator)")
TEXT_COMMAND = re.compile(TEXT + r"([^{}]*)\}")
WORDS_IN_TEXT = TEXT + r"[^{}]*(?:[a-zA-Z]{2}|[ap]\.m)"  # \text{odd}, but not \text{(B)}
CAPITALS = r"^[A-Z]{2,}$"  # BCD
PHRASE = r"^[{A-Za-z .]*[A-Za-z]{3}[A-Za-z0-9 .}]*$"  # two circles
WORDS = re.compile(f"{WORDS_IN_TEXT}|{CAPITALS}|{PHRASE}")
TOKEN = re.compile(
    r"""
    [0-9]+ (?:\.[0-9]*)? (?:[eE][+-]?[0-9]{1,3}(?![0-9a-zA-Z]))?  # 12, 0.5, 4.5e33
    | \.[0-9]+                                                    # .5
    | \\[a-zA-Z]+ | \\.                                           # \frac, \{
    | \*\* | [<>]=                                                # **, <=
    | \S                                                          # any other sign
    """,
    re.DOTALL | re.VERBOSE,
)
SPELLINGS = {  # a token, and the others that mean the same
    r"\frac": r"\dfrac \tfrac \cfrac",
    "*": r"\cdot \times",
    "/": r"\div :",
    "^": "**",
    "|": r"\lvert \rvert \vert",
    "(": r"\langle",
    ")": r"\rangle",
    ",": "; &",
    "<": r"\lt",
    ">": r"\gt",
    r"\le": r"\leq \leqslant <=",
    r"\ge": r"\geq \geqslant >=",
    r"\ne": r"\neq",
    r"\emptyset": r"\varnothing",
    "": r"\left \right \big \Big \bigl \bigr \Bigl \Bigr \displaystyle ~ % \% \( \) \[ \]",
}
ONE_SPELLING = {}
for kept, others in SPELLINGS.items():
    ONE_SPELLING.update(dict.fromkeys(others.split(), kept))


def normalise(text: str) -> tuple[list[str], bool]:
    r"""The tokens of an answer, each thing spelt in one way, and whether the answer is words.

    >>> normalise(r"$\dfrac12 \cdot 10,000$ cm.")
    (['\\frac', '{', '1', '}', '2', '*', '10000'], False)
    >>> normalise(r"\text{two circles}")
    (['t', 'w', 'o', 'c', 'i', 'r', 'c', 'l', 'e', 's'], True)
    """
    if not text.isascii():
        text = text.translate(UNICODE)
    text = text.strip().rstrip(" .,;:")
    if r"\begin" not in text:
        text = text.replace("\\\\", "\\")  # escaped twice; in a matrix it begins a row
    has_letters = LETTERS.search(text) is not None
    for needed, pattern, new in COMPILED_RULES:
        applies = has_letters if needed == ANY_WORD else needed in text
        if applies:
            text = pattern.sub(new, text.rstrip(" .,;:\n"))
    is_words = has_letters and WORDS.search(text) is not None
    if has_letters:
        text = TEXT_COMMAND.sub(r" \1 ", text)  # \text{(B)} -> (B)
    tokens = [ONE_SPELLING.get(token, token) for token in TOKEN.findall(text)]
    return [token for token in tokens if token], is_words


# ---- parse: tokens become a tree -----------------------------------------------------------------
Tree = int | Fraction | str | tuple  # a number, a symbol, or a kind and its children: see `read`
EXACT = {int, Fraction}

LOOSEST_FIRST = [  # the signs that stand between two things, or after one
    r"\\",
    ",",
    r"= < > \le \ge \ne \in",
    r"\cup \cap \setminus",
    r"+ - \pm \mp",
    "* /",
    "^",
    "! _",
]
BINDING = {}  # the tighter a sign binds, the larger its number
for binding_of_row, signs_of_row in enumerate(LOOSEST_FIRST, start=1):
    BINDING.update(dict.fromkeys(signs_of_row.split(), binding_of_row))
PRODUCT = BINDING["*"]  # nothing between two factors binds as a * does

COLLECTIONS = {"\\\\": "rows", ",": "list", r"\cup": "union"}
FLIPPED = {">": "<", r"\ge": r"\le"}  # a > b is read as b < a
TERM_SIGNS = {"+": 1, "-": -1, r"\pm": r"\pm", r"\mp": ("*", -1, r"\pm")}
EMPTY_SET = r"\emptyset"

CLOSING = {
    "(": (")", "]"),
    "[": (")", "]"),
    r"\{": (r"\}",),
    "{": ("}",),
    "|": ("|",),
    r"\begin": (r"\end",),
}
ENDS = {"", "'"}.union(*CLOSING.values())  # "" is the end of the text; x' is not read

OF_ANGLES = {r"\sin", r"\cos", r"\tan", r"\cot", r"\sec", r"\csc"}
FUNCTIONS = {
    r"\sin": cmath.sin,
    r"\cos": cmath.cos,
    r"\tan": cmath.tan,
    r"\cot": lambda x: 1 / cmath.tan(x),
    r"\sec": lambda x: 1 / cmath.cos(x),
    r"\csc": lambda x: 1 / cmath.sin(x),
    r"\arcsin": cmath.asin,
    r"\arccos": cmath.acos,
    r"\arctan": cmath.atan,
    r"\ln": cmath.log,
    r"\log": cmath.log10,
    "|": abs,
}
ARGUMENT_ENDS = ENDS.union(BINDING, FUNCTIONS)


@functools.lru_cache(maxsize=512)
def read(text: str) -> Tree:
    r"""The tree of an answer: a number, a symbol (str), or a tuple of its kind and its children.

    Sums, products and powers: a - b is a + -1 * b, a / b is a * b^-1, a root is a power.

    >>> read("x - 3"), read(r"2\frac{1}{3}"), read("x^2 / 5")
    (('+', 'x', ('*', -1, 3)), ('*', ('+', 2, Fraction(1, 3))), ('*', ('^', 'x', 2), ('^', 5, -1)))
    >>> read(r"\sqrt{x}"), read("n!"), read(r"\sin x"), read("f(x)")
    (('^', 'x', ('^', 2, -1)), ('!', 'n'), ('^', ('call', '\\sin', 'x'), 1), ('call', 'f', 'x'))

    Collections; the first child of a tuple is its brackets, and a matrix is a tuple of rows.

    >>> read("1, 2"), read(r"\{1, 2\}"), read("(1, 2)")
    (('list', 1, 2), ('set', 1, 2), ('tuple', '()', 1, 2))
    >>> read(r"S \cup T"), read(r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}")
    (('union', 'S', 'T'), ('tuple', 'matrix', ('tuple', 'row', 1, 2), ('tuple', 'row', 3, 4)))

    Relations: sides and signs in turn, from the smaller to the larger.

    >>> read("x = 5"), read(r"4 \ge x > 1")
    (('chain', 'x', '=', 5), ('chain', 1, '<', 'x', '\\le', 4))

    Words, and what cannot be parsed, are one symbol that starts with a space.

    >>> read(r"\text{Two circles}"), read("3 +")
    (' twocircles', ' 3+')
    """
    spelt, is_words = normalise(text)
    tokens = ["", *reversed(spelt)]  # pop() takes the next; "" is the end, and is never passed
    try:
        tree = None if is_words else parse(tokens, 0, 0)
    except (ValueError, ArithmeticError):
        tree = None
    if tree is None or tokens != [""]:
        return " " + re.sub("[.{}]", "", "".join(spelt)).casefold()  # 1:03 PM is 1:03 p.m.
    return tree


def kind_of(tree: Tree) -> str:
    return tree[0] if isinstance(tree, tuple) else ""


def members(tree: Tree, kind: str) -> tuple:
    """The children of a tree of this kind; any other tree alone: the terms of a + b, or of a."""
    return tree[1:] if kind_of(tree) == kind else (tree,)


def parse(tokens: list[str], binding: int, depth: int) -> Tree:
    """Precedence climbing: an atom, and what follows with signs that bind tighter than `binding`.

    Takes what it reads from the end of `tokens`. ValueError or ZeroDivisionError: it is no answer.
    """
    left = parse_atom(tokens, depth)
    while tokens[-1] not in ENDS and BINDING.get(tokens[-1], PRODUCT) > binding:
        sign = tokens.pop() if tokens[-1] in BINDING else ""
        left = join(left, sign, tokens, depth + 1)
    return left


def join(left: Tree, sign: str, tokens: list[str], depth: int) -> Tree:
    """`left sign right`, where right is still to be read."""
    if sign == "":
        return join_factor(left, tokens, depth)
    if sign == "!" and kind_of(left) != "!":  # 3!! would not be (3!)!
        return ("!", left)
    if sign == "_":
        return f"{left}_{parse_atom(tokens, depth)}"  # x_1 and 40_9 are symbols
    if sign == "^":
        exponent = parse(tokens, BINDING["^"] - 1, depth)  # -1, as 2^3^2 is 2^(3^2)
        return ("^", left, exponent)
    right = parse(tokens, BINDING[sign], depth)
    if sign == "*":
        return ("*", *members(left, "*"), right)
    if sign == "/":
        return ("*", *members(left, "*"), ("^", right, -1))
    if sign in TERM_SIGNS:
        return ("+", *members(left, "+"), ("*", TERM_SIGNS[sign], right))
    if sign in COLLECTIONS:
        kind = COLLECTIONS[sign]
        return (kind, *members(left, kind), right)
    if sign in FLIPPED:
        return ("chain", right, FLIPPED[sign], *members(left, "chain"))
    return ("chain", *members(left, "chain"), sign, right)


def join_factor(left: Tree, tokens: list[str], depth: int) -> Tree:
    r"""Nothing between two factors is a product, except in the mixed number 2\frac{1}{3}."""
    following = tokens[-1]
    right = parse(tokens, PRODUCT, depth)
    *earlier, last = members(left, "*")
    if type(last) is int and following[0].isdigit():
        raise ValueError("two numbers side by side")
    if type(last) is int and following == r"\frac" and type(right) is Fraction:
        return ("*", *earlier, ("+", last, right))
    return ("*", *earlier, last, right)


def parse_atom(tokens: list[str], depth: int) -> Tree:
    """A number, a symbol, something in brackets, a function with its argument, a signed product."""
    token = tokens.pop()
    if depth > MAX_DEPTH or token == "":
        raise ValueError("too deep, or nothing left")
    if token[0] in "0123456789.":
        return int(token) if token.isdecimal() else Fraction(token)
    if token in TERM_SIGNS:
        return ("*", TERM_SIGNS[token], parse(tokens, PRODUCT, depth + 1))
    if token in CLOSING:
        return parse_bracket(token, tokens, depth + 1)
    if token == r"\frac":
        return parse_fraction(tokens, depth + 1)
    if token == r"\sqrt":
        return parse_root(tokens, depth + 1)
    if token in FUNCTIONS and tokens[-1] != "_":
        return parse_function(token, tokens, depth + 1)
    if token in ("f", "g") and tokens[-1] == "(":  # f(x)
        return ("call", token, parse_atom(tokens, depth + 1))
    if token[0] == "\\" and tokens[-1] == "{":  # \overline{AB}
        return ("call", token, parse_atom(tokens, depth + 1))
    if token.lstrip("\\").isalpha():
        return token
    raise ValueError(f"cannot read {token}")


def parse_fraction(tokens: list[str], depth: int) -> Tree:
    top = parse_atom(tokens, depth)
    bottom = parse_atom(tokens, depth)
    if type(top) is int and type(bottom) is int:
        return Fraction(top, bottom)
    return ("*", top, ("^", bottom, -1))


def parse_root(tokens: list[str], depth: int) -> Tree:
    r"""\sqrt{x} or \sqrt[index]{x}."""
    index = 2
    if tokens[-1] == "[":
        index = parse_bracket(tokens.pop(), tokens, depth)
    return ("^", parse_atom(tokens, depth), ("^", index, -1))


def parse_function(name: str, tokens: list[str], depth: int) -> Tree:
    r"""\sin^2 x: its argument ends where its bracket closes, or before a sign or a function."""
    exponent = 1
    if tokens[-1] == "^":
        tokens.pop()
        exponent = parse_atom(tokens, depth)
    if tokens[-1] in CLOSING:
        argument = parse_atom(tokens, depth)
    else:
        argument = parse(tokens, PRODUCT, depth)
        while tokens[-1] not in ARGUMENT_ENDS:
            argument = join_factor(argument, tokens, depth)
    return ("^", ("call", name, argument), exponent)


def parse_bracket(opening: str, tokens: list[str], depth: int) -> Tree:
    """What brackets hold: a group, a set, a tuple or interval, a matrix, an absolute value."""
    tree = None if tokens[-1] in ENDS else parse(tokens, 0, depth)
    closing = tokens.pop()
    if closing not in CLOSING[opening]:
        raise ValueError(f"{opening} closed by {closing}")
    if tree is None:
        if opening == r"\{":
            return EMPTY_SET
        raise ValueError("nothing in brackets")
    if opening == "|":
        return ("call", "|", tree)
    if opening == r"\{":
        return ("set", *members(tree, "list"))
    if opening == r"\begin":
        rows = [("tuple", "row", *members(row, "list")) for row in members(tree, "rows")]
        return ("tuple", "matrix", *rows)
    brackets = opening + closing
    if kind_of(tree) == "list" and opening != "{":
        return ("tuple", brackets, *tree[1:])
    if brackets in ("(]", "[)"):
        raise ValueError("half an interval")
    return tree


# ---- evaluate: rational numbers exactly, others at a random point --------------------------------
CONSTANTS = {r"\pi": math.pi, "e": math.e, "i": 1j}
Number = int | Fraction | float | complex


def value_of(tree: Tree, point: int) -> Number:
    r"""An int or Fraction where that is exact, else a float or complex.

    ValueError, ArithmeticError or TypeError: it has no value, or one that cannot be computed.

    >>> value_of(read(r"\frac{1}{3} + \frac{1}{6}"), point=0)
    Fraction(1, 2)
    """
    if type(tree) in EXACT:
        return tree
    if isinstance(tree, str):
        return symbol_value(tree, point)
    kind, *children = tree
    if kind == "call":
        name, argument = children
        return bounded(call_function(name, value_of(argument, point)))
    values = [value_of(child, point) for child in children]
    if kind == "+":
        return add(values)
    if kind == "!":
        return bounded(factorial(values[0]))
    if kind == "*":
        result = multiply(values)
    elif kind == "^":
        result = power(*values)
    else:
        raise ValueError(f"{kind} is not a number")
    if result == 0 and all(values):
        raise OverflowError("too small for a float")
    return bounded(result)


def bounded(number: Number, times: int = 1) -> Number:
    """The number itself. OverflowError if `times` exact ones like it have too many digits."""
    if type(number) in EXACT:
        bits = number.numerator.bit_length() + number.denominator.bit_length()
        if times * bits > MAX_BITS:
            raise OverflowError("too large to compute")
    return number


def add(values: list[Number]) -> Number:
    total = values[0]
    for value in values[1:]:
        total = bounded(total + value)
    return total


def multiply(values: list[Number]) -> Number:
    product = values[0]
    for value in values[1:]:
        product = bounded(product * value)
    return product


def power(base: Number, exponent: Number) -> Number:
    if type(base) in EXACT and type(exponent) in EXACT and exponent.denominator == 1:
        bounded(base, times=abs(exponent))
        return Fraction(base) ** int(exponent)
    return base**exponent


def factorial(number: Number) -> Number:
    if type(number) is int and number < 500:
        return math.factorial(number)
    return math.gamma(number + 1)


def call_function(name: str, argument: Number) -> Number:
    r"""A known function; for f(x) and \overline{AB}, any fixed function of the argument."""
    if name not in FUNCTIONS:
        return cmath.sin((symbol_value(name, 0) + 1) * argument)
    if name in OF_ANGLES and type(argument) in EXACT:
        argument = argument * math.pi / 180  # degrees: \sin 15^\circ has lost its \circ
    result = FUNCTIONS[name](argument)
    return 0 if abs(result) < 1e-15 else result  # \cos 90^\circ would be 6e-17


@functools.lru_cache(maxsize=1024)
def symbol_value(name: str, point: int) -> Number:
    r"""A constant, or the fixed value of a variable: near 1, so that powers stay finite, and at the
    last point negative, as \sqrt{x^2} is not x."""
    if name in CONSTANTS:
        return CONSTANTS[name]
    size = random.Random(name + str(point)).uniform(0.8, 1.2)
    return -size if point == POINTS[-1] else size


# ---- compare -------------------------------------------------------------------------------------
def same(left: Tree, right: Tree) -> bool:
    """Are two trees the same answer?"""
    if left == right:
        return True
    if type(left) in EXACT and type(right) in EXACT:
        return False
    if kind_of(left) == kind_of(right) == "chain" and signs_of(left) == signs_of(right):
        return same_relation(left, right)
    left = answer_of(left)  # what x = 5 or x > 5 says of x
    right = answer_of(right)
    kinds = {kind_of(left), kind_of(right)}
    if "chain" in kinds or "tuple" in kinds:
        return same_parts(left, right)
    if "union" in kinds and len(kinds) > 1:
        return False
    left_items = items_of(left)  # one, if it is an expression
    right_items = items_of(right)
    if len(left_items) != len(right_items) or len(left_items) > MAX_ITEMS:
        return False
    if len(left_items) == 1:
        return same_expression(left_items[0], right_items[0])
    return same_members(left_items, right_items)


def same_parts(left: Tree, right: Tree) -> bool:
    """Tuples of the same length, part for part; brackets and signs are symbols among the parts."""
    if kind_of(left) != kind_of(right) or len(left) != len(right):
        return False
    return all(map(same, left[1:], right[1:]))


def same_members(left: list[Tree], right: list[Tree]) -> bool:
    """Two lists of the same length: the same members, each as often, in any order?"""
    unmatched = list(right)
    for item in reversed(left):
        place = find_same(item, unmatched)
        if place is None:
            return False
        del unmatched[place]
    return True


def find_same(item: Tree, others: list[Tree]) -> int | None:
    """The place of the first that is the same; None if there is none."""
    for place, other in enumerate(others):
        if same(item, other):
            return place
    return None


def items_of(tree: Tree) -> list[Tree]:
    r"""The members of a set, list or union; a \pm b as two; anything else alone."""
    if kind_of(tree) in ("list", "set", "union"):
        items = []
        for member in tree[1:]:
            items += items_of(member)
        return items
    plus = with_sign(tree, 1)
    minus = with_sign(tree, -1)
    return [plus] if plus == minus else [plus, minus]


def with_sign(tree: Tree, sign: int) -> Tree:
    r"""The tree with `sign` for \pm."""
    if isinstance(tree, tuple):
        return tuple(with_sign(child, sign) for child in tree)
    return sign if tree == r"\pm" else tree


def same_expression(left: Tree, right: Tree) -> bool:
    r"""Is left - right zero at all points?

    The exact terms are added up apart from the rough ones: 10^{20} + \pi is not 10^{20} + 4.
    """
    for point in POINTS:
        terms = [value_of(term, point) for term in members(left, "+")]
        terms += [-value_of(term, point) for term in members(right, "+")]
        exact = sum(term for term in terms if type(term) in EXACT)
        rough = [term for term in terms if type(term) not in EXACT]
        if not rough:
            return exact == 0  # and so it is at every other point
        difference = abs(exact + sum(rough))
        size = sum(map(abs, rough))
        if not difference <= TOLERANCE * size < math.inf:  # subtle: nan is not <= either
            return False
    return True


# ---- compare relations ---------------------------------------------------------------------------
LESS = ("<", r"\le")
MINUS_INFINITY = ("*", -1, r"\infty")


def sides_of(chain: tuple) -> tuple:
    """a, b and c of a < b <= c."""
    return chain[1::2]


def signs_of(chain: tuple) -> tuple:
    r"""< and \le of a < b <= c."""
    return chain[2::2]


def same_relation(left: tuple, right: tuple) -> bool:
    """Two chains with the same signs. a = b is c = d if a - b is everywhere the same multiple of
    c - d; for a < b it must be a positive one. Of longer chains the sides must be the same."""
    if all(map(same, sides_of(left), sides_of(right))):
        return True
    if len(sides_of(left)) > 2:
        return False
    ours, *our_others = [gap(left, point) for point in POINTS]
    theirs, *their_others = [gap(right, point) for point in POINTS]
    ratio = complex(ours / theirs)
    for our_other, their_other in zip(our_others, their_others):
        # subtle: the change from point to point tells x = 40000 from x = 40001; with no unknown, as
        # in 0.56 = 56\%, there is none
        change = our_other - ours
        if change == 0:
            return False
        error = our_other * theirs - their_other * ours
        if not abs(error) <= 1e-8 * abs(change * theirs):
            return False
    sign = signs_of(left)[0]
    return ratio != 0 and (sign in ("=", r"\ne") or ratio.real > 0)


def gap(relation: tuple, point: int) -> Number:
    """a - b of the relation a = b."""
    left, right = sides_of(relation)
    return value_of(left, point) - value_of(right, point)


def answer_of(tree: Tree) -> Tree:
    """5 for x = 5, and the interval of an inequality; but x + 1 = 5 names nothing."""
    tree = interval_of(tree)
    is_equation = kind_of(tree) == "chain" and signs_of(tree) == ("=",)
    if is_equation and is_name(tree[1]):
        return tree[3]
    return tree


def is_name(tree: Tree) -> bool:
    """x, f(2), AB, (x, y), S_1 : S; no number is a part of a name."""
    if isinstance(tree, str):
        return tree not in CONSTANTS
    kind = kind_of(tree)
    if kind == "call":
        return tree[1] not in FUNCTIONS
    if kind == "^":
        return is_name(tree[1])
    if kind in ("*", "tuple"):
        return all(map(is_name, tree[1:]))
    return False


def interval_of(tree: Tree) -> Tree:
    r"""[5, \infty) for x >= 5, (1, 2] for 1 < x <= 2, S for x \in S; others unchanged.

    x < 1 or x > 2 is the union of two.
    """
    if kind_of(tree) == "list" and all(map(is_less_than, tree[1:])):
        return ("union", *map(interval_of, tree[1:]))
    if kind_of(tree) != "chain":
        return tree
    if signs_of(tree) == (r"\in",):
        return tree[3]
    between = between_two(tree)
    if len(between) != 6:
        return tree
    _, least, first, name, second, greatest = between
    if first not in LESS or second not in LESS or not is_name(name):
        return tree
    opening = "(" if first == "<" else "["
    closing = ")" if second == "<" else "]"
    return ("tuple", opening + closing, least, greatest)


def is_less_than(tree: Tree) -> bool:
    return kind_of(tree) == "chain" and tree[2] in LESS


def between_two(chain: tuple) -> tuple:
    r"""-\infty < x < 5 for x < 5, and 5 < x < \infty for 5 < x; a longer chain as it is."""
    if len(sides_of(chain)) != 2:
        return chain
    if is_name(chain[1]):
        return ("chain", MINUS_INFINITY, "<", *chain[1:])
    return (*chain, "<", r"\infty")
