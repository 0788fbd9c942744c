"""The model apicv-inhibit-creation: a vCPU is created while others run and reasons come and go (SVM).

vCPU 0 exists and runs; vCPU 1 is created, with an id that AVIC's table holds or not, and then runs too. How
a request reaches a vCPU that is in the guest is the subject of apicv-inhibit; here it is one step, and so is
the entry into the guest.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Final

from avicheck.spec.apicv_inhibit import InhibitFix, Mask, Reason, bit, kernels_with
from avicheck.spec.cpu import Cpu
from avicheck.spec.description import Assumption, Description, Size
from avicheck.spec.lang import Range, Scope, SizedBy
from avicheck.spec.memory import Array, Reg, Var, local, shared
from avicheck.spec.threads import Model, Thread, World, always, never, sometimes


class Id(Enum):
    """The id of the vCPU that is created."""

    IN_TABLE = "AVIC's table holds it"
    TOO_BIG = "it is beyond AVIC's table: above 254, with x2AVIC above 511 or 4095"


class Variant(Enum):
    """How creation deals with apicv_active."""

    CLEARED_AT_ONCE = "cleared as soon as the id turns out to be too big, as in the patch"
    LEFT_TO_REQUEST = "left to KVM_REQ_APICV_UPDATE, which is pending anyway"
    INIT_POINT = "one place initialises AVIC and sets apicv_active, as the reviewer sketches"
    INIT_POINT_ALONE = "that place, and no KVM_REQ_APICV_UPDATE"


class CreationFault(Enum):
    """Faults planted to see whether the properties find them."""

    NO_INHIBIT = "an id that is too big does not inhibit the VM"
    NO_REFRESH = "an update changes apicv_active and leaves the VMCB as it is"
    NO_ENTRY = "the table's entry is not made, though there is room"


class Table(Enum):
    """What hardware finds in the VMCB of a vCPU."""

    UNSET = "no tables"
    OFF = "tables, AVIC disabled"
    ON = "tables, AVIC enabled"


WRITER: Final = -1
ALL: Final = 8191
CREATED: Final = 1
ATOMIC: Final = "how requests reach a vCPU in the guest is shown by apicv-inhibit"
ENTRY: Final = "the entry's handshake with requests is shown by apicv-inhibit"
UNLISTED: Final = "nobody else knows the vCPU yet"


@shared
class Vcpu:
    """A vCPU; ``online`` is that kvm_make_all_cpus_request reaches it, ``initialised`` that its entry in the
    table exists. ``loaded_early`` remembers that it was loaded with AVIC and without that entry."""

    online: Var[bool]
    request: Var[bool]
    in_guest: Var[bool]
    apicv_active: Reg[bool]
    initialised: Reg[bool]
    vmcb: Reg[Table]
    loaded_early: Reg[bool]


@shared
class Kvm:
    """The VM. ``failed`` is that KVM_CREATE_VCPU returned EINVAL."""

    reasons: Var[Mask]
    lock: Var[Annotated[int, Range(-1, 4)]]
    failed: Reg[bool]
    vcpus: Annotated[Array[Vcpu], SizedBy("vcpus")]


@local
class Nothing:
    """No local variables."""


@local
class Setting:
    """The local variables of whoever sets or clears a reason."""

    is_set: bool = False


def changed(reasons: int, reason: Reason, is_set: bool) -> int:
    """The mask with a reason or without it."""
    return reasons | bit(reason) if is_set else reasons & (ALL - bit(reason))


def ask(cpu: Cpu, reason: Reason, is_set: bool) -> None:
    """down_write, and the requests, if the mask becomes empty or stops being so. Only vCPUs that are online
    get one."""
    cpu.wait_until(cpu.cmpxchg(Kvm.lock, 0, WRITER) == 0)
    reasons = cpu.load(Kvm.reasons)
    if (reasons != 0) != (changed(reasons, reason, is_set) != 0):
        for i in range(cpu.scope["vcpus"]):
            if cpu.load(Kvm.vcpus[i].online):
                cpu.test_and_set(Kvm.vcpus[i].request)


def change(cpu: Cpu, reason: Reason, is_set: bool) -> None:
    """Once all that were asked are out of the guest: the mask, up_write."""
    reasons = cpu.load(Kvm.reasons)
    new = changed(reasons, reason, is_set)
    if (reasons != 0) != (new != 0):
        for i in range(cpu.scope["vcpus"]):
            cpu.wait_until(not cpu.load(Kvm.vcpus[i].in_guest))
    cpu.xchg(Kvm.reasons, new)
    cpu.xchg(Kvm.lock, 0)


# Creation.


CREATOR: Final = Thread("creator", Nothing, source="x86.c kvm_arch_vcpu_create")


def at_one_point(cpu: Cpu) -> bool:
    """Whether AVIC is initialised where apicv_active is."""
    return cpu.has(Variant.INIT_POINT) or cpu.has(Variant.INIT_POINT_ALONE)


@CREATOR.step(source="lapic.c kvm_create_lapic", coarse=UNLISTED)
def create_lapic(cpu: Cpu, my: Nothing) -> str:
    """apicv_active: speculatively true, with a request that will put it right; before, what the VM is. At one
    point with AVIC's tables: only if they are there."""
    vcpu = Kvm.vcpus[CREATED]
    pends = cpu.has(InhibitFix.PEND_AT_CREATION) and not cpu.has(Variant.INIT_POINT_ALONE)
    if pends:
        cpu.test_and_set(vcpu.request)
    if at_one_point(cpu) and cpu.has(Id.TOO_BIG):
        return "ask"
    cpu.write(vcpu.apicv_active, pends or cpu.load(Kvm.reasons) == 0)
    cpu.write(vcpu.initialised, at_one_point(cpu))
    return "init_vmcb" if at_one_point(cpu) else "init_backing_page"


