"""The vCPU of the model secure-avic-online: KVM's thread and the guest that goes offline and comes back."""

from __future__ import annotations

from avicheck.spec.cpu import Cpu
from avicheck.spec.secure_avic import EntryDisabled
from avicheck.spec.secure_avic_online_state import (
    DEVICE,
    IPI,
    MOVED,
    TIMER,
    VCPU,
    Guest,
    Leaves,
    Life,
    Masking,
    Message,
    OnItsWay,
    Online,
    OnlineChange,
    OnlineFault,
    add,
    drop,
    highest_of,
)
from avicheck.spec.threads import label_of

# KVM.


@VCPU.step(source="x86.c vcpu_enter_guest: kvm_check_request")
def check(cpu: Cpu, my: Guest) -> str:
    """A new VMSA first; then, on KVM_REQ_EVENT, APIC_IRR becomes RequestedIRR."""
    if cpu.read(Online.request_state):
        return "reset"
    if cpu.read(Online.request_event):
        cpu.write(Online.request_event, False)
        vectors = cpu.read(Online.kvm_irr)
        cpu.write(Online.kvm_irr, 0)
        cpu.write(Online.requested_irr, cpu.read(Online.requested_irr) | vectors)
        cpu.write(Online.update_irr, cpu.read(Online.update_irr) or vectors != 0)
    return "enter"


@VCPU.step(source="x86.c kvm_vcpu_reset, sev.c sev_snp_init_protected_guest_state")
def reset(cpu: Cpu, my: Guest) -> str:
    """The local APIC is reset, its timer too, and the new VMSA taken. RequestedIRR and UpdateIRR stay."""
    cpu.write(Online.request_state, False)
    cpu.write(Online.kvm_irr, 0)
    cpu.write(Online.timer_runs, False)
    cpu.write(Online.enabled, False)
    cpu.write(Online.dead, False)
    if cpu.has(OnlineChange.RESET_CLEARS):
        cpu.write(Online.requested_irr, 0)
        cpu.write(Online.update_irr, False)
    cpu.write(Online.ipi_sent, False)
    cpu.write(Online.former, cpu.read(Online.requested_irr) | cpu.read(Online.irr))
    my.life = Life.REGISTER
    return "check"


@VCPU.step(source="x86.c vcpu_enter_guest: kvm_vcpu_exit_request")
def enter(cpu: Cpu, my: Guest) -> str:
    """vcpu->mode is IN_GUEST_MODE. If a request has come meanwhile, the entry is cancelled; RequestedIRR and
    UpdateIRR stay."""
    cancelled = cpu.read(Online.request_event) or cpu.read(Online.request_state)
    cpu.write(Online.in_guest_mode, not cancelled)
    return "check" if cancelled else "vmrun"


@VCPU.step(source="HW.VMRUN")
def vmrun(cpu: Cpu, my: Guest) -> str:
    """IRR takes in what is requested and allowed. What comes of a request while Secure AVIC is not enabled is
    left open."""
    if cpu.read(Online.update_irr):
        if not cpu.read(Online.enabled) and cpu.has(EntryDisabled.ENTRY_FAILS):
            cpu.write(Online.failed, True)
            return "gone"
        if cpu.read(Online.enabled) or not cpu.has(EntryDisabled.REQUEST_WAITS):
            taken = cpu.read(Online.requested_irr) if cpu.read(Online.enabled) else 0
            add(cpu, Online.irr, taken & cpu.read(Online.allowed_irr))
            cpu.write(Online.requested_irr, 0)
            cpu.write(Online.update_irr, False)
    cpu.write(Online.in_guest, True)
    return label_of(my.life, Life)


@VCPU.step(source="KVM_EXIT_FAIL_ENTRY")
def gone(cpu: Cpu, my: Guest) -> str:
    """The vCPU does not run any more."""
    cpu.wait_until(False)
    return "gone"


@VCPU.step(source="x86.c kvm_emulate_ap_reset_hold, vcpu_block")
def blocked(cpu: Cpu, my: Guest) -> str:
    """Until there is a new VMSA, or an interrupt that KVM takes for a reason to run."""
    cpu.wait_until(cpu.read(Online.request_state) or cpu.read(Online.kvm_irr) != 0)
    return "check"


def goes_to(my: Guest, life: Life) -> str:
    """The guest goes on there without an exit."""
    my.life = life
    return label_of(life, Life)


def exits(cpu: Cpu, my: Guest, life: Life) -> str:
    """It goes on there after an exit; a kick that was under way has come."""
    my.life = life
    cpu.write(Online.in_guest_mode, False)
    cpu.write(Online.in_guest, False)
    cpu.write(Online.kick, False)
    return "check"


