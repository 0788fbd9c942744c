"""A VM's configuration and an interrupt request: from JSON to the specification's records, and back."""

from __future__ import annotations

import functools
import gzip
import io
import re
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from avicheck.checker.decode import parse_json, typed
from avicheck.checker.errors import InputError, not_one_of, shown
from avicheck.spec.apic import APIC_DFR_FLAT, ApicMode, Irq, Kvm, Shorthand, Vcpu, kvm_apic_calc_x2apic_ldr
from avicheck.spec.kernels import KERNELS, Kernel
from avicheck.spec.lang import NULL, Range, domains

T = TypeVar("T")

MAX_FILE_BYTES: Final = 1 << 24


@functools.cache
def _domains(cls: Any) -> dict[str, Any]:
    return domains(cls)


class VcpuConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One vCPU. What may be left out is: ``mode`` (xapic), ``xapic_id`` (vcpu_id & 0xff; null in
    x2APIC mode), ``ldr`` (0; in x2APIC mode the one that follows from vcpu_id), ``dfr`` (0xffffffff,
    flat), ``sw_enabled`` (true), ``arb_prio`` (0)."""

    vcpu_id: int
    mode: str | UnsetType = UNSET
    xapic_id: int | UnsetType | None = UNSET
    ldr: int | UnsetType = UNSET
    dfr: int | UnsetType = UNSET
    sw_enabled: bool | UnsetType = UNSET
    arb_prio: int | UnsetType = UNSET


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A VM without its kernel. The three switches may be left out: ``x2apic_format`` (false),
    ``x2apic_broadcast_quirk_disabled`` (false), ``vector_hashing`` (true)."""

    vcpus: tuple[VcpuConfig, ...]
    x2apic_format: bool | UnsetType = UNSET
    x2apic_broadcast_quirk_disabled: bool | UnsetType = UNSET
    vector_hashing: bool | UnsetType = UNSET


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An interrupt request; ``src`` is a vCPU's index, null for a device."""

    src: int | None
    shorthand: str
    dest_mode: str
    dest_id: int
    delivery_mode: str
    vector: int
    level: bool
    trig_mode: str
    msi_redir_hint: bool


@dataclass(frozen=True)
class ConfigFile:
    """What a configuration file holds: a VM, and where it is a line of recordings also the kernel
    and the requests."""

    config: Config
    kernel: Kernel | None = None
    queries: tuple[Request, ...] = ()


class _RecordedRequest(Request, frozen=True, forbid_unknown_fields=False):
    """A request with its results, which are not looked at."""


