"""The full proof of a model's claims, archived and confirmed by a second solver: ``avicheck prove``."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from avicheck.checker.errors import InputError
from avicheck.checker.models import MODELS
from avicheck.checker.options import KernelName, Number, Word, json_option
from avicheck.checker.verdict import EXIT_INTERRUPTED, Verdict, worst
from avicheck.spec.kernels import KERNELS, Kernel

if TYPE_CHECKING:
    from avicheck.checker.claims import Claim
    from avicheck.checker.solve import Answer, Query

MANIFEST: Final = "manifest.json"
WIDTH: Final = 75
LIFTING: Final = "lifting"
"""The group of the queries that no path was wrongly left out of the lifted model."""
EQUIVALENCE: Final = "equivalence"
"""The group of the queries that the hand-written rules and the lifted model are one."""


@dataclass
class Evidence:
    """One query with its answer, and the second solver's if it was asked."""

    kernel: str
    group: str
    query: Query
    answer: Answer
    second: Answer | None = None

    @property
    def disputed(self) -> bool:
        """Whether the two solvers contradict each other."""
        statuses = {self.answer.status, *([self.second.status] if self.second else [])}
        return {"sat", "unsat"} <= statuses


@dataclass
class Proof:
    """All evidence for one kernel, by group: a claim's name, LIFTING or EQUIVALENCE."""

    kernel: Kernel
    vcpus: int
    claims: Sequence[Claim]
    asked: dict[str, list[Query]]
    evidence: dict[str, list[Evidence]] = field(default_factory=dict)

    def verdict(self, group: str) -> Verdict:
        """What the answers of a group add up to."""
        from avicheck.checker.claims import conclude

        found = self.evidence.get(group, [])
        if any(item.disputed for item in found):
            return Verdict.TOOL_ERROR
        if len(found) < len(self.asked[group]):
            return Verdict.UNKNOWN
        claim = next((claim for claim in self.claims if claim.name == group), None)
        answers = [(item.query, item.answer) for item in found]
        if claim is not None:
            return conclude(claim, self.kernel, min(self.vcpus, claim.vcpus), answers).verdict
        statuses = {answer.status for _, answer in answers}
        if "sat" in statuses:
            return Verdict.TOOL_ERROR
        return Verdict.UNKNOWN if "unknown" in statuses else Verdict.HOLDS

    @property
    def overall(self) -> Verdict:
        """The verdict on everything together."""
        return worst(self.verdict(group) for group in self.asked)


@click.command()
@click.argument("model", type=Word(MODELS))
@click.option(
    "--kernel", "kernels", type=KernelName(KERNELS), multiple=True, help="May be repeated.  [default: 6.19]"
)
@click.option("--vcpus", type=Number(1, 16), default=8, show_default=True, help="At most so many vCPUs.")
@click.option("--claim", "names", multiple=True, metavar="NAME", help="Only this claim; may be repeated.")
@click.option("--archive", type=click.Path(path_type=Path), help="Write every query as SMT-LIB 2 below DIR.")
@click.option("--recheck", type=Word(("bitwuzla", "cvc5")), help="Ask this solver every question again.")
@click.option("--timeout", type=Number(1, 86_400), default=900, show_default=True, help="Seconds a query.")
@click.option("--jobs", type=Number(1, 64), default=os.cpu_count() or 1, help="Queries at a time.")
@json_option
def prove(
    model: str,
    kernels: tuple[str, ...],
    vcpus: int,
    names: tuple[str, ...],
    archive: Path | None,
    recheck: str | None,
    timeout: int,
    jobs: int,
    json_: bool,
) -> int:
    """Prove a model's claims at their full size.

    Besides the claims: that the hand-written rules and the lifted model are equivalent, and that
    lifting left out no path. --archive keeps each query as a script of its own, with a manifest of answers,
    times, solver versions and checksums; --recheck gives the same scripts to a second solver. Solvers
    that contradict each other are a tool error; a second solver that runs out of time confirms nothing.

    Example: avicheck prove apic-map --archive evidence --recheck bitwuzla
    """
    if recheck is not None:
        require_solver(recheck)
    if archive is not None:
        prepare(archive)
    proofs: list[Proof] = []
    interrupted = False
    try:
        for name in kernels or ("6.19",):
            proofs.append(collect(model, KERNELS[name], vcpus, names))
            run(proofs[-1], jobs, float(timeout), recheck)
    except KeyboardInterrupt:
        interrupted = True
    if archive is not None:
        write(archive, proofs)
    click.echo(json.dumps(as_json(proofs), indent=2) if json_ else report(proofs, recheck))
    verdict = worst([proof.overall for proof in proofs] or [Verdict.UNKNOWN])
    return EXIT_INTERRUPTED if interrupted else verdict.exit_code


