"""Symbolic values: what stands for expressions while a specification runs.

They compute like Python's own booleans, integers and enumeration members. Where
Python needs to know which, they ask the explorer of paths that is at work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum, Flag
from functools import cache
from typing import Any, Protocol, TypeVar, cast

from avicheck.encodings import expr as ex
from avicheck.encodings.expr import Expr, Op
from avicheck.encodings.paths import Path
from avicheck.encodings.refusal import refuse
from avicheck.spec.lang import IndexOf, Range, Scope, Seq, SizedBy, domains

T = TypeVar("T")


class Explorer(Protocol):
    """Runs rules path by path."""

    path: Path
    """What is decided so far."""

    def decide(self, condition: Expr) -> bool:
        """Which way this run goes at a condition."""

    def enumerate(self, index: Expr) -> int:
        """The value of an index on this run."""


_explorer: Explorer | None = None


@contextmanager
def explored_by(explorer: Explorer) -> Iterator[None]:
    """Inside the block, symbolic values ask ``explorer`` what they are."""
    global _explorer
    previous, _explorer = _explorer, explorer
    try:
        yield
    finally:
        _explorer = previous


def _running() -> Explorer:
    if _explorer is None:
        refuse("Symbolic value must be used inside lifting(), not outside")
    return _explorer


class Symbolic:
    """A value that stands for an expression."""

    __slots__ = ("expr",)

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    def __hash__(self) -> int:
        refuse(f"Hashed value must be concrete, not symbolic: {self!r}")

    def __str__(self) -> str:
        refuse(f"Printed value must be concrete, not symbolic: {self!r}")

    def __format__(self, spec: str) -> str:
        return str(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        refuse(f"Value must be concrete to read its {name}, not symbolic: {self!r}")

    def __eq__(self, other: object) -> Any:
        them = operand(other)
        return NotImplemented if them is None else _bool(ex.eq(self.expr, them))

    def __ne__(self, other: object) -> Any:
        them = operand(other)
        return NotImplemented if them is None else _bool(ex.not_(ex.eq(self.expr, them)))

    def __repr__(self) -> str:
        return repr(self.expr)


def operand(value: object) -> Expr | None:
    """A number or boolean as an expression; None for anything else."""
    if isinstance(value, SymInt | SymBool):
        return value.expr
    if isinstance(value, bool):
        return ex.boolean(value)
    if isinstance(value, float):
        refuse(f"Number must be an integer, not the float {value!r}")
    return ex.constant(value) if isinstance(value, int) else None


_Operation = Callable[[Expr, Expr], Expr]


def _operator(operation: _Operation, *, swapped: bool = False) -> Callable[[Any, object], Any]:
    """A binary operator of the symbolic numbers."""

    def method(self: Symbolic, other: object) -> Any:
        them = operand(other)
        if them is None:
            return NotImplemented
        return value_of(operation(them, self.expr) if swapped else operation(self.expr, them))

    return method


def _shift(operation: _Operation) -> _Operation:
    """Like Python's, a shift by a negative count is an error."""

    def shift(a: Expr, by: Expr) -> Expr:
        if by.lo < 0 and _bool(ex.lt(by, ex.constant(0))):
            raise ValueError("negative shift count")
        return operation(a, _tightened(by, at_least=0))

    return shift


def _division(operation: _Operation) -> _Operation:
    """Like Python's, a division by zero is an error."""

    def divide(a: Expr, by: Expr) -> Expr:
        if by.lo <= 0 <= by.hi and _bool(ex.eq(by, ex.constant(0))):
            raise ZeroDivisionError("integer division or modulo by zero")
        return operation(_tightened(a), _tightened(by, at_least=1 if by.lo >= 0 else by.lo))

    return divide


