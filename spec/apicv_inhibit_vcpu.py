"""The model apicv-inhibit: a vCPU's thread, in KVM (x86.c vcpu_run, vcpu_enter_guest) and in the guest.

Interrupts are never masked: IF is set and TPR is 0 all the time. One vector: it is not taken while it is in
service.
"""

from __future__ import annotations

from typing import Final

from avicheck.spec.apicv_inhibit import InhibitFix
from avicheck.spec.apicv_inhibit_state import (
    APICV_UPDATE,
    EVENT,
    Exit,
    Fault,
    Irte,
    Kvm,
    Mode,
    Running,
    Setup,
    down_read,
    is_vmx,
    kvm_check_request,
    kvm_make_request,
    sync_pir_to_irr,
    up_read,
)
from avicheck.spec.cpu import Cpu
from avicheck.spec.threads import Thread

VCPU: Final = Thread("vcpu", Running, count="vcpus", source="x86.c vcpu_enter_guest")

OWN: Final = "only the vCPU itself clears its requests"
HARVEST: Final = "apicv_active is the vCPU's own; nobody else clears PIR or IRR, or reads IRR, meanwhile"


def locked(cpu: Cpu) -> bool:
    """Whether a vCPU takes apicv_update_lock."""
    return cpu.has(InhibitFix.LOCKED_UPDATE) and not cpu.has(Fault.NO_READ_LOCK)


# Requests.


@VCPU.step(coarse=OWN)
def requests(cpu: Cpu, my: Running) -> str:
    """KVM_REQ_APICV_UPDATE."""
    return "lock" if kvm_check_request(cpu, APICV_UPDATE, Kvm.vcpus[cpu.index]) else "events"


@VCPU.step(source="x86.c __kvm_vcpu_update_apicv")
def lock(cpu: Cpu, my: Running) -> None:
    """down_read(apicv_update_lock)."""
    if locked(cpu):
        down_read(cpu)


@VCPU.step(source="x86.c __kvm_vcpu_update_apicv", coarse="only the vCPU itself writes apicv_active")
def compare(cpu: Cpu, my: Running) -> str:
    """Nothing to do if it is as it should be."""
    my.want = cpu.load(Kvm.apicv_inhibit_reasons) == 0
    return "unlock" if cpu.load(Kvm.vcpus[cpu.index].apicv_active) == my.want else "activate"


@VCPU.step(source="x86.c __kvm_vcpu_update_apicv")
def activate(cpu: Cpu, my: Running) -> str:
    """apicv_active = want."""
    cpu.store(Kvm.vcpus[cpu.index].apicv_active, my.want)
    scans = not (cpu.has(InhibitFix.KEEP_IRR_PENDING) or cpu.has(InhibitFix.SET_IRR_PENDING))
    return "search_irr" if scans and not my.want else "update_apic"


@VCPU.step(source="lapic.c kvm_apic_update_apicv")
def search_irr(cpu: Cpu, my: Running) -> None:
    """Before InhibitFix.KEEP_IRR_PENDING: look whether IRR is empty."""
    my.found = cpu.load(Kvm.vcpus[cpu.index].irr)


@VCPU.step(source="lapic.c kvm_apic_update_apicv")
def update_apic(cpu: Cpu, my: Running) -> None:
    """irr_pending and isr_count."""
    vcpu = Kvm.vcpus[cpu.index]
    if my.want or cpu.has(InhibitFix.SET_IRR_PENDING):
        cpu.store(vcpu.irr_pending, True)
    elif not cpu.has(InhibitFix.KEEP_IRR_PENDING):
        cpu.store(vcpu.irr_pending, my.found)
    if my.want or not cpu.has(Fault.STALE_ISR_COUNT):
        cpu.write(vcpu.isr_count, my.want or cpu.read(vcpu.isr))
    my.found = False


