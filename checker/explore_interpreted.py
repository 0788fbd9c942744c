"""The interpreted tier of the explicit engine: generated Python, ready at once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from avicheck.checker.checkpoint import Marks, Snapshot
from avicheck.checker.searched import Searched
from avicheck.encodings.expr import Expr
from avicheck.encodings.packing import WORD
from avicheck.encodings.to_python import OutOfRange, compile_expand, compile_select


class Interpreted:
    """States as integers, numbered in the order of discovery."""

    name: Final = "interpreted"
    full: Final = False
    consistent: Final = True

    def __init__(self, searched: Searched, expressions: Sequence[Expr], snapshot: Snapshot) -> None:
        canonical = None if searched.symmetry is None else searched.representative
        self._expand = compile_expand(searched.system, searched.layout, canonical)
        self._select = compile_select(expressions, searched.layout)
        self._bytes = size = searched.layout.words * WORD // 8
        packed = bytes(snapshot.states)
        self._states = [int.from_bytes(packed[i : i + size], "little") for i in range(0, len(packed), size)]
        self._parents = dict(zip(self._states, memoryview(snapshot.parents).cast("I"), strict=True))
        marks = snapshot.marks
        self.expanded, self.widest, self.stuck = marks.expanded, marks.widest, marks.stuck
        self.fired = list(marks.fired)
        self.asked = [True] * len(expressions)
        self.fault: tuple[int, int] | None = None

    @property
    def count(self) -> int:
        """How many states are known."""
        return len(self._states)

    def advance(self, end: int) -> list[int]:
        """Expand states up to number ``end``. Returns the new states in which an expression holds that
        is asked for. A fault (the numbers of a state and of a transition that leads beyond a variable's
        bounds) ends it early."""
        known, start = self.count, self.expanded
        stuck: list[int] = []
        states = self._states[start:end]
        try:
            most = self._expand(states, start, self._parents, self._states.append, self.fired, stuck)
        except OutOfRange as fault:
            self.fault = fault.args
            return []
        self.expanded = end
        self.widest = max(self.widest, most)
        if stuck and self.stuck is None:
            self.stuck = stuck[0]
        return self.alarms(known)

    def alarms(self, start: int) -> list[int]:
        """The known states, from a number on, in which an expression holds that is asked for."""
        return self._select(self._states[start:], start, self.asked) if any(self.asked) else []

    def state(self, number: int) -> int:
        """A packed state."""
        return self._states[number]

    def parent(self, number: int) -> int:
        """The state that a state was reached from; itself for an initial one."""
        return self._parents[self._states[number]]

    def snapshot(self, level_end: int, depth: int) -> Snapshot:
        """All of it."""
        states = b"".join([state.to_bytes(self._bytes, "little") for state in self._states])
        marks = Marks(self.expanded, level_end, depth, self.widest, self.stuck, tuple(self.fired))
        return Snapshot(states, array("I", self._parents.values()).tobytes(), marks)
