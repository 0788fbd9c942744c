"""``avicheck bugs``: the table, its traces, its errors, its exit code."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import click
import pytest
from click.testing import CliRunner
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import bugs as module
from avicheck.checker.bugs import Row, bugs, tried
from avicheck.checker.engine import EngineResult
from avicheck.checker.errors import InputError
from avicheck.checker.verdict import Verdict
from avicheck.proofs.bugs import BUGS

CORPUS = {bug.name: bug for bug in BUGS}


@pytest.fixture(autouse=True)
def _models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "corpus", lambda: CORPUS)


def run(*args: str) -> tuple[int, str]:
    """The exit code and the output, without times."""
    printed = CliRunner().invoke(_returning, args, catch_exceptions=False)
    return printed.exit_code, re.sub(r" +\d+\.\d s", "  TIME", printed.stdout)


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def _returning(ctx: click.Context, args: tuple[str, ...]) -> None:
    ctx.exit(bugs.main(args=list(args), standalone_mode=False))


def test_table(snapshot: SnapshotAssertion) -> None:
    code, text = run("INH-03b", "INH-04")
    assert code == 0
    assert text == snapshot


def test_trace(snapshot: SnapshotAssertion) -> None:
    code, text = run("INH-11b", "--trace")
    assert code == 0
    assert text == snapshot


def test_lines_fit_a_mail() -> None:
    _, text = run("INH-04", "INH-14a", "--trace")
    assert max(map(len, text.splitlines())) <= module.WIDTH


def test_json_has_the_runs() -> None:
    code, text = run("INH-09a", "--json")
    trials = json.loads(text)["trials"]
    assert code == 0
    assert [(t["trial"], t["verdict"], t["depth"]) for t in trials] == [
        ("without fix", "violated", 2),
        ("with fix", "holds", 7),
    ]
    assert trials[0]["trace"]["fired"] == ["vcpu.set_lapic(masks=True)", "vcpu.enter"]
    assert trials[0]["not_known_fixed_in"] == ["6.1", "6.12", "6.16"]


def test_bug_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    bug = CORPUS["INH-09a"]
    wrong = replace(bug, trials=(replace(bug.trials[0], off=()), bug.trials[1]))
    monkeypatch.setattr(module, "corpus", lambda: {wrong.name: wrong})
    code, text = run()
    assert code == 1
    assert "expected: violated" in text
    assert text.endswith("1 bug: 1 of 2 trials as history says.\n")


def test_limit_is_no_conclusion() -> None:
    row = next(tried(CORPUS["INH-09a"]))
    result: EngineResult = replace(row.result, verdict=Verdict.UNKNOWN)
    assert Row(row.bug, row.trial, result).conclusion is Verdict.UNKNOWN


def test_unknown_bug() -> None:
    with pytest.raises(InputError, match=r'^Bug must be one of .*, not "INH-99"'):
        run("INH-99")


def test_trace_beside_json() -> None:
    with pytest.raises(InputError, match=r"^--trace must be left out beside --json, which has the runs, not"):
        run("INH-02", "--trace", "--json")
