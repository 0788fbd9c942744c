"""The graph of an explored system against the reference semantics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from avicheck.checker.explore import Contradiction, Tier, explore_states
from avicheck.checker.graph import StateGraph, state_graph
from avicheck.checker.region import Region, depths, region
from avicheck.encodings.expr import TRUE, constant, eq, evaluate
from avicheck.encodings.packing import WORD, layout
from avicheck.encodings.transition import TransitionSystem, Values, successors
from tests.benchmarks.avic_delivery import COUNTS, SIZES, avic_delivery
from tests.fair_runs import STATE, graph_system
from tests.random_systems import systems

TIERS: tuple[Tier, ...] = ("interpreted", "compiled")
every_tier = pytest.mark.parametrize("tier", TIERS)
SOME = 300


def explored(system: TransitionSystem, tier: Tier, most: int = SOME) -> tuple[StateGraph, list[Values], int]:
    """The graph, the states by number, and how many of them are expanded."""
    exploration, snapshot = explore_states(system, max_states=most, tier=tier)
    form = layout(system)
    size, packed = form.words * WORD // 8, bytes(snapshot.states)
    states: list[Values] = [
        form.unpack(int.from_bytes(packed[i : i + size], "little")) for i in range(0, len(packed), size)
    ]
    asked = [asked.holds for asked in system.properties]
    return state_graph(system, form, asked, exploration, snapshot), states, snapshot.marks.expanded


def check(system: TransitionSystem, tier: Tier) -> None:
    """Every edge, and where every property holds."""
    graph, states, expanded = explored(system, tier)
    numbers = np.arange(expanded - 1, -1, -1, dtype=np.int32)
    counts, targets, fired = graph.edges(numbers)
    ends = np.cumsum(counts)
    for number, start, end in zip(numbers.tolist(), ends - counts, ends, strict=True):
        edges = {
            (system.transitions[name].name, tuple(states[target].values()))
            for name, target in zip(fired[start:end].tolist(), targets[start:end].tolist(), strict=True)
        }
        reference = successors(system, states[number])
        assert len(reference) == end - start
        assert edges == {(step.name, tuple(after.values())) for step, after in reference}
    for i, asked in enumerate(system.properties):
        assert graph.where(i).tolist() == [bool(evaluate([asked.holds], state)[0]) for state in states]


@settings(deadline=None, max_examples=60)
@given(systems())
def test_interpreted_edges_are_those_of_the_reference(system: TransitionSystem) -> None:
    check(system, "interpreted")


@settings(deadline=None, max_examples=15)
@given(systems())
def test_compiled_edges_are_those_of_the_reference(system: TransitionSystem) -> None:
    check(system, "compiled")


def test_both_tiers_number_edges_alike() -> None:
    system = avic_delivery(*SIZES["XS"])
    numbers = np.arange(COUNTS["XS"][0], dtype=np.int32)
    first, second = (explored(system, tier, COUNTS["XS"][0] + 1)[0].edges(numbers) for tier in TIERS)
    assert first.counts.sum() == COUNTS["XS"][1]
    for ours, theirs in zip(first, second, strict=True):
        assert np.array_equal(ours, theirs)


@every_tier
def test_edges_to_states_that_are_not_known_contradict(tier: Tier) -> None:
    system = graph_system({"on": {state: state + 1 for state in range(15)}})
    graph, states, expanded = explored(system, tier, 4)
    assert (len(states), expanded) == (4, 3)
    with pytest.raises(Contradiction, match=f"^The {tier} tier reaches a state that it did not find$"):
        graph.edges(np.array([3], np.int32))


# Regions.


def seen(edges: dict[str, dict[int, int]], cause: set[int], target: set[int], **limits: Any) -> Region:
    """The region of a graph, by numbers."""
    exploration, snapshot = explore_states(graph_system(edges), **limits)
    at = [eq(STATE.expr, constant(i)) for i in range(16)]
    system = graph_system(edges)
    graph = state_graph(system, layout(system), [TRUE, *at], exploration, snapshot)
    first, last = (np.logical_or.reduce([graph.where(1 + i) for i in some]) for some in (cause, target))
    depth = depths(np.frombuffer(snapshot.parents, np.uint32))
    expanded, most = snapshot.marks.expanded, exploration.transitions
    return region(graph, first, last, depth, expanded, most, lambda *_: None)


def test_depths_are_the_lengths_of_shortest_runs() -> None:
    assert depths(np.array([0, 1, 0, 2, 3, 3, 1, 6], np.uint32)).tolist() == [0, 0, 1, 2, 3, 3, 1, 2]


def test_region_is_what_can_be_reached_without_the_target() -> None:
    found = seen({"a": {0: 1, 1: 2, 2: 3, 3: 4}, "b": {1: 3}}, {1}, {3})
    assert found.numbers.tolist() == [1, 2]
    assert found.steps.tolist() == [1, 2]
    assert found.before.tolist() == [-1, 0]
    assert found.starts.tolist() == [0, 2, 3]
    assert found.targets.tolist() == [1, -1, -1]
    assert found.fired.tolist() == [0, 1, 0]


def test_region_is_reached_as_soon_as_the_target_is_asked_for() -> None:
    found = seen({"a": {0: 1, 1: 2, 2: 3}, "b": {0: 2}}, {1, 2}, {15})
    assert dict(zip(found.numbers.tolist(), found.steps.tolist(), strict=True)) == {1: 1, 2: 1, 3: 2}


def test_region_is_reached_the_long_way_if_it_has_to_be() -> None:
    found = seen({"a": {0: 1, 1: 2, 2: 3, 4: 3}, "b": {0: 3}, "c": {0: 4}}, {2, 4}, {15})
    steps = dict(zip(found.numbers.tolist(), found.steps.tolist(), strict=True))
    assert sorted(steps.values()) == [1, 2, 2]


def test_states_that_are_not_expanded_have_no_edges() -> None:
    found = seen({"on": {state: state + 1 for state in range(15)}}, {0}, {15}, max_states=4)
    assert found.starts.tolist() == [0, 1, 2, 3, 3]
