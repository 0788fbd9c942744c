"""That the hand-written rules and the lifted specification of Secure AVIC's hardware say the same.

Each obligation compares one thing that both say of any vCPU, under any choice of every open point: all 256
vectors, the operand and the vector that is looked at are free.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import z3

from avicheck.checker.obligations import lifting_obligations
from avicheck.checker.solve import Assignment, Query, ask
from avicheck.encodings import secure_avic_rules as rules
from avicheck.encodings.cuts import Script
from avicheck.encodings.expr import Expr, bool_var, eq, int_var, not_, or_
from avicheck.encodings.lift import Lifter, concrete, lifting, symbolic, to_expr
from avicheck.encodings.smtlib import written
from avicheck.encodings.symbolic import leaves_of
from avicheck.encodings.z3vars import Term, bounds, declare, leaves
from avicheck.spec import secure_avic_hardware as hardware
from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import NULL, U8, record
from avicheck.spec.secure_avic import Exit, Hardware, Vcpu

Said: TypeAlias = dict[str, Any]
"""Values by name."""


@record
class Case:
    """A vCPU under one choice for every open point, a vector to look at, and an operand."""

    hw: Hardware
    vcpu: Vcpu
    vector: U8
    operand: U8


# The specification.


def _has(vectors: int, vector: int) -> bool:
    return (vectors >> vector) & 1 == 1


def _entry_by_model(case: Case) -> Said:
    entry = hardware.vmrun(case.hw, case.vcpu)
    after, v = entry.vcpu, case.vector
    return {
        "vmrun.runs": entry.exit == Exit.NONE,
        "vmrun.busy": entry.exit == Exit.BUSY,
        "vmrun.invalid": entry.exit == Exit.INVALID,
        "vmrun.not_restartable": entry.exit == Exit.NOT_RESTARTABLE,
        "vmrun.irr": _has(after.page.irr, v),
        "vmrun.requested_irr": _has(after.vmcb.requested_irr, v),
        "vmrun.update_irr": after.vmcb.update_irr,
        "vmrun.v_nmi_pending": after.vmcb.v_nmi_pending,
        "vmrun.v_intr": after.v_intr,
        "vmrun.v_nmi": after.v_nmi,
        "vmrun.guest_busy": after.vmsa.guest_busy,
    }


def _delivery_by_model(case: Case) -> Said:
    taken, v = hardware.take_interrupt(case.vcpu), case.vector
    after = taken.vcpu
    return {
        "take.vector": taken.vector == v,
        "take.any": taken.vector != NULL,
        "take.irr": _has(after.page.irr, v),
        "take.isr": _has(after.page.isr, v),
        "take.v_intr": after.v_intr,
        "take.guest_busy": after.vmsa.guest_busy,
    }


def _accesses_by_model(case: Case) -> Said:
    v = case.vector
    eoi = hardware.write_eoi(case.hw, case.vcpu)
    sent = hardware.self_ipi(case.vcpu, case.operand)
    tpr = hardware.write_tpr(case.vcpu, case.operand)
    rung = hardware.doorbell(case.vcpu)
    return {
        "ppr": hardware.ppr(case.vcpu.page),
        "eoi.traps": eoi.traps,
        "eoi.isr": _has(eoi.vcpu.page.isr, v),
        "eoi.v_intr": eoi.vcpu.v_intr,
        "eoi.guest_busy": eoi.vcpu.vmsa.guest_busy,
        "self_ipi.irr": _has(sent.page.irr, v),
        "self_ipi.v_intr": sent.v_intr,
        "tpr.tpr": tpr.page.tpr,
        "tpr.v_intr": tpr.v_intr,
        "doorbell.v_intr": rung.v_intr,
        "doorbell.v_nmi": rung.v_nmi,
        "doorbell.guest_busy": rung.vmsa.guest_busy,
    }


def _nmis_by_model(case: Case) -> Said:
    nmi = hardware.take_nmi(case.hw, case.vcpu)
    return {
        "nmi.taken": nmi.taken,
        "nmi.v_nmi_pending": nmi.vcpu.vmcb.v_nmi_pending,
        "nmi.nmi_request": nmi.vcpu.page.nmi_request,
        "nmi.nmi_mask": nmi.vcpu.vmsa.nmi_mask,
        "nmi.guest_busy": nmi.vcpu.vmsa.guest_busy,
        "halt": hardware.halt(case.hw, case.vcpu),
    }


def by_model(case: Case) -> Said:
    """What the specification says of a case, run or lifted."""
    return {
        **_entry_by_model(case),
        **_delivery_by_model(case),
        **_accesses_by_model(case),
        **_nmis_by_model(case),
    }


# The rules.


def _entry_by_rules(case: Case) -> Said:
    hw, vcpu, v = case.hw, case.vcpu, case.vector
    outcome = rules.entry(hw, vcpu)
    return {
        **{f"vmrun.{name}": holds for name, holds in outcome._asdict().items()},
        "vmrun.irr": z3.Or(rules.has(vcpu.page.irr, v), rules.injected(hw, vcpu, v)),
        "vmrun.requested_irr": rules.still_requested(hw, vcpu, v),
        "vmrun.update_irr": rules.update_after_entry(hw, vcpu),
        "vmrun.v_nmi_pending": rules.nmi_pending_after_entry(hw, vcpu),
        "vmrun.v_intr": rules.intr_after_entry(hw, vcpu),
        "vmrun.v_nmi": rules.nmi_noticed_after_entry(hw, vcpu),
        "vmrun.guest_busy": z3.Or(vcpu.vmsa.guest_busy, outcome.not_restartable),
    }


def _delivery_by_rules(case: Case) -> Said:
    vcpu, v = case.vcpu, case.vector
    page, taken = vcpu.page, rules.taken(vcpu, v)
    return {
        "take.vector": taken,
        "take.any": rules.takes_any(vcpu),
        "take.irr": z3.And(rules.has(page.irr, v), z3.Not(taken)),
        "take.isr": z3.Or(rules.has(page.isr, v), taken),
        "take.v_intr": z3.And(vcpu.v_intr, z3.Not(rules.takes_any(vcpu))),
        "take.guest_busy": rules.busy_after_delivery(vcpu),
    }


def _accesses_by_rules(case: Case) -> Said:
    hw, vcpu, v, operand = case.hw, case.vcpu, case.vector, case.operand
    page, works = vcpu.page, rules.works(vcpu)
    irr = page.irr | rules.only(operand)
    return {
        "ppr": rules.processor_priority(page),
        "eoi.traps": rules.eoi_traps(vcpu),
        "eoi.isr": z3.And(rules.has(page.isr, v), z3.Not(rules.retired(hw, vcpu, v))),
        "eoi.v_intr": rules.intr_after_eoi(hw, vcpu),
        "eoi.guest_busy": rules.busy_after_access(vcpu),
        "self_ipi.irr": z3.Or(rules.has(page.irr, v), z3.And(works, v == operand)),
        "self_ipi.v_intr": rules.reevaluated(vcpu, irr=irr),
        "tpr.tpr": z3.If(works, operand, page.tpr),
        "tpr.v_intr": rules.reevaluated(vcpu, tpr=operand),
        "doorbell.v_intr": rules.reevaluated(vcpu),
        "doorbell.v_nmi": z3.If(works, page.nmi_request, vcpu.v_nmi),
        "doorbell.guest_busy": rules.busy_after_access(vcpu),
    }


def _nmis_by_rules(case: Case) -> Said:
    hw, vcpu = case.hw, case.vcpu
    host, own = rules.takes_host_nmi(vcpu), rules.takes_own_nmi(hw, vcpu)
    return {
        "nmi.taken": z3.Or(host, own),
        "nmi.v_nmi_pending": z3.And(vcpu.vmcb.v_nmi_pending, z3.Not(host)),
        "nmi.nmi_request": z3.And(vcpu.page.nmi_request, z3.Not(own)),
        "nmi.nmi_mask": z3.Or(vcpu.vmsa.nmi_mask, host, own),
        "nmi.guest_busy": rules.busy_after_nmi(hw, vcpu),
        "halt": rules.halted(hw, vcpu),
    }


def by_rules(case: Case) -> Said:
    """As ``by_model``, over z3 constants."""
    return {
        **_entry_by_rules(case),
        **_delivery_by_rules(case),
        **_accesses_by_rules(case),
        **_nmis_by_rules(case),
    }


# Both.


@dataclass(frozen=True)
class Voices:
    """The lifted specification and the rules, over variables of the same names."""

    lifter: Lifter
    case: Case
    stated_case: Case
    lifted: dict[str, Expr]
    stated: dict[str, Term]

    @property
    def variables(self) -> list[Expr]:
        """Every variable that occurs."""
        return [
            bool_var(name) if domain is bool else int_var(name, *bounds(domain, {}))
            for domain, term in leaves(self.stated_case, {})
            for name in (term.decl().name(),)
        ]


PREFIX: Final = "case"


def listen() -> Voices:
    """Both sides."""
    case = symbolic(Case, {}, PREFIX)
    with lifting() as lifter:
        lifted = {name: to_expr(value) for name, value in by_model(case).items()}
    stated_case = declare(Case, {}, PREFIX)
    return Voices(lifter, case, stated_case, lifted, by_rules(stated_case))


def obligations() -> Iterator[Query]:
    """Every value is the same on both sides, and no path was left out of the lifted side."""
    voices = listen()
    for name in voices.lifted:
        yield compare(voices, name)
    for operation in CHANGED:
        yield unchanged(voices, operation)
    yield from lifting_obligations(voices.lifter, "equal/secure-avic/lifting")


def of_kernel(kernel: Kernel, vcpus: int) -> list[Query]:
    """The rules of the hardware, which no kernel changes: one vCPU, all 256 vectors, every open point."""
    return list(obligations())


CHANGED: Final[dict[str, frozenset[str]]] = {
    "vmrun": frozenset(
        {
            "page.irr",
            "vmsa.guest_busy",
            "vmcb.requested_irr",
            "vmcb.update_irr",
            "vmcb.v_nmi_pending",
            "v_intr",
            "v_nmi",
        }
    ),
    "take": frozenset({"page.irr", "page.isr", "vmsa.guest_busy", "v_intr"}),
    "eoi": frozenset({"page.isr", "vmsa.guest_busy", "v_intr"}),
    "self_ipi": frozenset({"page.irr", "vmsa.guest_busy", "v_intr"}),
    "tpr": frozenset({"page.tpr", "vmsa.guest_busy", "v_intr"}),
    "doorbell": frozenset({"vmsa.guest_busy", "v_intr", "v_nmi"}),
    "nmi": frozenset({"page.nmi_request", "vmsa.nmi_mask", "vmsa.guest_busy", "vmcb.v_nmi_pending", "v_nmi"}),
}
"""What each of the hardware's operations may change of a vCPU."""


