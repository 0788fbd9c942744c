"""The full proof of a model's claims, archived and confirmed by a second solver: ``avicheck prove``."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from avicheck.checker.archive import (
    FORMAT,
    Archive,
    Entry,
    Manifest,
    Reply,
    checksum,
    file_of,
    specification_checksum,
    tool_version,
)
from avicheck.checker.check import WIDTH
from avicheck.checker.claims import provable
from avicheck.checker.errors import InputError, not_one_of
from avicheck.checker.options import KernelName, Number, Word, json_option
from avicheck.checker.proof import Evidence, Proof, collect, fixes_of, limits, run, take_over
from avicheck.checker.solve import Answer, solver_version
from avicheck.checker.verdict import EXIT_INTERRUPTED, worst
from avicheck.spec.kernels import KERNELS


@click.command()
@click.argument("model")
@click.option(
    "--kernel", "kernels", type=KernelName(KERNELS), multiple=True, help="May be repeated.  [default: 6.19]"
)
@click.option("--vcpus", type=Number(1, 16), default=8, show_default=True, help="At most so many vCPUs.")
@click.option(
    "--claim",
    "names",
    multiple=True,
    metavar="NAME",
    help="Only this claim or theorem; may be repeated.",
)
@click.option(
    "--archive",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep every query as SMT-LIB 2 in DIR; take over what an earlier run has answered there.",
)
@click.option("--recheck", type=Word(("bitwuzla", "cvc5")), help="Ask this solver every question again.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a summary with smallest examples as Markdown.",
)
@click.option("--timeout", type=Number(1, 86_400), default=900, show_default=True, help="Seconds a query.")
@click.option("--jobs", type=Number(1, 64), default=os.cpu_count() or 1, help="Queries at a time.")
@json_option
def prove(
    model: str,
    kernels: tuple[str, ...],
    vcpus: int,
    names: tuple[str, ...],
    folder: Path | None,
    recheck: str | None,
    report_file: Path | None,
    timeout: int,
    jobs: int,
    json_: bool,
) -> int:
    """Prove a model's claims at their full size.

    Besides the claims: that the hand-written rules and the lifted model are equivalent, and that
    lifting left out no path. Of a concurrent model: its theorems, about states at their full width, and
    the equivalence; the rest is for 'check'.

    --archive keeps each query as a script of its own, with a manifest of answers, times, solver versions
    and checksums. DIR holds one run; of an earlier one, answers are taken over where script and solver
    version are the same, and marked as reused. --recheck gives the same scripts to a second solver.
    Solvers that contradict each other are a tool error; a second solver that runs out of time
    confirms nothing.

    Ctrl-C prints, and archives, what is answered so far.

    Example: avicheck prove apic-map --archive evidence --recheck bitwuzla
    """
    if model not in provable():
        raise not_one_of("model", provable(), model)
    if recheck is not None:
        require_solver(recheck)
    if report_file is not None:
        require_writable(report_file)
    archive = Archive(folder) if folder is not None else None
    chosen = [KERNELS[name] for name in dict.fromkeys(kernels or ("6.19",))]
    proofs = [collect(model, kernel, vcpus, names) for kernel in chosen]
    interrupted = False
    try:
        if archive is not None:
            for proof in proofs:
                take_over(proof, recheck, archive)
        for proof in proofs:
            run(proof, jobs, float(timeout), recheck, archive)
    except KeyboardInterrupt:
        interrupted = True
    if archive is not None:
        archive.finish(manifest(model, proofs))
    click.echo(json.dumps(as_json(model, proofs), indent=2) if json_ else report(model, proofs, recheck))
    if report_file is not None and not interrupted:
        from avicheck.checker.evidence import markdown

        report_file.write_text(markdown(model, proofs, recheck))
    verdict = worst(proof.overall for proof in proofs)
    return EXIT_INTERRUPTED if interrupted else verdict.exit_code


def require_solver(name: str) -> None:
    """``InputError`` if a solver's package is missing."""
    try:
        solver_version(name)
    except InputError as error:
        raise InputError("--recheck", error.expectation, error.came, hint=error.hint) from None


def require_writable(file: Path) -> None:
    """``InputError`` unless a file can be written."""
    try:
        file.open("a").close()
    except OSError as error:
        reason = error.strerror or "an error"
        raise InputError("--report", "a file that can be written", reason, str(file)) from None


# What is archived.


def manifest(model: str, proofs: Iterable[Proof]) -> Manifest:
    """The manifest of a run."""
    proofs, (bounds, assumed) = list(proofs), limits(model)
    return Manifest(
        FORMAT,
        tool_version(),
        specification_checksum(),
        model,
        bounds,
        {assumption.name: assumption.sentence for assumption in assumed},
        {proof.kernel.name: _kernel_json(model, proof) for proof in proofs},
        tuple(
            _entry(proof, group, item)
            for proof in proofs
            for group in proof.asked
            for item in proof.of(group)
        ),
    )


