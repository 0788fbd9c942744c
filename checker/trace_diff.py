"""Where two traces part, and what differs from there on."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, TypeAlias

from avicheck.checker.errors import InputError
from avicheck.checker.trace import Trace
from avicheck.checker.trace_columns import WIDTH, wrapped
from avicheck.checker.trace_words import Words
from avicheck.encodings.transition import Values

_NUMBER: Final = 4
_GAP: Final = 2

Pair: TypeAlias = tuple[str | None, str | None]
"""What there is in the first and in the second trace; None where there is nothing."""


@dataclass(frozen=True)
class Apart:
    """A step after the traces have parted: its number, what each of them does, and the variables whose
    values differ afterwards and did not, or differed otherwise, before."""

    number: int
    steps: Pair
    values: Mapping[str, Pair]


@dataclass(frozen=True)
class Difference:
    """How two traces of a model differ: what is not chosen alike, variables that only one of them has,
    variables whose first values differ, how many steps are the same, and those that follow. ``at_end`` are
    the variables whose last values differ."""

    chosen: Mapping[str, Pair]
    variables: Mapping[str, Pair]
    at_first: Mapping[str, Pair]
    common: int
    apart: tuple[Apart, ...]
    at_end: Mapping[str, Pair]
    loops: Pair

    @property
    def same(self) -> bool:
        """Whether the traces are the same."""
        return not (
            self.chosen or self.variables or self.at_first or self.apart or self.loops != (None, None)
        )

    def as_json(self) -> dict[str, Any]:
        """The difference as JSON."""
        apart = [
            {"step": step.number, "steps": step.steps, "values": dict(step.values)} for step in self.apart
        ]
        return {
            "same": self.same,
            "chosen": dict(self.chosen),
            "variables": dict(self.variables),
            "at_first": dict(self.at_first),
            "common_steps": self.common,
            "apart": apart,
            "at_end": dict(self.at_end),
            "loops": None if self.loops == (None, None) else self.loops,
        }


def difference(a: Trace, b: Trace) -> Difference:
    """Compare two traces; ``InputError`` if they are not of one model."""
    if a.instance.name != b.instance.name:
        raise InputError("The second trace", f"of {a.instance.name}", f"of {b.instance.name}")
    return _Comparing(a, b).result()


class _Comparing:
    def __init__(self, a: Trace, b: Trace) -> None:
        self.a, self.b = a, b
        self.words = Words(a.instance), Words(b.instance)
        self.common = [name for name in self.words[0].variables if name in self.words[1].variables]

    def result(self) -> Difference:
        """The difference."""
        at_first = self.values(self.a.run.states[0], self.b.run.states[0])
        common = 0 if at_first else self.same_steps()
        return Difference(
            chosen=dict(self.chosen()),
            variables=dict(self.variables()),
            at_first=at_first,
            common=common,
            apart=tuple(self.apart(common, at_first)),
            at_end=self.values(self.a.run.states[-1], self.b.run.states[-1]),
            loops=self.loops(),
        )

    def chosen(self) -> Iterator[tuple[str, Pair]]:
        """What is not chosen alike, and the properties."""
        ours = {**self.a.instance.as_json(), "property": self.a.asked}
        theirs = {**self.b.instance.as_json(), "property": self.b.asked}
        for name, value in ours.items():
            if value != theirs[name]:
                yield name, (_shown(value), _shown(theirs[name]))

    def variables(self) -> Iterator[tuple[str, Pair]]:
        """The variables that only one of the traces has."""
        for name in {**self.words[0].variables, **self.words[1].variables}:
            if name not in self.common:
                ours = name in self.words[0].variables
                yield name, (name if ours else None, None if ours else name)

    def same_steps(self) -> int:
        """How many steps are the same, and lead to states with the same values."""
        a, b = self.a.run, self.b.run
        for i, steps in enumerate(zip(a.fired, b.fired, strict=False)):
            if steps[0] != steps[1] or self.values(a.states[i + 1], b.states[i + 1]):
                return i
        return min(len(a.fired), len(b.fired))

    def values(self, ours: Values, theirs: Values) -> dict[str, Pair]:
        """The variables that both have and that differ."""
        found: dict[str, Pair] = {}
        for name in self.common:
            values = self.words[0].value(name, ours[name]), self.words[1].value(name, theirs[name])
            if values[0] != values[1]:
                found[name] = values
        return found

    def apart(self, common: int, known: Mapping[str, Pair]) -> Iterator[Apart]:
        """The steps after those that are the same."""
        a, b = self.a.run, self.b.run
        for i in range(common, max(len(a.fired), len(b.fired))):
            steps = tuple(run.fired[i] if i < len(run.fired) else None for run in (a, b))
            differ = self.values(a.states[min(i + 1, len(a.fired))], b.states[min(i + 1, len(b.fired))])
            new = {name: values for name, values in differ.items() if known.get(name) != values}
            yield Apart(i + 1, (steps[0], steps[1]), new)
            known = differ

    def loops(self) -> Pair:
        """Where the loops begin, if that differs."""
        ours, theirs = self.a.run.loop, self.b.run.loop
        return (None, None) if ours == theirs else (_shown(ours), _shown(theirs))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={part}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


# As text.


def lines(found: Difference, names: tuple[str, str], width: int = WIDTH) -> Iterator[str]:
    """A difference in lines, the two traces side by side; ``names`` are those of their files."""
    if found.same:
        yield "The traces are the same."
        return
    yield from _row("", names, width)
    yield from _pairs({f"{name}:": pair for name, pair in found.chosen.items()}, width, " ")
    for which, number in (("first", 0), ("second", 1)):
        only = [pair[number] for pair in found.variables.values() if pair[number] is not None]
        if only:
            yield from wrapped(f"Only the {which} has {', '.join(map(str, only))}.", width)
    if found.at_first:
        yield "They differ at first:"
        yield from _pairs(found.at_first, width)
    else:
        yield f"The first {found.common} steps are the same." if found.common else "No step is the same."
    for step in found.apart:
        ours, theirs = (name or "(has ended)" for name in step.steps)
        yield from _row(str(step.number), (ours, theirs), width)
        yield from _pairs(step.values, width)
    if found.loops != (None, None):
        ours, theirs = (f"loop from state {loop}" for loop in found.loops)
        yield from _row("", (ours, theirs), width)
    yield "In the end these differ:" if found.at_end else "In the end all values are the same."
    yield from _pairs(found.at_end, width)


def _pairs(pairs: Mapping[str, Pair], width: int, between: str = " = ") -> Iterator[str]:
    for name, (ours, theirs) in pairs.items():
        yield from _row("", (f"  {name}{between}{ours}", f"  {name}{between}{theirs}"), width)


def _row(number: str, cells: tuple[str, str], width: int) -> Iterator[str]:
    """Two texts beside each other, with a number before them."""
    each = (width - _NUMBER - _GAP) // 2
    left, right = (
        textwrap.wrap(cell, each, subsequent_indent="    ", break_on_hyphens=False) for cell in cells
    )
    for i, (ours, theirs) in enumerate(zip_longest(left, right, fillvalue="")):
        yield f"{number if i == 0 else '':{_NUMBER}}{ours:{each + _GAP}}{theirs}".rstrip()
