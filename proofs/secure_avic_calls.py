"""What a malicious guest can do to the host by the VMGEXITs of Secure AVIC: any operand, full width.

Each finding is a theorem that is refuted for the series as posted, and the same theorem, proved, with the
change that closes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from avicheck.checker.theorems import Theorem, Theory
from avicheck.spec.lang import NULL, rule
from avicheck.spec.secure_avic_calls import (
    APIC_BASE_MSR,
    SELF,
    Answer,
    Calls,
    Handled,
    Registered,
    Repair,
    savic_handle_msr_exit,
    sev_handle_savic_vmgexit,
)


def registered(calls: Calls) -> Registered:
    """The call about a backing page."""
    return sev_handle_savic_vmgexit(calls.repairs, calls.vcpus, calls.page)


def handled(calls: Calls) -> Handled:
    """The access to an MSR."""
    return savic_handle_msr_exit(calls.series, calls.repairs, calls.shadow_isr, calls.msr)


@rule
def no_null_pointer(calls: Calls) -> bool:
    """No operand of SVM_VMGEXIT_SECURE_AVIC makes the host dereference a null pointer."""
    return registered(calls).answer != Answer.NULL_DEREFERENCE


@rule
def named_vcpu(calls: Calls) -> bool:
    """A page is registered for the caller, or for the vCPU whose id is in RAX, all 64 bits of it."""
    found = registered(calls)
    return found.answer != Answer.DONE or calls.page.rax == SELF or calls.page.rax == found.vcpu_id


@rule
def in_bounds(calls: Calls) -> bool:
    """No MSR access makes the host write outside of the shadow ISR."""
    return handled(calls).answer != Answer.OUT_OF_BOUNDS


@rule
def spiv_untouched(calls: Calls) -> bool:
    """No EOI changes KVM's SPIV."""
    return not handled(calls).spiv_written


@rule
def only_writes_end(calls: Calls) -> bool:
    """Only a write ends an interrupt."""
    return handled(calls).ended == NULL or calls.msr.write


@rule
def only_eoi_ends(calls: Calls) -> bool:
    """Only an access to the EOI register's MSR, 0x80b, ends an interrupt."""
    return handled(calls).ended == NULL or calls.msr.msr == APIC_BASE_MSR + 0xB


@rule
def only_icr_notices(calls: Calls) -> bool:
    """Only an access to the ICR's MSR, 0x830, sends a notice."""
    return not handled(calls).noticed or calls.msr.msr == APIC_BASE_MSR + 0x30


def finding(name: str, predicate: Callable[[Calls], bool], *repairs: Repair) -> tuple[Theorem[Calls], ...]:
    """Refuted as posted (and with all of the repairs but the last), proved with all of them."""
    before, after = frozenset(repairs[:-1]), frozenset(repairs)
    return (
        Theorem(name, predicate, given={"repairs": before}, refuted=True),
        Theorem(f"{name}-repaired", predicate, given={"repairs": after}),
    )


CALLS: Final = Theory(
    "secure-avic/calls",
    Calls,
    (
        *finding("no-null-pointer", no_null_pointer, Repair.CALLERS_KVM),
        *finding("named-vcpu", named_vcpu, Repair.CALLERS_KVM, Repair.WIDE_ID),
        *finding("in-bounds", in_bounds, Repair.NO_VECTOR),
        *finding("spiv-untouched", spiv_untouched, Repair.NO_VECTOR),
        *finding("only-writes-end", only_writes_end, Repair.WRITES_ONLY),
        *finding("only-eoi-ends", only_eoi_ends, Repair.EXACT_MSR),
        *finding("only-icr-notices", only_icr_notices, Repair.EXACT_MSR),
    ),
)
