"""The model apicv-inhibit: who inhibits, and who sends an interrupt to vCPU 0.

All vCPUs run the same code, so that a sender to one of them is a sender to any.
"""

from __future__ import annotations

from typing import Final

from avicheck.spec.apicv_inhibit import InhibitFix, Vendor, __kvm_set_or_clear_apicv_inhibit
from avicheck.spec.apicv_inhibit_state import (
    APICV_UPDATE,
    EVENT,
    REASONS,
    Fault,
    Irte,
    Kvm,
    Mode,
    Sending,
    Setting,
    Setup,
    down_write,
    is_vmx,
    kvm_make_request,
    up_write,
)
from avicheck.spec.cpu import Cpu
from avicheck.spec.kernels import Kernel
from avicheck.spec.threads import Thread

SETTER: Final = Thread("setter", Setting, count="setters", source="x86.c kvm_set_or_clear_apicv_inhibit")
SENDER: Final = Thread("sender", Sending, source="svm.c svm_deliver_interrupt")

TARGET: Final = 0


def mask_first(cpu: Cpu) -> bool:
    """Whether the mask is stored before the requests are made."""
    return cpu.has(Fault.MASK_FIRST) or not cpu.has(InhibitFix.LOCKED_UPDATE)


@SETTER.step()
def lock(cpu: Cpu, my: Setting) -> None:
    """The setter's reason appears, or disappears: down_write(apicv_update_lock)."""
    my.is_set = not my.is_set
    if cpu.has(InhibitFix.LOCKED_UPDATE):
        down_write(cpu)


@SETTER.step(source="x86.c __kvm_set_or_clear_apicv_inhibit", coarse="before the fix, a cmpxchg loop")
def decide(cpu: Cpu, my: Setting) -> str:
    """Who has to know: nobody, unless the mask becomes empty or stops being so."""
    vendor = Vendor.VMX if is_vmx(cpu) else Vendor.SVM
    change = __kvm_set_or_clear_apicv_inhibit(
        Kernel("", cpu.options),
        vendor,
        cpu.load(Kvm.apicv_inhibit_reasons),
        REASONS[vendor][cpu.index],
        my.is_set,
    )
    my.new = change.reasons
    if mask_first(cpu):
        cpu.xchg(Kvm.apicv_inhibit_reasons, my.new)
        my.new = 0
        return "request" if change.request else "unlock"
    return "request" if change.request else "store_mask"


@SETTER.step(source="kvm_main.c kvm_make_all_cpus_request")
def request(cpu: Cpu, my: Setting) -> None:
    """KVM_REQ_APICV_UPDATE; who sleeps is not woken (KVM_REQUEST_NO_WAKEUP)."""
    kvm_make_request(cpu, APICV_UPDATE, Kvm.vcpus[my.i])


@SETTER.step(source="kvm_main.c kvm_make_vcpu_request, kvm_request_needs_ipi")
def kick(cpu: Cpu, my: Setting) -> str:
    """Who is not outside the guest gets an interrupt, and is waited for (KVM_REQUEST_WAIT)."""
    vcpu = Kvm.vcpus[my.i]
    if cpu.cmpxchg(vcpu.mode, Mode.IN_GUEST, Mode.EXITING) != Mode.OUTSIDE:
        cpu.write(vcpu.ipi, True)
        my.waits |= 1 << my.i
    if my.i < cpu.scope["vcpus"] - 1:
        my.i += 1
        return "request"
    my.i = 0
    return "wait"


@SETTER.step(source="kernel/smp.c smp_call_function_many", coarse="only a planted fault reads memory here")
def wait(cpu: Cpu, my: Setting) -> str:
    """Until all of them have taken the interrupt."""
    if not cpu.has(Fault.NO_WAIT):
        for i in range(cpu.scope["vcpus"]):
            cpu.wait_until(not ((my.waits >> i) & 1 == 1 and cpu.read(Kvm.vcpus[i].ipi)))
    if cpu.has(Fault.WAIT_FOR_UPDATE):
        for i in range(cpu.scope["vcpus"]):
            cpu.wait_until(cpu.load(Kvm.vcpus[i].apicv_active) == (my.new == 0))
    my.waits = 0
    return "unlock" if mask_first(cpu) else "store_mask"


@SETTER.step(source="x86.c __kvm_set_or_clear_apicv_inhibit")
def store_mask(cpu: Cpu, my: Setting) -> None:
    """apicv_inhibit_reasons = new."""
    cpu.store(Kvm.apicv_inhibit_reasons, my.new)
    my.new = 0


@SETTER.step()
def unlock(cpu: Cpu, my: Setting) -> str:
    """up_write(apicv_update_lock)."""
    if cpu.has(InhibitFix.LOCKED_UPDATE):
        up_write(cpu)
    return "lock"


# An interrupt.


@SENDER.step()
def send(cpu: Cpu, my: Sending) -> str:
    """A device, another vCPU or a timer has an interrupt for the vCPU: the first access of its path."""
    if is_vmx(cpu) or cpu.has(Fault.ACTIVE_FIRST):
        my.active = cpu.load(Kvm.vcpus[TARGET].apicv_active)
        return "set_pir" if my.active and is_vmx(cpu) else "set_irr"
    if cpu.has(Setup.DEVICE_POSTS):
        return post(cpu, my)
    return set_bit(cpu, my)


