"""Whose backing page the guest's driver writes for an IPI (arch/x86/kernel/apic/x2apic_savic.c).

savic_send_ipi() turns a CPU into its APIC ID; send_ipi_dest() uses that ID to find a page in an array that
has one for each CPU number. The host wakes the vCPU that has the APIC ID.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.lang import NULL, U32, Range, record, rule

CPUS: Final = 4
CpuNumber: TypeAlias = Annotated[int, Range(0, CPUS - 1)]
CpuSet: TypeAlias = Annotated[int, Range(0, (1 << CPUS) - 1)]
"""Bit i for the CPU of number i."""


class DriverChange(Enum):
    """Changes that would close a finding, or an open point."""

    BY_CPU = "send_ipi_dest() is given the number of the CPU that has the APIC ID"
    OWN_REQUEST = "an NMI for the sender itself is written to NmiRequest, too, not to the ICR"


@record
class Cpus:
    """The APIC ID of each possible CPU; they differ."""

    id0: U32
    id1: U32
    id2: U32
    id3: U32


@rule
def ids(cpus: Cpus) -> tuple[int, int, int, int]:
    """The APIC IDs by CPU number."""
    return (cpus.id0, cpus.id1, cpus.id2, cpus.id3)


@rule
def distinct(cpus: Cpus) -> bool:
    """No two CPUs have one APIC ID: the topology code makes sure of that."""
    found = ids(cpus)
    for i in range(CPUS):
        for j in range(i):
            if found[i] == found[j]:
                return False
    return True


@rule
def dense(cpus: Cpus) -> bool:
    """Every CPU's APIC ID is its number."""
    found = ids(cpus)
    return all(found[i] == i for i in range(CPUS))


@rule
def cpu_of(cpus: Cpus, apic_id: int) -> int:
    """The number of the CPU that has an APIC ID, ``NULL`` if none has."""
    for number, found in enumerate(ids(cpus)):
        if found == apic_id:
            return number
    return NULL


@rule
def page_of(changes: frozenset[DriverChange], cpus: Cpus, apic_id: int) -> int:
    """Whose page gets the vector of an IPI to an APIC ID: a CPU number, ``NULL`` for memory beyond all
    pages."""
    if DriverChange.BY_CPU in changes:
        return cpu_of(cpus, apic_id)
    return apic_id if apic_id < CPUS else NULL


@rule
def page_written(changes: frozenset[DriverChange], cpus: Cpus, cpu: int) -> int:
    """Whose page gets the vector of an IPI to one CPU."""
    return page_of(changes, cpus, ids(cpus)[cpu])


@record
class Sending:
    """An IPI to one CPU, in any topology."""

    changes: frozenset[DriverChange]
    cpus: Cpus
    cpu: CpuNumber
