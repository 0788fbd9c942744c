"""The model secure-avic: what holds by default, what each open point changes, and which fault breaks what."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import Limits, check
from avicheck.checker.explore import explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import encode
from avicheck.encodings.transition import TransitionSystem, successors
from avicheck.spec import secure_avic_hardware as hardware
from avicheck.spec.description import Description, option_name
from avicheck.spec.machine import STEPS_SUCCEED, STORE_BUFFER, Machine, MemoryModel
from avicheck.spec.secure_avic import (
    EntryDisabled,
    EventInjection,
    ExitIntInfo,
    HaltWithoutIf,
    Hardware,
    LevelEoi,
    NmiAndHalt,
    NmiNotAllowed,
    NmiRequestNeeds,
    NotAllowed,
    Page,
    RequestedAfterEntry,
    Vcpu,
    Vmcb,
    Vmsa,
)
from avicheck.spec.secure_avic_asked import ARRIVAL, ARRIVAL_DESCRIPTION, ASKED, DESCRIPTION, SECURE_AVIC
from avicheck.spec.secure_avic_run import (
    ALLOWED,
    VECTORS,
    Change,
    CleanBits,
    EntryFence,
    Fault,
    Gate,
    HaltTest,
    Intercept,
    IrrUpdate,
    Savic,
    Series,
    SpivNotice,
    Tmr,
    Traffic,
    highest_of,
    next_of,
)
from avicheck.spec.threads import Model

NEVER = [*(asked.name for asked in ASKED if asked.kind == "never"), STEPS_SUCCEED, DEADLOCK_FREE]
IPIS, EDGES, ONCE = Traffic.IPIS, Traffic.EDGES, Traffic.ONCE
DEVICES = {EDGES, Traffic.REFUSED}
LEVELS = {Traffic.LEVEL_ONE, Traffic.LEVEL_TWO}


def shown(value: object) -> str:
    """How a parameter is told: options by their names."""
    if isinstance(value, set | frozenset):
        return "+".join(sorted(option_name(each) if isinstance(each, Enum) else each for each in value))
    return option_name(value) if isinstance(value, Enum) else str(value)


def system(
    options: Iterable[Enum], memory: MemoryModel = "sc", senders: int = 1, model: Model[Savic] = SECURE_AVIC
) -> TransitionSystem:
    buffer = {STORE_BUFFER: 2} if memory == "tso" else {}
    return encode(Machine(model, {"senders": senders, **buffer}, memory, options)).system


def violated(options: Iterable[Enum], memory: MemoryModel = "sc", senders: int = 1) -> dict[str, int]:
    """The properties that fail, each with the length of its shortest run; every state is gone through."""
    found = explore(system(options, memory, senders), properties=NEVER, stop="all")
    assert found.stopped in (None, "decided")
    return {result.property: result.depth or 0 for result in found.results if result.run is not None}


# What holds.

LITMUS = "litmus"
"""SAV-C04 by the letter: its run is a delivered IPI whose doorbell is still on its way."""


@pytest.mark.parametrize(("memory", "senders"), [("sc", 1), ("sc", 2), ("tso", 1)])
def test_ipis_are_never_lost(memory: MemoryModel, senders: int) -> None:
    assert violated({IPIS}, memory, senders).keys() == {LITMUS}


def test_device_interrupts_are_never_lost() -> None:
    assert violated(DEVICES) == {}


def test_ipis_and_device_interrupts_once_each() -> None:
    assert violated({IPIS, ONCE, *DEVICES}).keys() == {LITMUS}


def test_levels_work_with_the_driver_of_6_19() -> None:
    """No TMR, no EOI notice: the redirection entry is written as edge and as level."""
    assert violated(LEVELS) == {}


@pytest.mark.parametrize("gate", list(Gate))
def test_handlers_may_nest(gate: Gate) -> None:
    assert violated({EDGES, gate, *LEVELS, ONCE}) == {}


# Who brings what can be seen.


@pytest.mark.parametrize("name", [asked.name for asked in ASKED if asked.kind == "sometimes"])
def test_situation_is_reached(name: str) -> None:
    options = {IPIS, ONCE, *DEVICES, *LEVELS}
    found = explore(system(options), properties=[name], stop="first")
    assert found.results[0].verdict is Verdict.HOLDS


def test_every_step_can_happen() -> None:
    """Those of open points and faults only there."""
    usual = explore(system({IPIS, ONCE, *DEVICES, Traffic.LEVEL_ONE}), properties=["sleeps-on"])
    ended = explore(system({IPIS, ONCE, Traffic.DESTROY}), properties=["sleeps-on"])
    notices = explore(system({Traffic.LEVEL_ONE, Tmr.TMR_IS_RIGHT}), properties=["sleeps-on"])
    again = explore(system({*DEVICES, *LEVELS, ONCE, ExitIntInfo.REPORTED}), properties=["sleeps-on"])
    found = (usual, notices, ended, again)
    silent = set.intersection(*(set(exploration.never_fired) for exploration in found))
    elsewhere = {"vmrun_write", "vmrun_cached", "halt_exits", "nest", "late", "gone"}
    elsewhere |= {"hostile", "hostile_notice"}
    assert {name.partition(".")[2].partition("(")[0] for name in silent} == elsewhere


# Open points.


@pytest.mark.parametrize(
    ("options", "memory", "senders", "broken"),
    [
        ({IPIS, Intercept.PLAIN_HLT}, "sc", 1, {"sleeps-on", "litmus-unserved", LITMUS}),
        ({IPIS, HaltTest.TEST_IS_NOT_ATOMIC}, "sc", 1, {"sleeps-on", "litmus-unserved", LITMUS}),
        ({IPIS, EntryFence.ENTRY_OVERTAKES}, "sc", 1, {LITMUS}),
        ({IPIS, EntryFence.ENTRY_OVERTAKES}, "tso", 1, {"sleeps-on", "litmus-unserved", LITMUS}),
        ({IPIS, IrrUpdate.UPDATE_SPLIT}, "sc", 1, {"lost-in-page", LITMUS}),
        ({*DEVICES, RequestedAfterEntry.REQUESTED_STAYS}, "sc", 1, {"injected-unasked"}),
        ({*DEVICES, CleanBits.REQUEST_CACHED}, "sc", 1, {"lost-in-kvm"}),
        ({*DEVICES, CleanBits.REQUEST_CACHED, Change.MARKED_DIRTY}, "sc", 1, set()),
        ({*DEVICES, NotAllowed.LEFT_REQUESTED}, "sc", 1, set()),
        ({*DEVICES, ExitIntInfo.REPORTED}, "sc", 1, set()),
        ({*LEVELS, Tmr.TMR_IS_RIGHT}, "sc", 1, {"ends-another", "line-is-dead"}),
        ({*DEVICES, SpivNotice.SPIV_NOT_SENT}, "sc", 1, {"device-unheard"}),
        ({*DEVICES, SpivNotice.SPIV_NOT_SENT, Series.SPIV_FORCED}, "sc", 1, set()),
        ({Traffic.EXTINT}, "sc", 1, {"injects-nothing"}),
        ({Traffic.EXTINT, Series.PIC_GUARD}, "sc", 1, set()),
    ],
    ids=shown,
)
def test_open_point(options: set[Enum], memory: MemoryModel, senders: int, broken: set[str]) -> None:
    assert violated(options, memory, senders).keys() - {DEADLOCK_FREE} == broken


def test_pic_interrupt_keeps_the_vcpu_from_sleeping() -> None:
    """P-L7: with the PIC's output high it never blocks."""
    found = explore(system({Traffic.EXTINT}), properties=["sleeps"], stop="first")
    assert found.results[0].verdict is Verdict.VIOLATED


