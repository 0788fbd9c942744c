"""Smallest examples: the fewest vCPUs, then the least unusual values, one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from avicheck.checker.claims import lift_model
from avicheck.checker.solve import Assignment
from avicheck.encodings import expr as ex
from avicheck.encodings.bitvectors import width_of
from avicheck.encodings.expr import Expr
from avicheck.encodings.lift import concrete, to_expr
from avicheck.encodings.to_z3 import z3_translator
from avicheck.spec.apic import (
    APIC_DFR_CLUSTER,
    APIC_DFR_FLAT,
    ApicMode,
    DeliveryMode,
    Irq,
    Kvm,
    Vcpu,
    has_caller,
    kvm_lowest_prio_delivery,
)
from avicheck.spec.apic_map_model import Case, Outcome, case_ok, outcome
from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import rule


@dataclass(frozen=True)
class Minimum:
    """An assignment under which no cost can be lowered without raising an earlier one; if not
    ``complete``, the time ran out and the later costs were left as they were."""

    values: Assignment
    complete: bool
    checks: int


@dataclass(frozen=True)
class Search:
    """The outcome of a search for a smallest case: it, or how far it was looked for. ``refuted``
    lists the numbers of vCPUs for which there provably is none, ``open`` those left undecided."""

    case: Case | None
    real_caller: bool
    complete: bool
    refuted: tuple[int, ...]
    open: tuple[int, ...]


class ReplayFailedError(Exception):
    """A case that a solver found does not do on the executable model what the solver says."""


class _Solver:
    """z3 with the values of its last answer, within a time limit."""

    def __init__(self, constraints: Sequence[Expr], costs: Sequence[Expr], deadline: float) -> None:
        self._translator = z3_translator()
        self._variables = ex.variables(*constraints, *costs)
        self._solver = z3.SolverFor("QF_BV")
        self._solver.add(*self._translator.terms(constraints))
        self._solver.add(*self._translator.domains(self._variables))
        self._deadline = deadline
        self.checks = 0
        self.values: Assignment = {}

    def check(self, *assumed: Expr) -> bool | None:
        """Whether the constraints can hold together with ``assumed``; None if time runs out."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return None
        self._solver.set("timeout", max(1, int(left * 1000)))
        self.checks += 1
        self._solver.push()
        self._solver.add(*self._translator.terms(assumed))
        answer = self._solver.check()
        if answer == z3.sat:
            self.values = self._read(self._solver.model())
        self._solver.pop()
        return None if answer == z3.unknown else bool(answer == z3.sat)

    def fix(self, constraint: Expr) -> None:
        """Add a constraint that the last values satisfy."""
        self._solver.add(self._translator.term(constraint))

    def _read(self, model: Any) -> Assignment:
        return {
            str(var.value): _value(var, model.eval(self._translator.term(var), model_completion=True))
            for var in self._variables
        }


def _value(var: Expr, term: Any) -> int:
    if var.is_bool:
        return int(z3.is_true(term))
    value = int(term.as_long())
    return value - (1 << width_of(var.lo, var.hi)) if var.lo < 0 and value > var.hi else value


def minimize(constraints: Sequence[Expr], costs: Sequence[Expr], limit: float) -> Minimum | bool | None:
    """The assignment with the lexicographically smallest costs (booleans count as 0 and 1); False if
    the constraints cannot hold, None if ``limit`` seconds do not suffice to find any assignment."""
    solver = _Solver(constraints, costs, time.monotonic() + limit)
    found = solver.check()
    if not found:
        return found
    for cost in map(ex.as_int, costs):
        if not _minimize_one(solver, cost):
            return Minimum(solver.values, False, solver.checks)
    return Minimum(solver.values, True, solver.checks)


def _minimize_one(solver: _Solver, cost: Expr) -> bool:
    """Find the least value of one cost, the least possible one first, and fix it; False if time runs out."""
    low, best = cost.lo, _cost(solver, cost)
    guess = low
    while low < best:
        answer = solver.check(ex.le(cost, ex.constant(guess)))
        if answer is None:
            return False
        if answer:
            best = _cost(solver, cost)
        else:
            low = guess + 1
        guess = (low + best) // 2
    solver.fix(ex.eq(cost, ex.constant(best)))
    return True


def _cost(solver: _Solver, cost: Expr) -> int:
    return ex.evaluate([cost], solver.values)[0]


# What is small about a case.


@rule
def is_unusual(vcpu: Vcpu) -> bool:
    """An xAPIC ID that is not the vCPU's, outside x2APIC mode."""
    return vcpu.mode != ApicMode.X2APIC and vcpu.xapic_id != vcpu.vcpu_id & 0xFF


