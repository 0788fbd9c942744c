"""What a malicious host can bring to a Secure AVIC guest: proved for any number of steps.

The state has its full width: 256 vectors, every field of the VMCB free. A theorem about runs of any length
is an induction: it is true at the start, and every step that anybody can take from any state in which it is
true leads to one in which it is. Every open point of the hardware is free as well.
"""

from __future__ import annotations

from typing import Final

from avicheck.checker.theorems import Theorem, Theory
from avicheck.spec import secure_avic_threats as threats
from avicheck.spec.lang import NULL, record, rule
from avicheck.spec.secure_avic import Hardware, NmiRequestNeeds
from avicheck.spec.secure_avic_hardware import nmis_allowed, only
from avicheck.spec.secure_avic_threats import (
    HOST,
    Action,
    Actor,
    Watched,
    agreed,
    dead,
    includes,
    started,
)


@record
class Attempt:
    """A state, an action in it, and one choice for every open point."""

    hw: Hardware
    watched: Watched
    action: Action


@rule
def starts_agreed(attempt: Attempt) -> bool:
    """The invariant is true of a new vCPU."""
    return not started(attempt.watched) or agreed(attempt.watched)


@rule
def stays_agreed(attempt: Attempt) -> bool:
    """Every step keeps the invariant."""
    after = threats.step(attempt.hw, attempt.watched, attempt.action).after
    return not agreed(attempt.watched) or agreed(after)


@rule
def only_agreed_vectors(attempt: Attempt) -> bool:
    """What the guest is interrupted by, it allowed at some time or raised itself."""
    vector = threats.step(attempt.hw, attempt.watched, attempt.action).vector
    if not agreed(attempt.watched) or vector == NULL:
        return True
    return includes(attempt.watched.consented, only(vector))


@rule
def only_allowed_requests(attempt: Attempt) -> bool:
    """P-S1: what a step of the host adds to IRR, the host requests and the guest allows at that moment."""
    if attempt.action.actor not in HOST:
        return True
    vcpu = attempt.watched.vcpu
    page = threats.by_host(attempt.hw, vcpu, attempt.action).page
    return includes(vcpu.page.irr | (vcpu.vmcb.requested_irr & vcpu.page.allowed_irr), page.irr)


@rule
def nothing_else_written(attempt: Attempt) -> bool:
    """No step of the host changes anything of the page but IRR, or takes a bit out of that."""
    if attempt.action.actor not in HOST:
        return True
    before = attempt.watched.vcpu.page
    after = threats.by_host(attempt.hw, attempt.watched.vcpu, attempt.action).page
    kept = before.isr == after.isr and before.tmr == after.tmr and before.tpr == after.tpr
    same = before.allowed_irr == after.allowed_irr and before.nmi_request == after.nmi_request
    return (
        kept
        and same
        and before.software_enabled == after.software_enabled
        and includes(after.irr, before.irr)
    )


@rule
def only_agreed_nmis(attempt: Attempt) -> bool:
    """P-S2: an NMI is taken while AllowedNMI is 1, or because a vCPU of the guest asked for it."""
    vcpu = attempt.watched.vcpu
    nmi = threats.step(attempt.hw, attempt.watched, attempt.action).nmi
    return not nmi or nmis_allowed(vcpu) or vcpu.v_nmi


@rule
def requests_noticed_are_the_guests(attempt: Attempt) -> bool:
    """No step of the host makes up an NmiRequest: what is noticed was noticed before, or is in the page."""
    vcpu = attempt.watched.vcpu
    after = threats.by_host(attempt.hw, vcpu, attempt.action)
    return attempt.action.actor not in HOST or not after.v_nmi or vcpu.v_nmi or vcpu.page.nmi_request


@rule
def busy_for_ever(attempt: Attempt) -> bool:
    """A vCPU that faulted on its page never runs again, whatever anybody does, and takes nothing."""
    if not attempt.watched.vcpu.vmsa.guest_busy:
        return True
    step = threats.step(attempt.hw, attempt.watched, attempt.action)
    still = step.after.vcpu.vmsa.guest_busy and dead(attempt.hw, step.after.vcpu)
    return still and step.vector == NULL and not step.nmi


# What the host can do: each of these can happen.


@rule
def interrupts_without_a_device(attempt: Attempt) -> bool:
    """An allowed vector arrives that the host made up."""
    vcpu, action = attempt.watched.vcpu, attempt.action
    entered = threats.by_host(attempt.hw, vcpu, action)
    return action.actor == Actor.HOST_RUNS and vcpu.page.irr == 0 and entered.v_intr


@rule
def interrupts_by_a_withdrawn_vector(attempt: Attempt) -> bool:
    """The guest is interrupted by a vector after it has withdrawn it."""
    vcpu = attempt.watched.vcpu
    vector = threats.step(attempt.hw, attempt.watched, attempt.action).vector
    return agreed(attempt.watched) and vector != NULL and not includes(vcpu.page.allowed_irr, only(vector))


@rule
def interrupts_by_nmi(attempt: Attempt) -> bool:
    """The host's NMI arrives: Linux allows them."""
    vcpu = attempt.watched.vcpu
    return threats.step(attempt.hw, attempt.watched, attempt.action).nmi and not vcpu.v_nmi


@rule
def kills(attempt: Attempt) -> bool:
    """The host makes a vCPU busy for ever."""
    vcpu = attempt.watched.vcpu
    after = threats.step(attempt.hw, attempt.watched, attempt.action).after
    return attempt.action.actor in HOST and not vcpu.vmsa.guest_busy and after.vcpu.vmsa.guest_busy


@rule
def asks_by_request_alone(attempt: Attempt) -> bool:
    """NmiRequest brings an NMI while AllowedNMI is 0: only where the hardware does not ask for it."""
    vcpu = attempt.watched.vcpu
    nmi = threats.step(attempt.hw, attempt.watched, attempt.action).nmi
    return nmi and not nmis_allowed(vcpu) and attempt.hw.nmi_request == NmiRequestNeeds.NOTHING


THEOREMS: Final = (
    Theorem("agreed-at-first", starts_agreed),
    Theorem("agreed-for-ever", stays_agreed),
    Theorem("only-agreed-vectors", only_agreed_vectors),
    Theorem("only-allowed-requests", only_allowed_requests),
    Theorem("nothing-else-written", nothing_else_written),
    Theorem("only-agreed-nmis", only_agreed_nmis),
    Theorem("requests-noticed-are-the-guests", requests_noticed_are_the_guests),
    Theorem("busy-for-ever", busy_for_ever),
    Theorem("interrupts-without-a-device", interrupts_without_a_device, always=False),
    Theorem("interrupts-by-a-withdrawn-vector", interrupts_by_a_withdrawn_vector, always=False),
    Theorem("interrupts-by-nmi", interrupts_by_nmi, always=False),
    Theorem("kills", kills, always=False),
    Theorem("asks-by-request-alone", asks_by_request_alone, always=False),
)

INTEGRITY: Final = Theory("secure-avic/integrity", Attempt, THEOREMS)
