"""What a ``leads-to`` property is about: the states in which its target is still asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from avicheck.checker.graph import StateGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.int32]
    Flags: TypeAlias = NDArray[np.bool_]

_CHUNK: Final = 1 << 16
"""States that are expanded at a time."""


@dataclass(frozen=True)
class Region:
    """The states that can be reached from a state with the cause, itself among them, without passing the
    target, in the order of ``steps``: the length of a shortest run that gets there with the target asked
    for. ``numbers`` are theirs in the exploration. ``before`` is the state before on such a run, -1 where
    the run asks for the target here. The edges of state ``i`` are those from ``starts[i]`` to
    ``starts[i + 1]``: ``targets`` are states of the region, -1 for one with the target; ``fired`` are
    positions of transitions."""

    numbers: Numbers
    steps: Numbers
    before: Numbers
    starts: NDArray[np.int64]
    targets: Numbers
    fired: NDArray[np.unsignedinteger[Any]]

    @property
    def sources(self) -> Numbers:
        """The state that each edge comes from."""
        return np.repeat(np.arange(len(self.numbers), dtype=np.int32), np.diff(self.starts))


def depths(parents: NDArray[np.uint32]) -> Numbers:
    """How far each state is from the initial ones, which are their own parents: by leaps that double."""
    above = parents
    steps: Numbers = (above != np.arange(len(above), dtype=np.uint32)).astype(np.int32)
    while (more := steps[above]).any():
        steps += more
        above = above[above]
    return steps


def region(
    graph: StateGraph,
    cause: Flags,
    target: Flags,
    depth: Numbers,
    expanded: int,
    transitions: int,
    check: Callable[[int, int, int], None],
) -> Region:
    """The region in an exploration whose first so many states are expanded; the others have no edges here.
    They have so many ``transitions`` at most. ``check`` is called from time to time: with the step, how
    many states wait and how many are known."""
    growing = _Growing(graph, target, expanded, transitions)
    asking = np.flatnonzero(cause & ~target).astype(np.int32)
    asking = asking[np.argsort(depth[asking], kind="stable")]
    when = depth[asking]
    begun = step = 0
    while begun < len(asking) or growing.waiting:
        if not growing.waiting:
            step = int(when[begun])
        upto = int(np.searchsorted(when, step, side="right"))
        growing.ask(asking[begun:upto], step)
        begun, end = upto, growing.size
        while growing.expanded < end:
            growing.expand(min(end, growing.expanded + _CHUNK), step + 1)
            check(step, growing.size - growing.expanded, growing.size)
        step += 1
    return growing.region()


class _Growing:
    """A region while it grows, step by step. Its arrays have room for all; memory is taken as they fill."""

    def __init__(self, graph: StateGraph, target: Flags, expanded: int, transitions: int) -> None:
        self.graph, self.target, self.known = graph, target, expanded
        count = len(target)
        self.place = np.full(count, -1, np.int32)
        self.numbers, self.steps, self.before, self.counts = (np.empty(count, np.int32) for _ in range(4))
        self.targets = np.empty(transitions, np.int32)
        self.fired: NDArray[np.unsignedinteger[Any]] = np.empty(transitions, graph.names)
        self.size = self.expanded = self.edges = 0

    @property
    def waiting(self) -> bool:
        """Whether there are states that are not expanded."""
        return self.expanded < self.size

    def ask(self, numbers: Numbers, step: int) -> None:
        """Add those states in which the target is asked for that are not yet there."""
        new = numbers[self.place[numbers] < 0]
        self.add(new, np.full(len(new), -1, np.int32), step)

    def add(self, new: Numbers, before: Numbers, step: int) -> None:
        """Add states."""
        end = self.size + len(new)
        self.place[new] = np.arange(self.size, end)
        self.numbers[self.size : end], self.before[self.size : end] = new, before
        self.steps[self.size : end] = step
        self.size = end

    def expand(self, end: int, step: int) -> None:
        """Expand states up to one."""
        start, self.expanded = self.expanded, end
        numbers = self.numbers[start:end]
        known = np.flatnonzero(numbers < self.known)
        counts, targets, fired = self.graph.edges(numbers[known])
        self.counts[start:end] = 0
        self.counts[start + known] = counts
        into = np.flatnonzero((self.place[targets] < 0) & ~self.target[targets])
        reached = targets[into]
        self.place[reached] = np.arange(len(into))  # of several edges to one state, one remains
        first = self.place[reached] == np.arange(len(into))
        sources = np.repeat(start + known, counts)
        self.add(reached[first], sources[into[first]], step)
        upto = self.edges + len(targets)
        self.targets[self.edges : upto] = self.place[targets]
        self.fired[self.edges : upto] = fired
        self.edges = upto

    def region(self) -> Region:
        """All of it."""
        size = self.size
        starts = np.zeros(size + 1, np.int64)
        np.cumsum(self.counts[:size], out=starts[1:])
        return Region(
            self.numbers[:size],
            self.steps[:size],
            self.before[:size],
            starts,
            self.targets[: self.edges],
            self.fired[: self.edges],
        )
