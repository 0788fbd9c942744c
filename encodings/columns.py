"""Terms computed for many assignments at once: a ``Builder`` that writes a program on columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Column: TypeAlias = npt.NDArray[Any]
"""One value for each assignment: bool, or uint64 with the bits of a two's-complement number."""

MAX_WIDTH: Final = 64

_Instruction: TypeAlias = tuple[Callable[..., Column], tuple[int, ...]]


def _all(*args: Column) -> Column:
    return reduce(np.bitwise_and, args)


def _any(*args: Column) -> Column:
    return reduce(np.bitwise_or, args)


def _distinct(*args: Column) -> Column:
    return _all(*(a != b for i, a in enumerate(args) for b in args[:i]))


_EXACT: Final[Mapping[str, Callable[..., Column]]] = {
    "not": np.logical_not,
    "and": _all,
    "or": _any,
    "=>": lambda a, b: ~a | b,
    "ite": np.where,
    "=": np.equal,
    "distinct": _distinct,
    "bvule": np.less_equal,
    "bvult": np.less,
    "bvuge": np.greater_equal,
    "bvugt": np.greater,
    "bvand": np.bitwise_and,
    "bvor": np.bitwise_or,
    "bvxor": np.bitwise_xor,
}
_WRAPPING: Final[Mapping[str, Callable[..., Column]]] = {
    "bvadd": np.add,
    "bvsub": np.subtract,
    "bvmul": np.multiply,
    "bvneg": lambda a: np.subtract(np.uint64(0), a),
}
_SIGNED: Final[Mapping[str, Callable[..., Column]]] = {
    "bvsle": np.less_equal,
    "bvslt": np.less,
    "bvsge": np.greater_equal,
    "bvsgt": np.greater,
}


def _mask(width: int) -> np.uint64:
    return np.uint64((1 << width) - 1)


class ColumnProgram:
    """A ``Builder`` whose terms are registers; ``run`` computes them. No term may be wider than 64 bits."""

    def __init__(self) -> None:
        self._instructions: list[_Instruction] = []
        self._widths: list[int] = []
        self._inputs: dict[int, str] = {}
        self._constants: dict[int, Column] = {}

    def bool_const(self, value: bool) -> int:
        return self._constant(np.asarray(value), 0)

    def bool_var(self, name: str) -> int:
        return self._input(name, 0)

    def bv_const(self, value: int, width: int) -> int:
        return self._constant(np.asarray(value % (1 << width), dtype=np.uint64), width)

    def bv_var(self, name: str, width: int) -> int:
        return self._input(name, width)

    def apply(self, operator: str, args: Sequence[int], width: int) -> int:
        return self._add(self._operation(operator, args, width), args, width)

    def extract(self, high: int, low: int, term: int) -> int:
        width, shift = high - low + 1, np.uint64(low)
        return self._add(lambda a: (a >> shift) & _mask(width), (term,), width)

    def extend(self, bits: int, signed: bool, term: int, width: int) -> int:
        if not signed:
            return self._add(lambda a: a, (term,), width)
        have = self._widths[term]
        return self._add(lambda a: as_signed(a, have).view(np.uint64) & _mask(width), (term,), width)

    def run(self, inputs: Mapping[str, Column], results: Sequence[int]) -> list[Column]:
        """The columns of some terms, given those of the variables: bool, or int64 or uint64."""
        registers: dict[int, Column] = dict(self._constants)
        for register, name in self._inputs.items():
            width = self._widths[register]
            column = inputs[name]
            registers[register] = column.astype(np.uint64) & _mask(width) if width else column.astype(bool)
        last_use = self._last_uses(results)
        for register, (operation, args) in enumerate(self._instructions):
            if register in registers or register not in last_use:
                continue
            registers[register] = operation(*(registers[arg] for arg in args))
            for arg in set(args):
                if last_use[arg] == register:
                    del registers[arg]
        return [registers[result] for result in results]

    def _last_uses(self, results: Sequence[int]) -> dict[int, int]:
        """For each register that is needed, the last one that is made from it."""
        last = dict.fromkeys(results, len(self._instructions))
        for register in reversed(range(len(self._instructions))):
            if register in last:
                for arg in self._instructions[register][1]:
                    last.setdefault(arg, register)
        return last

    def _operation(self, operator: str, args: Sequence[int], width: int) -> Callable[..., Column]:
        widths = [self._widths[arg] for arg in args]
        if operator in _EXACT:
            return _EXACT[operator]
        if operator in _WRAPPING:
            wrapping = _WRAPPING[operator]
            return lambda *columns: wrapping(*columns) & _mask(width)
        if operator in _SIGNED:
            compare = _SIGNED[operator]
            return lambda a, b: compare(as_signed(a, widths[0]), as_signed(b, widths[1]))
        if operator == "concat":
            return lambda *columns: _joined(columns, widths)
        if operator in ("bvudiv", "bvurem"):
            return lambda a, b: _divided(a, b, operator == "bvurem", width)
        if operator in ("bvshl", "bvlshr", "bvashr"):
            return lambda a, by: _shifted(operator, a, by, width)
        raise TypeError(f"Operator must be one that columns know, not {operator}")

    def _constant(self, value: Column, width: int) -> int:
        register = self._add(_no_operation, (), width)
        self._constants[register] = value
        return register

    def _input(self, name: str, width: int) -> int:
        register = self._add(_no_operation, (), width)
        self._inputs[register] = name
        return register

    def _add(self, operation: Callable[..., Column], args: Sequence[int], width: int) -> int:
        if width > MAX_WIDTH:
            raise ValueError(f"Term must have at most {MAX_WIDTH} bits, not {width}")
        self._instructions.append((operation, tuple(args)))
        self._widths.append(width)
        return len(self._widths) - 1


def _no_operation() -> Column:
    raise AssertionError("an input or a constant is not computed")


def as_signed(column: Column, width: int) -> Column:
    """The bits of two's-complement numbers as int64."""
    unused = np.int64(MAX_WIDTH - width)
    return np.asarray(column).view(np.int64) << unused >> unused


def _joined(columns: Sequence[Column], widths: Sequence[int]) -> Column:
    result = np.asarray(columns[0])
    for column, width in zip(columns[1:], widths[1:], strict=True):
        result = (result << np.uint64(width)) | column
    return result


def _divided(a: Column, b: Column, remainder: bool, width: int) -> Column:
    """As in SMT-LIB: nothing is left out of a division by zero."""
    divisor = np.where(b == 0, np.uint64(1), b)
    if remainder:
        return np.where(b == 0, a, a % divisor)
    return np.where(b == 0, _mask(width), a // divisor)


def _shifted(operator: str, a: Column, by: Column, width: int) -> Column:
    """As in SMT-LIB: by the width or more, every bit is lost."""
    count = np.minimum(by, np.uint64(MAX_WIDTH - 1))
    if operator == "bvashr":
        return (as_signed(a, width) >> count.astype(np.int64)).view(np.uint64) & _mask(width)
    shifted = a << count & _mask(width) if operator == "bvshl" else a >> count
    return np.where(by >= np.uint64(width), np.uint64(0), shifted)
