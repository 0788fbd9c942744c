"""The command line as a whole: help, version, endings and their exit codes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import click
import pytest
from click.testing import CliRunner

from avicheck.checker.cli import COMMANDS, Entry, main
from avicheck.checker.errors import InputError, nearest
from avicheck.checker.models import MODELS
from avicheck.checker.verdict import EXIT_CODES, Verdict, worst
from avicheck.spec.kernels import KERNELS, Fix

DATA = Path(__file__).parent / "data"
START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); import conftest;"
    "runpy.run_module('avicheck.checker', run_name='__main__')"
)


def avicheck(*args: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    command = [sys.executable, "-c", START, str(Path(__file__).parent), *args]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | int]:
    """A command ``planted`` that ends as the test says."""
    ending: list[BaseException | int] = []

    @click.command()
    def command() -> int:
        """End."""
        if isinstance(ending[0], BaseException):
            raise ending[0]
        return ending[0]

    monkeypatch.setitem(COMMANDS, "planted", Entry(f"{__name__}:planted_command", "End."))
    monkeypatch.setattr(importlib, "import_module", lambda name: _Module(command))
    return ending


class _Module:
    def __init__(self, command: click.Command) -> None:
        self.planted_command = command


def test_help_lists_every_command_and_exit_code() -> None:
    output = CliRunner().invoke(main, ["--help"]).output
    listed = [line.split()[0] for line in output.splitlines() if line.startswith("  ") and line.strip()]
    assert {*COMMANDS, *(str(code) for code in EXIT_CODES)} <= set(listed)


@pytest.mark.parametrize("name", COMMANDS)
def test_summary_is_the_first_sentence_of_the_help(name: str) -> None:
    text = CliRunner().invoke(main, [name, "--help"]).output
    assert text.split("\n\n")[1].strip() == COMMANDS[name].summary


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str) -> None:
    assert f"Example: avicheck {name}" in CliRunner().invoke(main, [name, "--help"]).output


def test_help_imports_no_heavy_library() -> None:
    script = "import conftest, avicheck.checker.cli as c, sys; c.main(['--help'], standalone_mode=False)"
    check = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
try: {script}
except SystemExit: pass
heavy = {{'z3', 'rich', 'numpy', 'msgspec', 'jinja2', 'networkx', 'scipy', 'llvmlite'}}
print(sorted(heavy & set(sys.modules)))"""
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_version_is_printed() -> None:
    assert CliRunner().invoke(main, ["--version"]).output.startswith("avicheck ")


@pytest.mark.parametrize(
    ("ending", "code", "message"),
    [
        (0, 0, ""),
        (4, 4, ""),
        (InputError("Size", "small", "big", "here"), 3, "avicheck: here: Size must be small, not big\n"),
        (click.UsageError("No."), 3, "avicheck: No; see 'avicheck planted --help'\n"),
        (KeyboardInterrupt(), 5, "\navicheck: interrupted\n"),
    ],
)
def test_ending_has_its_code(
    planted: list[BaseException | int], ending: BaseException | int, code: int, message: str
) -> None:
    planted.append(ending)
    result = CliRunner().invoke(main, ["planted"])
    assert (result.exit_code, result.stderr) == (code, message)


def test_tool_error_has_its_code_and_asks_for_a_report(planted: list[BaseException | int]) -> None:
    planted.append(RuntimeError("boom"))
    result = CliRunner().invoke(main, ["planted"])
    assert result.exit_code == 70
    assert result.stderr.endswith("avicheck: internal error, please report it: RuntimeError: boom\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "Command must be one of models, route, conform, not left out; see 'avicheck --help'"),
        (["modles"], 'Command must be one of models, route, conform, not "modles"; did you mean models?'),
        (
            ["models", "apic-map", "more"],
            "Got unexpected extra argument (more); see 'avicheck models --help'",
        ),
        (["route"], "Missing argument 'CONFIG'; see 'avicheck route --help'"),
        (["conform"], "FILE must be given at least once, not left out"),
        (["conform", "--jobs", "0", "x"], '--jobs must be an integer from 1 to 1024, not "0"'),
    ],
)
def test_unusable_command_line_is_one_line(
    args: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(COMMANDS) - {"models", "route", "conform"}:
        monkeypatch.delitem(COMMANDS, name)
    result = CliRunner().invoke(main, args)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"avicheck: {message}\n")


def test_process_exits_with_the_code_and_no_traceback(tmp_path: Path) -> None:
    result = avicheck("route", str(tmp_path / "no.json"), "--dest", "1")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr == f"avicheck: {tmp_path}/no.json: File must be readable, not missing\n"


def test_full_disk_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        result = avicheck("models", stdout=full)
    assert (result.returncode, result.stderr) == (
        3,
        "avicheck: Output must be written in full, not No space left on device\n",
    )


def test_absent_reader_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = avicheck("models", stdout=writer)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


def test_every_exit_code_of_a_verdict_is_documented() -> None:
    assert {verdict.exit_code for verdict in Verdict} <= set(EXIT_CODES)


def test_only_holds_and_proved_succeed() -> None:
    assert {verdict for verdict in Verdict if verdict.exit_code == 0} == {Verdict.HOLDS, Verdict.PROVED}


def test_verdicts_that_do_not_succeed_have_codes_of_their_own() -> None:
    codes = [verdict.exit_code for verdict in Verdict if verdict.exit_code]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("verdicts", "result"),
    [
        ([Verdict.PROVED, Verdict.HOLDS], Verdict.HOLDS),
        ([Verdict.HOLDS, Verdict.HOLDS_TO_DEPTH], Verdict.HOLDS_TO_DEPTH),
        ([Verdict.VIOLATED, Verdict.UNKNOWN, Verdict.NOT_INDUCTIVE], Verdict.VIOLATED),
        ([Verdict.TOOL_ERROR, Verdict.VIOLATED], Verdict.TOOL_ERROR),
    ],
)
def test_worst_verdict_counts(verdicts: list[Verdict], result: Verdict) -> None:
    assert worst(verdicts) is result


def test_worst_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        worst([])


def test_error_is_one_line_whatever_it_quotes() -> None:
    assert str(InputError("A\nb", "c", "\x1b[31m")) == "A\\nb must be c, not \\x1b[31m"


def test_nearest_word_is_suggested_whatever_its_case() -> None:
    assert nearest("fasst", ["slow", "Fast"]) == "did you mean Fast?"


def test_far_word_is_not_suggested() -> None:
    assert nearest("zebra", ["slow", "fast"]) == ""


def test_models_are_listed_with_the_titles_of_their_fixes() -> None:
    listed = json.loads(CliRunner().invoke(main, ["models", "--json"]).output)["models"]
    kernels = {name: sorted(fix.value for fix in kernel.fixes) for name, kernel in KERNELS.items()}
    assert {model["name"]: model["kernels"] for model in listed} == dict.fromkeys(MODELS, kernels)


def test_models_text_names_each_fix_once() -> None:
    lines = CliRunner().invoke(main, ["models"]).output.splitlines()
    titles = [line.partition("+ ")[2] for line in lines if "+ " in line]
    assert sorted(titles) == sorted(fix.value for fix in Fix)


def test_a_command_that_works_on_several_processes_leaves_none() -> None:
    samples = sorted(map(str, (DATA / "vectors").glob("*.gz")))
    command = [sys.executable, "-c", START, str(Path(__file__).parent), "conform", "--jobs", "2", *samples]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.count("all agree") == len(samples)
