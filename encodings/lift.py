"""Lifting: a specification run on symbolic values becomes expressions.

``bool()`` of a symbolic condition forks the run, an index enumerates its
feasible values, and at the return of every rule the paths are merged into
if-then-else terms, so that paths add up over rules instead of multiplying.
Forks whose outcome follows from the path so far are not taken.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Final, NoReturn, TypeVar, cast

from avicheck.encodings import expr as ex
from avicheck.encodings.bitvectors import Translator
from avicheck.encodings.expr import Expr, Op
from avicheck.encodings.paths import ROOT, Path
from avicheck.spec.lang import IndexOf, Range, Scope, Seq, SizedBy, domains, interpreted_by

T = TypeVar("T")

MAX_FORKS: Final = 2_000
"""How many forks one path of one rule may take before it counts as endless."""
MAX_INDEX: Final = 4_096
"""How many values an index may have."""


class LiftError(Exception):
    """A specification cannot be lifted; the message names the line."""


def _where() -> str:
    """The innermost line of specification code."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("avicheck.encodings."):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _refuse(what: str) -> NoReturn:
    raise LiftError(f"{_where()}: {what}")


class _NeedsContextError(Exception):
    """A rule that is lifted on its own may raise, for all that is known."""


class Symbolic:
    """A value that stands for an expression."""

    __slots__ = ("expr",)

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    def __hash__(self) -> int:
        _refuse(f"Hashed value must be concrete, not symbolic: {self!r}")

    def __eq__(self, other: object) -> Any:
        them = _operand(other)
        return NotImplemented if them is None else _bool(ex.eq(self.expr, them))

    def __ne__(self, other: object) -> Any:
        them = _operand(other)
        return NotImplemented if them is None else _bool(ex.not_(ex.eq(self.expr, them)))

    def __repr__(self) -> str:
        return repr(self.expr)


def _operand(value: object) -> Expr | None:
    """A number or boolean as an expression; None for anything else."""
    if isinstance(value, SymInt | SymBool):
        return value.expr
    if isinstance(value, bool):
        return ex.boolean(value)
    return ex.constant(value) if isinstance(value, int) else None


_Operation = Callable[[Expr, Expr], Expr]


def _operator(operation: _Operation, *, swapped: bool = False) -> Callable[[Any, object], Any]:
    """A binary operator of the symbolic numbers."""

    def method(self: Symbolic, other: object) -> Any:
        them = _operand(other)
        if them is None:
            return NotImplemented
        return _value(operation(them, self.expr) if swapped else operation(self.expr, them))

    return method


def _shift(operation: _Operation) -> _Operation:
    """Like Python's, a shift by a negative count is an error."""

    def shift(a: Expr, by: Expr) -> Expr:
        if by.lo < 0 and _bool(ex.lt(by, ex.constant(0))):
            raise ValueError("negative shift count")
        return operation(a, _tightened(by, at_least=0))

    return shift


def _division(operation: _Operation) -> _Operation:
    """Like Python's, a division by zero is an error."""

    def divide(a: Expr, by: Expr) -> Expr:
        if by.lo <= 0 <= by.hi and _bool(ex.eq(by, ex.constant(0))):
            raise ZeroDivisionError("integer division or modulo by zero")
        return operation(_tightened(a), _tightened(by, at_least=1 if by.lo >= 0 else by.lo))

    return divide


class SymNumber(Symbolic):
    """What symbolic integers and booleans have in common: Python's arithmetic on them."""

    __slots__ = ()
    __hash__ = Symbolic.__hash__

    __add__, __radd__ = _operator(ex.add), _operator(ex.add, swapped=True)
    __sub__, __rsub__ = _operator(ex.sub), _operator(ex.sub, swapped=True)
    __mul__, __rmul__ = _operator(ex.mul), _operator(ex.mul, swapped=True)
    __and__, __rand__ = _operator(ex.bitand), _operator(ex.bitand, swapped=True)
    __or__, __ror__ = _operator(ex.bitor), _operator(ex.bitor, swapped=True)
    __xor__, __rxor__ = _operator(ex.bitxor), _operator(ex.bitxor, swapped=True)
    __lshift__, __rlshift__ = _operator(_shift(ex.shl)), _operator(_shift(ex.shl), swapped=True)
    __rshift__, __rrshift__ = _operator(_shift(ex.shr)), _operator(_shift(ex.shr), swapped=True)
    __floordiv__ = _operator(_division(ex.floordiv))
    __rfloordiv__ = _operator(_division(ex.floordiv), swapped=True)
    __mod__, __rmod__ = _operator(_division(ex.mod)), _operator(_division(ex.mod), swapped=True)
    __le__ = _operator(ex.le)
    __lt__ = _operator(ex.lt)
    __ge__ = _operator(lambda a, b: ex.le(b, a))
    __gt__ = _operator(lambda a, b: ex.lt(b, a))

    def __neg__(self) -> Any:
        return 0 - self

    def __invert__(self) -> Any:
        return -1 - self

    def __int__(self) -> int:
        _refuse(f"Value converted by int() must be concrete, not symbolic: {self!r}")

    def bit_count(self) -> Any:
        """``int.bit_count``."""
        return _value(ex.bit_count(_tightened(self.expr)))