class SymNumber(Symbolic):
    """What symbolic integers and booleans have in common: Python's arithmetic on them."""

    __slots__ = ()
    __hash__ = Symbolic.__hash__

    __add__, __radd__ = _operator(ex.add), _operator(ex.add, swapped=True)
    __sub__, __rsub__ = _operator(ex.sub), _operator(ex.sub, swapped=True)
    __mul__, __rmul__ = _operator(ex.mul), _operator(ex.mul, swapped=True)
    __and__, __rand__ = _operator(ex.bitand), _operator(ex.bitand, swapped=True)
    __or__, __ror__ = _operator(ex.bitor), _operator(ex.bitor, swapped=True)
    __xor__, __rxor__ = _operator(ex.bitxor), _operator(ex.bitxor, swapped=True)
    __lshift__, __rlshift__ = _operator(_shift(ex.shl)), _operator(_shift(ex.shl), swapped=True)
    __rshift__, __rrshift__ = _operator(_shift(ex.shr)), _operator(_shift(ex.shr), swapped=True)
    __floordiv__ = _operator(_division(ex.floordiv))
    __rfloordiv__ = _operator(_division(ex.floordiv), swapped=True)
    __mod__, __rmod__ = _operator(_division(ex.mod)), _operator(_division(ex.mod), swapped=True)
    __le__ = _operator(ex.le)
    __lt__ = _operator(ex.lt)
    __ge__ = _operator(lambda a, b: ex.le(b, a))
    __gt__ = _operator(lambda a, b: ex.lt(b, a))

    def __pos__(self) -> Any:
        return 0 + self

    def __neg__(self) -> Any:
        return 0 - self

    def __invert__(self) -> Any:
        return -1 - self

    def __int__(self) -> int:
        refuse(f"Value converted by int() must be concrete, not symbolic: {self!r}")

    def __float__(self) -> float:
        refuse(f"Value converted by float() must be concrete, not symbolic: {self!r}")

    def __index__(self) -> int:
        return _running().enumerate(ex.as_int(self.expr))

    def bit_count(self) -> Any:
        """``int.bit_count``."""
        return value_of(ex.bit_count(_tightened(self.expr)))


class SymBool(SymNumber):
    """A symbolic condition: its truth forks the run."""

    __slots__ = ()
    __hash__ = Symbolic.__hash__

    def __bool__(self) -> bool:
        return _running().decide(self.expr)


class SymInt(SymNumber):
    """A symbolic integer."""

    __slots__ = ()
    __hash__ = Symbolic.__hash__

    def __bool__(self) -> bool:
        return bool(self != 0)


class SymEnum(Symbolic):
    """A symbolic member of an enumeration: the expression is its position."""

    __slots__ = ("members",)
    __hash__ = Symbolic.__hash__

    def __init__(self, members: type[Enum], expr: Expr) -> None:
        super().__init__(expr)
        self.members = members

    def _position(self, other: object) -> Expr | None:
        if isinstance(other, SymEnum) and other.members is self.members:
            return other.expr
        return ex.constant(list(self.members).index(other)) if isinstance(other, self.members) else None

    def __eq__(self, other: object) -> Any:
        position = self._position(other)
        return False if position is None else _bool(ex.eq(self.expr, position))

    def __ne__(self, other: object) -> Any:
        position = self._position(other)
        return True if position is None else _bool(ex.not_(ex.eq(self.expr, position)))


def _bool(expr: Expr) -> Any:
    return bool(expr.lo) if expr.op is Op.CONST else SymBool(expr)


def value_of(expr: Expr) -> Any:
    """An expression as a value of the specification: constants are Python's own."""
    if expr.is_bool:
        return _bool(expr)
    return expr.lo if expr.op is Op.CONST else SymInt(expr)


def member_of(members: type[Enum], expr: Expr) -> Any:
    """The member at a position. TypeError for members that are numbers, strings or sets too: they
    equal things of other types."""
    if issubclass(members, int | str | Flag):
        raise TypeError(
            f"members of a plain Enum, not of {members.__name__} ({members.__bases__[0].__name__})"
        )
    return list(members)[expr.lo] if expr.op is Op.CONST else SymEnum(members, expr)


