"""The forms in which a trace is shown, beside the columns: differences, full states, JSON, ITF, Mermaid."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from avicheck.checker import trace
from avicheck.checker.systems import heading
from avicheck.checker.trace import Trace
from avicheck.checker.trace_columns import claimed, explained, framed, summary, trace_lines, wrapped
from avicheck.checker.trace_svg import svg
from avicheck.checker.trace_words import Told, Words
from avicheck.encodings.transition import Values

Form: TypeAlias = Callable[[Trace], str]
"""From a trace to what is printed, with its last newline."""

_ITF: Final = "https://apalache-mc.org/docs/adr/015adr-trace.html"
_NOTE: Final = 60
"""The width of a note in a diagram."""
_EXACT: Final = 2**53
"""From here on not every reader of JSON keeps integers as they are."""


def columns(shown: Trace) -> str:
    """A column for each thread."""
    return _text(trace_lines(shown.instance, shown.asked, shown.run))


# All variables, and those that change.


def diff(shown: Trace) -> str:
    """Each step with the variables that it changed, labels and store buffers too."""
    return _by_state(shown, _changes)


def full(shown: Trace) -> str:
    """Each state with all variables; a star marks those that changed."""
    return _by_state(shown, _state)


def _by_state(shown: Trace, lines: Callable[[Words, Values | None, Values], Iterator[str]]) -> str:
    words, run = Words(shown.instance), shown.run

    def steps() -> Iterator[str]:
        yield from summary(words, run)
        for i, state in enumerate(run.states):
            loop = "  (the loop begins)" if i == run.loop else ""
            yield f"{i}  {run.fired[i - 1] if i else 'initial state'}{loop}"
            yield from (f"     {line}" for line in lines(words, run.states[i - 1] if i else None, state))

    return _text(framed(words, shown.claim, run, steps()))


def _changes(words: Words, before: Values | None, after: Values) -> Iterator[str]:
    if before is None:
        return
    for name in words.changed(before, after):
        yield f"{name}: {words.value(name, before[name])} -> {words.value(name, after[name])}"
    for thread in words.threads:
        if words.buffer(thread, before) != words.buffer(thread, after):
            was, now = words.shown_buffer(thread, before), words.shown_buffer(thread, after)
            yield f"{thread}'s store buffer: {was} -> {now}"


def _state(words: Words, before: Values | None, after: Values) -> Iterator[str]:
    lines = words.equations(words.variables, after)
    known = lines if before is None else words.equations(words.variables, before)
    for line in lines:
        yield f"{' ' if line in known else '*'} {line}"


# For other tools.


def itf(shown: Trace) -> str:
    """The Informal Trace Format. A lasso ends with the state that its loop begins with."""
    run, variables = shown.run, shown.instance.system.variables
    about = {
        key: value for key, value in trace.as_json(shown).items() if key not in ("steps", "states", "loop")
    }
    meta = {"format": "ITF", "format-description": _ITF, "source": shown.instance.name, **about}
    states = [
        {
            "#meta": {"index": i} | ({"step": run.fired[i - 1]} if i else {}),
            **{name: _itf(value) for name, value in trace.written_state(variables, state).items()},
        }
        for i, state in enumerate(run.states)
    ]
    loop = {} if run.loop is None else {"loop": run.loop}
    names = [variable.name for variable in variables]
    return json.dumps({"#meta": meta, "vars": names, "states": states, **loop}, indent=1) + "\n"


def _itf(value: bool | int | str) -> Any:
    big = isinstance(value, int) and not -_EXACT < value < _EXACT
    return {"#bigint": str(value)} if big else value


def mermaid(shown: Trace) -> str:
    """A sequence diagram as Mermaid's text: arrows for what a step writes to the shared state or reads of
    it, and to the thread itself for the rest."""
    words, run = Words(shown.instance), shown.run
    told = words.steps(run)
    acting = {step.thread for step in told}
    names = {thread: f"t{i}" for i, thread in enumerate(words.threads) if thread in acting}
    over = ",".join([*list(names.values())[:1], "shared"])
    lines = ["sequenceDiagram"]
    lines += [f"    participant {name} as {_mermaid([thread])}" for thread, name in names.items()]
    lines += ["    participant shared as shared state"]
    about = heading(shown.instance, _NOTE)
    if shown.claim is not None:
        about += wrapped(claimed(shown.claim), _NOTE)
    lines.append(f"    Note over {over}: {_mermaid(about)}")
    for step in told:
        if step.number - 1 == run.loop:
            lines.append("    loop for ever")
        lines.append(f"    {_message(step, names[step.thread])}")
    if run.loop is not None:
        lines.append("    end" if run.loop < len(told) else f"    Note over {over}: Here it stays for ever.")
    if shown.claim is not None:
        why = [line for sentence in explained(words, shown.claim, run) for line in wrapped(sentence, _NOTE)]
        lines.append(f"    Note over {over}: {_mermaid(why)}")
    return _text(lines)


def _message(step: Told, name: str) -> str:
    arrow = {"write": f"{name}->>shared", "read": f"shared-->>{name}", "none": f"{name}->>{name}"}
    return f"{arrow[step.access]}: {_mermaid([f'{step.number}. {step.action}', *step.lines])}"


def _mermaid(lines: list[str]) -> str:
    """Lines as one text, without the characters that mean something to Mermaid."""
    return "<br/>".join("".join(f"#{ord(c)};" if c in "#;<&" else c for c in line) for line in lines)


def _text(lines: list[str]) -> str:
    return "\n".join(line.rstrip() for line in lines) + "\n"


FORMS: Final[Mapping[str, Form]] = {
    "columns": columns,
    "diff": diff,
    "full": full,
    "json": trace.text,
    "itf": itf,
    "mermaid": mermaid,
    "svg": svg,
}
"""The forms by name."""
