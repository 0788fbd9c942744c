"""Conformance: the sample of real kernels' results agrees, and every planted fault is found where it is."""

from __future__ import annotations

import copy
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from avicheck.checker import conform as subject
from avicheck.checker.cli import main
from avicheck.checker.conform import differences
from avicheck.checker.vectors import read_lines
from avicheck.spec import apic_map, apic_route
from avicheck.spec.apic import DeliveryMode
from avicheck.spec.lang import update

VECTORS = Path(__file__).parent / "data/vectors"
SAMPLES = sorted(VECTORS.glob("*.sample.jsonl.gz"))
RECORDED = [
    json.loads(raw)
    for raw in gzip.decompress((VECTORS / "kvm-6.19.sample.jsonl.gz").read_bytes()).splitlines()
]
LINE = next(
    line for line in RECORDED if len(line["queries"]) > 2 and line["pv_ipi"] and line["map"]["phys_map"]
)


def run(*args: str) -> Result:
    """``avicheck conform`` on one process."""
    return CliRunner().invoke(main, ["conform", "--jobs", "1", *args])


def changed(change: Callable[[Any], None]) -> bytes:
    """A recorded line with a change."""
    line = copy.deepcopy(LINE)
    change(line)
    return json.dumps(line).encode() + b"\n"


def message_only(value: object) -> str | None:
    """The id of a test whose other parameter is a file's contents."""
    return "" if isinstance(value, bytes) else None


@pytest.fixture
def file(tmp_path: Path) -> Callable[[bytes], str]:
    """Write a file and tell its path."""

    def write(data: bytes) -> str:
        path = tmp_path / "v.jsonl"
        path.write_bytes(data)
        return str(path)

    return write


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_sample_of_a_real_kernel_agrees(path: Path) -> None:
    result = run(str(path))
    lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    queries = sum(len(line["queries"]) for line in lines)
    pv_ipis = sum(len(line["pv_ipi"]) for line in lines)
    assert (result.exit_code, result.stdout) == (
        0,
        f"{path}: kernel {lines[0]['kernel']}: {len(lines)} lines, {queries} queries, "
        f"{pv_ipis} PV IPIs: all agree\n",
    )


def test_processes_find_what_one_finds(file: Callable[[bytes], str]) -> None:
    lines = [changed(_set("inhibits", value=[str(n)])) for n in range(subject.CHUNK * 3 + 1)]
    path = file(b"".join(lines))
    several = CliRunner().invoke(main, ["conform", "--jobs", "2", "--max-mismatches", "999", path])
    assert several.stdout == run("--max-mismatches", "999", path).stdout


