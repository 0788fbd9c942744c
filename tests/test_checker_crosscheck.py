"""``avicheck crosscheck``: independent voices agree, and a fault in any one of them is caught by name."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import z3
from click.testing import CliRunner, Result
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import (
    crosscheck,
    crosscheck_engines,
    crosscheck_states,
    crosscheck_voices,
    engines,
    explore,
    systems,
)
from avicheck.checker.cli import main
from avicheck.checker.crosscheck import Clock, crosscheck_model
from avicheck.checker.crosscheck_engines import about, about_counts
from avicheck.checker.crosscheck_report import RUN, Report, Told, as_text
from avicheck.checker.crosscheck_states import Comparison
from avicheck.checker.crosscheck_voices import GROUP, Terms, Voice, handwritten
from avicheck.checker.engine import EngineResult
from avicheck.checker.errors import InputError
from avicheck.checker.explore import Exploration
from avicheck.checker.interrupt import deferred
from avicheck.checker.systems import Choices, Instance, instance
from avicheck.checker.verdict import Verdict
from avicheck.encodings import machine as encodings_machine
from avicheck.encodings import to_llvm, to_python, unroll
from avicheck.encodings.expr import FALSE, TRUE, Expr, Op, not_
from avicheck.encodings.packing import layout
from avicheck.encodings.transition import Property, Run, Transition, TransitionSystem, successors
from avicheck.encodings.unroll import UnansweredError, step_relation
from avicheck.spec.machine import Action, Machine
from avicheck.spec.threads import World
from tests.known.chosen import CHOSEN, POINT, Extra, Repair

REFERENCE, GENERATED = "reference semantics", "generated Python"
COMPILED, LIFTED, BY_HAND = "compiled (LLVM)", "lifted relation (z3)", "hand-written relation"
VOICES = [RUN, REFERENCE, GENERATED, COMPILED, LIFTED]


@pytest.fixture(autouse=True)
def counter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One model is registered: two threads count up to 3, and may start again."""
    points = {"counter": POINT}
    monkeypatch.setattr(systems, "registered", lambda: points)
    monkeypatch.setattr(crosscheck, "registered", lambda: points)


@cache
def two() -> Instance:
    return instance("counter", Choices(scope={"counters": 2}, assumed={"reset": "any-time"}))


def checked(max_states: int = 1000) -> Report:
    return crosscheck_model(two(), max_states, 60.0, 30.0)


def checked_explorations() -> dict[str, Exploration]:
    report = Report(two())
    crosscheck._explore(report, Clock(60.0))
    return report.explorations


