"""A model step by step, at a prompt or at random: ``avicheck simulate``."""

from __future__ import annotations

import io
import random
import signal
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from avicheck.checker import trace
from avicheck.checker.engine import DEADLOCK_FREE
from avicheck.checker.engines import property_of
from avicheck.checker.errors import InputError, not_one_of, printable, shown
from avicheck.checker.export import write_new
from avicheck.checker.options import Number, json_option
from avicheck.checker.systems import Instance, heading, instance_options
from avicheck.checker.trace import Trace
from avicheck.checker.trace_columns import WIDTH, claimed, explained, trace_lines, wrapped
from avicheck.checker.trace_replay import replayed
from avicheck.checker.trace_words import Words, counted
from avicheck.checker.verdict import EXIT_INTERRUPTED, EXIT_OK, Verdict
from avicheck.encodings.expr import evaluate
from avicheck.encodings.transition import Property, Run, Values

STEPS: Final = 50
"""How far a random walk goes unless told otherwise."""
_MOST: Final = 1_000_000
HELP: Final = """\
NUMBER or NAME  take a step; the beginning of a name is enough if there is only one
u               undo the last step
r N             take N steps at random, or fewer if a property is violated
t               the trace so far
v               the values of all variables
s FILE          save the trace
q               quit; so does the end of the input
?               this"""


# What can happen, and the way so far.


@dataclass(frozen=True)
class Option:
    """What can happen next: a step, or to begin in one of several initial states. ``effects`` say what it
    changes."""

    name: str
    after: Values
    effects: tuple[str, ...]


@dataclass(frozen=True)
class Walk:
    """A way through a model, so far; no state where the initial one is still to be chosen."""

    states: tuple[Values, ...] = ()
    fired: tuple[str, ...] = ()

    @property
    def run(self) -> Run:
        """The way as a run."""
        return Run(self.states, self.fired)


class Simulation:
    """A model that is walked through by its executable form; ``watched`` are the properties that a state
    can violate (or reach, for ``sometimes``)."""

    def __init__(self, instance: Instance, watched: Sequence[Property]) -> None:
        self.words = Words(instance)
        self.instance, self.watched = instance, watched

    def start(self) -> Walk:
        """The initial state, if there is only one."""
        initial = self._initial()
        return Walk(tuple(initial)) if len(initial) == 1 else Walk()

    def options(self, walk: Walk) -> list[Option]:
        """What can happen next."""
        if not walk.states:
            return list(self._beginnings())
        before = walk.states[-1]
        return [Option(name, after, self._effects(name, before, after)) for name, after in self._next(before)]

    def violated(self, walk: Walk) -> list[Property]:
        """The watched properties that are violated in the last state, or reached."""
        return self._violated(walk.states[-1]) if walk.states else []

    def wander(self, walk: Walk, steps: int, rng: random.Random) -> Iterator[Option]:
        """Steps at random: so many, or fewer if a watched property is decided or nothing can happen. An
        initial state, where it is still to be chosen, is no step."""
        if walk.states:
            state = walk.states[-1]
        else:
            begin = rng.choice(list(self._beginnings()))
            state = begin.after
            yield begin
            if self._violated(state):
                return
        for _ in range(steps):
            following = self._next(state)
            if not following:
                return
            name, state = rng.choice(following)
            yield Option(name, state, ())
            if self._violated(state):
                return

    def trace(self, walk: Walk) -> Trace:
        """The way so far, replayed; about the first property that its last state violates, if any."""
        violated = self.violated(walk)
        made = Trace(self.instance, violated[0].name if violated else None, walk.run)
        replayed(made)
        return made

    def _initial(self) -> list[Values]:
        encoding = self.instance.encoding
        return [encoding.values(world) for world in encoding.machine.initial]

    def _next(self, state: Values) -> list[tuple[str, Values]]:
        encoding = self.instance.encoding
        following = encoding.machine.successors(encoding.state(state))
        return [(action.name, encoding.values(world)) for action, world in following]

    def _effects(self, name: str, before: Values, after: Values) -> tuple[str, ...]:
        return tuple(self.words.told(0, self.words.transitions[name], before, after).lines)

    def _violated(self, state: Values) -> list[Property]:
        holds = evaluate([prop.holds for prop in self.watched], state)
        both = zip(self.watched, holds, strict=True)
        return [prop for prop, value in both if bool(value) != (prop.kind == "always")]

    def _beginnings(self) -> Iterator[Option]:
        initial = self._initial()
        differ = [name for name in self.words.variables if len({state[name] for state in initial}) > 1]
        for number, state in enumerate(initial, 1):
            yield Option(f"initial state {number}", state, tuple(self.words.equations(differ, state)))


