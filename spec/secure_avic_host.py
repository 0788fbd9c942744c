"""The host of the model secure-avic: the run loop of the target's thread (arch/x86/kvm/x86.c, svm.c, sev.c).

The order of accesses is the code's. What a step does besides its one access to memory touches only what
is the thread's own.
"""

from __future__ import annotations

from avicheck.spec.cpu import Cpu
from avicheck.spec.lang import at_most
from avicheck.spec.secure_avic import NotAllowed, RequestedAfterEntry
from avicheck.spec.secure_avic_run import (
    ALLOWED,
    LEVEL_B,
    LEVELS,
    TARGET,
    Change,
    CleanBits,
    EntryFence,
    ExitReason,
    Fault,
    IrrUpdate,
    Mode,
    Point,
    Savic,
    Series,
    Target,
    Traffic,
    Where,
    highest_of,
    lowest_of,
    next_of,
)

# vcpu_enter_guest, up to VMRUN.


@TARGET.step(source="x86.c vcpu_enter_guest: kvm_check_request(KVM_REQ_EVENT)")
def check_requests(cpu: Cpu, my: Target) -> str:
    """Events are injected only if they were requested."""
    cpu.write(Savic.where, Where.HOST)
    if cpu.read(Savic.request_state):
        return "reset"
    if not cpu.test_and_clear(Savic.request_event):
        return "enter"
    return "inject_again" if my.injected else "inject_read"


@TARGET.step(source="x86.c kvm_check_and_inject_events, sev.c sev_savic_set_requested_irr: reinjected")
def inject_again(cpu: Cpu, my: Target) -> str:
    """ExitIntInfo.REPORTED: the hardware delivers that interrupt again. Others wait for an immediate exit."""
    my.immediate = cpu.load(Savic.kvm_irr) != 0
    return "enter"


@TARGET.step(source="sev.c sev_savic_set_requested_irr")
def inject_read(cpu: Cpu, my: Target) -> str:
    """kvm_apic_has_interrupt, then the same word once more, which only gained bits meanwhile; all of it is
    added to RequestedIRR, which nobody else sees."""
    my.val = cpu.load(Savic.kvm_irr)
    if cpu.has(Change.ONE_LEVEL):
        my.val = one_level(my.val, cpu.read(Savic.shadow_isr))
    cpu.write(Savic.requested_irr, cpu.read(Savic.requested_irr) | my.val)
    if my.val != 0:
        return "inject_clear"
    cpu.write(Savic.warned, cpu.read(Savic.warned) or extint(cpu))
    return "enter"


def extint(cpu: Cpu) -> bool:
    """kvm_cpu_has_extint."""
    return cpu.has(Traffic.EXTINT) and not cpu.has(Series.PIC_GUARD)


def one_level(val: int, shadow: int) -> int:
    """Change.ONE_LEVEL: of the level-triggered vectors only the highest, and none while one is in service."""
    highest = highest_of(val & LEVELS) if shadow == 0 else 0
    return (val & ~LEVELS) | highest


@TARGET.step(source="sev.c sev_savic_set_requested_irr: apic_clear_vector")
def inject_clear(cpu: Cpu, my: Target) -> str:
    """One vector after another, by locked operations. A level-triggered one counts as in service from now on:
    APIC_TMR, which is read next, says what it said when the vector was accepted. At last, UpdateIRR."""
    bit = lowest_of(my.val)
    cpu.atomic_fetch_and(Savic.kvm_irr, 0 if cpu.has(Fault.CLEAR_ALL) else ~bit & 31)
    cpu.write(Savic.owed, cpu.read(Savic.owed) & ~bit)
    cpu.write(Savic.promised, cpu.read(Savic.promised) | bit)
    cpu.write(Savic.shadow_isr, cpu.read(Savic.shadow_isr) | (bit & LEVELS))
    my.val = my.val & ~bit
    if my.val != 0:
        return "inject_clear"
    if not cpu.has(Fault.NO_UPDATE):
        cpu.write(Savic.update_irr, True)
    return "inject_read" if cpu.has(Fault.READS_AGAIN) else "enter"


@TARGET.step(source="x86.c vcpu_enter_guest: smp_store_release(&vcpu->mode, IN_GUEST_MODE)")
def enter(cpu: Cpu, my: Target) -> None:
    """Interrupts are off from here on."""
    cpu.write(Savic.where, Where.BETWEEN)
    cpu.store(Savic.mode, Mode.IN_GUEST_MODE)


