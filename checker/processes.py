"""Work on several processes."""

from __future__ import annotations

import signal


def leave_interrupts_to_the_parent() -> None:
    """Ignore Ctrl-C in a worker: its parent decides what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
