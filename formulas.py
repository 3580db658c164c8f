r"""The text of an answer becomes a tree, and the tree a number.

What this file is not: it decides nothing (rewards.py says which trees are the same answer).

    read(r"\frac{1}{2} x")            # ('*', Fraction(1, 2), 'x')
    value_of(read(r"2^{10}"), None)   # 1024

In three steps: each thing gets one spelling (normalise), the text becomes a tree (parse), the tree
a number (evaluate), exact where it is rational. What a row of RULES, SPELLINGS or FUNCTIONS says is
all that is known about LaTeX.
"""

import cmath
import functools
import math
import random
import re
from fractions import Fraction

MAX_DEPTH = 40  # of nested brackets, each of which takes up to four Python frames
MAX_BITS = 15_000  # of an exact number: 2^{4950} is computed, 9^{9^9} is not
LARGEST = (0.3, 1.1, 2.7, 127, 127, 0.7, 1.9, 3.3, 5.1, 7.1)  # at most, of an unknown at each point
NEGATIVE = 4  # the point where every unknown is negative; at those before it is positive
MIXED_SIGNS = 5  # from this point on the signs differ: see symbol_value


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
        "≠": r"\ne ",
        "≈": r"\approx ",
        "∈": r"\in ",
        "∪": r"\cup ",
        "∩": r"\cap ",
        "²": "^2",
        "³": "^3",
        "½": r"\frac12 ",
        "×": "*",
        "·": "*",
        "÷": r"\div ",
        "⁄": "/",
        "−": "-",
        "–": "-",
        "€": "",
        "£": "",
        "¢": "",
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
NUMBER_WORDS = {
    "dozen": "12",
    "hundred": "10^{2}",
    "thousand": "10^{3}",
    "million": "10^{6}",
    "billion": "10^{9}",
    "trillion": "10^{12}",
}

TEXT = r"\\(?:text[a-z]*|mbox|hbox|mathrm|mathbf|mathit|operatorname)\s*\{"  # \text{
SIZES = "boxed|fbox|tiny|small|large|Large|LARGE|huge|Huge|bf|it|rm|underline|boldsymbol|bm"
WRAPPERS = rf"\\(?:text)?color\s*\{{[a-z]+\}}|\\(?:{SIZES})(?![a-zA-Z])|^\s*\*\*|\*\*\s*$"
SHORT_UNITS = (
    "mm|cm|km|in|ft|yd|mi|mg|kg|lb|lbs|oz|ml|mL|sq|cu|mph|sec|min|hr|hrs|day|days|feet|inch"
    "|deg|rad|USD|EUR"
)
LETTER_UNITS = "[mghsL]"  # 12 h; only between a space and the end
PER_UNIT = rf"(?:\s*(?:/|per)\s*(?:{TEXT}\s*)?[a-z]+\}}?)?"  # 12 km/h
UNIT_IN_TEXT = (
    rf"[\s~]*{TEXT}[\s~]*(?:[a-zA-Z]{{2}}|{LETTER_UNITS}[\s/}}])[^{{}}]*\}}?"  # \text{ cm}
)
UNIT_IN_BRACES = r"(?<=[0-9])\{[a-z]{2}[^{}]*\}"  # 4{cm}
UNIT_ALONE = (  # 4 cm, 4cm, 4 right angles, 4dollars; but 3 abc is a product
    r"(?:(?<=[0-9}])|(?<=\\pi) )"
    rf"(?:\s*(?:{SHORT_UNITS})\b|\s+[a-z]{{4,}}|[a-z]{{5,}}|\s+[a-z]+\s[a-z]{{4,}})[a-zA-Z .]*"
)
UNIT_POWER = r"(?:\s*\^\s*\{?[0-9]\}?)?"  # 25 ft^2
UNIT = rf"(?:{UNIT_IN_TEXT}|{UNIT_IN_BRACES}|{UNIT_ALONE}){PER_UNIT}{UNIT_POWER}$"
ORDINAL = (
    rf"(?<=[0-9])\s*\^?\s*\{{?\s*(?:{TEXT}\s*)?(?:st|nd|rd|th)(?![a-z])\s*\}}?\s*\}}?"  # 12^{th}
)
THOUSANDS = r"(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9,])"  # 10,000
NO_BRACKET_CLOSES = r"(?=[^)\]]*$)(?!.*\\\})"  # from here to the end
FUNCTION_NAMES = "sqrt|pi|sin|cos|tan|cot|sec|csc|ln|log|infty"
OPERATOR_NAMES = "arcsin|arccos|arctan|sin|cos|tan|ln|log|exp|gcd|lcm|cis"
SUCH_THAT = r"(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid|\\vert|\||:)"
WORDS_BEFORE_SIGN = rf"^(?:[^=<>]*?{TEXT}[^={{}}]*[a-zA-Z]{{2}}|[A-Za-z ]*[a-z]{{3}})[^=<>]*="


