"""The explicit engine against the reference semantics, published counts and known verdicts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import assume, given, settings

from avicheck.checker import explore as exploring
from avicheck.checker import explore_compiled, searched
from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.errors import InputError
from avicheck.checker.explore import Contradiction, Exploration, Progress, explore
from avicheck.checker.memory import resident
from avicheck.checker.verdict import Verdict
from avicheck.encodings import expr as ex
from avicheck.encodings.packing import PackingError
from avicheck.encodings.transition import (
    Property,
    Transition,
    TransitionSystem,
    Values,
    Variable,
    replay,
)
from tests.benchmarks.avic_delivery import COUNTS, SIZES, avic_delivery
from tests.known.catalogue import CASES, Known
from tests.random_systems import Reached, expressions, reach, systems

ROOT = Path(__file__).parent.parent

Tier = Literal["interpreted", "compiled"]
TIERS: tuple[Tier, Tier] = ("interpreted", "compiled")
every_tier = pytest.mark.parametrize("tier", TIERS)


def counter(top: int = 9, *, step: ex.Expr | None = None, guarded: bool = True) -> TransitionSystem:
    """x goes from 0 up to ``top`` one by one; y is at most 1."""
    x, y = Variable("x", 0, top), Variable("y", 0, 1)
    up = Transition(
        "up",
        "t",
        "up",
        ex.lt(x.expr, ex.constant(top)) if guarded else ex.TRUE,
        {"x": ex.add(x.expr, ex.constant(1)) if step is None else step},
    )
    blocked = Transition("blocked", "t", "blocked", ex.lt(x.expr, y.expr), {"y": ex.constant(1)})
    five = ex.eq(x.expr, ex.constant(5))
    return TransitionSystem(
        "counter",
        (x, y),
        ({"x": 0, "y": 0},),
        (up, blocked),
        (
            Property("small", "always", ex.lt(x.expr, ex.constant(4))),
            Property("five", "sometimes", five),
            Property("never-five", "never", five),
            Property("y", "sometimes", ex.eq(y.expr, ex.constant(1))),
            Property("up", "leads-to", ex.TRUE, target=five),
        ),
        ex.FALSE,
    )


def verdicts(exploration: Exploration) -> dict[str, tuple[Verdict, int | None]]:
    """Each property's verdict, and the length of its run."""
    return {
        result.property: (result.verdict, None if result.run is None else len(result.run.fired))
        for result in exploration.results
    }


# Against others.


@cache
def tiny_delivery() -> Reached:
    expected = reach(avic_delivery(1, 1, 1), 10_000)
    assert expected is not None
    return expected


@every_tier
@pytest.mark.parametrize("size", ["XS", "S"])
def test_delivery_has_the_published_counts(size: str, tier: Tier) -> None:
    found = explore(avic_delivery(*SIZES[size]), tier=tier)
    assert (found.states, found.transitions, found.depth) == COUNTS[size]
    assert found.complete
    assert found.never_fired == ()


@every_tier
def test_delivery_has_the_counts_of_the_reference_semantics(tier: Tier) -> None:
    system = avic_delivery(1, 1, 1)
    expected, found = tiny_delivery(), explore(system, tier=tier)
    assert (found.states, found.transitions, found.depth) == (expected.states, expected.transitions, 37)
    assert found.fired == expected.fired


@every_tier
@pytest.mark.parametrize("size", ["XS", "M", "L"])
def test_delivery_with_the_bug_is_violated_after_ten_steps(size: str, tier: Tier) -> None:
    system = avic_delivery(*SIZES[size], bug=True)
    found = explore(system, tier=tier)
    assert verdicts(found)["no-lost-interrupt"] == (Verdict.VIOLATED, 10)
    run = found.results[0].run
    assert run is not None
    replay(system, run)


def test_tiers_and_reference_agree_on_random_systems() -> None:
    sizes = []

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(systems())
    def check(system: TransitionSystem) -> None:
        expected = reach(system, 300)
        assume(expected is not None)
        assert expected is not None
        sizes.append(expected.states)
        runs = {**expected.nearest, DEADLOCK_FREE: expected.deadlock}
        for tier in TIERS:
            found = explore(system, tier=tier, stop="never")
            assert (found.states, found.transitions) == (expected.states, expected.transitions)
            assert (found.depth, found.out_degree_max) == (expected.depth, expected.widest)
            assert found.fired == expected.fired
            assert {name: length for name, (_, length) in verdicts(found).items()} == runs
        stopped = verdicts(explore(system, tier="interpreted"))
        assert all(length in (None, runs[name]) for name, (_, length) in stopped.items())

    check()
    assert sum(size > 5 for size in sizes) >= 5


