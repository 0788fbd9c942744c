"""Answers of solvers: read right, never better than they are, and given whatever becomes of a process."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from avicheck.checker import solve as solving
from avicheck.checker.errors import InputError
from avicheck.checker.solve import (
    PACKAGES,
    SOLVERS,
    Answer,
    Query,
    ask,
    solve,
    solve_all,
    solve_text,
    solver_version,
)
from avicheck.encodings import expr as ex
from avicheck.encodings.expr import Expr

K: Final = ex.constant
FLAG: Final = ex.bool_var("on[1].off")
SIGNED: Final = ex.int_var("signed", -9, 100)
OFFSET: Final = ex.int_var("offset", 5, 9)
WIDE: Final = ex.int_var("wide", 0, (1 << 64) - 1)

Y, Z = (ex.int_var(name, 2, (1 << 40) - 1) for name in "yz")
HARD: Final = ask(
    "hard", "Two factors.", [ex.eq(ex.mul(Y, Z), K(1_000_000_000_039 * 1_000_000_000_061)), ex.lt(Y, Z)]
)


def possible(name: str, *conditions: Expr) -> Query:
    return ask(name, "It can be.", conditions, "sat")


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("conditions", "values"),
    [
        ([ex.eq(SIGNED, K(-9))], {"signed": -9}),
        ([ex.eq(SIGNED, K(-1))], {"signed": -1}),
        ([ex.eq(SIGNED, K(100))], {"signed": 100}),
        ([ex.eq(WIDE, K((1 << 64) - 1))], {"wide": (1 << 64) - 1}),
        ([FLAG], {"on[1].off": 1}),
        ([ex.not_(FLAG)], {"on[1].off": 0}),
        ([ex.lt(OFFSET, K(6)), FLAG], {"offset": 5, "on[1].off": 1}),
        ([ex.eq(ex.add(SIGNED, OFFSET), K(-4))], {"signed": -9, "offset": 5}),
    ],
)
def test_values_are_the_variables_own(solver: str, conditions: list[Expr], values: dict[str, int]) -> None:
    answer = solve(possible("q", *conditions), solver)
    assert (answer.status, answer.values, answer.solver, answer.why) == ("sat", values, solver, "")


@pytest.mark.parametrize("solver", SOLVERS)
def test_every_variable_has_a_value(solver: str) -> None:
    """Those that do not matter too, within their bounds: the assignment makes the query true."""
    either = ex.or_(FLAG, ex.not_(ex.eq(OFFSET, SIGNED)), ex.eq(WIDE, K(3)))
    values = solve(possible("q", either), solver).values
    assert set(values) == {"on[1].off", "offset", "signed", "wide"}
    assert 5 <= values["offset"] <= 9
    assert ex.evaluate([either], values) == [1]


@pytest.mark.parametrize("solver", SOLVERS)
def test_unsat_is_unsat(solver: str) -> None:
    answer = solve(ask("q", "It cannot be.", [ex.eq(ex.mul(OFFSET, OFFSET), K(50))]), solver)
    assert (answer.status, answer.values, answer.why) == ("unsat", {}, "")


@pytest.mark.parametrize(
    ("solver", "why"), [("z3", "timeout"), ("bitwuzla", "time limit"), ("cvc5", "timeout")]
)
def test_limit_means_unknown(solver: str, why: str) -> None:
    answer = solve(HARD, solver, 0.2)
    assert (answer.status, answer.values, answer.why) == ("unknown", {}, why)
    assert answer.seconds < 20


@pytest.mark.parametrize("solver", SOLVERS)
def test_text_that_a_solver_refuses_is_unknown(solver: str) -> None:
    answer = solve_text("(set-logic QF_BV)(assert (nonsense))(check-sat)", solver)
    assert answer.status == "unknown"
    assert re.match(r"\w+(Exception|Error): .", answer.why)


@pytest.mark.parametrize("solver", SOLVERS)
def test_version_is_named(solver: str) -> None:
    assert re.fullmatch(rf"{solver} \d+\.\d+.*", solver_version(solver))


CALLS: Final[list[Callable[[str], object]]] = [
    solver_version,
    lambda solver: solve_text("", solver),
    lambda solver: solve(HARD, solver),
    lambda solver: next(solve_all([HARD], solver=solver)),
    lambda solver: next(solve_all([HARD], solver=solver, jobs=2)),
]


@pytest.mark.parametrize("call", CALLS)
def test_unknown_solver(call: Callable[[str], object]) -> None:
    with pytest.raises(InputError) as error:
        call("bitwuzzla")
    expected = 'Solver must be one of z3, bitwuzla, cvc5, not "bitwuzzla"; did you mean bitwuzla?'
    assert str(error.value) == expected


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_solver_that_is_not_installed(
    solver: str, call: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(InputError) as error:
        call(solver)
    package = PACKAGES[solver]
    assert str(error.value) == (
        f"Solver must be one that is installed, not {solver}, which is not; pip install {package}"
    )


# Many queries.

QUERIES: Final = [
    *(possible(f"sat{i}", ex.eq(SIGNED, K(i))) for i in (-9, 0, 100)),
    *(ask(f"unsat{i}", "No.", [ex.eq(ex.mul(OFFSET, OFFSET), K(i))]) for i in (26, 50)),
]


def answers(jobs: int, solver: str = "z3") -> list[tuple[str, str, dict[str, int]]]:
    found = solve_all(QUERIES, jobs=jobs, solver=solver, limit=60)
    return [(query.name, answer.status, answer.values) for query, answer in found]


@pytest.mark.parametrize("solver", SOLVERS)
def test_answers_do_not_depend_on_the_number_of_jobs(solver: str) -> None:
    alone = [
        (query.name, answer.status, answer.values) for query in QUERIES for answer in [solve(query, solver)]
    ]
    assert answers(1, solver) == alone
    assert sorted(answers(2, solver), key=str) == sorted(alone, key=str)
    assert sorted(answers(9, solver), key=str) == sorted(alone, key=str)


def test_no_queries_no_answers() -> None:
    assert list(solve_all([], jobs=2)) == []


def test_queries_are_taken_as_processes_become_free() -> None:
    taken = []

    def queries() -> Iterator[Query]:
        for query in QUERIES:
            taken.append(query.name)
            yield query

    found = solve_all(queries(), jobs=2, limit=60)
    next(found)
    assert taken == [query.name for query in QUERIES[:2]]
    found.close()  # type: ignore[attr-defined]


def test_easy_answers_do_not_wait_for_hard_ones() -> None:
    found = solve_all([HARD, *QUERIES], jobs=2, limit=3)
    assert [query.name for query, _ in found] == [*(query.name for query in QUERIES), "hard"]


def workers() -> list[multiprocessing.process.BaseProcess]:
    return multiprocessing.active_children()


def signalled(number: signal.Signals, jobs: int) -> dict[str, Answer]:
    """The answers to a hard query and some easy ones when each hard process gets a signal."""

    def disturb() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            time.sleep(1.0)
            for worker in workers():
                if worker.pid:
                    os.kill(worker.pid, number)
                    return

    thread = threading.Thread(target=disturb)
    thread.start()
    found = {query.name: answer for query, answer in solve_all([HARD, *QUERIES], jobs=jobs, limit=60)}
    thread.join()
    return found


@pytest.mark.parametrize("jobs", [1, 2])
def test_process_that_is_killed_leaves_its_query_unknown(jobs: int) -> None:
    found = signalled(signal.SIGKILL, jobs)
    assert (found["hard"].status, found["hard"].why) == (
        "unknown",
        "the solver's process ended with exit code -9",
    )
    assert {found[query.name].status for query in QUERIES} == {"sat", "unsat"}


def test_process_that_does_not_keep_to_its_limit_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solving, "GRACE", -57.0)
    found = signalled(signal.SIGSTOP, 1)
    assert (found["hard"].status, found["hard"].why) == ("unknown", "the solver did not keep to its limit")
    assert found["hard"].seconds < 30


def test_no_process_is_left_behind() -> None:
    found = solve_all([HARD, HARD, HARD], jobs=2, limit=60)
    threading.Timer(1.0, lambda: workers()[0].kill()).start()
    next(found)
    found.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while workers() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers() == []
