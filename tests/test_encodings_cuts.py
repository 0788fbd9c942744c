"""Variables in the place of parts of a formula: sound, and nothing more is known of them than is told."""

from __future__ import annotations

import pytest
import z3

from avicheck.checker.solve import solve_text
from avicheck.encodings.cuts import Cuts, Script
from avicheck.encodings.expr import Expr, add, bool_var, constant, int_var, ite, not_

FLAG, X = bool_var("flag"), int_var("x", 0, 7)
PART = ite(FLAG, X, constant(3))
WHOLE = add(PART, constant(1))


def status(cuts: Cuts, stated: int, *given: Expr) -> str:
    """The answer to whether the whole can be anything but a number."""
    script = Script([FLAG, X], cuts)
    script.require(*given)
    script.differ_somewhere([(WHOLE, z3.BitVecVal(stated, 4), False)])
    return solve_text(script.text(["a test"], "unsat"), "z3", 60.0).status


def test_what_is_known_of_a_cut_decides() -> None:
    cuts = Cuts()
    cuts.know(cuts.cut("part", PART) == 5)
    assert status(cuts, 6) == "unsat"
    assert status(cuts, 7) == "sat"


def test_nothing_of_the_part_is_left() -> None:
    cuts = Cuts()
    cuts.cut("part", PART)
    assert status(Cuts(), 4, not_(FLAG)) == "unsat"
    assert status(cuts, 4, not_(FLAG)) == "sat"


def test_a_cut_keeps_within_the_bounds_of_its_part() -> None:
    cuts = Cuts()
    term = cuts.cut("part", int_var("odd", 2, 5))
    within = {
        value: z3.is_true(z3.simplify(z3.substitute(z3.And(cuts.known), (term, z3.BitVecVal(value, 3)))))
        for value in range(8)
    }
    assert [value for value in within if within[value]] == [2, 3, 4, 5]


def test_a_part_is_cut_once() -> None:
    cuts = Cuts()
    assert cuts.cut("a", PART) is cuts.cut("b", PART)
    assert [str(term) for term in cuts.lifted.values()] == ["a"]


def test_a_part_that_holds_another_must_be_cut_first() -> None:
    cuts = Cuts()
    cuts.cut("part", X)
    with pytest.raises(ValueError, match="must not be translated before something stands in for it"):
        Script([FLAG, X], cuts)
