"""Model checkers as programs, each run on an exported system: SPIN, Rumur, TLC, and our own.

Each works in a temporary directory of its own. What it prints is read for the number of
states and transitions, whether a property is broken, and after how many steps.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from avicheck.encodings import to_murphi, to_promela, to_tla
from avicheck.encodings.expr import TRUE
from avicheck.encodings.persist import dumped
from avicheck.encodings.transition import TransitionSystem
from avicheck.encodings.writing import ExportError, distinct_initial, hull


@dataclass(frozen=True)
class Question:
    """What the tools are asked: whether any state breaks a property of ``system``, or is a deadlock
    unless ``system.ended`` is TRUE. ``states`` is how many there are, for sizing; ``shortest`` asks
    for a shortest counterexample."""

    name: str
    system: TransitionSystem
    states: int
    shortest: bool


@dataclass(frozen=True)
class Answer:
    """What a tool answered: ``broken`` tells whether there is such a state (None: no answer, and
    ``detail`` says why), ``depth`` after how many steps. ``states`` and ``transitions`` of a search
    that ended early are None. ``seconds`` is all that the tool took, compilation included."""

    tool: str
    broken: bool | None
    states: int | None
    transitions: int | None
    depth: int | None
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class Tool:
    """A model checker: the programs that it needs, and how to ask it within so many seconds."""

    name: str
    programs: tuple[str, ...]
    ask: Callable[[Question, float], Answer]

    @property
    def missing(self) -> list[str]:
        """The programs that are not installed."""
        return [program for program in self.programs if shutil.which(program) is None]


class NoAnswer(Exception):
    """A tool gave none; the message says why."""


class _Shell:
    """Runs commands in a directory until a time limit that they share. The time runs from the first one."""

    def __init__(self, folder: Path, limit: float) -> None:
        self.folder, self._limit, self._start = folder, limit, math.inf

    @property
    def seconds(self) -> float:
        return max(0.0, time.perf_counter() - self._start)

    def run(self, *command: str, fails: bool = False, cache: Path | None = None) -> str:
        """What a command prints; ``NoAnswer`` if it runs too long, or fails unless it may. ``cache`` is where
        it may keep something."""
        kept = {} if cache is None else {"XDG_CACHE_HOME": str(cache)}
        self._start = min(self._start, time.perf_counter())
        try:
            result = subprocess.run(
                command,
                cwd=self.folder,
                env={**os.environ, **kept},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=max(0.01, self._limit - self.seconds),
                text=True,
                errors="replace",
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"time limit of {self._limit:g} s reached") from None
        if result.returncode and not fails:
            raise NoAnswer(f"{command[0]} failed: {_last_line(result.stdout)}")
        return result.stdout


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


_Findings = tuple[bool, int | None, int | None, int | None]
"""Broken, states, transitions, depth."""


def _asking(name: str, find: Callable[[Question, _Shell], _Findings]) -> Callable[[Question, float], Answer]:
    def ask(question: Question, limit: float) -> Answer:
        with tempfile.TemporaryDirectory(prefix="avicheck-") as folder:
            shell = _Shell(Path(folder), limit)
            try:
                broken, states, transitions, depth = find(question, shell)
            except (NoAnswer, ExportError) as error:
                return Answer(name, None, None, None, None, shell.seconds, str(error))
            return Answer(name, broken, states, transitions, depth, shell.seconds)

    return ask


def _level(states: int, steps: Sequence[tuple[int, str]], most: str) -> str:
    """The optimization that pays off at a number of states: compiling is most of a small run."""
    return next((level for limit, level in steps if states < limit), most)


def _number(pattern: str, output: str, tool: str) -> int:
    match = re.search(pattern, output)
    if match is None:
        raise NoAnswer(f"{tool} gave no result: {_last_line(output)}")
    return int(match[1].replace(",", ""))


# Our own explicit engine, as a program like the others.

READ: Final = """
from pathlib import Path
from avicheck.encodings.persist import loaded

system = loaded(Path("model.json").read_bytes())
"""
"""Makes a system of what is exported."""
_BEGIN: Final = """
from avicheck.checker.program import begin, leave

