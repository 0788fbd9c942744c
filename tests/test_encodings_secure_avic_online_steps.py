"""The hand-written steps of secure-avic-online are the model's; wrong ones are noticed."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from avicheck.checker.crosscheck_voices import Handwritten, Terms
from avicheck.encodings.secure_avic_online_steps import hardware
from avicheck.spec.machine import Machine
from avicheck.spec.secure_avic import EntryDisabled
from avicheck.spec.secure_avic_online import ONLINE_MODEL
from avicheck.spec.secure_avic_online_state import Leaves, OnlineChange
from tests.by_hand import differing


def told_otherwise(relation: Handwritten, options: set[Enum]) -> set[str]:
    return differing(relation, Machine(ONLINE_MODEL, {}, "sc", options), asked=200)


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
    assert told_otherwise(hardware, options) == set()


def without_filter(machine: Machine[Any], before: Terms, after: Terms) -> Terms:
    """VMRUN that lets every requested vector in."""
    return hardware(machine, {**before, "allowed_irr": ~(before["irr"] & 0)}, after)


def test_wrong_step_is_noticed() -> None:
    assert "vcpu.vmrun" in told_otherwise(without_filter, {Leaves.RECREATED})
