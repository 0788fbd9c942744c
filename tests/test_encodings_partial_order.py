"""Which labels are private, and how threads at them go first."""

from __future__ import annotations

from avicheck.encodings.expr import FALSE, TRUE, Expr, and_, bool_var, constant, eq, evaluate, ite
from avicheck.encodings.partial_order import partial_order
from avicheck.encodings.transition import Transition, TransitionSystem, Variable, successors

PCS = [Variable(f"pc{i}", 0, 3) for i in range(2)]
XS = [Variable(f"x{i}", 0, 3) for i in range(2)]
SHARED = Variable("y", 0, 1, is_bool=True)


def step(thread: int, at: int, to: int | Expr, guard: Expr = TRUE, **updates: Expr) -> Transition:
    target = constant(to) if isinstance(to, int) else to
    name = f"t{thread}.{at}"
    here = and_(eq(PCS[thread].expr, constant(at)), guard)
    return Transition(name, f"t{thread}", str(at), here, {f"pc{thread}": target, **updates})


def system(*steps: Transition) -> TransitionSystem:
    initial = {var.name: 0 for var in (*PCS, *XS, SHARED)}
    return TransitionSystem("s", (*PCS, *XS, SHARED), (initial,), steps, (), FALSE)


def private(*steps: Transition, asked: tuple[Expr, ...] = ()) -> dict[str, list[int]]:
    found = partial_order(system(*steps), asked).private
    return {name: sorted(labels) for name, labels in found.items() if labels}


LOCAL = step(0, 0, 1, x0=constant(1))
STORE = step(0, 1, 2, y=TRUE)
OTHER = step(1, 0, 1, y=FALSE)


def test_a_label_where_only_own_variables_change_is_private() -> None:
    assert private(LOCAL, STORE, OTHER) == {"pc0": [0]}


def test_a_label_with_a_step_that_others_notice_is_not() -> None:
    noticed = Transition(
        "t0.too", "t0", "0", and_(eq(PCS[0].expr, constant(0)), bool_var("y")), {"x0": constant(2)}
    )
    assert private(LOCAL, noticed, STORE, OTHER) == {}


def test_a_label_that_others_read_is_not() -> None:
    reader = step(1, 0, 1, eq(PCS[0].expr, constant(1)), y=FALSE)
    assert private(LOCAL, STORE, reader) == {}


def test_a_label_whose_step_changes_what_is_asked_is_not() -> None:
    assert private(LOCAL, STORE, OTHER, asked=(eq(XS[0].expr, constant(1)),)) == {}
    assert private(LOCAL, STORE, OTHER, asked=(eq(XS[0].expr, constant(2)),)) == {}


def test_a_label_whose_step_plainly_keeps_what_is_asked_is_private() -> None:
    there = and_(eq(PCS[0].expr, constant(2)), bool_var("y"))
    assert private(LOCAL, STORE, OTHER, asked=(there,)) == {"pc0": [0]}


def test_private_labels_have_no_cycle() -> None:
    around = [step(0, i, (i + 1) % 3, x0=constant(i)) for i in range(3)]
    assert private(*around)["pc0"] == [0, 1]
    back = step(0, 0, ite(eq(XS[0].expr, constant(1)), constant(0), constant(1)), x0=constant(1))
    assert private(back, STORE, OTHER) == {}


def test_a_thread_at_a_private_label_goes_first() -> None:
    original = system(LOCAL, STORE, step(1, 0, 1, x1=constant(1)), step(1, 1, 2, y=FALSE))
    reduced = partial_order(original, ()).system
    (start,) = reduced.initial
    assert [t.name for t, _ in successors(original, start)] == ["t0.0", "t1.0"]
    assert [t.name for t, _ in successors(reduced, start)] == ["t0.0"]
    later = {**start, "pc0": 1}
    assert [t.name for t, _ in successors(reduced, later)] == ["t1.0"]
    assert [t.name for t, _ in successors(reduced, {**later, "pc1": 1})] == ["t0.1", "t1.1"]


def test_a_thread_that_waits_at_a_private_label_lets_others_go() -> None:
    waiting = step(0, 0, 1, eq(XS[0].expr, constant(1)))
    reduced = partial_order(system(waiting, STORE, OTHER), ()).system
    (start,) = reduced.initial
    assert [t.name for t, _ in successors(reduced, start)] == ["t1.0"]
    guard = next(t.guard for t in reduced.transitions if t.name == "t1.0")
    assert evaluate([guard], {**start, "x0": 1}) == [0]
