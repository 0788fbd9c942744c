"""Hand-written z3 terms, told to a builder: printed or computed side by side with lifted expressions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar

import z3

from avicheck.encodings.bitvectors import Builder
from avicheck.encodings.z3vars import Term

T = TypeVar("T")

_OPERATORS: Final[Mapping[int, str]] = {
    z3.Z3_OP_NOT: "not",
    z3.Z3_OP_AND: "and",
    z3.Z3_OP_OR: "or",
    z3.Z3_OP_IMPLIES: "=>",
    z3.Z3_OP_ITE: "ite",
    z3.Z3_OP_EQ: "=",
    z3.Z3_OP_DISTINCT: "distinct",
    z3.Z3_OP_ULEQ: "bvule",
    z3.Z3_OP_ULT: "bvult",
    z3.Z3_OP_UGEQ: "bvuge",
    z3.Z3_OP_UGT: "bvugt",
    z3.Z3_OP_SLEQ: "bvsle",
    z3.Z3_OP_SLT: "bvslt",
    z3.Z3_OP_SGEQ: "bvsge",
    z3.Z3_OP_SGT: "bvsgt",
    z3.Z3_OP_BNEG: "bvneg",
    z3.Z3_OP_BADD: "bvadd",
    z3.Z3_OP_BSUB: "bvsub",
    z3.Z3_OP_BUREM: "bvurem",
    z3.Z3_OP_BAND: "bvand",
    z3.Z3_OP_BOR: "bvor",
    z3.Z3_OP_BSHL: "bvshl",
    z3.Z3_OP_BLSHR: "bvlshr",
    z3.Z3_OP_CONCAT: "concat",
}
"""What the rules are written with, by SMT-LIB's names."""

_NEUTRAL: Final[Mapping[str, bool]] = {"and": True, "or": False, "distinct": True}


class Reader(Generic[T]):
    """Tells terms to a builder, each once. ``variables`` are the builder's terms for the constants
    that may occur, by name: both sides of a comparison then speak of the same ones."""

    def __init__(self, builder: Builder[T], variables: Mapping[str, T]) -> None:
        self._builder = builder
        self._variables = variables
        self._terms: dict[int, tuple[Term, T]] = {}

    def term(self, root: Term) -> T:
        """The builder's term for a z3 term; KeyError if it has a constant that is no variable, TypeError if
        it has an operator that no rule uses."""
        for part in _postorder(root, self._terms):
            self._terms[part.get_id()] = part, self._made(part)
        return self._terms[root.get_id()][1]

    def _made(self, term: Term) -> T:
        build, kind = self._builder, term.decl().kind()
        args = [self._terms[arg.get_id()][1] for arg in term.children()]
        width = term.size() if z3.is_bv(term) else 0
        if kind in (z3.Z3_OP_TRUE, z3.Z3_OP_FALSE):
            return build.bool_const(kind == z3.Z3_OP_TRUE)
        if kind == z3.Z3_OP_BNUM:
            return build.bv_const(term.as_long(), width)
        if kind == z3.Z3_OP_UNINTERPRETED and not args:
            return self._variables[term.decl().name()]
        if kind == z3.Z3_OP_EXTRACT:
            high, low = term.params()
            return build.extract(high, low, args[0])
        if kind == z3.Z3_OP_ZERO_EXT:
            return build.extend(term.params()[0], False, args[0], width) if term.params()[0] else args[0]
        if kind not in _OPERATORS:
            raise TypeError(f"Operator of a rule must be one of SMT-LIB's known here, not {term.decl()}")
        operator = _OPERATORS[kind]
        if operator in _NEUTRAL and len(args) < 2:
            return args[0] if args and operator != "distinct" else build.bool_const(_NEUTRAL[operator])
        return build.apply(operator, args, width)


def _postorder(root: Term, known: Mapping[int, object]) -> Iterator[Term]:
    """The parts of a term that are not known, arguments before their users."""
    seen = set(known)
    stack = [(root, False)]
    while stack:
        term, ready = stack.pop()
        if ready:
            yield term
        elif term.get_id() not in seen:
            seen.add(term.get_id())
            stack.append((term, True))
            stack.extend((child, False) for child in term.children() if child.get_id() not in seen)
