"""Secure AVIC's injection rules as closed forms over z3 terms, for all 256 vectors.

An independent statement of what the hardware does to a vCPU, to be proved equal to the lifted specification:
it says of an arbitrary vector what becomes of it, never how a set is searched. Arguments are records declared
by ``z3vars``; ``v`` is an arbitrary vector, 8 bits. PPR is not computed: a vector is above it if it is above
TPR's class and nothing of its class or above is in service.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import z3

from avicheck.encodings.rule_terms import is_any, wide
from avicheck.encodings.z3vars import BoolTerm, BvTerm, Term
from avicheck.spec.secure_avic import (
    EntryDisabled,
    EventInjection,
    HaltWithoutIf,
    Hardware,
    LevelEoi,
    NmiAndHalt,
    NmiNotAllowed,
    NmiRequestNeeds,
    NotAllowed,
    Page,
    RequestedAfterEntry,
    Vcpu,
)

VECTORS: Final = 256
CLASSES: Final = 16
NOTHING: Final = z3.BitVecVal(0, VECTORS)

GOES_ON: Final = 0
SLEEPS: Final = 1
EXITS: Final = 2
"""``Halted``."""


class Outcome(NamedTuple):
    """What a VMRUN comes to; exactly one holds."""

    runs: BoolTerm
    busy: BoolTerm
    invalid: BoolTerm
    not_restartable: BoolTerm


# Sets of vectors.


def has(vectors: BvTerm, v: BvTerm) -> BoolTerm:
    """Whether ``v`` is in a set."""
    return z3.Extract(0, 0, z3.LShR(vectors, wide(v, VECTORS))) == 1


def is_highest(vectors: BvTerm, v: BvTerm) -> BoolTerm:
    """Whether ``v`` is in a set and nothing above it is."""
    return z3.LShR(vectors, wide(v, VECTORS)) == 1


def _of_class(vectors: BvTerm, c: int) -> BoolTerm:
    return z3.Extract(16 * c + 15, 16 * c, vectors) != 0


def _from_class(vectors: BvTerm, c: int) -> BoolTerm:
    return z3.Extract(VECTORS - 1, 16 * c, vectors) != 0


def priority_class(v: BvTerm) -> BvTerm:
    return z3.Extract(7, 4, v)


def is_pending(irr: BvTerm, isr: BvTerm, tpr: BvTerm, software_enabled: BoolTerm) -> BoolTerm:
    """There is a requested vector above the processor's priority."""
    classes = [
        z3.And(_of_class(irr, c), z3.UGT(c, priority_class(tpr)), z3.Not(_from_class(isr, c)))
        for c in range(CLASSES)
    ]
    return z3.And(software_enabled, z3.Or(classes))


def page_pending(page: Page, irr: Term = None, isr: Term = None, tpr: Term = None) -> BoolTerm:
    """The same of a page, with another IRR, ISR or TPR."""
    return is_pending(
        page.irr if irr is None else irr,
        page.isr if isr is None else isr,
        page.tpr if tpr is None else tpr,
        page.software_enabled,
    )


def processor_priority(page: Page) -> BvTerm:
    """PPR, 8 bits: the class in service where it is above TPR's, else TPR."""
    ppr = page.tpr
    for c in range(CLASSES):
        highest = z3.And(_of_class(page.isr, c), z3.UGT(c, priority_class(page.tpr)))
        ppr = z3.If(highest, z3.BitVecVal(16 * c, 8), ppr)
    return ppr


# VMRUN.


def entry(hw: Hardware, vcpu: Vcpu) -> Outcome:
    vmsa, vmcb = vcpu.vmsa, vcpu.vmcb
    invalid = z3.Or(
        z3.And(vmcb.event_inj, is_any(hw.event_injection, EventInjection.EVENT_FAILS)),
        z3.And(vmcb.update_irr, z3.Not(vmsa.enabled), is_any(hw.disabled, EntryDisabled.ENTRY_FAILS)),
    )
    fault = z3.And(vmsa.enabled, z3.Not(vcpu.mapped))
    free = z3.Not(vmsa.guest_busy)
    return Outcome(
        z3.And(free, z3.Not(invalid), z3.Not(fault)),
        vmsa.guest_busy,
        z3.And(free, invalid),
        z3.And(free, z3.Not(invalid), fault),
    )


