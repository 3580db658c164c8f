r"""The answer checker of `rewards.py`: its conventions, a table written by hand, hostile text,
properties, the bars on labelled data.

A line of TABLE is `left == right` (the same answer) or `left != right`; both orders are tested.
Every rule of the checker has lines that fail without it. The labelled data are read where they lie
beside the repository, never copied.
"""

import random
import time
import tracemalloc
from types import SimpleNamespace

import measure_checker
import pytest
from hypothesis import given, settings, strategies as st

import rewards
import formulas
from rewards import extract_answer, grade, is_correct, is_equivalent

# ---- the final answer of a response --------------------------------------------------------------
EXTRACTION = [
    (r"Try 3: f(3)=1, f(1)=4. It fits. \boxed{3}", "3"),
    (r"first \boxed{1}, no: \boxed{2}", "2"),
    (r"so $x = \boxed{\frac{1}{\sqrt{2}}}$.", r"\frac{1}{\sqrt{2}}"),
    (r"\boxed{4 + 4 = \boxed{8}}", "8"),
    (r"\boxed  { 7 } and more words", "7"),
    (r"\fbox{9}", "9"),
    (r"\boxed{\left\{ 1, 2 \right.}", r"\left\{ 1, 2 \right."),
    (r"\boxed{\{1,2\}}", r"\{1,2\}"),
    (r"\boxed{\text{B}}" + "\n" * 3, r"\text{B}"),
    (r"<think> \boxed{5} </think> In short, we", "5"),
    (r"\boxed{1" + "\n" + r"\\2}", "1\n" + r"\\2"),
    (r"\boxed{}", ""),
    (r"\boxed{5} and then \boxed{6", None),
    (r"\boxed{5} and then \boxed", None),
    (r"\boxed{\frac{1}{2}", None),
    (r"\boxed 5", None),
    (r"so it is $\boxed 57$.", "57"),
    (r"\boxed 5 and more", "5"),
    ("the answer is 5", None),
    ("So it is $5$.", None),
    ("", None),
    ("Final Answer: The final answer is $5$. I hope it is correct.", "$5$"),
    (r"It is \boxed{4}. The final answer is 5. I hope it is correct.", "4"),
    ("The final answer is 5", None),
]


@pytest.mark.parametrize("text, answer", EXTRACTION)
def test_extract_answer(text, answer):
    """Something else than what the last complete box holds is taken for the answer."""
    assert extract_answer(text) == answer


def test_the_last_box_counts():
    """The first box is graded, or an earlier one of the other kind."""
    assert extract_answer(r"\boxed{1}, no: \boxed{2}") == "2"
    assert extract_answer(r"\boxed{1}, no: \fbox{2}") == "2"
    assert extract_answer(r"\fbox{1}, no: \boxed{2}") == "2"


def test_a_box_that_was_cut_off_is_no_answer():
    """A response that stops inside its box is paid: for its beginning, or for an earlier box."""
    assert extract_answer(r"\boxed{1") is None
    assert extract_answer(r"\boxed{5}, no: \boxed{6") is None
    assert extract_answer(r"\boxed{5}, no: \boxed") is None


def test_braces_inside_a_box_are_counted():
    r"""The box ends at the first }, or an escaped \} closes it."""
    assert extract_answer(r"\boxed{\frac{1}{2}}") == r"\frac{1}{2}"
    assert extract_answer(r"\boxed{\left\{ 1 \right.}") == r"\left\{ 1 \right."
    assert extract_answer(r"\boxed{\{1\}") is None


def test_closing_words_do_without_a_box():
    """The paper's closing words are not read, or any last words are."""
    assert extract_answer("The final answer is $5$. I hope it is correct.") == "$5$"
    assert extract_answer("The final answer is 5.") is None


def test_is_correct_needs_an_answer():
    """A response is graded that has no final answer, or an empty one."""
    assert is_correct(r"Hence \boxed{\dfrac{2}{4}}.", "0.5")
    assert is_correct("The final answer is $x = 5$. I hope it is correct.", "5")
    assert not is_correct(r"Hence \boxed{3}.", "0.5")
    assert not is_correct("0.5", "0.5")
    assert not is_correct(r"\boxed{}", "")
    assert not is_equivalent("", "")


# ---- many at once --------------------------------------------------------------------------------
ONE = SimpleNamespace(answer="1")
TWO = SimpleNamespace(answer="2")
THREE = SimpleNamespace(answer="3")


def box(answer):
    return rf"\boxed{{{answer}}}"


def test_grade_keeps_each_attempt_with_its_problem():
    """An attempt is graded by a neighbour's problem."""
    attempts = [[box(1)], [box(2)], [box(1)]]
    assert grade([ONE, TWO, THREE], attempts) == [[True], [True], [False]]


def test_grade_keeps_the_turns_in_order():
    """The verdicts of attempt 1 and attempt 2 are exchanged."""
    attempts = [[box(1), box(5)], [box(5), box(2)]]
    assert grade([ONE, TWO], attempts) == [[True, False], [False, True]]


def test_grade_takes_rows_of_any_length():
    """Verdicts slip into the next row where a problem has one attempt, or three, or none."""
    attempts = [[box(1)], [], [box(3), box(5), box(3)]]
    assert grade([ONE, TWO, THREE], attempts) == [[True], [], [True, False, True]]
    assert grade([], []) == []


def test_grade_asks_the_judge_once():
    """The judge of programs is not asked, or not about every text with its own problem."""
    calls = []

    def judge(problems, texts):
        calls.append((problems, texts))
        return [True, False, False, True]

    assert grade([ONE, TWO], [["a", "b"], ["c", "d"]], judge) == [[True, False], [False, True]]
    assert calls == [([ONE, ONE, TWO, TWO], ["a", "b", "c", "d"])]


def test_grade_wants_a_row_for_each_problem():
    """Rows without a problem, or problems without a row, are dropped in silence."""
    with pytest.raises(ValueError):
        grade([ONE, TWO], [[box(1)]])
    with pytest.raises(ValueError):
        grade([ONE], [[box(1)], [box(2)]])


# ---- the conventions -----------------------------------------------------------------------------
def check(table):
    """Lines `left == right` or `left != right`, in both orders."""
    for line in table.split("\n"):
        if line.strip():
            check_line(line.strip())


def check_line(line):
    same = " == " in line
    left, right = line.split(" == " if same else " != ")
    assert is_equivalent(left, right) is same, line
    assert is_equivalent(right, left) is same, f"{line}, in the other order"


