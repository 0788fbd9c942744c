"""Small systems of threads at random: labels, local variables, shared ones, instances that are told apart
or not. What is read where, and by whom, is left to chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from avicheck.encodings.expr import (
    FALSE,
    TRUE,
    Expr,
    add,
    and_,
    constant,
    eq,
    ite,
    le,
    mod,
    not_,
    or_,
)
from avicheck.encodings.transition import (
    Exchange,
    Family,
    Property,
    Transition,
    TransitionSystem,
    Variable,
)

NOBODY = -1


class _Instance:
    """One instance of a thread, and the world as it sees it."""

    def __init__(self, index: int, count: int, labels: int) -> None:
        self.index, self.name = index, f"t[{index}]"
        self.pc = Variable(f"{self.name}.pc", 0, labels - 1)
        self.x = Variable(f"{self.name}.x", 0, 2)
        self.b = Variable(f"{self.name}.b", 0, 1, is_bool=True)
        self.who = Variable(f"{self.name}.who", 0, count - 1)
        self.own = (self.pc, self.x, self.b, self.who)


def threads(seed: int, *, told_apart: bool = False) -> TransitionSystem:
    """Two or three instances of a thread with the same steps. If they are to be ``told_apart``, something
    about one of them is different."""
    chance = random.Random(seed)
    count, labels = chance.choice([2, 2, 3]), chance.randint(2, 4)
    instances = [_Instance(i, count, labels) for i in range(count)]
    y, turn = Variable("y", 0, 2), Variable("turn", NOBODY, count - 1)
    variables = (*(var for each in instances for var in each.own), y, turn)
    recipes = [(k % labels, chance.getrandbits(48)) for k in range(chance.randint(labels, 6))]
    transitions = [
        _step(instances, each, f"s{k}", label, bits, y, turn)
        for each in instances
        for k, (label, bits) in enumerate(recipes)
    ]
    initial = {var.name: 0 for var in variables} | {turn.name: NOBODY}
    if chance.random() < 0.7:
        initial |= {each.who.name: each.index for each in instances}
    odd = chance.randrange(4) if told_apart else None
    if odd == 0:
        extra = chance.getrandbits(48)
        transitions.append(_step(instances, instances[-1], "odd", chance.randrange(labels), extra, y, turn))
    elif odd == 1:
        initial[instances[0].x.name] = 1
    elif odd == 2:
        k = chance.randrange(len(transitions))
        transitions[k] = replace(transitions[k], guard=and_(transitions[k].guard, le(y.expr, constant(1))))
    last = instances[:1] if odd == 3 else instances
    return TransitionSystem(
        f"threads-{seed}",
        variables,
        (initial,),
        tuple(transitions),
        _properties(chance, last, labels, y, turn),
        FALSE if chance.random() < 0.7 else or_(*(eq(each.pc.expr, constant(0)) for each in last)),
        (Family("t", tuple(_exchange(instances, i) for i in range(count - 1))),),
    )


def _exchange(instances: Sequence[_Instance], i: int) -> Exchange:
    pairs = zip(instances[i].own, instances[i + 1].own, strict=True)
    indices = ("turn", *(each.who.name for each in instances))
    return Exchange(tuple((a.name, b.name) for a, b in pairs), dict.fromkeys(indices, ((i, i + 1),)))


def _step(
    instances: Sequence[_Instance],
    me: _Instance,
    name: str,
    label: int,
    bits: int,
    y: Variable,
    turn: Variable,
) -> Transition:
    chance = random.Random(bits)
    mine = constant(me.index)
    other = or_(*(each.b.expr for each in instances if each is not me))
    alone = chance.random() < 0.6
    guards = [*[TRUE] * 4, me.b.expr, not_(me.b.expr), le(me.x.expr, constant(1)), eq(me.who.expr, mine)]
    if not alone:
        guards += [eq(y.expr, constant(0)), eq(turn.expr, mine), eq(turn.expr, constant(NOBODY)), other]
    up, around = constant((label + 1) % (me.pc.hi + 1)), constant(chance.randrange(me.pc.hi + 1))
    values: dict[Variable, list[Expr]] = {
        me.x: [
            constant(0),
            constant(chance.randrange(3)),
            mod(add(me.x.expr, constant(1)), constant(3)),
            ite(me.b.expr, me.x.expr, constant(1)),
        ],
        me.b: [TRUE, FALSE, eq(me.x.expr, constant(1))],
        me.who: [mine],
    }
    if not alone:
        values[me.x].append(y.expr)
        values[me.b] += [eq(turn.expr, mine), other]
        values[me.who].append(ite(le(constant(0), turn.expr), _index(turn), mine))
        values[y] = [constant(0), me.x.expr, mod(add(y.expr, constant(1)), constant(3))]
        values[turn] = [constant(NOBODY), mine, me.who.expr]
    changed = chance.sample(list(values), chance.randint(0, 2))
    updates = {var.name: chance.choice(values[var]) for var in changed}
    if chance.random() < 0.85:
        updates[me.pc.name] = chance.choice([up, up, around, ite(me.b.expr, up, around)])
    guard = and_(eq(me.pc.expr, constant(label)), chance.choice(guards))
    return Transition(f"{me.name}.{name}", me.name, name, guard, updates)


def _index(turn: Variable) -> Expr:
    """Who has the turn, where somebody has."""
    value = constant(0)
    for i in range(1, turn.hi + 1):
        value = ite(eq(turn.expr, constant(i)), constant(i), value)
    return value


def _properties(
    chance: random.Random, instances: Sequence[_Instance], labels: int, y: Variable, turn: Variable
) -> tuple[Property, ...]:
    label, number = constant(chance.randrange(labels)), constant(chance.randrange(3))
    parts = [
        [eq(each.pc.expr, label) for each in instances],
        [and_(eq(each.pc.expr, label), eq(each.x.expr, number)) for each in instances],
        [and_(each.b.expr, not_(eq(turn.expr, constant(each.index)))) for each in instances],
        [eq(y.expr, number)],
        [and_(eq(each.pc.expr, label), eq(each.who.expr, constant(each.index))) for each in instances],
    ]
    some, every = or_(*chance.choice(parts)), and_(*chance.choice(parts))
    fair = tuple(f"{each.name}.s{k}" for each in instances for k in range(2))
    return (
        Property("some", "sometimes", some),
        Property("every", "never", every),
        Property("always", "always", not_(and_(*chance.choice(parts)))),
        Property("then", "leads-to", some, target=every, weak_fairness=fair),
    )
