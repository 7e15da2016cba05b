"""Which files of a folder or list are meant: globs, and what is hidden."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from .storage import is_url


@dataclass(frozen=True)
class Selection:
    """Which files of a folder or list.

    Attributes
    ----------
    include, exclude
        Globs, whatever the case: without ``/`` they are held against the name of a file (and
        `exclude` also of every folder), with ``/`` against its path from the root, or as a list
        has it; ``*`` goes across ``/``. One that begins with ``/`` or ``./`` means what is at the
        root, one that ends in ``/`` a folder and all below it. With `include`, files need not have
        the name of a sound file.
    hidden
        Also what begins with a dot; a list means what it names.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False

    def enters(self, folder: str) -> bool:
        """Whether to look into a folder."""
        return self._visible(folder) and not _matches(folder, self.exclude)

    def takes(self, path: str) -> bool:
        """Whether a file is meant, whatever is in it."""
        wanted = not self.include or _matches(path, self.include)
        return wanted and self._visible(path) and not _matches(path, self.exclude)

    def takes_listed(self, location: str) -> bool:
        """Whether a file that a list names is meant."""
        path = location.partition("://")[2]
        if not is_url(location):
            path = Path(os.path.normpath(location)).as_posix()
        folders = [str(folder) for folder in PurePosixPath(path).parents if folder.name != ".."]
        excluded = any(_matches(place, self.exclude) for place in (path, *folders[:-1]))
        return not excluded and (not self.include or _matches(path, self.include))

    def _visible(self, path: str) -> bool:
        return self.hidden or not path.rpartition("/")[2].startswith(".")


def _matches(path: str, globs: Iterable[str]) -> bool:
    name = path.rpartition("/")[2]
    from_root = f"/{path.lstrip('/')}"
    return any(
        _pattern(one).match(from_root if one[:1] == "/" else path if "/" in one else name)
        for glob in globs
        for one in _plain(glob)
    )


@lru_cache
def _plain(glob: str) -> tuple[str, ...]:
    """A glob; where it ends in ``/``, as shells complete it, those of the folder and its files."""
    glob = glob[1:] if glob[:2] == "./" else glob
    folder = glob.rstrip("/")
    if folder == glob:
        return (glob,)
    deeper = () if folder[:1] == "/" else (f"*/{folder}/*",)
    return (folder, f"{folder}/*", *deeper)


@lru_cache
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(glob), re.IGNORECASE)
