"""The kernel as machine code: compiled for this CPU once, kept, and called without Numba.

Numba has a cache of its own, but to load from it one must import Numba, which takes longer than to
enhance a short file. So the machine code is kept in the user's cache directory: as LLVM's object
file, and, where `image` knows how, as a piece that need only be mapped into memory. Elsewhere the
object file is handed to LLVM's linker (llvmlite) at the next start.

Its name says for what it is good: CPU (`cpu`), operating system, versions and source. A file that
is damaged, or that another process is just writing, is never used: it is renamed into place whole,
and begins with its own digest. Files that nobody has used for a long time go when a new one comes.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import mmap
import os
import platform
import re
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from platformdirs import user_cache_path

from ..errors import UserError
from ..paths import remove_unused, user_folder, write_whole
from .cpu import features, identity
from .image import flatten
from .layout import CACHE_LINE

Kernel = Callable[..., None]
"""`chain.run`, with addresses for pointers."""

SYMBOL = "gtcrn_run"
_PACKAGE = Path(__file__).parent
_NETWORK = _PACKAGE.parent / "network"  # of which the kernel takes sizes and constants
_HEAD = struct.Struct("<32sqq")  # digest of what follows; where the function begins; image size
_PAGE = 4096  # bytes; the image begins at the second one
_NAME = "kernel-{}.bin"
_OURS = re.compile(r"kernel-[0-9a-f]{20}\.bin")
_DAY_S = 24 * 3600.0
_log = logging.getLogger(__name__)
_lock = threading.Lock()
_folder: Path | None = None  # in place of the user's cache
_kept: list[Any] = []  # what must outlive the function


class _Kept(NamedTuple):
    """A file of the cache."""

    content: Any  # bytes, or memory that the file is mapped to
    entry: int
    image_size: int  # 0 where there is none

    @property
    def object_code(self) -> bytes:
        return bytes(self.content[_PAGE + self.image_size :])


def load_kernel() -> Kernel:
    """The kernel for this CPU, compiled now if it is for the first time.

    Logs when it compiles. Safe to call from several threads and processes at once.
    """
    with _lock:
        return _load_kernel()


@functools.cache
def _load_kernel() -> Kernel:
    path, kept = _find()
    if path is not None and kept.image_size:
        mapped = _map(path)
        if mapped is not None:
            return _from_address(np.frombuffer(mapped, np.uint8).ctypes.data + _PAGE + kept.entry)
    return _link(kept.object_code)


def object_code() -> bytes:
    """The object file with `chain.run` in it, as `SYMBOL`; compiled now if for the first time."""
    with _lock:
        return _find()[1].object_code


def _find() -> tuple[Path | None, _Kept]:
    path: Path | None = None
    try:
        path = cache_file()
        kept = _read(path)
    except UserError as error:
        _log.warning("it will compile again next time: %s", error)
        kept = None
    if kept is None:
        _log.info("compiling the network for this CPU, once...")
        begin = time.perf_counter()
        content = _pack(compile_kernel())
        _log.info("compiled in %.1f s", time.perf_counter() - begin)
        if path is not None:
            _keep(content, path)
        kept = _parse(content)
        assert kept is not None
    elif path is not None:
        _note_use(path)
    return path, kept


def cache_file() -> Path:
    """Where the machine code for this CPU and these versions is kept.

    Raises
    ------
    UserError
        The user has no home.
    """
    key = hashlib.sha256()
    for part in (sys.platform, platform.machine(), identity()):
        key.update(f"{part}\n".encode())
    for package in ("llvmlite", "numba"):
        key.update(_version(package))
    for source in (*sorted(_PACKAGE.glob("*.py")), *sorted(_NETWORK.glob("*.py"))):
        key.update(source.read_bytes())
    folder = _folder or user_folder(user_cache_path, "XDG_CACHE_HOME")
    return folder / _NAME.format(key.hexdigest()[:20])


def keep_in(folder: Path | None) -> None:
    """Keep the machine code in `folder`, in this process; ``None``: in the user's cache again."""
    global _folder
    _folder = folder


def can_keep() -> bool:
    """Whether machine code is in the cache already, or could be put there."""
    try:
        path = cache_file()
        if path.is_file():
            return True
        path.parent.mkdir(parents=True, exist_ok=True)
    except (OSError, UserError):
        return False
    return os.access(path.parent, os.W_OK)


