"""Breadth-first search as LLVM IR, around the functions of ``to_llvm`` and the table of ``llvm_table``.

Known states are kept in the order of their discovery, with the number of the state that each was reached
from. The search has two halves, which may run in two threads at a time: ``produce`` expands states
and puts their successors into batches, ``consume`` takes the batches in their order and keeps what is new.
Which thread is how fast makes no difference to what is found, in which order, and by which way. Where the
producer is ahead, it leaves out successors that it finds in the table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from avicheck.encodings.expr import Expr
from avicheck.encodings.llvm_table import Shape, table_text
from avicheck.encodings.packing import Layout
from avicheck.encodings.to_llvm import RECORD_EXTRA, canonical_text, ended_text, expand_text, select_text
from avicheck.encodings.transition import TransitionSystem

if TYPE_CHECKING:
    from avicheck.encodings.canonical import Canonical

CONTEXT: Final = (
    "states",  # the states' words, in the order of discovery
    "parents",  # for each, as 32 bits, the number of the state that it was reached from
    "table",
    "batches",  # room for records, for each batch in turn
    "ends",  # where the records of each end
    "nexts",  # up to which state each goes
    "fired",
    "asked",  # a byte for each expression to look for
    "shift",  # how many bits of the hash lie below the number of the bucket
    "end",  # where to stop expanding
    "room",  # how many states may be known before a batch is taken
    "stop",  # not 0: produce no more
    "alarm",  # the number of a new state in which an expression holds, or -1
    "size",  # of a batch, in bytes
    "unused1",
    "unused2",
    # what the producer changes
    "ahead",  # the first state that is not expanded yet
    "produced",  # how many batches are
    "over",  # not 0: there will be no more for now
    "widest",  # bytes of the longest list of successors
    "stuck",  # the first state without successors that has not ended, or -1
    "fault",  # a transition's position plus one
    "faulty",  # and the state from which it leads beyond a variable's bounds
    "unused3",
    # what the consumer changes
    "consumed",  # how many batches are
    "next",  # the first state whose successors are not all known
    "count",  # states known
    "todo",  # the record to go on with in a batch that is partly consumed, or 0
    "crowded",  # not 0: that record found no slot
)
"""The 64-bit fields of the record that the functions share with their caller."""

RING: Final = 16
"""Batches between the producer and the consumer."""
BATCH: Final = 256
"""Records after which a batch is full."""
_LEAD: Final = 4
"""With so many batches in front of it the producer takes the time to look for known states."""
_AHEAD: Final = 16
_PATIENCE: Final = 256
_PAUSES: Final = {"x86_64": "llvm.x86.sse2.pause()", "aarch64": "llvm.aarch64.hint(i32 1)"}
_POINTERS: Final = ("states", "parents", "table", "batches", "ends", "nexts", "fired", "asked")


def batch_bytes(form: Shape, transitions: int) -> int:
    """Room for the records of a batch: the last state's may exceed it."""
    return (BATCH + transitions) * record_bytes(form)


def record_bytes(form: Shape) -> int:
    """The size of a successor's record."""
    return (form.words + RECORD_EXTRA) * 8


def model_text(
    system: TransitionSystem,
    layout: Layout,
    expressions: Sequence[Expr],
    symmetry: Canonical | None = None,
) -> str:
    """A module with what a search has to know of a system: its successor function ``expand``, ``ended`` and
    ``select``, and under a symmetry ``canonical``."""
    expand, parts = expand_text(system, layout)
    texts = [
        expand,
        _together(parts),
        ended_text(system, layout),
        select_text(expressions, layout),
        *([] if symmetry is None else [canonical_text(symmetry, layout)]),
    ]
    return "\n".join(texts).replace("define internal ", "define ")


def _together(parts: Sequence[str]) -> str:
    """The successor function, of its parts."""
    calls = "\n".join(
        f"  %out{k + 1} = call ptr @{part}(ptr %state, ptr %out{k}, i64 %number, ptr %fired, ptr %fault)"
        for k, part in enumerate(parts)
    )
    return f"""
define ptr @expand(ptr %state, ptr %out0, i64 %number, ptr %fired, ptr %fault) {{
{calls}
  ret ptr %out{len(parts)}
}}"""


