"""Properties that hold, but are not inductive as they stand."""

from __future__ import annotations

from typing import Annotated, Final

from avicheck.spec.cpu import Cpu
from avicheck.spec.lang import Range
from avicheck.spec.memory import local, shared
from avicheck.spec.threads import Model, Thread, World, always, never


@shared
class Nothing:
    pass


# Reachable: 0, 1, 2 in a circle. Not reachable: 5 to 6 to 7. Nothing leads to 5, so that 7 is excluded by
# induction over three steps, and by no fewer.


@local
class Counted:
    n: Annotated[int, Range(0, 7)] = 0


COUNTER: Final = Thread("counter", Counted)


@COUNTER.anywhere()
def count(cpu: Cpu, my: Counted) -> None:
    cpu.wait_until(my.n <= 2 or my.n == 5 or my.n == 6)
    my.n = 0 if my.n == 2 else my.n + 1


def at_seven(world: World[Nothing]) -> bool:
    return world.of(COUNTER)[0].my.n == 7


CIRCLE: Final = Model(
    "circle",
    Nothing,
    (COUNTER,),
    lambda _scope, _options: [Nothing()],
    (never("seven", "The counter is never 7: needs induction with k = 3.", at_seven),),
)


# Two numbers that move together, or rest. That the second is never one ahead at 0 is not inductive for any
# k, because a run may rest as long as it likes; that they are equal is, at once.


@local
class Pair:
    x: Annotated[int, Range(0, 3)] = 0
    y: Annotated[int, Range(0, 3)] = 0


PAIR: Final = Thread("pair", Pair)


@PAIR.anywhere()
def move(cpu: Cpu, my: Pair) -> None:
    my.x = (my.x + 1) % 4
    my.y = (my.y + 1) % 4


@PAIR.anywhere()
def rest(cpu: Cpu, my: Pair) -> None:
    """Nothing changes."""


def ahead(world: World[Nothing]) -> bool:
    return world.of(PAIR)[0].my.x == 0 and world.of(PAIR)[0].my.y == 1


def equal(world: World[Nothing]) -> bool:
    return world.of(PAIR)[0].my.x == world.of(PAIR)[0].my.y


LOCKSTEP: Final = Model(
    "lockstep",
    Nothing,
    (PAIR,),
    lambda _scope, _options: [Nothing()],
    (
        never("ahead", "The second is never one ahead at 0: not k-inductive for any k.", ahead),
        always("equal", "They are equal: inductive, and implies the other.", equal),
    ),
)