@TARGET.step(source="x86.c vcpu_enter_guest: kvm_vcpu_srcu_read_unlock, kvm_vcpu_exit_request")
def recheck_mode(cpu: Cpu, my: Target, gives_up: bool) -> str | None:
    """Somebody kicks the vCPU, or the thread has to reschedule or has a signal."""
    cpu.smp_mb()
    kicked = cpu.load(Savic.mode) == Mode.EXITING_GUEST_MODE
    return "cancel" if kicked or gives_up else None


@TARGET.step(source="x86.c kvm_vcpu_exit_request: kvm_request_pending")
def recheck_requests(cpu: Cpu, my: Target) -> str:
    """A request has come meanwhile."""
    if cpu.load(Savic.request_event):
        return "cancel"
    return "immediate_exit" if my.immediate else "read_pending_ipi"


@TARGET.step(source="x86.c vcpu_enter_guest: cancel_injection")
def cancel(cpu: Cpu, my: Target) -> str:
    """RequestedIRR and UpdateIRR stay as they are."""
    cpu.store(Savic.mode, Mode.OUTSIDE_GUEST_MODE)
    return "request_again" if my.immediate else "check_requests"


@TARGET.step(source="x86.c vcpu_enter_guest: cancel_injection, req_immediate_exit")
def request_again(cpu: Cpu, my: Target) -> str:
    """KVM_REQ_EVENT."""
    my.immediate = False
    cpu.xchg(Savic.request_event, True)
    return "check_requests"


@TARGET.step(source="x86.c vcpu_enter_guest: req_immediate_exit, svm.c smp_send_reschedule")
def immediate_exit(cpu: Cpu, my: Target) -> None:
    """KVM_REQ_EVENT and an IPI to itself."""
    my.immediate = False
    cpu.xchg(Savic.request_event, True)
    cpu.write(Savic.kick, True)


@TARGET.step(source="sev.c pre_sev_run")
def read_pending_ipi(cpu: Cpu, my: Target) -> str:
    """-EINVAL without a VMSA; then READ_ONCE(sev_savic_has_pending_ipi)."""
    if not cpu.read(Savic.vmsa):
        cpu.write(Savic.failed, True)
        return "gone"
    pending = cpu.load(Savic.has_pending_ipi)
    return "clear_pending_ipi" if pending and not cpu.has(Fault.STICKY_STAYS) else "vmrun"


@TARGET.step(source="sev.c pre_sev_run")
def clear_pending_ipi(cpu: Cpu, my: Target) -> None:
    """WRITE_ONCE(sev_savic_has_pending_ipi, false)."""
    cpu.store(Savic.has_pending_ipi, False)


# VMRUN.


def asked(cpu: Cpu) -> int:
    """What the host requests and the guest allows."""
    if not cpu.read(Savic.update_irr):
        return 0
    return cpu.read(Savic.requested_irr) & allowed(cpu)


def allowed(cpu: Cpu) -> int:
    """ALLOWED_IRR."""
    if cpu.has(Fault.NO_FILTER):
        return 31
    return ALLOWED & ~LEVEL_B if cpu.has(Traffic.WITHDRAWN) else ALLOWED


def used(cpu: Cpu) -> None:
    """The request has been used."""
    requested = cpu.read(Savic.requested_irr)
    if not cpu.read(Savic.update_irr):
        return
    cpu.write(Savic.promised, cpu.read(Savic.promised) & ~requested)
    cpu.write(Savic.update_irr, False)
    if not cpu.has(RequestedAfterEntry.REQUESTED_STAYS):
        left = requested & ~allowed(cpu) if cpu.has(NotAllowed.LEFT_REQUESTED) else 0
        cpu.write(Savic.requested_irr, left)


@TARGET.step(source="HW.VMRUN")
def vmrun(cpu: Cpu, my: Target) -> str:
    """IRR takes in what is requested and allowed, and the request is used up; then V_INTR is evaluated. What
    others set in IRR in between counts as set before."""
    if not cpu.has(EntryFence.ENTRY_OVERTAKES):
        cpu.smp_mb()
    my.seen = cpu.read(Savic.irr)
    return "vmrun_write" if cpu.has(IrrUpdate.UPDATE_SPLIT) else entered(cpu, my)


@TARGET.step(at="vmrun", source="HW.VMRUN")
def vmrun_cached(cpu: Cpu, my: Target) -> str:
    """CleanBits.REQUEST_CACHED: no request is seen; it stays in memory."""
    cpu.wait_until(cpu.has(CleanBits.REQUEST_CACHED) and not cpu.has(Change.MARKED_DIRTY))
    cpu.smp_mb()
    return goes_in(cpu, my, cpu.read(Savic.irr))


