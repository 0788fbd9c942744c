"""A run as a person reads it: columns, what a step did, why a property fails."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import systems
from avicheck.checker.engines import property_of
from avicheck.checker.errors import InputError
from avicheck.checker.systems import Choices, Instance, instance
from avicheck.checker.trace import Trace
from avicheck.checker.trace_columns import explained, trace_lines
from avicheck.checker.trace_why import deciding, reasons
from avicheck.checker.trace_words import Told, Words, switches
from avicheck.encodings.expr import Expr, and_, bool_var, eq, evaluate, int_var, ite, le, not_
from avicheck.encodings.transition import Property, Run, successors
from tests.known.described import CASES, POINTS, run_of, sample
from tests.small_systems import VARIABLES, conditions


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known models are registered."""
    monkeypatch.setattr(systems, "registered", lambda: POINTS)


def lines_of(shown: Trace) -> list[str]:
    return trace_lines(shown.instance, shown.asked, shown.run)


def walk(chosen: Instance, steps: int, seed: int) -> Run:
    """A run at random."""
    rng = random.Random(seed)
    states, fired = [rng.choice(chosen.system.initial)], []
    for _ in range(steps):
        following = successors(chosen.system, states[-1])
        if not following:
            break
        transition, after = rng.choice(following)
        states.append(after)
        fired.append(transition.name)
    return Run(tuple(states), tuple(fired))


def told(shown: Trace, number: int) -> Told:
    return Words(shown.instance).steps(shown.run)[number - 1]


# Columns.


@pytest.mark.parametrize("name", CASES)
def test_trace_reads(name: str, snapshot: SnapshotAssertion) -> None:
    assert "\n".join(lines_of(sample(name))) == snapshot


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([("shelf", "readers", 1), ("philosophers", "philosophers", 2)]),
    st.integers(0, 99),
    st.integers(50, 100),
)
def test_no_line_is_wider_than_the_page(model: tuple[str, str, int], seed: int, width: int) -> None:
    name, size, least = model
    chosen = instance(name, Choices(scope={size: least + seed % 3}, memory=("sc", "tso")[seed % 2]))
    lines = trace_lines(chosen, None, walk(chosen, 30, seed), width)
    assert max(map(len, lines)) <= width


