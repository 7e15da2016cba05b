"""Kernels are kept by what decides their code, and use only what their CPU is known to have."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from gtcrn_cli.native import cpu

X86 = """\
processor	: 0
vendor_id	: AuthenticAMD
cpu family	: 25
model		: 17
model name	: AMD EPYC
stepping	: 1
microcode	: 0x1000065
cpu MHz		: 2596.152
cache size	: 1024 KB
physical id	: 0
siblings	: 2
core id		: 0
cpu cores	: 2
flags		: fpu sse sse2 ht pni ssse3 fma sse4_1 avx cmp_legacy bmi1 avx2 bmi2 avx512f
bugs		: sysret_ss_attrs spectre_v1
bogomips	: 5192.30
TLB size	: 3584 4K pages
address sizes	: 48 bits physical, 48 bits virtual

processor	: 1
flags		: none
"""
ARM = """\
processor	: 0
BogoMIPS	: 243.75
Features	: fp asimd evtstrm aes crc32 atomics fphp asimdhp asimddp sve
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x1
CPU part	: 0xd40
CPU revision	: 1

"""

# Sixteen floats, multiplied and added: what can be done with them depends on the CPU.
VECTORS = """
define void @f(ptr %x) {
  %a = load <16 x float>, ptr %x
  %b = call <16 x float> @llvm.fmuladd.v16f32(<16 x float> %a, <16 x float> %a, <16 x float> %a)
  store <16 x float> %b, ptr %x
  ret void
}
declare <16 x float> @llvm.fmuladd.v16f32(<16 x float>, <16 x float>, <16 x float>)
"""

Identify = Callable[[str, str], str]


@pytest.fixture
def identify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Identify:
    """How a machine is told apart whose system says this of its CPU."""

    def identify(machine: str, cpuinfo: str) -> str:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
        monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr("platform.machine", lambda: machine)
        return cpu.identity()

    return identify


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        pytest.param("siblings	: 2", "siblings	: 1", id="half the cores"),
        pytest.param("cpu cores	: 2", "cpu cores	: 64", id="more cores"),
        pytest.param(" ht ", " ", id="a single core"),
        pytest.param("cmp_legacy ", "", id="a single core of AMD"),
        pytest.param("cache size	: 1024 KB", "cache size	: 512 KB", id="cache"),
        pytest.param("physical id	: 0", "physical id	: 1", id="socket"),
        pytest.param("spectre_v1", "spectre_v1 srso", id="a new bug"),
        pytest.param("avx512f\n", "avx512f debug_swap\n", id="a new word of the kernel"),
        pytest.param("TLB size	: 3584 4K", "TLB size	: 2560 4K", id="TLB"),
        pytest.param("48 bits physical", "46 bits physical", id="address size"),
        pytest.param("2596.152", "1400.000", id="clock"),
        pytest.param("0x1000065", "0x1000066", id="microcode"),
    ],
)
def test_another_size_or_kernel_of_the_same_machine_takes_the_same_code(
    identify: Identify, ours: str, theirs: str
) -> None:
    assert ours in X86
    assert identify("x86_64", X86.replace(ours, theirs)) == identify("x86_64", X86)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("AuthenticAMD", "GenuineIntel"),
        ("family	: 25", "family	: 26"),
        ("model		: 17", "model		: 1"),
        (" avx512f", ""),
        (" fma", ""),
        ("pni ", ""),
    ],
)
def test_another_cpu_or_one_with_a_part_hidden_has_code_of_its_own(
    identify: Identify, ours: str, theirs: str
) -> None:
    assert ours in X86
    assert identify("x86_64", X86.replace(ours, theirs)) != identify("x86_64", X86)


def test_arm(identify: Identify) -> None:
    before = identify("aarch64", ARM)
    assert identify("aarch64", ARM.replace("243.75", "50.00")) == before
    assert identify("aarch64", ARM.replace(" sve", "")) != before
    assert identify("aarch64", ARM.replace("0xd40", "0xd0c")) != before


def test_where_the_system_says_nothing_the_compiler_is_asked(identify: Identify) -> None:
    assert identify(platform.machine(), "\n") == f"{llvm.get_host_cpu_name()} {cpu.features()}"


def assembly(machine_features: str) -> str:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=machine_features, opt=3
    )
    return machine.emit_assembly(llvm.parse_assembly(VECTORS))


@pytest.mark.skipif(not cpu._is_x86_64(), reason="only of x86-64 parts are chosen")
def test_what_the_system_hides_is_not_used(identify: Identify) -> None:
    """Even though the CPU has it, and whether LLVM sees that or not."""
    flags = " ".join(part.flag for part in cpu.PARTS.values())
    identify("x86_64", f"flags : {flags}\n")
    every = assembly(cpu.features())
    identify("x86_64", f"flags : {flags.replace('avx512f', '')}\n")
    assert "zmm" not in assembly(cpu.features())
    identify("x86_64", f"flags : {flags.replace('fma', '')}\n")
    assert "vfmadd" not in assembly(cpu.features())
    identify("x86_64", "flags : sse sse2\n")
    assert "ymm" not in assembly(cpu.features())
    host = llvm.get_host_cpu_features()
    assert ("zmm" in every) == bool(host.get("avx512f"))


@pytest.mark.skipif(not cpu._is_x86_64(), reason="only of x86-64 parts are chosen")
def test_no_part_is_used_that_does_not_tell_cpus_apart() -> None:
    told = cpu.features().split(",")
    used = {name[1:] for name in told if name.startswith("+")}
    assert used <= cpu.BASELINE | set(cpu.PARTS)
    assert {name[1:] for name in told} == set(llvm.get_host_cpu_features())
    assert told == sorted(told, key=lambda name: name[0] == "-")
