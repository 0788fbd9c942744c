"""Records of z3 constants: one constant per leaf of a spec record, named by its path.

Sorts. ``bool``: Bool. A range from 0 or more: an unsigned bit-vector just wide enough for its
upper bound. A range below 0, or a pointer that may be ``NULL``: a two's-complement bit-vector.
An enum: a bit-vector holding the member's position in its class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, TypeAlias, TypeVar

import z3

from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import NULL, IndexOf, Range, Scope, SizedBy, domains, enum_index

T = TypeVar("T")

Term: TypeAlias = Any
"""A z3 term of any sort."""

BoolTerm: TypeAlias = Any
"""A z3 term of sort Bool."""

BvTerm: TypeAlias = Any
"""A z3 term of a bit-vector sort."""


def bounds(domain: Any, scope: Scope) -> tuple[int, int]:
    """The smallest and the largest number of a leaf's domain; an enum's are its positions."""
    match domain:
        case Range(lo, hi):
            return lo, hi
        case IndexOf(array, nullable):
            return NULL if nullable else 0, scope[array] - 1
        case type() if issubclass(domain, Enum):
            return 0, len(domain) - 1
        case _:
            raise TypeError(f"A leaf's domain must be bool, a Range, an IndexOf or an Enum, not {domain!r}")


def width(domain: Any, scope: Scope) -> int:
    """The number of bits of a leaf that is not a ``bool``."""
    lo, hi = bounds(domain, scope)
    if lo < 0:
        return max(hi.bit_length(), (-lo - 1).bit_length()) + 1
    return max(1, hi.bit_length())


def variable(domain: Any, scope: Scope, name: str) -> Term:
    """The z3 constant called ``name`` for a leaf of ``domain``."""
    return z3.Bool(name) if domain is bool else z3.BitVec(name, width(domain, scope))


def literal(domain: Any, scope: Scope, value: Any) -> Term:
    """The z3 value for a concrete leaf of ``domain``."""
    if domain is bool:
        return z3.BoolVal(value)
    return z3.BitVecVal(enum_index(value) if isinstance(value, Enum) else value, width(domain, scope))


def in_range(term: Term, domain: Any, scope: Scope) -> BoolTerm:
    """The leaf ``term`` lies within its domain."""
    if domain is bool:
        return z3.BoolVal(True)
    lo, hi = bounds(domain, scope)
    if lo < 0:
        return z3.And(term >= lo, term <= hi)
    return z3.And(z3.UGE(term, lo), z3.ULE(term, hi))


def declare(cls: type[T], scope: Scope, name: str, **given: Any) -> T:
    """A record of ``cls`` whose leaves are z3 constants named ``name.field[index].field``.

    A field in ``given`` is that value as it stands, such as the kernel of a ``Kvm``.
    """
    made = dict(given)
    for field, domain in domains(cls).items():
        path = f"{name}.{field}"
        match domain:
            case _ if field in given:
                continue
            case (SizedBy(array), element):
                made[field] = tuple(declare(element, scope, f"{path}[{i}]") for i in range(scope[array]))
            case type() if is_dataclass(domain):
                made[field] = declare(domain, scope, path)
            case _:
                made[field] = variable(domain, scope, path)
    return cls(**made)


def leaves(record: Any, scope: Scope) -> Iterator[tuple[Any, Any]]:
    """Each leaf of a record, symbolic or concrete, in order: its domain and its value. A kernel is none."""
    for field, domain in domains(type(record)).items():
        value = getattr(record, field)
        match domain:
            case (SizedBy(), _):
                for element in value:
                    yield from leaves(element, scope)
            case type() if is_dataclass(domain):
                if domain is not Kernel:
                    yield from leaves(value, scope)
            case _:
                yield domain, value


def range_constraints(record: Any, scope: Scope) -> BoolTerm:
    """Every leaf of a declared record lies within its domain."""
    return z3.And([in_range(value, domain, scope) for domain, value in leaves(record, scope)])
