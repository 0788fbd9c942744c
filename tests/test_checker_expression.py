"""Expressions: they mean what Python means, refuse everything else, and never execute code."""

from __future__ import annotations

import string
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avicheck.checker.config import loads, to_kvm
from avicheck.checker.errors import InputError
from avicheck.checker.expression import parse
from avicheck.checker.vocabulary import APIC_MAP, apic_map_environment
from avicheck.spec import apic, apic_map
from avicheck.spec.apic import ApicMode, DeliveryMode, DestMode, Irq, Shorthand, TrigMode
from avicheck.spec.apic_map_model import Case, outcome
from avicheck.spec.kernels import KERNELS
from avicheck.spec.lang import NULL

CONFIG = b"""{"x2apic_format": true, "vcpus": [
  {"vcpu_id": 0}, {"vcpu_id": 35, "sw_enabled": false}, {"vcpu_id": 291},
  {"vcpu_id": 4, "mode": "x2apic"}]}"""
IRQ = Irq(Shorthand.NONE, DestMode.PHYSICAL, 0x23, DeliveryMode.FIXED, 0x30, True, TrigMode.EDGE, False)


def environment(src: int) -> dict[str, Any]:
    """The values of the model's names for one case."""
    case = Case(to_kvm(loads(CONFIG, "").config, KERNELS["6.12"]), False, src, IRQ)
    return apic_map_environment(case, outcome(case))


DEVICE, SENDER = environment(NULL), environment(3)
PYTHON: dict[str, Any] = {
    **{name: member for enum in APIC_MAP.enums.values() for name, member in enum.__members__.items()},
    **APIC_MAP.rules,
    **APIC_MAP.constants,
    "X2APIC": ApicMode.X2APIC,
    **APIC_MAP.enums,
}


def value(text: str, values: dict[str, Any] = DEVICE) -> Any:
    """An expression's truth."""
    return parse(text, APIC_MAP).evaluate(values)


def refusal(text: str, values: dict[str, Any] = DEVICE) -> str:
    """The message with which an expression is refused."""
    with pytest.raises(InputError) as caught:
        value(text, values)
    return str(caught.value)


@pytest.mark.parametrize("values", [DEVICE, SENDER], ids=["device", "sender"])
@pytest.mark.parametrize(
    "text",
    [
        "True",
        "fast.accepted != slow.accepted",
        "fast.handled and not alloc_fails",
        "1 < 2 < 3 > 1",
        "3 > 2 > 2",
        "kvm.vcpus[0].mode == XAPIC",
        "kvm.vcpus[3].mode == X2APIC",
        "kvm.vcpus[3].mode != XAPIC",
        "irq.delivery_mode in (FIXED, LOWEST)",
        "irq.delivery_mode not in [NMI, INIT]",
        "irq.dest_mode == DestMode.PHYSICAL",
        "src != NULL and kvm.vcpus[src].mode == XAPIC",
        "src == NULL or kvm.vcpus[src].mode == X2APIC",
        "kvm.vcpus[src].mode == XAPIC if src != NULL else src < 0",
        "any(v.vcpu_id > 0xff for v in kvm.vcpus)",
        "all(v.sw_enabled for v in kvm.vcpus)",
        "all(v.sw_enabled for v in kvm.vcpus if v.vcpu_id != 35)",
        "any(kvm.vcpus[i].vcpu_id == 35 for i in range(len(kvm.vcpus)))",
        "any(kvm.vcpus[i].vcpu_id == 35 for i in range(9))",
        "sum(v.sw_enabled for v in kvm.vcpus) == 3",
        "sum(v.vcpu_id for v in kvm.vcpus if v.mode == XAPIC) == 326",
        "sum(1 for v in kvm.vcpus for w in kvm.vcpus if v.xapic_id == w.xapic_id) == 6",
        "any(any(v.vcpu_id + 256 == w.vcpu_id for w in kvm.vcpus) for v in kvm.vcpus)",
        "min(3, 1, 2) == 1 and max(3, 1) == 3 and abs(-4) == 4",
        "-7 // 2 == -4 and -7 % 2 == 1 and 7 - 2 * 3 == 1 and ~5 == -6 and +1 == 1",
        "1 << 4 == 16 and 0xff >> 4 == 15 and 6 & 3 == 2 and 6 | 1 == 7 and 6 ^ 3 == 5",
        "irq.level & True | False ^ irq.level",
        "(dest_bitmap >> 1) & 1 == 1",
        "single_vcpu == 1",
        "map.map.phys[0x23] == 1 and map.map.phys[0x24] == NULL",
        "fast == delivery",
        "fast == slow",
        "fast != slow",
        "has_caller(kvm, src, irq)",
        "is_ipi_caller(kvm, src, irq) ^ is_msi_caller(kvm, src, irq)",
        "apic_enabled(kvm.vcpus[1]) or kvm_apic_present(kvm.vcpus[1])",
        "kvm_lowest_prio_delivery(irq)",
    ],
)
def test_expression_means_what_python_means(text: str, values: dict[str, Any]) -> None:
    assert value(text, values) is bool(eval(text, {"__builtins__": _ALLOWED, **PYTHON, **values}))


