"""Corpora: clips of speech, noise and rooms, decoded once and kept as one array."""

from __future__ import annotations

import csv
import hashlib
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from ..audio.opening import open_source
from ..errors import UserError
from ..evaluation.recordings import BLOCK, Mono, audio_files, read_mono, read_samples
from ..network.config import SAMPLE_RATE
from ..paths import refuse_url, replacing, user_folder

log = logging.getLogger(__name__)

Random = np.random.Generator
VALID_SHARE = 0.1  # of the speakers and recordings of a folder
MOST_OF_A_GROUP = 4.0  # how often one is drawn at most, over what is its share among equals


@dataclass(frozen=True)
class Clip:
    """A piece of an audio file, and what it belongs to.

    Attributes
    ----------
    path
        The file.
    start, length
        Samples at 16 kHz; a length of -1 reaches to the file's end.
    source
        The collection; training draws from small collections more often than their size says.
    group
        The speaker, or the recording. No group is on both sides of the split.
    valid
        Kept for validation.
    """

    path: Path
    start: int
    length: int
    source: str
    group: str
    valid: bool


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
    names
        Of the sources.
    """

    samples: NDArray[np.int16]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    sources: NDArray[np.int64]
    groups: NDArray[np.int64]
    odds: NDArray[np.float64]
    names: tuple[str, ...] = ()

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
        parts = (self.lengths.tobytes(), self.odds.tobytes(), few.tobytes())
        return hashlib.sha256(b"".join(parts)).hexdigest()

    @property
    def recordings(self) -> str:
        """Likewise, but the same however often each one is drawn."""
        return replace(self, odds=self.odds[:0]).fingerprint

    def clip(self, number: int) -> Mono:
        """One clip as float32 in -1...1."""
        start = self.starts[number]
        samples = self.samples[start : start + self.lengths[number]]
        return samples.astype(np.float32) / np.float32(32768)

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


def list_clips(path: Path, kind: str) -> list[Clip]:
    """The clips that a folder of audio files, or an index of clips, names.

    Parameters
    ----------
    path
        A file of audio. Or a folder, searched in depth: its first-level folders are sources; a file
        of speech belongs to the speaker whose name its folder bears, if there are several folders;
        every other file is a group of its own. `VALID_SHARE` of the groups is for validation, of
        such as can be read and hold sound; of a single group it is the end of every file. Or a
        ``.tsv`` with the columns ``file start samples source split`` and ``speaker`` or
        ``recording``.
    kind
        ``"speech"`` or ``"noise"``.

    Raises
    ------
    UserError
        There is no such folder, or no audio in it.
    """
    if path.is_file() and path.suffix == ".tsv":
        return _clips_of_index(path)
    refuse_url(path)
    if not path.exists():
        raise UserError(f"no {kind} found: there is no {path}")
    files = [path] if path.is_file() else audio_files(path)
    if not files:
        raise UserError(f"no {kind} found: there are no audio files in {path}")
    if len(files) == 1:
        log.warning("all %s is in one file, %s: its end is held out to validate", kind, path)
    by_folder = kind == "speech" and len({file.parent for file in files}) > 1
    grouped: dict[str, list[Path]] = {}
    for file in files:
        group = (file.parent if by_folder else file).relative_to(path).as_posix()
        grouped.setdefault(group, []).append(file)
    if len(grouped) == 1:
        return [clip for file in files for clip in _split_by_time(file)]
    shuffled = sorted(grouped, key=lambda group: hashlib.sha256(os.fsencode(group)).digest())
    with_sound = (group for group in shuffled if any(map(_has_sound, grouped[group])))
    held_out = set(islice(with_sound, math.ceil(VALID_SHARE * len(shuffled))))
    return [
        Clip(file, 0, -1, _first_folder(file, path), group, group in held_out)
        for group, members in grouped.items()
        for file in members
    ]


def list_all_clips(paths: Sequence[Path], kind: str) -> list[Clip]:
    """The clips of several folders and indexes; folders share no group, whatever their names."""
    clips = []
    for path in paths:
        found = list_clips(path, kind)
        if len(paths) > 1 and path.suffix != ".tsv":
            found = [replace(clip, group=f"{path.as_posix()}/{clip.group}") for clip in found]
        clips += found
    return clips


def _has_sound(file: Path) -> bool:
    """Whether a file can be read and is not silent: it is read until it is not."""
    try:
        return any(block.any() for block in open_source(str(file)).blocks(BLOCK))
    except UserError:
        return False


def _first_folder(file: Path, root: Path) -> str:
    first, *rest = file.relative_to(root).parts
    return first if rest else ""


def _split_by_time(file: Path) -> list[Clip]:
    source = open_source(str(file))
    length = source.length
    if length is None or not source.is_certain:
        length = len(read_samples(file)[0])
    cut = int(length * SAMPLE_RATE / source.sample_rate * (1 - VALID_SHARE))
    return [
        Clip(file, 0, cut, "", file.name, valid=False),
        Clip(file, cut, -1, "", file.name, valid=True),
    ]


def _clips_of_index(path: Path) -> list[Clip]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                Clip(
                    path.parent / row["file"],
                    int(row["start"]),
                    int(row["samples"]),
                    row["source"],
                    f"{row['source']}/{row.get('speaker') or row['recording']}",
                    row["split"] == "valid",
                )
                for row in csv.DictReader(file, delimiter="\t")
            ]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(
            f"{path} is not an index of clips: it needs the tab-separated columns file, start, "
            f"samples, source, split, and speaker or recording ({error!r})"
        ) from None


def load_corpus(
    clips: Sequence[Clip], cache_dir: Path | None = None, log: Callable[[str], None] = print
) -> Corpus:
    """Decode clips, or map what an earlier call decoded.

    Raises
    ------
    UserError
        There are no clips, none can be read, or the cache cannot be written.
    """
    if not clips:
        raise UserError(
            "there are no clips to load: an index needs rows whose split is 'valid', and others"
        )
    folder = cache_dir or user_folder(user_cache_path, "XDG_CACHE_HOME") / "corpora"
    digest = hashlib.sha256()
    for clip in clips:
        stat = clip.path.stat() if clip.path.exists() else None
        fingerprint = (str(clip.path.resolve()), stat and (stat.st_size, stat.st_mtime_ns))
        digest.update(repr((fingerprint, clip.start, clip.length)).encode())
    cached = folder / f"{digest.hexdigest()[:16]}.npz"
    if not cached.exists():
        _decode_all(clips, cached, log)
    table = np.load(cached)
    samples = np.load(cached.with_suffix(".npy"), mmap_mode="r")
    kept = table["lengths"] > 0
    starts, lengths = table["starts"][kept], table["lengths"][kept]
    names, sources = np.unique([clip.source for clip in clips], return_inverse=True)
    sources = sources[kept]
    groups = np.unique([clip.group for clip in clips], return_inverse=True)[1][kept]
    # A source counts by the square root of its size, and within a source a clip by its length.
    odds = lengths / np.sqrt(np.bincount(sources, lengths)[sources])
    return Corpus(samples, starts, lengths, sources, groups, odds, tuple(map(str, names)))


def load_joined(
    own: Sequence[Clip],
    original: Sequence[Clip],
    share: float,
    log: Callable[[str], None] = print,
) -> Corpus:
    """Two sets of clips as one corpus, of which `own` are drawn with a probability of `share`."""
    mark = "own/"
    corpus = load_corpus(
        [*(replace(clip, source=mark + clip.source) for clip in own), *original], log=log
    )
    is_own = np.array([name.startswith(mark) for name in corpus.names])[corpus.sources]
    return corpus if is_own.all() or not is_own.any() else corpus.favour(is_own, share)


def rehearsal(kind: str) -> Path:
    """The index of a small sample of what the shipped model was trained on, in the package."""
    return Path(__file__).parent / "rehearsal" / f"{kind}.tsv"


def _decode_all(clips: Sequence[Clip], target: Path, log: Callable[[str], None]) -> None:
    files = list(dict.fromkeys(clip.path for clip in clips))
    log(f"decoding {len(files)} files into {target.parent} (once)")
    starts, lengths = np.zeros((2, len(clips)), np.int64)
    of_file: dict[Path, list[int]] = {}
    for number, clip in enumerate(clips):
        of_file.setdefault(clip.path, []).append(number)
    pieces, position = [], 0
    for file in files:
        try:
            audio = read_mono(file)
        except UserError as error:
            log(f"left out: {error}")
            continue
        for number in of_file[file]:
            clip = clips[number]
            end = len(audio) if clip.length < 0 else clip.start + clip.length
            piece = audio[clip.start : end]
            # A file louder than full scale is turned down rather than clipped.
            piece = piece / max(1.0, float(np.abs(piece).max(initial=0)))
            pieces.append(np.round(piece * 32767).astype(np.int16))
            starts[number], lengths[number] = position, len(piece)
            position += len(piece)
    if position == 0:
        raise UserError(f"none of the {len(files)} files beside {files[0]} can be read as audio")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # Other processes may do the same meanwhile; the index, by which it is found, comes last.
        with replacing(target.with_suffix(".npy")) as path, path.open("wb") as array:
            np.save(array, np.concatenate(pieces))
        with replacing(target) as path, path.open("wb") as index:
            np.savez(index, starts=starts, lengths=lengths)
    except OSError as error:
        raise UserError(f"cannot keep decoded audio in {target.parent}: {error}") from None


def load_responses(folder: Path | None) -> list[Mono]:
    """All impulse responses of a folder, each scaled so that its largest sample is 1."""
    if folder is None:
        return []
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    files = audio_files(folder)
    if not files:
        raise UserError(f"there are no audio files in {folder}")
    responses = [read_mono(file) for file in files]
    return [response / np.abs(response).max() for response in responses if response.any()]
