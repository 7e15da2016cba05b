"""What is in a page or a picture that `gtcrn compare` wrote."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

AWKWARD = "<!--<script>\"ü'&$x$ 雑音.wav"  # as a user's file may be called


class Outline(HTMLParser):
    """The elements of a page, and the text of its data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.data = ""
        self._in_data = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        named = dict(attrs)
        self.references += [v for k, v in named.items() if k in ("src", "href", "action")]
        self._in_data = named.get("id") == "data"

    def handle_data(self, data):
        if self._in_data:
            self.data += data

    def handle_endtag(self, tag):
        self._in_data = False


def data_of(path: Path) -> dict[str, Any]:
    """What the page shows."""
    return json.loads(Outline(path.read_text("utf-8")).data)


def picture_size(path: Path) -> tuple[int, int]:
    header = path.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")
