"""What the KVM selftests of Secure AVIC expect (scenarios C1 to C12), run on the specification.

C1 and C3 are about registers: test_spec_secure_avic_registers has them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

import pytest

from avicheck.checker.engines import check
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.spec import secure_avic_hardware as hw
from avicheck.spec.lang import NULL, update
from avicheck.spec.machine import Machine
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
from avicheck.spec.secure_avic_driver import CPUS, Cpus
from avicheck.spec.secure_avic_inject import SoftwareApic, accept, sev_savic_set_requested_irr
from avicheck.spec.secure_avic_ipis import NMI_VECTOR, Ipi, IpiFault, Request, SelfNmi, send
from avicheck.spec.secure_avic_run import SENDER, Fault, Traffic

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


def new_vm() -> Vm:
    """A vCPU that has nothing pending, allows NMIs and no vector, and runs with interrupts enabled."""
    page = Page(0, 0, 0, 0, 0, True, False)
    vmsa = Vmsa(True, True, True, True, False, True, False, False)
    return Vm(Vcpu(page, vmsa, Vmcb(0, False, False, False, True), True, False, False))


@pytest.fixture
def vm() -> Vm:
    return new_vm()


IPI = 0x31
SHORTHANDS = [
    (Request.ONE, 0b0100),
    (Request.MASK, 0b1010),
    (Request.ALLBUTSELF, 0b1110),
    (Request.ALL, 0b1111),
]
"""Requests of CPU 0 in a guest of four CPUs, and to whom they go."""


def sent_to_all(request: Request, vector: int, times: int, *faults: IpiFault) -> list[Vm]:
    """Four vCPUs after so many IPIs of the first one, each of which is served before the next."""
    vms = [new_vm() for _ in range(CPUS)]
    cpus = Cpus(*range(CPUS))
    ipi = Ipi(
        frozenset(),
        frozenset(faults),
        SelfNmi.SELF_NMI_TAKEN,
        cpus,
        0b1111,
        0,
        request,
        2,
        0b1010,
        vector,
        IPI,
    )
    for vm in vms:
        vm.enter()
    for _ in range(times):
        sent = send(ipi)
        for cpu, vm in enumerate(vms):
            vm.page(irr=vm.vcpu.page.irr | (sets(IPI) if sent.irr >> cpu & 1 else 0))
            vm.page(nmi_request=vm.vcpu.page.nmi_request or sent.nmi_request >> cpu & 1 == 1)
            if sent.woken >> cpu & 1 or (cpu == 0 and sent.evaluated):
                vm.vcpu = hw.doorbell(vm.vcpu)
            vm.serve()
            vm.take_nmis()
    return vms


IDLE = ("computes", "interrupted", "hostile")
"""What the target of ``halting`` does not do."""


def halting(times: int, *faults: Fault) -> Counter[str]:
    """How often the target's steps happen if it halts whenever it can, and a sender sends so many IPIs, each
    when it sleeps."""
    run = Machine(SECURE_AVIC, {"senders": 1}, "sc", {Traffic.IPIS, *faults})
    threads: dict[str, list[Any]] = {"target": [], "sender[0]": []}
    for action in run.actions:
        if action.thread in threads and action.label not in IDLE and "gives_up=True" not in action.name:
            threads[action.thread].append(action)
    world, counts = run.initial[0], Counter[str]()
    for sends in range(times + 1):
        for thread in ("target",) if sends == times else ("target", "sender[0]"):
            while ready := next(((a, w) for a in threads[thread] if (w := a.attempt(world).world)), None):
                world = ready[1]
                counts[ready[0].label] += 1
                if thread == "sender[0]" and world.of(SENDER)[0].at("send"):
                    break
    return counts


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


VMRUN, EOI, INTERRUPT_TAKEN, NMI_TAKEN = hw.vmrun, hw.write_eoi, hw.take_interrupt, hw.take_nmi
"""The hardware as it is."""


def vmrun_unfiltered(hardware: Hardware, vcpu: Vcpu) -> Any:
    """VMRUN that takes in every requested vector, and every NMI."""
    page, vmsa = vcpu.page, vcpu.vmsa
    every = update(
        vcpu, page=update(page, allowed_irr=sets(*range(256))), vmsa=update(vmsa, allowed_nmi=True)
    )
    entry = VMRUN(hardware, every)
    kept = update(entry.vcpu.page, allowed_irr=page.allowed_irr)
    return update(entry, vcpu=update(entry.vcpu, page=kept))


MUTANTS: dict[str, Any] = {
    "write_tpr": lambda vcpu, _tpr: vcpu,
    "halt": lambda _hardware, _vcpu: Halted.EXITS,
    "vmrun": vmrun_unfiltered,
    "doorbell": lambda vcpu: vcpu,
    "self_ipi": lambda vcpu, _vector: vcpu,
    "write_eoi": lambda hardware, vcpu: update(EOI(hardware, vcpu), vcpu=vcpu),
    "take_interrupt": lambda vcpu: update(INTERRUPT_TAKEN(vcpu), vector=NULL),
    "take_nmi": lambda hardware, vcpu: update(NMI_TAKEN(hardware, vcpu), taken=False),
}
"""Hardware that does something else, by function."""
SCENARIOS = {
    "c2": test_c2_tpr,
    "c5": test_c5_edges_levels_and_the_rtc_once_for_each_pulse,
    "c6": test_c6_shadow_isr_of_a_level,
    "c7": test_c7_message_that_is_not_allowed_is_dropped,
    "c9": test_c9_host_nmis,
    "c10": test_c10_own_nmi_by_request_and_notice,
}
MUTATED = {
    "c2": ("write_tpr", "self_ipi"),
    "c4": ("halt", "self_ipi", "write_eoi"),
    "c5": ("take_interrupt", "write_eoi"),
    "c6": ("take_interrupt",),
    "c7": ("vmrun",),
    "c9": ("vmrun", "take_nmi"),
    "c10": ("doorbell", "take_nmi"),
}
"""Which mutants a scenario must notice."""


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


@pytest.mark.parametrize(("request_", "targets"), SHORTHANDS, ids=lambda each: getattr(each, "name", ""))
def test_c8_each_ipi_is_served_once_by_each_target(request_: Request, targets: int) -> None:
    assert [vm.served for vm in sent_to_all(request_, IPI, 20)] == [
        [IPI] * 20 * (targets >> cpu & 1) for cpu in range(CPUS)
    ]


@pytest.mark.parametrize(("request_", "targets"), SHORTHANDS, ids=lambda each: getattr(each, "name", ""))
def test_c10_each_nmi_is_taken_once_by_each_target(request_: Request, targets: int) -> None:
    assert [vm.nmis for vm in sent_to_all(request_, NMI_VECTOR, 20)] == [
        20 * (targets >> cpu & 1) for cpu in range(CPUS)
    ]


def test_c8_without_the_notice_nothing_arrives() -> None:
    lost = sent_to_all(Request.ALLBUTSELF, IPI, 20, IpiFault.NO_NOTICE)
    assert [vm.served for vm in lost] == [[]] * CPUS


def test_c8_c11_each_ipi_ends_one_halt_and_is_served_once() -> None:
    counts = halting(10)
    assert (counts["deliver"], counts["wake"], counts["halt"]) == (10, 10, 11)


@pytest.mark.parametrize("fault", [Fault.NO_KICK, Fault.NO_STICKY])
def test_c8_c11_without_kick_or_flag_none_is_served(fault: Fault) -> None:
    counts = halting(10, fault)
    assert (counts["deliver"], counts["wake"], counts["halt"]) == (0, 0, 1)


def run_scenario(vm: Vm, name: str) -> None:
    """A scenario by its name, with the outcome that the selftest expects."""
    if name == "c4":
        test_c4_idle_halt(vm, True, Halted.GOES_ON)
    else:
        SCENARIOS[name](vm)


@pytest.mark.parametrize(("name", "function"), [(n, f) for n, fs in MUTATED.items() for f in fs])
def test_scenario_fails_under_a_mutant(
    monkeypatch: pytest.MonkeyPatch, vm: Vm, name: str, function: str
) -> None:
    monkeypatch.setattr(hw, function, MUTANTS[function])
    with pytest.raises(AssertionError):
        run_scenario(vm, name)


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
