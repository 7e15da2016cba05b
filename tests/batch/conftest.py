"""A small archive, and the model that enhances it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from gtcrn_cli.batch.jobs import Model
from gtcrn_cli.network.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def model(shipped: Checkpoint) -> Model:
    return Model(shipped)


@pytest.fixture
def source(tmp_path: Path, noisy: np.ndarray) -> Path:
    """A small archive: odd names, other rates, and one file that is none."""
    root = tmp_path / "in"
    (root / "folder" / "deep").mkdir(parents=True)
    soundfile.write(root / "one.wav", noisy[:32_000], 16_000)
    soundfile.write(root / "folder" / "two three.flac", noisy[32_000:64_000], 16_000)
    soundfile.write(root / "folder" / "deep" / "ü.ogg", noisy[:48_000], 48_000)
    (root / "notes.txt").write_text("not sound")
    return root
