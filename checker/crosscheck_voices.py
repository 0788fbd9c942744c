"""Voices on a concurrent model: what can happen in a state, told in independent ways.

The model's functions as they run; the reference semantics of the lifted system; the explorer's two
successor functions, generated Python and compiled; all solutions of the step relation, and of a relation
written by hand. States are packed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from itertools import chain
from typing import Any, Final, TypeAlias

from avicheck.checker.crosscheck_report import RUN, Steps, Told
from avicheck.checker.errors import InputError
from avicheck.checker.jit import compiled as jit
from avicheck.encodings.expr import Expr
from avicheck.encodings.llvm_graph import labelled
from avicheck.encodings.llvm_successors import successors_text
from avicheck.encodings.machine import Encoding, values_of
from avicheck.encodings.packing import WORD, Layout, PackingError
from avicheck.encodings.symbolic import Symbolic, concrete, leaves_of
from avicheck.encodings.to_llvm import RECORD_EXTRA
from avicheck.encodings.to_python import compile_expand, compile_select
from avicheck.encodings.to_z3 import Term
from avicheck.encodings.transition import TransitionSystem, Values, successors
from avicheck.encodings.unroll import Solutions, Unrolling, fired
from avicheck.spec.machine import STEPS_SUCCEED, Machine
from avicheck.spec.threads import World

GROUP: Final = "avicheck.handwritten"
"""The entry points that name a ``Handwritten`` each, by the model's name."""
OUTSIDE: Final = -1
"""Stands for a state beyond the variables' bounds."""
_TOGETHER: Final = 10
"""States that a solver is asked about at a time."""

Terms: TypeAlias = Mapping[str, Term]

Handwritten: TypeAlias = Callable[[Machine[Any], Terms, Terms], Terms]
"""A step relation written by hand, as z3 terms: from a machine (its scope, options and memory model) and the
values of the system's variables before and after a step (bit vectors of ``width_of`` their bounds, or
booleans) to what must be true of them for a transition to be that step, by the transition's name. About
transitions that it leaves out it says nothing."""


@dataclass(frozen=True)
class Voice:
    """``tell`` takes some states and tells about each, in their order. A voice that knows only some
    transitions names them in ``covers``. One that needs less time to confirm than to tell has ``confirms``:
    whether it would tell exactly these steps of some states."""

    name: str
    tell: Callable[[Sequence[int]], list[Told]]
    covers: frozenset[str] | None = None
    confirms: Callable[[Sequence[int], Sequence[Steps]], bool] | None = None


def conditions(system: TransitionSystem) -> dict[str, Expr]:
    """What is asked of single states, by name: the properties, their targets, whether the run has ended."""
    found = {"ended": system.ended}
    for asked in system.properties:
        found[asked.name] = asked.holds
        if asked.target is not None:
            found[f"{asked.name} (target)"] = asked.target
    return found


def reference(system: TransitionSystem, layout: Layout) -> Voice:
    """The reference semantics: expressions evaluated one by one."""

    def tell(states: Sequence[int]) -> list[Told]:
        found = (successors(system, layout.unpack(state)) for state in states)
        return [
            Told(frozenset((step.name, _packed(layout, after)) for step, after in steps)) for steps in found
        ]

    return Voice("reference semantics", tell)


def run(encoding: Encoding[Any], layout: Layout) -> Voice:
    """The model's own functions on concrete values."""
    machine, worlds, named = encoding.machine, _Worlds(encoding, layout), _predicates(encoding.machine)

    def tell_one(state: int) -> Told:
        world = worlds.unpacked(state)
        steps = ((action.name, worlds.packed(after)) for action, after in machine.successors(world))
        return Told(frozenset(steps), frozenset(name for name, holds in named.items() if holds(world)))

    return Voice(RUN, lambda states: [tell_one(state) for state in states])


class _Worlds:
    """States of a machine, as they run and packed. Most parts of a state, which are what is shared and the
    threads, are parts of other states too."""

    def __init__(self, encoding: Encoding[Any], layout: Layout) -> None:
        world = encoding.world
        self._options = world.options
        self._parts = [_Part(symbols, layout) for symbols in (world.shared, *world.threads)]

    def unpacked(self, state: int) -> World[Any]:
        """The world that a packed state stands for."""
        shared, *threads = (part.unpacked(state & part.mask) for part in self._parts)
        return World(self._options, shared, tuple(threads))

    def packed(self, world: World[Any]) -> int:
        """A world, packed."""
        found = [
            part.packed(value)
            for part, value in zip(self._parts, (world.shared, *world.threads), strict=True)
        ]
        return OUTSIDE if OUTSIDE in found else sum(found)


class _Part:
    """A part of a machine's states, and what it has been so far."""

    def __init__(self, symbols: Any, layout: Layout) -> None:
        names = {str(leaf.expr.value) for leaf in leaves_of(symbols) if isinstance(leaf, Symbolic)}
        self._symbols = symbols
        self._layout = replace(
            layout, fields=tuple(field for field in layout.fields if field.variable.name in names)
        )
        self.mask = sum(field.mask for field in self._layout.fields)
        self.unpacked = cache(lambda bits: concrete(symbols, self._layout.unpack(bits)))
        self.packed = cache(lambda value: _packed(self._layout, values_of(symbols, value)))


