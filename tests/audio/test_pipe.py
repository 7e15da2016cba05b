"""stdin and stdout: raw PCM and WAV as they come, everything else whole."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile
from support.places import PROJECT
from support.waiting import wait_for

from gtcrn_cli.audio import ffmpeg, flowing, pipe
from gtcrn_cli.audio.formats import RAW_ENCODINGS, Encoding, RawFormat
from gtcrn_cli.audio.opening import open_source
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


class Hesitant(io.RawIOBase):
    """A pipe that was set not to wait: it takes and gives a few bytes every other time."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.has_paused = False
        self._ends = os.pipe()
        os.close(self._ends[1])  # so that waiting for it ends at once

    def _pauses(self) -> bool:
        self.has_paused = not self.has_paused
        return self.has_paused

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._ends[0]

    def read(self, count: int = -1) -> bytes | None:
        if self._pauses():
            return None
        some = bytes(self.data[: min(count, 701)])
        del self.data[: len(some)]
        return some

    def write(self, data) -> int | None:
        if self._pauses():
            return None
        self.data += data[:701]
        return len(data[:701])

    def close(self) -> None:
        if not self.closed:
            os.close(self._ends[0])
        super().close()


@pytest.mark.parametrize(
    ("format_name", "subtype"), [("RAW", "PCM_16"), ("WAV", "PCM_16"), ("FLAC", "PCM_16")]
)
def test_a_pipe_that_does_not_wait_loses_nothing(
    samples: np.ndarray, format_name: str, subtype: str, monkeypatch: pytest.MonkeyPatch
):
    """No sound yet is not the end, and no room yet is no failure."""
    monkeypatch.setattr(flowing.select, "select", lambda *_: None)
    raw = RawFormat(subtype, "LITTLE", 48_000, 2)
    kind = raw.open_arguments() if format_name == "RAW" else {}
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", **({"samplerate": 48_000, "channels": 2, "format": format_name} | kind)
    ) as sound:
        sound.write(samples)
    with Hesitant(file.getvalue()) as pipe:
        source = open_pipe_source(pipe, raw if format_name == "RAW" else None)
        back = read_all(source)
    assert np.abs(back - samples).max() < 1e-4
    with Hesitant() as pipe:
        encoding = Encoding(format_name, subtype, "LITTLE" if format_name == "RAW" else "FILE")
        with open_pipe_sink(pipe, 48_000, 2, encoding) as sink:
            sink.write(samples)
        written = soundfile.read(io.BytesIO(bytes(pipe.data)), dtype="float32", **kind)[0]
    assert np.abs(written - samples).max() < 1e-4


def test_a_pipe_set_not_to_wait_is_waited_for(samples: np.ndarray):
    raw = RawFormat.parse("s16le:48000:2")
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def feed() -> None:
        with open(writing, "wb", buffering=0) as file:
            for part in np.array_split(samples, 3):
                time.sleep(0.03)
                file.write(raw.encode(part))

    threading.Thread(target=feed, daemon=True).start()
    with open(reading, "rb", buffering=0) as pipe:
        assert len(read_all(open_pipe_source(pipe, raw))) == len(samples)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".raw", ".mka"])
def test_a_pipe_by_its_path_is_read_as_stdin_is(samples: np.ndarray, ending: str, tmp_path: Path):
    """A shell's <(...), /dev/stdin, or a FIFO: opened once, and never sought in."""
    raw = RawFormat.parse("s16le:48000:2") if ending == ".raw" else None
    path = tmp_path / f"a{ending}"
    if ending == ".mka":
        if not ffmpeg.is_installed():
            pytest.skip("ffmpeg and ffprobe are not on the PATH")
        soundfile.write(tmp_path / "a.wav", samples, 48_000)
        command = ["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", "-c:a", "flac", path]
        subprocess.run(command, check=True)
        data = path.read_bytes()
        path.unlink()
    elif raw:
        data = raw.encode(samples)
    else:
        soundfile.write(path, samples, 48_000)
        data = path.read_bytes()
        path.unlink()
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=[data], daemon=True).start()
    source = open_source(str(path), raw)
    assert source.name == str(path)
    assert len(read_all(source)) == len(samples)
    with pipe_with(data) as pipe:
        assert len(read_all(open_source(f"/dev/fd/{pipe.fileno()}", raw))) == len(samples)


