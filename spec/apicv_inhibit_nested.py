"""The model apicv-inhibit-nested: APICv switched while a vCPU goes to L2 and back.

On Intel the controls are in two VMCSs, of which vmcs01 must be right whenever L1 runs; on AMD a vCPU in L2 is
inhibited by itself. One vCPU, one setter. The request's way and the entry into the guest are one step each,
and so is a locked update: apicv-inhibit has them in detail.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.apicv_inhibit import InhibitFix, Vendor, kernels_with
from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description
from avicheck.spec.lang import Scope
from avicheck.spec.memory import Reg, Var, local, shared
from avicheck.spec.threads import Model, Thread, World, always, sometimes

HANDSHAKE: Final = "requests, kicks and the lock are shown by apicv-inhibit"


class NestedFault(Enum):
    """Faults planted to see whether the properties find them."""

    NO_UPDATE_AT_VMRUN = "entering L2 does not make the request (SVM)"
    NO_UPDATE_AT_VMEXIT = "leaving L2 does not update (SVM), nor writes vmcs01 (VMX)"


@shared
class Vcpu:
    """The VM's mask as ``inhibited``, and a vCPU: ``enabled01`` is the hardware's bit in vmcb01 or vmcs01;
    vmcs02's is L1's affair. ``update_vmcs01`` is vmx->nested.update_vmcs01_apicv_status."""

    inhibited: Var[bool]
    request: Var[bool]
    in_guest: Var[bool]
    guest_mode: Reg[bool]
    apicv_active: Reg[bool]
    enabled01: Reg[bool]
    update_vmcs01: Reg[bool]


@local
class Nothing:
    """No local variables."""


VCPU: Final = Thread("vcpu", Nothing, source="x86.c vcpu_enter_guest")
SETTER: Final = Thread("setter", Nothing, source="x86.c kvm_set_or_clear_apicv_inhibit")


def update_apicv(cpu: Cpu) -> None:
    """x86.c __kvm_vcpu_update_apicv: the vendor is called only if apicv_active changes. VMX in L2: the
    current VMCS is vmcs02; with InhibitFix.DEFER_IN_L2, vmcs01 is noted for later."""
    vmx, guest_mode = cpu.has(Vendor.VMX), cpu.read(Vcpu.guest_mode)
    want = not cpu.load(Vcpu.inhibited) and (vmx or not guest_mode)
    if want == cpu.read(Vcpu.apicv_active):
        return
    cpu.write(Vcpu.apicv_active, want)
    if not (vmx and guest_mode):
        cpu.write(Vcpu.enabled01, want)
    elif cpu.has(InhibitFix.DEFER_IN_L2):
        cpu.write(Vcpu.update_vmcs01, True)


@VCPU.step(coarse=HANDSHAKE)
def requests(cpu: Cpu, my: Nothing) -> None:
    """KVM_REQ_APICV_UPDATE."""
    if cpu.test_and_clear(Vcpu.request):
        update_apicv(cpu)


@VCPU.step(coarse=HANDSHAKE)
def enter(cpu: Cpu, my: Nothing) -> str:
    """Into L1 or L2, unless there is a request."""
    if cpu.load(Vcpu.request):
        return "requests"
    cpu.xchg(Vcpu.in_guest, True)
    return "guest"


@VCPU.step(at="guest")
def leave(cpu: Cpu, my: Nothing) -> str:
    """Kicked, or for a reason of its own."""
    cpu.xchg(Vcpu.in_guest, False)
    return "handle_exit"


@VCPU.step(at="handle_exit")
def go_on(cpu: Cpu, my: Nothing) -> str:
    """Nothing that matters here."""
    return "requests"


@VCPU.step(at="handle_exit", source="svm/nested.c enter_svm_guest_mode; vmx/nested.c nested_vmx_run")
def enter_l2(cpu: Cpu, my: Nothing) -> str:
    """L1 runs L2. On AMD that inhibits this vCPU."""
    cpu.wait_until(not cpu.read(Vcpu.guest_mode))
    cpu.write(Vcpu.guest_mode, True)
    if cpu.has(Vendor.SVM) and not cpu.has(NestedFault.NO_UPDATE_AT_VMRUN):
        cpu.test_and_set(Vcpu.request)
    return "requests"


@VCPU.step(
    at="handle_exit",
    source="svm/nested.c nested_svm_vmexit; vmx/nested.c nested_vmx_vmexit",
    coarse=HANDSHAKE,
)
def exit_l2(cpu: Cpu, my: Nothing) -> str:
    """L2 exits to L1. VMX: vmcs01 is refreshed at once, or before InhibitFix.REFRESH_AT_VMEXIT requested to
    be, which does nothing because apicv_active is right already."""
    cpu.wait_until(cpu.read(Vcpu.guest_mode))
    cpu.write(Vcpu.guest_mode, False)
    if not cpu.has(NestedFault.NO_UPDATE_AT_VMEXIT):
        after_exit(cpu)
    return "requests"


def after_exit(cpu: Cpu) -> None:
    """What is put right on the way from L2 to L1."""
    if cpu.has(Vendor.SVM):
        update_apicv(cpu)
    elif cpu.read(Vcpu.update_vmcs01):
        cpu.write(Vcpu.update_vmcs01, False)
        if cpu.has(InhibitFix.REFRESH_AT_VMEXIT):
            cpu.write(Vcpu.enabled01, cpu.read(Vcpu.apicv_active))
        else:
            cpu.test_and_set(Vcpu.request)


@VCPU.step(
    at="handle_exit", source="svm/nested.c svm_leave_nested; vmx/nested.c vmx_leave_nested", coarse=HANDSHAKE
)
def leave_nested(cpu: Cpu, my: Nothing) -> str:
    """Forced out of L2: a reset, KVM_SET_NESTED_STATE, a triple fault. VMX: like an exit."""
    cpu.wait_until(cpu.read(Vcpu.guest_mode))
    cpu.write(Vcpu.guest_mode, False)
    if cpu.has(Vendor.VMX):
        after_exit(cpu)
    elif cpu.has(InhibitFix.REFRESH_IN_LEAVE_NESTED):
        cpu.test_and_set(Vcpu.request)
    return "requests"


@VCPU.step(at="handle_exit", source="svm/nested.c svm_set_nested_state")
def set_nested_state(cpu: Cpu, my: Nothing) -> str:
    """KVM_SET_NESTED_STATE puts the vCPU into L2."""
    cpu.wait_until(not cpu.read(Vcpu.guest_mode))
    cpu.write(Vcpu.guest_mode, True)
    if cpu.has(Vendor.SVM) and cpu.has(InhibitFix.INHIBIT_AT_RESTORE):
        cpu.test_and_set(Vcpu.request)
    return "requests"


@SETTER.step()
def request(cpu: Cpu, my: Nothing) -> None:
    """The request, which makes the vCPU leave the guest."""
    cpu.test_and_set(Vcpu.request)


@SETTER.step(coarse=HANDSHAKE)
def toggle(cpu: Cpu, my: Nothing) -> str:
    """Once it is out, and before it can take the request: the mask."""
    cpu.wait_until(cpu.load(Vcpu.request) and not cpu.load(Vcpu.in_guest))
    cpu.xchg(Vcpu.inhibited, not cpu.load(Vcpu.inhibited))
    return "request"


def in_l1(world: World[Vcpu]) -> bool:
    """L1 runs."""
    return world.shared.in_guest and not world.shared.guest_mode


def in_l2(world: World[Vcpu]) -> bool:
    """L2 runs."""
    return world.shared.in_guest and world.shared.guest_mode


def agrees_in_l1(world: World[Vcpu]) -> bool:
    """P-INH while L1 runs: mask, apicv_active and the VMCB or vmcs01."""
    activated = not world.shared.inhibited
    right = world.shared.apicv_active == activated and world.shared.enabled01 == activated
    return right or not in_l1(world)


def agrees_in_l2(world: World[Vcpu]) -> bool:
    """P-INH while L2 runs. AMD: never active, for doorbells would be L2's."""
    activated = not world.shared.inhibited and not world.has(Vendor.SVM)
    return world.shared.apicv_active == activated or not in_l2(world)