@every_tier
def test_expressions_have_their_values(tier: Tier) -> None:
    answers = []

    @settings(max_examples=100 if tier == "compiled" else 400, deadline=None)
    @given(expressions())
    def check(case: tuple[tuple[Variable, ...], list[ex.Expr], Values]) -> None:
        variables, found, state = case
        asked = tuple(Property(f"p{i}", "sometimes", expr) for i, expr in enumerate(found))
        system = TransitionSystem("random", variables, (state,), (), asked, ex.TRUE)
        results = explore(system, tier=tier, properties=[p.name for p in asked], stop="never").results
        holds = [result.verdict is Verdict.HOLDS for result in results]
        assert holds == [bool(value) for value in ex.evaluate(found, state)]
        answers.extend(holds)

    check()
    assert 0.2 < sum(answers) / len(answers) < 0.8


@every_tier
@pytest.mark.parametrize(
    ("known", "name", "holds"),
    [case for case in CASES if not case[1].startswith("round-")],
    ids=[f"{known.name}: {name}" for known, name, _ in CASES if not name.startswith("round-")],
)
def test_known_answer(known: Known, name: str, holds: bool, tier: Tier) -> None:
    (result,) = explore(known.encoding.system, properties=[name], tier=tier).results
    assert result.verdict is (Verdict.HOLDS if holds else Verdict.VIOLATED)


# Properties and when to stop.


@every_tier
def test_the_first_violation_stops_the_search(tier: Tier) -> None:
    found = explore(counter(), tier=tier)
    assert found.stopped == "decided"
    assert verdicts(found)["small"] == (Verdict.VIOLATED, 4)
    assert verdicts(found)["y"] == (Verdict.UNKNOWN, None)
    assert found.states < 10


@every_tier
def test_a_search_may_go_on_until_all_is_decided(tier: Tier) -> None:
    found = explore(counter(), properties=["small", "five", "never-five"], stop="all", tier=tier)
    assert found.stopped == "decided"
    assert verdicts(found) == {
        "small": (Verdict.VIOLATED, 4),
        "five": (Verdict.HOLDS, 5),
        "never-five": (Verdict.VIOLATED, 5),
    }


@every_tier
def test_a_search_may_go_on_to_the_end(tier: Tier) -> None:
    found = explore(counter(), stop="never", tier=tier)
    assert found.complete
    assert verdicts(found) == {
        "small": (Verdict.VIOLATED, 4),
        "five": (Verdict.HOLDS, 5),
        "never-five": (Verdict.VIOLATED, 5),
        "y": (Verdict.VIOLATED, None),
        DEADLOCK_FREE: (Verdict.VIOLATED, 9),
    }
    assert (found.states, found.transitions, found.depth) == (10, 9, 9)
    assert found.never_fired == ("blocked",)
    assert (found.out_degree_max, found.out_degree_mean) == (1, 0.9)


@every_tier
def test_a_violated_initial_state_is_a_run_without_steps(tier: Tier) -> None:
    broken = Property("broken", "never", ex.TRUE)
    found = explore(replace(counter(), properties=(broken,)), tier=tier)
    assert verdicts(found)["broken"] == (Verdict.VIOLATED, 0)


@every_tier
def test_a_state_that_has_ended_is_no_deadlock(tier: Tier) -> None:
    system = counter()
    top = ex.eq(system.variables[0].expr, ex.constant(9))
    found = explore(replace(system, ended=top), properties=[DEADLOCK_FREE], tier=tier)
    assert verdicts(found) == {DEADLOCK_FREE: (Verdict.HOLDS, None)}
    assert found.deadlock is None


@every_tier
def test_a_deadlock_is_found_without_being_asked_for(tier: Tier) -> None:
    found = explore(counter(), properties=[], tier=tier)
    assert found.deadlock is not None
    assert found.deadlock.states[-1] == {"x": 9, "y": 0}
    assert found.results == ()


def test_an_unknown_property_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r'^property must be one of small, five, never-five, y, deadlock-free, not "samll"; '
        r"did you mean small\?$",
    ):
        explore(counter(), properties=["samll"])


@every_tier
def test_a_step_beyond_a_variable_s_bounds_is_refused(tier: Tier) -> None:
    with pytest.raises(InputError, match=r"^after up: x must be from 0 to 9, not 10$"):
        explore(counter(guarded=False), stop="never", tier=tier)


@every_tier
def test_a_step_below_a_variable_s_bounds_is_refused(tier: Tier) -> None:
    x = ex.int_var("x", 0, 9)
    with pytest.raises(InputError, match=r"^after up: x must be from 0 to 9, not -3$"):
        explore(counter(step=ex.sub(x, ex.constant(3))), stop="never", tier=tier)


def test_an_initial_state_beyond_bounds_is_refused() -> None:
    with pytest.raises(PackingError, match=r"^x must be from 0 to 9, not 10$"):
        explore(replace(counter(), initial=({"x": 10, "y": 0},)))


