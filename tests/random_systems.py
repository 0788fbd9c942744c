"""Small transition systems at random, and their exploration by the reference semantics alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hypothesis import strategies as st

from avicheck.encodings import expr as ex
from avicheck.encodings.expr import Expr, evaluate
from avicheck.encodings.transition import Property, Transition, TransitionSystem, Values, Variable, successors

BOUNDS = [(0, 1), (0, 2), (-2, 3), (5, 9), (0, 15), (-(1 << 31), 1 << 31), (0, (1 << 64) - 1), (-3, 1 << 70)]
NUMBERS = [-2, -1, 0, 1, 2, 3, 7, 1 << 31, (1 << 63) - 1, 1 << 63, 1 << 70]
ARITHMETIC = (ex.add, ex.sub, ex.mul, ex.bitand, ex.bitor, ex.bitxor)

Kind: TypeAlias = Literal["always", "never", "sometimes"]


@dataclass(frozen=True)
class Reached:
    """What an exploration finds: numbers of states and transitions, depth, fire counts by transition, the
    largest out-degree, and for each property, and for deadlocks, how far the nearest state is."""

    states: int
    transitions: int
    depth: int
    fired: dict[str, int]
    widest: int
    nearest: dict[str, int | None]
    deadlock: int | None


def variables() -> st.SearchStrategy[tuple[Variable, ...]]:
    """One to four variables, some of them wider than a machine's words."""
    one = st.one_of(
        st.just((0, 1, True)), st.sampled_from(BOUNDS).map(lambda bounds: (bounds[0], bounds[1], False))
    )
    return st.lists(one, min_size=1, max_size=4).map(
        lambda found: tuple(Variable(f"x{i}", lo, hi, is_bool) for i, (lo, hi, is_bool) in enumerate(found))
    )


def integer(draw: st.DrawFn, names: Sequence[Variable], depth: int) -> Expr:
    """An integer expression over some variables."""
    kind = draw(st.integers(0, len(ARITHMETIC) + 8)) if depth else 0
    if kind <= 2:
        number, variable = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from(names))
        return ex.constant(number) if draw(st.booleans()) else ex.as_int(variable.expr)
    a = integer(draw, names, depth - 1)
    if kind == 3:
        return ex.narrow(a, -3, 11)
    if kind == 4:
        return ex.ite(boolean(draw, names, depth - 1), a, integer(draw, names, depth - 1))
    positive = ex.ite(ex.le(ex.constant(0), a), ex.narrow(a, 0, 1 << 80), ex.constant(0))
    if kind == 5:
        return ex.bit_count(positive)
    b = integer(draw, names, depth - 1)
    small = ex.bitand(b, ex.constant(draw(st.sampled_from([7, 90]))))
    if kind <= 7:
        make = ex.floordiv if kind == 6 else ex.mod
        return make(positive, ex.add(small, ex.constant(1)))
    if kind == 8:
        return (ex.shl if draw(st.booleans()) else ex.shr)(a, small)
    return ARITHMETIC[kind - 9](a, b)


def boolean(draw: st.DrawFn, names: Sequence[Variable], depth: int) -> Expr:
    """A boolean expression over some variables; comparisons of a variable with a number are common."""
    kind = draw(st.integers(0, 7)) if depth else 0
    if kind <= 2:
        variable = draw(st.sampled_from(names))
        if variable.is_bool:
            return variable.expr
        return ex.eq(variable.expr, ex.constant(min(variable.lo + draw(st.integers(0, 3)), variable.hi)))
    if kind <= 4:
        make = ex.le if kind == 3 else ex.eq
        return make(integer(draw, names, depth - 1), integer(draw, names, depth - 1))
    parts = [boolean(draw, names, depth - 1) for _ in range(draw(st.integers(1, 3)))]
    if kind == 5:
        return ex.not_(parts[0])
    return ex.and_(*parts) if kind == 6 else ex.ite(parts[0], parts[-1], boolean(draw, names, depth - 1))


@st.composite
def expressions(draw: st.DrawFn) -> tuple[tuple[Variable, ...], list[Expr], Values]:
    """Variables, boolean expressions over them, and a state."""
    names = draw(variables())
    found = [boolean(draw, names, 4) for _ in range(draw(st.integers(1, 4)))]
    return names, found, {v.name: draw(st.integers(v.lo, v.hi)) for v in names}


@st.composite
def systems(draw: st.DrawFn) -> TransitionSystem:
    """Systems whose updates stay within their variables' bounds."""
    names = draw(variables())
    initial = tuple(
        {v.name: draw(st.integers(v.lo, min(v.lo + 2, v.hi))) for v in names}
        for _ in range(draw(st.integers(1, 2)))
    )
    transitions = []
    for i in range(draw(st.integers(1, 6))):
        changed = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
        updates = {v.name: _update(draw, names, v) for v in changed}
        transitions.append(Transition(f"t{i}", f"thread{i % 2}", "step", boolean(draw, names, 2), updates))
    kinds: st.SearchStrategy[Kind] = st.sampled_from(("always", "never", "sometimes"))
    properties = tuple(
        Property(f"p{i}", draw(kinds), boolean(draw, names, 2)) for i in range(draw(st.integers(0, 3)))
    )
    return TransitionSystem("random", names, initial, tuple(transitions), properties, boolean(draw, names, 1))


def _update(draw: st.DrawFn, names: Sequence[Variable], variable: Variable) -> Expr:
    if variable.is_bool:
        return boolean(draw, names, 2)
    low, high = ex.constant(variable.lo), ex.constant(variable.hi)
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return ex.constant(draw(st.integers(variable.lo, min(variable.lo + 3, variable.hi))))
    if kind == 1:
        last = ex.constant(min(variable.lo + 5, variable.hi))
        more = ex.narrow(ex.add(variable.expr, ex.constant(1)), variable.lo, variable.hi)
        return ex.ite(ex.lt(variable.expr, last), more, low)
    value = integer(draw, names, 2)
    return ex.ite(ex.and_(ex.le(low, value), ex.le(value, high)), value, low)


def reach(system: TransitionSystem, most: int, steps: int | None = None) -> Reached | None:
    """Everything, or all within so many steps, by ``successors`` alone; None if there are more states
    than that."""
    order = tuple(v.name for v in system.variables)
    level = list({tuple(state[name] for name in order): state for state in system.initial}.values())
    seen = {tuple(state[name] for name in order) for state in level}
    fired: Counter[str] = Counter({t.name: 0 for t in system.transitions})
    nearest: dict[str, int | None] = {p.name: None for p in system.properties}
    deadlock, widest, depth = None, 0, 0
    while True:
        new: list[Values] = []
        for state in level if depth != steps else ():
            for prop in system.properties:
                holds = bool(evaluate([prop.holds], state)[0])
                if nearest[prop.name] is None and holds != (prop.kind == "always"):
                    nearest[prop.name] = depth
            reached = successors(system, state)
            widest = max(widest, len(reached))
            if not reached and deadlock is None and not evaluate([system.ended], state)[0]:
                deadlock = depth
            for transition, after in reached:
                fired[transition.name] += 1
                key = tuple(after[name] for name in order)
                if key not in seen:
                    seen.add(key)
                    new.append(after)
        if len(seen) > most:
            return None
        if not new or depth == steps:
            return Reached(len(seen), fired.total(), depth, dict(fired), widest, nearest, deadlock)
        level, depth = new, depth + 1
