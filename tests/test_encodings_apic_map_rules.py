"""The closed forms say what real kernels computed, and wrong ones do not."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
import z3

from avicheck.encodings import apic_map_rules as rules
from avicheck.encodings import apic_route_rules as routes
from avicheck.encodings import rule_terms
from avicheck.encodings.z3vars import declare, leaves, literal, range_constraints, variable
from avicheck.spec.apic import ApicMode, DeliveryMode, DestMode, Irq, Kvm, Shorthand, TrigMode, Vcpu
from avicheck.spec.kernels import KERNELS, Fix, Kernel
from avicheck.spec.lang import NULL, IndexOf

VECTORS: Final = Path(__file__).parent / "data" / "vectors"
OBSERVED: Final = ("6.1", "6.12", "6.16", "6.19")
POINTER: Final = IndexOf("vcpus", nullable=True)

Line: TypeAlias = Mapping[str, Any]
Pairs: TypeAlias = list[tuple[Any, Any]]

MODES: Final = {
    "KVM_APIC_MODE_SW_DISABLED": rules.SW_DISABLED,
    "NONE": rules.SW_DISABLED,
    "KVM_APIC_MODE_XAPIC_CLUSTER": rules.XAPIC_CLUSTER,
    "KVM_APIC_MODE_XAPIC_FLAT": rules.XAPIC_FLAT,
    "KVM_APIC_MODE_X2APIC": rules.X2APIC,
    "KVM_APIC_MODE_MAP_DISABLED": rules.MAP_DISABLED,
}
INHIBITS: Final = ("PHYSICAL_ID_ALIASED", "LOGICAL_ID_ALIASED", "APIC_ID_MODIFIED")


def read(path: Path) -> list[Line]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@cache
def sample(kernel: str) -> list[Line]:
    return read(VECTORS / f"kvm-{kernel}.sample.jsonl.gz")


def small(kernel: str) -> list[Line]:
    """The lines of the sample with so few vCPUs that closed forms are built in no time."""
    return [line for line in sample(kernel) if len(line["config"]["vcpus"]) <= 5]


def vcpu_of(vcpu: Line) -> Vcpu:
    given = {**vcpu, "mode": ApicMode(vcpu["mode"]), "xapic_id": vcpu["xapic_id"] or 0}
    return Vcpu(**{**given, "arb_prio": vcpu["arb_prio"] & 0xFFFF_FFFF})


def kvm_of(line: Line, kernel: Kernel) -> Kvm:
    vcpus = tuple(map(vcpu_of, line["config"]["vcpus"]))
    return Kvm(**{**line["config"], "kernel": kernel, "vcpus": vcpus})


def irq_of(query: Line) -> Irq:
    return Irq(
        shorthand=Shorthand(query["shorthand"]),
        dest_mode=DestMode(query["dest_mode"]),
        dest_id=query["dest_id"],
        delivery_mode=DeliveryMode(query["delivery_mode"]),
        vector=query["vector"],
        level=query["level"],
        trig_mode=TrigMode(query["trig_mode"]),
        msi_redir_hint=query["msi_redir_hint"],
    )


def settings(symbolic: Any, concrete: Any, scope: Mapping[str, int]) -> Pairs:
    """What to substitute for the constants of a declared record."""
    return [
        (term, literal(domain, scope, value))
        for (domain, term), (_, value) in zip(leaves(symbolic, scope), leaves(concrete, scope), strict=True)
    ]


class Rules:
    """The closed forms of one kernel for ``n`` vCPUs, each built when first asked for."""

    def __init__(self, kernel: Kernel, n: int) -> None:
        self.n, self.scope = n, {"vcpus": n}
        self.kvm = declare(Kvm, self.scope, "kvm", kernel=kernel)
        self.irq = declare(Irq, self.scope, "irq")
        self.src = variable(POINTER, self.scope, "src")
        self.no_memory = z3.Bool("alloc_fails")
        self.slot = z3.BitVec("slot", 32)
        self.logical_slot = z3.BitVec("logical_slot", 6)
        low, high, icr = z3.BitVecs("low high icr", 64)
        self.ipi = routes.PvIpi(low, high, z3.BitVec("min", 32), icr, z3.Bool("op64"))

    @cached_property
    def config_ok(self) -> Any:
        return rules.config_ok(self.kvm)

    @cached_property
    def map(self) -> dict[str, Any]:
        return {
            "present": rules.map_present(self.kvm, self.no_memory),
            "max_apic_id": rules.max_apic_id(self.kvm),
            "logical_mode": rules.logical_mode(self.kvm),
            **dict(zip(INHIBITS, rules.inhibits(self.kvm, self.no_memory), strict=True)),
        }

    @cached_property
    def owner_phys(self) -> Any:
        return rules.owner_phys(self.kvm, self.slot)

    @cached_property
    def owner_logical(self) -> Any:
        return rules.owner_logical(self.kvm, self.logical_slot)

    @cached_property
    def pv(self) -> dict[str, Any]:
        call = (self.kvm, self.no_memory, self.ipi)
        return {
            "r": routes.pv_ipi(*call),
            "accepted": self._all(lambda i: routes.pv_accepts(*call, i)),
            **{f"calls[{i}]": routes.pv_calls(*call, i) for i in range(self.n)},
        }

    @cached_property
    def route(self) -> dict[str, Any]:
        kvm, no_memory, src, irq = self.kvm, self.no_memory, self.src, self.irq
        request = (kvm, no_memory, src, irq)
        return {
            "fast.handled": routes.fast_handled(*request),
            "fast.recipients": self._all(lambda i: routes.fast_called(*request, i)),
            "fast.accepted": self._all(lambda i: routes.fast_accepts(*request, i)),
            "delivery.recipients": self._all(lambda i: routes.delivery_called(*request, i)),
            "delivery.accepted": self._all(lambda i: routes.delivery_accepts(*request, i)),
            "slow.recipients": self._all(lambda i: routes.slow_called(kvm, src, irq, i)),
            "slow.accepted": self._all(lambda i: routes.slow_accepts(kvm, src, irq, i)),
            "match_dest": self._all(lambda i: routes.matches(kvm, src, irq, i)),
            "single_vcpu": routes.single_vcpu(kvm, no_memory, irq),
            "dest_bitmap": self._all(lambda i: routes.dest_bitmap(kvm, no_memory, irq, i)),
        }

    def _all(self, rule: Callable[[int], Any]) -> Any:
        """A set of vCPUs as one bit-vector."""
        return rule_terms.pack([z3.BoolVal(False), *(rule(i) for i in range(self.n))])

    def configured(self, config: Kvm, no_memory: bool = False) -> Pairs:
        return [*settings(self.kvm, config, self.scope), (self.no_memory, z3.BoolVal(no_memory))]


@cache
def rules_of(fixes: frozenset[Fix], n: int) -> Rules:
    return Rules(Kernel("with these fixes", fixes), n)


def rules_for(config: Kvm) -> Rules:
    return rules_of(config.kernel.fixes, len(config.vcpus))


def evaluate(terms: Mapping[str, Any], pairs: Pairs) -> dict[str, int]:
    """The terms' values, read as signed numbers; a condition is 0 or 1."""
    packed = z3.Concat([*map(as_bits, terms.values()), z3.BitVecVal(0, 1)])
    value, values = z3.simplify(z3.substitute(packed, *pairs)).as_long() >> 1, {}
    for name, term in reversed(list(terms.items())):
        bits = as_bits(term).size()
        field = value & ((1 << bits) - 1)
        signed = z3.is_bv(term) and name in ("owner", "single_vcpu", "r")
        values[name] = field - (1 << bits) if signed and field >> (bits - 1) else field
        value >>= bits
    return values