# Level-triggered interrupts with notices of their EOIs.


def test_eoi_ends_another_vector() -> None:
    """SAV-C11, P-L3: the shadow ISR is set at injection, not at delivery."""
    broken = violated({*LEVELS, Tmr.TMR_IS_RIGHT})
    assert broken == {"ends-another": 31, "line-is-dead": 45}


@pytest.mark.parametrize("change", [Change.EXACT_EOI, Change.ONE_LEVEL])
@pytest.mark.parametrize("gate", list(Gate))
def test_change_closes_it(change: Change, gate: Gate) -> None:
    assert violated({*LEVELS, Tmr.TMR_IS_RIGHT, change, gate}) == {}


def test_one_level_line_alone_is_right() -> None:
    assert violated({Traffic.LEVEL_ONE, Tmr.TMR_IS_RIGHT}) == {}


# A malicious guest.


def test_malicious_guest_hurts_itself_alone() -> None:
    """It sleeps with interrupts pending; in KVM no vector is lost, no index is out of its bounds, and the one
    finding is F-EOI-NONE."""
    own = {"sleeps-on", "litmus-unserved", LITMUS}
    assert violated({Traffic.HOSTILE, IPIS, EDGES}).keys() - own == {"ends-nothing"}


# Faults that no claim of proofs.secure_avic is about.


