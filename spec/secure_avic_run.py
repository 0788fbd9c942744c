"""The model secure-avic: one vCPU of a Secure AVIC guest while IPIs and device interrupts come to it.

What is shared, and what the model is built with. Five vectors stand for all, each a priority class of its
own; ``spec.secure_avic_hardware`` has the rules for all 256. The scope gives ``senders``, the vCPUs that send
IPIs.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.lang import Range, rule
from avicheck.spec.memory import Reg, Var, local, shared
from avicheck.spec.threads import Thread

DISALLOWED: Final = 1
"""A device's vector that the guest does not allow. Priorities rise from here."""
IPI: Final = 2
EDGE: Final = 4
LEVEL_A: Final = 8
LEVEL_B: Final = 16
LEVELS: Final = LEVEL_A | LEVEL_B
ALLOWED: Final = EDGE | LEVELS
VECTORS: Final = (DISALLOWED, IPI, EDGE, LEVEL_A, LEVEL_B)
"""Each as a set of one."""

Vectors: TypeAlias = Annotated[int, Range(0, 31)]
Few: TypeAlias = Annotated[int, Range(0, 2)]


class Traffic(Enum):
    """Which interrupts there are."""

    IPIS = "the senders send IPIs"
    EDGES = "a device sends an edge-triggered interrupt that the guest allows"
    REFUSED = "a device sends an interrupt that the guest does not allow"
    LEVEL_ONE = "a device raises the IOAPIC's line of vector A"
    LEVEL_TWO = "a device raises the IOAPIC's line of vector B, which is above A"
    WITHDRAWN = "the guest has withdrawn vector B from ALLOWED_IRR, though its line may still be raised"
    EXTINT = "the PIC's output is high all the time, and LVT0 lets it in"
    DESTROY = "another vCPU destroys the target (SVM_VMGEXIT_AP_DESTROY), as Linux does before kexec"
    HOSTILE = "the guest makes any exit at any time, and its other vCPUs send notices without IPIs"
    ONCE = "each sender sends, and each interrupt comes, only once"


# What is left open about the hardware and the guest, besides the points of ``spec.secure_avic``.


class Intercept(Enum):
    """How HLT is intercepted. Nothing in the series requires the idle-HLT intercept."""

    IDLE_HLT = "HLT exits only with no event pending"
    PLAIN_HLT = "HLT always exits"


class HaltTest(Enum):
    """Whether another exit can come between the idle-HLT test and the HLT exit (SAV-C06)."""

    TEST_IS_ATOMIC = "the test and the exit are one step"
    TEST_IS_NOT_ATOMIC = "an interrupt can make the vCPU exit in between, and HLT exits after that"


class EntryFence(Enum):
    """Whether VMRUN waits for the host's stores before it reads the backing page (O-FENCE)."""

    ENTRY_DRAINS = "VMRUN drains the store buffer"
    ENTRY_OVERTAKES = "VMRUN may read the backing page while the host's stores wait"


class IrrUpdate(Enum):
    """How the hardware adds to IRR while other vCPUs set bits in it (O-HWATOM)."""

    UPDATE_LOCKED = "in one locked operation"
    UPDATE_SPLIT = "by a read and a later write"


class CleanBits(Enum):
    """Whether a clean bit of the VMCB covers RequestedIRR and UpdateIRR (O-CLEAN)."""

    REQUEST_READ = "VMRUN reads them from memory"
    REQUEST_CACHED = "VMRUN may use what the CPU has kept of them, unless they are marked dirty"


class Tmr(Enum):
    """Who sets TMR in the backing page (O-TMR): the driver does not."""

    TMR_NEVER_SET = "nobody: every EOI is that of an edge"
    TMR_IS_RIGHT = "the bits of the level-triggered vectors are set"


class Gate(Enum):
    """Whether handlers can be interrupted."""

    HANDLERS_MASKED = "handlers run with RFLAGS.IF = 0"
    HANDLERS_NEST = "handlers run with RFLAGS.IF = 1"


