"""Recordings of real kernels' functions: JSON Lines, gzip or not."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec
from msgspec import UNSET, UnsetType

from avicheck.checker.config import GZIP_MAGIC, Config, Request, unreadable
from avicheck.checker.decode import parse_json, typed
from avicheck.checker.errors import InputError

MAX_LINE_BYTES: Final = 1 << 24


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one delivery did; ``mode_used`` where it is not the requested mode."""

    r: int
    recipients: tuple[int, ...]
    accepted: tuple[int, ...]
    mode_used: str | UnsetType = UNSET


class FastAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What delivery through the map did."""

    handled: bool
    r: int
    recipients: tuple[int, ...]
    accepted: tuple[int, ...]


class Query(Request, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request and everything that was computed for it."""

    fast: FastAnswer
    delivery: Answer
    slow: Answer
    match_dest: tuple[bool, ...]
    single_vcpu: int | None
    dest_bitmap: tuple[int, ...]
    warn: bool | UnsetType = UNSET


class PvCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A paravirtual IPI and what it did."""

    low: int
    high: int
    min: int
    icr: int
    op64: bool
    r: int
    recipients: tuple[int, ...]
    accepted: tuple[int, ...]


class MapRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``kvm->arch.apic_map``."""

    null: bool
    max_apic_id: int | None
    logical_mode: str | None
    phys_map: dict[str, int]
    flat: tuple[int | None, ...]
    cluster: dict[str, int]


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One configuration, its map, and what was asked of it."""

    kernel: str
    config: Config
    map: MapRecord
    inhibits: tuple[str, ...]
    queries: tuple[Query, ...]
    pv_ipi: tuple[PvCall, ...]
    warn: bool | UnsetType = UNSET


_DECODER: Final = msgspec.json.Decoder(Line)


def read_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with their numbers from 1; ``InputError`` if it cannot be read to its end."""
    number = 0
    with ExitStack() as stack:
        try:
            file: IO[bytes] = stack.enter_context(Path(path).open("rb"))
            if file.peek(2).startswith(GZIP_MAGIC):  # type: ignore[attr-defined]
                file = cast(IO[bytes], stack.enter_context(gzip.open(file)))
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                yield number, line
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise unreadable(error, f"{path}:{number + 1}" if number else path) from error


def decode_line(raw: bytes, place: str) -> Line:
    """One line; ``InputError`` where a field is missing, unknown or of the wrong type."""
    try:
        line = _DECODER.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        line = typed(parse_json(raw, place), Line, place)
    _refuse_gaps(line.config, "config", place)
    for index, vcpu in enumerate(line.config.vcpus):
        _refuse_gaps(vcpu, f"config.vcpus[{index}]", place)
    return line


def _refuse_gaps(struct: Any, path: str, place: str) -> None:
    """A recording leaves nothing of a configuration to defaults."""
    for name in struct.__struct_fields__:
        if getattr(struct, name) is UNSET:
            raise InputError(f"{path}.{name}", "given", "left out", place)