@CREATOR.step(source="svm/avic.c avic_init_backing_page")
def init_backing_page(cpu: Cpu, my: Nothing) -> str:
    """The table's entry, if the table has room; else the vCPU is refused, or the VM inhibited."""
    if cpu.has(Id.IN_TABLE):
        cpu.write(Kvm.vcpus[CREATED].initialised, not cpu.has(CreationFault.NO_ENTRY))
        return "init_vmcb"
    if cpu.has(InhibitFix.ID_TOO_BIG):
        return "ask"
    cpu.write(Kvm.failed, True)
    return "done"


@CREATOR.step(at="ask", source="x86.c kvm_set_apicv_inhibit", coarse=ATOMIC)
def creator_ask(cpu: Cpu, my: Nothing) -> None:
    """The requests: the new vCPU is not among those that get one."""
    ask(cpu, Reason.PHYSICAL_ID_TOO_BIG, True)


@CREATOR.step(at="inhibit", source="x86.c kvm_set_apicv_inhibit", coarse=ATOMIC)
def creator_inhibit(cpu: Cpu, my: Nothing) -> None:
    """The mask."""
    change(cpu, Reason.PHYSICAL_ID_TOO_BIG, not cpu.has(CreationFault.NO_INHIBIT))


@CREATOR.step(source="svm/avic.c avic_init_backing_page")
def clear_active(cpu: Cpu, my: Nothing) -> None:
    """apicv_active = false, without waiting for the request."""
    if not cpu.has(Variant.LEFT_TO_REQUEST):
        cpu.write(Kvm.vcpus[CREATED].apicv_active, False)


@CREATOR.step(source="svm.c init_vmcb; svm/avic.c avic_init_vmcb")
def init_vmcb(cpu: Cpu, my: Nothing) -> None:
    """AVIC in the VMCB: as the VM is inhibited, or with InhibitFix.VMCB_INIT as apicv_active is."""
    vcpu = Kvm.vcpus[CREATED]
    on = cpu.read(vcpu.apicv_active) if cpu.has(InhibitFix.VMCB_INIT) else cpu.load(Kvm.reasons) == 0
    if cpu.read(vcpu.initialised):
        cpu.write(vcpu.vmcb, Table.ON if on else Table.OFF)


