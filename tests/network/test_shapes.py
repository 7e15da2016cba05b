"""The weights that a config has are those of the network that torch builds."""

from __future__ import annotations

import pytest

from gtcrn_cli.network.checkpoint import COUNTER
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.model import GTCRN
from gtcrn_cli.network.shapes import weight_shapes


@pytest.mark.parametrize(
    "name",
    [
        *("add", "none", "concat", "attention+input", "gated+dense", "add+levels=0,1+float16"),
        "hybrid+dense+input+compress=4+levels=0,2",
        "add+dense+input+compress=12",
        "none,gated,none,concat,add+compress=1",
    ],
)
def test_names_and_shapes(name: str) -> None:
    config = GTCRNConfig.parse(name)
    built = {k: tuple(w.shape) for k, w in GTCRN(config).state_dict().items()}
    assert weight_shapes(config) == {k: s for k, s in built.items() if not k.endswith(COUNTER)}
