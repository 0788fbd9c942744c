"""The small models about APICv: right with every fix in, and each planted fault found."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from avicheck.checker.engines import check
from avicheck.checker.explore import Exploration, explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import encode
from avicheck.encodings.transition import successors
from avicheck.spec import apicv_inhibit_creation as creation
from avicheck.spec import apicv_inhibit_l2_page as l2_page
from avicheck.spec import apicv_inhibit_nested as nested
from avicheck.spec import apicv_inhibit_page as page
from avicheck.spec import apicv_inhibit_tpr as tpr
from avicheck.spec import apicv_inhibit_window as window
from avicheck.spec.apicv_inhibit import InhibitFix, Vendor
from avicheck.spec.apicv_inhibit_creation import Id, Variant
from avicheck.spec.apicv_inhibit_l2_page import L2Fault, L2Fix, Lift
from avicheck.spec.apicv_inhibit_nested import NestedFault
from avicheck.spec.apicv_inhibit_page import Hardware, PageFault
from avicheck.spec.apicv_inhibit_tpr import TprFault
from avicheck.spec.apicv_inhibit_window import WindowFault
from avicheck.spec.description import Description
from avicheck.spec.machine import Machine, MemoryModel

ALL: frozenset[Enum] = frozenset(InhibitFix)
RIGHT: list[tuple[Description, set[Enum]]] = [
    (creation.DESCRIPTION, {Id.IN_TABLE, Variant.CLEARED_AT_ONCE}),
    (creation.DESCRIPTION, {Id.TOO_BIG, Variant.CLEARED_AT_ONCE}),
    (nested.DESCRIPTION, {Vendor.SVM}),
    (nested.DESCRIPTION, {Vendor.VMX}),
    (page.DESCRIPTION, {Hardware.X2AVIC}),
    (page.DESCRIPTION, {Hardware.HYBRID}),
    (l2_page.DESCRIPTION, {L2Fix.DEFER_SVI, Lift.NEVER}),
    (window.DESCRIPTION, set()),
    (tpr.TPR_DESCRIPTION, set()),
    (tpr.THRESHOLD_DESCRIPTION, set()),
]
FAULTS: list[tuple[Description, set[Enum], Enum, set[str]]] = [
    (nested.DESCRIPTION, {Vendor.SVM}, NestedFault.NO_UPDATE_AT_VMRUN, {"agrees-in-l2"}),
    (nested.DESCRIPTION, {Vendor.SVM}, NestedFault.NO_UPDATE_AT_VMEXIT, {"agrees-in-l1"}),
    (nested.DESCRIPTION, {Vendor.VMX}, NestedFault.NO_UPDATE_AT_VMEXIT, {"agrees-in-l1"}),
    (page.DESCRIPTION, {Hardware.X2AVIC}, PageFault.NO_ZAP, {"access-lost", "bypass"}),
    (page.DESCRIPTION, {Hardware.HYBRID}, PageFault.NO_FLUSH, {"access-lost", "alias", "bypass"}),
    (
        l2_page.DESCRIPTION,
        {L2Fix.INHIBIT_ON_L2_ACCESS, L2Fix.DEFER_SVI, Lift.NEVER},
        L2Fault.NO_REQUEST,
        {"stale-access", "stale-again"},
    ),
    (window.DESCRIPTION, set(), WindowFault.NEVER_CLEARED, {"left-over"}),
    (window.DESCRIPTION, set(), WindowFault.NOT_ARMED, {"extint-lost", "left-over", "two-windows"}),
    (tpr.TPR_DESCRIPTION, set(), TprFault.NO_SYNC_TO_VMCB, {"v-tpr-agrees", "page-agrees"}),
    (tpr.TPR_DESCRIPTION, set(), TprFault.NO_SYNC_TO_PAGE, {"v-tpr-agrees", "page-agrees"}),
    (tpr.THRESHOLD_DESCRIPTION, set(), TprFault.NO_THRESHOLD, {"unseen", "threshold-set"}),
]


def machine(described: Description, options: set[Enum], memory: MemoryModel = "sc") -> Machine[Any]:
    scope = {name: size.usual for name, size in described.scope.items()}
    return Machine(described.model, {**scope, "store_buffer": 2}, memory, ALL | options)


def explored(described: Description, options: set[Enum], memory: MemoryModel = "sc") -> Exploration:
    return explore(encode(machine(described, options, memory)).system, stop="all")


def violated(found: Exploration) -> set[str]:
    return {result.property for result in found.results if result.verdict is Verdict.VIOLATED}


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize(("described", "options"), RIGHT)
def test_every_property_holds_with_every_fix(
    described: Description, options: set[Enum], memory: MemoryModel
) -> None:
    found = explored(described, options, memory)
    assert violated(found) == set()
    assert found.complete


@pytest.mark.parametrize(("described", "options", "fault", "expected"), FAULTS)
def test_planted_fault_is_found(
    described: Description, options: set[Enum], fault: Enum, expected: set[str]
) -> None:
    assert violated(explored(described, {*options, fault})) == expected


@pytest.mark.parametrize(("described", "options"), RIGHT)
def test_lifted_transitions_are_the_steps_of_the_run(described: Description, options: set[Enum]) -> None:
    encoding = encode(machine(described, options))
    waiting = list(encoding.machine.initial)
    seen = set(waiting)
    while waiting and len(seen) < 150:
        world = waiting.pop(0)
        run = [(action.name, after) for action, after in encoding.machine.successors(world)]
        lifted = successors(encoding.system, encoding.values(world))
        assert run == [(fired.name, encoding.state(after)) for fired, after in lifted]
        new = [after for _, after in run if after not in seen]
        seen.update(new)
        waiting.extend(new)


def test_ways_into_and_out_of_l2_are_all_taken() -> None:
    found = explored(nested.DESCRIPTION, {Vendor.SVM})
    assert found.never_fired == ()


def test_request_of_a_vcpu_whose_id_is_too_big_changes_nothing() -> None:
    found = explored(creation.DESCRIPTION, {Id.TOO_BIG, Variant.CLEARED_AT_ONCE})
    assert found.never_fired == ("runner[1].refresh",)


def test_setter_that_nobody_answers_is_found() -> None:
    system = encode(machine(window.DESCRIPTION, {WindowFault.NO_KICK})).system
    assert check(system, "toggling-ends", "explicit").verdict is Verdict.VIOLATED
