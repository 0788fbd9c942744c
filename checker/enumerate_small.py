"""Every case of a scaled-down domain, on which three voices must agree: the specification as it runs,
the same lifted, and the hand-written rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice, permutations, product
from typing import Any, Final, TypeAlias

import numpy as np

from avicheck.checker.verdict import Verdict
from avicheck.checker.voices import MAP, ROUTE, SIGNED, Subject, Voices, listen
from avicheck.encodings.bitvectors import Translator, width_of
from avicheck.encodings.columns import Column, ColumnProgram, as_signed
from avicheck.encodings.from_z3 import Reader
from avicheck.encodings.z3vars import leaves
from avicheck.spec.apic import (
    APIC_BROADCAST,
    APIC_DFR_CLUSTER,
    APIC_DFR_FLAT,
    X2APIC_BROADCAST,
    ApicMode,
    DeliveryMode,
    DestMode,
    Irq,
    Kvm,
    Shorthand,
    TrigMode,
    Vcpu,
    kvm_apic_calc_x2apic_ldr,
)
from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import NULL, enum_index

CHUNK: Final = 1 << 14
"""How many cases are compared at a time."""
SHOWN: Final = 10
"""How many disagreements are kept."""

Progress: TypeAlias = Callable[[int], None]
"""Told how many cases were compared so far."""


@dataclass(frozen=True)
class Kind:
    """A request apart from its destination."""

    delivery_mode: DeliveryMode
    hint: bool = False
    asserted: bool = True
    """Otherwise level-triggered and de-asserted."""


@dataclass(frozen=True)
class SmallScope:
    """A finite domain: every VM whose fields have these values, and of each either every slot of the
    map or every request."""

    name: str
    summary: str
    subject: Subject
    vcpu_ids: tuple[int, ...]
    xapic_ids: tuple[int, ...]
    ldrs: tuple[int, ...]
    dfrs: tuple[int, ...]
    sw_enabled: tuple[bool, ...] = (True, False)
    priorities: tuple[int, ...] = (0, 0x9000_0000)
    """``arb_prio`` of each vCPU, which also says how many there are."""
    switches: tuple[bool, ...] = (True, False)
    """Of the broadcast quirk and vector hashing."""
    dests: tuple[int, ...] = ()
    vectors: tuple[int, ...] = (0, 1)
    kinds: tuple[Kind, ...] = (Kind(DeliveryMode.FIXED), Kind(DeliveryMode.LOWEST))
    phys_slots: tuple[int, ...] = ()
    logical_slots: tuple[int, ...] = ()

    @property
    def vcpus(self) -> int:
        """The number of vCPUs."""
        return len(self.priorities)

    @property
    def bounds(self) -> str:
        """The numbers that occur, in words."""
        numbers = {
            "vCPU ids": self.vcpu_ids,
            "xAPIC IDs": self.xapic_ids,
            "LDR": self.ldrs,
            "DFR": self.dfrs,
            "priorities": self.priorities,
            "destinations": self.dests,
            "vectors": self.vectors if self.dests else (),
            "physical slots": self.phys_slots,
            "logical slots": self.logical_slots,
        }
        said = (f"{name} {', '.join(map(hex, values))}" for name, values in numbers.items() if values)
        return f"{self.summary}; {'; '.join(said)}"


_FIRST, _SECOND, _BOTH, _CLUSTER_1 = (logical_id << 24 for logical_id in (0x01, 0x02, 0x03, 0x11))
_STALE: Final = 0x0001_0001
_ODD_DFR: Final = 0x1FFF_FFFF

MAPS: Final = SmallScope(
    "maps",
    "ids that are the same in 8 bits, mixed modes, IDs of several bits, stale and odd registers",
    MAP,
    vcpu_ids=(0, 1, 0x100, 0x101),
    xapic_ids=(0, 1),
    ldrs=(0, _FIRST, _SECOND, _BOTH, _CLUSTER_1, _STALE),
    dfrs=(APIC_DFR_FLAT, APIC_DFR_CLUSTER, _ODD_DFR),
    switches=(False,),
    phys_slots=(0, 1, 0x100, 0x101, 0x102, X2APIC_BROADCAST),
    logical_slots=(0, 1, 4),
)
ROUTES: Final = SmallScope(
    "routes",
    "fixed and lowest priority, each way of choosing one",
    ROUTE,
    vcpu_ids=(0, 0x100),
    xapic_ids=(0, 1),
    ldrs=(_FIRST, _BOTH, _CLUSTER_1),
    dfrs=(APIC_DFR_FLAT, APIC_DFR_CLUSTER, _ODD_DFR),
    dests=(0, 1, 3, 0x11, APIC_BROADCAST, 0x100, 0x10_0001, X2APIC_BROADCAST),
)
THREE: Final = SmallScope(
    "three",
    "priorities that beat each other in a circle, and every kind of request",
    ROUTE,
    vcpu_ids=(0, 1, 0x100),
    xapic_ids=(0,),
    ldrs=(_FIRST, _SECOND),
    dfrs=(APIC_DFR_FLAT, APIC_DFR_CLUSTER),
    sw_enabled=(True,),
    priorities=(0, 0x9000_0000, 0x6000_0000),
    dests=(0, 1, 3, APIC_BROADCAST, 0x100, 0x10_0001),
    vectors=(0, 1, 2),
    kinds=(
        Kind(DeliveryMode.LOWEST),
        Kind(DeliveryMode.FIXED, hint=True),
        Kind(DeliveryMode.FIXED, asserted=False),
        Kind(DeliveryMode.NMI),
        Kind(DeliveryMode.INIT, asserted=False),
    ),
)
QUICK: Final = SmallScope(
    "quick",
    "a part of routes, for the impatient",
    ROUTE,
    vcpu_ids=(0, 0x100),
    xapic_ids=(0,),
    ldrs=(_FIRST, _BOTH),
    dfrs=(APIC_DFR_FLAT, _ODD_DFR),
    dests=(0, 1, APIC_BROADCAST, 0x100),
    switches=(True,),
    vectors=(0, 1),
)
QUICK_MAPS: Final = SmallScope(
    "quick-maps",
    "a part of maps",
    MAP,
    vcpu_ids=(0, 0x100),
    xapic_ids=(0, 1),
    ldrs=(0, _FIRST, _BOTH),
    dfrs=(APIC_DFR_FLAT, APIC_DFR_CLUSTER),
    switches=(False,),
    phys_slots=(0, 0x100),
    logical_slots=(0,),
)

SCOPES: Final = {scope.name: scope for scope in (MAPS, ROUTES, THREE, QUICK, QUICK_MAPS)}


@dataclass(frozen=True)
class Disagreement:
    """A case in which two voices give a value differently."""

    case: Any
    name: str
    by_model: int
    by_lifting: int
    by_rules: int


@dataclass(frozen=True)
class Enumeration:
    """What became of a scope on one kernel: how much was compared, and the first disagreements."""

    kernel: str
    scope: SmallScope
    configurations: int
    cases: int
    values: int
    """How many values all three voices gave."""
    disagreements: tuple[Disagreement, ...]
    complete: bool = True

    @property
    def verdict(self) -> Verdict:
        """Holds, exhaustively within the scope; a disagreement is an error of this tool's."""
        if self.disagreements:
            return Verdict.TOOL_ERROR
        return Verdict.HOLDS if self.complete else Verdict.UNKNOWN


