"""The models apicv-inhibit-tpr (SVM) and apicv-inhibit-threshold (VMX): the copies of TPR.

TPR is in the APIC page (TASKPRI), and on AMD in the VMCB (V_TPR), which is what gates virtual interrupts; on
Intel TPR_THRESHOLD says below which TPR the guest exits. One vCPU; a TPR that lets an interrupt pass, and one
that does not. No other thread touches any of it.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.apicv_inhibit import InhibitFix, kernels_with
from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Description
from avicheck.spec.lang import Scope
from avicheck.spec.memory import Reg, local, shared
from avicheck.spec.threads import Model, Thread, World, always, never, sometimes


class TprFault(Enum):
    """Faults planted to see whether the properties find them."""

    NO_SYNC_TO_VMCB = "V_TPR is never loaded from the APIC page"
    NO_SYNC_TO_PAGE = "the APIC page is never loaded from V_TPR"
    INTERCEPT_AT_INIT = "INIT makes writes of CR8 exit even with AVIC"
    NO_THRESHOLD = "TPR_THRESHOLD is always 0"
    ANY_THRESHOLD = "TPR_THRESHOLD is that of what is pending, whether TPR masks it or not"


@local
class Nothing:
    """No local variables."""


# SVM.


@shared
class Tpr:
    """A vCPU: the two copies of TPR, of each only whether it masks the interrupt, and ``wanted``, what guest
    and userspace last asked for."""

    avic: Reg[bool]
    cr8_intercept: Reg[bool]
    taskpri: Reg[bool]
    v_tpr: Reg[bool]
    wanted: Reg[bool]
    irr: Reg[bool]
    event: Reg[bool]


VCPU: Final = Thread("vcpu", Nothing, source="svm.c svm_vcpu_run")


@VCPU.step(at="host", source="x86.c __kvm_vcpu_update_apicv; svm/avic.c avic_refresh_apicv_exec_ctrl")
def toggle(cpu: Cpu, my: Nothing) -> str:
    """AVIC is switched. Switched off, KVM looks at IRR."""
    avic = not cpu.read(Tpr.avic)
    cpu.write(Tpr.avic, avic)
    if not avic:
        cpu.write(Tpr.event, True)
    elif cpu.has(InhibitFix.CR8_INTERCEPT_ON_TOGGLE):
        cpu.write(Tpr.cr8_intercept, False)
    return "host"


@VCPU.step(at="host", source="lapic.c kvm_apic_set_state")
def set_lapic(cpu: Cpu, my: Nothing, masks: bool) -> str:
    """KVM_SET_LAPIC."""
    cpu.write(Tpr.taskpri, masks)
    cpu.write(Tpr.wanted, masks)
    cpu.write(Tpr.event, True)
    return "host"


@VCPU.step(at="host", source="svm.c init_vmcb")
def init(cpu: Cpu, my: Nothing) -> str:
    """INIT: TPR is 0; without AVIC, writes of CR8 are intercepted."""
    for copy in (Tpr.taskpri, Tpr.v_tpr, Tpr.wanted):
        cpu.write(copy, False)
    cpu.write(Tpr.cr8_intercept, not cpu.read(Tpr.avic) or cpu.has(TprFault.INTERCEPT_AT_INIT))
    cpu.write(Tpr.event, True)
    return "host"


@VCPU.step(at="host", source="svm.c svm_deliver_interrupt")
def send(cpu: Cpu, my: Nothing) -> str:
    """An interrupt comes, or the one that is pending is taken."""
    cpu.write(Tpr.irr, not cpu.read(Tpr.irr))
    cpu.write(Tpr.event, True)
    return "host"


@VCPU.step(at="host", source="x86.c update_cr8_intercept; svm.c svm_update_cr8_intercept, sync_lapic_to_cr8")
def enter(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT: without AVIC, CR8 is intercepted if TPR masks what is pending. Then V_TPR is loaded;
    before InhibitFix.SYNC_V_TPR, only without AVIC."""
    avic, taskpri = cpu.read(Tpr.avic), cpu.read(Tpr.taskpri)
    if cpu.read(Tpr.event) and not avic:
        cpu.write(Tpr.cr8_intercept, cpu.read(Tpr.irr) and taskpri)
    cpu.write(Tpr.event, False)
    loads = not avic or cpu.has(InhibitFix.SYNC_V_TPR)
    if loads and not cpu.has(TprFault.NO_SYNC_TO_VMCB):
        cpu.write(Tpr.v_tpr, taskpri)
    return "guest"


