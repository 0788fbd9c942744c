"""Transition systems as Murphi, in the dialect of Rumur, which has bitwise operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from avicheck.encodings.expr import TRUE, Expr, Op, not_
from avicheck.encodings.transition import Transition, TransitionSystem, Variable
from avicheck.encodings.writing import (
    Block,
    Named,
    Syntax,
    check_bits,
    completed,
    conjuncts,
    distinct_initial,
    domain,
    hull,
    invariants,
    left_out,
    legal_names,
    operators,
    origin,
    remark,
    updates,
)

MURPHI: Final = Syntax(
    {
        Op.NOT: "!{0}",
        Op.EQ: "({0} = {1})",
        Op.LE: "({0} <= {1})",
        Op.ITE: "({0} ? {1} : {2})",
        Op.ADD: "({0} + {1})",
        Op.SUB: "({0} - {1})",
        Op.MUL: "({0} * {1})",
        Op.DIV: "({0} / {1})",
        Op.MOD: "({0} % {1})",
        Op.BITAND: "({0} & {1})",
        Op.BITOR: "({0} | {1})",
        Op.BITXOR: "({0} ^ {1})",
        Op.SHL: "({0} << {1})",
        Op.SHR: "({0} >> {1})",
        Op.BITCOUNT: "bit_count({0})",
        Op.NARROW: "clamp({0}, {lo}, {hi})",
    },
    conjunction=" & ",
    truth=("false", "true"),
)

BITS: Final = 61

_HELPERS: Final = {
    Op.BITCOUNT: """\
function bit_count(x: integer): integer;
var
  rest: integer;
  bits: integer;
begin
  rest := x;
  bits := 0;
  while rest != 0 do
    bits := bits + rest % 2;
    rest := rest / 2;
  end;
  return bits;
end;
""",
    Op.NARROW: """\
function clamp(x: integer; lo: integer; hi: integer): integer;
begin
  return x < lo ? lo : (x > hi ? hi : x);
end;
""",
}


def text(system: TransitionSystem) -> str:
    """The model; deadlocks are states in which no rule is enabled (``rumur --deadlock-detection
    stuck``, or ``off`` if the first lines say so). ``ExportError`` if it needs numbers of more than
    ``BITS`` bits."""
    check_bits(system, "Murphi", BITS)
    system = completed(system)
    names = legal_names((var.name for var in system.variables), "v_")
    lines = [
        f"-- {remark(system.name)}",
        f"-- Deadlock detection: {deadlock_detection(system)}",
        *(f"-- {line}" for line in left_out(system)),
        "",
        "type",
        f"  integer: {_integer(system)};",
        "",
        "var",
        *(f"  {names[var.name]}: {_range(var)}; -- {domain(var)}" for var in system.variables),
        "",
        *(helper for op, helper in _HELPERS.items() if op in operators(system)),
    ]
    for i, state in enumerate(distinct_initial(system)):
        lines += [f'startstate "{i}"', "begin"]
        lines += [f"  {names[var.name]} := {_value(var, int(state[var.name]))};" for var in system.variables]
        lines += ["end;", ""]
    for i, step in enumerate(system.transitions):
        lines += _rule(system, i, step, names)
    for i, (name, holds) in enumerate(invariants(system)):
        function, condition = _condition(f"invariant_{i}", holds, names)
        lines += [*function, f'invariant "{remark(name)}" {condition};', ""]
    return "\n".join(lines)


def deadlock_detection(system: TransitionSystem) -> str:
    """Rumur's option of that name under which its deadlocks are the system's."""
    return "off" if system.ended is TRUE else "stuck"


def _integer(system: TransitionSystem) -> str:
    """A range that holds every intermediate result: Rumur computes in a C type that its types fit."""
    lo, hi = hull(system)
    return f"{min(lo, -1)} .. {max(hi, 64)}"


def _range(value: Variable | Expr) -> str:
    return "boolean" if value.is_bool else f"{value.lo} .. {value.hi}"


def _value(var: Variable, value: int) -> str:
    return MURPHI.truth[value] if var.is_bool else MURPHI.constant(value)


def _declared(named: list[Named]) -> list[str]:
    return [f"  {n.name}: {_range(n.expr)};" for n in named]


def _assigned(named: list[Named]) -> list[str]:
    return [f"  {n.name} := {n.text};" for n in named]


def _condition(head: str, condition: Expr, names: Mapping[str, str]) -> tuple[list[str], str]:
    """A condition, and the function that it calls if it has named parts."""
    parts = conjuncts(condition)
    block = Block(MURPHI, names, parts)
    lines: list[str] = []
    named: list[Named] = []
    for part in parts[:-1]:
        fails = block.text(not_(part))
        fresh = block.named()
        lines += [*_assigned(fresh), f"  if {fails} then return false; end;"]
        named += fresh
    last = block.text(parts[-1])
    fresh = block.named()
    named += fresh
    if not named:
        return [], " & ".join(block.text(part) for part in parts)
    body = [*lines, *_assigned(fresh), f"  return {last};"]
    return [f"function {head}(): boolean;", "var", *_declared(named), "begin", *body, "end;"], f"{head}()"


def _rule(system: TransitionSystem, i: int, step: Transition, names: Mapping[str, str]) -> list[str]:
    function, guard = _condition(f"guard_{i}", step.guard, names)
    changed = updates(system, step)
    block = Block(MURPHI, names, changed.values())
    texts = {names[name]: block.text(value) for name, value in changed.items()}
    named = block.named()
    ranges = [f"  n_{names[var.name]}: {_range(var)};" for var in system.variables if var.name in changed]
    return [
        f"-- {origin(step)}",
        *function,
        f'rule "{remark(step.name)}" {guard} ==>',
        *(["var"] if ranges else []),
        *_declared(named),
        *ranges,
        "begin",
        *_assigned(named),
        *(f"  n_{name} := {text};" for name, text in texts.items()),
        *(f"  {name} := n_{name};" for name in texts),
        "end;",
        "",
    ]