_ALLOWED = {
    "any": any,
    "all": all,
    "sum": sum,
    "len": len,
    "range": range,
    "min": min,
    "max": max,
    "abs": abs,
}

Texts: TypeAlias = st.SearchStrategy[str]


def numbers(depth: int) -> Texts:
    """Texts of numbers, nested so deep."""
    leaves = ["0", "1", "3", "255", "-1", "src", "irq.dest_id", "fast.accepted", "slow.r", "len(kvm.vcpus)"]
    if depth == 0:
        return st.sampled_from(leaves)
    number, condition = numbers(depth - 1), conditions(depth - 1)
    binary = st.tuples(number, st.sampled_from(["+", "-", "*", "&", "|", "^", "//", "%"]), number)
    return st.one_of(
        number,
        binary.map("({0[0]} {0[1]} {0[2]})".format),
        st.tuples(number, st.integers(0, 3)).map("({0[0]} >> {0[1]})".format),
        st.tuples(condition, number, number).map("({0[1]} if {0[0]} else {0[2]})".format),
        number.map("kvm.vcpus[{}].vcpu_id".format),
        number.map(f"sum(v{depth}.vcpu_id + {{}} for v{depth} in kvm.vcpus if v{depth}.sw_enabled)".format),
        number.map("min(5, {})".format),
    )


def conditions(depth: int) -> Texts:
    """Texts of conditions, nested so deep."""
    if depth == 0:
        return st.sampled_from(["True", "fast.handled", "irq.trig_mode == LEVEL", "kvm.vector_hashing"])
    number, condition = numbers(depth - 1), conditions(depth - 1)
    compared = st.tuples(number, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), number)
    joined = st.tuples(condition, st.sampled_from(["and", "or", "&", "|", "^"]), condition)
    v = f"v{depth}"
    return st.one_of(
        condition,
        compared.map("({0[0]} {0[1]} {0[2]})".format),
        st.tuples(number, number, number).map("({0[0]} < {0[1]} <= {0[2]})".format),
        joined.map("(({0[0]}) {0[1]} ({0[2]}))".format),
        condition.map("(not {})".format),
        st.tuples(number, number).map("({0[0]} in ({0[1]}, 3))".format),
        condition.map(f"any({{}} and {v}.sw_enabled for {v} in kvm.vcpus if {v}.vcpu_id != 0)".format),
        condition.map(f"all({{}} or {v}.sw_enabled for {v} in kvm.vcpus)".format),
    )


class _Strict(tuple[Any, ...]):
    """A tuple without Python's negative indices, which count from the end."""

    def __getitem__(self, index: Any) -> Any:
        if index < 0:
            raise IndexError
        return super().__getitem__(index)


def python_value(text: str, values: dict[str, Any]) -> bool | None:
    """What Python makes of an expression; None where it fails."""
    names = {"__builtins__": _ALLOWED, **PYTHON, **values, "kvm": _StrictKvm(values["kvm"])}
    try:
        return bool(eval(text, names))
    except (IndexError, ZeroDivisionError):
        return None


def own_value(text: str, values: dict[str, Any]) -> bool | None:
    """What the expression language makes of it; None where it fails for the same reasons."""
    try:
        return bool(value(text, values))
    except InputError as error:
        if error.thing in ("Index", "Divisor"):
            return None
        raise


@given(conditions(3), st.sampled_from([DEVICE, SENDER]))
@settings(max_examples=300, deadline=None)
def test_generated_expression_means_what_python_means(text: str, values: dict[str, Any]) -> None:
    assert own_value(text, values) is python_value(text, values)


class _StrictKvm:
    def __init__(self, kvm: apic.Kvm) -> None:
        self._kvm = kvm
        self.vcpus = _Strict(kvm.vcpus)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kvm, name)


