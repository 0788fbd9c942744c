"""``avicheck trace show``, ``replay`` and ``diff``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import systems
from avicheck.checker.cli import main
from avicheck.checker.errors import InputError
from avicheck.checker.systems import Choices, instance
from avicheck.checker.trace import Trace, text
from avicheck.checker.trace_columns import trace_lines
from avicheck.checker.trace_diff import difference, lines
from avicheck.checker.trace_forms import FORMS
from avicheck.encodings.transition import Run
from tests.known.described import POINTS, run_of, sample


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known models are registered."""
    monkeypatch.setattr(systems, "registered", lambda: POINTS)


def avicheck(*args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, args, input=stdin)


def shelf(*names: str) -> Trace:
    chosen = instance("shelf")
    return Trace(chosen, None, run_of(chosen, *names))


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "shelf.json"
    path.write_text(text(sample("shelf")))
    return str(path)


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    """A trace that does not fit."""
    path = tmp_path / "wrong.json"
    path.write_text(text(sample("shelf")).replace("reader[0].put", "reader[1].put"))
    return str(path)


# Show.


def test_show_prints_columns(file: str) -> None:
    shown = sample("shelf")
    result = avicheck("trace", "show", file)
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        trace_lines(shown.instance, "light", shown.run),
    )


@pytest.mark.parametrize("form", FORMS)
def test_show_prints_every_form(form: str, file: str) -> None:
    assert avicheck("trace", "show", file, "--form", form).stdout == FORMS[form](sample("shelf"))


def test_show_reads_standard_input(file: str) -> None:
    stdin = Path(file).read_text()
    assert avicheck("trace", "show", "-", "--json", stdin=stdin).stdout == stdin


def test_show_refuses_a_trace_that_does_not_fit(wrong: str) -> None:
    result = avicheck("trace", "show", wrong)
    assert (result.exit_code, result.stdout, result.stderr) == (
        3,
        "",
        f"avicheck: {wrong}: Trace must be a run of the model, not one that does not fit: "
        "step 2 (reader[1].put) must be enabled, not blocked: reader[1] at take\n",
    )


def test_two_forms_are_refused(file: str) -> None:
    result = avicheck("trace", "show", file, "--json", "--form", "svg")
    assert (result.exit_code, result.stderr) == (3, "avicheck: --form must be json beside --json, not svg\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "trace: Command must be one of show, replay, diff, not left out"),
        (("shwo",), 'trace: Command must be one of show, replay, diff, not "shwo"; did you mean show?'),
        (
            ("show", "x", "--form", "itv"),
            "--form must be one of columns, diff, full, json, itf, mermaid, svg, "
            'not "itv"; did you mean itf?',
        ),
        (("show", "none.json"), "none.json: File must be readable, not missing"),
        (("replay", "none.json"), "none.json: File must be readable, not missing"),
    ],
)
def test_bad_input_gets_one_sentence(args: tuple[str, ...], message: str) -> None:
    result = avicheck("trace", *args)
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {message}\n")


# Replay.


def test_replay_says_that_a_trace_fits(file: str) -> None:
    result = avicheck("trace", "replay", file)
    expected = f"{file}: the trace fits in all its 2 steps, and light is violated.\n"
    assert (result.exit_code, result.stdout) == (0, expected)


def test_replay_says_where_a_trace_does_not_fit(wrong: str) -> None:
    result = avicheck("trace", "replay", wrong)
    expected = f"{wrong}: step 2 (reader[1].put) must be enabled, not blocked: reader[1] at take.\n"
    assert (result.exit_code, result.stdout) == (1, expected)


def test_replay_in_json(file: str, wrong: str) -> None:
    fits = json.loads(avicheck("trace", "replay", file, "--json").stdout)
    assert fits == {"fits": True, "step": None, "why": None, "as_made": True, "steps": 2}
    misfit = json.loads(avicheck("trace", "replay", wrong, "--json").stdout)
    assert (misfit["fits"], misfit["step"]) == (False, 2)


def test_replay_tells_that_the_text_has_changed(tmp_path: Path) -> None:
    fields = {**json.loads(text(sample("shelf"))), "text": "0"}
    path = tmp_path / "old.json"
    path.write_text(json.dumps(fields))
    result = avicheck("trace", "replay", str(path))
    assert result.exit_code == 0
    assert "the model's text has changed since the trace was made" in result.stdout


# Diff.


def test_a_trace_is_the_same_as_itself(file: str) -> None:
    result = avicheck("trace", "diff", file, file)
    assert (result.exit_code, result.stdout) == (0, "The traces are the same.\n")


def test_traces_part_where_their_steps_differ() -> None:
    found = difference(shelf("reader[0].take", "reader[0].put"), shelf("reader[0].take", "reader[1].take"))
    assert (found.common, [step.number for step in found.apart]) == (1, [2])
    assert found.apart[0].steps == ("reader[0].put", "reader[1].take")
    assert found.apart[0].values["books"] == ("1", "0")


def test_only_new_differences_are_told_after_each_step() -> None:
    found = difference(
        shelf("reader[0].take", "reader[0].put", "reader[1].take"),
        shelf("reader[0].take", "reader[1].take", "reader[0].put"),
    )
    assert found.apart[0].values["books"] == ("1", "0")
    assert (found.apart[1].values, found.at_end) == ({}, {})


def test_the_shorter_trace_has_ended() -> None:
    found = difference(shelf("reader[0].take"), shelf("reader[0].take", "reader[0].put"))
    assert (found.common, found.apart[0].steps) == (1, (None, "reader[0].put"))


def test_traces_that_begin_otherwise_part_at_once() -> None:
    chosen = instance("shelf")
    other = Trace(chosen, None, Run(chosen.system.initial[1:], ()))
    found = difference(shelf(), other)
    assert (found.at_first, found.same) == ({"books": ("0", "1")}, False)


def test_what_is_chosen_otherwise_is_told() -> None:
    chosen = instance("shelf", Choices(scope={"readers": 3}))
    found = difference(shelf(), Trace(chosen, None, Run(chosen.system.initial[:1], ())))
    assert found.chosen == {"scope": ("readers=2", "readers=3")}
    assert found.variables["reader[2].has"] == (None, "reader[2].has")


def test_a_loop_elsewhere_is_a_difference() -> None:
    lasso = sample("token-ring")
    straight = Trace(lasso.instance, None, replace(lasso.run, loop=None))
    found = difference(replace(lasso, asked=None), straight)
    assert (found.loops, found.same) == (("0", "none"), False)


def test_traces_of_two_models_are_refused() -> None:
    with pytest.raises(InputError, match="The second trace must be of shelf, not of peterson"):
        difference(sample("shelf"), sample("peterson"))


def test_difference_reads(snapshot: SnapshotAssertion) -> None:
    found = difference(
        sample("shelf"), shelf("reader[1].take", "reader[0].take", "reader[0].put", "reader[0].look")
    )
    assert "\n".join(lines(found, ("shelf.json", "other.json"))) == snapshot


def test_diff_in_json_says_what_the_text_says(tmp_path: Path, file: str) -> None:
    other = tmp_path / "other.json"
    other.write_text(text(shelf("reader[0].take")))
    result = avicheck("trace", "diff", file, str(other), "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["same"], found["at_first"]) == (1, False, {"books": ["1", "0"]})
