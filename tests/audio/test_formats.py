"""Formats as they are: a small part of `tools/formats.py`, which has the rest."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.places import PROJECT

FORMATS = PROJECT / "tools" / "formats.py"


@pytest.mark.slow
@pytest.mark.skipif(not FORMATS.exists(), reason="the tools are not here")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the tool forks")
def test_what_libsndfile_writes_is_kept_exactly():
    done = subprocess.run(
        [sys.executable, FORMATS, "--only", "libsndfile", "--every", "131"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]
    assert "| 1 | 1 | - |" in done.stdout
