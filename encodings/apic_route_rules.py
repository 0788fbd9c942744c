"""Routing with and without the APIC map as closed forms over z3 terms: who is called, who accepts.

An independent statement of the delivery functions of arch/x86/kvm/lapic.c, on the terms of
``apic_map_rules``. A source is a pointer, NULL where a device sends. A shorthand SELF without a source is
outside the domain.
"""

from __future__ import annotations

from itertools import combinations
from typing import Final, NamedTuple

import z3

from avicheck.encodings.apic_map_rules import (
    X2APIC,
    XAPIC_CLUSTER,
    XAPIC_FLAT,
    Slot,
    in_flat_mode,
    in_x2apic_mode,
    is_entered,
    is_present,
    logical_id,
    logical_map_usable,
    logical_seat,
    map_present,
    max_apic_id,
    mode_is,
    phys_slots,
    share_seat,
)
from avicheck.encodings.rule_terms import (
    alone,
    bit_of,
    first,
    is_any,
    least_busy,
    nth,
    one_if,
    one_of_16,
    pack,
    pointer,
    remembered,
    several_bits,
    wide,
)
from avicheck.encodings.z3vars import BoolTerm, BvTerm, literal
from avicheck.spec.apic import (
    APIC_BROADCAST,
    APIC_DFR_CLUSTER,
    X2APIC_BROADCAST,
    DeliveryMode,
    DestMode,
    Irq,
    Kvm,
    Shorthand,
    TrigMode,
    Vcpu,
)
from avicheck.spec.kernels import Fix
from avicheck.spec.lang import NULL

SEATS: Final = 16
"""The slots one logical destination can address, and the bits of its mask."""

EINVAL: Final = -22
EOPNOTSUPP: Final = -95


# Acceptance and matching


def _accepts(vcpu: Vcpu, delivery_mode: BvTerm, asserted: BoolTerm) -> BoolTerm:
    """``__apic_accept_irq`` takes it. ``asserted``: edge-triggered, or the level is asserted."""
    enabled = z3.And(is_present(vcpu), vcpu.sw_enabled)
    return z3.Or(
        z3.And(is_any(delivery_mode, DeliveryMode.FIXED, DeliveryMode.LOWEST), asserted, enabled),
        z3.And(is_any(delivery_mode, DeliveryMode.INIT), asserted),
        is_any(delivery_mode, DeliveryMode.SMI, DeliveryMode.REMRD, DeliveryMode.NMI, DeliveryMode.SIPI),
    )


def _asserted(irq: Irq) -> BoolTerm:
    return z3.Or(irq.level, is_any(irq.trig_mode, TrigMode.EDGE))


def _lowest(irq: Irq) -> BoolTerm:
    return z3.Or(is_any(irq.delivery_mode, DeliveryMode.LOWEST), irq.msi_redir_hint)


@remembered
def _no_source(kvm: Kvm) -> BvTerm:
    return pointer(kvm, NULL)


def matches(kvm: Kvm, src: BvTerm, irq: Irq, i: int) -> BoolTerm:
    """``kvm_apic_match_dest``: the architecture delivers the request to vCPU ``i``, enabled or not."""
    vcpu, dest, is_source = kvm.vcpus[i], irq.dest_id, src == pointer(kvm, i)
    x2apic, xapic_id, low = in_x2apic_mode(vcpu), wide(vcpu.xapic_id), z3.Extract(15, 0, irq.dest_id)
    quirk = z3.And(z3.Not(kvm.x2apic_broadcast_quirk_disabled), src == _no_source(kvm))
    to_all_xapic, to_all_x2apic = dest == APIC_BROADCAST, dest == X2APIC_BROADCAST
    broadcast = z3.If(x2apic, z3.Or(to_all_x2apic, z3.And(quirk, to_all_xapic)), to_all_xapic)

    by_vcpu_id = z3.Or(x2apic, z3.UGT(dest, 0xFF))
    physical = z3.If(by_vcpu_id, dest == wide(vcpu.vcpu_id), dest == xapic_id)

    common = z3.Extract(7, 0, low) & logical_id(vcpu)
    x2apic_logical = z3.And(
        z3.Extract(31, 16, dest) == z3.Extract(31, 16, vcpu.ldr), z3.Extract(15, 0, vcpu.ldr) & low != 0
    )
    flat = z3.And(in_flat_mode(vcpu), common != 0)
    cluster = z3.And(
        vcpu.dfr == APIC_DFR_CLUSTER,
        z3.Extract(31, 4, dest) == wide(z3.Extract(7, 4, logical_id(vcpu)), 28),
        z3.Extract(3, 0, common) != 0,
    )
    logical = z3.If(x2apic, x2apic_logical, z3.Or(flat, cluster))

    addressed = z3.Or(broadcast, z3.If(is_any(irq.dest_mode, DestMode.PHYSICAL), physical, logical))
    return z3.Or(
        z3.And(is_any(irq.shorthand, Shorthand.NONE), addressed),
        z3.And(is_any(irq.shorthand, Shorthand.SELF), is_source),
        is_any(irq.shorthand, Shorthand.ALLINC),
        z3.And(is_any(irq.shorthand, Shorthand.ALLBUT), z3.Not(is_source)),
    )


