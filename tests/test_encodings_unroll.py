"""The step relation is the reference semantics, in both directions."""

from __future__ import annotations

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.encodings import unroll
from avicheck.encodings.expr import Expr, not_, or_
from avicheck.encodings.packing import layout
from avicheck.encodings.transition import TransitionSystem, Values, successors
from avicheck.encodings.unroll import Solutions, UnansweredError, fired, step_relation
from tests.known.small import SYSTEMS, sample
from tests.small_systems import VARIABLES, State, beyond, counter, every_state, frozen, ring, systems


def solved(system: TransitionSystem, *states: Values) -> list[tuple[State, str, State]]:
    """The solutions in some states, asked for together."""
    form = layout(system)
    found = Solutions(system, form).of([form.pack(state) for state in states])
    return sorted((frozen(form.unpack(a)), name, frozen(form.unpack(b))) for a, name, b in found)


def computed(system: TransitionSystem, *states: Values) -> list[tuple[State, str, State]]:
    return sorted(
        (frozen(state), step.name, frozen(after))
        for state in states
        for step, after in successors(system, state)
    )


@pytest.mark.parametrize("system", [counter(), ring()], ids=lambda system: system.name)
def test_solutions_are_the_successors_in_every_state(system: TransitionSystem) -> None:
    states = every_state(system)
    assert solved(system, *states) == computed(system, *states)


@pytest.mark.parametrize("name", SYSTEMS)
def test_solutions_are_the_successors_in_reachable_states(name: str) -> None:
    system, states = SYSTEMS[name](), sample(name)[:40]
    assert solved(system, *states) == computed(system, *states)


@settings(deadline=None, max_examples=40)
@given(systems(), st.fixed_dictionaries({var.name: st.integers(var.lo, var.hi) for var in VARIABLES}))
def test_solutions_are_the_successors_at_random(system: TransitionSystem, state: dict[str, int]) -> None:
    assert solved(system, state) == computed(system, state)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_successors_are_the_solutions(name: str) -> None:
    system, states = SYSTEMS[name](), sample(name)[:20]
    form = layout(system)
    steps = [
        (form.pack(state), step.name, form.pack(after))
        for state in states
        for step, after in successors(system, state)
    ]
    solutions, packed = Solutions(system, form), [form.pack(state) for state in states]
    assert solutions.are(packed, steps)
    assert not any(solutions.are(packed, steps[:i] + steps[i + 1 :]) for i in range(min(5, len(steps))))
    (before, step_name, after), *others = steps
    assert not solutions.are(packed, [*steps, (before, step_name, after ^ 1)])
    assert not solutions.are(packed, [(before, step_name, -1), *others])


def test_no_step_leads_beyond_a_bound() -> None:
    assert solved(beyond(), {"x": 3}) == []


def without_up(system: TransitionSystem) -> Expr:
    """A relation in which the first transition never fires."""
    return not_(or_(not_(step_relation(system)), fired(system, 0)))


def test_a_broken_relation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unroll, "step_relation", without_up)
    assert solved(counter(), {"x": 0}) != computed(counter(), {"x": 0})


def test_no_answer_is_no_end_of_the_solutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(z3.Solver, "check", lambda _solver: z3.unknown)
    monkeypatch.setattr(z3.Solver, "reason_unknown", lambda _solver: "memout")
    with pytest.raises(UnansweredError, match=r"^memout$"):
        solved(counter(), {"x": 0})
