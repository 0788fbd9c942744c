"""Routing an interrupt: through the optimized map, and by matching every APIC (lapic.c, irq_comm.c)."""

from __future__ import annotations

from typing import Final

from avicheck.spec.apic import (
    APIC_BROADCAST,
    APIC_DFR_CLUSTER,
    APIC_DFR_FLAT,
    X2APIC_BROADCAST,
    DeliveryMode,
    DestMode,
    Irq,
    Kvm,
    Shorthand,
    TrigMode,
    Vcpu,
    apic_enabled,
    apic_x2apic_mode,
    kvm_apic_compare_prio,
    kvm_apic_present,
    kvm_lowest_prio_delivery,
)
from avicheck.spec.apic_map import (
    EINVAL,
    X2APIC,
    ApicMap,
    Published,
    ffs,
    kvm_apic_map_get_logical_dest,
    kvm_x2apic_id,
    kvm_xapic_id,
)
from avicheck.spec.lang import NULL, U32, U64, KvmBug, Seq, at_least, record, rule, update

EOPNOTSUPP: Final = -95


@record
class Call:
    """One call of ``kvm_apic_set_irq``: which vCPU, the delivery mode passed on, and whether
    it returned non-zero."""

    vcpu: int
    mode: DeliveryMode
    accepted: bool


@record
class Delivery:
    """What became of a request: ``r`` as the C function returns it, the calls in their order."""

    handled: bool
    r: int
    calls: Seq[Call] = Seq()


@record
class Dest:
    """The slots a request addresses: ``mask`` over those from ``base`` on, in the physical
    or the logical part of the map."""

    handled: bool
    physical: bool
    base: int
    mask: int


@rule
def apic_accept_irq(vcpu: Vcpu, irq: Irq) -> bool:
    """lapic.c ``__apic_accept_irq``: the vCPU takes the interrupt (result is not 0)."""
    if irq.delivery_mode == DeliveryMode.FIXED or irq.delivery_mode == DeliveryMode.LOWEST:
        return apic_enabled(vcpu) and (irq.trig_mode == TrigMode.EDGE or irq.level)
    if irq.delivery_mode == DeliveryMode.INIT:
        return irq.trig_mode == TrigMode.EDGE or irq.level
    return irq.delivery_mode != DeliveryMode.EXTINT


@rule
def arb_prio_after(vcpu: Vcpu, irq: Irq) -> int:
    """``__apic_accept_irq``: LOWEST raises the arbitration priority, accepted or not."""
    if irq.delivery_mode == DeliveryMode.LOWEST:
        return (vcpu.arb_prio + 1) & 0xFFFF_FFFF
    return vcpu.arb_prio


@rule
def accepts(kvm: Kvm, index: int, irq: Irq) -> bool:
    """``apic_accept_irq`` of the vCPU at ``index``."""
    return apic_accept_irq(kvm.vcpus[index], irq)


@rule
def kvm_apic_set_irq(kvm: Kvm, sent: Delivery, irq: Irq, index: int) -> Delivery:
    """lapic.c: hand the interrupt to one vCPU and count it if it is accepted."""
    accepted = accepts(kvm, index, irq)
    calls = sent.calls.append(Call(index, irq.delivery_mode, accepted))
    return Delivery(True, at_least(sent.r, 0) + accepted, calls)


# Matching without a map.


@rule
def kvm_apic_mda(kvm: Kvm, vcpu: Vcpu, dest_id: int, src: int) -> int:
    """lapic.c: unless userspace disabled the quirk, a device's 0xff is a broadcast for x2APIC targets."""
    quirk = not kvm.x2apic_broadcast_quirk_disabled
    if quirk and src == NULL and dest_id == APIC_BROADCAST and apic_x2apic_mode(vcpu):
        return X2APIC_BROADCAST
    return dest_id


@rule
def kvm_apic_broadcast(vcpu: Vcpu, mda: int) -> bool:
    """lapic.c: all ones, in the width of the target's mode."""
    return mda == (X2APIC_BROADCAST if apic_x2apic_mode(vcpu) else APIC_BROADCAST)


