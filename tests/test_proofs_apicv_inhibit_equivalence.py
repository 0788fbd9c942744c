"""The inhibit rules by hand and by model are equal, and each obligation can fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from avicheck.checker.solve import solve
from avicheck.checker.voices import Subject, listen
from avicheck.proofs.apicv_inhibit_equivalence import (
    change_subject,
    inhibit_obligations,
    obligations,
    rest_subject,
    toggle_subject,
)
from avicheck.spec import apicv_inhibit
from avicheck.spec.apicv_inhibit import INHIBIT_KERNELS, ON_VMX, InhibitFix, Reason
from avicheck.spec.kernels import KERNELS, Kernel
from avicheck.spec.lang import rule


@pytest.mark.parametrize("kernel", INHIBIT_KERNELS)
def test_both_sides_are_equal(kernel: str) -> None:
    answers = [(query.name, solve(query).status) for query in obligations(KERNELS[kernel], 2)]
    assert [name for name, status in answers if status != "unsat"] == []


def test_every_kernel_with_a_fix_taken_out_is_equal_too() -> None:
    newest = INHIBIT_KERNELS["6.19"]
    toggled_by = {
        InhibitFix.EVENT_ON_DISABLE,
        InhibitFix.SVI_ON_ENABLE,
        InhibitFix.SET_IRR_PENDING,
        InhibitFix.KEEP_IRR_PENDING,
        InhibitFix.DEFER_IN_L2,
        InhibitFix.FLUSH_ON_ENABLE,
    }
    for fixes in (newest.fixes - {fix} for fix in toggled_by):
        kernel = Kernel("older", frozenset(fixes))
        queries = inhibit_obligations(listen(toggle_subject(kernel), kernel, 1))
        assert {solve(query).status for query in queries} == {"unsat"}


MUTANTS: list[Any] = [
    (change_subject, "ON_VMX", ON_VMX[1:], {"reasons", "request", "zap"}),
    (change_subject, "set_or_clear_apicv_inhibit", lambda reasons, reason, is_set: reasons, {"reasons"}),
    (change_subject, "vcpu_get_apicv_inhibit_reasons", lambda vendor, guest: guest, {"activated"}),
    (change_subject, "STICKY", apicv_inhibit.STICKY[1:], {"sticky"}),
    (rest_subject, "id_too_big", lambda causes: causes.highest_vcpu_id > 255, {"reasons"}),
    (toggle_subject, "count_vectors", lambda vectors: vectors & 1, {"isr_count"}),
    (toggle_subject, "find_highest_vector", lambda vectors: -1, {"svi"}),
    (toggle_subject, "irr_pending_after", lambda kernel, active, before, irr: before, {"irr_pending"}),
]


@pytest.mark.parametrize(("subject", "name", "mutant", "told"), MUTANTS, ids=[m[1] for m in MUTANTS])
def test_change_of_one_rule_is_found(
    subject: Callable[[Kernel], Subject],
    name: str,
    mutant: Any,
    told: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(apicv_inhibit, name, rule(mutant) if callable(mutant) else mutant)
    kernel = INHIBIT_KERNELS["6.19"]
    queries = inhibit_obligations(listen(subject(kernel), kernel, 1))
    refuted = {query.name.rpartition("/")[2] for query in queries if solve(query).status == "sat"}
    assert refuted >= told


def test_reasons_are_numbered_as_in_the_kernel() -> None:
    assert [apicv_inhibit.bit(reason) for reason in Reason] == [1 << i for i in range(13)]
