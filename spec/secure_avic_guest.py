"""The guest of the model secure-avic, who brings interrupts to it, and the wires to its CPU.

Importing this adds the guest's steps to the target's thread, after the host's.
"""

from __future__ import annotations

from avicheck.spec import secure_avic_host
from avicheck.spec.cpu import Cpu
from avicheck.spec.secure_avic import ExitIntInfo
from avicheck.spec.secure_avic_run import (
    DESTROYER,
    DEVICE,
    DISALLOWED,
    EDGE,
    LEVEL_A,
    LEVEL_B,
    LEVELS,
    SENDER,
    TARGET,
    WIRES,
    ExitReason,
    Fault,
    Gate,
    HaltTest,
    Intercept,
    Mode,
    Nothing,
    Notice,
    Point,
    Savic,
    Series,
    SpivNotice,
    Target,
    Tmr,
    Traffic,
    Where,
    highest_of,
    next_of,
)
from avicheck.spec.secure_avic_run import IPI as IPI_VECTOR

# The target's guest. ``my.point`` is where it is, also while the host runs.


def goes_to(my: Target, point: Point) -> str:
    """The guest goes on there."""
    my.point = point
    return secure_avic_host.resumed(point)


def exits(cpu: Cpu, my: Target, reason: ExitReason) -> str:
    """An exit: V_INTR is not kept, and a kick that was under way has come."""
    my.reason = reason
    cpu.write(Savic.where, Where.BETWEEN)
    cpu.write(Savic.v_intr, False)
    cpu.write(Savic.kick, False)
    return "leave"


def delivers(cpu: Cpu, my: Target) -> str:
    """The interrupt that the last evaluation found, or a higher one, is delivered."""
    irr, isr = cpu.read(Savic.irr), cpu.read(Savic.isr)
    vector = next_of(irr, isr)
    cpu.write(Savic.irr, irr & ~vector)
    cpu.write(Savic.raised, cpu.read(Savic.raised) & ~vector)
    cpu.write(Savic.isr, isr | vector)
    cpu.write(Savic.v_intr, False)
    return goes_to(my, Point.HANDLES if vector & LEVELS != 0 else Point.ENDS)


@TARGET.step(at="runs", source="HW.DELIVER")
def deliver(cpu: Cpu, my: Target) -> str:
    """RFLAGS.IF = 1."""
    cpu.wait_until(cpu.read(Savic.v_intr))
    return delivers(cpu, my)


@TARGET.step(at="runs", source="the guest")
def computes(cpu: Cpu, my: Target) -> str:
    """The guest does something else; it may do so for ever."""
    return "runs"


@TARGET.step(at="runs", source="HW.HLT")
def halt(cpu: Cpu, my: Target) -> str:
    """Nothing to do. With V_INTR set, idle-HLT does not exit, and the interrupt is delivered."""
    cpu.wait_until(cpu.has(Intercept.PLAIN_HLT) or not cpu.read(Savic.v_intr))
    if cpu.has(HaltTest.TEST_IS_NOT_ATOMIC):
        return goes_to(my, Point.HALT_TESTED)
    return exits(cpu, my, ExitReason.HLT)


@TARGET.step(at="halt_tested", source="HW.HLT")
def halt_exits(cpu: Cpu, my: Target) -> str:
    """HaltTest.TEST_IS_NOT_ATOMIC: the exit that follows the test, if no other one comes before it."""
    goes_to(my, Point.RUNS)
    return exits(cpu, my, ExitReason.HLT)


@TARGET.step(source="the driver of the device")
def handles(cpu: Cpu, my: Target) -> str:
    """The handler of a level-triggered vector serves its device, which releases the line."""
    cpu.write(Savic.line, cpu.read(Savic.line) & ~highest_of(cpu.read(Savic.isr)))
    return goes_to(my, Point.ENDS)


@TARGET.step(at="ends", source="HW.DELIVER")
def nest(cpu: Cpu, my: Target) -> str:
    """Gate.HANDLERS_NEST: a higher vector interrupts the handler."""
    cpu.wait_until(cpu.has(Gate.HANDLERS_NEST) and cpu.read(Savic.v_intr))
    return delivers(cpu, my)


