"""A host that does anything it can to a Secure AVIC guest: what may reach the guest at all.

The host writes every field of the VMCB, runs the vCPU, rings doorbells, maps and unmaps the backing page, in
any order at any time. What it cannot touch is what memory encryption and the RMP keep from it: the backing
page and the VMSA. The guest changes those as it likes, and what it ever agreed to is kept on record.
"""

from __future__ import annotations

from enum import Enum

from avicheck.spec.lang import NULL, U8, VectorSet, record, rule, update
from avicheck.spec.secure_avic import Exit, Hardware, Page, Vcpu, Vmcb, Vmsa
from avicheck.spec.secure_avic_hardware import (
    doorbell,
    only,
    self_ipi,
    take_interrupt,
    take_nmi,
    vmrun,
    write_eoi,
    write_tpr,
)


class Actor(Enum):
    """Who does something, and what."""

    HOST_WRITES = "the host writes the VMCB"
    HOST_MAPS = "the host maps or unmaps the backing page"
    HOST_RUNS = "the host executes VMRUN"
    HOST_RINGS = "the host rings the doorbell"
    GUEST_ALLOWS = "the guest writes ALLOWED_IRR"
    GUEST_SENDS = "a vCPU of the guest sets a bit of IRR in memory"
    GUEST_SENDS_SELF = "the guest writes SELF_IPI"
    GUEST_ASKS_NMI = "a vCPU of the guest sets NmiRequest"
    GUEST_WRITES = "the guest writes ISR, TMR and SPIV, in memory"
    GUEST_SETS_TPR = "the guest writes TPR"
    GUEST_ENDS = "the guest writes EOI"
    GUEST_CONTROLS = "the guest writes SAVIC_CTL, or changes RFLAGS, GIF or the NMI mask"
    INTERRUPTS = "the hardware delivers an interrupt"
    NMIS = "the hardware delivers an NMI"


HOST: tuple[Actor, ...] = (Actor.HOST_WRITES, Actor.HOST_MAPS, Actor.HOST_RUNS, Actor.HOST_RINGS)


@record
class Action:
    """Something that happens; each actor uses the operands that are its."""

    actor: Actor
    vmcb: Vmcb
    vmsa: Vmsa
    page: Page
    vector: U8
    mapped: bool


@record
class Watched:
    """A vCPU, and every vector that the guest ever allowed or raised itself."""

    vcpu: Vcpu
    consented: VectorSet


@record
class Step:
    """What an action leaves behind, and what the guest is interrupted by: a vector or ``NULL``, an NMI."""

    after: Watched
    vector: int
    nmi: bool


@rule
def quietly(watched: Watched, vcpu: Vcpu) -> Step:
    """A step that interrupts nobody."""
    return Step(update(watched, vcpu=vcpu), NULL, False)


@rule
def by_host(hw: Hardware, vcpu: Vcpu, action: Action) -> Vcpu:
    """What the host can do."""
    if action.actor == Actor.HOST_WRITES:
        return update(vcpu, vmcb=action.vmcb)
    if action.actor == Actor.HOST_MAPS:
        return update(vcpu, mapped=action.mapped)
    return vmrun(hw, vcpu).vcpu if action.actor == Actor.HOST_RUNS else doorbell(vcpu)


@rule
def in_memory(page: Page, action: Action) -> Page:
    """What the guest writes to a backing page as memory, its own or another vCPU's."""
    if action.actor == Actor.GUEST_ALLOWS:
        return update(page, allowed_irr=action.page.allowed_irr)
    if action.actor == Actor.GUEST_SENDS:
        return update(page, irr=page.irr | only(action.vector))
    if action.actor == Actor.GUEST_ASKS_NMI:
        return update(page, nmi_request=True)
    written = action.page
    return update(page, isr=written.isr, tmr=written.tmr, software_enabled=written.software_enabled)


@rule
def controlled(vcpu: Vcpu, action: Action) -> Vcpu:
    """The guest's own control bits; the busy bit is not its."""
    return update(vcpu, vmsa=update(action.vmsa, guest_busy=vcpu.vmsa.guest_busy))


@rule
def by_guest(hw: Hardware, vcpu: Vcpu, action: Action) -> Vcpu:
    """What the guest can do."""
    if action.actor == Actor.GUEST_SENDS_SELF:
        return self_ipi(vcpu, action.vector)
    if action.actor == Actor.GUEST_SETS_TPR:
        return write_tpr(vcpu, action.page.tpr)
    if action.actor == Actor.GUEST_ENDS:
        return write_eoi(hw, vcpu).vcpu
    if action.actor == Actor.GUEST_CONTROLS:
        return controlled(vcpu, action)
    return update(vcpu, page=in_memory(vcpu.page, action))


@rule
def consenting(watched: Watched, action: Action) -> Watched:
    """The record, after what the guest agrees to by an action."""
    if action.actor == Actor.GUEST_ALLOWS:
        return update(watched, consented=watched.consented | action.page.allowed_irr)
    if action.actor in (Actor.GUEST_SENDS, Actor.GUEST_SENDS_SELF):
        return update(watched, consented=watched.consented | only(action.vector))
    return watched


@rule
def step(hw: Hardware, watched: Watched, action: Action) -> Step:
    """One action."""
    if action.actor == Actor.INTERRUPTS:
        taken = take_interrupt(watched.vcpu)
        return Step(update(watched, vcpu=taken.vcpu), taken.vector, False)
    if action.actor == Actor.NMIS:
        nmi = take_nmi(hw, watched.vcpu)
        return Step(update(watched, vcpu=nmi.vcpu), NULL, nmi.taken)
    if action.actor in HOST:
        return quietly(watched, by_host(hw, watched.vcpu, action))
    return quietly(consenting(watched, action), by_guest(hw, watched.vcpu, action))


@rule
def includes(vectors: int, others: int) -> bool:
    """Whether a set includes another."""
    return vectors | others == vectors


@rule
def agreed(watched: Watched) -> bool:
    """The invariant: whatever may interrupt the guest, now or after a VMRUN, has its consent."""
    page = watched.vcpu.page
    return includes(watched.consented, page.irr) and includes(watched.consented, page.allowed_irr)


@rule
def started(watched: Watched) -> bool:
    """A vCPU's first state: an empty page. The VMCB is as the host likes."""
    page = watched.vcpu.page
    empty = page.irr == 0 and page.isr == 0 and page.allowed_irr == 0
    nothing_due = not page.nmi_request and not watched.vcpu.v_nmi and not watched.vcpu.v_intr
    return empty and nothing_due and watched.consented == 0


@rule
def dead(hw: Hardware, vcpu: Vcpu) -> bool:
    """The host cannot run the vCPU any more."""
    return vmrun(hw, vcpu).exit == Exit.BUSY
