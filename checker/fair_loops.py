"""Fair loops in a region: where they are, and a short one from a given state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from avicheck.checker.components import components, rows, sparse
from avicheck.checker.explore import Contradiction
from avicheck.checker.region import Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.int32]
    Flags: TypeAlias = NDArray[np.bool_]

EXACT: Final = 100_000
"""Pairs of a state and what has been done that the search for shortest loops looks at: a second or two."""


@dataclass(frozen=True)
class _Part:
    """Some states of a region, and all edges from them, sorted by their sources: from and to the states'
    positions here, -1 for edges that lead elsewhere."""

    states: Numbers
    sources: Numbers
    targets: Numbers
    fired: NDArray[np.unsignedinteger[Any]]

    @property
    def within(self) -> Flags:
        """Which edges lead to one of the states."""
        flags: Flags = self.targets >= 0
        return flags

    def keep(self, states: Flags) -> _Part:
        """What is left if only some states are kept."""
        place = np.cumsum(states, dtype=np.int32) - 1
        place[~states] = -1
        edges = states[self.sources]
        targets = self.targets[edges]
        left = np.where(targets < 0, targets, place[targets])
        return _Part(self.states[states], place[self.sources[edges]], left, self.fired[edges])


def fair_components(region: Region, weak: Sequence[int], strong: Sequence[int]) -> Numbers:
    """For each state which component it belongs to, the name of a component being one of its states: the
    largest sets of states that a fair run may go round in for ever. -1 for states in none. Fairness is of
    transitions, by position.

    A strongly connected component in which a weakly fair transition is enabled everywhere and never fires
    is none, nor is any part of it. Where a strongly fair one is enabled and does not fire within the
    component, no fair run goes round: without these states the rest is looked at again."""
    labels = np.full(len(region.numbers), -1, np.int32)
    everything = np.arange(len(region.numbers), dtype=np.int32)
    part = _Part(everything, region.sources, region.targets, region.fired)
    while len(part.states):
        part, component = _looping(part)
        size = len(part.states)
        fair, refusing = np.ones(size, np.bool_), np.zeros(size, np.bool_)  # by component, by state
        for name in weak:
            enabled, fires = _chances(part, component, name)
            fair &= fires | _marked(size, component[~enabled])
        for name in strong:
            enabled, fires = _chances(part, component, name)
            refusing |= enabled & ~fires[component]
        again = _marked(size, component[refusing])
        found = (fair & ~again)[component]
        labels[part.states[found]] = part.states[component[found]]
        part = part.keep(again[component] & ~refusing)
    return labels


def _looping(part: _Part) -> tuple[_Part, Numbers]:
    """The states that lie on loops, without edges from one strongly connected component to another; for
    each the component's name, one of its states."""
    size, within = len(part.states), part.within
    numbers = components(part.sources[within], part.targets[within], size)
    within &= numbers[part.sources] == numbers[part.targets]
    cut = replace(part, targets=np.where(within, part.targets, np.int32(-1)))
    loops = _marked(size, numbers[part.sources[within]])[numbers]
    numbers = numbers[loops]
    one = np.zeros(size, np.int32)
    one[numbers] = np.arange(len(numbers), dtype=np.int32)
    return cut.keep(loops), one[numbers]


def _chances(part: _Part, component: Numbers, name: int) -> tuple[Flags, Flags]:
    """In which states a transition may fire, and by component whether it does so within."""
    edges = part.fired == name
    inner = part.sources[edges & part.within]
    size = len(part.states)
    return _marked(size, part.sources[edges]), _marked(size, component[inner])


def _marked(size: int, numbers: Numbers) -> Flags:
    """Flags, of which some are set."""
    flags = np.zeros(size, np.bool_)
    flags[numbers] = True
    return flags


class Start(NamedTuple):
    """Where a loop begins, and whether the target is asked for before it."""

    state: int
    asked: bool


class Loop(NamedTuple):
    """Where a fair loop begins, the edges it takes, and whether it is known that none of those that were
    asked about is shorter."""

    start: Start
    edges: list[int]
    shortest: bool


class _Facts(NamedTuple):
    """Of a state: the duties that are done by passing it, the duties that arise there, and its edges
    within its component, each with the state it leads to and the duties done by it."""

    done: int
    due: int
    edges: list[tuple[int, int, int]]


