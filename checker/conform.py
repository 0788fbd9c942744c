"""Do the specification and real kernels compute the same? ``avicheck conform``."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import click
import msgspec
from msgspec import UNSET

from avicheck.checker.config import kernel_named, read_record, to_kvm, to_request
from avicheck.checker.errors import InputError, shown
from avicheck.checker.explain import logical_mode_name
from avicheck.checker.options import Number, json_option
from avicheck.checker.processes import in_order
from avicheck.checker.vectors import (
    Answer,
    FastAnswer,
    Line,
    MapRecord,
    PvCall,
    Query,
    decode_line,
    read_lines,
)
from avicheck.checker.verdict import Verdict
from avicheck.spec import apic_map, apic_route
from avicheck.spec.apic import Irq, Kvm
from avicheck.spec.apic_map import Inhibit, Published
from avicheck.spec.apic_map_model import slow_delivery
from avicheck.spec.apic_route import Delivery, PvIpi
from avicheck.spec.lang import NULL

ABSENT: Final = "absent"
"""Shown for a field that only one side has."""

CHUNK: Final = 50
"""Lines that are checked in one go."""


@dataclass(frozen=True)
class Mismatch:
    """A field whose recorded value the specification does not compute."""

    file: str
    line: int
    path: str
    expected: Any
    got: Any

    def __str__(self) -> str:
        values = [value if value is ABSENT else shown(value) for value in (self.expected, self.got)]
        return f"{self.file}:{self.line}: {self.path}: expected {values[0]}, got {values[1]}"


@dataclass
class Tally:
    """What was compared, and where the two differ."""

    lines: int = 0
    queries: int = 0
    pv_ipis: int = 0
    kernels: set[str] = field(default_factory=set)
    mismatches: list[Mismatch] = field(default_factory=list)


def _mode_name(kvm: Kvm, mode: int) -> str:
    """A logical mode as the recordings write it."""
    name = logical_mode_name(kvm, mode)
    return name if name == "NONE" else "|".join(f"KVM_APIC_MODE_{part}" for part in name.split("|"))


def recompute(line: Line, place: str) -> Line:
    """The line as the specification computes it from the line's configuration and requests."""
    kvm = to_kvm(line.config, kernel_named(line.kernel, place), place, "config.")
    published = apic_map.kvm_recalculate_apic_map(kvm, False)
    return Line(
        line.kernel,
        line.config,
        _map_record(kvm, published),
        tuple(sorted(reason.value for reason in inhibits(published))),
        tuple(
            _query(kvm, published, query, place, f"queries[{index}].")
            for index, query in enumerate(line.queries)
        ),
        tuple(
            _pv_call(kvm, published, call, place, f"pv_ipi[{index}].")
            for index, call in enumerate(line.pv_ipi)
        ),
    )


def inhibits(published: Published) -> list[Inhibit]:
    """The inhibit reasons that a recalculation leaves set."""
    reasons = {
        Inhibit.PHYSICAL_ID_ALIASED: published.physical_id_aliased,
        Inhibit.LOGICAL_ID_ALIASED: published.logical_id_aliased,
        Inhibit.APIC_ID_MODIFIED: published.apic_id_modified,
    }
    return [reason for reason, is_set in reasons.items() if is_set]


def _map_record(kvm: Kvm, published: Published) -> MapRecord:
    flat: list[int | None] = [None] * 8
    cluster: dict[str, int] = {}
    if not published.present:
        return MapRecord(True, None, None, {}, tuple(flat), cluster)
    built = published.map
    if built.logical_mode == apic_map.XAPIC_FLAT:
        flat = [None if (index := built.logical[bit]) == NULL else index for bit in range(8)]
    if built.logical_mode == apic_map.XAPIC_CLUSTER:
        cluster = {f"{slot // 4}.{slot % 4}": index for slot, index in built.logical.items().items()}
    return MapRecord(
        False,
        built.max_apic_id,
        _mode_name(kvm, built.logical_mode),
        {str(apic_id): index for apic_id, index in built.phys.items().items()},
        tuple(flat),
        cluster,
    )


def _query(kvm: Kvm, published: Published, query: Query, place: str, prefix: str) -> Query:
    src, irq = to_request(query, kvm, place, prefix)
    fast = apic_route.kvm_irq_delivery_to_apic_fast(kvm, published, src, irq)
    single = apic_route.kvm_intr_is_single_vcpu(kvm, published, irq)
    everyone = range(len(kvm.vcpus))
    bitmap = apic_route.kvm_bitmap_or_dest_vcpus(kvm, published, irq)
    return msgspec.structs.replace(
        query,
        fast=FastAnswer(fast.handled, fast.r, *_calls(fast)),
        delivery=_answer(apic_route.kvm_irq_delivery_to_apic(kvm, published, src, irq), irq),
        slow=_answer(slow_delivery(kvm, published, src, irq), irq),
        match_dest=tuple(apic_route.kvm_apic_match_dest(kvm, index, src, irq) for index in everyone),
        single_vcpu=None if single == NULL else single,
        dest_bitmap=tuple(index for index in everyone if (bitmap >> index) & 1),
        warn=UNSET,
    )


def _calls(delivery: Delivery) -> tuple[tuple[int, ...], tuple[int, ...]]:
    calls = delivery.calls.items()
    return tuple(call.vcpu for call in calls), tuple(call.vcpu for call in calls if call.accepted)


def _answer(delivery: Delivery, irq: Irq) -> Answer:
    modes = {call.mode for call in delivery.calls.items()} - {irq.delivery_mode}
    return Answer(delivery.r, *_calls(delivery), modes.pop().value if modes else UNSET)


