"""What the explicit engine searches in place of a system: the system itself, or a reduced one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from avicheck.encodings.packing import Layout, layout
from avicheck.encodings.transition import (
    Family,
    ReplayError,
    Run,
    TransitionSystem,
    Values,
    replay,
    successors,
)

if TYPE_CHECKING:
    from avicheck.encodings.canonical import Canonical
    from avicheck.encodings.symmetry import Automorphism

Reduction: TypeAlias = Literal["dead", "symmetry", "partial-order"]

REDUCTIONS: Final[Mapping[Reduction, str]] = {
    "dead": "a thread's variable that is not read again has one value",
    "symmetry": "states that differ by a permutation of interchangeable instances count as one",
    "partial-order": "what no other thread can notice comes first",
}
"""What each does, by name."""


@dataclass(frozen=True)
class Searched:
    """What is searched for ``original``: the states of ``system``, each of which stands for all that have
    the same ``representative``.

    ``steps`` has all steps between these, and ``restored`` makes of a run of it one of the original.
    ``notes`` tell what was reduced; ``shortest`` whether shortest runs are left. Where nothing but exchanging
    instances of ``orbits`` was used, every reachable state of the original is in the orbit of one."""

    original: TransitionSystem
    system: TransitionSystem
    layout: Layout
    steps: TransitionSystem
    restored: Callable[[Run], Run] = lambda run: run
    symmetry: Canonical | None = None
    representative: Callable[[int], int] = int
    automorphisms: tuple[Automorphism, ...] = ()
    notes: tuple[str, ...] = ()
    shortest: bool = True
    orbits: tuple[Family, ...] = ()

    def packed(self, state: Values) -> int:
        """The representative of a state, packed."""
        return self.representative(self.layout.pack(state))

    def run_of(self, path: Sequence[int]) -> Run:
        """A run of the original system that passes some representatives, from an initial one on; replayed.
        ``ReplayError`` if there is none."""
        states, fired = list[Values](), list[str]()
        for number in path:
            reached = (
                [(step.name, after) for step, after in successors(self.steps, states[-1])]
                if states
                else [("", state) for state in self.steps.initial]
            )
            found = next((each for each in reached if self.packed(each[1]) == number), None)
            if found is None:
                raise ReplayError(f"State {len(states)} must be reached by a step, not out of reach")
            fired.append(found[0])
            states.append(found[1])
        run = self.restored(Run(tuple(states), tuple(fired[1:])))
        replay(self.original, run)
        return run

    def stands_for(self, steps: Sequence[str]) -> Mapping[str, str]:
        """For each step the first one that it can be exchanged with."""
        found = {step: step for step in steps}
        changed = True
        while changed:
            changed = False
            for each in self.automorphisms:
                for step, other in each.steps.items():
                    first = min(found[step], found[other], key=steps.index)
                    changed = changed or found[step] != first or found[other] != first
                    found[step] = found[other] = first
        return found


def unreduced(system: TransitionSystem) -> Searched:
    """The system itself."""
    return Searched(system, system, layout(system), system)