def _entry(proof: Proof, group: str, item: Evidence) -> Entry:
    query = item.query
    return Entry(
        query.name,
        file_of(query),
        checksum(query),
        proof.kernel.name,
        group,
        query.sentence,
        query.expected,
        _reply(item.answer, item.reused),
        _reply(item.second, item.second_reused) if item.second else None,
    )


def _reply(answer: Answer, reused: bool) -> Reply:
    version = solver_version(answer.solver)
    return Reply(answer.status, version, round(answer.seconds, 3), answer.why, answer.values, reused)


def _kernel_json(model: str, proof: Proof) -> dict[str, Any]:
    return {
        "fixes": fixes_of(model, proof.kernel),
        "verdict": proof.overall.value,
        "groups": {group: _group_json(proof, group) for group in proof.asked},
    }


def _group_json(proof: Proof, group: str) -> dict[str, Any]:
    claim, found = proof.claim(group), proof.of(group)
    return {
        "sentence": proof.sentence(group),
        **({"kind": claim.kind} if claim else {}),
        **({"class": asdict(claim.explanation)} if claim and claim.explanation else {}),
        "vcpus": proof.size(group),
        "verdict": proof.verdict(group).value,
        "queries": len(proof.asked[group]),
        "answered": sum(item.answer.status != "unknown" for item in found),
        "reused": sum(item.reused for item in found),
        "confirmed": sum(item.confirmed for item in found),
        "seconds": round(sum(item.answer.seconds for item in found), 3),
    }


def as_json(model: str, proofs: Sequence[Proof]) -> dict[str, Any]:
    """What ``avicheck prove --json`` prints: the manifest."""
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(manifest(model, proofs))
    return told


# The report.


def report(model: str, proofs: Sequence[Proof], recheck: str | None) -> str:
    """A table for each kernel, and what is open, in at most ``WIDTH`` columns where names allow it."""
    lines: list[str] = []
    for proof in proofs:
        lines += [f"{model} on kernel {proof.kernel.name}: {proof.overall.value}", ""]
        lines += [*_table(proof, recheck), "", *_open_lines(proof, recheck)]
    bounds, assumed = limits(model)
    for text in (
        f"Bounds: {bounds}.",
        *(f"Assumed: {assumption.name}: {assumption.sentence}" for assumption in assumed),
    ):
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def _table(proof: Proof, recheck: str | None) -> Iterator[str]:
    rows = [("verdict", "claim", "vCPUs", "queries", "seconds", recheck or "")]
    groups = [(group, proof.of(group)) for group in proof.asked]
    for group, found in groups:
        asked = len(proof.asked[group])
        rows.append(
            (proof.verdict(group).value, group, str(proof.size(group) or ""), *_counts(asked, found, recheck))
        )
    everything = [item for _, found in groups for item in found]
    asked = sum(map(len, proof.asked.values()))
    rows.append(("", "in all", "", *_counts(asked, everything, recheck)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:2], widths, strict=False)]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[2:], widths[2:], strict=True)]
        yield " ".join(cells).rstrip()


def _counts(asked: int, found: Sequence[Evidence], recheck: str | None) -> tuple[str, str, str]:
    """Queries (answered of all, if they differ), seconds, and how many the second solver confirmed."""
    answered = sum(item.answer.status != "unknown" for item in found)
    seconds = sum(item.answer.seconds for item in found)
    confirmed = sum(item.confirmed for item in found)
    return (
        str(asked) if answered == asked else f"{answered}/{asked}",
        f"{seconds:.1f}",
        "" if not recheck else str(confirmed) if confirmed == asked else f"{confirmed}/{asked}",
    )


def _open_lines(proof: Proof, recheck: str | None) -> list[str]:
    """What the second solver or nobody answered, one line each; then what was taken over."""
    lines = []
    for item in (item for group in proof.asked for item in proof.of(group)):
        name = item.query.name
        if item.answer.status == "unknown":
            lines.append(f"open: {name}: {item.answer.why}")
        elif item.disputed:
            lines.append(f"disputed: {name}: {item.answer.solver} and {recheck} contradict each other")
        elif recheck and not item.confirmed:
            why = item.second.why if item.second else "not asked"
            lines.append(f"not confirmed: {name}: {recheck}: {why}")
    missing = sum(map(len, proof.asked.values())) - len(proof.evidence)
    lines += [f"not asked: {missing} queries"] if missing else []
    reused = sum(item.reused for item in proof.evidence.values())
    lines += [f"reused: {reused} answers of an earlier run, to the same scripts"] if reused else []
    return [*lines, ""] if lines else []