def joined_by(sign: str, word: str) -> str:
    r"""A pattern of `word` between two things, with its commas: "or", \text{ or }, ", or"."""
    in_text = rf"{TEXT}[\s,]*{word}\s*\}}"
    alone = rf"(?<![a-zA-Z\\{{]){word}(?![a-zA-Z])"
    return rf"{sign}\s*(?:{in_text}|{alone})\s*,?"


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


def number_word(match: re.Match) -> str:
    r"""2.5\text{ million as 2.5\cdot 10^{6}\text{"""
    opened, word = match.groups()
    return rf"\cdot {NUMBER_WORDS[word]} {opened or ''}"


def one_name(match: re.Match) -> str:
    r"""\text{Area of } ABC = as \wordtextareaofabc ="""
    return "\\word" + re.sub("[^a-zA-Z]", "", match[0]).casefold() + " ="


ANY_WORD = ""  # needed: two letters side by side, or \text and the like

# Applied in this order. A rule is what must occur in the text (so that most are skipped at once), a
# pattern, and what stands in its place.
RULES = [
    # The dollars of money and around a formula: \$5 and $5$ -> 5
    ("$", r"\\?\$", ""),
    # Colours, sizes, bold: \color{red}{12} and **12** -> 12
    ("\\", WRAPPERS, ""),
    ("**", WRAPPERS, ""),
    # Thousands, as LaTeX spaces them: 10{,}000 and 10,\!000 -> 10000
    (",", r"(?<=[0-9])\s*(?:\{,\}|,\s*\\!|\\,)\s*(?=[0-9]{3}(?![0-9]))", ""),
    # Thousands, where no bracket closes later: 10,000 -> 10000, but (2,102) is an interval
    (",", THOUSANDS + NO_BRACKET_CLOSES, without_commas),
    ("'", r"(?<=[0-9])'(?=[0-9]{3}(?![0-9]))", ""),
    # Inches: 12'' -> 12
    ("''", r"(?<=[0-9])\s*''$", ""),
    # Spaces: 1\,\quad 2 -> 1  2
    ("\\", r"(?<!\\)\\(?:[,;:! ]|q?quad(?![a-z])|$)", " "),
    # An approximation of nothing: \approx 8.2 -> 8.2 (of something: see join)
    (r"\approx", r"^\s*\\approx", ""),
    # Degrees: 60^\circ -> 60 (functions of angles know: see call_function)
    (r"\circ", r"\^\s*\{?\s*\\circ\s*\}?", ""),
    # Repeating decimals: 0.\overline{3} -> \frac{3}{9}
    (r"\dot", r"\\dot\s*\{?([0-9])\}?", r"\\overline{\1}"),
    (r"\overline", r"([0-9]*)\.([0-9]*)\\overline\s*\{([0-9]+)\}", repeating_decimal),
    # Functions without a backslash, or in text: sqrt(2) -> \sqrt (2), \text{cis} -> \cis
    (ANY_WORD, rf"(?<![a-zA-Z\\])({FUNCTION_NAMES})(?![a-zA-Z])", r"\\\1 "),
    (ANY_WORD, rf"{TEXT}\s*\\?({OPERATOR_NAMES})\s*\}}", r"\\\1 "),
    # Intervals in words: between 1 and 3 -> (1,3)
    ("between", rf"^(?:{TEXT})?\s*between\s+(\S+)\s+and\s+([^{{}}]+)\}}?$", r"(\1,\2)"),
    # Lists in words: 1 and 2 -> 1,2
    ("and", joined_by(",?", "and"), ","),
    ("or", joined_by(",?", "or"), r"\\or "),
    # Conditions of a set: \{x \mid x < 2\} -> x < 2
    (r"\{", rf"^\s*\\\{{\s*[a-z]\s*{SUCH_THAT}(.*)\\\}}\s*$", r"\1"),
    # Conditions of a probability: P(A|B) -> P(A \mid B)
    ("|", r"\(([A-Z])\s*\|\s*([A-Z])\)", r"(\1 \\mid \2)"),
    # Ratios in words: 3 to 4 -> 3:4
    ("to", rf"(?<=[0-9])\s*(?:{TEXT}\s*to\s*\}}|to)\s*(?=[0-9])", ":"),
    # What is named by words: \text{Area of } ABC = 5 -> \wordtextareaofabc = 5
    ("=", WORDS_BEFORE_SIGN, one_name),
    # Currencies before, ordinals and number words after: USD 12, 12th, 12 million
    (ANY_WORD, r"^(?:USD|Rs\.?)\s*(?=[0-9])", ""),
    (ANY_WORD, ORDINAL, ""),
    (
        ANY_WORD,
        rf"(?<=[0-9])[\s~]*({TEXT}[\s~]*)?({'|'.join(NUMBER_WORDS)})\b",
        number_word,
    ),
    # Units at the end of something with a number: 25 ft^2 -> 25; but the p.m. of 8:34 p.m. is none
    (ANY_WORD, rf"^([^:]*(?:[0-9]|\\pi)[^:]*?){UNIT}", r"\1"),
    (" ", rf"^([^:]*[0-9])\s+{LETTER_UNITS}{PER_UNIT}{UNIT_POWER}$", r"\1"),
    # The letter of a choice: Option A -> A
    (ANY_WORD, r"(?:Option|Choice)\s*(?=\(?[A-Z]\b)", ""),
    # All real numbers: \mathbb{R} -> (-\infty,\infty)
    (r"\mathbb", r"\\mathbb\s*\{?R\}?", r"(-\\infty,\\infty)"),
    # Bases in words: 40_{\text{nine}} -> 40_{9}
    ("text", TEXT + r"([a-z]+)\}", base_in_digits),
    # Mixed numbers: 1 1/2 -> 1\frac{1}{2}
    ("/", r"(?<![0-9.}^_])([0-9]+)\s+([0-9]+)/([0-9]+)", r"\1\\frac{\2}{\3}"),
    # Fractions and binomials of digits: \frac43 -> \frac{4}3
    ("frac", r"frac\s*([0-9])", r"frac{\1}"),
    ("binom", r"binom\s*([0-9])", r"binom{\1}"),
    # The inverse of a function: f^{-1}(x) -> f`(x)
    ("^", r"([fghFGH])\s*\^\s*\{?\s*-1\s*\}?\s*(?=\(|\\left)", r"\1`"),
    # Not: x != 3 -> x \ne 3, but n!=6 is (n!)=6
    ("!=", r"\s!=", r"\\ne "),
    # The product of vectors: \mathbf{a} \times \mathbf{b} -> \mathbf{a} \cross \mathbf{b}
    (r"\times", r"(\\(?:mathbf|vec)\s*\{?[a-z]\}?\s*)\\times", r"\1\\cross "),
    # Determinants: \begin{vmatrix} -> \det \begin{matrix}
    ("vmatrix", r"\\begin\{vmatrix\}", r"\\det \\begin{matrix}"),
    # Brackets of matrices: \begin{pmatrix}1\\2\\\end{pmatrix} -> \begin 1\\2\end
    ("matrix", r"(?:\\\\\s*)?\\(begin|end)\s*\{[bpv]?matrix\}", r"\\\1 "),
]
COMPILED_RULES = [(needed, re.compile(pattern, re.DOTALL), new) for needed, pattern, new in RULES]

