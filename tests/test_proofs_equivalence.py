"""The rules and the lifted specification are equal, and every obligation can fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any, Final, TypeAlias

import pytest
import z3

from avicheck.checker.enumerate_small import QUICK, QUICK_MAPS, Enumeration, run_enumeration
from avicheck.checker.obligations import lifting_obligations
from avicheck.checker.solve import Answer, Assignment, Query, solve
from avicheck.checker.verdict import Verdict
from avicheck.checker.voices import MAP, PV, ROUTE, SIGNED, Subject, Voices, listen
from avicheck.encodings import apic_map_rules, apic_route_rules, rule_terms
from avicheck.encodings.lift import concrete
from avicheck.encodings.z3vars import Term, leaves, literal
from avicheck.proofs import apic_map as claims
from avicheck.proofs import equivalence, pv_equivalence
from avicheck.proofs.comparison import alike
from avicheck.proofs.equivalence import FULL, Sizes, obligations
from avicheck.spec import apic_map, apic_route
from avicheck.spec.apic import config_ok
from avicheck.spec.kernels import KERNELS, Fix, Kernel
from avicheck.spec.lang import NULL, at_least, rule, update

DISTINCT: Final = ("6.1", "posted-2022-08", "6.12")
"""A kernel for every set of fixes."""

Prover: TypeAlias = Callable[[Voices], Iterable[Query]]

PROVERS: Final[dict[Subject, Prover]] = {
    MAP: equivalence.map_obligations,
    ROUTE: equivalence.lowest_obligations,
    PV: equivalence.pv_obligations,
}


@cache
def heard(subject: Subject, kernel: Kernel) -> Voices:
    return listen(subject, kernel, 2)


def replayed(voices: Voices, values: Assignment) -> tuple[Any, dict[str, tuple[int, int]]]:
    """A solver's assignment as a case, and where the specification, run on it, and the rules give
    different values: theirs and its, by name."""
    case, scope = concrete(voices.case, values), {"vcpus": voices.vcpus}
    constants = (term for _, term in leaves(voices.stated_case, scope))
    literals = (literal(domain, scope, value) for domain, value in leaves(case, scope))
    pairs = list(zip(constants, literals, strict=True))
    both = {
        name: (int(value), number(z3.simplify(z3.substitute(voices.stated[name], *pairs)), name in SIGNED))
        for name, value in voices.subject.by_model(case).items()
    }
    return case, {name: (ours, theirs) for name, (ours, theirs) in both.items() if ours != theirs}


def number(value: Term, signed: bool) -> int:
    if z3.is_bool(value):
        return int(z3.is_true(value))
    return int(value.as_signed_long() if signed else value.as_long())


def refuted(voices: Voices, queries: Iterable[Query]) -> tuple[Query, Answer]:
    """The first obligation that fails, with the solver's assignment."""
    answers = ((query, solve(query)) for query in queries)
    return next((query, answer) for query, answer in answers if answer.status == "sat")


def differences(voices: Voices, queries: Iterable[Query]) -> dict[str, tuple[int, int]]:
    """How the two sides differ where the first failing obligation says that they do."""
    _, answer = refuted(voices, queries)
    case, found = replayed(voices, answer.values)
    assert config_ok(case.kvm)
    return found


def open_ones(queries: Iterable[Query]) -> list[str]:
    """The obligations that are not proved."""
    return [query.name for query in queries if solve(query).status != "unsat"]


@pytest.mark.parametrize(
    ("subject", "prove", "kernel"),
    [
        *((MAP, equivalence.map_obligations, kernel) for kernel in DISTINCT),
        *((ROUTE, equivalence.route_obligations, kernel) for kernel in DISTINCT),
        (ROUTE, equivalence.lowest_obligations, "6.12"),
    ],
    ids=lambda value: getattr(value, "__name__", getattr(value, "name", value)),
)
def test_both_sides_are_equal(subject: Subject, prove: Prover, kernel: str) -> None:
    assert open_ones(prove(heard(subject, KERNELS[kernel]))) == []


SAMPLE: Final = frozenset({0, 1, 31, 63, 64, 65, 127})
"""Bits of a hypercall; ``avicheck prove`` takes all."""


@pytest.mark.parametrize("kernel", DISTINCT)
def test_both_sides_are_equal_about_hypercalls(kernel: str) -> None:
    left_out = {f"bit{bit}" for bit in range(128)} - {f"bit{bit}" for bit in SAMPLE}
    queries = equivalence.pv_obligations(heard(PV, KERNELS[kernel]))
    assert open_ones(query for query in queries if query.name.rpartition("/")[2] not in left_out) == []


def test_every_bit_of_a_hypercall_is_a_step() -> None:
    names = [query.name for query in equivalence.pv_obligations(heard(PV, KERNELS["6.12"]))]
    assert [name for name in names if "/bit" in name] == [f"equal/pv/6.12/2/bit{bit}" for bit in range(128)]


