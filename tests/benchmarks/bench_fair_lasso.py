"""How fast liveness on the explicit graph is: ``pytest tests/benchmarks/bench_fair_lasso.py``.

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
from dataclasses import replace
from avicheck.checker.explicit import explicit
from avicheck.checker.explore import explore
from avicheck.checker.memory import resident
from avicheck.encodings.expr import constant, eq, lt, not_
from avicheck.encodings.liveness import always_property
from avicheck.encodings.transition import Property
from tests.benchmarks.avic_delivery import SIZES, avic_delivery

size, name, engine = sys.argv[1:]
system = avic_delivery(*SIZES[size])
zero, var = constant(0), {variable.name: variable.expr for variable in system.variables}
sender = tuple(step.name for step in system.transitions if step.thread == "sender0")
delivery = tuple(n for n in sender if ".pick" not in n)
delivery += tuple(step.name for step in system.transitions if step.thread == "vcpu0")
sent = eq(var["spc0"], zero)
asked = {
    "sent": Property("sent", "leads-to", not_(sent), target=sent, weak_fairness=sender),
    "delivered": Property(
        "delivered", "leads-to", lt(zero, var["irr0"]), target=lt(zero, var["isr0"]), strong_fairness=delivery
    ),
}[name]
before = resident()
if engine == "graph":
    found = explicit(system, asked)
else:
    transformed, never_closed = always_property(system, asked)
    safety = replace(transformed, properties=(never_closed,))
    (found,) = explore(safety, properties=[name], stop="all").results
held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
run = None if found.run is None or engine != "graph" else (found.run.loop, len(found.run.fired))
print(json.dumps({
    "verdict": found.verdict.value,
    "counts": (found.states, found.transitions),
    "run": run,
    "detail": found.detail,
    "MiB, code included": held >> 20,
}))
"""


def run(size: str, name: str, engine: str = "graph") -> dict[str, Any]:
    command = [sys.executable, "-c", RUN, size, name, engine]
    return dict(json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout))


@pytest.mark.parametrize("size", ["XS", "S", "M", "L"])
def test_what_holds(benchmark: Any, size: str) -> None:
    """All states, of which nine in ten lie between cause and target, and all their components."""
    found = benchmark.pedantic(run, (size, "sent"), rounds=1 if size == "L" else 3)
    benchmark.extra_info.update(found)
    assert (found["verdict"], tuple(found["counts"])) == ("holds", COUNTS[size][:2])


@pytest.mark.parametrize("size", ["XS", "S", "M", "L"])
def test_strongly_fair_lasso(benchmark: Any, size: str) -> None:
    found = benchmark.pedantic(run, (size, "delivered"), rounds=1 if size == "L" else 3)
    benchmark.extra_info.update(found)
    assert (found["verdict"], found["run"]) == ("violated", [4, 13])


@pytest.mark.parametrize("name", ["sent", "delivered"])
def test_translation_to_safety(benchmark: Any, name: str) -> None:
    """What it costs without components, on the smallest size."""
    found = benchmark.pedantic(run, ("XS", name, "translation"), rounds=1)
    benchmark.extra_info.update(found)
    assert found["verdict"] == {"sent": "holds", "delivered": "violated"}[name]
