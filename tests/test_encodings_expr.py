"""Expressions compute what Python computes, stay within their bounds, and are one object per structure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.encodings import expr as ex
from avicheck.encodings.expr import Expr, Op

Assignment: TypeAlias = Mapping[str, int]
Oracle: TypeAlias = Callable[[Assignment], int]

RANGES: Final = {"n": (-9, 6), "u": (0, 15), "w": (3, 200), "q": (0, 0xFFFF_FFFF), "s": (-(1 << 31), -5)}
FLAGS: Final = ("f", "g")
EXAMPLES: Final = settings(max_examples=300, deadline=None)


@dataclass(frozen=True)
class Twin:
    """An expression, and what Python computes in its place."""

    expr: Expr
    value: Oracle


def int_var(name: str) -> Twin:
    return Twin(ex.int_var(name, *RANGES[name]), lambda env: env[name])


def bool_var(name: str) -> Twin:
    return Twin(ex.bool_var(name), lambda env: env[name])


def number(value: int) -> Twin:
    return Twin(ex.constant(value), lambda _env: value)


def apply(make: Callable[..., Expr], compute: Callable[..., int], *args: Twin) -> Twin:
    return Twin(make(*(arg.expr for arg in args)), lambda env: compute(*(arg.value(env) for arg in args)))


def below(limit: int, a: Twin) -> Twin:
    """``a`` brought into 0..limit, a power of two less one."""
    return apply(lambda x: ex.bitand(x, ex.constant(limit)), lambda x: x & limit, a)


def divided(make: Callable[..., Expr], compute: Callable[..., int], a: Twin, b: Twin) -> Twin:
    return apply(make, compute, below(0xFFFF, a), apply(ex.add, operator.add, below(0x1F, b), number(1)))


def clamped(a: Twin, lo: int, hi: int) -> Twin:
    """``a``, known to lie between two bounds where it does; elsewhere the nearer bound."""

    def make(x: Expr) -> Expr:
        low, high = ex.constant(lo), ex.constant(hi)
        return ex.ite(ex.lt(x, low), low, ex.ite(ex.lt(high, x), high, ex.narrow(x, lo, hi)))

    return apply(make, lambda x: min(max(x, lo), hi), a)


ARITHMETIC: Final[list[tuple[Callable[..., Expr], Callable[..., int]]]] = [
    (ex.add, operator.add),
    (ex.sub, operator.sub),
    (ex.mul, operator.mul),
    (ex.bitand, operator.and_),
    (ex.bitor, operator.or_),
    (ex.bitxor, operator.xor),
]
COMPARISONS: Final[list[tuple[Callable[..., Expr], Callable[..., int]]]] = [
    (ex.eq, operator.eq),
    (ex.le, operator.le),
    (ex.lt, operator.lt),
]
CONNECTIVES: Final[list[tuple[Callable[..., Expr], Callable[..., int]]]] = [
    (ex.and_, lambda a, b: a and b),
    (ex.or_, lambda a, b: a or b),
    (ex.implies, lambda a, b: (not a) or b),
    (ex.eq, operator.eq),
    (ex.bitxor, operator.xor),
]


def choose(c: Any, a: int, b: int) -> int:
    return a if c else b


class Builder:
    """Draws terms of one kind from terms drawn before."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.ints = [int_var(name) for name in RANGES] + [number(v) for v in (-3, 0, 1, 2, 7, 255)]
        self.bools = [bool_var(name) for name in FLAGS] + [Twin(ex.TRUE, lambda _: 1)]

    def int(self) -> Twin:
        return self.draw(st.sampled_from(self.ints))

    def bool(self) -> Twin:
        return self.draw(st.sampled_from(self.bools))

    def grow(self) -> Twin:
        """One more term, an operation on earlier ones."""
        kind = self.draw(st.integers(0, 9))
        if kind <= 2:
            made = apply(*self.draw(st.sampled_from(ARITHMETIC)), self.int(), self.int())
        elif kind == 3:
            made = divided(ex.floordiv, operator.floordiv, self.int(), self.int())
            made = self.draw(st.sampled_from([made, divided(ex.mod, operator.mod, self.int(), self.int())]))
        elif kind == 4:
            shift = self.draw(st.sampled_from([(ex.shl, operator.lshift), (ex.shr, operator.rshift)]))
            made = apply(*shift, self.int(), below(7, self.int()))
        elif kind == 5:
            made = apply(ex.bit_count, int.bit_count, below(0xFFFF_FFFF, self.int()))
        elif kind == 6:
            made = apply(ex.ite, choose, self.bool(), self.int(), self.int())
        elif kind == 7:
            lo = self.draw(st.integers(-20, 20))
            made = clamped(self.int(), lo, lo + self.draw(st.integers(0, 30)))
        else:
            return self.grow_bool()
        if max(abs(made.expr.lo), abs(made.expr.hi)) < 1 << 80:
            self.ints.append(made)
        return made

    def grow_bool(self) -> Twin:
        kind = self.draw(st.integers(0, 4))
        if kind <= 1:
            made = apply(*self.draw(st.sampled_from(COMPARISONS)), self.int(), self.int())
        elif kind == 2:
            made = apply(ex.not_, lambda a: not a, self.bool())
        elif kind == 3:
            made = apply(ex.ite, choose, self.bool(), self.bool(), self.bool())
        else:
            made = apply(*self.draw(st.sampled_from(CONNECTIVES)), self.bool(), self.bool())
        self.bools.append(made)
        if self.draw(st.booleans()):
            self.ints.append(made)
        return made


