"""Building the optimized APIC map (arch/x86/kvm/lapic.c)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.apic import APIC_DFR_FLAT, Kvm, Vcpu, apic_x2apic_mode, kvm_apic_present
from avicheck.spec.kernels import Fix
from avicheck.spec.lang import NULL, Table, at_least, at_most, record, rule, update

EINVAL: Final = -22
E2BIG: Final = -7

SW_DISABLED: Final = 0
XAPIC_CLUSTER: Final = 4
XAPIC_FLAT: Final = 8
X2APIC: Final = 16
MAP_DISABLED: Final = 32
"""``map->logical_mode``. Before Fix.LOGICAL_MODES the field is ``mode``, the OR of the three
middle ones; from then on an enumeration of all five."""


class Inhibit(Enum):
    """The APICv inhibit reasons that the recalculation sets or clears."""

    PHYSICAL_ID_ALIASED = "APICV_INHIBIT_REASON_PHYSICAL_ID_ALIASED"
    LOGICAL_ID_ALIASED = "APICV_INHIBIT_REASON_LOGICAL_ID_ALIASED"
    APIC_ID_MODIFIED = "APICV_INHIBIT_REASON_APIC_ID_MODIFIED"


@record
class ApicMap:
    """``struct kvm_apic_map``. ``logical`` is the union of xapic_flat_map[8] and
    xapic_cluster_map[16][4]: slot ``bit``, or ``cluster * 4 + bit``."""

    max_apic_id: int
    logical_mode: int
    phys: Table
    logical: Table


@record
class Published:
    """What the recalculation leaves behind: ``kvm->arch.apic_map`` (``present`` false: NULL)
    and its three inhibit reasons."""

    present: bool
    map: ApicMap
    physical_id_aliased: bool
    logical_id_aliased: bool
    apic_id_modified: bool


@record
class Window:
    """The slots a logical destination addresses: ``mask`` over the slots from ``base`` on."""

    handled: bool
    base: int
    mask: int


@record
class PhysResult:
    """A map with one more vCPU in its physical part, or the error that stopped it."""

    error: int
    map: ApicMap


@record
class Recalculation:
    """The second pass between two vCPUs."""

    error: int
    mismatch: bool
    map: ApicMap


def kvm_xapic_id(vcpu: Vcpu) -> int:
    """lapic.h: the top byte of the APIC_ID register."""
    return vcpu.xapic_id


def kvm_x2apic_id(vcpu: Vcpu) -> int:
    """lapic.c: always the vCPU's id."""
    return vcpu.vcpu_id


@rule
def kvm_apic_map_get_logical_dest(kvm: Kvm, map: ApicMap, dest_id: int) -> Window:
    """lapic.c: which slots ``dest_id`` addresses; x2APIC clusters reuse the physical slots."""
    if map.logical_mode == SW_DISABLED:
        return Window(kvm.kernel.has(Fix.LOGICAL_MODES), 0, 0)
    if map.logical_mode == X2APIC:
        offset = (dest_id >> 16) * 16
        if offset > map.max_apic_id:
            return Window(True, 0, 0)
        cluster_size = at_most(map.max_apic_id - offset + 1, 16)
        return Window(True, offset, dest_id & (0xFFFF >> (16 - cluster_size)))
    if map.logical_mode == XAPIC_FLAT:
        return Window(True, 0, dest_id & 0xFF)
    if map.logical_mode == XAPIC_CLUSTER:
        return Window(True, ((dest_id >> 4) & 0xF) * 4, dest_id & 0xF)
    return Window(False, 0, 0)


@rule
def hotplug_hack(map: ApicMap, vcpu: Vcpu, index: int) -> Table:
    """lapic.c: map the x2APIC ID where xAPIC cannot reach the vCPU; the first owner keeps an xAPIC ID."""
    phys = map.phys
    if (apic_x2apic_mode(vcpu) or kvm_x2apic_id(vcpu) > 0xFF) and kvm_x2apic_id(vcpu) <= map.max_apic_id:
        phys = phys.set(kvm_x2apic_id(vcpu), index)
    if not apic_x2apic_mode(vcpu) and phys[kvm_xapic_id(vcpu)] == NULL:
        phys = phys.set(kvm_xapic_id(vcpu), index)
    return phys


@rule
def kvm_recalculate_phys_map(kvm: Kvm, map: ApicMap, index: int) -> PhysResult:
    """lapic.c: enter a vCPU under its physical ID; E2BIG if it outgrew the map, EINVAL if the ID is taken."""
    vcpu = kvm.vcpus[index]
    if kvm.kernel.has(Fix.PHYS_BOUNDS) and kvm_x2apic_id(vcpu) > map.max_apic_id:
        return PhysResult(E2BIG, map)
    if kvm.x2apic_format or not kvm.kernel.has(Fix.ALIASED_XAPIC_IDS):
        return PhysResult(0, update(map, phys=hotplug_hack(map, vcpu, index)))
    physical_id = kvm_x2apic_id(vcpu) if apic_x2apic_mode(vcpu) else kvm_xapic_id(vcpu)
    if map.phys[physical_id] != NULL:
        return PhysResult(EINVAL, map)
    return PhysResult(0, update(map, phys=map.phys.set(physical_id, index)))


