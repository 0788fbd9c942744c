"""Dead values: a thread's variable that no later step reads before it is written has no say in what can
happen. Where it is dead it is laid to rest at one value, and states that differ in nothing else become one.

Both systems can fire the same transitions for ever (they are bisimilar), and what is asked has the same
value in corresponding states: every property has the same verdict, fairness included.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from avicheck.encodings.control_flow import Edge, Flow, flows, names
from avicheck.encodings.expr import TRUE, Expr, and_, boolean, constant, eq, ite, le, or_
from avicheck.encodings.substitute import substitute
from avicheck.encodings.transition import (
    ReplayError,
    Run,
    Transition,
    TransitionSystem,
    Values,
    Variable,
    fire,
)

_MAX_ROUNDS: Final = 1 << 16


@dataclass(frozen=True)
class Resting:
    """A variable that is dead while the thread whose label ``counter`` holds is at one of ``labels``: it
    has ``value`` there."""

    variable: Variable
    counter: Variable
    labels: frozenset[int]
    value: int


@dataclass(frozen=True)
class DeadValues:
    """A system, and the same without dead values."""

    original: TransitionSystem
    system: TransitionSystem
    resting: tuple[Resting, ...]

    def rested(self, state: Values) -> Values:
        """A state of the original system without dead values."""
        dead = {r.variable.name: r.value for r in self.resting if state[r.counter.name] in r.labels}
        return {**state, **dead}

    @property
    def invariant(self) -> Expr:
        """What is so in every state of the system without dead values."""
        now = {variable.name: variable.expr for variable in self.system.variables}
        parts = []
        for each in self.resting:
            value, counter = now[each.variable.name], each.counter.expr
            dead = or_(*(eq(counter, constant(label)) for label in sorted(each.labels)))
            rests, within = eq(value, constant(each.value)), le(value, constant(each.variable.hi))
            parts.append(ite(dead, rests, within))
        return and_(*parts)

    def run_of(self, run: Run) -> Run:
        """The run of the original system that a run stands for: the same transitions fire. Its loop is
        gone round until the dead values come back too. ``ReplayError`` if there is no such run."""
        start = next((state for state in self.original.initial if self.rested(state) == run.states[0]), None)
        if start is None:
            raise ReplayError("State 0 must be an initial state without dead values, not another")
        states, fired = [start], list(run.fired)
        _fire_on(self.original, states, fired)
        if run.loop is None:
            return Run(tuple(states), tuple(fired))
        loop = run.fired[run.loop :]
        for _ in range(_MAX_ROUNDS):
            turns = range(run.loop, len(states) - 1, max(1, len(loop)))
            begun = next((turn for turn in turns if states[turn] == states[-1]), None)
            if begun is not None:
                return Run(tuple(states), tuple(fired), begun)
            fired += loop
            _fire_on(self.original, states, fired)
        raise ReplayError("A loop must come back to its first state, not go on for ever")


def _fire_on(system: TransitionSystem, states: list[Values], fired: Sequence[str]) -> None:
    """Fire the transitions that lead on from the states at hand."""
    steps = {transition.name: transition for transition in system.transitions}
    for i in range(len(states) - 1, len(fired)):
        after = fire(steps[fired[i]], states[i])
        if after is None:
            raise ReplayError(f"Step {i} must be enabled, not blocked: {fired[i]}")
        states.append(after)


def without_dead_values(
    system: TransitionSystem,
    asked: Iterable[Expr],
    *,
    only: Collection[str] | None = None,
    neutral: Collection[str] = (),
) -> DeadValues:
    """The system without the dead values of the variables named in ``only`` (of all, unless given):
    they get their initial value, or where they are named in ``neutral`` the one after their last. What is
    ``asked`` keeps its value in every state."""
    observed = [*asked, system.ended]
    resting: list[Resting] = []
    steps: dict[str, Transition] = {}
    for flow in flows(system):
        found = [
            each
            for each in _resting(system, flow, observed, neutral)
            if only is None or each.variable.name in only
        ]
        resting += found
        steps |= {name: _laid_to_rest(edges, found) for name, edges in flow.by_step.items()}
    widened = {r.variable.name: replace(r.variable, hi=r.value) for r in resting if r.value > r.variable.hi}
    rewritten = replace(
        system,
        variables=tuple(widened.get(variable.name, variable) for variable in system.variables),
        transitions=tuple(steps.get(step.name, step) for step in system.transitions),
    )
    done = DeadValues(system, _reading(rewritten, widened), tuple(resting))
    initial = tuple(done.rested(state) for state in system.initial)
    return replace(done, system=replace(done.system, initial=initial))


def _resting(
    system: TransitionSystem, flow: Flow, observed: Sequence[Expr], neutral: Collection[str]
) -> Iterator[Resting]:
    """A thread's variables that are dead somewhere. One that a step may lead out of its bounds is none."""
    if flow.counter is None:
        return
    written = {name for edge in flow.edges for name in edge.step.updates}
    live = _live(flow, observed)
    for var in system.variables:
        values = [edge.step.updates.get(var.name, var.expr) for edge in flow.edges]
        inside = all(var.lo <= value.lo and value.hi <= var.hi for value in values)
        dead = frozenset(label for label in flow.labels if var.name not in live[label])
        if dead and inside and var.name in flow.own & written and var != flow.counter and var.lo < var.hi:
            value = var.hi + 1 if var.name in neutral else system.initial[0][var.name]
            yield Resting(var, flow.counter, dead, value)


