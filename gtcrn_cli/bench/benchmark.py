"""How fast it is, beside others, on this machine: what `gtcrn bench` measures and shows."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .. import __version__
from ..errors import UserError
from ..network.checkpoint import find_model
from ..signals import Samples
from .baselines import BASELINES, Baseline
from .results import SHORT_S, HopTimes, Measurement, Report

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
CAN_PIN = hasattr(os, "sched_setaffinity")
COMMAND = (sys.executable, "-m", "gtcrn_cli")
PEAK = 0.5


def run(
    model: str, seconds: float, repeats: int, names: list[str], notify: Callable[[str], None]
) -> Report:
    """Measure every baseline that is installed, or those in `names`, one after another.

    Parameters
    ----------
    model
        A name or a file.
    seconds
        How long the file is.
    repeats
        How often each file is enhanced; medians count.
    notify
        Told what is being measured.

    Raises
    ------
    UserError
        There is no such model, or none of the baselines is installed.
    """
    find_model(model)
    chosen = [baseline for baseline in BASELINES if not names or is_one_of(names, baseline)]
    present = [c for c in chosen if importlib.util.find_spec(c.module) is not None]
    if not present:
        missing = ", ".join(baseline.name for baseline in chosen)
        packages = " ".join(dict.fromkeys(baseline.distribution for baseline in chosen))
        raise UserError(f"not installed: {missing}: pip install {packages}")
    with tempfile.TemporaryDirectory() as folder, _one_core():
        bench = _Bench(Path(folder), model, seconds, repeats)
        results = []
        for baseline in present:
            notify(baseline.name)
            results.append(bench.measure(baseline))
    absent = [f"{c.name} ({c.distribution})" for c in chosen if c not in present]
    return Report(describe_machine(), seconds, model, results, absent)


def is_one_of(names: list[str], baseline: Baseline) -> bool:
    """Whether any of the names is in that of the baseline, in capitals or not."""
    return any(name.lower() in baseline.name.lower() for name in names)


def _version_of(baseline: Baseline) -> str:
    if baseline.distribution == "gtcrn-cli":
        return __version__
    return version(baseline.distribution, baseline.module)


def version(distribution: str, module: str) -> str:
    """Of what brings a module: most often `distribution`, but others may be made of it.

    ``unknown`` where none says so, as in some other ways to install than pip.
    """
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    for other in importlib.metadata.packages_distributions().get(module, []):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"{importlib.metadata.version(other)} ({other})"
    return "unknown"


class _FailedError(Exception):
    pass


@dataclass(frozen=True)
class _Bench:
    folder: Path
    model: str
    seconds: float
    repeats: int

    def measure(self, baseline: Baseline) -> Measurement:
        facts: dict[str, Any] = {
            "name": baseline.name,
            "version": _version_of(baseline),
            "sample_rate": baseline.sample_rate,
            "channels": baseline.channels,
            "latency_ms": baseline.latency_ms,
            "hop_ms": 1000 * baseline.hop / baseline.sample_rate,
        }
        try:
            return Measurement(**facts, **self._live(baseline), **self._file(baseline))
        except (_FailedError, UserError) as error:
            return Measurement(**facts, problem=str(error))

    def _live(self, baseline: Baseline) -> dict[str, Any]:
        target = self.folder / "seconds.json"
        target.unlink(missing_ok=True)
        source = self._recording(baseline, SHORT_S)
        _run(*self._worker("live", baseline, source), str(target))
        try:
            told = json.loads(target.read_text())
            return {kind: HopTimes.of(seconds) for kind, seconds in told.items()}
        except (OSError, ValueError) as error:
            raise _FailedError(f"it left no figures: {error}") from None

    def _file(self, baseline: Baseline) -> dict[str, Any]:
        short = [self._enhance(baseline, SHORT_S) for _ in range(self.repeats)]
        runs = [self._enhance(baseline, self.seconds) for _ in range(self.repeats)]
        elapsed = statistics.median(seconds for seconds, _ in runs)
        peaks = [peak for _, peak in runs if peak is not None]
        return {
            "file_speed": round(self.seconds / elapsed, 1),
            "short_file_s": round(statistics.median(seconds for seconds, _ in short), 2),
            "peak_mb": round(max(peaks), 1) if peaks else None,
        }

    def _enhance(self, baseline: Baseline, seconds: float) -> tuple[float, float | None]:
        """Seconds and peak memory of a process that enhances that much sound."""
        source, target = self._recording(baseline, seconds), str(self.folder / "enhanced.wav")
        if baseline.command is None:
            command = [*self._worker("file", baseline, source), target]
        else:
            command = [*COMMAND, "denoise", source, target]
            command += ["--overwrite", "--quiet", "--model", self.model, "--threads", "1"]
            command += baseline.command
        return _run(*command)

    def _worker(self, task: str, baseline: Baseline, source: str) -> list[str]:
        model = self._exported() if baseline.exported else self.model
        return [
            sys.executable,
            "-m",
            "gtcrn_cli.bench.baselines",
            task,
            baseline.name,
            model,
            source,
        ]

    def _exported(self) -> str:
        path = self.folder / "model.onnx"
        if not path.exists():
            # Not here: the memory of this process counts as that of those it starts.
            _run(*COMMAND, "export", str(path), "--model", self.model)
        return str(path)

    def _recording(self, baseline: Baseline, seconds: float) -> str:
        path = self.folder / f"{baseline.sample_rate}-{baseline.channels}-{seconds}.wav"
        if not path.exists():
            write_recording(path, baseline.sample_rate, baseline.channels, seconds)
        return str(path)


def write_recording(path: Path, sample_rate: int, channels: int, seconds: float) -> None:
    """A 16-bit file of something like speech in noise, the same at every sample rate."""
    piece = _speech_like(sample_rate)
    with soundfile.SoundFile(path, "w", sample_rate, channels, "PCM_16") as file:
        left = round(seconds * sample_rate)
        while left:
            block = piece[:left]
            file.write(np.stack([np.roll(block, 1000 * c) for c in range(channels)], axis=1))
            left -= len(block)


def _speech_like(sample_rate: int) -> Samples:
    """10 s: syllables of a harmonic voice, three a second, in white noise 10 dB below."""
    t = np.arange(10 * sample_rate) / sample_rate
    voice = sum(np.sin(2 * np.pi * 120 * n * t + n * n) / n for n in range(1, 30))
    voice = voice * np.maximum(np.sin(2 * np.pi * 1.5 * t), 0)
    noise = np.random.default_rng(0).standard_normal(len(t))
    mixture = voice / voice.std() + 0.3 * noise
    return (PEAK * mixture / np.abs(mixture).max()).astype(np.float32)


def _run(*command: str) -> tuple[float, float | None]:
    """Run on one thread: its seconds, and peak memory in MB where that is known."""
    with tempfile.TemporaryFile("w+", errors="replace") as err:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
            env=os.environ | dict.fromkeys(THREAD_SETTINGS, "1"),
        )
        peak_mb = _wait(process)
        elapsed = time.perf_counter() - begin
        err.seek(0)
        if process.returncode:
            lines = err.read().strip().splitlines() or [f"exit code {process.returncode}"]
            raise _FailedError(lines[-1])
        return elapsed, peak_mb


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process, and those it starts, on one core, where the system can do that."""
    if not CAN_PIN:
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _wait(process: subprocess.Popen[bytes]) -> float | None:
    """Its peak memory. Never below that of this process: Linux counts from before the exec."""
    if not hasattr(os, "wait4"):
        process.wait()
        return None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * unit / 1e6


def describe_machine() -> dict[str, Any]:
    """What the figures depend on."""
    packages = ("numpy", "numba", "llvmlite", "soundfile")
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "used": "one core, one thread" if CAN_PIN else "one thread",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package, package) for package in packages},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
