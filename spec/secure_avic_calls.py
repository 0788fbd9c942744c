"""What the host does with the VMGEXITs of Secure AVIC, whatever their operands (svm/sev.c, RFC v2).

A call ends in an answer to the guest, or goes wrong: a null pointer is dereferenced, or a bit is written
beyond an array. Operands have their full width.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.lang import NULL, U32, U64, Range, VectorSet, record, rule
from avicheck.spec.secure_avic_hardware import highest, without

SELF: Final = (1 << 64) - 1
"""RAX of SVM_VMGEXIT_SECURE_AVIC: the calling vCPU."""
REGISTER: Final = 0
UNREGISTER: Final = 1
"""EXITINFO1 of SVM_VMGEXIT_SECURE_AVIC."""

APIC_BASE_MSR: Final = 0x800
APIC_EOI: Final = 0xB0
APIC_ICR: Final = 0x300
"""Offsets in the APIC page, from asm/apicdef.h."""

VcpuId: TypeAlias = Annotated[int, Range(0, 4095)]


class Series(Enum):
    """Whose macros find the word of a vector (asm/apic.h, arch/x86/kvm/lapic.h): they differ for -1."""

    V1 = "signed: the word before the register's first"
    V2 = "unsigned: a word 2 GiB beyond the page"


class Repair(Enum):
    """Changes that would close the findings; each call takes the set of those that are in."""

    CALLERS_KVM = "kvm_get_vcpu_by_id() is given the caller's kvm"
    WIDE_ID = "an APIC ID that does not fit in an int is invalid"
    NO_VECTOR = "an EOI with an empty shadow ISR does nothing"
    WRITES_ONLY = "only a write of APIC_EOI is an EOI"
    EXACT_MSR = "the MSR's number is compared, not the offset that is computed from it"


class Answer(Enum):
    """How a call ends."""

    DONE = "done"
    INVALID = "GHCB_ERR_INVALID_INPUT"
    NOT_MINE = "left to the generic handler"
    NULL_DEREFERENCE = "the host dereferences a null pointer"
    OUT_OF_BOUNDS = "the host writes a bit outside of the shadow ISR"


@record
class Vcpus:
    """The vCPUs of a VM: the caller's id, and another one's."""

    caller: VcpuId
    other: VcpuId


@record
class PageCall:
    """SVM_VMGEXIT_SECURE_AVIC."""

    exit_info_1: U64
    rax: U64
    rbx: U64


@record
class Registered:
    """The answer, and whose page was registered or unregistered: an id or ``NULL``."""

    answer: Answer
    vcpu_id: int


@rule
def kvm_get_vcpu_by_id(vcpus: Vcpus, id: int) -> int:
    """The vCPU with this id, ``NULL`` if there is none."""
    return id if id == vcpus.caller or id == vcpus.other else NULL


@rule
def as_int(value: int) -> int:
    """A u64 as the C type int."""
    low = value & 0xFFFF_FFFF
    return low - (1 << 32) if low >= 1 << 31 else low


@rule
def sev_handle_savic_vmgexit(repairs: frozenset[Repair], vcpus: Vcpus, call: PageCall) -> Registered:
    """The pointer of the target is null while it is asked for its kvm."""
    target = vcpus.caller
    if call.rax != SELF:
        if Repair.CALLERS_KVM not in repairs:
            return Registered(Answer.NULL_DEREFERENCE, NULL)
        if Repair.WIDE_ID in repairs and call.rax >= 1 << 31:
            return Registered(Answer.INVALID, NULL)
        target = kvm_get_vcpu_by_id(vcpus, as_int(call.rax))
    if target == NULL:
        return Registered(Answer.INVALID, NULL)
    if call.exit_info_1 == REGISTER:
        return Registered(Answer.DONE if call.rbx & 0xFFF == 0 else Answer.INVALID, target)
    return Registered(Answer.DONE if call.exit_info_1 == UNREGISTER else Answer.INVALID, target)


@record
class MsrCall:
    """SVM_EXIT_MSR of a Secure AVIC guest. ``write`` is EXITINFO1."""

    msr: U32
    write: bool


@record
class Handled:
    """The answer, and what it changes: the shadow ISR, KVM's SPIV (bit 31), whether IPIs were noticed and
    which vector was ended."""

    answer: Answer
    shadow_isr: int
    spiv_written: bool
    noticed: bool
    ended: int


@rule
def offset_of(msr: int) -> int:
    """The register's offset in the APIC page, as a u32."""
    return ((msr - APIC_BASE_MSR) << 4) & 0xFFFF_FFFF


@rule
def savic_handle_msr_exit(
    series: Series, repairs: frozenset[Repair], shadow_isr: int, call: MsrCall
) -> Handled:
    """Which register is meant, and what becomes of it."""
    nothing = Handled(Answer.NOT_MINE, shadow_isr, False, False, NULL)
    real = APIC_BASE_MSR <= call.msr <= APIC_BASE_MSR + 0xFF
    if Repair.EXACT_MSR in repairs and not real:
        return nothing
    offset = offset_of(call.msr)
    if offset == APIC_ICR and call.write:
        return Handled(Answer.DONE, shadow_isr, False, True, NULL)
    if offset != APIC_EOI or (Repair.WRITES_ONLY in repairs and not call.write):
        return nothing
    return end_of_interrupt(series, repairs, shadow_isr)


@rule
def end_of_interrupt(series: Series, repairs: frozenset[Repair], shadow_isr: int) -> Handled:
    """apic_find_highest_vector, apic_clear_vector, kvm_apic_set_eoi_accelerated: there is no test for -1."""
    vector = highest(shadow_isr)
    if vector != NULL:
        return Handled(Answer.DONE, without(shadow_isr, vector), False, False, vector)
    if Repair.NO_VECTOR in repairs:
        return Handled(Answer.DONE, shadow_isr, False, False, NULL)
    if series == Series.V1:
        return Handled(Answer.OUT_OF_BOUNDS, shadow_isr, True, False, NULL)
    return Handled(Answer.OUT_OF_BOUNDS, shadow_isr, False, False, NULL)


@record
class Calls:
    """Any VMGEXIT of Secure AVIC, with any operand, in any state, and the changes that are in."""

    repairs: frozenset[Repair]
    series: Series
    vcpus: Vcpus
    page: PageCall
    msr: MsrCall
    shadow_isr: VectorSet
