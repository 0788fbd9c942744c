"""Which instances of a concurrent model may be interchangeable: those of its arrays and threads, for each
size of its scope.

Exchanging two of them exchanges the variables in whose path one stands for those with the other, and
the values that are indices of them. Whether the model notices is for ``symmetry`` to find out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from avicheck.encodings.transition import Exchange, Family
from avicheck.spec.cpu import FREE
from avicheck.spec.lang import IndexOf, Scope, domains
from avicheck.spec.machine import Machine
from avicheck.spec.memory import Path, locations

Place: TypeAlias = tuple[str, tuple[tuple[str, int], ...]]
"""A path without its indices, and these: of which array, and which."""


@dataclass(frozen=True)
class Leaf:
    """A variable: its name, its place, and the array that its values are indices of, if any, or for the
    slots of a store buffer the places that they stand for, from ``FREE + 1`` on."""

    name: str
    place: Place
    index_of: str = ""
    slots: tuple[Place, ...] = ()


def families(machine: Machine[Any]) -> tuple[Family, ...]:
    """The families of a machine with at least two members, named by their size."""
    leaves = [*_in_record(machine.model.shared, machine.scope, "", "", ()), *_in_threads(machine)]
    arrays = {array for leaf in leaves for array, _ in leaf.place[1]} | {leaf.index_of for leaf in leaves}
    return tuple(
        Family(array, tuple(_exchange(leaves, array, i) for i in range(size - 1)))
        for array, size in machine.scope.items()
        if array in arrays and size > 1
    )


def _exchange(leaves: Iterable[Leaf], array: str, i: int) -> Exchange:
    """The exchange of two neighbours in an array."""
    names = {leaf.place: leaf.name for leaf in leaves}
    pairs: list[tuple[str, str]] = []
    values: dict[str, tuple[tuple[int, int], ...]] = {}
    for leaf in leaves:
        first = next((index for name, index in leaf.place[1] if name == array and index in (i, i + 1)), None)
        if first == i:
            pairs.append((leaf.name, names[_moved(leaf.place, array, i)]))
        if leaf.index_of == array:
            values[leaf.name] = ((i, i + 1),)
        others = [(slot, _moved(place, array, i)) for slot, place in enumerate(leaf.slots)]
        slots = [(slot, leaf.slots.index(place)) for slot, place in others if place in leaf.slots]
        if moved := tuple((FREE + 1 + a, FREE + 1 + b) for a, b in slots if a < b):
            values[leaf.name] = moved
    return Exchange(tuple(pairs), values)


def _moved(place: Place, array: str, i: int) -> Place:
    """Where something is after the exchange."""
    other = {(array, i): (array, i + 1), (array, i + 1): (array, i)}
    return place[0], tuple(other.get(index, index) for index in place[1])


def _in_record(
    cls: type, scope: Scope, name: str, stem: str, indices: tuple[tuple[str, int], ...]
) -> Iterator[Leaf]:
    """The variables in a record."""
    for field, domain in domains(cls).items():
        dot = "." if name else ""
        yield from _in_domain(domain, scope, f"{name}{dot}{field}", f"{stem}{dot}{field}", indices)


def _in_domain(
    domain: Any, scope: Scope, name: str, stem: str, indices: tuple[tuple[str, int], ...]
) -> Iterator[Leaf]:
    if isinstance(domain, tuple):
        sized, element = domain
        for i in range(scope[sized.array]):
            yield from _in_domain(element, scope, f"{name}[{i}]", f"{stem}[]", (*indices, (sized.array, i)))
    elif isinstance(domain, type) and hasattr(domain, "__dataclass_fields__"):
        yield from _in_record(domain, scope, name, stem, indices)
    else:
        index_of = domain.array if isinstance(domain, IndexOf) else ""
        yield Leaf(name, (stem, indices), index_of)


def _in_threads(machine: Machine[Any]) -> Iterator[Leaf]:
    """The labels, local variables and store buffers of the threads."""
    places = _places(machine)
    threads = zip(machine.instances(), machine.initial[0].threads, strict=True)
    for (name, kind, index), start in threads:
        indices = ((kind.count, index),) if kind.count else ()
        yield from _in_record(kind.locals, machine.scope, name, kind.name, indices)
        if kind.labels is not None:
            yield Leaf(f"{name}.pc", (f"{kind.name}.pc", indices))
        slots = tuple(places[path] for path in machine.stores(kind))
        for i in range(len(start.buffer)):
            stem = f"{kind.name}.buffer[{i}]"
            yield Leaf(f"{name}.buffer[{i}].at", (f"{stem}.at", indices), slots=slots)
            yield Leaf(f"{name}.buffer[{i}].value", (f"{stem}.value", indices))


def _places(machine: Machine[Any]) -> Mapping[Path, Place]:
    """The words of memory by their paths."""
    by_name = {leaf.name: leaf.place for leaf in _in_record(machine.model.shared, machine.scope, "", "", ())}
    return {at.path: by_name[at.name] for at in locations(machine.model.shared, machine.scope)}