LETTERS = re.compile(r"(?<![a-zA-Z\\])[a-zA-Z]{2}|\\(?:text|[mh]box|math|operator)")
TEXT_COMMAND = re.compile(TEXT + r"([^{}]*)\}")
WORDS_IN_TEXT = TEXT + r"[^{}]*(?:[a-zA-Z]{2}|[ap]\.m)"  # \text{odd}, but not \text{(B)}
CAPITALS = r"^[A-Z]{2,}$"  # BCD
PHRASE = r"^(?=.*[aeiouAEIOU])[{A-Za-z .]*[A-Za-z]{3}[A-Za-z0-9 .}]*$"  # two circles, but not xyz
WORDS = re.compile(f"{WORDS_IN_TEXT}|{CAPITALS}|{PHRASE}")
TOKEN = re.compile(
    r"""
    [0-9]+ (?:\.[0-9]*)? (?:[eE][+-]?[0-9]{1,3}(?![0-9a-zA-Z]))?  # 12, 0.5, 4.5e33
    | \.[0-9]+                                                    # .5
    | \\[a-zA-Z]+ | \\.                                           # \frac, \{
    | [a-zA-Z]['`]+                                               # f'
    | \*\* | [<>]=                                                # **, <=
    | \S                                                          # any other sign
    """,
    re.DOTALL | re.VERBOSE,
)
SPELLINGS = {  # a token, and the others that mean the same
    r"\frac": r"\dfrac \tfrac \cfrac",
    r"\binom": r"\dbinom \tbinom",
    "*": r"\cdot \times",
    "^": "**",
    "|": r"\lvert \rvert \vert \| \Vert \lVert \rVert",
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
    r"\or",
    ",",
    r"= < > \le \ge \ne \in \approx \equiv \mid \to \implies \iff \perp \parallel \sim \cong"
    r" \circ \cross",
    r"\cup \cap \setminus",
    ":",
    r"+ - \pm \mp",
    r"* / \div",
    "^",
    "! _",
]
BINDING = {}  # the tighter a sign binds, the larger its number
for binding_of_row, signs_of_row in enumerate(LOOSEST_FIRST, start=1):
    BINDING.update(dict.fromkeys(signs_of_row.split(), binding_of_row))
