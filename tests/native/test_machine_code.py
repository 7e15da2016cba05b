"""The compiled kernel is kept, found again, and never trusted when it is damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gtcrn_cli.native import machine_code

DIGEST_OF_A_MASK = """
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
import hashlib, sys
import numpy as np
from gtcrn_cli.network.checkpoint import load_model
from gtcrn_cli.enhancement.engines import load_engine
noise = np.random.default_rng(0).standard_normal((1, 9, 257, 2)).astype(np.float32)
mask, _ = load_engine(load_model()).mask(noise.view(np.complex64)[..., 0], None)
print(hashlib.sha256(mask.tobytes()).hexdigest(), "numba" in sys.modules, "torch" in sys.modules)
"""


def start(cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DIGEST_OF_A_MASK],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_compiled_once_and_by_several_processes_at_once(tmp_path: Path) -> None:
    first, second = start(tmp_path), start(tmp_path)
    results = [process.communicate() for process in (first, second)]
    digests = [out.split()[0] for out, _ in results]
    assert digests[0] == digests[1]
    for _, messages in results:
        assert "compiling the network for this CPU, once" in messages
        assert "compiled in" in messages
    assert [path.suffix for path in (tmp_path / "gtcrn").iterdir()] == [".o"]

    out, messages = start(tmp_path).communicate()
    assert out.split() == [digests[0], "False", "False"]
    assert messages == ""


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """An empty cache, and a record of when the compiler would run."""
    machine_code.load_kernel()
    code = machine_code._read(machine_code.cache_file()) or machine_code.compile_kernel()
    runs: list[Path] = []

    def compile_kernel() -> bytes:
        runs.append(machine_code.cache_file())
        return code

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(machine_code, "compile_kernel", compile_kernel)
    return runs


def load_as_a_new_process_would() -> None:
    machine_code._load_kernel.__wrapped__()


def test_kept_for_the_next_start(compilations: list[Path]) -> None:
    load_as_a_new_process_would()
    load_as_a_new_process_would()
    assert len(compilations) == 1


@pytest.mark.parametrize(
    "damage", [lambda code: code[:-1], lambda code: b"", lambda code: b"x" * 99]
)
def test_damaged_code_is_compiled_again(compilations: list[Path], damage) -> None:
    load_as_a_new_process_would()
    (path,) = compilations
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    load_as_a_new_process_would()
    assert len(compilations) == 2
    assert path.read_bytes() == whole


def test_another_cpu_or_version_has_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine_code.cache_file()
    monkeypatch.setattr(machine_code.llvm, "get_host_cpu_name", lambda: "another")
    another_cpu = machine_code.cache_file()
    monkeypatch.setattr(machine_code, "version", lambda package: "another")
    another_version = machine_code.cache_file()
    assert len({before, another_cpu, another_version}) == 3


def test_works_where_nothing_can_be_kept(
    compilations: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("where a folder would have to be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    load_as_a_new_process_would()
    load_as_a_new_process_would()
    assert len(compilations) == 2
    assert "it will compile again next time" in caplog.text


WRITES_ONLY_ITS_OUTPUT = """
import ctypes, gc
import numpy as np
from gtcrn_cli.network.checkpoint import load_model
from gtcrn_cli.enhancement.engines import load_engine
engine = load_engine(load_model())
gc.collect()
small = [(ctypes.c_uint64 * 2)(1, 1) for _ in range(20_000)]  # takes all free pieces of memory
for _ in range(3):
    engine.mask(np.ones((1, 2, 257), np.complex64), None)
print(sum(list(pair) != [1, 1] for pair in small))
"""


def test_the_kernel_writes_to_no_memory_of_others() -> None:
    """Also after everything that linking left behind was freed."""
    done = subprocess.run(
        [sys.executable, "-c", WRITES_ONLY_ITS_OUTPUT], capture_output=True, text=True
    )
    assert done.stdout.strip() == "0", done.stderr
