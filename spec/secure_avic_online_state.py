"""The state of the model secure-avic-online, and what it is built with."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.cpu import Cpu
from avicheck.spec.lang import Range
from avicheck.spec.memory import Reg, Register, local, shared
from avicheck.spec.threads import Thread

DEVICE: Final = 1
"""The vector that the device has on this CPU. Priorities rise from here."""
MOVED: Final = 2
"""The one that it gets on another CPU. Here the guest never allows it."""
IPI: Final = 4
TIMER: Final = 8
"""Above IPIs, so that a storm of them does not keep it waiting."""
VECTORS: Final = (DEVICE, MOVED, IPI, TIMER)
"""Each as a set of one."""

Vectors: TypeAlias = Annotated[int, Range(0, 15)]


class Masking(Enum):
    """Whether the device's interrupt can be masked while it is moved."""

    MASKABLE = "it can, as MSI-X and the IOAPIC's pins"
    NOT_MASKABLE = "it cannot: MSI without a mask, which is first sent to the new vector of the old CPU"


class OnItsWay(Enum):
    """What becomes of an interrupt that is on its way when its device is masked or gets a new message."""

    AWAITED = "KVM waits until it is accepted (synchronize_srcu in kvm_set_irq_routing, irqfd_shutdown)"
    WITHIN_DELAY = "it comes later, kick included, but within the mdelay(1) of fixup_irqs()"
    BEYOND_DELAY = "it comes at any time"


class Leaves(Enum):
    """How the CPU goes."""

    OFFLINE = "Linux takes it offline"
    RECREATED = "another CPU gives it a new VMSA at any moment, in a handler too, and its page stays"


class OnlineChange(Enum):
    """Changes that would close a finding."""

    FREED_AFTER_LOOK = "a vector of the CPU that goes offline is freed after fixup_irqs() has looked at IRR"
    ALLOWED_HERE = "msi_set_affinity() allows the new vector on the old CPU while the device sends it there"
    PAGE_CLEARED = "savic_setup() clears the page before it enables Secure AVIC"
    RESET_CLEARS = "the vCPU's reset clears RequestedIRR and UpdateIRR"


class OnlineFault(Enum):
    """Planted faults."""

    NO_LOOK = "fixup_irqs() does not look at IRR"
    NO_EOI = "apic_clear_isr() does nothing"
    ONLINE_FIRST = "the CPU is in cpu_online_mask before savic_setup()"
    TIMER_STAYS_OFF = "setup_APIC_timer() does not allow the timer's vector"
    NEVER_FREED = "apic_free_vector() leaves the bit in ALLOWED_IRR"


class Message(Enum):
    """Where the device's message goes."""

    OLD = "to its vector here"
    STRAY = "to its next vector, still here"
    AWAY = "to another CPU"


@shared
class Online:
    """The CPU's page and VMSA, KVM's state of it, its device and its timer; what more than one CPU uses is
    changed by locked operations only."""

    kvm_irr: Reg[Vectors]
    request_event: Reg[bool]
    request_state: Reg[bool]
    """KVM_REQ_UPDATE_PROTECTED_GUEST_STATE: there is a new VMSA."""
    kick: Reg[bool]
    requested_irr: Reg[Vectors]
    update_irr: Reg[bool]
    irr: Reg[Vectors]
    isr: Reg[Vectors]
    allowed_irr: Reg[Vectors]
    enabled: Reg[bool]
    """EN of SAVIC_CTL in the VMSA."""
    in_guest_mode: Reg[bool]
    """``vcpu->mode`` says so: who has an interrupt for the vCPU sends a kick, too."""
    in_guest: Reg[bool]
    message: Reg[Message]
    masked: Reg[bool]
    sending: Reg[bool]
    """The device's interrupt is on its way, the kick included."""
    timer_runs: Reg[bool]
    online: Reg[bool]
    """The CPU is in cpu_online_mask: others send it IPIs."""
    dead: Reg[bool]
    """It waits to be created again."""
    owed: Reg[bool]
    """History: an interrupt of the device came to this CPU, and was neither served nor sent again."""
    ipi_sent: Reg[bool]
    """History: an IPI came to this CPU while it was online, and was not delivered."""
    former: Reg[Vectors]
    """History: pending when the CPU was created, and not raised since."""
    stale: Reg[bool]
    """History: a vector was delivered that was raised before the CPU was created."""
    failed: Reg[bool]
    """History: a VMRUN failed."""


class Life(Enum):
    """Where the guest goes on after an entry."""

    RUNS = "interrupts enabled"
    HANDLES = "in a handler"
    MASK = "offline: before the device is masked"
    FREE = "before the old vector is freed"
    READDRESS = "before the device gets a new message"
    READDRESS_AWAY = "before it gets the other half of it"
    LOOK_STRAY = "before it looks for the new vector in IRR"
    UNMASK = "before the device is unmasked"
    SETTLE = "in mdelay(1)"
    LOOK = "before it looks at IRR"
    STOP_TIMER = "before the timer is masked"
    DEAD_LOOP = "before it waits to be created again"
    REGISTER = "created: before the page is registered"
    ENABLE = "before WRMSR SAVIC_CTL"
    CLEAR_ISR = "before what is left in service is ended"
    GO_ONLINE = "before it is put in cpu_online_mask"
    START_TIMER = "before the timer is set up"


@local
class Guest:
    """Where the guest goes on."""

    life: Life = Life.RUNS


@local
class Sent:
    """The device's message, as it was sent."""

    vector: Vectors = 0


@local
class Nothing:
    """No local variables."""


VCPU: Final = Thread("vcpu", Guest, buffered=False, source="x86.c vcpu_enter_guest")
DEV: Final = Thread("device", Sent, buffered=False, source="lapic.c __apic_accept_irq")
TICK: Final = Thread("timer", Nothing, buffered=False, source="lapic.c apic_timer_fn")
PEER: Final = Thread("peer", Nothing, buffered=False, source="x2apic_savic.c send_ipi_dest")
ADMIN: Final = Thread("admin", Nothing, buffered=False, source="coco/sev/core.c wakeup_cpu_via_vmgexit")


def highest_of(vectors: int) -> int:
    """The highest vector of a set, as a set of one; the empty set if there is none."""
    for vector in reversed(VECTORS):
        if vectors & vector != 0:
            return vector
    return 0


def add(cpu: Cpu, to: Register[int], vectors: int) -> None:
    """Vectors are set in a register."""
    cpu.write(to, cpu.read(to) | vectors)


def drop(cpu: Cpu, of: Register[int], vectors: int) -> None:
    """Vectors are cleared in a register."""
    cpu.write(of, cpu.read(of) & ~vectors)
