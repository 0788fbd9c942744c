"""The table of known states as LLVM IR.

It consists of 64-byte buckets; a state is in the first bucket from its home bucket on that was not full
when it came. The table is exact in both of its forms:

* compact, for states of one word: a bijection of the state's bits gives the home bucket (its
  top bits) and the slot's content (the other bits, and the distance from the home bucket).
  Slots take 32 bits where that suffices, else 64. The state itself is never looked up.
* indexed, for wider states: a slot holds 32 bits of the state's hash and its number; the states
  whose hash bits agree are compared in full.

Either way a bucket and a slot tell enough of the hash for the table to grow where it is, in one pass from
its end to its beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from avicheck.encodings.packing import WORD, Layout

BUCKET: Final = 64
"""Bytes in a bucket."""
OVERFLOW: Final = 32
"""Buckets after the last home bucket."""
_REACH: Final = 30
"""The longest distance from the home bucket."""
_DISTANCE_BITS: Final = 5
_LOWEST: Final = 64
"""Buckets at the beginning that growing moves out of the way: others go to where growing has been."""
_NOTED: Final = 16
"""Buckets of which growing notes how far they are filled, so as not to look every time."""
_TAG_FROM: Final = 24
"""The lowest of the 32 hash bits in an indexed slot; those above them are bits of the home bucket."""
_LEAST_INDEXED: Final = 13
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
        return min(self.bits, max(8, self.bits - spare)) if self.compact else _LEAST_INDEXED

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


def table_text(form: Shape) -> str:
    """A table's functions, where the bucket of a hash is ``hash >> shift``:

    * ``i64 @hash(ptr words)``
    * ``void @ahead(ptr table, i64 shift, i64 hash)``: fetch the home bucket
    * ``i1 @known(ptr table, ptr states, i64 shift, i64 hash, ptr words)``: whether a state is in its home
      bucket; another thread may be placing states meanwhile
    * ``i64 @place(ptr table, ptr states, i64 shift, i64 hash, i64 number, ptr words)``: 0 if a state is in
      the table, 1 if it is now, under this number (where ``states`` has it already), 2 if it finds no slot
    * ``i1 @spread(ptr table, i64 buckets, i64 shift, i64 by, ptr room)``: give the table, of so many buckets
      until now, ``by`` bits more in the bucket's number; ``room`` is for ``ROOM`` bytes. False if a state
      finds no slot: the table has to be filled anew.
    """
    return "\n".join(
        [
            "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
            "declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)",
            "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)",
            _compact_hash(form) if form.compact else _wide_hash(form),
            _AHEAD,
            _compact_known(form) if form.compact else _indexed_known(form),
            _compact_place(form) if form.compact else _indexed_place(form),
            _spread(form),
        ]
    )


ROOM: Final = _LOWEST * BUCKET
"""Bytes of working memory for ``spread``."""
_KNOWN: Final = "ptr %table, ptr %states, i64 %shift, i64 %hash, ptr %words"
_PLACE: Final = "ptr %table, ptr %states, i64 %shift, i64 %hash, i64 %number, ptr %words"
_AHEAD: Final = """
define internal void @ahead(ptr %table, i64 %shift, i64 %hash) alwaysinline {
  %bucket = lshr i64 %hash, %shift
  %byte = shl i64 %bucket, 6
  %line = getelementptr inbounds i8, ptr %table, i64 %byte
  call void @llvm.prefetch.p0(ptr %line, i32 0, i32 3, i32 1)
  ret void
}"""


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
    return f"""
define internal i64 @place({_PLACE}) alwaysinline {{
entry:
  %home = lshr i64 %hash, %shift
  %tag.all = lshr i64 %hash, {_TAG_FROM}
  %tag = and i64 %tag.all, 4294967295
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
{_compared(form)}
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
  store atomic i64 %content, ptr %place release, align 8
  ret i64 1
further:
  %bucket.next = add i64 %bucket, 1
  %distance = sub i64 %bucket.next, %home
  %near = icmp ule i64 %distance, {_REACH}
  br i1 %near, label %look, label %overflow
overflow:
  ret i64 2
}}"""


def _compared(form: Shape) -> str:
    """Set %same to whether the state at %other is the one at %words."""
    lines = []
    for k in range(form.words):
        lines += [
            f"  %mine{k}.p = getelementptr inbounds i64, ptr %words, i64 {k}",
            f"  %mine{k} = load i64, ptr %mine{k}.p",
            f"  %other{k}.p = getelementptr inbounds i64, ptr %other, i64 {k}",
            f"  %other{k} = load i64, ptr %other{k}.p",
            f"  %differs{k} = xor i64 %mine{k}, %other{k}",
            f"  %sum{k} = or i64 %differs{k}, {f'%sum{k - 1}' if k else 0}",
        ]
    return "\n".join([*lines, f"  %same = icmp eq i64 %sum{form.words - 1}, 0"])


def _compact_known(form: Shape) -> str:
    slot, slots = form.slot * 8, form.slots
    vector = f"<{slots} x i{slot}>"
    return f"""