@remembered
def _targets(kvm: Kvm, src: BvTerm, irq: Irq) -> list[BoolTerm]:
    return [z3.And(is_present(vcpu), matches(kvm, src, irq, i)) for i, vcpu in enumerate(kvm.vcpus)]


# Routing through the map


class _MapAnswer(NamedTuple):
    """What the map says about a request without shorthand (``kvm_apic_map_get_dest_lapic``)."""

    given: BoolTerm
    mask: BvTerm
    """The slots that are meant, 16 bits from the first slot of the addressed group."""
    seats: list[BvTerm]
    """For each vCPU the slot of that group it owns: one bit of 16, or none."""

    def reaches(self, i: int) -> BoolTerm:
        """vCPU ``i`` owns a slot that is meant."""
        return self.seats[i] & self.mask != 0


def _broadcast(kvm: Kvm, from_x2apic: BoolTerm, dest: BvTerm) -> BoolTerm:
    """``kvm_apic_is_broadcast_dest``: too many slots for the map."""
    to_all_xapic, to_all_x2apic = dest == APIC_BROADCAST, dest == X2APIC_BROADCAST
    return z3.If(
        kvm.x2apic_broadcast_quirk_disabled,
        z3.Or(to_all_x2apic, z3.And(to_all_xapic, z3.Not(mode_is(kvm, X2APIC)))),
        z3.If(from_x2apic, to_all_x2apic, to_all_xapic),
    )


def _x2apic_mask(kvm: Kvm, dest: BvTerm) -> BvTerm:
    """The low half of a destination, without the members of its cluster above max_apic_id."""
    most, cluster, members = max_apic_id(kvm), z3.Extract(31, 16, dest), z3.Extract(15, 0, dest)
    last = wide(z3.Extract(11, 4, most), 16)
    up_to_last = one_of_16(z3.Extract(3, 0, most))
    return z3.If(
        z3.ULT(cluster, last),
        members,
        z3.If(cluster == last, members & (up_to_last | (up_to_last - 1)), z3.BitVecVal(0, SEATS)),
    )


def _x2apic_seat(slots: tuple[Slot, Slot], dest: BvTerm) -> BvTerm:
    """The position of the one slot that a vCPU owns in the destination's cluster."""
    seat = z3.BitVecVal(0, SEATS)
    for slot in slots:
        here = z3.And(slot.owned, wide(z3.Extract(11, 4, slot.id), 16) == z3.Extract(31, 16, dest))
        seat = z3.If(here, one_of_16(z3.Extract(3, 0, slot.id)), seat)
    return seat


def _xapic_seat(kvm: Kvm, i: int, dest: BvTerm) -> BvTerm:
    """The bit at which vCPU ``i`` sits in the flat array or the destination's cluster."""
    vcpu = kvm.vcpus[i]
    here = z3.Or(in_flat_mode(vcpu), z3.Extract(7, 4, dest) == z3.Extract(7, 4, logical_id(vcpu)))
    unseated = []
    if not kvm.kernel.has(Fix.LOGICAL_ALIASED):
        unseated = [share_seat(kvm, vcpu, later) for later in kvm.vcpus[i + 1 :]]
    owns = z3.And(is_entered(vcpu), here, z3.Not(z3.Or(unseated)))
    return z3.If(owns, wide(logical_seat(kvm, vcpu), SEATS), z3.BitVecVal(0, SEATS))


