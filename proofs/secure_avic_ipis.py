"""That the IPIs of a Secure AVIC guest go to whom they are for, in full width: every request, vector, set of
CPUs and topology of four CPUs."""

from __future__ import annotations

from typing import Any, Final

from avicheck.checker.theorems import Theorem, Theory
from avicheck.spec.apic import X2APIC_BROADCAST
from avicheck.spec.lang import rule
from avicheck.spec.secure_avic_driver import DriverChange, dense, distinct, ids
from avicheck.spec.secure_avic_hardware import only
from avicheck.spec.secure_avic_ipis import (
    EVERY_CPU,
    NMI_VECTOR,
    Ipi,
    IpiFault,
    Request,
    SelfNmi,
    addressed,
    send,
)


@rule
def real(ipi: Ipi) -> bool:
    """The IDs differ, none is the broadcast's, the sender is online, and NMI_VECTOR is not sent by SELF_IPI,
    which no driver of Linux makes an NMI of."""
    named = all(apic_id != X2APIC_BROADCAST for apic_id in ids(ipi.cpus))
    online = ipi.online | only(ipi.sender) == ipi.online
    return distinct(ipi.cpus) and named and online and not (ipi.request == Request.SELF and is_nmi(ipi))


def is_nmi(ipi: Ipi) -> bool:
    """Whether the request is for an NMI."""
    return ipi.vector == NMI_VECTOR


@rule
def exact(ipi: Ipi) -> bool:
    """Those that are addressed, and no others, get the vector and no other, or NmiRequest."""
    sent, meant = send(ipi), addressed(ipi)
    irr = meant if not is_nmi(ipi) and ipi.vector == ipi.watched else 0
    return sent.irr == irr and sent.nmi_request == (meant if is_nmi(ipi) else 0) and not sent.beyond


@rule
def right_cpus(ipi: Ipi) -> bool:
    """A request reaches the pages of those that it is for, whatever the APIC IDs are."""
    return not real(ipi) or exact(ipi)


@rule
def right_cpus_if_dense(ipi: Ipi) -> bool:
    """A request reaches the pages of those that it is for where every APIC ID is the CPU's number."""
    return not (real(ipi) and dense(ipi.cpus)) or exact(ipi)


@rule
def right_cpus_by_shorthand(ipi: Ipi) -> bool:
    """Requests to all, to all but self and to self reach the right pages whatever the APIC IDs are."""
    shorthand = ipi.request in (Request.ALLBUTSELF, Request.ALL, Request.SELF)
    return not (real(ipi) and shorthand) or exact(ipi)


@rule
def all_woken(ipi: Ipi) -> bool:
    """The host wakes everybody that is addressed, but a sender whose page the hardware evaluates at once."""
    sent = send(ipi)
    needing = addressed(ipi) & ~(only(ipi.sender) if sent.evaluated else 0)
    return not real(ipi) or needing & ~sent.woken == 0


@rule
def only_addressed_woken(ipi: Ipi) -> bool:
    """The host wakes nobody that is not addressed."""
    return not real(ipi) or send(ipi).woken & ~addressed(ipi) == 0


@rule
def only_offline_woken(ipi: Ipi) -> bool:
    """The host wakes nobody that is not addressed, but CPUs that are offline."""
    return not real(ipi) or send(ipi).woken & ~addressed(ipi) & ipi.online == 0


@rule
def no_trap(ipi: Ipi) -> bool:
    """No request ends in a #VC that the guest does not know."""
    return not real(ipi) or not send(ipi).trapped


@rule
def notices(ipi: Ipi) -> bool:
    """One VMGEXIT for each CPU of a mask, one for a shorthand, none for the sender alone."""
    masks = ipi.request in (Request.ONE, Request.MASK, Request.MASK_ALLBUTSELF)
    one = 0 if ipi.request == Request.SELF else 1
    expected = sum((addressed(ipi) >> cpu) & 1 for cpu in range(EVERY_CPU.bit_length()))
    return send(ipi).notices == (expected if masks else one)


def given(
    *changes: DriverChange,
    fault: IpiFault | None = None,
    self_nmi: SelfNmi = SelfNmi.SELF_NMI_TAKEN,
) -> dict[str, Any]:
    """The driver with changes, a fault, an open point chosen."""
    faults = frozenset() if fault is None else frozenset({fault})
    return {"changes": frozenset(changes), "faults": faults, "self_nmi": self_nmi}


POSTED: Final = given()
BY_CPU: Final = given(DriverChange.BY_CPU)
TRAPS: Final = given(self_nmi=SelfNmi.SELF_NMI_TRAPS)
BY_REQUEST: Final = given(DriverChange.OWN_REQUEST, self_nmi=SelfNmi.SELF_NMI_TRAPS)

IPIS: Final = Theory(
    "secure-avic/ipis",
    Ipi,
    (
        Theorem("right-cpus", right_cpus, given=POSTED, refuted=True),
        Theorem("right-cpus-by-cpu", right_cpus, given=BY_CPU),
        Theorem("right-cpus-if-dense", right_cpus_if_dense, given=POSTED),
        Theorem(
            "right-cpus-with-self",
            right_cpus_if_dense,
            given=given(fault=IpiFault.WITH_SELF),
            refuted=True,
        ),
        Theorem("right-cpus-by-shorthand", right_cpus_by_shorthand, given=POSTED),
        Theorem("right-cpus-own-request", right_cpus_if_dense, given=BY_REQUEST),
        Theorem("all-woken", all_woken, given=POSTED),
        Theorem("all-woken-own-request", all_woken, given=BY_REQUEST),
        Theorem("all-woken-without-notice", all_woken, given=given(fault=IpiFault.NO_NOTICE), refuted=True),
        Theorem("only-addressed-woken", only_addressed_woken, given=POSTED, refuted=True),
        Theorem("only-offline-woken", only_offline_woken, given=POSTED),
        Theorem("no-trap", no_trap, given=POSTED),
        Theorem("no-trap-if-it-traps", no_trap, given=TRAPS, refuted=True),
        Theorem("no-trap-own-request", no_trap, given=BY_REQUEST),
        Theorem("notices", notices, given=POSTED),
        Theorem("notices-extra", notices, given=given(fault=IpiFault.EXTRA_NOTICE), refuted=True),
    ),
)