PRODUCT = BINDING["*"]  # nothing between two factors binds as a * does

COLLECTIONS = {"\\\\": "rows", ",": "list", r"\or": "or", r"\cup": "union", ":": "ratio"}
FLIPPED = {">": "<", r"\ge": r"\le"}  # a > b is read as b < a
TERM_SIGNS = {"+": 1, "-": -1, r"\pm": r"\pm", r"\mp": ("*", -1, r"\pm")}
MINUS_ONE = ("*", -1, 1)
EMPTY_SET = r"\emptyset"
INFINITY = r"\infty"
MINUS_INFINITY = ("*", -1, INFINITY)
MEANINGS = {  # of words
    " allrealnumbers": ("tuple", "()", MINUS_INFINITY, INFINITY),
    " allreals": ("tuple", "()", MINUS_INFINITY, INFINITY),
    " nosolution": EMPTY_SET,
    " nosolutions": EMPTY_SET,
    " norealsolution": EMPTY_SET,
    " norealsolutions": EMPTY_SET,
    " emptyset": EMPTY_SET,
    " none": EMPTY_SET,
    " infinitelymany": INFINITY,
    " infinity": INFINITY,
    " doesnotexist": " dne",
}

CLOSING = {
    "(": (")", "]"),
    "[": (")", "]"),
    r"\{": (r"\}",),
    "{": ("}",),
    "|": ("|",),
    r"\lfloor": (r"\rfloor",),
    r"\lceil": (r"\rceil",),
    r"\begin": (r"\end",),
}
ENDS = {"", "'"}.union(*CLOSING.values())  # "" is the end of the text; x'' is not read

OF_ANGLES = {r"\sin", r"\cos", r"\tan", r"\cot", r"\sec", r"\csc", r"\cis"}
FUNCTIONS = {
    r"\sin": cmath.sin,
    r"\cos": cmath.cos,
    r"\tan": cmath.tan,
    r"\cot": lambda x: 1 / cmath.tan(x),
    r"\sec": lambda x: 1 / cmath.cos(x),
    r"\csc": lambda x: 1 / cmath.sin(x),
    r"\cis": lambda x: cmath.exp(1j * x),
    r"\arcsin": cmath.asin,
    r"\arccos": cmath.acos,
    r"\arctan": cmath.atan,
    r"\exp": cmath.exp,
    r"\ln": cmath.log,
    r"\log": lambda x, base=10: cmath.log(x) / cmath.log(base),
    r"\binom": lambda n, k: binomial(n, k),
    r"\gcd": math.gcd,
    r"\lcm": math.lcm,
    r"\lfloor": math.floor,
    r"\lceil": math.ceil,
    "|": abs,
}
ARGUMENT_ENDS = ENDS.union(BINDING, FUNCTIONS)
GREEK = set(
    r"\alpha \beta \gamma \delta \epsilon \varepsilon \zeta \eta \theta \iota \kappa \lambda \mu"
    r" \nu \xi \pi \rho \sigma \tau \upsilon \phi \varphi \chi \psi \omega \Delta \Theta \Lambda"
    r" \Sigma \Phi \Psi \Omega \ell \infty \emptyset".split()
)
CALLED = set("fghpqFGHPQ")  # usual names of functions


