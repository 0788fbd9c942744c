"""The concurrent models on the command line: which are registered, what the user chose about one, and its
transition system."""

from __future__ import annotations

import functools
import importlib
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from avicheck.checker.errors import InputError, not_one_of, shown
from avicheck.checker.options import Word
from avicheck.spec.models import DESCRIPTIONS

if TYPE_CHECKING:
    from avicheck.encodings.machine import Encoding
    from avicheck.encodings.transition import TransitionSystem
    from avicheck.spec.description import Description
    from avicheck.spec.machine import MemoryModel

Scope: TypeAlias = Mapping[str, int]
"""Sizes by name: ``vcpus``, ``vectors``, ..."""

MEMORY_MODELS: Final = ("sc", "tso")


@dataclass(frozen=True)
class Choices:
    """What the user chose about a model, as it is written: what is left out is the model's own choice.
    ``on`` and ``off`` name switches, ``assumed`` an alternative for an assumption."""

    kernel: str | None = None
    scope: Scope = field(default_factory=dict)
    memory: MemoryModel = "sc"
    on: tuple[str, ...] = ()
    off: tuple[str, ...] = ()
    assumed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Instance:
    """A model with everything chosen: what a command on concurrent models is about."""

    description: Description
    kernel: str
    scope: Scope
    memory: MemoryModel
    options: frozenset[Enum]
    chosen: Choices

    @property
    def name(self) -> str:
        """The model's name."""
        return self.description.model.name

    @cached_property
    def encoding(self) -> Encoding[Any]:
        """The executable model, and the transition system that it lifts to."""
        from avicheck.checker.lifted import encoding
        from avicheck.spec.machine import Machine

        return encoding(Machine(self.description.model, self.scope, self.memory, self.options))

    @property
    def system(self) -> TransitionSystem:
        """The transition system."""
        return self.encoding.system

    @property
    def assumed(self) -> Mapping[str, Enum]:
        """Which alternative of each assumption is taken."""
        return {
            assumption.name: next(member for member in assumption.alternatives if member in self.options)
            for assumption in self.description.assumptions
        }

    @property
    def differences(self) -> tuple[list[Enum], list[Enum]]:
        """The options that are switched on beyond the kernel's, and those switched off."""
        usual = self.description.kernels[self.kernel]
        switches = self.description.switchable.values()
        added = [option for option in switches if option in self.options and option not in usual]
        return added, [option for option in switches if option in usual and option not in self.options]

    @property
    def bounds(self) -> str:
        """The sizes within which a verdict holds, as options name them, and the memory model."""
        sizes = ", ".join(f"{name}={number}" for name, number in self.scope.items()) or "one size"
        return f"{sizes}; {'x86-TSO' if self.memory == 'tso' else 'sequential consistency'}"

    def as_json(self) -> dict[str, Any]:
        """What identifies the instance, in the words of ``Choices``."""
        return {
            "model": self.name,
            "kernel": self.kernel,
            "scope": dict(self.scope),
            "memory": self.memory,
            "with": list(self.chosen.on),
            "without": list(self.chosen.off),
            "assume": {name: _written(member) for name, member in self.assumed.items()},
        }


def registered() -> Mapping[str, str]:
    """The models that have a transition system, by name, as ``module:name``."""
    return DESCRIPTIONS


def description(model: str) -> Description:
    """A registered model; ``InputError`` if there is none of this name."""
    described = registered()
    if model not in described:
        raise not_one_of("Model", described, model)
    module, _, name = described[model].partition(":")
    found: Description = getattr(importlib.import_module(module), name)
    return found


def instance(model: str, chosen: Choices | None = None) -> Instance:
    """A model as chosen. ``InputError`` if there is no such model, kernel, size, switch, assumption or
    alternative, or if a size is out of its range."""
    described, chosen = description(model), chosen or Choices()
    kernel = described.kernel if chosen.kernel is None else chosen.kernel
    if kernel not in described.kernels:
        raise not_one_of("--kernel", described.kernels, kernel, place=model)
    options = _options(described, kernel, chosen)
    return Instance(described, kernel, _scope(described, chosen), chosen.memory, options, chosen)


def _scope(described: Description, chosen: Choices) -> Scope:
    from avicheck.spec.description import DEFAULT_BUFFER
    from avicheck.spec.machine import STORE_BUFFER

    buffer = {STORE_BUFFER: DEFAULT_BUFFER} if chosen.memory == "tso" else {}
    sizes = {**described.scope, **buffer}
    for name, number in chosen.scope.items():
        if name not in sizes:
            raise not_one_of("--scope", sizes, name, place=described.model.name)
        size = sizes[name]
        if not size.least <= number <= size.most:
            expected = f"from {size.least} to {size.most}" if size.least < size.most else str(size.least)
            raise InputError(f"--scope {name}", expected, str(number), described.model.name)
    return {name: chosen.scope.get(name, size.usual) for name, size in sizes.items()}


