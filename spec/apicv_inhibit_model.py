"""The model apicv-inhibit: APICv and AVIC switched on and off while vCPUs run and interrupts arrive.

vCPUs run (``apicv_inhibit_vcpu``); each setter switches a reason of its own on and off for ever, and one
sender sends the same vector to vCPU 0 again and again (``apicv_inhibit_others``). Here is what is asked.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.apicv_inhibit import InhibitFix, Vendor, kernels_with
from avicheck.spec.apicv_inhibit_others import (
    SENDER,
    SETTER,
    TARGET,
    decide,
    kick,
    kick_awake,
    kick_mode,
    kick_task,
    make_event,
    request,
    ring,
    see_active_last,
    see_irte,
    see_mode,
    set_hint,
    set_irr,
    set_pir,
    store_mask,
    unlock,
    wait,
    wake,
    wake_task,
)
from avicheck.spec.apicv_inhibit_state import APICV_UPDATE, Fault, Irte, Kvm, Mode, Running, Setup, Vcpu
from avicheck.spec.apicv_inhibit_vcpu import VCPU, halt, leave, set_lapic, take
from avicheck.spec.description import Assumption, Description, Size
from avicheck.spec.lang import Scope
from avicheck.spec.threads import Model, ThreadState, World, always, leads_to, never, sometimes


def in_guest(world: World[Kvm], i: int) -> bool:
    """A vCPU executes guest code."""
    return world.of(VCPU)[i].at("guest")


def agree(world: World[Kvm], i: int) -> bool:
    """P-INH, one vCPU: the VM's mask, apicv_active and the hardware's bit."""
    vcpu = world.shared.vcpus[i]
    activated = world.shared.apicv_inhibit_reasons == 0
    return vcpu.apicv_active == activated and vcpu.enabled == activated


def all_agree(world: World[Kvm]) -> bool:
    """P-INH: whoever is in the guest is there in the state that the VM's mask asks for."""
    return all(agree(world, i) for i in range(len(world.shared.vcpus)) if in_guest(world, i))


def telling(world: World[Kvm]) -> bool:
    """The sender has set IRR and is about to set irr_pending."""
    return world.of(SENDER)[0].at("set_hint", "see_irte") or not world.of(SENDER)[0].drained


def derived_agree(world: World[Kvm], i: int) -> bool:
    """P-CACHE, one vCPU: with APICv, SVI is the vector in service; without, irr_pending is true if there is
    something in IRR, and isr_count counts."""
    vcpu = world.shared.vcpus[i]
    if vcpu.apicv_active:
        return not world.has(Vendor.VMX) or vcpu.svi == vcpu.isr
    hinted = vcpu.irr_pending or not vcpu.irr or telling(world)
    return hinted and vcpu.isr_count == vcpu.isr


def all_derived_agree(world: World[Kvm]) -> bool:
    """P-CACHE: whoever is in the guest has caches that are right."""
    return all(derived_agree(world, i) for i in range(len(world.shared.vcpus)) if in_guest(world, i))


def pending(world: World[Kvm]) -> bool:
    """An interrupt was accepted for vCPU 0 and not taken."""
    vcpu = world.shared.vcpus[TARGET]
    return vcpu.irr or vcpu.pir


def unattended(thread: ThreadState[Running], vcpu: Vcpu) -> bool:
    """vCPU 0 is asleep or in the guest, outside its handler, and nothing in flight makes KVM or hardware
    look: neither a doorbell nor an interrupt of the host nor a virtual one that hardware knows of."""
    asleep = thread.at("schedule") and vcpu.asleep
    oblivious = not thread.my.latched and not thread.my.serving and not vcpu.doorbell and not vcpu.ipi
    return asleep or (thread.at("guest") and oblivious)


def idle(world: World[Kvm]) -> bool:
    """Neither the sender nor a setter is at work, and memory has seen what they stored."""
    sender = world.of(SENDER)[0]
    if not (sender.at("send") and sender.drained):
        return False
    return all(setter.at("lock") and setter.drained for setter in world.of(SETTER))


def lost(world: World[Kvm]) -> bool:
    """P-LIVE, as what must never be: an interrupt is pending, and nothing will ever make anybody look."""
    thread, vcpu = world.of(VCPU)[TARGET], world.shared.vcpus[TARGET]
    return pending(world) and thread.drained and idle(world) and unattended(thread, vcpu)


def begins(world: World[Kvm]) -> bool:
    """The sender sends again, or a setter begins. If they never stop, they keep a vCPU out of the guest, and
    whether they do is the guest's and userspace's affair."""
    sends = world.of(SENDER)[0].at("set_hint", "set_pir", "set_irr")
    return sends or any(setter.at("decide") for setter in world.of(SETTER))


def taken(world: World[Kvm]) -> bool:
    """vCPU 0 is in the handler of an interrupt, or its surroundings do not keep still."""
    return world.of(VCPU)[TARGET].my.serving or begins(world)


def kicked_out(world: World[Kvm]) -> bool:
    """A setter waits for vCPU 0 to leave the guest."""
    setters = any(setter.at("wait") for setter in world.of(SETTER))
    return setters and in_guest(world, TARGET) and world.shared.vcpus[TARGET].ipi


