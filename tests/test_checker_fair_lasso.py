"""Liveness on the explicit graph: right verdicts, real and shortest lassos, honest limits."""

from __future__ import annotations

import inspect
import os
import re
import signal
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any, Final

import pytest
from hypothesis import given, settings

from avicheck.checker import explore as explore_module
from avicheck.checker import fair_lasso, fair_loops, region
from avicheck.checker.engine import EngineResult
from avicheck.checker.explicit import explicit
from avicheck.checker.explore import Contradiction, Progress, Tier, explore
from avicheck.checker.fair_loops import FairLoops
from avicheck.checker.verdict import Verdict
from avicheck.encodings.expr import constant, eq
from avicheck.encodings.liveness import always_property
from avicheck.encodings.reachability import confirm
from avicheck.encodings.transition import Property, ReplayError, Run, TransitionSystem
from tests.fair_runs import at_random, graph_system, leads_to, shortest
from tests.known.catalogue import CASES, KNOWN, Known
from tests.small_systems import graph_of, holds, systems

SEEN: Final = "all states up to depth 0 were seen, but not all ways between them"

Decide = Callable[[TransitionSystem, Property], EngineResult]
decide = fair_lasso.fair_lasso


def lengths(run: Run) -> tuple[int, int]:
    """The steps of a run before its loop or its end, and those in the loop."""
    stem = len(run.fired) if run.loop is None else run.loop
    return stem, len(run.fired) - stem


def agrees(seed: int, decide: Decide = decide) -> bool:
    """Whether the engine says what a search by definition says, and its run is real and a shortest one."""
    system = at_random(seed)
    (asked,) = system.properties
    result, expected = decide(system, asked), answer(seed)
    if result.run is None:
        return result.verdict is Verdict.HOLDS and expected is None
    confirm(system, asked, result.run)
    return result.verdict is Verdict.VIOLATED and lengths(result.run) == expected


@cache
def answer(seed: int) -> tuple[int, int] | None:
    """What a search by definition says of a random graph."""
    system = at_random(seed)
    return shortest(system, system.properties[0])


def asking(
    *edges: tuple[str, int, int],
    cause: Collection[int] = (0,),
    target: Collection[int] = (15,),
    weak: Collection[str] = (),
    strong: Collection[str] = (),
) -> tuple[TransitionSystem, Property]:
    """The graph with these edges, and what is asked of it."""
    steps: dict[str, dict[int, int]] = {}
    for name, source, after in edges:
        steps.setdefault(name, {})[source] = after
    asked = leads_to(cause, target, tuple(weak), tuple(strong))
    return graph_system(steps, [asked]), asked


def lasso(*edges: tuple[str, int, int], **asked: Collection[Any]) -> tuple[str, ...] | None:
    """The steps of the run that refutes, the loop's after a bar; None if there is none."""
    system, prop = asking(*edges, **asked)
    run = explicit(system, prop).run
    if run is None:
        return None
    return run.fired if run.loop is None else (*run.fired[: run.loop], "|", *run.fired[run.loop :])


# Against other deciders.


def test_runs_are_those_that_a_search_by_definition_finds() -> None:
    assert [seed for seed in range(400) if not agrees(seed)] == []


def test_random_graphs_have_every_kind_of_answer() -> None:
    answers = [answer(seed) for seed in range(400)]
    loops = [answer for answer in answers if answer is not None and answer[1] > 0]
    assert answers.count(None) > 100
    assert sum(answer is not None and answer[1] == 0 for answer in answers) > 40
    assert len(loops) > 80
    assert max(loop for _, loop in loops) >= 5
    assert max(stem for stem, _ in loops) >= 3


def test_verdicts_are_those_of_the_translation_to_safety() -> None:
    for seed in range(60):
        system = at_random(seed)
        (asked,) = system.properties
        transformed, never_closed = always_property(system, asked)
        found = explore(replace(transformed, properties=(never_closed,)), stop="all").results[0]
        result = explicit(system, asked)
        assert result.verdict is found.verdict
        if result.run is not None and found.run is not None:
            assert lengths(result.run)[0] <= len(found.run.fired)


