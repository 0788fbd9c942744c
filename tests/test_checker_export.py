"""Concurrent models on the command line: which there are, their scopes, ``avicheck export``."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from avicheck.checker import export, systems
from avicheck.checker.cli import COMMANDS, SYSTEM_COMMANDS, commands, main
from avicheck.checker.errors import InputError
from avicheck.checker.systems import GROUP, Scope, SystemModel
from avicheck.encodings import to_btor2, to_murphi, to_promela, to_smt2, to_tla
from avicheck.encodings.expr import FALSE, TRUE, add, constant, le
from avicheck.encodings.transition import Transition, TransitionSystem, Variable
from tests.known.small import ONE, lights


def counter(scope: Scope) -> TransitionSystem:
    """Counts to a size of the scope, ``first`` times ``second``."""
    top = scope["first"] * scope["second"]
    x = Variable("x", 0, top)
    step = Transition("count", "t", "l", le(x.expr, constant(top - 1)), {"x": add(x.expr, ONE)})
    return TransitionSystem("counter", (x,), ({"x": 0},), (step,), (), TRUE)


COUNTER = SystemModel({"first": 2, "second": 3}, counter)
LIGHTS = SystemModel({}, lambda _scope: lights())


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models, registered."""
    points = {name: EntryPoint(name, f"{__name__}:{name.upper()}", GROUP) for name in ("counter", "lights")}
    monkeypatch.setattr(systems, "registered", lambda: points)


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "registered", dict)


def avicheck(*args: str) -> Result:
    return CliRunner().invoke(main, args)


# The registry.


@pytest.mark.usefixtures("models")
def test_sizes_left_out_are_the_model_s_own() -> None:
    assert systems.systems("counter", {"second": 5}) == counter({"first": 2, "second": 5})


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("model", "sizes", "message"),
    [
        ("countr", {}, 'Model must be one of counter, lights, not "countr"; did you mean counter?'),
        (
            "counter",
            {"frist": 1},
            '--scope must be one of first, second, not "frist"; did you mean first?',
        ),
    ],
)
def test_unknown_model_or_size_is_refused(model: str, sizes: Scope, message: str) -> None:
    with pytest.raises(InputError) as raised:
        systems.systems(model, sizes)
    assert str(raised.value) == message


def test_registered_models_are_those_of_the_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("counter", "nowhere:COUNTER", GROUP)
    monkeypatch.setattr(systems, "entry_points", lambda group: [point] if group == GROUP else [])
    systems.registered.cache_clear()
    try:
        assert systems.registered() == {"counter": point}
    finally:
        systems.registered.cache_clear()


@pytest.mark.usefixtures("no_models")
def test_without_models_there_are_no_commands_on_them() -> None:
    assert commands() == COMMANDS
    assert not {line.split()[0] for line in avicheck("--help").output.splitlines() if line} & {
        *SYSTEM_COMMANDS
    }


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize("name", SYSTEM_COMMANDS)
def test_without_models_such_a_command_is_unknown(name: str) -> None:
    result = avicheck(name, "lights")
    assert result.exit_code == 3
    assert result.stderr.startswith("avicheck: Command must be one of models, ")


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", SYSTEM_COMMANDS)
def test_with_models_such_a_command_says_what_it_does(name: str) -> None:
    text = avicheck(name, "--help").output
    assert text.split("\n\n")[1].strip() == SYSTEM_COMMANDS[name].summary
    assert f"Example: avicheck {name}" in text
    assert SYSTEM_COMMANDS[name].summary in avicheck("--help").output


# Scopes on the command line.


@pytest.mark.usefixtures("models")
def test_sizes_are_given_one_by_one() -> None:
    output = avicheck(
        "export", "counter", "--to", "murphi", "--scope", "first=4", "--scope", "second=5"
    ).output
    assert output == to_murphi.text(counter({"first": 4, "second": 5}))


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (["first"], '--scope must be a name and a number from 1 on, such as vcpus=2, not "first"'),
        (["=2"], '--scope must be a name and a number from 1 on, such as vcpus=2, not "=2"'),
        (["first=0"], '--scope must be a name and a number from 1 on, such as vcpus=2, not "first=0"'),
        (["first=²"], '--scope must be a name and a number from 1 on, such as vcpus=2, not "first=²"'),
        (["first=1", "first=2"], "--scope must be given once for each size, not twice for first"),
    ],
)
def test_malformed_scope_is_refused(sizes: list[str], message: str) -> None:
    result = avicheck(
        "export", "counter", "--to", "tla", *(part for size in sizes for part in ("--scope", size))
    )
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {message}\n")


# avicheck export.


@pytest.mark.usefixtures("models")
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
    result = avicheck("export", "lights", "--to", language)
    assert (result.exit_code, result.output) == (0, printer.text(lights()))  # type: ignore[attr-defined]


@pytest.mark.usefixtures("models")
def test_export_as_json_holds_the_text() -> None:
    output = avicheck("export", "lights", "--to", "tla", "--json").output
    assert json.loads(output) == {"model": "lights", "language": "tla", "text": to_tla.text(lights())}


@pytest.mark.usefixtures("models")
def test_export_writes_a_file(tmp_path: Path) -> None:
    result = avicheck("export", "lights", "--to", "btor2", "--output", str(tmp_path / "lights.btor2"))
    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "lights.btor2").read_text() == to_btor2.text(lights())


@pytest.mark.usefixtures("models")
def test_export_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    result = avicheck("export", "lights", "--to", "tla", "--output", str(tmp_path / "old"))
    message = f"avicheck: --output must be a new file, not {tmp_path / 'old'}, which exists\n"
    assert (result.exit_code, result.stderr) == (3, message)
    assert (tmp_path / "old").read_text() == "old"


@pytest.mark.usefixtures("models")
def test_export_names_a_file_that_it_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    result = avicheck("export", "lights", "--to", "tla", "--output", str(path))
    message = f"--output must be a file that can be written, not {path} (No such file or directory)"
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {message}\n")


@pytest.mark.usefixtures("models")
def test_unknown_language_is_refused() -> None:
    result = avicheck("export", "lights", "--to", "promla")
    message = '--to must be one of promela, murphi, tla, smt2, btor2, not "promla"; did you mean promela?'
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {message}\n")


def test_what_a_language_cannot_say_is_bad_input() -> None:
    x = Variable("wide", 0, 2**40)
    system = TransitionSystem("wide", (x,), ({"wide": 0},), (), (), FALSE)
    with pytest.raises(InputError) as raised:
        export.text(system, "promela")
    message = "Promela, variable wide: Values must be numbers of 32 bits, not 0 to 1099511627776"
    assert str(raised.value) == message
