"""What else is in a file goes along, or is said to stay behind."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from mutagen import MutagenError, id3
from mutagen.aiff import AIFF
from mutagen.flac import FLAC
from mutagen.oggvorbis import OggVorbis
from support.tagged import (
    CHUNKS,
    ENDINGS,
    NAMES,
    NOISE,
    PNG,
    TEXTS,
    bit_rate,
    copy,
    tagged,
    wav_with,
)

from gtcrn_cli.audio import ffmpeg, riff, tags
from gtcrn_cli.audio.opening import open_source
from gtcrn_cli.errors import UserError


@pytest.mark.parametrize("before", [0, 2, 6])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_chunks_of_a_wav_go_along(before: int, subtype: str, tmp_path: Path):
    wav_with(tmp_path / "in.wav", CHUNKS, before, subtype=subtype)
    assert copy(tmp_path / "in.wav", tmp_path / "out.wav") == []
    with (tmp_path / "out.wav").open("rb") as file:
        found = {c.name: c for c in riff.chunks(file)}
        for name, content in CHUNKS:
            file.seek(found[name].at)
            assert file.read(found[name].size) == content
    data = (tmp_path / "out.wav").read_bytes()
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    samples, _ = soundfile.read(tmp_path / "out.wav", dtype="float32")
    original, _ = soundfile.read(tmp_path / "in.wav", dtype="float32")
    np.testing.assert_array_equal(samples, original)


def test_twice_is_as_once(tmp_path: Path):
    wav_with(tmp_path / "in.wav", CHUNKS)
    copy(tmp_path / "in.wav", tmp_path / "one.wav")
    copy(tmp_path / "one.wav", tmp_path / "two.wav")
    assert (tmp_path / "one.wav").read_bytes() == (tmp_path / "two.wav").read_bytes()


def test_text_of_a_wav_is_there_once(tmp_path: Path):
    with soundfile.SoundFile(tmp_path / "in.wav", "w", 48_000, 2) as file:
        file.title, file.artist = "A talk", "Somebody"
        file.write(NOISE)
    copy(tmp_path / "in.wav", tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_bytes().count(b"A talk") == 1
    with soundfile.SoundFile(tmp_path / "out.wav") as file:
        assert (file.title, file.artist) == ("A talk", "Somebody")


def test_an_rf64_keeps_its_chunks(tmp_path: Path):
    wav_with(tmp_path / "in.wav", CHUNKS)
    assert copy(tmp_path / "in.wav", tmp_path / "out.wav", format="RF64") == []
    assert {c.name for c in riff.extras(tmp_path / "out.wav")} == {name for name, _ in CHUNKS}
    assert soundfile.info(tmp_path / "out.wav").frames == len(NOISE)


def test_pictures_of_old_levels_are_left_out_and_that_is_said(tmp_path: Path):
    wav_with(tmp_path / "in.wav", [(b"levl", bytes(200)), (b"bext", bytes(602))])
    assert copy(tmp_path / "in.wav", tmp_path / "out.wav") == [
        "left out of the output: the chunks levl"
    ]
    assert [c.name for c in riff.extras(tmp_path / "out.wav")] == [b"bext"]


def test_what_another_format_has_no_place_for_is_said(tmp_path: Path):
    wav_with(tmp_path / "in.wav", CHUNKS)
    notes = copy(tmp_path / "in.wav", tmp_path / "out.flac")
    assert notes == ["left out of the output: the chunks bext, cue, iXML, odd, smpl"]


@pytest.mark.parametrize("chunks", [[], CHUNKS])
def test_what_a_recording_is_joined_from_is_no_chunk_of_it(chunks: list, tmp_path: Path):
    """Else the output would end with the noisy second recording."""
    wav_with(tmp_path / "in.wav", chunks)
    (tmp_path / "in.wav").write_bytes((tmp_path / "in.wav").read_bytes() * 2)
    copy(tmp_path / "in.wav", tmp_path / "out.wav")
    assert [c.name for c in riff.extras(tmp_path / "out.wav")] == [name for name, _ in chunks]
    opened = open_source(str(tmp_path / "out.wav"))
    assert (opened.length, opened.notes) == (2 * len(NOISE), [])


@given(st.binary(max_size=300), st.integers(0, 400))
def test_damaged_chunks_do_no_harm(damage: bytes, at: int):
    """Whatever is in a file: chunks lie within it."""
    import io

    data = bytearray(b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + bytes(16) + b"data\x04\0\0\0" + bytes(360))
    data[at : at + len(damage)] = damage
    for chunk in riff.chunks(io.BytesIO(bytes(data))):
        assert 0 <= chunk.at <= chunk.at + chunk.size <= len(data)


@pytest.mark.parametrize("target", ENDINGS)
@pytest.mark.parametrize("source", ENDINGS)
def test_tags_and_pictures_go_from_every_format_to_every_other(
    source: str, target: str, tmp_path: Path
):
    tagged(tmp_path / f"in{source}")
    assert copy(tmp_path / f"in{source}", tmp_path / f"out{target}") == []
    found, _ = tags.read(tmp_path / f"out{target}", NAMES[target])
    assert found.texts == TEXTS
    assert [(p.type, p.mime, p.data) for p in found.pictures] == [(3, "image/png", PNG)]
    assert abs(soundfile.info(tmp_path / f"out{target}").frames - len(NOISE)) < 2_400


def test_an_mp3_keeps_frames_that_nothing_else_has(tmp_path: Path):
    tagged(tmp_path / "in.mp3")
    frames = id3.ID3(tmp_path / "in.mp3")
    frames.add(id3.CHAP(element_id="one", start_time=0, end_time=500, sub_frames=[]))
    frames.add(id3.PRIV(owner="somebody", data=b"1234"))
    frames.save()
    assert copy(tmp_path / "in.mp3", tmp_path / "out.mp3") == []
    kept = id3.ID3(tmp_path / "out.mp3")
    assert kept.getall("CHAP")[0].end_time == 500
    assert kept.getall("PRIV")[0].data == b"1234"
    notes = copy(tmp_path / "in.mp3", tmp_path / "out.flac")
    assert notes == ["the format has no place for, and so left out are: CHAP, PRIV"]


def test_a_picture_that_a_wav_cannot_hold_is_said(tmp_path: Path):
    tagged(tmp_path / "in.flac")
    notes = copy(tmp_path / "in.flac", tmp_path / "out.wav")
    assert notes == ["the format has no place for, and so left out are: myown, 1 picture"]
    with soundfile.SoundFile(tmp_path / "out.wav") as file:
        assert file.title == "A talk"


def test_text_of_a_wav_goes_to_every_format(tmp_path: Path):
    """libsndfile itself keeps four of nine in an AIFF."""
    names = ("title", "artist", "album", "comment", "date", "genre", "copyright", "tracknumber")
    with soundfile.SoundFile(tmp_path / "in.wav", "w", 48_000, 2) as file:
        for name in names:
            setattr(file, name, f"the {name}" if name not in ("date", "tracknumber") else "7")
        file.write(NOISE)
    for ending in ENDINGS:
        copy(tmp_path / "in.wav", tmp_path / f"out{ending}")
        found, _ = tags.read(tmp_path / f"out{ending}", NAMES[ending])
        with soundfile.SoundFile(tmp_path / "in.wav") as file:
            expected = {n: [t] for n, t in file.copy_metadata().items() if n != "software"}
        got = {n: t for n, t in found.texts.items() if n != "software"}
        assert {n: t for n, t in got.items() if n != "date"} == {
            n: t for n, t in expected.items() if n != "date"
        }


@pytest.mark.parametrize("kbits", [64, 128, 256, 320])
@pytest.mark.parametrize("target", [".mp3", ".opus"])
@pytest.mark.slow
def test_the_bit_rate_of_an_mp3_stays(kbits: int, target: str, tmp_path: Path):
    how = {"compression_level": (320 - kbits) / 288, "bitrate_mode": "CONSTANT"}
    noise = np.tile(NOISE, (5, 1))
    with soundfile.SoundFile(tmp_path / "in.mp3", "w", 48_000, 2, **how) as file:
        file.write(noise)
    assert bit_rate(tmp_path / "in.mp3") == pytest.approx(kbits, rel=0.03)
    copy(tmp_path / "in.mp3", tmp_path / f"out{target}")
    assert bit_rate(tmp_path / f"out{target}") == pytest.approx(kbits, rel=0.15)


@pytest.mark.parametrize("level", [0.1, 0.4, 0.8])
def test_the_nominal_bit_rate_of_vorbis_stays(level: float, tmp_path: Path):
    with soundfile.SoundFile(tmp_path / "in.ogg", "w", 44_100, 1, compression_level=level) as file:
        file.write(NOISE[:, 0])
    copy(tmp_path / "in.ogg", tmp_path / "out.ogg")
    nominal = [OggVorbis(tmp_path / name).info.bitrate for name in ("in.ogg", "out.ogg")]
    assert nominal[1] == pytest.approx(nominal[0], rel=0.03)


def test_a_bit_rate_that_is_asked_for(tmp_path: Path):
    soundfile.write(tmp_path / "in.wav", np.tile(NOISE, (5, 1)), 48_000)
    for kbits in (48, 192):
        target = tmp_path / f"{kbits}.mp3"
        copy(tmp_path / "in.wav", target, bit_rate=1000 * kbits)
        assert bit_rate(target) == pytest.approx(kbits, rel=0.05)
    with pytest.raises(UserError, match="has no bit rate: leave out --bitrate"):
        copy(tmp_path / "in.wav", tmp_path / "out.flac", bit_rate=64_000)
    assert not (tmp_path / "out.flac").exists()


@pytest.mark.parametrize(
    ("ending", "kbits", "written"),
    [
        (".mp3", 500, 320),
        (".mp3", 8, 32),
        (".mp3", 128, None),
        (".opus", 900, 512),
        (".opus", 1, 12),
        (".opus", 64, None),
        (".ogg", 128, None),
        (".ogg", 3_000, 500),
    ],
)
def test_a_bit_rate_that_there_is_not_is_said(
    ending: str, kbits: int, written: int | None, tmp_path: Path
):
    soundfile.write(tmp_path / "in.wav", NOISE, 48_000)
    notes = copy(tmp_path / "in.wav", tmp_path / f"out{ending}", bit_rate=1000 * kbits)
    if written is None:
        assert notes == []
        return
    (note,) = notes
    said = int(note.split()[-2])
    assert f"no {kbits} kbit/s" in note
    assert said == pytest.approx(written, rel=0.05)
    if ending == ".mp3":  # in others quality is what stays, and pages take room
        assert bit_rate(tmp_path / f"out{ending}") == pytest.approx(said, rel=0.15)


def test_tags_that_are_damaged_are_not_lost_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Where libsndfile can read the sound and mutagen not the tags."""

    def read(path: Path, format_name: str) -> None:
        raise MutagenError

    monkeypatch.setattr(tags, "_read", read)
    with soundfile.SoundFile(tmp_path / "in.flac", "w", 48_000, 2) as file:
        file.title = "A talk"
        file.write(NOISE)
    notes = copy(tmp_path / "in.flac", tmp_path / "out.flac")
    assert any("tags of the input are damaged" in note for note in notes)
    assert soundfile.SoundFile(tmp_path / "out.flac").title == "A talk"  # as libsndfile has it


