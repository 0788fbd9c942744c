"""That the guest's driver finds the backing page that an IPI is for: only if APIC IDs are dense."""

from __future__ import annotations

from typing import Final

from avicheck.checker.theorems import Theorem, Theory
from avicheck.spec.lang import NULL, rule
from avicheck.spec.secure_avic_driver import DriverChange, Sending, dense, distinct, page_written


def page(sending: Sending) -> int:
    """Whose page is written."""
    return page_written(sending.changes, sending.cpus, sending.cpu)


@rule
def right_page(sending: Sending) -> bool:
    """An IPI to a CPU is written to that CPU's page, whatever the APIC IDs are."""
    return not distinct(sending.cpus) or page(sending) == sending.cpu


@rule
def some_page(sending: Sending) -> bool:
    """An IPI is written to the page of some CPU, whatever the APIC IDs are."""
    return not distinct(sending.cpus) or page(sending) != NULL


@rule
def right_page_if_dense(sending: Sending) -> bool:
    """An IPI to a CPU is written to that CPU's page where every APIC ID is the CPU's number."""
    return not dense(sending.cpus) or page(sending) == sending.cpu


POSTED: Final = {"changes": frozenset[DriverChange]()}
BY_CPU: Final = {"changes": frozenset({DriverChange.BY_CPU})}

DRIVER: Final = Theory(
    "secure-avic/driver",
    Sending,
    (
        Theorem("right-page", right_page, given=POSTED, refuted=True),
        Theorem("some-page", some_page, given=POSTED, refuted=True),
        Theorem("right-page-if-dense", right_page_if_dense, given=POSTED),
        Theorem("right-page-by-cpu", right_page, given=BY_CPU),
    ),
)
