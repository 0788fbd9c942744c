"""Why a property fails in a state, or comes true: which part of it, and the variables that decide."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from avicheck.encodings.expr import Expr, Op, evaluate, postorder
from avicheck.encodings.transition import Property, Run, Values


@dataclass(frozen=True)
class Reason:
    """A named part of a property, its value in state number ``at`` of a run, and variables whose values
    there are enough for that."""

    part: str
    holds: bool
    at: int
    variables: tuple[str, ...]


def deciding(expr: Expr, state: Values, known: Container[str] = ()) -> tuple[str, ...]:
    """Some variables whose values alone give an expression the value that it has in a state, and few of
    them, the ``known`` ones not counted: of several conjuncts that are false those of one, of a branch not
    taken none."""
    nodes = list(postorder([expr]))
    values = dict(zip(nodes, evaluate(nodes, state), strict=True))
    names: list[str] = []
    counted = 0
    masks: dict[Expr, int] = {}

    def cost(mask: int) -> tuple[int, int]:
        return (mask & counted).bit_count(), mask.bit_count()

    for node in nodes:
        if node.op is Op.VAR:
            masks[node] = 1 << len(names)
            counted |= 0 if node.value in known else masks[node]
            names.append(str(node.value))
        elif node.op is Op.AND and not values[node]:
            masks[node] = min((masks[arg] for arg in node.args if not values[arg]), key=cost)
        elif node.op is Op.ITE:
            condition, yes, no = node.args
            enough = [masks[condition] | masks[yes if values[condition] else no]]
            if values[yes] == values[no]:
                enough.append(masks[yes] | masks[no])
            masks[node] = min(enough, key=cost)
        else:
            masks[node] = 0
            for arg in node.args:
                masks[node] |= masks[arg]
    return tuple(name for i, name in enumerate(names) if masks[expr] >> i & 1)


def reasons(asked: Property, run: Run) -> list[Reason]:
    """Why a run refutes a property, or for ``sometimes`` reaches it: the conjuncts of ``always`` that are
    false in the last state, those of ``never`` and ``sometimes``, which are all true there; of ``leads-to``
    its cause, where that was last true and asked for what never came."""
    parts = asked.conjuncts or ((asked.name, asked.holds),)
    at = len(run.states) - 1
    if asked.kind == "leads-to":
        at = max(i for i, state in enumerate(run.states) if _true(asked.holds, state))
    return list(_reasons(parts, asked.kind != "always", at, run.states[at]))


def _reasons(parts: tuple[tuple[str, Expr], ...], wanted: bool, at: int, state: Values) -> Iterator[Reason]:
    for name, part in parts:
        if _true(part, state) == wanted:
            yield Reason(name, wanted, at, deciding(part, state))


def _true(expr: Expr, state: Values) -> bool:
    return bool(evaluate([expr], state)[0])
