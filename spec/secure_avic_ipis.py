"""Who gets an IPI of a Secure AVIC guest: the driver's requests, what each writes to which backing pages, and
whom the host wakes for it (x2apic_savic.c of 6.19, svm/sev.c of RFC v2).

The order of the accesses of one IPI to one vCPU is the model secure-avic's; here each request is one pass.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.apic import ApicMode, Vcpu
from avicheck.spec.apic_route import APIC_SHORT_MASK, kvm_apic_match_physical_addr
from avicheck.spec.lang import NULL, U8, record, rule, update
from avicheck.spec.secure_avic_driver import CPUS, CpuNumber, Cpus, CpuSet, DriverChange, ids, page_of
from avicheck.spec.secure_avic_hardware import only

SELF: Final = 0x40000
ALLINC: Final = 0x80000
ALLBUT: Final = 0xC0000
"""ICR bits 19:18, the shorthands."""
DELIVERY: Final = 0x700
NMI: Final = 0x400
"""ICR bits 10:8, the delivery mode."""
NMI_VECTOR: Final = 2
EVERY_CPU: Final = (1 << CPUS) - 1


class Request(Enum):
    """The operations of ``struct apic`` that send IPIs."""

    ONE = "send_IPI: to one CPU"
    MASK = "send_IPI_mask: to a set of CPUs"
    MASK_ALLBUTSELF = "send_IPI_mask_allbutself: to a set of CPUs without the sender"
    ALLBUTSELF = "send_IPI_allbutself: to all online CPUs without the sender"
    ALL = "send_IPI_all: to all online CPUs"
    SELF = "send_IPI_self: to the sender"


class SelfNmi(Enum):
    """What an ICR write with the shorthand for self and delivery mode NMI does (O-SELFNMI)."""

    SELF_NMI_TAKEN = "the hardware sets NmiRequest and evaluates the page"
    SELF_NMI_TRAPS = "it is an incomplete IPI: a #VC, which the guest's handler does not know"


class IpiFault(Enum):
    """Planted faults."""

    WITH_SELF = "send_ipi_mask() does not leave the sender out"
    NO_NOTICE = "an IPI to all but the sender is not noticed to the host"
    EXTRA_NOTICE = "an IPI to the sender itself is noticed to the host"


@record
class Ipi:
    """A request in any topology. ``vector`` is ``NMI_VECTOR`` for an NMI; ``cpu`` and ``mask`` say to whom,
    as far as the request asks; ``watched`` is an arbitrary vector."""

    changes: frozenset[DriverChange]
    faults: frozenset[IpiFault]
    self_nmi: SelfNmi
    cpus: Cpus
    online: CpuSet
    sender: CpuNumber
    request: Request
    cpu: CpuNumber
    mask: CpuSet
    vector: U8
    watched: U8


@record
class Sent:
    """What was done: on whose page the watched vector's bit of IRR was set, on whose NmiRequest; whom the
    host woke, by how many VMGEXITs; whether the hardware evaluated the sender's page at once, whether memory
    beyond all pages was written, and whether the guest got a #VC that it does not know."""

    irr: int
    nmi_request: int
    woken: int
    notices: int
    evaluated: bool
    beyond: bool
    trapped: bool


# The host.


@rule
def in_x2apic_mode(apic_id: int) -> Vcpu:
    """A vCPU's APIC as KVM sees it: a Secure AVIC guest runs in x2APIC mode only."""
    return Vcpu(apic_id, ApicMode.X2APIC, 0, 0, 0, True, 0)


@rule
def kvm_apic_match_dest(ipi: Ipi, cpu: int, icr_low: int, icr_high: int) -> bool:
    """lapic.c, with a physical destination, as the driver sends them."""
    shorthand = icr_low & APIC_SHORT_MASK
    if shorthand != 0:
        return shorthand == ALLINC or (cpu == ipi.sender) == (shorthand == SELF)
    return kvm_apic_match_physical_addr(in_x2apic_mode(ids(ipi.cpus)[cpu]), icr_high)


@rule
def savic_handle_icr_write(ipi: Ipi, sent: Sent, icr_low: int, icr_high: int) -> Sent:
    """sev.c: the flag of every vCPU that matches is set, and its doorbell rung or the vCPU kicked."""
    woken = sent.woken
    for cpu in range(CPUS):
        woken |= only(cpu) if kvm_apic_match_dest(ipi, cpu, icr_low, icr_high) else 0
    return update(sent, woken=woken, notices=sent.notices + 1)


# The driver.


