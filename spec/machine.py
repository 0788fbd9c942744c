"""Concurrent models: threads of labelled steps over shared memory.

A KVM code path is a ``Thread``: one short function per step, in the order of the code, which
accesses shared memory through its ``Cpu`` and returns the label of the next step (or None: straight
on). Hardware and environment are threads too; their steps may have no label. Everything between two
steps is open to the other threads, so a step makes at most one access to shared memory, unless it says
why it may be coarser.

The text of a model does not depend on the memory model. ``sc``: every access reaches memory at once.
``tso`` (x86-TSO): plain stores enter the thread's store buffer, first in, first out; loads see the
thread's own newest store, else memory; locked operations and fences wait until the buffer is empty;
moving the oldest store to memory is a step of its own, ``flush``. The scope bounds the buffer
(``store_buffer``) and a store waits while it is full: every run found is one of the hardware's, and the
search is exhaustive for runs that keep within the bound.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from functools import cached_property
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    ParamSpec,
    TypeAlias,
    TypeVar,
    cast,
    get_type_hints,
)

from avicheck.spec.lang import Scope, domain_of, domains, record, rule, update
from avicheck.spec.memory import (
    Location,
    ModelError,
    Path,
    Place,
    Register,
    bounds,
    checked,
    from_number,
    locations,
    to_number,
    value_at,
    values,
    with_value,
)

T = TypeVar("T")
S = TypeVar("S")
L = TypeVar("L")
P = ParamSpec("P")

MemoryModel: TypeAlias = Literal["sc", "tso"]

DONE: Final = "done"
"""The label at which every thread ends."""
STORE_BUFFER: Final = "store_buffer"
"""The name of the store buffers' depth in a scope."""
FLUSH: Final = "flush"
"""The label of the step of the memory system."""
STEPS_SUCCEED: Final = "steps-succeed"
"""The property that every model has: in no reachable state can a step only fail."""
FREE: Final = 0
"""``Store.at`` where a slot of a store buffer is free."""


@dataclass(frozen=True, eq=False)
class Step:
    """One atomic step: a function of the handle, the local variables and, where it makes a choice, what
    is chosen. ``at`` is the label where it may happen, None for anywhere."""

    name: str
    at: str | None
    function: Callable[..., str | None]
    source: str
    coarse: str


class Thread(Generic[L]):
    """A code path, or a piece of hardware, in as many instances as the scope's ``count`` says (one, if
    there is none), each with local variables ``L``. The first step's label is where it starts. What is not
    ``buffered`` has no store buffer under any memory model."""

    def __init__(
        self, name: str, locals: type[L], *, count: str | None = None, source: str = "", buffered: bool = True
    ) -> None:
        self.name = name
        self.locals = locals
        self.count = count
        self.source = source
        self.buffered = buffered
        self.steps: tuple[Step, ...] = ()

    def step(
        self, *, at: str | None = None, source: str = "", coarse: str = ""
    ) -> Callable[[Callable[Concatenate[Cpu, L, P], str | None]], Step]:
        """A step at the label ``at``, else at the function's own name. Steps at one label are
        alternatives. ``coarse`` is the reason why it may make several accesses at once."""

        def add(function: Callable[Concatenate[Cpu, L, P], str | None]) -> Step:
            return self._add(function, at or function.__name__, source, coarse)

        return add

    def anywhere(
        self, *, source: str = "", coarse: str = ""
    ) -> Callable[[Callable[Concatenate[Cpu, L, P], str | None]], Step]:
        """A step that may happen at every label, and does not change it unless it returns one."""

        def add(function: Callable[Concatenate[Cpu, L, P], str | None]) -> Step:
            return self._add(function, None, source, coarse)

        return add

    def _add(self, function: Callable[..., str | None], at: str | None, source: str, coarse: str) -> Step:
        made = Step(function.__name__, at, function, source or self.source, coarse)
        if made.name in (step.name for step in self.steps):
            raise ModelError(f"Step of {self.name} must have a name of its own, not {made.name} again")
        self.steps = (*self.steps, made)
        return made

    @cached_property
    def labels(self) -> type[Enum] | None:
        """The labels in the order of the code, and ``DONE``; None if no step has one."""
        names = dict.fromkeys(step.at for step in self.steps if step.at is not None)
        return Enum(self.name, [*names, DONE]) if names else None  # type: ignore[return-value]

    def label(self, name: str) -> Enum:
        """A label by its name."""
        if self.labels is None or name not in self.labels.__members__:
            raise ModelError(f"Label of {self.name} must be one of its steps', not {name!r}")
        return self.labels[name]

    def after(self, step: Step) -> Enum:
        """The label straight on from a step's."""
        found = list(self.labels or ())
        return found[found.index(self.label(step.at or DONE)) + 1]


