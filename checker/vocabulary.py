"""What an expression may name, and the types of it: the records and rules of a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Final, TypeAlias

from avicheck.spec import apic, apic_map
from avicheck.spec.apic_map_model import Case, Outcome
from avicheck.spec.lang import NULL, IndexOf, Range, SizedBy, domains

Values: TypeAlias = dict[str, Any]
"""The values of a vocabulary's names, concrete or symbolic."""

BUILTINS: Final = ("abs", "all", "any", "len", "max", "min", "range", "sum")


@dataclass(frozen=True)
class Array:
    """The type of a tuple of records."""

    element: type


@dataclass(frozen=True)
class Vocabulary:
    """What an expression may name: values by their types, rules, and integer constants."""

    names: Mapping[str, Any]
    rules: Mapping[str, Callable[..., Any]]
    constants: Mapping[str, int]

    @functools.cached_property
    def enums(self) -> dict[str, type[Enum]]:
        """Every enumeration that a name's fields lead to."""
        found: dict[str, type[Enum]] = {}
        seen: set[Any] = set()
        todo = list(self.names.values())
        while todo:
            type_ = todo.pop()
            type_ = type_.element if isinstance(type_, Array) else type_
            if type_ in seen or not isinstance(type_, type):
                continue
            seen.add(type_)
            if issubclass(type_, Enum):
                found[type_.__name__] = type_
            elif is_record(type_):
                todo += [known for domain in domains(type_).values() if (known := type_of(domain))]
        return dict(sorted(found.items()))

    @functools.cached_property
    def known(self) -> list[str]:
        """Every bare name."""
        members = (name for enum in self.enums.values() for name in enum.__members__)
        return sorted({*self.names, *self.rules, *self.constants, *BUILTINS, *self.enums, *members})


def is_record(type_: Any) -> bool:
    """Whether a type is a record of the specification whose fields an expression may read."""
    return isinstance(type_, type) and is_dataclass(type_) and "__slots__" in vars(type_)


def type_of(domain: Any) -> Any:
    """The expression language's type for a field's domain; None for what it does not know."""
    if isinstance(domain, Range | IndexOf):
        return int
    if isinstance(domain, tuple) and isinstance(domain[0], SizedBy):
        return Array(domain[1])
    if domain in (bool, int) or is_record(domain):
        return domain
    return domain if isinstance(domain, type) and issubclass(domain, Enum) else None


def type_name(type_: Any) -> str:
    """A type in words."""
    if type_ is bool:
        return "a condition"
    if type_ is int:
        return "a number"
    if isinstance(type_, Array):
        return f"a list of {type_.element.__name__}"
    return f"of type {type_.__name__}"


def apic_map_environment(case: Case, outcome: Outcome) -> Values:
    """The values of the names of ``APIC_MAP``, concrete or symbolic."""
    return {field.name: getattr(record, field.name) for record in (case, outcome) for field in fields(record)}


APIC_MAP: Final = Vocabulary(
    {name: type_of(domain) for record in (Case, Outcome) for name, domain in domains(record).items()},
    {
        function.__name__: function
        for function in (
            apic.apic_enabled,
            apic.has_caller,
            apic.is_ipi_caller,
            apic.is_msi_caller,
            apic.kvm_apic_present,
            apic.kvm_lowest_prio_delivery,
        )
    },
    {
        "NULL": NULL,
        "SW_DISABLED": apic_map.SW_DISABLED,
        "XAPIC_CLUSTER": apic_map.XAPIC_CLUSTER,
        "XAPIC_FLAT": apic_map.XAPIC_FLAT,
        "X2APIC": apic_map.X2APIC,
        "MAP_DISABLED": apic_map.MAP_DISABLED,
    },
)
"""The names of the model apic-map: the fields of Case and Outcome, six rules, NULL and the logical modes."""