def test_the_form_of_a_number_does_not_count():
    """Only one spelling of a number is right, or powers and differences are read wrongly."""
    check(r"""
        \frac{2}{4} == 0.5
        \sqrt{12} == 2\sqrt{3}
        -2^2 == -4
        2^{3^2} == 512
        8-3-2 == 3
        12/4/3 == 1
        2^3^2 != 64
        -2^2 != 4
    """)


def test_numbers_are_equal_only_exactly():
    """A rounded number passes for the exact one."""
    check(r"""
        \frac{1}{3} != 0.33
        \frac{1}{3} != 0.3333333
        1+\frac{1}{3} != 1.3333333
        \sqrt{2} != 1.41
        \sqrt{2} != 1.414213562
        \pi != 3.14159265
        \pi != \frac{22}{7}
    """)


def test_large_and_small_numbers_stay_apart():
    """Numbers are compared in floating point, where they overflow, vanish or swallow each other."""
    check(r"""
        10^{20}+1 != 10^{20}
        10^{30}+\pi == \pi+10^{30}
        \frac{\pi}{2^{1200}} != \frac{\pi}{2^{1201}}
        \pi 10^{200} \cdot \pi 10^{200} != 3\pi
    """)


def test_variables_are_tried_at_several_points():
    """Expressions are the same that agree at one value, at positive ones, or for any name."""
    check(r"""
        (x+1)^2 == x^2+2x+1
        \sqrt{x^2} != x
        x^2 != x^3
        x != y
        |x| != |y|
        x_1 != x_2
        f(x) != g(x)
        y=2x+3 != y=2x-3
    """)


def test_percent_and_units_are_dropped():
    """25 % is taken for a quarter, or a unit or its square for a part of the number."""
    check(r"""
        25\% == 25
        25\% != 0.25
        12\text{ cm} == 12
        12\text{ cm}^2 == 12
        12\text{ cm}^2 != 144
        25 ft^2 == 25
        \$5 == 5
    """)


def test_thousands_are_not_a_list():
    """12,000 is a list of two numbers, or the interval (12,000) a number."""
    check(r"""
        12,000 == 12000
        12,\!000 == 12000
        12{,}000 == 12000
        (2,100) != 2100
        12, 000 != 12000
    """)


def test_angles_are_degrees_where_rational():
    r"""\sin 30^\circ is computed in radians, or \sin\frac{\pi}{6} in degrees."""
    check(r"""
        60^\circ == 60
        \sin 30^\circ == \frac{1}{2}
        \sin\frac{\pi}{6} == \frac{1}{2}
        \cos 90^\circ == 0
    """)


def test_mixed_numbers():
    r"""2\frac{1}{3} is a product, or 2\frac{x}{3} a sum."""
    check(r"""
        2\frac{1}{3} == \frac{7}{3}
        3 1/4 == 3.25
        2\frac{x}{3} == \frac{2x}{3}
        2\cdot\frac{1}{3} == \frac{2}{3}
        2\frac{1}{3} != \frac{2}{3}
        4 2 != 8
    """)


def test_a_set_has_no_order_and_counts():
    """A list in another order is wrong, or one of other members, or of some more, is right."""
    check(r"""
        1,2,3 == 3,1,2
        \{1,2\} == 2,1
        1,1,2 != 1,2,2
        1,2,3 != 1,2
        \pm 3 == 3,-3
        \pm 3 != 3
        (1,2)\cup(3,4) == (3,4)\cup(1,2)
        (1,2)\cup(3,4) != (1,2),(3,4)
    """)


def test_a_tuple_has_an_order_and_ends():
    """(1,2) is compared as a set, by its shorter length, or without its brackets."""
    check(r"""
        (1,2) == (1,\frac{4}{2})
        (1,2) != (2,1)
        (1,2) != (1,2,0)
        [1,2] != (1,2)
        [1,2) != (1,2]
        (1,2) != \{1,2\}
        \begin{pmatrix}1&2\\3&4\end{pmatrix} != \begin{pmatrix}1&3\\2&4\end{pmatrix}
    """)


def test_an_inequality_is_its_interval():
    """The ends of the interval are exchanged, open for closed, or its infinite end is the other."""
    check(r"""
        x \le 5 == (-\infty,5]
        x > 5 == (5,\infty)
        1 < x \le 4 == (1,4]
        1 \le x < 4 == [1,4)
        x \in [2,5) == [2,5)
        x<1 \text{ or } x>2 == (-\infty,1)\cup(2,\infty)
        x \le 5 != (-\infty,5)
        1 < x \le 4 != [1,4)
        x+1 > 5 != (5,\infty)
    """)


def test_the_sign_of_an_inequality_counts():
    """> is read as <, or both sides change their sign and the relation does not turn."""
    check(r"""
        x > 3 == 3 < x
        x > 3 != x < 3
        x > 3 != x \ge 3
        -x < 1 == x > -1
        -x < 1 != x < -1
        x \ne 4 != x = 4
    """)


def test_a_name_before_the_sign_does_not_count():
    r"""x + 1 = 5 or \pi = 5 is taken for 5, or x = 5 is not."""
    check(r"""
        x=5 == 5
        f(x)=2x+1 == 2x+1
        x+1=5 != 5
        2x=10 != 10
        \pi=5 != 5
        \cos 60^\circ=5 != 5
        x^2=25 != 25
    """)


def test_equations_are_the_same_if_one_is_a_multiple():
    """Equations are the same in any case, or only side for side."""
    check(r"""
        2x+4y=6 == x+2y=3
        y=2x+3 == 2x-y+3=0
        y=2x+3 != y=2x-3
        x=30000 != x=30001
        x=x != x=5
        0.3=30\% != 0.3=31\%
        2=3 != 3=5
    """)


def test_base_n_is_only_itself():
    """The base of a number is dropped."""
    check(r"""
        132_5 == 132_{5}
        132_5 != 132_6
        132_5 != 132
        40_{\text{nine}} == 40_9
    """)


def test_words_have_no_case_and_letters_do():
    """Even is not even, or x is X."""
    check(r"""
        \text{even} == Even
        7:45 \text{ p.m.} == 7\!:\!45\text{ PM}
        \text{even} != \text{odd}
        x != X
    """)


def test_a_long_answer_equals_only_itself():
    """Any length is read, on the one side or the other: a response could take all the time."""
    assert is_equivalent("1+" * 299 + "1", "300")
    long = "1+" * 300 + "1"
    assert len(long) == rewards.MAX_CHARS + 1
    assert is_equivalent(long, f" {long} ")
    assert not is_equivalent(long, "301")
    assert not is_equivalent("301", long)


