"""Systems with few states at random, small ones by hand, and what a plain search says of them."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import strategies as st

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.encodings.expr import (
    FALSE,
    TRUE,
    Expr,
    add,
    and_,
    bitxor,
    constant,
    eq,
    evaluate,
    implies,
    ite,
    le,
    lt,
    mod,
    not_,
    or_,
    shr,
)
from avicheck.encodings.transition import (
    Property,
    Transition,
    TransitionSystem,
    Values,
    Variable,
    successors,
)
from tests.known import naive
from tests.known.naive import Graph, Question

State = tuple[tuple[str, int], ...]
VARIABLES = (
    Variable("b", 0, 1, is_bool=True),
    Variable("n", 0, 3),
    Variable("m", -2, 1),
    Variable("w", 0, 7),
)
ZERO, ONE = constant(0), constant(1)


def frozen(values: Values) -> State:
    return tuple(sorted(values.items()))


def graph_of(system: TransitionSystem) -> Graph[State]:
    """Every reachable state, by the reference semantics."""
    return naive.explore(
        map(frozen, system.initial),
        lambda state: [(step.name, frozen(after)) for step, after in successors(system, dict(state))],
    )


def holds(system: TransitionSystem, graph: Graph[State], asked: Property) -> bool:
    """Whether a property holds, by definition."""
    if asked.name == DEADLOCK_FREE:
        return naive.deadlock_free(graph, lambda state: true_in(system.ended, state))
    target = asked.target
    question = Question[State](
        asked.kind,
        lambda state: true_in(asked.holds, state),
        None if target is None else lambda state: true_in(target, state),
        asked.weak_fairness,
        asked.strong_fairness,
    )
    return naive.answer(graph, question)


def nearest(system: TransitionSystem, graph: Graph[State], goal: Expr) -> int | None:
    """How many steps away the nearest state is in which ``goal`` holds; None if there is none."""
    level, seen, depth = {frozen(state) for state in system.initial}, set[State](), 0
    while level:
        if any(true_in(goal, state) for state in level):
            return depth
        seen |= level
        level, depth = {after for state in level for _, after in graph[state]} - seen, depth + 1
    return None


def true_in(expr: Expr, state: State) -> bool:
    return evaluate([expr], dict(state)) == [1]


def every_state(system: TransitionSystem) -> list[Values]:
    """All states within the variables' bounds, reachable or not."""
    states: list[Values] = [{}]
    for var in system.variables:
        states = [{**state, var.name: value} for state in states for value in range(var.lo, var.hi + 1)]
    return states


# At random.


def numbers() -> st.SearchStrategy[Expr]:
    n, m, w = (var.expr for var in VARIABLES[1:])
    parts = [
        n,
        m,
        w,
        ZERO,
        ONE,
        constant(2),
        add(n, m),
        add(n, ONE),
        shr(w, ONE),
        bitxor(w, n),
        mod(w, add(n, ONE)),
    ]
    return st.sampled_from(parts)


def conditions() -> st.SearchStrategy[Expr]:
    atoms = st.one_of(
        st.just(VARIABLES[0].expr),
        st.builds(le, numbers(), numbers()),
        st.builds(eq, numbers(), st.integers(-2, 7).map(constant)),
    )
    literals = st.one_of(atoms, atoms.map(not_))
    return st.one_of(
        st.just(TRUE), literals, st.builds(and_, literals, literals), st.builds(or_, literals, literals)
    )


def kept(var: Variable, value: Expr) -> Expr:
    """A value where the variable may have it, else its least."""
    inside = and_(le(constant(var.lo), value), le(value, constant(var.hi)))
    return ite(inside, value, constant(var.lo))


@st.composite
def systems(draw: st.DrawFn) -> TransitionSystem:
    """A system of at most 256 states with one property of each kind."""
    names = [f"t{i}" for i in range(draw(st.integers(0, 4)))]
    steps = []
    for name in names:
        changed = draw(st.lists(st.sampled_from(VARIABLES), min_size=1, max_size=3, unique=True))
        updates = {
            var.name: draw(conditions()) if var.is_bool else kept(var, draw(numbers())) for var in changed
        }
        steps.append(Transition(name, name, name, draw(conditions()), updates))
    values = st.fixed_dictionaries({var.name: st.integers(var.lo, var.hi) for var in VARIABLES})
    fair = st.lists(st.sampled_from(names), max_size=2, unique=True) if names else st.just([])
    asked = (
        Property("always", "always", draw(conditions())),
        Property("never", "never", and_(draw(conditions()), draw(conditions()))),
        Property("sometimes", "sometimes", and_(draw(conditions()), draw(conditions()))),
        Property(
            "leads-to",
            "leads-to",
            draw(conditions()),
            target=draw(conditions()),
            weak_fairness=tuple(draw(fair)),
            strong_fairness=tuple(draw(fair)),
        ),
    )
    initial = tuple(draw(st.lists(values, min_size=1, max_size=3)))
    return TransitionSystem("random", VARIABLES, initial, tuple(steps), asked, draw(conditions()))


