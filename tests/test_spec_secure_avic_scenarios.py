"""What the KVM selftests of Secure AVIC expect (scenarios C1 to C12), run on the specification.

C1 and C3 are about registers: test_spec_secure_avic_registers has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

import pytest

from avicheck.checker.engines import check
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.spec import secure_avic_hardware as hw
from avicheck.spec.lang import NULL, update
from avicheck.spec.secure_avic import (
    EntryDisabled,
    EventInjection,
    Exit,
    Halted,
    HaltWithoutIf,
    Hardware,
    LevelEoi,
    NmiAndHalt,
    NmiNotAllowed,
    NmiRequestNeeds,
    NotAllowed,
    Page,
    RequestedAfterEntry,
    Vcpu,
    Vmcb,
    Vmsa,
)
from avicheck.spec.secure_avic_asked import ARRIVAL, SECURE_AVIC
from avicheck.spec.secure_avic_calls import MsrCall, Series, savic_handle_msr_exit
from avicheck.spec.secure_avic_inject import SoftwareApic, accept, sev_savic_set_requested_irr
from avicheck.spec.secure_avic_run import Traffic

HARDWARE = Hardware(
    RequestedAfterEntry.REQUESTED_CLEARED,
    NotAllowed.DROPPED,
    EntryDisabled.REQUEST_LOST,
    EventInjection.EVENT_IGNORED,
    LevelEoi.SOFTWARE_RETIRES,
    HaltWithoutIf.HALT_STAYS,
    NmiNotAllowed.NMI_DROPPED,
    NmiRequestNeeds.NOTHING,
    NmiAndHalt.NMI_WAKES,
)


def sets(*vectors: int) -> int:
    return sum(1 << vector for vector in vectors)


@dataclass
class Vm:
    """One vCPU and KVM's state of it, run step by step; ``served`` counts what handlers ran for."""

    vcpu: Vcpu
    apic: SoftwareApic = field(default_factory=lambda: SoftwareApic(0, 0, 0, True))
    served: list[int] = field(default_factory=list)
    nmis: int = 0
    hardware: Hardware = HARDWARE

    def page(self, **changes: object) -> None:
        """The guest writes its backing page."""
        self.vcpu = update(self.vcpu, page=replace(self.vcpu.page, **changes))  # type: ignore[arg-type]

    def vmsa(self, **changes: object) -> None:
        """The guest changes its own state."""
        self.vcpu = update(self.vcpu, vmsa=replace(self.vcpu.vmsa, **changes))  # type: ignore[arg-type]

    def enter(self) -> Exit:
        """Injection, then VMRUN."""
        done = sev_savic_set_requested_irr(self.apic, self.vcpu.vmcb)
        self.apic = done.apic
        entry = hw.vmrun(self.hardware, update(self.vcpu, vmcb=done.vmcb))
        self.vcpu = entry.vcpu
        return entry.exit

    def device(self, *vectors: int, level: bool = False) -> None:
        """A device interrupts; the vCPU exits and is entered again."""
        for vector in vectors:
            self.apic = accept(self.apic, vector, level)
        self.enter()

    def serve(self) -> None:
        """Every interrupt that can be delivered is handled, each to its EOI."""
        while (taken := hw.take_interrupt(self.vcpu)).vector != NULL:
            self.served.append(taken.vector)
            self.vcpu = hw.write_eoi(self.hardware, taken.vcpu).vcpu

    def nmi(self) -> None:
        """Userspace's NMI: V_NMI_PENDING, as svm_inject_nmi sets it; the vCPU takes it if it may."""
        self.vcpu = update(self.vcpu, vmcb=update(self.vcpu.vmcb, v_nmi_pending=True))
        self.enter()
        self.take_nmis()

    def take_nmis(self) -> None:
        """Each is handled to its IRET."""
        while (found := hw.take_nmi(self.hardware, self.vcpu)).taken:
            self.nmis += 1
            self.vcpu = found.vcpu
            self.vmsa(nmi_mask=False)


@pytest.fixture
def vm() -> Vm:
    page = Page(0, 0, 0, 0, 0, True, False)
    vmsa = Vmsa(True, True, True, True, False, True, False, False)
    return Vm(Vcpu(page, vmsa, Vmcb(0, False, False, False, True), True, False, False))


def test_c2_tpr(vm: Vm) -> None:
    """TPR = 0x40 raises PPR, and self-IPI 0x20 stays pending."""
    vm.enter()
    vm.vcpu = hw.self_ipi(hw.write_tpr(vm.vcpu, 0x40), 0x20)
    vm.serve()
    assert hw.ppr(vm.vcpu.page) & 0xF0 == 0x40
    assert (vm.vcpu.page.irr, vm.served) == (sets(0x20), [])


@pytest.mark.parametrize(("idle", "halted"), [(True, Halted.GOES_ON), (False, Halted.EXITS)])
def test_c4_idle_halt(vm: Vm, idle: bool, halted: Halted) -> None:
    """cli; ICR self 0x30, which is not allowed; sti; hlt: the handler runs before hlt returns."""
    vm.vcpu = update(vm.vcpu, vmcb=update(vm.vcpu.vmcb, idle_hlt=idle))
    vm.enter()
    vm.vmsa(interrupt_flag=False)
    vm.vcpu = hw.self_ipi(vm.vcpu, 0x30)
    assert vm.vcpu.page.irr == sets(0x30)
    vm.vmsa(interrupt_flag=True)
    assert hw.halt(HARDWARE, vm.vcpu) == halted
    taken = hw.take_interrupt(vm.vcpu)
    assert (taken.vector, taken.vcpu.page.isr) == (0x30, sets(0x30))
    assert hw.write_eoi(HARDWARE, taken.vcpu).vcpu.page.isr == 0