class Opaque:
    """A symbolic value whose truth cannot be asked: it refuses to fork."""

    def _combined(self, other: object) -> Opaque:
        return self

    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _combined
    __add__ = __radd__ = __lt__ = __le__ = __gt__ = __ge__ = _combined
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise AssertionError("a fork")


class OpaqueRecord:
    """A record all of whose fields are opaque."""

    def __getattr__(self, name: str) -> Opaque:
        return Opaque()


@pytest.mark.parametrize(
    "text",
    [
        "fast.accepted != slow.accepted and not fast.handled or fast.r == 3",
        "0 < fast.r < slow.r <= 7",
        "fast.r in (1, 2, 3)",
        "fast.r not in (1, 2, 3)",
        "fast == slow",
        "any(v.vcpu_id == 3 for v in kvm.vcpus if v.sw_enabled)",
        "all(v.vcpu_id < w.vcpu_id for v in kvm.vcpus if v.sw_enabled for w in kvm.vcpus if w.sw_enabled)",
        "not (fast.handled and slow.handled) ^ fast.handled",
    ],
)
def test_condition_that_cannot_fail_does_not_fork(text: str) -> None:
    kvm = type("Kvm", (), {"vcpus": (OpaqueRecord(), OpaqueRecord())})
    found = value(text, {"kvm": kvm, "fast": OpaqueRecord(), "slow": OpaqueRecord()})
    assert isinstance(found, Opaque)


def test_condition_that_guards_an_index_forks() -> None:
    with pytest.raises(AssertionError, match="a fork"):
        value("fast.handled and kvm.vcpus[9].sw_enabled", {**DEVICE, "fast": OpaqueRecord()})


