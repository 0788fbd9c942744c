"""Strongly connected components, by plain Python and by scipy."""

from __future__ import annotations

from collections import defaultdict

import networkx as nx
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


@pytest.mark.parametrize("small", [module.SMALL, -1], ids=["python", "scipy"])
def test_components_are_those_that_networkx_finds(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", small)

    @settings(deadline=None, max_examples=150)
    @given(graphs)
    def agree(graph: tuple[int, list[Edge]]) -> None:
        count, edges = graph
        expected = nx.DiGraph(edges)
        expected.add_nodes_from(range(count))
        assert found(count, edges) == set(map(frozenset, nx.strongly_connected_components(expected)))

    agree()


@pytest.mark.parametrize("small", [module.SMALL, -1], ids=["python", "scipy"])
def test_long_loop_is_one_component(small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL", small)
    assert len(found(50_000, [(i, (i + 1) % 50_000) for i in range(50_000)])) == 1


def test_rows_are_where_the_edges_of_a_node_begin() -> None:
    assert rows(np.array([0, 0, 2, 2, 2], np.int32), 4).tolist() == [0, 2, 2, 5, 5]
