"""The map's life: right with every fix in, and each known bug and planted fault found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from functools import cache
from typing import Any, TypeAlias

import pytest

from avicheck.checker.engine import DEADLOCK_FREE, EngineResult
from avicheck.checker.engines import check
from avicheck.checker.explore import Exploration, explore
from avicheck.checker.systems import Choices, instance
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import Encoding, encode
from avicheck.encodings.reachability import confirm
from avicheck.encodings.transition import successors
from avicheck.spec import apic_map_life_vcpu as vcpus
from avicheck.spec.apic import ApicMode
from avicheck.spec.apic_map_life import (
    APIC_MAP_LIFE,
    DESCRIPTION,
    entries_right,
    finished_in_memory,
    now,
    options_of,
    routings_right,
    up_to_date,
)
from avicheck.spec.apic_map_life_sender import SENDER, Send, To, dereference
from avicheck.spec.apic_map_life_state import (
    Arch,
    Changes,
    Dirty,
    Ldr,
    LifeFix,
    ModeChanges,
    NewVcpu,
    Setup,
    kvfree,
    kvm_with,
)
from avicheck.spec.apic_map_life_vcpu import VCPU, Change, Recalculate, Result
from avicheck.spec.cpu import Cpu
from avicheck.spec.kernels import KERNELS, Fix
from avicheck.spec.lang import NULL
from avicheck.spec.machine import STEPS_SUCCEED, Machine, MemoryModel
from avicheck.spec.threads import Model, Step, World, sometimes

World_: TypeAlias = World[Arch]
Options: TypeAlias = frozenset[Enum]

SAFETY = ("up-to-date", "map-right", "routed-right", "use-after-free", "dropped-for-room", STEPS_SUCCEED)
ALL = tuple(asked.name for asked in APIC_MAP_LIFE.asked if asked.kind != "leads-to")
OF_SENDERS = ("routed-right", "use-after-free", "replaced-in-use", "without-map")


def options(*chosen: Enum, kernel: str = "6.19") -> Options:
    """A kernel's fixes, what is chosen, and the first alternative of each assumption without a choice."""
    usual = [
        assumption.default
        for assumption in DESCRIPTION.assumptions
        if not any(isinstance(option, assumption.alternatives) for option in chosen)
    ]
    return frozenset({*options_of(KERNELS[kernel]), *chosen, *usual})


def machine(
    chosen: Options,
    memory: MemoryModel = "sc",
    *,
    senders: int = 1,
    vcpus: int = 2,
    model: Model[Arch] = APIC_MAP_LIFE,
) -> Machine[Arch]:
    scope = {"vcpus": vcpus, "senders": senders, "maps": 2, "store_buffer": 2}
    return Machine(model, scope, memory, chosen)


def encoded(*args: Any, **sizes: Any) -> Encoding[Arch]:
    return encode(machine(*args, **sizes))


def shortest(encoding: Encoding[Arch], name: str) -> tuple[list[str], World_]:
    """A shortest run that refutes a property, and the world in which it does, by the Python run."""
    (result,) = explore(encoding.system, properties=[name], stop="first").results
    assert result.verdict is Verdict.VIOLATED
    assert result.run is not None
    fired = list(result.run.fired)
    world = encoding.state(result.run.states[0])
    assert world in encoding.machine.initial
    return fired, run(encoding.machine, fired, world)[-1]


def run(machine: Machine[Arch], steps: list[str], world: World_) -> list[World_]:
    """The worlds on the way through steps, by their names."""
    worlds = [world]
    for step in steps:
        after = {action.name: after for action, after in machine.successors(worlds[-1])}
        worlds.append(after[step])
    return worlds


# With every fix in.


@cache
def explored(memory: MemoryModel, chosen: Options, senders: int) -> Exploration:
    names = [name for name in ALL if senders or name not in OF_SENDERS]
    encoding = encoded(chosen, memory, senders=senders)
    return explore(encoding.system, properties=[*names, STEPS_SUCCEED, DEADLOCK_FREE], stop="never")


