"""The specification language: records of finite fields, rules, and lists that grow.

A specification is plain Python over these types. On concrete values it simply
runs. While an interpreter is installed (see ``interpreted_by``), every call of
a ``rule`` is handed to it, which is how the same text becomes a formula.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

T = TypeVar("T")
P = ParamSpec("P")

NULL: Final = -1
"""The null pointer where a pointer is an index into an array of records."""

Scope: TypeAlias = Mapping[str, int]
"""The finite sizes of a model, by name: ``{"vcpus": 8}``."""


class KvmBug(AssertionError):
    """A BUG_ON that fires. Lifting refuses a rule in which one can."""


@dataclass(frozen=True)
class Range:
    """A sized integer: every value from ``lo`` to ``hi``, both included."""

    lo: int
    hi: int


@dataclass(frozen=True)
class IndexOf:
    """An index into the array that the scope sizes as ``array``; ``NULL`` too if ``nullable``."""

    array: str
    nullable: bool = False


@dataclass(frozen=True)
class SizedBy:
    """A tuple of records with one element for each unit of the scope's ``array``."""

    array: str


U4: TypeAlias = Annotated[int, Range(0, 0xF)]
U8: TypeAlias = Annotated[int, Range(0, 0xFF)]
U16: TypeAlias = Annotated[int, Range(0, 0xFFFF)]
U32: TypeAlias = Annotated[int, Range(0, 0xFFFF_FFFF)]
U64: TypeAlias = Annotated[int, Range(0, 0xFFFF_FFFF_FFFF_FFFF)]
VectorSet: TypeAlias = Annotated[int, Range(0, (1 << 256) - 1)]
"""A set of the 256 interrupt vectors, bit v for vector v."""


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen record; its annotations are the finite domains of its fields."""
    return dataclass(frozen=True, slots=True)(cls)


update = replace
"""``update(record, field=value)``: the record with that field changed."""


def domains(cls: type) -> dict[str, Any]:
    """The declared domain of each field of a record, in order: a Range, IndexOf, SizedBy
    with its element type, an Enum class, ``bool`` or a record class."""
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: domain_of(hints[field.name]) for field in fields(cls)}


def domain_of(hint: Any) -> Any:
    """The domain that an annotation declares: see ``domains``."""
    if get_origin(hint) is Annotated:
        base, marker = get_args(hint)[:2]
        return (marker, domain_of(get_args(base)[0])) if isinstance(marker, SizedBy) else marker
    return hint


class Interpreter(Protocol):
    """Runs rules in place of Python: see ``interpreted_by``."""

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """The value of ``function(*args, **named)``."""


_interpreter: Interpreter | None = None


@contextmanager
def interpreted_by(interpreter: Interpreter) -> Iterator[None]:
    """Hand every rule that is called inside the block to ``interpreter``."""
    global _interpreter
    previous, _interpreter = _interpreter, interpreter
    try:
        yield
    finally:
        _interpreter = previous


def rule(function: Callable[P, T]) -> Callable[P, T]:
    """Mark a specification function: pure, arguments by position, paths merged at its return."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        if _interpreter is None:
            return function(*args, **kwargs)
        return cast(T, _interpreter.call(function, args, kwargs))

    return call


@record
class Seq(Generic[T]):
    """A list that only grows. An entry counts where its guard is true; run on concrete
    values every guard is true, lifting makes the paths' guards explicit."""

    entries: tuple[tuple[bool, T], ...] = ()

    def append(self, item: T) -> Seq[T]:
        """The list with ``item`` at its end."""
        return Seq((*self.entries, (True, item)))

    def items(self) -> list[T]:
        """The entries that count, in order."""
        return [item for guard, item in self.entries if guard]

    def __len__(self) -> int:
        return len(self.items())

    def __eq__(self, other: object) -> bool:
        return self.items() == other.items() if isinstance(other, Seq) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self.items()))


@record
class Table:
    """A map from integers to pointers, ``NULL`` where nothing was written."""

    writes: Seq[tuple[int, int]] = Seq()

    __iter__ = None
    """Not iterable: by ``__getitem__`` alone Python would try all keys from 0, without end."""

    def __getitem__(self, key: int) -> int:
        return table_lookup(self, key)

    def set(self, key: int, value: int) -> Table:
        """The table with ``value`` at ``key``."""
        return Table(self.writes.append((key, value)))

    def items(self) -> dict[int, int]:
        """Every key that was written, ascending, with its last value."""
        return dict(sorted(dict(self.writes.items()).items()))


@rule
def table_lookup(table: Table, key: int) -> int:
    """The last value written at ``key``, else ``NULL``."""
    for guard, (written, value) in reversed(table.writes.entries):
        if guard & (written == key):
            return value
    return NULL


@rule
def at_most(a: int, b: int) -> int:
    """The smaller of two integers."""
    return a if a <= b else b


@rule
def at_least(a: int, b: int) -> int:
    """The larger of two integers."""
    return a if a >= b else b


def enum_index(member: Enum) -> int:
    """The position of an enum member in its class: how a solver sees it."""
    return list(type(member)).index(member)
