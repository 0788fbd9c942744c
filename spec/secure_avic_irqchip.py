"""The model secure-avic-irqchip: a level-triggered line, and how its EOI comes back.

How the end of a level-triggered interrupt comes back to its source: by the guest's EOI notice, which KVM
hands to its own IOAPIC or to userspace (KVM_EXIT_IOAPIC_EOI); or, where TMR of the backing page says edge, by
what io_apic.c does in its place: a write to the IOAPIC's EOI register (version 0x20), or the redirection
entry written as edge and as level again. The source is an emulated device's line, or a physical one behind an
irqfd that stays masked until it is resampled. Userspace's part is QEMU's (hw/intc/ioapic.c).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description
from avicheck.spec.lang import Scope
from avicheck.spec.memory import Reg, local, shared
from avicheck.spec.secure_avic_run import Tmr
from avicheck.spec.threads import Model, Thread, ThreadState, World, label_of, leads_to, never, sometimes


class Irqchip(Enum):
    """Where the IOAPIC is."""

    SPLIT = "in userspace (KVM_CAP_SPLIT_IRQCHIP)"
    IN_KERNEL = "in KVM, of version 0x11"


class IoapicVersion(Enum):
    """The version of userspace's IOAPIC: with 0x20 the guest has an EOI register to write to."""

    VERSION_20 = "0x20, QEMU's default"
    VERSION_11 = "0x11"


class Source(Enum):
    """Where the line comes from."""

    EMULATED = "an emulated device"
    RESAMPLED = "a physical line by an irqfd: masked when it fires, until it is resampled"


class Affinity(Enum):
    """Whether the interrupt is sent to another CPU meanwhile."""

    MOVES = "another vCPU writes the entry's destination at any moment"
    STAYS = "it is not"


class IrqchipFix(Enum):
    """What newer kernels do."""

    RESAMPLES_AT_UNMASK = "KVM: x86/ioapic: Resample the pending state of an IRQ when unmasking (6.4)"


class IrqchipChange(Enum):
    """Changes that would close a finding."""

    USERSPACE_RESAMPLES = "userspace's IOAPIC notifies the resampler when an entry is written as edge"
    ROUTE_FIRST = "kvm_set_irq_routing() waits for readers of the old routes before it asks for a new scan"


class IrqchipFault(Enum):
    """Planted faults."""

    NO_SHADOW = "a level-triggered vector does not enter the shadow ISR"
    NO_EOI_EXIT = "the EOI does not leave KVM for userspace"
    KEEPS_REMOTE_IRR = "the entry keeps Remote IRR when it is written as edge"


@shared
class Line:
    """The line, its IOAPIC, KVM's state of one vector and the hardware's."""

    line: Reg[bool]
    """The device asserts it."""
    fd_masked: Reg[bool]
    """Source.RESAMPLED: the physical line is masked in the host."""
    remote_irr: Reg[bool]
    here: Reg[bool]
    """The entry, or the route, names this CPU."""
    scan: Reg[bool]
    """KVM_REQ_SCAN_IOAPIC."""
    handled: Reg[bool]
    """``ioapic_handled_vectors`` has the vector: its EOI is for the IOAPIC."""
    kvm_irr: Reg[bool]
    shadow_isr: Reg[bool]
    request_event: Reg[bool]
    kick: Reg[bool]
    eoi_exit: Reg[bool]
    """KVM_REQ_IOAPIC_EOI_EXIT."""
    irr: Reg[bool]
    isr: Reg[bool]
    in_guest: Reg[bool]
    reading: Reg[bool]
    """An irqfd has read the route, and its interrupt is not accepted yet."""
    swallowed: Reg[bool]
    """History: KVM had a notice of the vector's EOI, and handed it to nobody."""
    told: Reg[bool]
    """History: userspace has had an EOI."""


class Stage(Enum):
    """Where the guest goes on after an entry."""

    RUNS = "interrupts enabled"
    HANDLES = "in the handler"
    ENDS = "before EOI"
    ACKS = "after EOI, before it acknowledges the IOAPIC's entry"