RIGHT: list[tuple[MemoryModel, set[Enum], int]] = [
    ("sc", set(), 1),
    ("sc", {ModeChanges.GUEST, Setup.X2APIC_FORMAT}, 1),
    ("sc", {Changes.IDS}, 2),
    ("sc", {Changes.LDR}, 1),
    ("sc", {Changes.SPIV}, 0),
    ("tso", set(), 0),
    ("tso", {Changes.IDS}, 1),
]


@pytest.mark.parametrize(("memory", "chosen", "senders"), RIGHT)
def test_fixed_kernel_keeps_every_property(memory: MemoryModel, chosen: set[Enum], senders: int) -> None:
    """The properties of the kind ``sometimes`` among them: the situations that the others are about occur."""
    found = explored(memory, options(*chosen), senders)
    assert found.complete
    assert {result.property: result.verdict for result in found.results} == {
        result.property: Verdict.HOLDS for result in found.results
    }


def test_every_step_can_happen_under_some_changes() -> None:
    never = [
        set(explored(memory, options(*chosen), senders).never_fired)
        for memory, chosen, senders in RIGHT
        if memory == "sc" and senders == 1
    ]
    spiv = {f"vcpu[{i}].change(what={what})" for i in range(2) for what in ("SW_ENABLE", "SW_DISABLE")}
    ids = {f"vcpu[{i}].change(what=XAPIC_ID_{n})" for i in range(2) for n in range(2)}
    assert set.intersection(*never) == spiv | ids | {"vcpu[0].create", "vcpu[0].go_online"}
    for changes, senders, names in ((Changes.SPIV, 0, spiv), (Changes.IDS, 2, ids)):
        assert not names & set(explored("sc", options(changes), senders).never_fired)


def test_recalculations_come_to_an_end() -> None:
    result = retries_end(options())
    assert result.verdict is Verdict.HOLDS


def test_lifted_transitions_are_the_steps_of_the_run() -> None:
    encoding = encoded(options(), "tso")
    waiting = list(encoding.machine.initial)
    seen = set(waiting)
    while len(seen) < 300:
        world = waiting.pop(0)
        steps = [(action.name, after) for action, after in encoding.machine.successors(world)]
        lifted = successors(encoding.system, encoding.values(world))
        assert steps == [(fired.name, encoding.state(after)) for fired, after in lifted]
        new = [after for _, after in steps if after not in seen]
        seen.update(new)
        waiting.extend(new)


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_the_default_is_one_of_the_fixed_kernels(memory: MemoryModel) -> None:
    chosen = instance("apic-map-life", Choices(memory=memory))
    assert chosen.options == options()
    assert {"vcpus": 2, "senders": 1, "maps": 2}.items() <= chosen.scope.items()


# Situations.


def reached(name: str, predicate: Callable[[World_], bool], **sizes: int) -> list[str]:
    """A shortest run to a situation, with every fix in."""
    model = replace(APIC_MAP_LIFE, asked=(sometimes(name, "", predicate),))
    encoding = encoded(options(), model=model, **sizes)
    (result,) = explore(encoding.system, properties=[name], stop="all").results
    assert result.run is not None
    confirm(encoding.system, encoding.system.properties[0], result.run)
    return list(result.run.fired)


def half_of_a_mode_change(world: World_) -> bool:
    entry = world.shared.maps[0].seen[1]
    return world.shared.apic_map == 0 and entry.mode == ApicMode.X2APIC and entry.ldr == Ldr.ZERO


def attempts(*ends: str) -> list[str]:
    """vCPU 0 enables its APIC and needs two attempts, since vCPU 1 enables its own between the passes."""
    own = ["change(what=XAPIC)", "set_xapic_id", "mark_dirty", "read_dirty", "lock"]
    first = ["begin", "count_vcpus", "find_max_id", "find_max_id"]
    steps = [f"vcpu[0].{step}" for step in (*own, *first, "allocate(fails=False)", "fill")]
    steps += ["vcpu[1].change(what=XAPIC)"]
    return steps + [f"vcpu[0].{step}" for step in ("fill", *first, *ends)]