def _set(*path: str | int, value: Any) -> Callable[[Any], None]:
    """The change of one field."""

    def change(line: Any) -> None:
        for step in path[:-1]:
            line = line[step]
        line[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_set("map", "max_apic_id", value=9999), "map.max_apic_id: expected 9999, got "),
        (_set("map", "logical_mode", value="X"), 'map.logical_mode: expected "X", got "KVM_APIC_MODE_'),
        (_set("map", "null", value=True), "map.null: expected true, got false"),
        (_set("map", "phys_map", "77", value=0), "map.phys_map.77: expected 0, got absent"),
        (_set("map", "flat", value=[0] * 8), "map.flat: expected [0, 0, 0, 0, 0, 0, 0, 0], got ["),
        (_set("map", "cluster", "9.3", value=1), "map.cluster.9.3: expected 1, got absent"),
        (_set("inhibits", value=["X"]), 'inhibits: expected ["X"], got ['),
        (_set("queries", 1, "fast", "handled", value=None), "must be true or false, not null"),
        (_set("queries", 1, "fast", "r", value=99), "queries[1].fast.r: expected 99, got "),
        (
            _set("queries", 1, "fast", "recipients", value=[99]),
            "queries[1].fast.recipients: expected [99], got [",
        ),
        (
            _set("queries", 1, "fast", "accepted", value=[99]),
            "queries[1].fast.accepted: expected [99], got [",
        ),
        (_set("queries", 1, "delivery", "r", value=99), "queries[1].delivery.r: expected 99, got "),
        (
            _set("queries", 1, "delivery", "recipients", value=[99]),
            "queries[1].delivery.recipients: expected [99]",
        ),
        (
            _set("queries", 1, "delivery", "accepted", value=[99]),
            "queries[1].delivery.accepted: expected [99]",
        ),
        (_set("queries", 1, "slow", "r", value=99), "queries[1].slow.r: expected 99, got "),
        (_set("queries", 1, "slow", "recipients", value=[99]), "queries[1].slow.recipients: expected [99]"),
        (_set("queries", 1, "slow", "accepted", value=[99]), "queries[1].slow.accepted: expected [99]"),
        (
            _set("queries", 1, "slow", "mode_used", value="smi"),
            'queries[1].slow.mode_used: expected "smi", got absent',
        ),
        (_set("queries", 1, "match_dest", value=[]), "queries[1].match_dest: expected [], got ["),
        (_set("queries", 1, "single_vcpu", value=99), "queries[1].single_vcpu: expected 99, got "),
        (_set("queries", 1, "dest_bitmap", value=[99]), "queries[1].dest_bitmap: expected [99], got ["),
        (_set("queries", 1, "warn", value=True), "queries[1].warn: expected true, got absent"),
        (_set("pv_ipi", 0, "r", value=99), "pv_ipi[0].r: expected 99, got "),
        (_set("pv_ipi", 0, "recipients", value=[99]), "pv_ipi[0].recipients: expected [99], got ["),
        (_set("pv_ipi", 0, "accepted", value=[99]), "pv_ipi[0].accepted: expected [99], got ["),
        (_set("warn", value=True), "warn: expected true, got absent"),
    ],
)
def test_planted_fault_is_found_where_it_is(
    file: Callable[[bytes], str], change: Callable[[Any], None], where: str
) -> None:
    path = file(json.dumps(LINE).encode() + b"\n" + changed(change))
    result = run(path)
    found = (result.stdout or result.stderr).splitlines()
    assert where in found[0]
    assert f"{path}:2: " in found[0]
    assert result.exit_code == (3 if "must be" in where else 1)


def test_one_planted_fault_is_one_mismatch(file: Callable[[bytes], str]) -> None:
    result = run("--json", file(changed(_set("queries", 1, "slow", "r", value=99))))
    report = json.loads(result.stdout)
    assert (report["verdict"], report["files"][0]["found"]) == ("violated", 1)
    assert [(found["line"], found["path"], found["expected"]) for found in report["mismatches"]] == [
        (1, "queries[1].slow.r", 99)
    ]


def test_only_so_many_mismatches_are_printed_and_all_are_counted(file: Callable[[bytes], str]) -> None:
    path = file(changed(_set("inhibits", value=["X"])) * 5)
    printed = run("--max-mismatches", "2", path).stdout.splitlines()
    assert [line.partition(": ")[0] for line in printed[:2]] == [f"{path}:1", f"{path}:2"]
    assert printed[2].endswith("5 mismatches")


@pytest.mark.parametrize(
    ("module", "name", "mutant", "where"),
    [
        (apic_route, "kvm_apic_mda", lambda kvm, vcpu, dest_id, src: dest_id, r"match_dest"),
        (apic_map, "xapic_id_mismatch", lambda vcpu: False, r"inhibits"),
        (apic_map, "max_apic_id", lambda kvm: 4095, r"map\.max_apic_id"),
        (apic_route, "is_candidate", apic_route.is_recipient, r"\.slow\."),
        (apic_route, "pv_irq", lambda icr: _nmi(icr), r"pv_ipi\[\d+\]\.accepted"),
    ],
)
def test_mutated_specification_is_caught(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, mutant: Callable[..., Any], where: str
) -> None:
    monkeypatch.setattr(module, name, mutant)
    result = run("--max-mismatches", "99999", str(VECTORS / "kvm-6.19.sample.jsonl.gz"))
    assert result.exit_code == 1
    assert re.search(where, result.stdout)