def taken(walk: Walk, *options: Option) -> Walk:
    """The way with some steps more; the first may be its initial state."""
    states = (*walk.states, *(option.after for option in options))
    names = [option.name for option in options]
    return Walk(states, (*walk.fired, *(names if walk.states else names[1:])))


def wandered(walk: Walk, options: Iterable[Option]) -> tuple[Walk, bool]:
    """The way with the steps that come until there are no more, or an interrupt; whether there was one."""
    gone: list[Option] = []
    try:
        gone.extend(options)
    except KeyboardInterrupt:
        return taken(walk, *gone), True
    return taken(walk, *gone), False


def undone(walk: Walk) -> Walk:
    """The way without its last step, or its choice of an initial state."""
    return Walk(walk.states[:-1], walk.fired[:-1])


def chosen(options: Sequence[Option], answer: str) -> Option:
    """The option of this number, or whose name, with or without its thread, begins like this;
    ``InputError`` if that is none or several."""
    if 1 <= _number(answer) <= len(options):
        return options[_number(answer) - 1]
    for names in ([o.name for o in options], [o.name.partition(".")[2] for o in options]):
        exact = [option for option, name in zip(options, names, strict=True) if name == answer]
        begin = [option for option, name in zip(options, names, strict=True) if name.startswith(answer)]
        if len(exact or begin) == 1:
            return (exact or begin)[0]
        if begin:
            more = f" and {len(begin) - 2} more" if len(begin) > 2 else ""
            raise InputError(
                "Answer", "the beginning of one name", f"of {begin[0].name}, {begin[1].name}{more}"
            )
    numbers = f"a number from 1 to {len(options)}, the beginning of a name or " if options else ""
    raise InputError("Answer", f"{numbers}a command", shown(answer), hint="? lists them")


def _number(text: str) -> int:
    """A number that is not too long to be one, else 0."""
    return int(text) if text.isdecimal() and len(text) < 10 else 0


def _given(argument: str) -> str:
    """What came after a command."""
    return shown(argument) if argument else "alone"


# The command.


@click.command()
@click.argument("model")
@instance_options
@click.option("--property", "name", metavar="NAME", help="Watch only this property.")
@click.option("--random", "at_random", is_flag=True, help="Ask nothing: go at random and print the trace.")
@click.option("--steps", type=Number(1, _MOST), help="How many steps to go at random.  [default: 50]")
@click.option(
    "--seed", type=Number(0, (1 << 64) - 1), default=0, show_default=True, help="Of what is chosen at random."
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A new file for the trace, at the end.",
)
@json_option
def simulate(
    instance: Instance,
    name: str | None,
    at_random: bool,
    steps: int | None,
    seed: int,
    save: Path | None,
    json_: bool,
) -> int:
    """Go through a concurrent model step by step, at a prompt.

    At a prompt: what can happen next and what each step would change; choose by number or name, undo, walk
    at random, save the trace. A property that is violated is reported at once. Ctrl-C keeps what there is.

    Example: avicheck simulate apic-map-life --random --steps 20 --seed 7
    """
    for option, given in (("--steps", steps is not None), ("--json", json_)):
        if given and not at_random:
            raise InputError(option, "given with --random", "without")
    if save is not None and save.exists():
        raise InputError("--save", "a new file", f"{save}, which exists")
    simulation = Simulation(instance, watched(instance, name))
    rng = random.Random(seed)
    if at_random:
        return _at_random(simulation, rng, steps or STEPS, save, json_)
    return _Prompt(simulation, rng, save).run()


def watched(instance: Instance, name: str | None) -> list[Property]:
    """The properties that a state can violate, or the one that is named; ``InputError`` if there is none of
    that name, or if no single state decides it."""
    system = instance.system
    safety = [prop for prop in system.properties if prop.kind in ("always", "never")]
    if name is None:
        return [*safety, property_of(system, DEADLOCK_FREE)]
    known = [prop.name for prop in system.properties if prop.kind != "leads-to"] + [DEADLOCK_FREE]
    if name not in known:
        raise not_one_of("--property", known, name, place=instance.name)
    return [property_of(system, name)]


def _at_random(simulation: Simulation, rng: random.Random, steps: int, save: Path | None, json_: bool) -> int:
    walk, interrupted = simulation.start(), False
    if not simulation.violated(walk):
        walk, interrupted = wandered(walk, simulation.wander(walk, steps, rng))
    made = simulation.trace(walk)
    click.echo(trace.text(made) if json_ else _shown(made), nl=False)
    _save(simulation, walk, save)
    if interrupted:
        return EXIT_INTERRUPTED
    return Verdict.VIOLATED.exit_code if made.verdict == "violated" else EXIT_OK


def _shown(made: Trace) -> str:
    return "".join(f"{line}\n" for line in trace_lines(made.instance, made.asked, made.run))


def _save(simulation: Simulation, walk: Walk, file: Path | None) -> None:
    if file is not None:
        write_new(file, trace.text(simulation.trace(walk)), "--save")
        click.echo(f"Saved: {file}", err=True)


