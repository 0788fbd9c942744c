"""Other model checkers beside our engine.

SPIN and Rumur are asked where they are installed, and must then agree in everything; elsewhere the
comparison must say that they are not. How they are run and read is tested in both cases, on programs of
the same names that print what the real ones did.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from avicheck.checker import peer_tools, systems
from avicheck.checker.cli import main
from avicheck.checker.engine import DEADLOCK_FREE, EngineResult
from avicheck.checker.peer_tools import RUMUR, SPIN, Answer, Question, Tool, tlc
from avicheck.checker.peers import Comparison, as_json, as_text, compare, questions
from avicheck.checker.verdict import Verdict
from avicheck.encodings import to_promela
from avicheck.encodings.expr import FALSE, TRUE, Expr
from avicheck.encodings.transition import Run, TransitionSystem
from avicheck.encodings.writing import ENDED
from tests.benchmarks.avic_delivery import avic_delivery
from tests.known.chosen import POINT
from tests.known.small import SYSTEMS, arithmetic, countdown, explored, lights, philosophers

OUTPUTS = Path(__file__).parent / "data" / "exports"


def reference(system: TransitionSystem, everything: bool) -> Sequence[EngineResult]:
    """The reference semantics as an engine."""
    all_of_it = explored(system)
    kinds = {prop.name: prop.kind for prop in system.properties}

    def result(name: str) -> EngineResult:
        depth = all_of_it.found.get(name)
        run = None if depth is None else Run((system.initial[0],) * (depth + 1), ("step",) * depth)
        holds = (run is None) != (kinds.get(name) == "sometimes")
        verdict = Verdict.HOLDS if holds else Verdict.VIOLATED
        counts = (len(all_of_it.states), all_of_it.transitions, all_of_it.depth)
        return EngineResult("reference", name, verdict, run, *counts, 0.0, "")

    return [result(name) for name in (*kinds, DEADLOCK_FREE)]


def scripted(name: str, **changed: object) -> Tool:
    """A tool that answers as the reference does but for what is ``changed``."""

    def ask(question: Question, _limit: float) -> Answer:
        runs = [result.run for result in reference(question.system, False) if result.run is not None]
        if runs:
            answer = Answer(name, True, None, None, min(len(run.fired) for run in runs), 2.0)
        else:
            every = explored(question.system)
            answer = Answer(name, False, len(every.states), every.transitions, None, 2.0)
        return replace(answer, **changed)  # type: ignore[arg-type]

    return Tool(name, (), ask)


# The real tools.


@pytest.mark.parametrize("tool", [SPIN, RUMUR], ids=lambda tool: tool.name)
@pytest.mark.parametrize("name", SYSTEMS)
def test_peer_agrees_if_installed(tool: Tool, name: str) -> None:
    comparison = compare(SYSTEMS[name](), reference, [tool], 300.0)
    if tool.missing:
        assert comparison.not_installed == (f"{tool.name}: {', '.join(tool.missing)} not installed",)
        assert all(len(each.answers) == 1 for each in comparison.rounds)
    else:
        assert comparison.disagreements == []
        assert [[answer.tool for answer in each.answers] for each in comparison.rounds] == [
            ["avicheck", tool.name] for _ in comparison.rounds
        ]
        assert all(answer.broken is not None for each in comparison.rounds for answer in each.answers)


@pytest.mark.parametrize("tool", [SPIN, RUMUR], ids=lambda tool: tool.name)
def test_peer_contradicts_an_engine_that_overlooks_a_transition(tool: Tool) -> None:
    """Where the peer is not installed, nothing contradicts."""

    def hasty(system: TransitionSystem, everything: bool) -> Sequence[EngineResult]:
        return reference(replace(system, transitions=system.transitions[1:]), everything)

    verdict = compare(lights(), hasty, [tool], 300.0).verdict
    assert verdict is (Verdict.HOLDS if tool.missing else Verdict.TOOL_ERROR)


# Questions.


def test_properties_that_no_state_breaks_share_one_search() -> None:
    every, *others = questions(countdown(), {"below two", "not at the end", "half way"}, 23)
    assert [prop.name for prop in every.system.properties] == ["never seven"]
    assert [[prop.name for prop in other.system.properties] for other in others] == [
        ["below two"],
        ["not at the end"],
        ["half way"],
    ]


def test_what_happens_sometimes_is_asked_as_never() -> None:
    asked = questions(countdown(), {"half way"}, 23)[1]
    assert [prop.kind for prop in asked.system.properties] == ["never"]


def test_leads_to_is_not_asked() -> None:
    every = questions(lights(), set(), 8)[0]
    assert [prop.name for prop in every.system.properties] == ["safe", "red on the way", "walked"]


def test_deadlock_is_a_question_of_its_own() -> None:
    every, alone = questions(philosophers(), {DEADLOCK_FREE}, 6)
    assert (every.system.ended, alone.system.ended) == (TRUE, FALSE)
    assert (alone.system.properties, alone.shortest) == ((), True)


def test_ended_states_step_to_themselves_where_deadlocks_are_asked_for() -> None:
    assert questions(arithmetic(), set(), 1)[0].system.transitions[-1].name == ENDED


# Agreement.


def test_tools_that_say_the_same_agree() -> None:
    comparison = compare(countdown(), reference, [scripted("one"), scripted("two")], 1.0)
    assert (comparison.disagreements, comparison.verdict) == ([], Verdict.HOLDS)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"states": 9},
            "every state: States must be the same, not 9 for odd and 8 for avicheck",
        ),
        (
            {"transitions": 12},
            "every state: Transitions must be the same, not 12 for odd and 11 for avicheck",
        ),
        (
            {"broken": True},
            "every state: Counterexample must be the same, not found for odd and none for avicheck",
        ),
        (
            {"depth": 3},
            "walked: Steps of the counterexample must be the same, not 3 for odd and 1 for avicheck",
        ),
    ],
)
def test_contradiction_is_a_tool_error(changed: dict[str, object], sentence: str) -> None:
    comparison = compare(lights(), reference, [scripted("odd", **changed), scripted("even")], 1.0)
    assert sentence in comparison.disagreements
    assert all("odd" in found for found in comparison.disagreements)
    assert comparison.verdict is Verdict.TOOL_ERROR


def test_tool_without_an_answer_leaves_the_verdict_unknown() -> None:
    comparison = compare(lights(), reference, [scripted("slow", broken=None, detail="time limit")], 1.0)
    assert comparison.verdict is Verdict.UNKNOWN


def test_engine_without_an_answer_leaves_the_verdict_unknown() -> None:
    def undecided(system: TransitionSystem, everything: bool) -> Sequence[EngineResult]:
        results = reference(system, everything)
        return [replace(result, verdict=Verdict.UNKNOWN, run=None) for result in results]

    comparison = compare(lights(), undecided, [scripted("sure")], 1.0)
    assert (comparison.disagreements, comparison.verdict) == ([], Verdict.UNKNOWN)


def test_missing_tool_is_no_error() -> None:
    absent = Tool("Absent", ("no-such-program", "sh"), scripted("Absent").ask)
    comparison = compare(lights(), reference, [absent], 1.0)
    assert comparison.not_installed == ("Absent: no-such-program not installed",)
    assert comparison.verdict is Verdict.HOLDS


# How the tools are run: programs of their names that print what the real ones did.


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that are found before all others."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def write_program(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def question(system: TransitionSystem, *, states: int = 8, shortest: bool = False) -> Question:
    return Question("asked", system, states, shortest)


def fake_spin(programs: Path, output: str) -> None:
    """A ``spin`` that checks for its input, and a ``gcc`` whose program prints a file."""
    write_program(programs / "spin", 'test "$1" = -a && test -s "$2"')
    printing = f"printf '#!/bin/sh\\ncat {OUTPUTS / output}\\n' > pan; chmod +x pan"
    write_program(programs / "gcc", f'echo "$*" > {programs}/options', printing)


def fake_rumur(programs: Path, output: str) -> None:
    write_program(
        programs / "rumur", 'for last; do :; done; test -s "$last"', f'echo "$*" > {programs}/flags'
    )
    printing = f"printf '#!/bin/sh\\ncat {OUTPUTS / output}\\n' > model; chmod +x model"
    write_program(programs / "gcc", f'echo "$*" > {programs}/options', printing)


@pytest.mark.parametrize(
    ("output", "broken", "states", "transitions", "depth"),
    [
        ("spin-holds.txt", False, 8, 11, None),
        ("spin-violated.txt", True, None, None, 1),
        ("spin-deadlock.txt", True, None, None, 2),
    ],
)
def test_spin_is_read(
    programs: Path, output: str, broken: bool, states: int | None, transitions: int | None, depth: int | None
) -> None:
    fake_spin(programs, output)
    answer = SPIN.ask(question(lights()), 10.0)
    assert replace(answer, seconds=0.0) == Answer("SPIN", broken, states, transitions, depth, 0.0)


@pytest.mark.parametrize(
    ("states", "shortest", "option"),
    [(8, False, "-O0"), (10**6, False, "-O1"), (10**7, False, "-O2"), (8, True, "-DBFS")],
)
def test_spin_gets_the_options_that_suit_the_question(
    programs: Path, states: int, shortest: bool, option: str
) -> None:
    fake_spin(programs, "spin-holds.txt")
    SPIN.ask(question(lights(), states=states, shortest=shortest), 10.0)
    assert option in (programs / "options").read_text().split()


@pytest.mark.parametrize(
    ("output", "detail"),
    [
        (
            "error: max search depth too small\nState-vector 20 byte, depth reached 99, errors: 0",
            "spin's search ended early: max search depth too small",
        ),
        (
            "pan: reached -DMEMLIM bound\nWarning: Search not completed\nerrors: 0",
            "spin's search ended early: reached -DMEMLIM bound",
        ),
        ("errors: 0\n 1.2e+08 states, stored\n", "spin rounds numbers from 10**8 on"),
        ("errors: 0\n", "spin gave no result: errors: 0"),
        ("", "spin's search ended early: no output"),
    ],
)
def test_spin_that_ends_early_gives_no_answer(output: str, detail: str) -> None:
    with pytest.raises(peer_tools.NoAnswer) as raised:
        peer_tools.read_spin(output, 1)
    assert str(raised.value) == detail


@pytest.mark.parametrize(
    ("output", "broken", "states", "transitions", "depth"),
    [
        ("rumur-holds.xml", False, 8, 11, None),
        ("rumur-violated.xml", True, None, None, 1),
        ("rumur-deadlock.xml", True, None, None, 2),
    ],
)
def test_rumur_is_read(
    programs: Path, output: str, broken: bool, states: int | None, transitions: int | None, depth: int | None
) -> None:
    fake_rumur(programs, output)
    answer = RUMUR.ask(question(lights()), 10.0)
    assert replace(answer, seconds=0.0) == Answer("Rumur", broken, states, transitions, depth, 0.0)


@pytest.mark.parametrize(("shortest", "threads"), [(False, 2), (True, 1)])
def test_rumur_uses_one_thread_for_a_shortest_counterexample(
    programs: Path, shortest: bool, threads: int
) -> None:
    fake_rumur(programs, "rumur-holds.xml")
    RUMUR.ask(question(lights(), shortest=shortest), 10.0)
    assert f"--threads={threads}" in (programs / "flags").read_text().split()


@pytest.mark.parametrize(("system", "mode"), [(lights(), "stuck"), (countdown(), "off")])
def test_rumur_looks_for_deadlocks_unless_every_state_may_be_the_last(
    programs: Path, system: TransitionSystem, mode: str
) -> None:
    fake_rumur(programs, "rumur-holds.xml")
    RUMUR.ask(question(system), 10.0)
    assert f"--deadlock-detection={mode}" in (programs / "flags").read_text().split()


@pytest.mark.parametrize(
    ("output", "detail"),
    [
        ("out of memory", "rumur gave no result: out of memory"),
        ("<rumur_run></rumur_run>", "rumur gave no summary"),
        (
            "<rumur_run><error><message>model.m:3: value out of range</message></error></rumur_run>",
            "rumur's run failed: model.m:3: value out of range",
        ),
    ],
)
def test_rumur_that_fails_gives_no_answer(output: str, detail: str) -> None:
    with pytest.raises(peer_tools.NoAnswer) as raised:
        peer_tools.read_rumur(output)
    assert str(raised.value) == detail


HOLDS_IN_TLC = (
    "Model checking completed. No error has been found.",
    "13 states generated, 8 distinct states found, 0 states left on queue.",
    "The depth of the complete state graph search is 5.",
)
VIOLATED_IN_TLC = (
    "Error: Invariant Inv_safe is violated.",
    "Error: The behavior up to this point is:",
    "State 1: <Initial predicate>",
    "State 2: <Step_go line 30, col 3 to line 33, col 20 of module M_lights>",
    "2 states generated, 2 distinct states found, 1 states left on queue.",
)


@pytest.mark.parametrize(
    ("lines", "answer"),
    [
        (HOLDS_IN_TLC, Answer("TLC", False, 8, 11, None, 0.0)),
        (VIOLATED_IN_TLC, Answer("TLC", True, None, None, 1, 0.0)),
        (
            ("Error: Deadlock reached.", "State 1: a", "State 2: b", "State 3: c"),
            Answer("TLC", True, None, None, 2, 0.0),
        ),
        (
            ("Error: Invariant Inv_safe is violated by the initial state:",),
            Answer("TLC", True, None, None, 0, 0.0),
        ),
        (
            ("Error: Could not find or load main class tlc2.TLC",),
            Answer(
                "TLC",
                None,
                None,
                None,
                None,
                0.0,
                "TLC gave no result: Error: Could not find or load main class tlc2.TLC",
            ),
        ),
    ],
)
def test_tlc_is_run_and_read(programs: Path, lines: tuple[str, ...], answer: Answer) -> None:
    """With a module and a configuration of the same name."""
    print_lines = [f"echo '{line}'" for line in lines]
    check = "test -s M_lights.tla && test -s M_lights.cfg || exit 1"
    write_program(programs / "java", check, f'echo "$*" > {programs}/options', *print_lines)
    found = tlc(programs / "tla2tools.jar").ask(question(lights()), 10.0)
    assert replace(found, seconds=0.0) == answer
    assert f"-cp {programs / 'tla2tools.jar'} tlc2.TLC -workers 2" in (programs / "options").read_text()


@pytest.mark.parametrize(("ended", "given"), [(FALSE, False), (TRUE, True)])
def test_tlc_looks_for_deadlocks_unless_any_state_may_be_the_last(
    programs: Path, ended: Expr, given: bool
) -> None:
    write_program(programs / "java", f'echo "$*" > {programs}/options')
    tlc(programs / "tla2tools.jar").ask(question(replace(lights(), ended=ended)), 10.0)
    assert (" -deadlock " in (programs / "options").read_text()) == given


def test_tlc_is_not_asked_beyond_32_bits(programs: Path) -> None:
    answer = tlc(programs / "tla2tools.jar").ask(question(arithmetic()), 10.0)
    assert answer.broken is None
    assert answer.detail.startswith("TLC: Value must be a number of 32 bits, not ")


def test_tool_that_runs_too_long_is_stopped(programs: Path) -> None:
    write_program(programs / "spin", "exec sleep 60")
    answer = SPIN.ask(question(lights()), 0.3)
    assert (answer.broken, answer.detail) == (None, "time limit of 0.3 s reached")
    assert answer.seconds < 10


def test_tool_that_fails_says_why(programs: Path) -> None:
    write_program(programs / "spin", "echo 'spin: line 3, syntax error'", "exit 1")
    assert SPIN.ask(question(lights()), 10.0).detail == "spin failed: spin: line 3, syntax error"


# The command.


@pytest.fixture
def no_peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One model is registered, and no program is installed."""
    monkeypatch.setattr(systems, "registered", lambda: {"counter": POINT})
    monkeypatch.setenv("PATH", str(tmp_path))


