"""Lint, format and types, as tests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MUTABLE_DEFAULT = '"""M."""\n\n\ndef f(a: list[int] = []) -> None:\n    """F."""\n'
MUTABLE_FIELD = '"""M."""\n\n\nclass C:\n    """C."""\n\n    a: list[int] = []\n'
NO_DOCSTRING = '"""M."""\n\n\ndef f() -> None:\n    return\n'


def run_module(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``python -m args`` in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", *args], cwd=ROOT, input=stdin, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "--quiet"], ["ruff", "format", "--check", "--quiet"], ["mypy", "--no-error-summary"]],
    ids=["lint", "format", "types"],
)
def test_tree_is_clean(command: list[str]) -> None:
    result = run_module(*command)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("source", "code"), [(MUTABLE_DEFAULT, "B006"), (MUTABLE_FIELD, "RUF012"), (NO_DOCSTRING, "D103")]
)
def test_bad_specification_is_noticed(source: str, code: str) -> None:
    command = ["ruff", "check", "--output-format=json", "--stdin-filename=spec/bad.py", "-"]
    assert [finding["code"] for finding in json.loads(run_module(*command, stdin=source).stdout)] == [code]


def test_bad_format_is_noticed() -> None:
    command = ["ruff", "format", "--check", "--stdin-filename=spec/bad.py", "-"]
    assert run_module(*command, stdin="a  = 1\n").returncode == 1


def test_bad_type_is_noticed(tmp_path: Path) -> None:
    """Through the links of tests/typing: the types of the specification reach the type checker."""
    bad = tmp_path / "bad.py"
    bad.write_text("from avicheck.spec.lang import Range\nRange('0', 1)\n")
    result = run_module("mypy", f"--cache-dir={tmp_path}", str(bad))
    assert f'{bad}:2: error: Argument 1 to "Range" has incompatible type "str"' in result.stdout
