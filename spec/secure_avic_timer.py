"""The model secure-avic-timer: the LAPIC timer of a Secure AVIC guest, from arming to the tick's EOI.

KVM emulates it: the guest writes LVTT, TMICT and TSC_DEADLINE by VMGEXIT; the hrtimer that expires leaves a
tick pending; the vCPU's own thread makes it an edge of LVTT's vector in KVM's IRR, and that is requested from
the hardware like any device's (lapic.c; patches 06/17 and 15/17). How KVM's IRR is read and cleared is the
model secure-avic's matter.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description
from avicheck.spec.lang import Scope
from avicheck.spec.memory import Reg, local, shared
from avicheck.spec.secure_avic_run import Series, SpivNotice
from avicheck.spec.threads import Model, Thread, ThreadState, World, label_of, leads_to, never, sometimes


class TimerMode(Enum):
    """How the guest uses the timer."""

    ANY_MODE = "in one of these ways"
    ONESHOT = "TMICT, once; the handler arms it again"
    PERIODIC = "TMICT, again and again"
    TSC_DEADLINE = "TSC_DEADLINE, once; the handler arms it again"


class TimerVector(Enum):
    """When the guest allows the timer's vector. setup_APIC_timer() does before anything is armed."""

    ALLOWED_FIRST = "before it arms the timer"
    ALLOWED_LATE = "after it has armed the timer"
    REFUSED = "never"


class Advance(Enum):
    """Whether KVM's hrtimer expires before the deadline (lapic_timer_advance; TSC_DEADLINE only)."""

    ADVANCED = "up to timer_advance_ns before it; the entry that brings the tick waits for the rest"
    EXACT = "at the deadline"


class TimerFix(Enum):
    """Patches of the series."""

    CHECKS_REQUEST = "KVM: SVM: Check injected timers for Secure AVIC guests (v2 15/17)"


class TimerFault(Enum):
    """Planted faults."""

    NO_UNBLOCK = "apic_timer_expired() does not make KVM_REQ_UNBLOCK"
    NO_WAKE = "apic_timer_expired() does not kick the vCPU"
    NO_WAIT = "kvm_wait_lapic_expire() does not wait"
    CANCEL_DOES_NOT_WAIT = "the timer is armed again while its callback runs"


@shared
class Timer:
    """KVM's timer and the vCPU: the two threads use locked operations, or one alone uses it."""

    mode: Reg[TimerMode]
    """How the guest uses it, in this run."""
    masked: Reg[bool]
    """LVTT's mask in KVM."""
    armed: Reg[bool]
    """The hrtimer is queued."""
    firing: Reg[bool]
    """Its callback runs."""
    due: Reg[bool]
    """The deadline has come."""
    pending: Reg[bool]
    """``lapic_timer.pending``."""
    expired_deadline: Reg[bool]
    """``expired_tscdeadline``: a deadline that an entry may have to wait for."""
    request_unblock: Reg[bool]
    request_event: Reg[bool]
    kick: Reg[bool]
    asleep: Reg[bool]
    in_guest_mode: Reg[bool]
    in_guest: Reg[bool]
    kvm_irr: Reg[bool]
    requested: Reg[bool]
    """RequestedIRR has the vector, and UpdateIRR is set."""
    irr: Reg[bool]
    isr: Reg[bool]
    allowed: Reg[bool]
    owed: Reg[bool]
    """History: the timer has expired, and its tick was not served."""
    former: Reg[bool]
    """History: the timer was armed while an older tick was on its way."""
    early: Reg[bool]
    """History: a tick was served before its deadline."""
    waited: Reg[bool]
    """History: an entry waited for a deadline whose tick it did not bring."""
    dropped: Reg[bool]
    """History: a tick was refused by ALLOWED_IRR."""
    coalesced: Reg[bool]
    """History: the timer expired again while a tick was pending."""


class Stage(Enum):
    """Where the guest goes on after an entry."""

    ALLOW = "before it allows the vector"
    UNMASK = "before it writes LVTT"
    ARM = "before it arms the timer"
    ALLOW_LATE = "armed, before it allows the vector"
    RUNS = "interrupts enabled"
    HANDLES = "in the tick's handler"
    STOP = "LVTT is masked, before it stops the timer"
    STOPPED = "the timer is stopped"


