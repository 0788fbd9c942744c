"""Among the shortest runs to a state that is looked for: one with the fewest thread switches."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from avicheck.checker.trace_words import switches
from avicheck.encodings.expr import Expr, or_
from avicheck.encodings.packing import layout
from avicheck.encodings.reachability import question
from avicheck.encodings.to_python import OutOfRange, compile_expand, compile_select
from avicheck.encodings.transition import Property, Run, TransitionSystem, Values, replay, successors

How: TypeAlias = Literal["fewest switches", "fewer switches", "as found"]
"""How a run was chosen: no shortest run has fewer thread switches; none with fewer was found in time; the
run is that of the engine."""

MOST: Final = 300_000
"""States that are gone through for an exact answer."""
SECONDS: Final = 10.0
"""Time for the solver where there are more states."""
_MANY: Final = 2_000
_FEW: Final = 32

Costs: TypeAlias = Mapping[str, int]
"""For each thread that can make the next step of a shortest run: the fewest switches from there on."""


@dataclass(frozen=True)
class Chosen:
    """A run, and how it was chosen."""

    run: Run
    how: How


def fewest_switches(
    system: TransitionSystem, asked: Property, run: Run, *, most: int = MOST, seconds: float = SECONDS
) -> Chosen:
    """In place of a run that an engine found to decide a property: a shortest one with the fewest thread
    switches, always the same. Exact where at most ``most`` states are nearer than the goal, else as good
    as the solver finds in so many ``seconds`` among the runs as long as the one found. Runs for
    ``leads-to`` stay as they are."""
    if asked.kind == "leads-to" or run.loop is not None:
        return Chosen(run, "as found")
    goal = question(system, asked).goal
    exact = _Layers(system, goal, most).best()
    return _by_solver(system, goal, run, seconds) if exact is None else Chosen(exact, "fewest switches")


# Exactly: the states by their distance, then the cheapest way through them.


class _Layers:
    """The states by their distance from the initial ones, as far as the nearest in which the goal
    holds."""

    def __init__(self, system: TransitionSystem, goal: Expr, most: int) -> None:
        self.system, self.layout, self.most = system, layout(system), most
        self._expand = compile_expand(system, self.layout)
        threads = dict.fromkeys(transition.thread for transition in system.transitions)
        self._expand_by = {thread: compile_expand(_only(system, thread), self.layout) for thread in threads}
        self._select = compile_select([goal], self.layout)
        self._known: dict[int, int] = {}

    def best(self) -> Run | None:
        """The run; None if there are too many states, or none in which the goal holds."""
        try:
            layers = self._layers()
        except OutOfRange:
            return None
        return None if layers is None else self._cheapest(layers)

    def _layers(self) -> list[list[int]] | None:
        """The layers; the last one has only states in which the goal holds."""
        level = list(dict.fromkeys(self.layout.pack(state) for state in self.system.initial))
        self._known = dict.fromkeys(level, 0)
        layers: list[list[int]] = []
        while level:
            if found := self._select(level, 0, [True]):
                return [*layers, [level[i] for i in found]]
            layers.append(level)
            following: list[int] = []
            for chunk in _chunks(level, _MANY):
                following += self._unknown(chunk)
                if len(self._known) > self.most:
                    return None
            level = following
        return None

    def _unknown(self, states: list[int]) -> list[int]:
        """The successors of some states that were not known; now they are."""
        found: list[int] = []
        self._expand(states, 0, self._known, found.append, [0] * len(self.system.transitions), [])
        return found

    def _cheapest(self, layers: list[list[int]]) -> Run:
        """Backwards, what each state costs; forwards, the first of the cheapest steps."""
        costs: list[Mapping[int, Costs]] = [{state: {} for state in layers[-1]}]
        for level in reversed(layers[:-1]):
            costs.append(dict(self._costs(level, costs[-1])))
        costs.reverse()
        start = min(costs[0], key=lambda state: _least(costs[0][state]))
        states: list[Values] = [self.layout.unpack(start)]
        fired: list[str] = []
        thread: str | None = None
        for following in costs[1:]:
            _, thread, name, state = min(self._steps(states[-1], following, thread), key=lambda step: step[0])
            fired.append(name)
            states.append(state)
        return Run(tuple(states), tuple(fired))

    def _costs(self, level: list[int], following: Mapping[int, Costs]) -> Iterator[tuple[int, Costs]]:
        """The costs of those states of a layer that are on a shortest run, from the next layer's."""
        self._forget(following)
        for chunk in _chunks(level, _FEW):
            if self._forget(self._unknown(chunk)):
                for state in chunk:
                    costs = dict(self._costs_of(state, following))
                    if costs:
                        yield state, costs

    def _costs_of(self, state: int, following: Mapping[int, Costs]) -> Iterator[tuple[str, int]]:
        for thread, expand in self._expand_by.items():
            reached: list[int] = []
            expand([state], 0, {}, reached.append, [0] * len(self.system.transitions), [])
            entered = [_entered(following[after], thread) for after in reached if after in following]
            if entered:
                yield thread, min(entered)

    def _forget(self, states: Collection[int]) -> bool:
        """Make some states unknown; whether there are any."""
        for state in states:
            del self._known[state]
        return bool(states)

    def _steps(
        self, state: Values, following: Mapping[int, Costs], last: str | None
    ) -> Iterator[tuple[int, str, str, Values]]:
        """The steps of shortest runs from a state: the switches from there on, this one included, the
        thread, the transition and the state after it."""
        for transition, after in successors(self.system, state):
            costs = following.get(self.layout.pack(after))
            if costs is not None:
                switch = last is not None and transition.thread != last
                yield switch + _entered(costs, transition.thread), transition.thread, transition.name, after


