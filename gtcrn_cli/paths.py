"""Where outputs go: whole or not at all, and never over what was not given up."""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

from .errors import UserError

PARTIAL = re.compile(r"\.(?P<target>.+)\.[0-9a-f]{12}\.part")  # what `partial_path` gives


def partial_path(target: Path) -> Path:
    """A name beside `target`, hidden and like no other, for what is not whole yet."""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")


def write_whole(target: Path, data: bytes) -> None:
    """Write a file beside its target and rename it, so that no half of it is ever there."""
    partial = partial_path(target)
    try:
        partial.write_bytes(data)
        partial.replace(target)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


def kept_partial_path(target: Path) -> Path:
    """What the finished part of an output is called when its input breaks off."""
    return target.with_name(f"{target.stem}.partial{target.suffix}")


def require_free(target: str | Path, overwrite: bool) -> None:
    """Refuse a target that cannot be written, or that exists and shall not be replaced."""
    path = Path(target).resolve()
    if path.is_dir():
        raise UserError(f"{target} is a folder: give the name of a file")
    if path.exists() and not path.is_file():
        raise UserError(f"{target} is no ordinary file: use - to write to a pipe or device")
    if path.exists() and not overwrite:
        raise UserError(f"{target} exists: add --overwrite to replace it")
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist: make it first")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"the folder {path.parent} cannot be written to")


def require_distinct(source: str | Path, target: str | Path) -> None:
    """Refuse to write a file over itself, by whatever names it goes."""
    source, target = Path(source), Path(target)
    if target.exists() and source.exists() and source.samefile(target):
        raise UserError(f"input and output are the same file: {source}")
