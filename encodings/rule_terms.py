"""Terms that closed forms over the VM's list of vCPUs are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import wraps
from itertools import permutations
from typing import Any, ParamSpec, TypeVar

import z3

from avicheck.encodings.z3vars import BoolTerm, BvTerm, Term, literal
from avicheck.spec.apic import Kvm
from avicheck.spec.lang import IndexOf, enum_index

P = ParamSpec("P")
T = TypeVar("T")


def remembered(function: Callable[P, T]) -> Callable[P, T]:
    """Answer the same argument objects with the same result: the terms of a request are built once."""
    known: dict[tuple[int, ...], tuple[Any, T]] = {}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        key = tuple(map(id, (*args, *kwargs.values())))
        if key not in known:
            if len(known) >= 32:
                known.clear()
            known[key] = ((args, kwargs), function(*args, **kwargs))
        return known[key][1]

    return call


def is_any(term: Term, *members: Enum) -> BoolTerm:
    """The enum leaf ``term`` is one of ``members``."""
    equal = [term == enum_index(member) for member in members]
    return equal[0] if len(equal) == 1 else z3.Or(equal)


def wide(term: BvTerm, bits: int = 32) -> BvTerm:
    """An unsigned term at a larger width."""
    return z3.ZeroExt(bits - term.size(), term)


def one_if(condition: BoolTerm, bits: int) -> BvTerm:
    """1 where the condition holds, else 0."""
    return z3.If(condition, z3.BitVecVal(1, bits), z3.BitVecVal(0, bits))


def pack(conditions: Sequence[BoolTerm]) -> BvTerm:
    """A bit-vector with bit i set where condition i, of at least two, holds."""
    return z3.Concat([one_if(condition, 1) for condition in reversed(conditions)])


def bit_of(term: BvTerm, i: int) -> BoolTerm:
    return z3.Extract(i, i, term) == 1


def several_bits(term: BvTerm) -> BoolTerm:
    """More than one bit is set."""
    return term & (term - 1) != 0


def one_of_16(position: BvTerm) -> BvTerm:
    """The 16-bit mask of a 4-bit position."""
    return z3.BitVecVal(1, 16) << wide(position, 16)


def pointer(kvm: Kvm, i: int) -> BvTerm:
    """The pointer to vCPU ``i``, or NULL."""
    return literal(IndexOf("vcpus", nullable=True), {"vcpus": len(kvm.vcpus)}, i)


def first(kvm: Kvm, conditions: Sequence[BoolTerm], otherwise: BvTerm) -> BvTerm:
    """The first vCPU whose condition holds."""
    for i in reversed(range(len(kvm.vcpus))):
        otherwise = z3.If(conditions[i], pointer(kvm, i), otherwise)
    return otherwise


def last(kvm: Kvm, conditions: Sequence[BoolTerm], otherwise: BvTerm) -> BvTerm:
    """The last vCPU whose condition holds."""
    for i in range(len(kvm.vcpus)):
        otherwise = z3.If(conditions[i], pointer(kvm, i), otherwise)
    return otherwise


def nth(candidates: Sequence[BoolTerm], vector: BvTerm) -> list[BoolTerm]:
    """Only the (vector mod number of candidates)-th candidate (``kvm_vector_to_index``)."""
    bits = len(candidates).bit_length()
    modulo = max(bits, vector.size())
    before = [z3.BitVecVal(0, bits)]
    for candidate in candidates:
        before.append(before[-1] + one_if(candidate, bits))
    wanted = z3.Extract(bits - 1, 0, z3.URem(wide(vector, modulo), wide(before[-1], modulo)))
    return [
        z3.And(candidate, rank == wanted) for candidate, rank in zip(candidates, before[:-1], strict=True)
    ]


def alone(candidates: Sequence[BoolTerm]) -> list[list[BoolTerm]]:
    """One claim for each vCPU, its own."""
    indices = range(len(candidates))
    return [[candidates[i] if i == j else z3.BoolVal(False) for j in indices] for i in indices]


def least_busy(claims: Sequence[Sequence[BoolTerm]], priorities: Sequence[BvTerm]) -> list[BoolTerm]:
    """Only the claim that no later one beats, each compared with the best before it. A claim says for
    each vCPU whether it is that one's; at most one holds.

    The comparison is the sign of a wrapping difference and so not transitive: the order matters
    (``kvm_apic_compare_prio``).
    """
    pairs = list(permutations(range(len(priorities)), 2))
    beats = {(i, j): priorities[i] - priorities[j] < 0 for i, j in pairs}
    best, takes = [z3.BoolVal(False)] * len(priorities), []
    for claim in claims:
        better = [z3.And(claim[i], best[j], beats[i, j]) for i, j in pairs]
        take = z3.And(z3.Or(claim), z3.Or(z3.Not(z3.Or(best)), *better))
        best = [z3.If(take, mine, held) for mine, held in zip(claim, best, strict=True)]
        takes.append(take)
    return [z3.And(take, z3.Not(z3.Or(takes[i + 1 :]))) for i, take in enumerate(takes)]
