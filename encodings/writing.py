"""What the printers of transition systems share: legal names, named subexpressions, refusals.

A shared subexpression is written once and named, so that a text grows with the
expressions' graph and never with their tree.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from avicheck.encodings.expr import (
    FALSE,
    TRUE,
    Expr,
    Op,
    and_,
    as_int,
    boolean,
    constant,
    eq,
    not_,
    or_,
    postorder,
)
from avicheck.encodings.transition import Transition, TransitionSystem, Variable

LINE: Final = 110
"""A longer subexpression gets a name."""

ENDED: Final = "(ended)"
"""The transition that ``completed`` adds."""


class ExportError(Exception):
    """A system cannot be written in a language: ``<place>: <thing> must be <expectation>, not <came>``."""

    def __init__(self, thing: str, expectation: str, came: str, place: str) -> None:
        super().__init__(f"{place}: {thing} must be {expectation}, not {came}")
        self.thing, self.expectation, self.came, self.place = thing, expectation, came, place


# Systems.


def completed(system: TransitionSystem) -> TransitionSystem:
    """The system with a step from each of its ended states to itself, so that a state is a deadlock
    exactly if nothing can fire. One whose states may all be ended stays as it is."""
    if system.ended is TRUE or system.ended is FALSE:
        return system
    step = Transition(ENDED, "", "", system.ended, {}, "every thread has ended")
    return replace(system, transitions=(*system.transitions, step), ended=FALSE)


def invariants(system: TransitionSystem) -> list[tuple[str, Expr]]:
    """What must hold in every reachable state, by the property's name."""
    return [
        (prop.name, prop.holds if prop.kind == "always" else not_(prop.holds))
        for prop in system.properties
        if prop.kind in ("always", "never")
    ]


def left_out(system: TransitionSystem) -> list[str]:
    """Remarks on the properties that are not invariants."""
    return [
        f"Left out: {prop.name} ({prop.kind})"
        for prop in system.properties
        if prop.kind in ("sometimes", "leads-to")
    ]


def distinct_initial(system: TransitionSystem) -> list[Mapping[str, int]]:
    """The initial states, each once."""
    names = [var.name for var in system.variables]
    return list({tuple(state[name] for name in names): state for state in system.initial}.values())


def new_value(variable: Variable, update: Expr) -> Expr:
    """An update as an expression of its variable's own kind."""
    if variable.is_bool:
        return update if update.is_bool else not_(eq(update, constant(0)))
    return as_int(update)


def updates(system: TransitionSystem, transition: Transition) -> dict[str, Expr]:
    """The new values of the variables that a transition may change, in the system's order."""
    return {
        var.name: new_value(var, transition.updates[var.name])
        for var in system.variables
        if var.name in transition.updates
    }


def stuck(system: TransitionSystem) -> Expr:
    """That a state is a deadlock."""
    return and_(not_(or_(*(t.guard for t in system.transitions))), not_(system.ended))


def is_state(system: TransitionSystem, values: Mapping[str, int]) -> Expr:
    """That a state is the one given."""
    literals = [(var, int(values[var.name])) for var in system.variables]
    return and_(*(eq(var.expr, boolean(v == 1) if var.is_bool else constant(v)) for var, v in literals))


def expressions(system: TransitionSystem) -> Iterator[tuple[str, Expr]]:
    """Every expression that a printer writes, each with its place."""
    for transition in system.transitions:
        place = f"transition {transition.name}"
        yield from ((place, root) for root in (transition.guard, *updates(system, transition).values()))
    yield from ((f"property {name}", holds) for name, holds in invariants(system))


def check_bits(system: TransitionSystem, language: str, bits: int) -> None:
    """Refuse an expression whose value may need more than ``bits`` bits and a sign."""
    limit, seen = 1 << bits, set()
    for place, root in expressions(system):
        for expr in postorder((root,)):
            if expr not in seen and not -limit <= expr.lo <= expr.hi < limit:
                raise ExportError(
                    f"Value of operator {expr.op.value}",
                    f"from -2**{bits} to 2**{bits} - 1",
                    f"{_power(expr.lo)} to {_power(expr.hi)}",
                    f"{language}, {place}",
                )
            seen.add(expr)


def _power(value: int) -> str:
    """A number, or how large it is."""
    if abs(value) < 1 << 64:
        return str(value)
    return f"about {'-' if value < 0 else ''}2**{abs(value).bit_length() - 1}"


# Names and remarks.