@record
class Store:
    """A slot of a store buffer: which of the thread's locations, counted from 1 (``FREE`` for none), and
    the number of the value."""

    at: int
    value: int


@record
class ThreadState(Generic[L]):
    """One instance of a thread. ``buffer`` holds the stores that memory has not seen, oldest first."""

    kind: Thread[L]
    index: int
    pc: Any
    my: L
    buffer: tuple[Store, ...]

    def at(self, *labels: str) -> bool:
        """Whether the thread is at one of these labels."""
        found = False
        for label in labels:
            found = found | (self.pc == self.kind.label(label))
        return found

    @property
    def drained(self) -> bool:
        """Whether memory has seen all its stores."""
        return len(self.buffer) == 0 or self.buffer[0].at == FREE


@record
class World(Generic[S]):
    """A state of a model."""

    shared: S
    threads: tuple[ThreadState[Any], ...]

    def of(self, kind: Thread[L]) -> tuple[ThreadState[L], ...]:
        """The instances of a thread."""
        return tuple(state for state in self.threads if state.kind == kind)


@rule
def ended(world: World[Any]) -> bool:
    """Every thread is done and memory has seen every store: no deadlock, though nothing can happen."""
    for state in world.threads:
        if state.kind.labels is not None and not state.at(DONE):
            return False
        if not state.drained:
            return False
    return True


Predicate: TypeAlias = Callable[[World[S]], bool]


@dataclass(frozen=True)
class Asked(Generic[S]):
    """What is asked of a model; see ``always``, ``never``, ``sometimes`` and ``leads_to``."""

    name: str
    kind: Literal["always", "never", "sometimes", "leads-to"]
    sentence: str
    conjuncts: tuple[Predicate[S], ...]
    target: Predicate[S] | None = None
    weak: tuple[Step, ...] = ()
    strong: tuple[Step, ...] = ()

    def holds(self, world: World[S]) -> bool:
        """Whether all conjuncts are true in a state."""
        return all(conjunct(world) for conjunct in self.conjuncts)


def always(name: str, sentence: str, *conjuncts: Predicate[S]) -> Asked[S]:
    """In every reachable state all of these are true."""
    return Asked(name, "always", sentence, conjuncts)


def never(name: str, sentence: str, *conjuncts: Predicate[S]) -> Asked[S]:
    """In no reachable state all of these are true."""
    return Asked(name, "never", sentence, conjuncts)


def sometimes(name: str, sentence: str, *conjuncts: Predicate[S]) -> Asked[S]:
    """In some reachable state all of these are true."""
    return Asked(name, "sometimes", sentence, conjuncts)


def leads_to(
    name: str,
    sentence: str,
    cause: Predicate[S],
    effect: Predicate[S],
    *,
    weak: Sequence[Step] = (),
    strong: Sequence[Step] = (),
) -> Asked[S]:
    """Whenever ``cause`` is true, ``effect`` is true then or later, in every run that is fair to the
    named steps of every instance (to each choice on its own) and to the flushes of store buffers."""
    return Asked(name, "leads-to", sentence, (cause,), effect, tuple(weak), tuple(strong))


@dataclass(frozen=True)
class Model(Generic[S]):
    """A model, for every scope: the shared record, the threads, where they start and what is asked.
    ``initial`` gives the shared states that a scope and a set of options start from."""

    name: str
    shared: type[S]
    threads: tuple[Thread[Any], ...]
    initial: Callable[[Scope, frozenset[Enum]], Iterable[S]]
    asked: tuple[Asked[S], ...] = ()
    ended: Predicate[S] = ended


# Running a step.


@dataclass(frozen=True)
class Outcome(Generic[S]):
    """The world after an action, None where it cannot happen; or why it fails: an index or a value out of
    bounds, a BUG_ON."""

    world: World[S] | None
    failure: str = ""


_FAILURES: Final = (ArithmeticError, AssertionError, LookupError, ValueError)


class _BlockedError(BaseException):
    """The step has to wait."""


class _Locals:
    """A thread's local variables while a step runs."""

    __slots__ = ("_check", "_values")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, record: Any, check: Callable[[str, Any], Any]) -> None:
        object.__setattr__(self, "_check", check)
        object.__setattr__(self, "_values", {f.name: getattr(record, f.name) for f in fields(record)})

    def __getattr__(self, name: str) -> Any:
        found: dict[str, Any] = object.__getattribute__(self, "_values")
        if name not in found:
            raise AttributeError(f"no local variable {name}")
        return found[name]

    def __setattr__(self, name: str, value: Any) -> None:
        getattr(self, name)
        self._values[name] = self._check(name, value)


