"""The model apic-map-life: the optimized APIC map while its registers change (arch/x86/kvm/lapic.c).

Every vCPU changes its APIC's mode or logical ID (on its own, or its userspace does: any mode may follow
any other), marks the map dirty and recalculates it, again and again. A map is kept as what it was built
from: the registers that the second pass read of each vCPU, and the room that the first pass found
necessary; ``spec.apic_map`` says what the map is. The scope gives ``vcpus``, and two ``maps``: the published
one and the next.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.apic import (
    APIC_DFR_FLAT,
    ApicMode,
    Kvm,
    Vcpu,
    apic_x2apic_mode,
    kvm_apic_calc_x2apic_ldr,
)
from avicheck.spec.apic_map import (
    E2BIG,
    SW_DISABLED,
    ApicMap,
    Published,
    Recalculation,
    add_vcpu,
    kvm_recalculate_apic_map,
    kvm_x2apic_id,
    publish,
)
from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Description, Size
from avicheck.spec.kernels import KERNELS, Fix, Kernel
from avicheck.spec.lang import NULL, IndexOf, Range, Scope, SizedBy, Table, at_least, rule
from avicheck.spec.memory import Array, Reg, Var, local, shared
from avicheck.spec.threads import Model, Thread, World, always, leads_to, never, sometimes


class LifeFix(Enum):
    """Upstream changes that only concurrency shows, by title."""

    DIRTY_STATES = "KVM: LAPIC: ensure APIC map is up to date on concurrent update requests"
    RETRY = "KVM: x86: Retry APIC optimized map recalc if vCPU is added/enabled"


class Setup(Enum):
    """What userspace configured."""

    X2APIC_FORMAT = "32-bit APIC IDs are enabled"
    LARGE_ID = "the id of the last vCPU is 256, not its index"


class Dirty(Enum):
    """``kvm->arch.apic_map_dirty``. Before LifeFix.DIRTY_STATES a bool: UPDATE_IN_PROGRESS is not used."""

    CLEAN = "clean"
    UPDATE_IN_PROGRESS = "update in progress"
    DIRTY = "dirty"


class Result(Enum):
    """How a recalculation ends."""

    MAP = "a map"
    NO_MEMORY = "the allocation failed"
    ALIASED = "two vCPUs have one physical ID (EINVAL)"
    TOO_BIG = "a vCPU appeared whose ID the map has no room for (E2BIG)"


class Change(Enum):
    """What a vCPU, or userspace for it, may do to its APIC."""

    DISABLE = "clear EN in IA32_APIC_BASE"
    XAPIC = "set EN, clear EXTD"
    X2APIC = "set EN and EXTD"
    LDR_1 = "write logical ID 1"
    LDR_2 = "write logical ID 2"


MaxId: TypeAlias = Annotated[int, Range(255, 256)]
LogicalId: TypeAlias = Annotated[int, Range(0, 2)]
MapPointer: TypeAlias = Annotated[int, IndexOf("maps", nullable=True)]
VcpuIndex: TypeAlias = Annotated[int, IndexOf("vcpus")]


@shared
class Registers:
    """The APIC registers of one vCPU."""

    mode: Var[ApicMode]
    ldr: Var[LogicalId]


@shared
class Seen:
    """What a map was built from: one vCPU, as the second pass saw it (DISABLED: not entered)."""

    mode: Reg[ApicMode]
    ldr: Reg[LogicalId]


@shared
class Map:
    """A ``struct kvm_apic_map``: nobody but its builder sees it until it is published, and nobody
    changes it afterwards, so that no store buffer matters."""

    max_id: Reg[MaxId]
    seen: Annotated[Array[Seen], SizedBy("vcpus")]


@shared
class Arch:
    """``kvm->arch``. Two maps exist, the published one and the next; ``no_memory`` remembers how the last
    recalculation ended."""

    apic_map_dirty: Var[Dirty]
    apic_map_lock: Var[bool]
    apic_map: Var[MapPointer]
    lapics: Annotated[Array[Registers], SizedBy("vcpus")]
    maps: Annotated[Array[Map], SizedBy("maps")]
    no_memory: Reg[bool]


@local
class Recalculate:
    """The local variables of kvm_recalculate_apic_map."""

    i: VcpuIndex = 0
    max_id: MaxId = 255
    new: MapPointer = NULL
    result: Result = Result.MAP


VCPU: Final = Thread("vcpu", Recalculate, count="vcpus", source="lapic.c kvm_recalculate_apic_map")


# The specification of the map, for these registers.


@rule
def vcpu_with(mode: ApicMode, logical_id: int, vcpu_id: int) -> Vcpu:
    """A vCPU whose other registers are as after reset, software-enabled."""
    ldr = kvm_apic_calc_x2apic_ldr(vcpu_id) if mode == ApicMode.X2APIC else logical_id << 24
    xapic_id = 0 if mode == ApicMode.X2APIC else vcpu_id & 0xFF
    return Vcpu(vcpu_id, mode, xapic_id, ldr, APIC_DFR_FLAT, True, 0)


def vcpu_id_of(options: frozenset[Enum], index: int, vcpus: int) -> int:
    """The id that userspace gave a vCPU."""
    return 256 if Setup.LARGE_ID in options and index == vcpus - 1 else index


def kvm_with(options: frozenset[Enum], registers: tuple[Registers | Seen, ...]) -> Kvm:
    """A VM with these registers."""
    kernel = Kernel("apic-map-life", frozenset(fix for fix in Fix if fix in options))
    vcpus = tuple(
        vcpu_with(each.mode, each.ldr, vcpu_id_of(options, index, len(registers)))
        for index, each in enumerate(registers)
    )
    return Kvm(kernel, Setup.X2APIC_FORMAT in options, False, True, vcpus)


@rule
def filled(kvm: Kvm, max_id: int, count: int) -> Recalculation:
    """The second pass after ``count`` vCPUs."""
    state = Recalculation(0, False, ApicMap(max_id, SW_DISABLED, Table(), Table()))
    for index in range(count):
        state = add_vcpu(kvm, state, index)
    return state


@rule
def past_the_end(kvm: Kvm, max_id: int, index: int) -> bool:
    """kvm_recalculate_phys_map: the write to ``phys_map`` is beyond what was allocated."""
    vcpu = kvm.vcpus[index]
    checked = (
        kvm.kernel.has(Fix.PHYS_BOUNDS) or not kvm.kernel.has(Fix.ALIASED_XAPIC_IDS) or kvm.x2apic_format
    )
    return not checked and apic_x2apic_mode(vcpu) and kvm_x2apic_id(vcpu) > max_id


# A vCPU: change a register, mark the map dirty, recalculate.


@VCPU.step(source="lapic.c __kvm_apic_set_base, kvm_apic_set_ldr")
def change(cpu: Cpu, my: Recalculate, what: Change) -> None:
    """One register changes."""
    lapic = Arch.lapics[cpu.index]
    if what == Change.DISABLE:
        cpu.store(lapic.mode, ApicMode.DISABLED)
    elif what == Change.XAPIC:
        cpu.store(lapic.mode, ApicMode.XAPIC)
    elif what == Change.X2APIC:
        cpu.store(lapic.mode, ApicMode.X2APIC)
    else:
        cpu.store(lapic.ldr, 1 if what == Change.LDR_1 else 2)


@VCPU.step(source="lapic.c __kvm_apic_set_base, kvm_apic_set_ldr")
def mark_dirty(cpu: Cpu, my: Recalculate) -> None:
    """The map is out of date."""
    cpu.smp_store_release(Arch.apic_map_dirty, Dirty.DIRTY)


@VCPU.step()
def read_dirty(cpu: Cpu, my: Recalculate) -> str:
    """Nothing to do if somebody else has done it."""
    return "change" if cpu.smp_load_acquire(Arch.apic_map_dirty) == Dirty.CLEAN else "lock"


@VCPU.step()
def lock(cpu: Cpu, my: Recalculate) -> None:
    """One recalculation at a time; max_id starts with room for every xAPIC ID."""
    cpu.mutex_lock(Arch.apic_map_lock)
    my.max_id = 255


@VCPU.step()
def begin(cpu: Cpu, my: Recalculate) -> str:
    """DIRTY becomes UPDATE_IN_PROGRESS: also where an attempt that had too little room starts again."""
    if cpu.has(LifeFix.DIRTY_STATES):
        was = cpu.cmpxchg(Arch.apic_map_dirty, Dirty.DIRTY, Dirty.UPDATE_IN_PROGRESS)
    else:
        was = cpu.load(Arch.apic_map_dirty)
    return "unlock" if was == Dirty.CLEAN else "find_max_id"


@VCPU.step()
def find_max_id(cpu: Cpu, my: Recalculate) -> str:
    """First pass, one vCPU a step."""
    vcpus = cpu.scope["vcpus"]
    if cpu.load(Arch.lapics[my.i].mode) != ApicMode.DISABLED:
        my.max_id = at_least(my.max_id, vcpu_id_of(cpu.options, my.i, vcpus))
    return next_vcpu(cpu, my, "find_max_id", "allocate")


def next_vcpu(cpu: Cpu, my: Recalculate, again: str, then: str) -> str:
    """kvm_for_each_vcpu: on with the next one, or out of the loop."""
    if my.i == cpu.scope["vcpus"] - 1:
        my.i = 0
        return then
    my.i += 1
    return again


@VCPU.step()
def allocate(cpu: Cpu, my: Recalculate, fails: bool) -> str:
    """kvzalloc."""
    if fails:
        my.result = Result.NO_MEMORY
        return "assign_pointer"
    my.new = 1 if cpu.load(Arch.apic_map) == 0 else 0
    cpu.write(Arch.maps[my.new].max_id, my.max_id)
    return "fill"


@VCPU.step(coarse="the registers of one vCPU are read without anything between")
def fill(cpu: Cpu, my: Recalculate) -> str:
    """Second pass, one vCPU a step: kvm_recalculate_phys_map, kvm_recalculate_logical_map."""
    lapic = Arch.lapics[my.i]
    see(cpu, my.new, my.i, cpu.load(lapic.mode), cpu.load(lapic.ldr))
    seen = tuple(
        Seen(cpu.read(Arch.maps[my.new].seen[j].mode), cpu.read(Arch.maps[my.new].seen[j].ldr))
        for j in range(cpu.scope["vcpus"])
    )
    kvm = kvm_with(cpu.options, seen)
    if past_the_end(kvm, my.max_id, my.i):
        raise IndexError("phys_map is written past its end")
    error = filled(kvm, my.max_id, my.i + 1).error
    if error == 0:
        return next_vcpu(cpu, my, "fill", "assign_pointer")
    free(cpu, my)
    if error == E2BIG and cpu.has(LifeFix.RETRY):
        return "begin"
    my.result = Result.TOO_BIG if error == E2BIG else Result.ALIASED
    return "assign_pointer"


def see(cpu: Cpu, map: int, vcpu: int, mode: ApicMode, ldr: int) -> None:
    """Note what the map is built from."""
    cpu.write(Arch.maps[map].seen[vcpu].mode, mode)
    cpu.write(Arch.maps[map].seen[vcpu].ldr, ldr if mode == ApicMode.XAPIC else 0)


def free(cpu: Cpu, my: Recalculate) -> None:
    """kvfree(new): back to the zeroes that an allocation starts with."""
    clear(cpu, my.new)
    my.new = NULL
    my.i = 0


def clear(cpu: Cpu, map: int) -> None:
    """An unused map has one state."""
    cpu.write(Arch.maps[map].max_id, 255)
    for j in range(cpu.scope["vcpus"]):
        see(cpu, map, j, ApicMode.DISABLED, 0)


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
    for map in range(cpu.scope["maps"]):
        if map != my.new:
            clear(cpu, map)
    my.new = NULL
    my.max_id = 255
    my.result = Result.MAP


@VCPU.step()
def unlock(cpu: Cpu, my: Recalculate) -> str:
    """The next one may recalculate."""
    cpu.mutex_unlock(Arch.apic_map_lock)
    my.max_id = 255
    return "change"


# What is asked.


NO_ENTRIES: Final = ApicMap(255, SW_DISABLED, Table(), Table())


@rule
def published(world: World[Arch]) -> Published:
    """The map that interrupts are routed by."""
    pointer = world.shared.apic_map
    if pointer == NULL:
        return publish(kvm_with(world.options, world.shared.maps[0].seen), False, NO_ENTRIES, False)
    map = world.shared.maps[pointer]
    kvm = kvm_with(world.options, map.seen)
    state = filled(kvm, map.max_id, len(map.seen))
    return publish(kvm, state.error == 0, state.map, state.mismatch)


@rule
def same_map(a: Published, b: Published, vcpus: int) -> bool:
    """Both are absent, or address the same vCPUs: by the IDs that vCPUs can have here."""
    if not a.present or not b.present:
        return a.present == b.present
    for physical_id in (*range(vcpus), 256):
        if a.map.phys[physical_id] != b.map.phys[physical_id]:
            return False
    for slot in range(2):
        if a.map.logical[slot] != b.map.logical[slot]:
            return False
    return a.map.logical_mode == b.map.logical_mode


def quiescent(world: World[Arch]) -> bool:
    """No vCPU is between a change and the end of its recalculation."""
    return all(vcpu.at("change") and vcpu.drained for vcpu in world.of(VCPU))


def up_to_date(world: World[Arch]) -> bool:
    """Nothing is in flight: the published map is the map of the current registers, or memory was short."""
    if not quiescent(world):
        return True
    wanted = kvm_recalculate_apic_map(kvm_with(world.options, world.shared.lapics), world.shared.no_memory)
    return same_map(published(world), wanted, len(world.shared.lapics))


def dropped_for_room(world: World[Arch]) -> bool:
    """A recalculation is about to leave no map because a vCPU appeared meanwhile."""
    return any(vcpu.my.result == Result.TOO_BIG for vcpu in world.of(VCPU))


def overtaken(world: World[Arch]) -> bool:
    """A vCPU builds the map, and another has marked it dirty since: with LifeFix.DIRTY_STATES that shows."""
    building = any(vcpu.at("find_max_id", "allocate", "fill") for vcpu in world.of(VCPU))
    return building and world.shared.apic_map_dirty == Dirty.DIRTY


def first_is_building(world: World[Arch]) -> bool:
    """vCPU 0 recalculates."""
    return world.of(VCPU)[0].at("begin", "find_max_id", "allocate", "fill")


def first_is_through(world: World[Arch]) -> bool:
    """vCPU 0 publishes, or has nothing to do."""
    return world.of(VCPU)[0].at("assign_pointer", "unlock")


def initial(scope: Scope, options: frozenset[Enum]) -> list[Arch]:
    """Every APIC is disabled, and the map says so."""
    registers = (Registers(ApicMode.DISABLED, 0),) * scope["vcpus"]
    empty = Map(255, (Seen(ApicMode.DISABLED, 0),) * scope["vcpus"])
    return [Arch(Dirty.CLEAN, False, 0, registers, (empty,) * scope["maps"], False)]


APIC_MAP_LIFE: Final = Model(
    "apic-map-life",
    Arch,
    (VCPU,),
    initial,
    (
        always(
            "up-to-date", "With nothing in flight, the published map is that of the registers.", up_to_date
        ),
        never("dropped-for-room", "No map is dropped because a vCPU appears meanwhile.", dropped_for_room),
        sometimes("overtaken", "A register can change during a recalculation.", overtaken),
        leads_to(
            "retries-end",
            "A recalculation comes to its end.",
            first_is_building,
            first_is_through,
            weak=(begin, find_max_id, allocate, fill),
        ),
    ),
)


def options_of(kernel: Kernel) -> frozenset[Enum]:
    """What a kernel contains: LifeFix.DIRTY_STATES is older than all of them, and the retry came with the
    bounds check."""
    retry = {LifeFix.RETRY} if kernel.has(Fix.PHYS_BOUNDS) else set()
    return frozenset({*kernel.fixes, LifeFix.DIRTY_STATES, *retry})


DESCRIPTION: Final = Description(
    model=APIC_MAP_LIFE,
    summary="The optimized APIC map while the registers it is built from change.",
    covers=(
        "kvm_recalculate_apic_map by several vCPUs at once: CLEAN, UPDATE_IN_PROGRESS and DIRTY, the two "
        "passes, retries, a failed allocation",
        "an APIC being enabled, disabled and moved between modes; LDR writes",
    ),
    scope={"vcpus": Size(2, most=3), "maps": Size(2, least=2, most=2)},
    kernels={name: options_of(kernel) for name, kernel in KERNELS.items()},
    kernel="6.19",
    switches=(Fix, LifeFix, Setup),
    interchangeable=("vcpus",),
)