def inhibited_in_guest(world: World[Kvm]) -> bool:
    """vCPU 0 is in the guest with APICv off, an interrupt in service and another one pending."""
    vcpu = world.shared.vcpus[TARGET]
    return in_guest(world, TARGET) and not vcpu.apicv_active and vcpu.isr and vcpu.irr


def caught(world: World[Kvm]) -> bool:
    """vCPU 0 switches APICv off while an interrupt is pending of which KVM was not told."""
    told = world.shared.vcpus[TARGET].requests & 1 == 1
    return world.of(VCPU)[TARGET].at("make_event") and world.shared.vcpus[TARGET].irr and not told


def two_reasons(world: World[Kvm]) -> bool:
    """As many reasons as there are setters."""
    return all(setter.my.is_set and setter.at("lock") for setter in world.of(SETTER))


def setting(world: World[Kvm]) -> bool:
    """A setter has begun."""
    return world.of(SETTER)[0].at("request", "kick", "wait", "store_mask", "unlock")


def set_at_last(world: World[Kvm]) -> bool:
    """It is through."""
    return world.of(SETTER)[0].at("lock")


def updating(world: World[Kvm]) -> bool:
    """vCPU 0 is asked to look whether it is inhibited, or does."""
    asked = world.shared.vcpus[TARGET].requests & APICV_UPDATE != 0
    return asked and world.of(VCPU)[TARGET].at("cancel")


def updated(world: World[Kvm]) -> bool:
    """vCPU 0 has taken the request."""
    return world.shared.vcpus[TARGET].requests & APICV_UPDATE == 0


def initial(scope: Scope, options: frozenset[Enum]) -> list[Kvm]:
    """Nothing inhibits; every vCPU is about to enter the guest with an idle APIC that is accelerated."""
    vcpu = Vcpu(
        mode=Mode.OUTSIDE,
        requests=0,
        irr=False,
        pir=False,
        irr_pending=True,
        apicv_active=True,
        irte=Irte.RUNNING if Setup.DEVICE_POSTS in options else Irte.LEGACY,
        wait_task=False,
        asleep=False,
        isr=False,
        isr_count=True,
        enabled=True,
        svi=False,
        ipi=False,
        doorbell=False,
    )
    return [Kvm(0, 0, False, (vcpu,) * scope["vcpus"])]


UNFAIR: Final = (leave, halt, set_lapic)
"""What a vCPU may do, but need not."""
RUNS: Final = tuple(step for step in VCPU.steps if step not in UNFAIR)
TELLS: Final = (
    set_pir,
    see_active_last,
    see_irte,
    see_mode,
    set_hint,
    set_irr,
    ring,
    wake,
    wake_task,
    make_event,
    kick_task,
    kick_awake,
    kick_mode,
)
SETS: Final = (decide, request, kick, wait, store_mask, unlock)

APICV_INHIBIT: Final = Model(
    "apicv-inhibit",
    Kvm,
    (VCPU, SETTER, SENDER),
    initial,
    (
        always("inhibit-agrees", "In the guest, mask, apicv_active and hardware agree.", all_agree),
        always("caches-agree", "In the guest, what is derived from IRR and ISR is right.", all_derived_agree),
        never("interrupt-lost", "No interrupt is pending with nothing that makes anybody look.", lost),
        sometimes("kicked-out", "A setter can find a vCPU in the guest.", kicked_out),
        sometimes("inhibited", "An interrupt can wait while APICv is off.", inhibited_in_guest),
        sometimes("caught", "APICv can be switched off with an interrupt pending.", caught),
        sometimes("two-reasons", "All reasons can be there at once.", two_reasons),
        leads_to(
            "interrupt-taken",
            "A pending interrupt is taken, once senders and setters keep still.",
            pending,
            taken,
            weak=(*RUNS, *TELLS, *SETS),
            strong=(take,),
        ),
        leads_to("setter-ends", "A setter comes to its end.", setting, set_at_last, weak=(*RUNS, *SETS)),
        leads_to("request-taken", "A vCPU that was kicked takes the request.", updating, updated, weak=RUNS),
    ),
)

FIXES: Final = (
    InhibitFix.LOCKED_UPDATE,
    InhibitFix.EVENT_ON_DISABLE,
    InhibitFix.SVI_ON_ENABLE,
    InhibitFix.KEEP_IRR_PENDING,
    InhibitFix.SET_IRR_PENDING,
)
"""The fixes that bear on this model; the others bear on its rules, or on a small model."""

APICV_INHIBIT_DESCRIPTION: Final = Description(
    APICV_INHIBIT,
    "APICv and AVIC switched on and off while vCPUs run and interrupts arrive.",
    (
        "kvm_set_or_clear_apicv_inhibit by any number of setters: lock, request, kick and wait",
        "the vCPU's loop, its entry into the guest, halting, emulated and virtualised EOI",
        "senders: svm_deliver_interrupt, vmx_deliver_interrupt, a device through the IOMMU",
    ),
    {
        "vcpus": Size(2, most=4),
        "setters": Size(1, most=2),
    },
    kernels_with(InhibitFix),
    "6.19",
    (FIXES, Setup, Fault),
    (Assumption(Vendor, "not open: which of the two machines is meant"),),
)
