"""The archive of a proof: every query as an SMT-LIB script, and what was answered, by whom.

An answer is taken over from an earlier archive if it is the answer of the same solver, in the same
version, to the same script, letter by letter.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

import msgspec

from avicheck.checker.decode import parse_json, typed
from avicheck.checker.errors import InputError
from avicheck.checker.solve import Answer, Query, Status, signed, solver_version
from avicheck.spec import kernels

MANIFEST: Final = "manifest.json"
FORMAT: Final = "avicheck archive 1"


class Reply(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One solver's answer: ``values`` is its assignment if it is sat, ``why`` why it is unknown;
    ``reused`` if it was taken over from an earlier archive."""

    answer: Status
    solver: str
    seconds: float
    why: str = ""
    values: dict[str, int] = msgspec.field(default_factory=dict)
    reused: bool = False


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A script, what it is for, and its answers; ``recheck`` is the second solver's."""

    name: str
    file: str
    sha256: str
    kernel: str
    group: str
    sentence: str
    expected: Literal["sat", "unsat"]
    reply: Reply
    recheck: Reply | None


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an archive holds: one run of the tool. ``specification`` is the checksum of the rules that
    were lifted; ``kernels`` has the fixes, the sizes and the verdicts."""

    format: str
    tool: str
    specification: str
    model: str
    bounds: str
    assumptions: dict[str, str]
    kernels: dict[str, Any]
    queries: tuple[Entry, ...]


def tool_version() -> str:
    """The tool's name and version."""
    try:
        return f"avicheck {version('avicheck')}"
    except PackageNotFoundError:
        return "avicheck (not installed)"


def specification_checksum() -> str:
    """SHA-256 over the names and contents of the specification's modules."""
    digest = hashlib.sha256()
    for path in sorted(Path(str(kernels.__file__)).parent.glob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def checksum(query: Query) -> str:
    """The SHA-256 of a query's script."""
    return hashlib.sha256(query.text.encode()).hexdigest()


def file_of(query: Query) -> str:
    """A script's place in the archive."""
    return f"{query.name}.smt2"


class Archive:
    """A folder with scripts and a manifest. ``InputError`` unless it is empty, absent or an archive,
    and can be written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise InputError("--archive", "a folder", "a file", str(folder))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            occupied = any(folder.iterdir())
        except OSError as error:
            raise _unusable(folder, error) from None
        if not os.access(folder, os.W_OK):
            raise InputError("--archive", "a folder that can be written", "a protected one", str(folder))
        if occupied and not (folder / MANIFEST).exists():
            wanted = f"an empty folder or one with the {MANIFEST} of an archive"
            raise InputError("--archive", wanted, "a folder with other files", str(folder))
        self._earlier = _read(folder / MANIFEST) if occupied else ()
        self._replies = {
            (entry.sha256, reply.solver): reply
            for entry in self._earlier
            for reply in (entry.reply, entry.recheck)
            if reply is not None and reply.answer != "unknown"
        }

    def earlier_answer(self, query: Query, solver: str) -> Answer | None:
        """The answer that the archive has from a solver in this version, if it is to the very same script."""
        reply = self._replies.get((checksum(query), solver_version(solver)))
        if reply is None:
            return None
        return signed(query, Answer(reply.answer, solver, reply.seconds, dict(reply.values)))

    def text(self, query: Query) -> str:
        """A script as it was written."""
        return (self.folder / file_of(query)).read_text()

    def write_scripts(self, queries: Iterable[Query]) -> None:
        """Write the scripts of some queries."""
        try:
            for query in queries:
                path = self.folder / file_of(query)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(query.text)
        except OSError as error:
            raise _unusable(self.folder, error) from None

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest, in one step; what only the earlier one listed goes."""
        part = self.folder / f".{MANIFEST}.part"
        try:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
            part.replace(self.folder / MANIFEST)
            kept = {entry.file for entry in manifest.queries}
            for entry in self._earlier:
                if entry.file not in kept:
                    self._remove(self.folder / entry.file)
        except OSError as error:
            raise _unusable(self.folder, error) from None

    def _remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self.folder or any(parent.iterdir()):
                return
            parent.rmdir()


def _read(path: Path) -> tuple[Entry, ...]:
    try:
        value = parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise _unusable(path.parent, error) from None
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        raise InputError("--archive", f"a folder with the {MANIFEST} of an archive", "another one", str(path))
    entries = typed(value, Manifest, str(path)).queries
    for entry in entries:
        place = PurePosixPath(entry.file)
        if place.is_absolute() or ".." in place.parts or place.suffix != ".smt2":
            raise InputError("file", "a script inside the archive", repr(entry.file), str(path))
    return entries


def _unusable(folder: Path, error: OSError) -> InputError:
    return InputError(
        "--archive", "a folder that can be read and written", error.strerror or "an error", str(folder)
    )
