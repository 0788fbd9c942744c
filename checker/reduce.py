"""Reductions of the explicit engine: fewer states to go through, with the same verdicts.

Each is computed from the system at hand and is sound for what is asked, or refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from avicheck.checker.errors import InputError, not_one_of
from avicheck.encodings.canonical import MAX_PERMUTATIONS, Canonical, canonical, permutations
from avicheck.encodings.dead_values import DeadValues, without_dead_values
from avicheck.encodings.expr import Expr
from avicheck.encodings.packing import Layout, layout
from avicheck.encodings.partial_order import partial_order
from avicheck.encodings.symmetry import Automorphism, Broken, automorphisms
from avicheck.encodings.to_python import Canonicalise, compile_canonical
from avicheck.encodings.transition import (
    Property,
    ReplayError,
    Run,
    TransitionSystem,
    Values,
    replay,
    successors,
)

Reduction: TypeAlias = Literal["dead", "symmetry", "partial-order"]

REDUCTIONS: Final[Mapping[Reduction, str]] = {
    "dead": "a thread's variable that is not read again has one value",
    "symmetry": "states that differ by a permutation of interchangeable instances count as one",
    "partial-order": "what no other thread can notice comes first",
}
"""What each does, by name."""


@dataclass(frozen=True)
class Reduced:
    """What is searched in place of a system: another system, whose states stand for all that have the
    same ``representative``. ``notes`` say what the reductions are; ``alike`` names the step that stands for
    each; ``shortest`` tells whether shortest runs remain."""

    dead: DeadValues
    system: TransitionSystem
    layout: Layout
    symmetry: Canonical | None = None
    representative: Canonicalise = int
    automorphisms: tuple[Automorphism, ...] = ()
    notes: tuple[str, ...] = ()
    shortest: bool = True

    def packed(self, state: Values) -> int:
        """The representative of a state, packed."""
        return self.representative(self.layout.pack(state))

    def run_of(self, path: Sequence[int]) -> Run:
        """A run of the original system that passes some representatives, from an initial one on; replayed.
        ``ReplayError`` if there is none."""
        states, fired = list[Values](), list[str]()
        for number in path:
            reached = (
                [(step.name, after) for step, after in successors(self.dead.system, states[-1])]
                if states
                else [("", state) for state in self.dead.system.initial]
            )
            found = next((each for each in reached if self.packed(each[1]) == number), None)
            if found is None:
                raise ReplayError(f"State {len(states)} must be reached by a step, not out of reach")
            fired.append(found[0])
            states.append(found[1])
        run = self.dead.run_of(Run(tuple(states), tuple(fired[1:])))
        replay(self.dead.original, run)
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


def reduced(system: TransitionSystem, asked: Collection[Property], which: Collection[Reduction]) -> Reduced:
    """A system reduced for some of its properties (that it has no deadlock can always be asked).
    ``InputError`` if a reduction is unknown, not sound for a property, or finds no symmetry."""
    for name in which:
        if name not in REDUCTIONS:
            raise not_one_of("--reduce", REDUCTIONS, name)
    live = next((prop.name for prop in asked if prop.kind == "leads-to"), None)
    if live is not None and set(which) - {"dead"}:
        raise InputError("--reduce", "dead alone, for leads-to", ", ".join(which), live)
    found = _without_dead_values(system, asked, which)
    names = {prop.name for prop in asked}
    conditions = {f"property {p.name}": p.holds for p in found.system.properties if p.name in names}
    if "symmetry" in which:
        found = _symmetric(found, conditions)
    if "partial-order" in which:
        found = _ordered(found, list(conditions.values()))
    return found


def _without_dead_values(
    system: TransitionSystem, asked: Collection[Property], which: Collection[Reduction]
) -> Reduced:
    """Symmetry needs this for the values that tell which instance is meant: a dead one means none."""
    if "dead" not in which and "symmetry" not in which:
        return Reduced(DeadValues(system, system, ()), system, layout(system))
    exprs = [expr for prop in asked for expr in (prop.holds, prop.target) if expr is not None]
    exchanges = [exchange for family in system.families for exchange in family.exchanges]
    neutral = {name for exchange in exchanges for name in exchange.values if "symmetry" in which}
    dead = without_dead_values(system, exprs, only=None if "dead" in which else neutral, neutral=neutral)
    notes = (f"dead values of {_number(len(dead.resting), 'variable')}",) if "dead" in which else ()
    return Reduced(dead, dead.system, layout(dead.system), notes=notes)


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def _symmetric(found: Reduced, conditions: Mapping[str, Expr]) -> Reduced:
    """With the families whose instances nothing tells apart; ``InputError`` if there is none."""
    system, invariant = found.system, found.dead.invariant
    checks = [automorphisms(system, conditions, family, invariant) for family in system.families]
    broken = [str(check) for check in checks if isinstance(check, Broken)]
    families = [
        family for family, check in zip(system.families, checks, strict=True) if not isinstance(check, Broken)
    ]
    if not families:
        raise InputError(
            "Symmetry",
            "of instances that nothing tells apart",
            "of " + ("; of ".join(broken) or "a model that has no instances"),
            system.name,
        )
    count = permutations(families, found.layout)
    if count > MAX_PERMUTATIONS:
        raise InputError("Symmetry", f"of at most {MAX_PERMUTATIONS} permutations", str(count), system.name)
    form = canonical(families, found.layout)
    told = ", ".join(f"{len(family.exchanges) + 1} {family.name}" for family in families)
    return replace(
        found,
        symmetry=form,
        representative=compile_canonical(form),
        automorphisms=tuple(each for check in checks if not isinstance(check, Broken) for each in check),
        notes=(*found.notes, "symmetry of " + told + "".join(f", not of {each}" for each in broken)),
    )


def _ordered(found: Reduced, conditions: Sequence[Expr]) -> Reduced:
    """With private labels first. Where instances are exchanged, their labels must be private alike: the
    two reductions go together then (Emerson, Jha and Peled, 1997)."""
    order = partial_order(found.system, conditions)
    for each in found.automorphisms:
        for pair in each.exchange.variables:
            if order.private.get(pair[0]) != order.private.get(pair[1]):
                labels = f"different ones of {pair[0]} and {pair[1]}"
                raise InputError("Private labels", "the same of instances", labels, found.system.name)
    count = sum(len(labels) for labels in order.private.values())
    note = f"partial order with {_number(count, 'private label')}"
    return replace(found, system=order.system, notes=(*found.notes, note), shortest=False)
