"""``avicheck check`` and ``avicheck find`` on concurrent models."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import (
    by_model,
    check_system,
    explore,
    fair_lasso,
    progress,
    symbolic,
    systems,
    trace_shortest,
)
from avicheck.checker.check_system import Report, Request, as_text, decide
from avicheck.checker.cli import main
from avicheck.checker.engine import EngineResult
from avicheck.checker.engines import Limits, property_of
from avicheck.checker.presented import presented
from avicheck.checker.systems import Choices, instance
from avicheck.checker.trace import load
from avicheck.checker.trace_replay import replayed
from avicheck.checker.trace_shortest import Chosen
from avicheck.checker.verdict import Verdict
from tests.known.chosen import POINT


@pytest.fixture(autouse=True)
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model is registered."""
    monkeypatch.setattr(systems, "registered", lambda: {"counter": POINT})
    monkeypatch.setattr(by_model, "registered", lambda: {"counter": POINT})


def avicheck(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def checked(*args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(avicheck("check", "counter", "--json", *args).stdout)
    return found


def verdicts(found: dict[str, Any]) -> dict[str, str]:
    return {prop["name"]: prop["verdict"] for prop in found["properties"]}


ALL = ("below", "at-40", "two", "goes-on", "steps-succeed", "deadlock-free")


def test_every_property_gets_a_verdict() -> None:
    found = checked()
    assert verdicts(found) == dict.fromkeys(ALL, "holds")
    assert found["verdict"] == "holds"


def test_a_fix_out_violates_a_property() -> None:
    found = checked("--kernel", "old")
    assert verdicts(found) == {**dict.fromkeys(ALL, "holds"), "below": "violated"}
    assert avicheck("check", "counter", "--kernel", "old").exit_code == 1


def test_a_trace_is_a_shortest_run() -> None:
    below = checked("--kernel", "old")["properties"][0]
    assert below["trace"]["fired"] == ["counter[0].count(by=1)"] * 4
    assert [state["n"] for state in below["trace"]["states"]] == [0, 1, 2, 3, 4]


def test_only_named_properties_are_decided() -> None:
    assert list(verdicts(checked("--property", "two", "--property", "at-40"))) == ["at-40", "two"]


@pytest.mark.parametrize("engine", ["explicit", "bmc", "induction", "ic3"])
def test_every_engine_finds_the_violation(engine: str) -> None:
    found = checked("--kernel", "old", "--engine", engine, "--property", "below")
    assert verdicts(found) == {"below": "violated"}
    assert found["properties"][0]["engine"].startswith(engine)


def test_bounded_is_told_apart_from_exhaustive() -> None:
    result = avicheck("check", "counter", "--engine", "bmc", "--depth", "2", "--property", "below")
    assert result.exit_code == 6
    assert "holds to depth n: 1 holds to depth n" in result.stdout.splitlines()


def test_a_limit_of_states_leaves_it_open() -> None:
    result = avicheck("check", "counter", "--max-states", "2", "--property", "below")
    assert result.exit_code == 2
    assert "stopped at the limit of states" in result.stdout
    assert "Not exhaustive: what was explored" in result.stdout


def test_ctrl_c_leaves_what_was_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(instance("counter"), (), "explicit", Limits())
    advance = explore._Exploring.advance

    def interrupted(exploring: Any) -> Any:
        if exploring.depth == 1:
            signal.raise_signal(signal.SIGINT)
        return advance(exploring)

    monkeypatch.setattr(explore._Exploring, "advance", interrupted)
    report = decide(request)
    assert (report.interrupted, report.exit_code) == (True, 5)
    assert report.exploration is not None
    assert "interrupted: all states up to depth" in as_text(report)
    assert "not decided  goes-on" in as_text(report)


def test_ctrl_c_leaves_what_was_covered_for_leads_to(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(fair_lasso, "region", interrupted)
    result = avicheck("check", "counter", "--property", "goes-on", "--property", "two")
    assert result.exit_code == 5
    assert "interrupted: all states up to depth" in result.stdout
    assert "1 holds, 1 unknown" in result.stdout


def test_leads_to_tells_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "PROGRESS_EVERY", 0.0)
    monkeypatch.setattr(fair_lasso, "PROGRESS_EVERY", 0.0)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    lines = avicheck("check", "counter", "--property", "goes-on").stderr.splitlines()
    assert lines[0].startswith("depth 0, frontier ")
    assert lines[-1].startswith("between cause and target: depth ")


def test_an_interrupt_of_another_engine_tells_how_far_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object, **_options: object) -> EngineResult:
        return EngineResult(
            "bmc", "below", Verdict.UNKNOWN, None, None, None, 7, 0.0, "interrupted, at 8 steps"
        )

    monkeypatch.setattr(symbolic, "bmc", interrupted)
    report = decide(Request(instance("counter"), (), "bmc", Limits(), None, None))
    assert (report.interrupted, report.exit_code) == (True, 5)
    assert list(report.results) == ["below"]
    assert "bmc: interrupted, at 8 steps" in as_text(report)


def test_a_checkpoint_is_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "check.point"
    stopped = checked("--checkpoint", str(path), "--max-states", "2", "--property", "below")
    assert (stopped["verdict"], path.exists()) == ("unknown", True)
    assert verdicts(checked("--checkpoint", str(path), "--property", "below")) == {"below": "holds"}


@pytest.mark.parametrize("kernel", ["old", "new"])
def test_report(kernel: str, snapshot: SnapshotAssertion) -> None:
    report = decide(Request(instance("counter", Choices(kernel, on=("two-steps",))), (), "auto", Limits()))
    assert as_text(_timeless(report)) == snapshot


def _timeless(report: Report) -> Report:
    assert report.exploration is not None
    results = {name: replace(result, seconds=0.0) for name, result in report.results.items()}
    return replace(report, results=results, exploration=replace(report.exploration, seconds=0.0))


def test_report_is_not_wider_than_a_mail() -> None:
    lines = avicheck("check", "counter", "--kernel", "old", "--memory", "tso").stdout.splitlines()
    assert max(map(len, lines)) <= check_system.WIDTH


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("check", "counter", "--property", "belw"),
            f'counter: --property must be one of {", ".join(ALL)}, not "belw"; did you mean below?',
        ),
        (
            ("check", "countr"),
            'model must be one of apic-map, counter, not "countr"; did you mean counter?',
        ),
        (
            ("check", "counter", "--engine", "spacer"),
            '--engine must be one of auto, explicit, bmc, induction, ic3, not "spacer"',
        ),
        (
            ("check", "counter", "--max-memory", "lots"),
            '--max-memory must be an amount such as 2GiB or 512MiB, not "lots"',
        ),
        (
            ("check", "counter", "--engine", "bmc", "--checkpoint", "x"),
            "--checkpoint must be given with the explicit engine, not with bmc",
        ),
        (
            ("check", "counter", "--engine", "ic3", "--reduce", "dead"),
            "--reduce must be given with the explicit engine, not with ic3",
        ),
        (
            ("check", "counter", "--reduce", "symmetry", "--property", "goes-on"),
            "--reduce must be given with a property that is not leads-to, not with goes-on",
        ),
        (
            ("check", "counter", "--reduce", "symetry"),
            '--reduce must be one of dead, symmetry, partial-order, not "symetry"; did you mean symmetry?',
        ),
        (
            ("find", "counter", "m == 3"),
            'column 1: Name must be one of the model\'s (counter, n), its rules or constants, not "m"',
        ),
        (
            ("find", "counter", "counter[n].pc == 0"),
            "column 1: Value before .pc must be a record with fields, not of type counter",
        ),
        (
            ("find", "counter", "counter[7]"),
            "Expression must be a condition, true or false, not of type counter",
        ),
    ],
)
def test_what_cannot_be_asked_is_refused(args: tuple[str, ...], message: str) -> None:
    result = avicheck(*args)
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"avicheck: {message}\n")


