"""What inhibits APICv and AVIC, and what a vCPU synchronises when its own state changes.

Both vendors, by the function (arch/x86/kvm/x86.c, lapic.c, svm/avic.c, vmx/vmx.c). A set of reasons is a
mask with a bit for each member of ``Reason``, as in ``kvm->arch.apicv_inhibit_reasons``.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.apic import ApicMode, Kvm, VcpuId
from avicheck.spec.apic_map import Published, kvm_recalculate_apic_map
from avicheck.spec.kernels import KERNELS, Fix, Kernel
from avicheck.spec.lang import Range, enum_index, record, rule, update


class Vendor(Enum):
    """Whose virtualisation of the APIC it is."""

    SVM = "AMD: AVIC, x2AVIC"
    VMX = "Intel: APICv with virtual-interrupt delivery"


class AvicTable(Enum):
    """What the hardware's table of physical IDs holds: the value is the highest one."""

    AVIC = 254
    X2AVIC = 511
    X2AVIC_4K = 4095


class Reason(Enum):
    """``enum kvm_apicv_inhibit``: why acceleration is off, for a VM or (NESTED) for one vCPU."""

    DISABLED = "switched off by a module parameter, or not supported"
    HYPERV = "a Hyper-V guest uses AutoEOI"
    ABSENT = "userspace has not created an in-kernel local APIC"
    BLOCKIRQ = "a debugger blocks a vCPU's interrupts (KVM_GUESTDBG_BLOCKIRQ)"
    PHYSICAL_ID_ALIASED = "the optimized physical map is off"
    APIC_ID_MODIFIED = "an xAPIC ID is not the vCPU's id"
    APIC_BASE_MODIFIED = "an APIC is not at its default address"
    NESTED = "this vCPU runs L2"
    IRQWIN = "a vCPU waits for an interrupt window"
    PIT_REINJ = "the PIT re-injects ticks, which needs to see EOIs"
    SEV = "encrypted guests cannot use AVIC"
    LOGICAL_ID_ALIASED = "the optimized logical map is off"
    PHYSICAL_ID_TOO_BIG = "a vCPU's id is beyond what AVIC's table holds"


class InhibitFix(Enum):
    """Upstream changes of what is inhibited and of how APICv is switched on and off, by title."""

    ID_TOO_BIG = "KVM: SVM: Inhibit AVIC if ID is too big instead of rejecting vCPU creation"
    LOCKED_UPDATE = "KVM: x86: APICv: fix race in kvm_request_apicv_update on SVM"
    EVENT_ON_DISABLE = "KVM: x86: Check for pending interrupts when APICv is getting disabled"
    PEND_AT_CREATION = "KVM: x86: Pend KVM_REQ_APICV_UPDATE during vCPU creation to fix a race"
    VMCB_INIT = "KVM: SVM: Initialize AVIC VMCB fields if AVIC is enabled with in-kernel APIC"
    DEFER_IN_L2 = "KVM: nVMX: Defer APICv updates while L2 is active until L1 is active"
    REFRESH_AT_VMEXIT = "KVM: nVMX: Immediately refresh APICv controls as needed on nested VM-Exit"
    SVI_ON_ENABLE = "KVM: VMX: Update SVI during runtime APICv activation"
    KEEP_IRR_PENDING = "KVM: x86: lapic: don't touch irr_pending in kvm_apic_update_apicv when inhibiting it"
    SET_IRR_PENDING = "KVM: x86: Unconditionally set irr_pending when updating APICv state"
    SYNC_V_TPR = "KVM: SVM: Sync TPR from LAPIC into VMCB::V_TPR even if AVIC is active"
    CR8_INTERCEPT_ON_TOGGLE = "KVM: SVM: Set/clear CR8 write interception when AVIC is (de)activated"
    CR8_INTERCEPT_ON_PPR = "KVM: x86: Unconditionally recompute CR8 intercept on PPR update"
    REFRESH_IN_LEAVE_NESTED = "x86: KVM: SVM: refresh AVIC inhibition in svm_leave_nested()"
    INHIBIT_AT_RESTORE = "KVM: nSVM: Ensure AVIC is inhibited when restoring a vCPU to guest mode"
    INHIBIT_MEMSLOT = "KVM: x86: Inhibit APIC memslot if x2APIC and AVIC are enabled"
    BLOCK_FAULTS_IN_ZAP = "KVM: x86/mmu: Block all page faults during kvm_zap_gfn_range()"
    FLUSH_ON_ENABLE = 'KVM: SVM: Flush the "current" TLB when activating AVIC'
    FLUSH_ON_X2AVIC = "KVM: SVM: Flush the current TLB when transitioning from xAVIC => x2AVIC"
    COUNT_WINDOWS = "KVM: SVM: Fix IRQ window inhibit handling across multiple vCPUs"


