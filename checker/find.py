"""Search for a smallest case that an expression describes: ``avicheck find``."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from avicheck.checker.by_model import ByModel, DirectModel
from avicheck.checker.errors import InputError
from avicheck.checker.options import KernelName, Number, json_option
from avicheck.checker.verdict import Verdict
from avicheck.spec.kernels import KERNELS

if TYPE_CHECKING:
    from avicheck.checker.minimize import Callers, Search
    from avicheck.spec.apic_map_model import Case, Outcome

WIDTH: Final = 75
"""Columns of the report, at most."""


@dataclass(frozen=True)
class Asked:
    """What is looked for: an expression under assumptions, on a kernel, with up to so many vCPUs."""

    expression: str
    assumed: tuple[str, ...]
    kernel: str
    vcpus: int
    callers: Callers


@dataclass(frozen=True)
class Found:
    """What a search concludes: ``violated`` if it found a case, ``holds`` if there provably is none
    within the bounds, ``unknown`` if the time ran out for some number of vCPUs."""

    asked: Asked
    search: Search

    @property
    def verdict(self) -> Verdict:
        """The verdict on "there is no such case"."""
        if self.search.case is not None:
            return Verdict.VIOLATED
        return Verdict.UNKNOWN if self.search.open else Verdict.HOLDS


@click.command(cls=ByModel, concurrent="avicheck.checker.find_system:find_system")
@click.argument("model", type=DirectModel())
@click.argument("expression")
@click.option("--assume", "assumed", multiple=True, metavar="EXPRESSION", help="Only cases with this too.")
@click.option("--kernel", type=KernelName(KERNELS), default="6.19", show_default=True)
@click.option("--vcpus", type=Number(1, 16), default=4, show_default=True, help="At most so many vCPUs.")
@click.option(
    "--real-caller/--any-caller",
    "real_caller",
    default=None,
    help="Only requests that KVM itself makes, or all alike.  [default: all, but KVM's own first]",
)
@click.option(
    "--timeout",
    type=Number(1, 86_400),
    default=120,
    show_default=True,
    help="Seconds after which nothing more is asked.",
)
@click.option(
    "--output", metavar="FILE", help="Write the case as a configuration for 'avicheck route' (-: stdout)."
)
@json_option
def find(
    model: str,
    expression: str,
    assumed: tuple[str, ...],
    kernel: str,
    vcpus: int,
    real_caller: bool | None,
    timeout: int,
    output: str | None,
    json_: bool,
) -> int:
    """Find a smallest configuration and request that an expression describes.

    EXPRESSION is a Python condition over the model's names: kvm, alloc_fails, src and irq for the case;
    map, fast (through the map), slow (the loop), delivery (what KVM does), single_vcpu and dest_bitmap
    for what becomes of it. Answers have handled, r, called and accepted; the last two are sets of vCPUs
    as bits. It is never executed.

    Requests that KVM itself makes come first, then the fewest vCPUs, then the least unusual values. What
    is found is replayed on the executable model before it is printed. An expression is read as the
    description of something unwanted: exit code 1 if there is such a case, 0 if there provably is none
    within the bounds, 2 if the time ran out first.

    Example: avicheck find apic-map 'fast.accepted != slow.accepted' --assume 'not kvm.x2apic_format'
    """
    callers: dict[bool | None, Callers] = {None: "first", True: "only", False: "any"}
    asked = Asked(expression, assumed, kernel, vcpus, callers[real_caller])
    found = Found(asked, _search(asked, float(timeout)))
    text = json.dumps(as_json(found), indent=2) if json_ else report(found)
    if output is not None and found.search.case is not None:
        _write(found.search.case, output)
    click.echo(text, err=output == "-")
    return found.verdict.exit_code


def _search(asked: Asked, limit: float) -> Search:
    from avicheck.checker.minimize import UnaskableError, possible, smallest_case

    deadline = time.monotonic() + limit
    kernel, (wanted, *assumed) = KERNELS[asked.kernel], map(_predicate, (asked.expression, *asked.assumed))
    try:
        search = smallest_case(_all([wanted, *assumed]), kernel, asked.vcpus, limit, callers=asked.callers)
    except UnaskableError as error:
        raise bad_expression(error.__cause__) from error
    if assumed and search.case is None and not search.open:
        left = deadline - time.monotonic()
        if possible(_all(assumed), kernel, search.refuted, left) is False:
            expected = f"possible with up to {_vcpus((asked.vcpus,))}"
            raise InputError("Assumptions", expected, "in contradiction with each other", "--assume")
    return search


def _predicate(text: str) -> Callable[[Case, Outcome], bool]:
    """An expression as a rule of a case and its outcome."""
    from avicheck.checker.expression import parse
    from avicheck.checker.vocabulary import APIC_MAP, apic_map_environment
    from avicheck.spec.lang import rule

    expression = parse(text, APIC_MAP)

    @rule
    def holds(case: Case, outcome: Outcome) -> bool:
        return cast(bool, expression.evaluate(apic_map_environment(case, outcome)))

    return holds


def _all(predicates: list[Callable[[Case, Outcome], bool]]) -> Callable[[Case, Outcome], bool]:
    from avicheck.spec.lang import rule

    @rule
    def holds(case: Case, outcome: Outcome) -> bool:
        every = True
        for predicate in predicates:
            every &= predicate(case, outcome)
        return every

    return holds


def bad_expression(refusal: BaseException | None) -> InputError:
    """What is wrong with an expression that has no value in some case, as lifting refused it."""
    match refusal.__cause__ if refusal is not None else None:
        case InputError() as found:
            return found
        case IndexError():
            hint = "check for NULL first: src != NULL and ..."
            return InputError("Index", "at least 0 in every case", "NULL in some", hint=hint)
        case ZeroDivisionError():
            return InputError("Divisor", "other than 0 in every case", "0 in some")
        case ValueError():
            return InputError("Shift", "by 0 bits or more in every case", "by fewer in some")
    reason = str(refusal).partition(": ")[2]
    return InputError("Expression", "within the limits of lifting", f"beyond them ({reason})")


def _write(case: Case, output: str) -> None:
    from avicheck.checker.cases import case_json

    text = json.dumps(case_json(case)["case"], indent=2)
    if case.alloc_fails:
        click.echo("avicheck: note: 'avicheck route' does not know that the map's allocation fails", err=True)
    if output == "-":
        click.echo(text)
        return
    try:
        Path(output).write_text(text + "\n")
    except OSError as error:
        raise InputError(
            "--output", "a file that can be written", error.strerror or str(error), output
        ) from error


def report(found: Found) -> str:
    """The case, or how far it was looked for, in at most 75 columns."""
    from avicheck.checker.cases import case_text

    asked, search = found.asked, found.search
    lines = [_headline(found), f"Such that: {asked.expression}"]
    lines += [f"Assuming: {text}" for text in asked.assumed]
    if search.unasked:
        lines.append(f"Left out: {_vcpus(search.unasked)}, with which the expression has no value.")
    if search.case is None:
        return _wrapped([*lines, f"Requests: {_requests(asked)}.", *_bounds(asked)])
    if not search.real_caller and asked.callers == "first":
        lines.append(f"No request that KVM itself makes is such a case with up to {_vcpus((asked.vcpus,))}.")
    if not search.complete:
        lines.append("The time ran out before every value was known to be the smallest.")
    return f"{_wrapped(lines)}\n\n{case_text(search.case, WIDTH)}"


def _headline(found: Found) -> str:
    asked, search = found.asked, found.search
    if search.case is not None:
        size = len(search.case.kvm.vcpus)
        return f"Smallest case on kernel {asked.kernel}: {_vcpus((size,))}{_refuted(search, '; none with ')}."
    if search.open:
        text = f"unknown: on kernel {asked.kernel} the time ran out for {_vcpus(search.open)}"
        return f"{text}{_refuted(search, '; none with ')}."
    return f"None: on kernel {asked.kernel} there is no such case{_refuted(search, ' with ')}."


def _refuted(search: Search, words: str) -> str:
    undecided = f"; undecided with {_vcpus(search.open)}" if search.case and search.open else ""
    if not search.refuted:
        return undecided
    return f"{words}{_vcpus(search.refuted)} (proved by z3){undecided}"


def _vcpus(sizes: tuple[int, ...]) -> str:
    """Numbers of vCPUs, ascending: ``1 vCPU``, ``1, 2 or 3 vCPUs``."""
    *most, last = map(str, sizes)
    return f"{', '.join(most)}{' or ' * bool(most)}{last} vCPU{'s' * (sizes[-1] > 1)}"


def _requests(asked: Asked) -> str:
    if asked.callers == "only":
        return "those that KVM itself makes"
    return "all, whether or not KVM itself makes them"


def _bounds(asked: Asked) -> list[str]:
    from avicheck.checker.assumptions import APIC_MAP
    from avicheck.checker.check import DOMAIN

    assumed = [f"Assumed: {assumption.name}: {assumption.sentence}" for assumption in APIC_MAP]
    return [f"Bounds: up to {_vcpus((asked.vcpus,))}; {DOMAIN}.", *assumed]


def _wrapped(lines: list[str]) -> str:
    return "\n".join(piece for line in lines for piece in textwrap.wrap(line, WIDTH, subsequent_indent="  "))


def as_json(found: Found) -> dict[str, Any]:
    """What ``avicheck find --json`` prints."""
    from avicheck.checker.assumptions import APIC_MAP
    from avicheck.checker.cases import case_json
    from avicheck.checker.check import DOMAIN
    from avicheck.checker.solve import solver_version

    asked, search = found.asked, found.search
    return {
        "verdict": found.verdict.value,
        "solver": solver_version("z3"),
        "expression": asked.expression,
        "assume": list(asked.assumed),
        "kernel": asked.kernel,
        "vcpus": asked.vcpus,
        "requests": _requests(asked),
        "bounds": DOMAIN,
        "assumptions": {assumption.name: assumption.sentence for assumption in APIC_MAP},
        "none_with": list(search.refuted),
        "undecided": list(search.open),
        "left_out": list(search.unasked),
        "minimal": search.complete and not search.open,
        "real_caller": search.real_caller,
        **({"case": None} if search.case is None else case_json(search.case)),
    }
