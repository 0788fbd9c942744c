"""Commands that take other options for concurrent models: ``check``, ``find``, ``crosscheck``."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import click

from avicheck.checker.errors import not_one_of
from avicheck.checker.models import MODELS
from avicheck.checker.options import Word, option_name
from avicheck.checker.systems import registered


class ByModel(click.Command):
    """A command on one kind of model; where its arguments name a model of the other kind, another command
    (``module:name``) is run in its place, under its name: ``concurrent`` or ``direct``."""

    def __init__(self, *args: Any, concurrent: str = "", direct: str = "", **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.other, self.concurrent = concurrent or direct, bool(concurrent)

    @property
    def others(self) -> Mapping[str, Any]:
        """The models of the other kind."""
        return registered() if self.concurrent else MODELS

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the command that the model asks for."""
        if next((arg for arg in args if arg in registered() or arg in MODELS), "") not in self.others:
            return super().make_context(info_name, args, parent, **extra)
        module, _, name = self.other.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command.make_context(info_name, args, parent, **extra)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say that there are other models, with other options."""
        kind = "Concurrent models" if self.concurrent else "Other models"
        with formatter.section(f"{kind}, each with its options"):
            formatter.write_text(", ".join(f"{ctx.command_path} {name} --help" for name in self.others))


class DirectModel(Word):
    """The name of a model that is no concurrent one; the others are known to be models, too."""

    def __init__(self, words: Iterable[str] = MODELS) -> None:
        super().__init__(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name; ``InputError`` with the nearest of all models if it is not among them."""
        if value in self.words:
            return str(value)
        raise not_one_of(option_name(param), (*self.words, *registered()), value)
