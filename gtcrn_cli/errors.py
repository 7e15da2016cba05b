"""The one exception that a user is meant to see."""

from __future__ import annotations

from typing import BinaryIO


class UserError(Exception):
    """Something the user can put right: what went wrong and what to do, in one line.

    The command line prints it on stderr and exits with 1. Anything else that escapes is a bug and
    keeps its traceback.
    """


class ReadError(UserError):
    """A source broke off in the middle; what came before is good."""


class DeviceError(UserError):
    """A sound device is not there, or does not open: it may later."""


class UnknownFormatError(UserError):
    """A file that can be read, but libsndfile does not know what is in it.

    Attributes
    ----------
    file
        Where its bytes are, if it has no name.
    """

    file: BinaryIO | None = None


class MissingExtraError(UserError, ImportError):
    """An optional dependency is not installed: an `ImportError`, too.

    Parameters
    ----------
    what
        What needs it, as the user knows it: ``"the torch engine"``.
    extra
        The extra of the package that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an extra: pip install 'gtcrn-cli[{extra}]' ('.[{extra}]' in a checkout)"
        )
