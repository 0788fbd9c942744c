"""The model secure-avic-page: when a vCPU is lost because its backing page is not mapped."""

from __future__ import annotations

from enum import Enum

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import check
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.secure_avic_page import PAGE_MODEL, PageChange, PageFault, Rmp, Zaps

LARGE, ZAPPED = Rmp.LARGE_ENTRY, Zaps.ZAPPED
AT_ENTRY, KEPT = PageChange.MAPPED_AT_ENTRY, PageChange.KEPT_MAPPED


@pytest.mark.parametrize(
    ("options", "broken"),
    [
        (set(), set()),
        ({LARGE}, {"page-is-mapped"}),
        ({LARGE, AT_ENTRY}, set()),
        ({LARGE, KEPT}, set()),
        ({ZAPPED}, {"page-is-mapped"}),
        ({ZAPPED, AT_ENTRY}, {"page-is-mapped"}),
        ({ZAPPED, KEPT}, set()),
        ({LARGE, ZAPPED, KEPT}, set()),
        ({PageFault.ENABLES_FIRST}, {"page-is-known"}),
        ({PageFault.UNREGISTERS_FIRST}, {"page-is-known"}),
    ],
    ids=lambda value: ", ".join(sorted(str(getattr(each, "name", each)) for each in value)) or "none",
)
def test_what_fails(options: set[Enum], broken: set[str]) -> None:
    system = machine(PAGE_MODEL, {}, "sc", options)
    names = ("page-is-mapped", "page-is-known", STEPS_SUCCEED, DEADLOCK_FREE)
    verdicts = {name: check(system, name, "explicit").verdict for name in names}
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.VIOLATED} == broken


@pytest.mark.parametrize("name", ["page-serves", "page-stays-registered"])
def test_situation_is_reached(name: str) -> None:
    assert check(machine(PAGE_MODEL, {}), name, "explicit").verdict is Verdict.HOLDS


def test_registration_itself_takes_the_page_away() -> None:
    """F-ZAP: a large RMP entry is split, which zaps the page; nobody maps it before the hardware needs it."""
    run = check(machine(PAGE_MODEL, {}, "sc", {LARGE}), "page-is-mapped", "explicit").run
    assert run is not None
    names = [name.removeprefix("vcpu.") for name in run.fired]
    assert names[2:] == ["write_id", "register", "psmash", "store_gpa", "entry", "vmrun", "enable", "use"]


def test_mapping_at_the_entry_comes_too_early() -> None:
    """A zap between the look and VMRUN, or while the guest runs."""
    run = check(machine(PAGE_MODEL, {}, "sc", {ZAPPED, AT_ENTRY}), "page-is-mapped", "explicit").run
    assert run is not None
    assert "mmu.zap" in run.fired[-3:]
