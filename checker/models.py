"""The models and what they cover: ``avicheck models``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import click

from avicheck.checker.options import json_option
from avicheck.checker.systems import description, registered
from avicheck.spec.description import Description, option_name
from avicheck.spec.description import names as option_names
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
        ],
        "concurrent": [_concurrent_json(description(name)) for name in registered()],
    }


def _concurrent_json(described: Description) -> dict[str, Any]:
    return {
        "name": described.model.name,
        "summary": described.summary,
        "covers": list(described.covers),
        "scope": {name: asdict(size) for name, size in described.scope.items()},
        "kernels": {name: option_names(options) for name, options in described.kernels.items()},
        "kernel": described.kernel,
        "switches": {name: option.value for name, option in described.switchable.items()},
        "assumptions": {
            each.name: {
                "question": each.question,
                "source": each.source,
                "alternatives": {option_name(member): member.value for member in each.alternatives},
            }
            for each in described.assumptions
        },
        "properties": {
            asked.name: {"kind": asked.kind, "sentence": asked.sentence} for asked in described.model.asked
        },
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
    for name in registered():
        described = description(name)
        lines += ["", *_headline(described), f"  more: avicheck models {name}"]
    return "\n".join(lines)


def _headline(described: Description) -> list[str]:
    items = [f"    - {item}" for item in described.covers]
    return [f"{described.model.name} (concurrent)", f"  {described.summary}", "  covers:", *items]


def concurrent_text(described: Description) -> str:
    """All that can be asked of a concurrent model, and chosen about it."""
    lines = [*_headline(described), "  properties:"]
    lines += [f"    {asked.name} ({asked.kind}): {asked.sentence}" for asked in described.model.asked]
    lines += ["  sizes (--scope NAME=NUMBER):"]
    for name, size in described.scope.items():
        lines += [
            f"    {name}: {size.usual}"
            + (f" ({size.least} to {size.most})" if size.least < size.most else "")
        ]
    lines += [f"  kernels (--kernel, else {described.kernel}): {', '.join(described.kernels)}"]
    usual = described.kernels[described.kernel]
    lines += [f"  switches (--with, --without; + those that {described.kernel} has):"]
    for name, option in described.switchable.items():
        lines += [f"    {'+' if option in usual else '-'} {name}: {option.value}"]
    if described.assumptions:
        lines += ["  assumptions (--assume NAME=ALTERNATIVE; the first is the default):"]
    for each in described.assumptions:
        lines += [f"    {each.name}: {each.question}"]
        lines += [f"      {option_name(member)}: {member.value}" for member in each.alternatives]
    return "\n".join(lines)


def _unchanged(before: Kernel | None) -> str:
    return f" (as {before.name})" if before else ""


@click.command()
@click.argument("model", required=False)
@json_option
def models(model: str | None, json_: bool) -> None:
    """List the models and the kernels they describe.

    A kernel's behaviour is the oldest one's plus the fixes listed with it and with those before it, each
    by its upstream title. With the name of a concurrent model: its properties, and the sizes, switches and
    assumptions that can be chosen.

    Example: avicheck models apic-map-life
    """
    if json_:
        click.echo(json.dumps(as_json(), indent=2))
    elif model is None or model in MODELS:
        click.echo(as_text())
    else:
        click.echo(concurrent_text(description(model)))
