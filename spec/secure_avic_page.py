"""The model secure-avic-page: the life of a vCPU's APIC backing page, from set-up to kexec.

The hardware cannot restart an access to a page that is not in the nested page table: the vCPU is lost then
(comment in x2apic_savic.c savic_setup). So the guest tells the host the page's address, and the host is to
keep it mapped. RFC v2 stores the address and reads it nowhere. Vectors are left out; an exit may come at any
time.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description
from avicheck.spec.lang import Scope
from avicheck.spec.memory import Reg, local, shared
from avicheck.spec.threads import Model, Thread, World, label_of, never, sometimes


class Rmp(Enum):
    """The size of the page's RMP entry at first."""

    SMALL_ENTRY = "4 KiB, as guest_memfd of 6.19 gives no larger pages"
    LARGE_ENTRY = "2 MiB"


class Zaps(Enum):
    """Whether KVM takes the page out of the nested page table while the guest uses it."""

    NO_ZAPS = "it does not"
    ZAPPED = "it may: a page of the same 2 MiB mapping is converted, or registered for another vCPU"


class PageChange(Enum):
    """Changes to the series."""

    MAPPED_AT_ENTRY = "pre_sev_run() maps the registered page"
    KEPT_MAPPED = "a page is mapped once it is registered, and KVM zaps no registered page"


class PageFault(Enum):
    """Planted faults of the guest."""

    ENABLES_FIRST = "savic_setup() enables Secure AVIC before it registers the page"
    UNREGISTERS_FIRST = "savic_teardown() unregisters the page before it disables Secure AVIC"


@shared
class Backing:
    """One page, and the vCPU that it is for."""

    mapped: Reg[bool]
    """It is present in the nested page table."""
    large: Reg[bool]
    """Its RMP entry is one of 2 MiB."""
    registered: Reg[bool]
    """``sev_savic_gpa`` is its address."""
    enabled: Reg[bool]
    """SAVIC_CTL in the VMSA has its address, and EN."""
    in_guest: Reg[bool]
    lost: Reg[bool]
    """History: an access to it could not be restarted."""


class Stage(Enum):
    """Where the guest goes on."""

    WRITE_ID = "before its first write to the page"
    REGISTER = "before it registers the page"
    ENABLE = "before WRMSR SAVIC_CTL"
    RUNS = "set up"
    DISABLE = "in the teardown, before WRMSR SAVIC_CTL"
    UNREGISTER = "in the teardown, before it unregisters the page"


@local
class Guest:
    """Where the guest goes on after the next entry."""

    stage: Stage = Stage.WRITE_ID


@local
class Nothing:
    """No local variables."""


VCPU: Final = Thread("vcpu", Guest, buffered=False, source="x2apic_savic.c, sev.c")
MMU: Final = Thread("mmu", Nothing, buffered=False, source="mmu.c kvm_zap_gfn_range")


# The entry.


@VCPU.step(source="sev.c pre_sev_run")
def entry(cpu: Cpu, my: Guest) -> None:
    """PageChange.MAPPED_AT_ENTRY."""
    if cpu.has(PageChange.MAPPED_AT_ENTRY) and cpu.read(Backing.registered):
        cpu.write(Backing.mapped, True)


@VCPU.step(source="HW.VMRUN")
def vmrun(cpu: Cpu, my: Guest) -> str:
    """The page is read if Secure AVIC is enabled."""
    return accesses(cpu, my)


def accesses(cpu: Cpu, my: Guest) -> str:
    """The hardware reads or writes the page, if it is enabled: then it must be there."""
    if cpu.read(Backing.enabled) and not cpu.read(Backing.mapped):
        cpu.write(Backing.lost, True)
        return "gone"
    cpu.write(Backing.in_guest, True)
    return label_of(my.stage, Stage)


def goes_to(my: Guest, stage: Stage) -> str:
    """The guest goes on there without an exit."""
    my.stage = stage
    return label_of(stage, Stage)


def exits(cpu: Cpu, my: Guest, stage: Stage, label: str) -> str:
    """The guest goes on there after an exit, which the host handles at a label."""
    my.stage = stage
    cpu.write(Backing.in_guest, False)
    return label


@VCPU.anywhere(source="HW.VMEXIT")
def interrupted(cpu: Cpu, my: Guest) -> str:
    """Some exit that has nothing to do with the page."""
    cpu.wait_until(cpu.read(Backing.in_guest))
    return exits(cpu, my, my.stage, "entry")


@VCPU.step(source="VMEXIT_BUSY")
def gone(cpu: Cpu, my: Guest) -> str:
    """The vCPU never runs again."""
    cpu.wait_until(False)
    return "gone"


# Set-up.


@VCPU.step(source="x2apic_savic.c savic_setup: apic_set_reg(APIC_ID)")
def write_id(cpu: Cpu, my: Guest) -> str:
    """An ordinary access to memory: it is mapped on demand."""
    cpu.write(Backing.mapped, True)
    return goes_to(my, Stage.ENABLE if cpu.has(PageFault.ENABLES_FIRST) else Stage.REGISTER)


@VCPU.step(source="x2apic_savic.c savic_register_gpa")
def register(cpu: Cpu, my: Guest) -> str:
    """SVM_VMGEXIT_SECURE_AVIC."""
    after = Stage.RUNS if cpu.has(PageFault.ENABLES_FIRST) else Stage.ENABLE
    return exits(cpu, my, after, "psmash")


@VCPU.step(source="sev.c sev_handle_rmp_fault: psmash, kvm_zap_gfn_range")
def psmash(cpu: Cpu, my: Guest) -> None:
    """A large RMP entry is split, and 512 pages from this one on are zapped, this one first."""
    if cpu.read(Backing.large):
        cpu.write(Backing.large, False)
        cpu.write(Backing.mapped, False)