def _tightened(expr: Expr, at_least: int | None = None) -> Expr:
    """An expression with the bounds that hold on the current path."""
    if expr.op is Op.CONST:
        return expr
    lo, hi = _running().path.bounds(expr)
    return ex.narrow(expr, lo if at_least is None else max(lo, at_least), hi)


# Leaves of values.


def to_expr(value: Any) -> Expr:
    """A leaf value (boolean, integer, enumeration member; symbolic or not) as an expression."""
    if isinstance(value, Symbolic):
        return value.expr
    if isinstance(value, Enum):
        return ex.constant(list(type(value)).index(value))
    leaf = operand(value)
    if leaf is None:
        refuse(f"Value must be a boolean, an integer or an enumeration's member, not {value!r}")
    return leaf


def symbolic(domain: Any, scope: Scope, name: str, **fixed: Any) -> Any:
    """A value of a record class (or of another domain) with a variable for every leaf, named
    by its path: ``kvm.vcpus[3].ldr``. ``fixed`` gives concrete values to fields of the record
    itself, and to those of nested records that carry the same name."""
    if isinstance(domain, Range):
        return value_of(ex.int_var(name, domain.lo, domain.hi))
    if isinstance(domain, IndexOf):
        return value_of(ex.int_var(name, -1 if domain.nullable else 0, scope[domain.array] - 1))
    if isinstance(domain, tuple) and isinstance(domain[0], SizedBy):
        sized, element = domain
        return tuple(symbolic(element, scope, f"{name}[{i}]", **fixed) for i in range(scope[sized.array]))
    if domain is bool:
        return SymBool(ex.bool_var(name))
    if isinstance(domain, type) and issubclass(domain, Enum):
        try:
            return member_of(domain, ex.int_var(name, 0, len(domain) - 1))
        except TypeError as error:
            refuse(f"Domain of {name} must be {error}")
    if not is_dataclass(domain):
        refuse(f"Domain of {name} must be finite, not {domain!r}")
    prefix = f"{name}." if name else ""
    return cast(Any, domain)(
        **{
            field: fixed[field] if field in fixed else symbolic(inner, scope, prefix + field, **fixed)
            for field, inner in domains(cast(type, domain)).items()
        }
    )


def concrete(value: T, values: dict[str, int]) -> T:
    """A symbolic value under an assignment of its variables, as Python's own values."""
    leaves = list(leaves_of(value))
    found = iter(ex.evaluate([to_expr(leaf) for leaf in leaves], values))
    return cast(T, _rebuild(value, found))


def leaves_of(value: Any) -> Iterator[Any]:
    """The booleans, integers and members that a value is made of, symbolic or not, in order."""
    if isinstance(value, Symbolic | bool | int | Enum):
        yield value
    else:
        for part in parts_of(value) or ():
            yield from leaves_of(part)


def _rebuild(value: Any, found: Iterator[int]) -> Any:
    if isinstance(value, SymEnum):
        return list(value.members)[next(found)]
    if isinstance(value, Enum):
        return list(type(value))[next(found)]
    if isinstance(value, bool | SymBool):
        return bool(next(found))
    if isinstance(value, int | SymInt):
        return next(found)
    if isinstance(value, Seq):
        entries = tuple(_rebuild(entry, found) for entry in value.entries)
        return Seq(tuple(entry for entry in entries if entry[0]))
    parts = parts_of(value)
    return value if parts is None else with_parts(value, [_rebuild(part, found) for part in parts])


def parts_of(value: Any) -> list[Any] | None:
    """The components of a tuple or record of the specification; None for an opaque value."""
    if isinstance(value, tuple):
        return list(value)
    kind: Any = type(value)
    names = _fields(kind)
    return None if names is None else [getattr(value, name) for name in names]


@cache
def _fields(kind: type) -> tuple[str, ...] | None:
    """The names of a record's fields; None for what is no record of the specification."""
    record = is_dataclass(kind) and hasattr(kind, "__slots__")
    return tuple(field.name for field in fields(kind)) if record else None


def with_parts(value: Any, parts: list[Any]) -> Any:
    return tuple(parts) if type(value) is tuple else type(value)(*parts)
