"""Symmetry: whether exchanging two instances leaves a transition system as it is.

Nothing that is declared is trusted. A family of instances is interchangeable if for each two
neighbours the exchanged initial states are the initial states, every exchanged transition is one of
the transitions, and what is asked has the same value after the exchange; then all permutations of
the instances are automorphisms, and one state of each orbit stands for the others (Ip and Dill, 1996).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from avicheck.encodings.expr import TRUE, Expr, and_, constant, eq, implies, ite, not_
from avicheck.encodings.substitute import substitute
from avicheck.encodings.transition import Exchange, Family, Transition, TransitionSystem, Values


@dataclass(frozen=True)
class Automorphism:
    """An exchange that leaves a system as it is: ``steps`` says which step each one becomes."""

    exchange: Exchange
    steps: Mapping[str, str]


@dataclass(frozen=True)
class Broken:
    """What tells the instances ``i`` and ``i + 1`` of a family apart."""

    family: Family
    i: int
    what: str

    def __str__(self) -> str:
        return f"{self.family.name} {self.i} and {self.i + 1}, which differ in {self.what}"


def automorphisms(
    system: TransitionSystem, asked: Mapping[str, Expr], family: Family, invariant: Expr = TRUE
) -> list[Automorphism] | Broken:
    """The exchanges of a family, if all of them leave the system as it is, and the value of the conditions
    that are ``asked``, by what they are called. ``invariant`` holds in every state that matters."""
    found = []
    for i, exchange in enumerate(family.exchanges):
        steps = _exchanged_steps(system, exchange, invariant)
        what = steps if isinstance(steps, str) else _changed(system, asked, exchange, invariant)
        if isinstance(steps, str) or what is not None:
            return Broken(family, i, what or "")
        found.append(Automorphism(exchange, steps))
    return found


def _exchanged_steps(system: TransitionSystem, exchange: Exchange, invariant: Expr) -> dict[str, str] | str:
    """Which step each one becomes; or the first that becomes none."""
    places = images(system, exchange)
    written = {_key(step.guard, step.updates): step.name for step in system.transitions}
    found = {}
    for step in system.transitions:
        guard, updates = _exchanged_step(step, exchange, places)
        other = written.get(_key(guard, updates)) or _equal_step(system, guard, updates, invariant)
        if other is None:
            return f"step {step.name}"
        found[step.name] = other
    return found


def _changed(
    system: TransitionSystem, asked: Mapping[str, Expr], exchange: Exchange, invariant: Expr
) -> str | None:
    """Which other part of the system an exchange changes."""
    for state in system.initial:
        after = exchanged(exchange, state)
        if after not in system.initial:
            name = next(name for name, value in after.items() if value != state[name])
            return f"the initial value of {name}"
    conditions = {"what is known of every state": invariant, **asked, "which states have ended": system.ended}
    moved = substitute(conditions.values(), images(system, exchange))
    for (name, before), condition in zip(conditions.items(), moved, strict=True):
        given = TRUE if before is invariant else invariant
        if not _valid(given, eq(before, condition)):
            return name
    return None


def _key(guard: Expr, updates: Mapping[str, Expr]) -> tuple[Expr, frozenset[tuple[str, Expr]]]:
    return guard, frozenset(updates.items())


def exchanged(exchange: Exchange, state: Values) -> Values:
    """A state after an exchange."""
    after = dict(state)
    for a, b in exchange.variables:
        after[a], after[b] = state[b], state[a]
    for name, pairs in exchange.values.items():
        swapped = {**dict(pairs), **{b: a for a, b in pairs}}
        after[name] = swapped.get(after[name], after[name])
    return after


def images(system: TransitionSystem, exchange: Exchange) -> dict[str, Expr]:
    """For the variables that an exchange concerns: what they are in the exchanged state, as an expression
    over the state."""
    exprs = {variable.name: variable.expr for variable in system.variables}
    moved: dict[str, Expr] = {}
    for a, b in exchange.variables:
        moved |= {a: exprs[b], b: exprs[a]}
    for name, pairs in exchange.values.items():
        moved[name] = _swapped(moved.get(name, exprs[name]), pairs)
    return moved


def _swapped(value: Expr, pairs: Iterable[tuple[int, int]]) -> Expr:
    result = value
    for a, b in pairs:
        low, high = constant(a), constant(b)
        result = ite(eq(value, low), high, ite(eq(value, high), low, result))
    return result


def _exchanged_step(
    step: Transition, exchange: Exchange, places: Mapping[str, Expr]
) -> tuple[Expr, dict[str, Expr]]:
    """What a step does, seen after the exchange."""
    guard, *values = substitute([step.guard, *step.updates.values()], places)
    to = {a: b for pair in exchange.variables for a, b in (pair, pair[::-1])}
    updates = {}
    for name, value in zip(step.updates, values, strict=True):
        target = to.get(name, name)
        updates[target] = _swapped(value, exchange.values.get(target, ()))
    return guard, updates


def _equal_step(
    system: TransitionSystem, guard: Expr, updates: Mapping[str, Expr], invariant: Expr
) -> str | None:
    """The name of a transition with this guard and these updates, however they are written."""
    for step in system.transitions:
        if step.updates.keys() == updates.keys():
            same = and_(*(eq(value, updates[name]) for name, value in step.updates.items()))
            if _valid(invariant, and_(eq(step.guard, guard), implies(guard, same))):
                return step.name
    return None


def _valid(given: Expr, condition: Expr) -> bool:
    """Whether a condition holds wherever another does."""
    if condition is TRUE:
        return True
    from avicheck.encodings.to_z3 import check_sat

    return check_sat([given, not_(condition)]) is False
