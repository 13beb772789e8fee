"""How kernels are compiled: one set of options, and a disk cache that notices every change.

Numba's own cache looks at the file of the cached function alone; after an edit in a helper, a
constant or an option that lives in another file it runs the old machine code. And it trusts what it
finds: a damaged file is an error at best. Here the name of a file is a hash of all that its machine
code depends on, and a seal shows whether it is as it was written; otherwise the kernel is compiled
afresh.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import config, event
from numba.core.caching import NullCache
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen, get_host_cpu_features
from numba.core.compiler import Compiler, CompileResult
from numba.core.cpu import CPUContext
from numba.core.serialize import dumps
from numba.core.typed_passes import NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes, WithLifting
from numba.extending import intrinsic, overload

from fastrnn.errors import FastrnnError
from fastrnn.storage.cache import cache_folder, is_ours, new_file
from fastrnn.storage.files import shown

logger = logging.getLogger(__name__)


def _hash_of_sources() -> str:
    sources = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(path.name.encode() + b"\0" + path.read_bytes())
    return sources.hexdigest()


SOURCES = _hash_of_sources()  # now, not after the modules that import this one were read
SEAL = hashlib.sha256().digest_size
# Settings of Numba that do not change machine code; any other might.
WITHOUT_EFFECT = {"CACHE_DIR", "NUMBA_NUM_THREADS", "NUMBA_DEFAULT_NUM_THREADS"}


Types = tuple[Any, ...]
"""Numba's types of the arguments of a kernel."""


def _hash(key: tuple) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()[:16]


def cpu_features() -> set[str]:
    """Features of the processor that code is generated for, such as "+avx512f"."""
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return set(features.split(","))


@cache
def kernel_folder() -> Path:
    """Where kernels are kept that were compiled from exactly these sources, by this version of
    Numba, with its present settings.

    Raises
    ------
    FastrnnError
        If no folder can be written.
    """
    versions = EXTENSION_SUFFIXES[0], numba.__version__, llvmlite.__version__, np.__version__
    settings = sorted(
        (name, repr(value))
        for name, value in vars(config).items()
        if name.isupper() and name not in WITHOUT_EFFECT
    )
    name = f"kernels-{_hash((SOURCES, versions, settings))}"
    if config.CACHE_DIR and is_ours(folder := Path(config.CACHE_DIR, name)):
        return folder.absolute()
    return cache_folder() / name


damaged: set[str] = set()  # kernels whose files were damaged when this process read them
unkept: set[str] = set()  # kernels that this process compiled and could not write


class KernelCache(NullCache):
    """The compiled versions of a kernel on disk, for Numba: a file for each tuple of types.

    Processes that save the same one at the same moment write the same file, one after the other.
    """

    def __init__(self, function: Callable):
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"

    def _path(self, types: Any, processor: JITCPUCodegen) -> Path:
        folder = kernel_folder()
        key = folder.name, processor.magic_tuple(), types
        return folder / f"{self.name}-{_hash(key)}.kernel"

    def load_overload(self, sig: Any, target_context: CPUContext) -> CompileResult | None:
        """The compiled kernel for these types; None if there is none, or its file is damaged."""
        target_context.refresh()
        try:
            path = self._path(sig, target_context.codegen())
            file = memoryview(path.read_bytes())
        except (FileNotFoundError, FastrnnError):
            return None
        except OSError:
            file = memoryview(b"")
        # Checked first, as damage would reach the interpreter and the processor as code.
        if file[:SEAL] != _seal(path, file[SEAL:]):
            if not damaged:
                logger.warning(
                    "compiled kernels in %s were damaged; they are compiled again",
                    shown(path.parent),
                )
            damaged.add(self.name)
            return None
        callees, reduced = pickle.loads(file[SEAL:])
        for callee in callees:
            link(*callee)
        return CompileResult._rebuild(target_context, *reduced)

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        """Keep a compiled kernel, or warn that it cannot be kept."""
        if data.library.has_dynamic_globals:  # addresses that hold in this process only
            return
        contents = dumps((_callees(data), data._reduce()))
        try:
            path = self._path(sig, data.codegen)
            with new_file(path) as file:
                file.write(_seal(path, contents) + contents)
        except FastrnnError as error:
            self._warn(str(error))
        except OSError as error:
            self._warn(
                f"cannot keep them in {shown(kernel_folder())}: {error.strerror}; "
                "set NUMBA_CACHE_DIR to a folder with room"
            )

    def _warn(self, problem: str) -> None:
        if not unkept:
            logger.warning("kernels have to be compiled each time: %s", problem)
        unkept.add(self.name)


def _seal(path: Path, contents: bytes | memoryview) -> bytes:
    """SHA-256 of the contents and the name, so that a file in the place of another is noticed."""
    digest = hashlib.sha256(path.name.encode())
    digest.update(contents)
    return digest.digest()