def _uses_request(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    return z3.And(entry(hw, vcpu).runs, vcpu.vmsa.enabled, vcpu.vmcb.update_irr)


def _loses_request(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    """Secure AVIC is not enabled yet, and the request is gone."""
    lost = is_any(hw.disabled, EntryDisabled.REQUEST_LOST)
    return z3.And(entry(hw, vcpu).runs, z3.Not(vcpu.vmsa.enabled), vcpu.vmcb.update_irr, lost)


def injected(hw: Hardware, vcpu: Vcpu, v: BvTerm) -> BoolTerm:
    """``v`` enters IRR by the host's request."""
    asked = z3.And(has(vcpu.vmcb.requested_irr, v), has(vcpu.page.allowed_irr, v))
    return z3.And(_uses_request(hw, vcpu), asked)


def still_requested(hw: Hardware, vcpu: Vcpu, v: BvTerm) -> BoolTerm:
    left = z3.And(is_any(hw.not_allowed, NotAllowed.LEFT_REQUESTED), z3.Not(has(vcpu.page.allowed_irr, v)))
    stays = z3.Or(is_any(hw.requested, RequestedAfterEntry.REQUESTED_STAYS), left)
    kept = z3.Implies(_uses_request(hw, vcpu), stays)
    return z3.And(has(vcpu.vmcb.requested_irr, v), kept, z3.Not(_loses_request(hw, vcpu)))


def update_after_entry(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    used = z3.Or(_uses_request(hw, vcpu), _loses_request(hw, vcpu))
    return z3.And(vcpu.vmcb.update_irr, z3.Not(used))


def intr_after_entry(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    asked = vcpu.vmcb.requested_irr & vcpu.page.allowed_irr
    irr = vcpu.page.irr | z3.If(_uses_request(hw, vcpu), asked, NOTHING)
    found = z3.And(vcpu.vmsa.enabled, page_pending(vcpu.page, irr=irr))
    return z3.If(entry(hw, vcpu).runs, found, vcpu.v_intr)


def nmi_noticed_after_entry(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    found = z3.And(vcpu.vmsa.enabled, vcpu.page.nmi_request)
    return z3.If(entry(hw, vcpu).runs, found, vcpu.v_nmi)


def nmi_pending_after_entry(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    dropped = z3.And(
        entry(hw, vcpu).runs,
        z3.Not(nmis_allowed(vcpu)),
        is_any(hw.nmi_not_allowed, NmiNotAllowed.NMI_DROPPED),
    )
    return z3.And(vcpu.vmcb.v_nmi_pending, z3.Not(dropped))


# In the guest. Whatever touches the page while it is not mapped makes the vCPU busy and does nothing else.


def usable(vcpu: Vcpu) -> BoolTerm:
    return z3.And(vcpu.vmsa.enabled, z3.Not(vcpu.vmsa.guest_busy))


def works(vcpu: Vcpu) -> BoolTerm:
    return z3.And(usable(vcpu), vcpu.mapped)


def interruptible(vcpu: Vcpu) -> BoolTerm:
    vmsa = vcpu.vmsa
    return z3.And(vmsa.gif, vmsa.interrupt_flag, z3.Not(vmsa.interrupt_shadow), vcpu.v_intr)


def taken(vcpu: Vcpu, v: BvTerm) -> BoolTerm:
    """The guest is interrupted by ``v``."""
    page = vcpu.page
    first_of_class = wide(z3.Concat(priority_class(v), z3.BitVecVal(0, 4)), VECTORS)
    above = z3.And(
        z3.UGT(priority_class(v), priority_class(page.tpr)), z3.LShR(page.isr, first_of_class) == 0
    )
    return z3.And(works(vcpu), interruptible(vcpu), page.software_enabled, is_highest(page.irr, v), above)


def takes_any(vcpu: Vcpu) -> BoolTerm:
    return z3.And(works(vcpu), interruptible(vcpu), page_pending(vcpu.page))


def busy_after_delivery(vcpu: Vcpu) -> BoolTerm:
    fault = z3.And(usable(vcpu), interruptible(vcpu), z3.Not(vcpu.mapped))
    return z3.Or(vcpu.vmsa.guest_busy, fault)


def busy_after_access(vcpu: Vcpu) -> BoolTerm:
    return z3.Or(vcpu.vmsa.guest_busy, z3.And(usable(vcpu), z3.Not(vcpu.mapped)))


def reevaluated(vcpu: Vcpu, irr: Term = None, isr: Term = None, tpr: Term = None) -> BoolTerm:
    """V_INTR after an accelerated access that leaves this IRR, ISR or TPR behind."""
    return z3.If(works(vcpu), page_pending(vcpu.page, irr, isr, tpr), vcpu.v_intr)


def only(v: BvTerm) -> BvTerm:
    """The set of one vector."""
    return z3.BitVecVal(1, VECTORS) << wide(v, VECTORS)


# EOI.


def eoi_traps(vcpu: Vcpu) -> BoolTerm:
    """The highest vector in service is level-triggered: as numbers, the level ones outweigh the others."""
    level = vcpu.page.isr & vcpu.page.tmr
    return z3.And(works(vcpu), z3.UGT(level, vcpu.page.isr - level))


def retired(hw: Hardware, vcpu: Vcpu, v: BvTerm) -> BoolTerm:
    """The EOI takes ``v`` out of service."""
    by_hardware = z3.Or(z3.Not(has(vcpu.page.tmr, v)), is_any(hw.level_eoi, LevelEoi.HARDWARE_RETIRES))
    return z3.And(works(vcpu), is_highest(vcpu.page.isr, v), by_hardware)


def intr_after_eoi(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    """V_INTR after an EOI. If it retires a vector, nothing of a class or above is in service any more where
    there was one such vector at most."""
    page = vcpu.page
    by_hardware = is_any(hw.level_eoi, LevelEoi.HARDWARE_RETIRES)
    retires = z3.Or(z3.Not(eoi_traps(vcpu)), by_hardware)

    def clear_from(c: int) -> BoolTerm:
        above = z3.Extract(VECTORS - 1, 16 * c, page.isr)
        return z3.Or(above == 0, z3.And(retires, above & (above - 1) == 0))

    pending = [
        z3.And(_of_class(page.irr, c), z3.UGT(c, priority_class(page.tpr)), clear_from(c))
        for c in range(CLASSES)
    ]
    return z3.If(works(vcpu), z3.And(page.software_enabled, z3.Or(pending)), vcpu.v_intr)


# NMIs and HLT.


def nmis_allowed(vcpu: Vcpu) -> BoolTerm:
    return z3.And(vcpu.vmsa.enabled, vcpu.vmsa.allowed_nmi)


def host_nmi_due(vcpu: Vcpu) -> BoolTerm:
    return z3.And(vcpu.vmcb.v_nmi_pending, nmis_allowed(vcpu))


def own_nmi_due(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    needed = z3.Or(is_any(hw.nmi_request, NmiRequestNeeds.NOTHING), nmis_allowed(vcpu))
    return z3.And(vcpu.vmsa.enabled, vcpu.v_nmi, needed)


def nmi_open(vcpu: Vcpu) -> BoolTerm:
    vmsa = vcpu.vmsa
    return z3.And(vmsa.gif, vmsa.nmi_enable, z3.Not(vmsa.nmi_mask), z3.Not(vmsa.guest_busy))


def takes_host_nmi(vcpu: Vcpu) -> BoolTerm:
    return z3.And(nmi_open(vcpu), host_nmi_due(vcpu))


def takes_own_nmi(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    """The host's comes first; clearing the guest's request touches the page."""
    return z3.And(nmi_open(vcpu), z3.Not(host_nmi_due(vcpu)), own_nmi_due(hw, vcpu), vcpu.mapped)


def busy_after_nmi(hw: Hardware, vcpu: Vcpu) -> BoolTerm:
    due = z3.And(nmi_open(vcpu), z3.Not(host_nmi_due(vcpu)), own_nmi_due(hw, vcpu))
    return z3.Or(vcpu.vmsa.guest_busy, z3.And(due, z3.Not(vcpu.mapped)))


def halted(hw: Hardware, vcpu: Vcpu) -> BvTerm:
    """``Halted``, 2 bits."""
    nmi = z3.Or(host_nmi_due(vcpu), own_nmi_due(hw, vcpu))
    counts = z3.And(nmi, is_any(hw.nmi_and_halt, NmiAndHalt.NMI_WAKES))
    interrupt = z3.And(vcpu.vmsa.enabled, vcpu.v_intr)
    exits = z3.Or(z3.Not(vcpu.vmcb.idle_hlt), z3.Not(z3.Or(interrupt, counts)))
    goes_on = z3.Or(
        z3.And(interrupt, vcpu.vmsa.gif, vcpu.vmsa.interrupt_flag), z3.And(counts, nmi_open(vcpu))
    )
    leaves = z3.And(z3.Not(goes_on), is_any(hw.halt_without_if, HaltWithoutIf.HALT_EXITS))
    otherwise = z3.If(goes_on, z3.BitVecVal(GOES_ON, 2), z3.BitVecVal(SLEEPS, 2))
    return z3.If(z3.Or(exits, leaves), z3.BitVecVal(EXITS, 2), otherwise)
