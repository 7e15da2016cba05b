"""stdin and stdout: raw PCM and WAV as they come, everything else whole."""

from __future__ import annotations

import io
import os
import struct
import threading
import time
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile

from gtcrn_cli.audio.formats import RAW_ENCODINGS, Encoding, RawFormat
from gtcrn_cli.audio.pipe import open_pipe_sink, open_pipe_source
from gtcrn_cli.errors import UserError


def pipe_with(data: bytes) -> BinaryIO:
    """The reading end of a pipe that another thread fills."""
    reading, writing = os.pipe()

    def fill() -> None:
        with open(writing, "wb") as file:
            file.write(data)

    threading.Thread(target=fill, daemon=True).start()
    return open(reading, "rb", buffering=0)


def read_all(source) -> np.ndarray:
    return np.concatenate([*source.blocks(500), np.zeros((0, source.channels), np.float32)])


@pytest.fixture
def samples() -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((2_345, 2), np.float32)


@pytest.mark.parametrize("encoding", RAW_ENCODINGS)
def test_raw_samples_come_back(samples: np.ndarray, encoding: str):
    raw = RawFormat.parse(f"{encoding}:48000:2")
    with pipe_with(raw.encode(samples)) as pipe:
        back = read_all(open_pipe_source(pipe, raw))
    assert back.shape == samples.shape
    coarse = encoding in ("s8", "u8", "mulaw", "alaw")
    assert np.abs(back - samples).max() < (0.02 if coarse else 1e-4)


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        ("s16le", b"\x00\x40\x00\xc0", [0.5, -0.5]),
        ("s16be", b"\x40\x00\xc0\x00", [0.5, -0.5]),
        ("s24le", b"\x00\x00\x40\x00\x00\xc0", [0.5, -0.5]),
        ("u8", b"\xc0\x40", [0.5, -0.5]),
        ("f32le", struct.pack("<2f", 0.5, -2), [0.5, -2]),
    ],
)
def test_raw_encodings_are_what_their_names_say(encoding: str, data: bytes, expected: list[float]):
    raw = RawFormat.parse(f"{encoding}:16000")
    assert raw.decode(data)[:, 0].tolist() == expected


def test_raw_output_clips_at_full_scale():
    raw = RawFormat.parse("s16le:16000:1")
    assert raw.encode(np.array([[1.5], [-1.5]], np.float32)) == b"\xff\x7f\x00\x80"


@pytest.mark.parametrize("text", ["", "s16le", "s17le:48000:2", "s16le:fast", "s16le:1:2:3", "::"])
def test_a_raw_format_that_does_not_parse_is_told(text: str):
    with pytest.raises(UserError, match="raw format"):
        RawFormat.parse(text)


def test_raw_hands_on_what_is_there():
    """A microphone's block must not wait until a large one is full."""
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as file, open(writing, "wb", buffering=0) as feed:
        blocks = open_pipe_source(file, RawFormat.parse("s16le:16000:1")).blocks(32_768)
        feed.write(bytes(2 * 160 + 1))
        started = time.monotonic()
        assert len(next(blocks)) == 160
        feed.write(bytes(1 + 2 * 50))
        assert len(next(blocks)) == 51
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "PCM_U8"])
@pytest.mark.parametrize("size", [None, 0, 0xFFFFFFFF])
def test_a_wav_comes_as_a_stream(samples: np.ndarray, subtype: str, size: int | None):
    """With its true size, or with what writers put there who cannot seek back."""
    file = io.BytesIO()
    soundfile.write(file, samples, 48_000, subtype, format="WAV")
    data = bytearray(file.getvalue())
    if size is not None:
        at = data.index(b"data") + 4
        data[at : at + 4] = struct.pack("<I", size)
    else:
        data += b"LIST\x04\x00\x00\x00abcd"  # must not be taken for sound
    with pipe_with(bytes(data)) as pipe:
        source = open_pipe_source(pipe, None)
        assert source.encoding.subtype == subtype
        back = read_all(source)
    assert back.shape == samples.shape
    assert np.abs(back - samples).max() < 0.01


@pytest.mark.parametrize(
    ("format_name", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("WAV", "IMA_ADPCM")]
)
def test_other_formats_come_whole(samples: np.ndarray, format_name: str, subtype: str):
    file = io.BytesIO()
    soundfile.write(file, samples, 48_000, subtype, format=format_name)
    with pipe_with(file.getvalue()) as pipe:
        source = open_pipe_source(pipe, None)
        assert source.encoding.format == format_name
        assert len(read_all(source)) >= len(samples)


@pytest.mark.parametrize("data", [b"", b"RIFF", b"nothing that anybody knows"])
def test_what_is_no_recording_is_told(data: bytes):
    with pipe_with(data) as pipe, pytest.raises(UserError):
        open_pipe_source(pipe, None)


def written(samples: np.ndarray, encoding: Encoding, tmp_path: Path) -> bytes:
    path = tmp_path / "stdout"
    with path.open("wb") as file, open_pipe_sink(file, 48_000, 2, encoding) as sink:
        sink.write(samples[:1000])
        sink.write(samples[1000:])
    return path.read_bytes()


def test_wav_goes_out_as_a_stream(samples: np.ndarray, tmp_path: Path):
    data = written(samples, Encoding("WAV", "FLOAT"), tmp_path)
    with pipe_with(data) as pipe:
        assert np.array_equal(read_all(open_pipe_source(pipe, None)), samples)


def test_raw_goes_out_bare(samples: np.ndarray, tmp_path: Path):
    data = written(samples, Encoding("RAW", "PCM_16", "LITTLE"), tmp_path)
    assert len(data) == 4 * len(samples)


def test_flac_goes_out_whole(samples: np.ndarray, tmp_path: Path):
    data = written(samples, Encoding("FLAC", "PCM_24"), tmp_path)
    assert soundfile.info(io.BytesIO(data)).frames == len(samples)