class Cpu:
    """What a step may do to the world: the handle of one instance of a thread, for one step."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, machine: Machine[Any], step: Step, world: World[Any], position: int) -> None:
        self._machine = machine
        self._step = step
        self._shared = world.shared
        self._state = world.threads[position]
        self._buffer = self._state.buffer
        self._accessed: list[str] = []
        self._stored = False
        self.index = self._state.index
        """Which instance of its thread this is."""
        self.scope = machine.scope
        """The finite sizes."""

    def has(self, option: Enum) -> bool:
        """Whether the model is built with a fix, an assumption or another switch."""
        return option in self._machine.options

    def wait_until(self, condition: bool) -> None:
        """The step can happen only where this is true."""
        if not condition:
            raise _BlockedError

    # Plain accesses.

    def load(self, at: Location[T]) -> T:
        """READ_ONCE: the thread's own newest store, else memory."""
        self._access(at)
        return self._newest(at)

    def store(self, at: Location[T], value: T) -> None:
        """WRITE_ONCE: to memory, or under TSO to the store buffer; waits while that is full."""
        self._access(at)
        self._stored = True
        if not self._buffer:
            self._put(at, value)
            return
        self.wait_until(self._buffer[-1].at == FREE)
        number = to_number(self._check(at, value), at.domain)
        self._buffer = appended(self._buffer, self._slot_of(at), number)

    def smp_load_acquire(self, at: Location[T]) -> T:
        """A plain load: x86 reorders no load with what follows it."""
        return self.load(at)

    def smp_store_release(self, at: Location[T], value: T) -> None:
        """A plain store: x86 reorders no store with what precedes it."""
        self.store(at, value)

    # Barriers.

    def smp_mb(self) -> None:
        """MFENCE: wait until memory has seen the thread's stores. Before the step's access, if any."""
        if self._stored:
            raise ModelError(
                f"Fence in {self._where} must come before its store, or be a step, not come after"
            )
        if self._buffer:
            self.wait_until(self._buffer[0].at == FREE)

    def smp_wmb(self) -> None:
        """Nothing: x86 keeps stores in order."""

    def smp_rmb(self) -> None:
        """Nothing: x86 keeps loads in order."""

    # Locked operations: full barriers.

    def xchg(self, at: Location[T], value: T) -> T:
        """Store a value, return the old one."""
        old = self._locked(at)
        self._put(at, value)
        return old

    def cmpxchg(self, at: Location[T], old: T, new: T) -> T:
        """Store ``new`` if ``old`` is there; return what was there."""
        found = self._locked(at)
        if found == old:
            self._put(at, new)
        return found

    def test_and_set(self, at: Location[bool]) -> bool:
        """Set a flag, return the old one."""
        return self.xchg(at, True)

    def test_and_clear(self, at: Location[bool]) -> bool:
        """Clear a flag, return the old one."""
        return self.xchg(at, False)

    def atomic_fetch_or(self, at: Location[int], bits: int) -> int:
        """Set bits, return the old value."""
        old = self._locked(at)
        self._put(at, old | bits)
        return old

    def atomic_fetch_and(self, at: Location[int], bits: int) -> int:
        """Keep only these bits, return the old value."""
        old = self._locked(at)
        self._put(at, old & bits)
        return old

    def atomic_fetch_add(self, at: Location[int], by: int) -> int:
        """Add, return the old value."""
        old = self._locked(at)
        self._put(at, old + by)
        return old

    # Locks: a word that is true while somebody holds it.

    def mutex_lock(self, at: Location[bool]) -> None:
        """Wait until nobody holds the lock and take it, in one locked operation."""
        self.wait_until(not self._locked(at))
        self._put(at, True)

    def mutex_unlock(self, at: Location[bool]) -> None:
        """Give the lock back by a locked operation."""
        self.xchg(at, False)

    def spin_lock(self, at: Location[bool]) -> None:
        """Wait until nobody holds the lock and take it, in one locked operation."""
        self.mutex_lock(at)

    def spin_unlock(self, at: Location[bool]) -> None:
        """Give the lock back by a plain store."""
        self.smp_store_release(at, False)

    # Hardware state that is not memory.

    def read(self, at: Register[T]) -> T:
        """What a register holds."""
        found: T = value_at(self._shared, at.path)
        return found

    def write(self, at: Register[T], value: T) -> None:
        """Change a register."""
        self._put(at, value)

    # Below: for the machine.

    @property
    def _where(self) -> str:
        return f"step {self._step.name} of {self._state.kind.name}"

    def _access(self, at: Location[Any]) -> None:
        if not isinstance(at, Location):
            raise ModelError(f"Place accessed in {self._where} must be a word of memory, not {at!r}")
        if self._accessed and not self._step.coarse:
            raise ModelError(
                f"Accesses in {self._where} must be one, or have a reason (coarse), "
                f"not {self._accessed[0]} and then {at.name}"
            )
        self._accessed.append(at.name)

    def _locked(self, at: Location[T]) -> T:
        self._access(at)
        self.smp_mb()
        found: T = value_at(self._shared, at.path)
        return found

    def _check(self, at: Place[T], value: T) -> T:
        return checked(value, at.domain, self.scope, at.name)

    def _put(self, at: Place[T], value: T) -> None:
        self._shared = with_value(self._shared, at.path, self._check(at, value))

    def _newest(self, at: Location[T]) -> T:
        found = value_at(self._shared, at.path)
        slot = self._slot_of(at)
        if slot != FREE:
            found = newest(self._buffer, slot, found, at.domain, *bounds(at.domain, self.scope))
        return cast(T, found)

    def _slot_of(self, at: Location[Any]) -> int:
        """What ``Store.at`` is for a location, ``FREE`` if the thread never stores there."""
        table = self._machine.stores(self._state.kind)
        return table.index(at.path) + 1 if at.path in table else FREE

    def run(self, choice: tuple[Any, ...], world: World[Any], position: int) -> Outcome[Any]:
        """What comes of the step."""
        kind, step = self._state.kind, self._step
        declared = domains(kind.locals)

        def check(name: str, value: Any) -> Any:
            return checked(value, declared[name], self.scope, f"{name} in {self._where}")

        my = _Locals(self._state.my, check)
        try:
            if step.at is not None:
                self.wait_until(self._state.pc == kind.label(step.at))
            label = step.function(self, my, *choice)
        except _BlockedError:
            return Outcome(None)
        except _FAILURES as error:
            return Outcome(None, f"{type(error).__name__} ({error})")
        pc = self._state.pc
        if label is not None:
            pc = kind.label(label)
        elif step.at is not None:
            pc = kind.after(step)
        after = update(self._state, pc=pc, my=kind.locals(**my._values), buffer=self._buffer)
        return Outcome(World(self._shared, _replaced(world, position, after)))


