"""Where does an interrupt go, and is that what the architecture says? ``avicheck route``."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import click

from avicheck.checker.errors import InputError
from avicheck.checker.options import KernelName, Number, Word, json_option
from avicheck.checker.verdict import Verdict
from avicheck.spec.apic import (
    DeliveryMode,
    DestMode,
    Irq,
    Kvm,
    Shorthand,
    TrigMode,
    is_ipi_caller,
    is_msi_caller,
)
from avicheck.spec.apic_map import Published, kvm_recalculate_apic_map
from avicheck.spec.apic_map_model import answer, slow_delivery
from avicheck.spec.apic_route import Delivery, kvm_irq_delivery_to_apic, kvm_irq_delivery_to_apic_fast
from avicheck.spec.kernels import KERNELS
from avicheck.spec.lang import NULL

if TYPE_CHECKING:
    from avicheck.checker.config import ConfigFile, Request

WIDTH: Final = 100
"""Columns of the report, at most."""


DEFAULT_REQUEST: Final = Irq(
    Shorthand.NONE, DestMode.PHYSICAL, 0, DeliveryMode.FIXED, 0x30, True, TrigMode.EDGE, False
)


@dataclass(frozen=True)
class Routing:
    """One request on one kernel: what the map does with it, what the loop would, what KVM does."""

    kvm: Kvm
    published: Published
    src: int
    irq: Irq
    fast: Delivery
    slow: Delivery
    delivery: Delivery
    alloc_fails: bool = False

    def accepted(self, delivery: Delivery) -> int:
        """The vCPUs that accept, as a mask."""
        return answer(self.kvm, delivery).accepted

    @property
    def as_loop(self) -> bool:
        """Whether the same vCPUs accept as when every vCPU is matched, which is the architecture's rule."""
        return self.accepted(self.delivery) == self.accepted(self.slow)


def routing(kvm: Kvm, src: int, irq: Irq, alloc_fails: bool = False) -> Routing:
    """Build the map, then route along every path."""
    published = kvm_recalculate_apic_map(kvm, alloc_fails)
    return Routing(
        kvm,
        published,
        src,
        irq,
        kvm_irq_delivery_to_apic_fast(kvm, published, src, irq),
        slow_delivery(kvm, published, src, irq),
        kvm_irq_delivery_to_apic(kvm, published, src, irq),
        alloc_fails,
    )


def reasons(routed: Routing) -> list[str]:
    """The rules that decided, one sentence each."""
    from avicheck.checker import explain

    kvm, published, src, irq = routed.kvm, routed.published, routed.src, routed.irq
    lines = [
        f"Map: {explain.explain_map(kvm, published, routed.alloc_fails)}.",
        f"Through the map: {explain.explain_fast(kvm, published, src, irq)}.",
        f"By the loop: {explain.explain_loop(kvm, src, irq)}.",
    ]
    refused = [*explain.refusals(kvm, routed.delivery), *explain.refusals(kvm, routed.slow)]
    lines += [f"{reason}." for reason in dict.fromkeys(refused)]
    masks = routed.accepted(routed.delivery), routed.accepted(routed.slow)
    lines += [f"Difference: {reason}." for reason in explain.divergence(kvm, published, src, irq, *masks)]
    return lines


def callers(kvm: Kvm, src: int, irq: Irq) -> list[str]:
    """Who in KVM can make this request."""
    found = []
    if is_ipi_caller(kvm, src, irq):
        found.append(f"an IPI of vCPU {src}")
    if is_msi_caller(kvm, src, irq):
        found.append("an MSI or the IOAPIC")
    return found


def report(routed: list[Routing]) -> str:
    """The table of all kernels, then the rules, kernels with the same ones together."""
    first = routed[0]
    text = [*textwrap.wrap(request_text(first), WIDTH), callers_text(first), "", *_table(routed)]
    for lines, group in itertools.groupby(routed, reasons):
        text += ["", f"{', '.join(item.kvm.kernel.name for item in group)}:"]
        for line in lines:
            text += textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(text)


