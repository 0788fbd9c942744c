"""That the hand-written rules and the lifted specification of apic-map say the same: the obligations.

Each compares everything that both sides say about one vCPU, or one value of the map, within one part
of all cases; a query of its own shows that the parts cover every case. IDs have their full width.
Some obligations take a lemma for granted that is another obligation of the same list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from avicheck.checker.obligations import lifting_obligations
from avicheck.checker.solve import Query, ask
from avicheck.checker.voices import MAP, PV, ROUTE, Voices, listen
from avicheck.encodings.apic_map_rules import config_ok
from avicheck.encodings.cuts import Script
from avicheck.encodings.expr import Expr, not_
from avicheck.encodings.lift import to_expr
from avicheck.proofs import pv_equivalence
from avicheck.proofs.apic_map import ARBITRATED, ROUTES, lowest_priority, not_lowest_priority
from avicheck.proofs.comparison import as_query, compare, named
from avicheck.spec.apic import Kvm, Vcpu, kvm_apic_present
from avicheck.spec.apic import config_ok as config_ok_by_model
from avicheck.spec.apic_map import max_apic_id
from avicheck.spec.apic_map_model import Case, Outcome, outcome
from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import rule

Predicate: TypeAlias = Callable[[Case, Outcome], bool]


@dataclass(frozen=True)
class Sizes:
    """The numbers of vCPUs at which each group of obligations is proved."""

    map: int = 8
    route: int = 8
    """Everything but lowest priority: FIXED, NMI, INIT, SIPI, SMI."""
    lowest: int = 3
    """Lowest priority, by priority and by hashing; and ``kvm_intr_is_single_vcpu`` throughout."""
    pv: int = 2

    def at_most(self, vcpus: int) -> Sizes:
        """These, none above ``vcpus``."""
        return Sizes(*(min(vcpus, size) for size in (self.map, self.route, self.lowest, self.pv)))


FULL: Final = Sizes()


def obligations(kernel: Kernel, vcpus: int = 8) -> list[Query]:
    """maps and routes at 8 vCPUs, lowest priority and single targets at 3, paravirtual IPIs at 2, or fewer
    if fewer are asked for.

    Every obligation for one kernel. They speak for every kernel with the same fixes: see
    ``comparison.alike``."""
    sizes = FULL.at_most(vcpus)
    return [
        *map_obligations(listen(MAP, kernel, sizes.map)),
        *route_obligations(listen(ROUTE, kernel, sizes.route)),
        *lowest_obligations(listen(ROUTE, kernel, sizes.lowest)),
        *pv_obligations(listen(PV, kernel, sizes.pv)),
    ]


# A lemma.


@rule
def _has_room(kvm: Kvm, vcpu: Vcpu) -> bool:
    return not kvm_apic_present(vcpu) or vcpu.vcpu_id <= max_apic_id(kvm)


def _room(voices: Voices) -> list[Expr]:
    """The map has room for every vCPU that is present."""
    kvm = voices.case.kvm
    with voices.lifter.resumed():
        return [to_expr(_has_room(kvm, vcpu)) for vcpu in kvm.vcpus]


def _room_obligations(voices: Voices) -> list[Query]:
    sentence = "Lemma: no present vCPU's id is above max_apic_id."
    return [
        ask(named(voices, f"lemma-room/vcpu{i}"), sentence, [voices.ok, not_(has_room)])
        for i, has_room in enumerate(_room(voices))
    ]


# The obligations.


def map_obligations(voices: Voices) -> Iterator[Query]:
    """Which configurations exist; every value of the finished map; the owners of an arbitrary slot."""
    yield _config_obligation(voices)
    yield from _room_obligations(voices)
    room = _room(voices)
    for name in voices.lifted:
        yield compare(voices, name, f"Both sides agree on {name} (given the lemma).", [name], room)
    yield from lifting_obligations(voices.lifter, named(voices, "lifting"))


def _config_obligation(voices: Voices) -> Query:
    with voices.lifter.resumed():
        ours = to_expr(config_ok_by_model(voices.case.kvm))
    script = Script(voices.variables)
    script.differ_somewhere([(ours, config_ok(voices.stated_case.kvm), False)])
    return as_query(voices, "config_ok", "Both sides agree which configurations exist.", script)


def route_obligations(voices: Voices) -> Iterator[Query]:
    """Where a request goes that is not lowest priority, in each part of all routes."""
    yield from _room_obligations(voices)
    parts = {part.name: part.when for part in ROUTES}
    yield from _parts(voices, not_lowest_priority, parts, _shared(voices, "single_vcpu"))
    yield from lifting_obligations(voices.lifter, named(voices, "lifting"))


def lowest_obligations(voices: Voices) -> Iterator[Query]:
    """Where a lowest priority request goes; and, whatever the priority, the only target of a device's."""
    yield from _room_obligations(voices)
    parts = {f"lowest/{part.name}": part.when for part in ARBITRATED}
    yield from _parts(voices, lowest_priority, parts, _shared(voices))
    single = {f"single/{part.name}": part.when for part in ROUTES}
    yield from _parts(voices, not_lowest_priority, single, {"single_vcpu": ["single_vcpu"]})
    yield from lifting_obligations(voices.lifter, named(voices, "lifting"))


def _shared(voices: Voices, *left_out: str) -> dict[str, list[str]]:
    """The values that belong to one vCPU together, every other one alone."""
    groups: dict[str, list[str]] = {}
    for name in voices.lifted:
        _, _, index = name.rstrip("]").partition("[")
        if name not in left_out:
            groups.setdefault(f"vcpu{index}" if index else name, []).append(name)
    return groups


def _parts(
    voices: Voices, within: Predicate, parts: dict[str, Predicate], groups: dict[str, list[str]]
) -> Iterator[Query]:
    """Each group of values in each part, and that the parts cover all that is ``within``."""
    with voices.lifter.resumed():
        result = outcome(voices.case)
        inside = to_expr(within(voices.case, result))
        conditions = {name: to_expr(when(voices.case, result)) for name, when in parts.items()}
    room = _room(voices)
    for part, condition in conditions.items():
        for group, names in groups.items():
            sentence = f"Both sides agree on {', '.join(names)} (given the lemma)."
            yield compare(voices, f"{part}/{group}", sentence, names, [*room, inside, condition])
    nothing = [voices.ok, inside, *map(not_, conditions.values())]
    cover = named(voices, f"{next(iter(parts)).partition('/')[0]}/cover")
    yield ask(cover, "The parts cover every case.", nothing)


def pv_obligations(voices: Voices) -> Iterator[Query]:
    """Everything about a paravirtual IPI."""
    yield from _room_obligations(voices)
    yield from pv_equivalence.pv_obligations(voices, _room(voices))
    yield from lifting_obligations(voices.lifter, named(voices, "lifting"))