@local
class Guest:
    """Where the guest goes on."""

    stage: Stage = Stage.RUNS


@local
class Nothing:
    """No local variables."""


VCPU: Final = Thread("vcpu", Guest, buffered=False, source="x86.c vcpu_enter_guest")
DEVICE: Final = Thread("device", Nothing, buffered=False, source="the device")
SENDER: Final = Thread("sender", Nothing, buffered=False, source="irq_comm.c kvm_set_irq")
MOVER: Final = Thread("mover", Nothing, buffered=False, source="irqchip.c kvm_set_irq_routing")


def by_irqfd(cpu: Cpu) -> bool:
    """The line is resampled, and KVM sends it without asking userspace's IOAPIC."""
    return cpu.has(Source.RESAMPLED) and not cpu.has(Irqchip.IN_KERNEL)


# KVM's thread of the vCPU.


@VCPU.step(source="x86.c vcpu_enter_guest: kvm_check_request(KVM_REQ_IOAPIC_EOI_EXIT)")
def check_eoi_exit(cpu: Cpu, my: Guest) -> str:
    """To userspace, if the vector is the IOAPIC's still."""
    leaves = cpu.read(Line.eoi_exit)
    cpu.write(Line.eoi_exit, False)
    cpu.write(Line.swallowed, cpu.read(Line.swallowed) or (leaves and not cpu.read(Line.handled)))
    return "userspace_eoi" if leaves and cpu.read(Line.handled) else "check_scan"


@VCPU.step(source="x86.c vcpu_scan_ioapic, irq.c kvm_scan_ioapic_irq")
def check_scan(cpu: Cpu, my: Guest) -> None:
    """What the entry sends here, and what has not been ended here: kvm_apic_pending_eoi() looks at KVM's IRR
    and at the shadow ISR."""
    if cpu.read(Line.scan):
        pending = cpu.read(Line.kvm_irr) or cpu.read(Line.shadow_isr)
        cpu.write(Line.handled, cpu.read(Line.here) or pending)
    cpu.write(Line.scan, False)


@VCPU.step(source="sev.c sev_savic_set_requested_irr; HW.VMRUN")
def enter(cpu: Cpu, my: Guest) -> str:
    """Injection and VMRUN in one step: the model secure-avic has both in detail."""
    if cpu.read(Line.request_event):
        cpu.write(Line.request_event, False)
        taken = cpu.read(Line.kvm_irr)
        cpu.write(Line.kvm_irr, False)
        shadowed = taken and not cpu.has(IrqchipFault.NO_SHADOW)
        cpu.write(Line.shadow_isr, cpu.read(Line.shadow_isr) or shadowed)
        cpu.write(Line.irr, cpu.read(Line.irr) or taken)
    cpu.write(Line.in_guest, True)
    return label_of(my.stage, Stage)


@VCPU.step(source="sev.c savic_handle_msr_exit: APIC_EOI; lapic.c kvm_ioapic_send_eoi")
def notice(cpu: Cpu, my: Guest) -> str:
    """The vector of the shadow ISR is ended; what becomes of that depends on whose it is."""
    found = cpu.read(Line.shadow_isr)
    cpu.write(Line.shadow_isr, False)
    cpu.write(Line.request_event, True)
    if not (found and cpu.read(Line.handled)):
        cpu.write(Line.swallowed, True)
        return "check_eoi_exit"
    cpu.write(Line.eoi_exit, not cpu.has(Irqchip.IN_KERNEL) and not cpu.has(IrqchipFault.NO_EOI_EXIT))
    return "kernel_eoi" if cpu.has(Irqchip.IN_KERNEL) else "check_eoi_exit"


@VCPU.step(source="ioapic.c kvm_ioapic_update_eoi_one")
def kernel_eoi(cpu: Cpu, my: Guest) -> str:
    """Remote IRR is cleared, the resampler notified."""
    return ended(cpu, True)


