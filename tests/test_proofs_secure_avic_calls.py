"""What a malicious guest can do by VMGEXITs: a call shows each finding, and a change closes it."""

from __future__ import annotations

import pytest

from avicheck.checker.solve import solve
from avicheck.checker.theorems import Theorem
from avicheck.proofs.secure_avic_calls import CALLS, handled, registered
from avicheck.spec.lang import NULL
from avicheck.spec.secure_avic_calls import (
    REGISTER,
    SELF,
    Answer,
    Calls,
    MsrCall,
    PageCall,
    Repair,
    Series,
    Vcpus,
    as_int,
    savic_handle_msr_exit,
    sev_handle_savic_vmgexit,
)

BY_NAME = {theorem.name: theorem for theorem in CALLS.theorems}
VCPUS = Vcpus(0, 5)


def counterexample(name: str) -> Calls:
    theorem = BY_NAME[name]
    calls = CALLS.found(theorem, solve(CALLS.query(theorem)).values)
    assert not theorem.predicate(calls)
    return calls


@pytest.mark.parametrize("theorem", CALLS.theorems, ids=lambda theorem: theorem.name)
def test_theorem_is_decided(theorem: Theorem[Calls]) -> None:
    query = CALLS.query(theorem)
    assert solve(query).status == query.expected == ("sat" if theorem.refuted else "unsat")


@pytest.mark.parametrize("name", [theorem.name for theorem in CALLS.theorems if theorem.refuted])
def test_counterexample_runs(name: str) -> None:
    counterexample(name)


def test_any_apic_id_but_the_own_is_a_null_pointer() -> None:
    """Even that of a vCPU that exists."""
    for rax in (0, 5, SELF - 1):
        call = PageCall(REGISTER, rax, 0x1000)
        assert sev_handle_savic_vmgexit(frozenset(), VCPUS, call).answer == Answer.NULL_DEREFERENCE
    assert sev_handle_savic_vmgexit(frozenset(), VCPUS, PageCall(REGISTER, SELF, 0x1000)).vcpu_id == 0


def test_apic_id_is_cut_to_32_bits() -> None:
    calls = counterexample("named-vcpu")
    assert calls.page.rax >= 1 << 32
    assert registered(calls).vcpu_id == as_int(calls.page.rax)


def test_eoi_without_a_level_in_service_is_out_of_bounds() -> None:
    calls = counterexample("in-bounds")
    assert (calls.shadow_isr, handled(calls).answer) == (0, Answer.OUT_OF_BOUNDS)


@pytest.mark.parametrize(("series", "written"), [(Series.V1, True), (Series.V2, False)])
def test_vector_minus_one_was_a_bit_of_spiv_in_v1(series: Series, written: bool) -> None:
    found = savic_handle_msr_exit(series, frozenset(), 0, MsrCall(0x80B, True))
    assert (found.answer, found.spiv_written) == (Answer.OUT_OF_BOUNDS, written)


@pytest.mark.parametrize("msr", [0x1000080B, 0xC000080B, 0xF000080B])
def test_sixteen_msrs_are_taken_for_eoi(msr: int) -> None:
    assert savic_handle_msr_exit(Series.V2, frozenset(), 1 << 0x83, MsrCall(msr, True)).ended == 0x83
    exact = frozenset({Repair.EXACT_MSR})
    assert savic_handle_msr_exit(Series.V2, exact, 1 << 0x83, MsrCall(msr, True)).answer == Answer.NOT_MINE


def test_eoi_ends_the_highest_level() -> None:
    shadow = 1 << 0x83 | 1 << 0x84
    found = savic_handle_msr_exit(Series.V2, frozenset(), shadow, MsrCall(0x80B, True))
    assert (found.ended, found.shadow_isr) == (0x84, 1 << 0x83)


def test_read_of_the_icr_is_not_handled_here() -> None:
    found = savic_handle_msr_exit(Series.V2, frozenset(), 0, MsrCall(0x830, False))
    assert (found.answer, found.noticed, found.ended) == (Answer.NOT_MINE, False, NULL)
