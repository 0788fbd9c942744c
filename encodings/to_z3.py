"""Expressions as z3 terms. z3 ships no types: its terms are ``Any`` here, and nowhere else."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import z3

from avicheck.encodings.bitvectors import Translator
from avicheck.encodings.expr import Expr, variables

Term: TypeAlias = Any
"""A z3 term."""

_APPLY: Final[Mapping[str, Callable[..., Term]]] = {
    "not": z3.Not,
    "and": z3.And,
    "ite": z3.If,
    "=": operator.eq,
    "bvule": z3.ULE,
    "bvsle": operator.le,
    "bvadd": operator.add,
    "bvsub": operator.sub,
    "bvmul": operator.mul,
    "bvudiv": z3.UDiv,
    "bvurem": z3.URem,
    "bvand": operator.and_,
    "bvor": operator.or_,
    "bvxor": operator.xor,
    "bvshl": operator.lshift,
    "bvashr": operator.rshift,
    "bvlshr": z3.LShR,
}


class Z3Builder:
    """A ``Builder`` of z3 terms in the default context."""

    def bool_const(self, value: bool) -> Term:
        return z3.BoolVal(value)

    def bool_var(self, name: str) -> Term:
        return z3.Bool(name)

    def bv_const(self, value: int, width: int) -> Term:
        return z3.BitVecVal(value, width)

    def bv_var(self, name: str, width: int) -> Term:
        return z3.BitVec(name, width)

    def apply(self, operator: str, args: Sequence[Term], width: int) -> Term:
        return _APPLY[operator](*args)

    def extract(self, high: int, low: int, term: Term) -> Term:
        return z3.Extract(high, low, term)

    def extend(self, bits: int, signed: bool, term: Term, width: int) -> Term:
        return (z3.SignExt if signed else z3.ZeroExt)(bits, term)


def z3_translator() -> Translator[Term]:
    """A translator to z3 that translates each expression once."""
    return Translator(Z3Builder())


def to_z3(expr: Expr) -> Term:
    """One expression as a z3 term."""
    return z3_translator().term(expr)


def check_sat(
    exprs: Sequence[Expr], *, timeout_ms: int = 0, translator: Translator[Term] | None = None
) -> bool | None:
    """Whether some assignment within the variables' bounds makes all the expressions true;
    None if z3 gives up (``timeout_ms`` 0: it never does)."""
    translator, solver = translator or z3_translator(), z3.SolverFor("QF_BV")
    if timeout_ms:
        solver.set("timeout", timeout_ms)
    solver.add(*translator.terms(exprs), *translator.domains(variables(*exprs)))
    answer = solver.check()
    return None if answer == z3.unknown else bool(answer == z3.sat)
