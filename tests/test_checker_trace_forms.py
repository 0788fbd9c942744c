"""The forms of a trace for tools and for people: differences, full states, ITF, Mermaid, SVG."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from syrupy.assertion import SnapshotAssertion

from avicheck.checker import systems
from avicheck.checker.systems import Choices, instance
from avicheck.checker.trace import Trace, text
from avicheck.checker.trace_command import FORM_NAMES
from avicheck.checker.trace_forms import FORMS
from avicheck.encodings.transition import Run
from tests.known.described import CASES, POINTS, run_of, sample

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """The known models are registered."""
    monkeypatch.setattr(systems, "registered", lambda: POINTS)


def itf(shown: Trace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FORMS["itf"](shown))
    return found


def flushed() -> Trace:
    """A store that enters a store buffer and leaves it."""
    chosen = instance("peterson", Choices(memory="tso"))
    run = run_of(
        chosen, "peterson[1].want", "peterson[1].yield_turn", "peterson[1].flush", "peterson[1].flush"
    )
    return Trace(chosen, None, run)


def test_every_form_is_on_the_command_line() -> None:
    assert tuple(FORMS) == FORM_NAMES


@pytest.mark.parametrize("form", ["diff", "full", "mermaid"])
@pytest.mark.parametrize("name", ["peterson", "token-ring"])
def test_form_reads(form: str, name: str, snapshot: SnapshotAssertion) -> None:
    assert FORMS[form](sample(name)) == snapshot


@pytest.mark.parametrize("form", FORMS)
def test_a_trace_without_steps_has_every_form(form: str) -> None:
    shown = sample("shelf")
    assert FORMS[form](Trace(shown.instance, None, Run(shown.run.states[:1], ())))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_every_form_ends_with_one_newline(form: str, name: str) -> None:
    shown = FORMS[form](sample(name))
    assert shown == shown.rstrip("\n") + "\n"


def test_columns_tell_of_stores_that_reach_memory_unchanged() -> None:
    lines = FORMS["columns"](flushed()).splitlines()
    assert [line.strip() for line in lines[-4:]] == [
        "3    flush",
        "flag[1]: false -> true",
        "4    flush",
        "turn stays 0",
    ]


def test_diff_tells_of_store_buffers() -> None:
    shown = FORMS["diff"](flushed())
    assert "peterson[1]'s store buffer: () -> (flag[1] = true)" in shown
    assert "peterson[1]'s store buffer: (turn = 0) -> ()" in shown


def test_full_marks_what_changed() -> None:
    shown = FORMS["full"](sample("shelf"))
    assert [line.strip() for line in shown.splitlines() if "books" in line and "books = 2." not in line] == [
        "2 steps, 0 thread switches; at first books = 1:",
        "books = 1",
        "books = 1",
        "* books = 2",
    ]


def test_json_is_the_file() -> None:
    assert FORMS["json"](sample("shelf")) == text(sample("shelf"))


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("columns", "-- Here it stays for ever --"),
        ("diff", "(the loop begins)"),
        ("mermaid", "Here it stays for ever."),
        ("itf", '"loop": 2'),
        ("svg", "for ever"),
    ],
)
def test_a_run_may_stay_where_it_ends(form: str, says: str) -> None:
    shown = sample("dining")
    assert says in FORMS[form](replace(shown, run=replace(shown.run, loop=2)))


@pytest.mark.parametrize(
    ("form", "says"), [("columns", "-- And again from step 2 --"), ("full", "1  station[0]")]
)
def test_a_loop_may_begin_later(form: str, says: str) -> None:
    shown = sample("token-ring")
    run = shown.run
    turned = Run((*run.states, run.states[1]), (*run.fired, run.fired[0]), 1)
    assert says in FORMS[form](replace(shown, run=turned))


# ITF.


def test_itf_gives_every_variable_in_every_state() -> None:
    shown = sample("peterson")
    found = itf(shown)
    assert found["vars"] == [variable.name for variable in shown.instance.system.variables]
    assert [state.pop("#meta")["index"] for state in found["states"]] == list(range(7))
    assert all(list(state) == found["vars"] for state in found["states"])


def test_itf_has_booleans_enumerations_and_integers_as_such() -> None:
    state = itf(sample("shelf"))["states"][1]
    assert (state["reader[0].has"], state["reader[0].pc"], state["books"]) == (True, "put", 1)


def test_itf_names_the_steps_and_the_model() -> None:
    found = itf(sample("shelf"))
    assert [state["#meta"].get("step") for state in found["states"]] == [
        None,
        "reader[0].take",
        "reader[0].put",
    ]
    assert found["#meta"]["model"] == "shelf"
    assert found["#meta"]["property"] == "light"


def test_itf_has_a_loop_only_for_a_lasso() -> None:
    assert itf(sample("token-ring"))["loop"] == 0
    assert "loop" not in itf(sample("shelf"))


def test_itf_writes_large_integers_as_text() -> None:
    shown = sample("shelf")
    system = shown.instance.system
    wide = tuple(replace(v, hi=2**60) if v.name == "books" else v for v in system.variables)
    chosen = replace(shown.instance)
    vars(chosen)["encoding"] = replace(shown.instance.encoding, system=replace(system, variables=wide))
    for value, expected in ((2**53, {"#bigint": str(2**53)}), (2**53 - 1, 2**53 - 1)):
        run = Run(({**shown.run.states[0], "books": value},), ())
        assert itf(Trace(chosen, None, run))["states"][0]["books"] == expected


# Diagrams.


def test_mermaid_has_an_arrow_for_each_step() -> None:
    lines = [line.strip() for line in FORMS["mermaid"](sample("peterson")).splitlines()]
    arrows = [line.partition(":")[0] for line in lines if re.match(r"\w+-+>>", line)]
    assert arrows == ["t0->>t0", "t0->>t0", "shared-->>t0", "t1->>t1", "t1->>t1", "shared-->>t1"]


def test_mermaid_closes_its_loop() -> None:
    lines = [line.strip() for line in FORMS["mermaid"](sample("token-ring")).splitlines()]
    assert lines.index("loop for ever") < lines.index("end")


def test_mermaid_has_no_character_that_ends_a_message() -> None:
    shown = sample("shelf")
    system = shown.instance.system
    names = {"reader[0].put": "reader[0].put(a<b; #1 & c)"}
    steps = tuple(replace(step, name=names.get(step.name, step.name)) for step in system.transitions)
    chosen = replace(shown.instance)
    vars(chosen)["encoding"] = replace(shown.instance.encoding, system=replace(system, transitions=steps))
    run = replace(shown.run, fired=tuple(names.get(name, name) for name in shown.run.fired))
    assert "put(a#60;b#59; #35;1 #38; c)" in FORMS["mermaid"](Trace(chosen, None, run))


def drawing(name: str) -> ElementTree.Element:
    return ElementTree.fromstring(FORMS["svg"](sample(name)))


@pytest.mark.parametrize("name", CASES)
def test_svg_is_one_file_that_needs_no_other(name: str) -> None:
    shown = FORMS["svg"](sample(name))
    assert ElementTree.fromstring(shown).tag == f"{SVG}svg"
    assert re.findall(r"href|@import|url\((?!#)", shown) == []


@pytest.mark.parametrize("name", CASES)
def test_svg_keeps_everything_on_its_page(name: str) -> None:
    root = drawing(name)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for box in root.iter(f"{SVG}rect"):
        assert float(box.get("x", 0)) >= 0
        assert float(box.get("x", 0)) + float(box.attrib["width"]) <= width
        assert float(box.get("y", 0)) + float(box.attrib["height"]) <= height
    for line in root.iter(f"{SVG}text"):
        assert 0 <= float(line.attrib["y"]) <= height


@pytest.mark.parametrize("name", CASES)
def test_svg_has_no_overlapping_boxes(name: str) -> None:
    boxes = [
        tuple(float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        for box in drawing(name).iter(f"{SVG}rect")
        if "class" in box.attrib
    ]
    for i, (x, y, width, height) in enumerate(boxes):
        for other_x, other_y, other_width, other_height in boxes[:i]:
            apart = x >= other_x + other_width or other_x >= x + width
            assert apart or y >= other_y + other_height or other_y >= y + height


def test_svg_numbers_its_steps_and_names_their_functions() -> None:
    texts = [line.text for line in drawing("shelf").iter(f"{SVG}text")]
    assert {"1", "2", "shelf.c put", "take", "put", "books: 1 -> 2"} <= set(texts)


def test_svg_draws_a_loop() -> None:
    assert [path.get("class") for path in drawing("token-ring").iter(f"{SVG}path")].count("loop") == 1
    assert [path.get("class") for path in drawing("shelf").iter(f"{SVG}path")].count("loop") == 0


def test_svg_escapes_text(monkeypatch: pytest.MonkeyPatch) -> None:
    from avicheck.checker import trace_svg

    monkeypatch.setattr(trace_svg, "heading", lambda _instance, _width: ["<b> & \x07"])
    assert "&lt;b&gt; &amp; \\x07" in FORMS["svg"](sample("shelf"))
