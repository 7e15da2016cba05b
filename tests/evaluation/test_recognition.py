"""Word errors: how they are counted and shown, and a small but real Whisper from the command."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.places import PROJECT
from support.whisper import WORDS, write_whisper
from typer.testing import CliRunner

pytest.importorskip("faster_whisper", reason="the extra 'asr' is not installed")
pytest.importorskip("jiwer", reason="the extra 'asr' is not installed")
pytest.importorskip("whisper_normalizer", reason="the extra 'asr' is not installed")
pytest.importorskip("pesq", reason="the extra 'asr' is not installed")

from gtcrn_cli.cli import app
from gtcrn_cli.errors import MissingExtraError, UserError
from gtcrn_cli.evaluation import recognition, scoring
from gtcrn_cli.evaluation.judging import Trial, TrialResult, judge
from gtcrn_cli.evaluation.recognition import (
    ASR,
    PIECE,
    Heard,
    Listener,
    Recognition,
    Whisper,
    normaliser,
    word_errors,
)
from gtcrn_cli.evaluation.scoring import Mean

RATE = 16_000


class Fake:
    """Hears a word for each second that is loud enough, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str | None]] = []

    def transcribe(self, samples: np.ndarray, language: str | None) -> Heard:
        self.asked.append((len(samples), language))
        seconds = samples[: len(samples) // RATE * RATE].reshape(-1, RATE)
        loud = np.abs(seconds).max(axis=1) > 0.1
        return Heard(" ".join("word" if one else "hum" for one in loud), language or "en")


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture
def pair(tmp_path: Path, clean: np.ndarray, noisy: np.ndarray) -> Path:
    """Two recordings, of which one has a text."""
    for kind, samples in (("noisy", noisy), ("clean", clean)):
        (tmp_path / kind).mkdir()
        for name, length in (("one", 3 * RATE), ("two", 2 * RATE)):
            soundfile.write(tmp_path / kind / f"{name}.wav", samples[:length], RATE)
    (tmp_path / "clean" / "two.txt").write_text("Cat, dog & BIRD.\n", "utf-8")
    return tmp_path


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["evaluate", "--no-dnsmos", "-j", "1", *map(str, words)])
    if isinstance(result.exception, UserError):
        return str(result.exception)
    assert result.exit_code == code, result.output
    return result.output


def test_words_are_counted_as_the_field_does():
    english, other, chinese = normaliser("en"), normaliser("de"), normaliser("zh")
    assert english("Um, Mr. Hale DIDN'T pay twenty pounds for colour!") == english(
        "mister hale did not pay 20 pounds for color"
    )
    assert other("Über, den  FLUSS!").split() == ["über", "den", "fluss"]
    assert len(chinese("今天天气").split()) == 4
    assert word_errors("the cat sat on the mat", "the bat sat on mat now") == 3
    assert word_errors("", "two words") == 2 and word_errors("two words", "") == 2


def test_the_total_is_of_all_words_and_not_the_mean_of_files():
    """A long file with one error and a short one with as many: 2 of 102, not (.01 + .5) / 2."""
    rate = Mean.of_ratio([1, 1], [100, 2])
    assert rate.value == pytest.approx(2 / 102) and rate.count == 2
    # By hand: residues 1 - 100 r and 1 - 2 r; Student's t of one degree is 12.706.
    residues = np.array([1 - 100 * rate.value, 1 - 2 * rate.value])
    by_hand = 12.7062 * math.sqrt(2 * np.sum(residues**2)) / 102
    assert rate.margin == pytest.approx(by_hand, rel=1e-4)
    assert Mean.of_ratio([3], [0]).count == 0


def results() -> list[TrialResult]:
    first = Recognition(
        "a b c d", True, {"noisy": "A b", "enhanced": "a b c", "clean": "a b c d"},
        {"noisy": 2, "enhanced": 1, "clean": 0}, 4,
    )  # fmt: skip
    second = Recognition(
        "a b", False, {"noisy": "x", "enhanced": "a b", "clean": "a b"},
        {"noisy": 2, "enhanced": 0}, 2,
    )  # fmt: skip
    return [
        TrialResult("one", {"STOI": 0.5}, {"STOI": 0.75}, recognition=first),
        TrialResult("two", {"STOI": 0.7}, {"STOI": 0.85}, recognition=second),
    ]