@local
class Guest:
    """Where the guest goes on."""

    stage: Stage = Stage.ALLOW


@local
class Nothing:
    """No local variables."""


VCPU: Final = Thread("vcpu", Guest, buffered=False, source="x86.c vcpu_run")
HRTIMER: Final = Thread("hrtimer", Nothing, buffered=False, source="lapic.c apic_timer_fn")
TIME: Final = Thread("time", Nothing, buffered=False, source="the deadline")


def sw_enabled(cpu: Cpu) -> bool:
    """kvm_apic_sw_enabled."""
    return not cpu.has(SpivNotice.SPIV_NOT_SENT) or cpu.has(Series.SPIV_FORCED)


def in_mode(cpu: Cpu, mode: TimerMode) -> bool:
    """The guest uses the timer so."""
    return cpu.read(Timer.mode) == mode


def has_pending_timer(cpu: Cpu) -> bool:
    """apic_has_pending_timer: nothing while LVTT is masked."""
    return sw_enabled(cpu) and not cpu.read(Timer.masked) and cpu.read(Timer.pending)


# KVM's thread.


@VCPU.step(source="x86.c vcpu_run: kvm_clear_request(KVM_REQ_UNBLOCK), kvm_cpu_has_pending_timer")
def check_timer(cpu: Cpu, my: Guest) -> str:
    """A pending tick is made an interrupt before the next entry."""
    cpu.write(Timer.request_unblock, False)
    return "inject_timer" if has_pending_timer(cpu) else "check_event"


@VCPU.step(source="lapic.c kvm_inject_apic_timer_irqs: kvm_apic_local_deliver(APIC_LVTT)")
def inject_timer(cpu: Cpu, my: Guest) -> None:
    """An edge of LVTT's vector, for itself: KVM_REQ_EVENT."""
    cpu.write(Timer.kvm_irr, True)
    cpu.write(Timer.request_event, True)


@VCPU.step(source="lapic.c kvm_inject_apic_timer_irqs: atomic_set(&pending, 0)")
def clear_pending(cpu: Cpu, my: Guest) -> None:
    """If the timer has expired again meanwhile, that tick is the same interrupt."""
    cpu.write(Timer.pending, False)


@VCPU.step(source="x86.c vcpu_enter_guest: kvm_check_request(KVM_REQ_EVENT)")
def check_event(cpu: Cpu, my: Guest) -> None:
    """sev_savic_set_requested_irr."""
    if cpu.read(Timer.request_event):
        cpu.write(Timer.request_event, False)
        cpu.write(Timer.requested, cpu.read(Timer.requested) or cpu.read(Timer.kvm_irr))
        cpu.write(Timer.kvm_irr, False)


@VCPU.step(source="x86.c vcpu_enter_guest: kvm_vcpu_exit_request")
def enter(cpu: Cpu, my: Guest) -> str:
    """IN_GUEST_MODE; a request that has come meanwhile cancels the entry, and RequestedIRR stays."""
    cancelled = cpu.read(Timer.request_event) or cpu.read(Timer.request_unblock)
    cpu.write(Timer.in_guest_mode, not cancelled)
    return "check_timer" if cancelled else "wait_expire"


@VCPU.step(source="svm.c svm_vcpu_run: kvm_wait_lapic_expire")
def wait_expire(cpu: Cpu, my: Guest) -> str:
    """TimerFix.CHECKS_REQUEST: only if RequestedIRR has the vector; otherwise any tick counts as injected."""
    requested = cpu.read(Timer.requested) or not cpu.has(TimerFix.CHECKS_REQUEST)
    if not (cpu.read(Timer.expired_deadline) and requested) or cpu.has(TimerFault.NO_WAIT):
        return "vmrun"
    in_vain = not cpu.read(Timer.requested) and not cpu.read(Timer.due)
    cpu.write(Timer.waited, cpu.read(Timer.waited) or in_vain)
    return "delay"


@VCPU.step(source="lapic.c __kvm_wait_lapic_expire")
def delay(cpu: Cpu, my: Guest) -> None:
    """Until the deadline, interrupts off."""
    cpu.wait_until(cpu.read(Timer.due))
    cpu.write(Timer.expired_deadline, False)