def after(case: Case, operation: str) -> Vcpu:
    """The vCPU after an operation."""
    hw, vcpu, operand = case.hw, case.vcpu, case.operand
    return {
        "vmrun": lambda: hardware.vmrun(hw, vcpu).vcpu,
        "take": lambda: hardware.take_interrupt(vcpu).vcpu,
        "eoi": lambda: hardware.write_eoi(hw, vcpu).vcpu,
        "self_ipi": lambda: hardware.self_ipi(vcpu, operand),
        "tpr": lambda: hardware.write_tpr(vcpu, operand),
        "doorbell": lambda: hardware.doorbell(vcpu),
        "nmi": lambda: hardware.take_nmi(hw, vcpu).vcpu,
    }[operation]()


def unchanged(voices: Voices, operation: str) -> Query:
    """The question whether an operation can change anything else."""
    with voices.lifter.resumed():
        leaves_after = list(leaves_of(after(voices.case, operation)))
    differ = []
    for leaf, now in zip(leaves_of(voices.case.vcpu), leaves_after, strict=True):
        name = str(to_expr(leaf).value).removeprefix(f"{PREFIX}.vcpu.")
        if name not in CHANGED[operation]:
            differ.append(not_(eq(to_expr(leaf), to_expr(now))))
    sentence = f"Nothing but {', '.join(sorted(CHANGED[operation]))} is changed."
    return ask(f"equal/secure-avic/{operation}.rest", sentence, [or_(*differ)])


def compare(voices: Voices, name: str) -> Query:
    """The question whether one value can differ."""
    title = f"equal/secure-avic/{name}"
    sentence = f"Both sides agree on {name}, for all 256 vectors and every open point."
    script = Script(voices.variables)
    script.asserted.append(script.differ(voices.lifted[name], voices.stated[name], False))
    text = written(script.builder, script.asserted, [f"{title}: {sentence}"], "unsat")
    return Query(title, sentence, text, tuple(voices.variables))


def case_of(voices: Voices, values: Assignment) -> Case:
    """A solver's assignment as a case."""
    return concrete(voices.case, values)
