"""Engines: frames in, masks out. The network on one device, behind one small interface."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from ..errors import MissingExtraError, UserError
from ..native.layout import (
    CACHE_LINE,
    CONTROLS,
    ENHANCE_HOPS,
    MASK_FRAMES,
    STATE,
    scratch_size,
    stream_size,
)
from ..native.machine_code import Kernel, load_kernel
from ..native.packing import pack
from ..native.tables import is_fast, make_tables
from ..network.checkpoint import Checkpoint, load_model
from ..network.config import BINS
from ..network.level import raise_faint
from ..signals import Samples, Spectrum

ENGINES = ("native", "torch")
DEFAULT_ENGINE = "native"

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


def aligned(array: Samples) -> tuple[Samples, int]:
    """A copy of an array of float32 that begins with a cache line; and its address."""
    room = np.empty(array.size + CACHE_LINE // 4, np.float32)
    address = room.ctypes.data
    skip = -address % CACHE_LINE
    copy = room[skip // 4 : skip // 4 + array.size].reshape(array.shape)
    copy[...] = array
    return copy, address + skip


class NativeEngine:
    """The whole network as one compiled function, on the CPU. The engine to use there."""

    name = "native"

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._weights, self._weights_address = aligned(pack(checkpoint))
        self._kernel = load_kernel()

    def __reduce__(self) -> tuple[type[NativeEngine], tuple[Checkpoint]]:
        """Go to another process as a model: what is compiled has an address in each."""
        return NativeEngine, (self.checkpoint,)

    def mask(self, spectrum: Spectrum, state: State | None) -> tuple[Spectrum, State]:
        """See `Engine.mask`; the state is float32 ``[C, S]``, laid out as `layout.STATE` says."""
        spectrum = np.ascontiguousarray(spectrum, np.complex64)
        channels, frames, bins = spectrum.shape
        before = np.zeros((channels, STATE.size), np.float32) if state is None else state
        after, after_address = aligned(before)
        if bins != BINS or after.shape != (channels, STATE.size):  # the kernel would not notice
            raise ValueError(f"spectrum {spectrum.shape} and state {after.shape} do not fit")
        mask = np.empty_like(spectrum)
        self._kernel(
            MASK_FRAMES,
            spectrum.ctypes.data,
            mask.ctypes.data,
            None,
            self._weights_address,
            after_address,
            None,
            None,
            channels,
            frames,
        )
        return mask, after

    def chain(self, window: int, channels: int) -> Chain | None:
        """All of an `Enhancer` in one call, where there is fast code for the window."""
        if not is_fast(window):
            return None
        return Chain(self._kernel, self._weights_address, self, window, channels)


class Chain:
    """STFT, network, gains and overlap-add, compiled; for one stream at a time.

    Parameters
    ----------
    kernel, weights
        As machine code; their address.
    owner
        Whatever keeps the weights.
    window, channels
        Of the stream.
    """

    def __init__(
        self, kernel: Kernel, weights: int, owner: object, window: int, channels: int
    ) -> None:
        self._kernel = kernel
        self._weights = weights
        self._owner = owner
        self._channels = channels
        self._hop = window // 2
        self._state_size = stream_size(window)
        self._tables, tables = _tables(window)
        self._scratch, scratch = aligned(np.zeros(scratch_size(window, channels), np.float32))
        self._controls, controls = aligned(np.zeros(CONTROLS.size, np.float32))
        self._replaced = self._controls[CONTROLS.replaced :]
        # To look up where an array lies takes numpy a microsecond, and a hop takes 20.
        self._addresses = tables, scratch, controls

    def advance(
        self, block: Samples, state: Samples | None, strength: float, high_band: int, linked: bool
    ) -> tuple[Samples, Samples, int]:
        """Enhance whole hops.

        Parameters
        ----------
        block
            Samples ``[T * hop, C]``, contiguous.
        state
            What the previous call returned, never written to; ``None`` at the start of a stream.
        strength, high_band, linked
            See `enhancer.Settings`; `high_band` as `chain` counts them.

        Returns
        -------
        Samples ``[T * hop, C]``, a hop behind the input; the state for the next call; and how many
        samples were no sound.
        """
        shape = (self._channels, self._state_size)
        after, after_address = aligned(np.zeros(shape, np.float32) if state is None else state)
        if block.shape[1] != self._channels or len(block) % self._hop or after.shape != shape:
            raise ValueError(f"block {block.shape} and state {after.shape} do not fit")
        enhanced = np.empty_like(block)
        controls = self._controls
        controls[CONTROLS.strength] = strength
        controls[CONTROLS.high_band] = high_band
        controls[CONTROLS.linked] = linked
        self._replaced.fill(0)
        tables, scratch, controls_address = self._addresses
        self._kernel(
            ENHANCE_HOPS,
            block.ctypes.data,
            enhanced.ctypes.data,
            tables,
            self._weights,
            after_address,
            scratch,
            controls_address,
            self._channels,
            len(block) // self._hop,
        )
        return enhanced, after, int(self._replaced.sum())


class ParallelChain:
    """Groups of channels, each through a `Chain` of its own, at the same time.

    Parameters
    ----------
    chains, sizes
        One for each group, and its channels.
    """

    def __init__(self, chains: list[Chain], sizes: list[int]) -> None:
        self._chains = chains
        self._ends = np.cumsum(sizes)[:-1]
        self._threads = ThreadPoolExecutor(len(chains), "gtcrn-channels")

    def advance(
        self,
        block: Samples,
        state: list[Samples] | None,
        strength: float,
        high_band: int,
        linked: bool,
    ) -> tuple[Samples, list[Samples], int]:
        """See `Chain.advance`; linked channels cannot be parted."""
        parts = map(np.ascontiguousarray, np.split(block, self._ends, axis=1))
        states: Sequence[Samples | None] = state or [None] * len(self._chains)
        jobs = [
            self._threads.submit(chain.advance, part, before, strength, high_band, linked)
            for chain, part, before in zip(self._chains, parts, states, strict=True)
        ]
        enhanced, after, replaced = zip(*(job.result() for job in jobs), strict=True)
        return np.concatenate(enhanced, axis=1), list(after), sum(replaced)


@functools.lru_cache(maxsize=16)
def _tables(window: int) -> tuple[Samples, int]:
    return aligned(make_tables(window))


class TorchEngine:
    """The reference: the torch module itself, on any device."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu") -> None:
        try:
            import torch
        except ImportError:
            raise MissingExtraError("the torch engine", "torch") from None
        from ..network.model import build_network

        self.checkpoint = checkpoint
        self._torch = torch
        try:
            self._device = torch.device(device)
            self._network = build_network(checkpoint).to(self._device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"torch cannot use the device {device!r}: {reason}") from None

    def mask(self, spectrum: Spectrum, state: State | None) -> tuple[Spectrum, State]:
        """See `Engine.mask`; the state is the network's and the level of `raise_faint`."""
        torch = self._torch
        network, level = (None, None) if state is None else state
        spectrum, level = raise_faint(spectrum, level)
        with torch.inference_mode():
            frames = torch.view_as_real(torch.from_numpy(spectrum)).to(self._device)
            mask, network = self._network.mask(frames, network)
            return torch.view_as_complex(mask.contiguous()).cpu().numpy(), (network, level)


