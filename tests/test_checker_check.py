"""``avicheck check`` and the claims about apic-map: verdicts found by solving, at two vCPUs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from click.testing import Result as CliResult
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import check as check_module
from avicheck.checker import claims as claims_module
from avicheck.checker.claims import (
    Claim,
    Result,
    claims_of,
    conclude,
    decide,
    lift_model,
    lifting_queries,
    queries,
)
from avicheck.checker.cli import main
from avicheck.checker.solve import Answer, Query, ask, solve, solve_all
from avicheck.checker.verdict import Verdict
from avicheck.encodings import expr as ex
from avicheck.proofs import apic_map as claims_of_apic_map
from avicheck.proofs.divergence import CLASSES
from avicheck.spec import apic_map, apic_map_model
from avicheck.spec.apic import Irq, Kvm
from avicheck.spec.apic_map import Published
from avicheck.spec.apic_map_model import Case, Outcome
from avicheck.spec.kernels import KERNELS, Fix, Kernel
from avicheck.spec.lang import rule

VCPUS = 2

VIOLATED = {
    "6.1": {"same-vcpus", "one-owner", "one-owner-format-off", "honors-aliases", "errata-lowest-id",
            "single-vcpu", "single-vcpu-served"},
    "posted-2022-08": {"same-vcpus", "one-owner", "breaks-nothing", "errata-lowest-id", "review-flag-same",
                       "single-vcpu", "single-vcpu-served"},
    "6.19": {"same-vcpus", "one-owner", "physical-aliased", "logical-aliased", "id-modified",
             "breaks-nothing", "errata-lowest-id", "review-flag-same", "single-vcpu", "single-vcpu-served"},
}  # fmt: skip


def claim(name: str) -> Claim:
    return next(claim for claim in claims_of("apic-map") if claim.name == name)


def verdict(name: str, kernel: Kernel, vcpus: int = VCPUS) -> Result:
    return next(iter(decide([claim(name)], kernel, lambda _claim: vcpus)))


def run(*args: str) -> CliResult:
    return CliRunner().invoke(main, ["check", "apic-map", "--vcpus", "2", "--jobs", "1", *args])


@pytest.mark.parametrize("name", VIOLATED)
def test_every_claim_has_the_verdict_that_solving_gives(name: str) -> None:
    kernel = KERNELS[name]
    made = [claim for claim in claims_of("apic-map") if claim.on(kernel)]
    results = list(decide(made, kernel, lambda claim: min(VCPUS, claim.vcpus), jobs=2))
    assert len(results) == len(made)
    assert {result.verdict for result in results} == {Verdict.HOLDS, Verdict.VIOLATED}
    assert {result.claim.name for result in results if result.verdict is Verdict.VIOLATED} == VIOLATED[name]


def test_the_three_newer_kernels_are_one_to_the_specification() -> None:
    assert KERNELS["6.12"].fixes == KERNELS["6.16"].fixes == KERNELS["6.19"].fixes


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("one-owner-format-off", Fix.ALIASED_XAPIC_IDS),
        ("honors-aliases", Fix.ALIASED_XAPIC_IDS),
        ("logical-aliased-as-built", Fix.LOGICAL_ALIASED),
        ("logical-aliased-as-built", Fix.LOGICAL_MULTI_MDA),
        ("physical-aliased-as-built", Fix.INHIBIT_PHYSICAL_ALIASED),
        ("logical-aliased-as-built", Fix.INHIBIT_LOGICAL_ALIASED),
        ("id-modified-with-map", Fix.INHIBIT_ID_MODIFIED),
    ],
)
def test_a_claim_is_killed_by_the_lack_of_its_fix(name: str, fix: Fix) -> None:
    mutant = Kernel(f"6.19 without {fix.name}", KERNELS["6.19"].fixes - {fix})
    assert verdict(name, mutant).verdict is Verdict.VIOLATED


@pytest.fixture
def fresh_lifting() -> Iterator[None]:
    """Lift mutated rules anew, and forget them."""
    lift_model.cache_clear()
    yield
    lift_model.cache_clear()


@pytest.mark.usefixtures("fresh_lifting")
def test_a_bitmap_without_vcpus_kills_its_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    @rule
    def nobody(kvm: Kvm, published: Published, irq: Irq) -> int:
        return 0

    monkeypatch.setattr(apic_map_model, "kvm_bitmap_or_dest_vcpus", nobody)
    assert verdict("dest-bitmap", KERNELS["6.19"], 1).verdict is Verdict.VIOLATED


@pytest.mark.usefixtures("fresh_lifting")
def test_a_map_that_enters_wrong_ids_kills_ownership(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apic_map, "kvm_xapic_id", lambda vcpu: vcpu.xapic_id ^ 1)
    assert verdict("owned", KERNELS["6.19"], 1).verdict is Verdict.VIOLATED


@pytest.mark.usefixtures("fresh_lifting")
@pytest.mark.parametrize("left_out", [divergence.name for divergence in CLASSES])
def test_no_class_is_superfluous(left_out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one class the theorem is refuted, on a kernel where the class occurs."""
    kernel = KERNELS["6.1" if left_out in ("multi-bit-logical-id", "aliased-logical-id") else "6.19"]
    others = tuple(divergence for divergence in CLASSES if divergence.name != left_out)
    monkeypatch.setattr(claims_of_apic_map, "CLASSES", others)
    lowest = {
        "hint-to-software-disabled", "hashing-counts-bits", "hashing-order", "priority-tie",
        "software-disabled-competes", "broadcast-made-fixed",
    }  # fmt: skip
    name = "same-outside-classes-lowest" if left_out in lowest else "same-outside-classes"
    assert verdict(name, kernel).verdict is Verdict.VIOLATED


