"""Traces as files, and their replay."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from avicheck.checker import systems
from avicheck.checker.errors import InputError
from avicheck.checker.systems import Choices, instance
from avicheck.checker.trace import CHANGED, Trace, load, text
from avicheck.checker.trace_replay import Contradiction, Misfit, replayed
from avicheck.encodings.expr import FALSE, TRUE, constant
from avicheck.encodings.transition import Run, TransitionSystem, successors
from tests.known.described import CASES, POINTS, sample

Fields = dict[str, Any]


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known models are registered."""
    monkeypatch.setattr(systems, "registered", lambda: POINTS)


def written(folder: Path, shown: Trace, change: Callable[[Fields], object] = lambda fields: None) -> str:
    """A trace's file, after a change of its fields."""
    fields = json.loads(text(shown))
    change(fields)
    path = folder / "t.json"
    path.write_text(json.dumps(fields))
    return str(path)


def put(*path: str | int, value: object) -> Callable[[Fields], object]:
    """A change: another value at a path."""

    def change(fields: Fields) -> None:
        place: Any = fields
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value

    return change


# Files.


@pytest.mark.parametrize("name", CASES)
def test_a_trace_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    shown = sample(name)
    read = load(written(tmp_path, shown))
    assert (read.asked, read.run, read.as_made) == (shown.asked, shown.run, True)
    assert read.instance.options == shown.instance.options
    assert read.instance.as_json() == shown.instance.as_json()


@pytest.mark.parametrize("name", CASES)
def test_a_trace_that_was_read_fits(name: str, tmp_path: Path) -> None:
    replayed(load(written(tmp_path, sample(name))))


def test_a_trace_is_a_line_for_each_step_and_state(tmp_path: Path) -> None:
    shown = sample("shelf")
    lines = text(shown).splitlines()
    assert '    "reader[0].take",' in lines
    assert sum(line.startswith('    {"books"') for line in lines) == len(shown.run.states)


def test_a_trace_says_what_it_shows() -> None:
    violated, witness = sample("shelf"), sample("shelf, reached")
    assert (violated.verdict, witness.verdict, replace(violated, asked=None).verdict) == (
        "violated",
        "witness",
        None,
    )


MALFORMED: list[tuple[Callable[[Fields], object], str]] = [
    (put("avicheck", value="trace 2"), 'avicheck must be "trace 1", not "trace 2"'),
    (
        put("model", value="shell"),
        'model must be one of shelf, peterson, philosophers, token-ring, not "shell"; did you mean shelf?',
    ),
    (put("kernel", value="6.1"), 'kernel must be one of any, not "6.1"'),
    (put("scope", "readers", value=9), "scope readers must be from 1 to 3, not 9"),
    (put("scope", "vcpus", value=2), 'scope must be one of readers, not "vcpus"'),
    (put("memory", value="arm"), 'memory must be one of sc, tso, not "arm"'),
    (put("without", value=["x"]), 'without must be one of breaks, not "x"'),
    (
        put("property", value="lihgt"),
        'property must be one of light, marked, steps-succeed, deadlock-free, not "lihgt"; '
        "did you mean light?",
    ),
    (put("verdict", value="witness"), 'verdict must be "violated", not "witness" for "light"'),
    (put("loop", value=7), "loop must be null or the number of a state, from 0 to 2, not 7"),
    (put("loop", value=-1), "loop must be null or the number of a state, from 0 to 2, not -1"),
    (put("steps", value=[]), "states must be one more than steps, not 3 and 0"),
    (lambda fields: fields.pop("states"), "states must be given, not left out"),
    (put("more", value=1), "Field must be one of"),
    (put("steps", 0, value=3), "steps[0] must be a string, not 3"),
    (
        put("states", 1, "reader[0].pc", value="tack"),
        'reader[0].pc in states[1] must be one of take, put, look, done, not "tack"; did you mean take?',
    ),
    (
        put("states", 1, "reader[0].has", value=1),
        "reader[0].has in states[1] must be true or false, not 1",
    ),
    (
        put("states", 2, "books", value=3),
        "books in states[2] must be an integer from 0 to 2, not 3",
    ),
    (
        put("states", 2, "books", value=True),
        "books in states[2] must be an integer from 0 to 2, not true",
    ),
    (put("states", 0, "bokks", value=1), "Variable in states[0] must be one of books"),
    (lambda fields: fields["states"][2].pop("marked"), "marked in states[2] must be given, not left out"),
]


@pytest.mark.parametrize(("change", "message"), MALFORMED)
def test_a_malformed_trace_says_where(
    change: Callable[[Fields], object], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, sample("shelf"), change)
    with pytest.raises(InputError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "Content must be a trace of avicheck, not something else"),
        ("[1]", "Content must be a trace of avicheck, not something else"),
        ("{", "Content must be JSON, not"),
    ],
)
def test_another_file_is_no_trace(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        load(str(path))
    assert str(raised.value).startswith(f"{path}: {message}")


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="File must be readable, not missing"):
        load(str(tmp_path / "none.json"))