def search_text(form: Shape, symmetry: bool) -> str:
    """A module that searches by the functions of a ``model_text``. Its functions take a context; under a
    symmetry all states are representatives of their orbits:

    * ``produce``: expand states from ``ahead`` to ``end``, into so many batches at most; return early if
      told to ``stop``, or at a fault
    * ``consume``: take batches until the producer is ``over``; return early without room, at an alarm,
      or where a record finds no slot
    * ``search``: both by turns, in one thread
    * ``fill``: give all known states a slot in an empty table; false if one finds none
    * ``scan``: the number of the first known state, from a given one on, in which an expression that is
      asked for holds; ``count`` if there is none

    and the table's ``spread``."""
    return "\n".join(
        [
            "declare ptr @expand(ptr, ptr, i64, ptr, ptr)",
            "declare i1 @ended(ptr)",
            "declare i1 @select(ptr, ptr)",
            *(["declare void @canonical(ptr)"] if symmetry else []),
            _idle(),
            table_text(form),
            _produce(form, symmetry),
            _consume(form),
            _SEARCH,
            _fill(form),
            _scan(form),
        ]
    )


def _idle() -> str:
    """What a thread does while it waits for the other, for the so many-th time: it lets the other half of its
    core work, and in the end other threads."""
    pause = _PAUSES.get(os.uname().machine)
    declared = f"declare void @{re.sub('i32 1', 'i32', pause)}" if pause else ""
    return f"""
declare i32 @sched_yield()
{declared}
define internal void @idle(i64 %turn) {{
  %rest = urem i64 %turn, {_PATIENCE}
  %long = icmp eq i64 %rest, 0
  br i1 %long, label %yield, label %spin
spin:
  {f"call void @{pause}" if pause else ""}
  ret void
yield:
  %yielded = call i32 @sched_yield()
  ret void
}}"""


def _at(name: str) -> str:
    """The place of a field in the context."""
    return f"getelementptr inbounds i64, ptr %ctx, i64 {CONTEXT.index(name)}"


def _places(*names: str) -> str:
    """The places of fields, as values of their names."""
    return "\n".join(f"  %{name}.p = {_at(name)}" for name in names)


def _get(*names: str) -> str:
    """Load fields into values of their names."""
    lines = [_places(*names)]
    lines += [f"  %{name} = load {'ptr' if name in _POINTERS else 'i64'}, ptr %{name}.p" for name in names]
    return "\n".join(lines)


