"""A matrix as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import systems
from avicheck.checker.cli import main
from avicheck.checker.engines import Limits
from avicheck.checker.matrix import plan
from avicheck.checker.matrix_report import markdown, properties
from avicheck.checker.matrix_runs import Cell, Matrix, fill
from avicheck.checker.systems import instance
from avicheck.checker.verdict import Verdict
from tests.known import relying


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "registered", lambda: {"relying": relying.POINT})


def filled(*names: str) -> Matrix:
    found = plan(instance("relying"), names, (), None, 100)
    fill(found, "explicit", Limits(60.0), 1)
    return found


def test_report(snapshot: SnapshotAssertion) -> None:
    assert markdown(filled("right", "in-time")) == snapshot


def test_what_is_open_is_told() -> None:
    found = filled("right")
    found.cells["right"][frozenset()] = Cell(Verdict.UNKNOWN, None, None, "", 0.0)
    assert f"| right | {len(found.under('right', [Verdict.HOLDS]))} of 24, open under 1 |" in properties(
        found
    )


def test_file_is_written(tmp_path: Path) -> None:
    file = tmp_path / "matrix.md"
    args: list[Any] = ["matrix", "relying", "--vary", "clock", "--jobs", "1", "--report", file]
    result = CliRunner().invoke(main, list(map(str, args)))
    assert result.exit_code == 0
    assert "| right | 1 of 2 | `clock=wrong` (1)" in file.read_text()


def test_file_that_exists_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "matrix.md"
    file.write_text("mine")
    result = CliRunner().invoke(main, ["matrix", "relying", "--report", str(file)])
    message = f"avicheck: --report must be a new file, not {file}, which exists\n"
    assert (result.exit_code, result.stderr, file.read_text()) == (3, message, "mine")


def test_with_few_deviations_it_says_what_else_holds() -> None:
    found = plan(instance("relying"), ("right",), (), 2, 100)
    fill(found, "explicit", Limits(60.0), 1)
    assert properties(found).endswith(" (1) | all others |")
    clock, colour = ("clock", "wrong"), ("colour", "green")
    masked = frozenset({clock, colour})
    found.cells["right"][masked] = found.cells["right"][frozenset()]
    assert properties(found).endswith("| all others; `clock=wrong` + `colour=green` |")