@settings(deadline=None, max_examples=40)
@given(systems())
def test_verdicts_are_those_of_search_in_wider_systems(system: TransitionSystem) -> None:
    asked = system.properties[-1]
    result = explicit(system, asked)
    assert (result.verdict is Verdict.HOLDS) == holds(system, graph_of(system), asked)
    assert (result.run is None) == (result.verdict is Verdict.HOLDS)


@pytest.mark.parametrize("seed", [0, 3, 4, 11])
def test_compiled_code_finds_the_same_run(seed: int) -> None:
    system = at_random(seed)
    (asked,) = system.properties
    tiers: tuple[Tier, ...] = ("interpreted", "compiled")
    first, second = (decide(system, asked, tier=tier) for tier in tiers)
    assert replace(first, seconds=0.0) == replace(second, seconds=0.0)


LIVE: Final = [case for case in CASES if case[1].startswith("round")]


@pytest.mark.parametrize(
    ("known", "name", "holds"), LIVE, ids=[f"{known.name}: {name}" for known, name, _ in LIVE]
)
def test_token_rings_have_the_known_answers(known: Known, name: str, holds: bool) -> None:
    (asked,) = (asked for asked in known.encoding.system.properties if asked.name == name)
    assert explicit(known.encoding.system, asked).verdict is (Verdict.HOLDS if holds else Verdict.VIOLATED)


DINING: Final = {len(known.options): known for known in KNOWN if known.model.name == "philosophers"}
"""The philosophers: without etiquette, and with one fork to be taken first."""


def eats(known: Known, philosopher: int, *, strong: bool) -> EngineResult:
    """Whether one that is hungry gets to eat, if all steps are fair, weakly or strongly."""
    system = known.encoding.system
    (pc,) = (var for var in system.variables if var.name == f"philosopher[{philosopher}].pc")
    hungry, eating = (eq(pc.expr, constant(pc.labels.index(at))) for at in ("take_first", "eat"))
    steps = tuple(step.name for step in system.transitions)
    weakly, strongly = ((), steps) if strong else (steps, ())
    asked = Property(
        "eats", "leads-to", hungry, target=eating, weak_fairness=weakly, strong_fairness=strongly
    )
    return explicit(system, asked)


@pytest.mark.parametrize("philosopher", range(3))
def test_philosophers_with_etiquette_eat_if_their_steps_are_strongly_fair(philosopher: int) -> None:
    assert eats(DINING[1], philosopher, strong=True).verdict is Verdict.HOLDS
    assert eats(DINING[1], philosopher, strong=False).verdict is Verdict.VIOLATED


def test_philosophers_without_etiquette_starve_together() -> None:
    run = eats(DINING[0], 0, strong=True).run
    assert run is not None
    assert (run.loop, [name.split(".")[1] for name in run.fired]) == (None, ["take_first"] * 3)


# One fact each.


def test_loop_without_fairness_is_the_nearest() -> None:
    assert lasso(("go", 0, 1), ("turn", 1, 1), ("stay", 0, 0)) == ("|", "stay")


def test_run_that_ends_refutes() -> None:
    assert lasso(("go", 0, 1), ("on", 1, 2)) == ("go", "on")


def test_run_that_ends_is_no_longer_than_one_with_a_loop() -> None:
    assert lasso(("go", 0, 1), ("over", 0, 2), ("turn", 2, 2)) == ("go",)


def test_what_stays_enabled_fires_in_a_weakly_fair_loop() -> None:
    edges = ("stay", 0, 0), ("out", 0, 15)
    assert lasso(*edges) == ("|", "stay")
    assert lasso(*edges, weak=["out"]) is None