def _produce(form: Shape, symmetry: bool) -> str:
    record = record_bytes(form)
    return f"""
define void @produce(ptr %ctx, i64 %most) {{
entry:
{_get("states", "table", "batches", "size", "ends", "nexts", "fired", "end", "shift")}
{_places("stop", "ahead", "produced", "over", "widest", "stuck", "fault", "consumed")}
  br label %more
more:
  %made = phi i64 [0, %entry], [%made.next, %publish]
  %first = load i64, ptr %ahead.p
  %fault.now = load i64, ptr %fault.p
  %left = icmp ult i64 %first, %end
  %fewer = icmp ult i64 %made, %most
  %fine = icmp eq i64 %fault.now, 0
  %on0 = and i1 %left, %fewer
  %on = and i1 %on0, %fine
  br i1 %on, label %wait, label %done
wait:
  %turn = phi i64 [1, %more], [%turn.next, %yield]
  %k = load i64, ptr %produced.p
  %taken = load atomic i64, ptr %consumed.p acquire, align 8
  %lead = sub i64 %k, %taken
  %free = icmp ult i64 %lead, {RING}
  br i1 %free, label %begin, label %pause
pause:
  %stop = load atomic i64, ptr %stop.p acquire, align 8
  %stopped = icmp ne i64 %stop, 0
  br i1 %stopped, label %done, label %yield
yield:
  call void @idle(i64 %turn)
  %turn.next = add i64 %turn, 1
  br label %wait
begin:
  %slot = and i64 %k, {RING - 1}
  %offset = mul i64 %slot, %size
  %batch = getelementptr i8, ptr %batches, i64 %offset
  %full = getelementptr i8, ptr %batch, i64 {BATCH * record}
  br label %expand
expand:
  %i = phi i64 [%first, %begin], [%i.next, %expanded]
  %out = phi ptr [%batch, %begin], [%out.next, %expanded]
  %state.offset = mul i64 %i, {form.words}
  %state = getelementptr inbounds i64, ptr %states, i64 %state.offset
  %out.next = call ptr @expand(ptr %state, ptr %out, i64 %i, ptr %fired, ptr %fault.p)
  %from.i = ptrtoint ptr %out to i64
  %to.i = ptrtoint ptr %out.next to i64
  %length = sub i64 %to.i, %from.i
  %widest = load i64, ptr %widest.p
  %wider = icmp ugt i64 %length, %widest
  br i1 %wider, label %widen, label %narrow
widen:
  store i64 %length, ptr %widest.p
  br label %narrow
narrow:
  %none = icmp eq i64 %length, 0
  br i1 %none, label %dry, label %expanded
dry:
  %fault.here = load i64, ptr %fault.p
  %faulted = icmp ne i64 %fault.here, 0
  %ended = call i1 @ended(ptr %state)
  %stuck = load i64, ptr %stuck.p
  %known = icmp ne i64 %stuck, -1
  %expected = or i1 %ended, %known
  %quiet = or i1 %expected, %faulted
  br i1 %quiet, label %expanded, label %deadlock
deadlock:
  store i64 %i, ptr %stuck.p
  br label %expanded
expanded:
  %i.next = add i64 %i, 1
  %i.left = icmp ult i64 %i.next, %end
  %space = icmp ult ptr %out.next, %full
  %again = and i1 %i.left, %space
  br i1 %again, label %expand, label %hashing
hashing:
  %far = icmp uge i64 %lead, {_LEAD}
  %any = icmp ult ptr %batch, %out.next
  br i1 %any, label %hash, label %publish
hash:
  %h = phi ptr [%batch, %hashing], [%h.next, %hashed]
  {"call void @canonical(ptr %h)" if symmetry else ""}
  %h.hash = call i64 @hash(ptr %h)
  %h.slot = getelementptr inbounds i64, ptr %h, i64 {form.words + 1}
  store i64 %h.hash, ptr %h.slot
  br i1 %far, label %fetch, label %hashed
fetch:
  call void @ahead(ptr %table, i64 %shift, i64 %h.hash)
  br label %hashed
hashed:
  %h.next = getelementptr inbounds i8, ptr %h, i64 {record}
  %h.more = icmp ult ptr %h.next, %out.next
  br i1 %h.more, label %hash, label %hashed.all
hashed.all:
  br i1 %far, label %sift, label %publish
sift:
  %r = phi ptr [%batch, %hashed.all], [%r.next, %sifted]
  %kept = phi ptr [%batch, %hashed.all], [%kept.next, %sifted]
  %r.slot = getelementptr inbounds i64, ptr %r, i64 {form.words + 1}
  %r.hash = load i64, ptr %r.slot
  %old = call i1 @known(ptr %table, ptr %states, i64 %shift, i64 %r.hash, ptr %r)
  br i1 %old, label %sifted, label %keep
keep:
{_copied(form.words + RECORD_EXTRA, "r", "kept")}
  %kept.more = getelementptr inbounds i8, ptr %kept, i64 {record}
  br label %sifted
sifted:
  %kept.next = phi ptr [%kept, %sift], [%kept.more, %keep]
  %r.next = getelementptr inbounds i8, ptr %r, i64 {record}
  %r.more = icmp ult ptr %r.next, %out.next
  br i1 %r.more, label %sift, label %publish
publish:
  %until = phi ptr [%out.next, %hashing], [%out.next, %hashed.all], [%kept.next, %sifted]
  %end.p2 = getelementptr inbounds ptr, ptr %ends, i64 %slot
  store ptr %until, ptr %end.p2
  %next.p2 = getelementptr inbounds i64, ptr %nexts, i64 %slot
  store i64 %i.next, ptr %next.p2
  store i64 %i.next, ptr %ahead.p
  %k.next = add i64 %k, 1
  store atomic i64 %k.next, ptr %produced.p release, align 8
  %made.next = add i64 %made, 1
  br label %more
done:
  store atomic i64 1, ptr %over.p release, align 8
  ret void
}}"""


