"""The question asked in the review of 001: why is the whole map dropped when a physical ID is
aliased, and not only flagged, as mixed logical modes flag the logical part?

The alternative as a variant of the recalculation: the aliased vCPU is skipped, a flag says so,
and whatever would need the physical slots (physical destinations and x2APIC clusters) goes to
the loop.
"""

from __future__ import annotations

from avicheck.spec.apic import DestMode, Irq, Kvm, kvm_apic_present
from avicheck.spec.apic_map import (
    SW_DISABLED,
    X2APIC,
    ApicMap,
    Published,
    kvm_recalculate_logical_map,
    kvm_recalculate_phys_map,
    max_apic_id,
)
from avicheck.spec.apic_map_model import Case, Outcome, answer
from avicheck.spec.apic_route import Delivery, kvm_irq_delivery_to_apic
from avicheck.spec.lang import Table, record, rule


@record
class Flagged:
    """A map that is always there; ``aliased``: its physical part cannot be used."""

    map: ApicMap
    aliased: bool


@rule
def add_vcpu_flagged(kvm: Kvm, state: Flagged, index: int) -> Flagged:
    """The second pass for one vCPU: a taken ID raises the flag, the logical part goes on."""
    if not kvm_apic_present(kvm.vcpus[index]):
        return state
    result = kvm_recalculate_phys_map(kvm, state.map, index)
    map = kvm_recalculate_logical_map(kvm, result.map, index)
    return Flagged(map, state.aliased or result.error != 0)


@rule
def recalculate_flagged(kvm: Kvm) -> Flagged:
    """The recalculation of the alternative."""
    state = Flagged(ApicMap(max_apic_id(kvm), SW_DISABLED, Table(), Table()), False)
    for index in range(len(kvm.vcpus)):
        state = add_vcpu_flagged(kvm, state, index)
    return state


@rule
def needs_physical_slots(map: ApicMap, irq: Irq) -> bool:
    """What the flag takes away from the map."""
    return irq.dest_mode == DestMode.PHYSICAL or map.logical_mode == X2APIC


@rule
def deliver_flagged(case: Case) -> Delivery:
    """``kvm_irq_delivery_to_apic`` of the alternative."""
    flagged = recalculate_flagged(case.kvm)
    published = Published(True, flagged.map, False, False, False)
    if flagged.aliased and needs_physical_slots(flagged.map, case.irq):
        published = Published(False, flagged.map, False, False, False)
    return kvm_irq_delivery_to_apic(case.kvm, published, case.src, case.irq)


@rule
def dropped_for_an_alias(case: Case, outcome: Outcome) -> bool:
    """There is no map, although one could be allocated."""
    return not outcome.map.present and not case.alloc_fails


@rule
def flag_changes_nothing(case: Case, outcome: Outcome) -> bool:
    """The alternative delivers to the same vCPUs as the kernel."""
    flagged = answer(case.kvm, deliver_flagged(case))
    return flagged.accepted == outcome.delivery.accepted


@rule
def flag_serves_through_the_map(case: Case, outcome: Outcome) -> bool:
    """The kernel has no map, and the alternative serves a logical request through its logical part."""
    flagged = recalculate_flagged(case.kvm)
    usable = not needs_physical_slots(flagged.map, case.irq)
    return dropped_for_an_alias(case, outcome) and usable and flagged.map.logical_mode != SW_DISABLED
