"""Orbits have as many states as exchanges lead to."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from avicheck.checker import orbits
from avicheck.checker.errors import InputError
from avicheck.checker.explore import Contradiction, explore
from avicheck.checker.orbits import orbit_total
from avicheck.encodings.packing import layout
from avicheck.encodings.transition import Exchange, TransitionSystem
from tests.benchmarks.avic_delivery import SIZES, avic_delivery
from tests.random_threads import threads
from tests.test_encodings_canonical import instances, orbit, states


def total(system: TransitionSystem, chosen: list[dict[str, int]]) -> int | None:
    """The sizes of some states' orbits in all."""
    form = layout(system)
    packed = b"".join(form.pack(state).to_bytes(form.words * 8, "little") for state in chosen)
    return orbit_total(packed, form, system.families)


@pytest.mark.parametrize("widths", [[1, 2, 3], [30, 40, 60]], ids=["one word", "some"])
def test_the_total_is_that_of_all_orbits(widths: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orbits, "_CHUNK", 3)
    for seed in range(20):
        chance = random.Random(seed)
        system = instances(chance, widths)
        chosen = [dict(state) for state in states(system, chance, 8)]
        assert total(system, chosen) == sum(len(orbit(system, state)) for state in chosen)


def test_too_many_permutations_are_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orbits, "MAX_PERMUTATIONS", 3)
    system = instances(random.Random(0), [1])
    assert total(system, [dict.fromkeys((v.name for v in system.variables), 0)]) is None


def test_exchanges_that_are_no_group_are_noticed() -> None:
    system = instances(random.Random(0), [1])
    first = replace(system.families[0], exchanges=(system.families[0].exchanges[0], Exchange((), {})))
    broken = replace(system, families=(first,))
    chosen = [dict(state) for state in states(broken, random.Random(1), 50)]
    with pytest.raises(Contradiction, match=" of 6 permutations leave a state as it is"):
        total(broken, chosen)


def test_representatives_stand_for_what_the_full_search_finds() -> None:
    counted = 0
    for seed in range(80):
        system = replace(threads(seed), properties=())
        try:
            found = explore(system, reduce=["symmetry"], stop="never", tier="interpreted")
        except InputError:
            continue
        if found.orbits is not None:
            everything = explore(system, stop="never", tier="interpreted")
            assert found.orbits == everything.states
            counted += found.states < everything.states
    assert counted >= 5


def test_compiled_representatives_do_too() -> None:
    system = avic_delivery(1, 2, 1)
    found = explore(system, properties=[], reduce=["symmetry"], stop="never", tier="compiled")
    assert (found.states, found.orbits) == (36_749, 67_084)
    assert explore(system, properties=[], stop="never").states == 67_084


def test_what_was_reduced_otherwise_too_stands_for_an_unknown_number() -> None:
    system = avic_delivery(*SIZES["XS"])
    assert explore(system, reduce=["dead"]).orbits is None
    system = avic_delivery(1, 2, 1)
    assert explore(system, properties=[], reduce=["symmetry", "partial-order"]).orbits is None
