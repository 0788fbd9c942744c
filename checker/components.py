"""Strongly connected components of large and small graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices: TypeAlias = NDArray[np.int32]

SMALL: Final = 5_000
"""Nodes and edges up to which networkx is done before scipy is imported."""


def rows(sources: Indices, count: int) -> Indices:
    """Where the edges of each node begin, and the last one's end, among edges that are sorted by sources."""
    return np.searchsorted(sources, np.arange(count + 1, dtype=np.int32)).astype(np.int32)


def components(sources: Indices, targets: Indices, count: int) -> Indices:
    """The number of the strongly connected component of each of ``count`` nodes, by edges that are sorted
    by their sources."""
    starts = rows(sources, count)
    if count + len(targets) <= SMALL:
        return _by_networkx(starts.tolist(), targets.tolist())
    from scipy.sparse.csgraph import connected_components

    graph = sparse(*_once(starts, targets))
    labels: Indices = connected_components(graph, directed=True, connection="strong")[1]
    return labels


def _once(starts: Indices, targets: Indices) -> tuple[Indices, Indices]:
    """The graph without edges from and to the same nodes as others, on which scipy may hang."""
    from scipy.sparse import csr_array

    count, marks = len(starts) - 1, np.ones(len(targets), np.int8)
    graph = csr_array((marks, targets.copy(), starts.copy()), shape=(count, count))
    graph.sum_duplicates()
    return graph.indptr, graph.indices


def sparse(starts: Indices, targets: Indices) -> Any:
    """A graph as scipy wants it. Its weights take no memory: nobody looks at them."""
    from scipy.sparse import csr_array

    count = len(starts) - 1
    weights = np.broadcast_to(np.float64(1), len(targets))
    return csr_array((weights, targets, starts), shape=(count, count))


def _by_networkx(starts: list[int], targets: list[int]) -> Indices:
    import networkx as nx

    graph: Any = nx.DiGraph()
    graph.add_nodes_from(range(len(starts) - 1))
    for node in range(len(starts) - 1):
        graph.add_edges_from((node, after) for after in targets[starts[node] : starts[node + 1]])
    labels = np.empty(len(starts) - 1, np.int32)
    for number, component in enumerate(nx.strongly_connected_components(graph)):
        labels[list(component)] = number
    return labels