def test_c5_edges_levels_and_the_rtc_once_for_each_pulse(vm: Vm) -> None:
    vm.page(allowed_irr=sets(0x81, 0x82, 0x83, 0x84, 0x85))
    for count in (1, 2):
        vm.device(0x81, 0x82)
        vm.serve()
        for vector in (0x83, 0x84):
            vm.device(vector, level=True)
            vm.serve()
        vm.device(0x85)
        vm.serve()
        assert sorted(vm.served) == sorted([0x81, 0x82, 0x83, 0x84, 0x85] * count)


def test_c6_shadow_isr_of_a_level(vm: Vm) -> None:
    """In the handler, the host's TMR and shadow ISR have the vector; WRMSR EOI and VMGEXIT end it."""
    vm.page(allowed_irr=sets(0x83))
    vm.device(0x83, level=True)
    assert (vm.apic.tmr, vm.apic.isr) == (sets(0x83), sets(0x83))
    vm.serve()
    ended = savic_handle_msr_exit(Series.V2, frozenset(), vm.apic.isr, MsrCall(0x80B, True))
    assert (vm.served, ended.ended, ended.shadow_isr) == ([0x83], 0x83, 0)


def test_c7_message_that_is_not_allowed_is_dropped(vm: Vm) -> None:
    vm.enter()
    vm.device(0x40)
    vm.page(allowed_irr=sets(0x40))
    vm.enter()
    vm.serve()
    assert vm.served == []
    vm.device(0x40)
    vm.serve()
    assert vm.served == [0x40]


def test_c7_cannot_tell_dropped_from_left_requested(vm: Vm) -> None:
    """NotAllowed.LEFT_REQUESTED passes the same test: UpdateIRR is clear until the next message."""
    vm.hardware = replace(HARDWARE, not_allowed=NotAllowed.LEFT_REQUESTED)
    test_c7_message_that_is_not_allowed_is_dropped(vm)


def test_c9_host_nmis(vm: Vm) -> None:
    """None while AllowedNMI is 0; then two of two, and four of four."""
    vm.vmsa(allowed_nmi=False)
    vm.enter()
    vm.nmi()
    vm.nmi()
    assert vm.nmis == 0
    vm.vmsa(allowed_nmi=True)
    for count in (2, 4):
        vm.nmi()
        vm.nmi()
        assert vm.nmis == count


def test_c10_own_nmi_by_request_and_notice(vm: Vm) -> None:
    """NmiRequest is taken at the doorbell of a vCPU that spins, or at its next entry."""
    vm.enter()
    vm.page(nmi_request=True)
    vm.take_nmis()
    assert vm.nmis == 0
    vm.vcpu = hw.doorbell(vm.vcpu)
    vm.take_nmis()
    assert (vm.nmis, vm.vcpu.page.nmi_request) == (1, False)
    vm.page(nmi_request=True)
    vm.enter()
    vm.take_nmis()
    assert vm.nmis == 2


@pytest.mark.parametrize("options", [{Traffic.IPIS, Traffic.ONCE}], ids=["c8, c11"])
def test_c8_c11_ipis_to_a_halting_vcpu_arrive(options: set[Enum]) -> None:
    """Each IPI is received by a vCPU that halts again and again, from two senders."""
    system = machine(ARRIVAL, {"senders": 2}, "sc", options)
    assert check(system, "ipi-arrives", "explicit").verdict is Verdict.HOLDS


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_c12_never_asleep_with_an_ipi(memory: str) -> None:
    """The flag is set before, during and after the HLT exit."""
    system = machine(SECURE_AVIC, {"senders": 2, "store_buffer": 2}, memory, {Traffic.IPIS})  # type: ignore[arg-type]
    assert check(system, "sleeps-on", "explicit").verdict is Verdict.HOLDS


# Besides the selftests.


def test_page_that_is_not_mapped_ends_the_vcpu(vm: Vm) -> None:
    vm.vcpu = update(vm.vcpu, mapped=False)
    assert vm.enter() is Exit.NOT_RESTARTABLE
    vm.vcpu = update(vm.vcpu, mapped=True)
    assert vm.enter() is Exit.BUSY


@pytest.mark.parametrize(
    ("disabled", "exit", "arrives"),
    [
        (EntryDisabled.REQUEST_LOST, Exit.NONE, False),
        (EntryDisabled.REQUEST_WAITS, Exit.NONE, True),
        (EntryDisabled.ENTRY_FAILS, Exit.INVALID, True),
    ],
)
def test_request_before_secure_avic_is_enabled(
    vm: Vm, disabled: EntryDisabled, exit: Exit, arrives: bool
) -> None:
    vm.hardware = replace(HARDWARE, disabled=disabled)
    vm.page(allowed_irr=sets(0x40))
    vm.vmsa(enabled=False)
    vm.apic = accept(vm.apic, 0x40, False)
    assert vm.enter() is exit
    vm.vmsa(enabled=True)
    vm.enter()
    vm.serve()
    assert vm.served == ([0x40] if arrives else [])


def test_device_interrupt_is_refused_until_kvm_knows_spiv(vm: Vm) -> None:
    vm.apic = update(vm.apic, enabled=False)
    vm.page(allowed_irr=sets(0x40))
    vm.device(0x40)
    vm.serve()
    assert vm.served == []
