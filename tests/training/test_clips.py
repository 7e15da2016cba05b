"""What is listed to train on and to validate with: nothing that a user has is lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gtcrn_cli.errors import UserError
from gtcrn_cli.training.clips import Clip, half, list_all_clips, list_clips, rehearsal
from gtcrn_cli.training.corpora import load_corpus, load_joined

RATE = 16_000


@pytest.mark.parametrize("kind", ["speech", "noise"])
def test_names_that_are_no_text_are_names_all_the_same(kind: str, tmp_path: Path):
    for number in range(10):
        folder = tmp_path / os.fsdecode(b"caf\xe9%d" % number)
        try:
            folder.mkdir()
        except OSError:
            pytest.skip("this file system takes only names that are text")
        written = tmp_path / "a.wav"
        soundfile.write(written, np.full(RATE, 0.1), RATE)
        written.rename(folder / os.fsdecode(b"\xff.wav"))
    clips = list_clips(tmp_path, kind)
    assert sorted(clip.valid for clip in clips) == [*9 * [False], True]
    assert load_corpus(clips, tmp_path / "cache").lengths.tolist() == 10 * [RATE]


def test_a_single_recording_is_split_by_time(tmp_path: Path):
    soundfile.write(tmp_path / "hum.wav", np.full(10 * RATE, 0.1), RATE)
    train, valid = list_clips(tmp_path, "noise")
    assert (train.start, train.length, train.valid) == (0, 9 * RATE, False)
    assert (valid.start, valid.length, valid.valid) == (9 * RATE, -1, True)


def test_no_speech_is_said(tmp_path: Path):
    with pytest.raises(UserError, match=r"no speech found: there is no .*nowhere"):
        list_clips(tmp_path / "nowhere", "speech")
    with pytest.raises(UserError, match="no speech found: there are no audio files"):
        list_clips(tmp_path, "speech")
    (tmp_path / "index.tsv").write_text("file\tstart\nx\t1\n")
    with pytest.raises(UserError, match="not an index of clips"):
        list_clips(tmp_path / "index.tsv", "speech")


def test_several_folders_are_one_corpus(tmp_path: Path):
    """Voices of the same name in two folders stay two; indexes name theirs fully."""
    for folder in ("a", "b"):
        for speaker in ("anna", "ben", "cara", "dora"):
            (tmp_path / folder / speaker).mkdir(parents=True)
            soundfile.write(tmp_path / folder / speaker / "x.wav", np.full(RATE, 0.1), RATE)
    clips = list_all_clips([tmp_path / "a", tmp_path / "b"], "speech")
    assert len({clip.group for clip in clips}) == 8
    assert sum(clip.valid for clip in clips) == 2
    assert list_all_clips([rehearsal("speech")], "speech") == list_clips(
        rehearsal("speech"), "speech"
    )


def test_one_file_will_do_and_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    noise = np.random.default_rng(0).standard_normal(2 * RATE) * 0.1
    soundfile.write(tmp_path / "fan.wav", noise, RATE)
    train, valid = list_clips(tmp_path / "fan.wav", "noise")
    assert (train.valid, valid.valid) == (False, True)
    assert train.length == valid.start == pytest.approx(0.9 * 2 * RATE, abs=1)
    assert "one file" in caplog.text
    with pytest.raises(UserError, match="no noise found: there is no"):
        list_clips(tmp_path / "missing", "noise")
    with pytest.raises(UserError, match="https://host/noise is a URL"):
        list_clips(Path("https://host/noise"), "noise")


def written(path: Path, seconds: float = 0.1, level: float = 0.1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * RATE), float(level)), RATE, "FLOAT")
    return path


def test_of_few_recordings_a_tenth_is_held_out_and_the_rest_is_trained_on(tmp_path: Path):
    """Whatever lies beside them: what is silent or unreadable counts for nothing."""
    (tmp_path / "._fan.wav").write_bytes(b"This is no sound.")
    for number in range(8):
        written(tmp_path / f"silent-{number}.wav", level=0)
    for name in ("fan", "rain"):
        written(tmp_path / f"{name}.wav", 1)
    clips = list_clips(tmp_path, "noise")
    assert [clip.path.name for clip in half(clips, True)] == ["fan.wav", "rain.wav"]
    lengths = [load_corpus(half(clips, side), tmp_path / "c", str).lengths for side in (0, 1)]
    assert [list(each) for each in lengths] == [[14_400, 14_400], [1_600, 1_600]]


def test_a_recording_beside_what_macos_leaves_is_trained_on(tmp_path: Path):
    """``._fan.wav`` was half of a folder of two files, and the other half was held out."""
    written(tmp_path / "noise" / "fan.wav", 1)
    (tmp_path / "noise" / "._fan.wav").write_bytes(b"\0\5\26\7")
    mine = half(list_clips(tmp_path / "noise", "noise"), False)
    original = half(list_clips(written(tmp_path / "rain.wav", 1), "noise"), False)
    corpus = load_joined(mine, original, 0.5, str, tmp_path / "cache")
    assert any(name.startswith("own/") for name in corpus.names)
    unreadable = [clip for clip in mine if clip.path.name.startswith(".")]
    with pytest.raises(UserError, match=r"nothing of your own is left.*\._fan\.wav"):
        load_joined(unreadable, original, 0.5, str, tmp_path / "cache")


def test_both_parts_of_a_recording_hold_sound(tmp_path: Path):
    """One may begin with a minute of silence, or end with it."""
    sound = np.zeros(10_000)
    sound[6_000:8_000] = 0.1
    soundfile.write(tmp_path / "a.wav", sound, RATE)
    train, valid = list_clips(tmp_path / "a.wav", "noise")
    assert train.length == valid.start == 7_800


def test_a_single_click_is_lost_to_neither_part(tmp_path: Path):
    click = np.zeros(10_000)
    click[6_000] = 0.5
    soundfile.write(tmp_path / "a.wav", click, RATE)
    clips = list_clips(tmp_path / "a.wav", "noise")
    for side in (False, True):
        corpus = load_corpus(half(clips, side), tmp_path / "cache", str)
        assert corpus.clip(0)[6_000] == pytest.approx(0.5, abs=1e-4)


def test_one_of_ten_recordings_is_held_out_whole(tmp_path: Path):
    for number in range(10):
        written(tmp_path / f"{number}.wav")
    held_out = half(list_clips(tmp_path, "noise"), True)
    assert len(held_out) == 1 and held_out[0].length == -1


def test_files_of_few_speakers_are_held_out_whole_where_they_are_many(tmp_path: Path):
    for number in range(12):
        written(tmp_path / "anna" / f"{number}.wav")
    written(tmp_path / "ben" / "only.wav", 1)
    held_out = half(list_clips(tmp_path, "speech"), True)
    of_anna = [clip for clip in held_out if clip.group == "anna"]
    assert len(of_anna) == 2 and all(clip.length == -1 for clip in of_anna)
    (of_ben,) = (clip for clip in held_out if clip.group == "ben")
    assert of_ben.start == 14_400


@pytest.mark.parametrize("above", ["", "LibriSpeech/train-clean-100"])
def test_a_speaker_is_a_folder_of_the_first_level(above: str, tmp_path: Path):
    """Chapters of one speaker are not several speakers: she would be on both sides."""
    for speaker in range(5):
        for chapter in range(3):
            written(tmp_path / above / f"s{speaker}" / f"c{chapter}" / "a.wav")
    clips = list_clips(tmp_path, "speech")
    groups = [{Path(clip.group).name for clip in half(clips, side)} for side in (False, True)]
    assert groups[0] | groups[1] == {f"s{n}" for n in range(5)}
    assert len(groups[1]) == 1 and not groups[0] & groups[1]


COLUMNS = "file\tstart\tsamples\tsource\tspeaker\tsplit\n"


def test_an_index_is_read_as_it_was_meant(tmp_path: Path):
    rows = '"Yes" she said.wav\t0\t10\tmine\tann\ttrain\nb.wav\t5\t-1\tmine\tann\tvalid\n'
    (tmp_path / "index.TSV").write_text("\ufeff" + COLUMNS + rows, encoding="utf-8")
    assert list_clips(tmp_path / "index.TSV", "speech") == [
        Clip(tmp_path / '"Yes" she said.wav', 0, 10, "mine", "mine/ann", valid=False),
        Clip(tmp_path / "b.wav", 5, -1, "mine", "mine/ann", valid=True),
    ]


def test_an_index_with_what_no_name_holds_is_refused(tmp_path: Path):
    (tmp_path / "index.tsv").write_text(COLUMNS + "a\0.wav\t0\t10\tmine\tann\ttrain\n")
    with pytest.raises(UserError, match=r"index\.tsv"):
        list_clips(tmp_path / "index.tsv", "speech")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.wav\t0\t10", "not as many columns"),
        ("a.wav\t0\t10\tmine\tann\ttrain\tmore", "not as many columns"),
        ("\t0\t10\tmine\tann\ttrain", "names no file"),
        ("a.wav\t0\t10\tmine\tann\ttest", "split is 'test': give train or valid"),
        ("a.wav\t0\t10\tmine\tann\t", "split is ''"),
        ("a.wav\t0\tten\tmine\tann\ttrain", "samples 'ten' is no whole number"),
        ("a.wav\t-5\t10\tmine\tann\ttrain", "start -5 and samples 10"),
        ("a.wav\t0\t0\tmine\tann\ttrain", "start 0 and samples 0"),
    ],
)
def test_a_row_that_is_none_is_named(row: str, words: str, tmp_path: Path):
    good = "a.wav\t0\t10\tmine\tann\ttrain\n"
    (tmp_path / "index.tsv").write_text(COLUMNS + good + row + "\n")
    with pytest.raises(UserError, match=words) as refused:
        list_clips(tmp_path / "index.tsv", "speech")
    assert "index.tsv, line 3: " in str(refused.value) and "\n" not in str(refused.value)
