"""The model secure-avic-timer: which ticks of the LAPIC timer arrive, and when."""

from __future__ import annotations

from enum import Enum

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import check
from avicheck.checker.explore import explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.secure_avic_run import Series, SpivNotice
from avicheck.spec.secure_avic_timer import (
    TIMER_DESCRIPTION,
    TIMER_MODEL,
    Advance,
    TimerFault,
    TimerFix,
    TimerMode,
    TimerVector,
)

V2 = TIMER_DESCRIPTION.kernels["savic-rfc-v2"]
LASTING = ("tick-served", "timer-goes-on")
SAFE = ("early-tick", "waits-in-vain", "tick-dropped", STEPS_SUCCEED, DEADLOCK_FREE)
ONESHOT, PERIODIC = TimerMode.ONESHOT, TimerMode.PERIODIC
REFUSED, LATE = TimerVector.REFUSED, TimerVector.ALLOWED_LATE
UNSENT = SpivNotice.SPIV_NOT_SENT


def verdicts(options: set[Enum]) -> dict[str, Verdict]:
    system = machine(TIMER_MODEL, {}, "sc", options)
    found = explore(system, properties=SAFE, stop="all")
    safe = dict(zip(SAFE, (result.verdict for result in found.results), strict=True))
    return safe | {name: check(system, name, "explicit").verdict for name in LASTING}


@pytest.mark.parametrize(
    ("options", "broken"),
    [
        (set(), set()),
        ({Advance.EXACT}, set()),
        ({REFUSED, ONESHOT}, {"tick-dropped", *LASTING}),
        ({REFUSED, PERIODIC}, {"tick-dropped", *LASTING}),
        ({LATE, ONESHOT}, {"tick-dropped", *LASTING}),
        ({LATE, PERIODIC}, {"tick-dropped", "tick-served"}),
        ({UNSENT}, {"timer-goes-on"}),
        ({UNSENT, Series.SPIV_FORCED}, set()),
        ({TimerFault.NO_UNBLOCK}, {*LASTING}),
        ({TimerFault.NO_WAKE}, {*LASTING, DEADLOCK_FREE}),
        ({TimerFault.NO_WAIT}, {"early-tick"}),
        ({TimerFault.CANCEL_DOES_NOT_WAIT}, {"early-tick"}),
    ],
    ids=lambda value: "+".join(sorted(str(getattr(each, "name", each)) for each in value)) or "none",
)
def test_what_fails_in_v2(options: set[Enum], broken: set[str]) -> None:
    found = verdicts(options | V2)
    assert {name for name, verdict in found.items() if verdict is Verdict.VIOLATED} == broken
    assert set(found.values()) <= {Verdict.HOLDS, Verdict.VIOLATED}


def test_without_its_patch_an_entry_waits_for_a_tick_that_it_does_not_bring() -> None:
    assert TimerFix.CHECKS_REQUEST in V2
    system = machine(TIMER_MODEL, {}, "sc", set())
    assert check(system, "waits-in-vain", "explicit").verdict is Verdict.VIOLATED


@pytest.mark.parametrize("mode", TimerMode)
def test_modes_differ_in_how_ticks_can_be(mode: TimerMode) -> None:
    names = ("coalesced", "held-back", "comes-too-late", "waits", "woken")
    found = explore(machine(TIMER_MODEL, {}, "sc", V2 | {mode}), properties=names, stop="all")
    reached = {
        name for name, result in zip(names, found.results, strict=True) if result.verdict is Verdict.HOLDS
    }
    only = {TimerMode.ONESHOT: set(), PERIODIC: {"coalesced"}, TimerMode.TSC_DEADLINE: {"waits"}}
    assert reached - {"coalesced", "waits"} == {"held-back", "comes-too-late", "woken"}
    assert reached & {"coalesced", "waits"} == only.get(mode, {"coalesced", "waits"})


def test_every_step_can_happen() -> None:
    system = machine(TIMER_MODEL, {}, "sc", V2 | {LATE})
    assert explore(system, properties=[STEPS_SUCCEED], stop="all").never_fired == ()
