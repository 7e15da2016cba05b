"""The compiled kernel is kept, found again, and never trusted when it is damaged."""

from __future__ import annotations

import errno
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from gtcrn_cli.enhancement import engines
from gtcrn_cli.native import machine_code
from gtcrn_cli.native.image import flatten
from gtcrn_cli.network.checkpoint import load_model

DIGEST_OF_A_MASK = """
import hashlib, logging, sys
import numpy as np
from gtcrn_cli.network.checkpoint import load_model
from gtcrn_cli.enhancement.engines import load_engine
logging.basicConfig(level=logging.INFO, format="%(message)s")
noise = np.random.default_rng(0).standard_normal((1, 9, 257, 2)).astype(np.float32)
mask, _ = load_engine(load_model()).mask(noise.view(np.complex64)[..., 0], None)
modules = [name in sys.modules for name in ("numba", "torch", "llvmlite")]
print(hashlib.sha256(mask.tobytes()).hexdigest(), *modules)
"""

# Both compile at the same time. One does it in earnest; the other has the result at hand.
COMPILES_BESIDE_ANOTHER = """
import sys, time
from pathlib import Path
from gtcrn_cli.native import machine_code
here, other, code = map(Path, sys.argv[1:])
def compile_beside_another():
    here.touch()
    while not other.exists():
        time.sleep(0.01)
    return code.read_bytes()
machine_code.compile_kernel = compile_beside_another
"""

NATIVE = Path(machine_code.__file__).parent
MAPPED = sys.platform == "linux" and platform.machine() == "x86_64"  # what `image` is for


