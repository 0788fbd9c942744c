"""How long apic-map takes: ``pytest tests/benchmarks/bench_apic_map.py``.

Whole processes are timed from outside, so that start-up counts. Seconds depend on the machine: compare
runs made side by side.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avicheck.checker.claims import Lifted, lift_model
from avicheck.spec.kernels import KERNELS

SAMPLE = Path(__file__).parent.parent / "data" / "vectors" / "kvm-6.19.sample.jsonl.gz"


def avicheck(*args: str) -> int:
    command = [sys.executable, "-m", "avicheck.checker", *args]
    return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode


@pytest.mark.parametrize("kernel", ["6.1", "posted-2022-08", "6.19"])
def test_lifting_the_whole_model_for_8_vcpus(benchmark: Any, kernel: str) -> None:
    def lift() -> Lifted:
        lift_model.cache_clear()
        return lift_model(KERNELS[kernel], 8)

    lifted = benchmark.pedantic(lift, rounds=3)
    assert len(lifted.case.kvm.vcpus) == 8


def test_help(benchmark: Any) -> None:
    assert benchmark(avicheck, "--help") == 0


def test_conform_on_a_sample(benchmark: Any) -> None:
    assert benchmark.pedantic(avicheck, ("conform", str(SAMPLE)), rounds=3) == 0


def test_find(benchmark: Any) -> None:
    assert benchmark.pedantic(avicheck, ("find", "apic-map", "fast.accepted != slow.accepted"), rounds=3) == 1


def test_check_with_defaults(benchmark: Any) -> None:
    assert benchmark.pedantic(avicheck, ("check", "apic-map"), rounds=1) == 1
