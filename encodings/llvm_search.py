"""Breadth-first search as LLVM IR, around the functions of ``to_llvm``.

Known states are kept in the order of their discovery, with the number of the state that
each was reached from. Which states are known is told by a hash table of 64-byte buckets,
searched from a state's home bucket on to the first free slot; it is exact in both forms:

* compact, for states of one word: a bijection of the state's bits gives the home bucket (its
  top bits) and the slot's content (the other bits, and the distance from the home bucket).
  Slots take 32 bits where that suffices, else 64. The state itself is never looked up.
* indexed, for wider states: a slot holds 32 bits of the state's hash and its number; the states
  whose hash bits agree are compared in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from avicheck.encodings.canonical import Canonical
from avicheck.encodings.expr import Expr
from avicheck.encodings.packing import WORD, Layout
from avicheck.encodings.to_llvm import RECORD_EXTRA, canonical_text, ended_text, expand_text, select_text
from avicheck.encodings.transition import TransitionSystem

CONTEXT: Final = (
    "states",  # the states' words, in the order of discovery
    "parents",  # for each, as 32 bits, the number of the state that it was reached from
    "table",
    "batch",  # room for records
    "fired",
    "asked",  # a byte for each expression to look for
    "alarms",  # numbers of new states in which one of them holds
    "shift",  # how many bits of the hash lie below the number of the bucket
    "count",  # states known
    "next",  # the first state not yet expanded
    "end",  # where to stop expanding
    "room",  # how many states there is room for, less one batch
    "alarmed",  # how many alarms there are
    "widest",  # bytes of the longest list of successors
    "stuck",  # the first state without successors that has not ended, or -1
    "events",  # not 0: return at the end of the batch
    "fault",  # a transition's position plus one
    "faulty",  # and the state from which it leads beyond a variable's bounds
    "todo",  # records that found no slot: the first
    "upto",  # and where they end
)
"""The 64-bit fields of the record that the functions share with their caller."""

BATCH: Final = 256
"""Records after which a batch is full."""
BUCKET: Final = 64
"""Bytes in a bucket."""
OVERFLOW: Final = 32
"""Buckets after the last home bucket."""
_REACH: Final = 30
"""The longest distance from the home bucket."""
_DISTANCE_BITS: Final = 5
_AHEAD: Final = 16
_PLACE: Final = "ptr %table, ptr %states, i64 %shift, i64 %hash, i64 %number, ptr %words"
_FACTORS: Final = (0x1E3779B97F4A7C15, 0x56E8FEB86659FD93)


@dataclass(frozen=True)
class Shape:
    """How a system's states are stored: words each, bits that hashing takes in, bytes a slot, and
    whether the table is compact."""

    words: int
    bits: int
    slot: int
    compact: bool

    @property
    def slots(self) -> int:
        """Slots in a bucket."""
        return BUCKET // self.slot

    @property
    def least(self) -> int:
        """The least number of bucket bits."""
        spare = self.slot * 8 - _DISTANCE_BITS
        return min(self.bits, max(8, self.bits - spare)) if self.compact else 8

    @property
    def most(self) -> int:
        """The largest number of bucket bits."""
        return min(self.bits, 32)


def shape(layout: Layout) -> Shape:
    """Small slots for states of at most 43 bits: their table starts at 4 MiB at most."""
    if layout.words > 1:
        return Shape(layout.words, WORD, 8, False)
    bits = max(layout.bits, 8)
    return Shape(1, bits, 4 if bits <= 43 else 8, True)


def search_text(
    system: TransitionSystem,
    layout: Layout,
    expressions: Sequence[Expr],
    symmetry: Canonical | None = None,
) -> str:
    """A module with the functions that take a context; under a symmetry for states that are representatives
    of their orbits:

    * ``search``: expand states from ``next`` to ``end``; return early at an event, without room,
      or where a record found no slot
    * ``insert``: go on with the records from ``todo`` on
    * ``rebuild``: fill an empty table with the states that are known; ``events`` is 1 if it overflows
    * ``scan``: the number of the first known state, from a given one on, in which an expression that is
      asked for holds; ``count`` if there is none
    """
    form = shape(layout)
    expand, parts = expand_text(system, layout)
    return "\n".join(
        [
            "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
            expand,
            ended_text(system, layout),
            select_text(expressions, layout),
            *([] if symmetry is None else [canonical_text(symmetry, layout)]),
            _compact_hash(form) if form.compact else _wide_hash(form),
            _compact_place(form) if form.compact else _indexed_place(form),
            _insert(form, symmetry is not None),
            _search(form, parts),
            _rebuild(form),
            _scan(form),
        ]
    )


def _at(name: str) -> str:
    """The place of a field in the context."""
    return f"getelementptr inbounds i64, ptr %ctx, i64 {CONTEXT.index(name)}"


def _get(*names: str) -> str:
    """Load fields into values of their names."""
    types = {"states", "parents", "table", "batch", "fired", "asked", "alarms", "todo", "upto"}
    lines = []
    for name in names:
        lines.append(f"  %{name}.p = {_at(name)}")
        lines.append(f"  %{name} = load {'ptr' if name in types else 'i64'}, ptr %{name}.p")
    return "\n".join(lines)


def _search(form: Shape, parts: list[str]) -> str:
    stride = (form.words + RECORD_EXTRA) * 8
    calls = ["  %out0 = getelementptr i8, ptr %out, i64 0"]
    for k, part in enumerate(parts):
        arguments = f"ptr %state, ptr %out{k}, i64 %i, ptr %fired, ptr %fault.p"
        calls.append(f"  %out{k + 1} = call ptr @{part}({arguments})")
    expand = "\n".join(calls)
    last = f"%out{len(parts)}"
    return f"""
