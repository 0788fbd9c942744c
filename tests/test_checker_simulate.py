"""``avicheck simulate``: at a prompt and at random."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import simulate, systems
from avicheck.checker.cli import main
from avicheck.checker.errors import InputError
from avicheck.checker.simulate import HELP, Option, Simulation, Walk, chosen, taken, undone, wandered, watched
from avicheck.checker.systems import Choices, instance
from avicheck.checker.trace import load
from avicheck.checker.trace_replay import replayed
from avicheck.encodings.transition import successors
from tests.known.described import POINTS


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known models are registered."""
    monkeypatch.setattr(systems, "registered", lambda: POINTS)


def talk(*answers: str, args: tuple[str, ...] = ("shelf",)) -> Result:
    """A conversation that ends with the answers."""
    return CliRunner().invoke(main, ["simulate", *args], input="".join(f"{answer}\n" for answer in answers))


def said(result: Result, answer: str) -> str:
    """What was said to an answer, up to the next prompt."""
    return result.stdout.partition(f"> {answer}\n")[2].partition("\n> ")[0].strip()


def simulation(name: str, choices: Choices | None = None) -> Simulation:
    made = instance(name, choices)
    return Simulation(made, watched(made, None))


def gone(shown: Simulation, steps: int, seed: int) -> Walk:
    """A walk at random from the beginning."""
    return wandered(shown.start(), shown.wander(shown.start(), steps, random.Random(seed)))[0]


# What can happen.


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 999), st.sampled_from(["sc", "tso"]))
def test_the_options_are_the_system_s_successors(seed: int, memory: str) -> None:
    shown = simulation("peterson", Choices(memory="tso" if memory == "tso" else "sc"))
    walk = shown.start()
    for step in shown.wander(walk, 12, random.Random(seed)):
        walk = taken(walk, step)
        options = [(option.name, option.after) for option in shown.options(walk)]
        reached = successors(shown.instance.system, walk.states[-1])
        assert options == [(step.name, after) for step, after in reached]


def test_several_initial_states_are_offered_first() -> None:
    shown = simulation("shelf")
    assert shown.start() == Walk()
    assert [(option.name, option.effects) for option in shown.options(Walk())] == [
        ("initial state 1", ("books = 0",)),
        ("initial state 2", ("books = 1",)),
    ]


def test_a_step_taken_and_undone_is_as_if_it_was_not() -> None:
    shown = simulation("shelf")
    walk = taken(Walk(), shown.options(Walk())[0])
    further = taken(walk, shown.options(walk)[0])
    assert further.fired == ("reader[0].take",)
    assert (undone(further), undone(walk)) == (walk, Walk())


def test_the_seed_decides_a_random_walk() -> None:
    shown = simulation("peterson")
    walks = [gone(shown, 20, seed) for seed in (1, 1, 2)]
    assert walks[0] == walks[1] != walks[2]


def test_a_random_walk_ends_where_a_property_is_violated() -> None:
    shown = simulation("shelf")
    walk = gone(shown, 500, 3)
    assert [prop.name for prop in shown.violated(walk)] == ["light"]
    assert not shown.violated(undone(walk))


def test_a_random_walk_ends_where_nothing_can_happen() -> None:
    shown = simulation("philosophers")
    shown.watched = []
    walk = gone(shown, 5_000, 0)
    assert shown.options(walk) == []


def test_a_watched_witness_is_reached() -> None:
    made = instance("shelf")
    shown = Simulation(made, watched(made, "marked"))
    walk = gone(shown, 500, 0)
    assert walk.states[-1]["marked"] == 1


