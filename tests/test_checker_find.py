"""``avicheck find`` and what it stands on: smallest cases, replayed; nothing found, told exactly."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import minimize
from avicheck.checker.cli import main
from avicheck.checker.minimize import Minimum, ReplayFailedError, smallest_case
from avicheck.encodings import expr as ex
from avicheck.encodings import lift
from avicheck.spec.apic import APIC_DFR_FLAT, ApicMode, DestMode, has_caller
from avicheck.spec.apic_map_model import Case, Outcome, case_ok, outcome
from avicheck.spec.kernels import KERNELS
from avicheck.spec.lang import NULL, rule


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["find", "apic-map", *args])


# Minimising.


def test_the_smallest_value_of_each_cost_in_turn() -> None:
    x, y = ex.int_var("x", 0, 1000), ex.int_var("y", -50, 1000)
    found = minimize.minimize([ex.le(ex.constant(77), ex.add(x, y))], [x, y], 10)
    assert isinstance(found, Minimum)
    assert (found.values, found.complete) == ({"x": 0, "y": 77}, True)


def test_an_earlier_cost_outweighs_a_later_one() -> None:
    x, y = ex.int_var("x", 0, 1000), ex.int_var("y", 0, 1000)
    found = minimize.minimize([ex.eq(ex.add(x, y), ex.constant(1500))], [y, x], 10)
    assert isinstance(found, Minimum)
    assert found.values == {"x": 1000, "y": 500}


def test_negative_values_are_smaller() -> None:
    x = ex.int_var("x", -3, 3)
    found = minimize.minimize([ex.not_(ex.eq(x, ex.constant(-3)))], [x], 10)
    assert isinstance(found, Minimum)
    assert found.values == {"x": -2}


def test_contradictions_have_no_minimum() -> None:
    x = ex.int_var("x", 0, 3)
    assert minimize.minimize([ex.eq(x, ex.constant(1)), ex.eq(x, ex.constant(2))], [x], 10) is False


def test_without_time_nothing_is_known() -> None:
    x = ex.int_var("x", 0, 3)
    assert minimize.minimize([ex.eq(x, ex.constant(1))], [x], 0) is None


# Smallest cases.


@rule
def diverges(case: Case, outcome: Outcome) -> bool:
    return outcome.fast.handled and outcome.fast.accepted != outcome.slow.accepted


@rule
def aliased_under_the_hack(case: Case, outcome: Outcome) -> bool:
    irq, vcpus = case.irq, case.kvm.vcpus
    both = len(vcpus) > 1 and vcpus[0].xapic_id == vcpus[-1].xapic_id and vcpus[-1].mode == ApicMode.XAPIC
    return both and diverges(case, outcome) and irq.dest_mode == DestMode.PHYSICAL and irq.dest_id < 255


@rule
def lost_by_x2apic_id(case: Case, outcome: Outcome) -> bool:
    physical = case.irq.dest_mode == DestMode.PHYSICAL and not case.kvm.x2apic_format
    return physical and case.irq.dest_id > 255 and diverges(case, outcome)


@rule
def nmi_to_software_disabled(case: Case, outcome: Outcome) -> bool:
    logical = case.irq.dest_mode == DestMode.LOGICAL and not case.irq.msi_redir_hint
    return logical and not case.kvm.vcpus[0].sw_enabled and diverges(case, outcome)


@pytest.mark.parametrize(
    ("wanted", "vcpus"), [(aliased_under_the_hack, 2), (lost_by_x2apic_id, 2), (nmi_to_software_disabled, 1)]
)
def test_examples_are_as_small_as_they_can_be(wanted: Callable[[Case, Outcome], bool], vcpus: int) -> None:
    found = smallest_case(wanted, KERNELS["6.19"], 3)
    assert found.case is not None
    assert len(found.case.kvm.vcpus) == vcpus
    assert found.refuted == tuple(range(1, vcpus))
    assert found.complete
    assert found.real_caller


def test_what_is_found_does_so_on_the_executable_model() -> None:
    case = smallest_case(lost_by_x2apic_id, KERNELS["6.19"], 3).case
    assert case is not None
    assert case_ok(case)
    assert has_caller(case.kvm, case.src, case.irq)
    assert lost_by_x2apic_id(case, outcome(case))


def test_features_that_do_not_matter_are_at_their_defaults() -> None:
    case = smallest_case(nmi_to_software_disabled, KERNELS["6.19"], 3).case
    assert case is not None
    vcpu = case.kvm.vcpus[0]
    assert (vcpu.vcpu_id, vcpu.xapic_id, vcpu.dfr, vcpu.ldr) == (0, 0, APIC_DFR_FLAT, 1 << 24)
    assert not case.kvm.x2apic_format
    assert case.src == NULL


def test_a_request_that_nobody_makes_is_the_last_resort() -> None:
    @rule
    def deasserted_device(case: Case, outcome: Outcome) -> bool:
        return case.src == NULL and not case.irq.level

    found = smallest_case(deasserted_device, KERNELS["6.19"], 2)
    assert found.case is not None
    assert not found.real_caller


def test_none_with_any_number_is_told_as_refuted() -> None:
    @rule
    def aliased_and_mapped(case: Case, outcome: Outcome) -> bool:
        return outcome.map.physical_id_aliased and outcome.map.present

    found = smallest_case(aliased_and_mapped, KERNELS["6.19"], 2)
    assert (found.case, found.refuted, found.open) == (None, (1, 2), ())


def test_a_case_that_does_not_replay_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(lifted: Any, values: Any) -> Case:
        found: Case = real(lifted, {**values, "irq.dest_id": 3})
        return found

    real = lift.concrete
    monkeypatch.setattr(minimize, "concrete", other)
    with pytest.raises(ReplayFailedError):
        smallest_case(lost_by_x2apic_id, KERNELS["6.19"], 2)


# The command.


def test_report(snapshot: SnapshotAssertion) -> None:
    result = run("fast.accepted != slow.accepted and fast.handled", "--assume", "not kvm.x2apic_format")
    assert result.exit_code == 1
    assert result.output == snapshot


def test_report_of_two_vcpus(snapshot: SnapshotAssertion) -> None:
    result = run(
        "delivery.accepted != slow.accepted", "--assume", "irq.dest_id > 255 and irq.dest_mode == PHYSICAL",
        "--assume", "not kvm.x2apic_format",
    )  # fmt: skip
    assert result.exit_code == 1
    assert result.output == snapshot


def test_reports_fit_a_mail() -> None:
    result = run("fast.accepted != slow.accepted and fast.handled")
    assert max(map(len, result.output.splitlines())) <= 75


def test_json_is_what_route_reads(tmp_path: Any) -> None:
    result = run("delivery.accepted != slow.accepted", "--json")
    told = json.loads(result.output)
    file = tmp_path / "case.json"
    file.write_text(json.dumps(told["case"]))
    routed = CliRunner().invoke(main, ["route", str(file), "--kernel", "6.19", "--query", "0", "--json"])
    assert routed.exit_code == 1
    assert json.loads(routed.output)["kernels"][0]["as_loop"] is False


def test_nothing_found_is_exit_0_with_the_bounds() -> None:
    result = run("map.physical_id_aliased and map.present", "--vcpus", "2")
    assert result.exit_code == 0
    assert "no case with up to 2 vCPUs on kernel 6.19" in result.output


def test_no_time_is_unknown() -> None:
    def no_time(*_args: Any, **_kwargs: Any) -> None:
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minimize, "minimize", no_time)
        result = run("fast.handled", "--vcpus", "2")
    assert result.exit_code == 2
    assert result.output == "unknown: the time ran out for 1, 2 vCPUs on kernel 6.19.\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("fasst.accepted",), r"column 1: Name must be .*, not \"fasst\"; did you mean fast\?"),
        (("fast.accepted",), r"Expression must be a condition, true or false, not a number"),
        (("fast.handled", "--vcpus", "0"), r"--vcpus must be an integer from 1 to 16, not \"0\""),
        (
            ("fast.handled", "--assume", "kvm.x2apic_format and not kvm.x2apic_format"),
            r"--assume: Assumptions must be possible together, not a contradiction",
        ),
        (
            ("fast.handled", "--kernel", "6.13"),
            r"--kernel must be one of .*, not \"6.13\"; did you mean 6.12\?",
        ),
    ],
)
def test_bad_input_is_one_sentence(args: tuple[str, ...], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 3
    assert result.output.count("\n") == 1
    assert re.fullmatch(f"avicheck: {message}\n", result.output)
