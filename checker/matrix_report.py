"""A matrix as Markdown, for a page to cite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from avicheck.checker.matrix_runs import HOLDS, Deviations, Matrix
from avicheck.checker.verdict import Verdict
from avicheck.spec.description import option_name

if TYPE_CHECKING:
    from avicheck.spec.description import Assumption


def assumptions(varied: Iterable[Assumption]) -> str:
    """A table of assumptions: the question, the default, the alternatives."""
    rows = []
    for each in varied:
        default, *others = (f"`{option_name(one)}`: {one.value}" for one in each.alternatives)
        rows.append(f"| `{each.name}` | {each.question} | {default} | {'; '.join(others)} |")
    return "\n".join(["| assumption | what is open | default | instead |", "|---|---|---|---|", *rows])


def properties(found: Matrix) -> str:
    """A table of properties: what each relies on, and what it bears."""
    head = ["| property | holds | violated as soon as (steps) | holds even with |", "|---|---|---|---|"]
    return "\n".join([*head, *(_row(found, name) for name in found.properties)])


def bounds(found: Matrix) -> str:
    """For which sizes and combinations a table stands, in a sentence."""
    largest, total = max(map(len, found.combinations)), len(found.varied)
    which = "in any" if largest == total else f"in at most {largest}"
    return (
        f"{found.instance.bounds}; all {len(found.combinations):,} combinations that differ from the "
        f"defaults {which} of {total} assumptions, decided by {found.explored:,} explorations."
    )


def markdown(found: Matrix) -> str:
    """A matrix by itself."""
    parts = [f"# {found.instance.name} as {found.instance.kernel}", bounds(found)]
    return "\n\n".join([*parts, assumptions(found.varied), properties(found)]) + "\n"


def _row(found: Matrix, name: str) -> str:
    holds, fails = found.under(name, HOLDS), found.under(name, (Verdict.VIOLATED,))
    counts = f"{len(holds):,} of {len(found.combinations):,}"
    if len(holds) + len(fails) < len(found.combinations):
        counts += f", open under {len(found.combinations) - len(holds) - len(fails):,}"
    relies = "; ".join(_violation(found, name, each) for each in found.minimal(name)) or "-"
    return f"| {name} | {counts} | {relies} | {_bears(found, name)} |"


def _violation(found: Matrix, name: str, deviations: Deviations) -> str:
    cell = found.cells[name][deviations]
    return _shown(deviations) + ("" if cell.run is None else f" ({cell.depth})")


def _bears(found: Matrix, name: str) -> str:
    """The largest combinations with which a property holds; where only few deviations are gone through, which
    hold besides those that contain none of the violating sets."""
    holds, violating = found.under(name, HOLDS), found.minimal(name)
    if len(holds) == len(found.combinations) or not holds:
        return "all" if holds else "-"
    if max(map(len, found.combinations)) == len(found.varied):
        return "; ".join(map(_shown, found.maximal(name)))
    others = [each for each in holds if any(bad < each for bad in violating)]
    return "all others" + "".join(f"; {_shown(each)}" for each in others)


def _shown(deviations: Deviations) -> str:
    return " + ".join(f"`{name}={one}`" for name, one in sorted(deviations)) or "all defaults"
