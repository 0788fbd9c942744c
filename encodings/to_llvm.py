"""Transition systems as LLVM IR: the functions of a packed state that the compiled search calls.

A state is an array of 64-bit words. Integers are signed and as wide as their bounds need, in
multiples of 64 bits; booleans are i1. The text needs nothing but this module; to run it is up to others.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from avicheck.encodings.dispatch import Groups, Rule, Switch, Tree, alternatives, decision_tree, in_order
from avicheck.encodings.expr import Expr, Op, postorder
from avicheck.encodings.packing import WORD, Field, Layout
from avicheck.encodings.transition import TransitionSystem

if TYPE_CHECKING:
    from avicheck.encodings.canonical import Canonical, Move, PackedExchange

RECORD_EXTRA: Final = 2
"""Words of a successor record after the state's: the number of the state it was reached from, and one
for the search to keep its hash in."""

Scope: TypeAlias = "ChainMap[Expr, str]"
"""The values that are known wherever control comes past, by expression."""

_BINARY: Final = {
    Op.ADD: "add",
    Op.SUB: "sub",
    Op.MUL: "mul",
    Op.DIV: "udiv",
    Op.MOD: "urem",
    Op.BITAND: "and",
    Op.BITOR: "or",
    Op.BITXOR: "xor",
}


def expand_text(system: TransitionSystem, layout: Layout) -> tuple[str, list[str]]:
    """The successor function in parts, and the parts' names. ``ptr @part(ptr state, ptr out, i64 number,
    ptr fired, ptr fault)`` writes a record for every transition of the part that can fire, counts it in
    ``fired`` and returns the end of what it wrote. A transition that leads beyond a variable's bounds
    writes none: its position plus one goes to ``fault[0]``, the state's number to ``fault[1]``."""
    texts, names = [], []
    for k, node in enumerate(decision_tree(system.transitions)):
        names.append(f"expand{k}")
        texts.append(_Function(layout).expand(names[-1], (node,)))
    return "\n".join(texts), names


def ended_text(system: TransitionSystem, layout: Layout) -> str:
    """``i1 @ended(ptr state)``: whether a state in which nothing can fire is no deadlock."""
    return _Function(layout).test("ended", [system.ended], None)


def select_text(expressions: Sequence[Expr], layout: Layout) -> str:
    """``i1 @select(ptr state, ptr asked)``: whether one of the expressions holds for which the byte in
    ``asked`` is 1."""
    return _Function(layout).test("select", expressions, "asked")


def canonical_text(form: Canonical, layout: Layout) -> str:
    """``void @canonical(ptr state)``: replace a state by the representative of its orbit."""
    return _Function(layout).canonical(form)


