"""States fit into fields as wide as their variables need, and come out again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avicheck.encodings import expr as ex
from avicheck.encodings.packing import WORD, Layout, PackingError, layout
from avicheck.encodings.transition import TransitionSystem, Variable

SIZES = st.one_of(st.integers(0, 300), st.integers(0, 1 << 130))
BOUNDS = st.tuples(st.integers(-(1 << 100), 1 << 100), SIZES)


def laid_out(*bounds: tuple[int, int]) -> Layout:
    variables = tuple(Variable(f"x{i}", lo, hi) for i, (lo, hi) in enumerate(bounds))
    return layout(TransitionSystem("s", variables, (), (), (), ex.FALSE))


@given(st.data(), st.lists(BOUNDS, min_size=1, max_size=12))
def test_what_is_packed_comes_out_again(data: st.DataObject, found: list[tuple[int, int]]) -> None:
    bounds = [(lo, lo + size) for lo, size in found]
    state = {f"x{i}": data.draw(st.integers(lo, hi)) for i, (lo, hi) in enumerate(bounds)}
    fields = laid_out(*bounds)
    assert fields.unpack(fields.pack(state)) == state
    assert fields.pack(state).bit_length() <= fields.bits <= fields.words * WORD


@given(st.lists(BOUNDS, min_size=1, max_size=12))
def test_fields_do_not_overlap_and_narrow_ones_do_not_cross_words(found: list[tuple[int, int]]) -> None:
    fields = laid_out(*((lo, lo + size) for lo, size in found)).fields
    taken = 0
    for field in fields:
        assert taken & field.mask == 0
        taken |= field.mask
        if field.width <= WORD:
            assert field.offset // WORD == max(field.offset, field.offset + field.width - 1) // WORD
        else:
            assert field.offset % WORD == 0


def test_a_field_is_as_wide_as_its_bounds_need() -> None:
    fields = laid_out((0, 1), (5, 8), (3, 3), (-4, 4), (0, 255)).fields
    assert [(field.offset, field.width) for field in fields] == [(0, 1), (1, 2), (3, 0), (3, 4), (7, 8)]


def test_a_later_field_fills_a_gap() -> None:
    fields = laid_out((0, (1 << 60) - 1), (0, 255), (0, 15)).fields
    assert [field.offset for field in fields] == [0, 64, 60]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"x0": 4}, r"^x0 must be from 0 to 3, not 4$"),
        ({"x0": -1}, r"^x0 must be from 0 to 3, not -1$"),
        ({}, r"^x0 must be from 0 to 3, not missing$"),
        ({"x0": 0, "y": 1}, r"^A state must give values to the system's variables, not to y$"),
    ],
)
def test_another_state_is_refused(state: dict[str, int], message: str) -> None:
    with pytest.raises(PackingError, match=message):
        laid_out((0, 3)).pack(state)


@given(st.data(), st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 9)), min_size=1, max_size=4))
def test_what_fits_is_what_is_a_state_packed(data: st.DataObject, found: list[tuple[int, int]]) -> None:
    form = laid_out(*((lo, lo + size) for lo, size in found))
    packed = data.draw(st.integers(-2, (2 << form.bits) + 2))
    state = form.unpack(packed)
    inside = all(
        field.variable.lo <= state[field.variable.name] <= field.variable.hi for field in form.fields
    )
    assert form.fits(packed) == (inside and form.pack(state) == packed)