def load_engine(checkpoint: Checkpoint, name: str = DEFAULT_ENGINE, device: str = "cpu") -> Engine:
    """An engine that runs a model.

    Parameters
    ----------
    checkpoint
        The model, as `load_model` returns it.
    name
        ``native`` runs on the CPU and needs no torch; ``torch`` is the reference (extra ``torch``).
    device
        Of the torch engine, by torch's names: ``cpu``, ``cuda``, ``mps``.

    Returns
    -------
    An engine. It remembers nothing of the streams that it serves: any number of enhancers, in any
    number of threads, may share it.

    Raises
    ------
    UserError
        There is no engine of that name, it is not installed, or it does not run on `device`.

    Examples
    --------
    >>> from gtcrn_cli import load_engine, load_model
    >>> load_engine(load_model("gtcrn-plain")).name
    'native'
    """
    if name == "torch":
        return TorchEngine(checkpoint, device)
    if name != "native":
        raise UserError(f"no engine {name!r}: choose from {', '.join(ENGINES)}")
    if device != "cpu":
        raise UserError(f"the native engine runs on the CPU: add --engine torch to use {device!r}")
    return NativeEngine(checkpoint)


@functools.cache
def default_engine() -> Engine:
    """The native engine with the default model, made once."""
    return load_engine(load_model())