def _only(system: TransitionSystem, thread: str) -> TransitionSystem:
    """The system in which one thread acts alone."""
    return replace(system, transitions=tuple(t for t in system.transitions if t.thread == thread))


def _chunks(states: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(states), size):
        yield states[start : start + size]


def _entered(costs: Costs, thread: str) -> int:
    """The switches from a state on, if this thread led to it."""
    return min(costs.get(thread, _least(costs) + 1), _least(costs) + 1) if costs else 0


def _least(costs: Costs) -> int:
    return min(costs.values(), default=0)


# By a solver.


def _by_solver(system: TransitionSystem, goal: Expr, run: Run, seconds: float) -> Chosen:
    """Runs of the same length with ever fewer switches, until there are none or time is up."""
    import z3

    from avicheck.encodings.unroll import Unrolling, fired, in_initial

    unrolling, steps, end = Unrolling(system), len(run.fired), time.monotonic() + seconds
    solver = z3.SolverFor("QF_FD")
    solver.add(*unrolling.bounds(0), unrolling.at(in_initial(system), 0), unrolling.at(goal, steps))
    numbers: dict[str, list[Expr]] = {}
    for number, transition in enumerate(system.transitions):
        numbers.setdefault(transition.thread, []).append(fired(system, number))
    acts = [or_(*chosen) for chosen in numbers.values()]
    for i in range(steps):
        solver.add(*unrolling.step(i))
    switched = [
        z3.Or([z3.And(unrolling.at(act, i), z3.Not(unrolling.at(act, i + 1))) for act in acts])
        for i in range(steps - 1)
    ]
    threads = {transition.name: transition.thread for transition in system.transitions}
    best = Chosen(run, "as found")
    while fewer := switches(threads[name] for name in best.run.fired):
        left = end - time.monotonic()
        solver.add(z3.PbLe([(switch, 1) for switch in switched], fewer - 1))
        solver.set("timeout", max(1, int(left * 1000)))
        answer = z3.unknown if left <= 0 else solver.check()
        if answer == z3.unknown:
            return best
        if answer == z3.unsat:
            break
        best = Chosen(unrolling.run(solver.model(), steps), "fewer switches")
        replay(system, best.run)
    return Chosen(best.run, "fewest switches")