@VCPU.step(source="HW.VMRUN")
def vmrun(cpu: Cpu, my: Guest) -> str:
    """IRR takes the vector in if it is requested and allowed."""
    requested, allowed = cpu.read(Timer.requested), cpu.read(Timer.allowed)
    cpu.write(Timer.irr, cpu.read(Timer.irr) or (requested and allowed))
    cpu.write(Timer.dropped, cpu.read(Timer.dropped) or (requested and not allowed))
    cpu.write(Timer.requested, False)
    cpu.write(Timer.in_guest, True)
    return label_of(my.stage, Stage)


@VCPU.step(source="kvm_main.c kvm_vcpu_block: set_current_state")
def block(cpu: Cpu, my: Guest) -> None:
    """TASK_INTERRUPTIBLE."""
    cpu.write(Timer.asleep, True)


@VCPU.step(source="kvm_main.c kvm_vcpu_check_block")
def check_block(cpu: Cpu, my: Guest) -> str:
    """An interrupt, a pending tick or KVM_REQ_UNBLOCK."""
    if cpu.read(Timer.kvm_irr) or has_pending_timer(cpu) or cpu.read(Timer.request_unblock):
        cpu.write(Timer.asleep, False)
        return "check_timer"
    return "sleep"


@VCPU.step(source="kvm_main.c kvm_vcpu_block: schedule")
def sleep(cpu: Cpu, my: Guest) -> str:
    """Until the thread is woken."""
    cpu.wait_until(not cpu.read(Timer.asleep))
    return "block"


@VCPU.step(source="lapic.c kvm_lapic_reg_write: APIC_LVTT")
def set_lvtt(cpu: Cpu, my: Guest) -> str:
    """Unmasked, unless the APIC counts as disabled by software."""
    cpu.write(Timer.masked, not sw_enabled(cpu))
    return "check_timer"


@VCPU.step(source="lapic.c start_apic_timer, kvm_set_lapic_tscdeadline_msr")
def start(cpu: Cpu, my: Guest, past: bool) -> str:
    """hrtimer_cancel waits for the callback; what was pending is forgotten. ``past``: the deadline is over
    already, and the tick pending at once."""
    cpu.wait_until(not cpu.read(Timer.firing) or cpu.has(TimerFault.CANCEL_DOES_NOT_WAIT))
    cpu.write(Timer.pending, past)
    cpu.write(Timer.due, past)
    cpu.write(Timer.armed, not past or in_mode(cpu, TimerMode.PERIODIC))
    cpu.write(Timer.expired_deadline, past and in_mode(cpu, TimerMode.TSC_DEADLINE))
    cpu.write(Timer.request_unblock, cpu.read(Timer.request_unblock) or past)
    cpu.write(Timer.owed, past and not cpu.read(Timer.masked))
    cpu.write(Timer.former, cpu.read(Timer.kvm_irr) or cpu.read(Timer.requested) or cpu.read(Timer.irr))
    return "check_timer"


@VCPU.step(source="lapic.c kvm_lapic_reg_write: APIC_LVTT")
def mask_lvtt(cpu: Cpu, my: Guest) -> str:
    """A tick that is pending stays so, and is not injected."""
    cpu.write(Timer.masked, True)
    cpu.write(Timer.owed, False)
    return "check_timer"


@VCPU.step(source="lapic.c kvm_lapic_reg_write: APIC_TMICT = 0")
def cancel(cpu: Cpu, my: Guest) -> str:
    """The hrtimer is cancelled, and what was pending forgotten."""
    cpu.wait_until(not cpu.read(Timer.firing))
    cpu.write(Timer.armed, False)
    cpu.write(Timer.pending, False)
    return "check_timer"


# The guest.


def goes_to(my: Guest, stage: Stage) -> str:
    """The guest goes on there without an exit."""
    my.stage = stage
    return label_of(stage, Stage)


def exits(cpu: Cpu, my: Guest, stage: Stage, label: str) -> str:
    """It goes on there after an exit, which KVM handles at a label; a kick under way has come."""
    my.stage = stage
    cpu.write(Timer.in_guest_mode, False)
    cpu.write(Timer.in_guest, False)
    cpu.write(Timer.kick, False)
    return label