def width(expr: Expr) -> int:
    """The bits of the LLVM integer that holds any value of an expression."""
    if expr.is_bool:
        return 1
    needed = max(expr.hi.bit_length(), (~expr.lo).bit_length()) + 1
    return -(-needed // WORD) * WORD


class _Function:
    """One function's text."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.lines: list[str] = []
        self.names = 0

    def line(self, text: str) -> None:
        """Append an instruction."""
        self.lines.append("  " + text)

    def set(self, text: str) -> str:
        """Append an instruction with a result; its name."""
        self.names += 1
        self.line(f"%t{self.names} = {text}")
        return f"%t{self.names}"

    def block(self, label: str) -> None:
        """Begin a block."""
        self.lines.append(f"{label}:")

    def label(self) -> str:
        """A label that no block has yet."""
        self.names += 1
        return f"b{self.names}"

    # Whole functions.

    def head(self, signature: str) -> None:
        """The signature, and the state's words as %w0, %w1 and so on."""
        self.lines.append(f"define internal {signature} {{")
        self.block("entry")
        for i in range(self.layout.words):
            self.line(f"%p{i} = getelementptr inbounds i64, ptr %state, i64 {i}")
            self.line(f"%w{i} = load i64, ptr %p{i}")

    def expand(self, name: str, tree: Tree) -> str:
        """A part of the successor function."""
        self.head(f"ptr @{name}(ptr %state, ptr %start, i64 %number, ptr %fired, ptr %fault)")
        self.line("%out = alloca ptr")
        self.line("store ptr %start, ptr %out")
        self.tree(tree, ChainMap())
        self.line(f"ret ptr {self.set('load ptr, ptr %out')}")
        return "\n".join([*self.lines, "}"])

    def test(self, name: str, expressions: Sequence[Expr], asked: str | None) -> str:
        """A test for expressions, whichever of them is asked for."""
        self.head(f"i1 @{name}(ptr %state{', ptr %asked' if asked else ''})")
        scope: Scope = ChainMap()
        for i, expression in enumerate(expressions):
            this, after = self.label(), self.label()
            if asked:
                flag = self.set(f"getelementptr inbounds i8, ptr %asked, i64 {i}")
                wanted = self.set(f"trunc i8 {self.set(f'load i8, ptr {flag}')} to i1")
                self.line(f"br i1 {wanted}, label %{this}, label %{after}")
            else:
                self.line(f"br label %{this}")
            self.block(this)
            for groups in alternatives(expression):
                other = self.label()
                self.guarded(groups, scope.new_child(), other)
                self.line("ret i1 true")
                self.block(other)
            self.line(f"br label %{after}")
            self.block(after)
        self.line("ret i1 false")
        return "\n".join([*self.lines, "}"])

    # Permutations.

    def canonical(self, form: Canonical) -> str:
        """Find the smallest of the permuted states."""
        self.head("void @canonical(ptr %state)")
        current = [f"%w{i}" for i in range(self.layout.words)]
        best = self.sorted(form, current)
        for exchange in form.walk:
            current = self.exchanged(exchange, current)
            best = self.smaller(self.sorted(form, current), best)
        for i, word in enumerate(best):
            self.line(f"store i64 {word}, ptr %p{i}")
        self.line("ret void")
        return "\n".join([*self.lines, "}"])

    def sorted(self, form: Canonical, words: list[str]) -> list[str]:
        """A state with its blocks sorted."""
        for exchange in form.sort:
            words = self.smaller(self.exchanged(exchange, words), words)
        return words

    def smaller(self, words: list[str], others: list[str]) -> list[str]:
        """The smaller one of two states; the last word counts most."""
        less = "false"
        for word, other in zip(words, others, strict=True):
            below = self.set(f"icmp ult i64 {word}, {other}")
            equal = self.set(f"icmp eq i64 {word}, {other}")
            less = self.set(f"select i1 {equal}, i1 {less}, i1 {below}")
        return [
            self.set(f"select i1 {less}, i64 {word}, i64 {other}")
            for word, other in zip(words, others, strict=True)
        ]

    def exchanged(self, exchange: PackedExchange, words: Sequence[str]) -> list[str]:
        """A state after an exchange."""
        after = list(words)
        for move in exchange.moves:
            for low, high, mask, up in _moved(move, len(after)):
                lowered = self.shifted(after[high], -up)
                differing = self.set(f"xor i64 {after[low]}, {lowered}")
                differing = self.set(f"and i64 {differing}, {_signed(mask)}")
                after[low] = self.set(f"xor i64 {after[low]}, {differing}")
                after[high] = self.set(f"xor i64 {after[high]}, {self.shifted(differing, up)}")
        for flip in exchange.flips:
            word, shift = divmod(flip.field.offset, WORD)
            value = self.set(f"and i64 {self.shifted(after[word], -shift)}, {(1 << flip.field.width) - 1}")
            change = "0"
            for a, b in flip.pairs:
                either = self.any([self.set(f"icmp eq i64 {value}, {end}") for end in (a, b)])
                change = self.set(f"select i1 {either}, i64 {a ^ b}, i64 {change}")
            after[word] = self.set(f"xor i64 {after[word]}, {self.shifted(change, shift)}")
        return after

    def shifted(self, word: str, up: int) -> str:
        """A word shifted up, or down if ``up`` is negative."""
        if not up:
            return word
        return self.set(f"{'shl' if up > 0 else 'lshr'} i64 {word}, {abs(up)}")

    # Transitions.

    def tree(self, tree: Tree, scope: Scope) -> None:
        """Look at every node of a decision tree."""
        for node in tree:
            if isinstance(node, Rule):
                self.rule(node, scope)
            else:
                self.switch(node, scope)

    def switch(self, switch: Switch, scope: Scope) -> None:
        """Go to the one case that applies."""
        variable = self.value(switch.variable, scope)
        type_ = f"i{width(switch.variable)}"
        after = self.label()
        labels = [self.label() for _ in switch.cases]
        cases = zip(switch.cases, labels, strict=True)
        targets = " ".join(f"{type_} {value}, label %{label}" for (value, _), label in cases)
        self.line(f"switch {type_} {variable}, label %{after} [{targets}]")
        for (_, case), label in zip(switch.cases, labels, strict=True):
            self.block(label)
            self.tree(case, scope.new_child())
            self.line(f"br label %{after}")
        self.block(after)

    def rule(self, rule: Rule, scope: Scope) -> None:
        """Fire a transition if it can. What its guard computes, the rules that follow share."""
        after = self.label()
        self.fire(rule, self.guarded(in_order(rule.conjuncts), scope, after), after)
        self.block(after)

    def guarded(self, groups: Groups, scope: Scope, otherwise: str) -> Scope:
        """Go on only where all conditions hold. Returns what is known there; what the first group computes
        is known in ``scope`` too."""
        for group in groups:
            holds = self.all([self.value(condition, scope) for condition in group])
            then = self.label()
            self.line(f"br i1 {holds}, label %{then}, label %{otherwise}")
            self.block(then)
            scope = scope.new_child()
        return scope.new_child()

    def fire(self, rule: Rule, scope: Scope, after: str) -> None:
        """Write a record and count it, unless a value is out of its variable's range."""
        kept = [(1 << WORD) - 1] * self.layout.words
        added: list[list[str]] = [[] for _ in kept]
        faults = []
        for name, value in rule.transition.updates.items():
            field = self.layout.by_name[name]
            result = self.value(value, scope)
            if value.lo < field.variable.lo or value.hi > field.variable.hi:
                faults.append(self.beyond(result, width(value), field))
            for word, shift, mask, part in self.encoded(field, value, result):
                kept[word] &= ~(mask << shift)
                added[word].append(part)
        if faults:
            bad, good = self.label(), self.label()
            self.line(f"br i1 {self.any(faults)}, label %{bad}, label %{good}")
            self.block(bad)
            self.line(f"store i64 {rule.index + 1}, ptr %fault")
            self.line(f"store i64 %number, ptr {self.set('getelementptr i64, ptr %fault, i64 1')}")
            self.line(f"br label %{after}")
            self.block(good)
        out = self.set("load ptr, ptr %out")
        size = self.layout.words
        for i in range(size):
            content = f"%w{i}"
            if added[i]:
                content = self.set(f"and i64 {content}, {_signed(kept[i])}")
                for part in added[i]:
                    content = self.set(f"or i64 {content}, {part}")
            self.put(content, out, i)
        self.put("%number", out, size)
        end = self.set(f"getelementptr inbounds i64, ptr {out}, i64 {size + RECORD_EXTRA}")
        self.line(f"store ptr {end}, ptr %out")
        counter = self.set(f"getelementptr inbounds i64, ptr %fired, i64 {rule.index}")
        count = self.set(f"load i64, ptr {counter}")
        self.line(f"store i64 {self.set(f'add i64 {count}, 1')}, ptr {counter}")
        self.line(f"br label %{after}")

    def put(self, word: str, out: str, place: int) -> None:
        """Write a word of a record."""
        self.line(f"store i64 {word}, ptr {self.set(f'getelementptr inbounds i64, ptr {out}, i64 {place}')}")

    def beyond(self, value: str, bits: int, field: Field) -> str:
        """Whether a value lies outside a variable's bounds."""
        if bits == 1:
            value, bits = self.set(f"zext i1 {value} to i64"), WORD
        variable = field.variable
        needed = max(variable.hi.bit_length(), (~variable.lo).bit_length()) + 1
        value, bits = self.cast(value, bits, max(bits, -(-needed // WORD) * WORD))
        low = self.set(f"icmp slt i{bits} {value}, {variable.lo}")
        high = self.set(f"icmp sgt i{bits} {value}, {variable.hi}")
        return self.any([low, high])

    def encoded(self, field: Field, expr: Expr, value: str) -> Iterable[tuple[int, int, int, str]]:
        """A field's parts by word: word, shift, mask, and the part in its place."""
        if not field.width:
            return
        low = field.variable.lo
        if expr.op is Op.CONST:
            bits = (expr.lo - low) & ((1 << field.width) - 1)
            for word, shift, mask, down in _parts(field):
                yield word, shift, mask, str(_signed((bits >> down & mask) << shift))
            return
        size = width(expr)
        if size == 1:
            value, size = self.set(f"zext i1 {value} to i64"), WORD
        value, size = self.cast(value, size, max(size, -(-field.width // WORD) * WORD))
        if low:
            value = self.set(f"sub i{size} {value}, {low}")
        for word, shift, mask, down in _parts(field):
            part = self.set(f"lshr i{size} {value}, {down}") if down else value
            part = self.set(f"trunc i{size} {part} to i64") if size > WORD else part
            if expr.lo < low or expr.hi - low > mask:
                part = self.set(f"and i64 {part}, {_signed(mask)}")
            yield word, shift, mask, self.set(f"shl i64 {part}, {shift}") if shift else part

    # Expressions.

    def value(self, root: Expr, scope: Scope) -> str:
        """The value of an expression; what it takes is computed here and known from here on."""
        for expr in postorder([root], scope):
            scope[expr] = self.operation(expr, scope)
        return scope[root]

    def all(self, conditions: Sequence[str]) -> str:
        """Whether all conditions hold."""
        return self.folded("and", conditions, "true")

    def any(self, conditions: Sequence[str]) -> str:
        """Whether one of the conditions holds."""
        return self.folded("or", conditions, "false")

    def folded(self, word: str, conditions: Sequence[str], neutral: str) -> str:
        """Conditions combined one by one."""
        result = conditions[0] if conditions else neutral
        for condition in conditions[1:]:
            result = self.set(f"{word} i1 {result}, {condition}")
        return result

    def cast(self, value: str, bits: int, to: int) -> tuple[str, int]:
        """An integer in another width, which its value fits."""
        if bits == to or not value.startswith("%"):
            return value, to
        return self.set(f"{'sext' if to > bits else 'trunc'} i{bits} {value} to i{to}"), to

    def arg(self, expr: Expr, scope: Scope, to: int) -> str:
        """An argument in the width of an operation."""
        return self.cast(scope[expr], width(expr), to)[0]

    def operation(self, expr: Expr, scope: Scope) -> str:
        """An operation on arguments whose values are known."""
        args, bits = expr.args, width(expr)
        wide = max([bits, *map(width, args)])
        if expr.op in (Op.DIV, Op.MOD) and wide == 2 * WORD:
            wide = 3 * WORD  # LLVM writes out the division of these, but calls a library for 128 bits
        match expr.op:
            case Op.CONST:
                return ("true" if expr.lo else "false") if expr.is_bool else str(expr.lo)
            case Op.VAR:
                return self.decoded(self.layout.by_name[str(expr.value)], bits)
            case Op.NOT:
                return self.set(f"xor i1 {scope[args[0]]}, true")
            case Op.AND:
                return self.all([scope[a] for a in args])
            case Op.EQ | Op.LE:
                word = "eq" if expr.op is Op.EQ else "sle"
                left, right = (self.arg(a, scope, wide) for a in args)
                return self.set(f"icmp {word} i{wide} {left}, {right}")
            case Op.ITE:
                yes, no = (self.arg(a, scope, bits) for a in args[1:])
                return self.set(f"select i1 {scope[args[0]]}, i{bits} {yes}, i{bits} {no}")
            case Op.BITCOUNT:
                bits_of = self.arg(args[0], scope, wide)
                result = self.set(f"call i{wide} @llvm.ctpop.i{wide}(i{wide} {bits_of})")
            case Op.NARROW:
                result = self.clamped(self.arg(args[0], scope, wide), wide, expr.lo, expr.hi)
            case Op.SHL:
                by = self.arg(args[1], scope, wide)
                result = self.set(f"shl i{wide} {self.arg(args[0], scope, wide)}, {by}")
            case Op.SHR:
                by = self.arg(args[1], scope, wide)
                if args[1].hi >= wide:
                    by = self.clamped(by, wide, 0, wide - 1)
                result = self.set(f"ashr i{wide} {self.arg(args[0], scope, wide)}, {by}")
            case op:
                left, right = (self.arg(a, scope, wide) for a in args)
                result = self.set(f"{_BINARY[op]} i{wide} {left}, {right}")
        return self.cast(result, wide, bits)[0]

    def clamped(self, value: str, bits: int, low: int, high: int) -> str:
        """The nearest number from ``low`` to ``high``."""
        value = self.set(f"call i{bits} @llvm.smax.i{bits}(i{bits} {value}, i{bits} {low})")
        return self.set(f"call i{bits} @llvm.smin.i{bits}(i{bits} {value}, i{bits} {high})")

    def decoded(self, field: Field, bits: int) -> str:
        """A variable's value, from the state's words."""
        if bits == 1:
            shifted = self.set(f"lshr i64 %w{field.offset // WORD}, {field.offset % WORD}")
            return self.set(f"trunc i64 {shifted} to i1")
        value = "0"
        for word, shift, mask, up in _parts(field):
            part = self.set(f"lshr i64 %w{word}, {shift}") if shift else f"%w{word}"
            part = self.set(f"and i64 {part}, {mask}") if mask.bit_length() + shift < WORD else part
            part = self.set(f"zext i64 {part} to i{bits}") if bits > WORD else part
            part = self.set(f"shl i{bits} {part}, {up}") if up else part
            value = part if value == "0" else self.set(f"or i{bits} {value}, {part}")
        return self.set(f"add i{bits} {value}, {field.variable.lo}") if field.variable.lo else value


def _parts(field: Field) -> Iterable[tuple[int, int, int, int]]:
    """A field by words: the word, the part's place and mask there, and its place in the field."""
    done = 0
    while done < field.width:
        word, shift = divmod(field.offset + done, WORD)
        size = min(field.width - done, WORD - shift)
        yield word, shift, (1 << size) - 1, done
        done += size


def _moved(move: Move, words: int) -> Iterable[tuple[int, int, int, int]]:
    """A move by words: the lower and the upper word, the mask in the lower one, and how far up its bits lie
    in the upper one."""
    for low in range(words):
        for high in range(low, words):
            up = move.distance - (high - low) * WORD
            within = move.mask & (((1 << WORD) - 1) << high * WORD) >> move.distance
            mask = within >> low * WORD & (1 << WORD) - 1
            if mask:
                yield low, high, mask, up


def _signed(word: int) -> int:
    """A 64-bit pattern as LLVM writes it."""
    return word - (1 << WORD) if word >> (WORD - 1) else word
