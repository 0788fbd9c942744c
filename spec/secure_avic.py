"""AMD's Secure AVIC: the state that its rules are about, and what the sources leave open about the hardware.

Facts are second hand (the cover letter and patches of the KVM series "AMD: Add Secure AVIC KVM Support", RFC
v2, the guest driver arch/x86/kernel/apic/x2apic_savic.c and the selftests): the manual's own chapter was not
at hand. Where they are silent, an enumeration says what the alternatives are; its first member is assumed
unless somebody chooses another.
"""

from __future__ import annotations

from enum import Enum

from avicheck.spec.lang import U8, VectorSet, record

# What is left open.


class RequestedAfterEntry(Enum):
    """What VMRUN does to RequestedIRR once it has been used (O-REQCLR)."""

    REQUESTED_CLEARED = "VMRUN clears RequestedIRR together with UpdateIRR"
    REQUESTED_STAYS = "VMRUN clears UpdateIRR alone"


class NotAllowed(Enum):
    """What becomes of a requested vector that the guest does not allow (O-DROP)."""

    DROPPED = "a requested vector that is not allowed is dropped"
    LEFT_REQUESTED = "a requested vector that is not allowed stays in RequestedIRR"


class EntryDisabled(Enum):
    """What a VMRUN with UpdateIRR does while the guest has not enabled Secure AVIC (O-EN0)."""

    REQUEST_LOST = "RequestedIRR and UpdateIRR are cleared without effect"
    REQUEST_WAITS = "RequestedIRR and UpdateIRR stay until Secure AVIC is enabled"
    ENTRY_FAILS = "VMRUN fails"


class EventInjection(Enum):
    """What a VMRUN with a valid event_inj does (O-EVTINJ)."""

    EVENT_IGNORED = "the event is ignored"
    EVENT_FAILS = "VMRUN fails"


class LevelEoi(Enum):
    """Who takes a level-triggered vector out of service at its EOI, which traps (O-EOIISR)."""

    SOFTWARE_RETIRES = "the #VC handler or the driver clears its ISR bit"
    HARDWARE_RETIRES = "the hardware has cleared its ISR bit when the EOI traps"


class HaltWithoutIf(Enum):
    """What HLT does with a pending interrupt that RFLAGS.IF = 0 holds off, under idle-HLT (O-HLTIF)."""

    HALT_STAYS = "the vCPU sleeps in guest mode"
    HALT_EXITS = "the vCPU exits"


class NmiNotAllowed(Enum):
    """What becomes of the host's NMI while AllowedNMI is 0 (O-NMIDROP)."""

    NMI_DROPPED = "VMRUN clears V_NMI_PENDING"
    NMI_LEFT_PENDING = "V_NMI_PENDING stays"


class NmiRequestNeeds(Enum):
    """Whether the guest's own NmiRequest needs AllowedNMI (O-NMIREQALW)."""

    NOTHING = "NmiRequest gives an NMI whatever AllowedNMI is"
    ALLOWED_NMI = "NmiRequest gives an NMI only while AllowedNMI is 1"


class NmiAndHalt(Enum):
    """Whether a pending virtual NMI counts for the idle-HLT intercept (O-NMIHLT)."""

    NMI_WAKES = "HLT does not exit while a virtual NMI is pending"
    NMI_IGNORED = "HLT exits whether or not a virtual NMI is pending"


class ExitIntInfo(Enum):
    """Whether EXITINTINFO reports an event whose delivery an exit interrupts (O-EII)."""

    NOT_REPORTED = "EXITINTINFO is not valid: the hardware keeps the event to itself"
    REPORTED = "EXITINTINFO is valid, as without Secure AVIC"


@record
class Hardware:
    """One choice for each open point."""

    requested: RequestedAfterEntry
    not_allowed: NotAllowed
    disabled: EntryDisabled
    event_injection: EventInjection
    level_eoi: LevelEoi
    halt_without_if: HaltWithoutIf
    nmi_not_allowed: NmiNotAllowed
    nmi_request: NmiRequestNeeds
    nmi_and_halt: NmiAndHalt


# The state.


@record
class Page:
    """What the rules read and write of the guest's APIC backing page."""

    irr: VectorSet
    isr: VectorSet
    tmr: VectorSet
    allowed_irr: VectorSet
    tpr: U8
    software_enabled: bool
    """SPIV bit 8."""
    nmi_request: bool


@record
class Vmsa:
    """What they read and write of the VMSA, which is the guest's and the hardware's. ``enabled`` and
    ``allowed_nmi`` are bits of SAVIC_CTL; ``interrupt_flag`` is RFLAGS.IF."""

    enabled: bool
    allowed_nmi: bool
    gif: bool
    nmi_enable: bool
    nmi_mask: bool
    interrupt_flag: bool
    interrupt_shadow: bool
    guest_busy: bool


@record
class Vmcb:
    """What the host asks for, in memory that it can write at any time."""

    requested_irr: VectorSet
    update_irr: bool
    v_nmi_pending: bool
    event_inj: bool
    """The valid bit of event_inj."""
    idle_hlt: bool
    """HLT is intercepted by the idle-HLT intercept; by the plain one, if not."""


@record
class Vcpu:
    """A vCPU of a Secure AVIC guest as the hardware that runs it sees it."""

    page: Page
    vmsa: Vmsa
    vmcb: Vmcb
    mapped: bool
    """The backing page is present in the nested page table and validated in the RMP."""
    v_intr: bool
    """The last evaluation of the backing page found an interrupt to deliver."""
    v_nmi: bool
    """The last evaluation of the backing page found NmiRequest set."""


class Exit(Enum):
    """What comes of a VMRUN or of an access to the backing page."""

    NONE = "the guest runs"
    BUSY = "VMEXIT_BUSY: the VMSA's busy bit is set"
    INVALID = "VMEXIT_INVALID"
    NOT_RESTARTABLE = "a fault on the backing page: the busy bit is set, and the vCPU never runs again"


class Halted(Enum):
    """What HLT does."""

    GOES_ON = "the pending event is delivered"
    SLEEPS = "the vCPU sleeps in guest mode"
    EXITS = "HLT is intercepted"
