"""The language of concurrent models: what its pieces do, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

import pytest

from avicheck.encodings.machine import encode, machine
from avicheck.spec.cpu import Cpu
from avicheck.spec.lang import IndexOf, Range, SizedBy, rule
from avicheck.spec.machine import FLUSH, STEPS_SUCCEED, Machine, MemoryModel
from avicheck.spec.memory import Array, ModelError, Reg, Var, Vars, local, shared
from avicheck.spec.threads import Model, Thread, World, label_of

Small = Annotated[int, Range(0, 3)]
CpuIndex = Annotated[int, IndexOf("cpus", nullable=True)]


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Switch(Enum):
    ON = "on"


@shared
class Apic:
    irr: Var[Small]
    doorbell: Reg[bool]


@shared
class Shared:
    word: Var[Small]
    colour: Var[Colour]
    lock: Var[bool]
    register: Reg[Small]
    flags: Annotated[Vars[bool], SizedBy("cpus")]
    apics: Annotated[Array[Apic], SizedBy("cpus")]


@local
class Locals:
    n: Small = 0
    colour: Colour = Colour.RED
    held: bool = False


SCOPE = {"cpus": 2, "store_buffer": 2}
START = Shared(1, Colour.RED, False, 0, (False, False), (Apic(0, False), Apic(0, False)))

Body = Callable[..., str | None]


def built(
    *bodies: Body, memory: MemoryModel = "sc", options: tuple[Enum, ...] = (), coarse: str = ""
) -> Machine[Shared]:
    """A machine with one thread of these steps."""
    thread = Thread("t", Locals)
    for body in bodies:
        thread.step(coarse=coarse)(body)
    model = Model("m", Shared, (thread,), lambda _scope, _options: [START])
    return encode(Machine(model, SCOPE, memory, options)).machine


def run(
    *bodies: Body, memory: MemoryModel = "sc", options: tuple[Enum, ...] = (), coarse: str = ""
) -> World[Shared]:
    """The last world of the only run of these steps; stores are flushed as late as possible."""
    made = built(*bodies, memory=memory, options=options, coarse=coarse)
    (world,) = made.initial
    while steps := made.successors(world):
        world = steps[0][1]
    return world


def locals_after(*bodies: Body, memory: MemoryModel = "sc", coarse: str = "") -> Locals:
    my: Locals = run(*bodies, memory=memory, coarse=coarse).threads[0].my
    return my


# Accesses.


def store_two(cpu: Cpu, my: Locals) -> None:
    cpu.store(Shared.word, 2)


def store_three(cpu: Cpu, my: Locals) -> None:
    cpu.store(Shared.word, 3)


def store_green(cpu: Cpu, my: Locals) -> None:
    cpu.store(Shared.colour, Colour.GREEN)


def load_word(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.load(Shared.word)


def load_colour(cpu: Cpu, my: Locals) -> None:
    my.colour = cpu.load(Shared.colour)


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_load_sees_the_newest_own_store(memory: MemoryModel) -> None:
    assert locals_after(store_two, store_three, load_word, memory=memory).n == 3


def test_forwarded_member_of_an_enumeration_is_that_member() -> None:
    assert locals_after(store_green, load_colour, memory="tso").colour == Colour.GREEN


def test_load_sees_memory_where_nothing_is_buffered_for_it() -> None:
    assert locals_after(store_green, load_word, memory="tso").n == 1


def test_plain_store_waits_for_its_flush() -> None:
    made = built(store_two, memory="tso")
    ((_, stored),) = made.successors(made.initial[0])
    ((flush, flushed),) = made.successors(stored)
    assert (stored.shared.word, flush.label, flushed.shared.word) == (1, FLUSH, 2)


def test_store_buffer_is_first_in_first_out() -> None:
    made = built(store_two, store_green, memory="tso")
    world = made.initial[0]
    for _ in range(2):
        world = made.successors(world)[0][1]
    ((_, world),) = made.successors(world)
    assert (world.shared.word, world.shared.colour) == (2, Colour.RED)


def test_store_waits_while_the_buffer_is_full() -> None:
    made = built(store_two, store_green, load_word, store_three, memory="tso")
    world = made.initial[0]
    for _ in range(3):
        world = made.successors(world)[0][1]
    assert [action.label for action, _ in made.successors(world)] == [FLUSH]


def fence(cpu: Cpu, my: Locals) -> None:
    cpu.smp_mb()


def exchange(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.xchg(Shared.word, 3)


@pytest.mark.parametrize("body", [fence, exchange])
def test_fence_and_locked_operation_wait_for_the_buffer(body: Body) -> None:
    made = built(store_two, body, memory="tso")
    ((_, stored),) = made.successors(made.initial[0])
    ((flush, flushed),) = made.successors(stored)
    assert (flush.label, [action.label for action, _ in made.successors(flushed)]) == (FLUSH, [body.__name__])


def test_locked_operation_returns_the_old_value() -> None:
    assert locals_after(exchange).n == 1


def cmpxchg_hit(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.cmpxchg(Shared.word, 1, 3)


def cmpxchg_miss(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.cmpxchg(Shared.word, 2, 3)


@pytest.mark.parametrize(("body", "word"), [(cmpxchg_hit, 3), (cmpxchg_miss, 1)])
def test_cmpxchg_stores_only_over_the_expected_value(body: Body, word: int) -> None:
    world = run(body)
    assert (world.shared.word, world.threads[0].my.n) == (word, 1)


def fetch_or(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.atomic_fetch_or(Shared.word, 2)


def fetch_and(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.atomic_fetch_and(Shared.word, 2)


def fetch_add(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.atomic_fetch_add(Shared.word, 1)


@pytest.mark.parametrize(("body", "word"), [(fetch_or, 3), (fetch_and, 0), (fetch_add, 2)])
def test_atomic_changes_the_word_and_returns_the_old_value(body: Body, word: int) -> None:
    world = run(body)
    assert (world.shared.word, world.threads[0].my.n) == (word, 1)


def set_flag(cpu: Cpu, my: Locals) -> None:
    my.held = cpu.test_and_set(Shared.flags[1])


def clear_flag(cpu: Cpu, my: Locals) -> None:
    my.held = cpu.test_and_clear(Shared.flags[1])


def test_test_and_set_sets_one_flag() -> None:
    assert run(set_flag).shared.flags == (False, True)


def test_test_and_clear_returns_the_flag_it_clears() -> None:
    world = run(set_flag, clear_flag)
    assert (world.shared.flags, world.threads[0].my.held) == ((False, False), True)


def lock(cpu: Cpu, my: Locals) -> None:
    cpu.mutex_lock(Shared.lock)


def lock_again(cpu: Cpu, my: Locals) -> None:
    cpu.mutex_lock(Shared.lock)


def unlock(cpu: Cpu, my: Locals) -> None:
    cpu.mutex_unlock(Shared.lock)


def spin_unlock(cpu: Cpu, my: Locals) -> None:
    cpu.spin_unlock(Shared.lock)


def test_taken_lock_is_waited_for() -> None:
    assert run(lock, lock_again).threads[0].at("lock_again")


@pytest.mark.parametrize("release", [unlock, spin_unlock])
def test_released_lock_can_be_taken(release: Body) -> None:
    assert run(lock, release, lock_again).threads[0].at("done")


def ring(cpu: Cpu, my: Locals) -> None:
    cpu.write(Shared.apics[1].doorbell, True)


def test_register_has_no_store_buffer() -> None:
    made = built(ring, memory="tso")
    ((_, world),) = made.successors(made.initial[0])
    assert [apic.doorbell for apic in world.shared.apics] == [False, True]


# Labels, choices, options.


def skip_to_exchange(cpu: Cpu, my: Locals) -> str:
    return "exchange"


def test_label_that_a_step_returns_comes_next() -> None:
    made = built(skip_to_exchange, store_two, exchange)
    ((_, world),) = made.successors(made.initial[0])
    assert world.threads[0].at("exchange")


def choose(cpu: Cpu, my: Locals, held: bool, colour: Colour, target: CpuIndex) -> None:
    my.colour = colour


def test_choice_is_every_combination_of_values() -> None:
    made = built(choose)
    names = [action.name for action in made.actions]
    assert (len(names), names[0], names[-1]) == (
        12,
        "t.choose(held=False, colour=RED, target=-1)",
        "t.choose(held=True, colour=GREEN, target=1)",
    )


def if_on(cpu: Cpu, my: Locals) -> None:
    my.held = cpu.has(Switch.ON)


def test_option_is_seen_where_it_is_on() -> None:
    assert run(if_on, options=(Switch.ON,)).threads[0].my.held


def test_option_is_not_seen_where_it_is_off() -> None:
    assert not run(if_on).threads[0].my.held


def test_step_anywhere_leaves_the_label() -> None:
    thread = Thread("t", Locals)
    thread.step()(store_two)
    thread.anywhere()(load_word)
    made = Machine(Model("m", Shared, (thread,), lambda _scope, _options: [START]), SCOPE)
    after = {action.label: world for action, world in made.successors(made.initial[0])}
    assert after["load_word"].threads[0].at("store_two")


def test_instances_are_told_apart_by_their_index() -> None:
    def flag(cpu: Cpu, my: Locals) -> None:
        cpu.store(Shared.flags[cpu.index], True)

    thread = Thread("t", Locals, count="cpus")
    thread.step()(flag)
    made = Machine(Model("m", Shared, (thread,), lambda _scope, _options: [START]), SCOPE)
    after = {action.thread: world.shared.flags for action, world in made.successors(made.initial[0])}
    assert after == {"t[0]": (True, False), "t[1]": (False, True)}


# What fails, and what is refused.


def too_much(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.load(Shared.word) + 3


def out_of_bounds(cpu: Cpu, my: Locals) -> None:
    cpu.store(Shared.flags[cpu.scope["cpus"]], True)


def null(cpu: Cpu, my: Locals) -> None:
    cpu.store(Shared.flags[-1], True)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (too_much, "ValueError (Value of n in step t.too_much must be from 0 to 3, not more)"),
        (out_of_bounds, "IndexError (tuple index out of range)"),
        (null, "IndexError (negative index)"),
    ],
)
def test_step_that_can_only_fail_breaks_a_property(body: Body, failure: str) -> None:
    made = built(body)
    system = machine(made.model, SCOPE)
    (steps_succeed,) = (asked for asked in system.properties if asked.name == STEPS_SUCCEED)
    assert [text for _, text in made.failures(made.initial[0])] == [failure]
    assert [name for name, _ in steps_succeed.conjuncts] == [f"t.{body.__name__}"]


def two_loads(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.load(Shared.word)
    my.colour = cpu.load(Shared.colour)


def late_fence(cpu: Cpu, my: Locals) -> None:
    cpu.store(Shared.word, 2)
    cpu.smp_mb()


def wrong_label(cpu: Cpu, my: Locals) -> str:
    return "nowhere"


def place_as_value(cpu: Cpu, my: Locals) -> None:
    if Shared.lock:
        my.n = 1


def load_of_register(cpu: Cpu, my: Locals) -> None:
    my.n = cpu.load(Shared.register)  # type: ignore[arg-type]


def test_coarse_step_may_make_several_accesses() -> None:
    assert locals_after(two_loads, coarse="a reason").n == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            two_loads,
            "Accesses in step t.two_loads must be one, or have a reason (coarse), not word and then colour",
        ),
        (late_fence, "Fence in step t.late_fence must come before its store, or be a step, not come after"),
        (wrong_label, "Label of t must be one of its steps', not 'nowhere'"),
        (place_as_value, "Condition must be a value that was read, not the place lock"),
        (
            load_of_register,
            "Place loaded or stored in step t.load_of_register must be memory, not the register register",
        ),
    ],
)
def test_step_is_refused(body: Body, message: str) -> None:
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        built(body)


def test_scope_without_a_size_is_refused() -> None:
    thread = Thread("t", Locals, count="vcpus")
    thread.step()(store_two)
    model = Model("m", Shared, (thread,), lambda _scope, _options: [START])
    with pytest.raises(ModelError, match=r"^Scope of m must give store_buffer, vcpus, not only cpus$"):
        Machine(model, {"cpus": 2}, "tso")


def test_initial_value_out_of_its_domain_is_refused() -> None:
    thread = Thread("t", Locals)
    thread.step()(store_two)
    start = Shared(4, Colour.RED, False, 0, (False, False), START.apics)
    with pytest.raises(ModelError, match=r"^Initial word must be from 0 to 3, not 4$"):
        machine(Model("m", Shared, (thread,), lambda _scope, _options: [start]), SCOPE)


def test_second_step_of_one_name_is_refused() -> None:
    thread = Thread("t", Locals)
    thread.step()(store_two)
    with pytest.raises(ModelError, match=r"^Step of t must have a name of its own, not store_two again$"):
        thread.step()(store_two)


def test_undeclared_local_variable_is_refused() -> None:
    def body(cpu: Cpu, my: Any) -> None:
        my.other = 1

    made = Machine(Model("m", Shared, (_thread(body),), lambda _scope, _options: [START]), SCOPE)
    with pytest.raises(
        AttributeError, match=r"^Local variable in step t\.body must be declared, not be other$"
    ):
        made.successors(made.initial[0])


def _thread(body: Body) -> Thread[Locals]:
    thread = Thread("t", Locals)
    thread.step()(body)
    return thread


class Plain:
    bad: int


def test_shared_field_of_no_kind_is_refused() -> None:
    message = r"^Field Plain\.bad must be Var or Reg, or with SizedBy Vars or Array, not <class 'int'>$"
    with pytest.raises(ModelError, match=message):
        shared(Plain)


@rule
def read_by_rule(my: Locals) -> int:
    return my.n


def test_local_variables_as_a_whole_cannot_be_handed_to_a_rule() -> None:
    def body(cpu: Cpu, my: Locals) -> None:
        my.n = read_by_rule(my)

    with pytest.raises(Exception, match="Argument of read_by_rule must be immutable, not a _Locals"):
        built(body)


@pytest.mark.parametrize("colour", Colour)
def test_a_label_is_named_like_a_member(colour: Colour) -> None:
    assert label_of(colour, Colour) == colour.name.lower()
