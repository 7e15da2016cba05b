"""Which files a batch is about, where each goes, and what is left to do of it."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, count
from pathlib import Path, PurePosixPath
from posixpath import splitext  # paths here have slashes, and pathlib takes its time
from typing import Any

from ..audio import ffmpeg
from ..audio.formats import FORMAT_OF_EXTENSION, RAW_EXTENSIONS
from ..audio.sniffing import HEADERLESS_ENDINGS
from ..enhancement.enhancer import Settings
from ..errors import UserError
from ..paths import PARTIAL, partial_stem
from .manifest import Manifest, Record
from .outputs import is_sound
from .selection import Selection
from .storage import Found, Skipped, absolute, is_folder, is_url, join, list_files, look_up, remove

SOUND_EXTENSIONS = set(FORMAT_OF_EXTENSION) - set(RAW_EXTENSIONS)
MEDIA_EXTENSIONS = {*ffmpeg.CONTAINERS, *ffmpeg.READ_ONLY}

# Rough bytes per second of sound, to begin the largest first and to guess the hours ahead before
# the first files tell better. Reading a hundred thousand headers would take longer than it saves.
PCM_RATE, CODED_RATE, VIDEO_RATE = 100_000, 16_000, 400_000
CODED = {".aac", ".amr", ".m4a", ".m4b", ".mka", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".wma"}


@dataclass(frozen=True)
class Order:
    """What a user asks a batch for; locations become absolute, as workers may be elsewhere.

    Attributes
    ----------
    source
        A folder, or a list of files: absolute paths and URLs go below the output with all their
        folders, relative ones as they are given.
    output
        The folder that the enhanced files go to, in the same tree.
    selection
        Which files of them.
    suffix
        Goes at the end of every output's name, before its ending.
    format
        An ending that tells the format of all outputs, without the dot; ``None`` keeps each.
    subtype
        Sample format of the outputs, by libsndfile's names.
    bit_rate
        Of lossy outputs, in bit/s; ``None`` keeps that of each input.
    overwrite
        Replace files at the output that no batch made.
    skip_existing
        Leave what the manifest says is done.
    allow_truncated
        Take what is there of a file that breaks off for all of it.
    on_cluster
        Whether it is done elsewhere; what this machine lacks is no matter then.
    """

    source: str | tuple[str, ...]
    output: str
    selection: Selection = field(default_factory=Selection)
    settings: Settings = field(default_factory=Settings)
    suffix: str = ""
    format: str | None = None
    subtype: str | None = None
    bit_rate: int | None = None
    overwrite: bool = False
    skip_existing: bool = True
    allow_truncated: bool = False
    on_cluster: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", absolute(self.output))
        if isinstance(self.source, str):
            object.__setattr__(self, "source", absolute(self.source))


@dataclass(frozen=True)
class Item:
    """One file of a batch.

    Attributes
    ----------
    source, target
        Where from, and to which path below the output.
    size, stamp
        Of the input.
    overwrite
        Whether what is at the target may be replaced: it is what a batch made, or the user says so.
    replaces
        The checksum of what the batch made there, if only that may be replaced.
    why
        What the user is to be told of it, if it is done.
    """

    source: str
    target: str
    size: int
    stamp: str
    overwrite: bool = False
    replaces: int | None = None
    why: str | None = None

    @property
    def expected_s(self) -> float:
        """Seconds of sound that a file of this kind and size is likely to hold."""
        extension = _ending(self.source).lower()
        video = extension in ffmpeg.VIDEO_CONTAINERS
        return self.size / (VIDEO_RATE if video else CODED_RATE if extension in CODED else PCM_RATE)


@dataclass(frozen=True)
class BatchPlan:
    """What an order comes to.

    Attributes
    ----------
    todo
        To be enhanced, the largest first.
    unchanged
        Done by an earlier run, from the same input with the same options.
    edited
        Done, too; but somebody has changed the outputs since, which are left as they are.
    passed
        No sound files, or ones that something is wrong with.
    options
        Digest of all that decides what comes out.
    """

    todo: list[Item]
    unchanged: list[Record]
    edited: list[Record]
    passed: list[Skipped]
    options: str


def make_plan(order: Order, model_digest: str, manifest: Manifest) -> BatchPlan:
    """Look at what there is, and at what is done.

    Raises
    ------
    UserError
        The source is missing, or it is the output.
    """
    found, passed = _find(order)
    found, own = _without_own(order, found, manifest)
    passed += own
    items = _items(order, found)
    options = _digest_of_options(order, model_digest)
    existing = _existing(order.output, manifest)
    inputs_inside = _path_inside(order.source, order.output)
    sources = {item.source: item.target for item in items}
    todo: list[Item] = []
    unchanged: list[Record] = []
    edited: list[Record] = []

    for item in items:
        record = manifest.records.get(item.target)
        maker = manifest.claims.get(item.target)  # the input of what a batch wrote there
        makes_way = maker in sources and sources[maker] != item.target  # that gets another name now
        target = join(order.output, item.target)
        size = existing.get(item.target)
        done = order.skip_existing and _is_of(record, item, options)
        if inputs_inside is not None and f"{item.target}/".startswith(f"{inputs_inside}/"):
            passed.append(Skipped(item.source, "would be written into the input folder", True))
        elif record and done and record.output_size == size:
            unchanged.append(record)
        elif order.overwrite or size is None:
            todo.append(replace(item, overwrite=order.overwrite))
        elif not (maker == item.source or makes_way):
            reason = f"{target} exists, and no batch made it: add --overwrite to replace it"
            passed.append(Skipped(item.source, reason, True))
        elif record is None:  # a killed run may have made it, or somebody else: who does it sees
            todo.append(item)
        elif record.output_size == size:
            todo.append(replace(item, overwrite=True, replaces=record.checksum))
        elif not is_sound(target):
            why = "what was there was damaged, and is made anew"
            todo.append(replace(item, overwrite=True, why=why))
        elif done:
            edited.append(record)
        else:
            todo.append(item)
    todo.sort(key=lambda item: (-item.expected_s, item.target))
    return BatchPlan(todo, unchanged, edited, passed, options)


def _is_of(record: Record | None, item: Item, options: str) -> bool:
    """Whether input and options are still those of the record."""
    return record is not None and (record.size, record.stamp, record.options) == (
        item.size,
        item.stamp,
        options,
    )


def _find(order: Order) -> tuple[list[Found], list[Skipped]]:
    """What is meant: paths from the source folder, or as they are in a list."""
    if isinstance(order.source, tuple):
        meant = filter(order.selection.takes_listed, dict.fromkeys(order.source))
        listed = [look_up(location) for location in meant]
        return (
            [file for file in listed if isinstance(file, Found)],
            [file for file in listed if isinstance(file, Skipped)],
        )
    own = _path_inside(order.output, order.source)
    if own == ".":
        raise UserError("the output folder is the input folder: give another one")

    def enter(folder: str) -> bool:
        return folder != own and order.selection.enters(folder)

    found: list[Found] = []
    passed: list[Skipped] = []
    for file in list_files(order.source, enter):
        if isinstance(file, Skipped) and file.trouble:
            passed.append(Skipped(join(order.source, file.path), file.reason, True))
        elif order.selection.takes(file.path):
            reason = file.reason if isinstance(file, Skipped) else _no_sound(file.path, order)
            if reason is not None:
                passed.append(Skipped(join(order.source, file.path), reason))
            elif isinstance(file, Found):
                found.append(file)
    return found, passed


def _without_own(
    order: Order, found: list[Found], manifest: Manifest
) -> tuple[list[Found], list[Skipped]]:
    """Leave out what a batch has written there: the same list or folder, made anew, may name it.

    That is what the manifest says; and where a list names files both inside and outside of the
    output folder, what is inside of it.
    """

    if isinstance(order.source, tuple):
        places = {file.path: absolute(file.path) for file in found}  # no look at the disk: fast
        below = f"{order.output}/"
        inside = {
            path: place.removeprefix(below) if place.startswith(below) else None
            for path, place in places.items()
        }
    else:
        root = _path_inside(order.source, order.output)
        if root is None:
            return found, []
        places = {file.path: join(order.source, file.path) for file in found}
        inside = {file.path: os.path.normpath(join(root, file.path)) for file in found}
    mixed = isinstance(order.source, tuple) and None in inside.values()
    mine, own = [], []
    for file in found:
        target = inside[file.path]
        if target is not None and (mixed or target in manifest.claims):
            own.append(Skipped(places[file.path], "lies in the output folder"))
        else:
            mine.append(file)
    return mine, own


def _no_sound(path: str, order: Order) -> str | None:
    """Why a file is taken for no recording; by its name alone, as there may be very many."""
    extension = _ending(path).lower()
    if order.selection.include or extension in SOUND_EXTENSIONS:
        return None
    if extension in HEADERLESS_ENDINGS:
        return "has no header: use gtcrn denoise --raw"
    if extension not in MEDIA_EXTENSIONS:
        return "no sound file, by its name"
    return (
        None
        if order.on_cluster or ffmpeg.is_installed()
        else "needs ffmpeg, which is not on the PATH"
    )


def _items(order: Order, found: list[Found]) -> list[Item]:
    """Where each file goes. No two go to the same place: then the names keep their old ending."""
    wished = {file.path: _target(file.path, order) for file in found}
    wishes = Counter(wished.values())
    changed = {path for path, target in wished.items() if _ending(path) != _ending(target)}
    taken: set[str] = set()
    items = []
    for file in sorted(found, key=lambda file: (file.path in changed, file.path)):
        target = wished[file.path]
        if target in taken or (file.path in changed and wishes[target] > 1):
            target = _other_name(target, _ending(file.path), taken)
        taken.add(target)
        listed = isinstance(order.source, tuple)
        source = absolute(file.path) if listed else join(str(order.source), file.path)
        items.append(Item(source, target, file.size, file.stamp))
    return items


def _ending(path: str) -> str:
    return splitext(path)[1]


def _other_name(target: str, ending: str, taken: set[str]) -> str:
    """``a.flac.wav`` where ``a.wav`` would be another's; with a number if that is taken as well."""
    stem, suffix = splitext(target)
    numbers = chain([""], (f".{number}" for number in count(2)))
    names = (f"{stem}{ending}{number}{suffix}" for number in numbers)
    return next(name for name in names if name not in taken)


