"""Reductions against the full search: on systems at random, on models whose verdicts and quotients are
known, and with a fault planted in each."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pytest

from avicheck.checker import reduce as reducing
from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import property_of
from avicheck.checker.errors import InputError
from avicheck.checker.explore import Exploration, explore
from avicheck.checker.reduce import reduced
from avicheck.checker.searched import Reduction
from avicheck.checker.verdict import Verdict
from avicheck.encodings import canonical, dead_values, partial_order, symmetry
from avicheck.encodings import expr as ex
from avicheck.encodings.control_flow import Flow
from avicheck.encodings.packing import Layout
from avicheck.encodings.reachability import confirm
from avicheck.encodings.symmetry import exchanged
from avicheck.encodings.transition import Exchange, TransitionSystem, Values, successors
from tests.benchmarks.avic_delivery import SIZES, avic_delivery
from tests.known.catalogue import KNOWN, Known
from tests.random_threads import threads

Tier = Literal["interpreted", "compiled"]
TIERS: tuple[Tier, ...] = ("interpreted", "compiled")
every_tier = pytest.mark.parametrize("tier", TIERS)

DEAD: tuple[Reduction, ...] = ("dead",)
SYMMETRY: tuple[Reduction, ...] = ("symmetry",)
ORDER: tuple[Reduction, ...] = ("partial-order",)
ALL: tuple[Reduction, ...] = ("dead", "symmetry", "partial-order")
every_reduction = pytest.mark.parametrize("which", [DEAD, SYMMETRY, ORDER, ALL], ids=" ".join)
DELIVERY: tuple[str, ...] = ("no-lost-interrupt", DEADLOCK_FREE)

_full: dict[tuple[int, bool], Exploration] = {}


def asked(seed: int) -> str:
    """One property: others may stand in the way of a reduction."""
    return ("some", "every", "always", DEADLOCK_FREE)[seed % 4]


def full(seed: int, told_apart: bool) -> Exploration:
    """The full search of a system at random, kept."""
    if (seed, told_apart) not in _full:
        system = threads(seed, told_apart=told_apart)
        _full[seed, told_apart] = explore(system, properties=[asked(seed)], stop="never", tier="interpreted")
    return _full[seed, told_apart]


def outcome(found: Exploration, lengths: bool) -> Mapping[str, object]:
    """Verdicts, how long runs are (if they are shortest) and what never fires."""
    results = {r.property: (r.verdict, r.run and lengths and len(r.run.fired)) for r in found.results}
    return {**results, "never fired": sorted(found.never_fired), "deadlock": found.deadlock is None}


def differing(seeds: Iterable[int], which: Sequence[Reduction]) -> Iterator[int]:
    """The systems at random that a reduced search sees in another way, however it comes out."""
    for seed in seeds:
        for told_apart in (False, True):
            system = threads(seed, told_apart=told_apart)
            try:
                found = explore(system, properties=[asked(seed)], stop="never", reduce=which)
            except InputError:
                continue
            except Exception:
                yield seed
                continue
            lengths = "partial-order" not in which
            if outcome(found, lengths) != outcome(full(seed, told_apart), lengths):
                yield seed


# On systems at random.


@every_reduction
def test_verdicts_are_those_of_the_full_search(which: tuple[Reduction, ...]) -> None:
    assert list(differing(range(36), which)) == []


@every_reduction
def test_there_are_fewer_states(which: tuple[Reduction, ...]) -> None:
    fewer = 0
    for seed in range(40):
        try:
            found = explore(threads(seed), properties=[asked(seed)], stop="never", reduce=which)
        except InputError:
            continue
        assert found.states <= full(seed, False).states
        fewer += found.states < full(seed, False).states
    assert fewer >= 6


def test_runs_are_those_of_the_system() -> None:
    runs = 0
    for seed in range(24):
        system = threads(seed)
        try:
            found = explore(system, properties=[asked(seed)], stop="never", reduce=ALL)
        except InputError:
            continue
        for result in found.results:
            if result.run is not None:
                confirm(system, property_of(system, result.property), result.run)
                runs += 1
    assert runs >= 8


def test_tiers_agree() -> None:
    compared = 0
    for seed in range(12):
        system = threads(seed)
        try:
            runs = [explore(system, stop="never", reduce=("dead", "symmetry"), tier=tier) for tier in TIERS]
        except InputError:
            continue
        a, b = (replace(run, seconds=0.0, tier="compiled", results=()) for run in runs)
        assert a == b
        assert outcome(runs[0], lengths=True) == outcome(runs[1], lengths=True)
        compared += 1
    assert compared >= 6


def orbits(system: TransitionSystem) -> tuple[int, int]:
    """How many states are reached, and how many orbits of the declared exchanges they form."""
    names = [variable.name for variable in system.variables]

    def key(state: Values) -> tuple[int, ...]:
        return tuple(state[name] for name in names)

    def closed(
        start: Iterable[Values], grow: Callable[[Values], list[Values]]
    ) -> dict[tuple[int, ...], Values]:
        found = {key(state): state for state in start}
        new = list(found.values())
        while new:
            after = [state for old in new for state in grow(old)]
            new = list({key(state): state for state in after if key(state) not in found}.values())
            found |= {key(state): state for state in new}
        return found

    def moved(state: Values) -> list[Values]:
        return [exchanged(exchange, state) for family in system.families for exchange in family.exchanges]

    states = closed(system.initial, lambda state: [after for _, after in successors(system, state)])
    left, count = dict(states), 0
    while left:
        orbit = closed([next(iter(left.values()))], moved)
        assert orbit.keys() <= states.keys()
        for member in orbit:
            left.pop(member, None)
        count += 1
    return len(states), count


def test_symmetry_leaves_one_state_of_each_orbit() -> None:
    counted = 0
    for seed in range(40):
        system = threads(seed)
        names = [asked(seed)]
        try:
            found = reduced(system, [p for p in system.properties if p.name in names], SYMMETRY)
        except InputError:
            continue
        states, count = orbits(found.steps)
        assert explore(system, properties=names, stop="never", reduce=SYMMETRY).states == count
        counted += states > count
    assert counted >= 12


# Faults.


def _without_flips(exchange: Exchange, layout: Layout) -> canonical.PackedExchange:
    return replace(_packed(exchange, layout), flips=())


def _blind(system: TransitionSystem, flow: Flow, _observed: object, neutral: Collection[str]) -> object:
    return _resting(system, flow, [], neutral)


def _unchanged(system: TransitionSystem, _exchange: object, _invariant: object) -> dict[str, str]:
    return {step.name: step.name for step in system.transitions}


_packed, _resting = canonical._packed, dead_values._resting


@pytest.mark.parametrize(
    ("which", "module", "name", "fault", "seed"),
    [
        (DEAD, dead_values, "_live_before", lambda _flow, _edge, _after: frozenset(), 0),
        (DEAD, dead_values, "_resting", _blind, 0),
        (SYMMETRY, symmetry, "_valid", lambda _given, _condition: True, 0),
        (SYMMETRY, symmetry, "_changed", lambda *_: None, 0),
        (
            SYMMETRY,
            symmetry,
            "_exchanged_steps",
            _unchanged,
            0,
        ),
        (SYMMETRY, canonical, "_packed", _without_flips, 0),
        (ORDER, partial_order, "_keeps", lambda *_: True, 30),
        (ORDER, partial_order, "_touched", lambda _edge: frozenset(), 270),
        (ORDER, partial_order, "_can_go", lambda flow, labels: partial_order._at(flow, labels), 70),
        (ORDER, partial_order, "_without_cycles", lambda _flow, labels: frozenset(labels), 0),
    ],
    ids=[
        "guards and values read nothing",
        "what is asked reads nothing",
        "all conditions are the same",
        "initial states and questions do not matter",
        "steps do not matter",
        "indices stay as they are",
        "what is asked does not see",
        "other threads do not see",
        "a private label never waits",
        "cycles are private",
    ],
)
def test_a_planted_fault_is_noticed(
    which: tuple[Reduction, ...],
    module: object,
    name: str,
    fault: object,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, name, fault)
    assert next(differing(range(seed, seed + 60), which), None) is not None


# On models that are known.


def test_delivery_has_the_published_quotient() -> None:
    found = explore(avic_delivery(*SIZES["M"]), properties=DELIVERY, reduce=SYMMETRY)
    assert (found.states, found.depth, found.tier) == (666_826, 60, "compiled")
    assert found.reductions == ("symmetry of 2 vcpus",)
    assert found.never_fired == ()
    assert all(result.verdict is Verdict.HOLDS for result in found.results)


@every_tier
@every_reduction
def test_delivery_with_the_bug_is_violated(which: tuple[Reduction, ...], tier: Tier) -> None:
    system = avic_delivery(2, 2, 1, bug=True)
    found = explore(system, properties=DELIVERY[:1], reduce=which, tier=tier).results[0]
    assert found.verdict is Verdict.VIOLATED
    assert found.run is not None
    assert len(found.run.fired) == (11 if "partial-order" in which else 10)
    confirm(system, system.properties[0], found.run)


@pytest.mark.parametrize("known", KNOWN, ids=[known.name for known in KNOWN])
@pytest.mark.parametrize("which", [DEAD, ORDER], ids=" ".join)
def test_known_answers(known: Known, which: tuple[Reduction, ...]) -> None:
    names = [name for name in known.expected if not name.startswith("round-")]
    found = explore(known.encoding.system, properties=names, stop="never", reduce=which)
    verdicts = {result.property: result.verdict is Verdict.HOLDS for result in found.results}
    assert verdicts == {name: known.expected[name] for name in names}


def test_users_of_a_semaphore_are_interchangeable() -> None:
    (semaphore,) = (known for known in KNOWN if known.name.startswith("semaphore"))
    found = explore(semaphore.encoding.system, stop="never", reduce=SYMMETRY)
    assert (found.states, found.reductions) == (3, ("symmetry of 3 users",))


def test_locals_that_hold_nothing_any_more_are_dead() -> None:
    system = avic_delivery(1, 1, 2)
    kept = {"tgt0", "vec0", "sawg0"}
    untidy = replace(
        system,
        transitions=tuple(
            replace(
                step,
                updates={
                    name: value
                    for name, value in step.updates.items()
                    if name not in kept or "pick" in step.name or value.op is not ex.Op.CONST
                },
            )
            for step in system.transitions
        ),
    )
    tidied = explore(untidy, properties=DELIVERY, reduce=DEAD)
    assert explore(untidy, properties=DELIVERY).states > tidied.states == 22_901


# What is told, and what is refused.


def test_what_was_reduced_is_told() -> None:
    found = explore(avic_delivery(2, 1, 1, bug=True), properties=DELIVERY, reduce=ALL)
    assert found.reductions == (
        "dead values of 2 variables",
        "symmetry of 2 vcpus",
        "partial order with 1 private label",
    )
    assert [result.detail for result in found.results] == [
        "a run",
        "stopped when others were decided: all states up to depth 9 of the reduced system were seen",
    ]


def test_families_that_are_told_apart_are_named() -> None:
    system = avic_delivery(2, 2, 1)
    first = replace(system, initial=({**system.initial[0], "inhibit": 0, "reqev0": 1},))
    found = explore(first, properties=DELIVERY, reduce=SYMMETRY, max_states=100)
    assert found.reductions == (
        "symmetry of 2 senders, not of vcpus 0 and 1, which differ in the initial value of reqev0",
    )


@pytest.mark.parametrize(
    ("name", "which", "why"),
    [
        ("peterson", None, "of threads 0 and 1, which differ in the initial value of turn"),
        ("philosophers", None, "of philosophers 0 and 1, which differ in step philosopher[0].take_second"),
        ("IRIW", None, "of a model that has no instances"),
    ],
)
def test_a_model_whose_instances_differ_is_refused(name: str, which: None, why: str) -> None:
    system = next(known for known in KNOWN if known.model.name == name).encoding.system
    expected = rf"^{name}: Symmetry must be of instances that nothing tells apart, not {re.escape(why)}$"
    with pytest.raises(InputError, match=expected):
        explore(system, reduce=SYMMETRY)


def test_a_question_about_one_instance_is_refused() -> None:
    system = avic_delivery(2, 1, 1)
    with pytest.raises(InputError, match=r"of vcpus 0 and 1, which differ in property sleeps$"):
        explore(system, properties=["sleeps"], reduce=SYMMETRY)


def test_what_has_ended_must_not_tell_instances_apart() -> None:
    system = replace(avic_delivery(2, 1, 1), ended=ex.bool_var("wake0"))
    with pytest.raises(InputError, match=r"of vcpus 0 and 1, which differ in which states have ended$"):
        explore(system, properties=DELIVERY, reduce=SYMMETRY)


@pytest.mark.parametrize("which", [SYMMETRY, ORDER, ALL], ids=" ".join)
def test_leads_to_is_refused_where_it_would_not_be_sound(which: tuple[Reduction, ...]) -> None:
    system = threads(1)
    expected = rf"^then: --reduce must be dead alone, for leads-to, not {', '.join(which)}$"
    with pytest.raises(InputError, match=expected):
        reduced(system, system.properties[-1:], which)


def test_an_unknown_reduction_is_refused() -> None:
    expected = r'^--reduce must be one of dead, symmetry, partial-order, not "symetry"; did you mean'
    with pytest.raises(InputError, match=expected):
        explore(avic_delivery(1, 1, 1), reduce=["symetry"])  # type: ignore[list-item]


def test_too_many_permutations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reducing, "MAX_PERMUTATIONS", 5)
    expected = r"^avic-delivery-3-1-1: Symmetry must be of at most 5 permutations, not 6$"
    with pytest.raises(InputError, match=expected):
        explore(avic_delivery(3, 1, 1), properties=DELIVERY, reduce=SYMMETRY)


def test_private_labels_must_be_those_of_all_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    def uneven(*arguments: Any) -> partial_order.PartialOrder:
        return replace(partial_order.partial_order(*arguments), private={"spc0": frozenset({0})})

    monkeypatch.setattr(reducing, "partial_order", uneven)
    expected = r"Private labels must be the same of instances, not different ones of spc0 and spc1$"
    with pytest.raises(InputError, match=expected):
        explore(avic_delivery(1, 2, 1), properties=DELIVERY, reduce=("symmetry", "partial-order"))
