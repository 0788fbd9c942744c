"""What a crosscheck of one model finds out, and how it is printed."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from avicheck.checker.systems import Instance, heading
from avicheck.checker.verdict import Verdict

if TYPE_CHECKING:
    from avicheck.checker.engine import EngineResult
    from avicheck.checker.explore import Exploration
    from avicheck.checker.trace_words import Words
    from avicheck.encodings.transition import Values

WIDTH: Final = 75
"""Columns of the report, at most."""

RUN: Final = "Python run"
"""The voice that is the model itself."""
KEPT: Final = 3
"""Differences of a voice that are kept; all are counted."""
FEW: Final = 8
"""Longer lists of names are counted instead."""


Steps: TypeAlias = frozenset[tuple[str, int]]
"""Which transitions may fire in a state, by name, each with the packed state after it."""


@dataclass(frozen=True)
class Told:
    """What a voice tells about a state: its steps, and which conditions hold, None if it tells nothing of
    these."""

    steps: Steps
    true: frozenset[str] | None = None


@dataclass(frozen=True)
class Difference:
    """What a voice alone tells about a state (``extra``), and what most others tell and it does not: steps
    with the states that they lead to (None: beyond the variables' bounds), and conditions that hold."""

    voice: str
    state: Values
    extra: tuple[tuple[str, Values | None], ...] = ()
    missing: tuple[tuple[str, Values | None], ...] = ()
    extra_conditions: tuple[str, ...] = ()
    missing_conditions: tuple[str, ...] = ()


@dataclass
class Part:
    """How much a voice has told, and about how many states it differs from most; some of the differences.
    It may know fewer transitions than there are."""

    voice: str
    knows: int
    states: int = 0
    transitions: int = 0
    seconds: float = 0.0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)

    def add(self, more: Part) -> None:
        """Count in what it told about other states."""
        self.states += more.states
        self.transitions += more.transitions
        self.seconds += more.seconds
        self.differing += more.differing
        self.differences += more.differences[: KEPT - len(self.differences)]


@dataclass
class Tally:
    """What the voices told about some states, and how often a transition fires in these."""

    parts: list[Part]
    fired: Counter[str] = field(default_factory=Counter)

    @property
    def states(self) -> int:
        """How many."""
        return self.parts[0].states


@dataclass
class Report:
    """What is found out so far. ``reachable`` states are known, all of them if ``complete``; ``chosen`` are
    to be compared, and ``stopped`` says why that may end early. ``results`` has the engines' answers by
    property. ``excerpt`` tells which of how many parts of a model it is."""

    instance: Instance
    explorations: dict[str, Exploration] = field(default_factory=dict)
    reachable: int = 0
    complete: bool = False
    chosen: int = 0
    parts: list[Part] = field(default_factory=list)
    fired: Counter[str] = field(default_factory=Counter)
    results: dict[str, dict[str, EngineResult]] = field(default_factory=dict)
    contradictions: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    stopped: str = "stopped at the limit of time"
    handwritten: bool = False
    interrupted: bool = False
    seconds: float = 0.0
    excerpt: tuple[int, int] = (1, 1)

    def add(self, tally: Tally) -> None:
        """Count in what was told about some states."""
        self.fired.update(tally.fired)
        for part, more in zip(self.parts, tally.parts, strict=True):
            part.add(more)

    @property
    def compared(self) -> int:
        """The states that every voice has told about."""
        return min((part.states for part in self.parts), default=0)

    @property
    def exhaustive(self) -> bool:
        """Whether these are all that can be reached."""
        return self.complete and self.compared == self.reachable

    @property
    def fires(self) -> set[str]:
        """The transitions that fire in some state, as far as was explored."""
        counts = (found.fired.items() for found in self.explorations.values())
        return {name for fired in counts for name, count in fired if count}

    @property
    def differing(self) -> int:
        """How often a voice differs from most about a state."""
        return sum(part.differing for part in self.parts)

    @property
    def answered(self) -> Counter[bool]:
        """How many questions to engines are answered (True), and how many are open."""
        return Counter(
            result.verdict not in _OPEN for each in self.results.values() for result in each.values()
        )

    @property
    def verdict(self) -> Verdict:
        """Holds if the voices agree about every reachable state and no answer of an engine contradicts
        another."""
        if self.differing or self.contradictions:
            return Verdict.TOOL_ERROR
        return Verdict.HOLDS if self.exhaustive and not self.interrupted else Verdict.UNKNOWN


def as_text(report: Report) -> str:
    """The report in at most ``WIDTH`` columns: the sum of it, what each voice told, what the engines
    answered, and whatever does not fit together."""
    lines = [*heading(report.instance, WIDTH), *_excerpt(*report.excerpt)]
    lines += _wrapped(f"{report.verdict.value}: {_summary(report)}")
    lines += ["", *_voices(report), "", *_explorations(report), "", *_answers(report)]
    for found in (*report.contradictions, *report.remarks):
        lines += ["", *_wrapped(found)]
    if [part.voice for part in report.parts if part.differing] == [RUN]:
        lines += ["", *_wrapped(f"All but the {RUN} rest on the lifted system: the lifting may be wrong.")]
    for part in report.parts:
        for difference in part.differences:
            lines += ["", *_difference(report.instance, difference)]
    return "\n".join([*lines, "", f"{report.seconds:.1f} s"])


