"""What the properties of a concurrent model rely on: ``avicheck matrix``.

A combination takes one alternative of every assumption. Those that lift to the same system, with the same
property, are one: it is explored once.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import click

from avicheck.checker.errors import InputError, not_one_of
from avicheck.checker.options import Amount, Number, Word, json_option
from avicheck.checker.systems import Choices, Instance, heading, instance, instance_options
from avicheck.checker.verdict import EXIT_INTERRUPTED, EXIT_OK, Verdict

if TYPE_CHECKING:
    from avicheck.spec.description import Assumption

WIDTH: Final = 75
"""Columns of the report, at most."""
MOST: Final = 5_000
"""Combinations that are gone through unless the user allows more."""

Deviations: TypeAlias = frozenset[tuple[str, str]]
"""Which alternatives are taken in place of the defaults: assumption and alternative, by name."""

_HOLDS: Final = (Verdict.HOLDS, Verdict.PROVED)


@dataclass(frozen=True)
class Cell:
    """One property under one combination."""

    verdict: Verdict
    states: int | None
    depth: int | None
    detail: str
    seconds: float


@dataclass
class Matrix:
    """What is known: a cell for each property, by name, and combination, by its deviations. ``systems``
    counts the different systems among the combinations."""

    instance: Instance
    properties: Sequence[str]
    varied: Sequence[Assumption]
    combinations: Sequence[Deviations]
    cells: dict[str, dict[Deviations, Cell]] = field(default_factory=dict)
    systems: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def under(self, name: str, verdicts: Iterable[Verdict]) -> list[Deviations]:
        """The combinations under which a property has one of these verdicts."""
        wanted = tuple(verdicts)
        cells = self.cells.get(name, {})
        return [each for each in self.combinations if each in cells and cells[each].verdict in wanted]

    def minimal(self, name: str) -> list[Deviations]:
        """The violating combinations of which no part violates, too: what the property relies on."""
        found = self.under(name, (Verdict.VIOLATED,))
        return [each for each in found if not any(other < each for other in found)]

    def maximal(self, name: str) -> list[Deviations]:
        """The combinations under which it holds and no larger one does: what it bears at most."""
        found = self.under(name, _HOLDS)
        return [each for each in found if not any(other > each for other in found)]

    @property
    def verdict(self) -> Verdict:
        """Whether everything was decided; a property that fails somewhere is an answer, not a failure."""
        verdicts = {cell.verdict for cells in self.cells.values() for cell in cells.values()}
        if Verdict.TOOL_ERROR in verdicts:
            return Verdict.TOOL_ERROR
        decided = verdicts <= {*_HOLDS, Verdict.VIOLATED}
        complete = all(len(self.cells.get(name, ())) == len(self.combinations) for name in self.properties)
        return Verdict.HOLDS if decided and complete else Verdict.UNKNOWN


@click.command()
@click.argument("model")
@instance_options
@click.option("--property", "names", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option(
    "--vary", "varied", multiple=True, metavar="NAME", help="Only this assumption; may be repeated."
)
@click.option("--deviations", type=Number(0, 64), help="At most so many alternatives other than defaults.")
@click.option("--engine", type=Word(("explicit", "auto", "ic3")), default="explicit", show_default=True)
@click.option("--timeout", type=Number(1, 864_000), help="Seconds a property and system.  [default: none]")
@click.option("--max-memory", type=Amount(), help="Bytes a process.  [default: a share of what there is]")
@click.option("--most", type=Number(1, 10**6), default=MOST, show_default=True, help="Combinations at most.")
@click.option("--jobs", type=Number(1, 64), default=os.cpu_count() or 1, help="Systems at a time.")
@json_option
def matrix(
    instance: Instance,
    names: tuple[str, ...],
    varied: tuple[str, ...],
    deviations: int | None,
    engine: str,
    timeout: int | None,
    max_memory: int | None,
    most: int,
    jobs: int,
    json_: bool,
) -> int:
    """Show under which assumptions the properties of a model hold.

    Goes through every combination of the assumptions' alternatives and decides the properties under each,
    exhaustively for the sizes that are printed. For each property: the smallest sets of alternatives, other
    than the defaults, under which it is violated (what it relies on), and the largest under which it holds
    (what it bears). --assume sets what is not varied.

    Exit code 0 if everything was decided, whatever the answers are.

    Example: avicheck matrix secure-avic --property sleeps-on --vary intercept --vary halt-test
    """
    found = plan(instance, names, varied, deviations, most)
    share = max_memory
    if share is None:
        from avicheck.checker.memory import available

        share = available() * 8 // 10 // jobs
    fill(found, engine, math.inf if timeout is None else float(timeout), share, jobs)
    click.echo(json.dumps(as_json(found), indent=2) if json_ else as_text(found))
    if found.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_OK if found.verdict is Verdict.HOLDS else found.verdict.exit_code


# Combinations.


def plan(
    chosen: Instance, names: Sequence[str], varied: Sequence[str], deviations: int | None, most: int
) -> Matrix:
    """The combinations to go through, those with the fewest deviations first. ``InputError`` if a name is
    unknown, there is nothing to vary, or there are more than ``most``."""
    from avicheck.checker.check_system import select

    known = {each.name: each for each in chosen.description.assumptions}
    for name in varied:
        if name not in known:
            raise not_one_of("--vary", known, name, place=chosen.name)
    if not known:
        raise InputError("Model", "one with assumptions to vary", chosen.name)
    fixed = set(chosen.chosen.assumed) - set(varied)
    vary = [each for name, each in known.items() if (name in varied if varied else name not in fixed)]
    properties = [prop.name for prop in select(chosen, names)]
    combinations = list(itertools.islice(_combinations(vary, deviations), most + 1))
    if len(combinations) > most:
        hint = "choose with --vary, --deviations or --most"
        raise InputError("Combinations", f"at most {most}", "more", chosen.name, hint)
    return Matrix(chosen, properties, vary, combinations)


def _combinations(varied: Sequence[Assumption], deviations: int | None) -> Iterator[Deviations]:
    from avicheck.spec.description import option_name

    others = [[(each.name, option_name(one)) for one in list(each.alternatives)[1:]] for each in varied]
    for count in range(min(len(others), len(others) if deviations is None else deviations) + 1):
        for places in itertools.combinations(others, count):
            yield from map(frozenset, itertools.product(*places))


def chosen_with(base: Instance, deviations: Deviations) -> Instance:
    """The instance that takes these alternatives, and otherwise what ``base`` does."""
    chosen = base.chosen
    return instance(base.name, replace(chosen, assumed={**chosen.assumed, **dict(deviations)}))


# Deciding.


def fill(found: Matrix, engine: str, limit: float, max_memory: int | None, jobs: int) -> None:
    """Fill in the cells, on several processes. A KeyboardInterrupt leaves those that are decided."""
    from avicheck.checker.processes import leave_interrupts_to_the_parent
    from avicheck.checker.progress import Progress

    began = time.monotonic()
    name, choices, names = found.instance.name, found.instance.chosen, tuple(found.properties)
    with ProcessPoolExecutor(jobs, initializer=leave_interrupts_to_the_parent) as pool:
        try:
            groups = _groups(found, pool)
            found.systems = len(groups)
            asked: dict[Future[dict[str, Cell]], list[Deviations]] = {
                pool.submit(_decided, name, choices, same[0], names, engine, limit, max_memory): same
                for same in groups
            }
            with Progress(len(asked)) as progress:
                for done in as_completed(asked):
                    for prop, cell in done.result().items():
                        found.cells.setdefault(prop, {}).update(dict.fromkeys(asked[done], cell))
                    progress.step(_shown(asked[done][0]))
        except KeyboardInterrupt:
            found.interrupted = True
            for process in list(pool._processes.values()):
                process.terminate()
        finally:
            pool.shutdown(wait=not found.interrupted, cancel_futures=True)
    found.seconds = time.monotonic() - began


def _groups(found: Matrix, pool: ProcessPoolExecutor) -> list[list[Deviations]]:
    """The combinations, those together that lift to one system."""
    name, choices, names = found.instance.name, found.instance.chosen, tuple(found.properties)
    same: dict[str, list[Deviations]] = {}
    asked = {pool.submit(_fingerprint, name, choices, each, names): each for each in found.combinations}
    for done in as_completed(asked):
        same.setdefault(done.result(), []).append(asked[done])
    order = {each: i for i, each in enumerate(found.combinations)}
    groups = [sorted(group, key=order.__getitem__) for group in same.values()]
    return sorted(groups, key=lambda group: order[group[0]])


def _fingerprint(name: str, choices: Choices, deviations: Deviations, names: Sequence[str]) -> str:
    """A hash of everything that the properties' verdicts depend on."""
    from avicheck.checker.checkpoint import identity
    from avicheck.encodings.expr import TRUE
    from avicheck.encodings.transition import Transition

    system = chosen_with(instance(name, choices), deviations).system
    asked = [prop for prop in system.properties if prop.name in names]
    notes = tuple(
        Transition(
            f"{prop.name} {' '.join((*prop.weak_fairness, '/', *prop.strong_fairness))}", "", "", part, {}
        )
        for prop in asked
        for part in (prop.holds, prop.target or TRUE)
    )
    return identity(replace(system, transitions=(*system.transitions, *notes)))


