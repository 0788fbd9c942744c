"""Our explicit engine and its peers on the same models, each in a process of its own, start, compilation and
all included: ``python -m tests.benchmarks.side_by_side``.

Nobody pays for the export. Our engine runs three times: with nothing kept from runs before (cold), with
lifted models and machine code that it kept (warm), and where instances are interchangeable under their
symmetry. For apic-map-life lifting is part of the run. Python finds its own bytecode, as after any
installation; peers run at the best of their compiler levels. In a round everybody runs once, one after the
other; what counts are ratios within a run of this program, on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from avicheck.checker.peer_tools import READ, Answer, Question, Tool, avicheck, rumur, spin, tlc
from avicheck.checker.systems import Choices, instance
from avicheck.encodings.transition import TransitionSystem
from tests.benchmarks.avic_delivery import COUNTS, SIZES, avic_delivery
from tests.benchmarks.avic_delivery_murphi import with_scalarsets

LIMIT: Final = 1800.0
LIFE: Final = "apic-map-life"
LIFTING: Final = """
from dataclasses import replace
from avicheck.checker.lifted import encoding
from avicheck.checker.systems import instance
from avicheck.spec.machine import Machine

life = instance("apic-map-life")
machine = Machine(life.description.model, life.scope, life.memory, life.options)
system = encoding(machine).system
system = replace(system, properties=tuple(p for p in system.properties if p.kind in ("always", "never")))
"""


@dataclass(frozen=True)
class Contest:
    """A question, and who answers it. Those whose names begin with ``avicheck`` are ours."""

    question: Question
    tools: tuple[Tool, ...]
    symmetric: tuple[Tool, ...] = ()


def delivery(size: str, bug: bool = False) -> TransitionSystem:
    """AVIC delivery without the property that is not an invariant."""
    system = avic_delivery(*SIZES[size], bug=bug)
    return replace(system, properties=system.properties[:1])


def every_state(size: str, kept: Path, jar: Path | None) -> Contest:
    """Through every state of AVIC delivery."""
    question = Question(f"{size}: every state", delivery(size), COUNTS[size][0], shortest=False)
    text = with_scalarsets(*SIZES[size])
    symmetric = (
        avicheck("avicheck symmetry", kept=kept, reduce=("symmetry",)),
        *(
            rumur(f"Rumur symmetry {level}", level=level, text=lambda _system: text)
            for level in ("-O1", "-O3")
        ),
    )
    several = max(SIZES[size][:2]) > 1
    return Contest(question, contestants(COUNTS[size][0], kept, jar), symmetric if several else ())


def first_counterexample(size: str, kept: Path, jar: Path | None) -> Contest:
    """The shortest run to a lost interrupt; SPIN's first one is far longer."""
    question = Question(f"{size}: counterexample", delivery(size, bug=True), COUNTS[size][0], shortest=True)
    return Contest(question, contestants(0, kept, jar))


def life(kept: Path, jar: Path | None) -> Contest:
    """Through every state of apic-map-life, from its Python text on."""
    system = instance(LIFE, Choices()).system
    asked = tuple(prop for prop in system.properties if prop.kind in ("always", "never"))
    question = Question(f"{LIFE}: every state", replace(system, properties=asked), 1_033_456, shortest=False)
    return Contest(question, contestants(question.states, kept, jar, LIFTING))


def contestants(states: int, kept: Path, jar: Path | None, making: str = READ) -> tuple[Tool, ...]:
    """Who may be the best at so many states."""
    levels = ("-O0", "-O1") if states < 1_000_000 else ("-O1", "-O2")
    cores = [spin("SPIN -DNCORE=2", level="-O2", cores=2)] if states >= 1_000_000 else []
    return (
        avicheck("avicheck cold", making=making),
        avicheck("avicheck warm", making=making, kept=kept),
        *(spin(f"SPIN {level}", level=level, cores=1) for level in levels),
        *cores,
        *(rumur(f"Rumur {level}", level=level) for level in (levels[0], "-O3")),
        *([] if jar is None else [tlc(jar)]),
    )


