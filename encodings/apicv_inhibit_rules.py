"""What inhibits APICv and AVIC, and what a vCPU synchronises, as constraints over z3 terms.

An independent statement of the rules in arch/x86/kvm (x86.c, lapic.c, svm/avic.c, vmx/vmx.c), to be proved
equal to the lifted specification. A mask of reasons is a bit-vector with the bits of ``enum
kvm_apicv_inhibit``; arguments are records declared by ``z3vars``.
"""

from __future__ import annotations

from typing import Final

import z3

from avicheck.encodings import apic_map_rules
from avicheck.encodings.rule_terms import bit_of, is_any, one_if, pack, wide
from avicheck.encodings.z3vars import BoolTerm, BvTerm
from avicheck.spec.apic import ApicMode
from avicheck.spec.apicv_inhibit import Apicv, AvicTable, Causes, Change, InhibitFix, Toggle, Vendor
from avicheck.spec.kernels import Fix, Kernel

DISABLED, HYPERV, ABSENT, BLOCKIRQ, PHYSICAL_ALIASED, ID_MODIFIED, BASE_MODIFIED = range(7)
NESTED, IRQWIN, PIT_REINJ, SEV, LOGICAL_ALIASED, TOO_BIG = range(7, 13)
"""Bits of the mask, as the kernel numbers them."""
REASONS: Final = 13

ON_BOTH: Final = 0b0000001111111
"""What inhibits Intel's APICv; AMD's AVIC too."""
ON_AVIC: Final = 0b1111111111111
"""AVIC minds every reason."""
OF_THE_MAP: Final = {
    PHYSICAL_ALIASED: Fix.INHIBIT_PHYSICAL_ALIASED,
    LOGICAL_ALIASED: Fix.INHIBIT_LOGICAL_ALIASED,
    TOO_BIG: InhibitFix.ID_TOO_BIG,
}
"""Reasons that not every kernel knows."""


def minded(kernel: Kernel, vendor: BvTerm) -> BvTerm:
    """The reasons that a vendor's implementation minds."""
    unknown = sum(1 << bit for bit, fix in OF_THE_MAP.items() if not kernel.has(fix))
    amd, intel = ON_AVIC & ~unknown, ON_BOTH & ~unknown
    return z3.If(is_any(vendor, Vendor.SVM), z3.BitVecVal(amd, REASONS), z3.BitVecVal(intel, REASONS))


def stays(kernel: Kernel, reason: BvTerm) -> BoolTerm:
    """Once set, the reason is there for the VM's life: hardware and module, memory encryption, a table that
    is too small, an APIC that was moved, and on old kernels an ID that was changed."""
    old = [] if kernel.has(Fix.INHIBIT_ID_MODIFIED) else [ID_MODIFIED]
    return z3.Or([reason == bit for bit in (DISABLED, SEV, TOO_BIG, BASE_MODIFIED, *old)])


def changed(
    kernel: Kernel, vendor: BvTerm, enable_apicv: BoolTerm, reasons: BvTerm, reason: BvTerm, is_set: BoolTerm
) -> Change:
    """Setting or clearing a reason: nothing at all if it is not minded or there is no acceleration. All
    vCPUs must look again exactly if the mask becomes empty or stops being so; the page goes only when
    acceleration ends."""
    bit = z3.BitVecVal(1, REASONS) << wide(reason, REASONS)
    counts = z3.And(enable_apicv, minded(kernel, vendor) & bit != 0)
    new = z3.If(counts, z3.If(is_set, reasons | bit, reasons & (-1 - bit)), reasons)
    begins, ends = z3.And(reasons == 0, new != 0), z3.And(reasons != 0, new == 0)
    return Change(new, z3.Or(begins, ends), begins)


def activated(vendor: BvTerm, reasons: BvTerm, guest_mode: BoolTerm) -> BoolTerm:
    """Nothing inhibits this vCPU: not its VM, and on AMD not its own L2."""
    own = z3.And(is_any(vendor, Vendor.SVM), guest_mode)
    return z3.And(reasons == 0, z3.Not(own))


