"""The step relation of a transition system: over two copies of its variables as expressions, and over
as many as wanted as z3 terms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeAlias

import z3

from avicheck.encodings.expr import (
    Expr,
    Op,
    and_,
    as_int,
    bool_var,
    constant,
    eq,
    implies,
    int_var,
    ite,
    or_,
    sub,
    variables,
)
from avicheck.encodings.packing import WORD, Layout
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
    return eq(_chosen(system), constant(number))


def _chosen(system: TransitionSystem) -> Expr:
    """The number of the transition that is the step."""
    return int_var(_STEP, 0, max(0, len(system.transitions) - 1))


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

    def chosen(self, i: int) -> Term:
        """The number of the transition that leads from state ``i`` to the next."""
        return self.at(_chosen(self.system), i)

    def packed(self, layout: Layout, i: int) -> Term:
        """State ``i``, if it is within its bounds, as the one number that a layout packs it in."""
        bits = layout.words * WORD
        total = z3.BitVecVal(0, bits)
        for field in layout.fields:
            if field.width:
                value = sub(as_int(field.variable.expr), constant(field.variable.lo))
                total |= z3.ZeroExt(bits - field.width, self.at(value, i)) << field.offset
        return total

    @cached_property
    def _relation(self) -> tuple[Term, list[Expr]]:
        relation = step_relation(self.system)
        used = variables(relation)
        step = [var for var in used if var.value == _STEP]
        return z3.And(*self._translator.domains(step), self._translator.term(relation)), used

    def _fired(self, model: Term, i: int) -> str:
        number: int = model.eval(self.chosen(i), model_completion=True).as_long()
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


Relation: TypeAlias = Callable[[Unrolling], Iterable[Term]]
"""What holds of states 0 and 1 and the transition chosen in between."""


class UnansweredError(RuntimeError):
    """The solver gives no answer; the message is its reason."""


class Solutions:
    """Every solution of a relation between a state and the next, both within their bounds, as a solver
    finds them: of the step relation, if no other is given. What ``transition.successors`` computes."""

    def __init__(self, system: TransitionSystem, layout: Layout, relation: Relation | None = None) -> None:
        unrolling = Unrolling(system)
        constraints = unrolling.step(0) if relation is None else [*unrolling.bounds(1), *relation(unrolling)]
        before, after = unrolling.packed(layout, 0), unrolling.packed(layout, 1)
        step = unrolling.chosen(0)
        self._names = [transition.name for transition in system.transitions]
        self._terms = [z3.FreshConst(term.sort()) for term in (before, step, after)]
        self._solver = z3.SolverFor("QF_FD")
        self._solver.set("ctrl_c", False)
        self._solver.add(*unrolling.bounds(0), *constraints)
        for name, term in zip(self._terms, (before, step, after), strict=True):
            self._solver.add(name == term)

    def of(self, states: Sequence[int]) -> Iterator[tuple[int, str, int]]:
        """The solutions in some packed states, in any order: state, transition, next state.
        ``UnansweredError`` if the solver gives up."""
        self._solver.push()
        self._solver.add(z3.Or([self._terms[0] == state for state in states]))
        while self._satisfiable():
            model = self._solver.model()
            values = [model.eval(term, model_completion=True).as_long() for term in self._terms]
            self._solver.add(z3.Or([term != value for term, value in zip(self._terms, values, strict=True)]))
            before, step, after = values
            yield before, self._names[step], after
        self._solver.pop()

    def _satisfiable(self) -> bool:
        answer = self._solver.check()
        if answer == z3.unknown:
            raise UnansweredError(self._solver.reason_unknown())
        return bool(answer == z3.sat)