def _copied(words: int, source: str, target: str) -> str:
    """Copy so many words."""
    lines = []
    for k in range(words):
        lines += [
            f"  %{source}.from{k} = getelementptr inbounds i64, ptr %{source}, i64 {k}",
            f"  %{source}.word{k} = load i64, ptr %{source}.from{k}",
            f"  %{source}.into{k} = getelementptr inbounds i64, ptr %{target}, i64 {k}",
            f"  store i64 %{source}.word{k}, ptr %{source}.into{k}",
        ]
    return "\n".join(lines)


def _consume(form: Shape) -> str:
    record = record_bytes(form)
    return f"""
define void @consume(ptr %ctx) {{
entry:
{_get("states", "parents", "table", "batches", "size", "ends", "nexts", "asked", "shift", "room")}
{_places("alarm", "produced", "over", "consumed", "next", "count", "todo", "crowded")}
  br label %look
look:
  %turn = phi i64 [1, %entry], [%turn.next, %yield], [1, %taken]
  %k = load i64, ptr %consumed.p
  %made = load atomic i64, ptr %produced.p acquire, align 8
  %some = icmp ult i64 %k, %made
  br i1 %some, label %begin, label %wait
wait:
  %over = load atomic i64, ptr %over.p acquire, align 8
  %made.last = load atomic i64, ptr %produced.p acquire, align 8
  %really = icmp ne i64 %over, 0
  %none = icmp eq i64 %k, %made.last
  %done = and i1 %really, %none
  br i1 %done, label %return, label %yield
yield:
  call void @idle(i64 %turn)
  %turn.next = add i64 %turn, 1
  br label %look
begin:
  %count.now = load i64, ptr %count.p
  %roomy = icmp ult i64 %count.now, %room
  br i1 %roomy, label %take, label %return
take:
  %slot = and i64 %k, {RING - 1}
  %offset = mul i64 %slot, %size
  %batch = getelementptr i8, ptr %batches, i64 %offset
  %end.p = getelementptr inbounds ptr, ptr %ends, i64 %slot
  %upto = load ptr, ptr %end.p
  %todo = load ptr, ptr %todo.p
  %fresh.batch = icmp eq ptr %todo, null
  %start = select i1 %fresh.batch, ptr %batch, ptr %todo
  store ptr null, ptr %todo.p
  %any = icmp ult ptr %start, %upto
  br i1 %any, label %fetch, label %taken
fetch:
  %h = phi ptr [%start, %take], [%h.next, %fetch]
  %h.slot = getelementptr inbounds i64, ptr %h, i64 {form.words + 1}
  %h.hash = load i64, ptr %h.slot
  call void @ahead(ptr %table, i64 %shift, i64 %h.hash)
  %h.next = getelementptr inbounds i8, ptr %h, i64 {record}
  %h.more = icmp ult ptr %h.next, %upto
  br i1 %h.more, label %fetch, label %store
store:
  %r = phi ptr [%start, %fetch], [%r.next, %stored]
  %r.slot = getelementptr inbounds i64, ptr %r, i64 {form.words + 1}
  %r.hash = load i64, ptr %r.slot
  %count = load i64, ptr %count.p
  %new.offset = mul i64 %count, {form.words}
  %new = getelementptr inbounds i64, ptr %states, i64 %new.offset
{_copied(form.words, "r", "new")}
  %found = call i64 @place(ptr %table, ptr %states, i64 %shift, i64 %r.hash, i64 %count, ptr %r)
  switch i64 %found, label %overflow [i64 0, label %stored  i64 1, label %fresh]
fresh:
  %parent.p = getelementptr inbounds i64, ptr %r, i64 {form.words}
  %parent = load i64, ptr %parent.p
  %parent.32 = trunc i64 %parent to i32
  %link = getelementptr inbounds i32, ptr %parents, i64 %count
  store i32 %parent.32, ptr %link
  %count.next = add i64 %count, 1
  store i64 %count.next, ptr %count.p
  %alarming = call i1 @select(ptr %new, ptr %asked)
  br i1 %alarming, label %alarmed, label %stored
stored:
  %r.next = getelementptr inbounds i8, ptr %r, i64 {record}
  %r.more = icmp ult ptr %r.next, %upto
  br i1 %r.more, label %store, label %taken
taken:
  %next.p2 = getelementptr inbounds i64, ptr %nexts, i64 %slot
  %until = load i64, ptr %next.p2
  store i64 %until, ptr %next.p
  %k.next = add i64 %k, 1
  store atomic i64 %k.next, ptr %consumed.p release, align 8
  br label %look
alarmed:
  store i64 %count, ptr %alarm.p
  %r.after = getelementptr inbounds i8, ptr %r, i64 {record}
  store ptr %r.after, ptr %todo.p
  br label %return
overflow:
  store ptr %r, ptr %todo.p
  store i64 1, ptr %crowded.p
  br label %return
return:
  ret void
}}"""


