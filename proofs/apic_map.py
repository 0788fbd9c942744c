"""The claims about apic-map, as ``avicheck check`` and ``avicheck prove`` decide them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final

from avicheck.checker.claims import Claim, Explanation, Part
from avicheck.proofs.divergence import (
    CLASSES,
    DivergenceClass,
    answers_to,
    covers_several,
    diverges,
    effective_id,
    has_hotplug_hack,
    in_xapic_mode,
    shares_logical_id,
)
from avicheck.proofs.review_001 import (
    dropped_for_an_alias,
    flag_changes_nothing,
    flag_serves_through_the_map,
)
from avicheck.spec.apic import (
    APIC_BROADCAST,
    DestMode,
    Kvm,
    Shorthand,
    Vcpu,
    apic_enabled,
    has_caller,
    kvm_apic_present,
    kvm_lowest_prio_delivery,
)
from avicheck.spec.apic_map import (
    X2APIC,
    XAPIC_CLUSTER,
    XAPIC_FLAT,
    logical_mode,
    xapic_id_mismatch,
)
from avicheck.spec.apic_map_model import Case, Outcome
from avicheck.spec.apic_map_model import outcome as outcome_of
from avicheck.spec.kernels import KERNELS, Fix, Kernel
from avicheck.spec.lang import NULL, rule, update

# Parts of all cases: what one query asks.


@rule
def physical(case: Case, outcome: Outcome) -> bool:
    """A physical destination."""
    return case.irq.dest_mode == DestMode.PHYSICAL


def _logical(mode: int) -> Part:
    @rule
    def when(case: Case, outcome: Outcome) -> bool:
        return case.irq.dest_mode == DestMode.LOGICAL and outcome.map.map.logical_mode == mode

    return Part({XAPIC_FLAT: "flat", XAPIC_CLUSTER: "cluster", X2APIC: "x2apic"}[mode], when)


@rule
def other_logical(case: Case, outcome: Outcome) -> bool:
    """A logical destination, and a map in none of the three modes."""
    mode = outcome.map.map.logical_mode
    used = mode in (XAPIC_FLAT, XAPIC_CLUSTER, X2APIC)
    return case.irq.dest_mode == DestMode.LOGICAL and not used


ROUTES: Final = (
    Part("physical", physical),
    _logical(XAPIC_FLAT),
    _logical(XAPIC_CLUSTER),
    _logical(X2APIC),
    Part("other", other_logical),
)


def _hashed(part: Part, hashing: bool) -> Part:
    @rule
    def when(case: Case, outcome: Outcome) -> bool:
        return part.when(case, outcome) and case.kvm.vector_hashing == hashing

    return Part(f"{part.name}/{'hashing' if hashing else 'priority'}", when)


ARBITRATED: Final = tuple(_hashed(part, hashing) for part in ROUTES for hashing in (False, True))


@rule
def lowest_priority(case: Case, outcome: Outcome) -> bool:
    """Delivery mode LOWEST, or the redirection hint."""
    return kvm_lowest_prio_delivery(case.irq)


@rule
def not_lowest_priority(case: Case, outcome: Outcome) -> bool:
    """Everything else: FIXED, NMI, INIT, SIPI, SMI."""
    return not kvm_lowest_prio_delivery(case.irq)


# The theorem.


@rule
def same_vcpus(case: Case, outcome: Outcome) -> bool:
    """No vCPU diverges."""
    return outcome.delivery.accepted == outcome.slow.accepted


@rule
def in_some_class(case: Case, outcome: Outcome, i: int) -> bool:
    """A class has this vCPU."""
    some = False
    for divergence in CLASSES:
        some |= divergence.predicate(case, outcome.map.map, i)
    return some


@rule
def explained(case: Case, outcome: Outcome, i: int) -> bool:
    """A vCPU that diverges is in a class."""
    return not diverges(outcome, i) or in_some_class(case, outcome, i)


@rule
def in_other_class(case: Case, outcome: Outcome, name: str, i: int) -> bool:
    """A class other than the named one has this vCPU."""
    some = False
    for divergence in CLASSES:
        if divergence.name != name:
            some |= divergence.predicate(case, outcome.map.map, i)
    return some


def _alone(divergence: DivergenceClass) -> Claim:
    @rule
    def alone(case: Case, outcome: Outcome, i: int) -> bool:
        inside = divergence.predicate(case, outcome.map.map, i)
        return diverges(outcome, i) and inside and not in_other_class(case, outcome, divergence.name, i)

    return Claim(
        f"class-{divergence.name}",
        divergence.sentence,
        alone,
        _THEOREM,
        kind="sometimes",
        within=real_caller,
        each_vcpu=True,
        vcpus=3,
        on=divergence.occurs_on,
        explanation=Explanation(
            inspect.cleandoc(divergence.predicate.__doc__ or ""), divergence.mechanism, divergence.documented
        ),
    )


@rule
def real_caller(case: Case, outcome: Outcome) -> bool:
    """Some caller in KVM can make the request."""
    return has_caller(case.kvm, case.src, case.irq)


# IDs and their owners.


@rule
def share_an_id(a: Vcpu, b: Vcpu) -> bool:
    """Two enabled APICs answer to one physical ID."""
    return kvm_apic_present(a) and kvm_apic_present(b) and effective_id(a) == effective_id(b)


@rule
def ids_aliased(kvm: Kvm) -> bool:
    """Some two enabled APICs answer to one physical ID."""
    some = False
    for i in range(len(kvm.vcpus)):
        for j in range(i):
            some |= share_an_id(kvm.vcpus[i], kvm.vcpus[j])
    return some


@rule
def one_owner(case: Case, outcome: Outcome) -> bool:
    """With the map present, no physical ID has two APICs that answer to it."""
    return not outcome.map.present or not ids_aliased(case.kvm)


@rule
def one_owner_format_off(case: Case, outcome: Outcome) -> bool:
    """The same, where userspace has not enabled 32-bit IDs."""
    return case.kvm.x2apic_format or one_owner(case, outcome)


@rule
def owned(case: Case, outcome: Outcome, i: int) -> bool:
    """With the map present, every enabled APIC's physical ID has an owner, and that answers to it."""
    vcpu = case.kvm.vcpus[i]
    if not outcome.map.present or not kvm_apic_present(vcpu):
        return True
    owner = outcome.map.map.phys[effective_id(vcpu)]
    return owner != NULL and answers_to(case.kvm.vcpus[owner], effective_id(vcpu))


