"""How a program of ours ends: at once."""

from __future__ import annotations

import os
import sys
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """End the process with an exit code, once all is out that it wrote to the standard streams. Threads that
    still run, as those that make machine code, end with it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # none, one without a reader, one that is closed
            continue
    os._exit(code)
