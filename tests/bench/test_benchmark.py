"""The bench measures what is installed, says why it could not, and shows it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from gtcrn_cli.bench import benchmark, tables
from gtcrn_cli.bench.baselines import BASELINES
from gtcrn_cli.bench.results import HopTimes, Measurement, Report
from gtcrn_cli.cli import app
from gtcrn_cli.errors import MissingExtraError, UserError

TALKATIVE = """
import atexit, sys
import numpy
atexit.register(print, "goodbye {")
class rnnoise:
    @staticmethod
    def create():
        sys.stdout.write("{hello")
    @staticmethod
    def process_mono_frame(state, frame):
        return numpy.zeros(480), 0.5
"""
OURS = Measurement(
    *("gtcrn native", "1.0", 16_000, 1, 32.0, 16.0),
    *(HopTimes(30, 40, 50, 32), HopTimes(70, 90, 99, 80), 300, 0.4, 90),
)
OURS_AT_48_KHZ = replace(
    OURS, name="gtcrn native (48 kHz)", sample_rate=48_000, hop=HopTimes(90, 110, 120, 100)
)
THEIRS = Measurement(
    *("other", "2.0", 48_000, 1, 40.0, 10.0, None),
    *(HopTimes(900, 1100, 1200, 1000), 12.0, 0.9, 80),
)
SAME_NETWORK = replace(
    OURS, name="same network", network=HopTimes(300, 1, 1, 320), hop=None, file_speed=None
)
BROKEN = Measurement("third", "3.0", 16_000, problem="its weights are missing")
RESULTS = [OURS, OURS_AT_48_KHZ, THEIRS, SAME_NETWORK, BROKEN]
REPORT = Report({"cpu": "a CPU"}, 60, "gtcrn", RESULTS, ["fourth (fourth-package)"])


def test_times_of_seconds() -> None:
    times = HopTimes.of([1e-6 * n for n in [*range(1, 101), 1111]])
    assert times == HopTimes(51.0, 100.0, 1111.0, 61.0)


def test_a_hop_that_takes_long_counts() -> None:
    """What is spent in a few long ones is time, too: the median does not know it."""
    times = HopTimes.of([1e-3] * 90 + [11e-3] * 10)
    assert replace(THEIRS, hop=times).live_speed == pytest.approx(5)


def test_others_are_compared_with_the_same_sound() -> None:
    table = tables.to_table(REPORT)
    assert "- gtcrn native (48 kHz) against other: 16.0x live, 25.0x on a file\n" in table
    assert "- gtcrn native against same network: 10.0x as fast for a frame\n" in table
    assert table.count(" against ") == 2
    stereo = [replace(OURS_AT_48_KHZ, channels=2), THEIRS]
    assert " against " not in tables.to_table(replace(REPORT, results=stereo))


def test_table() -> None:
    table = tables.to_table(REPORT)
    assert "| gtcrn native | 32 | 30 | 40 | 50 |" in table
    row = "| gtcrn native | 16,000 | 16 | 80 | 70 | 90 | 99 | 200 | 300 | 0.40 | 90 | 32 |"
    assert row in table
    assert "| other | 48,000 | 10 | 1000 | 900 | 1100 | 1200 | 10 | 12 | 0.90 | 80 | 40 |" in table
    assert "third 3.0 failed: its weights are missing" in table
    assert "Not installed: fourth (fourth-package)." in table
    assert "cpu a CPU" in table


def test_table_without_us() -> None:
    table = tables.to_table(replace(REPORT, results=[BROKEN]))
    assert "|" not in table
    assert "third 3.0 failed" in table


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_chart(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"chart{suffix}"
    tables.plot(REPORT, path)
    assert path.read_bytes().startswith(start)


def test_chart_that_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables.require_chart(tmp_path / "chart.png")
    (tmp_path / "mine.png").write_bytes(b"a picture")
    tables.require_chart(tmp_path / "mine.png", overwrite=True)
    with pytest.raises(UserError, match="--overwrite"):
        tables.require_chart(tmp_path / "mine.png")
    with pytest.raises(UserError, match=r"must end in \.png \.svg \.pdf"):
        tables.require_chart(tmp_path / "chart.nonsense")
    with pytest.raises(UserError, match="does not exist"):
        tables.require_chart(tmp_path / "nowhere" / "chart.png")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"--plot needs .*gtcrn-cli\[bench\]"):
        tables.require_chart(tmp_path / "chart.png")


@pytest.mark.parametrize(("sample_rate", "channels"), [(16_000, 1), (48_000, 2)])
def test_recording(tmp_path: Path, sample_rate: int, channels: int) -> None:
    path = tmp_path / "recording.wav"
    benchmark.write_recording(path, sample_rate, channels, 12.5)
    samples, rate = soundfile.read(path, always_2d=True)
    assert (rate, samples.shape) == (sample_rate, (12.5 * sample_rate, channels))
    assert 0.4 < np.abs(samples).max() <= 0.5


def test_names_are_different() -> None:
    assert len({baseline.name for baseline in BASELINES}) == len(BASELINES)


def test_every_rate_of_another_is_one_of_ours() -> None:
    ours = [baseline for baseline in BASELINES if baseline.name.startswith("gtcrn native")]
    theirs = [baseline for baseline in BASELINES if baseline not in ours]
    sounds = [{(one.sample_rate, one.channels) for one in those} for those in (theirs, ours)]
    assert sounds[0] <= sounds[1]


@pytest.mark.parametrize("names", [["nobody"], ["gtcrn native", "nobody"]])
def test_a_name_that_nobody_has_is_refused(names: list[str]) -> None:
    options = [word for name in names for word in ("--only", name)]
    result = CliRunner().invoke(app, ["bench", *options, "--seconds", "1"])
    assert result.exit_code == 2
    assert "--only nobody" in result.stderr
    assert "RNNoise" in result.stderr


def test_what_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = [replace(b, module="no_such_module") for b in BASELINES]
    monkeypatch.setattr(benchmark, "BASELINES", missing)
    monkeypatch.chdir(tmp_path)
    command = ["bench", "--only", "sherpa", "--only", "RNNoise", "--plot", "chart.svg"]
    with pytest.raises(UserError) as raised:
        CliRunner().invoke(app, command, catch_exceptions=False)
    named = "GTCRN in sherpa-onnx, RNNoise: pip install sherpa-onnx pyrnnoise"
    assert str(raised.value) == f"not installed: {named}"
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_runs_the_command_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "run", lambda *of: replace(REPORT, results=[BROKEN]))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="nothing could be measured"):
        CliRunner().invoke(app, ["bench", "--plot", "chart.svg"], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_the_version_of_a_module_that_another_package_brings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brings = {"onnxruntime": ["onnxruntime-gpu"]}
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: brings)

    def version_of(package: str) -> str:
        if package == "onnxruntime-gpu":
            return "1.2.3"
        raise PackageNotFoundError(package)

    monkeypatch.setattr("importlib.metadata.version", version_of)
    assert benchmark.version("onnxruntime", "onnxruntime") == "1.2.3 (onnxruntime-gpu)"
    assert benchmark.version("torch", "torch") == "unknown"


@pytest.mark.slow
def test_files_are_enhanced_on_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for, as not every system can keep a process on one core."""
    commands: list[str] = []

    def run(*command: str) -> tuple[float, None]:
        commands.append(" ".join(command))
        (tmp_path / "seconds.json").write_text('{"hop": [0.001]}')
        return 1.0, None

    monkeypatch.setattr(benchmark, "_run", run)
    for baseline in BASELINES:
        benchmark._Bench(tmp_path, "gtcrn", 1, 1).measure(baseline)
    of_ours = [command for command in commands if " denoise " in command]
    assert len(of_ours) == 2 * sum(baseline.command is not None for baseline in BASELINES)
    assert all(" --threads 1" in command for command in of_ours)