@VCPU.step(at="guest", source="APM 15.29.5; svm.c cr8_write_interception")
def write_cr8(cpu: Cpu, my: Nothing, masks: bool) -> str:
    """MOV to CR8: KVM's, if intercepted; else V_TPR's, and with AVIC the page's too."""
    cpu.write(Tpr.wanted, masks)
    if cpu.read(Tpr.cr8_intercept):
        cpu.write(Tpr.taskpri, masks)
        return "host"
    cpu.write(Tpr.v_tpr, masks)
    if cpu.read(Tpr.avic):
        cpu.write(Tpr.taskpri, masks)
    return "guest"


@VCPU.step(at="guest", source="APM 15.29.3; lapic.c kvm_lapic_reg_write")
def write_page(cpu: Cpu, my: Nothing, masks: bool) -> str:
    """A write of the register: both copies, with AVIC; else KVM's affair."""
    cpu.write(Tpr.wanted, masks)
    cpu.write(Tpr.taskpri, masks)
    if not cpu.read(Tpr.avic):
        return "host"
    cpu.write(Tpr.v_tpr, masks)
    return "guest"


@VCPU.step(at="guest", source="svm.c sync_cr8_to_lapic")
def leave(cpu: Cpu, my: Nothing) -> str:
    """The page is loaded from V_TPR, unless writes of CR8 are intercepted."""
    if not cpu.read(Tpr.cr8_intercept) and not cpu.has(TprFault.NO_SYNC_TO_PAGE):
        cpu.write(Tpr.taskpri, cpu.read(Tpr.v_tpr))
    return "host"


def v_tpr_is_right(world: World[Tpr]) -> bool:
    """P-CACHE: in the guest V_TPR is what was asked for."""
    return not world.of(VCPU)[0].at("guest") or world.shared.v_tpr == world.shared.wanted


def page_is_right(world: World[Tpr]) -> bool:
    """P-CACHE: in the host TASKPRI is what was asked for."""
    return not world.of(VCPU)[0].at("host") or world.shared.taskpri == world.shared.wanted


def intercepted(world: World[Tpr]) -> bool:
    """Writes of CR8 exit although AVIC is on."""
    return world.of(VCPU)[0].at("guest") and world.shared.avic and world.shared.cr8_intercept


def masked(world: World[Tpr]) -> bool:
    """AVIC is on, and TPR masks what is pending."""
    return world.of(VCPU)[0].at("guest") and world.shared.avic and world.shared.irr and world.shared.v_tpr


def initial(scope: Scope, options: frozenset[Enum]) -> list[Tpr]:
    """AVIC is on, TPR 0."""
    return [Tpr(True, False, False, False, False, False, False)]


TPR: Final = Model(
    "apicv-inhibit-tpr",
    Tpr,
    (VCPU,),
    initial,
    (
        always("v-tpr-agrees", "In the guest V_TPR is what guest and userspace asked for.", v_tpr_is_right),
        always("page-agrees", "In the host TASKPRI is what guest and userspace asked for.", page_is_right),
        never("intercepted", "With AVIC no write of CR8 exits.", intercepted),
        sometimes("masked", "TPR can mask a pending interrupt with AVIC.", masked),
    ),
)

TPR_FIXES: Final = (InhibitFix.SYNC_V_TPR, InhibitFix.CR8_INTERCEPT_ON_TOGGLE)
TPR_FAULTS: Final = (TprFault.NO_SYNC_TO_VMCB, TprFault.NO_SYNC_TO_PAGE, TprFault.INTERCEPT_AT_INIT)

TPR_DESCRIPTION: Final = Description(
    TPR,
    "TPR in the APIC page and in the VMCB while AVIC is switched.",
    ("writes of CR8 and of the register, KVM_SET_LAPIC, INIT, the CR8 intercept",),
    {},
    kernels_with(TPR_FIXES),
    "6.19",
    (TPR_FIXES, TPR_FAULTS),
)


# VMX.


@shared
class Threshold:
    """A vCPU without APICv, with a TPR shadow. ``irr`` is a pending interrupt of class 1, ``isr`` one of
    class 2 in service; ``tpr`` is whether TPR is of class 1 or 0, ``threshold`` likewise."""

    tpr: Reg[bool]
    threshold: Reg[bool]
    irr: Reg[bool]
    isr: Reg[bool]
    event: Reg[bool]


SHADOW: Final = Thread("vcpu", Nothing, source="vmx.c vmx_vcpu_run")


@SHADOW.step(at="host")
def pend(cpu: Cpu, my: Nothing) -> str:
    """An interrupt of class 1 comes."""
    cpu.write(Threshold.irr, True)
    cpu.write(Threshold.event, True)
    return "host"


