"""The claims about AMD's Secure AVIC in KVM (RFC v2), one by one, and how each is decided.

SAV-C names are those of the series' own claims, P- names those of the properties, F- names our findings. A
claim that a change closes stands next to the same claim with the change. ``expected`` is what was found; a
test decides every claim anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from avicheck.checker.engine import EngineResult
from avicheck.checker.engines import Limits, check
from avicheck.checker.solve import Query
from avicheck.checker.verdict import Verdict
from avicheck.encodings.machine import machine
from avicheck.proofs.secure_avic_calls import CALLS
from avicheck.proofs.secure_avic_driver import DRIVER
from avicheck.proofs.secure_avic_inject import INJECTION, SAMPLING
from avicheck.proofs.secure_avic_integrity import INTEGRITY
from avicheck.proofs.secure_avic_ipis import IPIS as IPI_THEOREMS
from avicheck.proofs.secure_avic_rules import obligations as rule_obligations
from avicheck.spec.machine import STORE_BUFFER, MemoryModel
from avicheck.spec.secure_avic import (
    EntryDisabled,
    ExitIntInfo,
    NmiNotAllowed,
    NmiRequestNeeds,
    NotAllowed,
    RequestedAfterEntry,
)
from avicheck.spec.secure_avic_asked import ARRIVAL, SECURE_AVIC
from avicheck.spec.secure_avic_irqchip import (
    IRQCHIP_MODEL,
    Affinity,
    IoapicVersion,
    Irqchip,
    IrqchipChange,
    IrqchipFault,
    IrqchipFix,
    Source,
)
from avicheck.spec.secure_avic_legacy import (
    LEGACY_MODEL,
    Legacy,
    LegacyChange,
    LegacyFault,
    LegacyFix,
    PitMode,
    Without,
)
from avicheck.spec.secure_avic_move import MOVE_MODEL, MoveChange
from avicheck.spec.secure_avic_nmi import NMI_MODEL, AllowedNmi, Complete, NmiChange
from avicheck.spec.secure_avic_online import ONLINE_MODEL
from avicheck.spec.secure_avic_online_state import Leaves, Masking, OnItsWay, OnlineChange, OnlineFault
from avicheck.spec.secure_avic_page import PAGE_MODEL, PageChange, PageFault, Rmp, Zaps
from avicheck.spec.secure_avic_run import (
    SENDER,
    Change,
    CleanBits,
    EntryFence,
    Fault,
    Gate,
    HaltTest,
    Intercept,
    IrrUpdate,
    Series,
    SpivNotice,
    Tmr,
    Traffic,
)
from avicheck.spec.secure_avic_timer import (
    TIMER_MODEL,
    TimerFault,
    TimerFix,
    TimerMode,
    TimerVector,
)
from avicheck.spec.threads import Model


@dataclass(frozen=True)
class Claim:
    """A property of a concurrent model, with the options that it is built with and what is expected."""

    name: str
    asked: str
    options: frozenset[Enum]
    expected: Verdict
    memory: MemoryModel = "sc"
    senders: int = 1
    model: Model[Any] = SECURE_AVIC

    @property
    def assuming(self) -> str:
        """The options, other than the defaults, by name."""
        return (
            ", ".join(sorted(option.name.lower().replace("_", "-") for option in self.options)) or "defaults"
        )

    def decide(self, limits: Limits | None = None) -> EngineResult:
        """Every reachable state of the claim's scope is gone through, unless a run decides before."""
        system = machine(self.model, self._scope, self.memory, self.options)
        return check(system, self.asked, "explicit", limits or Limits())

    @property
    def has_senders(self) -> bool:
        """Whether the model is that of the run loop."""
        return SENDER in self.model.threads

    @property
    def _scope(self) -> dict[str, int]:
        senders = {"senders": self.senders} if self.has_senders else {}
        return {**senders, STORE_BUFFER: 2} if self.memory == "tso" else senders


def holds(name: str, asked: str, options: Iterable[Enum], **given: Any) -> Claim:
    """A claim that holds in its scope."""
    return Claim(name, asked, frozenset(options), Verdict.HOLDS, **given)


def fails(name: str, asked: str, options: Iterable[Enum], **given: Any) -> Claim:
    """A claim that is violated."""
    return Claim(name, asked, frozenset(options), Verdict.VIOLATED, **given)


