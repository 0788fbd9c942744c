"""Hash-consed expressions over booleans and mathematical integers with known bounds.

Every integer carries the interval of its possible values, so that nothing ever
wraps: a printer takes as many bits as the interval needs. Equal expressions are
one object; constructors simplify.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from enum import Enum
from typing import Final, TypeAlias


class Op(Enum):
    """What an expression does with its arguments."""

    CONST = "const"
    VAR = "var"
    NOT = "not"
    AND = "and"
    EQ = "="
    LE = "<="
    ITE = "ite"
    ADD = "+"
    SUB = "-"
    MUL = "*"
    DIV = "//"
    MOD = "%"
    BITAND = "&"
    BITOR = "|"
    BITXOR = "^"
    SHL = "<<"
    SHR = ">>"
    BITCOUNT = "bit_count"
    NARROW = "narrow"
    """The argument, known to lie within tighter bounds wherever its value matters."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hashes the name, which is slow


class Expr:
    """An expression; ``lo`` and ``hi`` bound an integer, a boolean is 0 or 1. Made only by the
    constructors below, compared by identity."""

    __slots__ = ("args", "hi", "is_bool", "leaves", "lo", "op", "serial", "value")

    op: Op
    args: tuple[Expr, ...]
    is_bool: bool
    lo: int
    hi: int
    value: int | str | None
    """A constant's value, a variable's name."""
    serial: int
    leaves: int
    """How many constants a tree of if-then-else over constants has; 0 for anything else."""

    def __repr__(self) -> str:
        return _shown(self, 3)


def _shown(expr: Expr, depth: int) -> str:
    if expr.op in (Op.CONST, Op.VAR):
        return str(bool(expr.value) if expr.is_bool and expr.op is Op.CONST else expr.value)
    if depth == 0:
        return "..."
    return f"({expr.op.value} {' '.join(_shown(arg, depth - 1) for arg in expr.args)})"


_Key: TypeAlias = tuple[Op, tuple[int, ...], bool, int, int, int | str | None]
_table: dict[_Key, Expr] = {}
_MAX_LEAVES: Final = 32
_MAX_SHIFT: Final = 4_096


def _make(
    op: Op, args: tuple[Expr, ...], is_bool: bool, lo: int, hi: int, value: int | str | None = None
) -> Expr:
    key = (op, tuple(a.serial for a in args), is_bool, lo, hi, value)
    found = _table.get(key)
    if found is not None:
        return found
    expr = Expr()
    expr.op, expr.args, expr.is_bool, expr.lo, expr.hi, expr.value = op, args, is_bool, lo, hi, value
    expr.serial = len(_table)
    expr.leaves = 1 if op is Op.CONST else _count_leaves(op, args)
    _table[key] = expr
    return expr


def _count_leaves(op: Op, args: tuple[Expr, ...]) -> int:
    if op is not Op.ITE or not args[1].leaves or not args[2].leaves:
        return 0
    return min(args[1].leaves + args[2].leaves, _MAX_LEAVES + 1)


def remade(op: Op, args: tuple[Expr, ...], is_bool: bool, lo: int, hi: int, value: int | str | None) -> Expr:
    """An expression that a constructor made before, in another run."""
    return _make(op, args, is_bool, lo, hi, value)


def constant(value: int) -> Expr:
    """The integer ``value``."""
    value = int(value)  # True would be shown, and handed out, in place of 1
    return _make(Op.CONST, (), False, value, value, value)


FALSE: Final = _make(Op.CONST, (), True, 0, 0, 0)
TRUE: Final = _make(Op.CONST, (), True, 1, 1, 1)


def boolean(value: bool) -> Expr:
    """TRUE or FALSE."""
    return TRUE if value else FALSE


def bool_var(name: str) -> Expr:
    """A boolean variable."""
    return _make(Op.VAR, (), True, 0, 1, name)


def int_var(name: str, lo: int, hi: int) -> Expr:
    """An integer variable with values from ``lo`` to ``hi``."""
    return constant(lo) if lo == hi else _make(Op.VAR, (), False, lo, hi, name)


