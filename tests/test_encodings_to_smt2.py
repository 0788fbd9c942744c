"""SMT-LIB texts, solved, do what the reference semantics does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import z3

from avicheck.checker.solve import solve_text
from avicheck.encodings import to_smt2
from avicheck.encodings.bitvectors import width_of
from avicheck.encodings.expr import evaluate
from avicheck.encodings.transition import TransitionSystem, Variable
from avicheck.encodings.writing import invariants, legal_names, stuck
from tests.known.small import SYSTEMS, State, after, key, sample


class Smt2:
    """The predicates of a script, asked about two states."""

    def __init__(self, system: TransitionSystem) -> None:
        text = to_smt2.text(system)
        self._names = legal_names((var.name for var in system.variables), "v_")
        self._variables = system.variables
        self._definitions = text[: text.index("(assert ")]

    def solver(self, asserted: str) -> Any:
        """A solver that asserts something about the states with the endings 0 and 1."""
        solver = z3.Solver()
        solver.from_string(f"{self._definitions}(assert {asserted})")
        return solver

    def arguments(self, *indices: int) -> str:
        return " ".join(f"{name}.{i}" for i in indices for name in self._names.values())

    def equal(self, state: State, i: int) -> list[Any]:
        return [self._term(var, i) == self._literal(var, state[var.name]) for var in self._variables]

    def state(self, model: Any, i: int) -> tuple[tuple[str, int], ...]:
        return key({var.name: self._value(var, model.eval(self._term(var, i))) for var in self._variables})

    def _term(self, var: Variable, i: int) -> Any:
        name = f"{self._names[var.name]}.{i}"
        return z3.Bool(name) if var.is_bool else z3.BitVec(name, width_of(var.lo, var.hi))

    def _literal(self, var: Variable, value: int) -> Any:
        return z3.BoolVal(bool(value)) if var.is_bool else z3.BitVecVal(value, width_of(var.lo, var.hi))

    def _value(self, var: Variable, value: Any) -> int:
        if var.is_bool:
            return int(z3.is_true(value))
        return int(value.as_signed_long() if var.lo < 0 else value.as_long())


def solutions(script: Smt2, solver: Any, i: int) -> Iterator[tuple[tuple[str, int], ...]]:
    """Every state with the ending ``i`` for which there is a solution."""
    while solver.check() == z3.sat:
        found = script.state(solver.model(), i)
        yield found
        solver.add(z3.Not(z3.And(script.equal(dict(found), i))))


@pytest.mark.parametrize("name", SYSTEMS)
def test_smt2_steps_where_the_system_does(name: str) -> None:
    system = SYSTEMS[name]()
    script = Smt2(system)
    solver = script.solver(f"(trans {script.arguments(0, 1)})")
    for state in sample(name):
        solver.push()
        solver.add(script.equal(state, 0))
        assert set(solutions(script, solver, 1)) == after(system, state)
        solver.pop()


@pytest.mark.parametrize("name", SYSTEMS)
def test_smt2_starts_where_the_system_does(name: str) -> None:
    system = SYSTEMS[name]()
    script = Smt2(system)
    found = set(solutions(script, script.solver(f"(init {script.arguments(0)})"), 0))
    assert found == {key(state) for state in system.initial}


@pytest.mark.parametrize("name", ["lights", "countdown", "philosophers"])
def test_smt2_domain_is_every_value_of_the_variables(name: str) -> None:
    system = SYSTEMS[name]()
    script = Smt2(system)
    found = set(solutions(script, script.solver(f"(domain {script.arguments(0)})"), 0))
    sizes = [var.hi - var.lo + 1 for var in system.variables]
    assert len(found) == math.prod(sizes)
    assert all(var.lo <= dict(state)[var.name] <= var.hi for state in found for var in system.variables)


@pytest.mark.parametrize("name", SYSTEMS)
def test_smt2_knows_bad_states(name: str) -> None:
    system = SYSTEMS[name]()
    script = Smt2(system)
    solver = script.solver(f"(bad {script.arguments(0)})")
    for state in sample(name):
        *holds, deadlock = evaluate([*(holds for _, holds in invariants(system)), stuck(system)], state)
        answer = solver.check(script.equal(state, 0))
        assert (answer == z3.sat) == (bool(deadlock) or not all(holds))


@pytest.mark.parametrize("solver", ["z3", "bitwuzla", "cvc5"])
@pytest.mark.parametrize(
    ("name", "answer"), [("countdown", "sat"), ("lights", "unsat"), ("arithmetic", "unsat")]
)
def test_smt2_asks_every_solver_for_a_bad_state_one_step_away(solver: str, name: str, answer: str) -> None:
    """A property of ``countdown`` is broken after one step, none of the others'."""
    assert solve_text(to_smt2.text(SYSTEMS[name]()), solver).status == answer
