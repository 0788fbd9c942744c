"""A model that goes wrong under known assumptions: under Lock.NONE together with Order.WEAK or WEAKER,
and under Clock.WRONG. Colour changes nothing."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final

from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description
from avicheck.spec.lang import Range
from avicheck.spec.memory import Var, local, shared
from avicheck.spec.threads import Model, Thread, World, always


class Lock(Enum):
    """Whether there is a lock."""

    HELD = "there is a lock"
    NONE = "there is no lock"


class Order(Enum):
    """How strong the order is."""

    STRONG = "strong"
    WEAK = "weak"
    WEAKER = "weaker"


class Clock(Enum):
    """Whether the clock is right."""

    RIGHT = "right"
    WRONG = "wrong"


class Colour(Enum):
    """Which colour it has."""

    RED = "red"
    GREEN = "green"


@shared
class Light:
    wrong: Var[bool]
    late: Var[Annotated[int, Range(0, 2)]]


@local
class Nothing:
    pass


WORKER: Final = Thread("worker", Nothing, source="work.c work")


@WORKER.anywhere()
def work(cpu: Cpu, my: Nothing) -> None:
    weak = cpu.has(Order.WEAK) or cpu.has(Order.WEAKER)
    cpu.store(Light.wrong, cpu.has(Clock.WRONG) or (cpu.has(Lock.NONE) and weak))


@WORKER.anywhere()
def wait(cpu: Cpu, my: Nothing) -> None:
    cpu.wait_until(cpu.has(Order.WEAKER))
    cpu.xchg(Light.late, 2)


def right(world: World[Light]) -> bool:
    return not world.shared.wrong


def in_time(world: World[Light]) -> bool:
    return world.shared.late <= 2


RELYING: Final = Description(
    model=Model(
        "relying",
        Light,
        (WORKER,),
        lambda _scope, _options: [Light(False, 0)],
        (always("right", "Nothing goes wrong.", right), always("in-time", "Nothing is too late.", in_time)),
    ),
    summary="A worker that relies on assumptions.",
    covers=("working",),
    scope={},
    kernels={"only": frozenset()},
    kernel="only",
    assumptions=(Assumption(Lock), Assumption(Order), Assumption(Clock), Assumption(Colour)),
)

POINT: Final = f"{__name__}:RELYING"