@VCPU.anywhere(source="HW.VMEXIT")
def kicked(cpu: Cpu, my: Guest) -> str:
    """The kick makes the vCPU exit."""
    cpu.wait_until(cpu.read(Online.kick) and cpu.read(Online.in_guest))
    return exits(cpu, my, my.life)


@VCPU.anywhere(source="HW.VMEXIT")
def interrupted(cpu: Cpu, my: Guest) -> str:
    """Any other reason to leave the guest."""
    cpu.wait_until(cpu.read(Online.in_guest))
    return exits(cpu, my, my.life)


# The guest while it is online.


@VCPU.step(at="runs", source="HW.DELIVER")
def deliver(cpu: Cpu, my: Guest) -> str:
    """The highest vector, if it is above what is in service."""
    vector = highest_of(cpu.read(Online.irr))
    cpu.wait_until(vector > cpu.read(Online.isr))
    drop(cpu, Online.irr, vector)
    add(cpu, Online.isr, vector)
    cpu.write(Online.stale, cpu.read(Online.stale) or cpu.read(Online.former) & vector != 0)
    cpu.write(Online.owed, cpu.read(Online.owed) and vector != DEVICE)
    cpu.write(Online.ipi_sent, cpu.read(Online.ipi_sent) and vector != IPI)
    return goes_to(my, Life.HANDLES)


@VCPU.step(at="handles", source="x2apic_savic.c savic_eoi")
def end(cpu: Cpu, my: Guest) -> str:
    """EOI."""
    drop(cpu, Online.isr, highest_of(cpu.read(Online.isr)))
    return goes_to(my, Life.RUNS)


@VCPU.step(at="runs", source="apic/vector.c apic_update_irq_cfg, kernel/apic/msi.c irq_msi_update_msg")
def assign(cpu: Cpu, my: Guest) -> str:
    """A device gets its vector here: it is allowed, then the device gets its message."""
    cpu.wait_until(cpu.read(Online.message) == Message.AWAY)
    add(cpu, Online.allowed_irr, DEVICE)
    cpu.write(Online.message, Message.OLD)
    return exits(cpu, my, Life.RUNS)


# Offline: stop_machine, interrupts disabled.


@VCPU.step(at="runs", source="smpboot.c cpu_disable_common: remove_cpu_from_maps")
def go_offline(cpu: Cpu, my: Guest) -> str:
    """Nobody sends IPIs here any more."""
    cpu.wait_until(not cpu.has(Leaves.RECREATED) and cpu.read(Online.message) == Message.OLD)
    cpu.write(Online.online, False)
    return goes_to(my, Life.MASK)


def awaits(cpu: Cpu) -> None:
    """OnItsWay.AWAITED."""
    others = cpu.has(OnItsWay.WITHIN_DELAY) or cpu.has(OnItsWay.BEYOND_DELAY)
    cpu.wait_until(others or not cpu.read(Online.sending))


@VCPU.step(source="kernel/irq/cpuhotplug.c migrate_one_irq: irq_mask")
def mask(cpu: Cpu, my: Guest) -> str:
    """Masking.MASKABLE."""
    if cpu.has(Masking.NOT_MASKABLE):
        return goes_to(my, Life.FREE)
    awaits(cpu)
    cpu.write(Online.masked, True)
    return exits(cpu, my, Life.FREE)


@VCPU.step(source="apic/vector.c apic_chipd_update_vector: apic_free_vector")
def free(cpu: Cpu, my: Guest) -> str:
    """The CPU is offline: its vector is freed at once, and refused from now on."""
    if not cpu.has(OnlineChange.FREED_AFTER_LOOK) and not cpu.has(OnlineFault.NEVER_FREED):
        drop(cpu, Online.allowed_irr, DEVICE)
    if cpu.has(OnlineChange.ALLOWED_HERE) and cpu.has(Masking.NOT_MASKABLE):
        add(cpu, Online.allowed_irr, MOVED)
    return goes_to(my, Life.READDRESS)


@VCPU.step(source="kernel/apic/msi.c msi_set_affinity: irq_msi_update_msg")
def readdress(cpu: Cpu, my: Guest) -> str:
    """The new message; what cannot be masked gets the new vector first, and the new CPU after that."""
    awaits(cpu)
    if cpu.has(Masking.NOT_MASKABLE):
        cpu.write(Online.message, Message.STRAY)
        return exits(cpu, my, Life.READDRESS_AWAY)
    cpu.write(Online.message, Message.AWAY)
    return exits(cpu, my, Life.UNMASK)


@VCPU.step(source="kernel/apic/msi.c msi_set_affinity: irq_msi_update_msg")
def readdress_away(cpu: Cpu, my: Guest) -> str:
    """The new CPU."""
    awaits(cpu)
    cpu.write(Online.message, Message.AWAY)
    return exits(cpu, my, Life.LOOK_STRAY)