_SEARCH: Final = f"""
define void @search(ptr %ctx) {{
entry:
{_get("end")}
{_places("produced", "consumed", "next", "fault")}
  br label %consume
consume:
  call void @consume(ptr %ctx)
  %made = load i64, ptr %produced.p
  %taken = load i64, ptr %consumed.p
  %next = load i64, ptr %next.p
  %fault = load i64, ptr %fault.p
  %quiet = icmp eq i64 %made, %taken
  %left = icmp ult i64 %next, %end
  %fine = icmp eq i64 %fault, 0
  %on0 = and i1 %quiet, %left
  %on = and i1 %on0, %fine
  br i1 %on, label %produce, label %return
produce:
  call void @produce(ptr %ctx, i64 1)
  br label %consume
return:
  ret void
}}"""


def _fill(form: Shape) -> str:
    return f"""
define i1 @fill(ptr %ctx) {{
entry:
{_get("states", "table", "shift", "count")}
  %last = sub i64 %count, 1
  br label %next
next:
  %i = phi i64 [0, %entry], [%i.next, %placed]
  %far = add i64 %i, {_AHEAD}
  %beyond = icmp ugt i64 %far, %last
  %ahead = select i1 %beyond, i64 %last, i64 %far
  %ahead.offset = mul i64 %ahead, {form.words}
  %ahead.state = getelementptr inbounds i64, ptr %states, i64 %ahead.offset
  %ahead.hash = call i64 @hash(ptr %ahead.state)
  call void @ahead(ptr %table, i64 %shift, i64 %ahead.hash)
  %offset = mul i64 %i, {form.words}
  %state = getelementptr inbounds i64, ptr %states, i64 %offset
  %hash = call i64 @hash(ptr %state)
  %found = call i64 @place(ptr %table, ptr %states, i64 %shift, i64 %hash, i64 %i, ptr %state)
  %fine = icmp ule i64 %found, 1
  br i1 %fine, label %placed, label %overflow
placed:
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %count
  br i1 %more, label %next, label %done
done:
  ret i1 true
overflow:
  ret i1 false
}}"""


def _scan(form: Shape) -> str:
    return f"""
define i64 @scan(ptr %ctx, i64 %from) {{
entry:
{_get("states", "asked", "count")}
  br label %next
next:
  %i = phi i64 [%from, %entry], [%i.next, %quiet]
  %more = icmp ult i64 %i, %count
  br i1 %more, label %look, label %done
look:
  %offset = mul i64 %i, {form.words}
  %state = getelementptr inbounds i64, ptr %states, i64 %offset
  %alarm = call i1 @select(ptr %state, ptr %asked)
  br i1 %alarm, label %done, label %quiet
quiet:
  %i.next = add i64 %i, 1
  br label %next
done:
  ret i64 %i
}}"""
