"""What the selftests of Secure AVIC expect of registers (scenarios C1 and C3), and the driver's use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avicheck.spec.secure_avic_registers import (
    ADDRESS,
    ALLOWED_NMI,
    EN,
    LVTS,
    READ_ONLY,
    Access,
    Control,
    Copies,
    Register,
    rdmsr,
    read_by,
    read_control,
    savic_read,
    savic_write,
    write_control,
    written_by,
    wrmsr,
)

WORDS = st.integers(0, 2**32 - 1)
KEPT_FROM_THE_HOST = (Register.TASKPRI, Register.TMR, Register.IRR)


@given(st.integers(0, 2**52 - 1))
def test_c1_control_reads_back(page: int) -> None:
    value = page << 12 | EN | ALLOWED_NMI
    assert write_control(value) == Control(True, True, value & ADDRESS)
    assert read_control(write_control(value)) == value


def test_c3_eoi_cannot_be_read() -> None:
    assert [register for register in Register if read_by(register) is Access.FAULTS] == [Register.EOI]


def test_c3_registers_that_cannot_be_written() -> None:
    refused = {register for register in Register if written_by(register) is Access.FAULTS}
    assert {register.name for register in refused} == {"LVR", "LDR", "ISR", "TMR", "IRR", "TMCCT"}
    for register in refused:
        assert wrmsr(register, Copies(1, 2), 3) == Copies(1, 2)


def verified(register: Register, copies: Copies, value: int) -> Copies:
    """guest_verify_host_guest_reg: WRMSR; where that faults, the page is written as memory."""
    if written_by(register) is Access.FAULTS:
        return Copies(value, copies.host)
    return wrmsr(register, copies, value)


@pytest.mark.parametrize(
    ("register", "copies", "value"),
    [
        (Register.LVR, Copies(0x50014, 0x50014), 0x50014),
        (Register.TASKPRI, Copies(0, 0x30), 0x40),
        (Register.SPIV, Copies(0x1FF, 0xFF), 0x1FF),
        (Register.TMR, Copies(0, 0), 0x10000),
        (Register.IRR, Copies(0, 0), 0x10000),
        (Register.TMICT, Copies(0, 0), 0x555),
        (Register.TDCR, Copies(0, 1), 3),
        *((register, Copies(0, 0x41), 0x42) for register in LVTS),
    ],
    ids=lambda each: each.name if isinstance(each, Register) else None,
)
def test_c3_host_and_guest_values(register: Register, copies: Copies, value: int) -> None:
    """The guest finds its value in the page and by RDMSR; KVM has the same, or not, as the selftest says."""
    after = verified(register, copies, value)
    assert (after.page, rdmsr(register, after)) == (value, value)
    assert (after.host != value) == (register in KEPT_FROM_THE_HOST)


def test_c3_current_count_is_the_hosts() -> None:
    assert (read_by(Register.TMCCT), rdmsr(Register.TMCCT, Copies(0, 7))) == (Access.TRAPS, 7)


@given(st.sampled_from(sorted(set(Register) - {*READ_ONLY, Register.EOI}, key=str)), WORDS, WORDS, WORDS)
def test_driver_reads_what_it_has_written(register: Register, page: int, host: int, value: int) -> None:
    assert savic_read(register, savic_write(register, Copies(page, host), value)) == value


def test_driver_does_not_tell_kvm_of_spiv() -> None:
    """F-SPIV: with the selftests' handler KVM hears of it."""
    assert savic_write(Register.SPIV, Copies(0xFF, 0xFF), 0x1FF).host == 0xFF
    assert wrmsr(Register.SPIV, Copies(0xFF, 0xFF), 0x1FF).host == 0x1FF


def test_rdmsr_of_an_lvt_misses_what_the_driver_wrote() -> None:
    """It is accelerated from the page, which the driver does not write: harmless, as the driver reads by
    VMGEXIT."""
    after = savic_write(Register.LVTT, Copies(0, 0), 0xEC)
    assert (rdmsr(Register.LVTT, after), savic_read(Register.LVTT, after)) == (0, 0xEC)
