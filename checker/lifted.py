"""Lifted models, kept from one run to the next by the content of the code that they come from."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any, Final, TypeVar

from avicheck.checker import cache
from avicheck.encodings import machine as lifting
from avicheck.encodings.machine import Encoding, encode, encoded_before
from avicheck.encodings.persist import dumped, loaded
from avicheck.spec import machine as running
from avicheck.spec.machine import Machine
from avicheck.spec.threads import Model

S = TypeVar("S")

_KIND: Final = "lifted"
_PACKAGE: Final = "avicheck.spec."


def encoding(machine: Machine[S]) -> Encoding[S]:
    """What ``encode`` makes of a machine. It is kept, and found again as long as the specification and what
    lifts it are the same, if the model is part of the specification."""
    key = _key(machine)
    content = None if key is None else cache.get(_KIND, key)
    if content is not None:
        told, _, system = content.partition(b"\n")
        stored = {name: tuple(map(tuple, paths)) for name, paths in json.loads(told).items()}
        return encoded_before(machine, stored, loaded(system))
    found = encode(machine)
    if key is not None:
        buffered = machine.model.threads if machine.memory == "tso" else ()
        stores = {kind.name: found.machine.stores(kind) for kind in buffered}
        cache.put(_KIND, key, json.dumps(stores).encode() + b"\n" + dumped(found.system))
    return found


def _key(machine: Machine[Any]) -> str | None:
    """The hash of all that lifting depends on; None if not all of it is known."""
    functions = _functions(machine.model)
    if not all(function.__module__.startswith(_PACKAGE) for function in functions):
        return None
    options = sorted(f"{type(option).__qualname__}.{option.name}" for option in machine.options)
    chosen = [machine.model.name, machine.memory, sorted(machine.scope.items()), options]
    parts = [json.dumps(chosen), *(part for function in functions for part in _code(function.__code__))]
    return cache.key_of([*parts, *_sources()])


def _functions(model: Model[Any]) -> list[Callable[..., Any]]:
    """What a model consists of."""
    found: list[Callable[..., Any]] = [step.function for thread in model.threads for step in thread.steps]
    found += [part for asked in model.asked for part in (*asked.conjuncts, asked.target) if part]
    found += [model.initial, model.ended]
    return [inspect.unwrap(function) for function in found]


def _code(code: CodeType) -> Iterator[str | bytes]:
    """What a function does, by itself: it may not be the one of the source."""
    yield code.co_qualname
    yield code.co_code
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(constant)


def _sources() -> Iterator[bytes]:
    """The specification and what lifts it, file by file."""
    for module in (running, lifting):
        for path in sorted(Path(str(module.__file__)).parent.glob("*.py")):
            yield path.name.encode()
            yield path.read_bytes()
