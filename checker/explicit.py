"""The explicit engine on one property of any kind, with a limit of time."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from avicheck.checker.engine import EngineResult
from avicheck.checker.explore import ENGINE, Progress, explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.reachability import confirm, question
from avicheck.encodings.transition import Property, ReplayError, TransitionSystem


class _OutOfTimeError(Exception):
    """The limit is reached; the argument is how far the exploration is."""


def explicit(
    system: TransitionSystem,
    asked: Property,
    *,
    limit: float = math.inf,
    max_states: int | None = None,
    max_memory: int | None = None,
) -> EngineResult:
    """Explore a system until a property is decided. A ``leads-to`` property is decided on the system
    that ``liveness.always_property`` makes, with the states of that. ``InputError`` like ``explore``."""
    start = time.monotonic()
    asks = question(system, asked)
    sought = Property(asked.name, "never", asks.goal) if asked.kind == "leads-to" else asked

    def on_progress(progress: Progress) -> None:
        if time.monotonic() - start > limit:
            raise _OutOfTimeError(progress)

    try:
        (found,) = explore(
            replace(asks.system, properties=(sought,)),
            properties=[asked.name],
            stop="all",
            max_states=max_states,
            max_memory=max_memory,
            on_progress=on_progress,
        ).results
        if found.run is None:
            return found
        run = asks.run_of(found.run)
        confirm(system, asked, run)
        return replace(found, run=run, depth=len(run.fired))
    except _OutOfTimeError as error:
        (reached,) = error.args
        detail = f"stopped at the limit of {limit:g} s: all states up to depth {reached.depth} were seen"
        seconds = time.monotonic() - start
        return EngineResult(
            ENGINE, asked.name, Verdict.UNKNOWN, None, reached.states, None, reached.depth, seconds, detail
        )
    except ReplayError as error:
        detail, seconds = f"the run found is none: {error}", time.monotonic() - start
        return EngineResult(ENGINE, asked.name, Verdict.TOOL_ERROR, None, None, None, None, seconds, detail)
