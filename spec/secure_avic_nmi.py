"""The model secure-avic-nmi: NMIs on their way to a vCPU of a Secure AVIC guest.

NMIs come from userspace (``nmi_queued``) and from other vCPUs (NmiRequest in the backing page). The target's
run loop handles them by process_nmi and kvm_check_and_inject_events; the hardware delivers virtual NMIs and
delivers again what an exit interrupted. What takes no part in that is left out: vectors, HLT and kicks; an
exit may come at any time.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final, TypeAlias

from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description
from avicheck.spec.lang import Range, at_least, at_most
from avicheck.spec.memory import Reg, local, shared
from avicheck.spec.secure_avic import ExitIntInfo, NmiNotAllowed, NmiRequestNeeds
from avicheck.spec.threads import Model, Thread, World, leads_to, never, sometimes


class AllowedNmi(Enum):
    """Whether the guest lets the host's NMIs in: Linux does."""

    ALLOWED = "AllowedNMI is 1"
    NOT_ALLOWED = "AllowedNMI is 0"


class Complete(Enum):
    """Whether the guest's handler sends NMI_COMPLETE: Linux does, and the selftests."""

    SENT = "the handler sends NMI_COMPLETE"
    NOT_SENT = "the handler sends nothing"


class NmiChange(Enum):
    """Changes to the series that would close a finding."""

    NOT_AGAIN = "svm_inject_nmi() does nothing for an NMI that is injected again"


class NmiFault(Enum):
    """Planted faults."""

    NO_EVENT = "NMI_COMPLETE does not make KVM_REQ_EVENT"
    NO_FILTER = "the hardware delivers the host's NMIs whatever AllowedNMI is"


Count: TypeAlias = Annotated[int, Range(0, 2)]
Left: TypeAlias = Annotated[int, Range(0, 3)]


@shared
class Nmis:
    """KVM's state, the VMCB's bit, the guest's and the hardware's, and what has been sent and taken. What
    more than one CPU uses is changed by locked operations only, or by the one store of NmiRequest."""

    nmi_queued: Reg[Count]
    request_nmi: Reg[bool]
    request_event: Reg[bool]
    nmi_pending: Reg[Count]
    nmi_injected: Reg[bool]
    v_nmi_pending: Reg[bool]
    nmi_request: Reg[bool]
    """NmiRequest in the backing page: a plain store of the sender, and the hardware's."""
    noticed: Reg[bool]
    """NmiRequest, as of the last VMRUN or doorbell."""
    nmi_mask: Reg[bool]
    rung: Reg[bool]
    """The doorbell is on its way."""
    delivering: Reg[bool]
    """An exit interrupted the delivery of an NMI: the next VMRUN delivers it again."""
    from_host: Reg[Left]
    """History: sent by userspace and neither dropped nor taken, as far as one may still expect it."""
    from_guest: Reg[bool]
    """History: the same of NmiRequest."""
    extra: Reg[bool]
    """History: an NMI was taken that nobody had sent."""
    uninvited: Reg[bool]
    """History: an NMI of the host was taken while AllowedNMI was 0."""


@local
class Nothing:
    """No local variables."""


@local
class Budget:
    """How many NMIs are still to be sent."""

    left: Left = 2


VCPU: Final = Thread("vcpu", Nothing, buffered=False, source="x86.c vcpu_enter_guest")
USER: Final = Thread("user", Budget, buffered=False, source="x86.c kvm_inject_nmi")
PEER: Final = Thread("peer", Budget, buffered=False, source="x2apic_savic.c send_ipi_dest")


def lower(value: int, by: int) -> int:
    """Less, but not below zero."""
    return at_least(value - by, 0)


# The target's thread.


@VCPU.step(source="x86.c vcpu_enter_guest: kvm_check_request(KVM_REQ_NMI)")
def check_nmi(cpu: Cpu, my: Nothing) -> str:
    """The queue is looked at only on request."""
    requested = cpu.read(Nmis.request_nmi)
    cpu.write(Nmis.request_nmi, False)
    return "process_nmi" if requested else "inject"


@VCPU.step(source="x86.c process_nmi")
def process_nmi(cpu: Cpu, my: Nothing) -> None:
    """At most two are kept, one of them in V_NMI_PENDING; whether NMIs are masked KVM does not see. The first
    goes there at once; KVM_REQ_EVENT for what is left."""
    held = cpu.read(Nmis.v_nmi_pending)
    limit = lower(1 if cpu.read(Nmis.nmi_injected) else 2, 1 if held else 0)
    sent = cpu.read(Nmis.nmi_pending) + cpu.read(Nmis.nmi_queued)
    pending = at_most(sent, limit)
    cpu.write(Nmis.nmi_queued, 0)
    cpu.write(Nmis.from_host, lower(cpu.read(Nmis.from_host), sent - pending))
    if pending > 0 and not held:
        cpu.write(Nmis.v_nmi_pending, True)
        pending = pending - 1
    cpu.write(Nmis.nmi_pending, pending)
    if pending > 0:
        cpu.write(Nmis.request_event, True)