def _live(flow: Flow, observed: Sequence[Expr]) -> Mapping[int, frozenset[str]]:
    """By label, the thread's variables whose value may still be read, or is asked for there."""
    live = {label: names(flow.there(label, observed)) & flow.own for label in flow.labels}
    changed = True
    while changed:
        changed = False
        for edge in flow.edges:
            after = frozenset[str]().union(*(live[label] for label in edge.targets))
            before = live[edge.label] | _live_before(flow, edge, after)
            changed = changed or before != live[edge.label]
            live[edge.label] = before
    return live


def _live_before(flow: Flow, edge: Edge, after: frozenset[str]) -> frozenset[str]:
    """What is live before a step, by what is after it. What is read only for a dead value is not."""
    dead = flow.own - after - ({flow.counter.name} if flow.counter else set())
    used = [value for name, value in edge.updates.items() if name not in dead]
    return (names([edge.guard, *used]) | (after - edge.updates.keys())) & flow.own


def _laid_to_rest(edges: Sequence[Edge], resting: Iterable[Resting]) -> Transition:
    """A step that leaves no dead value."""
    step = edges[0].step
    sources = {edge.label for edge in edges}
    targets = frozenset[int]().union(*(edge.targets for edge in edges))
    updates = dict(step.updates)
    for each in resting:
        name, labels = each.variable.name, each.labels & targets
        kept = name not in step.updates and sources <= each.labels
        if labels and not kept:
            after = step.updates.get(each.counter.name, each.counter.expr)
            dead = (
                TRUE if labels == targets else or_(*(eq(after, constant(label)) for label in sorted(labels)))
            )
            rest = boolean(bool(each.value)) if each.variable.is_bool else constant(each.value)
            updates[name] = ite(dead, rest, step.updates.get(name, each.variable.expr))
    return replace(step, updates=updates)


def _reading(system: TransitionSystem, widened: Mapping[str, Variable]) -> TransitionSystem:
    """The system with some variables read in their new bounds."""
    placed = {name: variable.expr for name, variable in widened.items()}

    def reading(*exprs: Expr) -> list[Expr]:
        return substitute(exprs, placed) if placed else list(exprs)

    def step(old: Transition) -> Transition:
        guard, *values = reading(old.guard, *old.updates.values())
        return replace(old, guard=guard, updates=dict(zip(old.updates, values, strict=True)))

    properties = [
        replace(
            asked,
            holds=reading(asked.holds)[0],
            target=None if asked.target is None else reading(asked.target)[0],
            conjuncts=tuple((name, reading(part)[0]) for name, part in asked.conjuncts),
        )
        for asked in system.properties
    ]
    return replace(
        system,
        transitions=tuple(map(step, system.transitions)),
        properties=tuple(properties),
        ended=reading(system.ended)[0],
    )
