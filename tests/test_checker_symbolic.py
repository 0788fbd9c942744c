"""Bounded model checking, k-induction and IC3 against plain search, and against themselves broken."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import z3
from hypothesis import given, settings

from avicheck.checker import explicit, symbolic, symbolic_ic3
from avicheck.checker.engine import DEADLOCK_FREE, EngineResult, Interrupted
from avicheck.checker.engines import EngineName, Limits, check
from avicheck.checker.errors import InputError
from avicheck.checker.solve import solve
from avicheck.checker.symbolic import bmc, induction
from avicheck.checker.symbolic_ic3 import _Literals, certificate, ic3
from avicheck.checker.verdict import Verdict
from avicheck.encodings import unroll
from avicheck.encodings.expr import (
    FALSE,
    TRUE,
    Expr,
    and_,
    constant,
    eq,
    evaluate,
    ite,
    not_,
    or_,
)
from avicheck.encodings.reachability import confirm, deadlock_free, question
from avicheck.encodings.transition import Property, Transition, TransitionSystem, Variable, replay
from avicheck.encodings.unroll import fired, next_copy, step_relation
from tests.known.catalogue import CASES, KNOWN, Known
from tests.known.small import SYSTEMS
from tests.small_systems import (
    beyond,
    counter,
    frozen,
    graph_of,
    holds,
    lockstep,
    nearest,
    ring,
    systems,
    true_in,
)

DEEP = 300
"""Steps that every small system is exhausted by."""
GOOD = {Verdict.PROVED: True, Verdict.HOLDS: True, Verdict.VIOLATED: False}
"""The verdicts that say whether a property holds."""

Engine = Callable[[TransitionSystem, Property], EngineResult]


def named(system: TransitionSystem, name: str) -> Property:
    known = {asked.name: asked for asked in (*system.properties, deadlock_free(system, DEADLOCK_FREE))}
    return known[name]


def complete_induction(system: TransitionSystem, asked: Property) -> EngineResult:
    return induction(system, asked, most=DEEP, simple=True)


def bounded(system: TransitionSystem, asked: Property) -> EngineResult:
    return bmc(system, asked, depth=12)


# Against plain search.


@settings(deadline=None, max_examples=40)
@given(systems())
def test_ic3_decides_what_search_decides(system: TransitionSystem) -> None:
    graph = graph_of(system)
    for asked in (*system.properties, deadlock_free(system, DEADLOCK_FREE)):
        assert GOOD[ic3(system, asked).verdict] == holds(system, graph, asked)


@settings(deadline=None, max_examples=25)
@given(systems())
def test_complete_induction_decides_what_search_decides(system: TransitionSystem) -> None:
    graph = graph_of(system)
    for asked in (*system.properties[:3], deadlock_free(system, DEADLOCK_FREE)):
        assert GOOD[complete_induction(system, asked).verdict] == holds(system, graph, asked)


@settings(deadline=None, max_examples=40)
@given(systems())
def test_bmc_finds_the_nearest_state_of_the_goal(system: TransitionSystem) -> None:
    graph = graph_of(system)
    for asked in (*system.properties[:3], deadlock_free(system, DEADLOCK_FREE)):
        depth = nearest(system, graph, question(system, asked).goal)
        found = bounded(system, asked).run
        assert (None if found is None else len(found.fired)) == (depth if (depth or 0) <= 12 else None)


@settings(deadline=None, max_examples=40)
@given(systems())
def test_bmc_contradicts_no_liveness(system: TransitionSystem) -> None:
    asked = system.properties[-1]
    verdict = bounded(system, asked).verdict
    assert verdict is Verdict.HOLDS_TO_DEPTH or GOOD[verdict] == holds(system, graph_of(system), asked)


@settings(deadline=None, max_examples=30)
@given(systems())
def test_an_invariant_holds_in_every_reachable_state(system: TransitionSystem) -> None:
    graph = graph_of(system)
    for asked in (*system.properties[:3], deadlock_free(system, DEADLOCK_FREE)):
        invariant = ic3(system, asked).invariant
        if invariant is not None:
            assert all(true_in(invariant, state) for state in graph)


def usual(known: Known, name: str) -> tuple[TransitionSystem, Property]:
    system = known.encoding.system
    return system, named(system, name)


cases = pytest.mark.parametrize(
    ("known", "name", "expected"), CASES, ids=[f"{known.name}: {name}" for known, name, _ in CASES]
)


@cases
def test_ic3_knows_the_known_answers(known: Known, name: str, expected: bool) -> None:
    assert GOOD[ic3(*usual(known, name)).verdict] == expected


@cases
def test_bmc_knows_the_known_answers(known: Known, name: str, expected: bool) -> None:
    verdict = bmc(*usual(known, name), depth=9).verdict
    assert GOOD.get(verdict, True) == expected


@cases
def test_induction_contradicts_no_known_answer(known: Known, name: str, expected: bool) -> None:
    verdict = induction(*usual(known, name), most=7).verdict
    undecided = (Verdict.NOT_INDUCTIVE, Verdict.UNKNOWN)
    assert verdict in undecided or GOOD[verdict] == expected


def known_model(name: str) -> TransitionSystem:
    return next(known.encoding.system for known in KNOWN if known.model.name == name)


@pytest.mark.parametrize(("k", "verdict"), [(2, Verdict.NOT_INDUCTIVE), (3, Verdict.PROVED)])
def test_the_circle_needs_three_steps_of_induction(k: int, verdict: Verdict) -> None:
    circle = known_model("circle")
    assert induction(circle, named(circle, "seven"), most=k).verdict is verdict


def test_lockstep_needs_an_invariant_which_ic3_finds() -> None:
    system = known_model("lockstep")
    asked = named(system, "ahead")
    assert induction(system, asked, most=12).verdict is Verdict.NOT_INDUCTIVE
    invariant = ic3(system, asked).invariant
    assert invariant is not None
    assert [solve(query).status for query in certificate(system, asked.holds, invariant)] == ["unsat"] * 3


# Verdicts and their evidence.


def test_bmc_proves_where_every_run_ends() -> None:
    result = bmc(SYSTEMS["countdown"](), named(SYSTEMS["countdown"](), "never seven"), depth=20)
    assert (result.verdict, result.detail) == (Verdict.PROVED, "no run has more than 7 steps")


def test_bmc_says_how_far_it_looked() -> None:
    result = bmc(counter(), named(counter(), "not 12"), depth=7)
    assert (result.verdict, result.depth) == (Verdict.HOLDS_TO_DEPTH, 7)
    assert result.detail == "no run of at most 7 steps breaks it"


def test_bmc_finds_a_run_of_exactly_the_depth() -> None:
    result = bmc(counter(), named(counter(), "below 4"), depth=9)
    assert (result.verdict, result.depth, result.detail) == (Verdict.VIOLATED, 4, "after 4 steps")
    assert result.run is not None
    confirm(counter(), named(counter(), "below 4"), result.run)


def test_bmc_finds_nothing_one_step_short_of_the_depth() -> None:
    assert bmc(counter(), named(counter(), "below 4"), depth=3).verdict is Verdict.HOLDS_TO_DEPTH


def test_what_happens_sometimes_comes_with_a_witness() -> None:
    result = bmc(counter(), named(counter(), "5"), depth=9)
    assert (result.verdict, result.detail) == (Verdict.HOLDS, "reached in 5 steps")
    assert result.run is not None
    assert result.run.states[-1] == {"x": 5}


def test_what_was_not_seen_within_a_bound_is_unknown() -> None:
    assert bmc(counter(), named(counter(), "7"), depth=9).verdict is Verdict.UNKNOWN


def test_what_never_happens_violates_sometimes() -> None:
    result = ic3(counter(), named(counter(), "7"))
    assert (result.verdict, result.run) == (Verdict.VIOLATED, None)


def test_counter_needs_five_steps_of_induction() -> None:
    """From 8, four steps lead to 12; nothing leads to 8."""
    result = induction(counter(), named(counter(), "not 12"))
    assert (result.verdict, result.depth) == (Verdict.PROVED, 5)
    assert result.detail == "for any number of steps, by induction with k = 5"


def test_four_steps_of_induction_are_not_enough() -> None:
    result = induction(counter(), named(counter(), "not 12"), most=4)
    assert (result.verdict, result.depth) == (Verdict.NOT_INDUCTIVE, 4)
    assert result.detail == "counterexample to induction with k = 4: its first state may not be reachable"


def test_counterexample_to_induction_is_a_run_from_an_unreachable_state() -> None:
    asked = named(counter(), "not 12")
    run = induction(counter(), asked, most=4).run
    assert run is not None
    assert [state["x"] for state in run.states] == [8, 9, 10, 11, 12]
    replay(replace(counter(), initial=(run.states[0],)), run)
    assert frozen(run.states[0]) not in graph_of(counter())


def test_induction_alone_cannot_use_a_missing_invariant() -> None:
    assert induction(lockstep(), named(lockstep(), "ahead"), most=12).verdict is Verdict.NOT_INDUCTIVE


def test_simple_paths_make_induction_complete() -> None:
    result = induction(lockstep(), named(lockstep(), "ahead"), most=12, simple=True)
    assert result.verdict is Verdict.PROVED


def test_induction_finds_violations() -> None:
    result = induction(counter(), named(counter(), "below 4"))
    assert (result.verdict, result.depth) == (Verdict.VIOLATED, 4)


def test_induction_without_a_step_decides_nothing() -> None:
    result = induction(counter(), named(counter(), "not 12"), most=0)
    assert (result.verdict, result.detail) == (Verdict.UNKNOWN, "k must be at least 1, not at most 0")


def test_ic3_finds_the_missing_invariant() -> None:
    result = ic3(lockstep(), named(lockstep(), "ahead"))
    assert result.verdict is Verdict.PROVED
    assert result.invariant is not None
    queries = certificate(lockstep(), lockstep().properties[0].holds, result.invariant)
    assert [solve(query).status for query in queries] == ["unsat"] * 3


@pytest.mark.parametrize(
    ("invariant", "wrong"),
    [
        (FALSE, ["initial"]),
        (TRUE, ["implies"]),
        (not_(lockstep().properties[0].holds), ["inductive"]),
    ],
    ids=["too strong", "too weak", "not inductive"],
)
def test_certificate_tells_what_is_wrong_with_an_invariant(invariant: Expr, wrong: list[str]) -> None:
    queries = certificate(lockstep(), lockstep().properties[0].holds, invariant)
    assert [query.name for query in queries if solve(query).status == "sat"] == wrong


def test_ic3_speaks_of_equality_where_an_integer_is_copied() -> None:
    x, y, z = Variable("x", 0, 3), Variable("y", 0, 3), Variable("z", 0, 3)
    copied = Transition("copy", "t", "copy", TRUE, {"y": ite(eq(z.expr, constant(0)), x.expr, y.expr)})
    system = TransitionSystem("copies", (x, y, z), ({"x": 0, "y": 0, "z": 0},), (copied,), (), FALSE)
    literals = _Literals(system, TRUE)
    assert eq(x.expr, y.expr) in literals.of({"x": 2, "y": 2, "z": 1})
    assert not_(eq(x.expr, y.expr)) in literals.of({"x": 2, "y": 1, "z": 1})
    assert eq(x.expr, z.expr) not in literals.of({"x": 2, "y": 2, "z": 2})


LIVENESS = {
    "works, unfair": False,
    "works, weak": False,
    "works, strong": True,
    "rests, unfair": True,
    "rests, weak": True,
}


@pytest.mark.parametrize(("name", "expected"), LIVENESS.items())
def test_a_token_comes_round_only_with_strong_fairness(name: str, expected: bool) -> None:
    assert GOOD[ic3(ring(), named(ring(), name)).verdict] == expected


@pytest.mark.parametrize("name", [name for name, expected in LIVENESS.items() if not expected])
def test_starvation_is_a_lasso(name: str) -> None:
    run = bounded(ring(), named(ring(), name)).run
    assert run is not None
    assert run.loop is not None
    confirm(ring(), named(ring(), name), run)


def test_starvation_may_be_a_stop() -> None:
    asked = Property("eats", "leads-to", TRUE, target=FALSE)
    system = SYSTEMS["countdown"]()
    run = bmc(system, asked, depth=20).run
    assert run is not None
    assert (run.loop, run.states[-1]) == (None, {"up": 5, "down": -9})


# Limits.


ENGINES: dict[str, Callable[[TransitionSystem, Property, float], EngineResult]] = {
    "bmc": lambda system, asked, limit: bmc(system, asked, depth=50, limit=limit),
    "induction": lambda system, asked, limit: induction(system, asked, limit=limit),
    "ic3": lambda system, asked, limit: ic3(system, asked, limit=limit),
}
every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


@every_engine
def test_no_time_gives_no_verdict(
    engine: Callable[[TransitionSystem, Property, float], EngineResult],
) -> None:
    result = engine(lockstep(), named(lockstep(), "ahead"), 0.0)
    assert result.verdict is Verdict.UNKNOWN
    assert result.detail.startswith("the limit of 0 s is reached, at ")


@every_engine
def test_a_limit_is_kept(engine: Callable[[TransitionSystem, Property, float], EngineResult]) -> None:
    asked = SYSTEMS["arithmetic"]().properties[0]
    result = engine(SYSTEMS["arithmetic"](), asked, 1.0)
    assert result.verdict is Verdict.UNKNOWN
    assert result.seconds < 20


@every_engine
def test_a_step_beyond_a_bound_is_bad_input(
    engine: Callable[[TransitionSystem, Property, float], EngineResult],
) -> None:
    with pytest.raises(InputError, match=r"^after up: x must be from 0 to 3, not 4$"):
        engine(beyond(), named(beyond(), "fine"), 100.0)


@every_engine
def test_an_interrupt_between_two_questions_is_told(
    engine: Callable[[TransitionSystem, Property, float], EngineResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = z3.Solver.check

    def interrupted(*args: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return usual(*args)

    monkeypatch.setattr(z3.Solver, "check", interrupted)
    result = engine(lockstep(), named(lockstep(), "ahead"), 100.0)
    assert (result.verdict, result.detail.split(",")[0]) == (Verdict.UNKNOWN, "interrupted")


def test_what_is_canceled_at_the_limit_is_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def cancel(_solver: z3.Solver, *_args: object) -> z3.CheckSatResult:
        time.sleep(0.25)
        return z3.unknown

    monkeypatch.setattr(z3.Solver, "check", cancel)
    monkeypatch.setattr(z3.Solver, "reason_unknown", lambda _solver: "canceled")
    result = bmc(lockstep(), named(lockstep(), "ahead"), depth=9, limit=0.2)
    assert result.detail == "the limit of 0.2 s is reached, at 0 steps"


@pytest.mark.parametrize("engine", ["auto", "explicit", "bmc", "induction", "ic3"])
def test_an_interrupt_ends_more_than_the_engine(engine: EngineName, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = EngineResult(engine, "ahead", Verdict.UNKNOWN, None, None, None, 3, 0.0, "interrupted, at 3")
    monkeypatch.setattr(explicit, "explicit", lambda *_args, **_options: stopped)
    monkeypatch.setattr(symbolic, "bmc", lambda *_args, **_options: stopped)
    monkeypatch.setattr(symbolic, "induction", lambda *_args, **_options: stopped)
    monkeypatch.setattr(symbolic_ic3, "ic3", lambda *_args, **_options: stopped)
    with pytest.raises(Interrupted) as caught:
        check(lockstep(), "ahead", engine)
    assert caught.value.result is stopped


def test_auto_without_time_left_says_what_the_explicit_engine_did() -> None:
    result = check(lockstep(), "ahead", "auto", Limits(seconds=0))
    assert (result.engine, result.verdict) == ("explicit", Verdict.UNKNOWN)
    assert result.detail.startswith("explicit chosen, 6 bits of state: stopped at the limit of ")


# Planted faults.


def always_enabled(system: TransitionSystem) -> Expr:
    """A relation in which steps need no guard."""
    return step_relation(
        replace(system, transitions=tuple(replace(t, guard=TRUE) for t in system.transitions))
    )


def never_first(system: TransitionSystem) -> Expr:
    """A relation in which the first transition never fires."""
    return not_(or_(not_(step_relation(system)), fired(system, 0)))


@every_engine
def test_a_run_that_is_none_is_a_tool_error(
    engine: Callable[[TransitionSystem, Property, float], EngineResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unroll, "step_relation", always_enabled)
    result = engine(counter(), named(counter(), "not 12"), 100.0)
    assert (result.verdict, result.run) == (Verdict.TOOL_ERROR, None)
    assert result.detail.startswith("the run found is none: ")


def test_an_invariant_that_is_none_is_a_tool_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unroll, "step_relation", never_first)
    result = ic3(counter(), named(counter(), "below 4"))
    assert result.verdict is Verdict.TOOL_ERROR
    assert result.detail == "the invariant found is none: a transition leads out of the invariant"


def jumping(system: TransitionSystem) -> Expr:
    """A relation that leads from 6, which is not reachable, to 7."""
    (x,) = system.variables
    jump = and_(eq(x.expr, constant(6)), eq(next_copy(x), constant(7)))
    return or_(jump, step_relation(system))


def test_a_counterexample_to_induction_that_is_none_is_a_tool_error(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Property("not 7", "never", named(counter(), "7").holds)
    monkeypatch.setattr(unroll, "step_relation", jumping)
    result = induction(counter(), asked, most=1)
    assert result.verdict is Verdict.TOOL_ERROR
    assert result.detail.startswith("the counterexample to induction is no run: ")


def test_the_certificate_knows_nothing_of_the_relation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unroll, "step_relation", lambda _system: FALSE)
    asked = lockstep().properties[0].holds
    assert [solve(query).status for query in certificate(lockstep(), asked, not_(asked))][1] == "sat"


def test_evaluation_finds_the_invariant_true() -> None:
    invariant = ic3(lockstep(), named(lockstep(), "ahead")).invariant
    assert invariant is not None
    assert all(evaluate([invariant], {"x": n, "y": n}) == [1] for n in range(8))