@every_tier
def test_a_run_that_the_reference_semantics_does_not_have_is_a_contradiction(
    tier: Tier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searched, "successors", lambda _system, _state: [])
    expected = (
        f"^The {tier} tier finds a run that is none: State 1 must be reached by a step, not out of reach$"
    )
    with pytest.raises(Contradiction, match=expected):
        explore(counter(), tier=tier)


# Tiers.


@pytest.fixture
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine code is there from runs before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.usefixtures("nothing_kept")
def test_a_small_run_is_interpreted() -> None:
    assert explore(avic_delivery(1, 1, 1)).tier == "interpreted"


def test_a_large_run_goes_on_compiled() -> None:
    found = explore(avic_delivery(*SIZES["S"]))
    assert found.tier == "compiled"
    assert (found.states, found.transitions, found.depth) == COUNTS["S"]
    assert found.fired == explore(avic_delivery(*SIZES["S"]), tier="interpreted").fired


@pytest.mark.usefixtures("nothing_kept")
def test_code_that_was_compiled_before_is_used_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore_compiled, "_processors", lambda: 1)
    system = avic_delivery(1, 1, 1)
    first = explore(system)
    assert first.tier == "interpreted"
    assert explore(system, tier="compiled").fired == first.fired
    again = explore(system)
    assert again.tier == "compiled"
    assert again.fired == first.fired


@pytest.mark.parametrize("size", ["XS", "M"])
def test_a_search_that_stops_early_has_seen_the_same_in_every_tier(size: str) -> None:
    system = avic_delivery(*SIZES[size], bug=True)
    seen = [explore(system, tier=tier) for tier in (*TIERS, "auto")]
    assert len({(found.states, found.transitions, found.depth) for found in seen}) == 1
    assert seen[0].results[0].run == seen[1].results[0].run == seen[2].results[0].run


@pytest.mark.usefixtures("nothing_kept")
def test_a_small_run_does_not_import_llvmlite() -> None:
    code = (
        "import sys; from avicheck.checker.explore import explore; "
        "from tests.benchmarks.avic_delivery import avic_delivery; "
        "assert explore(avic_delivery(1, 1, 1)).complete; assert 'llvmlite' not in sys.modules"
    )
    code = f"import runpy; runpy.run_path({str(ROOT / 'tests/conftest.py')!r}); {code}"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Limits.


@every_tier
def test_a_limit_of_states_leaves_the_rest_unknown(tier: Tier) -> None:
    found = explore(avic_delivery(*SIZES["XS"]), max_states=5_000, tier=tier)
    assert found.stopped == "states"
    assert 5_000 <= found.states < 12_000
    result = found.results[0]
    assert result.verdict is Verdict.UNKNOWN
    expected = r"stopped at the limit of states: all states up to depth \d+ were seen"
    assert re.fullmatch(expected, result.detail)


@every_tier
def test_a_partial_result_knows_all_states_up_to_its_depth(tier: Tier) -> None:
    system = avic_delivery(1, 1, 1)
    partial = explore(system, max_states=300, tier=tier)
    within = [reach(system, 10_000, steps=partial.depth + more) for more in (0, 1)]
    assert within[0] is not None
    assert within[1] is not None
    assert within[0].states <= partial.states <= within[1].states


@every_tier
def test_a_limit_of_memory_leaves_the_rest_unknown(tier: Tier) -> None:
    explore(avic_delivery(1, 1, 1), tier="compiled")  # so that llvmlite is there already
    limit = resident() + (16 << 20)
    found = explore(avic_delivery(*SIZES["M"]), max_memory=limit, tier=tier)
    assert found.stopped == "memory"
    assert found.states > 20_000
    assert verdicts(found)["no-lost-interrupt"] == (Verdict.UNKNOWN, None)
    assert resident() < limit + (16 << 20)


@every_tier
def test_an_interrupt_leaves_the_rest_unknown(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exploring, "PROGRESS_EVERY", 0.0)
    before = signal.getsignal(signal.SIGINT)
    seen: list[Progress] = []

    def interrupt(progress: Progress) -> None:
        seen.append(progress)
        os.kill(os.getpid(), signal.SIGINT)

    found = explore(avic_delivery(*SIZES["S"]), tier=tier, on_progress=interrupt)
    assert found.stopped == "interrupted"
    assert found.states == seen[0].states
    assert len(seen) == 1
    assert signal.getsignal(signal.SIGINT) is before


@every_tier
def test_progress_tells_depth_frontier_and_states(tier: Tier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exploring, "PROGRESS_EVERY", 0.0)
    seen: list[Progress] = []
    explore(counter(), properties=[], tier=tier, on_progress=seen.append)
    assert [(p.depth, p.frontier, p.states) for p in seen] == [*((i, 1, i + 2) for i in range(9)), (9, 0, 10)]
    assert all(p.memory > 1 << 20 and p.states_per_second > 0 for p in seen[:9])
