"""Models whose verdicts the literature knows, run both as Python and as transition systems."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.encodings.expr import Expr, evaluate
from avicheck.encodings.transition import successors
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.threads import Asked, World
from tests.known.catalogue import CASES, KNOWN, Known
from tests.known.litmus import Order
from tests.known.naive import Graph, Question, answer, deadlock_free, explore

State = tuple[tuple[str, int], ...]

every_model = pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
every_case = pytest.mark.parametrize(
    ("known", "name", "holds"), CASES, ids=[f"{known.name}: {name}" for known, name, _ in CASES]
)


def frozen(values: Mapping[str, int]) -> State:
    return tuple(values.items())


def is_true(expression: Expr, values: Mapping[str, int]) -> bool:
    return evaluate([expression], values) == [1]


@cache
def run_graph(known: Known) -> Graph[World[Any]]:
    """What the Python functions reach."""
    machine = known.encoding.machine
    return explore(
        machine.initial, lambda world: [(action.name, after) for action, after in machine.successors(world)]
    )


@cache
def system_graph(known: Known) -> Graph[State]:
    """What the lifted transitions reach."""
    system = known.encoding.system
    return explore(
        map(frozen, system.initial),
        lambda state: [(fired.name, frozen(after)) for fired, after in successors(system, dict(state))],
    )


@every_model
def test_lifted_transitions_are_the_steps_of_the_run(known: Known) -> None:
    encoding = known.encoding
    as_values = {
        frozen(encoding.values(world)): [(name, frozen(encoding.values(after))) for name, after in steps]
        for world, steps in run_graph(known).items()
    }
    assert as_values == system_graph(known)


@every_model
def test_states_survive_the_way_there_and_back(known: Known) -> None:
    encoding = known.encoding
    assert all(encoding.state(encoding.values(world)) == world for world in run_graph(known))


@every_model
def test_lifted_predicates_are_those_of_the_run(known: Known) -> None:
    model, system, encoding = known.model, known.encoding.system, known.encoding
    *properties, steps_succeed = system.properties
    pairs = [
        (model.ended, system.ended),
        (lambda world: not encoding.machine.failures(world), steps_succeed.holds),
    ]
    for asked, lifted in zip(model.asked, properties, strict=True):
        pairs.append((asked.holds, lifted.holds))
        if asked.target is not None and lifted.target is not None:
            pairs.append((asked.target, lifted.target))
    for world in run_graph(known):
        values = encoding.values(world)
        assert [bool(python(world)) for python, _ in pairs] == [is_true(expr, values) for _, expr in pairs]


def names(known: Known, asked: Asked[Any], which: str) -> list[str]:
    steps = getattr(asked, which)
    return [action.name for action in known.encoding.machine.actions if action.step in steps]


@every_case
def test_run_has_the_known_answer(known: Known, name: str, holds: bool) -> None:
    graph = run_graph(known)
    if name == DEADLOCK_FREE:
        assert deadlock_free(graph, known.model.ended) == holds
        return
    if name == STEPS_SUCCEED:
        assert (not any(map(known.encoding.machine.failures, graph))) == holds
        return
    (asked,) = (asked for asked in known.model.asked if asked.name == name)
    weak, strong = names(known, asked, "weak"), names(known, asked, "strong")
    assert answer(graph, Question(asked.kind, asked.holds, asked.target, weak, strong)) == holds


@every_case
def test_transition_system_has_the_known_answer(known: Known, name: str, holds: bool) -> None:
    graph, system = system_graph(known), known.encoding.system
    if name == DEADLOCK_FREE:
        assert deadlock_free(graph, lambda state: is_true(system.ended, dict(state))) == holds
        return
    (asked,) = (asked for asked in system.properties if asked.name == name)
    target = asked.target

    def reached(state: State) -> bool:
        return target is not None and is_true(target, dict(state))

    question: Question[State] = Question(
        asked.kind,
        lambda state: is_true(asked.holds, dict(state)),
        reached,
        asked.weak_fairness,
        asked.strong_fairness,
    )
    assert answer(graph, question) == holds


@every_model
def test_every_property_has_a_known_answer(known: Known) -> None:
    assert {asked.name for asked in known.model.asked} | {DEADLOCK_FREE} == set(known.expected)


def test_every_litmus_test_is_there_in_every_form() -> None:
    forms = {(known.model.name, known.memory, known.options) for known in KNOWN}
    orders = ((), (Order.FENCES,), (Order.LOCKED,))
    assert {
        (name, memory, options)
        for name in ("SB", "MP", "LB", "IRIW", "R", "2+2W")
        for memory in ("sc", "tso")
        for options in orders
    } <= forms
