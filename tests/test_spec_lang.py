"""The specification language: records of finite fields, rules, lists and tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import FrozenInstanceError
from enum import Enum
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avicheck.spec.lang import (
    NULL,
    U4,
    U8,
    U16,
    U32,
    U64,
    IndexOf,
    Range,
    Seq,
    SizedBy,
    Table,
    VectorSet,
    at_least,
    at_most,
    domain_of,
    domains,
    enum_index,
    interpreted_by,
    record,
    rule,
    update,
)


class Mode(Enum):
    OFF = "off"
    ON = "on"


@record
class Point:
    x: U4
    y: bool = False


@record
class Shape:
    mode: Mode
    origin: Point
    points: Annotated[tuple[Point, ...], SizedBy("points")]
    sizes: Annotated[tuple[U8, ...], SizedBy("points")]
    nearest: Annotated[int, IndexOf("points")]
    chosen: Annotated[int, IndexOf("points", nullable=True)]


# Records.


def test_domains_of_a_record() -> None:
    assert domains(Shape) == {
        "mode": Mode,
        "origin": Point,
        "points": (SizedBy("points"), Point),
        "sizes": (SizedBy("points"), Range(0, 255)),
        "nearest": IndexOf("points", nullable=False),
        "chosen": IndexOf("points", nullable=True),
    }


def test_domains_come_in_the_order_of_the_fields() -> None:
    assert list(domains(Point)) == ["x", "y"]


@pytest.mark.parametrize(
    ("alias", "bits"), [(U4, 4), (U8, 8), (U16, 16), (U32, 32), (U64, 64), (VectorSet, 256)]
)
def test_sized_integer_holds_its_bits(alias: Any, bits: int) -> None:
    assert domain_of(alias) == Range(0, (1 << bits) - 1)


def test_record_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Point(1).x = 2  # type: ignore[misc]


def test_record_has_no_other_fields() -> None:
    assert not hasattr(Point(1), "__dict__")


def test_update_changes_one_field_of_a_copy() -> None:
    point = Point(1)
    assert (update(point, y=True), point) == (Point(1, True), Point(1, False))


def test_records_are_equal_by_value() -> None:
    assert Point(1) == Point(1, False) != Point(1, True)
    assert len({Point(1), Point(1, False), Point(1, True)}) == 2


# Rules.


@rule
def doubled(value: int, times: int = 1) -> int:
    """Doubled."""
    return value << times


class Recorder:
    """An interpreter that answers 99 and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        self.asked.append((function.__name__, args, dict(named)))
        return 99


def test_rule_is_its_function() -> None:
    assert (doubled(3), doubled(3, times=2), doubled.__name__, doubled.__doc__) == (
        6,
        12,
        "doubled",
        "Doubled.",
    )


def test_interpreter_is_asked_instead() -> None:
    recorder = Recorder()
    with interpreted_by(recorder):
        assert doubled(3, times=2) == 99
    assert recorder.asked == [("doubled", (3,), {"times": 2})]


def test_interpreters_nest() -> None:
    outer, inner = Recorder(), Recorder()
    with interpreted_by(outer):
        with interpreted_by(inner):
            doubled(1)
        doubled(2)
    assert [(r.asked[0][1], len(r.asked)) for r in (outer, inner)] == [((2,), 1), ((1,), 1)]


def test_interpreter_is_gone_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), interpreted_by(Recorder()):
        raise ZeroDivisionError
    assert doubled(3) == 6


# Lists and tables.


@given(st.lists(st.integers()))
def test_sequence_holds_what_was_appended(values: list[int]) -> None:
    sequence: Seq[int] = Seq()
    for value in values:
        sequence = sequence.append(value)
    assert (sequence.items(), len(sequence), bool(sequence)) == (values, len(values), bool(values))


def test_append_leaves_the_sequence_as_it_was() -> None:
    sequence = Seq(((True, 1),))
    sequence.append(2)
    assert sequence.items() == [1]


def test_only_entries_whose_guard_holds_count() -> None:
    guarded = Seq(((False, 1), (True, 2), (False, 3)))
    plain = Seq(((True, 2),))
    assert (guarded.items(), guarded == plain, hash(guarded) == hash(plain)) == ([2], True, True)


def test_order_of_entries_matters() -> None:
    assert Seq(((True, 1), (True, 2))) != Seq(((True, 2), (True, 1)))


def test_sequence_is_no_list() -> None:
    assert Seq(((True, 1),)) != [1]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 5))))
def test_table_is_a_dictionary(writes: list[tuple[int, int]]) -> None:
    """Whatever is written, in whatever order: the last value of each key, NULL elsewhere."""
    table, expected = Table(), dict[int, int]()
    for key, value in writes:
        table, expected[key] = table.set(key, value), value
    assert {key: table[key] for key in range(7)} == {key: expected.get(key, NULL) for key in range(7)}
    assert list(table.items().items()) == sorted(expected.items())


def test_last_value_is_not_the_largest() -> None:
    assert Table().set(1, 5).set(1, 3).items() == {1: 3}


def test_entry_of_a_table_counts_where_its_guard_holds() -> None:
    table = Table(Seq(((True, (1, 4)), (False, (1, 2)))))
    assert (table[1], table.items()) == (4, {1: 4})


@pytest.mark.parametrize("use", [list, lambda table: 1 in table])
def test_table_is_not_searched_without_end(use: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError, match=r"^'Table' object is not iterable$|^argument of type 'Table'"):
        use(Table().set(0, 1))


# Small helpers.


@given(st.integers(), st.integers())
def test_smaller_and_larger(a: int, b: int) -> None:
    assert (at_most(a, b), at_least(a, b)) == (min(a, b), max(a, b))


def test_member_s_position() -> None:
    assert [enum_index(mode) for mode in Mode] == [0, 1]
