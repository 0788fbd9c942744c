"""What the voices of a crosscheck tell about states, held against each other, on several processes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from avicheck.checker.crosscheck_report import KEPT, Difference, Part, Steps, Tally, Told
from avicheck.checker.crosscheck_voices import Voice
from avicheck.checker.interrupt import poll
from avicheck.checker.processes import in_order
from avicheck.encodings.packing import Layout
from avicheck.encodings.transition import Values

BATCH: Final = 50
"""States that the voices are asked about at a time."""


@dataclass(frozen=True)
class Comparison:
    """Voices about the states of a layout, of a system with so many transitions."""

    voices: Sequence[Voice]
    form: Layout
    transitions: int

    def parts(self) -> list[Part]:
        """What each voice has told before it is asked."""
        return [
            Part(voice.name, self.transitions if voice.covers is None else len(voice.covers))
            for voice in self.voices
        ]

    def of(self, states: Sequence[int]) -> Tally:
        """What the voices tell about some states, and where one differs from most."""
        tally, heard = Tally(self.parts()), list[list[Told]]()
        for voice, part in zip(self.voices, tally.parts, strict=True):
            began = time.monotonic()
            heard.append(_hear(voice, states, heard))
            poll()
            part.seconds += time.monotonic() - began
        for state, *told in zip(states, *heard, strict=True):
            whole = zip(self.voices, told, strict=True)
            expected = _most([found for voice, found in whole if voice.covers is None])
            tally.fired.update(name for name, _ in expected.steps)
            for voice, part, found in zip(self.voices, tally.parts, told, strict=True):
                part.states += 1
                part.transitions += len(found.steps)
                difference = _difference(voice, self.form, state, found, expected)
                if difference is not None:
                    part.differing += 1
                    part.differences += [difference] if part.differing <= KEPT else []
        return tally

    def all_of(self, states: Sequence[int], jobs: int, going: Callable[[], bool]) -> Iterator[Tally]:
        """The same in batches, in their order, on so many processes, as long as it is ``going``."""
        batches = (states[start : start + BATCH] for start in range(0, len(states), BATCH))
        several = jobs if len(states) > BATCH else 1
        return in_order(self.of, takewhile(lambda _batch: going(), batches), several)


def _hear(voice: Voice, states: Sequence[int], before: Sequence[Sequence[Told]]) -> list[Told]:
    """What a voice tells. One that would rather confirm is asked about what most of those ``before`` tell,
    who know every transition, and tells by itself if that is not what it finds."""
    if voice.confirms is not None and before:
        steps = [_covered(voice, _most(told).steps) for told in zip(*before, strict=True)]
        if voice.confirms(states, steps):
            return [Told(each) for each in steps]
    return voice.tell(states)


def _covered(voice: Voice, steps: Steps) -> Steps:
    """Those of the transitions that a voice knows."""
    return steps if voice.covers is None else frozenset(step for step in steps if step[0] in voice.covers)


def _most(told: Sequence[Told]) -> Told:
    """What most voices tell about a state; the first of them where there are as many for each."""
    steps = Counter(found.steps for found in told)
    true = Counter(found.true for found in told if found.true is not None)
    return Told(steps.most_common(1)[0][0], true.most_common(1)[0][0])


def _difference(voice: Voice, form: Layout, state: int, found: Told, expected: Told) -> Difference | None:
    """How a voice differs from what most tell about a state, as far as it tells of the same."""
    steps, true = _covered(voice, expected.steps), expected.true or frozenset()
    holds = true if found.true is None else found.true
    if found.steps == steps and holds == true:
        return None
    return Difference(
        voice.name,
        form.unpack(state),
        _unpacked(form, found.steps - steps),
        _unpacked(form, steps - found.steps),
        tuple(sorted(holds - true)),
        tuple(sorted(true - holds)),
    )


def _unpacked(form: Layout, steps: Iterable[tuple[str, int]]) -> tuple[tuple[str, Values | None], ...]:
    return tuple((name, None if state < 0 else form.unpack(state)) for name, state in sorted(steps))