@functools.lru_cache(maxsize=512)
def read(text: str) -> Tree:
    r"""The tree of an answer: a number, a symbol (str), or a tuple of its kind and its children.

    Sums, products and powers: a - b is a + -1 * b, a / b is a * b^-1, a root is a power.

    >>> read("x - 3"), read(r"2\frac{1}{3}"), read("x^2 / 5")
    (('+', 'x', ('*', -1, 3)), ('*', Fraction(7, 3)), ('*', ('^', 'x', 2), ('^', 5, -1)))
    >>> read(r"\sqrt{x}"), read("n!"), read(r"\sin x"), read("f(x)")
    (('^', 'x', ('^', 2, -1)), ('!', 'n'), ('^', ('call', '\\sin', 'x'), 1), ('call', 'f', 'x'))

    Collections; the first child of a tuple is its brackets, and a matrix is a tuple of rows.

    >>> read("1, 2"), read(r"\{1, 2\}"), read("(1, 2)")
    (('list', 1, 2), ('set', 1, 2), ('tuple', '()', 1, 2))
    >>> read(r"S \cup T"), read(r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}")
    (('union', 'S', 'T'), ('tuple', 'matrix', ('tuple', 'row', 1, 2), ('tuple', 'row', 3, 4)))

    Relations: sides and signs in turn, from the smaller to the larger. Times of the day.

    >>> read("x = 5"), read(r"4 \ge x > 1"), read("2:05 PM")
    (('chain', 'x', '=', 5), ('chain', 1, '<', 'x', '\\le', 4), ('clock', 14, 5, 0, 'pm'))

    Words, and what cannot be parsed, are one symbol that starts with a space.

    >>> read(r"\text{Two circles}"), read("3 +")
    (' twocircles', ' 3+')
    """
    spelt, is_words = normalise(text)
    joined = re.sub("[.{}]", "", "".join(spelt)).casefold()  # 1:03 PM is 1:03 p.m.
    time = TIME.fullmatch(joined)
    if time:
        return clock(**time.groupdict())
    tokens = ["", *reversed(spelt)]  # pop() takes the next; "" is the end, and is never passed
    try:
        tree = None if is_words else parse(tokens, 0, 0)
    except (ValueError, ArithmeticError):
        tree = None
    if tree is None or tokens != [""]:
        return MEANINGS.get(" " + joined, " " + joined)
    return tree


TIME = re.compile(  # 8:05, 8:05:59pm
    r"""
    (?P<hour> [01]?[0-9] | 2[0-4])
    : (?P<minute> [0-5][0-9])
    (: (?P<second> [0-5][0-9]))?
    (?P<half> [ap]m)?
    """,
    re.VERBOSE,
)


def clock(hour: str, minute: str, second: str | None, half: str | None) -> Tree:
    """A time of the day, of 24 hours where a half is given."""
    hours = int(hour)
    if half:
        hours = hours % 12 + 12 * (half == "pm")
    return ("clock", hours, int(minute), int(second or 0), half or "")


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
    if sign in ("/", r"\div"):  # 7/3 is a fraction, 7 \div 3 work to be done: see is_plain
        return ("*", *members(left, "*"), ("^", right, -1 if sign == "/" else MINUS_ONE))
    if sign in TERM_SIGNS:
        return ("+", *members(left, "+"), ("*", TERM_SIGNS[sign], right))
    if sign in COLLECTIONS:
        kind = COLLECTIONS[sign]
        return (kind, *members(left, kind), right)
    if sign == r"\approx":  # x \approx 8.2 says 8.2, \frac23 \approx 0.67 says \frac23
        return ("chain", left, "=", right) if is_quantity(left) else left
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
        return ("*", *earlier, last + right)
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
    is_letter = token in GREEK or token.rstrip("'`").isalpha()
    if is_letter and not opens_call(token, tokens):
        return token
    if is_letter or token in FUNCTIONS or token.lstrip("\\").isalpha():
        return parse_function(token, tokens, depth + 1)
    raise ValueError(f"cannot read {token}")