def test_weakly_fair_loop_may_pass_a_state_that_blocks() -> None:
    edges = ("stay", 0, 0), ("out", 0, 15), ("over", 0, 1), ("back", 1, 0)
    assert lasso(*edges, weak=["out"]) == ("|", "over", "back")


def test_what_is_enabled_again_and_again_fires_in_a_strongly_fair_loop() -> None:
    edges = ("out", 0, 15), ("over", 0, 1), ("back", 1, 0)
    assert lasso(*edges, weak=["out"]) == ("|", "over", "back")
    assert lasso(*edges, strong=["out"]) is None


def test_strongly_fair_loop_avoids_what_it_cannot_fire() -> None:
    edges = ("over", 0, 1), ("back", 1, 0), ("out", 1, 15), ("on", 0, 2), ("turn", 2, 3), ("turn", 3, 2)
    assert lasso(*edges, strong=["out"]) == ("on", "|", "turn", "turn")
    assert lasso(*edges, ("home", 2, 0), strong=["out"]) == ("|", "on", "home")


def test_loop_fires_all_that_is_strongly_fair() -> None:
    edges = ("a", 0, 1), ("b", 1, 0), ("c", 0, 0), ("d", 1, 1)
    assert lasso(*edges, strong=["a", "c", "d"]) == ("|", "a", "d", "b", "c")


def test_loop_begins_before_the_target_is_asked_for_if_it_passes_the_cause() -> None:
    edges = ("go", 0, 1), ("on", 1, 2), ("back", 2, 0)
    assert lasso(*edges, cause=[2]) == ("|", "go", "on", "back")


def test_loop_is_short_if_the_target_is_asked_for_before() -> None:
    edges = ("go", 0, 1), ("turn", 1, 1)
    assert lasso(*edges, cause=[0]) == ("go", "|", "turn")


def test_target_that_is_reached_has_to_be_asked_for_again() -> None:
    edges = ("go", 0, 1), ("on", 1, 2), ("turn", 2, 2)
    assert lasso(*edges, cause=[0], target=[1]) is None
    assert lasso(*edges, cause=[0, 2], target=[1]) == ("go", "on", "|", "turn")


def test_state_with_cause_and_target_asks_for_nothing() -> None:
    assert lasso(("turn", 0, 0), cause=[0], target=[0]) is None


def test_shortest_loop_among_those_with_the_shortest_stem_is_taken() -> None:
    system = graph_system(
        {"a": {0: 1, 1: 0, 2: 3, 3: 4, 4: 2, 5: 5}, "b": {2: 5}}, [asked := leads_to(range(6), [])], (0, 2)
    )
    run = explicit(system, asked).run
    assert run is not None
    assert lengths(run) == (0, 2)


def test_loop_that_is_found_step_by_step_is_fair() -> None:
    for seed in range(120):
        system = at_random(seed)
        (asked,) = system.properties
        exact, quick = decide(system, asked), decide(system, asked, exact=0)
        assert exact.verdict is quick.verdict
        if exact.run is not None and quick.run is not None:
            confirm(system, asked, quick.run)
            assert lengths(quick.run)[0] == lengths(exact.run)[0]
            assert lengths(quick.run)[1] >= lengths(exact.run)[1]


# What is said.


def test_result_says_what_was_seen() -> None:
    result = explicit(*asking(("go", 0, 1), ("turn", 1, 2), ("turn", 2, 1), ("out", 2, 15)))
    assert (result.verdict, result.states, result.transitions, result.depth) == (Verdict.VIOLATED, 4, 4, 3)
    assert result.detail == (
        "stem of length 1, loop of length 2, both shortest; 3 states between cause and target, 4 edges"
    )


def test_result_says_if_a_loop_need_not_be_shortest() -> None:
    result = decide(*asking(("turn", 0, 0)), exact=0)
    assert result.detail.startswith("stem of length 0, loop of length 1, the loop perhaps not the shortest; ")


