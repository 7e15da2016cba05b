"""Builds the plugin: the kernel's object file, a C file for the host's side, and the weights."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from os import environ
from pathlib import Path

from ..errors import MissingExtraError, UserError
from ..native import tables
from ..native.cpu import PARTS, usable
from ..native.layout import CACHE_LINE, CONTROLS, STREAM, scratch_size
from ..native.machine_code import SYMBOL, object_code
from ..native.packing import pack
from ..network.checkpoint import Checkpoint
from ..paths import replacing

SOURCE = Path(__file__).with_name("ladspa.c")
COMPILERS = ("cc", "gcc", "clang")
NO_LIMIT_DB = 100  # from here on an attenuation limit is none
LABEL = b"gtcrn_mono"  # in every plugin
YMM, ZMM = 0b110, 0b11100110  # what a system that keeps such registers has set in XCR0
EXPORTS = "{ global: ladspa_descriptor; local: *; };\n"


def find_compiler() -> list[str]:
    """The C compiler as a command: ``$CC``, the system's, or the one of the extra `plugin`.

    Raises
    ------
    UserError
        There is none.
    """
    named = shlex.split(environ.get("CC", ""))
    for command in ([named] if named else []) + [[name] for name in COMPILERS]:
        if shutil.which(command[0]):
            return command
    if find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc"]
    raise MissingExtraError("making a plugin without a C compiler (cc, gcc, clang)", "plugin")


def build_plugin(checkpoint: Checkpoint, target: str | Path, *, overwrite: bool = False) -> None:
    """Write a LADSPA plugin for this CPU, with the labels ``gtcrn_mono`` and ``gtcrn_stereo``.

    Parameters
    ----------
    checkpoint
        The model whose weights go into it.
    target
        The file to write.
    overwrite
        Replace an existing one.

    Raises
    ------
    UserError
        There is no C compiler, it fails, or `target` cannot be written.
    """
    if sys.platform != "linux":
        raise UserError("gtcrn makes plugins on Linux")
    compiler = find_compiler()
    with replacing(target, overwrite=overwrite) as path, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "kernel.o").write_bytes(object_code())
        (folder / "model.h").write_text(header(checkpoint))
        (folder / "exports").write_text(EXPORTS)
        command = [
            *compiler, "-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden",
            f"-I{folder}", str(SOURCE), str(folder / "kernel.o"),
            f"-Wl,--version-script={folder / 'exports'}", "-Wl,-Bsymbolic", "-s",
            "-o", str(folder / "plugin.so"), "-lm",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word of it"])[-1]
            raise UserError(f"{shlex.join(compiler)} cannot build the plugin: {last}")
        try:
            shutil.copyfile(folder / "plugin.so", path)
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror}") from None


def header(checkpoint: Checkpoint) -> str:
    """What the C file takes from the package: sizes, names and the weights."""
    numbers = {
        "CONTROLS_SIZE": CONTROLS.size,
        "CONTROLS_STRENGTH": CONTROLS.strength,
        "CONTROLS_HIGH_BAND": CONTROLS.high_band,
        "CONTROLS_LINKED": CONTROLS.linked,
        "STREAM_PAST": STREAM.past,
        "CACHE_LINE": CACHE_LINE,
        "NO_LIMIT_DB": f"{NO_LIMIT_DB}.0f",
        **{name: getattr(tables, name) for name in dir(tables) if name.endswith("_AT")},
        "PASSES_BEGIN": tables.PASSES_BEGIN,
        **_needs(),
    }
    # Room for scratch is a + b w + c (d + e w) numbers for c channels and a window of w.
    base, wide = scratch_size(0, 0), scratch_size(2, 0)
    one, wide_one = scratch_size(0, 1), scratch_size(2, 1)
    slope, channel, channel_slope = wide - base, one - base, wide_one - one - (wide - base)
    scratch = f"({base} + {slope} * (w) / 2 + (c) * ({channel} + {channel_slope} * (w) / 2))"
    words = pack(checkpoint).view("<u4")
    rows = [", ".join(map(hex, words[n : n + 8])) for n in range(0, len(words), 8)]
    return "\n".join(
        [
            *(f"#define {name} {value}" for name, value in numbers.items()),
            f"#define SCRATCH_SIZE(w, c) {scratch}",
            f'#define COPYRIGHT "MIT; model {checkpoint.digest[:16]}"',
            f"#define gtcrn_run {SYMBOL}",
            "static const uint32_t WEIGHTS[] __attribute__((aligned(CACHE_LINE))) = {",
            ",\n".join(rows),
            "};\n",
        ]
    )


def _needs() -> dict[str, str]:
    """What the plugin asks the CPU for, so as not to start on one that it was not made for."""
    used = usable()

    def bits(leaf: int) -> int:
        return sum({1 << PARTS[name].bit for name in used if PARTS[name].leaf == leaf})

    registers = ZMM if "avx512f" in used else YMM if "avx" in used else 0
    return {
        "CPU_LEAF_1_ECX": f"{bits(1):#x}u",
        "CPU_LEAF_7_EBX": f"{bits(7):#x}u",
        "CPU_XCR0": f"{registers:#x}u",
    }
