"""BTOR2 texts, run by a small evaluator, do what the reference semantics does."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

import pytest

from avicheck.encodings import to_btor2
from avicheck.encodings.bitvectors import width_of
from avicheck.encodings.expr import evaluate
from avicheck.encodings.transition import TransitionSystem
from avicheck.encodings.writing import invariants, legal_names, stuck
from tests.known.small import SYSTEMS, State, after, key, sample


def btor2_lines(system: TransitionSystem) -> list[list[str]]:
    lines = (line.partition(";")[0].split() for line in to_btor2.text(system).splitlines())
    return [line for line in lines if line]


def signed(value: int, width: int) -> int:
    return value - (1 << width) if value >> (width - 1) else value


class Btor2:
    """One moment of a BTOR2 model: the value of every line under those of states and inputs."""

    def __init__(self, lines: list[list[str]], values: Mapping[str, int]) -> None:
        self.value: dict[str, int] = {}
        self.next: dict[str, int] = {}
        self.starts: list[bool] = []
        """Whether each state that has an initial value has it now."""
        self.bad: list[bool] = []
        self.constraints: list[bool] = []
        self._width: dict[str, int] = {}
        symbols: dict[str, str] = {}
        sorts: dict[str, int] = {}
        for number, kind, *rest in lines:
            args = [self.value.get(arg, -1) for arg in rest[1:]]
            if kind == "sort":
                sorts[number] = int(rest[1])
            elif kind in ("state", "input"):
                symbols[number] = rest[1]
                self._set(number, sorts[rest[0]], values[rest[1]])
            elif kind == "const":
                self._set(number, sorts[rest[0]], int(rest[1], 2))
            elif kind == "init":
                self.starts.append(args[0] == args[1])
            elif kind == "next":
                assert sorts[rest[0]] == self._width[rest[1]] == self._width[rest[2]]
                self.next[symbols[rest[1]]] = args[1]
            elif kind == "bad":
                self.bad.append(bool(self.value[rest[0]]))
            elif kind == "constraint":
                self.constraints.append(bool(self.value[rest[0]]))
            else:
                self._set(number, sorts[rest[0]], self._apply(kind, rest[1:], args))

    def _set(self, number: str, width: int, value: int) -> None:
        self._width[number] = width
        self.value[number] = value % (1 << width)

    def _apply(self, kind: str, names: list[str], args: list[int]) -> int:
        width = self._width[names[0]]
        if kind == "slice":
            return args[0] >> int(names[2])
        if kind in ("uext", "sext"):
            return signed(args[0], width) if kind == "sext" else args[0]
        if kind == "ite":
            return args[1] if args[0] else args[2]
        assert len({self._width[name] for name in names}) == 1
        a, b = args[0], args[-1]
        if kind in ("slte", "sra"):
            a, b = signed(a, width), b if kind == "sra" else signed(b, width)
        return int(OPERATORS[kind](a, b))


OPERATORS: dict[str, Callable[[int, int], int]] = {
    "not": lambda a, _: ~a,
    "eq": operator.eq,
    "ulte": operator.le,
    "slte": operator.le,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "udiv": operator.floordiv,
    "urem": operator.mod,
    "sll": lambda a, b: a << b if b < 64 else 0,
    "srl": operator.rshift,
    "sra": operator.rshift,
}


def btor2_state(system: TransitionSystem, state: State) -> dict[str, int]:
    names = legal_names((var.name for var in system.variables), "v_")
    return {names[name]: value for name, value in state.items()}


def cut(system: TransitionSystem, values: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """A state of the text as one of the system: numbers of the variables that can be negative have
    their sign in the highest bit."""
    names = legal_names((var.name for var in system.variables), "v_")
    state = {}
    for var in system.variables:
        width = width_of(var.lo, var.hi)
        value = values[names[var.name]]
        state[var.name] = signed(value, width) if var.lo < 0 else value
    return key(state)


@pytest.mark.parametrize("name", SYSTEMS)
def test_btor2_steps_where_the_system_does(name: str) -> None:
    """For every choice; one that is not enabled changes nothing."""
    system = SYSTEMS[name]()
    lines = btor2_lines(system)
    for state in sample(name):
        reached = set()
        for choice in range(len(system.transitions)):
            moment = Btor2(lines, {**btor2_state(system, state), "first": 0, "choice": choice})
            reached.add(cut(system, moment.next))
            enabled = evaluate([system.transitions[choice].guard], state)[0]
            assert enabled or cut(system, moment.next) == key(state)
        assert reached - {key(state)} == after(system, state) - {key(state)}


@pytest.mark.parametrize("name", SYSTEMS)
def test_btor2_starts_where_the_system_does(name: str) -> None:
    system = SYSTEMS[name]()
    lines = btor2_lines(system)
    for state in sample(name):
        moment = Btor2(lines, {**btor2_state(system, state), "first": 1, "choice": 0})
        assert all([*moment.starts, *moment.constraints]) == (state in system.initial)


@pytest.mark.parametrize("name", SYSTEMS)
def test_btor2_knows_bad_states(name: str) -> None:
    system = SYSTEMS[name]()
    lines = btor2_lines(system)
    asked = [*(holds for _, holds in invariants(system)), stuck(system)]
    for state in sample(name):
        moment = Btor2(lines, {**btor2_state(system, state), "first": 0, "choice": 0})
        *holds, deadlock = evaluate(asked, state)
        assert moment.bad == [*(not held for held in holds), bool(deadlock)]
