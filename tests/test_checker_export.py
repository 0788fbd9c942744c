"""Concurrent models on the command line: ``avicheck export``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from avicheck.checker import export, systems
from avicheck.checker.cli import COMMANDS, main
from avicheck.checker.errors import InputError
from avicheck.encodings import to_btor2, to_murphi, to_promela, to_smt2, to_tla
from avicheck.encodings.expr import FALSE
from avicheck.encodings.transition import TransitionSystem, Variable
from tests.known.chosen import POINT


@pytest.fixture(autouse=True)
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model is registered."""
    monkeypatch.setattr(systems, "registered", lambda: {"counter": POINT})


def avicheck(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def system() -> TransitionSystem:
    return systems.instance("counter").system


@pytest.mark.parametrize("name", ["export", "peers"])
def test_a_command_on_concurrent_models_says_what_it_does(name: str) -> None:
    text = avicheck(name, "--help").output
    assert text.split("\n\n")[1].strip() == COMMANDS[name].summary
    assert f"Example: avicheck {name}" in text
    assert COMMANDS[name].summary in avicheck("--help").output


# avicheck export.


@pytest.mark.parametrize(
    ("language", "printer"),
    [
        ("promela", to_promela),
        ("murphi", to_murphi),
        ("tla", to_tla),
        ("smt2", to_smt2),
        ("btor2", to_btor2),
    ],
)
def test_export_prints_the_text(language: str, printer: object) -> None:
    result = avicheck("export", "counter", "--to", language)
    assert (result.exit_code, result.output) == (0, printer.text(system()))  # type: ignore[attr-defined]


def test_export_as_json_holds_the_text() -> None:
    output = avicheck("export", "counter", "--to", "tla", "--json").output
    assert json.loads(output) == {"model": "counter", "language": "tla", "text": to_tla.text(system())}


def test_export_writes_a_file(tmp_path: Path) -> None:
    result = avicheck("export", "counter", "--to", "btor2", "--output", str(tmp_path / "counter.btor2"))
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "counter.btor2").read_text() == to_btor2.text(system())


def test_export_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    result = avicheck("export", "counter", "--to", "tla", "--output", str(tmp_path / "old"))
    message = f"avicheck: --output must be a new file, not {tmp_path / 'old'}, which exists\n"
    assert (result.exit_code, result.stderr) == (3, message)
    assert (tmp_path / "old").read_text() == "old"


def test_export_names_a_file_that_it_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    result = avicheck("export", "counter", "--to", "tla", "--output", str(path))
    message = f"--output must be a file that can be written, not {path} (No such file or directory)"
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {message}\n")


def test_unknown_language_is_refused() -> None:
    result = avicheck("export", "counter", "--to", "promla")
    message = '--to must be one of promela, murphi, tla, smt2, btor2, not "promla"; did you mean promela?'
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {message}\n")


def test_what_a_language_cannot_say_is_bad_input() -> None:
    x = Variable("wide", 0, 2**40)
    wide = TransitionSystem("wide", (x,), ({"wide": 0},), (), (), FALSE)
    with pytest.raises(InputError) as raised:
        export.text(wide, "promela")
    message = "Promela, variable wide: Values must be numbers of 32 bits, not 0 to 1099511627776"
    assert str(raised.value) == message
