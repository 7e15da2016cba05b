"""The network: the published one, causal, and the same however it is called."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from gtcrn_cli.enhancement.engines import TorchEngine
from gtcrn_cli.enhancement.enhancer import enhance
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.model import GTCRN, GTCRNState, build_network, erb_filterbank


@pytest.fixture(scope="module")
def network(shipped: Checkpoint) -> GTCRN:
    return build_network(shipped)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def spectrum() -> Tensor:
    return torch.randn(3, 40, 257, 2, generator=torch.Generator().manual_seed(1))


def tensors(state: GTCRNState) -> list[Tensor]:
    """Every tensor of a state, in order."""
    flat: list[Tensor] = []
    for part in (state.encoder, state.dual_path, state.decoder):
        for item in part:
            flat += [item] if isinstance(item, Tensor) else list(item)
    return flat


def test_has_the_published_number_of_parameters():
    parameters = list(GTCRN().parameters())
    assert sum(p.numel() for p in parameters if p.requires_grad) == 23_669
    assert sum(p.numel() for p in parameters if not p.requires_grad) == 24_576


def test_gives_the_published_output(published):
    checkpoint, noisy, expected = published
    enhanced = enhance(noisy, 16_000, TorchEngine(checkpoint))
    assert enhanced.shape == expected.shape
    assert np.abs(enhanced - expected).max() < 1e-5


def test_makes_the_published_filterbank(published):
    checkpoint, _, _ = published
    assert np.allclose(erb_filterbank(), checkpoint.weights["erb.erb_fc.weight"], atol=1e-6)


def test_filterbank_loses_no_bin():
    assert np.allclose(erb_filterbank().sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_frames_at_a_time_do_not_matter(network: GTCRN, spectrum: Tensor, chunk: int):
    whole, last = network(spectrum)
    parts, state = [], None
    for start in range(0, spectrum.shape[1], chunk):
        part, state = network(spectrum[:, start : start + chunk], state)
        parts.append(part)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-5)
    for got, expected in zip(tensors(state), tensors(last), strict=True):
        assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("frame", [0, 1, 20, 39])
def test_looks_at_no_later_frame(network: GTCRN, spectrum: Tensor, frame: int):
    changed = spectrum.clone()
    changed[:, frame:] += 1
    before, after = network(spectrum)[0], network(changed)[0]
    assert torch.equal(before[:, :frame], after[:, :frame])
    assert not torch.allclose(before[:, frame], after[:, frame])


def test_streams_of_a_batch_do_not_meet(network: GTCRN, spectrum: Tensor):
    together, state = network(spectrum)
    alone, own_state = network(spectrum[1:2])
    assert torch.allclose(together[1:2], alone, atol=1e-5)
    for batch, single in zip(tensors(state), tensors(own_state), strict=True):
        assert torch.allclose(batch[1:2], single, atol=1e-5)


def test_does_not_write_into_the_state_it_is_given(network: GTCRN, spectrum: Tensor):
    _, state = network(spectrum)
    kept = copy.deepcopy(state)
    first, _ = network(spectrum, state)
    for now, then in zip(tensors(state), tensors(kept), strict=True):
        assert torch.equal(now, then)
    again, _ = network(spectrum, kept)
    assert torch.equal(first, again)


def test_learns(spectrum: Tensor):
    with torch.inference_mode(False):
        network = GTCRN()
        enhanced, _ = network(spectrum.clone())
        enhanced.square().mean().backward()
        untouched = [
            name for name, p in network.named_parameters() if p.requires_grad and p.grad is None
        ]
    assert untouched == []