ODD_NAMES = ["", "Größe", "a=b", "a~b", "tab\t", "語"]


@pytest.mark.parametrize("source", [".mp3", ".aiff"])
@pytest.mark.parametrize("target", ENDINGS)
def test_texts_whose_names_another_format_does_not_allow(source: str, target: str, tmp_path: Path):
    """Free texts of ID3 may be called anything, or nothing; Vorbis comments may not."""
    tagged(tmp_path / f"in{source}")
    file = id3.ID3(tmp_path / "in.mp3") if source == ".mp3" else AIFF(tmp_path / "in.aiff")
    frames = file if source == ".mp3" else file.tags
    for name in ODD_NAMES:
        frames.add(id3.TXXX(encoding=3, desc=name, text=["one"]))
    file.save()
    notes = copy(tmp_path / f"in{source}", tmp_path / f"out{target}")
    found, _ = tags.read(tmp_path / f"out{target}", NAMES[target])
    assert TEXTS.items() <= found.texts.items()
    assert len(found.pictures) == 1
    if target in (".mp3", ".aiff"):
        assert notes == []
        assert {name.lower() for name in ODD_NAMES} <= {*found.texts}
    else:
        (note,) = notes
        assert "a text without a name" in note
        assert all(name.lower() in note for name in ODD_NAMES if name != "a~b")