@VCPU.step(source="KVM_EXIT_IOAPIC_EOI; QEMU ioapic_eoi_broadcast")
def userspace_eoi(cpu: Cpu, my: Guest) -> str:
    """The same in userspace."""
    cpu.write(Line.told, True)
    return ended(cpu, True)


@VCPU.step(source="KVM_EXIT_MMIO; QEMU ioapic_mem_write: IOAPIC_EOI")
def eoi_register(cpu: Cpu, my: Guest) -> str:
    """The guest has written the vector to the IOAPIC's EOI register."""
    cpu.write(Line.told, True)
    return ended(cpu, True)


@VCPU.step(source="ioapic.c ioapic_write_indirect; QEMU ioapic_mem_write: ioapic_fix_edge_remote_irr")
def rewrite(cpu: Cpu, my: Guest) -> str:
    """The entry is written as edge, masked, and as level: Remote IRR is cleared. Whether the resampler hears
    of it is IrqchipFix.RESAMPLES_AT_UNMASK, or userspace's matter."""
    if cpu.has(Irqchip.IN_KERNEL):
        return ended(cpu, cpu.has(IrqchipFix.RESAMPLES_AT_UNMASK))
    return ended(cpu, cpu.has(IrqchipChange.USERSPACE_RESAMPLES))


def ended(cpu: Cpu, resamples: bool) -> str:
    """An asserted line is serviced again: the sender sees to it."""
    keeps = cpu.has(IrqchipFault.KEEPS_REMOTE_IRR) and cpu.read(Line.remote_irr)
    cpu.write(Line.remote_irr, keeps)
    cpu.write(Line.fd_masked, cpu.read(Line.fd_masked) and not resamples)
    return "check_eoi_exit"


# The guest.


def goes_to(my: Guest, stage: Stage) -> str:
    """The guest goes on there without an exit."""
    my.stage = stage
    return label_of(stage, Stage)


def exits(cpu: Cpu, my: Guest, stage: Stage, label: str) -> str:
    """It goes on there after an exit, which KVM handles at a label; a kick under way has come."""
    my.stage = stage
    cpu.write(Line.in_guest, False)
    cpu.write(Line.kick, False)
    return label


@VCPU.anywhere(source="HW.VMEXIT")
def kicked(cpu: Cpu, my: Guest) -> str:
    """The kick makes the vCPU exit."""
    cpu.wait_until(cpu.read(Line.kick) and cpu.read(Line.in_guest))
    return exits(cpu, my, my.stage, "check_eoi_exit")


@VCPU.anywhere(source="HW.VMEXIT")
def interrupted(cpu: Cpu, my: Guest) -> str:
    """Any other exit."""
    cpu.wait_until(cpu.read(Line.in_guest))
    return exits(cpu, my, my.stage, "check_eoi_exit")


@VCPU.step(at="runs", source="the guest")
def computes(cpu: Cpu, my: Guest) -> str:
    """Something else, for ever if it likes."""
    return "runs"


@VCPU.step(at="runs", source="HW.DELIVER")
def deliver(cpu: Cpu, my: Guest) -> str:
    """The vector goes into service."""
    cpu.wait_until(cpu.read(Line.irr))
    cpu.write(Line.irr, False)
    cpu.write(Line.isr, True)
    return goes_to(my, Stage.HANDLES)


@VCPU.step(source="the driver of the device")
def handles(cpu: Cpu, my: Guest) -> str:
    """It serves its device, which releases the line."""
    cpu.write(Line.line, False)
    return goes_to(my, Stage.ENDS)


@VCPU.step(source="x2apic_savic.c savic_eoi")
def ends(cpu: Cpu, my: Guest) -> str:
    """A notice, if TMR says level; WRMSR EOI, if not, and the IOAPIC is acknowledged after that."""
    cpu.write(Line.isr, False)
    if cpu.has(Tmr.TMR_IS_RIGHT):
        return exits(cpu, my, Stage.RUNS, "notice")
    return goes_to(my, Stage.ACKS)