@TARGET.step(source="x2apic_savic.c savic_eoi")
def ends(cpu: Cpu, my: Target) -> str:
    """An edge, for all that TMR says: WRMSR EOI retires the vector and evaluates the page. A level: its bit
    of ISR is cleared, and the host told."""
    isr = cpu.read(Savic.isr)
    my.served = highest_of(isr)
    left = isr & ~my.served
    cpu.write(Savic.isr, left)
    level = my.served & LEVELS != 0
    after = goes_to(my, Point.RUNS if left == 0 else Point.ENDS)
    if level and cpu.has(Tmr.TMR_IS_RIGHT):
        return exits(cpu, my, ExitReason.EOI)
    cpu.write(Savic.v_intr, next_of(cpu.read(Savic.irr), left) != 0)
    if level:
        return goes_to(my, Point.REWRITES)
    my.served = 0
    return after


@TARGET.step(source="io_apic.c ioapic_ack_level, eoi_ioapic_pin")
def rewrites(cpu: Cpu, my: Target) -> str:
    """TMR said edge: the driver simulates the IOAPIC's EOI."""
    goes_to(my, Point.RUNS if cpu.read(Savic.isr) == 0 else Point.ENDS)
    return exits(cpu, my, ExitReason.RTE)


@TARGET.step(at="runs", source="a malicious guest")
def hostile(cpu: Cpu, my: Target, reason: ExitReason, upper: bool) -> str:
    """Traffic.HOSTILE: HLT, an EOI notice or a redirection entry, whether or not there is anything to end."""
    cpu.wait_until(cpu.has(Traffic.HOSTILE) and reason != ExitReason.INTR)
    if reason != ExitReason.HLT:
        my.served = LEVEL_B if upper else LEVEL_A
    return exits(cpu, my, reason)


@TARGET.anywhere(source="HW.VMEXIT")
def kicked(cpu: Cpu, my: Target) -> str:
    """The reschedule IPI makes the vCPU exit."""
    cpu.wait_until(cpu.read(Savic.kick) and cpu.read(Savic.where) == Where.GUEST)
    return exits(cpu, my, ExitReason.INTR)


@TARGET.anywhere(source="HW.VMEXIT")
def interrupted(cpu: Cpu, my: Target) -> str:
    """Some other physical interrupt makes the vCPU exit."""
    cpu.wait_until(cpu.read(Savic.where) == Where.GUEST)
    return exits(cpu, my, ExitReason.INTR)


@TARGET.step(at="handles", source="HW.REINJECT")
def disturbed_level(cpu: Cpu, my: Target) -> str:
    """An exit interrupts the delivery of a level-triggered vector; the next VMRUN goes on with it."""
    return disturbs(cpu, my)


@TARGET.step(at="ends", source="HW.REINJECT")
def disturbed_edge(cpu: Cpu, my: Target) -> str:
    """The same of an edge."""
    cpu.wait_until(highest_of(cpu.read(Savic.isr)) & LEVELS == 0)
    return disturbs(cpu, my)


def disturbs(cpu: Cpu, my: Target) -> str:
    """ExitIntInfo.REPORTED: without it, this is an exit like others."""
    cpu.wait_until(cpu.has(ExitIntInfo.REPORTED))
    exits(cpu, my, ExitReason.INTR)
    return "reported"


# The wires to the target's CPU.


@WIRES.anywhere(source="HW.DOORBELL")
def doorbell_arrives(cpu: Cpu, my: Nothing) -> None:
    """In guest mode the page is evaluated; otherwise nothing happens."""
    cpu.wait_until(cpu.read(Savic.doorbell))
    cpu.write(Savic.doorbell, False)
    if cpu.read(Savic.where) == Where.GUEST:
        cpu.write(Savic.v_intr, next_of(cpu.read(Savic.irr), cpu.read(Savic.isr)) != 0)


@WIRES.anywhere(source="smp.c sysvec_reschedule_ipi")
def kick_lapses(cpu: Cpu, my: Nothing) -> None:
    """A kick that arrives while the host runs with interrupts on."""
    cpu.wait_until(cpu.read(Savic.kick) and cpu.read(Savic.where) == Where.HOST)
    cpu.write(Savic.kick, False)


# IPIs: the guest's sender, then the host's sender.


def set_irr(cpu: Cpu) -> None:
    """A locked set_bit in the target's backing page."""
    cpu.smp_mb()
    cpu.write(Savic.irr, cpu.read(Savic.irr) | IPI_VECTOR)
    cpu.write(Savic.raised, cpu.read(Savic.raised) | IPI_VECTOR)


