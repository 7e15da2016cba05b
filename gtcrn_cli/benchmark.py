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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from . import __version__
from .contenders import CONTENDERS, Contender
from .errors import MissingExtraError, UserError
from .network.checkpoint import find_model
from .paths import require_free
from .signals import Samples

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
)
COMMAND = (sys.executable, "-m", "gtcrn_cli")
SHORT_S = 5  # the file whose time shows how long it takes to start
HOPS = 1000
PEAK = 0.5
CHART_SUFFIXES = (".png", ".svg", ".pdf")

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Times:
    """Of one hop or frame, in µs."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, seconds: list[float]) -> Times:
        """From what each took."""
        us = np.array(seconds) * 1e6
        return cls(*(round(float(x), 1) for x in (*np.percentile(us, [50, 99]), us.max())))


@dataclass(frozen=True)
class Result:
    """What was measured of one contender.

    Attributes
    ----------
    network
        One frame through the network alone, where that can be called.
    hop
        One hop of sound through all of it: frame, network, overlap-add.
    hop_ms
        How long a hop lasts.
    file_speed
        Times real time of a whole process that reads, enhances and writes a file.
    short_file_s
        Seconds that such a process takes for 5 s of sound: mostly its start.
    peak_mb
        The most memory that it had.
    problem
        Why there is nothing.
    """

    name: str
    version: str
    latency_ms: float | None = None
    hop_ms: float | None = None
    network: Times | None = None
    hop: Times | None = None
    file_speed: float | None = None
    short_file_s: float | None = None
    peak_mb: float | None = None
    problem: str | None = None

    @property
    def live_speed(self) -> float | None:
        """Times real time, hop by hop."""
        if self.hop is None or self.hop_ms is None:
            return None
        return 1000 * self.hop_ms / self.hop.p50


@dataclass(frozen=True)
class Report:
    """A run of the benchmark."""

    machine: dict[str, Any]
    seconds: float  # of sound in the file
    model: str
    results: list[Result]
    absent: list[str] = field(default_factory=list)  # contenders that are not installed

    def to_json(self) -> str:
        """All of it."""
        return json.dumps(asdict(self), indent=2)

    def find(self, name: str) -> Result | None:
        """The result of a contender, if it took part."""
        return next((result for result in self.results if result.name == name), None)


def run(model: str, seconds: float, repeats: int, names: list[str], notify: Notify) -> Report:
    """Measure every contender that is installed, or those in `names`, one after another.

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
        There is no such model or contender.
    """
    find_model(model)
    chosen = [contender for contender in CONTENDERS if _is_chosen(contender, names)]
    if not chosen:
        known = "; ".join(contender.name for contender in CONTENDERS)
        raise UserError(f"no contender is called {' or '.join(names)}: there are {known}")
    present = [c for c in chosen if importlib.util.find_spec(c.module) is not None]
    with tempfile.TemporaryDirectory() as folder, _one_core():
        bench = _Bench(Path(folder), model, seconds, repeats)
        results = []
        for contender in present:
            notify(contender.name)
            results.append(bench.measure(contender))
    absent = [f"{c.name} ({c.distribution})" for c in chosen if c not in present]
    return Report(describe_machine(), seconds, model, results, absent)


def _version_of(contender: Contender) -> str:
    if contender.distribution == "gtcrn-cli":
        return __version__
    return importlib.metadata.version(contender.distribution)


def _is_chosen(contender: Contender, names: list[str]) -> bool:
    return not names or any(name.lower() in contender.name.lower() for name in names)


class _FailedError(Exception):
    pass


@dataclass(frozen=True)
class _Bench:
    folder: Path
    model: str
    seconds: float
    repeats: int

    def measure(self, contender: Contender) -> Result:
        facts: dict[str, Any] = {
            "name": contender.name,
            "version": _version_of(contender),
            "latency_ms": contender.latency_ms,
            "hop_ms": 1000 * contender.hop / contender.sample_rate,
        }
        try:
            return Result(**facts, **self._live(contender), **self._file(contender))
        except (_FailedError, UserError) as error:
            return Result(**facts, problem=str(error))

    def _live(self, contender: Contender) -> dict[str, Any]:
        out, _, _ = _run(
            *self._worker("live", contender, self._recording(contender, SHORT_S)), str(HOPS)
        )
        return {kind: Times.of(seconds) for kind, seconds in json.loads(out).items()}

    def _file(self, contender: Contender) -> dict[str, Any]:
        short = [self._enhance(contender, SHORT_S) for _ in range(self.repeats)]
        runs = [self._enhance(contender, self.seconds) for _ in range(self.repeats)]
        elapsed = statistics.median(seconds for seconds, _ in runs)
        peaks = [peak for _, peak in runs if peak is not None]
        return {
            "file_speed": round(self.seconds / elapsed, 1),
            "short_file_s": round(statistics.median(seconds for seconds, _ in short), 2),
            "peak_mb": round(max(peaks), 1) if peaks else None,
        }

    def _enhance(self, contender: Contender, seconds: float) -> tuple[float, float | None]:
        """Seconds and peak memory of a process that enhances that much sound."""
        source, target = self._recording(contender, seconds), str(self.folder / "enhanced.wav")
        if contender.command is None:
            command = [*self._worker("file", contender, source), target]
        else:
            command = [*COMMAND, "denoise", source, target]
            command += ["--overwrite", "--quiet", "--model", self.model, *contender.command]
        _, elapsed, peak = _run(*command)
        return elapsed, peak

    def _worker(self, task: str, contender: Contender, source: str) -> list[str]:
        model = self._exported() if contender.exported else self.model
        return [sys.executable, "-m", "gtcrn_cli.contenders", task, contender.name, model, source]

    def _exported(self) -> str:
        path = self.folder / "model.onnx"
        if not path.exists():
            # Not here: the memory of this process counts as that of those it starts.
            _run(*COMMAND, "export", str(path), "--model", self.model)
        return str(path)

    def _recording(self, contender: Contender, seconds: float) -> str:
        path = self.folder / f"{contender.sample_rate}-{contender.channels}-{seconds}.wav"
        if not path.exists():
            write_recording(path, contender.sample_rate, contender.channels, seconds)
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


def _run(*command: str) -> tuple[str, float, float | None]:
    """Run on one thread: its stdout, seconds, and peak memory in MB where that is known."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=os.environ | dict.fromkeys(THREAD_SETTINGS, "1"),
        )
        peak_mb = _wait(process)
        elapsed = time.perf_counter() - begin
        out.seek(0)
        err.seek(0)
        if process.returncode:
            lines = err.read().strip().splitlines() or [f"exit code {process.returncode}"]
            raise _FailedError(lines[-1])
        return out.read(), elapsed, peak_mb


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process, and those it starts, on one core, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
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
        "used": "one core, one thread",
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def to_table(report: Report) -> str:
    """Markdown: what it headlines, the network alone, the whole, and on what it ran."""
    return "\n\n".join(
        part
        for part in (
            _headline(report),
            _network_table(report),
            _denoiser_table(report),
            _footnotes(report),
        )
        if part
    )


