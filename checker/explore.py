"""The explicit engine: every reachable state of a transition system, breadth first and exactly.

Small runs are interpreted; larger ones go on compiled. Counterexamples are shortest.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from avicheck.checker import checkpoint as checkpoints
from avicheck.checker.checkpoint import Snapshot
from avicheck.checker.engine import DEADLOCK_FREE, EngineResult
from avicheck.checker.errors import InputError, not_one_of
from avicheck.checker.explore_interpreted import Interpreted
from avicheck.checker.memory import limit_of, resident
from avicheck.checker.searched import Reduction, Searched, unreduced
from avicheck.checker.verdict import Verdict
from avicheck.encodings.expr import Expr, evaluate, not_, postorder
from avicheck.encodings.transition import Property, ReplayError, Run, TransitionSystem, fire

if TYPE_CHECKING:
    from avicheck.checker.explore_compiled import Compiled, Texts

ENGINE: Final = "explicit"

Stop: TypeAlias = Literal["first", "all", "never"]
"""When to stop before everything is explored: at the first violated property, when every property is
decided, never."""

Tier: TypeAlias = Literal["auto", "interpreted", "compiled"]

Reason: TypeAlias = Literal["decided", "states", "memory", "time", "interrupted"]

EFFORT: Final = 1_500_000
"""Subexpressions times states from which on compiled code pays for its compilation."""
_CHUNKS: Final = (2_000, 1 << 17)
"""States that are expanded at a time, at least and at most: as many in either tier, so that a search that is
stopped has seen the same states however fast it was."""
_REASONS: Final[Mapping[Reason, str]] = {
    "decided": "stopped when others were decided",
    "states": "stopped at the limit of states",
    "memory": "stopped at the limit of memory",
    "time": "stopped at the limit of time",
    "interrupted": "interrupted",
}
PROGRESS_EVERY: Final = 0.5
"""Seconds between two reports of progress."""
_CHECKPOINT_SHARE: Final = 20
"""A checkpoint is written when so many times the time has passed that the last one took."""


class Contradiction(RuntimeError):
    """The engine and the reference semantics differ: no result can be relied on."""


@dataclass(frozen=True)
class Progress:
    """How far a search is. ``depth`` is the level that is being expanded, ``frontier`` the known states that
    are not expanded yet, ``memory`` what the process holds, in bytes. What else than all reachable states is
    searched, ``what`` says."""

    depth: int
    frontier: int
    states: int
    states_per_second: float
    memory: int
    seconds: float
    what: str = ""


@dataclass(frozen=True)
class Exploration:
    """What an exploration went through. All states at most ``depth`` steps from the initial ones are
    known; if it is ``complete``, there are no others. ``stopped`` says why it is not complete: the
    properties are decided, a limit of states, memory or time, an interrupt. ``fired`` counts by transition;
    ``deadlock`` leads to a state that has not ended and in which nothing can fire. With ``reductions``, in
    words, all this is about the states that were searched in place of the system's; a transition ``alike``
    another may fire where that one does. ``orbits`` is how many states of the system these stand for, None
    if that is not known."""

    tier: Literal["interpreted", "compiled"]
    states: int
    transitions: int
    depth: int
    fired: Mapping[str, int]
    out_degree_max: int
    out_degree_mean: float
    deadlock: Run | None
    results: tuple[EngineResult, ...]
    stopped: Reason | None
    seconds: float
    reductions: tuple[str, ...] = ()
    alike: Mapping[str, str] = field(default_factory=dict)
    orbits: int | None = None

    @property
    def complete(self) -> bool:
        """Whether every reachable state was expanded."""
        return self.stopped is None

    @property
    def never_fired(self) -> tuple[str, ...]:
        """The transitions that did not fire; if the exploration is complete, they never can."""
        fired = {self.alike.get(name, name) for name, count in self.fired.items() if count}
        return tuple(name for name in self.fired if self.alike.get(name, name) not in fired)


def explore(
    system: TransitionSystem,
    *,
    properties: Sequence[str] | None = None,
    stop: Stop = "first",
    reduce: Collection[Reduction] = (),
    max_states: int | None = None,
    max_memory: int | None = None,
    max_seconds: float = math.inf,
    tier: Tier = "auto",
    checkpoint: Path | None = None,
    checkpoint_every: float = 60.0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Exploration:
    """Explore a system and decide properties of it, by name: all but ``leads-to`` if none are named;
    ``DEADLOCK_FREE`` is one of them. ``reduce`` names reductions; runs are those of the system itself, but
    shortest only without ``partial-order``.

    Stops soon after ``max_states`` states are known or ``max_seconds`` have passed, and before the
    process holds more than ``max_memory`` bytes (most of what the system has, unless given). Goes on from a
    ``checkpoint`` if that file exists; writes it at most every so many seconds, and when stopped by a limit
    or an interrupt. SIGINT stops the exploration, not the program.

    ``InputError`` if a name is unknown, a reduction impossible, the checkpoint not one of this exploration,
    or a transition leads beyond a variable's bounds; ``PackingError`` if an initial state is not one of the
    system's; ``OSError`` if the checkpoint cannot be read or written."""
    limits = _Limits(max_states, limit_of(max_memory), max_seconds, tier)
    saving = None if checkpoint is None else _Saving(checkpoint, checkpoint_every)
    names = _names(system, properties)
    searched = unreduced(system)
    if reduce:
        from avicheck.checker.reduce import reduced

        searched = reduced(system, [prop for prop in system.properties if prop.name in names], reduce)
    return _Exploring(searched, names, stop, limits, saving, on_progress).run()


