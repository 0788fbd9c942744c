"""Concurrent models: threads of labelled steps over shared memory, and what is asked of them.

A KVM code path is a ``Thread``: one short function per step, in the order of the code, which
accesses shared memory through its ``Cpu`` and returns the label of the next step (or None: straight
on). Hardware and environment are threads too; their steps may have no label. Everything between two
steps is open to the other threads, so a step makes at most one access to shared memory, unless it says
why it may be coarser.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Concatenate, Final, Generic, Literal, ParamSpec, TypeAlias, TypeVar, get_type_hints

from avicheck.spec.cpu import FREE, Cpu, Store
from avicheck.spec.lang import Scope, domain_of, record, rule
from avicheck.spec.memory import ModelError, values

T = TypeVar("T")
S = TypeVar("S")
L = TypeVar("L")
P = ParamSpec("P")

DONE: Final = "done"
"""The label at which every thread ends."""


def label_of(member: Enum, members: type[Enum]) -> str:
    """The label that is named like a member of an enumeration, in lower case: where a thread goes on that has
    kept its place in a variable."""
    *others, last = members
    for other in others:
        if member == other:
            return other.name.lower()
    return last.name.lower()


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
    """A state of a model, and the options the model is built with."""

    options: frozenset[Enum]
    shared: S
    threads: tuple[ThreadState[Any], ...]

    def has(self, option: Enum) -> bool:
        """Whether the model is built with a fix, an assumption or another switch."""
        return option in self.options

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


def choices(step: Step, scope: Scope) -> dict[str, tuple[Any, ...]]:
    """What a step may choose, by parameter: every value of its annotation."""
    hints = get_type_hints(step.function, include_extras=True)
    names = list(inspect.signature(step.function).parameters)[2:]
    return {name: values(domain_of(hints[name]), scope) for name in names}