def test_a_large_number_equals_only_itself():
    """Any number is computed: 9^{9^9} would take all the memory."""
    assert is_equivalent("2^{4950}", "4^{2475}")
    assert is_equivalent("2^{20000}", " 2^{20000} ")
    assert not is_equivalent("2^{20000}", "4^{10000}")


def test_a_large_set_equals_only_itself():
    """Sets of any size are matched, which takes quadratic time."""
    members = [str(number) for number in range(rewards.MAX_ITEMS + 1)]
    assert is_equivalent(", ".join(members[1:]), ", ".join(members[:0:-1]))
    assert not is_equivalent(", ".join(members), ", ".join(members[::-1]))


# ---- the final form ------------------------------------------------------------------------------
PLAIN = r"""
700 | 7\times10^{2}
700.0 | 700
-700 | -\frac{1400}{2}
7/2 | 3.5
-\frac{7}{2} | -3.5
\frac{-7}{2} | -3.5
3\frac{1}{2} | \frac{7}{2}
2.5\times10^{5} | 250000
10^5 | 100000
3.2 \cdot 10^{-4} | 0.00032
50\% | 50
7\text{ cm} | 7
x = 7 | 7
x = \frac{14}{2} = 7 | 7
1:2 | \frac{1}{2}
"""


@pytest.mark.parametrize("line", PLAIN.strip().splitlines())
def test_a_plain_number_is_paid(line):
    """Catches a spelling of a number that counts as work to be done."""
    number, reference = line.split(" | ")
    assert is_correct(box(number), reference)


UNFINISHED = r"""
32^2 - 18^2 | 700
1 + 2 | 3
2 \cdot 3 | 6
2^{10} | 1024
5! | 120
\binom{5}{2} | 10
\sqrt{49} | 7
\cos 60^\circ | \frac{1}{2}
35.2 + 49.3 | 84.5
\frac{64}{7} \div \frac{8}{3} | 3\frac{3}{7}
\frac{9 \cdot 3}{4} | \frac{27}{4}
8 \div 2 | 4
-(-3) | 3
x = 1 + 2 | x = 3
3 + 4 + \sqrt{2} | 7 + \sqrt{2}
2 \cdot 3\sqrt{2} | 6\sqrt{2}
\sqrt{2} \cdot \sqrt{3} | \sqrt{6}
\frac{1}{\sqrt{8} + \sqrt{18}} | \frac{\sqrt{2}}{10}
2^3 \pi | 8\pi
3! x | 6x
\tan 60^\circ | \sqrt{3}
(5-3i)(-4+3i) | -11+27i
\frac{-3+4i}{1+2i} | 1+2i
(1 + 2, 3) | (3, 3)
"""


@pytest.mark.parametrize("line", UNFINISHED.strip().splitlines())
def test_an_expression_from_the_question_is_not_paid(line):
    """Catches a reward for copying: the value is right, and the work is left to be done."""
    copied, reference = line.split(" | ")
    assert is_equivalent(copied, reference)
    assert not is_correct(box(copied), reference)
    assert is_correct(box(reference), reference)


def test_a_form_that_the_reference_has_too_is_paid():
    """Catches an answer refused for a sum, a power or a root that the reference has itself."""
    assert is_correct(box(r"\sqrt{3} + 2"), r"2 + \sqrt{3}")
    assert is_correct(box("2^{10} + 1"), "1 + 2^{10}")
    assert is_correct(box(r"\frac{1}{\sqrt{2}}"), r"\frac{\sqrt{2}}{2}")
    assert is_correct(box("(x+1)^2"), "x^2+2x+1")
    assert is_correct(box("2 + 3 = 5"), "5")


def test_unknown_functions_have_arguments_in_order():
    """Catches f(1, 2) taken for f(2, 1), and a function that is 0 at 0 or adds up."""
    check(r"""
        f(1,2) != f(2,1)
        f(1,\frac{4}{2}) == f(1,2)
        f(0) != 0
        f(x+y) != f(x)+f(y)
        f(3-x) == f(-x+3)
    """)


def test_relations_are_exact():
    """Catches x = 123456789 taken for x = 123456788: only eight digits are compared."""
    check(r"""
        x = 1000000000000001 != x = 1000000000000000
        x = 123456789 != x = 123456788
        3x = 370370367 == x = 123456789
        3x = 370370367 != x = 123456788
        x > 123456789 != x > 123456788
        x = 0.0000000001 != x = 0
    """)


