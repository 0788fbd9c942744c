"""IPIs of the guest's driver: right with dense APIC IDs, and not with a hole in them."""

from __future__ import annotations

import pytest

from avicheck.checker.solve import solve
from avicheck.checker.theorems import Theorem
from avicheck.proofs.secure_avic_driver import DRIVER
from avicheck.spec.lang import NULL
from avicheck.spec.secure_avic_driver import Cpus, DriverChange, Sending, page_written

SPARSE = Cpus(0, 1, 2, 4)
"""Two packages of three cores in sequence: the fourth CPU's APIC ID is 4."""


@pytest.mark.parametrize("theorem", DRIVER.theorems, ids=lambda theorem: theorem.name)
def test_theorem_is_decided(theorem: Theorem[Sending]) -> None:
    query = DRIVER.query(theorem)
    answer = solve(query)
    assert answer.status == query.expected
    if theorem.refuted:
        assert not theorem.predicate(DRIVER.found(theorem, answer.values))


def test_ipi_to_a_cpu_behind_a_hole_is_written_beyond_all_pages() -> None:
    assert page_written(frozenset(), SPARSE, 3) == NULL
    assert page_written(frozenset({DriverChange.BY_CPU}), SPARSE, 3) == 3


def test_ipi_may_be_written_to_another_cpus_page() -> None:
    """A crash kernel that boots on the CPU with APIC ID 2 calls it CPU 0."""
    assert page_written(frozenset(), Cpus(2, 0, 1, 3), 0) == 2
