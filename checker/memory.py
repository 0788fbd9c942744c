"""How much memory there is, in bytes."""

from __future__ import annotations

import os
import resource
from pathlib import Path


def resident() -> int:
    """What this process holds now; where the system does not tell, the most that it ever held."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def available() -> int:
    """What the system could still hand out; where it does not tell, all that it has."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


def limit_of(wanted: int | None) -> int:
    """How much this process may hold: as much as is wanted, else most of what the system has."""
    return resident() + available() * 9 // 10 if wanted is None else wanted