@VCPU.step(source="sev.c sev_handle_savic_vmgexit: sev_savic_gpa = gpa")
def store_gpa(cpu: Cpu, my: Guest) -> str:
    """The address is stored."""
    cpu.write(Backing.registered, True)
    if cpu.has(PageChange.KEPT_MAPPED):
        cpu.write(Backing.mapped, True)
    return "entry"


@VCPU.step(source="x2apic_savic.c savic_setup: WRMSR SAVIC_CTL")
def enable(cpu: Cpu, my: Guest) -> str:
    """Not intercepted: no exit."""
    cpu.write(Backing.enabled, True)
    return goes_to(my, Stage.REGISTER if cpu.has(PageFault.ENABLES_FIRST) else Stage.RUNS)


# In use.


@VCPU.step(at="runs", source="x2apic_savic.c savic_read, savic_write")
def touch(cpu: Cpu, my: Guest) -> str:
    """The driver uses the page as memory."""
    cpu.write(Backing.mapped, True)
    return "runs"


@VCPU.step(at="runs", source="HW.BP_ACCESS")
def use(cpu: Cpu, my: Guest) -> str:
    """The hardware uses it: an accelerated access, a doorbell, a delivery."""
    return accesses(cpu, my)


@VCPU.step(at="runs", source="the guest: CPU offline and online, SVM_VMGEXIT_AP_CREATE")
def replaced(cpu: Cpu, my: Guest) -> str:
    """The CPU goes offline without a teardown, comes back with a new VMSA, and registers its page again."""
    cpu.write(Backing.enabled, False)
    return exits(cpu, my, Stage.WRITE_ID, "entry")


# Teardown, before kexec.


@VCPU.step(at="runs", source="apic.c disable_local_APIC")
def teardown(cpu: Cpu, my: Guest) -> str:
    """Before the next kernel, which sets the page up anew."""
    return goes_to(my, Stage.UNREGISTER if cpu.has(PageFault.UNREGISTERS_FIRST) else Stage.DISABLE)


@VCPU.step(source="x2apic_savic.c savic_teardown: WRMSR SAVIC_CTL")
def disable(cpu: Cpu, my: Guest) -> str:
    """Not intercepted: no exit."""
    cpu.write(Backing.enabled, False)
    return goes_to(my, Stage.WRITE_ID if cpu.has(PageFault.UNREGISTERS_FIRST) else Stage.UNREGISTER)


@VCPU.step(source="x2apic_savic.c savic_teardown: savic_unregister_gpa")
def unregister(cpu: Cpu, my: Guest) -> str:
    """The host forgets the page."""
    cpu.write(Backing.registered, False)
    after = Stage.DISABLE if cpu.has(PageFault.UNREGISTERS_FIRST) else Stage.WRITE_ID
    return exits(cpu, my, after, "entry")


# KVM's MMU.


@MMU.anywhere(source="mmu.c kvm_zap_gfn_range, kvm_unmap_gfn_range")
def zap(cpu: Cpu, my: Nothing) -> None:
    """Zaps.ZAPPED: the page leaves the nested page table, and is mapped again at the next ordinary access."""
    kept = cpu.has(PageChange.KEPT_MAPPED) and cpu.read(Backing.registered)
    cpu.wait_until(cpu.has(Zaps.ZAPPED) and cpu.read(Backing.mapped) and not kept)
    cpu.write(Backing.mapped, False)


# What is asked.


def lost(world: World[Backing]) -> bool:
    """SAV-C15: the hardware has used the page while it was not mapped."""
    return world.shared.lost


def unknown(world: World[Backing]) -> bool:
    """P-S8: the hardware uses a page that the host does not know."""
    return world.shared.enabled and not world.shared.registered


def serves(world: World[Backing]) -> bool:
    """The guest runs with Secure AVIC."""
    return world.shared.enabled and world.shared.in_guest and world.of(VCPU)[0].at("runs")


def back_online(world: World[Backing]) -> bool:
    """A CPU comes back, and its page is still registered."""
    return world.shared.registered and world.of(VCPU)[0].at("write_id")


def at_rest(world: World[Backing]) -> bool:
    """The vCPU is lost: nothing is left to do."""
    return world.shared.lost


def initial(scope: Scope, options: frozenset[Enum]) -> list[Backing]:
    """The guest boots; the page has never been used."""
    return [Backing(False, Rmp.LARGE_ENTRY in options, False, False, False, False)]


PAGE_MODEL: Final = Model(
    "secure-avic-page",
    Backing,
    (VCPU, MMU),
    initial,
    (
        never("page-is-mapped", "The hardware never finds the backing page absent.", lost),
        never("page-is-known", "The hardware uses no page that the host does not know.", unknown),
        sometimes("page-serves", "A guest can run with its page.", serves),
        sometimes("page-stays-registered", "A CPU can come back to a page that is registered.", back_online),
    ),
    at_rest,
)

PAGE_DESCRIPTION: Final = Description(
    model=PAGE_MODEL,
    summary="The life of an AMD Secure AVIC backing page: registered, enabled, zapped, torn down.",
    covers=(
        "savic_setup, savic_teardown and CPU hotplug of the guest; registration with its PSMASH and zap; "
        "KVM's MMU that zaps the page; VMRUN and accesses of the hardware that cannot be restarted",
    ),
    scope={},
    kernels={"savic-rfc-v2": frozenset()},
    kernel="savic-rfc-v2",
    switches=(PageChange, PageFault),
    assumptions=(
        Assumption(Rmp, "patch 12/17: a comment on PSMASH; guest_memfd of 6.19 has 4 KiB pages only"),
        Assumption(Zaps, "not in the sources: nothing in the series keeps the page mapped"),
    ),
)
