"""Transition systems as straight-line Python on packed states.

The generated functions are the interpreted tier of the explicit engine: no imports, ready at once.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from avicheck.encodings.dispatch import Groups, Rule, Switch, Tree, alternatives, decision_tree, in_order
from avicheck.encodings.expr import Expr, Op, postorder
from avicheck.encodings.packing import Field, Layout
from avicheck.encodings.transition import TransitionSystem

if TYPE_CHECKING:
    from avicheck.encodings.canonical import Canonical, PackedExchange

Expand: TypeAlias = Callable[
    [Sequence[int], int, dict[int, int], Callable[[int], None], list[int], list[int]], int
]
"""``expand(states, start, parents, found, fired, stuck)``: fire all that can fire in some states, which
are numbered from ``start`` on. A successor that is not a key of ``parents`` is added to it with the
number of the state that it was reached from, and handed to ``found``. ``fired`` counts by transition;
``stuck`` takes the numbers of states in which nothing can fire and that have not ended. Returns the
largest number of transitions that fired in one state."""

Canonicalise: TypeAlias = Callable[[int], int]
"""``canonical(state)``: the representative of a packed state's orbit."""

Select: TypeAlias = Callable[[Sequence[int], int, Sequence[bool]], list[int]]
"""``select(states, start, asked)``: the numbers of the states, counted from ``start`` on, in which an
expression that is asked for holds."""

_MAX_DEPTH: Final = 12  # Python refuses what is nested too deeply
_MAX_CHAIN: Final = 4
_BINARY: Final = {
    Op.ADD: "+",
    Op.SUB: "-",
    Op.MUL: "*",
    Op.DIV: "//",
    Op.MOD: "%",
    Op.BITAND: "&",
    Op.BITOR: "|",
    Op.BITXOR: "^",
    Op.SHL: "<<",
    Op.SHR: ">>",
    Op.EQ: "==",
    Op.LE: "<=",
}


class OutOfRange(Exception):
    """A transition gives a variable a value beyond its bounds. Arguments: the number of the state, the
    position of the transition."""


def compile_expand(system: TransitionSystem, layout: Layout, canonical: Canonicalise | None = None) -> Expand:
    """The system's successor function over a list of packed states; successors are replaced by their
    representatives if there is a function for it."""
    source = expand_source(system, layout, canonical is not None)
    return cast(Expand, _function("expand", source, canonical=canonical))


def compile_select(expressions: Sequence[Expr], layout: Layout) -> Select:
    """A test of packed states for some expressions."""
    return cast(Select, _function("select", select_source(expressions, layout)))


def compile_canonical(form: Canonical) -> Canonicalise:
    """The function that finds representatives."""
    return cast(Canonicalise, _function("canonical", canonical_source(form)))


def _function(name: str, source: str, **known: Any) -> Any:
    names: dict[str, Any] = {"OutOfRange": OutOfRange, **known}
    exec(compile(source, f"<{name}>", "exec"), names)
    return names[name]


def expand_source(system: TransitionSystem, layout: Layout, canonical: bool = False) -> str:
    """The text of ``expand``; with a call of ``canonical`` for each successor if asked for."""
    transitions = system.transitions
    counters = [f"f{i}" for i in range(len(transitions))]
    roots = [e for t in transitions for e in (t.guard, *t.updates.values())]
    out = _Writer(layout, Counter(arg for expr in postorder([*roots, system.ended]) for arg in expr.args))
    out.uses.update(roots)
    out.found = "canonical({})" if canonical else "{}"
    out.line(0, "def expand(states, start, parents, found, fired, stuck):")
    for counter in counters:
        out.line(1, f"{counter} = 0")
    out.line(1, "most = 0")
    out.line(1, "for i, s in enumerate(states, start):")
    out.line(2, "n = 0")
    scope: Scope = ChainMap()
    out.tree(2, decision_tree(transitions), scope)
    out.line(2, "if n > most: most = n")
    out.line(2, "if not n:")
    out.line(3, f"if not {out.text(3, system.ended, scope.new_child())}: stuck.append(i)")
    for i, counter in enumerate(counters):
        out.line(1, f"fired[{i}] += {counter}")
    out.line(1, "return most")
    return "\n".join(out.lines)


