"""Expressions with other expressions in place of their variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from avicheck.encodings import expr as e
from avicheck.encodings.expr import Expr, Op, postorder

_MAKE: Final[Mapping[Op, Callable[..., Expr]]] = {
    Op.NOT: e.not_,
    Op.AND: e.and_,
    Op.EQ: e.eq,
    Op.LE: e.le,
    Op.ITE: e.ite,
    Op.ADD: e.add,
    Op.SUB: e.sub,
    Op.MUL: e.mul,
    Op.DIV: e.floordiv,
    Op.MOD: e.mod,
    Op.BITAND: e.bitand,
    Op.BITOR: e.bitor,
    Op.BITXOR: e.bitxor,
    Op.SHL: e.shl,
    Op.SHR: e.shr,
    Op.BITCOUNT: e.bit_count,
}


def substitute(roots: Iterable[Expr], values: Mapping[str, Expr]) -> list[Expr]:
    """The expressions, simplified, with ``values`` in place of the variables of these names, all at
    once. A value must lie within its variable's bounds."""
    roots = list(roots)
    known: dict[Expr, Expr] = {}
    for part in postorder(roots):
        if part.op is Op.VAR:
            known[part] = _placed(part, values.get(str(part.value), part))
        elif part.op is Op.CONST:
            known[part] = part
        elif part.op is Op.NARROW:
            known[part] = e.narrow(known[part.args[0]], part.lo, part.hi)
        else:
            known[part] = _MAKE[part.op](*(known[arg] for arg in part.args))
    return [known[root] for root in roots]


def _placed(var: Expr, value: Expr) -> Expr:
    """A value as one of the variable's sort and bounds."""
    if var.is_bool:
        return value if value.is_bool else e.eq(value, e.constant(1))
    return e.narrow(e.as_int(value), var.lo, var.hi)