@remembered
def _map_answer(kvm: Kvm, alloc_fails: BoolTerm, from_x2apic: BoolTerm, irq: Irq) -> _MapAnswer:
    """Physical: the one slot ``dest_id``. Logical: the slots of the destination's bits, of which lowest
    priority picks one: by vector among the bits, or the least busy among the owners."""
    dest, physical = irq.dest_id, is_any(irq.dest_mode, DestMode.PHYSICAL)
    given = z3.And(
        map_present(kvm, alloc_fails),
        z3.Not(_broadcast(kvm, from_x2apic, dest)),
        z3.Or(physical, logical_map_usable(kvm)),
    )

    def seat(i: int) -> BvTerm:
        slots = phys_slots(kvm)[i]
        owns_dest = z3.Or([z3.And(slot.owned, wide(slot.id) == dest) for slot in slots])
        logical = z3.If(mode_is(kvm, X2APIC), _x2apic_seat(slots, dest), _xapic_seat(kvm, i, dest))
        return z3.If(physical, one_if(owns_dest, SEATS), logical)

    seats = [seat(i) for i in range(len(kvm.vcpus))]
    members: BvTerm = z3.BitVecVal(0, SEATS)
    for mode, mask in (
        (XAPIC_CLUSTER, dest & 0xF),
        (XAPIC_FLAT, dest & 0xFF),
        (X2APIC, wide(_x2apic_mask(kvm, dest))),
    ):
        members = z3.If(mode_is(kvm, mode), z3.Extract(SEATS - 1, 0, mask), members)

    meant = [bit_of(members, b) for b in range(SEATS)]
    occupied = [[bit_of(members & own, b) for own in seats] for b in range(SEATS)]
    picked = z3.If(
        kvm.vector_hashing,
        pack(nth(meant, irq.vector)),
        pack(least_busy(occupied, _priorities(kvm))),
    )
    logical_mask = z3.If(_lowest(irq), picked, members)
    return _MapAnswer(given, z3.If(physical, z3.BitVecVal(1, SEATS), logical_mask), seats)


def _priorities(kvm: Kvm) -> list[BvTerm]:
    return [vcpu.arb_prio for vcpu in kvm.vcpus]


@remembered
def _answer_to(kvm: Kvm, alloc_fails: BoolTerm, src: BvTerm, irq: Irq) -> _MapAnswer:
    from_x2apic = [z3.And(src == pointer(kvm, i), in_x2apic_mode(vcpu)) for i, vcpu in enumerate(kvm.vcpus)]
    return _map_answer(kvm, alloc_fails, z3.Or(from_x2apic), irq)


def fast_handled(kvm: Kvm, alloc_fails: BoolTerm, src: BvTerm, irq: Irq) -> BoolTerm:
    """``kvm_irq_delivery_to_apic_fast`` does not leave the request to the loop."""
    given = _answer_to(kvm, alloc_fails, src, irq).given
    return z3.Or(is_any(irq.shorthand, Shorthand.SELF), z3.And(is_any(irq.shorthand, Shorthand.NONE), given))


def fast_called(kvm: Kvm, alloc_fails: BoolTerm, src: BvTerm, irq: Irq, i: int) -> BoolTerm:
    """The fast path calls ``kvm_apic_set_irq`` for vCPU ``i``: the source for SELF, else a slot's owner."""
    answer = _answer_to(kvm, alloc_fails, src, irq)
    return z3.Or(
        z3.And(is_any(irq.shorthand, Shorthand.SELF), src == pointer(kvm, i)),
        z3.And(is_any(irq.shorthand, Shorthand.NONE), answer.given, answer.reaches(i)),
    )


def fast_accepts(kvm: Kvm, alloc_fails: BoolTerm, src: BvTerm, irq: Irq, i: int) -> BoolTerm:
    """vCPU ``i`` is called by the fast path and accepts."""
    accepts = _accepts(kvm.vcpus[i], irq.delivery_mode, _asserted(irq))
    return z3.And(fast_called(kvm, alloc_fails, src, irq, i), accepts)


# Routing by the loop


def _becomes_fixed(irq: Irq) -> BoolTerm:
    """Lowest priority to physical 0xff is delivered as fixed; the redirection hint still picks one vCPU."""
    to_all = z3.And(is_any(irq.dest_mode, DestMode.PHYSICAL), irq.dest_id == APIC_BROADCAST)
    return z3.And(to_all, _lowest(irq), z3.Not(is_any(irq.shorthand, Shorthand.SELF)))


