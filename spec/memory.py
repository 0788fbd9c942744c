"""The state that threads share: words of memory, and registers that are not memory.

Read on the class, a field says where something is, for the handle of a thread to access
(``Kvm.vcpus[i].ldr``); read on a value, it is what is there, for a property to look at.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    TypeAlias,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
    overload,
)

from avicheck.spec.lang import NULL, IndexOf, Range, Scope, SizedBy, at_least, at_most, domains, rule

T = TypeVar("T")
P = TypeVar("P")
V = TypeVar("V")
E = TypeVar("E")

Path: TypeAlias = tuple[str | int, ...]
"""Field names and indices that lead into a record."""


class ModelError(Exception):
    """A model breaks a rule of the language: ``<Thing> must be <expectation>, not <what came>``."""


class Place(Generic[T]):
    """Where a value is, and which values it can have."""

    def __init__(self, path: Path, domain: Any) -> None:
        self.path = path
        self.domain = domain

    @property
    def name(self) -> str:
        """The path as it is written: ``vcpus[0].ldr``."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return "".join(parts).removeprefix(".")

    def __bool__(self) -> bool:
        raise ModelError(f"Condition must be a value that was read, not the place {self.name}")


class Location(Place[T]):
    """A word of shared memory."""


class Register(Place[T]):
    """State of the hardware that is not memory: no store buffer stands before it."""


class Locations(Generic[T]):
    """An array of words."""

    def __init__(self, path: Path, domain: Any) -> None:
        self.path = path
        self.domain = domain

    def __getitem__(self, index: int) -> Location[T]:
        return Location((*self.path, position(index)), self.domain)


class Elements(Generic[E]):
    """An array of records; its elements have places for fields, as the record's class has."""

    def __init__(self, path: Path, cls: type[E]) -> None:
        self.path = path
        self.cls = cls

    def __getitem__(self, index: int) -> type[E]:
        return cast(type[E], _Element((*self.path, position(index)), self.cls))


class _Element:
    def __init__(self, path: Path, cls: type) -> None:
        self._path = path
        self._cls = cls

    def __getattr__(self, name: str) -> Any:
        declared = vars(self._cls).get(name)
        if not isinstance(declared, Declared):
            raise AttributeError(f"{self._cls.__name__} has no shared field {name}")
        return declared.place(self._path)


def position(index: int) -> int:
    """An index as a number; IndexError for the null pointer, with which Python would go on."""
    found = operator.index(index)
    if found < 0:
        raise IndexError("negative index")
    return found


class Declared(Generic[P, V]):
    """A shared field: ``P`` is what its class gives, ``V`` what a value has there."""

    def __init__(self, name: str, domain: Any, slot: Any) -> None:
        self.name = name
        self.domain = domain
        self._slot = slot

    def place(self, prefix: Path) -> Any:
        """Where the field is in what is at ``prefix``."""
        raise ModelError(f"Field {self.name} must be Var, Reg, Vars or Array, not another")

    @overload
    def __get__(self, instance: None, owner: type) -> P: ...
    @overload
    def __get__(self, instance: object, owner: type) -> V: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self.place(()) if instance is None else self._slot.__get__(instance)

    def __set__(self, instance: Any, value: V) -> None:
        self._slot.__set__(instance, value)


class Var(Declared[Location[T], T]):
    """A word of memory: ``dirty: Var[Dirty]``."""

    def place(self, prefix: Path) -> Location[T]:
        """The word."""
        return Location((*prefix, self.name), self.domain)


class Reg(Declared[Register[T], T]):
    """A register or latch of the hardware: ``doorbell: Reg[bool]``."""

    def place(self, prefix: Path) -> Register[T]:
        """The register."""
        return Register((*prefix, self.name), self.domain)


class Vars(Declared[Locations[T], tuple[T, ...]]):
    """An array of words: ``flag: Annotated[Vars[bool], SizedBy("threads")]``."""

    def place(self, prefix: Path) -> Locations[T]:
        """The array."""
        return Locations((*prefix, self.name), self.domain[1])


class Array(Declared[Elements[E], tuple[E, ...]]):
    """An array of shared records: ``vcpus: Annotated[Array[Vcpu], SizedBy("vcpus")]``."""

    def place(self, prefix: Path) -> Elements[E]:
        """The array."""
        return Elements((*prefix, self.name), self.domain[1])


_ANNOTATED: Final[Any] = Annotated
_TUPLE: Final[Any] = tuple


