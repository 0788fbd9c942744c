"""A rule run on numbers, and lifted and then evaluated at those numbers, are the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Annotated, Any, Final, NamedTuple, ParamSpec, TypeVar

import pytest

from avicheck.encodings import expr as ex
from avicheck.encodings.lift import concrete, lift, lifting, merge, symbolic, to_expr
from avicheck.encodings.symbolic import leaves_of
from avicheck.encodings.to_z3 import check_sat
from avicheck.spec.apic import ApicMode
from avicheck.spec.kernels import KERNELS
from avicheck.spec.lang import (
    NULL,
    IndexOf,
    KvmBug,
    Range,
    Seq,
    SizedBy,
    Table,
    at_least,
    at_most,
    record,
    rule,
    update,
)

T = TypeVar("T")
P = ParamSpec("P")

SCOPE: Final = {"cells": 3}


class Mode(Enum):
    OFF = "off"
    SLOW = "slow"
    FAST = "fast"


class Colour(Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


@record
class Cell:
    """A record of small fields."""

    mode: Mode
    size: Annotated[int, Range(0, 2)]


@record
class Box:
    """A record of an array of records, and of an index into it that may be NULL."""

    cells: Annotated[tuple[Cell, ...], SizedBy("cells")]
    current: Annotated[int, IndexOf("cells", nullable=True)]


class Pair(NamedTuple):
    first: int
    second: bool


SMALL: Final = Range(-3, 4)
COUNT: Final = Range(0, 5)
INDEX: Final = IndexOf("cells")
POINTER: Final = IndexOf("cells", nullable=True)
PRIMES: Final = (2, 3, 5, 7, 11, 13)


RULES: Final[list[tuple[Callable[..., Any], tuple[Any, ...]]]] = []


def compared(*domains: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function a rule that is compared on all values of these domains."""

    def register(function: Callable[P, T]) -> Callable[P, T]:
        made = rule(function)
        RULES.append((made, domains))
        return made

    return register


# Rules, each around one construct.


@compared(SMALL, Mode)
def if_elif_else(a: int, m: Mode) -> int:
    if m == Mode.OFF:
        result = a
    elif a > 1:
        result = -a
    else:
        result = 7
    return result


@compared(SMALL, SMALL)
def early_return(a: int, b: int) -> int:
    if a < b:
        return a
    if a == b:
        return 100
    return b - a


@compared(SMALL, SMALL)
def loop_with_break_and_continue(a: int, b: int) -> int:
    total = 0
    for i in range(6):
        if i == a:
            continue
        if i > b:
            break
        total += i * i
    return total


@compared(Range(0, 14))
def loop_with_else(a: int) -> int:
    for prime in PRIMES:
        if prime == a:
            break
    else:
        return -1
    return prime * 2


@compared(SMALL, SMALL)
def while_bounded_by_data(a: int, b: int) -> int:
    steps = 0
    while a > 0:
        a -= 1 + (b & 1)
        steps += 1
    return steps


@compared(SMALL, SMALL, bool)
def connectives(a: int, b: int, f: bool) -> bool:
    return (a > 0 and not f) or (f and b == a) or not (a < b or f)


@compared(SMALL, SMALL)
def connective_as_value(a: int, b: int) -> int:
    return (a and b) + (a or 5)


@compared(SMALL, SMALL, bool)
def ternary(a: int, b: int, f: bool) -> int:
    return a if f else b if a > b else -1


@compared(SMALL, SMALL)
def chained_comparison(a: int, b: int) -> bool:
    return -1 <= a < b != 3


@compared(SMALL, SMALL)
def in_tuple(a: int, b: int) -> bool:
    return a in (0, 2, b) and a not in [4, -b] and b in range(2)


@compared(Mode, Mode)
def in_tuple_of_members(m: Mode, n: Mode) -> bool:
    return m in (Mode.OFF, n)