@st.composite
def twins(draw: st.DrawFn, size: int = 12) -> list[Twin]:
    """Terms over all operations, later ones over earlier ones."""
    builder = Builder(draw)
    return [builder.grow() for _ in range(draw(st.integers(1, size)))]


@st.composite
def assignments(draw: st.DrawFn) -> dict[str, int]:
    values = {name: draw(st.sampled_from(bounds) | st.integers(*bounds)) for name, bounds in RANGES.items()}
    return values | {name: draw(st.integers(0, 1)) for name in FLAGS}


@EXAMPLES
@given(twins(), assignments())
def test_value_is_python_s_own(terms: list[Twin], env: dict[str, int]) -> None:
    computed = ex.evaluate([term.expr for term in terms], env)
    assert computed == [int(term.value(env)) for term in terms]


@EXAMPLES
@given(twins(), assignments())
def test_every_subexpression_stays_within_its_bounds(terms: list[Twin], env: dict[str, int]) -> None:
    parts = list(ex.postorder([term.expr for term in terms]))
    for part, value in zip(parts, ex.evaluate(parts, env), strict=True):
        assert part.lo <= value <= part.hi, part


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_equal_structure_is_one_object(data: st.DataObject) -> None:
    """Rebuilding an expression bottom-up through the constructors' table gives the same object."""
    term = data.draw(twins())[-1].expr
    rebuilt: dict[Expr, Expr] = {}
    for part in ex.postorder([term]):
        args = tuple(rebuilt[arg] for arg in part.args)
        rebuilt[part] = ex._make(part.op, args, part.is_bool, part.lo, part.hi, part.value)
    assert rebuilt[term] is term


@pytest.mark.parametrize(("make", "compute"), ARITHMETIC + COMPARISONS)
def test_operators_on_all_small_numbers(
    make: Callable[..., Expr], compute: Callable[[int, int], int]
) -> None:
    """Symbolic on either side, constants, and both the same: every pair from -5 to 5."""
    a, b, values = ex.int_var("a", -5, 5), ex.int_var("b", -5, 5), range(-5, 6)
    for x in values:
        for y in values:
            variants = [make(a, b), make(a, ex.constant(y)), make(ex.constant(x), b)]
            assert ex.evaluate(variants, {"a": x, "b": y}) == [compute(x, y)] * 3
            assert all(made.lo <= compute(x, y) <= made.hi for made in variants)
        assert ex.evaluate([make(a, a)], {"a": x}) == [compute(x, x)]


