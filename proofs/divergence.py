"""Why delivery through the map and the loop over all vCPUs can differ: the divergence classes.

A vCPU *diverges* on a request if one path makes it accept the interrupt and the other does not.
Each class is a predicate over the configuration, the request and one vCPU; none of them asks
what either path delivers. The theorem is that every divergent vCPU is in a class, and
that every class has divergent vCPUs that are in no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from avicheck.spec.apic import (
    APIC_BROADCAST,
    APIC_DFR_CLUSTER,
    APIC_DFR_FLAT,
    X2APIC_BROADCAST,
    ApicMode,
    DeliveryMode,
    DestMode,
    Irq,
    Kvm,
    Vcpu,
    apic_x2apic_mode,
    kvm_apic_compare_prio,
    kvm_apic_present,
    kvm_lowest_prio_delivery,
)
from avicheck.spec.apic_map import X2APIC, XAPIC_CLUSTER, ApicMap, kvm_apic_map_get_logical_dest, logical_mode
from avicheck.spec.apic_map_model import Case, Outcome
from avicheck.spec.apic_route import Dest, is_candidate, slot
from avicheck.spec.kernels import Fix, Kernel
from avicheck.spec.lang import NULL, rule

Predicate: TypeAlias = Callable[[Case, ApicMap, int], bool]
"""Over a case, the map that KVM builds from its configuration, and a vCPU's index."""


@dataclass(frozen=True)
class DivergenceClass:
    """A reason to diverge. ``documented`` says where KVM calls it intended, if it does; ``until`` and
    ``since`` name the fix that ended it and the one that brought it."""

    name: str
    predicate: Predicate
    sentence: str
    mechanism: str
    documented: str = ""
    until: Fix | None = None
    since: Fix | None = None

    def occurs_on(self, kernel: Kernel) -> bool:
        """Whether the kernel has the code that makes it possible."""
        ended = self.until is not None and kernel.has(self.until)
        return not ended and (self.since is None or kernel.has(self.since))


@rule
def effective_id(vcpu: Vcpu) -> int:
    """The ID that an APIC answers to in physical mode."""
    return vcpu.vcpu_id if apic_x2apic_mode(vcpu) else vcpu.xapic_id


@rule
def answers_to(vcpu: Vcpu, dest_id: int) -> bool:
    """An enabled APIC whose effective ID is ``dest_id``."""
    return kvm_apic_present(vcpu) and effective_id(vcpu) == dest_id


@rule
def in_xapic_mode(vcpu: Vcpu) -> bool:
    """Enabled, and not in x2APIC mode."""
    return vcpu.mode == ApicMode.XAPIC


@rule
def enters_xapic_logical(vcpu: Vcpu) -> bool:
    """An APIC that the map enters under an xAPIC logical ID."""
    return in_xapic_mode(vcpu) and vcpu.sw_enabled


@rule
def has_odd_dfr(vcpu: Vcpu) -> bool:
    """In xAPIC mode with a DFR that is neither flat nor cluster."""
    return in_xapic_mode(vcpu) and vcpu.dfr != APIC_DFR_FLAT and vcpu.dfr != APIC_DFR_CLUSTER


@rule
def is_sw_disabled(vcpu: Vcpu) -> bool:
    """APIC_SPIV bit 8 is clear."""
    return not vcpu.sw_enabled


@rule
def has_hotplug_hack(kvm: Kvm) -> bool:
    """The map applies the hotplug hack: 32-bit IDs enabled, or a kernel that always applies it."""
    return kvm.x2apic_format or not kvm.kernel.has(Fix.ALIASED_XAPIC_IDS)


# Physical destinations.


@rule
def aliased_apic_id(case: Case, map: ApicMap, i: int) -> bool:
    """Physical, under the hotplug hack, and several enabled APICs answer to the destination."""
    count = 0
    for vcpu in case.kvm.vcpus:
        count += answers_to(vcpu, case.irq.dest_id)
    return case.irq.dest_mode == DestMode.PHYSICAL and has_hotplug_hack(case.kvm) and count > 1