def _prepare_input() -> None:
    """Make input that is no text readable, edit what is typed, and let an interrupt end the reading."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="backslashreplace")
        if sys.stdin.isatty() and sys.stdout.isatty():
            with suppress(ImportError):
                import readline  # noqa: F401  # is all it takes
    signal.siginterrupt(signal.SIGINT, True)  # z3 leaves it otherwise


def _read() -> str | None:
    """An answer, None at the end of the input; shown too, where nobody types it."""
    if sys.stdin is None:
        return None
    try:
        line = input("> ")
    except EOFError:
        return None
    if not sys.stdin.isatty():
        click.echo(printable(line))
    return line


class _Prompt:
    """The conversation. What goes wrong in an answer is said in one sentence, and it goes on."""

    def __init__(self, simulation: Simulation, rng: random.Random, save: Path | None) -> None:
        self.simulation, self.rng, self.save = simulation, rng, save
        self.walk = simulation.start()
        self.options: list[Option] = []

    def run(self) -> int:
        """Talk until the end of the input, ``q`` or an interrupt. Returns the exit code."""
        click.echo("\n".join(heading(self.simulation.instance, WIDTH)))
        _prepare_input()
        try:
            self.show()
            while self.answered():
                pass
            code = EXIT_OK
        except KeyboardInterrupt:
            click.echo()
            code = EXIT_INTERRUPTED
        if self.walk.states:
            _save(self.simulation, self.walk, self.save)
        return code

    def answered(self) -> bool:
        """Read one answer and act on it; whether to go on."""
        line = _read()
        if line is None:
            click.echo()
            return False
        command, _, argument = line.strip().partition(" ")
        if command == "q" and not argument:
            return False
        before = self.walk
        try:
            self.act(command, argument.strip())
        except InputError as error:
            click.echo(str(error))
        if self.walk != before or not command:
            self.show()
        return True

    def act(self, command: str, argument: str) -> None:
        """What an answer asks for; ``InputError`` if that is nothing that there is."""
        alone: dict[str, Callable[[], None]] = {
            "u": self.undo,
            "t": self.trace,
            "v": self.values,
            "?": lambda: click.echo(HELP),
        }
        if command in alone:
            if argument:
                raise InputError("Answer", f"{command} alone", shown(f"{command} {argument}"))
            alone[command]()
        elif command == "r":
            self.wander(argument)
        elif command == "s":
            self.write(argument)
        elif command:
            self.walk = taken(self.walk, chosen(self.options, f"{command} {argument}".strip()))

    def show(self) -> None:
        """Where it is, what is violated there, and what can happen."""
        simulation, walk = self.simulation, self.walk
        self.options = simulation.options(walk)
        click.echo()
        for prop in simulation.violated(walk):
            for sentence in (claimed(prop), *explained(simulation.words, prop, walk.run)):
                click.echo("\n".join(wrapped(sentence)))
        what = "What" if self.options else "Nothing"
        click.echo(
            f"{what} can happen after {counted(len(walk.fired), 'step')}{':' if self.options else '.'}"
        )
        for number, option in enumerate(self.options, 1):
            effects = f": {'; '.join(option.effects)}" if option.effects else ""
            click.echo(textwrap.fill(f"{number:3}  {option.name}{effects}", WIDTH, subsequent_indent=" " * 7))

    def undo(self) -> None:
        """One step back."""
        if self.walk == self.simulation.start():
            raise InputError("u", "given after a step", "at the beginning")
        self.walk = undone(self.walk)

    def wander(self, argument: str) -> None:
        """Some steps at random; an interrupt ends that, and nothing else."""
        steps = _number(argument)
        if not 1 <= steps <= _MOST:
            raise InputError("r", f"followed by a number from 1 to {_MOST}", _given(argument))
        self.walk, interrupted = wandered(self.walk, self.simulation.wander(self.walk, steps, self.rng))
        if interrupted:
            click.echo()

    def trace(self) -> None:
        """The trace so far."""
        click.echo(_shown(replace(self.begun(), asked=None)), nl=False)

    def values(self) -> None:
        """Every variable."""
        self.begun()
        words = self.simulation.words
        click.echo("\n".join(words.equations(words.variables, self.walk.states[-1])))

    def write(self, argument: str) -> None:
        """The trace so far, as a file."""
        if not argument or not argument.isprintable():
            raise InputError("s", "followed by a file", _given(argument))
        write_new(Path(argument), trace.text(self.begun()), "s")
        click.echo(f"Saved: {printable(argument)}")

    def begun(self) -> Trace:
        """The trace so far; ``InputError`` if there is not even an initial state."""
        if not self.walk.states:
            raise InputError("Initial state", "chosen", "left open")
        return self.simulation.trace(self.walk)