def test_an_allocation_can_fail_at_the_second_attempt() -> None:
    made = machine(options())
    world = run(made, attempts("allocate(fails=True)", "assign_pointer", "finish"), made.initial[0])[-1]
    assert (world.shared.apic_map, world.shared.no_memory) == (NULL, True)


def test_the_second_attempt_has_room() -> None:
    made = machine(options())
    world = run(made, attempts("allocate(fails=False)", "fill", "fill", "assign_pointer"), made.initial[0])[
        -1
    ]
    map = world.shared.maps[world.shared.apic_map]
    assert (map.max_id, map.seen[1].mode) == (257, ApicMode.XAPIC)


def test_a_map_can_be_built_from_half_a_mode_change() -> None:
    fired = reached("half", half_of_a_mode_change, senders=0)
    assert "vcpu[1].set_x2apic_id" not in fired


def test_a_map_can_mix_registers_that_never_were_together() -> None:
    """Why map-right looks at each vCPU by itself: of two changes under way, this map knows the later one."""
    before = ["change(what=LDR_2)", "mark_dirty", "read_dirty", "lock", "begin", "count_vcpus"]
    before += ["find_max_id", "find_max_id", "find_max_id", "allocate(fails=False)", "fill"]
    steps = [f"vcpu[2].{step}" for step in before]
    steps += ["vcpu[0].change(what=LDR_1)", "vcpu[1].change(what=LDR_2)"]
    steps += ["vcpu[2].fill", "vcpu[2].fill", "vcpu[2].assign_pointer"]
    made = machine(options(Changes.LDR), vcpus=3)
    worlds = run(made, steps, made.initial[0])
    map = worlds[-1].shared.maps[worlds[-1].shared.apic_map]
    assert kvm_with(made.options, map.seen) not in [now(world) for world in worlds]
    assert entries_right(worlds[-1])


# Known bugs, each with its fix out.


@pytest.mark.parametrize(
    ("memory", "name", "length"),
    [
        ("sc", "up-to-date", 19),
        ("tso", "up-to-date", 27),
        ("sc", "map-right", 15),
        ("sc", "routed-right", 16),
    ],
)
def test_dirty_flag_that_is_a_bool_loses_a_change(memory: MemoryModel, name: str, length: int) -> None:
    """MAP-01: the flag is cleared after another vCPU has set it again, which then finds nothing to do."""
    fired, _ = shortest(encoded(options() - {LifeFix.DIRTY_STATES}, memory), name)
    assert len(fired) == length
    cleared = next(i for i, step in enumerate(fired) if step.endswith(".finish"))
    assert any(step.endswith(".mark_dirty") for step in fired[:cleared])
    assert any(step.endswith(".read_dirty") for step in fired[cleared:])


def test_id_that_appears_between_the_passes_is_written_out_of_bounds() -> None:
    """MAP-03 (a): no comparison with max_id, and 32-bit IDs not enabled. ``posted-2022-08`` has it."""
    encoding = encoded(options(kernel="posted-2022-08"))
    fired, world = shortest(encoding, STEPS_SUCCEED)
    failures = [(action.name, why) for action, why in encoding.machine.failures(world)]
    assert (len(fired), fired[-1]) == (12, "vcpu[1].change(what=X2APIC)")
    assert failures == [("vcpu[0].fill", "IndexError (phys_map is written past its end)")]


def test_the_guest_alone_cannot_write_out_of_bounds() -> None:
    """It has to pass through xAPIC mode, and waits there for the recalculation."""
    chosen = options(ModeChanges.GUEST, kernel="posted-2022-08")
    found = explore(encoded(chosen, senders=0).system, properties=[STEPS_SUCCEED], stop="all")
    assert found.results[0].verdict is Verdict.HOLDS


