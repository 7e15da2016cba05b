"""Corpora: clips of speech, noise and rooms, decoded once and kept as one array."""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from os import R_OK, access
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from ..audio import ffmpeg
from ..errors import UserError
from ..evaluation.recordings import Mono, audio_files, read_mono
from ..network.config import SAMPLE_RATE
from ..paths import remove_unused, replacing, user_folder
from .clips import FAINTEST, Clip

log = logging.getLogger(__name__)

Random = np.random.Generator
MOST_OF_A_GROUP = 4.0  # how often one is drawn at most, over what is its share among equals
QUIET = 1 / 16  # of full scale: what peaks below is kept at a larger scale, as 16 bits are few
LAYOUT = 2  # of what is kept
OURS = re.compile(r"[0-9a-f]{16}\.np[yz]")


@dataclass(frozen=True)
class Corpus:
    """Decoded clips.

    Attributes
    ----------
    samples
        int16 ``[N]``, all clips one after the other.
    starts, lengths, sources, groups
        int64 ``[clips]``: where each one lies, and the numbers of its source and its group.
    odds
        float64 ``[clips]``, how often each one is drawn, up to a factor.
    gains
        float32 ``[clips]``, at most 1: what turns the samples of each one down to its own level.
    names
        Of the sources.
    """

    samples: NDArray[np.int16]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    sources: NDArray[np.int64]
    groups: NDArray[np.int64]
    odds: NDArray[np.float64]
    gains: NDArray[np.float32]
    names: tuple[str, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process maps the samples, too, where they are those of a file."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        samples = self.samples
        if isinstance(samples, np.memmap) and isinstance(samples.base, mmap.mmap):
            values["samples"] = Path(str(samples.filename))
        return _corpus_of, (values,)

    @cached_property
    def _cumulated(self) -> NDArray[np.float64]:
        total = np.cumsum(self.odds)
        return total / total[-1]

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def hours(self) -> float:
        """Hours of audio in all clips."""
        return float(self.lengths.sum() / SAMPLE_RATE / 3600)

    @property
    def fingerprint(self) -> str:
        """Differs for other recordings, wherever they lie; a few of the samples stand for all."""
        few = self.samples[:: max(1, len(self.samples) >> 16)]
        parts = [self.lengths.tobytes(), self.odds.tobytes(), few.tobytes()]
        if (self.gains != 1).any():
            parts.append(self.gains.tobytes())
        return hashlib.sha256(b"".join(parts)).hexdigest()

    @property
    def recordings(self) -> str:
        """Likewise, but the same however often each one is drawn."""
        return replace(self, odds=self.odds[:0]).fingerprint

    def clip(self, number: int) -> Mono:
        """One clip as float32 in -1...1."""
        start = self.starts[number]
        samples = self.samples[start : start + self.lengths[number]]
        return samples.astype(np.float32) * (self.gains[number] / np.float32(32768))

    def draw(self, random: Random) -> int:
        """The number of a random clip."""
        return int(np.searchsorted(self._cumulated, random.random(), side="right"))

    def favour(self, clips: NDArray[np.bool_], share: float) -> Corpus:
        """The same corpus, where these clips are drawn with a probability of `share` together."""
        inside, outside = self.odds[clips].sum(), self.odds[~clips].sum()
        odds = np.where(clips, self.odds * share / inside, self.odds * (1 - share) / outside)
        return replace(self, odds=odds)

    def levelled(self) -> Corpus:
        """The same corpus, where no voice is heard more than `MOST_OF_A_GROUP` times its share.

        A collection that is one voice would else be drawn as often as another with hundreds.
        """
        drawn = np.bincount(self.groups, self.odds)
        before = drawn / drawn.sum()
        most = MOST_OF_A_GROUP / np.count_nonzero(before)
        share, held = before.copy(), np.zeros(len(before), bool)
        while (above := (share > most * (1 + 1e-9)) & ~held).any():  # what one loses others gain
            held |= above
            share[held] = most
            share[~held] *= (1 - most * held.sum()) / share[~held].sum()
        change = np.divide(share, before, out=np.zeros_like(share), where=before > 0)
        return replace(self, odds=self.odds * change[self.groups])

    def draw_beside(self, number: int, random: Random, same: str = "groups") -> int:
        """The number of a random clip of the same group (or source)."""
        members = self._members[same][getattr(self, same)[number]]
        return int(members[random.integers(len(members))])

    @cached_property
    def _members(self) -> dict[str, list[NDArray[np.int64]]]:
        """The clips of every group, and of every source."""
        return {
            same: [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
            for same, labels in (("groups", self.groups), ("sources", self.sources))
        }


def _corpus_of(values: dict[str, Any]) -> Corpus:
    if isinstance(values["samples"], Path):
        values = {**values, "samples": np.load(values["samples"], mmap_mode="r")}
    return Corpus(**values)


@dataclass(frozen=True)
class Corpora:
    """All that a mixture is made of. Rooms and microphones may be empty."""

    speech: Corpus
    noise: Corpus
    rooms: Sequence[Mono] = ()
    microphones: Sequence[Mono] = ()

    @property
    def fingerprints(self) -> dict[str, str]:
        """By what it is of: see `Corpus.fingerprint`, and `Corpus.recordings` of both kinds."""
        spoken, made = self.speech, self.noise
        responses = {"rooms": self.rooms, "microphones": self.microphones}
        return {
            "recordings": f"{spoken.recordings} {made.recordings}",
            "speech": spoken.fingerprint,
            "noise": made.fingerprint,
        } | {
            kind: hashlib.sha256(b"".join(one.tobytes() for one in several)).hexdigest()
            for kind, several in responses.items()
        }


def load_corpus(
    clips: Sequence[Clip], cache_dir: Path | None = None, log: Callable[[str], None] = print
) -> Corpus:
    """Decode clips, or map what an earlier call decoded.

    Raises
    ------
    UserError
        There are no clips, none can be read and holds sound, or the cache cannot be written.
    """
    if not clips:
        raise UserError(
            "there are no clips to load: an index needs rows whose split is 'valid', and others"
        )
    folder = cache_dir or user_folder(user_cache_path, "XDG_CACHE_HOME") / "corpora"
    if removed := remove_unused(folder, OURS):
        log(f"removed {removed} files of {folder}: decoded audio that was unused for 90 days")
    digest = hashlib.sha256(repr((LAYOUT, ffmpeg.is_installed())).encode())
    for clip in clips:
        digest.update(repr((*_state(clip.path), clip.start, clip.length)).encode())
    cached = folder / f"{digest.hexdigest()[:16]}.npz"
    found = _kept(cached)
    if found is None:
        _decode_all(clips, cached, log)
        found = _kept(cached)
    if found is None:
        raise UserError(f"decoded audio in {folder} does not stay as it was written")
    table, samples = found
    for line in json.loads(str(table["notes"])):
        log(line)
    with suppress(OSError):  # of somebody else's cache
        for path in (cached, cached.with_suffix(".npy")):
            path.touch()  # it is in use: see `paths.remove_unused`
    kept = table["lengths"] > 0
    starts, lengths, gains = (table[name][kept] for name in ("starts", "lengths", "gains"))
    names, sources = np.unique([clip.source for clip in clips], return_inverse=True)
    sources = sources[kept]
    groups = np.unique([clip.group for clip in clips], return_inverse=True)[1][kept]
    # A source counts by the square root of its size, and within a source a clip by its length.
    odds = lengths / np.sqrt(np.bincount(sources, lengths)[sources])
    return Corpus(samples, starts, lengths, sources, groups, odds, gains, tuple(map(str, names)))


def load_joined(
    own: Sequence[Clip],
    original: Sequence[Clip],
    share: float,
    log: Callable[[str], None] = print,
    cache_dir: Path | None = None,
) -> Corpus:
    """Two sets of clips as one corpus, of which `own` are drawn with a probability of `share`.

    Raises
    ------
    UserError
        As `load_corpus`; or there are `own` clips, and none of them can be read and holds sound.
    """
    mark = "own/"
    corpus = load_corpus(
        [*(replace(clip, source=mark + clip.source) for clip in own), *original], cache_dir, log
    )
    is_own = np.array([name.startswith(mark) for name in corpus.names])[corpus.sources]
    if own and not is_own.any():
        raise UserError(
            f"nothing of your own is left: none of {len(own)} clips, such as {own[0].path}, can be "
            "read as audio and holds sound"
        )
    return corpus if is_own.all() or not is_own.any() else corpus.favour(is_own, share)


def _state(path: Path) -> tuple[object, ...]:
    """What changes when a file does, or when it can be read all at once."""
    try:
        stat = path.stat()
        return str(path.resolve()), stat.st_size, stat.st_mtime_ns, access(path, R_OK)
    except OSError:  # decoding says what is wrong
        return (str(path),)


def _kept(cached: Path) -> tuple[dict[str, Any], NDArray[np.int16]] | None:
    """The table and the samples that were decoded before, if they are there and whole."""
    try:
        with np.load(cached) as file:
            table = dict(file)
        samples = np.load(cached.with_suffix(".npy"), mmap_mode="r")
        whole = int((table["starts"] + table["lengths"]).max()) == len(samples)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    return (table, samples) if whole else None


def _decode_all(clips: Sequence[Clip], target: Path, log: Callable[[str], None]) -> None:
    files = list(dict.fromkeys(clip.path for clip in clips))
    log(f"decoding {len(files)} files into {target.parent} (once)")
    starts, lengths = np.zeros((2, len(clips)), np.int64)
    gains = np.ones(len(clips), np.float32)
    of_file: dict[Path, list[int]] = {}
    for number, clip in enumerate(clips):
        of_file.setdefault(clip.path, []).append(number)
    pieces, position = [], 0
    notes: list[str] = []  # said at every start
    for file in files:
        try:
            audio = read_mono(file, notes.append)
        except (UserError, OSError) as error:
            notes.append(f"left out: {error}")
            continue
        before = position
        for number in of_file[file]:
            clip = clips[number]
            end = len(audio) if clip.length < 0 else clip.start + clip.length
            piece = audio[clip.start : end]
            peak = float(np.abs(piece).max(initial=0))
            if peak < FAINTEST:
                continue  # silence is no speech and no noise
            full_scale = max(1.0, peak)  # a louder file is turned down rather than clipped
            if peak < QUIET:
                full_scale = gains[number] = 2.0 ** np.frexp(peak)[1]
            pieces.append(np.round(piece / full_scale * 32767).astype(np.int16))
            starts[number], lengths[number] = position, len(piece)
            position += len(piece)
        if position == before:
            notes.append(f"left out: {file} holds no sound where it is to be taken from")
    if position == 0:
        for line in notes:
            log(line)
        raise UserError(
            f"none of the {len(files)} files beside {files[0]} can be read as audio and holds sound"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Other processes may do the same meanwhile; the index, by which it is found, comes last.
        with replacing(target.with_suffix(".npy")) as path, path.open("wb") as array:
            np.save(array, np.concatenate(pieces))
        with replacing(target) as path, path.open("wb") as index:
            said = json.dumps(notes)
            np.savez(index, starts=starts, lengths=lengths, gains=gains, notes=said)
    except OSError as error:
        raise UserError(f"cannot keep decoded audio in {target.parent}: {error}") from None


def load_responses(folder: Path | None) -> list[Mono]:
    """All impulse responses of a folder, each scaled so that its largest sample is 1.

    What cannot be read, or is silent, is left out, and named in the log.

    Raises
    ------
    UserError
        There is no such folder, or nothing in it is left.
    """
    if folder is None:
        return []
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    files = audio_files(folder)
    if not files:
        raise UserError(f"there are no audio files in {folder}")
    responses = []
    for file in files:
        try:
            response = read_mono(file)
        except (UserError, OSError) as error:
            log.warning("left out: %s", error)
            continue
        if not response.any():
            log.warning("left out: %s is silent", file)
            continue
        responses.append(response / np.abs(response).max())
    if not responses:
        raise UserError(f"none of the {len(files)} files in {folder} is a response that sounds")
    return responses
