"""States as single integers: each variable in a field as wide as its bounds need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from avicheck.encodings.transition import TransitionSystem, Values, Variable

WORD: Final = 64
"""Bits in a word of the compiled form."""


class PackingError(ValueError):
    """A state cannot be packed; the message says which variable is wrong."""


@dataclass(frozen=True)
class Field:
    """Where a variable lies: ``width`` bits from bit ``offset`` on, holding its value minus ``lo``."""

    variable: Variable
    offset: int
    width: int

    @property
    def mask(self) -> int:
        """The field's bits, at the field's place."""
        return ((1 << self.width) - 1) << self.offset


@dataclass(frozen=True)
class Layout:
    """The fields of a system's states, ``bits`` in all. No field of at most 64 bits crosses a
    multiple of 64; a wider one starts at one."""

    fields: tuple[Field, ...]
    bits: int

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        """The fields by the names of their variables."""
        return {field.variable.name: field for field in self.fields}

    @property
    def words(self) -> int:
        """How many words of 64 bits a state takes."""
        return max(1, -(-self.bits // WORD))

    def pack(self, state: Values) -> int:
        """A state as an integer. ``PackingError`` if it is not one of the system's."""
        packed = 0
        for field in self.fields:
            variable = field.variable
            value = state.get(variable.name)
            if value is None or not variable.lo <= value <= variable.hi:
                raise PackingError(
                    f"{variable.name} must be from {variable.lo} to {variable.hi}, "
                    f"not {'missing' if value is None else value}"
                )
            packed |= (value - variable.lo) << field.offset
        unknown = next((name for name in state if name not in self.by_name), None)
        if unknown is not None:
            raise PackingError(f"A state must give values to the system's variables, not to {unknown}")
        return packed

    def unpack(self, packed: int) -> dict[str, int]:
        """The state that an integer stands for."""
        return {
            field.variable.name: (packed >> field.offset & (1 << field.width) - 1) + field.variable.lo
            for field in self.fields
        }

    def fits(self, packed: int) -> bool:
        """Whether an integer stands for a state of the system."""
        return 0 <= packed < 1 << self.bits and all(
            packed >> offset & mask <= most for offset, mask, most in self._limits
        )

    @cached_property
    def _limits(self) -> list[tuple[int, int, int]]:
        """Offset, mask and greatest value of the fields that have room for more."""
        spans = [
            (field.offset, (1 << field.width) - 1, field.variable.hi - field.variable.lo)
            for field in self.fields
        ]
        return [(offset, mask, most) for offset, mask, most in spans if most < mask]


def layout(system: TransitionSystem) -> Layout:
    """Fields for a system's variables: each in the first word that has room for it."""
    used: list[int] = []
    fields = []
    for variable in system.variables:
        width = (variable.hi - variable.lo).bit_length()
        word = next((i for i, bits in enumerate(used) if bits + width <= WORD), len(used))
        if word == len(used):
            whole = max(0, width - 1) // WORD
            used += [WORD] * whole + [0]
            fields.append(Field(variable, word * WORD, width))
            used[-1] = width - whole * WORD
        else:
            fields.append(Field(variable, word * WORD + used[word], width))
            used[word] += width
    bits = max((field.offset + field.width for field in fields), default=0)
    return Layout(tuple(fields), bits)
