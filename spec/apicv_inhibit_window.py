"""The model apicv-inhibit-window: interrupt windows, for which AVIC is switched off VM-wide (SVM).

An ExtINT cannot be injected by AVIC. While the guest cannot take it, KVM arms a virtual interrupt that makes
the guest exit once it can; hardware ignores that with AVIC on, so the reason IRQWIN is set, and cleared when
the window opens. The bit is the VM's, the windows are vCPUs'. How requests reach a vCPU is the subject of
apicv-inhibit.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.apicv_inhibit import InhibitFix, kernels_with
from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Description, Size
from avicheck.spec.lang import Range, Scope, SizedBy
from avicheck.spec.memory import Array, Reg, Var, local, shared
from avicheck.spec.threads import Model, Thread, World, always, leads_to, never, sometimes

HANDSHAKE: Final = "requests, kicks and the lock are shown by apicv-inhibit"

Windows: TypeAlias = Annotated[int, Range(0, 4)]


class WindowFault(Enum):
    """Faults planted to see whether the properties find them."""

    NEVER_CLEARED = "IRQWIN stays when the window opens"
    NOT_ARMED = "the virtual interrupt is not armed"
    NO_WAIT = "IRQWIN changes while vCPUs are in the guest"
    NO_KICK = "a request for all vCPUs does not make them leave the guest"


@shared
class Vcpu:
    """A vCPU: ``extint`` is pending, ``interruptible`` that the guest could take it, ``v_irq`` that a window
    is armed, ``counted`` that it is among the VM's windows."""

    update: Var[bool]
    event: Var[bool]
    in_guest: Var[bool]
    extint: Var[bool]
    avic: Reg[bool]
    v_irq: Reg[bool]
    counted: Reg[bool]
    interruptible: Reg[bool]


@shared
class Kvm:
    """The VM: whether IRQWIN is set; with InhibitFix.COUNT_WINDOWS, for how many."""

    irqwin: Var[bool]
    windows: Var[Windows]
    locked: Var[bool]
    vcpus: Annotated[Array[Vcpu], SizedBy("vcpus")]


@local
class Nothing:
    """No local variables."""


VCPU: Final = Thread("vcpu", Nothing, count="vcpus", source="x86.c vcpu_enter_guest")
DEVICE: Final = Thread("device", Nothing, count="vcpus", source="i8259.c pic_irq_request")


def toggles(cpu: Cpu, is_set: bool) -> bool:
    """Whether IRQWIN changes: by one window that comes or goes."""
    vcpu = Kvm.vcpus[cpu.index]
    if not cpu.has(InhibitFix.COUNT_WINDOWS):
        return cpu.load(Kvm.irqwin) != is_set
    if cpu.read(vcpu.counted) == is_set:
        return False
    cpu.write(vcpu.counted, is_set)
    before = cpu.atomic_fetch_add(Kvm.windows, 1 if is_set else -1)
    return before == (0 if is_set else 1)


def ask(cpu: Cpu, is_set: bool) -> bool:
    """down_write, and the requests, if IRQWIN changes."""
    cpu.wait_until(not cpu.load(Kvm.locked))
    changes = toggles(cpu, is_set)
    if changes:
        cpu.xchg(Kvm.locked, True)
        for i in range(cpu.scope["vcpus"]):
            cpu.xchg(Kvm.vcpus[i].update, True)
    return changes


def store(cpu: Cpu, is_set: bool) -> None:
    """Once all are out of the guest: the mask, up_write."""
    for i in range(cpu.scope["vcpus"]):
        cpu.wait_until(cpu.has(WindowFault.NO_WAIT) or not cpu.load(Kvm.vcpus[i].in_guest))
    cpu.xchg(Kvm.irqwin, is_set)
    cpu.xchg(Kvm.locked, False)


