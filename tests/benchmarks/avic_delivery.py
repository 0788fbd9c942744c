"""AVIC delivery, the model on which explicit-state checkers were compared.

vCPUs run, block and wake up; senders deliver vectors through the hardware or
through KVM; an inhibitor turns AVIC off and on. Its numbers of states and
transitions are known from SPIN, Rumur, TLC and C.
"""

from __future__ import annotations

from collections.abc import Sequence

from avicheck.encodings.expr import (
    FALSE,
    TRUE,
    Expr,
    and_,
    bitand,
    bitor,
    boolean,
    constant,
    eq,
    ite,
    le,
    lt,
    not_,
    or_,
)
from avicheck.encodings.transition import (
    Exchange,
    Family,
    Property,
    Transition,
    TransitionSystem,
    Variable,
)

OUT, REQUESTS, MODE_SET, IN_GUEST, EXITING, BLOCKING, CHECK, BLOCKED = range(8)
IDLE, SET_IRR, READ_MODE, READ_APICV, RING, WAKE, REQUEST, KICK = range(8)

SIZES = {
    "XS": (1, 1, 2),
    "S": (1, 1, 3),
    "M": (2, 1, 1),
    "L": (2, 1, 2),
    "XL": (2, 2, 1),
    "XXL": (1, 5, 1),
}
"""vCPUs, senders and vectors."""

COUNTS = {
    "XS": (22_901, 70_886, 47),
    "S": (87_670, 279_018, 57),
    "M": (1_332_769, 5_403_340, 60),
    "L": (14_252_145, 60_409_570, 77),
    "XL": (28_555_747, 147_680_378, 65),
    "XXL": (55_999_614, 402_709_666, 54),
}
"""Reachable states, transitions and depth."""


def _number(name: str, count: int) -> Variable:
    return Variable(name, 0, count - 1)


def _flag(name: str) -> Variable:
    return Variable(name, 0, 1, is_bool=True)


