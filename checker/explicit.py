"""The explicit engine on one property of any kind, with limits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from avicheck.checker.engine import EngineResult
from avicheck.checker.explore import Progress, explore
from avicheck.checker.verdict import Verdict
from avicheck.encodings.reachability import confirm
from avicheck.encodings.transition import Property, ReplayError, TransitionSystem


def explicit(
    system: TransitionSystem,
    asked: Property,
    *,
    limit: float = math.inf,
    max_states: int | None = None,
    max_memory: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> EngineResult:
    """Decide a property by exploration, within ``limit`` seconds: a ``leads-to`` property like
    ``fair_lasso``, others like ``explore``. Runs are confirmed."""
    if asked.kind == "leads-to":
        from avicheck.checker.fair_lasso import fair_lasso

        found = fair_lasso(
            system,
            asked,
            limit=limit,
            max_states=max_states,
            max_memory=max_memory,
            on_progress=on_progress,
        )
    else:
        (found,) = explore(
            replace(system, properties=(asked,)),
            properties=[asked.name],
            stop="all",
            max_states=max_states,
            max_memory=max_memory,
            max_seconds=limit,
            on_progress=on_progress,
        ).results
    if found.run is None:
        return found
    try:
        confirm(system, asked, found.run)
    except ReplayError as error:
        return replace(found, verdict=Verdict.TOOL_ERROR, run=None, detail=f"the run found is none: {error}")
    return found