@rule
def xapic_by_x2apic_id(case: Case, map: ApicMap, i: int) -> bool:
    """Physical, without the hotplug hack, to the x2APIC ID, above 0xff, of this vCPU in xAPIC mode."""
    vcpu = case.kvm.vcpus[i]
    addressed = case.irq.dest_mode == DestMode.PHYSICAL and case.irq.dest_id == vcpu.vcpu_id
    return addressed and vcpu.vcpu_id > 0xFF and in_xapic_mode(vcpu) and not has_hotplug_hack(case.kvm)


# Broadcasts.


@rule
def xapic_broadcast(case: Case, map: ApicMap, i: int) -> bool:
    """Destination 0xff, and some enabled APIC is in xAPIC mode."""
    some = False
    for vcpu in case.kvm.vcpus:
        some |= in_xapic_mode(vcpu)
    return case.irq.dest_id == APIC_BROADCAST and some


@rule
def x2apic_broadcast(case: Case, map: ApicMap, i: int) -> bool:
    """Destination 0xffffffff, and this vCPU is in x2APIC mode."""
    return case.irq.dest_id == X2APIC_BROADCAST and apic_x2apic_mode(case.kvm.vcpus[i])


@rule
def broadcast_made_fixed(case: Case, map: ApicMap, i: int) -> bool:
    """The redirection hint to physical 0xff with a delivery mode that is neither FIXED nor LOWEST."""
    irq = case.irq
    to_all = irq.dest_mode == DestMode.PHYSICAL and irq.dest_id == APIC_BROADCAST and irq.msi_redir_hint
    return to_all and irq.delivery_mode != DeliveryMode.FIXED and irq.delivery_mode != DeliveryMode.LOWEST


# Logical destinations.


@rule
def addressed_slots(case: Case, map: ApicMap) -> Dest:
    """The slots that a logical destination addresses, before one of them is picked."""
    window = kvm_apic_map_get_logical_dest(case.kvm, map, case.irq.dest_id)
    return Dest(window.handled, map.logical_mode == X2APIC, window.base, window.mask)


@rule
def owner_is(case: Case, map: ApicMap, dest: Dest, bit: int, test: Callable[[Vcpu], bool]) -> bool:
    """One addressed slot has an owner that passes the test."""
    index = slot(map, dest, bit)
    return index != NULL and test(case.kvm.vcpus[index])


@rule
def some_owner(case: Case, map: ApicMap, test: Callable[[Vcpu], bool]) -> bool:
    """Logical, and some addressed slot has an owner that passes the test."""
    dest, found = addressed_slots(case, map), False
    for bit in range(16):
        found |= owner_is(case, map, dest, bit, test)
    return case.irq.dest_mode == DestMode.LOGICAL and found


@rule
def software_disabled(case: Case, map: ApicMap, i: int) -> bool:
    """Logical, not lowest priority, and this vCPU is software-disabled."""
    logical = case.irq.dest_mode == DestMode.LOGICAL and not kvm_lowest_prio_delivery(case.irq)
    return logical and not case.kvm.vcpus[i].sw_enabled


@rule
def x2apic_cluster_owned_by_xapic(case: Case, map: ApicMap, i: int) -> bool:
    """Logical, the map in x2APIC mode, and an addressed slot is owned by a vCPU in xAPIC mode."""
    return map.logical_mode == X2APIC and some_owner(case, map, in_xapic_mode)


@rule
def cluster_truncated(case: Case, map: ApicMap, i: int) -> bool:
    """Logical to more than 8 bits, the map in xAPIC cluster mode."""
    logical = case.irq.dest_mode == DestMode.LOGICAL and map.logical_mode == XAPIC_CLUSTER
    return logical and case.irq.dest_id > 0xFF


@rule
def odd_dfr(case: Case, map: ApicMap, i: int) -> bool:
    """Logical, and an addressed slot is owned by a vCPU whose DFR is neither flat nor cluster."""
    return some_owner(case, map, has_odd_dfr)


