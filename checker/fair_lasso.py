"""Liveness on the explicit graph: a fair run that asks for a target and never reaches it.

Everything is explored. In the region of the states in which the target is still asked for, a run
refutes the property if it goes round in a fair component for ever, or ends where nothing can fire.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from avicheck.checker.checkpoint import Snapshot
from avicheck.checker.engine import EngineResult
from avicheck.checker.explore import (
    ENGINE,
    PROGRESS_EVERY,
    Contradiction,
    Exploration,
    Progress,
    Reason,
    Tier,
    covered,
    explore_states,
)
from avicheck.checker.fair_loops import EXACT, FairLoops, Start, fair_components
from avicheck.checker.graph import state_graph
from avicheck.checker.memory import limit_of, resident
from avicheck.checker.region import Region, depths, region
from avicheck.checker.verdict import Verdict
from avicheck.encodings.liveness import target_of
from avicheck.encodings.packing import WORD, Layout, layout
from avicheck.encodings.transition import Property, Run, TransitionSystem, Values, successors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.int32]
    Flags: TypeAlias = NDArray[np.bool_]

BETWEEN: Final = "between cause and target: "
"""What progress is about once all states are known."""
_MAX_STATES: Final = (1 << 31) - 1
_STATE_BYTES: Final = 64
"""What the search for a region takes for each explored state, the hash table included."""
_EDGE_BYTES: Final = 32
"""What the search for components takes for each edge of the region."""


class _LimitError(Exception):
    """A limit is reached."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class _Guard:
    """Limits of time (when it is up) and memory (bytes); when the search began, and when and where it last
    told ``on_progress`` how far it is."""

    deadline: float
    memory: int
    on_progress: Callable[[Progress], None] | None
    began: float
    reported: float
    reported_states: int = 0

    def check(self, more: int = 0) -> None:
        """Raise ``_LimitError`` if a limit is reached, or would be with so many bytes more."""
        if time.monotonic() > self.deadline:
            raise _LimitError("time")
        if resident() + more > self.memory:
            raise _LimitError("memory")

    def look(self, step: int, waiting: int, states: int) -> None:
        """Check while the region grows, and tell how far it is."""
        self.check()
        now = time.monotonic()
        passed = now - self.reported
        if self.on_progress is not None and passed >= PROGRESS_EVERY:
            speed = (states - self.reported_states) / passed
            found = Progress(step, waiting, states, speed, resident(), now - self.began, BETWEEN)
            self.on_progress(found)
            self.reported, self.reported_states = now, states


def fair_lasso(
    system: TransitionSystem,
    asked: Property,
    *,
    limit: float = math.inf,
    max_states: int | None = None,
    max_memory: int | None = None,
    tier: Tier = "auto",
    exact: int = EXACT,
    on_progress: Callable[[Progress], None] | None = None,
) -> EngineResult:
    """Decide a ``leads-to`` property. No run that refutes it has a stem, that is a way to its loop or to
    where nothing can fire, which is shorter than that of the run returned. Its loop is fair, and the shortest
    of all that are and have so short a stem; if ``exact`` pairs of a state and what a loop has done do not
    suffice to find that out, it is a loop that is made short step by step. The result's detail says which.

    ``unknown`` if ``limit`` seconds have passed, at ``max_memory`` bytes, after a SIGINT, or if
    ``max_states`` states are known and the edges between those of them that are expanded show nothing; what
    they show is ``violated`` with a run that need not be a shortest one. ValueError like
    ``liveness.target_of``; ``InputError`` like ``explore``. The run is not confirmed yet."""
    start = time.monotonic()
    target_of(system, asked)
    guard = _Guard(start + limit, limit_of(max_memory), on_progress, start, start)
    exploration, snapshot = explore_states(
        system,
        max_states=_MAX_STATES if max_states is None else min(max_states, _MAX_STATES),
        max_memory=guard.memory,
        max_seconds=limit,
        tier=tier,
        on_progress=on_progress,
    )

    def result(verdict: Verdict, detail: str, run: Run | None = None) -> EngineResult:
        depth = exploration.depth if run is None else len(run.fired)
        seconds = time.monotonic() - start
        counts = exploration.states, exploration.transitions
        return EngineResult(ENGINE, asked.name, verdict, run, *counts, depth, seconds, detail)

    try:
        if exploration.stopped is not None and exploration.stopped != "states":
            raise _LimitError(exploration.stopped)
        search = _Search.of(system, asked, exploration, snapshot, guard)
        run, detail = search.refutation(exact)
    except (_LimitError, KeyboardInterrupt) as error:
        reason = error.reason if isinstance(error, _LimitError) else "interrupted"
        seen = covered(reason, exploration.depth)
        return result(
            Verdict.UNKNOWN, seen if exploration.stopped else f"{seen}, but not all ways between them"
        )
    if exploration.stopped is not None:
        detail = f"{covered(exploration.stopped, exploration.depth)}; among them {detail}"
    if run is not None:
        return result(Verdict.VIOLATED, detail, run)
    return result(Verdict.HOLDS if exploration.complete else Verdict.UNKNOWN, detail)