def test_result_says_if_nothing_can_fire_in_the_end() -> None:
    result = explicit(*asking(("go", 0, 1)))
    assert result.detail == (
        "shortest run to where nothing can fire; 2 states between cause and target, 1 edges"
    )


def test_result_says_that_no_run_stays() -> None:
    result = explicit(*asking(("go", 0, 15), ("back", 15, 0)))
    assert result.verdict is Verdict.HOLDS
    assert result.detail == "no fair run stays in the 1 states between cause and target, 1 edges"


# Limits.


CHAIN: Final = [("on", state, state + 1) for state in range(12)]


def test_part_that_was_explored_may_refute() -> None:
    system, asked = asking(*CHAIN, ("turn", 1, 1))
    result = explicit(system, asked, max_states=4)
    assert (result.verdict, result.states) == (Verdict.VIOLATED, 4)
    assert result.detail.startswith(
        "stopped at the limit of states: all states up to depth 3 were seen; among them stem of length 1, "
    )


def test_part_that_was_explored_proves_nothing() -> None:
    system, asked = asking(*CHAIN, ("turn", 12, 12))
    result = explicit(system, asked, max_states=4)
    assert (result.verdict, result.run) == (Verdict.UNKNOWN, None)
    assert "; among them no fair run stays in the 4 states " in result.detail


@pytest.mark.parametrize(
    ("limits", "which"),
    [({"limit": 0.0}, "time"), ({"max_memory": 1}, "memory")],
    ids=["time", "memory"],
)
def test_limit_while_exploring_leaves_it_open(limits: Any, which: str) -> None:
    result = explicit(*asking(("turn", 0, 0)), **limits)
    assert (result.verdict, result.states) == (Verdict.UNKNOWN, 1)
    assert result.detail == f"stopped at the limit of {which}: all states up to depth 0 were seen"


@pytest.mark.parametrize("what", ["_STATE_BYTES", "_EDGE_BYTES"])
def test_memory_that_would_not_suffice_leaves_it_open(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_lasso, what, 1 << 60)
    result = explicit(*asking(("turn", 0, 0)))
    assert (result.verdict, result.states, result.run) == (Verdict.UNKNOWN, 1, None)
    assert result.detail == f"stopped at the limit of memory: {SEEN}"


def test_time_that_is_up_after_exploring_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region, "_CHUNK", 1)
    late = iter([0.0, *[100.0] * 9])
    monkeypatch.setattr(time, "monotonic", lambda: next(late))
    result = explicit(*asking(("turn", 0, 0)), limit=60.0)
    assert result.detail == f"stopped at the limit of time: {SEEN}"


def test_interrupt_after_exploring_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(fair_lasso, "region", interrupted)
    result = explicit(*asking(("turn", 0, 0)))
    assert (result.verdict, result.detail) == (Verdict.UNKNOWN, f"interrupted: {SEEN}")


def test_interrupt_while_a_loop_is_sought_leaves_it_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FairLoops, "short", lambda *_args: os.kill(os.getpid(), signal.SIGINT))
    result = explicit(*asking(("turn", 0, 0)))
    assert (result.verdict, result.detail) == (Verdict.UNKNOWN, f"interrupted: {SEEN}")


def test_progress_is_told_of_both_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore_module, "PROGRESS_EVERY", 0.0)
    monkeypatch.setattr(fair_lasso, "PROGRESS_EVERY", 0.0)
    told = list[Progress]()
    explicit(*asking(("turn", 0, 1), ("turn", 1, 2), ("turn", 2, 0)), on_progress=told.append)
    assert [(each.what, each.depth, each.states) for each in told] == [
        *(("", depth, depth + 2) for depth in range(2)),
        ("", 2, 3),
        *((fair_lasso.BETWEEN, step, min(step + 2, 3)) for step in range(3)),
    ]


