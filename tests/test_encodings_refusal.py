"""What cannot be lifted is refused: at its line, in one sentence, and never computed wrongly."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from enum import Enum, Flag, IntEnum
from typing import Annotated, Any, Final, ParamSpec, TypeVar

import pytest

from avicheck.encodings import expr as ex
from avicheck.encodings.lift import LiftError, concrete, lift, lifting, symbolic, to_expr
from avicheck.spec.lang import U4, IndexOf, KvmBug, Range, Seq, SizedBy, record, rule, update

P = ParamSpec("P")
T = TypeVar("T")

SMALL: Final = Range(-3, 4)
WIDE: Final = Range(0, 0xFFFF_FFFF)


class Mode(Enum):
    OFF = "off"
    ON = "on"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Flags(Flag):
    A = 1
    B = 2


@record
class Box:
    cells: Annotated[tuple[U4, ...], SizedBy("cells")]
    current: Annotated[int, IndexOf("cells", nullable=True)]


REFUSED: Final[list[tuple[Callable[..., Any], tuple[Any, ...], str]]] = []


def refused(what: str, *domains: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function a rule that must be refused, at the line marked ``# here``, with this text."""

    def register(function: Callable[P, T]) -> Callable[P, T]:
        made = rule(function)
        REFUSED.append((made, domains, what))
        return made

    return register


def line_of(function: Callable[..., Any]) -> int:
    """The line marked in a rule, else its first."""
    lines, first = inspect.getsourcelines(inspect.unwrap(function))
    marked = [first + i for i, line in enumerate(lines) if "# here" in line]
    return marked[0] if marked else first


# Values that must be concrete.


@refused("Hashed value must be concrete, not symbolic: arg0", SMALL)
def key_of_dict(a: int) -> int:
    return {1: 2, 3: 4}[a]  # here


@refused("Hashed value must be concrete, not symbolic: arg0", SMALL)
def member_of_set(a: int) -> bool:
    return a in {1, 2}  # here


@refused("Hashed value must be concrete, not symbolic: arg0", SMALL)
def set_of_values(a: int) -> int:
    return len({a, 1})  # here


@refused("Hashed value must be concrete, not symbolic: arg0", Mode)
def member_as_key(m: Mode) -> int:
    return {Mode.OFF: 0, Mode.ON: 1}[m]  # here


@refused("Hashed value must be concrete, not symbolic: arg0", SMALL)
def lookup_by_value(a: int) -> bool:
    return Level(a) == Level.LOW  # here


@refused("Hashed value must be concrete, not symbolic: arg0.cells[0]", Box)
def record_as_key(box: Box) -> int:
    return {box: 2}[box]  # here


@refused("Value converted by int() must be concrete, not symbolic: arg0", SMALL)
def converted_to_int(a: int) -> int:
    return int(a) + 1  # here


@refused("Value converted by int() must be concrete, not symbolic: arg0", bool)
def flag_converted_to_int(f: bool) -> int:
    return int(f) + 1  # here


@refused("Value converted by float() must be concrete, not symbolic: arg0", SMALL)
def converted_to_float(a: int) -> bool:
    return float(a) > 1  # here


@refused("Printed value must be concrete, not symbolic: arg0", SMALL)
def printed(a: int) -> str:
    return str(a)  # here


@refused("Printed value must be concrete, not symbolic: arg0", SMALL)
def formatted(a: int) -> str:
    return f"{a:04x}"  # here


@refused("Value must be concrete to read its value, not symbolic: arg0", Mode)
def value_of_member(m: Mode) -> bool:
    return m.value == "off"  # here


@refused("Value must be concrete to read its bit_length, not symbolic: arg0", SMALL)
def method_of_number(a: int) -> int:
    return a.bit_length()  # here


@refused("Number must be an integer, not the float 1.5", SMALL)
def compared_with_float(a: int) -> bool:
    return a == 1.5  # here


@refused("Number must be an integer, not the float 0.5", SMALL)
def added_to_float(a: int) -> float:
    return 0.5 + a  # here


# Loops and indices.


@refused("Loop must end within 1000 decisions, not go on for more", WIDE)
def endless_loop(a: int) -> int:
    steps = 0
    while a != steps:  # here
        steps += 1
    return steps


@refused("Index must have at most 1000 values, not 4294967296", WIDE)
def wide_index(a: int) -> int:
    return range(5_000)[a]  # here


@refused("Rule must end, not call itself without end", SMALL)
def endless_recursion(a: int) -> int:  # the rule's first line is named
    return endless_recursion(a - 1) if a != 99 else 0


# Rules that raise.