def const_value(expr: Expr) -> int | None:
    """A constant's value (booleans as 0 and 1), None for anything else."""
    return expr.lo if expr.op is Op.CONST else None


# Booleans.


def not_(a: Expr) -> Expr:
    """Negation."""
    if a.op is Op.CONST:
        return FALSE if a is TRUE else TRUE
    if a.op is Op.NOT:
        return a.args[0]
    return _make(Op.NOT, (a,), True, 0, 1)


def and_(*args: Expr) -> Expr:
    """Conjunction: flat, without duplicates, FALSE if it holds a literal and its negation."""
    conjuncts: dict[Expr, None] = {}
    for arg in args:
        for part in arg.args if arg.op is Op.AND else (arg,):
            if part is FALSE:
                return FALSE
            if part is not TRUE:
                conjuncts[part] = None
    reduced = {_absorb(part, conjuncts): None for part in conjuncts}
    if len(reduced) != len(conjuncts) or any(part not in conjuncts for part in reduced):
        return and_(*reduced)
    if any(not_(part) in conjuncts for part in conjuncts if part.op is Op.NOT):
        return FALSE
    parts = sorted(conjuncts, key=_serial)
    if len(parts) < 2:
        return parts[0] if parts else TRUE
    return _make(Op.AND, tuple(parts), True, 0, 1)


def _serial(expr: Expr) -> int:
    return expr.serial


def _absorb(part: Expr, conjuncts: Mapping[Expr, None]) -> Expr:
    """A disjunction among conjuncts, without the alternatives that they exclude."""
    if part.op is not Op.NOT or part.args[0].op is not Op.AND:
        return part
    kept = [a for a in part.args[0].args if a not in conjuncts]
    if any(not_(a) in conjuncts for a in kept):
        return TRUE
    return part if len(kept) == len(part.args[0].args) else not_(and_(*kept))


def or_(*args: Expr) -> Expr:
    """Disjunction."""
    return not_(and_(*map(not_, args)))


def implies(a: Expr, b: Expr) -> Expr:
    """Implication."""
    return not_(and_(a, not_(b)))


def eq(a: Expr, b: Expr) -> Expr:
    """Equality of two integers or of two booleans."""
    if a is b:
        return TRUE
    if a.is_bool and b.is_bool:
        return ite(a, b, not_(b))
    a, b = as_int(a), as_int(b)
    if a.op is Op.CONST:
        a, b = b, a
    return _over_branches(a, b, _eq_by_bounds, _eq) if b.op is Op.CONST else _eq(a, b)


def _eq(a: Expr, b: Expr) -> Expr:
    settled = _eq_by_bounds(a, b)
    if settled is not None:
        return settled
    if b.op is Op.CONST:
        if a.op is Op.ADD and a.args[1].op is Op.CONST:
            return eq(a.args[0], constant(b.lo - a.args[1].lo))
    elif a.serial > b.serial:
        a, b = b, a
    return _make(Op.EQ, (a, b), True, 0, 1)


def _eq_by_bounds(a: Expr, b: Expr) -> Expr | None:
    if a is b:
        return TRUE
    return FALSE if a.hi < b.lo or b.hi < a.lo else None


def le(a: Expr, b: Expr) -> Expr:
    """``a <= b``."""
    a, b = as_int(a), as_int(b)
    if b.op is Op.CONST:
        return _over_branches(a, b, _le_by_bounds, _le)
    if a.op is Op.CONST:
        return _over_branches(b, a, lambda x, y: _le_by_bounds(y, x), lambda x, y: _le(y, x))
    return _le(a, b)


def _le(a: Expr, b: Expr) -> Expr:
    settled = _le_by_bounds(a, b)
    return _make(Op.LE, (a, b), True, 0, 1) if settled is None else settled


def _le_by_bounds(a: Expr, b: Expr) -> Expr | None:
    if a is b or a.hi <= b.lo:
        return TRUE
    return FALSE if a.lo > b.hi else None


