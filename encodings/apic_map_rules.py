"""The finished APIC map as closed forms over z3 terms.

An independent statement of ``kvm_recalculate_apic_map`` (arch/x86/kvm/lapic.c), to be proved equal to the
lifted specification: what the map says, never how a loop gets there. Arguments are records declared by
``z3vars``; a pointer is a signed index term, -1 for NULL. Unless said otherwise a statement holds where
the map is present, for configurations that are ``config_ok`` and at rest (no vCPU appears while the map is
built).
"""

from __future__ import annotations

import operator
from functools import reduce
from itertools import accumulate
from typing import Final, NamedTuple

import z3

from avicheck.encodings.rule_terms import (
    first,
    is_any,
    last,
    one_of_16,
    pointer,
    remembered,
    several_bits,
    wide,
)
from avicheck.encodings.z3vars import BoolTerm, BvTerm
from avicheck.spec.apic import APIC_DFR_FLAT, ApicMode, Kvm, Vcpu
from avicheck.spec.kernels import Fix
from avicheck.spec.lang import NULL

SW_DISABLED: Final = 0
XAPIC_CLUSTER: Final = 4
XAPIC_FLAT: Final = 8
X2APIC: Final = 16
MAP_DISABLED: Final = 32
"""``enum kvm_apic_logical_mode``; before LOGICAL_MODES, the bits of ``map->mode``."""


def is_present(vcpu: Vcpu) -> BoolTerm:
    return z3.Not(is_any(vcpu.mode, ApicMode.DISABLED))


def in_x2apic_mode(vcpu: Vcpu) -> BoolTerm:
    return is_any(vcpu.mode, ApicMode.X2APIC)


def in_xapic_mode(vcpu: Vcpu) -> BoolTerm:
    return is_any(vcpu.mode, ApicMode.XAPIC)


def in_flat_mode(vcpu: Vcpu) -> BoolTerm:
    return vcpu.dfr == APIC_DFR_FLAT


def logical_id(vcpu: Vcpu) -> BvTerm:
    return z3.Extract(31, 24, vcpu.ldr)


def config_ok(kvm: Kvm) -> BoolTerm:
    """vCPU ids are unique; in x2APIC mode LDR follows from the id and the xAPIC ID is 0."""

    def canonical(vcpu: Vcpu) -> BoolTerm:
        cluster, position = z3.Extract(11, 4, vcpu.vcpu_id), z3.Extract(3, 0, vcpu.vcpu_id)
        ldr = z3.Concat(wide(cluster, 16), one_of_16(position))
        return z3.Implies(in_x2apic_mode(vcpu), z3.And(vcpu.ldr == ldr, vcpu.xapic_id == 0))

    return z3.And(z3.Distinct([vcpu.vcpu_id for vcpu in kvm.vcpus]), *map(canonical, kvm.vcpus))


# The physical map


def _hotplug_hack(kvm: Kvm) -> BoolTerm:
    """vCPU ids above 0xff are addressable in xAPIC mode, aliases are settled instead of refused."""
    return kvm.x2apic_format if kvm.kernel.has(Fix.ALIASED_XAPIC_IDS) else z3.BoolVal(True)


def _effective_id(vcpu: Vcpu) -> BvTerm:
    return z3.If(in_x2apic_mode(vcpu), vcpu.vcpu_id, wide(vcpu.xapic_id, 12))


@remembered
def _unaliased(kvm: Kvm) -> list[BoolTerm]:
    """At i: no two present vCPUs among the first i have the same effective ID."""

    def alias(a: Vcpu, b: Vcpu) -> BoolTerm:
        return z3.And(is_present(a), is_present(b), _effective_id(a) == _effective_id(b))

    unaliased = [z3.BoolVal(True)]
    for i, vcpu in enumerate(kvm.vcpus):
        aliases = [alias(vcpu, earlier) for earlier in kvm.vcpus[:i]]
        unaliased.append(z3.And(unaliased[-1], z3.Not(z3.Or(aliases))))
    return unaliased


@remembered
def map_present(kvm: Kvm, alloc_fails: BoolTerm) -> BoolTerm:
    """There is a map: it was allocated, and 32-bit IDs are on or no two vCPUs share an effective ID."""
    return z3.And(z3.Not(alloc_fails), z3.Or(_hotplug_hack(kvm), _unaliased(kvm)[-1]))


def max_apic_id(kvm: Kvm) -> BvTerm:
    """The largest of 255 and the present vCPUs' ids, 12 bits."""
    return reduce(
        lambda most, vcpu: z3.If(z3.And(is_present(vcpu), z3.UGT(vcpu.vcpu_id, most)), vcpu.vcpu_id, most),
        kvm.vcpus,
        z3.BitVecVal(255, 12),
    )