@pytest.mark.parametrize(
    ("answer", "name"),
    [("2", "a.two"), ("a.o", "a.one"), ("on", "a.one"), ("a.t", "a.two"), ("three", "b.three")],
)
def test_an_option_is_chosen_by_number_or_by_the_beginning_of_its_name(answer: str, name: str) -> None:
    options = [Option(name, {}, ()) for name in ("a.one", "a.two", "b.three", "b.threefold")]
    assert chosen(options, answer).name == name


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("0", "a number from 1 to 4, the beginning of a name or a command"),
        ("5", "a number from 1 to 4"),
        ("9" * 5000, "a number from 1 to 4"),
        ("c", "a number from 1 to 4"),
        ("b.", r"the beginning of one name, not of b\.three, b\.threefold"),
        ("t", r"the beginning of one name, not of a\.two, b\.three and 1 more"),
    ],
)
def test_what_is_no_option_is_refused(answer: str, message: str) -> None:
    options = [Option(name, {}, ()) for name in ("a.one", "a.two", "b.three", "b.threefold")]
    with pytest.raises(InputError, match=message):
        chosen(options, answer)


# The prompt.


def test_conversation_reads(snapshot: SnapshotAssertion) -> None:
    answers = ("2", "take", "reader[0].t", "u", "1", "1", "t", "v", "?", "nonsense", "q")
    assert talk(*answers).stdout == snapshot


def test_the_end_of_the_input_ends_it() -> None:
    result = talk("1")
    assert (result.exit_code, result.stdout.endswith("> \n")) == (0, True)


def test_q_ends_it_at_once() -> None:
    result = talk("q", "1")
    assert (result.exit_code, result.stdout.endswith("> q\n")) == (0, True)


def test_a_violated_property_is_reported_at_once() -> None:
    before, _, after = talk("2", "1", "1").stdout.partition("What can happen after 1 step:")
    assert "Violated" not in before
    assert "\nViolated: light: At most one book, and nobody holds a third.\n" in after
    assert "\nIn the end few_books is false: books = 2.\n" in after


def test_a_deadlock_is_reported() -> None:
    result = talk("philosopher[0]", "philosopher[1]", args=("philosophers",))
    assert "philosopher[0] at take_second waits: fork[1] is true." in result.stdout
    assert "Nothing can happen after 2 steps." in result.stdout


def test_a_step_that_can_only_fail_is_reported() -> None:
    result = talk("2", "1", "1", args=("shelf", "--with", "breaks"))
    assert "In the end reader[0].look can only fail: AssertionError (the shelf breaks)." in result.stdout


def test_only_the_named_property_is_watched() -> None:
    result = talk("2", "1", "1", args=("shelf", "--property", "steps-succeed"))
    assert "Violated" not in result.stdout


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (
            ("x",),
            "Answer must be a number from 1 to 2, the beginning of a name or a command, "
            'not "x"; ? lists them',
        ),
        (("u",), "u must be given after a step, not at the beginning"),
        (("1", "u 2"), 'Answer must be u alone, not "u 2"'),
        (("r",), "r must be followed by a number from 1 to 1000000, not alone"),
        (("r -1",), 'r must be followed by a number from 1 to 1000000, not "-1"'),
        (("s",), "s must be followed by a file, not alone"),
        (("t",), "Initial state must be chosen, not left open"),
        (("v",), "Initial state must be chosen, not left open"),
        (("s new.json",), "Initial state must be chosen, not left open"),
    ],
)
def test_a_wrong_answer_gets_one_sentence_and_it_goes_on(answers: tuple[str, ...], sentence: str) -> None:
    result = talk(*answers, "?")
    assert said(result, answers[-1]) == sentence
    assert said(result, "?") == HELP
    assert result.exit_code == 0


def test_an_empty_answer_shows_what_can_happen_again() -> None:
    assert said(talk("1", ""), "") == said(talk("1"), "1")


def test_s_saves_a_trace_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "a trace.json"
    result = talk("2", "1", "1", f"s {file}")
    assert f"Saved: {file}" in result.stdout
    saved = load(str(file))
    replayed(saved)
    assert (saved.asked, saved.run.fired) == ("light", ("reader[0].take", "reader[0].put"))


def test_s_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "there"
    file.write_text("mine")
    result = talk("1", f"s {file}")
    assert said(result, f"s {file}") == f"s must be a new file, not {file}, which exists"
    assert file.read_text() == "mine"


