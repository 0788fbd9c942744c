"""IC3 (property directed reachability; Bradley 2011, Eén, Mishchenko and Brayton 2011): looks for an
inductive invariant, clause by clause, and proves or refutes for any number of steps.

Cubes are conjunctions of bounds on integers and of values of booleans and bits.
An invariant is believed only after three queries of its own, which are written
without the step relation that the search used.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import z3

from avicheck.checker.engine import EngineResult
from avicheck.checker.interrupt import deferred
from avicheck.checker.solve import Query, ask, solve
from avicheck.checker.symbolic import OutOfTimeError, Task
from avicheck.checker.verdict import Verdict
from avicheck.encodings.bitvectors import width_of
from avicheck.encodings.expr import (
    TRUE,
    Expr,
    Op,
    and_,
    bitand,
    constant,
    eq,
    evaluate,
    le,
    not_,
    or_,
    postorder,
    shr,
)
from avicheck.encodings.substitute import substitute
from avicheck.encodings.to_z3 import Term
from avicheck.encodings.transition import Property, Run, Transition, TransitionSystem, Values, Variable, fire
from avicheck.encodings.unroll import Unrolling, in_initial

_BITWISE: Final = frozenset({Op.BITAND, Op.BITOR, Op.BITXOR, Op.SHL, Op.SHR, Op.BITCOUNT})

_LONGEST: Final = 86_400.0
"""Seconds for one query of a certificate where the engine has no limit."""

Cube: TypeAlias = frozenset[Expr]
"""States in which all of some literals hold."""


@dataclass(frozen=True)
class _Obligation:
    """States from which ``fired`` leads into those of ``then``: to be excluded from a frame. The last of a
    chain are in the goal."""

    cube: Cube
    fired: Transition | None = None
    then: _Obligation | None = None


def certificate(system: TransitionSystem, goal: Expr, invariant: Expr) -> tuple[Query, ...]:
    """Three questions whose answers, all unsat, show that no run reaches the goal: the invariant
    holds at first, every transition keeps it, and it excludes the goal."""
    steps = []
    for transition in system.transitions:
        (after,) = substitute([invariant], transition.updates)
        steps.append(and_(transition.guard, not_(after)))
    return (
        ask("initial", "the invariant fails in an initial state", [in_initial(system), not_(invariant)]),
        ask("inductive", "a transition leads out of the invariant", [invariant, or_(*steps)]),
        ask("implies", "the invariant leaves room for the goal", [invariant, goal]),
    )


@deferred()
def ic3(system: TransitionSystem, asked: Property, *, limit: float = math.inf) -> EngineResult:
    """IC3 within ``limit`` seconds: proved, with the invariant in the result; or violated, by a run that
    need not be a shortest one; or unknown."""
    task = Task("ic3", system, asked, limit)
    search = _Search(task)
    try:
        found = search.run()
        if isinstance(found, Run):
            return task.reached(found)
        return _certified(task, found, search.top)
    except (OutOfTimeError, KeyboardInterrupt) as error:
        return task.stopped(error, f"frame {search.top}", search.top)


def _certified(task: Task, clauses: Sequence[Expr], depth: int) -> EngineResult:
    """The result with an invariant, if its certificate is right."""
    invariant = and_(*clauses)
    for query in certificate(task.question.system, task.goal, invariant):
        left = max(0.0, task.limit - task.seconds)
        answer = solve(query, limit=min(left, _LONGEST))
        if answer.status == "sat":
            return task.result(Verdict.TOOL_ERROR, f"the invariant found is none: {query.sentence}")
        if answer.status == "unknown":
            if answer.why == "interrupted from keyboard":
                raise KeyboardInterrupt
            return task.result(Verdict.UNKNOWN, f"the invariant found could not be checked: {answer.why}")
    detail = f"for any number of steps, by an invariant of {len(clauses)} clauses"
    return replace(task.unreachable(detail, depth), invariant=invariant)


class _Frames:
    """A solver with clauses that are switched on by assumptions, and cubes as assumptions, in state
    0 or 1. Clauses of frame i belong to every frame up to i."""

    def __init__(self, task: Task, unrolling: Unrolling, *, step: bool) -> None:
        self._task, self._unrolling = task, unrolling
        self._solver = z3.SimpleSolver()  # for many small questions faster than the one for QF_FD
        self._solver.set("relevancy", 0)
        self._solver.set("ctrl_c", False)
        self._solver.add(*unrolling.bounds(0), *(unrolling.step(0) if step else ()))
        self._once = z3.FreshConst(z3.BoolSort())
        """What makes the condition of the last search count: none, when the next one begins."""
        self._proxies: dict[tuple[Expr, int], Term] = {}
        self._literals: dict[int, Expr] = {}
        self._opposites: dict[Expr, Term] = {}

    def exclude(self, cube: Cube, frame: int) -> None:
        """No state of ``cube`` is in the frames up to this one."""
        self._solver.add(z3.Or(z3.Not(_switch(frame)), self.outside(cube)))

    def only(self, expr: Expr, frame: int) -> None:
        """A frame is described by an expression."""
        self._solver.add(z3.Implies(_switch(frame), self._unrolling.at(expr, 0)))

    def outside(self, cube: Cube) -> Term:
        """That state 0 is not in a cube."""
        for literal in cube - self._opposites.keys():
            self._opposites[literal] = z3.Not(self._unrolling.at(literal, 0))
        return z3.Or([self._opposites[literal] for literal in _sorted(cube)])

    def core(
        self, frames: Iterable[int], condition: Term, cube: Cube = frozenset(), at: int = 0
    ) -> Cube | None:
        """None if, in the frames, some state in which ``condition`` holds is in ``cube``; with ``at`` 1 its
        next state. Else a part of ``cube`` that is excluded already. ``run`` tells the state found."""
        self._solver.add(z3.Not(self._once))
        self._once = z3.FreshConst(z3.BoolSort())
        self._solver.add(z3.Implies(self._once, condition))
        assumed = [self._proxy(literal, at) for literal in _sorted(cube)]
        if self._task.check(self._solver, [*map(_switch, frames), self._once, *assumed]):
            return None
        ids = [term.get_id() for term in self._solver.unsat_core()]
        return frozenset(self._literals[i] for i in ids if i in self._literals)

    def run(self, steps: int) -> Run:
        """What the last search has found."""
        return self._unrolling.run(self._solver.model(), steps)

    def _proxy(self, literal: Expr, i: int) -> Term:
        key = literal, i
        if key not in self._proxies:
            proxy = self._proxies[key] = z3.FreshConst(z3.BoolSort())
            self._literals[proxy.get_id()] = literal
            self._solver.add(z3.Implies(proxy, self._unrolling.at(literal, i)))
        return self._proxies[key]


def _switch(frame: int) -> Term:
    return z3.Bool(f"frame {frame}")


class _Search:
    """The frames: ``levels[i]`` holds the cubes that no state within i steps is in, unless a later
    level says so too."""

    def __init__(self, task: Task) -> None:
        self._system = task.question.system
        self._goal = task.goal
        self._transitions = {step.name: step for step in self._system.transitions}
        self._literals = _Literals(self._system, self._goal)
        self._legal = task.legal
        unrolling = Unrolling(self._system)
        self._steps = _Frames(task, unrolling, step=True)
        self._states = _Frames(task, unrolling, step=False)
        self._goal_term = unrolling.at(self._goal, 0)
        self._unrolling = unrolling
        self._steps.only(in_initial(self._system), 0)
        self._levels: list[set[Cube]] = [set(), set()]
        self._known: dict[Expr, frozenset[int]] = {}
        self._count = itertools.count()

    @property
    def top(self) -> int:
        """The last frame."""
        return len(self._levels) - 1

    def run(self) -> Run | list[Expr]:
        """A run to the goal, or clauses of an invariant."""
        for state in self._system.initial:
            if evaluate([self._goal], state)[0]:
                return Run((state,), ())
        while True:
            while self._states.core(self._from(self.top), self._goal_term) is None:
                first = _Obligation(self._lifted(self._states.run(0).states[0], self._goal))
                run = self._excluded(first)
                if run is not None:
                    return run
            self._levels.append(set())
            fixed = self._pushed()
            if fixed is not None:
                return [not_(and_(*cube)) for cube in fixed]

    def _from(self, frame: int) -> range:
        """The switches of a frame."""
        return range(frame, len(self._levels))

    def _excluded(self, first: _Obligation) -> Run | None:
        """Exclude an obligation from the top frame; else the run that it begins."""
        queue = [(self.top, next(self._count), first)]
        while queue:
            level, _, todo = heapq.heappop(queue)
            start = self._initial_in(todo.cube)
            if start is not None:
                return _run_from(start, todo)
            if any(cube <= todo.cube for cubes in self._levels[level:] for cube in cubes):
                continue
            cube = self._unreached(todo.cube, level - 1)
            if cube is None:
                run = self._steps.run(1)
                step = self._transitions[run.fired[0]]
                before = self._lifted(run.states[0], self._preimage(step, todo.cube))
                heapq.heappush(queue, (level - 1, next(self._count), _Obligation(before, step, todo)))
                heapq.heappush(queue, (level, next(self._count), todo))
                continue
            cube = self._generalised(cube, level - 1)
            while level < self.top and self._unreached(cube, level) is not None:
                level += 1
            self._block(cube, level)
            if level < self.top:
                heapq.heappush(queue, (level + 1, next(self._count), todo))
        return None

    def _unreached(self, cube: Cube, frame: int) -> Cube | None:
        """None if a step leads from a frame, outside a cube, into the cube; else a part of the cube, without
        an initial state, that no such step leads into."""
        part = self._steps.core(self._from(frame), self._steps.outside(cube), cube, 1)
        return None if part is None else self._without_initial(part, cube)

    def _without_initial(self, part: Cube, whole: Cube) -> Cube:
        while (state := self._initial_in(part)) is not None:
            part |= {next(x for x in _sorted(whole) if not evaluate([x], state)[0])}
        return part

    def _generalised(self, cube: Cube, frame: int) -> Cube:
        for literal in _sorted(cube):
            smaller = cube - {literal}
            if literal in cube and smaller and self._initial_in(smaller) is None:
                cube = self._unreached(smaller, frame) or cube
        return cube

    def _block(self, cube: Cube, level: int) -> None:
        for cubes in self._levels[1 : level + 1]:
            cubes -= {other for other in cubes if cube <= other}
        self._levels[level].add(cube)
        self._steps.exclude(cube, level)
        self._states.exclude(cube, level)

    def _pushed(self) -> list[Cube] | None:
        """Move cubes to later frames where they stay excluded; what excludes them for ever, once two
        frames are the same."""
        for level in range(1, self.top):
            for cube in sorted(self._levels[level], key=_order):
                if cube in self._levels[level]:
                    part = self._unreached(cube, level)
                    if part is not None:
                        self._block(part, level + 1)
            if not self._levels[level]:
                return sorted(set().union(*self._levels[level + 1 :]), key=_order)
        return None

    def _preimage(self, step: Transition, cube: Cube) -> Expr:
        """That a transition may fire and leads into a cube."""
        return and_(self._legal(step), *substitute(_sorted(cube), step.updates))

    def _lifted(self, state: Values, condition: Expr) -> Cube:
        """A cube around a state in which ``condition`` holds throughout."""
        whole = frozenset(self._literals.of(state))
        part = self._states.core((), self._unrolling.at(not_(condition), 0), whole)
        return whole if part is None else part

    def _initial_in(self, cube: Cube) -> Values | None:
        """An initial state in a cube."""
        found = set(range(len(self._system.initial)))
        for literal in cube:
            found &= self._initially(literal)
        return self._system.initial[min(found)] if found else None

    def _initially(self, literal: Expr) -> frozenset[int]:
        """The numbers of the initial states in which a literal holds."""
        if literal not in self._known:
            states = enumerate(self._system.initial)
            self._known[literal] = frozenset(i for i, state in states if evaluate([literal], state)[0])
        return self._known[literal]


class _Literals:
    """What cubes are made of: booleans and single bits with their values, bounds of integers, every
    comparison of two variables in the system or the goal, and the equality of two integers of which a
    transition copies one to the other."""

    def __init__(self, system: TransitionSystem, goal: Expr) -> None:
        roots = [goal]
        for step in system.transitions:
            roots += [step.guard, *step.updates.values()]
        parts = list(postorder(roots))
        split = {arg for part in parts if part.op in _BITWISE for arg in part.args}
        self._atoms = [part for part in parts if part.is_bool and part.op is not Op.VAR and _pairs(part)]
        self._integers: list[Variable] = []
        for var in system.variables:
            if var.is_bool:
                self._atoms.append(var.expr)
            elif var.expr in split and var.lo >= 0:
                self._atoms += [_bit(var.expr, i) for i in range(width_of(var.lo, var.hi))]
            else:
                self._integers.append(var)
        self._atoms = list(dict.fromkeys([*self._atoms, *_copies(system)]))

    def of(self, state: Values) -> list[Expr]:
        """All literals that hold in a state."""
        values = evaluate(self._atoms, state)
        found = [atom if value else not_(atom) for atom, value in zip(self._atoms, values, strict=True)]
        for var in self._integers:
            value = constant(state[var.name])
            found += [le(value, var.expr), le(var.expr, value)]
        return [literal for literal in found if literal is not TRUE]


def _copies(system: TransitionSystem) -> Iterator[Expr]:
    """The equalities of integers that transitions establish by copying one to the other."""
    variables = {var.name: var.expr for var in system.variables}
    for step in system.transitions:
        for name, value in step.updates.items():
            copy = variables[name]
            for source in _sources(value):
                if source is not copy and not (source.is_bool or copy.is_bool):
                    yield eq(copy, source)


def _sources(value: Expr) -> Iterator[Expr]:
    """The variables that a value may be a copy of."""
    seen, parts = {value}, [value]
    for part in parts:
        if part.op is Op.VAR:
            yield part
        elif part.op in (Op.ITE, Op.NARROW):
            more = [arg for arg in part.args[-2:] if arg not in seen]
            seen.update(more)
            parts += more


def _pairs(expr: Expr) -> bool:
    """Whether it compares two variables, and nothing else."""
    return expr.op in (Op.EQ, Op.LE) and all(arg.op is Op.VAR for arg in expr.args)


def _bit(expr: Expr, i: int) -> Expr:
    return eq(bitand(shr(expr, constant(i)), constant(1)), constant(1))


def _sorted(cube: Cube) -> list[Expr]:
    return sorted(cube, key=lambda literal: literal.serial)


def _order(cube: Cube) -> list[int]:
    return sorted(literal.serial for literal in cube)


def _run_from(state: Values, todo: _Obligation) -> Run:
    """The run that a chain of obligations tells, from an initial state in its first."""
    states, names = [state], []
    while todo.fired is not None and todo.then is not None:
        after = fire(todo.fired, states[-1])
        if after is None:
            break
        states.append(after)
        names.append(todo.fired.name)
        todo = todo.then
    return Run(tuple(states), tuple(names))
