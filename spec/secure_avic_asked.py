"""The model secure-avic, and what is asked of it.

P-names are those of the fact sheet's properties, SAV-C names those of the series' own claims.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Final

from avicheck.spec import secure_avic_guest as guest
from avicheck.spec.description import Assumption, Description, Size
from avicheck.spec.lang import Scope
from avicheck.spec.secure_avic import ExitIntInfo, NotAllowed, RequestedAfterEntry
from avicheck.spec.secure_avic_run import (
    DESTROYER,
    DEVICE,
    DISALLOWED,
    EDGE,
    IPI,
    LEVEL_A,
    LEVELS,
    SENDER,
    TARGET,
    WIRES,
    Change,
    CleanBits,
    EntryFence,
    Fault,
    Gate,
    HaltTest,
    Intercept,
    IrrUpdate,
    Mode,
    Savic,
    Series,
    SpivNotice,
    Target,
    Tmr,
    Traffic,
    Where,
    next_of,
)
from avicheck.spec.threads import Model, ThreadState, World, leads_to, never, sometimes


def target(world: World[Savic]) -> ThreadState[Target]:
    """The target's thread."""
    return world.of(TARGET)[0]


def quiet(world: World[Savic]) -> bool:
    """Nobody is bringing an interrupt: no sender, device or wire has anything under way."""
    nobody = all(sender.at("send") and sender.drained for sender in world.of(SENDER))
    wires = not world.shared.doorbell and not world.shared.kick
    return nobody and wires and world.of(DEVICE)[0].at("raise_irq") and world.of(DEVICE)[0].drained


def pending(world: World[Savic]) -> bool:
    """The page has an interrupt to deliver, or KVM has one to request."""
    shared = world.shared
    return shared.vmsa and (next_of(shared.irr, shared.isr) != 0 or shared.kvm_irr != 0)


# Never.


def refused_vector_enters(world: World[Savic]) -> bool:
    """P-S1, SAV-C14: a vector that the guest does not allow is in IRR or ISR."""
    return (world.shared.irr | world.shared.isr) & DISALLOWED != 0


def sleeps_on(world: World[Savic]) -> bool:
    """SAV-C01 to C05, P-SLEEP: the thread sleeps, an interrupt is pending, and nobody is about to wake it."""
    return target(world).at("sleep") and world.shared.asleep and pending(world) and quiet(world)


def runs_on(world: World[Savic]) -> bool:
    """SAV-C02: the guest runs with interrupts enabled, and nothing will make it take a pending one."""
    return target(world).at("runs") and not world.shared.v_intr and pending(world) and quiet(world)


def lost_in_kvm(world: World[Savic]) -> bool:
    """P-S4, SAV-C09, SAV-C10: a vector that KVM accepted is not pending any more and not requested, or was
    requested and the guest entered without it."""
    shared = world.shared
    entered = shared.promised if shared.where == Where.GUEST else 0
    return (shared.owed & ~shared.kvm_irr) | (shared.promised & ~shared.requested_irr) | entered != 0


def lost_in_page(world: World[Savic]) -> bool:
    """A vector was set in IRR, and is gone without having been delivered."""
    return world.shared.raised & ~world.shared.irr != 0


def injected_unasked(world: World[Savic]) -> bool:
    """A VMRUN has taken in a vector that no device has sent since the last time."""
    return world.shared.unasked


def forgotten_event(world: World[Savic]) -> bool:
    """P-S4: the guest runs, KVM has a vector to request, and neither a request nor a kick is under way."""
    shared = world.shared
    runs = shared.where == Where.GUEST and not shared.kick
    held_back = LEVELS if world.has(Change.ONE_LEVEL) and shared.shadow_isr != 0 else 0
    return runs and shared.kvm_irr & ~held_back != 0 and not shared.request_event and quiet(world)


def wakes_twice(world: World[Savic]) -> bool:
    """SAV-C07: the flag has ended HLT twice for nothing since the last notice of an IPI, and no notice is
    under way that it may have been for."""
    noticing = any(sender.at("read_mode") for sender in world.of(SENDER))
    return world.shared.spurious > 1 and not noticing


