"""Printed expressions mean what they compute: as z3 terms, and as text to three solvers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.checker.solve import SOLVERS, solve_text
from avicheck.encodings import expr as ex
from avicheck.encodings.bitvectors import width_of
from avicheck.encodings.expr import Expr, Op
from avicheck.encodings.smtlib import script
from avicheck.encodings.to_z3 import check_sat, to_z3, z3_translator

K: Final = ex.constant
INTS: Final = [
    ex.int_var("n", -9, 6),
    ex.int_var("u", 0, 15),
    ex.int_var("w", 3, 200),
    ex.int_var("q", 0, 0xFFFF_FFFF),
    ex.int_var("s", -(1 << 31), -5),
]
BOOLS: Final = [ex.bool_var("f"), ex.bool_var("g[0].h")]
VARIABLES: Final = [*INTS, *BOOLS]


def low(a: Expr, mask: int) -> Expr:
    return ex.bitand(a, K(mask))


def clamped(a: Expr, lo: int, hi: int) -> Expr:
    return ex.ite(ex.lt(a, K(lo)), K(lo), ex.ite(ex.lt(K(hi), a), K(hi), ex.narrow(a, lo, hi)))


INT_OPERATIONS: Final[dict[Op, Callable[[Expr, Expr], Expr]]] = {
    Op.ADD: ex.add,
    Op.SUB: ex.sub,
    Op.MUL: ex.mul,
    Op.BITAND: ex.bitand,
    Op.BITOR: ex.bitor,
    Op.BITXOR: ex.bitxor,
    Op.SHL: lambda a, b: ex.shl(a, low(b, 7)),
    Op.SHR: lambda a, b: ex.shr(a, low(b, 7)),
    Op.DIV: lambda a, b: ex.floordiv(low(a, 0xFFF), ex.add(low(b, 0xF), K(1))),
    Op.MOD: lambda a, b: ex.mod(low(a, 0xFFF), ex.add(low(b, 0xF), K(1))),
    Op.BITCOUNT: lambda a, _b: ex.bit_count(low(a, 0x3FF)),
    Op.NARROW: lambda a, _b: clamped(a, -4, 9),
    Op.ITE: lambda a, b: ex.ite(ex.lt(a, b), a, K(-7)),
}
BOOL_OPERATIONS: Final[dict[Op, Callable[[Expr, Expr], Expr]]] = {
    Op.NOT: lambda a, _b: ex.not_(a),
    Op.AND: ex.and_,
    Op.ITE: lambda a, b: ex.ite(a, b, ex.not_(ex.and_(a, b))),
}
COMPARISONS: Final[dict[Op, Callable[[Expr, Expr], Expr]]] = {Op.EQ: ex.eq, Op.LE: ex.le}


@st.composite
def expressions(draw: st.DrawFn) -> Expr:
    """An expression over all operations: each takes operands from those made before."""
    ints: list[Expr] = [*INTS, K(-3), K(1), K(255)]
    bools: list[Expr] = [*BOOLS]
    made: Expr = ints[0]
    for _ in range(draw(st.integers(1, 10))):
        operations, operands = draw(
            st.sampled_from([(INT_OPERATIONS, ints), (BOOL_OPERATIONS, bools), (COMPARISONS, ints)])
        )
        operation = operations[draw(st.sampled_from(sorted(operations, key=lambda op: op.name)))]
        made = operation(draw(st.sampled_from(operands)), draw(st.sampled_from(operands)))
        if made.is_bool:
            bools.append(made)
        if max(abs(made.lo), abs(made.hi)) < 1 << 48:
            ints.append(made)
    return made


@st.composite
def assignments(draw: st.DrawFn) -> dict[str, int]:
    drawn = {v: draw(st.sampled_from([v.lo, v.hi]) | st.integers(v.lo, v.hi)) for v in VARIABLES}
    return {str(var.value): value for var, value in drawn.items()}


def fixed(env: dict[str, int]) -> list[Expr]:
    """That every variable has its value."""
    return [ex.eq(var, K(env[str(var.value)])) for var in VARIABLES]


def value_in_z3(expr: Expr, env: dict[str, int]) -> int:
    """What the z3 term of an expression is under an assignment."""
    translator = z3_translator()
    term = translator.term(expr)
    settings_ = []
    for var in VARIABLES:
        constant, value = translator.term(var), env[str(var.value)]
        number = z3.BoolVal(bool(value)) if var.is_bool else z3.BitVecVal(value, constant.size())
        settings_.append((constant, number))
    found = z3.simplify(z3.substitute(term, *settings_))
    if expr.is_bool:
        return int(z3.is_true(found))
    return int(found.as_signed_long() if expr.lo < 0 else found.as_long())


@settings(max_examples=300, deadline=None)
@given(expressions(), assignments())
def test_z3_term_has_the_expression_s_value(expr: Expr, env: dict[str, int]) -> None:
    assert value_in_z3(expr, env) == ex.evaluate([expr], env)[0]


@pytest.mark.parametrize("solver", SOLVERS)
@settings(max_examples=150, deadline=None)
@given(expr=expressions(), env=assignments())
def test_solvers_read_the_text_alike(solver: str, expr: Expr, env: dict[str, int]) -> None:
    """With all variables fixed, the expression can have its value and no other."""
    claim = ex.eq(expr, K(ex.evaluate([expr], env)[0]))
    right = solve_text(script([*fixed(env), claim]), solver, 60)
    wrong = solve_text(script([*fixed(env), ex.not_(claim)]), solver, 60)
    assert (right.status, wrong.status) == ("sat", "unsat"), (right, wrong)


@pytest.mark.parametrize("op", [op for op in Op if op not in (Op.CONST, Op.VAR)])
def test_every_operation_is_printed(op: Op) -> None:
    """Each operation, between a number that can be negative and one that cannot, for all solvers."""
    operations = INT_OPERATIONS | COMPARISONS | {Op.NOT: lambda a, b: ex.not_(ex.le(a, b))}
    operations[Op.AND] = lambda a, b: ex.and_(ex.le(a, b), ex.le(K(0), a))
    expr, env = operations[op](INTS[0], INTS[1]), {"n": -5, "u": 11}
    assert op in {part.op for part in ex.postorder([expr])}
    claim = [ex.eq(INTS[0], K(-5)), ex.eq(INTS[1], K(11)), ex.eq(expr, K(ex.evaluate([expr], env)[0]))]
    answers = {name: solve_text(script(claim), name, 60).status for name in SOLVERS}
    assert answers == dict.fromkeys(SOLVERS, "sat")


# Variables.


def members(var: Expr, solve: Callable[[list[Expr]], bool]) -> list[int]:
    """The values that a solver lets a variable take, up to two beyond its bounds: asked as a choice
    that is no equality, so that no simplification answers."""
    index = ex.int_var("index", var.lo - 2, var.hi + 2)
    return [
        value for value in range(var.lo - 2, var.hi + 3) if solve([ex.eq(var, index), ex.eq(index, K(value))])
    ]


DOMAINS: Final = [(0, 2), (0, 3), (-1, 1), (-1, 2), (3, 5), (-6, -2), (4, 11)]


def ask_text(solver: str) -> Callable[[list[Expr]], bool]:
    return lambda asked: solve_text(script(asked), solver).status == "sat"


ASK: Final[dict[str, Callable[[list[Expr]], Any]]] = {
    "z3 terms": check_sat,
    **{name: ask_text(name) for name in SOLVERS},
}


@pytest.mark.parametrize("solver", ASK)
@pytest.mark.parametrize(("lo", "hi"), DOMAINS)
def test_variable_takes_the_values_of_its_domain_only(solver: str, lo: int, hi: int) -> None:
    assert members(ex.int_var("v", lo, hi), ASK[solver]) == list(range(lo, hi + 1))


def test_fourth_value_of_an_enumeration_of_three_is_impossible() -> None:
    """Two bits leave room for it; the bounds do not."""
    mode = ex.int_var("mode", 0, 2)
    assert check_sat([ex.eq(ex.bitand(mode, K(1)), K(1)), ex.eq(ex.shr(mode, K(1)), K(1))]) is False


def test_one_name_is_one_domain() -> None:
    two = [ex.eq(ex.int_var("v", 0, hi), K(1)) for hi in (5, 6)]
    with pytest.raises(ValueError, match=r"^Variable v must have one domain, not several$"):
        script(two)


@pytest.mark.parametrize("name", ["a|b", "a\\b", "$0", "a\nb"])
def test_name_that_no_symbol_can_have_is_refused(name: str) -> None:
    message = f"Variable's name must be printable, without |, \\ and a $ in front, not {name!r}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        script([ex.bool_var(name)])


@pytest.mark.parametrize("solver", SOLVERS)
def test_names_are_free_otherwise(solver: str) -> None:
    names = ["0", "t0", "kvm.vcpus[3].ldr", "a b", "é", ""]
    answer = solve_text(script([ex.and_(*map(ex.bool_var, names))]), solver, 60)
    assert answer.values == dict.fromkeys(names, 1)


@pytest.mark.parametrize(
    ("lo", "hi", "bits"),
    [
        (0, 0, 1),
        (0, 1, 1),
        (0, 2, 2),
        (0, 255, 8),
        (0, 256, 9),
        (-1, -1, 1),
        (-1, 0, 1),
        (-1, 1, 2),
        (-4, -3, 3),
        (-128, 127, 8),
        (-129, 0, 9),
        (-1, 128, 9),
    ],
)
def test_width_is_as_small_as_can_be(lo: int, hi: int, bits: int) -> None:
    assert width_of(lo, hi) == bits


# Answers and text.


def test_z3_s_answers_are_told_apart() -> None:
    y, z = (ex.int_var(name, 2, (1 << 32) - 1) for name in "yz")
    factors = ex.eq(ex.mul(y, z), K(2_305_843_009_213_693_951 - 2))
    flag = BOOLS[0]
    answers = [check_sat([flag]), check_sat([flag, ex.not_(flag)]), check_sat([factors], timeout_ms=1)]
    assert answers == [True, False, None]


def test_one_translation_serves_all_users() -> None:
    translator, shared = z3_translator(), ex.add(INTS[0], INTS[1])
    assert translator.term(shared) is translator.term(shared)


def test_term_of_one_expression() -> None:
    assert z3.eq(to_z3(BOOLS[0]), z3.Bool("f"))


def test_script_reads_like_smt_lib() -> None:
    text = script([ex.le(INTS[1], K(3)), BOOLS[0]], ["two\nlines"], "sat")
    assert text.splitlines() == [
        "; two",
        "; lines",
        "(set-logic QF_BV)",
        "(set-info :status sat)",
        "(declare-const |u| (_ BitVec 4))",
        "(declare-const |f| Bool)",
        "(define-fun $0 () Bool (bvule |u| #b0011))",
        "(assert $0)",
        "(assert |f|)",
        "(check-sat)",
    ]


def test_bounds_are_in_the_script() -> None:
    text = script([ex.eq(ex.int_var("mode", 0, 2), ex.int_var("other", 0, 3))])
    assert "(bvule |mode| #b10)" in text
    assert "bvule |other|" not in text
