"""The hardware's steps of the model secure-avic, written by hand over z3 terms: a voice in crosscheck.

What VMRUN, a delivery, the doorbell and a kick do to the five vectors, each told of an arbitrary vector; all
other variables keep their values. Left out: VMRUN in two steps, and past a store buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final, TypeAlias

import z3

from avicheck.encodings.z3vars import BoolTerm, Term
from avicheck.spec.machine import Machine
from avicheck.spec.secure_avic import NotAllowed, RequestedAfterEntry
from avicheck.spec.secure_avic_host import resumed
from avicheck.spec.secure_avic_run import (
    ALLOWED,
    LEVEL_B,
    LEVELS,
    TARGET,
    VECTORS,
    Fault,
    IrrUpdate,
    Point,
    Traffic,
    Where,
)

Terms: TypeAlias = Mapping[str, Term]
BITS: Final = range(len(VECTORS))


def hardware(machine: Machine[Any], before: Terms, after: Terms) -> dict[str, Term]:
    """Each step that is told here, as a relation of the values before and after it."""
    relations = {
        "target.deliver": deliver(before, after),
        "wires.doorbell_arrives": doorbell(before, after),
        "wires.kick_lapses": kick_lapses(before, after),
    }
    if machine.memory == "sc" and IrrUpdate.UPDATE_SPLIT not in machine.options:
        relations["target.vmrun"] = vmrun(machine, before, after)
    return relations


def has(vectors: Term, bit: int) -> BoolTerm:
    """Whether a vector is in a set."""
    return z3.Extract(bit, bit, vectors) == 1


def above(vectors: Term, bit: int) -> BoolTerm:
    """Whether a vector is above all of a set."""
    return z3.LShR(vectors, bit) == 0


def due(irr: Term, isr: Term) -> BoolTerm:
    """Some vector is requested and above all in service."""
    return z3.Or([z3.And(has(irr, bit), above(isr, bit)) for bit in BITS])


def at(terms: Terms, label: str) -> BoolTerm:
    """The target's thread is at a label."""
    return terms["target.pc"] == position(TARGET.label(label))


def position(member: Enum) -> int:
    """The value that stands for a member of an enumeration."""
    return list(type(member)).index(member)


def frame(before: Terms, after: Terms, *changed: str) -> BoolTerm:
    """All variables but some keep their values."""
    return z3.And([after[name] == term for name, term in before.items() if name not in changed])


def deliver(before: Terms, after: Terms) -> BoolTerm:
    """The highest vector of IRR, if it is above all of ISR, goes into service."""
    changed = ("irr", "isr", "raised", "v_intr", "target.pc", "target.point")
    cases = []
    for bit, vector in enumerate(VECTORS):
        point = Point.HANDLES if vector & LEVELS else Point.ENDS
        highest = z3.And(has(before["irr"], bit), above(before["irr"] & ~vector, bit))
        cases.append(
            z3.And(
                highest,
                above(before["isr"], bit),
                after["irr"] == before["irr"] ^ vector,
                after["isr"] == before["isr"] | vector,
                after["raised"] == before["raised"] & ~vector,
                after["target.point"] == position(point),
                at(after, resumed(point)),
            )
        )
    enabled = z3.And(at(before, "runs"), before["v_intr"], z3.Not(after["v_intr"]))
    return z3.And(enabled, z3.Or(cases), frame(before, after, *changed))


def doorbell(before: Terms, after: Terms) -> BoolTerm:
    """In guest mode the page is evaluated."""
    in_guest = before["where"] == position(Where.GUEST)
    evaluated = after["v_intr"] == z3.If(in_guest, due(before["irr"], before["isr"]), before["v_intr"])
    rung = z3.And(before["doorbell"], z3.Not(after["doorbell"]))
    return z3.And(rung, evaluated, frame(before, after, "doorbell", "v_intr"))


def kick_lapses(before: Terms, after: Terms) -> BoolTerm:
    """A kick finds the host with interrupts on."""
    lapses = z3.And(before["kick"], before["where"] == position(Where.HOST), z3.Not(after["kick"]))
    return z3.And(lapses, frame(before, after, "kick"))


def vmrun(machine: Machine[Any], before: Terms, after: Terms) -> BoolTerm:
    """The request is merged, vector by vector; then the page is evaluated."""
    changed = ("irr", "requested_irr", "update_irr", "v_intr", "where", "promised", "raised", "unasked")
    thread = ("target.pc", "target.seen", "target.injected")
    enters = [entering(machine, before, bit) for bit in BITS]
    unasked = z3.Or([z3.And(enters[bit], z3.Not(has(before["promised"], bit))) for bit in BITS])
    points = [z3.And(before["target.point"] == position(each), at(after, resumed(each))) for each in Point]
    return z3.And(
        at(before, "vmrun"),
        *(merged(machine, before, after, bit, enters[bit]) for bit in BITS),
        z3.Not(after["update_irr"]),
        after["v_intr"] == due(after["irr"], before["isr"]),
        after["where"] == position(Where.GUEST),
        after["unasked"] == z3.Or(before["unasked"], unasked),
        after["target.seen"] == 0,
        z3.Not(after["target.injected"]),
        z3.Or(points),
        frame(before, after, *changed, *thread),
    )


def allowed(machine: Machine[Any], bit: int) -> bool:
    """Whether the guest allows a vector."""
    withdrawn = Traffic.WITHDRAWN in machine.options and VECTORS[bit] == LEVEL_B
    return Fault.NO_FILTER in machine.options or (VECTORS[bit] & ALLOWED != 0 and not withdrawn)


def entering(machine: Machine[Any], before: Terms, bit: int) -> BoolTerm:
    """A vector enters IRR."""
    asked = z3.And(before["update_irr"], has(before["requested_irr"], bit))
    return z3.And(asked, allowed(machine, bit))


def merged(machine: Machine[Any], before: Terms, after: Terms, bit: int, enters: BoolTerm) -> BoolTerm:
    """What becomes of a vector."""
    requested, options = has(before["requested_irr"], bit), machine.options
    stays = RequestedAfterEntry.REQUESTED_STAYS in options
    left = stays or (NotAllowed.LEFT_REQUESTED in options and not allowed(machine, bit))
    used = z3.And(before["update_irr"], requested)
    return z3.And(
        has(after["irr"], bit) == z3.Or(has(before["irr"], bit), enters),
        has(after["raised"], bit) == z3.Or(has(before["raised"], bit), enters),
        has(after["promised"], bit) == z3.And(has(before["promised"], bit), z3.Not(used)),
        has(after["requested_irr"], bit) == z3.And(requested, z3.Or(z3.Not(before["update_irr"]), left)),
    )
