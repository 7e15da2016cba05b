"""The bench measures what is installed, says why it could not, and shows it."""

from __future__ import annotations

import json
from dataclasses import replace
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

OURS = Measurement(
    "gtcrn native", "1.0", 32.0, 16.0, HopTimes(30, 40, 50), HopTimes(80, 90, 99), 300, 0.4, 90
)
THEIRS = Measurement("other", "2.0", 40.0, 10.0, None, HopTimes(1000, 1100, 1200), 12.0, 0.9, 80)
BROKEN = Measurement("third", "3.0", problem="its weights are missing")
REPORT = Report({"cpu": "a CPU"}, 60, "gtcrn", [OURS, THEIRS, BROKEN], ["fourth (fourth-package)"])


def test_times_of_seconds() -> None:
    times = HopTimes.of([1e-6 * n for n in range(1, 102)])
    assert times == HopTimes(51.0, 100.0, 101.0)


def test_table() -> None:
    table = tables.to_table(REPORT)
    assert "- gtcrn native against other: 20.0x live, 25.0x on a file" in table
    assert "| gtcrn native | 30 | 40 | 50 |" in table
    assert "| gtcrn native | 16 | 80 | 90 | 99 | 200 | 300 | 0.40 | 90 | 32 |" in table
    assert "| other | 10 | 1000 | 1100 | 1200 | 10 | 12 | 0.90 | 80 | 40 |" in table
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


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="no baseline is called nobody: there are gtcrn native; "):
        benchmark.run("gtcrn", 1, 1, ["nobody"], print)


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
