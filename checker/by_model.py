"""Commands that take other options for concurrent models: ``check``, ``find``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import click

from avicheck.checker.errors import not_one_of
from avicheck.checker.models import MODELS
from avicheck.checker.options import Word, option_name
from avicheck.checker.systems import registered


class ByModel(click.Command):
    """A command on apic-map; where its arguments name a concurrent model, the command ``concurrent``
    (``module:name``) is run in its place, under its name."""

    def __init__(self, *args: Any, concurrent: str, **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.concurrent = concurrent

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the command that the model asks for."""
        known = registered()
        if next((arg for arg in args if arg in known or arg in MODELS), None) not in known:
            return super().make_context(info_name, args, parent, **extra)
        module, _, name = self.concurrent.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command.make_context(info_name, args, parent, **extra)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say that there are other models, with other options."""
        with formatter.section("Concurrent models, each with its options"):
            formatter.write_text(", ".join(f"{ctx.command_path} {name} --help" for name in registered()))


class DirectModel(Word):
    """The name of a model that is no concurrent one; the others are known to be models, too."""

    def __init__(self, words: Iterable[str] = MODELS) -> None:
        super().__init__(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name; ``InputError`` with the nearest of all models if it is not among them."""
        if value in self.words:
            return str(value)
        raise not_one_of(option_name(param), (*self.words, *registered()), value)
