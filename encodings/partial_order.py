"""Partial-order reduction, by control flow alone: where a thread can only do what no other thread can
notice, it goes first.

A label of a thread is private if every step that starts there reads and changes nothing but the thread's
own variables and keeps the value of what is asked. Where a thread can make such a step, these steps are
a persistent set (Godefroid, 1996): whatever the others do in between, they stay possible, and the order
makes no difference. No thread has a cycle of private labels, so that none is put off for ever (Kurshan,
Levin, Minea, Peled and Yenigün, "Static partial order reduction", 1998). The reduced system has runs of the
original alone, reaches all its deadlocks and decides the same invariants; its runs may be longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from avicheck.encodings.control_flow import Edge, Flow, flows, names
from avicheck.encodings.expr import FALSE, TRUE, Expr, and_, constant, eq, not_, or_
from avicheck.encodings.substitute import substitute
from avicheck.encodings.transition import TransitionSystem


@dataclass(frozen=True)
class PartialOrder:
    """A system in which threads at private labels go first. ``private`` has the labels that are, by the
    variable that holds them."""

    system: TransitionSystem
    private: Mapping[str, frozenset[int]]


def partial_order(system: TransitionSystem, asked: Iterable[Expr]) -> PartialOrder:
    """The system reduced. It reaches a state in which one of the conditions ``asked`` holds, or does not,
    exactly if the original does."""
    asked = list(asked)
    threads = flows(system)
    private = {flow.thread: _without_cycles(flow, _private(flow, asked)) for flow in threads}
    waits = [not_(_can_go(flow, private[flow.thread])) for flow in threads]
    told = {flow.counter.name: private[flow.thread] for flow in threads if flow.counter is not None}
    turns: dict[str, Expr] = {}
    for i, flow in enumerate(threads):
        before, behind = and_(*waits[:i]), and_(*waits[i + 1 :])
        for name, edges in flow.by_step.items():
            labels = {edge.label for edge in edges}
            first = TRUE if labels <= private[flow.thread] else _at(flow, labels & private[flow.thread])
            turns[name] = and_(before, or_(first, behind))
    steps = (replace(step, guard=and_(step.guard, turns.get(step.name, TRUE))) for step in system.transitions)
    return PartialOrder(replace(system, transitions=tuple(steps)), told)


def _at(flow: Flow, labels: Iterable[int]) -> Expr:
    """That the thread is at one of some labels."""
    counter = flow.counter
    return FALSE if counter is None else or_(*(eq(counter.expr, constant(label)) for label in sorted(labels)))


def _can_go(flow: Flow, labels: Iterable[int]) -> Expr:
    """That the thread is at one of some labels and can make a step there."""
    return or_(
        *(and_(_at(flow, [label]), or_(*(edge.guard for edge in flow.at[label]))) for label in sorted(labels))
    )


def _private(flow: Flow, asked: Sequence[Expr]) -> list[int]:
    """The labels at which the thread's steps are nobody else's business."""
    if flow.counter is None or flow.counter.name not in flow.own:
        return []
    return [
        label
        for label, edges in flow.at.items()
        if edges and all(_touched(edge) <= flow.own and _keeps(flow, edge, asked) for edge in edges)
    ]


def _touched(edge: Edge) -> frozenset[str]:
    return names(edge.exprs) | edge.updates.keys()


def _keeps(flow: Flow, edge: Edge, asked: Sequence[Expr]) -> bool:
    """Whether a step plainly keeps the value of some conditions."""
    after = {flow.counter.name: constant(edge.label)} if flow.counter else {}
    return substitute(asked, after | dict(edge.updates)) == flow.there(edge.label, asked)


def _without_cycles(flow: Flow, labels: Iterable[int]) -> frozenset[int]:
    """As many of some labels as do not lead back to themselves, taken in their order."""
    taken: frozenset[int] = frozenset()
    for label in labels:
        if label not in _reached(flow, label, taken | {label}):
            taken |= {label}
    return taken


def _reached(flow: Flow, start: int, within: frozenset[int]) -> frozenset[int]:
    """Where some steps may lead from a label, by way of labels ``within`` alone."""
    found: frozenset[int] = frozenset()
    new = {start}
    while new:
        after = {target for label in new for edge in flow.at[label] for target in edge.targets}
        new = (after & within) - found
        found |= new
    return found