@VCPU.step(source="x86.c kvm_check_and_inject_events")
def inject(cpu: Cpu, my: Nothing) -> None:
    """An NMI that EXITINTINFO reported is injected again; else the next one, if V_NMI_PENDING is free."""
    if not cpu.read(Nmis.request_event):
        return
    cpu.write(Nmis.request_event, False)
    if cpu.read(Nmis.nmi_injected):
        if not cpu.has(NmiChange.NOT_AGAIN):
            cpu.write(Nmis.v_nmi_pending, True)
    elif cpu.read(Nmis.nmi_pending) > 0 and not cpu.read(Nmis.v_nmi_pending):
        cpu.write(Nmis.nmi_pending, cpu.read(Nmis.nmi_pending) - 1)
        cpu.write(Nmis.v_nmi_pending, True)


def allowed(cpu: Cpu) -> bool:
    """AllowedNMI."""
    return not cpu.has(AllowedNmi.NOT_ALLOWED) or cpu.has(NmiFault.NO_FILTER)


@VCPU.step(source="HW.VMRUN")
def vmrun(cpu: Cpu, my: Nothing) -> None:
    """The host's NMI is dropped if it is not allowed; NmiRequest is noticed."""
    dropped = not allowed(cpu) and not cpu.has(NmiNotAllowed.NMI_LEFT_PENDING)
    if cpu.read(Nmis.v_nmi_pending) and dropped:
        cpu.write(Nmis.v_nmi_pending, False)
        cpu.write(Nmis.from_host, lower(cpu.read(Nmis.from_host), 1))
    cpu.write(Nmis.noticed, cpu.read(Nmis.nmi_request))


@VCPU.step(at="runs", source="HW.REINJECT")
def deliver_again(cpu: Cpu, my: Nothing) -> str:
    """It is the same NMI."""
    cpu.wait_until(cpu.read(Nmis.delivering))
    cpu.write(Nmis.delivering, False)
    return "handles"


def open_for_nmis(cpu: Cpu) -> bool:
    """No NMI is being delivered or handled."""
    return not cpu.read(Nmis.nmi_mask) and not cpu.read(Nmis.delivering)


@VCPU.step(at="runs", source="HW.VNMI")
def take_hosts(cpu: Cpu, my: Nothing, disturbed: bool) -> str:
    """The host's NMI; an exit may interrupt its delivery."""
    cpu.wait_until(open_for_nmis(cpu) and cpu.read(Nmis.v_nmi_pending) and allowed(cpu))
    cpu.write(Nmis.v_nmi_pending, False)
    cpu.write(Nmis.uninvited, cpu.read(Nmis.uninvited) or cpu.has(AllowedNmi.NOT_ALLOWED))
    cpu.write(Nmis.extra, cpu.read(Nmis.extra) or cpu.read(Nmis.from_host) == 0)
    cpu.write(Nmis.from_host, lower(cpu.read(Nmis.from_host), 1))
    return delivers(cpu, disturbed)


@VCPU.step(at="runs", source="HW.NMIREQ")
def take_own(cpu: Cpu, my: Nothing, disturbed: bool) -> str:
    """The guest's own NMI."""
    needs = cpu.has(NmiRequestNeeds.ALLOWED_NMI)
    cpu.wait_until(open_for_nmis(cpu) and cpu.read(Nmis.noticed) and (not needs or allowed(cpu)))
    cpu.write(Nmis.noticed, False)
    cpu.write(Nmis.nmi_request, False)
    cpu.write(Nmis.extra, cpu.read(Nmis.extra) or not cpu.read(Nmis.from_guest))
    cpu.write(Nmis.from_guest, False)
    return delivers(cpu, disturbed)


def delivers(cpu: Cpu, disturbed: bool) -> str:
    """NMIs are masked from here on."""
    cpu.write(Nmis.nmi_mask, True)
    cpu.write(Nmis.delivering, disturbed)
    return "leave" if disturbed else "handles"


@VCPU.step(at="runs", source="HW.VMEXIT")
def exits(cpu: Cpu, my: Nothing) -> str:
    """An exit between instructions."""
    return "leave"


@VCPU.step(at="runs", source="HW.DOORBELL")
def doorbell(cpu: Cpu, my: Nothing) -> str:
    """The notice of an NMI IPI to a vCPU that runs."""
    cpu.wait_until(cpu.read(Nmis.rung))
    cpu.write(Nmis.rung, False)
    cpu.write(Nmis.noticed, cpu.read(Nmis.nmi_request))
    return "runs"


@VCPU.step(source="nmi.c exc_nmi")
def handles(cpu: Cpu, my: Nothing) -> str:
    """The handler, until its VMGEXIT or its end."""
    if cpu.has(Complete.NOT_SENT):
        cpu.write(Nmis.nmi_mask, False)
        return "runs"
    return "complete"


