"""What a command concludes, and the exit codes that tell it to scripts."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

EXIT_OK: Final = 0
EXIT_BAD_INPUT: Final = 3
EXIT_INTERRUPTED: Final = 5
EXIT_TOOL_ERROR: Final = 70
EXIT_BROKEN_PIPE: Final = 141


class Verdict(Enum):
    """The answer to a claim, from the best to the worst."""

    PROVED = "proved"
    """For every size: nothing was bounded."""
    HOLDS = "holds"
    """Exhaustively within the bounds that are listed with it."""
    HOLDS_TO_DEPTH = "holds to depth n"
    """No run of at most n steps breaks it; longer ones were not looked at."""
    NOT_INDUCTIVE = "not inductive"
    """A step leads out of it from a state that may not be reachable."""
    UNKNOWN = "unknown"
    """A limit was reached, or an obligation is open."""
    VIOLATED = "violated"
    """A counterexample was found and replayed."""
    TOOL_ERROR = "tool error"
    """The tool contradicts itself: no other result of the run can be relied on."""

    @property
    def exit_code(self) -> int:
        """The exit code of a command that concludes this."""
        return _EXIT_CODES[self]


_EXIT_CODES: Final = {
    Verdict.PROVED: EXIT_OK,
    Verdict.HOLDS: EXIT_OK,
    Verdict.VIOLATED: 1,
    Verdict.UNKNOWN: 2,
    Verdict.NOT_INDUCTIVE: 4,
    Verdict.HOLDS_TO_DEPTH: 6,
    Verdict.TOOL_ERROR: EXIT_TOOL_ERROR,
}

EXIT_CODES: Final = {
    EXIT_OK: "the command succeeded; every verdict is 'holds' or 'proved'",
    1: "'violated': a counterexample, a mismatch, a divergence",
    2: "'unknown': a limit was reached, an obligation is open",
    EXIT_BAD_INPUT: "bad input: a command line or a file that cannot be used",
    4: "'not inductive'",
    EXIT_INTERRUPTED: "interrupted",
    6: "'holds to depth n'",
    EXIT_TOOL_ERROR: "tool error: the tool failed or contradicts itself",
    EXIT_BROKEN_PIPE: "the reader of standard output went away",
}
"""Every exit code of the command line, as ``--help`` lists them."""


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on several claims together: the last one in the order of ``Verdict``. A claim that
    is violated outranks one that is open, because it is certain. ``ValueError`` if there is none."""
    order = list(Verdict)
    return max(verdicts, key=order.index)