# The inhibit reasons.


@rule
def physical_aliased_exact(case: Case, outcome: Outcome) -> bool:
    """PHYSICAL_ID_ALIASED is set if and only if two enabled APICs answer to one physical ID."""
    return outcome.map.physical_id_aliased == ids_aliased(case.kvm)


@rule
def physical_aliased_as_built(case: Case, outcome: Outcome) -> bool:
    """... if and only if the allocation failed, or they do and 32-bit IDs are off."""
    aliased = ids_aliased(case.kvm) and not has_hotplug_hack(case.kvm)
    return outcome.map.physical_id_aliased == (case.alloc_fails or aliased)


@rule
def counted(vcpu: Vcpu) -> bool:
    """An APIC that the logical map takes into account."""
    return apic_enabled(vcpu) and vcpu.ldr != 0


@rule
def differ_in_mode(a: Vcpu, b: Vcpu) -> bool:
    """Two counted APICs in different logical modes."""
    return counted(a) and counted(b) and logical_mode(a) != logical_mode(b)


@rule
def clash(a: Vcpu, b: Vcpu) -> bool:
    """Two APICs that one logical map cannot hold."""
    return differ_in_mode(a, b) or shares_logical_id(a, b)


@rule
def logical_ids_aliased(kvm: Kvm) -> bool:
    """Some two APICs share an xAPIC logical ID, or one has an ID of several bits."""
    some = False
    for i, vcpu in enumerate(kvm.vcpus):
        some |= covers_several(vcpu)
        for j in range(i):
            some |= shares_logical_id(vcpu, kvm.vcpus[j])
    return some