def opens_call(name: str, tokens: list[str]) -> bool:
    """Is it a call, and no product? f(x) and P(0) are, x(y - 1) and h(h + 1) are none."""
    if tokens[-1] != "(" or name in CONSTANTS:
        return False
    depth = 0
    inside = []
    for token in reversed(tokens):
        depth += (token == "(") - (token == ")")
        if depth == 0:
            break
        inside.append(token)
    if name[0] not in CALLED:
        return not any(token.isalpha() for token in inside)
    itself = [after for token, after in zip(inside, inside[1:] + [""]) if token == name]
    return all(after == "(" for after in itself)


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
    r"""\sin^2 x, \log_2 x, f(x), \overline{AB}, \angle ABC.

    What is no name of FUNCTIONS is a function that nothing is known about; alone, a symbol.
    """
    exponent = 1
    below = []
    while tokens[-1] in ("_", "^"):
        if tokens.pop() == "_":
            below.append(parse_atom(tokens, depth))
        else:
            exponent = parse_atom(tokens, depth)
    if name in OF_ANGLES and exponent == MINUS_ONE:  # \sin^{-1} x is \arcsin x
        name, exponent = "\\arc" + name[1:], 1
    if name in FUNCTIONS:
        arguments = parse_arguments(name, tokens, depth)
        return ("^", ("call", name, *arguments, *below), exponent)
    scripts = below if exponent == 1 else [*below, exponent]
    if tokens[-1] in ENDS or tokens[-1] in BINDING:
        return ("call", name, *scripts) if scripts else name
    return ("call", name, *scripts, *map(in_order, parse_arguments(name, tokens, depth)))


def parse_arguments(name: str, tokens: list[str], depth: int) -> list[Tree]:
    """What brackets hold, or all up to a sign or a function."""
    if name == r"\binom":
        return [parse_atom(tokens, depth), parse_atom(tokens, depth)]
    if tokens[-1] in CLOSING:
        arguments = [parse_atom(tokens, depth)]
        while tokens[-1] == "{":
            arguments.append(parse_atom(tokens, depth))
        if kind_of(arguments[0]) == "tuple" and arguments[0][1] == "()":
            arguments[:1] = arguments[0][2:]
        return arguments
    argument = parse(tokens, PRODUCT, depth)
    while tokens[-1] not in ARGUMENT_ENDS:
        argument = join_factor(argument, tokens, depth)
    return [argument]


def in_order(tree: Tree) -> Tree:
    """ABC as one symbol: an angle is not a product."""
    if kind_of(tree) == "*" and all(isinstance(factor, str) for factor in tree[1:]):
        return "".join(tree[1:])
    return tree


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
    if opening in FUNCTIONS:
        return ("call", opening, tree)
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


def value_of(tree: Tree, point: int | None) -> Number:
    r"""An int or Fraction where that is exact, else a float or complex; point: see symbol_value.

    ValueError, ArithmeticError or TypeError: it has no value, or one that cannot be computed.

    >>> value_of(read(r"\frac{1}{3} + \frac{1}{6}"), point=None)
    Fraction(1, 2)
    """
    if isinstance(tree, str):
        return symbol_value(tree, point)
    if not isinstance(tree, tuple):
        return tree
    kind, *children = tree
    if kind == "call":
        name, *children = children
    values = [value_of(child, point) for child in children]
    if kind == "call":
        return bounded(call_function(name, values, point))
    if kind == "+":
        return add(values)
    if kind == "!":
        return bounded(factorial(values[0]))
    if kind == "*":
        result = multiply(values)
    elif kind == "^":
        result = power(*values, point)
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


def power(base: Number, exponent: Number, point: int | None) -> Number:
    """Odd roots of negative numbers are real, even ones complex: but no point of an unknown."""
    if type(base) in EXACT and type(exponent) in EXACT and exponent.denominator == 1:
        bounded(base, times=abs(exponent))
        return Fraction(base) ** int(exponent)
    if type(base) is not complex and base < 0 and type(exponent) in EXACT:
        if exponent.denominator % 2 == 1:
            return (-1) ** exponent.numerator * (-base) ** exponent
    check_real(base, point)
    return base**exponent


