"""Fewest thread switches, against every shortest run there is."""

from __future__ import annotations

import random
from functools import cache

import pytest

from avicheck.checker import systems
from avicheck.checker.engines import property_of
from avicheck.checker.explore import explore
from avicheck.checker.systems import Choices, instance
from avicheck.checker.trace_replay import replayed
from avicheck.checker.trace_shortest import fewest_switches
from avicheck.checker.trace_words import switches
from avicheck.encodings.expr import FALSE, constant, eq, evaluate, le
from avicheck.encodings.transition import (
    Property,
    Run,
    Transition,
    TransitionSystem,
    Variable,
    replay,
    successors,
)
from tests.known.described import POINTS, sample


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known models are registered."""
    monkeypatch.setattr(systems, "registered", lambda: POINTS)


def switches_of(system: TransitionSystem, run: Run) -> int:
    threads = {step.name: step.thread for step in system.transitions}
    return switches(threads[name] for name in run.fired)


def fewest(system: TransitionSystem, asked: Property, steps: int) -> int:
    """The fewest switches of all runs of so many steps that end where the property is decided."""

    @cache
    def following(at: int) -> list[tuple[str, int]]:
        return [(step.thread, after["at"]) for step, after in successors(system, {"at": at})]

    def ends(at: int, left: int, last: str) -> list[int]:
        if left == 0:
            return [0] if evaluate([asked.holds], {"at": at}) == [1] else []
        return [
            number + (last not in ("", thread))
            for thread, after in following(at)
            for number in ends(after, left - 1, thread)
        ]

    return min(number for state in system.initial for number in ends(state["at"], steps, ""))


LAYERS = 6


def layered(seed: int) -> TransitionSystem:
    """Places in layers, some of the first initial, steps of three threads between them at random, most to
    the next layer. What is looked for are some places of the last one."""
    rng = random.Random(seed)
    at = Variable("at", 0, 4 * LAYERS - 1)
    edges = {
        (
            rng.choice("abc"),
            place,
            4 * (layer + 1 if rng.random() < 0.8 else rng.randrange(layer + 1)) + rng.randrange(4),
        )
        for layer in range(LAYERS - 1)
        for place in range(4 * layer, 4 * layer + 4)
        for _ in range(4)
    }
    steps = [
        Transition(
            f"{thread}: {place} to {to}", thread, "", eq(at.expr, constant(place)), {"at": constant(to)}
        )
        for thread, place, to in sorted(edges)
    ]
    goal = Property("far", "never", le(constant(4 * LAYERS - 1 - rng.randrange(3)), at.expr))
    initial = tuple({"at": place} for place in range(1 + rng.randrange(3)))
    return TransitionSystem(f"layers {seed}", (at,), initial, tuple(steps), (goal,), FALSE)


def found(system: TransitionSystem) -> Run | None:
    """A shortest run, if there is one."""
    return explore(system, properties=["far"], tier="interpreted").results[0].run


@pytest.mark.parametrize("seeds", [range(start, start + 20) for start in (0, 20, 40)])
def test_no_shortest_run_has_fewer_switches(seeds: range) -> None:
    seen = set()
    for system in map(layered, seeds):
        asked, run = system.properties[0], found(system)
        if run is not None:
            best = fewest_switches(system, asked, run)
            replay(system, best.run)
            assert (best.how, len(best.run.fired)) == ("fewest switches", len(run.fired))
            assert switches_of(system, best.run) == fewest(system, asked, len(run.fired))
            seen.add(switches_of(system, run) - switches_of(system, best.run))
    assert max(seen) > 1


def test_the_solver_finds_as_few() -> None:
    for system in map(layered, range(8)):
        asked, run = system.properties[0], found(system)
        if run is not None:
            exact, solved = (fewest_switches(system, asked, run, most=most, seconds=60) for most in (999, 0))
            replay(system, solved.run)
            assert (solved.how, len(solved.run.fired)) == ("fewest switches", len(run.fired))
            assert switches_of(system, solved.run) == switches_of(system, exact.run)


def test_the_choice_does_not_depend_on_the_run_found() -> None:
    system = layered(1)
    run = found(system)
    assert run is not None
    best = fewest_switches(system, system.properties[0], run).run
    assert fewest_switches(system, system.properties[0], best).run == best


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", ["shelf", "shelf, broken", "peterson", "dining"])
@pytest.mark.parametrize("most", [0, 10**6])
def test_a_better_run_shows_the_same(name: str, most: int) -> None:
    shown = sample(name)
    asked = shown.claim
    assert asked is not None
    best = fewest_switches(shown.instance.system, asked, shown.run, most=most)
    replayed(type(shown)(shown.instance, shown.asked, best.run))
    assert len(best.run.fired) == len(shown.run.fired)


@pytest.mark.usefixtures("models")
def test_switches_are_taken_out() -> None:
    """Two readers, each with a book: they need not take turns."""
    system = instance("shelf", Choices()).system
    asked = property_of(system, "light")
    names = ("reader[0].take", "reader[1].take", "reader[0].put", "reader[1].put")
    states = [system.initial[0]]
    for name in names:
        states.append(next(after for step, after in successors(system, states[-1]) if step.name == name))
    one = TransitionSystem(
        system.name, system.variables, (system.initial[0],), system.transitions, (asked,), system.ended
    )
    for most in (0, 10**6):
        best = fewest_switches(one, asked, Run(tuple(states), names), most=most)
        assert (best.how, switches_of(system, best.run)) == ("fewest switches", 1)


@pytest.mark.usefixtures("models")
def test_a_lasso_stays_as_it_was_found() -> None:
    shown = sample("token-ring")
    assert shown.claim is not None
    assert fewest_switches(shown.instance.system, shown.claim, shown.run).how == "as found"


@pytest.mark.usefixtures("models")
def test_without_time_the_run_stays_as_it_was_found() -> None:
    shown = sample("dining")
    assert shown.claim is not None
    best = fewest_switches(shown.instance.system, shown.claim, shown.run, most=0, seconds=0.0)
    assert (best.how, best.run) == ("as found", shown.run)
