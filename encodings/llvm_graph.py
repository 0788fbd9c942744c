"""The edges of an explored system as LLVM IR, around the functions of ``to_llvm``.

Every known state gets a slot in a hash table, so that a successor's number can be told. It is exact: a
slot holds 32 bits of the hash and a number; the states whose hash bits agree are compared in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from avicheck.encodings.expr import Expr, constant
from avicheck.encodings.packing import WORD, Field, Layout
from avicheck.encodings.to_llvm import RECORD_EXTRA, expand_text, select_text
from avicheck.encodings.transition import TransitionSystem, Variable

FIRED: Final = "edge:fired"
_FACTORS: Final = (0x2545F4914F6CDD1D, 0x5851F42D4C957F2D)
_AHEAD: Final = 16


def labelled(system: TransitionSystem, layout: Layout) -> tuple[TransitionSystem, Layout]:
    """A system whose states have a word more, above those of ``layout``: the position of the transition
    that led there."""
    fired = Variable(FIRED, 0, (1 << WORD) - 1)
    offset = layout.words * WORD
    transitions = tuple(
        replace(transition, updates={**transition.updates, FIRED: constant(i)})
        for i, transition in enumerate(system.transitions)
    )
    fields = (*layout.fields, Field(fired, offset, WORD))
    return replace(system, transitions=transitions), Layout(fields, offset + WORD)


def table_bits(count: int) -> int:
    """Bits of the number of a slot, so that a table for so many states is at most half full."""
    return max(4, (2 * count - 1).bit_length())


def record_words(layout: Layout) -> int:
    """Words in a record of ``edges``."""
    return layout.words + 1 + RECORD_EXTRA


def graph_text(system: TransitionSystem, layout: Layout, expressions: Sequence[Expr], name_bits: int) -> str:
    """A module with functions on states, words in the order of their numbers:

    * ``mark(states, count, asked, marks)``: a byte for each state, 1 where an expression holds for which
      the byte in ``asked`` is 1
    * ``index(states, count, bits, table)``: give each state a slot in an empty table of so many bits
    * ``edges(states, bits, table, numbers, count, batch, scratch, counts, targets, fired)``: for each of
      some states how many transitions can fire, and for all these edges in order the number of the state
      and, in ``name_bits`` bits, the position of the transition. ``batch`` has room for as many
      records, ``scratch`` for a word for each transition and two more. Returns how many successors are in
      no slot.
    """
    expand, parts = expand_text(*labelled(system, layout))
    return "\n".join(
        [
            "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)",
            expand,
            select_text(expressions, layout),
            _hash(layout.words),
            _find(layout.words),
            _mark(layout.words),
            _index(layout.words),
            _edges(layout.words, parts, len(system.transitions), name_bits),
        ]
    )


def _hash(words: int) -> str:
    lines = []
    for k in range(words):
        lines += [
            f"  %p{k} = getelementptr inbounds i64, ptr %state, i64 {k}",
            f"  %w{k} = load i64, ptr %p{k}",
            f"  %x{k} = xor i64 %w{k}, {f'%z{k - 1}' if k else 0}",
            f"  %m{k} = mul i64 %x{k}, {_FACTORS[0]}",
            f"  %s{k} = lshr i64 %m{k}, 32",
            f"  %z{k} = xor i64 %m{k}, %s{k}",
        ]
    body = "\n".join(lines)
    return f"""
define internal i64 @hash(ptr %state) alwaysinline {{
{body}
  %a = mul i64 %z{words - 1}, {_FACTORS[1]}
  %b = lshr i64 %a, 29
  %c = xor i64 %a, %b
  %d = mul i64 %c, {_FACTORS[0]}
  ret i64 %d
}}"""


def _find(words: int) -> str:
    """The slot of a state, or the free one in which its search ends."""
    compare = []
    for k in range(words):
        compare += [
            f"  %mine{k}.p = getelementptr inbounds i64, ptr %state, i64 {k}",
            f"  %mine{k} = load i64, ptr %mine{k}.p",
            f"  %other{k}.p = getelementptr inbounds i64, ptr %other, i64 {k}",
            f"  %other{k} = load i64, ptr %other{k}.p",
            f"  %differs{k} = xor i64 %mine{k}, %other{k}",
            f"  %sum{k} = or i64 %differs{k}, {f'%sum{k - 1}' if k else 0}",
        ]
    compared = "\n".join(compare)
    return f"""
