"""Systems made of a graph, and the shortest runs that refute a ``leads-to`` property, found word by word."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from avicheck.encodings.expr import FALSE, Expr, constant, eq, ite, or_
from avicheck.encodings.transition import Property, Transition, TransitionSystem, Variable
from tests.known.naive import Graph
from tests.small_systems import State, frozen, graph_of, true_in

STATE = Variable("s", 0, 15)


def among(states: Collection[int]) -> Expr:
    """That the state is one of some."""
    return or_(*(eq(STATE.expr, constant(state)) for state in sorted(states)))


def graph_system(
    steps: Mapping[str, Mapping[int, int]], asked: Sequence[Property] = (), initial: Collection[int] = (0,)
) -> TransitionSystem:
    """A system of at most 16 states: each step leads from some states to one each."""
    transitions = []
    for name, leads in steps.items():
        after: Expr = constant(0)
        for state, reached in leads.items():
            after = ite(eq(STATE.expr, constant(state)), constant(reached), after)
        transitions.append(Transition(name, name, name, among(leads), {STATE.name: after}))
    starts = tuple({STATE.name: state} for state in initial)
    return TransitionSystem("graph", (STATE,), starts, tuple(transitions), tuple(asked), FALSE)


def leads_to(
    cause: Collection[int], target: Collection[int], weak: Sequence[str] = (), strong: Sequence[str] = ()
) -> Property:
    """From each of some states, some others are reached."""
    return Property(
        "live",
        "leads-to",
        among(cause),
        target=among(target),
        weak_fairness=tuple(weak),
        strong_fairness=tuple(strong),
    )


def at_random(seed: int) -> TransitionSystem:
    """A system of a few states and steps with one property; which, depends on a number."""
    random = Random(seed)
    states = range(random.randint(2, 9))
    names = "abcde"[: random.randint(1, 5)]
    steps = {
        name: {state: random.choice(states) for state in states if random.random() < 0.45} for name in names
    }

    def some(share: float) -> list[int]:
        return [state for state in states if random.random() < share]

    def fair() -> list[str]:
        return [name for name in names if random.random() < 0.4]

    asked = leads_to(some(0.25), some(0.15), fair(), fair())
    initial = sorted({random.choice(states) for _ in range(random.randint(1, 2))})
    return graph_system(steps, [asked], initial)


@dataclass(frozen=True)
class _Walk:
    """A walk from a state without the target: where it is, which steps fired on it, which were enabled
    somewhere and everywhere on it, and whether the target was asked for."""

    state: State
    fired: frozenset[str]
    somewhere: frozenset[str]
    everywhere: frozenset[str]
    asked: bool


def shortest(system: TransitionSystem, asked: Property) -> tuple[int, int] | None:
    """The least number of steps before the loop of a run that refutes a property, or before its end if it
    has no loop; then the least number of steps in the loop of such a run, 0 for an end. None if there is
    none."""
    graph = graph_of(system)
    target = asked.target
    assert target is not None
    without = {state for state in graph if not true_in(target, state)}
    asking = {state for state in without if true_in(asked.holds, state)}
    level = {(state, state in asking) for state in map(frozen, system.initial)}
    seen: set[tuple[State, bool]] = set()
    stem = 0
    while level:
        found = [_loop(graph, asked, without, asking, *start) for start in level if start[0] in without]
        if lengths := [length for length in found if length is not None]:
            return stem, min(lengths)
        seen |= level
        steps = {
            (after, after in asking or (is_asked and after in without))
            for state, is_asked in level
            for _, after in graph[state]
        }
        level, stem = steps - seen, stem + 1
    return None


def _loop(
    graph: Graph[State],
    asked: Property,
    without: set[State],
    asking: set[State],
    start: State,
    is_asked: bool,
) -> int | None:
    """The length of the shortest fair loop from a state, 0 if nothing can fire in it."""
    enabled = {state: frozenset(name for name, _ in steps) for state, steps in graph.items()}
    weak, strong = frozenset(asked.weak_fairness), frozenset(asked.strong_fairness)
    if not graph[start]:
        return 0 if is_asked else None
    first = _Walk(
        start, frozenset(), enabled[start] & strong, enabled[start] & weak, is_asked or start in asking
    )
    level, seen, length = {first}, set[_Walk](), 0
    while level:
        seen |= level
        level, length = (
            {
                _Walk(
                    after,
                    walk.fired | {name} & (weak | strong),
                    walk.somewhere | enabled[after] & strong,
                    walk.everywhere & enabled[after],
                    walk.asked or after in asking,
                )
                for walk in level
                for name, after in graph[walk.state]
                if after in without
            },
            length + 1,
        )
        for walk in level:
            if walk.state == start and walk.asked and walk.somewhere | walk.everywhere <= walk.fired:
                return length
        level -= seen
    return None