@contextmanager
def bytecode_kept(folder: Path) -> Iterator[None]:
    """Let programs of Python that run inside keep bytecode there, whatever the environment says."""
    names = "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"
    usual = {name: os.environ[name] for name in names if name in os.environ}
    for name in usual:
        del os.environ[name]
    os.environ[names[0]] = str(folder)
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update(usual)


def run(contest: Contest, rounds: int, report: Callable[[str], None]) -> dict[str, list[Answer]]:
    """Every answer by tool, in the order of the rounds; everybody goes first in turn."""
    tools = [tool for tool in (*contest.tools, *contest.symmetric) if not tool.missing]
    answers: dict[str, list[Answer]] = {tool.name: [] for tool in tools}
    for tool in tools:
        if tool.name.startswith("avicheck"):
            tool.ask(contest.question, LIMIT)
    for k in range(rounds):
        for tool in (*tools[k % len(tools) :], *tools[: k % len(tools)]):
            answer = tool.ask(contest.question, LIMIT)
            answers[tool.name].append(answer)
            report(
                f"{contest.question.name}, round {k + 1}: {tool.name} {answer.seconds:.2f} s {answer.detail}"
            )
    return answers


def contradictions(contest: Contest, answers: Mapping[str, Sequence[Answer]]) -> Iterator[str]:
    """Answers that differ, among those who search all states and among those who use the symmetry."""
    for tools in (contest.tools, contest.symmetric):
        found = {
            (answer.broken, answer.states, answer.transitions, answer.depth)
            for tool in tools
            for answer in answers.get(tool.name, ())
            if answer.broken is not None
        }
        if len(found) > 1:
            yield f"{contest.question.name}: {sorted(map(str, found))}"


def table(contest: Contest, answers: Mapping[str, Sequence[Answer]]) -> Iterator[str]:
    """A line for each tool: median, least and most seconds, and how many times our time, cold and warm."""
    medians = {
        name: statistics.median(answer.seconds for answer in each) for name, each in answers.items() if each
    }
    yield contest.question.name
    for name, each in answers.items():
        if each[0].broken is None:
            yield f"  {name:22} no answer: {each[0].detail}"
            continue
        found = f"{each[0].depth} steps" if each[0].broken else f"{each[0].states:,} states"
        seconds = [answer.seconds for answer in each]
        ours = [
            medians[own] for own in ("avicheck cold", "avicheck warm", "avicheck symmetry") if own in medians
        ]
        ratios = "  ".join(f"{medians[name] / own:6.1f}" for own in ours)
        spread = f"({min(seconds):.2f} to {max(seconds):.2f})"
        yield f"  {name:22} {medians[name]:8.2f} {spread}  {ratios}  {found}"


def main() -> int:
    """Run the contests that are asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="*", default=["XS", "S", "M", "L"], choices=[*SIZES])
    parser.add_argument("--bugs", nargs="*", default=["M", "L"], choices=[*SIZES])
    parser.add_argument("--life", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tlc", type=Path, metavar="JAR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every answer here too")
    chosen = parser.parse_args()
    told: list[dict[str, object]] = []
    failed = False
    with (
        tempfile.TemporaryDirectory(prefix="avicheck-kept-") as folder,
        tempfile.TemporaryDirectory(prefix="avicheck-bytecode-") as bytecode,
        bytecode_kept(Path(bytecode)),
    ):
        kept = Path(folder)
        contests = [every_state(size, kept, chosen.tlc) for size in chosen.sizes]
        contests += [first_counterexample(size, kept, chosen.tlc) for size in chosen.bugs]
        contests += [life(kept, chosen.tlc)] if chosen.life else []
        print("seconds: median (least to most), then times ours: cold, warm, with symmetry\n")
        for contest in contests:
            answers = run(contest, chosen.rounds, lambda line: print(line, file=sys.stderr))
            print("\n".join([*table(contest, answers), *contradictions(contest, answers)]), end="\n\n")
            failed = failed or any(contradictions(contest, answers))
            told += [
                vars(answer) | {"question": contest.question.name}
                for each in answers.values()
                for answer in each
            ]
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(told, indent=1))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