@VCPU.step(source="svm/avic.c avic_refresh_apicv_exec_ctrl, vmx.c vmx_refresh_apicv_exec_ctrl")
def refresh(cpu: Cpu, my: Running) -> str:
    """The hardware's bit, SVI, the IRTEs: a changed entry is in force when nothing uses the old one."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.wait_until(not cpu.read(Kvm.posting))
    cpu.write(vcpu.enabled, my.want)
    if my.want and is_vmx(cpu) and cpu.has(InhibitFix.SVI_ON_ENABLE):
        cpu.write(vcpu.svi, cpu.read(vcpu.isr))
    if cpu.has(Setup.DEVICE_POSTS):
        cpu.xchg(vcpu.irte, Irte.RUNNING if my.want else Irte.LEGACY)
    return "unlock" if my.want or not cpu.has(InhibitFix.EVENT_ON_DISABLE) else "make_event"


@VCPU.step(source="x86.c __kvm_vcpu_update_apicv")
def make_event(cpu: Cpu, my: Running) -> None:
    """KVM_REQ_EVENT: an interrupt may have been accepted without it."""
    kvm_make_request(cpu, EVENT, Kvm.vcpus[cpu.index])


@VCPU.step(source="x86.c __kvm_vcpu_update_apicv")
def unlock(cpu: Cpu, my: Running) -> None:
    """up_read(apicv_update_lock)."""
    if locked(cpu):
        up_read(cpu)
    my.want = False


# Interrupts that KVM injects.


@VCPU.step(coarse=OWN)
def events(cpu: Cpu, my: Running) -> str:
    """KVM_REQ_EVENT."""
    return "injectable" if kvm_check_request(cpu, EVENT, Kvm.vcpus[cpu.index]) else "enter"


@VCPU.step(source="irq.c kvm_cpu_has_injectable_intr; lapic.c apic_find_highest_irr", coarse=HARVEST)
def injectable(cpu: Cpu, my: Running) -> str:
    """Nothing, if hardware injects. VMX: what was posted before. IRR is not looked at without irr_pending."""
    vcpu = Kvm.vcpus[cpu.index]
    if cpu.load(vcpu.apicv_active):
        return "enter"
    if is_vmx(cpu) and sync_pir_to_irr(cpu, vcpu, False):
        return "find"
    return "find" if cpu.load(vcpu.irr_pending) else "enter"


@VCPU.step(source="lapic.c apic_find_highest_irr, __apic_update_ppr")
def find(cpu: Cpu, my: Running) -> str:
    """An interrupt that is not in service can be injected."""
    vcpu = Kvm.vcpus[cpu.index]
    return "clear_hint" if cpu.load(vcpu.irr) and not cpu.read(vcpu.isr) else "enter"


@VCPU.step(source="lapic.c apic_clear_irr")
def clear_hint(cpu: Cpu, my: Running) -> None:
    """irr_pending = false ..."""
    cpu.store(Kvm.vcpus[cpu.index].irr_pending, False)


@VCPU.step(source="lapic.c apic_clear_irr")
def clear_irr(cpu: Cpu, my: Running) -> None:
    """... the bit ..."""
    cpu.xchg(Kvm.vcpus[cpu.index].irr, False)


@VCPU.step(source="lapic.c apic_clear_irr, apic_set_isr")
def rescan(cpu: Cpu, my: Running) -> str:
    """... and the hint again if there is another. The interrupt is in service, and queued."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.write(vcpu.isr, True)
    cpu.write(vcpu.isr_count, True)
    my.queued = True
    return "set_hint" if cpu.load(vcpu.irr) else "enter"


@VCPU.step(source="lapic.c apic_clear_irr")
def set_hint(cpu: Cpu, my: Running) -> None:
    """irr_pending = true."""
    cpu.store(Kvm.vcpus[cpu.index].irr_pending, True)


# Into the guest.


@VCPU.step()
def enter(cpu: Cpu, my: Running) -> str:
    """local_irq_disable(); IN_GUEST_MODE."""
    my.irqs_off = True
    cpu.smp_store_release(Kvm.vcpus[cpu.index].mode, Mode.IN_GUEST)
    return "sync_on_entry" if is_vmx(cpu) else "see_mode"


def barrier(cpu: Cpu) -> None:
    """smp_mb__after_srcu_read_unlock(): the mode is visible before anything is read."""
    if not cpu.has(Fault.NO_BARRIER):
        cpu.smp_mb()


@VCPU.step(source="vmx.c vmx_sync_pir_to_irr", coarse=HARVEST)
def sync_on_entry(cpu: Cpu, my: Running) -> None:
    """VMX: what was posted meanwhile; KVM looks at it itself if APICv is off."""
    barrier(cpu)
    vcpu = Kvm.vcpus[cpu.index]
    active = cpu.load(vcpu.apicv_active)
    if not active and cpu.load(vcpu.pir):
        kvm_make_request(cpu, EVENT, vcpu)
    sync_pir_to_irr(cpu, vcpu, active)


@VCPU.step(source="x86.c kvm_vcpu_exit_request")
def see_mode(cpu: Cpu, my: Running) -> str:
    """Somebody may have kicked this vCPU ..."""
    if not is_vmx(cpu):
        barrier(cpu)
    kicked = cpu.load(Kvm.vcpus[cpu.index].mode) == Mode.EXITING
    return "cancel" if kicked else "see_requests"


@VCPU.step(source="x86.c kvm_vcpu_exit_request")
def see_requests(cpu: Cpu, my: Running) -> str:
    """... or made a request."""
    return "vmrun" if cpu.load(Kvm.vcpus[cpu.index].requests) == 0 else "cancel"


