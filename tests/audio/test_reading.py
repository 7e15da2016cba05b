"""All of the sound of a file comes out, whatever its header says, and what broke off is said."""

from __future__ import annotations

import io
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.recordings import RATE, pipe_with, read, run, speechlike, write

from gtcrn_cli.audio import ffmpeg
from gtcrn_cli.audio.formats import RawFormat
from gtcrn_cli.audio.opening import open_source
from gtcrn_cli.audio.pipe import open_pipe_source
from gtcrn_cli.audio.reading import FileSource
from gtcrn_cli.errors import ReadError, UserError

needs_ffmpeg = pytest.mark.skipif(
    not ffmpeg.is_installed(), reason="ffmpeg and ffprobe are not on the PATH"
)
# What libsndfile writes, with a setting of each decoder that remembers.
KINDS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "GSM610"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AIFF", "IMA_ADPCM"),
    ("AU", "G721_32"),
    ("CAF", "ALAC_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
    ("VOC", "PCM_16"),
    ("PAF", "PCM_24"),
    ("SDS", "PCM_16"),
    ("SVX", "PCM_16"),
]
PROMISING = ["WAV", "RF64", "W64", "AIFF", "AU", "CAF", "SVX"]  # sizes in the header


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_any_size_are_the_whole_to_the_bit(tmp_path: Path, kind: tuple[str, str]):
    path = write(tmp_path / "a", kind, 1.0)
    expected = soundfile.read(path, dtype="float32", always_2d=True)[0]
    for size in (97, 4_096, 32_768, 1_000_000):
        assert np.array_equal(read(FileSource(path), size), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_skip_leaves_out_the_beginning_to_the_bit(tmp_path: Path, kind: tuple[str, str]):
    path = write(tmp_path / "a", kind, 1.0)
    expected = read(FileSource(path))
    for count in (1, 20_001, len(expected)):
        source = FileSource(path)
        source.skip(count)
        assert np.array_equal(read(source), expected[count:])


@needs_ffmpeg
@pytest.mark.parametrize(
    "options",
    [
        "-c:a libmp3lame -b:a 32k -ac 1 a.mp3",
        "-c:a libmp3lame -b:a 64k -ar 44100 a.mp3",
        "-c:a libmp3lame -q:a 9 -ar 22050 a.mp3",
        "-c:a libmp3lame -q:a 4 -write_xing 0 -id3v2_version 0 a.mp3",
        "-c:a libmp3lame -b:a 96k -ar 44100 -write_xing 0 a.mp3",
        "-c:a mp2 -b:a 192k a.mp2",
        "-c:a libopus -b:a 24k a.opus",
        "-c:a libvorbis -q:a 1 a.ogg",
        "-c:a flac a.flac",
        "-c:a adpcm_ms a.wav",
        "-c:a adpcm_ima_wav a.wav",
        "-c:a pcm_s24be a.aiff",
        "-c:a pcm_s16be a.caf",
    ],
)
@pytest.mark.slow
def test_what_ffmpeg_makes_comes_out_whole(tmp_path: Path, options: str):
    *encoder, name = options.split()
    run("-i", write(tmp_path / "in.wav", ("WAV", "PCM_16")), *encoder, tmp_path / name)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / name, "-f", "f32le", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True).stdout
    source = FileSource(tmp_path / name)
    samples = read(source, 1_000)
    assert len(samples) == len(decoded) // 4 // source.channels
    assert np.array_equal(samples, read(FileSource(tmp_path / name), 100_000))
    if source.encoding.format != "MP3":  # whose decoders may differ in what they round
        assert source.length == len(samples)