define void @search(ptr %ctx) {{
entry:
{_get("states", "batch", "fired", "end", "room", "fault")}
  %full = getelementptr i8, ptr %batch, i64 {BATCH * stride}
  %next.p = {_at("next")}
  %count.p = {_at("count")}
  %widest.p = {_at("widest")}
  %stuck.p = {_at("stuck")}
  %events.p = {_at("events")}
  br label %batches
batches:
  %next = load i64, ptr %next.p
  %count = load i64, ptr %count.p
  %more = icmp ult i64 %next, %end
  %roomy = icmp ult i64 %count, %room
  %on = and i1 %more, %roomy
  br i1 %on, label %expand, label %return
expand:
  %i = phi i64 [%next, %batches], [%i.next, %expanded]
  %out = phi ptr [%batch, %batches], [{last}, %expanded]
  %offset = mul i64 %i, {form.words}
  %state = getelementptr inbounds i64, ptr %states, i64 %offset
{expand}
  %from.i = ptrtoint ptr %out to i64
  %to.i = ptrtoint ptr {last} to i64
  %size = sub i64 %to.i, %from.i
  %widest = load i64, ptr %widest.p
  %wider = icmp ugt i64 %size, %widest
  br i1 %wider, label %widen, label %narrow
widen:
  store i64 %size, ptr %widest.p
  br label %narrow
narrow:
  %none = icmp eq i64 %size, 0
  br i1 %none, label %dry, label %expanded
dry:
  %fault.now = load i64, ptr %fault.p
  %faulted = icmp ne i64 %fault.now, 0
  %over = call i1 @ended(ptr %state)
  %stuck = load i64, ptr %stuck.p
  %known = icmp ne i64 %stuck, -1
  %fine0 = or i1 %over, %known
  %fine = or i1 %fine0, %faulted
  br i1 %fine, label %expanded, label %deadlock
deadlock:
  store i64 %i, ptr %stuck.p
  store i64 1, ptr %events.p
  br label %expanded
expanded:
  %i.next = add i64 %i, 1
  %left = icmp ult i64 %i.next, %end
  %space = icmp ult ptr {last}, %full
  %again = and i1 %left, %space
  br i1 %again, label %expand, label %flush
flush:
  store i64 %i.next, ptr %next.p
  %todo.p = {_at("todo")}
  %upto.p = {_at("upto")}
  store ptr %batch, ptr %todo.p
  store ptr {last}, ptr %upto.p
  call void @insert(ptr %ctx)
  %events = load i64, ptr %events.p
  %fault.after = load i64, ptr %fault.p
  %event = or i64 %events, %fault.after
  %quiet = icmp eq i64 %event, 0
  br i1 %quiet, label %batches, label %return
return:
  ret void
}}"""


def _insert(form: Shape, symmetry: bool) -> str:
    words = form.words
    represented = "  call void @canonical(ptr %h)" if symmetry else ""
    copy = []
    for k in range(words):
        copy.append(f"  %from{k} = getelementptr inbounds i64, ptr %r, i64 {k}")
        copy.append(f"  %word{k} = load i64, ptr %from{k}")
        copy.append(f"  %into{k} = getelementptr inbounds i64, ptr %new, i64 {k}")
        copy.append(f"  store i64 %word{k}, ptr %into{k}")
    copied = "\n".join(copy)
    return f"""
