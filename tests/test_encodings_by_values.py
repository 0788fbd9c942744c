"""What trying values finds possible is so, and what it does not is not."""

from __future__ import annotations

import itertools
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.checker.systems import instance
from avicheck.encodings import expr as ex
from avicheck.encodings import lift
from avicheck.encodings.by_values import possible
from avicheck.encodings.expr import Expr
from avicheck.encodings.lift import Lifter
from avicheck.encodings.machine import encode
from avicheck.spec.machine import Machine

K: Final = ex.constant
INTS: Final = [ex.int_var("a", -3, 4), ex.int_var("b", 0, 5), ex.int_var("c", 2, 3)]
FLAGS: Final = [ex.bool_var("f"), ex.bool_var("g")]
ASSIGNMENTS: Final = [
    dict(zip("abcfg", values, strict=True))
    for values in itertools.product(range(-3, 5), range(6), range(2, 4), range(2), range(2))
]


def numbers() -> st.SearchStrategy[Expr]:
    return st.one_of(
        st.sampled_from(INTS),
        st.integers(-4, 6).map(K),
        st.builds(ex.add, st.sampled_from(INTS), st.sampled_from(INTS)),
    )


def literals() -> st.SearchStrategy[Expr]:
    atoms = st.one_of(
        st.sampled_from(FLAGS), st.builds(ex.eq, numbers(), numbers()), st.builds(ex.le, numbers(), numbers())
    )
    return st.one_of(atoms, atoms.map(ex.not_), st.builds(ex.or_, atoms, atoms))


@settings(max_examples=400, deadline=None)
@given(st.lists(literals(), min_size=1, max_size=7))
def test_a_condition_is_possible_where_some_assignment_meets_it(conjuncts: list[Expr]) -> None:
    condition = ex.and_(*conjuncts)
    found = possible(condition)
    assert found is None or found == any(ex.evaluate([condition], each)[0] for each in ASSIGNMENTS)


@pytest.mark.parametrize("truth", [True, False])
def test_constants_are_decided(truth: bool) -> None:
    assert possible(K(1) if truth else ex.not_(ex.TRUE)) is truth


def equal(name: str, width: int) -> tuple[Expr, Expr]:
    """Two variables of so many values, and that they are the same."""
    one, other = (ex.int_var(f"{name}{k}", 0, width - 1) for k in range(2))
    return one, ex.eq(one, other)


def test_parts_that_share_no_variable_are_tried_on_their_own() -> None:
    parts = [equal(f"x{i}", 40)[1] for i in range(30)]
    assert possible(ex.and_(*parts)) is True


def test_one_part_that_cannot_be_is_enough() -> None:
    one, same = equal("x", 40)
    other = ex.int_var("x1", 0, 39)
    apart = ex.and_(same, ex.le(one, K(1)), ex.le(K(2), other))
    assert possible(ex.and_(equal("y", 40)[1], apart)) is False


def test_a_wide_variable_is_left_to_a_solver() -> None:
    assert possible(ex.eq(ex.int_var("w", 0, 1 << 32), K(7))) is None


def test_many_values_are_left_to_a_solver() -> None:
    total = ex.add(ex.add(ex.int_var("p", 0, 60), ex.int_var("q", 0, 60)), ex.int_var("r", 0, 60))
    assert possible(ex.eq(total, K(180))) is None


def test_apic_map_life_is_lifted_without_a_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(_lifter: Lifter, condition: Expr) -> Any:
        pytest.fail(f"a solver is asked about {condition}")

    life = instance("apic-map-life")
    machine = Machine(life.description.model, life.scope, life.memory, life.options)
    with monkeypatch.context() as without:
        without.setattr(lift, "possible", lambda _condition: None)
        usual = encode(machine).system
    monkeypatch.setattr(Lifter, "_satisfiable", asked)
    assert encode(machine).system == usual