@rule
def xapic_id_mismatch(vcpu: Vcpu) -> bool:
    """kvm_recalculate_phys_map: an xAPIC ID that is not the vCPU's id truncated to 8 bits."""
    return not apic_x2apic_mode(vcpu) and kvm_xapic_id(vcpu) != (vcpu.vcpu_id & 0xFF)


@rule
def logical_mode(vcpu: Vcpu) -> int:
    """kvm_recalculate_logical_map: the addressing mode a vCPU is configured for."""
    if apic_x2apic_mode(vcpu):
        return X2APIC
    return XAPIC_FLAT if vcpu.dfr == APIC_DFR_FLAT else XAPIC_CLUSTER


@rule
def ffs(mask: int) -> int:
    """The number of the lowest set bit counted from 1; 0 if there is none."""
    for bit in range(16):
        if (mask >> bit) & 1:
            return bit + 1
    return 0


@rule
def is_power_of_2(n: int) -> bool:
    """Exactly one bit is set."""
    return n != 0 and n & (n - 1) == 0


@rule
def enter_logical_id(kvm: Kvm, map: ApicMap, vcpu: Vcpu, index: int) -> ApicMap:
    """kvm_recalculate_logical_map: enter an xAPIC vCPU under its logical ID. Aliases and IDs
    of several bits disable the map; before the two fixes the last one wins its lowest bit."""
    window = kvm_apic_map_get_logical_dest(kvm, map, vcpu.ldr >> 24)
    if window.mask == 0:
        return map
    slot = window.base + ffs(window.mask) - 1
    if kvm.kernel.has(Fix.LOGICAL_MULTI_MDA) and not is_power_of_2(window.mask):
        return update(map, logical_mode=MAP_DISABLED)
    if kvm.kernel.has(Fix.LOGICAL_ALIASED) and map.logical[slot] != NULL:
        return update(map, logical_mode=MAP_DISABLED)
    return update(map, logical=map.logical.set(slot, index))


@rule
def kvm_recalculate_logical_map(kvm: Kvm, map: ApicMap, index: int) -> ApicMap:
    """lapic.c: enter a software-enabled vCPU; all must be in one mode. Before Fix.LOGICAL_MODES
    (in the body of kvm_recalculate_apic_map) the modes are collected and mixed ones not entered."""
    vcpu = kvm.vcpus[index]
    if map.logical_mode == MAP_DISABLED or not vcpu.sw_enabled or vcpu.ldr == 0:
        return map
    mode = logical_mode(vcpu)
    if not kvm.kernel.has(Fix.LOGICAL_MODES):
        mode = map.logical_mode | mode
    elif map.logical_mode != SW_DISABLED and map.logical_mode != mode:
        return update(map, logical_mode=MAP_DISABLED)
    map = update(map, logical_mode=mode)
    return map if apic_x2apic_mode(vcpu) else enter_logical_id(kvm, map, vcpu, index)


@rule
def max_apic_id(kvm: Kvm) -> int:
    """kvm_recalculate_apic_map, first pass: room for every xAPIC ID and every present x2APIC ID."""
    max_id = 255
    for vcpu in kvm.vcpus:
        max_id = at_least(max_id, kvm_x2apic_id(vcpu) if kvm_apic_present(vcpu) else 0)
    return max_id


@rule
def publish(kvm: Kvm, present: bool, map: ApicMap, mismatch: bool) -> Published:
    """kvm_recalculate_apic_map from ``out:`` on: the inhibits, then the map."""
    return Published(
        present,
        map,
        kvm.kernel.has(Fix.INHIBIT_PHYSICAL_ALIASED) and not present,
        kvm.kernel.has(Fix.INHIBIT_LOGICAL_ALIASED) and (not present or map.logical_mode == MAP_DISABLED),
        kvm.kernel.has(Fix.INHIBIT_ID_MODIFIED) and mismatch,
    )


NO_MAP: Final = ApicMap(255, SW_DISABLED, Table(), Table())


@rule
def add_vcpu(kvm: Kvm, state: Recalculation, index: int) -> Recalculation:
    """kvm_recalculate_apic_map, body of the second pass: one vCPU, unless an earlier one failed."""
    vcpu = kvm.vcpus[index]
    if state.error != 0 or not kvm_apic_present(vcpu):
        return state
    mismatch = state.mismatch or xapic_id_mismatch(vcpu)
    result = kvm_recalculate_phys_map(kvm, state.map, index)
    if result.error != 0:
        return Recalculation(result.error, mismatch, NO_MAP)
    return Recalculation(0, mismatch, kvm_recalculate_logical_map(kvm, result.map, index))


@rule
def kvm_recalculate_apic_map(kvm: Kvm, alloc_fails: bool) -> Published:
    """lapic.c, undisturbed: both passes over the vCPUs, in order. A failed allocation or an aliased
    physical ID leaves no map. Concurrent changes are the model apic-map-life."""
    if alloc_fails:
        return publish(kvm, False, NO_MAP, False)
    state = Recalculation(0, False, ApicMap(max_apic_id(kvm), SW_DISABLED, Table(), Table()))
    for index in range(len(kvm.vcpus)):
        state = add_vcpu(kvm, state, index)
    return publish(kvm, state.error == 0, state.map, state.mismatch)
