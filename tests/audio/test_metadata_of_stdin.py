"""What else is in a recording goes along from stdin, too, and to stdout."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile
from mutagen.flac import FLAC
from support.tagged import CHUNKS, NAMES, NOISE, PNG, TEXTS, bit_rate, tagged, wav_with

from gtcrn_cli.audio import opening, riff, tags
from gtcrn_cli.audio.opening import Output, open_sink, open_source
from gtcrn_cli.audio.pipe import open_pipe_source


@contextmanager
def stdin_of(path: Path, way: str) -> Iterator[BinaryIO]:
    """A file by ``<`` or through a pipe."""
    if way == "file":
        with path.open("rb", buffering=0) as file:
            yield file
        return
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        yield process.stdout


def copy_stdin(
    source: Path, target: Path, way: str, monkeypatch: pytest.MonkeyPatch, **how
) -> list[str]:
    """What `copy` does, from stdin; to stdout where the target has no ending."""
    with stdin_of(source, way) as file, target.with_suffix(".stdout").open("wb") as stdout:
        opened = open_pipe_source(file, None)
        monkeypatch.setattr(opening, "open", lambda *_, **__: stdout, raising=False)
        name = str(target) if target.suffix else "-"
        with open_sink(name, opened, Output(**how)) as sink:
            for block in opened.blocks(9_999):
                sink.write(block)
    if not target.suffix:
        target.with_suffix(".stdout").replace(target)
    return sink.notes + [f"no {name}" for name in sink.lost_tags]


@pytest.mark.parametrize("way", ["file", "pipe"])
@pytest.mark.parametrize("source", [".flac", ".mp3", ".opus"])
@pytest.mark.parametrize("target", [".flac", ".mp3", ".ogg"])
def test_tags_and_pictures_come_from_stdin_too(
    source: str, target: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tagged(tmp_path / f"in{source}")
    notes = copy_stdin(tmp_path / f"in{source}", tmp_path / f"out{target}", way, monkeypatch)
    assert notes == []
    found, _ = tags.read(tmp_path / f"out{target}", NAMES[target])
    assert found.texts == TEXTS
    assert [p.data for p in found.pictures] == [PNG]


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_the_bit_rate_comes_from_stdin_too(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with soundfile.SoundFile(
        *(tmp_path / "in.mp3", "w", 48_000, 2), compression_level=0.1, bitrate_mode="CONSTANT"
    ) as file:
        file.write(NOISE)
    copy_stdin(tmp_path / "in.mp3", tmp_path / "out.mp3", way, monkeypatch)
    assert bit_rate(tmp_path / "out.mp3") == pytest.approx(bit_rate(tmp_path / "in.mp3"), rel=0.03)


@pytest.mark.parametrize("way", ["file", "pipe"])
@pytest.mark.parametrize("before", [0, 3, 6])
def test_chunks_of_a_wav_go_through_stdin(
    before: int, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Those in front of the sound and those behind it; on stdout what is known when it begins."""
    wav_with(tmp_path / "in.wav", CHUNKS, before)
    contents = dict(CHUNKS)
    assert copy_stdin(tmp_path / "in.wav", tmp_path / "out.wav", way, monkeypatch) == []
    notes = copy_stdin(tmp_path / "in.wav", tmp_path / "out", way, monkeypatch)
    late = [] if way == "file" else [name for name, _ in CHUNKS[before:]]
    names = ", ".join(sorted(name.decode().strip() for name in late))
    assert notes == ([f"left out of the output: the chunks {names}"] if late else [])
    for path, lost in ((tmp_path / "out.wav", []), (tmp_path / "out", late)):
        found = riff.extras(path)
        assert sorted(c.name for c in found) == sorted({*contents} - {*lost})
        for chunk in found:
            assert path.read_bytes()[chunk.at :][: chunk.size] == contents[chunk.name]
        opened = open_source(str(path))
        assert len(np.concatenate([*opened.blocks(9_999)])) == len(NOISE)
    notes = copy_stdin(tmp_path / "in.wav", tmp_path / "out.flac", way, monkeypatch)
    assert notes == ["left out of the output: the chunks bext, cue, iXML, odd, smpl"]


@pytest.mark.parametrize("way", ["file", "pipe"])
@pytest.mark.parametrize("at", ["begin", "end"])
def test_text_of_a_wav_goes_through_stdin(
    at: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    text = b"INFOINAM" + struct.pack("<I", 8) + b"A talk\0\0"
    wav_with(tmp_path / "in.wav", [(b"LIST", text)], at == "begin")
    copy_stdin(tmp_path / "in.wav", tmp_path / "out.flac", way, monkeypatch)
    assert FLAC(tmp_path / "out.flac")["title"] == ["A talk"]


def test_what_a_stream_of_wav_has_no_place_for_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tagged(tmp_path / "in.flac")
    notes = copy_stdin(tmp_path / "in.flac", tmp_path / "out", "file", monkeypatch)
    assert notes == ["the format has no place for, and so left out are: myown, 1 picture"]
    with soundfile.SoundFile(tmp_path / "out") as file:
        assert (file.title, file.album) == ("A talk", "Talks")
    notes = copy_stdin(tmp_path / "in.flac", tmp_path / "raw", "file", monkeypatch, format="RAW")
    assert "no title" in notes
    assert (tmp_path / "raw").stat().st_size == 4 * len(NOISE)
