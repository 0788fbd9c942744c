"""Transition systems as BTOR2, for hardware model checkers.

An input chooses the transition; where the one chosen is not enabled, nothing happens. So runs
of the text are the system's with pauses: the same states are reachable, as early.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from avicheck.encodings.bitvectors import Translator, width_of
from avicheck.encodings.expr import and_, constant, eq, implies, int_var, ite, narrow, not_, or_
from avicheck.encodings.transition import TransitionSystem, Variable
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

_OPERATORS: Final = {
    "not": "not",
    "and": "and",
    "ite": "ite",
    "=": "eq",
    "bvule": "ulte",
    "bvsle": "slte",
    "bvadd": "add",
    "bvsub": "sub",
    "bvmul": "mul",
    "bvudiv": "udiv",
    "bvurem": "urem",
    "bvand": "and",
    "bvor": "or",
    "bvxor": "xor",
    "bvshl": "sll",
    "bvashr": "sra",
    "bvlshr": "srl",
}


class Btor2Builder:
    """A ``Builder`` whose terms are the numbers of lines, each written once; a boolean is one bit."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._known: dict[str, int] = {}
        self._states: dict[str, int] = {}
        self._count = 0

    def line(self, body: str, comment: str = "") -> int:
        """The number of a new line."""
        self._count += 1
        self.lines.append(f"{self._count} {body}" + (f" ; {comment}" if comment else ""))
        return self._count

    def node(self, body: str) -> int:
        """The number of the line that computes something."""
        if body not in self._known:
            self._known[body] = self.line(body)
        return self._known[body]

    def sort(self, width: int) -> int:
        """The sort of so many bits; 0 is a boolean."""
        return self.node(f"sort bitvec {width or 1}")

    def declare(self, kind: str, name: str, width: int, symbol: str, comment: str = "") -> None:
        """A state or an input, from now on the variable called ``name``."""
        self._states[name] = self.line(f"{kind} {self.sort(width)} {symbol}", comment)

    def bool_const(self, value: bool) -> int:
        return self.bv_const(int(value), 1)

    def bool_var(self, name: str) -> int:
        return self._states[name]

    def bv_const(self, value: int, width: int) -> int:
        return self.node(f"const {self.sort(width)} {value % (1 << width):0{width}b}")

    def bv_var(self, name: str, width: int) -> int:
        return self._states[name]

    def apply(self, operator: str, args: Sequence[int], width: int) -> int:
        if operator == "and" and len(args) != 2:
            total = args[0]
            for arg in args[1:]:
                total = self.apply("and", (total, arg), 0)
            return total
        return self.node(f"{_OPERATORS[operator]} {self.sort(width)} {' '.join(map(str, args))}")

    def extract(self, high: int, low: int, term: int) -> int:
        return self.node(f"slice {self.sort(high - low + 1)} {term} {high} {low}")

    def extend(self, bits: int, signed: bool, term: int, width: int) -> int:
        return self.node(f"{'sext' if signed else 'uext'} {self.sort(width)} {term} {bits}")


CHOICE: Final = "(choice)"
FIRST: Final = "(first)"


def text(system: TransitionSystem) -> str:
    """The model. Its bad states: those that break an invariant, in order, and the deadlocks."""
    build = Btor2Builder()
    translator = Translator(build)
    states = [var for var in system.variables if var.is_bool or var.lo < var.hi]
    _declare_states(build, system, states)
    choice = int_var(CHOICE, 0, max(1, len(system.transitions) - 1))
    build.declare("input", CHOICE, width_of(choice.lo, choice.hi), "choice")
    build.lines += [f"; choice {i}: {origin(step)}" for i, step in enumerate(system.transitions)]
    after = {var.name: var.expr for var in states}
    for i, step in reversed(list(enumerate(system.transitions))):
        chosen = and_(eq(choice, constant(i)), step.guard)
        changed = updates(system, step)
        after |= {name: ite(chosen, changed[name], old) for name, old in after.items() if name in changed}
    for var in states:
        value = translator.term(narrow(after[var.name], var.lo, var.hi))
        build.line(f"next {build.sort(_width(var))} {build.bool_var(var.name)} {value}")
    for i, (name, holds) in enumerate(invariants(system)):
        build.line(f"bad {translator.term(not_(holds))} invariant_{i}", remark(name))
    build.line(f"bad {translator.term(stuck(system))} deadlock")
    return "\n".join(
        [f"; {remark(system.name)}", *(f"; {line}" for line in left_out(system)), *build.lines, ""]
    )


def _width(var: Variable) -> int:
    return 0 if var.is_bool else width_of(var.lo, var.hi)


def _declare_states(build: Btor2Builder, system: TransitionSystem, states: Sequence[Variable]) -> None:
    """The states with their initial values. Where there are several of these, a constraint on the
    first state takes their place: the flag ``first`` holds in it alone."""
    names = legal_names((var.name for var in states), "v_")
    initial = distinct_initial(system)
    first = Variable(FIRST, 0, 1, is_bool=True)
    values: dict[Variable, int] = {}
    for var in (*states, first):
        alike = {int(state.get(var.name, 1)) for state in initial}
        if len(alike) == 1:
            values[var] = build.bv_const(alike.pop(), _width(var) or 1)
    for var in states:
        comment = f"{domain(var)}, from {var.lo} to {var.hi}"
        build.declare("state", var.name, _width(var), names[var.name], comment)
    if len(initial) > 1:
        build.declare("state", FIRST, 0, "first")
        build.line(f"next {build.sort(0)} {build.bool_var(FIRST)} {build.bool_const(False)}")
        one_of = or_(*(is_state(system, state) for state in initial))
        build.line(f"constraint {Translator(build).term(implies(first.expr, one_of))}")
    else:
        del values[first]
    for var, value in values.items():
        build.line(f"init {build.sort(_width(var))} {build.bool_var(var.name)} {value}")
