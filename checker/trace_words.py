"""Steps and states of a run in the words of a model: names, values, what a step changed, what it went by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

from avicheck.checker.systems import Instance, Scope
from avicheck.checker.trace_why import deciding
from avicheck.encodings.expr import Expr, Op, evaluate
from avicheck.encodings.transition import Run, Transition, Values
from avicheck.spec.cpu import FREE
from avicheck.spec.lang import NULL, IndexOf, domains
from avicheck.spec.machine import FLUSH
from avicheck.spec.memory import Place, locations

_FEW: Final = 4
"""More variables than that are not listed as what a step wrote or went by; of more, those in memory are."""

Stores: TypeAlias = tuple[tuple[str, int], ...]
"""What is in a store buffer, oldest first: the names of variables and their new values."""


Access: TypeAlias = Literal["write", "read", "none"]
"""What a step does to the shared state."""


@dataclass(frozen=True)
class Change:
    """A variable that a step gave another value, by its short name: without the thread's, if it is
    ``local``."""

    name: str
    before: str
    after: str
    local: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class Told:
    """One step in words. ``number`` counts from 1: step n leads from state n - 1 to state n. ``action`` is
    its name and choice without the thread; ``changes`` leaves the label out, ``goes_to`` is the label that
    comes next where it is neither the same nor the one straight on. ``notes`` say the rest: what entered
    the store buffer, and of a step that changes nothing in memory what it wrote or went by, as its
    ``access`` says."""

    number: int
    thread: str
    action: str
    source: str
    changes: tuple[Change, ...]
    access: Access
    notes: tuple[str, ...]
    goes_to: str | None

    @property
    def lines(self) -> list[str]:
        """What it did, a line each."""
        went = [f"goto {self.goes_to}"] if self.goes_to else []
        return [*map(str, self.changes), *self.notes, *went]


class Words:
    """The words for one model with everything chosen."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.system = instance.system
        self.machine = instance.encoding.machine
        self.variables = {variable.name: variable for variable in self.system.variables}
        self.transitions = {transition.name: transition for transition in self.system.transitions}
        self.actions = {action.name: action for action in self.machine.actions}
        self._kinds = {name: kind for name, kind, _ in self.machine.instances()}

    @property
    def threads(self) -> tuple[str, ...]:
        """Every thread, in the model's order."""
        return tuple(self._kinds)

    @cached_property
    def _pointers(self) -> frozenset[str]:
        """The variables that may be the null pointer."""
        shared = _domains(self.machine.model.shared, self.machine.scope)
        local = (
            (f"{thread}.{name}", domain)
            for thread, kind in self._kinds.items()
            for name, domain in _domains(kind.locals, self.machine.scope)
        )
        found = (*shared, *local)
        return frozenset(name for name, domain in found if isinstance(domain, IndexOf) and domain.nullable)

    @cached_property
    def _memory(self) -> frozenset[str]:
        """The variables that are words of memory, not registers."""
        return frozenset(at.name for at in locations(self.machine.model.shared, self.machine.scope))

    # Values.

    def value(self, name: str, number: int) -> str:
        """A variable's value as the model writes it."""
        variable = self.variables.get(name)
        if variable is not None and variable.is_bool:
            return "true" if number else "false"
        if variable is not None and 0 <= number < len(variable.labels):
            return variable.labels[number]
        return "NULL" if number == NULL and name in self._pointers else str(number)

    def equations(self, names: Iterable[str], state: Values, verb: str = "=") -> list[str]:
        """The values of some variables in a state, ``name = value`` each; store buffers as what is in
        them."""
        found: dict[str, None] = {}
        for name in names:
            thread, buffer, _ = name.partition(".buffer[")
            if buffer:
                full = bool(self.buffer(thread, state))
                waits = f"{verb} {self.shown_buffer(thread, state)}" if full else "is empty"
                found[f"{thread}'s store buffer {waits}"] = None
            elif name.endswith(".pc") and name.removesuffix(".pc") in self._kinds:
                found[self.place(name.removesuffix(".pc"), state)] = None
            else:
                found[f"{name} {verb} {self.value(name, state[name])}"] = None
        return list(found)

    def place(self, thread: str, state: Values) -> str:
        """A thread with the label that it is at, if it has labels."""
        pc = f"{thread}.pc"
        return f"{thread} at {self.value(pc, state[pc])}" if pc in self.variables else thread

    def failure(self, action: str, state: Values) -> str:
        """Why an action can only fail in a state."""
        world = self.instance.encoding.state(state)
        return next(why for failing, why in self.machine.failures(world) if failing.name == action)

    def is_at_its_label(self, transition: Transition, state: Values) -> bool:
        """Whether the thread of a transition is where it can do that."""
        step = self.actions[transition.name].step
        pc = f"{transition.thread}.pc"
        return step is None or step.at is None or self.value(pc, state[pc]) == step.at

    def blocked(self, transition: Transition, state: Values) -> list[str]:
        """Why a transition cannot happen in a state: its thread is elsewhere, else what it waits for."""
        pc = f"{transition.thread}.pc"
        if not self.is_at_its_label(transition, state):
            return self.equations([pc], state, "is")
        by = [name for name in deciding(transition.guard, state, [pc]) if name != pc]
        return self.equations(by, state, "is")

    # Store buffers.

    def buffer(self, thread: str, state: Values) -> Stores:
        """What waits in a thread's store buffer."""
        places = self.machine.stores(self._kinds[thread])
        found = []
        for i in range(self.machine.scope.get("store_buffer", 0)):
            slot = state.get(f"{thread}.buffer[{i}].at", FREE)
            if slot != FREE:
                name = Place[Any](places[slot - 1], None).name
                found.append((name, state[f"{thread}.buffer[{i}].value"]))
        return tuple(found)

    def shown_buffer(self, thread: str, state: Values) -> str:
        """What waits in a thread's store buffer, in words."""
        stores = (f"{name} = {self.value(name, value)}" for name, value in self.buffer(thread, state))
        return f"({', '.join(stores)})"

    # Steps.

    def short(self, thread: str, name: str) -> str:
        """A variable's name as a thread calls it."""
        return name.removeprefix(f"{thread}.")

    def steps(self, run: Run) -> list[Told]:
        """Every step of a run."""
        return [
            self.told(i + 1, self.transitions[name], run.states[i], run.states[i + 1])
            for i, name in enumerate(run.fired)
        ]

    def told(self, number: int, transition: Transition, before: Values, after: Values) -> Told:
        """One step between two states."""
        thread, label = transition.thread, f"{transition.thread}.pc"
        changed = self.changed(before, after)
        access, notes = self._access(transition, before, after, changed)
        changes = [self._change(thread, name, before, after) for name in changed if name != label]
        return Told(
            number,
            thread,
            self.short(thread, transition.name),
            "" if self._is_flush(transition) else transition.source,
            tuple(changes),
            access,
            tuple(notes),
            self._goes_to(label, before, after),
        )

    def _change(self, thread: str, name: str, before: Values, after: Values) -> Change:
        old, new = self.value(name, before[name]), self.value(name, after[name])
        return Change(self.short(thread, name), old, new, self._is_local(thread, name))

    def changed(self, before: Values, after: Values) -> list[str]:
        """The variables that differ between two states, without the slots of store buffers."""
        return [name for name in self.variables if before[name] != after[name] and ".buffer[" not in name]

    def _is_flush(self, transition: Transition) -> bool:
        return transition.label == FLUSH and self.machine.memory == "tso"

    def _goes_to(self, label: str, before: Values, after: Values) -> str | None:
        if label not in after or after[label] - before[label] in (0, 1):
            return None
        return self.value(label, after[label])

    def _access(
        self, transition: Transition, before: Values, after: Values, changed: Iterable[str]
    ) -> tuple[Access, list[str]]:
        """What a step does to the shared state, and the notes on it."""
        thread = transition.thread
        was, now = self.buffer(thread, before), self.buffer(thread, after)
        notes = [f"store buffer: {name} = {self.value(name, value)}" for name, value in now[len(was) :]]
        shared = [name for name in changed if not self._is_local(thread, name)]
        if any(name in self._memory for name in shared):
            return "write", notes
        if len(now) < len(was):
            name, value = was[0]
            return "write", [f"{name} stays {self.value(name, value)}"]
        if notes:
            return "write" if shared else "none", notes
        written = [name for name in self._written(transition, before) if not self._is_local(thread, name)]
        if not shared and 0 < len(written) <= _FEW:
            return "write", self.equations(written, after, "stays")
        by = self._read(transition, before)
        read = [name for name in by if not self._is_local(thread, name)]
        forwarded = [
            f"{name} is {self.value(name, value)} in the store buffer"
            for i, (name, value) in enumerate(was)
            if f"{thread}.buffer[{i}].value" in by
        ]
        access: Access = "write" if shared or written else "read" if read else "none"
        if shared or len(read) > _FEW:
            read = [name for name in read if name in self._memory]
        return access, self.equations(read, before, "is") + forwarded if len(read) <= _FEW else []

    def _is_local(self, thread: str, name: str) -> bool:
        return name.startswith(f"{thread}.")

    def _written(self, transition: Transition, state: Values) -> list[str]:
        """The variables that a step gives a value of its own."""
        return [
            name
            for name, value in transition.updates.items()
            if _taken(value, state) is not self.variables[name].expr
        ]

    def _read(self, transition: Transition, state: Values) -> list[str]:
        """The variables that decide what a step does, as few as can be beside the thread's own."""
        own = [name for name in self.variables if self._is_local(transition.thread, name)]
        exprs = transition.guard, *transition.updates.values()
        found = {name for expr in exprs for name in deciding(expr, state, own)}
        return [name for name in self.variables if name in found]


def _taken(expr: Expr, state: Values) -> Expr:
    """The branch that an if-then-else comes to."""
    while expr.op in (Op.ITE, Op.NARROW):
        if expr.op is Op.NARROW:
            (expr,) = expr.args
        else:
            condition, yes, no = expr.args
            expr = yes if evaluate([condition], state)[0] else no
    return expr


def _domains(domain: Any, scope: Scope, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every variable of a record, with its domain."""
    if isinstance(domain, tuple):
        sized, inner = domain
        for i in range(scope[sized.array]):
            yield from _domains(inner, scope, f"{name}[{i}]")
    elif hasattr(domain, "__dataclass_fields__") and isinstance(domain, type):
        for field, inner in domains(domain).items():
            yield from _domains(inner, scope, f"{name}.{field}")
    else:
        yield name.removeprefix("."), domain


def switches(threads: Iterable[str]) -> int:
    """How often a run goes on in another thread."""
    return sum(one != other for one, other in pairwise(threads))


def counted(number: int, thing: str) -> str:
    """``1 step``, ``2 steps``; a plural in -es after -ch."""
    plural = "es" if thing.endswith("ch") else "s"
    return f"{number} {thing}{'' if number == 1 else plural}"