def test_every_format_has_the_files_and_the_total():
    text = scoring.as_markdown(results())
    row = next(line for line in text.splitlines() if line.startswith("| WER"))
    cells = [cell.strip().split(" ")[0] for cell in row.strip("|").split("|")]
    assert cells == ["WER", "0.667", "0.167", "0.000", "2"]
    assert "all 6 words of the text beside 1 clean files and what was heard in 1" in text

    rows = list(csv.DictReader(scoring.as_csv(results()).splitlines()))
    assert [row["enhanced WER"] for row in rows] == ["0.2500", "0.0000"]
    assert [row["clean WER"] for row in rows] == ["0.0000", ""]
    assert [row["words from"] for row in rows] == ["text", "clean"]
    total = sum(int(row["noisy word errors"]) for row in rows)
    assert total / sum(int(row["words"]) for row in rows) == pytest.approx(4 / 6)

    report = json.loads(scoring.as_json(results()))
    assert report["means"]["WER"]["noisy"]["mean"] == pytest.approx(4 / 6, abs=1e-4)
    assert report["means"]["WER"]["clean"] == {"mean": 0.0, "margin": None, "files": 1}
    one = report["files"][1]["recognition"]
    assert one["WER"] == {"noisy": 1.0, "enhanced": 0.0, "clean": None}
    assert one["heard"]["noisy"] == "x" and one["said"] == "a b"


def test_without_a_recogniser_nothing_changes():
    plain = [TrialResult("a", {"STOI": 0.5}, {"STOI": 0.75})]
    for text in (scoring.as_markdown(plain), scoring.as_csv(plain), scoring.as_json(plain)):
        assert "WER" not in text and "clean" not in text


