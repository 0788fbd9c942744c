"""The models and what they cover: ``avicheck models``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import click

from avicheck.checker.options import json_option
from avicheck.spec.kernels import KERNELS, Fix, Kernel


@dataclass(frozen=True)
class Model:
    """A model, in words, and the kernels it describes."""

    name: str
    summary: str
    covers: tuple[str, ...]
    kernels: Mapping[str, Kernel]


MODELS: Final = {
    model.name: model
    for model in (
        Model(
            "apic-map",
            "Where an interrupt goes: through KVM's optimized APIC map, and by the loop over all vCPUs.",
            (
                "building the map, with the inhibit reasons that it sets, and a failed allocation",
                "physical IDs (8-bit xAPIC, 32-bit x2APIC) and logical ones (flat, cluster, x2APIC)",
                "every delivery mode, shorthand and broadcast; lowest priority by priority and by hashing",
                "kvm_intr_is_single_vcpu, kvm_bitmap_or_dest_vcpus, kvm_pv_send_ipi",
            ),
            KERNELS,
        ),
    )
}
"""Every model, by name."""


def as_json() -> dict[str, Any]:
    """What ``avicheck models --json`` prints."""
    return {
        "models": [
            {
                "name": model.name,
                "summary": model.summary,
                "covers": list(model.covers),
                "kernels": {
                    name: sorted(fix.value for fix in kernel.fixes) for name, kernel in model.kernels.items()
                },
            }
            for model in MODELS.values()
        ]
    }


def as_text() -> str:
    """What ``avicheck models`` prints: a kernel shows the fixes that the one before it lacks."""
    lines = []
    for model in MODELS.values():
        lines += [model.name, f"  {model.summary}", "  covers:"]
        lines += [f"    - {item}" for item in model.covers]
        lines += ["  kernels:"]
        before: Kernel | None = None
        for name, kernel in model.kernels.items():
            known = before.fixes if before else frozenset()
            fixes = [f"      + {fix.value}" for fix in Fix if fix in kernel.fixes - known]
            lines += [f"    {name}" + ("" if fixes else _unchanged(before)), *fixes]
            before = kernel
    return "\n".join(lines)


def _unchanged(before: Kernel | None) -> str:
    return f" (as {before.name})" if before else ""


@click.command()
@json_option
def models(json_: bool) -> None:
    """List the models and the kernels they describe.

    A kernel's behaviour is the oldest one's plus the fixes listed with it and with those before it, each
    by its upstream title.

    Example: avicheck models
    """
    click.echo(json.dumps(as_json(), indent=2) if json_ else as_text())
