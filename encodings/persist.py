"""Transition systems as bytes, for another run of the same code to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from avicheck.encodings.expr import Expr, Op, postorder, remade
from avicheck.encodings.transition import Exchange, Family, Property, Transition, TransitionSystem, Variable

_OPS: Final = tuple(Op)
_POSITION: Final = {op: i for i, op in enumerate(_OPS)}


def dumped(system: TransitionSystem) -> bytes:
    """A system as bytes. Expressions are numbered in the order in which they were made."""
    roots = [expr for step in system.transitions for expr in (step.guard, *step.updates.values())]
    roots += [expr for prop in system.properties for expr in _exprs(prop)]
    nodes = sorted(postorder([*roots, system.ended]), key=lambda expr: expr.serial)
    number = {expr: i for i, expr in enumerate(nodes)}
    told = {
        "name": system.name,
        "exprs": [
            (_POSITION[e.op], [number[arg] for arg in e.args], e.is_bool, e.lo, e.hi, e.value) for e in nodes
        ],
        "variables": [(v.name, v.lo, v.hi, v.is_bool, v.labels) for v in system.variables],
        "initial": [dict(state) for state in system.initial],
        "transitions": [
            (t.name, t.thread, t.label, number[t.guard], _numbered(t.updates, number), t.source)
            for t in system.transitions
        ],
        "properties": [_told(prop, number) for prop in system.properties],
        "ended": number[system.ended],
        "families": [
            (family.name, [(each.variables, dict(each.values)) for each in family.exchanges])
            for family in system.families
        ],
    }
    return json.dumps(told, separators=(",", ":")).encode()


def _exprs(prop: Property) -> list[Expr]:
    target = [] if prop.target is None else [prop.target]
    return [prop.holds, *target, *(part for _, part in prop.conjuncts)]


def _numbered(values: Mapping[str, Expr], number: Mapping[Expr, int]) -> dict[str, int]:
    return {name: number[value] for name, value in values.items()}


def _told(prop: Property, number: Mapping[Expr, int]) -> dict[str, Any]:
    return {
        "name": prop.name,
        "kind": prop.kind,
        "holds": number[prop.holds],
        "sentence": prop.sentence,
        "target": None if prop.target is None else number[prop.target],
        "conjuncts": [(name, number[part]) for name, part in prop.conjuncts],
        "weak_fairness": prop.weak_fairness,
        "strong_fairness": prop.strong_fairness,
    }


def loaded(content: bytes) -> TransitionSystem:
    """The system that ``dumped`` made the bytes of."""
    told = json.loads(content)
    exprs: list[Expr] = []
    for op, args, is_bool, lo, hi, value in told["exprs"]:
        exprs.append(remade(_OPS[op], tuple(exprs[arg] for arg in args), is_bool, lo, hi, value))
    return TransitionSystem(
        name=told["name"],
        variables=tuple(
            Variable(name, lo, hi, is_bool, tuple(labels))
            for name, lo, hi, is_bool, labels in told["variables"]
        ),
        initial=tuple(told["initial"]),
        transitions=tuple(
            Transition(name, thread, label, exprs[guard], {n: exprs[i] for n, i in updates.items()}, source)
            for name, thread, label, guard, updates, source in told["transitions"]
        ),
        properties=tuple(_property(parts, exprs) for parts in told["properties"]),
        ended=exprs[told["ended"]],
        families=tuple(Family(name, tuple(map(_exchange, parts))) for name, parts in told["families"]),
    )


def _property(told: Mapping[str, Any], exprs: Sequence[Expr]) -> Property:
    return Property(
        name=told["name"],
        kind=told["kind"],
        holds=exprs[told["holds"]],
        sentence=told["sentence"],
        target=None if told["target"] is None else exprs[told["target"]],
        conjuncts=tuple((name, exprs[part]) for name, part in told["conjuncts"]),
        weak_fairness=tuple(told["weak_fairness"]),
        strong_fairness=tuple(told["strong_fairness"]),
    )


def _exchange(told: Sequence[Any]) -> Exchange:
    variables, values = told
    return Exchange(
        tuple((a, b) for a, b in variables),
        {name: tuple((a, b) for a, b in pairs) for name, pairs in values.items()},
    )
