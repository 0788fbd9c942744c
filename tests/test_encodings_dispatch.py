"""The decision tree keeps every transition where its guard can hold, and only there."""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from avicheck.encodings import expr as ex
from avicheck.encodings.dispatch import Rule, Switch, Tree, alternatives, decision_tree, in_order
from avicheck.encodings.expr import Expr, evaluate
from avicheck.encodings.transition import Transition, TransitionSystem, Values, Variable
from tests.random_systems import expressions, systems

PC, LOCK = ex.int_var("pc", 0, 7), ex.bool_var("lock")


def at(*guards: Expr) -> list[Transition]:
    return [Transition(f"t{i}", "t", "t", guard, {}) for i, guard in enumerate(guards)]


def reached(tree: Tree, state: Values) -> Iterator[int]:
    """The transitions that the tree leads to and whose remaining tests hold."""
    for node in tree:
        if isinstance(node, Rule):
            if all(evaluate(node.conjuncts, state)):
                yield node.index
        else:
            value = evaluate([node.variable], state)[0]
            yield from reached(dict(node.cases).get(value, ()), state)


@given(systems(), st.data())
def test_the_tree_leads_to_what_can_fire(system: TransitionSystem, data: st.DataObject) -> None:
    state = {v.name: data.draw(st.integers(v.lo, min(v.lo + 4, v.hi))) for v in system.variables}
    enabled = [i for i, t in enumerate(system.transitions) if evaluate([t.guard], state)[0]]
    assert sorted(reached(decision_tree(system.transitions), state)) == enabled


def test_a_test_that_guards_share_is_made_once() -> None:
    one, two = ex.eq(PC, ex.constant(1)), ex.eq(PC, ex.constant(2))
    tree = decision_tree(at(one, ex.and_(two, LOCK), ex.and_(two, ex.not_(LOCK))))
    (switch,) = tree
    assert isinstance(switch, Switch)
    assert switch.variable is PC
    assert [value for value, _ in switch.cases] == [1, 2]
    (inner,) = switch.cases[1][1]
    assert isinstance(inner, Switch)
    assert inner.variable is LOCK


def test_a_test_of_a_single_guard_stays_in_it() -> None:
    one = ex.eq(PC, ex.constant(1))
    (rule,) = decision_tree(at(ex.and_(one, LOCK)))
    assert isinstance(rule, Rule)
    assert set(rule.conjuncts) == {one, LOCK}


@given(expressions())
def test_a_condition_holds_if_one_of_its_alternatives_does(
    case: tuple[tuple[Variable, ...], list[Expr], Values],
) -> None:
    _, conditions, state = case
    for condition in conditions:
        holds = [all(all(evaluate(group, state)) for group in groups) for groups in alternatives(condition)]
        assert any(holds) == bool(evaluate([condition], state)[0])


def test_what_is_quickly_computed_comes_first() -> None:
    quick = (ex.eq(PC, ex.constant(1)), LOCK)
    sums = [PC]
    for i in range(12):
        sums.append(ex.add(sums[-1], ex.mul(sums[-1], ex.constant(i + 2))))
    long, longer = ex.le(sums[6], ex.constant(99)), ex.le(sums[-1], ex.constant(99))
    first, *others = in_order([longer, quick[0], long, quick[1]])
    assert set(first) == set(quick)
    assert others == [(long,), (longer,)]