def require_solver(name: str) -> None:
    """``InputError`` if a solver's package is missing."""
    from importlib.metadata import PackageNotFoundError

    from avicheck.checker.solve import PACKAGES, solver_version

    try:
        solver_version(name)
    except PackageNotFoundError:
        raise InputError(
            "--recheck", "an installed solver", name, hint=f"pip install {PACKAGES[name]}"
        ) from None


def collect(model: str, kernel: Kernel, vcpus: int, names: Iterable[str]) -> Proof:
    """Everything that must be asked for one kernel."""
    from avicheck.checker.check import select
    from avicheck.checker.claims import lifting_queries, obligations_of, queries

    claims = select(model, names, kernel)
    sizes = {claim.name: min(vcpus, claim.vcpus) for claim in claims}
    asked = {claim.name: queries(claim, kernel, sizes[claim.name]) for claim in claims}
    if not names:
        asked[EQUIVALENCE] = obligations_of(model, kernel, vcpus)
    asked[LIFTING] = [
        query for size in sorted(set(sizes.values())) for query in lifting_queries(kernel, size)
    ]
    return Proof(kernel, vcpus, claims, asked)


def run(proof: Proof, jobs: int, limit: float, recheck: str | None) -> None:
    """Ask everything, and everything again if there is a second solver."""
    from avicheck.checker.progress import Progress
    from avicheck.checker.solve import solve_all

    group_of = {query.name: group for group, queries in proof.asked.items() for query in queries}
    queries = [query for group in proof.asked.values() for query in group]
    with Progress(len(queries) * (2 if recheck else 1)) as progress:
        found: dict[str, Evidence] = {}
        for query, answer in solve_all(queries, jobs=jobs, limit=limit):
            item = Evidence(proof.kernel.name, group_of[query.name], query, answer)
            found[query.name] = item
            proof.evidence.setdefault(item.group, []).append(item)
            progress.step(query.name)
        if recheck:
            for query, answer in solve_all(queries, jobs=jobs, solver=recheck, limit=limit):
                found[query.name].second = answer
                progress.step(f"{recheck}: {query.name}")


# The archive.


def prepare(folder: Path) -> None:
    """``InputError`` unless an archive can be written to a folder without losing anything else."""
    if folder.exists() and not folder.is_dir():
        raise InputError("--archive", "a folder", "a file", str(folder))
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise InputError(
            "--archive", f"an empty folder or one with a {MANIFEST}", "a folder with other files", str(folder)
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "--archive", "a folder that can be made", error.strerror or "an error", str(folder)
        ) from None


def write(folder: Path, proofs: Iterable[Proof]) -> None:
    """Write every script and, last, the manifest; the scripts of an earlier archive go."""
    import hashlib

    _clear(folder)
    entries = []
    for proof in proofs:
        for item in _all_evidence(proof):
            path = folder / f"{item.query.name}.smt2"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(item.query.text)
            digest = hashlib.sha256(item.query.text.encode()).hexdigest()
            entries.append({"file": f"{item.query.name}.smt2", "sha256": digest, **_evidence_json(item)})
    manifest = {"format": 1, "tool": _tool_version(), "queries": entries}
    part = folder / f".{MANIFEST}.part"
    part.write_text(json.dumps(manifest, indent=1) + "\n")
    part.replace(folder / MANIFEST)


