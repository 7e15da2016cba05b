"""Where the project is, and what may be beside it."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parent.parent.parent

REFERENCE = PROJECT.parent / "shared" / "reference"
