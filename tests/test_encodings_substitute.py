from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.encodings.expr import Expr, evaluate, narrow
from avicheck.encodings.substitute import substitute
from tests.known.small import arithmetic
from tests.small_systems import VARIABLES, conditions, kept, numbers

states = st.fixed_dictionaries({var.name: st.integers(var.lo, var.hi) for var in VARIABLES})


@settings(deadline=None)
@given(conditions(), numbers(), conditions(), states)
def test_substituted_is_evaluated_with_the_new_values(
    root: Expr, number: Expr, condition: Expr, state: dict[str, int]
) -> None:
    new = {"n": kept(VARIABLES[1], number), "b": condition}
    after = {**state, "n": evaluate([new["n"]], state)[0], "b": evaluate([condition], state)[0]}
    assert evaluate(substitute([root], new), state) == evaluate([root], after)


def test_every_operator_survives() -> None:
    """With each variable in its own place, and none of the simplifications missed."""
    system = arithmetic()
    roots = [value for step in system.transitions for value in (step.guard, *step.updates.values())]
    assert substitute(roots, {var.name: var.expr for var in system.variables}) == roots


def test_a_narrowed_value_stays_narrow() -> None:
    n, w = VARIABLES[1].expr, VARIABLES[3].expr
    assert substitute([narrow(w, 1, 3)], {"w": n}) == [narrow(n, 1, 3)]