define internal i1 @known({_KNOWN}) alwaysinline {{
  %home = lshr i64 %hash, %shift
  %ones = shl i64 -1, %shift
  %low = xor i64 %ones, -1
  %rest = and i64 %hash, %low
  %rest.up = shl i64 %rest, {_DISTANCE_BITS}
  %wanted.64 = or i64 %rest.up, 1
  {_narrowed("wanted", "wanted.64", slot)}
  %byte = shl i64 %home, 6
  %line = getelementptr inbounds i8, ptr %table, i64 %byte
  %all = load volatile {vector}, ptr %line, align {BUCKET}
  %slot.0 = insertelement {vector} poison, i{slot} %wanted, i64 0
  %slot.s = shufflevector {vector} %slot.0, {vector} poison, <{slots} x i32> zeroinitializer
  %equal = icmp eq {vector} %all, %slot.s
  %equal.m = bitcast <{slots} x i1> %equal to i{slots}
  %found = icmp ne i{slots} %equal.m, 0
  ret i1 %found
}}"""


def _narrowed(name: str, value: str, bits: int) -> str:
    """A line that makes a number of so many bits of one of 64."""
    return f"%{name} = or i64 %{value}, 0" if bits == WORD else f"%{name} = trunc i64 %{value} to i{bits}"


def _indexed_known(form: Shape) -> str:
    return f"""
define internal i1 @known({_KNOWN}) {{
entry:
  %home = lshr i64 %hash, %shift
  %tag.all = lshr i64 %hash, {_TAG_FROM}
  %tag = and i64 %tag.all, 4294967295
  %tag.0 = insertelement <8 x i64> poison, i64 %tag, i64 0
  %tag.s = shufflevector <8 x i64> %tag.0, <8 x i64> poison, <8 x i32> zeroinitializer
  %byte = shl i64 %home, 6
  %line = getelementptr inbounds i8, ptr %table, i64 %byte
  br label %next
next:
  %k = phi i64 [0, %entry], [%k.next, %on]
  %slot.p = getelementptr inbounds i64, ptr %line, i64 %k
  %slot = load atomic i64, ptr %slot.p acquire, align 8
  %taken = icmp ne i64 %slot, 0
  br i1 %taken, label %look, label %none
look:
  %slot.tag = lshr i64 %slot, 32
  %alike = icmp eq i64 %slot.tag, %tag
  br i1 %alike, label %compare, label %on
compare:
  %index.1 = and i64 %slot, 4294967295
  %index = sub i64 %index.1, 1
  %offset = mul i64 %index, {form.words}
  %other = getelementptr inbounds i64, ptr %states, i64 %offset
{_compared(form)}
  br i1 %same, label %found, label %on
on:
  %k.next = add i64 %k, 1
  %more = icmp ult i64 %k.next, {form.slots}
  br i1 %more, label %next, label %none
found:
  ret i1 true
none:
  ret i1 false
}}"""


def _compact_hash_of_slot() -> str:
    return f"""
  %distance.1 = and i64 %slot, {(1 << _DISTANCE_BITS) - 1}
  %distance = sub i64 %distance.1, 1
  %rest = lshr i64 %slot, {_DISTANCE_BITS}
  %from = sub i64 %bucket, %distance
  %from.up = shl i64 %from, %shift
  %hash = or i64 %from.up, %rest
  %home = lshr i64 %hash, %shift.new
  %ones = shl i64 -1, %shift.new
  %low = xor i64 %ones, -1
  %rest.new = and i64 %hash, %low
  %rest.up = shl i64 %rest.new, {_DISTANCE_BITS}
  %content.0 = or i64 %rest.up, 1"""


def _indexed_hash_of_slot() -> str:
    return f"""
  %tag = lshr i64 %slot, 32
  %down = sub i64 %shift, {_TAG_FROM}
  %from.low = lshr i64 %tag, %down
  %fold = sub i64 32, %down
  %fold.ones = shl i64 -1, %fold
  %fold.low = xor i64 %fold.ones, -1
  %ahead = sub i64 %bucket, %from.low
  %distance = and i64 %ahead, %fold.low
  %from = sub i64 %bucket, %distance
  %top = lshr i64 %from, %fold
  %top.up = shl i64 %top, 32
  %hash = or i64 %top.up, %tag
  %down.new = sub i64 %shift.new, {_TAG_FROM}
  %home = lshr i64 %hash, %down.new
  %content.0 = or i64 %slot, 0"""


def _spread(form: Shape) -> str:
    bits = form.slot * 8
    return f"""
