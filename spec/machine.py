"""A model that runs: what can happen in a state of the world, and what it leads to.

The text of a model does not depend on the memory model. ``sc``: every access reaches memory at once.
``tso`` (x86-TSO): stores wait in their thread's buffer, and moving the oldest one to memory is a step of
its own, ``flush``. The scope bounds the buffers (``store_buffer``), and a store waits while its buffer is
full: every run that is found is one of the hardware's, and the search is exhaustive for the runs that keep
within the bound.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from avicheck.spec.cpu import FREE, BlockedError, Cpu, Store
from avicheck.spec.lang import Scope, domains, update
from avicheck.spec.memory import ModelError, Path, bounds, checked, from_number, locations, with_value
from avicheck.spec.threads import Model, Step, Thread, ThreadState, World, choices

T = TypeVar("T")
S = TypeVar("S")

MemoryModel: TypeAlias = Literal["sc", "tso"]

STORE_BUFFER: Final = "store_buffer"
"""The name of the store buffers' depth in a scope."""
FLUSH: Final = "flush"
"""The label of the step of the memory system."""
STEPS_SUCCEED: Final = "steps-succeed"
"""The property that every model has: in no reachable state can a step only fail."""


@dataclass(frozen=True)
class Outcome(Generic[S]):
    """The world after an action, None where it cannot happen; or why it fails: an index or a value out of
    bounds, a BUG_ON."""

    world: World[S] | None
    failure: str = ""


_FAILURES: Final = (ArithmeticError, AssertionError, LookupError, ValueError)


class _Locals:
    """A thread's local variables while a step runs."""

    __slots__ = ("_domains", "_scope", "_values", "_where")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, start: Any, domains: Mapping[str, Any], scope: Scope, where: str) -> None:
        values = {name: getattr(start, name) for name in domains}
        for name, value in (("_domains", domains), ("_scope", scope), ("_values", values), ("_where", where)):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in self._values:
            raise AttributeError(f"Local variable in {self._where} must be declared, not be {name}")
        return self._values[name]

    def __setattr__(self, name: str, value: Any) -> None:
        getattr(self, name)
        self._values[name] = checked(value, self._domains[name], self._scope, f"{name} in {self._where}")


def _frozen(my: _Locals, cls: type[T]) -> T:
    """The variables as they are now."""
    return cls(**my._values)


def _replaced(world: World[Any], position: int, state: ThreadState[Any]) -> tuple[ThreadState[Any], ...]:
    return (*world.threads[:position], state, *world.threads[position + 1 :])


@dataclass(frozen=True, eq=False)
class Action:
    """What one instance of a thread may do: a step with a choice, or the flush of its oldest store."""

    name: str
    thread: str
    label: str
    source: str
    step: Step | None
    attempt: Callable[[World[Any]], Outcome[Any]]