@VCPU.anywhere(source="HW.VMEXIT")
def kicked(cpu: Cpu, my: Guest) -> str:
    """The kick makes the vCPU exit."""
    cpu.wait_until(cpu.read(Timer.kick) and cpu.read(Timer.in_guest))
    return exits(cpu, my, my.stage, "check_timer")


@VCPU.anywhere(source="HW.VMEXIT")
def interrupted(cpu: Cpu, my: Guest) -> str:
    """Any other exit."""
    cpu.wait_until(cpu.read(Timer.in_guest))
    return exits(cpu, my, my.stage, "check_timer")


@VCPU.step(source="apic.c setup_APIC_timer: apic_update_vector(LOCAL_TIMER_VECTOR)")
def allow(cpu: Cpu, my: Guest) -> str:
    """TimerVector.ALLOWED_FIRST."""
    refused = cpu.has(TimerVector.ALLOWED_LATE) or cpu.has(TimerVector.REFUSED)
    cpu.write(Timer.allowed, not refused)
    return goes_to(my, Stage.UNMASK)


@VCPU.step(source="apic.c __setup_APIC_LVTT")
def unmask(cpu: Cpu, my: Guest) -> str:
    """LVTT, by VMGEXIT."""
    return exits(cpu, my, Stage.ARM, "set_lvtt")


@VCPU.step(source="apic.c lapic_next_event, lapic_next_deadline")
def arm(cpu: Cpu, my: Guest) -> str:
    """TMICT or TSC_DEADLINE, by VMGEXIT."""
    after = Stage.ALLOW_LATE if cpu.has(TimerVector.ALLOWED_LATE) else Stage.RUNS
    return exits(cpu, my, after, "start")


@VCPU.step(source="apic_update_vector(LOCAL_TIMER_VECTOR)")
def allow_late(cpu: Cpu, my: Guest) -> str:
    """TimerVector.ALLOWED_LATE."""
    cpu.write(Timer.allowed, True)
    return goes_to(my, Stage.RUNS)


@VCPU.step(at="runs", source="HW.DELIVER")
def deliver(cpu: Cpu, my: Guest) -> str:
    """The tick is served."""
    cpu.wait_until(cpu.read(Timer.irr))
    cpu.write(Timer.irr, False)
    cpu.write(Timer.isr, True)
    cpu.write(Timer.owed, False)
    early = in_mode(cpu, TimerMode.TSC_DEADLINE) and not cpu.read(Timer.due) and not cpu.read(Timer.former)
    cpu.write(Timer.early, cpu.read(Timer.early) or early)
    cpu.write(Timer.former, False)
    return goes_to(my, Stage.HANDLES)


@VCPU.step(at="runs", source="the guest")
def computes(cpu: Cpu, my: Guest) -> str:
    """Something else, for ever if it likes."""
    return "runs"


@VCPU.step(at="runs", source="HW.HLT")
def halt(cpu: Cpu, my: Guest) -> str:
    """Idle-HLT: no exit with V_INTR set."""
    cpu.wait_until(not cpu.read(Timer.irr))
    return exits(cpu, my, Stage.RUNS, "block")


@VCPU.step(at="runs", source="apic.c lapic_timer_shutdown")
def shut_down(cpu: Cpu, my: Guest) -> str:
    """LVTT is masked, by VMGEXIT."""
    return exits(cpu, my, Stage.STOP, "mask_lvtt")


@VCPU.step(source="apic.c sysvec_apic_timer_interrupt: apic_eoi, local_apic_timer_interrupt")
def handles(cpu: Cpu, my: Guest) -> str:
    """WRMSR EOI; then the next event is programmed, unless the timer is periodic."""
    cpu.write(Timer.isr, False)
    return goes_to(my, Stage.RUNS if in_mode(cpu, TimerMode.PERIODIC) else Stage.ARM)


@VCPU.step(source="apic.c lapic_timer_shutdown")
def stop(cpu: Cpu, my: Guest) -> str:
    """TMICT or TSC_DEADLINE is 0, by VMGEXIT."""
    return exits(cpu, my, Stage.STOPPED, "cancel")


@VCPU.step(at="stopped", source="HW.DELIVER")
def tick_when_stopped(cpu: Cpu, my: Guest) -> str:
    """A tick that was in IRR already: the handler takes it as spurious."""
    cpu.wait_until(cpu.read(Timer.irr))
    cpu.write(Timer.irr, False)
    return "stopped"