@SHADOW.step(at="host")
def serve(cpu: Cpu, my: Nothing) -> str:
    """One of class 2 is injected."""
    cpu.write(Threshold.isr, True)
    return "host"


@SHADOW.step(at="host", source="x86.c update_cr8_intercept; vmx.c vmx_update_cr8_intercept")
def events(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT: what can be injected is; then the threshold: what is pending, if TPR masks it."""
    if cpu.read(Threshold.event):
        if not cpu.read(Threshold.tpr) and not cpu.read(Threshold.isr):
            cpu.write(Threshold.irr, False)
        update_threshold(cpu)
    cpu.write(Threshold.event, False)
    return "vmentry"


def update_threshold(cpu: Cpu) -> None:
    """vmx_update_cr8_intercept."""
    masked = cpu.read(Threshold.irr) and (cpu.read(Threshold.tpr) or cpu.has(TprFault.ANY_THRESHOLD))
    cpu.write(Threshold.threshold, masked and not cpu.has(TprFault.NO_THRESHOLD))


@SHADOW.step(source="SDM 27.2.1.1: checks on VM-execution controls")
def vmentry(cpu: Cpu, my: Nothing) -> str:
    """VM entry fails with a threshold above TPR."""
    cpu.wait_until(not cpu.read(Threshold.threshold) or cpu.read(Threshold.tpr))
    return "guest"


@SHADOW.step(at="guest", source="SDM 29.1.2: TPR virtualization; vmx.c handle_tpr_below_threshold")
def write_tpr(cpu: Cpu, my: Nothing, high: bool) -> str:
    """Below the threshold the guest exits. KVM recomputes PPR, and makes KVM_REQ_EVENT if it became lower and
    something is pending below it; with InhibitFix.CR8_INTERCEPT_ON_PPR the threshold follows anyhow."""
    cpu.write(Threshold.tpr, high)
    if high or not cpu.read(Threshold.threshold):
        return "guest"
    if not cpu.read(Threshold.isr):
        cpu.write(Threshold.event, True)
    if cpu.has(InhibitFix.CR8_INTERCEPT_ON_PPR):
        update_threshold(cpu)
    return "host"


@SHADOW.step(at="guest", source="lapic.c apic_set_eoi")
def eoi(cpu: Cpu, my: Nothing) -> str:
    """The guest ends its handler: KVM emulates it, and looks."""
    cpu.write(Threshold.isr, False)
    cpu.write(Threshold.event, True)
    return "host"


@SHADOW.step(at="guest")
def out(cpu: Cpu, my: Nothing) -> str:
    """The guest exits."""
    return "host"


def entry_fails(world: World[Threshold]) -> bool:
    """VM entry is tried with a threshold above TPR."""
    return world.of(SHADOW)[0].at("vmentry") and world.shared.threshold and not world.shared.tpr


def unseen(world: World[Threshold]) -> bool:
    """TPR masks what is pending, nothing else does, and lowering it would not exit."""
    masks = world.shared.irr and world.shared.tpr and not world.shared.event
    return world.of(SHADOW)[0].at("guest") and masks and not world.shared.isr and not world.shared.threshold


def threshold_set(world: World[Threshold]) -> bool:
    """The guest runs with a threshold."""
    return world.of(SHADOW)[0].at("guest") and world.shared.threshold


def idle(scope: Scope, options: frozenset[Enum]) -> list[Threshold]:
    """Nothing pending, TPR 0."""
    return [Threshold(False, False, False, False, False)]


THRESHOLD: Final = Model(
    "apicv-inhibit-threshold",
    Threshold,
    (SHADOW,),
    idle,
    (
        never("entry-fails", "No VM entry fails because of TPR_THRESHOLD.", entry_fails),
        never("unseen", "TPR masks nothing whose delivery nobody would see to.", unseen),
        sometimes("threshold-set", "TPR can mask what is pending.", threshold_set),
    ),
)

THRESHOLD_FIXES: Final = (InhibitFix.CR8_INTERCEPT_ON_PPR,)
THRESHOLD_FAULTS: Final = (TprFault.NO_THRESHOLD, TprFault.ANY_THRESHOLD)

THRESHOLD_DESCRIPTION: Final = Description(
    THRESHOLD,
    "TPR_THRESHOLD while APICv is off.",
    ("writes of TPR in the shadow, the threshold, its check at VM entry",),
    {},
    kernels_with(THRESHOLD_FIXES),
    "6.19",
    (THRESHOLD_FIXES, THRESHOLD_FAULTS),
)