@rule
def logical_map_impossible(kvm: Kvm) -> bool:
    """Logical IDs are aliased, or the modes are mixed."""
    some = logical_ids_aliased(kvm)
    for i, vcpu in enumerate(kvm.vcpus):
        for j in range(i):
            some |= differ_in_mode(vcpu, kvm.vcpus[j])
    return some


@rule
def logical_aliased_exact(case: Case, outcome: Outcome) -> bool:
    """LOGICAL_ID_ALIASED is set if and only if logical IDs are aliased."""
    return outcome.map.logical_id_aliased == logical_ids_aliased(case.kvm)


@rule
def logical_aliased_as_built(case: Case, outcome: Outcome) -> bool:
    """... if and only if there is no map, or they are, or the modes are mixed."""
    return outcome.map.logical_id_aliased == (not outcome.map.present or logical_map_impossible(case.kvm))


@rule
def some_id_modified(kvm: Kvm) -> bool:
    """Some enabled APIC in xAPIC mode has an ID that is not its vCPU's."""
    some = False
    for vcpu in kvm.vcpus:
        some |= in_xapic_mode(vcpu) and xapic_id_mismatch(vcpu)
    return some


@rule
def id_modified_exact(case: Case, outcome: Outcome) -> bool:
    """APIC_ID_MODIFIED is set if and only if some xAPIC ID was modified."""
    return outcome.map.apic_id_modified == some_id_modified(case.kvm)


@rule
def id_modified_with_map(case: Case, outcome: Outcome) -> bool:
    """... where there is a map; and it is never set without reason."""
    if outcome.map.present:
        return outcome.map.apic_id_modified == some_id_modified(case.kvm)
    return not outcome.map.apic_id_modified or some_id_modified(case.kvm)


# What 001 says.


@rule
def honors_aliases(case: Case, outcome: Outcome) -> bool:
    """Format off: a physical interrupt to an 8-bit ID reaches every APIC that answers to it."""
    small = case.irq.dest_mode == DestMode.PHYSICAL and case.irq.dest_id < APIC_BROADCAST
    return case.kvm.x2apic_format or not small or same_vcpus(case, outcome)


@rule
def breaks_nothing(case: Case, outcome: Outcome) -> bool:
    """What 6.1 delivers as the loop does is still delivered so."""
    before = outcome_of(update(case, kvm=update(case.kvm, kernel=KERNELS["6.1"])))
    return not same_vcpus(case, before) or same_vcpus(case, outcome)


@rule
def breaks_nothing_physical_small(case: Case, outcome: Outcome) -> bool:
    """... for physical destinations of 8 bits."""
    small = case.irq.dest_mode == DestMode.PHYSICAL and case.irq.dest_id <= 0xFF
    return not small or breaks_nothing(case, outcome)


@rule
def lowest_id_answering(kvm: Kvm, dest_id: int) -> int:
    """The smallest vCPU ID among the enabled APICs that answer to a physical ID; 4096 if none does."""
    lowest = 4096
    for vcpu in kvm.vcpus:
        lowest = _lower_id(lowest, vcpu, dest_id)
    return lowest


@rule
def _lower_id(lowest: int, vcpu: Vcpu, dest_id: int) -> int:
    return vcpu.vcpu_id if answers_to(vcpu, dest_id) and vcpu.vcpu_id < lowest else lowest