Mask: TypeAlias = Annotated[int, Range(0, (1 << 13) - 1)]
"""A set of reasons."""

AutoEois: TypeAlias = Annotated[int, Range(0, 15)]
InService: TypeAlias = Annotated[int, Range(0, (1 << 16) - 1)]
"""The vectors in service, of sixteen: enough for every order of two and every count up to all."""
IsrCount: TypeAlias = Annotated[int, Range(0, 16)]
VectorOrNone: TypeAlias = Annotated[int, Range(-1, 15)]


@record
class Causes:
    """What the reasons are computed from while nothing changes: hardware and module parameter, what userspace
    configured, what the guest did. ``base_moved`` and ``id_changed`` remember that it once was so."""

    vendor: Vendor
    enable_apicv: bool
    table: AvicTable
    irqchip_in_kernel: bool
    auto_eois: AutoEois
    block_irq: bool
    base_moved: bool
    id_changed: bool
    waits_for_window: bool
    pit_reinject: bool
    sev: bool
    highest_vcpu_id: VcpuId
    kvm: Kvm
    no_memory: bool


@record
class Change:
    """What setting or clearing a reason does: the new mask, whether every vCPU is asked to update, whether
    the page tables' entry for the APIC page is zapped."""

    reasons: Mask
    request: bool
    zap: bool


@record
class Apicv:
    """The state of one vCPU that depends on whether its APIC is accelerated. ``enabled`` is the hardware's
    bit (AVIC in the VMCB, virtual-interrupt delivery in vmcs01), ``svi`` the VMCS field, ``msrs`` whether
    x2APIC MSRs reach the hardware, ``deferred`` that vmcs01 is left for the next exit from L2."""

    apicv_active: bool
    irr_pending: bool
    isr_count: IsrCount
    highest_isr_cache: VectorOrNone
    event: bool
    enabled: bool
    svi: VectorOrNone
    msrs: bool
    flush: bool
    deferred: bool


@record
class Toggle:
    """A vCPU that looks whether its APIC is to be accelerated: what is true of its VM and of itself."""

    vendor: Vendor
    reasons: Mask
    guest_mode: bool
    mode: ApicMode
    x2avic: bool
    irr: InService
    isr: InService
    before: Apicv


# The mask.


@rule
def bit(reason: Reason) -> int:
    """The mask of one reason."""
    for position, member in enumerate(Reason):
        if reason == member:
            return 1 << position
    return 0


ON_VMX: Final = (
    Reason.DISABLED,
    Reason.ABSENT,
    Reason.HYPERV,
    Reason.BLOCKIRQ,
    Reason.PHYSICAL_ID_ALIASED,
    Reason.APIC_ID_MODIFIED,
    Reason.APIC_BASE_MODIFIED,
)
"""VMX_REQUIRED_APICV_INHIBITS; AVIC_REQUIRED_APICV_INHIBITS has all."""
STICKY: Final = (Reason.DISABLED, Reason.APIC_BASE_MODIFIED, Reason.SEV, Reason.PHYSICAL_ID_TOO_BIG)
"""Reasons that nothing clears while the VM lives: see ``sticky``."""