@pytest.fixture
def no_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only voices and explorations."""
    monkeypatch.setattr(crosscheck_engines, "calls", lambda _system, _known: [])


def differing(report: Report) -> list[str]:
    """The voices that differ from most."""
    return [part.voice for part in report.parts if part.differing]


def avicheck(*args: str) -> Result:
    return CliRunner().invoke(main, ["crosscheck", *args])


# Nothing wrong.


def test_voices_and_engines_agree() -> None:
    report = checked()
    assert (report.verdict, report.exhaustive, report.contradictions) == (Verdict.HOLDS, True, [])
    told = [(part.voice, part.states, part.transitions, part.differing) for part in report.parts]
    assert told == [(voice, 4, 14, 0) for voice in VOICES]
    assert set(report.results["two"]) == {"interpreted", "compiled", "bmc", "induction", "ic3"}
    assert set(report.results["goes-on"]) == {"explicit", "as safety", "bmc", "induction", "ic3"}


def test_x86_tso_has_its_flushes_compared(no_engines: None) -> None:
    report = crosscheck_model(instance("counter", Choices(memory="tso")), 1000, 60.0, 30.0)
    assert report.verdict is Verdict.HOLDS


def test_states_that_are_left_out_are_told(no_engines: None) -> None:
    report = checked(max_states=2)
    assert (report.verdict, report.compared, report.reachable) == (Verdict.UNKNOWN, 2, 4)


def test_states_in_which_something_fires_first_are_not_left_out() -> None:
    form, report = layout(two().system), Report(two(), checked_explorations())
    states = [form.pack({"n": n}) for n in (3, 3, 2, 1)]
    assert crosscheck._where_fired(report, form, states) == [states[0], states[2]]


def test_what_fires_only_elsewhere_is_told() -> None:
    report = Report(two(), checked_explorations())
    report.fired.update(["counter[0].reset", "counter[1].reset", "counter[1].count(by=1)"])
    assert "Only in other states can fire: counter[0].count(by=1).\n" in as_text(report)


def test_no_time_is_no_agreement() -> None:
    report = crosscheck_model(two(), 1000, 0.0, 0.0)
    assert (report.verdict, report.compared) == (Verdict.UNKNOWN, 0)
    assert report.remarks == ["Questions to engines for which no time was left: 20 of 20."]


def test_engines_that_were_not_asked_are_told() -> None:
    report = Report(two(), checked_explorations())
    crosscheck._ask_voices(report, 1000, Clock(60.0))
    crosscheck._ask_engines(report, Clock(0.0))
    assert report.verdict is Verdict.HOLDS
    told = " ".join(as_text(report).split())
    assert "4 reachable states; 0 answers of engines agree, 0 are open" in told
    assert "Questions to engines for which no time was left: 25 of 25." in told


# A fault in one voice.


def one_less(successors_of: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
    """The same, without the last successor."""
    return lambda *args: successors_of(*args)[:-1]


def drop_a_step_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Machine, "successors", one_less(Machine.successors))


def drop_a_step_of_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crosscheck_voices, "successors", one_less(successors))


def subtract_in_generated_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(to_python._BINARY, Op.ADD, "-")


def subtract_in_compiled_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(to_llvm._BINARY, Op.ADD, "sub")


def enable_all_in_the_relation(monkeypatch: pytest.MonkeyPatch) -> None:
    def relation(system: TransitionSystem) -> Expr:
        always = tuple(replace(step, guard=TRUE) for step in system.transitions)
        return step_relation(replace(system, transitions=always))

    monkeypatch.setattr(unroll, "step_relation", relation)


def disable_one_in_the_relation(monkeypatch: pytest.MonkeyPatch) -> None:
    def relation(system: TransitionSystem) -> Expr:
        first, *others = system.transitions
        return step_relation(replace(system, transitions=(replace(first, guard=FALSE), *others)))

    monkeypatch.setattr(unroll, "step_relation", relation)


FAULTS = {
    RUN: drop_a_step_of_the_run,
    REFERENCE: drop_a_step_of_the_reference,
    GENERATED: subtract_in_generated_python,
    COMPILED: subtract_in_compiled_code,
    LIFTED: enable_all_in_the_relation,
}


@pytest.mark.parametrize(("voice", "fault"), [*FAULTS.items(), (LIFTED, disable_one_in_the_relation)])
def test_a_fault_in_one_voice_is_caught_by_its_name(
    voice: str, fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, no_engines: None
) -> None:
    fault(monkeypatch)
    report = checked()
    assert report.verdict is Verdict.TOOL_ERROR
    assert differing(report) == [voice]


def test_a_fault_of_the_lifting_is_caught(monkeypatch: pytest.MonkeyPatch, no_engines: None) -> None:
    lifted = encodings_machine._transition

    def without_updates(*args: Any) -> Transition:
        found = lifted(*args)
        return replace(found, updates={}) if "reset" in found.name else found

    monkeypatch.setattr(encodings_machine, "_transition", without_updates)
    report = crosscheck_model(instance("counter", two().chosen), 1000, 60.0, 30.0)
    assert (report.verdict, differing(report)) == (Verdict.TOOL_ERROR, [RUN])
    assert "All but the Python run rest on the lifted system: the lifting may be wrong." in as_text(report)


def test_a_difference_is_told_with_state_step_and_both_sides(
    monkeypatch: pytest.MonkeyPatch, no_engines: None
) -> None:
    drop_a_step_of_the_run(monkeypatch)
    part = checked().parts[0]
    assert part.differing == 4
    found = part.differences[0]
    assert (found.state, found.missing, found.extra) == (
        {"n": 0},
        (("counter[1].reset", {"n": 0}),),
        (),
    )


def test_a_transition_that_fires_twice_differs(monkeypatch: pytest.MonkeyPatch, no_engines: None) -> None:
    def twice(machine: Machine[Any], world: World[Any]) -> list[tuple[Action, World[Any]]]:
        (action, after), *others = usual(machine, world)
        return [(action, after), (action, world), *others]

    usual = Machine.successors
    monkeypatch.setattr(Machine, "successors", twice)
    report = checked()
    assert differing(report) == [RUN]
    assert report.parts[0].differences[0].extra == (("counter[0].count(by=1)", {"n": 0}),)


@pytest.mark.parametrize("voice", [GENERATED, COMPILED])
def test_a_condition_that_is_wrong_is_caught(
    voice: str, monkeypatch: pytest.MonkeyPatch, no_engines: None
) -> None:
    conditions = crosscheck_voices.conditions

    def wrong(system: TransitionSystem) -> dict[str, Expr]:
        found = conditions(system)
        return {**found, "two": not_(found["two"])}

    build = crosscheck_voices.interpreted if voice == GENERATED else crosscheck_voices.compiled

    def broken(*args: Any) -> Voice:
        with monkeypatch.context() as patch:
            patch.setattr(crosscheck_voices, "conditions", wrong)
            return build(*args)

    monkeypatch.setattr(crosscheck_voices, build.__name__, broken)
    report = checked()
    assert differing(report) == [voice]
    (part,) = (part for part in report.parts if part.voice == voice)
    assert part.differences[0].extra_conditions == ("two",)


def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The solver does not answer."""

    def silent(*_args: object) -> list[Told]:
        raise UnansweredError("memout")

    monkeypatch.setattr(unroll.Solutions, "are", silent)


