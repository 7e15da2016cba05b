"""Where outputs go: whole or not at all, and never over what was not given up."""

from __future__ import annotations

import filecmp
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from .errors import UserError

# What `partial_path` gives; `target` is the target's name, cut where it is very long.
PARTIAL = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{12}\.part", re.DOTALL)

UNUSED_S = 90 * 24 * 3600.0  # then what is cached is of a version or a use of the past

_AROUND_BYTES = 19  # what a partial name has besides the target's: two dots, 12 digits, ".part"
_LONGEST_NAME_BYTES = 255  # of most file systems, where this one does not say


def user_folder(kind: Callable[[str], Path], variable: str) -> Path:
    """Our folder among the user's own: `kind` is a function of `platformdirs`.

    Raises
    ------
    UserError
        The user has no home, as in many a container, and `variable` does not say where instead.
    """
    try:
        return kind("gtcrn")
    except RuntimeError:
        raise UserError(f"this user has no home folder: set HOME or {variable}") from None


def remove_unused(folder: Path, ours: re.Pattern[str]) -> int:
    """Remove from a cache what nobody has used for `UNUSED_S`; returns how many files that were.

    Files with names like `ours` go, and what killed processes left of some, and no others. Who is
    just loading one has it open already, or makes it again.
    """
    removed = 0
    with suppress(OSError):
        for path in list(folder.iterdir()):
            partial = PARTIAL.fullmatch(path.name)
            if not ours.fullmatch(partial["target"] if partial else path.name):
                continue
            with suppress(OSError):  # another process was faster, or has it in use (Windows)
                status = path.lstat()
                used_s = max(status.st_mtime, status.st_atime)
                if stat.S_ISREG(status.st_mode) and time.time() - used_s > UNUSED_S:
                    path.unlink()
                    removed += 1
    return removed


def home() -> Path:
    """The user's home.

    Raises
    ------
    UserError
        There is none.
    """
    try:
        return Path.home()
    except RuntimeError:
        raise UserError("this user has no home folder: set HOME") from None


def _is_same(one: Path, other: Path) -> bool:
    return filecmp.cmp(one, other, shallow=False)


class Replacement:
    """A file that is written beside its target and takes its place when it is whole.

    The target is as it was until `commit`, and so it stays after `discard`. A file that is replaced
    hands on its mode; a new one has the mode that the umask gives. A target that is a link stays
    one: what it points to is replaced.

    Parameters
    ----------
    target
        What is to be written.
    overwrite
        Replace a file that is there.

    Attributes
    ----------
    path
        Where to write: an empty file to begin with.
    target
        The target, without links.

    Raises
    ------
    UserError
        There is such a file and it is not to be replaced, or this is no place for a file.
    """

    def __init__(self, target: str | Path, *, overwrite: bool = True) -> None:
        require_free(target, overwrite)
        self.target = Path(target).resolve()
        self.path = partial_path(self.target)
        self._name = target
        self._overwrite = overwrite
        try:
            file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            self._mode = stat.S_IMODE(os.fstat(file).st_mode)
            os.close(file)
        except OSError as error:
            raise UserError(f"cannot write {target}: {error.strerror}") from None

    def commit(self) -> None:
        """Put what was written in the target's place.

        Raises
        ------
        UserError
            A file has come up meanwhile that is not to be replaced; or it cannot be written.
        """
        require_free(self._name, self._overwrite)
        self._move(self.target)

    def keep_apart(self, is_same: Callable[[Path, Path], bool] = _is_same) -> Path:
        """Keep what was written as ``NAME.partial.EXT``, since it is not whole; says where.

        Nothing that is there is replaced: not the input, which may be called so, and no other
        recording. What is the same, as from the run before, is not kept twice: `is_same` says so
        of two files, and most often is whether they are the same to the byte.
        """
        try:
            for apart in partial_names(self.target):
                if _is_claimed(apart):
                    break
                with suppress(PermissionError):
                    if apart.is_file() and is_same(self.path, apart):
                        return apart
        except OSError as error:
            raise UserError(f"cannot write {self._name}: {error.strerror}") from None
        try:
            self._move(apart)
        except UserError:
            apart.unlink(missing_ok=True)
            raise
        return apart

    def _move(self, target: Path) -> None:
        try:
            # What writes the file may have made it anew, with a mode of its own.
            mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else self._mode
            if stat.S_IMODE(self.path.stat().st_mode) != mode:
                with suppress(PermissionError):  # of a file system without modes
                    self.path.chmod(mode)
            self.path.replace(target)
        except OSError as error:
            raise UserError(f"cannot write {self._name}: {error.strerror}") from None

    def discard(self) -> None:
        """Remove what was written, unless it has been committed or kept."""
        self.path.unlink(missing_ok=True)


