"""From expressions to fixed-width bit vectors, for any solver that speaks the SMT-LIB operators.

An integer takes as many bits as its bounds need (two's complement if it can be
negative), so that no operation wraps. What a solver's terms look like is the
business of a ``Builder``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from avicheck.encodings.expr import Expr, Op, postorder

T = TypeVar("T")


class Builder(Protocol[T]):
    """Makes a solver's terms; ``operator`` is SMT-LIB's name (``bvadd``, ``and``, ``ite``, ...)."""

    def bool_const(self, value: bool) -> T:
        """A boolean constant."""

    def bool_var(self, name: str) -> T:
        """A boolean variable."""

    def bv_const(self, value: int, width: int) -> T:
        """A bit vector constant; ``value`` is taken modulo 2**width."""

    def bv_var(self, name: str, width: int) -> T:
        """A bit vector variable."""

    def apply(self, operator: str, args: Sequence[T], width: int) -> T:
        """An application; ``width`` 0 if it is boolean."""

    def extract(self, high: int, low: int, term: T) -> T:
        """The bits from ``high`` down to ``low``."""

    def extend(self, bits: int, signed: bool, term: T, width: int) -> T:
        """The term with ``bits`` more at its top; ``width`` is the result's."""


def width_of(lo: int, hi: int) -> int:
    """How many bits hold every integer from ``lo`` to ``hi``, a sign included if one is needed."""
    if lo < 0:
        return max(hi.bit_length() if hi > 0 else 0, (-lo - 1).bit_length()) + 1
    return max(1, hi.bit_length())


_BINARY: Final = {
    Op.ADD: "bvadd",
    Op.SUB: "bvsub",
    Op.MUL: "bvmul",
    Op.DIV: "bvudiv",
    Op.MOD: "bvurem",
    Op.BITAND: "bvand",
    Op.BITOR: "bvor",
    Op.BITXOR: "bvxor",
    Op.SHL: "bvshl",
}


class Translator(Generic[T]):
    """Translates expressions to the terms of one builder, each once."""

    def __init__(self, builder: Builder[T]) -> None:
        self._builder = builder
        self._terms: dict[Expr, T] = {}

    def term(self, expr: Expr) -> T:
        """The term of one expression."""
        return self.terms((expr,))[0]

    def terms(self, exprs: Iterable[Expr]) -> list[T]:
        """The terms of some expressions."""
        exprs = list(exprs)
        for part in postorder(exprs, self._terms):
            self._terms[part] = self._bool(part) if part.is_bool else self._int(part)
        return [self._terms[expr] for expr in exprs]

    def stand_in(self, expr: Expr, term: T) -> None:
        """From now on the term of ``expr``, of its sort and width, is ``term``, whatever it is made of.
        ValueError if it was translated before."""
        if self._terms.setdefault(expr, term) is not term:
            raise ValueError("Expression must not be translated before something stands in for it")

    def domains(self, variables: Iterable[Expr]) -> list[T]:
        """That integer variables lie within their bounds, as far as their bits leave room for more.
        ValueError if two variables share a name."""
        build, limits = self._builder, []
        named: dict[object, Expr] = {}
        for var in variables:
            if named.setdefault(var.value, var) is not var:
                raise ValueError(f"Variable {var.value} must have one domain, not several")
            width, signed = width_of(var.lo, var.hi), var.lo < 0
            least, most = (-1 << (width - 1), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
            order = "bvsle" if signed else "bvule"
            if not var.is_bool and var.lo > least:
                limits.append(build.apply(order, (build.bv_const(var.lo, width), self.term(var)), 0))
            if not var.is_bool and var.hi < most:
                limits.append(build.apply(order, (self.term(var), build.bv_const(var.hi, width)), 0))
        return limits

    def _bool(self, expr: Expr) -> T:
        build = self._builder
        if expr.op is Op.CONST:
            return build.bool_const(bool(expr.lo))
        if expr.op is Op.VAR:
            return build.bool_var(str(expr.value))
        if expr.op in (Op.NOT, Op.AND, Op.ITE):
            return build.apply(expr.op.value, [self._terms[arg] for arg in expr.args], 0)
        lo, hi = _hull(expr.args)
        operator = "=" if expr.op is Op.EQ else "bvsle" if lo < 0 else "bvule"
        return build.apply(operator, self._fitted(expr.args, lo, hi), 0)

    def _int(self, expr: Expr) -> T:
        build, width = self._builder, width_of(expr.lo, expr.hi)
        if expr.op is Op.CONST:
            return build.bv_const(expr.lo, width)
        if expr.op is Op.VAR:
            return build.bv_var(str(expr.value), width)
        if expr.op is Op.ITE:
            branches = [self._fit(arg, width) for arg in expr.args[1:]]
            return build.apply("ite", [self._terms[expr.args[0]], *branches], width)
        if expr.op is Op.NARROW:
            return self._fit(expr.args[0], width)
        if expr.op is Op.BITCOUNT:
            return self._count_bits(expr.args[0], width)
        lo, hi = _hull((*expr.args, expr))
        operator = _BINARY.get(expr.op) or ("bvashr" if lo < 0 else "bvlshr")
        wide = width_of(lo, hi)
        return self._cut(build.apply(operator, self._fitted(expr.args, lo, hi), wide), wide, width)

    def _count_bits(self, arg: Expr, width: int) -> T:
        build, term = self._builder, self._terms[arg]
        bits = [build.extract(i, i, term) for i in range(width_of(arg.lo, arg.hi))]
        terms = [bit if width == 1 else build.extend(width - 1, False, bit, width) for bit in bits]
        while len(terms) > 1:
            pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
            terms = [build.apply("bvadd", pair, width) if len(pair) == 2 else pair[0] for pair in pairs]
        return terms[0]

    def _fitted(self, args: Iterable[Expr], lo: int, hi: int) -> list[T]:
        return [self._fit(arg, width_of(lo, hi)) for arg in args]

    def _fit(self, arg: Expr, width: int) -> T:
        """An argument in ``width`` bits: extended by its own sign, or cut."""
        if arg.op is Op.CONST:
            return self._builder.bv_const(arg.lo, width)
        have = width_of(arg.lo, arg.hi)
        if width > have:
            return self._builder.extend(width - have, arg.lo < 0, self._terms[arg], width)
        return self._cut(self._terms[arg], have, width)

    def _cut(self, term: T, have: int, width: int) -> T:
        return self._builder.extract(width - 1, 0, term) if width < have else term


def _hull(args: Iterable[Expr]) -> tuple[int, int]:
    args = list(args)
    return min(arg.lo for arg in args), max(arg.hi for arg in args)