MUST_RETURN: Final = "Rule {} must return on every feasible path, not raise {}"


@refused(MUST_RETURN.format("raises_a_bug", "KvmBug (at three)"), SMALL)
def raises_a_bug(a: int) -> int:
    if a == 3:
        raise KvmBug("at three")  # here
    return a


@refused(MUST_RETURN.format("fails_an_assertion", "AssertionError (too big)"), SMALL)
def fails_an_assertion(a: int) -> int:
    if a == 4:
        raise AssertionError("too big")  # here
    return a


@refused(MUST_RETURN.format("null_pointer", "IndexError (negative index)"), Box)
def null_pointer(box: Box) -> int:
    return box.cells[box.current]  # here


@refused(MUST_RETURN.format("index_out_of_range", "IndexError (tuple index out of range)"), Range(0, 4))
def index_out_of_range(a: int) -> int:
    return (1, 2, 3)[a]  # here


@refused(
    MUST_RETURN.format("division_by_zero", "ZeroDivisionError (integer division or modulo by zero)"),
    Range(0, 4),
)
def division_by_zero(a: int) -> int:
    return 100 // a  # here


@refused(
    MUST_RETURN.format(
        "negative_dividend",
        "ValueError (Division must have a dividend >= 0 and a divisor > 0, not arg0 // 2)",
    ),
    SMALL,
)
def negative_dividend(a: int) -> int:
    return a // 2  # here


@refused(MUST_RETURN.format("negative_shift", "ValueError (negative shift count)"), SMALL)
def negative_shift(a: int) -> int:
    return 1 << a  # here


@refused(
    MUST_RETURN.format(
        "huge_shift", "ValueError (Shift count must be at most 4096, not arg0 up to 4294967295)"
    ),
    WIDE,
)
def huge_shift(a: int) -> int:
    return 1 << a  # here


@refused(
    MUST_RETURN.format(
        "power", "TypeError (unsupported operand type(s) for ** or pow(): 'int' and 'SymInt')"
    ),
    SMALL,
)
def power(a: int) -> Any:
    return 2**a  # here


@refused(
    MUST_RETURN.format(
        "ordered_members", "TypeError ('<' not supported between instances of 'SymEnum' and 'Mode')"
    ),
    Mode,
)
def ordered_members(m: Any) -> Any:
    return m < Mode.ON  # here


@refused(MUST_RETURN.format("raised_below", "KvmBug (in a helper)"), SMALL)
def raised_below(a: int) -> int:
    return _raises(a)


def _raises(a: int) -> int:
    if a > 0:
        raise KvmBug("in a helper")
    return a


@refused(MUST_RETURN.format("any_error", "RuntimeError (not now)"), SMALL)
def any_error(a: int) -> int:
    if a > 0:
        raise RuntimeError("not now")  # here
    return a


@refused(
    MUST_RETURN.format(
        "unknown_field", "TypeError (Box.__init__() got an unexpected keyword argument 'size')"
    ),
    Box,
)
def unknown_field(box: Box) -> Box:
    return update(box, size=1)  # here


# Results and arguments.


@refused("Paths must return values of one shape, not an integer and a tuple of 2", SMALL)
def two_shapes(a: int) -> Any:
    return a if a > 0 else (a, a)


@refused("Paths must return values of one shape, not Mode and NoneType", SMALL)
def member_or_nothing(a: int) -> Any:
    return Mode.ON if a > 0 else None


@refused("Result must be immutable, not a list", SMALL)
def list_result(a: int) -> list[int]:
    return [a]


@refused("Result must be immutable, not a dict", SMALL)
def dict_in_result(a: int) -> tuple[Any, ...]:
    return a, {1: 2}


@refused("Result must be immutable, not a generator", SMALL)
def generator(a: int) -> Iterator[int]:
    yield a


@refused("Result must be immutable, not a map", SMALL)
def iterator_result(a: int) -> Any:
    return map(abs, (a,))


@refused("Result must be made of integers, not of the float 2.5", SMALL)
def float_result(a: int) -> float:
    return 2.5 if a > 0 else 1


@refused("Argument of takes_anything must be immutable, not a list", SMALL)
def list_argument(a: int) -> Any:
    return takes_anything([a])  # here


@refused("Argument of takes_anything must be made of integers, not of the float 0.5", SMALL)
def float_argument(a: int) -> Any:
    return takes_anything(0.5)  # here


@refused("Arguments of takes_anything must be positional, not named: value", SMALL)
def named_argument(a: int) -> Any:
    return takes_anything(value=a)  # here


@rule
def takes_anything(value: Any) -> int:
    return 1