@VCPU.step(source="io_apic.c ioapic_ack_level, __eoi_ioapic_pin")
def acks(cpu: Cpu, my: Guest) -> str:
    """By the EOI register, if the IOAPIC has one."""
    has_none = cpu.has(Irqchip.IN_KERNEL) or cpu.has(IoapicVersion.VERSION_11)
    return exits(cpu, my, Stage.RUNS, "rewrite" if has_none else "eoi_register")


# The line.


@DEVICE.anywhere(source="the device")
def asserts(cpu: Cpu, my: Nothing) -> None:
    """The line goes high."""
    cpu.wait_until(not cpu.read(Line.line))
    cpu.write(Line.line, True)


def free_to_fire(cpu: Cpu) -> bool:
    """A line behind an irqfd is masked when it fires; the IOAPIC, if asked, wants Remote IRR clear."""
    masked = cpu.has(Source.RESAMPLED) and cpu.read(Line.fd_masked)
    return not masked and (by_irqfd(cpu) or not cpu.read(Line.remote_irr))


@SENDER.step(source="ioapic.c ioapic_service; QEMU ioapic_service; eventfd.c irqfd_wakeup")
def fire(cpu: Cpu, my: Nothing) -> str:
    """An asserted line is sent: under the IOAPIC's lock, or with the route as it is now. What goes to another
    CPU is served there."""
    cpu.wait_until(cpu.read(Line.line) and free_to_fire(cpu))
    if not cpu.read(Line.here):
        cpu.write(Line.line, False)
        return "fire"
    cpu.write(Line.fd_masked, cpu.has(Source.RESAMPLED))
    cpu.write(Line.remote_irr, cpu.read(Line.remote_irr) or not by_irqfd(cpu))
    if by_irqfd(cpu):
        cpu.write(Line.reading, True)
        return "accept"
    cpu.write(Line.kvm_irr, True)
    return "make_event"


@SENDER.step(source="lapic.c kvm_lapic_set_irr")
def accept(cpu: Cpu, my: Nothing) -> None:
    """KVM's IRR, of the CPU that the route named."""
    cpu.write(Line.reading, False)
    cpu.write(Line.kvm_irr, True)


