"""Expressions as SMT-LIB 2 text (logic QF_BV): what is archived, and what every solver is given."""

from __future__ import annotations

from collections.abc import Sequence

from avicheck.encodings.bitvectors import Translator
from avicheck.encodings.expr import Expr, variables


class SmtLibBuilder:
    """A ``Builder`` whose terms are names: every application becomes a definition of its own."""

    def __init__(self) -> None:
        self.declarations: list[str] = []
        self.definitions: list[str] = []

    def bool_const(self, value: bool) -> str:
        return "true" if value else "false"

    def bool_var(self, name: str) -> str:
        return self._declare(name, "Bool")

    def bv_const(self, value: int, width: int) -> str:
        return f"#b{value % (1 << width):0{width}b}"

    def bv_var(self, name: str, width: int) -> str:
        return self._declare(name, _sort(width))

    def apply(self, operator: str, args: Sequence[str], width: int) -> str:
        return self._define(f"({operator} {' '.join(args)})", width)

    def extract(self, high: int, low: int, term: str) -> str:
        return self._define(f"((_ extract {high} {low}) {term})", high - low + 1)

    def extend(self, bits: int, signed: bool, term: str, width: int) -> str:
        kind = "sign_extend" if signed else "zero_extend"
        return self._define(f"((_ {kind} {bits}) {term})", width)

    def _declare(self, name: str, sort: str) -> str:
        symbol = quoted(name)
        self.declarations.append(f"(declare-const {symbol} {sort})")
        return symbol

    def _define(self, body: str, width: int) -> str:
        symbol = f"${len(self.definitions)}"
        self.definitions.append(f"(define-fun {symbol} () {_sort(width)} {body})")
        return symbol


def _sort(width: int) -> str:
    return f"(_ BitVec {width})" if width else "Bool"


def quoted(name: str) -> str:
    """A variable's name as an SMT-LIB symbol. ValueError if it cannot be one; ``$`` begins the
    names of definitions."""
    if name.startswith("$") or not name.isprintable() or "|" in name or "\\" in name:
        raise ValueError(f"Variable's name must be printable, without |, \\ and a $ in front, not {name!r}")
    return f"|{name}|"


def script(asserted: Sequence[Expr], remarks: Sequence[str] = (), status: str = "unknown") -> str:
    """A complete script that asks whether all of ``asserted`` can hold, with every variable
    within its bounds. ``remarks`` become comments at its top; ``status`` is sat, unsat or unknown."""
    builder = SmtLibBuilder()
    translator = Translator(builder)
    terms = [*translator.domains(variables(*asserted)), *translator.terms(asserted)]
    return written(builder, terms, remarks, status)


def written(
    builder: SmtLibBuilder, asserted: Sequence[str], remarks: Sequence[str] = (), status: str = "unknown"
) -> str:
    """A complete script that asserts terms of ``builder``, like ``script``."""
    return "\n".join(
        [
            *(f"; {line}" for remark in remarks for line in remark.splitlines()),
            "(set-logic QF_BV)",
            f"(set-info :status {status})",
            *builder.declarations,
            *builder.definitions,
            *(f"(assert {term})" for term in asserted),
            "(check-sat)",
            "",
        ]
    )
