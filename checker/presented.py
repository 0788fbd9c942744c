"""Runs as they are shown: the best of their kind, and replayed first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from avicheck.checker.verdict import Verdict

if TYPE_CHECKING:
    from avicheck.checker.engine import EngineResult
    from avicheck.checker.systems import Instance
    from avicheck.encodings.transition import Property


def presented(instance: Instance, asked: Property, result: EngineResult) -> EngineResult:
    """A result whose run, if it has one that starts where the model does, is replaced by one of the same
    length with as few thread switches as were found, and replayed on the executable model and on its
    transition system. A run that does not replay is a tool error."""
    from avicheck.checker.trace import Trace
    from avicheck.checker.trace_replay import Contradiction, Misfit, replayed
    from avicheck.checker.trace_shortest import fewest_switches
    from avicheck.encodings.reachability import confirm
    from avicheck.encodings.transition import ReplayError

    if result.run is None or result.verdict is Verdict.NOT_INDUCTIVE:
        return result
    chosen = fewest_switches(instance.system, asked, result.run)
    known = any(asked.name == prop.name for prop in instance.system.properties)
    try:
        replayed(Trace(instance, asked.name if known else None, chosen.run))
        confirm(instance.system, asked, chosen.run)
    except (Misfit, Contradiction, ReplayError) as error:
        return replace(result, verdict=Verdict.TOOL_ERROR, run=None, detail=f"no run of the model: {error}")
    how = "" if chosen.how == "as found" else f", {chosen.how}"
    return replace(result, run=chosen.run, depth=len(chosen.run.fired), detail=f"{result.detail}{how}")


def write_traces(folder: Path, instance: Instance, results: list[EngineResult]) -> list[Path]:
    """Write the run of each result to a new file in a folder, which is made if need be; the paths.
    ``InputError`` if one exists already or cannot be written: then none is overwritten."""
    from avicheck.checker.errors import InputError
    from avicheck.checker.export import write_new
    from avicheck.checker.trace import Trace, text

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("--traces", "a folder", f"{folder} ({error.strerror})") from error
    written = []
    for result in results:
        if result.run is not None and result.verdict is not Verdict.NOT_INDUCTIVE:
            path = folder / f"{instance.name}-{result.property}.json"
            write_new(path, text(Trace(instance, result.property, result.run)), "--traces")
            written.append(path)
    return written
