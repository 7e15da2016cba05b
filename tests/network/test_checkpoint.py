"""Model files: whole, checked, and found by name."""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from support.models import untrained
from support.places import REFERENCE

from gtcrn_cli.errors import UserError
from gtcrn_cli.native.packing import pack
from gtcrn_cli.network import importing
from gtcrn_cli.network.checkpoint import (
    Checkpoint,
    available_models,
    find_model,
    load_model,
    read_card,
    user_models_dir,
)
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.importing import import_model


def test_comes_back_as_it_was_saved(shipped: Checkpoint, tmp_path: Path):
    path = tmp_path / "copy.safetensors"
    shipped.save(path)
    copy = Checkpoint.load(path)
    assert copy.digest == shipped.digest
    assert copy.card == shipped.card
    assert copy.config == shipped.config
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["Größe €", "caf\udce9", 'q"\\\udcff\n'])
def test_a_card_holds_names_that_are_no_text(name: str, shipped: Checkpoint, tmp_path: Path):
    """A model is fitted to recordings whose folder may be called anything."""
    card = {"description": f"fitted to {name}", "data": [name]}
    replace(shipped, card=card).save(tmp_path / "a.safetensors")
    assert Checkpoint.load(tmp_path / "a.safetensors").card == card
    assert read_card(tmp_path / "a.safetensors") == card


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


def as_kept(weights: dict[str, torch.Tensor], how: str) -> object:
    """Weights as other trainings keep them."""
    half = {name: value.half() for name, value in weights.items()}

    def named(prefix: str) -> dict[str, torch.Tensor]:
        return {prefix + name: value for name, value in weights.items()}

    return {
        "published": {"epoch": 1, "model": weights},
        "DDP": {"epoch": 1, "model": named("module.")},
        "compiled": {"model": named("_orig_mod."), "loss": np.float64(0.5)},
        "compiled DDP": {"model_state_dict": named("module._orig_mod.")},
        "bare": weights,
        "Lightning": {"state_dict": named("model.") | {"loss.window": torch.ones(512)}, "epoch": 3},
        "half": {"model": half},
        "double": {"model": {name: value.double() for name, value in weights.items()}},
        "bfloat16": {"model": {name: value.bfloat16() for name, value in weights.items()}},
        "with an optimizer": {
            "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
            "scheduler": LambdaLike(0.1),
            "generator": weights,
        },
    }[how]


class LambdaLike:
    """An object as schedulers are, of a class that no other installation has."""

    def __init__(self, rate: float) -> None:
        self.rate = rate