class _Builder:
    def __init__(self, vcpus: int, senders: int, vectors: int, bug: bool) -> None:
        self.vcpus, self.senders, self.vectors, self.bug = vcpus, senders, vectors, bug
        self.transitions: list[Transition] = []
        names = ("mode", "apicv", "isrun", "dbell", "reqev", "requpd", "wake")
        self.variables = [
            *(
                variable
                for i in range(vcpus)
                for variable in (
                    _number(f"pc{i}", 8),
                    *(_flag(f"{name}{i}") for name in names),
                    _number(f"irr{i}", 1 << vectors),
                    _number(f"isr{i}", 1 << vectors),
                )
            ),
            *(
                variable
                for j in range(senders)
                for variable in (
                    _number(f"spc{j}", 8),
                    _number(f"tgt{j}", vcpus),
                    _number(f"vec{j}", vectors),
                    _flag(f"sawg{j}"),
                )
            ),
            _number("ipc", 4),
            _flag("inhibit"),
        ]
        self.var = {variable.name: variable.expr for variable in self.variables}

    def step(self, name: str, thread: str, guard: Expr, **updates: Expr | int | bool) -> None:
        """Add a transition; numbers and truth values among the updates become constants."""
        exprs = {
            key: boolean(bool(value)) if self.var[key].is_bool else constant(value)
            for key, value in updates.items()
            if isinstance(value, int)
        }
        rest = {key: value for key, value in updates.items() if isinstance(value, Expr)}
        self.transitions.append(Transition(f"{thread}.{name}", thread, name, guard, exprs | rest))

    def top(self, bits: Expr) -> Expr:
        """The highest bit that is set, alone."""
        highest = constant(0)
        for v in range(self.vectors):
            highest = ite(le(constant(1 << v), bits), constant(1 << v), highest)
        return highest

    def delivered(self, irr: Expr, isr: Expr) -> tuple[Expr, Expr]:
        """IRR and ISR once the highest request is in service, if it may interrupt."""
        highest = self.top(irr)
        deliver = lt(self.top(isr), highest)
        below = bitand(irr, constant((1 << self.vectors) - 1))
        return (
            ite(deliver, self.without(below, highest), irr),
            ite(deliver, bitor(isr, highest), isr),
        )

    def without(self, bits: Expr, highest: Expr) -> Expr:
        """Bits without the highest one."""
        result = bits
        for v in range(self.vectors):
            result = ite(eq(highest, constant(1 << v)), bitand(bits, constant((1 << v) - 1)), result)
        return result

    def vcpu(self, i: int) -> None:
        """One vCPU's loop: requests, entry, guest, exit, blocking."""
        thread = f"vcpu{i}"
        var = {name.removesuffix(str(i)): expr for name, expr in self.var.items() if name.endswith(str(i))}
        pc, apicv, irr, isr = var["pc"], var["apicv"], var["irr"], var["isr"]
        inhibit, ipc = self.var["inhibit"], self.var["ipc"]
        requested = or_(var["reqev"], var["requpd"])
        new_irr, new_isr = self.delivered(irr, isr)
        eoi = self.without(isr, self.top(isr))

        def step(name: str, at: int, guard: Expr = TRUE, **updates: Expr | int | bool) -> None:
            changed = {f"{key}{i}": value for key, value in updates.items()}
            self.step(name, thread, and_(eq(pc, constant(at)), guard), **changed)

        locked = and_(le(constant(1), ipc), le(ipc, constant(2)))
        step("run", OUT, pc=REQUESTS, isrun=apicv)
        step(
            "upd",
            REQUESTS,
            and_(var["requpd"], not_(locked)),
            requpd=False,
            apicv=not_(inhibit),
            isrun=not_(inhibit),
            reqev=or_(var["reqev"], inhibit),
        )
        step(
            "ev",
            REQUESTS,
            and_(var["reqev"], not_(var["requpd"])),
            reqev=False,
            irr=ite(apicv, irr, new_irr),
            isr=ite(apicv, isr, new_isr),
        )
        step("go", REQUESTS, not_(requested), pc=MODE_SET, mode=True)
        step("abort", MODE_SET, requested, pc=REQUESTS, mode=False)
        step("enter", MODE_SET, not_(requested), pc=IN_GUEST, dbell=apicv)
        step("take", IN_GUEST, and_(apicv, var["dbell"]), dbell=False, irr=new_irr, isr=new_isr)
        in_service = lt(constant(0), isr)
        step("eoi", IN_GUEST, and_(in_service, apicv), isr=eoi, dbell=True)
        step(
            "eoi-exit", IN_GUEST, and_(in_service, not_(apicv)), isr=eoi, reqev=True, pc=EXITING, dbell=False
        )
        step("gexit", IN_GUEST, pc=EXITING, dbell=False)
        step("hlt", IN_GUEST, not_(in_service), pc=BLOCKING, mode=False, dbell=False)
        step("exit", EXITING, pc=OUT, mode=False)
        runnable = or_(lt(constant(0), irr), var["wake"])
        clear, check, last = (CHECK, BLOCKING, BLOCKED) if self.bug else (BLOCKING, CHECK, BLOCKED)
        step("blk", clear, pc=last if self.bug else CHECK, isrun=False)
        step("chk-run", check, runnable, pc=OUT, wake=False)
        step("chk-block", check, not_(runnable), pc=CHECK if self.bug else last)
        step("wkup", BLOCKED, var["wake"], pc=OUT, wake=False)

    def sender(self, j: int) -> None:
        """One sender's interrupts, through the hardware or through KVM."""
        thread, at = f"sender{j}", self.var[f"spc{j}"]
        tgt, vec, sawg = (self.var[f"{name}{j}"] for name in ("tgt", "vec", "sawg"))
        spc = f"spc{j}"

        def of_target(name: str) -> Expr:
            value = self.var[f"{name}0"]
            for i in range(1, self.vcpus):
                value = ite(eq(tgt, constant(i)), self.var[f"{name}{i}"], value)
            return value

        def step(name: str, spc_at: int, to: Expr | int, guard: Expr = TRUE, **updates: Expr | int) -> None:
            changed: dict[str, Expr | int] = {spc: to, **updates}
            if to == IDLE:
                changed[f"tgt{j}"] = 0
            self.step(name, thread, and_(eq(at, constant(spc_at)), guard), **changed)

        for i in range(self.vcpus):
            for v in range(self.vectors):
                step(f"pick{i}.{v}", IDLE, SET_IRR, **{f"tgt{j}": constant(i), f"vec{j}": constant(v)})
        for i in range(self.vcpus):
            bit = constant(1)
            for v in range(1, self.vectors):
                bit = ite(eq(vec, constant(v)), constant(1 << v), bit)
            aimed, irr = eq(tgt, constant(i)), self.var[f"irr{i}"]
            done = {f"irr{i}": bitor(irr, bit), f"vec{j}": constant(0)}
            step(f"setirr{i}", SET_IRR, READ_MODE, aimed, **done)
        apicv, pc = of_target("apicv"), of_target("pc")
        ring, wake = constant(RING), constant(WAKE)
        step("rdmode", READ_MODE, READ_APICV, **{f"sawg{j}": of_target("mode")})
        step("rdrun", READ_MODE, ite(of_target("isrun"), ring, wake), apicv)
        path = ite(not_(apicv), constant(REQUEST), ite(sawg, ring, wake))
        step("rdapicv", READ_APICV, path, **{f"sawg{j}": FALSE})
        in_guest = and_(eq(pc, constant(IN_GUEST)), apicv)
        sleeping = le(constant(BLOCKING), pc)
        for i in range(self.vcpus):
            aimed = eq(tgt, constant(i))
            woken = or_(self.var[f"wake{i}"], sleeping)
            step(f"ring{i}", RING, IDLE, aimed, **{f"dbell{i}": or_(self.var[f"dbell{i}"], in_guest)})
            step(f"wake{i}", WAKE, IDLE, aimed, **{f"wake{i}": woken})
            step(f"req{i}", REQUEST, KICK, aimed, **{f"reqev{i}": TRUE})
            step(f"kick{i}", KICK, IDLE, aimed, **{f"wake{i}": woken})

    def inhibitor(self) -> None:
        """Turn AVIC off or on: request, wait until no vCPU is in guest mode, change, release."""
        ipc, inhibit = self.var["ipc"], self.var["inhibit"]
        modes = [self.var[f"mode{i}"] for i in range(self.vcpus)]
        every = {f"requpd{i}": True for i in range(self.vcpus)}
        self.step("request", "inhibitor", eq(ipc, constant(0)), ipc=1, **every)
        self.step("wait", "inhibitor", and_(eq(ipc, constant(1)), *map(not_, modes)), ipc=2)
        self.step("toggle", "inhibitor", eq(ipc, constant(2)), ipc=3, inhibit=not_(inhibit))
        self.step("release", "inhibitor", eq(ipc, constant(3)), ipc=0)

    def lost(self, i: int) -> Expr:
        """A blocked vCPU has a request that nobody is going to wake it up for."""
        senders: Sequence[Expr] = [
            and_(le(constant(READ_MODE), self.var[f"spc{j}"]), eq(self.var[f"tgt{j}"], constant(i)))
            for j in range(self.senders)
        ]
        return and_(
            eq(self.var[f"pc{i}"], constant(BLOCKED)),
            lt(constant(0), self.var[f"irr{i}"]),
            not_(self.var[f"wake{i}"]),
            *map(not_, senders),
        )