@contextmanager
def replacing(target: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Write a file whole or not at all: the path to write to, beside `target`.

    When the block ends well, what was written takes the place of `target`; else it is removed. See
    `Replacement` for modes and links.

    Raises
    ------
    UserError
        `target` is not to be replaced, or it cannot be written.

    Examples
    --------
    >>> from pathlib import Path
    >>> with replacing("page.html") as path:
    ...     written = path.write_text("whole")
    >>> Path("page.html").read_text()
    'whole'
    """
    replacement = Replacement(target, overwrite=overwrite)
    try:
        yield replacement.path
        replacement.commit()
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        replacement.discard()


def write_whole(target: Path, data: bytes) -> None:
    """Write a file that is all there at once; one that is there is replaced.

    Raises
    ------
    UserError
        It cannot be written.
    """
    with replacing(target) as path:
        path.write_bytes(data)


def partial_path(target: Path) -> Path:
    """A name beside `target`, hidden and like no other, for what is not whole yet.

    The name of a target that leaves no room for more is cut: see `partial_stem`.
    """
    return target.with_name(f".{partial_stem(target)}.{uuid.uuid4().hex[:12]}.part")


def partial_stem(target: Path) -> str:
    """What of the name of `target` is in the names that `partial_path` gives."""
    return _cut(target.name, _longest_name_bytes(target.parent) - _AROUND_BYTES)


def kept_partial_path(target: Path) -> Path:
    """What the finished part of an output is called when its input breaks off: a free name."""
    return next(path for path in partial_names(target) if not os.path.lexists(path))


def partial_names(target: Path) -> Iterator[Path]:
    """What a part that is kept may be called: ``NAME.partial.EXT``, ``NAME.partial-2.EXT`` ..."""
    longest = _longest_name_bytes(target.parent)
    for number in count(1):
        ending = f".partial{f'-{number}' if number > 1 else ''}{target.suffix}"
        yield target.with_name(_cut(target.stem, longest - len(os.fsencode(ending))) + ending)


def _is_claimed(path: Path) -> bool:
    """Whether there was no such file, and now there is an empty one: nobody else takes its name."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    return True


def _longest_name_bytes(folder: Path) -> int:
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (AttributeError, OSError, ValueError):  # Windows; no such folder (yet), or a remote one
        return _LONGEST_NAME_BYTES


def _cut(name: str, size: int) -> str:
    """The beginning of a name, of at most so many bytes, without a character cut in half."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= size else encoded[:size].decode("utf-8", "ignore")


def refuse_url(location: str | Path) -> None:
    """Refuse what is a URL where files of this machine are meant.

    A path from it has lost one of its slashes; the message has both.

    Raises
    ------
    UserError
        It is one, and there is no file that is called so.
    """
    url = re.match(r"([A-Za-z][\w+.-]+):/+(?=[^/])", str(location))
    if url and not os.path.lexists(location):
        raise UserError(
            f"{url[1]}://{str(location)[url.end() :]} is a URL: give a file of this machine "
            "('gtcrn batch' takes folders at URLs like s3://)"
        )


def require_free(target: str | Path, overwrite: bool) -> None:
    """Refuse a target that cannot be written, or that exists and shall not be replaced.

    Raises
    ------
    UserError
        With what to do about it.
    """
    refuse_url(target)
    try:
        given = Path(target)
        # Before links are followed, which in /proc do not lead to what is opened.
        if given.exists() and not (given.is_file() or given.is_dir()):
            raise UserError(f"{target} is no ordinary file: use - to write to a pipe or device")
        path = _without_links(given)
        if path.is_dir():
            raise UserError(f"{target} is a folder: give the name of a file")
        if path.exists() and not overwrite:
            raise UserError(f"{target} exists: add --overwrite to replace it")
        if not path.parent.is_dir():
            raise UserError(f"the folder {path.parent} does not exist: make it first")
    except OSError as error:  # a name that is too long, for one
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"the folder {path.parent} cannot be written to")


def _without_links(path: Path) -> Path:
    """Where links lead.

    Raises
    ------
    UserError
        To themselves.
    """
    try:
        resolved = path.resolve()
    except RuntimeError:  # of Python before 3.13
        resolved = path
    if resolved.is_symlink():
        raise UserError(f"cannot write {path}: it is a link that leads to itself")
    return resolved


def require_distinct(source: str | Path, target: str | Path) -> None:
    """Refuse to write a file over itself, by whatever names it goes.

    Parameters
    ----------
    source, target
        Paths; ``-`` is what stdin comes from, or stdout goes to.

    Raises
    ------
    UserError
        They are one file.
    """
    try:
        read, written = _status(source, 0), _status(target, 1)
    except (OSError, ValueError):  # whoever opens the one that cannot be looked at says why
        return
    if stat.S_ISREG(read.st_mode) and os.path.samestat(read, written):
        name = target if str(source) == "-" else source
        raise UserError(f"input and output are the same file: {'stdin' if name == '-' else name}")


def _status(path: str | Path, number: int) -> os.stat_result:
    """Of a file, or of the one that is open by this number where ``-`` stands for it."""
    return os.fstat(number) if str(path) == "-" else Path(path).stat()
