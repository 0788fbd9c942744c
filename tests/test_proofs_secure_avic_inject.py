"""Acceptance and requests in KVM, and a VMRUN that samples ALLOWED_IRR while it changes."""

from __future__ import annotations

from typing import Any

import pytest

from avicheck.checker.solve import solve
from avicheck.checker.theorems import Theorem, Theory
from avicheck.proofs.secure_avic_inject import INJECTION, SAMPLING

CASES = [(theory, theorem) for theory in (INJECTION, SAMPLING) for theorem in theory.theorems]


@pytest.mark.parametrize(("theory", "theorem"), CASES, ids=[theorem.name for _, theorem in CASES])
def test_theorem_is_decided(theory: Theory[Any], theorem: Theorem[Any]) -> None:
    query = theory.query(theorem)
    answer = solve(query)
    assert answer.status == query.expected
    if theorem.refuted:
        assert not theorem.predicate(theory.found(theorem, answer.values))


def test_trigger_mode_that_changes_loses_the_shadow() -> None:
    """The later interrupt is the same vector, as an edge."""
    theorem = next(each for each in INJECTION.theorems if each.name == "level-is-shadowed")
    case = INJECTION.found(theorem, solve(INJECTION.query(theorem)).values)
    assert (case.vector, case.level, case.later_level) == (case.later, True, False)