@pytest.mark.parametrize(
    ("make", "compute", "divisors"),
    [
        (ex.floordiv, operator.floordiv, range(1, 9)),
        (ex.mod, operator.mod, range(1, 9)),
        (ex.shl, operator.lshift, range(8)),
        (ex.shr, operator.rshift, range(8)),
    ],
)
def test_division_and_shifts_on_all_small_numbers(
    make: Callable[..., Expr], compute: Callable[[int, int], int], divisors: range
) -> None:
    by = ex.int_var("by", divisors[0], divisors[-1])
    low = 0 if divisors[0] else -20
    a = ex.int_var("a", low, 20)
    for x in range(low, 21):
        for y in divisors:
            variants = [make(a, by), make(a, ex.constant(y)), make(ex.constant(x), by)]
            assert ex.evaluate(variants, {"a": x, "by": y}) == [compute(x, y)] * 3


def a(lo: int = 0, hi: int = 15) -> Expr:
    return ex.int_var("a", lo, hi)


K: Final = ex.constant
F, G, H = (ex.bool_var(name) for name in "fgh")


@pytest.mark.parametrize(
    ("made", "simplified"),
    [
        (ex.not_(ex.not_(F)), F),
        (ex.and_(F, ex.and_(G, F)), ex.and_(G, F)),
        (ex.and_(F, ex.not_(F)), ex.FALSE),
        (ex.or_(F, ex.not_(F)), ex.TRUE),
        (ex.and_(F, ex.or_(F, G)), F),
        (ex.and_(F, ex.or_(ex.not_(F), G)), ex.and_(F, G)),
        (ex.and_(), ex.TRUE),
        (ex.or_(), ex.FALSE),
        (ex.ite(ex.not_(F), G, H), ex.ite(F, H, G)),
        (ex.ite(F, G, G), G),
        (ex.ite(F, ex.ite(F, G, H), H), ex.ite(F, G, H)),
        (ex.ite(F, ex.TRUE, ex.FALSE), F),
        (
            ex.ite(F, K(3), ex.ite(G, K(3), a())),
            ex.ite(ex.or_(F, G), K(3), a()),
        ),
        (ex.ite(F, a(), ex.ite(G, K(3), a())), ex.ite(ex.and_(G, ex.not_(F)), K(3), a())),
        (ex.eq(ex.ite(F, K(3), K(4)), K(3)), F),
        (ex.le(ex.ite(F, K(3), K(9)), K(5)), F),
        (ex.eq(ex.add(a(), K(2)), K(5)), ex.eq(a(), K(3))),
        (ex.eq(a(), K(16)), ex.FALSE),
        (ex.le(a(), K(15)), ex.TRUE),
        (ex.lt(a(), K(0)), ex.FALSE),
        (ex.add(ex.add(a(), K(2)), K(-2)), a()),
        (ex.sub(a(), a()), K(0)),
        (ex.mul(a(), K(1)), a()),
        (ex.mul(a(), K(0)), K(0)),
        (ex.mod(a(), K(16)), a()),
        (ex.bitand(a(), K(15)), a()),
        (ex.bitand(ex.bitand(a(), K(6)), K(12)), ex.bitand(a(), K(4))),
        (ex.bitor(a(), K(0)), a()),
        (ex.bitxor(a(), a()), K(0)),
        (ex.shl(a(), K(0)), a()),
        (
            ex.add(ex.ite(F, K(3), K(4)), K(1)),
            ex.ite(F, *map(K, (4, 5))),
        ),
        (ex.narrow(a(), -3, 99), a()),
        (ex.narrow(a(), 4, 4), K(4)),
        (ex.int_var("a", 7, 7), K(7)),
        (K(True), K(1)),
    ],
)
def test_simplification(made: Expr, simplified: Expr) -> None:
    assert made is simplified


def test_true_is_not_handed_out_for_one() -> None:
    assert type(K(True).lo) is int