class Machine(Generic[S]):
    """A model of one scope, under one memory model, with some options: it runs.

    ``stored`` may tell, by the threads' names, to which locations their plain stores go; without it a
    store buffer is ready for all."""

    def __init__(
        self,
        model: Model[S],
        scope: Scope,
        memory: MemoryModel = "sc",
        options: Iterable[Enum] = (),
        stored: Mapping[str, tuple[Path, ...]] | None = None,
    ) -> None:
        self.model = model
        self.scope = scope
        self.memory = memory
        self.options = options if isinstance(options, frozenset) else frozenset(options)
        self._check_scope()
        self._stored = stored or {}
        self._memory = tuple(at.path for at in locations(model.shared, scope)) if memory == "tso" else ()
        self.initial = tuple(self._start(shared) for shared in model.initial(scope, self.options))
        """The states it may start in."""
        self.actions = tuple(self._actions())
        """Everything that may happen, in the order of threads and steps."""

    def successors(self, world: World[S]) -> list[tuple[Action, World[S]]]:
        """What can happen in a state, and what each leads to."""
        outcomes = ((action, action.attempt(world)) for action in self.actions)
        return [(action, outcome.world) for action, outcome in outcomes if outcome.world is not None]

    def failures(self, world: World[S]) -> list[tuple[Action, str]]:
        """What can only fail in a state, and why."""
        outcomes = ((action, action.attempt(world)) for action in self.actions)
        return [(action, outcome.failure) for action, outcome in outcomes if outcome.failure]

    def stores(self, kind: Thread[Any]) -> tuple[Path, ...]:
        """The locations that a thread's store buffer can hold; none without a buffer."""
        return self._stored.get(kind.name, self._memory) if kind.buffered else ()

    def instances(self) -> list[tuple[str, Thread[Any], int]]:
        """Every thread: its name, its kind and which one it is."""
        return [
            (f"{kind.name}[{index}]" if kind.count else kind.name, kind, index)
            for kind in self.model.threads
            for index in range(self.scope[kind.count] if kind.count else 1)
        ]

    def _check_scope(self) -> None:
        needed = {kind.count for kind in self.model.threads if kind.count}
        if self.memory == "tso":
            needed.add(STORE_BUFFER)
        missing = sorted(needed - set(self.scope))
        if missing:
            given = ", ".join(sorted(self.scope)) or "nothing"
            raise ModelError(f"Scope of {self.model.name} must give {', '.join(missing)}, not only {given}")

    def _start(self, shared: S) -> World[S]:
        def state(kind: Thread[Any], index: int) -> ThreadState[Any]:
            pc = next(iter(kind.labels)) if kind.labels is not None else None
            depth = self.scope[STORE_BUFFER] if self.stores(kind) else 0
            return ThreadState(kind, index, pc, kind.locals(), (Store(FREE, 0),) * depth)

        threads = tuple(state(kind, index) for _, kind, index in self.instances())
        return World(self.options, shared, threads)

    def _actions(self) -> Iterable[Action]:
        for position, (thread, kind, _) in enumerate(self.instances()):
            for step in kind.steps:
                parameters = choices(step, self.scope)
                for choice in itertools.product(*parameters.values()):
                    shown = ", ".join(f"{n}={_shown(v)}" for n, v in zip(parameters, choice, strict=True))
                    name = f"{thread}.{step.name}" + (f"({shown})" if shown else "")
                    attempt = self._run(f"step {name}", step, choice, position)
                    yield Action(name, thread, step.name, step.source, step, attempt)
            if self.stores(kind):
                source = "x86-TSO: the oldest store in the buffer reaches memory"
                yield Action(f"{thread}.{FLUSH}", thread, FLUSH, source, None, self._flush(kind, position))

    def _run(
        self, where: str, step: Step, choice: tuple[Any, ...], position: int
    ) -> Callable[[World[S]], Outcome[S]]:
        kind = self.instances()[position][1]
        declared, stores = domains(kind.locals), self.stores(kind)

        def run(world: World[S]) -> Outcome[S]:
            state = world.threads[position]
            cpu = Cpu(
                where,
                state.index,
                self.scope,
                self.options,
                world.shared,
                state.buffer,
                stores,
                bool(step.coarse),
            )
            my = _Locals(state.my, declared, self.scope, where)
            try:
                if step.at is not None:
                    cpu.wait_until(state.pc == kind.label(step.at))
                label = step.function(cpu, my, *choice)
            except BlockedError:
                return Outcome(None)
            except _FAILURES as error:
                return Outcome(None, f"{type(error).__name__} ({error})")
            pc = state.pc
            if label is not None:
                pc = kind.label(label)
            elif step.at is not None:
                pc = kind.after(step)
            after = update(state, pc=pc, my=_frozen(my, kind.locals), buffer=cpu.buffer)
            return Outcome(update(world, shared=cpu.shared, threads=_replaced(world, position, after)))

        return run

    def _flush(self, kind: Thread[Any], position: int) -> Callable[[World[S]], Outcome[S]]:
        domain_at = {at.path: at.domain for at in locations(self.model.shared, self.scope)}

        def flush(world: World[S]) -> Outcome[S]:
            state = world.threads[position]
            oldest, *others = state.buffer
            if oldest.at == FREE:
                return Outcome(None)
            for slot, path in enumerate(self.stores(kind), FREE + 1):
                if oldest.at == slot:
                    domain = domain_at[path]
                    value = from_number(oldest.value, domain, *bounds(domain, self.scope))
                    after = update(state, buffer=(*others, Store(FREE, 0)))
                    shared = with_value(world.shared, path, value)
                    return Outcome(update(world, shared=shared, threads=_replaced(world, position, after)))
            raise ModelError(f"Buffered store must be to a location of the thread, not to {oldest.at}")

        return flush


def _shown(value: Any) -> str:
    return value.name if isinstance(value, Enum) else str(value)
