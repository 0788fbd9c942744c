"""Transition systems as Promela, for SPIN.

Guards and steps are C functions embedded in the model: Promela has no local names in
guards, without which shared subexpressions would be written out again and again.
SPIN's search then has one state (before the initial one) and, for each initial
state and itself, one transition more than the system.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from avicheck.encodings.expr import TRUE, Expr, Op, not_
from avicheck.encodings.transition import Transition, TransitionSystem, Variable
from avicheck.encodings.writing import (
    Block,
    ExportError,
    Named,
    Syntax,
    check_bits,
    completed,
    conjuncts,
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

C: Final = Syntax(
    {
        Op.NOT: "!{0}",
        Op.EQ: "({0} == {1})",
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
        Op.SHL: "({0} * (1LL << {1}))",
        Op.SHR: "shr({0}, {1})",
        Op.BITCOUNT: "__builtin_popcountll({0})",
        Op.NARROW: "clamp({0}, {lo}, {hi})",
    },
    conjunction=" && ",
    truth=("0", "1"),
    suffix="LL",
)
"""C on signed 64-bit numbers: no operation overflows within ``BITS``."""

BITS: Final = 61
_BLOCK: Final = 40_000
"""Characters in a block of C; SPIN reads 64 KiB."""

_HELPERS: Final = {
    Op.SHR: "static inline long long shr(long long x, long long n)"
    " { return n > 62 ? (x < 0 ? -1 : 0) : x >> n; }",
    Op.NARROW: "static inline long long clamp(long long x, long long lo, long long hi)"
    " { return x < lo ? lo : x > hi ? hi : x; }",
}

_TYPES: Final = (("byte", 0, 0xFF), ("short", -0x8000, 0x7FFF), ("int", -0x80000000, 0x7FFFFFFF))
_UNSIGNED_MAX: Final = 0xFFFFFFFF


def text(system: TransitionSystem) -> str:
    """The model; ``ExportError`` if it has a variable of more than 32 bits or needs numbers of more
    than ``BITS`` bits."""
    types = {var.name: _type(var) for var in system.variables}
    check_bits(system, "Promela", BITS)
    system = completed(system)
    names = legal_names((var.name for var in system.variables), "v_")
    reads = {var.name: _read(var, names[var.name]) for var in system.variables}
    helpers = [line for op, line in _HELPERS.items() if op in operators(system)]
    invariant = [holds for _, holds in invariants(system)]
    initial = distinct_initial(system)
    lines = [
        f"/* {remark(system.name)}",
        *(f" * {line}" for line in left_out(system)),
        " */",
        *(f"{types[var.name]} {names[var.name]}; /* {domain(var)} */" for var in system.variables),
        "",
        *_blocks(
            [
                helpers,
                *(_initial(i, state, names) for i, state in enumerate(initial)),
                *(_step(system, i, step, names, reads) for i, step in enumerate(system.transitions)),
                *(_invariant(i, *prop, reads) for i, prop in enumerate(invariants(system))),
            ]
        ),
        "inline check()",
        "{",
        ";\n".join(f"\tassert(c_expr {{ INVARIANT_{i} }})" for i in range(len(invariant))) or "\tskip",
        "}",
        "",
        "init {",
        "\tif",
        *(f"\t:: d_step {{ true -> c_code {{ initial_{i}(); }}; check() }}" for i in range(len(initial))),
        "\tfi;",
        *(["end:"] if system.ended is TRUE else []),
        "\tdo",
        *(
            f"\t:: d_step {{ c_expr {{ GUARD_{i} }} -> c_code {{ step_{i}(); }}; check() }}"
            for i in range(len(system.transitions))
        ),
        *([] if system.transitions else ["\t:: false"]),
        "\tod",
        "}",
        "",
    ]
    return "\n".join(lines)


def _blocks(pieces: Iterable[list[str]]) -> Iterator[str]:
    """C code in blocks that SPIN has room for."""
    block: list[str] = []
    size = 0
    for piece in pieces:
        more = sum(len(line) + 1 for line in piece)
        if block and size + more > _BLOCK:
            yield from ("c_code {", *block, "}", "")
            block, size = [], 0
        block, size = [*block, *piece], size + more
    yield from ("c_code {", *block, "}", "")


def _type(var: Variable) -> str:
    if var.is_bool:
        return "bool"
    for name, lo, hi in _TYPES:
        if lo <= var.lo and var.hi <= hi:
            return name
    if var.lo >= 0 and var.hi <= _UNSIGNED_MAX:
        return "int"
    came = f"{var.lo} to {var.hi}"
    raise ExportError("Values", "numbers of 32 bits", came, f"Promela, variable {var.name}")


def _read(var: Variable, name: str) -> str:
    """A variable's value; one that uses an int's sign as its highest bit gets it back."""
    if var.is_bool:
        return f"now.{name}"
    return f"(long long)(unsigned)now.{name}" if var.hi > _TYPES[-1][2] else f"(long long)now.{name}"


def _initial(i: int, state: Mapping[str, int], names: Mapping[str, str]) -> list[str]:
    values = [f"\tnow.{legal} = {int(state[name])};" for name, legal in names.items()]
    return [f"static void initial_{i}(void)", "{", *values, "}"]


def _locals(named: list[Named]) -> list[str]:
    return [f"\tconst {'int' if n.expr.is_bool else 'long long'} {n.name} = {n.text};" for n in named]


def _condition(head: str, condition: Expr, reads: Mapping[str, str]) -> list[str]:
    """A function that tells whether a condition holds."""
    parts = conjuncts(condition)
    block = Block(C, reads, parts)
    lines = []
    for part in parts[:-1]:
        fails = block.text(not_(part))
        lines += [*_locals(block.named()), f"\tif ({fails}) return 0;"]
    text = block.text(parts[-1])
    return [f"static int {head}(void)", "{", *lines, *_locals(block.named()), f"\treturn {text};", "}"]


def _step(
    system: TransitionSystem, i: int, step: Transition, names: Mapping[str, str], reads: Mapping[str, str]
) -> list[str]:
    changed = updates(system, step)
    block = Block(C, reads, changed.values())
    texts = {names[name]: block.text(value) for name, value in changed.items()}
    return [
        f"/* {origin(step)} */",
        *_condition(f"guard_{i}", step.guard, reads),
        f"\\#define GUARD_{i} guard_{i}()",
        f"static void step_{i}(void)",
        "{",
        *_locals(block.named()),
        *(f"\tconst long long n_{name} = {text};" for name, text in texts.items()),
        *(f"\tnow.{name} = n_{name};" for name in texts),
        "}",
    ]


def _invariant(i: int, name: str, holds: Expr, reads: Mapping[str, str]) -> list[str]:
    return [
        f"/* {remark(name)} */",
        *_condition(f"invariant_{i}", holds, reads),
        f"\\#define INVARIANT_{i} invariant_{i}()",
    ]
