"""What cannot be lifted: the error, the place it names, and what a rule's text may not contain."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache
from types import CodeType, FrameType, FunctionType
from typing import Any, Final, NoReturn, TypeAlias

from avicheck.spec import cpu, lang, machine, memory, threads


class LiftError(Exception):
    """A specification cannot be lifted: ``<file>:<line> in <function>: <Thing> must be ..., not ...``."""


_LANGUAGE: Final = frozenset(module.__name__ for module in (lang, memory, cpu, threads, machine))


def refuse(what: str) -> NoReturn:
    """Raise a LiftError at the innermost line of the specification that is running."""
    frame = sys._getframe(1)
    while frame.f_back and not _is_specification(frame):
        frame = frame.f_back
    raise LiftError(f"{_place(frame.f_code, frame.f_lineno)}: {what}")


def defined_at(function: Callable[..., Any]) -> str:
    """Where a function is defined."""
    code: CodeType = function.__code__
    return _place(code, code.co_firstlineno)


def raised_at(error: BaseException) -> str:
    """The innermost line of the specification in an error's traceback."""
    trace, place = error.__traceback__, "?"
    while trace is not None:
        if _is_specification(trace.tb_frame):
            place = _place(trace.tb_frame.f_code, trace.tb_lineno)
        trace = trace.tb_next
    return place


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_filename}:{line} in {code.co_name}"


def _is_specification(frame: FrameType) -> bool:
    """Neither lifting nor the language nor the standard library, nor code that these generate."""
    generated = frame.f_code.co_filename.startswith("<")
    return not generated and _is_specification_module(str(frame.f_globals.get("__name__")))


def _is_specification_module(name: str) -> bool:
    return (
        not name.startswith("avicheck.encodings.")
        and name not in _LANGUAGE
        and name.partition(".")[0] not in sys.stdlib_module_names
    )


# What a rule's text may not contain, because lifting could not see it and would go wrong silently.

_TYPE_TESTS: Final = frozenset({"isinstance", "issubclass", "type", "id", "repr", "ascii"})

_MUTABLE: Final = (list, dict, set)
_MUTATORS: Final = frozenset(
    {"add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse"}
    | {"setdefault", "sort", "update"}
)


@cache
def check_rule(function: FunctionType) -> None:
    """Read a rule, and the functions and record classes that it names, for constructs that mean
    something else on symbolic values; LiftError at the first."""
    for part in _reachable(function):
        _check_function(part)


def _reachable(function: FunctionType) -> Iterator[FunctionType]:
    found, waiting = {function}, [function]
    while waiting:
        part = waiting.pop()
        yield part
        for value in _named_by(part).values():
            members = vars(value).values() if isinstance(value, type) else (value,)
            for member in members:
                if _is_helper(member) and member not in found:
                    found.add(member)
                    waiting.append(member)


def _is_helper(value: Any) -> bool:
    """A function of the specification that is no rule; rules are read when they are called."""
    return (
        isinstance(value, FunctionType)
        and not hasattr(value, "__wrapped__")
        and not value.__code__.co_filename.startswith("<")
        and _is_specification_module(value.__module__)
    )


@cache
def _named_by(function: FunctionType) -> Mapping[str, Any]:
    """The values of the free names in a function's text, as far as they are bound."""
    free = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    values = {}
    for node in _nodes(function.__code__.co_filename, function.__code__.co_firstlineno):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            if node.id in free:
                values[node.id] = _content(free[node.id])
            elif node.id in function.__globals__ and node.id not in function.__code__.co_varnames:
                values[node.id] = function.__globals__[node.id]
    return values


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


@cache
def _nodes(file: str, line: int) -> list[ast.AST]:
    """The parts of the text of the functions that begin at a line, decorators apart."""
    return [
        node
        for definition in _definitions(file).get(line, ())
        for part in (definition.args, *_body(definition))
        for node in ast.walk(part)
    ]


def _body(definition: _Definition) -> Sequence[ast.AST]:
    return [definition.body] if isinstance(definition, ast.Lambda) else definition.body


_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


@cache
def _definitions(file: str) -> dict[int, list[_Definition]]:
    """The functions that are defined in a file, by their first line."""
    found: dict[int, list[_Definition]] = {}
    for node in ast.walk(ast.parse("".join(linecache.getlines(file)))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
            found.setdefault(min(part.lineno for part in (node, *decorators)), []).append(node)
    return found


@cache
def _check_function(function: FunctionType) -> None:
    code = function.__code__
    nodes = _nodes(code.co_filename, code.co_firstlineno)
    if not nodes:
        raise LiftError(f"{defined_at(function)}: Text of a rule must be readable, not missing")
    for name, parameter in inspect.signature(function).parameters.items():
        if isinstance(parameter.default, _MUTABLE):
            kind = type(parameter.default).__name__
            raise LiftError(f"{defined_at(function)}: Default of {name} must be immutable, not a {kind}")
    state = {name for name, value in _named_by(function).items() if isinstance(value, _MUTABLE)}
    for node in nodes:
        if what := _objection(node, state):
            raise LiftError(f"{_place(code, getattr(node, 'lineno', code.co_firstlineno))}: {what}")


def _objection(node: ast.AST, state: Collection[str]) -> str:
    """Why a piece of a rule's text is refused, empty if it is not; ``state`` names what outlives a call."""
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            pairs = zip(ops, (left, *others), others, strict=False)
            if any(isinstance(op, ast.Is | ast.IsNot) and not _is_none(a, b) for op, a, b in pairs):
                return "Comparison must be by ==, not by identity"
        case ast.Call(func=ast.Name(id=name)) if name in _TYPE_TESTS:
            return f"Rule must look at values, not at objects: {name}()"
        case ast.FormattedValue(conversion=conversion) if conversion in (ord("r"), ord("a")):
            return "Rule must look at values, not at objects: repr()"
        case ast.MatchClass() | ast.MatchSingleton(value=True | False):
            return "Pattern must be a value, not a type or a singleton"
        case ast.Try() | ast.TryStar() | ast.With():
            return "Exception must be left to the caller, not handled in a rule"
        case ast.Global(names=[name, *_]):
            return f"State must be passed and returned, not kept in a global: {name}"
        case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()) if name in state:
            return f"State must be passed and returned, not kept in a global: {name}"
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if name in state:
            if attr in _MUTATORS:
                return f"State must be passed and returned, not kept in a global: {name}"
    return ""


def _is_none(*operands: ast.expr) -> bool:
    return any(isinstance(operand, ast.Constant) and operand.value is None for operand in operands)