def test_each_step_is_numbered_in_its_threads_column() -> None:
    rows = [line for line in lines_of(sample("peterson")) if line[:1].isdigit()][1:]
    assert [row.split()[0] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert [row.index(row.split()[1]) for row in rows] == [5, 5, 5, 42, 42, 42]


def test_the_c_function_is_named_where_it_changes() -> None:
    chosen = instance("shelf")
    run = run_of(chosen, "reader[0].take", "reader[1].take", "reader[0].put", "reader[0].look")
    text = "\n".join(trace_lines(chosen, None, run))
    assert text.count("shelf.c put:") == 2
    assert text.count("shelf.c look:") == 1


def test_a_long_call_breaks_after_its_parenthesis() -> None:
    shown = sample("shelf")
    system = shown.instance.system
    steps = tuple(replace(step, source="lapic.c set_release(&apic_map_dirty)") for step in system.transitions)
    chosen = replace(shown.instance)
    vars(chosen)["encoding"] = replace(shown.instance.encoding, system=replace(system, transitions=steps))
    lines = [line.strip() for line in trace_lines(chosen, None, shown.run, 30)]
    assert lines[lines.index("lapic.c set_release(") + 1] == "&apic_map_dirty):"


def test_unknown_property_is_refused() -> None:
    shown = sample("shelf")
    with pytest.raises(InputError, match="property must be one of light, marked"):
        trace_lines(shown.instance, "heavy", shown.run)


def test_a_run_may_be_about_no_property() -> None:
    shown = sample("shelf")
    assert not any("Violated" in line for line in trace_lines(shown.instance, None, shown.run))


def test_a_counterexample_to_induction_is_marked_with_where_it_begins() -> None:
    shown = sample("shelf")
    begun = shown.run.states[1]
    assert begun not in shown.instance.system.initial
    lines = trace_lines(shown.instance, shown.asked, Run(shown.run.states[1:], shown.run.fired[1:]))
    text = " ".join(" ".join(lines).split())
    assert "Counterexample to induction, and none to" in text
    assert "its first state may not be reachable. First state: " in text
    assert "Violated" not in text


# Steps in words.


def test_a_jump_is_told_and_going_straight_on_is_not() -> None:
    shown = sample("peterson")
    assert told(shown, 3).goes_to == "critical"
    assert told(shown, 1).goes_to is None


def test_null_pointers_are_called_so() -> None:
    assert "marked: NULL -> 0" in told(sample("shelf"), 2).lines


def test_what_is_buffered_is_told_and_what_is_read() -> None:
    shown = sample("peterson")
    assert (told(shown, 1).access, told(shown, 1).notes) == ("none", ("store buffer: flag[0] = true",))
    assert (told(shown, 3).access, told(shown, 3).notes) == ("read", ("flag[1] is false",))


def test_a_load_of_the_thread_s_own_store_tells_so() -> None:
    chosen = instance("peterson", Choices(memory="tso"))
    steps = ("[1].want", "[1].flush", "[0].want", "[0].yield_turn", "[0].see_flag", "[0].see_turn")
    run = run_of(chosen, *(f"peterson{step}" for step in steps))
    assert Words(chosen).steps(run)[-1].notes == ("turn is 1 in the store buffer",)


def test_what_is_loaded_is_told_beside_a_register_that_changes() -> None:
    chosen = instance("shelf", Choices(on=("breaks",)))
    words = Words(chosen)
    before = dict(chosen.system.initial[0]) | {"books": 1, "marked": 1, "reader[0].pc": 2}
    look = words.transitions["reader[0].look"]
    told = words.told(1, look, before, {**before, "marked": 0})
    assert (told.access, told.lines) == ("write", ["marked: 1 -> 0", "books is 1"])


def test_a_flush_tells_what_reaches_memory() -> None:
    chosen = instance("peterson", Choices(memory="tso"))
    words, run = Words(chosen), sample("peterson").run
    flush = words.transitions["peterson[0].flush"]
    after = next(after for step, after in successors(chosen.system, run.states[-1]) if step is flush)
    assert words.told(7, flush, run.states[-1], after).lines == ["flag[0]: false -> true"]


def test_a_store_of_the_same_value_is_told() -> None:
    chosen = instance("shelf")
    words, before = Words(chosen), dict(chosen.system.initial[0])
    before |= {"marked": 0, "reader[0].pc": 1, "reader[0].has": 1}
    put = words.transitions["reader[0].put"]
    after = next(after for step, after in successors(chosen.system, before) if step is put)
    assert words.told(1, put, before, after).changes[0].name == "books"
    after = {**after, "books": before["books"]}
    assert "marked stays 0" in words.told(1, put, before, after).notes


def test_thread_switches_are_counted() -> None:
    assert [switches(threads) for threads in ("", "a", "aab", "abab")] == [0, 0, 1, 3]


# Why.


@settings(max_examples=200, deadline=None)
@given(conditions(), st.data())
def test_the_deciding_variables_decide(expr: Expr, data: st.DataObject) -> None:
    """Whatever the others are, the value stays."""
    state = {var.name: data.draw(st.integers(var.lo, var.hi)) for var in VARIABLES}
    names = deciding(expr, state)
    others = {var.name: data.draw(st.integers(var.lo, var.hi)) for var in VARIABLES}
    changed = {name: state[name] if name in names else others[name] for name in state}
    assert evaluate([expr], changed) == evaluate([expr], state)


def test_of_false_conjuncts_the_one_with_fewest_variables_decides() -> None:
    a, b, x = bool_var("a"), bool_var("b"), int_var("x", 0, 9)
    expr = and_(eq(a, b), le(x, int_var("y", 0, 9)), bool_var("c"))
    assert deciding(expr, {"a": 0, "b": 1, "x": 5, "y": 4, "c": 0}) == ("c",)


def test_a_branch_not_taken_does_not_decide() -> None:
    a, x, y = bool_var("a"), int_var("x", 0, 9), int_var("y", 0, 9)
    assert set(deciding(ite(a, x, y), {"a": 1, "x": 5, "y": 4})) == {"a", "x"}


def test_a_condition_does_not_decide_where_both_branches_are_alike() -> None:
    a, x, y = bool_var("a"), bool_var("x"), bool_var("y")
    expr = ite(and_(a, bool_var("b"), bool_var("c")), x, y)
    assert set(deciding(expr, {"a": 1, "b": 1, "c": 1, "x": 1, "y": 1})) == {"x", "y"}


def test_what_is_known_anyway_is_not_counted() -> None:
    a, b, c = bool_var("a"), bool_var("b"), bool_var("c")
    expr = not_(and_(not_(and_(a, b)), c))
    state = {"a": 0, "b": 0, "c": 0}
    assert deciding(expr, state) == ("c",)
    assert deciding(and_(a, c), state, ("a",)) == ("a",)


def test_the_conjuncts_that_fail_are_named() -> None:
    shown = sample("shelf")
    light = property_of(shown.instance.system, "light")
    assert [reason.part for reason in reasons(light, shown.run)] == ["few_books"]


def test_all_conjuncts_of_a_never_are_named() -> None:
    parts = (("at all", not_(bool_var("no"))), ("marked", le(int_var("marked", -1, 1), int_var("one", 1, 2))))
    asked = Property("both", "never", and_(*(part for _, part in parts)), conjuncts=parts)
    run = Run(({"no": 0, "marked": 0, "one": 1},), ())
    assert [reason.part for reason in reasons(asked, run)] == ["at all", "marked"]


def test_the_thread_for_which_it_fails_is_named() -> None:
    chosen = instance("shelf")
    words = Words(chosen)
    state = dict(chosen.system.initial[0]) | {"books": 2, "reader[1].has": 1}
    sentences = list(explained(words, property_of(chosen.system, "light"), Run((state,), ())))
    assert sentences[1].replace("\N{NO-BREAK SPACE}", " ") == (
        "In the end nobody_has_two is false for reader[1]: books = 2, reader[1].has = true."
    )