def avicheck(*args: str) -> Result:
    return CliRunner().invoke(main, args)


@pytest.mark.usefixtures("no_peers")
def test_command_without_peers_shows_our_own_figures() -> None:
    result = avicheck("peers", "counter", "--json")
    comparison = json.loads(result.output)
    assert result.exit_code == 0
    assert comparison["not_installed"] == [
        "SPIN: spin, gcc not installed",
        "Rumur: rumur, gcc not installed",
    ]
    figures = [(each["question"], each["answers"][0]["states"]) for each in comparison["rounds"]]
    assert figures == [("every state", 4), ("two", None)]


@pytest.mark.usefixtures("no_peers")
def test_command_refuses_a_jar_that_is_no_file() -> None:
    result = avicheck("peers", "counter", "--tlc", "no.jar")
    assert (result.exit_code, result.stderr) == (3, "avicheck: --tlc must be a jar file, not no.jar\n")


def table() -> Comparison:
    """A comparison with fixed times."""
    slow = scripted("slow", broken=None, states=None, transitions=None, depth=None, detail="time limit")
    made = compare(lights(), reference, [scripted("one"), slow, Tool("none", ("no-such",), slow.ask)], 1.0)
    rounds = tuple(
        replace(each, answers=(replace(each.answers[0], seconds=0.5), *each.answers[1:]))
        for each in made.rounds
    )
    return replace(made, rounds=rounds)


