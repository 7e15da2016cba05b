"""The state of a stream, from one engine's form into the other's."""

from __future__ import annotations

import numpy as np
import torch

from gtcrn_cli.native.layout import STATE
from gtcrn_cli.native.packing import Array
from gtcrn_cli.native.state import join_state, split_state
from gtcrn_cli.network.model import GTBlockState, GTCRNState

TorchState = tuple[GTCRNState, np.ndarray]  # of the network; the level of faint sound


def to_torch_state(state: Array) -> TorchState:
    """The native engine's state as the torch engine's, on the CPU: the stream can go on there."""
    blocks, hidden = split_state(state)
    states = [
        GTBlockState(torch.from_numpy(past), torch.from_numpy(memory)) for past, memory in blocks
    ]
    network = GTCRNState(
        tuple(states[:3]), tuple(torch.from_numpy(memory) for memory in hidden), tuple(states[3:])
    )
    return network, state[:, STATE.level].astype(np.float64)


def to_native_state(state: TorchState) -> Array:
    """The inverse of `to_torch_state`, from any device."""
    network, level = state
    joined = join_state(
        [
            (block.history.cpu().numpy(), block.hidden.cpu().numpy())
            for block in (*network.encoder, *network.decoder)
        ],
        [hidden.cpu().numpy() for hidden in network.dual_path],
    )
    joined[:, STATE.level] = level
    return joined
