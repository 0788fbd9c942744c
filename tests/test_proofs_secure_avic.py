"""Every claim of secure-avic comes out as it is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from avicheck.checker.engines import Limits
from avicheck.proofs.secure_avic import CLAIMS, Claim, obligations

PAGE = Path(__file__).parent.parent / "proofs/secure-avic.md"


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{claim.name}-{claim.asked}-{claim.memory}")
def test_claim(claim: Claim) -> None:
    assert claim.decide(Limits(seconds=60)).verdict is claim.expected


def test_page_tells_every_claim() -> None:
    lines = PAGE.read_text().splitlines()
    for claim in CLAIMS:
        told = f"| {claim.name} | {claim.asked} | {claim.assuming} |"
        assert any(line.startswith(told) and f"| {claim.expected.value} |" in line for line in lines), told


def test_obligations_have_names_of_their_own() -> None:
    names = [query.name for query in obligations()]
    assert len(set(names)) == len(names)
    assert {name.rpartition("/")[0] for name in names} >= {
        "equal/secure-avic",
        "secure-avic/integrity",
        "secure-avic/calls",
        "secure-avic/driver",
        "secure-avic/ipis",
    }
