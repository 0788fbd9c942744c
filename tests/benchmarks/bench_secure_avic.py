"""The full scope of secure-avic, and the slowest of its obligations: minutes each."""

from __future__ import annotations

from typing import Any

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.explore import explore
from avicheck.checker.solve import solve
from avicheck.encodings.machine import machine
from avicheck.proofs.secure_avic_rules import compare, listen
from avicheck.spec.machine import STEPS_SUCCEED, STORE_BUFFER, MemoryModel
from avicheck.spec.secure_avic_asked import ASKED, EVERYTHING, SECURE_AVIC

NAMES = [*(asked.name for asked in ASKED if asked.kind == "never"), STEPS_SUCCEED, DEADLOCK_FREE]


@pytest.mark.parametrize(("memory", "states"), [("sc", 30_801_068), ("tso", 50_980_962)])
def test_full_scope(benchmark: Any, memory: MemoryModel, states: int) -> None:
    buffers = {STORE_BUFFER: 2} if memory == "tso" else {}
    system = machine(SECURE_AVIC, {"senders": 2, **buffers}, memory, EVERYTHING)

    def run() -> Any:
        return explore(system, properties=NAMES, stop="all", reduce=["dead", "symmetry"])

    found = benchmark.pedantic(run, rounds=1)
    broken = {result.property for result in found.results if result.run is not None}
    assert (found.stopped, found.states, broken) == (None, states, {"litmus"})


def test_interrupt_evaluation_after_eoi(benchmark: Any) -> None:
    query = compare(listen(), "eoi.v_intr")
    assert benchmark.pedantic(solve, (query,), rounds=1).status == "unsat"
