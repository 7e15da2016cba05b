"""The plugin in real hosts does what `gtcrn denoise` does, one window later."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from gtcrn_cli import Settings, enhance
from gtcrn_cli.enhancement.enhancer import strength_of_limit
from gtcrn_cli.enhancement.stft import window_length
from gtcrn_cli.signals import Samples

pytestmark = pytest.mark.slow  # other programs run in each


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


def recording(noisy: Samples, sample_rate: int, channels: int) -> Samples:
    """Two seconds; the second channel is quieter, later, and of turned polarity."""
    one = soxr.resample(noisy[:32_000, 0], 16_000, sample_rate)
    return np.stack([one, -0.4 * np.roll(one, 31)][:channels], axis=1).astype(np.float32)


def agreement_db(heard: Samples, expected: Samples) -> float:
    """The expected sound's level over that of the difference."""
    length = min(len(heard), len(expected))
    assert length > len(expected) - 10  # no host may lose the end
    level = np.mean(expected[:length] ** 2)
    assert level > 1e-6  # there is something to agree about
    difference = np.mean((heard[:length] - expected[:length]) ** 2)
    return float(10 * np.log10(level / difference)) if difference else np.inf


def through_ffmpeg(
    plugin: Path, folder: Path, samples: Samples, sample_rate: int, controls: str = ""
) -> Samples:
    """What comes out, without the latency; silence at the end pushes all of it through."""
    label = "gtcrn_mono" if samples.shape[1] == 1 else "gtcrn_stereo"
    window = window_length(sample_rate)
    rest = np.zeros((window, samples.shape[1]), np.float32)
    soundfile.write(folder / "in.wav", np.concatenate([samples, rest]), sample_rate, "FLOAT")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-y", "-i", folder / "in.wav", "-af",
         f"ladspa=file={plugin}:plugin={label}{controls}", "-c:a", "pcm_f32le", folder / "out.wav"],
        check=True,
        timeout=60,
    )  # fmt: skip
    heard, rate = soundfile.read(folder / "out.wav", dtype="float32", always_2d=True)
    assert rate == sample_rate
    assert not heard[: window // 2].any()  # then what the first frame has before its first sample
    return heard[window:]


@needs("ffmpeg")
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [48_000, 44_100, 16_000])
def test_ffmpeg(plugin: Path, tmp_path: Path, noisy: Samples, sample_rate: int, channels: int):
    samples = recording(noisy, sample_rate, channels)
    heard = through_ffmpeg(plugin, tmp_path, samples, sample_rate)
    expected = enhance(samples, sample_rate, settings=Settings(linked=True))
    assert agreement_db(heard, expected) > 60


@needs("ffmpeg")
def test_ffmpeg_takes_the_latency_out_itself(plugin: Path, tmp_path: Path, noisy: Samples):
    samples = recording(noisy, 44_100, 2)
    soundfile.write(tmp_path / "in.wav", samples, 44_100, "FLOAT")
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", tmp_path / "in.wav", "-af",
         f"ladspa=file={plugin}:plugin=gtcrn_stereo:latency=1", "-c:a", "pcm_f32le",
         tmp_path / "out.wav"],
        check=True,
        timeout=60,
    )  # fmt: skip
    heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    expected = enhance(samples, 44_100, settings=Settings(linked=True))
    assert heard.shape == expected.shape
    assert agreement_db(heard, expected) > 60


@needs("ffmpeg")
@pytest.mark.parametrize(
    ("controls", "settings"),
    [
        ("c0=12", Settings(strength_of_limit(12))),
        ("c1=0.5", Settings(0.5)),
        ("c0=6|c1=1|c2=2", Settings(strength_of_limit(6), "mute")),
        ("c0=40|c1=0.25|c2=1", Settings(0.25, "keep")),
        ("c1=0|c2=1", Settings(0, "keep")),
    ],
)
def test_controls(plugin: Path, tmp_path: Path, noisy: Samples, controls: str, settings: Settings):
    samples = recording(noisy, 48_000, 1)
    heard = through_ffmpeg(plugin, tmp_path, samples, 48_000, f":controls={controls}")
    assert agreement_db(heard, enhance(samples, 48_000, settings=settings)) > 60


@needs("analyseplugin")
def test_analyseplugin(plugin: Path):
    told = subprocess.run(
        ["analyseplugin", plugin], capture_output=True, text=True, check=True, timeout=20
    ).stdout
    for line in [
        'Plugin Label: "gtcrn_mono"',
        'Plugin Label: "gtcrn_stereo"',
        "Environment: Normal or Hard Real-Time",
        '"Attenuation limit (dB)" input, control, 0 to 100, default 100',
        '"Strength" input, control, 0 to 1, default 1',
        '"High band (0 gate, 1 keep, 2 mute)" input, control, 0 to 2, default 0, integer',
        '"latency" output, control',
    ]:
        assert line in told
    assert told.count("input, audio") == told.count("output, audio") == 3


@needs("applyplugin")
@pytest.mark.parametrize("channels", [1, 2])
def test_applyplugin(plugin: Path, tmp_path: Path, noisy: Samples, channels: int):
    """It knows WAVs of 16 bits, which is why the agreement is that of their steps."""
    samples = recording(noisy, 48_000, channels)
    soundfile.write(tmp_path / "in.wav", samples, 48_000, "PCM_16")
    label = "gtcrn_mono" if channels == 1 else "gtcrn_stereo"
    subprocess.run(
        ["applyplugin", "-s", "0.1", tmp_path / "in.wav", tmp_path / "out.wav", plugin, label,
         "100", "1", "0"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    heard, _ = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    written, _ = soundfile.read(tmp_path / "in.wav", dtype="float32", always_2d=True)
    expected = enhance(written, 48_000, settings=Settings(linked=True))
    difference = heard[window_length(48_000) :][: len(expected)] - expected
    assert np.abs(difference).max() < 1.01 / 32768
