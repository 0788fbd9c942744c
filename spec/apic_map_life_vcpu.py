"""The model apic-map-life: a vCPU changes its APIC and recalculates the map (arch/x86/kvm/lapic.c).

The thread is whoever holds the vCPU's mutex: the vCPU as it runs, or its userspace in an ioctl.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from avicheck.spec.apic import ApicMode, Kvm, apic_x2apic_mode
from avicheck.spec.apic_map import E2BIG, kvm_x2apic_id
from avicheck.spec.apic_map_life_state import (
    Arch,
    Changes,
    Count,
    Dirty,
    Handed,
    Ldr,
    LifeFix,
    MapPointer,
    MaxId,
    ModeChanges,
    NewVcpu,
    VcpuIndex,
    clear,
    enter,
    filled,
    kvfree_rcu,
    kvm_of_map,
    registers_of,
    seen,
    vcpu_id_of,
)
from avicheck.spec.cpu import Cpu
from avicheck.spec.kernels import Fix
from avicheck.spec.lang import NULL, at_least, rule
from avicheck.spec.memory import local
from avicheck.spec.threads import Thread


class Change(Enum):
    """What a vCPU, or userspace for it, may do to its APIC."""

    DISABLE = "clear EN in IA32_APIC_BASE"
    XAPIC = "set EN, clear EXTD"
    X2APIC = "set EN and EXTD"
    XAPIC_ID_0 = "write APIC ID 0"
    XAPIC_ID_1 = "write APIC ID 1"
    LDR_1 = "write logical ID 1"
    LDR_2 = "write logical ID 2"
    FLAT = "write DFR: flat"
    CLUSTER = "write DFR: cluster"
    SW_ENABLE = "set the software enable bit in SPIV"
    SW_DISABLE = "clear the software enable bit in SPIV"


MODES: Final[Mapping[Change, ApicMode]] = {
    Change.DISABLE: ApicMode.DISABLED,
    Change.XAPIC: ApicMode.XAPIC,
    Change.X2APIC: ApicMode.X2APIC,
}
XAPIC_IDS: Final[Mapping[Change, int]] = {Change.XAPIC_ID_0: 0, Change.XAPIC_ID_1: 1}
LDRS: Final[Mapping[Change, Ldr]] = {Change.LDR_1: Ldr.ID_1, Change.LDR_2: Ldr.ID_2}
CLUSTER: Final[Mapping[Change, bool]] = {Change.FLAT: False, Change.CLUSTER: True}
SW_ENABLED: Final[Mapping[Change, bool]] = {Change.SW_ENABLE: True, Change.SW_DISABLE: False}

PART_OF: Final[Mapping[Change, frozenset[Changes]]] = {
    **dict.fromkeys(MODES, frozenset({Changes.MODES})),
    **dict.fromkeys(XAPIC_IDS, frozenset({Changes.IDS})),
    **dict.fromkeys(LDRS, frozenset({Changes.LDR, Changes.SPIV})),
    **dict.fromkeys(CLUSTER, frozenset({Changes.LDR})),
    **dict.fromkeys(SW_ENABLED, frozenset({Changes.SPIV})),
}


class Result(Enum):
    """How a recalculation ends."""

    MAP = "a map"
    NO_MEMORY = "the allocation failed"
    ALIASED = "two vCPUs have one physical ID (EINVAL)"
    TOO_BIG = "a vCPU appeared whose ID the map has no room for (E2BIG)"


@local
class Recalculate:
    """The local variables of kvm_recalculate_apic_map; ``online`` is how many vCPUs there were when the loop
    over them began."""

    i: VcpuIndex = 0
    online: Count = 0
    max_id: MaxId = 255
    new: MapPointer = NULL
    old: MapPointer = NULL
    result: Result = Result.MAP


VCPU: Final = Thread("vcpu", Recalculate, count="vcpus", source="lapic.c kvm_recalculate_apic_map")


# A register changes, and the map is marked dirty.


@VCPU.step(
    source="lapic.c __kvm_apic_set_base, kvm_lapic_reg_write",
    coarse="nobody else writes the registers of this vCPU",
)
def change(cpu: Cpu, my: Recalculate, what: Change) -> str:
    """The write itself; of a change of the mode, the first of its writes."""
    lapic = Arch.lapics[cpu.index]
    mode = cpu.load(lapic.mode)
    cpu.wait_until(is_online(cpu) and is_possible(cpu, mode, what))
    begin_change(cpu)
    if what in MODES:
        cpu.store(lapic.mode, MODES[what])
        return after_mode(mode, what)
    if what in XAPIC_IDS:
        cpu.store(lapic.xapic_id, XAPIC_IDS[what])
    elif what in LDRS:
        cpu.store(lapic.ldr, LDRS[what])
    elif what in CLUSTER:
        cpu.store(lapic.cluster, CLUSTER[what])
    else:
        cpu.wait_until(cpu.load(lapic.sw_enabled) != SW_ENABLED[what])
        cpu.store(lapic.sw_enabled, SW_ENABLED[what])
    return "mark_dirty"


def is_online(cpu: Cpu) -> bool:
    """The vCPU is in kvm->vcpus."""
    return cpu.index < cpu.read(Arch.online_vcpus)


def is_possible(cpu: Cpu, mode: ApicMode, what: Change) -> bool:
    """The change is one of those that the model is built with, and the mode allows it: only in xAPIC mode ID,
    LDR and DFR can be written."""
    if not any(cpu.has(changes) for changes in PART_OF[what]):
        return False
    if what in MODES:
        return may_follow(cpu, mode, MODES[what])
    return mode == ApicMode.XAPIC or (what in SW_ENABLED and mode == ApicMode.X2APIC)


def may_follow(cpu: Cpu, was: ApicMode, mode: ApicMode) -> bool:
    """kvm_apic_set_base: whether the mode may become this one, and would not stay the same."""
    if was == mode:
        return False
    if cpu.has(ModeChanges.ANYBODY) or mode == ApicMode.DISABLED:
        return True
    return was == (ApicMode.DISABLED if mode == ApicMode.XAPIC else ApicMode.XAPIC)


def after_mode(was: ApicMode, what: Change) -> str:
    """__kvm_apic_set_base: what else a change of the mode writes."""
    if what == Change.DISABLE:
        return "mark_dirty"
    if what == Change.XAPIC:
        return "set_xapic_id"
    return "mark_enabled" if was == ApicMode.DISABLED else "set_x2apic_id"


def begin_change(cpu: Cpu) -> None:
    """History: the registers are in motion, for whoever sends an interrupt too."""
    cpu.write(Arch.lapics[cpu.index].changing, True)
    for i in range(cpu.scope["senders"]):
        if cpu.read(Arch.readers[i].sending):
            cpu.write(Arch.readers[i].targets[cpu.index].handed, Handed.IN_MOTION)


@VCPU.step(source="lapic.c kvm_apic_set_xapic_id")
def set_xapic_id(cpu: Cpu, my: Recalculate) -> str:
    """Whoever enters xAPIC mode has the APIC ID of the reset, the lowest 8 bits of the vCPU's id."""
    cpu.store(Arch.lapics[cpu.index].xapic_id, vcpu_id_of(cpu.index) & 0xFF)
    return "mark_dirty"


