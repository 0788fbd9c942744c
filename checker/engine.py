"""What every engine answers: one result per property of a transition system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from avicheck.checker.verdict import Verdict
from avicheck.encodings.expr import Expr
from avicheck.encodings.transition import Run

DEADLOCK_FREE: Final = "deadlock-free"
"""The property that every system has: something can fire in each reachable state that has not ended."""


@dataclass(frozen=True)
class EngineResult:
    """One engine's answer about one property. ``run`` is the counterexample, or the witness of a
    ``sometimes`` property. ``states`` and ``transitions`` are what the engine went through and
    ``depth`` how many steps deep, None where that has no meaning. ``detail`` says the rest in a few
    words: bounds, why the verdict is unknown. ``invariant`` is what a proof rests on: it holds at first,
    every transition keeps it, and it implies the property."""

    engine: str
    property: str
    verdict: Verdict
    run: Run | None
    states: int | None
    transitions: int | None
    depth: int | None
    seconds: float
    detail: str
    invariant: Expr | None = None


INTERRUPTED: Final = "interrupted"
"""How the detail of a result begins that a SIGINT left unknown."""


class Interrupted(KeyboardInterrupt):
    """A SIGINT ended an engine; ``result`` is what it has found out."""

    def __init__(self, result: EngineResult) -> None:
        super().__init__()
        self.result = result


def unless_interrupted(result: EngineResult) -> EngineResult:
    """The same result; ``Interrupted`` if a SIGINT left it unknown."""
    if result.verdict is Verdict.UNKNOWN and result.detail.startswith(INTERRUPTED):
        raise Interrupted(result)
    return result
