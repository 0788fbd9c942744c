"""How a program of ours begins and ends."""

from __future__ import annotations

import gc
import os
import sys
from typing import Final, NoReturn

_SELDOM: Final = 200_000


def begin() -> None:
    """Look for garbage seldom: most of what is made stays, and reference counts find the rest."""
    gc.set_threshold(_SELDOM)


def leave(code: int) -> NoReturn:
    """End the process with an exit code, once all is out that it wrote to the standard streams. Threads and
    processes that are still at work for it, as those that make machine code, end with it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # none, one without a reader, one that is closed
            continue
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.terminate()
    os._exit(code)
