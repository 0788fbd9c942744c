"""What is proved of Secure AVIC at full width, theory by theory: for ``avicheck prove secure-avic``."""

from __future__ import annotations

from typing import Any, Final

from avicheck.checker.theorems import Theory
from avicheck.proofs.secure_avic_calls import CALLS
from avicheck.proofs.secure_avic_driver import DRIVER
from avicheck.proofs.secure_avic_inject import INJECTION, SAMPLING
from avicheck.proofs.secure_avic_integrity import INTEGRITY
from avicheck.proofs.secure_avic_ipis import IPIS

THEORIES: Final[tuple[Theory[Any], ...]] = (INTEGRITY, INJECTION, SAMPLING, IPIS, CALLS, DRIVER)
