"""Expressions over a model's names, as users write them: Python's syntax, never Python's evaluation.

An expression is parsed, checked against the declared types of the names, and turned into functions that
only read fields, index, calculate and call the specification's rules. The values may be symbolic: a
condition forks only where Python would not evaluate what follows and what follows could fail.
"""

from __future__ import annotations

import ast
import functools
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, get_type_hints

from avicheck.checker.errors import InputError, nearest, not_one_of, shown
from avicheck.checker.vocabulary import BUILTINS, Array, Values, Vocabulary, is_record, type_name, type_of
from avicheck.spec.lang import NULL, Table, at_least, at_most, domains, rule

MAX_CHARACTERS: Final = 4000
MAX_NODES: Final = 500
MAX_DEPTH: Final = 50
MAX_TURNS: Final = 100_000
"""Turns of all loops of one evaluation."""
WORD_MIN: Final = -(1 << 63)
WORD_MAX: Final = (1 << 64) - 1


@dataclass
class Run:
    """One evaluation: the values of the names, and how many turns its loops took."""

    values: Values
    turns: int = 0


@dataclass(frozen=True)
class Term:
    """A checked part of an expression. ``may_fail``: evaluated only where Python would evaluate it."""

    type: Any
    run: Callable[[Run], Any]
    may_fail: bool = False