@compared(SMALL, SMALL)
def arithmetic(a: int, b: int) -> tuple[int, ...]:
    return a + b, a - b, a * b, -a, +a, ~a, 3 - a, 2 * b + 1, a - 3, (a + 5) % 4


@compared(SMALL, SMALL)
def bit_operations(a: int, b: int) -> tuple[int, ...]:
    return a & b, a | b, a ^ b, a & 5, 6 | b, 3 ^ a, a >> 1, b << 2


@compared(SMALL, COUNT)
def shifts_by_data(a: int, c: int) -> tuple[int, ...]:
    return a << c, a >> c, 1 << c, 100 >> c


@compared(SMALL)
def shift_under_a_guard(a: int) -> int:
    return 1 << a if a >= 0 else 100 >> -a


@compared(COUNT, COUNT)
def division_by_data(c: int, d: int) -> tuple[int, ...]:
    if d == 0:
        return (0, 0, 0, 0)
    return c // d, c % d, 17 // d, 17 % d


@compared(Range(0, 40))
def bits_of(c: int) -> int:
    return c.bit_count() + (c | 8).bit_count()


@compared(bool, bool, SMALL)
def booleans_are_numbers(f: bool, g: bool, a: int) -> tuple[int, ...]:
    return f + g, f * a, f - 1, (f & g) + (f | g) + (f ^ g), ~f, -f, f << 2, a & f, PRIMES[f]


@compared(bool, SMALL)
def booleans_equal_numbers(f: bool, a: int) -> tuple[bool, ...]:
    return f == 1, f == a, f != 0, a == True, f < 1, f <= a  # noqa: E712


@compared(SMALL, SMALL)
def number_as_condition(a: int, b: int) -> int:
    if a:
        return 1
    return 2 if not b else 3


@compared(SMALL, SMALL)
def augmented_assignment(a: int, b: int) -> int:
    value = a
    value += b
    value <<= 1
    value ^= 3
    value |= a
    value &= ~b
    value *= 3
    value -= 1
    return value


@compared(SMALL, SMALL)
def builtins_over_a_tuple(a: int, b: int) -> tuple[Any, ...]:
    values = (a, b, 1)
    return any(v > 2 for v in values), all(v < 2 for v in values), sum(values), min(values), max(values)


@compared(SMALL, SMALL)
def builtins_with_keys(a: int, b: int) -> tuple[Any, ...]:
    return tuple(sorted((a, b, 1))), min(a, b, key=lambda v: v * v), max((a, b), key=lambda v: -v)


@compared(SMALL, SMALL)
def comprehension(a: int, b: int) -> tuple[int, ...]:
    return tuple(v + 1 if v > 0 else 0 for v in (a, b))


@compared(SMALL, SMALL)
def nested_rules(a: int, b: int) -> int:
    return at_most(at_least(a, b), early_return(a, b)) + at_most(a, 2)


@compared(SMALL, SMALL)
def plain_helper(a: int, b: int) -> int:
    return _doubled(a) if _doubled(b) > 2 else 0


def _doubled(value: int) -> int:
    return value * 2 if value > 0 else value


@compared(SMALL)
def recursion_on_a_number(a: int, depth: int = 4) -> int:
    return 0 if depth == 0 else (a > depth) + recursion_on_a_number(a, depth - 1)


@compared(SMALL, Mode)
def tuple_result(a: int, m: Mode) -> tuple[int, Mode]:
    return (a, m) if a > 0 else (0, Mode.FAST)


@compared(SMALL, bool)
def named_tuple_result(a: int, f: bool) -> Pair:
    return Pair(a, f) if a > 0 else Pair(0, True)


@compared(SMALL, bool)
def use_of_named_tuple(a: int, f: bool) -> int:
    pair = named_tuple_result(a, f)
    return pair.first + pair.second


@compared(SMALL, Mode)
def unpacking(a: int, m: Mode) -> int:
    number, mode = tuple_result(a, m)
    return number if mode == Mode.FAST else -1