def known(kernel: Kernel, reason: Reason) -> bool:
    """Whether a kernel has the reason."""
    came_with = {
        Reason.PHYSICAL_ID_ALIASED: Fix.INHIBIT_PHYSICAL_ALIASED,
        Reason.LOGICAL_ID_ALIASED: Fix.INHIBIT_LOGICAL_ALIASED,
        Reason.PHYSICAL_ID_TOO_BIG: InhibitFix.ID_TOO_BIG,
    }
    return reason not in came_with or kernel.has(came_with[reason])


@rule
def sticky(kernel: Kernel, reason: Reason) -> bool:
    """Whether a reason stays once it is there: no caller clears it. Before Fix.INHIBIT_ID_MODIFIED none
    cleared APIC_ID_MODIFIED either."""
    for member in STICKY:
        if reason == member:
            return True
    return reason == Reason.APIC_ID_MODIFIED and not kernel.has(Fix.INHIBIT_ID_MODIFIED)


@rule
def required_apicv_inhibits(kernel: Kernel, vendor: Vendor) -> int:
    """The reasons that a vendor minds (svm.h, vmx/main.c; before, ``check_apicv_inhibit_reasons``)."""
    avic = sum(1 << enum_index(reason) for reason in Reason if known(kernel, reason))
    vmx = sum(1 << enum_index(reason) for reason in ON_VMX if known(kernel, reason))
    return avic if vendor == Vendor.SVM else vmx


@rule
def set_or_clear_apicv_inhibit(reasons: int, reason: Reason, is_set: bool) -> int:
    """x86.c set_or_clear_apicv_inhibit."""
    with_it = reasons | bit(reason)
    return with_it if is_set else with_it - bit(reason)


@rule
def __kvm_set_or_clear_apicv_inhibit(
    kernel: Kernel, vendor: Vendor, reasons: int, reason: Reason, is_set: bool
) -> Change:
    """x86.c: nobody has to look again unless the mask becomes empty or stops being so."""
    if required_apicv_inhibits(kernel, vendor) & bit(reason) == 0:
        return Change(reasons, False, False)
    new = set_or_clear_apicv_inhibit(reasons, reason, is_set)
    if (reasons != 0) == (new != 0):
        return Change(new, False, False)
    return Change(new, True, new != 0)


@rule
def kvm_set_or_clear_apicv_inhibit(
    kernel: Kernel, vendor: Vendor, enable_apicv: bool, reasons: int, reason: Reason, is_set: bool
) -> Change:
    """x86.c: without acceleration nobody cares."""
    if not enable_apicv:
        return Change(reasons, False, False)
    return __kvm_set_or_clear_apicv_inhibit(kernel, vendor, reasons, reason, is_set)


@rule
def kvm_apicv_init(enable_apicv: bool) -> int:
    """x86.c: the mask of a new VM."""
    absent = bit(Reason.ABSENT)
    return absent if enable_apicv else absent | bit(Reason.DISABLED)


# Where each reason comes from.


@rule
def reason_of_map(kernel: Kernel, causes: Causes, published: Published, reason: Reason) -> bool:
    """lapic.c kvm_recalculate_apic_map; before Fix.INHIBIT_ID_MODIFIED, kvm_lapic_xapic_id_updated set
    APIC_ID_MODIFIED for good."""
    if reason == Reason.PHYSICAL_ID_ALIASED:
        return published.physical_id_aliased
    if reason == Reason.LOGICAL_ID_ALIASED:
        return published.logical_id_aliased
    return published.apic_id_modified if kernel.has(Fix.INHIBIT_ID_MODIFIED) else causes.id_changed


@rule
def id_too_big(causes: Causes) -> bool:
    """svm/avic.c avic_init_backing_page, for the vCPU with the highest id."""
    for table in AvicTable:
        if causes.table == table:
            return causes.highest_vcpu_id > table.value
    return False


