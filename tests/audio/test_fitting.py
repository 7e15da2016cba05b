"""Conversions to formats that hold not every rate, length or encoding: done right or refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gtcrn_cli.audio import ffmpeg
from gtcrn_cli.audio.fitting import fit
from gtcrn_cli.audio.formats import Encoding, encoding_for
from gtcrn_cli.audio.opening import Output, open_sink, open_source
from gtcrn_cli.errors import UserError


def convert(source: Path, target: Path, output: Output | None = None) -> list[str]:
    opened = open_source(str(source))
    with open_sink(str(target), opened, output or Output()) as sink:
        for block in opened.blocks(1000):
            sink.write(block)
    return sink.notes


@pytest.mark.parametrize("rate", [11_025, 22_050, 44_100, 96_000])
def test_opus_at_other_rates_is_resampled_aligned_and_said(tmp_path: Path, rate: int):
    time_s = np.arange(rate) / rate
    tone = 0.3 * np.sin(2 * np.pi * (200 + 300 * time_s) * time_s)
    soundfile.write(tmp_path / "a.wav", np.stack([tone, -tone], 1), rate)
    notes = convert(tmp_path / "a.wav", tmp_path / "a.opus")
    assert any(f"no {rate} Hz" in note for note in notes)
    samples, rate_out = soundfile.read(tmp_path / "a.opus")
    assert rate_out == 48_000 and abs(len(samples) - 48_000) <= 1
    time_s = np.arange(len(samples)) / 48_000
    right = 0.3 * np.sin(2 * np.pi * (200 + 300 * time_s) * time_s)
    rest = (samples[:, 0] - right)[1000:-1000]
    assert np.sqrt(np.mean(rest**2)) < 0.1 * np.sqrt(np.mean(right**2))


@pytest.mark.parametrize(
    ("format_name", "subtype", "rate"),
    [
        ("WVE", "ALAW", 44_100),
        ("HTK", "PCM_16", 44_100),
        ("VOC", "PCM_U8", 44_100),
        ("SVX", "PCM_16", 96_000),
        ("XI", "DPCM_16", 96_000),
    ],
)
def test_a_format_that_would_play_at_another_speed_is_refused(format_name, subtype, rate):
    with pytest.raises(UserError, match=r"cannot tell .*\.wav"):
        fit("out", Encoding(format_name, subtype), rate, asked=False)


@pytest.mark.parametrize(
    ("format_name", "subtype", "rate"),
    [("WVE", "ALAW", 8000), ("HTK", "PCM_16", 16_000), ("VOC", "PCM_16", 44_100)],
)
def test_a_rate_that_the_format_holds_is_left_alone(format_name, subtype, rate):
    encoding = Encoding(format_name, subtype)
    assert fit("out", encoding, rate, asked=False) == (encoding, rate, [])


def test_mp3_inside_wav_becomes_pcm_and_that_is_said():
    inside = Encoding("WAV", "MPEG_LAYER_III")
    wanted = encoding_for("out.wav", inside)
    encoding, rate, notes = fit("out.wav", wanted, 44_100, asked=False)
    assert (encoding.format, encoding.subtype, rate) == ("WAV", "PCM_16", 44_100)
    assert "MP3" in notes[0]
    with pytest.raises(UserError, match=r"\.mp3"):
        fit("out.wav", wanted, 44_100, asked=True)


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_growth_to_whole_blocks_is_said(tmp_path: Path, subtype: str):
    soundfile.write(tmp_path / "a.wav", np.zeros(4001), 8000)
    notes = convert(tmp_path / "a.wav", tmp_path / "b.wav", Output(subtype=subtype))
    more = soundfile.info(tmp_path / "b.wav").frames - 4001
    assert more > 0 and any(f"{more} samples of silence" in note for note in notes)
    assert not any("silence" in n for n in convert(tmp_path / "b.wav", tmp_path / "c.wav"))


@pytest.mark.skipif(not ffmpeg.is_installed(), reason="ffmpeg is not on the PATH")
def test_what_becomes_pcm_takes_no_bit_rate(tmp_path: Path):
    """MP3 inside WAV, which is not written."""
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(np.arange(48_000) / 10), 48_000)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "libmp3lame"]
    subprocess.run([*command, tmp_path / "in.wav"], check=True)
    with pytest.raises(UserError, match="has no bit rate"):
        convert(tmp_path / "in.wav", tmp_path / "out.wav", Output(bit_rate=64_000))
    convert(tmp_path / "in.wav", tmp_path / "out.mp3", Output(bit_rate=64_000))
