"""Claims about a model of one configuration and one request, and how they are decided.

A claim's predicate is a rule: lifted, it becomes the solver's queries; run on the
solver's assignment, it says whether a counterexample is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from avicheck.checker.errors import InputError
from avicheck.checker.obligations import lifting_obligations
from avicheck.checker.solve import Answer, Query, ask, solve_all
from avicheck.checker.verdict import Verdict
from avicheck.encodings import expr as ex
from avicheck.encodings.expr import Expr
from avicheck.encodings.lift import Lifter, concrete, lifting, symbolic, to_expr
from avicheck.spec.apic_map_model import Case, Outcome, case_ok, outcome
from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import rule

if TYPE_CHECKING:
    from avicheck.checker.minimize import Search
    from avicheck.checker.theorems import Theory

Predicate: TypeAlias = Callable[[Case, Outcome], bool]
VcpuPredicate: TypeAlias = Callable[[Case, Outcome, int], bool]


@dataclass(frozen=True)
class Part:
    """A part of all cases. The parts of a claim must cover it: that is a query of its own."""

    name: str
    when: Predicate


@dataclass(frozen=True)
class Explanation:
    """Why there is a class of cases: its predicate in words, the mechanism behind it, and where KVM
    documents it as intended (empty: nowhere)."""

    predicate: str
    mechanism: str
    documented: str


@dataclass(frozen=True)
class Claim:
    """A statement about every case (``always``) or about some case (``sometimes``).

    ``holds`` is asked of a case, or of each vCPU of a case if ``each_vcpu``; with a query for each
    vCPU if ``apart``, which pays where vCPUs are many. ``within`` restricts the cases that it
    speaks of. ``vcpus`` is the largest size at which its full proof is run; ``on`` says for which
    kernels it is made. A claim that a class of cases occurs has an ``explanation``."""

    name: str
    sentence: str
    holds: Predicate | VcpuPredicate
    source: str
    kind: Literal["always", "sometimes"] = "always"
    within: Predicate | None = None
    each_vcpu: bool = False
    apart: bool = True
    parts: tuple[Part, ...] = ()
    vcpus: int = 8
    on: Callable[[Kernel], bool] = lambda _kernel: True
    explanation: Explanation | None = None

    def size(self, vcpus: int) -> int:
        """The number of vCPUs at which a run with at most ``vcpus`` decides the claim."""
        return min(vcpus, self.vcpus)


@dataclass(frozen=True)
class Lifted:
    """The model lifted for one kernel and one number of vCPUs."""

    lifter: Lifter
    case: Case
    outcome: Outcome
    ok: Expr

    def expr(self, predicate: Callable[..., Any], *args: Any) -> Expr:
        """A predicate over the case and its outcome, lifted."""
        with self.lifter.resumed():
            return to_expr(predicate(self.case, self.outcome, *args))


@dataclass(frozen=True)
class Result:
    """What became of a claim: its verdict, the answers, and, replayed on the executable model, the
    counterexample to it (``always``) or its witness (``sometimes``)."""

    claim: Claim
    kernel: Kernel
    vcpus: int
    verdict: Verdict
    answers: tuple[tuple[Query, Answer], ...]
    case: Case | None = None

    @property
    def seconds(self) -> float:
        """The solver's time, added up over all queries."""
        return sum(answer.seconds for _, answer in self.answers)

    @property
    def open(self) -> list[str]:
        """The queries without an answer."""
        return [
            f"{query.name} ({answer.why})" for query, answer in self.answers if answer.status == "unknown"
        ]


def claims_of(model: str) -> tuple[Claim, ...]:
    """The claims that are registered for a model (entry point group ``avicheck.claims``)."""
    claims: tuple[Claim, ...] = _registered("claims", model)
    return claims


def has_claims(model: str) -> bool:
    """Whether claims are registered for a model; if not, its obligations are all that is proved of it."""
    return model in _names("claims")


def provable() -> list[str]:
    """The models with registered obligations, in order."""
    return sorted(_names("obligations"))


def obligations_of(model: str, kernel: Kernel, vcpus: int) -> list[Query]:
    """What else must be proved of a model (entry point group ``avicheck.obligations``): that its
    hand-written rules and the lifted specification are equivalent. ``InputError`` for a kernel that the
    model does not describe."""
    found: list[Query] = _registered("obligations", model)(kernel, vcpus)
    return found


def theories_of(model: str) -> tuple[Theory[Any], ...]:
    """The theories that are registered for a model (entry point group ``avicheck.theories``), if any."""
    found: tuple[Theory[Any], ...] = _registered("theories", model) if model in _names("theories") else ()
    return found


def scope_of(model: str) -> str:
    """Which cases the obligations of a model speak of: the first paragraph of their function's docstring."""
    return " ".join((_registered("obligations", model).__doc__ or "").partition("\n\n")[0].split()).rstrip(
        "."
    )


def _names(kind: str) -> set[str]:
    return {entry.name for entry in entry_points(group=f"avicheck.{kind}")}


def _registered(kind: str, model: str) -> Any:
    found = [entry for entry in entry_points(group=f"avicheck.{kind}") if entry.name == model]
    if not found:
        raise InputError("Model", f"one with registered {kind}", repr(model))
    return found[0].load()


@lru_cache(maxsize=32)
def lift_model(kernel: Kernel, vcpus: int) -> Lifted:
    """The model apic-map, lifted."""
    case = symbolic(Case, {"vcpus": vcpus}, "", kernel=kernel)
    with lifting() as lifter:
        return Lifted(lifter, case, outcome(case), to_expr(case_ok(case)))


