"""Where a batch reads and writes: a local path, or any URL that fsspec knows (s3://, gs://, ...).

A local file is used where it is. A remote one is worked on as a temporary file: fetched before,
and delivered under a temporary name that is then changed to the final one. So a final name never
holds half a file, and doing the same work twice does no harm.
"""

from __future__ import annotations

import filecmp
import os
import posixpath
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ..audio.chains import is_same_ogg
from ..errors import MissingExtraError, UserError
from ..paths import PARTIAL, partial_names, partial_path, partial_stem

# There are no folders in these, and making one could make a bucket.
OBJECT_STORES = ("abfs", "az", "gcs", "gs", "s3", "s3a")
# What tells that an object has changed, by the names that stores have for it; the first counts.
STAMPS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "updated", "created")


@dataclass(frozen=True)
class Found:
    """One file below a root.

    Attributes
    ----------
    path
        From the root, with ``/``.
    size
        In bytes.
    stamp
        Differs after the content was changed: time of modification, or a store's etag.
    """

    path: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Skipped:
    """What a listing passed over, and why. `trouble` tells what should not have happened."""

    path: str
    reason: str
    trouble: bool = False


def is_url(location: str) -> bool:
    """Whether `location` is not simply a path."""
    return "://" in location


def absolute(location: str) -> str:
    """The location as any process on any machine with the same folders understands it."""
    location = location.removeprefix("file://")
    return location.rstrip("/") if is_url(location) else os.path.abspath(location)  # noqa: PTH100


def join(root: str, path: str) -> str:
    """The location of `path` below `root`."""
    return posixpath.join(root, path)  # Windows takes slashes as well


def is_folder(location: str) -> bool:
    """Whether there is a folder.

    Raises
    ------
    UserError
        The store does not say.
    """
    if not is_url(location):
        return Path(location).is_dir()
    try:
        files, path = _filesystem(location)
        files.invalidate_cache()
        with _errors_of_store():
            return bool(files.isdir(path))
    except OSError as error:
        raise UserError(f"cannot look into {location}: {error}") from None


def list_files(
    root: str, enter: Callable[[str], bool] = lambda path: True
) -> Iterator[Found | Skipped]:
    """All files below `root`, folder by folder, in no order that matters.

    Links to files count as files; links to folders are not followed, so nothing is met twice.

    Parameters
    ----------
    root
        A folder.
    enter
        Tells for a folder's path from the root whether to look into it.

    Raises
    ------
    UserError
        There is no such folder.
    """
    if is_url(root):
        yield from _list_remote(root, enter)
        return
    if Path(root).is_file():
        raise UserError(f"{root} is a file: give its folder, or use 'gtcrn denoise' for one file")
    if not Path(root).is_dir():
        raise UserError(f"no such folder: {root}")
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))  # noqa: PTH118 - fast
        except OSError as error:
            yield Skipped(folder or ".", f"cannot look into it: {error.strerror}", trouble=True)
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                if enter(path):
                    folders.append(path)
            else:
                yield _found(entry, path)


def _found(entry: os.DirEntry[str], path: str) -> Found | Skipped:
    try:
        facts = entry.stat()
    except OSError as error:
        reason = "a link to nothing" if entry.is_symlink() else f"cannot be read: {error.strerror}"
        return Skipped(path, reason)
    if stat.S_ISDIR(facts.st_mode):
        return Skipped(path, "a link to a folder")
    if not stat.S_ISREG(facts.st_mode):
        return Skipped(path, "no ordinary file")
    return Found(path, facts.st_size, str(facts.st_mtime_ns))


def _list_remote(root: str, enter: Callable[[str], bool]) -> Iterator[Found | Skipped]:
    files, top = _filesystem(root)
    if not is_folder(root):
        raise UserError(f"no such folder: {root}")
    try:
        with _errors_of_store():
            found = files.find(top, detail=True)
    except OSError as error:
        raise UserError(f"cannot list {root}: {error}") from None
    for name, facts in found.items():
        path = posixpath.relpath(name, top)
        if all(enter(str(folder)) for folder in list(PurePosixPath(path).parents)[:-1]):
            yield Found(path, facts["size"], _stamp(facts))


def look_up(location: str) -> Found | Skipped:
    """One file by its location, which becomes its path."""
    try:
        if not is_url(location):
            facts = Path(location).stat()
            if stat.S_ISREG(facts.st_mode):
                return Found(location, facts.st_size, str(facts.st_mtime_ns))
            return Skipped(location, "no ordinary file", trouble=True)
        files, path = _filesystem(location)
        with _errors_of_store():
            info = files.info(path)
        return Found(location, info["size"], _stamp(info))
    except FileNotFoundError:
        return Skipped(location, "no such file", trouble=True)
    except OSError as error:
        return Skipped(location, f"cannot be read: {error.strerror or error}", trouble=True)