@TARGET.step(source="HW.VMRUN")
def vmrun_write(cpu: Cpu, my: Target) -> str:
    """IrrUpdate.UPDATE_SPLIT: what others set in IRR since it was read is lost."""
    return entered(cpu, my)


def entered(cpu: Cpu, my: Target) -> str:
    """The request is merged into IRR."""
    irr = my.seen | asked(cpu)
    my.seen = 0
    note_entry(cpu)
    used(cpu)
    return goes_in(cpu, my, irr)


def goes_in(cpu: Cpu, my: Target, irr: int) -> str:
    """IRR is written and evaluated; the guest goes on where it was."""
    my.injected = False
    cpu.write(Savic.irr, irr)
    cpu.write(Savic.v_intr, next_of(irr, cpu.read(Savic.isr)) != 0)
    cpu.write(Savic.where, Where.GUEST)
    return resumed(my.point)


def note_entry(cpu: Cpu) -> None:
    """History."""
    taken = asked(cpu)
    cpu.write(Savic.raised, cpu.read(Savic.raised) | taken)
    cpu.write(Savic.unasked, cpu.read(Savic.unasked) or taken & ~cpu.read(Savic.promised) != 0)


def resumed(point: Point) -> str:
    """The label of a point in the guest."""
    if point == Point.RUNS:
        return "runs"
    if point == Point.HANDLES:
        return "handles"
    if point == Point.ENDS:
        return "ends"
    return "rewrites" if point == Point.REWRITES else "halt_tested"


# After an exit.


@TARGET.step(source="svm.c svm_complete_interrupts")
def reported(cpu: Cpu, my: Target) -> str:
    """EXITINTINFO is valid: kvm_queue_interrupt, and KVM_REQ_EVENT."""
    my.injected = True
    cpu.xchg(Savic.request_event, True)
    return "leave"


@TARGET.step(source="x86.c vcpu_enter_guest: vcpu->mode = OUTSIDE_GUEST_MODE")
def leave(cpu: Cpu, my: Target) -> str:
    """Interrupts are on soon after; what to do depends on the exit."""
    cpu.store(Savic.mode, Mode.OUTSIDE_GUEST_MODE)
    cpu.write(Savic.where, Where.HOST)
    reason, my.reason = my.reason, ExitReason.INTR
    if reason == ExitReason.HLT:
        return "halt_check"
    if reason == ExitReason.INTR:
        return "check_requests"
    return "eoi" if reason == ExitReason.EOI else "rte"


def events(cpu: Cpu, my: Target, again: str) -> str:
    """kvm_cpu_has_interrupt: kvm_cpu_has_extint, then protected_apic_has_interrupt: the sticky flag, then
    APIC_IRR at ``again``. History: whether the flag ends HLT for nothing."""
    if cpu.has(Change.NEEDS_VMSA) and not cpu.read(Savic.vmsa):
        return "sleep"
    if extint(cpu):
        return "wake"
    if not cpu.has(Fault.NO_PENDING_BARRIER):
        cpu.smp_mb()
    if not cpu.load(Savic.has_pending_ipi):
        return again
    if next_of(cpu.read(Savic.irr), cpu.read(Savic.isr)) == 0:
        cpu.write(Savic.spurious, at_most(cpu.read(Savic.spurious) + 1, 2))
    return "wake"


@TARGET.step(source="x86.c __kvm_emulate_halt: kvm_vcpu_has_events")
def halt_check(cpu: Cpu, my: Target) -> str:
    """The vCPU stays runnable if it has an event."""
    return events(cpu, my, "halt_check_irr")


@TARGET.step(source="lapic.c kvm_apic_has_interrupt")
def halt_check_irr(cpu: Cpu, my: Target) -> str:
    """KVM_MP_STATE_HALTED without one."""
    return "wake" if cpu.load(Savic.kvm_irr) != 0 or cpu.read(Savic.request_state) else "block"


@TARGET.step(source="kvm_main.c kvm_vcpu_block: set_current_state")
def block(cpu: Cpu, my: Target) -> None:
    """TASK_INTERRUPTIBLE, then a full barrier."""
    if cpu.has(Fault.NO_STATE_BARRIER):
        cpu.store(Savic.asleep, True)
    else:
        cpu.xchg(Savic.asleep, True)


@TARGET.step(source="kvm_main.c kvm_vcpu_check_block: kvm_arch_vcpu_runnable")
def block_check(cpu: Cpu, my: Target) -> str:
    """The last look before the thread sleeps."""
    return events(cpu, my, "block_check_irr")