def _claims_vcpu_id(kvm: Kvm, vcpu: Vcpu) -> BoolTerm:
    """The slot of its vcpu_id is this vCPU's, whoever else claims it."""
    hotplugged = z3.And(in_xapic_mode(vcpu), _hotplug_hack(kvm), z3.UGT(vcpu.vcpu_id, 0xFF))
    return z3.Or(in_x2apic_mode(vcpu), hotplugged)


def owner_phys(kvm: Kvm, d: BvTerm) -> BvTerm:
    """Who owns physical slot ``d`` (any width from 12 bits): the vCPU that claims its own vcpu_id there, else
    the first one in xAPIC mode whose xAPIC ID is ``d``, else NULL."""
    bits = d.size()
    by_vcpu_id = [z3.And(_claims_vcpu_id(kvm, vcpu), wide(vcpu.vcpu_id, bits) == d) for vcpu in kvm.vcpus]
    by_xapic_id = [z3.And(in_xapic_mode(vcpu), wide(vcpu.xapic_id, bits) == d) for vcpu in kvm.vcpus]
    return last(kvm, by_vcpu_id, first(kvm, by_xapic_id, pointer(kvm, NULL)))


class Slot(NamedTuple):
    """A physical slot a vCPU may own."""

    owned: BoolTerm
    id: BvTerm
    """12 bits."""


@remembered
def phys_slots(kvm: Kvm) -> list[tuple[Slot, Slot]]:
    """The two physical slots each vCPU can own, never the same: its vcpu_id's and its xAPIC ID's. The latter
    is not its own where another vCPU claims that vcpu_id, or an earlier one has that xAPIC ID."""

    def unclaimed(i: int) -> BoolTerm:
        xapic_id = kvm.vcpus[i].xapic_id
        claimed = [
            z3.And(_claims_vcpu_id(kvm, other), other.vcpu_id == wide(xapic_id, 12))
            for j, other in enumerate(kvm.vcpus)
            if j != i
        ]
        earlier = [z3.And(in_xapic_mode(other), other.xapic_id == xapic_id) for other in kvm.vcpus[:i]]
        return z3.Not(z3.Or(claimed + earlier))

    return [
        (
            Slot(_claims_vcpu_id(kvm, vcpu), vcpu.vcpu_id),
            Slot(z3.And(in_xapic_mode(vcpu), unclaimed(i)), wide(vcpu.xapic_id, 12)),
        )
        for i, vcpu in enumerate(kvm.vcpus)
    ]


# The logical map


def _participates(vcpu: Vcpu) -> BoolTerm:
    """This vCPU has a say in the logical map: present, software-enabled, with a non-zero LDR."""
    return z3.And(is_present(vcpu), vcpu.sw_enabled, z3.Not(vcpu.ldr == 0))


@remembered
def _modes(kvm: Kvm) -> list[BvTerm]:
    """At i: the union of the modes of the participants among the first i vCPUs, 6 bits."""

    def mode(vcpu: Vcpu) -> BvTerm:
        xapic = z3.If(in_flat_mode(vcpu), z3.BitVecVal(XAPIC_FLAT, 6), z3.BitVecVal(XAPIC_CLUSTER, 6))
        own = z3.If(in_x2apic_mode(vcpu), z3.BitVecVal(X2APIC, 6), xapic)
        return z3.If(_participates(vcpu), own, z3.BitVecVal(SW_DISABLED, 6))

    return list(accumulate(map(mode, kvm.vcpus), operator.or_, initial=z3.BitVecVal(SW_DISABLED, 6)))


def _member_bits(vcpu: Vcpu) -> BvTerm:
    """The bits of the logical ID that select members: all 8 in flat mode, the low 4 in cluster mode."""
    return z3.If(in_flat_mode(vcpu), logical_id(vcpu), logical_id(vcpu) & 0xF)


def is_entered(vcpu: Vcpu) -> BoolTerm:
    """A participant in xAPIC mode whose logical ID selects something."""
    return z3.And(_participates(vcpu), in_xapic_mode(vcpu), z3.Not(_member_bits(vcpu) == 0))


def logical_seat(kvm: Kvm, vcpu: Vcpu) -> BvTerm:
    """The one bit, of 8, at which an entered vCPU sits: the lowest of its member bits. Where having several
    disables the map, they are that bit."""
    bits = _member_bits(vcpu)
    return bits if kvm.kernel.has(Fix.LOGICAL_MULTI_MDA) else bits & -bits


def share_seat(kvm: Kvm, a: Vcpu, b: Vcpu) -> BoolTerm:
    """Two vCPUs of one mode are entered in the same slot."""
    same_cluster = z3.Or(in_flat_mode(a), z3.Extract(7, 4, logical_id(a)) == z3.Extract(7, 4, logical_id(b)))
    return z3.And(is_entered(a), is_entered(b), logical_seat(kvm, a) == logical_seat(kvm, b), same_cluster)


