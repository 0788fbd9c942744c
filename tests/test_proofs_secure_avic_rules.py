"""The two statements of Secure AVIC's hardware: equal, and each fault of either is noticed."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any, Final

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.checker.solve import solve
from avicheck.encodings import secure_avic_rules as rules
from avicheck.encodings.z3vars import leaves, literal
from avicheck.proofs.secure_avic_rules import (
    CHANGED,
    Case,
    Voices,
    by_model,
    case_of,
    compare,
    listen,
    obligations,
    of_kernel,
    unchanged,
)
from avicheck.spec import secure_avic_hardware as hardware
from avicheck.spec.kernels import KERNELS
from avicheck.spec.lang import enum_index, update
from avicheck.spec.secure_avic import Hardware, Page, Vcpu, Vmcb, Vmsa

SLOW: Final = frozenset({"eoi.v_intr"})
"""Proved by ``test_random_cases_agree`` in part only; in full by the benchmark."""

NAMES: Final = sorted(listen().lifted.keys() - SLOW)


@cache
def voices() -> Voices:
    return listen()


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_are_equal(name: str) -> None:
    assert solve(compare(voices(), name)).status == "unsat"


@pytest.mark.parametrize("operation", CHANGED)
def test_nothing_else_is_changed(operation: str) -> None:
    assert solve(unchanged(voices(), operation)).status == "unsat"


def test_no_kernel_changes_what_is_asked() -> None:
    asked = [[query.text for query in of_kernel(KERNELS[name], 1)] for name in ("6.1", "6.19")]
    assert asked == [[query.text for query in obligations()]] * 2


def test_every_value_is_an_obligation() -> None:
    names = {query.name.removeprefix("equal/secure-avic/") for query in obligations()}
    assert names >= {*voices().lifted, *(f"{operation}.rest" for operation in CHANGED)}


# Random cases, run.

SETS = st.integers(0, (1 << 256) - 1) | st.lists(st.integers(0, 255), max_size=4).map(
    lambda vectors: sum(1 << v for v in set(vectors))
)
BYTES, FLAGS = st.integers(0, 255), st.booleans()
PAGES = st.builds(Page, SETS, SETS, SETS, SETS, BYTES, FLAGS, FLAGS)
VMSAS = st.builds(Vmsa, *[FLAGS] * 8)
VMCBS = st.builds(Vmcb, SETS, FLAGS, FLAGS, FLAGS, FLAGS)
CASES = st.builds(
    Case,
    st.builds(Hardware),
    st.builds(Vcpu, PAGES, VMSAS, VMCBS, FLAGS, FLAGS, FLAGS),
    BYTES,
    BYTES,
)


def stated(case: Case, name: str) -> int:
    """What the rules say of one case."""
    constants = (term for _, term in leaves(voices().stated_case, {}))
    values = (literal(domain, {}, value) for domain, value in leaves(case, {}))
    found = z3.simplify(z3.substitute(voices().stated[name], *zip(constants, values, strict=True)))
    return int(z3.is_true(found)) if z3.is_bool(found) else int(found.as_long())


def number(value: Any) -> int:
    return enum_index(value) if isinstance(value, Enum) else int(value)


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_random_cases_agree(case: Case) -> None:
    said = by_model(case)
    for name in (*SLOW, "take.vector", "ppr", "halt"):
        assert number(said[name]) == stated(case, name), name


# Faults.


def _never(*_args: Any) -> Any:
    return z3.BoolVal(False)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("injected", "vmrun.irr"),
        ("still_requested", "vmrun.requested_irr"),
        ("taken", "take.vector"),
        ("retired", "eoi.isr"),
        ("eoi_traps", "eoi.traps"),
        ("own_nmi_due", "nmi.taken"),
        ("nmis_allowed", "vmrun.v_nmi_pending"),
    ],
)
def test_a_rule_left_out_is_noticed(monkeypatch: pytest.MonkeyPatch, part: str, name: str) -> None:
    monkeypatch.setattr(rules, part, _never)
    answer = solve(compare(listen(), name))
    assert answer.status == "sat"


def test_a_difference_comes_with_a_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that a vector must be allowed, left out: the case has one that is not."""
    unfiltered = lambda hw, vcpu, v: z3.And(  # noqa: E731
        rules.entry(hw, vcpu).runs,
        vcpu.vmsa.enabled,
        vcpu.vmcb.update_irr,
        rules.has(vcpu.vmcb.requested_irr, v),
    )
    monkeypatch.setattr(rules, "injected", unfiltered)
    wrong = listen()
    case = case_of(wrong, solve(compare(wrong, "vmrun.irr")).values)
    vector = 1 << case.vector
    assert (case.vcpu.vmcb.requested_irr & vector, case.vcpu.page.allowed_irr & vector) == (vector, 0)
    assert by_model(case)["vmrun.irr"] is False


def test_a_change_of_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(vcpu: Vcpu) -> Vcpu:
        return update(vcpu, page=update(vcpu.page, tpr=0))

    monkeypatch.setattr(hardware, "doorbell", forgetful)
    assert solve(unchanged(listen(), "doorbell")).status == "sat"