def post(cpu: Cpu, my: Sending) -> str:
    """The IOMMU reads the IRTE."""
    my.active = cpu.load(Kvm.vcpus[TARGET].irte) != Irte.LEGACY
    cpu.write(Kvm.posting, my.active)
    return "set_irr"


def set_bit(cpu: Cpu, my: Sending) -> str:
    """lapic.c kvm_lapic_set_irr: the bit, then the hint."""
    cpu.xchg(Kvm.vcpus[TARGET].irr, True)
    return "see_irte" if cpu.has(Setup.DEVICE_POSTS) and my.active else "set_hint"


@SENDER.step(source="vmx.c vmx_deliver_posted_interrupt")
def set_pir(cpu: Cpu, my: Sending) -> str:
    """Whoever posted before has told the vCPU."""
    told = cpu.test_and_set(Kvm.vcpus[TARGET].pir)
    my.active = not told
    return "send" if told else "see_mode"


@SENDER.step(source="lapic.c kvm_lapic_set_irr")
def set_irr(cpu: Cpu, my: Sending) -> str:
    """The bit, where its setting is not the first access."""
    return set_bit(cpu, my)


@SENDER.step(source="lapic.c kvm_lapic_set_irr")
def set_hint(cpu: Cpu, my: Sending) -> str:
    """irr_pending = true."""
    cpu.store(Kvm.vcpus[TARGET].irr_pending, True)
    return "make_event" if is_vmx(cpu) else "see_mode"


@SENDER.step(source="APM IOMMU 2.2.5.3: guest virtual APIC")
def see_irte(cpu: Cpu, my: Sending) -> str:
    """IsRun: a doorbell; GALogIntr: an entry in the log, by which the host wakes the vCPU."""
    my.active = False
    cpu.write(Kvm.posting, False)
    return "ring" if cpu.load(Kvm.vcpus[TARGET].irte) != Irte.BLOCKED else "wake"


@SENDER.step(source="svm.c svm_complete_interrupt_delivery; vmx.c kvm_vcpu_trigger_posted_interrupt")
def see_mode(cpu: Cpu, my: Sending) -> str:
    """Whether the vCPU is in the guest."""
    cpu.smp_mb()
    my.in_guest = cpu.smp_load_acquire(Kvm.vcpus[TARGET].mode) == Mode.IN_GUEST
    if is_vmx(cpu) or cpu.has(Fault.ACTIVE_FIRST):
        return notify(my)
    return "see_active_last"


@SENDER.step(source="svm.c svm_complete_interrupt_delivery")
def see_active_last(cpu: Cpu, my: Sending) -> str:
    """Whether AVIC is on: after the mode, which was stored later."""
    my.active = cpu.load(Kvm.vcpus[TARGET].apicv_active)
    return notify(my)


def notify(my: Sending) -> str:
    """How the vCPU is told."""
    active, in_guest = my.active, my.in_guest
    my.active = False
    my.in_guest = False
    if not active:
        return "make_event"
    return "ring" if in_guest else "wake"


@SENDER.step(source="svm/avic.c avic_ring_doorbell; vmx.c kvm_vcpu_trigger_posted_interrupt")
def ring(cpu: Cpu, my: Sending) -> str:
    """The doorbell, or the notification vector."""
    cpu.write(Kvm.vcpus[TARGET].doorbell, True)
    return "send"


@SENDER.step(source="kvm_main.c kvm_vcpu_wake_up")
def wake(cpu: Cpu, my: Sending) -> str:
    """rcuwait_wake_up: whether anybody waits."""
    cpu.smp_mb()
    return "wake_task" if cpu.load(Kvm.vcpus[TARGET].wait_task) else "send"


@SENDER.step(source="kvm_main.c kvm_vcpu_wake_up")
def wake_task(cpu: Cpu, my: Sending) -> str:
    """wake_up_process."""
    cpu.xchg(Kvm.vcpus[TARGET].asleep, False)
    return "send"


@SENDER.step(source="svm.c svm_complete_interrupt_delivery")
def make_event(cpu: Cpu, my: Sending) -> None:
    """KVM_REQ_EVENT."""
    kvm_make_request(cpu, EVENT, Kvm.vcpus[TARGET])


@SENDER.step(source="kvm_main.c kvm_vcpu_kick")
def kick_task(cpu: Cpu, my: Sending) -> str:
    """Wake whoever waits ..."""
    cpu.smp_mb()
    return "kick_awake" if cpu.load(Kvm.vcpus[TARGET].wait_task) else "kick_mode"


@SENDER.step(source="kvm_main.c kvm_vcpu_kick")
def kick_awake(cpu: Cpu, my: Sending) -> str:
    """... and be done if that woke it ..."""
    return "send" if cpu.xchg(Kvm.vcpus[TARGET].asleep, False) else "kick_mode"


@SENDER.step(source="kvm_main.c kvm_vcpu_kick")
def kick_mode(cpu: Cpu, my: Sending) -> str:
    """... or make it leave the guest."""
    vcpu = Kvm.vcpus[TARGET]
    if cpu.cmpxchg(vcpu.mode, Mode.IN_GUEST, Mode.EXITING) == Mode.IN_GUEST:
        cpu.write(vcpu.ipi, True)
    return "send"
