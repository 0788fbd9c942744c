"""Values on the command line, with errors in this project's shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import click

from avicheck.checker.errors import InputError, not_one_of, shown
from avicheck.checker.memory import resident

json_option = click.option("--json", "json_", is_flag=True, help="Print JSON.")
"""``--json``, which every command has."""


class Number(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """An integer from ``lo`` to ``hi``, decimal or with a prefix (0x23)."""

    name = "number"

    def __init__(self, lo: int, hi: int) -> None:
        self.lo, self.hi = lo, hi

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The integer; ``InputError`` if it is none or out of range."""
        try:
            number = value if isinstance(value, int) else int(value, 0)
        except ValueError:
            number = None
        if number is None or not self.lo <= number <= self.hi:
            raise InputError(option_name(param), f"an integer from {self.lo} to {self.hi}", shown(value))
        return number


class Amount(click.ParamType):  # type: ignore[type-arg]
    """An amount of memory in bytes: ``2GiB``, ``512MiB``, ``1000000``."""

    name = "amount"
    units: Final = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bytes; ``InputError`` if it is no amount, or less than this process holds already."""
        if isinstance(value, int):
            return value
        number = value.rstrip("KMGiB")
        factor = self.units.get(value[len(number) :])
        if factor is None or not number.isdecimal() or not number.isascii() or not 0 < len(number) < 16:
            raise InputError(option_name(param), "an amount such as 2GiB or 512MiB", shown(value))
        amount, held = int(number) * factor, resident()
        if amount <= held:
            expected = f"more than the {-(-held // self.units['MiB'])} MiB that the program itself holds"
            raise InputError(option_name(param), expected, shown(value))
        return amount


class Word(click.ParamType):  # type: ignore[type-arg]
    """One of a few words."""

    name = "word"

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The words, as usage shows them."""
        return f"[{'|'.join(self.words)}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word; ``InputError`` with the nearest if it is not among them."""
        if value in self.words:
            return str(value)
        raise not_one_of(option_name(param), self.words, value)


class KernelName(Word):
    """The name of a kernel."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name; ``InputError`` with the nearest version if it is not among them."""
        from avicheck.checker.config import kernel_named

        return kernel_named(str(value), thing=option_name(param)).name


def option_name(param: click.Parameter | None) -> str:
    """How the user wrote a parameter: ``--vector``."""
    return param.opts[0] if param is not None else "Value"
