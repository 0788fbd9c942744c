"""One obligation: that the hand-written rules and the lifted specification give some values alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from avicheck.checker.solve import Query
from avicheck.checker.voices import SIGNED, Voices
from avicheck.encodings.cuts import Cuts, Script, Values
from avicheck.encodings.expr import Expr
from avicheck.spec.kernels import KERNELS, Kernel


def compare(
    voices: Voices,
    part: str,
    sentence: str,
    names: Collection[str],
    given: Iterable[Expr] = (),
    cuts: Cuts | None = None,
) -> Query:
    """The question whether, where all of ``given`` holds, some of the named values can differ."""
    values = [(voices.lifted[name], voices.stated[name], name in SIGNED) for name in names]
    return compare_values(voices, part, sentence, values, given, cuts)


def compare_values(
    voices: Voices,
    part: str,
    sentence: str,
    values: Values,
    given: Iterable[Expr] = (),
    cuts: Cuts | None = None,
) -> Query:
    """The question whether, where all of ``given`` holds, some values can differ."""
    script = Script(voices.variables, cuts)
    script.require(voices.ok, *given)
    script.differ_somewhere(values)
    return as_query(voices, part, sentence, script)


def as_query(voices: Voices, part: str, sentence: str, script: Script) -> Query:
    """A script as a query with its name and a sentence that says what it is about."""
    name, others = named(voices, part), alike(voices.kernel)
    sentence = f"{sentence} Kernel {' = '.join(others or [voices.kernel.name])}, {voices.vcpus} vCPUs."
    text = script.text([f"{name}: {sentence}"], "unsat")
    return Query(name, sentence, text, tuple(voices.variables))


def named(voices: Voices, part: str) -> str:
    """The name of an obligation."""
    return f"equal/{voices.subject.name}/{voices.kernel.name}/{voices.vcpus}/{part}"


def alike(kernel: Kernel) -> list[str]:
    """The known kernels whose fixes are the same, in their order: one proof serves them all."""
    return [other.name for other in KERNELS.values() if other.fixes == kernel.fixes]
