"""Model files: whole, checked, and found by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from support.places import REFERENCE

from gtcrn_cli.errors import UserError
from gtcrn_cli.network.checkpoint import (
    Checkpoint,
    available_models,
    find_model,
    import_model,
    load_model,
    read_card,
    user_models_dir,
)
from gtcrn_cli.network.config import GTCRNConfig


def test_comes_back_as_it_was_saved(shipped: Checkpoint, tmp_path: Path):
    path = tmp_path / "copy.safetensors"
    shipped.save(path)
    copy = Checkpoint.load(path)
    assert copy.digest == shipped.digest
    assert copy.card == shipped.card
    assert copy.config == shipped.config
    assert list(tmp_path.iterdir()) == [path]


def test_the_shipped_model_says_where_it_comes_from(shipped: Checkpoint):
    assert {"description", "data", "licence", "recipe", "scores"} <= set(shipped.card)
    assert read_card(find_model("gtcrn")) == shipped.card


def test_the_published_network_is_there_too(shipped: Checkpoint):
    plain = load_model("gtcrn-plain")
    assert plain.config == GTCRNConfig() != shipped.config
    assert {"description", "data", "licence", "recipe", "scores"} <= set(plain.card)


@pytest.mark.parametrize("where", [0.3, 0.6, 0.99])
def test_a_damaged_file_is_refused(tmp_path: Path, where: float):
    data = bytearray(find_model("gtcrn").read_bytes())
    data[int(where * len(data))] ^= 0xFF
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        Checkpoint.load(path)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5])
def test_a_cut_off_file_is_refused(tmp_path: Path, keep: float):
    data = find_model("gtcrn").read_bytes()
    path = tmp_path / "short.safetensors"
    path.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(UserError, match="not a readable model"):
        Checkpoint.load(path)


def test_a_foreign_file_is_refused(tmp_path: Path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(UserError, match="not a gtcrn model"):
        Checkpoint.load(path)


def test_a_config_from_the_future_is_refused():
    with pytest.raises(UserError, match="upgrade"):
        GTCRNConfig.from_dict({"fusion": "add", "telepathy": True})


def test_an_added_model_is_found_by_name(shipped: Checkpoint, tmp_path: Path):
    shipped.save(user_models_dir() / "mine.safetensors")
    assert "mine" in available_models()
    assert load_model("mine").digest == shipped.digest
    path = tmp_path / "elsewhere.safetensors"
    shipped.save(path)
    assert load_model(str(path)).digest == shipped.digest


def test_a_wrong_name_lists_the_right_ones():
    with pytest.raises(UserError, match=r"one of: .*gtcrn"):
        find_model("gtcrm")


@pytest.mark.skipif(
    not REFERENCE.is_dir(), reason="the published checkpoints are not beside the project"
)
def test_imports_a_published_checkpoint():
    checkpoint = import_model(REFERENCE / "model_trained_on_vctk.tar")
    assert checkpoint.config == GTCRNConfig()
    assert len(checkpoint.weights) > 100


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 nor this"])
def test_importing_something_else_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "model.tar"
    path.write_bytes(content)
    with pytest.raises(UserError, match="neither"):
        import_model(path)


def test_importing_runs_no_code_from_the_file(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "model.tar"
    torch.save({"model": Trap()}, path)
    with pytest.raises(UserError, match="neither"):
        import_model(path)
    assert not (tmp_path / "sprung").exists()
