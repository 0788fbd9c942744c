"""Decide the properties of a concurrent model: ``avicheck check`` on one."""

from __future__ import annotations

import json
import math
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from avicheck.checker.errors import InputError, not_one_of
from avicheck.checker.options import Amount, Number, Word, json_option
from avicheck.checker.presented import presented, write_traces
from avicheck.checker.progress import line_shown
from avicheck.checker.systems import Instance, heading, instance_options
from avicheck.checker.verdict import EXIT_INTERRUPTED, Verdict, worst

if TYPE_CHECKING:
    from avicheck.checker.engine import EngineResult
    from avicheck.checker.engines import EngineName, Limits
    from avicheck.checker.explore import Exploration, Progress
    from avicheck.checker.searched import Reduction
    from avicheck.encodings.transition import Property, Run

WIDTH: Final = 75
"""Columns of the report, at most."""
ENGINES: Final = ("auto", "explicit", "bmc", "induction", "ic3")
REDUCTIONS: Final = ("dead", "symmetry", "partial-order")


@dataclass(frozen=True)
class Request:
    """What is asked of an instance, and how."""

    instance: Instance
    names: tuple[str, ...]
    engine: EngineName
    limits: Limits
    max_states: int | None = None
    checkpoint: Path | None = None
    reduce: tuple[Reduction, ...] = ()


@dataclass
class Report:
    """What is found out so far."""

    request: Request
    asked: Sequence[Property]
    results: dict[str, EngineResult] = field(default_factory=dict)
    exploration: Exploration | None = None
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The verdict on all properties together; unknown while one is missing."""
        verdicts = [result.verdict for result in self.results.values()]
        return worst(verdicts + [Verdict.UNKNOWN] * any(prop.name not in self.results for prop in self.asked))

    @property
    def exit_code(self) -> int:
        """The command's exit code."""
        return EXIT_INTERRUPTED if self.interrupted else self.verdict.exit_code


@click.command("check")
@click.argument("model")
@instance_options
@click.option("--property", "names", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option("--engine", type=Word(ENGINES), default="auto", show_default=True, help="How to decide.")
@click.option(
    "--reduce",
    type=Word(REDUCTIONS),
    multiple=True,
    help="Explore fewer states, where that is sound for what is asked; may be repeated.",
)
@click.option("--timeout", type=Number(1, 864_000), help="Seconds for each property.  [default: none]")
@click.option("--depth", type=Number(1, 100_000), default=50, show_default=True, help="Steps, for bmc.")
@click.option("--k", type=Number(1, 1000), default=20, show_default=True, help="Steps, for induction.")
@click.option("--max-memory", type=Amount(), help="Bytes, or with a unit (4GiB).  [default: most there is]")
@click.option("--max-states", type=Number(1, 1 << 40), help="Stop exploring at so many states.")
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the exploration in FILE, and go on from there if it exists.",
)
@click.option(
    "--traces",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write each run that is found to a new file in DIR, for 'avicheck trace'.",
)
@json_option
def check_system(
    instance: Instance,
    names: tuple[str, ...],
    engine: EngineName,
    reduce: tuple[Reduction, ...],
    timeout: int | None,
    depth: int,
    k: int,
    max_memory: int | None,
    max_states: int | None,
    checkpoint: Path | None,
    traces: Path | None,
    json_: bool,
) -> int:
    """Decide the properties of a concurrent model.

    'explicit' goes through every reachable state, breadth first and exactly: its 'holds' is exhaustive
    for the sizes that are printed, for any number of steps, and its counterexamples are shortest.
    'bmc' looks at runs of at most --depth steps, 'induction' at --k steps from any state, 'ic3' looks for
    an invariant. 'auto' explores, and turns to ic3 where there are too many states; it says so.

    --reduce explores fewer states: 'dead' resets variables that are not read again, 'symmetry' counts states
    that differ by exchanging instances as one, 'partial-order' lets what no other thread can notice come
    first. What is not sound for a property that is asked is refused; leads-to is decided without.

    Every counterexample is replayed on the executable model before it is printed. Ctrl-C prints what is
    decided so far, and what was covered.

    Example: avicheck check apic-map-life --without dirty-states
    """
    from avicheck.checker.engines import Limits

    limits = Limits(math.inf if timeout is None else float(timeout), max_memory, depth, k)
    for option, given in (("--checkpoint", checkpoint is not None), ("--reduce", bool(reduce))):
        if given and engine not in ("auto", "explicit"):
            raise InputError(option, "given with the explicit engine", f"with {engine}")
    request = Request(instance, names, engine, limits, max_states, checkpoint, reduce)
    with line_shown(_progress_line) as on_progress:
        report = decide(request, on_progress)
    if traces is not None:
        write_traces(traces, instance, list(report.results.values()))
    click.echo(json.dumps(as_json(report), indent=2) if json_ else as_text(report))
    return report.exit_code


