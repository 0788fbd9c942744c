"""Decide the claims about a model: ``avicheck check``."""

from __future__ import annotations

import json
import os
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import click

from avicheck.checker.by_model import ByModel, DirectModel
from avicheck.checker.errors import not_one_of
from avicheck.checker.options import KernelName, Number, Word, json_option
from avicheck.checker.verdict import EXIT_INTERRUPTED, Verdict, worst
from avicheck.spec.kernels import KERNELS, Kernel

if TYPE_CHECKING:
    from avicheck.checker.claims import Claim, Result
    from avicheck.checker.minimize import Search

WIDTH: Final = 75
"""Columns of the report, at most."""

CLASSES_HEAD: Final = (
    "Divergence classes: why the map and the loop can disagree. A class 'holds' if it is not superfluous: "
    "on some request that KVM itself makes, a vCPU diverges that is in no other class."
)

DOMAIN: Final = "vCPU ids 0 to 4095, 8-bit xAPIC IDs, 32-bit destinations, LDR, DFR and priorities"


@dataclass
class Run:
    """What a run of the command has found out so far."""

    kernel: Kernel
    claims: Sequence[Claim]
    sizes: dict[str, int]
    results: dict[str, Result] = field(default_factory=dict)
    examples: dict[str, Search] = field(default_factory=dict)

    @property
    def missing(self) -> list[str]:
        """The claims without a verdict."""
        return [claim.name for claim in self.claims if claim.name not in self.results]

    @property
    def verdict(self) -> Verdict:
        """The verdict on all claims together; unknown while one is missing."""
        verdicts = [result.verdict for result in self.results.values()]
        return worst(verdicts + [Verdict.UNKNOWN] * bool(self.missing))


@click.command(cls=ByModel, concurrent="avicheck.checker.check_system:check_system")
@click.argument("model", type=DirectModel())
@click.option("--kernel", type=KernelName(KERNELS), default="6.19", show_default=True)
@click.option(
    "--vcpus",
    type=Number(1, 16),
    default=3,
    show_default=True,
    help="Up to so many vCPUs; a claim whose own bound is lower stops there.",
)
@click.option("--claim", "names", multiple=True, metavar="NAME", help="Only this claim; may be repeated.")
@click.option("--timeout", type=Number(1, 86_400), default=300, show_default=True, help="Seconds a query.")
@click.option("--jobs", type=Number(1, 64), default=os.cpu_count() or 1, help="Queries at a time.")
@click.option(
    "--examples",
    type=Word(("violated", "all", "none")),
    default="violated",
    show_default=True,
    help="Which claims to illustrate with their smallest case.",
)
@json_option
def check(
    model: str,
    kernel: str,
    vcpus: int,
    names: tuple[str, ...],
    timeout: int,
    jobs: int,
    examples: str,
    json_: bool,
) -> int:
    """Decide the claims about a model.

    Prints a verdict for each claim with its bounds, and what all of them assume. 'holds' means: in every
    case within the bounds, as a solver found; or, for a claim that something happens, in the case shown.
    A violated claim comes with its smallest counterexample, replayed on the executable model. vCPUs may
    be disabled, so that a number of vCPUs includes all smaller ones.

    Ctrl-C prints what is decided so far.

    Example: avicheck check apic-map --kernel 6.1
    """
    claims = select(model, names, KERNELS[kernel])
    run = Run(KERNELS[kernel], claims, {claim.name: claim.size(vcpus) for claim in claims})
    interrupted = False
    try:
        decide_all(run, jobs, float(timeout))
        illustrate(run, examples, float(timeout))
    except KeyboardInterrupt:
        interrupted = True
    click.echo(json.dumps(as_json(run), indent=2) if json_ else report(run))
    return EXIT_INTERRUPTED if interrupted else run.verdict.exit_code


def select(model: str, names: Iterable[str], kernel: Kernel) -> list[Claim]:
    """The claims about a model that are made for a kernel, or the named ones among them."""
    from avicheck.checker.claims import claims_of

    claims = [claim for claim in claims_of(model) if claim.on(kernel)]
    known = [claim.name for claim in claims]
    for name in names:
        if name not in known:
            raise not_one_of("--claim", known, name, place=f"kernel {kernel.name}")
    return [claim for claim in claims if not names or claim.name in names]


def decide_all(run: Run, jobs: int, limit: float) -> None:
    """Fill in the results."""
    from avicheck.checker.claims import decide, number_of_queries
    from avicheck.checker.progress import Progress

    with Progress(sum(number_of_queries(claim, run.sizes[claim.name]) for claim in run.claims)) as progress:
        decided = decide(
            run.claims,
            run.kernel,
            lambda claim: run.sizes[claim.name],
            jobs=jobs,
            limit=limit,
            on_answer=lambda query, _answer: progress.step(query.name),
        )
        for result in decided:
            run.results[result.claim.name] = result


