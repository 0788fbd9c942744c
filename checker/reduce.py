"""Reductions of the explicit engine: fewer states to go through, with the same verdicts.

Each is computed from the system at hand and is sound for what is asked, or refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from avicheck.checker.errors import InputError, not_one_of
from avicheck.checker.searched import REDUCTIONS, Reduction, Searched, unreduced
from avicheck.encodings.canonical import MAX_PERMUTATIONS, canonical, permutations
from avicheck.encodings.dead_values import without_dead_values
from avicheck.encodings.expr import TRUE, Expr
from avicheck.encodings.packing import layout
from avicheck.encodings.partial_order import partial_order
from avicheck.encodings.symmetry import Broken, automorphisms
from avicheck.encodings.to_python import compile_canonical
from avicheck.encodings.transition import Property, TransitionSystem


def reduced(system: TransitionSystem, asked: Collection[Property], which: Collection[Reduction]) -> Searched:
    """A system reduced for some of its properties (that it has no deadlock can always be asked).
    ``InputError`` if a reduction is unknown, not sound for a property, or finds no symmetry."""
    for name in which:
        if name not in REDUCTIONS:
            raise not_one_of("--reduce", REDUCTIONS, name)
    live = next((prop.name for prop in asked if prop.kind == "leads-to"), None)
    if live is not None and set(which) - {"dead"}:
        raise InputError("--reduce", "dead alone, for leads-to", ", ".join(which), live)
    found, invariant, whole = unreduced(system), TRUE, True
    if "dead" in which or "symmetry" in which:
        found, invariant, whole = _without_dead_values(system, asked, which)
    names = {prop.name for prop in asked}
    conditions = {f"property {p.name}": p.holds for p in found.system.properties if p.name in names}
    if "symmetry" in which:
        found = _symmetric(found, conditions, invariant, whole and "partial-order" not in which)
    if "partial-order" in which:
        found = _ordered(found, list(conditions.values()))
    return found


def _without_dead_values(
    system: TransitionSystem, asked: Collection[Property], which: Collection[Reduction]
) -> tuple[Searched, Expr, bool]:
    """The system reduced, what is so in each of its states, and whether nothing had to be reduced. Symmetry
    needs this for the values that tell which instance is meant: a dead one means none."""
    exprs = [expr for prop in asked for expr in (prop.holds, prop.target) if expr is not None]
    exchanges = [exchange for family in system.families for exchange in family.exchanges]
    neutral = {name for exchange in exchanges for name in exchange.values if "symmetry" in which}
    dead = without_dead_values(system, exprs, only=None if "dead" in which else neutral, neutral=neutral)
    notes = (f"dead values of {_number(len(dead.resting), 'variable')}",) if "dead" in which else ()
    found = Searched(system, dead.system, layout(dead.system), dead.system, dead.run_of, notes=notes)
    return found, dead.invariant, not dead.resting


def _number(count: int, thing: str) -> str:
    return f"{count} {thing}{'s' * (count != 1)}"


def _symmetric(found: Searched, conditions: Mapping[str, Expr], invariant: Expr, whole: bool) -> Searched:
    """With the families whose instances nothing tells apart; ``InputError`` if there is none. ``whole``:
    nothing else is reduced."""
    system = found.system
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
        orbits=tuple(families) if whole else (),
        representative=compile_canonical(form),
        automorphisms=tuple(each for check in checks if not isinstance(check, Broken) for each in check),
        notes=(*found.notes, "symmetry of " + told + "".join(f", not of {each}" for each in broken)),
    )


def _ordered(found: Searched, conditions: Sequence[Expr]) -> Searched:
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
