"""One packed state for each orbit of states that differ by permutations of interchangeable instances.

It is the smallest, as an integer. Where instances are nothing but blocks of variables, sorting the blocks
finds it; where values tell which instance is meant, or one variable belongs to two instances, all
permutations of these are gone through, each from the one before by exchanging neighbours (Steinhaus,
Johnson and Trotter).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from avicheck.encodings.packing import Field, Layout
from avicheck.encodings.transition import Exchange, Family

MAX_PERMUTATIONS: Final = 720
"""How many permutations of instances that refer to each other are gone through at most."""


@dataclass(frozen=True)
class Move:
    """Bits that are exchanged: those in ``mask`` with those that lie ``distance`` above."""

    mask: int
    distance: int


@dataclass(frozen=True)
class Flip:
    """Values of a field, as they are packed, that are exchanged for one another."""

    field: Field
    pairs: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class PackedExchange:
    """An exchange of instances in packed states: first the moves, then the flips."""

    moves: tuple[Move, ...]
    flips: tuple[Flip, ...]


@dataclass(frozen=True)
class Canonical:
    """How to find the representative of a state's orbit. ``sort``: exchanges to be made one after the
    other, each if it makes the state smaller. ``walk``: exchanges that lead, one after the other, through
    all that is to be sorted and compared."""

    sort: tuple[PackedExchange, ...]
    walk: tuple[PackedExchange, ...]


def canonical(families: Sequence[Family], layout: Layout) -> Canonical:
    """For states of this layout. ``families`` are symmetries of the system."""
    sort: list[PackedExchange] = []
    walk: list[PackedExchange] = []
    for family in families:
        exchanges = [_packed(exchange, layout) for exchange in family.exchanges]
        if _sortable(family, layout):
            sort += [exchanges[i] for end in range(len(exchanges), 0, -1) for i in range(end)]
        else:
            steps = [exchanges[i] for i in adjacent_exchanges(len(exchanges) + 1)]
            walk = [*walk, *(each for step in steps for each in (step, *walk))]
    return Canonical(tuple(sort), tuple(walk))


def permutations(families: Sequence[Family], layout: Layout) -> int:
    """How many permutations have to be gone through."""
    walked = [family for family in families if not _sortable(family, layout)]
    return math.prod(math.factorial(len(family.exchanges) + 1) for family in walked)


def _packed(exchange: Exchange, layout: Layout) -> PackedExchange:
    masks: dict[int, int] = {}
    for pair in exchange.variables:
        low, high = sorted((layout.by_name[name] for name in pair), key=lambda field: field.offset)
        distance = high.offset - low.offset
        if low.width:
            masks[distance] = masks.get(distance, 0) | low.mask
    flips = []
    for name, pairs in exchange.values.items():
        field = layout.by_name[name]
        flips.append(Flip(field, tuple((a - field.variable.lo, b - field.variable.lo) for a, b in pairs)))
    return PackedExchange(tuple(Move(mask, distance) for distance, mask in masks.items()), tuple(flips))


def _sortable(family: Family, layout: Layout) -> bool:
    """Whether instances are blocks of variables, in the same order of significance for all neighbours."""
    if any(exchange.values for exchange in family.exchanges):
        return False
    columns = [[name] for name, _ in family.exchanges[0].variables]
    for exchange in family.exchanges:
        after = dict(exchange.variables)
        if after.keys() != {column[-1] for column in columns}:
            return False
        for column in columns:
            column.append(after[column[-1]])
    names = [name for column in columns for name in column]
    orders = [_order(columns, i, layout) for i in range(len(family.exchanges))]
    return len(set(names)) == len(names) and all(a == b for a, b in pairwise(orders))


def _order(columns: Sequence[Sequence[str]], i: int, layout: Layout) -> list[tuple[int, bool]]:
    """The columns by significance in a comparison of two neighbours, and whether the second one counts."""
    places = [(layout.by_name[c[i]].offset, layout.by_name[c[i + 1]].offset) for c in columns]
    order = sorted(range(len(columns)), key=lambda k: -max(places[k]))
    return [(k, places[k][0] < places[k][1]) for k in order]


def adjacent_exchanges(count: int) -> Iterator[int]:
    """Positions to exchange with the next, one after the other, to go through all permutations once."""
    if count < 2:
        return
    inner = [*adjacent_exchanges(count - 1), None]
    for k, position in enumerate(inner):
        down = k % 2 == 0
        yield from range(count - 2, -1, -1) if down else range(count - 1)
        if position is not None:
            yield position + 1 if down else position
