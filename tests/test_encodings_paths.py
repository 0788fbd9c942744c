"""What a path claims to know is so wherever its decisions hold."""

from __future__ import annotations

import itertools
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.encodings import expr as ex
from avicheck.encodings.expr import Expr
from avicheck.encodings.paths import ROOT, Path

K: Final = ex.constant
A, B = ex.int_var("a", -3, 4), ex.int_var("b", 0, 5)
F, G = ex.bool_var("f"), ex.bool_var("g")
ASSIGNMENTS: Final = [
    {"a": a, "b": b, "f": f, "g": g}
    for a, b, f, g in itertools.product(range(-3, 5), range(6), range(2), range(2))
]


@st.composite
def conditions(draw: st.DrawFn) -> tuple[list[Expr], list[Expr]]:
    """Some conditions, and the integers that they are about."""
    ints, bools = [A, B], [F, G]
    for _ in range(draw(st.integers(2, 12))):
        one, other = (st.sampled_from(ints) for _ in range(2))
        number = st.integers(-4, 6).map(K)
        kind = draw(st.integers(0, 6))
        if kind <= 1:
            bools.append(ex.eq(draw(one), draw(number | other)))
        elif kind <= 3:
            bools.append(ex.le(draw(one | number), draw(number | other)))
        elif kind == 4:
            ints.append(ex.ite(draw(st.sampled_from(bools)), draw(one), draw(number | other)))
        elif kind == 5:
            bools.append(ex.and_(*(draw(st.sampled_from(bools)) for _ in range(3))))
        else:
            choice = [draw(st.sampled_from(bools)) for _ in range(3)]
            bools.append(draw(st.sampled_from([ex.not_(choice[0]), ex.ite(*choice), ex.or_(*choice)])))
    return bools, ints


@settings(max_examples=250, deadline=None)
@given(conditions(), st.sampled_from(ASSIGNMENTS), st.data())
def test_what_a_path_knows_is_so(
    terms: tuple[list[Expr], list[Expr]], env: dict[str, int], data: st.DataObject
) -> None:
    """A path decided as one assignment has it, asked about everything, on every assignment it admits."""
    bools, ints = terms
    path = ROOT
    for condition in data.draw(st.lists(st.sampled_from(bools), min_size=1, max_size=6)):
        if path.implies(condition) is None:
            path = path.assume(condition, bool(ex.evaluate([condition], env)[0]))
    known = [(condition, path.implies(condition)) for condition in bools]
    bounds = [(number, *path.bounds(number)) for number in ints]
    decided = path.literals()
    for other in ASSIGNMENTS:
        if all(ex.evaluate(decided, other)):
            values = ex.evaluate([*bools, *ints], other)
            for (condition, answer), value in zip(known, values, strict=False):
                assert answer is None or answer == bool(value), condition
            for (number, lo, hi), value in zip(bounds, values[len(bools) :], strict=True):
                assert lo <= value <= hi, number


def after(*decisions: tuple[Expr, bool]) -> Path:
    path = ROOT
    for condition, taken in decisions:
        path = path.assume(condition, taken)
    return path


def at_least(number: Expr, least: int) -> Expr:
    return ex.le(K(least), number)


@pytest.mark.parametrize(
    ("decisions", "condition", "known"),
    [
        ([], F, None),
        ([], ex.TRUE, True),
        ([(F, True)], F, True),
        ([(F, True)], ex.not_(F), False),
        ([(F, False)], ex.and_(F, G), False),
        ([(F, True), (G, True)], ex.and_(F, G), True),
        ([(ex.and_(F, G), True)], G, True),
        ([(ex.and_(F, G), False), (F, True)], G, None),
        ([(F, True), (ex.and_(F, G), False)], G, False),
        ([(ex.and_(F, G), False)], F, None),
        ([(ex.and_(F, G), False)], G, None),
        ([(ex.eq(A, K(2)), True)], ex.eq(A, K(3)), False),
        ([(ex.eq(A, K(2)), True)], at_least(A, 2), True),
        ([(ex.eq(A, K(2)), False)], ex.eq(A, K(2)), False),
        ([(ex.eq(A, K(-3)), False)], at_least(A, -2), True),
        ([(ex.eq(A, K(-2)), False), (ex.eq(A, K(-3)), False)], at_least(A, -1), True),
        ([(at_least(A, 2), True)], ex.eq(A, K(1)), False),
        ([(at_least(A, 2), False)], ex.eq(A, K(2)), False),
        ([(at_least(A, 2), False)], ex.eq(A, K(1)), None),
        ([(ex.le(A, B), False)], ex.eq(A, K(0)), False),
        ([(ex.le(B, A), True), (at_least(B, 3), True)], at_least(A, 3), None),
        ([(at_least(B, 3), True), (ex.le(B, A), True)], at_least(A, 3), True),
        ([(F, True)], ex.eq(ex.ite(F, A, K(4)), K(4)), None),
        ([(F, False)], ex.eq(ex.ite(F, A, B), K(-1)), False),
        ([(ex.eq(A, K(0)), True)], ex.le(ex.ite(F, A, K(1)), ex.ite(G, K(1), K(2))), True),
        ([(F, True), (G, True)], ex.ite(ex.eq(A, K(1)), F, G), True),
        ([(F, True), (G, False)], ex.ite(ex.eq(A, K(1)), F, G), None),
    ],
)
def test_knowledge(decisions: list[tuple[Expr, bool]], condition: Expr, known: bool | None) -> None:
    assert after(*decisions).implies(condition) is known


@pytest.mark.parametrize(
    ("decisions", "number", "bounds"),
    [
        ([], A, (-3, 4)),
        ([(at_least(A, 2), True)], A, (2, 4)),
        ([(at_least(A, 2), False)], A, (-3, 1)),
        ([(at_least(A, 2), True), (ex.le(B, A), True)], A, (2, 4)),
        ([(at_least(A, 2), False), (ex.le(A, B), True)], A, (-3, 1)),
        ([(ex.eq(A, K(2)), True)], A, (2, 2)),
        ([(ex.eq(A, K(4)), False)], A, (-3, 3)),
        ([(ex.eq(A, K(1)), False)], A, (-3, 4)),
        ([(F, True)], ex.ite(F, B, A), (0, 5)),
        ([(at_least(A, 0), True), (at_least(B, 4), True)], ex.ite(F, A, B), (0, 5)),
    ],
)
def test_bounds(decisions: list[tuple[Expr, bool]], number: Expr, bounds: tuple[int, int]) -> None:
    assert after(*decisions).bounds(number) == bounds


def test_same_decisions_are_the_same_path() -> None:
    assert after((F, True), (G, False)) is after((F, True), (G, False))


def test_deciding_leaves_the_path_as_it_was() -> None:
    path = after((F, True))
    path.assume(G, True)
    assert (path.implies(G), path.literals()) == (None, [F])


def test_literals_are_the_decisions() -> None:
    assert after((F, True), (ex.not_(G), True)).literals() == [F, ex.not_(G)]
