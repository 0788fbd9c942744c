"""The small models about APICv: right with every fix in, and each planted fault found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from itertools import product
from typing import Any, TypeAlias

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import check
from avicheck.checker.explore import Exploration, explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import encode
from avicheck.encodings.transition import successors
from avicheck.proofs.bugs import BUGS
from avicheck.spec import apicv_inhibit_creation as creation
from avicheck.spec import apicv_inhibit_l2_page as l2_page
from avicheck.spec import apicv_inhibit_nested as nested
from avicheck.spec import apicv_inhibit_page as page
from avicheck.spec import apicv_inhibit_tpr as tpr
from avicheck.spec import apicv_inhibit_window as window
from avicheck.spec.apic import ApicMode
from avicheck.spec.apicv_inhibit import InhibitFix, Vendor
from avicheck.spec.apicv_inhibit_creation import CREATED, CREATOR, RUNNER, CreationFault, Id, Variant
from avicheck.spec.apicv_inhibit_l2_page import L2Fault, L2Fix, Lift
from avicheck.spec.apicv_inhibit_nested import NestedFault
from avicheck.spec.apicv_inhibit_page import Hardware, PageFault
from avicheck.spec.apicv_inhibit_tpr import TprFault
from avicheck.spec.apicv_inhibit_window import WindowFault
from avicheck.spec.description import Description
from avicheck.spec.machine import Machine, MemoryModel
from avicheck.spec.threads import World, sometimes

ALL: frozenset[Enum] = frozenset(InhibitFix)
IN_TABLE: set[Enum] = {Id.IN_TABLE, Variant.CLEARED_AT_ONCE}
TOO_BIG: set[Enum] = {Id.TOO_BIG, Variant.CLEARED_AT_ONCE}
MERGED: set[Enum] = {L2Fix.DEFER_SVI, Lift.NEVER}
RFC: set[Enum] = {L2Fix.INHIBIT_ON_L2_ACCESS, L2Fix.DEFER_SVI, Lift.NEVER}
RIGHT: list[tuple[Description, set[Enum]]] = [
    (creation.DESCRIPTION, IN_TABLE),
    (creation.DESCRIPTION, TOO_BIG),
    (nested.DESCRIPTION, {Vendor.SVM}),
    (nested.DESCRIPTION, {Vendor.VMX}),
    (page.DESCRIPTION, {Hardware.X2AVIC}),
    (page.DESCRIPTION, {Hardware.HYBRID}),
    (l2_page.DESCRIPTION, MERGED),
    (window.DESCRIPTION, set()),
    (tpr.TPR_DESCRIPTION, set()),
    (tpr.THRESHOLD_DESCRIPTION, set()),
]
FAULTS: list[tuple[Description, set[Enum], Enum, set[str]]] = [
    (creation.DESCRIPTION, IN_TABLE, CreationFault.NO_REFRESH, {"inhibit-agrees"}),
    (creation.DESCRIPTION, IN_TABLE, CreationFault.NO_ENTRY, {"inhibit-agrees", "loaded-early"}),
    (
        creation.DESCRIPTION,
        TOO_BIG,
        CreationFault.NO_INHIBIT,
        {"inhibit-agrees", "loaded-early", "request-matters"},
    ),
    (nested.DESCRIPTION, {Vendor.SVM}, NestedFault.NO_UPDATE_AT_VMRUN, {"agrees-in-l2"}),
    (nested.DESCRIPTION, {Vendor.SVM}, NestedFault.NO_UPDATE_AT_VMEXIT, {"agrees-in-l1"}),
    (nested.DESCRIPTION, {Vendor.VMX}, NestedFault.NO_UPDATE_AT_VMEXIT, {"agrees-in-l1"}),
    (page.DESCRIPTION, {Hardware.X2AVIC}, PageFault.NO_ZAP, {"access-lost", "bypass"}),
    (page.DESCRIPTION, {Hardware.HYBRID}, PageFault.NO_FLUSH, {"access-lost", "alias", "bypass"}),
    (l2_page.DESCRIPTION, RFC, L2Fault.NO_REQUEST, {"stale-access", "stale-again"}),
    (l2_page.DESCRIPTION, MERGED, L2Fault.CONTROLS_OF_L2, {"apicv-lost", "interrupt-lost"}),
    (window.DESCRIPTION, set(), WindowFault.NO_WAIT, {"inhibit-agrees"}),
    (window.DESCRIPTION, set(), WindowFault.NEVER_CLEARED, {"left-over"}),
    (window.DESCRIPTION, set(), WindowFault.NOT_ARMED, {"extint-lost", "left-over", "two-windows"}),
    (tpr.TPR_DESCRIPTION, set(), TprFault.NO_SYNC_TO_VMCB, {"v-tpr-agrees", "page-agrees"}),
    (tpr.TPR_DESCRIPTION, set(), TprFault.NO_SYNC_TO_PAGE, {"v-tpr-agrees", "page-agrees"}),
    (tpr.TPR_DESCRIPTION, set(), TprFault.INTERCEPT_AT_INIT, {"intercepted"}),
    (tpr.THRESHOLD_DESCRIPTION, set(), TprFault.NO_THRESHOLD, {"unseen", "threshold-set"}),
    (tpr.THRESHOLD_DESCRIPTION, set(), TprFault.ANY_THRESHOLD, {"entry-fails", DEADLOCK_FREE}),
]
MISSING: list[tuple[Description, set[Enum], Enum, set[str]]] = [
    (creation.DESCRIPTION, TOO_BIG, InhibitFix.ID_TOO_BIG, {"refused", "both-run"}),
    (l2_page.DESCRIPTION, MERGED, L2Fix.DEFER_SVI, {"interrupt-lost", "svi-agrees"}),
]
MODELS = list({described.model.name: described for described, _ in RIGHT}.values())
Predicate: TypeAlias = Callable[[World[Any]], bool]
SITUATIONS: list[tuple[Description, set[Enum], str, Predicate]] = [
    (
        creation.DESCRIPTION,
        IN_TABLE,
        "inhibit-agrees",
        lambda world: world.shared.vcpus[CREATED].in_guest and world.shared.reasons != 0,
    ),
    (
        creation.DESCRIPTION,
        IN_TABLE,
        "loaded-early",
        lambda world: world.of(CREATOR)[0].at("first_load") and world.shared.vcpus[CREATED].apicv_active,
    ),
    (creation.DESCRIPTION, TOO_BIG, "refused", lambda world: world.of(CREATOR)[0].at("ask")),
    (creation.DESCRIPTION, TOO_BIG, "request-matters", lambda world: world.of(RUNNER)[CREATED].at("update")),
    (
        nested.DESCRIPTION,
        {Vendor.VMX},
        "agrees-in-l1",
        lambda world: nested.in_l1(world) and world.shared.inhibited,
    ),
    (
        nested.DESCRIPTION,
        {Vendor.SVM},
        "agrees-in-l2",
        lambda world: nested.in_l2(world) and not world.shared.inhibited,
    ),
    (
        page.DESCRIPTION,
        {Hardware.X2AVIC},
        "access-lost",
        lambda world: any(
            thread.at("install") and vcpu.stale and vcpu.mode == ApicMode.XAPIC
            for thread, vcpu in zip(world.of(page.VCPU), world.shared.vcpus, strict=True)
        ),
    ),
    (
        page.DESCRIPTION,
        {Hardware.X2AVIC},
        "alias",
        lambda world: any(
            vcpu.mode == ApicMode.X2APIC and page.goes(world, vcpu)[0] for vcpu in world.shared.vcpus
        ),
    ),
    (
        page.DESCRIPTION,
        {Hardware.HYBRID},
        "bypass",
        lambda world: any(
            vcpu.in_guest and vcpu.mode == ApicMode.XAPIC and not vcpu.avic for vcpu in world.shared.vcpus
        ),
    ),
    (
        l2_page.DESCRIPTION,
        MERGED,
        "interrupt-lost",
        lambda world: world.shared.pending_svi and world.shared.irr,
    ),
    (
        l2_page.DESCRIPTION,
        MERGED,
        "svi-agrees",
        lambda world: world.shared.in_guest and world.shared.isr and not world.shared.guest_mode,
    ),
    (l2_page.DESCRIPTION, RFC, "stale-access", l2_page.on_stale_state),
    (
        l2_page.DESCRIPTION,
        RFC,
        "stale-again",
        lambda world: l2_page.l2_ends_handler(world) and world.shared.inhibited,
    ),
    (l2_page.DESCRIPTION, MERGED, "apicv-lost", lambda world: world.of(l2_page.VCPU)[0].at("after_exit")),
    (
        window.DESCRIPTION,
        set(),
        "extint-lost",
        lambda world: any(v.in_guest and v.extint and v.interruptible for v in world.shared.vcpus),
    ),
    (
        window.DESCRIPTION,
        set(),
        "inhibit-agrees",
        lambda world: world.of(window.VCPU)[0].at("guest") and world.shared.irqwin,
    ),
    (
        window.DESCRIPTION,
        set(),
        "left-over",
        lambda world: world.shared.irqwin and not any(v.extint for v in world.shared.vcpus),
    ),
    (window.DESCRIPTION, set(), "toggling-ends", window.inhibiting),
    (
        tpr.TPR_DESCRIPTION,
        set(),
        "v-tpr-agrees",
        lambda world: world.of(tpr.VCPU)[0].at("guest") and world.shared.avic and world.shared.wanted,
    ),
    (
        tpr.TPR_DESCRIPTION,
        set(),
        "page-agrees",
        lambda world: world.of(tpr.VCPU)[0].at("host") and world.shared.avic and world.shared.wanted,
    ),
    (
        tpr.TPR_DESCRIPTION,
        set(),
        "intercepted",
        lambda world: world.of(tpr.VCPU)[0].at("guest") and world.shared.cr8_intercept,
    ),
    (
        tpr.THRESHOLD_DESCRIPTION,
        set(),
        "entry-fails",
        lambda world: world.of(tpr.SHADOW)[0].at("vmentry") and world.shared.threshold,
    ),
    (
        tpr.THRESHOLD_DESCRIPTION,
        set(),
        "unseen",
        lambda world: world.of(tpr.SHADOW)[0].at("guest") and world.shared.irr and world.shared.tpr,
    ),
]
"""For each property what it is about, without which it would hold for want of anything to fail."""


def machine(
    described: Description, options: set[Enum], memory: MemoryModel = "sc", without: Enum | None = None
) -> Machine[Any]:
    scope = {name: size.usual for name, size in described.scope.items()}
    return Machine(described.model, {**scope, "store_buffer": 2}, memory, (ALL | options) - {without})


def explored(
    described: Description, options: set[Enum], memory: MemoryModel = "sc", without: Enum | None = None
) -> Exploration:
    return explore(encode(machine(described, options, memory, without)).system, stop="all")


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


@pytest.mark.parametrize(
    ("described", "options", "name", "predicate"),
    SITUATIONS,
    ids=[f"{described.model.name}/{name}" for described, _, name, _ in SITUATIONS],
)
def test_situation_is_reachable(
    described: Description, options: set[Enum], name: str, predicate: Predicate
) -> None:
    model = replace(described.model, asked=(sometimes(name, "", predicate),))
    found = explored(replace(described, model=model), options)
    assert {result.property: result.verdict for result in found.results}[name] is Verdict.HOLDS


@pytest.mark.parametrize(("described", "options", "fix", "expected"), MISSING)
def test_missing_fix_is_found(
    described: Description, options: set[Enum], fix: Enum, expected: set[str]
) -> None:
    assert violated(explored(described, options, without=fix)) == expected


def asked(described: Description) -> set[tuple[str, str]]:
    """The properties that can fail, each with its model."""
    return {(described.model.name, p.name) for p in described.model.asked if p.kind != "sometimes"}


@pytest.mark.parametrize("described", MODELS, ids=[described.model.name for described in MODELS])
def test_every_property_has_a_situation_and_a_mutant(described: Description) -> None:
    reached = {(of.model.name, name) for of, _, name, _ in SITUATIONS}
    planted = {(of.model.name, name) for of, _, _, names in FAULTS for name in names}
    missing = {(of.model.name, name) for of, _, _, names in MISSING for name in names}
    bugs = {(bug.model, bug.asked) for bug in BUGS}
    unanswered = {("apicv-inhibit-window", "toggling-ends")}
    assert asked(described) <= reached
    assert asked(described) <= planted | missing | bugs | unanswered


def differs(described: Description, switch: Enum, assumed: frozenset[Enum]) -> bool:
    """Whether a switch changes what a model does, with every other fix in and no other fault."""
    faults = {CreationFault, NestedFault, PageFault, L2Fault, WindowFault, TprFault}
    fixes = {option for option in described.switchable.values() if type(option) not in faults}
    scope = {name: size.usual for name, size in described.scope.items()}
    systems = (
        encode(Machine(described.model, scope, "sc", options | assumed)).system
        for options in (fixes | {switch}, fixes - {switch})
    )
    before, after = ([(step.guard, step.updates) for step in system.transitions] for system in systems)
    return before != after


@pytest.mark.parametrize("described", MODELS, ids=[described.model.name for described in MODELS])
def test_every_switch_bears_on_its_model(described: Description) -> None:
    """Else a fix would seem not to matter that a model knows nothing of."""
    alternatives = [list(assumption.alternatives) for assumption in described.assumptions]
    assumed = [frozenset(chosen) for chosen in product(*alternatives)]
    idle = {
        switch
        for switch in described.switchable.values()
        if not any(differs(described, switch, each) for each in assumed)
    }
    assert idle == set()
