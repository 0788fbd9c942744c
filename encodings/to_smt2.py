"""Transition systems as SMT-LIB 2 (logic QF_BV): predicates over a state, and over two of them.

``init``, ``domain``, ``deadlock``, ``bad`` and the invariants speak of one state, ``trans`` and the
steps of a state and its successor. The script ends in one step of bounded model checking.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from avicheck.encodings.bitvectors import Translator, width_of
from avicheck.encodings.expr import Expr, and_, eq, or_
from avicheck.encodings.transition import Transition, TransitionSystem, Variable
from avicheck.encodings.writing import (
    distinct_initial,
    domain,
    invariants,
    is_state,
    left_out,
    legal_names,
    origin,
    remark,
    stuck,
    updates,
)

NEXT: Final = ".next"
"""Ends the name of a variable of the successor."""


class LetBuilder:
    """A ``Builder`` whose applications are bound by name, in levels: one level's need only those
    of the levels before it."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names = {**names, **{f"{name}{NEXT}": f"{legal}{NEXT}" for name, legal in names.items()}}
        self._levels: list[list[str]] = []
        self._level_of: dict[str, int] = {}

    def bool_const(self, value: bool) -> str:
        return "true" if value else "false"

    def bool_var(self, name: str) -> str:
        return self._names[name]

    def bv_const(self, value: int, width: int) -> str:
        return f"#b{value % (1 << width):0{width}b}"

    def bv_var(self, name: str, width: int) -> str:
        return self._names[name]

    def apply(self, operator: str, args: Sequence[str], width: int) -> str:
        return self._bind(f"({operator} {' '.join(args)})", args)

    def extract(self, high: int, low: int, term: str) -> str:
        return self._bind(f"((_ extract {high} {low}) {term})", (term,))

    def extend(self, bits: int, signed: bool, term: str, width: int) -> str:
        return self._bind(f"((_ {'sign' if signed else 'zero'}_extend {bits}) {term})", (term,))

    def _bind(self, body: str, args: Sequence[str]) -> str:
        name, level = f"t{len(self._level_of)}", 1 + max(self._level_of.get(arg, -1) for arg in args)
        self._level_of[name] = level
        self._levels += [[]] if level == len(self._levels) else []
        self._levels[level].append(f"({name} {body})")
        return name

    def closed(self, term: str) -> str:
        """A term with all that is bound so far."""
        lets = [f"  (let ({' '.join(bindings)})\n" for bindings in self._levels]
        return f"{''.join(lets)}  {term}{')' * len(lets)}"


def text(system: TransitionSystem) -> str:
    """The script."""
    states = [var for var in system.variables if var.is_bool or var.lo < var.hi]
    names = legal_names((var.name for var in states), "v_")
    invariant = invariants(system)
    now, then = ([f"({names[var.name]}{end} {_sort(var)})" for var in states] for end in ("", NEXT))
    one, two = f"({' '.join(now)})", f"({' '.join([*now, *then])})"
    state, successor, first, second = (
        " ".join(f"{name}{end}" for name in names.values()) for end in ("", NEXT, ".0", ".1")
    )
    start = or_(*(is_state(system, values) for values in distinct_initial(system)))
    lines = [
        f"; {remark(system.name)}",
        *(f"; {line}" for line in left_out(system)),
        *(f"; {names[var.name]} is {domain(var)}, from {var.lo} to {var.hi}" for var in states),
        "(set-logic QF_BV)",
        *_predicate("init", one, names, start),
        *_domain(one, names, states),
    ]
    for i, step in enumerate(system.transitions):
        lines += [f"; {origin(step)}", *_predicate(f"step_{i}", two, names, _relation(states, system, step))]
    lines += _either("trans", two, (f"step_{i} {state} {successor}" for i in range(len(system.transitions))))
    for i, (name, holds) in enumerate(invariant):
        lines += [f"; {remark(name)}", *_predicate(f"invariant_{i}", one, names, holds)]
    lines += _predicate("deadlock", one, names, stuck(system))
    broken = [f"not (invariant_{i} {state})" for i in range(len(invariant))]
    lines += [
        *_either("bad", one, [*broken, f"deadlock {state}"]),
        "; Is there a bad state that takes at most one step?",
        *(f"(declare-const {names[var.name]}.{i} {_sort(var)})" for i in range(2) for var in states),
        f"(assert (and (domain {first}) (domain {second}) (init {first})))",
        f"(assert (or (bad {first}) (and (trans {first} {second}) (bad {second}))))",
        "(check-sat)",
        "",
    ]
    return "\n".join(lines)


def _sort(var: Variable) -> str:
    return "Bool" if var.is_bool else f"(_ BitVec {width_of(var.lo, var.hi)})"


def _defined(name: str, arguments: str, body: str) -> list[str]:
    return [f"(define-fun {name} {arguments} Bool", f"{body})"]


def _predicate(name: str, arguments: str, names: Mapping[str, str], holds: Expr) -> list[str]:
    builder = LetBuilder(names)
    return _defined(name, arguments, builder.closed(Translator(builder).term(holds)))


def _domain(arguments: str, names: Mapping[str, str], states: Sequence[Variable]) -> list[str]:
    builder = LetBuilder(names)
    limits = Translator(builder).domains(var.expr for var in states)
    return _defined("domain", arguments, builder.closed(f"(and true {' '.join(limits)})"))


def _either(name: str, arguments: str, calls: Iterable[str]) -> list[str]:
    return _defined(name, arguments, f"  (or false {' '.join(f'({call})' for call in calls)})")


def _relation(states: Sequence[Variable], system: TransitionSystem, step: Transition) -> Expr:
    """That a transition leads from one state to the other."""
    changed = updates(system, step)
    after = [replace(var, name=f"{var.name}{NEXT}").expr for var in states]
    return and_(
        step.guard,
        *(eq(new, changed.get(var.name, var.expr)) for var, new in zip(states, after, strict=True)),
    )
