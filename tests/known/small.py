"""Small systems that between them use everything a transition system may hold, and a plain
breadth-first search that says what is true of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from avicheck.encodings.expr import (
    FALSE,
    TRUE,
    Expr,
    add,
    and_,
    bit_count,
    bitand,
    bitor,
    bitxor,
    constant,
    eq,
    evaluate,
    floordiv,
    implies,
    ite,
    le,
    mod,
    mul,
    narrow,
    not_,
    or_,
    shl,
    shr,
    sub,
)
from avicheck.encodings.transition import (
    Property,
    Transition,
    TransitionSystem,
    Values,
    Variable,
    fire,
    successors,
)

State = Mapping[str, int]
ONE = constant(1)
DEADLOCK = "deadlock-free"


@dataclass(frozen=True)
class Explored:
    """What a search found: how many states, how many transitions, how deep, and at which depth each
    property is first decided by a single state: broken, or reached by ``sometimes``."""

    states: tuple[State, ...]
    transitions: int
    depth: int
    found: Mapping[str, int]


def explored(system: TransitionSystem) -> Explored:
    """Search a system breadth-first by the reference semantics."""
    seen = {key(state): 0 for state in system.initial}
    queue = [dict(key) for key in seen]
    found: dict[str, int] = {}
    fired = depth = 0
    for state in queue:
        depth = seen[key(state)]
        for prop in system.properties:
            if prop.kind != "leads-to" and evaluate([prop.holds], state)[0] == (prop.kind != "always"):
                found.setdefault(prop.name, depth)
        steps = successors(system, state)
        fired += len(steps)
        if not steps and not evaluate([system.ended], state)[0]:
            found.setdefault(DEADLOCK, depth)
        for _, reached in steps:
            if key(reached) not in seen:
                seen[key(reached)] = depth + 1
                queue.append(dict(reached))
    return Explored(tuple(queue), fired, depth, found)


def lights() -> TransitionSystem:
    """A traffic light and a pedestrian's: never both green. The golden texts are of this one."""
    light = Variable("light[0].colour", 0, 2, labels=("RED", "AMBER", "GREEN"))
    walk, waited = Variable("walk", 0, 1, is_bool=True), Variable("waited", -1, 3)
    colour, time = light.expr, waited.expr
    longer = ite(le(constant(2), time), constant(2), add(time, ONE))
    return TransitionSystem(
        "lights",
        (light, walk, waited),
        ({"light[0].colour": 0, "walk": 0, "waited": -1}, {"light[0].colour": 1, "walk": 0, "waited": 0}),
        (
            Transition(
                'next "colour"',
                "road",
                "turn",
                not_(walk.expr),
                {"light[0].colour": mod(add(colour, ONE), constant(3)), "waited": constant(-1)},
                "set the colour */",
            ),
            Transition(
                "go",
                "path",
                "go",
                and_(not_(walk.expr), eq(colour, constant(0))),
                {"walk": TRUE, "waited": longer},
            ),
            Transition(
                "stop",
                "path",
                "stop",
                and_(walk.expr, le(longer, constant(3)), not_(eq(longer, constant(4)))),
                {"walk": FALSE, "waited": longer},
            ),
        ),
        (
            Property("safe", "never", and_(walk.expr, eq(colour, constant(2)))),
            Property("red on the way", "always", implies(walk.expr, eq(colour, constant(0)))),
            Property("walked", "sometimes", walk.expr),
            Property("walks again", "leads-to", not_(walk.expr), target=walk.expr),
        ),
        FALSE,
    )


def within(expr: Expr, lo: int, hi: int) -> Expr:
    """An expression where its value lies between two others, elsewhere 7."""
    return ite(and_(le(constant(lo), expr), le(expr, constant(hi))), narrow(expr, lo, hi), constant(7))


