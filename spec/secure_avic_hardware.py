"""The hardware of Secure AVIC: what VMRUN, the doorbell and the guest's accelerated accesses do to a vCPU."""

from __future__ import annotations

from avicheck.spec.lang import NULL, record, rule, update
from avicheck.spec.secure_avic import (
    EntryDisabled,
    EventInjection,
    Exit,
    Halted,
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
    Vmcb,
)

# Sets of vectors.


@record
class Search:
    """A search for the highest vector: what is left of the set, and what is known of the vector."""

    vectors: int
    found: int


@rule
def halve(search: Search, bits: int) -> Search:
    """The upper part of the set, if anything is there."""
    above = search.vectors >> bits
    if above != 0:
        return Search(above, search.found + bits)
    return search


@rule
def highest(vectors: int) -> int:
    """The highest vector of a set, ``NULL`` if it is empty."""
    if vectors == 0:
        return NULL
    search = Search(vectors, 0)
    for bits in (128, 64, 32, 16, 8, 4, 2, 1):
        search = halve(search, bits)
    return search.found


def only(vector: int) -> int:
    """The set of one vector."""
    return 1 << vector


@rule
def without(vectors: int, vector: int) -> int:
    """A set with a vector taken out that may be in it."""
    return vectors & (vectors ^ only(vector))


# Priorities.


@rule
def ppr(page: Page) -> int:
    """The processor priority: TPR, or the class of the highest vector in service where that is above."""
    isrv = highest(page.isr)
    if isrv != NULL and isrv >> 4 > page.tpr >> 4:
        return (isrv >> 4) << 4
    return page.tpr


@rule
def pending(page: Page) -> int:
    """The vector to be delivered next, ``NULL`` if none is above the processor's priority."""
    vector = highest(page.irr)
    if page.software_enabled and vector != NULL and vector >> 4 > ppr(page) >> 4:
        return vector
    return NULL


@rule
def evaluated(vcpu: Vcpu) -> Vcpu:
    """The page evaluated again: V_INTR and the guest's NmiRequest, as at VMRUN and at a doorbell."""
    v_intr = vcpu.vmsa.enabled and pending(vcpu.page) != NULL
    return update(vcpu, v_intr=v_intr, v_nmi=vcpu.vmsa.enabled and vcpu.page.nmi_request)


# VMRUN.


@record
class Entry:
    """How a VMRUN ends, and what it leaves behind."""

    exit: Exit
    vcpu: Vcpu


@rule
def busy(vcpu: Vcpu) -> Vcpu:
    """A fault on the backing page cannot be restarted: the vCPU stays busy."""
    return update(vcpu, vmsa=update(vcpu.vmsa, guest_busy=True))


@rule
def nmis_allowed(vcpu: Vcpu) -> bool:
    """Whether the guest lets the host's NMIs in."""
    return vcpu.vmsa.enabled and vcpu.vmsa.allowed_nmi


@rule
def vmcb_after(hw: Hardware, vcpu: Vcpu) -> Vmcb:
    """What a VMRUN that enters the guest leaves of the host's requests."""
    vmcb = vcpu.vmcb
    if hw.nmi_not_allowed == NmiNotAllowed.NMI_DROPPED and not nmis_allowed(vcpu):
        vmcb = update(vmcb, v_nmi_pending=False)
    if not vmcb.update_irr:
        return vmcb
    if not vcpu.vmsa.enabled:
        lost = hw.disabled == EntryDisabled.REQUEST_LOST
        return update(vmcb, requested_irr=0, update_irr=False) if lost else vmcb
    if hw.requested == RequestedAfterEntry.REQUESTED_STAYS:
        return update(vmcb, update_irr=False)
    refused = vmcb.requested_irr & (vmcb.requested_irr ^ vcpu.page.allowed_irr)
    left = refused if hw.not_allowed == NotAllowed.LEFT_REQUESTED else 0
    return update(vmcb, requested_irr=left, update_irr=False)


@rule
def page_after(vcpu: Vcpu) -> Page:
    """IRR takes in what the host requests and the guest allows."""
    if vcpu.vmcb.update_irr and vcpu.vmsa.enabled:
        asked = vcpu.vmcb.requested_irr & vcpu.page.allowed_irr
        return update(vcpu.page, irr=vcpu.page.irr | asked)
    return vcpu.page


@rule
def refused(hw: Hardware, vcpu: Vcpu) -> bool:
    """Whether VMRUN fails for what the host asks for."""
    if vcpu.vmcb.event_inj and hw.event_injection == EventInjection.EVENT_FAILS:
        return True
    fails = hw.disabled == EntryDisabled.ENTRY_FAILS
    return vcpu.vmcb.update_irr and not vcpu.vmsa.enabled and fails


@rule
def vmrun(hw: Hardware, vcpu: Vcpu) -> Entry:
    """VMRUN: the request is merged, then the page evaluated, whether or not there was a request."""
    if vcpu.vmsa.guest_busy:
        return Entry(Exit.BUSY, vcpu)
    if refused(hw, vcpu):
        return Entry(Exit.INVALID, vcpu)
    if vcpu.vmsa.enabled and not vcpu.mapped:
        return Entry(Exit.NOT_RESTARTABLE, busy(vcpu))
    merged = update(vcpu, page=page_after(vcpu), vmcb=vmcb_after(hw, vcpu))
    return Entry(Exit.NONE, evaluated(merged))


# In the guest.


@rule
def usable(vcpu: Vcpu) -> bool:
    """Whether an accelerated access reaches the page, or faults on it."""
    return vcpu.vmsa.enabled and not vcpu.vmsa.guest_busy


