"""Known models with what may be chosen about them, registered as a user's models are, and their traces."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Annotated, Any, Final

from avicheck.checker.engines import check
from avicheck.checker.systems import Choices, Instance, instance
from avicheck.checker.trace import Trace
from avicheck.encodings.transition import Run, successors
from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Description, Size
from avicheck.spec.lang import NULL, IndexOf, Range, Scope
from avicheck.spec.machine import STEPS_SUCCEED
from avicheck.spec.memory import Reg, Var, local, shared
from avicheck.spec.threads import Model, Thread, World, always, sometimes
from tests.known.exclusion import ALGORITHMS, Fence
from tests.known.resources import PHILOSOPHERS, RING, Etiquette, Ways


class Crash(Enum):
    """Whether the shelf breaks under two books."""

    BREAKS = "the shelf breaks"


@shared
class Shelf:
    books: Var[Annotated[int, Range(0, 2)]]
    marked: Reg[Annotated[int, IndexOf("readers", nullable=True)]]


@local
class Reader:
    has: bool = False


READER: Final = Thread("reader", Reader, count="readers", source="shelf.c put")


@READER.step()
def take(cpu: Cpu, my: Reader) -> None:
    my.has = True


@READER.step()
def put(cpu: Cpu, my: Reader) -> None:
    cpu.atomic_fetch_add(Shelf.books, 1)
    cpu.write(Shelf.marked, cpu.index)
    my.has = False


@READER.step(source="shelf.c look")
def look(cpu: Cpu, my: Reader) -> str:
    cpu.write(Shelf.marked, cpu.index)
    assert not (cpu.load(Shelf.books) == 2 and cpu.has(Crash.BREAKS)), "the shelf breaks"
    return "look"


def shelves(scope: Scope, options: frozenset[Enum]) -> list[Shelf]:
    return [Shelf(0, NULL), Shelf(1, NULL)]


def few_books(world: World[Shelf]) -> bool:
    return world.shared.books < 2


def nobody_has_two(world: World[Shelf]) -> bool:
    return all(not (reader.my.has and world.shared.books == 2) for reader in world.of(READER))


def marked_by_second(world: World[Shelf]) -> bool:
    return world.shared.marked == 1


SHELF: Final = Description(
    model=Model(
        "shelf",
        Shelf,
        (READER,),
        shelves,
        (
            always("light", "At most one book, and nobody holds a third.", few_books, nobody_has_two),
            sometimes("marked", "The second reader marks the shelf.", marked_by_second),
        ),
    ),
    summary="Readers put books on a shelf.",
    covers=(),
    scope={"readers": Size(2, most=3)},
    kernels={"any": frozenset()},
    kernel="any",
    switches=(Crash,),
)


def described(model: Model[Any], switch: type[Enum], **scope: int) -> Description:
    """A known model with a switch and its sizes."""
    sizes = {name: Size(number, least=number) for name, number in scope.items()}
    return Description(model, model.name, (), sizes, {"any": frozenset()}, "any", (switch,))


PETERSON: Final = described(ALGORITHMS[0], Fence, threads=2)
DINING: Final = described(PHILOSOPHERS, Etiquette, philosophers=2)
TOKEN_RING: Final = described(RING, Ways, stations=4)

POINTS: Final[Mapping[str, str]] = {
    model: f"{__name__}:{name}"
    for model, name in (
        ("shelf", "SHELF"),
        ("peterson", "PETERSON"),
        ("philosophers", "DINING"),
        ("token-ring", "TOKEN_RING"),
    )
}
"""The models, for ``systems.registered``."""

CASES: Final[Mapping[str, tuple[str, Choices, str, str]]] = {
    "shelf": ("shelf", Choices(), "light", "explicit"),
    "shelf, reached": ("shelf", Choices(), "marked", "explicit"),
    "shelf, broken": ("shelf", Choices(on=("breaks",)), STEPS_SUCCEED, "explicit"),
    "peterson": ("peterson", Choices(memory="tso"), "mutual-exclusion", "explicit"),
    "dining": ("philosophers", Choices(), "deadlock-free", "explicit"),
    "dining, many": ("philosophers", Choices(scope={"philosophers": 6}), "deadlock-free", "explicit"),
    "token-ring": ("token-ring", Choices(on=("two",)), "round-weak", "explicit"),
}
"""Traces by name: model, choices, property, engine."""


@cache
def sample(name: str) -> Trace:
    """One of ``CASES``, found by an engine; the models must be registered."""
    model, choices, asked, engine = CASES[name]
    chosen: Instance = instance(model, choices)
    result = check(chosen.system, asked, engine)  # type: ignore[arg-type]
    assert result.run is not None
    return Trace(chosen, asked, result.run)


def run_of(chosen: Instance, *names: str) -> Run:
    """The run of these steps from the first initial state."""
    run = Run(chosen.system.initial[:1], ())
    for name in names:
        after = next(after for step, after in successors(chosen.system, run.states[-1]) if step.name == name)
        run = Run((*run.states, after), (*run.fired, name))
    return run