def litmus(world: World[Savic]) -> bool:
    """SAV-C04 by the letter of the comment in savic_handle_icr_write: a sender has seen the target in guest
    mode and rings, and the target, on its way to sleep, has not seen the sender's flag."""
    return world.shared.doorbell and target(world).at("halt_check_irr", "block_check_irr")


def litmus_unserved(world: World[Savic]) -> bool:
    """SAV-C04 by its purpose: the same, and the IPI has not been delivered."""
    notices = any(sender.at("set_pending_ipi") or not sender.drained for sender in world.of(SENDER))
    shared = world.shared
    return litmus(world) and shared.irr & IPI != 0 and not shared.has_pending_ipi and not notices


def ends_another(world: World[Savic]) -> bool:
    """P-S5, SAV-C11: the host has ended another vector than the guest."""
    return world.shared.wrong_eoi


def ends_nothing(world: World[Savic]) -> bool:
    """P-S6: the host has looked for a vector to end, and there was none; v2 then uses vector -1."""
    return world.shared.no_eoi


def unheard(world: World[Savic]) -> bool:
    """KVM has refused a device's interrupt."""
    return world.shared.unheard


def warned(world: World[Savic]) -> bool:
    """KVM has found an interrupt to inject and no vector."""
    return world.shared.warned


def enters_without_vmsa(world: World[Savic]) -> bool:
    """A destroyed vCPU is woken and entered."""
    return world.shared.failed


def line_is_dead(world: World[Savic]) -> bool:
    """P-L3: Remote IRR blocks an asserted line, and its vector is nowhere: nobody will ever end it."""
    shared, thread = world.shared, target(world)
    somewhere = shared.kvm_irr | shared.requested_irr | shared.irr | shared.isr
    expected = LEVEL_A if world.has(Traffic.WITHDRAWN) else LEVELS
    stuck = shared.remote_irr & shared.line & ~somewhere & expected
    away = thread.at("eoi", "ended", "rte", "reaccept", "rewrites", "leave")
    return stuck != 0 and not away and world.of(DEVICE)[0].at("raise_irq") and thread.at("runs", "sleep")


# Sometimes.


def ipi_served(world: World[Savic]) -> bool:
    """An IPI is in service."""
    return world.shared.isr & IPI != 0


def edge_served(world: World[Savic]) -> bool:
    """A device's interrupt is in service."""
    return world.shared.isr & EDGE != 0


def refused_is_requested(world: World[Savic]) -> bool:
    """A vector that the guest does not allow is requested."""
    return world.shared.requested_irr & DISALLOWED != 0


def sleeps(world: World[Savic]) -> bool:
    """The thread sleeps."""
    return target(world).at("sleep") and world.shared.asleep


def woken_for_nothing(world: World[Savic]) -> bool:
    """HLT has ended once for nothing."""
    return world.shared.spurious == 1


def cancelled_with_request(world: World[Savic]) -> bool:
    """An entry is cancelled while a request waits in the VMCB, and KVM's own IRR is empty again."""
    return target(world).at("cancel") and world.shared.update_irr and world.shared.kvm_irr == 0


def both_levels(world: World[Savic]) -> bool:
    """Both level-triggered vectors count as in service for the host."""
    return world.shared.shadow_isr == LEVELS


def exiting(world: World[Savic]) -> bool:
    """The vCPU is kicked."""
    return world.shared.mode == Mode.EXITING_GUEST_MODE


# Leads to.


def ipi_in_irr(world: World[Savic]) -> bool:
    """An IPI is in the target's IRR."""
    return world.shared.irr & IPI != 0


def line_a_asserted(world: World[Savic]) -> bool:
    """The line of vector A is asserted."""
    return world.shared.line & LEVEL_A != 0


def a_served(world: World[Savic]) -> bool:
    """Vector A is in service."""
    return world.shared.isr & LEVEL_A != 0


def edge_accepted(world: World[Savic]) -> bool:
    """KVM has accepted a device's interrupt."""
    return world.shared.kvm_irr & EDGE != 0


def anywhere(world: World[Savic]) -> bool:
    """Every state."""
    return True


def stoppable(world: World[Savic]) -> bool:
    """The thread is where it looks for signals and for other work, or sleeps, or has left for userspace."""
    return target(world).at("check_requests", "sleep", "gone")


