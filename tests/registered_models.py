"""Models and bugs that are registered whatever version of the project is installed."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Final

from avicheck.checker.systems import GROUP

SPEC: Final = "avicheck.spec."
MODELS: Final = {
    "apic-map-life": "apic_map_life:DESCRIPTION",
    "apicv-inhibit": "apicv_inhibit_model:APICV_INHIBIT_DESCRIPTION",
    "apicv-inhibit-creation": "apicv_inhibit_creation:DESCRIPTION",
    "apicv-inhibit-nested": "apicv_inhibit_nested:DESCRIPTION",
    "apicv-inhibit-page": "apicv_inhibit_page:DESCRIPTION",
    "apicv-inhibit-l2-page": "apicv_inhibit_l2_page:DESCRIPTION",
    "apicv-inhibit-window": "apicv_inhibit_window:DESCRIPTION",
    "apicv-inhibit-tpr": "apicv_inhibit_tpr:TPR_DESCRIPTION",
    "apicv-inhibit-threshold": "apicv_inhibit_tpr:THRESHOLD_DESCRIPTION",
}
POINTS: Final = {name: EntryPoint(name, SPEC + value, GROUP) for name, value in MODELS.items()}