def test_a_loop_that_is_run_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pv_equivalence, "WORD", 32)
    with pytest.raises(ValueError, match="Loop must run once for each bit"):
        list(equivalence.pv_obligations(heard(PV, KERNELS["6.12"])))


def test_every_known_kernel_is_like_one_that_is_proved() -> None:
    assert [name for kernel in DISTINCT for name in alike(KERNELS[kernel])] == list(KERNELS)


def test_a_sentence_names_every_kernel_it_speaks_for() -> None:
    present = next(q for q in PROVERS[MAP](heard(MAP, KERNELS["6.16"])) if q.name.endswith("/present"))
    assert present.sentence.endswith("Kernel 6.12 = 6.16 = 6.19, 2 vCPUs.")


def test_full_sizes() -> None:
    assert Sizes(map=8, route=8, lowest=3, pv=2) == FULL
    assert FULL.at_most(5) == Sizes(map=5, route=5, lowest=3, pv=2)


def test_every_value_is_compared() -> None:
    names = {query.name for query in obligations(KERNELS["6.12"], 2)}
    said = {
        *(f"equal/map/6.12/2/{name}" for name in heard(MAP, KERNELS["6.12"]).lifted),
        "equal/route/6.12/2/physical/handled",
        "equal/route/6.12/2/x2apic/vcpu1",
        "equal/route/6.12/2/lowest/flat/hashing/vcpu0",
        "equal/route/6.12/2/single/cluster/single_vcpu",
        "equal/pv/6.12/2/r",
        "equal/pv/6.12/2/vcpu1",
        "equal/map/6.12/2/config_ok",
    }
    assert said <= names


def test_names_of_obligations_at_full_sizes_are_unique() -> None:
    small = Sizes(map=2, route=3, lowest=2, pv=2)
    kernel = KERNELS["6.1"]
    queries = [
        *equivalence.map_obligations(listen(MAP, kernel, small.map)),
        *equivalence.route_obligations(listen(ROUTE, kernel, small.route)),
        *equivalence.lowest_obligations(listen(ROUTE, kernel, small.lowest)),
        *equivalence.pv_obligations(listen(PV, kernel, small.pv)),
    ]
    assert len({query.name for query in queries}) == len(queries)


# Faults.


@pytest.mark.parametrize("fix", [fix for fix in Fix if fix is not Fix.PHYS_BOUNDS])
def test_a_fix_that_only_the_rules_know_is_noticed(fix: Fix) -> None:
    known = KERNELS["6.12"]
    unfixed = heard(MAP, Kernel("without a fix", known.fixes - {fix}))
    voices = replace(unfixed, stated=heard(MAP, known).stated)
    assert differences(voices, PROVERS[MAP](voices))


def test_an_id_cannot_outgrow_the_map_at_rest() -> None:
    known = KERNELS["6.12"]
    unfixed = heard(MAP, Kernel("without PHYS_BOUNDS", known.fixes - {Fix.PHYS_BOUNDS}))
    voices = replace(unfixed, stated=heard(MAP, known).stated)
    assert {solve(query).status for query in PROVERS[MAP](voices)} == {"unsat"}


def _never(*_args: Any) -> Any:
    return z3.BoolVal(False)


WRONG_RULES: Final = {
    "a later vCPU keeps a physical slot": (
        MAP,
        apic_map_rules,
        "first",
        rule_terms.last,
        "6.12",
        "owner_phys",
    ),
    "the first vCPU keeps a logical slot": (
        MAP,
        apic_map_rules,
        "last",
        lambda kvm, conditions, otherwise: rule_terms.first(kvm, conditions, otherwise),
        "6.1",
        "owner_",
    ),
    "nobody owns: vCPU 0, not NULL": (
        MAP,
        apic_map_rules,
        "pointer",
        lambda kvm, i: rule_terms.pointer(kvm, max(i, 0)),
        "6.12",
        "owner_",
    ),
    "modes never clash": (MAP, apic_map_rules, "several_bits", _never, "6.12", "logical_"),
    "lowest priority to all stays one": (ROUTE, apic_route_rules, "_becomes_fixed", _never, "6.12", "slow."),
    "the vector picks the next one": (
        ROUTE,
        apic_route_rules,
        "nth",
        lambda candidates, vector: rule_terms.nth(candidates, vector + 1),
        "6.12",
        "",
    ),
    "a hypercall is never refused": (PV, apic_route_rules, "_pv_refused", _never, "6.12", "r"),
}


@pytest.mark.parametrize("fault", WRONG_RULES)
def test_a_wrong_rule_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, module, name, wrong, kernel, where = WRONG_RULES[fault]
    monkeypatch.setattr(module, name, wrong)
    voices = listen(subject, KERNELS[kernel], 2)
    found = differences(voices, PROVERS[subject](voices))
    assert any(name.startswith(where) for name in found)


@rule
def _last_wins_a_tie(kvm: Any, a: int, b: int) -> int:
    return _compare_prio(kvm, a, b) - 1


@rule
def _any_is_power_of_2(n: int) -> bool:
    return n != 0