def at_rest(kernel: Kernel, causes: Causes) -> BvTerm:
    """The mask of a VM in which nothing changes. The map's reasons are those of the map's rules; before it
    told of changed IDs, the first change counted for ever."""
    aliased, logical, modified = apic_map_rules.inhibits(causes.kvm, causes.no_memory)
    small, large = is_any(causes.table, AvicTable.AVIC), is_any(causes.table, AvicTable.X2AVIC)
    beyond = z3.Or(
        z3.And(small, z3.UGE(causes.highest_vcpu_id, 255)), z3.And(large, z3.UGE(causes.highest_vcpu_id, 512))
    )
    present = [z3.BoolVal(False)] * REASONS
    present[HYPERV] = causes.auto_eois != 0
    present[BLOCKIRQ] = causes.block_irq
    present[PHYSICAL_ALIASED] = aliased
    present[ID_MODIFIED] = modified if kernel.has(Fix.INHIBIT_ID_MODIFIED) else causes.id_changed
    present[BASE_MODIFIED] = causes.base_moved
    present[IRQWIN] = causes.waits_for_window
    present[PIT_REINJ] = causes.pit_reinject
    present[SEV] = causes.sev
    present[LOGICAL_ALIASED] = logical
    present[TOO_BIG] = beyond
    later = z3.If(
        causes.enable_apicv, pack(present) & minded(kernel, causes.vendor), z3.BitVecVal(0, REASONS)
    )
    absent = z3.And(causes.enable_apicv, causes.irqchip_in_kernel)
    first = [z3.BoolVal(False)] * REASONS
    first[DISABLED], first[ABSENT] = z3.Not(causes.enable_apicv), z3.Not(absent)
    return later | pack(first)


def in_service(isr: BvTerm) -> BvTerm:
    """How many vectors are in service."""
    bits = isr.size().bit_length()
    total = z3.BitVecVal(0, bits)
    for i in range(isr.size()):
        total = total + one_if(bit_of(isr, i), bits)
    return total


def highest(isr: BvTerm, bits: int) -> BvTerm:
    """The highest vector in service, -1 if there is none; two's complement."""
    found = z3.BitVecVal(-1, bits)
    for i in range(isr.size()):
        found = z3.If(bit_of(isr, i), z3.BitVecVal(i, bits), found)
    return found


def toggled(kernel: Kernel, case: Toggle) -> Apicv:
    """One vCPU after it has looked: as before if its acceleration stays what it is; else ...

    on: irr_pending (a hint) is true and isr_count is 1, because hardware changes both registers; SVI is the
    highest vector in service. off: isr_count is exact, and KVM looks at IRR at once. VMX with L2 in the
    guest: vmcs01 waits. x2APIC MSRs are the hardware's in x2APIC mode only, on AMD if it has x2AVIC."""
    was, svm = case.before, is_any(case.vendor, Vendor.SVM)
    x2apic = is_any(case.mode, ApicMode.X2APIC)
    on = z3.And(
        activated(case.vendor, case.reasons, case.guest_mode), z3.Not(is_any(case.mode, ApicMode.DISABLED))
    )
    moved = on != was.apicv_active
    waits = z3.And(z3.Not(svm), case.guest_mode)
    deferred = waits if kernel.has(InhibitFix.DEFER_IN_L2) else z3.BoolVal(False)
    stray = z3.BoolVal(False) if kernel.has(InhibitFix.DEFER_IN_L2) else waits
    written = z3.And(moved, z3.Not(deferred), z3.Not(stray))

    def where(condition: BoolTerm, new: BvTerm, old: BvTerm) -> BvTerm:
        return z3.If(condition, new, old)

    if kernel.has(InhibitFix.SET_IRR_PENDING):
        hint = z3.BoolVal(True)
    elif kernel.has(InhibitFix.KEEP_IRR_PENDING):
        hint = z3.Or(on, was.irr_pending)
    else:
        hint = z3.Or(on, case.irr != 0)
    exact = where(on, z3.BitVecVal(1, 5), in_service(case.isr))
    loads_svi = z3.And(written, on, z3.Not(svm), z3.BoolVal(kernel.has(InhibitFix.SVI_ON_ENABLE)))
    at_once = z3.And(moved, z3.Not(on), z3.BoolVal(kernel.has(InhibitFix.EVENT_ON_DISABLE)))
    flushes = z3.And(moved, on, svm, z3.Not(z3.And(x2apic, case.x2avic)))
    return Apicv(
        apicv_active=on,
        irr_pending=where(moved, hint, was.irr_pending),
        isr_count=where(moved, exact, was.isr_count),
        highest_isr_cache=where(moved, z3.BitVecVal(-1, 5), was.highest_isr_cache),
        event=z3.Or(was.event, at_once),
        enabled=where(written, on, was.enabled),
        svi=where(loads_svi, highest(case.isr, 5), was.svi),
        msrs=where(written, z3.And(on, x2apic, z3.Or(z3.Not(svm), case.x2avic)), was.msrs),
        flush=z3.Or(was.flush, z3.And(flushes, z3.BoolVal(kernel.has(InhibitFix.FLUSH_ON_ENABLE)))),
        deferred=z3.Or(was.deferred, z3.And(moved, deferred)),
    )


def maps_apic_page(reasons: BvTerm, guest_mode: BoolTerm) -> BoolTerm:
    """A page fault on the APIC page installs an entry: only for L1 of a VM in which nothing is inhibited."""
    return z3.And(reasons == 0, z3.Not(guest_mode))