class SymBool(SymNumber):
    """A symbolic condition: its truth forks the run."""

    __slots__ = ()
    __hash__ = Symbolic.__hash__

    def __bool__(self) -> bool:
        return _running().decide(self.expr)


class SymInt(SymNumber):
    """A symbolic integer."""

    __slots__ = ()
    __hash__ = Symbolic.__hash__

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __index__(self) -> int:
        return _running().enumerate(self.expr)


class SymEnum(Symbolic):
    """A symbolic member of an enumeration: the expression is its position."""

    __slots__ = ("members",)
    __hash__ = Symbolic.__hash__

    def __init__(self, members: type[Enum], expr: Expr) -> None:
        super().__init__(expr)
        self.members = members

    def _position(self, other: object) -> Expr | None:
        if isinstance(other, SymEnum) and other.members is self.members:
            return other.expr
        return ex.constant(list(self.members).index(other)) if isinstance(other, self.members) else None

    def __eq__(self, other: object) -> Any:
        position = self._position(other)
        return False if position is None else _bool(ex.eq(self.expr, position))

    def __ne__(self, other: object) -> Any:
        position = self._position(other)
        return True if position is None else _bool(ex.not_(ex.eq(self.expr, position)))

    def __getattr__(self, name: str) -> Any:
        _refuse(f"Member of {self.members.__name__} must be concrete to read its {name}, not symbolic")


def _bool(expr: Expr) -> Any:
    return bool(expr.lo) if expr.op is Op.CONST else SymBool(expr)


def _value(expr: Expr) -> Any:
    """An expression as a value of the specification: constants are Python's own."""
    if expr.is_bool:
        return _bool(expr)
    return expr.lo if expr.op is Op.CONST else SymInt(expr)


def _member(members: type[Enum], expr: Expr) -> Any:
    return list(members)[expr.lo] if expr.op is Op.CONST else SymEnum(members, expr)


# Leaves of values.


def to_expr(value: Any) -> Expr:
    """A leaf value (boolean, integer, enumeration member; symbolic or not) as an expression."""
    if isinstance(value, Symbolic):
        return value.expr
    if isinstance(value, Enum):
        return ex.constant(list(type(value)).index(value))
    leaf = _operand(value)
    if leaf is None:
        raise LiftError(f"Value must be a boolean, an integer or an enumeration's member, not {value!r}")
    return leaf


def symbolic(domain: Any, scope: Scope, name: str, **fixed: Any) -> Any:
    """A value of a record class (or of another domain) with a variable for every leaf, named
    by its path: ``kvm.vcpus[3].ldr``. ``fixed`` gives concrete values to fields of the record
    itself, and to those of nested records that carry the same name."""
    if isinstance(domain, Range):
        return _value(ex.int_var(name, domain.lo, domain.hi))
    if isinstance(domain, IndexOf):
        return _value(ex.int_var(name, -1 if domain.nullable else 0, scope[domain.array] - 1))
    if isinstance(domain, tuple) and isinstance(domain[0], SizedBy):
        sized, element = domain
        return tuple(symbolic(element, scope, f"{name}[{i}]", **fixed) for i in range(scope[sized.array]))
    if domain is bool:
        return SymBool(ex.bool_var(name))
    if isinstance(domain, type) and issubclass(domain, Enum):
        return _member(domain, ex.int_var(name, 0, len(domain) - 1))
    if not is_dataclass(domain):
        raise LiftError(f"Domain of {name} must be finite, not {domain!r}")
    prefix = f"{name}." if name else ""
    return cast(Any, domain)(
        **{
            field: fixed[field] if field in fixed else symbolic(inner, scope, prefix + field, **fixed)
            for field, inner in domains(cast(type, domain)).items()
        }
    )


def concrete(value: T, values: dict[str, int]) -> T:
    """A symbolic value under an assignment of its variables, as Python's own values."""
    leaves = list(_leaves(value))
    found = iter(ex.evaluate([to_expr(leaf) for leaf in leaves], values))
    return cast(T, _rebuild(value, found))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Symbolic | bool | int | Enum):
        yield value
    else:
        for part in _parts(value) or ():
            yield from _leaves(part)