def _target(path: str, order: Order) -> str:
    """The wished path below the output."""
    if isinstance(order.source, tuple):
        path = _below_root(path)
    stem, ending = splitext(path)
    return f"{stem}{order.suffix}{ending if order.format is None else f'.{order.format.lower()}'}"


def _below_root(location: str) -> str:
    """A listed location as a path: with all its folders, but never out of the output folder."""
    if is_url(location):
        return location.partition("://")[2].strip("/")
    path = Path(os.path.normpath(location))
    if ".." in path.parts:
        path = Path(absolute(location))
    return path.relative_to(path.anchor).as_posix()


def _existing(output: str, manifest: Manifest) -> dict[str, int]:
    """Sizes of what is at the output. Leftovers of a killed run are removed on the way."""
    sizes: dict[str, int] = {}
    claimed = {
        str(PurePosixPath(path).with_name(partial_stem(Path(output, path))))
        for path in manifest.claims
    }
    for file in list_files(output) if is_folder(output) else ():
        folder, slash, name = file.path.rpartition("/")
        leftover = PARTIAL.fullmatch(name)
        if leftover and f"{folder}{slash}{leftover['target']}" in claimed:
            if not manifest.look_only:
                remove(join(output, file.path))
        elif isinstance(file, Found):
            sizes[file.path] = file.size
        else:
            sizes[file.path] = -1
    return sizes


def _path_inside(inner: str | tuple[str, ...], outer: str | tuple[str, ...]) -> str | None:
    """The path of one folder inside the other, ``.`` if they are the same, or else ``None``."""
    if isinstance(inner, tuple) or isinstance(outer, tuple):
        return None
    if is_url(inner) or is_url(outer):
        inner_path, outer_path = PurePosixPath(inner), PurePosixPath(outer)
    else:
        inner_path = PurePosixPath(Path(inner).resolve().as_posix())
        outer_path = PurePosixPath(Path(outer).resolve().as_posix())
    if not inner_path.is_relative_to(outer_path):
        return None
    return str(inner_path.relative_to(outer_path))


def _digest_of_options(order: Order, model_digest: str) -> str:
    """What decides how an output sounds and is written. Not the engine: all give the same."""
    facts: list[Any] = [model_digest, asdict(order.settings), order.format, order.subtype]
    if order.bit_rate:
        facts.append(order.bit_rate)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
