"""Every model whose verdicts are known, with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, Final

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.encodings.machine import Encoding, encode
from avicheck.spec.lang import Scope
from avicheck.spec.machine import STEPS_SUCCEED, Machine, MemoryModel
from avicheck.spec.threads import Model
from tests.known.counters import CIRCLE, LOCKSTEP
from tests.known.exclusion import ALGORITHMS, Fence
from tests.known.litmus import LITMUS, Order
from tests.known.resources import PHILOSOPHERS, RING, SEMAPHORE, Etiquette, Ways


@dataclass(frozen=True, eq=False)
class Known:
    """A model of one scope, and which of its properties hold, by name; ``STEPS_SUCCEED`` does in all."""

    model: Model[Any]
    scope: Scope
    memory: MemoryModel
    options: tuple[Enum, ...]
    expected: Mapping[str, bool]

    @property
    def name(self) -> str:
        """Model, memory model, options: ``SB tso FENCES``."""
        return " ".join([self.model.name, self.memory, *(option.name for option in self.options)])

    @cached_property
    def encoding(self) -> Encoding[Any]:
        """The executable model and the transition system (``encoding.machine``, ``encoding.system``)."""
        return encode(Machine(self.model, self.scope, self.memory, self.options))


def _litmus() -> Iterator[Known]:
    for test in LITMUS:
        for options in ((), (Order.FENCES,), (Order.LOCKED,)):
            yield Known(test.model, {}, "sc", options, {"final-state": True, DEADLOCK_FREE: True})
            forbidden = bool(options) or not test.allowed
            expected = {"final-state": forbidden, DEADLOCK_FREE: True}
            yield Known(test.model, {"store_buffer": 2}, "tso", options, expected)


def _exclusion() -> Iterator[Known]:
    for model in ALGORITHMS:
        right = {"mutual-exclusion": True, "entered": True, DEADLOCK_FREE: True}
        wrong = {**right, "mutual-exclusion": False}
        yield Known(model, {"threads": 2}, "sc", (), right)
        yield Known(model, {"threads": 2}, "sc", (Fence.MFENCE,), right)
        yield Known(model, {"threads": 2, "store_buffer": 2}, "tso", (), wrong)
        yield Known(model, {"threads": 2, "store_buffer": 2}, "tso", (Fence.MFENCE,), right)


def _resources() -> Iterator[Known]:
    semaphore = {"at-most-two": True, "at-most-one": False, "units-kept": True, DEADLOCK_FREE: True}
    yield Known(SEMAPHORE, {"users": 3}, "sc", (), semaphore)
    dining = {"forks-not-shared": True, "last-eats": True}
    yield Known(PHILOSOPHERS, {"philosophers": 3}, "sc", (), {**dining, DEADLOCK_FREE: False})
    yield Known(
        PHILOSOPHERS, {"philosophers": 3}, "sc", (Etiquette.ORDERED,), {**dining, DEADLOCK_FREE: True}
    )
    one_way = {"round-none": False, "round-weak": True, "round-strong": True, DEADLOCK_FREE: True}
    yield Known(RING, {"stations": 4}, "sc", (), one_way)
    yield Known(RING, {"stations": 4}, "sc", (Ways.TWO,), {**one_way, "round-weak": False})


def _counters() -> Iterator[Known]:
    yield Known(CIRCLE, {}, "sc", (), {"seven": True, DEADLOCK_FREE: True})
    yield Known(LOCKSTEP, {}, "sc", (), {"ahead": True, "equal": True, DEADLOCK_FREE: True})


KNOWN: Final = (*_litmus(), *_exclusion(), *_resources(), *_counters())
"""The models."""

CASES: Final = tuple(
    (known, name, holds) for known in KNOWN for name, holds in {**known.expected, STEPS_SUCCEED: True}.items()
)
"""What an engine has to find: the model, the property, whether it holds."""
