"""A small concurrent model with something to choose of every kind, and the way to register it."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final

from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description, Size
from avicheck.spec.lang import Range, Scope
from avicheck.spec.memory import Var, local, shared
from avicheck.spec.threads import Model, Thread, World, always, leads_to, never, sometimes


class Repair(Enum):
    STOP = "counter: Stop at the limit"


class Extra(Enum):
    TWO_STEPS = "counting two at a time is possible"


class Reset(Enum):
    """Whether the counter may be reset while it runs."""

    NEVER = "it is never reset"
    ANY_TIME = "it may be reset at any time"


@shared
class Counted:
    n: Var[Annotated[int, Range(0, 40)]]


@local
class Nothing:
    pass


COUNTER: Final = Thread("counter", Nothing, count="counters", source="count.c count")


@COUNTER.anywhere()
def count(cpu: Cpu, my: Nothing, by: Annotated[int, Range(1, 2)]) -> None:
    cpu.wait_until(by == 1 or cpu.has(Extra.TWO_STEPS))
    n = cpu.atomic_fetch_add(Counted.n, by)
    cpu.wait_until(n + by <= cpu.scope["limit"] + (0 if cpu.has(Repair.STOP) else 1))


@COUNTER.anywhere(source="count.c reset")
def reset(cpu: Cpu, my: Nothing) -> None:
    cpu.wait_until(cpu.has(Reset.ANY_TIME))
    cpu.xchg(Counted.n, 0)


def at_most_limit(world: World[Counted]) -> bool:
    return world.shared.n <= 3


def at_two(world: World[Counted]) -> bool:
    return world.shared.n == 2


def at_three(world: World[Counted]) -> bool:
    return world.shared.n == 3


def beyond(world: World[Counted]) -> bool:
    return world.shared.n == 40


def initial(scope: Scope, options: frozenset[Enum]) -> list[Counted]:
    return [Counted(0)]


CHOSEN: Final = Description(
    model=Model(
        "counter",
        Counted,
        (COUNTER,),
        initial,
        (
            always("below", "The counter stays at 3 or below.", at_most_limit),
            never("at-40", "The counter is never 40.", beyond),
            sometimes("two", "The counter can be 2.", at_two),
            leads_to("goes-on", "After 2 comes 3.", at_two, at_three, weak=(count,)),
        ),
        ended=lambda world: world.shared.n >= 3,
    ),
    summary="A number that several threads count up.",
    covers=("counting",),
    scope={"counters": Size(1, most=3), "limit": Size(3, least=3, most=3)},
    kernels={"old": frozenset(), "new": frozenset({Repair.STOP})},
    kernel="new",
    switches=(Repair, Extra),
    assumptions=(Assumption(Reset, "count.c"),),
)

POINT: Final = f"{__name__}:CHOSEN"
