"""The command line: which commands there are, and how every one of them ends.

A command is imported only when it is called, from the module of its subject.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import click

from avicheck.checker.errors import InputError, not_one_of, printable
from avicheck.checker.program import begin, leave
from avicheck.checker.verdict import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE, EXIT_CODES, EXIT_INTERRUPTED
from avicheck.checker.verdict import EXIT_TOOL_ERROR as TOOL_ERROR


@dataclass(frozen=True)
class Entry:
    """A command: where it is (``module:name``) and the first sentence of its help."""

    target: str
    summary: str


COMMANDS: Final = {
    "models": Entry("avicheck.checker.models:models", "List the models and the kernels they describe."),
    "check": Entry("avicheck.checker.check:check", "Decide the claims about a model."),
    "route": Entry("avicheck.checker.route:route", "Tell where one interrupt goes, on every kernel."),
    "find": Entry(
        "avicheck.checker.find:find",
        "Find a smallest configuration and request that an expression describes.",
    ),
    "prove": Entry("avicheck.checker.prove:prove", "Prove a model's claims at their full size."),
    "conform": Entry("avicheck.checker.conform:conform", "Compare the models with real kernels."),
    "crosscheck": Entry(
        "avicheck.checker.crosscheck:crosscheck",
        "Hold independent voices on a concurrent model against each other.",
    ),
    "bugs": Entry("avicheck.checker.bugs:bugs", "Reproduce known bugs: with the fix out, and with it in."),
    "matrix": Entry(
        "avicheck.checker.matrix:matrix", "Show under which assumptions the properties of a model hold."
    ),
    "trace": Entry(
        "avicheck.checker.trace_command:trace", "Show, replay and compare traces of concurrent models."
    ),
    "simulate": Entry(
        "avicheck.checker.simulate:simulate", "Go through a concurrent model step by step, at a prompt."
    ),
    "export": Entry(
        "avicheck.checker.export:export", "Write a concurrent model in the language of another tool."
    ),
    "peers": Entry(
        "avicheck.checker.peers:peers", "Compare our engine with SPIN, Rumur and TLC on a concurrent model."
    ),
}
"""Every command, by name, in the order in which a user meets them."""


class Commands(click.Group):
    """The group of all commands; its ``main`` turns every ending into a documented exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order in which a user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.target.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that ``args`` name; ``InputError`` with the nearest one if there is none."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            raise not_one_of("Command", COMMANDS, args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])
        super().format_epilog(ctx, formatter)

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """As in click, with output errors turned into endings."""
        with _output_errors():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and make sure that its output has left."""
        with _output_errors():
            result = super().invoke(ctx)
            sys.stdout.flush()
        return result

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line and exit: with the command's own code, or one line on standard
        error and the code of what went wrong."""
        extra["standalone_mode"] = False
        try:
            code = super().main(*args, **extra)
        except InputError as error:
            code = _failed(str(error), EXIT_BAD_INPUT)
        except click.ClickException as error:
            code = _failed(_usage_message(error), EXIT_BAD_INPUT)
        except click.Abort:
            code = _failed("interrupted", EXIT_INTERRUPTED)
        except Exception as error:
            import traceback

            traceback.print_exc()
            code = _failed(f"internal error, please report it: {type(error).__name__}: {error}", TOOL_ERROR)
        sys.exit(code)


def _failed(message: str, code: int) -> int:
    click.echo(printable(f"avicheck: {message}"), err=True)
    return code


def _usage_message(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"; see '{context.command_path} --help'" if context else ""
    return error.format_message().rstrip(".") + hint


@contextmanager
def _output_errors() -> Iterator[None]:
    """End quietly where the reader of the output went away, with an error where it cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
        if error.errno == errno.EPIPE:
            raise click.exceptions.Exit(EXIT_BROKEN_PIPE) from error
        raise InputError("Output", "written in full", os.strerror(errno.ENOSPC)) from error


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("avicheck")
    except PackageNotFoundError:
        number = "(not installed)"
    click.echo(f"avicheck {number}")
    ctx.exit()


@click.group(
    "avicheck",
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@click.pass_context
def main(ctx: click.Context) -> int:
    """A formal model of KVM's virtual local APIC, exhaustively checked.

    Can an interrupt be lost, misrouted or forged, and by which exact sequence of steps? Results go to
    standard output (every command has --json), progress and errors to standard error.

    Example: avicheck route vm.json --dest 0x23
    """
    if ctx.invoked_subcommand is None:
        raise InputError("Command", f"one of {', '.join(COMMANDS)}", "left out", hint="see 'avicheck --help'")
    return 0


def run() -> NoReturn:
    """The command line as a program: when it is done, the process ends at once."""
    begin()
    code = 0
    try:
        main(prog_name="avicheck")
    except SystemExit as ending:
        code = int(ending.code or 0)
    leave(code)