def as_bits(term: Any) -> Any:
    return rule_terms.one_if(term, 1) if z3.is_bool(term) else term


def indices(vcpus: Sequence[int]) -> int:
    """A set of vCPUs as ``Rules`` packs it."""
    return sum(1 << (i + 1) for i in set(vcpus))


def pointer_of(index: int | None) -> int:
    return NULL if index is None else index


def observed_map(line: Line) -> dict[str, int]:
    reasons = {name: int(any(name in reason for reason in line["inhibits"])) for name in INHIBITS}
    if line["map"]["null"]:
        return {"present": 0, **reasons}
    mode = sum(MODES[name] for name in line["map"]["logical_mode"].split("|"))
    return {"present": 1, "max_apic_id": line["map"]["max_apic_id"], "logical_mode": mode, **reasons}


def observed_logical_slots(line: Line) -> dict[int, int]:
    """Each slot in use by the map's mode, with its owner."""
    if line["map"]["logical_mode"] == "KVM_APIC_MODE_XAPIC_FLAT":
        return {bit: pointer_of(owner) for bit, owner in enumerate(line["map"]["flat"])}
    if line["map"]["logical_mode"] != "KVM_APIC_MODE_XAPIC_CLUSTER":
        return {}
    entries = dict.fromkeys(range(64), NULL)
    for name, owner in line["map"]["cluster"].items():
        cluster, bit = map(int, name.split("."))
        entries[cluster * 4 + bit] = owner
    return entries