@VCPU.step(source="sev.c SVM_VMGEXIT_NMI_COMPLETE")
def complete(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_EVENT; when the guest runs again, IRET unmasks NMIs, which counts as done here."""
    cpu.write(Nmis.nmi_mask, False)
    cpu.write(Nmis.noticed, False)
    if not cpu.has(NmiFault.NO_EVENT):
        cpu.write(Nmis.request_event, True)
    return "leave"


@VCPU.step(source="svm.c svm_complete_interrupts")
def leave(cpu: Cpu, my: Nothing) -> str:
    """nmi_injected says from now on what EXITINTINFO says; where it does, KVM_REQ_EVENT is made."""
    reported = cpu.read(Nmis.delivering) and cpu.has(ExitIntInfo.REPORTED)
    cpu.write(Nmis.nmi_injected, reported)
    if reported:
        cpu.write(Nmis.request_event, True)
    return "check_nmi"


# Who sends NMIs.


@USER.step(source="x86.c kvm_inject_nmi: atomic_inc")
def queue(cpu: Cpu, my: Budget) -> None:
    """KVM_NMI."""
    cpu.wait_until(my.left > 0)
    my.left = my.left - 1
    cpu.write(Nmis.nmi_queued, at_most(cpu.read(Nmis.nmi_queued) + 1, 2))
    cpu.write(Nmis.from_host, at_most(cpu.read(Nmis.from_host) + 1, 3))


@USER.step(source="x86.c kvm_inject_nmi: kvm_make_request(KVM_REQ_NMI)")
def request(cpu: Cpu, my: Budget) -> str:
    """And a kick: an exit, which may come at any time."""
    cpu.write(Nmis.request_nmi, True)
    return "queue"


@PEER.step(source="x2apic_savic.c send_ipi_dest")
def ask(cpu: Cpu, my: Budget) -> None:
    """A plain store to NmiRequest; two requests that nobody has taken are one."""
    cpu.wait_until(my.left > 0)
    my.left = my.left - 1
    cpu.write(Nmis.nmi_request, True)
    cpu.write(Nmis.from_guest, True)


@PEER.step(source="sev.c savic_handle_icr_write")
def notice(cpu: Cpu, my: Budget) -> str:
    """The doorbell to a vCPU that runs; one that does not will be entered."""
    cpu.write(Nmis.rung, True)
    return "ask"


# What is asked.


def extra_nmi(world: World[Nmis]) -> bool:
    """P-S11: an NMI was taken once more than it was sent."""
    return world.shared.extra


def uninvited_nmi(world: World[Nmis]) -> bool:
    """P-S2: an NMI of the host was taken that the guest does not allow."""
    return world.shared.uninvited


def host_nmi_due(world: World[Nmis]) -> bool:
    """Userspace has sent an NMI that may still be expected."""
    return world.shared.from_host > 0


def host_nmi_served(world: World[Nmis]) -> bool:
    """None is due any more."""
    return world.shared.from_host == 0


def own_nmi_due(world: World[Nmis]) -> bool:
    """A vCPU has asked for an NMI."""
    return world.shared.from_guest


def own_nmi_served(world: World[Nmis]) -> bool:
    """Nobody waits for one."""
    return not world.shared.from_guest


def two_host_nmis(world: World[Nmis]) -> bool:
    """One NMI of the host waits in the VMCB, another one in KVM."""
    return world.shared.v_nmi_pending and world.shared.nmi_pending > 0


NMI_MODEL: Final = Model(
    "secure-avic-nmi",
    Nmis,
    (VCPU, USER, PEER),
    lambda _scope, _options: [
        Nmis(0, False, False, 0, False, False, False, False, False, False, False, 0, False, False, False)
    ],
    (
        never("extra-nmi", "No NMI is taken twice.", extra_nmi),
        never("uninvited-nmi", "No NMI of the host is taken that is not allowed.", uninvited_nmi),
        sometimes("two-host-nmis", "Two NMIs of the host can wait.", two_host_nmis),
        leads_to(
            "host-nmi-served",
            "P-L5: every NMI of the host is taken, dropped or coalesced.",
            host_nmi_due,
            host_nmi_served,
            weak=(request,),
            strong=VCPU.steps,
        ),
        leads_to(
            "own-nmi-served",
            "P-L4: every NmiRequest is served.",
            own_nmi_due,
            own_nmi_served,
            weak=(notice,),
            strong=VCPU.steps,
        ),
    ),
)

NMI_DESCRIPTION: Final = Description(
    model=NMI_MODEL,
    summary="NMIs on their way to a vCPU of an AMD Secure AVIC guest.",
    covers=(
        "process_nmi, kvm_check_and_inject_events and svm_complete_interrupts for NMIs; NMI_COMPLETE",
        "V_NMI_PENDING, AllowedNMI, NmiRequest; delivery that an exit interrupts",
    ),
    scope={},
    kernels={"savic-rfc-v2": frozenset()},
    kernel="savic-rfc-v2",
    switches=(NmiChange, NmiFault),
    assumptions=(
        Assumption(ExitIntInfo, "patches 06, 08 and 11/17 leave svm_complete_interrupts as it is"),
        Assumption(AllowedNmi, "x2apic_savic.c savic_setup sets it"),
        Assumption(Complete, "nmi.c; selftest 34/35"),
        Assumption(NmiNotAllowed, "selftest 34/35"),
        Assumption(NmiRequestNeeds, "selftest 34/35 asks with AllowedNMI set only"),
    ),
)
