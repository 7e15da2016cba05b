"""Weights and states change their layout, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gtcrn_cli.errors import UserError
from gtcrn_cli.native.layout import STATE, WEIGHTS
from gtcrn_cli.native.packing import pack
from gtcrn_cli.native.state import join_state, split_state
from gtcrn_cli.network.checkpoint import Checkpoint


def test_weights_are_flat_float32(shipped: Checkpoint) -> None:
    flat = pack(shipped)
    assert flat.shape == (WEIGHTS.size,)
    assert flat.dtype == np.float32
    assert np.isfinite(flat).all()


def test_an_erb_bank_of_another_shape_is_refused(shipped: Checkpoint) -> None:
    dense = np.ones_like(shipped.weights["erb.ierb_fc.weight"])
    with pytest.raises(UserError, match="not neighbours"):
        pack(replace(shipped, weights={**shipped.weights, "erb.ierb_fc.weight": dense}))


def test_state_goes_to_and_fro(shipped: Checkpoint) -> None:
    rng = np.random.default_rng(0)
    blocks = [
        (
            rng.standard_normal((2, 16, 2 * dilation, 33), dtype=np.float32),
            rng.standard_normal((2, 16), dtype=np.float32),
        )
        for dilation in (1, 2, 5, 5, 2, 1)
    ]
    hidden = [rng.standard_normal((2, 33, 16), dtype=np.float32) for _ in range(2)]
    state = join_state(blocks, hidden)
    assert state.shape == (2, STATE.size)
    blocks_again, hidden_again = split_state(state)
    for block, again in zip(blocks, blocks_again, strict=True):
        for part, part_again in zip(block, again, strict=True):
            np.testing.assert_array_equal(part, part_again)
    np.testing.assert_array_equal(hidden, hidden_again)
