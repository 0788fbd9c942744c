"""The control flow of a thread of a transition system: from which label each step leads to which.

A thread's label is a variable that only its own steps change and most of them ask for. Nothing needs
to be told: guards and updates show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from avicheck.encodings.expr import FALSE, Expr, Op, constant, variables
from avicheck.encodings.substitute import substitute
from avicheck.encodings.transition import Transition, TransitionSystem, Variable

_MAX_LABELS: Final = 256


@dataclass(frozen=True)
class Edge:
    """A step of a thread from one label: its guard and updates there, simplified, and the labels to which
    it may lead."""

    step: Transition
    label: int
    guard: Expr
    updates: Mapping[str, Expr]
    targets: frozenset[int]

    @property
    def exprs(self) -> tuple[Expr, ...]:
        """What the step computes."""
        return (self.guard, *self.updates.values())


@dataclass(frozen=True)
class Flow:
    """What a thread does. ``counter`` is the variable that holds its label; without one all its steps are
    at label 0. ``own`` are the variables that no other thread's step reads or changes."""

    thread: str
    counter: Variable | None
    edges: tuple[Edge, ...]
    own: frozenset[str]

    @property
    def labels(self) -> range:
        """Every label."""
        return range(self.counter.lo, self.counter.hi + 1) if self.counter else range(1)

    @cached_property
    def at(self) -> Mapping[int, tuple[Edge, ...]]:
        """The edges by the label that they start from."""
        return {label: tuple(edge for edge in self.edges if edge.label == label) for label in self.labels}

    @cached_property
    def by_step(self) -> Mapping[str, tuple[Edge, ...]]:
        """The edges by the name of their step."""
        found: dict[str, tuple[Edge, ...]] = {}
        for edge in self.edges:
            found[edge.step.name] = (*found.get(edge.step.name, ()), edge)
        return found

    def there(self, label: int, exprs: Iterable[Expr]) -> list[Expr]:
        """Expressions as they are where the thread is at a label."""
        return substitute(exprs, {} if self.counter is None else {self.counter.name: constant(label)})


def names(exprs: Iterable[Expr]) -> frozenset[str]:
    """The names of the variables in some expressions."""
    return frozenset(str(var.value) for var in variables(*exprs))


def flows(system: TransitionSystem) -> list[Flow]:
    """The threads, in the order of their first steps."""
    steps: dict[str, list[Transition]] = {}
    for step in system.transitions:
        steps.setdefault(step.thread, []).append(step)
    touched = {thread: _touched(own) for thread, own in steps.items()}
    return [
        _flow(
            system,
            thread,
            own,
            touched[thread].difference(*(touched[other] for other in steps if other != thread)),
            frozenset().union(*(_changed(theirs) for other, theirs in steps.items() if other != thread)),
        )
        for thread, own in steps.items()
    ]


def _changed(steps: Iterable[Transition]) -> frozenset[str]:
    return frozenset(name for step in steps for name in step.updates)


def _touched(steps: Iterable[Transition]) -> frozenset[str]:
    steps = list(steps)
    return names(e for step in steps for e in (step.guard, *step.updates.values())) | _changed(steps)


def _flow(
    system: TransitionSystem, thread: str, steps: list[Transition], own: frozenset[str], alien: frozenset[str]
) -> Flow:
    """``alien`` is what other threads change."""
    asked = [_asked(step.guard) for step in steps]
    uses = {
        variable: sum(variable.name in found for found in asked)
        for variable in system.variables
        if variable.name in _changed(steps) - alien and variable.hi - variable.lo < _MAX_LABELS
    }
    counter = max(uses, key=lambda variable: uses[variable], default=None)
    if counter is None or not uses[counter]:
        everywhere = (Edge(step, 0, step.guard, step.updates, frozenset({0})) for step in steps)
        return Flow(thread, None, tuple(everywhere), own)
    edges = (edge for step in steps for edge in _edges(step, counter))
    return Flow(thread, counter, tuple(edges), own)


def _asked(guard: Expr) -> frozenset[str]:
    """The variables that a guard compares with a constant, or takes as a condition."""
    conjuncts = guard.args if guard.op is Op.AND else (guard,)
    tests = [part.args[0] if part.op is Op.NOT else part for part in conjuncts]
    tests = [test.args[0] if test.op is Op.EQ and test.args[1].op is Op.CONST else test for test in tests]
    return frozenset(str(test.value) for test in tests if test.op is Op.VAR)


def _edges(step: Transition, counter: Variable) -> Iterator[Edge]:
    for label in range(counter.lo, counter.hi + 1):
        here = {counter.name: constant(label)}
        (guard,) = substitute([step.guard], here)
        if guard is not FALSE:
            updates = dict(zip(step.updates, substitute(step.updates.values(), here), strict=True))
            after = updates.get(counter.name)
            targets = frozenset({label}) if after is None else _values(after, counter)
            yield Edge(step, label, guard, updates, targets)


def _values(value: Expr, counter: Variable) -> frozenset[int]:
    """The labels that an expression may be equal to."""
    if value.op is Op.ITE and not value.is_bool:
        return _values(value.args[1], counter) | _values(value.args[2], counter)
    return frozenset(range(max(value.lo, counter.lo), min(value.hi, counter.hi) + 1))
