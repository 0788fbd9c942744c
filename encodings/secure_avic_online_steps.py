"""VMRUN, a delivery and an EOI of the model secure-avic-online, by hand over z3 terms: a voice in crosscheck.

Each is told of an arbitrary vector; all other variables keep their values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import z3

from avicheck.encodings.secure_avic_steps import above, frame, has, position
from avicheck.encodings.z3vars import BoolTerm, Term
from avicheck.spec.machine import Machine
from avicheck.spec.secure_avic import EntryDisabled
from avicheck.spec.secure_avic_online_state import DEVICE, IPI, VCPU, VECTORS, Life

Terms: TypeAlias = Mapping[str, Term]
BITS: Final = range(len(VECTORS))


def hardware(machine: Machine[Any], before: Terms, after: Terms) -> dict[str, Term]:
    """Each step that is told here, as a relation of the values before and after it."""
    return {
        "vcpu.deliver": deliver(before, after),
        "vcpu.end": end(before, after),
        "vcpu.vmrun": vmrun(machine, before, after),
    }


def at(terms: Terms, label: str) -> BoolTerm:
    """The vCPU is at a label."""
    return terms["vcpu.pc"] == position(VCPU.label(label))


def lives(terms: Terms, life: Life) -> BoolTerm:
    """The guest goes on there."""
    return z3.And(terms["vcpu.life"] == position(life), at(terms, life.name.lower()))


def deliver(before: Terms, after: Terms) -> BoolTerm:
    """The highest vector of IRR, if it is above all of ISR, goes into service."""
    cases = [
        z3.And(
            has(before["irr"], bit),
            above(before["irr"] & ~vector, bit),
            above(before["isr"], bit),
            after["irr"] == before["irr"] & ~vector,
            after["isr"] == before["isr"] | vector,
            after["stale"] == z3.Or(before["stale"], has(before["former"], bit)),
            after["owed"] == z3.And(before["owed"], vector != DEVICE),
            after["ipi_sent"] == z3.And(before["ipi_sent"], vector != IPI),
        )
        for bit, vector in enumerate(VECTORS)
    ]
    changed = ("irr", "isr", "stale", "owed", "ipi_sent", "vcpu.pc", "vcpu.life")
    return z3.And(
        at(before, "runs"), lives(after, Life.HANDLES), z3.Or(cases), frame(before, after, *changed)
    )


def end(before: Terms, after: Terms) -> BoolTerm:
    """EOI: what was highest in service is not in service any more."""
    left = [z3.And(has(before["isr"], bit), z3.Not(above(before["isr"], bit + 1))) for bit in BITS]
    kept = [has(after["isr"], bit) == left[bit] for bit in BITS]
    return z3.And(
        at(before, "handles"),
        lives(after, Life.RUNS),
        *kept,
        frame(before, after, "isr", "vcpu.pc", "vcpu.life"),
    )


def vmrun(machine: Machine[Any], before: Terms, after: Terms) -> BoolTerm:
    """What is requested and allowed enters IRR. While Secure AVIC is disabled, the request is lost, waits, or
    makes VMRUN fail."""
    asks, enabled = before["update_irr"], before["enabled"]
    fails = z3.And(asks, z3.Not(enabled), EntryDisabled.ENTRY_FAILS in machine.options)
    waits = z3.And(asks, z3.Not(enabled), EntryDisabled.REQUEST_WAITS in machine.options)
    failed = z3.And(fails, after["failed"], at(after, "gone"), frame(before, after, "failed", "vcpu.pc"))
    resumed = [z3.And(before["vcpu.life"] == position(each), at(after, each.name.lower())) for each in Life]
    entered = z3.And(
        z3.Not(fails),
        *(merged(before, after, bit, asks, enabled) for bit in BITS),
        *(has(after["requested_irr"], bit) == kept(before, bit, asks, waits) for bit in BITS),
        after["update_irr"] == waits,
        after["in_guest"],
        z3.Or(resumed),
        frame(before, after, "irr", "requested_irr", "update_irr", "in_guest", "vcpu.pc"),
    )
    return z3.And(at(before, "vmrun"), z3.Or(failed, entered))


def merged(before: Terms, after: Terms, bit: int, asks: Term, enabled: Term) -> BoolTerm:
    """Whether a vector is in IRR afterwards."""
    enters = z3.And(asks, enabled, has(before["requested_irr"], bit), has(before["allowed_irr"], bit))
    return has(after["irr"], bit) == z3.Or(has(before["irr"], bit), enters)


def kept(before: Terms, bit: int, asks: Term, waits: BoolTerm) -> BoolTerm:
    """Whether a vector stays in RequestedIRR."""
    return z3.And(has(before["requested_irr"], bit), z3.Or(z3.Not(asks), waits))