def toggled_in_l2(world: World[Vcpu]) -> bool:
    """The VM is inhibited while L2 runs, and apicv_active follows."""
    return in_l2(world) and world.shared.inhibited and not world.shared.apicv_active


def initial(scope: Scope, options: frozenset[Enum]) -> list[Vcpu]:
    """L1 is about to run, accelerated."""
    return [Vcpu(False, False, False, False, True, True, False)]


NESTED: Final = Model(
    "apicv-inhibit-nested",
    Vcpu,
    (VCPU, SETTER),
    initial,
    (
        always("agrees-in-l1", "While L1 runs, mask, apicv_active and hardware agree.", agrees_in_l1),
        always("agrees-in-l2", "While L2 runs, apicv_active is as the VM and L2 ask for.", agrees_in_l2),
        sometimes("toggled-in-l2", "The VM can be inhibited while L2 runs.", toggled_in_l2),
    ),
)

FIXES: Final = (
    InhibitFix.DEFER_IN_L2,
    InhibitFix.REFRESH_AT_VMEXIT,
    InhibitFix.REFRESH_IN_LEAVE_NESTED,
    InhibitFix.INHIBIT_AT_RESTORE,
)
"""The fixes that bear on this model."""

DESCRIPTION: Final = Description(
    NESTED,
    "APICv and AVIC switched while a vCPU goes to L2 and back.",
    (
        "entering and leaving L2, forced leaving, restored nested state",
        "vmcs01's controls on Intel, the vCPU's own inhibition on AMD",
    ),
    {},
    kernels_with(FIXES),
    "6.19",
    (FIXES, NestedFault),
    (Assumption(Vendor, "not open: which of the two machines is meant"),),
)
