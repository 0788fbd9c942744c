"""Results that are kept from one run to the next, where computing them takes long.

An entry is found by a hash of all that it depends on. Whatever cannot be relied on is as good as absent:
damaged entries, those of other users and those that others could have written.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_MAGIC: Final = b"avicheck cache 1\n"
_MOST: Final = 256
"""Entries of a kind; the oldest go first."""


def folder() -> Path:
    """Where entries are kept: ``avicheck`` in ``$XDG_CACHE_HOME``, which is ``~/.cache`` unless set."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "avicheck"


def key_of(parts: Iterable[str | bytes]) -> str:
    """The name of what depends on some texts, and on this version of Python."""
    digest = hashlib.sha256()
    for part in (sys.version, *parts):
        content = part.encode() if isinstance(part, str) else part
        digest.update(b"%d\n" % len(content) + content)
    return digest.hexdigest()


def get(kind: str, key: str) -> bytes | None:
    """An entry's content; None if there is none that can be relied on."""
    try:
        path = folder() / kind / key
        if not (_ours(path.parent) and _ours(path)):
            return None
        content = path.read_bytes()
    except (OSError, RuntimeError):
        return None
    head = len(_MAGIC) + hashlib.sha256().digest_size
    body = content[head:]
    return body if content[:head] == _MAGIC + hashlib.sha256(body).digest() else None


def put(kind: str, key: str, content: bytes) -> None:
    """Keep an entry, if that is possible: whole or not at all."""
    try:
        place = folder() / kind
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(place):
            return
        part = place / f".{key}.{os.getpid()}.part"
        part.write_bytes(_MAGIC + hashlib.sha256(content).digest() + content)
        part.chmod(0o600)
        os.replace(part, place / key)
        entries = sorted(place.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in entries[:-_MOST]:
            path.unlink(missing_ok=True)
    except (OSError, RuntimeError):
        return


def _ours(path: Path) -> bool:
    """Whether nobody else can have written a file or folder."""
    found = path.lstat()
    plain = stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)
    return plain and found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