@pytest.mark.parametrize(
    ("changes", "length", "last"),
    [(Changes.MODES, 13, "vcpu[1].change(what=XAPIC)"), (Changes.IDS, 22, "vcpu[1].go_online")],
)
def test_vcpu_that_appears_between_the_passes_costs_the_map(changes: Changes, length: int, last: str) -> None:
    """MAP-03 (b): the bounds check alone; the vCPU is enabled, or created."""
    encoding = encoded(options(changes) - {LifeFix.RETRY})
    fired, world = shortest(encoding, "dropped-for-room")
    assert (len(fired), world.of(VCPU)[0].my.result) == (length, Result.TOO_BIG)
    assert last in fired[fired.index("vcpu[0].find_max_id") : -1]


def test_vcpu_that_appears_between_the_passes_is_left_out_in_silence() -> None:
    """MAP-03 in the oldest kernel: the map has no room for what it says it knows."""
    _, world = shortest(encoded(options(kernel="6.1")), "map-right")
    assert (entries_right(world), finished_in_memory(world), up_to_date(world)) == (False, True, True)


@pytest.mark.parametrize(
    ("changes", "fix", "length"),
    [(Changes.IDS, Fix.ALIASED_XAPIC_IDS, 14), (Changes.LDR, Fix.LOGICAL_ALIASED, 17)],
)
def test_interrupts_show_bugs_of_the_map_itself(changes: Changes, fix: Fix, length: int) -> None:
    """MAP-04 and MAP-05: an alias of a vCPU that is at rest gets nothing."""
    fired, world = shortest(encoded(options(changes) - {fix}), "routed-right")
    assert (len(fired), routings_right(world)) == (length, False)


def test_interrupts_show_the_class_of_aliased_ids() -> None:
    """The divergence class aliased-apic-id of apic-map: with 32-bit IDs enabled, every kernel has it."""
    fired, _ = shortest(encoded(options(Changes.IDS, Setup.X2APIC_FORMAT)), "routed-right")
    assert len(fired) == 14


@pytest.mark.parametrize(("name", "length"), [("up-to-date", 13), ("map-right", 13), ("routed-right", 14)])
def test_a_vcpu_that_is_created_and_left_alone_is_not_in_the_map(name: str, length: int) -> None:
    """It recalculates before it is there, not after: a finding on every kernel."""
    fired, _ = shortest(encoded(options(NewVcpu.NOTHING)), name)
    assert len(fired) == length
    assert fired.index("vcpu[1].unlock") < fired.index("vcpu[1].go_online")
    assert fired[-1] == ("sender[0].dereference(to=LAST)" if name == "routed-right" else "vcpu[1].go_online")


# Planted faults.


@contextmanager
def planted(faults: dict[Step, Callable[..., str | None]]) -> Iterator[None]:
    """Steps with other functions."""
    right = {step: step.function for step in faults}
    try:
        for step, fault in faults.items():
            object.__setattr__(step, "function", fault)
        yield
    finally:
        for step, function in right.items():
            object.__setattr__(step, "function", function)


def retries_end(chosen: Options) -> EngineResult:
    encoding = encoded(chosen, senders=0)
    return check(encoding.system, "retries-end", "explicit")


def test_a_map_that_is_freed_at_once_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vcpus, "kvfree_rcu", kvfree)
    fired, world = shortest(encoded(options(Changes.IDS)), "use-after-free")
    assert world.of(SENDER)[0].at("deliver")
    assert fired[-1].endswith(".unlock")
    assert any(step.startswith("sender[0].dereference") for step in fired)


def test_a_map_that_is_used_without_a_section_is_used_after_it_is_freed() -> None:
    right = dereference.function

    def outside(cpu: Cpu, my: Send, to: To) -> str | None:
        label = right(cpu, my, to)
        cpu.write(Arch.readers[cpu.index].in_section, False)
        return label

    with planted({dereference: outside}):
        shortest(encoded(options(Changes.IDS)), "use-after-free")


@pytest.mark.parametrize("name", ["map-right", "routed-right"])
def test_a_map_that_is_published_after_it_counts_as_clean_comes_too_late(name: str) -> None:
    """The order of rcu_assign_pointer and the last cmpxchg matters, though both are under the lock."""
    faults = {vcpus.assign_pointer: vcpus.finish.function, vcpus.finish: vcpus.assign_pointer.function}
    with planted(faults):
        shortest(encoded(options()), name)


