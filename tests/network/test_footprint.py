"""The counts are those of the network that torch builds and runs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.footprint import footprint
from gtcrn_cli.network.model import GTCRN

NAMES = [
    "add",
    "none",
    "concat",
    "attention+input",
    "gated+dense",
    "hybrid+dense+input+compress=4+levels=0,2+float16",
    "add+dense+input+compress=12",
    "none,gated,none,concat,add+compress=1",
    "gated+input+levels=2,4",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_parameters_and_products(name: str) -> None:
    config = GTCRNConfig.parse(name)
    network = GTCRN(config).eval()
    cost = footprint(config)
    assert cost.parameters == sum(p.numel() for p in network.parameters() if p.requires_grad)
    frames = 2
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, frames, 257, 2))
    # The decoder's transposed convolutions work on 2, 4 and 10 frames before the first, too.
    beyond = (2 + 4 + 10) * 16 * 33 * 9
    macs = counter.get_total_flops() / 2 - beyond
    assert cost.macs_per_s == macs / frames * 62.5


def test_the_published_network() -> None:
    cost = footprint(GTCRNConfig())
    assert cost.parameters == 23_669
    assert cost.skip_bytes_per_frame == 4 * 16 * (65 + 4 * 33)


@pytest.mark.parametrize("name", NAMES)
def test_state_and_cached_skips(name: str) -> None:
    config = GTCRNConfig.parse(name)
    network = GTCRN(config).eval()
    cached: list[int] = []

    def measure(module: torch.nn.Module, inputs: tuple) -> None:
        cached.append(sum(skip.untyped_storage().nbytes() for skip in inputs[1].values()))

    network.decoder.register_forward_pre_hook(measure)
    with torch.inference_mode():
        _, state = network(torch.zeros(1, 1, 257, 2))
    cost = footprint(config)
    assert cached == [cost.skip_bytes_per_frame]
    blocks = [tensor for block in (*state.encoder, *state.decoder) for tensor in block]
    assert cost.state_bytes == sum(t.numel() * 4 for t in (*blocks, *state.dual_path))