def _pv_call(kvm: Kvm, published: Published, call: PvCall, place: str, prefix: str) -> PvCall:
    args = read_record(PvIpi, msgspec.structs.asdict(call), place, prefix)
    sent = apic_route.kvm_pv_send_ipi(kvm, published, args)
    return msgspec.structs.replace(
        call, r=sent.r, **dict(zip(("recipients", "accepted"), _calls(sent), strict=True))
    )


Difference: TypeAlias = tuple[str, Any, Any]


def differences(expected: Any, got: Any, path: str = "") -> Iterator[Difference]:
    """Where two JSON values differ: the path with both values there, lists of scalars as a whole."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for name in [*expected, *(name for name in got if name not in expected)]:
            inside = f"{path}.{name}" if path else name
            yield from differences(expected.get(name, ABSENT), got.get(name, ABSENT), inside)
    elif _is_list_of_objects(expected) and _is_list_of_objects(got) and len(expected) == len(got):
        for index, pair in enumerate(zip(expected, got, strict=True)):
            yield from differences(*pair, f"{path}[{index}]")
    elif expected != got:
        yield path, expected, got


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


Chunk: TypeAlias = list[tuple[int, bytes]]


def check_lines(file: str, chunk: Chunk) -> Tally:
    """Compare some lines of a file; ``InputError`` at the first that is not a recording."""
    tally = Tally()
    for number, raw in chunk:
        place = f"{file}:{number}"
        line = decode_line(raw, place)
        computed = recompute(line, place)
        tally.lines += 1
        tally.queries += len(line.queries)
        tally.pv_ipis += len(line.pv_ipi)
        tally.kernels.add(line.kernel)
        if computed != line:
            both = (msgspec.json.decode(msgspec.json.encode(side)) for side in (line, computed))
            tally.mismatches += [Mismatch(file, number, *found) for found in differences(*both)]
    return tally


def check_file(file: str, jobs: int) -> Iterator[Tally]:
    """Compare a file, in its order, a chunk at a time, on ``jobs`` processes."""
    lines = read_lines(file)
    chunks = iter(lambda: list(itertools.islice(lines, CHUNK)), [])
    return in_order(partial(check_lines, file), chunks, jobs)


@dataclass
class Report:
    """What was compared in a whole file."""

    file: str
    lines: int = 0
    queries: int = 0
    pv_ipis: int = 0
    kernels: set[str] = field(default_factory=set)
    found: int = 0

    def add(self, tally: Tally) -> None:
        """Count in some more lines."""
        self.lines += tally.lines
        self.queries += tally.queries
        self.pv_ipis += tally.pv_ipis
        self.kernels |= tally.kernels
        self.found += len(tally.mismatches)

    def __str__(self) -> str:
        found = f"{self.found:,} mismatch{'es' * (self.found > 1)}" if self.found else "all agree"
        return (
            f"{self.file}: kernel {', '.join(sorted(self.kernels))}: {self.lines:,} lines, "
            f"{self.queries:,} queries, {self.pv_ipis:,} PV IPIs: {found}"
        )


@contextmanager
def _progress(file: str) -> Iterator[Callable[[Report], None]]:
    """A function that shows how far the comparison is, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda report: None
        return
    from rich.console import Console

    with Console(stderr=True).status(file) as status:
        yield lambda report: status.update(f"{file}: {report.lines:,} lines, {report.found:,} mismatches")


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1)
@click.option(
    "--max-mismatches",
    metavar="N",
    type=Number(0, 1 << 30),
    default=10,
    help="Print N, count all.  [default: 10]",
)
@click.option(
    "--jobs",
    metavar="N",
    type=Number(1, 1024),
    default=os.cpu_count() or 1,
    help="Processes.  [default: one per CPU]",
)
@json_option
def conform(files: tuple[str, ...], max_mismatches: int, jobs: int, json_: bool) -> int:
    """Compare the models with real kernels.

    Each FILE is a recording, JSON Lines (gzip or not): configurations with the map, the inhibits and the
    answers to queries that a kernel's own functions computed. Every field of every line is computed anew
    by the specification of that kernel; a mismatch is printed as FILE:LINE: FIELD: expected (recorded),
    got.

    Exit code 0 if all agree, 1 if there is a mismatch, 3 if a file is not what it should be.

    Example: avicheck conform kvm-6.1.jsonl.gz kvm-6.12.jsonl.gz
    """
    if not files:
        raise InputError("FILE", "given at least once", "left out")
    reports: list[Report] = []
    printed: list[Mismatch] = []
    for file in files:
        report = Report(file)
        with _progress(file) as show:
            for tally in check_file(file, jobs):
                report.add(tally)
                show(report)
                more = tally.mismatches[: max_mismatches - len(printed)]
                printed += more
                for mismatch in more if not json_ else []:
                    click.echo(mismatch)
        if not report.lines:
            raise InputError("File", "JSON Lines of recordings", "empty", file)
        reports.append(report)
        if not json_:
            click.echo(report)
    verdict = Verdict.VIOLATED if any(report.found for report in reports) else Verdict.HOLDS
    if json_:
        files_json = [{**asdict(report), "kernels": sorted(report.kernels)} for report in reports]
        mismatches = [asdict(mismatch) for mismatch in printed]
        answer = {"verdict": verdict.value, "files": files_json, "mismatches": mismatches}
        click.echo(json.dumps(answer, indent=2))
    return verdict.exit_code