@dataclass_transform(frozen_default=True)
def shared(cls: type[T]) -> type[T]:
    """Make ``cls`` a frozen record whose fields are declared as Var, Reg, Vars or Array."""
    kinds: dict[str, Any] = {}
    for name, hint in get_type_hints(cls, include_extras=True).items():
        bare, *marks = get_args(hint) if get_origin(hint) == Annotated else (hint,)
        sized = [mark for mark in marks if isinstance(mark, SizedBy)]
        kinds[name] = get_origin(bare)
        if kinds[name] not in ((Vars, Array) if sized else (Var, Reg)) or marks != sized:
            raise ModelError(
                f"Field {cls.__name__}.{name} must be Var or Reg, or with SizedBy Vars or Array, not {hint}"
            )
        (inner,) = get_args(bare)
        cls.__annotations__[name] = _ANNOTATED[_TUPLE[inner, ...], sized[0]] if sized else inner
    made = dataclass(frozen=True, slots=True)(cls)
    for name, domain in domains(made).items():
        setattr(made, name, kinds[name](name, domain, vars(made)[name]))
    return made


@dataclass_transform()
def local(cls: type[T]) -> type[T]:
    """Make ``cls`` the record of a thread's local variables, each with the value it starts with.
    Steps assign to them; everywhere else they are frozen."""
    return dataclass(frozen=True, slots=True)(cls)


def value_at(root: Any, path: Path) -> Any:
    """What is at a path in a record."""
    for part in path:
        root = root[part] if isinstance(part, int) else getattr(root, part)
    return root


def with_value(root: Any, path: Path, value: Any) -> Any:
    """The record with another value at a path."""
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(part, int):
        return (*root[:part], with_value(root[part], rest, value), *root[part + 1 :])
    return replace(root, **{part: with_value(getattr(root, part), rest, value)})


def locations(cls: type, scope: Scope, prefix: Path = ()) -> Iterator[Location[Any]]:
    """Every word of memory in a shared record."""
    for name, domain in domains(cls).items():
        place = vars(cls)[name].place(prefix)
        if isinstance(place, Location):
            yield place
        elif isinstance(place, Locations):
            yield from (place[i] for i in range(scope[domain[0].array]))
        elif isinstance(place, Elements):
            for i in range(scope[domain[0].array]):
                yield from locations(place.cls, scope, (*place.path, i))


# Values of finite domains, as numbers.


def bounds(domain: Any, scope: Scope) -> tuple[int, int]:
    """The smallest and the largest number that stands for a value."""
    if isinstance(domain, Range):
        return domain.lo, domain.hi
    if isinstance(domain, IndexOf):
        return NULL if domain.nullable else 0, scope[domain.array] - 1
    return 0, len(members(domain)) - 1


def members(domain: Any) -> tuple[Any, ...]:
    """The values of a boolean or an enumeration, in order."""
    return tuple(domain) if issubclass(domain, Enum) else (False, True)


def values(domain: Any, scope: Scope) -> tuple[Any, ...]:
    """Every value of a domain, in order."""
    if isinstance(domain, Range | IndexOf):
        lo, hi = bounds(domain, scope)
        return tuple(range(lo, hi + 1))
    return members(domain)


def checked(value: T, domain: Any, scope: Scope, name: str) -> T:
    """The value, if it lies in the domain; ValueError if not."""
    if not isinstance(domain, Range | IndexOf):
        return value
    number: Any = value
    lo, hi = bounds(domain, scope)
    if number < lo:
        raise ValueError(f"Value of {name} must be from {lo} to {hi}, not less")
    if number > hi:
        raise ValueError(f"Value of {name} must be from {lo} to {hi}, not more")
    return value


def to_number(value: Any, domain: Any) -> int:
    """The number that stands for a value of the domain."""
    number: int = value + 0 if isinstance(domain, Range | IndexOf) else index_of(value, members(domain))
    return number


def from_number(number: int, domain: Any, lo: int, hi: int) -> Any:
    """The value that a number stands for, in a domain with these bounds; the nearest one, if the number
    is out of them."""
    if not isinstance(domain, Range | IndexOf):
        return member_at(number, members(domain))
    return at_least(at_most(number, hi), lo)


@rule
def index_of(value: Any, of: tuple[Any, ...]) -> int:
    """The position of a value among all that it can be."""
    for index, other in enumerate(of[:-1]):
        if value == other:
            return index
    return len(of) - 1


@rule
def member_at(number: int, of: tuple[Any, ...]) -> Any:
    """The value at a position."""
    for index, member in enumerate(of[:-1]):
        if number == index:
            return member
    return of[-1]
