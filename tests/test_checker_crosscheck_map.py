"""``avicheck crosscheck apic-map``: every case of a small domain, by three voices."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import z3
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import enumerate_small
from avicheck.checker.cli import main
from avicheck.checker.crosscheck_map import SCOPES
from avicheck.checker.verdict import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_TOOL_ERROR
from avicheck.checker.voices import listen


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["crosscheck", "apic-map", *args])


def test_every_scope_has_its_name_on_the_command_line() -> None:
    assert set(SCOPES) == set(enumerate_small.SCOPES)


def test_report(snapshot: SnapshotAssertion) -> None:
    result = run("--scope", "quick-maps", "--kernel", "6.1")
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= 75
    assert result.output == snapshot


def test_json() -> None:
    told = json.loads(run("--scope", "quick-maps", "--json").output)
    assert (told["model"], told["verdict"]) == ("apic-map", "holds")
    only = told["scopes"][0]
    assert (only["configurations"], only["cases"], only["disagreements"]) == (2916, 11_664, [])


@pytest.fixture
def wrong_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules say that there is never a map."""
    usual = listen

    def planted(*args: Any) -> Any:
        voices = usual(*args)
        return replace(voices, stated={**voices.stated, "present": z3.BoolVal(False)})

    monkeypatch.setattr(enumerate_small, "listen", planted)


@pytest.mark.usefixtures("wrong_voice")
def test_a_disagreement_is_told_with_its_case() -> None:
    result = run("--scope", "quick-maps")
    assert result.exit_code == EXIT_TOOL_ERROR
    assert "present: specification 1, lifted 1, rules 0" in result.output
    assert "MapCase(kvm=Kvm(" in result.output
    assert max(map(len, result.output.splitlines())) <= 75


def test_an_interrupted_run_tells_what_it_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    usual: Callable[..., Any] = enumerate_small._Chorus.disagreements
    asked: list[int] = []

    def interrupted(*args: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return usual(*args)

    monkeypatch.setattr(enumerate_small, "CHUNK", 4096)
    monkeypatch.setattr(enumerate_small._Chorus, "disagreements", interrupted)
    result = run("--scope", "quick-maps", "--scope", "quick")
    assert result.exit_code == EXIT_INTERRUPTED
    assert "apic-map, three voices: unknown" in result.output
    assert "1,024       4,096       32,768  (interrupted)" in result.output
    assert "Scope quick:" not in result.output


def test_an_unknown_scope() -> None:
    result = run("--scope", "mops")
    assert result.exit_code == EXIT_BAD_INPUT
    assert "--scope must be one of quick-maps, quick, maps" in result.output
    assert "did you mean maps?" in result.output


def test_the_other_models_keep_their_options() -> None:
    text = CliRunner().invoke(main, ["crosscheck", "--help"]).output
    assert "--max-states" in text
    assert "avicheck crosscheck apic-map --help" in text
