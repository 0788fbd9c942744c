"""The concurrent models: which are registered, and their transition systems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from avicheck.checker.errors import InputError, not_one_of, shown

if TYPE_CHECKING:
    from avicheck.encodings.transition import TransitionSystem

Scope: TypeAlias = Mapping[str, int]
"""Sizes by name: ``vcpus``, ``vectors``, ..."""

GROUP: Final = "avicheck.systems"
"""The entry points that name a ``SystemModel`` each."""


@dataclass(frozen=True)
class SystemModel:
    """A concurrent model: its smallest interesting scope, and its system at any. ``build`` raises
    ``InputError`` if a scope is impossible."""

    scope: Scope
    build: Callable[[Scope], TransitionSystem]


@cache
def registered() -> Mapping[str, EntryPoint]:
    """The models that have a transition system, by name; none of them is imported."""
    return {point.name: point for point in entry_points(group=GROUP)}


def systems(model: str, sizes: Scope) -> TransitionSystem:
    """A model's transition system; sizes that are left out are those of its own scope.
    ``InputError`` if there is no such model or size."""
    points = registered()
    if model not in points:
        raise not_one_of("Model", points, model)
    found = points[model].load()
    assert isinstance(found, SystemModel)
    for name in sizes:
        if name not in found.scope:
            raise not_one_of("--scope", found.scope, name)
    return found.build({**found.scope, **sizes})


class Size(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """A size of a scope: ``vcpus=2``."""

    name = "name=number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """The name and the number; ``InputError`` if it is none above 0."""
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).partition("=")
        if not name or not number.isdecimal() or not number.isascii() or int(number) < 1:
            raise InputError("--scope", "a name and a number from 1 on, such as vcpus=2", shown(value))
        return name, int(number)


scope_option = click.option(
    "--scope", "sizes", type=Size(), multiple=True, help="A size of the model (vcpus=2); may be repeated."
)
"""``--scope``, for every command on a concurrent model."""


def scope_of(sizes: Iterable[tuple[str, int]]) -> Scope:
    """The sizes given on the command line; ``InputError`` if one is given twice."""
    scope: dict[str, int] = {}
    for name, number in sizes:
        if name in scope:
            raise InputError("--scope", "given once for each size", f"twice for {name}")
        scope[name] = number
    return scope