def _clear(folder: Path) -> None:
    manifest = folder / MANIFEST
    if manifest.exists():
        earlier = json.loads(manifest.read_text())["queries"]
        manifest.unlink()
        for entry in earlier:
            (folder / entry["file"]).unlink(missing_ok=True)


def _tool_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"avicheck {version('avicheck')}"
    except PackageNotFoundError:
        return "avicheck, not installed"


def _all_evidence(proof: Proof) -> Iterator[Evidence]:
    for group in proof.asked:
        yield from proof.evidence.get(group, [])


def _evidence_json(item: Evidence) -> dict[str, Any]:
    told = {
        "name": item.query.name,
        "kernel": item.kernel,
        "group": item.group,
        "sentence": item.query.sentence,
        "expected": item.query.expected,
        **_answer_json(item.answer),
    }
    return {**told, "recheck": _answer_json(item.second)} if item.second else told


def _answer_json(answer: Answer) -> dict[str, Any]:
    from avicheck.checker.solve import solver_version

    told = {
        "answer": answer.status,
        "solver": solver_version(answer.solver),
        "seconds": round(answer.seconds, 3),
    }
    return {**told, "why": answer.why} if answer.why else told


# The report.


def report(proofs: Sequence[Proof], recheck: str | None) -> str:
    """A line for each group, then what is open."""
    lines: list[str] = []
    for proof in proofs:
        lines += [f"apic-map on kernel {proof.kernel.name}: {proof.overall.value}", ""]
        lines += [_group_line(proof, group, recheck) for group in proof.asked]
        lines += ["", *_open_lines(proof)]
    from avicheck.checker.assumptions import APIC_MAP
    from avicheck.checker.check import DOMAIN

    for text in (
        f"Bounds: the number of vCPUs shown; {DOMAIN}.",
        *(f"Assumed: {a.name}: {a.sentence}" for a in APIC_MAP),
    ):
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def _group_line(proof: Proof, group: str, recheck: str | None) -> str:
    found = proof.evidence.get(group, [])
    seconds = sum(item.answer.seconds for item in found)
    claim = next((claim for claim in proof.claims if claim.name == group), None)
    vcpus = min(proof.vcpus, claim.vcpus) if claim else proof.vcpus
    sizes = f"{vcpus:>2} vCPUs {len(found):>4} queries {seconds:>8.1f} s"
    line = f"{proof.verdict(group).value:<10}{group:<32}{sizes}"
    if not recheck:
        return line
    confirmed = sum(item.second is not None and item.second.status == item.answer.status for item in found)
    return f"{line}\n{'':<10}confirmed by {recheck}: {confirmed} of {len(found)}"


def _open_lines(proof: Proof) -> list[str]:
    lines = []
    for item in _all_evidence(proof):
        if item.disputed:
            second = item.second.solver if item.second else ""
            lines.append(
                f"disputed: {item.query.name}: {item.answer.solver} and {second} contradict each other"
            )
        elif item.answer.status == "unknown":
            lines.append(f"open: {item.query.name}: {item.answer.why}")
    missing = sum(map(len, proof.asked.values())) - sum(map(len, proof.evidence.values()))
    return [
        *lines,
        *([f"not asked: {missing} queries"] if missing else []),
        *([""] if lines or missing else []),
    ]


def as_json(proofs: Sequence[Proof]) -> dict[str, Any]:
    """What ``avicheck prove --json`` prints."""
    from avicheck.checker.assumptions import APIC_MAP
    from avicheck.checker.check import DOMAIN

    return {
        "model": "apic-map",
        "bounds": DOMAIN,
        "assumptions": {assumption.name: assumption.sentence for assumption in APIC_MAP},
        "kernels": [
            {
                "kernel": proof.kernel.name,
                "fixes": sorted(fix.value for fix in proof.kernel.fixes),
                "verdict": proof.overall.value,
                "groups": {group: proof.verdict(group).value for group in proof.asked},
                "queries": [_evidence_json(item) for item in _all_evidence(proof)],
            }
            for proof in proofs
        ],
    }
