"""LLVM IR made into functions of this process, through llvmlite."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from avicheck.checker import cache

Signatures: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Functions by name: the types of the result and of the arguments, as ctypes has them."""

_KIND: Final = "machine-code"
_MADE: Final = "machine-code-made"


def compiled(modules: Sequence[str], signatures: Signatures) -> tuple[Mapping[str, Any], object]:
    """Functions of some modules, and what keeps them alive. The modules may call each other's functions;
    those that are ``alwaysinline`` are inlined within a module. Machine code is kept for the next time."""
    return _linked([_fast_code(text) for text in modules], signatures)


def kept(modules: Sequence[str]) -> bool:
    """Whether machine code for some modules was kept, on this machine or on one that shares its files."""
    return all(cache.get(_MADE, cache.key_of((text,))) is not None for text in modules)


def soon_compiled(modules: Sequence[str], signatures: Signatures) -> tuple[Mapping[str, Any], object, bool]:
    """As ``compiled``, but with code that is sooner there and slower where none was kept: the last result
    tells whether all of it is fast."""
    found = [cache.get(_KIND, _key(text)) for text in modules]
    codes = [code or _code(text, 0) for code, text in zip(found, modules, strict=True)]
    return *_linked(codes, signatures), None not in found


def _linked(codes: Iterable[bytes], signatures: Signatures) -> tuple[Mapping[str, Any], object]:
    from llvmlite import binding as llvm

    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target(2))
    for code in codes:
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    functions = {
        name: ctypes.CFUNCTYPE(*types)(engine.get_function_address(name))
        for name, types in signatures.items()
    }
    return functions, engine


def _target(level: int) -> Any:
    """This machine, to be written for with so much effort."""
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    cpu, features, _version = _host()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=level, jit=True, codemodel="jitdefault"
    )


@lru_cache
def _host() -> tuple[str, str, str]:
    """The processor, its features, and the version of what writes for it."""
    from llvmlite import binding as llvm

    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), str(llvm.llvm_version_info)


def _key(text: str) -> str:
    return cache.key_of((text, *_host()))


def _fast_code(text: str) -> bytes:
    """A module as an object file, kept."""
    code = cache.get(_KIND, _key(text))
    if code is None:
        code = _code(text, 2)
        cache.put(_KIND, _key(text), code)
        cache.put(_MADE, cache.key_of((text,)), b"")
    return code


def _code(text: str, level: int) -> bytes:
    """A module as an object file."""
    from llvmlite import binding as llvm

    target, module = _target(level), llvm.parse_assembly(text)
    module.verify()
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options())
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.run(module, builder)
    code: bytes = target.emit_object(module)
    return code