@VCPU.step(at="stopped", source="apic.c lapic_timer_set_oneshot, lapic_timer_set_periodic")
def restart(cpu: Cpu, my: Guest) -> str:
    """The timer is used again."""
    return goes_to(my, Stage.UNMASK)


# The hrtimer.


@HRTIMER.step(source="lapic.c apic_timer_fn, apic_timer_expired: atomic_read(&pending)")
def fire(cpu: Cpu, my: Nothing) -> str:
    """At the deadline, or a little before it; nothing more to do if a tick is pending."""
    early = in_mode(cpu, TimerMode.TSC_DEADLINE) and not cpu.has(Advance.EXACT)
    cpu.wait_until(cpu.read(Timer.armed) and (cpu.read(Timer.due) or early))
    cpu.write(Timer.armed, in_mode(cpu, TimerMode.PERIODIC))
    cpu.write(Timer.due, cpu.read(Timer.due) and not in_mode(cpu, TimerMode.PERIODIC))
    cpu.write(Timer.owed, cpu.read(Timer.owed) or not cpu.read(Timer.masked))
    if cpu.read(Timer.pending):
        cpu.write(Timer.coalesced, True)
        return "fire"
    cpu.write(Timer.firing, True)
    cpu.write(Timer.expired_deadline, in_mode(cpu, TimerMode.TSC_DEADLINE))
    return "set_pending"


@HRTIMER.step(source="lapic.c apic_timer_expired: atomic_inc(&pending)")
def set_pending(cpu: Cpu, my: Nothing) -> None:
    """The tick is pending."""
    cpu.write(Timer.pending, True)


@HRTIMER.step(source="lapic.c apic_timer_expired: kvm_make_request(KVM_REQ_UNBLOCK)")
def make_request(cpu: Cpu, my: Nothing) -> None:
    """An entry that is under way is cancelled, sleep ends."""
    cpu.write(Timer.request_unblock, not cpu.has(TimerFault.NO_UNBLOCK))


@HRTIMER.step(source="kvm_main.c kvm_vcpu_kick")
def kick(cpu: Cpu, my: Nothing) -> str:
    """Wake the thread, or kick the vCPU."""
    cpu.write(Timer.firing, False)
    if not cpu.has(TimerFault.NO_WAKE):
        cpu.write(Timer.asleep, False)
        cpu.write(Timer.kick, cpu.read(Timer.in_guest_mode))
    return "fire"


@TIME.anywhere(source="the deadline")
def passes(cpu: Cpu, my: Nothing) -> None:
    """The deadline comes. A period is longer than an entry takes (min_timer_period_us)."""
    cpu.wait_until(not cpu.read(Timer.due) and (cpu.read(Timer.armed) or cpu.read(Timer.expired_deadline)))
    cpu.wait_until(not in_mode(cpu, TimerMode.PERIODIC) or cpu.read(Timer.in_guest) or cpu.read(Timer.asleep))
    cpu.write(Timer.due, True)


# What is asked.


def vcpu(world: World[Timer]) -> ThreadState[Guest]:
    """The vCPU."""
    return world.of(VCPU)[0]


def early_tick(world: World[Timer]) -> bool:
    """A tick was served before its deadline."""
    return world.shared.early


def waits_in_vain(world: World[Timer]) -> bool:
    """An entry has waited for a deadline whose tick it did not bring."""
    return world.shared.waited


def tick_dropped(world: World[Timer]) -> bool:
    """A tick was refused by ALLOWED_IRR."""
    return world.shared.dropped


def tick_owed(world: World[Timer]) -> bool:
    """The timer has expired, and the guest waits for its tick."""
    return world.shared.owed


def tick_over(world: World[Timer]) -> bool:
    """The tick is served, or the guest has stopped or armed the timer again."""
    return not world.shared.owed


def set_up(world: World[Timer]) -> bool:
    """The guest has armed its timer."""
    return vcpu(world).my.stage == Stage.RUNS and not vcpu(world).at("start")


def ticks(world: World[Timer]) -> bool:
    """A tick is served, or the guest stops the timer."""
    return world.shared.isr or vcpu(world).my.stage == Stage.STOP


def coalesced(world: World[Timer]) -> bool:
    """The timer has expired again before its tick was injected."""
    return world.shared.coalesced


