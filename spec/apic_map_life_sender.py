"""The model apic-map-life: the interrupt of a device is routed (arch/x86/kvm/lapic.c, irq_comm.c)."""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.apic import DeliveryMode, DestMode, Irq, Kvm, Pointer, Shorthand, TrigMode
from avicheck.spec.apic_map import Published
from avicheck.spec.apic_map_life_state import (
    Arch,
    Changes,
    Handed,
    Setup,
    filled,
    kvm_of,
    kvm_of_map,
    rcu_read_lock,
    rcu_read_unlock,
    registers_of,
    vcpu_id_of,
    vcpu_with,
)
from avicheck.spec.apic_route import apic_accept_irq, is_recipient, kvm_apic_map_get_dest_lapic, slot
from avicheck.spec.cpu import Cpu
from avicheck.spec.lang import NULL, record, rule
from avicheck.spec.memory import local
from avicheck.spec.threads import Thread


class To(Enum):
    """Where an interrupt goes."""

    FIRST = "physical ID 0"
    LAST = "the physical ID that the last vCPU has in xAPIC mode after a reset"
    LAST_X2APIC = "the physical ID that the last vCPU has in x2APIC mode"
    LOGICAL_1 = "logical ID 1"
    LOGICAL_BOTH = "logical IDs 1 and 2"


@record
class Slots:
    """What a map answers: whether it can tell, and who is in the slots, two at most."""

    handled: bool
    first: Pointer
    second: Pointer


@local
class Send:
    """The local variables of kvm_irq_delivery_to_apic; the slots that are left to serve."""

    to: To = To.FIRST
    first: Pointer = NULL
    second: Pointer = NULL


SENDER: Final = Thread("sender", Send, count="senders", source="lapic.c kvm_irq_delivery_to_apic_fast")


@rule
def irq_to(to: To, vcpus: int) -> Irq:
    """A fixed, edge-triggered interrupt."""
    mode, dest = DestMode.PHYSICAL, 0
    if to == To.LAST:
        dest = vcpu_id_of(vcpus - 1) & 0xFF
    elif to == To.LAST_X2APIC:
        dest = vcpu_id_of(vcpus - 1)
    elif to == To.LOGICAL_1:
        mode, dest = DestMode.LOGICAL, 1
    elif to == To.LOGICAL_BOTH:
        mode, dest = DestMode.LOGICAL, 3
    return Irq(Shorthand.NONE, mode, dest, DeliveryMode.FIXED, 0x31, True, TrigMode.EDGE, False)


def is_sent(cpu: Cpu, to: To) -> bool:
    """Logical destinations where LDR changes, physical ones elsewhere; of more than 8 bits where userspace
    enabled that."""
    logical = cpu.has(Changes.LDR) or cpu.has(Changes.SPIV)
    if to in (To.LOGICAL_1, To.LOGICAL_BOTH):
        return logical
    return not logical and (to != To.LAST_X2APIC or cpu.has(Setup.X2APIC_FORMAT))


# Through the map.


@SENDER.step()
def dereference(cpu: Cpu, my: Send, to: To) -> str:
    """rcu_read_lock, rcu_dereference. Nobody changes a published map: what its slots hold is noted here, and
    that holds as long as it is a map."""
    cpu.wait_until(is_sent(cpu, to))
    my.to = to
    begin_sending(cpu)
    map = cpu.load(Arch.apic_map)
    if map == NULL:
        return "match"
    found = slots(kvm_of_map(cpu, map), cpu.read(Arch.maps[map].max_id), irq_to(to, cpu.scope["vcpus"]))
    if not found.handled:
        return "match"
    if found.first == NULL and found.second == NULL:
        return end_sending(cpu, my)
    rcu_read_lock(cpu)
    cpu.write(Arch.readers[cpu.index].map, map)
    my.first, my.second = found.first, found.second
    return "deliver"


@rule
def slots(kvm: Kvm, max_id: int, irq: Irq) -> Slots:
    """kvm_apic_map_get_dest_lapic, in the map that is built from a VM."""
    map = filled(kvm, max_id, len(kvm.vcpus)).map
    dest = kvm_apic_map_get_dest_lapic(kvm, Published(True, map, False, False, False), NULL, irq)
    return Slots(dest.handled, slot(map, dest, 0), slot(map, dest, 1))


ONE_BY_ONE: Final = "the registers of a vCPU that nobody changes can be read at any time"


@SENDER.step(coarse=ONE_BY_ONE)
def deliver(cpu: Cpu, my: Send) -> str:
    """One slot a step: kvm_apic_set_irq for the vCPU in it."""
    if my.first != NULL:
        kvm_apic_set_irq(cpu, my, my.first)
    my.first, my.second = my.second, NULL
    if my.first != NULL:
        return "deliver"
    rcu_read_unlock(cpu)
    return end_sending(cpu, my)


def kvm_apic_set_irq(cpu: Cpu, my: Send, index: int) -> None:
    """The vCPU accepts the interrupt or not."""
    vcpu = vcpu_with(registers_of(cpu, index), vcpu_id_of(index))
    handed = Arch.readers[cpu.index].targets[index].handed
    if apic_accept_irq(vcpu, irq_to(my.to, cpu.scope["vcpus"])) and cpu.read(handed) == Handed.NO:
        cpu.write(handed, Handed.YES)


# Without a map.


@SENDER.step(source="irq_comm.c kvm_irq_delivery_to_apic", coarse=ONE_BY_ONE)
def match(cpu: Cpu, my: Send) -> str:
    """kvm_for_each_vcpu: kvm_apic_match_dest, kvm_apic_set_irq."""
    irq = irq_to(my.to, cpu.scope["vcpus"])
    for index in range(cpu.scope["vcpus"]):
        vcpu = vcpu_with(registers_of(cpu, index), vcpu_id_of(index))
        if index < cpu.read(Arch.online_vcpus) and is_recipient(kvm_of(cpu.options, (vcpu,)), 0, NULL, irq):
            kvm_apic_set_irq(cpu, my, index)
    return end_sending(cpu, my)


# History.


def begin_sending(cpu: Cpu) -> None:
    """Whose registers are in motion."""
    reader = Arch.readers[cpu.index]
    cpu.write(reader.sending, True)
    for index in range(cpu.scope["vcpus"]):
        changing = cpu.read(Arch.lapics[index].changing)
        cpu.write(reader.targets[index].handed, Handed.IN_MOTION if changing else Handed.NO)


def end_sending(cpu: Cpu, my: Send) -> str:
    """Time to judge, unless all registers were in motion."""
    targets = (Arch.readers[cpu.index].targets[index] for index in range(cpu.scope["vcpus"]))
    return "sent" if any(cpu.read(each.handed) != Handed.IN_MOTION for each in targets) else forget(cpu, my)


@SENDER.step()
def sent(cpu: Cpu, my: Send) -> str:
    """The interrupt is where it goes."""
    return forget(cpu, my)


def forget(cpu: Cpu, my: Send) -> str:
    """On to the next interrupt."""
    my.to = To.FIRST
    reader = Arch.readers[cpu.index]
    cpu.write(reader.sending, False)
    for index in range(cpu.scope["vcpus"]):
        cpu.write(reader.targets[index].handed, Handed.NO)
    return "dereference"
