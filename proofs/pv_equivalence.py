"""That both sides agree on paravirtual IPIs: by induction over the 128 bits of a hypercall.

The step for a bit compares what the loop's body adds; the number of acceptances before it is taken to be
what the step before proves. The whole answer is then compared with the entries of the finished list
taken to be what the steps prove. Every step is an obligation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import z3

from avicheck.checker.solve import Query
from avicheck.checker.voices import Voices, hypercall
from avicheck.encodings import apic_route_rules as rules
from avicheck.encodings.cuts import Cuts
from avicheck.encodings.expr import Expr, Op, and_, constant, eq, ite, not_
from avicheck.encodings.lift import to_expr
from avicheck.encodings.rule_terms import wide
from avicheck.encodings.z3vars import BoolTerm, Term
from avicheck.proofs.comparison import compare, compare_values
from avicheck.spec.apic_map import kvm_recalculate_apic_map
from avicheck.spec.apic_route import APIC_DEST_MASK, APIC_SHORT_MASK, kvm_pv_send_ipi, pv_send_to
from avicheck.spec.lang import rule

WORD: Final = 64
"""The bits of one of the two words."""


@dataclass(frozen=True)
class Way:
    """A word of the hypercall and where its bits begin: under a condition, the same for both sides."""

    when: Expr
    stated_when: BoolTerm
    before: Sequence[Expr]
    """The number of acceptances before each bit, and after it:"""
    after: Sequence[Expr]


@rule
def _is_sent(present: bool, icr: int) -> bool:
    return present and icr & (APIC_DEST_MASK | APIC_SHORT_MASK) == 0


class Loop:
    """The loop of ``kvm_pv_send_ipi``: its ways, and what its list of calls says of each bit.

    ValueError unless its body was lifted once for each bit of each way."""

    def __init__(self, voices: Voices) -> None:
        case = voices.case
        self.call = hypercall(voices.stated_case)
        calls = list(voices.lifter.calls(pv_send_to))
        with voices.lifter.resumed():
            published = kvm_recalculate_apic_map(case.kvm, case.alloc_fails)
            self.entries = kvm_pv_send_ipi(case.kvm, published, case.ipi).calls.entries
            sent, op64 = to_expr(_is_sent(published.present, case.ipi.icr)), to_expr(case.ipi.op64)
        stated_sent, stated_op64 = rules.pv_is_sent(*self.call), self.call[-1].op64
        conditions = [
            (sent, stated_sent),
            (and_(sent, op64), z3.And(stated_sent, stated_op64)),
            (and_(sent, not_(op64)), z3.And(stated_sent, z3.Not(stated_op64))),
        ]
        if [args[-1] for args, _ in calls] != [*range(WORD)] * len(conditions):
            raise ValueError("Loop must run once for each bit of each word and each start of the second")
        before = [to_expr(args[-2].r) for args, _ in calls]
        after = [to_expr(sent.r) for _, sent in calls]
        self.low, *self.high = [
            Way(*condition, before[i * WORD : (i + 1) * WORD], after[i * WORD : (i + 1) * WORD])
            for i, condition in enumerate(conditions)
        ]

    def ways(self, bit: int) -> list[tuple[Way, int]]:
        """The ways that a bit belongs to, and its place in their word."""
        return [(way, bit % WORD) for way in (self.high if bit >= WORD else [self.low])]

    def entry(self, bit: int, vcpu: int) -> tuple[Expr, Expr]:
        """Whether the list's entry for a bit is a call of a vCPU; and whether that accepts."""
        guard, call = self.entries[bit]
        called = [to_expr(guard), eq(to_expr(call.vcpu), constant(vcpu))]
        return and_(*called), and_(to_expr(guard), to_expr(call.accepted), called[1])

    def stated(self, bit: int, vcpu: int) -> tuple[BoolTerm, BoolTerm]:
        """The same as the rules have it."""
        kvm, _, ipi = self.call
        called = rules.pv_called_by(*self.call, vcpu, bit)
        return called, z3.And(called, rules.pv_takes(kvm, ipi, vcpu))


def pv_obligations(voices: Voices, given: Sequence[Expr]) -> Iterator[Query]:
    """What a paravirtual IPI returns, whom it is handed to, and who accepts it, where all of ``given``
    holds."""
    loop = Loop(voices)
    for bit in range(rules.PV_BITS):
        yield _step(voices, given, loop, bit)
    yield compare(voices, "r", "Both sides agree on r (given the steps).", ["r"], given, _last(loop))
    for i in range(voices.vcpus):
        names, sentence = (f"called[{i}]", f"accepted[{i}]"), "Both sides agree on {} (given the steps)."
        cuts = _entries(loop, i)
        yield compare(voices, f"vcpu{i}", sentence.format(", ".join(names)), names, given, cuts)


def _step(voices: Voices, given: Sequence[Expr], loop: Loop, bit: int) -> Query:
    """What one bit adds."""
    cuts, values = Cuts(), list[tuple[Expr, Term, bool]]()
    for i in range(voices.vcpus):
        ours, theirs = loop.entry(bit, i), loop.stated(bit, i)
        values += [(ours[0], theirs[0], False), (ours[1], theirs[1], False)]
    for number, (way, place) in enumerate(loop.ways(bit)):
        _cut_count(cuts, f"before.{number}", loop, way, way.before[place], bit)
        counted = z3.If(way.stated_when, rules.pv_count(*loop.call, bit + 1), 0)
        values.append((ite(way.when, way.after[place], constant(0)), counted, False))
    sentence = f"Both sides agree on what bit {bit} adds (given the lemma and the bits before it)."
    return compare_values(voices, f"bit{bit}", sentence, values, given, cuts)


def _cut_count(cuts: Cuts, name: str, loop: Loop, way: Way, count: Expr, bits: int) -> None:
    """A variable for the number of acceptances that the first bits bring."""
    if count.op is not Op.CONST:
        stated = rules.pv_count(*loop.call, bits)
        cuts.know(z3.Implies(way.stated_when, wide(cuts.cut(name, count)) == stated))


def _last(loop: Loop) -> Cuts:
    cuts = Cuts()
    for number, way in enumerate(loop.high):
        _cut_count(cuts, f"after.{number}", loop, way, way.after[-1], rules.PV_BITS)
    return cuts


def _entries(loop: Loop, vcpu: int) -> Cuts:
    """Variables for what the list says of a vCPU, bit by bit."""
    cuts = Cuts()
    for bit in range(rules.PV_BITS):
        for name, ours, theirs in zip(
            ("called", "accepted"), loop.entry(bit, vcpu), loop.stated(bit, vcpu), strict=True
        ):
            cuts.know(cuts.cut(f"{name}.{bit}", ours) == theirs)
    return cuts
