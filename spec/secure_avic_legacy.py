"""The model secure-avic-legacy: KVM's PIC, PIT and RTC line, with a Secure AVIC guest.

Each wants something of the local APIC that the series gives up (cover letter; SAV-C17). The PIC's interrupt
needs event injection. The PIT's reinjection, which is on unless userspace turns it off, wants to see the EOI
of an edge: the next tick waits for it (i8254.c pit_do_work). The RTC's line tells userspace whether an
interrupt coalesced, which KVM knows by the EOI, too (ioapic.c). The vCPU is KVM's loop from injection to HLT
in few steps; the model secure-avic has it in detail.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description
from avicheck.spec.lang import Range, Scope, at_most
from avicheck.spec.memory import Reg, Register, local, shared
from avicheck.spec.secure_avic_run import Series
from avicheck.spec.threads import Model, Thread, ThreadState, World, leads_to, never, sometimes

PIT: Final = 1
RTC: Final = 2

Vectors: TypeAlias = Annotated[int, Range(0, 3)]
Few: TypeAlias = Annotated[int, Range(0, 2)]


class Legacy(Enum):
    """Which of them there are."""

    PIC_USED = "the PIC's output goes high, and LVT0 lets it in"
    PIT_USED = "the guest uses the PIT by the IOAPIC"
    RTC_USED = "userspace sends the RTC's interrupts and asks whether they coalesced (KVM_IRQ_LINE_STATUS)"


class PitMode(Enum):
    """How the guest uses the PIT."""

    PIT_PERIODIC = "periodically"
    PIT_ONESHOT = "once; the handler loads the next count"


class Reinject(Enum):
    """Whether KVM reinjects ticks of the PIT (KVM_REINJECT_CONTROL)."""

    REINJECTS = "it does: the default of KVM_CREATE_PIT2"
    DOES_NOT_REINJECT = "userspace has turned it off"


class LegacyFix(Enum):
    """Patches of the series."""

    RTC_UNTRACKED = "KVM: x86/ioapic: Disable RTC EOI tracking for protected APIC guests (v2 14/17)"


class LegacyChange(Enum):
    """Changes that would close a finding."""

    NO_REINJECTION = "kvm_pit_set_reinject() leaves reinjection off for protected APICs"


class Without(Enum):
    """What KVM can do without Secure AVIC: it shows that a property can hold."""

    EOI_SEEN = "KVM sees the EOI of edges"
    PIC_INJECTED = "KVM injects the PIC's interrupt"


class LegacyFault(Enum):
    """Planted faults."""

    NO_EVENT = "delivery to a vCPU does not make KVM_REQ_EVENT"


@shared
class Old:
    """The PIC's output, the PIT's and the RTC's state in KVM, the vCPU's."""

    pic_output: Reg[bool]
    irq_ack: Reg[bool]
    """The PIT's last tick was acknowledged."""
    pit_pending: Reg[Few]
    """Ticks that were not injected yet, the one under way included."""
    pit_armed: Reg[bool]
    pit_work: Reg[bool]
    """``expired`` is queued for the PIT's worker."""
    rtc_pending_eoi: Reg[bool]
    kvm_irr: Reg[Vectors]
    request_event: Reg[bool]
    kick: Reg[bool]
    asleep: Reg[bool]
    irr: Reg[Vectors]
    isr: Reg[Vectors]
    in_guest: Reg[bool]
    tick_owed: Reg[bool]
    """History: the PIT has expired, and its tick was not served."""
    rtc_owed: Reg[bool]
    """History: userspace has sent an interrupt of the RTC that was not served."""
    told_wrong: Reg[bool]
    """History: userspace was told that an interrupt was delivered that coalesced."""
    warned: Reg[bool]
    """History: KVM found an interrupt to inject, but no vector (WARN_ON_ONCE)."""


@local
class Nothing:
    """No local variables."""