@rule
def dfr_rank(vcpu: Vcpu) -> int:
    """0 for a flat DFR or none, 1 for cluster, 2 for another that a guest can write, 3 for one that
    only KVM_SET_LAPIC can load."""
    if vcpu.mode == ApicMode.X2APIC or vcpu.dfr == APIC_DFR_FLAT:
        return 0
    if vcpu.dfr == APIC_DFR_CLUSTER:
        return 1
    return 2 if vcpu.dfr & APIC_DFR_CLUSTER == APIC_DFR_CLUSTER else 3


@rule
def ldr_rank(vcpu: Vcpu) -> int:
    """The number of bits of a logical ID; more for an LDR with bits that a guest cannot write."""
    if vcpu.mode == ApicMode.X2APIC:
        return 0
    return (vcpu.ldr >> 24).bit_count() + (16 if vcpu.ldr & 0xFF_FFFF else 0)


@rule
def has_reserved_vector(irq: Irq) -> bool:
    """FIXED or lowest priority with one of the 16 vectors that are not for interrupts."""
    return (irq.delivery_mode == DeliveryMode.FIXED or kvm_lowest_prio_delivery(irq)) and irq.vector < 16


def case_costs(case: Case) -> list[Expr]:
    """What is minimised, in this order: failures and unusual features of the request, then of the
    vCPUs (disabled, x2APIC mode, software-disabled, odd DFR, modified ID) and of the VM, then
    IDs, priorities and registers, then destination, source and vector."""
    kvm, irq = case.kvm, case.irq
    vcpus = kvm.vcpus
    return [
        to_expr(cost)
        for cost in (
            case.alloc_fails,
            irq.shorthand,
            irq.msi_redir_hint,
            irq.trig_mode,
            irq.level ^ True,
            irq.delivery_mode,
            irq.dest_mode,
            *(vcpu.mode == ApicMode.DISABLED for vcpu in vcpus),
            *(vcpu.sw_enabled ^ True for vcpu in vcpus),
            *map(dfr_rank, vcpus),
            *map(is_unusual, vcpus),
            *(vcpu.mode for vcpu in vcpus),
            *_settings(kvm),
            *(vcpu.vcpu_id for vcpu in vcpus),
            *(vcpu.xapic_id for vcpu in vcpus),
            *(vcpu.arb_prio for vcpu in vcpus),
            *map(ldr_rank, vcpus),
            *(vcpu.ldr for vcpu in vcpus),
            *(vcpu.dfr ^ APIC_DFR_FLAT for vcpu in vcpus),
            irq.dest_id,
            case.src + 1,
            has_reserved_vector(irq),
            irq.vector,
        )
    ]


def _settings(kvm: Kvm) -> Iterator[bool]:
    yield from (kvm.x2apic_format, kvm.x2apic_broadcast_quirk_disabled, kvm.vector_hashing)


def smallest_case(
    constraint: Callable[[Case, Outcome], bool],
    kernel: Kernel,
    max_vcpus: int,
    limit: float = 60.0,
    *,
    real_caller_only: bool = False,
) -> Search:
    """The smallest case on which a rule holds: with a request that KVM itself makes, if one exists
    with up to ``max_vcpus`` vCPUs; then with the fewest vCPUs; then the least costs. Replayed on
    the executable model before it is returned (``ReplayFailedError`` otherwise)."""
    deadline = time.monotonic() + limit
    refuted: list[int] = []
    open_: list[int] = []
    for real in (True,) if real_caller_only else (True, False):
        refuted, open_ = [], []
        for vcpus in range(1, max_vcpus + 1):
            lifted = lift_model(kernel, vcpus)
            constraints = [lifted.ok, lifted.expr(constraint)]
            if real:
                constraints.append(lifted.expr(_real_caller))
            with lifted.lifter.resumed():
                costs = case_costs(lifted.case)
            found = minimize(constraints, costs, deadline - time.monotonic())
            if isinstance(found, Minimum):
                case = concrete(lifted.case, found.values)
                _replay(constraint, case)
                return Search(case, real, found.complete, tuple(refuted), tuple(open_))
            (open_ if found is None else refuted).append(vcpus)
    return Search(None, False, not open_, tuple(refuted), tuple(open_))


def possible(
    constraint: Callable[[Case, Outcome], bool], kernel: Kernel, vcpus: int, limit: float
) -> bool | None:
    """Whether a rule holds on some case with so many vCPUs; None if the time runs out."""
    lifted = lift_model(kernel, vcpus)
    return _Solver([lifted.ok, lifted.expr(constraint)], [], time.monotonic() + limit).check()


@rule
def _real_caller(case: Case, outcome: Outcome) -> bool:
    return has_caller(case.kvm, case.src, case.irq)


def _replay(constraint: Callable[[Case, Outcome], bool], case: Case) -> None:
    if not case_ok(case) or not constraint(case, outcome(case)):
        raise ReplayFailedError("Case that the solver found must do the same on the executable model")