def _decided(
    name: str,
    choices: Choices,
    deviations: Deviations,
    names: tuple[str, ...],
    engine: Any,
    limit: float,
    max_memory: int | None,
) -> dict[str, Cell]:
    """The cells of one combination."""
    from avicheck.checker.check_system import Request, decide
    from avicheck.checker.engines import Limits

    chosen = chosen_with(instance(name, choices), deviations)
    report = decide(Request(chosen, names, engine, Limits(limit, max_memory)))
    return {
        prop: Cell(result.verdict, result.states, result.depth, result.detail, result.seconds)
        for prop, result in report.results.items()
    }


# Output.


def as_text(found: Matrix) -> str:
    """What the properties rely on, in at most ``WIDTH`` columns."""
    base = replace(found.instance, description=replace(found.instance.description, assumptions=()))
    lines = heading(base, WIDTH)
    lines += _wrapped(
        f"{_counted(len(found.combinations), 'combination')} of {_counted(len(found.varied), 'assumption')}, "
        f"{_counted(found.systems, 'different system')}, {found.seconds:.0f} s"
        + (" (interrupted: not all are decided)." if found.interrupted else "."),
        "",
    )
    lines += [""]
    for each in found.varied:
        lines += _wrapped(f"{each.name}: {each.question}", "")
        for one in each.alternatives:
            mark = " (default)" if one is each.default else ""
            lines += _wrapped(f"={_name(one)}{mark}: {one.value}", "    ")
    for name in found.properties:
        lines += ["", *_property_lines(found, name)]
    return "\n".join(lines)


