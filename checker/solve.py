"""Solving: obligations as SMT-LIB text, given to one solver or another, side by side.

What is solved is the text that is archived. A solver that runs out of its limit
answers ``unknown``, which is no verdict.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from avicheck.encodings.expr import Expr, variables
from avicheck.encodings.smtlib import script

Status: TypeAlias = Literal["sat", "unsat", "unknown"]
Assignment: TypeAlias = dict[str, int]
"""Values by variable name; booleans are 0 and 1."""


@dataclass(frozen=True)
class Query:
    """A question to a solver, as a script, with the variables whose values matter; ``expected``
    is the answer that supports the claim it belongs to."""

    name: str
    sentence: str
    text: str
    variables: tuple[Expr, ...]
    expected: Literal["sat", "unsat"] = "unsat"


def ask(
    name: str, sentence: str, asserted: Sequence[Expr], expected: Literal["sat", "unsat"] = "unsat"
) -> Query:
    """The question whether all of some expressions can hold."""
    text = script(asserted, [f"{name}: {sentence}"], expected)
    return Query(name, sentence, text, tuple(variables(*asserted)), expected)


@dataclass(frozen=True)
class Answer:
    """A solver's answer. ``values`` is its assignment if it is sat and was asked for one."""

    status: Status
    solver: str
    seconds: float
    values: Assignment = field(default_factory=dict)
    why: str = ""
    """Why it is unknown."""


SolverFunction: TypeAlias = Callable[[str, float], tuple[Status, Assignment, str]]


def _solve_z3(text: str, limit: float) -> tuple[Status, Assignment, str]:
    import z3

    solver = z3.SolverFor("QF_BV", ctx=z3.Context())
    solver.set("timeout", max(1, int(limit * 1000)))
    solver.from_string(text)
    answer = str(solver.check())
    if answer == "unknown":
        return "unknown", {}, solver.reason_unknown()
    if answer == "unsat":
        return "unsat", {}, ""
    model = solver.model()
    return "sat", {str(decl.name()): _z3_value(model[decl]) for decl in model.decls()}, ""


def _z3_value(value: Any) -> int:
    import z3

    return int(z3.is_true(value)) if z3.is_bool(value) else int(value.as_long())


def _solve_bitwuzla(text: str, limit: float) -> tuple[Status, Assignment, str]:
    import bitwuzla

    options = bitwuzla.Options()
    options.set(bitwuzla.Option.TIME_LIMIT_PER, max(1, int(limit * 1000)))
    terms = bitwuzla.TermManager()
    parser = bitwuzla.Parser(terms, options)
    parser.parse(text.replace("(check-sat)", ""), True, False)
    answer = str(parser.bitwuzla().check_sat()).rpartition(".")[2].lower()
    status: Status = answer if answer in ("sat", "unsat") else "unknown"  # type: ignore[assignment]
    return status, {}, "" if status != "unknown" else "time limit"


def _solve_cvc5(text: str, limit: float) -> tuple[Status, Assignment, str]:
    import cvc5

    solver = cvc5.Solver()
    solver.setOption("tlimit-per", str(max(1, int(limit * 1000))))
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, text.replace("(check-sat)", ""), "obligation")
    symbols = parser.getSymbolManager()
    while not (command := parser.nextCommand()).isNull():
        command.invoke(solver, symbols)
    result = solver.checkSat()
    if result.isUnknown():
        return "unknown", {}, str(result.getUnknownExplanation())
    return ("sat" if result.isSat() else "unsat"), {}, ""


SOLVERS: Final[Mapping[str, SolverFunction]] = {
    "z3": _solve_z3,
    "bitwuzla": _solve_bitwuzla,
    "cvc5": _solve_cvc5,
}
PACKAGES: Final[Mapping[str, str]] = {"z3": "z3-solver", "bitwuzla": "bitwuzla", "cvc5": "cvc5"}


def solver_version(solver: str) -> str:
    """The solver's name and the version of its package; PackageNotFoundError if it is missing."""
    from importlib.metadata import version

    return f"{solver} {version(PACKAGES[solver])}"


def solve_text(text: str, solver: str = "z3", limit: float = 600.0) -> Answer:
    """What a solver answers to a script within ``limit`` seconds."""
    start = time.perf_counter()
    status, values, why = SOLVERS[solver](text, limit)
    return Answer(status, solver, time.perf_counter() - start, values, why)


def solve(query: Query, solver: str = "z3", limit: float = 600.0) -> Answer:
    """What a solver answers to a query, with every variable of the query in its assignment if sat."""
    return signed(query, solve_text(query.text, solver, limit))


def signed(query: Query, answer: Answer) -> Answer:
    """The answer with its values read as the variables' own, negative ones included; what the
    solver left open is the variable's lower bound."""
    if answer.status != "sat":
        return answer
    values = {}
    for var in query.variables:
        name = str(var.value)
        value = answer.values.get(name, var.lo)
        values[name] = value - (1 << _width(var)) if var.lo < 0 and value > var.hi else value
    return Answer(answer.status, answer.solver, answer.seconds, values, answer.why)


def _width(var: Expr) -> int:
    from avicheck.encodings.bitvectors import width_of

    return width_of(var.lo, var.hi)


def solve_all(
    queries: Iterable[Query], *, jobs: int = 1, solver: str = "z3", limit: float = 600.0
) -> Iterator[tuple[Query, Answer]]:
    """The answers to many queries as they come in, ``jobs`` at a time, each in a process of its
    own pool; in order if ``jobs`` is 1."""
    if jobs == 1:
        for query in queries:
            yield query, solve(query, solver, limit)
        return
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        pending = {pool.submit(solve_text, query.text, solver, limit): query for query in queries}
        try:
            for done in as_completed(pending):
                yield pending[done], signed(pending[done], done.result())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
