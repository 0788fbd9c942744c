"""What verdicts take for granted, by name: printed with each of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Assumption:
    """A fact that a model relies on and does not prove, with what it rests on."""

    name: str
    sentence: str
    source: str


APIC_MAP: Final = (
    Assumption(
        "at-rest",
        "No register changes while the map is built and used.",
        "scope; the map's life under concurrent changes is another model",
    ),
    Assumption(
        "ids",
        "vCPU ids are unique, 0 to 4095, and are the x2APIC IDs; xAPIC IDs, LDR and DFR are any value.",
        "KVM_CREATE_VCPU; vectors",
    ),
    Assumption(
        "x2apic-ldr",
        "In x2APIC mode LDR follows from the vCPU id, whatever userspace loads.",
        "kvm_apic_calc_x2apic_ldr, kvm_apic_state_fixup; vectors",
    ),
    Assumption(
        "smm",
        "The kernel is built with SMM, so that an SMI is accepted.",
        "CONFIG_KVM_SMM; vectors",
    ),
)
"""The assumptions of apic-map. Destinations are full 32-bit values, arbitration priorities any C int."""
