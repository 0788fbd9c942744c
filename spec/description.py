"""What there is to choose about a concurrent model: sizes, kernels, switches, assumptions.

A model is built with a set of options (``World.options``), each a member of an enumeration. A kernel is a
set of them; a switch is on or off; an assumption is a fact that the sources leave open, and exactly one of
its alternatives is an option. On the command line a member is written as its name in small letters with
hyphens: ``LifeFix.DIRTY_STATES`` is ``dirty-states``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from avicheck.spec.threads import Model


@dataclass(frozen=True)
class Size:
    """A finite size of a model: what it is unless the user gives another, and from where to where it
    may go. A size that cannot be changed is part of the model's text."""

    usual: int
    least: int = 1
    most: int = 16


@dataclass(frozen=True)
class Assumption:
    """A fact about hardware, guest or host that the sources leave open. The first alternative is the
    default; each one's value is a sentence. ``source`` says where the question is from."""

    alternatives: type[Enum]
    source: str = ""

    @property
    def name(self) -> str:
        """The name on the command line, from the enumeration's: ``IdleHlt`` is ``idle-hlt``."""
        name = self.alternatives.__name__
        return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))

    @property
    def default(self) -> Enum:
        """What is assumed unless the user says otherwise."""
        return next(iter(self.alternatives))

    @property
    def question(self) -> str:
        """What is left open, in one line: the enumeration's docstring."""
        return (self.alternatives.__doc__ or "").partition("\n")[0]


@dataclass(frozen=True)
class Description:
    """A concurrent model and what may be chosen about it. ``kernels`` gives the options that each kernel
    has, oldest first; ``kernel`` is the default. ``switches`` are enumerations, or members of one, that may
    be switched on and off one by one: fixes, what userspace configured, planted faults. ``small`` has sizes
    that are better suited than the usual ones for going through many variants of the model.

    ``excerpts`` are for comparisons that take long in every state: instances of the least sizes, each told
    by what is switched off in it, that have every step among them that the model has."""

    model: Model[Any]
    summary: str
    covers: tuple[str, ...]
    scope: Mapping[str, Size]
    kernels: Mapping[str, frozenset[Enum]]
    kernel: str
    switches: tuple[Iterable[Enum], ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    excerpts: tuple[frozenset[Enum], ...] = (frozenset(),)
    small: Mapping[str, int] = field(default_factory=dict)

    @property
    def switchable(self) -> Mapping[str, Enum]:
        """The members that may be switched on and off, by their names on the command line."""
        return {option_name(member): member for kind in self.switches for member in kind}


DEFAULT_BUFFER: Final = Size(usual=2, least=1, most=4)
"""The depth of store buffers under x86-TSO."""


def option_name(option: Enum) -> str:
    """How an option is written on the command line."""
    return option.name.lower().replace("_", "-")


def names(options: Iterable[Enum]) -> list[str]:
    """How options are written on the command line, in order."""
    return sorted(option_name(option) for option in options)
