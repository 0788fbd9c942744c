"""Search for a smallest case that an expression describes: ``avicheck find``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import click

from avicheck.checker.errors import InputError
from avicheck.checker.models import MODELS
from avicheck.checker.options import KernelName, Number, Word, json_option
from avicheck.checker.verdict import Verdict
from avicheck.spec.kernels import KERNELS

if TYPE_CHECKING:
    from avicheck.checker.minimize import Search
    from avicheck.spec.apic_map_model import Case, Outcome


@dataclass(frozen=True)
class Found:
    """What a search concludes: ``violated`` if it found a case, ``holds`` if there provably is none
    within the bounds, ``unknown`` if the time ran out for some number of vCPUs."""

    search: Search
    kernel: str
    vcpus: int
    verdict: Verdict


@click.command()
@click.argument("model", type=Word(MODELS))
@click.argument("expression")
@click.option("--assume", "assumed", multiple=True, metavar="EXPRESSION", help="Only cases with this too.")
@click.option("--kernel", type=KernelName(KERNELS), default="6.19", show_default=True)
@click.option("--vcpus", type=Number(1, 16), default=3, show_default=True, help="At most so many vCPUs.")
@click.option("--real-caller", is_flag=True, help="Only requests that KVM itself makes.")
@click.option("--timeout", type=Number(1, 86_400), default=120, show_default=True, help="Seconds in all.")
@json_option
def find(
    model: str,
    expression: str,
    assumed: tuple[str, ...],
    kernel: str,
    vcpus: int,
    real_caller: bool,
    timeout: int,
    json_: bool,
) -> int:
    """Find a smallest configuration and request that an expression describes.

    EXPRESSION is a Python condition over the model's names: kvm, alloc_fails, src and irq for the case;
    map, fast (through the map), slow (the loop), delivery (what KVM does), single_vcpu and dest_bitmap
    for what becomes of it. Answers have handled, r, called and accepted; the last two are sets of vCPUs
    as bits. It is never executed.

    Requests that KVM itself makes come first, then the fewest vCPUs, then the least unusual values. What
    is found is replayed on the executable model before it is printed. An expression is read as the
    description of something unwanted: exit code 1 if there is such a case, 0 if there is none within
    the bounds, 2 if the time ran out first.

    Example: avicheck find apic-map 'fast.accepted != slow.accepted' --assume 'not kvm.x2apic_format'
    """
    from avicheck.checker.minimize import smallest_case

    wanted = [_predicate(text) for text in (expression, *assumed)]
    search = smallest_case(_all(wanted), KERNELS[kernel], vcpus, float(timeout), real_caller_only=real_caller)
    if search.case is None and not search.open:
        _refuse_contradiction(wanted[1:], kernel, vcpus, float(timeout))
    found = Found(search, kernel, vcpus, _verdict(search))
    click.echo(json.dumps(as_json(found), indent=2) if json_ else report(found))
    return found.verdict.exit_code


def _verdict(search: Search) -> Verdict:
    if search.case is not None:
        return Verdict.VIOLATED
    return Verdict.UNKNOWN if search.open else Verdict.HOLDS


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


def _refuse_contradiction(
    assumed: list[Callable[[Case, Outcome], bool]], kernel: str, vcpus: int, limit: float
) -> None:
    """Tell "there is none" from "nothing was asked": the assumptions alone must be possible."""
    from avicheck.checker.minimize import possible

    if assumed and possible(_all(assumed), KERNELS[kernel], vcpus, limit) is False:
        raise InputError("Assumptions", "possible together", "a contradiction", "--assume")


def report(found: Found) -> str:
    """The case, or how far it was looked for, in at most 75 columns."""
    from avicheck.checker.cases import case_text

    search = found.search
    if search.case is None:
        return _nothing(found)
    size = len(search.case.kvm.vcpus)
    head = f"Smallest case on kernel {found.kernel}: {size} vCPU{'s' * (size > 1)}{_proof(search)}."
    if not search.real_caller:
        head += f"\nNo caller in KVM makes such a request with up to {found.vcpus} vCPUs; as functions:"
    if not search.complete:
        head += "\nThe time ran out before every value was known to be the smallest."
    return f"{head}\n\n{case_text(search.case)}"


def _proof(search: Search) -> str:
    undecided = f", {_sizes(search.open)} undecided" if search.open else ""
    return (f", none with {_sizes(search.refuted)}" if search.refuted else "") + undecided


def _sizes(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))


def _nothing(found: Found) -> str:
    if found.verdict is Verdict.UNKNOWN:
        return f"unknown: the time ran out for {_sizes(found.search.open)} vCPUs on kernel {found.kernel}" + (
            f"; none with {_sizes(found.search.refuted)}." if found.search.refuted else "."
        )
    return (
        f"None: no case with up to {found.vcpus} vCPUs on kernel {found.kernel}, for all IDs of full width\n"
        "and all requests (solver, exhaustive within these bounds)."
    )


def as_json(found: Found) -> dict[str, Any]:
    """What ``avicheck find --json`` prints."""
    from avicheck.checker.cases import case_json

    search = found.search
    return {
        "verdict": found.verdict.value,
        "kernel": found.kernel,
        "vcpus": found.vcpus,
        "none_with": list(search.refuted),
        "undecided": list(search.open),
        "minimal": search.complete,
        "real_caller": search.real_caller,
        **({"case": None} if search.case is None else case_json(search.case)),
    }
