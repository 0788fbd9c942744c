"""A case as people and programs read it: configuration, request, and where every path sends it."""

from __future__ import annotations

import textwrap
from typing import Any, Final

from avicheck.checker import explain
from avicheck.checker.route import Routing, as_json, callers_text, reasons, request_text, routing
from avicheck.spec.apic import APIC_DFR_CLUSTER, APIC_DFR_FLAT, ApicMode, Kvm, Vcpu
from avicheck.spec.apic_map import Inhibit
from avicheck.spec.apic_map_model import Case

WIDTH: Final = 75
"""Columns of everything that may be pasted into a mail."""


def case_text(case: Case, width: int = WIDTH) -> str:
    """The case in at most ``width`` columns: the VM, its vCPUs, the request, what each path does and why."""
    routed = routing(case.kvm, case.src, case.irq, case.alloc_fails)
    lines = [_vm_text(case), *_vcpu_table(case.kvm), request_text(routed), callers_text(routed)]
    lines += [_paths(routed), *reasons(routed), *_inhibits(routed)]
    return "\n".join(piece for line in lines for piece in textwrap.wrap(line, width, subsequent_indent="  "))


def case_json(case: Case) -> dict[str, Any]:
    """The case as JSON; ``case`` alone is a file that ``avicheck route`` reads."""
    routed = routing(case.kvm, case.src, case.irq, case.alloc_fails)
    told = as_json([routed])
    return {
        "case": {"config": told["config"], "queries": [told["request"]]},
        "alloc_fails": case.alloc_fails,
        "callers": told["callers"],
        "outcome": told["kernels"][0],
    }


def _inhibits(routed: Routing) -> list[str]:
    published = routed.published
    flags = (published.physical_id_aliased, published.logical_id_aliased, published.apic_id_modified)
    names = [reason.name for reason, flag in zip(Inhibit, flags, strict=True) if flag]
    return [f"Inhibit reasons set: {', '.join(names)}."] if names else []


def _vm_text(case: Case) -> str:
    kvm = case.kvm
    parts = [
        f"32-bit IDs {_on(kvm.x2apic_format)}",
        f"broadcast quirk {_on(not kvm.x2apic_broadcast_quirk_disabled)}",
        f"vector hashing {_on(kvm.vector_hashing)}",
    ]
    return f"VM: {', '.join(parts + ['the allocation of the map fails'] * case.alloc_fails)}."


def _on(flag: bool) -> str:
    return "on" if flag else "off"


def _vcpu_table(kvm: Kvm) -> list[str]:
    rows: list[tuple[str, ...]] = [("vCPU", "id", "mode", "xAPIC ID", "LDR", "DFR", "SPIV", "priority")]
    rows += [_vcpu_row(index, vcpu) for index, vcpu in enumerate(kvm.vcpus)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _vcpu_row(index: int, vcpu: Vcpu) -> tuple[str, ...]:
    x2apic = vcpu.mode is ApicMode.X2APIC
    known = {APIC_DFR_FLAT: "flat", APIC_DFR_CLUSTER: "cluster"}
    return (
        str(index),
        f"{vcpu.vcpu_id:#x}",
        vcpu.mode.value,
        "-" if x2apic else f"{vcpu.xapic_id:#x}",
        f"{vcpu.ldr:#010x}",
        "-" if x2apic else known.get(vcpu.dfr, f"{vcpu.dfr:#010x}"),
        _on(vcpu.sw_enabled),
        str(vcpu.arb_prio - (1 << 32) if vcpu.arb_prio >> 31 else vcpu.arb_prio),
    )


def _paths(routed: Routing) -> str:
    fast = _accepted(routed, routed.accepted(routed.fast)) if routed.fast.handled else "left to the loop"
    slow = _accepted(routed, routed.accepted(routed.slow))
    took = _accepted(routed, routed.accepted(routed.delivery))
    return f"Accepted through the map: {fast}; by the loop: {slow}; in KVM: {took}."


def _accepted(routed: Routing, mask: int) -> str:
    return explain.vcpus(index for index in range(len(routed.kvm.vcpus)) if (mask >> index) & 1)
