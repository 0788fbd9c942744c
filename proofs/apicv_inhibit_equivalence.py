"""That the hand-written rules and the lifted specification of apicv-inhibit say the same: the obligations.

Three subjects: what setting or clearing a reason does, the reasons of a VM at rest, and what one vCPU
synchronises when it looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from avicheck.checker.errors import not_one_of
from avicheck.checker.obligations import lifting_obligations
from avicheck.checker.solve import Query
from avicheck.checker.voices import Said, Subject, Voices, listen
from avicheck.encodings import apicv_inhibit_rules as rules
from avicheck.proofs.comparison import compare
from avicheck.spec.apic import config_ok
from avicheck.spec.apicv_inhibit import (
    INHIBIT_KERNELS,
    Apicv,
    Causes,
    Change,
    Mask,
    Reason,
    Toggle,
    Vendor,
    __kvm_vcpu_update_apicv,
    kvm_set_or_clear_apicv_inhibit,
    kvm_vcpu_apicv_activated,
    maps_apic_page,
    reasons_at_rest,
    sticky,
)
from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import domains, record

VCPUS: Final = 4
"""The number of vCPUs of a VM at rest: they matter only to the reasons that come from the APIC map."""


@record
class ChangeCase:
    """A reason that is set or cleared, and a vCPU that is in L2 or not."""

    vendor: Vendor
    enable_apicv: bool
    reasons: Mask
    reason: Reason
    is_set: bool
    guest_mode: bool


def _fields(value: Apicv | Change) -> Said:
    return {name: getattr(value, name) for name in domains(type(value))}


def change_subject(kernel: Kernel) -> Subject:
    """Setting or clearing a reason, and what a mask means for a vCPU and for the APIC page."""

    def by_model(case: ChangeCase) -> Said:
        change = kvm_set_or_clear_apicv_inhibit(
            kernel, case.vendor, case.enable_apicv, case.reasons, case.reason, case.is_set
        )
        activated = kvm_vcpu_apicv_activated(case.vendor, case.reasons, case.guest_mode)
        mapped = maps_apic_page(case.reasons, case.guest_mode)
        stays = sticky(kernel, case.reason)
        return {**_fields(change), "activated": activated, "mapped": mapped, "sticky": stays}

    def by_rules(case: Any) -> Said:
        change = rules.changed(kernel, case.vendor, case.enable_apicv, case.reasons, case.reason, case.is_set)
        activated = rules.activated(case.vendor, case.reasons, case.guest_mode)
        return {
            **_fields(change),
            "activated": activated,
            "mapped": rules.maps_apic_page(case.reasons, case.guest_mode),
            "sticky": rules.stays(kernel, case.reason),
        }

    return Subject("inhibit", ChangeCase, lambda case: True, by_model, by_rules)


def rest_subject(kernel: Kernel) -> Subject:
    """The reasons of a VM in which nothing changes."""

    def by_model(case: Causes) -> Said:
        return {"reasons": reasons_at_rest(kernel, case)}

    def by_rules(case: Any) -> Said:
        return {"reasons": rules.at_rest(kernel, case)}

    return Subject("inhibits-at-rest", Causes, lambda case: config_ok(case.kvm), by_model, by_rules)


def toggle_subject(kernel: Kernel) -> Subject:
    """What a vCPU synchronises."""

    def by_model(case: Toggle) -> Said:
        return _fields(__kvm_vcpu_update_apicv(kernel, case))

    def by_rules(case: Any) -> Said:
        return _fields(rules.toggled(kernel, case))

    return Subject("apicv-update", Toggle, lambda case: True, by_model, by_rules)


def obligations(kernel: Kernel, vcpus: int = VCPUS) -> list[Query]:
    """All masks of the thirteen reasons, ISR and IRR of 16 vectors, one vCPU; for the reasons of a VM at
    rest at most 4 vCPUs with ids and registers at their full width.

    ``InputError`` unless the kernel is one of ``INHIBIT_KERNELS``."""
    if kernel.name not in INHIBIT_KERNELS:
        raise not_one_of("--kernel", INHIBIT_KERNELS, kernel.name, "apicv-inhibit")
    described = INHIBIT_KERNELS[kernel.name]
    one, several = 1, min(vcpus, VCPUS)
    return [
        *inhibit_obligations(listen(change_subject(described), described, one)),
        *inhibit_obligations(listen(rest_subject(described), described, several)),
        *inhibit_obligations(listen(toggle_subject(described), described, one)),
    ]


def inhibit_obligations(voices: Voices) -> Iterator[Query]:
    """That both sides agree on each value of a subject."""
    for name in voices.lifted:
        yield compare(voices, name, f"Both sides agree on {name}.", [name])
    prefix = f"equal/{voices.subject.name}/{voices.kernel.name}/{voices.vcpus}/lifting"
    yield from lifting_obligations(voices.lifter, prefix)
