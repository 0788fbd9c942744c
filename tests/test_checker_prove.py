"""``avicheck prove``: what is archived is what was solved, and a second solver is asked honestly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from avicheck.checker import solve
from avicheck.checker.cli import main
from avicheck.checker.solve import Answer, Query, solve_text

CLAIMS = ("--claim", "owned", "--claim", "one-owner")


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["prove", "apic-map", "--vcpus", "2", "--jobs", "1", *CLAIMS, *args])


def manifest(folder: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text())["queries"]
    return told


def test_every_answer_is_archived_and_confirmed(tmp_path: Path) -> None:
    result = run("--archive", str(tmp_path / "a"), "--recheck", "bitwuzla")
    assert result.exit_code == 1  # one-owner is violated
    entries = manifest(tmp_path / "a")
    assert {entry["group"] for entry in entries} == {"owned", "one-owner", "lifting"}
    for entry in entries:
        text = (tmp_path / "a" / entry["file"]).read_text()
        assert hashlib.sha256(text.encode()).hexdigest() == entry["sha256"]
        assert solve_text(text).status == entry["answer"] == entry["recheck"]["answer"]


def test_scripts_say_what_they_are_for(tmp_path: Path) -> None:
    run("--archive", str(tmp_path))
    text = (tmp_path / "owned/6.19/2/vcpu0.smt2").read_text()
    assert text.startswith("; owned/6.19/2/vcpu0: With the map present every enabled APIC's physical ID has")
    assert "(set-info :status unsat)" in text


def second_solver_answers(status: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bitwuzla answer so to everything."""

    def answers(queries: list[Query], *, solver: str = "z3", **rest: Any) -> Iterator[tuple[Query, Answer]]:
        if solver == "z3":
            yield from real(queries, solver=solver, **rest)
        else:
            yield from ((query, Answer(status, solver, 0.0)) for query in queries)

    real = solve.solve_all
    monkeypatch.setattr(solve, "solve_all", answers)


def test_a_lying_second_solver_is_a_tool_error(monkeypatch: pytest.MonkeyPatch) -> None:
    second_solver_answers("sat", monkeypatch)
    result = run("--recheck", "bitwuzla")
    assert result.exit_code == 70
    assert "disputed: owned/6.19/2/vcpu0: z3 and bitwuzla contradict each other" in result.output


def test_a_second_solver_without_time_confirms_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    second_solver_answers("unknown", monkeypatch)
    result = run("--recheck", "bitwuzla")
    assert "confirmed by bitwuzla: 0 of 2" in result.output


def test_other_peoples_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    result = run("--archive", str(tmp_path))
    assert result.exit_code == 3
    assert "--archive must be an empty folder or one with a manifest.json" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_an_archive_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("--archive", str(tmp_path / "file"))
    assert result.exit_code == 3
    assert "--archive must be a folder, not a file" in result.output


def test_a_new_archive_replaces_the_scripts_of_the_old_one(tmp_path: Path) -> None:
    run("--archive", str(tmp_path))
    CliRunner().invoke(
        main, ["prove", "apic-map", "--vcpus", "1", "--jobs", "1", *CLAIMS, "--archive", str(tmp_path)]
    )
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.smt2")}
    assert files == {entry["file"] for entry in manifest(tmp_path)}


def test_a_missing_second_solver_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    result = run("--recheck", "cvc5")
    assert result.exit_code == 3
    assert result.output.endswith("--recheck must be an installed solver, not cvc5; pip install cvc5\n")
