"""Our engine and other model checkers on one system, side by side: ``avicheck peers``.

They must agree on the number of reachable states and transitions, on every verdict, and on
the length of a shortest counterexample.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import click

from avicheck.checker.engine import DEADLOCK_FREE, EngineResult
from avicheck.checker.errors import InputError
from avicheck.checker.options import Number, json_option
from avicheck.checker.peer_tools import AVICHECK, RUMUR, SPIN, Answer, Question, Tool, tlc
from avicheck.checker.systems import Instance, instance_options
from avicheck.checker.verdict import Verdict
from avicheck.encodings.expr import TRUE
from avicheck.encodings.transition import Property, TransitionSystem
from avicheck.encodings.writing import completed

Engine: TypeAlias = Callable[[TransitionSystem, bool], Sequence[EngineResult]]
"""Decides the properties of a system and ``DEADLOCK_FREE``, with shortest runs: each of them and through
every state if asked to, else until one is broken."""

OURS: Final = "avicheck"
EVERY_STATE: Final = "every state"


@dataclass(frozen=True)
class Round:
    """One question and what each tool answered, ours first."""

    question: str
    answers: tuple[Answer, ...]

    @property
    def disagreements(self) -> list[str]:
        """Where a tool's answer differs from ours."""
        ours = self.answers[0]
        if ours.broken is None:
            return []
        return [
            f"{self.question}: {what} must be the same, not {_shown(theirs)} for {answer.tool} "
            f"and {_shown(own)} for {OURS}"
            for answer in self.answers[1:]
            if answer.broken is not None
            for what, theirs, own in (
                ("Counterexample", answer.broken, ours.broken),
                ("States", answer.states, ours.states),
                ("Transitions", answer.transitions, ours.transitions),
                ("Steps of the counterexample", answer.depth, ours.depth),
            )
            if theirs != own
        ]


@dataclass(frozen=True)
class Comparison:
    """All rounds on a system. ``not_installed`` says which tools could not take part."""

    system: str
    rounds: tuple[Round, ...]
    not_installed: tuple[str, ...]

    @property
    def disagreements(self) -> list[str]:
        """Where a tool's answer differs from ours, in any round."""
        return [found for each in self.rounds for found in each.disagreements]

    @property
    def verdict(self) -> Verdict:
        """Tool error if two tools contradict each other, unknown if one gave no answer. A tool that is
        not installed is neither."""
        if self.disagreements:
            return Verdict.TOOL_ERROR
        silent = any(answer.broken is None for each in self.rounds for answer in each.answers)
        return Verdict.UNKNOWN if silent else Verdict.HOLDS


@click.command()
@click.argument("model")
@instance_options
@click.option("--tlc", "jar", type=click.Path(path_type=Path), help="The jar file of TLC (tla2tools.jar).")
@click.option(
    "--timeout", type=Number(1, 86_400), default=600, show_default=True, help="Seconds a question and tool."
)
@json_option
def peers(instance: Instance, jar: Path | None, timeout: int, json_: bool) -> int:
    """Compare our engine with SPIN, Rumur and TLC on a concurrent model.

    Each gets the model in its own language. All must find the same number of states and transitions, the
    same verdicts, and counterexamples as short as ours; a contradiction is a tool error. Seconds are
    those of one run side by side, start and compilation included; nobody pays for the export, nor uses
    anything from runs before. Tools that are not installed are left out (Debian packages: spin, rumur, gcc).

    Example: avicheck peers apic-map-life --scope vcpus=2
    """
    if jar is not None and not jar.is_file():
        raise InputError("--tlc", "a jar file", str(jar))
    tools = [SPIN, RUMUR, *([] if jar is None else [tlc(jar)])]
    comparison = compare(instance.system, explicit, tools, float(timeout), ours=AVICHECK)
    click.echo(json.dumps(as_json(comparison), indent=2) if json_ else as_text(comparison))
    return comparison.verdict.exit_code


def explicit(system: TransitionSystem, everything: bool) -> Sequence[EngineResult]:
    """The explicit engine."""
    from avicheck.checker.explore import explore

    return explore(system, stop="never" if everything else "first").results


