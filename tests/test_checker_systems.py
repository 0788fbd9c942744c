"""What a user may choose about a concurrent model, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from avicheck.checker import systems
from avicheck.checker.cli import main
from avicheck.checker.errors import InputError
from avicheck.checker.systems import Choices, heading, instance, registered
from avicheck.spec import description
from avicheck.spec.machine import STORE_BUFFER, MemoryModel
from tests.known.chosen import POINT, Extra, Repair, Reset


@pytest.fixture(autouse=True)
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model is registered."""
    monkeypatch.setattr(systems, "registered", lambda: {"counter": POINT})


def test_every_description_in_the_specification_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    folder = Path(description.__file__).parent
    declared = {
        f"avicheck.spec.{path.stem}:{name}"
        for path in folder.glob("*.py")
        for name in re.findall(r"^(\w*DESCRIPTION)\b.* = ", path.read_text(), re.MULTILINE)
    }
    assert set(registered().values()) == declared


def test_every_registered_model_is_found_by_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert {name: systems.description(name).model.name for name in registered()} == {
        name: name for name in registered()
    }


def test_every_registered_model_can_be_built_as_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for name in registered():
        for kernel in systems.description(name).kernels:
            assert instance(name, Choices(kernel)).kernel == kernel


@pytest.mark.parametrize("memory", systems.MEMORY_MODELS)
@pytest.mark.parametrize("name", registered())
def test_every_registered_model_can_be_lifted_at_its_least_sizes(
    name: str, memory: MemoryModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    scope = {size: number.least for size, number in systems.description(name).scope.items()}
    assert instance(name, Choices(scope=scope, memory=memory)).system.transitions


def test_what_is_left_out_is_the_model_s_own_choice() -> None:
    usual = instance("counter")
    assert (usual.kernel, usual.scope, usual.memory) == ("new", {"counters": 1, "limit": 3}, "sc")
    assert usual.options == {Repair.STOP, Reset.NEVER}


def test_a_size_is_taken() -> None:
    assert instance("counter", Choices(scope={"counters": 2})).scope == {"counters": 2, "limit": 3}


def test_a_kernel_brings_its_options() -> None:
    assert instance("counter", Choices(kernel="old")).options == {Reset.NEVER}


def test_switches_add_and_remove() -> None:
    switched = instance("counter", Choices(on=("two-steps",), off=("stop",)))
    assert switched.options == {Extra.TWO_STEPS, Reset.NEVER}
    assert switched.differences == ([Extra.TWO_STEPS], [Repair.STOP])


def test_switching_on_what_the_kernel_has_is_no_difference() -> None:
    assert instance("counter", Choices(on=("stop",))).differences == ([], [])


def test_an_assumption_has_one_alternative() -> None:
    assumed = instance("counter", Choices(assumed={"reset": "any-time"}))
    assert assumed.options == {Repair.STOP, Reset.ANY_TIME}
    assert assumed.assumed == {"reset": Reset.ANY_TIME}


def test_store_buffers_are_a_size_under_tso_only() -> None:
    assert instance("counter", Choices(memory="tso")).scope[STORE_BUFFER] == 2
    assert STORE_BUFFER not in instance("counter").scope


def test_the_system_is_built_with_what_was_chosen() -> None:
    system = instance("counter", Choices(scope={"counters": 2})).system
    assert {transition.thread for transition in system.transitions} == {"counter[0]", "counter[1]"}


def test_heading_says_what_was_chosen() -> None:
    chosen = instance("counter", Choices("old", on=("two-steps",), assumed={"reset": "any-time"}))
    assert heading(chosen, 75) == [
        "counter as kernel old; counters=1, limit=3; sequential consistency.",
        "With: two-steps: counting two at a time is possible",
        "Assumed: reset=any-time: it may be reset at any time",
    ]


def test_identity_is_what_was_chosen() -> None:
    chosen = instance("counter", Choices("old", {"counters": 2}, "tso", on=("two-steps",)))
    assert chosen.as_json() == {
        "model": "counter",
        "kernel": "old",
        "scope": {"counters": 2, "limit": 3, "store_buffer": 2},
        "memory": "tso",
        "with": ["two-steps"],
        "without": [],
        "assume": {"reset": "never"},
    }


@pytest.mark.parametrize(
    ("model", "chosen", "message"),
    [
        ("countr", Choices(), 'Model must be one of counter, not "countr"; did you mean counter?'),
        (
            "counter",
            Choices(kernel="nw"),
            'counter: --kernel must be one of old, new, not "nw"; did you mean new?',
        ),
        (
            "counter",
            Choices(scope={"limits": 1}),
            'counter: --scope must be one of counters, limit, not "limits"; did you mean limit?',
        ),
        ("counter", Choices(scope={"counters": 4}), "counter: --scope counters must be from 1 to 3, not 4"),
        ("counter", Choices(scope={"limit": 4}), "counter: --scope limit must be 3, not 4"),
        (
            "counter",
            Choices(scope={"store_buffer": 2}),
            'counter: --scope must be one of counters, limit, not "store_buffer"',
        ),
        (
            "counter",
            Choices(on=("twosteps",)),
            'counter: --with must be one of stop, two-steps, not "twosteps"; did you mean two-steps?',
        ),
        ("counter", Choices(off=("x",)), 'counter: --without must be one of stop, two-steps, not "x"'),
        (
            "counter",
            Choices(on=("stop",), off=("stop",)),
            "counter: stop must be switched on or off, not both",
        ),
        (
            "counter",
            Choices(assumed={"rest": "never"}),
            'counter: --assume must be one of reset, not "rest"; did you mean reset?',
        ),
        (
            "counter",
            Choices(assumed={"reset": "anytime"}),
            'counter: --assume reset must be one of never, any-time, not "anytime"; did you mean any-time?',
        ),
    ],
)
def test_what_cannot_be_chosen_is_refused(model: str, chosen: Choices, message: str) -> None:
    with pytest.raises(InputError) as raised:
        instance(model, chosen)
    assert str(raised.value) == message


def test_choices_come_from_the_command_line(tmp_path: Path) -> None:
    options = ("--scope", "counters=2", "--kernel", "old", "--assume", "reset=any-time", "--memory", "tso")
    output = CliRunner().invoke(main, ["export", "counter", "--to", "tla", *options]).output
    assert "counter[1].reset" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--scope", "counters"), '--scope must be a name and a number, such as vcpus=2, not "counters"'),
        (("--scope", "=2"), '--scope must be a name and a number, such as vcpus=2, not "=2"'),
        (("--scope", "counters=²"), '--scope must be a name and a number, such as vcpus=2, not "counters=²"'),
        (("--scope", "counters=0"), "counter: --scope counters must be from 1 to 3, not 0"),
        (
            ("--scope", "counters=1", "--scope", "counters=2"),
            "--scope must be given once for each name, not twice for counters",
        ),
        (
            ("--assume", "reset"),
            '--assume must be a name and an alternative, such as idle-hlt=off, not "reset"',
        ),
        (
            ("--assume", "reset=never", "--assume", "reset=never"),
            "--assume must be given once for each name, not twice for reset",
        ),
        (("--memory", "pso"), '--memory must be one of sc, tso, not "pso"; did you mean tso?'),
    ],
)
def test_malformed_choices_are_refused(options: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(main, ["export", "counter", "--to", "tla", *options])
    assert (result.exit_code, result.stderr) == (3, f"avicheck: {message}\n")
