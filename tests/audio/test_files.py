"""Sound files: every format, nothing lost, nothing half-written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gtcrn_cli.audio import files
from gtcrn_cli.audio.files import FileSink
from gtcrn_cli.audio.formats import Encoding, RawFormat, encoding_for
from gtcrn_cli.audio.reading import FileSource
from gtcrn_cli.errors import ReadError, UserError
from gtcrn_cli.paths import require_distinct

KEPT = [
    ("a.wav", "WAV", "PCM_16"),
    ("a.wav", "WAV", "FLOAT"),
    ("a.wav", "WAVEX", "PCM_24"),
    ("a.wav", "RF64", "PCM_16"),
    ("a.w64", "W64", "PCM_16"),
    ("a.flac", "FLAC", "PCM_24"),
    ("a.ogg", "OGG", "VORBIS"),
    ("a.opus", "OGG", "OPUS"),
    ("a.mp3", "MP3", "MPEG_LAYER_III"),
    ("a.aiff", "AIFF", "PCM_16"),
    ("a.caf", "CAF", "ALAC_16"),
    ("a.au", "AU", "PCM_16"),
]
TAGGED = ("WAV", "FLAC", "OGG", "MP3", "AIFF", "CAF")


def write(path: Path, samples: np.ndarray, encoding: Encoding, rate: int = 48_000) -> None:
    with FileSink(path, rate, samples.shape[1], encoding, length=len(samples)) as sink:
        for start in range(0, len(samples), 1000):
            sink.write(samples[start : start + 1000])


def read(path: Path) -> tuple[np.ndarray, FileSource]:
    source = FileSource(path)
    return np.concatenate([*source.blocks(777), np.zeros((0, source.channels))]), source


@pytest.fixture
def samples() -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal((9_999, 2), np.float32)


@pytest.mark.parametrize(("name", "format_name", "subtype"), KEPT)
def test_format_subtype_length_and_tags_are_kept(
    tmp_path: Path, samples: np.ndarray, name: str, format_name: str, subtype: str
):
    tags = {"title": "Tïtle", "artist": "Ann"} if format_name in TAGGED else {}
    write(tmp_path / name, samples, Encoding(format_name, subtype, tags=tags))
    (tmp_path / "out").mkdir()
    first, source = read(tmp_path / name)
    target = tmp_path / "out" / name
    write(target, first, encoding_for(target, source.encoding), source.sample_rate)
    second, result = read(target)
    assert (result.encoding.format, result.encoding.subtype) == (format_name, subtype)
    assert result.sample_rate == source.sample_rate
    assert second.shape == first.shape == samples.shape
    assert tags.items() <= result.encoding.tags.items()


@pytest.mark.parametrize(
    ("source", "name", "expected"),
    [
        (("MP3", "MPEG_LAYER_III"), "a.wav", ("WAV", "PCM_16")),
        (("OGG", "VORBIS"), "a.opus", ("OGG", "OPUS")),
        (("WAV", "FLOAT"), "a.flac", ("FLAC", "PCM_24")),
        (("WAV", "PCM_24"), "a.flac", ("FLAC", "PCM_24")),
        (("FLAC", "PCM_16"), "a.wav", ("WAV", "PCM_16")),
        (("WAV", "PCM_16"), "a.mp3", ("MP3", "MPEG_LAYER_III")),
        (("FLAC", "PCM_24"), "-", ("WAV", "PCM_24")),
    ],
)
def test_another_format_gets_the_nearest_subtype(
    source: tuple[str, str], name: str, expected: tuple[str, str]
):
    encoding = encoding_for(name, Encoding(*source))
    assert (encoding.format, encoding.subtype) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.xyz", None, None), "--format"),
        (("noending", None, None), "--format"),
        (("a.wav", "avi", None), "no format"),
        (("a.flac", None, "FLOAT"), "no subtype"),
        (("a.wav", None, "PCM_13"), "no subtype"),
    ],
)
def test_impossible_encodings_are_told(arguments: tuple, message: str):
    name, format_name, subtype = arguments
    with pytest.raises(UserError, match=message):
        encoding_for(name, Encoding(), format_name, subtype)


def test_a_format_that_cannot_hold_the_samples_leaves_nothing(tmp_path: Path):
    with pytest.raises(UserError, match="44100 Hz"):
        FileSink(tmp_path / "a.opus", 44_100, 1, Encoding("OGG", "OPUS"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("length", "subtype", "expected"),
    [
        (1_000, "PCM_16", "WAV"),
        (2**30 - 20_000, "PCM_16", "WAV"),
        (2**30, "PCM_16", "RF64"),
        (2**31 - 40_000, "PCM_U8", "WAV"),
        (2**31, "ULAW", "RF64"),
        (2**32 // 6 - 20_000, "PCM_24", "WAV"),
        (2**29 - 20_000, "FLOAT", "WAV"),
        (2**29, "FLOAT", "RF64"),
        (2**28 - 20_000, "DOUBLE", "WAV"),
        (2**28, "DOUBLE", "RF64"),
        (None, "PCM_16", "WAVEX"),
    ],
)
def test_a_wav_that_passes_4_gb_is_an_rf64(
    tmp_path: Path, length: int | None, subtype: str, expected: str
):
    """Of unknown length it ends as an ordinary WAV when it stays small."""
    path = tmp_path / "a.wav"
    with FileSink(path, 48_000, 2, Encoding("WAV", subtype), length=length) as sink:
        sink.write(np.zeros((10, 2), np.float32))
    assert soundfile.info(path).format == expected
    assert soundfile.info(path).frames == 10


def test_reads_past_4_gb(tmp_path: Path):
    """A sparse file: a real header, holes for samples, and a mark at the end."""
    path = tmp_path / "long.w64"
    length = 2**32 // 4 + 1000  # stereo, 16 bit
    with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16", format="W64") as file:
        file.write(np.zeros((1, 2), np.int16))
    data = bytearray(path.read_bytes())
    data_at = data.rindex(b"data\xf3\xac\xd3\x11")
    size = 24 + length * 4
    data[16:24] = (data_at + size).to_bytes(8, "little")
    data[data_at + 16 : data_at + 24] = size.to_bytes(8, "little")
    path.write_bytes(data[: data_at + 24])
    with path.open("r+b") as file:
        file.truncate(data_at + size)
        file.seek(-4, 2)
        file.write(b"\xff\x3f\xff\x3f")
    source = FileSource(path)
    assert source.length == length
    source.skip(length - 500)
    (end,) = source.blocks(1000)
    assert len(end) == 500
    assert end[-1].tolist() == pytest.approx([0.5, 0.5], abs=1e-3)


def test_an_empty_recording_is_a_valid_recording(tmp_path: Path):
    write(tmp_path / "a.wav", np.zeros((0, 1), np.float32), Encoding())
    samples, source = read(tmp_path / "a.wav")
    assert source.length == len(samples) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"no sound at all " * 50, "cannot read"), (b"RIFF____WAVEfmt ", "cannot")],
)
def test_what_is_no_recording_is_told(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        FileSource(path)


def test_missing_files_folders_and_headerless_files_are_told(tmp_path: Path):
    with pytest.raises(UserError, match="No such file"):
        FileSource(tmp_path / "a.wav")
    with pytest.raises(UserError, match="folder"):
        FileSource(tmp_path)
    (tmp_path / "a.raw").write_bytes(bytes(100))
    with pytest.raises(UserError, match="--raw"):
        FileSource(tmp_path / "a.raw")


@pytest.mark.parametrize("name", ["a.flac", "a.mp3"])
def test_a_file_that_breaks_off_gives_what_it_has(tmp_path: Path, samples: np.ndarray, name: str):
    path = tmp_path / name
    write(path, np.tile(samples, (5, 1)), encoding_for(path, Encoding()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    got = 0
    with pytest.raises(ReadError):
        for block in FileSource(path).blocks(100_000):
            got += len(block)
    assert got > len(samples)


class StopError(Exception):
    pass


@pytest.mark.parametrize("error", [StopError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_file_is_not_there(tmp_path: Path, error: type[BaseException]):
    with pytest.raises(error), FileSink(tmp_path / "a.wav", 16_000, 1, Encoding()) as sink:
        sink.write(np.zeros((100, 1), np.float32))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_replacement_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"precious")
    with (
        pytest.raises(StopError),
        FileSink(path, 16_000, 1, Encoding(), overwrite=True) as sink,
    ):
        sink.write(np.zeros((100, 1), np.float32))
        raise StopError
    assert path.read_bytes() == b"precious"


def test_an_existing_file_is_kept(tmp_path: Path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"precious")
    with pytest.raises(UserError, match="--overwrite"):
        FileSink(path, 16_000, 1, Encoding())
    path.unlink()
    with pytest.raises(UserError, match="--overwrite"), FileSink(path, 16_000, 1, Encoding()):
        path.write_bytes(b"came meanwhile")
    assert path.read_bytes() == b"came meanwhile"


def test_writes_through_a_link(tmp_path: Path):
    (tmp_path / "real.wav").write_bytes(b"old")
    link = tmp_path / "link.wav"
    link.symlink_to(tmp_path / "real.wav")
    with FileSink(link, 16_000, 1, Encoding(), overwrite=True) as sink:
        sink.write(np.zeros((100, 1), np.float32))
    assert link.is_symlink()
    assert soundfile.info(tmp_path / "real.wav").frames == 100


@pytest.mark.parametrize("target", ["folder", "missing/a.wav", "/dev/null"])
def test_places_where_no_file_can_be_are_told(tmp_path: Path, target: str):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError):
        FileSink(tmp_path / target, 16_000, 1, Encoding(), overwrite=True)


def test_the_same_file_is_known_by_any_name(tmp_path: Path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"x")
    (tmp_path / "soft").symlink_to(path)
    (tmp_path / "hard").hardlink_to(path)
    for other in ("a.wav", "soft", "hard", "../" + tmp_path.name + "/a.wav"):
        with pytest.raises(UserError, match="same file"):
            require_distinct(path, tmp_path / other)


@pytest.mark.skipif(sys.platform != "linux", reason="names need not be text on Linux only")
@pytest.mark.parametrize("name", [b"a.wav", b"\xfca.wav", b"\xfca.flac"])
def test_a_recording_without_samples_by_any_name(name: bytes, tmp_path: Path):
    path = tmp_path / os.fsdecode(name)
    sink = FileSink(path, 16_000, 1, encoding_for(path, Encoding()))
    if name.endswith(b".wav"):
        with sink:
            pass
        assert FileSource(path).length == 0
    else:
        with pytest.raises(UserError, match="without samples"), sink:
            pass
        assert list(tmp_path.iterdir()) == []


def test_tags_that_a_format_cannot_hold_are_named(tmp_path: Path):
    encoding = Encoding("W64", "PCM_16", tags={"title": "T", "comment": ""})
    with FileSink(tmp_path / "a.w64", 16_000, 1, encoding) as sink:
        assert sink.lost_tags == ["title"]


STEPS = {
    **{"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24},
    **{"ALAC_16": 16, "DWVW_16": 16, "DWVW_24": 24},
}


def stepping(bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples on and half-way between steps, and beyond full scale; and the nearest steps."""
    rng = np.random.default_rng(0)
    full_scale = 2 ** (bits - 1)
    most = min(2 * full_scale, 2**16)
    steps = rng.integers(-most, most, (5_000, 2)) / 2 / full_scale
    loud = rng.uniform(-1.2, 1.2, (5_000, 2))
    samples = np.concatenate([steps, loud, [[1, -1], [0, -0.0]]]).astype(np.float32)
    exact = np.rint(samples.astype(float) * full_scale)
    return samples, np.clip(exact, -full_scale, full_scale - 1)


