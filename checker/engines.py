"""All engines behind one function."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from avicheck.checker.engine import DEADLOCK_FREE, EngineResult, unless_interrupted
from avicheck.checker.errors import not_one_of
from avicheck.checker.verdict import Verdict
from avicheck.encodings.reachability import deadlock_free
from avicheck.encodings.transition import Property, TransitionSystem

if TYPE_CHECKING:
    from avicheck.checker.explore import Progress

EngineName: TypeAlias = Literal["auto", "explicit", "bmc", "induction", "ic3"]

MANY: Final = 100_000_000
"""States that the explicit engine goes through in minutes, within a few gigabytes."""


@dataclass(frozen=True)
class Limits:
    """How far engines go: ``seconds`` and ``memory`` (bytes; most of what there is, unless given) for all,
    ``depth`` steps for ``bmc``, ``k`` for ``induction``, which leaves out runs that come back to a state if
    ``simple``. The explicit engine tells ``on_progress`` how far it is."""

    seconds: float = math.inf
    memory: int | None = None
    depth: int = 50
    k: int = 20
    simple: bool = False
    on_progress: Callable[[Progress], None] | None = None


def property_of(system: TransitionSystem, name: str) -> Property:
    """A system's property by name, ``DEADLOCK_FREE`` included; InputError if there is none."""
    known = {asked.name: asked for asked in system.properties}
    known[DEADLOCK_FREE] = deadlock_free(system, DEADLOCK_FREE)
    if name not in known:
        raise not_one_of("property", known, name)
    return known[name]


def check(
    system: TransitionSystem, name: str, engine: EngineName = "auto", limits: Limits | None = None
) -> EngineResult:
    """What an engine says about one property of a system. ``auto`` explores up to ``MANY`` states, then
    looks for an invariant; the result's detail says so. ``Interrupted`` after a SIGINT. InputError if
    there is no such property or engine, or if a transition leads beyond a variable's bounds."""
    if engine not in ENGINES:
        raise not_one_of("engine", ENGINES, engine)
    return unless_interrupted(ENGINES[engine](system, property_of(system, name), limits or Limits()))


def _explicit(system: TransitionSystem, asked: Property, limits: Limits) -> EngineResult:
    from avicheck.checker.explicit import explicit

    return explicit(
        system, asked, limit=limits.seconds, max_memory=limits.memory, on_progress=limits.on_progress
    )


def _bmc(system: TransitionSystem, asked: Property, limits: Limits) -> EngineResult:
    from avicheck.checker.symbolic import bmc

    return bmc(system, asked, depth=limits.depth, limit=limits.seconds)


def _induction(system: TransitionSystem, asked: Property, limits: Limits) -> EngineResult:
    from avicheck.checker.symbolic import induction

    return induction(system, asked, most=limits.k, simple=limits.simple, limit=limits.seconds)


def _ic3(system: TransitionSystem, asked: Property, limits: Limits) -> EngineResult:
    from avicheck.checker.symbolic_ic3 import ic3

    return ic3(system, asked, limit=limits.seconds)


def _auto(system: TransitionSystem, asked: Property, limits: Limits) -> EngineResult:
    from avicheck.checker.explicit import explicit

    most = None if _states(system) <= MANY else MANY
    first = unless_interrupted(
        explicit(
            system,
            asked,
            limit=limits.seconds,
            max_states=most,
            max_memory=limits.memory,
            on_progress=limits.on_progress,
        )
    )
    size = f"{math.log2(_states(system)):.0f} bits of state"
    left = replace(limits, seconds=limits.seconds - first.seconds)
    if first.verdict is not Verdict.UNKNOWN or left.seconds <= 0:
        return replace(first, detail=f"explicit chosen, {size}: {first.detail}")
    second = unless_interrupted(_ic3(system, asked, left))
    if second.run is not None:
        shortest = _bmc(system, asked, replace(left, depth=len(second.run.fired)))
        second = shortest if shortest.run is not None else second
    reason = f"{second.engine} chosen, {size}, the explicit engine {first.detail}"
    seconds = first.seconds + second.seconds
    return replace(second, detail=f"{reason}: {second.detail}", seconds=seconds)


def _states(system: TransitionSystem) -> int:
    """How many states the variables' bounds allow."""
    return math.prod(var.hi - var.lo + 1 for var in system.variables)


ENGINES: Final[Mapping[str, Callable[[TransitionSystem, Property, Limits], EngineResult]]] = {
    "auto": _auto,
    "explicit": _explicit,
    "bmc": _bmc,
    "induction": _induction,
    "ic3": _ic3,
}
