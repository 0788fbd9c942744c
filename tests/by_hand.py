"""Step relations written by hand, compared with the model's own functions."""

from __future__ import annotations

from typing import Any

from avicheck.checker.crosscheck_voices import Handwritten, run, stated
from avicheck.checker.explore import explore_states
from avicheck.encodings.machine import encode
from avicheck.encodings.packing import layout
from avicheck.spec.machine import Machine


def differing(relation: Handwritten, machine: Machine[Any], asked: int) -> set[str]:
    """The steps that a relation tells otherwise than the model's functions, and those that none takes: in so
    many reachable states, evenly spread in the order of discovery."""
    encoding = encode(machine)
    form = layout(encoding.system)
    found, snapshot = explore_states(encoding.system)
    size = form.words * 8
    numbers = range(0, found.states, max(found.states // asked, 1))
    states = [int.from_bytes(snapshot.states[n * size : (n + 1) * size], "little") for n in numbers]
    by_hand = stated(encoding.machine, encoding.system, form, relation)
    covers = by_hand.covers or frozenset()
    pairs = [
        ({step for step in ran.steps if step[0] in covers}, hand.steps)
        for ran, hand in zip(run(encoding, form).tell(states), by_hand.tell(states), strict=True)
    ]
    seen = {name for ran, _ in pairs for name, _ in ran}
    return {name for ran, hand in pairs for name, _ in ran ^ hand} | (covers - seen)
