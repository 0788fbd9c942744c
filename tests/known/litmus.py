"""x86-TSO litmus tests: threads of two accesses each, and a final state: can it be reached?

The verdicts are those of Sewell et al., "x86-TSO: a rigorous and usable programmer's model for x86
multiprocessors" (CACM 2010), and of Alglave et al., "Herding cats" (TOPLAS 2014).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

from avicheck.spec.cpu import Cpu
from avicheck.spec.lang import Range
from avicheck.spec.memory import Location, Var, local, shared
from avicheck.spec.threads import Model, Thread, World, ended, never

Word = Annotated[int, Range(0, 2)]


class Order(Enum):
    """What keeps the accesses of a thread in order."""

    FENCES = "an MFENCE before every access"
    LOCKED = "every store is a locked exchange"


@shared
class Memory:
    x: Var[Word]
    y: Var[Word]


@local
class Registers:
    a: Word = 0
    b: Word = 0


X, Y = Memory.x, Memory.y
Access = Callable[[Cpu, Registers], str | None]
Final = Callable[[World[Memory]], bool]


def store(at: Location[int], value: int) -> Access:
    def access(cpu: Cpu, my: Registers) -> None:
        if cpu.has(Order.LOCKED):
            cpu.xchg(at, value)
        else:
            if cpu.has(Order.FENCES):
                cpu.smp_mb()
            cpu.smp_store_release(at, value)

    access.__name__ = f"{at.name}_is_{value}"
    return access


def load_a(at: Location[int]) -> Access:
    def access(cpu: Cpu, my: Registers) -> None:
        if cpu.has(Order.FENCES):
            cpu.smp_mb()
        my.a = cpu.smp_load_acquire(at)

    access.__name__ = f"a_is_{at.name}"
    return access


def load_b(at: Location[int]) -> Access:
    def access(cpu: Cpu, my: Registers) -> None:
        if cpu.has(Order.FENCES):
            cpu.smp_mb()
        my.b = cpu.smp_load_acquire(at)

    access.__name__ = f"b_is_{at.name}"
    return access


@dataclass(frozen=True)
class Litmus:
    """A test: its model, and whether x86-TSO allows the final state where nothing keeps the order."""

    model: Model[Memory]
    allowed: bool


def litmus(name: str, allowed: bool, final: Final, *programs: tuple[Access, ...]) -> Litmus:
    threads = []
    for number, program in enumerate(programs):
        thread = Thread(f"P{number}", Registers)
        for access in program:
            thread.step()(access)
        threads.append(thread)

    def reached(world: World[Memory]) -> bool:
        return ended(world) and final(world)

    asked = never("final-state", "The final state that is asked for is not reached.", reached)
    return Litmus(
        Model(name, Memory, tuple(threads), lambda _scope, _options: [Memory(0, 0)], (asked,)), allowed
    )


def a_of(world: World[Memory], thread: int) -> int:
    found: int = world.threads[thread].my.a
    return found


def b_of(world: World[Memory], thread: int) -> int:
    found: int = world.threads[thread].my.b
    return found


def sb(world: World[Memory]) -> bool:
    return a_of(world, 0) == 0 and a_of(world, 1) == 0


def mp(world: World[Memory]) -> bool:
    return a_of(world, 1) == 1 and b_of(world, 1) == 0


def lb(world: World[Memory]) -> bool:
    return a_of(world, 0) == 1 and a_of(world, 1) == 1


def iriw(world: World[Memory]) -> bool:
    return a_of(world, 2) == 1 and b_of(world, 2) == 0 and a_of(world, 3) == 1 and b_of(world, 3) == 0


def r(world: World[Memory]) -> bool:
    return world.shared.y == 2 and a_of(world, 1) == 0


def two_plus_two_w(world: World[Memory]) -> bool:
    return world.shared.x == 1 and world.shared.y == 1


LITMUS = (
    litmus("SB", True, sb, (store(X, 1), load_a(Y)), (store(Y, 1), load_a(X))),
    litmus("MP", False, mp, (store(X, 1), store(Y, 1)), (load_a(Y), load_b(X))),
    litmus("LB", False, lb, (load_a(X), store(Y, 1)), (load_a(Y), store(X, 1))),
    litmus(
        "IRIW", False, iriw, (store(X, 1),), (store(Y, 1),), (load_a(X), load_b(Y)), (load_a(Y), load_b(X))
    ),
    litmus("R", True, r, (store(X, 1), store(Y, 1)), (store(Y, 2), load_a(X))),
    litmus("2+2W", False, two_plus_two_w, (store(X, 1), store(Y, 2)), (store(Y, 1), store(X, 2))),
)