define void @insert(ptr %ctx) {{
entry:
{_get("states", "parents", "table", "asked", "alarms", "shift", "todo", "upto")}
  %count.p = {_at("count")}
  %events.p = {_at("events")}
  %alarmed.p = {_at("alarmed")}
  %some = icmp ult ptr %todo, %upto
  br i1 %some, label %hashing, label %done
hashing:
  %h = phi ptr [%todo, %entry], [%h.next, %hashing]
{represented}
  %hash = call i64 @hash(ptr %h)
  %h.slot = getelementptr inbounds i64, ptr %h, i64 {words + 1}
  store i64 %hash, ptr %h.slot
  %bucket = lshr i64 %hash, %shift
  %byte = shl i64 %bucket, 6
  %line = getelementptr inbounds i8, ptr %table, i64 %byte
  call void @llvm.prefetch.p0(ptr %line, i32 1, i32 3, i32 1)
  %h.next = getelementptr inbounds i64, ptr %h, i64 {words + RECORD_EXTRA}
  %h.more = icmp ult ptr %h.next, %upto
  br i1 %h.more, label %hashing, label %storing
storing:
  %r = phi ptr [%todo, %hashing], [%r.next, %stored]
  %r.slot = getelementptr inbounds i64, ptr %r, i64 {words + 1}
  %r.hash = load i64, ptr %r.slot
  %count = load i64, ptr %count.p
  %found = call i64 @place(ptr %table, ptr %states, i64 %shift, i64 %r.hash, i64 %count, ptr %r)
  switch i64 %found, label %overflow [i64 0, label %stored  i64 1, label %fresh]
fresh:
  %offset = mul i64 %count, {words}
  %new = getelementptr inbounds i64, ptr %states, i64 %offset
{copied}
  %parent.p = getelementptr inbounds i64, ptr %r, i64 {words}
  %parent = load i64, ptr %parent.p
  %parent.32 = trunc i64 %parent to i32
  %link = getelementptr inbounds i32, ptr %parents, i64 %count
  store i32 %parent.32, ptr %link
  %count.next = add i64 %count, 1
  store i64 %count.next, ptr %count.p
  %alarm = call i1 @select(ptr %new, ptr %asked)
  br i1 %alarm, label %alarming, label %stored
alarming:
  %alarmed = load i64, ptr %alarmed.p
  %alarm.p = getelementptr inbounds i64, ptr %alarms, i64 %alarmed
  store i64 %count, ptr %alarm.p
  %alarmed.next = add i64 %alarmed, 1
  store i64 %alarmed.next, ptr %alarmed.p
  store i64 1, ptr %events.p
  br label %stored
stored:
  %r.next = getelementptr inbounds i64, ptr %r, i64 {words + RECORD_EXTRA}
  %r.more = icmp ult ptr %r.next, %upto
  br i1 %r.more, label %storing, label %done
overflow:
  store ptr %r, ptr %todo.p
  store i64 1, ptr %events.p
  ret void
done:
  store ptr %upto, ptr %todo.p
  ret void
}}"""


def _rebuild(form: Shape) -> str:
    words = form.words
    return f"""