@dataclass(frozen=True)
class Expression:
    """A checked condition over a vocabulary."""

    text: str
    _term: Term = field(repr=False)

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Its truth under the values of the vocabulary's names; ``InputError`` where an index is out
        of range, a divisor 0 or a number beyond 64 bits."""
        return self._term.run(Run(dict(values)))


def parse(text: str, vocabulary: Vocabulary) -> Expression:
    """The condition that ``text`` says; ``InputError`` with the column of what is not one."""
    if len(text) > MAX_CHARACTERS:
        raise InputError("Expression", f"at most {MAX_CHARACTERS} characters long", f"{len(text)}")
    tree = _parsed(text)
    _check_size(tree)
    term = _Checker(text, vocabulary).term(tree)
    if term.type is not bool:
        raise InputError("Expression", "a condition, true or false", type_name(term.type))
    return Expression(text, term)


def _parsed(text: str) -> ast.expr:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        at = f"column {error.offset}" if error.offset else "its start"
        raise InputError(
            "Expression", "in Python's syntax", f"{shown(text)} ({error.msg} at {at})"
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise InputError("Expression", "in Python's syntax", shown(text)) from error


def _check_size(tree: ast.expr) -> None:
    level: list[ast.AST] = [tree]
    count = depth = 0
    while level:
        count, depth = count + len(level), depth + 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            limit = f"at most {MAX_NODES} parts, nested at most {MAX_DEPTH} deep"
            raise InputError("Expression", limit, "larger")
        level = [child for node in level for child in ast.iter_child_nodes(node)]


@rule
def _chosen(condition: bool, value: int) -> int:
    """``value`` where the condition is true, else 0."""
    return value if condition else 0


_ORDER: Final[dict[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
_BITWISE: Final[dict[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_NUMBERS: Final = (int, bool)
_OPERATORS: Final[dict[type[ast.operator], str]] = {ast.Div: "/", ast.Pow: "**", ast.MatMult: "@"}
_COMPARISONS: Final[dict[type[ast.cmpop], str]] = {
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in, in a chain",
    ast.NotIn: "not in, in a chain",
}
_ALLOWED: Final = {
    ast.Attribute,
    ast.BinOp,
    ast.BoolOp,
    ast.Call,
    ast.Compare,
    ast.Constant,
    ast.IfExp,
    ast.Name,
    ast.Subscript,
    ast.UnaryOp,
}


class _Checker:
    """Turns syntax into terms; one method per kind of node, ``InputError`` for every other kind."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self.lines = text.strip().splitlines() or [""]
        self.indent = len(text) - len(text.lstrip())
        self.vocabulary = vocabulary
        self.loops: dict[str, Any] = {}

    def place(self, node: ast.AST) -> str:
        """Where a node starts, in characters from 1."""
        line, offset = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        row = self.lines[min(line, len(self.lines)) - 1]
        column = len(row.encode()[:offset].decode(errors="replace")) + 1
        return f"line {line}, column {column}" if line > 1 else f"column {column + self.indent}"

    def error(self, node: ast.AST, thing: str, expectation: str, came: str, hint: str = "") -> InputError:
        """An error at a node."""
        return InputError(thing, expectation, came, self.place(node), hint)

    def term(self, node: ast.expr) -> Term:
        """The term of an expression's node."""
        if type(node) not in _ALLOWED:
            allowed = "made of names, fields, numbers, operators, comparisons, any, all and sum"
            raise self.error(node, "Expression", allowed, _source(node))
        term: Term = getattr(self, f"_{type(node).__name__.lower()}")(node)
        return term

    def typed(self, node: ast.expr, allowed: tuple[Any, ...], thing: str) -> Term:
        """A term of one of the types."""
        term = self.term(node)
        if term.type not in allowed:
            expected = " or ".join(type_name(type_) for type_ in allowed)
            hint = "write x != 0 for a number" if allowed == (bool,) and term.type is int else ""
            raise self.error(node, thing, expected, type_name(term.type), hint)
        return term

    def _constant(self, node: ast.Constant) -> Term:
        value = node.value
        if not isinstance(value, int):
            came = shown(value) if isinstance(value, str | float) else type(value).__name__
            raise self.error(node, "Constant", "an integer, True or False", came)
        if value > WORD_MAX:
            raise self.error(node, "Constant", "a number of at most 64 bits", f"one of {value.bit_length()}")
        return Term(type(value), lambda run: value)

    def _name(self, node: ast.Name) -> Term:
        return self._meant(node, self.candidates(node), None)

    def _meant(self, node: ast.expr, candidates: list[Term], type_: Any) -> Term:
        """The one meaning; where a name has several, that of ``type_``."""
        fitting = [term for term in candidates if term.type is type_] if len(candidates) > 1 else candidates
        if len(fitting) != 1:
            expected = "compared with a value that tells which one is meant"
            raise self.error(node, f"Name {_source(node)}", expected, "alone: it is ambiguous")
        return fitting[0]

    def candidates(self, node: ast.Name) -> list[Term]:
        """Every meaning of a bare name."""
        name, words = node.id, self.vocabulary
        if name in self.loops or name in words.names:
            type_ = self.loops.get(name) or words.names[name]
            return [Term(type_, lambda run: run.values[name])]
        found = [enum[name] for enum in words.enums.values() if name in enum.__members__]
        constants = [words.constants[name]] if name in words.constants else []
        if found or constants:
            return [_fixed(value) for value in (*found, *constants)]
        if name in words.rules or name in BUILTINS:
            raise self.error(node, f"Function {name}", "called", "used as a value")
        if name in words.enums:
            members = ", ".join(f"{name}.{member}" for member in words.enums[name].__members__)
            raise self.error(node, "Enumeration", f"one of its members ({members})", shown(name))
        expected = f"one of the model's ({', '.join(sorted(words.names))}), its rules or constants"
        raise self.error(node, "Name", expected, shown(name), nearest(name, [*words.known, *self.loops]))

    def _attribute(self, node: ast.Attribute) -> Term:
        name = node.attr
        if isinstance(node.value, ast.Name) and node.value.id in self.vocabulary.enums:
            enum = self.vocabulary.enums[node.value.id]
            if name not in enum.__members__:
                raise not_one_of(f"Member of {enum.__name__}", enum.__members__, name, self.place(node))
            return _fixed(enum[name])
        base = self.term(node.value)
        declared = domains(base.type) if is_record(base.type) else {}
        known = {field: type_ for field, domain in declared.items() if (type_ := type_of(domain))}
        if not known:
            thing = f"Value before .{name}"
            raise self.error(node, thing, "a record with fields", type_name(base.type))
        if name not in known:
            raise not_one_of(f"Field of {base.type.__name__}", known, name, self.place(node))
        return Term(known[name], lambda run: getattr(base.run(run), name), base.may_fail)

    def _subscript(self, node: ast.Subscript) -> Term:
        base, index = self.term(node.value), self.typed(node.slice, _NUMBERS, "Index")
        if base.type is Table:
            return Term(int, lambda run: base.run(run)[index.run(run)], base.may_fail or index.may_fail)
        if not isinstance(base.type, Array):
            raise self.error(node, "Indexed value", "a list", type_name(base.type))

        def element(run: Run) -> Any:
            array, position = base.run(run), operator.index(index.run(run))
            if not 0 <= position < len(array):
                hint = "check for NULL first: x != NULL and ..." if position == NULL else ""
                raise self.error(node, "Index", f"from 0 to {len(array) - 1}", str(position), hint)
            return array[position]

        return Term(base.type.element, element, True)

    def _boolop(self, node: ast.BoolOp) -> Term:
        thing = f"Operand of {'and' if isinstance(node.op, ast.And) else 'or'}"
        terms = [self.typed(value, (bool,), thing) for value in node.values]
        if isinstance(node.op, ast.And):
            return _conjunction(terms)
        return _negation(_conjunction([_negation(term) for term in terms]))

    def _unaryop(self, node: ast.UnaryOp) -> Term:
        if isinstance(node.op, ast.Not):
            return _negation(self.typed(node.operand, (bool,), "Operand of not"))
        if isinstance(node.op, ast.UAdd):
            return self.typed(node.operand, _NUMBERS, "Operand of +")
        symbol, function = ("-", operator.neg) if isinstance(node.op, ast.USub) else ("~", operator.inv)
        term = self.typed(node.operand, (int,), f"Operand of {symbol}")
        return Term(int, lambda run: self.word(node, function(term.run(run))), term.may_fail)

    def _binop(self, node: ast.BinOp) -> Term:
        bitwise, arithmetic = _BITWISE.get(type(node.op)), _ARITHMETIC.get(type(node.op))
        function = bitwise or arithmetic
        if function is None:
            raise self.error(node, "Operator", "one of + - * // % << >> & | ^", _OPERATORS[type(node.op)])
        left, right = (self.typed(side, _NUMBERS, "Operand") for side in (node.left, node.right))
        may_fail = left.may_fail or right.may_fail
        if bitwise and left.type is bool and right.type is bool:
            return Term(bool, lambda run: bitwise(left.run(run), right.run(run)), may_fail)
        divides, shifts = (
            isinstance(node.op, ast.FloorDiv | ast.Mod),
            isinstance(node.op, ast.LShift | ast.RShift),
        )

        def result(run: Run) -> Any:
            a, b = left.run(run), right.run(run)
            if divides and isinstance(b, int) and b == 0:
                raise self.error(node, "Divisor", "other than 0", "0")
            if shifts and isinstance(b, int) and not 0 <= b < 64:
                raise self.error(node, "Shift", "by 0 to 63 bits", f"by {b}")
            return self.word(node, function(a, b))

        return Term(int, result, may_fail or divides or shifts)

    def word(self, node: ast.AST, value: Any) -> Any:
        """A calculated number, if it fits 64 bits; what is symbolic has its own width."""
        if isinstance(value, int) and not WORD_MIN <= value <= WORD_MAX:
            raise self.error(node, "Number", "of at most 64 bits", "longer")
        return value

    def _ifexp(self, node: ast.IfExp) -> Term:
        test = self.typed(node.test, (bool,), "Condition of if")
        yes, no = self.term(node.body), self.term(node.orelse)
        if yes.type is not no.type and not (yes.type in _NUMBERS and no.type in _NUMBERS):
            raise self.error(node.orelse, "Value after else", type_name(yes.type), type_name(no.type))
        type_ = yes.type if yes.type is no.type else int
        may_fail = test.may_fail or yes.may_fail or no.may_fail
        return Term(type_, lambda run: yes.run(run) if test.run(run) else no.run(run), may_fail)

    def _compare(self, node: ast.Compare) -> Term:
        if isinstance(node.ops[0], ast.In | ast.NotIn) and len(node.ops) == 1:
            return self._membership(node, node.comparators[0])
        for op in node.ops:
            if type(op) in _COMPARISONS:
                allowed = "one of == != < <= > >=, or one in"
                raise self.error(node, "Comparison", allowed, _COMPARISONS[type(op)])
        nodes = [node.left, *node.comparators]
        terms = self._operands(nodes)
        links = [
            self._link(op, nodes[at], terms[at], nodes[at + 1], terms[at + 1])
            for at, op in enumerate(node.ops)
        ]

        def chain(run: Run) -> Any:
            left, result = terms[0].run(run), True
            for term, link in zip(terms[1:], links, strict=True):
                if term.may_fail and not result:
                    return False
                right = term.run(run)
                left, result = right, result & link(left, right)
            return result

        return Term(bool, chain, any(term.may_fail for term in terms))

    def _membership(self, node: ast.Compare, right: ast.expr) -> Term:
        if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
            raise self.error(right, "Right side of in", "a list of values, (a, b)", _source(right))
        nodes = [node.left, *right.elts]
        first, *terms = self._operands(nodes)
        links = [
            self._link(ast.Eq(), node.left, first, element, term)
            for element, term in zip(right.elts, terms, strict=True)
        ]

        def member(run: Run) -> Any:
            value, result = first.run(run), False
            for term, link in zip(terms, links, strict=True):
                result = result | link(value, term.run(run))
            return result ^ isinstance(node.ops[0], ast.NotIn)

        return Term(bool, member, any(term.may_fail for term in (first, *terms)))

    def _operands(self, nodes: list[ast.expr]) -> list[Term]:
        """The terms of values that are compared; an ambiguous name means that of the others' type."""
        choices = [
            self.candidates(node) if isinstance(node, ast.Name) else [self.term(node)] for node in nodes
        ]
        type_ = next((terms[0].type for terms in choices if len(terms) == 1), None)
        return [self._meant(*choice, type_) for choice in zip(nodes, choices, strict=True)]

    def _link(
        self, op: ast.cmpop, left: ast.expr, a: Term, right: ast.expr, b: Term
    ) -> Callable[[Any, Any], Any]:
        """One comparison of a chain, as a function of the two values."""
        if isinstance(op, ast.Eq | ast.NotEq):
            if a.type is not b.type and not (a.type in _NUMBERS and b.type in _NUMBERS):
                members = f" ({', '.join(a.type.__members__)})" if _is_enum(a.type) else ""
                raise self.error(right, "Compared value", type_name(a.type) + members, type_name(b.type))
            if not _comparable(a.type):
                expected = "a number, a condition, a member or a record of them"
                raise self.error(left, "Compared value", expected, type_name(a.type))
            return lambda x, y: _same(x, y, a.type) ^ isinstance(op, ast.NotEq)
        for node, term in ((left, a), (right, b)):
            if term.type not in _NUMBERS:
                raise self.error(node, "Compared value", "a number", type_name(term.type))
        return _ORDER[type(op)]

    def _call(self, node: ast.Call) -> Term:
        if not isinstance(node.func, ast.Name):
            raise self.error(node, "Called function", "a name", _source(node.func))
        name, rules = node.func.id, self.vocabulary.rules
        if node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
            raise self.error(node, f"Argument of {name}", "given by position", "by name or with a star")
        if name in rules:
            return self._rule_call(node, name, rules[name])
        if name in ("any", "all", "sum"):
            return self._fold_call(node, name)
        if name in ("min", "max", "abs", "len"):
            return self._number_call(node, name)
        if name == "range":
            raise self.error(node, "range", "what a for goes over", "a value")
        raise not_one_of("Function", sorted({*rules, *BUILTINS}), name, self.place(node))

    def _arguments(self, node: ast.Call, name: str, types: list[tuple[Any, ...]]) -> list[Term]:
        if len(node.args) != len(types):
            came = f"{len(node.args)}"
            raise self.error(node, f"Number of arguments of {name}", f"{len(types)}", came)
        return [
            self.typed(arg, allowed, f"Argument of {name}")
            for arg, allowed in zip(node.args, types, strict=True)
        ]

    def _rule_call(self, node: ast.Call, name: str, function: Callable[..., Any]) -> Term:
        hints = get_type_hints(function)
        result = hints.pop("return")
        terms = self._arguments(node, name, [_NUMBERS if hint is int else (hint,) for hint in hints.values()])

        def called(run: Run) -> Any:
            try:
                return function(*(term.run(run) for term in terms))
            except IndexError as error:
                raise self.error(
                    node, f"Argument of {name}", "the index of a vCPU or NULL", "another"
                ) from error

        return Term(result, called, any(term.may_fail for term in terms))

    def _number_call(self, node: ast.Call, name: str) -> Term:
        if name == "len":
            if len(node.args) != 1 or not isinstance((array := self.term(node.args[0])).type, Array):
                raise self.error(node, "Argument of len", "a list", "another value")
            return Term(int, lambda run: len(array.run(run)), array.may_fail)
        if name == "abs":
            (term,) = self._arguments(node, name, [(int,)])
            return Term(int, lambda run: at_least(value := term.run(run), -value), term.may_fail)
        count = max(len(node.args), 2)
        terms = self._arguments(node, name, [_NUMBERS] * count)
        pick = at_most if name == "min" else at_least
        may_fail = any(term.may_fail for term in terms)
        return Term(int, lambda run: functools.reduce(pick, (term.run(run) for term in terms)), may_fail)

    def _fold_call(self, node: ast.Call, name: str) -> Term:
        if len(node.args) != 1 or not isinstance(generator := node.args[0], ast.GeneratorExp):
            expected = f"of the form {name}(... for x in ...)"
            raise self.error(node, f"Argument of {name}", expected, "another")
        before = dict(self.loops)
        loops = [self._loop(clause) for clause in generator.generators]
        wanted = _NUMBERS if name == "sum" else (bool,)
        element = self.typed(generator.elt, wanted, f"Element of {name}")
        self.loops = before
        may_fail = element.may_fail or any(loop.may_fail for loop in loops)

        def fold(run: Run) -> Any:
            result: Any = {"any": False, "all": True, "sum": 0}[name]
            for guard in self._turns(node, run, loops, True):
                if element.may_fail and not guard:
                    continue
                value = element.run(run)
                if name == "sum":
                    result = self.word(node, result + _chosen(guard, value))
                elif name == "any":
                    result = result | (guard & value)
                else:
                    result = result & ((guard ^ True) | value)
                if may_fail and name != "sum" and bool(result) == (name == "any"):
                    return result
            return result

        return Term(int if name == "sum" else bool, fold, may_fail)

    def _turns(self, node: ast.AST, run: Run, loops: list[_Loop], guard: Any) -> Iterator[Any]:
        """Give the loop variables their values, one turn after the other, with each turn's condition."""
        if not loops:
            yield guard
            return
        loop, *inner = loops
        for item in loop.over.run(run):
            run.turns += 1
            if run.turns > MAX_TURNS:
                raise self.error(node, "Loops", f"of at most {MAX_TURNS} turns in all", "longer")
            run.values[loop.name] = item
            holds = guard & loop.condition.run(run) if loop.condition else guard
            if not any(later.may_fail for later in inner) or holds:
                yield from self._turns(node, run, inner, holds)

    def _loop(self, clause: ast.comprehension) -> _Loop:
        target = clause.target
        if clause.is_async or not isinstance(target, ast.Name):
            raise self.error(target, "Loop variable", "a name", _source(target))
        if target.id in self.vocabulary.known or target.id in self.loops:
            raise self.error(target, "Loop variable", "a new name", shown(target.id))
        over = self._iterable(clause.iter)
        self.loops[target.id] = over.type.element
        conditions = [self.typed(test, (bool,), "Condition of if") for test in clause.ifs]
        return _Loop(target.id, over, _conjunction(conditions) if conditions else None)

    def _iterable(self, node: ast.expr) -> Term:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            terms = self._arguments(node, "range", [_NUMBERS] * min(max(len(node.args), 1), 2))
            return Term(
                Array(int),
                lambda run: range(*(operator.index(term.run(run)) for term in terms)),
                any(term.may_fail for term in terms),
            )
        term = self.term(node)
        if not isinstance(term.type, Array):
            raise self.error(node, "What a for goes over", "a list or a range", type_name(term.type))
        return term


