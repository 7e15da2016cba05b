"""Engines: frames in, masks out. The network on one device, behind one small interface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .checkpoint import Checkpoint
from .errors import MissingExtraError, UserError
from .spectrum import Spectrum

if TYPE_CHECKING:
    from .model import GTCRN

State = Any  # an engine's own; copy it with `copy.deepcopy`


class Engine(Protocol):
    """Runs the network on C streams (channels) at once. Remembers nothing itself."""

    name: str
    checkpoint: Checkpoint

    def mask(self, spectrum: Spectrum, state: State | None) -> tuple[Spectrum, State]:
        """The complex ratio mask for T >= 1 frames.

        Parameters
        ----------
        spectrum
            complex64 ``[C, T, 257]``, the noisy spectrum.
        state
            What the previous call returned, never written to; ``None`` at the start of a stream.

        Returns
        -------
        mask complex64 ``[C, T, 257]``, and the state for the next call.
        """
        ...


class TorchEngine:
    """The reference: the torch module itself, on any device."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        try:
            import torch
        except ImportError:
            raise MissingExtraError("the torch engine", "torch") from None
        self.checkpoint = checkpoint
        self._torch = torch
        try:
            self._device = torch.device(device)
            self._network = build_network(checkpoint).to(self._device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"torch cannot use the device {device!r}: {reason}") from None

    def mask(self, spectrum: Spectrum, state: State | None) -> tuple[Spectrum, State]:
        torch = self._torch
        with torch.inference_mode():
            frames = torch.view_as_real(torch.from_numpy(spectrum)).to(self._device)
            mask, state = self._network.mask(frames, state)
            return torch.view_as_complex(mask.contiguous()).cpu().numpy(), state


def build_network(checkpoint: Checkpoint) -> GTCRN:
    """The torch module with the weights of `checkpoint`, in evaluation mode.

    Raises
    ------
    UserError
        The weights do not fit the network that the checkpoint's config describes.
    """
    import torch

    from .model import GTCRN

    network = GTCRN(checkpoint.config)
    tensors = {name: torch.from_numpy(w.copy()) for name, w in checkpoint.weights.items()}
    try:
        missing, unexpected = network.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UserError(f"the weights do not fit the network: {reason}") from None
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise UserError(f"the weights do not fit the network: {(missing + unexpected)[0]}")
    return network.eval()


DEFAULT_ENGINE = "native"


def load_engine(checkpoint: Checkpoint, name: str = DEFAULT_ENGINE, device: str = "cpu") -> Engine:
    """The engine called `name`.

    Raises
    ------
    UserError
        There is no engine of that name, or it is not installed.
    """
    if name in ("torch", "native"):
        return TorchEngine(checkpoint, device)
    raise UserError(f"no engine {name!r}: choose torch")