@CREATOR.step(source="svm.c svm_vcpu_load; svm/avic.c avic_vcpu_load")
def first_load(cpu: Cpu, my: Nothing) -> None:
    """vcpu_load for the reset: with apicv_active, AVIC's entry is written."""
    load_vcpu(cpu, CREATED)


def load_vcpu(cpu: Cpu, index: int) -> None:
    """Note where avic_vcpu_load finds no entry."""
    vcpu = Kvm.vcpus[index]
    if cpu.read(vcpu.apicv_active) and not cpu.read(vcpu.initialised):
        cpu.write(vcpu.loaded_early, True)


@CREATOR.step(source="kvm_main.c kvm_vm_ioctl_create_vcpu")
def put_online(cpu: Cpu, my: Nothing) -> str:
    """online_vcpus counts it from now on."""
    cpu.smp_store_release(Kvm.vcpus[CREATED].online, True)
    return "done"


# Running.


RUNNER: Final = Thread("runner", Nothing, count="vcpus", source="x86.c vcpu_run")


@RUNNER.step(source="svm.c svm_vcpu_load")
def kvm_run(cpu: Cpu, my: Nothing) -> None:
    """KVM_RUN: only for a vCPU that userspace has the file descriptor of."""
    cpu.wait_until(cpu.load(Kvm.vcpus[cpu.index].online))
    load_vcpu(cpu, cpu.index)


@RUNNER.step(coarse="only the vCPU itself clears its requests")
def requests(cpu: Cpu, my: Nothing) -> str:
    """KVM_REQ_APICV_UPDATE."""
    vcpu = Kvm.vcpus[cpu.index]
    if not cpu.load(vcpu.request):
        return "enter"
    cpu.test_and_clear(vcpu.request)
    return "lock"


@RUNNER.step()
def lock(cpu: Cpu, my: Nothing) -> str:
    """down_read(apicv_update_lock)."""
    cpu.wait_until(cpu.atomic_fetch_add(Kvm.lock, 1) != WRITER)
    return "update"


@RUNNER.step(source="x86.c __kvm_vcpu_update_apicv")
def update(cpu: Cpu, my: Nothing) -> str:
    """The vendor is called only if apicv_active changes."""
    vcpu = Kvm.vcpus[cpu.index]
    want = cpu.load(Kvm.reasons) == 0
    if want == cpu.read(vcpu.apicv_active):
        return "unlock"
    cpu.write(vcpu.apicv_active, want)
    return "refresh"


@RUNNER.step(source="svm/avic.c avic_refresh_apicv_exec_ctrl")
def refresh(cpu: Cpu, my: Nothing) -> None:
    """The VMCB's bit; the vCPU is loaded."""
    vcpu = Kvm.vcpus[cpu.index]
    on = cpu.read(vcpu.apicv_active)
    if cpu.read(vcpu.initialised) and not cpu.has(CreationFault.NO_REFRESH):
        cpu.write(vcpu.vmcb, Table.ON if on else Table.OFF)
    load_vcpu(cpu, cpu.index)


@RUNNER.step()
def unlock(cpu: Cpu, my: Nothing) -> str:
    """up_read(apicv_update_lock)."""
    cpu.atomic_fetch_add(Kvm.lock, -1)
    return "requests"


@RUNNER.step(coarse=ENTRY)
def enter(cpu: Cpu, my: Nothing) -> str:
    """Into the guest, unless there is a request."""
    vcpu = Kvm.vcpus[cpu.index]
    if cpu.load(vcpu.request):
        return "requests"
    cpu.xchg(vcpu.in_guest, True)
    return "guest"


@RUNNER.step(at="guest")
def leave(cpu: Cpu, my: Nothing) -> str:
    """Out of the guest: kicked, or for a reason of its own."""
    cpu.xchg(Kvm.vcpus[cpu.index].in_guest, False)
    return "requests"


# Another reason.