@pytest.mark.parametrize("target", ENDINGS)
def test_pictures_of_any_size(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Those of FLAC have less than 16 MiB."""
    monkeypatch.setattr(tags, "LONGEST_FLAC_BLOCK", 300)
    tagged(tmp_path / "in.mp3")
    frames = id3.ID3(tmp_path / "in.mp3")
    frames.add(id3.APIC(mime="image/png", type=4, desc="back", data=PNG + bytes(100)))
    frames.save()
    notes = copy(tmp_path / "in.mp3", tmp_path / f"out{target}")
    found, _ = tags.read(tmp_path / f"out{target}", NAMES[target])
    assert len(found.pictures) == (1 if target == ".flac" else 2)
    assert notes == (
        ["the format has no place for, and so left out are: 1 picture"] * (target == ".flac")
    )


@pytest.mark.parametrize("error", [MutagenError("it is full"), ValueError("it is full")])
@pytest.mark.parametrize("target", [".flac", ".opus", ".mp3", ".aiff"])
def test_tags_that_cannot_be_written_do_not_cost_the_sound(
    error: Exception, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise error

    tagged(tmp_path / "in.flac")
    monkeypatch.setattr(tags, "_write_id3", fail)
    monkeypatch.setattr(tags, "_write_comments", fail)
    notes = copy(tmp_path / "in.flac", tmp_path / f"out{target}")
    assert notes == ["tags and pictures could not be written: it is full"]
    assert soundfile.info(tmp_path / f"out{target}").frames >= len(NOISE)


needs_ffmpeg = pytest.mark.skipif(
    not ffmpeg.is_installed(), reason="ffmpeg and ffprobe are not on the PATH"
)


def facts_of(path: Path) -> tuple[dict[str, str], int, int]:
    """Texts, pictures and chapters, as ffprobe sees them."""
    tracks = ffmpeg._probe(path)
    return tracks.tags, tracks.others.count("video"), tracks.chapters


@pytest.fixture(scope="module")
def podcast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An m4a with texts, a picture and two chapters."""
    folder = tmp_path_factory.mktemp("podcast")
    soundfile.write(folder / "a.wav", NOISE, 48_000)
    chapters = "".join(
        f"[CHAPTER]\nTIMEBASE=1/10\nSTART={start}\nEND={start + 5}\ntitle=part\n"
        for start in (0, 5)
    )
    (folder / "a.txt").write_text(f";FFMETADATA1\ntitle=A talk\nartist=Me\n{chapters}")
    words = f"-i {folder}/a.wav -i {folder}/a.txt -f lavfi -i color=red:s=16x16:d=0.04 -map 0:a"
    words += f" -map 2:v -map_metadata 1 -c:v png -disposition:v:0 attached_pic {folder}/a.m4a"
    subprocess.run(["ffmpeg", "-v", "error", *words.split()], check=True)
    return folder / "a.m4a"


@needs_ffmpeg
@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (".m4a", ""),
        (".mp4", ""),
        (".mka", "1 picture"),
        (".flac", "2 chapters"),
        (".mp3", "2 chapters"),
        (".opus", "2 chapters"),
        (".ogg", "2 chapters"),
        (".aiff", "2 chapters"),
        (".wav", "1 picture, 2 chapters"),
        (".caf", "1 picture, 2 chapters"),
        (".aac", "artist, title, 1 picture, 2 chapters"),
    ],
)
@pytest.mark.slow
def test_what_a_container_of_ffmpeg_tells_goes_along(
    ending: str, said: str, podcast: Path, tmp_path: Path
):
    notes = copy(podcast, tmp_path / f"out{ending}")
    lost = [note.rpartition("are: ")[2] for note in notes]
    assert lost == ([said] if said else [])
    texts, pictures, chapters = facts_of(tmp_path / f"out{ending}")
    assert "title" in said or (texts["title"], texts["artist"]) == ("A talk", "Me")
    assert pictures == ("picture" not in said)
    assert chapters == (0 if "chapters" in said else 2)