class FairLoops:
    """The search for short fair loops within the components that ``labels`` gives the states.

    The duties of a loop are bits of a number: each weakly fair transition fires, or a state is passed in
    which it is not enabled; each strongly fair transition fires that is enabled in a state that is passed; a
    state with the cause is passed, unless the target is asked for before."""

    def __init__(
        self, region: Region, labels: Numbers, weak: Sequence[int], strong: Sequence[int], cause: Flags
    ) -> None:
        self.region, self.labels, self.cause = region, labels, cause
        self.weak = {name: 1 << i for i, name in enumerate(weak)}
        self.strong = {name: 1 << i for i, name in enumerate(strong, len(weak))}
        self.asking = 1 << len(weak) + len(strong)
        self.facts = cache(self._facts)

    def short(self, starts: Sequence[Start], most: int) -> Loop:
        """A short loop from one of some states. It is a shortest one unless the search for that would go
        on after so many pairs of a state and duties that are done there."""
        best: Loop | None = None
        seen = 0
        for start in starts:
            edges, size = self._shortest(start, len(best.edges) if best else None, most - seen)
            best = best if edges is None else Loop(start, edges, True)
            seen += size
            if seen >= most:
                break
        if best is None:
            best = Loop(starts[0], self._greedy(starts[0]), False)
        return best._replace(shortest=seen < most)

    def _facts(self, state: int) -> _Facts:
        region = self.region
        first, last = region.starts[state], region.starts[state + 1]
        names, targets = region.fired[first:last].tolist(), region.targets[first:last].tolist()
        resting = sum(self.weak.values()) & ~sum({self.weak.get(name, 0) for name in names})
        due = sum({self.strong.get(name, 0) for name in names})
        edges = [
            (edge, target, self.weak.get(name, 0) | self.strong.get(name, 0))
            for edge, name, target in zip(range(first, last), names, targets, strict=True)
            if target >= 0 and self.labels[target] == self.labels[state]
        ]
        return _Facts(resting | (self.asking if self.cause[state] else 0), due, edges)

    def _shortest(self, start: Start, below: int | None, most: int) -> tuple[list[int] | None, int]:
        """The shortest loop, if it has less than so many edges, and how many pairs were looked at: breadth
        first, ``most`` of them at most."""
        done, due, _ = self.facts(start.state)
        done |= self.asking if start.asked else 0
        due |= sum(self.weak.values()) | self.asking
        level: list[_Pair] = [(start.state, done, due & ~done)]
        came: dict[_Pair, tuple[_Pair, int] | None] = {level[0]: None}
        length = 1
        while level and len(came) < most and length != below:
            new = []
            for pair in level:
                for edge, after, serves in self.facts(pair[0]).edges:
                    passed, arising, _ = self.facts(after)
                    done = pair[1] | serves | passed
                    due = (pair[2] | arising) & ~done
                    if after == start.state and not due:
                        return [*_edges_to(pair, came), edge], len(came)
                    reached = (after, done, due)
                    if reached not in came:
                        came[reached] = pair, edge
                        new.append(reached)
            level, length = new, length + 1
        return None, len(came)

    def _greedy(self, start: Start) -> list[int]:
        """A loop that goes on to where a duty is done next, until none is left, and back: for components in
        which a shortest one would take too long to find."""
        walks = _Walks(self.region, self.labels, start.state)
        duties = list(self._duties(start, walks))
        path: list[int] = []
        at = start.state
        while duties or not path or at != start.state:
            wanted = duties or [walks.targets == start.state]
            path += walks.walk(at, np.logical_or.reduce(wanted))
            at = int(walks.targets[path[-1]])
            duties = [edges for edges in duties if not edges[path].any()]
        return [int(edge) for edge in walks.edges[path]]

    def _duties(self, start: Start, walks: _Walks) -> Iterator[Flags]:
        """For each duty that the start leaves, by which edges it is done."""
        own, targets = self.labels == self.labels[start.state], walks.targets
        fired = self.region.fired[walks.edges]
        for name in self.weak:
            enabled = self._enabled(name)
            if enabled[start.state]:
                yield (fired == name) | ~enabled[targets]
        for name in self.strong:
            if self._enabled(name)[own].any():
                yield fired == name
        if not (start.asked or self.cause[start.state]):
            yield self.cause[targets]

    def _enabled(self, name: int) -> Flags:
        """In which states a transition may fire."""
        return _marked(len(self.labels), self.region.sources[self.region.fired == name])


_Pair: TypeAlias = tuple[int, int, int]
"""A state, the duties that are done on the way there, and those that are due."""


def _edges_to(pair: _Pair, came: Mapping[_Pair, tuple[_Pair, int] | None]) -> list[int]:
    """The edges on the way to a pair."""
    edges = []
    while (step := came[pair]) is not None:
        pair, edge = step
        edges.append(edge)
    return edges[::-1]


class _Walks:
    """Shortest walks within the component of a state. ``edges`` are its edges in the region, ``sources``
    and ``targets`` the states they join."""

    def __init__(self, region: Region, labels: Numbers, member: int) -> None:
        own = labels == labels[member]
        sources = region.sources
        self.edges = np.flatnonzero(own[sources] & (region.targets >= 0) & own[region.targets])
        self.sources, self.targets = sources[self.edges], region.targets[self.edges]
        self.starts = rows(self.sources, len(labels))
        self.graph = sparse(self.starts, self.targets)

    def walk(self, start: int, wanted: Flags) -> list[int]:
        """A shortest walk that ends with one of the wanted edges, as positions in ``edges``."""
        from scipy.sparse.csgraph import breadth_first_order

        order, before = breadth_first_order(self.graph, start)
        ready = _marked(len(self.starts) - 1, self.sources[wanted])
        ready = ready[order]
        if not ready.any():
            raise Contradiction("A fair component is not strongly connected")
        state = int(order[np.argmax(ready)])
        walk = [self.first(state, wanted[self.of(state)])]
        while state != start:
            after, state = state, int(before[state])
            walk.append(self.first(state, self.targets[self.of(state)] == after))
        return walk[::-1]

    def of(self, state: int) -> slice:
        """The edges of a state."""
        return slice(self.starts[state], self.starts[state + 1])

    def first(self, state: int, wanted: Flags) -> int:
        """The first of a state's edges that is wanted."""
        return int(self.starts[state] + np.argmax(wanted))
