"""``avicheck find``: what it prints, how it ends, what it refuses, and what it never shows."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import minimize
from avicheck.checker.claims import lift_model
from avicheck.checker.cli import main
from avicheck.checker.config import loads, to_kvm, to_request
from avicheck.checker.find import WIDTH
from avicheck.checker.systems import registered
from avicheck.spec.apic_map_model import Case, outcome
from avicheck.spec.kernels import KERNELS

ROOT = Path(__file__).parent.parent
DIVERGES = "delivery.accepted != slow.accepted"
LOST = ("--assume", "irq.dest_id > 0xff and irq.dest_mode == PHYSICAL", "--assume", "not kvm.x2apic_format")
FOUND = {
    "with assumptions": (DIVERGES, *LOST),
    "one vCPU": ("fast.accepted != slow.accepted and fast.handled and not kvm.x2apic_format",),
    "another kernel": (
        f"{DIVERGES} and irq.dest_mode == PHYSICAL and irq.dest_id < 0xff and not irq.msi_redir_hint",
        *("--kernel", "6.1", "--vcpus", "3"),
    ),
    "without a map": ("not map.present", "--real-caller"),
    "no caller": ("src == NULL and not irq.level", "--vcpus", "1"),
    "any caller": ("src == NULL and not irq.level", "--vcpus", "1", "--any-caller"),
    "a second vCPU": ("kvm.vcpus[1].mode == X2APIC", "--vcpus", "2"),
}
NONE = {
    "nothing": ("map.physical_id_aliased and map.present", "--vcpus", "2"),
    "nothing from KVM": ("not irq.level and src == NULL", "--vcpus", "2", "--real-caller"),
    "nothing with one vCPU": (
        DIVERGES,
        *LOST,
        "--assume",
        "len(kvm.vcpus) == 1",
        "--vcpus",
        "2",
        "--real-caller",
    ),
}


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["find", "apic-map", *args])


@pytest.mark.parametrize("name", FOUND | NONE)
def test_report(name: str, snapshot: SnapshotAssertion) -> None:
    result = run(*(FOUND | NONE)[name])
    assert max(map(len, result.output.splitlines())) <= WIDTH
    assert result.output == snapshot


def test_readme_shows_what_is_printed() -> None:
    block = (ROOT / "README.md").read_text().partition("$ avicheck find ")[2].partition("\n...\n```")[0]
    command, _, shown = block.replace("\\\n", "").partition("\n")
    assert shown.startswith("Smallest case")
    assert CliRunner().invoke(main, ["find", *shlex.split(command)]).output.startswith(shown)


@pytest.mark.parametrize("name", FOUND)
def test_found_is_exit_1(name: str) -> None:
    result = run(*FOUND[name], "--json")
    assert (result.exit_code, json.loads(result.output)["verdict"]) == (1, "violated")


@pytest.mark.parametrize("name", NONE)
def test_none_is_exit_0_and_says_for_which_sizes(name: str) -> None:
    result = run(*NONE[name], "--json")
    told = json.loads(result.output)
    assert (result.exit_code, told["verdict"], told["case"], told["none_with"]) == (0, "holds", None, [1, 2])


def test_no_time_is_exit_2_and_says_for_which_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimize, "minimize", lambda *_: None)
    result = run(DIVERGES, "--vcpus", "2")
    assert result.exit_code == 2
    assert result.output.splitlines()[0] == "unknown: on kernel 6.19 the time ran out for 1 or 2 vCPUs."


@pytest.mark.parametrize(
    ("first", "then", "headline"),
    [
        (
            False,
            None,
            "unknown: on kernel 6.19 the time ran out for 2 vCPUs; none with 1 vCPU (proved by z3).",
        ),
        (None, minimize.minimize, "Smallest case on kernel 6.19: 2 vCPUs; undecided with 1 vCPU."),
    ],
)
def test_every_smaller_size_is_told_as_what_it_is(
    first: bool | None, then: Any, headline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([lambda *_: first, then or (lambda *_: None)])
    monkeypatch.setattr(minimize, "minimize", lambda *args: next(answers)(*args))
    result = run(DIVERGES, "--vcpus", "2")
    assert result.output.partition("\nSuch that")[0].replace("\n  ", " ") == headline


def test_case_that_may_not_be_smallest_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = minimize.minimize

    def hasty(*args: Any) -> Any:
        found = real(*args)
        return replace(found, complete=False) if isinstance(found, minimize.Minimum) else found

    monkeypatch.setattr(minimize, "minimize", hasty)
    result = run("fast.handled", "--vcpus", "1")
    assert "The time ran out before every value was known to be the smallest." in result.output


def test_json_is_the_case_itself() -> None:
    told = json.loads(run(*FOUND["with assumptions"], "--json").output)
    file = loads(json.dumps(told["case"]).encode(), "")
    kvm = to_kvm(file.config, KERNELS["6.19"])
    result = outcome(Case(kvm, False, *to_request(file.queries[0], kvm)))
    assert result.delivery.accepted != result.slow.accepted


def test_output_is_what_route_reads(tmp_path: Path) -> None:
    file = tmp_path / "case.json"
    run(*FOUND["with assumptions"], "--output", str(file))
    routed = CliRunner().invoke(main, ["route", str(file), "--kernel", "6.19", "--json"])
    assert [kernel["as_loop"] for kernel in json.loads(routed.output)["kernels"]] == [False]


def test_output_to_stdout_leaves_the_report_to_stderr(tmp_path: Path) -> None:
    result = run(*FOUND["one vCPU"], "--output", "-")
    assert json.loads(result.stdout)["config"]["vcpus"][0]["vcpu_id"] == 0
    assert result.stderr == run(*FOUND["one vCPU"]).stdout


def test_output_says_what_route_does_not_know() -> None:
    result = run("alloc_fails", "--vcpus", "1", "--output", "-")
    note = "avicheck: note: 'avicheck route' does not know that the map's allocation fails"
    assert result.stderr.splitlines()[0] == note


def test_no_output_is_written_if_nothing_is_found(tmp_path: Path) -> None:
    run(*NONE["nothing"], "--output", str(tmp_path / "case.json"))
    assert list(tmp_path.iterdir()) == []


def test_fault_in_lifting_is_a_tool_error_and_shows_no_case(monkeypatch: pytest.MonkeyPatch) -> None:
    lifted = lift_model(KERNELS["6.19"], 1)
    wrong = replace(lifted, outcome=replace(lifted.outcome, single_vcpu=0))
    monkeypatch.setattr(minimize, "lift_model", lambda kernel, vcpus: wrong)
    result = run("single_vcpu == 0 and kvm.vcpus[0].mode == DISABLED", "--vcpus", "1")
    assert (result.exit_code, result.stdout) == (70, "")
    assert "ReplayFailedError: Case must come out on the executable model as the solver says" in result.stderr


WITHOUT_VALUE = {
    "kvm.vcpus[src].sw_enabled": "Index must be at least 0 in every case, not NULL in some; "
    "check for NULL first: src != NULL and ...",
    "kvm.vcpus[2].sw_enabled": "column 1: Index must be from 0 to 1, not 2",
    "10 // irq.dest_id == 2": "Divisor must be other than 0 in every case, not 0 in some",
    "1 << (irq.vector - 5) == 2": "Shift must be by 0 bits or more in every case, not by fewer in some",
}


@pytest.mark.parametrize("expression", WITHOUT_VALUE)
def test_expression_without_a_value_in_some_case_is_refused(expression: str) -> None:
    result = run(expression, "--vcpus", "2")
    message = f"avicheck: {WITHOUT_VALUE[expression]}\n"
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", message)


def test_expression_beyond_lifting_is_refused() -> None:
    result = run("kvm.vcpus[irq.dest_id].sw_enabled", "--vcpus", "1")
    assert result.exit_code == 3
    assert result.stderr.startswith(
        "avicheck: Expression must be within the limits of lifting, not beyond them (Index must have at most "
    )


@pytest.mark.parametrize(
    "assumed",
    [
        ("kvm.x2apic_format and not kvm.x2apic_format",),
        ("kvm.vcpus[1].mode == XAPIC", "kvm.vcpus[1].mode == X2APIC"),
        ("len(kvm.vcpus) == 3",),
    ],
)
def test_contradictory_assumptions_are_refused(assumed: tuple[str, ...]) -> None:
    options = (word for text in assumed for word in ("--assume", text))
    result = run("fast.handled", *options, "--vcpus", "2")
    message = "Assumptions must be possible with up to 2 vCPUs, not in contradiction with each other"
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"avicheck: --assume: {message}\n")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ("apic-mpa", "True"),
            f"model must be one of apic-map, {', '.join(registered())}, "
            'not "apic-mpa"; did you mean apic-map?',
        ),
        (("apic-map", "fast.accepted"), "Expression must be a condition, true or false, not a number"),
        (
            ("apic-map", "fast.handled", "--assume", "slow.acepted == 1"),
            "column 1: Field of Answer must be one of handled, r, called, accepted, "
            'not "acepted"; did you mean accepted?',
        ),
        (
            ("apic-map", "fast.handled", "--vcpus", "17"),
            '--vcpus must be an integer from 1 to 16, not "17"',
        ),
        (
            ("apic-map", "fast.handled", "--timeout", "0"),
            '--timeout must be an integer from 1 to 86400, not "0"',
        ),
        (
            ("apic-map", "fast.handled", "--vcpus", "1", "--output", "/no/file"),
            "/no/file: --output must be a file that can be written, not No such file or directory",
        ),
        (
            ("apic-map", "fast.handled", "--kernel", "6.13"),
            f'--kernel must be one of {", ".join(KERNELS)}, not "6.13"; did you mean 6.12?',
        ),
    ],
)
def test_bad_input_is_one_sentence(args: tuple[str, ...], message: str) -> None:
    result = CliRunner().invoke(main, ["find", *args])
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"avicheck: {message}\n")
