"""Model files: one .safetensors with the network's config and its model card in the header.

The header's metadata holds strings only, so config and card are JSON in it. A digest over all
weights is stored beside them and checked on every load: a model that came damaged says so instead
of sounding wrong.
"""

from __future__ import annotations

import hashlib
import json
import struct
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from platformdirs import user_data_path
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import UserError
from ..paths import refuse_url, replacing, user_folder
from .config import GTCRNConfig
from .shapes import weight_shapes

DEFAULT_MODEL = "gtcrn"
SUFFIX = ".safetensors"
CHECKPOINT_SUFFIXES = (".tar", ".pt", ".pth", ".ckpt", ".bin")  # as trainings call what they keep
_FORMAT = "gtcrn-1"
_LONGEST_HEADER = 100_000_000  # bytes, as safetensors has it
COUNTER = ".num_batches_tracked"  # of BatchNorm; a number of steps, and no weight

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

    def require_fit(self) -> None:
        """Refuse weights that are not exactly those of the network that `config` describes.

        Whatever runs a network asks for this first: weights that are left over would be those of
        another network, which sounds otherwise.

        Raises
        ------
        UserError
            A weight is missing, left over or of another shape; or a variance is negative.
        """
        there = {name: w.shape for name, w in self.weights.items() if not name.endswith(COUNTER)}
        expected = weight_shapes(self.config)
        for name in sorted(expected.keys() | there.keys()):
            if there.get(name) == expected.get(name):
                continue
            if name not in there:
                reason = f"{name} is missing"
            elif name not in expected:
                reason = f"it has no {name}"
            else:
                reason = f"{name} has the shape {_shape(there[name])}, not {_shape(expected[name])}"
            raise UserError(f"the weights do not fit the network {self.config.name!r}: {reason}")
        for name in expected:
            if name.endswith(".running_var") and (self.weights[name] < 0).any():
                raise UserError(f"the weights make no network: a variance in {name} is negative")

    def require_numbers(self, path: Path) -> None:
        """Refuse weights that are no numbers, as those of a training that diverged.

        Raises
        ------
        UserError
            A weight is NaN or infinite.
        """
        bad = [name for name, w in self.weights.items() if not np.isfinite(w).all()]
        if bad:
            raise UserError(
                f"{path} has weights that are no numbers (NaN or infinite, in {bad[0]} and "
                f"{len(bad) - 1} others): its training diverged"
            )

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
            "card": _text(json.dumps(self.card, ensure_ascii=False)),
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
        if path.suffix.lower() == ".onnx":
            raise UserError(f"{path} is an ONNX model: give the model that it was exported from")
        if path.suffix.lower() in CHECKPOINT_SUFFIXES:
            raise UserError(
                f"{path} is a checkpoint of a training: 'gtcrn models add {path}' makes a model of "
                f"it, to be used as --model {path.stem}"
            )
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise UserError(f"{path} is not a gtcrn model: see 'gtcrn models add --help'")
                try:
                    config = GTCRNConfig.from_dict(_object(metadata["config"]))
                except UserError as error:
                    raise UserError(f"{path}: {error}") from None
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                checkpoint = cls(weights, config, _object(metadata["card"]))
        except FileNotFoundError:
            raise UserError(f"no such model file: {path}") from None
        except _NO_MODEL as error:
            raise UserError(f"{path} is not a readable model file: {error}") from None
        if checkpoint.digest != metadata.get("sha256"):
            raise UserError(f"{path} is damaged (its digest differs): get or add it again")
        checkpoint.require_numbers(path)
        try:
            checkpoint.require_fit()
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        return checkpoint


# What a header that is damaged, or made by others, ends in. RecursionError: brackets in brackets.
_NO_MODEL = (
    *(OSError, SafetensorError, struct.error),
    *(AttributeError, KeyError, TypeError, ValueError, RecursionError),
)


def _object(json_text: str) -> dict[str, Any]:
    value = json.loads(json_text)
    if not isinstance(value, dict):
        raise ValueError(f"its header has {json_text[:20]!r} where it should describe the model")
    return value


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "of one number"


def _text(json_text: str) -> str:
    """What a header can hold: names of files that are no text, escaped as JSON has it."""
    return json_text.encode("utf-8", "backslashreplace").decode()


def read_card(path: Path) -> Mapping[str, Any]:
    """The card alone, from the header, without reading the weights.

    Raises
    ------
    UserError
        It is no model of ours.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
        return _object(header["__metadata__"]["card"])
    except _NO_MODEL:
        raise UserError(f"{path} is not a readable model file") from None


def one_line(text: str) -> str:
    """What a card says; what moves a cursor, turns text round or ends a line as JSON escapes it."""

    def is_plain(character: str) -> bool:
        category = unicodedata.category(character)
        return category[0] != "C" and category not in ("Zl", "Zp")

    return "".join(c if is_plain(c) else json.dumps(c)[1:-1] for c in text)


def shipped_models_dir() -> Path:
    """Where the package's own models are: inside it when installed, beside it when editable."""
    package = Path(__file__).parent.parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def is_shipped(name: str) -> bool:
    """Whether the package has a model of its own of this name."""
    return (shipped_models_dir() / f"{name}{SUFFIX}").is_file()


def user_models_dir() -> Path:
    """Where `gtcrn models add` puts models.

    Raises
    ------
    UserError
        The user has no home.
    """
    return user_folder(user_data_path, "XDG_DATA_HOME") / "models"


def available_models() -> dict[str, Path]:
    """Every model by name; a user's model hides a shipped one of the same name."""
    folders = [shipped_models_dir()]
    with suppress(UserError):  # who has no home has put no models there
        folders.append(user_models_dir())
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
    refuse_url(name_or_path)
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