@VCPU.step()
def cancel(cpu: Cpu, my: Running) -> str:
    """OUTSIDE_GUEST_MODE, interrupts on, and again."""
    outside(cpu, my)
    return "enter" if cpu.has(Fault.SPIN) else "requests"


def outside(cpu: Cpu, my: Running) -> None:
    """The mode, and what waits for interrupts to be enabled."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.store(vcpu.mode, Mode.OUTSIDE)
    cpu.write(vcpu.ipi, False)
    cpu.write(vcpu.doorbell, False)
    my.irqs_off = False


@VCPU.anywhere(source="kernel/smp.c")
def interrupted(cpu: Cpu, my: Running) -> None:
    """An interrupt of the host that comes while they are enabled."""
    cpu.wait_until(not my.irqs_off and cpu.read(Kvm.vcpus[cpu.index].ipi))
    cpu.write(Kvm.vcpus[cpu.index].ipi, False)


# The guest, and the hardware it runs on.


def recognised(cpu: Cpu, irr: bool) -> bool:
    """Whether hardware would take the interrupt: AVIC compares IRR with ISR, VMX with SVI."""
    vcpu = Kvm.vcpus[cpu.index]
    in_service = cpu.read(vcpu.svi) if is_vmx(cpu) else cpu.read(vcpu.isr)
    return cpu.read(vcpu.enabled) and irr and not in_service


@VCPU.step(source="APM 15.29, SDM 29.2.1: VMRUN, VM entry")
def vmrun(cpu: Cpu, my: Running) -> None:
    """A queued interrupt is delivered, pending virtual ones are evaluated. A doorbell rung before has no
    effect; a notification vector waits until interrupts are enabled, which they are in the guest."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.write(vcpu.doorbell, is_vmx(cpu) and cpu.read(vcpu.doorbell))
    my.latched = recognised(cpu, cpu.load(vcpu.irr))
    my.serving = my.serving or my.queued
    my.queued = False


@VCPU.step(at="guest", source="APM 15.29, SDM 29.2.2: virtual-interrupt delivery")
def take(cpu: Cpu, my: Running) -> str:
    """IRR to ISR, and into the guest's handler."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.wait_until(my.latched)
    cpu.xchg(vcpu.irr, False)
    cpu.write(vcpu.isr, True)
    cpu.write(vcpu.svi, is_vmx(cpu))
    my.latched = False
    my.serving = True
    return "guest"


@VCPU.step(at="guest", source="APM 15.29: doorbell; SDM 29.6: notification vector", coarse=HARVEST)
def notice(cpu: Cpu, my: Running) -> str:
    """Hardware looks again, and on VMX harvests PIR. Switched off, AVIC ignores its doorbell, and Intel's
    notification vector is an interrupt like any other, which makes the guest exit."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.wait_until(cpu.read(vcpu.doorbell))
    if not cpu.read(vcpu.enabled):
        cpu.write(vcpu.doorbell, is_vmx(cpu))
        return "exit" if is_vmx(cpu) else "guest"
    cpu.write(vcpu.doorbell, False)
    if is_vmx(cpu):
        sync_pir_to_irr(cpu, vcpu, True)
    my.latched = recognised(cpu, cpu.load(vcpu.irr))
    return "guest"


@VCPU.step(at="guest", source="APM 15.29, SDM 29.1.4: EOI")
def eoi(cpu: Cpu, my: Running) -> str:
    """The guest ends its handler. Virtualised, EOI clears on AVIC the highest bit in ISR, on VMX the one that
    SVI names."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.wait_until(my.serving)
    my.serving = False
    if not cpu.read(vcpu.enabled):
        my.exit = Exit.EOI
        return "exit"
    if cpu.read(vcpu.svi) or not is_vmx(cpu):
        cpu.write(vcpu.isr, False)
    cpu.write(vcpu.svi, False)
    my.latched = recognised(cpu, cpu.load(vcpu.irr))
    return "guest"


@VCPU.step(at="guest")
def kicked(cpu: Cpu, my: Running) -> str:
    """An interrupt of the host makes the guest exit."""
    cpu.wait_until(cpu.read(Kvm.vcpus[cpu.index].ipi))
    return "exit"


@VCPU.step(at="guest")
def leave(cpu: Cpu, my: Running) -> str:
    """The guest exits for a reason of its own."""
    return "exit"


@VCPU.step(at="guest")
def halt(cpu: Cpu, my: Running) -> str:
    """HLT, outside the handler."""
    cpu.wait_until(cpu.has(Setup.HALTS) and not my.serving and not my.latched)
    my.exit = Exit.HALT
    return "exit"


@VCPU.step()
def exit(cpu: Cpu, my: Running) -> str:
    """OUTSIDE_GUEST_MODE, interrupts on. A doorbell in the host has no effect."""
    why = my.exit
    outside(cpu, my)
    my.latched = False
    my.exit = Exit.OTHER
    if why == Exit.HALT:
        return "blocking"
    if why == Exit.EOI:
        return "set_eoi"
    return "userspace" if cpu.has(Setup.RESTORES) else "requests"


@VCPU.step(source="lapic.c apic_set_eoi")
def set_eoi(cpu: Cpu, my: Running) -> str:
    """KVM emulates the EOI."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.write(vcpu.isr, False)
    cpu.write(vcpu.isr_count, False)
    kvm_make_request(cpu, EVENT, vcpu)
    return "requests"