def test_table_is_what_it_is() -> None:
    assert as_text(table()).splitlines() == [
        "question     tool      states  transitions  counterexample  seconds  times ours",
        "every state  avicheck  8       11           none            0.50",
        "             one       8       11           none            2.00     4.0",
        "             slow      -       -            ?               2.00     4.0",
        "walked       avicheck  -       -            1 steps         0.50",
        "             one       -       -            1 steps         2.00     4.0",
        "             slow      -       -            ?               2.00     4.0",
        "",
        "slow gave no answer to 'every state': time limit",
        "slow gave no answer to 'walked': time limit",
        "none: no-such not installed",
        "",
        "Those that answered agree.",
    ]


def test_json_has_all_of_it() -> None:
    document = as_json(table())
    assert (document["system"], document["verdict"], document["disagreements"]) == ("lights", "unknown", [])
    assert document["rounds"][0]["answers"][1] == {
        "tool": "one",
        "broken": False,
        "states": 8,
        "transitions": 11,
        "depth": None,
        "seconds": 2.0,
        "detail": "",
    }


def test_a_long_model_is_in_blocks_that_spin_has_room_for() -> None:
    system = avic_delivery(4, 2, 2)
    text = to_promela.text(system)
    blocks = text.split("c_code {\n")[1:]
    bodies = [block.split("\n}\n\n")[0] for block in blocks]
    assert len(bodies) > 1
    assert all(len(body) < 1 << 16 for body in bodies)
    assert sum(body.count("static void step_") for body in bodies) == len(system.transitions)