define internal ptr @find(ptr %states, i64 %bits, ptr %table, ptr %state, i64 %hash) alwaysinline {{
entry:
  %shift = sub i64 {WORD}, %bits
  %home = lshr i64 %hash, %shift
  %ones = shl i64 -1, %bits
  %mask = xor i64 %ones, -1
  %tag = and i64 %hash, 4294967295
  br label %look
look:
  %at = phi i64 [%home, %entry], [%at.next, %further]
  %place = getelementptr inbounds i64, ptr %table, i64 %at
  %slot = load i64, ptr %place
  %free = icmp eq i64 %slot, 0
  br i1 %free, label %done, label %taken
taken:
  %its.tag = lshr i64 %slot, 32
  %alike = icmp eq i64 %its.tag, %tag
  br i1 %alike, label %compare, label %further
compare:
  %number.1 = and i64 %slot, 4294967295
  %number = sub i64 %number.1, 1
  %offset = mul i64 %number, {words}
  %other = getelementptr inbounds i64, ptr %states, i64 %offset
{compared}
  %same = icmp eq i64 %sum{words - 1}, 0
  br i1 %same, label %done, label %further
further:
  %at.1 = add i64 %at, 1
  %at.next = and i64 %at.1, %mask
  br label %look
done:
  ret ptr %place
}}"""


def _prefetch(name: str) -> str:
    """Fetch the first slot that a search for a hash looks at."""
    return f"""  %{name}.shift = sub i64 {WORD}, %bits
  %{name}.home = lshr i64 %{name}, %{name}.shift
  %{name}.place = getelementptr inbounds i64, ptr %table, i64 %{name}.home
  call void @llvm.prefetch.p0(ptr %{name}.place, i32 1, i32 3, i32 1)"""


def _mark(words: int) -> str:
    return f"""
define void @mark(ptr %states, i64 %count, ptr %asked, ptr %marks) {{
entry:
  %some = icmp ne i64 %count, 0
  br i1 %some, label %next, label %done
next:
  %i = phi i64 [0, %entry], [%i.next, %next]
  %offset = mul i64 %i, {words}
  %state = getelementptr inbounds i64, ptr %states, i64 %offset
  %holds = call i1 @select(ptr %state, ptr %asked)
  %byte = zext i1 %holds to i8
  %mark = getelementptr inbounds i8, ptr %marks, i64 %i
  store i8 %byte, ptr %mark
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %count
  br i1 %more, label %next, label %done
done:
  ret void
}}"""


def _index(words: int) -> str:
    return f"""
define void @index(ptr %states, i64 %count, i64 %bits, ptr %table) {{
entry:
  %last = sub i64 %count, 1
  %some = icmp ne i64 %count, 0
  br i1 %some, label %next, label %done
next:
  %i = phi i64 [0, %entry], [%i.next, %next]
  %far = add i64 %i, {_AHEAD}
  %beyond = icmp ugt i64 %far, %last
  %ahead = select i1 %beyond, i64 %last, i64 %far
  %ahead.offset = mul i64 %ahead, {words}
  %ahead.state = getelementptr inbounds i64, ptr %states, i64 %ahead.offset
  %soon = call i64 @hash(ptr %ahead.state)
{_prefetch("soon")}
  %offset = mul i64 %i, {words}
  %state = getelementptr inbounds i64, ptr %states, i64 %offset
  %hash = call i64 @hash(ptr %state)
  %place = call ptr @find(ptr %states, i64 %bits, ptr %table, ptr %state, i64 %hash)
  %tag = shl i64 %hash, 32
  %i.next = add i64 %i, 1
  %slot = or i64 %tag, %i.next
  store i64 %slot, ptr %place
  %more = icmp ult i64 %i.next, %count
  br i1 %more, label %next, label %done
done:
  ret void
}}"""


def _edges(words: int, parts: Sequence[str], transitions: int, name_bits: int) -> str:
    record = words + 1 + RECORD_EXTRA
    copy, calls = [], ["  %out0 = getelementptr i8, ptr %out, i64 0"]
    for k in range(words):
        copy += [
            f"  %from{k} = getelementptr inbounds i64, ptr %state, i64 {k}",
            f"  %word{k} = load i64, ptr %from{k}",
            f"  %into{k} = getelementptr inbounds i64, ptr %labelled, i64 {k}",
            f"  store i64 %word{k}, ptr %into{k}",
        ]
    for k, part in enumerate(parts):
        arguments = f"ptr %labelled, ptr %out{k}, i64 %number, ptr %scratch, ptr %fault"
        calls.append(f"  %out{k + 1} = call ptr @{part}({arguments})")
    copied, called, last = "\n".join(copy), "\n".join(calls), f"%out{len(parts)}"
    return f"""
