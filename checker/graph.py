"""The states of an explored system as a graph: in which of them something holds, and where edges lead.

Like the exploration, it is interpreted for few states and compiled for many.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import numpy as np

from avicheck.checker.checkpoint import Snapshot
from avicheck.checker.explore import Contradiction, Exploration
from avicheck.checker.jit import compiled
from avicheck.encodings.expr import Expr
from avicheck.encodings.llvm_graph import graph_text, labelled, record_words, table_bits
from avicheck.encodings.packing import WORD, Layout
from avicheck.encodings.to_python import compile_expand, compile_select
from avicheck.encodings.transition import TransitionSystem

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.int32]
    Flags: TypeAlias = NDArray[np.bool_]

_BATCH: Final = 1024
"""States whose edges are followed at a time: their hash slots stay in the cache."""


class Edges(NamedTuple):
    """Edges of some states: how many each of them has, then for all of them in that order the number of
    the state they lead to and the position of the transition that fires."""

    counts: Numbers
    targets: Numbers
    fired: NDArray[np.unsignedinteger]


class InterpretedGraph:
    """The graph in plain Python."""

    def __init__(
        self, system: TransitionSystem, layout: Layout, expressions: Sequence[Expr], snapshot: Snapshot
    ) -> None:
        size, packed = layout.words * WORD // 8, bytes(snapshot.states)
        self._states = [int.from_bytes(packed[i : i + size], "little") for i in range(0, len(packed), size)]
        self._numbers = {state: number for number, state in enumerate(self._states)}
        self.names = np.min_scalar_type(len(system.transitions))
        self._select = [compile_select([expression], layout) for expression in expressions]
        edges, form = labelled(system, layout)
        # One word more, which every transition keeps, tells the edges of one state from those of others.
        self._expand = compile_expand(edges, replace(form, bits=form.bits + WORD))
        self._scratch = [0] * len(system.transitions)
        self._bits = layout.words * WORD

    def where(self, which: int) -> Flags:
        """For each state whether an expression holds."""
        flags = np.zeros(len(self._states), np.bool_)
        flags[self._select[which](self._states, 0, [True])] = True
        return flags

    def edges(self, numbers: Numbers) -> Edges:
        """The edges of some states."""
        bits, found = self._bits, list[int]()
        states = [self._states[n] | i << bits + WORD for i, n in enumerate(numbers.tolist())]
        self._expand(states, 0, {}, found.append, self._scratch, [])
        counts = np.zeros(len(states), np.int32)
        np.add.at(counts, [edge >> bits + WORD for edge in found], 1)
        mask, name = (1 << bits) - 1, (1 << WORD) - 1
        try:
            targets = np.array([self._numbers[edge & mask] for edge in found], np.int32)
        except KeyError:
            raise Contradiction("The interpreted tier reaches a state that it did not find") from None
        return Edges(counts, targets, np.array([edge >> bits & name for edge in found], self.names))


class CompiledGraph:
    """The graph in native code."""

    def __init__(
        self, system: TransitionSystem, layout: Layout, expressions: Sequence[Expr], snapshot: Snapshot
    ) -> None:
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._states = np.frombuffer(snapshot.states, np.uint64)
        self._count = len(self._states) // layout.words
        self.names = np.min_scalar_type(len(system.transitions))
        self._expressions, self._widest = len(expressions), max(1, snapshot.marks.widest)
        self._functions, self._engine = compiled(
            [graph_text(system, layout, expressions, self.names.itemsize * 8)],
            {
                "mark": (None, pointer, number, pointer, pointer),
                "index": (None, pointer, number, number, pointer),
                "edges": (number, pointer, number, pointer, pointer, number, *(pointer,) * 5),
            },
        )
        self._bits = table_bits(self._count)
        self._table = np.zeros(1 << self._bits, np.uint64)
        self._batch = np.empty(_BATCH * self._widest * record_words(layout), np.uint64)
        self._scratch = np.zeros(len(system.transitions) + 2, np.uint64)
        self._functions["index"](self._states.ctypes.data, self._count, self._bits, self._table.ctypes.data)

    def where(self, which: int) -> Flags:
        """For each state whether an expression holds."""
        asked = np.zeros(self._expressions, np.uint8)
        asked[which] = 1
        flags = np.empty(self._count, np.bool_)
        self._functions["mark"](self._states.ctypes.data, self._count, asked.ctypes.data, flags.ctypes.data)
        return flags

    def edges(self, numbers: Numbers) -> Edges:
        """The edges of some states."""
        numbers = np.ascontiguousarray(numbers)
        most = len(numbers) * self._widest
        found = Edges(np.empty(len(numbers), np.int32), np.empty(most, np.int32), np.empty(most, self.names))
        table, end = (self._states.ctypes.data, self._bits, self._table.ctypes.data), 0
        for start in range(0, len(numbers), _BATCH):
            part = numbers[start : start + _BATCH]
            counts = found.counts[start : start + _BATCH]
            rest = (self._batch, self._scratch, counts, found.targets[end:], found.fired[end:])
            lost = self._functions["edges"](
                *table, part.ctypes.data, len(part), *(array.ctypes.data for array in rest)
            )
            if lost:
                raise Contradiction("The compiled tier reaches a state that it did not find")
            end += int(counts.sum())
        return Edges(found.counts, found.targets[:end], found.fired[:end])


StateGraph: TypeAlias = InterpretedGraph | CompiledGraph


def state_graph(
    system: TransitionSystem,
    layout: Layout,
    expressions: Sequence[Expr],
    exploration: Exploration,
    snapshot: Snapshot,
) -> StateGraph:
    """The graph of what was explored, in the tier in which that ended. Edges of states that were not
    expanded may lead to unknown ones, and must not be asked for. ``Contradiction`` if others do."""
    kind = CompiledGraph if exploration.tier == "compiled" else InterpretedGraph
    return kind(system, layout, expressions, snapshot)
