"""Statements about every case of a record's full width, as questions to a solver."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from avicheck.checker.obligations import lifting_obligations
from avicheck.checker.solve import Assignment, Query, ask
from avicheck.encodings.expr import not_
from avicheck.encodings.lift import Lifter, concrete, symbolic, to_expr

C = TypeVar("C")


@dataclass(frozen=True)
class Theorem(Generic[C]):
    """A statement about every case, or (``always`` is false) one about some case. ``given`` fixes fields of
    the case; ``refuted`` says that it is known to be false, so that a counterexample supports it."""

    name: str
    predicate: Callable[[C], bool]
    always: bool = True
    given: Mapping[str, Any] = field(default_factory=dict)
    refuted: bool = False

    @property
    def sentence(self) -> str:
        """The statement, in one sentence: the predicate's docstring."""
        return " ".join((self.predicate.__doc__ or "").split())


class Theory(Generic[C]):
    """Theorems about the cases of one record."""

    def __init__(self, name: str, cases: type[C], theorems: tuple[Theorem[C], ...]) -> None:
        self.name = name
        self.cases = cases
        self.theorems = theorems

    def case(self, theorem: Theorem[C]) -> C:
        """Any case at all that a theorem speaks of."""
        found: C = symbolic(self.cases, {}, "case", **theorem.given)
        return found

    def query(self, theorem: Theorem[C]) -> Query:
        """The question for a counterexample, or for an example of what can happen."""
        return self._asked(Lifter(), theorem)

    def _asked(self, lifter: Lifter, theorem: Theorem[C]) -> Query:
        with lifter.resumed():
            holds = to_expr(lifter.call(theorem.predicate, (self.case(theorem),), {}))
        sought = not_(holds) if theorem.always else holds
        expected = theorem.refuted if theorem.always else not theorem.refuted
        name = f"{self.name}/{theorem.name}"
        return ask(name, theorem.sentence, [sought], "sat" if expected else "unsat")

    def found(self, theorem: Theorem[C], values: Assignment) -> C:
        """A solver's assignment as a case that runs."""
        return concrete(self.case(theorem), values)

    def obligations(self) -> list[Query]:
        """Every theorem, and that no path was left out while its predicate was lifted."""
        queries = []
        for theorem in self.theorems:
            lifter = Lifter()
            queries.append(self._asked(lifter, theorem))
            queries += lifting_obligations(lifter, f"{self.name}/{theorem.name}/lifting")
        return queries
