"""The model secure-avic-move: the guest takes a vector away from a CPU while its device interrupts that CPU.

Linux moves an interrupt by allowing a vector on the new CPU, programming the device, and, once the first
interrupt has come there, freeing the old vector on the old CPU if IRR has not got it (kernel/apic/vector.c).
With Secure AVIC, IRR is the backing page, while the host may still hold the vector in KVM's IRR.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Description
from avicheck.spec.memory import Reg, local, shared
from avicheck.spec.threads import Model, Thread, World, leads_to, never, sometimes


class MoveChange(Enum):
    """Changes that would close the finding."""

    EXIT_FIRST = "__vector_cleanup() makes the CPU exit before it looks at IRR"


class Stop(Enum):
    """How the old vector goes."""

    MOVED = "by a move: freed by its own CPU, after a look at IRR"
    SHUT_DOWN = "by a shutdown: freed by another CPU, without a look"


@shared
class Move:
    """The old CPU's part: registers here are one CPU's, or changed by locked operations only."""

    programmed_old: Reg[bool]
    """The device still sends the old vector to the old CPU."""
    kvm_irr: Reg[bool]
    request_event: Reg[bool]
    kick: Reg[bool]
    irr: Reg[bool]
    allowed: Reg[bool]
    served_new: Reg[bool]
    """The new CPU has had the device's first interrupt."""
    lost: Reg[bool]
    """History: the hardware has dropped an interrupt that the device sent while it was programmed so."""
    served_old: Reg[bool]


@local
class Nothing:
    """No local variables."""


DEVICE: Final = Thread("device", Nothing, buffered=False, source="lapic.c __apic_accept_irq")
GUEST: Final = Thread("guest", Nothing, buffered=False, source="apic/vector.c")
OLD: Final = Thread("old", Nothing, buffered=False, source="x86.c vcpu_enter_guest")


# The device: one interrupt by the old message, one by the new.


@DEVICE.step(source="lapic.c kvm_lapic_set_irr")
def send_old(cpu: Cpu, my: Nothing) -> None:
    """It is accepted for the old CPU."""
    cpu.wait_until(cpu.read(Move.programmed_old))
    cpu.write(Move.kvm_irr, True)


@DEVICE.step(source="svm.c svm_complete_interrupt_delivery")
def make_event(cpu: Cpu, my: Nothing) -> None:
    """KVM_REQ_EVENT and a kick, which takes its time."""
    cpu.write(Move.request_event, True)
    cpu.write(Move.kick, True)


@DEVICE.step(source="lapic.c kvm_lapic_set_irr")
def send_new(cpu: Cpu, my: Nothing) -> str:
    """The next one goes to the new CPU, and is served there."""
    cpu.wait_until(not cpu.read(Move.programmed_old))
    cpu.write(Move.served_new, True)
    return "done"


# The guest's other CPUs.


@GUEST.step(source="apic/vector.c apic_update_irq_cfg; pci_write_msi_msg")
def reprogram(cpu: Cpu, my: Nothing) -> None:
    """The new vector is allowed on the new CPU before this; the device gets its new message."""
    cpu.write(Move.programmed_old, False)


@GUEST.step(source="apic/vector.c apic_free_vector")
def free_from_afar(cpu: Cpu, my: Nothing) -> str:
    """Stop.SHUT_DOWN."""
    cpu.wait_until(cpu.has(Stop.SHUT_DOWN))
    cpu.write(Move.allowed, False)
    return "done"


# The old CPU: its guest, and the run loop around it.


@OLD.step(at="runs", source="HW.DELIVER")
def serve(cpu: Cpu, my: Nothing) -> str:
    """The old vector, as long as it is in IRR."""
    cpu.wait_until(cpu.read(Move.irr))
    cpu.write(Move.irr, False)
    cpu.write(Move.served_old, True)
    return "runs"