@VCPU.step(coarse=HANDSHAKE)
def requests(cpu: Cpu, my: Nothing) -> None:
    """KVM_REQ_APICV_UPDATE: KVM looks at interrupts again only if AVIC is switched off."""
    vcpu = Kvm.vcpus[cpu.index]
    if not cpu.load(vcpu.update):
        return
    cpu.wait_until(not cpu.load(Kvm.locked))
    cpu.xchg(vcpu.update, False)
    want = not cpu.load(Kvm.irqwin)
    if want == cpu.read(vcpu.avic):
        return
    cpu.write(vcpu.avic, want)
    if not want:
        cpu.xchg(vcpu.event, True)


@VCPU.step(source="x86.c kvm_check_and_inject_events", coarse=HANDSHAKE)
def events(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT: the ExtINT is injected if the guest can take it, else a window is asked for."""
    vcpu = Kvm.vcpus[cpu.index]
    if not cpu.xchg(vcpu.event, False) or not cpu.load(vcpu.extint):
        return "enter"
    if not cpu.read(vcpu.interruptible):
        return "window"
    cpu.xchg(vcpu.extint, False)
    return "enter"


@VCPU.step(source="svm.c svm_enable_irq_window", coarse=HANDSHAKE)
def window(cpu: Cpu, my: Nothing) -> str:
    """kvm_set_apicv_inhibit(IRQWIN) ..."""
    return "inhibit" if ask(cpu, True) else "arm"


@VCPU.step(source="svm.c svm_enable_irq_window", coarse=HANDSHAKE)
def inhibit(cpu: Cpu, my: Nothing) -> None:
    """... the mask ..."""
    store(cpu, True)


@VCPU.step(source="svm.c svm_set_vintr")
def arm(cpu: Cpu, my: Nothing) -> str:
    """... and the virtual interrupt."""
    cpu.write(Kvm.vcpus[cpu.index].v_irq, not cpu.has(WindowFault.NOT_ARMED))
    return "enter"


@VCPU.step(coarse=HANDSHAKE)
def enter(cpu: Cpu, my: Nothing) -> str:
    """Into the guest, unless there is a request."""
    vcpu = Kvm.vcpus[cpu.index]
    if cpu.load(vcpu.update) or cpu.load(vcpu.event):
        return "requests"
    cpu.xchg(vcpu.in_guest, True)
    return "guest"


@VCPU.step(at="guest")
def switch_if(cpu: Cpu, my: Nothing) -> str:
    """The guest executes STI or CLI."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.write(vcpu.interruptible, not cpu.read(vcpu.interruptible))
    return "guest"


@VCPU.step(at="guest", source="svm.c interrupt_window_interception")
def window_opens(cpu: Cpu, my: Nothing) -> str:
    """The virtual interrupt is intercepted: with AVIC on it is ignored."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.wait_until(cpu.read(vcpu.v_irq) and not cpu.read(vcpu.avic) and cpu.read(vcpu.interruptible))
    cpu.xchg(vcpu.in_guest, False)
    cpu.write(vcpu.v_irq, False)
    return "look_again"


@VCPU.step(at="guest")
def kicked(cpu: Cpu, my: Nothing) -> str:
    """A request makes the guest exit."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.wait_until(cpu.load(vcpu.update) and not cpu.has(WindowFault.NO_KICK))
    return "exit"


@VCPU.step(at="guest")
def told(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT with a kick makes the guest exit."""
    cpu.wait_until(cpu.load(Kvm.vcpus[cpu.index].event))
    return "exit"


@VCPU.step(at="guest")
def leave(cpu: Cpu, my: Nothing) -> str:
    """The guest exits for a reason of its own."""
    return "exit"


@VCPU.step()
def exit(cpu: Cpu, my: Nothing) -> str:
    """OUTSIDE_GUEST_MODE."""
    cpu.xchg(Kvm.vcpus[cpu.index].in_guest, False)
    return "requests"


@VCPU.step(source="svm.c interrupt_window_interception")
def look_again(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT ..."""
    cpu.xchg(Kvm.vcpus[cpu.index].event, True)
    return "requests" if cpu.has(WindowFault.NEVER_CLEARED) else "uninhibit_ask"


@VCPU.step(source="svm.c interrupt_window_interception", coarse=HANDSHAKE)
def uninhibit_ask(cpu: Cpu, my: Nothing) -> str:
    """... and kvm_clear_apicv_inhibit(IRQWIN)."""
    return "uninhibit" if ask(cpu, False) else "requests"


@VCPU.step(source="svm.c interrupt_window_interception", coarse=HANDSHAKE)
def uninhibit(cpu: Cpu, my: Nothing) -> str:
    """The mask."""
    store(cpu, False)
    return "requests"


@DEVICE.step(coarse=HANDSHAKE)
def raise_extint(cpu: Cpu, my: Nothing) -> str:
    """The PIC has an interrupt for the vCPU: KVM_REQ_EVENT, and a kick."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.xchg(vcpu.extint, True)
    cpu.xchg(vcpu.event, True)
    return "raise_extint"


def waits_in_vain(world: World[Kvm], i: int) -> bool:
    """A vCPU in the guest could take its ExtINT, and nothing makes it exit."""
    vcpu = world.shared.vcpus[i]
    could = world.of(VCPU)[i].at("guest") and vcpu.extint and vcpu.interruptible
    window = vcpu.v_irq and not vcpu.avic
    return could and not window and not vcpu.event and not vcpu.update


def lost(world: World[Kvm]) -> bool:
    """P-LIVE: some ExtINT waits in vain."""
    return any(waits_in_vain(world, i) for i in range(len(world.shared.vcpus)))


def agree(world: World[Kvm]) -> bool:
    """P-INH: in the guest, AVIC is as the VM asks for."""
    for i, vcpu in enumerate(world.shared.vcpus):
        if world.of(VCPU)[i].at("guest") and vcpu.avic == world.shared.irqwin:
            return False
    return True


def two_windows(world: World[Kvm]) -> bool:
    """Every vCPU waits for a window."""
    return all(vcpu.v_irq and vcpu.in_guest for vcpu in world.shared.vcpus)


def left_over(world: World[Kvm]) -> bool:
    """Every vCPU is in the guest with nothing pending, and AVIC is off all the same."""
    idle = all(
        vcpu.in_guest and not vcpu.extint and not vcpu.v_irq and not vcpu.event for vcpu in world.shared.vcpus
    )
    return idle and world.shared.irqwin


def inhibiting(world: World[Kvm]) -> bool:
    """IRQWIN is about to change."""
    return world.shared.locked


def settled(world: World[Kvm]) -> bool:
    """It has changed."""
    return not world.shared.locked


def initial(scope: Scope, options: frozenset[Enum]) -> list[Kvm]:
    """AVIC is on, nothing pending, interrupts disabled in the guest."""
    vcpu = Vcpu(False, False, False, False, True, False, False, False)
    return [Kvm(False, 0, False, (vcpu,) * scope["vcpus"])]


WINDOW: Final = Model(
    "apicv-inhibit-window",
    Kvm,
    (VCPU, DEVICE),
    initial,
    (
        never("extint-lost", "No ExtINT waits for a window that will never open.", lost),
        always("inhibit-agrees", "In the guest, AVIC is as the VM's mask asks for.", agree),
        never("left-over", "AVIC is not off when nobody waits for a window.", left_over),
        sometimes("two-windows", "All vCPUs can wait for a window at once.", two_windows),
        leads_to(
            "toggling-ends",
            "A change of IRQWIN comes to its end.",
            inhibiting,
            settled,
            weak=(inhibit, uninhibit, exit, kicked),
        ),
    ),
)

FIXES: Final = (InhibitFix.COUNT_WINDOWS,)
"""The fixes that bear on this model."""

DESCRIPTION: Final = Description(
    WINDOW,
    "Interrupt windows for ExtINTs, for which AVIC is switched off VM-wide.",
    (
        "svm_enable_irq_window and interrupt_window_interception on several vCPUs",
        "one bit for all of them, or a count",
    ),
    {"vcpus": Size(2, most=3)},
    kernels_with(FIXES),
    "6.19",
    (FIXES, WindowFault),
)
