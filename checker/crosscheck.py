"""Independent voices on one model, state by state, and all engines on its properties: ``avicheck
crosscheck``.

Where two differ, the tool is wrong, and no verdict that rests on either can be relied on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import click

from avicheck.checker.by_model import ByModel
from avicheck.checker.crosscheck_report import Report, as_json, as_text
from avicheck.checker.interrupt import deferred
from avicheck.checker.options import Number, json_option
from avicheck.checker.progress import Progress
from avicheck.checker.systems import Instance, instance_options, registered
from avicheck.checker.systems import instance as usual
from avicheck.checker.verdict import EXIT_INTERRUPTED, worst

if TYPE_CHECKING:
    from avicheck.checker.explore import Exploration
    from avicheck.encodings.packing import Layout

LOOKED_AT: Final = 50_000
"""States that are searched for the first firing of each transition."""


@click.command(cls=ByModel, direct="avicheck.checker.crosscheck_map:crosscheck_map")
@click.argument("model", required=False)
@instance_options
@click.option(
    "--max-states",
    type=Number(1, 1 << 32),
    default=1 << 32,
    help="Compare so many states at most, evenly spread, and the first in which each transition fires.",
)
@click.option(
    "--timeout",
    type=Number(1, 864_000),
    default=300,
    show_default=True,
    help="Seconds for each model, or excerpt of one.",
)
@click.option(
    "--asking",
    type=Number(1, 864_000),
    default=20,
    show_default=True,
    help="How many of these for questions to engines, at most half of them.",
)
@click.option("--jobs", type=Number(1, 64), default=os.cpu_count() or 1, help="Processes for the voices.")
@json_option
def crosscheck(
    instance: Instance | None, max_states: int, timeout: int, asking: int, jobs: int, json_: bool
) -> int:
    """Hold independent voices on a concurrent model against each other.

    In every reachable state, what can happen and what it leads to must be the same by the model's Python
    functions, by the reference semantics of the lifted system, by generated Python, by compiled code, by
    all solutions of the step relation that z3 finds, and by a relation written by hand if there is one. The
    engines must agree on every property that they decide, on counts and on the length of shortest runs; one
    that decides nothing in its share of the time contradicts nobody, and is counted as open.

    Unless --scope gives a size, the model has its least ones. One that is too large even then is checked in
    excerpts, each with some of its switches off, that have every step among them.

    'holds' means all that, for every reachable state of the sizes that are printed, whether questions to
    engines are open or not. Where states are left out, by --max-states or --timeout, the answer is
    'unknown', with how many were compared. A difference is a tool error. Without MODEL, every concurrent
    model is checked. Ctrl-C prints what was covered.

    Example: avicheck crosscheck apicv-inhibit-page --scope vcpus=2
    """
    reports: list[Report] = []
    for chosen in map(usual, registered()) if instance is None else [instance]:
        parts = [chosen] if chosen.chosen.scope else excerpts(chosen)
        for i, part in enumerate(parts):
            report = crosscheck_model(part, max_states, float(timeout), float(asking), jobs)
            report.excerpt = i + 1, len(parts)
            if not json_:
                click.echo(("\n" if reports else "") + as_text(report))
            reports.append(report)
            if report.interrupted:
                return _finished(reports, json_)
    return _finished(reports, json_)


def _finished(reports: Sequence[Report], json_: bool) -> int:
    """The exit code of all reports, which are printed here if it is JSON that is wanted."""
    verdict = worst(report.verdict for report in reports)
    if json_:
        models = [as_json(report) for report in reports]
        click.echo(json.dumps({"verdict": verdict.value, "models": models}, indent=2))
    return EXIT_INTERRUPTED if reports[-1].interrupted else verdict.exit_code


def excerpts(chosen: Instance) -> list[Instance]:
    """The smallest instances of a model that have all its steps among them. What the user switched on
    remains."""
    from avicheck.spec.description import names

    about, on = chosen.description, chosen.chosen.on
    least = {name: size.least for name, size in about.scope.items()}
    return [
        usual(
            chosen.name,
            replace(
                chosen.chosen,
                scope=least,
                off=(*chosen.chosen.off, *(name for name in names(off) if name not in on)),
            ),
        )
        for off in about.excerpts
    ]


class Clock:
    """Some seconds from now on."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return max(0.0, self._end - time.monotonic())

    def part(self, share: float) -> Clock:
        """A share of what is left."""
        return Clock(self.left * share)


