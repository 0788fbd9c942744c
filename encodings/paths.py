"""What is known on a path: the literals decided so far and the bounds they imply."""

from __future__ import annotations

from typing import Final, TypeAlias

from avicheck.encodings.expr import Expr, Op, not_

_Domain: TypeAlias = tuple[int, int, frozenset[int]]
"""Bounds, and single values between them that are excluded."""

_DEPTH: Final = 3
"""How deep a question is followed into if-then-else terms."""


class Path:
    """A set of decided conditions. Extending it with the same decision gives the same object."""

    __slots__ = ("_answers", "_children", "_domains", "_literals")

    def __init__(self, literals: dict[Expr, bool], domains: dict[Expr, _Domain]) -> None:
        self._literals = literals
        self._domains = domains
        self._children: dict[tuple[Expr, bool], Path] = {}
        self._answers: dict[Expr, bool | None] = {}

    def assume(self, condition: Expr, taken: bool) -> Path:
        """The path on which the condition also has this truth value."""
        child = self._children.get((condition, taken))
        if child is None:
            child = Path(dict(self._literals), dict(self._domains))
            child._learn(condition, taken)
            self._children[condition, taken] = child
        return child

    def literals(self) -> list[Expr]:
        """What is decided here, as conditions that hold."""
        return [literal if taken else not_(literal) for literal, taken in self._literals.items()]

    def implies(self, condition: Expr) -> bool | None:
        """The truth value a condition must have here, None if it is open (or too deep to tell)."""
        if condition not in self._answers:
            self._answers[condition] = self._implies(condition, _DEPTH)
        return self._answers[condition]

    def _implies(self, condition: Expr, depth: int) -> bool | None:
        if condition.op is Op.CONST:
            return bool(condition.lo)
        known = self._literals.get(condition)
        if known is not None or depth == 0:
            return known
        if condition.op is Op.NOT:
            inner = self._implies(condition.args[0], depth)
            return None if inner is None else not inner
        if condition.op is Op.AND:
            answers = [self._implies(arg, depth - 1) for arg in condition.args]
            if False in answers:
                return False
            return None if None in answers else True
        if condition.op is Op.ITE:
            return self._implies_ite(condition, depth)
        if condition.op is Op.EQ:
            return self._implies_eq(condition.args[0], condition.args[1], depth)
        if condition.op is Op.LE:
            (a_lo, a_hi), (b_lo, b_hi) = (self.bounds(arg, depth) for arg in condition.args)
            return True if a_hi <= b_lo else False if a_lo > b_hi else None
        return None

    def _implies_ite(self, condition: Expr, depth: int) -> bool | None:
        test, yes, no = condition.args
        chosen = self._implies(test, depth - 1)
        if chosen is not None:
            return self._implies(yes if chosen else no, depth - 1)
        answer = self._implies(yes, depth - 1)
        return answer if answer is not None and answer == self._implies(no, depth - 1) else None

    def _implies_eq(self, a: Expr, b: Expr, depth: int) -> bool | None:
        (a_lo, a_hi), (b_lo, b_hi) = self.bounds(a, depth), self.bounds(b, depth)
        if a_hi < b_lo or b_hi < a_lo:
            return False
        if a_lo == a_hi == b_lo == b_hi:
            return True
        if b_lo == b_hi and a in self._domains and b_lo in self._domains[a][2]:
            return False
        return None

    def bounds(self, expr: Expr, depth: int = _DEPTH) -> tuple[int, int]:
        """The tightest known bounds of an integer here."""
        lo, hi = expr.lo, expr.hi
        known = self._domains.get(expr)
        if known is not None:
            lo, hi = known[0], known[1]
        if expr.op is Op.ITE and depth > 0:
            chosen = self._implies(expr.args[0], depth - 1)
            if chosen is None:
                (a_lo, a_hi), (b_lo, b_hi) = (self.bounds(arg, depth - 1) for arg in expr.args[1:])
                return max(lo, min(a_lo, b_lo)), min(hi, max(a_hi, b_hi))
            return self.bounds(expr.args[1 if chosen else 2], depth - 1)
        return lo, hi

    def _learn(self, condition: Expr, taken: bool) -> None:
        if condition.op is Op.NOT:
            self._learn(condition.args[0], not taken)
            return
        self._literals[condition] = taken
        if condition.op is Op.AND:
            self._learn_and(condition, taken)
        elif condition.op is Op.EQ and condition.args[1].op is Op.CONST:
            self._learn_eq(condition.args[0], condition.args[1].lo, taken)
        elif condition.op is Op.LE:
            a, b = condition.args if taken else reversed(condition.args)
            gap = 0 if taken else 1
            self._restrict(a, expr_hi=self.bounds(b)[1] - gap)
            self._restrict(b, expr_lo=self.bounds(a)[0] + gap)

    def _learn_and(self, condition: Expr, taken: bool) -> None:
        if taken:
            for arg in condition.args:
                self._learn(arg, True)
            return
        undecided = [arg for arg in condition.args if self._implies(arg, _DEPTH) is not True]
        if len(undecided) == 1:
            self._learn(undecided[0], False)

    def _learn_eq(self, expr: Expr, value: int, taken: bool) -> None:
        if taken:
            self._domains[expr] = (value, value, frozenset())
            return
        lo, hi, excluded = self._domains.get(expr, (expr.lo, expr.hi, frozenset()))
        excluded |= {value}
        while lo in excluded and lo < hi:
            lo += 1
        while hi in excluded and lo < hi:
            hi -= 1
        self._domains[expr] = (lo, hi, excluded)

    def _restrict(self, expr: Expr, *, expr_lo: int | None = None, expr_hi: int | None = None) -> None:
        if expr.op is Op.CONST:
            return
        lo, hi, excluded = self._domains.get(expr, (expr.lo, expr.hi, frozenset()))
        lo = lo if expr_lo is None else max(lo, expr_lo)
        hi = hi if expr_hi is None else min(hi, expr_hi)
        self._domains[expr] = (lo, hi, excluded)


ROOT: Final = Path({}, {})
"""Nothing decided."""