VCPU = ("pc", "mode", "apicv", "isrun", "dbell", "reqev", "requpd", "wake", "irr", "isr")
SENDER = ("spc", "tgt", "vec", "sawg")


def _families(vcpus: int, senders: int) -> tuple[Family, ...]:
    """The vCPUs, at which the senders aim, and the senders."""
    places = [tuple((f"{name}{i}", f"{name}{i + 1}") for name in VCPU) for i in range(vcpus - 1)]
    aims = [{f"tgt{j}": ((i, i + 1),) for j in range(senders)} for i in range(vcpus - 1)]
    others = [tuple((f"{name}{j}", f"{name}{j + 1}") for name in SENDER) for j in range(senders - 1)]
    families = (
        Family("vcpus", tuple(map(Exchange, places, aims))),
        Family("senders", tuple(Exchange(pairs, {}) for pairs in others)),
    )
    return tuple(family for family in families if family.exchanges)


def avic_delivery(vcpus: int, senders: int, vectors: int, bug: bool = False) -> TransitionSystem:
    """The model. With the bug a vCPU looks for interrupts before it clears is_running, and so
    may sleep through one."""
    build = _Builder(vcpus, senders, vectors, bug)
    for i in range(vcpus):
        build.vcpu(i)
    for j in range(senders):
        build.sender(j)
    build.inhibitor()
    initial = {variable.name: 0 for variable in build.variables} | {f"apicv{i}": 1 for i in range(vcpus)}
    conjuncts = tuple((f"vcpu{i}", not_(build.lost(i))) for i in range(vcpus))
    return TransitionSystem(
        f"avic-delivery-{vcpus}-{senders}-{vectors}{'-bug' if bug else ''}",
        tuple(build.variables),
        (initial,),
        tuple(build.transitions),
        (
            Property("no-lost-interrupt", "always", and_(*(c for _, c in conjuncts)), conjuncts=conjuncts),
            Property("sleeps", "sometimes", eq(build.var["pc0"], constant(BLOCKED))),
        ),
        FALSE,
        _families(vcpus, senders),
    )
