"""Channels stay with their speakers, from every format to every other that can tell them."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.tagged import copy

from gtcrn_cli.audio import ffmpeg, speakers
from gtcrn_cli.audio.pipe import open_pipe_sink, open_pipe_source

needs_ffmpeg = pytest.mark.skipif(not ffmpeg.is_installed(), reason="ffmpeg is not on the PATH")
RATE = 48_000
STEP_HZ = 10
SURROUND = ["2.1", "4.0", "quad", "5.1(side)", "7.1(wide)"]


def tones(channels: int) -> np.ndarray:
    """A tone of its own in every channel, low enough for an LFE."""
    time_s = np.arange(RATE // 2) / RATE
    return (
        np.stack([np.sin(2 * np.pi * STEP_HZ * (n + 2) * time_s) for n in range(channels)], 1) / 4
    )


def heard(path: Path, channels: int) -> list[int]:
    """Which tone is in each channel, as ffmpeg hands them out: in the order of the mask."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-f", "f32le", "-"]
    data = subprocess.run(command, capture_output=True, check=True).stdout
    samples = np.frombuffer(data, "<f4").reshape(-1, channels)[2_400:21_600]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))[:, None], axis=0))
    return [round(n * RATE / len(samples) / STEP_HZ) - 2 for n in spectrum.argmax(axis=0)]


def layout(path: Path) -> str:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-select_streams", "a:0"]
    facts = json.loads(subprocess.run([*command, path], capture_output=True, check=True).stdout)
    return facts["streams"][0].get("channel_layout", "unknown")


def make(path: Path, name: str, *options: str) -> np.ndarray:
    """A file with that layout, made by ffmpeg."""
    samples = tones(speakers.count(speakers.mask_of(name)))
    command = ["ffmpeg", "-v", "error", "-y", "-f", "f32le", "-ar", str(RATE)]
    command += ["-channel_layout", name, "-ac", str(samples.shape[1]), "-i", "-", *options]
    data = samples.astype("<f4").tobytes()
    subprocess.run([*command, str(path)], input=data, check=True)
    return samples


@needs_ffmpeg
@pytest.mark.parametrize("name", SURROUND)
@pytest.mark.slow
def test_wav_and_matroska_keep_every_layout(name: str, tmp_path: Path):
    for ending, codec in ((".wav", "pcm_s16le"), (".mka", "flac")):
        samples = make(tmp_path / f"in{ending}", name, "-c:a", codec)
        target = tmp_path / f"out{ending}"
        assert copy(tmp_path / f"in{ending}", target) == []
        assert layout(target) == name
        assert heard(target, samples.shape[1]) == list(range(samples.shape[1]))


@needs_ffmpeg
def test_a_layout_that_an_encoder_cannot_keep_is_said(tmp_path: Path):
    """Vorbis, which Matroska gets from a WAV, takes three channels for left, right and centre."""
    make(tmp_path / "in.wav", "2.1", "-c:a", "pcm_s16le")
    notes = copy(tmp_path / "in.wav", tmp_path / "out.mka")
    assert notes == ["this sound track holds no layout 2.1: it became 3.0"]


@needs_ffmpeg
@pytest.mark.parametrize("name", ["3.0", "5.1", "7.1"])
@pytest.mark.parametrize("codec", ["libvorbis", "libopus"])
@pytest.mark.slow
def test_the_order_of_vorbis_and_opus_is_one_of_their_own(name: str, codec: str, tmp_path: Path):
    """Centre and right, and the LFE, do not change places."""
    source = tmp_path / "in.ogg"
    family = ["-mapping_family", "1"] if codec == "libopus" else []
    samples = make(source, name, "-c:a", codec, *family)
    count = samples.shape[1]
    for ending in (".wav", ".flac", ".ogg"):
        target = tmp_path / f"out{ending}"
        assert copy(source, target) == []
        assert heard(target, count) == list(range(count))
        if ending == ".wav":
            assert layout(target) == name


@needs_ffmpeg
@pytest.mark.parametrize("name", ["3.0", "4.0", "5.0", "5.1", "6.1(back)", "7.1(wide-side)"])
@pytest.mark.slow
def test_the_order_of_alac_is_one_of_its_own(name: str, tmp_path: Path):
    """Its centre comes first: libsndfile leaves that to others, other players do not."""
    samples = make(tmp_path / "in.wav", name)
    count = samples.shape[1]
    copy(tmp_path / "in.wav", tmp_path / "out.caf", subtype="ALAC_16")
    assert heard(tmp_path / "out.caf", count) == list(range(count))
    copy(tmp_path / "out.caf", tmp_path / "again.wav")
    assert heard(tmp_path / "again.wav", count) == list(range(count))


@needs_ffmpeg
def test_a_layout_that_a_format_cannot_hold_is_said(tmp_path: Path):
    make(tmp_path / "in.wav", "4.0")
    notes = copy(tmp_path / "in.wav", tmp_path / "out.flac")
    assert notes == [
        "the format holds no layout of 4 channels: that it was 4.0 is lost",
    ]
    make(tmp_path / "quad.wav", "quad")
    assert copy(tmp_path / "quad.wav", tmp_path / "quad.flac") == []


@needs_ffmpeg
@pytest.mark.parametrize("name", ["5.1(side)", "3.1", "2.1"])
def test_a_stream_of_wav_keeps_it(name: str, tmp_path: Path):
    """stdin to stdout."""
    samples = make(tmp_path / "in.wav", name, "-c:a", "pcm_s16le")
    stdout = io.BytesIO()
    with subprocess.Popen(["cat", tmp_path / "in.wav"], stdout=subprocess.PIPE, bufsize=0) as pipe:
        source = open_pipe_source(pipe.stdout, None)
        with open_pipe_sink(stdout, RATE, samples.shape[1], source.encoding) as sink:
            for block in source.blocks(9_999):
                sink.write(block)
    (tmp_path / "out.wav").write_bytes(stdout.getvalue())
    assert layout(tmp_path / "out.wav") == name


def test_mono_and_stereo_stay_plain_wav(tmp_path: Path):
    """An extensible header would only trouble old programs."""
    for channels in (1, 2):
        soundfile.write(tmp_path / "in.flac", tones(channels), RATE)
        copy(tmp_path / "in.flac", tmp_path / f"{channels}.wav")
        assert soundfile.info(tmp_path / f"{channels}.wav").format == "WAV"


def test_masks_and_names():
    assert speakers.mask_of("5.1") == 0x3F
    assert speakers.mask_of("FL+FR+LFE") == 0xB == speakers.mask_of("2.1")
    assert speakers.name_of(0x60F) == "5.1(side)"
    assert speakers.name_of(0x5) == "FL+FC"
    assert speakers.mask_of("4 channels") == 0
    assert speakers.mask_of("FR+FL") == 0  # a mask cannot tell this order
    for name in speakers.LAYOUTS:
        assert speakers.name_of(speakers.mask_of(name)) == name
