"""Scripts in which lifted expressions and hand-written terms speak of the same variables, and what makes
them easy: cuts.

Where formulas as a whole are too much for a solver, variables stand for values inside them, and all
that is known of the variables is what other queries prove of the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import z3

from avicheck.encodings.bitvectors import Translator, width_of
from avicheck.encodings.expr import Expr
from avicheck.encodings.from_z3 import Reader
from avicheck.encodings.smtlib import SmtLibBuilder, written
from avicheck.encodings.z3vars import BoolTerm, Term, in_range, variable
from avicheck.spec.lang import Range


@dataclass
class Cuts:
    """Variables that stand for parts of the specification's formulas.

    What is ``known`` of the variables is true of the parts in every case: other queries prove it. So a
    case that meets all that a script asserts gives the variables values with which the cut script
    is met as well: where that cannot be met, there is no such case. The converse does not hold."""

    lifted: dict[Expr, Term] = field(default_factory=dict)
    """Parts, and the z3 constants that stand for them, of the same sort and width."""
    known: list[BoolTerm] = field(default_factory=list)
    """What is known of the constants; nothing stands for anything here."""

    def cut(self, name: str, expr: Expr) -> Term:
        """The variable that stands for a part, within the same bounds; a new one is called ``name``."""
        if expr in self.lifted:
            return self.lifted[expr]
        domain = bool if expr.is_bool else Range(expr.lo, expr.hi)
        term = variable(domain, {}, name)
        self.lifted[expr] = term
        self.know(in_range(term, domain, {}))
        return term

    def know(self, fact: BoolTerm) -> None:
        """Add to what is known."""
        self.known.append(fact)


Values: TypeAlias = Sequence[tuple[Expr, Term, bool]]
"""Values as the specification and the rules give them, and whether they are signed."""


class Script:
    """A script in which both sides speak of the same variables."""

    def __init__(self, variables: Sequence[Expr], cuts: Cuts | None = None) -> None:
        cuts = cuts or Cuts()
        self.builder = SmtLibBuilder()
        self._translator = Translator(self.builder)
        names = {str(var.value): self._translator.term(var) for var in variables}
        names |= {term.decl().name(): self._declared(term) for term in cuts.lifted.values()}
        self._reader = Reader(self.builder, names)
        self.asserted = self._translator.domains(variables)
        for expr, term in cuts.lifted.items():
            self._translator.stand_in(expr, self._reader.term(term))
        self.asserted += map(self._reader.term, cuts.known)

    def require(self, *conditions: Expr) -> None:
        """Assert conditions of the specification."""
        self.asserted += self._translator.terms(conditions)

    def differ(self, lifted: Expr, stated: Term, signed: bool) -> str:
        """That the two sides have different values."""
        ours, theirs, build = self._translator.term(lifted), self._reader.term(stated), self.builder
        if not lifted.is_bool:
            have, size = width_of(lifted.lo, lifted.hi), stated.size()
            width = max(have, size) + 1
            ours = build.extend(width - have, lifted.lo < 0, ours, width)
            theirs = build.extend(width - size, signed, theirs, width)
        return build.apply("not", [build.apply("=", [ours, theirs], 0)], 0)

    def differ_somewhere(self, values: Values) -> None:
        """Assert that the two sides have different values for one or another."""
        differ = [self.differ(*value) for value in values]
        self.asserted.append(differ[0] if len(differ) == 1 else self.builder.apply("or", differ, 0))

    def text(self, remarks: Sequence[str], status: str) -> str:
        """The finished script; see ``smtlib.script``."""
        return written(self.builder, self.asserted, remarks, status)

    def _declared(self, term: Term) -> str:
        name = term.decl().name()
        return self.builder.bool_var(name) if z3.is_bool(term) else self.builder.bv_var(name, term.size())
