"""Configurations: read, completed by defaults, refused with the place, written back."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avicheck.checker.config import (
    from_kvm,
    from_request,
    kernel_named,
    load,
    loads,
    to_kvm,
    to_request,
)
from avicheck.checker.errors import InputError
from avicheck.spec.apic import ApicMode, Vcpu, config_ok
from avicheck.spec.kernels import KERNELS

SAMPLE = Path(__file__).parent / "data/vectors/kvm-6.12.sample.jsonl.gz"
K = KERNELS["6.12"]
RECORDED = gzip.decompress(SAMPLE.read_bytes()).splitlines()


def vm(*vcpus: dict[str, Any], **switches: Any) -> bytes:
    """A configuration as JSON."""
    return json.dumps({"vcpus": vcpus, **switches}).encode()


def message_only(value: object) -> str | None:
    """The id of a test whose other parameter is a file's contents."""
    return "" if isinstance(value, bytes) else None


def refusal(data: bytes) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(InputError) as caught:
        loads(data, "vm.json")
    return str(caught.value)


def test_what_is_left_out_has_its_default() -> None:
    kvm = to_kvm(loads(vm({"vcpu_id": 0x123}), "").config, K)
    assert kvm.vcpus == (Vcpu(0x123, ApicMode.XAPIC, 0x23, 0, 0xFFFF_FFFF, True, 0),)
    switches = (kvm.x2apic_format, kvm.x2apic_broadcast_quirk_disabled, kvm.vector_hashing)
    assert switches == (False, False, True)


def test_x2apic_ldr_follows_from_the_id() -> None:
    kvm = to_kvm(loads(vm({"vcpu_id": 0x23, "mode": "x2apic"}), "").config, K)
    assert (kvm.vcpus[0].ldr, kvm.vcpus[0].xapic_id) == (0x2_0008, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (vm(), "vcpus must be a list of at least one vCPU, not []"),
        (b"[]", "Content must be an object, not []"),
        (b'{"x2apic_format": true}', "vcpus must be given, not left out"),
        (vm({}), "vcpus[0].vcpu_id must be given, not left out"),
        (
            vm({"vcpu_id": 5}, {"vcpu_id": 1}, {"vcpu_id": 5}),
            "vcpus[2].vcpu_id must be unique, not 5 (also vcpus[0])",
        ),
        (vm({"vcpu_id": 4096}), "vcpus[0].vcpu_id must be an integer from 0 to 4095, not 4096"),
        (vm({"vcpu_id": -1}), "vcpus[0].vcpu_id must be an integer from 0 to 4095, not -1"),
        (vm({"vcpu_id": "5"}), 'vcpus[0].vcpu_id must be an integer, not "5"'),
        (vm({"vcpu_id": 1.0}), "vcpus[0].vcpu_id must be an integer, not 1.0"),
        (vm({"vcpu_id": True}), "vcpus[0].vcpu_id must be an integer, not true"),
        (vm({"vcpu_id": None}), "vcpus[0].vcpu_id must be an integer, not null"),
        (vm({"vcpu_id": 0, "sw_enabled": 1}), "vcpus[0].sw_enabled must be true or false, not 1"),
        (
            vm({"vcpu_id": 0, "xapic_id": "a"}),
            'vcpus[0].xapic_id must be an integer or null, not "a"',
        ),
        (vm({"vcpu_id": 0, "xapic_id": 256}), "vcpus[0].xapic_id must be an integer from 0 to 255, not 256"),
        (
            vm({"vcpu_id": 0, "xapic_id": None}),
            "vcpus[0].xapic_id must be an integer from 0 to 255, not null",
        ),
        (
            vm({"vcpu_id": 0}, {"vcpu_id": 1, "mode": "x2apic", "xapic_id": 7}),
            "vcpus[1].xapic_id must be null in x2apic mode, not 7",
        ),
        (
            vm({"vcpu_id": 3, "mode": "x2apic", "ldr": 4}),
            "vcpus[0].ldr must be 8 in x2apic mode (it follows from vcpu_id), or left out, not 4",
        ),
        (
            vm({"vcpu_id": 3, "mode": "x2apc"}),
            'vcpus[0].mode must be one of disabled, xapic, x2apic, not "x2apc"; did you mean x2apic?',
        ),
        (
            vm({"vcpu_id": 3}, x2apic_fromat=True),
            "Field must be one of vcpus, x2apic_format, x2apic_broadcast_quirk_disabled, vector_hashing, "
            'not "x2apic_fromat"; did you mean x2apic_format?',
        ),
        (
            vm({"vcpu_id": 3, "lrd": 1}),
            "vcpus[0]: Field must be one of vcpu_id, mode, xapic_id, ldr, dfr, sw_enabled, arb_prio, "
            'not "lrd"; did you mean ldr?',
        ),
        (b'{"vcpus": [\n  {"vcpu_id" 1}]}', "JSON, not Expecting ':' delimiter (line 2, column 14)"),
        (b"\x80\x00", "Content must be JSON in UTF-8, not byte 0x80 at offset 0"),
        (b"", "Content must be JSON, not Expecting value (line 1, column 1)"),
        (b'{"vcpus": [], "vcpus": []}', 'Field "vcpus" must be given once, not 2 times'),
        (b'{"vcpus": NaN}', "Number must be finite, not NaN"),
        (b"[" * 100_000, "Content must be JSON of reasonable size, not too deep a nesting"),
        (b"9" * 5_000, "Content must be JSON of reasonable size, not too long a number"),
        (vm({"vcpu_id": "5" * 500}), f'must be an integer, not "{"5" * 58}…'),
    ],
    ids=message_only,
)
def test_impossible_configuration_is_refused(data: bytes, message: str) -> None:
    assert re.fullmatch(f"vm.json: .*{re.escape(message)}", refusal(data))


