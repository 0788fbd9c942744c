"""The page on what Secure AVIC relies on: it has every section, and those that are soon decided are true."""

from __future__ import annotations

from pathlib import Path

import pytest

from avicheck.checker.systems import description, registered
from avicheck.proofs.secure_avic_matrix import SECTIONS, Section

PAGE = Path(__file__).parent.parent / "proofs/secure-avic-matrix.md"
SOON = [each for each in SECTIONS if each.model in ("secure-avic-page", "secure-avic-legacy")]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda each: each.title)
def test_page_has_every_section(section: Section) -> None:
    assert f"## {section.title}\n\n`{section.command}`\n" in PAGE.read_text()


@pytest.mark.parametrize("section", SOON, ids=lambda each: each.title)
def test_page_is_true(section: Section) -> None:
    assert section.text(section.decide()) in PAGE.read_text()


def test_every_model_with_assumptions_has_a_section() -> None:
    models = {
        name for name in registered() if name.startswith("secure-avic") and description(name).assumptions
    }
    assert models == {each.model for each in SECTIONS}