@rule
def send_ipi_dest(ipi: Ipi, sent: Sent, page: int, vector: int, nmi: bool) -> Sent:
    """The page's bit of IRR, or its NmiRequest."""
    if page == NULL:
        return update(sent, beyond=True)
    if nmi:
        return update(sent, nmi_request=sent.nmi_request | only(page))
    return update(sent, irr=sent.irr | only(page)) if vector == ipi.watched else sent


@rule
def send_ipi_allbut(ipi: Ipi, sent: Sent, vector: int, nmi: bool) -> Sent:
    """Every online CPU's page but the own, by CPU number."""
    for cpu in range(CPUS):
        addressed = (ipi.online >> cpu) & 1 == 1 and cpu != ipi.sender
        sent = send_ipi_dest(ipi, sent, cpu, vector, nmi) if addressed else sent
    return sent


@rule
def self_ipi(ipi: Ipi, sent: Sent, vector: int, nmi: bool) -> Sent:
    """WRMSR ICR with the shorthand for self, which the hardware carries out."""
    in_memory = nmi and DriverChange.OWN_REQUEST in ipi.changes
    if nmi and not in_memory and ipi.self_nmi == SelfNmi.SELF_NMI_TRAPS:
        return update(sent, trapped=True)
    return update(send_ipi_dest(ipi, sent, ipi.sender, vector, nmi), evaluated=not in_memory)


@rule
def savic_icr_write(ipi: Ipi, sent: Sent, icr_low: int, icr_high: int) -> Sent:
    """Pages first, then one notice, unless the IPI is for the sender alone."""
    shorthand = icr_low & APIC_SHORT_MASK
    vector, nmi = icr_low & 0xFF, icr_low & DELIVERY == NMI
    if shorthand in (SELF, ALLINC):
        sent = self_ipi(ipi, sent, vector, nmi)
    if shorthand in (ALLBUT, ALLINC):
        sent = send_ipi_allbut(ipi, sent, vector, nmi)
    if shorthand == 0:
        sent = send_ipi_dest(ipi, sent, page_of(ipi.changes, ipi.cpus, icr_high), vector, nmi)
    if shorthand == SELF or (shorthand == ALLBUT and IpiFault.NO_NOTICE in ipi.faults):
        return sent
    return savic_handle_icr_write(ipi, sent, icr_low, icr_high)


@rule
def prepare_icr(shorthand: int, vector: int) -> int:
    """asm/apic.h __prepare_ICR, physical: NMIs carry no vector."""
    return shorthand | (NMI if vector == NMI_VECTOR else vector)


@rule
def send_ipi_mask(ipi: Ipi, sent: Sent, exclude_self: bool) -> Sent:
    """One IPI, and one notice, for each CPU, also for the sender itself."""
    for cpu in range(CPUS):
        left_out = exclude_self and cpu == ipi.sender and IpiFault.WITH_SELF not in ipi.faults
        if (ipi.mask >> cpu) & 1 == 1 and not left_out:
            sent = savic_icr_write(ipi, sent, prepare_icr(0, ipi.vector), ids(ipi.cpus)[cpu])
    return sent


@rule
def send(ipi: Ipi) -> Sent:
    """What a request does. SELF_IPI is written for the sender alone, whatever the vector is."""
    nothing = Sent(0, 0, 0, 0, False, False, False)
    if ipi.request == Request.ONE:
        return savic_icr_write(ipi, nothing, prepare_icr(0, ipi.vector), ids(ipi.cpus)[ipi.cpu])
    if ipi.request == Request.MASK or ipi.request == Request.MASK_ALLBUTSELF:
        return send_ipi_mask(ipi, nothing, ipi.request == Request.MASK_ALLBUTSELF)
    if ipi.request == Request.ALLBUTSELF:
        return savic_icr_write(ipi, nothing, prepare_icr(ALLBUT, ipi.vector), 0)
    if ipi.request == Request.ALL:
        return savic_icr_write(ipi, nothing, prepare_icr(ALLINC, ipi.vector), 0)
    sent = self_ipi(ipi, nothing, ipi.vector, False)
    if IpiFault.EXTRA_NOTICE in ipi.faults:
        return savic_handle_icr_write(ipi, sent, prepare_icr(SELF, ipi.vector), 0)
    return sent


# Who is meant.


@rule
def addressed(ipi: Ipi) -> int:
    """The CPUs that a request is for."""
    others = EVERY_CPU & ~only(ipi.sender)
    if ipi.request == Request.ONE:
        return only(ipi.cpu)
    if ipi.request == Request.MASK:
        return ipi.mask
    if ipi.request == Request.MASK_ALLBUTSELF:
        return ipi.mask & others
    if ipi.request == Request.ALLBUTSELF:
        return ipi.online & others
    return ipi.online | only(ipi.sender) if ipi.request == Request.ALL else only(ipi.sender)
