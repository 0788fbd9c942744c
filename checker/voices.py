"""What is said about one case of apic-map, twice and under the same names: by the specification,
run or lifted, and by the hand-written rules.

A value that has no meaning in a case, such as the owner of a slot where there is no map, is 0
or NULL on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Final, TypeAlias

import z3

from avicheck.encodings import apic_map_rules as map_rules
from avicheck.encodings import apic_route_rules as route_rules
from avicheck.encodings.expr import Expr, bool_var, int_var
from avicheck.encodings.lift import Lifter, lifting, symbolic, to_expr
from avicheck.encodings.rule_terms import pointer, wide
from avicheck.encodings.z3vars import BoolTerm, BvTerm, Term, bounds, declare, leaves, variable
from avicheck.spec.apic import Kvm, config_ok
from avicheck.spec.apic_map import (
    SW_DISABLED,
    XAPIC_CLUSTER,
    XAPIC_FLAT,
    Published,
    kvm_recalculate_apic_map,
)
from avicheck.spec.apic_map_model import Case, answer, case_ok, outcome
from avicheck.spec.apic_route import PvIpi, kvm_apic_match_dest, kvm_pv_send_ipi
from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import NULL, U32, Range, Scope, domains, record, rule

Said: TypeAlias = dict[str, Any]
"""Values by name."""

SIGNED: Final = frozenset({"owner_phys", "owner_logical", "single_vcpu", "r", "highest_isr_cache", "svi"})
"""The names of signed numbers."""


@record
class MapCase:
    """A VM, whether the map's allocation fails, and a slot of either part of the map to look at."""

    kvm: Kvm
    alloc_fails: bool
    phys_slot: U32
    logical_slot: Annotated[int, Range(0, 63)]


@record
class PvCase:
    """A VM, whether the map's allocation fails, and a hypercall."""

    kvm: Kvm
    alloc_fails: bool
    ipi: PvIpi


# The specification.


@rule
def _where(condition: bool, value: int, otherwise: int) -> int:
    return value if condition else otherwise


@rule
def _owner_logical(published: Published, slot: int) -> int:
    """Who owns an xAPIC logical slot; the slots have a meaning in two modes."""
    mode = published.map.logical_mode
    if published.present and mode in (XAPIC_FLAT, XAPIC_CLUSTER):
        return published.map.logical[slot]
    return NULL


def _members(vcpus: int, kvm: Kvm, name: str) -> Said:
    """A set of vCPUs, one by one."""
    return {f"{name}[{i}]": (vcpus >> i) & 1 == 1 for i in range(len(kvm.vcpus))}


def map_by_model(case: MapCase) -> Said:
    """What recalculating the map leaves behind."""
    published = kvm_recalculate_apic_map(case.kvm, case.alloc_fails)
    present, map = published.present, published.map
    return {
        "present": present,
        "max_apic_id": _where(present, map.max_apic_id, 0),
        "logical_mode": _where(present, map.logical_mode, SW_DISABLED),
        "owner_phys": _where(present, map.phys[case.phys_slot], NULL),
        "owner_logical": _owner_logical(published, case.logical_slot),
        "physical_id_aliased": published.physical_id_aliased,
        "logical_id_aliased": published.logical_id_aliased,
        "apic_id_modified": published.apic_id_modified,
    }


def route_by_model(case: Case) -> Said:
    """Where a request goes, along every path."""
    kvm, result = case.kvm, outcome(case)
    said: Said = {"handled": result.fast.handled, "single_vcpu": result.single_vcpu}
    for path in ("fast", "slow", "delivery"):
        delivered = getattr(result, path)
        said |= _members(delivered.called, kvm, f"{path}.called")
        said |= _members(delivered.accepted, kvm, f"{path}.accepted")
    said |= _members(result.dest_bitmap, kvm, "dest_bitmap")
    for i in range(len(kvm.vcpus)):
        said[f"match[{i}]"] = kvm_apic_match_dest(kvm, i, case.src, case.irq)
    return said


def pv_by_model(case: PvCase) -> Said:
    """What a paravirtual IPI does."""
    published = kvm_recalculate_apic_map(case.kvm, case.alloc_fails)
    sent = answer(case.kvm, kvm_pv_send_ipi(case.kvm, published, case.ipi))
    called, accepted = (
        _members(sent.called, case.kvm, "called"),
        _members(sent.accepted, case.kvm, "accepted"),
    )
    return {"r": sent.r, **called, **accepted}


def _vm_ok(case: MapCase | PvCase) -> bool:
    return config_ok(case.kvm)


# The rules.


def map_by_rules(case: MapCase) -> Said:
    """As ``map_by_model``."""
    kvm = case.kvm
    present, null = map_rules.map_present(kvm, case.alloc_fails), pointer(kvm, NULL)
    slots_used = z3.And(present, map_rules.mode_is(kvm, XAPIC_FLAT, XAPIC_CLUSTER))
    inhibits = map_rules.inhibits(kvm, case.alloc_fails)
    return {
        "present": present,
        "max_apic_id": z3.If(present, map_rules.max_apic_id(kvm), 0),
        "logical_mode": z3.If(present, map_rules.logical_mode(kvm), SW_DISABLED),
        "owner_phys": z3.If(present, map_rules.owner_phys(kvm, case.phys_slot), null),
        "owner_logical": z3.If(slots_used, map_rules.owner_logical(kvm, case.logical_slot), null),
        **inhibits._asdict(),
    }


