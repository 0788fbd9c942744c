"""What is asked of a system, as one question: can a state be reached in which ``goal`` holds?

Engines answer only this. A run to the goal refutes the property, or is what a
``sometimes`` property asks for; ``confirm`` checks that by evaluation alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from avicheck.encodings.expr import Expr, and_, constant, evaluate, le, not_, or_
from avicheck.encodings.transition import (
    Property,
    ReplayError,
    Run,
    Transition,
    TransitionSystem,
    Variable,
    fire,
    replay,
)


@dataclass(frozen=True)
class Question:
    """Can ``system`` reach ``goal``? ``run_of`` turns a run of ``system`` into one of the system that
    was asked about."""

    system: TransitionSystem
    goal: Expr
    run_of: Callable[[Run], Run] = lambda run: run


def can_step(system: TransitionSystem) -> Expr:
    """That some transition may fire."""
    return or_(*(transition.guard for transition in system.transitions))


def deadlock_free(system: TransitionSystem, name: str) -> Property:
    """The property that something can fire in each reachable state that has not ended."""
    sentence = "Something can happen, or the system has ended."
    return Property(name, "always", or_(system.ended, can_step(system)), sentence)


def question(system: TransitionSystem, asked: Property) -> Question:
    """The question that decides a property: whether it can be refuted, or for ``sometimes`` whether it
    comes true."""
    if asked.kind == "leads-to":
        from avicheck.encodings.liveness import refutable

        return refutable(system, asked)
    return Question(system, not_(asked.holds) if asked.kind == "always" else asked.holds)


def escapes(system: TransitionSystem) -> list[tuple[Transition, Variable, Expr]]:
    """Where an update does not keep to its variable's bounds by its own: the transition, the variable and
    the condition, over the state before, under which it leaves them."""
    found = []
    for transition in system.transitions:
        for var in system.variables:
            new = transition.updates.get(var.name)
            if new is not None and not (var.lo <= new.lo and new.hi <= var.hi):
                kept = and_(le(constant(var.lo), new), le(new, constant(var.hi)))
                found.append((transition, var, and_(transition.guard, not_(kept))))
    return found


def confirm(system: TransitionSystem, asked: Property, run: Run) -> None:
    """Check by evaluation that a run is one of the system's and shows what it is for: that the property
    is refuted, or for ``sometimes`` that it comes true. ReplayError if it does not."""
    replay(system, run)
    if asked.kind == "leads-to":
        _confirm_starvation(system, asked, run)
    elif _true(asked.holds, run, len(run.states) - 1) == (asked.kind == "always"):
        expected = "false" if asked.kind == "always" else "true"
        raise ReplayError(f"{asked.name} must be {expected} in the last state, not the opposite")


def _true(expr: Expr, run: Run, i: int) -> bool:
    return bool(evaluate([expr], run.states[i])[0])


def _confirm_starvation(system: TransitionSystem, asked: Property, run: Run) -> None:
    """That a run which goes round its loop for ever, or can go no further, is fair and from some state
    in which the property asks for its target never reaches it."""
    if asked.target is None:
        raise ReplayError(f"{asked.name} must have a target, not none")
    last = len(run.states) - 1
    tail = range(last if run.loop is None else run.loop, last + 1)
    reached = [i for i in range(last + 1) if _true(asked.target, run, i)]
    if any(i in tail for i in reached):
        raise ReplayError(f"{asked.name}: the target must never be reached again, not in state {reached[-1]}")
    if not any(_true(asked.holds, run, i) for i in range(max(reached, default=-1) + 1, last + 1)):
        raise ReplayError(f"{asked.name}: the target must be asked for after it was last reached, not before")
    if run.loop is None or run.loop == last:
        if _true(can_step(system), run, last):
            raise ReplayError(f"{asked.name}: a run that reaches no target must go on, not stop")
        return
    steps = {transition.name: transition for transition in system.transitions}
    fired = set(run.fired[run.loop :])
    for names, quantifier in ((asked.weak_fairness, all), (asked.strong_fairness, any)):
        for name in names:
            if name not in fired and quantifier(fire(steps[name], run.states[i]) is not None for i in tail):
                raise ReplayError(f"{asked.name}: the loop must be fair, not without {name}")
