"""Statements about every case of a record's full width, as questions to a solver."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from avicheck.checker.obligations import lifting_obligations
from avicheck.checker.solve import Answer, Assignment, Query, ask
from avicheck.checker.verdict import Verdict
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
        """Everything that must be asked."""
        return [query for theorem in self.theorems for query in self.asked(theorem)]

    def asked(self, theorem: Theorem[C]) -> list[Query]:
        """A theorem's question, and that no path was left out while its predicate was lifted."""
        lifter = Lifter()
        question = self._asked(lifter, theorem)
        return [question, *lifting_obligations(lifter, f"{question.name}/lifting")]

    def verdict(self, theorem: Theorem[C], answers: Iterable[tuple[Query, Answer]]) -> Verdict:
        """What the answers to ``asked`` add up to. A case that a solver found is run: one that does not do
        what the solver says, and a path that was left out, are tool errors."""
        (_, answer), *lifting = answers
        statuses = {said.status for _, said in lifting}
        if "sat" in statuses:
            return Verdict.TOOL_ERROR
        if "unknown" in {answer.status, *statuses}:
            return Verdict.UNKNOWN
        found = answer.status == "sat"
        if found and theorem.predicate(self.found(theorem, answer.values)) is theorem.always:
            return Verdict.TOOL_ERROR
        return Verdict.VIOLATED if found is theorem.always else Verdict.HOLDS
