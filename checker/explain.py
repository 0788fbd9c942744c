"""Why an interrupt goes where it goes, in words that follow from what the specification computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from avicheck.spec import apic_map as built
from avicheck.spec.apic import (
    APIC_DFR_CLUSTER,
    APIC_DFR_FLAT,
    DeliveryMode,
    DestMode,
    Irq,
    Kvm,
    Shorthand,
    Vcpu,
    apic_enabled,
    apic_x2apic_mode,
    kvm_apic_present,
    kvm_lowest_prio_delivery,
)
from avicheck.spec.apic_map import ApicMap, Published, Recalculation, Window
from avicheck.spec.apic_route import (
    Delivery,
    Dest,
    get_dest_slots,
    is_candidate,
    is_recipient,
    kvm_apic_broadcast,
    kvm_apic_is_broadcast_dest,
    kvm_apic_mda,
    phys_broadcast_is_fixed,
    slot,
)
from avicheck.spec.kernels import Fix
from avicheck.spec.lang import NULL, Table, update

_MODES = {
    built.XAPIC_CLUSTER: "XAPIC_CLUSTER",
    built.XAPIC_FLAT: "XAPIC_FLAT",
    built.X2APIC: "X2APIC",
}
_MORE_MODES = {**_MODES, built.SW_DISABLED: "SW_DISABLED", built.MAP_DISABLED: "MAP_DISABLED"}


def logical_mode_name(kvm: Kvm, mode: int) -> str:
    """``map->logical_mode`` without its prefix; before Fix.LOGICAL_MODES the bits of ``map->mode``,
    joined with ``|``, ``NONE`` for none."""
    if kvm.kernel.has(Fix.LOGICAL_MODES):
        return _MORE_MODES[mode]
    return "|".join(name for bit, name in _MODES.items() if mode & bit) or "NONE"


def vcpus(indices: Iterable[int]) -> str:
    """A list of vCPUs: ``vCPU 1``, ``vCPUs 0-3, 7`` or ``nobody``."""
    ordered = list(indices)
    runs: list[list[int]] = []
    for index in ordered:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    names = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
    return f"vCPU{'s' * (len(ordered) > 1)} {names}" if ordered else "nobody"


def explain_map(kvm: Kvm, published: Published, alloc_fails: bool = False) -> str:
    """Whether there is a map, in which logical mode, and whose doing it is if there is none or its
    logical part is disabled."""
    if alloc_fails:
        return "none: its allocation failed"
    if not published.present:
        index, before = _turning_point(kvm, lambda state: state.error != 0)
        taken = _physical_id(kvm.vcpus[index])
        owner = before.map.phys[taken]
        return f"none: physical ID {taken:#x} of vCPU {index} is already vCPU {owner}'s"
    name = logical_mode_name(kvm, published.map.logical_mode)
    if published.map.logical_mode != built.MAP_DISABLED:
        return f"logical mode {name}"
    index, before = _turning_point(kvm, lambda state: state.map.logical_mode == built.MAP_DISABLED)
    return f"logical mode {name}: {_why_disabled(kvm, before.map, index)}"


def _turning_point(kvm: Kvm, turned: Callable[[Recalculation], bool]) -> tuple[int, Recalculation]:
    """The first vCPU whose entry makes the recalculation ``turned``, and the state before it."""
    empty = ApicMap(built.max_apic_id(kvm), built.SW_DISABLED, Table(), Table())
    state = Recalculation(0, False, empty)
    for index in range(len(kvm.vcpus)):
        before, state = state, built.add_vcpu(kvm, state, index)
        if turned(state):
            return index, before
    raise AssertionError("the recalculation never takes this turn")


def _physical_id(vcpu: Vcpu) -> int:
    return vcpu.vcpu_id if apic_x2apic_mode(vcpu) else vcpu.xapic_id


def _why_disabled(kvm: Kvm, before: ApicMap, index: int) -> str:
    vcpu = kvm.vcpus[index]
    mode, logical_id = built.logical_mode(vcpu), vcpu.ldr >> 24
    if before.logical_mode not in (built.SW_DISABLED, mode):
        others = logical_mode_name(kvm, before.logical_mode)
        return f"vCPU {index} is in mode {logical_mode_name(kvm, mode)}, those before it in {others}"
    window = built.kvm_apic_map_get_logical_dest(kvm, update(before, logical_mode=mode), logical_id)
    if not built.is_power_of_2(window.mask):
        return f"logical ID {logical_id:#x} of vCPU {index} has several bits"
    owner = before.logical[window.base + built.ffs(window.mask) - 1]
    return f"logical ID {logical_id:#x} of vCPU {index} is already vCPU {owner}'s"


def explain_fast(kvm: Kvm, published: Published, src: int, irq: Irq) -> str:
    """What delivery through the map does with the request, or why it leaves it to the loop."""
    if irq.shorthand == Shorthand.SELF:
        return "shorthand self: to the sender, whatever the map says"
    if irq.shorthand != Shorthand.NONE:
        return f"left to the loop: shorthand {irq.shorthand.value}"
    if not published.present:
        return "left to the loop: there is no map"
    if kvm_apic_is_broadcast_dest(kvm, published.map, src, irq.dest_id):
        return f"left to the loop: {irq.dest_id:#x} is a broadcast ({_broadcast_rule(kvm, src)})"
    dest = get_dest_slots(kvm, published.map, irq)
    if not dest.handled:
        return "left to the loop: the logical part of the map is not usable"
    if irq.dest_mode == DestMode.PHYSICAL:
        return _explain_physical(published.map, irq, dest)
    return _explain_logical(kvm, published.map, irq, dest)


def _broadcast_rule(kvm: Kvm, src: int) -> str:
    if kvm.x2apic_broadcast_quirk_disabled:
        return "the quirk is disabled: 0xffffffff always is, 0xff unless the logical mode is X2APIC"
    if src != NULL and apic_x2apic_mode(kvm.vcpus[src]):
        return "0xffffffff is one for a sender in x2APIC mode"
    return "0xff is one for any sender not in x2APIC mode"


def _owner(map: ApicMap, dest: Dest, bit: int) -> str:
    owner = slot(map, dest, bit)
    return "empty" if owner == NULL else f"vCPU {owner}"


def _explain_physical(map: ApicMap, irq: Irq, dest: Dest) -> str:
    if dest.mask == 0:
        return f"physical ID {irq.dest_id:#x} is above max_apic_id {map.max_apic_id:#x}: nobody"
    return f"physical slot {irq.dest_id:#x} of the map: {_owner(map, dest, 0)}"


def _explain_logical(kvm: Kvm, map: ApicMap, irq: Irq, dest: Dest) -> str:
    window = built.kvm_apic_map_get_logical_dest(kvm, map, irq.dest_id)
    name = logical_mode_name(kvm, map.logical_mode)
    if window.mask == 0:
        return f"logical destination {irq.dest_id:#x} addresses no slot in logical mode {name}: nobody"
    every = _all_slots(map, window)
    bits = [bit for bit in range(16) if (window.mask >> bit) & 1]
    kind = "physical" if dest.physical else "logical"
    owners = ", ".join(f"{window.base + bit:#x} = {_owner(map, every, bit)}" for bit in bits)
    text = f"{kind} slot{'s' * (len(bits) > 1)} of the map ({name}): {owners}"
    if not kvm_lowest_prio_delivery(irq):
        return text
    if not kvm.vector_hashing:
        picked = [slot(map, dest, bit) for bit in bits if (dest.mask >> bit) & 1]
        return f"{text}; lowest arbitration priority: {vcpus(picked)}"
    bit = bits[irq.vector % len(bits)]
    rule = f"vector {irq.vector:#x} mod {len(bits)} picks slot {window.base + bit:#x}"
    return f"{text}; {rule}: {_owner(map, every, bit)}"


def explain_loop(kvm: Kvm, src: int, irq: Irq) -> str:
    """What the loop over all vCPUs does with the request: who matches by which rule, and who of them
    is picked for lowest priority."""
    passed_on = phys_broadcast_is_fixed(irq)
    matching = [index for index in range(len(kvm.vcpus)) if is_recipient(kvm, index, src, irq)]
    if not matching:
        return "no vCPU matches"
    rules: dict[str, list[int]] = {}
    for index in matching:
        rules.setdefault(match_rule(kvm, index, src, irq), []).append(index)
    text = "; ".join(f"{vcpus(who)} ({rule})" for rule, who in rules.items())
    if not kvm_lowest_prio_delivery(passed_on):
        return text
    candidates = [index for index in matching if is_candidate(kvm, index, src, passed_on)]
    if not candidates:
        return f"{text}; none is software-enabled: nobody"
    if not kvm.vector_hashing:
        return f"{text}; lowest arbitration priority among {vcpus(candidates)}"
    number = irq.vector % len(candidates)
    rule = f"vector {irq.vector:#x} mod {len(candidates)} picks number {number} of {vcpus(candidates)}"
    return f"{text}; {rule}"


def match_rule(kvm: Kvm, index: int, src: int, irq: Irq) -> str:
    """What ``kvm_apic_match_dest`` compares for one vCPU, whether or not it matches."""
    vcpu = kvm.vcpus[index]
    if irq.shorthand != Shorthand.NONE:
        return f"shorthand {irq.shorthand.value}"
    mda = kvm_apic_mda(kvm, vcpu, irq.dest_id, src)
    if kvm_apic_broadcast(vcpu, mda):
        return "broadcast" if mda == irq.dest_id else "broadcast, by the quirk"
    if irq.dest_mode == DestMode.PHYSICAL:
        if apic_x2apic_mode(vcpu) or mda > 0xFF:
            return f"x2APIC ID {vcpu.vcpu_id:#x}"
        return f"xAPIC ID {vcpu.xapic_id:#x}"
    if apic_x2apic_mode(vcpu):
        return f"x2APIC LDR {vcpu.ldr:#x}"
    formats = {APIC_DFR_FLAT: "flat", APIC_DFR_CLUSTER: "cluster"}
    return f"logical ID {vcpu.ldr >> 24:#x}, {formats.get(vcpu.dfr, f'DFR {vcpu.dfr:#x}, never matches')}"


def refusals(kvm: Kvm, delivery: Delivery) -> Iterator[str]:
    """Why the vCPUs that were asked and did not accept the interrupt refused it."""
    for call in delivery.calls.items():
        if call.accepted:
            continue
        vcpu = kvm.vcpus[call.vcpu]
        if not kvm_apic_present(vcpu):
            yield f"vCPU {call.vcpu} refuses it: hardware-disabled"
        elif not apic_enabled(vcpu):
            yield f"vCPU {call.vcpu} refuses it: software-disabled"
        elif call.mode is DeliveryMode.EXTINT:
            yield f"vCPU {call.vcpu} refuses it: extint is never taken from the bus"
        else:
            yield f"vCPU {call.vcpu} refuses it: {call.mode.value}, level-triggered and de-asserted"


def divergence(kvm: Kvm, published: Published, src: int, irq: Irq, fast: int, slow: int) -> Iterator[str]:
    """For each vCPU that only one of two acceptance masks holds: what decided on the other side."""
    for index in range(len(kvm.vcpus)):
        rule = match_rule(kvm, index, src, irq)
        if (fast & ~slow) >> index & 1:
            matches = is_recipient(kvm, index, src, irq)
            why = "it matches but is not picked" if matches else "it does not match"
            yield f"only the map serves vCPU {index}: in the loop {why} ({rule})"
        if (slow & ~fast) >> index & 1:
            why = _why_not_by_map(kvm, published.map, index, irq)
            yield f"only the loop serves vCPU {index} ({rule}): {why}"


def _why_not_by_map(kvm: Kvm, map: ApicMap, index: int, irq: Irq) -> str:
    window = built.kvm_apic_map_get_logical_dest(kvm, map, irq.dest_id)
    physical = irq.dest_mode == DestMode.PHYSICAL
    every = Dest(True, True, irq.dest_id, 1) if physical else _all_slots(map, window)
    if index in [slot(map, every, bit) for bit in range(16)]:
        return "the map addresses it too but does not pick it"
    vcpu, table = kvm.vcpus[index], map.phys if every.physical else map.logical
    if not every.physical and not vcpu.sw_enabled:
        return "software-disabled vCPUs are not in the logical part of the map"
    owned = ", ".join(f"{number:#x}" for number, owner in table.items().items() if owner == index)
    kind = "physical" if every.physical else "logical"
    text = f"in the map it owns {kind} slot {owned}" if owned else f"in the map it owns no {kind} slot"
    if physical and every.physical and (first := map.phys[irq.dest_id]) != NULL:
        text += f", slot {irq.dest_id:#x} is vCPU {first}'s"
        if kvm.x2apic_format or not kvm.kernel.has(Fix.ALIASED_XAPIC_IDS):
            mode = (
                "x2APIC mode takes an ID"
                if apic_x2apic_mode(kvm.vcpus[first])
                else "the first owner of an ID keeps it"
            )
            text += f" (hotplug hack: {mode})"
    return text


def _all_slots(map: ApicMap, window: Window) -> Dest:
    """The slots that a logical destination addresses, before one is picked."""
    return Dest(True, map.logical_mode == built.X2APIC, window.base, window.mask)