IPIS: Final = {Traffic.IPIS}
DEVICES: Final = {Traffic.EDGES, Traffic.REFUSED}
LEVELS: Final = {Traffic.LEVEL_ONE, Traffic.LEVEL_TWO}
NOTICES: Final = {*LEVELS, Tmr.TMR_IS_RIGHT}
WITHDRAWN: Final = {*NOTICES, Traffic.WITHDRAWN}
REPORTED: Final = {ExitIntInfo.REPORTED}
HOSTILE: Final = {Traffic.HOSTILE, Traffic.EDGES}
LARGE: Final = {Rmp.LARGE_ENTRY}
ZAPPED: Final = {Zaps.ZAPPED}
AT_ENTRY: Final = PageChange.MAPPED_AT_ENTRY
KEPT: Final = PageChange.KEPT_MAPPED
UNMASKED: Final = {Masking.NOT_MASKABLE}
AFTER: Final = OnlineChange.FREED_AFTER_LOOK
CLEARED: Final = {OnlineChange.PAGE_CLEARED}
RECREATED: Final = {Leaves.RECREATED}
FAILS: Final = {EntryDisabled.ENTRY_FAILS}
RESET: Final = OnlineChange.RESET_CLEARS
CHECKS: Final = {TimerFix.CHECKS_REQUEST}
UNSENT: Final = {*CHECKS, SpivNotice.SPIV_NOT_SENT}
SPLIT: Final = {IrqchipFix.RESAMPLES_AT_UNMASK}
IN_KVM: Final = {*SPLIT, Irqchip.IN_KERNEL}
BY_NOTICE: Final = {Tmr.TMR_IS_RIGHT}
ROUTED: Final = {*SPLIT, *BY_NOTICE, Source.RESAMPLED}
OLD: Final = {*SPLIT, Source.RESAMPLED, IoapicVersion.VERSION_11}
PIC: Final = {Legacy.PIC_USED}
PIT: Final = {Legacy.PIT_USED}
RTC: Final = {Legacy.RTC_USED}
UNTRACKED: Final = {*RTC, LegacyFix.RTC_UNTRACKED}
MARKED: Final = Change.MARKED_DIRTY
ONCE: Final = Traffic.ONCE
TSO: Final[MemoryModel] = "tso"

IPI_CLAIMS: Final = (
    holds("SAV-C01", "sleeps-on", IPIS, senders=2),
    holds("SAV-C01", "sleeps-on", IPIS, senders=2, memory=TSO),
    fails("SAV-C01 without the flag", "sleeps-on", {*IPIS, Fault.NO_STICKY}),
    holds("SAV-C02", "runs-on", IPIS, senders=2, memory=TSO),
    fails("SAV-C02 without the doorbell", "runs-on", {*IPIS, Fault.NO_DOORBELL}),
    fails("SAV-C02 if VMRUN overtakes stores", "sleeps-on", {*IPIS, EntryFence.ENTRY_OVERTAKES}, memory=TSO),
    fails("SAV-C03 with plain HLT", "sleeps-on", {*IPIS, Intercept.PLAIN_HLT}),
    fails("SAV-C04 by the letter", "litmus", IPIS),
    holds("SAV-C04 by its purpose", "litmus-unserved", IPIS, memory=TSO),
    fails("SAV-C04 without the sender's barrier", "sleeps-on", {*IPIS, Fault.NO_ICR_BARRIER}, memory=TSO),
    holds("SAV-C04 without smp_mb", "sleeps-on", {*IPIS, Fault.NO_PENDING_BARRIER}, memory=TSO),
    holds("SAV-C05 without the state's", "sleeps-on", {*IPIS, Fault.NO_STATE_BARRIER}, memory=TSO),
    fails(
        "SAV-C05 without either",
        "sleeps-on",
        {*IPIS, Fault.NO_PENDING_BARRIER, Fault.NO_STATE_BARRIER},
        memory=TSO,
    ),
    fails("SAV-C06 with an exit in between", "sleeps-on", {*IPIS, HaltTest.TEST_IS_NOT_ATOMIC}),
    holds("SAV-C07", "wakes-twice", IPIS, senders=2),
    fails("SAV-C07 without clearing", "wakes-twice", {*IPIS, Fault.STICKY_STAYS}),
    holds("P-S9", "lost-in-page", IPIS, senders=2, memory=TSO),
    fails("P-S9 if IRR is updated in two steps", "lost-in-page", {*IPIS, IrrUpdate.UPDATE_SPLIT}),
    fails("P-S9 if the notice comes first", "sleeps-on", {*IPIS, Fault.NOTICE_FIRST}),
    holds("P-L1", "ipi-arrives", {*IPIS, ONCE}, senders=2, memory=TSO, model=ARRIVAL),
    fails("P-L1 in an unending storm", "ipi-arrives", IPIS, model=ARRIVAL),
)
"""IPIs: the sticky flag, the doorbell, the barriers."""

