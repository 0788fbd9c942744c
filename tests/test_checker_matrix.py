"""``avicheck matrix``: what a property relies on, found by going through every combination."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import systems
from avicheck.checker.check_system import Request, decide
from avicheck.checker.cli import main
from avicheck.checker.engines import Limits
from avicheck.checker.matrix import as_text, plan, smaller
from avicheck.checker.matrix_runs import Cell, Matrix, chosen_with, fill
from avicheck.checker.systems import Choices, instance
from avicheck.checker.verdict import Verdict
from tests.known import chosen, described, relying

LOCK, WEAK, WEAKER, CLOCK, GREEN = (
    ("lock", "none"),
    ("order", "weak"),
    ("order", "weaker"),
    ("clock", "wrong"),
    ("colour", "green"),
)


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models are registered; work is done in this process."""
    points = {"relying": relying.POINT, "counter": chosen.POINT}
    monkeypatch.setattr(systems, "registered", lambda: points)


def filled(
    *, names: tuple[str, ...] = (), vary: tuple[str, ...] = (), deviations: int | None = None
) -> Matrix:
    found = plan(instance("relying"), names, vary, deviations, 100)
    fill(found, "explicit", Limits(60.0), 1)
    return found


def avicheck(*args: str) -> Result:
    return CliRunner().invoke(main, ["matrix", *args])


def test_every_combination_is_gone_through() -> None:
    found = plan(instance("relying"), (), (), None, 100)
    assert len(found.combinations) == len(set(found.combinations)) == 2 * 3 * 2 * 2


def test_the_defaults_come_first_then_the_fewest_deviations() -> None:
    found = plan(instance("relying"), (), (), None, 100)
    assert found.combinations[0] == frozenset()
    assert [len(each) for each in found.combinations] == sorted(len(each) for each in found.combinations)


def test_minimal_violations_are_what_the_property_relies_on() -> None:
    assert set(filled().minimal("right")) == {
        frozenset({LOCK, WEAK}),
        frozenset({LOCK, WEAKER}),
        frozenset({CLOCK}),
    }


def test_maximal_combinations_are_what_it_bears() -> None:
    assert set(filled().maximal("right")) == {
        frozenset({LOCK, GREEN}),
        frozenset({WEAK, GREEN}),
        frozenset({WEAKER, GREEN}),
    }


def test_a_property_that_relies_on_nothing() -> None:
    found = filled(names=("in-time",))
    assert (found.minimal("in-time"), len(found.under("in-time", [Verdict.HOLDS]))) == ([], 24)
    assert "  Relies on none of them." in as_text(found)


def test_what_no_property_depends_on_is_not_varied() -> None:
    found = filled(names=("right",), vary=("colour",))
    assert (found.explored, found.irrelevant["right"]) == (1, frozenset({"colour"}))
    assert len(found.under("right", [Verdict.HOLDS])) == 2


def test_what_follows_is_not_explored() -> None:
    found = filled(names=("in-time",), vary=("order",))
    assert found.explored < len(found.combinations) == 3


def test_every_cell_is_what_check_says() -> None:
    found = filled()
    for one in found.combinations:
        names = tuple(found.properties)
        report = decide(Request(chosen_with(found.instance, one), names, "explicit", Limits(60.0)))
        for name, result in report.results.items():
            assert found.cells[name][one].verdict is result.verdict, (name, one)


def test_what_is_shown_was_explored() -> None:
    found = filled()
    shown = [found.cells[name][one] for name in found.properties for one in found.minimal(name)]
    assert shown
    assert all(cell.run is not None and not cell.follows for cell in shown)


def test_deadlocks_are_looked_for_where_that_is_asked() -> None:
    assert "deadlock-free" not in filled().properties
    found = filled(names=("deadlock-free",), vary=("order",))
    assert len(found.under("deadlock-free", [Verdict.HOLDS])) == 3


def test_deviations_are_limited() -> None:
    found = filled(deviations=1)
    assert max(len(each) for each in found.combinations) == 1
    assert found.minimal("right") == [frozenset({CLOCK})]


def test_what_is_fixed_is_not_varied() -> None:
    fixed = instance("relying", Choices(assumed={"clock": "wrong"}))
    found = plan(fixed, ("right",), (), None, 100)
    assert "clock" not in [each.name for each in found.varied]
    fill(found, "explicit", Limits(60.0), 1)
    assert found.under("right", [Verdict.HOLDS]) == []
    assert "  Fails under every one of them." in as_text(found)


def test_what_is_open_is_neither_held_nor_violated() -> None:
    found = filled(names=("right",), vary=("clock",))
    found.cells["right"][frozenset()] = Cell(Verdict.UNKNOWN, None, None, "", 0.0)
    assert (found.maximal("right"), found.verdict) == ([], Verdict.UNKNOWN)
    assert "open under 1" in as_text(found)


def test_a_missing_cell_leaves_it_open() -> None:
    found = filled(names=("right",), vary=("clock",))
    del found.cells["right"][frozenset()]
    assert found.verdict is Verdict.UNKNOWN


def test_a_tool_error_is_one() -> None:
    found = filled(names=("right",), vary=("clock",))
    found.cells["right"][frozenset()] = Cell(Verdict.TOOL_ERROR, None, None, "", 0.0)
    assert found.verdict is Verdict.TOOL_ERROR


def test_ctrl_c_keeps_what_is_decided() -> None:
    def interrupt(*_args: Any) -> None:
        raise KeyboardInterrupt

    found = plan(instance("relying"), ("right",), ("clock", "lock"), None, 100)
    fill(found, "explicit", Limits(60.0), 1, interrupt)
    assert (found.interrupted, found.verdict, found.explored) == (True, Verdict.UNKNOWN, 1)
    assert 0 < len(found.cells["right"]) < 4


def test_an_interrupted_matrix_says_what_it_covers() -> None:
    found = filled(names=("right",), vary=("clock", "lock"))
    found.interrupted = True
    del found.cells["right"][frozenset({CLOCK, LOCK})]
    covered = "interrupted: 3 are decided; among them all with at most 1 deviation."
    assert covered in " ".join(as_text(found).split())


def test_sizes_for_many_variants_are_taken_unless_the_user_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert smaller(instance("secure-avic")).scope["senders"] == 1
    assert smaller(instance("secure-avic", Choices(scope={"senders": 2}))).scope["senders"] == 2


def test_report(snapshot: SnapshotAssertion) -> None:
    assert as_text(replace(filled(names=("right", "in-time")), seconds=0.0)) == snapshot


def test_command() -> None:
    result = avicheck("relying", "--property", "right", "--vary", "clock", "--json", "--jobs", "1")
    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert told["properties"]["right"]["violated as soon as"] == [{"clock": "wrong"}]
    assert told["properties"]["right"]["holds even with"] == [{}]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("relying", "--vary", "clok"),
            'relying: --vary must be one of lock, order, clock, colour, not "clok"; did you mean clock?',
        ),
        (
            ("relying", "--property", "wrong"),
            'relying: --property must be one of right, in-time, steps-succeed, deadlock-free, not "wrong"',
        ),
        (
            ("relying", "--most", "3"),
            "relying: Combinations must be at most 3, not more; choose with --vary, --deviations or --most",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(args: tuple[str, ...], message: str) -> None:
    result = avicheck(*args)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"avicheck: {message}\n")


def test_a_model_without_assumptions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systems, "registered", lambda: described.POINTS)
    result = avicheck("philosophers")
    message = "avicheck: Model must be one with assumptions to vary, not philosophers\n"
    assert (result.exit_code, result.stderr) == (3, message)
