"""Smallest examples: the fewest vCPUs, then the least unusual case, then the smallest values one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import z3

from avicheck.checker.claims import Lifted, lift_model
from avicheck.checker.solve import Assignment
from avicheck.encodings import expr as ex
from avicheck.encodings.bitvectors import width_of
from avicheck.encodings.expr import Expr
from avicheck.encodings.lift import concrete, to_expr
from avicheck.encodings.refusal import LiftError
from avicheck.encodings.to_z3 import z3_translator
from avicheck.spec.apic import (
    APIC_DFR_CLUSTER,
    APIC_DFR_FLAT,
    ApicMode,
    DeliveryMode,
    DestMode,
    Irq,
    Kvm,
    Shorthand,
    TrigMode,
    Vcpu,
    apic_x2apic_mode,
    has_caller,
    kvm_lowest_prio_delivery,
)
from avicheck.spec.apic_map import xapic_id_mismatch
from avicheck.spec.apic_map_model import Case, Outcome, case_ok, outcome
from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import at_least, rule


@dataclass(frozen=True)
class Minimum:
    """An assignment under which no cost can be lowered without raising an earlier one; if not
    ``complete``, the time ran out and the later costs were left as they were."""

    values: Assignment
    complete: bool
    checks: int


Callers: TypeAlias = Literal["first", "only", "any"]
"""Requests that KVM itself makes: before any others, alone, or among all others."""


@dataclass(frozen=True)
class Search:
    """The outcome of a search for a smallest case: it, or how far it was looked for. ``refuted``
    lists the numbers of vCPUs for which there provably is none, ``open`` those left undecided,
    ``unasked`` those with which the question makes no sense."""

    case: Case | None
    real_caller: bool
    complete: bool
    refuted: tuple[int, ...]
    open: tuple[int, ...]
    unasked: tuple[int, ...] = ()


class UnaskableError(Exception):
    """With no number of vCPUs a rule has a value in every case; its cause says why."""


class ReplayFailedError(Exception):
    """A case that a solver found does not come out on the executable model as the solver says."""


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
        """Whether the constraints can hold together with ``assumed``; None if time runs out. What Ctrl-C
        stops in z3 stops here."""
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
        if answer == z3.unknown and self._solver.reason_unknown() == "interrupted from keyboard":
            raise KeyboardInterrupt
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
def ldr_bits(vcpu: Vcpu) -> int:
    """The number of bits of a logical ID, outside x2APIC mode."""
    return 0 if apic_x2apic_mode(vcpu) else (vcpu.ldr >> 24).bit_count()


@rule
def dfr_rank(vcpu: Vcpu) -> int:
    """0 for a flat DFR or none, 1 for cluster, 2 for another that a guest can write, 3 for one that
    only KVM_SET_LAPIC can load."""
    if apic_x2apic_mode(vcpu) or vcpu.dfr == APIC_DFR_FLAT:
        return 0
    if vcpu.dfr == APIC_DFR_CLUSTER:
        return 1
    return 2 if vcpu.dfr & APIC_DFR_CLUSTER == APIC_DFR_CLUSTER else 3


@rule
def vcpu_oddities(vcpu: Vcpu) -> int:
    """Register values without architectural meaning: DFR neither flat nor cluster, LDR bits that a guest
    cannot write."""
    low_bits = not apic_x2apic_mode(vcpu) and vcpu.ldr & 0xFF_FFFF != 0
    return at_least(dfr_rank(vcpu) - 1, 0) + low_bits


_BY_FREQUENCY: Final = (
    DeliveryMode.FIXED,
    DeliveryMode.LOWEST,
    DeliveryMode.NMI,
    DeliveryMode.INIT,
    DeliveryMode.SIPI,
    DeliveryMode.SMI,
    DeliveryMode.REMRD,
)


@rule
def delivery_mode_rank(mode: DeliveryMode) -> int:
    """How rare a delivery mode is."""
    for rank, known in enumerate(_BY_FREQUENCY):
        if mode == known:
            return rank
    return len(_BY_FREQUENCY)


@rule
def irq_oddities(irq: Irq) -> int:
    """A reserved delivery mode, or one of the 16 vectors that are not for interrupts."""
    reserved = irq.delivery_mode == DeliveryMode.REMRD or irq.delivery_mode == DeliveryMode.EXTINT
    return reserved + has_reserved_vector(irq)


@rule
def has_reserved_vector(irq: Irq) -> bool:
    """FIXED or lowest priority with one of the 16 vectors that are not for interrupts."""
    return (irq.delivery_mode == DeliveryMode.FIXED or kvm_lowest_prio_delivery(irq)) and irq.vector < 16


@rule
def vcpu_features(vcpu: Vcpu, position: int) -> int:
    """In how many ways a vCPU is not as after its reset: in xAPIC mode, software-enabled, the ids those
    of its position, no logical ID (two more for one of several bits)."""
    bits = ldr_bits(vcpu)
    return (
        (vcpu.mode != ApicMode.XAPIC)
        + (vcpu.sw_enabled ^ True)
        + (vcpu.vcpu_id != position)
        + xapic_id_mismatch(vcpu)
        + (dfr_rank(vcpu) != 0)
        + (bits != 0)
        + (bits > 1)
        + (vcpu.arb_prio != 0)
    )


@rule
def vm_features(kvm: Kvm) -> int:
    """How many of a VM's settings are not KVM's default."""
    return kvm.x2apic_format + kvm.x2apic_broadcast_quirk_disabled + (kvm.vector_hashing ^ True)


@rule
def irq_features(irq: Irq) -> int:
    """In how many ways a request is not plain: fixed, physical, edge-triggered."""
    return (
        (irq.shorthand != Shorthand.NONE)
        + irq.msi_redir_hint
        + (irq.trig_mode != TrigMode.EDGE)
        + (irq.level ^ True)
        + (irq.delivery_mode != DeliveryMode.FIXED)
        + (irq.dest_mode != DestMode.PHYSICAL)
    )


@rule
def oddities(case: Case) -> int:
    """How much of a case hardly ever happens: no map for lack of memory, meaningless values."""
    count = case.alloc_fails + irq_oddities(case.irq)
    for vcpu in case.kvm.vcpus:
        count += vcpu_oddities(vcpu)
    return count


@rule
def features(case: Case) -> int:
    """In how many ways a case is not the plain one."""
    count = vm_features(case.kvm) + irq_features(case.irq)
    for position, vcpu in enumerate(case.kvm.vcpus):
        count += vcpu_features(vcpu, position)
    return count


def case_costs(case: Case) -> list[Expr]:
    """What is minimised, in this order: requests that only a foreign caller makes, oddities, features;
    then which features these are: of the request, of the VM, of the vCPUs; then the ids, the registers,
    the destination, the source (a device first) and the vector, each as a number."""
    kvm, irq = case.kvm, case.irq
    vcpus = kvm.vcpus
    return [
        to_expr(cost)
        for cost in (
            has_caller(kvm, case.src, irq) ^ True,
            oddities(case),
            features(case),
            case.alloc_fails,
            irq.shorthand,
            irq.msi_redir_hint,
            irq.trig_mode,
            irq.level ^ True,
            delivery_mode_rank(irq.delivery_mode),
            irq.dest_mode,
            kvm.x2apic_broadcast_quirk_disabled,
            kvm.vector_hashing ^ True,
            kvm.x2apic_format,
            *(vcpu.mode == ApicMode.DISABLED for vcpu in vcpus),
            *(vcpu.sw_enabled ^ True for vcpu in vcpus),
            *map(dfr_rank, vcpus),
            *map(xapic_id_mismatch, vcpus),
            *(vcpu.vcpu_id != position for position, vcpu in enumerate(vcpus)),
            *(vcpu.mode for vcpu in vcpus),
            *(vcpu.vcpu_id for vcpu in vcpus),
            *(vcpu.xapic_id for vcpu in vcpus),
            *(vcpu.arb_prio for vcpu in vcpus),
            *map(ldr_bits, vcpus),
            *(vcpu.ldr for vcpu in vcpus),
            *(vcpu.dfr ^ APIC_DFR_FLAT for vcpu in vcpus),
            irq.dest_id,
            case.src + 1,
            irq.vector,
        )
    ]


# Smallest cases.


_PASSES: Final[dict[Callers, tuple[bool, ...]]] = {"first": (True, False), "only": (True,), "any": (False,)}
"""Whether requests that KVM does not make are left out, in each pass over the numbers of vCPUs."""


def smallest_case(
    constraint: Callable[[Case, Outcome], bool],
    kernel: Kernel,
    max_vcpus: int,
    limit: float = 60.0,
    *,
    callers: Callers = "first",
) -> Search:
    """The smallest case on which a rule holds: with the fewest vCPUs, up to ``max_vcpus``, then the
    least costs (``case_costs``). A request that KVM makes with more vCPUs is preferred to one that it
    does not make with fewer, unless ``callers`` says otherwise; only if it is proved that there is none
    are others looked for. Replayed on the executable model before it is returned (``ReplayFailedError``
    otherwise). After ``limit`` seconds no question is asked any more; what was lifted by then counts.

    Raises UnaskableError if the rule has no value in some case, with whatever number of vCPUs."""
    deadline = time.monotonic() + limit
    search = Search(None, False, False, (), ())
    for real in _PASSES[callers]:
        search = _fewest_vcpus(constraint, kernel, range(1, max_vcpus + 1), deadline, real)
        if search.case is not None or search.open:
            break
    return search


def _fewest_vcpus(
    constraint: Callable[[Case, Outcome], bool],
    kernel: Kernel,
    sizes: Iterable[int],
    deadline: float,
    real: bool,
) -> Search:
    refuted: list[int] = []
    open_: list[int] = []
    refused: dict[int, LiftError] = {}
    for vcpus in sizes:
        if time.monotonic() >= deadline:
            open_.append(vcpus)
            continue
        lifted = lift_model(kernel, vcpus)
        try:
            constraints = [lifted.ok, lifted.expr(constraint)]
        except LiftError as error:
            refused[vcpus] = error
            continue
        if real:
            constraints.append(lifted.expr(_real_caller))
        with lifted.lifter.resumed():
            costs = case_costs(lifted.case)
        found = minimize(constraints, costs, deadline - time.monotonic())
        if isinstance(found, Minimum):
            case = _replayed(constraint, lifted, found.values)
            caller = has_caller(case.kvm, case.src, case.irq)
            return Search(case, caller, found.complete, tuple(refuted), tuple(open_), tuple(refused))
        (open_ if found is None else refuted).append(vcpus)
    if refused and not refuted and not open_:
        raise UnaskableError from list(refused.values())[-1]
    return Search(None, False, not open_, tuple(refuted), tuple(open_), tuple(refused))


def possible(
    constraint: Callable[[Case, Outcome], bool], kernel: Kernel, sizes: Iterable[int], limit: float
) -> bool | None:
    """Whether a rule holds on some case with one of these numbers of vCPUs, at which it has a value;
    None if the time runs out."""
    deadline = time.monotonic() + limit
    for vcpus in sizes:
        if time.monotonic() >= deadline:
            return None
        lifted = lift_model(kernel, vcpus)
        answer = _Solver([lifted.ok, lifted.expr(constraint)], [], deadline).check()
        if answer is not False:
            return answer
    return False


@rule
def _real_caller(case: Case, outcome: Outcome) -> bool:
    return has_caller(case.kvm, case.src, case.irq)


def _replayed(constraint: Callable[[Case, Outcome], bool], lifted: Lifted, values: Assignment) -> Case:
    """The case that a solver found, if the executable model agrees with every result of it."""
    case, told = concrete((lifted.case, lifted.outcome), values)
    result = outcome(case)
    if not case_ok(case) or told != result or not constraint(case, result):
        raise ReplayFailedError(f"Case must come out on the executable model as the solver says: {case}")
    return case
