"""How a command begins and ends: its standard streams, the signals that stop it, its exit code.

Whatever a user's system does to a command (a closed stream, a full disk, a signal, a reader that
leaves) ends in at most one line on stderr and an exit code that says what it was:

1 for what a user can put right; 128 + N where signal N ended it, also SIGPIPE (141), which is
silent as with any filter. A bug keeps its traceback.
"""

from __future__ import annotations

import codecs
import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from ..errors import UserError

NAMES = "gtcrn-names"  # how stdout takes the names of files: see `_names`
STREAMS = ("stdin", "stdout", "stderr")
SIGPIPE = 13  # Windows knows no such signal

# What a system says when it lacks something: no bug, wherever it comes up.
CONDITIONS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EISDIR),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG),
    *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE),  # taken away during the work
)


class Stopped(SystemExit):
    """A signal asked the process to end; an exception, so that half-written outputs are removed."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.signal = signal.Signals(number).name


class _Forgiving(io.TextIOWrapper):
    """A stderr that nobody may be able to read: what cannot be said there changes nothing else."""

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def run(command: Callable[[], object]) -> NoReturn:
    """Run a command line, and end the process with the exit code that it is due."""
    closed = _open_streams()
    _catch_signals()
    _show_log()
    code, line = _outcome(command, closed)
    if line is not None:
        print(f"gtcrn: {line}", file=sys.stderr, flush=True)
    if code != 0:  # what is left for stdout has no reader, or no room: let it fail unheard
        _leave_stdout()
    sys.exit(code)


def code_of(stop: KeyboardInterrupt | SystemExit) -> int:
    """The exit code of what ends a command from outside, for one that has said so itself."""
    if isinstance(stop, KeyboardInterrupt):
        return 128 + signal.SIGINT
    return stop.code if isinstance(stop.code, int) else 1


def _outcome(command: Callable[[], object], closed: list[str]) -> tuple[int, str | None]:
    """The exit code, and what is to be said."""
    try:
        try:
            command()
        except SystemExit as end:
            cause = end.__context__  # typer makes exits of a pipe that broke, and of Ctrl-C
            if isinstance(cause, BrokenPipeError):
                return 128 + SIGPIPE, None
            if cause is not None and isinstance(cause.__cause__, KeyboardInterrupt):
                return 128 + signal.SIGINT, "stopped"
            if isinstance(end, Stopped):
                return int(end.code or 0), f"stopped by {end.signal}"
            if end.code:
                return (end.code, None) if isinstance(end.code, int) else (1, str(end.code))
        sys.stdout.flush()
    except UserError as error:
        return 1, str(error)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT, "stopped"
    except BrokenPipeError:
        return 128 + SIGPIPE, None
    except OSError as error:
        if error.errno == errno.EBADF and closed:
            return 1, f"{' and '.join(closed)} {'is' if len(closed) == 1 else 'are'} closed"
        if error.errno not in CONDITIONS:
            raise
        if error.errno == errno.ENOENT and not _has_temporary_folder():
            return 1, f"{error.strerror}: set TMPDIR to a folder with room"
        place = f"{error.filename}: " if error.filename else ""
        return 1, f"{place}{error.strerror}"
    return 0, None


def _has_temporary_folder() -> bool:
    import tempfile  # which takes its time, and few commands need it

    try:
        return bool(tempfile.gettempdir())
    except FileNotFoundError:
        return False


def _open_streams() -> list[str]:
    """Put something in the place of standard streams that are closed; names those for data.

    Else the next file that is opened would take its number, and be read or written as that stream.
    What takes the place of stdin cannot be read, and that of stdout not be written, so that whoever
    needs them is told.
    """
    closed = []
    for number, name in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, (os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)[number])  # the lowest free
            closed.append(name)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    codecs.register_error(NAMES, _names)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=NAMES)
    if sys.stderr is sys.__stderr__:
        raw = open(2, "wb", buffering=0, closefd=False)  # noqa: SIM115
        encoding = sys.stderr.encoding if sys.stderr else "utf-8"
        sys.stderr = _Forgiving(
            io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=True
        )
    return [name for name in closed if name != "stderr"]


def _names(error: UnicodeError) -> tuple[str | bytes, int]:
    """What is no text in the name of a file goes out as the bytes that it is; what the encoding of
    a terminal or pipe does not have, with a backslash.
    """
    assert isinstance(error, UnicodeEncodeError)
    one = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, "")
    try:
        return codecs.lookup_error("surrogateescape")(one)
    except UnicodeEncodeError:
        return codecs.backslashreplace_errors(one)


def _leave_stdout() -> None:
    """Python would complain of what it cannot write at its end, and change the exit code."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _catch_signals() -> None:
    for name in ("SIGTERM", "SIGHUP"):  # there is no SIGHUP on Windows
        number = getattr(signal, name, None)
        # nohup has SIGHUP ignored, and so it stays
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


def _show_log() -> None:
    """Print on stderr what the library logs, as it does all that is for the user."""

    class Stderr(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print(f"gtcrn: {record.getMessage()}", file=sys.stderr, flush=True)

    library = logging.getLogger("gtcrn_cli")
    library.setLevel(logging.INFO)
    library.handlers = [Stderr()]