@contextmanager
def compilation_notice(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` when a kernel is first compiled within this context, instead of being loaded."""

    class Listener(event.Listener):
        told = False

        def on_start(self, event: event.Event) -> None:
            if not self.told:
                self.told = True
                tell()

        def on_end(self, event: event.Event) -> None:
            pass

    with event.install_listener("numba:compile", Listener()):
        yield


class Library(JITCodeLibrary):
    """The LLVM code of a kernel that is kept on disk, and of all that it contains.

    Numba's own optimizes every function twice on its way there, and makes machine code of it. Here
    all of a kernel's functions are optimized once, together.
    """

    def add_llvm_module(self, module: Any) -> None:
        self._final_module.link_in(module)


class Contained(Library):
    """The LLVM code of a function that is never called by itself: it only waits for its callers."""

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0

    @property
    def codegen(self) -> Contained:
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Nothing: it is for functions that use Python's objects, and has no address here."""


# Passes of Numba for what no kernel has: closures and comprehensions, arithmetic with whole arrays.
WITHOUT_USE = (InlineClosureLikes, WithLifting, NopythonRewrites)


class KernelCompiler(Compiler):
    """Numba's compiler for a function whose LLVM code goes into a `Library`."""

    library = Library

    def define_pipelines(self) -> Any:
        state = self.state
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        (pipeline,) = super().define_pipelines()
        pipeline.passes = [step for step in pipeline.passes if step[0] not in WITHOUT_USE]
        return [pipeline]


class ContainedCompiler(KernelCompiler):
    """The same for one that goes into `Contained`."""

    library = Contained


# error_model: the default adds a branch for ZeroDivisionError to each division, which costs SIMD.
# No fast-math: the order of every sum is part of the result, on all processors alike.
ENTRY = {
    "error_model": "numpy",
    "nogil": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,
    "pipeline_class": KernelCompiler,
}
# For kernels that only kernels call. Python crashes if it calls one; the code that would let it
# takes time to compile.
SHARED = {**ENTRY, "no_cpython_wrapper": True}
CONTAINED = {**SHARED, "pipeline_class": ContainedCompiler}


def jit(function: Callable) -> Callable:
    """Compile a kernel that others call, but not Python; it becomes part of their machine code."""
    kernel = numba.njit(**CONTAINED)(function)
    template_of = kernel.get_call_template

    def get_call_template(args: Types, kws: dict[str, Any]) -> Any:
        """Numba would compile a kernel once more for every constant that it is called with."""
        return template_of(tuple(map(types.unliteral, args)), kws)

    kernel.get_call_template = get_call_template
    return kernel


def variant(kernel: Callable) -> Callable[[Callable], Callable]:
    """As Numba's `overload`: what is decorated gives an implementation of `kernel`, as of `jit`,
    for some types of its arguments, and None for others."""
    return overload(kernel, jit_options=CONTAINED)


PREFIX = "fastrnn."  # of the symbols of shared kernels
_shared: dict[str, Any] = {}  # by name
_linked: dict[str, tuple[str, Types]] = {}  # what each symbol that the linker knows stands for


def shared(function: Callable) -> Any:
    """Compile a kernel that others call but do not contain, and keep it on disk by itself.

    All that a kernel calls is optimized with it; a large function that several call is only
    optimized once this way.
    """
    kernel = numba.njit(**SHARED)(function)
    kernel._cache = KernelCache(function)
    name = kernel._cache.name
    _shared[name] = kernel

    def call(typing: Any, *arguments: Any) -> tuple[Any, Callable]:
        kinds = tuple(map(types.unliteral, arguments))
        symbol, result = link(name, kinds)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = context.call_conv.get_function_type(result, kinds)
            function = builder.module.globals.get(symbol) or ir.Function(
                builder.module, kind, symbol
            )
            _, value = context.call_conv.call_function(builder, function, result, kinds, args)
            return value

        return result(*kinds), codegen

    typing = inspect.Parameter("typing", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    call.__signature__ = inspect.Signature([typing, *parameters])  # type: ignore[attr-defined]
    return intrinsic(call)


def link(name: str, kinds: Types) -> tuple[str, Any]:
    """Have a shared kernel where those who call it with these types find it.

    Returns its symbol, and the type of its result.
    """
    kernel = _shared[name]
    symbol = f"{PREFIX}{name}-{_hash(kinds)}"
    kernel.compile(kinds)
    compiled = kernel.overloads[kinds]
    if symbol not in _linked:
        address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
        llvmlite.binding.add_symbol(symbol, address)
        _linked[symbol] = name, kinds
    return symbol, compiled.signature.return_type


def _callees(data: CompileResult) -> list[tuple[str, Types]]:
    """The shared kernels that a kernel calls."""
    functions = data.library._final_module.functions
    symbols = [f.name for f in functions if f.is_declaration and f.name.startswith(PREFIX)]
    return [_linked[symbol] for symbol in symbols]


def entry(function: Callable) -> Any:
    """Compile a kernel that Python calls, for each tuple of types, and keep it on disk."""
    kernel = numba.njit(**ENTRY)(function)
    kernel._cache = KernelCache(function)  # where njit(cache=True) puts Numba's own
    return kernel
