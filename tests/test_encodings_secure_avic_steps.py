"""The hand-written steps of the hardware are the model's in reachable states, and a wrong one is noticed."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

import pytest
import z3

from avicheck.checker.crosscheck_voices import Handwritten, Terms, run, stated
from avicheck.checker.explore import explore_states
from avicheck.encodings.machine import encode
from avicheck.encodings.packing import layout
from avicheck.encodings.secure_avic_steps import hardware
from avicheck.spec.machine import Machine, MemoryModel
from avicheck.spec.secure_avic import NotAllowed, RequestedAfterEntry
from avicheck.spec.secure_avic_asked import SECURE_AVIC
from avicheck.spec.secure_avic_run import Fault, Traffic

STEPS = ("target.deliver", "target.vmrun", "wires.doorbell_arrives", "wires.kick_lapses")
USUAL = {Traffic.IPIS, Traffic.EDGES, Traffic.REFUSED, Traffic.LEVEL_ONE, Traffic.ONCE}
ASKED = 150
"""Reachable states, evenly spread in the order of discovery."""


def differing(relation: Handwritten, options: Iterable[Enum], memory: MemoryModel = "sc") -> set[str]:
    """The steps that the relation tells otherwise than the model's functions, and those that none takes."""
    buffer = {"store_buffer": 2} if memory == "tso" else {}
    encoding = encode(Machine(SECURE_AVIC, {"senders": 1, **buffer}, memory, options))
    form = layout(encoding.system)
    found, snapshot = explore_states(encoding.system)
    size = form.words * 8
    numbers = range(0, found.states, max(found.states // ASKED, 1))
    states = [int.from_bytes(snapshot.states[n * size : (n + 1) * size], "little") for n in numbers]
    by_hand = stated(encoding.machine, encoding.system, form, relation)
    told = by_hand.tell(states)
    pairs = [
        ({step for step in ran.steps if step[0] in (by_hand.covers or ())}, hand.steps)
        for ran, hand in zip(run(encoding, form).tell(states), told, strict=True)
    ]
    seen = {name for ran, _ in pairs for name, _ in ran}
    return {name for ran, hand in pairs for name, _ in ran ^ hand} | ((by_hand.covers or frozenset()) - seen)


@pytest.mark.parametrize(
    ("options", "memory"),
    [
        (USUAL, "sc"),
        ({Traffic.IPIS, Traffic.EDGES, Traffic.ONCE}, "tso"),
        ({*USUAL, NotAllowed.LEFT_REQUESTED, Traffic.WITHDRAWN, Traffic.LEVEL_TWO}, "sc"),
        ({*USUAL, RequestedAfterEntry.REQUESTED_STAYS}, "sc"),
    ],
    ids=["usual", "tso", "left-requested", "requested-stays"],
)
def test_steps_are_the_models(options: set[Enum], memory: MemoryModel) -> None:
    assert differing(hardware, options, memory) == set()


def without_filter(machine: Machine[Any], before: Terms, after: Terms) -> Terms:
    """VMRUN that lets every requested vector in."""
    faulty = Machine(machine.model, machine.scope, machine.memory, machine.options | {Fault.NO_FILTER})
    return hardware(faulty, before, after)


def doorbell_that_is_lost(machine: Machine[Any], before: Terms, after: Terms) -> Terms:
    """A doorbell that never arrives."""
    return {**hardware(machine, before, after), STEPS[2]: z3.BoolVal(False)}


@pytest.mark.parametrize(
    ("wrong", "step"),
    [(without_filter, STEPS[1]), (doorbell_that_is_lost, STEPS[2])],
    ids=["without-filter", "doorbell-that-is-lost"],
)
def test_wrong_step_is_noticed(wrong: Handwritten, step: str) -> None:
    assert differing(wrong, USUAL) == {step}
