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


Solution: TypeAlias = tuple[int, str, int]
"""A packed state, a transition, and the packed state after it."""


class UnansweredError(RuntimeError):
    """The solver gives no answer; the message is its reason."""


class Solutions:
    """Every solution of a relation between a state and the next, both within their bounds, as a solver
    finds them: of the step relation, if no other is given. What ``transition.successors`` computes."""

    def __init__(self, system: TransitionSystem, layout: Layout, relation: Relation | None = None) -> None:
        unrolling = Unrolling(system)
        relating = z3.And(*(unrolling.step(0) if relation is None else relation(unrolling)))
        before, after = unrolling.packed(layout, 0), unrolling.packed(layout, 1)
        packed = before, unrolling.chosen(0), after
        self._layout, self._names = layout, [transition.name for transition in system.transitions]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._terms = [z3.FreshConst(term.sort()) for term in packed]
        bounds = [*unrolling.bounds(0), *unrolling.bounds(1)]
        same = [name == term for name, term in zip(self._terms, packed, strict=True)]
        self._related = _solver([*bounds, *same, relating])
        self._unrelated = _solver([*bounds, *same, z3.Not(relating)])

    def of(self, states: Sequence[int]) -> Iterator[Solution]:
        """The solutions in some packed states, in any order. ``UnansweredError`` if the solver gives up."""
        solver = self._related
        solver.push()
        solver.add(self._in(states))
        while _answered(solver):
            model = solver.model()
            values = [model.eval(term, model_completion=True).as_long() for term in self._terms]
            solver.add(z3.Not(self._is(values)))
            before, step, after = values
            yield before, self._names[step], after
        solver.pop()

    def are(self, states: Sequence[int], expected: Iterable[Solution]) -> bool:
        """Whether the solutions in some packed states are those that are expected, which takes two
        questions: is any of them none, is there another? Errors as for ``of``."""
        found = [(before, self._numbers[name], after) for before, name, after in expected]
        if not all(self._layout.fits(after) for _, _, after in found):
            return False
        each = [self._is(values) for values in found]
        another = [self._in(states), *map(z3.Not, each)]
        return not (_possible(self._unrelated, [z3.Or(each)]) or _possible(self._related, another))

    def _in(self, states: Sequence[int]) -> Term:
        return z3.Or([self._terms[0] == state for state in states])

    def _is(self, values: Sequence[int]) -> Term:
        return z3.And([term == value for term, value in zip(self._terms, values, strict=True)])


def _solver(constraints: Iterable[Term]) -> Term:
    solver = z3.SolverFor("QF_FD")
    solver.set("ctrl_c", False)
    solver.add(*constraints)
    return solver


def _answered(solver: Term) -> bool:
    """Whether what a solver has can be true."""
    answer = solver.check()
    if answer == z3.unknown:
        raise UnansweredError(solver.reason_unknown())
    return bool(answer == z3.sat)


def _possible(solver: Term, more: Iterable[Term]) -> bool:
    """Whether it can with some more, which is forgotten afterwards."""
    solver.push()
    solver.add(*more)
    found = _answered(solver)
    solver.pop()
    return found
