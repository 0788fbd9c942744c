"""Traces: a run of a model with everything that is needed to run it again, as a file.

A trace is replayed before it is shown: on the executable model and on the transition system, which must
agree on every state.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from avicheck.checker.checkpoint import identity
from avicheck.checker.config import read_bytes
from avicheck.checker.decode import parse_json, typed
from avicheck.checker.engines import property_of
from avicheck.checker.errors import InputError, not_one_of, shown
from avicheck.checker.systems import MEMORY_MODELS, Choices, Instance, instance
from avicheck.encodings.transition import Property, Run, Values, Variable
from avicheck.spec.machine import MemoryModel

FORMAT: Final = "trace 1"
CHANGED: Final = "the model's text has changed since the trace was made"


@dataclass(frozen=True)
class Trace:
    """A run of a model. ``asked`` names the property that it refutes or, if that is of the kind
    ``sometimes``, reaches; None if it is a run like any other. ``as_made`` is false where the trace was made
    of another text of the model."""

    instance: Instance
    asked: str | None
    run: Run
    as_made: bool = True

    @property
    def claim(self) -> Property | None:
        """What was asked; ``InputError`` if there is no such property."""
        return None if self.asked is None else property_of(self.instance.system, self.asked)

    @property
    def verdict(self) -> Literal["violated", "witness"] | None:
        """What it shows about the property."""
        if self.claim is None:
            return None
        return "witness" if self.claim.kind == "sometimes" else "violated"


class File(msgspec.Struct, forbid_unknown_fields=True):
    """A trace as JSON: what ``Instance.as_json`` says, and the run. ``text`` is a hash of the model."""

    avicheck: str
    model: str
    kernel: str
    scope: dict[str, int]
    memory: str
    with_: list[str] = msgspec.field(name="with")
    without: list[str]
    assume: dict[str, str]
    text: str
    property: str | None
    verdict: str | None
    steps: list[str]
    loop: int | None
    states: list[dict[str, bool | int | str]]


# Writing.


def as_json(trace: Trace) -> dict[str, Any]:
    """A trace as its file holds it: booleans and enumerations as such."""
    system = trace.instance.system
    return {
        "avicheck": FORMAT,
        **trace.instance.as_json(),
        "text": identity(system),
        "property": trace.asked,
        "verdict": trace.verdict,
        "steps": list(trace.run.fired),
        "loop": trace.run.loop,
        "states": [written_state(system.variables, state) for state in trace.run.states],
    }


def text(trace: Trace) -> str:
    """The contents of a trace's file: a line for each step and for each state."""
    fields = []
    for name, value in as_json(trace).items():
        lines = ",\n    ".join(map(json.dumps, value)) if name in ("steps", "states") and value else ""
        fields.append(f"  {json.dumps(name)}: " + (f"[\n    {lines}\n  ]" if lines else json.dumps(value)))
    return "{\n" + ",\n".join(fields) + "\n}\n"


def written_state(variables: tuple[Variable, ...], state: Values) -> dict[str, bool | int | str]:
    """A state as JSON."""
    return {variable.name: _written(variable, state[variable.name]) for variable in variables}


def _written(variable: Variable, number: int) -> bool | int | str:
    if variable.is_bool:
        return bool(number)
    return variable.labels[number] if variable.labels else number


# Reading.


def load(path: str) -> Trace:
    """Read a trace (``-``: from standard input), without a replay. ``InputError`` if the file is none, or
    is about a model, a property or variables that do not exist; the message says where."""
    place = "standard input" if path == "-" else path
    value = parse_json(read_bytes(path), place)
    if not isinstance(value, dict) or "avicheck" not in value:
        raise InputError("Content", "a trace of avicheck", "something else", place)
    if value["avicheck"] != FORMAT:
        raise InputError("avicheck", shown(FORMAT), shown(value["avicheck"]), place)
    return _trace(typed(value, File, place), place)


def _trace(file: File, place: str) -> Trace:
    if file.memory not in MEMORY_MODELS:
        raise not_one_of("memory", MEMORY_MODELS, file.memory, place)
    memory: MemoryModel = "tso" if file.memory == "tso" else "sc"
    choices = Choices(file.kernel, file.scope, memory, tuple(file.with_), tuple(file.without), file.assume)
    try:
        chosen = instance(file.model, choices)
    except InputError as error:
        thing = error.thing.removeprefix("--").lower()
        raise InputError(thing, error.expectation, error.came, place, error.hint) from error
    as_made = file.text == identity(chosen.system)
    try:
        states = tuple(_read_states(chosen.system.variables, file.states))
        trace = Trace(chosen, file.property, Run(states, tuple(file.steps), file.loop), as_made)
        _check_shape(trace, file)
    except InputError as error:
        hint = error.hint if as_made else CHANGED
        raise InputError(error.thing, error.expectation, error.came, place, hint) from error
    return trace


def _check_shape(trace: Trace, file: File) -> None:
    if trace.verdict != file.verdict:
        raise InputError("verdict", shown(trace.verdict), f"{shown(file.verdict)} for {shown(trace.asked)}")
    count = len(file.states)
    if count != len(file.steps) + 1:
        raise InputError("states", "one more than steps", f"{count} and {len(file.steps)}")
    if file.loop is not None and not 0 <= file.loop < count:
        raise InputError("loop", f"null or the number of a state, from 0 to {count - 1}", str(file.loop))


def _read_states(
    variables: tuple[Variable, ...], states: list[dict[str, bool | int | str]]
) -> Iterator[Values]:
    names = [variable.name for variable in variables]
    for i, state in enumerate(states):
        unknown = next((name for name in state if name not in names), None)
        if unknown is not None:
            raise not_one_of(f"Variable in states[{i}]", names, unknown)
        yield {variable.name: _read(variable, state, f"states[{i}]") for variable in variables}


def _read(variable: Variable, state: Mapping[str, bool | int | str], place: str) -> int:
    """The number of a variable's value in a state."""
    thing = f"{variable.name} in {place}"
    if variable.name not in state:
        raise InputError(thing, "given", "left out")
    value = state[variable.name]
    if variable.labels:
        if value not in variable.labels:
            raise not_one_of(thing, variable.labels, str(value))
        return variable.labels.index(str(value))
    if variable.is_bool:
        if not isinstance(value, bool):
            raise InputError(thing, "true or false", shown(value))
    elif not isinstance(value, int) or isinstance(value, bool) or not variable.lo <= value <= variable.hi:
        raise InputError(thing, f"an integer from {variable.lo} to {variable.hi}", shown(value))
    return int(value)