def _headline(report: Report) -> str:
    """How many times faster than each other one we are."""
    ours = report.find("gtcrn native")
    if ours is None or ours.problem:
        return ""
    lines = []
    for other in report.results:
        if other is ours or other.name.startswith(ours.name) or other.problem:
            continue
        ratios = []
        if ours.network and other.network:
            ratios.append(f"{other.network.p50 / ours.network.p50:.1f}x as fast for a frame")
        if ours.live_speed and other.live_speed:
            ratios.append(f"{ours.live_speed / other.live_speed:.1f}x live")
        if ours.file_speed and other.file_speed:
            ratios.append(f"{ours.file_speed / other.file_speed:.1f}x on a file")
        lines.append(f"- {ours.name} against {other.name}: {', '.join(ratios)}")
    return "\n".join(lines)


def _network_table(report: Report) -> str:
    rows = [[result.name, *_times(result.network)] for result in report.results if result.network]
    return _markdown(
        ["the network alone, one frame (16 ms) per call", "p50 µs", "p99", "max"], rows
    )


def _denoiser_table(report: Report) -> str:
    head = ["sound in, sound out", "hop ms", "p50 µs", "p99", "max", "x real time, live"]
    head += [
        f"x real time, {report.seconds:g} s file",
        f"s for {SHORT_S} s",
        "peak MB",
        "latency ms",
    ]
    rows = [
        [
            result.name,
            _number(result.hop_ms if result.hop else None, "g"),
            *_times(result.hop),
            _number(result.live_speed, ".0f"),
            _number(result.file_speed, ".0f"),
            _number(result.short_file_s, ".2f"),
            _number(result.peak_mb, ".0f"),
            _number(result.latency_ms, "g"),
        ]
        for result in report.results
        if not result.problem
    ]
    return _markdown(head, rows)


def _footnotes(report: Report) -> str:
    versions = ", ".join(
        f"{result.name} {result.version}" for result in report.results if not result.problem
    )
    lines = [
        ", ".join(f"{name} {value}" for name, value in report.machine.items()),
        f"model {report.model}; {versions}",
        "Files: a whole process from start to exit, medians.",
    ]
    lines += [f"{r.name} {r.version} failed: {r.problem}" for r in report.results if r.problem]
    if report.absent:
        lines.append(f"Not installed: {', '.join(report.absent)}.")
    return "\n".join(f"- {line}" for line in lines)


def _times(times: Times | None) -> list[str]:
    if times is None:
        return ["-"] * 3
    return [_number(value, ".0f") for value in (times.p50, times.p99, times.max)]


def _number(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    if not rows:
        return ""
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ruler, *rows))


def require_chart(target: Path) -> None:
    """Refuse a chart that cannot be drawn before minutes of measuring, not after."""
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtraError("--plot", "bench")
    require_free(target, overwrite=True)
    if target.suffix.lower() not in CHART_SUFFIXES:
        raise UserError(
            f"no charts as {target.name}: its name must end in {' '.join(CHART_SUFFIXES)}"
        )


def plot(report: Report, target: Path) -> None:
    """Bars of how many times real time each one runs, live and on a file: PNG, SVG or PDF."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    results = [result for result in report.results if not result.problem][::-1]
    figure = Figure(figsize=(8, 1 + 0.6 * len(results)), layout="constrained")
    axes = figure.add_subplot()
    rows = np.arange(len(results))
    for offset, label, speeds in (
        (0.2, "live, hop by hop", [result.live_speed for result in results]),
        (-0.2, "a file, start-up included", [result.file_speed for result in results]),
    ):
        bars = axes.barh(rows + offset, [speed or 0 for speed in speeds], 0.38, label=label)
        axes.bar_label(bars, [f"{speed:.0f}x" if speed else "" for speed in speeds], padding=3)
    axes.set_yticks(rows, [result.name for result in results])
    axes.set_xscale("log")
    axes.set_xlim(left=1)
    axes.margins(x=0.15)
    axes.set_xlabel(f"times real time on one core ({report.machine['cpu']})")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=150)