def decide(request: Request, on_progress: Callable[[Progress], None] | None = None) -> Report:
    """Decide what is asked. A KeyboardInterrupt ends it with what is decided. ``InputError`` if a name is
    none of the properties, or the checkpoint cannot be used."""
    began = time.monotonic()
    report = Report(request, select(request.instance, request.names))
    try:
        if request.engine in ("auto", "explicit"):
            _explore(report, on_progress)
        if not report.interrupted:
            _ask_one_by_one(report, on_progress)
    except KeyboardInterrupt:
        report.interrupted = True
    report.results = {
        prop.name: presented(request.instance, prop, report.results[prop.name])
        for prop in report.asked
        if prop.name in report.results
    }
    report.seconds = time.monotonic() - began
    return report


def select(instance: Instance, names: Sequence[str]) -> list[Property]:
    """The properties of a model, or the named ones; that it has no deadlock is one of them."""
    from avicheck.checker.engine import DEADLOCK_FREE
    from avicheck.encodings.reachability import deadlock_free

    system = instance.system
    known = {prop.name: prop for prop in (*system.properties, deadlock_free(system, DEADLOCK_FREE))}
    for name in names:
        if name not in known:
            raise not_one_of("--property", known, name, place=instance.name)
    return [prop for name, prop in known.items() if not names or name in names]


def _explore(report: Report, on_progress: Callable[[Progress], None] | None) -> None:
    """One exploration for all properties of single states."""
    from avicheck.checker.engines import MANY
    from avicheck.checker.explore import explore

    request = report.request
    names = [prop.name for prop in report.asked if prop.kind != "leads-to"]
    if not names:
        if request.reduce:
            asked = ", ".join(prop.name for prop in report.asked)
            raise InputError("--reduce", "given with a property that is not leads-to", f"with {asked}")
        return
    most = request.max_states
    if most is None and request.engine == "auto":
        most = MANY
    try:
        found = explore(
            request.instance.system,
            properties=names,
            stop="all",
            reduce=request.reduce,
            max_states=most,
            max_memory=request.limits.memory,
            max_seconds=request.limits.seconds,
            checkpoint=request.checkpoint,
            on_progress=on_progress,
        )
    except OSError as error:
        came = f"{request.checkpoint} ({error.strerror})"
        raise InputError("--checkpoint", "a file that can be read and written", came) from error
    report.exploration = found
    report.interrupted = found.stopped == "interrupted"
    open_to_others = request.engine == "auto" and found.stopped == "states" and request.max_states is None
    for result in found.results:
        if not (open_to_others and result.verdict is Verdict.UNKNOWN):
            report.results[result.property] = result


def _ask_one_by_one(report: Report, on_progress: Callable[[Progress], None] | None) -> None:
    """The engine on each property that is left."""
    from avicheck.checker.engine import Interrupted
    from avicheck.checker.engines import check

    request, system = report.request, report.request.instance.system
    limits = replace(request.limits, on_progress=on_progress)
    for prop in report.asked:
        if prop.name not in report.results:
            try:
                report.results[prop.name] = check(system, prop.name, request.engine, limits)
            except Interrupted as stop:
                report.results[prop.name] = stop.result
                raise


def _progress_line(progress: Progress) -> str:
    return progress.what + (
        f"depth {progress.depth}, frontier {progress.frontier:,}, {progress.states:,} states, "
        f"{progress.states_per_second:,.0f} states/s, {progress.memory / 2**20:,.0f} MiB, "
        f"{progress.seconds:.0f} s"
    )


# Output.