def held_back(world: World[Timer]) -> bool:
    """A tick is pending that LVTT's mask holds back."""
    return world.shared.pending and world.shared.masked


def comes_too_late(world: World[Timer]) -> bool:
    """The guest has stopped the timer, and a tick is in IRR."""
    return vcpu(world).at("stopped") and world.shared.irr


def waits(world: World[Timer]) -> bool:
    """An entry waits for the rest of a deadline, with its tick in RequestedIRR."""
    return vcpu(world).at("delay") and world.shared.requested and not world.shared.due


def woken(world: World[Timer]) -> bool:
    """A tick is pending for a thread that sleeps."""
    return world.shared.asleep and vcpu(world).at("sleep") and world.shared.pending


FREE_TO_DO: Final = (interrupted, computes, halt, shut_down, restart)
"""What may, but need not happen."""
VCPU_STEPS: Final = tuple(step for step in VCPU.steps if step not in FREE_TO_DO)


def at_rest(world: World[Timer]) -> bool:
    """The vCPU sleeps, and nothing is under way."""
    shared_ = world.shared
    quiet = not shared_.armed and not shared_.firing and (shared_.masked or not shared_.pending)
    return vcpu(world).at("sleep") and shared_.asleep and quiet


def initial(scope: Scope, options: frozenset[Enum]) -> list[Timer]:
    """The APIC was reset: LVTT is masked, the timer stopped."""
    modes = [mode for mode in TimerMode if mode != TimerMode.ANY_MODE]
    chosen = [mode for mode in modes if mode in options] or modes
    return [Timer(mode, True, *(False for _ in range(22))) for mode in chosen]


TIMER_MODEL: Final = Model(
    "secure-avic-timer",
    Timer,
    (VCPU, HRTIMER, TIME),
    initial,
    (
        never("early-tick", "No tick is served before its deadline.", early_tick),
        never("waits-in-vain", "No entry waits for a deadline whose tick it does not bring.", waits_in_vain),
        never("tick-dropped", "No tick is refused.", tick_dropped),
        sometimes("coalesced", "A tick can coalesce with the one before.", coalesced),
        sometimes("held-back", "LVTT's mask can hold a tick back.", held_back),
        sometimes("comes-too-late", "A tick can come after the timer was stopped.", comes_too_late),
        sometimes("waits", "An entry can wait for the rest of the deadline.", waits),
        sometimes("woken", "A tick can be pending for a vCPU that sleeps.", woken),
        leads_to(
            "tick-served",
            "P-L6: a tick is served, unless the guest stops the timer or arms it again.",
            tick_owed,
            tick_over,
            weak=HRTIMER.steps[1:],
            strong=(*VCPU_STEPS, passes),
        ),
        leads_to(
            "timer-goes-on",
            "P-L6: a timer that was armed goes on ticking, until the guest stops it.",
            set_up,
            ticks,
            weak=HRTIMER.steps,
            strong=(*VCPU_STEPS, passes),
        ),
    ),
    at_rest,
)

TIMER_DESCRIPTION: Final = Description(
    model=TIMER_MODEL,
    summary="The LAPIC timer of an AMD Secure AVIC guest: armed, expired, requested, served.",
    covers=(
        "LVTT, TMICT and TSC_DEADLINE by VMGEXIT; apic_timer_fn, kvm_inject_apic_timer_irqs, "
        "kvm_wait_lapic_expire; coalescing, LVTT's mask, stopping and arming again",
        "injection by RequestedIRR, cancelled entries, ALLOWED_IRR, HLT and wake-up",
    ),
    scope={},
    kernels={
        "savic-rfc-v1": frozenset({Series.SPIV_FORCED, TimerFix.CHECKS_REQUEST}),
        "savic-rfc-v2": frozenset({TimerFix.CHECKS_REQUEST}),
    },
    kernel="savic-rfc-v2",
    switches=(TimerFix, (Series.SPIV_FORCED,), TimerFault),
    assumptions=(
        Assumption(TimerMode, "apic.c: the clock event devices of the LAPIC"),
        Assumption(TimerVector, "apic.c setup_APIC_timer"),
        Assumption(Advance, "lapic.c lapic_timer_advance: on by default"),
        Assumption(SpivNotice, "cover letter, Changes since v1"),
    ),
)