NAMES = "alloc_fails, delivery, dest_bitmap, fast, irq, kvm, map, single_vcpu, slow, src"
FUNCTIONS = (
    "abs, all, any, apic_enabled, has_caller, is_ipi_caller, is_msi_caller, kvm_apic_present, "
    "kvm_lowest_prio_delivery, len, max, min, range, sum"
)
PARTS = "Expression must be made of names, fields, numbers, operators, comparisons, any, all and sum"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fasst.r == 1",
            f"column 1: Name must be one of the model's ({NAMES}), its rules or constants, not "
            '"fasst"; did you mean fast?',
        ),
        (
            "  irq.level and\tq",
            f'column 17: Name must be one of the model\'s ({NAMES}), its rules or constants, not "q"',
        ),
        (
            "irq.dset_id == 1",
            "column 1: Field of Irq must be one of shorthand, dest_mode, dest_id, delivery_mode, "
            'vector, level, trig_mode, msi_redir_hint, not "dset_id"; did you mean dest_id?',
        ),
        (
            "irq.trig_mode == TrigMode.LEVL",
            'column 18: Member of TrigMode must be one of EDGE, LEVEL, not "LEVL"; did you mean LEVEL?',
        ),
        (
            "irq.trig_mode == TrigMode",
            "column 18: Enumeration must be one of its members (TrigMode.EDGE, TrigMode.LEVEL), not "
            '"TrigMode"',
        ),
        (
            "irq.dest_mode == FIXED",
            "column 18: Compared value must be of type DestMode (PHYSICAL, LOGICAL), not of type "
            "DeliveryMode",
        ),
        ("irq.dest_mode < LOGICAL", "column 1: Compared value must be a number, not of type DestMode"),
        (
            "map == map",
            "column 1: Compared value must be a number, a condition, a member or a record of them, not "
            "of type Published",
        ),
        (
            "X2APIC",
            'column 1: Name "X2APIC" must be compared with a value that tells which one is meant, not '
            "alone: it is ambiguous",
        ),
        ("irq.dest_id", "Expression must be a condition, true or false, not a number"),
        ("kvm", "Expression must be a condition, true or false, not of type Kvm"),
        (
            "not irq.dest_id",
            "column 5: Operand of not must be a condition, not a number; write x != 0 for a number",
        ),
        (
            "irq.level and src",
            "column 15: Operand of and must be a condition, not a number; write x != 0 for a number",
        ),
        ("kvm + 1 == 1", "column 1: Operand must be a number or a condition, not of type Kvm"),
        ("src is NULL", "column 1: Comparison must be one of == != < <= > >=, or one in, not is"),
        (
            "1 < 2 in (2, 3)",
            "column 1: Comparison must be one of == != < <= > >=, or one in, not in, in a chain",
        ),
        ("src in kvm", 'column 8: Right side of in must be a list of values, (a, b), not "kvm"'),
        ("2 ** 3 == 8", "column 1: Operator must be one of + - * // % << >> & | ^, not **"),
        ("1 / 2 == 0", "column 1: Operator must be one of + - * // % << >> & | ^, not /"),
        ("1 << 64 == 0", "column 1: Shift must be by 0 to 63 bits, not by 64"),
        ("irq.dest_id // 0 == 0", "column 1: Divisor must be other than 0, not 0"),
        ("1 << 63 << 63 == 0", "column 1: Number must be of at most 64 bits, not longer"),
        ("0x10000000000000000 == 0", "column 1: Constant must be a number of at most 64 bits, not one of 65"),
        ("1.5 == 1", "column 1: Constant must be an integer, True or False, not 1.5"),
        ("'x' == 1", 'column 1: Constant must be an integer, True or False, not "x"'),
        ("None == 1", "column 1: Constant must be an integer, True or False, not NoneType"),
        ("kvm.vcpus[4].sw_enabled", "column 1: Index must be from 0 to 3, not 4"),
        (
            "kvm.vcpus[src].sw_enabled",
            "column 1: Index must be from 0 to 3, not -1; check for NULL first: x != NULL and ...",
        ),
        ("kvm.vcpus[irq].sw_enabled", "column 11: Index must be a number or a condition, not of type Irq"),
        ("irq[0] == 1", "column 1: Indexed value must be a list, not of type Irq"),
        ("src.real == 1", "column 1: Value before .real must be a record with fields, not a number"),
        ("has_caller(kvm, src)", "column 1: Number of arguments of has_caller must be 3, not 2"),
        (
            "has_caller(irq, src, irq)",
            "column 12: Argument of has_caller must be of type Kvm, not of type Irq",
        ),
        (
            "has_caller(kvm, 99, irq)",
            "column 1: Argument of has_caller must be the index of a vCPU or NULL, not another",
        ),
        (
            "has_caller(kvm, src, irq=irq)",
            "column 1: Argument of has_caller must be given by position, not by name or with a star",
        ),
        ("has_caller", "column 1: Function has_caller must be called, not used as a value"),
        (
            "has_caler(kvm, src, irq)",
            f'column 1: Function must be one of {FUNCTIONS}, not "has_caler"; did you mean has_caller?',
        ),
        (
            "any(kvm.vcpus)",
            "column 1: Argument of any must be of the form any(... for x in ...), not another",
        ),
        (
            "any(kvm.x2apic_format for kvm in kvm.vcpus)",
            'column 27: Loop variable must be a new name, not "kvm"',
        ),
        ("any(True for a, b in kvm.vcpus)", 'column 14: Loop variable must be a name, not "(a, b)"'),
        (
            "any(True for x in irq)",
            "column 19: What a for goes over must be a list or a range, not of type Irq",
        ),
        (
            "any(x < 0 for x in range(1 << 40))",
            "column 1: Loops must be of at most 100000 turns in all, not longer",
        ),
        ("range(3) == 1", "column 1: range must be what a for goes over, not a value"),
        ("len(src) == 1", "column 1: Argument of len must be a list, not another value"),
        ("True if irq.level else irq", "column 24: Value after else must be a condition, not of type Irq"),
        (
            "irq.level ==",
            'Expression must be in Python\'s syntax, not "irq.level ==" (invalid syntax at its start)',
        ),
        ("", 'Expression must be in Python\'s syntax, not "" (invalid syntax at its start)'),
        ("(" * 9 + "1" * 4000, "Expression must be at most 4000 characters long, not 4009"),
        ("-" * 60 + "1 == 1", "Expression must be at most 500 parts, nested at most 50 deep, not larger"),
        ("1 == 1" + " & 1" * 400, "Expression must be at most 500 parts, nested at most 50 deep, not larger"),
        (
            "kvm.kernel == 1",
            "column 1: Field of Kvm must be one of x2apic_format, x2apic_broadcast_quirk_disabled, "
            'vector_hashing, vcpus, not "kernel"',
        ),
        (
            "(1 ==\n fasst)",
            f"line 2, column 2: Name must be one of the model's ({NAMES}), its rules or constants, not "
            '"fasst"; did you mean fast?',
        ),
    ],
)
def test_what_is_no_condition_over_the_model_is_refused(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "__import__('os').system('true')",
            "Called function must be a name, not \"__import__('os').system\"",
        ),
        ("__import__('os')", f'Function must be one of {FUNCTIONS}, not "__import__"'),
        ("eval('1')", f'Function must be one of {FUNCTIONS}, not "eval"'),
        ("().__class__", f'{PARTS}, not "()"'),
        ("kvm.__class__", '"__class__"'),
        ("kvm.vcpus.__len__", "Value before .__len__ must be a record with fields, not a list of Vcpu"),
        ("kvm.vcpus[0].__class__.__mro__", '"__class__"'),
        ("has_caller.__globals__", "Function has_caller must be called, not used as a value"),
        ("TrigMode.__class__", 'Member of TrigMode must be one of EDGE, LEVEL, not "__class__"'),
        ("TrigMode.EDGE.name", "Value before .name must be a record with fields, not of type TrigMode"),
        ("lambda: 1", f'{PARTS}, not "lambda: 1"'),
        ("(x := True)", f'{PARTS}, not "(x := True)"'),
        ("f'{kvm}'", f"{PARTS}, not \"f'{{kvm}}'\""),
        ("[v for v in kvm.vcpus]", f'{PARTS}, not "[v for v in kvm.vcpus]"'),
        ("any((lambda: v)() for v in kvm.vcpus)", "Called function must be a name"),
        ("any(True for __builtins__ in kvm.vcpus) and __builtins__", '"__builtins__"'),
        ("any(True for v in kvm.vcpus) and v.sw_enabled", '"v"'),
        ("any(*kvm.vcpus)", "Argument of any must be given by position"),
        ("await kvm", f'{PARTS}, not "await kvm"'),
        ("print(1)", f'Function must be one of {FUNCTIONS}, not "print"'),
        ("import os", "Expression must be in Python's syntax"),
        ("kvm = 1", "Expression must be in Python's syntax"),
    ],
)
def test_attempt_to_execute_code_is_refused(text: str, message: str) -> None:
    assert message in refusal(text)


