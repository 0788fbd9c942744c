"""Transition systems: what every engine, export and trace is about.

A state gives a value to each variable. A transition may fire where its guard
holds, and then changes its variables all at once. Everything is an expression
over the variables of the current state, so that one system can be run, compiled,
solved and printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from avicheck.encodings.expr import Expr, Op, bool_var, evaluate, int_var

Values: TypeAlias = Mapping[str, int]
"""A state: values by variable name; booleans are 0 and 1, enumerations positions."""


@dataclass(frozen=True)
class Variable:
    """A state variable: a boolean, or an integer from ``lo`` to ``hi``. ``labels`` names the values
    of an enumeration, from 0 on."""

    name: str
    lo: int
    hi: int
    is_bool: bool = False
    labels: tuple[str, ...] = ()

    @property
    def expr(self) -> Expr:
        """The variable's value in the current state."""
        return bool_var(self.name) if self.is_bool else int_var(self.name, self.lo, self.hi)


@dataclass(frozen=True)
class Transition:
    """One step of one thread, or of the hardware. ``updates`` holds the new values of the variables
    that it may change, by name; all others keep theirs. ``source`` is the code it stands for."""

    name: str
    thread: str
    label: str
    guard: Expr
    updates: Mapping[str, Expr]
    source: str = ""


@dataclass(frozen=True)
class Property:
    """What is asked of a system.

    ``always``: ``holds`` in every reachable state; ``never``: in none; ``sometimes``: in some, else
    the property is vacuous; ``leads-to``: from every reachable state in which ``holds``, every fair run
    reaches ``target``. ``conjuncts`` are named parts of ``holds``, to tell which one failed. A fair run
    fires each transition named in ``weak_fairness`` that stays enabled for ever, and each in
    ``strong_fairness`` that is enabled again and again."""

    name: str
    kind: Literal["always", "never", "sometimes", "leads-to"]
    holds: Expr
    sentence: str = ""
    target: Expr | None = None
    conjuncts: tuple[tuple[str, Expr], ...] = ()
    weak_fairness: tuple[str, ...] = ()
    strong_fairness: tuple[str, ...] = ()


@dataclass(frozen=True)
class Exchange:
    """Two instances change places: the ``variables`` of each pair, the first one's first, exchange their
    values, and by variable, the two ``values`` of each pair, which tell which instance is meant, are
    exchanged for one another."""

    variables: tuple[tuple[str, str], ...]
    values: Mapping[str, tuple[tuple[int, int], ...]]


@dataclass(frozen=True)
class Family:
    """Instances that may be interchangeable (whether they are is for ``symmetry`` to find out):
    ``exchanges[i]`` is the one of instances ``i`` and ``i + 1``."""

    name: str
    exchanges: tuple[Exchange, ...]


@dataclass(frozen=True)
class TransitionSystem:
    """A finite-state machine. ``initial`` lists its initial states, each complete. States in which
    nothing can fire are deadlocks unless ``ended`` holds in them."""

    name: str
    variables: tuple[Variable, ...]
    initial: tuple[Values, ...]
    transitions: tuple[Transition, ...]
    properties: tuple[Property, ...]
    ended: Expr
    families: tuple[Family, ...] = ()


@dataclass(frozen=True)
class Run:
    """A finite run, or a lasso: ``fired[i]`` leads from ``states[i]`` to ``states[i + 1]``; a lasso's
    last state is its state at ``loop``."""

    states: tuple[Values, ...]
    fired: tuple[str, ...]
    loop: int | None = None


class ReplayError(Exception):
    """A run is not one of the system's; the message says where and why."""


def fire(transition: Transition, state: Values) -> Values | None:
    """The state after the transition, None where its guard does not hold: the reference semantics."""
    guard = transition.guard
    conjuncts = guard.args if guard.op is Op.AND else (guard,)
    if not all(evaluate([conjunct], state)[0] for conjunct in conjuncts):
        return None
    values = evaluate(transition.updates.values(), state)
    return {**state, **dict(zip(transition.updates, values, strict=True))}


def successors(system: TransitionSystem, state: Values) -> list[tuple[Transition, Values]]:
    """Every transition that may fire in a state, with what it leads to, in the system's order."""
    reached = ((transition, fire(transition, state)) for transition in system.transitions)
    return [(transition, after) for transition, after in reached if after is not None]


def replay(system: TransitionSystem, run: Run) -> None:
    """Check that a run is one of the system's: raise ``ReplayError`` if it is not."""
    steps = {transition.name: transition for transition in system.transitions}
    if not run.states or len(run.states) != len(run.fired) + 1:
        raise ReplayError(
            f"Run must have one state more than steps, not {len(run.states)} and {len(run.fired)}"
        )
    if run.states[0] not in system.initial:
        raise ReplayError("State 0 must be an initial state, not one of the others")
    for i, name in enumerate(run.fired):
        if name not in steps:
            raise ReplayError(f"Step {i} must be one of the system's, not {name}")
        after = fire(steps[name], run.states[i])
        if after is None:
            raise ReplayError(f"Step {i} must be enabled, not blocked: {name}")
        wrong = [key for key, value in after.items() if run.states[i + 1].get(key) != value]
        if wrong:
            key = wrong[0]
            came = run.states[i + 1].get(key)
            raise ReplayError(f"After step {i} ({name}) {key} must be {after[key]}, not {came}")
    if run.loop is not None and run.states[-1] != run.states[run.loop]:
        raise ReplayError(f"The last state of a lasso must be its state {run.loop}, not another")