def select_source(expressions: Sequence[Expr], layout: Layout) -> str:
    """The text of ``select``."""
    out = _Writer(layout, Counter(arg for expr in postorder(expressions) for arg in expr.args))
    out.line(0, "def select(states, start, asked):")
    out.line(1, "selected = []")
    out.line(1, "for i, s in enumerate(states, start):")
    scope: Scope = ChainMap()
    for k, expression in enumerate(expressions):
        out.line(2, f"if asked[{k}]:")
        for groups in alternatives(expression):
            indent, _ = out.guarded(3, groups, scope.new_child())
            out.line(indent, "selected.append(i); continue")
    out.line(2, "pass")
    out.line(1, "return selected")
    return "\n".join(out.lines)


def canonical_source(form: Canonical) -> str:
    """The text of ``canonical``."""
    lines = ["def canonical(s):"]
    if form.walk:
        lines.append(" c = s")
    lines += _sorting(form, "s")
    for exchange in form.walk:
        lines += [*_exchanging(exchange, "c"), " t = c", *_sorting(form, "t"), " if t < s: s = t"]
    return "\n".join([*lines, " return s"])


def _sorting(form: Canonical, name: str) -> Iterator[str]:
    """Lines that sort the blocks of a packed state."""
    for exchange in form.sort:
        yield f" u = {name}"
        yield from _exchanging(exchange, "u")
        yield f" if u < {name}: {name} = u"


def _exchanging(exchange: PackedExchange, name: str) -> Iterator[str]:
    """Lines that make an exchange in a packed state."""
    for move in exchange.moves:
        yield f" x = ({name} ^ {name} >> {move.distance}) & {move.mask}; {name} ^= x ^ x << {move.distance}"
    for flip in exchange.flips:
        yield f" x = {name} >> {flip.field.offset} & {(1 << flip.field.width) - 1}"
        for k, (a, b) in enumerate(flip.pairs):
            changed = (a ^ b) << flip.field.offset
            yield f" {'elif' if k else 'if'} x == {a} or x == {b}: {name} ^= {changed}"


Scope: TypeAlias = "ChainMap[Expr, str]"
"""The local variables that hold the values of expressions, wherever control comes past."""