def observed_route(query: Line) -> dict[str, int]:
    sets = {
        f"{path}.{kind}": indices(query[path][kind])
        for path in ("fast", "delivery", "slow")
        for kind in ("recipients", "accepted")
    }
    return {
        "fast.handled": int(query["fast"]["handled"]),
        **sets,
        "match_dest": indices([i for i, match in enumerate(query["match_dest"]) if match]),
        "single_vcpu": pointer_of(query["single_vcpu"]),
        "dest_bitmap": indices(query["dest_bitmap"]),
    }


def observed_pv(call: Line, n: int) -> dict[str, int]:
    calls: Counter[int] = Counter(call["recipients"])
    return {
        "r": call["r"],
        "accepted": indices(call["accepted"]),
        **{f"calls[{i}]": calls[i] for i in range(n)},
    }


def map_disagreements(line: Line, kernel: Kernel) -> Iterator[str]:
    config = kvm_of(line, kernel)
    closed = rules_for(config)
    pairs = closed.configured(config)
    values = evaluate(closed.map, pairs)
    for name, expected in observed_map(line).items():
        if values[name] != expected:
            yield f"{name}: {values[name]}, not {expected}"
    if line["map"]["null"]:
        return
    owners = {int(slot): owner for slot, owner in line["map"]["phys_map"].items()}
    ids = {id for vcpu in config.vcpus for id in (vcpu.vcpu_id, vcpu.vcpu_id & 0xFF, vcpu.xapic_id)}
    for slot in sorted(owners.keys() | ids | {0, 0xFF, 0xFFFF_FFFF}):
        owner = evaluate({"owner": closed.owner_phys}, [*pairs, (closed.slot, z3.BitVecVal(slot, 32))])
        if owner["owner"] != owners.get(slot, NULL):
            yield f"owner_phys({slot}): {owner}"
    for slot, expected in observed_logical_slots(line).items():
        at_slot = (closed.logical_slot, z3.BitVecVal(slot, 6))
        owner = evaluate({"owner": closed.owner_logical}, [*pairs, at_slot])
        if owner["owner"] != expected:
            yield f"owner_logical({slot}): {owner}, not {expected}"


def route_disagreements(line: Line, kernel: Kernel) -> Iterator[str]:
    config = kvm_of(line, kernel)
    closed = rules_for(config)
    for query in line["queries"]:
        pairs = closed.configured(config) + settings(closed.irq, irq_of(query), closed.scope)
        source = literal(POINTER, closed.scope, pointer_of(query["src"]))
        values = evaluate(closed.route, [*pairs, (closed.src, source)])
        yield from (f"{name}: {query}" for name, v in observed_route(query).items() if values[name] != v)


def pv_disagreements(line: Line, kernel: Kernel) -> Iterator[str]:
    config = kvm_of(line, kernel)
    closed = rules_for(config)
    for call in line["pv_ipi"]:
        sent = [
            (term, z3.BoolVal(value) if isinstance(value, bool) else z3.BitVecVal(value, term.size()))
            for term, value in ((getattr(closed.ipi, name), call[name]) for name in closed.ipi._fields)
        ]
        values = evaluate(closed.pv, closed.configured(config) + sent)
        yield from (f"{name}: {call}" for name, v in observed_pv(call, closed.n).items() if values[name] != v)


def disagreements(kernel: Kernel, lines: Sequence[Line]) -> Iterator[str]:
    for line in lines:
        for compare in (map_disagreements, route_disagreements, pv_disagreements):
            yield from compare(line, kernel)


@pytest.mark.parametrize("kernel", OBSERVED)
def test_map_and_inhibits_are_those_of_the_kernel(kernel: str) -> None:
    assert [d for line in sample(kernel) for d in map_disagreements(line, KERNELS[kernel])] == []


@pytest.mark.parametrize("kernel", OBSERVED)
def test_routes_are_those_of_the_kernel(kernel: str) -> None:
    assert [d for line in sample(kernel) for d in route_disagreements(line, KERNELS[kernel])] == []


