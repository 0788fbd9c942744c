"""Traces on the command line: ``avicheck trace show``, ``replay`` and ``diff``."""

from __future__ import annotations

import json
from typing import Final

import click

from avicheck.checker.errors import InputError, not_one_of
from avicheck.checker.options import Word, json_option
from avicheck.checker.trace import CHANGED, Trace, load
from avicheck.checker.verdict import EXIT_OK, Verdict

FORM_NAMES: Final = ("columns", "diff", "full", "json", "itf", "mermaid", "svg")


class Traces(click.Group):
    """The commands on traces."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that ``args`` name; ``InputError`` if there is none."""
        if not args[0].startswith("-") and args[0] not in self.commands:
            raise not_one_of("Command", self.commands, args[0], place="trace")
        return super().resolve_command(ctx, args)


@click.group("trace", cls=Traces, invoke_without_command=True)
@click.pass_context
def trace(ctx: click.Context) -> None:
    """Show, replay and compare traces of concurrent models.

    A trace is a file that 'avicheck simulate' or 'avicheck check' saved: a run, with the model and
    everything that was chosen about it. It is replayed before anything is said about it, on the executable
    model and on the transition system.

    Example: avicheck trace show map-01.json --form diff
    """
    if ctx.invoked_subcommand is None:
        raise InputError("Command", f"one of {', '.join(trace.commands)}", "left out", place="trace")


@trace.command()
@click.argument("file")
@click.option("--form", type=Word(FORM_NAMES), help="The form.  [default: columns]")
@click.option("--json", "json_", is_flag=True, help="The same as --form json.")
def show(file: str, form: str | None, json_: bool) -> int:
    """Print a trace.

    columns has a column for each thread, at most 75 characters wide, for a mail. diff has what each step
    changed, full all variables. itf is for the ITF trace viewer and other tools, mermaid and svg are
    sequence diagrams. FILE may be - for standard input.

    Example: avicheck trace show map-01.json --form svg > map-01.svg
    """
    from avicheck.checker.trace_forms import FORMS

    if json_ and form not in (None, "json"):
        raise InputError("--form", "json beside --json", str(form))
    form = "json" if json_ else form or "columns"
    click.echo(FORMS[form](_replayed(file)), nl=False)
    return EXIT_OK


@trace.command()
@click.argument("file")
@json_option
def replay(file: str, json_: bool) -> int:
    """Run a trace again, and tell where it does not fit.

    Ends with 0 if it fits, with 1 if it does not. A trace may be replayed on another text of the model than
    it was made of: that is how to see whether a change of the model still has a run.

    Example: avicheck trace replay map-01.json
    """
    from avicheck.checker.trace_replay import Misfit, replayed

    shown = load(file)
    step, why = None, None
    try:
        replayed(shown)
    except Misfit as error:
        step, why = error.step, str(error)
    if json_:
        result = {"fits": why is None, "step": step, "why": why, "as_made": shown.as_made}
        click.echo(json.dumps({**result, "steps": len(shown.run.fired)}, indent=2))
    else:
        click.echo(f"{file}: {why}." if why else f"{file}: {_fits(shown)}")
    return Verdict.VIOLATED.exit_code if why else EXIT_OK


@trace.command()
@click.argument("first")
@click.argument("second")
@json_option
def diff(first: str, second: str, json_: bool) -> int:
    """Tell where two traces part, and what differs from there on.

    Ends with 0 if they are the same, with 1 if not.

    Example: avicheck trace diff before.json after.json
    """
    from avicheck.checker.trace_diff import difference, lines

    found = difference(_replayed(first), _replayed(second))
    text = json.dumps(found.as_json(), indent=2) if json_ else "\n".join(lines(found, (first, second)))
    click.echo(text)
    return EXIT_OK if found.same else Verdict.VIOLATED.exit_code


def _replayed(file: str) -> Trace:
    """A trace that fits its model; ``InputError`` if it does not."""
    from avicheck.checker.trace_replay import Misfit, replayed

    shown = load(file)
    try:
        replayed(shown)
    except Misfit as error:
        raise InputError("Trace", "a run of the model", f"one that does not fit: {error}", file) from error
    return shown


def _fits(shown: Trace) -> str:
    """What a replay without a misfit shows."""
    claims = {
        None: "",
        "violated": f", and {shown.asked} is violated",
        "witness": f", and reaches {shown.asked}",
    }
    changed = "" if shown.as_made else f"; {CHANGED}"
    return f"the trace fits in all its {len(shown.run.fired)} steps{claims[shown.verdict]}{changed}."