@refused("Paths must return members of a plain Enum, not of Level (IntEnum)", SMALL)
def number_members(a: int) -> Level:
    return Level.LOW if a > 0 else Level.HIGH


# Text that would mean something else.

IDENTITY: Final = "Comparison must be by ==, not by identity"
OBJECTS: Final = "Rule must look at values, not at objects: {}()"
CAUGHT: Final = "Exception must be left to the caller, not handled in a rule"
KEPT: Final = "State must be passed and returned, not kept in a global: {}"
PATTERN: Final = "Pattern must be a value, not a type or a singleton"

seen: list[int] = []
count = 0


@refused(IDENTITY, bool)
def identity_of_flag(f: bool) -> bool:
    return f is True  # here


@refused(IDENTITY, Mode)
def identity_of_member(m: Mode) -> bool:
    return m is not Mode.OFF  # here


@refused(IDENTITY, SMALL)
def identity_in_a_chain(a: int) -> bool:
    return 0 <= a is True  # here


@refused(IDENTITY, SMALL)
def identity_below(a: int) -> bool:
    return any(v is a for v in (1, 2))  # here


@refused(OBJECTS.format("isinstance"), SMALL)
def type_test(a: int) -> int:
    return a if isinstance(a, int) else 0  # here


@refused(OBJECTS.format("type"), SMALL)
def type_of(a: int) -> bool:
    return type(a) == int  # noqa: E721  # here


@refused(OBJECTS.format("id"), SMALL)
def identity_number(a: int) -> int:
    return id(a)  # here


@refused(OBJECTS.format("repr"), SMALL)
def shown(a: int) -> str:
    return repr(a)  # here


@refused(OBJECTS.format("repr"), SMALL)
def shown_in_text(a: int) -> str:
    return f"{a!r}"  # here


@refused(PATTERN, SMALL)
def pattern_of_a_type(a: int) -> int:
    match a:
        case int():  # here
            return 1
    return 0


@refused(PATTERN, bool)
def pattern_of_a_singleton(f: bool) -> int:
    match f:
        case True:  # here
            return 1
    return 0


@refused(CAUGHT, SMALL)
def caught(a: int) -> int:
    try:  # here
        return (1, 2)[a]
    except Exception:
        return 0


@refused(CAUGHT, SMALL)
def suppressed(a: int) -> int:
    with contextlib.suppress(IndexError):  # here
        return (1, 2)[a]
    return 0


@refused(KEPT.format("count"), SMALL)
def counts(a: int) -> int:
    global count  # here
    count += 1
    return count + a


@refused(KEPT.format("seen"), SMALL)
def remembers(a: int) -> int:
    seen.append(a)  # here
    return len(seen)


@refused(KEPT.format("seen"), SMALL)
def overwrites(a: int) -> int:
    seen[0] = a  # here
    return a


@refused("Default of found must be immutable, not a list", SMALL)
def mutable_default(a: int, found: list[int] = []) -> int:  # noqa: B006
    return len(found) + a


@refused(IDENTITY, SMALL)
def identity_in_a_helper(a: int) -> bool:
    return _same(a, 1)


def _same(a: int, b: int) -> bool:
    return a is b


ELSEWHERE: Final = {"raised_below": ("_raises", 2), "identity_in_a_helper": ("_same", 1)}
"""The helper whose line is named instead, and which line of it."""


def place(function: Callable[..., Any]) -> str:
    name, line = function.__name__, line_of(function)
    if name in ELSEWHERE:
        name, offset = ELSEWHERE[name]
        line = line_of(globals()[name]) + offset
    return f"{__file__}:{line} in {name}"


@pytest.mark.parametrize(("function", "domains", "what"), REFUSED, ids=[f.__name__ for f, _, _ in REFUSED])
def test_refusal(function: Callable[..., Any], domains: tuple[Any, ...], what: str) -> None:
    """The whole message: file, line, function, and a sentence."""
    args = [symbolic(domain, {"cells": 3}, f"arg{i}") for i, domain in enumerate(domains)]
    with pytest.raises(LiftError, match=f"^{re.escape(f'{place(function)}: {what}')}$"):
        lift(function, *args)


def message(call: Callable[[], Any]) -> str:
    with pytest.raises(LiftError) as error:
        call()
    return str(error.value)


@rule
def refused_below(a: int) -> int:
    return guarded_call(a) + 1


@rule
def guarded_call(a: int) -> int:
    return 0 if a < 0 else wide_index(a)


def test_refusal_under_callers_names_the_same_line() -> None:
    place_ = f"{__file__}:{line_of(wide_index)} in wide_index"
    found = message(lambda: lift(refused_below, symbolic(Range(-1, 1 << 32), {}, "a")))
    assert found == f"{place_}: Index must have at most 1000 values, not 4294967297"


