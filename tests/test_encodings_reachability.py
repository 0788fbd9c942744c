"""What counts as a counterexample: each kind, and what makes it none."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings

from avicheck.encodings.liveness import always_property
from avicheck.encodings.reachability import confirm, escapes, question
from avicheck.encodings.transition import Property, ReplayError, Run, TransitionSystem
from tests.small_systems import beyond, counter, graph_of, holds, nearest, ring, systems


def named(system: TransitionSystem, name: str) -> Property:
    return next(asked for asked in system.properties if asked.name == name)


def counting(*numbers: int) -> Run:
    steps = tuple("again" if after == 0 else "up" for after in numbers[1:])
    return Run(tuple({"x": number} for number in numbers), steps)


def ringing(*steps: str, loop: int | None = None) -> Run:
    """The run of the ring that these steps make."""
    system = ring()
    transitions = {step.name: step for step in system.transitions}
    states = [dict(system.initial[0])]
    for name in steps:
        what, station = name.split()
        state = dict(states[-1])
        if what == "pass":
            state["token"] = (state["token"] + 1) % 3
        else:
            state[f"station {station}"] = {"want": 1, "work": 2, "done": 0}[what]
        assert name in transitions
        states.append(state)
    return Run(tuple(states), steps, loop)


def test_run_to_a_broken_invariant_is_confirmed() -> None:
    confirm(counter(), named(counter(), "below 4"), counting(0, 1, 2, 3, 4))


@pytest.mark.parametrize(
    ("asked", "run", "message"),
    [
        ("below 4", counting(0, 1, 2), "below 4 must be false in the last state, not the opposite"),
        ("not 12", counting(0, 1, 2), "not 12 must be true in the last state, not the opposite"),
        ("5", counting(0, 1, 2), "5 must be true in the last state, not the opposite"),
        ("below 4", counting(1, 2, 3, 4), "State 0 must be an initial state, not one of the others"),
    ],
)
def test_run_that_shows_nothing_is_refused(asked: str, run: Run, message: str) -> None:
    with pytest.raises(ReplayError, match=f"^{re.escape(message)}$"):
        confirm(counter(), named(counter(), asked), run)


def test_unfair_loop_refutes_without_fairness() -> None:
    confirm(ring(), named(ring(), "works, unfair"), ringing("want 0", "pass 0", "pass 1", "pass 2", loop=1))


@pytest.mark.parametrize(
    ("asked", "run", "message"),
    [
        (
            "works, strong",
            ringing("want 0", "pass 0", "pass 1", "pass 2", loop=1),
            "works, strong: the loop must be fair, not without work 0",
        ),
        (
            "rests, weak",
            ringing("want 0", "work 0", "want 1", "want 2", loop=None),
            "rests, weak: a run that reaches no target must go on, not stop",
        ),
        (
            "works, unfair",
            ringing("want 0", "work 0", "done 0", "want 0", loop=1),
            "works, unfair: the target must never be reached again, not in state 2",
        ),
        (
            "works, unfair",
            ringing("pass 0", "pass 1", "pass 2", loop=0),
            "works, unfair: the target must be asked for after it was last reached, not before",
        ),
    ],
)
def test_loop_that_shows_nothing_is_refused(asked: str, run: Run, message: str) -> None:
    with pytest.raises(ReplayError, match=f"^{re.escape(message)}$"):
        confirm(ring(), named(ring(), asked), run)


def test_loop_without_a_step_that_is_always_enabled_is_not_weakly_fair() -> None:
    asked = replace(named(ring(), "works, unfair"), weak_fairness=("want 1",))
    with pytest.raises(ReplayError, match=r"the loop must be fair, not without want 1$"):
        confirm(ring(), asked, ringing("want 0", "pass 0", "pass 1", "pass 2", loop=1))


def test_loop_without_a_step_that_is_enabled_at_times_is_weakly_fair() -> None:
    asked = replace(named(ring(), "works, unfair"), weak_fairness=("work 0",))
    confirm(ring(), asked, ringing("want 0", "pass 0", "pass 1", "pass 2", loop=1))


@settings(deadline=None, max_examples=60)
@given(systems())
def test_leads_to_holds_where_its_translation_does(system: TransitionSystem) -> None:
    asked = system.properties[-1]
    transformed, never_closed = always_property(system, asked)
    assert holds(transformed, graph_of(transformed), never_closed) == holds(system, graph_of(system), asked)


@settings(deadline=None, max_examples=40)
@given(systems())
def test_a_question_is_the_property_the_other_way_round(system: TransitionSystem) -> None:
    graph = graph_of(system)
    for asked in system.properties[:3]:
        reached = nearest(system, graph, question(system, asked).goal) is not None
        assert reached == (holds(system, graph, asked) == (asked.kind == "sometimes"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (named(ring(), "alone"), "Property alone must be leads-to with a target, not always"),
        (
            replace(named(ring(), "rests, weak"), weak_fairness=("sleep",)),
            "Fairness of rests, weak must be of a transition, not of sleep",
        ),
    ],
)
def test_only_liveness_can_be_translated(asked: Property, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        always_property(ring(), asked)


def test_an_update_that_may_leave_its_bounds_is_found() -> None:
    ((step, var, _),) = escapes(beyond())
    assert (step.name, var.name) == ("up", "x")


def test_updates_within_their_bounds_are_not_found() -> None:
    assert escapes(ring()) == []