class SpivNotice(Enum):
    """Whether the guest tells KVM that it enables its APIC. The driver of 6.19 does not."""

    SPIV_SENT = "SPIV is sent by VMGEXIT"
    SPIV_NOT_SENT = "SPIV is written to the backing page alone"


# What may be different in the code.


class Series(Enum):
    """What RFC v1 of the series has and v2 has not, by patch."""

    SPIV_FORCED = "KVM: x86: Secure AVIC: kvm_apic_sw_enabled() is always true (v1 15/19)"
    PIC_GUARD = "KVM: x86: Secure AVIC: kvm_cpu_has_extint() is always 0 (v1 08/19)"


class Change(Enum):
    """Changes to the series that would close a finding."""

    EXACT_EOI = "the guest's EOI notice names the vector, and the host ends that one"
    NEEDS_VMSA = "svm_interrupt_allowed() is 0 while the vCPU has no VMSA"
    MARKED_DIRTY = "sev_savic_set_requested_irr() marks RequestedIRR and UpdateIRR dirty"
    ONE_LEVEL = "no level-triggered vector is requested while another one is in the shadow ISR"


class Fault(Enum):
    """Planted faults: what a property must notice."""

    NO_STICKY = "the ICR write does not set sev_savic_has_pending_ipi"
    NO_DOORBELL = "the ICR write does not ring the doorbell"
    NO_KICK = "the ICR write does not kick a vCPU that is not in guest mode"
    NO_ICR_BARRIER = "no smp_mb between setting the flag and reading the mode"
    NO_PENDING_BARRIER = "no smp_mb in sev_savic_has_pending_interrupt"
    NO_STATE_BARRIER = "no barrier in set_current_state"
    NOTICE_FIRST = "the sender notifies the host before it sets the target's IRR bit"
    CLEAR_ALL = "the whole word of APIC_IRR is cleared, not each vector that was read"
    NO_EVENT = "delivery to a vCPU does not make KVM_REQ_EVENT"
    NO_UPDATE = "UpdateIRR is not set"
    STICKY_STAYS = "pre_sev_run does not clear the flag"
    READS_AGAIN = "sev_savic_set_requested_irr goes on until APIC_IRR is empty"
    NO_FILTER = "the hardware takes requested vectors that are not allowed"


class Mode(Enum):
    """``vcpu->mode``."""

    OUTSIDE_GUEST_MODE = "outside"
    IN_GUEST_MODE = "in guest mode"
    EXITING_GUEST_MODE = "exiting"


class Where(Enum):
    """What the physical CPU does that the target's thread is on."""

    HOST = "runs the host, interrupts on"
    BETWEEN = "runs the host, interrupts off, before or after the guest"
    GUEST = "runs the guest"


class ExitReason(Enum):
    """Why the vCPU left the guest."""

    INTR = "a physical interrupt"
    HLT = "HLT"
    EOI = "VMGEXIT: APIC_EOI is written"
    RTE = "VMGEXIT: the redirection entry is written as edge, then as level"