# Outside rules, and outside lifting.


def here(function: Callable[..., Any]) -> str:
    """The place of a function that is one line long, or of its marked line."""
    return f"{__file__}:{line_of(function)} in {function.__name__}"


def test_condition_outside_lifting() -> None:
    flag = symbolic(bool, {}, "f")

    def decide() -> bool:
        return bool(flag)  # here

    expected = f"{here(decide)}: Symbolic value must be used inside lifting(), not outside"
    assert message(decide) == expected


def test_index_outside_lifting() -> None:
    number = symbolic(SMALL, {}, "a")

    def pick() -> int:
        return (1, 2)[number]  # here

    assert message(pick) == f"{here(pick)}: Symbolic value must be used inside lifting(), not outside"


def test_condition_outside_rules() -> None:
    """Nothing would run the other branch."""
    flag = symbolic(bool, {}, "f")

    def decide() -> int:
        with lifting():
            return 1 if flag else 2  # here

    assert message(decide) == f"{here(decide)}: Condition must be decided inside a rule, not outside"


def test_lifting_a_function_that_is_no_rule() -> None:
    def plain(flag: bool) -> int:
        return 1 if flag else 2  # here

    expected = f"{here(plain)}: Condition must be decided inside a rule, not outside"
    assert message(lambda: lift(plain, symbolic(bool, {}, "f"))) == expected


def test_arithmetic_needs_no_lifting() -> None:
    number = symbolic(SMALL, {}, "a")
    assert to_expr((number + 1) * 2) is ex.mul(ex.add(to_expr(number), ex.constant(1)), ex.constant(2))


def test_rule_without_text() -> None:
    namespace: dict[str, Any] = {"rule": rule, "__name__": "elsewhere"}
    exec("@rule\ndef typed_in(a): return a", namespace)
    found = message(lambda: lift(namespace["typed_in"], symbolic(SMALL, {}, "a")))
    assert found == "<string>:1 in typed_in: Text of a rule must be readable, not missing"


# Domains and leaves.


def domain_message(domain: Any) -> str:
    """What is said of a domain, without the place, which must be this function's line."""
    found = message(lambda: symbolic(domain, {}, "x"))
    assert re.match(rf"{re.escape(__file__)}:\d+ in <lambda>: ", found)
    return found.partition(">: ")[2]


@pytest.mark.parametrize(
    ("domain", "what"),
    [
        (int, "Domain of x must be finite, not <class 'int'>"),
        (list[int], "Domain of x must be finite, not list[int]"),
        (Level, "Domain of x must be members of a plain Enum, not of Level (IntEnum)"),
        (Flags, "Domain of x must be members of a plain Enum, not of Flags (Flag)"),
    ],
)
def test_domain_without_a_list_of_values(domain: Any, what: str) -> None:
    assert domain_message(domain) == what


@pytest.mark.parametrize("value", [None, "a", (1, 2)])
def test_leaf_of_another_kind(value: Any) -> None:
    found = message(lambda: to_expr(value)).partition(">: ")[2]
    assert found == f"Value must be a boolean, an integer or an enumeration's member, not {value!r}"


# What is right, though it looks dangerous.


@rule
def compares_with_none(value: int | None) -> int:
    return 0 if value is None else value


@rule
def local_list(a: int) -> int:
    found = [0]
    found.append(a)
    found[0] = 5
    return sum(found)


@rule
def reads_constants(a: int) -> int:
    return PRIMES_LIST[a] + NAMES["two"]


PRIMES_LIST: Final = [2, 3, 5]
NAMES: Final = {"two": 2}


@rule
def local_generator(a: int) -> int:
    return sum(_upto(a))


def _upto(a: int) -> Iterator[int]:
    for i in range(5):
        if i < a:
            yield i


@pytest.mark.parametrize("function", [compares_with_none, local_list, reads_constants, local_generator])
def test_harmless_constructs_are_lifted(function: Callable[[int], int]) -> None:
    lifted = lift(function, symbolic(Range(0, 2), {}, "a"))
    assert [concrete(lifted, {"a": a}) for a in range(3)] == [function(a) for a in range(3)]


def test_mutation_after_the_call_does_not_reach_the_memo() -> None:
    """Sequences are values: appending to a result leaves it as it was."""

    @rule
    def one(a: int) -> Seq[int]:
        return Seq(((True, a),))

    number = symbolic(SMALL, {}, "a")
    with lifting():
        one(number).append(7)
        assert concrete(one(number), {"a": 2}).items() == [2]