def arithmetic() -> TransitionSystem:
    """One walk through every operator on many operands. ``sum`` takes every result in, and at the
    end it must be what evaluating the expressions gives; then the walk has ended."""
    a, n = Variable("a", -4, 3), Variable("n", 0, 7)
    u = Variable("u", 0, 2**32 - 1)
    flag, total = Variable("flag", 0, 1, is_bool=True), Variable("sum", 0, 65520)
    A, N, U, B = a.expr, n.expr, u.expr, flag.expr
    results = (
        add(A, N),
        sub(N, A),
        mul(A, N),
        floordiv(U, add(N, ONE)),
        mod(add(N, constant(9)), add(N, ONE)),
        bitand(A, N),
        bitand(A, constant(-3)),
        bitor(A, N),
        bitxor(A, shl(A, ONE)),
        bitxor(U, constant(0x12345678)),
        shl(A, N),
        shr(A, N),
        shr(U, mul(N, constant(8))),
        mul(shr(U, constant(4)), bitand(U, constant(0xFFFFFF))),
        bit_count(U),
        ite(and_(B, le(A, N)), A, ite(or_(eq(A, N), not_(B)), N, U)),
        within(add(A, N), 0, 5),
        within(sub(A, N), -3, 3),
        ite(B, constant(-100000), constant(100000)),
    )
    turn = Variable("turn", 0, len(results))
    last = eq(N, constant(7))
    steps = [
        Transition(
            f"result {i}",
            "cpu",
            f"turn {i}",
            eq(turn.expr, constant(i)),
            {
                "sum": mod(
                    add(mul(total.expr, constant(31)), bitand(result, constant(0xFFFF))), constant(65521)
                ),
                "turn": constant(i + 1),
                "u": bitand(add(mul(U, constant(3)), add(result, constant(1 << 20))), constant(2**32 - 1)),
                "flag": le(bitand(U, constant(3)), ONE),
            },
        )
        for i, result in enumerate(results)
    ]
    end = eq(turn.expr, constant(len(results)))
    top = and_(last, eq(A, constant(3)))
    steps.append(
        Transition(
            "next operands",
            "cpu",
            "next",
            and_(end, not_(top)),
            {
                "turn": constant(0),
                "n": mod(add(N, ONE), constant(8)),
                "a": ite(last, narrow(add(A, ONE), -4, 3), A),
            },
        )
    )
    start = {"a": -4, "n": 0, "u": 0xFFFFFFFF, "flag": 1, "sum": 1, "turn": 0}
    ended = and_(end, top)
    state: Values | None = start
    while state is not None:
        reached, state = state, fire(steps[state["turn"]], state)
    right = Property("the sum", "always", implies(ended, eq(total.expr, constant(reached["sum"]))))
    variables = (a, n, u, flag, total, turn)
    return TransitionSystem("arithmetic", variables, (start,), tuple(steps), (right,), ended)


def philosophers() -> TransitionSystem:
    """Two philosophers, each taking the fork at the left first: they starve after two steps."""
    forks = [Variable(f"fork {i}", 0, 1, is_bool=True) for i in range(2)]
    hands = [Variable(f"hands {i}", 0, 2) for i in range(2)]
    steps = []
    for i in range(2):
        for count, fork in ((0, forks[i]), (1, forks[1 - i])):
            taken = {fork.name: TRUE, hands[i].name: constant(count + 1)}
            guard = and_(eq(hands[i].expr, constant(count)), not_(fork.expr))
            steps.append(
                Transition(f"{i} takes fork {count}", f"philosopher {i}", f"take {count}", guard, taken)
            )
        freed: dict[str, Expr] = {fork.name: FALSE for fork in forks}
        freed[hands[i].name] = constant(0)
        steps.append(
            Transition(f"{i} eats", f"philosopher {i}", "eat", eq(hands[i].expr, constant(2)), freed)
        )
    both = Property("both eat", "sometimes", and_(*(eq(hand.expr, constant(2)) for hand in hands)))
    start = {var.name: 0 for var in (*forks, *hands)}
    return TransitionSystem("philosophers", (*forks, *hands), (start,), tuple(steps), (both,), FALSE)


def countdown() -> TransitionSystem:
    """Two counters: one property is broken after one step, one after seven, one is reached after two,
    one holds; where it stops, it has ended."""
    up, down = Variable("up", 0, 5), Variable("down", -9, 0)
    return TransitionSystem(
        "countdown",
        (up, down),
        ({"up": 0, "down": 0}, {"up": 1, "down": -9}),
        (
            Transition("up", "up", "up", le(up.expr, constant(4)), {"up": add(up.expr, ONE)}),
            Transition("down", "down", "down", le(constant(-1), down.expr), {"down": sub(down.expr, ONE)}),
        ),
        (
            Property("below two", "always", or_(le(up.expr, ONE), le(constant(-1), down.expr))),
            Property("not at the end", "never", and_(eq(up.expr, constant(5)), eq(down.expr, constant(-2)))),
            Property("half way", "sometimes", eq(up.expr, constant(3))),
            Property("never seven", "always", le(down.expr, up.expr)),
        ),
        TRUE,
    )


SYSTEMS = {make.__name__: cache(make) for make in (lights, arithmetic, philosophers, countdown)}
"""Every system of this module, by name."""


@cache
def sample(name: str) -> tuple[State, ...]:
    """The reachable states of one of ``SYSTEMS``, or every 37th of many."""
    states = explored(SYSTEMS[name]()).states
    return states if len(states) < 100 else states[::37]


def key(state: State) -> tuple[tuple[str, int], ...]:
    """A state, for sets of them."""
    return tuple(sorted(state.items()))


def after(system: TransitionSystem, state: State) -> set[tuple[tuple[str, int], ...]]:
    """The successors of a state by the reference semantics."""
    return {key(values) for _, values in successors(system, state)}