# By hand.


def step(name: str, guard: Expr, updates: Mapping[str, Expr]) -> Transition:
    return Transition(name, name, name, guard, updates)


def counter() -> TransitionSystem:
    """Counts from 0 to 5 and round again; from 8, which is not reachable, on to 12."""
    x = Variable("x", 0, 12)
    far = and_(le(constant(8), x.expr), lt(x.expr, constant(12)))
    return TransitionSystem(
        "counter",
        (x,),
        ({"x": 0},),
        (
            step("up", or_(lt(x.expr, constant(5)), far), {"x": add(x.expr, ONE)}),
            step("again", eq(x.expr, constant(5)), {"x": ZERO}),
        ),
        (
            Property("not 12", "never", eq(x.expr, constant(12))),
            Property("below 4", "always", lt(x.expr, constant(4))),
            Property("5", "sometimes", eq(x.expr, constant(5))),
            Property("7", "sometimes", eq(x.expr, constant(7))),
        ),
        FALSE,
    )


def lockstep() -> TransitionSystem:
    """Two equal numbers that move together or rest: that one is never ahead needs an invariant."""
    x, y = Variable("x", 0, 7), Variable("y", 0, 7)
    move = {var.name: mod(add(var.expr, ONE), constant(8)) for var in (x, y)}
    ahead = and_(eq(x.expr, ZERO), eq(y.expr, ONE))
    steps = (step("move", TRUE, move), step("rest", TRUE, {}))
    return TransitionSystem(
        "lockstep", (x, y), ({"x": 0, "y": 0},), steps, (Property("ahead", "never", ahead),), FALSE
    )


def ring() -> TransitionSystem:
    """Three stations, of which one has the token. A station may want to work, then works when it has the
    token; a station that does not want it passes it on, or may keep it."""
    token = Variable("token", 0, 2)
    stations = [Variable(f"station {i}", 0, 2, labels=("IDLE", "WANTS", "WORKS")) for i in range(3)]
    steps = []
    for i, station in enumerate(stations):
        state, here, on = station.expr, eq(token.expr, constant(i)), {"token": constant((i + 1) % 3)}
        steps += [
            step(f"want {i}", eq(state, ZERO), {station.name: ONE}),
            step(f"work {i}", and_(eq(state, ONE), here), {station.name: constant(2)}),
            step(f"done {i}", eq(state, constant(2)), {station.name: ZERO}),
            step(f"pass {i}", and_(here, not_(eq(state, constant(2)))), on),
        ]
    wants, works = eq(stations[0].expr, ONE), eq(stations[0].expr, constant(2))
    passing = tuple(f"pass {i}" for i in range(3))
    done = tuple(f"done {i}" for i in range(3))
    served = (*passing, "work 0")
    asked = (
        Property("works, unfair", "leads-to", wants, target=works),
        Property("works, weak", "leads-to", wants, target=works, weak_fairness=(*done, *served)),
        Property(
            "works, strong", "leads-to", wants, target=works, weak_fairness=done, strong_fairness=served
        ),
        Property("rests, unfair", "leads-to", works, target=not_(works)),
        Property("rests, weak", "leads-to", works, target=not_(works), weak_fairness=done),
        Property(
            "alone",
            "always",
            implies(works, and_(*(not_(eq(other.expr, constant(2))) for other in stations[1:]))),
        ),
    )
    start = {"token": 0, **{station.name: 0 for station in stations}}
    return TransitionSystem("ring", (token, *stations), (start,), tuple(steps), asked, FALSE)


def beyond() -> TransitionSystem:
    """A number that leaves its bounds in the fourth step."""
    x = Variable("x", 0, 3)
    asked = Property("fine", "always", TRUE)
    return TransitionSystem(
        "beyond", (x,), ({"x": 0},), (step("up", TRUE, {"x": add(x.expr, ONE)}),), (asked,), FALSE
    )
