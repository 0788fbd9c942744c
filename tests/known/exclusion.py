"""Mutual exclusion by plain loads and stores: Peterson's and Dekker's algorithms.

Right under SC; under x86-TSO only with a fence between a thread's store to its own flag and its load of
the other's (Owens, "Reasoning about the implementation of concurrency abstractions on x86-TSO", 2010).
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Final

from avicheck.spec.cpu import Cpu
from avicheck.spec.lang import IndexOf, Scope, SizedBy
from avicheck.spec.memory import Var, Vars, local, shared
from avicheck.spec.threads import Model, Thread, World, always, sometimes


class Fence(Enum):
    """Whether the algorithm is the one for x86."""

    MFENCE = "an MFENCE before the other's flag is read"


@shared
class Flags:
    flag: Annotated[Vars[bool], SizedBy("threads")]
    turn: Var[Annotated[int, IndexOf("threads")]]


@local
class Nothing:
    pass


def initial(scope: Scope, options: frozenset[Enum]) -> list[Flags]:
    return [Flags(flag=(False, False), turn=0)]


PETERSON: Final = Thread("peterson", Nothing, count="threads")


@PETERSON.step()
def want(cpu: Cpu, my: Nothing) -> None:
    cpu.store(Flags.flag[cpu.index], True)


@PETERSON.step()
def yield_turn(cpu: Cpu, my: Nothing) -> None:
    cpu.store(Flags.turn, 1 - cpu.index)


@PETERSON.step()
def see_flag(cpu: Cpu, my: Nothing) -> str:
    if cpu.has(Fence.MFENCE):
        cpu.smp_mb()
    return "see_turn" if cpu.load(Flags.flag[1 - cpu.index]) else "critical"


@PETERSON.step()
def see_turn(cpu: Cpu, my: Nothing) -> str:
    return "see_flag" if cpu.load(Flags.turn) != cpu.index else "critical"


@PETERSON.step()
def critical(cpu: Cpu, my: Nothing) -> str:
    cpu.store(Flags.flag[cpu.index], False)
    return "want"


DEKKER: Final = Thread("dekker", Nothing, count="threads")


@DEKKER.step(at="want")
def dekker_want(cpu: Cpu, my: Nothing) -> None:
    cpu.store(Flags.flag[cpu.index], True)


@DEKKER.step(at="see_flag")
def dekker_see_flag(cpu: Cpu, my: Nothing) -> str:
    if cpu.has(Fence.MFENCE):
        cpu.smp_mb()
    return "see_turn" if cpu.load(Flags.flag[1 - cpu.index]) else "critical"


@DEKKER.step(at="see_turn")
def dekker_see_turn(cpu: Cpu, my: Nothing) -> str:
    return "back_off" if cpu.load(Flags.turn) != cpu.index else "see_flag"


@DEKKER.step()
def back_off(cpu: Cpu, my: Nothing) -> None:
    cpu.store(Flags.flag[cpu.index], False)


@DEKKER.step()
def await_turn(cpu: Cpu, my: Nothing) -> str:
    cpu.wait_until(cpu.load(Flags.turn) == cpu.index)
    return "want"


@DEKKER.step(at="critical")
def dekker_critical(cpu: Cpu, my: Nothing) -> None:
    cpu.store(Flags.turn, 1 - cpu.index)


@DEKKER.step()
def leave(cpu: Cpu, my: Nothing) -> str:
    cpu.store(Flags.flag[cpu.index], False)
    return "want"


def one_at_a_time(world: World[Flags]) -> bool:
    """At most one thread is in its critical section."""
    return not (world.threads[0].at("critical") & world.threads[1].at("critical"))


def second_enters(world: World[Flags]) -> bool:
    return world.threads[1].at("critical")


def algorithm(name: str, thread: Thread[Any]) -> Model[Flags]:
    return Model(
        name,
        Flags,
        (thread,),
        initial,
        (
            always("mutual-exclusion", "Never two threads in their critical sections.", one_at_a_time),
            sometimes("entered", "The second thread can enter its critical section.", second_enters),
        ),
    )


ALGORITHMS: Final = (algorithm("peterson", PETERSON), algorithm("dekker", DEKKER))
