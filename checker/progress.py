"""Progress on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, ParamSpec

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

P = ParamSpec("P")

LINE_EVERY: Final = 10.0
"""Seconds between lines of progress where nobody watches a terminal."""


@contextmanager
def line_shown(said: Callable[P, str]) -> Iterator[Callable[P, None]]:
    """A function that shows on standard error what is ``said`` of its arguments: one line that changes on a
    terminal, a line now and then elsewhere."""
    watched, last = sys.stderr.isatty(), [time.monotonic()]

    def show(*args: P.args, **named: P.kwargs) -> None:
        if not watched and time.monotonic() - last[0] < LINE_EVERY:
            return
        last[0] = time.monotonic()
        line = said(*args, **named)
        click.echo(f"\r\x1b[K{line}" if watched else line, err=True, nl=not watched)

    try:
        yield show
    finally:
        if watched:
            click.echo("\r\x1b[K", err=True, nl=False)


class Progress:
    """Counts steps on a terminal: how many are done, and which was the last. Silent elsewhere."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as RichProgress

            columns = (
                SpinnerColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
            )
            self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total)
        return self

    def step(self, what: str, count: int = 1) -> None:
        """So many more are done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=count, description=what)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
