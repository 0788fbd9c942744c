"""Work on several processes."""

from __future__ import annotations

import signal
from concurrent.futures import ProcessPoolExecutor


def leave_interrupts_to_the_parent() -> None:
    """Ignore Ctrl-C in a worker: its parent decides what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_at_once(pool: ProcessPoolExecutor) -> None:
    """Do not wait for what its processes are at."""
    for process in list(pool._processes.values()):
        process.terminate()
