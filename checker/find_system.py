"""Search for a shortest run to a state that an expression describes: ``avicheck find`` on a concurrent
model."""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import dataclass, make_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import click

from avicheck.checker.check_system import ENGINES, run_json
from avicheck.checker.options import Amount, Number, Word, json_option
from avicheck.checker.presented import presented
from avicheck.checker.systems import Instance, heading, instance_options
from avicheck.checker.verdict import Verdict
from avicheck.checker.vocabulary import Array, Values, Vocabulary, type_of
from avicheck.spec.lang import NULL, domains

if TYPE_CHECKING:
    from avicheck.checker.engine import EngineResult
    from avicheck.checker.engines import EngineName
    from avicheck.encodings.expr import Expr
    from avicheck.encodings.transition import Property
    from avicheck.spec.threads import Model, Thread, ThreadState, World

WIDTH: Final = 75
"""Columns of the report, at most."""
SOUGHT: Final = "sought"
"""The name of what is looked for, among a system's properties."""


@dataclass(frozen=True)
class Found:
    """What a search concludes: ``violated`` if it found a run, ``holds`` or ``proved`` if there is none."""

    instance: Instance
    expression: str
    asked: Property
    result: EngineResult

    @property
    def verdict(self) -> Verdict:
        """The verdict on "there is no such state"."""
        return self.result.verdict


@click.command("find")
@click.argument("model")
@click.argument("expression")
@instance_options
@click.option("--engine", type=Word(ENGINES), default="auto", show_default=True, help="How to search.")
@click.option("--timeout", type=Number(1, 864_000), help="Seconds.  [default: none]")
@click.option("--depth", type=Number(1, 100_000), default=50, show_default=True, help="Steps, for bmc.")
@click.option("--max-memory", type=Amount(), help="Bytes, or with a unit (4GiB).  [default: most there is]")
@json_option
def find_system(
    instance: Instance,
    expression: str,
    engine: EngineName,
    timeout: int | None,
    depth: int,
    max_memory: int | None,
    json_: bool,
) -> int:
    """Find a shortest run to a state that an expression describes.

    EXPRESSION is a Python condition over the names that traces show: the shared state (apic_map_dirty,
    lapics[0].mode) and the threads, each with its pc and its local variables (vcpu[1].pc == find_max_id).
    It is never executed.

    An expression is read as the description of something unwanted: exit code 1 if such a state can be
    reached, 0 if it cannot, 2 if a limit was reached first. The run is replayed before it is printed.

    Example: avicheck find apic-map-life 'apic_map == NULL and apic_map_dirty == CLEAN'
    """
    from avicheck.checker.engines import Limits

    limits = Limits(math.inf if timeout is None else float(timeout), max_memory, depth)
    found = search(instance, expression, engine, limits)
    click.echo(json.dumps(as_json(found), indent=2) if json_ else as_text(found))
    return found.verdict.exit_code


def search(instance: Instance, expression: str, engine: EngineName, limits: Any) -> Found:
    """Look for a state. ``InputError`` if the expression is none over the model's names."""
    from avicheck.checker.engines import check
    from avicheck.encodings.transition import Property

    asked = Property(SOUGHT, "never", condition(instance, expression), expression)
    system = replace(instance.system, properties=(asked,))
    return Found(
        instance, expression, asked, presented(instance, asked, check(system, SOUGHT, engine, limits))
    )


# Expressions over a world.


def condition(instance: Instance, text: str) -> Expr:
    """An expression as one over the system's variables; ``InputError`` if it is none."""
    from avicheck.checker.expression import parse
    from avicheck.checker.find import bad_expression
    from avicheck.encodings.lift import LiftError, lifting, to_expr
    from avicheck.spec.lang import rule

    expression, model = parse(text, vocabulary(instance)), instance.description.model

    @rule
    def holds(world: World[Any]) -> bool:
        found: bool = expression.evaluate(environment(model, world))
        return found

    try:
        with lifting():
            return to_expr(holds(instance.encoding.world))
    except LiftError as error:
        raise bad_expression(error) from error


def vocabulary(instance: Instance) -> Vocabulary:
    """What an expression on a model may name: the shared fields, and its threads."""
    model = instance.description.model
    names = {name: _type(domain) for name, domain in domains(model.shared).items()}
    for kind in model.threads:
        names[kind.name] = Array(_seen(kind)) if kind.count else _seen(kind)
    return Vocabulary(names, {}, {"NULL": NULL})


def environment(model: Model[Any], world: World[Any]) -> Values:
    """The values of the vocabulary's names in a state, concrete or symbolic."""
    values: Values = {name: getattr(world.shared, name) for name in domains(model.shared)}
    for kind in model.threads:
        states = tuple(_view(kind, state) for state in world.of(kind))
        values[kind.name] = states if kind.count else states[0]
    return values


def _type(domain: Any) -> Any:
    """``vocabulary.type_of``, and lists of what it knows."""
    known = type_of(domain)
    return Array(type_of(known.element)) if isinstance(known, Array) else known


@cache
def _seen(kind: Thread[Any]) -> type:
    """The record that an expression sees of a thread: its pc and its local variables."""
    pc = [("pc", kind.labels)] if kind.labels is not None else []
    fields = [*pc, *get_type_hints(kind.locals, include_extras=True).items()]
    return make_dataclass(kind.name, fields, frozen=True, slots=True)


def _view(kind: Thread[Any], state: ThreadState[Any]) -> Any:
    pc = [state.pc] if kind.labels is not None else []
    return _seen(kind)(*pc, *(getattr(state.my, name) for name in domains(kind.locals)))


# Output.


def as_text(found: Found) -> str:
    """What was looked for and the run to it, in at most ``WIDTH`` columns."""
    from avicheck.checker.trace_columns import trace_lines

    result = found.result
    effort = _wrapped(f"{_headline(found)} ({result.engine}: {result.detail}; {result.seconds:.1f} s)")
    if result.run is None:
        sought = _wrapped(f"Sought: {found.expression}")
        return "\n".join([*heading(found.instance, WIDTH), *sought, *effort])
    reached = replace(found.asked, kind="sometimes")
    return "\n".join([*effort, "", *trace_lines(found.instance, reached, result.run, WIDTH)])


def _headline(found: Found) -> str:
    match found.verdict:
        case Verdict.VIOLATED:
            steps = len(found.result.run.fired) if found.result.run else 0
            return f"Reached after {steps} step{'s' * (steps != 1)}."
        case Verdict.HOLDS | Verdict.PROVED:
            return "No reachable state is such."
        case other:
            return f"{other.value}: whether such a state can be reached is open."


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def as_json(found: Found) -> dict[str, Any]:
    """What ``avicheck find --json`` prints."""
    result = found.result
    return {
        **found.instance.as_json(),
        "bounds": found.instance.bounds,
        "assumptions": {name: option.value for name, option in found.instance.assumed.items()},
        "expression": found.expression,
        "verdict": found.verdict.value,
        "engine": result.engine,
        "detail": result.detail,
        "states": result.states,
        "seconds": round(result.seconds, 3),
        "trace": result.run and run_json(result.run),
    }