@compared(Cell, SMALL)
def record_result(cell: Cell, a: int) -> Cell:
    return Cell(Mode.SLOW, a & 3) if cell.size > 1 else cell


@compared(Box, Range(-1, 4))
def updated_record(box: Box, a: int) -> Box:
    if a < 0:
        return update(box, current=NULL)
    return update(box, cells=(*box.cells[:2], update(box.cells[2], size=a & 3)))


@compared(Cell, Cell)
def equal_records(cell: Cell, other: Cell) -> tuple[bool, bool]:
    return cell == other, cell != Cell(Mode.OFF, other.size)


@compared(Cell, Cell)
def member_of_records(cell: Cell, other: Cell) -> bool:
    return cell in (Cell(Mode.FAST, 2), other)


@compared(Mode, Mode)
def enum_comparison(m: Mode, n: Mode) -> tuple[bool, ...]:
    others = no_members()
    return m == n, m != Mode.FAST, m == Mode.OFF, *(m == other for other in others), m != others[2]


def no_members() -> tuple[Any, ...]:
    """What no member equals."""
    return "off", 1, ApicMode.DISABLED


@compared(Mode, Colour)
def members_of_two_enumerations(m: Mode, c: object) -> tuple[bool, bool]:
    return m == c, c != m


@compared(Mode, SMALL)
def match_on_members(m: Mode, a: int) -> int:
    match m:
        case Mode.OFF:
            return 0
        case Mode.SLOW if a > 0:
            return a
        case _:
            return 9


@compared(SMALL)
def match_on_numbers(a: int) -> int:
    match a:
        case 0 | 2:
            return 1
        case -1:
            return 2
        case other:
            return other * 10


@compared(Box, INDEX)
def index_of_array(box: Box, i: int) -> int:
    return box.cells[i].size


@compared(COUNT)
def index_of_constants(c: int) -> int:
    return PRIMES[c]


@compared(Box)
def index_under_a_guard(box: Box) -> int:
    return -1 if box.current == NULL else box.cells[box.current].size


@compared(Box, INDEX)
def slice_by_data(box: Box, i: int) -> int:
    return sum(cell.size for cell in box.cells[:i])


@compared(COUNT)
def range_over_data(c: int) -> int:
    return sum(k * k for k in range(c))


@compared(SMALL, SMALL)
def sequence(a: int, b: int) -> Seq[int]:
    found: Seq[int] = Seq()
    for i in range(3):
        if a > i:
            found = found.append(a - i)
        if b == i:
            found = found.append(i)
    return found


@compared(Box)
def sequence_of_records(box: Box) -> Seq[Cell]:
    found: Seq[Cell] = Seq()
    for cell in box.cells:
        found = append_if_on(found, cell)
    return found


@rule
def append_if_on(found: Seq[Cell], cell: Cell) -> Seq[Cell]:
    return found if cell.mode == Mode.OFF else found.append(cell)


@compared(SMALL, SMALL)
def items_of_sequence(a: int, b: int) -> int:
    total = 0
    for position, item in enumerate(sequence(a, b).items()):
        total += item * (position + 1)
    return total


@compared(SMALL, SMALL)
def equal_sequences(a: int, b: int) -> bool:
    return sequence(a, 0) == sequence(b, 1)


@compared(SMALL, SMALL, bool)
def table(a: int, b: int, f: bool) -> Table:
    written = Table().set(1, 2)
    if f:
        written = written.set(a, 1)
    return written.set(b, 0)


@compared(SMALL, SMALL, bool)
def table_lookups(a: int, b: int, f: bool) -> tuple[int, ...]:
    written = table(a, b, f)
    return tuple(written[key] for key in (a, b, 1, 3, a + 1))


@compared(SMALL, bool)
def boolean_or_number(a: int, f: bool) -> int:
    return f if a > 0 else 2