@rule
def kvm_apic_match_physical_addr(vcpu: Vcpu, mda: int) -> bool:
    """lapic.c: the hotplug hack lets an xAPIC answer to its x2APIC ID if that needs more than 8 bits."""
    if kvm_apic_broadcast(vcpu, mda):
        return True
    if apic_x2apic_mode(vcpu) or mda > 0xFF:
        return mda == kvm_x2apic_id(vcpu)
    return mda == kvm_xapic_id(vcpu)


@rule
def kvm_apic_match_logical_addr(vcpu: Vcpu, mda: int) -> bool:
    """lapic.c: x2APIC clusters, or xAPIC by the two architectural values of DFR; no other matches."""
    if kvm_apic_broadcast(vcpu, mda):
        return True
    if apic_x2apic_mode(vcpu):
        return vcpu.ldr >> 16 == mda >> 16 and vcpu.ldr & mda & 0xFFFF != 0
    logical_id = vcpu.ldr >> 24
    if vcpu.dfr == APIC_DFR_FLAT:
        return logical_id & mda != 0
    if vcpu.dfr == APIC_DFR_CLUSTER:
        return logical_id >> 4 == mda >> 4 and logical_id & mda & 0xF != 0
    return False


@rule
def kvm_apic_match_dest(kvm: Kvm, index: int, src: int, irq: Irq) -> bool:
    """lapic.c: whether a vCPU is addressed, whatever its APIC's enable bits say."""
    vcpu = kvm.vcpus[index]
    if irq.shorthand == Shorthand.SELF:
        return src == index
    if irq.shorthand == Shorthand.ALLINC:
        return True
    if irq.shorthand == Shorthand.ALLBUT:
        return src != index
    mda = kvm_apic_mda(kvm, vcpu, irq.dest_id, src)
    if irq.dest_mode == DestMode.PHYSICAL:
        return kvm_apic_match_physical_addr(vcpu, mda)
    return kvm_apic_match_logical_addr(vcpu, mda)


@rule
def is_recipient(kvm: Kvm, index: int, src: int, irq: Irq) -> bool:
    """Addressed, and enabled in IA32_APIC_BASE: what every loop over the vCPUs asks."""
    return kvm_apic_present(kvm.vcpus[index]) and kvm_apic_match_dest(kvm, index, src, irq)


# Lowest priority: one out of many.


@rule
def is_nth_bit(mask: int, bit: int, n: int) -> bool:
    """``bit`` is set in ``mask`` and exactly ``n`` lower ones are."""
    return (mask >> bit) & 1 != 0 and (mask & ((1 << bit) - 1)).bit_count() == n


@rule
def kvm_vector_to_index(vector: int, count: int, mask: int, width: int) -> int:
    """lapic.c: the (vector mod count)-th set bit of ``mask``, counting from 0."""
    n = vector % count
    for bit in range(width):
        if is_nth_bit(mask, bit, n):
            return bit
    raise KvmBug("BUG_ON(idx == bitmap_size)")


@rule
def lower_prio(kvm: Kvm, lowest: int, index: int) -> int:
    """The vCPU with the smaller arbitration priority; the earlier one wins a tie."""
    if lowest == NULL or compare_prio(kvm, index, lowest) < 0:
        return index
    return lowest


@rule
def compare_prio(kvm: Kvm, a: int, b: int) -> int:
    """``kvm_apic_compare_prio`` of the vCPUs at two indices."""
    return kvm_apic_compare_prio(kvm.vcpus[a], kvm.vcpus[b])


# Routing through the map.


@rule
def kvm_apic_is_broadcast_dest(kvm: Kvm, map: ApicMap, src: int, dest_id: int) -> bool:
    """lapic.c: destinations that only the loop over all vCPUs can serve."""
    if kvm.x2apic_broadcast_quirk_disabled:
        return dest_id == X2APIC_BROADCAST or (dest_id == APIC_BROADCAST and map.logical_mode != X2APIC)
    x2apic_ipi = src != NULL and apic_x2apic_mode(kvm.vcpus[src])
    return dest_id == (X2APIC_BROADCAST if x2apic_ipi else APIC_BROADCAST)


