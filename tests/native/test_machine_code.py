"""The compiled kernel is kept, found again, and never trusted when it is damaged."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gtcrn_cli.native import machine_code

DIGEST_OF_A_MASK = """
import hashlib, logging, sys
import numpy as np
from gtcrn_cli.network.checkpoint import load_model
from gtcrn_cli.enhancement.engines import load_engine
logging.basicConfig(level=logging.INFO, format="%(message)s")
noise = np.random.default_rng(0).standard_normal((1, 9, 257, 2)).astype(np.float32)
mask, _ = load_engine(load_model()).mask(noise.view(np.complex64)[..., 0], None)
print(hashlib.sha256(mask.tobytes()).hexdigest(), "numba" in sys.modules, "torch" in sys.modules)
"""

# Both compile at the same time. One does it in earnest; the other has the result at hand.
COMPILES_BESIDE_ANOTHER = """
import sys, time
from pathlib import Path
from gtcrn_cli.native import machine_code
here, other, *code = map(Path, sys.argv[1:])
compile_kernel = machine_code.compile_kernel
def compile_beside_another():
    here.touch()
    while not other.exists():
        time.sleep(0.01)
    return code[0].read_bytes() if code else compile_kernel()
machine_code.compile_kernel = compile_beside_another
"""


def start(cache: Path, code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def code() -> bytes:
    """What the compiler makes for this CPU."""
    machine_code.load_kernel()
    kept = machine_code.cache_file()
    if not kept.exists():
        return machine_code.compile_kernel()
    return kept.read_bytes()[hashlib.sha256().digest_size :]  # a digest comes first


@pytest.mark.slow
def test_compiled_once_and_by_several_processes_at_once(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "code").write_bytes(code)
    cache, one, two = tmp_path / "cache", tmp_path / "one", tmp_path / "two"
    script = COMPILES_BESIDE_ANOTHER + DIGEST_OF_A_MASK
    first = start(cache, script, one, two)
    second = start(cache, script, two, one, tmp_path / "code")
    results = [process.communicate() for process in (first, second)]
    digests = [out.split()[0] for out, _ in results]
    assert digests[0] == digests[1]
    for _, messages in results:
        assert "compiling the network for this CPU, once" in messages
        assert "compiled in" in messages
    assert [path.suffix for path in (cache / "gtcrn").iterdir()] == [".o"]

    out, messages = start(cache, DIGEST_OF_A_MASK).communicate()
    assert out.split() == [digests[0], "False", "False"]
    assert messages == ""


class Processes:
    """What new processes would do with an empty cache.

    Each has the module anew. In place of the compiler, which takes seconds, is code that was
    compiled before; `compilations` says for which files it would have run.
    """

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.compilations: list[Path] = []

    def load(self) -> None:
        spec = importlib.util.spec_from_file_location(machine_code.__name__, machine_code.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.compile_kernel = lambda: self._compile(module.cache_file())
        module.load_kernel()

    def _compile(self, path: Path) -> bytes:
        self.compilations.append(path)
        return self.code


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: bytes) -> Processes:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Processes(code)


def test_kept_for_the_next_start(processes: Processes) -> None:
    processes.load()
    processes.load()
    assert len(processes.compilations) == 1


@pytest.mark.parametrize(
    "damage", [lambda code: code[:-1], lambda code: b"", lambda code: b"x" * 99]
)
def test_damaged_code_is_compiled_again(processes: Processes, damage) -> None:
    processes.load()
    (path,) = processes.compilations
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    processes.load()
    assert len(processes.compilations) == 2
    assert path.read_bytes() == whole


def test_another_cpu_or_version_has_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine_code.cache_file()
    monkeypatch.setattr(machine_code.llvm, "get_host_cpu_name", lambda: "another")
    another_cpu = machine_code.cache_file()
    monkeypatch.setattr(machine_code, "version", lambda package: "another")
    another_version = machine_code.cache_file()
    assert len({before, another_cpu, another_version}) == 3


def test_works_where_nothing_can_be_kept(
    processes: Processes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("where a folder would have to be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    processes.load()
    processes.load()
    assert len(processes.compilations) == 2
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