@pytest.mark.parametrize(
    ("name", "suggested"),
    [("6.13", "6.12"), ("6.0", "6.1"), ("7.2", "6.19"), ("posted-2022", "posted-2022-08")],
)
def test_unknown_kernel_is_refused_with_the_nearest(name: str, suggested: str) -> None:
    with pytest.raises(InputError) as caught:
        kernel_named(name, "vm.json")
    known = ", ".join(KERNELS)
    assert str(caught.value) == (
        f'vm.json: kernel must be one of {known}, not "{name}"; did you mean {suggested}?'
    )


def test_line_of_a_recording_brings_its_kernel_and_queries() -> None:
    line = json.loads(RECORDED[0])
    file = loads(RECORDED[0], "line")
    assert file.kernel == KERNELS["6.12"]
    assert [query.dest_id for query in file.queries] == [query["dest_id"] for query in line["queries"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"src": 9}, "queries[0].src must be null or a vCPU's index from 0 to 0, not 9"),
        ({"shorthand": "self"}, "queries[0].src must be a vCPU's index with shorthand self, not null"),
        ({"vector": 256}, "queries[0].vector must be an integer from 0 to 255, not 256"),
    ],
)
def test_impossible_request_is_refused(change: dict[str, Any], message: str) -> None:
    request: dict[str, Any] = {
        "src": None,
        "shorthand": "none",
        "dest_mode": "physical",
        "dest_id": 0,
        "delivery_mode": "fixed",
        "vector": 48,
        "level": True,
        "trig_mode": "edge",
        "msi_redir_hint": False,
    }
    line = {"config": {"vcpus": [{"vcpu_id": 0}]}, "queries": [{**request, **change}]}
    assert refusal(json.dumps(line).encode()) == f"vm.json: {message}"


def test_every_recorded_configuration_survives_the_way_there_and_back() -> None:
    for raw in RECORDED:
        line = json.loads(raw)
        kvm = to_kvm(loads(raw, "").config, K)
        assert json.loads(msgspec.json.encode(from_kvm(kvm))) == line["config"]


def test_every_recorded_request_survives_the_way_there_and_back() -> None:
    for raw in RECORDED:
        file = loads(raw, "")
        kvm = to_kvm(file.config, K)
        for query in file.queries:
            assert msgspec.to_builtins(from_request(*to_request(query, kvm))) == msgspec.to_builtins(query)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
VCPU_FIELD = st.sampled_from(["vcpu_id", "mode", "xapic_id", "ldr", "dfr", "sw_enabled", "arb_prio"])
PLAUSIBLE = JSON | st.sampled_from(["xapic", "x2apic", "disabled", 0, 1, 8, 255, 4095, True, None])
VMS = st.fixed_dictionaries(
    {"vcpus": st.lists(st.dictionaries(VCPU_FIELD, PLAUSIBLE), max_size=3) | JSON},
    optional={"x2apic_format": PLAUSIBLE, "config": JSON},
)


def exists_or_is_refused(data: bytes) -> bool:
    """Whether reading a configuration has one of the two ends it may have."""
    try:
        return config_ok(to_kvm(loads(data, "vm.json").config, K))
    except InputError as error:
        return str(error).startswith("vm.json: ")


@given(VMS)
def test_configuration_exists_or_is_refused(value: Any) -> None:
    assert exists_or_is_refused(json.dumps(value).encode())


@given(st.binary(max_size=40))
def test_bytes_are_read_or_refused(data: bytes) -> None:
    assert exists_or_is_refused(data)


def test_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "vm.json.gz"
    path.write_bytes(gzip.compress(vm({"vcpu_id": 7})))
    assert load(str(path)).config.vcpus[0].vcpu_id == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(vm({"vcpu_id": 7}))[:-12], "File must be complete gzip, not cut off before its end"),
        (b"\x1f\x8bnonsense", "File must be valid gzip, not damaged (Unknown compression method)"),
        (gzip.compress(bytes(1 << 25)), "File must be at most 16777216 bytes long, not longer"),
    ],
    ids=message_only,
)
def test_damaged_file_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "vm.json"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        load(str(path))
    assert str(caught.value) == f"{path}: {message}"


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^.*: File must be readable, not a directory$"):
        load(str(tmp_path))
