"""Explorations on disk, to go on with after a crash, a reboot or a Ctrl-C."""

from __future__ import annotations

import os
import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from avicheck.checker.errors import InputError
from avicheck.encodings.expr import Expr, Op, postorder
from avicheck.encodings.packing import WORD
from avicheck.encodings.transition import TransitionSystem, Values

MAGIC: Final = b"avicheck checkpoint 2\n"
_CHUNK: Final = 1 << 24
_COMMUTATIVE: Final = (Op.AND, Op.EQ)


@dataclass(frozen=True)
class Marks:
    """Where an exploration stands: how many states are ``expanded``, in a level that ends before state
    ``level_end`` and lies ``depth`` steps from the initial states; the largest out-degree; the first
    deadlock; how often each transition fired, in the system's order."""

    expanded: int
    level_end: int
    depth: int
    widest: int
    stuck: int | None
    fired: tuple[int, ...]


@dataclass(frozen=True)
class Snapshot:
    """An exploration: the packed states in the order of discovery, each in words of 64 bits, lowest
    first; for each the number of the state that it was reached from, in 32 bits (its own for an initial
    state). Bytes are in little-endian order."""

    states: bytes | memoryview
    parents: bytes | memoryview
    marks: Marks


def initial(system: TransitionSystem, packed: Callable[[Values], int], words: int) -> Snapshot:
    """Nothing but the initial states, each ``packed`` into so many words."""
    found = dict.fromkeys(packed(state) for state in system.initial)
    states = b"".join(state.to_bytes(words * WORD // 8, "little") for state in found)
    marks = Marks(0, len(found), 0, 0, None, (0,) * len(system.transitions))
    return Snapshot(states, array("I", range(len(found))).tobytes(), marks)


def identity(system: TransitionSystem) -> str:
    """A hash of all that an exploration depends on: variables, initial states, transitions and which
    states have ended. Properties do not count."""
    roots = [e for t in system.transitions for e in (t.guard, *t.updates.values())]
    hashes: dict[Expr, str] = {}
    for expr in postorder([*roots, system.ended]):
        args = [hashes[arg] for arg in expr.args]
        if expr.op in _COMMUTATIVE:
            args.sort()  # expressions are written in the order of their making
        hashes[expr] = _hash([expr.op.value, args, expr.is_bool, expr.lo, expr.hi, expr.value])
    return _hash(
        [
            [(v.name, v.lo, v.hi, v.is_bool) for v in system.variables],
            [sorted(state.items()) for state in system.initial],
            [
                (t.name, hashes[t.guard], [(name, hashes[value]) for name, value in t.updates.items()])
                for t in system.transitions
            ],
            hashes[system.ended],
        ]
    )


def _hash(value: object) -> str:
    import hashlib
    import json

    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def save(path: Path, system: TransitionSystem, reductions: Sequence[str], snapshot: Snapshot) -> None:
    """Write a checkpoint in place of the one that may be there. Whatever happens, one of the two
    remains whole. ``reductions`` tell how the system explored came from the one of its name. ``OSError`` if
    the file cannot be written."""
    import json

    header = {
        "system": system.name,
        "reductions": list(reductions),
        "identity": identity(system),
        "states": len(snapshot.states),
        "marks": asdict(snapshot.marks),
    }
    line = json.dumps(header).encode() + b"\n"
    checksum = b"%08x\n" % _checksum(_chunks(line, snapshot.states, snapshot.parents))
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(MAGIC + checksum)
        for chunk in _chunks(line, snapshot.states, snapshot.parents):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def load(path: Path, system: TransitionSystem, reductions: Sequence[str]) -> Snapshot:
    """A system's exploration. ``InputError`` for anything but a whole checkpoint of this system, reduced
    like this, ``OSError`` if the file cannot be read."""
    import json

    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError("file", "a checkpoint of avicheck", "something else", str(path))
        checksum, line = file.readline(), file.readline()
        content = file.read()
    if checksum != b"%08x\n" % _checksum(_chunks(line, content)):
        raise InputError("checkpoint", "whole", "damaged", str(path))
    header = json.loads(line)
    if header["system"] == system.name and header["reductions"] != list(reductions):
        wanted, came = ("; ".join(names) or "nothing" for names in (reductions, header["reductions"]))
        raise InputError("checkpoint", f"reduced by {wanted}", f"by {came}", str(path))
    if header["identity"] != identity(system):
        name = header["system"]
        came = "of an earlier form of it" if name == system.name else f"of {name}"
        raise InputError("checkpoint", f"of {system.name} as it is now", came, str(path))
    states, view = header["states"], memoryview(content)
    marks = Marks(**{**header["marks"], "fired": tuple(header["marks"]["fired"])})
    return Snapshot(view[:states], view[states:], marks)


def _chunks(*buffers: bytes | memoryview) -> Iterable[memoryview]:
    for buffer in buffers:
        view = memoryview(buffer)
        for start in range(0, len(view), _CHUNK):
            yield view[start : start + _CHUNK]


def _checksum(chunks: Iterable[memoryview]) -> int:
    value = 0
    for chunk in chunks:
        value = zlib.crc32(chunk, value)
    return value
