"""The handle through which a step acts on the world: memory accesses, barriers, atomics, locks.

Under SC every access reaches memory at once. Under x86-TSO plain stores enter the thread's store buffer,
first in, first out; loads see the thread's own newest store, else memory; locked operations and fences
wait until the buffer is empty; and a store waits while the buffer, which the scope bounds, is full.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, TypeVar, cast

from avicheck.spec.lang import Scope, record, rule
from avicheck.spec.memory import (
    Location,
    ModelError,
    Path,
    Place,
    Register,
    bounds,
    checked,
    from_number,
    to_number,
    value_at,
    with_value,
)

T = TypeVar("T")

FREE: Final = 0
"""``Store.at`` where a slot of a store buffer is free."""


@record
class Store:
    """A slot of a store buffer: which of the thread's locations, counted from 1 (``FREE`` for none), and
    the number of the value."""

    at: int
    value: int


class BlockedError(BaseException):
    """The step has to wait."""


class Cpu:
    """What a step may do to the world: the handle of one instance of a thread, for one step."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        where: str,
        index: int,
        scope: Scope,
        options: frozenset[Enum],
        shared: Any,
        buffer: tuple[Store, ...],
        stores: tuple[Path, ...],
        coarse: bool,
    ) -> None:
        self.index = index
        """Which instance of its thread this is."""
        self.scope = scope
        """The finite sizes."""
        self.shared = shared
        """The shared state, for the machine: steps access it by the methods below."""
        self.buffer = buffer
        """The store buffer, likewise."""
        self.options = options
        """What the model is built with."""
        self._where = where
        self._stores = stores
        self._coarse = coarse
        self._accessed: list[str] = []
        self._stored = False

    def has(self, option: Enum) -> bool:
        """Whether the model is built with a fix, an assumption or another switch."""
        return option in self.options

    def wait_until(self, condition: bool) -> None:
        """The step can happen only where this is true."""
        if not condition:
            raise BlockedError

    # Plain accesses.

    def load(self, at: Location[T]) -> T:
        """READ_ONCE: the thread's own newest store, else memory."""
        self._access(at)
        return self._newest(at)

    def store(self, at: Location[T], value: T) -> None:
        """WRITE_ONCE: to memory, or under TSO to the store buffer; waits while that is full."""
        self._access(at)
        self._stored = True
        if not self.buffer:
            self._put(at, value)
            return
        self.wait_until(self.buffer[-1].at == FREE)
        number = to_number(self._check(at, value), at.domain)
        self.buffer = appended(self.buffer, self._slot_of(at), number)

    def smp_load_acquire(self, at: Location[T]) -> T:
        """A plain load: x86 reorders no load with what follows it."""
        return self.load(at)

    def smp_store_release(self, at: Location[T], value: T) -> None:
        """A plain store: x86 reorders no store with what precedes it."""
        self.store(at, value)

    # Barriers.

    def smp_mb(self) -> None:
        """MFENCE: wait until memory has seen the thread's stores. Before the step's access, if any."""
        if self._stored:
            raise ModelError(
                f"Fence in {self._where} must come before its store, or be a step, not come after"
            )
        if self.buffer:
            self.wait_until(self.buffer[0].at == FREE)

    def smp_wmb(self) -> None:
        """Nothing: x86 keeps stores in order."""

    def smp_rmb(self) -> None:
        """Nothing: x86 keeps loads in order."""

    # Locked operations: full barriers.

    def xchg(self, at: Location[T], value: T) -> T:
        """Store a value, return the old one."""
        old = self._locked(at)
        self._put(at, value)
        return old

    def cmpxchg(self, at: Location[T], old: T, new: T) -> T:
        """Store ``new`` if ``old`` is there; return what was there."""
        found = self._locked(at)
        if found == old:
            self._put(at, new)
        return found

    def test_and_set(self, at: Location[bool]) -> bool:
        """Set a flag, return the old one."""
        return self.xchg(at, True)

    def test_and_clear(self, at: Location[bool]) -> bool:
        """Clear a flag, return the old one."""
        return self.xchg(at, False)

    def atomic_fetch_or(self, at: Location[int], bits: int) -> int:
        """Set bits, return the old value."""
        old = self._locked(at)
        self._put(at, old | bits)
        return old

    def atomic_fetch_and(self, at: Location[int], bits: int) -> int:
        """Keep only these bits, return the old value."""
        old = self._locked(at)
        self._put(at, old & bits)
        return old

    def atomic_fetch_add(self, at: Location[int], by: int) -> int:
        """Add, return the old value."""
        old = self._locked(at)
        self._put(at, old + by)
        return old

    # Locks: a word that is true while somebody holds it.

    def mutex_lock(self, at: Location[bool]) -> None:
        """Wait until nobody holds the lock and take it, in one locked operation."""
        self.wait_until(not self._locked(at))
        self._put(at, True)

    def mutex_unlock(self, at: Location[bool]) -> None:
        """Give the lock back by a locked operation."""
        self.xchg(at, False)

    def spin_lock(self, at: Location[bool]) -> None:
        """Wait until nobody holds the lock and take it, in one locked operation."""
        self.mutex_lock(at)

    def spin_unlock(self, at: Location[bool]) -> None:
        """Give the lock back by a plain store."""
        self.smp_store_release(at, False)

    # Hardware state that is not memory.

    def read(self, at: Register[T]) -> T:
        """What a register holds."""
        found: T = value_at(self.shared, at.path)
        return found

    def write(self, at: Register[T], value: T) -> None:
        """Change a register."""
        self._put(at, value)

    # What the operations have in common.

    def _access(self, at: Location[Any]) -> None:
        if not isinstance(at, Location):
            raise ModelError(
                f"Place loaded or stored in {self._where} must be memory, not the register {at.name}"
            )
        if self._accessed and not self._coarse:
            raise ModelError(
                f"Accesses in {self._where} must be one, or have a reason (coarse), "
                f"not {self._accessed[0]} and then {at.name}"
            )
        self._accessed.append(at.name)

    def _locked(self, at: Location[T]) -> T:
        self._access(at)
        self.smp_mb()
        found: T = value_at(self.shared, at.path)
        return found

    def _check(self, at: Place[T], value: T) -> T:
        return checked(value, at.domain, self.scope, at.name)

    def _put(self, at: Place[T], value: T) -> None:
        self.shared = with_value(self.shared, at.path, self._check(at, value))

    def _newest(self, at: Location[T]) -> T:
        found = value_at(self.shared, at.path)
        slot = self._slot_of(at)
        if slot != FREE:
            found = newest(self.buffer, slot, found, at.domain, *bounds(at.domain, self.scope))
        return cast(T, found)

    def _slot_of(self, at: Location[Any]) -> int:
        """What ``Store.at`` is for a location, ``FREE`` if the thread never stores there."""
        return self._stores.index(at.path) + 1 if at.path in self._stores else FREE


@rule
def appended(buffer: tuple[Store, ...], at: int, value: int) -> tuple[Store, ...]:
    """The store buffer with one store more."""
    for i, slot in enumerate(buffer):
        if slot.at == FREE:
            return (*buffer[:i], Store(at, value), *buffer[i + 1 :])
    return buffer


@rule
def newest(buffer: tuple[Store, ...], at: int, memory: Any, domain: Any, lo: int, hi: int) -> Any:
    """Store forwarding: the newest value stored at a location, else what memory holds."""
    for slot in reversed(buffer):
        if slot.at == at:
            return from_number(slot.value, domain, lo, hi)
    return memory