def test_a_reduction_is_told() -> None:
    assert "Reduced: dead values" in avicheck("check", "counter", "--reduce", "dead").stdout


def test_leads_to_is_told_not_to_be_reduced() -> None:
    assert (
        "Not reduced: what was explored for leads-to.\n"
        in avicheck("check", "counter", "--reduce", "dead").stdout
    )
    told = avicheck("check", "counter", "--reduce", "dead", "--property", "two").stdout
    assert "Not reduced" not in told


def test_the_states_that_representatives_stand_for_are_told() -> None:
    report = decide(Request(instance("counter"), ("two",), "explicit", Limits()))
    assert report.exploration is not None
    assert "stand for" not in as_text(report)
    report.exploration = replace(report.exploration, orbits=1234)
    assert "These stand for 1,234 states of the whole model.\n" in as_text(report) + "\n"


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    result = avicheck("check", "counter", "--checkpoint", str(path))
    assert result.stderr == f"avicheck: {path}: file must be a checkpoint of avicheck, not something else\n"
    assert (result.exit_code, path.read_text()) == (3, "mine")


def test_a_checkpoint_in_no_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    result = avicheck("check", "counter", "--checkpoint", str(path))
    assert result.exit_code == 3
    assert "--checkpoint must be a file that can be read and written" in result.stderr


