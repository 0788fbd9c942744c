"""What the properties of a concurrent model rely on: ``avicheck matrix``.

A combination takes one alternative of every assumption. ``matrix_runs`` decides the properties under each.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from avicheck.checker.errors import InputError, not_one_of
from avicheck.checker.matrix_runs import HOLDS, Deviations, Matrix, fill
from avicheck.checker.options import Amount, Number, Word, json_option
from avicheck.checker.progress import line_shown
from avicheck.checker.systems import Instance, heading, instance_options
from avicheck.checker.systems import instance as instance_of
from avicheck.checker.verdict import EXIT_INTERRUPTED, EXIT_OK, Verdict

if TYPE_CHECKING:
    from avicheck.spec.description import Assumption

WIDTH: Final = 75
"""Columns of the report, at most."""
MOST: Final = 5_000
"""Combinations that are gone through unless the user allows more."""


@click.command()
@click.argument("model")
@instance_options
@click.option("--property", "names", multiple=True, metavar="NAME", help="Only this one; may be repeated.")
@click.option(
    "--vary", "varied", multiple=True, metavar="NAME", help="Only this assumption; may be repeated."
)
@click.option("--deviations", type=Number(0, 64), help="At most so many alternatives other than defaults.")
@click.option("--engine", type=Word(("explicit", "auto", "ic3")), default="explicit", show_default=True)
@click.option("--timeout", type=Number(1, 864_000), help="Seconds a combination.  [default: none]")
@click.option("--max-memory", type=Amount(), help="Bytes a process.  [default: a share of what there is]")
@click.option("--most", type=Number(1, 10**6), default=MOST, show_default=True, help="Combinations at most.")
@click.option("--jobs", type=Number(1, 64), default=os.cpu_count() or 1, help="Processes.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a new file with the same as Markdown.",
)
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
    report_file: Path | None,
    json_: bool,
) -> int:
    """Show under which assumptions the properties of a model hold.

    Goes through every combination of the assumptions' alternatives and decides the properties under each,
    exhaustively for the sizes that are printed. For each property: the smallest sets of alternatives, other
    than the defaults, under which it is violated (what it relies on), and the largest under which it holds
    (what it bears). --assume sets what is not varied. That there is no deadlock is decided if it is named.

    Combinations are not explored where one more is known to allow only what another one does, or where they
    differ in what a property cannot depend on. What is printed as violated was explored and replayed.
    Sizes are small ones unless --scope says otherwise. Ctrl-C prints what is decided so far.

    Exit code 0 if everything was decided, whatever the answers are.

    Example: avicheck matrix secure-avic --property sleeps-on --vary intercept --vary halt-test
    """
    from avicheck.checker.engines import Limits
    from avicheck.checker.memory import available

    if report_file is not None and report_file.exists():
        raise InputError("--report", "a new file", f"{report_file}, which exists")
    found = plan(smaller(instance), names, varied, deviations, most)
    share = available() * 8 // 10 // jobs if max_memory is None else max_memory
    with line_shown(_progress_line) as on_progress:
        fill(found, engine, Limits(math.inf if timeout is None else float(timeout), share), jobs, on_progress)
    click.echo(json.dumps(as_json(found), indent=2) if json_ else as_text(found))
    if found.interrupted:
        return EXIT_INTERRUPTED
    if report_file is not None:
        from avicheck.checker.export import write_new
        from avicheck.checker.matrix_report import markdown

        write_new(report_file, markdown(found), "--report")
    return EXIT_OK if found.verdict is Verdict.HOLDS else found.verdict.exit_code


def _progress_line(decided: int, combinations: int) -> str:
    return f"{decided} of {_counted(combinations, 'combination')}"


# Combinations.


def smaller(chosen: Instance) -> Instance:
    """The same with the sizes that a model has for going through many combinations, where the user chose
    none."""
    choices = chosen.chosen
    sizes = {**chosen.description.small, **choices.scope}
    return instance_of(chosen.name, replace(choices, scope=sizes))


def plan(
    chosen: Instance, names: Sequence[str], varied: Sequence[str], deviations: int | None, most: int
) -> Matrix:
    """The combinations to go through, those with the fewest deviations first, for the named properties; if
    none is named, for all but that there is no deadlock, about which no combination tells anything of others.
    ``InputError`` if a name is unknown, there is nothing to vary, or there are more than ``most``."""
    from avicheck.checker.check_system import select
    from avicheck.checker.engine import DEADLOCK_FREE

    known = {each.name: each for each in chosen.description.assumptions}
    for name in varied:
        if name not in known:
            raise not_one_of("--vary", known, name, place=chosen.name)
    if not known:
        raise InputError("Model", "one with assumptions to vary", chosen.name)
    fixed = set(chosen.chosen.assumed) - set(varied)
    vary = [each for name, each in known.items() if (name in varied if varied else name not in fixed)]
    properties = [prop.name for prop in select(chosen, names) if names or prop.name != DEADLOCK_FREE]
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


# Output.


def as_text(found: Matrix) -> str:
    """What the properties rely on, in at most ``WIDTH`` columns."""
    base = replace(found.instance, description=replace(found.instance.description, assumptions=()))
    lines = heading(base, WIDTH)
    lines += _wrapped(f"{_covered(found)} {_effort(found)}", "")
    lines += [""]
    for each in found.varied:
        lines += _wrapped(f"{each.name}: {each.question}", "")
        for one in each.alternatives:
            mark = " (default)" if one is each.default else ""
            lines += _wrapped(f"={_name(one)}{mark}: {one.value}", "    ")
    for name in found.properties:
        lines += ["", *_property_lines(found, name)]
    return "\n".join(lines)


def _covered(found: Matrix) -> str:
    """How many combinations there are, and which are decided if not all are."""
    total = (
        f"{_counted(len(found.combinations), 'combination')} of {_counted(len(found.varied), 'assumption')}"
    )
    decided = set(found.decided)
    if not found.interrupted:
        return f"{total}."
    open_ = [each for each in found.combinations if each not in decided]
    most = min(map(len, open_), default=1) - 1
    whole = f"; among them all with at most {_counted(most, 'deviation')}" if most >= 0 else ""
    return f"{total}, interrupted: {len(decided)} are decided{whole}."


def _effort(found: Matrix) -> str:
    return f"{_counted(found.explored, 'exploration')}, {found.seconds:.0f} s."


def _property_lines(found: Matrix, name: str) -> list[str]:
    cells = found.cells.get(name, {})
    holds, fails = found.under(name, HOLDS), found.under(name, (Verdict.VIOLATED,))
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
            cell = cells[each]
            depth = None if cell.run is None else cell.depth
            steps = "" if depth is None else f" (after {_counted(depth, 'step')})"
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
        "decided": len(found.decided),
        "explored": found.explored,
        "interrupted": found.interrupted,
        "seconds": round(found.seconds, 3),
        "properties": {
            name: {
                "cannot depend on": sorted(found.irrelevant.get(name, ())),
                "violated as soon as": listed(found.minimal(name)),
                "holds even with": listed(found.maximal(name)),
                "cells": [
                    {
                        "deviations": dict(sorted(each)),
                        "verdict": cell.verdict.value,
                        "states": cell.states,
                        "depth": cell.depth,
                        "detail": cell.detail,
                        "follows": cell.follows,
                    }
                    for each, cell in found.cells.get(name, {}).items()
                ],
            }
            for name in found.properties
        },
    }
