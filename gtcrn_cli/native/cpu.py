"""What of a CPU the compiled kernel uses, and what tells whether it can run on another one.

Both come from one list, `PARTS`. The compiler is forbidden every part of x86-64 that is not in it,
however good the CPU: so two CPUs that have the same of these parts can run each other's kernel, and
nothing else need be asked of them. What has no bearing on the code (cores, caches, faults of the
hardware, what the kernel of the system knows by name) is not asked, as it differs between sizes of
the same virtual machine, and from one update to the next.

A hypervisor may hide parts of a CPU. The system's list then lacks them, and so do key and code.
"""

from __future__ import annotations

import platform
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

CPUINFO = Path("/proc/cpuinfo")
BASELINE = frozenset({"64bit", "cmov", "cx8", "fxsr", "mmx", "sse", "sse2"})  # of all x86-64


class Part(NamedTuple):
    """How a part of x86-64 is told: in Linux' list of flags, and as a bit of `cpuid`."""

    flag: str
    leaf: int  # 1: its ECX; 7: its EBX
    bit: int


PARTS = {  # by LLVM's names
    "sse3": Part("pni", 1, 0),
    "ssse3": Part("ssse3", 1, 9),
    "fma": Part("fma", 1, 12),
    "sse4.1": Part("sse4_1", 1, 19),
    "sse4.2": Part("sse4_2", 1, 20),
    "popcnt": Part("popcnt", 1, 23),
    "avx": Part("avx", 1, 28),
    "f16c": Part("f16c", 1, 29),
    "bmi": Part("bmi1", 7, 3),
    "avx2": Part("avx2", 7, 5),
    "bmi2": Part("bmi2", 7, 8),
    "avx512f": Part("avx512f", 7, 16),
    "evex512": Part("avx512f", 7, 16),  # before LLVM 22: its registers of 64 bytes
    "avx512dq": Part("avx512dq", 7, 17),
    "avx512cd": Part("avx512cd", 7, 28),
    "avx512bw": Part("avx512bw", 7, 30),
    "avx512vl": Part("avx512vl", 7, 31),
}
_X86_64 = ("x86_64", "amd64")
_X86_FACTS = ("vendor_id", "cpu family", "model")  # what LLVM takes its name for a CPU from
_ARM_FACTS = ("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features")


def identity() -> str:
    """What decides the machine code. From the system if that tells, as LLVM takes long to load."""
    facts = _facts()
    if _is_x86_64() and {*_X86_FACTS, "flags"} <= facts.keys():
        flags = set(facts["flags"].split())
        used = [name for name, part in PARTS.items() if part.flag in flags]
        return " ".join([*(facts[name] for name in _X86_FACTS), *used])
    if set(_ARM_FACTS) <= facts.keys():
        return " ".join(facts[name] for name in _ARM_FACTS)
    import llvmlite.binding as llvm

    return f"{llvm.get_host_cpu_name()} {features()}"


def features() -> str:
    """What the compiler may use and what not, as LLVM wants to be told: ``+sse3,-aes``."""
    import llvmlite.binding as llvm

    host = llvm.get_host_cpu_features()
    if not _is_x86_64():
        flat: str = host.flatten()
        return flat
    allowed = BASELINE | usable()
    # What is forbidden comes last: it takes along what builds on it, which may itself be allowed.
    told = sorted((name not in allowed, name) for name in host)
    return ",".join(f"{'-' if forbidden else '+'}{name}" for forbidden, name in told)


def usable() -> set[str]:
    """Which of `PARTS` the compiler uses: those that both LLVM and the system find here."""
    import llvmlite.binding as llvm

    host = llvm.get_host_cpu_features()
    flags = _facts().get("flags")
    known = None if flags is None else flags.split()
    return {
        name
        for name, part in PARTS.items()
        if host.get(name) and (known is None or part.flag in known)
    }


def _is_x86_64() -> bool:
    return platform.machine().lower() in _X86_64


def _facts() -> dict[str, str]:
    """What Linux tells of the first core."""
    facts = {}
    with suppress(OSError), CPUINFO.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if not name.strip():
                break
            facts[name.strip()] = value.strip()
    return facts
