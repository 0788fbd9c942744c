"""The hand-written steps of secure-avic-online are the model's; wrong ones are noticed."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from avicheck.checker.crosscheck_voices import Handwritten, Terms, run, stated
from avicheck.checker.explore import explore_states
from avicheck.encodings.machine import encode
from avicheck.encodings.packing import layout
from avicheck.encodings.secure_avic_online_steps import hardware
from avicheck.spec.machine import Machine
from avicheck.spec.secure_avic import EntryDisabled
from avicheck.spec.secure_avic_online import ONLINE_MODEL
from avicheck.spec.secure_avic_online_state import Leaves, OnlineChange

ASKED = 200
"""Reachable states, evenly spread in the order of discovery."""


def differing(relation: Handwritten, options: set[Enum]) -> set[str]:
    """The steps that the relation tells otherwise than the model's functions, and those that none takes."""
    encoding = encode(Machine(ONLINE_MODEL, {}, "sc", options))
    form = layout(encoding.system)
    found, snapshot = explore_states(encoding.system)
    size = form.words * 8
    numbers = range(0, found.states, found.states // ASKED)
    states = [int.from_bytes(snapshot.states[n * size : (n + 1) * size], "little") for n in numbers]
    by_hand = stated(encoding.machine, encoding.system, form, relation)
    covers = by_hand.covers or frozenset()
    pairs = [
        ({step for step in ran.steps if step[0] in covers}, hand.steps)
        for ran, hand in zip(run(encoding, form).tell(states), by_hand.tell(states), strict=True)
    ]
    seen = {name for ran, _ in pairs for name, _ in ran}
    return {name for ran, hand in pairs for name, _ in ran ^ hand} | (covers - seen)


@pytest.mark.parametrize(
    "options",
    [
        {OnlineChange.PAGE_CLEARED},
        {OnlineChange.PAGE_CLEARED, EntryDisabled.REQUEST_WAITS},
        {Leaves.RECREATED, EntryDisabled.ENTRY_FAILS},
    ],
    ids=["lost", "waits", "fails"],
)
def test_steps_are_the_models(options: set[Enum]) -> None:
    assert differing(hardware, options) == set()


def without_filter(machine: Machine[Any], before: Terms, after: Terms) -> Terms:
    """VMRUN that lets every requested vector in."""
    return hardware(machine, {**before, "allowed_irr": ~(before["irr"] & 0)}, after)


def test_wrong_step_is_noticed() -> None:
    assert "vcpu.vmrun" in differing(without_filter, {Leaves.RECREATED})
