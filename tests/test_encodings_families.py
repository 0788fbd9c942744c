"""Which instances of a model may be interchangeable, and how they are exchanged."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final

import pytest

from avicheck.checker.errors import InputError
from avicheck.checker.explore import explore
from avicheck.encodings.machine import encode
from avicheck.encodings.transition import Exchange, Family, TransitionSystem
from avicheck.spec.cpu import FREE, Cpu
from avicheck.spec.lang import Scope, SizedBy
from avicheck.spec.machine import Machine
from avicheck.spec.memory import Vars, local, shared
from avicheck.spec.threads import Model, Thread

FIRST, SECOND = FREE + 1, FREE + 2


@shared
class Mailbox:
    letters: Annotated[Vars[bool], SizedBy("boxes")]


@local
class Nothing:
    pass


ALL: Final = Thread("all", Nothing)
ONE: Final = Thread("one", Nothing)


@ALL.step()
def write_first(cpu: Cpu, my: Nothing) -> None:
    cpu.store(Mailbox.letters[0], True)


@ALL.step()
def write_second(cpu: Cpu, my: Nothing) -> str:
    cpu.store(Mailbox.letters[1], True)
    return "write_first"


@ONE.step()
def write_one(cpu: Cpu, my: Nothing) -> str:
    cpu.store(Mailbox.letters[0], True)
    return "write_one"


def empty(scope: Scope, options: frozenset[Enum]) -> list[Mailbox]:
    return [Mailbox((False,) * scope["boxes"])]


def mailbox(writer: Thread[Nothing]) -> TransitionSystem:
    """Two boxes, under x86-TSO with a store buffer that holds one store."""
    model = Model("mailbox", Mailbox, (writer,), empty, ())
    return encode(Machine(model, {"boxes": 2, "store_buffer": 1}, "tso")).system


def test_buffered_stores_are_exchanged_with_their_targets() -> None:
    swapped = {"all.buffer[0].at": ((FIRST, SECOND),)}
    expected = Family("boxes", (Exchange((("letters[0]", "letters[1]"),), swapped),))
    assert mailbox(ALL).families == (expected,)


def test_buffer_for_one_of_the_targets_stays_as_it_is() -> None:
    expected = Family("boxes", (Exchange((("letters[0]", "letters[1]"),), {}),))
    assert mailbox(ONE).families == (expected,)


def test_targets_of_which_one_alone_is_stored_to_are_told_apart() -> None:
    with pytest.raises(InputError, match=r"boxes 0 and 1, which differ in step one\.flush"):
        explore(mailbox(ONE), reduce=["symmetry"])
