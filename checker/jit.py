"""LLVM IR made into functions of this process, through llvmlite."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, TypeAlias

Signatures: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Functions by name: the types of the result and of the arguments, as ctypes has them."""


def compiled(text: str, signatures: Signatures) -> tuple[Mapping[str, Any], object]:
    """A module's functions, and what keeps them alive. Functions that are ``alwaysinline`` are inlined."""
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features, opt=2
    )
    module = llvm.parse_assembly(text)
    module.verify()
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options())
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.run(module, builder)
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    functions = {
        name: ctypes.CFUNCTYPE(*types)(engine.get_function_address(name))
        for name, types in signatures.items()
    }
    return functions, engine
