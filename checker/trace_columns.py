"""A run as plain text for a mail: a column for each thread, in the style of kernel changelogs."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import property_of
from avicheck.checker.systems import Instance, heading
from avicheck.checker.trace_why import Reason, reasons
from avicheck.checker.trace_words import Told, Words, counted, switches
from avicheck.encodings.transition import Property, Run
from avicheck.spec.machine import STEPS_SUCCEED

WIDTH: Final = 75
"""A mail's lines are not longer."""
_NARROWEST: Final = 28
"""Where columns would be narrower, each takes the rest of the line, a bit further to the right."""
_GAP: Final = 2
_STAIR: Final = 4
_LEAST: Final = 40
_UNBROKEN: Final = "\N{NO-BREAK SPACE}"
_VERB: Final = re.compile(" (->|=|stays|is) ")
"""What a line in a column does not end with."""


def trace_lines(instance: Instance, asked: Property | str | None, run: Run, width: int = WIDTH) -> list[str]:
    """A run of a model in lines of at most ``width`` characters: what it is about, the property that it
    refutes or reaches (one of the model's by name, or any; None for neither), each step in its thread's
    column with what it changed, and the values by which the property fails. InputError if there is no
    property of that name."""
    prop = property_of(instance.system, asked) if isinstance(asked, str) else asked
    words = Words(instance)
    return framed(words, prop, run, [*summary(words, run, width), *_steps(words, run, width)], width)


def framed(
    words: Words, asked: Property | None, run: Run, steps: Iterable[str], width: int = WIDTH
) -> list[str]:
    """The steps of a run in some form, between what it is about and why it shows that."""
    about = heading(words.instance, width)
    if asked is None:
        return [*about, "", *steps]
    why = (line for sentence in explained(words, asked, run) for line in wrapped(sentence, width))
    head = [claimed(asked)] if run.states[0] in words.system.initial else _begun_elsewhere(words, asked, run)
    return [*about, *(line for part in head for line in wrapped(part, width)), "", *steps, "", *why]


def _begun_elsewhere(words: Words, asked: Property, run: Run) -> list[str]:
    """What a run is that does not start where the model does, and where it starts."""
    state = ", ".join(words.equations(run.states[0], run.states[0]))
    return [
        f"Counterexample to induction, and none to {asked.name}: its first state may not be reachable.",
        f"First state: {state}.",
    ]


# What it shows.


def claimed(asked: Property) -> str:
    """What a run shows about a property."""
    sentence = f": {asked.sentence}" if asked.sentence else ""
    return f"{'Reached' if asked.kind == 'sometimes' else 'Violated'}: {asked.name}{sentence}"


def explained(words: Words, asked: Property, run: Run) -> Iterator[str]:
    """Why a run shows that, in sentences: which parts of the property are false (or true), and the values
    that decide it."""
    if asked.name == DEADLOCK_FREE:
        yield from _blocked(words, run)
    else:
        for reason in reasons(asked, run):
            yield _explained(words, asked, reason, run)
    if asked.kind == "leads-to":
        yield "What it must lead to never comes."


def _explained(words: Words, asked: Property, reason: Reason, run: Run) -> str:
    state = run.states[reason.at]
    if asked.name == STEPS_SUCCEED:
        failed = words.failure(reason.part, state)
        return f"In the end {reason.part} can only fail: {failed}."
    threads = [t for t in words.threads if any(name.startswith(f"{t}.") for name in reason.variables)]
    where = f" for {threads[0]}" if len(threads) == 1 and len(words.threads) > 1 else ""
    when = "In the end" if reason.at == len(run.states) - 1 else f"After step {reason.at}"
    values = words.equations((name for name in words.variables if name in reason.variables), state)
    return f"{when} {reason.part} is {str(reason.holds).lower()}{where}{_list(values)}."


def _blocked(words: Words, run: Run) -> Iterator[str]:
    """Why nothing can happen: what each thread waits for where it is."""
    yield "In the end nothing can happen:"
    state = run.states[-1]
    lines = dict.fromkeys(
        f"{words.place(transition.thread, state)} waits{_list(words.blocked(transition, state))}."
        for transition in words.system.transitions
        if words.is_at_its_label(transition, state)
    )
    yield from lines