def start(cache: Path, code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_all(package: Path) -> str:
    return "".join(path.read_text() for path in package.glob("*.py"))


@pytest.fixture(scope="module")
def code() -> bytes:
    """What the compiler makes for this CPU."""
    return machine_code.object_code()


@pytest.mark.slow
def test_compiled_once_and_by_several_processes_at_once(tmp_path: Path, code: bytes) -> None:
    (tmp_path / "code").write_bytes(code)
    cache, one, two = tmp_path / "cache", tmp_path / "one", tmp_path / "two"
    script = COMPILES_BESIDE_ANOTHER + DIGEST_OF_A_MASK
    first = start(cache, script, one, two, tmp_path / "code")
    second = start(cache, script, two, one, tmp_path / "code")
    results = [process.communicate() for process in (first, second)]
    digests = [out.split()[0] for out, _ in results]
    assert digests[0] == digests[1]
    for _, messages in results:
        assert "compiling the network for this CPU, once" in messages
        assert "compiled in" in messages
    assert [path.suffix for path in (cache / "gtcrn").iterdir()] == [".bin"]

    out, messages = start(cache, DIGEST_OF_A_MASK).communicate()
    assert out.split() == [digests[0], "False", "False", str(not MAPPED)]
    assert messages == ""


class Processes:
    """What new processes would do with an empty cache.

    Each has the module anew. In place of the compiler, which takes seconds, is code that was
    compiled before; `compilations` says for which files it would have run.
    """

    def __init__(self, code: bytes) -> None:
        self.code = code
        self.compilations: list[Path] = []
        self._modules: list[ModuleType] = []

    def load(self) -> machine_code.Kernel:
        spec = importlib.util.spec_from_file_location(machine_code.__name__, machine_code.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.compile_kernel = lambda: self._compile(module.cache_file())
        kernel: machine_code.Kernel = module.load_kernel()
        self._modules.append(module)  # has what must outlive the kernel
        return kernel

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


def aged(path: Path, days: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.touch()
    then_s = time.time() - days * 24 * 3600
    os.utime(path, (then_s, then_s))
    return path


def test_kernels_that_nobody_used_for_long_are_removed(
    processes: Processes, tmp_path: Path
) -> None:
    """And nothing else: neither those in use, nor what somebody else keeps there."""
    cache = tmp_path / "gtcrn"
    gone = [
        aged(cache / f"kernel-{'0123456789' * 2}.bin", 91),
        aged(cache / f".kernel-{'0123456789' * 2}.bin.{'abc' * 4}.part", 91),
    ]
    stay = [
        aged(cache / f"kernel-{'9876543210' * 2}.bin", 89),
        aged(cache / f".kernel-{'0123456789' * 2}.bin.{'def' * 4}.part", 1),
        aged(cache / "kernel-of-mine.bin", 999),
        aged(cache / f"kernel-{'0123456789' * 2}.bin.txt", 999),
        aged(cache / f".mine.{'abc' * 4}.part", 999),
        aged(cache / "corpora" / f"kernel-{'0123456789' * 2}.bin", 999),
    ]
    folder = cache / f"kernel-{'a' * 20}.bin"
    folder.mkdir()
    aged(folder, 999)
    processes.load()
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in [*stay, folder])
    (used,) = processes.compilations
    assert used.exists()


def test_a_kernel_in_use_does_not_age(processes: Processes) -> None:
    processes.load()
    (path,) = processes.compilations
    aged(path, 80)
    processes.load()
    assert time.time() - path.stat().st_mtime < 24 * 3600
    assert len(processes.compilations) == 1


def test_a_cache_that_is_read_only_serves_all_the_same(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes.load()
    (path,) = processes.compilations
    aged(path, 200)

    def refuse(*args: object, **how: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    processes.load()
    assert len(processes.compilations) == 1


def test_a_kernel_that_is_removed_while_it_is_loaded_runs(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = mask_of(processes.load(), monkeypatch)
    (path,) = processes.compilations
    aged(path, 80)
    monkeypatch.setattr(os, "utime", lambda path: path.unlink())  # as soon as it was read
    np.testing.assert_array_equal(mask_of(processes.load(), monkeypatch), expected)
    assert not path.exists()
    assert len(processes.compilations) == 1


def test_another_cpu_or_version_has_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine_code.cache_file()
    monkeypatch.setattr(machine_code, "identity", lambda: "another")
    another_cpu = machine_code.cache_file()
    monkeypatch.setattr(machine_code, "_version", lambda package: b"another")
    another_version = machine_code.cache_file()
    assert len({before, another_cpu, another_version}) == 3


def test_other_constants_of_the_network_have_code_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The kernel has taken them in when it was compiled."""
    taken = set(re.findall(r"from \.\.network\.(\w+) import", read_all(NATIVE)))
    assert {"config", "level"} <= taken
    names = {machine_code.cache_file()}
    for name in taken:
        network = shutil.copytree(NATIVE.parent / "network", tmp_path / name)
        with (network / f"{name}.py").open("a") as file:
            file.write("# changed\n")
        monkeypatch.setattr(machine_code, "_NETWORK", network)
        names.add(machine_code.cache_file())
    assert len(names) == 1 + len(taken)


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


def mask_of(kernel: machine_code.Kernel, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(engines, "load_kernel", lambda: kernel)
    noise = np.random.default_rng(0).standard_normal((1, 30, 257, 2)).astype(np.float32)
    mask, _ = engines.load_engine(load_model()).mask(noise.view(np.complex64)[..., 0], None)
    return mask


def test_linked_where_files_must_not_be_run(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a file system that is mounted so. It does the same as what is mapped."""
    expected = mask_of(machine_code.load_kernel(), monkeypatch)

    def refuse(*args: object, **how: object) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(machine_code.mmap, "mmap", refuse)
    np.testing.assert_array_equal(mask_of(processes.load(), monkeypatch), expected)


@pytest.mark.skipif(not MAPPED, reason="only ELF objects for x86-64 can be flattened")
def test_what_cannot_be_flattened_is_refused() -> None:
    code = machine_code.object_code()
    image, entry = flatten(code, machine_code.SYMBOL)
    assert 0 <= entry < len(image) < len(code)
    with pytest.raises(ValueError, match="no gtcrn_walk in it"):
        flatten(code, "gtcrn_walk")
    with pytest.raises(ValueError, match="no ELF object"):
        flatten(b"MZ" + code[2:], machine_code.SYMBOL)


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
