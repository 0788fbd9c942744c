"""The compiled tier of the explicit engine: LLVM IR, run through llvmlite."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeAlias

from avicheck.checker.checkpoint import Marks, Snapshot
from avicheck.checker.jit import compiled, soon_compiled
from avicheck.checker.memory import resident
from avicheck.checker.searched import Searched
from avicheck.encodings.expr import Expr, evaluate
from avicheck.encodings.llvm_search import (
    BATCH,
    CONTEXT,
    RING,
    batch_bytes,
    model_text,
    record_bytes,
    search_text,
)
from avicheck.encodings.llvm_table import BUCKET, OVERFLOW, ROOM, shape

Texts: TypeAlias = tuple[str, str]
"""Two modules of LLVM IR."""

PAIR: Final = 1 << 13
"""States whose expansion is worth a second thread."""
_LARGE: Final = 1 << 15
"""States from which on faster code is worth its making."""
_LOAD: Final = 0.75
_LINK: Final = 4  # bytes in a parent link
_MAP_NORESERVE: Final = 0x4000 if sys.platform == "linux" else 0
_SMALL: Final = 1 << 20
_MAX_STATES: Final = (1 << 32) - 2
_SOON, _RARELY = 4, 64
_FIRST_BITS: Final = 16  # a table of 4 MiB
_EVERY: Final = (1 << 63) - 1
_POINTER: Final = ctypes.c_void_p
_NUMBER: Final = ctypes.c_int64
_FUNCTIONS: Final = {
    "produce": (None, _POINTER, _NUMBER),
    "consume": (None, _POINTER),
    "search": (None, _POINTER),
    "fill": (ctypes.c_bool, _POINTER),
    "spread": (ctypes.c_bool, _POINTER, _NUMBER, _NUMBER, _NUMBER, _POINTER),
    "scan": (_NUMBER, _POINTER, _NUMBER),
}


def _processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def texts(searched: Searched, expressions: Sequence[Expr]) -> Texts:
    """The modules of a search: how to search, and what there is to know of the system."""
    model = model_text(searched.system, searched.layout, expressions, searched.symmetry)
    return search_text(shape(searched.layout), searched.symmetry is not None), model


class _Context(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in CONTEXT]


class _Code:
    """The functions of a search. New ones are quickly made at first, to be replaced by faster ones once
    another thread has made them, if there are ``several`` processors."""

    def __init__(self, modules: Texts, several: bool) -> None:
        self._modules = modules
        if several:
            self.functions, self._engines, self._fast = soon_compiled(modules, _FUNCTIONS)
        else:
            self.functions, self._engines = compiled(modules, _FUNCTIONS)
            self._fast = True
        self._better: list[tuple[Mapping[str, Any], object]] = []
        self.improving = False

    def improve(self) -> None:
        """Let functions be made faster, and use them as soon as they are there; not while one runs."""
        if not self._fast:
            self._fast = True
            with suppress(RuntimeError):  # where no thread can be had, what there is has to do
                threading.Thread(target=self._make).start()
                self.improving = True
        if self._better:
            self.functions, self._engines = self._better.pop()
            self.improving = False

    def _make(self) -> None:
        self._better.append(compiled(self._modules, _FUNCTIONS))


class _Pace:
    """Whether two threads are faster than one. They are not where others use the processors, and the only
    way to know is to try, ever more rarely: what is found is the same either way."""

    def __init__(self) -> None:
        self._two = True
        self._best = math.inf
        self._wait = self._left = _SOON

    def two(self) -> bool:
        """What to do next."""
        self._left -= 1
        return self._two != (self._left <= 0)

    def took(self, two: bool, seconds: float) -> None:
        """How long a state took."""
        if two == self._two:
            self._best = seconds
            return
        better = seconds < self._best
        self._two, self._wait = (two, _SOON) if better else (self._two, min(2 * self._wait, _RARELY))
        self._left = self._wait


class Compiled:
    """States as words of 64 bits, numbered in the order of discovery, in memory that is taken as they
    come; with the rest of the process at most ``max_memory`` bytes."""

    name: Final = "compiled"

    def __init__(
        self,
        searched: Searched,
        expressions: Sequence[Expr],
        modules: Texts,
        snapshot: Snapshot,
        max_memory: int,
    ) -> None:
        system, self._layout, self._expressions = searched.system, searched.layout, expressions
        self._form = form = shape(self._layout)
        self._several, self._pace = _processors() > 1, _Pace()
        self._code = _Code(modules, self._several)
        self._state_bytes = form.words * 8
        self._batch = BATCH + len(system.transitions)
        self._budget = max_memory - resident()
        self.fault: tuple[int, int] | None = None
        self.full = False

        marks = snapshot.marks
        count = len(snapshot.parents) // _LINK
        affordable = self._budget // (self._state_bytes + _LINK)
        self._capacity = max(count + self._slack, min(_MAX_STATES, affordable))
        self._regions: dict[str, mmap.mmap] = {}
        size = ctypes.sizeof(_Context)
        self._context = context = _Context.from_address(self._reserve("context", size))
        context.states = self._reserve("states", self._capacity * self._state_bytes)
        context.parents = self._reserve("parents", self._capacity * _LINK)
        context.size = batch_bytes(form, len(system.transitions))
        context.batches = self._reserve("batches", RING * context.size)
        context.ends = self._reserve("ends", RING * 8)
        context.nexts = self._reserve("nexts", RING * 8)
        context.fired = self._reserve("fired", len(system.transitions) * 8)
        context.asked = self._reserve("asked", len(expressions))
        context.table = self._reserve("table", max(self._budget, self._table_bytes(form.least)))
        context.count = count
        context.next = context.ahead = marks.expanded
        context.widest = marks.widest * record_bytes(form)
        context.stuck = -1 if marks.stuck is None else marks.stuck
        context.alarm, context.over = -1, 1
        self._regions["states"][: len(snapshot.states)] = bytes(snapshot.states)
        self._regions["parents"][: len(snapshot.parents)] = bytes(snapshot.parents)
        self._fired = (ctypes.c_int64 * len(system.transitions)).from_address(context.fired)
        self._fired[:] = list(marks.fired)
        self._asked = (ctypes.c_int8 * len(expressions)).from_address(context.asked)
        self.asked = [True] * len(expressions)
        self._bits = 0
        bits = max(self._bits_for(count), _FIRST_BITS if self._affords(_FIRST_BITS) else 0)
        if not self._refill(max(form.least, min(form.most, bits))):
            raise MemoryError("not enough for the states that are known")

    def _reserve(self, name: str, size: int) -> int:
        """The address of so many bytes, all 0; memory is taken only where it is touched."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._regions[name] = region = mmap.mmap(-1, max(size, mmap.PAGESIZE), flags=flags)
        return ctypes.addressof(ctypes.c_char.from_buffer(region))

    def _call(self, name: str, *arguments: int) -> Any:
        return self._code.functions[name](ctypes.byref(self._context), *arguments)

    # The table.

    def _table_bytes(self, bits: int) -> int:
        return ((1 << bits) + OVERFLOW) * BUCKET

    def _bits_for(self, count: int) -> int:
        """Bucket bits for twice so many states."""
        return (2 * count // int(_LOAD * self._form.slots)).bit_length()

    def _affords(self, bits: int) -> bool:
        """Whether there can be a table with so many bucket bits."""
        states = self.count * (self._state_bytes + _LINK)
        return bits <= self._form.most and states + self._table_bytes(bits) <= self._budget

    def _refill(self, bits: int) -> bool:
        """Give the table so many bucket bits, or more if need be, and fill it anew. False if there is no
        room for that."""
        while self._bits == 0 or self._affords(bits):
            if self._bits:
                ctypes.memset(self._context.table, 0, self._table_bytes(self._bits))
            self._bits, self._context.shift = bits, self._form.bits - bits
            if self.count == 0 or self._call("fill"):
                return True
            bits += 1
        return False

    def _grow(self) -> bool:
        """Make room for more states, if memory allows."""
        for step in (2, 1) if self.count < _SMALL else (1,):
            if self._affords(self._bits + step):
                fine = self._spread(step) or self._refill(self._bits + 1)
                self._context.crowded = not fine
                return fine
        return False

    def _spread(self, step: int) -> bool:
        """Give the table more bucket bits where it is. False if it has to be filled anew."""
        context = self._context
        room = ctypes.create_string_buffer(ROOM + BUCKET)
        aligned = -(-ctypes.addressof(room) // BUCKET) * BUCKET
        buckets = self._table_bytes(self._bits) // BUCKET
        fine = self._code.functions["spread"](context.table, buckets, context.shift, step, aligned)
        self._bits += step
        context.shift -= step
        return bool(fine)

    @property
    def _slack(self) -> int:
        """States that may come when there is no more room: of all batches under way."""
        return (RING + 1) * self._batch

    def _room(self) -> int:
        """How many states may be known at the beginning of a batch."""
        slots = int(_LOAD * (1 << self._bits) * self._form.slots)
        if self._form.compact and self._bits == self._form.bits:
            slots = _MAX_STATES  # every state has a bucket of its own
        memory = (self._budget - self._table_bytes(self._bits)) // (self._state_bytes + _LINK)
        return min(slots, memory, self._capacity) - self._slack

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
        return bool(self._context.consumed == self._context.produced)

    @property
    def widest(self) -> int:
        """The largest out-degree."""
        return int(self._context.widest // record_bytes(self._form))

    @property
    def stuck(self) -> int | None:
        """The first deadlock."""
        return None if self._context.stuck < 0 else int(self._context.stuck)

    @property
    def fired(self) -> list[int]:
        """How often each transition fired."""
        return list(self._fired)

    def advance(self, end: int) -> list[int]:
        """Expand states up to number ``end``. Returns the new states in which an expression holds that is
        asked for, for each expression the first. ``full`` says that there is no room for more, a ``fault``
        that a transition leads beyond a variable's bounds."""
        if self.count >= _LARGE:
            self._code.improve()
        context, alarms = self._context, list[int]()
        self._asked[:] = [int(asked) for asked in self.asked]
        context.end = end
        while not self.full and (not self.consistent or (context.next < end and not context.fault)):
            context.room = self._room()
            self._search()
            if context.alarm >= 0:
                alarms.append(self._alarm())
            elif context.crowded or not self.consistent:
                context.crowded = 0
                self.full = not self._grow()
        context.room = self._capacity - self._batch
        while not self.consistent and not context.crowded:  # what is under way finds room yet
            self._call("consume")
            if context.alarm >= 0:
                alarms.append(self._alarm())
        if context.fault:
            self.fault = context.faulty, context.fault - 1
        return alarms

    def _search(self) -> None:
        """Go on until there is something to see to."""
        context, began, first = self._context, time.perf_counter(), self.expanded
        several = self._several and not self._code.improving
        two = several and context.end - context.ahead >= PAIR and self._pace.two()
        if two:
            self._search_in_two_threads()
        else:
            self._call("search")
        if self.expanded - first >= PAIR:
            self._pace.took(two, (time.perf_counter() - began) / (self.expanded - first))

    def _search_in_two_threads(self) -> None:
        """One makes successors, the other keeps what is new."""
        context = self._context
        producer = threading.Thread(target=self._call, args=("produce", _EVERY))
        context.over = context.stop = 0
        try:
            producer.start()
        except RuntimeError:  # no thread more is allowed
            context.over, self._several = 1, False
            return
        try:
            self._call("consume")
        finally:
            context.stop = 1
            producer.join()

    def _alarm(self) -> int:
        """The state at which the search stands; what holds in it is not asked for any more."""
        number = int(self._context.alarm)
        self._context.alarm = -1
        for i, holds in enumerate(evaluate(self._expressions, self._layout.unpack(self.state(number)))):
            if holds:
                self._asked[i] = 0
        return number

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