def test_a_solver_without_an_answer_ends_the_comparison(
    monkeypatch: pytest.MonkeyPatch, no_engines: None
) -> None:
    silence(monkeypatch)
    report = checked()
    assert report.verdict is Verdict.UNKNOWN
    told = " ".join(as_text(report).split())
    assert "no difference in 0 of 4 reachable states; z3 gave no answer (memout)" in told


# On several processes.


def told(jobs: int) -> Report:
    """What the voices tell of more states than are asked about at a time."""
    report = Report(two())
    crosscheck._ask_voices(report, 1000, Clock(60.0), jobs)
    return report


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crosscheck_states, "BATCH", 1)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("fault", [lambda _monkeypatch: None, *FAULTS.values()])
def test_several_processes_find_what_one_does(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    one, three = told(1), told(3)
    assert [replace(part, seconds=0.0) for part in one.parts] == [
        replace(part, seconds=0.0) for part in three.parts
    ]
    assert one.compared == three.compared > 1
    assert one.fired == three.fired


@pytest.mark.usefixtures("small_batches")
def test_a_solver_without_an_answer_in_a_process_ends_the_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    silence(monkeypatch)
    assert told(2).stopped == "z3 gave no answer (memout)"


@pytest.mark.usefixtures("small_batches")
def test_an_interrupt_ends_what_processes_do() -> None:
    def endless(states: Sequence[int]) -> list[Told]:
        os.kill(parent, signal.SIGINT)
        time.sleep(1000)
        raise AssertionError("not interrupted")

    parent, form = os.getpid(), layout(two().system)
    voices = [Voice(RUN, endless)]
    with pytest.raises(KeyboardInterrupt), deferred():
        list(Comparison(voices, form, 4).all_of([0, 1, 2, 3], 2, lambda: True))
    assert multiprocessing.active_children() == []


# A relation written by hand.


def by_hand(machine: Machine[Any], before: Terms, after: Terms) -> Terms:
    """Counting by one, and starting again."""
    counts = z3.And(z3.ULT(before["n"], 3), after["n"] == before["n"] + 1)
    threads = range(machine.scope["counters"])
    return {f"counter[{i}].count(by=1)": counts for i in threads} | {
        f"counter[{i}].reset": after["n"] == 0 for i in threads
    }


def without_limit(machine: Machine[Any], before: Terms, after: Terms) -> Terms:
    counts = {"counter[0].count(by=1)": after["n"] == before["n"] + 1}
    return {**by_hand(machine, before, after), **counts}


def of_nothing(machine: Machine[Any], before: Terms, after: Terms) -> Terms:
    return {"counter[0].rest": z3.BoolVal(True)}


def test_a_relation_written_by_hand_takes_part(monkeypatch: pytest.MonkeyPatch, no_engines: None) -> None:
    monkeypatch.setattr(crosscheck_voices, "handwritten", lambda _model: by_hand)
    report = checked()
    part = report.parts[-1]
    assert (part.voice, part.knows, part.transitions, report.verdict) == (BY_HAND, 4, 14, Verdict.HOLDS)


def test_a_wrong_relation_is_caught_by_its_name(monkeypatch: pytest.MonkeyPatch, no_engines: None) -> None:
    monkeypatch.setattr(crosscheck_voices, "handwritten", lambda _model: without_limit)
    report = checked()
    assert differing(report) == [BY_HAND]
    (found,) = report.parts[-1].differences
    assert (found.state, found.extra) == ({"n": 3}, (("counter[0].count(by=1)", {"n": 4}),))


def test_a_relation_about_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, no_engines: None) -> None:
    monkeypatch.setattr(crosscheck_voices, "handwritten", lambda _model: of_nothing)
    message = "counter: Hand-written relation must be about transitions of the model, not counter\\[0\\].rest"
    with pytest.raises(InputError, match=f"^{message}$"):
        checked()


