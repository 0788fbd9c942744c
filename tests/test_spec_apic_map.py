"""One fact per test about each kernel function of the APIC map: the rule that it pins."""

from __future__ import annotations

from typing import Any, Final

import pytest

from avicheck.spec.apic import (
    APIC_DFR_CLUSTER,
    APIC_DFR_FLAT,
    ApicMode,
    DeliveryMode,
    DestMode,
    Irq,
    Kvm,
    Shorthand,
    TrigMode,
    Vcpu,
    apic_enabled,
    apic_state_ok,
    config_ok,
    has_caller,
    is_ipi_caller,
    is_msi_caller,
    kvm_apic_calc_x2apic_ldr,
    kvm_apic_compare_prio,
    kvm_lowest_prio_delivery,
    request_ok,
)
from avicheck.spec.apic_map import (
    E2BIG,
    EINVAL,
    MAP_DISABLED,
    SW_DISABLED,
    X2APIC,
    XAPIC_CLUSTER,
    XAPIC_FLAT,
    ApicMap,
    Published,
    Window,
    ffs,
    is_power_of_2,
    kvm_apic_map_get_logical_dest,
    kvm_recalculate_apic_map,
    kvm_recalculate_phys_map,
    logical_mode,
    max_apic_id,
    xapic_id_mismatch,
)
from avicheck.spec.apic_map_model import Case, outcome
from avicheck.spec.apic_route import (
    EOPNOTSUPP,
    Delivery,
    PvIpi,
    apic_accept_irq,
    arb_prio_after,
    deliver_by_loop,
    kvm_apic_is_broadcast_dest,
    kvm_apic_match_dest,
    kvm_bitmap_or_dest_vcpus,
    kvm_intr_is_single_vcpu,
    kvm_irq_delivery_to_apic,
    kvm_irq_delivery_to_apic_fast,
    kvm_pv_send_ipi,
    kvm_vector_to_index,
    phys_broadcast_is_fixed,
)
from avicheck.spec.kernels import KERNELS, Fix
from avicheck.spec.lang import NULL, KvmBug, Table, update

XAPIC, X2, OFF = ApicMode.XAPIC, ApicMode.X2APIC, ApicMode.DISABLED
OLD, POSTED, NEW = "6.1", "posted-2022-08", "6.19"
BROADCAST: Final = 0xFFFF_FFFF


def vcpu(vcpu_id: int, mode: ApicMode = XAPIC, **fields: Any) -> Vcpu:
    """A software-enabled vCPU without a logical ID of its own, its xAPIC ID as at reset."""
    in_x2apic = mode == X2
    usual = {
        "xapic_id": 0 if in_x2apic else vcpu_id & 0xFF,
        "ldr": kvm_apic_calc_x2apic_ldr(vcpu_id) if in_x2apic else 0,
        "dfr": APIC_DFR_FLAT,
        "sw_enabled": True,
        "arb_prio": 0,
    }
    return Vcpu(vcpu_id, mode, **usual | fields)


def flat(vcpu_id: int, logical_id: int, **fields: Any) -> Vcpu:
    return vcpu(vcpu_id, ldr=logical_id << 24, **fields)


def cluster(vcpu_id: int, logical_id: int, **fields: Any) -> Vcpu:
    return vcpu(vcpu_id, ldr=logical_id << 24, dfr=APIC_DFR_CLUSTER, **fields)


def vm(*vcpus: Vcpu, kernel: str = NEW, **fields: Any) -> Kvm:
    """A VM with the defaults of userspace: 8-bit destinations, the quirk, no hashing."""
    usual = {"x2apic_format": False, "x2apic_broadcast_quirk_disabled": False, "vector_hashing": False}
    return Kvm(KERNELS[kernel], vcpus=vcpus, **usual | fields)


def irq(dest_id: int = 0, **fields: Any) -> Irq:
    """A fixed, physical, edge-triggered interrupt, asserted."""
    usual: dict[str, Any] = {
        "shorthand": Shorthand.NONE,
        "dest_mode": DestMode.PHYSICAL,
        "delivery_mode": DeliveryMode.FIXED,
        "vector": 0x31,
        "level": True,
        "trig_mode": TrigMode.EDGE,
        "msi_redir_hint": False,
    }
    return Irq(dest_id=dest_id, **usual | fields)


