"""Three voices on every case of a scaled-down APIC map: ``avicheck crosscheck apic-map``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from avicheck.checker.by_model import DirectModel
from avicheck.checker.options import KernelName, Word, json_option
from avicheck.checker.verdict import EXIT_INTERRUPTED, worst
from avicheck.spec.kernels import KERNELS

if TYPE_CHECKING:
    from avicheck.checker.enumerate_small import Disagreement, Enumeration

WIDTH: Final = 75
SCOPES: Final = ("quick-maps", "quick", "maps", "routes", "three")
"""The names of the scopes in ``enumerate_small``."""
QUICK: Final = ("quick-maps", "quick")

VOICES: Final = (
    "Voices: the specification, run in Python; the same, lifted to formulas; the rules written by hand. "
    "Every value that they give is compared."
)


@click.command()
@click.argument("model", type=DirectModel())
@click.option(
    "--kernel", "kernels", type=KernelName(KERNELS), multiple=True, help="May be repeated.  [default: 6.19]"
)
@click.option(
    "--scope",
    "names",
    type=Word(SCOPES),
    multiple=True,
    help=f"A finite domain; may be repeated. Those besides the quick ones have 4 to 5 million cases each and "
    f"take minutes.  [default: {', '.join(QUICK)}]",
)
@json_option
def crosscheck_map(model: str, kernels: tuple[str, ...], names: tuple[str, ...], json_: bool) -> int:
    """Hold three voices on the APIC map against each other.

    Every configuration of a scaled-down domain is enumerated, and with each every slot of the map, or every
    request: what the specification says when it is run, what its lifted formulas say and what the
    rules written by hand say must be the same. 'holds' means that it is, in every case of the scopes
    that are printed. A difference is a tool error.

    Ctrl-C prints what was covered.

    Example: avicheck crosscheck apic-map --kernel 6.1 --scope maps
    """
    chosen = dict.fromkeys(names or QUICK)
    results: list[Enumeration] = []
    for kernel in dict.fromkeys(kernels or ("6.19",)):
        for name in chosen:
            if all(result.complete for result in results):
                results.append(enumerate_scope(kernel, name))
    click.echo(json.dumps(as_json(model, results), indent=2) if json_ else report(model, results))
    interrupted = not all(result.complete for result in results)
    return EXIT_INTERRUPTED if interrupted else worst(result.verdict for result in results).exit_code


def enumerate_scope(kernel: str, name: str) -> Enumeration:
    """Compare the voices within a scope."""
    from avicheck.checker import enumerate_small
    from avicheck.checker.progress import Progress

    scope = enumerate_small.SCOPES[name]
    done = 0
    with Progress(enumerate_small.number_of_cases(scope, KERNELS[kernel])) as progress:

        def told(cases: int) -> None:
            nonlocal done
            progress.step(f"cases of {name}, kernel {kernel}", cases - done)
            done = cases

        return enumerate_small.run_enumeration(KERNELS[kernel], scope, told)


def report(model: str, results: Sequence[Enumeration]) -> str:
    """A line for each scope, then the first disagreements, in at most ``WIDTH`` columns."""
    verdict = worst(result.verdict for result in results)
    lines = [f"{model}, three voices: {verdict.value}", "", *_table(results), ""]
    for result in results:
        lines += (line for each in result.disagreements for line in _told(result, each))
    scopes = {result.scope.name: result.scope for result in results}
    for text in (VOICES, *(f"Scope {name}: {scope.bounds}." for name, scope in scopes.items())):
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def _table(results: Iterable[Enumeration]) -> Iterable[str]:
    yield f"{'kernel':<15} {'scope':<10} {'vCPUs':>5} {'VMs':>9} {'cases':>11} {'values':>12}"
    for result in results:
        numbers = f"{result.configurations:>9,} {result.cases:>11,} {result.values:>12,}"
        cut = "" if result.complete else "  (interrupted)"
        yield f"{result.kernel:<15} {result.scope.name:<10} {result.scope.vcpus:>5} {numbers}{cut}"


def _told(result: Enumeration, found: Disagreement) -> list[str]:
    said = f"specification {found.by_model}, lifted {found.by_lifting}, rules {found.by_rules}"
    case = textwrap.wrap(repr(found.case), WIDTH, initial_indent="  ", subsequent_indent="  ")
    return [f"{result.kernel}, {result.scope.name}: {found.name}: {said}", *case, ""]


def as_json(model: str, results: Sequence[Enumeration]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "model": model,
        "verdict": worst(result.verdict for result in results).value,
        "scopes": [
            {
                "kernel": result.kernel,
                "scope": result.scope.name,
                "vcpus": result.scope.vcpus,
                "configurations": result.configurations,
                "cases": result.cases,
                "values": result.values,
                "complete": result.complete,
                "verdict": result.verdict.value,
                "disagreements": [
                    {
                        "value": found.name,
                        "specification": found.by_model,
                        "lifted": found.by_lifting,
                        "rules": found.by_rules,
                        "case": repr(found.case),
                    }
                    for found in result.disagreements
                ],
            }
            for result in results
        ],
    }