def route_by_rules(case: Case) -> Said:
    """As ``route_by_model``."""
    kvm, alloc_fails, src, irq = case.kvm, case.alloc_fails, case.src, case.irq
    request = (kvm, alloc_fails, src, irq)
    sets: dict[str, Callable[[int], BoolTerm]] = {
        "fast.called": lambda i: route_rules.fast_called(*request, i),
        "fast.accepted": lambda i: route_rules.fast_accepts(*request, i),
        "slow.called": lambda i: route_rules.slow_called(kvm, src, irq, i),
        "slow.accepted": lambda i: route_rules.slow_accepts(kvm, src, irq, i),
        "delivery.called": lambda i: route_rules.delivery_called(*request, i),
        "delivery.accepted": lambda i: route_rules.delivery_accepts(*request, i),
        "dest_bitmap": lambda i: route_rules.dest_bitmap(kvm, alloc_fails, irq, i),
        "match": lambda i: route_rules.matches(kvm, src, irq, i),
    }
    return {
        "handled": route_rules.fast_handled(*request),
        "single_vcpu": route_rules.single_vcpu(kvm, alloc_fails, irq),
        **{f"{name}[{i}]": has(i) for name, has in sets.items() for i in range(len(kvm.vcpus))},
    }


def hypercall(case: PvCase) -> tuple[Kvm, BoolTerm, route_rules.PvIpi]:
    """A case, as the rules see it."""
    kvm, alloc_fails, ipi = (getattr(case, name) for name in ("kvm", "alloc_fails", "ipi"))
    return kvm, alloc_fails, route_rules.PvIpi(ipi.low, ipi.high, ipi.min, wide(ipi.icr, 64), ipi.op64)


def pv_by_rules(case: PvCase) -> Said:
    """As ``pv_by_model``."""
    request, indices = hypercall(case), range(len(case.kvm.vcpus))
    return {
        "r": route_rules.pv_ipi(*request),
        **{f"called[{i}]": route_rules.pv_calls(*request, i) != 0 for i in indices},
        **{f"accepted[{i}]": route_rules.pv_accepts(*request, i) for i in indices},
    }


# Both.


@dataclass(frozen=True)
class Subject:
    """Something that both sides speak of: the cases, those of them that exist, and what is said."""

    name: str
    case: type
    ok: Callable[[Any], bool]
    by_model: Callable[[Any], Said]
    by_rules: Callable[[Any], Said]


MAP: Final = Subject("map", MapCase, _vm_ok, map_by_model, map_by_rules)
ROUTE: Final = Subject("route", Case, case_ok, route_by_model, route_by_rules)
PV: Final = Subject("pv", PvCase, _vm_ok, pv_by_model, pv_by_rules)


@dataclass(frozen=True)
class Voices:
    """A subject for one kernel and one number of vCPUs: the lifted specification and the rules, over
    variables of the same names."""

    subject: Subject
    kernel: Kernel
    vcpus: int
    lifter: Lifter
    case: Any
    """Symbolic, for the specification."""
    stated_case: Any
    """Of z3 constants, for the rules."""
    ok: Expr
    lifted: Mapping[str, Expr]
    stated: Mapping[str, Term]

    @property
    def variables(self) -> list[Expr]:
        """Every variable that occurs."""
        scope = {"vcpus": self.vcpus}
        return [
            bool_var(name) if domain is bool else int_var(name, *bounds(domain, scope))
            for domain, term in leaves(self.stated_case, scope)
            for name in (term.decl().name(),)
        ]


def listen(subject: Subject, kernel: Kernel, vcpus: int) -> Voices:
    """Both sides of a subject."""
    scope = {"vcpus": vcpus}
    case = symbolic(subject.case, scope, "", kernel=kernel)
    with lifting() as lifter:
        lifted = {name: to_expr(value) for name, value in subject.by_model(case).items()}
        ok = to_expr(subject.ok(case))
    stated_case = _declared(subject.case, scope, kernel)
    stated = subject.by_rules(stated_case)
    return Voices(subject, kernel, vcpus, lifter, case, stated_case, ok, lifted, stated)


def _declared(cls: Any, scope: Scope, kernel: Kernel) -> Any:
    """The record of z3 constants that ``symbolic`` would make of variables."""
    parts: dict[str, BvTerm] = {}
    for name, domain in domains(cls).items():
        given = {"kernel": kernel} if domain is Kvm else {}
        nested = isinstance(domain, type) and is_dataclass(domain)
        parts[name] = declare(domain, scope, name, **given) if nested else variable(domain, scope, name)
    return cls(**parts)
