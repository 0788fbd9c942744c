"""The model secure-avic-irqchip: whether the end of a level-triggered interrupt comes back to its source."""

from __future__ import annotations

import itertools
from collections.abc import Set
from enum import Enum

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import check
from avicheck.checker.explore import explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.secure_avic_irqchip import (
    IRQCHIP_DESCRIPTION,
    IRQCHIP_MODEL,
    Affinity,
    IoapicVersion,
    Irqchip,
    IrqchipChange,
    IrqchipFault,
    Source,
)
from avicheck.spec.secure_avic_run import Tmr

V2 = IRQCHIP_DESCRIPTION.kernels["savic-rfc-v2"]
SPLIT, KERNEL, RESAMPLED, NOTICES = Irqchip.SPLIT, Irqchip.IN_KERNEL, Source.RESAMPLED, Tmr.TMR_IS_RIGHT
OLD_VERSION = IoapicVersion.VERSION_11
SAFE = ("line-is-dead", "eoi-swallowed", STEPS_SUCCEED, DEADLOCK_FREE)
DEAD = {"line-is-dead", "line-served"}


def broken_by(options: Set[Enum]) -> set[str]:
    system = machine(IRQCHIP_MODEL, {}, "sc", options)
    found = explore(system, properties=SAFE, stop="all")
    verdicts = dict(zip(SAFE, (result.verdict for result in found.results), strict=True))
    verdicts["line-served"] = check(system, "line-served", "explicit").verdict
    assert set(verdicts.values()) <= {Verdict.HOLDS, Verdict.VIOLATED}
    return {name for name, verdict in verdicts.items() if verdict is Verdict.VIOLATED}


@pytest.mark.parametrize("irqchip", Irqchip)
@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("tmr", Tmr)
def test_line_that_stays_is_served(irqchip: Irqchip, source: Source, tmr: Tmr) -> None:
    assert broken_by(V2 | {irqchip, source, tmr, Affinity.STAYS}) == set()


@pytest.mark.parametrize(("irqchip", "source", "tmr"), [*itertools.product(Irqchip, Source, Tmr)])
def test_line_that_moves_is_served_unless_its_route_is_an_irqfds(
    irqchip: Irqchip, source: Source, tmr: Tmr
) -> None:
    chosen = {irqchip, source, tmr}
    races = chosen == {SPLIT, RESAMPLED, NOTICES}
    assert broken_by(V2 | chosen) == ({*DEAD, "eoi-swallowed"} if races else set())


@pytest.mark.parametrize(
    ("options", "broken"),
    [
        (V2 | {OLD_VERSION}, set()),
        (V2 | {OLD_VERSION, RESAMPLED}, DEAD),
        (V2 | {OLD_VERSION, RESAMPLED, IrqchipChange.USERSPACE_RESAMPLES}, set()),
        (V2 | {RESAMPLED, NOTICES, IrqchipChange.ROUTE_FIRST}, set()),
        ({KERNEL, RESAMPLED}, DEAD),
        (V2 | {KERNEL, NOTICES, IrqchipFault.NO_SHADOW}, {*DEAD, "eoi-swallowed"}),
        (V2 | {NOTICES, IrqchipFault.NO_EOI_EXIT}, DEAD),
        (V2 | {IrqchipFault.KEEPS_REMOTE_IRR}, DEAD),
    ],
    ids=lambda value: "+".join(sorted(str(getattr(each, "name", each)) for each in value)) or "none",
)
def test_what_fails(options: Set[Enum], broken: set[str]) -> None:
    assert broken_by(options) == broken


@pytest.mark.parametrize("name", ["asserted-again", "userspace-told", "moved-in-service"])
def test_situation_is_reached(name: str) -> None:
    system = machine(IRQCHIP_MODEL, {}, "sc", V2)
    assert check(system, name, "explicit").verdict is Verdict.HOLDS


def test_eoi_is_swallowed_when_the_old_route_is_used_after_the_scan() -> None:
    system = machine(IRQCHIP_MODEL, {}, "sc", V2 | {RESAMPLED, NOTICES})
    run = check(system, "eoi-swallowed", "explicit").run
    assert run is not None
    order = [run.fired.index(name) for name in ("sender.fire", "mover.request_scan", "sender.accept")]
    assert order == sorted(order)