def test_the_parts_of_a_claim_must_cover_every_case() -> None:
    whole = claim("same-outside-classes")
    short = Claim(whole.name, "", whole.holds, "", each_vcpu=True, parts=whole.parts[:-1])
    cover = queries(short, KERNELS["6.19"], 1)[-1]
    assert cover.name.endswith("/cover")
    assert solve(cover).status == "sat"


def test_no_path_was_wrongly_left_out_of_the_lifted_model() -> None:
    asked = lifting_queries(KERNELS["6.19"], VCPUS)
    assert asked
    assert {solve(query).status for query in asked} == {"unsat"}


# Conclusions.


@rule
def always_true(case: Case, outcome: Outcome) -> bool:
    return True


def _result(status: str, kind: Any = "always") -> Verdict:
    made = Claim("made-up", "", always_true, "", kind=kind)
    query = ask("q", "", [ex.TRUE])
    return conclude(made, KERNELS["6.19"], 1, [(query, Answer(status, "z3", 0.0))]).verdict  # type: ignore[arg-type]


def test_an_open_query_leaves_the_claim_unknown() -> None:
    assert _result("unknown") is Verdict.UNKNOWN


def test_no_witness_violates_a_claim_that_something_happens() -> None:
    assert _result("unsat", "sometimes") is Verdict.VIOLATED


def test_a_counterexample_that_does_not_replay_is_a_tool_error() -> None:
    assert _result("sat") is Verdict.TOOL_ERROR


# The command.


def test_report(snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch) -> None:
    def timeless(*args: Any, **kwargs: Any) -> Iterator[tuple[Query, Answer]]:
        for query, answer in real(*args, **kwargs):
            yield query, Answer(answer.status, answer.solver, 0.0, answer.values, answer.why)

    real = solve_all
    monkeypatch.setattr(claims_module, "solve_all", timeless)
    result = run("--claim", "one-owner", "--claim", "one-owner-format-off", "--claim", "class-odd-dfr")
    assert result.exit_code == 1
    assert max(map(len, result.output.splitlines())) <= check_module.WIDTH
    assert result.output == snapshot


def test_json_has_verdict_bounds_assumptions_and_a_replayable_case() -> None:
    told = json.loads(run("--claim", "one-owner", "--json").output)
    assert told["verdict"] == "violated"
    assert {"at-rest", "ids"} <= set(told["assumptions"])
    [one] = told["claims"]
    assert (one["vcpus"], one["smallest"]) == (2, True)
    assert [vcpu["vcpu_id"] for vcpu in one["example"]["case"]["config"]["vcpus"]] == [0, 256]


def test_claims_that_hold_end_in_exit_0() -> None:
    assert run("--claim", "one-owner-format-off").exit_code == 0


def test_no_time_is_unknown_and_names_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def overrun(asked: Iterator[Query], **_: Any) -> Iterator[tuple[Query, Answer]]:
        return ((query, Answer("unknown", "z3", 0.0, why="timeout")) for query in asked)

    monkeypatch.setattr(claims_module, "solve_all", overrun)
    result = run("--claim", "one-owner")
    assert result.exit_code == 2
    assert "open: one-owner/6.19/2 (timeout)" in result.output


def test_an_interrupted_run_says_what_it_did_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(asked: Iterator[Query], **_: Any) -> Iterator[tuple[Query, Answer]]:
        first = next(asked)
        yield first, solve(first)
        raise KeyboardInterrupt

    monkeypatch.setattr(claims_module, "solve_all", interrupted)
    result = run("--claim", "one-owner", "--claim", "one-owner-format-off")
    assert result.exit_code == 5
    assert "violated  one-owner" in result.output
    assert "Not decided: one-owner-format-off." in result.output


def test_an_unknown_claim_has_the_nearest_one() -> None:
    result = run("--claim", "one-owners")
    assert result.exit_code == 3
    assert result.output.endswith('not "one-owners"; did you mean one-owner?\n')