def _nmi(icr: int, original: Callable[[int], Any] = apic_route.pv_irq) -> Any:
    return update(original(icr), delivery_mode=DeliveryMode.NMI)


def test_sample_of_the_first_kernel_has_joined_mode_names() -> None:
    path = VECTORS / "kvm-6.1.sample.jsonl.gz"
    names = {json.loads(raw)["map"]["logical_mode"] for _, raw in read_lines(str(path))}
    assert "NONE" in names
    assert any("|" in name for name in names)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", ": File must be JSON Lines of recordings, not empty"),
        (b"\n", ":1: Content must be JSON, not Expecting value (line 2, column 1)"),
        (
            changed(_set("kernel", value="6.13")),
            ':1: kernel must be one of 6.1, posted-2022-08, 6.12, 6.16, 6.19, not "6.13"; did you mean 6.12?',
        ),
        (changed(lambda line: line.pop("map")), ":1: map must be given, not left out"),
        (
            changed(lambda line: line["config"]["vcpus"][0].pop("ldr")),
            ":1: config.vcpus[0].ldr must be given, not left out",
        ),
        (
            changed(lambda line: line["config"].pop("vector_hashing")),
            ":1: config.vector_hashing must be given, not left out",
        ),
        (
            changed(_set("queries", 0, "slow", "zz", value=1)),
            ':1: queries[0].slow: Field must be one of r, recipients, accepted, mode_used, not "zz"',
        ),
        (
            changed(_set("map", "phys_map", "0", value="x")),
            ":1: map.phys_map[...] must be an integer, not a string",
        ),
        (
            changed(_set("pv_ipi", 0, "low", value=-1)),
            ":1: pv_ipi[0].low must be an integer from 0 to 18446744073709551615, not -1",
        ),
        (
            json.dumps(LINE).encode() + b"\n[1,",
            ":2: Content must be JSON, not Expecting value (line 1, column 4)",
        ),
        (b"\xff\xfe", ":1: Content must be JSON in UTF-8, not byte 0xff at offset 0"),
        (
            gzip.compress(changed(lambda line: None) * 9)[:-20],
            ":9: File must be complete gzip, not cut off before its end",
        ),
        (gzip.compress(b"")[:6], ": File must be complete gzip, not cut off before its end"),
        (b"\x1f\x8bnonsense", ": File must be valid gzip, not damaged (Unknown compression method)"),
    ],
    ids=message_only,
)
def test_unusable_file_is_one_line(file: Callable[[bytes], str], data: bytes, message: str) -> None:
    path = file(data)
    result = run(path)
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {path}{message}\n")


def test_mismatches_before_the_unusable_line_are_printed(file: Callable[[bytes], str]) -> None:
    path = file(changed(_set("inhibits", value=["X"])) * subject.CHUNK + b"{")
    assert run(path).stdout.startswith(f"{path}:1: inhibits: expected")


def test_lists_of_objects_that_differ_in_length_differ_as_a_whole() -> None:
    assert list(differences({"a": [{"b": 1}]}, {"a": []})) == [("a", [{"b": 1}], [])]


def test_equal_values_do_not_differ() -> None:
    assert list(differences(LINE, copy.deepcopy(LINE))) == []


def test_unusable_line_found_by_another_process_is_one_line(file: Callable[[bytes], str]) -> None:
    path = file(changed(_set("kernel", value="6.12")) * subject.CHUNK + b"{}\n")
    result = CliRunner().invoke(main, ["conform", "--jobs", "2", path])
    place = f"{path}:{subject.CHUNK + 1}"
    assert (result.exit_code, result.stderr) == (
        3,
        f"avicheck: {place}: kernel must be given, not left out\n",
    )