def _rebuild(value: Any, found: Iterator[int]) -> Any:
    if isinstance(value, SymEnum):
        return list(value.members)[next(found)]
    if isinstance(value, Enum):
        return list(type(value))[next(found)]
    if isinstance(value, bool | SymBool):
        return bool(next(found))
    if isinstance(value, int | SymInt):
        return next(found)
    if isinstance(value, Seq):
        entries = tuple(_rebuild(entry, found) for entry in value.entries)
        return Seq(tuple(entry for entry in entries if entry[0]))
    parts = _parts(value)
    return value if parts is None else _with_parts(value, [_rebuild(part, found) for part in parts])


def _parts(value: Any) -> list[Any] | None:
    """The components of a tuple or record of the specification; None for an opaque value."""
    if isinstance(value, tuple):
        return list(value)
    if is_dataclass(value) and hasattr(type(value), "__slots__"):
        return [getattr(value, field.name) for field in fields(value)]
    return None


def _with_parts(value: Any, parts: list[Any]) -> Any:
    return tuple(parts) if isinstance(value, tuple) else type(value)(*parts)


# Exploring and merging.


_NEVER: Final = object()
"""What a path returns that cannot be taken."""


@dataclass(frozen=True)
class _Leaf:
    """One path of a rule: the decisions that led there, and what it returned."""

    trail: tuple[tuple[Expr, bool], ...]
    result: Any