@dataclass(frozen=True)
class _Loop:
    """One ``for`` of a generator, with its ``if``."""

    name: str
    over: Term
    condition: Term | None

    @property
    def may_fail(self) -> bool:
        """Whether a turn must not be tried where Python would not take it."""
        return self.over.may_fail or (self.condition is not None and self.condition.may_fail)


def _conjunction(terms: list[Term]) -> Term:
    """``and``: without branching, except before a term that may fail."""

    def run_all(run: Run) -> Any:
        result = terms[0].run(run)
        for term in terms[1:]:
            if not term.may_fail:
                result = result & term.run(run)
            elif result:
                result = term.run(run)
            else:
                return False
        return result

    return Term(bool, run_all, any(term.may_fail for term in terms))


def _negation(term: Term) -> Term:
    return Term(bool, lambda run: term.run(run) ^ True, term.may_fail)


def _fixed(value: Any) -> Term:
    return Term(type(value), lambda run: value)


def _is_enum(type_: Any) -> bool:
    return isinstance(type_, type) and issubclass(type_, Enum)


def _comparable(type_: Any) -> bool:
    """Whether values of a type are compared with ==: scalars, and records of them."""
    if type_ in _NUMBERS or _is_enum(type_):
        return True
    return is_record(type_) and all(_comparable(type_of(domain)) for domain in domains(type_).values())


def _same(a: Any, b: Any, type_: Any) -> Any:
    """``a == b``; records field by field, without branching."""
    if not is_record(type_):
        return a == b
    result: Any = True
    for name, domain in domains(type_).items():
        result = result & _same(getattr(a, name), getattr(b, name), type_of(domain))
    return result


def _source(node: ast.expr) -> str:
    """A part of an expression as the user may have written it."""
    return shown(ast.unparse(node))
