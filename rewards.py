r"""Is an answer right? The checker of final answers to MATH problems.

What this file is not: it shapes no reward (score.py makes of right and wrong what is optimised), it
runs no program (extras/sandbox.py), and it is no computer algebra system. It needs the standard
library alone, and no answer is ever run.

    is_correct(r"It fits. \boxed{x = \frac{6}{2}}", "3")        # True
    is_equivalent(r"\frac{6}{2}", "3")                          # True: as mathematics
    grade(problems, attempts)                                   # a row of bools for each problem

Two answers are read as mathematics (formulas.py): the text becomes a tree, the tree a
number. The number is exact where it is rational; otherwise it is computed at ten fixed values of
the unknowns, of all sizes and both signs. Expressions that agree at random points are equal with
overwhelming probability: the Schwartz-Zippel lemma (J. T. Schwartz, J. ACM 27(4), 1980; R. Zippel,
EUROSAM 1979), proved for polynomials over exact numbers and borrowed here for floating point.

Conventions, as people do not agree about them:
1. the form does not count: 2/4 is 1/2, \sqrt{12} is 2\sqrt{3}, (x-1)(x+1) is x^2-1; but work that
   is left to be done earns no reward: 32^2 - 18^2 is equivalent to 700, and is not correct where
   the reference is 700 (see is_worked_out);
2. numbers are equal only exactly: 0.33 is not 1/3, and 1.414 is not \sqrt{2} (floating point
   decides about irrational numbers: two that agree to 13 digits are equal);
3. units are dropped, not converted: 12 cm and 12 m are 12, 25\% is 25, \$5 is 5, 60^\circ is 60.
   So \sin and the like take a rational number in degrees, any other in radians, and the value of
   \arcsin is in radians. Number words are no units: 2.5 million is 2500000;
4. a bare list is a set, which has no order and counts its members: 1,2 is \{2,1\}, and 1,1,2 is not
   1,2,2; a \pm b is two members;
5. tuples, intervals and matrices have an order and ends: (1,2) is not (2,1), nor [1,2];
6. an inequality is its interval, and x \in S is S: x \le 5 is (-\infty,5]. Inequalities joined by a
   comma or "and" hold together, by "or" one of them does;
7. a name before "=" does not count: x = 5 is 5, and so are \tan A = 5 and a + b = 5, but x + 1 = 5,
   x^2 = 5 and f(f(x)) = 5 are not (see is_quantity). Of a true equation of numbers the last side
   counts. Of two equations one must be a multiple of the other, of two inequalities a positive one;
8. a number in base n is the same digits in the same base only: 40_9 is neither 40_7 nor 36;
9. 2\frac{1}{3} is the mixed number 7/3; a ratio is a quotient, 1:2 is 2:4, but 12:30 is a time;
10. words have no case and letters do: Even is even, x is not X;
11. roots and logarithms of unknowns are compared where they are real: \sqrt{x^3} is x\sqrt{x}, but
   \sqrt{x^2} is not x. Odd roots of negative numbers are real;
12. f(x), P(0) and every command that is not known are functions of which nothing is known: h(2x) is
   not 2h(x), \angle ABC not \angle ACB;
13. what is too long, deep, large or strange to read equals only itself. Not read are products of
   matrices, sums and integrals with limits, and `array`.
"""

import math
import re
from fractions import Fraction
from typing import Callable

from formulas import (
    EXACT,
    FUNCTIONS,
    INFINITY,
    LARGEST,
    MINUS_INFINITY,
    Number,
    Tree,
    is_name,
    is_quantity,
    kind_of,
    members,
    read,
    unknowns,
    value_of,
)

MAX_CHARS = 600  # of an answer
MAX_ITEMS = 30  # of a set: to match its members in any order takes quadratic time
TOLERANCE = 1e-13  # relative: ten digits of \sqrt{2} are not \sqrt{2}
NO_VALUE = (ValueError, ArithmeticError, TypeError)  # TypeError: complex where a real is wanted


# ---- is it right ---------------------------------------------------------------------------------
def is_correct(text: str, reference: str) -> bool:
    r"""Does a response end in the reference answer, worked out? Without a final answer: no.

    >>> is_correct(r"It fits. \boxed{x = \frac{6}{2}}", "3")
    True
    >>> is_correct("It is 3.", "3"), is_correct(r"\boxed{1 + 2}", "3")
    (False, False)
    """
    answer = extract_answer(text) or ""
    return is_equivalent(answer, reference) and is_worked_out(answer, reference)


