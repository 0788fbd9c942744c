"""SIGINT while z3 is at work: it ends the question, and is raised between two.

z3's own handler (``ctrl_c``, to be switched off) loses a SIGINT that comes when z3 is nearly done. A
KeyboardInterrupt inside a call through ctypes becomes another error, and inside a destructor it is lost.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class _State:
    """Of the process: whether a SIGINT came that was not raised yet, whether z3 is being asked, and whether
    it was told to stop."""

    noted = asking = told = False
    lock = threading.Lock()
    """Held to change ``asking``, and while z3 is told."""


def poll() -> None:
    """KeyboardInterrupt if a SIGINT was noted."""
    if _State.noted:
        _State.noted = False
        raise KeyboardInterrupt


def check(solver: Any, assumptions: Iterable[Any] = ()) -> Any:
    """What z3 answers; KeyboardInterrupt if a SIGINT was noted or comes meanwhile."""
    with _State.lock:
        _State.asking = True
    try:
        poll()
        answer = solver.check(*assumptions)
    finally:
        with _State.lock:
            _State.asking = False
        if _State.told:
            _State.told = False
            _forget()
    poll()
    return answer


@contextmanager
def deferred() -> Iterator[None]:
    """A SIGINT is noted, to be raised by ``check``, by ``poll``, or at the end. Also a decorator."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(reader,), daemon=True)
    watcher.start()
    usual = signal.signal(signal.SIGINT, _note)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGINT, usual)
        writer.close()
        watcher.join()
        reader.close()
    poll()


def _note(_number: int, _frame: FrameType | None) -> None:
    _State.noted = True


def _watch(signals: socket.socket) -> None:
    """Tell z3 when a SIGINT comes: the handler in Python has to wait for z3."""
    import z3

    while came := signals.recv(1):
        if came[0] == signal.SIGINT:
            with _State.lock:
                if _State.asking:
                    _State.told = True
                    z3.main_ctx().interrupt()


def _forget() -> None:
    """z3, if it is told to stop when it has just done so, stops at the next question, with a wrong answer:
    ask one of no interest."""
    import z3

    z3.SimpleSolver().check()
