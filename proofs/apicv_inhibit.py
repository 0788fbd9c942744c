"""The claims about switching APICv and AVIC, and what was asked in review of two patches.

Each is a property of a model in some surroundings, with the verdict that the page ``apicv-inhibit.md`` cites;
``decided`` runs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from avicheck.checker.engine import EngineResult
from avicheck.checker.systems import Choices, instance
from avicheck.checker.verdict import Verdict

HOLDS, VIOLATED = Verdict.HOLDS, Verdict.VIOLATED


@dataclass(frozen=True)
class Cited:
    """A statement, in words; the property that it rests on, of which model with what chosen; what came out.
    A ``sometimes`` property that holds says that something can happen, a violated one that it cannot."""

    name: str
    sentence: str
    model: str
    asked: str
    chosen: Choices
    verdict: Verdict


def decided(cited: Cited) -> EngineResult:
    """What the explicit engine says, exhaustively."""
    from avicheck.checker.engines import check

    return check(instance(cited.model, cited.chosen).system, cited.asked, "explicit")


CREATION, L2 = "apicv-inhibit-creation", "apicv-inhibit-l2-page"


def creation(*on: str, variant: str = "cleared-at-once", id: str = "too-big") -> Choices:
    """A vCPU with an id that is too big, unless said otherwise, on 6.19 with INH-03b fixed."""
    return Choices(on=("vmcb-init", *on), assumed={"variant": variant, "id": id})


PHYSICAL_ID_TOO_BIG: Final = (
    Cited(
        "too-big/accepted",
        "With the patch no vCPU is refused because of its id.",
        CREATION,
        "refused",
        creation(),
        HOLDS,
    ),
    Cited(
        "too-big/refused-before",
        "Without it one is (EINVAL).",
        CREATION,
        "refused",
        Choices(off=("id-too-big",), assumed={"id": "too-big"}),
        VIOLATED,
    ),
    Cited(
        "too-big/request-is-a-no-op",
        "As the reviewer says: the pending KVM_REQ_APICV_UPDATE changes nothing for that vCPU.",
        CREATION,
        "request-matters",
        creation(),
        HOLDS,
    ),
    Cited(
        "too-big/never-loaded-early",
        "No vCPU is ever loaded with AVIC state that it never initialised.",
        CREATION,
        "loaded-early",
        creation(),
        HOLDS,
    ),
    Cited(
        "too-big/state-agrees",
        "No vCPU is ever in the guest with a wrong apicv_active, whatever else is inhibited meanwhile.",
        CREATION,
        "inhibit-agrees",
        creation(),
        HOLDS,
    ),
    Cited(
        "too-big/clearing-is-needed",
        "Were it left to the request, the vCPU would be loaded with AVIC before: clearing at once is needed.",
        CREATION,
        "loaded-early",
        creation(variant="left-to-request"),
        VIOLATED,
    ),
    Cited(
        "too-big/window",
        "Between kvm_create_lapic and avic_init_vcpu apicv_active is true without AVIC: nobody looks then.",
        CREATION,
        "window",
        creation(),
        HOLDS,
    ),
    Cited(
        "too-big/one-point-closes-window",
        "With the one point of initialisation that the reviewer sketches there is no such time.",
        CREATION,
        "window",
        creation(variant="init-point"),
        VIOLATED,
    ),
    Cited(
        "too-big/one-point-agrees",
        "That variant breaks nothing, for an id in the table ...",
        CREATION,
        "inhibit-agrees",
        creation(variant="init-point", id="in-table"),
        HOLDS,
    ),
    Cited(
        "too-big/one-point-never-early",
        "... or one that is too big.",
        CREATION,
        "loaded-early",
        creation(variant="init-point"),
        HOLDS,
    ),
    Cited(
        "too-big/request-still-needed",
        "But it does not replace the request: without, INH-03a is back.",
        CREATION,
        "inhibit-agrees",
        creation(variant="init-point-alone", id="in-table"),
        VIOLATED,
    ),
)


def l2(*on: str, off: tuple[str, ...] = (), lift: str = "never", kernel: str = "6.1") -> Choices:
    """An L1 that gives L2 its APIC page, on a kernel without the merged fix."""
    return Choices(kernel=kernel, on=on, off=off, assumed={"lift": lift})


RFC: Final = "inhibit-on-l2-access"
L2_ACCESS: Final = (
    Cited("l2/lost", "Without the patch an interrupt of L1 is lost.", L2, "interrupt-lost", l2(), VIOLATED),
    Cited("l2/not-lost", "With it none is.", L2, "interrupt-lost", l2(RFC), HOLDS),
    Cited(
        "l2/first-access",
        "The access that is detected is itself emulated on the old state.",
        L2,
        "stale-access",
        l2(RFC),
        VIOLATED,
    ),
    Cited("l2/no-second-access", "No later access is.", L2, "stale-again", l2(RFC), HOLDS),
    Cited(
        "l2/for-good",
        "The reason is never cleared: L1 runs without APICv for ever after.",
        L2,
        "apicv-lost",
        l2(RFC),
        VIOLATED,
    ),
    Cited(
        "l2/lifting-loses",
        "Cleared when L2 has left, it would lose interrupts again on kernels that do not load SVI.",
        L2,
        "interrupt-lost",
        l2(RFC, lift="in-l1"),
        VIOLATED,
    ),
    Cited(
        "l2/lifting-with-svi",
        "With SVI loaded on activation (6.19) it could be cleared.",
        L2,
        "interrupt-lost",
        l2(RFC, off=("defer-svi",), lift="in-l1", kernel="6.19"),
        HOLDS,
    ),
    Cited(
        "l2/merged-instead",
        "The fix that was merged loses nothing either, and leaves APICv on.",
        L2,
        "interrupt-lost",
        l2("defer-svi"),
        HOLDS,
    ),
    Cited("l2/merged-keeps-apicv", "(L1 never runs without.)", L2, "apicv-lost", l2("defer-svi"), HOLDS),
)

AS_IT_IS: Final = (
    Cited(
        "6.19/created",
        "6.19 as it is: INH-03b, a vCPU created while AVIC is inhibited.",
        CREATION,
        "inhibit-agrees",
        Choices(),
        VIOLATED,
    ),
    Cited(
        "6.19/restored-in-l2",
        "6.19 as it is: INH-11b, a vCPU restored in L2.",
        "apicv-inhibit-nested",
        "agrees-in-l2",
        Choices(),
        VIOLATED,
    ),
    Cited(
        "6.19/alias",
        "6.19 as it is: INH-14b, the APIC's registers by their address in x2APIC mode.",
        "apicv-inhibit-page",
        "alias",
        Choices(),
        VIOLATED,
    ),
    Cited(
        "6.19/threshold",
        "6.19 as it is: INH-09c, a VM entry that fails.",
        "apicv-inhibit-threshold",
        "entry-fails",
        Choices(),
        VIOLATED,
    ),
    Cited(
        "6.19/window",
        "6.19 as it is: INH-IRQWIN, an ExtINT that waits for a window which never opens.",
        "apicv-inhibit-window",
        "extint-lost",
        Choices(),
        VIOLATED,
    ),
    Cited(
        "window/toggling-ends",
        "A window that is asked for or opens never makes KVM toggle for ever.",
        "apicv-inhibit-window",
        "toggling-ends",
        Choices(on=("count-windows",)),
        HOLDS,
    ),
    Cited(
        "6.19/cr8",
        "6.19 as it is: INH-09b, writes of CR8 that exit with AVIC on ...",
        "apicv-inhibit-tpr",
        "intercepted",
        Choices(),
        VIOLATED,
    ),
    Cited(
        "6.19/v-tpr",
        "... without V_TPR becoming wrong, because InhibitFix.SYNC_V_TPR is in.",
        "apicv-inhibit-tpr",
        "v-tpr-agrees",
        Choices(),
        HOLDS,
    ),
    Cited(
        "6.19/protocol",
        "The protocol of setters and running vCPUs itself: nothing is lost.",
        "apicv-inhibit",
        "interrupt-lost",
        Choices(scope={"vcpus": 1, "setters": 1}),
        HOLDS,
    ),
)

CITED: Final = (*PHYSICAL_ID_TOO_BIG, *L2_ACCESS, *AS_IT_IS)
"""Everything that the page cites."""