@TARGET.step(source="lapic.c kvm_apic_has_interrupt")
def block_check_irr(cpu: Cpu, my: Target) -> str:
    """interrupt_allowed is always 1."""
    return "wake" if cpu.load(Savic.kvm_irr) != 0 or cpu.read(Savic.request_state) else "sleep"


@TARGET.step(source="kvm_main.c kvm_vcpu_block: schedule")
def sleep(cpu: Cpu, my: Target) -> str:
    """Until somebody wakes the thread; then it looks again."""
    cpu.smp_mb()
    cpu.wait_until(not cpu.load(Savic.asleep))
    return "block"


@TARGET.step(source="x86.c vcpu_block: KVM_MP_STATE_RUNNABLE")
def wake(cpu: Cpu, my: Target) -> str:
    """HLT ends."""
    cpu.store(Savic.asleep, False)
    return "check_requests"


# AP_DESTROY.


@TARGET.step(source="x86.c kvm_vcpu_reset, sev.c sev_snp_init_protected_guest_state")
def reset(cpu: Cpu, my: Target) -> str:
    """The VMSA is gone, the local APIC is reset, the vCPU halted. The sticky flag stays, and RequestedIRR."""
    cpu.xchg(Savic.kvm_irr, 0)
    cpu.write(Savic.request_state, False)
    cpu.write(Savic.vmsa, False)
    cpu.write(Savic.owed, 0)
    cpu.write(Savic.shadow_isr, 0)
    return "block"


@TARGET.step(source="KVM_EXIT_FAIL_ENTRY")
def gone(cpu: Cpu, my: Target) -> str:
    """Userspace gives the VM up."""
    cpu.wait_until(False)
    return "gone"


# VMGEXITs of level-triggered interrupts.


@TARGET.step(source="sev.c savic_handle_msr_exit: APIC_EOI")
def eoi(cpu: Cpu, my: Target) -> str:
    """The highest vector of the shadow ISR is ended, whichever the guest has ended (``served``)."""
    shadow = cpu.read(Savic.shadow_isr)
    vector = my.served if cpu.has(Change.EXACT_EOI) else highest_of(shadow)
    cpu.write(Savic.no_eoi, cpu.read(Savic.no_eoi) or vector == 0)
    cpu.write(Savic.wrong_eoi, cpu.read(Savic.wrong_eoi) or (vector != my.served and vector != 0))
    cpu.write(Savic.shadow_isr, shadow & ~vector)
    my.ended = vector
    return "ended"


@TARGET.step(source="ioapic.c kvm_ioapic_update_eoi_one", coarse="under ioapic->lock")
def ended(cpu: Cpu, my: Target) -> str:
    """Remote IRR is cleared, and an asserted line serviced again; KVM_REQ_EVENT."""
    cpu.write(Savic.remote_irr, cpu.read(Savic.remote_irr) & ~my.ended)
    if cpu.read(Savic.line) & my.ended == 0:
        my.ended = 0
        return "made_event"
    cpu.write(Savic.remote_irr, cpu.read(Savic.remote_irr) | my.ended)
    return "reaccept"


@TARGET.step(source="ioapic.c ioapic_write_indirect", coarse="under ioapic->lock; masked while it is edge")
def rte(cpu: Cpu, my: Target) -> str:
    """The driver's entry is edge and level again: Remote IRR is cleared, an asserted line serviced again."""
    my.ended = my.served
    return ended_by_rte(cpu, my)


def ended_by_rte(cpu: Cpu, my: Target) -> str:
    """As ``ended``, without an event where nothing is serviced."""
    cpu.write(Savic.remote_irr, cpu.read(Savic.remote_irr) & ~my.ended)
    if cpu.read(Savic.line) & my.ended == 0:
        return done_ending(my)
    cpu.write(Savic.remote_irr, cpu.read(Savic.remote_irr) | my.ended)
    return "reaccept"


def done_ending(my: Target) -> str:
    """Back to the guest."""
    my.ended = 0
    my.served = 0
    return "check_requests"


@TARGET.step(source="lapic.c __apic_accept_irq")
def reaccept(cpu: Cpu, my: Target) -> None:
    """The line is still asserted: APIC_IRR, by a locked operation."""
    cpu.atomic_fetch_or(Savic.kvm_irr, my.ended)
    cpu.write(Savic.owed, cpu.read(Savic.owed) | my.ended)


@TARGET.step(source="lapic.c kvm_apic_set_eoi_accelerated: kvm_make_request(KVM_REQ_EVENT)")
def made_event(cpu: Cpu, my: Target) -> str:
    """For itself: no kick is needed."""
    cpu.xchg(Savic.request_event, True)
    return done_ending(my)
