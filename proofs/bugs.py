"""The corpus of bugs that there were, as trials of the models: ``avicheck bugs``.

The names are those of the collection the bugs were taken from: MAP for the APIC map, INH for switching APICv
and AVIC; INH-IRQWIN and INH-L2 were added. Each stands for an upstream change, or for several of which the
first was not enough.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from avicheck.checker.bugs import Bug, Trial
from avicheck.checker.systems import Choices
from avicheck.checker.verdict import Verdict
from avicheck.spec.machine import STEPS_SUCCEED

WITHOUT: Final = "without fix"
FIRST: Final = "first alone"
WITH: Final = "with fix"
OTHER: Final = "other answer"

SMALL: Final = {"vcpus": 1, "setters": 1}
"""A vCPU, somebody who inhibits, somebody who sends."""


def bug(
    name: str,
    model: str,
    asked: str,
    *fixes: str,
    around: Choices | None = None,
    too: Iterable[str] = (),
    or_by: str = "",
    remark: str = "",
) -> Bug:
    """A bug with one fix, or with a first and a second one: tried without, with the first alone, with all.
    ``too`` are other fixes that stand in the way of it, switched off where the bug is to be seen; ``or_by``
    is another answer to it, tried alone."""
    trials = [Trial(WITHOUT, Verdict.VIOLATED, off=(*fixes, *too))]
    if len(fixes) > 1:
        trials.append(Trial(FIRST, Verdict.VIOLATED, on=fixes[:1], off=(*fixes[1:], *too)))
    trials.append(Trial(WITH, Verdict.HOLDS, on=fixes, off=tuple(too)))
    if or_by:
        trials.append(Trial(OTHER, Verdict.HOLDS, on=(or_by,), off=(*fixes, *too)))
    return Bug(name, model, asked, fixes, around or Choices(), tuple(trials), remark)


def small(*on: str, **assumed: str) -> Choices:
    """The smallest scope of apicv-inhibit, with something switched on."""
    return Choices(scope=SMALL, on=on, assumed=assumed)


LIFE: Final = "apic-map-life"
RUN, CREATION, NESTED = "apicv-inhibit", "apicv-inhibit-creation", "apicv-inhibit-nested"
PAGE, TPR = "apicv-inhibit-page", "apicv-inhibit-tpr"
TWO_FIXES: Final = "The hint that IRR is worth a look; two changes, for two ways to get it wrong."

BUGS: Final = (
    bug("MAP-01", LIFE, "routed-right", "dirty-states", around=Choices(assumed={"changes": "ids"})),
    bug(
        "MAP-03a",
        LIFE,
        STEPS_SUCCEED,
        "phys-bounds",
        too=("retry",),
        remark="The step that fails is a write past the end of the physical map.",
    ),
    bug(
        "MAP-03b",
        LIFE,
        "dropped-for-room",
        "retry",
        remark="The fix of MAP-03a alone: interrupts take the slow path until the next change, APICv is off.",
    ),
    bug("MAP-04", LIFE, "routed-right", "aliased-xapic-ids", around=Choices(assumed={"changes": "ids"})),
    bug("MAP-05b", LIFE, "routed-right", "logical-aliased", around=Choices(assumed={"changes": "ldr"})),
    bug("INH-01", RUN, "inhibit-agrees", "locked-update", around=small()),
    bug("INH-02", RUN, "interrupt-lost", "event-on-disable", around=small()),
    bug("INH-03a", CREATION, "inhibit-agrees", "pend-at-creation", around=Choices(on=("vmcb-init",))),
    bug("INH-03b", CREATION, "inhibit-agrees", "vmcb-init"),
    bug(
        "INH-04",
        NESTED,
        "agrees-in-l1",
        "defer-in-l2",
        "refresh-at-vmexit",
        around=Choices(assumed={"vendor": "vmx"}),
    ),
    bug("INH-06", RUN, "interrupt-lost", "svi-on-enable", around=small(vendor="vmx")),
    bug(
        "INH-08i",
        RUN,
        "interrupt-lost",
        "keep-irr-pending",
        "set-irr-pending",
        around=small("restores"),
        remark=TWO_FIXES,
    ),
    bug(
        "INH-08ii",
        RUN,
        "interrupt-lost",
        "keep-irr-pending",
        around=small("device-posts"),
        too=("set-irr-pending",),
        remark=TWO_FIXES,
    ),
    bug("INH-09a", TPR, "v-tpr-agrees", "sync-v-tpr"),
    bug(
        "INH-09b",
        TPR,
        "intercepted",
        "cr8-intercept-on-toggle",
        remark="With INH-09a fixed, V_TPR is right all the same: the exits are needless, no more.",
    ),
    bug("INH-09c", "apicv-inhibit-threshold", "entry-fails", "cr8-intercept-on-ppr"),
    bug("INH-11a", NESTED, "agrees-in-l1", "refresh-in-leave-nested"),
    bug("INH-11b", NESTED, "agrees-in-l2", "inhibit-at-restore"),
    bug("INH-13a", PAGE, "alias", "inhibit-memslot", around=Choices(assumed={"hardware": "hybrid"})),
    bug("INH-13b", PAGE, "access-lost", "block-faults-in-zap"),
    bug("INH-14a", PAGE, "access-lost", "flush-on-enable"),
    bug("INH-14b", PAGE, "alias", "flush-on-x2avic"),
    bug(
        "INH-IRQWIN",
        "apicv-inhibit-window",
        "extint-lost",
        "count-windows",
        remark="One bit for the windows of all vCPUs: the first one that opens switches AVIC on again.",
    ),
    bug(
        "INH-L2",
        "apicv-inhibit-l2-page",
        "interrupt-lost",
        "defer-svi",
        or_by="inhibit-on-l2-access",
        remark="The other answer is the RFC of 2023-08-07: an inhibit of its own.",
    ),
)
"""Every bug."""