@contextmanager
def fetched(location: str) -> Iterator[Path]:
    """A file to read, on this machine while the context lasts.

    Raises
    ------
    OSError
        It cannot be fetched.
    """
    if not is_url(location):
        yield Path(location)
        return
    files, path = _filesystem(location)
    with tempfile.TemporaryDirectory(prefix="gtcrn-") as folder:
        local = Path(folder, PurePosixPath(path).name)
        with _errors_of_store():
            files.get_file(path, str(local))
        yield local


@contextmanager
def delivered(location: str, overwrite: bool = True) -> Iterator[Path]:
    """Where to write a file, so that it is at `location` when the context is left.

    Without `overwrite` nothing at a URL is replaced, also what was put there meanwhile; stores know
    no way to do both at once, so a moment remains. Who writes a local file sees to that.

    What else is left beside it, the finished part of an output that broke off, is delivered, too,
    by a name that is free; an error that tells its name tells that one then.

    Raises
    ------
    UserError
        Something is there that shall not be replaced.
    OSError
        It cannot be delivered.
    """
    if not is_url(location):
        target = Path(location)
        target.parent.mkdir(parents=True, exist_ok=True)
        yield target
        return
    files, path = _filesystem(location)
    with tempfile.TemporaryDirectory(prefix="gtcrn-") as folder:
        target = Path(folder, PurePosixPath(path).name)
        try:
            yield target
        except UserError as error:
            message = str(error)
            for part in Path(folder).iterdir():
                message = message.replace(part.name, _keep(files, part, PurePosixPath(path)))
            raise UserError(message) from None
        _deliver(files, target, PurePosixPath(path), None if overwrite else location)


def remove(location: str) -> None:
    """Remove a file; it may be gone already."""
    if is_url(location):
        files, path = _filesystem(location)
        with _errors_of_store():
            files.rm_file(path)
    else:
        Path(location).unlink(missing_ok=True)


def remove_partials(locations: Iterable[str]) -> None:
    """Remove what workers that were killed have left beside these targets, if they are local."""
    folders: dict[Path, set[str]] = {}
    for location in locations:
        if not is_url(location):
            folders.setdefault(Path(location).parent, set()).add(partial_stem(Path(location)))
    for folder, targets in folders.items():
        for path in folder.glob(".*.part"):  # none, if there is no such folder
            partial = PARTIAL.fullmatch(path.name)
            if partial and partial["target"] in targets:
                path.unlink(missing_ok=True)


def _keep(files: Any, part: Path, target: PurePosixPath) -> str:
    """Deliver the finished part of a target, replacing nothing; tells its name there.

    What is the same as a part that is there, as from the run before, is not delivered twice.
    """
    for path in map(PurePosixPath, partial_names(Path(target))):
        with _errors_of_store():
            is_free = not files.exists(str(path))
        if is_free:
            _deliver(files, part, path)
        if is_free or _is_same(files, part, path):
            return path.name
    raise AssertionError("there are names without end")


def _is_same(files: Any, local: Path, path: PurePosixPath) -> bool:
    with _errors_of_store():
        if files.info(str(path))["size"] != local.stat().st_size:
            return False
        with tempfile.TemporaryDirectory(prefix="gtcrn-") as folder:
            there = Path(folder, path.name)
            files.get_file(str(path), str(there))
            return filecmp.cmp(local, there, shallow=False) or is_same_ogg(local, there)


def _deliver(files: Any, local: Path, path: PurePosixPath, unless_there: str | None = None) -> None:
    """Send a file, under its final name at the end; refuse where `unless_there` is taken."""
    partial = str(partial_path(Path(path)))
    with _errors_of_store():
        if not set(_schemes(files)) & set(OBJECT_STORES):
            files.makedirs(str(path.parent), exist_ok=True)
        try:
            files.put_file(str(local), partial)
            if unless_there is not None:
                files.invalidate_cache()  # it may have listed the folder before
                if isinstance(look_up(unless_there), Found):
                    raise UserError(f"{unless_there} exists: add --overwrite to replace it")
            files.mv(partial, str(path))
        except BaseException:
            if files.exists(partial):
                files.rm_file(partial)
            raise


@contextmanager
def _errors_of_store() -> Iterator[None]:
    """Every store has errors of its own: no credentials, no such bucket, no network."""
    try:
        yield
    except (OSError, UserError):
        raise
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from error


def _schemes(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def _stamp(facts: dict[str, Any]) -> str:
    return next((str(facts[name]) for name in STAMPS if facts.get(name)), "")


def _filesystem(location: str) -> tuple[Any, str]:
    """fsspec's filesystem for a URL, and the path there."""
    scheme = location.split("://")[0]
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise MissingExtraError(f"a {scheme}:// location", "cluster") from None
    try:
        return url_to_fs(location)
    except (ImportError, ValueError) as error:  # s3fs is missing; nobody knows this scheme
        raise UserError(f"cannot use {location}: {error}") from None
