"""A larger network begins as the very function of a smaller one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.models import untrained

from gtcrn_cli.enhancement.engines import ENGINES, load_engine
from gtcrn_cli.errors import UserError
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.growth import grow
from gtcrn_cli.network.model import build_network

SMALL = untrained(GTCRNConfig())


@pytest.mark.parametrize(
    "name", ["concat", "add+dense", "add+input", "concat+dense+input", "add,concat,add,add,concat"]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_sounds_the_same(name: str, engine: str):
    large = grow(SMALL, GTCRNConfig.parse(name))
    noise = np.random.default_rng(1).standard_normal((1, 40, 257, 2)).astype(np.float32)
    spectrum = noise.view(np.complex64)[..., 0]
    before, _ = load_engine(SMALL, engine).mask(spectrum, None)
    after, _ = load_engine(large, engine).mask(spectrum, None)
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_all_that_is_new_can_learn():
    network = build_network(grow(SMALL, GTCRNConfig.parse("concat+dense+input")))
    network(torch.randn(1, 20, 257, 2))[0].square().sum().backward()
    for name, parameter in network.named_parameters():
        if "fusions" in name:
            assert parameter.grad is not None and bool((parameter.grad != 0).all())


def test_the_same_network_stays():
    large = grow(SMALL, GTCRNConfig.parse("add+dense"))
    assert grow(large, large.config) is large


@pytest.mark.parametrize(
    "name",
    ["none", "attention", "hybrid", "add,none,add,add,add", "add+compress=4", "add+levels=0,1"],
)
def test_refuses_what_cannot_begin_as_it(name: str):
    with pytest.raises(UserError, match="cannot begin as 'add'"):
        grow(SMALL, GTCRNConfig.parse(name))


def test_refuses_to_grow_twice():
    with pytest.raises(UserError, match="only 'add'"):
        grow(grow(SMALL, GTCRNConfig.parse("concat")), GTCRNConfig.parse("concat+dense"))
