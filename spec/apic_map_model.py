"""The model apic-map: one configuration, one request, and where every path sends it."""

from __future__ import annotations

from avicheck.spec.apic import Irq, Kvm, Pointer, config_ok, request_ok
from avicheck.spec.apic_map import Published, kvm_recalculate_apic_map
from avicheck.spec.apic_route import (
    Delivery,
    accepted_by,
    called_on,
    kvm_bitmap_or_dest_vcpus,
    kvm_intr_is_single_vcpu,
    kvm_irq_delivery_to_apic,
    kvm_irq_delivery_to_apic_fast,
)
from avicheck.spec.lang import record, rule, update


@record
class Case:
    """A VM, whether the map's allocation fails, and a request: ``src`` is the sending vCPU's
    index, NULL for a device."""

    kvm: Kvm
    alloc_fails: bool
    src: Pointer
    irq: Irq


@record
class Answer:
    """A delivery, summed up: ``called`` and ``accepted`` are sets of vCPUs, bit i for index i."""

    handled: bool
    r: int
    called: int
    accepted: int


@record
class Outcome:
    """Everything KVM computes for a case. ``fast`` is the map's answer, ``slow`` the loop's
    with the map taken away, ``delivery`` what the kernel does."""

    map: Published
    fast: Answer
    slow: Answer
    delivery: Answer
    single_vcpu: Pointer
    dest_bitmap: int


@rule
def case_ok(case: Case) -> bool:
    """Cases the functions are defined for; see ``has_caller`` for those that KVM itself produces."""
    return config_ok(case.kvm) and request_ok(case.src, case.irq)


@rule
def answer(kvm: Kvm, delivery: Delivery) -> Answer:
    """Sum a delivery up."""
    called = accepted = 0
    for index in range(len(kvm.vcpus)):
        called |= called_on(delivery, index) << index
        accepted |= accepted_by(delivery, index) << index
    return Answer(delivery.handled, delivery.r, called, accepted)


@rule
def slow_delivery(kvm: Kvm, published: Published, src: int, irq: Irq) -> Delivery:
    """``kvm_irq_delivery_to_apic`` with ``kvm->arch.apic_map`` taken away."""
    return kvm_irq_delivery_to_apic(kvm, update(published, present=False), src, irq)


@rule
def outcome(case: Case) -> Outcome:
    """Build the map, then route the request along every path."""
    kvm, src, irq = case.kvm, case.src, case.irq
    published = kvm_recalculate_apic_map(kvm, case.alloc_fails)
    return Outcome(
        published,
        answer(kvm, kvm_irq_delivery_to_apic_fast(kvm, published, src, irq)),
        answer(kvm, slow_delivery(kvm, published, src, irq)),
        answer(kvm, kvm_irq_delivery_to_apic(kvm, published, src, irq)),
        kvm_intr_is_single_vcpu(kvm, published, irq),
        kvm_bitmap_or_dest_vcpus(kvm, published, irq),
    )
