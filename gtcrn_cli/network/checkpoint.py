"""Model files: one .safetensors with the network's config and its model card in the header.

The header's metadata holds strings only, so config and card are JSON in it. A digest over all
weights is stored beside them and checked on every load: a model that came damaged says so instead
of sounding wrong.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_data_path
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import MissingExtraError, UserError
from ..paths import replacing
from .config import GTCRNConfig

DEFAULT_MODEL = "gtcrn"
SUFFIX = ".safetensors"
_FORMAT = "gtcrn-1"

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and all that one must know to use and to judge them.

    Attributes
    ----------
    weights
        float32 arrays by their name in `model.GTCRN`'s state dict.
    config
        The network they belong to.
    card
        Plain data for people: description, data, licence, recipe, scores.
    """

    weights: Weights
    config: GTCRNConfig = field(default_factory=GTCRNConfig)
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """sha256 over config and weights; the card may be reworded without changing it."""
        total = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        for name in sorted(self.weights):
            tensor = self.weights[name]
            total.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
            total.update(np.ascontiguousarray(tensor).tobytes())
        return total.hexdigest()

    def save(self, path: Path) -> None:
        """Write a model file; one that is there is replaced.

        Raises
        ------
        UserError
            It cannot be written.
        """
        metadata = {
            "format": _FORMAT,
            "config": json.dumps(self.config.to_dict()),
            "card": json.dumps(self.card, ensure_ascii=False),
            "sha256": self.digest,
        }
        contiguous = {name: np.ascontiguousarray(w) for name, w in self.weights.items()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                save_file(contiguous, partial, metadata)
        except (OSError, SafetensorError) as error:
            raise UserError(f"cannot write the model {path}: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read a model file.

        Raises
        ------
        UserError
            It is missing, damaged, not a model of ours, or newer than this version understands.
        """
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise UserError(f"{path} is not a gtcrn model: see 'gtcrn models add --help'")
                checkpoint = cls(
                    {name: file.get_tensor(name) for name in file.keys()},  # noqa: SIM118
                    GTCRNConfig.from_dict(json.loads(metadata["config"])),
                    json.loads(metadata["card"]),
                )
        except FileNotFoundError:
            raise UserError(f"no such model file: {path}") from None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise UserError(f"{path} is not a readable model file: {error}") from None
        if checkpoint.digest != metadata.get("sha256"):
            raise UserError(f"{path} is damaged (its digest differs): get or add it again")
        return checkpoint


def read_card(path: Path) -> Mapping[str, Any]:
    """The card alone, from the header, without reading the weights."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return json.loads(header["__metadata__"]["card"])


def shipped_models_dir() -> Path:
    """Where the package's own models are: inside it when installed, beside it when editable."""
    package = Path(__file__).parent.parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def user_models_dir() -> Path:
    """Where `gtcrn models add` puts models."""
    return user_data_path("gtcrn") / "models"


def available_models() -> dict[str, Path]:
    """Every model by name; a user's model hides a shipped one of the same name."""
    folders = (shipped_models_dir(), user_models_dir())
    return {path.stem: path for folder in folders for path in sorted(folder.glob(f"[!.]*{SUFFIX}"))}


def find_model(name_or_path: str) -> Path:
    """The model file that `--model` means: the name of one, or a path to one.

    Raises
    ------
    UserError
        There is no such model; the message lists those there are.
    """
    models = available_models()
    if name_or_path in models:
        return models[name_or_path]
    path = Path(name_or_path)
    if path.is_file():
        return path
    known = ", ".join(models) or "none"
    raise UserError(f"no model {name_or_path!r}: give a model file, or one of: {known}")


def load_model(name_or_path: str = DEFAULT_MODEL) -> Checkpoint:
    """Read a model file.

    Parameters
    ----------
    name_or_path
        The name of a model that ``gtcrn models`` lists, or the path of a ``.safetensors`` file.

    Returns
    -------
    Its weights, the configuration of its network, and its card: what it was trained on and how.

    Raises
    ------
    UserError
        There is no such model, or the file is none.

    Examples
    --------
    >>> from gtcrn_cli import load_model
    >>> load_model().config.fusion
    'concat'
    """
    return Checkpoint.load(find_model(name_or_path))


def import_model(path: Path) -> Checkpoint:
    """Read a model that comes from elsewhere: one of ours, or a published ``.tar`` checkpoint.

    Whether the weights are those of a GTCRN shows when an engine is made of them.

    Raises
    ------
    UserError
        It is neither; or it is a published one and torch, which reads those, is not installed.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    if path.suffix == SUFFIX:
        return Checkpoint.load(path)
    try:
        import torch
    except ImportError:
        raise MissingExtraError("reading a published .tar checkpoint", "torch") from None
    broken = (OSError, EOFError, RuntimeError, pickle.UnpicklingError)
    foreign = (KeyError, IndexError, TypeError, AttributeError)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        weights = {name: tensor.numpy() for name, tensor in content["model"].items()}
    except (*broken, *foreign):
        raise UserError(f"{path} is neither a gtcrn model nor a published checkpoint") from None
    return Checkpoint(
        {name: w for name, w in weights.items() if w.dtype == np.float32},
        card={"description": f"imported from {path.name}"},
    )