VCPU: Final = Thread("vcpu", Nothing, buffered=False, source="x86.c vcpu_run")
PIC_LINE: Final = Thread("pic", Nothing, buffered=False, source="i8259.c kvm_pic_set_irq")
PIT_TIMER: Final = Thread("pit", Nothing, buffered=False, source="i8254.c pit_timer_fn")
WORKER: Final = Thread("worker", Nothing, buffered=False, source="i8254.c pit_do_work")
RTC_LINE: Final = Thread("rtc", Nothing, buffered=False, source="ioapic.c ioapic_set_irq")


def extint(cpu: Cpu) -> bool:
    """kvm_cpu_has_extint."""
    return cpu.read(Old.pic_output) and not cpu.has(Series.PIC_GUARD)


def add(cpu: Cpu, to: Register[int], vectors: int) -> None:
    """Vectors are set in a register."""
    cpu.write(to, cpu.read(to) | vectors)


# The vCPU: KVM's loop, and the guest.


@VCPU.step(source="x86.c kvm_check_and_inject_events, sev.c sev_savic_set_requested_irr")
def inject(cpu: Cpu, my: Nothing) -> None:
    """On KVM_REQ_EVENT: APIC_IRR is requested. The PIC's output is an injectable interrupt without a vector
    where APIC_IRR is empty; nobody acknowledges the PIC."""
    if not cpu.read(Old.request_event):
        return
    cpu.write(Old.request_event, False)
    if cpu.has(Without.PIC_INJECTED):
        cpu.write(Old.pic_output, False)
    empty = cpu.read(Old.kvm_irr) == 0
    cpu.write(Old.warned, cpu.read(Old.warned) or (empty and extint(cpu)))
    add(cpu, Old.irr, cpu.read(Old.kvm_irr))
    cpu.write(Old.kvm_irr, 0)


@VCPU.step(source="HW.VMRUN")
def enter(cpu: Cpu, my: Nothing) -> None:
    """What is requested is allowed, and enters IRR: counted as done above."""
    cpu.write(Old.in_guest, True)


@VCPU.step(source="the guest")
def runs(cpu: Cpu, my: Nothing) -> str:
    """The guest has something to do, for ever if it likes."""
    return "runs"


@VCPU.step(at="runs", source="HW.DELIVER")
def deliver(cpu: Cpu, my: Nothing) -> str:
    """The PIT's vector before the RTC's."""
    irr = cpu.read(Old.irr)
    cpu.wait_until(irr != 0)
    vector = PIT if irr & PIT != 0 else RTC
    cpu.write(Old.irr, irr & ~vector)
    cpu.write(Old.isr, vector)
    cpu.write(Old.tick_owed, cpu.read(Old.tick_owed) and vector != PIT)
    cpu.write(Old.rtc_owed, cpu.read(Old.rtc_owed) and vector != RTC)
    return "handles"


@VCPU.step(at="runs", source="HW.HLT")
def halt(cpu: Cpu, my: Nothing) -> str:
    """Idle-HLT: an exit only with nothing to deliver."""
    cpu.wait_until(cpu.read(Old.irr) == 0)
    return exits(cpu, "block")


def exits(cpu: Cpu, label: str) -> str:
    """An exit, which KVM handles at a label; a kick under way has come."""
    cpu.write(Old.in_guest, False)
    cpu.write(Old.kick, False)
    return label


@VCPU.step(source="the PIT's or the RTC's handler")
def handles(cpu: Cpu, my: Nothing) -> str:
    """PitMode.PIT_ONESHOT: the next count is loaded first, which KVM takes for an acknowledgement."""
    if cpu.read(Old.isr) == PIT and cpu.has(PitMode.PIT_ONESHOT):
        cpu.write(Old.pit_armed, True)
        cpu.write(Old.irq_ack, True)
        cpu.write(Old.pit_pending, 0)
    return "ends"


