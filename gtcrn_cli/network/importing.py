"""Models from elsewhere: weights of the published network, however a training has kept them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import MissingExtraError, UserError
from .checkpoint import SUFFIX, Checkpoint, Weights

# What wrappers put before the names of weights: DDP, torch.compile, Lightning, other modules.
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model|net|network|generator)\.)+")
_PARTS = ("encoder", "decoder", "dpgrnn1", "dpgrnn2", "erb")  # of the network
_COUNTER = ".num_batches_tracked"  # of BatchNorm; a number of steps, and no weight
_DEEPEST = 3  # levels of mappings around the weights
# What is called when a checkpoint is read; everything else in one stays without effect.
_HARMLESS = {("collections", "OrderedDict")}
_HARMLESS_OF_TORCH = re.compile(
    r"_utils\._rebuild_(tensor(_v2)?|parameter)|serialization\._get_layout|Size|dtype|device"
    r"|(storage\.)?\w*Storage|\w*Tensor"
)


def import_model(path: Path) -> Checkpoint:
    """Read a model that comes from elsewhere: one of ours, or a checkpoint of another training.

    Such a one is a ``.safetensors`` of the bare weights, or what ``torch.save`` wrote: the weights
    themselves, or a mapping that has them (as ``model``, ``state_dict``, ...), of any precision and
    with the prefixes of DDP, torch.compile or Lightning. Whether they are those of a GTCRN shows
    when an engine is made of them. Nothing in the file is run.

    Raises
    ------
    UserError
        It is neither, or a weight is no number; or torch, which reads checkpoints, is missing.
    """
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    if path.suffix.lower() == ".onnx":
        raise UserError(
            f"{path} is an ONNX model, whose weights are folded together: "
            "give the checkpoint that it was exported from"
        )
    tensors: Mapping[str, Any]
    if path.suffix == SUFFIX:
        if _is_ours(path):
            return Checkpoint.load(path)
        tensors = _read_safetensors(path)
    else:
        tensors = _find_tensors(path, _read_checkpoint(path))
    weights = dict(_of_network(path, tensors))
    if not weights:
        found = ", ".join(list(tensors)[:3])
        raise UserError(f"{path} has weights, but not those of a GTCRN: {found}, ...")
    checkpoint = Checkpoint(weights, card={"description": f"imported from {path.name}"})
    checkpoint.require_numbers(path)
    return checkpoint


def _is_ours(path: Path) -> bool:
    try:
        with safe_open(path, framework="numpy") as file:
            return "format" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return True  # `Checkpoint.load` says what is wrong


def _read_safetensors(path: Path) -> Weights:
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (TypeError, SafetensorError) as error:  # TypeError: bfloat16
        raise UserError(f"{path} cannot be read: {error}") from None


def _read_checkpoint(path: Path) -> Any:
    try:
        import torch
    except ImportError:
        raise MissingExtraError("reading the checkpoint of a training", "torch") from None
    broken = (OSError, EOFError, RuntimeError, pickle.UnpicklingError, ValueError, IndexError)
    foreign = (KeyError, TypeError, AttributeError, ImportError, UnicodeDecodeError)
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:  # there is more in it: schedulers, numbers of NumPy, ...
            return torch.load(
                path, map_location="cpu", weights_only=False, pickle_module=_without_effect()
            )
    except (*broken, *foreign):
        raise UserError(f"{path} is neither a gtcrn model nor a checkpoint of torch") from None


class _Inert:
    """Stands for whatever object is in a checkpoint beside tensors."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, item: Any) -> None:
        pass

    def extend(self, items: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        harmless = (module, name) in _HARMLESS
        if module.split(".")[0] == "torch":
            inside = f"{module}.{name}".removeprefix("torch.")
            harmless = _HARMLESS_OF_TORCH.fullmatch(inside) is not None
        return super().find_class(module, name) if harmless else _Inert


def _without_effect() -> ModuleType:
    """A `pickle` for torch that makes tensors and mappings, and of all else something inert."""
    module = ModuleType("pickle_without_effect")
    module.Unpickler = _Unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: _Unpickler(file, **options).load()  # type: ignore[attr-defined]
    module.UnpicklingError = pickle.UnpicklingError  # type: ignore[attr-defined]
    return module


def _find_tensors(path: Path, content: Any) -> Mapping[str, Any]:
    """The mapping with the most weights of the network in it, at some depth."""
    import torch

    def mappings(value: Any, depth: int) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict) and depth <= _DEEPEST:
            tensors = {k: v for k, v in value.items() if isinstance(v, torch.Tensor)}
            yield {str(name): tensor for name, tensor in tensors.items()}
            for inner in value.values():
                yield from mappings(inner, depth + 1)

    def of_network(tensors: dict[str, Any]) -> int:
        return sum(_WRAPPERS.sub("", name).startswith(_PARTS) for name in tensors)

    found = max(mappings(content, 0), key=lambda m: (of_network(m), len(m)), default={})
    if not found:
        raise UserError(f"{path} is neither a gtcrn model nor a checkpoint with weights in it")
    return {
        name: tensor.detach().float().numpy().copy()
        for name, tensor in found.items()
        if tensor.is_floating_point()
    }


def _of_network(path: Path, tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The weights of the network by its own names, as float32."""
    taken: set[str] = set()
    for long_name, tensor in tensors.items():
        name = _WRAPPERS.sub("", long_name)
        if name.split(".")[0] not in _PARTS or name.endswith(_COUNTER):
            continue
        if not np.issubdtype(tensor.dtype, np.floating):
            continue
        if name in taken:
            raise UserError(f"{path} has {name} of two networks: keep one of them in it")
        taken.add(name)
        yield name, np.asarray(tensor, np.float32)
