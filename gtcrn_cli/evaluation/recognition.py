"""How many words a speech recogniser gets wrong: before enhancing, after it, and in clean speech.

The recogniser is any Whisper in the form of CTranslate2, a folder on this machine. It runs on one
core with 8-bit weights, beam search of width 5 and temperature 0 and no text of before, so that the
same sound gives the same words on the same machine. It hears at most 30 s at once: longer
recordings are cut where the clean one is quietest, at the same places before and after enhancing.

Texts are compared as Whisper's authors do (Radford et al. 2022, appendix C): English by their
English normaliser (numbers, contractions, spelling, fillers), other languages by the basic one (no
case, no punctuation); of languages that are written without spaces every letter counts as a word.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import MissingExtraError, UserError
from ..network.config import SAMPLE_RATE
from .recordings import Mono

KINDS = ("noisy", "enhanced", "clean")
PACKAGES = ("ctranslate2", "faster_whisper", "jiwer", "whisper_normalizer")
# faster-whisper would ask the network for a tokenizer that is not there.
FILES = ("model.bin", "config.json", "tokenizer.json")
VOCABULARIES = ("vocabulary.txt", "vocabulary.json")

BEAM = 5
MOST_TOKENS = 224  # in 30 s, as Whisper itself has it: bounds what is heard in a loop
PIECE = 30 * SAMPLE_RATE  # what Whisper hears at once
SHORTEST_PIECE = 15 * SAMPLE_RATE  # of those that are cut
QUIET = SAMPLE_RATE // 10
WITHOUT_SPACES = frozenset({"zh", "yue", "ja", "th", "lo", "my"})


class ASR(NamedTuple):
    """Which recogniser, and in which language it hears; ``None``: as it finds in the clean one."""

    folder: Path
    language: str | None = None


class Heard(NamedTuple):
    """What was heard, and in which language."""

    text: str
    language: str


class Recogniser(Protocol):
    """What turns speech into text."""

    def transcribe(self, samples: Mono, language: str | None) -> Heard:
        """The words of at most `PIECE` samples; the language is found where none is given."""
        ...


@dataclass(frozen=True)
class Recognition:
    """What was heard of one trial, and how much of it is wrong.

    Attributes
    ----------
    said
        The reference as it is compared, normalised.
    from_text
        Whether that was in a text file; otherwise it is what was heard in the clean one.
    heard
        By `KINDS`, as the recogniser wrote it.
    errors
        By `KINDS`: words that are wrong, missing or too many. Of the clean one only where there is
        a text.
    words
        Of the reference.
    """

    said: str
    from_text: bool
    heard: dict[str, str]
    errors: dict[str, int]
    words: int


class Whisper:
    """A Whisper in the form of CTranslate2; never asks the network for anything.

    Raises
    ------
    UserError
        The folder is none, or its Whisper does not know the language.
    MissingExtraError
        faster-whisper, jiwer or whisper-normalizer is not installed.
    """

    def __init__(self, asr: ASR) -> None:
        if any(find_spec(package) is None for package in PACKAGES):
            raise MissingExtraError("counting a recogniser's errors", "asr")
        _require_files(asr.folder)
        from faster_whisper import WhisperModel

        try:
            self._model: Any = WhisperModel(
                str(asr.folder),
                device="cpu",
                compute_type="int8",
                cpu_threads=1,
                local_files_only=True,
            )
        except Exception as error:  # of several kinds: the file's, the tokenizer's, the config's
            reason = str(error).strip().partition("\n")[0]
            raise UserError(
                f"{asr.folder} holds no Whisper in the form of CTranslate2: {reason}"
            ) from None
        bands = self._model.model.n_mels
        if bands != len(self._model.feature_extractor.mel_filters):
            raise UserError(
                f"{asr.folder} lacks the preprocessor_config.json of its Whisper, which hears "
                f"{bands} bands: copy it there from the original model"
            )
        known = self._model.supported_languages
        if asr.language is not None and asr.language not in known:
            raise UserError(
                f"the Whisper in {asr.folder} does not know the language {asr.language!r} but "
                f"{', '.join(known)}"
            )
        self._language = asr.language

    def transcribe(self, samples: Mono, language: str | None) -> Heard:
        """See `Recogniser`."""
        segments, info = self._model.transcribe(
            samples,
            language=self._language or language,
            beam_size=BEAM,
            temperature=0.0,
            condition_on_previous_text=False,
            # Without them Whisper may end at a pause, and what follows is lost: it goes on from
            # the last time that it tells.
            without_timestamps=False,
            max_new_tokens=MOST_TOKENS,
        )
        return Heard(" ".join(segment.text.strip() for segment in segments), info.language)


def whisper_of_worker(asr: ASR) -> Whisper:
    """A Whisper for a process that is ended from outside, and then leaves nothing behind."""
    import tqdm

    whisper = Whisper(asr)
    # faster-whisper has a progress bar even where it shows none, whose lock is one of the system.
    tqdm.tqdm.set_lock(threading.RLock())
    return whisper


def _require_files(folder: Path) -> None:
    what = "--asr takes the folder of a Whisper in the form of CTranslate2"
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: {what}; nothing is downloaded")
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in VOCABULARIES):
        missing.append(" or ".join(VOCABULARIES))
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}: {what}")


class Listener:
    """Hears the signals of one trial in the same pieces, which bounds memory."""

    def __init__(self, recogniser: Recogniser) -> None:
        self._recogniser = recogniser
        self._language: str | None = None
        self._held: list[Mono] = [np.zeros(0, np.float32) for _ in KINDS]
        self._texts: dict[str, list[str]] = {kind: [] for kind in KINDS}

    def add(self, signals: Sequence[Mono]) -> None:
        """Take in what follows of the noisy, enhanced and clean one, all of one length."""
        self._held = [np.concatenate(pair) for pair in zip(self._held, signals, strict=True)]
        while len(self._held[0]) > PIECE:
            self._hear(quiet_place(self._held[-1]))

    def _hear(self, length: int) -> None:
        pieces = {kind: held[:length] for kind, held in zip(KINDS, self._held, strict=True)}
        self._held = [held[length:] for held in self._held]
        for kind in reversed(KINDS):  # the clean one tells the language best
            heard = self._recogniser.transcribe(pieces[kind], self._language)
            self._language = self._language or heard.language
            self._texts[kind].append(heard.text)

    def recognition(self, text: str | None) -> Recognition:
        """Hear the rest, and hold all of it against `text`, or against the clean one."""
        if len(self._held[0]):
            self._hear(len(self._held[0]))
        heard = {kind: " ".join(filter(None, texts)) for kind, texts in self._texts.items()}
        normalised = normaliser(self._language or "")
        said = normalised(heard["clean"] if text is None else text).strip()
        kinds = KINDS if text is not None else KINDS[:2]
        errors = {kind: word_errors(said, normalised(heard[kind])) for kind in kinds}
        return Recognition(said, text is not None, heard, errors, len(said.split()))


def quiet_place(samples: Mono) -> int:
    """The middle of the quietest tenth of a second where a piece may end."""
    parts = samples[SHORTEST_PIECE:PIECE].reshape(-1, QUIET)
    quietest = int(np.square(parts, dtype=np.float64).sum(axis=1).argmin())
    return SHORTEST_PIECE + quietest * QUIET + QUIET // 2


def text_of(clean: Path) -> str | None:
    """What is said in a recording, from the text file beside it, if there is one.

    Raises
    ------
    UserError
        The file is no text.
    """
    path = clean.with_suffix(".txt")
    if not path.is_file():
        return None
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not text in UTF-8") from None


@cache
def normaliser(language: str) -> Callable[[str], str]:
    """What makes texts of a language comparable."""
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    if language == "en":
        return EnglishTextNormalizer()
    return BasicTextNormalizer(split_letters=language in WITHOUT_SPACES)


def word_errors(said: str, heard: str) -> int:
    """Words wrong, missing and too many: the edit distance in words."""
    import jiwer

    counted = jiwer.process_words(said, heard)
    return counted.substitutions + counted.deletions + counted.insertions
