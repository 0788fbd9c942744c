"""What Secure AVIC relies on: the page ``secure-avic-matrix.md``, made anew by ``python -m``.

Each section is one ``avicheck matrix``, whose command line it tells.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from avicheck.checker.engines import Limits
from avicheck.checker.matrix import plan, smaller
from avicheck.checker.matrix_report import assumptions, bounds, properties
from avicheck.checker.matrix_runs import Matrix, fill
from avicheck.checker.systems import Choices, instance
from avicheck.spec.machine import MemoryModel

HEAD: Final = """# What Secure AVIC relies on

Made by `python -m avicheck.proofs.secure_avic_matrix`. For each property: under which answers to the open
points of the hardware, other than the defaults, it is violated, by smallest sets of them, each with the
length of its shortest run, which was replayed on the executable model; and the largest sets with which it
holds. A property that holds with `all` relies on none of them. What is violated by all defaults is no
property of the design, or a guard (such as `sleeps`) whose situation does not arise in that traffic.
"""


@dataclass(frozen=True)
class Section:
    """One matrix: of a model, without some of its traffic, over combinations with at most so many deviations
    (all, if there is no such limit)."""

    title: str
    model: str
    without: tuple[str, ...] = ()
    memory: MemoryModel = "sc"
    deviations: int | None = None

    @property
    def command(self) -> str:
        """How a user asks for it."""
        words = ["avicheck matrix", self.model, *(f"--without {each}" for each in self.without)]
        words += ["--memory tso"] if self.memory == "tso" else []
        words += [f"--deviations {self.deviations}"] if self.deviations is not None else []
        return " ".join(words)

    def decide(self, jobs: int = 1) -> Matrix:
        """The matrix, filled in."""
        chosen = instance(self.model, Choices(memory=self.memory, off=self.without))
        found = plan(smaller(chosen), (), (), self.deviations, 5_000)
        fill(found, "explicit", Limits(), jobs)
        return found

    def text(self, found: Matrix, told: Collection[str] = ()) -> str:
        """The section of the page, made of its matrix. What is assumed is explained unless ``told``."""
        new = [each for each in found.varied if each.name not in told]
        parts = [f"## {self.title}", f"`{self.command}`", bounds(found)]
        return "\n\n".join([*parts, *([assumptions(new)] if new else []), properties(found)]) + "\n"


DEVICES: Final = ("edges", "refused")
LEVELS: Final = ("level-one", "level-two")

SECTIONS: Final = (
    Section("The backing page", "secure-avic-page"),
    Section("NMIs", "secure-avic-nmi"),
    Section("The PIT", "secure-avic-legacy"),
    Section("The IOAPIC, in KVM or in userspace", "secure-avic-irqchip"),
    Section("The timer", "secure-avic-timer"),
    Section("A CPU that comes back", "secure-avic-online"),
    Section("IPIs", "secure-avic", (*DEVICES, *LEVELS), deviations=2),
    Section("IPIs again and again, x86-TSO", "secure-avic", (*DEVICES, *LEVELS, "once"), "tso", deviations=1),
    Section("Edges, allowed and refused", "secure-avic", ("ipis", *LEVELS), deviations=2),
    Section("Two level-triggered lines", "secure-avic", ("ipis", *DEVICES), deviations=2),
    Section("Everything at once", "secure-avic", deviations=1),
    Section("IPIs arrive in the end", "secure-avic-arrival", (*DEVICES, "level-one"), deviations=1),
    Section("Edges arrive in the end", "secure-avic-arrival", ("ipis", "level-one"), deviations=1),
    Section("A line is served in the end", "secure-avic-arrival", ("ipis", *DEVICES), deviations=1),
)


def page(sections: Iterable[Section] = SECTIONS) -> str:
    """The whole page, decided now."""
    parts, told = [HEAD], set[str]()
    for section in sections:
        found = section.decide()
        parts.append(section.text(found, told))
        told |= {each.name for each in found.varied}
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