def queries(claim: Claim, kernel: Kernel, vcpus: int) -> list[Query]:
    """What a solver must answer for the claim at one size: every violation is impossible
    (``always``), part by part and vCPU by vCPU; a witness exists (``sometimes``)."""
    lifted = lift_model(kernel, vcpus)
    name = f"{claim.name}/{kernel.name}/{vcpus}"
    base = [lifted.ok] + ([lifted.expr(claim.within)] if claim.within else [])
    goals = {f"/vcpu{i}": lifted.expr(claim.holds, i) for i in range(vcpus)} if claim.each_vcpu else {}
    goals = goals or {"": lifted.expr(claim.holds)}
    if claim.kind == "sometimes":
        return [ask(name, claim.sentence, [*base, ex.or_(*goals.values())], "sat")]
    if not claim.apart:
        goals = {"": ex.and_(*goals.values())}
    parts = {f"/{part.name}": lifted.expr(part.when) for part in claim.parts} or {"": ex.TRUE}
    asked = [
        ask(f"{name}{part}{vcpu}", claim.sentence, [*base, when, ex.not_(goal)])
        for part, when in parts.items()
        for vcpu, goal in goals.items()
    ]
    if claim.parts:
        nothing = [ex.not_(when) for when in parts.values()]
        asked.append(ask(f"{name}/cover", "The parts cover every case.", [*base, *nothing]))
    return asked


def number_of_queries(claim: Claim, vcpus: int) -> int:
    """How many queries there are at one size, known before any of them is made."""
    if claim.kind == "sometimes":
        return 1
    for_each_part = vcpus if claim.each_vcpu and claim.apart else 1
    return for_each_part * len(claim.parts or [None]) + bool(claim.parts)


def lifting_queries(kernel: Kernel, vcpus: int) -> list[Query]:
    """That no path was left out of the lifted model which could have been taken."""
    return lifting_obligations(lift_model(kernel, vcpus).lifter, f"lifting/{kernel.name}/{vcpus}")


def decide(
    claims: Sequence[Claim],
    kernel: Kernel,
    vcpus: Callable[[Claim], int],
    *,
    jobs: int = 1,
    limit: float = 600.0,
    on_answer: Callable[[Query, Answer], None] = lambda _query, _answer: None,
) -> Iterator[Result]:
    """Decide claims on one kernel, each at its size, ``jobs`` queries at a time; results come as
    the last answer of a claim does. Queries are made while others are being solved."""
    owner: dict[str, Claim] = {}
    answers: dict[str, list[tuple[Query, Answer]]] = {claim.name: [] for claim in claims}

    def asked() -> Iterator[Query]:
        for claim in claims:
            for query in queries(claim, kernel, vcpus(claim)):
                owner[query.name] = claim
                yield query

    for query, answer in solve_all(asked(), jobs=jobs, limit=limit):
        on_answer(query, answer)
        claim = owner[query.name]
        answers[claim.name].append((query, answer))
        if len(answers[claim.name]) == number_of_queries(claim, vcpus(claim)):
            yield conclude(claim, kernel, vcpus(claim), answers[claim.name])


def conclude(claim: Claim, kernel: Kernel, vcpus: int, answers: Iterable[tuple[Query, Answer]]) -> Result:
    """The verdict that a claim's answers add up to. A case that a solver found is replayed first:
    one that does not do what the solver says is a tool error."""
    answers = tuple(answers)
    found = next((answer for _, answer in answers if answer.status == "sat"), None)
    wanted = claim.kind == "sometimes"
    if found is None:
        unknown = any(answer.status == "unknown" for _, answer in answers)
        verdict = Verdict.UNKNOWN if unknown else Verdict.VIOLATED if wanted else Verdict.HOLDS
        return Result(claim, kernel, vcpus, verdict, answers)
    case = concrete(lift_model(kernel, vcpus).case, found.values)
    if not replays(claim, case):
        return Result(claim, kernel, vcpus, Verdict.TOOL_ERROR, answers, case)
    verdict = Verdict.HOLDS if wanted else Verdict.VIOLATED
    return Result(claim, kernel, vcpus, verdict, answers, case)


def replays(claim: Claim, case: Case) -> bool:
    """Whether a case is, on the executable model, a counterexample (``always``) or a witness."""
    result = outcome(case)
    if not case_ok(case) or (claim.within and not claim.within(case, result)):
        return False
    indices = range(len(case.kvm.vcpus)) if claim.each_vcpu else (None,)
    values = [_ask(claim, case, result, i) for i in indices]
    return any(values) if claim.kind == "sometimes" else not all(values)


def _ask(claim: Claim, case: Case, result: Outcome, index: int | None) -> bool:
    predicate: Callable[..., bool] = claim.holds
    return predicate(case, result) if index is None else predicate(case, result, index)


def smallest(claim: Claim, kernel: Kernel, max_vcpus: int, limit: float) -> Search:
    """The smallest counterexample to a claim (``always``), or its smallest witness (``sometimes``)."""
    from avicheck.checker.minimize import smallest_case

    @rule
    def shows(case: Case, outcome: Outcome) -> bool:
        predicate: Callable[..., bool] = claim.holds
        indices = [(i,) for i in range(len(case.kvm.vcpus))] if claim.each_vcpu else [()]
        some = False
        for index in indices:
            holds = predicate(case, outcome, *index)
            some |= holds if claim.kind == "sometimes" else holds ^ True
        return some & (claim.within is None or claim.within(case, outcome))

    return smallest_case(shows, kernel, max_vcpus, limit)