# avicheck find.


def found(expression: str, *args: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(avicheck("find", "counter", expression, "--json", *args).stdout)
    return result


def test_find_shows_a_shortest_run() -> None:
    result = found("n == 2")
    assert (result["verdict"], len(result["trace"]["fired"])) == (Verdict.VIOLATED.value, 2)
    assert avicheck("find", "counter", "n == 2").exit_code == 1


def test_find_says_that_there_is_none() -> None:
    result = avicheck("find", "counter", "n == 7")
    assert result.exit_code == 0
    assert "No reachable state is such." in result.stdout


def test_find_knows_limits() -> None:
    assert avicheck("find", "counter", "n == 3", "--engine", "bmc", "--depth", "1").exit_code == 6


def test_find_asks_about_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    asked = ("vcpu[0].pc == begin and vcpu[1].pc == mark_dirty", "--json")
    result = avicheck("find", "apic-map-life", *asked)
    assert (result.exit_code, result.stderr) == (1, "")
    assert len(json.loads(result.stdout)["trace"]["fired"]) == 6


def test_find_report(snapshot: SnapshotAssertion) -> None:
    text = avicheck("find", "counter", "n == 2", "--scope", "counters=2").stdout
    assert [line for line in text.splitlines() if " s)" not in line] == snapshot


# Runs as they are shown.


def test_traces_are_written_to_new_files(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    avicheck("check", "counter", "--kernel", "old", "--traces", str(folder))
    assert sorted(path.name for path in folder.iterdir()) == ["counter-below.json", "counter-two.json"]
    replayed(load(str(folder / "counter-below.json")))


def test_no_trace_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "counter-two.json").write_text("mine")
    result = avicheck("check", "counter", "--property", "two", "--traces", str(tmp_path))
    message = f"avicheck: --traces must be a new file, not {tmp_path / 'counter-two.json'}, which exists\n"
    assert (result.exit_code, result.stderr) == (3, message)
    assert (tmp_path / "counter-two.json").read_text() == "mine"


def test_traces_go_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    result = avicheck("check", "counter", "--traces", str(tmp_path / "file"))
    assert (result.exit_code, result.stderr) == (
        3,
        f"avicheck: --traces must be a folder, not {tmp_path / 'file'} (File exists)\n",
    )


def test_a_run_that_does_not_replay_is_a_tool_error(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = instance("counter", Choices("old"))
    (result,) = explore.explore(chosen.system, properties=["below"]).results
    assert result.run is not None
    wrong = replace(result.run, states=(*result.run.states[:-1], {"n": 9}))
    monkeypatch.setattr(trace_shortest, "fewest_switches", lambda *_args: Chosen(wrong, "as found"))
    shown = presented(chosen, property_of(chosen.system, "below"), result)
    assert (shown.verdict, shown.run) == (Verdict.TOOL_ERROR, None)
    assert shown.detail.startswith("no run of the model: ")


@pytest.mark.parametrize("amount", ["0GiB", "1MiB"])
def test_less_memory_than_the_program_holds_is_refused(amount: str) -> None:
    told = CliRunner().invoke(main, ["check", "counter", "--max-memory", amount])
    expected = rf'--max-memory must be more than the \d+ MiB that the program itself holds, not "{amount}"'
    assert re.fullmatch(f"avicheck: {expected}\n", told.stderr)
    assert told.exit_code == 3
