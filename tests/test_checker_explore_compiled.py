"""The compiled tier from inside: two threads or one, and a table that grows, make no difference."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache

import pytest

from avicheck.checker import explore_compiled
from avicheck.checker.checkpoint import Snapshot
from avicheck.checker.explore import Exploration, explore, explore_states
from avicheck.checker.explore_compiled import Compiled
from avicheck.checker.verdict import Verdict
from avicheck.encodings import expr as ex
from avicheck.encodings.llvm_table import shape
from avicheck.encodings.packing import layout
from avicheck.encodings.transition import Property, TransitionSystem, Variable
from tests.benchmarks.avic_delivery import COUNTS, SIZES, avic_delivery

every_width = pytest.mark.parametrize("bits", [0, 30, 70], ids=["small slots", "large slots", "indexed"])


def delivery(bits: int, size: str = "S") -> TransitionSystem:
    """AVIC delivery with so many bits in its states that nobody looks at."""
    system = avic_delivery(*SIZES[size])
    idle = Variable("idle", 0, (1 << bits) - 1)
    initial = ({**system.initial[0], "idle": idle.hi // 3},)
    return replace(system, variables=(*system.variables, idle), initial=initial)


def test_the_widths_are_those_of_the_three_tables() -> None:
    forms = [shape(layout(delivery(bits))) for bits in (0, 30, 70)]
    assert [(form.compact, form.slot) for form in forms] == [(True, 4), (True, 8), (False, 8)]


@pytest.fixture(autouse=True)
def small_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even these systems make it grow."""
    monkeypatch.setattr(explore_compiled, "_FIRST_BITS", 0)


@cache
def one_thread(bits: int) -> tuple[Exploration, Snapshot]:
    """All states, by one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explore_compiled, "_processors", lambda: 1)
        return explore_states(delivery(bits), tier="compiled")


def same(a: tuple[Exploration, Snapshot], b: tuple[Exploration, Snapshot]) -> bool:
    """Whether the same states were found, in the same order and by the same way."""
    return replace(a[0], seconds=0.0) == replace(b[0], seconds=0.0) and (
        bytes(a[1].states),
        bytes(a[1].parents),
        a[1].marks,
    ) == (bytes(b[1].states), bytes(b[1].parents), b[1].marks)


def in_two_threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """From now on two threads work whenever they can; how many states each time."""
    usual, states = Compiled._search_in_two_threads, list[int]()

    def search(self: Compiled) -> None:
        before = self.expanded
        usual(self)
        states.append(self.expanded - before)

    monkeypatch.setattr(explore_compiled, "_processors", lambda: 2)
    monkeypatch.setattr(explore_compiled, "PAIR", 1)
    monkeypatch.setattr(explore_compiled._Pace, "two", lambda _self: True)
    monkeypatch.setattr(Compiled, "_search_in_two_threads", search)
    return states


@every_width
def test_two_threads_find_what_one_does(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one = one_thread(bits)
    states = in_two_threads(monkeypatch)
    assert same(one, explore_states(delivery(bits), tier="compiled"))
    assert sum(states) > COUNTS["S"][0] // 2


def test_where_no_second_thread_can_be_had_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    one = one_thread(0)
    in_two_threads(monkeypatch)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert same(one, explore_states(delivery(0), tier="compiled"))


def test_two_threads_find_the_same_run(monkeypatch: pytest.MonkeyPatch) -> None:
    system = avic_delivery(*SIZES["M"], bug=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explore_compiled, "_processors", lambda: 1)
        one = explore(system, tier="compiled")
    in_two_threads(monkeypatch)
    two = explore(system, tier="compiled")
    assert [result.run for result in two.results] == [result.run for result in one.results]
    assert two.states == one.states


@every_width
def test_a_table_that_is_filled_anew_is_the_same(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, grown = Compiled._spread, list[bool]()

    def spread(self: Compiled, step: int) -> bool:
        grown.append(usual(self, step))
        return False

    monkeypatch.setattr(explore_compiled, "_processors", lambda: 1)
    monkeypatch.setattr(Compiled, "_spread", spread)
    assert same(one_thread(bits), explore_states(delivery(bits), tier="compiled"))
    assert grown
    assert all(grown)


@every_width
def test_a_table_may_grow_bit_by_bit(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore_compiled, "_processors", lambda: 1)
    monkeypatch.setattr(explore_compiled, "_SMALL", 0)
    monkeypatch.setattr(explore_compiled, "_LOAD", 0.3)
    assert same(one_thread(bits), explore_states(delivery(bits), tier="compiled"))


def test_every_property_has_its_first_state(monkeypatch: pytest.MonkeyPatch) -> None:
    system = avic_delivery(*SIZES["XS"])
    positions = [(v.name, value) for v in system.variables[:11] for value in range(v.lo, v.hi + 1)]
    asked = tuple(
        Property(f"{name}={value}", "sometimes", ex.eq(ex.as_int(variable.expr), ex.constant(value)))
        for name, value in positions
        for variable in system.variables
        if variable.name == name
    )
    system = replace(system, properties=asked)
    lengths = [
        [
            (r.property, r.verdict, r.run and len(r.run.fired))
            for r in explore(system, tier=tier, stop="never").results
        ]
        for tier in ("interpreted", "compiled")
    ]
    assert lengths[0] == lengths[1]
    assert sum(verdict is Verdict.HOLDS for _, verdict, _ in lengths[0]) > 20


def test_what_is_under_way_finds_room_when_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    in_two_threads(monkeypatch)
    monkeypatch.setattr(Compiled, "_grow", lambda _self: False)
    system = delivery(0)
    found, snapshot = explore_states(system, tier="compiled")
    assert found.stopped == "memory"
    assert found.states < COUNTS["S"][0]
    assert len(snapshot.parents) // 4 == found.states
    assert sum(found.fired.values()) == found.transitions


@pytest.mark.parametrize(("two", "tries"), [(0.5, [4, 12, 28]), (2.0, [8, 16, 32])])
def test_a_thread_more_is_used_where_it_is_faster(two: float, tries: list[int]) -> None:
    pace = explore_compiled._Pace()
    chosen = []
    for _ in range(40):
        chosen.append(pace.two())
        pace.took(chosen[-1], two if chosen[-1] else 1.0)
    usual = two < 1.0
    assert [i for i, each in enumerate(chosen, 1) if each != usual and i > 4 * (not usual)] == tries
