"""What stands behind the sound of a file: nothing of it is heard, and another recording is."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.recordings import RATE, pipe_with, read, run, speechlike, write

from gtcrn_cli.audio import ffmpeg
from gtcrn_cli.audio.pipe import open_pipe_source
from gtcrn_cli.audio.reading import FileSource
from gtcrn_cli.errors import ReadError

needs_ffmpeg = pytest.mark.skipif(
    not ffmpeg.is_installed(), reason="ffmpeg and ffprobe are not on the PATH"
)


@pytest.mark.parametrize(
    "kind",
    [
        ("WAV", "PCM_16"),
        ("AIFF", "PCM_24"),
        ("W64", "FLOAT"),
        ("CAF", "PCM_16"),
        ("SVX", "PCM_16"),
        ("RF64", "PCM_24"),
    ],
)
def test_chunks_after_the_sound_are_no_sound(tmp_path: Path, kind: tuple[str, str]):
    path = write(tmp_path / "a", kind)
    whole = read(FileSource(path))
    size = struct.pack({"AIFF": ">I", "SVX": ">I", "CAF": ">q"}.get(kind[0], "<I"), 4)
    for left in range(1, 12):  # less than the head of a chunk
        (tmp_path / "b").write_bytes(path.read_bytes() + bytes(left))
        assert np.array_equal(read(FileSource(tmp_path / "b")), whole)
    for more in (
        b"LIST" + size + b"abcd",
        b"abcd" + size + b"abcd",
        b"TAG" + bytes(125),
        bytes(5_000),
    ):
        (tmp_path / "b").write_bytes(path.read_bytes() + more)
        source = FileSource(tmp_path / "b")
        assert np.array_equal(read(source), whole)
        assert source.notes == []
        with pipe_with((tmp_path / "b").read_bytes()) as file:
            assert np.array_equal(read(open_pipe_source(file, None)), whole)


CHUNK_NAMES = [b"_PMX", b"axml", b"chna", b"cart", b"acid", b"LIST", b"JUNK"]


@pytest.mark.parametrize("name", CHUNK_NAMES)
@pytest.mark.parametrize("length", [1_000, 1_001])
def test_chunks_of_any_name_are_no_sound_in_a_stream_either(
    tmp_path: Path, name: bytes, length: int
):
    """Also behind an odd number of bytes, filled up or not."""
    soundfile.write(tmp_path / "a.wav", speechlike(1.0, 1)[:length], RATE, "PCM_U8")
    data = (tmp_path / "a.wav").read_bytes()
    whole = read(FileSource(tmp_path / "a.wav"))
    body = np.random.default_rng(0).bytes(4_099)
    chunk = name + struct.pack("<I", len(body)) + body
    for more in (chunk, chunk + b"\0" + chunk, chunk + bytes(2_000), bytes(2_000)):
        for filled in {data, data[: 44 + length]}:
            (tmp_path / "b.wav").write_bytes(filled + more)
            assert np.array_equal(read(FileSource(tmp_path / "b.wav")), whole)
            with pipe_with(filled + more) as file:
                source = open_pipe_source(file, None)
                assert np.array_equal(read(source), whole)
                assert source.notes == []


@pytest.mark.parametrize(
    "begin", [bytes(3_000), b"abcd\xff\xff\xff\x7f", b"abcd\0\x10\0\0", b"\x01"]
)
def test_more_sound_that_looks_like_something_else_is_sound(tmp_path: Path, begin: bytes):
    """Silence, and what would be a chunk if all of it were there."""
    path = write(tmp_path / "a.wav", ("WAV", "PCM_16"), 0.1, 1)
    more = begin + np.random.default_rng(0).bytes(2_000 - len(begin) % 2)
    (tmp_path / "b.wav").write_bytes(path.read_bytes() + more)
    whole = read(FileSource(path))
    expected = np.frombuffer(more[: len(more) // 2 * 2], "<i2") / np.float32(32_768)
    for samples in (
        read(FileSource(tmp_path / "b.wav")),
        read(open_pipe_source(pipe_with((tmp_path / "b.wav").read_bytes()), None)),
    ):
        assert np.array_equal(samples[: len(whole)], whole)
        assert np.array_equal(samples[len(whole) :, 0], expected)


@pytest.mark.parametrize(
    "kind",
    [
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("FLAC", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
        ("WAV", "PCM_16"),
        ("AIFF", "PCM_24"),
        ("RF64", "PCM_16"),
        ("W64", "PCM_24"),
        ("AU", "PCM_16"),
        ("CAF", "PCM_16"),
        ("SVX", "PCM_16"),
    ],
)
def test_joined_recordings_come_out_one_after_the_other(tmp_path: Path, kind: tuple[str, str]):
    first = write(tmp_path / "first", kind, 2.0)
    second = write(tmp_path / "second", kind, 1.3)
    expected = np.concatenate([read(FileSource(p)) for p in (first, second, first)])
    joined = tmp_path / "joined"
    joined.write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    source = FileSource(joined)
    assert source.length == len(expected)
    assert np.array_equal(read(source), expected)
    assert "the input is joined from 3 recordings" in source.notes
    source = FileSource(joined)
    source.skip(150_000)
    assert np.array_equal(read(source), expected[150_000:])
    with pipe_with(joined.read_bytes()) as file:
        assert np.array_equal(read(open_pipe_source(file, None)), expected)
    joined.write_bytes(joined.read_bytes()[:-1_500])
    with pytest.raises(ReadError, match="cut off"):
        read(FileSource(joined))


TAGS = b"TAG" + b"A talk".ljust(125, b"\0")


@pytest.mark.parametrize("tail", ["none", "chunk", "odd", "two", "zeros", "tag", "all"])
@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "W64", "CAF", "AU", "SVX"])
def test_joined_recordings_with_chunks_behind_their_sound(tmp_path: Path, kind: str, tail: str):
    """As programs write them that put text or markers last."""
    path = write(tmp_path / "a", (kind, "PCM_16"), 0.2)
    once = read(FileSource(path))

    def chunk(name: bytes, size: int) -> bytes:
        if kind == "W64":
            head = name + bytes(12) + struct.pack("<q", 24 + size)
            return head + bytes(range(1, size + 1)) + bytes(-size % 8)
        head = {"AIFF": ">I", "SVX": ">I", "CAF": ">q"}.get(kind, "<I")
        filled = bytes(size % 2 if kind != "CAF" else 0)
        return name + struct.pack(head, size) + bytes(range(1, size + 1)) + filled

    tails = {
        "none": b"",
        "chunk": chunk(b"LIST", 4),
        "odd": chunk(b"_PMX", 13),
        "two": chunk(b"LIST", 6) + chunk(b"abcd", 3),
        "zeros": bytes(512),
        "tag": TAGS if kind != "W64" else b"",
    }
    more = b"".join(tails.values()) if tail == "all" else tails[tail]
    if kind == "AU":  # which has no chunks
        more = bytes(len(more))
    path.write_bytes((path.read_bytes() + more) * 3)
    for source in (FileSource(path), open_pipe_source(pipe_with(path.read_bytes()), None)):
        assert np.array_equal(read(source), np.tile(once, (3, 1)))
        assert any("joined from" in note for note in source.notes)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.opus", "a.ogg", "a.flac", "a.mp3"])
def test_joined_files_of_ffmpeg_come_out_whole(tmp_path: Path, name: str):
    path = tmp_path / name
    run("-i", write(tmp_path / "in.wav", ("WAV", "PCM_16")), path)
    once = read(FileSource(path))
    path.write_bytes(path.read_bytes() * 2)
    assert np.array_equal(read(FileSource(path)), np.concatenate([once, once]))


def test_a_joined_recording_of_another_rate_is_said(tmp_path: Path):
    first = write(tmp_path / "first", ("OGG", "VORBIS"), 1.0, 2)
    second = write(tmp_path / "second", ("OGG", "VORBIS"), 1.0, 1)
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(ReadError, match=r"at 1\.0 s it goes on with 1 channels at 48000 Hz"):
        read(FileSource(first))
