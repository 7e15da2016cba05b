"""Models from elsewhere: weights of the published network, however a training has kept them."""

from __future__ import annotations

import math
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import MissingExtraError, UserError
from .checkpoint import COUNTER, SUFFIX, Checkpoint, Weights

# What wrappers put before the names of weights: DDP, torch.compile, Lightning, other modules.
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model|net|network|generator)\.)+")
_PARTS = ("encoder", "decoder", "dpgrnn1", "dpgrnn2", "erb")  # of the network
_OF_OUR_TRAINING = {"network", "ema", "optimizer", "plan"}  # `training.run` keeps these and more
_LARGEST = 1 << 20  # numbers in a tensor; a weight of the network has a hundredth of that at most
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
    with the prefixes of DDP, torch.compile or Lightning. They have to be those of the published
    network: a file from elsewhere does not say how another one takes its skips. Nothing in the file
    is run.

    Raises
    ------
    UserError
        It is neither, or of another network, or a weight is no number; or torch, which reads
        checkpoints, is missing.
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
    try:
        checkpoint.require_fit()
    except UserError as error:
        raise UserError(f"{path} is not of the published network: {error}") from None
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own past
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:  # there is more in it: schedulers, numbers of NumPy, ...
                module = _without_effect(path.stat().st_size)
                return torch.load(
                    path, map_location="cpu", weights_only=False, pickle_module=module
                )
    except Exception:  # a damaged file fails to unpickle in every way there is
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


class _Unpickler(pickle._Unpickler):
    """Makes tensors and mappings, and of all else something inert.

    It is the one in Python, whose memory grows with what it reads. The one in C takes a list as
    long as the numbers in the file say, and so does whatever asks a file for so many bytes: no more
    is asked for than the file has.
    """

    dispatch: ClassVar[dict[int, Any]] = {
        code: load
        for code, load in pickle._Unpickler.dispatch.items()
        if code not in (*pickle.BYTEARRAY8, *pickle.NEXT_BUFFER)  # torch writes older pickles
    }
    longest = 0  # bytes

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file, **options)
        self._file_read = lambda count: file.read(min(count, self.longest))

    def find_class(self, module: str, name: str) -> Any:
        harmless = (module, name) in _HARMLESS
        if module.split(".")[0] == "torch":
            inside = f"{module}.{name}".removeprefix("torch.")
            harmless = _HARMLESS_OF_TORCH.fullmatch(inside) is not None
        return super().find_class(module, name) if harmless else _Inert


def _without_effect(longest: int) -> ModuleType:
    """A `pickle` for torch whose unpickler is `_Unpickler`, for a file of so many bytes."""
    unpickler = type("_UnpicklerOfFile", (_Unpickler,), {"longest": longest})
    module = ModuleType("pickle_without_effect")
    module.Unpickler = unpickler  # type: ignore[attr-defined]
    module.load = lambda file, **options: unpickler(file, **options).load()  # type: ignore[attr-defined]
    module.UnpicklingError = pickle.UnpicklingError  # type: ignore[attr-defined]
    return module


def _find_tensors(path: Path, content: Any) -> Mapping[str, Any]:
    """The mapping with the most weights of the network in it, at some depth."""
    import torch

    if isinstance(content, dict) and content.keys() >= _OF_OUR_TRAINING:
        raise UserError(
            f"{path} is what a training goes on from: give {path.with_name('model.safetensors')}, "
            "the model that it made"
        )

    def mappings() -> Iterator[dict[str, Any]]:
        level: list[Any] = [content]
        seen: set[int] = set()
        for _ in range(1 + _DEEPEST):
            dicts = {id(value): value for value in level if isinstance(value, dict)}
            new = [value for number, value in dicts.items() if number not in seen]
            seen |= dicts.keys()
            level = [inner for value in new for inner in value.values()]
            for value in new:
                yield {str(k): v for k, v in value.items() if isinstance(v, torch.Tensor)}

    def of_network(tensors: dict[str, Any]) -> int:
        return sum(_WRAPPERS.sub("", name).startswith(_PARTS) for name in tensors)

    found = max(mappings(), key=lambda m: (of_network(m), len(m)), default={})
    if not found:
        raise UserError(f"{path} is neither a gtcrn model nor a checkpoint with weights in it")
    return {name: tensor for name, tensor in found.items() if tensor.is_floating_point()}


def _of_network(path: Path, tensors: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The weights of the network by its own names, as float32."""
    taken: set[str] = set()
    for long_name, tensor in tensors.items():
        name = _WRAPPERS.sub("", long_name)
        if name.split(".")[0] not in _PARTS or name.endswith(COUNTER):
            continue
        if isinstance(tensor, np.ndarray) and not np.issubdtype(tensor.dtype, np.floating):
            continue
        if name in taken:
            raise UserError(f"{path} has {name} of two networks: keep one of them in it")
        taken.add(name)
        yield name, _as_array(path, name, tensor)


def _as_array(path: Path, name: str, tensor: Any) -> np.ndarray:
    """What an array or a tensor of torch holds, as float32."""
    size = math.prod(tensor.shape)
    if size > _LARGEST:  # a tensor may say so that is one number in the file, repeated
        raise UserError(f"{path} is not of the published network: {name} has {size} numbers")
    if not isinstance(tensor, np.ndarray):
        try:
            tensor = tensor.detach().float().numpy()
        except (RuntimeError, TypeError):  # a sparse one, or one that has no numbers
            raise UserError(f"{path} has a weight that is no plain tensor: {name}") from None
    return np.array(tensor, np.float32)
