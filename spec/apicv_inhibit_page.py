"""The model apicv-inhibit-page: the APIC page while AVIC comes and goes, and an APIC changes its mode (SVM).

With AVIC in xAPIC mode, hardware redirects an access to the APIC's address to the vAPIC page when it fills
the TLB; otherwise what is mapped there is a page that nobody looks at. So it must not be mapped, nor be in a
TLB, where accesses are to be emulated. How requests reach a vCPU is the subject of apicv-inhibit.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final

from avicheck.spec.apic import ApicMode
from avicheck.spec.apicv_inhibit import InhibitFix, kernels_with
from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description, Size
from avicheck.spec.lang import Scope, SizedBy
from avicheck.spec.memory import Array, Reg, Var, local, shared
from avicheck.spec.threads import Model, Thread, World, never, sometimes

HANDSHAKE: Final = "requests, kicks and the lock are shown by apicv-inhibit"
LOCKED: Final = "under mmu_lock"
DEVICE: Final = "one access of the processor"


class Hardware(Enum):
    """What the processor has."""

    X2AVIC = "x2AVIC"
    HYBRID = "AVIC alone, which KVM uses for guests in x2APIC mode too"


class PageFault(Enum):
    """Faults planted to see whether the properties find them."""

    NO_ZAP = "the page stays mapped when AVIC is inhibited"
    NO_FLUSH = "TLBs are not flushed when it is unmapped"


class Tlb(Enum):
    """What a TLB says about the APIC's address."""

    NONE = "nothing"
    DUMMY = "the page that is mapped"
    VAPIC = "the vAPIC page"


@shared
class Vcpu:
    """A vCPU: its APIC's mode, AVIC in its VMCB, its TLB. ``stale`` is that the page tables changed since
    its page fault began (mmu_invalidate_seq)."""

    request: Var[bool]
    in_guest: Var[bool]
    stale: Var[bool]
    mode: Reg[ApicMode]
    avic: Reg[bool]
    tlb: Reg[Tlb]


@shared
class Kvm:
    """The VM: its mask as ``inhibited``, apicv_update_lock held for writing, the memslot, the one entry of
    the page tables, and whether an invalidation is in progress that covers it."""

    inhibited: Var[bool]
    locked: Var[bool]
    memslot: Var[bool]
    mapped: Var[bool]
    invalidating: Var[bool]
    vcpus: Annotated[Array[Vcpu], SizedBy("vcpus")]


@local
class Nothing:
    """No local variables."""


VCPU: Final = Thread("vcpu", Nothing, count="vcpus", source="x86.c vcpu_enter_guest")
SETTER: Final = Thread("setter", Nothing, source="x86.c kvm_set_or_clear_apicv_inhibit")


def flush(cpu: Cpu) -> None:
    """KVM_REQ_TLB_FLUSH_CURRENT, which is served before the guest runs again."""
    cpu.write(Kvm.vcpus[cpu.index].tlb, Tlb.NONE)


def x2avic(cpu: Cpu, mode: ApicMode) -> bool:
    """Hardware is in x2AVIC mode: it redirects nothing."""
    return cpu.has(Hardware.X2AVIC) and mode == ApicMode.X2APIC


def update_apicv(cpu: Cpu) -> None:
    """kvm_vcpu_update_apicv: without x2AVIC, a vCPU in x2APIC mode deletes the memslot for ever; then AVIC as
    the mask and the mode ask for, with a flush where it begins."""
    vcpu = Kvm.vcpus[cpu.index]
    mode = cpu.read(vcpu.mode)
    hybrid = cpu.has(Hardware.HYBRID) and mode == ApicMode.X2APIC
    if hybrid and cpu.has(InhibitFix.INHIBIT_MEMSLOT) and cpu.load(Kvm.memslot):
        cpu.xchg(Kvm.memslot, False)
        unmap(cpu)
    want = not cpu.load(Kvm.inhibited) and mode != ApicMode.DISABLED
    begins = want and not cpu.read(vcpu.avic)
    cpu.write(vcpu.avic, want)
    if begins and not x2avic(cpu, mode) and cpu.has(InhibitFix.FLUSH_ON_ENABLE):
        flush(cpu)


def unmap(cpu: Cpu) -> None:
    """The entry goes, and what TLBs have of it."""
    cpu.xchg(Kvm.mapped, False)
    if not cpu.has(PageFault.NO_FLUSH):
        for i in range(cpu.scope["vcpus"]):
            cpu.write(Kvm.vcpus[i].tlb, Tlb.NONE)


