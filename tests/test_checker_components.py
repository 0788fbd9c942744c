"""Strongly connected components, by networkx and by scipy."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.checker import components as module
from avicheck.checker.components import components, rows

Edge = tuple[int, int]

graphs = st.integers(0, 12).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.tuples(*[st.integers(0, count - 1)] * 2), max_size=30) if count else st.just([]),
    )
)


def found(count: int, edges: list[Edge]) -> set[frozenset[int]]:
    """The components as sets."""
    sources, targets = (np.array([edge[i] for edge in sorted(edges)], np.int32) for i in (0, 1))
    members: dict[int, set[int]] = defaultdict(set)
    for node, component in enumerate(components(sources, targets, count).tolist()):
        members[component].add(node)
    return {frozenset(nodes) for nodes in members.values()}


def mutually_reachable(count: int, edges: list[Edge]) -> set[frozenset[int]]:
    """The same by their definition."""
    reached = {(node, node) for node in range(count)} | set(edges)
    while more := {(a, d) for a, b in reached for c, d in edges if b == c} - reached:
        reached |= more
    return {frozenset(b for b in range(count) if {(a, b), (b, a)} <= reached) for a in range(count)}


@pytest.mark.parametrize("small", [module.SMALL, -1], ids=["networkx", "scipy"])
def test_components_are_the_mutually_reachable_nodes(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", small)

    @settings(deadline=None, max_examples=150)
    @given(graphs)
    def agree(graph: tuple[int, list[Edge]]) -> None:
        assert found(*graph) == mutually_reachable(*graph)

    agree()


@pytest.mark.parametrize("count", [1_000, 50_000], ids=["networkx", "scipy"])
def test_long_loop_is_one_component(count: int) -> None:
    assert len(found(count, [(i, (i + 1) % count) for i in range(count)])) == 1


def test_rows_are_where_the_edges_of_a_node_begin() -> None:
    assert rows(np.array([0, 0, 2, 2, 2], np.int32), 4).tolist() == [0, 2, 2, 5, 5]