@VCPU.step(source="kernel/apic/msi.c msi_set_affinity: lapic_vector_set_in_irr")
def look_stray(cpu: Cpu, my: Guest) -> str:
    """What came to the new vector here is sent again."""
    if cpu.read(Online.irr) & MOVED != 0:
        cpu.write(Online.owed, False)
    return goes_to(my, Life.UNMASK)


@VCPU.step(source="kernel/irq/cpuhotplug.c migrate_one_irq: irq_unmask")
def unmask(cpu: Cpu, my: Guest) -> str:
    """The device's interrupts go to the other CPU."""
    cpu.write(Online.masked, False)
    return exits(cpu, my, Life.SETTLE)


@VCPU.step(source="kernel/irq.c fixup_irqs: mdelay(1)")
def settle(cpu: Cpu, my: Guest) -> str:
    """OnItsWay.WITHIN_DELAY: what was on its way has come."""
    coming = cpu.read(Online.sending) or cpu.read(Online.kick)
    cpu.wait_until(not cpu.has(OnItsWay.WITHIN_DELAY) or not coming)
    return goes_to(my, Life.LOOK)


@VCPU.step(source="kernel/irq.c fixup_irqs: is_vector_pending, irq_retrigger")
def look(cpu: Cpu, my: Guest) -> str:
    """What came to the old vector is sent to the new CPU; its bit of IRR stays."""
    if cpu.read(Online.irr) & DEVICE != 0 and not cpu.has(OnlineFault.NO_LOOK):
        cpu.write(Online.owed, False)
    if not cpu.has(OnlineFault.NEVER_FREED):
        drop(cpu, Online.allowed_irr, DEVICE | MOVED)
    return goes_to(my, Life.STOP_TIMER)


@VCPU.step(source="apic.c apic_soft_disable: LVTT")
def stop_timer(cpu: Cpu, my: Guest) -> str:
    """The LVTs are masked by VMGEXIT; SPIV is written to the page alone."""
    cpu.write(Online.timer_runs, False)
    return exits(cpu, my, Life.DEAD_LOOP)


@VCPU.step(source="coco/sev/core.c sev_es_ap_hlt_loop")
def dead_loop(cpu: Cpu, my: Guest) -> str:
    """SVM_VMGEXIT_AP_HLT_LOOP, again and again."""
    cpu.write(Online.dead, True)
    exits(cpu, my, Life.DEAD_LOOP)
    return "blocked"


# Online again: a new VMSA, the old page.


@VCPU.step(source="x2apic_savic.c savic_setup: savic_register_gpa")
def register(cpu: Cpu, my: Guest) -> str:
    """OnlineChange.PAGE_CLEARED: what the old life left in the page is cleared here."""
    if cpu.has(OnlineFault.ONLINE_FIRST):
        cpu.write(Online.online, True)
    return exits(cpu, my, Life.ENABLE)


@VCPU.step(source="x2apic_savic.c savic_setup: WRMSR SAVIC_CTL")
def enable(cpu: Cpu, my: Guest) -> str:
    """Not intercepted: no exit."""
    if cpu.has(OnlineChange.PAGE_CLEARED):
        cpu.write(Online.irr, 0)
        cpu.write(Online.isr, 0)
        cpu.write(Online.allowed_irr, 0)
    cpu.write(Online.enabled, True)
    return goes_to(my, Life.CLEAR_ISR)


@VCPU.step(source="apic.c apic_clear_isr")
def clear_isr(cpu: Cpu, my: Guest) -> str:
    """One EOI for each bit of ISR; of IRR there is a warning, no more."""
    isr = cpu.read(Online.isr)
    if isr == 0 or cpu.has(OnlineFault.NO_EOI):
        return goes_to(my, Life.GO_ONLINE)
    drop(cpu, Online.isr, highest_of(isr))
    return "clear_isr"


@VCPU.step(source="smpboot.c ap_starting: set_cpu_online; local_irq_enable")
def go_online(cpu: Cpu, my: Guest) -> str:
    """Others send IPIs from now on."""
    cpu.write(Online.online, True)
    return goes_to(my, Life.START_TIMER)


@VCPU.step(source="apic.c setup_APIC_timer")
def start_timer(cpu: Cpu, my: Guest) -> str:
    """Its vector is allowed, then it is started by VMGEXIT. Interrupts are enabled a little earlier."""
    if not cpu.has(OnlineFault.TIMER_STAYS_OFF):
        add(cpu, Online.allowed_irr, TIMER)
    cpu.write(Online.timer_runs, True)
    return exits(cpu, my, Life.RUNS)
