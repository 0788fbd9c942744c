"""The plainest model checker: every reachable state in a dictionary, every definition word by word."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import networkx as nx

S = TypeVar("S", bound=Hashable)

Graph = Mapping[S, list[tuple[str, S]]]
"""What can happen in each reachable state, by name, and what it leads to."""


@dataclass(frozen=True)
class Question(Generic[S]):
    """A property, over states of some form."""

    kind: str
    holds: Callable[[S], bool]
    target: Callable[[S], bool] | None = None
    weak: Collection[str] = ()
    strong: Collection[str] = ()


def explore(initial: Iterable[S], successors: Callable[[S], list[tuple[str, S]]]) -> Graph[S]:
    graph: dict[S, list[tuple[str, S]]] = {}
    waiting = list(initial)
    while waiting:
        state = waiting.pop()
        if state not in graph:
            graph[state] = successors(state)
            waiting.extend(after for _, after in graph[state])
    return graph


def answer(graph: Graph[S], question: Question[S]) -> bool:
    """Whether a property holds."""
    if question.kind == "always":
        return all(map(question.holds, graph))
    if question.kind == "never":
        return not any(map(question.holds, graph))
    if question.kind == "sometimes":
        return any(map(question.holds, graph))
    assert question.kind == "leads-to"
    assert question.target is not None
    without = {state for state in graph if not question.target(state)}
    fair = _fair_states(graph, without, question)
    return not any(_can_reach(graph, state, fair, without) for state in without if question.holds(state))


def deadlock_free(graph: Graph[S], ended: Callable[[S], bool]) -> bool:
    return all(steps or ended(state) for state, steps in graph.items())


def _can_reach(graph: Graph[S], start: S, goals: set[S], within: set[S]) -> bool:
    seen, waiting = {start}, [start]
    while waiting:
        state = waiting.pop()
        if state in goals:
            return True
        new = {after for _, after in graph[state] if after in within} - seen
        seen |= new
        waiting.extend(new)
    return False


def _fair_states(graph: Graph[S], states: set[S], question: Question[S]) -> set[S]:
    """States from which a fair run may go round in these states for ever, or ends."""
    found = {state for state in states if not graph[state]}
    edges = [(state, after) for state in states for _, after in graph[state] if after in states]
    for component in nx.strongly_connected_components(nx.DiGraph(edges)):
        fired = {name for state in component for name, after in graph[state] if after in component}
        if not fired:
            continue
        enabled = [{name for name, _ in graph[state]} for state in component]
        starved = set.intersection(*enabled) & set(question.weak) - fired
        refused = set.union(*enabled) & set(question.strong) - fired
        if refused:
            rest = {state for state in component if not refused & {name for name, _ in graph[state]}}
            found |= _fair_states(graph, rest, question)
        elif not starved:
            found |= component
    return found
