"""The map's life: right with every fix in, and each known bug found with its fix out."""

from __future__ import annotations

from enum import Enum

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.explore import explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import Encoding, encode
from avicheck.encodings.transition import successors
from avicheck.spec.apic_map_life import (
    APIC_MAP_LIFE,
    VCPU,
    Arch,
    LifeFix,
    Result,
    Setup,
    options_of,
    up_to_date,
)
from avicheck.spec.kernels import KERNELS, Fix
from avicheck.spec.machine import STEPS_SUCCEED, Machine, MemoryModel
from avicheck.spec.threads import World

SCOPE = {"vcpus": 2, "maps": 2, "store_buffer": 2}
FIXED = options_of(KERNELS["6.12"])
SAFETY = ("up-to-date", "dropped-for-room", STEPS_SUCCEED, DEADLOCK_FREE, "overtaken")


def encoded(options: frozenset[Enum], memory: MemoryModel = "sc") -> Encoding[Arch]:
    return encode(Machine(APIC_MAP_LIFE, SCOPE, memory, options))


def counterexample(options: frozenset[Enum], name: str) -> tuple[list[str], World[Arch]]:
    """The shortest run that violates a property, and the world in which it does, by the Python run."""
    encoding = encoded(options)
    (result,) = explore(encoding.system, properties=[name], stop="first").results
    assert result.verdict is Verdict.VIOLATED
    assert result.run is not None
    (world,) = encoding.machine.initial
    for name in result.run.fired:
        world = {action.name: after for action, after in encoding.machine.successors(world)}[name]
    return list(result.run.fired), world


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize(
    "setup",
    [set(), {Setup.LARGE_ID}, {Setup.LARGE_ID, Setup.X2APIC_FORMAT}],
    ids=["small", "large", "format"],
)
def test_fixed_kernel_keeps_every_property(memory: MemoryModel, setup: set[Setup]) -> None:
    found = explore(encoded(FIXED | setup, memory).system, properties=SAFETY, stop="all")
    assert {result.property: result.verdict for result in found.results} == dict.fromkeys(
        SAFETY, Verdict.HOLDS
    )


def test_every_step_can_happen() -> None:
    found = explore(encoded(FIXED).system, properties=["up-to-date"], stop="all")
    assert found.never_fired == ()


def test_dirty_flag_that_is_a_bool_loses_a_change() -> None:
    """MAP-01: the flag is cleared after another vCPU has set it again."""
    fired, world = counterexample(FIXED - {LifeFix.DIRTY_STATES}, "up-to-date")
    assert (len(fired), fired[-1], up_to_date(world)) == (16, "vcpu[1].read_dirty", False)


def test_id_that_appears_between_the_passes_is_written_out_of_bounds() -> None:
    """MAP-03 (a): no comparison with max_id, and 32-bit IDs not enabled."""
    options = FIXED - {Fix.PHYS_BOUNDS, LifeFix.RETRY} | {Setup.LARGE_ID}
    fired, world = counterexample(options, STEPS_SUCCEED)
    failures = [
        (action.name, why) for action, why in Machine(APIC_MAP_LIFE, SCOPE, "sc", options).failures(world)
    ]
    assert fired[-1] == "vcpu[1].change(what=X2APIC)"
    assert failures == [("vcpu[0].fill", "IndexError (phys_map is written past its end)")]


def test_vcpu_that_appears_between_the_passes_costs_the_map() -> None:
    """MAP-03 (b): the bounds check alone."""
    fired, world = counterexample(FIXED - {LifeFix.RETRY} | {Setup.LARGE_ID}, "dropped-for-room")
    assert (len(fired), world.of(VCPU)[0].my.result) == (11, Result.TOO_BIG)


def test_lifted_transitions_are_the_steps_of_the_run() -> None:
    encoding = encoded(FIXED | {Setup.LARGE_ID}, "tso")
    waiting = list(encoding.machine.initial)
    seen = set(waiting)
    while len(seen) < 300:
        world = waiting.pop(0)
        run = [(action.name, after) for action, after in encoding.machine.successors(world)]
        lifted = successors(encoding.system, encoding.values(world))
        assert run == [(fired.name, encoding.state(after)) for fired, after in lifted]
        new = [after for _, after in run if after not in seen]
        seen.update(new)
        waiting.extend(new)


def test_oldest_kernel_lacks_the_retry_but_not_the_states_of_the_flag() -> None:
    assert options_of(KERNELS["6.1"]) == {LifeFix.DIRTY_STATES}
