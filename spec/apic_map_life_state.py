"""The model apic-map-life: what its threads share, and what an APIC map is for these registers.

A map is kept as what it was built from: the registers that the second pass read of each vCPU, and the room
that the first pass found necessary; ``spec.apic_map`` says what the map is. What is called history is held
nowhere in KVM: it remembers for the properties, and no step of KVM depends on it.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.apic import (
    APIC_DFR_CLUSTER,
    APIC_DFR_FLAT,
    ApicMode,
    Kvm,
    Vcpu,
    kvm_apic_calc_x2apic_ldr,
)
from avicheck.spec.apic_map import SW_DISABLED, ApicMap, Recalculation, add_vcpu
from avicheck.spec.cpu import Cpu
from avicheck.spec.kernels import Fix, Kernel
from avicheck.spec.lang import NULL, IndexOf, Range, SizedBy, Table, rule
from avicheck.spec.memory import Array, Reg, Var, shared

# What there is to choose.


class LifeFix(Enum):
    """Upstream changes that only concurrency shows, by title."""

    DIRTY_STATES = "KVM: LAPIC: ensure APIC map is up to date on concurrent update requests"
    RETRY = "KVM: x86: Retry APIC optimized map recalc if vCPU is added/enabled"


class Setup(Enum):
    """What userspace configured."""

    X2APIC_FORMAT = "32-bit APIC IDs are enabled"


class Changes(Enum):
    """Which registers change; the others stay as they are at the start."""

    MODES = "IA32_APIC_BASE: APICs are enabled, disabled and moved between modes"
    IDS = "the APIC ID, in xAPIC mode"
    LDR = "LDR and DFR, in xAPIC mode"
    SPIV = "LDR and the software enable bit of SPIV, in xAPIC mode"


class ModeChanges(Enum):
    """Who moves an APIC between modes."""

    ANYBODY = "userspace too (KVM_SET_SREGS, KVM_SET_MSRS): any mode may follow any other"
    GUEST = "the guest alone: x2APIC mode is entered from xAPIC mode, and left by disabling"


class NewVcpu(Enum):
    """What userspace does with a vCPU that it has created."""

    SET_LAPIC = "it sets the state of the APIC (KVM_SET_LAPIC)"
    NOTHING = "nothing: the APIC is used as the reset left it"


# The state.


class Dirty(Enum):
    """``kvm->arch.apic_map_dirty``. Before LifeFix.DIRTY_STATES a bool: UPDATE_IN_PROGRESS is not used."""

    CLEAN = "clean"
    UPDATE_IN_PROGRESS = "update in progress"
    DIRTY = "dirty"


class Ldr(Enum):
    """The values of LDR: two logical IDs, none, and what x2APIC mode makes of the vCPU's id, which stays
    there when that mode is left."""

    ZERO = "0"
    ID_1 = "logical ID 1"
    ID_2 = "logical ID 2"
    X2APIC = "as in x2APIC mode"


class Handed(Enum):
    """What became of an interrupt at a vCPU."""

    NO = "it is not accepted"
    YES = "it is accepted"
    IN_MOTION = "either would be right: registers of the vCPU were changing at some moment"


VcpuIndex: TypeAlias = Annotated[int, IndexOf("vcpus")]
Count: TypeAlias = Annotated[int, Range(0, 4)]
XapicId: TypeAlias = Annotated[int, Range(0, 3)]
MaxId: TypeAlias = Annotated[int, Range(255, 259)]
MapPointer: TypeAlias = Annotated[int, IndexOf("maps", nullable=True)]


@shared
class Lapic:
    """The APIC registers of one vCPU. History: whether one is ``changing``, which it is from the write to the
    end of the recalculation that follows."""

    mode: Var[ApicMode]
    xapic_id: Var[XapicId]
    ldr: Var[Ldr]
    cluster: Var[bool]
    sw_enabled: Var[bool]
    changing: Reg[bool]


@shared
class Registers:
    """The registers of one vCPU as somebody saw them; DISABLED for a vCPU that is not there."""

    mode: Reg[ApicMode]
    xapic_id: Reg[XapicId]
    ldr: Reg[Ldr]
    cluster: Reg[bool]
    sw_enabled: Reg[bool]


@shared
class Map:
    """A ``struct kvm_apic_map``: nobody but its builder sees it until it is published, and nobody changes it
    afterwards, so that no store buffer matters."""

    max_id: Reg[MaxId]
    seen: Annotated[Array[Registers], SizedBy("vcpus")]


@shared
class Target:
    """A vCPU, for a sender. History: what becomes of the interrupt there."""

    handed: Reg[Handed]


@shared
class Reader:
    """A sender. ``in_section``: between rcu_read_lock() and rcu_read_unlock(). ``map``: the one in use, until
    it is replaced; then its memory waits for the end of the section (``retired``), or was freed in use
    (``dangling``). History: whether an interrupt is on its way (``sending``)."""

    in_section: Reg[bool]
    map: Reg[MapPointer]
    retired: Reg[bool]
    dangling: Reg[bool]
    sending: Reg[bool]
    targets: Annotated[Array[Target], SizedBy("vcpus")]


@shared
class Arch:
    """``kvm->arch``. ``online_vcpus`` changes by atomic_inc() alone, so that no store buffer matters. There
    are two maps, the published one and the next. History: whether there was ``no_memory`` for the last."""

    apic_map_dirty: Var[Dirty]
    apic_map_lock: Var[bool]
    apic_map: Var[MapPointer]
    online_vcpus: Reg[Count]
    lapics: Annotated[Array[Lapic], SizedBy("vcpus")]
    maps: Annotated[Array[Map], SizedBy("maps")]
    readers: Annotated[Array[Reader], SizedBy("senders")]
    no_memory: Reg[bool]


NOT_THERE: Final = Registers(ApicMode.DISABLED, 0, Ldr.ZERO, False, False)
"""A vCPU that no map knows."""


@rule
def seen(registers: Registers) -> Registers:
    """Registers, without those that no map depends on in this mode."""
    if registers.mode == ApicMode.DISABLED:
        return NOT_THERE
    if registers.mode == ApicMode.X2APIC:
        ldr = Ldr.ZERO if registers.ldr == Ldr.ZERO else Ldr.X2APIC
        return Registers(registers.mode, 0, ldr, False, registers.sw_enabled)
    return registers


# The specification of the map, for these registers.


def vcpu_id_of(index: int) -> int:
    """The id that userspace gave a vCPU: only the first one's is below 256."""
    return 0 if index == 0 else 256 + index