def _list(values: Iterable[str]) -> str:
    """Values after a colon, none of them to be broken at the end of a line."""
    shown = ", ".join(value.replace(" ", _UNBROKEN) for value in values)
    return f": {shown}" if shown else ""


# The steps.


def summary(words: Words, run: Run, width: int = WIDTH) -> list[str]:
    """How long a run is, and in which of the initial states it starts if there are several."""
    changes = switches(words.transitions[name].thread for name in run.fired)
    counts = f"{counted(len(run.fired), 'step')}, {counted(changes, 'thread switch')}"
    first, *others = words.system.initial
    differ = [name for name in words.variables if any(other[name] != first[name] for other in others)]
    at_first = f"; at first{_list(words.equations(differ, run.states[0]))[1:]}" if differ else ""
    return [*wrapped(f"{counts}{at_first}:", width), ""]


def _steps(words: Words, run: Run, width: int) -> Iterator[str]:
    """The heads of the columns, and the steps."""
    told = words.steps(run)
    columns = _columns(words, told, width)
    yield from columns.heads()
    yield from _rows(told, run.loop, columns)


@dataclass(frozen=True)
class _Columns:
    """Where each thread's text begins, and how wide it is; ``folded`` if they overlap."""

    starts: Mapping[str, int]
    widths: Mapping[str, int]
    folded: bool

    def heads(self) -> list[str]:
        """The threads' names, above their columns; none where the rows have to name them."""
        if self.folded:
            return []
        heads = rules = ""
        for thread, start in self.starts.items():
            heads = f"{heads:{start}}{thread}"
            rules = f"{rules:{start}}{'-' * len(thread)}"
        return [heads, rules]

    def placed(self, thread: str, text: str, indent: int, number: str = "") -> list[str]:
        """A text in a thread's column, so far indented; the number is at the beginning of the line."""
        start = self.starts[thread]
        room = self.widths[thread] - indent
        breakable = " ".join(w if len(w) < room - 2 else w.replace("(", "( ") for w in text.split())
        lines = wrapped(_VERB.sub(rf" \1{_UNBROKEN}", breakable), room)
        return [f"{number if i == 0 else '':{start + indent}}{line}" for i, line in enumerate(lines)]


def _columns(words: Words, told: list[Told], width: int) -> _Columns:
    acting = {step.thread for step in told}
    threads = [thread for thread in words.threads if thread in acting]
    gutter = len(str(len(told))) + 2
    each = (width - gutter + _GAP) // max(1, len(threads)) - _GAP
    folded = len(threads) > 1 and each < _NARROWEST
    if folded:
        starts = {thread: min(gutter + i * _STAIR, width - _LEAST) for i, thread in enumerate(threads)}
    else:
        starts = {thread: gutter + i * (each + _GAP) for i, thread in enumerate(threads)}
    widths = {thread: width - start if folded else each for thread, start in starts.items()}
    return _Columns(starts, widths, folded)


def _rows(told: list[Told], loop: int | None, columns: _Columns) -> Iterator[str]:
    """The steps, with the C function that a thread is in where that changes."""
    inside: dict[str, str] = {}
    last = None
    for step in told:
        if step.number - 1 == loop:
            yield "-- From here on it goes round for ever --"
        heads = [step.thread] if columns.folded and step.thread != last else []
        if step.source and inside.get(step.thread) != step.source:
            inside[step.thread] = step.source
            heads.append(step.source)
        if heads:
            yield from columns.placed(step.thread, f"{', '.join(heads)}:", 0)
        yield from columns.placed(step.thread, step.action, 2, str(step.number))
        for line in step.lines:
            yield from columns.placed(step.thread, line, 4)
        last = step.thread
    if loop is not None:
        yield f"-- And again from step {loop + 1} --" if loop < len(told) else "-- Here it stays for ever --"


def wrapped(text: str, width: int = WIDTH) -> list[str]:
    """A paragraph in lines, those after the first indented; lists of values are not broken inside one."""
    lines = textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    return [line.replace(_UNBROKEN, " ") for line in lines]