def legal_names(names: Iterable[str], prefix: str) -> dict[str, str]:
    """Each name as an identifier: unique whatever the case of its letters, and no keyword because
    of its prefix."""
    legal: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        base = prefix + re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
        unique, count = base, 1
        while unique.lower() in taken:
            count += 1
            unique = f"{base}_{count}"
        taken.add(unique.lower())
        legal[name] = unique
    return legal


def remark(text: str) -> str:
    """A text on one line that ends no comment and no string of any language."""
    plain = text.encode("ascii", "backslashreplace").decode().replace("\\", "/").replace('"', "'")
    return " ".join(plain.replace("*/", "* /").split())


def domain(variable: Variable) -> str:
    """A variable's original name and what its values mean."""
    labels = ", ".join(f"{i} {label}" for i, label in enumerate(variable.labels))
    return remark(f"{variable.name}: {labels}" if labels else variable.name)


def origin(transition: Transition) -> str:
    """A transition's original name, thread and source."""
    parts = (transition.name, transition.thread and f"thread {transition.thread}", transition.source)
    return remark("; ".join(part for part in parts if part))


# Expressions.


@dataclass(frozen=True)
class Syntax:
    """How a language writes expressions: a template per operator with its arguments ``{0}``, ``{1}``,
    ... and its bounds ``{lo}``, ``{hi}``; in parentheses of its own where it needs them. Arguments of
    a conjunction are joined by ``conjunction``."""

    templates: Mapping[Op, str]
    conjunction: str
    truth: tuple[str, str]
    """False and true."""
    suffix: str = ""
    """What follows an integer's digits."""

    def constant(self, value: int) -> str:
        """An integer."""
        digits = f"{abs(value)}{self.suffix}"
        return digits if value >= 0 else f"(-{digits})"

    def apply(self, expr: Expr, args: list[str]) -> str:
        """An application."""
        if expr.op is Op.CONST:
            return self.truth[expr.lo] if expr.is_bool else self.constant(expr.lo)
        if expr.op is Op.AND:
            return f"({self.conjunction.join(args)})"
        bounds = {"lo": self.constant(expr.lo), "hi": self.constant(expr.hi)}
        return self.templates[expr.op].format(*args, **bounds)


@dataclass(frozen=True)
class Named:
    """A subexpression with a name of its own."""

    name: str
    expr: Expr
    text: str


class Block:
    """Writes the expressions of one scope of local names, t1, t2, ...; ``variables`` has the text
    of each state variable."""

    def __init__(self, syntax: Syntax, variables: Mapping[str, str], roots: Iterable[Expr]) -> None:
        roots = list(roots)
        self._syntax, self._variables = syntax, variables
        self._uses = Counter(roots)
        self._uses.update(arg for expr in postorder(roots) for arg in expr.args)
        self._texts: dict[Expr, str] = {}
        self._named: list[Named] = []
        self._count = 0

    def text(self, expr: Expr) -> str:
        """An expression's text; what it needs named is left for ``named``."""
        for part in postorder((expr,)):
            if part not in self._texts:
                self._texts[part] = self._written(part)
        return self._texts[expr]

    def named(self) -> list[Named]:
        """The names made since the last call, each after those that it uses."""
        fresh, self._named = self._named, []
        return fresh

    def _written(self, expr: Expr) -> str:
        if expr.op is Op.VAR:
            return self._variables[str(expr.value)]
        text = self._syntax.apply(expr, [self._texts[arg] for arg in expr.args])
        literal = expr.op is Op.CONST or (expr.op is Op.NOT and not expr.args[0].args)
        if literal or (self._uses[expr] < 2 and len(text) <= LINE):
            return text
        self._count += 1
        self._named.append(Named(f"t{self._count}", expr, text))
        return self._named[-1].name


def conjuncts(guard: Expr) -> list[Expr]:
    """The parts of a conjunction, those that are quick to decide first."""
    parts = guard.args if guard.op is Op.AND else (guard,)
    return sorted(parts, key=lambda part: sum(1 for _ in postorder((part,))))


def parts(system: TransitionSystem) -> list[Expr]:
    """Every subexpression that a printer writes, once."""
    return list(postorder(root for _, root in expressions(system)))


def operators(system: TransitionSystem) -> set[Op]:
    """The operators that a system's expressions use."""
    return {part.op for part in parts(system)}


def hull(system: TransitionSystem) -> tuple[int, int]:
    """The least and the greatest value that a variable or a subexpression can take."""
    bounds = [(var.lo, var.hi) for var in system.variables] + [(part.lo, part.hi) for part in parts(system)]
    return min(lo for lo, _ in bounds), max(hi for _, hi in bounds)