@VCPU.step(coarse=HANDSHAKE)
def enter(cpu: Cpu, my: Nothing) -> str:
    """Requests, then into the guest."""
    vcpu = Kvm.vcpus[cpu.index]
    if cpu.load(vcpu.request):
        cpu.wait_until(not cpu.load(Kvm.locked))
        cpu.xchg(vcpu.request, False)
        update_apicv(cpu)
    cpu.xchg(vcpu.in_guest, True)
    return "guest"


@VCPU.step(at="guest", source="APM 15.29.4: APIC accesses", coarse=DEVICE)
def access(cpu: Cpu, my: Nothing) -> str:
    """The guest reads or writes at the APIC's address: the TLB is filled, or there is a page fault."""
    vcpu = Kvm.vcpus[cpu.index]
    if cpu.read(vcpu.tlb) != Tlb.NONE:
        return "guest"
    if not cpu.load(Kvm.mapped):
        cpu.xchg(vcpu.in_guest, False)
        return "fault"
    redirects = cpu.read(vcpu.avic) and not x2avic(cpu, cpu.read(vcpu.mode))
    cpu.write(vcpu.tlb, Tlb.VAPIC if redirects else Tlb.DUMMY)
    return "guest"


@VCPU.step(at="guest")
def leave(cpu: Cpu, my: Nothing) -> str:
    """The guest exits."""
    cpu.xchg(Kvm.vcpus[cpu.index].in_guest, False)
    return "enter"


@VCPU.step(
    at="guest",
    source="lapic.c __kvm_apic_set_base; svm/avic.c avic_refresh_virtual_apic_mode",
    coarse=HANDSHAKE,
)
def set_mode(cpu: Cpu, my: Nothing, mode: ApicMode) -> str:
    """The guest writes APICBASE: x2APIC mode is entered from xAPIC mode, and left by disabling the APIC."""
    vcpu = Kvm.vcpus[cpu.index]
    before = cpu.read(vcpu.mode)
    cpu.wait_until(before != mode)
    if before != ApicMode.XAPIC:
        cpu.wait_until(mode == (ApicMode.XAPIC if before == ApicMode.DISABLED else ApicMode.DISABLED))
    cpu.xchg(vcpu.in_guest, False)
    cpu.write(vcpu.mode, mode)
    cpu.xchg(vcpu.request, True)
    if before == ApicMode.XAPIC and x2avic(cpu, mode) and cpu.has(InhibitFix.FLUSH_ON_X2AVIC):
        flush(cpu)
    return "enter"


@VCPU.step(source="mmu.c kvm_tdp_page_fault")
def fault(cpu: Cpu, my: Nothing) -> None:
    """The sequence number is read."""
    cpu.xchg(Kvm.vcpus[cpu.index].stale, False)


@VCPU.step(source="mmu.c kvm_mmu_faultin_pfn", coarse="the memslot is under SRCU")
def look_up(cpu: Cpu, my: Nothing) -> str:
    """No memslot, or AVIC inhibited: the access is emulated."""
    return "install" if cpu.load(Kvm.memslot) and not cpu.load(Kvm.inhibited) else "enter"


@VCPU.step(source="mmu.c direct_page_fault, is_page_fault_stale", coarse=LOCKED)
def install(cpu: Cpu, my: Nothing) -> str:
    """Unless the page tables changed meanwhile, the entry is made."""
    vcpu = Kvm.vcpus[cpu.index]
    if not cpu.load(vcpu.stale) and not cpu.load(Kvm.invalidating):
        cpu.xchg(Kvm.mapped, cpu.load(Kvm.memslot))
    return "enter"


@SETTER.step(coarse=HANDSHAKE)
def request(cpu: Cpu, my: Nothing) -> None:
    """down_write, requests."""
    cpu.xchg(Kvm.locked, True)
    for i in range(cpu.scope["vcpus"]):
        cpu.xchg(Kvm.vcpus[i].request, True)


@SETTER.step(coarse=HANDSHAKE)
def store_mask(cpu: Cpu, my: Nothing) -> str:
    """Once all are out of the guest."""
    for i in range(cpu.scope["vcpus"]):
        cpu.wait_until(not cpu.load(Kvm.vcpus[i].in_guest))
    inhibit = not cpu.load(Kvm.inhibited)
    cpu.xchg(Kvm.inhibited, inhibit)
    return "zap_begin" if inhibit and not cpu.has(PageFault.NO_ZAP) else "unlock"