@pytest.mark.parametrize("format_name", PROMISING)
def test_less_than_the_header_promises_is_said(tmp_path: Path, format_name: str):
    path = write(tmp_path / "a", (format_name, "PCM_16"))
    whole = read(FileSource(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    blocks: list[np.ndarray] = []
    with pytest.raises(ReadError, match=r"cut off.* 3\.00 s, (0\.99|1\.00) s are there"):
        blocks.extend(FileSource(path).blocks(1_000))
    samples = np.concatenate(blocks)
    assert abs(len(samples) - len(whole) / 3) < 700  # for the header
    assert np.array_equal(samples, whole[: len(samples)])


@pytest.mark.parametrize("kind", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16")])
@pytest.mark.parametrize("left_out", [3, 20, 2_000])
def test_a_file_that_ends_within_a_page_is_cut_off(
    tmp_path: Path, kind: tuple[str, str], left_out: int
):
    path = write(tmp_path / "a", kind)
    path.write_bytes(path.read_bytes()[:-left_out])
    got = 0
    with pytest.raises(ReadError, match="cut off"):
        for block in FileSource(path).blocks(1_000):
            got += len(block)
    assert got > 0.5 * RATE


def unsized(data: bytearray, format_name: str, size: int) -> bytes:
    """The sizes in a header as they are before a recorder ends."""
    narrow = struct.pack("<I", size & 0xFFFFFFFF)
    wide = bytes(8) if size == 0 else b"\xff" * 8
    at = data.index(b"data") + 4 if b"data" in data[:4096] else 0
    if format_name == "WAV":
        data[4:8] = data[at : at + 4] = narrow
    elif format_name == "RF64":
        data[20:28] = data[28:36] = wide
    elif format_name == "W64":
        data[16:24] = data[at + 12 : at + 20] = wide
    elif format_name == "AU":
        data[8:12] = narrow
    elif format_name == "CAF":
        data[at : at + 8] = wide
    else:
        body = data.index(b"BODY" if format_name == "SVX" else b"SSND") + 4
        data[4:8] = data[body : body + 4] = narrow
        if format_name == "AIFF":
            comm = data.index(b"COMM")
            data[comm + 10 : comm + 14] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("format_name", PROMISING)
def test_sizes_that_were_never_written_hide_nothing(tmp_path: Path, format_name: str, size: int):
    path = write(tmp_path / "a", (format_name, "PCM_16"))
    whole = read(FileSource(path))
    path.write_bytes(unsized(bytearray(path.read_bytes()), format_name, size))
    source = FileSource(path)
    samples = read(source)
    assert np.array_equal(samples[: len(whole)], whole)
    assert len(samples) - len(whole) < 100  # what other chunks there are after the sound
    assert source.length == len(samples)
    legitimate = size != 0 and format_name in ("AU", "CAF")  # a value of the format itself
    assert legitimate or "does not tell its length" in source.notes[0] or "empty" in source.notes[0]
    with path.open("rb", buffering=0) as file:
        assert np.array_equal(read(open_pipe_source(file, None)), samples)
    with pipe_with(path.read_bytes()) as file:
        assert np.array_equal(read(open_pipe_source(file, None)), samples)


def test_a_wav_that_grew_after_its_header_was_written_is_read_to_its_end(tmp_path: Path):
    path = write(tmp_path / "a.wav", ("WAV", "PCM_16"))
    whole = read(FileSource(path))
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 100_000)
    path.write_bytes(data)
    source = FileSource(path)
    assert np.array_equal(read(source), whole)
    assert any("more sound" in note for note in source.notes)
    with pipe_with(bytes(data)) as file:
        source = open_pipe_source(file, None)
        assert np.array_equal(read(source), whole)
        assert any("more sound" in note for note in source.notes)


def test_more_sound_than_32_bits_can_tell(tmp_path: Path):
    """A sparse file: a recorder that did not know when to stop, and never wrote a size."""
    path = write(tmp_path / "a.wav", ("WAV", "PCM_16"), 0.5)
    header = bytearray(path.read_bytes()[:44])
    header[4:8] = header[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(header)
    length = 2**32 // 4 + 5_000
    os.truncate(path, 44 + 4 * length)
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(struct.pack("<2h", 16_384, -16_384))
    source = FileSource(path)
    assert source.length == length
    source.skip(length - 3)
    assert read(source)[-1].tolist() == [0.5, -0.5]


@needs_ffmpeg
def test_flac_and_opus_of_unknown_length_come_out_whole(tmp_path: Path):
    source = write(tmp_path / "in.wav", ("WAV", "PCM_16"))
    stream = tmp_path / "stream.flac"
    with stream.open("wb") as file:
        command = ["ffmpeg", "-v", "error", "-i", source, "-f", "flac", "-"]
        subprocess.run(command, stdout=file, check=True)
    assert len(read(FileSource(stream))) == 3 * RATE
    assert FileSource(stream).length is None
    run(
        "-i",
        stream,
        "-c:a",
        "flac",
        "-f",
        "segment",
        "-segment_time",
        "1.1",
        tmp_path / "part%d.flac",
    )
    parts = [read(FileSource(part)) for part in sorted(tmp_path.glob("part*.flac"))]
    assert len(parts) >= 3
    assert np.array_equal(np.concatenate(parts), read(FileSource(stream)))
    opus = write(tmp_path / "a.opus", ("OGG", "OPUS"))
    whole = read(FileSource(opus))
    data = bytearray(opus.read_bytes())
    last = data.rindex(b"OggS")
    opus.write_bytes(data[:last])
    endless = FileSource(opus)
    samples = read(endless)
    assert len(whole) - len(samples) <= 1.2 * RATE
    assert np.array_equal(samples[:90_000], whole[:90_000])
    assert any("no end mark" in note for note in endless.notes)


@pytest.mark.parametrize("has_length", [True, False])
def test_damage_that_a_decoder_passes_over_is_said(tmp_path: Path, has_length: bool):
    """What libFLAC leaves out of a stream without a length is missed by nobody else."""
    path = write(tmp_path / "a.flac", ("FLAC", "PCM_16"))
    data = bytearray(path.read_bytes())
    if not has_length:
        data[21] &= 0xF0
        data[22:26] = bytes(4)
    heads = [found.start() for found in re.finditer(rb"\xff\xf8", data)]
    silent = []
    for at in [*range(len(data) // 4, len(data) - 3_000, len(data) // 5), *heads[8::6]]:
        (tmp_path / "b.flac").write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :])
        source = FileSource(tmp_path / "b.flac")
        got = 0
        try:
            for block in source.blocks(1_000):
                got += len(block)
        except ReadError as error:
            assert "damaged" in str(error)
        else:
            silent += [] if got == 3 * RATE and "damaged" in str(source.notes) else [(at, got)]
        assert got > 0
    assert silent == []


@needs_ffmpeg
@pytest.mark.parametrize(("seconds", "channels"), [(1.0, 1), (2.5, 2)])
def test_mp3_inside_wav_is_whole(seconds: float, channels: int, tmp_path: Path):
    """Its header tells other samples than its frames hold; cut off, its data chunk tells it."""
    write(tmp_path / "a.wav", ("WAV", "PCM_16"), seconds, channels)
    path = tmp_path / "in.wav"
    run("-i", tmp_path / "a.wav", "-c:a", "libmp3lame", path)
    assert len(read(FileSource(path))) >= seconds * RATE
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(ReadError, match="cut off"):
        read(FileSource(path))


@needs_ffmpeg
def test_what_damage_costs_an_mp3_without_a_length_is_said(tmp_path: Path):
    """Also less than the frames that a stream may lose at its start, which are short at 22 kHz."""
    path = tmp_path / "a.mp3"
    encoder = ["-ar", "22050", "-ac", "1", "-b:a", "32k", "-write_xing", "0", "-id3v2_version", "0"]
    run("-i", write(tmp_path / "in.wav", ("WAV", "PCM_16"), 2.0), *encoder, path)
    data = path.read_bytes()
    ways = []
    for at in range(300, len(data) - 900, 61):
        path.write_bytes(data[:at] + np.random.default_rng(at).bytes(40) + data[at:])
        source, got = FileSource(path), 0
        try:
            for block in source.blocks(1_000):
                got += len(block)
        except ReadError as error:
            assert "damaged" in str(error)
            ways.append("said")
        else:
            assert source.length is not None and got >= source.length - 0.1 * 22_050
            ways.append("whole")
    assert {*ways} == {"said", "whole"}


@needs_ffmpeg
def test_an_mp3_from_the_middle_of_a_stream_is_read(tmp_path: Path):
    path = write(tmp_path / "a.mp3", ("MP3", "MPEG_LAYER_III"))
    path.write_bytes(path.read_bytes()[5_001:])
    command = ["ffmpeg", "-v", "quiet", "-i", path, "-f", "f32le", "-"]
    decoded = subprocess.run(command, capture_output=True, check=True).stdout
    assert abs(len(read(FileSource(path))) - len(decoded) // 8) <= 2_304
    with pipe_with(path.read_bytes()) as file:
        assert len(read(open_pipe_source(file, None))) == len(read(FileSource(path)))
    middle = len(read(FileSource(path)))
    path.write_bytes(b"\xff\xf1" + path.read_bytes())  # as AAC begins, but for its name
    assert len(read(FileSource(path))) == middle


ENDINGS = [".ul", ".al", ".sw", ".sln", ".sln16", ".vox", ".g722", ".gsm", ".raw", ".pcm", ".g726"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_files_without_a_header_are_not_guessed(tmp_path: Path, ending: str):
    path = tmp_path / f"a{ending}"
    path.write_bytes(np.random.default_rng(0).bytes(8_000))
    with pytest.raises(UserError, match=r"no header.*--raw"):
        open_source(str(path))
    named = write(tmp_path / f"b{ending}", ("WAV", "PCM_16"))
    assert open_source(str(named)).channels == 2  # what it is counts, not what it is called


@pytest.mark.parametrize("ending", [".au", ".snd"])
def test_libsndfile_guesses_no_headerless_files_either(tmp_path: Path, ending: str):
    path = tmp_path / f"a{ending}"
    path.write_bytes(np.random.default_rng(0).bytes(8_000))
    with pytest.raises(UserError, match="no header"):
        open_source(str(path))


@pytest.mark.parametrize("kind", [*KINDS, ("NIST", "PCM_16"), ("PAF", "PCM_16"), ("PVF", "PCM_16")])
def test_what_has_a_header_is_not_read_bare(tmp_path: Path, kind: tuple[str, str]):
    path = write(tmp_path / "a", kind)
    raw = RawFormat.parse("s16le:48000:2")
    with pytest.raises(UserError, match="leave out --raw"):
        FileSource(path, raw)
    if kind == ("MP3", "MPEG_LAYER_III"):
        path.write_bytes(b"ID3\x03\0\0\0\0\0\0" + path.read_bytes())
    with pipe_with(path.read_bytes()) as file, pytest.raises(UserError, match="leave out --raw"):
        read(open_pipe_source(file, raw))


@pytest.mark.parametrize("text", ["s16le:48000:0", "s16le:0:1", "s16le:48000:100000"])
def test_no_channels_are_no_sound(text: str):
    with pytest.raises(UserError, match="raw format"):
        RawFormat.parse(text)


def test_a_stream_that_breaks_off_is_said(tmp_path: Path):
    data = write(tmp_path / "a.wav", ("WAV", "PCM_16")).read_bytes()
    got = 0
    with pipe_with(data[: len(data) // 2]) as file, pytest.raises(ReadError, match="cut off"):
        for block in open_pipe_source(file, None).blocks(1_000):
            got += len(block)
    assert got == pytest.approx(1.5 * RATE, abs=50)


@needs_ffmpeg
@pytest.mark.parametrize("name", ["a.m4a", "a.mka", "a.webm", "a.wv"])
@pytest.mark.slow
def test_what_ffmpeg_reads_is_cut_off_aloud(tmp_path: Path, name: str):
    path = tmp_path / name
    faststart = ["-movflags", "+faststart"] if name == "a.m4a" else []
    run("-i", write(tmp_path / "in.wav", ("WAV", "PCM_16"), 10.0), *faststart, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    got = 0
    with pytest.raises(ReadError, match="cut off"):
        for block in open_source(str(path)).blocks(1_000):
            got += len(block)
    assert got > RATE


@needs_ffmpeg
def test_no_sound_out_of_a_file_is_an_error(tmp_path: Path):
    """The header of an m4a, and none of its sound."""
    path = tmp_path / "a.m4a"
    sound = write(tmp_path / "in.wav", ("WAV", "PCM_16"))
    run("-i", sound, "-movflags", "+faststart", path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 4])
    with pytest.raises(UserError):
        read(open_source(str(path)))


@pytest.mark.skipif(shutil.which("flac") is None, reason="the flac tool is not on the PATH")
def test_a_flac_of_32_bits_is_whole_or_an_error(tmp_path: Path):
    samples = (speechlike(1.0, 1) * 2**30).astype(np.int32)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="PCM_32")
    made = subprocess.run(
        ["flac", "--silent", tmp_path / "a.wav"], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("this flac tool writes no 32 bits")
    try:
        assert len(read(open_source(str(tmp_path / "a.flac")))) == len(samples)
    except UserError as error:
        assert "cannot read" in str(error) or "can be read" in str(error)


def test_the_view_of_a_file_is_a_file(tmp_path: Path):
    from gtcrn_cli.audio.views import View

    file = io.BytesIO(bytes(range(100)))
    view = View(file, 10, 50, {12: b"\xff\xfe"}, claimed_end=1_000)
    buffer = bytearray(6)
    assert view.readinto(memoryview(buffer)) == 6
    assert bytes(buffer) == bytes([10, 11, 0xFF, 0xFE, 14, 15])
    assert view.seek(0, os.SEEK_END) == 990
    assert view.seek(-128, os.SEEK_CUR) == 862
    assert view.readinto(memoryview(bytearray(200))) == 128
    view.seek(38)
    assert view.readinto(memoryview(buffer)) == 2
    assert view.readinto(memoryview(buffer)) == 0