def request_text(routed: Routing) -> str:
    """The request, in words."""
    irq = routed.irq
    sender = "a device" if routed.src == NULL else f"vCPU {routed.src}"
    if irq.shorthand is Shorthand.NONE:
        dest = f"{irq.dest_mode.value} destination {irq.dest_id:#x}"
    else:
        dest = f"shorthand {irq.shorthand.value}"
    parts = [f"Request: {irq.delivery_mode.value}, vector {irq.vector:#x}, {dest}, from {sender}"]
    parts += [irq.trig_mode.value] + ["de-asserted"] * (not irq.level)
    return ", ".join(parts + ["redirection hint"] * irq.msi_redir_hint) + "."


def callers_text(routed: Routing) -> str:
    """Who in KVM can make the request, in words."""
    found = callers(routed.kvm, routed.src, routed.irq)
    return f"Made by: {' or '.join(found) or 'no caller in KVM'}."


def _table(routed: list[Routing]) -> Iterator[str]:
    rows = [_HEADER, *map(_row, routed)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(routed: Routing) -> tuple[str, ...]:
    from avicheck.checker.explain import logical_mode_name

    published = routed.published
    return (
        routed.kvm.kernel.name,
        logical_mode_name(routed.kvm, published.map.logical_mode).replace("XAPIC_", "")
        if published.present
        else "none",
        _acceptors(routed, routed.fast) if routed.fast.handled else "-",
        _acceptors(routed, routed.slow),
        _acceptors(routed, routed.delivery),
        "yes" if routed.as_loop else "NO",
    )


def _acceptors(routed: Routing, delivery: Delivery) -> str:
    from avicheck.checker.explain import vcpus

    mask = routed.accepted(delivery)
    text = vcpus(index for index in range(len(routed.kvm.vcpus)) if (mask >> index) & 1)
    return text if len(text) <= _CELL else f"{mask.bit_count()} vCPUs"


_HEADER: Final = ("kernel", "map", "through the map", "by the loop", "KVM delivers to", "as the loop?")
_CELL: Final = 14


def as_json(routed: list[Routing]) -> dict[str, Any]:
    """What ``avicheck route --json`` prints."""
    import msgspec

    from avicheck.checker.config import from_kvm, from_request

    first = routed[0]
    return {
        "config": msgspec.to_builtins(from_kvm(first.kvm)),
        "request": msgspec.to_builtins(from_request(first.src, first.irq)),
        "callers": callers(first.kvm, first.src, first.irq),
        "kernels": [_kernel_json(item) for item in routed],
    }


def _kernel_json(routed: Routing) -> dict[str, Any]:
    from avicheck.checker.explain import logical_mode_name

    published = routed.published
    return {
        "kernel": routed.kvm.kernel.name,
        "map": {
            "null": not published.present,
            "logical_mode": logical_mode_name(routed.kvm, published.map.logical_mode)
            if published.present
            else None,
        },
        "fast": {"handled": routed.fast.handled, **_delivery_json(routed.fast)},
        "slow": _delivery_json(routed.slow),
        "delivery": _delivery_json(routed.delivery),
        "as_loop": routed.as_loop,
        "reasons": reasons(routed),
    }


def _delivery_json(delivery: Delivery) -> dict[str, Any]:
    calls = delivery.calls.items()
    return {
        "r": delivery.r,
        "recipients": [call.vcpu for call in calls],
        "accepted": [call.vcpu for call in calls if call.accepted],
    }


class _Source(Number):
    """A vCPU's index, or ``device``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The index; ``NULL`` for a device."""
        return NULL if value == "device" else super().convert(value, param, ctx)


_U8: Final = Number(0, 0xFF)
_U32: Final = Number(0, 0xFFFF_FFFF)


def _words(cls: type[Enum]) -> Word:
    return Word(member.value for member in cls)


@click.command()
@click.argument("config")
@click.option(
    "--src", type=_Source(0, 4095), metavar="N|device", help="The sender, by index.  [default: device]"
)
@click.option("--dest", "dest_id", type=_U32, metavar="ID", help="Destination ID: 35, 0x23.")
@click.option("--dest-mode", type=_words(DestMode), help="[default: physical]")
@click.option("--delivery-mode", type=_words(DeliveryMode), help="[default: fixed]")
@click.option("--vector", type=_U8, metavar="V", help="[default: 0x30]")
@click.option("--shorthand", type=_words(Shorthand), help="[default: none]")
@click.option("--level/--deassert", default=None, help="Asserted or de-asserted.  [default: --level]")
@click.option("--trig-mode", type=_words(TrigMode), help="[default: edge]")
@click.option("--redir-hint", "msi_redir_hint", is_flag=True, default=None, help="The MSI redirection hint.")
@click.option(
    "--kernel", "kernels", type=KernelName(KERNELS), multiple=True, help="Only this one; may be repeated."
)
@click.option("--line", type=Number(1, 1 << 62), metavar="N", help="CONFIG is this line of a recording.")
@click.option("--query", type=Number(0, 1 << 62), metavar="N", help="Start from this query of the line.")
@json_option
def route(
    config: str, kernels: tuple[str, ...], line: int | None, query: int | None, json_: bool, **request: Any
) -> int:
    """Tell where one interrupt goes, on every kernel.

    CONFIG is a JSON file (-: standard input): {"vcpus": [{"vcpu_id": 0}, ...]}, per vCPU also mode
    (disabled, xapic, x2apic), xapic_id, ldr, dfr, sw_enabled, arb_prio; for the VM also x2apic_format,
    x2apic_broadcast_quirk_disabled, vector_hashing. A line of a recording will do as well, and its
    queries can be the request.

    For each kernel: who accepts the interrupt through the optimized map, who by the loop that matches
    every vCPU as the architecture demands, who in fact, and the rule that decided.

    Exit code 0 if KVM delivers to those whom the loop finds, 1 if on some kernel it does not.

    Example: avicheck route vm.json --dest 3 --dest-mode logical
    """
    file = _load(config, line)
    asked = _request(file, query, {name: value for name, value in request.items() if value is not None})
    routed = list(_routings(file, asked, kernels or tuple(KERNELS)))
    click.echo(json.dumps(as_json(routed), indent=2) if json_ else report(routed))
    return (Verdict.HOLDS if all(item.as_loop for item in routed) else Verdict.VIOLATED).exit_code


def _routings(file: ConfigFile, request: Request, kernels: tuple[str, ...]) -> Iterator[Routing]:
    from avicheck.checker.config import to_kvm, to_request

    for name in KERNELS:
        if name in kernels:
            kvm = to_kvm(file.config, KERNELS[name])
            yield routing(kvm, *to_request(request, kvm, prefix="--"))


def _load(path: str, line: int | None) -> ConfigFile:
    from avicheck.checker.config import load, loads
    from avicheck.checker.vectors import read_lines

    if line is None:
        return load(path)
    for number, raw in read_lines(path):
        if number == line:
            return loads(raw, f"{path}:{number}")
    raise InputError("--line", f"at most {number}, the last line's number", str(line), path)


def _request(file: ConfigFile, query: int | None, options: dict[str, Any]) -> Request:
    """The request that the options describe, over the query or the defaults they start from."""
    import msgspec

    from avicheck.checker.config import Request, from_request

    if query is None and len(file.queries) == 1 and not options:
        query = 0
    if query is not None:
        if query >= len(file.queries):
            raise InputError("--query", f"less than {len(file.queries)}, the number of queries", str(query))
        start = file.queries[query]
    else:
        if "dest_id" not in options and options.get("shorthand", "none") == "none":
            raise InputError("--dest", "given (or --shorthand, or --query of a recording)", "left out")
        start = from_request(NULL, DEFAULT_REQUEST)
    fields = {**msgspec.structs.asdict(start), **options}
    return Request(**{**fields, "src": None if fields["src"] == NULL else fields["src"]})
