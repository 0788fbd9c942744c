"""Whether a condition can hold, decided by trying values: no solver needed where variables have few."""

from __future__ import annotations

import random
from functools import lru_cache
from itertools import chain
from typing import Final, TypeAlias

from avicheck.encodings.expr import Expr, Op, evaluate, variables

_WIDEST: Final = 64
"""Values of a variable that are tried."""
_TRIES: Final = 200
"""Values that are tried for the variables of a part, in all."""


class _TooManyError(Exception):
    """There is more to try than it is worth."""


def guessed(condition: Expr) -> bool:
    """Whether one of a few fixed assignments makes a condition true: the cheapest way to see that one can."""
    draw = random.Random(0)
    names = [(str(var.value), var.lo, var.hi) for var in variables(condition)]
    guesses: list[dict[str, int]] = [{name: lo for name, lo, _ in names}, {name: hi for name, _, hi in names}]
    guesses += [{name: draw.randint(lo, hi) for name, lo, hi in names} for _ in range(4)]
    return any(evaluate([condition], guess) == [1] for guess in guesses)


def possible(condition: Expr) -> bool | None:
    """Whether a condition holds for some values of its variables; None where a solver is better at that."""
    try:
        return all(_Part(part).possible() for part in _parts(condition))
    except _TooManyError:
        return None


_Conjuncts: TypeAlias = "dict[Expr, list[Expr]]"
"""Conditions, each with its variables."""


def _parts(condition: Expr) -> list[_Conjuncts]:
    """The conjuncts of a condition, those together that share variables."""
    parts: list[tuple[set[Expr], _Conjuncts]] = []
    for conjunct in condition.args if condition.op is Op.AND else (condition,):
        its = variables(conjunct)
        shared, joined = set(its), {conjunct: its}
        for part in [part for part in parts if part[0] & shared]:
            parts.remove(part)
            shared |= part[0]
            joined |= part[1]
        parts.append((shared, joined))
    return [conjuncts for _, conjuncts in parts]


class _Part:
    """Conditions that must hold together. Those of one variable say which values it can have; each other is
    asked as soon as all its variables have values."""

    def __init__(self, conjuncts: _Conjuncts) -> None:
        self._values: dict[Expr, set[int]] = {}
        for variable in chain.from_iterable(conjuncts.values()):
            if variable.hi - variable.lo >= _WIDEST:
                raise _TooManyError
            self._values[variable] = set(range(variable.lo, variable.hi + 1))
        for conjunct, its in conjuncts.items():
            if len(its) == 1:
                self._values[its[0]] &= _values_in(conjunct)
        self._order = sorted(self._values, key=lambda variable: len(self._values[variable]))
        depths = {variable: depth for depth, variable in enumerate(self._order, 1)}
        self._asked: list[list[Expr]] = [[] for _ in range(len(self._order) + 1)]
        for conjunct, its in conjuncts.items():
            if len(its) != 1:
                self._asked[max((depths[variable] for variable in its), default=0)].append(conjunct)
        self._tries = 0

    def possible(self) -> bool:
        """Whether there are such values."""
        return self._from(0, {})

    def _from(self, depth: int, chosen: dict[str, int]) -> bool:
        if not all(evaluate(self._asked[depth], chosen)):
            return False
        if depth == len(self._order):
            return True
        variable = self._order[depth]
        for value in sorted(self._values[variable]):
            self._tries += 1
            if self._tries > _TRIES:
                raise _TooManyError
            if self._from(depth + 1, {**chosen, str(variable.value): value}):
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
