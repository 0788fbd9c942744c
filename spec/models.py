"""The concurrent models by name, and where each describes itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DESCRIPTIONS: Final[Mapping[str, str]] = {
    "apic-map-life": "avicheck.spec.apic_map_life:DESCRIPTION",
    "apicv-inhibit": "avicheck.spec.apicv_inhibit_model:APICV_INHIBIT_DESCRIPTION",
    "apicv-inhibit-creation": "avicheck.spec.apicv_inhibit_creation:DESCRIPTION",
    "apicv-inhibit-l2-page": "avicheck.spec.apicv_inhibit_l2_page:DESCRIPTION",
    "apicv-inhibit-nested": "avicheck.spec.apicv_inhibit_nested:DESCRIPTION",
    "apicv-inhibit-page": "avicheck.spec.apicv_inhibit_page:DESCRIPTION",
    "apicv-inhibit-threshold": "avicheck.spec.apicv_inhibit_tpr:THRESHOLD_DESCRIPTION",
    "apicv-inhibit-tpr": "avicheck.spec.apicv_inhibit_tpr:TPR_DESCRIPTION",
    "apicv-inhibit-window": "avicheck.spec.apicv_inhibit_window:DESCRIPTION",
    "secure-avic": "avicheck.spec.secure_avic_asked:DESCRIPTION",
    "secure-avic-arrival": "avicheck.spec.secure_avic_asked:ARRIVAL_DESCRIPTION",
    "secure-avic-move": "avicheck.spec.secure_avic_move:MOVE_DESCRIPTION",
    "secure-avic-page": "avicheck.spec.secure_avic_page:PAGE_DESCRIPTION",
    "secure-avic-nmi": "avicheck.spec.secure_avic_nmi:NMI_DESCRIPTION",
    "secure-avic-irqchip": "avicheck.spec.secure_avic_irqchip:IRQCHIP_DESCRIPTION",
    "secure-avic-legacy": "avicheck.spec.secure_avic_legacy:LEGACY_DESCRIPTION",
    "secure-avic-timer": "avicheck.spec.secure_avic_timer:TIMER_DESCRIPTION",
    "secure-avic-online": "avicheck.spec.secure_avic_online:ONLINE_DESCRIPTION",
}
"""Each a ``Description``, as ``module:name``; none is imported before it is asked for."""
