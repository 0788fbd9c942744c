"""The texts of transition systems: what all printers promise, and what some refuse. That Promela and
Murphi are exact is shown by their own tools: test_checker_peers.py."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from avicheck.encodings import to_btor2, to_murphi, to_promela, to_smt2, to_tla
from avicheck.encodings.expr import FALSE, TRUE, Expr, add, constant, eq, mul
from avicheck.encodings.transition import Transition, TransitionSystem, Variable
from avicheck.encodings.writing import ExportError, completed, legal_names, remark
from tests.known.small import after, arithmetic, explored, key, lights

GOLDEN = Path(__file__).parent / "data" / "exports"
PRINTERS = (to_promela, to_murphi, to_tla, to_smt2, to_btor2)


def printer_id(printer: ModuleType) -> str:
    return printer.__name__.rpartition(".")[2]


@pytest.mark.parametrize(("printer", "ending"), [(to_promela, "pml"), (to_murphi, "m"), (to_tla, "tla")])
def test_text_is_pinned(printer: ModuleType, ending: str) -> None:
    assert printer.text(lights()) == (GOLDEN / f"lights.{ending}").read_text()


def doubling(steps: int) -> TransitionSystem:
    """A system whose expression has 2**steps paths from its root to its leaf."""
    x = Variable("x", 0, 1)
    grown: Expr = x.expr
    for i in range(steps):
        grown = eq(add(grown, constant(i)), mul(grown, constant(2)))
    step = Transition("step", "t", "l", grown, {"x": grown})
    return TransitionSystem("doubling", (x,), ({"x": 0},), (step,), (), FALSE)


@pytest.mark.parametrize("printer", PRINTERS, ids=printer_id)
def test_shared_subexpressions_are_written_once(printer: ModuleType) -> None:
    short, long = (len(printer.text(doubling(steps))) for steps in (100, 200))
    assert long < 2.5 * short


@pytest.mark.parametrize("printer", PRINTERS, ids=printer_id)
def test_other_properties_are_named_as_left_out(printer: ModuleType) -> None:
    assert "Left out: walks again (leads-to)" in printer.text(lights())


@pytest.mark.parametrize("printer", PRINTERS, ids=printer_id)
def test_original_names_are_in_comments(printer: ModuleType) -> None:
    assert "light[0].colour: 0 RED, 1 AMBER, 2 GREEN" in printer.text(lights())


def test_names_are_unique_whatever_their_case() -> None:
    assert legal_names(["a.b", "a_b", "A[b]", "if"], "v_") == {
        "a.b": "v_a_b",
        "a_b": "v_a_b_2",
        "A[b]": "v_A_b_3",
        "if": "v_if",
    }


def test_remark_ends_no_comment_and_no_string() -> None:
    assert remark('a */ b\n"c" \\* é') == "a * / b 'c' /* /xe9"


def test_ended_states_step_to_themselves_in_a_completed_system() -> None:
    system = arithmetic()
    last = explored(system).states[-1]
    assert (after(system, last), after(completed(system), last)) == (set(), {key(last)})


def wide(hi: int, factor: int = 1) -> TransitionSystem:
    """One variable up to ``hi``, and a guard that multiplies it."""
    x = Variable("x", 0, hi)
    step = Transition(
        "grow", "t", "l", eq(mul(x.expr, constant(factor)), constant(factor)), {"x": constant(0)}
    )
    return TransitionSystem("wide", (x,), ({"x": 0},), (step,), (), TRUE)


@pytest.mark.parametrize(
    ("printer", "system", "message"),
    [
        (
            to_promela,
            wide(2**32),
            "Promela, variable x: Values must be numbers of 32 bits, not 0 to 4294967296",
        ),
        (
            to_promela,
            wide(2**32 - 1, 2**30),
            "Promela, transition grow: Value of operator * must be from -2**61 to 2**61 - 1, "
            "not 0 to 4611686017353646080",
        ),
        (
            to_murphi,
            wide(2**32 - 1, 2**40),
            "Murphi, transition grow: Value of operator * must be from -2**61 to 2**61 - 1, "
            "not 0 to about 2**71",
        ),
    ],
)
def test_wide_numbers_are_refused(printer: ModuleType, system: TransitionSystem, message: str) -> None:
    with pytest.raises(ExportError) as raised:
        printer.text(system)
    assert str(raised.value) == message