define i64 @edges(ptr %states, i64 %bits, ptr %table, ptr %numbers, i64 %count, ptr %batch, ptr %scratch,
                  ptr %counts, ptr %targets, ptr %names) {{
entry:
  %labelled = alloca [{words + 1} x i64]
  %top = getelementptr inbounds i64, ptr %labelled, i64 {words}
  store i64 0, ptr %top
  %fault = getelementptr inbounds i64, ptr %scratch, i64 {transitions}
  %some = icmp ne i64 %count, 0
  br i1 %some, label %expand, label %done
expand:
  %i = phi i64 [0, %entry], [%i.next, %expanded]
  %out = phi ptr [%batch, %entry], [{last}, %expanded]
  %number.p = getelementptr inbounds i32, ptr %numbers, i64 %i
  %number.32 = load i32, ptr %number.p
  %number = zext i32 %number.32 to i64
  %offset = mul i64 %number, {words}
  %state = getelementptr inbounds i64, ptr %states, i64 %offset
{copied}
{called}
  %from.i = ptrtoint ptr %out to i64
  %to.i = ptrtoint ptr {last} to i64
  %size = sub i64 %to.i, %from.i
  %degree = udiv i64 %size, {record * 8}
  %degree.32 = trunc i64 %degree to i32
  %degree.p = getelementptr inbounds i32, ptr %counts, i64 %i
  store i32 %degree.32, ptr %degree.p
  %any = icmp ult ptr %out, {last}
  br i1 %any, label %hashing, label %expanded
hashing:
  %h = phi ptr [%out, %expand], [%h.next, %hashing]
  %hash = call i64 @hash(ptr %h)
  %h.slot = getelementptr inbounds i64, ptr %h, i64 {record - 1}
  store i64 %hash, ptr %h.slot
{_prefetch("hash")}
  %h.next = getelementptr inbounds i64, ptr %h, i64 {record}
  %h.more = icmp ult ptr %h.next, {last}
  br i1 %h.more, label %hashing, label %expanded
expanded:
  %i.next = add i64 %i, 1
  %more = icmp ult i64 %i.next, %count
  br i1 %more, label %expand, label %finding
finding:
  %found = icmp ult ptr %batch, {last}
  br i1 %found, label %find, label %done
find:
  %r = phi ptr [%batch, %finding], [%r.next, %find]
  %k = phi i64 [0, %finding], [%k.next, %find]
  %lost = phi i64 [0, %finding], [%lost.next, %find]
  %r.slot = getelementptr inbounds i64, ptr %r, i64 {record - 1}
  %r.hash = load i64, ptr %r.slot
  %place = call ptr @find(ptr %states, i64 %bits, ptr %table, ptr %r, i64 %r.hash)
  %slot = load i64, ptr %place
  %unknown = icmp eq i64 %slot, 0
  %unknown.64 = zext i1 %unknown to i64
  %lost.next = add i64 %lost, %unknown.64
  %target.1 = trunc i64 %slot to i32
  %target = sub i32 %target.1, 1
  %target.p = getelementptr inbounds i32, ptr %targets, i64 %k
  store i32 %target, ptr %target.p
  %r.name = getelementptr inbounds i64, ptr %r, i64 {words}
  %name.64 = load i64, ptr %r.name
  %name = trunc i64 %name.64 to i{name_bits}
  %name.p = getelementptr inbounds i{name_bits}, ptr %names, i64 %k
  store i{name_bits} %name, ptr %name.p
  %k.next = add i64 %k, 1
  %r.next = getelementptr inbounds i64, ptr %r, i64 {record}
  %r.more = icmp ult ptr %r.next, {last}
  br i1 %r.more, label %find, label %done
done:
  %result = phi i64 [0, %entry], [0, %finding], [%lost.next, %find]
  ret i64 %result
}}"""
