"""The model apicv-inhibit-l2-page: an L1 that lets L2 reach its APIC page (Intel).

L1 takes an interrupt and runs L2 before its EOI; L2, to which L1 gave the APIC page, writes the EOI. KVM does
not map its own APIC page for L2, so the write faults and is emulated on L1's APIC. One vCPU and one vector; a
sender posts the vector again and again. L1's handler always ends, by its own EOI or by L2's.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.apicv_inhibit import InhibitFix, kernels_with
from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description
from avicheck.spec.lang import Scope
from avicheck.spec.memory import Reg, Var, local, shared
from avicheck.spec.threads import Model, Thread, World, always, never, sometimes

HANDSHAKE: Final = "requests, kicks and the lock are shown by apicv-inhibit"


class L2Fix(Enum):
    """Two answers to the same loss: the RFC of 2023-08-07, and what was merged for 6.14."""

    INHIBIT_ON_L2_ACCESS = "KVM: x86: inhibit APICv upon detecting direct APIC access from L2"
    DEFER_SVI = "KVM: nVMX: Defer SVI update to vmcs01 on EOI when L2 is active w/o VID"


class Lift(Enum):
    """Whether the reason that the RFC adds is ever cleared."""

    NEVER = "never: it stays for the life of the VM, as posted"
    IN_L1 = "when the vCPU is back in L1"


class L2Fault(Enum):
    """Faults planted to see whether the properties find them."""

    NO_REQUEST = "the reason is set without a request"
    CONTROLS_OF_L2 = "the exit from L2 leaves vmcs01 with the controls of vmcs02"


@shared
class Vcpu:
    """The VM's mask as ``inhibited``, and a vCPU. ``svi01`` is the SVI of vmcs01, ``pending_svi`` that it is
    to be written at the exit from L2; ``serving`` is that the guest is in its handler."""

    inhibited: Var[bool]
    request: Var[bool]
    event: Var[bool]
    irr: Var[bool]
    in_guest: Var[bool]
    apicv_active: Reg[bool]
    enabled01: Reg[bool]
    refresh01: Reg[bool]
    isr: Reg[bool]
    svi01: Reg[bool]
    pending_svi: Reg[bool]
    guest_mode: Reg[bool]
    serving: Reg[bool]


@local
class Nothing:
    """No local variables."""


VCPU: Final = Thread("vcpu", Nothing, source="x86.c vcpu_enter_guest")
SENDER: Final = Thread("sender", Nothing, source="vmx.c vmx_deliver_interrupt")


def refresh_vmcs01(cpu: Cpu) -> None:
    """vmx_refresh_apicv_exec_ctrl on vmcs01, and SVI."""
    active = cpu.read(Vcpu.apicv_active)
    cpu.write(Vcpu.enabled01, active)
    if active and cpu.has(InhibitFix.SVI_ON_ENABLE):
        cpu.write(Vcpu.svi01, cpu.read(Vcpu.isr))


@VCPU.step(coarse=HANDSHAKE)
def requests(cpu: Cpu, my: Nothing) -> None:
    """KVM_REQ_APICV_UPDATE: with L2 in the guest, vmcs01 is left for later."""
    if not cpu.test_and_clear(Vcpu.request):
        return
    want = not cpu.load(Vcpu.inhibited)
    if want == cpu.read(Vcpu.apicv_active):
        return
    cpu.write(Vcpu.apicv_active, want)
    if cpu.read(Vcpu.guest_mode):
        cpu.write(Vcpu.refresh01, True)
    else:
        refresh_vmcs01(cpu)
    if not want:
        cpu.test_and_set(Vcpu.event)


@VCPU.step(coarse=HANDSHAKE)
def inject(cpu: Cpu, my: Nothing) -> None:
    """KVM_REQ_EVENT without APICv: KVM injects into L1, if ISR is empty. L2 first exits to L1, of which the
    step ``exit_l2`` is the model."""
    if not cpu.test_and_clear(Vcpu.event) or cpu.read(Vcpu.apicv_active):
        return
    if cpu.load(Vcpu.irr) and not cpu.read(Vcpu.isr) and not cpu.read(Vcpu.guest_mode):
        cpu.xchg(Vcpu.irr, False)
        cpu.write(Vcpu.isr, True)
        cpu.write(Vcpu.serving, True)


@VCPU.step(coarse=HANDSHAKE)
def enter(cpu: Cpu, my: Nothing) -> str:
    """Into L1 or L2, unless there is a request."""
    if cpu.load(Vcpu.request) or cpu.load(Vcpu.event):
        return "requests"
    cpu.xchg(Vcpu.in_guest, True)
    return "guest"


def out(cpu: Cpu) -> None:
    """The guest exits."""
    cpu.xchg(Vcpu.in_guest, False)


@VCPU.step(at="guest", source="SDM 29.2.2: virtual-interrupt delivery", coarse="one step of the processor")
def take(cpu: Cpu, my: Nothing) -> str:
    """L1's interrupt, by hardware: PPR is computed with SVI."""
    delivers = cpu.read(Vcpu.enabled01) and not cpu.read(Vcpu.guest_mode) and not cpu.read(Vcpu.svi01)
    cpu.wait_until(delivers and cpu.load(Vcpu.irr))
    cpu.xchg(Vcpu.irr, False)
    cpu.write(Vcpu.isr, True)
    cpu.write(Vcpu.svi01, True)
    cpu.write(Vcpu.serving, True)
    return "guest"