def _version(package: str) -> bytes:
    """What tells its version, without importing it: the import is what is to be saved."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return b""
    with suppress(OSError):
        return Path(spec.origin).with_name("_version.py").read_bytes()
    return b""


def _pack(code: bytes) -> bytes:
    """A file of the cache: a page with the head, the image if there is one, the object file."""
    try:
        image, entry = flatten(code, SYMBOL) if sys.platform == "linux" else (b"", 0)
    except ValueError as error:
        _log.debug("the machine code has to be linked: %s", error)
        image, entry = b"", 0
    rest = _HEAD.pack(bytes(32), entry, len(image))[32:].ljust(_PAGE - 32, b"\0") + image + code
    return hashlib.sha256(rest).digest() + rest


def _parse(content: Any) -> _Kept | None:
    if len(content) < _PAGE:
        return None
    digest, entry, image_size = _HEAD.unpack_from(content)
    if hashlib.sha256(memoryview(content)[32:]).digest() != digest:
        return None
    return _Kept(content, entry, image_size)


def _read(path: Path) -> _Kept | None:
    try:
        return _parse(path.read_bytes())
    except OSError:
        return None


def _map(path: Path) -> mmap.mmap | None:
    """The file as memory that can be run; ``None`` where the system does not allow it."""
    try:
        with path.open("rb") as file:
            protection = mmap.PROT_READ | mmap.PROT_EXEC
            mapped = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=protection)
    except OSError:
        return None
    if _parse(mapped) is None:  # not what was read a moment ago
        return None
    _kept.append(mapped)
    return mapped


def _keep(content: bytes, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except (OSError, UserError) as error:
        _log.warning("it will compile again next time: %s", error)
    else:
        remove_unused(path.parent, _OURS)


def _note_use(path: Path) -> None:
    """Once a day, as its time of modification: file systems need not keep when a file was read."""
    with suppress(OSError):  # of a cache that is read only, or another user's
        if time.time() - path.stat().st_mtime > _DAY_S:
            os.utime(path)


def compile_kernel() -> bytes:
    """`chain.run` as an object file that calls nothing. Takes seconds, and imports Numba."""
    import llvmlite.binding as llvm
    from numba import njit

    from .chain import SIGNATURE, run

    _initialize()
    options = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled = njit(SIGNATURE, **options)(run).get_compile_result(SIGNATURE)
    text = compiled.library.get_llvm_str().replace(compiled.fndesc.llvm_func_name, SYMBOL)
    # Vectors that LLVM has no register for go to the stack, which has to be told to begin with a
    # cache line: else each of them lies on two, and is read back many times as slowly.
    aligned = rf"\1 alignstack({CACHE_LINE})\2 {{"
    text = re.sub(r"^(define .*?)((?: comdat)?(?: align \d+)?) \{$", aligned, text, flags=re.M)
    module = llvm.parse_assembly(text)
    module.link_in(llvm.parse_assembly(_MEMORY))
    code: bytes = _target_machine(jit=False, reloc="pic", codemodel="small").emit_object(module)
    return code


# LLVM calls these by their names where it copies or clears memory, so they are here as well.
_MEMORY = """
define hidden ptr @memcpy(ptr %to, ptr %from, i64 %size) nounwind "no-builtins" {
entry:
  %chunks = and i64 %size, -32
  br label %test
test:
  %n = phi i64 [0, %entry], [%n32, %chunk]
  %more = icmp ult i64 %n, %chunks
  br i1 %more, label %chunk, label %rest
chunk:
  %a = getelementptr i8, ptr %from, i64 %n
  %b = getelementptr i8, ptr %to, i64 %n
  %v = load <8 x i32>, ptr %a, align 1
  store <8 x i32> %v, ptr %b, align 1
  %n32 = add i64 %n, 32
  br label %test
rest:
  %m = phi i64 [%n, %test], [%m1, %byte]
  %left = icmp ult i64 %m, %size
  br i1 %left, label %byte, label %end
byte:
  %c = getelementptr i8, ptr %from, i64 %m
  %d = getelementptr i8, ptr %to, i64 %m
  %w = load i8, ptr %c
  store i8 %w, ptr %d
  %m1 = add i64 %m, 1
  br label %rest
end:
  ret ptr %to
}

define hidden ptr @memset(ptr %to, i32 %value, i64 %size) nounwind "no-builtins" {
entry:
  %byte = trunc i32 %value to i8
  %one = insertelement <32 x i8> poison, i8 %byte, i32 0
  %v = shufflevector <32 x i8> %one, <32 x i8> poison, <32 x i32> zeroinitializer
  %chunks = and i64 %size, -32
  br label %test
test:
  %n = phi i64 [0, %entry], [%n32, %chunk]
  %more = icmp ult i64 %n, %chunks
  br i1 %more, label %chunk, label %rest
chunk:
  %b = getelementptr i8, ptr %to, i64 %n
  store <32 x i8> %v, ptr %b, align 1
  %n32 = add i64 %n, 32
  br label %test
rest:
  %m = phi i64 [%n, %test], [%m1, %last]
  %left = icmp ult i64 %m, %size
  br i1 %left, label %last, label %end
last:
  %d = getelementptr i8, ptr %to, i64 %m
  store i8 %byte, ptr %d
  %m1 = add i64 %m, 1
  br label %rest
end:
  ret ptr %to
}
"""


def _initialize() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _target_machine(**how: Any) -> Any:
    import llvmlite.binding as llvm

    target = llvm.Target.from_default_triple()
    return target.create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features(), opt=3, **how
    )


def _link(code: bytes) -> Kernel:
    import llvmlite.binding as llvm

    _initialize()
    # llvmlite's own manager of memory puts all sections side by side. LLVM's may put them further
    # apart than their references reach, in a process that has much memory mapped, and aborts then.
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(""),
        _target_machine(jit=True, codemodel="jitdefault"),
        use_lmm=True,
    )
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _kept.append(engine)
    return _from_address(engine.get_function_address(SYMBOL))


def _from_address(address: int) -> Kernel:
    # Numba's own calling convention: places for a result and an exception, neither of which comes.
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    kind = [pointer, pointer, number, *[pointer] * 7, number, number]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *kind)(address)
    unused = (ctypes.c_void_p * 2)()
    _kept.append(unused)  # every call writes to it
    return functools.partial(function, ctypes.addressof(unused), ctypes.addressof(unused) + 8)