@remembered
def _loop_calls(kvm: Kvm, src: BvTerm, irq: Irq) -> list[BoolTerm]:
    """Whom the loop calls: every target, or for lowest priority one of the software-enabled ones."""
    targets = _targets(kvm, src, irq)
    candidates = [z3.And(target, vcpu.sw_enabled) for target, vcpu in zip(targets, kvm.vcpus, strict=True)]
    by_vector = nth(candidates, irq.vector)
    by_priority = least_busy(alone(candidates), _priorities(kvm))
    picks = z3.Or(irq.msi_redir_hint, z3.And(_lowest(irq), z3.Not(_becomes_fixed(irq))))
    return [
        z3.If(picks, z3.If(kvm.vector_hashing, by_vector[i], by_priority[i]), target)
        for i, target in enumerate(targets)
    ]


def slow_called(kvm: Kvm, src: BvTerm, irq: Irq, i: int) -> BoolTerm:
    """Without a map ``kvm_irq_delivery_to_apic`` calls ``kvm_apic_set_irq`` for vCPU ``i``."""
    return z3.If(is_any(irq.shorthand, Shorthand.SELF), src == pointer(kvm, i), _loop_calls(kvm, src, irq)[i])


def slow_accepts(kvm: Kvm, src: BvTerm, irq: Irq, i: int) -> BoolTerm:
    """vCPU ``i`` is called without a map and accepts."""
    fixed = literal(DeliveryMode, {}, DeliveryMode.FIXED)
    delivery_mode = z3.If(_becomes_fixed(irq), fixed, irq.delivery_mode)
    return z3.And(slow_called(kvm, src, irq, i), _accepts(kvm.vcpus[i], delivery_mode, _asserted(irq)))


def delivery_called(kvm: Kvm, alloc_fails: BoolTerm, src: BvTerm, irq: Irq, i: int) -> BoolTerm:
    """``kvm_irq_delivery_to_apic`` calls ``kvm_apic_set_irq`` for vCPU ``i``."""
    fast = fast_called(kvm, alloc_fails, src, irq, i)
    return z3.If(fast_handled(kvm, alloc_fails, src, irq), fast, slow_called(kvm, src, irq, i))


def delivery_accepts(kvm: Kvm, alloc_fails: BoolTerm, src: BvTerm, irq: Irq, i: int) -> BoolTerm:
    """``kvm_irq_delivery_to_apic`` delivers to vCPU ``i``."""
    fast = fast_accepts(kvm, alloc_fails, src, irq, i)
    return z3.If(fast_handled(kvm, alloc_fails, src, irq), fast, slow_accepts(kvm, src, irq, i))


# Other users of the map; they know no source


def single_vcpu(kvm: Kvm, alloc_fails: BoolTerm, irq: Irq) -> BvTerm:
    """``kvm_intr_is_single_vcpu``: the owner of the only slot the map means, if it has one; else the only
    target; else NULL (the function returned false)."""
    answer, targets = _answer_to(kvm, alloc_fails, _no_source(kvm), irq), _targets(kvm, _no_source(kvm), irq)
    one_slot = z3.And(is_any(irq.shorthand, Shorthand.NONE), answer.given, z3.Not(several_bits(answer.mask)))
    owners = [z3.And(one_slot, answer.reaches(i)) for i in range(len(kvm.vcpus))]
    two = z3.Or([z3.And(a, b) for a, b in combinations(targets, 2)])
    only = [z3.And(target, z3.Not(two)) for target in targets]
    return first(kvm, owners, first(kvm, only, pointer(kvm, NULL)))


def dest_bitmap(kvm: Kvm, alloc_fails: BoolTerm, irq: Irq, i: int) -> BoolTerm:
    """``kvm_bitmap_or_dest_vcpus`` sets bit ``i``: it owns a slot the map means, or else is a target."""
    answer = _answer_to(kvm, alloc_fails, _no_source(kvm), irq)
    by_map = z3.And(is_any(irq.shorthand, Shorthand.NONE), answer.given)
    return z3.If(by_map, answer.reaches(i), _targets(kvm, _no_source(kvm), irq)[i])


# PV IPIs


class PvIpi(NamedTuple):
    """The arguments of ``kvm_pv_send_ipi``."""

    low: BvTerm
    """64 bits, as ``high`` and ``icr``."""
    high: BvTerm
    min: BvTerm
    """32 bits."""
    icr: BvTerm
    op64: BoolTerm


def _pv_refused(ipi: PvIpi) -> BoolTerm:
    """A logical destination mode or a shorthand in the ICR."""
    return z3.Or([bit_of(ipi.icr, bit) for bit in (11, 18, 19)])