def _options(described: Description, kernel: str, chosen: Choices) -> frozenset[Enum]:
    switches = described.switchable
    for option, given in (("--with", chosen.on), ("--without", chosen.off)):
        for name in given:
            if name not in switches:
                raise not_one_of(option, switches, name, place=described.model.name)
    for name in chosen.on:
        if name in chosen.off:
            raise InputError(name, "switched on or off", "both", described.model.name)
    on = {switches[name] for name in chosen.on}
    off = {switches[name] for name in chosen.off}
    return frozenset((described.kernels[kernel] | on | _assumed(described, chosen)) - off)


def _assumed(described: Description, chosen: Choices) -> set[Enum]:
    known = {assumption.name: assumption for assumption in described.assumptions}
    for name in chosen.assumed:
        if name not in known:
            raise not_one_of("--assume", known, name, place=described.model.name)
    found = set()
    for name, assumption in known.items():
        members = {_written(member): member for member in assumption.alternatives}
        word = chosen.assumed.get(name, _written(assumption.default))
        if word not in members:
            raise not_one_of(f"--assume {name}", members, word, place=described.model.name)
        found.add(members[word])
    return found


def _written(option: Enum) -> str:
    from avicheck.spec.description import option_name

    return option_name(option)


# The command line.


class Pair(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """``name=something``."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """The two sides; ``InputError`` if one is empty."""
        if isinstance(value, tuple):
            return value
        name, _, other = str(value).partition("=")
        if not name or not other:
            raise InputError("--assume", "a name and an alternative, such as idle-hlt=off", shown(value))
        return name, other


class Number(Pair):
    """A size of a scope: ``vcpus=2``."""

    name = "name=number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name and the number; ``InputError`` if it is none above 0."""
        if isinstance(value, tuple):
            return value
        name, _, number = str(value).partition("=")
        if not name or not number.isdecimal() or not number.isascii() or len(number) > 9:
            raise InputError("--scope", "a name and a number, such as vcpus=2", shown(value))
        return name, int(number)


_OPTIONS: Final = (
    click.option("--kernel", metavar="KERNEL", help="As which kernel, or posted series."),
    click.option(
        "--scope", "sizes", type=Number(), multiple=True, help="A size of the model (vcpus=2); repeatable."
    ),
    click.option(
        "--memory", type=Word(MEMORY_MODELS), default="sc", show_default=True, help="The memory model."
    ),
    click.option("--with", "on", multiple=True, metavar="NAME", help="Switch a fix or setting on."),
    click.option("--without", "off", multiple=True, metavar="NAME", help="Switch a fix or setting off."),
    click.option(
        "--assume", "assumed", type=Pair(), multiple=True, help="Which alternative to take of an assumption."
    ),
)


def instance_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose an instance. The command gets ``model`` from its own argument, and is called
    with ``instance``: None if the argument may be left out, and is."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        model: str | None,
        kernel: str | None,
        sizes: Iterable[tuple[str, int]],
        memory: MemoryModel,
        on: tuple[str, ...],
        off: tuple[str, ...],
        assumed: Iterable[tuple[str, str]],
        **others: Any,
    ) -> Any:
        choices = Choices(kernel, _once("--scope", sizes), memory, on, off, _once("--assume", assumed))
        if model is None and choices != Choices():
            raise InputError("Model", "named where something is chosen about it", "left out")
        chosen = None if model is None else instance(model, choices)
        return command(*args, instance=chosen, **others)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _once(option: str, pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Named values; ``InputError`` if one is given twice."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InputError(option, "given once for each name", f"twice for {name}")
        found[name] = value
    return found


def heading(chosen: Instance, width: int) -> list[str]:
    """What a report is about, in lines: model, kernel, what is switched, bounds, assumptions."""
    added, removed = chosen.differences
    lines = [f"{chosen.name} as kernel {chosen.kernel}; {chosen.bounds}."]
    lines += [f"With: {_written(option)}: {option.value}" for option in added]
    lines += [f"Without: {_written(option)}: {option.value}" for option in removed]
    lines += [
        f"Assumed: {name}={_written(option)}: {option.value}" for name, option in chosen.assumed.items()
    ]
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)
    ]