def check_real(number: Number, point: int | None):
    r"""ArithmeticError at a negative value of an unknown: \sqrt{x^3} is x\sqrt{x} where both are
    real, though not where both are imaginary."""
    if point is not None and type(number) is float and number < 0:
        raise ArithmeticError("no real root or logarithm here")


def factorial(number: Number) -> Number:
    if type(number) is int and number < 500:
        return math.factorial(number)
    return math.gamma(number + 1)


def binomial(n: Number, k: Number) -> Number:
    if type(n) is int and type(k) is int and n < 2000:
        return math.comb(n, k)
    return factorial(n) / factorial(k) / factorial(n - k)


def call_function(name: str, arguments: list[Number], point: int | None) -> Number:
    r"""A known function; for f(x) and \overline{AB} any fixed one, that is neither odd nor 0 at 0
    nor the same if two arguments are exchanged."""
    if name not in FUNCTIONS:
        product = 1
        for place, argument in enumerate(arguments):
            product *= (argument + shift_of(name, place)) ** 1.5
        return product
    if name in OF_ANGLES and type(arguments[0]) in EXACT:
        arguments = [arguments[0] * math.pi / 180]  # degrees: \sin 15^\circ has lost its \circ
    if name in (r"\ln", r"\log"):
        check_real(arguments[0], point)
    result = FUNCTIONS[name](*arguments)
    is_rounding = name in OF_ANGLES and abs(result) < 1e-15
    return 0 if is_rounding else result  # \cos 90^\circ would be 6e-17


@functools.lru_cache(maxsize=256)
def shift_of(name: str, place: int) -> complex:
    """What tells an unknown function from the others, and its arguments from each other."""
    generator = random.Random(f"{name} {place}")
    return complex(generator.uniform(0.5, 2), generator.uniform(0.5, 2))


@functools.lru_cache(maxsize=1024)
def symbol_value(name: str, point: int | None) -> Number:
    r"""A constant, or the value of an unknown at a point (ValueError if there is no point).

    It has ten binary digits after the point, so that short sums and products are exact.
    """
    if name in CONSTANTS:
        return CONSTANTS[name]
    if point is None:
        raise ValueError(f"{name} is unknown")
    largest = int(1024 * LARGEST[point])
    size = random.Random(name + str(point)).randrange(largest * 4 // 5, largest) / 1024
    bit = point - MIXED_SIGNS
    if bit < 0:
        return -size if point == NEGATIVE else size
    return -size if sum(map(ord, name)) >> bit & 1 else size


def unknowns(tree: Tree) -> set[str]:
    """The symbols that are no constants, and no names of functions, brackets or signs."""
    if isinstance(tree, str):
        is_letter = tree not in CONSTANTS and tree not in BINDING and any(map(str.isalpha, tree))
        return {tree} if is_letter else set()
    found = set()
    if isinstance(tree, tuple):
        for child in tree[2 if tree[0] == "call" else 1 :]:
            found |= unknowns(child)
    return found


# ---- names: what stands before an equals sign ----------------------------------------------------
def is_name(tree: Tree) -> bool:
    """x or S_1."""
    return isinstance(tree, str) and tree not in CONSTANTS


def is_quantity(tree: Tree) -> bool:
    r"""Does it stand for what was asked? x, f(2), |z|, \tan A, (x, y), AB, a/b, a + b + c do.

    x^2, 2x, x + 1 and f(f(x)) do not: one who solves x^2 = 25 has not found 25.
    """
    kind = kind_of(tree)
    if kind == "call" and tree[1] in FUNCTIONS:
        return bool(unknowns(tree))
    if kind == "call":
        return not (unknowns(tree) and any(kind_of(child) == "call" for child in tree))
    if kind == "^":  # a known function is such a power
        return kind_of(tree[1]) == "call" and is_quantity(tree[1])
    if kind in ("*", "+"):
        parts = [positive_part(part) for part in tree[1:]]
        return len(set(parts)) == len(parts) and all(map(is_quantity, parts))
    if kind in ("tuple", "ratio"):
        return all(map(is_quantity, tree[1:]))
    return is_name(tree)


def positive_part(tree: Tree) -> Tree:
    """b of a + b and of a / b."""
    if kind_of(tree) == "*" and tree[1] == 1:
        return tree[2]
    if kind_of(tree) == "^" and tree[2] == -1:
        return tree[1]
    return tree
