"""Work on several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from avicheck.checker.interrupt import poll

T = TypeVar("T")
R = TypeVar("R")

_AHEAD: Final = 2
"""Items under way, for each process."""
_PATIENCE: Final = 0.2
"""Seconds between two looks for a SIGINT."""


def leave_interrupts_to_the_parent() -> None:
    """Ignore Ctrl-C in a worker: its parent decides what becomes of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end_at_once(pool: ProcessPoolExecutor) -> None:
    """Do not wait for what its processes are at."""
    for process in list(pool._processes.values()):
        process.terminate()


def in_order(function: Callable[[T], R], items: Iterable[T], jobs: int) -> Iterator[R]:
    """What a function returns for each item, in their order, on so many processes; in this one if that is 1.
    The function, which they inherit, need not be one that can be sent. A KeyboardInterrupt, also one that is
    deferred, ends them at once."""
    if jobs == 1:
        yield from map(function, items)
        return
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, fork, initializer=_work_with, initargs=(function,)) as pool:
        running: deque[Future[R]] = deque()
        try:
            for item in items:
                poll()
                running.append(pool.submit(_work_on, item))
                if len(running) >= _AHEAD * jobs:
                    yield _result(running.popleft())
            while running:
                yield _result(running.popleft())
        except KeyboardInterrupt:
            end_at_once(pool)
            raise
        finally:
            pool.shutdown(cancel_futures=True)


_function: Callable[[Any], Any]
"""What a process applies to items."""


def _work_with(function: Callable[[Any], Any]) -> None:
    global _function
    leave_interrupts_to_the_parent()
    _function = function


def _work_on(item: Any) -> Any:
    return _function(item)


def _result(future: Future[R]) -> R:
    """What a process returned; KeyboardInterrupt if a SIGINT was noted meanwhile."""
    while True:
        poll()
        with suppress(TimeoutError):
            return future.result(_PATIENCE)