@pytest.mark.parametrize(("data", "said"), [(b"", "nothing came from"), (b"no sound", "cannot")])
def test_a_pipe_without_sound_is_said(data: bytes, said: str):
    with pipe_with(data) as pipe:
        path = f"/dev/fd/{pipe.fileno()}"
        with pytest.raises(UserError, match=f"{said}.*{path}"):
            open_source(path)


def test_silence_beyond_what_a_header_promises_is_handed_on_while_it_lasts(samples: np.ndarray):
    """Nobody waits for the end of a silence, which may be long or have none."""
    data = io.BytesIO()
    soundfile.write(data, samples, 48_000, "PCM_16", format="WAV")
    reading, writing = os.pipe()
    ended = threading.Event()

    def fill() -> None:
        with open(writing, "wb", buffering=0) as file, suppress(BrokenPipeError):
            file.write(data.getvalue())
            for _ in range(1000):
                file.write(bytes(1 << 12))
            ended.set()

    threading.Thread(target=fill, daemon=True).start()
    with open(reading, "rb", buffering=0) as pipe:
        blocks = open_pipe_source(pipe, None).blocks(500)
        come = 0
        while come < 100_000:
            come += len(next(blocks))
        assert not ended.is_set()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="files without a name: Linux")
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "mka"])
def test_what_is_killed_leaves_nothing_of_its_input(kind: str, tmp_path: Path):
    """Ctrl-C while a microphone feeds it, or whoever reads leaves: a pipe ends like that."""
    data = io.BytesIO()
    if kind == "mka":
        if not ffmpeg.is_installed():
            pytest.skip("ffmpeg and ffprobe are not on the PATH")
        command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "sine=d=60:r=16000", "-c:a"]
        command += ["libopus", "-b:a", "16k", "-f", "matroska", "-"]
        data.write(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    else:
        soundfile.write(data, np.zeros((40_000, 1), np.float32), 16_000, "PCM_16", format=kind)
    process = subprocess.Popen(
        [sys.executable, "-m", "gtcrn_cli", "denoise", "--format", "wav", "-", "-"],
        env=os.environ | {"PYTHONPATH": str(PROJECT), "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin and process.stdout
    process.stdin.write(data.getvalue() if kind == "mka" else data.getvalue()[:50_000])
    process.stdin.flush()
    if kind == "mka":
        process.stdin.close()
    if kind != "FLAC":
        assert process.stdout.read(1000)
    else:  # is read to its end first
        wait_for(lambda: any_open_below(process.pid, tmp_path), 60)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    process.stdin.close()
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []


def any_open_below(pid: int, folder: Path) -> bool:
    """Whether a process has a file open that is, or was, in a folder."""
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if file.readlink().is_relative_to(folder):
                return True
    return False


@pytest.mark.parametrize("error", [FileNotFoundError, OSError(28, "No space left on device")])
def test_a_stream_of_wav_needs_no_temporary_folder(
    samples: np.ndarray, error: Exception, monkeypatch: pytest.MonkeyPatch
):
    """But what is besides the sound, and that is said."""

    def fail(*_: object) -> None:
        raise error

    file = io.BytesIO()
    soundfile.write(file, samples, 48_000, "FLOAT", format="WAV")
    monkeypatch.setattr(pipe, "temporary_file", fail)
    with pipe_with(file.getvalue()) as reading:
        source = open_pipe_source(reading, None)
        assert np.array_equal(read_all(source), samples)
    assert source.notes == ["no folder for temporary files: chunks and tags are left out"]
