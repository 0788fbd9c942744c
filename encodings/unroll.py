"""The step relation of a transition system: over two copies of its variables as expressions, and over
as many as wanted as z3 terms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

import z3

from avicheck.encodings.expr import (
    Expr,
    Op,
    and_,
    bool_var,
    constant,
    eq,
    implies,
    int_var,
    ite,
    or_,
    variables,
)
from avicheck.encodings.to_z3 import Term, z3_translator
from avicheck.encodings.transition import Run, TransitionSystem, Values, Variable

_STEP = "step:fired"
_NEXT = "next:"


def next_copy(var: Variable) -> Expr:
    """The variable's value in the next state."""
    name = _NEXT + var.name
    return bool_var(name) if var.is_bool else int_var(name, var.lo, var.hi)


def fired(system: TransitionSystem, number: int) -> Expr:
    """That the step is the system's transition of this number."""
    return eq(int_var(_STEP, 0, max(0, len(system.transitions) - 1)), constant(number))


def step_relation(system: TransitionSystem) -> Expr:
    """That a transition leads from the state to the next one, both within the variables' bounds. It
    has no solution where an update leaves them: see ``reachability.escapes``."""
    chosen = [fired(system, number) for number in range(len(system.transitions))]
    parts = [or_(*chosen)]
    for choice, transition in zip(chosen, system.transitions, strict=True):
        parts.append(implies(choice, transition.guard))
    for var in system.variables:
        after = var.expr
        for choice, transition in zip(chosen, system.transitions, strict=True):
            if var.name in transition.updates:
                after = ite(choice, transition.updates[var.name], after)
        parts.append(eq(next_copy(var), after))
    return and_(*parts)


def in_state(system: TransitionSystem, values: Values) -> Expr:
    """That the state is the one given."""
    return and_(*(eq(var.expr, constant(values[var.name])) for var in system.variables))


def in_initial(system: TransitionSystem) -> Expr:
    """That the state is an initial one."""
    return or_(*(in_state(system, values) for values in system.initial))


class Unrolling:
    """A system's states 0, 1, 2, ... along a run as z3 terms. The step relation is translated once and
    renamed from then on."""

    def __init__(self, system: TransitionSystem) -> None:
        self.system = system
        self._translator = z3_translator()
        self._now = {var.name: var.expr for var in system.variables if var.expr.op is Op.VAR}
        self._copies: dict[tuple[Expr, int], Term] = {}

    def at(self, expr: Expr, i: int) -> Term:
        """An expression over the variables, in state ``i``."""
        return self._renamed(self._translator.term(expr), variables(expr), i)

    def bounds(self, i: int) -> list[Term]:
        """That the variables of state ``i`` are within their bounds."""
        now = list(self._now.values())
        return [self._renamed(term, now, i) for term in self._translator.domains(now)]

    def step(self, i: int) -> list[Term]:
        """That some transition leads from state ``i`` to the next, which is within its bounds."""
        term, used = self._relation
        return [self._renamed(term, used, i), *self.bounds(i + 1)]

    def state(self, model: Term, i: int) -> Values:
        """State ``i`` in a solver's model."""
        values = {}
        for var in self.system.variables:
            constant = var.name not in self._now
            values[var.name] = var.lo if constant else _value(model, self._copy(var.expr, i), var)
        return values

    def run(self, model: Term, steps: int) -> Run:
        """The states and the fired transitions of a solver's model, from state 0 on."""
        states = tuple(self.state(model, i) for i in range(steps + 1))
        return Run(states, tuple(self._fired(model, i) for i in range(steps)))

    def differ(self, i: int, j: int) -> Term:
        """That two states are not the same."""
        return z3.Or([self._copy(var, i) != self._copy(var, j) for var in self._now.values()])

    @cached_property
    def _relation(self) -> tuple[Term, list[Expr]]:
        relation = step_relation(self.system)
        used = variables(relation)
        step = [var for var in used if var.value == _STEP]
        return z3.And(*self._translator.domains(step), self._translator.term(relation)), used

    def _fired(self, model: Term, i: int) -> str:
        step = fired(self.system, 0)
        number = 0
        for var in variables(step):
            number = model.eval(self._copy(var, i), model_completion=True).as_long()
        return self.system.transitions[number].name

    def _copy(self, var: Expr, i: int) -> Term:
        """The constant for a variable, for a next copy or for the step taken, seen from state ``i``."""
        key = var, i
        if key not in self._copies:
            name = str(var.value)
            i += name.startswith(_NEXT)
            sort = self._translator.term(var).sort()
            self._copies[key] = z3.Const(f"{name.removeprefix(_NEXT)}@{i}", sort)
        return self._copies[key]

    def _renamed(self, term: Term, used: Iterable[Expr], i: int) -> Term:
        pairs = [(self._translator.term(var), self._copy(var, i)) for var in used]
        return z3.substitute(term, *pairs)


def _value(model: Term, term: Term, var: Variable) -> int:
    value = model.eval(term, model_completion=True)
    if var.is_bool:
        return int(z3.is_true(value))
    return int(value.as_signed_long() if var.lo < 0 else value.as_long())


def relation_successors(system: TransitionSystem, state: Values) -> Iterator[tuple[str, Values]]:
    """Every solution of the step relation in one state: the transition and the next state. What
    ``transition.successors`` computes, found by the solver alone."""
    unrolling = Unrolling(system)
    solver = z3.SolverFor("QF_FD")
    solver.add(unrolling.at(in_state(system, state), 0), *unrolling.step(0))
    while solver.check() == z3.sat:
        model = solver.model()
        run = unrolling.run(model, 1)
        yield run.fired[0], run.states[1]
        number = [transition.name for transition in system.transitions].index(run.fired[0])
        found = unrolling.at(fired(system, number), 0), unrolling.at(in_state(system, run.states[1]), 1)
        solver.add(z3.Not(z3.And(*found)))