def _property_lines(found: Matrix, name: str) -> list[str]:
    cells = found.cells.get(name, {})
    holds, fails = found.under(name, _HOLDS), found.under(name, (Verdict.VIOLATED,))
    other = len(found.combinations) - len(holds) - len(fails)
    counts = [f"holds under {len(holds)}", f"violated under {len(fails)}"]
    counts += [f"open under {other}"] if other else []
    lines = _wrapped(f"{name}: {', '.join(counts)} of {len(found.combinations)}.", "")
    if not fails and not other:
        return [*lines, "  Relies on none of them."]
    if not holds and not other:
        return [*lines, "  Fails under every one of them."]
    if fails:
        lines += ["  Violated as soon as:"]
        for each in found.minimal(name):
            depth = cells[each].depth
            steps = f" (after {_counted(depth, 'step')})" if depth is not None else ""
            lines += _wrapped(f"{_shown(each)}{steps}", "    ")
    if holds:
        lines += ["  Holds even with:"]
        for each in found.maximal(name):
            lines += _wrapped(_shown(each), "    ")
    return lines


def _shown(deviations: Deviations) -> str:
    return ", ".join(f"{name}={one}" for name, one in sorted(deviations)) or "all defaults"


def _name(option: Any) -> str:
    from avicheck.spec.description import option_name

    return option_name(option)


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' * (number != 1)}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False
    )


def as_json(found: Matrix) -> dict[str, Any]:
    """What ``avicheck matrix --json`` prints: every cell, and the extremal combinations."""

    def listed(sets: Iterable[Deviations]) -> list[Mapping[str, str]]:
        return [dict(sorted(each)) for each in sets]

    return {
        **found.instance.as_json(),
        "bounds": found.instance.bounds,
        "varied": [each.name for each in found.varied],
        "combinations": len(found.combinations),
        "systems": found.systems,
        "interrupted": found.interrupted,
        "seconds": round(found.seconds, 3),
        "properties": {
            name: {
                "violated as soon as": listed(found.minimal(name)),
                "holds even with": listed(found.maximal(name)),
                "cells": [
                    {
                        "deviations": dict(sorted(each)),
                        "verdict": cell.verdict.value,
                        "states": cell.states,
                        "depth": cell.depth,
                        "detail": cell.detail,
                    }
                    for each, cell in found.cells.get(name, {}).items()
                ],
            }
            for name in found.properties
        },
    }
