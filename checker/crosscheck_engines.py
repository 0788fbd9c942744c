"""All engines on the properties of one system, and where their answers contradict each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Final, Literal, TypeAlias

from avicheck.checker.engine import DEADLOCK_FREE, EngineResult, unless_interrupted
from avicheck.checker.engines import Limits, check, property_of
from avicheck.checker.explore import Exploration, explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.reachability import question
from avicheck.encodings.transition import Property, TransitionSystem

TIERS: Final[tuple[Literal["interpreted", "compiled"], ...]] = ("interpreted", "compiled")
"""The explicit engine's, which are asked about all properties at once."""
EXPLICIT: Final = "explicit"
AS_SAFETY: Final = "as safety"
"""The explicit engine on the system that ``liveness.always_property`` makes."""
Name: TypeAlias = Literal["explicit", "as safety", "bmc", "induction", "ic3"]

ENGINES: Final[tuple[Name, ...]] = (EXPLICIT, AS_SAFETY, "bmc", "induction", "ic3")
"""The engines in the order in which they are asked."""

Results: TypeAlias = Mapping[str, EngineResult]
"""What engines answer about one property, by their names."""

_DECIDED: Final = {Verdict.PROVED: True, Verdict.HOLDS: True, Verdict.VIOLATED: False}
_SEARCHES: Final = (*TIERS, EXPLICIT, "bmc")
"""The engines that leave no run out which is as short as they are deep."""
_SHORTEST: Final = (*_SEARCHES, "induction")
"""The engines whose runs are shortest."""


def properties(system: TransitionSystem) -> list[Property]:
    """What is asked of a system, that it has no deadlock included."""
    return [*system.properties, property_of(system, DEADLOCK_FREE)]


def calls(system: TransitionSystem, known: Iterable[str]) -> list[tuple[Property, Name]]:
    """Which engines to ask about which property: ``explicit`` only where nothing is known from
    exploration."""
    explored = set(known)
    return [
        (prop, engine)
        for prop in properties(system)
        for engine in ENGINES
        if (prop.kind == "leads-to" or engine != AS_SAFETY)
        and (engine != EXPLICIT or prop.name not in explored)
    ]


def answer(
    system: TransitionSystem, asked: Property, engine: Name, seconds: float, depth: int | None = None
) -> EngineResult:
    """What an engine answers within so many seconds; ``depth`` is that of the deepest state, if that is
    known. Errors are those of ``engines.check``."""
    if engine == AS_SAFETY:
        return _as_safety(system, asked, seconds)
    limits = Limits(seconds=seconds)
    if depth is not None and asked.kind != "leads-to":
        limits = replace(limits, depth=depth)
    return check(system, asked.name, engine, limits)


def _as_safety(system: TransitionSystem, asked: Property, seconds: float) -> EngineResult:
    asks = question(system, asked)
    sought = Property(asked.name, "never", asks.goal)
    (found,) = explore(
        replace(asks.system, properties=(sought,)),
        properties=[asked.name],
        stop="all",
        max_seconds=seconds,
    ).results
    return unless_interrupted(replace(found, run=found.run and asks.run_of(found.run)))


# Contradictions.


def about_counts(explorations: Mapping[str, Exploration], fired: Mapping[str, int] | None) -> Iterator[str]:
    """Where complete explorations differ from each other, or from how often each transition ``fired``
    by another count."""
    complete = {tier: found for tier, found in explorations.items() if found.complete}
    for (tier, found), (other, second) in combinations(complete.items(), 2):
        for what in ("states", "transitions", "depth", "out_degree_max"):
            ours, theirs = getattr(found, what), getattr(second, what)
            if ours != theirs:
                yield f"{what} must be the same, not {ours} for {tier} and {theirs} for {other}"
    for tier, found in complete.items():
        for name, count in found.fired.items() if fired is not None else ():
            expected = (fired or {}).get(name, 0)
            if count != expected:
                yield f"{name} must fire {expected} times, not {count} times for {tier}"


def about(asked: Property, results: Results) -> Iterator[str]:
    """Where the answers on a property cannot all be true."""
    for engine, result in results.items():
        if result.verdict is Verdict.TOOL_ERROR:
            yield f"{asked.name}: {engine} contradicts itself: {result.detail}"
    decided = {engine: result for engine, result in results.items() if result.verdict in _DECIDED}
    for (engine, result), (other, second) in combinations(decided.items(), 2):
        if _DECIDED[result.verdict] != _DECIDED[second.verdict]:
            yield (
                f"{asked.name}: Verdict must be the same, not {result.verdict.value} for {engine} and "
                f"{second.verdict.value} for {other}"
            )
    if asked.kind != "leads-to":
        yield from _about_depths(asked, results)


def _about_depths(asked: Property, results: Results) -> Iterator[str]:
    """Shortest runs are of one length, no run is shorter, and none is as short as an engine excludes.
    Lassos are short in more than one sense."""
    runs = {
        engine: len(result.run.fired)
        for engine, result in results.items()
        if result.run is not None and result.verdict in _DECIDED
    }
    shortest = {engine: steps for engine, steps in runs.items() if engine in _SHORTEST}
    for (engine, steps), (other, second) in combinations(shortest.items(), 2):
        if steps != second:
            yield f"{asked.name}: Steps must be the same, not {steps} for {engine} and {second} for {other}"
    for engine in runs.keys() - shortest.keys():
        for other, least in shortest.items():
            if runs[engine] < least:
                yield (
                    f"{asked.name}: Steps for {engine} must be at least {least}, as for {other}, "
                    f"not {runs[engine]}"
                )
    for engine, result in results.items():
        excluded = result.depth
        if engine not in runs and excluded is not None and _excludes(engine, result):
            for other, steps in runs.items():
                if steps <= excluded:
                    yield (
                        f"{asked.name}: {engine} must find a run of {steps} steps, as {other} does, "
                        f"not exclude {excluded}"
                    )


def _excludes(engine: str, result: EngineResult) -> bool:
    """Whether a result without a run says that there is none of at most ``depth`` steps."""
    undecided = result.verdict in (Verdict.HOLDS_TO_DEPTH, Verdict.UNKNOWN)
    return undecided and engine in _SEARCHES