@SENDER.step(source="svm.c svm_complete_interrupt_delivery")
def make_event(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT and a kick."""
    cpu.write(Line.request_event, True)
    cpu.write(Line.kick, True)
    return "fire"


@MOVER.step(source="ioapic.c ioapic_write_indirect; irqchip.c kvm_set_irq_routing: rcu_assign_pointer")
def move(cpu: Cpu, my: Nothing) -> None:
    """The vector stays the same, on another CPU; unless Affinity.STAYS."""
    cpu.wait_until(not cpu.has(Affinity.STAYS))
    cpu.write(Line.here, False)


@MOVER.step(source="ioapic.c kvm_make_scan_ioapic_request; irq.c kvm_arch_irq_routing_update")
def request_scan(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_SCAN_IOAPIC, and a kick; the old routes' readers are waited for after that."""
    cpu.wait_until(not cpu.has(IrqchipChange.ROUTE_FIRST) or not cpu.read(Line.reading))
    cpu.write(Line.scan, True)
    cpu.write(Line.kick, True)
    return "done"


# What is asked.


def vcpu(world: World[Line]) -> ThreadState[Guest]:
    """The vCPU."""
    return world.of(VCPU)[0]


def nowhere(world: World[Line]) -> bool:
    """The vector is not on its way, in service or being ended."""
    shared_ = world.shared
    held = shared_.kvm_irr or shared_.irr or shared_.isr or shared_.eoi_exit
    ending = vcpu(world).my.stage != Stage.RUNS or not vcpu(world).at("runs")
    return not held and not ending and world.of(SENDER)[0].at("fire")


def line_is_dead(world: World[Line]) -> bool:
    """P-L3: an asserted line is held back by Remote IRR or by its mask in the host, for ever."""
    shared_ = world.shared
    return shared_.line and (shared_.remote_irr or shared_.fd_masked) and nowhere(world)


def swallowed(world: World[Line]) -> bool:
    """P-S5: KVM had a notice of the vector's EOI, and handed it to nobody."""
    return world.shared.swallowed


def asserted(world: World[Line]) -> bool:
    """The line is asserted."""
    return world.shared.line


def released(world: World[Line]) -> bool:
    """The device was served."""
    return not world.shared.line


def asserted_again(world: World[Line]) -> bool:
    """The line is asserted again before the end of the interrupt before has come back."""
    return world.shared.line and vcpu(world).my.stage == Stage.ENDS


def userspace_told(world: World[Line]) -> bool:
    """An EOI has come to userspace's IOAPIC."""
    return world.shared.told


def moved_in_service(world: World[Line]) -> bool:
    """The interrupt goes to another CPU while it is in service here."""
    return world.shared.isr and not world.shared.here


FREE_TO_DO: Final = (interrupted, computes)
"""What may, but need not happen."""
VCPU_STEPS: Final = tuple(step for step in VCPU.steps if step not in FREE_TO_DO)


def initial(scope: Scope, options: frozenset[Enum]) -> list[Line]:
    """The entry names this CPU, the line is low."""
    return [
        Line(
            line=False,
            fd_masked=False,
            remote_irr=False,
            here=True,
            scan=False,
            handled=True,
            kvm_irr=False,
            shadow_isr=False,
            request_event=False,
            kick=False,
            eoi_exit=False,
            irr=False,
            isr=False,
            in_guest=False,
            reading=False,
            swallowed=False,
            told=False,
        )
    ]


IRQCHIP_MODEL: Final = Model(
    "secure-avic-irqchip",
    Line,
    (VCPU, DEVICE, SENDER, MOVER),
    initial,
    (
        never("line-is-dead", "P-L3: no asserted line is held back for ever.", line_is_dead),
        never("eoi-swallowed", "P-S5: no EOI notice of a level-triggered vector is lost in KVM.", swallowed),
        sometimes("asserted-again", "A line can be asserted again before its EOI.", asserted_again),
        sometimes("userspace-told", "An EOI can come to userspace.", userspace_told),
        sometimes("moved-in-service", "An interrupt can be moved while it is in service.", moved_in_service),
        leads_to(
            "line-served",
            "P-L3: an asserted line is served.",
            asserted,
            released,
            weak=SENDER.steps,
            strong=VCPU_STEPS,
        ),
    ),
)

IRQCHIP_DESCRIPTION: Final = Description(
    model=IRQCHIP_MODEL,
    summary="A level-triggered line of an AMD Secure AVIC guest; the IOAPIC in KVM or in userspace.",
    covers=(
        "EOI notices and the shadow ISR, ioapic_handled_vectors and its scan, KVM_EXIT_IOAPIC_EOI; the "
        "driver's EOI register and its edge-and-level rewrite",
        "lines of emulated devices, lines behind a resampling irqfd; entries and routes that are moved",
    ),
    scope={},
    kernels={
        "savic-rfc-v2": frozenset({IrqchipFix.RESAMPLES_AT_UNMASK}),
    },
    kernel="savic-rfc-v2",
    switches=(IrqchipFix, IrqchipChange, IrqchipFault),
    assumptions=(
        Assumption(Irqchip, "cover letter, on not supporting the in-kernel IOAPIC"),
        Assumption(IoapicVersion, "QEMU hw/intc/ioapic.c IOAPIC_VER_DEF"),
        Assumption(Source, "eventfd.c; VFIO INTx"),
        Assumption(Affinity, "cover letter: kvm_apic_pending_eoi() does not return correct information"),
        Assumption(Tmr, "cover letter: TMR is owned by the guest; the driver of 6.19 never writes it"),
    ),
)