def compare(
    system: TransitionSystem,
    engine: Engine,
    tools: Iterable[Tool],
    limit: float,
    ours: Tool | None = None,
) -> Comparison:
    """Ask our engine (or ``ours``, once the engine has told what to ask) and the tools, each question within
    ``limit`` seconds a tool."""
    tools = list(tools)
    missing = {tool.name: tool.missing for tool in tools if tool.missing}
    present = [tool for tool in tools if tool.name not in missing]
    results = engine(system, True)
    kinds = {prop.name: prop.kind for prop in system.properties}
    found = {r.property for r in results if r.run is not None and kinds.get(r.property) != "leads-to"}
    states = max((result.states or 0 for result in results), default=0)
    return Comparison(
        system.name,
        tuple(
            Round(
                question.name,
                (
                    _ours(engine, question) if ours is None else ours.ask(question, limit),
                    *(tool.ask(question, limit) for tool in present),
                ),
            )
            for question in questions(system, found, states)
        ),
        tuple(f"{name}: {', '.join(programs)} not installed" for name, programs in missing.items()),
    )


def questions(system: TransitionSystem, found: set[str], states: int) -> list[Question]:
    """What is asked about a system: one search through every state for all properties that no state
    breaks, and a shortest counterexample to each other one. A property ``sometimes`` is asked
    as its contrary; ``leads-to`` is not asked."""
    asked = {prop.name: _as_invariant(prop) for prop in system.properties if prop.kind != "leads-to"}
    held = tuple(prop for name, prop in asked.items() if name not in found)
    may_end = TRUE if DEADLOCK_FREE in found else system.ended
    all_held = completed(replace(system, properties=held, ended=may_end))
    rounds = [Question(EVERY_STATE, all_held, states, shortest=False)]
    for name in [name for name in asked if name in found]:
        alone = replace(system, properties=(asked[name],), ended=TRUE)
        rounds.append(Question(name, alone, states, shortest=True))
    if DEADLOCK_FREE in found:
        alone = completed(replace(system, properties=()))
        rounds.append(Question(DEADLOCK_FREE, alone, states, shortest=True))
    return rounds


def _as_invariant(prop: Property) -> Property:
    return replace(prop, kind="never") if prop.kind == "sometimes" else prop


def _ours(engine: Engine, question: Question) -> Answer:
    start = time.perf_counter()
    results = engine(question.system, False)
    seconds = time.perf_counter() - start
    runs = [result.run for result in results if result.run is not None]
    if runs:
        return Answer(OURS, True, None, None, min(len(run.fired) for run in runs), seconds)
    open_ones = [result for result in results if result.verdict is Verdict.UNKNOWN]
    if open_ones:
        return Answer(OURS, None, None, None, None, seconds, open_ones[0].detail)
    return Answer(OURS, False, results[0].states, results[0].transitions, None, seconds)


# Output.


def as_json(comparison: Comparison) -> dict[str, Any]:
    """What ``avicheck peers --json`` prints."""
    return {
        "system": comparison.system,
        "verdict": comparison.verdict.value,
        "rounds": [asdict(each) for each in comparison.rounds],
        "not_installed": list(comparison.not_installed),
        "disagreements": comparison.disagreements,
    }


_COLUMNS: Final = ("question", "tool", "states", "transitions", "counterexample", "seconds", "times ours")


def as_text(comparison: Comparison) -> str:
    """What ``avicheck peers`` prints: a table, what is missing, and the verdict."""
    rows = [_COLUMNS, *(row for each in comparison.rounds for row in _rows(each))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    silent = [
        f"{answer.tool} gave no answer to '{each.question}': {answer.detail}"
        for each in comparison.rounds
        for answer in each.answers
        if answer.broken is None
    ]
    remarks = [*silent, *comparison.not_installed, *comparison.disagreements]
    verdict = {
        Verdict.HOLDS: "All that answered agree.",
        Verdict.UNKNOWN: "Those that answered agree.",
        Verdict.TOOL_ERROR: "They contradict each other.",
    }[comparison.verdict]
    return "\n".join(line.rstrip() for line in (*table, *([""] if remarks else []), *remarks, "", verdict))


def _rows(each: Round) -> list[tuple[str, ...]]:
    return [
        (
            each.question if i == 0 else "",
            answer.tool,
            _shown(answer.states),
            _shown(answer.transitions),
            _found(answer),
            f"{answer.seconds:.2f}",
            f"{answer.seconds / each.answers[0].seconds:.1f}" if i else "",
        )
        for i, answer in enumerate(each.answers)
    ]


def _found(answer: Answer) -> str:
    if answer.broken is None:
        return "?"
    return f"{answer.depth} steps" if answer.broken else "none"


def _shown(value: bool | int | None) -> str:
    """A number, or whether there is something."""
    if value is None:
        return "-"
    return {True: "found", False: "none"}[value] if isinstance(value, bool) else str(value)
