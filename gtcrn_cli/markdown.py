"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers; no newline at its end.

    >>> print(table(["tool", "ms"], [["gtcrn", "32"]]))
    | tool | ms |
    | --- | ---: |
    | gtcrn | 32 |
    """
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ruler, *rows))