@compared(SMALL)
def constant_or_number(a: int) -> int:
    return True if a > 0 else a


@compared(SMALL)
def takes_true_and_one(a: int) -> tuple[int, ...]:
    return kind_of(True), kind_of(1), kind_of(a == 1)


@rule
def kind_of(value: int) -> int:
    return value << 3


@compared(SMALL)
def opaque_result(a: int) -> object:
    return KERNELS["6.1"] if a > 0 else KERNELS["6." + "1"]


@compared(SMALL)
def optional_argument(a: int) -> int:
    return count_or_none(None if a > 0 else 3)


@rule
def count_or_none(value: int | None) -> int:
    return 0 if value is None else value


@compared(SMALL, Mode, Mode)
def contradictions(a: int, m: Mode, n: Mode) -> int:
    if a == 2:
        if a > 2 or a == 1:
            raise KvmBug("both cannot be")
        if m == n and m != n:
            return 1
    return 0


def every_assignment(*variables: ex.Expr) -> Iterator[dict[str, int]]:
    ranges = [range(var.lo, var.hi + 1) for var in variables]
    for values in itertools.product(*ranges):
        yield {str(var.value): value for var, value in zip(variables, values, strict=True)}


def variables_of(value: Any) -> list[ex.Expr]:
    return ex.variables(*map(to_expr, leaves_of(value)))


@pytest.mark.parametrize(("function", "domains"), RULES, ids=lambda value: getattr(value, "__name__", ""))
def test_lifted_rule_is_the_rule(function: Callable[..., Any], domains: tuple[Any, ...]) -> None:
    """On every assignment of its arguments."""
    args = tuple(symbolic(domain, SCOPE, f"arg{i}") for i, domain in enumerate(domains))
    lifted = lift(function, *args)
    for env in every_assignment(*variables_of(args)):
        assert concrete(lifted, env) == function(*concrete(args, env)), env


# Paths: how many, which not, and under what a caller knows.


def paths_of(function: Callable[..., Any], *domains: Any) -> int:
    args = [symbolic(domain, SCOPE, f"arg{i}") for i, domain in enumerate(domains)]
    with lifting() as lifter:
        function(*args)
    return lifter.paths


@rule
def three_way(m: Mode) -> int:
    return 1 if m == Mode.OFF else 2 if m == Mode.SLOW else 3 if m == Mode.FAST else 4


@rule
def nested_bounds(a: int) -> int:
    if a > 2:
        return 1 if a < 0 else 2
    return 3 if a <= 2 else 4


@rule
def repeated(f: bool, g: bool) -> int:
    return (1 if f and g else 2) if f and g else (3 if not f or not g else 4)


@rule
def twice(a: int) -> int:
    return three_way_of(a) + three_way_of(a)


@rule
def three_way_of(a: int) -> int:
    return 1 if a < 0 else 2 if a == 0 else 3


