"""The state of a VM's local APICs and the interrupt requests sent to them."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import NULL, U8, U32, IndexOf, Range, SizedBy, record, rule

VcpuId: TypeAlias = Annotated[int, Range(0, 4095)]
"""A vCPU's id, which is its x2APIC ID: below KVM_MAX_VCPU_IDS."""

Pointer: TypeAlias = Annotated[int, IndexOf("vcpus", nullable=True)]
"""A vCPU by its position in the VM's list, or NULL."""

APIC_BROADCAST: Final = 0xFF
X2APIC_BROADCAST: Final = 0xFFFF_FFFF
APIC_DFR_FLAT: Final = 0xFFFF_FFFF
APIC_DFR_CLUSTER: Final = 0x0FFF_FFFF


class ApicMode(Enum):
    """IA32_APIC_BASE: EN clear; EN set; EN and EXTD set."""

    DISABLED = "disabled"
    XAPIC = "xapic"
    X2APIC = "x2apic"


class DeliveryMode(Enum):
    """ICR bits 10:8, in the order of their encodings."""

    FIXED = "fixed"
    LOWEST = "lowest"
    SMI = "smi"
    REMRD = "remrd"
    NMI = "nmi"
    INIT = "init"
    SIPI = "sipi"
    EXTINT = "extint"


class DestMode(Enum):
    """ICR bit 11."""

    PHYSICAL = "physical"
    LOGICAL = "logical"


class Shorthand(Enum):
    """ICR bits 19:18, in the order of their encodings."""

    NONE = "none"
    SELF = "self"
    ALLINC = "allinc"
    ALLBUT = "allbut"


class TrigMode(Enum):
    """ICR bit 15."""

    EDGE = "edge"
    LEVEL = "level"


@record
class Vcpu:
    """One vCPU's local APIC as routing sees it (``struct kvm_lapic``)."""

    vcpu_id: VcpuId
    mode: ApicMode
    xapic_id: U8
    """Bits 31:24 of the APIC_ID register; 0 in x2APIC mode, where the register holds vcpu_id."""
    ldr: U32
    dfr: U32
    sw_enabled: bool
    """APIC_SPIV bit 8."""
    arb_prio: U32
    """``vcpu->arch.apic_arb_prio``, an int, by its bit pattern."""


@record
class Kvm:
    """A VM's configuration; ``vcpus`` in the order of ``kvm_for_each_vcpu``, which is creation order."""

    kernel: Kernel
    x2apic_format: bool
    x2apic_broadcast_quirk_disabled: bool
    vector_hashing: bool
    vcpus: Annotated[tuple[Vcpu, ...], SizedBy("vcpus")]


@record
class Irq:
    """A request (``struct kvm_lapic_irq``)."""

    shorthand: Shorthand
    dest_mode: DestMode
    dest_id: U32
    delivery_mode: DeliveryMode
    vector: U8
    level: bool
    trig_mode: TrigMode
    msi_redir_hint: bool


@rule
def kvm_apic_present(vcpu: Vcpu) -> bool:
    """lapic.h: the APIC is enabled in IA32_APIC_BASE."""
    return vcpu.mode != ApicMode.DISABLED


@rule
def apic_x2apic_mode(vcpu: Vcpu) -> bool:
    """lapic.h: EN and EXTD are set in IA32_APIC_BASE."""
    return vcpu.mode == ApicMode.X2APIC


@rule
def apic_enabled(vcpu: Vcpu) -> bool:
    """lapic.c: enabled in both IA32_APIC_BASE and SPIV."""
    return vcpu.sw_enabled and kvm_apic_present(vcpu)


@rule
def kvm_apic_calc_x2apic_ldr(vcpu_id: int) -> int:
    """lapic.c: the read-only LDR of x2APIC mode: cluster in the high half, one bit in the low."""
    return ((vcpu_id >> 4) << 16) | (1 << (vcpu_id & 0xF))


@rule
def kvm_lowest_prio_delivery(irq: Irq) -> bool:
    """lapic.h: delivery mode LOWEST, or the MSI redirection hint with any mode."""
    return irq.delivery_mode == DeliveryMode.LOWEST or irq.msi_redir_hint


@rule
def kvm_apic_compare_prio(a: Vcpu, b: Vcpu) -> int:
    """lapic.c: the difference of two arbitration priorities as a C int, wrapping."""
    difference = (a.arb_prio - b.arb_prio) & 0xFFFF_FFFF
    return difference - (1 << 32) if difference >> 31 else difference


@rule
def apic_state_ok(vcpu: Vcpu) -> bool:
    """What KVM keeps true of one APIC: in x2APIC mode LDR and ID follow from vcpu_id."""
    if apic_x2apic_mode(vcpu):
        return vcpu.ldr == kvm_apic_calc_x2apic_ldr(vcpu.vcpu_id) and vcpu.xapic_id == 0
    return True


@rule
def ids_unique(kvm: Kvm) -> bool:
    """KVM_CREATE_VCPU refuses an id that is taken."""
    for i, vcpu in enumerate(kvm.vcpus):
        for other in kvm.vcpus[:i]:
            if vcpu.vcpu_id == other.vcpu_id:
                return False
    return True


@rule
def config_ok(kvm: Kvm) -> bool:
    """Configurations that exist: unique ids, every APIC in a state KVM lets it have."""
    for vcpu in kvm.vcpus:
        if not apic_state_ok(vcpu):
            return False
    return ids_unique(kvm)


@rule
def request_ok(src: int, irq: Irq) -> bool:
    """Requests the functions are defined for: shorthand SELF has a source (KVM_BUG_ON otherwise)."""
    return irq.shorthand != Shorthand.SELF or src != NULL


@rule
def is_ipi_caller(kvm: Kvm, src: int, irq: Irq) -> bool:
    """``kvm_apic_send_ipi``: the source's APIC is enabled; only x2APIC mode has a 32-bit destination."""
    if src == NULL or irq.msi_redir_hint:
        return False
    source = kvm.vcpus[src]
    return kvm_apic_present(source) and (irq.dest_id <= 0xFF or apic_x2apic_mode(source))


@rule
def is_msi_caller(kvm: Kvm, src: int, irq: Irq) -> bool:
    """``kvm_set_msi``, ``ioapic_service``: no source, no shorthand, asserted; 32-bit
    destinations only if userspace enabled them."""
    return (
        src == NULL
        and irq.shorthand == Shorthand.NONE
        and irq.level
        and (irq.dest_id <= 0xFF or kvm.x2apic_format)
    )


@rule
def has_caller(kvm: Kvm, src: int, irq: Irq) -> bool:
    """Some caller in KVM can make this request."""
    return is_ipi_caller(kvm, src, irq) or is_msi_caller(kvm, src, irq)