@rule
def wanted(kernel: Kernel, causes: Causes, published: Published, reason: Reason) -> bool:
    """Whether the last caller concerned with a reason set it: hyperv.c synic_update_vector, x86.c
    kvm_arch_vcpu_guestdbg_update_apicv_inhibit, kvm_create_irqchip; lapic.c __kvm_apic_set_base; i8254.c
    kvm_pit_set_reinject; svm.c svm_enable_irq_window; sev.c __sev_guest_init; and those of the map."""
    if reason == Reason.HYPERV:
        return causes.auto_eois > 0
    if reason == Reason.ABSENT:
        return not causes.irqchip_in_kernel
    if reason == Reason.BLOCKIRQ:
        return causes.block_irq
    if reason == Reason.APIC_BASE_MODIFIED:
        return causes.base_moved
    if reason == Reason.IRQWIN:
        return causes.waits_for_window
    if reason == Reason.PIT_REINJ:
        return causes.pit_reinject
    if reason == Reason.SEV:
        return causes.sev
    if reason == Reason.PHYSICAL_ID_TOO_BIG:
        return id_too_big(causes)
    return reason_of_map(kernel, causes, published, reason)


@rule
def reasons_at_rest(kernel: Kernel, causes: Causes) -> int:
    """The mask after every caller has had its say, each once."""
    published = kvm_recalculate_apic_map(causes.kvm, causes.no_memory)
    reasons = kvm_apicv_init(causes.enable_apicv)
    for reason in Reason:
        if reason not in (Reason.DISABLED, Reason.NESTED):
            is_set = wanted(kernel, causes, published, reason)
            change = kvm_set_or_clear_apicv_inhibit(
                kernel, causes.vendor, causes.enable_apicv, reasons, reason, is_set
            )
            reasons = change.reasons
    return reasons


# One vCPU.


@rule
def vcpu_get_apicv_inhibit_reasons(vendor: Vendor, guest_mode: bool) -> bool:
    """svm/avic.c avic_vcpu_get_apicv_inhibit_reasons: NESTED is a vCPU's own; VMX has none."""
    return vendor == Vendor.SVM and guest_mode


@rule
def kvm_vcpu_apicv_activated(vendor: Vendor, reasons: int, guest_mode: bool) -> bool:
    """x86.c: neither the VM nor the vCPU itself has a reason."""
    return reasons == 0 and not vcpu_get_apicv_inhibit_reasons(vendor, guest_mode)


@rule
def count_vectors(vectors: int) -> int:
    """lapic.c count_vectors."""
    count = 0
    for vector in range(16):
        count += (vectors >> vector) & 1
    return count


@rule
def find_highest_vector(vectors: int) -> int:
    """lapic.c find_highest_vector."""
    for vector in reversed(range(16)):
        if (vectors >> vector) & 1 == 1:
            return vector
    return -1


@rule
def irr_pending_after(kernel: Kernel, active: bool, before: bool, irr: int) -> bool:
    """The hint that IRR is worth a look, as kvm_apic_update_apicv leaves it."""
    if active or kernel.has(InhibitFix.SET_IRR_PENDING):
        return True
    return before if kernel.has(InhibitFix.KEEP_IRR_PENDING) else irr != 0


@rule
def kvm_apic_update_apicv(kernel: Kernel, case: Toggle, vcpu: Apicv) -> Apicv:
    """lapic.c: what KVM derives from IRR and ISR."""
    active = vcpu.apicv_active
    count = 1 if active else count_vectors(case.isr)
    irr_pending = irr_pending_after(kernel, active, vcpu.irr_pending, case.irr)
    return update(vcpu, irr_pending=irr_pending, isr_count=count, highest_isr_cache=-1)


@rule
def avic_refresh_apicv_exec_ctrl(kernel: Kernel, case: Toggle, vcpu: Apicv) -> Apicv:
    """svm/avic.c: AVIC or x2AVIC in the VMCB, and who gets x2APIC MSRs."""
    active = vcpu.apicv_active
    x2avic = case.x2avic and case.mode == ApicMode.X2APIC
    flush = active and not x2avic and kernel.has(InhibitFix.FLUSH_ON_ENABLE)
    return update(vcpu, enabled=active, msrs=active and x2avic, flush=vcpu.flush or flush)


