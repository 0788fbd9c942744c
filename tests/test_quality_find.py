"""How good the examples are: as few vCPUs, and as little that is special, as the known ones need."""

from __future__ import annotations

from functools import cache

import pytest

from avicheck.checker.find import _predicate
from avicheck.checker.minimize import Search, smallest_case
from avicheck.spec.apic import APIC_DFR_FLAT, ApicMode, DeliveryMode, Vcpu
from avicheck.spec.apic_map_model import Case
from avicheck.spec.kernels import KERNELS
from avicheck.spec.lang import NULL

DIVERGES = "delivery.accepted != slow.accepted"
NARROW = "irq.dest_mode == PHYSICAL and irq.dest_id < 0xff and not irq.msi_redir_hint"

HACK = "aliased xAPIC IDs under the hotplug hack"
KNOWN = {
    HACK: ("6.19", f"{DIVERGES} and {NARROW}", 2),
    "aliased xAPIC IDs before the fix": ("6.1", f"{DIVERGES} and {NARROW} and not kvm.x2apic_format", 2),
    "logical NMI to a software-disabled APIC": (
        "6.19",
        f"{DIVERGES} and irq.dest_mode == LOGICAL and irq.delivery_mode == NMI",
        1,
    ),
    "x2APIC ID of an xAPIC, 32-bit IDs off": (
        "6.19",
        f"{DIVERGES} and irq.dest_mode == PHYSICAL and irq.dest_id > 0xff and not kvm.x2apic_format",
        2,
    ),
    "hashing onto a slot that nobody owns": (
        "6.19",
        f"{DIVERGES} and irq.dest_mode == LOGICAL and irq.delivery_mode == LOWEST",
        1,
    ),
    "redirection hint to a software-disabled APIC": (
        "6.19",
        f"{DIVERGES} and irq.dest_mode == PHYSICAL and irq.dest_id < 0xff and irq.msi_redir_hint",
        1,
    ),
    "no map": ("6.19", "not map.present and not alloc_fails", 2),
    "mixed logical modes": (
        "6.19",
        "map.map.logical_mode == MAP_DISABLED and any(v.mode == X2APIC for v in kvm.vcpus)",
        2,
    ),
}
"""What is looked for, on which kernel, and how many vCPUs it takes."""


@cache
def search(name: str) -> Search:
    kernel, expression, _ = KNOWN[name]
    return smallest_case(_predicate(expression), KERNELS[kernel], 3)


def case(name: str) -> Case:
    found = search(name).case
    assert found is not None
    return found


def special(vcpu: Vcpu, position: int) -> set[str]:
    """The fields of a vCPU that are not as after reset."""
    x2apic = vcpu.mode is ApicMode.X2APIC
    usual = {
        "vcpu_id": position,
        "mode": ApicMode.XAPIC,
        "xapic_id": 0 if x2apic else vcpu.vcpu_id & 0xFF,
        "ldr": vcpu.ldr if x2apic else 0,
        "dfr": APIC_DFR_FLAT,
        "sw_enabled": True,
        "arb_prio": 0,
    }
    return {name for name, value in usual.items() if getattr(vcpu, name) != value}


@pytest.mark.parametrize("name", KNOWN)
def test_example_has_as_few_vcpus_as_it_takes(name: str) -> None:
    assert len(case(name).kvm.vcpus) == KNOWN[name][2]


@pytest.mark.parametrize("name", KNOWN)
def test_example_is_proved_to_be_smallest(name: str) -> None:
    found = search(name)
    assert (found.refuted, found.open, found.complete) == (tuple(range(1, KNOWN[name][2])), (), True)


@pytest.mark.parametrize("name", KNOWN)
def test_example_can_be_made_by_kvm(name: str) -> None:
    assert search(name).real_caller


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (HACK, [set(), {"vcpu_id"}]),
        ("aliased xAPIC IDs before the fix", [set(), {"vcpu_id"}]),
        ("logical NMI to a software-disabled APIC", [{"sw_enabled", "ldr"}]),
        ("x2APIC ID of an xAPIC, 32-bit IDs off", [{"mode"}, {"vcpu_id"}]),
        ("hashing onto a slot that nobody owns", [{"ldr"}]),
        ("redirection hint to a software-disabled APIC", [{"sw_enabled"}]),
        ("no map", [set(), {"vcpu_id"}]),
        ("mixed logical modes", [{"ldr"}, {"mode"}]),
    ],
)
def test_only_what_matters_is_special(name: str, fields: list[set[str]]) -> None:
    assert [special(vcpu, at) for at, vcpu in enumerate(case(name).kvm.vcpus)] == fields


@pytest.mark.parametrize("name", [name for name in KNOWN if name != HACK])
def test_settings_that_do_not_matter_are_the_defaults(name: str) -> None:
    kvm = case(name).kvm
    assert (kvm.x2apic_format, kvm.x2apic_broadcast_quirk_disabled, kvm.vector_hashing) == (
        *(False, False, True),
    )


def test_the_hotplug_hack_takes_32_bit_ids_since_the_fix() -> None:
    assert case(HACK).kvm.x2apic_format


def test_the_smallest_id_that_needs_more_than_8_bits_without_an_alias_is_taken() -> None:
    found = case("x2APIC ID of an xAPIC, 32-bit IDs off")
    assert ([vcpu.vcpu_id for vcpu in found.kvm.vcpus], found.irq.dest_id) == ([0, 0x101], 0x101)


def test_an_nmi_is_taken_where_a_rarer_delivery_mode_would_do_too() -> None:
    hint = case("redirection hint to a software-disabled APIC")
    assert hint.irq.delivery_mode is DeliveryMode.NMI


def test_a_device_is_the_sender_unless_the_request_needs_a_vcpu() -> None:
    senders = {name: case(name).src for name in KNOWN}
    assert senders == dict.fromkeys(KNOWN, NULL) | {"x2APIC ID of an xAPIC, 32-bit IDs off": 0}


def test_vectors_are_the_smallest_that_interrupts_may_have() -> None:
    vectors = {name: case(name).irq.vector for name in KNOWN}
    assert vectors == dict.fromkeys(KNOWN, 16) | {
        "logical NMI to a software-disabled APIC": 0,
        "hashing onto a slot that nobody owns": 17,
    }


def test_physical_ids_of_8_bits_are_never_misrouted_without_32_bit_ids_since_the_fix() -> None:
    expression = f"{DIVERGES} and {NARROW} and not kvm.x2apic_format"
    found = smallest_case(_predicate(expression), KERNELS["6.19"], 3)
    assert (found.case, found.refuted) == (None, (1, 2, 3))
