"""Engines on the step relation: bounded model checking and k-induction.

Both look for a run to the goal of a ``reachability.Question``. What they find is
replayed and confirmed by evaluation before it is handed out; a contradiction is
a tool error. A limit that is reached leaves the verdict unknown.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import replace

import z3

from avicheck.checker.engine import INTERRUPTED, EngineResult
from avicheck.checker.errors import InputError
from avicheck.checker.interrupt import check, deferred
from avicheck.checker.verdict import Verdict
from avicheck.encodings.expr import Expr, and_, evaluate, not_, or_
from avicheck.encodings.reachability import Question, confirm, escapes, question
from avicheck.encodings.to_z3 import Term
from avicheck.encodings.transition import (
    Property,
    ReplayError,
    Run,
    Transition,
    TransitionSystem,
    Values,
    replay,
)
from avicheck.encodings.unroll import Unrolling, in_initial


class OutOfTimeError(Exception):
    """The limit is reached, or the solver gave up; the message says which."""


class Task:
    """One engine at work on one property, with its clock: from what it finds to its result."""

    def __init__(self, engine: str, system: TransitionSystem, asked: Property, limit: float) -> None:
        self.engine, self.system, self.asked, self.limit = engine, system, asked, limit
        self.question: Question = question(system, asked)
        self._escapes = escapes(self.question.system)
        self._start = time.perf_counter()

    @property
    def goal(self) -> Expr:
        """What to look for: the question's goal, or an update out of its variable's bounds."""
        return or_(self.question.goal, *(condition for _, _, condition in self._escapes))

    def legal(self, transition: Transition) -> Expr:
        """That a transition may fire and keeps to its variables' bounds."""
        broken = [condition for step, _, condition in self._escapes if step is transition]
        return and_(transition.guard, *map(not_, broken))

    @property
    def seconds(self) -> float:
        """The time spent."""
        return time.perf_counter() - self._start

    def check(self, solver: Term, assumptions: Iterable[Term] = ()) -> bool:
        """Whether a solver finds its assertions satisfiable. OutOfTimeError if it cannot tell in time,
        KeyboardInterrupt after a SIGINT."""
        left = self.limit - self.seconds
        if left <= 0:
            raise OutOfTimeError(f"the limit of {self.limit:g} s is reached")
        if left < math.inf:
            solver.set("timeout", max(1, int(left * 1000)))
        answer = check(solver, assumptions)
        if answer == z3.unknown:
            why = solver.reason_unknown()
            late = why in ("timeout", "canceled") or self.seconds >= self.limit
            raise OutOfTimeError(f"the limit of {self.limit:g} s is reached" if late else f"z3: {why}")
        return bool(answer == z3.sat)

    def result(
        self, verdict: Verdict, detail: str, run: Run | None = None, depth: int | None = None
    ) -> EngineResult:
        """A result of this engine."""
        return EngineResult(
            self.engine, self.asked.name, verdict, run, None, None, depth, self.seconds, detail
        )

    def stopped(self, error: BaseException, where: str, depth: int) -> EngineResult:
        """What is known is not enough: the limit is reached, or a SIGINT came."""
        why = INTERRUPTED if isinstance(error, KeyboardInterrupt) else str(error)
        return self.result(Verdict.UNKNOWN, f"{why}, at {where}", depth=depth)

    def reached(self, run: Run) -> EngineResult:
        """A run to the goal was found: the verdict, once the run is replayed and confirmed. InputError if it
        ends where a transition leads beyond a variable's bounds."""
        try:
            replay(self.question.system, run)
            self._check_bounds(run.states[-1])
            shown = self.question.run_of(run)
            confirm(self.system, self.asked, shown)
        except ReplayError as error:
            return self.result(Verdict.TOOL_ERROR, f"the run found is none: {error}")
        steps = len(shown.fired)
        if self.asked.kind == "sometimes":
            return self.result(Verdict.HOLDS, f"reached in {steps} steps", shown, steps)
        return self.result(Verdict.VIOLATED, f"after {steps} steps", shown, steps)

    def _check_bounds(self, state: Values) -> None:
        """InputError if a transition may lead from a state beyond a variable's bounds."""
        for step, var, condition in self._escapes:
            if evaluate([condition], state)[0]:
                (new,) = evaluate([step.updates[var.name]], state)
                raise InputError(var.name, f"from {var.lo} to {var.hi}", str(new), f"after {step.name}")

    def unreachable(self, detail: str, depth: int | None = None) -> EngineResult:
        """The goal was shown to be out of reach by any number of steps."""
        verdict = Verdict.VIOLATED if self.asked.kind == "sometimes" else Verdict.PROVED
        return self.result(verdict, detail, depth=depth)

    def unreached(self, depth: int) -> EngineResult:
        """The goal is out of reach by ``depth`` steps; nothing is known beyond."""
        if self.asked.kind == "sometimes":
            return self.result(Verdict.UNKNOWN, f"not reached within {depth} steps", depth=depth)
        return self.result(Verdict.HOLDS_TO_DEPTH, f"no run of at most {depth} steps breaks it", depth=depth)


