"""The model apicv-inhibit: what its threads share, what it is built with, and how they use both.

The state is that of one interrupt vector. ``kvm->arch.apicv_inhibit_reasons`` is the whole mask; which bits
are used depends on the setters.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.apicv_inhibit import Mask, Reason, Vendor
from avicheck.spec.cpu import Cpu
from avicheck.spec.lang import IndexOf, Range, SizedBy
from avicheck.spec.memory import Array, Reg, Var, local, shared


class Setup(Enum):
    """What the guest, its devices and userspace do."""

    HALTS = "the guest halts when it has nothing to do"
    DEVICE_POSTS = "interrupts come from a device whose IRTE is in guest mode while AVIC is on"
    RESTORES = "userspace restores an APIC with an interrupt pending (KVM_SET_LAPIC)"


class Fault(Enum):
    """Faults planted to see whether the properties find them."""

    NO_WAIT = "a setter does not wait until all vCPUs have left the guest"
    NO_READ_LOCK = "a vCPU updates without apicv_update_lock"
    MASK_FIRST = "a setter stores the mask before it makes the requests"
    NO_BARRIER = "no full barrier after IN_GUEST_MODE is stored"
    ACTIVE_FIRST = "a sender reads apicv_active before it sets IRR"
    STALE_ISR_COUNT = "isr_count stays as it is when APICv is switched off"
    SPIN = "a vCPU that was kicked before it enters the guest tries again without taking requests"
    WAIT_FOR_UPDATE = "a setter waits with the lock held until every vCPU has updated"


class Mode(Enum):
    """``vcpu->mode``."""

    OUTSIDE = "OUTSIDE_GUEST_MODE"
    IN_GUEST = "IN_GUEST_MODE"
    EXITING = "EXITING_GUEST_MODE"


class Irte(Enum):
    """Where the IOMMU sends the device's interrupts: to the host, or to the vCPU's APIC page with a doorbell
    if IsRun is set, else with an entry in the GA log."""

    LEGACY = "legacy"
    RUNNING = "guest mode, IsRun"
    BLOCKED = "guest mode, not running, GALogIntr"


class Exit(Enum):
    """Why a vCPU left the guest."""

    OTHER = "anything that does not matter here"
    HALT = "HLT"
    EOI = "a write of EOI that hardware does not virtualise"


EVENT: Final = 1
"""KVM_REQ_EVENT."""
APICV_UPDATE: Final = 2
"""KVM_REQ_APICV_UPDATE."""
WRITER: Final = -1
"""``apicv_update_lock`` held for writing; from 0 on it counts readers."""

Requests: TypeAlias = Annotated[int, Range(0, 3)]
VcpuIndex: TypeAlias = Annotated[int, IndexOf("vcpus")]
Targets: TypeAlias = Annotated[int, Range(0, 15)]
"""A set of vCPUs."""


@shared
class Vcpu:
    """A ``struct kvm_vcpu`` with its APIC and its VMCB or VMCS. ISR, what is derived from it and the
    hardware's bits are changed by the vCPU's own CPU alone; ``ipi`` is an interrupt of the host that waits on
    that CPU, ``doorbell`` AVIC's doorbell or the notification vector of posted interrupts. PIR and ON are one
    for a single vector."""

    mode: Var[Mode]
    requests: Var[Requests]
    irr: Var[bool]
    pir: Var[bool]
    irr_pending: Var[bool]
    apicv_active: Var[bool]
    irte: Var[Irte]
    wait_task: Var[bool]
    asleep: Var[bool]
    isr: Reg[bool]
    isr_count: Reg[bool]
    enabled: Reg[bool]
    svi: Reg[bool]
    ipi: Reg[bool]
    doorbell: Reg[bool]


@shared
class Kvm:
    """A ``struct kvm``; ``posting`` is an interrupt on its way through an IRTE in guest mode."""

    apicv_inhibit_reasons: Var[Mask]
    apicv_update_lock: Var[Annotated[int, Range(-1, 4)]]
    posting: Reg[bool]
    vcpus: Annotated[Array[Vcpu], SizedBy("vcpus")]


@local
class Running:
    """The local variables of vcpu_enter_guest, and what hardware and guest know: ``latched`` that hardware
    has recognised a virtual interrupt, ``serving`` that the guest is in its handler."""

    want: bool = False
    found: bool = False
    queued: bool = False
    latched: bool = False
    serving: bool = False
    irqs_off: bool = False
    exit: Exit = Exit.OTHER


@local
class Setting:
    """The local variables of kvm_set_or_clear_apicv_inhibit."""

    is_set: bool = False
    new: Mask = 0
    i: VcpuIndex = 0
    waits: Targets = 0


@local
class Sending:
    """The local variables of a sender."""

    in_guest: bool = False
    active: bool = False


REASONS: Final = {
    Vendor.SVM: (Reason.HYPERV, Reason.PIT_REINJ),
    Vendor.VMX: (Reason.HYPERV, Reason.BLOCKIRQ),
}
"""What the setters are about: one reason each."""


def is_vmx(cpu: Cpu) -> bool:
    """Whether the machine is Intel's."""
    return cpu.has(Vendor.VMX)


def down_read(cpu: Cpu) -> None:
    """rwsem: wait while a writer has it."""
    cpu.wait_until(cpu.atomic_fetch_add(Kvm.apicv_update_lock, 1) != WRITER)


def up_read(cpu: Cpu) -> None:
    """rwsem: one reader less."""
    cpu.atomic_fetch_add(Kvm.apicv_update_lock, -1)


def down_write(cpu: Cpu) -> None:
    """rwsem: wait until nobody has it."""
    cpu.wait_until(cpu.cmpxchg(Kvm.apicv_update_lock, 0, WRITER) == 0)


def up_write(cpu: Cpu) -> None:
    """rwsem: nobody has it."""
    cpu.xchg(Kvm.apicv_update_lock, 0)


def kvm_make_request(cpu: Cpu, request: int, vcpu: type[Vcpu]) -> None:
    """A locked OR."""
    cpu.atomic_fetch_or(vcpu.requests, request)


def kvm_check_request(cpu: Cpu, request: int, vcpu: type[Vcpu]) -> bool:
    """Take a request, if it is made. Two accesses; only the vCPU itself clears bits, so that nothing can
    happen in between that would not be the same before or after."""
    if cpu.load(vcpu.requests) & request == 0:
        return False
    cpu.atomic_fetch_and(vcpu.requests, 3 - request)
    return True


def sync_pir_to_irr(cpu: Cpu, vcpu: type[Vcpu], active: bool) -> bool:
    """vmx_sync_pir_to_irr: PIR to IRR, and whether there was anything."""
    if not cpu.load(vcpu.pir):
        return False
    cpu.xchg(vcpu.pir, False)
    cpu.xchg(vcpu.irr, True)
    if not active:
        cpu.store(vcpu.irr_pending, True)
    return True