def logical(dest_id: int, **fields: Any) -> Irq:
    return irq(dest_id, dest_mode=DestMode.LOGICAL, **fields)


def lowest(dest_id: int, **fields: Any) -> Irq:
    return logical(dest_id, delivery_mode=DeliveryMode.LOWEST, **fields)


def built(kvm: Kvm) -> Published:
    return kvm_recalculate_apic_map(kvm, False)


def slots(kvm: Kvm) -> dict[int, int]:
    return built(kvm).map.phys.items()


def called(delivery: Delivery) -> list[int]:
    return [call.vcpu for call in delivery.calls.items()]


def fast(kvm: Kvm, request: Irq, src: int = NULL) -> Delivery:
    return kvm_irq_delivery_to_apic_fast(kvm, built(kvm), src, request)


def by_loop(kvm: Kvm, request: Irq, src: int = NULL) -> list[int]:
    return called(deliver_by_loop(kvm, src, request))


def matches(kvm: Kvm, request: Irq, src: int = NULL) -> list[int]:
    return [i for i in range(len(kvm.vcpus)) if kvm_apic_match_dest(kvm, i, src, request)]


# Kernels.


def test_oldest_kernel_has_no_fix_and_the_posted_series_one() -> None:
    assert (KERNELS[OLD].fixes, KERNELS[POSTED].fixes) == (frozenset(), frozenset({Fix.ALIASED_XAPIC_IDS}))


@pytest.mark.parametrize("kernel", ["6.12", "6.16", "6.19"])
def test_kernels_after_the_rework_have_every_fix(kernel: str) -> None:
    assert all(KERNELS[kernel].has(fix) for fix in Fix)


# apic.py: state and requests.


def test_x2apic_ldr_is_cluster_and_bit() -> None:
    assert [kvm_apic_calc_x2apic_ldr(i) for i in (0, 15, 16, 0x123)] == [0x1, 0x8000, 0x1_0001, 0x12_0008]


@pytest.mark.parametrize(
    ("mode", "sw_enabled", "enabled"),
    [(XAPIC, True, True), (X2, True, True), (XAPIC, False, False), (OFF, True, False)],
)
def test_enabled_is_hardware_and_software(mode: ApicMode, sw_enabled: bool, enabled: bool) -> None:
    assert apic_enabled(vcpu(0, mode, sw_enabled=sw_enabled)) is enabled


@pytest.mark.parametrize(
    ("a", "b", "difference"), [(3, 1, 2), (1, 3, -2), (0x8000_0000, 0, -(1 << 31)), (0, 0xFFFF_FFFF, 1)]
)
def test_priorities_are_compared_as_a_wrapping_int(a: int, b: int, difference: int) -> None:
    assert kvm_apic_compare_prio(vcpu(0, arb_prio=a), vcpu(1, arb_prio=b)) == difference


def test_redirection_hint_makes_any_mode_lowest_priority() -> None:
    hinted = irq(delivery_mode=DeliveryMode.NMI, msi_redir_hint=True)
    assert [kvm_lowest_prio_delivery(i) for i in (irq(), lowest(1), hinted)] == [False, True, True]


def test_x2apic_state_follows_from_the_id() -> None:
    assert apic_state_ok(vcpu(5, X2))
    assert not apic_state_ok(vcpu(5, X2, ldr=1))
    assert not apic_state_ok(vcpu(5, X2, xapic_id=5))
    assert apic_state_ok(vcpu(5, ldr=77, xapic_id=9))


def test_vcpu_ids_are_unique() -> None:
    assert config_ok(vm(vcpu(1), vcpu(2)))
    assert not config_ok(vm(vcpu(1), vcpu(2), vcpu(1, X2)))


def test_self_needs_a_source() -> None:
    to_self = irq(shorthand=Shorthand.SELF)
    assert (request_ok(NULL, to_self), request_ok(0, to_self), request_ok(NULL, irq())) == (False, True, True)


def test_only_x2apic_sources_send_to_32_bit_destinations() -> None:
    kvm = vm(vcpu(0), vcpu(1, X2), vcpu(2, OFF))
    assert [is_ipi_caller(kvm, src, irq(0x100)) for src in (NULL, 0, 1, 2)] == [False, False, True, False]
    assert [is_ipi_caller(kvm, src, irq(0xFF)) for src in (NULL, 0, 1, 2)] == [False, True, True, False]


