"""The lifted model of the APIC map, evaluated at numbers, is the model run on them, on every kernel."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.encodings.expr import variables
from avicheck.encodings.lift import concrete, lift, lifting, symbolic, to_expr
from avicheck.encodings.symbolic import leaves_of
from avicheck.spec.apic import ApicMode, DeliveryMode, DestMode, Irq, Kvm, Shorthand, TrigMode, Vcpu
from avicheck.spec.apic_map import kvm_recalculate_apic_map
from avicheck.spec.apic_map_model import Case, Outcome, outcome
from avicheck.spec.apic_route import PvIpi, kvm_pv_send_ipi
from avicheck.spec.kernels import KERNELS
from avicheck.spec.lang import NULL

SIZES: Final = (1, 2, 3, 4)
DISTINCT: Final = ("6.1", "posted-2022-08", "6.19")
"""Kernels that differ in their fixes."""
VECTORS: Final = Path(__file__).parent / "data" / "vectors"

POOLS: Final[dict[str, list[int]]] = {
    "vcpu_id": [0, 1, 2, 3, 15, 16, 17, 254, 255, 256, 257, 259, 511, 4095],
    "xapic_id": [0, 1, 2, 3, 15, 16, 254, 255],
    "ldr": [0, 1, 0x1_0001, 0x10_0002, *(i << 24 for i in (1, 2, 3, 4, 0x11, 0x12, 0x21, 0x80, 0xFF))],
    "dfr": [0xFFFF_FFFF, 0x0FFF_FFFF, 0x1FFF_FFFF, 0],
    "arb_prio": [0, 1, 2, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF],
    "dest_id": [0, 1, 2, 3, 0x11, 0xFE, 0xFF, 0x100, 0x103, 0xFFFF, 0x1_0001, 0x10_0003, 0xFFFF_FFFF],
}
"""Values that collide, and those around which rules change, by field."""


@cache
def lifted_model(kernel: str, vcpus: int) -> tuple[Case, Outcome]:
    case: Case = symbolic(Case, {"vcpus": vcpus}, "", kernel=KERNELS[kernel])
    return case, lift(outcome, case)


@st.composite
def cases(draw: st.DrawFn, kernel: str, vcpus: int) -> dict[str, int]:
    """Values of a case's variables."""
    env = {}
    for var in variables(*map(to_expr, leaves_of(lifted_model(kernel, vcpus)[0]))):
        name = str(var.value)
        usual = st.sampled_from(POOLS.get(name.rpartition(".")[2], [var.lo, var.hi]))
        env[name] = draw(usual | usual | usual | st.integers(var.lo, var.hi))
    return env


def agrees(kernel: str, vcpus: int, env: dict[str, int]) -> None:
    symbols, lifted = lifted_model(kernel, vcpus)
    case, computed = concrete((symbols, lifted), env)
    assert outcome(case) == computed


@settings(max_examples=120, deadline=None)
@given(st.data(), st.sampled_from(DISTINCT), st.sampled_from(SIZES))
def test_lifted_model_is_the_model_on_random_cases(data: st.DataObject, kernel: str, vcpus: int) -> None:
    agrees(kernel, vcpus, data.draw(cases(kernel, vcpus)))


def recorded(kernel: str) -> Iterator[Case]:
    """The cases of real kernels' recordings, with up to three vCPUs, whatever kernel they are told to."""
    for path in sorted(VECTORS.glob("*.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in map(json.loads, file):
                if len(line["config"]["vcpus"]) <= 3:
                    kvm = kvm_of(line["config"], kernel)
                    yield from (case_of(kvm, query) for query in line["queries"])


def kvm_of(config: dict[str, Any], kernel: str) -> Kvm:
    vcpus = tuple(
        Vcpu(
            **vcpu
            | {"mode": ApicMode(vcpu["mode"]), "xapic_id": vcpu["xapic_id"] or 0}
            | {"arb_prio": vcpu["arb_prio"] & 0xFFFF_FFFF}
        )
        for vcpu in config["vcpus"]
    )
    return Kvm(**config | {"kernel": KERNELS[kernel], "vcpus": vcpus})


def case_of(kvm: Kvm, query: dict[str, Any]) -> Case:
    irq = Irq(
        Shorthand(query["shorthand"]),
        DestMode(query["dest_mode"]),
        query["dest_id"],
        DeliveryMode(query["delivery_mode"]),
        query["vector"],
        query["level"],
        TrigMode(query["trig_mode"]),
        query["msi_redir_hint"],
    )
    return Case(kvm, False, NULL if query["src"] is None else query["src"], irq)


def assignment(symbols: Any, value: Any) -> dict[str, int]:
    """The values of a symbolic value's variables that make it another value."""
    pairs = zip(leaves_of(symbols), leaves_of(value), strict=True)
    return {str(to_expr(symbol).value): to_expr(leaf).lo for symbol, leaf in pairs}


def test_distinct_kernels_have_all_fixes_among_them() -> None:
    assert {KERNELS[name].fixes for name in DISTINCT} == {kernel.fixes for kernel in KERNELS.values()}


@pytest.mark.parametrize("kernel", KERNELS)
def test_lifted_model_is_the_model_on_recorded_cases(kernel: str) -> None:
    found = list(itertools.islice(recorded(kernel), 60))
    assert len(found) == 60
    for case in found:
        vcpus = len(case.kvm.vcpus)
        agrees(kernel, vcpus, assignment(lifted_model(kernel, vcpus)[0], case))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_lifted_pv_ipi_is_the_rule(data: st.DataObject) -> None:
    case, sent = lifted_pv_ipi()
    env = data.draw(cases("6.19", 2)) | {
        "call.low": data.draw(st.integers(0, (1 << 64) - 1)),
        "call.high": data.draw(st.integers(0, 15)),
        "call.min": data.draw(st.sampled_from([0, 1, 200, 0xFFFF_FFFF, (1 << 32) - 64])),
        "call.icr": data.draw(st.sampled_from([0xFE, 0x100, 0x4400, 0x8500, 0x8FE, 0x40000])),
        "call.op64": data.draw(st.integers(0, 1)),
    }
    symbols = symbolic(PvIpi, {}, "call")
    kvm, call, computed = concrete((case.kvm, symbols, sent), env)
    assert kvm_pv_send_ipi(kvm, kvm_recalculate_apic_map(kvm, False), call) == computed


@cache
def lifted_pv_ipi() -> tuple[Case, Any]:
    case: Case = symbolic(Case, {"vcpus": 2}, "", kernel=KERNELS["6.19"])
    with lifting():
        published = kvm_recalculate_apic_map(case.kvm, False)
        return case, kvm_pv_send_ipi(case.kvm, published, symbolic(PvIpi, {}, "call"))