class _Recording(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of recordings, or the part of it that says what was asked."""

    config: Config
    kernel: str | UnsetType = UNSET
    queries: tuple[_RecordedRequest, ...] = ()
    map: Any = None
    inhibits: Any = None
    pv_ipi: Any = None
    warn: Any = None


def load(path: str) -> ConfigFile:
    """Read a configuration (``-``: from standard input), as such or as one line of recordings, gzip
    or not; ``InputError`` if it is neither or could not exist."""
    return loads(read_bytes(path), "standard input" if path == "-" else path)


def loads(data: bytes, place: str) -> ConfigFile:
    """``load`` from bytes that came from ``place``."""
    value = parse_json(data, place)
    if not isinstance(value, dict) or "config" not in value:
        file = ConfigFile(typed(value, Config, place))
        to_kvm(file.config, _ANY_KERNEL, place)
        return file
    recording = typed(value, _Recording, place)
    kernel = None if isinstance(recording.kernel, UnsetType) else kernel_named(recording.kernel, place)
    kvm = to_kvm(recording.config, kernel or _ANY_KERNEL, place, "config.")
    for index, request in enumerate(recording.queries):
        to_request(request, kvm, place, f"queries[{index}].")
    return ConfigFile(recording.config, kernel, recording.queries)


def read_bytes(path: str) -> bytes:
    """The contents of a file of at most ``MAX_FILE_BYTES``, decompressed where it is gzip."""
    try:
        if path == "-":
            data = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        if data.startswith(GZIP_MAGIC):
            data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(MAX_FILE_BYTES + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise unreadable(error, path) from error
    if len(data) > MAX_FILE_BYTES:
        raise InputError("File", f"at most {MAX_FILE_BYTES} bytes long", "longer", path)
    return data


GZIP_MAGIC: Final = b"\x1f\x8b"


def unreadable(error: Exception, path: str) -> InputError:
    """The error of a file that cannot be opened or decompressed."""
    if isinstance(error, EOFError):
        return InputError("File", "complete gzip", "cut off before its end", path)
    if isinstance(error, gzip.BadGzipFile | zlib.error):
        return InputError("File", "valid gzip", f"damaged ({error})", path)
    if isinstance(error, FileNotFoundError):
        return InputError("File", "readable", "missing", path)
    if isinstance(error, IsADirectoryError):
        return InputError("File", "readable", "a directory", path)
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return InputError("File", "readable", f"locked away ({reason})", path)


def kernel_named(name: str, place: str = "", thing: str = "kernel") -> Kernel:
    """The kernel of that name, or an ``InputError`` with the nearest: among versions, the newest that
    is not newer."""
    if name in KERNELS:
        return KERNELS[name]
    hint = None
    if _VERSION.fullmatch(name):
        versions = [known for known in KERNELS if _VERSION.fullmatch(known)]
        older = [known for known in versions if _number(known) <= _number(name)]
        hint = f"did you mean {older[-1] if older else versions[0]}?"
    raise not_one_of(thing, KERNELS, name, place, hint)


_VERSION: Final = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")
_ANY_KERNEL: Final = next(reversed(KERNELS.values()))


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def to_kvm(config: Config, kernel: Kernel, place: str = "", prefix: str = "") -> Kvm:
    """The VM under a kernel; ``InputError`` if KVM would not let it exist. ``prefix`` goes before
    field names in messages."""
    if not config.vcpus:
        raise InputError(f"{prefix}vcpus", "a list of at least one vCPU", "[]", place)
    vcpus = tuple(
        _to_vcpu(vcpu, place, f"{prefix}vcpus[{index}].") for index, vcpu in enumerate(config.vcpus)
    )
    first: dict[int, int] = {}
    for index, vcpu in enumerate(vcpus):
        if (other := first.setdefault(vcpu.vcpu_id, index)) != index:
            came = f"{vcpu.vcpu_id} (also {prefix}vcpus[{other}])"
            raise InputError(f"{prefix}vcpus[{index}].vcpu_id", "unique", came, place)
    return Kvm(
        kernel,
        given(config.x2apic_format, False),
        given(config.x2apic_broadcast_quirk_disabled, False),
        given(config.vector_hashing, True),
        vcpus,
    )


def _to_vcpu(config: VcpuConfig, place: str, prefix: str) -> Vcpu:
    x2apic = given(config.mode, "xapic") == ApicMode.X2APIC.value
    xapic_id = given(config.xapic_id, None if x2apic else config.vcpu_id & 0xFF)
    if x2apic and xapic_id is not None:
        raise InputError(f"{prefix}xapic_id", "null in x2apic mode", shown(xapic_id), place)
    x2apic_ldr = kvm_apic_calc_x2apic_ldr(config.vcpu_id) if x2apic else 0
    vcpu = read_record(
        Vcpu,
        {
            "vcpu_id": config.vcpu_id,
            "mode": given(config.mode, "xapic"),
            "xapic_id": 0 if x2apic else xapic_id,
            "ldr": given(config.ldr, x2apic_ldr),
            "dfr": given(config.dfr, APIC_DFR_FLAT),
            "sw_enabled": given(config.sw_enabled, True),
            "arb_prio": given(config.arb_prio, 0),
        },
        place,
        prefix,
    )
    if x2apic and vcpu.ldr != x2apic_ldr:
        expected = f"{x2apic_ldr} in x2apic mode (it follows from vcpu_id), or left out"
        raise InputError(f"{prefix}ldr", expected, shown(vcpu.ldr), place)
    return vcpu


def given(value: T | UnsetType, default: T) -> T:
    """``value``, or ``default`` where the field was left out."""
    return default if isinstance(value, UnsetType) else value


def to_request(request: Request, kvm: Kvm, place: str = "", prefix: str = "") -> tuple[int, Irq]:
    """The request as source (``NULL``: a device) and ``Irq``; ``InputError`` if KVM has no such request."""
    irq = read_record(Irq, msgspec.structs.asdict(request), place, prefix)
    if request.src is None:
        if irq.shorthand is Shorthand.SELF:
            raise InputError(f"{prefix}src", "a vCPU's index with shorthand self", "null", place)
        return NULL, irq
    if not 0 <= request.src < len(kvm.vcpus):
        expected = f"null or a vCPU's index from 0 to {len(kvm.vcpus) - 1}"
        raise InputError(f"{prefix}src", expected, shown(request.src), place)
    return request.src, irq


def read_record(cls: type[T], values: Mapping[str, Any], place: str = "", prefix: str = "") -> T:
    """A record of the specification from plain values, each checked against its declared domain."""
    record: Any = cls
    fields = _domains(record)
    return cls(
        **{name: _in_domain(domain, values[name], prefix + name, place) for name, domain in fields.items()}
    )


def _in_domain(domain: Any, value: Any, thing: str, place: str) -> Any:
    if isinstance(domain, Range):
        if value is None or not domain.lo <= value <= domain.hi:
            raise InputError(thing, f"an integer from {domain.lo} to {domain.hi}", shown(value), place)
    elif isinstance(domain, type) and issubclass(domain, Enum):
        try:
            return domain(value)
        except ValueError:
            raise not_one_of(thing, [member.value for member in domain], value, place) from None
    return value


def from_kvm(kvm: Kvm) -> Config:
    """The configuration of a VM, with nothing left out."""
    return Config(
        tuple(
            VcpuConfig(
                vcpu.vcpu_id,
                vcpu.mode.value,
                None if vcpu.mode is ApicMode.X2APIC else vcpu.xapic_id,
                vcpu.ldr,
                vcpu.dfr,
                vcpu.sw_enabled,
                vcpu.arb_prio,
            )
            for vcpu in kvm.vcpus
        ),
        kvm.x2apic_format,
        kvm.x2apic_broadcast_quirk_disabled,
        kvm.vector_hashing,
    )


def from_request(src: int, irq: Irq) -> Request:
    """A request as JSON writes it."""
    return Request(
        None if src == NULL else src,
        irq.shorthand.value,
        irq.dest_mode.value,
        irq.dest_id,
        irq.delivery_mode.value,
        irq.vector,
        irq.level,
        irq.trig_mode.value,
        irq.msi_redir_hint,
    )