def test_devices_send_to_32_bit_destinations_if_userspace_enabled_them() -> None:
    assert [is_msi_caller(vm(vcpu(0), x2apic_format=f), NULL, irq(0x100)) for f in (False, True)] == [
        False,
        True,
    ]


def test_devices_use_no_shorthand_and_assert() -> None:
    kvm = vm(vcpu(0))
    assert is_msi_caller(kvm, NULL, irq())
    assert not is_msi_caller(kvm, NULL, irq(level=False))
    assert not is_msi_caller(kvm, NULL, irq(shorthand=Shorthand.ALLINC))
    assert not has_caller(kvm, 0, irq(msi_redir_hint=True))


# Building: the physical part.


def test_room_for_every_xapic_id_and_present_x2apic_id() -> None:
    assert [max_apic_id(vm(*v)) for v in ([vcpu(3)], [vcpu(300, X2)], [vcpu(300)], [vcpu(300, OFF)])] == [
        255,
        300,
        300,
        255,
    ]


def test_absent_apics_are_not_in_the_map() -> None:
    assert slots(vm(vcpu(0, OFF), vcpu(1))) == {1: 1}


def test_software_disabled_apics_are() -> None:
    assert slots(vm(vcpu(0, sw_enabled=False))) == {0: 0}


def test_xapic_is_found_by_the_id_that_the_guest_wrote() -> None:
    assert slots(vm(vcpu(0, xapic_id=7))) == {7: 0}


def test_shared_physical_id_leaves_no_map() -> None:
    published = built(vm(vcpu(0), vcpu(1, xapic_id=0)))
    assert (published.present, published.physical_id_aliased, published.map.phys.items()) == (False, True, {})


def test_shared_physical_id_before_the_fix_goes_to_the_first() -> None:
    published = built(vm(vcpu(0), vcpu(1, xapic_id=0), kernel=OLD))
    assert (published.present, published.physical_id_aliased, published.map.phys.items()) == (
        True,
        False,
        {0: 0},
    )


def test_posted_series_drops_the_map_and_sets_no_inhibit() -> None:
    published = built(vm(vcpu(0), vcpu(1, xapic_id=0), kernel=POSTED))
    assert (published.present, published.physical_id_aliased) == (False, False)


def test_with_32_bit_ids_the_first_keeps_a_shared_xapic_id() -> None:
    assert slots(vm(vcpu(0), vcpu(1, xapic_id=0), x2apic_format=True)) == {0: 0}


def test_with_32_bit_ids_an_x2apic_takes_its_id_from_an_xapic() -> None:
    assert slots(vm(vcpu(0, xapic_id=1), vcpu(1, X2), x2apic_format=True)) == {1: 1}


def test_hotplug_hack_enters_an_xapic_under_its_wide_id_too() -> None:
    kvm = vm(vcpu(0x123), x2apic_format=True)
    assert slots(kvm) == {0x23: 0, 0x123: 0}
    assert slots(update(kvm, x2apic_format=False)) == {0x23: 0}


def test_id_that_outgrew_the_map_stops_the_build() -> None:
    kvm, small = vm(vcpu(300, X2)), ApicMap(255, SW_DISABLED, Table(), Table())
    assert kvm_recalculate_phys_map(kvm, small, 0).error == E2BIG


def test_taken_id_stops_the_build() -> None:
    kvm = vm(vcpu(0), vcpu(1, xapic_id=0))
    assert kvm_recalculate_phys_map(kvm, built(vm(vcpu(0))).map, 1).error == EINVAL


@pytest.mark.parametrize(
    ("one", "mismatch"),
    [(vcpu(5), False), (vcpu(5, xapic_id=6), True), (vcpu(0x105), False), (vcpu(5, X2), False)],
)
def test_id_mismatch_is_a_changed_xapic_id(one: Vcpu, mismatch: bool) -> None:
    assert xapic_id_mismatch(one) is mismatch


def test_changed_id_inhibits_from_the_fix_on() -> None:
    assert [built(vm(vcpu(0, xapic_id=9), kernel=k)).apic_id_modified for k in (OLD, NEW)] == [False, True]