@dataclass(frozen=True)
class _Search:
    """What a refutation is searched for in: the explored states, the region between cause and target,
    fairness as positions of transitions; and for the region's states their fair components, whether they
    have the cause, how far they are from the initial states, and whether nothing can fire in them."""

    system: TransitionSystem
    form: Layout
    snapshot: Snapshot
    region: Region
    weak: Sequence[int]
    strong: Sequence[int]
    labels: Numbers
    cause: Flags
    depth: Numbers
    ends: Flags

    @classmethod
    def of(
        cls,
        system: TransitionSystem,
        asked: Property,
        exploration: Exploration,
        snapshot: Snapshot,
        guard: _Guard,
    ) -> _Search:
        """What there is in an exploration. ``_LimitError`` at a limit."""
        guard.check(_STATE_BYTES * exploration.states)
        form, asks = layout(system), [asked.holds, target_of(system, asked)]
        graph = state_graph(system, form, asks, exploration, snapshot)
        cause, expanded = graph.where(0), snapshot.marks.expanded
        depth, edges = depths(np.frombuffer(snapshot.parents, np.uint32)), exploration.transitions
        between = region(graph, cause, graph.where(1), depth, expanded, edges, guard.look)
        guard.check(_EDGE_BYTES * len(between.targets))
        positions = {transition.name: i for i, transition in enumerate(system.transitions)}
        weak = [positions[name] for name in asked.weak_fairness]
        strong = [positions[name] for name in asked.strong_fairness]
        labels, numbers = fair_components(between, weak, strong), between.numbers
        ends = (np.diff(between.starts) == 0) & (numbers < expanded)
        return cls(
            system, form, snapshot, between, weak, strong, labels, cause[numbers], depth[numbers], ends
        )

    def refutation(self, exact: int) -> tuple[Run | None, str]:
        """A run with the shortest stem that refutes the property, if there is one; what was seen."""
        steps, inside = self.region.steps, self.labels >= 0
        seen = f"{len(steps):,} states between cause and target, {len(self.region.targets):,} edges"
        if not (inside | self.ends).any():
            return None, f"no fair run stays in the {seen}"
        stems = np.where(inside & self.passes_cause(), self.depth, steps)
        least = int(stems[inside | self.ends].min())
        nearest = stems == least
        if (ends := np.flatnonzero(nearest & self.ends)).size:
            run = self.run(Start(int(ends[0]), True), [])
            return run, f"shortest run to where nothing can fire; {seen}"
        starts = [Start(i, bool(steps[i] == least)) for i in np.flatnonzero(nearest & inside).tolist()]
        loops = FairLoops(self.region, self.labels, self.weak, self.strong, self.cause)
        start, loop, shortest = loops.short(starts, exact)
        both = "both shortest" if shortest else "the loop perhaps not the shortest"
        return self.run(start, loop), f"stem of length {least}, loop of length {len(loop)}, {both}; {seen}"

    def passes_cause(self) -> Flags:
        """In which states a fair loop may begin that passes a state with the cause: there the target need not
        be asked for before."""
        passes = np.zeros(len(self.labels) + 1, np.bool_)
        passes[self.labels[self.cause & (self.labels >= 0)]] = True
        return passes[self.labels]

    def run(self, start: Start, loop: Sequence[int]) -> Run:
        """The run to a state, then by some edges."""
        found, state = self.region, start.state
        numbers = [int(found.numbers[state])]
        while start.asked and (state := found.before[state]) >= 0:
            numbers.append(int(found.numbers[state]))
        parents = memoryview(self.snapshot.parents).cast("I")
        while (parent := parents[numbers[-1]]) != numbers[-1]:
            numbers.append(parent)
        stem = [self.values(number) for number in reversed(numbers)]
        states = [self.values(int(found.numbers[found.targets[edge]])) for edge in loop]
        names = [self.system.transitions[found.fired[edge]].name for edge in loop]
        fired = [self.step(before, after) for before, after in pairwise(stem)]
        return Run((*stem, *states), (*fired, *names), len(fired) if loop else None)

    def values(self, number: int) -> Values:
        """A state of the exploration."""
        size = self.form.words * WORD // 8
        packed = self.snapshot.states[number * size : (number + 1) * size]
        return self.form.unpack(int.from_bytes(packed, "little"))

    def step(self, before: Values, after: Values) -> str:
        """The first transition that leads from one state to another."""
        found = (step.name for step, reached in successors(self.system, before) if reached == after)
        name = next(found, None)
        if name is None:
            raise Contradiction(f"The exploration goes from {before} to {after}")
        return name
