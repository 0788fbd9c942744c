"""Threads that compete for resources: a counting semaphore, dining philosophers, a token ring."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final

from avicheck.spec.cpu import Cpu
from avicheck.spec.lang import IndexOf, Range, SizedBy
from avicheck.spec.memory import Reg, Var, Vars, local, shared
from avicheck.spec.threads import Model, Thread, World, always, leads_to, sometimes


@local
class Nothing:
    pass


# A counting semaphore with two units.

UNITS: Final = 2


@shared
class Semaphore:
    count: Var[Annotated[int, Range(0, UNITS)]]


USER: Final = Thread("user", Nothing, count="users")


@USER.step(coarse="down() waits and takes a unit in one locked operation")
def down(cpu: Cpu, my: Nothing) -> None:
    cpu.wait_until(cpu.load(Semaphore.count) > 0)
    cpu.atomic_fetch_add(Semaphore.count, -1)


@USER.step()
def up(cpu: Cpu, my: Nothing) -> str:
    cpu.atomic_fetch_add(Semaphore.count, 1)
    return "down"


def holders(world: World[Semaphore]) -> int:
    return sum(user.at("up") for user in world.of(USER))


def at_most_two(world: World[Semaphore]) -> bool:
    return holders(world) <= UNITS


def at_most_one(world: World[Semaphore]) -> bool:
    return holders(world) <= 1


def units_kept(world: World[Semaphore]) -> bool:
    return holders(world) + world.shared.count == UNITS


SEMAPHORE: Final = Model(
    "semaphore",
    Semaphore,
    (USER,),
    lambda _scope, _options: [Semaphore(UNITS)],
    (
        always("at-most-two", "As many hold a unit as there are units, at most.", at_most_two),
        always("at-most-one", "At most one holds a unit: false.", at_most_one),
        always("units-kept", "No unit is lost or made: inductive, and implies at-most-two.", units_kept),
    ),
)


# Dining philosophers.


class Etiquette(Enum):
    """How philosophers take their forks."""

    ORDERED = "the fork with the lower number first"


@shared
class Table:
    fork: Annotated[Vars[bool], SizedBy("philosophers")]


PHILOSOPHER: Final = Thread("philosopher", Nothing, count="philosophers")


def forks_of(cpu: Cpu) -> tuple[int, int]:
    left, right = cpu.index, (cpu.index + 1) % cpu.scope["philosophers"]
    return (right, left) if cpu.has(Etiquette.ORDERED) and right < left else (left, right)


@PHILOSOPHER.step()
def take_first(cpu: Cpu, my: Nothing) -> None:
    cpu.mutex_lock(Table.fork[forks_of(cpu)[0]])


@PHILOSOPHER.step()
def take_second(cpu: Cpu, my: Nothing) -> None:
    cpu.mutex_lock(Table.fork[forks_of(cpu)[1]])


@PHILOSOPHER.step()
def eat(cpu: Cpu, my: Nothing) -> None:
    cpu.mutex_unlock(Table.fork[forks_of(cpu)[1]])


@PHILOSOPHER.step()
def put_down(cpu: Cpu, my: Nothing) -> str:
    cpu.mutex_unlock(Table.fork[forks_of(cpu)[0]])
    return "take_first"


def neighbours_eat(world: World[Table]) -> bool:
    return world.threads[0].at("eat") & world.threads[1].at("eat")


def last_eats(world: World[Table]) -> bool:
    return world.of(PHILOSOPHER)[-1].at("eat")


def nobody_shares_a_fork(world: World[Table]) -> bool:
    return not neighbours_eat(world)


PHILOSOPHERS: Final = Model(
    "philosophers",
    Table,
    (PHILOSOPHER,),
    lambda scope, _options: [Table((False,) * scope["philosophers"])],
    (
        always("forks-not-shared", "Neighbours do not eat at the same time.", nobody_shares_a_fork),
        sometimes("last-eats", "The last philosopher can eat.", last_eats),
    ),
)


# A token ring.


class Ways(Enum):
    """Which ways the token can go."""

    TWO = "round the ring, and from the last station but one back to the first"


@shared
class Ring:
    token: Reg[Annotated[int, IndexOf("stations")]]


STATION: Final = Thread("station", Nothing, count="stations", buffered=False)


@STATION.anywhere()
def idle(cpu: Cpu, my: Nothing) -> None:
    """Something else happens, as often as it likes."""


@STATION.anywhere()
def pass_on(cpu: Cpu, my: Nothing) -> None:
    cpu.wait_until(cpu.read(Ring.token) == cpu.index)
    cpu.write(Ring.token, (cpu.index + 1) % cpu.scope["stations"])


@STATION.anywhere()
def send_back(cpu: Cpu, my: Nothing) -> None:
    """The last station but one may return the token to the first."""
    cpu.wait_until(cpu.has(Ways.TWO) and cpu.index == cpu.scope["stations"] - 2)
    cpu.wait_until(cpu.read(Ring.token) == cpu.index)
    cpu.write(Ring.token, 0)


def token_at_first(world: World[Ring]) -> bool:
    return world.shared.token == 0


def token_at_last(world: World[Ring]) -> bool:
    return world.shared.token == len(world.of(STATION)) - 1


RING: Final = Model(
    "token-ring",
    Ring,
    (STATION,),
    lambda _scope, _options: [Ring(0)],
    tuple(
        leads_to(
            f"round-{fairness}",
            f"Whenever the first station has the token, the last one gets it; fairness: {fairness}.",
            token_at_first,
            token_at_last,
            weak=weak,
            strong=strong,
        )
        for fairness, weak, strong in (("none", (), ()), ("weak", (pass_on,), ()), ("strong", (), (pass_on,)))
    ),
)
