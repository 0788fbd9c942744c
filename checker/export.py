"""Concurrent models in the languages of other tools: ``avicheck export``."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from avicheck.checker.errors import InputError
from avicheck.checker.options import Word, json_option
from avicheck.checker.systems import Instance, instance_options
from avicheck.checker.verdict import EXIT_OK
from avicheck.encodings.transition import TransitionSystem

FORMATS: Final[Mapping[str, str]] = {
    "promela": "avicheck.encodings.to_promela",
    "murphi": "avicheck.encodings.to_murphi",
    "tla": "avicheck.encodings.to_tla",
    "smt2": "avicheck.encodings.to_smt2",
    "btor2": "avicheck.encodings.to_btor2",
}
"""The languages, and the printer of each."""


@click.command()
@click.argument("model")
@click.option("--to", "language", type=Word(FORMATS), required=True, help="The language.")
@instance_options
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file to write to, not standard output.",
)
@json_option
def export(instance: Instance, language: str, output: Path | None, json_: bool) -> int:
    """Write a concurrent model in the language of another tool.

    Promela is for SPIN, murphi for Rumur, tla for TLC, smt2 for solvers, btor2 for hardware model
    checkers. The text has the model's states, its transitions, and its invariants to check. Properties
    that are no invariants are left out, and named at the top.

    Example: avicheck export apic-map-life --to promela
    """
    written = text(instance.system, language)
    if json_:
        written = json.dumps({"model": instance.name, "language": language, "text": written}, indent=2) + "\n"
    if output is None:
        click.echo(written, nl=False)
    else:
        write_new(output, written)
    return EXIT_OK


def text(system: TransitionSystem, language: str) -> str:
    """A system in one of ``FORMATS``; ``InputError`` if it cannot be written in that."""
    from avicheck.encodings.writing import ExportError

    try:
        written = importlib.import_module(FORMATS[language]).text(system)
    except ExportError as error:
        raise InputError(error.thing, error.expectation, error.came, error.place) from error
    assert isinstance(written, str)
    return written


def write_new(path: Path, written: str, option: str = "--output") -> None:
    """Write a file that does not exist yet; ``InputError`` about ``option`` if it does, or cannot be
    written."""
    try:
        with path.open("x") as file:
            file.write(written)
    except FileExistsError:
        raise InputError(option, "a new file", f"{path}, which exists") from None
    except OSError as error:
        raise InputError(option, "a file that can be written", f"{path} ({error.strerror})") from None
