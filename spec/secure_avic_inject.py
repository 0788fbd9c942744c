"""How KVM accepts a device's interrupt for a Secure AVIC guest and requests it, for all 256 vectors.

Each function is one pass with nothing between its accesses; ``spec.secure_avic_host`` has them one by one.
"""

from __future__ import annotations

from avicheck.spec.lang import VectorSet, record, rule, update
from avicheck.spec.secure_avic import Vmcb
from avicheck.spec.secure_avic_hardware import only, without


@record
class SoftwareApic:
    """KVM's own APIC page of the vCPU, as far as Secure AVIC uses it. ``isr`` is the shadow ISR."""

    irr: VectorSet
    tmr: VectorSet
    isr: VectorSet
    enabled: bool
    """kvm_apic_hw_enabled and SPIV bit 8."""


@rule
def accept(apic: SoftwareApic, vector: int, level: bool) -> SoftwareApic:
    """lapic.c __apic_accept_irq, for a fixed interrupt."""
    if not apic.enabled:
        return apic
    tmr = apic.tmr | only(vector) if level else without(apic.tmr, vector)
    return update(apic, tmr=tmr, irr=apic.irr | only(vector))


@record
class Injection:
    """KVM's APIC and the VMCB."""

    apic: SoftwareApic
    vmcb: Vmcb


@rule
def sev_savic_set_requested_irr(apic: SoftwareApic, vmcb: Vmcb) -> Injection:
    """sev.c: everything that is pending is requested; level-triggered vectors go to the shadow ISR."""
    if apic.irr == 0:
        return Injection(apic, vmcb)
    requested = update(vmcb, requested_irr=vmcb.requested_irr | apic.irr, update_irr=True)
    return Injection(update(apic, irr=0, isr=apic.isr | (apic.irr & apic.tmr)), requested)
