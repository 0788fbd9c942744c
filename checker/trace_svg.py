"""A trace as a sequence diagram, in one SVG file that needs no other."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from avicheck.checker.errors import printable
from avicheck.checker.systems import heading
from avicheck.checker.trace import Trace
from avicheck.checker.trace_columns import claimed, explained, wrapped
from avicheck.checker.trace_words import Told, Words

_SHARED: Final = "shared state"
_CHARACTER: Final = 7.3
"""Pixels that a character takes, at most."""
_LINE: Final = 16
_PAD: Final = 8
_GAP: Final = 40
_MARGIN: Final = 60
_STYLE: Final = """\
text { font: 12px 'DejaVu Sans Mono', monospace; fill: #1b1f24; }
.head { font-weight: bold; }
.source { text-anchor: middle; fill: #57606a; font-style: italic; } .number { fill: #8c959f; }
.life { stroke: #afb8c1; stroke-dasharray: 4 4; } .arrow { stroke: #0550ae; } .read { stroke-dasharray: 5 3; }
.box { fill: #ddf4ff; stroke: #0550ae; } .shared { fill: #fff8c5; stroke: #9a6700; }
.loop { fill: none; stroke: #cf222e; } .why { fill: #cf222e; }"""


@dataclass(frozen=True)
class _Lane:
    """A lifeline: its name, where its middle is, and how wide its boxes may be."""

    name: str
    middle: float
    width: float


@dataclass(frozen=True)
class _Row:
    """What a step puts on the page: texts in its thread's box, and in a box of the shared state."""

    step: Told
    source: str
    own: tuple[str, ...]
    shared: tuple[str, ...]

    @property
    def height(self) -> int:
        """How much of the page it takes."""
        lines = max(len(self.own), len(self.shared))
        return lines * _LINE + 2 * _PAD + (_LINE + 4 if self.source else 0) + 8


def svg(shown: Trace) -> str:
    """The diagram: a lifeline for each thread that takes a step and one for the shared state; arrows to it
    for what a step writes, from it (dashed) for what a step goes by."""
    words, run = Words(shown.instance), shown.run
    rows = list(_rows(words.steps(run)))
    lanes = _lanes(words, rows)
    width = max(640.0, lanes[-1].middle + lanes[-1].width / 2 + _PAD)
    characters = int((width - 2 * _PAD) / _CHARACTER)
    head = heading(shown.instance, characters)
    why: list[str] = []
    if shown.claim is not None:
        head += wrapped(claimed(shown.claim), characters)
        sentences = explained(words, shown.claim, run)
        why = [line for sentence in sentences for line in wrapped(sentence, characters)]
    top = len(head) * _LINE + 2 * _LINE
    parts = [_line(_PAD, (i + 1) * _LINE + 4, text, "head") for i, text in enumerate(head)]
    y = top + 2 * _LINE
    steps: list[str] = []
    begins = y
    for row in rows:
        begins = y if row.step.number - 1 == run.loop else begins
        steps += _step(row, {lane.name: lane for lane in lanes}, y)
        y += row.height
    parts += _lifelines(lanes, top, y)
    parts += steps
    if run.loop is not None:
        parts += _loop(begins if run.loop < len(rows) else y, y)
        y += _LINE
    parts += [_line(_PAD, y + (i + 2) * _LINE, text, "why") for i, text in enumerate(why)]
    return _document(width, y + (len(why) + 3) * _LINE, parts)


def _rows(told: Iterable[Told]) -> Iterator[_Row]:
    inside: dict[str, str] = {}
    for step in told:
        source = step.source if inside.get(step.thread) != step.source else ""
        inside[step.thread] = step.source or inside.get(step.thread, "")
        own = [step.action, *(str(change) for change in step.changes if change.local)]
        shared = [str(change) for change in step.changes if not change.local]
        (own if step.access == "none" else shared).extend(step.notes)
        own += [f"goto {step.goes_to}"] if step.goes_to else []
        yield _Row(step, source, tuple(own), tuple(shared))


def _lanes(words: Words, rows: list[_Row]) -> list[_Lane]:
    """The lifelines, each as wide as its texts."""
    texts: dict[str, list[str]] = {thread: [] for thread in words.threads}
    for row in rows:
        texts[row.step.thread] += [*row.own, row.source]
    texts = {thread: [thread, *lines] for thread, lines in texts.items() if lines}
    texts[_SHARED] = [_SHARED, *(line for row in rows for line in row.shared)]
    lanes, x = [], float(_MARGIN)
    for name, lines in texts.items():
        width = max(map(len, lines)) * _CHARACTER + 2 * _PAD
        lanes.append(_Lane(name, x + width / 2, width))
        x += width + _GAP
    return lanes


# Parts of the picture.


def _step(row: _Row, lanes: dict[str, _Lane], y: float) -> Iterator[str]:
    lane, shared = lanes[row.step.thread], lanes[_SHARED]
    if row.source:
        yield _line(lane.middle, y + _LINE - 2, row.source, "source")
        y += _LINE + 4
    yield _line(_PAD, y + _PAD + _LINE - 4, str(row.step.number), "number")
    if row.step.access != "none":
        lines = row.shared or ("...",)
        ends = [lane.middle + _width(row.own) / 2, shared.middle - _width(lines) / 2]
        if row.step.access == "read":
            ends.reverse()
        read = " read" if row.step.access == "read" else ""
        at = y + _PAD + _LINE / 2
        yield (
            f'<line class="arrow{read}" x1="{ends[0]:g}" y1="{at:g}" x2="{ends[1]:g}" y2="{at:g}" '
            'marker-end="url(#head)"/>'
        )
        yield from _box(shared.middle, y, lines, "shared")
    yield from _box(lane.middle, y, row.own, "box")


def _width(lines: Iterable[str]) -> float:
    return max(map(len, lines)) * _CHARACTER + 2 * _PAD


def _box(middle: float, y: float, lines: tuple[str, ...], kind: str) -> Iterator[str]:
    width, height = _width(lines), len(lines) * _LINE + _PAD
    left = middle - width / 2
    yield (f'<rect class="{kind}" x="{left:g}" y="{y + 2:g}" width="{width:g}" height="{height:g}" rx="4"/>')
    for i, text in enumerate(lines):
        yield _line(left + _PAD, y + _LINE * (i + 1) + 1, text, "head" if kind == "box" and i == 0 else "")


def _lifelines(lanes: list[_Lane], top: float, bottom: float) -> Iterator[str]:
    for lane in lanes:
        yield f'<line class="life" x1="{lane.middle:g}" y1="{top:g}" x2="{lane.middle:g}" y2="{bottom:g}"/>'
        yield from _box(lane.middle, top - _LINE, (lane.name,), "shared" if lane.name == _SHARED else "box")


def _loop(begins: float, ends: float) -> Iterator[str]:
    """An arrow back to where the loop begins, at the left."""
    x, far, top = _MARGIN - 14, _MARGIN - 24, min(begins + 10, ends - 6)
    yield f'<path class="loop" d="M{x} {ends:g} H{far} V{top:g} H{x}" marker-end="url(#back)"/>'
    yield _line(_PAD, ends + _LINE, "for ever", "why")


def _line(x: float, y: float, text: str, kind: str) -> str:
    shown = html.escape(printable(text.replace("\N{NO-BREAK SPACE}", " ")))
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" xml:space="preserve">{shown}</text>'


def _document(width: float, height: float, parts: Iterable[str]) -> str:
    def marker(name: str, colour: str) -> str:
        shape = f'<path d="M0 0 L8 4 L0 8 z" fill="{colour}"/>'
        return (
            f'<marker id="{name}" markerWidth="8" markerHeight="8" refX="8" refY="4" orient="auto">'
            f"{shape}</marker>"
        )

    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
        f"<style>\n{_STYLE}\n</style>",
        f"<defs>{marker('head', '#0550ae')}{marker('back', '#cf222e')}</defs>",
        f'<rect width="{width:g}" height="{height:g}" fill="white"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"
