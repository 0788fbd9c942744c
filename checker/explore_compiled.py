"""The compiled tier of the explicit engine: LLVM IR, run through llvmlite."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Sequence
from typing import Any, Final

from avicheck.checker.checkpoint import Marks, Snapshot
from avicheck.checker.jit import compiled
from avicheck.checker.memory import resident
from avicheck.checker.reduce import Reduced
from avicheck.encodings.expr import Expr
from avicheck.encodings.llvm_search import BATCH, BUCKET, CONTEXT, OVERFLOW, search_text, shape
from avicheck.encodings.to_llvm import RECORD_EXTRA

CHUNK: Final = 1 << 17
"""States that are expanded at a time: some 20 ms."""
_LOAD: Final = 0.75
_LINK: Final = 4  # bytes in a parent link
_MAP_NORESERVE: Final = 0x4000 if sys.platform == "linux" else 0
_SMALL: Final = 1 << 20
_MAX_STATES: Final = (1 << 32) - 2
_POINTER: Final = ctypes.c_void_p
_FUNCTIONS: Final = {
    "search": (None, _POINTER),
    "insert": (None, _POINTER),
    "rebuild": (None, _POINTER),
    "scan": (ctypes.c_int64, _POINTER, ctypes.c_int64),
}


class _Context(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in CONTEXT]


class Compiled:
    """States as words of 64 bits, numbered in the order of discovery, in memory that is taken as they
    come; with the rest of the process at most ``max_memory`` bytes."""

    name: Final = "compiled"
    chunk: Final = CHUNK

    def __init__(
        self,
        searched: Reduced,
        expressions: Sequence[Expr],
        snapshot: Snapshot,
        max_memory: int,
    ) -> None:
        system, layout = searched.system, searched.layout
        self._form = shape(layout)
        text = search_text(system, layout, expressions, searched.symmetry)
        self._functions, self._engine = compiled(text, _FUNCTIONS)
        self._state_bytes = self._form.words * 8
        self._record_bytes = self._state_bytes + RECORD_EXTRA * 8
        self._batch = BATCH + len(system.transitions)
        self._budget = max_memory - resident()
        self.fault: tuple[int, int] | None = None
        self.full = False

        marks = snapshot.marks
        count = len(snapshot.parents) // _LINK
        affordable = self._budget // (self._state_bytes + _LINK)
        self._capacity = max(count + self._batch, min(_MAX_STATES, affordable))
        self._regions: dict[str, mmap.mmap] = {}
        self._context = context = _Context()
        context.states = self._reserve("states", self._capacity * self._state_bytes)
        context.parents = self._reserve("parents", self._capacity * _LINK)
        context.batch = self._reserve("batch", self._batch * self._record_bytes)
        context.fired = self._reserve("fired", len(system.transitions) * 8)
        context.asked = self._reserve("asked", len(expressions))
        context.alarms = self._reserve("alarms", self._batch * 8)
        context.table = self._reserve("table", max(self._budget, self._table_bytes(self._form.least)))
        context.count, context.next = count, marks.expanded
        context.widest = marks.widest * self._record_bytes
        context.stuck = -1 if marks.stuck is None else marks.stuck
        self._regions["states"][: len(snapshot.states)] = bytes(snapshot.states)
        self._regions["parents"][: len(snapshot.parents)] = bytes(snapshot.parents)
        self._fired = (ctypes.c_int64 * len(system.transitions)).from_address(context.fired)
        self._fired[:] = list(marks.fired)
        self._asked = (ctypes.c_int8 * len(expressions)).from_address(context.asked)
        self.asked = [True] * len(expressions)
        self._bits = 0
        self._rebuild(max(self._form.least, min(self._form.most, self._bits_for(count))))

    def _reserve(self, name: str, size: int) -> int:
        """The address of so many bytes, all 0; memory is taken only where it is touched."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._regions[name] = region = mmap.mmap(-1, max(size, mmap.PAGESIZE), flags=flags)
        return ctypes.addressof(ctypes.c_char.from_buffer(region))

    def _call(self, name: str, *arguments: int) -> Any:
        return self._functions[name](ctypes.byref(self._context), *arguments)

    # The table.

    def _table_bytes(self, bits: int) -> int:
        return ((1 << bits) + OVERFLOW) * BUCKET

    def _bits_for(self, count: int) -> int:
        """Bucket bits for twice so many states."""
        return (2 * count // int(_LOAD * self._form.slots)).bit_length()

    def _rebuild(self, bits: int) -> None:
        """Give the table so many bucket bits, and fill it."""
        if self._bits:
            ctypes.memset(self._context.table, 0, self._table_bytes(self._bits))
        self._bits = bits
        self._context.shift = self._form.bits - bits
        if self.count:
            self._call("rebuild")

    def _grow(self) -> bool:
        """Make room for more states, if memory allows."""
        states = self.count * (self._state_bytes + _LINK)
        for step in (2, 1) if self.count < _SMALL else (1,):
            bits = self._bits + step
            if bits <= self._form.most and states + self._table_bytes(bits) <= self._budget:
                self._rebuild(bits)
                return True
        return False

    def _room(self) -> int:
        """How many states may be known at the beginning of a batch."""
        slots = int(_LOAD * (1 << self._bits) * self._form.slots)
        if self._form.compact and self._bits == self._form.bits:
            slots = _MAX_STATES  # every state has a bucket of its own
        memory = (self._budget - self._table_bytes(self._bits)) // (self._state_bytes + _LINK)
        return min(slots, memory, self._capacity) - self._batch

    # The search.

    @property
    def count(self) -> int:
        """How many states are known."""
        return int(self._context.count)

    @property
    def expanded(self) -> int:
        """How many states are expanded."""
        return int(self._context.next)

    @property
    def consistent(self) -> bool:
        """Whether all successors of the states that are expanded are known."""
        return bool(self._context.todo == self._context.upto)

    @property
    def widest(self) -> int:
        """The largest out-degree."""
        return int(self._context.widest // self._record_bytes)

    @property
    def stuck(self) -> int | None:
        """The first deadlock."""
        return None if self._context.stuck < 0 else int(self._context.stuck)

    @property
    def fired(self) -> list[int]:
        """How often each transition fired."""
        return list(self._fired)

    def advance(self, end: int) -> list[int]:
        """Expand states up to number ``end``, or some of them if there is an event. Returns the new
        states in which an expression holds that is asked for. ``full`` says that there is no room."""
        context = self._context
        self._asked[:] = [int(asked) for asked in self.asked]
        context.end, context.events, context.alarmed = end, 0, 0
        while context.next < end and not context.events and not self.full:
            context.room = self._room()
            if context.count >= context.room:
                self.full = not self._grow()
                continue
            self._call("search")
            while context.todo < context.upto and not self.full:
                self.full = not self._grow()
                self._call("insert")
            if context.fault:
                self.fault = context.faulty, context.fault - 1
                break
        alarms = (ctypes.c_int64 * context.alarmed).from_address(context.alarms)
        return list(alarms)

    def alarms(self, start: int) -> list[int]:
        """The known states, from a number on, in which an expression holds that is asked for."""
        self._asked[:] = [int(asked) for asked in self.asked]
        found = self._call("scan", start)
        return [found] if found < self.count else []

    def state(self, number: int) -> int:
        """A packed state."""
        start = number * self._state_bytes
        return int.from_bytes(self._regions["states"][start : start + self._state_bytes], "little")

    def parent(self, number: int) -> int:
        """The state that a state was reached from; itself for an initial one."""
        return int.from_bytes(self._regions["parents"][number * _LINK : (number + 1) * _LINK], "little")

    def snapshot(self, level_end: int, depth: int) -> Snapshot:
        """All of it, readable until the search goes on."""
        states = memoryview(self._regions["states"])[: self.count * self._state_bytes]
        parents = memoryview(self._regions["parents"])[: self.count * _LINK]
        marks = Marks(self.expanded, level_end, depth, self.widest, self.stuck, tuple(self.fired))
        return Snapshot(states, parents, marks)
