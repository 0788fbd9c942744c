"""The model secure-avic-online: a CPU of a Secure AVIC guest goes offline and comes back.

The backing page outlives the VMSA: it is not zeroed again (x2apic_savic.c savic_probe allocates it once), and
RequestedIRR and UpdateIRR outlive the reset of the vCPU. Going offline, Linux moves the CPU's devices to
another CPU, waits a millisecond and looks at IRR for what came too late (kernel/irq.c fixup_irqs); a vector
of a CPU that is offline already is freed, and so refused, before its device has its new message
(apic/vector.c). In which order KVM reads and clears vectors is the model secure-avic's matter: injection and
VMRUN are one step each. A device, and the timer, raise an interrupt when the one before is over.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec import secure_avic_online_cpu as vcpu
from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description
from avicheck.spec.lang import Scope
from avicheck.spec.secure_avic import EntryDisabled
from avicheck.spec.secure_avic_online_state import (
    ADMIN,
    DEV,
    DEVICE,
    IPI,
    MOVED,
    PEER,
    TICK,
    TIMER,
    VCPU,
    Leaves,
    Life,
    Masking,
    Message,
    Nothing,
    OnItsWay,
    Online,
    OnlineChange,
    OnlineFault,
    Sent,
    add,
    drop,
)
from avicheck.spec.threads import Model, World, leads_to, never, sometimes

# Who sends interrupts.


@DEV.step(source="irq_comm.c kvm_set_msi")
def send(cpu: Cpu, my: Sent) -> None:
    """By the message as it is now."""
    message = cpu.read(Online.message)
    cpu.wait_until(message != Message.AWAY and not cpu.read(Online.masked) and not cpu.read(Online.owed))
    my.vector = DEVICE if message == Message.OLD else MOVED
    cpu.write(Online.sending, True)


@DEV.step(source="lapic.c kvm_lapic_set_irr")
def accept(cpu: Cpu, my: Sent) -> None:
    """KVM's IRR."""
    add(cpu, Online.kvm_irr, my.vector)
    drop(cpu, Online.former, my.vector)
    cpu.write(Online.owed, True)
    my.vector = 0


@DEV.step(source="svm.c svm_complete_interrupt_delivery")
def make_event(cpu: Cpu, my: Sent) -> str:
    """KVM_REQ_EVENT and a kick."""
    cpu.write(Online.sending, False)
    return kicks(cpu, "send")


def kicks(cpu: Cpu, label: str) -> str:
    """KVM_REQ_EVENT, and a physical IPI to a vCPU in guest mode."""
    cpu.write(Online.request_event, True)
    cpu.write(Online.kick, cpu.read(Online.in_guest_mode))
    return label


@TICK.step(source="lapic.c apic_timer_fn: kvm_lapic_set_irr")
def expire(cpu: Cpu, my: Nothing) -> None:
    """A tick; how KVM holds it until the next entry is the model secure-avic-timer's matter."""
    held = cpu.read(Online.kvm_irr) | cpu.read(Online.requested_irr) | cpu.read(Online.irr)
    cpu.wait_until(cpu.read(Online.timer_runs) and (held | cpu.read(Online.isr)) & TIMER == 0)
    add(cpu, Online.kvm_irr, TIMER)
    drop(cpu, Online.former, TIMER)


