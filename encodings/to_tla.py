"""Transition systems as TLA+ modules, which extend nothing but Integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from avicheck.encodings.expr import TRUE, Op
from avicheck.encodings.transition import Transition, TransitionSystem, Variable
from avicheck.encodings.writing import (
    Block,
    Named,
    Syntax,
    completed,
    distinct_initial,
    domain,
    invariants,
    left_out,
    legal_names,
    operators,
    origin,
    remark,
    updates,
)

TLA: Final = Syntax(
    {
        Op.NOT: "~{0}",
        Op.EQ: "({0} = {1})",
        Op.LE: "({0} <= {1})",
        Op.ITE: "(IF {0} THEN {1} ELSE {2})",
        Op.ADD: "({0} + {1})",
        Op.SUB: "({0} - {1})",
        Op.MUL: "({0} * {1})",
        Op.DIV: "({0} \\div {1})",
        Op.MOD: "({0} % {1})",
        Op.BITAND: "BitAnd({0}, {1})",
        Op.BITOR: "BitOr({0}, {1})",
        Op.BITXOR: "BitXor({0}, {1})",
        Op.SHL: "({0} * 2^{1})",
        Op.SHR: "({0} \\div 2^{1})",
        Op.BITCOUNT: "BitCount({0})",
        Op.NARROW: "Clamp({0}, {lo}, {hi})",
    },
    conjunction=" /\\ ",
    truth=("FALSE", "TRUE"),
)

_BITS: Final = """\
\\* Of two's complement numbers without end.
RECURSIVE BitAnd(_, _)
BitAnd(x, y) ==
  IF x = 0 \\/ y = 0 THEN 0
  ELSE IF x = -1 THEN y
  ELSE IF y = -1 THEN x
  ELSE 2 * BitAnd(x \\div 2, y \\div 2) + (x % 2) * (y % 2)
BitOr(x, y) == -1 - BitAnd(-1 - x, -1 - y)
BitXor(x, y) == x + y - 2 * BitAnd(x, y)
"""
_BIT_COUNT: Final = """\
RECURSIVE BitCount(_)
BitCount(x) == IF x = 0 THEN 0 ELSE x % 2 + BitCount(x \\div 2)
"""
_CLAMP: Final = """\
Clamp(x, lo, hi) == IF x < lo THEN lo ELSE IF x > hi THEN hi ELSE x
"""


def module_name(system: TransitionSystem) -> str:
    """The module's name, which its file must bear."""
    return legal_names([system.name], "M_")[system.name]


def text(system: TransitionSystem) -> str:
    """The module. After its end, a configuration for TLC."""
    system = completed(system)
    names = legal_names((var.name for var in system.variables), "v_")
    actions = legal_names((step.name for step in system.transitions), "Step_")
    used = operators(system)
    lines = [
        f"---- MODULE {module_name(system)} ----",
        f"\\* {remark(system.name)}",
        *(f"\\* {line}" for line in left_out(system)),
        "EXTENDS Integers",
        "",
        *(f"VARIABLE {names[var.name]} \\* {domain(var)}" for var in system.variables),
        "",
        f"vars == <<{', '.join(names.values())}>>",
        "",
        *([_BITS] if used & {Op.BITAND, Op.BITOR, Op.BITXOR} else []),
        *([_BIT_COUNT] if Op.BITCOUNT in used else []),
        *([_CLAMP] if Op.NARROW in used else []),
        "TypeOK ==",
        *(f"  /\\ {names[var.name]} \\in {_set(var)}" for var in system.variables),
        "",
        "Init ==",
        *(line for state in distinct_initial(system) for line in _initial(system, state, names)),
        "",
        *(line for step in system.transitions for line in _action(system, step, actions[step.name], names)),
        "Next ==",
        *(f"  \\/ {action}" for action in actions.values()),
        *([] if actions else ["  FALSE /\\ UNCHANGED vars"]),
        "",
        "Spec == Init /\\ [][Next]_vars",
        "",
    ]
    for (name, holds), operator in zip(invariants(system), _invariant_names(system), strict=True):
        block = Block(TLA, names, (holds,))
        body = block.text(holds)
        lines += [f"\\* {remark(name)}", f"{operator} ==", *_let(block.named()), f"  {body}", ""]
    return "\n".join([*lines, "====", "", config(system)])


def config(system: TransitionSystem) -> str:
    """TLC's configuration file. That deadlocks are no errors is not said there: older versions of TLC know
    only the option."""
    checked = ["INIT Init", "NEXT Next", *(f"INVARIANT {name}" for name in _invariant_names(system))]
    note = ["\\* Run TLC with -deadlock: any state may be the last."] if system.ended is TRUE else []
    return "\n".join([*note, *checked, ""])


def _invariant_names(system: TransitionSystem) -> list[str]:
    return list(legal_names((name for name, _ in invariants(system)), "Inv_").values())


def _set(var: Variable) -> str:
    return "BOOLEAN" if var.is_bool else f"{TLA.constant(var.lo)}..{TLA.constant(var.hi)}"


def _initial(system: TransitionSystem, state: Mapping[str, int], names: Mapping[str, str]) -> list[str]:
    values = [f"{names[var.name]} = {_value(var, int(state[var.name]))}" for var in system.variables]
    return [f"  \\/ /\\ {values[0]}", *(f"     /\\ {value}" for value in values[1:])]


def _value(var: Variable, value: int) -> str:
    return TLA.truth[value] if var.is_bool else TLA.constant(value)


def _let(named: list[Named]) -> list[str]:
    if not named:
        return []
    return ["  LET", *(f"    {n.name} == {n.text}" for n in named), "  IN"]


def _action(system: TransitionSystem, step: Transition, name: str, names: Mapping[str, str]) -> list[str]:
    changed = updates(system, step)
    block = Block(TLA, names, (step.guard, *changed.values()))
    guard, *values = [block.text(root) for root in (step.guard, *changed.values())]
    kept = [names[var.name] for var in system.variables if var.name not in changed]
    parts = [guard, *(f"{names[var]}' = {value}" for var, value in zip(changed, values, strict=True))]
    if kept:
        parts.append(f"UNCHANGED <<{', '.join(kept)}>>")
    return [
        f"\\* {origin(step)}",
        f"{name} ==",
        *_let(block.named()),
        *(f"  /\\ {part}" for part in parts),
        "",
    ]