TOKENS = st.sampled_from(
    [
        *(
            "kvm",
            "irq",
            "src",
            "fast",
            "map",
            "v",
            "NULL",
            "X2APIC",
            "FIXED",
            "TrigMode",
            "any",
            "sum",
            "len",
        ),
        *(
            "has_caller",
            "range",
            "min",
            "0",
            "1",
            "9" * 30,
            "True",
            "None",
            "'a'",
            "1.5",
            "__class__",
            "vcpus",
        ),
        *(
            " and ",
            " or ",
            " not ",
            " in ",
            " is ",
            " for ",
            " if ",
            " else ",
            " lambda ",
            "(",
            ")",
            "[",
            "]",
        ),
        *(
            ".",
            ",",
            ":",
            "==",
            "<",
            "+",
            "-",
            "~",
            "*",
            "**",
            "//",
            "%",
            "<<",
            ":=",
            "{",
            "}",
            "\n",
            "\\",
            "#",
            "é",
        ),
    ]
)


def is_a_condition_or_refused(text: str) -> bool:
    """Whether an expression has one of the two ends it may have."""
    try:
        return isinstance(value(text), bool)
    except InputError as error:
        return "\n" not in str(error)


@given(st.text(max_size=60) | st.text(string.printable, max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_condition_or_refused(text: str) -> None:
    assert is_a_condition_or_refused(text)


@given(st.lists(TOKENS, max_size=15).map("".join))
@settings(max_examples=500, deadline=None)
def test_any_tokens_are_a_condition_or_refused(text: str) -> None:
    assert is_a_condition_or_refused(text)


@pytest.mark.parametrize(
    "text", ["(" * 3999, "-" * 3999, "[" * 3999, "a." * 1999, "not " * 999, "1if " * 900, "\0"]
)
def test_deep_text_is_refused(text: str) -> None:
    assert refusal(text).startswith("Expression must be ")


def test_nested_chains_are_evaluated_once() -> None:
    """Fifteen levels that evaluate their middle twice would take 2**15 times as long."""
    text = "src"
    for _ in range(15):
        text = f"(-9 < {text} < 9)"
    reads: list[str] = []

    class Watched(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            reads.append(name)
            return super().__getitem__(name)

    term = parse(text, APIC_MAP)._term
    from avicheck.checker.expression import Run

    term.run(Run(Watched(DEVICE)))
    assert reads == ["src"]


def test_logical_modes_are_the_specification_s() -> None:
    assert value("map.map.logical_mode == X2APIC", {**DEVICE, "map": _with_mode(apic_map.X2APIC)})


def _with_mode(mode: int) -> Any:
    published = DEVICE["map"]
    return type(published)(
        True, apic_map.ApicMap(255, mode, published.map.phys, published.map.logical), *[False] * 3
    )


def test_names_are_the_fields_of_case_and_outcome() -> None:
    assert set(APIC_MAP.names) == set(DEVICE)