def test_changed_id_of_an_absent_apic_does_not() -> None:
    assert not built(vm(vcpu(0, OFF, xapic_id=9))).apic_id_modified


def test_change_after_the_build_stopped_is_not_seen() -> None:
    """The loop ends at the vCPU whose ID is taken."""
    kvm = vm(vcpu(0), vcpu(0x100), vcpu(2, xapic_id=9))
    assert (built(kvm).present, built(kvm).apic_id_modified) == (False, False)


@pytest.mark.parametrize(("kernel", "inhibited"), [(OLD, False), (POSTED, False), (NEW, True)])
def test_failed_allocation_is_no_map(kernel: str, inhibited: bool) -> None:
    failed = kvm_recalculate_apic_map(vm(vcpu(0, xapic_id=1), kernel=kernel), True)
    assert failed.present is False
    found = (failed.physical_id_aliased, failed.logical_id_aliased, failed.apic_id_modified)
    assert found == (inhibited, inhibited, False)


# Building: the logical part.


@pytest.mark.parametrize(
    ("one", "mode"),
    [
        (vcpu(0, X2), X2APIC),
        (flat(0, 1), XAPIC_FLAT),
        (cluster(0, 1), XAPIC_CLUSTER),
        (vcpu(0, ldr=1 << 24, dfr=0), XAPIC_CLUSTER),
    ],
)
def test_mode_of_a_vcpu(one: Vcpu, mode: int) -> None:
    """Any DFR that is not flat counts as cluster."""
    assert (logical_mode(one), built(vm(one)).map.logical_mode) == (mode, mode)


@pytest.mark.parametrize("one", [flat(0, 1, sw_enabled=False), vcpu(0), flat(0, 1, mode=OFF)])
def test_vcpu_without_a_logical_id_counts_for_no_mode(one: Vcpu) -> None:
    assert built(vm(one)).map.logical_mode == SW_DISABLED


def test_ldr_register_and_not_the_logical_id_says_whether_it_counts() -> None:
    """A stale x2APIC LDR has a low half only: mode counted, no slot entered."""
    stale = built(vm(vcpu(0, ldr=1))).map
    assert (stale.logical_mode, stale.logical.items()) == (XAPIC_FLAT, {})


def test_two_modes_disable_the_logical_map() -> None:
    published = built(vm(flat(0, 1), cluster(1, 0x11)))
    assert (published.map.logical_mode, published.logical_id_aliased) == (MAP_DISABLED, True)


def test_two_modes_before_the_fix_are_both_remembered() -> None:
    published = built(vm(flat(0, 1), cluster(1, 0x11), kernel=OLD))
    assert (published.map.logical_mode, published.logical_id_aliased) == (XAPIC_FLAT | XAPIC_CLUSTER, False)


def test_flat_slot_is_the_bit() -> None:
    assert built(vm(flat(0, 0x80), flat(1, 0x01))).map.logical.items() == {0: 1, 7: 0}


def test_cluster_slot_is_cluster_times_four_plus_bit() -> None:
    assert built(vm(cluster(0, 0x21), cluster(1, 0x28))).map.logical.items() == {8: 0, 11: 1}


def test_cluster_id_without_a_bit_is_not_entered() -> None:
    published = built(vm(cluster(0, 0x20)))
    assert (published.map.logical_mode, published.map.logical.items()) == (XAPIC_CLUSTER, {})


@pytest.mark.parametrize(
    "vcpus", [(flat(0, 3),), (flat(0, 1), flat(1, 1)), (cluster(0, 0x11), cluster(1, 0x11))]
)
def test_several_bits_or_a_taken_slot_disable_the_logical_map(vcpus: tuple[Vcpu, ...]) -> None:
    published = built(vm(*vcpus))
    found = (published.present, published.map.logical_mode, published.logical_id_aliased)
    assert found == (True, MAP_DISABLED, True)


def test_before_the_fix_several_bits_mean_the_lowest() -> None:
    assert built(vm(flat(0, 6), kernel=OLD)).map.logical.items() == {1: 0}


def test_before_the_fix_the_last_owner_wins() -> None:
    assert built(vm(flat(0, 1), flat(1, 1), kernel=OLD)).map.logical.items() == {0: 1}