@VCPU.step(source="lapic.c kvm_apic_set_xapic_id")
def mark_enabled(cpu: Cpu, my: Recalculate) -> None:
    """On the way from disabled to x2APIC mode the map is marked twice. What APIC ID is written here counts in
    xAPIC mode only."""
    cpu.smp_store_release(Arch.apic_map_dirty, Dirty.DIRTY)


@VCPU.step(source="lapic.c kvm_apic_set_x2apic_id")
def set_x2apic_id(cpu: Cpu, my: Recalculate) -> None:
    """In x2APIC mode LDR follows from the vCPU's id, which is the APIC ID."""
    cpu.store(Arch.lapics[cpu.index].ldr, Ldr.X2APIC)


@VCPU.step(source="lapic.c atomic_set_release(&apic_map_dirty)")
def mark_dirty(cpu: Cpu, my: Recalculate) -> str:
    """The map is out of date."""
    cpu.smp_store_release(Arch.apic_map_dirty, Dirty.DIRTY)
    return "read_dirty"


# A vCPU is created: it is reset, recalculates, and only then is it there for others.


@VCPU.step(at="change", source="lapic.c kvm_lapic_reset")
def create(cpu: Cpu, my: Recalculate) -> str:
    """Of the reset others see that it marks the map dirty, not what it does to the registers."""
    cpu.wait_until(not is_online(cpu))
    begin_change(cpu)
    return "mark_dirty"


@VCPU.step(source="kvm_main.c kvm_vm_ioctl_create_vcpu")
def go_online(cpu: Cpu, my: Recalculate) -> str:
    """The vCPU is in kvm->vcpus. Nothing marks the map dirty for it, unless userspace does."""
    cpu.smp_mb()
    cpu.write(Arch.online_vcpus, cpu.read(Arch.online_vcpus) + 1)
    return "mark_dirty" if cpu.has(NewVcpu.SET_LAPIC) else end_change(cpu)


def end_change(cpu: Cpu) -> str:
    """Back to the guest or to userspace, which may tell others; a vCPU that is being created goes on."""
    if not is_online(cpu):
        return "go_online"
    cpu.write(Arch.lapics[cpu.index].changing, False)
    return "change"


# kvm_recalculate_apic_map.


@VCPU.step()
def read_dirty(cpu: Cpu, my: Recalculate) -> str:
    """Nothing to do if somebody else has done it."""
    return end_change(cpu) if cpu.smp_load_acquire(Arch.apic_map_dirty) == Dirty.CLEAN else "lock"


