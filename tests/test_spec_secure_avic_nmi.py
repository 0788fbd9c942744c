"""The model secure-avic-nmi: which NMIs arrive, and how often."""

from __future__ import annotations

from enum import Enum

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import check
from avicheck.checker.explore import explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.secure_avic import ExitIntInfo, NmiNotAllowed, NmiRequestNeeds
from avicheck.spec.secure_avic_nmi import (
    NMI_MODEL,
    AllowedNmi,
    Complete,
    NmiChange,
    NmiFault,
)

ASKED = ("extra-nmi", "uninvited-nmi", STEPS_SUCCEED, DEADLOCK_FREE, "host-nmi-served", "own-nmi-served")
BLOCKED, KEPT = AllowedNmi.NOT_ALLOWED, NmiNotAllowed.NMI_LEFT_PENDING


@pytest.mark.parametrize(
    ("options", "broken"),
    [
        (set(), set()),
        ({ExitIntInfo.REPORTED}, {"extra-nmi"}),
        ({ExitIntInfo.REPORTED, NmiChange.NOT_AGAIN}, set()),
        ({Complete.NOT_SENT}, {"host-nmi-served"}),
        ({NmiFault.NO_EVENT}, {"host-nmi-served"}),
        ({BLOCKED}, {"host-nmi-served"}),
        ({BLOCKED, KEPT}, {"host-nmi-served"}),
        ({BLOCKED, NmiRequestNeeds.ALLOWED_NMI}, {"host-nmi-served", "own-nmi-served"}),
        ({BLOCKED, NmiFault.NO_FILTER}, {"uninvited-nmi"}),
    ],
    ids=lambda value: "+".join(sorted(str(getattr(each, "name", each)) for each in value)) or "none",
)
def test_what_fails(options: set[Enum], broken: set[str]) -> None:
    system = machine(NMI_MODEL, {}, "sc", options)
    verdicts = {name: check(system, name, "explicit").verdict for name in ASKED}
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.VIOLATED} == broken
    assert set(verdicts.values()) <= {Verdict.HOLDS, Verdict.VIOLATED}


def test_two_nmis_of_the_host_can_wait() -> None:
    found = explore(machine(NMI_MODEL, {}), properties=["two-host-nmis"], stop="first")
    assert found.results[0].verdict is Verdict.HOLDS


def test_nmi_that_is_injected_again_is_taken_twice() -> None:
    """Patch 11/17: svm_inject_nmi sets V_NMI_PENDING for what the hardware delivers again by itself."""
    found = explore(machine(NMI_MODEL, {}, "sc", {ExitIntInfo.REPORTED}), properties=["extra-nmi"])
    run = found.results[0].run
    assert run is not None
    labels = [name.partition("(")[0].partition(".")[2] for name in run.fired]
    assert labels.index("deliver_again") < labels.index("handles") < len(labels) - 1
    assert (labels[-1], len(labels)) == ("take_hosts", 17)


def test_every_step_can_happen() -> None:
    assert explore(machine(NMI_MODEL, {}), properties=["extra-nmi"], stop="all").never_fired == ()