@pytest.mark.parametrize("kernel", OBSERVED)
def test_pv_ipis_are_those_of_the_kernel(kernel: str) -> None:
    assert [d for line in sample(kernel) for d in pv_disagreements(line, KERNELS[kernel])] == []


def test_sample_has_every_logical_mode_and_lines_without_a_map() -> None:
    modes = [line["map"]["logical_mode"] or "no map" for kernel in OBSERVED for line in sample(kernel)]
    assert {name for mode in modes for name in mode.split("|")} == {*MODES, "no map"}


@pytest.mark.parametrize("fix", [fix for fix in Fix if fix is not Fix.PHYS_BOUNDS])
def test_a_kernel_without_one_of_its_fixes_disagrees(fix: Fix) -> None:
    unfixed = Kernel("6.12 without a fix", KERNELS["6.12"].fixes - {fix})
    assert any(any(map_disagreements(line, unfixed)) for line in sample("6.12"))


def _last_of_equals_wins(claims: Sequence[Sequence[Any]], priorities: Sequence[Any]) -> list[Any]:
    return rule_terms.least_busy(claims[::-1], priorities)[::-1]


WRONG: Final = {
    "the first vCPU keeps a logical slot": (rules, "last", rule_terms.first, "6.1"),
    "an earlier vCPU stays reachable": (routes, "share_seat", lambda *_: z3.BoolVal(False), "6.1"),
    "the last of equal priorities wins": (routes, "least_busy", _last_of_equals_wins, "6.12"),
    "the vector picks the next candidate": (
        routes,
        "nth",
        lambda candidates, vector: rule_terms.nth(candidates, vector + 1),
        "6.12",
    ),
    "lowest priority to all stays one": (routes, "_becomes_fixed", lambda irq: z3.BoolVal(False), "6.12"),
    "a disabled APIC accepts": (routes, "is_present", lambda vcpu: z3.BoolVal(True), "6.12"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_closed_form_disagrees(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, name, wrong, kernel = WRONG[mistake]
    monkeypatch.setattr(module, name, wrong)
    rules_of.cache_clear()
    found = next(disagreements(KERNELS[kernel], small(kernel)), None)
    rules_of.cache_clear()
    assert found is not None


def xapic(vcpu_id: int, xapic_id: int, **changes: Any) -> Vcpu:
    given = {"ldr": 0, "dfr": 0xFFFF_FFFF, "sw_enabled": True, "arb_prio": 0, **changes}
    return Vcpu(vcpu_id=vcpu_id, mode=ApicMode.XAPIC, xapic_id=xapic_id, **given)


def kvm(kernel: str, *vcpus: Vcpu) -> Kvm:
    return Kvm(
        kernel=KERNELS[kernel],
        x2apic_format=False,
        x2apic_broadcast_quirk_disabled=False,
        vector_hashing=True,
        vcpus=vcpus,
    )


def map_of(config: Kvm, no_memory: bool = False) -> dict[str, int]:
    closed = rules_for(config)
    return evaluate(closed.map, closed.configured(config, no_memory))


def test_without_memory_both_aliases_are_inhibited_and_no_id_counts_as_modified() -> None:
    values = map_of(kvm("6.12", xapic(0, 7)), no_memory=True)
    assert [values[name] for name in ("present", *INHIBITS)] == [0, 1, 1, 0]


def test_a_modified_id_counts_where_it_is_the_alias_that_ends_the_map() -> None:
    assert map_of(kvm("6.12", xapic(0, 0), xapic(1, 0)))["APIC_ID_MODIFIED"] == 1


def test_a_modified_id_behind_the_alias_that_ends_the_map_does_not_count() -> None:
    assert map_of(kvm("6.12", xapic(0, 0), xapic(256, 0), xapic(2, 9)))["APIC_ID_MODIFIED"] == 0


def test_a_disabled_logical_map_keeps_what_was_entered_before() -> None:
    config = kvm("6.12", xapic(0, 0, ldr=1 << 24), xapic(1, 1, ldr=1 << 24), xapic(2, 2, ldr=2 << 24))
    closed = rules_for(config)
    slots = [
        evaluate({"owner": closed.owner_logical}, [*closed.configured(config), (closed.logical_slot, slot)])
        for slot in (z3.BitVecVal(0, 6), z3.BitVecVal(1, 6))
    ]
    assert [slot["owner"] for slot in slots] == [0, NULL]


def valid(claim: Any, *given: Any) -> bool:
    solver = z3.SolverFor("QF_BV")
    solver.add(*given, z3.Not(claim))
    return bool(solver.check() == z3.unsat)


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_two_statements_of_physical_ownership_agree(kernel: str) -> None:
    scope, slot, no_memory = {"vcpus": 4}, z3.BitVec("slot", 32), z3.Bool("alloc_fails")
    config = declare(Kvm, scope, "kvm", kernel=KERNELS[kernel])
    owner = rules.owner_phys(config, slot)
    claims = [
        (owner == i) == z3.Or([z3.And(own.owned, rule_terms.wide(own.id) == slot) for own in owns])
        for i, owns in enumerate(rules.phys_slots(config))
    ]
    given = (range_constraints(config, scope), rules.config_ok(config), rules.map_present(config, no_memory))
    assert valid(z3.And(claims), *given)


def declared(kernel: str, n: int) -> Kvm:
    """The same constants whatever the kernel."""
    return declare(Kvm, {"vcpus": n}, "kvm", kernel=KERNELS[kernel])


def test_the_posted_series_drops_the_same_maps_as_the_merged_one() -> None:
    posted, merged, no_memory = declared("posted-2022-08", 3), declared("6.12", 3), z3.Bool("alloc_fails")
    assert valid(rules.map_present(posted, no_memory) == rules.map_present(merged, no_memory))


def test_the_posted_series_leaves_the_logical_mode_as_it_was() -> None:
    assert valid(rules.logical_mode(declared("posted-2022-08", 3)) == rules.logical_mode(declared("6.1", 3)))


@pytest.mark.parametrize(("ids", "same"), [(range(0x100), True), (range(0x100, 0x1000), False)])
def test_the_posted_series_takes_slots_above_0xff_from_xapic_mode_only(ids: range, same: bool) -> None:
    posted, before, slot = declared("posted-2022-08", 3), declared("6.1", 3), z3.BitVec("slot", 12)
    given = (
        rules.config_ok(posted),
        rules.map_present(posted, z3.BoolVal(False)),
        z3.UGE(slot, ids.start),
        z3.ULE(slot, ids.stop - 1),
    )
    assert valid(rules.owner_phys(posted, slot) == rules.owner_phys(before, slot), *given) is same


@pytest.mark.parametrize(
    ("priorities", "winner"),
    [
        ([0x7FFF_FFFF, 0x8000_0000], 0),
        ([0, 0x6000_0000, 0xC000_0000], 2),
        ([0x6000_0000, 0xC000_0000, 0], 2),
        ([5, 5], 0),
    ],
    ids=["wraps", "below the first", "and the first below it", "tie"],
)
def test_priorities_are_compared_by_a_wrapping_difference(priorities: list[int], winner: int) -> None:
    terms = [z3.BitVecVal(priority, 32) for priority in priorities]
    wins = rule_terms.least_busy(rule_terms.alone([z3.BoolVal(True)] * len(terms)), terms)
    assert [z3.is_true(z3.simplify(win)) for win in wins] == [i == winner for i in range(len(wins))]


@pytest.mark.parametrize("kernel", OBSERVED)
def test_every_observed_configuration_is_ok(kernel: str) -> None:
    for line in sample(kernel):
        config = kvm_of(line, KERNELS[kernel])
        closed = rules_for(config)
        assert evaluate({"ok": closed.config_ok}, closed.configured(config)) == {"ok": 1}


@pytest.mark.parametrize(
    "vcpus",
    [
        (xapic(3, 3), xapic(3, 4)),
        (Vcpu(0x123, ApicMode.X2APIC, 0, 0x12 << 16 | 1 << 4, 0xFFFF_FFFF, True, 0),),
        (Vcpu(0x123, ApicMode.X2APIC, 0x23, 0x12 << 16 | 1 << 3, 0xFFFF_FFFF, True, 0),),
    ],
    ids=["an id twice", "a foreign LDR", "an xAPIC ID in x2APIC mode"],
)
def test_configurations_that_cannot_be_are_not_ok(vcpus: tuple[Vcpu, ...]) -> None:
    config = kvm("6.12", *vcpus)
    closed = rules_for(config)
    assert evaluate({"ok": closed.config_ok}, closed.configured(config)) == {"ok": 0}