SETTER: Final = Thread("setter", Setting, source="x86.c kvm_set_or_clear_apicv_inhibit")


@SETTER.step(at="setter_ask", coarse=ATOMIC)
def setter_ask(cpu: Cpu, my: Setting) -> None:
    """The requests."""
    ask(cpu, Reason.HYPERV, not my.is_set)


@SETTER.step(at="setter_change", coarse=ATOMIC)
def setter_change(cpu: Cpu, my: Setting) -> str:
    """The mask."""
    change(cpu, Reason.HYPERV, not my.is_set)
    my.is_set = not my.is_set
    return "setter_ask"


# What is asked.


def agree(world: World[Kvm]) -> bool:
    """P-INH: in the guest, mask, apicv_active and the VMCB agree."""
    activated = world.shared.reasons == 0
    for vcpu in world.shared.vcpus:
        if vcpu.in_guest and (vcpu.apicv_active != activated or (vcpu.vmcb == Table.ON) != activated):
            return False
    return True


def loaded_early(world: World[Kvm]) -> bool:
    """avic_vcpu_load was called for a vCPU without an entry."""
    return any(vcpu.loaded_early for vcpu in world.shared.vcpus)


def refused(world: World[Kvm]) -> bool:
    """KVM_CREATE_VCPU fails for an id that KVM says it supports."""
    return world.shared.failed


def request_changes(world: World[Kvm]) -> bool:
    """An update changes apicv_active of a vCPU whose id is too big."""
    return world.has(Id.TOO_BIG) and world.of(RUNNER)[CREATED].at("refresh")


def speculative(world: World[Kvm]) -> bool:
    """apicv_active is true for a vCPU without an entry."""
    return world.shared.vcpus[CREATED].apicv_active and not world.shared.vcpus[CREATED].initialised


def created_runs(world: World[Kvm]) -> bool:
    """The new vCPU runs beside the old one."""
    return all(vcpu.in_guest for vcpu in world.shared.vcpus)


def initial(scope: Scope, options: frozenset[Enum]) -> list[Kvm]:
    """vCPU 0 exists, in a VM that is inhibited by nothing."""
    exists = Vcpu(True, False, False, True, True, Table.ON, False)
    fresh = Vcpu(False, False, False, False, False, Table.UNSET, False)
    return [Kvm(0, 0, False, (exists, fresh))]


CREATION: Final = Model(
    "apicv-inhibit-creation",
    Kvm,
    (CREATOR, RUNNER, SETTER),
    initial,
    (
        always("inhibit-agrees", "In the guest, mask, apicv_active and VMCB agree.", agree),
        never("loaded-early", "No vCPU is loaded with AVIC that it never initialised.", loaded_early),
        never("refused", "No vCPU is refused because of its id.", refused),
        never("request-matters", "An id that is too big leaves nothing for the request.", request_changes),
        sometimes("both-run", "The new vCPU can run beside the old one.", created_runs),
    ),
)

WINDOW: Final = sometimes("window", "apicv_active can be true before AVIC is initialised.", speculative)
"""What tells the variants apart, though nobody is hurt by it."""

FIXES: Final = (InhibitFix.ID_TOO_BIG, InhibitFix.PEND_AT_CREATION, InhibitFix.VMCB_INIT)
"""The fixes that bear on this model."""

DESCRIPTION: Final = Description(
    Model(CREATION.name, Kvm, CREATION.threads, initial, (*CREATION.asked, WINDOW)),
    "A vCPU created while reasons to inhibit AVIC come and go.",
    (
        "kvm_create_lapic, avic_init_vcpu, init_vmcb, the first vcpu_load, the vCPU goes online, KVM_RUN",
        "an id beyond AVIC's table: refused, or the VM inhibited; the single point of initialisation",
    ),
    {"vcpus": Size(2, least=2, most=2)},
    kernels_with(FIXES),
    "6.19",
    (FIXES, CreationFault),
    (Assumption(Id, "both occur"), Assumption(Variant, "review of v3 12/62, 2025-06-17")),
)