@rule
def _counts_twice(kvm: Any, sent: Any, irq: Any, index: int) -> Any:
    once = _set_irq(kvm, sent, irq, index)
    return update(once, r=once.r + (once.r - at_least(sent.r, 0)))


_compare_prio, _set_irq = apic_route.compare_prio, apic_route.kvm_apic_set_irq

WRONG_SPECIFICATIONS: Final = {
    "the last of equal priorities wins": (ROUTE, apic_route, "compare_prio", _last_wins_a_tie),
    "every acceptance counts twice": (PV, apic_route, "kvm_apic_set_irq", _counts_twice),
    "several bits are one": (MAP, apic_map, "is_power_of_2", _any_is_power_of_2),
}


@pytest.mark.parametrize("fault", WRONG_SPECIFICATIONS)
def test_a_wrong_specification_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, module, name, wrong = WRONG_SPECIFICATIONS[fault]
    monkeypatch.setattr(module, name, wrong)
    voices = listen(subject, KERNELS["6.12"], 2)
    assert differences(voices, PROVERS[subject](voices))


def test_a_disagreement_about_what_exists_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "config_ok", lambda kvm: z3.BoolVal(True))
    query, _ = refuted(heard(MAP, KERNELS["6.12"]), PROVERS[MAP](heard(MAP, KERNELS["6.12"])))
    assert query.name == "equal/map/6.12/2/config_ok"


def test_a_false_lemma_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "max_apic_id", lambda kvm: 255)
    voices = listen(MAP, KERNELS["6.12"], 2)
    query, _ = refuted(voices, PROVERS[MAP](voices))
    assert query.name == "equal/map/6.12/2/lemma-room/vcpu0"


def test_a_part_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivalence, "ROUTES", claims.ROUTES[:-1])
    voices = heard(ROUTE, KERNELS["6.12"])
    query, _ = refuted(voices, equivalence.route_obligations(voices))
    assert query.name == "equal/route/6.12/2/physical/cover"


# What lifting rests on.


def test_a_path_that_was_left_out_is_an_obligation() -> None:
    voices = heard(ROUTE, KERNELS["6.12"])
    queries = lifting_obligations(voices.lifter, "prefix")
    assert len(queries) == len(voices.lifter.pruned) > 0
    assert queries[0].name == "prefix/no-raise/0"
    assert {solve(query).status for query in queries} == {"unsat"}


# The small domain.


@pytest.mark.parametrize("kernel", DISTINCT)
def test_three_voices_agree_on_every_small_map(kernel: str) -> None:
    result = run_enumeration(KERNELS[kernel], QUICK_MAPS)
    assert result.disagreements == ()
    assert (result.configurations, result.cases) == (2 * 27 * 27 * 2, 2 * 27 * 27 * 2 * 4)


def test_three_voices_agree_on_every_small_route() -> None:
    told: list[int] = []
    result = run_enumeration(KERNELS["6.12"], QUICK, told.append)
    assert result.verdict is Verdict.HOLDS
    assert (result.configurations, result.cases, result.values) == (484, 50_336, 50_336 * 18)
    assert told[-1] == result.cases


def planted(kernel: Kernel, **voice: Any) -> Enumeration:
    voices = heard(MAP, kernel)
    return run_enumeration(kernel, QUICK_MAPS, voices=replace(voices, **voice))


def test_a_rule_that_disagrees_on_a_small_map_is_noticed() -> None:
    kernel = KERNELS["6.12"]
    voices = heard(MAP, kernel)
    result = planted(kernel, stated={**voices.stated, "present": z3.Not(voices.stated_case.alloc_fails)})
    assert result.verdict is Verdict.TOOL_ERROR
    first = result.disagreements[0]
    assert (first.name, first.by_model, first.by_lifting, first.by_rules) == ("present", 0, 0, 1)


def test_a_lifted_value_that_disagrees_on_a_small_map_is_noticed() -> None:
    kernel = KERNELS["6.12"]
    lifted = heard(MAP, kernel).lifted
    result = planted(kernel, lifted={**lifted, "owner_phys": lifted["owner_logical"]})
    owners = [(d.name, d.by_model, d.by_rules) for d in result.disagreements]
    assert owners[0][0] == "owner_phys"
    assert owners[0][1] == owners[0][2] != result.disagreements[0].by_lifting


def test_at_most_ten_disagreements_are_kept() -> None:
    kernel = KERNELS["6.12"]
    lifted = heard(MAP, kernel).lifted
    assert len(planted(kernel, lifted={**lifted, "present": lifted["apic_id_modified"]}).disagreements) == 10


def test_null_is_seen_as_minus_one() -> None:
    kernel = KERNELS["6.12"]
    stated = heard(MAP, kernel).stated
    zero = z3.BitVecVal(0, stated["owner_phys"].size())
    result = planted(kernel, stated={**stated, "owner_phys": zero})
    assert {d.by_model for d in result.disagreements} <= {NULL, 1}