@rule
def errata_lowest_id(case: Case, outcome: Outcome, i: int) -> bool:
    """Format on: of the APICs that answer to a physical ID, the one with the lowest vCPU ID gets it."""
    kvm, irq = case.kvm, case.irq
    to_one_id = irq.dest_mode == DestMode.PHYSICAL and irq.dest_id < APIC_BROADCAST and kvm.x2apic_format
    if not to_one_id or irq.shorthand != Shorthand.NONE or not outcome.map.present:
        return True
    lowest = kvm.vcpus[i].vcpu_id == lowest_id_answering(kvm, irq.dest_id)
    return (outcome.delivery.called >> i) & 1 == 0 or lowest


# The map's other users.


@rule
def single_vcpu_agrees(case: Case, outcome: Outcome) -> bool:
    """A device's interrupt that is said to have a single target goes to it alone in the loop too."""
    device = case.src == NULL and case.irq.shorthand == Shorthand.NONE
    if not device or kvm_lowest_prio_delivery(case.irq) or outcome.single_vcpu == NULL:
        return True
    return outcome.slow.called == 1 << outcome.single_vcpu


@rule
def dest_bitmap_covers(case: Case, outcome: Outcome) -> bool:
    """A device's interrupt is handed to no vCPU outside its destination bitmap."""
    device = case.src == NULL and case.irq.shorthand == Shorthand.NONE
    return not device or outcome.delivery.called & ~outcome.dest_bitmap == 0


@rule
def single_vcpu_is_served(case: Case, outcome: Outcome) -> bool:
    """... and delivery hands it to that vCPU, or to nobody."""
    device = case.src == NULL and case.irq.shorthand == Shorthand.NONE
    if not device or kvm_lowest_prio_delivery(case.irq) or outcome.single_vcpu == NULL:
        return True
    return outcome.delivery.called == 1 << outcome.single_vcpu


def _has(fix: Fix) -> Callable[[Kernel], bool]:
    return lambda kernel: kernel.has(fix)


_THEOREM: Final = "001; lapic.c: kvm_irq_delivery_to_apic_fast, kvm_apic_match_dest"
_BUILD: Final = "lapic.c: kvm_recalculate_apic_map"
_ERRATA: Final = "errata.rst, x2APIC; 001"

