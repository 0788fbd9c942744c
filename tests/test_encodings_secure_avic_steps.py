"""The hand-written steps of the hardware are the model's in reachable states, and a wrong one is noticed."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Any

import pytest
import z3

from avicheck.checker.crosscheck_voices import Handwritten, Terms
from avicheck.encodings.secure_avic_steps import hardware
from avicheck.spec.machine import Machine, MemoryModel
from avicheck.spec.secure_avic import NotAllowed, RequestedAfterEntry
from avicheck.spec.secure_avic_asked import SECURE_AVIC
from avicheck.spec.secure_avic_run import Fault, Traffic
from tests.by_hand import differing

STEPS = ("target.deliver", "target.vmrun", "wires.doorbell_arrives", "wires.kick_lapses")
USUAL = {Traffic.IPIS, Traffic.EDGES, Traffic.REFUSED, Traffic.LEVEL_ONE, Traffic.ONCE}


def told_otherwise(relation: Handwritten, options: Iterable[Enum], memory: MemoryModel = "sc") -> set[str]:
    buffer = {"store_buffer": 2} if memory == "tso" else {}
    return differing(relation, Machine(SECURE_AVIC, {"senders": 1, **buffer}, memory, options), asked=150)


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
    assert told_otherwise(hardware, options, memory) == set()


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
    assert told_otherwise(wrong, USUAL) == {step}
