"""Declared records: the names, sorts and ranges of their constants."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import z3

from avicheck.encodings.z3vars import declare, in_range, leaves, literal, range_constraints, variable
from avicheck.spec.apic import Irq, Kvm, TrigMode
from avicheck.spec.kernels import KERNELS
from avicheck.spec.lang import IndexOf, Range, record

SCOPE = {"vcpus": 8}


@record
class Timer:
    """A record with a range inside the width of its bit-vector."""

    divider: Annotated[int, Range(1, 5)]
    offset: Annotated[int, Range(-3, 200)]


@record
class Nested:
    """A record inside a record."""

    timer: Timer


def width_of(domain: Any, scope: dict[str, int]) -> int:
    return int(variable(domain, scope, "x").size())


def test_names_are_paths() -> None:
    kvm = declare(Kvm, SCOPE, "kvm", kernel=KERNELS["6.1"])
    names = [str(kvm.x2apic_format), str(kvm.vcpus[3].vcpu_id)]
    assert names == ["kvm.x2apic_format", "kvm.vcpus[3].vcpu_id"]


def test_names_go_through_nested_records() -> None:
    assert str(declare(Nested, SCOPE, "n").timer.divider) == "n.timer.divider"


def test_a_bool_is_a_bool() -> None:
    assert declare(Irq, SCOPE, "irq").level.sort() == z3.BoolSort()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("domain", "vcpus", "width"),
    [
        (Range(0, 0), 1, 1),
        (Range(0, 4095), 1, 12),
        (Range(0, 0xFFFF_FFFF), 1, 32),
        (Range(-1, 0), 1, 1),
        (Range(-3, 200), 1, 9),
        (Range(-300, 3), 1, 10),
        (IndexOf("vcpus"), 8, 3),
        (IndexOf("vcpus", nullable=True), 8, 4),
        (IndexOf("vcpus", nullable=True), 9, 5),
        (IndexOf("vcpus", nullable=True), 1, 1),
        (TrigMode, 1, 1),
    ],
)
def test_widths_are_just_enough(domain: Any, vcpus: int, width: int) -> None:
    assert width_of(domain, {"vcpus": vcpus}) == width


def test_a_domain_without_bounds_is_refused() -> None:
    with pytest.raises(TypeError, match="must be bool, a Range, an IndexOf or an Enum, not <class 'str'>"):
        variable(str, SCOPE, "x")


def test_a_given_field_stays_as_it_is() -> None:
    assert declare(Kvm, SCOPE, "kvm", kernel=KERNELS["6.1"]).kernel is KERNELS["6.1"]


def test_a_member_is_its_position() -> None:
    assert literal(TrigMode, SCOPE, TrigMode.LEVEL).as_long() == 1


def test_leaves_of_a_kvm_leave_out_its_kernel() -> None:
    kvm = declare(Kvm, {"vcpus": 2}, "kvm", kernel=KERNELS["6.1"])
    assert len(list(leaves(kvm, {"vcpus": 2}))) == 3 + 2 * 7


def values(constraint: Any, term: Any, signed: bool = False) -> set[int]:
    """Every value of ``term`` that the constraint allows."""
    solver, found = z3.Solver(), set()
    solver.add(constraint)
    while solver.check() == z3.sat:
        value = solver.model().eval(term, model_completion=True)
        found.add(value.as_signed_long() if signed else value.as_long())
        solver.add(term != value)
    return found


def test_an_unsigned_range_is_exact() -> None:
    timer = declare(Timer, SCOPE, "t")
    assert values(range_constraints(timer, SCOPE), timer.divider) == set(range(1, 6))


def test_a_signed_range_is_exact() -> None:
    timer = declare(Timer, SCOPE, "t")
    assert values(range_constraints(timer, SCOPE), timer.offset, signed=True) == set(range(-3, 201))


def test_an_enum_has_no_value_beyond_its_members() -> None:
    vcpu = declare(Kvm, {"vcpus": 1}, "kvm", kernel=KERNELS["6.1"]).vcpus[0]
    assert values(range_constraints(vcpu, SCOPE), vcpu.mode) == {0, 1, 2}


def test_a_bool_has_no_range() -> None:
    assert z3.is_true(in_range(z3.Bool("b"), bool, SCOPE))