@pytest.mark.parametrize(
    ("fault", "options", "broken"),
    [
        (Fault.NO_KICK, {IPIS}, "sleeps-on"),
        (Fault.NO_EVENT, DEVICES, "forgotten-event"),
        (Fault.NO_UPDATE, DEVICES, "lost-in-kvm"),
    ],
    ids=shown,
)
def test_fault_is_noticed(fault: Fault, options: set[Enum], broken: str) -> None:
    assert broken in violated({fault, *options})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ipi-arrives", {IPIS, Fault.NO_DOORBELL}),
        ("ipi-arrives", {IPIS, Fault.NO_STICKY}),
        ("line-a-served", {*LEVELS, Fault.NO_EVENT}),
    ],
    ids=shown,
)
def test_interrupt_does_not_arrive(name: str, options: set[Enum]) -> None:
    found = check(system({ONCE, *options}, model=ARRIVAL), name, "explicit", Limits(seconds=60))
    assert found.verdict is Verdict.VIOLATED


# The few vectors stand for all.

HARDWARE = Hardware(
    RequestedAfterEntry.REQUESTED_CLEARED,
    NotAllowed.DROPPED,
    EntryDisabled.REQUEST_LOST,
    EventInjection.EVENT_IGNORED,
    LevelEoi.SOFTWARE_RETIRES,
    HaltWithoutIf.HALT_STAYS,
    NmiNotAllowed.NMI_DROPPED,
    NmiRequestNeeds.NOTHING,
    NmiAndHalt.NMI_WAKES,
)


def spread(vectors: int) -> int:
    """Few vectors as real ones, a class apart, above the exceptions."""
    return sum(1 << (16 * (2 + i)) for i, vector in enumerate(VECTORS) if vectors & vector)


def vcpu(irr: int, isr: int, requested: int = 0) -> Vcpu:
    page = Page(spread(irr), spread(isr), 0, spread(ALLOWED), 0x10, True, False)
    running = Vmsa(True, True, True, True, False, True, False, False)
    return Vcpu(page, running, Vmcb(spread(requested), True, False, False, True), True, True, False)


@pytest.mark.parametrize("irr", range(32))
def test_few_vectors_are_delivered_like_real_ones(irr: int) -> None:
    for isr in range(32):
        taken = hardware.take_interrupt(vcpu(irr, isr))
        chosen = next_of(irr, isr)
        assert (1 << taken.vector if taken.vector >= 0 else 0) == spread(chosen)
        assert taken.vcpu.page.irr == spread(irr & ~chosen)
        ended = hardware.write_eoi(HARDWARE, vcpu(irr, isr)).vcpu
        assert ended.page.isr == spread(isr & ~highest_of(isr))
        assert ended.v_intr == (next_of(irr, isr & ~highest_of(isr)) != 0)


@pytest.mark.parametrize("requested", range(32))
def test_few_vectors_are_requested_like_real_ones(requested: int) -> None:
    for irr in range(32):
        entered = hardware.vmrun(HARDWARE, vcpu(irr, 0, requested)).vcpu
        assert entered.page.irr == spread(irr | (requested & ALLOWED))
        assert (entered.vmcb.requested_irr, entered.vmcb.update_irr) == (0, False)


# Who writes what.


def test_only_the_targets_thread_writes_its_request() -> None:
    """P-S3, SAV-C08: RequestedIRR and UpdateIRR, in every step of the model."""
    transitions = system({IPIS, *DEVICES, *LEVELS, Traffic.DESTROY}, "tso").transitions
    written = {step.thread for step in transitions if {"requested_irr", "update_irr"} & step.updates.keys()}
    assert written == {"target"}


# The two forms of the model.


def test_lifted_transitions_are_the_steps_of_the_run() -> None:
    scope = {"senders": 1, STORE_BUFFER: 2}
    encoding = encode(Machine(SECURE_AVIC, scope, "tso", {IPIS, ONCE, *DEVICES, Traffic.LEVEL_ONE}))
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


@pytest.mark.parametrize("described", [DESCRIPTION, ARRIVAL_DESCRIPTION], ids=lambda each: each.model.name)
def test_description_builds_by_default(described: Description) -> None:
    usual = {assumption.default for assumption in described.assumptions}
    options = described.kernels[described.kernel] | usual
    scope = {name: size.usual for name, size in described.scope.items()}
    assert encode(Machine(described.model, scope, "sc", options)).system.name == described.model.name