@SENDER.step(source="x2apic_savic.c send_ipi_dest")
def send(cpu: Cpu, my: Notice) -> None:
    """The target's IRR bit, before the host is told."""
    cpu.wait_until(cpu.has(Traffic.IPIS) and my.brought == 0)
    once(cpu, my, IPI_VECTOR)
    if not cpu.has(Fault.NOTICE_FIRST):
        set_irr(cpu)


@SENDER.step(at="send", source="a malicious guest")
def hostile_notice(cpu: Cpu, my: Notice) -> str:
    """Traffic.HOSTILE: an ICR notice without an IPI."""
    cpu.wait_until(cpu.has(Traffic.HOSTILE))
    return "set_pending_ipi"


@SENDER.step(source="sev.c savic_handle_icr_write")
def set_pending_ipi(cpu: Cpu, my: Notice) -> None:
    """WRITE_ONCE(sev_savic_has_pending_ipi, true)."""
    cpu.write(Savic.spurious, 0)
    if not cpu.has(Fault.NO_STICKY):
        cpu.store(Savic.has_pending_ipi, True)


@SENDER.step(source="sev.c savic_handle_icr_write, avic.c avic_ring_doorbell")
def read_mode(cpu: Cpu, my: Notice) -> str:
    """smp_mb, smp_load_acquire(&vcpu->mode); then the doorbell, which takes its time, or a kick."""
    cpu.write(Savic.spurious, 0)
    if not cpu.has(Fault.NO_ICR_BARRIER):
        cpu.smp_mb()
    if cpu.load(Savic.mode) != Mode.IN_GUEST_MODE:
        return sent(cpu) if cpu.has(Fault.NO_KICK) else "kick"
    if not cpu.has(Fault.NO_DOORBELL):
        cpu.write(Savic.doorbell, True)
    return sent(cpu)


def sent(cpu: Cpu) -> str:
    """Back in the sender's guest."""
    return "late" if cpu.has(Fault.NOTICE_FIRST) else "send"


def wakes(cpu: Cpu, otherwise: str, after: str) -> str:
    """kvm_vcpu_wake_up: smp_mb, then the task's state."""
    return after if cpu.xchg(Savic.asleep, False) else otherwise


def kicks(cpu: Cpu) -> None:
    """kvm_arch_vcpu_should_kick: where IN_GUEST_MODE becomes EXITING_GUEST_MODE, a physical IPI is sent,
    which takes its time."""
    found = cpu.cmpxchg(Savic.mode, Mode.IN_GUEST_MODE, Mode.EXITING_GUEST_MODE)
    if found == Mode.IN_GUEST_MODE:
        cpu.write(Savic.kick, True)


@SENDER.step(source="kvm_main.c kvm_vcpu_kick: kvm_vcpu_wake_up")
def kick(cpu: Cpu, my: Notice) -> str:
    """Wake the thread, or kick the vCPU."""
    return wakes(cpu, "kick_mode", sent(cpu))


@SENDER.step(source="kvm_main.c kvm_vcpu_kick: kvm_arch_vcpu_should_kick, smp_send_reschedule")
def kick_mode(cpu: Cpu, my: Notice) -> str:
    """Only a vCPU that is in guest mode by now needs an IPI."""
    kicks(cpu)
    return sent(cpu)


@SENDER.step(source="Fault.NOTICE_FIRST")
def late(cpu: Cpu, my: Notice) -> str:
    """The target's IRR bit, after the host was told."""
    set_irr(cpu)
    return "send"


# Device interrupts, by an MSI or the IOAPIC.


def once(cpu: Cpu, my: Notice, vector: int) -> None:
    """Traffic.ONCE: the vector has been brought."""
    if cpu.has(Traffic.ONCE):
        my.brought = my.brought | vector


@DEVICE.step(at="raise_irq", source="irq_comm.c kvm_set_msi")
def send_edge(cpu: Cpu, my: Notice) -> str:
    """An MSI with a vector that the guest allows."""
    cpu.wait_until(cpu.has(Traffic.EDGES) and my.brought & EDGE == 0)
    once(cpu, my, EDGE)
    my.vector = EDGE
    return "accept"