@shared
class Savic:
    """The target's backing page, its VMCB and latches, KVM's state of it, and the IOAPIC's of its lines.

    A field is a register here if no store buffer matters: IRR because software changes it by locked
    operations only, and the hardware past all buffers; others because one CPU alone uses them."""

    irr: Reg[Vectors]
    isr: Reg[Vectors]
    requested_irr: Reg[Vectors]
    update_irr: Reg[bool]
    shadow_isr: Reg[Vectors]
    v_intr: Reg[bool]
    where: Reg[Where]
    doorbell: Reg[bool]
    """On its way to the CPU."""
    kick: Reg[bool]
    """A reschedule IPI is on its way to the CPU."""
    kvm_irr: Var[Vectors]
    has_pending_ipi: Var[bool]
    request_event: Var[bool]
    mode: Var[Mode]
    asleep: Var[bool]
    """The thread's task state is TASK_INTERRUPTIBLE."""
    request_state: Reg[bool]
    """KVM_REQ_UPDATE_PROTECTED_GUEST_STATE: the VMSA is to be replaced, here by none."""
    vmsa: Reg[bool]
    """The vCPU has a VMSA."""
    line: Reg[Vectors]
    remote_irr: Reg[Vectors]
    owed: Reg[Vectors]
    """History: KVM has accepted it, and not yet moved it to RequestedIRR."""
    promised: Reg[Vectors]
    """History: KVM has moved it to RequestedIRR, and no VMRUN has used that yet."""
    raised: Reg[Vectors]
    """History: it has been set in IRR, and not been delivered since."""
    unasked: Reg[bool]
    """History: a VMRUN has taken a vector in that KVM had not accepted since the last time."""
    failed: Reg[bool]
    """History: an entry without a VMSA, which ends the VM (KVM_EXIT_FAIL_ENTRY)."""
    spurious: Reg[Few]
    """History: how often the sticky flag ended HLT for nothing since the last notice of an IPI."""
    wrong_eoi: Reg[bool]
    """History: the host ended another vector than the guest did."""
    unheard: Reg[bool]
    """History: KVM has refused a device's interrupt, for it takes the APIC as disabled by software."""
    warned: Reg[bool]
    """History: KVM found an interrupt to inject, but no vector (kvm_check_and_inject_events warns)."""
    no_eoi: Reg[bool]
    """History: the host looked for a vector to end, and there was none."""


class Point(Enum):
    """Where the guest goes on."""

    RUNS = "in no handler, interrupts enabled"
    HANDLES = "at the start of a handler"
    ENDS = "in a handler, before EOI"
    REWRITES = "in a level handler, after EOI, before the redirection entry is rewritten"
    HALT_TESTED = "in HLT, after the test for pending events"


@local
class Target:
    """The local variables of the target's thread: ``val`` of sev_savic_set_requested_irr, what VMRUN has read
    of IRR, the vector that the guest ends and the one that the host ends, interrupt.injected, whether an
    immediate exit is asked for, why the guest was left and where it goes on."""

    val: Vectors = 0
    seen: Vectors = 0
    served: Vectors = 0
    ended: Vectors = 0
    injected: bool = False
    immediate: bool = False
    reason: ExitReason = ExitReason.INTR
    point: Point = Point.RUNS


@local
class Notice:
    """The local variables of who brings an interrupt: its vector, and which have been brought."""

    vector: Vectors = 0
    brought: Vectors = 0


@local
class Nothing:
    """No local variables."""


TARGET: Final = Thread("target", Target, source="arch/x86/kvm/x86.c vcpu_enter_guest")
SENDER: Final = Thread("sender", Notice, count="senders", source="x2apic_savic.c savic_icr_write")
DEVICE: Final = Thread("device", Notice, source="lapic.c __apic_accept_irq")
DESTROYER: Final = Thread("destroyer", Nothing, buffered=False, source="sev.c sev_snp_ap_creation")
WIRES: Final = Thread("wires", Nothing, buffered=False, source="Secure AVIC hardware")


# Sets of few vectors.


@rule
def highest_of(vectors: int) -> int:
    """The highest vector of a set, as a set of one; the empty set if there is none."""
    for vector in reversed(VECTORS):
        if vectors & vector:
            return vector
    return 0


@rule
def lowest_of(vectors: int) -> int:
    """The lowest vector of a set, as a set of one; the empty set if there is none."""
    for vector in VECTORS:
        if vectors & vector:
            return vector
    return 0


@rule
def next_of(irr: int, isr: int) -> int:
    """The vector to be delivered next, as a set of one: above everything in service."""
    vector = highest_of(irr)
    return vector if vector > isr else 0