@OLD.step(at="runs", source="apic/vector.c __vector_cleanup")
def clean_up(cpu: Cpu, my: Nothing) -> str:
    """The first interrupt has come to the new CPU, and the cleanup's timer expires here."""
    cpu.wait_until(cpu.read(Move.served_new) and cpu.read(Move.allowed) and not cpu.has(Stop.SHUT_DOWN))
    return "exit_first" if cpu.has(MoveChange.EXIT_FIRST) else "look"


@OLD.step(source="apic/vector.c __vector_cleanup: is_vector_pending")
def look(cpu: Cpu, my: Nothing) -> str:
    """If IRR has it, the timer is armed again."""
    return "runs" if cpu.read(Move.irr) else "free"


@OLD.step(source="apic/vector.c apic_free_vector")
def free(cpu: Cpu, my: Nothing) -> str:
    """Its bit in ALLOWED_IRR is cleared."""
    cpu.write(Move.allowed, False)
    return "runs"


@OLD.step(at="runs", source="HW.VMEXIT")
def kicked(cpu: Cpu, my: Nothing) -> str:
    """The kick arrives."""
    cpu.wait_until(cpu.read(Move.kick))
    return enters(cpu, "runs")


@OLD.step(at="free", source="HW.VMEXIT")
def kicked_late(cpu: Cpu, my: Nothing) -> str:
    """The kick arrives after the look."""
    cpu.wait_until(cpu.read(Move.kick))
    return enters(cpu, "free")


@OLD.step(source="a VMGEXIT of no effect")
def exit_first(cpu: Cpu, my: Nothing) -> str:
    """MoveChange.EXIT_FIRST: whatever was accepted and made an event is requested at the entry."""
    return enters(cpu, "look")


def enters(cpu: Cpu, then: str) -> str:
    """Exit, injection if there is an event, VMRUN: one step, since nobody sees what is in between but the
    device, whose next interrupt counts as before or after it."""
    cpu.write(Move.kick, False)
    if cpu.read(Move.request_event):
        cpu.write(Move.request_event, False)
        requested = cpu.read(Move.kvm_irr)
        cpu.write(Move.kvm_irr, False)
        cpu.write(Move.irr, cpu.read(Move.irr) or (requested and cpu.read(Move.allowed)))
        cpu.write(Move.lost, cpu.read(Move.lost) or (requested and not cpu.read(Move.allowed)))
    return then


# What is asked.


def dropped(world: World[Move]) -> bool:
    """An interrupt was dropped that the device sent before it was programmed anew."""
    return world.shared.lost


def accepted(world: World[Move]) -> bool:
    """KVM has accepted it."""
    return world.shared.kvm_irr


def served(world: World[Move]) -> bool:
    """The old CPU has served it."""
    return world.shared.served_old


def moved(world: World[Move]) -> bool:
    """The old vector is free, and the interrupt was served."""
    return world.shared.served_old and not world.shared.allowed


def at_rest(world: World[Move]) -> bool:
    """Nothing is left to do."""
    shared_ = world.shared
    return not shared_.irr and not shared_.kick and (not shared_.allowed or not shared_.served_new)


MOVE_MODEL: Final = Model(
    "secure-avic-move",
    Move,
    (DEVICE, GUEST, OLD),
    lambda _scope, _options: [Move(True, False, False, False, False, True, False, False, False)],
    (
        never("move-drops", "No interrupt is lost while its vector is moved.", dropped),
        sometimes("moved", "A vector can be moved without loss.", moved),
        leads_to(
            "old-served",
            "An interrupt that was accepted for the old CPU is served there.",
            accepted,
            served,
            weak=(make_event,),
            strong=OLD.steps,
        ),
    ),
    at_rest,
)

MOVE_DESCRIPTION: Final = Description(
    model=MOVE_MODEL,
    summary="A vector of an AMD Secure AVIC guest moved to another CPU while its device interrupts.",
    covers=(
        "apic_update_irq_cfg, __vector_cleanup and apic_free_vector of the guest; acceptance, injection and "
        "the filter of ALLOWED_IRR for the old CPU",
    ),
    scope={},
    kernels={"savic-rfc-v2": frozenset()},
    kernel="savic-rfc-v2",
    switches=(MoveChange, Stop),
)
