"""The integrity theorems: each is decided, its example runs, and the fault that it is about breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from avicheck.checker.solve import solve
from avicheck.checker.theorems import Theorem
from avicheck.proofs.secure_avic_integrity import INTEGRITY, THEOREMS, Attempt
from avicheck.spec import secure_avic_hardware as hardware
from avicheck.spec.lang import update
from avicheck.spec.secure_avic import Page, Vcpu
from avicheck.spec.secure_avic_threats import Actor

BY_NAME = {theorem.name: theorem for theorem in THEOREMS}


def example(theorem: Theorem[Attempt]) -> Attempt:
    """What the solver finds, which must be there."""
    answer = solve(INTEGRITY.query(theorem))
    assert answer.status == "sat"
    return INTEGRITY.found(theorem, answer.values)


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: theorem.name)
def test_theorem_is_decided(theorem: Theorem[Attempt]) -> None:
    query = INTEGRITY.query(theorem)
    assert solve(query).status == query.expected


@pytest.mark.parametrize("theorem", [t for t in THEOREMS if not t.always], ids=lambda t: t.name)
def test_example_runs(theorem: Theorem[Attempt]) -> None:
    assert theorem.predicate(example(theorem))


def test_lifting_is_among_the_obligations() -> None:
    assert len(INTEGRITY.obligations()) >= len(THEOREMS)


# Faults.


def unfiltered(vcpu: Vcpu) -> Page:
    """Every request enters IRR."""
    return update(vcpu.page, irr=vcpu.page.irr | vcpu.vmcb.requested_irr)


def ringing(vcpu: Vcpu) -> Vcpu:
    """The doorbell makes up a request for an NMI."""
    return update(vcpu, v_nmi=True)


def forgetful(vcpu: Vcpu) -> Page:
    """Entering the guest clears what was requested before."""
    return update(vcpu.page, irr=0)


def ever_open(vcpu: Vcpu) -> bool:
    return True


FAULTS: list[tuple[str, str, Callable[..., Any]]] = [
    ("agreed-for-ever", "page_after", unfiltered),
    ("only-allowed-requests", "page_after", unfiltered),
    ("nothing-else-written", "page_after", forgetful),
    ("busy-for-ever", "nmi_open", ever_open),
]


@pytest.mark.parametrize(
    ("name", "part", "fault"), FAULTS, ids=lambda value: getattr(value, "__name__", value)
)
def test_fault_is_noticed(
    monkeypatch: pytest.MonkeyPatch, name: str, part: str, fault: Callable[..., Any]
) -> None:
    monkeypatch.setattr(hardware, part, fault)
    attempt = example(BY_NAME[name])
    assert not BY_NAME[name].predicate(attempt)


def test_host_nmi_that_needs_no_consent_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "host_nmi_due", lambda vcpu: vcpu.vmcb.v_nmi_pending)
    attempt = example(BY_NAME["only-agreed-nmis"])
    assert (attempt.action.actor, attempt.watched.vcpu.vmcb.v_nmi_pending) == (Actor.NMIS, True)


def test_vector_that_enters_isr_by_itself_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delivery of a vector that is not the pending one."""
    monkeypatch.setattr(hardware, "pending", lambda page: 255)
    assert not BY_NAME["only-agreed-vectors"].predicate(example(BY_NAME["only-agreed-vectors"]))


def test_doorbell_that_makes_up_a_request_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from avicheck.spec import secure_avic_threats as threats

    monkeypatch.setattr(threats, "doorbell", ringing)
    example(BY_NAME["requests-noticed-are-the-guests"])