def test_long_recordings_are_heard_in_pieces_cut_in_a_pause():
    """No piece is longer than the recogniser hears, and all of the sound is in one."""
    clean = np.full(75 * RATE, 0.5, np.float32)
    clean[22 * RATE : 23 * RATE] = 0  # a pause of a second
    fake = Fake()
    listener = Listener(fake)
    for window in np.split(clean, 15):
        listener.add([window, window, window])
        assert sum(map(len, listener._held)) <= 3 * (PIECE + len(window))
    heard = listener.recognition(None)
    lengths = [length for length, _ in fake.asked[::3]]
    assert 22 * RATE <= lengths[0] <= 23 * RATE
    assert sum(lengths) == len(clean) and max(lengths) <= PIECE
    assert heard.words == sum(length // RATE for length in lengths)
    assert heard.errors == {"noisy": 0, "enhanced": 0}
    # The clean one is heard first, and its language is that of all.
    assert [language for _, language in fake.asked[:4]] == [None, "en", "en", "en"]


def test_a_recogniser_goes_on_after_a_pause(whisper: Path, monkeypatch: pytest.MonkeyPatch):
    """Whisper may end there. It goes on from the last time that it told: it has to tell times."""
    from faster_whisper import WhisperModel

    asked: dict[str, object] = {}
    transcribe = WhisperModel.transcribe

    def noted(self: WhisperModel, samples: np.ndarray, **options: object) -> object:
        asked.update(options)
        return transcribe(self, samples, **options)

    monkeypatch.setattr(WhisperModel, "transcribe", noted)
    Whisper(ASR(whisper, "en")).transcribe(np.zeros(RATE, np.float32), None)
    assert asked["without_timestamps"] is False


def test_a_text_beside_the_clean_file_is_what_counts(pair: Path):
    trials = scoring.find_trials(pair / "noisy", pair / "clean", pair / "clean")
    assert [trial.name for trial in trials] == ["one", "two"]
    heard = [judge(trial, None, False, recogniser=Fake()).recognition for trial in trials]
    assert heard[0] is not None and not heard[0].from_text
    assert heard[0].errors["enhanced"] == 0  # it is the clean one
    assert heard[1] is not None and heard[1].from_text and heard[1].said == "cat dog bird"
    assert heard[1].words == 3 and heard[1].errors["clean"] == 3
    (pair / "clean" / "two.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"two\.txt is not text in UTF-8"):
        judge(trials[1], None, False, recogniser=Fake())


def test_what_is_no_whisper_is_said_in_a_line(pair: Path, whisper: Path, tmp_path: Path):
    sounds = (pair / "noisy", pair / "clean")
    assert "nothing is downloaded" in run(*sounds, "--asr", "base")
    folder = tmp_path / "model"
    folder.mkdir()
    said = run(*sounds, "--asr", folder)
    assert "lacks model.bin, config.json, tokenizer.json, vocabulary.txt or" in said
    shutil.copytree(whisper, folder, dirs_exist_ok=True)
    (folder / "tokenizer.json").unlink()
    assert "lacks tokenizer.json: " in run(*sounds, "--asr", folder)
    shutil.copy(whisper / "tokenizer.json", folder)
    (folder / "model.bin").write_bytes(b"")
    said = run(*sounds, "--asr", folder)
    assert "holds no Whisper in the form of CTranslate2: " in said and "\n" not in said
    said = run(*sounds, "--asr", whisper, "--asr-language", "xx")
    assert "does not know the language 'xx' but en" in said
    more = write_whisper(tmp_path / "large", bands=128)
    assert "lacks the preprocessor_config.json" in run(*sounds, "--asr", more)


def test_options_that_lack_another_are_refused(pair: Path, whisper: Path):
    assert "--asr needs CLEAN" in run(pair / "noisy", "--dnsmos", "--asr", whisper, code=2)
    said = run(pair / "noisy", pair / "clean", "--asr-language", "en", code=2)
    assert "--asr-language is for --asr" in said


def test_a_missing_extra_is_named(whisper: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recognition, "find_spec", lambda package: None)
    with pytest.raises(MissingExtraError, match=r"gtcrn-cli\[asr\]"):
        Whisper(ASR(whisper))


def test_the_network_is_not_asked(
    whisper: Path, clean: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*arguments: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    recogniser = Whisper(ASR(whisper))
    once = recogniser.transcribe(clean[:, 0], None)
    assert once.language == "en" and once.text and set(once.text.split()) <= set(WORDS)
    assert recogniser.transcribe(clean[:, 0], None) == once


@pytest.mark.slow
def test_the_command_counts_words_and_leaves_out_what_it_cannot(pair: Path, whisper: Path):
    shutil.copy(pair / "noisy" / "two.wav", pair / "noisy" / "three.wav")
    shutil.copy(pair / "clean" / "two.wav", pair / "clean" / "three.wav")
    (pair / "clean" / "three.txt").write_bytes(b"\xff\xfe\x00")
    target = pair / "scores.json"
    words = ["evaluate", "noisy", "clean", "--no-dnsmos", "--enhanced", "clean"]
    more = ["--asr", str(whisper), "-j", "1", "-o", str(target)]
    ended = subprocess.run(
        [sys.executable, "-m", "gtcrn_cli", *words, *more],
        cwd=pair, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr == "gtcrn: not judged: clean/three.txt is not text in UTF-8\n"
    report = json.loads(target.read_text("utf-8"))
    assert [file["file"] for file in report["files"]] == ["one", "two"]
    one, two = (file["recognition"] for file in report["files"])
    assert one["words_from"] == "clean" and one["words"] > 0
    assert one["errors"]["enhanced"] == 0 and one["heard"]["enhanced"] == one["heard"]["clean"]
    assert two["words_from"] == "text" and two["errors"]["clean"] == two["errors"]["enhanced"]
    total = sum(one["errors"]["enhanced"] for one in (one, two)) / (one["words"] + two["words"])
    assert report["means"]["WER"]["enhanced"]["mean"] == pytest.approx(total, abs=1e-4)


def test_a_trial_without_a_clean_one_is_not_heard(pair: Path):
    path = pair / "noisy" / "one.wav"
    fake = Fake()
    assert judge(Trial("one", path, None, path), None, False, recogniser=fake).recognition is None
    assert not fake.asked