def test_run_that_is_none_is_a_tool_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_loops.FairLoops, "_facts", lambda *_: fair_loops._Facts(0, 0, [(0, 0, 0)]))
    monkeypatch.setattr(fair_lasso, "fair_components", lambda region, *_: region.numbers)
    result = explicit(*asking(("go", 0, 1), ("out", 1, 15)))
    assert (result.verdict, result.run) == (Verdict.TOOL_ERROR, None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            Property("p", "always", eq(constant(0), constant(0))),
            "Property p must be leads-to with a target, not always",
        ),
        (leads_to([0], [1], ["fly"]), "Fairness of live must be of a transition, not of fly"),
    ],
)
def test_only_liveness_has_lassos(asked: Property, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        decide(graph_system({"go": {0: 1}}), asked)


# That the tests above would notice.


MUTANTS: Final = (
    (fair_loops, "fair &= fires | _marked(size, component[~enabled])", "pass"),
    (fair_loops, "fair &= fires | _marked(size, component[~enabled])", "fair &= fires"),
    (
        fair_loops,
        "fair &= fires | _marked(size, component[~enabled])",
        "fair &= fires | _marked(size, component[enabled])",
    ),
    (fair_loops, "refusing |= enabled & ~fires[component]", "pass"),
    (fair_loops, "refusing |= enabled & ~fires[component]", "refusing |= ~enabled & ~fires[component]"),
    (fair_loops, "part = part.keep(again[component] & ~refusing)", "break"),
    (fair_loops, "found = (fair & ~again)[component]", "found = fair[component]"),
    (fair_loops, "inner = part.sources[edges & part.within]", "inner = part.sources[edges]"),
    (fair_loops, "resting = sum(self.weak.values()) & ~", "resting = sum(self.weak.values()) & "),
    (fair_loops, "due = sum({self.strong.get(name, 0) for name in names})", "due = 0"),
    (fair_loops, "done = pair[1] | serves | passed", "done = pair[1] | passed"),
    (fair_loops, "done |= self.asking if start.asked else 0", "done |= self.asking"),
    (fair_loops, "due = (pair[2] | arising) & ~done", "due = pair[2] & ~done"),
    (fair_loops, "if reached not in came:", "if reached[0] not in {pair[0] for pair in came}:"),
    (fair_lasso, "stems = np.where(inside & self.passes_cause(), self.depth, steps)", "stems = steps"),
    (fair_lasso, "nearest & self.ends", "nearest & self.ends & False"),
    (fair_lasso, "(np.diff(between.starts) == 0)", "(np.diff(between.starts) <= 1)"),
    (
        fair_lasso,
        "least = int(stems[inside | self.ends].min())",
        "least = int(stems[inside | self.ends].max())",
    ),
    (region, "asking = np.flatnonzero(cause & ~target)", "asking = np.flatnonzero(cause)"),
    (region, "(self.place[targets] < 0) & ~self.target[targets]", "self.place[targets] < 0"),
    (region, "growing.ask(asking[begun:upto], step)", "growing.ask(asking[begun:], step)"),
)
"""Faults: where, what, and what it is replaced with."""


@pytest.mark.parametrize(("module", "right", "wrong"), MUTANTS)
def test_fault_in_the_search_is_noticed(
    module: ModuleType, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = inspect.getsource(module)
    assert source.count(right) == 1
    mutant = ModuleType(module.__name__)
    exec(compile(source.replace(right, wrong), "<mutant>", "exec"), mutant.__dict__)
    for name, value in list(vars(fair_lasso).items()):
        if getattr(value, "__module__", None) == module.__name__ != fair_lasso.__name__:
            monkeypatch.setattr(fair_lasso, name, getattr(mutant, name))
    decide = (mutant if module is fair_lasso else fair_lasso).fair_lasso
    assert any(disagrees(seed, decide) for seed in range(400))


def disagrees(seed: int, decide: Decide) -> bool:
    try:
        return not agrees(seed, decide)
    except (AssertionError, Contradiction, IndexError, ReplayError):
        return True