PV_BITS: Final = 128
"""The bits of a hypercall's two words, the first word's first."""


@remembered
def _pv_meant(kvm: Kvm, alloc_fails: BoolTerm, ipi: PvIpi, i: int) -> list[tuple[BoolTerm, BvTerm]]:
    """For each slot that vCPU ``i`` can own, in each word: whether the call means it, and by which of
    the bits (8 bits wide). The second word starts 32 or 64 slots on, in 32-bit arithmetic."""
    second = ipi.min + z3.If(ipi.op64, z3.BitVecVal(64, 32), z3.BitVecVal(32, 32))
    sent = pv_is_sent(kvm, alloc_fails, ipi)

    def meant(word: BvTerm, start: BvTerm, first: int, slot: Slot) -> tuple[BoolTerm, BvTerm]:
        offset = wide(slot.id) - start
        bit = z3.Extract(0, 0, z3.LShR(word, wide(offset, 64)))
        within = z3.And(z3.ULE(start, wide(slot.id)), z3.ULT(offset, 64))
        return z3.And(sent, slot.owned, within, bit == 1), z3.Extract(7, 0, offset) + first

    return [
        meant(word, start, first, slot)
        for slot in phys_slots(kvm)[i]
        for word, start, first in ((ipi.low, ipi.min, 0), (ipi.high, second, 64))
    ]


def pv_is_sent(kvm: Kvm, alloc_fails: BoolTerm, ipi: PvIpi) -> BoolTerm:
    """``kvm_pv_send_ipi`` goes through the bits: there is a map, and the ICR is acceptable."""
    return z3.And(map_present(kvm, alloc_fails), z3.Not(_pv_refused(ipi)))


def pv_called_by(kvm: Kvm, alloc_fails: BoolTerm, ipi: PvIpi, i: int, bit: int) -> BoolTerm:
    """vCPU ``i`` owns the slot that one of the bits means."""
    slots = _pv_meant(kvm, alloc_fails, ipi, i)
    return z3.Or([z3.And(meant, by == bit) for meant, by in slots])


def pv_calls(kvm: Kvm, alloc_fails: BoolTerm, ipi: PvIpi, i: int, bits: int = PV_BITS) -> BvTerm:
    """How often ``kvm_pv_send_ipi`` calls ``kvm_apic_set_irq`` for vCPU ``i``, 32 bits: once for each of
    the first ``bits`` bits that means a slot it owns."""
    slots = _pv_meant(kvm, alloc_fails, ipi, i)
    return sum(one_if(z3.And(meant, z3.ULT(by, bits)), 32) for meant, by in slots)


def pv_takes(kvm: Kvm, ipi: PvIpi, i: int) -> BoolTerm:
    """vCPU ``i`` accepts what it is called with."""
    asserted = z3.Or(bit_of(ipi.icr, 14), z3.Not(bit_of(ipi.icr, 15)))
    return _accepts(kvm.vcpus[i], z3.Extract(10, 8, ipi.icr), asserted)


def pv_accepts(kvm: Kvm, alloc_fails: BoolTerm, ipi: PvIpi, i: int) -> BoolTerm:
    """vCPU ``i`` is called at least once by ``kvm_pv_send_ipi`` and accepts."""
    return z3.And(pv_calls(kvm, alloc_fails, ipi, i) != 0, pv_takes(kvm, ipi, i))


def pv_count(kvm: Kvm, alloc_fails: BoolTerm, ipi: PvIpi, bits: int = PV_BITS) -> BvTerm:
    """The number of acceptances that the first ``bits`` bits bring, 32 bits."""
    counts = [
        z3.If(pv_takes(kvm, ipi, i), pv_calls(kvm, alloc_fails, ipi, i, bits), z3.BitVecVal(0, 32))
        for i in range(len(kvm.vcpus))
    ]
    return sum(counts)


def pv_ipi(kvm: Kvm, alloc_fails: BoolTerm, ipi: PvIpi) -> BvTerm:
    """``kvm_pv_send_ipi`` returns, as a 32-bit int: the number of acceptances, EINVAL or EOPNOTSUPP."""
    count = pv_count(kvm, alloc_fails, ipi)
    no_map = z3.If(map_present(kvm, alloc_fails), count, z3.BitVecVal(EOPNOTSUPP, 32))
    return z3.If(_pv_refused(ipi), z3.BitVecVal(EINVAL, 32), no_map)