def _excerpt(number: int, count: int) -> list[str]:
    return [f"Excerpt {number} of {count}; every step is in one of them."] if count > 1 else []


def _summary(report: Report) -> str:
    if report.verdict is Verdict.TOOL_ERROR:
        found = f"differences between voices: {report.differing:,}"
        return f"{found}; contradictions between engines: {len(report.contradictions)}"
    if report.verdict is Verdict.HOLDS:
        answers = f"{report.answered[True]} answers of engines agree, {report.answered[False]} are open"
        return f"no difference in any of {report.compared:,} reachable states; {answers}"
    known = f"{report.reachable:,}" if report.complete else f"more than {report.reachable:,}"
    return f"no difference in {report.compared:,} of {known} reachable states; {_why_not_all(report)}"


def _why_not_all(report: Report) -> str:
    if report.interrupted:
        return "interrupted"
    if report.compared < report.chosen or not report.complete:
        return report.stopped
    return "the others are left out (--max-states)"


def _voices(report: Report) -> list[str]:
    rows: list[Sequence[str]] = [("voice", "states", "transitions", "differing", "seconds")]
    for part in report.parts:
        numbers = f"{part.states:,}", f"{part.transitions:,}", f"{part.differing:,}", f"{part.seconds:.1f}"
        rows.append((part.voice, *numbers))
    lines = _table(rows)
    transitions = report.instance.system.transitions
    for part in report.parts:
        if part.knows < len(transitions):
            lines += _wrapped(f"{part.voice}: about {part.knows} of {len(transitions)} transitions.")
    if not report.handwritten:
        lines += _wrapped("No relation written by hand is registered for this model.")
    elsewhere = sorted(report.fires - report.fired.keys())
    if elsewhere:
        shown = ", ".join(elsewhere) if len(elsewhere) <= FEW else f"{len(elsewhere)} transitions"
        lines += _wrapped(f"Only in other states can fire: {shown}.")
    return lines


def _explorations(report: Report) -> list[str]:
    rows: list[Sequence[str]] = [("exploration", "states", "transitions", "depth", "seconds")]
    for tier, found in report.explorations.items():
        numbers = f"{found.states:,}", f"{found.transitions:,}", str(found.depth), f"{found.seconds:.1f}"
        rows.append((tier if found.complete else f"{tier}, stopped", *numbers))
    return _table(rows)


def _answers(report: Report) -> Iterator[str]:
    """For each property what was answered by which engines."""
    for name, results in report.results.items():
        by_answer: dict[str, list[str]] = {}
        for engine, result in results.items():
            by_answer.setdefault(_answer(result), []).append(engine)
        told = "; ".join(f"{answer}: {', '.join(engines)}" for answer, engines in by_answer.items())
        yield from _wrapped(f"{name}: {told}")


def _answer(result: EngineResult) -> str:
    if result.verdict in _OPEN:
        return "open"
    steps = f" ({len(result.run.fired)} steps)" if result.run is not None else ""
    return f"{result.verdict.value}{steps}"


_OPEN: Final = (Verdict.UNKNOWN, Verdict.NOT_INDUCTIVE, Verdict.HOLDS_TO_DEPTH)


def _difference(about: Instance, found: Difference) -> Iterator[str]:
    from avicheck.checker.trace_words import Words

    words = Words(about)
    yield from _wrapped(f"{found.voice} differs from most about the state")
    yield from _wrapped(", ".join(words.equations(found.state, found.state)), "  ")
    for who, steps, conditions in (
        (f"Only {found.voice}", found.extra, found.extra_conditions),
        ("The others", found.missing, found.missing_conditions),
    ):
        for name, after in steps:
            yield from _wrapped(f"{who}: {name} leads to {_leads_to(words, found.state, after)}.")
        for condition in conditions:
            yield from _wrapped(f"{who}: {condition} is true.")


def _leads_to(words: Words, state: Values, after: Values | None) -> str:
    if after is None:
        return "a state beyond the variables' bounds"
    changed = [name for name in after if after[name] != state[name]]
    return ", ".join(words.equations(changed, after)) or "the same state"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns; all but the first are to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent="  ")


def as_json(report: Report) -> dict[str, Any]:
    """The report with all that was kept."""
    return {
        **report.instance.as_json(),
        "bounds": report.instance.bounds,
        "excerpt": list(report.excerpt),
        "verdict": report.verdict.value,
        "interrupted": report.interrupted,
        "reachable": report.reachable,
        "complete": report.complete,
        "compared": report.compared,
        "voices": [asdict(part) for part in report.parts],
        "fired": dict(report.fired),
        "explorations": {
            tier: {
                "complete": found.complete,
                "states": found.states,
                "transitions": found.transitions,
                "depth": found.depth,
                "seconds": round(found.seconds, 3),
            }
            for tier, found in report.explorations.items()
        },
        "properties": {
            name: {engine: _result_json(result) for engine, result in results.items()}
            for name, results in report.results.items()
        },
        "contradictions": report.contradictions,
        "remarks": report.remarks,
        "seconds": round(report.seconds, 3),
    }


def _result_json(result: EngineResult) -> dict[str, Any]:
    return {
        "verdict": result.verdict.value,
        "steps": None if result.run is None else len(result.run.fired),
        "states": result.states,
        "depth": result.depth,
        "seconds": round(result.seconds, 3),
        "detail": result.detail,
    }
