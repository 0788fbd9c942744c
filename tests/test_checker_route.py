"""Routes: where one interrupt goes, the rule that decided, and whether the loop agrees."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from avicheck.checker.cli import main
from avicheck.checker.config import loads, to_kvm, to_request
from avicheck.checker.explain import explain_map, logical_mode_name, vcpus
from avicheck.checker.route import WIDTH, callers, reasons, report, routing
from avicheck.spec.apic import has_caller
from avicheck.spec.kernels import KERNELS

DATA = Path(__file__).parent / "data"
CONFIGS = DATA / "configs"
RECORDED = [
    raw
    for path in sorted((DATA / "vectors").glob("*.sample.jsonl.gz"))
    for raw in gzip.decompress(path.read_bytes()).splitlines()
]
ROUTES = {
    "aliased xAPIC ID": ("aliased.json", "--dest", "0x23"),
    "hotplugged by its x2APIC ID": ("aliased.json", "--dest", "0x123"),
    "alias without 32-bit IDs": ("aliased-8bit.json", "--dest", "0x23"),
    "above max_apic_id": ("aliased.json", "--dest", "0x10000"),
    "empty slot": ("aliased.json", "--dest", "0x77"),
    "aliased logical ID": ("flat-aliased.json", "--dest", "2", "--dest-mode", "logical"),
    "several logical bits": ("multi-bit.json", "--dest", "6", "--dest-mode", "logical"),
    "no logical IDs": ("aliased.json", "--dest", "1", "--dest-mode", "logical"),
    "cluster": ("cluster.json", "--dest", "0x13", "--dest-mode", "logical"),
    "lowest priority hashed onto an empty slot": (
        *("cluster.json", "--dest", "0x1f", "--dest-mode", "logical"),
        *("--delivery-mode", "lowest", "--vector", "0x32"),
    ),
    "lowest priority by arbitration": (
        *("priorities.json", "--dest", "7", "--dest-mode", "logical", "--delivery-mode", "lowest"),
    ),
    "x2APIC cluster": ("x2apic.json", "--src", "0", "--dest", "0x20003", "--dest-mode", "logical"),
    "mixed modes": ("mixed.json", "--dest", "3", "--dest-mode", "logical", "--delivery-mode", "lowest"),
    "broadcast by the quirk": ("mixed.json", "--dest", "0xff"),
    "broadcast of an x2APIC sender": ("x2apic.json", "--src", "0", "--dest", "0xffffffff"),
    "self": ("mixed.json", "--src", "2", "--shorthand", "self"),
    "all but self, an NMI": ("mixed.json", "--src", "0", "--shorthand", "allbut", "--delivery-mode", "nmi"),
    "de-asserted INIT": (
        *("mixed.json", "--src", "0", "--dest", "1", "--delivery-mode", "init", "--deassert"),
        *("--trig-mode", "level"),
    ),
    "no caller": ("mixed.json", "--dest", "0x123456"),
}


def run(config: str, *args: str, stdin: bytes | None = None) -> Result:
    """``avicheck route`` with one of the configurations."""
    path = config if config == "-" else str(CONFIGS / config)
    return CliRunner().invoke(main, ["route", path, *args], input=stdin)


@pytest.mark.parametrize("name", ROUTES)
def test_route_reads(name: str, snapshot: SnapshotAssertion) -> None:
    assert run(*ROUTES[name]).output == snapshot


@pytest.mark.parametrize("name", ROUTES)
def test_exit_code_tells_whether_the_loop_agrees(name: str) -> None:
    result = run(*ROUTES[name], "--json")
    kernels = json.loads(result.output)["kernels"]
    differs = [set(item["delivery"]["accepted"]) != set(item["slow"]["accepted"]) for item in kernels]
    assert [not item["as_loop"] for item in kernels] == differs
    assert result.exit_code == int(any(differs))


def test_some_routes_differ_and_some_do_not() -> None:
    assert {run(*args).exit_code for args in ROUTES.values()} == {0, 1}


@pytest.fixture(scope="module")
def every_recorded() -> list[tuple[Any, Any, dict[str, Any]]]:
    """Each recorded query: the routing, the file's line, the query."""
    found = []
    for raw in RECORDED:
        file, line = loads(raw, ""), json.loads(raw)
        assert file.kernel is not None
        kvm = to_kvm(file.config, file.kernel)
        for request, query in zip(file.queries, line["queries"], strict=True):
            found.append((routing(kvm, *to_request(request, kvm)), line, query))
    return found


def test_recorded_queries_go_where_the_kernel_sent_them(every_recorded: list[Any]) -> None:
    for routed, _, query in every_recorded:
        for name in ("fast", "slow", "delivery"):
            calls = getattr(routed, name).calls.items()
            assert [call.vcpu for call in calls if call.accepted] == query[name]["accepted"]


def test_every_difference_is_explained_for_the_vcpus_it_is_about(every_recorded: list[Any]) -> None:
    for routed, _, query in every_recorded:
        told = [line for line in reasons(routed) if line.startswith("Difference: ")]
        differing = set(query["delivery"]["accepted"]) ^ set(query["slow"]["accepted"])
        assert len(told) == len(differing)
        assert all(any(f"serves vCPU {index}" in line for line in told) for index in differing)