@rule
def ldr_of(ldr: Ldr, vcpu_id: int) -> int:
    """The value of the register."""
    if ldr == Ldr.X2APIC:
        return kvm_apic_calc_x2apic_ldr(vcpu_id)
    if ldr == Ldr.ZERO:
        return 0
    return (1 if ldr == Ldr.ID_1 else 2) << 24


@rule
def vcpu_with(registers: Registers, vcpu_id: int) -> Vcpu:
    """A vCPU with these registers."""
    dfr = APIC_DFR_CLUSTER if registers.cluster else APIC_DFR_FLAT
    ldr = ldr_of(registers.ldr, vcpu_id)
    return Vcpu(vcpu_id, registers.mode, registers.xapic_id, ldr, dfr, registers.sw_enabled, 0)


def kvm_of(options: frozenset[Enum], vcpus: tuple[Vcpu, ...]) -> Kvm:
    """A VM of these vCPUs."""
    kernel = Kernel("apic-map-life", frozenset(fix for fix in Fix if fix in options))
    return Kvm(kernel, Setup.X2APIC_FORMAT in options, False, True, vcpus)


def kvm_with(options: frozenset[Enum], registers: tuple[Registers, ...]) -> Kvm:
    """A VM of vCPUs with these registers."""
    return kvm_of(options, tuple(vcpu_with(each, vcpu_id_of(index)) for index, each in enumerate(registers)))


@rule
def filled(kvm: Kvm, max_id: int, count: int) -> Recalculation:
    """The second pass after ``count`` vCPUs."""
    state = Recalculation(0, False, ApicMap(max_id, SW_DISABLED, Table(), Table()))
    for index in range(count):
        state = add_vcpu(kvm, state, index)
    return state


# How threads look at it.


def registers_of(cpu: Cpu, index: int) -> Registers:
    """The registers of a vCPU, as this thread finds them in memory."""
    at = Arch.lapics[index]
    return Registers(
        cpu.load(at.mode),
        cpu.load(at.xapic_id),
        cpu.load(at.ldr),
        cpu.load(at.cluster),
        cpu.load(at.sw_enabled),
    )


def enter(cpu: Cpu, map: int, index: int, registers: Registers) -> None:
    """A map is built from these registers of a vCPU."""
    at = Arch.maps[map].seen[index]
    cpu.write(at.mode, registers.mode)
    cpu.write(at.xapic_id, registers.xapic_id)
    cpu.write(at.ldr, registers.ldr)
    cpu.write(at.cluster, registers.cluster)
    cpu.write(at.sw_enabled, registers.sw_enabled)


def kvm_of_map(cpu: Cpu, map: int) -> Kvm:
    """The VM that a map is built from."""
    found = tuple(
        Registers(
            cpu.read(at.mode),
            cpu.read(at.xapic_id),
            cpu.read(at.ldr),
            cpu.read(at.cluster),
            cpu.read(at.sw_enabled),
        )
        for at in (Arch.maps[map].seen[index] for index in range(cpu.scope["vcpus"]))
    )
    return kvm_with(cpu.options, found)


def clear(cpu: Cpu, map: int) -> None:
    """Memory that is no map has one state: the zeroes that an allocation starts with."""
    cpu.write(Arch.maps[map].max_id, 255)
    for index in range(cpu.scope["vcpus"]):
        enter(cpu, map, index, NOT_THERE)


# RCU.


def kvfree(cpu: Cpu, map: int) -> None:
    """Free a map: whoever uses it uses something else from now on."""
    clear(cpu, map)
    for index in range(cpu.scope["senders"]):
        part(cpu, Arch.readers[index], map, freed=True)


def kvfree_rcu(cpu: Cpu, map: int) -> None:
    """Free a map that nobody can find any more, as soon as the sections that are open have ended. That waits
    for all of them; only of those that use the map anybody could notice."""
    clear(cpu, map)
    for index in range(cpu.scope["senders"]):
        reader = Arch.readers[index]
        part(cpu, reader, map, freed=not cpu.read(reader.in_section))


def part(cpu: Cpu, reader: type[Reader], map: int, *, freed: bool) -> None:
    """What it means for a sender that a map is replaced."""
    if cpu.read(reader.map) == map:
        cpu.write(reader.map, NULL)
        cpu.write(reader.dangling if freed else reader.retired, True)


def rcu_read_lock(cpu: Cpu) -> None:
    """A section begins."""
    cpu.write(Arch.readers[cpu.index].in_section, True)


def rcu_read_unlock(cpu: Cpu) -> None:
    """A section ends; the map that was used in it is used no more."""
    reader = Arch.readers[cpu.index]
    cpu.write(reader.in_section, False)
    cpu.write(reader.map, NULL)
    cpu.write(reader.retired, False)
    cpu.write(reader.dangling, False)
