"""Everything that is asked to prove a model's claims for one kernel, and what was answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from avicheck.checker.archive import Archive
from avicheck.checker.assumptions import APIC_MAP, Assumption
from avicheck.checker.check import DOMAIN, select
from avicheck.checker.claims import (
    Claim,
    conclude,
    has_claims,
    lifting_queries,
    obligations_of,
    queries,
    scope_of,
    theories_of,
)
from avicheck.checker.errors import InputError, not_one_of
from avicheck.checker.progress import Progress
from avicheck.checker.solve import Answer, Query, solve_all
from avicheck.checker.systems import description, registered
from avicheck.checker.theorems import Theorem, Theory
from avicheck.checker.verdict import Verdict, worst
from avicheck.spec.kernels import Kernel

SOLVER: Final = "z3"

LIFTING: Final = "lifting"
EQUIVALENCE: Final = "equivalence"
SENTENCES: Final = {
    EQUIVALENCE: "The hand-written rules and the lifted specification say the same.",
    LIFTING: "No path was left out of the lifted specification that could have been taken.",
}
"""What is proved besides the claims."""


@dataclass
class Evidence:
    """One query with its answer, and the second solver's if it was asked; ``reused`` and
    ``second_reused`` if they come from an earlier archive."""

    query: Query
    answer: Answer
    reused: bool = False
    second: Answer | None = None
    second_reused: bool = False

    @property
    def disputed(self) -> bool:
        """Whether the two solvers contradict each other."""
        statuses = {self.answer.status, *([self.second.status] if self.second else [])}
        return {"sat", "unsat"} <= statuses

    @property
    def needs_second(self) -> bool:
        """Whether there is an answer that the second solver has not been asked about."""
        return self.second is None and self.answer.status != "unknown"

    @property
    def confirmed(self) -> bool:
        """Whether the second solver came to the same answer."""
        return self.second is not None and self.second.status == self.answer.status != "unknown"


@dataclass
class Proof:
    """All evidence for one kernel, by group: the name of a claim or a theorem, EQUIVALENCE or LIFTING."""

    kernel: Kernel
    vcpus: int
    claims: Sequence[Claim]
    asked: dict[str, list[Query]]
    theorems: Mapping[str, tuple[Theory[Any], Theorem[Any]]] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)

    def of(self, group: str) -> list[Evidence]:
        """The evidence for a group, in its order."""
        return [self.evidence[query.name] for query in self.asked[group] if query.name in self.evidence]

    def claim(self, group: str) -> Claim | None:
        """The claim that a group is about."""
        return next((claim for claim in self.claims if claim.name == group), None)

    def sentence(self, group: str) -> str:
        """What a group is about."""
        if group in self.theorems:
            return self.theorems[group][1].sentence
        claim = self.claim(group)
        return claim.sentence if claim else SENTENCES[group]

    def size(self, group: str) -> int | None:
        """At most so many vCPUs; None where the obligations of a model without claims say it themselves."""
        claim = self.claim(group)
        return claim.size(self.vcpus) if claim else self.vcpus if self.claims else None

    def verdict(self, group: str) -> Verdict:
        """What the answers of a group add up to. A rule that raises contradicts the lifted model, so
        that nothing else can be relied on."""
        found, claim = self.of(group), self.claim(group)
        if any(item.disputed for item in found):
            return Verdict.TOOL_ERROR
        if len(found) < len(self.asked[group]):
            return Verdict.UNKNOWN
        answers = [(item.query, item.answer) for item in found]
        if group in self.theorems:
            theory, theorem = self.theorems[group]
            return theory.verdict(theorem, answers)
        if claim is not None:
            return conclude(claim, self.kernel, claim.size(self.vcpus), answers).verdict
        statuses = {item.answer.status for item in found}
        if "sat" in statuses:
            return Verdict.TOOL_ERROR if group == LIFTING else Verdict.VIOLATED
        return Verdict.UNKNOWN if "unknown" in statuses else Verdict.HOLDS

    @property
    def overall(self) -> Verdict:
        """The verdict on everything together."""
        return worst(self.verdict(group) for group in self.asked)


def collect(model: str, kernel: Kernel, vcpus: int, names: Iterable[str]) -> Proof:
    """Everything that must be asked for one kernel; the claims or theorems alone if some are named."""
    claims = select(model, names, kernel) if has_claims(model) else []
    theorems = {} if claims else theorems_of(model, names)
    if names and not claims and not theorems:
        raise InputError("--claim", "left out for a model without claims", "given", model)
    asked = {}
    sizes = sorted({claim.size(vcpus) for claim in claims})
    with Progress(len(claims) + len(theorems) + 2) as progress:
        for name, (theory, theorem) in theorems.items():
            asked[name] = theory.asked(theorem)
            progress.step(f"making queries: {name}")
        for claim in claims:
            asked[claim.name] = queries(claim, kernel, claim.size(vcpus))
            progress.step(f"making queries: {claim.name}")
        if not names:
            obligations = obligations_of(model, kernel, vcpus)
            asked[EQUIVALENCE] = list({query.name: query for query in obligations}.values())
            progress.step(f"making queries: {EQUIVALENCE}")
        if claims:
            asked[LIFTING] = [query for size in sizes for query in lifting_queries(kernel, size)]
    return Proof(kernel, vcpus, claims, asked, theorems)


def theorems_of(model: str, names: Iterable[str]) -> dict[str, tuple[Theory[Any], Theorem[Any]]]:
    """The theorems about a model, or the named ones among them."""
    known = {
        f"{theory.name.partition('/')[2]}/{theorem.name}": (theory, theorem)
        for theory in theories_of(model)
        for theorem in theory.theorems
    }
    for name in names:
        if known and name not in known:
            raise not_one_of("--claim", known, name, model)
    return {name: pair for name, pair in known.items() if not names or name in names}


def limits(model: str) -> tuple[str, tuple[Assumption, ...]]:
    """Which cases the proofs of a model speak of, and what they take for granted."""
    if has_claims(model):
        return f"the number of vCPUs shown ({EQUIVALENCE}: {scope_of(model)}); {DOMAIN}", APIC_MAP
    return scope_of(model), ()


def fixes_of(model: str, kernel: Kernel) -> list[str]:
    """What a kernel contains, by upstream titles; of a concurrent model, what its description adds."""
    options = description(model).kernels.get(kernel.name, ()) if model in registered() else ()
    return sorted({str(fix.value) for fix in (*kernel.fixes, *options)})


def take_over(proof: Proof, recheck: str | None, archive: Archive) -> None:
    """Fill in what an earlier run has answered, and write the scripts of everything."""
    asked = [query for group in proof.asked.values() for query in group]
    for query in asked:
        known = archive.earlier_answer(query, SOLVER)
        if known is not None:
            second = archive.earlier_answer(query, recheck) if recheck else None
            proof.evidence[query.name] = Evidence(query, known, True, second, second is not None)
    archive.write_scripts(asked)


def run(proof: Proof, jobs: int, limit: float, recheck: str | None, archive: Archive | None) -> None:
    """Ask all that is not answered, and what was answered again if there is a second solver; the
    archive's texts if there is one."""
    evidence = proof.evidence
    asked = [query for group in proof.asked.values() for query in group]
    first = [query for query in asked if query.name not in evidence]
    with Progress(len(asked) * (2 if recheck else 1)) as progress:
        progress.step(f"kernel {proof.kernel.name}", len(asked) - len(first))
        for query, answer in solve_all(_texts(first, archive), jobs=jobs, limit=limit, solver=SOLVER):
            evidence[query.name] = Evidence(query, answer)
            progress.step(query.name)
        if recheck:
            again = [query for query in asked if evidence[query.name].needs_second]
            progress.step(recheck, len(asked) - len(again))
            for query, answer in solve_all(_texts(again, archive), jobs=jobs, limit=limit, solver=recheck):
                evidence[query.name].second = answer
                progress.step(f"{recheck}: {query.name}")


def _texts(asked: Iterable[Query], archive: Archive | None) -> Iterator[Query]:
    """The queries as they were archived."""
    for query in asked:
        yield replace(query, text=archive.text(query)) if archive else query
