"""Filling in a matrix: what is explored, and what follows from that.

The model is lifted once for all combinations (``encodings.variants``), and each combination is explored once
for all properties together. Two things save explorations, both proved on the lifted steps:

- an assumption that no property depends on is not varied (its cone of influence);
- where one alternative allows all steps that another allows and changes none, what can be reached with the
  other can be reached with it: verdicts on single states follow.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from avicheck.checker.systems import Instance, instance
from avicheck.checker.verdict import Verdict
from avicheck.spec.description import option_name

if TYPE_CHECKING:
    from avicheck.checker.engines import Limits
    from avicheck.encodings.transition import Property, Run, TransitionSystem, Values
    from avicheck.encodings.variants import Variants
    from avicheck.spec.description import Assumption
    from avicheck.spec.machine import Machine

Deviations: TypeAlias = frozenset[tuple[str, str]]
"""Which alternatives are taken in place of the defaults: assumption and alternative, by name."""

HOLDS: Final = (Verdict.HOLDS, Verdict.PROVED)


@dataclass(frozen=True)
class Cell:
    """One property under one combination. What ``follows`` from another combination was not explored."""

    verdict: Verdict
    states: int | None
    depth: int | None
    detail: str
    seconds: float
    follows: bool = False
    run: Run | None = None


@dataclass
class Matrix:
    """What is known: a cell for each property, by name, and combination, by its deviations. ``explored``
    counts explorations; ``irrelevant`` names, by property, the assumptions on which it cannot depend."""

    instance: Instance
    properties: Sequence[str]
    varied: Sequence[Assumption]
    combinations: Sequence[Deviations]
    cells: dict[str, dict[Deviations, Cell]] = field(default_factory=dict)
    irrelevant: dict[str, frozenset[str]] = field(default_factory=dict)
    explored: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def under(self, name: str, verdicts: Iterable[Verdict]) -> list[Deviations]:
        """The combinations under which a property has one of these verdicts."""
        wanted = tuple(verdicts)
        cells = self.cells.get(name, {})
        return [each for each in self.combinations if each in cells and cells[each].verdict in wanted]

    def minimal(self, name: str) -> list[Deviations]:
        """The violating combinations of which no part violates, too: what the property relies on."""
        found = self.under(name, (Verdict.VIOLATED,))
        return [each for each in found if not any(other < each for other in found)]

    def maximal(self, name: str) -> list[Deviations]:
        """The combinations under which it holds and no larger one does: what it bears at most."""
        found = self.under(name, HOLDS)
        return [each for each in found if not any(other > each for other in found)]

    @property
    def decided(self) -> list[Deviations]:
        """The combinations under which every property has a cell."""
        known = [self.cells.get(name, {}) for name in self.properties]
        return [each for each in self.combinations if all(each in cells for cells in known)]

    @property
    def verdict(self) -> Verdict:
        """Whether everything was decided; a property that fails somewhere is an answer, not a failure."""
        verdicts = {cell.verdict for cells in self.cells.values() for cell in cells.values()}
        if Verdict.TOOL_ERROR in verdicts:
            return Verdict.TOOL_ERROR
        decided = verdicts <= {*HOLDS, Verdict.VIOLATED}
        complete = len(self.decided) == len(self.combinations)
        return Verdict.HOLDS if decided and complete else Verdict.UNKNOWN


def chosen_with(base: Instance, deviations: Deviations) -> Instance:
    """The instance that takes these alternatives, and otherwise what ``base`` does."""
    chosen = base.chosen
    return instance(base.name, replace(chosen, assumed={**chosen.assumed, **dict(deviations)}))


def fill(
    found: Matrix,
    engine: str,
    limits: Limits,
    jobs: int,
    on_progress: Callable[[int, int], None] = lambda decided, combinations: None,
) -> None:
    """Fill in the cells, on several processes. A KeyboardInterrupt leaves those that are decided."""
    from avicheck.checker.processes import end_at_once, leave_interrupts_to_the_parent

    began = time.monotonic()
    filling = _Filling(found)
    running: dict[Future[Mapping[str, Cell]], Deviations] = {}
    with ProcessPoolExecutor(jobs, initializer=leave_interrupts_to_the_parent) as pool:
        try:
            while True:
                while len(running) < jobs and (task := filling.next(running.values())) is not None:
                    running[pool.submit(_explored, filling.content, *task[1:], engine, limits)] = task[0]
                if not running:
                    break
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    filling.take(running.pop(done), done.result())
                on_progress(len(found.decided), len(found.combinations))
        except KeyboardInterrupt:
            found.interrupted = True
            end_at_once(pool)
        finally:
            pool.shutdown(wait=not found.interrupted, cancel_futures=True)
    filling.replay()
    found.seconds = time.monotonic() - began


_Task: TypeAlias = "tuple[Deviations, tuple[Values, ...], tuple[str, ...]]"
"""What to explore: a combination, its initial states, the properties to decide."""


class _Filling:
    """A matrix that is being filled in."""

    def __init__(self, found: Matrix) -> None:
        from avicheck.encodings.persist import dumped
        from avicheck.encodings.variants import variants

        self.found = found
        kinds = {each.name: each.alternatives for each in found.varied}
        self.variants = variants(_machine(found.instance), kinds)
        asked = [_property(self.variants.system, name) for name in found.properties]
        self.content = dumped(replace(self.variants.system, properties=tuple(asked)))
        self.following = {prop.name: _Following(prop, self.variants) for prop in asked}
        self.starts = {each: self._start(each) for each in found.combinations}
        irrelevant = frozenset(kinds) - self._read_at_the_start()
        found.irrelevant = {name: irrelevant - each.relevant for name, each in self.following.items()}
        common = min(self.following.values(), key=lambda each: len(each.additions) - len(each.relevant))
        self.related = {
            each: {*self._where(each, common.more), *self._where(each, common.less)}
            for each in found.combinations
        }

    def _start(self, deviations: Deviations) -> Sequence[Any]:
        """The shared states that a combination starts in."""
        chosen = chosen_with(self.found.instance, deviations)
        return list(chosen.description.model.initial(chosen.scope, chosen.options))

    def _read_at_the_start(self) -> frozenset[str]:
        """The assumptions that change with what some combination starts."""
        return frozenset(
            changed[0]
            for each, start in self.starts.items()
            for changed in each
            if start != self.starts.get(each - {changed}, start)
        )

    def _where(self, one: Deviations, also: Callable[[str, str], Collection[str]]) -> Iterator[Deviations]:
        """The combinations that differ from one in alternatives alone that ``also`` gives."""
        mine = dict(one)
        choices = []
        for each in self.found.varied:
            default = option_name(each.default)
            others = also(each.name, mine.get(each.name, default))
            choices.append([(each.name, other) if other != default else None for other in others])
        for picked in itertools.product(*choices):
            other = frozenset(pair for pair in picked if pair is not None)
            if other in self.starts and self.starts[other] == self.starts[one]:
                yield other

    def open(self, one: Deviations) -> list[str]:
        """The properties that are not decided for a combination."""
        return [name for name in self.found.properties if one not in self.found.cells.get(name, {})]

    def next(self, running: Collection[Deviations]) -> _Task | None:
        """What to explore beside what is explored: what may tell most about others; at last, what will be
        shown, if it only follows."""
        left = {each: None for each in self.found.combinations if each not in running and self.open(each)}
        if left:
            one = max(left, key=lambda each: sum(other in left for other in self.related[each]))
            return self._task(one, self.open(one))
        if running:
            return None
        cells = self.found.cells
        shown = [(each, name) for name in self.found.properties for each in self.found.minimal(name)]
        for one, _ in shown:
            if names := [name for each, name in shown if each == one and cells[name][one].follows]:
                return self._task(one, names)
        return None

    def _task(self, one: Deviations, names: Sequence[str]) -> _Task:
        machine = _machine(chosen_with(self.found.instance, one))
        return one, self.variants.initial(machine), tuple(names)

    def take(self, one: Deviations, cells: Mapping[str, Cell]) -> None:
        """Note what was decided, and what follows."""
        self.found.explored += 1
        for name, cell in cells.items():
            known, following = self.found.cells.setdefault(name, {}), self.following[name]
            known[one] = cell
            also = following.also(cell.verdict)
            if also is None or len(known) == len(self.found.combinations):
                continue
            follows = replace(cell, follows=True, run=None)
            for other in self._where(one, also):
                if other not in known or known[other].verdict is Verdict.UNKNOWN:
                    known[other] = follows

    def replay(self) -> None:
        """Replay what will be shown on the executable model; what does not replay is a tool error."""
        for name in self.found.properties:
            for one in self.found.minimal(name):
                cell = self.found.cells[name][one]
                if cell.run is not None and (why := self._misfit(one, name, cell.run)):
                    self.found.cells[name][one] = replace(cell, verdict=Verdict.TOOL_ERROR, detail=why)

    def _misfit(self, one: Deviations, name: str, run: Run) -> str:
        from avicheck.checker.engine import DEADLOCK_FREE
        from avicheck.checker.trace import Trace
        from avicheck.checker.trace_replay import Contradiction, Misfit, replayed

        states = tuple(map(self.variants.without_assumptions, run.states))
        chosen = chosen_with(self.found.instance, one)
        claim = None if name == DEADLOCK_FREE else name
        try:
            replayed(Trace(chosen, claim, replace(run, states=states)))
        except (Misfit, Contradiction) as error:
            return f"no run of the model: {error}"
        return ""


class _Following:
    """What a verdict on a property under one combination says about others."""

    def __init__(self, prop: Property, variants: Variants) -> None:
        from avicheck.checker.engine import DEADLOCK_FREE

        single_states = prop.kind != "leads-to" and prop.name != DEADLOCK_FREE
        self.relevant = variants.relevant([prop])
        self.additions = variants.additions(prop) if single_states else frozenset()
        self.reached = Verdict.HOLDS if prop.kind == "sometimes" else Verdict.VIOLATED
        self._all = {name: [option_name(one) for one in kind] for name, kind in variants.assumptions.items()}

    def more(self, name: str, alternative: str) -> Collection[str]:
        """The alternatives of an assumption under which can happen what can under this one."""
        if name not in self.relevant:
            return self._all[name]
        return {alternative, *(more for x, less, more in self.additions if (x, less) == (name, alternative))}

    def less(self, name: str, alternative: str) -> Collection[str]:
        """Those under which nothing can happen that cannot under this one."""
        if name not in self.relevant:
            return self._all[name]
        return {alternative, *(less for x, less, more in self.additions if (x, more) == (name, alternative))}

    def also(self, verdict: Verdict) -> Callable[[str, str], Collection[str]] | None:
        """Under which alternatives a verdict is the same."""
        if verdict not in (*HOLDS, Verdict.VIOLATED):
            return None
        return self.more if verdict is self.reached else self.less


def _machine(chosen: Instance) -> Machine[Any]:
    from avicheck.spec.machine import Machine

    return Machine(chosen.description.model, chosen.scope, chosen.memory, chosen.options)


def _property(system: TransitionSystem, name: str) -> Property:
    from avicheck.checker.engines import property_of

    return property_of(system, name)


@cache
def _loaded(content: bytes) -> TransitionSystem:
    from avicheck.encodings.persist import loaded

    return loaded(content)


def _explored(
    content: bytes, initial: tuple[Values, ...], names: Sequence[str], engine: Any, limits: Limits
) -> Mapping[str, Cell]:
    """The cells of one combination."""
    from avicheck.checker.engines import check
    from avicheck.checker.explore import explore

    system = replace(_loaded(content), initial=initial)
    kinds = {prop.name: prop.kind for prop in system.properties}
    together = [name for name in names if engine == "explicit" and kinds[name] != "leads-to"]
    results = [check(system, name, engine, limits) for name in names if name not in together]
    if together:
        results += explore(
            system,
            properties=together,
            stop="all",
            max_memory=limits.memory,
            max_seconds=limits.seconds,
        ).results
    return {
        each.property: Cell(each.verdict, each.states, each.depth, each.detail, each.seconds, run=each.run)
        for each in results
    }