@VCPU.step(at="guest", source="SDM 29.1.4: EOI virtualization")
def eoi_in_l1(cpu: Cpu, my: Nothing) -> str:
    """L1's own EOI: virtualised, it clears the vector that SVI names; else KVM emulates it."""
    cpu.wait_until(cpu.read(Vcpu.serving) and not cpu.read(Vcpu.guest_mode))
    cpu.write(Vcpu.serving, False)
    if not cpu.read(Vcpu.enabled01):
        out(cpu)
        return "emulate_eoi"
    if cpu.read(Vcpu.svi01):
        cpu.write(Vcpu.isr, False)
    cpu.write(Vcpu.svi01, False)
    return "guest"


@VCPU.step(at="guest")
def eoi_in_l2(cpu: Cpu, my: Nothing) -> str:
    """L2 writes EOI to the page that L1 gave it: a fault, since KVM hides its APIC page from L2."""
    cpu.wait_until(cpu.read(Vcpu.serving) and cpu.read(Vcpu.guest_mode))
    cpu.write(Vcpu.serving, False)
    out(cpu)
    return "fault"


@VCPU.step(at="guest")
def leave(cpu: Cpu, my: Nothing) -> str:
    """The guest exits, for KVM's or its own reasons."""
    out(cpu)
    return "handle_exit"


@VCPU.step(source="mmu.c __kvm_faultin_pfn", coarse=HANDSHAKE)
def fault(cpu: Cpu, my: Nothing) -> None:
    """With the RFC: the reason is set, if nothing inhibits yet, and with it a request that is taken before
    the next entry; this access is emulated before."""
    if cpu.has(L2Fix.INHIBIT_ON_L2_ACCESS) and not cpu.load(Vcpu.inhibited):
        if not cpu.has(L2Fault.NO_REQUEST):
            cpu.test_and_set(Vcpu.request)
        cpu.xchg(Vcpu.inhibited, True)


@VCPU.step(source="lapic.c apic_set_eoi, apic_clear_isr; vmx.c vmx_hwapic_isr_update")
def emulate_eoi(cpu: Cpu, my: Nothing) -> None:
    """ISR is cleared. With apicv_active SVI follows, in the current VMCS: that of L2, if L2 is active, unless
    L2Fix.DEFER_SVI notes it for vmcs01. (Without, KVM_REQ_EVENT.)"""
    cpu.write(Vcpu.isr, False)
    if cpu.read(Vcpu.apicv_active):
        if not cpu.read(Vcpu.guest_mode):
            cpu.write(Vcpu.svi01, False)
        elif cpu.has(L2Fix.DEFER_SVI):
            cpu.write(Vcpu.pending_svi, True)