@rule
def slot(map: ApicMap, dest: Dest, bit: int) -> int:
    """``(*dst)[bit]``: the vCPU in one of the addressed slots, or NULL; NULL too where the mask is clear."""
    if (dest.mask >> bit) & 1 == 0:
        return NULL
    return map.phys[dest.base + bit] if dest.physical else map.logical[dest.base + bit]


@record
class Lowest:
    """The best slot so far, and the vCPU in it."""

    bit: int
    index: int


@rule
def lower_slot(kvm: Kvm, map: ApicMap, dest: Dest, lowest: Lowest, bit: int) -> Lowest:
    """kvm_apic_map_get_dest_lapic: the slot with the smaller priority; an empty one never wins."""
    index = slot(map, dest, bit)
    if index == NULL or lower_prio(kvm, lowest.index, index) != index:
        return lowest
    return Lowest(bit, index)


@rule
def lowest_in_slots(kvm: Kvm, map: ApicMap, dest: Dest) -> int:
    """The occupied slot with the smallest arbitration priority, by its bit, or NULL."""
    lowest = Lowest(NULL, NULL)
    for bit in range(16):
        lowest = lower_slot(kvm, map, dest, lowest, bit)
    return lowest.bit


@rule
def pick_slot(kvm: Kvm, map: ApicMap, irq: Irq, dest: Dest) -> Dest:
    """kvm_apic_map_get_dest_lapic, lowest priority: one slot. Hashing picks among the bits of the
    mask, whether or not anyone owns them."""
    if not kvm.vector_hashing:
        lowest = lowest_in_slots(kvm, map, dest)
        return update(dest, mask=0 if lowest == NULL else 1 << lowest)
    if dest.mask == 0:
        return dest
    bit = kvm_vector_to_index(irq.vector, dest.mask.bit_count(), dest.mask, 16)
    return update(dest, mask=1 << bit if slot(map, dest, bit) != NULL else 0)


@rule
def get_dest_slots(kvm: Kvm, map: ApicMap, irq: Irq) -> Dest:
    """kvm_apic_map_get_dest_lapic, neither a shorthand nor a broadcast."""
    if irq.dest_mode == DestMode.PHYSICAL:
        return Dest(True, True, irq.dest_id, 0 if irq.dest_id > map.max_apic_id else 1)
    window = kvm_apic_map_get_logical_dest(kvm, map, irq.dest_id)
    dest = Dest(window.handled, map.logical_mode == X2APIC, window.base, window.mask)
    return pick_slot(kvm, map, irq, dest) if kvm_lowest_prio_delivery(irq) else dest


@rule
def kvm_apic_map_get_dest_lapic(kvm: Kvm, published: Published, src: int, irq: Irq) -> Dest:
    """lapic.c: the slots to serve, or not handled. Shorthand SELF is the callers' business."""
    map = published.map
    if irq.shorthand != Shorthand.NONE or not published.present:
        return NOT_HANDLED
    if kvm_apic_is_broadcast_dest(kvm, map, src, irq.dest_id):
        return NOT_HANDLED
    return get_dest_slots(kvm, map, irq)


NOT_HANDLED: Final = Dest(False, False, 0, 0)


@rule
def send_to_slot(kvm: Kvm, map: ApicMap, dest: Dest, irq: Irq, sent: Delivery, bit: int) -> Delivery:
    """kvm_irq_delivery_to_apic_fast, ``for_each_set_bit``: one slot."""
    index = slot(map, dest, bit)
    return sent if index == NULL else kvm_apic_set_irq(kvm, sent, irq, index)


@rule
def kvm_irq_delivery_to_apic_fast(kvm: Kvm, published: Published, src: int, irq: Irq) -> Delivery:
    """lapic.c: deliver through the map; r is -1 if that cannot be done. Shorthand SELF without a
    source is a KVM_BUG_ON."""
    if irq.shorthand == Shorthand.SELF:
        return Delivery(True, 0) if src == NULL else kvm_apic_set_irq(kvm, Delivery(True, -1), irq, src)
    dest = kvm_apic_map_get_dest_lapic(kvm, published, src, irq)
    if not dest.handled:
        return Delivery(False, -1)
    sent = Delivery(True, 0)
    for bit in range(16):
        sent = send_to_slot(kvm, published.map, dest, irq, sent, bit)
    return sent