def test_after_the_map_was_disabled_nothing_is_entered() -> None:
    disabled = built(vm(flat(0, 3), flat(1, 4))).map
    assert disabled.logical.items() == {}


@pytest.mark.parametrize(
    ("mask", "first", "single"), [(0, 0, False), (1, 1, True), (6, 2, False), (0x8000, 16, True)]
)
def test_bits_of_a_mask(mask: int, first: int, single: bool) -> None:
    assert (ffs(mask), is_power_of_2(mask)) == (first, single)


# Windows: which slots a logical destination addresses.


@pytest.mark.parametrize(
    ("mode", "dest_id", "window"),
    [
        (SW_DISABLED, 1, Window(True, 0, 0)),
        (MAP_DISABLED, 1, Window(False, 0, 0)),
        (XAPIC_FLAT, 0x1A5, Window(True, 0, 0xA5)),
        (XAPIC_CLUSTER, 0x123, Window(True, 8, 3)),
        (X2APIC, 0x1_0005, Window(True, 16, 5)),
        (X2APIC, 0xF_FFFF, Window(True, 240, 0xFFFF)),
        (X2APIC, 0x10_0001, Window(True, 0, 0)),
    ],
)
def test_window(mode: int, dest_id: int, window: Window) -> None:
    map = ApicMap(255, mode, Table(), Table())
    assert kvm_apic_map_get_logical_dest(vm(vcpu(0)), map, dest_id) == window


def test_last_x2apic_cluster_is_cut_at_the_map_s_end() -> None:
    map = ApicMap(0x103, X2APIC, Table(), Table())
    assert kvm_apic_map_get_logical_dest(vm(vcpu(0)), map, 0x10_FFFF) == Window(True, 0x100, 0xF)


@pytest.mark.parametrize("mode", [SW_DISABLED, XAPIC_FLAT | XAPIC_CLUSTER])
def test_before_the_fix_no_mode_or_several_are_not_handled(mode: int) -> None:
    map = ApicMap(255, mode, Table(), Table())
    assert not kvm_apic_map_get_logical_dest(vm(vcpu(0), kernel=OLD), map, 1).handled


# Acceptance.


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({}, True),
        ({"trig_mode": TrigMode.LEVEL}, True),
        ({"trig_mode": TrigMode.LEVEL, "level": False}, False),
        ({"level": False}, True),
        ({"delivery_mode": DeliveryMode.INIT, "trig_mode": TrigMode.LEVEL, "level": False}, False),
        ({"delivery_mode": DeliveryMode.INIT}, True),
        ({"delivery_mode": DeliveryMode.EXTINT}, False),
    ],
)
def test_acceptance_by_an_enabled_apic(fields: dict[str, Any], accepted: bool) -> None:
    assert apic_accept_irq(vcpu(0), irq(**fields)) is accepted


@pytest.mark.parametrize(
    ("mode", "accepted"),
    [("FIXED", False), ("LOWEST", False), ("NMI", True), ("SMI", True), ("SIPI", True), ("INIT", True)],
)
def test_software_disabled_apic_accepts_all_but_vectors(mode: str, accepted: bool) -> None:
    assert apic_accept_irq(vcpu(0, sw_enabled=False), irq(delivery_mode=DeliveryMode[mode])) is accepted


def test_lowest_priority_raises_the_priority_and_wraps() -> None:
    assert arb_prio_after(vcpu(0, arb_prio=0xFFFF_FFFF), lowest(1)) == 0
    assert arb_prio_after(vcpu(0, arb_prio=7), irq()) == 7


# Matching without a map.

MIXED: Final = vm(vcpu(0), vcpu(1, X2), vcpu(0x123), vcpu(4, OFF))


@pytest.mark.parametrize(
    ("shorthand", "matched"),
    [(Shorthand.SELF, [1]), (Shorthand.ALLINC, [0, 1, 2, 3]), (Shorthand.ALLBUT, [0, 2, 3])],
)
def test_shorthands_ignore_the_destination(shorthand: Shorthand, matched: list[int]) -> None:
    assert matches(MIXED, irq(77, shorthand=shorthand), src=1) == matched


