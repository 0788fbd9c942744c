"""IPIs of the guest's driver go to whom they are for: decided for every request, and some by example."""

from __future__ import annotations

from dataclasses import replace

import pytest

from avicheck.checker.solve import solve
from avicheck.checker.theorems import Theorem
from avicheck.proofs.secure_avic_ipis import IPIS, given
from avicheck.spec.secure_avic_driver import Cpus, DriverChange
from avicheck.spec.secure_avic_ipis import NMI_VECTOR, Ipi, Request, SelfNmi, send

ALL_CPUS = Ipi(
    **given(),
    cpus=Cpus(0, 1, 2, 3),
    online=0b0111,
    sender=1,
    request=Request.ALL,
    cpu=0,
    mask=0,
    vector=0x31,
    watched=0x31,
)
"""CPU 1 of four sends 0x31 to all; CPU 3 is offline."""
TO_ALL_BUT_SELF = replace(ALL_CPUS, request=Request.ALLBUTSELF)


@pytest.mark.parametrize("theorem", IPIS.theorems, ids=lambda theorem: theorem.name)
def test_theorem_is_decided(theorem: Theorem[Ipi]) -> None:
    query = IPIS.query(theorem)
    answer = solve(query)
    assert answer.status == query.expected
    if theorem.refuted:
        assert not theorem.predicate(IPIS.found(theorem, answer.values))


def test_all_is_one_notice_and_the_sender_is_woken_for_nothing() -> None:
    """Its page was evaluated at once: SAV-C07's spurious return of HLT."""
    sent = send(ALL_CPUS)
    assert (sent.irr, sent.woken, sent.notices, sent.evaluated) == (0b0111, 0b1111, 1, True)


def test_all_but_self_wakes_an_offline_vcpu() -> None:
    sent = send(TO_ALL_BUT_SELF)
    assert (sent.irr, sent.woken) == (0b0101, 0b1101)


def test_mask_with_the_sender_goes_through_memory_and_the_host() -> None:
    sent = send(replace(ALL_CPUS, request=Request.MASK, mask=0b0011))
    assert (sent.irr, sent.woken, sent.notices, sent.evaluated) == (0b0011, 0b0011, 2, False)


def test_nmis_go_to_nmi_request() -> None:
    sent = send(replace(TO_ALL_BUT_SELF, vector=NMI_VECTOR, watched=NMI_VECTOR))
    assert (sent.irr, sent.nmi_request, sent.woken) == (0, 0b0101, 0b1101)


def test_self_ipi_of_the_nmi_vector_is_no_nmi() -> None:
    """send_IPI_self(NMI_VECTOR) raises vector 2, as it does without Secure AVIC."""
    sent = send(replace(ALL_CPUS, request=Request.SELF, vector=NMI_VECTOR, watched=NMI_VECTOR))
    assert (sent.irr, sent.nmi_request) == (0b0010, 0)


def test_nmi_to_all_by_the_selftests_way_needs_no_accelerated_nmi() -> None:
    """C10: the sender's own NmiRequest, and the notice wakes the sender too."""
    nmi = replace(ALL_CPUS, vector=NMI_VECTOR, self_nmi=SelfNmi.SELF_NMI_TRAPS)
    assert send(nmi).trapped
    sent = send(replace(nmi, changes=frozenset({DriverChange.OWN_REQUEST})))
    assert (sent.nmi_request, sent.woken, sent.trapped, sent.evaluated) == (0b0111, 0b1111, False, False)
