"""Concurrent models as transition systems, and their states in both forms."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeAlias, TypeVar

from avicheck.encodings import expr as ex
from avicheck.encodings.expr import Expr, Op
from avicheck.encodings.families import families
from avicheck.encodings.lift import NEVER, Lifter, LiftError, concrete, lifting, symbolic, to_expr
from avicheck.encodings.refusal import check_rule
from avicheck.encodings.symbolic import Symbolic, SymEnum, parts_of
from avicheck.encodings.transition import Property, Transition, TransitionSystem, Values, Variable
from avicheck.spec.cpu import FREE, Store
from avicheck.spec.lang import Range, Scope, record
from avicheck.spec.machine import FLUSH, STEPS_SUCCEED, Action, Machine, MemoryModel
from avicheck.spec.memory import ModelError, Path, bounds, locations
from avicheck.spec.threads import Asked, Model, Step, Thread, ThreadState, World

S = TypeVar("S")

Stored: TypeAlias = Mapping[str, tuple[Path, ...]]
"""To which locations the plain stores of a thread go, by its name."""


def machine(
    model: Model[S], scope: Scope, memory: MemoryModel = "sc", options: Iterable[Enum] = ()
) -> TransitionSystem:
    """A model of one scope as a transition system. ModelError, LiftError if it cannot be one."""
    return encode(Machine(model, scope, memory, options)).system


@dataclass(frozen=True)
class Encoding(Generic[S]):
    """A machine that runs, the same as a transition system, and the symbolic state that links them."""

    machine: Machine[S]
    system: TransitionSystem
    world: World[S]

    def values(self, world: World[S]) -> Values:
        """A state of the machine as one of the system."""
        return values_of(self.world, world)

    def state(self, values: Values) -> World[S]:
        """A state of the system as one of the machine."""
        return concrete(self.world, dict(values))


def encoded_before(machine: Machine[S], stored: Stored, system: TransitionSystem) -> Encoding[S]:
    """What ``encode`` made of a machine before: its system, and the ``stored`` of its machine."""
    if stored:
        machine = Machine(machine.model, machine.scope, machine.memory, machine.options, stored)
    return Encoding(machine, system, _symbolic_world(machine))


def encode(machine: Machine[S]) -> Encoding[S]:
    """Lift a machine. Its store buffers get room for the locations that each thread does store to."""
    try:
        with lifting() as lifter:
            for thread in machine.model.threads:
                for step in thread.steps:
                    check_rule(step.function)
            if machine.memory == "tso":
                stored = _stored(lifter, machine)
                machine = Machine(machine.model, machine.scope, machine.memory, machine.options, stored)
            world = _symbolic_world(machine)
            return Encoding(machine, _system(lifter, machine, world), world)
    except LiftError as error:
        if isinstance(error.__cause__, ModelError):
            raise error.__cause__ from None
        raise


def _system(lifter: Lifter, machine: Machine[S], world: World[S]) -> TransitionSystem:
    variables = tuple(_variable(leaf) for leaf, _ in _leaves(world, world))
    model = machine.model
    lifted = [(action, _lifted(lifter, action, world)) for action in machine.actions]

    def condition(predicate: Callable[[World[S]], bool]) -> Expr:
        return to_expr(lifter.call(inspect.unwrap(predicate), (world,), {}))

    def asked(question: Asked[S]) -> Property:
        conjuncts = tuple((part.__name__, condition(part)) for part in question.conjuncts)
        return Property(
            name=question.name,
            kind=question.kind,
            holds=ex.and_(*(part for _, part in conjuncts)),
            sentence=question.sentence,
            target=condition(question.target) if question.target else None,
            conjuncts=conjuncts,
            weak_fairness=_names(machine, question.weak, flushes=question.kind == "leads-to"),
            strong_fairness=_names(machine, question.strong),
        )

    return TransitionSystem(
        name=model.name,
        variables=variables,
        initial=tuple(_initial(variables, values_of(world, start)) for start in machine.initial),
        transitions=tuple(_transition(action, outcome, world) for action, outcome in lifted),
        properties=(*(asked(question) for question in model.asked), _steps_succeed(lifted)),
        ended=condition(model.ended),
        families=families(machine),
    )


def _names(machine: Machine[Any], steps: tuple[Step, ...], *, flushes: bool = False) -> tuple[str, ...]:
    return tuple(
        action.name
        for action in machine.actions
        if action.step in steps or (flushes and action.label == FLUSH and action.step is None)
    )


def _initial(variables: tuple[Variable, ...], values: Values) -> Values:
    for variable in variables:
        value = values[variable.name]
        if not variable.lo <= value <= variable.hi:
            raise ModelError(
                f"Initial {variable.name} must be from {variable.lo} to {variable.hi}, not {value}"
            )
    return values


# Transitions.


@record
class _Lifted:
    """Whether an action can happen, whether it fails, and the world after it (if it can happen)."""

    enabled: bool
    failed: bool
    world: Any


def _lifted(lifter: Lifter, action: Action, world: World[Any]) -> _Lifted:
    def attempt(world: World[Any]) -> Any:
        outcome = action.attempt(world)
        if outcome.failure:
            return NEVER if lifter.infeasible() else _Lifted(False, True, NEVER)
        return _Lifted(False, False, NEVER) if outcome.world is None else _Lifted(True, False, outcome.world)

    found: _Lifted = lifter.call(attempt, (world,), {})
    return found


def _transition(action: Action, lifted: _Lifted, world: World[Any]) -> Transition:
    updates = {}
    if lifted.enabled is not False:
        for leaf, after in _leaves(world, lifted.world):
            if (value := to_expr(after)) is not leaf.expr:
                updates[str(leaf.expr.value)] = ex.narrow(value, leaf.expr.lo, leaf.expr.hi)
    guard = to_expr(lifted.enabled)
    return Transition(action.name, action.thread, action.label, guard, updates, action.source)


def _steps_succeed(actions: Iterable[tuple[Action, _Lifted]]) -> Property:
    conjuncts = tuple(
        (action.name, ex.not_(to_expr(lifted.failed)))
        for action, lifted in actions
        if lifted.failed is not False
    )
    return Property(
        name=STEPS_SUCCEED,
        kind="always",
        holds=ex.and_(*(part for _, part in conjuncts)),
        sentence="No step fails: every index and value is in bounds, and no BUG_ON fires.",
        conjuncts=conjuncts,
    )


# States.


def _symbolic_world(machine: Machine[S]) -> World[S]:
    """The world with a variable for every leaf, named by its path."""
    scope = machine.scope

    def state(name: str, kind: Thread[Any], index: int, start: ThreadState[Any]) -> ThreadState[Any]:
        pc = symbolic(kind.labels, scope, f"{name}.pc") if kind.labels is not None else None
        slots = _slot_domains(machine, kind)
        buffer = tuple(
            Store(*(symbolic(slots[field], scope, f"{name}.buffer[{i}].{field}") for field in slots))
            for i in range(len(start.buffer))
        )
        return ThreadState(kind, index, pc, symbolic(kind.locals, scope, name), buffer)

    threads = zip(machine.instances(), machine.initial[0].threads, strict=True)
    shared = symbolic(machine.model.shared, scope, "")
    world = World(machine.options, shared, tuple(state(*which, start) for which, start in threads))
    names = [leaf.expr.value for leaf, _ in _leaves(world, world)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ModelError(f"Variable of {machine.model.name} must have one meaning, not two: {twice[0]}")
    return world


def _slot_domains(machine: Machine[Any], kind: Thread[Any]) -> dict[str, Range]:
    stores = machine.stores(kind)
    ends = [
        end
        for at in locations(machine.model.shared, machine.scope)
        if at.path in stores
        for end in bounds(at.domain, machine.scope)
    ]
    return {"at": Range(FREE, len(stores)), "value": Range(min([0, *ends]), max([0, *ends]))}


def _stored(lifter: Lifter, machine: Machine[Any]) -> Stored:
    """To which locations the plain stores of each kind of thread go, by its name."""
    world = _symbolic_world(machine)
    positions = {name: (i, kind) for i, (name, kind, _) in enumerate(machine.instances())}
    found: dict[str, set[int]] = {kind.name: set() for kind in machine.model.threads}
    for action in machine.actions:
        if action.step is None:
            continue
        lifted = _lifted(lifter, action, world)
        if lifted.enabled is not False:
            position, kind = positions[action.thread]
            for slot in lifted.world.threads[position].buffer:
                found[kind.name] |= _constants(to_expr(slot.at)) - {FREE}
    kinds = {kind.name: kind for kind in machine.model.threads}
    return {
        name: tuple(machine.stores(kinds[name])[slot - 1] for slot in sorted(slots))
        for name, slots in found.items()
    }


def _constants(value: Expr) -> set[int]:
    """The constants that an expression may be equal to."""
    if value.op is Op.ITE:
        return _constants(value.args[1]) | _constants(value.args[2])
    return {value.lo} if value.op is Op.CONST else set()


def _leaves(symbols: Any, value: Any) -> Iterator[tuple[Symbolic, Any]]:
    """The variables in a symbolic value, each with what another value of its shape has there."""
    if isinstance(symbols, Symbolic):
        yield symbols, value
        return
    ours, theirs = parts_of(symbols), parts_of(value)
    if ours is not None and theirs is not None:
        for part, other in zip(ours, theirs, strict=True):
            yield from _leaves(part, other)


def values_of(symbols: Any, value: Any) -> Values:
    """The values of the variables in a symbolic value, which are those that another value of its shape has
    in their places."""
    return {str(leaf.expr.value): to_expr(found).lo for leaf, found in _leaves(symbols, value)}


def _variable(leaf: Symbolic) -> Variable:
    labels = tuple(member.name for member in leaf.members) if isinstance(leaf, SymEnum) else ()
    return Variable(str(leaf.expr.value), leaf.expr.lo, leaf.expr.hi, leaf.expr.is_bool, labels)
