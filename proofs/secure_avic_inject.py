"""From an accepted interrupt to a requested one, and VMRUN's sampling of ALLOWED_IRR, in full width."""

from __future__ import annotations

from typing import Final

from avicheck.checker.theorems import Theorem, Theory
from avicheck.spec.lang import U8, VectorSet, record, rule, update
from avicheck.spec.secure_avic import Exit, Hardware, Vcpu, Vmcb
from avicheck.spec.secure_avic_hardware import Entry, only, vmrun
from avicheck.spec.secure_avic_inject import Injection, SoftwareApic, accept, sev_savic_set_requested_irr
from avicheck.spec.secure_avic_threats import includes


@record
class Accepted:
    """Two interrupts that KVM accepts one after the other, and then requests, in any state."""

    apic: SoftwareApic
    vmcb: Vmcb
    vector: U8
    level: bool
    later: U8
    later_level: bool


@rule
def injected(case: Accepted) -> Injection:
    """Both are accepted, and everything is requested."""
    accepted = accept(accept(case.apic, case.vector, case.level), case.later, case.later_level)
    return sev_savic_set_requested_irr(accepted, case.vmcb)


@rule
def nothing_lost(case: Accepted) -> bool:
    """P-S4: whatever is pending in KVM is requested, with UpdateIRR, and no request is taken back."""
    after = injected(case)
    pending = case.apic.irr | (only(case.vector) if case.apic.enabled else 0)
    requested = includes(after.vmcb.requested_irr, pending | case.vmcb.requested_irr)
    return requested and after.apic.irr == 0 and (pending == 0 or after.vmcb.update_irr)


@rule
def nothing_refused(case: Accepted) -> bool:
    """F-SPIV: whatever comes is requested, also before KVM takes the APIC as enabled."""
    return includes(injected(case).vmcb.requested_irr, only(case.vector))


@rule
def level_is_shadowed(case: Accepted) -> bool:
    """SAV-C12: a vector that was accepted as level-triggered counts as in service once it is requested."""
    heard = case.level and case.apic.enabled
    return not heard or includes(injected(case).apic.isr, only(case.vector))


@rule
def level_is_shadowed_if_modes_stay(case: Accepted) -> bool:
    """SAV-C12 where no vector is accepted with another trigger mode before it is requested."""
    changed = case.vector == case.later and case.level != case.later_level
    return changed or level_is_shadowed(case)


INJECTION: Final = Theory(
    "secure-avic/injection",
    Accepted,
    (
        Theorem("nothing-lost", nothing_lost),
        Theorem("nothing-refused", nothing_refused, refuted=True),
        Theorem("level-is-shadowed", level_is_shadowed, refuted=True),
        Theorem("level-is-shadowed-if-modes-stay", level_is_shadowed_if_modes_stay),
    ),
)


# O-ATOM.


@record
class Sampled:
    """A VMRUN during which ALLOWED_IRR changes from ``before`` to what is in the page: for each vector in
    ``early`` the hardware reads it before the change, for the others after it."""

    hw: Hardware
    vcpu: Vcpu
    before: VectorSet
    early: VectorSet


@rule
def with_allowed(case: Sampled, allowed_irr: int) -> Entry:
    """The VMRUN with an ALLOWED_IRR that does not change."""
    return vmrun(case.hw, update(case.vcpu, page=update(case.vcpu.page, allowed_irr=allowed_irr)))


@rule
def sampled(case: Sampled) -> int:
    """What the hardware has read of ALLOWED_IRR."""
    return (case.before & case.early) | (case.vcpu.page.allowed_irr & ~case.early)


@rule
def only_allowed_enter(case: Sampled) -> bool:
    """P-S1: what enters IRR was requested, and allowed before or after the change."""
    page, requested = case.vcpu.page, case.vcpu.vmcb.requested_irr
    allowed = case.before | page.allowed_irr
    return includes(page.irr | (requested & allowed), with_allowed(case, sampled(case)).vcpu.page.irr)


@rule
def all_allowed_enter(case: Sampled) -> bool:
    """P-L2: what is requested and allowed before and after the change enters IRR."""
    vcpu, entry = case.vcpu, with_allowed(case, sampled(case))
    due = vcpu.vmcb.requested_irr & case.before & vcpu.page.allowed_irr
    asked = entry.exit == Exit.NONE and vcpu.vmcb.update_irr and vcpu.vmsa.enabled
    return not asked or includes(entry.vcpu.page.irr, due)


@rule
def as_at_one_moment(case: Sampled) -> bool:
    """What enters IRR is what would enter before the change, or after it."""
    irr = with_allowed(case, sampled(case)).vcpu.page.irr
    before, after = with_allowed(case, case.before), with_allowed(case, case.vcpu.page.allowed_irr)
    return irr == before.vcpu.page.irr or irr == after.vcpu.page.irr


SAMPLING: Final = Theory(
    "secure-avic/sampling",
    Sampled,
    (
        Theorem("only-allowed-enter", only_allowed_enter),
        Theorem("all-allowed-enter", all_allowed_enter),
        Theorem("as-at-one-moment", as_at_one_moment, refuted=True),
    ),
)