def test_a_relation_is_registered_by_the_model_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("counter", f"{__name__}:by_hand", GROUP)
    monkeypatch.setattr(
        crosscheck_voices,
        "entry_points",
        lambda group, name: [point] if (group, name) == (GROUP, "counter") else [],
    )
    relation = handwritten("counter")
    assert relation is not None
    assert relation.__name__ == "by_hand"
    assert handwritten("other") is None


# A fault in one engine.


def result(verdict: Verdict, steps: int | None = None, depth: int | None = None) -> EngineResult:
    """An answer, with a run of so many steps."""
    run = None if steps is None else Run(({"n": 0},) * (steps + 1), ("count",) * steps)
    return EngineResult("engine", "asked", verdict, run, None, None, depth, 0.0, "why")


ALWAYS = Property("asked", "always", TRUE)
HOLDS, VIOLATED = result(Verdict.HOLDS, depth=9), result(Verdict.VIOLATED, 5, 5)


@pytest.mark.parametrize(
    ("engine", "answer"),
    [
        ("induction", result(Verdict.PROVED, depth=1)),
        ("bmc", result(Verdict.HOLDS_TO_DEPTH, depth=50)),
        ("bmc", result(Verdict.UNKNOWN, depth=3)),
        ("induction", result(Verdict.NOT_INDUCTIVE, 4, 4)),
        ("ic3", result(Verdict.UNKNOWN, depth=7)),
    ],
)
def test_what_can_be_true_with_holds(engine: str, answer: EngineResult) -> None:
    assert list(about(ALWAYS, {"interpreted": HOLDS, engine: answer})) == []


@pytest.mark.parametrize(
    ("engine", "answer"),
    [
        ("bmc", result(Verdict.HOLDS_TO_DEPTH, depth=4)),
        ("bmc", result(Verdict.UNKNOWN, depth=4)),
        ("compiled", result(Verdict.UNKNOWN, depth=4)),
        ("induction", result(Verdict.NOT_INDUCTIVE, 2, 2)),
        ("ic3", result(Verdict.VIOLATED, 8, 8)),
        ("ic3", result(Verdict.UNKNOWN, depth=7)),
    ],
)
def test_what_can_be_true_with_violated(engine: str, answer: EngineResult) -> None:
    assert list(about(ALWAYS, {"interpreted": VIOLATED, engine: answer})) == []