DEVICE_CLAIMS: Final = (
    holds("SAV-C08, C09, C10", "lost-in-kvm", DEVICES),
    holds("SAV-C10", "forgotten-event", DEVICES),
    fails("SAV-C09 with the word cleared", "lost-in-kvm", {*DEVICES, Fault.CLEAR_ALL}),
    holds("SAV-C14, P-S1", "refused-vector-enters", DEVICES),
    fails("SAV-C14 without the filter", "refused-vector-enters", {*DEVICES, Fault.NO_FILTER}),
    holds("nothing is made up", "injected-unasked", {*DEVICES, NotAllowed.LEFT_REQUESTED}),
    fails("if RequestedIRR stays", "injected-unasked", {*DEVICES, RequestedAfterEntry.REQUESTED_STAYS}),
    fails("SAV-C10 if VMRUN keeps requests", "lost-in-kvm", {*DEVICES, CleanBits.REQUEST_CACHED}),
    holds("SAV-C10 with marked-dirty", "lost-in-kvm", {*DEVICES, CleanBits.REQUEST_CACHED, MARKED}),
    holds("SAV-C13", "lost-in-kvm", {*DEVICES, *REPORTED}),
    holds("SAV-C13", "edge-arrives", {*DEVICES, ONCE, *REPORTED}, model=ARRIVAL),
    holds("P-L2", "edge-arrives", {*DEVICES, ONCE}, model=ARRIVAL),
    fails("P-L2 without UpdateIRR", "edge-arrives", {*DEVICES, ONCE, Fault.NO_UPDATE}, model=ARRIVAL),
    fails("F-SPIV", "device-unheard", {*DEVICES, SpivNotice.SPIV_NOT_SENT}),
    holds("F-SPIV in v1", "device-unheard", {*DEVICES, SpivNotice.SPIV_NOT_SENT, Series.SPIV_FORCED}),
    fails("F-PIC: it warns", "injects-nothing", {Traffic.EXTINT}),
    fails("F-PIC: it never sleeps", "sleeps", {Traffic.EXTINT}),
    holds("F-PIC in v1", "injects-nothing", {Traffic.EXTINT, Series.PIC_GUARD}),
)
"""Interrupts of devices."""

LEVEL_CLAIMS: Final = (
    holds("P-L3 by the driver of 6.19", "line-is-dead", LEVELS),
    holds("P-L3 by the driver of 6.19", "line-a-served", {*LEVELS, ONCE}, model=ARRIVAL),
    fails("F-EOI: SAV-C11, P-S5", "ends-another", NOTICES),
    fails("F-EOI: P-L3", "line-is-dead", NOTICES),
    holds("F-EOI with exact-eoi", "ends-another", {*NOTICES, Change.EXACT_EOI}),
    holds("F-EOI with exact-eoi, nesting", "line-is-dead", {*NOTICES, Change.EXACT_EOI, Gate.HANDLERS_NEST}),
    holds("F-EOI with one-level", "ends-another", {*NOTICES, Change.ONE_LEVEL}),
    holds("F-EOI with one-level, nesting", "line-is-dead", {*NOTICES, Change.ONE_LEVEL, Gate.HANDLERS_NEST}),
    fails("F-EOI with B withdrawn", "ends-another", WITHDRAWN),
    fails("F-EOI with B withdrawn", "line-is-dead", WITHDRAWN),
    holds(
        "F-EOI with exact-eoi, B withdrawn", "line-is-dead", {*NOTICES, Traffic.WITHDRAWN, Change.EXACT_EOI}
    ),
    holds("P-S6 for this guest", "ends-nothing", NOTICES),
)
"""Level-triggered interrupts."""