class _Writer:
    """Lines of Python. ``uses`` says how often an expression is an argument: what is used more than
    once, or is nested deeply, becomes a local variable."""

    def __init__(self, layout: Layout, uses: Counter[Expr]) -> None:
        self.layout, self.uses = layout, uses
        self.lines: list[str] = []
        self.locals = 0
        self.found = "{}"

    def line(self, indent: int, text: str) -> None:
        """Append a line."""
        self.lines.append(" " * indent + text)

    def text(self, indent: int, root: Expr, scope: Scope) -> str:
        """An expression for the value of ``root``; writes assignments that it needs."""
        texts: dict[Expr, tuple[str, int]] = {}
        for expr in postorder([root], scope):
            depth = 1 + max((texts[arg][1] for arg in expr.args if arg in texts), default=0)
            args = [texts[arg][0] if arg in texts else scope[arg] for arg in expr.args]
            text = self.operation(expr, args)
            shared = expr.op is not Op.CONST and self.uses[expr] > 1
            if shared or depth > _MAX_DEPTH:
                text, depth = self.local(indent, text), 0
                scope[expr] = text
            texts[expr] = text, depth
        return texts[root][0] if root in texts else scope[root]

    def local(self, indent: int, text: str) -> str:
        """A new local variable that holds a value."""
        name = f"v{self.locals}"
        self.locals += 1
        self.line(indent, f"{name} = {text}")
        return name

    def operation(self, expr: Expr, args: Sequence[str]) -> str:
        """An operation on arguments; booleans come out as False, True, 0 or 1."""
        match expr.op:
            case Op.CONST:
                return f"({expr.lo})" if expr.lo < 0 else str(expr.lo)
            case Op.VAR:
                return _decoded(self.layout.by_name[str(expr.value)])
            case Op.NOT:
                return f"(not {args[0]})"
            case Op.AND:
                return f"({' and '.join(args)})"
            case Op.ITE:
                return f"({args[1]} if {args[0]} else {args[2]})"
            case Op.BITCOUNT:
                return f"({args[0]}).bit_count()"
            case Op.NARROW:
                return f"min(max({args[0]}, {expr.lo}), {expr.hi})"
            case op:
                return f"({args[0]} {_BINARY[op]} {args[1]})"

    def tree(self, indent: int, tree: Tree, scope: Scope) -> None:
        """Look at every node of a decision tree."""
        for node in tree:
            if isinstance(node, Rule):
                self.rule(indent, node, scope.new_child())
            else:
                name = self.text(indent, node.variable, scope)
                if not name.isidentifier():
                    name = scope[node.variable] = self.local(indent, name)
                self.cases(indent, name, node, scope)

    def cases(self, indent: int, name: str, switch: Switch, scope: Scope) -> None:
        """Go to the one case that applies: by halves, then one by one."""
        if len(switch.cases) > _MAX_CHAIN:
            half = len(switch.cases) // 2
            self.line(indent, f"if {name} < {switch.cases[half][0]}:")
            self.cases(indent + 1, name, Switch(switch.variable, switch.cases[:half]), scope)
            self.line(indent, "else:")
            self.cases(indent + 1, name, Switch(switch.variable, switch.cases[half:]), scope)
            return
        word = "if"
        for value, case in switch.cases:
            self.line(indent, f"{word} {name} == {value}:")
            self.tree(indent + 1, case, scope.new_child())
            word = "elif"

    def rule(self, indent: int, rule: Rule, scope: Scope) -> None:
        """Fire a transition if it can."""
        indent, scope = self.guarded(indent, in_order(rule.conjuncts), scope)
        after = self.after(indent, rule, scope)
        self.line(indent, f"f{rule.index} += 1; n += 1; t = {self.found.format(after)}")
        self.line(indent, "if t not in parents: parents[t] = i; found(t)")

    def guarded(self, indent: int, groups: Groups, scope: Scope) -> tuple[int, Scope]:
        """Go on, further to the right, only where all conditions hold."""
        for group in groups:
            texts = [self.text(indent, condition, scope) for condition in group]
            self.line(indent, f"if {' and '.join(texts)}:")
            indent, scope = indent + 1, scope.new_child()
        return indent, scope

    def after(self, indent: int, rule: Rule, scope: Scope) -> str:
        """The packed state after a transition."""
        changed = fixed = 0
        parts = []
        for name, value in rule.transition.updates.items():
            field = self.layout.by_name[name]
            low, high = field.variable.lo, field.variable.hi
            text = self.text(indent, value, scope)
            if value.lo < low or value.hi > high:
                text = text if text.isidentifier() else self.local(indent, text)
                fault = f"raise OutOfRange(i, {rule.index})"
                self.line(indent, f"if not {low} <= {text} <= {high}: {fault}")
            changed |= field.mask
            if value.op is Op.CONST:
                fixed |= (value.lo - low) << field.offset
            elif field.width:
                text = f"({text} - {low})" if low else text
                parts.append(f"({text} << {field.offset})" if field.offset else text)
        kept = f"s & {((1 << self.layout.bits) - 1) & ~changed}" if changed else "s"
        return " | ".join([kept, *parts, *([str(fixed)] if fixed else [])])


def _decoded(field: Field) -> str:
    """A variable's value, from the packed state ``s``."""
    if not field.width:
        return str(field.variable.lo)
    shifted = f"s >> {field.offset}" if field.offset else "s"
    value = f"({shifted} & {(1 << field.width) - 1})"
    return f"({value} + {field.variable.lo})" if field.variable.lo else value