def test_left_to_the_loop_is_said_exactly_when_the_kernel_did(every_recorded: list[Any]) -> None:
    for routed, _, query in every_recorded:
        assert ("Through the map: left to the loop" in reasons(routed)[1]) != query["fast"]["handled"]


def test_missing_and_disabled_maps_are_explained_exactly_where_they_are(every_recorded: list[Any]) -> None:
    for routed, line, _ in every_recorded:
        text = explain_map(routed.kvm, routed.published)
        assert text.startswith("none: ") == line["map"]["null"]
        assert ("MAP_DISABLED: " in text) == (line["map"]["logical_mode"] == "KVM_APIC_MODE_MAP_DISABLED")


def test_no_caller_is_said_exactly_when_there_is_none(every_recorded: list[Any]) -> None:
    for routed, _, _ in every_recorded:
        asked = routed.kvm, routed.src, routed.irq
        assert bool(callers(*asked)) == has_caller(*asked)


def test_report_fits_its_width(every_recorded: list[Any]) -> None:
    assert max(len(row) for item in every_recorded for row in report([item[0]]).splitlines()) <= WIDTH


def test_kernels_can_be_picked() -> None:
    kernels = json.loads(run(*ROUTES["self"], "--json", "--kernel", "6.12", "--kernel", "6.1").output)[
        "kernels"
    ]
    assert [item["kernel"] for item in kernels] == ["6.1", "6.12"]


def test_json_answer_is_a_configuration_to_route() -> None:
    answer = json.loads(run(*ROUTES["cluster"], "--json").output)
    again = {"config": answer["config"], "queries": [answer["request"]]}
    assert json.loads(run("-", "--json", stdin=json.dumps(again).encode()).output) == answer


def test_query_of_a_recording_is_the_request() -> None:
    path = DATA / "vectors/kvm-6.19.sample.jsonl.gz"
    query = json.loads(gzip.decompress(path.read_bytes()).splitlines()[2])["queries"][1]
    result = CliRunner().invoke(main, ["route", str(path), "--line", "3", "--query", "1", "--json"])
    request = json.loads(result.output)["request"]
    assert request == {name: query[name] for name in request}


def test_option_overrides_the_query() -> None:
    path = DATA / "vectors/kvm-6.19.sample.jsonl.gz"
    args = ["route", str(path), "--line", "3", "--query", "1", "--vector", "0x99", "--json"]
    assert json.loads(CliRunner().invoke(main, args).output)["request"]["vector"] == 0x99


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "--dest must be given (or --shorthand, or --query of a recording), not left out"),
        (("--dest", "x"), '--dest must be an integer from 0 to 4294967295, not "x"'),
        (("--dest", "-1"), '--dest must be an integer from 0 to 4294967295, not "-1"'),
        (("--dest", "0x100000000"), '--dest must be an integer from 0 to 4294967295, not "0x100000000"'),
        (("--dest", "1", "--vector", "256"), '--vector must be an integer from 0 to 255, not "256"'),
        (("--dest", "1", "--src", "4"), "--src must be null or a vCPU's index from 0 to 3, not 4"),
        (("--shorthand", "self"), "--src must be a vCPU's index with shorthand self, not null"),
        (
            ("--dest", "1", "--delivery-mode", "lowst"),
            "--delivery-mode must be one of fixed, lowest, smi, remrd, nmi, init, sipi, extint, "
            'not "lowst"; did you mean lowest?',
        ),
        (
            ("--dest", "1", "--kernel", "6.13"),
            f'--kernel must be one of {", ".join(KERNELS)}, not "6.13"; did you mean 6.12?',
        ),
        (("--query", "0"), "--query must be less than 0, the number of queries, not 0"),
    ],
)
def test_unusable_request_is_one_line(args: tuple[str, ...], message: str) -> None:
    result = run("mixed.json", *args)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"avicheck: {message}\n")


def test_line_that_a_recording_lacks_is_refused() -> None:
    path = DATA / "vectors/kvm-6.19.sample.jsonl.gz"
    result = CliRunner().invoke(main, ["route", str(path), "--line", "61"])
    message = "--line must be at most 60, the last line's number, not 61"
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {path}: {message}\n")


@pytest.mark.parametrize(
    ("indices", "text"),
    [([], "nobody"), ([3], "vCPU 3"), ([0, 1, 2, 5, 7, 8], "vCPUs 0-2, 5, 7-8")],
)
def test_lists_of_vcpus_are_short(indices: list[int], text: str) -> None:
    assert vcpus(indices) == text


def test_modes_of_the_first_kernel_are_joined() -> None:
    kvm = to_kvm(loads(b'{"vcpus": [{"vcpu_id": 0}]}', "").config, KERNELS["6.1"])
    assert logical_mode_name(kvm, 4 | 16) == "XAPIC_CLUSTER|X2APIC"