@SETTER.step(source="mmu.c kvm_zap_gfn_range")
def zap_begin(cpu: Cpu, my: Nothing) -> None:
    """kvm_mmu_invalidate_begin: before InhibitFix.BLOCK_FAULTS_IN_ZAP, of another range."""
    cpu.xchg(Kvm.invalidating, cpu.has(InhibitFix.BLOCK_FAULTS_IN_ZAP))


@SETTER.step(source="mmu.c kvm_zap_gfn_range", coarse=LOCKED)
def zap(cpu: Cpu, my: Nothing) -> None:
    """The entry goes. mmu_lock may be dropped before it is over."""
    unmap(cpu)


@SETTER.step(source="mmu.c kvm_zap_gfn_range", coarse=LOCKED)
def zap_end(cpu: Cpu, my: Nothing) -> None:
    """kvm_mmu_invalidate_end: the sequence number is another."""
    cpu.xchg(Kvm.invalidating, False)
    for i in range(cpu.scope["vcpus"]):
        cpu.xchg(Kvm.vcpus[i].stale, True)


@SETTER.step()
def unlock(cpu: Cpu, my: Nothing) -> str:
    """up_write."""
    cpu.xchg(Kvm.locked, False)
    return "request"


def goes(world: World[Kvm], vcpu: Vcpu) -> tuple[bool, bool]:
    """Whether an access now reaches the mapped page, and whether the vAPIC page."""
    in_x2avic = world.has(Hardware.X2AVIC) and vcpu.mode == ApicMode.X2APIC
    redirects = vcpu.avic and not in_x2avic
    fills = vcpu.tlb == Tlb.NONE and world.shared.mapped
    dummy = vcpu.tlb == Tlb.DUMMY or (fills and not redirects)
    vapic = vcpu.tlb == Tlb.VAPIC or (fills and redirects)
    return vcpu.in_guest and dummy, vcpu.in_guest and vapic


def lost_access(world: World[Kvm]) -> bool:
    """In xAPIC mode an access would reach the page that nobody looks at."""
    return any(goes(world, vcpu)[0] and vcpu.mode == ApicMode.XAPIC for vcpu in world.shared.vcpus)


def alias(world: World[Kvm]) -> bool:
    """In x2APIC mode an access would reach the APIC's registers."""
    return any(goes(world, vcpu)[1] and vcpu.mode == ApicMode.X2APIC for vcpu in world.shared.vcpus)


def bypass(world: World[Kvm]) -> bool:
    """Without AVIC an access would reach the APIC's registers unseen by KVM."""
    return any(
        goes(world, vcpu)[1] and vcpu.mode == ApicMode.XAPIC and not vcpu.avic for vcpu in world.shared.vcpus
    )


def accelerated(world: World[Kvm]) -> bool:
    """A vCPU's access reaches its registers by hardware."""
    return any(vcpu.tlb == Tlb.VAPIC and vcpu.in_guest and vcpu.avic for vcpu in world.shared.vcpus)


def initial(scope: Scope, options: frozenset[Enum]) -> list[Kvm]:
    """Every APIC is in xAPIC mode, AVIC is on, nothing is mapped."""
    vcpu = Vcpu(False, False, False, ApicMode.XAPIC, True, Tlb.NONE)
    return [Kvm(False, False, True, False, False, (vcpu,) * scope["vcpus"])]


PAGE: Final = Model(
    "apicv-inhibit-page",
    Kvm,
    (VCPU, SETTER),
    initial,
    (
        never("access-lost", "In xAPIC mode no access goes to a page that nobody looks at.", lost_access),
        never("alias", "In x2APIC mode no access reaches the APIC's registers by its address.", alias),
        never("bypass", "Without AVIC no access reaches the registers unseen.", bypass),
        sometimes("accelerated", "Hardware can redirect an access.", accelerated),
    ),
)

FIXES: Final = (
    InhibitFix.INHIBIT_MEMSLOT,
    InhibitFix.BLOCK_FAULTS_IN_ZAP,
    InhibitFix.FLUSH_ON_ENABLE,
    InhibitFix.FLUSH_ON_X2AVIC,
)
"""The fixes that bear on this model."""

DESCRIPTION: Final = Description(
    PAGE,
    "The APIC page while AVIC is switched and APICs change their mode.",
    (
        "page faults racing with the zap of the APIC page; TLBs; the memslot of hybrid AVIC",
        "APICs that are disabled, in xAPIC and in x2APIC mode",
    ),
    {"vcpus": Size(2, most=3)},
    kernels_with(FIXES),
    "6.19",
    (FIXES, PageFault),
    (Assumption(Hardware, "both are sold"),),
)
