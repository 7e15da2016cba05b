"""What a batch has done, so that the next run does only what is missing or has changed.

The manifest is a file of JSON lines that only ever grows. Of all that a crash, a kill or a power
cut can do to such a file, the worst is a torn last line, which is recognised and dropped; a
database would bring its own locks and side files, which network folders are known to break.

Two kinds of lines: before any work starts, the targets that the run is going to write are claimed
and the claim forced to disk; so what is found there later may be ours, also where the run was
killed: whether it is shows when it is made again. When a file is done, a line says from what and
how it was made. Those are forced to disk once a second: a power cut costs doing the last second
again.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..errors import UserError
from ..paths import refuse_url

FILE_NAME = ".gtcrn-batch.jsonl"
SYNC_EVERY_S = 1.0
SIGN = b'{"target": "'  # how every line begins, as `json` and the order of the fields have it


@dataclass(frozen=True)
class Record:
    """How one output was made.

    Attributes
    ----------
    target
        The output's path below the output folder.
    source
        The input's location.
    size, stamp
        Of the input: see `storage.Found`.
    options
        Digest of all that decides what comes out: model and settings.
    output_size
        In bytes.
    summary
        `pipeline.Summary` as plain data, for reports.
    checksum
        Of the output: see `outputs.checksum`. Earlier versions wrote none.
    """

    target: str
    source: str
    size: int
    stamp: str
    options: str
    output_size: int
    summary: dict[str, Any]
    checksum: int | None = None


class Manifest:
    """The manifest of one output folder, held by one batch at a time.

    Parameters
    ----------
    path
        The file; made if there is none.
    look_only
        Change nothing, not even whether the file exists.

    Attributes
    ----------
    records
        What is done, by target.
    claims
        The source that each target is or was to be made from.
    look_only
        As given.

    Raises
    ------
    UserError
        Another batch is at work there, the file is something else than a manifest or a URL, or it
        cannot be read or written.
    """

    def __init__(self, path: Path, look_only: bool = False) -> None:
        refuse_url(path)
        self.path = path
        self.look_only = look_only
        self.records: dict[str, Record] = {}
        self.claims: dict[str, str] = {}
        self._synced = time.monotonic()
        self._file: IO[bytes]
        try:
            if look_only:
                self._file = path.open("rb") if path.exists() else io.BytesIO()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("a+b")
        except OSError as error:
            raise self._error(error) from None
        try:
            if not look_only:
                self._lock()
            begun = self._begun()
            whole = self._read()
            if not whole and not look_only:
                self._write(SIGN[len(begun) :] + b"\n")
        except BaseException:
            self._file.close()
            raise

    def claim(self, targets: Iterable[tuple[str, str]]) -> None:
        """Say which targets are going to be written, each with its source."""
        new = {t: source for t, source in targets if self.claims.get(t) != source}
        self.claims |= new
        self._write(b"".join(_line({"target": t, "source": new[t]}) for t in new))
        self._sync()

    def add(self, record: Record) -> None:
        """Record that a target has been written."""
        self.records[record.target] = record
        self._write(_line(asdict(record)))
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            self._sync()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and not self.look_only:
                self._sync()
        finally:
            self._file.close()

    def _begun(self) -> bytes:
        """How the file begins; refused where that is no manifest, to which nothing may be added."""
        self._file.seek(0)
        begun = self._file.read(len(SIGN))
        if not SIGN.startswith(begun):  # less of it, where even the first line is torn
            raise UserError(
                f"{self.path} exists and is no manifest of a batch: give --manifest another name"
            )
        return begun

    def _read(self) -> bool:
        """Take in what is there; whether its last line is whole."""
        self._file.seek(0)
        line = b"\n"
        for line in self._file:
            try:
                facts = json.loads(line)
                self.claims[facts["target"]] = facts["source"]
                if len(facts) > 2:
                    self.records[facts["target"]] = Record(**facts)
            except (ValueError, KeyError, TypeError):
                continue  # torn, or of another version: as if it had never been done
        return line.endswith(b"\n")

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise self._error(error) from None

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._error(error) from None
        self._synced = time.monotonic()

    def _lock(self) -> None:
        """Keep other batches out; the system lets go of it however this process ends."""
        try:
            if sys.platform == "win32":
                import msvcrt

                self._file.seek(0)
                msvcrt.locking(self._file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise UserError(f"another batch is writing there (it holds {self.path})") from None
        except OSError:
            pass  # a file system without locks: the user has to know

    def _error(self, error: OSError) -> UserError:
        return UserError(f"cannot write the manifest {self.path}: {error.strerror}")


def _line(facts: dict[str, Any]) -> bytes:
    return json.dumps(facts).encode() + b"\n"