@remembered
def _disabled(kvm: Kvm) -> list[BoolTerm]:
    """At i: the first i vCPUs cannot have a logical map: their modes differ, or one has several bits, or two
    share one bit, as far as the kernel minds."""
    disabled = [z3.BoolVal(False)]
    for i, vcpu in enumerate(kvm.vcpus):
        reasons = [disabled[-1], several_bits(_modes(kvm)[i + 1])]
        if kvm.kernel.has(Fix.LOGICAL_MULTI_MDA):
            reasons.append(z3.And(is_entered(vcpu), several_bits(_member_bits(vcpu))))
        if kvm.kernel.has(Fix.LOGICAL_ALIASED):
            reasons += [share_seat(kvm, vcpu, earlier) for earlier in kvm.vcpus[:i]]
        disabled.append(z3.Or(reasons))
    return disabled


@remembered
def logical_mode(kvm: Kvm) -> BvTerm:
    """The mode all participants agree on, SW_DISABLED without any, MAP_DISABLED if they cannot share a map;
    6 bits. Before LOGICAL_MODES: the union of their modes."""
    modes = _modes(kvm)[-1]
    if not kvm.kernel.has(Fix.LOGICAL_MODES):
        return modes
    return z3.If(_disabled(kvm)[-1], z3.BitVecVal(MAP_DISABLED, 6), modes)


def mode_is(kvm: Kvm, *modes: int) -> BoolTerm:
    return z3.Or([logical_mode(kvm) == mode for mode in modes])


def logical_map_usable(kvm: Kvm) -> BoolTerm:
    if kvm.kernel.has(Fix.LOGICAL_MODES):
        return z3.Not(mode_is(kvm, MAP_DISABLED))
    return mode_is(kvm, XAPIC_CLUSTER, XAPIC_FLAT, X2APIC)


def owner_logical(kvm: Kvm, slot: BvTerm) -> BvTerm:
    """Who owns xAPIC logical slot ``slot`` (6 bits): flat bit, or cluster * 4 + bit; else NULL.

    The last vCPU entered there. The vCPU at which the logical map breaks down is not entered, nor is any
    after it; so a map that ends up disabled keeps what was entered before.
    """
    flat_bit = z3.BitVecVal(1, 8) << wide(slot, 8)
    cluster, cluster_bit = z3.Extract(5, 2, slot), z3.BitVecVal(1, 8) << wide(z3.Extract(1, 0, slot), 8)

    def owns(i: int) -> BoolTerm:
        vcpu = kvm.vcpus[i]
        in_cluster = z3.And(
            z3.Extract(7, 4, logical_id(vcpu)) == cluster, logical_seat(kvm, vcpu) == cluster_bit
        )
        here = z3.If(in_flat_mode(vcpu), logical_seat(kvm, vcpu) == flat_bit, in_cluster)
        return z3.And(is_entered(vcpu), here, z3.Not(_disabled(kvm)[i + 1]))

    return last(kvm, [owns(i) for i in range(len(kvm.vcpus))], pointer(kvm, NULL))


# Inhibits


class Inhibits(NamedTuple):
    """The APICv inhibit reasons that recalculating the map sets (and clears where false)."""

    physical_id_aliased: BoolTerm
    logical_id_aliased: BoolTerm
    apic_id_modified: BoolTerm


def inhibits(kvm: Kvm, alloc_fails: BoolTerm) -> Inhibits:
    """Each reason a kernel knows. A modified xAPIC ID counts from the vCPUs up to and including the first
    whose effective ID another one before it has; without memory for a map no vCPU is looked at."""
    present = map_present(kvm, alloc_fails)
    modified = [
        z3.And(
            in_xapic_mode(vcpu),
            vcpu.xapic_id != z3.Extract(7, 0, vcpu.vcpu_id),
            z3.Or(_hotplug_hack(kvm), _unaliased(kvm)[i]),
        )
        for i, vcpu in enumerate(kvm.vcpus)
    ]
    no_logical_map = z3.Or(z3.Not(present), mode_is(kvm, MAP_DISABLED))

    def where(fix: Fix, reason: BoolTerm) -> BoolTerm:
        return reason if kvm.kernel.has(fix) else z3.BoolVal(False)

    return Inhibits(
        where(Fix.INHIBIT_PHYSICAL_ALIASED, z3.Not(present)),
        where(Fix.INHIBIT_LOGICAL_ALIASED, no_logical_map),
        where(Fix.INHIBIT_ID_MODIFIED, z3.And(z3.Not(alloc_fails), z3.Or(modified))),
    )