def explore_states(
    system: TransitionSystem,
    *,
    max_states: int | None = None,
    max_memory: int | None = None,
    max_seconds: float = math.inf,
    tier: Tier = "auto",
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[Exploration, Snapshot]:
    """Explore a system for its states' sake, with limits, progress and errors like those of ``explore``: what
    it went through, and all of it."""
    limits = _Limits(max_states, limit_of(max_memory), max_seconds, tier)
    exploring = _Exploring(unreduced(system), (), "never", limits, None, on_progress)
    return exploring.run(), exploring.snapshot()


def covered(stopped: Reason, depth: int, shortest: bool = True) -> str:
    """Why an exploration is not complete, and how far it is: in steps of shortest runs, or in others."""
    steps = f"depth {depth}" if shortest else f"depth {depth} of the reduced system"
    return f"{_REASONS[stopped]}: all states up to {steps} were seen"


@dataclass(frozen=True)
class _Limits:
    states: int | None
    memory: int
    seconds: float
    tier: Tier


@dataclass
class _Saving:
    path: Path
    every: float
    next: float = 0.0


def _names(system: TransitionSystem, names: Sequence[str] | None) -> list[str]:
    """Which properties are asked for; ``InputError`` if there is none of a name."""
    known = [*(prop.name for prop in system.properties if prop.kind != "leads-to"), DEADLOCK_FREE]
    for name in names or ():
        if name not in known:
            raise not_one_of("property", known, name)
    return known if names is None else list(dict.fromkeys(names))


def _sought(prop: Property) -> Expr:
    """What holds in a state that decides a property."""
    return not_(prop.holds) if prop.kind == "always" else prop.holds


class _Exploring:
    """One exploration under way."""

    def __init__(
        self,
        searched: Searched,
        asked: Sequence[str],
        stop: Stop,
        limits: _Limits,
        saving: _Saving | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.searched, self.asked, self.stop = searched, asked, stop
        self.limits, self.saving, self.on_progress = limits, saving, on_progress
        self.system, self.layout = searched.system, searched.layout
        by_name = {prop.name: prop for prop in self.system.properties}
        self.properties = [by_name[name] for name in asked if name in by_name]
        self.expressions = [_sought(prop) for prop in self.properties]
        steps = [expr for step in self.system.transitions for expr in (step.guard, *step.updates.values())]
        self.switch = EFFORT // max(1, sum(1 for _ in postorder([*steps, *self.expressions])))
        self.decided: dict[str, int] = {}
        self.search: Interpreted | Compiled
        self.level_end = self.depth = 0
        self.interrupted = False
        self.began = self.reported = time.monotonic()
        self.reported_states = 0

    def run(self) -> Exploration:
        """Explore until there is a reason to stop or nothing is left."""
        if self.saving is not None and self.saving.path.exists():
            self.resume(checkpoints.load(self.saving.path, self.system, self.searched.notes))
        else:
            self.resume(checkpoints.initial(self.system, self.searched.packed, self.layout.words))
        with _on_interrupt(self.interrupt):
            self.save(self.saving is not None)
            stopped = self.look_back() or self.levels()
            self.save(self.saving is not None and stopped != "decided" and self.search.consistent)
        return self.result(stopped)

    @cached_property
    def modules(self) -> Texts:
        """What the compiled tier is made of."""
        from avicheck.checker.explore_compiled import texts

        return texts(self.searched, self.expressions)

    def interrupt(self) -> None:
        """Stop as soon as the states at hand are expanded."""
        self.interrupted = True

    # Snapshots.

    def snapshot(self) -> Snapshot:
        """All that is known."""
        return self.search.snapshot(self.level_end, self.depth)

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot."""
        self.level_end, self.depth = snapshot.marks.level_end, snapshot.marks.depth
        if self.limits.tier == "interpreted" or (self.limits.tier == "auto" and self.is_quick(snapshot)):
            self.search = Interpreted(self.searched, self.expressions, snapshot)
        else:
            self.compile(snapshot)

    def is_quick(self, snapshot: Snapshot) -> bool:
        """Whether to begin interpreted: before code pays for its compilation, unless it was kept."""
        from avicheck.checker.jit import kept

        return len(snapshot.parents) < 4 * self.switch and not kept(self.modules)

    def compile(self, snapshot: Snapshot) -> None:
        """Go on with compiled code."""
        from avicheck.checker.explore_compiled import Compiled

        memory = self.limits.memory
        self.search = Compiled(self.searched, self.expressions, self.modules, snapshot, memory)

    def save(self, due: bool) -> None:
        """Write a checkpoint if it is due."""
        if due and self.saving is not None:
            began = time.monotonic()
            checkpoints.save(self.saving.path, self.system, self.searched.notes, self.snapshot())
            now = time.monotonic()
            self.saving.next = now + max(self.saving.every, _CHECKPOINT_SHARE * (now - began))

    # Searching.

    def levels(self) -> Reason | None:
        """Expand level by level."""
        while True:
            while self.search.expanded < self.level_end:
                reason = self.limit() or self.advance()
                if reason is not None:
                    return reason
                self.look_after()
            if self.search.count == self.level_end:
                return None
            self.level_end = self.search.count
            self.depth += 1

    def limit(self) -> Reason | None:
        """A reason not to go on."""
        if self.interrupted:
            return "interrupted"
        if self.limits.states is not None and self.search.count >= self.limits.states:
            return "states"
        if time.monotonic() - self.began > self.limits.seconds:
            return "time"
        return "memory" if resident() > self.limits.memory else None

    def advance(self) -> Reason | None:
        """Expand some states of the level."""
        search = self.search
        if self.limits.tier == "auto" and search.name == "interpreted" and search.count >= self.switch:
            self.compile(self.snapshot())
            self.search.asked, search = search.asked, self.search
        least, most = _CHUNKS
        chunk = min(max(least, search.expanded // 8), most)
        alarms = search.advance(min(self.level_end, search.expanded + chunk))
        if search.fault is not None:
            raise self.fault(*search.fault)
        return self.decide(alarms) or ("memory" if search.full else None)

    def look_after(self) -> None:
        """Report progress and save, if it is time."""
        now = time.monotonic()
        passed = now - self.reported
        if self.on_progress is not None and passed >= PROGRESS_EVERY:
            states = self.search.count
            speed = (states - self.reported_states) / passed
            frontier = states - self.search.expanded
            self.on_progress(Progress(self.depth, frontier, states, speed, resident(), now - self.began))
            self.reported, self.reported_states = now, states
        self.save(self.saving is not None and now >= self.saving.next)

    def look_back(self) -> Reason | None:
        """Decide properties by the states that are known already."""
        start, reason = 0, None
        while alarms := self.search.alarms(start):
            reason = self.decide(alarms)
            start = alarms[-1] + 1
        return reason

    def decide(self, alarms: Sequence[int]) -> Reason | None:
        """Note which properties some states decide, and whether to stop for that."""
        for number in alarms:
            values = self.layout.unpack(self.search.state(number))
            for i, holds in enumerate(evaluate(self.expressions, values)):
                if holds and self.search.asked[i]:
                    self.search.asked[i] = False
                    self.decided[self.properties[i].name] = number
        if self.search.stuck is not None and DEADLOCK_FREE in self.asked:
            self.decided.setdefault(DEADLOCK_FREE, self.search.stuck)
        if self.stop == "never" or not self.decided:
            return None
        witnesses = {prop.name for prop in self.properties if prop.kind == "sometimes"}
        violated = self.decided.keys() - witnesses
        every = len(self.decided) == len(self.asked)
        return "decided" if every or (violated and self.stop == "first") else None

    # Answers.

    def result(self, stopped: Reason | None) -> Exploration:
        """What there is to say."""
        search = self.search
        transitions = sum(search.fired)
        runs = {name: self.path(number) for name, number in self.decided.items()}
        deadlock = None if search.stuck is None else self.path(search.stuck)
        seconds = time.monotonic() - self.began
        results = []
        for name in self.asked:
            verdict, detail = self.verdict(name, name in runs, stopped)
            run = runs.get(name)
            depth = self.depth if run is None else len(run.fired)
            results.append(
                EngineResult(ENGINE, name, verdict, run, search.count, transitions, depth, seconds, detail)
            )
        return Exploration(
            tier=search.name,
            states=search.count,
            transitions=transitions,
            depth=self.depth,
            fired=dict(zip((t.name for t in self.system.transitions), search.fired, strict=True)),
            out_degree_max=search.widest,
            out_degree_mean=transitions / search.expanded if search.expanded else 0.0,
            deadlock=deadlock,
            results=tuple(results),
            stopped=stopped,
            seconds=seconds,
            reductions=self.searched.notes,
            alike=self.searched.stands_for([step.name for step in self.system.transitions]),
            orbits=self.orbits(),
        )

    def orbits(self) -> int | None:
        """How many states of the system those that are known stand for."""
        if not self.searched.orbits:
            return None
        from avicheck.checker.orbits import orbit_total

        return orbit_total(self.snapshot().states, self.layout, self.searched.orbits)

    def verdict(self, name: str, found: bool, stopped: Reason | None) -> tuple[Verdict, str]:
        """A property's verdict, with the reason."""
        sometimes = any(prop.name == name and prop.kind == "sometimes" for prop in self.properties)
        if found and sometimes:
            return Verdict.HOLDS, "reached"
        if found:
            return Verdict.VIOLATED, "shortest run" if self.searched.shortest else "a run"
        if stopped is not None:
            return Verdict.UNKNOWN, covered(stopped, self.depth, self.searched.shortest)
        return (Verdict.VIOLATED, "never reached") if sometimes else (Verdict.HOLDS, "in every state")

    def path(self, number: int) -> Run:
        """A run to a state, replayed by the reference semantics."""
        numbers = [number]
        while (parent := self.search.parent(numbers[-1])) != numbers[-1]:
            numbers.append(parent)
        try:
            return self.searched.run_of([self.search.state(n) for n in reversed(numbers)])
        except ReplayError as error:
            raise Contradiction(f"The {self.search.name} tier finds a run that is none: {error}") from error

    def fault(self, number: int, index: int) -> InputError:
        """The error of a transition that leads beyond a variable's bounds."""
        transition = self.system.transitions[index]
        after = fire(transition, self.layout.unpack(self.search.state(number))) or {}
        for variable in self.system.variables:
            value = after.get(variable.name, variable.lo)
            if not variable.lo <= value <= variable.hi:
                bounds = f"from {variable.lo} to {variable.hi}"
                return InputError(variable.name, bounds, str(value), f"after {transition.name}")
        raise Contradiction(f"The {self.search.name} tier finds {transition.name} beyond its bounds")


@contextmanager
def _on_interrupt(call: Callable[[], None]) -> Iterator[None]:
    """Call a function on the first SIGINT; a second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.getsignal(signal.SIGINT)

    def handle(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, usual)
        call()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