def run_enumeration(
    kernel: Kernel, scope: SmallScope, progress: Progress = lambda _cases: None, voices: Voices | None = None
) -> Enumeration:
    """Compare the three voices on every case of a scope; a KeyboardInterrupt ends it, incomplete."""
    voices = voices or listen(scope.subject, kernel, scope.vcpus)
    chorus, requests = _Chorus(voices), list(_requests(scope))
    configurations = cases = 0
    found: list[Disagreement] = []
    complete, kvms = True, _configurations(scope, kernel)
    try:
        while block := list(islice(kvms, max(1, CHUNK // len(requests)))):
            found += islice(chorus.disagreements(block, requests), SHOWN - len(found))
            configurations += len(block)
            cases += len(block) * len(requests)
            progress(cases)
    except KeyboardInterrupt:
        complete = False
    values = cases * len(voices.lifted)
    return Enumeration(kernel.name, scope, configurations, cases, values, tuple(found), complete)


def number_of_cases(scope: SmallScope, kernel: Kernel) -> int:
    """How many cases a scope has."""
    return sum(1 for _ in _configurations(scope, kernel)) * len(list(_requests(scope)))


# The domain.


def _vcpus(scope: SmallScope, vcpu_id: int, arb_prio: int) -> Iterator[Vcpu]:
    """Every state of one APIC."""
    for xapic_id, ldr, dfr, sw in product(scope.xapic_ids, scope.ldrs, scope.dfrs, scope.sw_enabled):
        yield Vcpu(vcpu_id, ApicMode.XAPIC, xapic_id, ldr, dfr, sw, arb_prio)
    ldr = kvm_apic_calc_x2apic_ldr(vcpu_id)
    for sw in scope.sw_enabled:
        yield Vcpu(vcpu_id, ApicMode.X2APIC, 0, ldr, APIC_DFR_FLAT, sw, arb_prio)
    yield Vcpu(vcpu_id, ApicMode.DISABLED, scope.xapic_ids[0], scope.ldrs[0], scope.dfrs[0], True, arb_prio)


def _configurations(scope: SmallScope, kernel: Kernel) -> Iterator[Kvm]:
    """Every VM, in every order of its vCPUs."""
    for ids in permutations(scope.vcpu_ids, scope.vcpus):
        states = (_vcpus(scope, vcpu_id, prio) for vcpu_id, prio in zip(ids, scope.priorities, strict=True))
        for vcpus in product(*states):
            for x2apic_format, quirk, hashing in product((False, True), scope.switches, scope.switches):
                yield Kvm(kernel, x2apic_format, quirk, hashing, vcpus)


def _requests(scope: SmallScope) -> Iterator[tuple[Any, ...]]:
    """The fields of a case besides its VM: what to look at, or what to send."""
    if scope.subject is MAP:
        yield from product((False, True), scope.phys_slots, scope.logical_slots)
        return
    to_some = product((Shorthand.NONE,), scope.dests)
    to_all = product((Shorthand.SELF, Shorthand.ALLINC, Shorthand.ALLBUT), (APIC_BROADCAST,))
    for (shorthand, dest_id), src in product((*to_some, *to_all), (NULL, 0)):
        if shorthand != Shorthand.SELF or src != NULL:
            for dest_mode, kind, vector in product(DestMode, scope.kinds, scope.vectors):
                trig_mode = TrigMode.EDGE if kind.asserted else TrigMode.LEVEL
                mode, hint = kind.delivery_mode, kind.hint
                irq = Irq(shorthand, dest_mode, dest_id, mode, vector, kind.asserted, trig_mode, hint)
                yield False, src, irq


# The voices.


class _Chorus:
    """The three voices on blocks of cases."""

    def __init__(self, voices: Voices) -> None:
        self._voices = voices
        self._scope = {"vcpus": voices.vcpus}
        self._program = ColumnProgram()
        translator = Translator(self._program)
        names = {str(var.value): translator.term(var) for var in voices.variables}
        reader = Reader(self._program, names)
        self._results = [
            *(
                _Result(translator.term(lifted), width_of(lifted.lo, lifted.hi) if lifted.lo < 0 else 0)
                for lifted in voices.lifted.values()
            ),
            *(
                _Result(reader.term(stated), stated.size() if name in SIGNED else 0)
                for name, stated in voices.stated.items()
            ),
        ]

    def disagreements(
        self, kvms: Sequence[Kvm], requests: Sequence[tuple[Any, ...]]
    ) -> Iterator[Disagreement]:
        """Where some voice differs from another, on every VM with every request."""
        subject, names = self._voices.subject, list(self._voices.lifted)
        cases = [subject.case(kvm, *request) for kvm in kvms for request in requests]
        model = np.array([list(subject.by_model(case).values()) for case in cases], dtype=np.int64)
        lifted, stated = np.split(self._computed(kvms, requests), 2)
        for row, i in np.argwhere((model != lifted.T) | (model != stated.T)):
            yield Disagreement(
                cases[row], names[i], int(model[row, i]), int(lifted[i, row]), int(stated[i, row])
            )

    def _computed(self, kvms: Sequence[Kvm], requests: Sequence[tuple[Any, ...]]) -> Column:
        """The values of both formulas: a row for each name, first all lifted ones, then all stated."""
        vms = [self._numbers(kvm) for kvm in kvms]
        alone = [self._numbers(self._voices.subject.case(kvms[0], *request)) for request in requests]
        asked = [numbers[len(vms[0]) :] for numbers in alone]
        columns = [
            *np.repeat(np.array(vms, dtype=np.int64), len(requests), axis=0).T,
            *np.tile(np.array(asked, dtype=np.int64), (len(kvms), 1)).T,
        ]
        inputs = {str(var.value): column for var, column in zip(self._voices.variables, columns, strict=True)}
        results = self._program.run(inputs, [result.term for result in self._results])
        shape = (len(results), len(kvms) * len(requests))
        values = np.empty(shape, dtype=np.int64)
        for row, result, column in zip(values, self._results, results, strict=True):
            row[:] = as_signed(column, result.signed_bits) if result.signed_bits else column
        return values

    def _numbers(self, record: Any) -> list[int]:
        """The leaves of a record as numbers, in the order of the variables: its VM's come first."""
        values = (value for _, value in leaves(record, self._scope))
        return [enum_index(value) if isinstance(value, Enum) else int(value) for value in values]


@dataclass(frozen=True)
class _Result:
    """A term of the program, and how many bits it has if it is a signed number."""

    term: int
    signed_bits: int
