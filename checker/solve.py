"""Solving: obligations as SMT-LIB text, given to one solver or another, side by side.

What is solved is the text that is archived. A solver that runs out of its limit
answers ``unknown``, which is no verdict.
"""

from __future__ import annotations

import importlib.util
import itertools
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from typing import Any, Final, Literal, TypeAlias

from avicheck.checker.errors import InputError, not_one_of
from avicheck.encodings.bitvectors import width_of
from avicheck.encodings.expr import Expr, variables
from avicheck.encodings.smtlib import script

GRACE: Final = 30.0
"""Seconds beyond its limit after which a solver is ended."""

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
"""From a script and a limit in seconds to the status, the variables' values as bit patterns
without a sign, and why the status is unknown."""


def _solve_z3(text: str, limit: float) -> tuple[Status, Assignment, str]:
    import z3

    solver = z3.SolverFor("QF_BV", ctx=z3.Context())
    solver.set("timeout", _milliseconds(limit))
    solver.from_string(text)
    answer = str(solver.check())
    if answer == "unknown":
        return "unknown", {}, solver.reason_unknown()
    if answer == "unsat":
        return "unsat", {}, ""
    model = solver.model()
    values = {str(decl.name()): _z3_value(model[decl]) for decl in model.decls()}
    return "sat", {name: value for name, value in values.items() if value is not None}, ""


def _z3_value(value: Any) -> int | None:
    """A value as a number; None for what the script itself defines, which a model may list too."""
    import z3

    if z3.is_true(value) or z3.is_false(value):
        return int(z3.is_true(value))
    return int(value.as_long()) if z3.is_bv_value(value) else None


def _solve_bitwuzla(text: str, limit: float) -> tuple[Status, Assignment, str]:
    import bitwuzla

    options = bitwuzla.Options()
    options.set(bitwuzla.Option.TIME_LIMIT_PER, _milliseconds(limit))
    options.set(bitwuzla.Option.PRODUCE_MODELS, True)
    parser = bitwuzla.Parser(bitwuzla.TermManager(), options)
    parser.parse(_without_check(text), True, False)
    solver = parser.bitwuzla()
    answer = solver.check_sat()
    if answer == bitwuzla.Result.UNKNOWN:
        return "unknown", {}, "time limit"
    if answer == bitwuzla.Result.UNSAT:
        return "unsat", {}, ""
    constants = [term for term in parser.get_declared_funs() if term.is_const()]
    return "sat", {_unquoted(c.symbol()): _bitwuzla_value(solver.get_value(c)) for c in constants}, ""


def _bitwuzla_value(value: Any) -> int:
    return int(value.is_true()) if value.sort().is_bool() else int(value.value(2), 2)


def _solve_cvc5(text: str, limit: float) -> tuple[Status, Assignment, str]:
    import cvc5

    solver = cvc5.Solver()
    solver.setOption("tlimit-per", str(_milliseconds(limit)))
    solver.setOption("produce-models", "true")
    parser = cvc5.InputParser(solver)
    parser.setStringInput(cvc5.InputLanguage.SMT_LIB_2_6, _without_check(text), "obligation")
    symbols = parser.getSymbolManager()
    while not (command := parser.nextCommand()).isNull():
        command.invoke(solver, symbols)
    result = solver.checkSat()
    if result.isUnknown():
        return "unknown", {}, str(result.getUnknownExplanation()).rpartition(".")[2].lower()
    if result.isUnsat():
        return "unsat", {}, ""
    constants = symbols.getDeclaredTerms()
    return "sat", {_unquoted(c.getSymbol()): _cvc5_value(solver.getValue(c)) for c in constants}, ""


def _cvc5_value(value: Any) -> int:
    return int(value.getBooleanValue()) if value.isBooleanValue() else int(value.getBitVectorValue(), 2)


def _milliseconds(limit: float) -> int:
    return max(1, int(limit * 1000))


def _without_check(text: str) -> str:
    return text.replace("(check-sat)", "")


def _unquoted(symbol: str) -> str:
    return symbol.removeprefix("|").removesuffix("|")


SOLVERS: Final[Mapping[str, SolverFunction]] = {
    "z3": _solve_z3,
    "bitwuzla": _solve_bitwuzla,
    "cvc5": _solve_cvc5,
}
PACKAGES: Final[Mapping[str, str]] = {"z3": "z3-solver", "bitwuzla": "bitwuzla", "cvc5": "cvc5"}


def solver_version(solver: str) -> str:
    """The solver's name and the version of its package; InputError if there is none."""
    from importlib.metadata import version

    return f"{_installed(solver)} {version(PACKAGES[solver])}"


def _installed(solver: str) -> str:
    """The solver's name, if it can be used; else InputError."""
    if solver not in SOLVERS:
        raise not_one_of("Solver", SOLVERS, solver)
    if importlib.util.find_spec(solver) is None:
        hint = f"pip install {PACKAGES[solver]}"
        raise InputError("Solver", "one that is installed", f"{solver}, which is not", hint=hint)
    return solver


def solve_text(text: str, solver: str = "z3", limit: float = 600.0) -> Answer:
    """What a solver answers to a script within ``limit`` seconds, unknown if it fails; InputError if
    there is no such solver."""
    function = SOLVERS[_installed(solver)]
    start = time.perf_counter()
    try:
        status, values, why = function(text, limit)
    except Exception as error:
        status, values, why = "unknown", {}, f"{type(error).__name__}: {error}"
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
        value = answer.values.get(str(var.value), var.lo)
        values[str(var.value)] = value - (1 << width_of(var.lo, var.hi)) if value > var.hi else value
    return replace(answer, values=values)


def solve_all(
    queries: Iterable[Query], *, jobs: int = 1, solver: str = "z3", limit: float = 600.0
) -> Iterator[tuple[Query, Answer]]:
    """The answers to many queries as they come in, ``jobs`` at a time; in order if ``jobs`` is 1.

    Each query has a process of its own. One that dies, or does not keep to its limit and is ended,
    leaves its query unknown. InputError if there is no such solver."""
    _installed(solver)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, solver])
    waiting, running = iter(queries), dict[Connection, _Worker]()
    try:
        while True:
            for query in itertools.islice(waiting, max(1, jobs) - len(running)):
                worker = _Worker(context, query, solver, limit)
                running[worker.answers] = worker
            if not running:
                return
            soonest = min(worker.deadline for worker in running.values())
            ready = wait(list(running), max(0.0, soonest - time.perf_counter()))
            now = time.perf_counter()
            for end, worker in list(running.items()):
                if end in ready or worker.deadline <= now:
                    del running[end]
                    yield worker.query, worker.answer()
    finally:
        for worker in running.values():
            worker.process.kill()


class _Worker:
    """A process that solves one query."""

    def __init__(self, context: ForkServerContext, query: Query, solver: str, limit: float) -> None:
        self.query, self.solver = query, solver
        self.start = time.perf_counter()
        self.deadline = self.start + limit + GRACE
        self.answers, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(sender, query.text, solver, limit), daemon=True)
        self.process.start()
        sender.close()

    def answer(self) -> Answer:
        """What the process answered; unknown if it is at work still, which ends it, or died."""
        try:
            if self.answers.poll():
                return signed(self.query, self.answers.recv())
            why = "the solver did not keep to its limit"
            self.process.kill()
        except EOFError:
            self.process.join()
            why = f"the solver's process ended with exit code {self.process.exitcode}"
        finally:
            self.answers.close()
        return Answer("unknown", self.solver, time.perf_counter() - self.start, why=why)


def _work(sender: Connection, text: str, solver: str, limit: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sender.send(solve_text(text, solver, limit))
