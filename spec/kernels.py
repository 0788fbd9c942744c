"""Kernels, told apart by named fixes: one specification, no copies."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Fix(Enum):
    """An upstream change of behaviour, by its title."""

    ALIASED_XAPIC_IDS = "KVM: x86: Honor architectural behavior for aliased 8-bit APIC IDs"
    LOGICAL_MODES = "KVM: x86: Explicitly track all possibilities for APIC map's logical modes"
    LOGICAL_MULTI_MDA = "KVM: x86: Disable APIC logical map if logical ID covers multiple MDAs"
    LOGICAL_ALIASED = "KVM: x86: Disable APIC logical map if vCPUs are aliased in logical mode"
    PHYS_BOUNDS = "KVM: x86: Bail from kvm_recalculate_phys_map() if x2APIC ID is out-of-bounds"
    INHIBIT_PHYSICAL_ALIASED = "KVM: x86: Inhibit APICv/AVIC if the optimized physical map is disabled"
    INHIBIT_LOGICAL_ALIASED = "KVM: SVM: Inhibit AVIC if vCPUs are aliased in logical mode"
    INHIBIT_ID_MODIFIED = "KVM: x86: Allow APICv APIC ID inhibit to be cleared"


@dataclass(frozen=True)
class Kernel:
    """A kernel's behaviour: its name and the fixes it contains."""

    name: str
    fixes: frozenset[Enum]

    def has(self, fix: Enum) -> bool:
        """Whether this kernel contains ``fix``."""
        return fix in self.fixes


KERNELS: Final = {
    kernel.name: kernel
    for kernel in (
        Kernel("6.1", frozenset()),
        Kernel("posted-2022-08", frozenset({Fix.ALIASED_XAPIC_IDS})),
        Kernel("6.12", frozenset(Fix)),
        Kernel("6.16", frozenset(Fix)),
        Kernel("6.19", frozenset(Fix)),
    )
}
"""Every kernel whose map this specification describes, oldest first."""