CLAIMS: Final = (
    Claim(
        "same-vcpus",
        "Delivery through the map and the loop over all vCPUs are accepted by the same vCPUs.",
        same_vcpus,
        _THEOREM,
        vcpus=2,
    ),
    Claim(
        "same-outside-classes",
        "Outside the divergence classes they are: fixed, NMI, INIT, SIPI and SMI.",
        explained,
        _THEOREM,
        within=not_lowest_priority,
        each_vcpu=True,
        parts=ROUTES,
    ),
    Claim(
        "same-outside-classes-lowest",
        "Outside the divergence classes they are: lowest priority, by priority and by hashing.",
        explained,
        _THEOREM,
        within=lowest_priority,
        each_vcpu=True,
        apart=False,
        parts=ARBITRATED,
        vcpus=4,
    ),
    *map(_alone, CLASSES),
    Claim(
        "one-owner",
        "With the map present every physical ID has at most one APIC that answers to it.",
        one_owner,
        _BUILD,
    ),
    Claim(
        "one-owner-format-off",
        "It has, if userspace has not enabled 32-bit IDs.",
        one_owner_format_off,
        "001",
    ),
    Claim(
        "owned",
        "With the map present every enabled APIC's physical ID has an owner that answers to it.",
        owned,
        _BUILD,
        each_vcpu=True,
    ),
    Claim(
        "physical-aliased",
        "PHYSICAL_ID_ALIASED is set if and only if two enabled APICs answer to one physical ID.",
        physical_aliased_exact,
        Fix.INHIBIT_PHYSICAL_ALIASED.value,
        on=_has(Fix.INHIBIT_PHYSICAL_ALIASED),
    ),
    Claim(
        "physical-aliased-as-built",
        "It is set if and only if the allocation failed, or they do and 32-bit IDs are off.",
        physical_aliased_as_built,
        Fix.INHIBIT_PHYSICAL_ALIASED.value,
        on=_has(Fix.INHIBIT_PHYSICAL_ALIASED),
    ),
    Claim(
        "logical-aliased",
        "LOGICAL_ID_ALIASED is set if and only if logical IDs overlap or have several bits.",
        logical_aliased_exact,
        Fix.INHIBIT_LOGICAL_ALIASED.value,
        on=_has(Fix.INHIBIT_LOGICAL_ALIASED),
    ),
    Claim(
        "logical-aliased-as-built",
        "It is set if and only if there is no map, or they do, or the logical modes are mixed.",
        logical_aliased_as_built,
        Fix.INHIBIT_LOGICAL_ALIASED.value,
        on=_has(Fix.INHIBIT_LOGICAL_ALIASED),
    ),
    Claim(
        "id-modified",
        "APIC_ID_MODIFIED is set if and only if an enabled xAPIC's ID is not its vCPU's.",
        id_modified_exact,
        Fix.INHIBIT_ID_MODIFIED.value,
        on=_has(Fix.INHIBIT_ID_MODIFIED),
    ),
    Claim(
        "id-modified-with-map",
        "It is, if there is a map; and it is never set without reason.",
        id_modified_with_map,
        Fix.INHIBIT_ID_MODIFIED.value,
        on=_has(Fix.INHIBIT_ID_MODIFIED),
    ),
    Claim(
        "honors-aliases",
        "Format off: a physical interrupt to an ID below 0xff reaches every APIC that answers to it.",
        honors_aliases,
        "001: honor architectural behavior",
        within=not_lowest_priority,
    ),
    Claim(
        "breaks-nothing",
        "What 6.1 delivers as the loop does, this kernel does too.",
        breaks_nothing,
        "001: won't break existing setups",
        within=not_lowest_priority,
        vcpus=3,
        on=_has(Fix.ALIASED_XAPIC_IDS),
    ),
    Claim(
        "breaks-nothing-small-ids",
        "It does, for physical destinations of 8 bits.",
        breaks_nothing_physical_small,
        "001: won't break existing setups",
        within=not_lowest_priority,
        on=_has(Fix.ALIASED_XAPIC_IDS),
    ),
    Claim(
        "errata-lowest-id",
        "Format on: of the APICs that answer to an ID, the one with the lowest vCPU ID gets the interrupt.",
        errata_lowest_id,
        _ERRATA,
        within=not_lowest_priority,
        each_vcpu=True,
    ),
    Claim(
        "review-flag-logical",
        "Dropping the map for an alias takes a usable logical map with it.",
        flag_serves_through_the_map,
        "001, review: why not a flag, as for the logical modes?",
        kind="sometimes",
        vcpus=3,
        on=_has(Fix.ALIASED_XAPIC_IDS),
    ),
    Claim(
        "review-flag-same",
        "Flagging the physical part in place of dropping the map would deliver to the same vCPUs.",
        flag_changes_nothing,
        "001, review: why not a flag, as for the logical modes?",
        within=dropped_for_an_alias,
        vcpus=3,
        on=_has(Fix.ALIASED_XAPIC_IDS),
    ),
    Claim(
        "single-vcpu",
        "A device's interrupt with a single target, by the map, matches nobody else in the loop.",
        single_vcpu_agrees,
        "irq_comm.c: kvm_intr_is_single_vcpu (posted interrupts of devices)",
        vcpus=4,
    ),
    Claim(
        "single-vcpu-served",
        "A device's interrupt with a single target is delivered to it and to nobody else.",
        single_vcpu_is_served,
        "irq_comm.c: kvm_intr_is_single_vcpu",
        vcpus=4,
    ),
    Claim(
        "dest-bitmap",
        "A device's interrupt is handed to no vCPU outside its destination bitmap.",
        dest_bitmap_covers,
        "lapic.c: kvm_bitmap_or_dest_vcpus (IOAPIC scan)",
        parts=ARBITRATED,
        vcpus=4,
    ),
)
"""Every claim, in the order in which a reader meets them."""
