"""What the tree promises: one direction of imports, a complete wheel, specifications that can be lifted."""

from __future__ import annotations

import ast
import importlib.util
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("spec", "encodings", "checker", "proofs")
"""The packages, each of which may import itself and those before it."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENTRY_POINTS = [
    EntryPoint(name, value, group)
    for group, points in {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}.items()
    for name, value in points.items()
]


def shipped(root: Path) -> set[str]:
    """The files that belong in the wheel: all of the four folders but caches and hidden ones."""
    return {
        path.relative_to(root).as_posix()
        for folder in FOLDERS
        for path in (root / folder).rglob("*")
        if path.is_file() and path.parent.name != "__pycache__" and not path.name.startswith(".")
    }


MODULES = sorted(name for name in shipped(ROOT) if name.endswith(".py"))


def init_files(root: Path) -> list[str]:
    """The regular packages among the four folders and theirs."""
    return sorted(name for name in shipped(root) if name.endswith("/__init__.py"))


def linked_folders(links: Path) -> dict[str, Path]:
    """Where the symbolic links in a folder lead, by name, if they lead to a folder."""
    return {link.name: link.resolve() for link in links.iterdir() if link.is_symlink() and link.is_dir()}


def imported_names(source: str, package: str) -> Iterator[str]:
    """The absolute name of everything that a module of ``package`` imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def wrong_imports(source: str, folder: str) -> list[str]:
    """Imports that a module in ``folder`` must not have: of a later folder, of a folder by its
    bare name, and in ``spec`` of anything outside the standard library."""
    allowed = FOLDERS[: FOLDERS.index(folder) + 1]

    def wrong(name: str) -> bool:
        top, _, rest = name.partition(".")
        if top == "avicheck":
            return rest.partition(".")[0] not in allowed
        return top in FOLDERS or (folder == "spec" and top not in sys.stdlib_module_names)

    return [name for name in imported_names(source, f"avicheck.{folder}") if wrong(name)]


def identity_tests(source: str) -> list[int]:
    """Lines that compare with ``is`` or ``is not`` to anything but None: lifting cannot see them."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Compare)
        for operator, operand in zip(node.ops, node.comparators, strict=True)
        if isinstance(operator, ast.Is | ast.IsNot)
        and not (isinstance(operand, ast.Constant) and operand.value is None)
    ]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name: str) -> None:
    assert wrong_imports((ROOT / name).read_text(), name.partition("/")[0]) == []


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("spec", "import z3"),
        ("spec", "from avicheck.encodings.expr import Expr"),
        ("spec", "from avicheck import encodings"),
        ("spec", "from ..encodings import expr"),
        ("encodings", "import avicheck.checker.cli"),
        ("encodings", "def late():\n    from avicheck.proofs.apic_map import CLAIMS"),
        ("checker", "import avicheck.proofs.apic_map"),
        ("checker", "from avicheck import spec, proofs"),
        ("proofs", "from spec.apic import Kvm"),
        ("proofs", "import avicheck"),
    ],
)
def test_wrong_import_is_noticed(folder: str, source: str) -> None:
    assert len(wrong_imports(source, folder)) == 1


@pytest.mark.parametrize(
    ("folder", "source"),
    [
        ("spec", "from avicheck.spec.lang import rule"),
        ("spec", "from __future__ import annotations\nimport enum"),
        ("spec", "from . import lang"),
        ("encodings", "import z3\nfrom avicheck.spec import lang"),
        ("proofs", "import avicheck.checker.cli"),
    ],
)
def test_right_import_passes(folder: str, source: str) -> None:
    assert wrong_imports(source, folder) == []


def test_namespace_packages_have_no_init() -> None:
    """``encodings/__init__.py`` would shadow the standard library's codecs under PYTHONPATH=."""
    assert init_files(ROOT) == []


def test_init_file_is_noticed(tmp_path: Path) -> None:
    init = tmp_path / "encodings/solvers/__init__.py"
    init.parent.mkdir(parents=True)
    init.touch()
    assert init_files(tmp_path) == ["encodings/solvers/__init__.py"]


def test_type_checkers_see_the_four_folders() -> None:
    assert linked_folders(ROOT / "tests/typing/avicheck") == {folder: ROOT / folder for folder in FOLDERS}


def test_dangling_link_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "spec").symlink_to("../nowhere")
    assert linked_folders(tmp_path) == {}


def test_wheel_holds_the_four_folders(tmp_path: Path) -> None:
    """A folder that ``packages`` does not list is planted: it must be all that the wheel lacks."""
    tree, unlisted = tmp_path / "tree", "spec/unlisted/data.json"
    for name in ("pyproject.toml", "README.md", "LICENSE", *shipped(ROOT)):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    (tree / unlisted).parent.mkdir()
    (tree / unlisted).write_text("{}")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--quiet"]
    subprocess.run([*pip, "--wheel-dir", str(tmp_path), str(tree)], check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name.removeprefix("avicheck/") for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped(tree) ^ packed == {unlisted}


@pytest.mark.parametrize("point", ENTRY_POINTS, ids=lambda point: point.name)
def test_entry_point_resolves(point: EntryPoint) -> None:
    assert point.load() is not None


@pytest.mark.parametrize(
    "name", [name for name in MODULES if name.startswith("spec/") and "lang" not in name]
)
def test_specification_compares_values_not_objects(name: str) -> None:
    assert identity_tests((ROOT / name).read_text()) == []


def test_identity_test_is_noticed() -> None:
    source = "a is None\na is not None\na is Mode.X\nb = a is not c\nNone is None is 1"
    assert identity_tests(source) == [3, 4, 5]


def test_ci_runs_the_command_of_the_readme() -> None:
    command = (ROOT / ".ci/run").read_text().splitlines()[-1]
    assert command.endswith("/pytest -n auto")
    assert command in (ROOT / "README.md").read_text().splitlines()