define void @rebuild(ptr %ctx) {{
entry:
{_get("states", "table", "shift", "count")}
  %last = sub i64 %count, 1
  br label %next
next:
  %i = phi i64 [0, %entry], [%i.next, %placed]
  %far = add i64 %i, {_AHEAD}
  %beyond = icmp ugt i64 %far, %last
  %ahead = select i1 %beyond, i64 %last, i64 %far
  %ahead.offset = mul i64 %ahead, {words}
  %ahead.state = getelementptr inbounds i64, ptr %states, i64 %ahead.offset
  %ahead.hash = call i64 @hash(ptr %ahead.state)
  %ahead.bucket = lshr i64 %ahead.hash, %shift
  %ahead.byte = shl i64 %ahead.bucket, 6
  %ahead.line = getelementptr inbounds i8, ptr %table, i64 %ahead.byte
  call void @llvm.prefetch.p0(ptr %ahead.line, i32 1, i32 3, i32 1)
  %offset = mul i64 %i, {words}
  %state = getelementptr inbounds i64, ptr %states, i64 %offset
  %hash = call i64 @hash(ptr %state)
  %found = call i64 @place(ptr %table, ptr %states, i64 %shift, i64 %hash, i64 %i, ptr %state)
  %fine = icmp ule i64 %found, 1
  br i1 %fine, label %placed, label %overflow
placed:
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %count
  br i1 %more, label %next, label %done
overflow:
  %events.p = {_at("events")}
  store i64 1, ptr %events.p
  br label %done
done:
  ret void
}}"""


def _compact_hash(form: Shape) -> str:
    """A bijection of numbers of so many bits: each line can be undone."""
    bits = form.bits
    mask = (1 << bits) - 1
    half = -(-bits // 2)

    def kept(name: str) -> str:
        return f"%{name} = and i64 %{name}.all, {mask}" if bits < WORD else f"%{name} = or i64 %{name}.all, 0"

    return f"""
define internal i64 @hash(ptr %state) alwaysinline {{
  %a = load i64, ptr %state
  %b.s = lshr i64 %a, {half}
  %b = xor i64 %a, %b.s
  %c.all = mul i64 %b, {_FACTORS[0] & mask}
  {kept("c")}
  %d.s = lshr i64 %c, {half}
  %d = xor i64 %c, %d.s
  %e.all = mul i64 %d, {_FACTORS[1] & mask}
  {kept("e")}
  ret i64 %e
}}"""


def _wide_hash(form: Shape) -> str:
    lines = ["  %x0 = load i64, ptr %state"]
    for k in range(1, form.words):
        lines += [
            f"  %m{k} = mul i64 %x{k - 1}, {_FACTORS[0]}",
            f"  %r{k} = lshr i64 %m{k}, 32",
            f"  %y{k} = xor i64 %m{k}, %r{k}",
            f"  %p{k} = getelementptr inbounds i64, ptr %state, i64 {k}",
            f"  %w{k} = load i64, ptr %p{k}",
            f"  %x{k} = xor i64 %y{k}, %w{k}",
        ]
    body = "\n".join(lines)
    return f"""
define internal i64 @hash(ptr %state) alwaysinline {{
{body}
  %a = mul i64 %x{form.words - 1}, {_FACTORS[0]}
  %b.s = lshr i64 %a, 32
  %b = xor i64 %a, %b.s
  %c = mul i64 %b, {_FACTORS[1]}
  %d.s = lshr i64 %c, 29
  %d = xor i64 %c, %d.s
  %e = mul i64 %d, {_FACTORS[0]}
  ret i64 %e
}}"""


def _compact_place(form: Shape) -> str:
    slot, slots = form.slot * 8, form.slots
    vector = f"<{slots} x i{slot}>"
    first = "%wanted" if slot == WORD else "%wanted.32"
    narrowed = "" if slot == WORD else "  %wanted.32 = trunc i64 %wanted to i32\n"
    return f"""
