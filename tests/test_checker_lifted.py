"""Lifted models are kept, found again only for the same code and the same choices, and are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from avicheck.checker import lifted
from avicheck.checker.lifted import encoding
from avicheck.encodings.machine import encode
from avicheck.encodings.persist import dumped, loaded
from avicheck.encodings.transition import TransitionSystem, successors
from avicheck.spec.apicv_inhibit_nested import DESCRIPTION
from avicheck.spec.machine import Machine, MemoryModel
from tests import random_systems
from tests.benchmarks.avic_delivery import avic_delivery
from tests.known.catalogue import KNOWN

MODEL = DESCRIPTION.model
SCOPE = {name: size.usual for name, size in DESCRIPTION.scope.items()}
OPTIONS = frozenset().union(
    DESCRIPTION.kernels[DESCRIPTION.kernel], (assumption.default for assumption in DESCRIPTION.assumptions)
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "avicheck" / "lifted"


@pytest.fixture
def lifts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that are lifted from now on."""
    names: list[str] = []

    def counted(machine: Machine[Any]) -> Any:
        names.append(machine.model.name)
        return encode(machine)

    monkeypatch.setattr(lifted, "encode", counted)
    return names


def nested(memory: MemoryModel = "sc", **sizes: int) -> Machine[Any]:
    return Machine(
        MODEL, {**SCOPE, **({"store_buffer": 1} if memory == "tso" else {}), **sizes}, memory, OPTIONS
    )


@pytest.mark.parametrize("memory", ["sc", "tso"])
def test_what_is_kept_is_what_was_lifted(memory: MemoryModel, lifts: list[str]) -> None:
    first, second = encoding(nested(memory)), encoding(nested(memory))
    assert lifts == [MODEL.name]
    assert second.system == first.system
    (start,) = first.system.initial
    world = second.state(start)
    assert second.values(world) == start
    kinds = MODEL.threads
    assert [second.machine.stores(kind) for kind in kinds] == [first.machine.stores(kind) for kind in kinds]
    reached = {frozenset(second.values(after).items()) for _, after in second.machine.successors(world)}
    assert reached == {frozenset(after.items()) for _, after in successors(first.system, start)}


def test_other_choices_are_lifted_anew(lifts: list[str]) -> None:
    encoding(nested())
    encoding(nested("tso"))
    encoding(nested("tso", store_buffer=2))
    encoding(Machine(MODEL, SCOPE, "sc", list(OPTIONS)[1:]))
    assert len(lifts) == 4


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setattr(lifted, "_sources", lambda: iter([b"another text"])),
        lambda patch: patch.setattr(
            MODEL.threads[0].steps[0].function, "__code__", (lambda cpu, my: None).__code__
        ),
    ],
    ids=["source", "function"],
)
def test_other_code_is_lifted_anew(
    change: Callable[[pytest.MonkeyPatch], None], lifts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoding(nested())
    with pytest.MonkeyPatch.context() as patch:
        change(patch)
        try:
            encoding(nested())
        except Exception:  # what is no step any more cannot be lifted
            assert len(lifts) == 2
    assert len(lifts) == 2


def test_a_model_that_is_not_of_the_specification_is_not_kept(home: Path, lifts: list[str]) -> None:
    machine = KNOWN[0].encoding.machine
    assert encoding(machine).system == encoding(machine).system
    assert len(lifts) == 2
    assert not home.exists()


def test_what_is_damaged_is_lifted_anew(home: Path, lifts: list[str]) -> None:
    first = encoding(nested())
    (entry,) = home.iterdir()
    content = bytearray(entry.read_bytes())
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)
    assert encoding(nested()).system == first.system
    assert len(lifts) == 2


def same(system: TransitionSystem) -> bool:
    """Whether a system comes back as it was, its expressions the same objects."""
    back = loaded(dumped(system))
    guards = zip((t.guard for t in system.transitions), (t.guard for t in back.transitions), strict=True)
    return back == system and all(a is b for a, b in guards)


@settings(max_examples=50, deadline=None)
@given(random_systems.systems())
def test_systems_come_back_from_bytes(system: TransitionSystem) -> None:
    assert same(system)


def test_known_systems_come_back_from_bytes() -> None:
    systems = [avic_delivery(3, 2, 2), *(known.encoding.system for known in KNOWN)]
    assert all(map(same, systems))
