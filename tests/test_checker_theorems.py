"""Theorems become questions, answers verdicts; a case that does not do what the solver says is an error."""

from __future__ import annotations

from typing import Annotated, Final

import pytest

from avicheck.checker.solve import Answer, Query, Status, solve
from avicheck.checker.theorems import Theorem, Theory
from avicheck.checker.verdict import Verdict
from avicheck.spec.lang import Range, record, rule


@record
class Pair:
    """Two small numbers."""

    a: Annotated[int, Range(0, 7)]
    b: Annotated[int, Range(0, 7)]


@rule
def commutes(pair: Pair) -> bool:
    """The order does not matter."""
    return pair.a + pair.b == pair.b + pair.a


@rule
def ordered(pair: Pair) -> bool:
    """The first is the smaller one."""
    return pair.a <= pair.b


@rule
def beyond(pair: Pair) -> bool:
    """The sum is above 14."""
    return pair.a + pair.b > 14


PAIRS: Final = Theory(
    "test/pairs",
    Pair,
    (
        Theorem("commutes", commutes),
        Theorem("ordered", ordered, refuted=True),
        Theorem("some-ordered", ordered, always=False),
        Theorem("some-beyond", beyond, always=False, refuted=True),
    ),
)
COMMUTES, ORDERED, SOME_ORDERED, SOME_BEYOND = PAIRS.theorems


def answered(theorem: Theorem[Pair]) -> list[tuple[Query, Answer]]:
    return [(query, solve(query)) for query in PAIRS.asked(theorem)]


@pytest.mark.parametrize(
    ("theorem", "verdict"),
    [
        (COMMUTES, Verdict.HOLDS),
        (ORDERED, Verdict.VIOLATED),
        (SOME_ORDERED, Verdict.HOLDS),
        (SOME_BEYOND, Verdict.VIOLATED),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_verdict(theorem: Theorem[Pair], verdict: Verdict) -> None:
    answers = answered(theorem)
    assert answers[0][1].status == answers[0][0].expected
    assert PAIRS.verdict(theorem, answers) is verdict


def test_a_counterexample_is_a_case_that_runs() -> None:
    (_, answer), *_ = answered(ORDERED)
    case = PAIRS.found(ORDERED, answer.values)
    assert case.a > case.b


def said(status: Status, **values: int) -> Answer:
    return Answer(status, "z3", 0.0, {f"case.{name}": value for name, value in values.items()})


@pytest.mark.parametrize("theorem", [ORDERED, SOME_BEYOND], ids=["always", "sometimes"])
def test_a_case_that_does_not_do_what_the_solver_says_is_an_error(theorem: Theorem[Pair]) -> None:
    query = PAIRS.query(theorem)
    assert PAIRS.verdict(theorem, [(query, said("sat", a=1, b=2))]) is Verdict.TOOL_ERROR


def test_a_question_without_an_answer_stays_open() -> None:
    assert PAIRS.verdict(COMMUTES, [(PAIRS.query(COMMUTES), said("unknown"))]) is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("status", "verdict"), [("sat", Verdict.TOOL_ERROR), ("unknown", Verdict.UNKNOWN)], ids=str
)
def test_a_path_that_may_have_been_left_out_leaves_nothing_proved(status: Status, verdict: Verdict) -> None:
    query = PAIRS.query(COMMUTES)
    assert PAIRS.verdict(COMMUTES, [(query, said("unsat")), (query, said(status))]) is verdict