def _over_branches(
    expr: Expr,
    value: Expr,
    settled: Callable[[Expr, Expr], Expr | None],
    test: Callable[[Expr, Expr], Expr],
) -> Expr:
    """A test of a chain of if-then-else whose branches are constants, as the chain of its answers."""
    outer = []
    while expr.op is Op.ITE and settled(expr, value) is None:
        condition, yes, no = expr.args
        if yes.op is Op.CONST:
            outer.append((condition, test(yes, value), True))
            expr = no
        elif no.op is Op.CONST:
            outer.append((condition, test(no, value), False))
            expr = yes
        else:
            break
    result = test(expr, value)
    for condition, answer, holds in reversed(outer):
        result = ite(condition, answer, result) if holds else ite(condition, result, answer)
    return result


def lt(a: Expr, b: Expr) -> Expr:
    """``a < b``."""
    return not_(le(b, a))


def ite(c: Expr, a: Expr, b: Expr) -> Expr:
    """``a`` where ``c`` holds, else ``b``."""
    if c.op is Op.CONST:
        return a if c is TRUE else b
    if c.op is Op.NOT:
        return ite(c.args[0], b, a)
    if a.op is Op.ITE and a.args[0] is c:
        a = a.args[1]
    if b.op is Op.ITE and b.args[0] is c:
        b = b.args[2]
    if not (a.is_bool and b.is_bool):
        a, b = as_int(a), as_int(b)
    if a is b:
        return a
    if a.is_bool:
        return _bool_ite(c, a, b)
    if b.op is Op.ITE and b.args[1] is a:
        return ite(or_(c, b.args[0]), a, b.args[2])
    if b.op is Op.ITE and b.args[2] is a:
        return ite(and_(not_(c), b.args[0]), b.args[1], a)
    return _make(Op.ITE, (c, a, b), False, min(a.lo, b.lo), max(a.hi, b.hi))


def _bool_ite(c: Expr, a: Expr, b: Expr) -> Expr:
    if a is TRUE or a is c:
        return or_(c, b)
    if a is FALSE or a is not_(c):
        return and_(not_(c), b)
    if b is FALSE or b is c:
        return and_(c, a)
    if b is TRUE or b is not_(c):
        return or_(not_(c), a)
    if a.op is Op.NOT:
        return not_(ite(c, not_(a), not_(b)))
    return _make(Op.ITE, (c, a, b), True, 0, 1)


# Integers.


def as_int(a: Expr) -> Expr:
    """A boolean as 0 or 1, an integer as it is."""
    return ite(a, constant(1), constant(0)) if a.is_bool else a


def _binary(
    op: Op,
    a: Expr,
    b: Expr,
    value: Callable[[int, int], int],
    bounds: Callable[[Expr, Expr], tuple[int, int]],
) -> Expr:
    """A binary operation: folded on constants, pushed into trees of constants."""
    a, b = as_int(a), as_int(b)
    if a.op is Op.CONST and b.op is Op.CONST:
        return constant(value(a.lo, b.lo))
    for x, y, swapped in ((a, b, False), (b, a, True)):
        if y.op is Op.CONST and 1 < x.leaves <= _MAX_LEAVES:
            branch = [_binary(op, *((y, t) if swapped else (t, y)), value, bounds) for t in x.args[1:]]
            return ite(x.args[0], branch[0], branch[1])
    lo, hi = bounds(a, b)
    return constant(lo) if lo == hi else _make(op, (a, b), False, lo, hi)


def add(a: Expr, b: Expr) -> Expr:
    """Sum; a constant goes to the right and is folded with another."""
    a, b = as_int(a), as_int(b)
    if a.op is Op.CONST:
        a, b = b, a
    if b.op is Op.CONST:
        if b.lo == 0:
            return a
        if a.op is Op.ADD and a.args[1].op is Op.CONST:
            return add(a.args[0], constant(a.args[1].lo + b.lo))
    return _binary(Op.ADD, a, b, int.__add__, lambda x, y: (x.lo + y.lo, x.hi + y.hi))


def sub(a: Expr, b: Expr) -> Expr:
    """Difference."""
    a, b = as_int(a), as_int(b)
    if b.op is Op.CONST:
        return add(a, constant(-b.lo))
    if a is b:
        return constant(0)
    return _binary(Op.SUB, a, b, int.__sub__, lambda x, y: (x.lo - y.hi, x.hi - y.lo))