@VCPU.step(source="lapic.c apic_set_eoi")
def look_again(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT."""
    cpu.test_and_set(Vcpu.event)
    return "requests"


@VCPU.step(at="handle_exit")
def go_on(cpu: Cpu, my: Nothing) -> str:
    """Nothing that matters here."""
    return "requests"


@VCPU.step(at="handle_exit", source="vmx/nested.c nested_vmx_run; vmx_set_nested_state")
def enter_l2(cpu: Cpu, my: Nothing) -> str:
    """L1 runs L2, in its handler or not; or userspace restores a vCPU in L2."""
    cpu.wait_until(not cpu.read(Vcpu.guest_mode))
    cpu.write(Vcpu.guest_mode, True)
    return "requests"


@VCPU.step(at="handle_exit", source="vmx/nested.c nested_vmx_vmexit, vmx_leave_nested")
def exit_l2(cpu: Cpu, my: Nothing) -> str:
    """L2 exits to L1, or is left by force: what was noted is written to vmcs01; KVM looks at IRR."""
    cpu.wait_until(cpu.read(Vcpu.guest_mode))
    cpu.write(Vcpu.guest_mode, False)
    if cpu.has(L2Fault.CONTROLS_OF_L2):
        cpu.write(Vcpu.enabled01, False)
    elif cpu.read(Vcpu.refresh01):
        refresh_vmcs01(cpu)
    if cpu.read(Vcpu.pending_svi):
        cpu.write(Vcpu.svi01, cpu.read(Vcpu.isr))
    cpu.write(Vcpu.refresh01, False)
    cpu.write(Vcpu.pending_svi, False)
    return "lift" if cpu.has(Lift.IN_L1) else "after_exit"


@VCPU.step(coarse=HANDSHAKE)
def lift(cpu: Cpu, my: Nothing) -> None:
    """Lift.IN_L1: the reason is cleared, with a request."""
    if cpu.xchg(Vcpu.inhibited, False):
        cpu.test_and_set(Vcpu.request)


@VCPU.step(source="vmx/nested.c nested_vmx_vmexit")
def after_exit(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT."""
    cpu.test_and_set(Vcpu.event)
    return "requests"


@SENDER.step(coarse=HANDSHAKE)
def send(cpu: Cpu, my: Nothing) -> str:
    """An interrupt for L1: hardware or KVM are told, by the state that the vCPU is in."""
    cpu.xchg(Vcpu.irr, True)
    if not cpu.read(Vcpu.apicv_active):
        cpu.test_and_set(Vcpu.event)
    return "send"


def stuck(world: World[Vcpu]) -> bool:
    """P-LIVE: L1 runs, outside its handler, with an interrupt pending that neither hardware delivers nor KVM
    will look at."""
    vcpu = world.shared
    in_l1 = vcpu.in_guest and not vcpu.guest_mode and not vcpu.serving
    delivers = vcpu.enabled01 and not vcpu.svi01
    return in_l1 and vcpu.irr and not delivers and not vcpu.event and not vcpu.request


def svi_agrees(world: World[Vcpu]) -> bool:
    """P-CACHE: while L1 runs with APICv, vmcs01's SVI is the vector in service."""
    vcpu = world.shared
    in_l1 = vcpu.in_guest and not vcpu.guest_mode
    return not in_l1 or not vcpu.enabled01 or vcpu.svi01 == vcpu.isr


def on_stale_state(world: World[Vcpu]) -> bool:
    """The access that made KVM inhibit is emulated with apicv_active still true."""
    inhibited = world.shared.inhibited and world.shared.apicv_active
    return world.of(VCPU)[0].at("emulate_eoi") and world.shared.guest_mode and inhibited


def again_on_stale_state(world: World[Vcpu]) -> bool:
    """Another access of L2 is made with apicv_active still true though the VM is inhibited."""
    vcpu = world.shared
    return world.of(VCPU)[0].at("fault") and vcpu.inhibited and vcpu.apicv_active


def for_good(world: World[Vcpu]) -> bool:
    """L1 runs without APICv, though L2 has left."""
    vcpu = world.shared
    return vcpu.in_guest and not vcpu.guest_mode and not vcpu.enabled01


def l2_ends_handler(world: World[Vcpu]) -> bool:
    """L2's EOI faults."""
    return world.of(VCPU)[0].at("fault")


def initial(scope: Scope, options: frozenset[Enum]) -> list[Vcpu]:
    """L1 is about to run with APICv, nothing pending."""
    return [
        Vcpu(
            inhibited=False,
            request=False,
            event=False,
            irr=False,
            in_guest=False,
            apicv_active=True,
            enabled01=True,
            refresh01=False,
            isr=False,
            svi01=False,
            pending_svi=False,
            guest_mode=False,
            serving=False,
        )
    ]


L2_PAGE: Final = Model(
    "apicv-inhibit-l2-page",
    Vcpu,
    (VCPU, SENDER),
    initial,
    (
        never("interrupt-lost", "No interrupt of L1 is pending that nobody delivers or looks at.", stuck),
        always("svi-agrees", "While L1 runs with APICv, SVI is the vector in service.", svi_agrees),
        never("stale-access", "No access of L2 is emulated on the state before an inhibit.", on_stale_state),
        never("stale-again", "Nor is a second one made.", again_on_stale_state),
        never("apicv-lost", "L1 never runs without APICv because of what L2 did.", for_good),
        sometimes("l2-ends-handler", "L2 can write the EOI of L1's handler.", l2_ends_handler),
    ),
)

FIXES: Final = (InhibitFix.SVI_ON_ENABLE,)
"""The fixes that bear on this model."""

_SINCE: Final = {
    "6.1": set(),
    "6.12": {L2Fix.DEFER_SVI},
    "6.16": {L2Fix.DEFER_SVI},
    "6.19": {L2Fix.DEFER_SVI},
}
"""Where the merged fix is known to be: in 6.14, and in 6.12 by a stable release."""

DESCRIPTION: Final = Description(
    L2_PAGE,
    "An L1 that lets L2 reach its APIC page.",
    (
        "L2's EOI of L1's interrupt, emulated on L1's APIC while vmcs02 is the current VMCS",
        "the reason that the RFC of 2023-08-07 adds, and the fix that was merged instead",
    ),
    {},
    {name: fixes | _SINCE[name] for name, fixes in kernels_with(FIXES).items()},
    "6.19",
    (FIXES, L2Fix, L2Fault),
    (Assumption(Lift, "asked in issue 5"),),
)
