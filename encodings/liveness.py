"""Liveness as safety: a fair run that never reaches its target exists exactly if a state can be
reached that closes a fair loop without it (Biere, Artho and Schuppan, 2002).

The transformed system may once, at any moment at which the target is asked
for, keep a copy of the state. From then on it avoids the target and notes
what fairness needs to know; when it is back at the copy, the loop is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from avicheck.encodings.expr import FALSE, TRUE, Expr, and_, bool_var, eq, not_, or_
from avicheck.encodings.reachability import Question, can_step
from avicheck.encodings.transition import Property, Run, Transition, TransitionSystem, Variable

_LOOPING: Final = "loop:begun"
_ASKED: Final = "loop:asked"
_MOVED: Final = "loop:moved"
_SAVE: Final = "loop:begin"


def target_of(system: TransitionSystem, asked: Property) -> Expr:
    """The target of a ``leads-to`` property. ValueError if it has none, or names a transition that there
    is not."""
    if asked.kind != "leads-to" or asked.target is None:
        raise ValueError(f"Property {asked.name} must be leads-to with a target, not {asked.kind}")
    names = {transition.name for transition in system.transitions}
    for name in (*asked.weak_fairness, *asked.strong_fairness):
        if name not in names:
            raise ValueError(f"Fairness of {asked.name} must be of a transition, not of {name}")
    return asked.target


def always_property(system: TransitionSystem, asked: Property) -> tuple[TransitionSystem, Property]:
    """A system with an ``always`` property that holds in it exactly if a ``leads-to`` property holds in
    ``system``. ValueError like ``target_of``."""
    target = target_of(system, asked)
    steps = {transition.name: transition for transition in system.transitions}
    looping, before = bool_var(_LOOPING), bool_var(_ASKED)
    pending = and_(or_(before, asked.holds), not_(target))
    copies = {var.name: replace(var, name=f"loop:{var.name}") for var in system.variables}
    strong = {f"loop:enabled {n}": (f"loop:fired {n}", steps[n]) for n in asked.strong_fairness}
    weak = {f"loop:served {n}": steps[n] for n in asked.weak_fairness}

    def noted(fired: Transition | None) -> Mapping[str, Expr]:
        notes = {_ASKED: pending}
        for flag, step in weak.items():
            now = TRUE if step is fired else not_(step.guard)
            notes[flag] = or_(bool_var(flag), and_(looping, now))
        for flag, (done, step) in strong.items():
            notes[flag] = or_(bool_var(flag), and_(looping, step.guard))
            notes[done] = or_(bool_var(done), looping if step is fired else FALSE)
        return notes

    transitions = [
        replace(
            step,
            guard=and_(step.guard, or_(not_(looping), not_(target))),
            updates={**step.updates, **noted(step), _MOVED: looping},
        )
        for step in system.transitions
    ]
    save = {copies[var.name].name: var.expr for var in system.variables}
    transitions.append(Transition(_SAVE, "", _SAVE, and_(not_(looping), pending), {**save, _LOOPING: TRUE}))
    flags = [_LOOPING, _ASKED, _MOVED, *weak, *strong, *(done for done, _ in strong.values())]
    closed = and_(
        bool_var(_MOVED),
        *(eq(var.expr, copies[var.name].expr) for var in system.variables),
        *(bool_var(flag) for flag in weak),
        *(or_(not_(bool_var(flag)), bool_var(done)) for flag, (done, _) in strong.items()),
    )
    stuck = and_(not_(looping), pending, not_(can_step(system)))
    blank = {**{copy.name: copy.lo for copy in copies.values()}, **dict.fromkeys(flags, 0)}
    transformed = TransitionSystem(
        f"{system.name}, loops of {asked.name}",
        (*system.variables, *copies.values(), *(Variable(flag, 0, 1, is_bool=True) for flag in flags)),
        tuple({**state, **blank} for state in system.initial),
        tuple(transitions),
        (),
        system.ended,
    )
    return transformed, Property(asked.name, "always", not_(or_(closed, stuck)), asked.sentence)


def refutable(system: TransitionSystem, asked: Property) -> Question:
    """Whether a ``leads-to`` property can be refuted. Runs come back as lassos, or as runs that end
    where nothing can fire."""
    transformed, never_closed = always_property(system, asked)
    names = [var.name for var in system.variables]

    def run_of(run: Run) -> Run:
        kept = [i for i, name in enumerate(run.fired) if name != _SAVE]
        states = tuple({name: run.states[i][name] for name in names} for i in (*kept, len(run.fired)))
        begun = run.fired.index(_SAVE) if _SAVE in run.fired else len(kept)
        closed = begun < len(kept) and states[begun] == states[-1]
        return Run(states, tuple(run.fired[i] for i in kept), begun if closed else None)

    return Question(transformed, not_(never_closed.holds), run_of)