def test_loops_skip_absent_apics() -> None:
    assert by_loop(MIXED, irq(shorthand=Shorthand.ALLINC), src=1) == [0, 1, 2]


@pytest.mark.parametrize(
    ("dest_id", "src", "matched"),
    [
        (0, 0, [0]),
        (1, 0, [1]),
        (0x23, 0, [2]),
        (0x123, 0, [2]),
        (0xFF, 0, [0, 2, 3]),
        (0xFF, NULL, [0, 1, 2, 3]),
        (BROADCAST, 0, [1]),
        (9, 0, []),
    ],
)
def test_physical_match(dest_id: int, src: int, matched: list[int]) -> None:
    """xAPIC ID, x2APIC ID, an xAPIC by its wide ID, broadcasts by the target's width, the quirk."""
    assert matches(MIXED, irq(dest_id), src) == matched


def test_without_the_quirk_a_device_s_ff_is_no_x2apic_broadcast() -> None:
    assert matches(update(MIXED, x2apic_broadcast_quirk_disabled=True), irq(0xFF)) == [0, 2, 3]


def test_x2apic_has_no_xapic_id() -> None:
    assert matches(vm(vcpu(0x123, X2)), irq(0x23)) == []


@pytest.mark.parametrize(
    ("one", "dest_id", "matched"),
    [
        (flat(0, 6), 2, True),
        (flat(0, 6), 1, False),
        (flat(0, 6), 0x102, True),
        (cluster(0, 0x25), 0x24, True),
        (cluster(0, 0x25), 0x34, False),
        (cluster(0, 0x25), 0x124, False),
        (vcpu(0, ldr=0x25 << 24, dfr=0x1FFF_FFFF), 0x24, False),
        (flat(0, 6), 0xFF, True),
        (vcpu(0, ldr=6 << 24, dfr=0), 0xFF, True),
        (vcpu(0x12, X2), 0x1_0004, True),
        (vcpu(0x12, X2), 0x1_000B, False),
        (vcpu(0x12, X2), 0x2_0004, False),
        (vcpu(0x12, X2), BROADCAST, True),
    ],
)
def test_logical_match(one: Vcpu, dest_id: int, matched: bool) -> None:
    assert (matches(vm(one), logical(dest_id), src=0) == [0]) is matched


# Routing through the map.

THREE: Final = vm(flat(0, 1), flat(1, 2), flat(2, 4))


def test_fast_path_sends_to_the_slot() -> None:
    assert (fast(THREE, irq(1)).handled, called(fast(THREE, irq(1)))) == (True, [1])


@pytest.mark.parametrize(("dest_id", "r"), [(7, 0), (0x1000, 0), (1, 1)])
def test_fast_path_handles_a_destination_that_nobody_has(dest_id: int, r: int) -> None:
    assert (fast(THREE, irq(dest_id)).handled, fast(THREE, irq(dest_id)).r) == (True, r)


@pytest.mark.parametrize(
    "request_", [irq(shorthand=Shorthand.ALLINC), irq(shorthand=Shorthand.ALLBUT), irq(0xFF), logical(0xFF)]
)
def test_fast_path_declines(request_: Irq) -> None:
    assert fast(THREE, request_, src=0) == Delivery(False, -1)


def test_fast_path_declines_without_a_map() -> None:
    kvm = vm(vcpu(0), vcpu(1, xapic_id=0))
    assert fast(kvm, irq(0)) == Delivery(False, -1)


def test_fast_path_declines_if_the_logical_map_is_disabled() -> None:
    kvm = vm(flat(0, 3))
    assert (fast(kvm, logical(1)).handled, fast(kvm, irq(0)).handled) == (False, True)


def test_self_goes_to_the_source_with_and_without_a_map() -> None:
    for kvm in (THREE, vm(vcpu(0), vcpu(1, xapic_id=0))):
        assert called(fast(kvm, irq(9, shorthand=Shorthand.SELF), src=1)) == [1]


