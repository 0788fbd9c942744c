"""Lifting: a specification run on symbolic values becomes expressions.

``bool()`` of a symbolic condition forks the run, an index enumerates its
feasible values, and at the return of every rule the paths are merged into
if-then-else terms, so that paths add up over rules instead of multiplying.
Forks whose outcome follows from the path so far are not taken.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final, NoReturn, TypeVar

from avicheck.encodings import expr as ex
from avicheck.encodings.bitvectors import Translator
from avicheck.encodings.by_values import guessed, possible
from avicheck.encodings.expr import Expr
from avicheck.encodings.paths import ROOT, Path
from avicheck.encodings.refusal import LiftError, check_rule, defined_at, raised_at, refuse
from avicheck.encodings.symbolic import (
    Symbolic,
    SymEnum,
    concrete,
    explored_by,
    member_of,
    operand,
    parts_of,
    symbolic,
    to_expr,
    value_of,
    with_parts,
)
from avicheck.spec.lang import Seq, interpreted_by

__all__ = ["NEVER", "LiftError", "Lifter", "concrete", "lift", "lifting", "merge", "symbolic", "to_expr"]

T = TypeVar("T")

MAX_FORKS: Final = 1_000
"""How many forks one path of one rule may take before it counts as endless."""
MAX_INDEX: Final = 1_000
"""How many values an index may have."""


class _NeedsContextError(BaseException):
    """A rule that is lifted on its own may raise or never end, for all that is known."""


class _DeadEndError(BaseException):
    """A rule that cannot return was called: the path that led there cannot be taken."""


NEVER: Final = object()
"""What a path returns that cannot be taken; any value, to whoever merges it."""

_Trail = list[tuple[Expr, bool]]
"""The decisions of one run of a rule."""


class Lifter:
    """Runs rules on symbolic values; see ``lifting``."""

    def __init__(self) -> None:
        self.path: Path = ROOT
        self.paths = 0
        """How many paths were run, over all rules."""
        self._plan: tuple[bool, ...] = ()
        self._trail: _Trail | None = None
        self._memo: dict[tuple[Any, ...], Any] = {}
        self._arguments: dict[tuple[Any, ...], tuple[Any, ...]] = {}
        self._needs_context: set[tuple[Any, ...]] = set()
        self._trials = 0
        self._feasible: dict[Expr, bool] = {}
        self._translator: Translator[Any] | None = None
        self._keys: dict[int, tuple[Any, Any]] = {}

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Lift inside the block, with all that this lifter has lifted before."""
        with explored_by(self), interpreted_by(self):
            yield

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        """``function(*args)`` on every feasible path, merged.

        A rule is first lifted on its own, so that its result serves every caller. Only where it
        may raise is it lifted again under what its caller has decided."""
        if named:
            refuse(f"Arguments of {function.__name__} must be positional, not named: {', '.join(named)}")
        check_rule(function)
        try:
            key = (function, *map(self._key, args))
        except TypeError as error:
            refuse(f"Argument of {function.__name__} must be {error}")
        if key not in self._memo and key not in self._needs_context:
            if self.path is ROOT and not self._trials:
                self._memo[key] = self._lift(function, args, ROOT)
            else:
                self._try_alone(key, function, args)
        if key in self._needs_context:
            key = (*key, self.path)
            if key not in self._memo:
                self._memo[key] = self._lift(function, args, self.path)
        result = self._memo[key]
        if result is NEVER:
            raise _DeadEndError
        self._arguments[key] = args
        return result

    def calls(self, rule: Callable[..., Any]) -> Iterator[tuple[tuple[Any, ...], Any]]:
        """Every call of a rule that returned, once for the same arguments on the same path: the arguments
        and the result."""
        function = inspect.unwrap(rule)
        for key, args in self._arguments.items():
            if key[0] is function:
                yield args, self._memo[key]

    def _try_alone(self, key: tuple[Any, ...], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._trials += 1
        try:
            self._memo[key] = self._lift(function, args, ROOT)
        except _NeedsContextError:
            self._needs_context.add(key)
        finally:
            self._trials -= 1

    def _lift(self, function: Callable[..., Any], args: tuple[Any, ...], start: Path) -> Any:
        """Run every path, True before False at each decision. A path that ends in False decisions
        completes subtrees: each is merged with its sibling, whose result waits."""
        saved = self.path, self._plan, self._trail
        waiting: list[Any] = []
        plan: tuple[bool, ...] | None = ()
        try:
            while plan is not None:
                trail: _Trail = []
                self.path, self._plan, self._trail = start, plan, trail
                result = self._run(function, args)
                while trail and not trail[-1][1]:
                    condition, _ = trail.pop()
                    result = self._merged(function, condition, waiting.pop(), result)
                waiting.append(result)
                plan = (*(way for _, way in trail[:-1]), False) if trail else None
            return waiting.pop()
        finally:
            self.path, self._plan, self._trail = saved

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self.paths += 1
        try:
            result = function(*args)
        except _DeadEndError:
            return NEVER
        except LiftError:
            raise
        except RecursionError:
            raise LiftError(f"{defined_at(function)}: Rule must end, not call itself without end") from None
        except Exception as error:
            null_pointer = isinstance(error, LookupError)
            if self._trials and null_pointer:
                raise _NeedsContextError from error
            if self.infeasible():
                return NEVER
            if self._trials:
                raise _NeedsContextError from error
            raise LiftError(
                f"{raised_at(error)}: Rule {function.__name__} must return on every feasible path, "
                f"not raise {type(error).__name__} ({error})"
            ) from error
        try:
            self._key(result)
        except TypeError as error:
            raise LiftError(f"{defined_at(function)}: Result must be {error}") from error
        return result

    def infeasible(self) -> bool:
        """Whether the path so far contradicts itself, which only a solver may be able to tell."""
        condition = ex.and_(*self.path.literals())
        if condition not in self._feasible:
            tried = True if guessed(condition) else possible(condition)
            self._feasible[condition] = self._satisfiable(condition) if tried is None else tried
        return not self._feasible[condition]

    def _satisfiable(self, condition: Expr) -> bool:
        from avicheck.encodings import to_z3

        self._translator = self._translator or to_z3.z3_translator()
        return to_z3.check_sat([condition], translator=self._translator) is not False

    @property
    def pruned(self) -> list[Expr]:
        """The conditions of paths that were left out because a solver found them unsatisfiable."""
        return [condition for condition, feasible in self._feasible.items() if not feasible]

    def decide(self, condition: Expr) -> bool:
        """Which way this run goes at a condition."""
        if self._trail is None:
            refuse("Condition must be decided inside a rule, not outside")
        known = self.path.implies(condition)
        if known is not None:
            return known
        depth = len(self._trail)
        if depth >= MAX_FORKS:
            self._give_up(f"Loop must end within {MAX_FORKS} decisions, not go on for more")
        taken = self._plan[depth] if depth < len(self._plan) else True
        self._trail.append((condition, taken))
        self.path = self.path.assume(condition, taken)
        return taken

    def enumerate(self, index: Expr) -> int:
        """The value of an index on this run."""
        lo, hi = self.path.bounds(index)
        if lo < 0 and self.decide(ex.lt(index, ex.constant(0))):
            raise IndexError("negative index")
        lo, hi = self.path.bounds(index)
        if hi - lo >= MAX_INDEX:
            self._give_up(f"Index must have at most {MAX_INDEX} values, not {hi - lo + 1}")
        for value in range(max(lo, 0), hi + 1):
            if self.decide(ex.eq(index, ex.constant(value))):
                return value
        raise AssertionError("the last value of an index is implied")

    def _give_up(self, what: str) -> NoReturn:
        """Refuse, unless it may help to know what the caller has decided."""
        if self._trials:
            raise _NeedsContextError
        refuse(what)

    def _merged(self, function: Callable[..., Any], condition: Expr, a: Any, b: Any) -> Any:
        try:
            return merge(condition, a, b)
        except TypeError as error:
            raise LiftError(f"{defined_at(function)}: Paths must return {error}") from error

    def _key(self, value: Any) -> Any:
        """A hashable stand-in for a value: equal for equal structure. TypeError for what is not
        made of leaves, tuples, records and immutable constants."""
        if isinstance(value, SymEnum):
            return value.members, value.expr
        if isinstance(value, Symbolic):
            return value.expr
        if isinstance(value, bool | int | Enum):
            return type(value), value
        found = self._keys.get(id(value))
        if found is None:
            parts = parts_of(value)
            key = (type(value), *(_constant(value) if parts is None else map(self._key, parts)))
            found = self._keys[id(value)] = (value, key)
        return found[1]


def _constant(value: Any) -> tuple[Any]:
    """A value without parts, if it is one that nobody can change."""
    if isinstance(value, float):
        raise TypeError(f"made of integers, not of the float {value!r}")
    try:
        hash(value)
        mutable = hasattr(value, "__next__")
    except TypeError:
        mutable = True
    if mutable:
        raise TypeError(f"immutable, not a {type(value).__name__}")
    return (value,)


def merge(condition: Expr, a: Any, b: Any) -> Any:
    """The value that is ``a`` where the condition holds and ``b`` elsewhere.

    Raises TypeError, naming the two shapes, if they cannot be one value."""
    if a is b or b is NEVER:
        return a
    if a is NEVER:
        return b
    if isinstance(a, SymEnum | Enum) and isinstance(b, SymEnum | Enum):
        members = {x.members if isinstance(x, SymEnum) else type(x) for x in (a, b)}
        if len(members) == 1:
            return member_of(members.pop(), ex.ite(condition, to_expr(a), to_expr(b)))
    elif operand(a) is not None and operand(b) is not None:
        return value_of(ex.ite(condition, to_expr(a), to_expr(b)))
    elif isinstance(a, Seq) and isinstance(b, Seq):
        return Seq(_merge_entries(condition, a.entries, b.entries))
    elif type(a) is type(b):
        left, right = parts_of(a), parts_of(b)
        if left is not None and right is not None and len(left) == len(right):
            return with_parts(a, [merge(condition, x, y) for x, y in zip(left, right, strict=True)])
        if left is None and a == b:
            return a
    ours, theirs = _shape(a), _shape(b)
    shapes = f"{ours} and {theirs}" if ours != theirs else f"{a!r} and {b!r}"
    raise TypeError(f"values of one shape, not {shapes}")


def _shape(value: Any) -> str:
    if isinstance(value, SymEnum):
        return value.members.__name__
    if operand(value) is not None:
        return "an integer"
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def _merge_entries(
    condition: Expr, a: tuple[tuple[Any, Any], ...], b: tuple[tuple[Any, Any], ...]
) -> tuple[tuple[Any, Any], ...]:
    """Two lists, entry by entry; what only the longer one has counts on its side alone."""
    shared = [
        (value_of(ex.ite(condition, to_expr(g), to_expr(h))), merge(condition, x, y))
        for (g, x), (h, y) in zip(a, b, strict=False)
    ]
    rest_a = [(value_of(ex.and_(condition, to_expr(g))), x) for g, x in a[len(b) :]]
    rest_b = [(value_of(ex.and_(ex.not_(condition), to_expr(h))), y) for h, y in b[len(a) :]]
    return (*shared, *rest_a, *rest_b)


@contextmanager
def lifting() -> Iterator[Lifter]:
    """Inside the block, rules called with symbolic values return merged ones."""
    lifter = Lifter()
    with lifter.resumed():
        yield lifter


def lift(rule: Callable[..., T], *args: Any) -> T:
    """The rule's result on symbolic arguments, its paths merged."""
    with lifting():
        return rule(*args)