# ---- the table -----------------------------------------------------------------------------------
TABLE = r"""
# integer
17 == 17
17 == +17
-4 == - 4
0 == -0
23 == {23}
23 == (23)
23 == 23.
23 == 23,
6 \cdot 7 == 42
6 \times 7 == 42
2**5 == 32
2^3 3^2 == 72
5! == 120
25! != 25!+1
(4/2)! == 2
\sqrt{9}! == 6
8 \div 2 == 4
3 × 4 == 12
3 · 4 == 12
8 ÷ 2 == 4
−4 == -4
–4 == -4
2³ == 8
-2^2 == -4
(-2)^2 == 4
2^{3^2} == 2^9
2^10 == 1024
7-(2-1) == 6
17 != 71
17 != -17
17 != 170
17 != 1.7
4 2 != 42
4 2 != 8
42 != 4_2
3!! != 720
8-3-2 != 7
2^3^2 != 64
# fraction
\frac{3}{4} == 3/4
\frac{3}{4} == 0.75
\frac{3}{4} == \dfrac{3}{4}
\frac{3}{4} == \tfrac{3}{4}
\frac{3}{4} == \cfrac{3}{4}
\frac{3}{4} == \frac34
\frac{3}{4} == \frac 3 4
\frac{3}{17} == \frac317
\frac{3}{4} == \frac3{4}
\frac{3}{4} == \frac{3}4
\frac{6}{8} == \frac{3}{4}
\frac{-3}{4} == -\frac{3}{4}
\frac{3}{-4} == -\frac{3}{4}
-\frac{3}{4} == -0.75
\frac{\frac{1}{2}}{3} == \frac{1}{6}
\frac{1}{2}+\frac{1}{3} == \frac{5}{6}
\frac{1}{1000} == \frac1{1000}
12/4/3 == 1
3⁄4 == \frac{3}{4}
½ == 0.5
2/3 \cdot 6 == 4
\\frac{5}{7} == \frac{5}{7}
\frac{3}{4} != \frac{4}{3}
\frac{3}{4} != -\frac{3}{4}
\frac{3}{4} != \frac{3}{5}
\frac{3}{4} != 3
\frac{3}{4} != 34
\frac{1}{0} != 0
\frac{1}{3} != 0.33
\frac{1}{3} != 0.3333333
\frac{1}{17} != 17
# decimal
0.5 == .5
7.0 == 7
7. == 7
-.25 == -0.25
3.140 == 3.14
0.125 == \frac18
0.\overline{3} == \frac{1}{3}
0.1\overline{6} == \frac{1}{6}
.\overline{3} == \frac13
2.\overline{45} == \frac{27}{11}
0.\overline{3} != 0.\overline{6}
0.\overline{3} != 0.3
3.14 != 3.141
25 != .25
0.4999999999 != 0.5
# mixed number
2\frac{1}{3} == \frac{7}{3}
2\frac13 == 7/3
2 \frac{1}{3} == \frac{7}{3}
2\,\frac{1}{3} == \frac{7}{3}
-2\frac{1}{3} == -\frac{7}{3}
3 1/4 == 3.25
5\dfrac{1}{2} == 5.5
x\frac{1}{3} == \frac{x}{3}
2\cdot\frac{1}{3} == \frac{2}{3}
2(\frac{1}{3}) == \frac{2}{3}
2\frac{x}{3} == \frac{2x}{3}
2\frac{1}{3} != \frac{2}{3}
2\frac{1}{3} != 3\frac{1}{2}
2\frac{1}{3} != 2
2\frac{1}{3} != \frac{1}{3}
# thousands
12,000 == 12000
12{,}000 == 12000
12,\!000 == 12000
12,\! 000 == 12000
1,234,567 == 1234567
1,\!234,\!567 == 1234567
\frac{1}{12,345} == \frac{1}{12345}
9,999.5 == 9999.5
12,000 != 12
12,000 != 12001
(2,100) != 2100
(12,000) != 12000
12, 000 != 12000
1,23 != 123
\{100,200\} == \{200,100\}
# money
\$5 == 5
\$ 5.50 == 5.5
\$1,200 == 1200
\$1{,}200.00 == 1200
8 \text{ dollars} == \$8
$7$ == 7
\$5 != 50
\$5.50 != 5.05
# percent
30\% == 30
30\% == 30 \%
30% == 30\%
12.5\% == 12.5
30\text{ percent} == 30\%
30\% != 31\%
30\% != 3\%
# units
12\text{ cm} == 12
12\text{ cm}^2 == 12
12\mbox{ cm}^{2} == 12
12 \textnormal{ miles} == 12\text{ miles}
12\mathrm{km} == 12
5\text{ m} == 5
9 ft == 9
9 \text{ square inches} == 9 square inches
15 right triangles == 15
4{cm} == 4
18\pi \text{ cm}^3 == 18\pi
\frac{5}{2}\ \text{hours} == 2.5
\frac{5}{2} hours == 2.5
12\text{ cm} != 13\text{ cm}
12\text{ cm} != 1.2\text{ cm}
12\text{ cm}^2 != 144
3x != 3
3 \sin x != 3
5 i != 5
# degrees
60^\circ == 60
60^{\circ} == 60
60° == 60
60\text{ degrees} == 60^\circ
60 degrees == 60
\frac{45}{2}^\circ == 22.5
\cos 60^\circ == \frac12
\tan 15^\circ == 2-\sqrt3
\sin 20^\circ == \cos 70^\circ
\cos(60^\circ) == 0.5
\cos 90^\circ == 0
2+\cos 90^\circ == 2
\sin\frac{\pi}{2} == 1
60^\circ != 61^\circ
\tan 15^\circ != \tan 16^\circ
\sin 20^\circ != \cos 20^\circ
# radical
\sqrt{12} == 2\sqrt{3}
\sqrt{49} == 7
2\sqrt3 == 2\sqrt{3}
sqrt(5) == \sqrt{5}
3*sqrt(5) == 3\sqrt5
3sqrt{5} == 3\sqrt5
√5 == \sqrt{5}
\frac{1}{\sqrt{2}} == \frac{\sqrt{2}}{2}
\frac{6}{\sqrt{3}} == 2\sqrt{3}
\sqrt[3]{27} == 3
\sqrt[3]{16} == 2\sqrt[3]{2}
2^{1/2} == \sqrt{2}
3-\sqrt{2} == -\sqrt{2}+3
\sqrt{3+2\sqrt{2}} == 1+\sqrt{2}
\frac{\sqrt{5}-1}{2} == \frac{2}{1+\sqrt5}
\displaystyle\frac{\sqrt{2}}{2} == \frac{\sqrt2}2
\sqrt{12} != 3\sqrt{2}
\sqrt{5} != \sqrt[3]{5}
\sqrt[3]{5} != \sqrt[4]{5}
\sqrt{5} != 5
3+\sqrt{2} != 3-\sqrt{2}
\sqrt{2} != 1.414213562
\sqrt{2} != 1.41
# pi and e
2\pi == \pi \cdot 2
2\pi == 2pi
2\pi == 2*pi
2\pi == 2π
\frac{\pi}{4} == \frac{1}{4}\pi
\frac \pi4 == \pi/4
\frac{3\pi}{2} == 1.5\pi
4/3\pi == \frac{4\pi}{3}
e^2 == e \cdot e
\ln e == 1
\log 100 == 2
\exp == \exp
2\pi != 2
2\pi != 3\pi
2\pi != \pi^2
2\pi != 6.28
\pi != 3.14159265
\pi != \frac{22}{7}
# numbers that floating point cannot tell apart
2^{-80} == \frac{1}{2^{80}}
2\cdot 2^{3000} == 2^{3001}
4^{1500} == 2^{3000}
10^{20}+1 == 100000000000000000001
10^{30}+\pi == \pi+10^{30}
\frac{1}{1500!} == 1/1500!
\frac{1}{2^{80}} != \frac{1}{2^{81}}
2^{3000} != 2^{3001}
2^{3000} != 2^{3000}+1
10^{20}+1 != 10^{20}
10^{20}+\pi != 10^{20}+\pi+1
\frac{\pi}{2^{1200}} != \frac{\pi}{2^{1201}}
9^{9^9} != 9^{9^8}
\pi 10^{200} \cdot \pi 10^{200} != 3\pi
# scientific notation
3.2e5 == 320000
3.2e5 == 3.2 \times 10^{5}
3.2E-4 == 3.2\cdot 10^{-4}
7e30 == 7 \times 10^{30}
2e != 2e3
3.2e5 != 3.2e6
3.2e5 != 3.2e-5
3.2e5 != 3.2
6 \times 10^{23} != 6 \times 10^{24}
# base n
132_5 == 132_{5}
132_{\text{five}} == 132_5
132_{\text{5}} == 132_5
-132_5 == -132_{5}
0.101_2 == 0.101_{2}
132_5 != 132_6
132_5 != 133_5
132_5 != 132_{10}
# complex
3+4i == 4i+3
i^2 == -1
i(2-i) == 1+2i
\frac{1+i}{2} == \frac12+\frac12 i
2 - 5i. == 2-5i
\frac{1}{i} == -i
3+4i != 3-4i
3+4i != 4+3i
3+4i != 7
2i != 2
# expression
2x+3 == 3+2x
(x+1)^2 == x^2+2x+1
(x-1)(x+1) == x^2-1
x(x+1) == x^2+x
\frac{x+1}{2} == \frac12 x+\frac12
x^{2} == x^2
xy == yx
a_1+a_{2} == a_2+a_1
\frac{x^2-1}{x-1} == x+1
f(3-x) == f(-x+3)
\sin^2 x+\cos^2 x == 1
\sin 2x == 2\sin x\cos x
\sin(2x) == 2 \cos(x) \sin x
\sin(x) y == y\sin(x)
\tan x == \frac{\sin x}{\cos x}
\sec x == \frac{1}{\cos x}
\csc x == 1/\sin x
\cot x \tan x == 1
\arctan 1 == \frac{\pi}{4}
\arcsin 1 == \frac{\pi}{2}
\arccos 0 == \frac{\pi}{2}
\sin(x)^2 == \sin^2 x
\sin x^2 == \sin(x^2)
\log_2 x + 1 == 1 + \log_2 x
x^{1-1} == 1
x^2 == x²
x{2} == 2x
i! != 1
\sin(x)^2 != \sin(x^2)
\log_2 x != \log_3 x
f(x+1) != f(x)+f(1)
\overline{AB} != \overline{A} B
2\cdot(1,2) != 2\cdot(2,1)
|x| == |-x|
\lvert 3 \rvert == 3
\vert 3 \vert == 3
\frac{n!}{(n-1)!} == n
\overline{AB} == \overline{AB}
\alpha+\beta == \beta+\alpha
2x+3 != 2x-3
2x+3 != 2y+3
x^2 != x^3
x^2 != 2x
\sqrt{x^2} != x
f(3-x) != f(3-y)
f(x) != g(x)
\sin x != \cos x
\sin^2 x != \cos^2 x
\log x != \ln x
x_1 != x_2
x != X
1/2x != \frac{1}{2x}
\frac{x+1}{2} != x+\frac12
|x| != x
# equation
x=5 == 5
x = 5 == 5
f(x)=2x+1 == 2x+1
AB = 12 == 12
y=2x+3 == y = 3+2x
y=2x+3 == 2x-y+3=0
2x+4y=6 == x+2y=3
-x+y=1 == x-y=-1
a : b = 3 : 4 == 3:4
x=1, y=2 == y=2, x=1
x=5 != 6
x=5 != x=-5
x=5 != y=5
y=2x+3 != y=2x-3
y=2x != 2x+y=0
x+1=5 != 5
x \ne 5 != 5
x=30000 != x=30001
x=x != x=5
5=5 != x=5
2x=10 != 10
x-3z=0 != 0
x^2+y^2=4 != x^2-y^2=4
0.3=30\% != 0.3=31\%
# inequality
x > 3 == 3 < x
x \ge 3 == x >= 3
x \geq 3 == 3 \leqslant x
x \le 3 == x <= 3
x ≥ 3 == x \ge 3
x ≤ 3 == x \le 3
x \geqslant 3 == x \ge 3
x \gt 3 == x > 3
x \ne 4 == x \neq 4.0
2x \ne 8 == x \ne 4
x \lt 2 == 2 > x
-x < 1 == x > -1
2x \le 6 == x \le 3
1 < x \le 4 == 4 \ge x > 1
a^2+b^2 \ge 2ab == 2ab \le a^2+b^2
x \ne 4 == x \neq 4
x > 3 != x \ge 3
x > 3 != x < 3
x > 3 != x > 4
1 < x \le 4 != 1 \le x < 4
1 < x < y < 4 != 1 < x < y
1 < x < 4 != 1 < x < 5
a^2 \le 8b != a^2 \ge 8b
-x < 1 != x < -1
x \ne 4 != x = 4
# interval
[2,5) == \left[2,5\right)
[2, 5) == [2,5)
(-\infty, 3] == x \le 3
(3,\infty) == x > 3
(-∞, 3] == (-\infty,3]
[-1,4) == -1 \le x < 4
[-1,4] == -1 \leq f(x) \leq 4
x \in [2,5) == [2,5)
t\in(0,1) == (0,1)
x \in [2,5) == 2 \le x < 5
(\frac12,\frac{\sqrt2}{2}) == (0.5,\frac{1}{\sqrt2})
(1,2)\cup(3,4) == (3,4) \cup (1,2)
(1,2) ∪ (3,4) == (1,2)\cup(3,4)
(-\infty,1)\cup(2,\infty) == x<1 \text{ or } x>2
(-\infty,\infty) == \mathbb{R}
x \in \mathbb{R} == \mathbb{R}
(1,2)\cap(0,\sqrt{9}) == (1,2)\cap(0,3)
(1,\sqrt{9})\setminus\{2\} == (1,3)\setminus\{2\}
(1,3)\setminus\{2\} == (1,3)\setminus \{2\}
[2,5) != (2,5)
[2,5) != [2,5]
[2,5) != [2,6)
(2,5] != [2,5)
(-\infty,3] != (-\infty,3)
(-\infty,3) != (3,\infty)
(1,2)\cup(3,4) != (1,2)\cap(3,4)
(1,2)\cup(3,4) != (1,2)
(1,2)\cup(3,4) != (1,2),(3,4)
(\pi,4) != (3,4)
x > \pi == (\pi,\infty)
# tuple
(1,-2) == ( 1 , -2 )
(1,-2) == \left(1,\,-2\right)
(\frac12, 3) == (0.5,3)
\langle 1,2,3\rangle == (1,2,3)
(x,y)=(1,2) == (1,2)
(1,2),(3,4) == (3,4),(1,2)
(2, \frac{\pi}{3}) == (2,\pi/3)
(1,2) != (2,1)
(1,2) != (1,2,0)
(1,2) != (1,-2)
(1,2) != \{1,2\}
(1,2) != 1
[1,2] != (1,2)
(1,2),(3,4) != (1,4),(3,2)
# set and list
1,2,3 == 3, 2, 1
\{1,2,3\} == \{3,1,2\}
\{1,2\} == 1,2
{1,2} == 2,1
1 \text{ and } 2 == 1,2
1\text{ or }2 == 2,1
1, 2, \text{ and } 3 == 1,2,3
1, 2\text{, and }3 == 1,2,3
4 and 7 == 4,7
1; 2 == 1, 2
x=1, x=2 == 1,2
x=1 \text{ or } x=2 == x=2,x=1
a=3,-4,5 == 5,3,-4
\{\frac12,\sqrt2\} == \{\sqrt{2}, 0.5\}
\{5\} == 5
\emptyset == \varnothing
\{\} == \emptyset
\text{A, C} == C, A
1,2,3 != 1,2
1,2 != 1,2,0
1,2 != 1,-2
1,1,2 != 1,2,2
\emptyset != 0
\{0\} == 0
\{0\} != \emptyset
() != \emptyset
# plus and minus
\pm 3 == 3,-3
1 \pm \sqrt{2} == 1+\sqrt{2}, 1-\sqrt{2}
x = \pm 3 == -3, 3
\frac{-1\pm\sqrt{5}}{2} == \frac{-1+\sqrt5}{2},\frac{-1-\sqrt5}{2}
\{2\pm\sqrt{7},0\} == \{0,2-\sqrt7,2+\sqrt7\}
3 \mp 1 == 3 \pm 1
±3 == \pm 3
\pm 3 != 3
\pm 3 != -3
1 \pm \sqrt{2} != 1 \pm \sqrt{3}
1 \pm \sqrt{2} != 1+\sqrt{2}
# matrix
\begin{pmatrix}1\\2\end{pmatrix} == \begin{pmatrix} 1 \\ 2 \end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} == \begin{bmatrix}1\\2\end{bmatrix}
\begin{pmatrix}1\\2\end{pmatrix} == \begin{matrix}1\\2\\\end{matrix}
\begin{pmatrix}1/2 & x\\0&-1\end{pmatrix} == \begin{pmatrix}0.5&x\\0 & -1\end{pmatrix}
\begin{pmatrix}\frac{1}{2}\\ 2\end{pmatrix}. == \begin{pmatrix}1/2\\ 2\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} != \begin{pmatrix}2\\1\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} != \begin{pmatrix}1&2\end{pmatrix}
\begin{pmatrix}1\\2\end{pmatrix} != \begin{pmatrix}1\\2\\0\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} != \begin{pmatrix}1&3\\2&4\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} != \begin{pmatrix}2&1\\3&4\end{pmatrix}
\begin{pmatrix}1&0\\0&1\end{pmatrix} != 1
# ratio
2:3 == 2 : 3
2:3 == \frac{2}{3}
2:3 != 3:2
# choice
B == \text{B}
B == (B)
B == \text{(B)}
B == \textbf{(B)}
B == \mathrm{B}
B == B.
B == \text{(B)},
B != C
\text{(B)} != \text{(D)}
B != 8
# text
\text{even} == even
\text{even} == Even
\text{Tuesday} == \mbox{Tuesday}
\text{Tuesday} == \textbf{tuesday}
{even} == \text{even}
\text{July 4} == July 4
\text{July 4} == July\ 4
7:45 \text{ p.m.} == 7\!:\!45\text{ PM}
\text{7:45 PM} == 7:45 \text{ pm}
06:30 == 06\!:\!30
two circles == \text{two circles}
\text{even} != \text{odd}
\text{no} != \text{on}
DEBC != BCDE
\text{Tuesday} != \text{Thursday}
\text{July 4} != \text{July 5}
7:45 \text{ p.m.} != 7:45 \text{ a.m.}
\text{even} != 2
\text{not } 5 != 5
# approximation given after the exact value
\frac{1}{3} \approx 0.333 == \frac13
\approx 8.2 == 8.2
\frac{1}{3} \approx 0.333 != 0.333
# spacing and size
\left( \frac{1}{2} \right) == \frac12
\, 3\, == 3
3\quad == 3
\(\frac{1}{2}\) == 0.5
\big(1,2\big) == (1,2)
\bigl(1,2\bigr) == (1,2)
\Bigl(1,2\Bigr) == (1,2)
\Big(1,2\Big) == (1,2)
\[ 3 \] == 3
x\;+\;1 == x+1
3~ == 3
# functions that are read
\log_2 8 == 3
\log_{1/2} 8 == -3
\frac{\log_2 9}{\log_2 3} == 2
\frac{\log_2 9}{\log_2 3} != 3
\log_2(xy) == \log_2 x + \log_2 y
\log_2 3 + \log_2 5 != \log_2 8
\binom{5}{2} == 10
\dbinom52 == 10
\binom{5}{0} == 1
\binom{n}{2} == \frac{n(n-1)}{2}
\binom{8}{2}+\binom{8}{3} == 84
\lfloor 3.7 \rfloor == 3
\lceil 3.2 \rceil == 4
\lfloor -3.5 \rfloor == -4
\lfloor x+1 \rfloor == \lfloor x \rfloor+1
2\lfloor n/3\rfloor != \lfloor 2n/3\rfloor
\exp(x) == e^x
\exp{0} == 1
\gcd(12,18) == 6
\text{lcm}(4,6) == 12
\operatorname{cis} 60^\circ == \frac{1+i\sqrt{3}}{2}
\sin^{-1} 1 == \frac{\pi}{2}
# functions of which nothing is known
P(0) != 0
P(1) != P
P(0)P(1) != 0
h(2x) != 2h(x)
h(x+y) != h(x)+h(y)
f(-x) != -f(x)
a(1)+b(2) != a+2b
h(h+1) == h^2+h
F(x) != xF
\sigma(6) != 2\sigma(3)
\overline{-x} != -\overline{x}
\sinh 2x != 2\sinh x
\angle ABC != \angle ACB
\angle ABC == \angle{ABC}
\overrightarrow{AB} != \overrightarrow{BA}
f\circ g != g\circ f
\mathbf{a}\times\mathbf{b} != \mathbf{b}\times\mathbf{a}
a\mid b != b\mid a
x\equiv 2\pmod 3 != x\equiv 3\pmod 2
\int_0^1 x^2 dx != x\int_0^1 x dx
f'(2) != f(2)
f^{-1}(3) != \frac{3}{f}
# unknowns of all sizes and both signs
|x-3| != 3-x
|x-3| != x-3
|n-50| != 50-n
|x+20| != x+20
|a|+|b| != |a+b|
|ab| != ab
\sqrt{(a-b)^2} == |a-b|
\sqrt{x^2-6x+9} != 3-x
\arctan(\tan x) != x
\sqrt{x^3} == x\sqrt{x}
\frac{1}{\sqrt{n}} == \sqrt{1/n}
\ln(ab) == \ln a+\ln b
\sqrt{-4} == 2i
\sqrt[3]{-8} == -2
(-8)^{2/3} == 4
\sqrt[3]{x^3} == x
(ab)^{1/3} == a^{1/3}b^{1/3}
# equations: exact, and what they say
x = 123456789 != x = 123456788
2x = 246913578 != x = 123456788
2x = 246913578 == x = 123456789
x > 123456789 != x > 123456788
x = 0.33333333 != x = \frac13
\tan A = 2 == 2
a+b+c=\frac65 == \frac65
ab = 6 == 6
|z| = 5 == 5
\frac{a}{b} = 3 == 3
f(f(2)) = 6 == 6
f(f(x)) = 6 != 6
f'(x) = 2x == 2x
f^{-1}(\frac15) = 9 == 9
x^2 = 25 != 25
x + y + z = 0 != 0
\text{Mean} = 84 == 84
\text{Mean} = 84 != \text{Median} = 84
Area of ABC = 5 == 5
x=\frac{10}{2}=5 == 5
x=\frac{10}{2}=4 != 4
10^3 = 1000 == 1000
10^3 = 1001 != 1001
\begin{vmatrix} 2 & 1 \\ 1 & 2 \end{vmatrix} = 3 == 3
3 = x == 3
x=1, y=2 == (1,2)
y=1, x=2 != (1,2)
x\approx 11 == 11
x\approx 11 != x\approx 12
x != x \approx 1.23
x = \frac13 \approx 0.33 == \frac13
# and, or
x>-2, x<3 == (-2,3)
x<1 and x>2 != (-\infty,1)\cup(2,\infty)
x<3, y<4 != (-\infty,3)\cup(-\infty,4)
a<1 or b>2 != x<1 or x>2
x \ge 1 \text{ and } x \ne 2 == [1,2)\cup(2,\infty)
x \ne 0 == (-\infty,0)\cup(0,\infty)
|x|>2 == x > 2 or x < -2
|x| \le 2 == [-2,2]
(-\infty,1) or (3,+\infty) == x<1 or x>3
(0,4)\setminus\{1\} == (0,1)\cup(1,4)
(1,3)\cap(2,5) == (2,3)
(1,2)\cup(2,3) != (1,3)
(1,2]\cup(2,3) == (1,3)
# ratios and times
1:2 == 2:4
1:2:3 == 2:4:6
1:2:3 != 1:3:2
1:2:3 != \frac16
3 to 4 == 3:4
12:30 != 2:05
12:30 != \frac25
1:03 != 1:3
20:34 == 20:34:00
S:T=7:32 == 7:32
2:30 PM == 14:30
2:30 \text{ p.m.} == 2:30
2:30 != 14:30
# units, ordinals, number words
12dollars == 12
18cm == 18
12 h == 12
12\text{ m/s} == 12
12 km/h == 12
12\mathrm{~min} == 12
4 \text{ inches} / \text{ second} == 4
12\pi cm^2 == 12\pi
12^{th} == 12
12^{\mathrm{th}} \text{ grade} == 12
12'' == 12
USD 12 == 12
€12 == 12
1'500 == 1500
2.5 \text{ million} == 2500000
2.5 million != 2.5
5\text{ dozen} != 5
3 abc != 3
# words of sets
\{x\mid -2\le x\le 7\} == [-2,7]
\{x \in \mathbb{R} : x<2\} == (-\infty,2)
\text{all real numbers} == \mathbb{R}
\text{no solutions} == \emptyset
no solution == none
infinitely many == \infty
DNE == \text{does not exist}
\text{between 1 and 3} == (1,3)
# wrappers
**12** == 12
\color{red}{12} == 12
\underline{12} == 12
\bf 12 == 12
0.\dot{3} == \frac13
\text{Option A} == A
x != 3 == x \neq 3
xyz == zyx
# not readable: equal only to itself
? + 1 != 1 + ?
\frac{1}{ != \frac{1}{2}
(3 != 3
3) != 3
(3] != 3
[3) != 3
[3] == 3
{3 != 3
\frac{3}{ == \frac{3}{
x' != x
^2 != 2
1+ != 1
# code is not run
print(42) != 42
[].append(4) != 4
6*7 if True else 0 != 42
__import__("math").pi != \pi
"""
CASES = [line for line in TABLE.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("line", CASES)
def test_table(line):
    """A rule of the checker is missing, or goes too far."""
    check_line(line)
    left, right = line.split(" == " if " == " in line else " != ")
    assert is_equivalent(left, left)
    assert is_equivalent(right, f" {right} ")


def test_the_table_is_large_enough():
    """Lines were lost, or stand there twice."""
    assert len(CASES) == len(set(CASES)) >= 300, len(CASES)


# ---- hostile text --------------------------------------------------------------------------------
HOSTILE = [
    # numbers that cannot be computed
    "9" * 100_000,
    "0." + "3" * 50_000,
    "9^{9^{9^{9^9}}}",
    "2^{10^{9}}",
    "1e999",
    "1e999999999",
    "((9!)!)!",
    "10^9!",
    r"\sqrt[10^{10}]{2}",
    "(x+1)^{100000}",
    "2" + "!" * 500,
    # too deep
    "(" * 2000,
    "{" * 500,
    "(" * 250 + "1" + ")" * 250,
    r"\frac{1}{" * 60 + "1" + "}" * 60,
    r"\frac" * 120,
    r"\sqrt" * 120,
    r"\sin " * 120,
    "-" * 590,
    "1+" * 290 + "1",
    "1^" * 290 + "1",
    "x_" * 290 + "x",
    "1," * 299 + "1",
    "[" * 590,
    "|" * 590,
    "," * 590,
    "=" * 590,
    "\\" * 590,
    # patterns that try everything
    " " * 590,
    "a " * 290,
    "1 " * 299,
    r"\text{" * 90,
    r"\text{a" * 80,
    r"\text{ab" * 70,
    r"1\text{ab" * 60,
    "1,000" * 110,
    "1,000," * 99,
    r"\pm" * 190,
    r"1\pm" * 140,
    r"\overline{1}" * 45,
    r".1\overline{1}" * 42,
    "and " * 140,
    r"\approx" * 80,
    r"\begin{pmatrix}" * 35,
    "1&" * 290,
    r"1\\" * 190,
    r"(1,2)\cup" * 65,
    # slow sums, slow sets
    "999!+" * 115 + "1",
    "1/999!+" * 80 + "1",
    "1/7^{2000}+" * 50 + "1",
    "3^{3000}" * 70,
    "1cm" * 190,
    "1 cm " * 110,
    ",".join(f"1/7^{{{power}}}" for power in range(2000, 2030)),
    ",".join(f"499!+{term}" for term in range(30)),
    r"\boxed{" * 80,
    # what has no value, code, strange characters
    "i!",
    r"\sqrt{2}!",
    "__import__('os').system('false')",
    "exec('1')",
    "lambda: 42",
    "{}" * 290,
    "\x00",
    "\ud800",
    "٤٢",
    "４２",
    "½",
    "😀",
    "\n" * 50,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_harmless(text):
    """A text raises, or takes more than a fifth of a second (measured: below 0.02), whatever stands
    on the other side."""
    others = ["42", r"x+\frac{1}{2}", text[:-1] + "2", text + " ", ",".join(text.split(",")[::-1])]
    for other in others + random.Random(0).sample(HOSTILE, 3):
        for left, right in ((text, other), (other, text)):
            start = time.process_time()
            assert is_equivalent(left, right) in (True, False)
            extract_answer(left)
            assert time.process_time() - start < 0.2


def test_it_never_recurses_far():
    """Deep text is not refused by a counter of our own: it raises where the stack ends."""
    deep = "(" * 35 + "x" + ")" * 35

    def descend(levels):
        return descend(levels - 1) if levels else is_equivalent(deep, deep + "+0")

    assert descend(400) is True
    assert is_equivalent("(" * 45 + "x" + ")" * 45, "x") is False


def test_memory_stays_flat():
    """A cache has no bound: ten thousand answers leave over a megabyte behind, not a half."""
    tracemalloc.start()
    for number in range(5_000):
        is_equivalent(f"x_{number}+{number}", f"{number}+x_{{{number}}}")
    left_behind = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert left_behind < 2**20, left_behind


# ---- properties ----------------------------------------------------------------------------------
properties = settings(deadline=None, max_examples=150, derandomize=True)
numbers = st.integers(-(10**6), 10**6)
symbols = ["x", "y", r"\pi", r"\sqrt{2}", "0.5", "i", "(x+1)", r"\sin x"]
atoms = st.one_of(numbers.map(str), st.sampled_from(symbols))


def larger(inner):
    pairs = st.tuples(inner, inner)
    fractions = pairs.map(lambda pair: r"\frac{%s}{%s}" % pair)
    sums = pairs.map(lambda pair: "{%s}+{%s}" % pair)
    products = pairs.map(lambda pair: r"(%s)\cdot(%s)" % pair)
    return st.one_of(fractions, sums, products)


expressions = st.recursive(atoms, larger, max_leaves=6)
tokens = []
for case in CASES:
    tokens += formulas.TOKEN.findall(case)
pieces = sorted(set("".join(CASES))) + tokens
jumbles = st.lists(st.sampled_from(pieces), max_size=25).map("".join)


@properties
@given(st.one_of(st.text(max_size=80), jumbles), jumbles)
def test_any_text_gives_a_bool_in_both_orders(left, right):
    """Some text raises, differs from itself, or is judged otherwise in the other order."""
    assert is_equivalent(left, right) in (True, False)
    assert is_equivalent(left, right) is is_equivalent(right, left)
    assert left.strip() == "" or is_equivalent(left, left)
    assert extract_answer(left + r" \boxed{7} " + right.replace("box", "")) == "7"


@properties
@given(expressions)
def test_spacing_sizes_and_braces_do_not_matter(text):
    """Spaces, the size of a fraction or of brackets, or braces around all change the answer."""
    assert is_equivalent(text, f"  {text} ")
    assert is_equivalent(text, text.replace(r"\frac", r"\dfrac"))
    assert is_equivalent(text, text.replace("+", r" \, + \; "))
    assert is_equivalent(text, "{" + text + "}")
    assert is_equivalent(text, text.replace("(", r"\left(").replace(")", r"\right)"))


@properties
@given(st.lists(numbers, min_size=2, max_size=6), st.randoms())
def test_the_order_of_a_set_does_not_matter(members, generator):
    """A set has an order, or a tuple has none."""
    shuffled = generator.sample(members, len(members))
    one = ", ".join(map(str, members))
    other = ", ".join(map(str, shuffled))
    assert is_equivalent(rf"\{{{one}\}}", rf"\{{{other}\}}")
    assert is_equivalent(f"({one})", f"({other})") is (members == shuffled)


@properties
@given(numbers, st.integers(1, 10**4))
def test_one_more_is_another_number(top, bottom):
    """A number equals the next one, alone or as a part of something."""
    plain = ("{}", r"{}\pi", r"\sqrt{{2}}+{}", "x+{}", "(3,{})", "x={}", "{}%")
    for spelling in (*plain, r"\frac{{{}}}{{%d}}" % bottom):
        one = spelling.format(top)
        more = spelling.format(top + 1)
        assert is_equivalent(one, one + " ")
        assert not is_equivalent(one, more), (one, more)


# ---- labelled data -------------------------------------------------------------------------------
BARS = {
    "accuracy %": 99.7,
    "accuracy %, real only": 99.3,
    "accuracy %, not by agreement": 97,
    "extraction %": 99,
}
LIMITS = {
    "false positives": 1,
    "right, but refused as unfinished": 5,
    "not symmetric": 0,
    "gold answers not equal to themselves": 0,
    "adversarial: slowest call, ms": 50,
    "adversarial: peak memory, MB": 20,
}


@pytest.mark.slow
def test_few_copies_from_the_question_are_paid():
    """Catches a rule of is_worked_out that is lost: 459 problems have such a copy, 86 pay one."""
    folder = measure_checker.ROOT.parent / "shared" / "data" / "math"
    if not (folder / "test.jsonl.gz").exists():
        pytest.skip("MATH is not beside the repository: ../shared/data/math")
    counts = measure_checker.copied(folder)
    assert counts["copied from the question: paid, other than the reference"] <= 100


@pytest.mark.slow
def test_the_bars_on_the_labelled_data():
    """The measured table has become worse; the data are not a part of the repository."""
    folder = measure_checker.ROOT.parent / "shared" / "checker"
    if not (folder / "pairs_dev.jsonl").exists():
        pytest.skip("the labelled data are not beside the repository: ../shared/checker")
    rows = measure_checker.measure(folder)
    for name, bar in BARS.items():
        assert rows[name] >= bar, (name, rows[name])
    for name, limit in LIMITS.items():
        assert rows[name] <= limit, (name, rows[name])
    assert rows["checks per second"] > 5_000  # 40,000 measured; a busy machine is no failure
