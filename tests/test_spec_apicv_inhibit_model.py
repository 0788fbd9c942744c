"""APICv switched while vCPUs run: right with every fix in, and each known bug and planted fault found."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from functools import cache

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import check
from avicheck.checker.explore import Exploration, explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import Encoding, encode
from avicheck.encodings.transition import successors
from avicheck.spec.apicv_inhibit import InhibitFix, Vendor
from avicheck.spec.apicv_inhibit_model import APICV_INHIBIT, APICV_INHIBIT_DESCRIPTION
from avicheck.spec.apicv_inhibit_state import Fault, Kvm, Setup
from avicheck.spec.machine import STEPS_SUCCEED, Machine, MemoryModel

SCOPE = {"vcpus": 1, "setters": 1, "store_buffer": 2}
FIXED = APICV_INHIBIT_DESCRIPTION.kernels["6.19"]
SAFETY = ("inhibit-agrees", "caches-agree", "interrupt-lost", STEPS_SUCCEED, DEADLOCK_FREE)
WITNESSES = ("kicked-out", "inhibited", "caught", "two-reasons")
LIVENESS = ("interrupt-taken", "setter-ends", "request-taken")


def encoded(options: Iterable[Enum], memory: MemoryModel = "sc") -> Encoding[Kvm]:
    return encode(Machine(APICV_INHIBIT, SCOPE, memory, frozenset(options)))


@cache
def explored(options: frozenset[Enum], memory: MemoryModel = "sc") -> Exploration:
    return explore(encoded(options, memory).system, properties=[*SAFETY, *WITNESSES], stop="all")


def violations(options: Iterable[Enum], memory: MemoryModel = "sc") -> dict[str, int | None]:
    """What is violated, and how deep the shortest run is."""
    results = explored(frozenset(options), memory).results
    violated = (result for result in results if result.verdict is Verdict.VIOLATED)
    return {result.property: result.depth for result in violated if result.property in SAFETY}


def without(*fixes: InhibitFix) -> frozenset[Enum]:
    return FIXED - set(fixes)


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize("vendor", Vendor)
def test_newest_kernel_keeps_every_property(vendor: Vendor, memory: MemoryModel) -> None:
    found = explored(FIXED | {vendor, Setup.HALTS}, memory)
    assert {result.property: result.verdict for result in found.results} == dict.fromkeys(
        (*SAFETY, *WITNESSES), Verdict.HOLDS
    )


@pytest.mark.parametrize("setup", [Setup.RESTORES, Setup.DEVICE_POSTS])
def test_newest_kernel_keeps_every_property_in_other_surroundings(setup: Setup) -> None:
    assert violations(FIXED | {Vendor.SVM, setup}) == {}


@pytest.mark.parametrize("name", LIVENESS)
@pytest.mark.parametrize("vendor", Vendor)
def test_newest_kernel_comes_to_an_end(vendor: Vendor, name: str) -> None:
    found = check(encoded(FIXED | {vendor}).system, name, "explicit")
    assert found.verdict is Verdict.HOLDS


def test_every_step_can_happen() -> None:
    setups = (
        {Vendor.SVM, Setup.RESTORES},
        {Vendor.SVM, Setup.HALTS, Setup.DEVICE_POSTS},
        {Vendor.VMX},
    )
    never = [set(explored(FIXED | setup).never_fired) for setup in setups]
    late, old = "vcpu[0].interrupted", "vcpu[0].search_irr"  # only under TSO; only before a fix
    assert set.intersection(*never) == {late, old}


def test_mask_changed_with_vcpus_in_the_guest() -> None:
    """INH-01."""
    options = without(InhibitFix.LOCKED_UPDATE)
    assert violations(options | {Vendor.SVM}) == {"inhibit-agrees": 8}


@pytest.mark.parametrize(("vendor", "depth"), [(Vendor.SVM, 24), (Vendor.VMX, 30)])
def test_interrupt_accepted_before_apicv_is_switched_off(vendor: Vendor, depth: int) -> None:
    """INH-02."""
    options = without(InhibitFix.EVENT_ON_DISABLE) | {vendor}
    assert violations(options) == {"interrupt-lost": depth}
    assert check(encoded(options).system, "interrupt-taken", "explicit").verdict is Verdict.VIOLATED


def test_svi_that_is_not_loaded() -> None:
    """INH-06: on AMD there is none."""
    options = without(InhibitFix.SVI_ON_ENABLE)
    assert violations(options | {Vendor.VMX}) == {"caches-agree": 47, "interrupt-lost": 65}
    assert violations(options | {Vendor.SVM}) == {}


def test_hint_that_a_restored_interrupt_lacks() -> None:
    """INH-08 (i)."""
    options = without(InhibitFix.SET_IRR_PENDING) | {Vendor.SVM}
    assert violations(options | {Setup.RESTORES}) == {"caches-agree": 37, "interrupt-lost": 50}
    assert violations(options | {Setup.DEVICE_POSTS}) == {}


def test_hint_that_is_stored_over_an_interrupt_of_the_hardware() -> None:
    """INH-08 (ii): the search of IRR and a device that sets it meanwhile."""
    options = without(InhibitFix.SET_IRR_PENDING, InhibitFix.KEEP_IRR_PENDING) | {Vendor.SVM}
    assert violations(options | {Setup.DEVICE_POSTS}) == {"caches-agree": 25, "interrupt-lost": 26}


FAULTS = {
    Fault.NO_WAIT: {"inhibit-agrees"},
    Fault.NO_READ_LOCK: {"inhibit-agrees"},
    Fault.MASK_FIRST: {"inhibit-agrees"},
    Fault.ACTIVE_FIRST: {"interrupt-lost"},
    Fault.STALE_ISR_COUNT: {"caches-agree"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_found(fault: Fault) -> None:
    assert set(violations(FIXED | {Vendor.SVM, fault})) == FAULTS[fault]


def test_missing_barrier_shows_under_tso_only() -> None:
    options = FIXED | {Vendor.SVM, Fault.NO_BARRIER}
    assert violations(options) == {}
    assert set(violations(options, "tso")) == {"inhibit-agrees", "interrupt-lost"}


@pytest.mark.parametrize(
    ("fault", "name"), [(Fault.SPIN, "request-taken"), (Fault.WAIT_FOR_UPDATE, "setter-ends")]
)
def test_endless_run_is_found(fault: Fault, name: str) -> None:
    found = check(encoded(FIXED | {Vendor.SVM, fault}).system, name, "explicit")
    assert found.verdict is Verdict.VIOLATED


@pytest.mark.parametrize("vendor", Vendor)
def test_lifted_transitions_are_the_steps_of_the_run(vendor: Vendor) -> None:
    encoding = encoded(FIXED | {vendor, Setup.HALTS}, "tso")
    waiting = list(encoding.machine.initial)
    seen = set(waiting)
    while len(seen) < 200:
        world = waiting.pop(0)
        run = [(action.name, after) for action, after in encoding.machine.successors(world)]
        lifted = successors(encoding.system, encoding.values(world))
        assert run == [(fired.name, encoding.state(after)) for fired, after in lifted]
        new = [after for _, after in run if after not in seen]
        seen.update(new)
        waiting.extend(new)