def test_a_dirty_mark_before_the_write_is_too_early() -> None:
    """What mark_dirty must come after: a recalculation in between has seen nothing, and cleans up."""

    def change(cpu: Cpu, my: Recalculate, what: Change) -> str:
        cpu.wait_until(what == Change.XAPIC_ID_1)
        cpu.write(Arch.lapics[cpu.index].changing, True)
        cpu.smp_store_release(Arch.apic_map_dirty, Dirty.DIRTY)
        return "mark_dirty"

    def write(cpu: Cpu, my: Recalculate) -> str:
        cpu.store(Arch.lapics[cpu.index].xapic_id, 1)
        return "read_dirty"

    with planted({vcpus.change: change, vcpus.mark_dirty: write}):
        shortest(encoded(options(Changes.IDS), senders=0), "up-to-date")


def test_a_change_that_ends_in_the_store_buffer_is_not_finished() -> None:
    """Only x86-TSO shows it: a plain store in place of the one that takes the lock back."""

    def unlock(cpu: Cpu, my: Recalculate) -> str:
        cpu.spin_unlock(Arch.apic_map_lock)
        my.online, my.max_id, my.new, my.old, my.result = 0, 255, NULL, NULL, Result.MAP
        return vcpus.end_change(cpu)

    with planted({vcpus.unlock: unlock}):
        chosen = options(Changes.IDS) - {LifeFix.DIRTY_STATES}
        _, world = shortest(encoded(chosen, "tso", senders=0), "map-right")
    assert not finished_in_memory(world)


def test_a_lock_that_is_kept_stops_everybody() -> None:
    def keep(cpu: Cpu, my: Recalculate) -> str:
        return vcpus.end_change(cpu)

    with planted({vcpus.unlock: keep}):
        shortest(encoded(options(Changes.IDS), senders=0), DEADLOCK_FREE)


# The end of retries: what it rests on.


def shrinking(cpu: Cpu, my: Recalculate) -> str | None:
    """Every attempt begins with the smallest max_id."""
    my.max_id = 255
    return BEGIN(cpu, my)


def impatient(cpu: Cpu, my: Recalculate, waits: bool) -> str:
    """Who changes a mode may change it again before anybody recalculates."""
    cpu.smp_store_release(Arch.apic_map_dirty, Dirty.DIRTY)
    return "read_dirty" if waits else "change"


BEGIN = vcpus.begin.function


def test_retries_end_even_if_max_id_shrinks() -> None:
    """Whoever enables an APIC then waits for the lock, so each vCPU makes one attempt fail at most."""
    with planted({vcpus.begin: shrinking}):
        assert retries_end(options()).verdict is Verdict.HOLDS


@pytest.mark.parametrize("shrinks", [False, True])
def test_retries_need_not_end_if_nobody_waits(shrinks: bool) -> None:
    """And a max_id that never shrinks does not help: it grows only if a first pass sees the APIC enabled."""
    faults: dict[Step, Callable[..., str | None]] = {vcpus.mark_dirty: impatient}
    if shrinks:
        faults[vcpus.begin] = shrinking
    with planted(faults):
        result = retries_end(options())
    assert result.verdict is Verdict.VIOLATED
    assert result.run is not None
    assert result.run.loop is not None
    loop = result.run.fired[result.run.loop :]
    assert {"vcpu[0].begin", "vcpu[1].change(what=DISABLE)", "vcpu[1].change(what=XAPIC)"} <= set(loop)


# Kernels.


def test_oldest_kernel_lacks_the_retry_but_not_the_states_of_the_flag() -> None:
    assert options_of(KERNELS["6.1"]) == {LifeFix.DIRTY_STATES}


def test_the_retry_came_with_the_bounds_check() -> None:
    assert {Fix.PHYS_BOUNDS, LifeFix.RETRY} <= options_of(KERNELS["6.12"])