@pytest.mark.parametrize(
    "how",
    [
        *("published", "DDP", "compiled", "compiled DDP", "bare", "Lightning", "half", "double"),
        *("bfloat16", "with an optimizer"),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_of_other_trainings_load(how: str, legacy: bool, tmp_path: Path):
    expected = load_model("gtcrn-plain").weights
    tensors = {name: torch.from_numpy(value.copy()) for name, value in expected.items()}
    tensors["encoder.en_convs.0.bn.num_batches_tracked"] = torch.tensor(7)
    path = tmp_path / "checkpoint.tar"
    torch.save(as_kept(tensors, how), path, _use_new_zipfile_serialization=not legacy)
    imported = import_model(path)
    assert imported.weights.keys() == expected.keys()
    near = {"half": 1e-3, "bfloat16": 1e-2}.get(how, 0.0)
    for name, value in imported.weights.items():
        assert value.dtype == np.float32
        assert np.allclose(value, expected[name], rtol=near, atol=near)
    pack(imported)


def test_bare_weights_as_safetensors_load(tmp_path: Path):
    expected = load_model("gtcrn-plain").weights
    path = tmp_path / "bare.safetensors"
    save_file({f"module.{name}": value for name, value in expected.items()}, path)
    assert import_model(path).weights.keys() == expected.keys()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path):
    plain = load_model("gtcrn-plain")
    weights = {name: w.copy() for name, w in plain.weights.items()}
    weights["encoder.en_convs.0.conv.bias"][3] = value
    tensors = {name: torch.from_numpy(w) for name, w in weights.items()}
    torch.save({"model": tensors}, tmp_path / "diverged.tar")
    with pytest.raises(UserError, match="no numbers"):
        import_model(tmp_path / "diverged.tar")
    replace(plain, weights=weights).save(tmp_path / "diverged.safetensors")
    with pytest.raises(UserError, match="no numbers"):
        load_model(str(tmp_path / "diverged.safetensors"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.tar", "gtcrn models add"),
        ("model.ckpt", "gtcrn models add"),
        ("gtcrn.onnx", "an ONNX model: give the model"),
    ],
)
def test_a_file_of_another_kind_is_named(name: str, words: str, tmp_path: Path):
    (tmp_path / name).write_bytes(b"whatever it holds")
    with pytest.raises(UserError, match=words):
        load_model(str(tmp_path / name))


def test_weights_of_another_network_are_named(tmp_path: Path):
    torch.save({"model": {"layers.0.weight": torch.ones(3)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"not those of a GTCRN: layers\.0\.weight"):
        import_model(tmp_path / "other.pth")


def test_a_checkpoint_of_a_network_with_other_skips_is_refused(tmp_path: Path):
    """A file from elsewhere does not say how its network takes skips: it would sound otherwise."""
    larger = untrained(GTCRNConfig("concat"))
    tensors = {name: torch.from_numpy(value) for name, value in larger.weights.items()}
    torch.save({"model": tensors}, tmp_path / "larger.tar")
    with pytest.raises(UserError, match=r"not of the published network.*decoder\.fusions"):
        import_model(tmp_path / "larger.tar")


def test_what_a_training_goes_on_from_names_its_model(tmp_path: Path):
    kept = {"network": {}, "ema": {"erb.x": torch.ones(3)}, "optimizer": {}, "plan": {}, "step": 3}
    torch.save(kept, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"give .*model\.safetensors"):
        import_model(tmp_path / "last.pt")


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.ones(3, 3).to_sparse(), "no plain tensor"),
        (torch.ones(3, device="meta"), "no plain tensor"),
        (torch.ones(1).expand(1 << 21), "has 2097152 numbers"),
        (torch.ones(32, 192), r"erb\.erb_fc\.weight has the shape 32x192, not 64x192"),
    ],
)
def test_weights_of_other_shapes_are_named(weight: torch.Tensor, words: str, tmp_path: Path):
    plain = load_model("gtcrn-plain").weights
    tensors = {name: torch.from_numpy(value.copy()) for name, value in plain.items()}
    torch.save(tensors | {"erb.erb_fc.weight": weight}, tmp_path / "fork.tar")
    with pytest.raises(UserError, match=words):
        import_model(tmp_path / "fork.tar")


def test_a_checkpoint_is_asked_for_no_more_bytes_than_it_has():
    """A damaged length would else be believed, and so much memory be taken."""

    class Asked(io.BytesIO):
        most = 0

        def read(self, count: int | None = -1) -> bytes:
            self.most = max(self.most, count or 0)
            return super().read(count)

    file = Asked(pickle.BINBYTES + (1000).to_bytes(4, "little") + b"few")
    with pytest.raises((EOFError, pickle.UnpicklingError, ValueError)):
        importing._without_effect(8).load(file)
    assert file.most <= 8
    assert issubclass(importing._without_effect(8).Unpickler, pickle._Unpickler)  # no table of C


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *(("card", text) for text in ("[]", "null", "5", "[" * 100_000)),
        *(("config", text) for text in ("5", "[]", '{"skip_dtype": []}', '{"a":' * 100_000)),
    ],
    ids=lambda text: text[:9],
)
def test_a_header_that_describes_nothing_is_refused(
    field: str, text: str, shipped: Checkpoint, tmp_path: Path
):
    path = tmp_path / "odd.safetensors"
    described = {"config": json.dumps(shipped.config.to_dict()), "card": "{}"}
    metadata = {"format": "gtcrn-1", "sha256": shipped.digest, **described, field: text}
    save_file(shipped.weights, path, metadata)
    with pytest.raises(UserError) as refused:
        import_model(path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    assert str(refused.value).startswith(str(path))
    if field == "card":
        with pytest.raises(UserError, match="not a readable model"):
            read_card(path)
