"""The corpus: bugs that there were, each there with its fix out and gone with it in: ``avicheck bugs``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

import click

from avicheck.checker.errors import InputError, not_one_of
from avicheck.checker.options import json_option
from avicheck.checker.systems import Choices, Instance, instance
from avicheck.checker.verdict import Verdict, worst

if TYPE_CHECKING:
    from avicheck.checker.engine import EngineResult

GROUP: Final = "avicheck.bugs"
"""The entry points that name a sequence of ``Bug`` each."""
WIDTH: Final = 75
"""Columns of the report, at most."""


@dataclass(frozen=True)
class Trial:
    """A bug's model with fixes switched on and off, by their names, and what is expected of it."""

    label: str
    expected: Verdict
    on: tuple[str, ...] = ()
    off: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bug:
    """A bug that there was: the property of a model that it violates (``asked``), the fixes by their names,
    oldest first, the surroundings, and the trials that show it. ``remark`` says what one may not expect."""

    name: str
    model: str
    asked: str
    fixes: tuple[str, ...]
    surroundings: Choices
    trials: tuple[Trial, ...]
    remark: str = ""

    def chosen(self, trial: Trial) -> Instance:
        """The instance of a trial."""
        around = self.surroundings
        return instance(self.model, replace(around, on=(*around.on, *trial.on), off=trial.off))

    @property
    def titles(self) -> list[str]:
        """The fixes' upstream titles."""
        switchable = self.chosen(self.trials[0]).description.switchable
        return [str(switchable[fix].value) for fix in self.fixes]

    @property
    def lacking(self) -> list[str]:
        """The kernels of the model that are not known to have all fixes, oldest first."""
        described = self.chosen(self.trials[0]).description
        fixes = {described.switchable[fix] for fix in self.fixes}
        return [name for name, options in described.kernels.items() if not fixes <= options]


@dataclass(frozen=True)
class Row:
    """What came of a trial."""

    bug: Bug
    trial: Trial
    result: EngineResult

    @property
    def conclusion(self) -> Verdict:
        """``holds`` if the trial did as expected, ``violated`` if it did the opposite; else what it did."""
        came = self.result.verdict
        if came not in (Verdict.HOLDS, Verdict.VIOLATED):
            return came
        return Verdict.HOLDS if came is self.trial.expected else Verdict.VIOLATED


@cache
def corpus() -> Mapping[str, Bug]:
    """Every registered bug, by name."""
    found = [bug for point in entry_points(group=GROUP) for bug in point.load()]
    return {bug.name: bug for bug in found}


def selected(names: Sequence[str]) -> list[Bug]:
    """The bugs of these names, or all; ``InputError`` if one is unknown."""
    known = corpus()
    for name in names:
        if name not in known:
            raise not_one_of("Bug", known, name)
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


def tried(bug: Bug) -> Iterator[Row]:
    """The trials of a bug, one after the other. A run that is found is replayed by the engine."""
    from avicheck.checker.engines import check

    for trial in bug.trials:
        yield Row(bug, trial, check(bug.chosen(trial).system, bug.asked, "explicit"))


@click.command()
@click.argument("names", metavar="[BUG]...", nargs=-1)
@click.option("--trace", "traces", is_flag=True, help="Print the shortest run of every violation.")
@json_option
def bugs(names: tuple[str, ...], traces: bool, json_: bool) -> int:
    """Reproduce known bugs: with the fix out, and with it in.

    Without names, all of them. Each is explored exhaustively at a small scope, with sequential consistency
    unless it says otherwise. A first fix that was not enough is tried too.

    Ends with 0 if every trial does as history says, with 1 if one does not.

    Example: avicheck bugs INH-02 --trace
    """
    if traces and json_:
        raise InputError("--trace", "left out beside --json, which has the runs", "given")
    rows: list[Row] = []
    for bug in selected(names):
        found = list(tried(bug))
        rows += found
        if not json_:
            click.echo("\n".join([*_lines(bug, found), *_runs(found, traces)]))
    if json_:
        click.echo(json.dumps(as_json(rows), indent=2))
    else:
        click.echo(_total(rows))
    return worst(row.conclusion for row in rows).exit_code


def _lines(bug: Bug, rows: Iterable[Row]) -> list[str]:
    """A bug's part of the table."""
    lines = [f"{bug.name}  {bug.asked} of {bug.model}"]
    for title in bug.titles:
        lines += _wrapped(title)
    lines += [f"  {_row(row)}" for row in rows]
    lacking = ", ".join(bug.lacking)
    lines += _wrapped(f"Not known to be fixed in: {lacking}." if lacking else "Fixed in every kernel here.")
    return [*lines, *(_wrapped(bug.remark) if bug.remark else []), ""]


def _row(row: Row) -> str:
    result = row.result
    size = f"{result.states or 0:>9,} states  depth {result.depth or 0:>3}  {result.seconds:5.1f} s"
    unexpected = "" if row.conclusion is Verdict.HOLDS else f"  expected: {row.trial.expected.value}"
    return f"{row.trial.label:<13}{result.verdict.value:<9}{size}{unexpected}"


def _runs(rows: Iterable[Row], wanted: bool) -> Iterator[str]:
    from avicheck.checker.trace_columns import trace_lines

    for row in rows:
        if wanted and row.result.run is not None and row.result.verdict is Verdict.VIOLATED:
            yield from trace_lines(row.bug.chosen(row.trial), row.bug.asked, row.result.run, WIDTH)
            yield ""


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")


def _total(rows: Sequence[Row]) -> str:
    as_expected = sum(row.conclusion is Verdict.HOLDS for row in rows)
    names = {row.bug.name for row in rows}
    noun = "bug" if len(names) == 1 else "bugs"
    return f"{len(names)} {noun}: {as_expected} of {len(rows)} trials as history says."


def as_json(rows: Iterable[Row]) -> dict[str, Any]:
    """What ``avicheck bugs --json`` prints: a list of trials, runs included."""
    from avicheck.checker.check_system import run_json

    return {
        "trials": [
            {
                "bug": row.bug.name,
                "titles": row.bug.titles,
                "not_known_fixed_in": row.bug.lacking,
                "instance": row.bug.chosen(row.trial).as_json(),
                "property": row.bug.asked,
                "trial": row.trial.label,
                "expected": row.trial.expected.value,
                "verdict": row.result.verdict.value,
                "states": row.result.states,
                "depth": row.result.depth,
                "seconds": round(row.result.seconds, 3),
                "trace": row.result.run and run_json(row.result.run),
            }
            for row in rows
        ]
    }
