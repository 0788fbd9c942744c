"""APIC registers of a Secure AVIC guest: who serves an access, and which copies it reaches.

A register has a copy in the backing page and one in KVM. RDMSR and WRMSR go to the page, to the guest's #VC
handler, or fault (selftests 25/35 and 30/35); the driver of 6.19 uses the page as memory, and VMGEXITs.
Vectors and their evaluation are in ``spec.secure_avic_hardware``; here a register is 32 bits.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from avicheck.spec.lang import U32, U64, record, rule, update


class Register(Enum):
    """By its offset in the APIC page; ISR, TMR and IRR by their first word."""

    LVR = 0x30
    TASKPRI = 0x80
    EOI = 0xB0
    LDR = 0xD0
    SPIV = 0xF0
    ISR = 0x100
    TMR = 0x180
    IRR = 0x200
    LVTT = 0x320
    LVTTHMR = 0x330
    LVTPC = 0x340
    LVT0 = 0x350
    LVT1 = 0x360
    LVTERR = 0x370
    TMICT = 0x380
    TMCCT = 0x390
    TDCR = 0x3E0


LVTS: Final = (
    Register.LVTT,
    Register.LVTTHMR,
    Register.LVTPC,
    Register.LVT0,
    Register.LVT1,
    Register.LVTERR,
)
TIMER: Final = (Register.TMICT, Register.TDCR)
READ_ONLY: Final = (
    Register.LVR,
    Register.LDR,
    Register.ISR,
    Register.TMR,
    Register.IRR,
    Register.TMCCT,
)


class Access(Enum):
    """Who serves an access by RDMSR or WRMSR."""

    ACCELERATED = "the hardware, in the backing page"
    TRAPS = "the guest's #VC handler"
    FAULTS = "nobody: #GP"


@record
class Copies:
    """A register's value in the backing page, and KVM's."""

    page: U32
    host: U32


@rule
def read_by(register: Register) -> Access:
    """RDMSR: KVM alone knows the timer's current count, and EOI is write-only."""
    if register == Register.EOI:
        return Access.FAULTS
    return Access.TRAPS if register == Register.TMCCT else Access.ACCELERATED


@rule
def written_by(register: Register) -> Access:
    """WRMSR; of EOI, that of an edge-triggered vector."""
    if register in READ_ONLY:
        return Access.FAULTS
    accelerated = register in (Register.TASKPRI, Register.EOI)
    return Access.ACCELERATED if accelerated else Access.TRAPS


@rule
def rdmsr(register: Register, copies: Copies) -> int:
    """What a read that does not fault finds; the selftests' handler asks KVM."""
    return copies.host if read_by(register) == Access.TRAPS else copies.page


@rule
def wrmsr(register: Register, copies: Copies, value: int) -> Copies:
    """What a write leaves behind; the selftests' handler writes the page and tells KVM."""
    access = written_by(register)
    if access == Access.FAULTS or register == Register.EOI:
        return copies
    return Copies(value, value) if access == Access.TRAPS else update(copies, page=value)


# The driver of 6.19.


@rule
def by_host(register: Register) -> bool:
    """Whether x2apic_savic.c leaves a register to KVM."""
    return register in LVTS or register in TIMER or register == Register.TMCCT


@rule
def savic_read(register: Register, copies: Copies) -> int:
    """x2apic_savic.c."""
    return copies.host if by_host(register) else copies.page


@rule
def savic_write(register: Register, copies: Copies, value: int) -> Copies:
    """x2apic_savic.c, of a register that it lets be written."""
    return update(copies, host=value) if by_host(register) else update(copies, page=value)


# SAVIC_CTL.

EN: Final = 1
ALLOWED_NMI: Final = 2
ADDRESS: Final = 0xFFFF_FFFF_FFFF_F000


@record
class Control:
    """SAVIC_CTL of a VMSA."""

    enabled: bool
    allowed_nmi: bool
    gpa: U64


@rule
def write_control(value: int) -> Control:
    """WRMSR: not intercepted, so that the host cannot answer for it."""
    return Control(value & EN != 0, value & ALLOWED_NMI != 0, value & ADDRESS)


@rule
def read_control(control: Control) -> int:
    """RDMSR."""
    return control.gpa | (EN if control.enabled else 0) | (ALLOWED_NMI if control.allowed_nmi else 0)