def test_variables_of_another_text_of_the_model_are_told_so(tmp_path: Path) -> None:
    path = written(tmp_path, sample("shelf"), lambda fields: fields.update(text="0", states=[{}] * 3))
    with pytest.raises(InputError, match=f"left out; {CHANGED}"):
        load(path)


# Replay.


def test_every_run_at_random_fits() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        chosen = instance("peterson", Choices(memory="tso"))
        states, fired = [rng.choice(chosen.system.initial)], []
        for _ in range(30):
            transition, after = rng.choice(successors(chosen.system, states[-1]))
            states.append(after)
            fired.append(transition.name)
        replayed(Trace(chosen, None, Run(tuple(states), tuple(fired))))


MISFITS: list[tuple[str, Callable[[Fields], object], int | None, str]] = [
    (
        "shelf",
        put("states", 0, "marked", value=1),
        0,
        "state 0 must be an initial state, with marked = NULL, not 1",
    ),
    (
        "shelf",
        put("steps", 1, value="reader[0].putt"),
        2,
        "step 2 must be one of the model's, not reader[0].putt; did you mean reader[0].put?",
    ),
    (
        "shelf",
        put("steps", 1, value="reader[1].put"),
        2,
        "step 2 (reader[1].put) must be enabled, not blocked: reader[1] at take",
    ),
    (
        "dining",
        put("steps", 1, value="philosopher[0].take_second"),
        2,
        "after step 2 (philosopher[0].take_second) philosopher[0].pc must be eat, not take_second",
    ),
    (
        "shelf",
        put("states", 2, "marked", value=1),
        2,
        "after step 2 (reader[0].put) marked must be 0, not 1",
    ),
    (
        "token-ring",
        put("loop", value=1),
        3,
        "the last state must be state 1 again, with token = 1, not 0",
    ),
]


@pytest.mark.parametrize(("name", "change", "step", "message"), MISFITS)
def test_a_misfit_says_where_and_why(
    name: str, change: Callable[[Fields], object], step: int | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(Misfit) as raised:
        replayed(load(written(tmp_path, sample(name), change)))
    assert (raised.value.step, str(raised.value)) == (step, message)


def test_a_step_that_has_to_wait_says_for_what() -> None:
    shown = sample("dining")
    run = Run((*shown.run.states, shown.run.states[-1]), (*shown.run.fired, "philosopher[0].take_second"))
    message = r"step 3 \(philosopher\[0\].take_second\) must be enabled, not blocked: fork\[1\] is true"
    with pytest.raises(Misfit, match=message):
        replayed(Trace(shown.instance, None, run))


def test_a_step_that_fails_says_how() -> None:
    shown = sample("shelf, broken")
    run = Run((*shown.run.states, shown.run.states[-1]), (*shown.run.fired, "reader[0].look"))
    with pytest.raises(Misfit, match=r"must succeed, not fail: AssertionError \(the shelf breaks\)"):
        replayed(Trace(shown.instance, None, run))


def test_a_run_that_does_not_show_what_it_claims_is_a_misfit() -> None:
    shown = sample("shelf")
    short = Run(shown.run.states[:-1], shown.run.fired[:-1])
    with pytest.raises(Misfit, match="light must be false in the last state") as raised:
        replayed(Trace(shown.instance, "light", short))
    assert raised.value.step is None


def test_a_misfit_tells_that_the_model_has_changed(tmp_path: Path) -> None:
    change = put("states", 2, "marked", value=1)
    path = written(tmp_path, sample("shelf"), lambda fields: (change(fields), fields.update(text="0")))
    with pytest.raises(Misfit, match=f"not 1; {CHANGED}"):
        replayed(load(path))


def test_a_trace_of_another_text_may_fit(tmp_path: Path) -> None:
    read = load(written(tmp_path, sample("shelf"), put("text", value="0")))
    assert not read.as_made
    replayed(read)


# Planted faults.


def faulty(shown: Trace, change: Callable[[TransitionSystem], TransitionSystem]) -> Trace:
    """A trace whose model has a fault in its transition system alone."""
    chosen = replace(shown.instance)
    encoding = shown.instance.encoding
    vars(chosen)["encoding"] = replace(encoding, system=change(encoding.system))
    return replace(shown, instance=chosen)


def with_step(system: TransitionSystem, name: str, **changes: Any) -> TransitionSystem:
    steps = (replace(step, **changes) if step.name == name else step for step in system.transitions)
    return replace(system, transitions=tuple(steps))


@pytest.mark.parametrize("changes", [{"guard": FALSE}, {"updates": {"books": constant(0)}}])
def test_a_system_that_differs_from_its_model_is_noticed(changes: dict[str, Any]) -> None:
    shown = faulty(sample("shelf"), lambda system: with_step(system, "reader[0].put", **changes))
    with pytest.raises(Contradiction):
        replayed(shown)


def test_a_property_that_differs_from_its_predicate_is_noticed() -> None:
    def change(system: TransitionSystem) -> TransitionSystem:
        return replace(system, properties=tuple(replace(prop, holds=TRUE) for prop in system.properties))

    with pytest.raises(Contradiction, match="marked and its expression differ in state 0"):
        replayed(faulty(sample("shelf, reached"), change))