@needs_ffmpeg
@pytest.mark.parametrize("source", [".flac", ".mp3", ".ogg"])
@pytest.mark.parametrize(
    ("ending", "said"),
    [(".m4a", "odd"), (".mka", "1 picture"), (".aac", "artist, odd, title, 1 picture")],
)
@pytest.mark.slow
def test_what_a_file_of_libsndfile_tells_goes_into_a_container(
    source: str, ending: str, said: str, podcast: Path, tmp_path: Path
):
    copy(podcast, tmp_path / f"in{source}")
    file = {".flac": FLAC, ".ogg": OggVorbis, ".mp3": id3.ID3}[source](tmp_path / f"in{source}")
    if source == ".mp3":
        file.add(id3.TXXX(encoding=3, desc="odd", text=["one"]))
    else:
        file["odd"] = ["one"]
    file.save()
    notes = copy(tmp_path / f"in{source}", tmp_path / f"out{ending}")
    lost = [note.rpartition("are: ")[2] for note in notes if "are: " in note]
    assert lost == [said]
    texts, pictures, _ = facts_of(tmp_path / f"out{ending}")
    assert "title" in said or (texts["title"], texts["artist"]) == ("A talk", "Me")
    assert "odd" in said or texts["odd"] == "one"
    assert pictures == ("picture" not in said)


