"""Tables in Markdown."""

from __future__ import annotations

import doctest

from gtcrn_cli import markdown


def test_examples():
    assert doctest.testmod(markdown).failed == 0