# Delivery: the map first, then every vCPU.


@rule
def phys_broadcast_is_fixed(irq: Irq) -> Irq:
    """kvm_irq_delivery_to_apic: lowest priority to physical 0xff is passed on as FIXED; with the
    redirection hint it still picks one."""
    if irq.dest_mode == DestMode.PHYSICAL and irq.dest_id == 0xFF and kvm_lowest_prio_delivery(irq):
        return update(irq, delivery_mode=DeliveryMode.FIXED)
    return irq


@rule
def is_candidate(kvm: Kvm, index: int, src: int, irq: Irq) -> bool:
    """kvm_irq_delivery_to_apic: only software-enabled recipients compete for lowest priority."""
    return is_recipient(kvm, index, src, irq) and kvm.vcpus[index].sw_enabled


@rule
def lower_candidate(kvm: Kvm, src: int, irq: Irq, lowest: int, index: int) -> int:
    """``lower_prio``, among candidates."""
    return lower_prio(kvm, lowest, index) if is_candidate(kvm, index, src, irq) else lowest


@rule
def lowest_candidate(kvm: Kvm, src: int, irq: Irq) -> int:
    """kvm_irq_delivery_to_apic: the one vCPU that gets a lowest priority request, or NULL."""
    if kvm.vector_hashing:
        mask = 0
        for index in range(len(kvm.vcpus)):
            mask |= is_candidate(kvm, index, src, irq) << index
        return NULL if mask == 0 else kvm_vector_to_index(irq.vector, mask.bit_count(), mask, len(kvm.vcpus))
    lowest = NULL
    for index in range(len(kvm.vcpus)):
        lowest = lower_candidate(kvm, src, irq, lowest, index)
    return lowest


@rule
def send_if_recipient(kvm: Kvm, src: int, irq: Irq, sent: Delivery, index: int) -> Delivery:
    """kvm_irq_delivery_to_apic, the loop's body for all but lowest priority."""
    return kvm_apic_set_irq(kvm, sent, irq, index) if is_recipient(kvm, index, src, irq) else sent


@rule
def deliver_by_loop(kvm: Kvm, src: int, irq: Irq) -> Delivery:
    """kvm_irq_delivery_to_apic after the fast path declined: match every vCPU; r is -1 if none does."""
    irq = phys_broadcast_is_fixed(irq)
    sent = Delivery(True, -1)
    if kvm_lowest_prio_delivery(irq):
        lowest = lowest_candidate(kvm, src, irq)
        return sent if lowest == NULL else kvm_apic_set_irq(kvm, sent, irq, lowest)
    for index in range(len(kvm.vcpus)):
        sent = send_if_recipient(kvm, src, irq, sent, index)
    return sent


@rule
def kvm_irq_delivery_to_apic(kvm: Kvm, published: Published, src: int, irq: Irq) -> Delivery:
    """irq_comm.c (lapic.c from 6.19): the fast path, else the loop."""
    fast = kvm_irq_delivery_to_apic_fast(kvm, published, src, irq)
    return fast if fast.handled else deliver_by_loop(kvm, src, irq)


@rule
def accepted_by(delivery: Delivery, index: int) -> bool:
    """Whether a vCPU accepted the interrupt, in any of the calls."""
    accepted = False
    for guard, call in delivery.calls.entries:
        accepted |= guard & call.accepted & (call.vcpu == index)
    return accepted


@rule
def called_on(delivery: Delivery, index: int) -> bool:
    """Whether ``kvm_apic_set_irq`` was called for a vCPU."""
    called = False
    for guard, call in delivery.calls.entries:
        called |= guard & (call.vcpu == index)
    return called


# Other users of the map.


@rule
def count_matches(kvm: Kvm, irq: Irq) -> int:
    """kvm_intr_is_single_vcpu: the present vCPUs that match, without a source, as a mask."""
    mask = 0
    for index in range(len(kvm.vcpus)):
        mask |= is_recipient(kvm, index, NULL, irq) << index
    return mask


