"""A model under every combination of its assumptions, as one transition system.

Each assumption becomes a variable that no step changes, and every question ``has(alternative)`` a question
about it. The model is lifted once, and a combination is nothing but a set of initial states.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any, Final

from avicheck.encodings import expr as ex
from avicheck.encodings.control_flow import names
from avicheck.encodings.expr import FALSE, Expr, Op
from avicheck.encodings.machine import Encoding, encode
from avicheck.encodings.substitute import substitute
from avicheck.encodings.symbolic import value_of
from avicheck.encodings.transition import Property, Transition, TransitionSystem, Values, Variable
from avicheck.spec.description import option_name
from avicheck.spec.machine import Machine

_PREFIX: Final = "assume."
"""What sets an assumption's variable apart from the model's own."""


class _Open(frozenset[Enum]):
    """A set of options of which some are left open: a symbolic condition says whether they are in it."""

    conditions: Mapping[Enum, Expr]

    def __contains__(self, option: object) -> bool:
        condition = self.conditions.get(option) if isinstance(option, Enum) else None
        return super().__contains__(option) if condition is None else bool(value_of(condition))


@dataclass(frozen=True)
class Variants:
    """A machine without regard to its alternatives of some assumptions, by name. ``system`` has a variable
    for each of these; its initial states are those of the machine as it was given."""

    encoding: Encoding[Any]
    system: TransitionSystem
    assumptions: Mapping[str, type[Enum]]

    def initial(self, machine: Machine[Any]) -> tuple[Values, ...]:
        """The initial states of the same model with the alternatives that a machine has."""
        general = self.encoding.machine
        stores = {kind.name: general.stores(kind) for _, kind, _ in general.instances() if kind.buffered}
        concrete = Machine(machine.model, machine.scope, machine.memory, machine.options, stores)
        chosen = {
            _variable(name, kind).name: next(i for i, one in enumerate(kind) if one in machine.options)
            for name, kind in self.assumptions.items()
        }
        return tuple({**chosen, **self.encoding.values(world)} for world in concrete.initial)

    def without_assumptions(self, values: Values) -> Values:
        """A state as one of the model with its alternatives chosen."""
        return {name: value for name, value in values.items() if not name.startswith(_PREFIX)}

    def relevant(self, asked: Iterable[Property]) -> frozenset[str]:
        """The assumptions that can influence whether these properties hold: whose alternatives are read
        where something is decided or computed on which they depend. (Cone of influence.)"""
        found = cone(self.system, asked)
        return frozenset(
            name for name, kind in self.assumptions.items() if _variable(name, kind).name in found
        )

    def additions(self, asked: Property) -> frozenset[tuple[str, str, str]]:
        """An assumption and two alternatives of it, as they are written on the command line, of which the
        second allows all steps that the first allows and changes none, whatever else is chosen, nor what the
        property asks of a state: what can be reached with the first can be reached with the second, from the
        same initial states."""
        kept = set()
        for name, one, other in self._step_additions:
            var, alternatives = self._choice(name)
            values = [ex.constant(alternatives.index(each)) for each in (one, other)]
            before, after = (substitute([asked.holds], {var.name: value}) for value in values)
            if before == after:
                kept.add((name, one, other))
        return frozenset(kept)

    @cached_property
    def _step_additions(self) -> frozenset[tuple[str, str, str]]:
        """The same of the steps alone."""
        found = set()
        for name in self.assumptions:
            var, alternatives = self._choice(name)
            steps = [_chosen(self.system.transitions, var, i) for i in range(len(alternatives))]
            for (one, some), (other, more) in itertools.permutations(
                zip(alternatives, steps, strict=True), 2
            ):
                if all(map(_allows, more, some)):
                    found.add((name, one, other))
        return frozenset(found)

    def _choice(self, name: str) -> tuple[Variable, list[str]]:
        """An assumption's variable, and its alternatives as they are written."""
        kind = self.assumptions[name]
        return _variable(name, kind), [option_name(one) for one in kind]


def variants(machine: Machine[Any], assumptions: Mapping[str, type[Enum]]) -> Variants:
    """Lift a machine without regard to its alternatives of these assumptions."""
    variables = {name: _variable(name, kind) for name, kind in assumptions.items()}
    options = _Open(machine.options)
    options.conditions = {
        one: ex.eq(variables[name].expr, ex.constant(i))
        for name, kind in assumptions.items()
        for i, one in enumerate(kind)
    }
    model = replace(machine.model, initial=lambda scope, _: machine.model.initial(scope, machine.options))
    encoding = encode(Machine(model, machine.scope, machine.memory, options))
    every = (*variables.values(), *encoding.system.variables)
    found = Variants(encoding, replace(encoding.system, variables=every), assumptions)
    return replace(found, system=replace(found.system, initial=found.initial(machine)))


def cone(system: TransitionSystem, asked: Iterable[Property]) -> frozenset[str]:
    """The variables on which it can depend whether these properties hold."""
    found = frozenset[str]()
    for prop in asked:
        found |= names([prop.holds] if prop.target is None else [prop.holds, prop.target])
        if prop.kind == "leads-to":
            found |= names([system.ended, *(step.guard for step in system.transitions)])
    grown = True
    while grown:
        before = found
        for step in system.transitions:
            values = [value for name, value in step.updates.items() if name in found]
            found |= names([step.guard, *values]) if values else frozenset()
        grown = found != before
    return found


def _variable(name: str, alternatives: Collection[Enum] | type[Enum]) -> Variable:
    labels = tuple(one.name for one in alternatives)
    return Variable(f"{_PREFIX}{name}", 0, len(labels) - 1, labels=labels)


def _chosen(steps: Sequence[Transition], var: Variable, value: int) -> list[Transition]:
    """Steps where a variable has a value."""
    there = {var.name: ex.constant(value)}
    found = []
    for step in steps:
        guard, *values = substitute([step.guard, *step.updates.values()], there)
        found.append(replace(step, guard=guard, updates=dict(zip(step.updates, values, strict=True))))
    return found


def _allows(more: Transition, step: Transition) -> bool:
    """Whether, for all that can be seen, the first may do everything that the second may."""
    if step.guard is FALSE:
        return True
    return _conjuncts(more.guard) <= _conjuncts(step.guard) and more.updates == step.updates


def _conjuncts(guard: Expr) -> frozenset[Expr]:
    if guard is ex.TRUE:
        return frozenset()
    return frozenset(guard.args if guard.op is Op.AND else (guard,))
