"""What every source and every sink of sound can do."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Protocol

from ..signals import Samples


class Source(Protocol):
    """Where samples come from."""

    name: str
    sample_rate: int
    channels: int
    length: int | None  # samples; None where nobody knows before the end
    is_certain: bool  # whether a header tells that length, and does not only let it be reckoned
    notes: list[str]  # what a user should know of it; complete when all blocks are read

    def blocks(self, size: int) -> Iterator[Samples]:
        """Samples ``[N, C]``, N at most `size`, until the end.

        Raises
        ------
        ReadError
            The rest cannot be read.
        """
        ...


class Sink(Protocol):
    """Where samples go. Used as a context: left well it keeps its output, else it leaves none."""

    name: str
    notes: list[str]  # what the user is to be told; complete when it is left
    clips: bool  # whether it cannot hold samples beyond full scale

    def write(self, block: Samples) -> None:
        """Append samples ``[N, C]``."""
        ...

    def keep_partial(self) -> str:
        """End early and keep what is there under a name that says so, which is returned."""
        ...

    def __enter__(self) -> Sink: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