begin()
"""
_EXPLORE: Final = """
import json
from avicheck.checker.explore import explore

found = explore(system, reduce={reduce!r})
depths = [len(each.run.fired) for each in found.results if each.run is not None]
print(json.dumps([found.stopped, found.states, found.transitions, min(depths, default=None)]))
leave(0)
"""


def avicheck(
    name: str = "avicheck", *, making: str = READ, kept: Path | None = None, reduce: Sequence[str] = ()
) -> Tool:
    """Our engine on the ``system`` that a program makes, in a process of its own. Nothing is there from runs
    before but what is ``kept`` in a folder."""

    def find(question: Question, shell: _Shell) -> _Findings:
        (shell.folder / "model.json").write_bytes(dumped(question.system))
        program = _BEGIN + making + _EXPLORE.format(reduce=tuple(reduce))
        output = shell.run(sys.executable, "-c", program, cache=kept or shell.folder)
        stopped, states, transitions, depth = json.loads(_last_line(output))
        if depth is not None:
            return True, None, None, depth
        if stopped is not None:
            raise NoAnswer(f"the search ended early: {stopped}")
        return False, states, transitions, None

    return Tool(name, (), _asking(name, find))


# SPIN.

_SPIN_LEVELS: Final = ((1_000_000, "-O0"), (3_000_000, "-O1"))
_SPIN_CORES_FROM: Final = 5_000_000
"""States from which on two cores pay."""
_VECTOR_DEFAULT: Final = 1024


def spin(name: str = "SPIN", *, level: str | None = None, cores: int | None = None) -> Tool:
    """SPIN, compiled and run as it suits the number of states, unless given."""

    def find(question: Question, shell: _Shell) -> _Findings:
        """Breadth-first for a shortest counterexample, else depth-first, which is faster."""
        (shell.folder / "model.pml").write_text(to_promela.text(question.system))
        shell.run("spin", "-a", "model.pml")
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10 >> 20
        options = ["-DSAFETY", "-DNOREDUCE", "-DNOBOUNDCHECK", f"-DMEMLIM={memory}"]
        two = question.states >= _SPIN_CORES_FROM if cores is None else cores > 1
        options += ["-DBFS"] if question.shortest else ["-DNCORE=2"] if two else []
        vector = 8 * len(question.system.variables) + 64
        options += [f"-DVECTORSZ={vector}"] if vector > _VECTOR_DEFAULT else []
        optimized = level or _level(question.states, _SPIN_LEVELS, "-O2")
        shell.run("gcc", "-w", optimized, *options, "-o", "pan", "pan.c")
        slots = min(max(question.states.bit_length() + 1, 16), 32)
        output = shell.run("./pan", f"-m{question.states + 100}", f"-w{slots}", fails=True)
        return read_spin(output, len(distinct_initial(question.system)))

    return Tool(name, ("spin", "gcc"), _asking(name, find))


def read_spin(output: str, initial: int) -> tuple[bool, int | None, int | None, int | None]:
    """What a verifier of SPIN found. Its search has a state before the initial ones, a step to
    each of these, and counts as a transition also its own start."""
    error = re.search(r"pan:1: (assertion violated|invalid end state).* \(at depth (\d+)\)", output)
    if error is not None:
        return True, None, None, int(error[2]) - (error[1] == "invalid end state")
    if re.search("Search not completed|search depth too small", output) or "errors: 0" not in output:
        problem = re.search(r"(?:error: |pan: |pan:1: )(.*)", output)
        raise NoAnswer(f"spin's search ended early: {problem[1] if problem else _last_line(output)}")
    if re.search(r"\de\+\d+ (states, stored|transitions)", output):
        raise NoAnswer("spin rounds numbers from 10**8 on")
    states = _number(r"(\d+) states, stored", output, "spin") - 1
    return False, states, _number(r"(\d+) transitions", output, "spin") - initial - 1, None


# Rumur.

_RUMUR_LEVELS: Final = ((50_000, "-O0"), (2_000_000, "-O1"))
_RUMUR_THREADS: Final = 2


def rumur(
    name: str = "Rumur",
    *,
    level: str | None = None,
    text: Callable[[TransitionSystem], str] = to_murphi.text,
) -> Tool:
    """Rumur, compiled as it suits the number of states, unless given; with one thread for a shortest
    counterexample."""

    def find(question: Question, shell: _Shell) -> _Findings:
        (shell.folder / "model.m").write_text(text(question.system))
        shell.run(
            "rumur",
            f"--threads={1 if question.shortest else _RUMUR_THREADS}",
            f"--deadlock-detection={to_murphi.deadlock_detection(question.system)}",
            "--output-format=machine-readable",
            "--pack-state=off",
            "--output=model.c",
            "model.m",
        )
        optimized = level or _level(question.states, _RUMUR_LEVELS, "-O3")
        machine = ["-march=native"] + ["-mcx16"] * (platform.machine() == "x86_64")
        shell.run("gcc", "-w", "-std=c11", optimized, *machine, "-o", "model", "model.c", "-lpthread")
        return read_rumur(shell.run("./model", fails=True))

    return Tool(name, ("rumur", "gcc"), _asking(name, find))


def read_rumur(output: str) -> tuple[bool, int | None, int | None, int | None]:
    """What a verifier of Rumur found; the first transition of its trace is the start."""
    try:
        run = ElementTree.fromstring(output)
    except ElementTree.ParseError:
        raise NoAnswer(f"rumur gave no result: {_last_line(output)}") from None
    error, summary = run.find("error"), run.find("summary")
    if error is not None:
        message = error.findtext("message", "")
        if not re.search(r"^invariant .* failed$|^deadlock$", message.strip()):
            raise NoAnswer(f"rumur's run failed: {message.strip()}")
        return True, None, None, len(error.findall("transition")) - 1
    if summary is None:
        raise NoAnswer("rumur gave no summary")
    return False, int(summary.attrib["states"]), int(summary.attrib["rules_fired"]), None


# TLC.

_TLC_MAX: Final = 2**31 - 1


def _tlc(jar: Path, java: str) -> Callable[[Question, _Shell], _Findings]:
    def find(question: Question, shell: _Shell) -> _Findings:
        lo, hi = hull(question.system)
        if max(-lo, hi) > _TLC_MAX:
            raise ExportError("Value", "a number of 32 bits", f"{lo} to {hi}", "TLC")
        name = to_tla.module_name(question.system)
        (shell.folder / f"{name}.tla").write_text(to_tla.text(question.system))
        (shell.folder / f"{name}.cfg").write_text(to_tla.config(question.system))
        command = [java, "-XX:+UseParallelGC", "-cp", str(jar.resolve()), "tlc2.TLC"]
        workers = "1" if question.shortest else "2"
        options = ["-workers", workers, *(["-deadlock"] if question.system.ended is TRUE else [])]
        output = shell.run(*command, *options, "-config", f"{name}.cfg", f"{name}.tla", fails=True)
        return read_tlc(output, len(distinct_initial(question.system)))

    return find


def read_tlc(output: str, initial: int) -> tuple[bool, int | None, int | None, int | None]:
    """What TLC found; it counts the initial states among those that it generated."""
    if re.search(r"^Error: (Invariant \S+ is violated|Deadlock reached)", output, re.MULTILINE):
        states = [int(number) for number in re.findall(r"^State (\d+):", output, re.MULTILINE)]
        return True, None, None, max(states, default=1) - 1
    if "No error has been found" not in output:
        raise NoAnswer(f"TLC gave no result: {_last_line(output)}")
    pattern = r"^([\d,]+) states generated, [\d,]+ distinct states found, 0 states left on queue"
    generated = _number(f"(?m){pattern}", output, "TLC")
    return False, _number(r"([\d,]+) distinct states found, 0", output, "TLC"), generated - initial, None


# All.

AVICHECK: Final = avicheck()
SPIN: Final = spin()
RUMUR: Final = rumur()


def tlc(jar: Path) -> Tool:
    """TLC from a jar file."""
    return Tool("TLC", ("java",), _asking("TLC", _tlc(jar, "java")))
