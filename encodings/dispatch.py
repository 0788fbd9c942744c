"""Which transitions to look at in a state: a decision tree over the tests in their guards.

Most guards ask where a thread stands. Code that switches on such a variable once skips, in one
jump, all transitions that wait for other values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from avicheck.encodings.expr import TRUE, Expr, Op, not_, postorder
from avicheck.encodings.transition import Transition

_MAX_DEPTH: Final = 8
_QUICK: Final = 12
"""Subexpressions in a condition that is not worth a branch of its own."""
_MAX_SLOW: Final = 8


@dataclass(frozen=True)
class Rule:
    """A transition, its position in the system, and what is left of its guard."""

    index: int
    transition: Transition
    conjuncts: tuple[Expr, ...]


@dataclass(frozen=True)
class Switch:
    """Nodes to look at where ``variable`` has a value; none where it has another."""

    variable: Expr
    cases: tuple[tuple[int, Tree], ...]


Tree: TypeAlias = "tuple[Rule | Switch, ...]"
"""Nodes that are all looked at."""


def decision_tree(transitions: Iterable[Transition]) -> Tree:
    """The transitions, each exactly once, under the tests that they share."""
    return _arranged([Rule(i, t, _conjuncts(t.guard)) for i, t in enumerate(transitions)], _MAX_DEPTH)


Groups: TypeAlias = tuple[tuple[Expr, ...], ...]
"""Conditions to test one group after the other, as long as all in a group hold."""


def in_order(conjuncts: Iterable[Expr]) -> Groups:
    """Conditions that must all hold: first what is quickly computed, then one by one what takes longer."""
    sized = sorted(((len(list(postorder([part]))), part) for part in conjuncts), key=lambda each: each[0])
    quick = tuple(part for size, part in sized if size <= _QUICK)
    slow = [part for size, part in sized if size > _QUICK]
    last = (tuple(slow[_MAX_SLOW:]),) if slow[_MAX_SLOW:] else ()
    return (*((quick,) if quick else ()), *((part,) for part in slow[:_MAX_SLOW]), *last)


def alternatives(condition: Expr) -> list[Groups]:
    """A condition, which holds if one of these does."""
    negated = condition.args[0] if condition.op is Op.NOT else TRUE
    parts = map(not_, negated.args) if negated.op is Op.AND else [condition]
    return [in_order(_conjuncts(part)) for part in parts]


def _conjuncts(guard: Expr) -> tuple[Expr, ...]:
    if guard is TRUE:
        return ()
    return guard.args if guard.op is Op.AND else (guard,)


def _tested(conjunct: Expr) -> tuple[Expr, int] | None:
    """The variable that a conjunct compares with a constant, and the constant."""
    if conjunct.op is Op.VAR:
        return conjunct, 1
    if conjunct.op is Op.NOT and conjunct.args[0].op is Op.VAR:
        return conjunct.args[0], 0
    if conjunct.op is Op.EQ and conjunct.args[0].op is Op.VAR and conjunct.args[1].op is Op.CONST:
        return conjunct.args[0], conjunct.args[1].lo
    return None


def _arranged(left: list[Rule], depth: int) -> Tree:
    nodes: list[Rule | Switch] = []
    while left:
        tests = [{test[0]: (test[1], c) for c in rule.conjuncts if (test := _tested(c))} for rule in left]
        shared = Counter(variable for found in tests for variable in found)
        variable, uses = max(shared.items(), key=lambda item: item[1], default=(TRUE, 0))
        if uses < 2 or depth == 0:
            return (*nodes, *left)
        cases: dict[int, list[Rule]] = {}
        others = []
        for rule, found in zip(left, tests, strict=True):
            if variable in found:
                value, asked = found[variable]
                rest = tuple(c for c in rule.conjuncts if c is not asked)
                cases.setdefault(value, []).append(Rule(rule.index, rule.transition, rest))
            else:
                others.append(rule)
        arranged = ((value, _arranged(case, depth - 1)) for value, case in sorted(cases.items()))
        nodes.append(Switch(variable, tuple(arranged)))
        left = others
    return tuple(nodes)