@pytest.mark.parametrize(
    ("quirk_disabled", "src", "dest_id", "broadcast"),
    [
        (False, NULL, 0xFF, True),
        (False, NULL, BROADCAST, False),
        (False, 0, 0xFF, True),
        (False, 1, 0xFF, False),
        (False, 1, BROADCAST, True),
        (True, NULL, BROADCAST, True),
        (True, 1, 0xFF, True),
    ],
)
def test_broadcast(quirk_disabled: bool, src: int, dest_id: int, broadcast: bool) -> None:
    """By the source's mode with the quirk, by the map's without it; vCPU 1 is in x2APIC mode."""
    kvm = vm(flat(0, 1), vcpu(1, X2), x2apic_broadcast_quirk_disabled=quirk_disabled)
    map = ApicMap(255, XAPIC_FLAT, Table(), Table())
    assert kvm_apic_is_broadcast_dest(kvm, map, src, dest_id) is broadcast


def test_without_the_quirk_ff_is_an_id_in_an_x2apic_map() -> None:
    kvm = vm(vcpu(0xFF, X2), x2apic_broadcast_quirk_disabled=True)
    assert called(fast(kvm, irq(0xFF))) == [0]


def test_logical_fixed_goes_to_every_addressed_slot() -> None:
    assert called(fast(THREE, logical(0b101))) == [0, 2]


def test_r_counts_acceptances() -> None:
    asleep = vm(flat(0, 1), vcpu(1, sw_enabled=False))
    assert fast(THREE, logical(0b111)).r == 3
    assert (called(fast(asleep, irq(1))), fast(asleep, irq(1)).r) == ([1], 0)


# Lowest priority.


def priorities(*values: int, **fields: Any) -> Kvm:
    return vm(*(flat(i, 1 << i, arb_prio=value) for i, value in enumerate(values)), **fields)


@pytest.mark.parametrize(("values", "winner"), [((3, 1, 2), 1), ((2, 2, 2), 0), ((0, 0xFFFF_FFFF, 5), 1)])
def test_smallest_priority_wins_and_the_first_a_tie(values: tuple[int, ...], winner: int) -> None:
    kvm = priorities(*values)
    assert (called(fast(kvm, lowest(7))), by_loop(kvm, lowest(7))) == ([winner], [winner])


@pytest.mark.parametrize(("vector", "winner"), [(0, 0), (1, 1), (2, 2), (3, 0), (0x41, 2)])
def test_hashing_picks_by_the_vector(vector: int, winner: int) -> None:
    kvm = priorities(9, 9, 0, vector_hashing=True)
    request = lowest(7, vector=vector)
    assert (called(fast(kvm, request)), by_loop(kvm, request)) == ([winner], [winner])


def test_fast_path_hashes_over_the_mask_and_the_loop_over_vcpus() -> None:
    """Bit 3 of the mask is nobody's: the fast path may pick it, the loop never does."""
    kvm = priorities(0, 0, 0, vector_hashing=True)
    request = lowest(0b1001, vector=1)
    assert (called(fast(kvm, request)), fast(kvm, request).r, by_loop(kvm, request)) == ([], 0, [0])


def test_loop_leaves_software_disabled_apics_out() -> None:
    kvm = vm(flat(0, 1, arb_prio=1), flat(1, 2, sw_enabled=False))
    assert by_loop(kvm, lowest(3)) == [0]


def test_fast_path_ignores_priority_in_physical_mode() -> None:
    assert called(fast(THREE, irq(1, delivery_mode=DeliveryMode.LOWEST))) == [1]


@pytest.mark.parametrize(("mask", "picked"), [(0b1, 0), (0b1010, 1), (0b1000_0000, 7)])
def test_vector_modulo_count_is_the_bit_s_number(mask: int, picked: int) -> None:
    assert kvm_vector_to_index(0x40, mask.bit_count(), mask, 16) == picked


def test_index_beyond_the_mask_is_a_bug() -> None:
    with pytest.raises(KvmBug, match=r"^BUG_ON\(idx == bitmap_size\)$"):
        kvm_vector_to_index(1, 2, 0b1, 16)


def test_lowest_priority_to_physical_ff_becomes_fixed() -> None:
    request = irq(0xFF, delivery_mode=DeliveryMode.LOWEST)
    assert phys_broadcast_is_fixed(request).delivery_mode == DeliveryMode.FIXED
    assert phys_broadcast_is_fixed(lowest(0xFF)).delivery_mode == DeliveryMode.LOWEST
    assert by_loop(priorities(1, 1), request) == [0, 1]