OTHER_CLAIMS: Final = (
    fails("F-DESTROYED", "enters-without-vmsa", {*IPIS, Traffic.DESTROY}),
    holds("F-DESTROYED with needs-vmsa", "enters-without-vmsa", {*IPIS, Traffic.DESTROY, Change.NEEDS_VMSA}),
    holds("SAV-C16, P-S11", "extra-nmi", (), model=NMI_MODEL),
    fails("F-NMI-TWICE", "extra-nmi", REPORTED, model=NMI_MODEL),
    holds("F-NMI-TWICE with not-again", "extra-nmi", {*REPORTED, NmiChange.NOT_AGAIN}, model=NMI_MODEL),
    holds("P-S2", "uninvited-nmi", {AllowedNmi.NOT_ALLOWED}, model=NMI_MODEL),
    holds("P-L4", "own-nmi-served", (), model=NMI_MODEL),
    holds("P-L4 without AllowedNMI", "own-nmi-served", {AllowedNmi.NOT_ALLOWED}, model=NMI_MODEL),
    fails(
        "P-L4 if NmiRequest needs it",
        "own-nmi-served",
        {AllowedNmi.NOT_ALLOWED, NmiRequestNeeds.ALLOWED_NMI},
        model=NMI_MODEL,
    ),
    holds("P-L5", "host-nmi-served", (), model=NMI_MODEL),
    fails("P-L5 without NMI_COMPLETE", "host-nmi-served", {Complete.NOT_SENT}, model=NMI_MODEL),
    fails("P-L5 while refused", "host-nmi-served", {AllowedNmi.NOT_ALLOWED}, model=NMI_MODEL),
    fails(
        "P-L5 while refused, kept",
        "host-nmi-served",
        {AllowedNmi.NOT_ALLOWED, NmiNotAllowed.NMI_LEFT_PENDING},
        model=NMI_MODEL,
    ),
    fails("F-MOVE", "move-drops", (), model=MOVE_MODEL),
    holds("F-MOVE with exit-first", "move-drops", {MoveChange.EXIT_FIRST}, model=MOVE_MODEL),
)
"""Destroyed vCPUs, NMIs, moved vectors."""

GUEST_CLAIMS: Final = (
    holds("malicious guest: the host goes on", "host-goes-on", {*HOSTILE, *IPIS}, model=ARRIVAL),
    holds("malicious guest: the host goes on", "host-goes-on", HOSTILE, model=ARRIVAL, memory=TSO),
    fails("malicious guest, IRR read again", "host-goes-on", {*HOSTILE, Fault.READS_AGAIN}, model=ARRIVAL),
    holds("malicious guest: P-S4", "lost-in-kvm", {*HOSTILE, *IPIS}),
    holds("malicious guest: P-S4", "forgotten-event", {*HOSTILE, *IPIS}),
    fails("F-EOI-NONE", "ends-nothing", HOSTILE),
)
"""A guest that makes any exit at any time."""

PAGE_CLAIMS: Final = (
    holds("SAV-C15 with 4 KiB pages, no zaps", "page-is-mapped", (), model=PAGE_MODEL),
    fails("F-ZAP: SAV-C15", "page-is-mapped", LARGE, model=PAGE_MODEL),
    holds("F-ZAP with mapped-at-entry", "page-is-mapped", {*LARGE, AT_ENTRY}, model=PAGE_MODEL),
    fails("SAV-C15 while KVM zaps", "page-is-mapped", ZAPPED, model=PAGE_MODEL),
    fails("SAV-C15 with mapped-at-entry", "page-is-mapped", {*ZAPPED, AT_ENTRY}, model=PAGE_MODEL),
    holds("SAV-C15 with kept-mapped", "page-is-mapped", {*LARGE, *ZAPPED, KEPT}, model=PAGE_MODEL),
    holds("P-S8", "page-is-known", {*LARGE, *ZAPPED}, model=PAGE_MODEL),
    fails("P-S8 if enabled first", "page-is-known", {PageFault.ENABLES_FIRST}, model=PAGE_MODEL),
    fails("P-S8 if unregistered first", "page-is-known", {PageFault.UNREGISTERS_FIRST}, model=PAGE_MODEL),
)
"""The backing page, from set-up to kexec."""


def asked_of(model: Model[Any], *claims: Claim) -> tuple[Claim, ...]:
    """The same claims, of another model."""
    return tuple(replace(claim, model=model) for claim in claims)


