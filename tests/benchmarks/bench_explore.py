"""How fast the explicit engine is: ``pytest tests/benchmarks/bench_explore.py``.

Each run is a process of its own, timed from outside, so that start-up and compilation count. Seconds
depend on the machine: compare runs made side by side.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.avic_delivery import COUNTS

ROOT = Path(__file__).parent.parent.parent

RUN = """
import json, resource, runpy, sys
runpy.run_path("tests/conftest.py")
from avicheck.checker.explore import explore
from avicheck.checker.memory import resident
from tests.benchmarks.avic_delivery import SIZES, avic_delivery

size, tier, bug = sys.argv[1:]
system, before = avic_delivery(*SIZES[size], bug == "bug"), resident()
found = explore(system, tier=tier)
held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
print(json.dumps({
    "counts": (found.states, found.transitions, found.depth),
    "run": found.results[0].run and len(found.results[0].run.fired),
    "states per second": found.states / found.seconds,
    "bytes per state, code included": held / found.states,
}))
"""


def run(size: str, tier: str, bug: str = "") -> dict[str, Any]:
    command = [sys.executable, "-c", RUN, size, tier, bug]
    return dict(json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout))


@pytest.mark.parametrize(
    ("size", "tier"),
    [
        *((size, tier) for size in ("XS", "S", "M") for tier in ("interpreted", "compiled", "auto")),
        ("L", "auto"),
        ("XL", "auto"),
    ],
)
def test_every_state(benchmark: Any, size: str, tier: str) -> None:
    found = benchmark.pedantic(run, (size, tier), rounds=1 if size in ("L", "XL") else 3)
    benchmark.extra_info.update(found)
    assert tuple(found["counts"]) == COUNTS[size]


@pytest.mark.parametrize("size", ["M", "L", "XL"])
def test_first_counterexample(benchmark: Any, size: str) -> None:
    assert benchmark.pedantic(run, (size, "auto", "bug"), rounds=3)["run"] == 10