@rule
def kvm_intr_is_single_vcpu_fast(kvm: Kvm, published: Published, irq: Irq) -> int:
    """lapic.c: the map's only addressee, or NULL."""
    dest = kvm_apic_map_get_dest_lapic(kvm, published, NULL, irq)
    if not dest.handled or dest.mask.bit_count() != 1:
        return NULL
    return slot(published.map, dest, ffs(dest.mask) - 1)


@rule
def kvm_intr_is_single_vcpu(kvm: Kvm, published: Published, irq: Irq) -> int:
    """irq_comm.c (lapic.c from 6.19): the only vCPU that a device's interrupt addresses, or NULL
    where the C function returns false."""
    fast = kvm_intr_is_single_vcpu_fast(kvm, published, irq)
    if fast != NULL:
        return fast
    mask = count_matches(kvm, irq)
    return lowest_bit(mask, len(kvm.vcpus)) if mask.bit_count() == 1 else NULL


@rule
def lowest_bit(mask: int, width: int) -> int:
    """The position of the lowest set bit (``find_first_bit``), or NULL."""
    for bit in range(width):
        if (mask >> bit) & 1:
            return bit
    return NULL


@rule
def slot_bit(map: ApicMap, dest: Dest, bit: int) -> int:
    """The owner of one slot, as a mask over the vCPUs."""
    index = slot(map, dest, bit)
    return 0 if index == NULL else 1 << index


@rule
def kvm_bitmap_or_dest_vcpus(kvm: Kvm, published: Published, irq: Irq) -> int:
    """lapic.c: the vCPUs a device's interrupt goes to, as a mask, for the IOAPIC's benefit.
    Shorthand SELF finds the map's caller, which is nobody."""
    if irq.shorthand == Shorthand.SELF:
        return 0
    dest = kvm_apic_map_get_dest_lapic(kvm, published, NULL, irq)
    if not dest.handled:
        return count_matches(kvm, irq)
    mask = 0
    for bit in range(16):
        mask |= slot_bit(published.map, dest, bit)
    return mask


# Paravirtual IPIs.

APIC_DEST_MASK: Final = 0x800
APIC_SHORT_MASK: Final = 0xC0000


@record
class PvIpi:
    """The arguments of the hypercall KVM_HC_SEND_IPI."""

    low: U64
    high: U64
    min: U32
    icr: U32
    op64: bool


@rule
def pv_irq(icr: int) -> Irq:
    """kvm_pv_send_ipi: the request that an ICR value asks for."""
    return Irq(
        Shorthand.NONE,
        DestMode.PHYSICAL,
        0,
        delivery_mode_of(icr),
        icr & 0xFF,
        icr & 0x4000 != 0,
        TrigMode.LEVEL if icr & 0x8000 else TrigMode.EDGE,
        False,
    )


@rule
def delivery_mode_of(icr: int) -> DeliveryMode:
    """ICR bits 10:8."""
    for encoding, mode in enumerate(DeliveryMode):
        if (icr >> 8) & 7 == encoding:
            return mode
    raise AssertionError("three bits have eight values")


@rule
def pv_send_to(kvm: Kvm, map: ApicMap, bitmap: int, min: int, irq: Irq, sent: Delivery, bit: int) -> Delivery:
    """__pv_send_ipi, one bit of the bitmap."""
    if (bitmap >> bit) & 1 == 0 or min + bit > map.max_apic_id:
        return sent
    index = map.phys[min + bit]
    return sent if index == NULL else kvm_apic_set_irq(kvm, sent, irq, index)


@rule
def kvm_pv_send_ipi(kvm: Kvm, published: Published, call: PvIpi) -> Delivery:
    """lapic.c: an IPI to every ID in two bitmaps; only through the map."""
    irq = pv_irq(call.icr)
    if call.icr & (APIC_DEST_MASK | APIC_SHORT_MASK):
        return Delivery(False, EINVAL)
    if not published.present:
        return Delivery(False, EOPNOTSUPP)
    sent = Delivery(True, 0)
    for bit in range(64):
        sent = pv_send_to(kvm, published.map, call.low, call.min, irq, sent, bit)
    second = (call.min + (64 if call.op64 else 32)) & 0xFFFF_FFFF
    for bit in range(64):
        sent = pv_send_to(kvm, published.map, call.high, second, irq, sent, bit)
    return sent