def interpreted(system: TransitionSystem, layout: Layout) -> Voice:
    """The explorer's generated Python, each successor marked with its transition."""
    marked, form = labelled(system, layout)
    expand, names = compile_expand(marked, form), [step.name for step in system.transitions]
    select = {name: compile_select([expr], layout) for name, expr in conditions(system).items()}
    bits = layout.words * WORD

    def tell(states: Sequence[int]) -> list[Told]:
        told = []
        for state in states:
            found: list[int] = []
            expand([state], 0, {}, found.append, [0] * len(names), [])
            steps = ((names[after >> bits], after & (1 << bits) - 1) for after in found)
            true = (name for name, holds in select.items() if holds([state], 0, [True]))
            told.append(Told(frozenset(steps), frozenset(true)))
        return told

    return Voice("generated Python", tell)


def compiled(system: TransitionSystem, layout: Layout) -> Voice:
    """The explorer's compiled functions, each successor marked with its transition."""
    marked, form = labelled(system, layout)
    named, names = conditions(system), [step.name for step in system.transitions]
    pointer = ctypes.c_void_p
    types = {"successors": (pointer,) * 5, "holds": (ctypes.c_bool, pointer, pointer)}
    functions, alive = jit([successors_text(marked, form, list(named.values()))], types)
    words = form.words + RECORD_EXTRA
    before = (ctypes.c_uint64 * form.words)()
    room = (ctypes.c_uint64 * (words * (len(names) + 1)))()
    counts, fault = (ctypes.c_uint64 * len(names))(), (ctypes.c_uint64 * 2)()
    asked = {name: bytes(int(i == k) for k in range(len(named))) for i, name in enumerate(named)}
    low = layout.words

    def tell_one(state: int) -> Told:
        before[:low] = [state >> WORD * i & (1 << WORD) - 1 for i in range(low)]
        end = functions["successors"](before, room, counts, fault) or 0
        steps = set()
        for i in range((end - ctypes.addressof(room)) // 8 // words):
            record = room[i * words : i * words + form.words]
            steps.add((names[record[low]], sum(word << WORD * k for k, word in enumerate(record[:low]))))
        return Told(
            frozenset(steps), frozenset(name for name in named if functions["holds"](before, asked[name]))
        )

    def tell(states: Sequence[int], _alive: object = alive) -> list[Told]:
        return [tell_one(state) for state in states]

    return Voice("compiled (LLVM)", tell)


def lifted(system: TransitionSystem, layout: Layout) -> Voice:
    """All that a solver finds for the step relation."""
    tell, confirms = _solved(Solutions(system, layout))
    return Voice("lifted relation (z3)", tell, confirms=confirms)


def stated(machine: Machine[Any], system: TransitionSystem, layout: Layout, relation: Handwritten) -> Voice:
    """All that a solver finds for a relation written by hand. ``InputError`` if it is about a transition
    that there is not."""
    import z3

    numbers = {step.name: number for number, step in enumerate(system.transitions)}
    covers: set[str] = set()

    def constraints(unrolling: Unrolling) -> Iterable[Term]:
        before, after = ({var.name: unrolling.at(var.expr, i) for var in system.variables} for i in range(2))
        parts = relation(machine, before, after)
        for name in parts:
            if name not in numbers:
                raise InputError("Hand-written relation", "about transitions of the model", name, system.name)
        covers.update(parts)
        chosen = {name: unrolling.at(fired(system, numbers[name]), 0) for name in parts}
        yield z3.Or([z3.And(chosen[name], part) for name, part in parts.items()])

    tell, confirms = _solved(Solutions(system, layout, constraints))
    return Voice("hand-written relation", tell, frozenset(covers), confirms)


def handwritten(model: str) -> Handwritten | None:
    """The relation that is registered for a model, if any."""
    for point in entry_points(group=GROUP, name=model):
        found: Handwritten = point.load()
        return found
    return None


def voices(encoding: Encoding[Any], layout: Layout, relation: Handwritten | None) -> list[Voice]:
    """Every voice there is, the one that the others are compared with first."""
    system = encoding.system
    found = [
        run(encoding, layout),
        reference(system, layout),
        interpreted(system, layout),
        compiled(system, layout),
        lifted(system, layout),
    ]
    if relation is not None:
        found.append(stated(encoding.machine, system, layout, relation))
    return found


def _solved(
    solutions: Solutions,
) -> tuple[Callable[[Sequence[int]], list[Told]], Callable[[Sequence[int], Sequence[Steps]], bool]]:
    """A solver's ``tell`` and ``confirms``."""

    def tell(states: Sequence[int]) -> list[Told]:
        steps: dict[int, set[tuple[str, int]]] = {state: set() for state in states}
        for start in range(0, len(states), _TOGETHER):
            for before, name, after in solutions.of(states[start : start + _TOGETHER]):
                steps[before].add((name, after))
        return [Told(frozenset(steps[state])) for state in states]

    def confirms(states: Sequence[int], steps: Sequence[Steps]) -> bool:
        told = [[(state, *step) for step in found] for state, found in zip(states, steps, strict=True)]
        return all(
            solutions.are(states[start : start + _TOGETHER], chain(*told[start : start + _TOGETHER]))
            for start in range(0, len(states), _TOGETHER)
        )

    return tell, confirms


def _predicates(machine: Machine[Any]) -> dict[str, Callable[[World[Any]], bool]]:
    """The conditions as the model's functions."""
    model = machine.model
    found: dict[str, Callable[[World[Any]], bool]] = {"ended": model.ended}
    for asked in model.asked:
        found[asked.name] = asked.holds
        if asked.target is not None:
            found[f"{asked.name} (target)"] = asked.target
    found[STEPS_SUCCEED] = lambda world: not machine.failures(world)
    return found


def _packed(layout: Layout, values: Values) -> int:
    try:
        return layout.pack(values)
    except PackingError:
        return OUTSIDE