ONLINE_CLAIMS: Final = asked_of(
    ONLINE_MODEL,
    holds("going offline, masked", "offline-loses", ()),
    fails("going offline without the look", "offline-loses", {OnlineFault.NO_LOOK}),
    fails("F-OFFLINE", "offline-loses", UNMASKED),
    fails("F-OFFLINE with freed-after-look", "offline-loses", {*UNMASKED, AFTER}),
    holds("F-OFFLINE with both", "offline-loses", {*UNMASKED, AFTER, OnlineChange.ALLOWED_HERE}),
    fails("F-OFFLINE, nothing awaited", "offline-loses", {OnItsWay.WITHIN_DELAY}),
    holds("F-OFFLINE, nothing awaited, freed-after-look", "offline-loses", {OnItsWay.WITHIN_DELAY, AFTER}),
    fails("F-OFFLINE, nothing awaited, any delay", "offline-loses", {OnItsWay.BEYOND_DELAY, AFTER}),
    fails("F-STALE", "stale-vector", ()),
    holds("F-STALE with page-cleared", "stale-vector", CLEARED),
    holds("F-STALE with page-cleared: no IPI is lost", "ipi-lost", CLEARED),
    fails("no IPI is lost, online first", "ipi-lost", {*CLEARED, OnlineFault.ONLINE_FIRST}),
    holds("nothing stays in service", "stale-service", RECREATED),
    fails("nothing stays in service, without EOI", "stale-service", {*RECREATED, OnlineFault.NO_EOI}),
    holds("what was freed stays refused", "still-allowed", ()),
    fails("what was freed stays refused, not freed", "still-allowed", {OnlineFault.NEVER_FREED}),
    fails("F-RESET", "stale-vector", {*CLEARED, EntryDisabled.REQUEST_WAITS}),
    holds("F-RESET with reset-clears", "stale-vector", {*CLEARED, EntryDisabled.REQUEST_WAITS, RESET}),
    fails("F-RESET", "entry-fails", FAILS),
    holds("F-RESET with reset-clears", "entry-fails", {*FAILS, RESET}),
    fails("F-RESET with reset-clears, recreated", "entry-fails", {*FAILS, *RECREATED, RESET}),
    holds("P-L6 in the next life", "tick-served", ()),
    fails("P-L6 in the next life, not allowed", "tick-served", {*CLEARED, OnlineFault.TIMER_STAYS_OFF}),
    holds("a CPU comes back", "comes-back", ()),
    fails("a CPU comes back, if VMRUN fails", "comes-back", FAILS),
)
"""A CPU that goes offline and comes back."""

TIMER_CLAIMS: Final = asked_of(
    TIMER_MODEL,
    holds("P-L6", "tick-served", CHECKS),
    holds("P-L6", "timer-goes-on", CHECKS),
    fails("P-L6 without KVM_REQ_UNBLOCK", "tick-served", {*CHECKS, TimerFault.NO_UNBLOCK}),
    fails("P-L6 if the vector is refused", "timer-goes-on", {*CHECKS, TimerVector.REFUSED}),
    fails(
        "P-L6 if it is allowed late", "timer-goes-on", {*CHECKS, TimerVector.ALLOWED_LATE, TimerMode.ONESHOT}
    ),
    holds(
        "P-L6 if it is allowed late, periodic",
        "timer-goes-on",
        {*CHECKS, TimerVector.ALLOWED_LATE, TimerMode.PERIODIC},
    ),
    holds("no tick is refused", "tick-dropped", CHECKS),
    fails("F-SPIV: the timer", "timer-goes-on", UNSENT),
    holds("F-SPIV in v1: the timer", "timer-goes-on", {*UNSENT, Series.SPIV_FORCED}),
    holds("no tick before its deadline", "early-tick", CHECKS),
    fails("no tick before its deadline, no wait", "early-tick", {*CHECKS, TimerFault.NO_WAIT}),
    holds("v2 15/17", "waits-in-vain", CHECKS),
    fails("v2 without 15/17", "waits-in-vain", ()),
)
"""The LAPIC timer."""

