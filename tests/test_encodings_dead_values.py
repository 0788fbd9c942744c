"""What is dead where, and that nobody can tell: liveness properties and lassos included."""

from __future__ import annotations

import pytest

from avicheck.encodings.control_flow import flows
from avicheck.encodings.dead_values import DeadValues, without_dead_values
from avicheck.encodings.expr import FALSE, TRUE, Expr, add, and_, bool_var, constant, eq, ite, mod
from avicheck.encodings.transition import (
    ReplayError,
    Run,
    Transition,
    TransitionSystem,
    Variable,
    replay,
)
from tests.random_threads import threads
from tests.small_systems import graph_of, holds

PC, X, Y = Variable("pc", 0, 2), Variable("x", 0, 3), Variable("y", 0, 3)
B = Variable("b", 0, 1, is_bool=True)
ONE = constant(1)


def step(name: str, at: int, to: int, guard: Expr = TRUE, thread: str = "t", **updates: Expr) -> Transition:
    return Transition(
        name, thread, name, and_(eq(PC.expr, constant(at)), guard), {"pc": constant(to), **updates}
    )


def system(*steps: Transition) -> TransitionSystem:
    initial = ({"pc": 0, "x": 0, "y": 0, "b": 0},)
    return TransitionSystem("s", (PC, X, Y, B), initial, steps, (), FALSE)


def dead(*steps: Transition, asked: tuple[Expr, ...] = ()) -> dict[str, list[int]]:
    found = without_dead_values(system(*steps), asked)
    return {each.variable.name: sorted(each.labels) for each in found.resting}


SET = step("set", 0, 1, x=add(mod(X.expr, constant(3)), ONE))
USE = step("use", 1, 2, eq(X.expr, ONE))
BACK = step("back", 2, 0)


def test_a_value_is_dead_after_its_last_use() -> None:
    other = step("set", 0, 1, x=mod(add(Y.expr, ONE), constant(3)))
    assert dead(other, USE, BACK) == {"x": [0, 2]}


def test_a_value_that_makes_its_next_one_is_used() -> None:
    assert dead(SET, USE, BACK) == {}


def test_a_value_that_only_a_dead_one_is_made_of_is_dead() -> None:
    assert dead(step("set", 0, 1, x=mod(add(X.expr, ONE), constant(3))), step("go", 1, 0)) == {"x": [0, 1, 2]}


def test_a_value_that_may_be_kept_stays_alive() -> None:
    kept = step("set", 0, 1, x=ite(bool_var("b"), X.expr, ONE))
    assert dead(kept, USE, BACK) == {}


def test_what_is_asked_for_at_a_label_is_alive_there() -> None:
    other = step("set", 0, 1, x=mod(add(Y.expr, ONE), constant(3)))
    two = and_(eq(PC.expr, constant(2)), eq(X.expr, ONE))
    assert dead(other, USE, BACK, asked=(two,)) == {"x": [0]}


def test_what_another_thread_reads_is_alive() -> None:
    reader = Transition("read", "u", "read", eq(X.expr, ONE), {})
    other = step("set", 0, 1, x=mod(add(Y.expr, ONE), constant(3)))
    assert dead(other, USE, BACK, reader) == {}


def test_a_value_that_may_leave_its_bounds_is_left_to_be_noticed() -> None:
    assert dead(step("set", 0, 1, x=add(X.expr, ONE)), step("go", 1, 0)) == {}


def test_the_label_is_the_variable_that_the_steps_ask_for() -> None:
    (flow,) = flows(system(SET, USE, BACK))
    assert flow.counter == PC
    assert [(edge.step.name, edge.label, sorted(edge.targets)) for edge in flow.edges] == [
        ("set", 0, [1]),
        ("use", 1, [2]),
        ("back", 2, [0]),
    ]


def test_steps_anywhere_are_at_every_label() -> None:
    anywhere = Transition("any", "t", "any", TRUE, {"y": ONE})
    (flow,) = flows(system(SET, USE, BACK, anywhere))
    assert [edge.label for edge in flow.by_step["any"]] == [0, 1, 2]


def test_leads_to_has_the_same_answer_under_fairness() -> None:
    different = answers = 0
    for seed in range(36):
        original = threads(seed)
        asked = original.properties[-1]
        assert asked.target is not None
        rested = without_dead_values(original, [asked.holds, asked.target]).system
        before, after = graph_of(original), graph_of(rested)
        answer = holds(original, before, asked)
        assert holds(rested, after, rested.properties[-1]) == answer
        different += len(before) != len(after)
        answers += answer
    assert different >= 5
    assert 5 <= answers <= 31


def counting() -> DeadValues:
    """Round and round, while y, which nobody reads at 1, is counted to 3."""
    up = step("up", 0, 1, y=mod(add(Y.expr, ONE), constant(4)))
    return without_dead_values(system(up, step("down", 1, 0)), ())


def test_a_loop_is_gone_round_until_dead_values_come_back() -> None:
    found = counting()
    (start,) = found.system.initial
    middle = {**start, "pc": 1}
    run = found.run_of(Run((start, middle, start), ("up", "down"), 0))
    replay(found.original, run)
    assert (run.fired, run.loop) == (("up", "down") * 4, 0)


def test_a_run_that_is_none_is_refused() -> None:
    found = counting()
    (start,) = found.system.initial
    with pytest.raises(ReplayError, match=r"^Step 0 must be enabled, not blocked: down$"):
        found.run_of(Run((start, start), ("down",)))
    with pytest.raises(
        ReplayError, match=r"^State 0 must be an initial state without dead values, not another$"
    ):
        found.run_of(Run(({**start, "pc": 1},), ()))