@DEVICE.step(at="raise_irq", source="irq_comm.c kvm_set_msi")
def send_refused(cpu: Cpu, my: Notice) -> str:
    """An MSI with one that it does not."""
    cpu.wait_until(cpu.has(Traffic.REFUSED) and my.brought & DISALLOWED == 0)
    once(cpu, my, DISALLOWED)
    my.vector = DISALLOWED
    return "accept"


def raises(cpu: Cpu, my: Notice, vector: int) -> str:
    """ioapic_set_irq: a line that was low goes high. Remote IRR is set in advance: nobody can end the vector
    before it is accepted."""
    cpu.wait_until(cpu.read(Savic.line) & vector == 0 and my.brought & vector == 0)
    once(cpu, my, vector)
    cpu.write(Savic.line, cpu.read(Savic.line) | vector)
    if cpu.read(Savic.remote_irr) & vector != 0:
        return "raise_irq"
    cpu.write(Savic.remote_irr, cpu.read(Savic.remote_irr) | vector)
    my.vector = vector
    return "accept"


@DEVICE.step(at="raise_irq", source="ioapic.c ioapic_set_irq")
def raise_a(cpu: Cpu, my: Notice) -> str:
    """The line of vector A."""
    cpu.wait_until(cpu.has(Traffic.LEVEL_ONE))
    return raises(cpu, my, LEVEL_A)


@DEVICE.step(at="raise_irq", source="ioapic.c ioapic_set_irq")
def raise_b(cpu: Cpu, my: Notice) -> str:
    """The line of vector B."""
    cpu.wait_until(cpu.has(Traffic.LEVEL_TWO))
    return raises(cpu, my, LEVEL_B)


@DEVICE.step(source="lapic.c kvm_lapic_set_irr")
def accept(cpu: Cpu, my: Notice) -> str:
    """APIC_TMR if it changes, which nobody reads before APIC_IRR; then that, by a locked operation. Nothing,
    if the APIC counts as disabled by software."""
    if cpu.has(SpivNotice.SPIV_NOT_SENT) and not cpu.has(Series.SPIV_FORCED):
        cpu.write(Savic.unheard, True)
        my.vector = 0
        return "raise_irq"
    cpu.atomic_fetch_or(Savic.kvm_irr, my.vector)
    cpu.write(Savic.owed, cpu.read(Savic.owed) | my.vector)
    my.vector = 0
    return "make_event"


@DEVICE.step(source="svm.c svm_complete_interrupt_delivery: kvm_make_request(KVM_REQ_EVENT)")
def make_event(cpu: Cpu, my: Notice) -> None:
    """A locked set_bit."""
    if not cpu.has(Fault.NO_EVENT):
        cpu.xchg(Savic.request_event, True)


@DEVICE.step(source="kvm_main.c kvm_vcpu_kick: kvm_vcpu_wake_up")
def device_kick(cpu: Cpu, my: Notice) -> str:
    """Wake the thread, or kick the vCPU."""
    return wakes(cpu, "device_kick_mode", "raise_irq")


@DEVICE.step(source="kvm_main.c kvm_vcpu_kick: kvm_arch_vcpu_should_kick, smp_send_reschedule")
def device_kick_mode(cpu: Cpu, my: Notice) -> str:
    """Only a vCPU that is in guest mode by now needs an IPI."""
    kicks(cpu)
    return "raise_irq"


# The end of a vCPU.


@DESTROYER.step(source="sev.c sev_snp_ap_creation: kvm_make_request_and_kick")
def destroy(cpu: Cpu, my: Nothing) -> None:
    """The request comes before the kick."""
    cpu.wait_until(cpu.has(Traffic.DESTROY))
    cpu.write(Savic.request_state, True)


@DESTROYER.step(source="kvm_main.c kvm_vcpu_kick: kvm_vcpu_wake_up")
def destroyer_kick(cpu: Cpu, my: Nothing) -> str:
    """Wake the thread, or kick the vCPU."""
    return wakes(cpu, "destroyer_kick_mode", "done")


@DESTROYER.step(source="kvm_main.c kvm_vcpu_kick: kvm_arch_vcpu_should_kick, smp_send_reschedule")
def destroyer_kick_mode(cpu: Cpu, my: Nothing) -> str:
    """Only a vCPU that is in guest mode by now needs an IPI."""
    kicks(cpu)
    return "done"
