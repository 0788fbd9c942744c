"""What a lifted model rests on, as queries of its own."""

from __future__ import annotations

from avicheck.checker.solve import Query, ask
from avicheck.encodings.lift import Lifter


def lifting_obligations(lifter: Lifter, prefix: str) -> list[Query]:
    """That no path was left out which could have been taken: on each one a rule raises, and while
    lifting a solver found its condition unsatisfiable."""
    return [
        ask(f"{prefix}/no-raise/{i}", "No rule of the specification raises here.", [condition])
        for i, condition in enumerate(lifter.pruned)
    ]
