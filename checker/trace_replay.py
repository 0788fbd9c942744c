"""Does a trace fit its model? Every step once more, on the executable model and on the system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.errors import nearest
from avicheck.checker.trace import CHANGED, Trace
from avicheck.checker.trace_words import Words
from avicheck.encodings.expr import Expr, evaluate
from avicheck.encodings.reachability import confirm
from avicheck.encodings.transition import Property, ReplayError, Values, replay
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.threads import World


class Misfit(Exception):
    """A trace is not one of its model. ``step`` is where, counted from 1: 0 for the first state, None for
    the property. The message says where and why in one sentence."""

    def __init__(self, message: str, step: int | None) -> None:
        super().__init__(message)
        self.step = step


class Contradiction(RuntimeError):
    """The executable model and its transition system differ: no result can be relied on."""


def replayed(trace: Trace) -> None:
    """Run a trace again, and look whether it shows what it is for. ``Misfit`` if it is no run of the model,
    or says nothing about its property."""
    try:
        _on_the_model(trace)
        _on_the_system(trace)
    except Misfit as error:
        hint = "" if trace.as_made else f"; {CHANGED}"
        raise Misfit(f"{error}{hint}", error.step) from error.__cause__


def _on_the_system(trace: Trace) -> None:
    """The same by the lifted expressions; the executable model has allowed every step."""
    try:
        replay(trace.instance.system, trace.run)
    except ReplayError as error:
        raise Contradiction(f"The executable model allows what the lifted one does not: {error}") from error
    asked = trace.claim
    if asked is None:
        return
    try:
        confirm(trace.instance.system, asked, trace.run)
    except ReplayError as error:
        raise Misfit(str(error), None) from error
    _same_property(trace, asked)


def _on_the_model(trace: Trace) -> None:
    """The run by the executable model alone."""
    words, run = Words(trace.instance), trace.run
    encoding = trace.instance.encoding
    starts = [encoding.values(world) for world in encoding.machine.initial]
    if run.states[0] not in starts:
        start = min(starts, key=lambda other: len(_differences(words, run.states[0], other)))
        raise Misfit(f"state 0 must be an initial state, with {_first(words, start, run.states[0])}", 0)
    world = encoding.state(run.states[0])
    for i, name in enumerate(run.fired, 1):
        if name not in words.actions:
            hint = nearest(name, words.actions)
            raise Misfit(f"step {i} must be one of the model's, not {name}" + (hint and f"; {hint}"), i)
        outcome = words.actions[name].attempt(world)
        if outcome.failure:
            raise Misfit(f"step {i} ({name}) must succeed, not fail: {outcome.failure}", i)
        if outcome.world is None:
            why = ", ".join(words.blocked(words.transitions[name], run.states[i - 1]))
            raise Misfit(f"step {i} ({name}) must be enabled, not blocked: {why}", i)
        world = outcome.world
        after = encoding.values(world)
        if after != run.states[i]:
            raise Misfit(f"after step {i} ({name}) {_first(words, after, run.states[i], 'must be')}", i)
    if run.loop is not None and run.states[-1] != run.states[run.loop]:
        differ = _first(words, run.states[run.loop], run.states[-1])
        raise Misfit(f"the last state must be state {run.loop} again, with {differ}", len(run.fired))


def _differences(words: Words, wanted: Values, came: Values) -> list[str]:
    return [name for name in words.variables if wanted[name] != came[name]]


def _first(words: Words, wanted: Values, came: Values, verb: str = "=") -> str:
    """The first variable in which two states differ."""
    name = _differences(words, wanted, came)[0]
    return f"{name} {verb} {words.value(name, wanted[name])}, not {words.value(name, came[name])}"


def _same_property(trace: Trace, asked: Property) -> None:
    """The property's predicates in Python say of every state what their expressions say."""
    encoding = trace.instance.encoding
    for number, state in enumerate(trace.run.states):
        world = encoding.state(state)
        for predicate, expr in _predicates(trace, asked):
            if bool(predicate(world)) != bool(evaluate([expr], state)[0]):
                raise Contradiction(f"{asked.name} and its expression differ in state {number}")


Predicate: TypeAlias = Callable[[World[Any]], bool]


def _predicates(trace: Trace, asked: Property) -> list[tuple[Predicate, Expr]]:
    """What the property asks of a state, in both forms."""
    machine = trace.instance.encoding.machine
    if asked.name == DEADLOCK_FREE:
        return [(lambda world: bool(machine.successors(world)) or machine.model.ended(world), asked.holds)]
    if asked.name == STEPS_SUCCEED:
        return [(lambda world: not machine.failures(world), asked.holds)]
    question = next(question for question in machine.model.asked if question.name == asked.name)
    both: list[tuple[Predicate, Expr]] = [(question.holds, asked.holds)]
    if question.target is not None and asked.target is not None:
        both.append((question.target, asked.target))
    return both
