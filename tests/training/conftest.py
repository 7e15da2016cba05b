"""What networks are trained on in the tests."""

from __future__ import annotations

import pytest

from gtcrn_cli.training.clips import list_clips, rehearsal
from gtcrn_cli.training.corpora import Corpora, load_corpus


@pytest.fixture(scope="session")
def halves(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpora, Corpora]:
    """What comes with the package: to train on, and to validate."""
    cache = tmp_path_factory.mktemp("cache")
    clips = list_clips(rehearsal("speech"), "speech"), list_clips(rehearsal("noise"), "noise")
    train_half, valid_half = (
        Corpora(*(load_corpus([c for c in k if c.valid == v], cache, str) for k in clips))
        for v in (False, True)
    )
    return train_half, valid_half