@pytest.mark.parametrize(
    ("format_name", "subtype"),
    [
        (name, subtype)
        for name in ("WAV", "FLAC", "AIFF", "CAF", "VOC", "SVX", "AU", "RAW")
        for subtype in STEPS
        if subtype in soundfile.available_subtypes(name)
    ],
)
def test_samples_are_rounded_to_the_nearest_step(format_name: str, subtype: str, tmp_path: Path):
    """And clipped beyond full scale. libsndfile itself rounds for FLAC, and cuts off for WAV."""
    samples, expected = stepping(STEPS[subtype])
    if format_name == "SVX" or subtype.startswith("DWVW"):
        samples, expected = samples[:, :1], expected[:, :1]
    channels = samples.shape[1]
    with FileSink(tmp_path / "file", 48_000, channels, Encoding(format_name, subtype)) as sink:
        sink.write(samples)
    raw = RawFormat(subtype, "FILE", 48_000, channels) if format_name == "RAW" else None
    written = np.concatenate([*FileSource(tmp_path / "file", raw).blocks(1_000)]).astype(float)
    written = written[: len(expected)]  # DWVW does not tell its end
    np.testing.assert_array_equal(written * 2 ** (STEPS[subtype] - 1), expected)


@pytest.mark.parametrize("subtype", ["ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32"])
@pytest.mark.parametrize("loudest_bits", [12, 32])
def test_alac_is_what_went_in_or_an_error(
    subtype: str, loudest_bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """libsndfile 1.2.2 makes of two channels of loud noise another noise, but for 16 bits."""
    monkeypatch.setattr(files, "CHECKED_SAMPLES", 700)
    bits = int(subtype[-2:])
    most = 2 ** min(loudest_bits, bits - 1)
    steps = np.random.default_rng(0).integers(-most, most, (9_999, 2))
    samples = (steps / 2 ** (bits - 1)).astype(np.float32)
    path = tmp_path / "a.caf"
    if loudest_bits == 32 and subtype != "ALAC_16":
        try:
            write(path, samples, Encoding("CAF", subtype))
        except UserError as error:
            assert "damages this sound" in str(error)
            assert list(tmp_path.iterdir()) == []
            return
    else:
        write(path, samples, Encoding("CAF", subtype))
    written = soundfile.read(path, dtype="float64")[0]
    np.testing.assert_array_equal(written, samples)


@pytest.mark.parametrize("encoding", ["s8", "u8", "s16le", "s16be", "s24le", "s24be"])
def test_a_stream_is_rounded_as_a_file_is(encoding: str):
    raw = RawFormat.parse(f"{encoding}:48000:2")
    samples, expected = stepping(STEPS[raw.subtype])
    decoded = raw.decode(raw.encode(samples))
    np.testing.assert_array_equal(decoded.astype(float) * 2 ** (STEPS[raw.subtype] - 1), expected)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050, 44_100])
def test_an_mp3_of_any_bit_rate_has_its_length(sample_rate: int, tmp_path: Path):
    sound = np.random.default_rng(0).standard_normal((12_345, 1)).astype(np.float32) / 10
    for kbits in (8, 24, 32, 48, 64, 128):
        encoding = Encoding("MP3", "MPEG_LAYER_III", bit_rate=1_000 * kbits)
        path = tmp_path / f"{kbits}.mp3"
        with FileSink(path, sample_rate, 1, encoding) as sink:
            sink.write(sound)
        assert soundfile.info(path).frames == len(sound)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_the_same_part_of_an_ogg_is_kept_once(subtype: str, tmp_path: Path):
    """Each time it is written its streams have other numbers."""

    def kept(seed: int) -> str:
        sink = FileSink(tmp_path / "a.ogg", 48_000, 1, Encoding("OGG", subtype))
        sink.write(0.1 * np.random.default_rng(seed).standard_normal((48_000, 1), np.float32))
        name = sink.keep_partial()
        return Path(name).name

    assert [kept(0), kept(0), kept(1), kept(1), kept(0)] == [
        *("a.partial.ogg", "a.partial.ogg", "a.partial-2.ogg", "a.partial-2.ogg", "a.partial.ogg")
    ]