def test_hint_to_physical_ff_still_picks_one() -> None:
    assert by_loop(priorities(1, 0), irq(0xFF, msi_redir_hint=True)) == [1]


# Delivery, and the other users of the map.


def test_loop_that_reaches_nobody_returns_minus_one() -> None:
    assert deliver_by_loop(THREE, NULL, irq(9)).r == -1


def test_delivery_falls_back_to_the_loop() -> None:
    kvm = vm(vcpu(0), vcpu(1, xapic_id=0))
    assert called(kvm_irq_delivery_to_apic(kvm, built(kvm), NULL, irq(0))) == [0, 1]


def test_delivery_trusts_the_map() -> None:
    """6.1 with a shared ID: the map knows the first owner only, the loop both."""
    kvm = vm(vcpu(0), vcpu(1, xapic_id=0), kernel=OLD)
    assert called(kvm_irq_delivery_to_apic(kvm, built(kvm), NULL, irq(0))) == [0]
    assert by_loop(kvm, irq(0)) == [0, 1]


@pytest.mark.parametrize(
    ("request_", "single"),
    [(irq(1), 1), (irq(9), NULL), (logical(0b10), 1), (logical(0b11), NULL), (irq(0xFF), NULL)],
)
def test_single_vcpu(request_: Irq, single: int) -> None:
    assert kvm_intr_is_single_vcpu(THREE, built(THREE), request_) == single


def test_single_vcpu_of_a_broadcast_to_one() -> None:
    kvm = vm(vcpu(4))
    assert kvm_intr_is_single_vcpu(kvm, built(kvm), irq(0xFF)) == 0


@pytest.mark.parametrize(
    ("request_", "mask"),
    [
        (irq(1), 0b10),
        (logical(0b101), 0b101),
        (irq(0xFF), 0b111),
        (lowest(0b111), 0b001),
        (irq(shorthand=Shorthand.SELF), 0),
    ],
)
def test_destination_bitmap(request_: Irq, mask: int) -> None:
    assert kvm_bitmap_or_dest_vcpus(THREE, built(THREE), request_) == mask


def pv(kvm: Kvm, **fields: Any) -> Delivery:
    usual: dict[str, Any] = {"low": 0, "high": 0, "min": 0, "icr": 0x31, "op64": True}
    return kvm_pv_send_ipi(kvm, built(kvm), PvIpi(**usual | fields))


def test_pv_ipi_goes_to_every_id_in_both_words() -> None:
    kvm = vm(vcpu(0), vcpu(2), vcpu(64, X2), vcpu(32, X2))
    assert called(pv(kvm, low=0b101, high=0b1)) == [0, 1, 2]
    assert called(pv(kvm, low=0b101, high=0b1, op64=False)) == [0, 1, 3]


def test_pv_ipi_is_bounded_by_the_map() -> None:
    assert called(pv(vm(vcpu(0)), low=0b11, min=0xFFFF_FFFF)) == []


def test_pv_ipi_wraps_the_second_word_only() -> None:
    assert called(pv(vm(vcpu(63)), high=1 << 0, min=0xFFFF_FFFF)) == [0]


@pytest.mark.parametrize("icr", [0x831, 0x40031, 0x80031])
def test_pv_ipi_refuses_destination_bits(icr: int) -> None:
    assert pv(vm(vcpu(0)), low=1, icr=icr) == Delivery(False, EINVAL)


def test_pv_ipi_needs_a_map() -> None:
    assert pv(vm(vcpu(0), vcpu(1, xapic_id=0)), low=1) == Delivery(False, EOPNOTSUPP)


# The whole.


def test_outcome_sums_up_every_way() -> None:
    """6.1, a shared xAPIC ID: the map reaches one vCPU, the loop two."""
    kvm = vm(vcpu(0), vcpu(1, xapic_id=0), kernel=OLD)
    result = outcome(Case(kvm, False, NULL, irq(0)))
    sums = [
        (answer.handled, answer.r, answer.called, answer.accepted) for answer in (result.fast, result.slow)
    ]
    assert sums == [(True, 1, 0b01, 0b01), (True, 2, 0b11, 0b11)]
    assert (result.delivery, result.single_vcpu, result.dest_bitmap) == (result.fast, 0, 0b01)