UNFAIR: Final = (
    "halt",
    "nest",
    "interrupted",
    "computes",
    "disturbed_level",
    "disturbed_edge",
    "vmrun_cached",
    "hostile",
)
"""What the guest and its surroundings may, but need not do."""
IN_GUEST: Final = ("runs", "handles", "ends", "rewrites", "halt_tested", None)
SENDER_STEPS: Final = tuple(step for step in SENDER.steps if step.at != "send")
DEVICE_STEPS: Final = tuple(step for step in DEVICE.steps if step.at != "raise_irq")
TARGET_STEPS: Final = tuple(step for step in TARGET.steps if step.name not in UNFAIR)
HOST_STEPS: Final = (guest.interrupted, *(step for step in TARGET.steps if step.at not in IN_GUEST))


def initial(scope: Scope, options: frozenset[Enum]) -> list[Savic]:
    """Nothing is pending, and the target's thread is about to enter the guest. The PIC makes KVM_REQ_EVENT
    when it raises its output (i8259.c pic_unlock)."""
    return [
        Savic(
            irr=0,
            isr=0,
            requested_irr=0,
            update_irr=False,
            shadow_isr=0,
            v_intr=False,
            where=Where.HOST,
            doorbell=False,
            kick=False,
            kvm_irr=0,
            has_pending_ipi=False,
            request_event=Traffic.EXTINT in options,
            mode=Mode.OUTSIDE_GUEST_MODE,
            asleep=False,
            request_state=False,
            vmsa=True,
            line=0,
            remote_irr=0,
            owed=0,
            promised=0,
            raised=0,
            unasked=False,
            failed=False,
            spurious=0,
            wrong_eoi=False,
            unheard=False,
            warned=False,
            no_eoi=False,
        )
    ]


ASKED: Final = (
    never(
        "refused-vector-enters", "No vector enters IRR that the guest does not allow.", refused_vector_enters
    ),
    never("sleeps-on", "No vCPU sleeps with an interrupt pending.", sleeps_on),
    never("runs-on", "No interrupt waits for ever in a guest that runs.", runs_on),
    never("lost-in-kvm", "KVM loses no vector that it has accepted.", lost_in_kvm),
    never("lost-in-page", "No bit of IRR is lost.", lost_in_page),
    never("injected-unasked", "Nothing is injected that no device has sent.", injected_unasked),
    never("forgotten-event", "KVM forgets no vector while the guest runs.", forgotten_event),
    never("wakes-twice", "HLT ends for nothing at most once for each IPI.", wakes_twice),
    never("litmus", "Not both: IN_GUEST_MODE is seen, and the flag is not.", litmus),
    never("litmus-unserved", "Not both, while the IPI has not been delivered.", litmus_unserved),
    never("ends-another", "The host ends the vector that the guest ends.", ends_another),
    never("ends-nothing", "Every EOI notice finds a vector in the shadow ISR.", ends_nothing),
    never("line-is-dead", "No asserted line is blocked for ever by Remote IRR.", line_is_dead),
    never("device-unheard", "KVM refuses no interrupt of a device.", unheard),
    never("injects-nothing", "KVM injects no interrupt without a vector.", warned),
    never("enters-without-vmsa", "No destroyed vCPU is entered.", enters_without_vmsa),
    sometimes("ipi-served", "IPIs arrive.", ipi_served),
    sometimes("edge-served", "Device interrupts arrive.", edge_served),
    sometimes("refused-is-requested", "Vectors can be requested that are refused.", refused_is_requested),
    sometimes("sleeps", "The vCPU can sleep.", sleeps),
    sometimes("woken-for-nothing", "HLT can end for nothing.", woken_for_nothing),
    sometimes("cancelled-with-request", "An entry can be cancelled after injection.", cancelled_with_request),
    sometimes("both-levels", "Two level-triggered vectors can be in the shadow ISR.", both_levels),
    sometimes("exiting", "A vCPU can be kicked.", exiting),
)