@rule
def logical_bits(vcpu: Vcpu) -> int:
    """The part of an xAPIC logical ID that names vCPUs: 8 bits, or 4 in cluster mode."""
    return (vcpu.ldr >> 24) & (0xF if logical_mode(vcpu) == XAPIC_CLUSTER else 0xFF)


@rule
def covers_several(vcpu: Vcpu) -> bool:
    """Entered under an xAPIC logical ID of more than one bit."""
    return enters_xapic_logical(vcpu) and logical_bits(vcpu).bit_count() > 1


@rule
def multi_bit_logical_id(case: Case, map: ApicMap, i: int) -> bool:
    """Logical, a kernel that enters only the lowest bit, and some logical ID has several."""
    some = False
    for vcpu in case.kvm.vcpus:
        some |= covers_several(vcpu)
    return case.irq.dest_mode == DestMode.LOGICAL and not case.kvm.kernel.has(Fix.LOGICAL_MULTI_MDA) and some


@rule
def shares_logical_id(a: Vcpu, b: Vcpu) -> bool:
    """Both entered under an xAPIC logical ID, in one cluster, with a bit in common."""
    both = enters_xapic_logical(a) and enters_xapic_logical(b)
    same = logical_mode(a) != XAPIC_CLUSTER or a.ldr >> 28 == b.ldr >> 28
    return both and same and logical_bits(a) & logical_bits(b) != 0


@rule
def aliased_logical_id(case: Case, map: ApicMap, i: int) -> bool:
    """Logical, a kernel that lets the last one win, and two vCPUs share a logical ID."""
    vcpus, some = case.kvm.vcpus, False
    for j in range(len(vcpus)):
        for k in range(j):
            some |= shares_logical_id(vcpus[j], vcpus[k])
    return case.irq.dest_mode == DestMode.LOGICAL and not case.kvm.kernel.has(Fix.LOGICAL_ALIASED) and some


# Lowest priority.


@rule
def hint_to_software_disabled(case: Case, map: ApicMap, i: int) -> bool:
    """The redirection hint, and this vCPU is software-disabled."""
    return case.irq.msi_redir_hint and not case.kvm.vcpus[i].sw_enabled


@rule
def picks_one(irq: Irq) -> bool:
    """Lowest priority to a logical destination."""
    return irq.dest_mode == DestMode.LOGICAL and kvm_lowest_prio_delivery(irq)


@rule
def candidates(case: Case) -> int:
    """The vCPUs among which the loop picks, as a mask."""
    mask = 0
    for i in range(len(case.kvm.vcpus)):
        mask |= is_candidate(case.kvm, i, case.src, case.irq) << i
    return mask


@rule
def hashing_counts_bits(case: Case, map: ApicMap, i: int) -> bool:
    """One is picked by hashing, and the destination has another number of bits than candidates."""
    bits = addressed_slots(case, map).mask.bit_count()
    return picks_one(case.irq) and case.kvm.vector_hashing and bits != candidates(case).bit_count()


@rule
def next_in_order(case: Case, map: ApicMap, dest: Dest, last: int, bit: int) -> int:
    """The owner of a slot if it comes after ``last`` in the vCPU list; past the list's end if not."""
    index = slot(map, dest, bit)
    if index == NULL:
        return last
    return index if index > last else len(case.kvm.vcpus)


@rule
def owners_out_of_order(case: Case, map: ApicMap) -> bool:
    """The owners of the addressed slots are not in the order of the vCPU list."""
    dest, last = addressed_slots(case, map), NULL
    for bit in range(16):
        last = next_in_order(case, map, dest, last, bit)
    return last == len(case.kvm.vcpus)


@rule
def hashing_order(case: Case, map: ApicMap, i: int) -> bool:
    """One is picked by hashing, and slot order is not creation order."""
    return picks_one(case.irq) and case.kvm.vector_hashing and owners_out_of_order(case, map)


