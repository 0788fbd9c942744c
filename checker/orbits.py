"""How many states the representatives of orbits stand for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from avicheck.checker.explore import Contradiction
from avicheck.encodings.canonical import MAX_PERMUTATIONS, adjacent_exchanges
from avicheck.encodings.packing import WORD, Layout
from avicheck.encodings.transition import Exchange, Family

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columns: TypeAlias = Mapping[str, NDArray[np.unsignedinteger[Any]]]

_CHUNK: Final = 1 << 18
"""States that are looked at at a time."""


def orbit_total(states: bytes | memoryview, layout: Layout, families: Sequence[Family]) -> int | None:
    """The sizes of the orbits of packed states, each state in another orbit, in all; None if there are more
    than ``MAX_PERMUTATIONS`` permutations.

    An orbit is as large as the group, divided by how many permutations leave the state as it is."""
    group = math.prod(math.factorial(len(family.exchanges) + 1) for family in families)
    if group > MAX_PERMUTATIONS:
        return None
    words = np.frombuffer(states, np.uint64).reshape(-1, layout.words)
    walk, total = list(_walk(families)), 0
    for start in range(0, len(words), _CHUNK):
        kept = _kept(words[start : start + _CHUNK], layout, walk)
        counts = np.bincount(kept)
        for size in np.flatnonzero(counts).tolist():
            if group % size:
                raise Contradiction(f"{size} of {group} permutations leave a state as it is")
            total += int(counts[size]) * (group // size)
    return total


def _walk(families: Sequence[Family]) -> Iterator[Exchange]:
    """Exchanges that lead, one after the other, from one permutation of all instances to the next."""
    walk: list[Exchange] = []
    for family in families:
        steps = [family.exchanges[i] for i in adjacent_exchanges(len(family.exchanges) + 1)]
        walk = [*walk, *(each for step in steps for each in (step, *walk))]
    yield from walk


def _kept(words: NDArray[np.uint64], layout: Layout, walk: Sequence[Exchange]) -> NDArray[np.int64]:
    """How many permutations, that of nothing among them, leave each state as it is."""
    names = {name for exchange in walk for pair in exchange.variables for name in pair}
    names |= {name for exchange in walk for name in exchange.values}
    before = {name: _column(words, layout, name) for name in names}
    now, kept = dict(before), np.ones(len(words), np.int64)
    for exchange in walk:
        now = _exchanged(now, exchange, layout)
        same = np.ones(len(words), np.bool_)
        for name, column in before.items():
            same &= now[name] == column
        kept += same
    return kept


def _column(words: NDArray[np.uint64], layout: Layout, name: str) -> NDArray[np.unsignedinteger[Any]]:
    """A variable in every state, as it is packed."""
    field = layout.by_name[name]
    if field.width > WORD:
        raise Contradiction(f"{name} is exchanged, of {field.width} bits")
    word, bit = divmod(field.offset, WORD)
    found = words[:, word] >> np.uint64(bit) & np.uint64((1 << field.width) - 1)
    return found.astype(np.min_scalar_type((1 << field.width) - 1))


def _exchanged(columns: Columns, exchange: Exchange, layout: Layout) -> dict[str, Any]:
    """The columns after an exchange."""
    after = dict(columns)
    for a, b in exchange.variables:
        after[a], after[b] = columns[b], columns[a]
    for name, pairs in exchange.values.items():
        lo, column = layout.by_name[name].variable.lo, after[name]
        changed = column.copy()
        for one, other in pairs:
            changed[column == one - lo] = other - lo
            changed[column == other - lo] = one - lo
        after[name] = changed
    return after