def as_text(report: Report) -> str:
    """The verdicts in at most ``WIDTH`` columns, to be read in a mail: first the sum of it, then each
    property, then what was covered."""
    lines = [*heading(report.request.instance, WIDTH), f"{report.verdict.value}: {_tally(report)}", ""]
    for prop in report.asked:
        lines += [*_property_lines(report, prop), ""]
    return "\n".join([*lines, *_coverage(report)])


def _tally(report: Report) -> str:
    counts = Counter(result.verdict for result in report.results.values())
    parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
    left = sum(prop.name not in report.results for prop in report.asked)
    return ", ".join(parts + [f"{left} not decided"] * bool(left))


def _property_lines(report: Report, prop: Property) -> list[str]:
    from avicheck.checker.trace_columns import trace_lines

    result = report.results.get(prop.name)
    if result is None:
        return [f"not decided  {prop.name}", *_wrapped(prop.sentence)]
    lines = [f"{result.verdict.value}  {prop.name}  ({prop.kind})", *_wrapped(prop.sentence)]
    lines += _wrapped(f"{result.engine}: {result.detail}; {_effort(result)}")
    if result.run is not None and prop.kind != "sometimes":
        lines += ["", *trace_lines(report.request.instance, prop, result.run, WIDTH)]
    return lines


def _effort(result: EngineResult) -> str:
    parts = []
    if result.states is not None:
        parts.append(f"{result.states:,} states")
    if result.depth is not None:
        parts.append(f"depth {result.depth}")
    return ", ".join([*parts, f"{result.seconds:.1f} s"])


def _coverage(report: Report) -> list[str]:
    found = report.exploration
    if found is None:
        return []
    what = "Exhaustive, for runs of any length" if found.complete else "Not exhaustive: what was explored"
    lines = _wrapped(
        f"{what}: {found.states:,} states, {found.transitions:,} transitions, depth {found.depth}; "
        f"out-degree at most {found.out_degree_max}, {found.out_degree_mean:.1f} on average; {found.tier}, "
        f"{found.seconds:.1f} s.",
        "",
    )
    for note in found.reductions:
        lines += _wrapped(f"Reduced: {note}.", "")
    if found.orbits is not None:
        lines += _wrapped(f"These stand for {found.orbits:,} states of the whole model.", "")
    if found.reductions and any(prop.kind == "leads-to" for prop in report.asked):
        lines += _wrapped("Not reduced: what was explored for leads-to.", "")
    if found.never_fired and found.complete:
        lines += _wrapped(f"Never fired: {', '.join(found.never_fired)}.", "")
    return lines


def _wrapped(text: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent or "  ", break_on_hyphens=False
    )


def as_json(report: Report) -> dict[str, Any]:
    """What ``avicheck check --json`` prints."""
    found = report.exploration
    return {
        **report.request.instance.as_json(),
        "bounds": report.request.instance.bounds,
        "assumptions": {name: option.value for name, option in report.request.instance.assumed.items()},
        "verdict": report.verdict.value,
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 3),
        "properties": [_property_json(report, prop) for prop in report.asked],
        "exploration": found
        and {
            "complete": found.complete,
            "stopped": found.stopped,
            "tier": found.tier,
            "reductions": list(found.reductions),
            "orbits": found.orbits,
            "states": found.states,
            "transitions": found.transitions,
            "depth": found.depth,
            "out_degree_max": found.out_degree_max,
            "out_degree_mean": found.out_degree_mean,
            "fired": dict(found.fired),
            "seconds": round(found.seconds, 3),
        },
    }


def _property_json(report: Report, prop: Property) -> dict[str, Any]:
    told: dict[str, Any] = {"name": prop.name, "kind": prop.kind, "sentence": prop.sentence}
    result = report.results.get(prop.name)
    if result is None:
        return {**told, "verdict": None}
    return {
        **told,
        "verdict": result.verdict.value,
        "engine": result.engine,
        "detail": result.detail,
        "states": result.states,
        "depth": result.depth,
        "seconds": round(result.seconds, 3),
        "trace": result.run and run_json(result.run),
    }


def run_json(run: Run) -> dict[str, Any]:
    """A run: what fired, and the states, one more than steps; where a lasso loops back to."""
    return {"fired": list(run.fired), "loop": run.loop, "states": [dict(state) for state in run.states]}
