"""Every engine behind one function."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings

from avicheck.checker import engines
from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import ENGINES, EngineName, Limits, check
from avicheck.checker.errors import InputError
from avicheck.checker.verdict import Verdict
from avicheck.encodings.reachability import confirm
from avicheck.encodings.transition import TransitionSystem
from tests.known.catalogue import CASES, Known
from tests.small_systems import beyond, counter, graph_of, holds, lockstep, ring, systems

GOOD = {Verdict.PROVED: True, Verdict.HOLDS: True, Verdict.VIOLATED: False}


@pytest.mark.parametrize("engine", ["auto", "explicit", "bmc", "induction", "ic3"])
def test_every_engine_refutes(engine: EngineName) -> None:
    result = check(counter(), "below 4", engine)
    assert (result.verdict, result.depth) == (Verdict.VIOLATED, 4)


@pytest.mark.parametrize("engine", ["auto", "explicit", "induction", "ic3"])
def test_every_unbounded_engine_confirms(engine: EngineName) -> None:
    assert GOOD[check(counter(), "not 12", engine).verdict]


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_knows_deadlocks(engine: EngineName) -> None:
    system = counter()
    assert check(system, DEADLOCK_FREE, engine).property == DEADLOCK_FREE
    stuck = TransitionSystem("stuck", system.variables, ({"x": 6},), system.transitions, (), system.ended)
    assert check(stuck, DEADLOCK_FREE, engine).verdict is Verdict.VIOLATED


@settings(deadline=None, max_examples=25)
@given(systems())
def test_the_explicit_engine_decides_what_search_decides(system: TransitionSystem) -> None:
    graph = graph_of(system)
    for asked in system.properties:
        result = check(system, asked.name, "explicit")
        assert GOOD[result.verdict] == holds(system, graph, asked)
        if result.run is not None:
            confirm(system, asked, result.run)


@pytest.mark.parametrize(
    ("known", "name", "expected"), CASES, ids=[f"{known.name}: {name}" for known, name, _ in CASES]
)
def test_the_explicit_engine_knows_the_known_answers(known: Known, name: str, expected: bool) -> None:
    assert GOOD[check(known.encoding.system, name, "explicit").verdict] == expected


def test_limits_reach_the_engines() -> None:
    assert check(counter(), "not 12", "bmc", Limits(depth=3)).depth == 3
    assert check(counter(), "not 12", "induction", Limits(k=4)).verdict is Verdict.NOT_INDUCTIVE
    assert check(lockstep(), "ahead", "induction", Limits(k=12, simple=True)).verdict is Verdict.PROVED
    assert check(lockstep(), "ahead", "ic3", Limits(seconds=0)).verdict is Verdict.UNKNOWN


def test_auto_explores_what_is_small_and_says_so() -> None:
    result = check(ring(), "alone")
    assert (result.engine, result.verdict) == ("explicit", Verdict.HOLDS)
    assert result.detail == "explicit chosen, 6 bits of state: in every state"


def test_auto_looks_for_an_invariant_where_there_are_too_many_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MANY", 2)
    result = check(ring(), "alone")
    assert (result.engine, result.verdict) == ("ic3", Verdict.PROVED)
    reason = "ic3 chosen, 6 bits of state, the explicit engine stopped at the limit of states: "
    assert result.detail.startswith(reason)


def test_auto_finds_shortest_runs_there_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "MANY", 2)
    result = check(ring(), "works, unfair")
    assert (result.engine, result.depth) == ("bmc", check(ring(), "works, unfair", "explicit").depth)


@pytest.mark.parametrize("name", ["alone", "works, weak"])
def test_the_explicit_engine_keeps_to_its_time(name: str) -> None:
    result = check(ring(), name, "explicit", Limits(seconds=0))
    assert (result.verdict, result.states, result.depth) == (Verdict.UNKNOWN, 1, 0)
    assert result.detail == "stopped at the limit of time: all states up to depth 0 were seen"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_step_beyond_a_bound_is_bad_input(engine: EngineName) -> None:
    with pytest.raises(InputError, match=r"^after up: x must be from 0 to 3, not 4$"):
        check(beyond(), "fine", engine)


def test_an_unknown_property_is_named() -> None:
    message = (
        "property must be one of works, unfair, works, weak, works, strong, rests, unfair, rests, weak, "
    )
    message += 'alone, deadlock-free, not "alne"; did you mean alone?'
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        check(ring(), "alne")


def test_an_unknown_engine_is_named() -> None:
    message = 'engine must be one of auto, explicit, bmc, induction, ic3, not "ic4"; did you mean ic3?'
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        check(ring(), "alone", "ic4")  # type: ignore[arg-type]
