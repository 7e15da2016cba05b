"""The layers for training: the same numbers and gradients as PyTorch's own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.model import GTCRN
from gtcrn_cli.training.fast.gru import BlockGRU
from gtcrn_cli.training.fast.layers import use_fast_layers
from gtcrn_cli.training.fast.norm import normalize_and_activate


@pytest.mark.parametrize("count", [1, 64, 70])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("hidden", [4, 16])
def test_gru_is_torchs(count: int, bidirectional: bool, hidden: int):
    torch.manual_seed(0)
    reference = nn.GRU(8, hidden, batch_first=True, bidirectional=bidirectional)
    fast = copy.deepcopy(reference)
    use_fast_layers(fast)
    assert isinstance(fast, BlockGRU)
    weights = torch.randn(count, 9, hidden * (1 + bidirectional))
    found = []
    for gru in (reference, fast):
        torch.manual_seed(1)
        x = torch.randn(count, 9, 8, requires_grad=True)
        first = torch.randn(1 + bidirectional, count, hidden, requires_grad=True)
        y, last = gru(x, first)
        ((y * weights).sum() + last.square().sum()).backward()
        found.append([y, last, x.grad, first.grad, *(p.grad for p in gru.parameters())])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_norm_and_prelu_are_torchs(training: bool):
    torch.manual_seed(0)
    norm, act = nn.BatchNorm2d(5).train(training), nn.PReLU()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x, weights = torch.randn(3, 5, 7, 11) * 3 + 1, torch.randn(3, 5, 7, 11)
    found = []
    for function in (lambda norm, act, x: act(norm(x)), normalize_and_activate):
        norm_now, act_now = copy.deepcopy(norm), copy.deepcopy(act)
        x_now = x.clone().requires_grad_()
        y = function(norm_now, act_now, x_now)
        (y * weights).sum().backward()
        grads = [p.grad for p in (x_now, *norm_now.parameters(), *act_now.parameters())]
        found.append([y, *grads, *norm_now.buffers()])
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(
    params=["add", "concat+dense+input", "attention+dense+compress=4", "gated+bfloat16"]
)
def networks(request: pytest.FixtureRequest) -> tuple[GTCRN, GTCRN]:
    """A network with random weights and statistics, and its fast twin."""
    torch.manual_seed(0)
    network = GTCRN(GTCRNConfig.parse(request.param))
    fast = copy.deepcopy(network)
    use_fast_layers(fast)
    return network, fast


def test_a_fast_network_learns_the_same(networks: tuple[GTCRN, GTCRN]):
    torch.manual_seed(1)
    spectrum, weights = torch.randn(2, 20, 257, 2), torch.randn(2, 20, 257, 2)
    for network in networks:
        enhanced, _ = network.train()(spectrum)
        (enhanced * weights).sum().backward()
    network, fast = networks
    for (name, expected), (_, actual) in zip(
        network.named_parameters(), fast.named_parameters(), strict=True
    ):
        if expected.requires_grad:
            torch.testing.assert_close(
                actual.grad, expected.grad, rtol=2e-3, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}"
            )
    for (name, expected), (_, actual) in zip(
        network.named_buffers(), fast.named_buffers(), strict=True
    ):
        torch.testing.assert_close(actual, expected, msg=lambda m, n=name: f"{n}: {m}")


def test_a_fast_network_streams_the_same(networks: tuple[GTCRN, GTCRN]):
    spectrum = torch.randn(1, 12, 257, 2)
    outputs = []
    with torch.no_grad():
        for network in networks:
            first, state = network.eval()(spectrum[:, :5])
            rest, _ = network(spectrum[:, 5:], state)
            outputs.append(torch.cat([first, rest], 1))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)


def test_names_of_weights_stay(networks: tuple[GTCRN, GTCRN]):
    network, fast = networks
    assert list(network.state_dict()) == list(fast.state_dict())