IRQCHIP_CLAIMS: Final = asked_of(
    IRQCHIP_MODEL,
    holds("P-L3, IOAPIC in KVM", "line-served", IN_KVM),
    holds("P-L3, IOAPIC in KVM, by notices", "line-served", {*IN_KVM, *BY_NOTICE}),
    holds("P-L3, IOAPIC in KVM, by irqfd", "line-served", {*IN_KVM, Source.RESAMPLED}),
    fails("P-L3, before 6.4, by irqfd", "line-is-dead", {Irqchip.IN_KERNEL, Source.RESAMPLED}),
    holds("P-L3, split", "line-served", SPLIT),
    holds("P-L3, split, by notices", "line-served", {*SPLIT, *BY_NOTICE}),
    fails("P-L3, split, no exit", "line-is-dead", {*SPLIT, *BY_NOTICE, IrqchipFault.NO_EOI_EXIT}),
    holds("P-L3, split, by irqfd", "line-served", {*SPLIT, Source.RESAMPLED}),
    fails("F-RESAMPLE", "line-is-dead", OLD),
    holds("F-RESAMPLE with userspace-resamples", "line-served", {*OLD, IrqchipChange.USERSPACE_RESAMPLES}),
    holds("kvm_apic_pending_eoi", "eoi-swallowed", {*IN_KVM, *BY_NOTICE}),
    fails(
        "kvm_apic_pending_eoi without the shadow",
        "eoi-swallowed",
        {*IN_KVM, *BY_NOTICE, IrqchipFault.NO_SHADOW},
    ),
    fails("F-ROUTE", "eoi-swallowed", ROUTED),
    holds("F-ROUTE with route-first", "eoi-swallowed", {*ROUTED, IrqchipChange.ROUTE_FIRST}),
    holds("F-ROUTE, if it stays", "eoi-swallowed", {*ROUTED, Affinity.STAYS}),
)
"""The EOI of a level-triggered line, the IOAPIC in KVM or in userspace."""

LEGACY_CLAIMS: Final = asked_of(
    LEGACY_MODEL,
    fails("F-PIC: it warns", "injects-nothing", PIC),
    fails("F-PIC: it spins in HLT", "rests", PIC),
    fails("F-PIC: it is never served", "pic-served", PIC),
    holds("F-PIC in v1", "rests", {*PIC, Series.PIC_GUARD}),
    fails("F-PIC in v1: it is never served", "pic-served", {*PIC, Series.PIC_GUARD}),
    holds("F-PIC, if it could be injected", "pic-served", {*PIC, Without.PIC_INJECTED}),
    fails("F-PIT", "pit-is-silent", PIT),
    fails("F-PIT", "pit-goes-on", PIT),
    holds("F-PIT, loaded by the handler", "pit-goes-on", {*PIT, PitMode.PIT_ONESHOT}),
    holds("F-PIT with no-reinjection", "pit-goes-on", {*PIT, LegacyChange.NO_REINJECTION}),
    holds("F-PIT, if EOIs were seen", "pit-goes-on", {*PIT, Without.EOI_SEEN}),
    fails("SAV-C17, RTC: what is told", "told-wrong", UNTRACKED),
    holds("SAV-C17, RTC: what is served", "rtc-served", UNTRACKED),
    fails("RTC without v2 14/17", "rtc-served", RTC),
    fails("RTC without KVM_REQ_EVENT", "rtc-served", {*UNTRACKED, LegacyFault.NO_EVENT}),
)
"""PIC, PIT and RTC."""

CLAIMS: Final = (
    *IPI_CLAIMS,
    *DEVICE_CLAIMS,
    *LEVEL_CLAIMS,
    *OTHER_CLAIMS,
    *GUEST_CLAIMS,
    *PAGE_CLAIMS,
    *ONLINE_CLAIMS,
    *TIMER_CLAIMS,
    *IRQCHIP_CLAIMS,
    *LEGACY_CLAIMS,
)


def obligations() -> list[Query]:
    """Every question to a solver: equal rules, the malicious host, the malicious guest, the driver."""
    theories = (INTEGRITY, INJECTION, SAMPLING, CALLS, DRIVER, IPI_THEOREMS)
    return [*rule_obligations(), *(query for theory in theories for query in theory.obligations())]


def row(claim: Claim, result: EngineResult) -> str:
    """A line of the table in proofs/secure-avic.md: what was asked of which scope, and what came."""
    scope = f"{claim.senders}, {claim.memory}" if claim.has_senders else claim.memory
    said = f"{claim.name} | {claim.asked} | {claim.assuming} | {scope} | {result.verdict.value}"
    return f"| {said} | {result.states:,} | {result.depth} | {result.seconds:.1f} |"


def table() -> str:
    """Every claim, decided now."""
    head = "| claim | property | built with | senders, memory | verdict | states | steps | s |"
    rows = (row(claim, claim.decide()) for claim in CLAIMS)
    return "\n".join([head, "|---|---|---|---|---|---|---|---|", *rows])
