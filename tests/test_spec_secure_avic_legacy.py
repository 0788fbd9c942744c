"""The model secure-avic-legacy: what comes of KVM's PIC, PIT and RTC with a Secure AVIC guest."""

from __future__ import annotations

from collections.abc import Set
from enum import Enum

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import check
from avicheck.checker.explore import explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.secure_avic_legacy import (
    LEGACY_DESCRIPTION,
    LEGACY_MODEL,
    Legacy,
    LegacyChange,
    LegacyFault,
    LegacyFix,
    PitMode,
    Reinject,
    Without,
)
from avicheck.spec.secure_avic_run import Series

KERNELS = LEGACY_DESCRIPTION.kernels
PIC, PIT, RTC = {Legacy.PIC_USED}, {Legacy.PIT_USED}, {Legacy.RTC_USED}
UNTRACKED = {LegacyFix.RTC_UNTRACKED}
SAFE = ("injects-nothing", "told-wrong", "pit-is-silent", STEPS_SUCCEED, DEADLOCK_FREE)
LASTING = ("rests", "pic-served", "pit-goes-on", "rtc-served")


@pytest.mark.parametrize(
    ("options", "broken"),
    [
        (PIC, {"injects-nothing", "rests", "pic-served"}),
        (PIC | {Series.PIC_GUARD}, {"pic-served"}),
        (PIC | {Without.PIC_INJECTED}, set()),
        (PIT, {"pit-is-silent", "pit-goes-on"}),
        (PIT | {PitMode.PIT_ONESHOT}, set()),
        (PIT | {Reinject.DOES_NOT_REINJECT}, set()),
        (PIT | {LegacyChange.NO_REINJECTION}, set()),
        (PIT | {Without.EOI_SEEN}, set()),
        (PIT | {LegacyChange.NO_REINJECTION, LegacyFault.NO_EVENT}, {"pit-goes-on"}),
        (RTC, {"rtc-served"}),
        (RTC | UNTRACKED, {"told-wrong"}),
        (RTC | {Without.EOI_SEEN}, set()),
        (RTC | UNTRACKED | {LegacyFault.NO_EVENT}, {"told-wrong", "rtc-served"}),
        (KERNELS["savic-rfc-v2"], {*SAFE[:3], "rests", "pic-served", "pit-goes-on"}),
        (KERNELS["savic-rfc-v1"], {*SAFE[1:3], "pic-served", "pit-goes-on"}),
    ],
    ids=lambda value: "+".join(sorted(str(getattr(each, "name", each)) for each in value)) or "none",
)
def test_what_fails(options: Set[Enum], broken: set[str]) -> None:
    system = machine(LEGACY_MODEL, {}, "sc", options)
    found = explore(system, properties=SAFE, stop="all")
    verdicts = dict(zip(SAFE, (result.verdict for result in found.results), strict=True))
    verdicts |= {name: check(system, name, "explicit").verdict for name in LASTING}
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.VIOLATED} == broken
    assert set(verdicts.values()) <= {Verdict.HOLDS, Verdict.VIOLATED}


@pytest.mark.parametrize("name", ["served-beside-pic", "ticks-pile-up", "rtc-twice"])
def test_situation_is_reached(name: str) -> None:
    system = machine(LEGACY_MODEL, {}, "sc", KERNELS["savic-rfc-v2"])
    assert check(system, name, "explicit").verdict is Verdict.HOLDS


def test_every_step_can_happen() -> None:
    system = machine(LEGACY_MODEL, {}, "sc", KERNELS["savic-rfc-v2"])
    assert explore(system, properties=[STEPS_SUCCEED], stop="all").never_fired == ()