def test_boolean_and_number_are_different_objects() -> None:
    assert ex.TRUE is not K(1)


def test_boolean_equals_its_number() -> None:
    assert ex.eq(F, K(1)) is F


@pytest.mark.parametrize(
    ("op", "bounds"),
    [
        (ex.add(a(-2, 3), a(-2, 3)), (-4, 6)),
        (ex.sub(a(-2, 3), ex.int_var("b", -1, 5)), (-7, 4)),
        (ex.mul(a(-2, 3), ex.int_var("b", -1, 5)), (-10, 15)),
        (ex.floordiv(a(), ex.int_var("b", 1, 4)), (0, 15)),
        (ex.mod(a(), ex.int_var("b", 1, 4)), (0, 3)),
        (ex.bitand(a(-2, 3), a()), (0, 15)),
        (ex.bitor(a(-2, 3), ex.int_var("b", 0, 4)), (-8, 7)),
        (ex.shl(a(-2, 3), ex.int_var("b", 0, 2)), (-8, 12)),
        (ex.shr(a(-2, 3), ex.int_var("b", 0, 2)), (-2, 3)),
        (ex.bit_count(a(1, 9)), (1, 4)),
        (ex.narrow(a(), 3, 99), (3, 15)),
        (ex.narrow(a(), 9, 3), (9, 9)),
    ],
)
def test_bounds(op: Expr, bounds: tuple[int, int]) -> None:
    assert (op.lo, op.hi) == bounds


def test_narrow_keeps_values_within_its_bounds() -> None:
    narrow = ex.narrow(a(), 3, 9)
    assert [ex.evaluate([narrow], {"a": value})[0] for value in range(3, 10)] == list(range(3, 10))


POSITIVE: Final = "must have a dividend >= 0 and a divisor > 0"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: ex.floordiv(a(-1, 3), a(1, 3)),
            "Division must have a dividend >= 0 and a divisor > 0, not a // a",
        ),
        (
            lambda: ex.mod(a(0, 3), a(0, 3)),
            "Remainder must have a dividend >= 0 and a divisor > 0, not a % a",
        ),
        (lambda: ex.shl(a(), a(-1, 3)), "Shift count must be at least 0, not a"),
        (lambda: ex.shr(a(), a(-1, 3)), "Shift count must be at least 0, not a"),
        (lambda: ex.shl(a(), a(0, 1 << 32)), "Shift count must be at most 4096, not a up to 4294967296"),
        (lambda: ex.bit_count(a(-1, 3)), "Bits must be counted in a number >= 0, not in a"),
    ],
)
def test_undefined_operation_is_refused(make: Callable[[], Expr], message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        make()
    assert str(refused.value) == message


@pytest.mark.parametrize("test", [ex.eq, ex.le, ex.lt])
def test_long_chains_of_constants_do_not_exhaust_the_stack(test: Callable[[Expr, Expr], Expr]) -> None:
    flags = [ex.bool_var(f"flag{i}") for i in range(1_200)]
    chain = K(-1)
    for i, flag in enumerate(flags):
        chain = ex.ite(flag, K(i), chain)
    tested = test(chain, K(7))
    assert ex.evaluate([tested], {"flag7": 1}) == [int(test is not ex.lt)]


def test_unassigned_variable_has_its_lower_bound() -> None:
    assert ex.evaluate([a(3, 9), F], {}) == [3, 0]


def test_variables_come_in_the_order_of_their_use() -> None:
    b = ex.int_var("b", 0, 9)
    assert ex.variables(ex.sub(b, a()), ex.eq(b, K(1)), F) == [b, a(), F]


def test_text_is_short_however_deep_the_expression() -> None:
    deep = a()
    for i in range(9):
        deep = ex.mul(ex.add(deep, K(i + 1)), a())
    assert repr(deep) == "(* (+ (* ... a) 9) a)"


def test_every_operation_has_a_value() -> None:
    assert {Op.CONST, Op.VAR, Op.NARROW, *ex._EVALUATE} == set(Op)
