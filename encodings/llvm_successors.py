"""What the compiled functions of ``to_llvm`` say about single states, as a module that can be called."""

from __future__ import annotations

from collections.abc import Sequence

from avicheck.encodings.expr import Expr
from avicheck.encodings.packing import Layout
from avicheck.encodings.to_llvm import expand_text, select_text
from avicheck.encodings.transition import TransitionSystem


def successors_text(system: TransitionSystem, layout: Layout, expressions: Sequence[Expr]) -> str:
    """``ptr @successors(ptr state, ptr out, ptr fired, ptr fault)``: what ``expand_text`` does for one
    state, with all its parts; ``i1 @holds(ptr state, ptr asked)``: ``select_text``."""
    expand, parts = expand_text(system, layout)
    calls = [
        f"  %out{i + 1} = call ptr @{part}(ptr %state, ptr %out{i}, i64 0, ptr %fired, ptr %fault)"
        for i, part in enumerate(parts)
    ]
    return "\n".join(
        [
            expand,
            select_text(expressions, layout),
            "define ptr @successors(ptr %state, ptr %out0, ptr %fired, ptr %fault) {",
            *calls,
            f"  ret ptr %out{len(parts)}",
            "}",
            "define i1 @holds(ptr %state, ptr %asked) {",
            "  %found = call i1 @select(ptr %state, ptr %asked)",
            "  ret i1 %found",
            "}",
        ]
    )