define internal i64 @place({_PLACE}) alwaysinline {{
entry:
  %home = lshr i64 %hash, %shift
  %ones = shl i64 -1, %shift
  %low = xor i64 %ones, -1
  %rest = and i64 %hash, %low
  %rest.up = shl i64 %rest, {_DISTANCE_BITS}
  %wanted = or i64 %rest.up, 1
{narrowed}  br label %look
look:
  %bucket = phi i64 [%home, %entry], [%bucket.next, %further]
  %slot = phi i{slot} [{first}, %entry], [%slot.next, %further]
  %byte = shl i64 %bucket, 6
  %line = getelementptr inbounds i8, ptr %table, i64 %byte
  %all = load {vector}, ptr %line, align {BUCKET}
  %slot.0 = insertelement {vector} poison, i{slot} %slot, i64 0
  %slot.s = shufflevector {vector} %slot.0, {vector} poison, <{slots} x i32> zeroinitializer
  %equal = icmp eq {vector} %all, %slot.s
  %equal.m = bitcast <{slots} x i1> %equal to i{slots}
  %known = icmp ne i{slots} %equal.m, 0
  br i1 %known, label %old, label %free
old:
  ret i64 0
free:
  %empty = icmp eq {vector} %all, zeroinitializer
  %empty.m = bitcast <{slots} x i1> %empty to i{slots}
  %any = icmp ne i{slots} %empty.m, 0
  br i1 %any, label %put, label %further
put:
  %index = call i{slots} @llvm.cttz.i{slots}(i{slots} %empty.m, i1 true)
  %index.64 = zext i{slots} %index to i64
  %place = getelementptr inbounds i{slot}, ptr %line, i64 %index.64
  store i{slot} %slot, ptr %place
  ret i64 1
further:
  %bucket.next = add i64 %bucket, 1
  %slot.next = add i{slot} %slot, 1
  %distance = sub i64 %bucket.next, %home
  %near = icmp ule i64 %distance, {_REACH}
  br i1 %near, label %look, label %overflow
overflow:
  ret i64 2
}}"""


def _indexed_place(form: Shape) -> str:
    compare = []
    for k in range(form.words):
        compare += [
            f"  %mine{k}.p = getelementptr inbounds i64, ptr %words, i64 {k}",
            f"  %mine{k} = load i64, ptr %mine{k}.p",
            f"  %other{k}.p = getelementptr inbounds i64, ptr %other, i64 {k}",
            f"  %other{k} = load i64, ptr %other{k}.p",
            f"  %differs{k} = xor i64 %mine{k}, %other{k}",
            f"  %sum{k} = or i64 %differs{k}, {f'%sum{k - 1}' if k else 0}",
        ]
    compared = "\n".join(compare)
    return f"""
define internal i64 @place({_PLACE}) alwaysinline {{
entry:
  %home = lshr i64 %hash, %shift
  %tag = and i64 %hash, 4294967295
  %tag.up = shl i64 %tag, 32
  %number.1 = add i64 %number, 1
  %content = or i64 %tag.up, %number.1
  %tag.0 = insertelement <8 x i64> poison, i64 %tag, i64 0
  %tag.s = shufflevector <8 x i64> %tag.0, <8 x i64> poison, <8 x i32> zeroinitializer
  br label %look
look:
  %bucket = phi i64 [%home, %entry], [%bucket.next, %further]
  %byte = shl i64 %bucket, 6
  %line = getelementptr inbounds i8, ptr %table, i64 %byte
  %all = load <8 x i64>, ptr %line, align {BUCKET}
  %tags = lshr <8 x i64> %all, splat (i64 32)
  %empty = icmp eq <8 x i64> %all, zeroinitializer
  %empty.m = bitcast <8 x i1> %empty to i8
  %alike = icmp eq <8 x i64> %tags, %tag.s
  %alike.m = bitcast <8 x i1> %alike to i8
  %taken.m = xor i8 %empty.m, -1
  %candidates = and i8 %alike.m, %taken.m
  br label %next
next:
  %left = phi i8 [%candidates, %look], [%rest, %compare]
  %some = icmp ne i8 %left, 0
  br i1 %some, label %compare, label %free
compare:
  %at = call i8 @llvm.cttz.i8(i8 %left, i1 true)
  %at.64 = zext i8 %at to i64
  %slot.p = getelementptr inbounds i64, ptr %line, i64 %at.64
  %slot = load i64, ptr %slot.p
  %index.1 = and i64 %slot, 4294967295
  %index = sub i64 %index.1, 1
  %offset = mul i64 %index, {form.words}
  %other = getelementptr inbounds i64, ptr %states, i64 %offset
{compared}
  %same = icmp eq i64 %sum{form.words - 1}, 0
  %less = sub i8 %left, 1
  %rest = and i8 %left, %less
  br i1 %same, label %old, label %next
old:
  ret i64 0
free:
  %any = icmp ne i8 %empty.m, 0
  br i1 %any, label %put, label %further
put:
  %first = call i8 @llvm.cttz.i8(i8 %empty.m, i1 true)
  %first.64 = zext i8 %first to i64
  %place = getelementptr inbounds i64, ptr %line, i64 %first.64
  store i64 %content, ptr %place
  ret i64 1
further:
  %bucket.next = add i64 %bucket, 1
  %distance = sub i64 %bucket.next, %home
  %near = icmp ule i64 %distance, {_REACH}
  br i1 %near, label %look, label %overflow
overflow:
  ret i64 2
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
