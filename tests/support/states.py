"""The state of a stream, from one engine's form into the other's."""

from __future__ import annotations

import torch

from gtcrn_cli.native.packing import Array
from gtcrn_cli.native.state import join_state, split_state
from gtcrn_cli.network.model import GTBlockState, GTCRNState


def to_torch_state(state: Array) -> GTCRNState:
    """The native engine's state as the torch engine's, on the CPU: the stream can go on there."""
    blocks, hidden = split_state(state)
    states = [
        GTBlockState(torch.from_numpy(past), torch.from_numpy(memory)) for past, memory in blocks
    ]
    return GTCRNState(
        tuple(states[:3]), tuple(torch.from_numpy(memory) for memory in hidden), tuple(states[3:])
    )


def to_native_state(state: GTCRNState) -> Array:
    """The inverse of `to_torch_state`, from any device."""
    return join_state(
        [
            (block.history.cpu().numpy(), block.hidden.cpu().numpy())
            for block in (*state.encoder, *state.decoder)
        ],
        [hidden.cpu().numpy() for hidden in state.dual_path],
    )