@pytest.mark.parametrize(
    ("function", "domains", "paths"),
    [
        (three_way, [Mode], 3),
        (nested_bounds, [SMALL], 2),
        (repeated, [bool, bool], 3),
        (contradictions, [SMALL, Mode, Mode], 3),
        (index_of_constants, [COUNT], 6),
        (index_under_a_guard, [Box], 4),
        (twice, [SMALL], 4),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_contradictory_paths_are_not_run(function: Any, domains: list[Any], paths: int) -> None:
    assert paths_of(function, *domains) == paths


def test_rule_is_lifted_once() -> None:
    a = symbolic(SMALL, {}, "a")
    with lifting() as lifter:
        three_way_of(a)
        before = lifter.paths
        three_way_of(a)
        twice(a)
    assert (before, lifter.paths) == (3, 4)


def test_lifter_remembers_when_it_is_resumed() -> None:
    a = symbolic(SMALL, {}, "a")
    with lifting() as lifter:
        first = three_way_of(a)
    with lifter.resumed():
        assert three_way_of(a) is first
    assert lifter.paths == 3


def test_different_arguments_are_lifted_apart() -> None:
    a, b = symbolic(SMALL, {}, "a"), symbolic(SMALL, {}, "b")
    with lifting():
        assert to_expr(three_way_of(a)) is not to_expr(three_way_of(b))


@rule
def is_green(colour: object) -> bool:
    return colour == Colour.GREEN


def test_members_of_two_enumerations_are_different_arguments() -> None:
    """Though both are the same expression: the variable of that name with values 0 to 2."""
    with lifting():
        assert is_green(symbolic(Mode, {}, "v")) is False
        assert is_green(symbolic(Colour, {}, "v")) is not False


@rule
def square_is_not_two_modulo_four(a: int) -> int:
    if (a * a) & 3 == 2:
        raise KvmBug("no square is")
    return a


def test_path_that_only_a_solver_excludes_is_listed() -> None:
    with lifting() as lifter:
        square_is_not_two_modulo_four(symbolic(Range(0, 200), {}, "a"))
    assert len(lifter.pruned) == 1
    assert check_sat(lifter.pruned) is False


def test_nothing_is_listed_where_nothing_can_be_raised() -> None:
    with lifting() as lifter:
        contradictions(symbolic(SMALL, {}, "a"), symbolic(Mode, {}, "m"), Mode.OFF)
    assert lifter.pruned == []


@rule
def deref(box: Box, index: int) -> int:
    return box.cells[index].size


@rule
def guarded(box: Box) -> int:
    return 9 if box.current == NULL else deref(box, box.current)


@rule
def guarded_twice(box: Box) -> int:
    if box.current == NULL:
        return 9
    return guarded(box) + deref(box, box.current)


@rule
def divide(a: int, b: int) -> int:
    return a // b


@rule
def guarded_division(a: int, b: int) -> int:
    return divide(a, b) if a >= 0 and b > 0 else 0


@rule
def halvings(a: int) -> int:
    steps = 0
    while a > steps:
        steps += 1
    return steps


@rule
def guarded_loop(a: int) -> int:
    return halvings(a) if a < 4 else 5


WIDE: Final = Range(0, 0xFFFF_FFFF)


@pytest.mark.parametrize(
    ("function", "domains"),
    [(guarded, [Box]), (guarded_twice, [Box]), (guarded_division, [SMALL, SMALL])],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_the_caller_excludes_is_not_raised(function: Any, domains: list[Any]) -> None:
    test_lifted_rule_is_the_rule(function, tuple(domains))


def test_loop_that_the_caller_bounds_ends() -> None:
    lifted = lift(guarded_loop, symbolic(WIDE, {}, "a"))
    assert [concrete(lifted, {"a": a}) for a in (0, 3, 4, 99)] == [guarded_loop(a) for a in (0, 3, 4, 99)]


@rule
def never_returns(a: int) -> int:
    raise KvmBug(f"whatever is passed: {len((1, 2))}")


class Witness:
    """Remembers whether it was called."""

    called = False

    def call(self) -> None:
        self.called = True


WITNESS: Final = Witness()


@rule
def calls_it_never(a: int) -> int:
    if (a * a) & 3 == 2:
        value = never_returns(a)
        WITNESS.call()
        return value
    return a


def test_call_that_cannot_return_ends_its_path() -> None:
    """What follows it might loop for ever on a value that does not exist."""
    assert concrete(lift(calls_it_never, symbolic(Range(0, 9), {}, "a")), {"a": 4}) == 4
    assert not WITNESS.called


@rule
def only_of_nonzero(a: int) -> int:
    if a > 0:
        return 1
    if a < 0:
        return 2
    raise KvmBug("zero")


@rule
def of_either_sign(a: int) -> int:
    if a > 0:
        return only_of_nonzero(a)
    return only_of_nonzero(a) * 10 if a < 0 else 0


def test_rule_under_two_callers_is_lifted_for_each() -> None:
    test_lifted_rule_is_the_rule(of_either_sign, (SMALL,))


def test_many_values_of_an_index_do_not_exhaust_the_stack() -> None:
    lifted = lift(range_pick, symbolic(Range(0, 699), {}, "a"))
    assert [concrete(lifted, {"a": a}) for a in (0, 7, 699)] == [0, 7, 699]


@rule
def range_pick(a: int) -> int:
    return range(700)[a]


# Values.


def test_constant_arguments_give_python_s_own_values() -> None:
    assert lift(if_elif_else, 3, Mode.SLOW) == -3


@pytest.mark.parametrize(
    ("domain", "leaves"),
    [
        (Cell, {"x.mode": (0, 2), "x.size": (0, 2)}),
        (
            Box,
            {f"x.cells[{i}].{name}": (0, 2) for i in range(3) for name in ("mode", "size")}
            | {"x.current": (-1, 2)},
        ),
        (SMALL, {"x": (-3, 4)}),
        (bool, {"x": (0, 1)}),
        (INDEX, {"x": (0, 2)}),
        (POINTER, {"x": (-1, 2)}),
    ],
    ids=["record", "array", "range", "bool", "index", "pointer"],
)
def test_symbolic_value_has_a_variable_for_each_leaf(domain: Any, leaves: dict[str, tuple[int, int]]) -> None:
    found = variables_of(symbolic(domain, SCOPE, "x"))
    assert {str(var.value): (var.lo, var.hi) for var in found} == leaves


def test_fixed_fields_are_concrete() -> None:
    box = symbolic(Box, SCOPE, "", mode=Mode.SLOW, current=NULL)
    assert (box.current, [cell.mode for cell in box.cells]) == (NULL, [Mode.SLOW] * 3)


def test_domain_of_one_value_is_that_value() -> None:
    assert symbolic(Range(4, 4), {}, "x") == 4


def test_concrete_sequences_hold_what_counts() -> None:
    guarded = Seq(((symbolic(bool, {}, "f"), 1), (symbolic(bool, {}, "g"), 2)))
    assert concrete(guarded, {"f": 0, "g": 1}).entries == ((True, 2),)


def test_merged_sequences_keep_each_side_s_entries() -> None:
    flag = ex.bool_var("f")
    nothing: Seq[int] = Seq()
    merged = merge(flag, nothing.append(1).append(2), nothing.append(3))
    assert [concrete(merged, {"f": f}).items() for f in (1, 0)] == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("a", "b", "shapes"),
    [
        (1, (1, 2), "an integer and a tuple of 2"),
        ((1,), (1, 2), "a tuple of 1 and a tuple of 2"),
        (Mode.OFF, Colour.RED, "Mode and Colour"),
        (Mode.OFF, 1, "Mode and an integer"),
        (Cell(Mode.OFF, 1), Mode.OFF, "Cell and Mode"),
        (None, True, "NoneType and an integer"),
        ("a", "b", "'a' and 'b'"),
        (KERNELS["6.1"], "b", "Kernel and str"),
    ],
)
def test_values_of_different_shapes_cannot_be_merged(a: Any, b: Any, shapes: str) -> None:
    with pytest.raises(TypeError) as refused:
        merge(ex.bool_var("f"), a, b)
    assert str(refused.value) == f"values of one shape, not {shapes}"


@rule
def _one_more(a: int) -> int:
    return a + 1


@rule
def _two_more(a: int) -> int:
    return _one_more(_one_more(a))


def test_a_lifter_tells_every_call_of_a_rule_and_its_result() -> None:
    a = symbolic(SMALL, {}, "a")
    with lifting() as lifter:
        whole = to_expr(_two_more(a))
    first, second = [(to_expr(args[0]), to_expr(result)) for args, result in lifter.calls(_one_more)]
    assert first == (to_expr(a), ex.add(to_expr(a), ex.constant(1)))
    assert second == (first[1], whole)