@rule
def vmx_refresh_apicv_exec_ctrl(kernel: Kernel, case: Toggle, vcpu: Apicv) -> Apicv:
    """vmx.c, with the update of SVI: vmcs01's controls; with L2 in the guest they wait, and before
    InhibitFix.DEFER_IN_L2 it was vmcs02 that was written."""
    if case.guest_mode:
        return update(vcpu, deferred=vcpu.deferred or kernel.has(InhibitFix.DEFER_IN_L2))
    active = vcpu.apicv_active
    svi = vcpu.svi
    if active and kernel.has(InhibitFix.SVI_ON_ENABLE):
        svi = find_highest_vector(case.isr)
    return update(vcpu, enabled=active, msrs=active and case.mode == ApicMode.X2APIC, svi=svi)


@rule
def __kvm_vcpu_update_apicv(kernel: Kernel, case: Toggle) -> Apicv:
    """x86.c: nothing, if acceleration stays what it is; else everything that hangs on it."""
    before = case.before
    activated = kvm_vcpu_apicv_activated(case.vendor, case.reasons, case.guest_mode)
    active = activated and case.mode != ApicMode.DISABLED
    if active == before.apicv_active:
        return before
    vcpu = kvm_apic_update_apicv(kernel, case, update(before, apicv_active=active))
    if case.vendor == Vendor.SVM:
        vcpu = avic_refresh_apicv_exec_ctrl(kernel, case, vcpu)
    else:
        vcpu = vmx_refresh_apicv_exec_ctrl(kernel, case, vcpu)
    event = not active and kernel.has(InhibitFix.EVENT_ON_DISABLE)
    return update(vcpu, event=vcpu.event or event)


@rule
def maps_apic_page(reasons: int, guest_mode: bool) -> bool:
    """mmu.c kvm_mmu_faultin_pfn on the APIC page: not for L2, and not while anything is inhibited; those
    accesses are emulated."""
    return not guest_mode and reasons == 0


# Kernels.


_OLD: Final = frozenset(
    {
        InhibitFix.LOCKED_UPDATE,
        InhibitFix.EVENT_ON_DISABLE,
        InhibitFix.PEND_AT_CREATION,
        InhibitFix.DEFER_IN_L2,
        InhibitFix.KEEP_IRR_PENDING,
        InhibitFix.SET_IRR_PENDING,
        InhibitFix.BLOCK_FAULTS_IN_ZAP,
        InhibitFix.FLUSH_ON_ENABLE,
    }
)
"""In every kernel here; SET_IRR_PENDING and FLUSH_ON_ENABLE reached 6.1 in a stable release."""
_ADDED: Final = {
    "6.1": {InhibitFix.REFRESH_AT_VMEXIT},
    "6.12": {
        InhibitFix.REFRESH_AT_VMEXIT,
        InhibitFix.REFRESH_IN_LEAVE_NESTED,
        InhibitFix.INHIBIT_MEMSLOT,
        InhibitFix.INHIBIT_AT_RESTORE,
        InhibitFix.FLUSH_ON_X2AVIC,
    },
    "6.16": {InhibitFix.REFRESH_IN_LEAVE_NESTED, InhibitFix.INHIBIT_MEMSLOT},
    "6.19": {
        InhibitFix.ID_TOO_BIG,
        InhibitFix.REFRESH_AT_VMEXIT,
        InhibitFix.SVI_ON_ENABLE,
        InhibitFix.SYNC_V_TPR,
        InhibitFix.REFRESH_IN_LEAVE_NESTED,
        InhibitFix.INHIBIT_MEMSLOT,
    },
}
"""6.1 and 6.12 with what stable releases (6.1.192, 6.12.117) are known to have added. A fix of which that is
not known counts as absent there."""

INHIBIT_KERNELS: Final = {
    name: Kernel(name, frozenset({*KERNELS[name].fixes, *_OLD, *added})) for name, added in _ADDED.items()
}
"""Every kernel whose inhibition this specification describes, oldest first."""


def kernels_with(fixes: Iterable[InhibitFix]) -> dict[str, frozenset[Enum]]:
    """Which of these each kernel has, for a model on which no others bear."""
    return {name: frozenset(kernel.fixes & set(fixes)) for name, kernel in INHIBIT_KERNELS.items()}