BOX = re.compile(r"\\[a-z]+\s*\{")  # \boxed{
BARE_BOX = re.compile(r"\\[a-z]+\s+([^\s{}$]+)(?=[\s$])")  # \boxed 7 and a space or $
BRACE = re.compile(r"\\.|[{}]", re.DOTALL)  # subtle: \{ and \} are found whole, and are no braces


def extract_answer(text: str) -> str | None:
    r"""What the last \boxed{...} (or \fbox{...}) holds; None if there is none or it was cut off.

    No earlier box and no other number stands in for one that was cut off: the policy would be paid
    for stopping early. Only the paper's closing words do without a box: "The final answer is X. I
    hope it is correct." Of \boxed 7 without braces the 7 counts if something follows it.

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
        bare = BARE_BOX.match(text, start)
        return bare and bare[1]
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
    return same(read(prediction), read(reference))


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


# ---- compare -------------------------------------------------------------------------------------
def same(left: Tree, right: Tree) -> bool:
    """Are two trees the same answer? What has no value is the same only as itself."""
    try:
        return left == right or compare(left, right)
    except NO_VALUE:
        return False


def compare(left: Tree, right: Tree) -> bool:
    """Are two trees that differ the same answer?"""
    if type(left) in EXACT and type(right) in EXACT:
        return left == right
    if kind_of(left) == kind_of(right) == "chain" and signs_of(left) == signs_of(right):
        return same_relation(left, right)
    left = answer_of(left)  # what x = 5 or x > 5 says of x
    right = answer_of(right)
    kinds = {kind_of(left), kind_of(right)}
    if kinds == {"clock"}:
        return same_time(left, right)
    if kinds not in ({"tuple"}, {"set"}) and all(map(is_region, (left, right))):
        if len((unknowns(left) | unknowns(right)) - {INFINITY}) <= 1:  # x < 1 is not y < 1
            return same_region(left, right)
    if kinds == {"list", "tuple"}:
        left, right = coordinates(left), coordinates(right)
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


def coordinates(tree: Tree) -> Tree:
    """(1, 2) for x = 1, y = 2, in the order of the names; others unchanged."""
    if kind_of(tree) != "list" or not all(map(is_equation, tree[1:])):
        return tree
    names = [equation[1] for equation in tree[1:]]
    if not all(isinstance(name, str) for name in names) or names != sorted(set(names)):
        return tree
    return ("tuple", "()", *map(answer_of, tree[1:]))


def same_time(left: Tree, right: Tree) -> bool:
    """The same hour, minute and second; with p.m. on one side, 2:30 and 14:30 are 2:30 p.m."""
    (_, hour, *rest, half), (_, other_hour, *other_rest, other_half) = left, right
    one_half = (half == "") != (other_half == "")
    plain_hour = other_hour if half else hour
    if one_half and plain_hour <= 12:
        return hour % 12 == other_hour % 12 and rest == other_rest
    return hour == other_hour and rest == other_rest and (one_half or half == other_half)


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
    if kind_of(tree) in ("list", "set", "union", "or"):
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
    r"""Is left - right zero at all points where both can be computed and no root is imaginary?"""
    if not unknowns(left) and not unknowns(right):
        return vanishes(left, right, None)
    computed = False
    for point in range(len(LARGEST)):
        try:
            if not vanishes(left, right, point):
                return False
            computed = True
        except ArithmeticError:  # too large at this point, not real, or divided by zero
            continue
    return computed


def vanishes(left: Tree, right: Tree, point: int | None) -> bool:
    r"""Is left - right zero at a point?

    The exact terms are added up apart from the rough ones: 10^{20} + \pi is not 10^{20} + 4.
    """
    terms = [value_of(term, point) for term in members(left, "+")]
    terms += [-value_of(term, point) for term in members(right, "+")]
    exact = sum(term for term in terms if type(term) in EXACT)
    rough = [term for term in terms if type(term) not in EXACT]
    if not rough:
        return exact == 0
    difference = abs(exact + sum(rough))
    size = sum(map(abs, rough))
    return difference <= TOLERANCE * size < math.inf  # subtle: nan is not <= either


# ---- compare relations ---------------------------------------------------------------------------
LESS = ("<", r"\le")


def sides_of(chain: tuple) -> tuple:
    """a, b and c of a < b <= c."""
    return chain[1::2]


def signs_of(chain: tuple) -> tuple:
    r"""< and \le of a < b <= c."""
    return chain[2::2]


def is_equation(tree: Tree) -> bool:
    """a = b, a = b = c."""
    return kind_of(tree) == "chain" and set(signs_of(tree)) == {"="}


def same_relation(left: tuple, right: tuple) -> bool:
    """Two chains with the same signs. a = b is c = d if a - b is everywhere the same multiple of
    c - d; for a < b it must be a positive one. Of longer chains the sides must be the same."""
    alike = list(map(same, sides_of(left), sides_of(right)))
    sign = signs_of(left)[0]
    if all(alike) or len(alike) > 2 or sign not in ("=", r"\ne", *LESS):
        return all(alike)
    if alike[0] and not unknowns(left[3]) and not unknowns(right[3]):
        return False  # x = 5 and x = 6, with no more digits lost than in 5 and 6
    ours = ("+", left[1], ("*", -1, left[3]))
    theirs = ("+", right[1], ("*", -1, right[3]))
    ratio = ratio_of(ours, theirs) if unknowns(left) and unknowns(right) else 0
    if ratio == 0 or sign in LESS and not ratio.real > 0:
        return False
    return same_expression(ours, ("*", ratio, theirs))


def ratio_of(left: Tree, right: Tree) -> Number:
    """The ratio at the first point that has one; a simple fraction if it is about that."""
    for point in range(len(LARGEST)):
        try:
            ratio = value_of(left, point) / value_of(right, point)
            simple = Fraction(ratio.real).limit_denominator(1000)
            return simple if abs(ratio - simple) < 1e-6 * abs(ratio) else ratio
        except ArithmeticError:
            continue
    return 0


def answer_of(tree: Tree) -> Tree:
    r"""5 for x = 5 or x = 10/2 = 5, the interval of an inequality, S for x \in S; others unchanged.

    x + 1 = 5 and f(f(x)) = 6 are equations, whose unknown is not 5 or 6.
    """
    if kind_of(tree) == "ratio":
        return quotient(*tree[1:])
    tree = interval_of(tree)
    if not is_equation(tree):
        return tree
    *earlier, last = sides_of(tree)
    if len(earlier) == 1 and is_name(last) and not unknowns(earlier[0]):  # 3 = x
        return earlier[0]
    for side in earlier:
        if not is_quantity(side) and not same(side, last):
            return tree
    if kind_of(earlier[0]) == "+" and last == 0:  # x + y + z = 0 is a plane
        return tree
    return answer_of(last)


def quotient(first: Tree, second: Tree, *others: Tree) -> Tree:
    """1/2 for 1:2; 12:30 is a time; 1:2:3 is what the others are to the first."""
    if others:
        return ("tuple", ":", *(("*", other, ("^", first, -1)) for other in (second, *others)))
    if type(first) is type(second) is int and first <= 24 and 10 <= second < 60:
        return ("clock", first, second, 0, "")
    return ("*", first, ("^", second, -1))


# ---- compare sets of real numbers ----------------------------------------------------------------
def interval_of(tree: Tree) -> Tree:
    r"""[5, \infty) for x >= 5, (1, 2] for 1 < x <= 2, S for x \in S; others unchanged."""
    if kind_of(tree) != "chain":
        return tree
    if signs_of(tree) == (r"\in",):
        return tree[3]
    between = between_two(tree)
    if len(between) != 6:
        return between
    _, least, first, name, second, greatest = between
    if first not in LESS or second not in LESS or not is_bounded_name(name):
        return tree
    opening = "(" if first == "<" else "["
    closing = ")" if second == "<" else "]"
    return ("tuple", opening + closing, least, greatest)


def is_bounded_name(tree: Tree) -> bool:
    """x and f(x); but not x + y, of which an interval would say nothing."""
    return kind_of(tree) not in ("+", "^") and is_quantity(tree)


def between_two(chain: tuple) -> tuple:
    r"""-\infty < x < 5 for x < 5, 5 < x < \infty for 5 < x, -2 < x < 2 for |x| < 2, x < -2 or
    2 < x for 2 < |x|; a longer chain as it is."""
    if len(sides_of(chain)) != 2:
        return chain
    _, left, sign, right = chain
    if sign in LESS and is_size(left):
        return ("chain", ("*", -1, right), sign, left[2], sign, right)
    if sign in LESS and is_size(right):
        size = right[2]
        return ("or", ("chain", size, sign, ("*", -1, left)), ("chain", left, sign, size))
    if is_bounded_name(left):
        return ("chain", MINUS_INFINITY, "<", *chain[1:])
    return (*chain, "<", INFINITY)


def is_size(tree: Tree) -> bool:
    """|x|"""
    return kind_of(tree) == "call" and tree[1] == "|" and is_name(tree[2])


def is_region(tree: Tree) -> bool:
    """Is it a set of real numbers with known ends? Inequalities with a comma hold together."""
    kind = kind_of(tree)
    if kind == "tuple":
        is_interval = tree[1] in ("()", "(]", "[)", "[]") and len(tree) == 4
        return is_interval and unknowns(tree) <= {INFINITY}
    if kind == "list":
        return not any(map(is_equation, tree[1:])) and all(map(is_bound, tree[1:]))
    if kind in ("union", "or") or is_combined(tree):
        return all(map(is_region, sides_of(tree) if kind == "chain" else tree[1:]))
    if kind == "set":
        return not unknowns(tree)
    if kind != "chain":
        return False
    if signs_of(tree) in (("=",), (r"\ne",)):
        return is_name(tree[1]) and not unknowns(tree[3])
    return interval_of(tree) != tree and is_region(interval_of(tree))


def is_bound(tree: Tree) -> bool:
    """x < 5, x != 5; but no interval."""
    return kind_of(tree) == "chain" and is_region(tree)


def is_combined(tree: Tree) -> bool:
    r"""A \cap B, A \setminus B"""
    return kind_of(tree) == "chain" and set(signs_of(tree)) <= {r"\cap", r"\setminus"}


def same_region(left: Tree, right: Tree) -> bool:
    """Do two sets of real numbers hold the same of all ends, and of a number between any two?"""
    ends = sorted({end for end in ends_of(left) + ends_of(right) if abs(end) < math.inf})
    if len(ends) > MAX_ITEMS:
        return False
    probes = ends or [0]
    probes = [probes[0] - 1, *probes, probes[-1] + 1]
    probes += [(low + high) / 2 for low, high in zip(ends, ends[1:])]
    return all(contains(left, probe) == contains(right, probe) for probe in probes)


def ends_of(region: Tree) -> list[Number]:
    kind = kind_of(region)
    if kind == "tuple":
        return [real_value(end) for end in region[2:]]
    if kind == "set":
        return [real_value(member) for member in region[1:]]
    if kind != "chain":
        return [end for part in region[1:] for end in ends_of(part)]
    if is_combined(region):
        return [end for part in sides_of(region) for end in ends_of(part)]
    if signs_of(region) in (("=",), (r"\ne",)):
        return [real_value(region[3])]
    return ends_of(interval_of(region))


def contains(region: Tree, number: Number) -> bool:
    """Is the number in the set?"""
    kind = kind_of(region)
    if kind == "tuple":
        low, high = map(real_value, region[2:])
        if is_close(number, low) or is_close(number, high):
            end = 0 if is_close(number, low) else 1
            return region[1][end] in "[]"
        return low < number < high
    if kind == "set":
        return any(is_close(number, real_value(member)) for member in region[1:])
    if kind == "list":
        return all(contains(part, number) for part in region[1:])
    if kind in ("union", "or"):
        return any(contains(part, number) for part in region[1:])
    if is_combined(region):
        first, *others = sides_of(region)
        return contains(first, number) and all(
            contains(other, number) == (sign == r"\cap")
            for sign, other in zip(signs_of(region), others)
        )
    if signs_of(region) in (("=",), (r"\ne",)):
        return is_close(number, real_value(region[3])) == (region[2] == "=")
    return contains(interval_of(region), number)


def real_value(tree: Tree) -> Number:
    """A real number or an infinite one; TypeError if it is complex."""
    if INFINITY in unknowns(tree):
        return -math.inf if kind_of(tree) == "*" and tree[1] == -1 else math.inf
    value = value_of(tree, None)
    return value.real if value.imag == 0 else float(value)


def is_close(left: Number, right: Number) -> bool:
    if type(left) in EXACT and type(right) in EXACT:
        return left == right
    return math.isclose(left, right, rel_tol=TOLERANCE)


# ---- is it worked out ----------------------------------------------------------------------------
def is_worked_out(answer: str, reference: str) -> bool:
    r"""Is an answer of the right value as far worked out as the reference?

    Where the reference is a plain number, a plain number is wanted: an integer, a decimal, a
    fraction, a mixed number, or one times a power of ten. Elsewhere numbers are left neither added
    nor multiplied nor raised to a power where the reference leaves none (see work_left_in). Or else
    an expression copied from the question would be paid.

    >>> is_worked_out(r"\frac{1400}{2}", "700"), is_worked_out("32^2 - 18^2", "700")
    (True, False)
    >>> is_worked_out(r"2 + \sqrt{3}", r"\sqrt{3} + 2"), is_worked_out("(1 + 2)x", "3x")
    (True, False)
    """
    tree = read(answer)
    wanted = read(reference)
    if tree == wanted or max(len(answer), len(reference)) > MAX_CHARS:
        return True
    tree = answer_of(tree)
    wanted = answer_of(wanted)
    if is_plain(wanted):
        return is_plain(tree)
    return work_left_in(tree) <= work_left_in(wanted)


def is_plain(tree: Tree) -> bool:
    """A number, its negative, one integer over another, or one times a power of ten?"""
    factors = factors_of(tree)
    numbers = [factor for factor in factors if type(factor) in EXACT and abs(factor) != 1]
    powers = [factor for factor in factors if type(factor) not in EXACT]
    if max(len(numbers), len(powers), factors.count(-1)) > 1:
        return False
    for power in powers:
        _, base, exponent = power if kind_of(power) == "^" else ("", 0, 0)
        is_ratio = exponent == -1 and all(map(is_integer, [base, *numbers]))
        if not is_ratio and not (base == 10 and is_integer(exponent)):
            return False
    return True


def is_integer(tree: Tree) -> bool:
    """3 or -3"""
    return type(tree) is int or kind_of(tree) == "*" and tree[1] == -1 and type(tree[2]) is int


def factors_of(tree: Tree) -> list[Tree]:
    """2, x and y of 2(xy)."""
    if kind_of(tree) != "*":
        return [tree]
    return [factor for child in tree[1:] for factor in factors_of(child)]


def work_left_in(tree: Tree) -> set[str]:
    r"""The kinds of operations on numbers that are still to be done: a sum in 1 + 2, and so on.

    A reference with a sum allows the one of 2 + \sqrt{3}, though not the one of 1 + 2 + \sqrt{3}.
    """
    if not isinstance(tree, tuple):
        return set()
    left = set().union(*map(work_left_in, tree[1:]))
    kind, *children = tree
    numbers = [child for child in children if not unknowns(child)]
    if kind == "+" and len(numbers) > 1:
        left.add("sum")
        if sum(map(is_rational, numbers)) > 1:
            left.add("sum of rational numbers")
    if kind == "*":
        left |= products_in(factors_of(tree))
    if kind == "^" and len(numbers) == 2 and children[0] not in ("e", r"\pi", 10):
        if is_integer(children[1]) and children[1] not in (1, -1):
            left.add("power")
        if kind_of(children[0]) == "+" and children[1] == -1:
            left.add("division by a sum")
    if kind == "!" and numbers:
        left.add("factorial")
    if kind == "call" and children[0] in FUNCTIONS and not unknowns(tree):
        left.add("function")
    return left


def products_in(factors: list[Tree]) -> set[str]:
    r"""What work there is in 2 \cdot 3, in \sqrt{2} \cdot \sqrt{3}, in 2(1 + \sqrt{3})."""
    left = set()
    above = [number for number in factors if is_numerator(number)]
    powers = [number for number in above if kind_of(number) == "^"]
    roots = [number for number in powers if not isinstance(number[1], str) and number[1] != 10]
    rational = [number for number in above if number not in powers and is_rational(number)]
    if max(len(roots), len(rational)) > 1:
        left.add("product")
    if len(above) > 1 and "+" in map(kind_of, above):
        left.add("product of a sum")
    return left


def is_numerator(tree: Tree) -> bool:
    """A number other than 1, -1 and 1/b."""
    return (
        tree not in (1, -1) and not unknowns(tree) and not (kind_of(tree) == "^" and tree[2] == -1)
    )


def is_rational(tree: Tree) -> bool:
    try:
        return type(value_of(tree, None)) in EXACT
    except NO_VALUE:
        return False