@VCPU.step(source="x2apic_savic.c savic_eoi")
def ends(cpu: Cpu, my: Nothing) -> str:
    """WRMSR EOI of an edge: the hardware sees to it. Without.EOI_SEEN: KVM acknowledges PIT and RTC."""
    if cpu.has(Without.EOI_SEEN):
        acknowledges(cpu)
    cpu.write(Old.isr, 0)
    return "runs"


def acknowledges(cpu: Cpu) -> None:
    """kvm_pit_ack_irq: the next pending tick is queued. rtc_irq_eoi."""
    if cpu.read(Old.isr) == RTC:
        cpu.write(Old.rtc_pending_eoi, False)
        return
    left = cpu.read(Old.pit_pending) - 1 if cpu.read(Old.pit_pending) > 0 else 0
    cpu.write(Old.irq_ack, True)
    cpu.write(Old.pit_pending, left)
    cpu.write(Old.pit_work, cpu.read(Old.pit_work) or left > 0)


@VCPU.anywhere(source="HW.VMEXIT")
def kicked(cpu: Cpu, my: Nothing) -> str:
    """The kick makes the vCPU exit; in a handler it may as well come after it."""
    cpu.wait_until(cpu.read(Old.kick) and cpu.read(Old.in_guest) and cpu.read(Old.isr) == 0)
    return exits(cpu, "inject")


@VCPU.step(source="x86.c __kvm_emulate_halt, kvm_main.c kvm_vcpu_block: set_current_state")
def block(cpu: Cpu, my: Nothing) -> None:
    """TASK_INTERRUPTIBLE."""
    cpu.write(Old.asleep, True)


@VCPU.step(source="irq.c kvm_cpu_has_interrupt")
def check_block(cpu: Cpu, my: Nothing) -> str:
    """The PIC's output or a vector in APIC_IRR: HLT is over."""
    if extint(cpu) or cpu.read(Old.kvm_irr) != 0:
        cpu.write(Old.asleep, False)
        return "inject"
    return "sleep"


@VCPU.step(source="kvm_main.c kvm_vcpu_block: schedule")
def sleep(cpu: Cpu, my: Nothing) -> str:
    """Until the thread is woken."""
    cpu.wait_until(not cpu.read(Old.asleep))
    return "block"


# Who sends interrupts.


def delivers(cpu: Cpu, vector: int, label: str) -> str:
    """APIC_IRR, KVM_REQ_EVENT, and a kick or a wake-up."""
    add(cpu, Old.kvm_irr, vector)
    notifies(cpu)
    return label


def notifies(cpu: Cpu) -> None:
    """KVM_REQ_EVENT; whoever sleeps is woken, whoever runs is kicked."""
    cpu.write(Old.request_event, not cpu.has(LegacyFault.NO_EVENT))
    cpu.write(Old.kick, True)
    cpu.write(Old.asleep, False)


@PIC_LINE.step(source="i8259.c pic_update_irq, pic_unlock")
def raise_output(cpu: Cpu, my: Nothing) -> str:
    """The output stays high until the guest acknowledges it, which takes an interrupt."""
    cpu.wait_until(cpu.has(Legacy.PIC_USED))
    cpu.write(Old.pic_output, True)
    notifies(cpu)
    return "done"


@PIT_TIMER.step(source="i8254.c pit_timer_fn")
def expire(cpu: Cpu, my: Nothing) -> str:
    """A tick is pending, and the worker is to see to it. A period is longer than that takes."""
    cpu.wait_until(cpu.has(Legacy.PIT_USED) and cpu.read(Old.pit_armed) and not cpu.read(Old.pit_work))
    cpu.wait_until(cpu.read(Old.in_guest) or cpu.read(Old.asleep))
    cpu.write(Old.pit_armed, not cpu.has(PitMode.PIT_ONESHOT))
    if reinjects(cpu):
        cpu.write(Old.pit_pending, at_most(cpu.read(Old.pit_pending) + 1, 2))
    cpu.write(Old.pit_work, True)
    cpu.write(Old.tick_owed, True)
    return "expire"