class Lifter:
    """Runs rules on symbolic values; see ``lifting``."""

    def __init__(self) -> None:
        self.path: Path = ROOT
        self.paths = 0
        """How many paths were run, over all rules."""
        self._plan: tuple[bool, ...] = ()
        self._trail: list[tuple[Expr, bool]] = []
        self._memo: dict[tuple[Any, ...], Any] = {}
        self._needs_context: set[tuple[Any, ...]] = set()
        self._trials = 0
        self._feasible: dict[Expr, bool] = {}
        self._translator: Translator[Any] | None = None
        self._keys: dict[int, tuple[Any, Any]] = {}

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Lift inside the block, with all that this lifter has lifted before."""
        global _current
        previous, _current = _current, self
        try:
            with interpreted_by(self):
                yield
        finally:
            _current = previous

    def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """``function(*args)`` on every feasible path, merged.

        A rule is first lifted on its own, so that its result serves every caller. Only where it
        may raise is it lifted again under what its caller has decided."""
        key = (function, *map(self._key, args))
        if key not in self._memo and key not in self._needs_context:
            self._try_alone(key, function, args)
        if key in self._needs_context:
            key = (*key, self.path)
            if key not in self._memo:
                self._memo[key] = self._lift(function, args, self.path)
        return self._memo[key]

    def _try_alone(self, key: tuple[Any, ...], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._trials += 1
        try:
            self._memo[key] = self._lift(function, args, ROOT)
        except _NeedsContextError:
            self._needs_context.add(key)
        finally:
            self._trials -= 1

    def _lift(self, function: Callable[..., Any], args: tuple[Any, ...], start: Path) -> Any:
        saved = self.path, self._plan, self._trail
        try:
            return self._merge(function, self._explore(function, args, start), 0)
        finally:
            self.path, self._plan, self._trail = saved

    def _explore(self, function: Callable[..., Any], args: tuple[Any, ...], start: Path) -> list[_Leaf]:
        leaves = []
        plan: tuple[bool, ...] | None = ()
        while plan is not None:
            self.path, self._plan, self._trail = start, plan, []
            self.paths += 1
            result = self._run(function, args)
            trail = tuple(self._trail)
            leaves.append(_Leaf(trail, result))
            plan = _next_plan(trail)
        return leaves

    def _run(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        try:
            return function(*args)
        except (ArithmeticError, AssertionError, LookupError, ValueError) as error:
            null_pointer = isinstance(error, LookupError)
            if self._trials and null_pointer:
                raise _NeedsContextError from error
            if self._infeasible():
                return _NEVER
            if self._trials:
                raise _NeedsContextError from error
            raise LiftError(
                f"{_raised_at(error)}: Rule {function.__name__} must return on every feasible path, "
                f"not raise {type(error).__name__} ({error})"
            ) from error

    def _infeasible(self) -> bool:
        """Whether the path so far contradicts itself, which only a solver may be able to tell."""
        condition = ex.and_(*self.path.literals())
        if condition not in self._feasible:
            self._feasible[condition] = _has_easy_witness(condition) or self._satisfiable(condition)
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
        known = self.path.implies(condition)
        if known is not None:
            return known
        depth = len(self._trail)
        if depth >= MAX_FORKS:
            _refuse(f"Loop must end within {MAX_FORKS} decisions, not go on for more")
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
            _refuse(f"Index must have at most {MAX_INDEX} values, not {hi - lo + 1}")
        for value in range(max(lo, 0), hi + 1):
            if self.decide(ex.eq(index, ex.constant(value))):
                return value
        raise AssertionError("the last value of an index is implied")

    def _merge(self, function: Callable[..., Any], leaves: list[_Leaf], depth: int) -> Any:
        if len(leaves) == 1:
            return leaves[0].result
        condition = leaves[0].trail[depth][0]
        taken = [leaf for leaf in leaves if leaf.trail[depth][1]]
        other = leaves[len(taken) :]
        try:
            return merge(
                condition, self._merge(function, taken, depth + 1), self._merge(function, other, depth + 1)
            )
        except TypeError as error:
            where = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
            raise LiftError(f"{where}: Paths of {function.__name__} must return {error}") from error

    def _key(self, value: Any) -> Any:
        """A hashable stand-in for a value: equal for equal structure."""
        if isinstance(value, Symbolic):
            return value.expr
        if isinstance(value, bool | int | Enum):
            return type(value), value
        found = self._keys.get(id(value))
        if found is None:
            parts = _parts(value)
            key = value if parts is None else (type(value), *map(self._key, parts))
            found = self._keys[id(value)] = (value, key)
        return found[1]


def _has_easy_witness(condition: Expr) -> bool:
    """Whether one of a few fixed assignments makes the condition true: cheaper than asking a solver."""
    draw = random.Random(0)
    names = [(str(var.value), var.lo, var.hi) for var in ex.variables(condition)]
    guesses: list[dict[str, int]] = [{name: lo for name, lo, _ in names}, {name: hi for name, _, hi in names}]
    guesses += [{name: draw.randint(lo, hi) for name, lo, hi in names} for _ in range(4)]
    return any(ex.evaluate([condition], guess) == [1] for guess in guesses)


def _raised_at(error: BaseException) -> str:
    trace = error.__traceback__
    place = "?"
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if not module.startswith("avicheck.encodings."):
            place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _next_plan(trail: tuple[tuple[Expr, bool], ...]) -> tuple[bool, ...] | None:
    """The decisions of the next path in depth-first order, True before False."""
    taken = [way for _, way in trail]
    while taken and not taken[-1]:
        taken.pop()
    return (*taken[:-1], False) if taken else None


def merge(condition: Expr, a: Any, b: Any) -> Any:
    """The value that is ``a`` where the condition holds and ``b`` elsewhere.

    Raises TypeError, naming the two shapes, if they cannot be one value."""
    if a is b or b is _NEVER:
        return a
    if a is _NEVER:
        return b
    if isinstance(a, SymEnum | Enum) and isinstance(b, SymEnum | Enum):
        members = {x.members if isinstance(x, SymEnum) else type(x) for x in (a, b)}
        if len(members) == 1:
            return _member(members.pop(), ex.ite(condition, to_expr(a), to_expr(b)))
    elif _operand(a) is not None and _operand(b) is not None:
        return _value(ex.ite(condition, to_expr(a), to_expr(b)))
    elif isinstance(a, Seq) and isinstance(b, Seq):
        return Seq(_merge_entries(condition, a.entries, b.entries))
    elif type(a) is type(b):
        ours, theirs = _parts(a), _parts(b)
        if ours is not None and theirs is not None and len(ours) == len(theirs):
            return _with_parts(a, [merge(condition, x, y) for x, y in zip(ours, theirs, strict=True)])
        if ours is None and a == b:
            return a
    raise TypeError(f"values of one shape, not {_shape(a)} and {_shape(b)}")


def _shape(value: Any) -> str:
    if isinstance(value, SymEnum):
        return value.members.__name__
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def _merge_entries(
    condition: Expr, a: tuple[tuple[Any, Any], ...], b: tuple[tuple[Any, Any], ...]
) -> tuple[tuple[Any, Any], ...]:
    """Two lists, entry by entry; what only the longer one has counts on its side alone."""
    shared = [
        (_value(ex.ite(condition, to_expr(g), to_expr(h))), merge(condition, x, y))
        for (g, x), (h, y) in zip(a, b, strict=False)
    ]
    rest_a = [(_value(ex.and_(condition, to_expr(g))), x) for g, x in a[len(b) :]]
    rest_b = [(_value(ex.and_(ex.not_(condition), to_expr(h))), y) for h, y in b[len(a) :]]
    return (*shared, *rest_a, *rest_b)


_current: Lifter | None = None


def _running() -> Lifter:
    if _current is None:
        _refuse("Symbolic value must be used inside lifting()")
    return _current


def _tightened(expr: Expr, at_least: int | None = None) -> Expr:
    """An expression with the bounds that hold on the current path."""
    lo, hi = _running().path.bounds(expr)
    return ex.narrow(expr, lo if at_least is None else max(lo, at_least), hi)


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