@VCPU.step(at="userspace", source="x86.c vcpu_run")
def resume(cpu: Cpu, my: Running) -> str:
    """KVM_RUN goes on."""
    return "requests"


@VCPU.step(at="userspace", source="lapic.c kvm_apic_set_state", coarse="the vCPU is not running")
def set_lapic(cpu: Cpu, my: Running) -> str:
    """KVM_SET_LAPIC, IRR not empty: the caches are derived anew, and KVM looks."""
    vcpu = Kvm.vcpus[cpu.index]
    cpu.wait_until(cpu.has(Setup.RESTORES))
    active = cpu.load(vcpu.apicv_active)
    cpu.xchg(vcpu.irr, True)
    kvm_make_request(cpu, EVENT, vcpu)
    if active or cpu.has(InhibitFix.SET_IRR_PENDING):
        cpu.store(vcpu.irr_pending, True)
    return "requests"


# Halted.


@VCPU.step(source="kvm_main.c kvm_vcpu_block; svm/avic.c avic_vcpu_blocking")
def blocking(cpu: Cpu, my: Running) -> None:
    """The IRTE tells of interrupts by the GA log from now on."""
    if cpu.has(Setup.DEVICE_POSTS):
        cpu.cmpxchg(Kvm.vcpus[cpu.index].irte, Irte.RUNNING, Irte.BLOCKED)


@VCPU.step(source="kvm_main.c kvm_vcpu_block")
def prepare_to_rcuwait(cpu: Cpu, my: Running) -> None:
    """wait.task = current."""
    cpu.store(Kvm.vcpus[cpu.index].wait_task, True)


@VCPU.step(source="kvm_main.c kvm_vcpu_block")
def set_current_state(cpu: Cpu, my: Running) -> None:
    """TASK_INTERRUPTIBLE, with a barrier."""
    cpu.xchg(Kvm.vcpus[cpu.index].asleep, True)


@VCPU.step(source="lapic.c apic_has_interrupt_for_ppr, apic_find_highest_irr", coarse=HARVEST)
def has_interrupt(cpu: Cpu, my: Running) -> str:
    """VMX: what was posted. IRR is not looked at without irr_pending ..."""
    vcpu = Kvm.vcpus[cpu.index]
    if is_vmx(cpu):
        active = cpu.load(vcpu.apicv_active)
        if not active and cpu.load(vcpu.pir):
            kvm_make_request(cpu, EVENT, vcpu)
        if sync_pir_to_irr(cpu, vcpu, active):
            return "find_to_block"
    return "find_to_block" if cpu.load(vcpu.irr_pending) else "schedule"


@VCPU.step(source="lapic.c apic_find_highest_irr")
def find_to_block(cpu: Cpu, my: Running) -> str:
    """... and an interrupt there is a reason not to sleep."""
    vcpu = Kvm.vcpus[cpu.index]
    return "set_running" if cpu.load(vcpu.irr) and not cpu.read(vcpu.isr) else "schedule"


@VCPU.step(source="kvm_main.c kvm_vcpu_block")
def schedule(cpu: Cpu, my: Running) -> str:
    """Asleep until somebody wakes the task; then it looks again."""
    cpu.wait_until(not cpu.load(Kvm.vcpus[cpu.index].asleep))
    return "set_current_state"


@VCPU.step(source="kvm_main.c kvm_vcpu_block")
def set_running(cpu: Cpu, my: Running) -> None:
    """TASK_RUNNING."""
    cpu.store(Kvm.vcpus[cpu.index].asleep, False)


@VCPU.step(source="kvm_main.c kvm_vcpu_block")
def finish_rcuwait(cpu: Cpu, my: Running) -> None:
    """wait.task = NULL."""
    cpu.store(Kvm.vcpus[cpu.index].wait_task, False)


@VCPU.step(source="svm/avic.c avic_vcpu_unblocking")
def unblocking(cpu: Cpu, my: Running) -> str:
    """IsRun again, if AVIC is on."""
    if cpu.has(Setup.DEVICE_POSTS):
        cpu.cmpxchg(Kvm.vcpus[cpu.index].irte, Irte.BLOCKED, Irte.RUNNING)
    return "requests"
