"""Bad input: what it looks like to the code that finds it and to the user who gave it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

SHOWN: Final = 60
"""Longer values are cut off in messages."""


class InputError(Exception):
    """Input that cannot be used: ``<place>: <thing> must be <expectation>, not <came>; <hint>``.

    One line whatever the parts hold: control characters are shown escaped.
    """

    def __init__(self, thing: str, expectation: str, came: str, place: str = "", hint: str = "") -> None:
        super().__init__(thing, expectation, came, place, hint)
        self.thing, self.expectation, self.came, self.place, self.hint = thing, expectation, came, place, hint

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        hint = f"; {self.hint}" if self.hint else ""
        return printable(f"{place}{self.thing} must be {self.expectation}, not {self.came}{hint}")

    def at(self, place: str) -> InputError:
        """The same error, found inside ``place``."""
        inner = f"{place}: {self.place}" if self.place else place
        return InputError(self.thing, self.expectation, self.came, inner, self.hint)


def printable(text: str) -> str:
    """``text`` on one line that no terminal interprets: unprintable characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(value: object) -> str:
    """A value as JSON writes it, cut to ``SHOWN`` characters."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def nearest(word: str, words: Iterable[str]) -> str:
    """The hint "did you mean …?", or nothing if no word is near."""
    import difflib

    lowered = {known.lower(): known for known in words}
    match = difflib.get_close_matches(word.lower(), lowered, n=1)
    return f"did you mean {lowered[match[0]]}?" if match else ""


def not_one_of(
    thing: str, words: Iterable[str], came: str, place: str = "", hint: str | None = None
) -> InputError:
    """The error of a word that is not among those expected, with the nearest of them or another hint."""
    words = list(words)
    hint = nearest(came, words) if hint is None else hint
    return InputError(thing, f"one of {', '.join(words)}", shown(came), place, hint)