def test_save_keeps_what_there_is_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    talk("1", "1", args=("shelf", "--save", str(file)))
    assert load(str(file)).run.fired == ("reader[0].take",)


def test_input_that_is_no_text_is_a_wrong_answer() -> None:
    result = CliRunner().invoke(main, ["simulate", "shelf"], input=b"\xff\n")
    assert result.exit_code == 0
    assert "Answer must be a number" in result.stdout


SCRIPT = """
import sys, z3
from avicheck.checker import cli, systems
from tests.known.described import POINTS
z3.Solver().check()  # after which an interrupt does not end a read
systems.registered = lambda: POINTS
cli.main(["simulate", "philosophers", "--save", sys.argv[1]])
"""


@pytest.mark.parametrize("terminal", [True, False])
def test_an_interrupt_keeps_what_there_is(terminal: bool, tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    (hear, out), (from_us, say) = pty.openpty() if terminal else os.pipe(), os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, file],
        cwd=Path(__file__).parent.parent,
        stdin=out if terminal else from_us,
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        limit = threading.Timer(60, process.kill)
        limit.start()
        os.close(out)
        os.write(hear if terminal else say, b"1\n")
        heard = b""
        while not heard.partition(b"after 1 step")[2].endswith(b"> "):
            heard += (more := os.read(hear, 1 << 16))
            assert more
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
        limit.cancel()
    for descriptor in (hear, from_us, say):
        os.close(descriptor)
    assert (process.returncode, errors) == (5, f"Saved: {file}\n")
    assert json.loads(file.read_text())["steps"] == ["philosopher[0].take_first"]


def test_an_interrupt_ends_a_random_walk_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    wander = Simulation.wander

    def interrupted(self: Simulation, walk: Walk, steps: int, rng: random.Random) -> object:
        for number, further in enumerate(wander(self, walk, steps, rng)):
            if number == 3:
                raise KeyboardInterrupt
            yield further

    monkeypatch.setattr(Simulation, "wander", interrupted)
    result = talk("r 9", "t", args=("peterson",))
    assert "What can happen after 3 steps:" in result.stdout
    assert "3 steps" in said(result, "t")


# At random.


def test_at_random_reads(snapshot: SnapshotAssertion) -> None:
    result = talk(args=("peterson", "--random", "--steps", "8", "--seed", "7", "--memory", "tso"))
    assert result.exit_code == 0
    assert result.stdout == snapshot


def test_at_random_goes_as_far_as_it_is_told() -> None:
    fired = [
        len(json.loads(talk(args=("peterson", "--random", "--json", *steps)).stdout)["steps"])
        for steps in ((), ("--steps", "3"))
    ]
    assert fired == [simulate.STEPS, 3]


def test_at_random_a_violation_is_told_by_the_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    result = talk(args=("shelf", "--random", "--steps", "500", "--save", str(file)))
    assert result.exit_code == 1
    assert "Violated: light" in result.stdout
    assert load(str(file)).verdict == "violated"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--steps", "3"), "--steps must be given with --random, not without"),
        (("--json",), "--json must be given with --random, not without"),
        (("--random", "--steps", "0"), '--steps must be an integer from 1 to 1000000, not "0"'),
        (("--random", "--seed", "x"), '--seed must be an integer from 0 to 18446744073709551615, not "x"'),
        (
            ("--property", "lite"),
            "shelf: --property must be one of light, marked, steps-succeed, deadlock-free, "
            'not "lite"; did you mean light?',
        ),
        (("--scope", "readers=9"), "shelf: --scope readers must be from 1 to 3, not 9"),
    ],
)
def test_bad_input_gets_one_sentence(args: tuple[str, ...], message: str) -> None:
    result = talk(args=("shelf", *args))
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", f"avicheck: {message}\n")


def test_a_file_that_exists_is_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text("mine")
    result = talk("1", args=("shelf", "--save", str(file)))
    assert (result.exit_code, file.read_text()) == (3, "mine")
    assert result.stderr == f"avicheck: --save must be a new file, not {file}, which exists\n"
