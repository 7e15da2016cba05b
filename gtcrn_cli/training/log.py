"""The log of a run: a table that grows while it trains."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path

from ..errors import UserError

LOG_SIGN = b"step,hours,"  # how a `Log` begins, also those of earlier versions


def log_columns(path: Path) -> tuple[str, ...] | None:
    """The columns of a `Log`; ``None`` if it is not begun: there is no such file, or an empty one.

    Raises
    ------
    UserError
        The file is none, or what a full disk left of one; or it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.readline(4096)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not head:
        return None
    if not (head.startswith(LOG_SIGN) and head.endswith(b"\n")):
        raise UserError(f"{path} exists, and is no log of a run: move it, or give another folder")
    return tuple(head.decode("latin-1").strip().split(","))


class Log:
    """Rows of figures to a CSV file and to `report`.

    A file that is there keeps its columns: those of an earlier version may be others.
    """

    columns: tuple[str, ...] = (
        "step", "hours", "rate", "loss", "spectral", "snr", "suppression", "perceptual",
        "intelligibility", "quality", "norm", "times_real_time",
        "valid_loss", "valid_si_sdr_db", "valid_pesq",
    )  # fmt: skip

    def __init__(self, path: Path | None, report: Callable[[dict[str, float]], None]) -> None:
        self.path, self.report = path, report
        self.columns = (path and log_columns(path)) or self.columns
        self.broken_off = path is not None and _is_broken_off(path)

    def __call__(self, row: dict[str, float]) -> None:
        self.report(row)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists() or self.path.stat().st_size == 0
            with self.path.open("a", newline="") as file:
                writer = csv.DictWriter(file, self.columns, restval="", extrasaction="ignore")
                if new:
                    writer.writeheader()
                elif self.broken_off:
                    file.write("\r\n")
                self.broken_off = False
                writer.writerow({name: f"{value:.6g}" for name, value in row.items()})
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from None


def _is_broken_off(path: Path) -> bool:
    """Whether the last row is one that a power cut left without an end."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(-min(1, path.stat().st_size), os.SEEK_END)
        return file.read() not in (b"", b"\n")
