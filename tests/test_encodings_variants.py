"""A model under every combination of its assumptions, lifted once."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from typing import Any

import pytest

from avicheck.checker.explore import explore
from avicheck.encodings.machine import machine
from avicheck.encodings.transition import Property
from avicheck.encodings.variants import Variants, cone, variants
from avicheck.spec.machine import Machine, MemoryModel
from avicheck.spec.secure_avic_asked import ASSUMPTIONS, SECURE_AVIC
from avicheck.spec.secure_avic_page import PAGE_MODEL, Rmp, Zaps
from avicheck.spec.secure_avic_run import Traffic
from tests.known.relying import RELYING, Clock, Colour, Lock, Order

SMALL = {"senders": 1, "store_buffer": 2}
TRAFFIC = {Traffic.IPIS, Traffic.ONCE}
DEFAULTS = {each.default for each in ASSUMPTIONS}


def relying() -> Variants:
    kinds: dict[str, type[Enum]] = {"lock": Lock, "order": Order, "clock": Clock, "colour": Colour}
    return variants(
        Machine(RELYING.model, {}, "sc", {Lock.HELD, Order.STRONG, Clock.RIGHT, Colour.RED}), kinds
    )


def secure_avic(memory: MemoryModel) -> Variants:
    general = Machine(SECURE_AVIC, SMALL, memory, TRAFFIC | DEFAULTS)
    return variants(general, {each.name: each.alternatives for each in ASSUMPTIONS})


def prop(found: Variants, name: str) -> Property:
    return next(each for each in found.system.properties if each.name == name)


@pytest.mark.parametrize("memory", ["sc", "tso"])
@pytest.mark.parametrize(
    "assumption",
    [each for each in ASSUMPTIONS if each.name in ("intercept", "halt-test", "entry-fence", "irr-update")],
    ids=lambda each: each.name,
)
def test_a_combination_is_the_model_that_is_built_with_it(memory: MemoryModel, assumption: Any) -> None:
    found = secure_avic(memory)
    options = TRAFFIC | DEFAULTS - {assumption.default} | {list(assumption.alternatives)[1]}
    initial = found.initial(Machine(SECURE_AVIC, SMALL, memory, options))
    ours = explore(replace(found.system, initial=initial), stop="never", tier="interpreted")
    direct = explore(machine(SECURE_AVIC, SMALL, memory, options), stop="never", tier="interpreted")
    assert (ours.states, ours.transitions, ours.depth) == (direct.states, direct.transitions, direct.depth)
    assert [each.verdict for each in ours.results] == [each.verdict for each in direct.results]


def test_what_a_model_starts_with_may_depend_on_assumptions() -> None:
    found = variants(
        Machine(PAGE_MODEL, {}, "sc", {Rmp.SMALL_ENTRY, Zaps.NO_ZAPS}), {"rmp": Rmp, "zaps": Zaps}
    )
    (large,) = found.initial(Machine(PAGE_MODEL, {}, "sc", {Rmp.LARGE_ENTRY, Zaps.NO_ZAPS}))
    (small,) = found.system.initial
    assert sorted(name for name in small if small[name] != large[name]) == ["assume.rmp", "large"]


def test_states_without_assumptions_are_the_models() -> None:
    found = relying()
    assert found.without_assumptions(found.system.initial[0]) == {"wrong": 0, "late": 0}


def test_relevant_is_what_is_read_on_the_way_to_the_property() -> None:
    found = relying()
    assert found.relevant([prop(found, "right")]) == {"lock", "order", "clock"}
    assert found.relevant([prop(found, "in-time")]) == frozenset()


def test_cone_leaves_out_what_is_only_written() -> None:
    found = secure_avic("sc")
    seen = cone(found.system, [prop(found, "sleeps-on")])
    assert {"kvm_irr", "asleep", "target.pc"} <= seen
    assert not seen & {"owed", "promised", "raised", "spurious", "wrong_eoi"}


def test_an_alternative_that_only_lets_more_happen_is_an_addition() -> None:
    found = relying()
    assert found.additions(prop(found, "in-time")) >= {("colour", "red", "green")}
    assert not any(name == "clock" for name, _, _ in found.additions(prop(found, "right")))
    added = secure_avic("tso")
    intercept = {each for each in added.additions(prop(added, "sleeps-on")) if each[0] == "intercept"}
    assert intercept == {("intercept", "idle-hlt", "plain-hlt")}


def test_an_alternative_that_changes_what_a_step_does_is_none() -> None:
    found = secure_avic("sc")
    changing = {"halt-test", "irr-update", "requested-after-entry", "spiv-notice", "tmr"}
    assert not {name for name, _, _ in found.additions(prop(found, "sleeps-on"))} & changing
