"""The model apic-map-life: the optimized APIC map while the registers it is built from change.

Each vCPU changes its APIC (on its own, or its userspace does), marks the map dirty and recalculates it, again
and again; the last vCPU may be created meanwhile (``apic_map_life_vcpu``). Senders route interrupts through
the map (``apic_map_life_sender``). What they share is in ``apic_map_life_state``. Here is what is asked:

**up-to-date**: with no change under way, the published map is the map of the registers.

**map-right**: at every moment the published map is the map of the registers as they would be if each change
under way had either not begun or got as far as it has. Such changes overlap, so nobody can tell in which
order they happen. A sender that dereferences the map gets one that is right at that moment: it knows of every
change that came to its end before, which are all those that anybody can have told the sender of. What is
looked at are the vCPUs at rest: their entries must be their registers. That is enough, for if the entry of a
vCPU in motion were older than its last finished change, the run would be wrong too in which the new one does
not begin.

**routed-right**: the same for what becomes of an interrupt, with a map or without. Every vCPU whose registers
are at rest while it is routed accepts it exactly if they say so.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.apic import ApicMode, Kvm
from avicheck.spec.apic_map import (
    SW_DISABLED,
    ApicMap,
    Published,
    kvm_recalculate_apic_map,
    publish,
)
from avicheck.spec.apic_map_life_sender import SENDER, Send, irq_to
from avicheck.spec.apic_map_life_state import (
    NOT_THERE,
    Arch,
    Changes,
    Dirty,
    Handed,
    Lapic,
    Ldr,
    LifeFix,
    Map,
    ModeChanges,
    NewVcpu,
    Reader,
    Registers,
    Setup,
    Target,
    filled,
    kvm_with,
    seen,
    vcpu_id_of,
)
from avicheck.spec.apic_map_life_vcpu import (
    VCPU,
    Recalculate,
    Result,
    allocate,
    begin,
    count_vcpus,
    fill,
    find_max_id,
)
from avicheck.spec.apic_route import accepts, is_recipient
from avicheck.spec.description import Assumption, Description, Size
from avicheck.spec.kernels import KERNELS, Fix, Kernel
from avicheck.spec.lang import NULL, Scope, Table, rule
from avicheck.spec.threads import Model, ThreadState, World, always, leads_to, never, sometimes

NO_ENTRIES: Final = ApicMap(255, SW_DISABLED, Table(), Table())
LOGICAL_SLOTS: Final = 2
"""The slots of the logical map that the logical IDs of this model have."""


def registers(world: World[Arch], index: int) -> Registers:
    """The registers of a vCPU that memory holds."""
    if index >= world.shared.online_vcpus:
        return NOT_THERE
    lapic = world.shared.lapics[index]
    return Registers(lapic.mode, lapic.xapic_id, lapic.ldr, lapic.cluster, lapic.sw_enabled)


@rule
def now(world: World[Arch]) -> Kvm:
    """The VM with the registers that memory holds."""
    return kvm_with(world.options, tuple(registers(world, index) for index in range(vcpus_of(world))))


def vcpus_of(world: World[Arch]) -> int:
    """The vCPUs of the scope."""
    return len(world.shared.lapics)


# The published map.


@rule
def published(world: World[Arch]) -> Published:
    """The map that interrupts are routed by."""
    pointer = world.shared.apic_map
    if pointer == NULL:
        return publish(now(world), False, NO_ENTRIES, False)
    map = world.shared.maps[pointer]
    kvm = kvm_with(world.options, map.seen)
    state = filled(kvm, map.max_id, len(map.seen))
    return publish(kvm, state.error == 0, state.map, state.mismatch)


@rule
def same_map(a: Published, b: Published, vcpus: int) -> bool:
    """Both are absent, or address the same vCPUs: by the IDs that vCPUs can have here."""
    if not a.present or not b.present:
        return a.present == b.present
    for index in range(vcpus):
        for physical_id in (vcpu_id_of(index), vcpu_id_of(index) & 0xFF):
            if a.map.phys[physical_id] != b.map.phys[physical_id]:
                return False
    for slot in range(LOGICAL_SLOTS):
        if a.map.logical[slot] != b.map.logical[slot]:
            return False
    return a.map.logical_mode == b.map.logical_mode


def up_to_date(world: World[Arch]) -> bool:
    """No change is under way: the published map is the map of the registers, unless memory was short."""
    if any(lapic.changing for lapic in world.shared.lapics):
        return True
    wanted = kvm_recalculate_apic_map(now(world), world.shared.no_memory)
    return same_map(published(world), wanted, vcpus_of(world))


def finished_in_memory(world: World[Arch]) -> bool:
    """What a vCPU at rest has written is in memory."""
    return all(vcpu.drained or world.shared.lapics[vcpu.index].changing for vcpu in world.of(VCPU))


def entries_right(world: World[Arch]) -> bool:
    """The published map is built from the registers of each vCPU at rest, and has room for all."""
    return world.shared.apic_map == NULL or all(entry_right(world, index) for index in range(vcpus_of(world)))


@rule
def entry_right(world: World[Arch], index: int) -> bool:
    """See ``entries_right``, for one vCPU."""
    map, lapic = world.shared.maps[world.shared.apic_map], world.shared.lapics[index]
    if map.seen[index].mode != ApicMode.DISABLED and vcpu_id_of(index) > map.max_id:
        return False
    return lapic.changing or map.seen[index] == seen(registers(world, index))


# An interrupt.


def routings_right(world: World[Arch]) -> bool:
    """Every vCPU at rest has accepted an interrupt that was routed exactly if its registers say so."""
    return all(routing_right(world, sender) for sender in world.of(SENDER))


@rule
def routing_right(world: World[Arch], sender: ThreadState[Send]) -> bool:
    """See ``routings_right``, for one sender."""
    if not sender.at("sent"):
        return True
    kvm, irq = now(world), irq_to(sender.my.to, vcpus_of(world))
    for index, target in enumerate(world.shared.readers[sender.index].targets):
        due = is_recipient(kvm, index, NULL, irq) and accepts(kvm, index, irq)
        if target.handed == (Handed.NO if due else Handed.YES):
            return False
    return True


def freed_map_is_used(world: World[Arch]) -> bool:
    """A sender is about to look into a map that was freed."""
    return any(sender.at("deliver") and reader(world, sender).dangling for sender in world.of(SENDER))


def replaced_map_is_used(world: World[Arch]) -> bool:
    """A sender is about to look into a map that was replaced."""
    return any(sender.at("deliver") and reader(world, sender).retired for sender in world.of(SENDER))


def reader(world: World[Arch], sender: ThreadState[Send]) -> Reader:
    """What is shared of a sender."""
    return world.shared.readers[sender.index]


def loop_is_used(world: World[Arch]) -> bool:
    """A sender looks at every vCPU instead."""
    return any(sender.at("match") for sender in world.of(SENDER))


# A recalculation.


def dropped_for_room(world: World[Arch]) -> bool:
    """A recalculation is about to leave no map because a vCPU appeared meanwhile."""
    return any(vcpu.my.result == Result.TOO_BIG for vcpu in world.of(VCPU))


def overtaken(world: World[Arch]) -> bool:
    """A vCPU builds the map, and another has marked it dirty since: with LifeFix.DIRTY_STATES that shows."""
    building = any(vcpu.at("count_vcpus", "find_max_id", "allocate", "fill") for vcpu in world.of(VCPU))
    return building and world.shared.apic_map_dirty == Dirty.DIRTY


def outgrown(world: World[Arch]) -> bool:
    """The second pass is about to meet a vCPU that the first did not see, whose ID there is no room for."""
    return any(meets_newcomer(world, vcpu) for vcpu in world.of(VCPU))


@rule
def meets_newcomer(world: World[Arch], vcpu: ThreadState[Recalculate]) -> bool:
    """See ``outgrown``, for one vCPU that recalculates."""
    there = registers(world, vcpu.my.i).mode != ApicMode.DISABLED
    return vcpu.at("fill") and there and vcpu_id_of(vcpu.my.i) > vcpu.my.max_id


def first_is_building(world: World[Arch]) -> bool:
    """vCPU 0 recalculates."""
    return world.of(VCPU)[0].at("begin", "count_vcpus", "find_max_id", "allocate", "fill")


def first_is_through(world: World[Arch]) -> bool:
    """vCPU 0 publishes, or has nothing to do."""
    return world.of(VCPU)[0].at("assign_pointer", "unlock")


# The start.


def initial(scope: Scope, options: frozenset[Enum]) -> list[Arch]:
    """With the last vCPU, or without it if there are others. Every APIC is disabled where modes change, else
    in xAPIC mode; the software enable bit is clear where that changes. The map is that of the registers."""
    vcpus = scope["vcpus"]
    return [start(scope, options, online) for online in (vcpus, *([vcpus - 1] if vcpus > 1 else []))]


def start(scope: Scope, options: frozenset[Enum], online: int) -> Arch:
    """A VM in which so many vCPUs exist."""
    vcpus = range(scope["vcpus"])
    modes = Changes.MODES in options
    enabled = Changes.SPIV not in options
    lapics = tuple(
        Lapic(
            ApicMode.DISABLED if modes and index < online else ApicMode.XAPIC,
            vcpu_id_of(index) & 0xFF,
            Ldr.ZERO,
            False,
            enabled,
            False,
        )
        for index in vcpus
    )
    nobody = Map(255, (NOT_THERE,) * len(vcpus))
    first = nobody if modes else map_of(lapics[:online], len(vcpus))
    sender = Reader(False, NULL, False, False, False, (Target(Handed.NO),) * len(vcpus))
    return Arch(Dirty.CLEAN, False, 0, online, lapics, (first, nobody), (sender,) * scope["senders"], False)


def map_of(lapics: tuple[Lapic, ...], vcpus: int) -> Map:
    """The map of vCPUs with these registers, which are all in xAPIC mode."""
    entries = tuple(
        Registers(each.mode, each.xapic_id, each.ldr, each.cluster, each.sw_enabled) for each in lapics
    )
    max_id = max(255, vcpu_id_of(len(entries) - 1))
    return Map(max_id, entries + (NOT_THERE,) * (vcpus - len(entries)))


APIC_MAP_LIFE: Final = Model(
    "apic-map-life",
    Arch,
    (VCPU, SENDER),
    initial,
    (
        always(
            "up-to-date", "With no change under way, the published map is that of the registers.", up_to_date
        ),
        always(
            "map-right",
            "The published map is that of the registers, whatever part it has seen of the changes under way.",
            finished_in_memory,
            entries_right,
        ),
        always(
            "routed-right",
            "Of the vCPUs whose registers are at rest meanwhile, those accept an interrupt that it is for.",
            routings_right,
        ),
        never("use-after-free", "No map is used after it was freed.", freed_map_is_used),
        never("dropped-for-room", "No map is dropped because a vCPU appears meanwhile.", dropped_for_room),
        sometimes("overtaken", "A register can change during a recalculation.", overtaken),
        sometimes("outgrown", "A vCPU can appear between the passes that there is no room for.", outgrown),
        sometimes("replaced-in-use", "A map can be replaced while a sender uses it.", replaced_map_is_used),
        sometimes("without-map", "An interrupt can find no map to be routed by.", loop_is_used),
        leads_to(
            "retries-end",
            "A recalculation comes to its end.",
            first_is_building,
            first_is_through,
            weak=(begin, count_vcpus, find_max_id, allocate, fill),
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
        "passes, retries, a failed allocation at any attempt, publication and RCU",
        "a vCPU being created, enabled, disabled and moved between modes; writes of ID, LDR, DFR and SPIV",
        "an interrupt routed meanwhile, through the map or by the loop over the vCPUs",
    ),
    scope={
        "vcpus": Size(2, least=1, most=4),
        "senders": Size(1, least=1, most=2),
        "maps": Size(2, least=2, most=2),
    },
    kernels={name: options_of(kernel) for name, kernel in KERNELS.items()},
    kernel="6.19",
    switches=(Fix, LifeFix, Setup),
    assumptions=(Assumption(Changes), Assumption(ModeChanges), Assumption(NewVcpu, "kvm_main.c")),
)
