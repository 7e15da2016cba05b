"""Begin a larger network as the very function of a smaller one, so that no training is lost.

After Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016.
"""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from .checkpoint import Checkpoint, Weights
from .config import CHANNELS, LEVELS, GTCRNConfig


def grow(checkpoint: Checkpoint, config: GTCRNConfig) -> Checkpoint:
    """The weights of a plain ``add`` network in a network that takes its skips as `config` says.

    The new convolutions begin as the sum that ``add`` is: one for what comes from the level below
    and for the mirrored skip, zero for all other skips and the bias. So both networks give the same
    output, to rounding, and training goes on from there.

    Raises
    ------
    UserError
        The weights are no plain ``add`` network's, or `config` has none to be that sum: every
        level has to be ``add`` or ``concat`` and must take the level that it mirrors, uncompressed.
    """
    if checkpoint.config == config:
        return checkpoint
    if checkpoint.config != GTCRNConfig():
        raise UserError(
            f"cannot grow a network with skips {checkpoint.config.name!r}: only 'add' can begin as "
            "a larger one, as gtcrn-plain does"
        )
    weights: Weights = dict(checkpoint.weights)
    for level in LEVELS:
        kind, sources = config.kind(level), config.sources(level)
        if kind not in ("add", "concat") or level not in sources or config.skip_compress:
            raise UserError(
                f"{config.name!r} cannot begin as 'add': give add or concat for every level, "
                "with its own skip and without +compress"
            )
        name = f"decoder.fusions.{len(LEVELS) - 1 - level}"
        identity = np.eye(CHANNELS, dtype=np.float32)
        taken = [
            identity
            if source == level
            else np.zeros((CHANNELS, config.cached_channels(source)), np.float32)
            for source in sources
        ]
        if kind == "concat":
            name, taken = f"{name}.point", [identity, *taken]
        elif config.restores(level):
            name = f"{name}.restore"
        else:
            continue
        weights[f"{name}.weight"] = np.concatenate(taken, axis=1)[..., None, None]
        weights[f"{name}.bias"] = np.zeros(CHANNELS, np.float32)
    return Checkpoint(weights, config, checkpoint.card)