@pytest.mark.parametrize(
    ("engine", "answer", "contradiction"),
    [
        (
            "ic3",
            result(Verdict.PROVED),
            "asked: Verdict must be the same, not violated for interpreted and proved for ic3",
        ),
        (
            "bmc",
            result(Verdict.VIOLATED, 6, 6),
            "asked: Steps must be the same, not 5 for interpreted and 6 for bmc",
        ),
        (
            "ic3",
            result(Verdict.VIOLATED, 4, 4),
            "asked: Steps for ic3 must be at least 5, as for interpreted, not 4",
        ),
        (
            "bmc",
            result(Verdict.HOLDS_TO_DEPTH, depth=5),
            "asked: bmc must find a run of 5 steps, as interpreted does, not exclude 5",
        ),
        (
            "compiled",
            result(Verdict.UNKNOWN, depth=6),
            "asked: compiled must find a run of 5 steps, as interpreted does, not exclude 6",
        ),
        ("bmc", result(Verdict.TOOL_ERROR), "asked: bmc contradicts itself: why"),
    ],
)
def test_what_contradicts_violated(engine: str, answer: EngineResult, contradiction: str) -> None:
    assert list(about(ALWAYS, {"interpreted": VIOLATED, engine: answer})) == [contradiction]


def test_lassos_may_be_of_several_lengths() -> None:
    asked = replace(ALWAYS, kind="leads-to", target=TRUE)
    assert list(about(asked, {"explicit": VIOLATED, "bmc": result(Verdict.VIOLATED, 6, 6)})) == []
    assert len(list(about(asked, {"explicit": VIOLATED, "bmc": result(Verdict.PROVED)}))) == 1


def flipped(found: EngineResult) -> EngineResult:
    return replace(found, verdict=Verdict.VIOLATED)


def longer(found: EngineResult) -> EngineResult:
    if found.run is None:
        return found
    run = found.run
    return replace(found, run=Run((*run.states, run.states[-1]), (*run.fired, "counter[0].reset")))


