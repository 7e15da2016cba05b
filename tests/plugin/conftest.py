"""One plugin for all tests of it: to build it takes longer than most of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gtcrn_cli.network.checkpoint import load_model
from gtcrn_cli.plugin.build import build_plugin, find_compiler


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as a plugin."""
    path = tmp_path_factory.mktemp("plugin") / "gtcrn.so"
    try:
        find_compiler()
    except ImportError as error:
        pytest.skip(str(error))
    build_plugin(load_model(), path)
    return path
