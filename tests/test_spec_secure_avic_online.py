"""The model secure-avic-online: what a CPU that goes offline loses, and what one that comes back finds."""

from __future__ import annotations

from enum import Enum

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import check
from avicheck.checker.explore import explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.secure_avic import EntryDisabled
from avicheck.spec.secure_avic_online import ONLINE_MODEL
from avicheck.spec.secure_avic_online_state import Leaves, Masking, OnItsWay, OnlineChange, OnlineFault

SAFE = (
    "offline-loses",
    "stale-vector",
    "stale-service",
    "ipi-lost",
    "still-allowed",
    "entry-fails",
    STEPS_SUCCEED,
    DEADLOCK_FREE,
)
UNMASKED = Masking.NOT_MASKABLE
WITHIN, BEYOND = OnItsWay.WITHIN_DELAY, OnItsWay.BEYOND_DELAY
AFTER, HERE = OnlineChange.FREED_AFTER_LOOK, OnlineChange.ALLOWED_HERE
CLEARED, RESET = OnlineChange.PAGE_CLEARED, OnlineChange.RESET_CLEARS
FAILS, WAITS = EntryDisabled.ENTRY_FAILS, EntryDisabled.REQUEST_WAITS


@pytest.mark.parametrize(
    ("options", "broken"),
    [
        (set(), {"stale-vector"}),
        ({CLEARED}, set()),
        ({CLEARED, WAITS}, {"stale-vector"}),
        ({CLEARED, WAITS, RESET}, set()),
        ({CLEARED, FAILS}, {"entry-fails"}),
        ({CLEARED, FAILS, RESET}, set()),
        ({CLEARED, UNMASKED}, {"offline-loses"}),
        ({CLEARED, UNMASKED, AFTER}, {"offline-loses"}),
        ({CLEARED, UNMASKED, HERE}, {"offline-loses"}),
        ({CLEARED, UNMASKED, AFTER, HERE}, set()),
        ({CLEARED, WITHIN}, {"offline-loses"}),
        ({CLEARED, WITHIN, AFTER}, set()),
        ({CLEARED, BEYOND, AFTER}, {"offline-loses"}),
        ({CLEARED, OnlineFault.NO_LOOK}, {"offline-loses"}),
        ({CLEARED, OnlineFault.ONLINE_FIRST}, {"ipi-lost"}),
        ({OnlineFault.NEVER_FREED}, {"stale-vector", "still-allowed"}),
        (
            {Leaves.RECREATED, OnlineFault.NO_EOI},
            {"offline-loses", "stale-vector", "stale-service", "still-allowed"},
        ),
        ({Leaves.RECREATED, RESET, FAILS}, {"offline-loses", "stale-vector", "still-allowed", "entry-fails"}),
    ],
    ids=lambda value: "+".join(sorted(str(getattr(each, "name", each)) for each in value)) or "none",
)
def test_what_fails(options: set[Enum], broken: set[str]) -> None:
    found = explore(machine(ONLINE_MODEL, {}, "sc", options), properties=SAFE, stop="all")
    verdicts = dict(zip(SAFE, (result.verdict for result in found.results), strict=True))
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.VIOLATED} == broken
    assert set(verdicts.values()) <= {Verdict.HOLDS, Verdict.VIOLATED}


@pytest.mark.parametrize(
    ("name", "options", "verdict"),
    [
        ("tick-served", set(), Verdict.HOLDS),
        ("tick-served", {CLEARED, OnlineFault.TIMER_STAYS_OFF}, Verdict.VIOLATED),
        ("comes-back", set(), Verdict.HOLDS),
        ("comes-back", {FAILS}, Verdict.VIOLATED),
    ],
)
def test_what_comes_in_the_end(name: str, options: set[Enum], verdict: Verdict) -> None:
    assert check(machine(ONLINE_MODEL, {}, "sc", options), name, "explicit").verdict is verdict


def test_situations_are_reached() -> None:
    names = ("back-online", "stale-in-irr", "timer-still-allowed", "requested-before", "sent-again")
    found = explore(machine(ONLINE_MODEL, {}), properties=names, stop="all")
    assert {result.verdict for result in found.results} == {Verdict.HOLDS}


def test_vector_is_refused_before_its_device_has_its_new_message() -> None:
    """apic_free_vector clears ALLOWED_IRR of a CPU that is offline already; then the device is programmed."""
    run = check(machine(ONLINE_MODEL, {}, "sc", {UNMASKED}), "offline-loses", "explicit").run
    assert run is not None
    assert run.fired.index("vcpu.free") < run.fired.index("device.accept") < len(run.fired) - 1
    assert (run.fired[-1], len(run.fired)) == ("vcpu.vmrun", 13)


def test_every_step_but_the_failed_vcpus_can_happen() -> None:
    found = explore(machine(ONLINE_MODEL, {}, "sc", {UNMASKED, FAILS}), properties=["ipi-lost"], stop="all")
    assert found.never_fired == ("vcpu.gone",)
