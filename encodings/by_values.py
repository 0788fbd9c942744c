"""Whether a condition can hold, decided by trying values: no solver needed where variables have few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from avicheck.encodings.expr import Expr, Op, evaluate, variables

_WIDEST: Final = 64
"""Values of a variable that are tried."""
_TRIES: Final = 200
"""Values that are tried for the variables of a part, in all."""


class _TooManyError(Exception):
    """There is more to try than it is worth."""


def possible(condition: Expr) -> bool | None:
    """Whether a condition holds for some values of its variables; None where a solver is better at that."""
    try:
        return all(_Part(part).possible() for part in _parts(condition))
    except _TooManyError:
        return None


def _parts(condition: Expr) -> Iterator[list[Expr]]:
    """The conjuncts of a condition, those together that share variables."""
    parts: list[tuple[set[Expr], list[Expr]]] = []
    for conjunct in condition.args if condition.op is Op.AND else (condition,):
        names, joined = set(variables(conjunct)), [conjunct]
        for part in [part for part in parts if part[0] & names]:
            parts.remove(part)
            names |= part[0]
            joined += part[1]
        parts.append((names, joined))
    return (conjuncts for _, conjuncts in parts)


class _Part:
    """Conditions that must hold together. Each is asked as soon as all its variables have values."""

    def __init__(self, conjuncts: Sequence[Expr]) -> None:
        alone = [conjunct for conjunct in conjuncts if len(variables(conjunct)) == 1]
        self._values: dict[str, set[int]] = {}
        for variable in variables(*conjuncts):
            if variable.hi - variable.lo >= _WIDEST:
                raise _TooManyError
            self._values[str(variable.value)] = set(range(variable.lo, variable.hi + 1))
        for conjunct in alone:
            self._values[str(variables(conjunct)[0].value)] &= _values_in(conjunct)
        self._order = sorted(self._values, key=lambda name: len(self._values[name]))
        self._asked: list[list[Expr]] = [[] for _ in range(len(self._order) + 1)]
        for conjunct in conjuncts:
            if conjunct not in alone:
                names = {str(variable.value) for variable in variables(conjunct)}
                self._asked[1 + max((self._order.index(name) for name in names), default=-1)].append(conjunct)
        self._tries = 0

    def possible(self) -> bool:
        """Whether there are such values."""
        return self._from(0, {})

    def _from(self, depth: int, chosen: dict[str, int]) -> bool:
        if not all(evaluate(self._asked[depth], chosen)):
            return False
        if depth == len(self._order):
            return True
        name = self._order[depth]
        for value in sorted(self._values[name]):
            self._tries += 1
            if self._tries > _TRIES:
                raise _TooManyError
            if self._from(depth + 1, {**chosen, name: value}):
                return True
        return False


@lru_cache(maxsize=10_000)
def _values_in(conjunct: Expr) -> frozenset[int]:
    """The values of its only variable in which a condition holds."""
    (variable,) = variables(conjunct)
    name = str(variable.value)
    return frozenset(
        value for value in range(variable.lo, variable.hi + 1) if evaluate([conjunct], {name: value})[0]
    )