def illustrate(run: Run, which: str, limit: float) -> None:
    """Look for the smallest cases of the claims that are to be illustrated."""
    from avicheck.checker.claims import smallest
    from avicheck.checker.progress import Progress

    wanted = {"all": (Verdict.VIOLATED, Verdict.HOLDS), "violated": (Verdict.VIOLATED,), "none": ()}[which]
    chosen = [
        result for result in run.results.values() if result.case is not None and result.verdict in wanted
    ]
    with Progress(len(chosen)) as progress:
        for result in chosen:
            run.examples[result.claim.name] = smallest(result.claim, run.kernel, result.vcpus, limit)
            progress.step(result.claim.name)


def report(run: Run) -> str:
    """The verdicts in at most ``WIDTH`` columns, to be read in a mail: the claims, then the classes."""
    from avicheck.checker.assumptions import APIC_MAP

    lines = [f"apic-map on kernel {run.kernel.name}: {run.verdict.value} ({tally(run)})", ""]
    classes = [claim for claim in run.claims if claim.explanation]
    for claim in run.claims:
        lines += [] if claim.explanation else [*_claim_lines(run, claim), ""]
    if classes:
        lines += [*_wrapped(CLASSES_HEAD, ""), ""]
    for claim in classes:
        lines += [*_claim_lines(run, claim), ""]
    lines += _wrapped(f"Bounds: the number of vCPUs shown; {DOMAIN}.", "")
    for assumption in APIC_MAP:
        lines += _wrapped(f"Assumed: {assumption.name}: {assumption.sentence}", "")
    if run.missing:
        lines += ["", *_wrapped(f"Not decided: {', '.join(run.missing)}.", "")]
    return "\n".join(lines)


def tally(run: Run) -> str:
    """How many claims have which verdict."""
    counts = Counter(result.verdict for result in run.results.values())
    parts = [f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]]
    return ", ".join(parts + [f"{len(run.missing)} not decided"] * bool(run.missing))


def _claim_lines(run: Run, claim: Claim) -> list[str]:
    from avicheck.checker.cases import case_text

    result = run.results.get(claim.name)
    if result is None:
        return [f"not decided  {claim.name}"]
    asked = f"{len(result.answers)} quer{'ies' if len(result.answers) > 1 else 'y'}, {result.seconds:.1f} s"
    lines = [f"{result.verdict.value}  {claim.name}  ({_vcpus(result.vcpus)}; {asked})"]
    lines += _wrapped(claim.sentence, "  ")
    if claim.explanation:
        lines += _wrapped(f"Where: {claim.explanation.predicate}", "  ")
        lines += _wrapped(f"Why: {claim.explanation.mechanism}", "  ")
        lines += _wrapped(f"Documented: {claim.explanation.documented or 'no.'}", "  ")
    for name in result.open:
        lines += _wrapped(f"open: {name}", "  ")
    example = run.examples.get(claim.name)
    if example is not None and example.case is not None:
        lines += [f"  Smallest case{caller_text(example)}:"]
        lines += textwrap.indent(case_text(example.case, WIDTH - 4), "    ").splitlines()
    return lines


def caller_text(example: Search) -> str:
    """What is to be said of a case besides itself."""
    text = "" if example.real_caller else ", with a request that no caller in KVM makes"
    return text if example.complete else text + " (perhaps not the smallest: the time ran out)"


def _vcpus(count: int) -> str:
    return f"{count} vCPU{'s' * (count > 1)}"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  " * (not indent))


def as_json(run: Run) -> dict[str, Any]:
    """What ``avicheck check --json`` prints."""
    from avicheck.checker.assumptions import APIC_MAP

    return {
        "model": "apic-map",
        "kernel": run.kernel.name,
        "fixes": sorted(fix.value for fix in run.kernel.fixes),
        "verdict": run.verdict.value,
        "bounds": DOMAIN,
        "assumptions": {assumption.name: assumption.sentence for assumption in APIC_MAP},
        "claims": [_claim_json(run, claim) for claim in run.claims],
    }


def _claim_json(run: Run, claim: Claim) -> dict[str, Any]:
    from avicheck.checker.cases import case_json

    told: dict[str, Any] = {
        "name": claim.name,
        "sentence": claim.sentence,
        "kind": claim.kind,
        "source": claim.source,
        **({"class": asdict(claim.explanation)} if claim.explanation else {}),
        "vcpus": run.sizes[claim.name],
    }
    result = run.results.get(claim.name)
    if result is None:
        return {**told, "verdict": None}
    example = run.examples.get(claim.name)
    case = example.case if example is not None else result.case
    return {
        **told,
        "verdict": result.verdict.value,
        "queries": len(result.answers),
        "seconds": round(result.seconds, 3),
        "open": result.open,
        "smallest": example is not None and example.complete,
        "example": None if case is None else case_json(case),
    }
