"""JSON into typed structures, with errors that name the place, the expectation and what came."""

from __future__ import annotations

import json
import re
from typing import Any, Final, TypeVar, get_args, get_type_hints

import msgspec

from avicheck.checker.errors import InputError, not_one_of, shown

T = TypeVar("T")

_WORDS: Final = {
    "int": "an integer",
    "str": "a string",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
    "float": "a number with a fraction",
}


def parse_json(data: bytes, place: str) -> Any:
    """The value of a JSON text in UTF-8; ``InputError`` with line and column if it is none, or if
    an object has two fields of one name."""
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique_fields, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        byte = f"byte {data[error.start]:#04x} at offset {error.start}"
        raise InputError("Content", "JSON in UTF-8", byte, place) from error
    except json.JSONDecodeError as error:
        where = f"{error.msg} (line {error.lineno}, column {error.colno})"
        raise InputError("Content", "JSON", where, place) from error
    except InputError as error:
        raise error.at(place) from error
    except (RecursionError, ValueError) as error:
        came = "too deep a nesting" if isinstance(error, RecursionError) else "too long a number"
        raise InputError("Content", "JSON of reasonable size", came, place) from error


def _unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"Field {shown(twice)}", "given once", f"{names.count(twice)} times")
    return fields


def _no_constant(name: str) -> Any:
    raise InputError("Number", "finite", name)


def typed(value: Any, type_: type[T], place: str) -> T:
    """``value``, as ``parse_json`` returns it, as a ``type_``; ``InputError`` where it does not fit."""
    try:
        return msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise _explained(str(error), value, type_, place) from error


def _explained(message: str, value: Any, type_: Any, place: str) -> InputError:
    """A validation error of msgspec's, in this project's words."""
    what, _, path = message.partition(" - at `$")
    path = path.removesuffix("`")
    parts = re.findall(r"\.(\w+)|\[(\d+)\]", path)
    for name, index in parts:
        value = value[name] if name else value[int(index)]
    path = path.removeprefix(".")
    if match := re.fullmatch(r"Object missing required field `(.*)`", what):
        return InputError(f"{path}.{match[1]}".lstrip("."), "given", "left out", place)
    if match := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        inside = f"{place}: {path}" if path else place
        return not_one_of("Field", _fields_at(type_, [name for name, _ in parts if name]), match[1], inside)
    match = re.fullmatch(r"Expected `(.*)`, got `(.*)`", what)
    expected, came = match.groups() if match else (what, "")
    if "[...]" not in path:
        came = shown(value)
    words = " or ".join(_WORDS.get(word, word) for word in expected.split(" | "))
    return InputError(path or "Content", words, _WORDS.get(came, came), place)


def _fields_at(type_: Any, names: list[str]) -> tuple[str, ...]:
    """The field names of the structure that a path of field names leads to."""
    for name in names:
        type_ = get_type_hints(_struct_in(type_))[name]
    fields: tuple[str, ...] = _struct_in(type_).__struct_fields__
    return fields


def _struct_in(hint: Any) -> Any:
    """The structure inside lists and options of it."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return hint
    return next(filter(None, map(_struct_in, get_args(hint))), None)
