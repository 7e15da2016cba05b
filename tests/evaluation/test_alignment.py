"""Outputs of other tools that come late: found out, said, and put in time when asked to."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

pytest.importorskip("pesq", reason="the extra 'evaluate' is not installed")
pytest.importorskip("pystoi", reason="the extra 'evaluate' is not installed")
pytest.importorskip("speechmos", reason="the extra 'evaluate' is not installed")

from gtcrn_cli.cli import app
from gtcrn_cli.evaluation.alignment import REACH, delay_of, without_first
from gtcrn_cli.evaluation.judging import Trial, TrialResult, judge
from gtcrn_cli.evaluation.scoring import delay_in_words

RATE = 16_000


def late(samples: np.ndarray, delay: int) -> np.ndarray:
    """The same that begins `delay` samples later (earlier, if negative), as long as before."""
    silence = np.zeros((abs(delay), *samples.shape[1:]), samples.dtype)
    if delay < 0:
        return np.concatenate([samples[-delay:], silence])
    return np.concatenate([silence, samples])[: len(samples)]


@pytest.mark.parametrize("delay", [-REACH, -37, 0, 1, 320, 480, REACH])
def test_a_delay_is_found_to_the_sample_and_any_polarity_or_level(
    delay: int, clean: np.ndarray, noisy: np.ndarray
):
    enhanced = -0.1 * late(0.7 * clean + 0.3 * noisy, delay)[:, 0]
    for original in (clean, noisy):
        windows = [
            (enhanced[start : start + 2 * RATE], original[start : start + 2 * RATE, 0])
            for start in range(0, len(clean), 2 * RATE)
        ]
        assert delay_of(iter(windows)) == delay


def test_what_has_nothing_in_common_has_no_delay(clean: np.ndarray):
    hiss = np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)
    silence = np.zeros(len(clean), np.float32)
    for other in (hiss, silence):
        assert delay_of(iter([(other, clean[:, 0])])) is None
    assert delay_of(iter([])) is None


def test_a_beginning_is_left_out_however_it_is_cut():
    samples = np.arange(20, dtype=np.float32)
    for size in (1, 7, 20):
        blocks = [samples[start : start + size] for start in range(0, 20, size)]
        assert np.array_equal(np.concatenate([*without_first(iter(blocks), 9)]), samples[9:])


@pytest.mark.parametrize("delay_ms", [25, -10])
@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.slow
def test_aligned_scores_are_those_of_a_tool_in_time(
    delay_ms: int, sample_rate: int, grows: bool, tmp_path: Path, clean: np.ndarray
):
    """Also where the tool adds its delay to the length."""
    factor = sample_rate // RATE
    rng = np.random.default_rng(3)
    whole = np.repeat(clean[: 2 * RATE, 0], factor)
    made = whole + 0.01 * rng.standard_normal(len(whole)).astype(np.float32)
    tail = np.zeros(sample_rate // 10 if grows else 0, np.float32)
    shifted = late(np.concatenate([made, tail]), delay_ms * sample_rate // 1000)
    for name, samples in (("clean", whole), ("made", made), ("late", shifted)):
        soundfile.write(tmp_path / f"{name}.wav", samples, sample_rate)

    def judged(name: str, align: bool) -> TrialResult:
        original = tmp_path / "clean.wav"
        return judge(
            Trial("a", original, original, tmp_path / f"{name}.wav"), None, False, align=align
        )

    in_time, aligned = judged("made", False), judged("late", True)
    assert (in_time.delay_ms, aligned.delay_ms) == (0, delay_ms)
    assert aligned.enhanced["SI-SDR dB"] == pytest.approx(in_time.enhanced["SI-SDR dB"], abs=0.3)
    assert aligned.enhanced["STOI"] == pytest.approx(in_time.enhanced["STOI"], abs=0.02)
    if not grows:
        assert judged("late", False).enhanced["SI-SDR dB"] < -5


def test_the_delays_are_told_by_their_range():
    def results(*delays_ms: float | None) -> list[TrialResult]:
        return [TrialResult("a", {}, {}, delay_ms) for delay_ms in delays_ms]

    assert delay_in_words(results(None, 0, 0.0625, -0.0625)) is None
    assert "1 of 2 enhanced files are not in time (+20.00 ms" in str(delay_in_words(results(0, 20)))
    assert "(-3.00 to +20.00 ms" in str(delay_in_words(results(20, None, -3, 10)))


@pytest.mark.slow
def test_the_command_says_it_and_takes_it_out(tmp_path: Path, clean: np.ndarray, noisy: np.ndarray):
    late_by = {"one": 320, "two": 480}
    for kind, samples in (("noisy", noisy), ("clean", clean), ("tool", 0.8 * clean + 0.2 * noisy)):
        (tmp_path / kind).mkdir()
        for name, delay in late_by.items():
            shifted = late(samples, delay) if kind == "tool" else samples
            soundfile.write(tmp_path / kind / f"{name}.wav", shifted[: 2 * RATE], RATE)

    def run(*words: str) -> tuple[str, str]:
        places = [str(tmp_path / "noisy"), str(tmp_path / "clean"), "--enhanced"]
        words = ("evaluate", *places, str(tmp_path / "tool"), "--no-dnsmos", "-j", "1", *words)
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return result.stdout, result.stderr

    text, said = run("--format", "csv")
    assert "2 of 2 enhanced files are not in time (+20.00 to +30.00 ms" in said
    assert "--align removes it" in said
    late_rows = list(csv.DictReader(io.StringIO(text)))
    assert [float(row["delay ms"]) for row in late_rows] == [20, 30]
    text, said = run("--format", "json", "--align")
    assert "removed" in said
    aligned = json.loads(text)["files"]
    assert [file["delay_ms"] for file in aligned] == [20, 30]
    for before, after in zip(late_rows, aligned, strict=True):
        assert after["enhanced"]["SI-SDR dB"] > float(before["enhanced SI-SDR dB"]) + 15


def test_what_gtcrn_makes_needs_no_alignment(noisy_path: Path):
    result = CliRunner().invoke(app, ["evaluate", str(noisy_path), "--align"])
    assert result.exit_code == 2
    assert "in time" in result.output