@deferred()
def bmc(system: TransitionSystem, asked: Property, *, depth: int, limit: float = math.inf) -> EngineResult:
    """Bounded model checking: ever longer runs, up to ``depth`` steps and ``limit`` seconds, so that the
    run found is a shortest one. Where no run is longer, the property is proved."""
    task = Task("bmc", system, asked, limit)
    path = _Path(task, initial=True)
    try:
        for steps in range(depth + 1):
            found = path.to_goal()
            if found is not None:
                return task.reached(found)
            if not path.exists():
                return task.unreachable(f"no run has more than {steps - 1} steps", steps - 1)
            if steps < depth:
                path.extend()
    except (OutOfTimeError, KeyboardInterrupt) as error:
        return task.stopped(error, f"{path.steps} steps", path.steps - 1)
    return task.unreached(depth)


@deferred()
def induction(
    system: TransitionSystem,
    asked: Property,
    *,
    most: int = 20,
    simple: bool = False,
    limit: float = math.inf,
) -> EngineResult:
    """k-induction for k from 1 to ``most``: proved if no run of k steps from an initial state reaches the
    goal and none of k steps without it, from anywhere, leads to it. Else the verdict is
    ``not inductive``, with such a run: its first state may not be reachable. ``simple`` leaves out runs
    that come back to a state, which makes the method complete: some k decides."""
    task = Task("induction", system, asked, limit)
    base, step = _Path(task, initial=True), _Path(task, initial=False, simple=simple)
    counterexample = None
    k = 0
    try:
        for k in range(1, most + 1):
            found = base.to_goal()
            if found is not None:
                return task.reached(found)
            if not base.exists():
                return task.unreachable(f"no run has more than {base.steps - 1} steps", base.steps - 1)
            base.extend()
            step.avoid_goal()
            step.extend()
            counterexample = step.to_goal()
            if counterexample is None:
                return task.unreachable(f"for any number of steps, by induction with k = {k}", k)
    except (OutOfTimeError, KeyboardInterrupt) as error:
        return task.stopped(error, f"k = {k}", max(0, k - 1))
    if counterexample is None:
        return task.result(Verdict.UNKNOWN, f"k must be at least 1, not at most {most}")
    return _not_inductive(task, counterexample, most)


def _not_inductive(task: Task, run: Run, k: int) -> EngineResult:
    """The result with a counterexample to induction, which is replayed from where it begins."""
    try:
        replay(replace(task.question.system, initial=(run.states[0],)), run)
    except ReplayError as error:
        return task.result(Verdict.TOOL_ERROR, f"the counterexample to induction is no run: {error}")
    if task.asked.kind == "sometimes":
        return task.result(Verdict.UNKNOWN, f"neither reached in {k - 1} steps nor excluded by k = {k}")
    detail = f"counterexample to induction with k = {k}: its first state may not be reachable"
    return task.result(Verdict.NOT_INDUCTIVE, detail, task.question.run_of(run), k)


class _Path:
    """All runs of some number of steps, from the initial states or from anywhere, in one solver."""

    def __init__(self, task: Task, *, initial: bool, simple: bool = False) -> None:
        self._task, self._simple = task, simple
        self._unrolling = Unrolling(task.question.system)
        self._solver = z3.SolverFor("QF_FD")
        self._solver.set("ctrl_c", False)
        self._solver.add(*self._unrolling.bounds(0))
        if initial:
            self._solver.add(self._unrolling.at(in_initial(task.question.system), 0))
        self.steps = 0

    def extend(self) -> None:
        """One step more."""
        self._solver.add(*self._unrolling.step(self.steps))
        self.steps += 1
        if self._simple:
            self._solver.add(*(self._unrolling.differ(i, self.steps) for i in range(self.steps)))

    def exists(self) -> bool:
        """Whether there is a run of so many steps at all."""
        return self._task.check(self._solver)

    def avoid_goal(self) -> None:
        """Leave out the runs whose last state is in the goal."""
        self._solver.add(z3.Not(self._unrolling.at(self._task.goal, self.steps)))

    def to_goal(self) -> Run | None:
        """A run whose last state is in the goal."""
        here = z3.Bool(f"goal@{self.steps}")
        self._solver.add(z3.Implies(here, self._unrolling.at(self._task.goal, self.steps)))
        if self._task.check(self._solver, [here]):
            return self._unrolling.run(self._solver.model(), self.steps)
        return None
