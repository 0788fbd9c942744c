"""One representative for each orbit, in Python and compiled: the smallest of all that exchanges lead to."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable

import pytest

from avicheck.checker.jit import compiled
from avicheck.encodings.canonical import canonical, permutations
from avicheck.encodings.expr import FALSE
from avicheck.encodings.packing import Layout, layout
from avicheck.encodings.symmetry import exchanged
from avicheck.encodings.to_llvm import canonical_text
from avicheck.encodings.to_python import compile_canonical
from avicheck.encodings.transition import Exchange, Family, TransitionSystem, Values, Variable


def family(name: str, count: int, fields: list[str], pointers: list[str]) -> Family:
    """Instances that are records ``name[i].field``, to which the variables of ``pointers`` point."""
    pairs = [
        tuple((f"{name}[{i}].{field}", f"{name}[{i + 1}].{field}") for field in fields)
        for i in range(count - 1)
    ]
    return Family(
        name, tuple(Exchange(pair, dict.fromkeys(pointers, ((i, i + 1),))) for i, pair in enumerate(pairs))
    )


def instances(chance: random.Random, widths: list[int]) -> TransitionSystem:
    """Two families, as records in any order; those of ``a`` may be pointed to, from anywhere."""
    counts = {"a": chance.randint(2, 3), "b": chance.randint(2, 4)}
    fields = {name: [f"f{k}" for k in range(chance.randint(1, 3))] for name in counts}
    tops = {(name, field): (1 << chance.choice(widths)) - 1 for name in counts for field in fields[name]}
    variables = [
        Variable(f"{name}[{i}].{field}", 0, tops[name, field])
        for name, count in counts.items()
        for i in range(count)
        for field in fields[name]
    ]
    to_a = []
    if chance.random() < 0.6:
        to_a = ["head", *(f"b[{i}].to" for i in range(counts["b"]))]
        variables += [Variable(name, -1, counts["a"] - 1) for name in to_a]
        fields["b"].append("to")
    if chance.random() < 0.3:
        chance.shuffle(variables)
    families = (
        family("a", counts["a"], fields["a"], to_a),
        family("b", counts["b"], fields["b"], []),
    )
    return TransitionSystem("instances", tuple(variables), (), (), (), FALSE, families)


def orbit(system: TransitionSystem, state: Values) -> list[Values]:
    """All that exchanges lead to."""
    found = [state]
    for each in found:
        for group in system.families:
            for exchange in group.exchanges:
                after = exchanged(exchange, each)
                if after not in found:
                    found.append(after)
    return found


def states(system: TransitionSystem, chance: random.Random, count: int) -> list[Values]:
    """States at random, many of them with equal values."""
    return [
        {
            v.name: chance.choice([v.lo, v.hi, min(v.lo + 1, v.hi), chance.randint(v.lo, v.hi)])
            for v in system.variables
        }
        for _ in range(count)
    ]


def native(system: TransitionSystem, form: Layout) -> Callable[[int], int]:
    """The compiled function."""
    text = canonical_text(canonical(system.families, form), form).replace("define internal", "define")
    functions, kept = compiled([text], {"canonical": (None, ctypes.c_void_p)})

    def call(packed: int) -> int:
        words = ctypes.create_string_buffer(packed.to_bytes(form.words * 8, "little"))
        functions["canonical"](ctypes.addressof(words))
        assert kept is not None
        return int.from_bytes(words.raw[: form.words * 8], "little")

    return call


@pytest.mark.parametrize("widths", [[1, 2, 3], [5, 9, 14], [30, 40, 70]], ids=["one word", "some", "wide"])
def test_the_representative_is_the_smallest(widths: list[int]) -> None:
    walked = set()
    for seed in range(20):
        chance = random.Random(seed)
        system = instances(chance, widths)
        form = layout(system)
        walked.add(permutations(system.families, form))
        python = compile_canonical(canonical(system.families, form))
        machine = native(system, form) if seed < 4 else python
        for state in states(system, chance, 10):
            members = [form.pack(member) for member in orbit(system, state)]
            found = {python(member) for member in members} | {machine(members[0])}
            assert found == {min(members)}
    assert {1, 2, 6} <= walked


def test_a_variable_of_two_instances_has_all_permutations_gone_through() -> None:
    names = [[f"m[{i}][{j}]" for j in range(3)] for i in range(3)]
    exchanges = []
    for i in range(2):
        to = {i: i + 1, i + 1: i}
        pairs = {
            tuple(sorted((names[a][b], names[to.get(a, a)][to.get(b, b)])))
            for a in range(3)
            for b in range(3)
        }
        exchanges.append(Exchange(tuple((a, b) for a, b in sorted(pairs) if a != b), {}))
    variables = tuple(Variable(name, 0, 3) for row in names for name in row)
    system = TransitionSystem("matrix", variables, (), (), (), FALSE, (Family("m", tuple(exchanges)),))
    form, chance = layout(system), random.Random(1)
    assert permutations(system.families, form) == 6
    python = compile_canonical(canonical(system.families, form))
    for state in states(system, chance, 50):
        members = [form.pack(member) for member in orbit(system, state)]
        assert {python(member) for member in members} == {min(members)}