define internal i1 @move(ptr %table, ptr %line, i64 %bucket, i64 %shift, i64 %shift.new, ptr %taken) {{
entry:
  br label %next
next:
  %k = phi i64 [0, %entry], [%k.next, %on]
  %slot.p = getelementptr inbounds i{bits}, ptr %line, i64 %k
  %slot.n = load i{bits}, ptr %slot.p
  {_widened("slot", "slot.n", bits)}
  %some = icmp ne i64 %slot, 0
  br i1 %some, label %found, label %done
found:
{_compact_hash_of_slot() if form.compact else _indexed_hash_of_slot()}
  %home.place = and i64 %home, {_NOTED - 1}
  %home.p = getelementptr inbounds i64, ptr %taken, i64 %home.place
  %noted = load i64, ptr %home.p
  %noted.bucket = lshr i64 %noted, 8
  %noted.slots = and i64 %noted, 255
  %again = icmp eq i64 %noted.bucket, %home
  %first = select i1 %again, i64 %noted.slots, i64 0
  br label %look
look:
  %at = phi i64 [%home, %found], [%at.next, %further]
  %content = phi i64 [%content.0, %found], [%content.next, %further]
  %start = phi i64 [%first, %found], [0, %further]
  %byte = shl i64 %at, 6
  %there = getelementptr inbounds i8, ptr %table, i64 %byte
  br label %slot.look
slot.look:
  %j = phi i64 [%start, %look], [%j.next, %slot.more]
  %j.next = add i64 %j, 1
  %j.more = icmp ult i64 %j, {form.slots}
  br i1 %j.more, label %slot.more, label %further
slot.more:
  %j.p = getelementptr inbounds i{bits}, ptr %there, i64 %j
  %j.slot = load i{bits}, ptr %j.p
  %free = icmp eq i{bits} %j.slot, 0
  br i1 %free, label %put, label %slot.look
put:
  {_narrowed("content.n", "content", bits)}
  store i{bits} %content.n, ptr %j.p
  %at.place = and i64 %at, {_NOTED - 1}
  %at.p = getelementptr inbounds i64, ptr %taken, i64 %at.place
  %at.up = shl i64 %at, 8
  %at.note = or i64 %at.up, %j.next
  store i64 %at.note, ptr %at.p
  br label %on
further:
  %at.next = add i64 %at, 1
  %content.next = add i64 %content, {1 if form.compact else 0}
  %far = sub i64 %at.next, %home
  %near = icmp ule i64 %far, {_REACH}
  br i1 %near, label %look, label %overflow
on:
  %k.next = add i64 %k, 1
  %more = icmp ult i64 %k.next, {form.slots}
  br i1 %more, label %next, label %done
done:
  ret i1 true
overflow:
  ret i1 false
}}

define i1 @spread(ptr %table, i64 %buckets, i64 %shift, i64 %by, ptr %room) {{
entry:
  %held = alloca [{BUCKET} x i8], align {BUCKET}
  %taken = alloca [{_NOTED} x i64]
  call void @llvm.memset.p0.i64(ptr %taken, i8 -1, i64 {8 * _NOTED}, i1 false)
  %shift.new = sub i64 %shift, %by
  br label %down
down:
  %above = phi i64 [%buckets, %entry], [%bucket, %moved]
  %bucket = sub i64 %above, 1
  %high = icmp uge i64 %bucket, {_LOWEST}
  br i1 %high, label %take, label %low
take:
  %byte = shl i64 %bucket, 6
  %line = getelementptr inbounds i8, ptr %table, i64 %byte
  %all = load <8 x i64>, ptr %line, align {BUCKET}
  store <8 x i64> %all, ptr %held, align {BUCKET}
  store <8 x i64> zeroinitializer, ptr %line, align {BUCKET}
  %fine = call i1 @move(ptr %table, ptr %held, i64 %bucket, i64 %shift, i64 %shift.new, ptr %taken)
  br i1 %fine, label %moved, label %overflow
moved:
  br label %down
low:
  call void @llvm.memcpy.p0.p0.i64(ptr align {BUCKET} %room, ptr align {BUCKET} %table, i64 {ROOM}, i1 false)
  call void @llvm.memset.p0.i64(ptr align {BUCKET} %table, i8 0, i64 {ROOM}, i1 false)
  br label %rest
rest:
  %i = phi i64 [0, %low], [%i.next, %rested]
  %i.byte = shl i64 %i, 6
  %i.line = getelementptr inbounds i8, ptr %room, i64 %i.byte
  %i.fine = call i1 @move(ptr %table, ptr %i.line, i64 %i, i64 %shift, i64 %shift.new, ptr %taken)
  br i1 %i.fine, label %rested, label %overflow
rested:
  %i.next = add i64 %i, 1
  %i.more = icmp ult i64 %i.next, {_LOWEST}
  br i1 %i.more, label %rest, label %done
done:
  ret i1 true
overflow:
  ret i1 false
}}"""


def _widened(name: str, value: str, bits: int) -> str:
    """A line that makes a number of 64 bits of one of so many."""
    return f"%{name} = or i64 %{value}, 0" if bits == WORD else f"%{name} = zext i{bits} %{value} to i64"