@VCPU.step()
def lock(cpu: Cpu, my: Recalculate) -> None:
    """One recalculation at a time."""
    cpu.mutex_lock(Arch.apic_map_lock)


@VCPU.step()
def begin(cpu: Cpu, my: Recalculate) -> str:
    """DIRTY becomes UPDATE_IN_PROGRESS. Here an attempt that had too little room starts again, and keeps its
    max_id."""
    if cpu.has(LifeFix.DIRTY_STATES):
        was = cpu.cmpxchg(Arch.apic_map_dirty, Dirty.DIRTY, Dirty.UPDATE_IN_PROGRESS)
    else:
        was = cpu.load(Arch.apic_map_dirty)
    return "unlock" if was == Dirty.CLEAN else "count_vcpus"


@VCPU.step()
def count_vcpus(cpu: Cpu, my: Recalculate) -> None:
    """kvm_for_each_vcpu reads online_vcpus once."""
    my.online = cpu.read(Arch.online_vcpus)


@VCPU.step()
def find_max_id(cpu: Cpu, my: Recalculate) -> str:
    """First pass, one vCPU a step."""
    if cpu.load(Arch.lapics[my.i].mode) != ApicMode.DISABLED:
        my.max_id = at_least(my.max_id, vcpu_id_of(my.i))
    return next_vcpu(my, "find_max_id", "allocate")


def next_vcpu(my: Recalculate, again: str, then: str) -> str:
    """kvm_for_each_vcpu: on with the next one, or out of the loop."""
    if my.i + 1 == my.online:
        my.i = 0
        return then
    my.i += 1
    return again


@VCPU.step()
def allocate(cpu: Cpu, my: Recalculate, fails: bool) -> str:
    """kvzalloc, where the published map is not; then kvm_for_each_vcpu reads online_vcpus again."""
    my.old = cpu.load(Arch.apic_map)
    if fails:
        my.result = Result.NO_MEMORY
        return "assign_pointer"
    my.new = 1 if my.old == 0 else 0
    cpu.write(Arch.maps[my.new].max_id, my.max_id)
    my.online = cpu.read(Arch.online_vcpus)
    return "fill"


@VCPU.step(coarse="whatever mix of old and new is read of a vCPU, its change marks the map dirty afterwards")
def fill(cpu: Cpu, my: Recalculate) -> str:
    """Second pass, one vCPU a step: kvm_recalculate_phys_map, kvm_recalculate_logical_map."""
    enter(cpu, my.new, my.i, seen(registers_of(cpu, my.i)))
    kvm = kvm_of_map(cpu, my.new)
    if past_the_end(kvm, my.max_id, my.i):
        raise IndexError("phys_map is written past its end")
    error = filled(kvm, my.max_id, my.i + 1).error
    if error == 0:
        return next_vcpu(my, "fill", "assign_pointer")
    clear(cpu, my.new)
    my.new = NULL
    my.i = 0
    if error == E2BIG and cpu.has(LifeFix.RETRY):
        return "begin"
    my.result = Result.TOO_BIG if error == E2BIG else Result.ALIASED
    return "assign_pointer"


@rule
def past_the_end(kvm: Kvm, max_id: int, index: int) -> bool:
    """kvm_recalculate_phys_map: the write to ``phys_map`` is beyond what was allocated."""
    vcpu = kvm.vcpus[index]
    checked = (
        kvm.kernel.has(Fix.PHYS_BOUNDS) or not kvm.kernel.has(Fix.ALIASED_XAPIC_IDS) or kvm.x2apic_format
    )
    return not checked and apic_x2apic_mode(vcpu) and kvm_x2apic_id(vcpu) > max_id


@VCPU.step()
def assign_pointer(cpu: Cpu, my: Recalculate) -> None:
    """rcu_assign_pointer."""
    cpu.write(Arch.no_memory, my.result == Result.NO_MEMORY)
    cpu.store(Arch.apic_map, my.new)


@VCPU.step()
def finish(cpu: Cpu, my: Recalculate) -> None:
    """UPDATE_IN_PROGRESS becomes CLEAN; a DIRTY that came meanwhile stays."""
    if cpu.has(LifeFix.DIRTY_STATES):
        cpu.cmpxchg(Arch.apic_map_dirty, Dirty.UPDATE_IN_PROGRESS, Dirty.CLEAN)
    else:
        cpu.store(Arch.apic_map_dirty, Dirty.CLEAN)


@VCPU.step()
def unlock(cpu: Cpu, my: Recalculate) -> str:
    """The next one may recalculate, and the map that was replaced goes to kvfree_rcu()."""
    cpu.mutex_unlock(Arch.apic_map_lock)
    if my.old != NULL:
        kvfree_rcu(cpu, my.old)
    my.online = 0
    my.max_id = 255
    my.new = NULL
    my.old = NULL
    my.result = Result.MAP
    return end_change(cpu)
