"""What there is to train on: the clips that a folder or an index names, and which are held out."""

from __future__ import annotations

import csv
import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..audio.opening import open_source
from ..errors import UserError
from ..evaluation.recordings import Mono, audio_files, mono_blocks
from ..paths import refuse_url

log = logging.getLogger(__name__)

VALID_SHARE = 0.1  # of the speakers and recordings of a folder
# Of which some are held out whole. A voice that was never heard is worth much to validate with.
FEWEST = {"speech": 4, "noise": 10}
MOST_LISTENED_TO = 50  # of groups, to know whether they hold sound; where there are more, a fifth
FAINTEST = 0.5 / 32767  # the peak of what 16 bits can tell from silence
GLANCE = 4096  # samples read at once until one is not silent
SHORTEST = 1600  # samples at 16 kHz that are split
COLUMNS = ("file", "start", "samples", "source", "split")  # of an index; and one of the next
GROUPS = ("speaker", "recording")


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
        The speaker, or the recording. No group is on both sides of the split, unless there are so
        few that each is split by time.
    valid
        Kept for validation.
    """

    path: Path
    start: int
    length: int
    source: str
    group: str
    valid: bool


def list_clips(path: Path, kind: str) -> list[Clip]:
    """The clips that a folder of audio files, or an index of clips, names.

    Parameters
    ----------
    path
        A file of audio. Or a folder, searched in depth: its first-level folders are sources, and,
        of speech, speakers, if there are several (in a folder that holds but one other, it is
        that one's); every other file is a group of its own. `VALID_SHARE` of the groups is for
        validation, of such as can be read and hold sound; of fewer than `FEWEST` it is the
        end of each. Or a ``.tsv`` with the columns ``file start samples source split`` and
        ``speaker`` or ``recording``.
    kind
        ``"speech"`` or ``"noise"``.

    Raises
    ------
    UserError
        There is no such folder, or no audio in it, or none that holds sound; or the index is none.
    """
    if _is_index(path):
        return _clips_of_index(path)
    refuse_url(path)
    if not path.exists():
        raise UserError(f"no {kind} found: there is no {path}")
    files = [path] if path.is_file() else audio_files(path)
    if not files:
        raise UserError(f"no {kind} found: there are no audio files in {path}")
    grouped: dict[str, list[Path]] = {}
    for file, group in zip(files, _groups(files, path, kind), strict=True):
        grouped.setdefault(group, []).append(file)
    found, held_out = _spare(grouped, lambda group: any(map(_has_sound, grouped[group])))
    if not found:
        raise UserError(f"no {kind} found: nothing in {path} can be read as audio and holds sound")
    if len(found) < FEWEST[kind]:
        return list(_split_few(path, kind, grouped, found))
    what = _counted(len(grouped), kind)
    log.info("%s in %s is of %s: %d held out to validate", kind, path, what, len(held_out))
    return [
        Clip(file, 0, -1, _source(file, path), group, group in held_out)
        for group, members in grouped.items()
        for file in members
    ]


def list_all_clips(paths: Sequence[Path], kind: str) -> list[Clip]:
    """The clips of several folders and indexes; folders share no group, whatever their names."""
    clips = []
    for path in paths:
        found = list_clips(path, kind)
        if len(paths) > 1 and not _is_index(path):
            found = [replace(clip, group=f"{path.as_posix()}/{clip.group}") for clip in found]
        clips += found
    return clips


def _is_index(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() == ".tsv"


def rehearsal(kind: str) -> Path:
    """The index of a small sample of what the shipped model was trained on, in the package."""
    return Path(__file__).parent / "rehearsal" / f"{kind}.tsv"


def half(clips: Sequence[Clip], held_out: bool) -> list[Clip]:
    """Those to validate with, or those to train on."""
    return [clip for clip in clips if clip.valid == held_out]


def _groups(files: Sequence[Path], root: Path, kind: str) -> Iterator[str]:
    """The speaker or the recording that each file belongs to."""
    # A collection may come in a folder in a folder: the first level is where there are several.
    first = Path(os.path.commonpath([file.parent for file in files]))
    by_folder = kind == "speech" and any(file.parent != first for file in files)
    for file in files:
        member = first / _first_folder(file, first) if by_folder else file
        yield member.relative_to(root).as_posix()


def _first_folder(file: Path, root: Path) -> str:
    first, *rest = file.relative_to(root).parts
    return first if rest else ""


def _counted(count: int, kind: str) -> str:
    what = "speaker" if kind == "speech" else "recording"
    return f"{count} {what}{'s' if count > 1 else ''}"


def _source(file: Path, root: Path) -> str:
    return "" if file == root else _first_folder(file, root)


Name = TypeVar("Name", str, Path)


def _spare(
    names: Iterable[Name], has_sound: Callable[[Name], bool]
) -> tuple[list[Name], set[Name]]:
    """Those that hold sound, in an order that their names give; and a tenth of them."""
    shuffled = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    share = math.ceil(VALID_SHARE * len(shuffled))
    # In large collections what is silent among the rest is no matter, and to look costs time.
    enough = max(MOST_LISTENED_TO, 2 * share)
    found = list(islice(filter(has_sound, shuffled), enough))
    if len(found) < enough:
        share = math.ceil(VALID_SHARE * len(found))
    return found, set(found[:share])


def _has_sound(file: Path) -> bool:
    """Whether a file can be read and is not silent: it is read until it is not."""
    try:
        blocks = open_source(str(file)).blocks(GLANCE)
        return any(len(_loud(block.mean(axis=1))) for block in blocks)
    except (UserError, OSError):
        return False


def _loud(samples: Mono) -> NDArray[np.int64]:
    """Where there is sound; what is no number is none."""
    level = np.abs(samples)
    return np.flatnonzero((level >= FAINTEST) & (level < np.inf))


def _split_few(
    path: Path, kind: str, grouped: dict[str, list[Path]], with_sound: Sequence[str]
) -> Iterator[Clip]:
    """Of every speaker or recording a part to train on, and about a tenth to validate with.

    To hold one out whole would leave too little. A tenth of the files, or the end of each.
    """
    if len(grouped) == 1 and len(next(iter(grouped.values()))) == 1:
        log.warning("all %s is in one file, %s: its end is held out to validate", kind, path)
    else:
        what, part = _counted(len(with_sound), kind), "a part of each is held out to validate"
        log.warning("%s in %s is of %s only: %s", kind, path, what, part)
    for group, members in grouped.items():
        found, held_out = _spare(members, _has_sound)
        by_file = len(found) * VALID_SHARE >= 1
        for file in members:
            source = _source(file, path)
            if by_file or file not in found:  # one without sound is named when it is decoded
                yield Clip(file, 0, -1, source, group, by_file and file in held_out)
                continue
            end, begin = _cut(file)
            yield Clip(file, 0, end, source, group, valid=False)
            yield Clip(file, begin, -1, source, group, valid=True)


def _cut(file: Path) -> tuple[int, int]:
    """Where a file ends to train on, and begins to validate with, in samples at 16 kHz.

    Its last tenth; there is sound in both. A single click cannot be parted, and is in both.
    """
    first = last = position = 0
    for block in mono_blocks(file):
        loud = _loud(block)
        if len(loud):
            first = first if last else position + int(loud[0])
            last = position + int(loud[-1]) + 1
        position += len(block)
    if last - first < SHORTEST:
        return -1, 0
    cut = first + int((last - first) * (1 - VALID_SHARE))
    return cut, cut


def _clips_of_index(path: Path) -> list[Clip]:
    """The rows of an index.

    Raises
    ------
    UserError
        It cannot be read, lacks a column, or has a row that is none; the message names the row.
    """
    try:
        # Names that begin with a quote mean it, and names that are no text are names, too.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            columns = set(rows.fieldnames or ())
            missing = [name for name in COLUMNS if name not in columns]
            if not columns.intersection(GROUPS):
                missing.append(" or ".join(GROUPS))
            if missing:
                raise UserError(
                    f"{path} is not an index of clips: it needs the tab-separated columns file, "
                    f"start, samples, source, split, and speaker or recording, and lacks "
                    f"{', '.join(missing)}"
                )
            return [_clip_of_row(row, f"{path}, line {rows.line_num}", path) for row in rows]
    except (OSError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as an index of clips: {error}") from None


def _clip_of_row(row: dict[Any, Any], where: str, index: Path) -> Clip:
    if None in row or None in row.values():
        raise UserError(f"{where}: it has not as many columns as the first line")
    if not row["file"] or "\0" in row["file"]:
        raise UserError(f"{where}: it names no file")
    if row["split"] not in ("train", "valid"):
        raise UserError(f"{where}: its split is {row['split']!r}: give train or valid")
    numbers = {}
    for name in ("start", "samples"):
        try:
            numbers[name] = int(row[name])
        except ValueError:
            raise UserError(f"{where}: its {name} {row[name]!r} is no whole number") from None
    start, length = numbers["start"], numbers["samples"]
    if start < 0 or not (length > 0 or length == -1):
        raise UserError(
            f"{where}: start {start} and samples {length}: give 0 or more, and 1 or more (or -1: "
            "to the end)"
        )
    return Clip(
        index.parent / row["file"],
        start,
        length,
        row["source"],
        f"{row['source']}/{row.get('speaker') or row.get('recording') or ''}",
        row["split"] == "valid",
    )