@rule
def beats(case: Case, i: int, j: int) -> bool:
    """Vcpu i has the strictly smaller arbitration priority, read either way round; or j does not compete."""
    if i == j or not is_candidate(case.kvm, j, case.src, case.irq):
        return True
    a, b = case.kvm.vcpus[i], case.kvm.vcpus[j]
    return kvm_apic_compare_prio(a, b) < 0 and kvm_apic_compare_prio(b, a) > 0


@rule
def beats_all(case: Case, i: int) -> bool:
    """Vcpu i competes and beats every other candidate."""
    first = is_candidate(case.kvm, i, case.src, case.irq)
    for j in range(len(case.kvm.vcpus)):
        first &= beats(case, i, j)
    return first


@rule
def priority_tie(case: Case, map: ApicMap, i: int) -> bool:
    """One is picked by priority, nobody has strictly the smallest, and slot order is not creation order."""
    winner = False
    for j in range(len(case.kvm.vcpus)):
        winner |= beats_all(case, j)
    picked = picks_one(case.irq) and not case.kvm.vector_hashing
    return picked and not winner and owners_out_of_order(case, map)


@rule
def software_disabled_competes(case: Case, map: ApicMap, i: int) -> bool:
    """One is picked by priority, and an addressed slot is owned by a software-disabled vCPU."""
    picked = picks_one(case.irq) and not case.kvm.vector_hashing
    return picked and some_owner(case, map, is_sw_disabled)


