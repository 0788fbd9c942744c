"""Minimising: the least cost of each in turn, within a time limit; smallest cases, replayed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.checker import minimize as module
from avicheck.checker.claims import Lifted, lift_model
from avicheck.checker.minimize import (
    Callers,
    Minimum,
    ReplayFailedError,
    Search,
    UnaskableError,
    minimize,
    possible,
    smallest_case,
)
from avicheck.encodings import expr as ex
from avicheck.encodings.lift import concrete
from avicheck.encodings.refusal import LiftError
from avicheck.spec.apic import has_caller
from avicheck.spec.apic_map_model import Case, Outcome, case_ok, outcome
from avicheck.spec.kernels import KERNELS
from avicheck.spec.lang import NULL, rule

KERNEL = KERNELS["6.19"]
X, Y = ex.int_var("x", -3, 12), ex.int_var("y", 0, 9)


@given(
    factors=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    least=st.integers(-20, 40),
    costs=st.permutations([X, Y, ex.add(X, Y), ex.lt(X, Y)]),
)
@settings(max_examples=40, deadline=None)
def test_minimum_is_the_one_of_exhaustive_search(
    factors: tuple[int, int], least: int, costs: list[ex.Expr]
) -> None:
    total = ex.add(ex.mul(X, ex.constant(factors[0])), ex.mul(Y, ex.constant(factors[1])))
    constraint = ex.le(ex.constant(least), total)
    points = [{"x": x, "y": y} for x, y in itertools.product(range(-3, 13), range(10))]
    allowed = [ex.evaluate(costs, point) for point in points if ex.evaluate([constraint], point) == [1]]
    found = minimize([constraint], costs, 60)
    if allowed:
        assert isinstance(found, Minimum)
        assert (ex.evaluate(costs, found.values), found.complete) == (min(allowed), True)
    else:
        assert found is False


def test_without_time_nothing_is_known() -> None:
    assert minimize([ex.eq(X, ex.constant(1))], [X], 0) is None


def stop_after(monkeypatch: pytest.MonkeyPatch, checks: int) -> None:
    """Let the time run out after so many questions to the solver."""
    count = itertools.count()
    ask = module._Solver.check
    monkeypatch.setattr(
        module._Solver, "check", lambda self, *a: ask(self, *a) if next(count) < checks else None
    )


def test_what_is_best_when_the_time_runs_out_is_not_called_smallest(monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 1)
    found = minimize([ex.le(ex.constant(5), X)], [X], 60)
    assert isinstance(found, Minimum)
    assert (found.values["x"] >= 5, found.complete) == (True, False)


def test_interrupted_solver_interrupts_the_search() -> None:
    class Interrupted:
        def check(self) -> Any:
            return z3.unknown

        def reason_unknown(self) -> str:
            return "interrupted from keyboard"

        def __getattr__(self, name: str) -> Callable[..., None]:
            return lambda *_: None

    solver = module._Solver([], [X], float("inf"))
    solver._deadline, solver._solver = time.monotonic() + 60, Interrupted()
    with pytest.raises(KeyboardInterrupt):
        solver.check()


@rule
def handled(case: Case, outcome: Outcome) -> bool:
    return outcome.fast.handled


@rule
def never(case: Case, outcome: Outcome) -> bool:
    return outcome.map.physical_id_aliased and outcome.map.present


@rule
def two_are_served(case: Case, outcome: Outcome) -> bool:
    return outcome.fast.accepted.bit_count() == 2


@rule
def deasserted_device(case: Case, outcome: Outcome) -> bool:
    return case.src == NULL and not case.irq.level


@rule
def deasserted_device_or_three_vcpus(case: Case, outcome: Outcome) -> bool:
    return deasserted_device(case, outcome) or len(case.kvm.vcpus) == 3


@rule
def second_is_x2apic(case: Case, outcome: Outcome) -> bool:
    return case.kvm.vcpus[1].sw_enabled


@rule
def sender_is_enabled(case: Case, outcome: Outcome) -> bool:
    return case.kvm.vcpus[case.src].sw_enabled


def test_fewest_vcpus_are_proved_to_be_the_fewest() -> None:
    found = smallest_case(two_are_served, KERNEL, 3)
    assert found.case is not None
    assert (len(found.case.kvm.vcpus), found.refuted, found.complete) == (2, (1,), True)


def test_smallest_case_is_one_and_has_a_caller() -> None:
    found = smallest_case(two_are_served, KERNEL, 2)
    assert found.case is not None
    assert two_are_served(found.case, outcome(found.case))
    assert case_ok(found.case)
    assert has_caller(found.case.kvm, found.case.src, found.case.irq)


def test_nothing_is_found_where_nothing_is() -> None:
    assert smallest_case(never, KERNEL, 2) == Search(None, False, True, (1, 2), ())


@pytest.mark.parametrize(
    ("wanted", "callers", "vcpus", "real"),
    [
        (deasserted_device, "first", 1, False),
        (deasserted_device, "only", None, False),
        (deasserted_device_or_three_vcpus, "first", 3, True),
        (deasserted_device_or_three_vcpus, "any", 1, False),
        (handled, "any", 1, True),
    ],
)
def test_requests_that_kvm_makes_come_as_asked(
    wanted: Callable[[Case, Outcome], bool], callers: Callers, vcpus: int | None, real: bool
) -> None:
    found = smallest_case(wanted, KERNEL, 3, callers=callers)
    assert (found.case and len(found.case.kvm.vcpus), found.real_caller) == (vcpus, real)


def test_number_of_vcpus_without_a_second_is_left_out_where_the_second_is_meant() -> None:
    found = smallest_case(second_is_x2apic, KERNEL, 2)
    assert found.case is not None
    assert (len(found.case.kvm.vcpus), found.refuted, found.unasked) == (2, (), (1,))


def test_rule_without_a_value_is_refused_and_says_why() -> None:
    with pytest.raises(UnaskableError) as caught:
        smallest_case(sender_is_enabled, KERNEL, 2)
    assert isinstance(caught.value.__cause__, LiftError)


def test_nothing_is_lifted_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "lift_model", None)
    assert smallest_case(handled, KERNEL, 3, 0) == Search(None, False, False, (), (1, 2, 3))


def test_open_question_about_kvms_requests_does_not_become_one_about_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "minimize", lambda constraints, *_: None if len(constraints) == 3 else False)
    assert smallest_case(handled, KERNEL, 2).open == (1, 2)


def test_smaller_numbers_that_stay_open_are_told_of_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, minimize])
    monkeypatch.setattr(module, "minimize", lambda *args: (answer := next(answers)) and answer(*args))
    found = smallest_case(two_are_served, KERNEL, 2)
    assert (found.case is not None, found.open, found.refuted) == (True, (1,), ())


def faulty(monkeypatch: pytest.MonkeyPatch, **wrong: Any) -> None:
    """Plant a fault in lifting: these fields of the outcome come out wrong."""

    def lift_wrongly(kernel: Any, vcpus: int) -> Lifted:
        lifted = lift_model(kernel, vcpus)
        return replace(lifted, outcome=replace(lifted.outcome, **wrong))

    monkeypatch.setattr(module, "lift_model", lift_wrongly)


def test_case_that_only_lifting_knows_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, slow=lift_model(KERNEL, 1).outcome.fast, single_vcpu=7)

    @rule
    def impossible(case: Case, outcome: Outcome) -> bool:
        return outcome.single_vcpu == 7

    with pytest.raises(ReplayFailedError, match="Case must come out on the executable model as the solver"):
        smallest_case(impossible, KERNEL, 1)


def test_case_whose_other_results_are_wrong_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, dest_bitmap=0)
    with pytest.raises(ReplayFailedError):
        smallest_case(two_are_served, KERNEL, 2)


def test_case_that_does_not_exist_is_never_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    def twins(lifted: Any, values: Any) -> Any:
        return concrete(lifted, {**values, "kvm.vcpus[1].vcpu_id": values["kvm.vcpus[0].vcpu_id"]})

    monkeypatch.setattr(module, "concrete", twins)
    with pytest.raises(ReplayFailedError):
        smallest_case(two_are_served, KERNEL, 2)


@pytest.mark.parametrize(("wanted", "answer"), [(two_are_served, True), (never, False)])
def test_possible_is_what_some_size_makes_possible(
    wanted: Callable[[Case, Outcome], bool], answer: bool
) -> None:
    assert possible(wanted, KERNEL, (1, 2), 60) is answer


def test_possible_is_open_without_time() -> None:
    assert possible(never, KERNEL, (1,), 0) is None