@TICK.step(source="svm.c svm_complete_interrupt_delivery")
def make_tick_event(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT and a kick."""
    return kicks(cpu, "expire")


@PEER.anywhere(source="x2apic_savic.c send_ipi_dest")
def ipi(cpu: Cpu, my: Nothing) -> None:
    """To a CPU that is online; the notice to the host is the model secure-avic's matter."""
    cpu.wait_until(cpu.read(Online.online))
    add(cpu, Online.irr, IPI)
    drop(cpu, Online.former, IPI)
    cpu.write(Online.ipi_sent, True)


@ADMIN.step(source="sev.c sev_snp_ap_creation: kvm_make_request_and_kick")
def create(cpu: Cpu, my: Nothing) -> str:
    """SVM_VMGEXIT_AP_CREATE with a new VMSA, once the CPU is dead; Leaves.RECREATED: at any moment."""
    cpu.wait_until(cpu.read(Online.dead) or (cpu.has(Leaves.RECREATED) and cpu.read(Online.online)))
    cpu.wait_until(not cpu.read(Online.request_state))
    cpu.write(Online.online, False)
    cpu.write(Online.request_state, True)
    cpu.write(Online.kick, cpu.read(Online.in_guest_mode))
    return "create"


# What is asked.


def held(world: World[Online]) -> int:
    """Where a vector that has come may be: KVM's IRR, RequestedIRR, IRR."""
    shared_ = world.shared
    requested = shared_.requested_irr if shared_.update_irr else 0
    return shared_.kvm_irr | requested | shared_.irr


def loses_devices(world: World[Online]) -> bool:
    """An interrupt of the device is gone, or waits where nobody looks any more."""
    too_late = world.of(VCPU)[0].at("stop_timer", "dead_loop", "blocked")
    return world.shared.owed and (too_late or held(world) & (DEVICE | MOVED) == 0)


def stale_vector(world: World[Online]) -> bool:
    """A vector was delivered that was raised in the CPU's former life."""
    return world.shared.stale


def stale_service(world: World[Online]) -> bool:
    """The CPU is in no handler, and a vector is in service, for ever."""
    return world.of(VCPU)[0].at("runs") and world.shared.isr != 0


def loses_ipis(world: World[Online]) -> bool:
    """An IPI to a CPU that is online is gone."""
    return world.shared.ipi_sent and world.shared.irr & IPI == 0


def still_allowed(world: World[Online]) -> bool:
    """A CPU that comes back lets in a device's vector that it does not use."""
    return world.of(VCPU)[0].at("go_online") and world.shared.allowed_irr & (DEVICE | MOVED) != 0


def entry_failed(world: World[Online]) -> bool:
    """A VMRUN has failed."""
    return world.shared.failed


def back_online(world: World[Online]) -> bool:
    """A CPU that has been offline is about to be online."""
    return world.of(VCPU)[0].at("go_online")


def stale_in_irr(world: World[Online]) -> bool:
    """Such a CPU finds an IPI of its former life in IRR: Linux warns of it."""
    return back_online(world) and world.shared.irr & IPI != 0


def timer_still_allowed(world: World[Online]) -> bool:
    """Nobody withdraws the timer's vector from a CPU that is offline."""
    return world.shared.dead and world.shared.allowed_irr & TIMER != 0


def requested_before(world: World[Online]) -> bool:
    """A request of the former life has outlived the reset."""
    return world.of(VCPU)[0].at("check") and world.shared.update_irr and not world.shared.enabled


def sent_again(world: World[Online]) -> bool:
    """A CPU that is offline has sent the device's interrupt to another CPU: its own bit of IRR is left."""
    shared_ = world.shared
    return shared_.dead and shared_.irr & DEVICE != 0 and not shared_.owed


def tick_accepted(world: World[Online]) -> bool:
    """KVM has accepted a tick for a CPU that is set up."""
    return world.shared.kvm_irr & TIMER != 0 and world.of(VCPU)[0].my.life == Life.RUNS


def tick_over(world: World[Online]) -> bool:
    """It is served, or the CPU leaves."""
    return world.shared.isr & TIMER != 0 or not world.shared.online or world.shared.failed


def in_new_life(world: World[Online]) -> bool:
    """The CPU has its new VMSA."""
    return world.of(VCPU)[0].my.life == Life.REGISTER


def runs_again(world: World[Online]) -> bool:
    """It is online and runs."""
    return world.shared.online and world.of(VCPU)[0].at("runs")


def at_rest(world: World[Online]) -> bool:
    """The vCPU failed: nothing is left to do."""
    return world.shared.failed


FREE_TO_DO: Final = (vcpu.interrupted, vcpu.assign, vcpu.go_offline)
"""What may, but need not happen."""
VCPU_STEPS: Final = tuple(step for step in VCPU.steps if step not in FREE_TO_DO)


def initial(scope: Scope, options: frozenset[Enum]) -> list[Online]:
    """The CPU is set up, the device and the timer run."""
    return [
        Online(
            kvm_irr=0,
            request_event=False,
            request_state=False,
            kick=False,
            requested_irr=0,
            update_irr=False,
            irr=0,
            isr=0,
            allowed_irr=DEVICE | TIMER,
            enabled=True,
            in_guest_mode=False,
            in_guest=False,
            message=Message.OLD,
            masked=False,
            sending=False,
            timer_runs=True,
            online=True,
            dead=False,
            owed=False,
            ipi_sent=False,
            former=0,
            stale=False,
            failed=False,
        )
    ]


ONLINE_MODEL: Final = Model(
    "secure-avic-online",
    Online,
    (VCPU, DEV, TICK, PEER, ADMIN),
    initial,
    (
        never("offline-loses", "A CPU that goes offline loses no interrupt of a device.", loses_devices),
        never("stale-vector", "A CPU that comes back takes no vector of its former life.", stale_vector),
        never("stale-service", "Nothing of the former life stays in service.", stale_service),
        never("ipi-lost", "No IPI to a CPU that is online is lost.", loses_ipis),
        never("still-allowed", "A CPU that comes back allows no vector of a device.", still_allowed),
        never("entry-fails", "No VMRUN fails for a request of the host.", entry_failed),
        sometimes("back-online", "A CPU can come back.", back_online),
        sometimes("stale-in-irr", "It can find an IPI of its former life in IRR.", stale_in_irr),
        sometimes("timer-still-allowed", "The timer's vector is allowed while offline.", timer_still_allowed),
        sometimes("requested-before", "A request can outlive the vCPU's reset.", requested_before),
        sometimes("sent-again", "An interrupt can be sent again to another CPU.", sent_again),
        leads_to(
            "tick-served",
            "A tick of a CPU that is set up is served, unless it leaves.",
            tick_accepted,
            tick_over,
            weak=(make_tick_event,),
            strong=VCPU_STEPS,
        ),
        leads_to(
            "comes-back",
            "A CPU that is created again comes online.",
            in_new_life,
            runs_again,
            weak=(make_tick_event, accept, make_event),
            strong=VCPU_STEPS,
        ),
    ),
    at_rest,
)

ONLINE_DESCRIPTION: Final = Description(
    model=ONLINE_MODEL,
    summary="A CPU of an AMD Secure AVIC guest goes offline and comes back with its old backing page.",
    covers=(
        "going offline: remove_cpu_from_maps, migrate_one_irq, apic_free_vector, msi_set_affinity, "
        "fixup_irqs, apic_soft_disable, the AP HLT loop",
        "AP_CREATE, the vCPU's reset, savic_setup, apic_clear_isr and setup_APIC_timer",
        "a device, the timer and IPIs of the CPU meanwhile; ALLOWED_IRR, RequestedIRR over the reset",
    ),
    scope={},
    kernels={"savic-rfc-v2": frozenset()},
    kernel="savic-rfc-v2",
    switches=(OnlineChange, OnlineFault),
    assumptions=(
        Assumption(Masking, "kernel/apic/msi.c msi_set_affinity; virtio has MSI-X"),
        Assumption(OnItsWay, "kvm_main.c and eventfd.c; a comment in fixup_irqs"),
        Assumption(Leaves, "smpboot.c native_cpu_disable"),
        Assumption(EntryDisabled, "not in the sources"),
    ),
)
