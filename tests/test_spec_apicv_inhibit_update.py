"""The update of a vCPU, as a thread's steps and as one rule: the same result."""

from __future__ import annotations

from enum import Enum
from itertools import product

import pytest

from avicheck.spec.apic import ApicMode
from avicheck.spec.apicv_inhibit import Apicv, InhibitFix, Toggle, Vendor, __kvm_vcpu_update_apicv
from avicheck.spec.apicv_inhibit_model import APICV_INHIBIT
from avicheck.spec.apicv_inhibit_state import APICV_UPDATE, EVENT, Kvm
from avicheck.spec.apicv_inhibit_vcpu import VCPU
from avicheck.spec.kernels import Kernel
from avicheck.spec.lang import update
from avicheck.spec.machine import Machine
from avicheck.spec.threads import World

FIXES = (
    InhibitFix.EVENT_ON_DISABLE,
    InhibitFix.SVI_ON_ENABLE,
    InhibitFix.KEEP_IRR_PENDING,
    InhibitFix.SET_IRR_PENDING,
)
KERNELS = [frozenset(InhibitFix), *(frozenset(InhibitFix) - {fix} for fix in FIXES)]
KERNELS.append(frozenset(InhibitFix) - {InhibitFix.KEEP_IRR_PENDING, InhibitFix.SET_IRR_PENDING})


def before(machine: Machine[Kvm], reasons: int, active: bool, bits: tuple[bool, bool, bool]) -> World[Kvm]:
    """A vCPU that is asked to look, with or without APICv, and what its APIC holds."""
    (world,) = machine.initial
    irr, isr, irr_pending = bits
    vcpu = update(
        world.shared.vcpus[0],
        requests=APICV_UPDATE,
        apicv_active=active,
        enabled=active,
        irr=irr,
        isr=isr,
        svi=active and isr and Vendor.VMX in machine.options,
        irr_pending=irr_pending or active,
        isr_count=active or isr,
    )
    return update(world, shared=update(world.shared, apicv_inhibit_reasons=reasons, vcpus=(vcpu,)))


def through(machine: Machine[Kvm], world: World[Kvm]) -> World[Kvm]:
    """The vCPU alone, until it has updated."""
    while not world.of(VCPU)[0].at("events"):
        (world,) = (after for action, after in machine.successors(world) if action.thread == "vcpu[0]")
    return world


def by_rule(machine: Machine[Kvm], world: World[Kvm]) -> Apicv:
    """The rule's result for the same vCPU: one vector, the first of sixteen."""
    vcpu = world.shared.vcpus[0]
    was = Apicv(
        apicv_active=vcpu.apicv_active,
        irr_pending=vcpu.irr_pending,
        isr_count=int(vcpu.isr_count),
        highest_isr_cache=-1,
        event=False,
        enabled=vcpu.enabled,
        svi=0 if vcpu.svi else -1,
        msrs=False,
        flush=False,
        deferred=False,
    )
    vendor = Vendor.VMX if Vendor.VMX in machine.options else Vendor.SVM
    case = Toggle(
        vendor=vendor,
        reasons=world.shared.apicv_inhibit_reasons,
        guest_mode=False,
        mode=ApicMode.XAPIC,
        x2avic=False,
        irr=int(vcpu.irr),
        isr=int(vcpu.isr),
        before=was,
    )
    return __kvm_vcpu_update_apicv(Kernel("", machine.options), case)


@pytest.mark.parametrize("fixes", KERNELS)
@pytest.mark.parametrize("vendor", Vendor)
def test_steps_of_the_thread_are_the_rule(vendor: Vendor, fixes: frozenset[Enum]) -> None:
    machine = Machine(APICV_INHIBIT, {"vcpus": 1, "setters": 1}, "sc", fixes | {vendor})
    flag = (False, True)
    for reasons, (active, *bits) in product((0, 2), product(flag, flag, flag, flag)):
        world = before(machine, reasons, active, (bits[0], bits[1], bits[2]))
        after, wanted = through(machine, world).shared.vcpus[0], by_rule(machine, world)
        assert (after.apicv_active, after.enabled) == (wanted.apicv_active, wanted.enabled)
        assert (after.irr_pending, int(after.isr_count)) == (wanted.irr_pending, wanted.isr_count)
        assert (after.requests == EVENT, after.svi) == (wanted.event, wanted.svi == 0)