@pytest.mark.parametrize(
    ("engine", "fault", "name", "contradiction"),
    [
        (
            "ic3",
            flipped,
            "below",
            "below: Verdict must be the same, not holds for interpreted and violated for ic3",
        ),
        ("bmc", longer, "two", "two: Steps must be the same, not 2 for interpreted and 3 for bmc"),
    ],
)
def test_a_fault_in_an_engine_is_caught_by_its_name(
    engine: str,
    fault: Callable[[EngineResult], EngineResult],
    name: str,
    contradiction: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def faulty(system: TransitionSystem, asked: str, by: Any, limits: Any) -> EngineResult:
        found = engines.check(system, asked, by, limits)
        return fault(found) if (by, asked) == (engine, name) else found

    (prop,) = (prop for prop in two().system.properties if prop.name == name)
    monkeypatch.setattr(crosscheck_engines, "check", faulty)
    monkeypatch.setattr(crosscheck_engines, "calls", lambda _system, _known: [(prop, engine)])
    report = checked()
    assert report.verdict is Verdict.TOOL_ERROR
    assert report.contradictions[0] == contradiction
    assert len(report.contradictions) == 2  # once for each tier of the explicit engine


def test_a_count_that_is_wrong_is_caught(monkeypatch: pytest.MonkeyPatch, no_engines: None) -> None:
    usual = explore.explore

    def miscounted(system: TransitionSystem, *, tier: Any, **options: Any) -> Exploration:
        found = usual(system, tier=tier, **options)
        fired = {**found.fired, "counter[0].reset": 3}
        return replace(found, states=5, fired=fired) if tier == "compiled" else found

    monkeypatch.setattr(explore, "explore", miscounted)
    assert checked().contradictions == [
        "states must be the same, not 4 for interpreted and 5 for compiled",
        "counter[0].reset must fire 4 times, not 3 times for compiled",
    ]


def test_counts_of_what_is_not_complete_contradict_nothing() -> None:
    found = checked_explorations()
    stopped = replace(found["compiled"], states=3, stopped="memory")
    assert list(about_counts({**found, "compiled": stopped}, None)) == []


def test_an_engine_that_goes_where_no_step_leads_is_caught(
    monkeypatch: pytest.MonkeyPatch, no_engines: None
) -> None:
    monkeypatch.setitem(to_python._BINARY, Op.ADD, "+ 1 +")
    (contradiction,) = checked().contradictions
    assert contradiction.startswith("The interpreted tier ")


# The command.


def test_it_says_what_was_compared(snapshot: SnapshotAssertion) -> None:
    report = avicheck("counter", "--scope", "counters=2", "--max-states", "3")
    assert report.exit_code == 2
    assert steady(report.stdout) == snapshot


def steady(text: str) -> str:
    """The report without its seconds."""
    return re.sub(r"\d+\.\d", "0.0", text)


def test_a_difference_is_readable(
    snapshot: SnapshotAssertion, monkeypatch: pytest.MonkeyPatch, no_engines: None
) -> None:
    subtract_in_generated_python(monkeypatch)
    report = avicheck("counter", "--scope", "counters=2")
    assert report.exit_code == 70
    assert steady(report.stdout) == snapshot


def scopes(*args: str) -> list[tuple[dict[str, int], list[str]]]:
    """Sizes, and what is switched off, of all that is checked."""
    return [
        (each["scope"], each["without"]) for each in json.loads(avicheck("--json", *args).stdout)["models"]
    ]


def test_sizes_are_the_least_unless_one_is_named(no_engines: None) -> None:
    assert scopes("counter") == [({"counters": 1, "limit": 3}, [])]
    assert scopes("counter", "--scope", "counters=2") == [({"counters": 2, "limit": 3}, [])]


def test_a_large_model_is_checked_in_excerpts(monkeypatch: pytest.MonkeyPatch, no_engines: None) -> None:
    parts = frozenset({Repair.STOP}), frozenset({Extra.TWO_STEPS})
    large = replace(CHOSEN, excerpts=parts)
    monkeypatch.setattr(systems, "description", lambda _model: large)
    off = [without for _, without in scopes("counter", "--with", "two-steps", "--without", "stop")]
    assert off == [["stop", "stop"], ["stop"]]
    told = avicheck("counter").stdout
    assert "\nExcerpt 1 of 2; every step is in one of them.\nholds: " in told
    assert "\nExcerpt 2 of 2; every step is in one of them.\nholds: " in told


@pytest.mark.parametrize("model", ["secure-avic", "secure-avic-arrival"])
def test_excerpts_have_all_that_the_smallest_model_has(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that fires in the model without the slowest parts fires in one of them."""
    monkeypatch.undo()
    whole = instance(model, Choices(scope={"senders": 1}))
    parts = [explored(part) for part in crosscheck.excerpts(whole)]
    assert explored(whole) <= set.union(*parts)


def explored(chosen: Instance) -> set[str]:
    """What fires."""
    found = explore.explore(chosen.system, properties=(), stop="never", max_states=1_000_000)
    return {name for name, count in found.fired.items() if count}


def test_without_a_model_every_one_is_checked(no_engines: None) -> None:
    found = json.loads(avicheck("--json").stdout)
    assert found["verdict"] == "holds"
    assert [model["model"] for model in found["models"]] == ["counter"]


def test_json_has_what_differs(monkeypatch: pytest.MonkeyPatch, no_engines: None) -> None:
    drop_a_step_of_the_run(monkeypatch)
    (model,) = json.loads(avicheck("counter", "--json").stdout)["models"]
    assert (model["verdict"], model["compared"], model["reachable"]) == ("tool error", 4, 4)
    first = model["voices"][0]
    assert (first["voice"], first["differing"]) == (RUN, 3)
    assert first["differences"][0]["missing"] == [["counter[0].count(by=1)", {"n": 1}]]


def test_what_is_chosen_is_about_a_model() -> None:
    refused = avicheck("--memory", "tso")
    assert refused.exit_code == 3
    assert refused.stderr == (
        "avicheck: Model must be named where something is chosen about it, not left out\n"
    )


def test_an_interrupt_tells_what_was_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object) -> EngineResult:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not interrupted")

    monkeypatch.setattr(crosscheck_engines, "check", interrupted)
    told = avicheck("counter")
    assert told.exit_code == 5
    assert "unknown: no difference in 4 of 4 reachable states; interrupted" in told.stdout


def test_an_interrupt_of_an_exploration_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = explore.explore

    def interrupted(*args: Any, **options: Any) -> Exploration:
        return replace(usual(*args, **options), stopped="interrupted")

    monkeypatch.setattr(explore, "explore", interrupted)
    told = avicheck("counter")
    assert told.exit_code == 5
    assert "no difference in 0 of more than 0 reachable states; interrupted" in told.stdout