@pytest.mark.slow
def test_what_others_print_or_leave_undone_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyrnnoise.py").write_text(TALKATIVE)
    (tmp_path / "noisereduce.py").write_text("import os\nos._exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    command = ["bench", "--only", "RNNoise", "--only", "noisereduce", "--seconds", "1", "--json"]
    result = CliRunner().invoke(app, [*command, "--repeats", "1"])
    assert result.exit_code == 0, result.output
    talkative, silent = json.loads(result.stdout)["results"]
    assert talkative["problem"] is None
    assert talkative["hop"]["p50"] > 0
    assert silent["problem"].startswith("it left no figures")


@pytest.mark.slow
def test_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are measured: the native engine, and one that does not start."""
    native = BASELINES[0]
    broken = replace(native, name="native but unknown", command=None)
    missing = replace(native, name="native elsewhere", module="no_such_module")
    monkeypatch.setattr(benchmark, "BASELINES", [native, broken, missing])
    result = CliRunner().invoke(
        app, ["bench", "--only", "native", "--seconds", "1", "--repeats", "1", "--json"]
    )
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    ours, theirs = report["results"]
    assert 0 < ours["network"]["p50"] <= ours["network"]["p99"] <= ours["network"]["max"]
    assert ours["network"]["p50"] < ours["hop"]["p50"] < 16_000
    assert ours["file_speed"] > 0
    assert ours["short_file_s"] > 0
    assert ours["latency_ms"] == 32
    assert "StopIteration" in theirs["problem"]
    assert report["absent"] == ["native elsewhere (gtcrn-cli)"]
    assert report["machine"]["cpu"]