def reinjects(cpu: Cpu) -> bool:
    """``pit_state.reinject``."""
    return not (cpu.has(Reinject.DOES_NOT_REINJECT) or cpu.has(LegacyChange.NO_REINJECTION))


@WORKER.step(source="i8254.c pit_do_work")
def work(cpu: Cpu, my: Nothing) -> str:
    """With reinjection, only if the last tick was acknowledged."""
    cpu.wait_until(cpu.read(Old.pit_work))
    cpu.write(Old.pit_work, False)
    acknowledged = cpu.read(Old.irq_ack)
    if reinjects(cpu):
        cpu.write(Old.irq_ack, False)
        if not acknowledged:
            return "work"
    return delivers(cpu, PIT, "work")


@RTC_LINE.step(source="ioapic.c ioapic_set_irq, rtc_irq_check_coalesced")
def send_rtc(cpu: Cpu, my: Nothing) -> str:
    """Coalesced, if an EOI is pending: userspace is told so, and sends again. Else delivered."""
    cpu.wait_until(cpu.has(Legacy.RTC_USED) and (cpu.read(Old.in_guest) or cpu.read(Old.asleep)))
    cpu.write(Old.rtc_owed, True)
    if cpu.read(Old.rtc_pending_eoi):
        return "send_rtc"
    merges = (cpu.read(Old.kvm_irr) | cpu.read(Old.irr)) & RTC != 0
    cpu.write(Old.told_wrong, cpu.read(Old.told_wrong) or merges)
    cpu.write(Old.rtc_pending_eoi, not cpu.has(LegacyFix.RTC_UNTRACKED))
    return delivers(cpu, RTC, "send_rtc")


# What is asked.


def vcpu(world: World[Old]) -> ThreadState[Nothing]:
    """The vCPU."""
    return world.of(VCPU)[0]


def warned(world: World[Old]) -> bool:
    """KVM has found an interrupt to inject and no vector."""
    return world.shared.warned


def told_wrong(world: World[Old]) -> bool:
    """Userspace was told "delivered" of an interrupt that coalesced."""
    return world.shared.told_wrong


def silent(world: World[Old]) -> bool:
    """No tick of the PIT is on its way or in service, and the next one waits for an acknowledgement."""
    shared_ = world.shared
    on_its_way = (shared_.kvm_irr | shared_.irr | shared_.isr) & PIT != 0 or shared_.pit_work
    return not on_its_way and not shared_.irq_ack and vcpu(world).at("runs")


def nothing_to_do(world: World[Old]) -> bool:
    """The vCPU has left the guest by HLT, and no vector is pending."""
    return vcpu(world).at("block") and world.shared.kvm_irr == 0


def rests(world: World[Old]) -> bool:
    """It sleeps, or has had an interrupt after all."""
    shared_ = world.shared
    vector = shared_.kvm_irr | shared_.irr | shared_.isr != 0
    return vcpu(world).at("sleep") or vector or (vcpu(world).at("enter") and not shared_.pic_output)


def pic_waits(world: World[Old]) -> bool:
    """The PIC's output is high."""
    return world.shared.pic_output


def pic_served(world: World[Old]) -> bool:
    """It is not high any more: the guest has acknowledged it."""
    return not world.shared.pic_output


def tick_owed(world: World[Old]) -> bool:
    """The PIT has expired."""
    return world.shared.tick_owed


def tick_served(world: World[Old]) -> bool:
    """No tick is owed."""
    return not world.shared.tick_owed


def rtc_owed(world: World[Old]) -> bool:
    """Userspace has sent an interrupt of the RTC."""
    return world.shared.rtc_owed


def rtc_served(world: World[Old]) -> bool:
    """None is owed."""
    return not world.shared.rtc_owed


def served_beside_pic(world: World[Old]) -> bool:
    """Other interrupts are served while the PIC's output is high."""
    return world.shared.pic_output and world.shared.isr != 0


