"""LLVM IR made into functions of this process, through llvmlite."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from avicheck.checker import cache

Signatures: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Functions by name: the types of the result and of the arguments, as ctypes has them."""

_KIND: Final = "machine-code"


def compiled(text: str, signatures: Signatures, *more: str) -> tuple[Mapping[str, Any], object]:
    """The functions of a module, and what keeps them alive. It may call those of ``more`` modules and the
    other way round; functions that are ``alwaysinline`` are inlined within a module. Machine code is kept
    for the next time."""
    return _linked((text, *more), signatures, fast=True)


def soon_compiled(text: str, signatures: Signatures, *more: str) -> tuple[Mapping[str, Any], object, bool]:
    """As ``compiled``, but where no machine code was kept, with some that is sooner there and slower: the
    last result tells whether it is fast."""
    _initialize()
    texts = (text, *more)
    fast = all(cache.get(_KIND, _key(each)) is not None for each in texts)
    return *_linked(texts, signatures, fast), fast


def _initialize() -> None:
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _linked(texts: Iterable[str], signatures: Signatures, fast: bool) -> tuple[Mapping[str, Any], object]:
    from llvmlite import binding as llvm

    _initialize()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=2 if fast else 0,
        jit=True,
        codemodel="jitdefault",
    )
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
    for text in texts:
        code = cache.get(_KIND, _key(text))
        if code is None:
            code = _machine_code(text, target)
            if fast:
                cache.put(_KIND, _key(text), code)
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    functions = {
        name: ctypes.CFUNCTYPE(*types)(engine.get_function_address(name))
        for name, types in signatures.items()
    }
    return functions, engine


def _key(text: str) -> str:
    from llvmlite import binding as llvm

    host = llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), str(llvm.llvm_version_info)
    return cache.key_of((text, *host))


def _machine_code(text: str, target: Any) -> bytes:
    """A module as an object file."""
    from llvmlite import binding as llvm

    module = llvm.parse_assembly(text)
    module.verify()
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options())
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.run(module, builder)
    code: bytes = target.emit_object(module)
    return code