@needs_ffmpeg
@pytest.mark.parametrize("source", [".mp3", ".opus"])
def test_a_damaged_picture_does_not_cost_the_sound(source: str, tmp_path: Path):
    tagged(tmp_path / f"in{source}")  # its picture has no size
    notes = copy(tmp_path / f"in{source}", tmp_path / "out.m4a")
    assert any(note.endswith("1 picture") for note in notes)
    texts, pictures, _ = facts_of(tmp_path / "out.m4a")
    assert (texts["title"], pictures) == ("A talk", 0)


@needs_ffmpeg
@pytest.mark.parametrize("ending", [".m4a", ".mka"])
def test_texts_that_no_command_line_can_hold_are_said(ending: str, tmp_path: Path):
    """Names that are none, and texts longer than an argument may be."""
    tagged(tmp_path / "in.mp3")
    frames = id3.ID3(tmp_path / "in.mp3")
    for name, text in {"": "one", "a=b": "two", "long": "x" * 200_000}.items():
        frames.add(id3.TXXX(encoding=3, desc=name, text=[text]))
    frames.save()
    notes = copy(tmp_path / "in.mp3", tmp_path / f"out{ending}")
    (note,) = [note for note in notes if "no place" in note]
    assert all(name in note for name in ("a text without a name", "a=b", "long"))
    assert facts_of(tmp_path / f"out{ending}")[0]["title"] == "A talk"


@needs_ffmpeg
def test_chunks_of_a_wav_have_no_place_in_a_container(tmp_path: Path):
    wav_with(tmp_path / "in.wav", CHUNKS)
    assert any("bext" in note for note in copy(tmp_path / "in.wav", tmp_path / "out.m4a"))


def test_free_tags_that_a_wav_has_no_place_for_are_said(tmp_path: Path):
    soundfile.write(tmp_path / "in.flac", NOISE, 48_000)
    file = FLAC(tmp_path / "in.flac")
    file["title"], file["odd"] = ["A talk"], ["one"]
    file.save()
    notes = copy(tmp_path / "in.flac", tmp_path / "out.wav")
    assert [note.rpartition("are: ")[2] for note in notes] == ["odd"]
