"""Which instances a model has, and whether anything tells them apart."""

from __future__ import annotations

from dataclasses import replace

import pytest

from avicheck.encodings.dead_values import without_dead_values
from avicheck.encodings.expr import TRUE, and_, bool_var, constant, eq, int_var, not_
from avicheck.encodings.symmetry import Automorphism, Broken, automorphisms, exchanged
from avicheck.encodings.transition import Exchange, Family, Transition, TransitionSystem, Variable
from tests.benchmarks.avic_delivery import avic_delivery
from tests.known.catalogue import KNOWN

# Families of concurrent models.


def families_of(name: str) -> dict[str, Family]:
    found = next(known for known in KNOWN if known.name == name).encoding.system.families
    return {family.name: family for family in found}


def test_instances_of_threads_and_arrays_of_one_size_are_one_family() -> None:
    (exchange,) = families_of("peterson sc")["threads"].exchanges
    assert set(exchange.variables) == {("flag[0]", "flag[1]"), ("peterson[0].pc", "peterson[1].pc")}
    assert exchange.values == {"turn": ((0, 1),)}


def test_slots_of_store_buffers_stand_for_places() -> None:
    (exchange,) = families_of("peterson tso")["threads"].exchanges
    slots = {f"peterson[{i}].buffer[{k}].at": ((1, 2),) for i in (0, 1) for k in (0, 1)}
    assert exchange.values == {"turn": ((0, 1),), **slots}
    assert ("peterson[0].buffer[1].value", "peterson[1].buffer[1].value") in exchange.variables


def test_neighbours_are_exchanged_in_order() -> None:
    family = families_of("philosophers sc")["philosophers"]
    assert [exchange.variables[0] for exchange in family.exchanges] == [
        ("fork[0]", "fork[1]"),
        ("fork[1]", "fork[2]"),
    ]


def test_threads_without_labels_and_places_without_index_have_no_variables() -> None:
    family = families_of("token-ring sc")["stations"]
    assert [exchange.variables for exchange in family.exchanges] == [(), (), ()]
    assert [exchange.values["token"] for exchange in family.exchanges] == [((0, 1),), ((1, 2),), ((2, 3),)]


def test_a_model_without_sizes_has_no_families() -> None:
    assert families_of("SB sc") == {}


# Automorphisms.

DELIVERY = avic_delivery(2, 2, 1)
VCPUS, SENDERS = DELIVERY.families


def checked(system: TransitionSystem, family: Family) -> list[Automorphism] | Broken:
    pointers = {name for exchange in family.exchanges for name in exchange.values}
    asked = system.properties[0].holds
    dead = without_dead_values(system, [asked], only=pointers, neutral=pointers)
    conditions = {"no-lost-interrupt": dead.system.properties[0].holds}
    return automorphisms(dead.system, conditions, family, dead.invariant)


def test_each_step_becomes_the_same_of_the_other_instance() -> None:
    found = checked(DELIVERY, VCPUS)
    assert isinstance(found, list)
    (automorphism,) = found
    for step, other in automorphism.steps.items():
        if step.startswith("vcpu"):
            assert other == step.translate({ord("0"): "1", ord("1"): "0"})
    assert automorphism.steps["sender0.pick0.0"] == "sender0.pick1.0"
    assert automorphism.steps["sender1.rdmode"] == "sender1.rdmode"


@pytest.mark.parametrize("family", [VCPUS, SENDERS], ids=lambda family: family.name)
def test_delivery_has_both_symmetries(family: Family) -> None:
    assert isinstance(checked(DELIVERY, family), list)


def test_a_family_that_is_declared_wrong_is_broken() -> None:
    (exchange,) = VCPUS.exchanges
    forgotten = replace(VCPUS, exchanges=(replace(exchange, variables=exchange.variables[1:]),))
    assert str(checked(DELIVERY, forgotten)) == "vcpus 0 and 1, which differ in step vcpu0.run"
    unpointed = replace(VCPUS, exchanges=(replace(exchange, values={}),))
    assert str(checked(DELIVERY, unpointed)) == "vcpus 0 and 1, which differ in step sender0.setirr0"


def test_a_step_of_one_instance_alone_breaks_the_symmetry() -> None:
    extra = Transition(
        "sender1.more", "sender1", "more", eq(int_var("spc1", 0, 7), constant(3)), {"sawg1": TRUE}
    )
    system = replace(DELIVERY, transitions=(*DELIVERY.transitions, extra))
    assert str(checked(system, SENDERS)) == "senders 0 and 1, which differ in step sender1.more"


def test_a_guard_that_is_written_in_another_way_is_the_same() -> None:
    x = [Variable(f"x[{i}]", 0, 2) for i in range(2)]
    first = eq(x[0].expr, constant(2))
    second = and_(not_(eq(x[1].expr, constant(0))), not_(eq(x[1].expr, constant(1))))
    steps = tuple(
        Transition(f"s{i}", "t", "s", guard, {f"x[{i}]": constant(0)})
        for i, guard in enumerate([first, second])
    )
    family = Family("x", (Exchange((("x[0]", "x[1]"),), {}),))
    system = TransitionSystem("s", tuple(x), ({"x[0]": 2, "x[1]": 2},), steps, (), TRUE, (family,))
    found = automorphisms(system, {}, family)
    assert isinstance(found, list)
    assert found[0].steps == {"s0": "s1", "s1": "s0"}


def test_an_exchange_undoes_itself() -> None:
    state = {**DELIVERY.initial[0], "tgt0": 1, "tgt1": 0, "irr0": 1, "pc1": 5}
    (exchange,) = VCPUS.exchanges
    after = exchanged(exchange, state)
    assert (after["tgt0"], after["tgt1"], after["irr1"], after["pc0"]) == (0, 1, 1, 5)
    assert exchanged(exchange, after) == state


def test_what_is_known_of_every_state_must_be_symmetric_too() -> None:
    found = automorphisms(DELIVERY, {}, SENDERS, not_(bool_var("sawg0")))
    assert str(found) == "senders 0 and 1, which differ in what is known of every state"