@rule
def accessed(vcpu: Vcpu, page: Page) -> Vcpu:
    """An accelerated write: the page is changed and interrupts are evaluated again."""
    if not usable(vcpu):
        return vcpu
    if not vcpu.mapped:
        return busy(vcpu)
    return update(vcpu, page=page, v_intr=pending(page) != NULL)


@rule
def doorbell(vcpu: Vcpu) -> Vcpu:
    """The doorbell reaches the pCPU while it runs the vCPU's guest."""
    if not usable(vcpu):
        return vcpu
    return evaluated(vcpu) if vcpu.mapped else busy(vcpu)


@record
class Taken:
    """A vector that the guest is interrupted by, ``NULL`` if none, and the vCPU after that."""

    vector: int
    vcpu: Vcpu


@rule
def take_interrupt(vcpu: Vcpu) -> Taken:
    """Delivery: from IRR to ISR. What becomes of RFLAGS.IF is up to the guest's gate."""
    vmsa = vcpu.vmsa
    if not (usable(vcpu) and vmsa.gif and vmsa.interrupt_flag and not vmsa.interrupt_shadow and vcpu.v_intr):
        return Taken(NULL, vcpu)
    if not vcpu.mapped:
        return Taken(NULL, busy(vcpu))
    vector = pending(vcpu.page)
    return Taken(vector, vcpu if vector == NULL else accessed(vcpu, served(vcpu.page, vector)))


@rule
def served(page: Page, vector: int) -> Page:
    """A vector goes from IRR into service."""
    return update(page, irr=without(page.irr, vector), isr=page.isr | only(vector))


@rule
def self_ipi(vcpu: Vcpu, vector: int) -> Vcpu:
    """WRMSR SELF_IPI, or ICR with the shorthand for self and a fixed vector."""
    return accessed(vcpu, update(vcpu.page, irr=vcpu.page.irr | only(vector)))


@rule
def write_tpr(vcpu: Vcpu, tpr: int) -> Vcpu:
    """WRMSR TPR."""
    return accessed(vcpu, update(vcpu.page, tpr=tpr))


@record
class Eoi:
    """Whether the EOI traps to the guest's #VC handler, and the vCPU after it."""

    traps: bool
    vcpu: Vcpu


@rule
def write_eoi(hw: Hardware, vcpu: Vcpu) -> Eoi:
    """WRMSR EOI: edge-triggered vectors are retired, level-triggered ones trap."""
    page, vector = vcpu.page, highest(vcpu.page.isr)
    level = vector != NULL and (page.tmr >> vector) & 1 == 1
    if vector == NULL or (level and hw.level_eoi == LevelEoi.SOFTWARE_RETIRES):
        after = accessed(vcpu, page)
    else:
        after = accessed(vcpu, update(page, isr=without(page.isr, vector)))
    return Eoi(level and usable(vcpu) and vcpu.mapped, after)


# NMIs and HLT.


@rule
def host_nmi_due(vcpu: Vcpu) -> bool:
    """The host has an NMI for the guest, which allows them."""
    return vcpu.vmcb.v_nmi_pending and nmis_allowed(vcpu)


@rule
def own_nmi_due(hw: Hardware, vcpu: Vcpu) -> bool:
    """The guest has an NMI for itself."""
    allowed = hw.nmi_request == NmiRequestNeeds.NOTHING or nmis_allowed(vcpu)
    return vcpu.vmsa.enabled and vcpu.v_nmi and allowed


@rule
def nmi_open(vcpu: Vcpu) -> bool:
    """Whether an NMI can be taken now."""
    vmsa = vcpu.vmsa
    return vmsa.gif and vmsa.nmi_enable and not vmsa.nmi_mask and not vmsa.guest_busy


@record
class TakenNmi:
    """Whether an NMI is taken, and the vCPU after that."""

    taken: bool
    vcpu: Vcpu


@rule
def take_nmi(hw: Hardware, vcpu: Vcpu) -> TakenNmi:
    """A virtual NMI: the host's first, then the guest's own; each is one NMI."""
    if not nmi_open(vcpu):
        return TakenNmi(False, vcpu)
    masked = update(vcpu.vmsa, nmi_mask=True)
    if host_nmi_due(vcpu):
        return TakenNmi(True, update(vcpu, vmsa=masked, vmcb=update(vcpu.vmcb, v_nmi_pending=False)))
    if not own_nmi_due(hw, vcpu):
        return TakenNmi(False, vcpu)
    if not vcpu.mapped:
        return TakenNmi(False, busy(vcpu))
    page = update(vcpu.page, nmi_request=False)
    return TakenNmi(True, update(vcpu, vmsa=masked, page=page, v_nmi=False))


@rule
def halt(hw: Hardware, vcpu: Vcpu) -> Halted:
    """HLT. The test for pending events and the exit are one step, with no other exit between them."""
    nmi = hw.nmi_and_halt == NmiAndHalt.NMI_WAKES and (host_nmi_due(vcpu) or own_nmi_due(hw, vcpu))
    interrupt = vcpu.vmsa.enabled and vcpu.v_intr
    if not vcpu.vmcb.idle_hlt or not (interrupt or nmi):
        return Halted.EXITS
    if interrupt and vcpu.vmsa.gif and vcpu.vmsa.interrupt_flag:
        return Halted.GOES_ON
    if nmi and nmi_open(vcpu):
        return Halted.GOES_ON
    return Halted.EXITS if hw.halt_without_if == HaltWithoutIf.HALT_EXITS else Halted.SLEEPS