def ticks_pile_up(world: World[Old]) -> bool:
    """More than one tick of the PIT is pending."""
    return world.shared.pit_pending > 1


def rtc_twice(world: World[Old]) -> bool:
    """The RTC's vector is in APIC_IRR and in IRR or in service at once."""
    return world.shared.kvm_irr & (world.shared.irr | world.shared.isr) & RTC != 0


def at_rest(world: World[Old]) -> bool:
    """The vCPU sleeps, and the PIT's worker has nothing to do."""
    return vcpu(world).at("sleep") and not world.shared.pit_work


FREE_TO_DO: Final = (runs, halt)
"""What the guest may, but need not do."""
VCPU_STEPS: Final = tuple(step for step in VCPU.steps if step not in FREE_TO_DO)


def initial(scope: Scope, options: frozenset[Enum]) -> list[Old]:
    """The PIC's output is low, the PIT is loaded, nothing is pending."""
    return [
        Old(
            pic_output=False,
            irq_ack=True,
            pit_pending=0,
            pit_armed=True,
            pit_work=False,
            rtc_pending_eoi=False,
            kvm_irr=0,
            request_event=False,
            kick=False,
            asleep=False,
            irr=0,
            isr=0,
            in_guest=False,
            tick_owed=False,
            rtc_owed=False,
            told_wrong=False,
            warned=False,
        )
    ]


LEGACY_MODEL: Final = Model(
    "secure-avic-legacy",
    Old,
    (VCPU, PIC_LINE, PIT_TIMER, WORKER, RTC_LINE),
    initial,
    (
        never("injects-nothing", "KVM injects no interrupt without a vector.", warned),
        never("told-wrong", "Userspace is told of every RTC interrupt that coalesces.", told_wrong),
        never("pit-is-silent", "The PIT's next tick waits for no acknowledgement that never comes.", silent),
        sometimes(
            "served-beside-pic", "Others are served while the PIC's output is high.", served_beside_pic
        ),
        sometimes("ticks-pile-up", "Ticks of the PIT can wait.", ticks_pile_up),
        sometimes("rtc-twice", "The RTC can interrupt while its interrupt is in service.", rtc_twice),
        leads_to(
            "rests",
            "P-L7: a vCPU that halts with no vector pending sleeps.",
            nothing_to_do,
            rests,
            weak=VCPU_STEPS,
        ),
        leads_to("pic-served", "The PIC's interrupt is served.", pic_waits, pic_served, strong=VCPU_STEPS),
        leads_to(
            "pit-goes-on",
            "A tick of the PIT is served.",
            tick_owed,
            tick_served,
            weak=WORKER.steps,
            strong=(*VCPU_STEPS, expire),
        ),
        leads_to(
            "rtc-served",
            "An interrupt of the RTC is served, if userspace sends it again where it coalesced.",
            rtc_owed,
            rtc_served,
            strong=(*VCPU_STEPS, send_rtc),
        ),
    ),
    at_rest,
)

V2: Final = frozenset({*Legacy, LegacyFix.RTC_UNTRACKED})

LEGACY_DESCRIPTION: Final = Description(
    model=LEGACY_MODEL,
    summary="KVM's PIC, PIT and RTC line, with an AMD Secure AVIC guest.",
    covers=(
        "the PIC's output, kvm_cpu_has_extint, kvm_check_and_inject_events and blocking",
        "pit_timer_fn, pit_do_work and kvm_pit_ack_irq; rtc_irq_check_coalesced and rtc_irq_eoi",
    ),
    scope={},
    kernels={"savic-rfc-v1": V2 | {Series.PIC_GUARD}, "savic-rfc-v2": V2},
    kernel="savic-rfc-v2",
    switches=(Legacy, LegacyFix, (Series.PIC_GUARD,), LegacyChange, Without, LegacyFault),
    assumptions=(
        Assumption(PitMode, "i8254.c pit_load_count"),
        Assumption(Reinject, "i8254.c kvm_create_pit"),
    ),
)
