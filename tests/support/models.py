"""Models that no training made."""

from __future__ import annotations

import torch

from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.model import GTCRN


def untrained(config: GTCRNConfig, seed: int = 1) -> Checkpoint:
    """Random weights, with batch statistics and slopes that are not what they are at the start."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        network = GTCRN(config)
        for name, tensor in network.state_dict().items():
            if "bn" in name and tensor.is_floating_point():
                tensor.mul_(torch.empty_like(tensor).uniform_(0.7, 1.3))
                tensor.add_(torch.empty_like(tensor).uniform_(0, 0.2))
            elif name.endswith("act.weight"):
                tensor.uniform_(0.1, 0.4)
    weights = {k: v.numpy() for k, v in network.state_dict().items() if v.is_floating_point()}
    return Checkpoint(weights, config, {"description": "random"})
