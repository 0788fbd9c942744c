"""The model secure-avic-move: when an interrupt is lost because its vector is taken away."""

from __future__ import annotations

from enum import Enum

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import check
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.secure_avic_move import MOVE_MODEL, MoveChange, Stop


@pytest.mark.parametrize(
    ("options", "broken"),
    [
        (set(), {"move-drops", "old-served"}),
        ({MoveChange.EXIT_FIRST}, set()),
        ({Stop.SHUT_DOWN}, {"move-drops", "old-served"}),
    ],
    ids=["posted", "exit-first", "shut-down"],
)
def test_what_fails(options: set[Enum], broken: set[str]) -> None:
    system = machine(MOVE_MODEL, {}, "sc", options)
    names = ("move-drops", "old-served", STEPS_SUCCEED, DEADLOCK_FREE)
    verdicts = {name: check(system, name, "explicit").verdict for name in names}
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.VIOLATED} == broken


def test_vector_can_be_moved() -> None:
    assert check(machine(MOVE_MODEL, {}), "moved", "explicit").verdict is Verdict.HOLDS


def test_loss_needs_a_kick_that_comes_after_the_look() -> None:
    run = check(machine(MOVE_MODEL, {}), "move-drops", "explicit").run
    assert run is not None
    assert run.fired[-3:] == ("old.look", "old.free", "old.kicked")