def crosscheck_model(
    chosen: Instance, max_states: int, seconds: float, asking: float, jobs: int = 1
) -> Report:
    """Compare voices and engines on a model. The explorations get an eighth of the time each, the voices
    what is left then but the seconds for ``asking`` engines, at least half; a KeyboardInterrupt ends it with
    what was found out. ``InputError`` if a transition leads beyond a variable's bounds."""
    from avicheck.checker.crosscheck_engines import about, about_counts, properties
    from avicheck.checker.explore import Contradiction

    began, clock, report = time.monotonic(), Clock(seconds), Report(chosen)
    stages: tuple[Callable[[], None], ...] = (
        lambda: _explore(report, clock),
        lambda: _ask_voices(report, max_states, Clock(max(clock.left / 2, clock.left - asking)), jobs),
        lambda: _ask_engines(report, Clock(min(clock.left, asking))),
    )
    try:
        for stage in stages:
            try:
                stage()
            except Contradiction as error:
                report.contradictions.append(str(error))
    except KeyboardInterrupt:
        report.interrupted = True
    fired = report.fired if report.exhaustive else None
    report.contradictions += about_counts(report.explorations, fired)
    for prop in properties(chosen.system):
        report.contradictions += about(prop, report.results.get(prop.name, {}))
    report.seconds = time.monotonic() - began
    return report


def _explore(report: Report, clock: Clock) -> None:
    """Both tiers of the explicit engine, through every state."""
    from avicheck.checker.crosscheck_engines import TIERS
    from avicheck.checker.explore import explore

    for tier in TIERS:
        found = explore(report.instance.system, stop="never", tier=tier, max_seconds=clock.part(1 / 8).left)
        report.explorations[tier] = found
        for result in found.results:
            report.results.setdefault(result.property, {})[tier] = result
        _end_if_interrupted(found)


def _end_if_interrupted(found: Exploration) -> None:
    if found.stopped == "interrupted":
        raise KeyboardInterrupt


def _ask_engines(report: Report, clock: Clock) -> None:
    """The other engines on every property; what one leaves of its share of the time goes to the next."""
    from avicheck.checker.crosscheck_engines import answer, calls

    system = report.instance.system
    todo = calls(system, report.results)
    deepest = max((found.depth for found in report.explorations.values() if found.complete), default=None)
    with Progress(len(todo)) as progress:
        for done, (prop, engine) in enumerate(todo):
            if not clock.left:
                unasked = f"{len(todo) - done} of {len(todo)}"
                report.remarks.append(f"Questions to engines for which no time was left: {unasked}.")
                break
            progress.step(f"{report.instance.name}: {prop.name}, {engine}")
            found = answer(system, prop, engine, clock.left / (len(todo) - done), deepest)
            report.results.setdefault(prop.name, {})[engine] = found


# Successors.


@deferred()
def _ask_voices(report: Report, most: int, clock: Clock, jobs: int = 1) -> None:
    """Every voice about the reachable states, or so many of them, on so many processes."""
    from avicheck.checker.crosscheck_states import Comparison
    from avicheck.checker.crosscheck_voices import handwritten, voices
    from avicheck.encodings.packing import layout
    from avicheck.encodings.unroll import UnansweredError

    chosen = report.instance
    form, relation = layout(chosen.system), handwritten(chosen.name)
    report.handwritten = relation is not None
    states = _states(report, form, most, clock.part(1 / 4))
    told_by = voices(chosen.encoding, form, relation)
    comparison = Comparison(told_by, form, len(chosen.system.transitions))
    report.parts = comparison.parts()
    try:
        with Progress(len(states)) as progress:
            for tally in comparison.all_of(states, jobs, lambda: clock.left > 0):
                report.add(tally)
                progress.step(chosen.name, tally.states)
    except UnansweredError as error:
        report.stopped = f"z3 gave no answer ({error})"


def _states(report: Report, form: Layout, most: int, clock: Clock) -> list[int]:
    """The reachable states, ``most`` of them, packed: first those in which each transition fires for the
    first time, then others, any part of which is evenly spread over the order of discovery."""
    from avicheck.checker.crosscheck_states import BATCH
    from avicheck.checker.explore import explore_states

    found, snapshot = explore_states(report.instance.system, max_seconds=clock.left)
    _end_if_interrupted(found)
    size, packed = form.words * 8, memoryview(snapshot.states)

    def state(number: int) -> int:
        return int.from_bytes(packed[number * size : (number + 1) * size], "little")

    report.reachable, report.complete = found.states, found.complete
    report.chosen = most = min(most, found.states)
    first = _where_fired(report, form, map(state, range(min(LOOKED_AT, found.states))))
    turns = -(-most // BATCH)
    spread = (i * found.states // most for turn in range(turns) for i in range(turn, most, turns))
    return list(dict.fromkeys([*first, *map(state, spread)]))[:most]


def _where_fired(report: Report, form: Layout, states: Iterable[int]) -> list[int]:
    """The states among some in which a transition fires for the first time."""
    from avicheck.encodings.to_python import compile_expand

    system = report.instance.system
    expand, counts = compile_expand(system, form), [0] * len(system.transitions)
    fires = report.fires
    numbers = {i for i, step in enumerate(system.transitions) if step.name in fires}
    found = []
    for state in states:
        if not numbers:
            break
        expand([state], 0, {}, lambda _after: None, counts, [])
        new = {i for i in numbers if counts[i]}
        if new:
            numbers -= new
            found.append(state)
    return found