CLASSES: Final = (
    DivergenceClass(
        "aliased-apic-id",
        aliased_apic_id,
        "Several enabled APICs answer to a physical destination, and the map knows one owner.",
        "Under the hotplug hack the map gives an aliased ID to one vCPU: to the one in x2APIC mode, else "
        "to the first one created. The loop delivers to every APIC that answers to the ID (or arbitrates "
        "among them).",
        "errata.rst, x2APIC: with 32-bit IDs only one vCPU gets it; the text says the one with the lowest "
        "vCPU ID, the code picks by mode and creation order. Not documented where format is off (6.1).",
    ),
    DivergenceClass(
        "xapic-by-x2apic-id",
        xapic_by_x2apic_id,
        "A vCPU in xAPIC mode is addressed by its x2APIC ID above 0xff while 32-bit IDs are off.",
        "The loop lets an xAPIC answer to a destination that does not fit 8 bits. Without the hotplug hack"
        " the map enters such a vCPU under its xAPIC ID alone, so the map drops the interrupt.",
        since=Fix.ALIASED_XAPIC_IDS,
    ),
    DivergenceClass(
        "xapic-broadcast",
        xapic_broadcast,
        "Destination 0xff reaches the map, and some APIC in xAPIC mode takes it for a broadcast.",
        "The map tells a broadcast by the source (or by its own logical mode), the loop by each target's "
        "mode. An IPI to 0xff from x2APIC mode, or any 0xff with the quirk disabled and an x2APIC map, is "
        "one ID or one mask to the map and a broadcast to xAPIC targets.",
    ),
    DivergenceClass(
        "x2apic-broadcast",
        x2apic_broadcast,
        "Destination 0xffffffff from a device reaches the map, and APICs in x2APIC mode take it for a "
        "broadcast.",
        "With the broadcast quirk on, a device's only broadcast is 0xff to the map, which finds nobody at "
        "0xffffffff. In the loop every APIC in x2APIC mode accepts it.",
    ),
    DivergenceClass(
        "broadcast-made-fixed",
        broadcast_made_fixed,
        "A redirectable interrupt to physical 0xff changes its delivery mode in the loop alone.",
        "The loop passes lowest priority to physical 0xff on as FIXED, whatever mode came with the "
        "redirection hint. With the quirk disabled an x2APIC map serves slot 0xff in the mode that was "
        "asked for.",
    ),
    DivergenceClass(
        "software-disabled",
        software_disabled,
        "A logical NMI, INIT, SIPI or SMI to a software-disabled APIC is dropped by the map.",
        "Software-disabled APICs are left out of the logical map. The loop matches their LDR all the same,"
        " and these delivery modes do not need the software enable bit.",
    ),
    DivergenceClass(
        "x2apic-cluster-owned-by-xapic",
        x2apic_cluster_owned_by_xapic,
        "An x2APIC cluster addresses a slot that belongs to an APIC in xAPIC mode.",
        "In x2APIC mode the logical map is the physical one, which also holds vCPUs in xAPIC mode that the"
        " logical mode did not count: software-disabled ones and those with LDR 0. They are served "
        "although their own logical ID does not match, and compete for lowest priority.",
    ),
    DivergenceClass(
        "cluster-truncated",
        cluster_truncated,
        "A logical destination above 0xff is cut to 8 bits by an xAPIC cluster map.",
        "The map takes four bits for the cluster; the loop compares all the bits above the low four. An "
        "xAPIC vCPU thus accepts what was addressed to another cluster.",
    ),
    DivergenceClass(
        "odd-dfr",
        odd_dfr,
        "An addressed vCPU's DFR is neither flat nor cluster.",
        "The map treats every DFR that is not flat as cluster. The loop matches only the two architectural"
        " values.",
    ),
    DivergenceClass(
        "multi-bit-logical-id",
        multi_bit_logical_id,
        "A logical ID of several bits is entered under its lowest one.",
        "The logical map holds one vCPU for each bit, and enters a vCPU once. The loop matches any common "
        "bit.",
        until=Fix.LOGICAL_MULTI_MDA,
    ),
    DivergenceClass(
        "aliased-logical-id",
        aliased_logical_id,
        "Two vCPUs share a logical ID, and the map knows the last one.",
        "A later vCPU overwrites an earlier one in its slot. The loop delivers to both.",
        until=Fix.LOGICAL_ALIASED,
    ),
    DivergenceClass(
        "hint-to-software-disabled",
        hint_to_software_disabled,
        "A redirectable NMI, INIT, SIPI or SMI goes to a software-disabled APIC through the map alone.",
        "With the redirection hint the loop arbitrates, and lets only software-enabled APICs compete. The "
        "map serves a physical slot, or picks a slot, without asking.",
    ),
    DivergenceClass(
        "hashing-counts-bits",
        hashing_counts_bits,
        "Vector hashing divides by the bits of the destination in the map, by the candidates in the loop.",
        "The map hashes over all the bits of the mask, owned or not, and drops the interrupt on an empty "
        "slot; the loop hashes over the software-enabled vCPUs that match. With different numbers they "
        "pick differently.",
    ),
    DivergenceClass(
        "hashing-order",
        hashing_order,
        "Vector hashing counts in slot order in the map, in creation order in the loop.",
        "The map's n-th set bit is an ID, the loop's n-th candidate a position in the vCPU list. They "
        "differ if vCPUs were not created in the order of their IDs.",
    ),
    DivergenceClass(
        "priority-tie",
        priority_tie,
        "A tie of arbitration priorities goes to the first slot in the map, to the first vCPU in the loop.",
        "Both scans keep the earlier one unless a later one is strictly smaller, but scan in different "
        "orders. The priorities are compared by a difference that wraps, so that three of them can also "
        "beat each other in a circle.",
    ),
    DivergenceClass(
        "software-disabled-competes",
        software_disabled_competes,
        "A software-disabled APIC wins the arbitration in the map, and refuses the interrupt.",
        "An x2APIC cluster's slots hold software-disabled vCPUs too, and the map compares priorities "
        "without looking at the software enable bit. The loop lets only software-enabled vCPUs compete.",
    ),
)
"""Every class, on whichever kernel it can occur."""


@rule
def diverges(outcome: Outcome, i: int) -> bool:
    """Vcpu i accepts the interrupt on one path only: through the map if that serves it, and in the loop."""
    return ((outcome.delivery.accepted ^ outcome.slow.accepted) >> i) & 1 != 0