def _replaced(world: World[Any], position: int, state: ThreadState[Any]) -> tuple[ThreadState[Any], ...]:
    return (*world.threads[:position], state, *world.threads[position + 1 :])


@rule
def appended(buffer: tuple[Store, ...], at: int, value: int) -> tuple[Store, ...]:
    """The store buffer with one store more."""
    for i, slot in enumerate(buffer):
        if slot.at == FREE:
            return (*buffer[:i], Store(at, value), *buffer[i + 1 :])
    return buffer


@rule
def newest(buffer: tuple[Store, ...], at: int, memory: Any, domain: Any, lo: int, hi: int) -> Any:
    """Store forwarding: the newest value stored at a location, else what memory holds."""
    for slot in reversed(buffer):
        if slot.at == at:
            return from_number(slot.value, domain, lo, hi)
    return memory


# The machine.


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
        self.options = frozenset(options)
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

        return World(shared, tuple(state(kind, index) for _, kind, index in self.instances()))

    def _actions(self) -> Iterable[Action]:
        for position, (thread, kind, _) in enumerate(self.instances()):
            for step in kind.steps:
                parameters = choices(step, self.scope)
                for choice in itertools.product(*parameters.values()):
                    shown = ", ".join(f"{n}={_shown(v)}" for n, v in zip(parameters, choice, strict=True))
                    name = f"{thread}.{step.name}" + (f"({shown})" if shown else "")
                    yield Action(
                        name, thread, step.name, step.source, step, self._run(step, choice, position)
                    )
            if self.stores(kind):
                source = "x86-TSO: the oldest store in the buffer reaches memory"
                yield Action(f"{thread}.{FLUSH}", thread, FLUSH, source, None, self._flush(kind, position))

    def _run(self, step: Step, choice: tuple[Any, ...], position: int) -> Callable[[World[S]], Outcome[S]]:
        return lambda world: Cpu(self, step, world, position).run(choice, world, position)

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
                    return Outcome(World(shared, _replaced(world, position, after)))
            raise ModelError(f"Buffered store must be to a location of the thread, not to {oldest.at}")

        return flush


def choices(step: Step, scope: Scope) -> dict[str, tuple[Any, ...]]:
    """What a step may choose, by parameter: every value of its annotation."""
    hints = get_type_hints(step.function, include_extras=True)
    names = list(inspect.signature(step.function).parameters)[2:]
    return {name: values(domain_of(hints[name]), scope) for name in names}


def _shown(value: Any) -> str:
    return value.name if isinstance(value, Enum) else str(value)