ASKED_IN_THE_END: Final = (
    leads_to(
        "ipi-arrives",
        "P-L1: an IPI in the target's IRR is served.",
        ipi_in_irr,
        ipi_served,
        weak=SENDER_STEPS,
        strong=(*TARGET_STEPS, guest.doorbell_arrives),
    ),
    leads_to(
        "edge-arrives",
        "P-L2: a device's interrupt that KVM accepted is served.",
        edge_accepted,
        edge_served,
        weak=DEVICE_STEPS,
        strong=(*TARGET_STEPS, guest.doorbell_arrives),
    ),
    leads_to(
        "line-a-served",
        "P-L3: an asserted line is served.",
        line_a_asserted,
        a_served,
        weak=DEVICE_STEPS,
        strong=TARGET_STEPS,
    ),
    leads_to(
        "host-goes-on",
        "Whatever the guest does, its thread comes to where it can be stopped.",
        anywhere,
        stoppable,
        weak=HOST_STEPS,
    ),
)


def at_rest(world: World[Savic]) -> bool:
    """The target sleeps, and nothing is pending or under way."""
    return sleeps(world) and not pending(world) and quiet(world)


THREADS: Final = (TARGET, SENDER, DEVICE, DESTROYER, WIRES)
SECURE_AVIC: Final = Model("secure-avic", Savic, THREADS, initial, ASKED, at_rest)
ARRIVAL: Final = Model("secure-avic-arrival", Savic, THREADS, initial, ASKED_IN_THE_END, at_rest)
"""The same, asked whether interrupts arrive in the end."""

EVERYTHING: Final = frozenset(
    {
        Traffic.IPIS,
        Traffic.EDGES,
        Traffic.REFUSED,
        Traffic.LEVEL_ONE,
        Traffic.LEVEL_TWO,
        Traffic.ONCE,
    }
)
"""One of each interrupt that the series is about."""

SWITCHES: Final = (Traffic, Series, Change, Fault)
ASSUMPTIONS: Final = (
    Assumption(Intercept, "cover letter, Idle HLT Intercept: not enforced by the series"),
    Assumption(HaltTest, "patch 07/17, scenario 3 in pre_sev_run"),
    Assumption(EntryFence, "not in the sources"),
    Assumption(IrrUpdate, "RFC v2 of the guest series, a comment"),
    Assumption(CleanBits, "patch 06/17 marks nothing dirty"),
    Assumption(Tmr, "cover letter: TMR is owned by the guest; the driver of 6.19 never writes it"),
    Assumption(Gate, "Linux: interrupt gates"),
    Assumption(RequestedAfterEntry, "cover letter of v2 against that of v1"),
    Assumption(NotAllowed, "selftests 32/35 and 35/35"),
    Assumption(ExitIntInfo, "patch 06/17 leaves svm_complete_interrupts as it is"),
    Assumption(SpivNotice, "cover letter, Changes since v1"),
)

DESCRIPTION: Final = Description(
    model=SECURE_AVIC,
    summary="Interrupts on their way to a vCPU of an AMD Secure AVIC guest: host, hardware and guest.",
    covers=(
        "the target's run loop: APIC_IRR to RequestedIRR vector by vector, cancelled entries, the sticky "
        "flag, VMRUN, HLT with either intercept, blocking and wake-up",
        "IPIs: the target's IRR in memory, the ICR notice, doorbell and kick",
        "MSIs, one of a vector that the guest does not allow, and two lines of the IOAPIC: the shadow ISR, "
        "EOI notices, Remote IRR, the driver's edge-and-level rewrite",
    ),
    scope={"senders": Size(2, most=3)},
    small={"senders": 1},
    kernels={"savic-rfc-v1": EVERYTHING | set(Series), "savic-rfc-v2": EVERYTHING},
    kernel="savic-rfc-v2",
    switches=SWITCHES,
    assumptions=ASSUMPTIONS,
    excerpts=(
        frozenset({Traffic.EDGES, Traffic.LEVEL_ONE, Traffic.LEVEL_TWO}),
        frozenset({Traffic.IPIS, Traffic.REFUSED, Traffic.LEVEL_TWO}),
        frozenset({Traffic.IPIS, Traffic.EDGES, Traffic.LEVEL_ONE}),
    ),
)

ARRIVAL_DESCRIPTION: Final = replace(
    DESCRIPTION,
    model=ARRIVAL,
    summary="Whether those interrupts of an AMD Secure AVIC guest arrive in the end.",
    scope={"senders": Size(1, most=3)},
    kernels={name: options - {Traffic.LEVEL_TWO} for name, options in DESCRIPTION.kernels.items()},
    excerpts=DESCRIPTION.excerpts[:2],
)