def mul(a: Expr, b: Expr) -> Expr:
    """Product."""
    a, b = as_int(a), as_int(b)
    for x, y in ((a, b), (b, a)):
        if y.op is Op.CONST and y.lo in (0, 1):
            return x if y.lo else y

    def bounds(x: Expr, y: Expr) -> tuple[int, int]:
        corners = [p * q for p in (x.lo, x.hi) for q in (y.lo, y.hi)]
        return min(corners), max(corners)

    return _binary(Op.MUL, a, b, int.__mul__, bounds)


def floordiv(a: Expr, b: Expr) -> Expr:
    """Quotient; ``a`` not negative and ``b`` positive."""
    a, b = as_int(a), as_int(b)
    if a.lo < 0 or b.lo < 1:
        raise ValueError(f"Division must have a dividend >= 0 and a divisor > 0, not {a!r} // {b!r}")
    return _binary(Op.DIV, a, b, int.__floordiv__, lambda x, y: (x.lo // y.hi, x.hi // y.lo))


def mod(a: Expr, b: Expr) -> Expr:
    """Remainder; ``a`` not negative and ``b`` positive."""
    a, b = as_int(a), as_int(b)
    if a.lo < 0 or b.lo < 1:
        raise ValueError(f"Remainder must have a dividend >= 0 and a divisor > 0, not {a!r} % {b!r}")
    if a.hi < b.lo:
        return a
    return _binary(Op.MOD, a, b, int.__mod__, lambda x, y: (0, min(x.hi, y.hi - 1)))


def _bits(*exprs: Expr) -> int:
    """Enough bits for every value of the expressions, without a sign."""
    return max(max(e.hi, -e.lo - 1).bit_length() for e in exprs)


def bitand(a: Expr, b: Expr) -> Expr:
    """Bitwise and, of two's complement numbers without end."""
    if a.is_bool and b.is_bool:
        return and_(a, b)
    a, b = as_int(a), as_int(b)
    if a.op is Op.CONST:
        a, b = b, a
    if b.op is Op.CONST and b.lo >= 0:
        mask = b.lo
        if mask == 0:
            return b
        if a.lo >= 0 and mask & (mask + 1) == 0 and a.hi <= mask:
            return a
        if a.op is Op.BITAND and a.args[1].op is Op.CONST:
            return bitand(a.args[0], constant(a.args[1].lo & mask))
    if a is b:
        return a

    def bounds(x: Expr, y: Expr) -> tuple[int, int]:
        if x.lo >= 0 or y.lo >= 0:
            return 0, min(e.hi for e in (x, y) if e.lo >= 0)
        return -(1 << _bits(x, y)), max(x.hi, y.hi)

    return _binary(Op.BITAND, a, b, int.__and__, bounds)


def bitor(a: Expr, b: Expr) -> Expr:
    """Bitwise or."""
    if a.is_bool and b.is_bool:
        return or_(a, b)
    a, b = as_int(a), as_int(b)
    for x, y in ((a, b), (b, a)):
        if y.op is Op.CONST and y.lo == 0:
            return x
    if a is b:
        return a
    return _binary(Op.BITOR, a, b, int.__or__, _or_bounds)


def bitxor(a: Expr, b: Expr) -> Expr:
    """Bitwise exclusive or."""
    if a.is_bool and b.is_bool:
        return not_(eq(a, b))
    a, b = as_int(a), as_int(b)
    return _binary(Op.BITXOR, a, b, int.__xor__, _or_bounds if a is not b else lambda _x, _y: (0, 0))


def _or_bounds(x: Expr, y: Expr) -> tuple[int, int]:
    limit = (1 << _bits(x, y)) - 1
    return (0 if x.lo >= 0 and y.lo >= 0 else -limit - 1), limit


def shl(a: Expr, by: Expr) -> Expr:
    """``a << by``; ``by`` not negative, and small enough for the result to be written down."""
    a, by = as_int(a), as_int(by)
    if by.lo < 0:
        raise ValueError(f"Shift count must be at least 0, not {by!r}")
    if by.hi > _MAX_SHIFT:
        raise ValueError(f"Shift count must be at most {_MAX_SHIFT}, not {by!r} up to {by.hi}")
    if by is constant(0):
        return a

    def bounds(x: Expr, y: Expr) -> tuple[int, int]:
        return min(x.lo << y.lo, x.lo << y.hi), max(x.hi << y.hi, x.hi << y.lo)

    return _binary(Op.SHL, a, by, int.__lshift__, bounds)


def shr(a: Expr, by: Expr) -> Expr:
    """``a >> by``, rounding down; ``by`` not negative."""
    a, by = as_int(a), as_int(by)
    if by.lo < 0:
        raise ValueError(f"Shift count must be at least 0, not {by!r}")
    if by is constant(0):
        return a

    def bounds(x: Expr, y: Expr) -> tuple[int, int]:
        return min(x.lo >> y.lo, x.lo >> y.hi), max(x.hi >> y.lo, x.hi >> y.hi)

    return _binary(Op.SHR, a, by, int.__rshift__, bounds)


def bit_count(a: Expr) -> Expr:
    """The number of set bits of an integer that is not negative."""
    a = as_int(a)
    if a.lo < 0:
        raise ValueError(f"Bits must be counted in a number >= 0, not in {a!r}")
    if a.op is Op.CONST:
        return constant(a.lo.bit_count())
    return _make(Op.BITCOUNT, (a,), False, 1 if a.lo else 0, a.hi.bit_length())


def narrow(a: Expr, lo: int, hi: int) -> Expr:
    """``a`` where its value lies between ``lo`` and ``hi``, anything within them elsewhere."""
    lo, hi = max(lo, a.lo), min(hi, a.hi)
    if (lo, hi) == (a.lo, a.hi):
        return a
    return constant(lo) if lo >= hi else _make(Op.NARROW, (a,), False, lo, hi)


# Walking.


def postorder(roots: Iterable[Expr], known: Container[Expr] = ()) -> Iterator[Expr]:
    """Every subexpression once, arguments before their users; none that is known, nor what only
    known ones use."""
    seen: set[Expr] = set()
    stack: list[tuple[Expr, bool]] = [(root, False) for root in reversed(list(roots))]
    while stack:
        expr, ready = stack.pop()
        if ready:
            yield expr
        elif expr not in seen and expr not in known:
            seen.add(expr)
            stack.append((expr, True))
            stack.extend((arg, False) for arg in reversed(expr.args) if arg not in seen)


def variables(*roots: Expr) -> list[Expr]:
    """The variables of some expressions, in the order of their first use."""
    return [expr for expr in postorder(roots) if expr.op is Op.VAR]


_EVALUATE: Final[Mapping[Op, Callable[..., int]]] = {
    Op.NOT: lambda a: 1 - a,
    Op.AND: lambda *a: int(all(a)),
    Op.EQ: lambda a, b: int(a == b),
    Op.LE: lambda a, b: int(a <= b),
    Op.ITE: lambda c, a, b: a if c else b,
    Op.ADD: int.__add__,
    Op.SUB: int.__sub__,
    Op.MUL: int.__mul__,
    Op.DIV: int.__floordiv__,
    Op.MOD: int.__mod__,
    Op.BITAND: int.__and__,
    Op.BITOR: int.__or__,
    Op.BITXOR: int.__xor__,
    Op.SHL: int.__lshift__,
    Op.SHR: int.__rshift__,
    Op.BITCOUNT: int.bit_count,
}


def evaluate(roots: Iterable[Expr], values: Mapping[str, int]) -> list[int]:
    """The values of some expressions under an assignment; variables that it leaves out are
    their lower bound. Booleans are 0 and 1."""
    roots = list(roots)
    known: dict[Expr, int] = {}
    for expr in postorder(roots):
        if expr.op is Op.CONST:
            known[expr] = expr.lo
        elif expr.op is Op.VAR:
            known[expr] = int(values.get(str(expr.value), expr.lo))
        elif expr.op is Op.NARROW:
            known[expr] = min(max(known[expr.args[0]], expr.lo), expr.hi)
        else:
            known[expr] = _EVALUATE[expr.op](*(known[arg] for arg in expr.args))
    return [known[root] for root in roots]
