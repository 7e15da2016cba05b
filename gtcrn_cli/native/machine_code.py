"""The kernel as machine code: compiled for this CPU once, kept, and called without Numba.

Numba has a cache of its own, but to load from it one must import Numba, which takes longer than to
enhance a short file. So the object code that LLVM makes is kept in the user's cache directory and
handed to LLVM's linker (llvmlite) at the next start.

Its name says for what it is good: CPU, features, operating system, versions and source. A file that
is damaged, or that another process is just writing, is never used: it is renamed into place whole,
and begins with its own digest.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from platformdirs import user_cache_path

from ..errors import UserError
from ..paths import write_whole

Kernel = Callable[..., None]
"""`chain.run`, with addresses for pointers."""

_SYMBOL = "gtcrn_run"
_PACKAGE = Path(__file__).parent
_CONFIG = _PACKAGE.parent / "network" / "config.py"  # all that the package imports besides itself
_DIGEST_BYTES = 32
_log = logging.getLogger(__name__)
_lock = threading.Lock()
_linked: list[tuple[llvm.ExecutionEngine, Any]] = []  # must outlive the function


def load_kernel() -> Kernel:
    """The kernel for this CPU, compiled now if it is for the first time.

    Logs when it compiles. Safe to call from several threads and processes at once.
    """
    with _lock:
        return _load_kernel()


@functools.cache
def _load_kernel() -> Kernel:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    path = cache_file()
    code = _read(path)
    if code is None:
        _log.info("compiling the network for this CPU, once...")
        begin = time.perf_counter()
        code = compile_kernel()
        _log.info("compiled in %.1f s", time.perf_counter() - begin)
        _keep(code, path)
    return _link(code)


def cache_file() -> Path:
    """Where the machine code for this CPU and these versions is kept."""
    key = hashlib.sha256()
    for part in (llvm.get_process_triple(), llvm.get_host_cpu_name(), _features()):
        key.update(f"{part}\n".encode())
    key.update(f"{llvmlite.__version__} {version('numba')}\n".encode())
    for source in (*sorted(_PACKAGE.glob("*.py")), _CONFIG):
        key.update(source.read_bytes())
    return user_cache_path("gtcrn") / f"kernel-{key.hexdigest()[:20]}.o"


def _features() -> str:
    return llvm.get_host_cpu_features().flatten()


def _read(path: Path) -> bytes | None:
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, code = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def _keep(code: bytes, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, hashlib.sha256(code).digest() + code)
    except (OSError, UserError) as error:
        _log.warning("it will compile again next time: %s", error)


def compile_kernel() -> bytes:
    """`chain.run` as an object file. Takes seconds, and imports Numba."""
    from numba import njit

    from .chain import SIGNATURE, run

    options = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled = njit(SIGNATURE, **options)(run).get_compile_result(SIGNATURE)
    module = llvm.parse_assembly(
        compiled.library.get_llvm_str().replace(compiled.fndesc.llvm_func_name, _SYMBOL)
    )
    code: bytes = _target_machine().emit_object(module)
    return code


def _target_machine() -> llvm.TargetMachine:
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, codemodel="jitdefault", jit=True
    )


def _link(code: bytes) -> Kernel:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    # Numba's own calling convention: places for a result and an exception, neither of which comes.
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    kind = [pointer, pointer, number, *[pointer] * 7, number, number]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *kind)(engine.get_function_address(_SYMBOL))
    unused = (ctypes.c_void_p * 2)()
    _linked.append((engine, unused))  # the code, and memory that every call writes to
    return functools.partial(function, ctypes.addressof(unused), ctypes.addressof(unused) + 8)
