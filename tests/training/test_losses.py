"""Losses: zero for the perfect answer, higher for a worse one, blind to level."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gtcrn_cli.errors import MissingExtraError
from gtcrn_cli.network.config import WINDOW
from gtcrn_cli.training.dnsmos import Dnsmos
from gtcrn_cli.training.losses import EnhancementLoss, compress, over_suppression, spectral_loss
from gtcrn_cli.training.perceptual import (
    BAND_BINS,
    IntelligibilityLoss,
    PerceptualLoss,
    QualityLoss,
    wideband_pesq,
)
from gtcrn_cli.training.stft import analyze_torch

pytestmark = pytest.mark.slow  # each learns or rates


@pytest.fixture
def speech(clean: np.ndarray) -> Tensor:
    """The clean example recording as a batch of two, ``[2, N]``."""
    samples = torch.from_numpy(clean[:, 0])
    half = len(samples) // 2
    return torch.stack([samples[:half], samples[half : 2 * half]])


@pytest.fixture
def noise(speech: Tensor) -> Tensor:
    """White noise as loud as the speech."""
    torch.manual_seed(0)
    return torch.randn_like(speech) * speech.square().mean().sqrt()


ALL_TERMS = {"perceptual": 0.5, "intelligibility": 20.0, "quality": 2.0}
WEIGHTS = [{}, {"perceptual": 0.5}, {"intelligibility": 20.0}, ALL_TERMS]


@pytest.mark.parametrize("weights", WEIGHTS)
def test_more_noise_costs_more(speech: Tensor, noise: Tensor, weights: dict[str, float]):
    loss = EnhancementLoss(**weights)
    clean, noisy = analyze_torch(speech), analyze_torch(speech + noise)
    losses = [
        float(loss(analyze_torch(speech + share * noise), clean, noisy)[0])
        for share in (0.01, 0.1, 0.3, 1.0)
    ]
    assert losses == sorted(losses)


def test_parts_add_up(speech: Tensor, noise: Tensor):
    clean, noisy = analyze_torch(speech), analyze_torch(speech + noise)
    total, parts = EnhancementLoss(**ALL_TERMS)(noisy, clean, noisy)
    terms = {"spectral", "snr", "suppression", "perceptual", "intelligibility", "quality"}
    assert set(parts) == terms
    assert float(total) == pytest.approx(sum(float(p) for p in parts.values()), rel=1e-5)


def test_quality_is_left_out_where_it_is_not_asked_for(speech: Tensor):
    clean = analyze_torch(speech)
    _, parts = EnhancementLoss(**ALL_TERMS)(clean, clean, clean, rate_quality=False)
    assert set(parts) == {"spectral", "snr", "suppression", "perceptual", "intelligibility"}


def test_level_does_not_count(speech: Tensor, noise: Tensor):
    loss = EnhancementLoss(perceptual=0.5)
    clean, noisy = analyze_torch(speech), analyze_torch(speech + noise)
    enhanced = analyze_torch(speech + 0.2 * noise)
    loud = float(loss(enhanced, clean, noisy)[0])
    quiet = float(loss(enhanced * 0.02, clean * 0.02, noisy * 0.02)[0])
    assert quiet == pytest.approx(loud, rel=0.02)


def test_the_level_of_the_output_counts(speech: Tensor, noise: Tensor):
    clean, noisy = analyze_torch(speech), analyze_torch(speech + 0.1 * noise)
    loss = EnhancementLoss()
    _, exact = loss(0.999 * clean, clean, noisy)
    _, quiet = loss(0.8 * clean, clean, noisy)
    assert quiet["snr"] > exact["snr"] + 1


def test_silence_as_a_target_has_finite_gradients(noise: Tensor):
    noisy = analyze_torch(noise)
    mask = torch.full((1,), 0.5, requires_grad=True)
    total, parts = EnhancementLoss(**ALL_TERMS)(noisy * mask, torch.zeros_like(noisy), noisy)
    total.backward()
    assert torch.isfinite(mask.grad).all() and mask.grad.item() > 0  # less noise is better
    of_speech = ("snr", "perceptual", "intelligibility", "quality")
    assert all(parts[name].item() == 0 for name in of_speech)


def test_pauses_in_speech_have_finite_gradients(speech: Tensor, noise: Tensor):
    paused = speech * (torch.arange(speech.shape[1]) // 16_000 % 2)
    noisy = analyze_torch(paused + noise)
    mask = torch.full((1,), 0.5, requires_grad=True)
    EnhancementLoss(**ALL_TERMS)(noisy * mask, analyze_torch(paused), noisy)[0].backward()
    assert torch.isfinite(mask.grad).all()


def test_missing_speech_costs_more_than_as_much_noise(speech: Tensor):
    clean = compress(analyze_torch(speech))
    more, less = (clean._replace(magnitude=clean.magnitude * gain) for gain in (1.1, 0.9))
    assert float(spectral_loss(less, clean)) == pytest.approx(float(spectral_loss(more, clean)))
    assert float(over_suppression(less, clean)) > 1e-3 * float(spectral_loss(less, clean))
    assert float(over_suppression(more, clean)) == 0


def test_perceptual_loss_hears_what_is_added_more_than_what_is_missing(speech: Tensor):
    perceptual = PerceptualLoss()
    clean = analyze_torch(speech)
    assert perceptual(clean, clean).max() < 1e-2
    torch.manual_seed(0)
    gain = 10 ** (torch.randn(*clean.shape[:3], 1).abs() * 12 / 20)
    assert (perceptual(clean * gain, clean) > perceptual(clean / gain, clean)).all()


def test_perceptual_loss_is_pesq_but_for_its_windows(speech: Tensor, noise: Tensor):
    pesq = pytest.importorskip("pesq", reason="the extra 'evaluate' is not installed")
    perceptual, clean = PerceptualLoss(), analyze_torch(speech)
    muffled = torch.nn.functional.avg_pool1d(speech[:, None], 3, 1, 1)[:, 0]
    gated = speech * (torch.arange(speech.shape[1]) // 1600 % 4 > 0)
    versions = [0.1 * speech + 0.1 * share * noise for share in (0.003, 0.03, 0.1, 0.3, 1.0)]
    for enhanced in (*versions, muffled, gated, gated + 0.1 * noise):
        ours = wideband_pesq(perceptual(analyze_torch(enhanced), clean)).numpy()
        theirs = [
            pesq.pesq(16_000, c, e, "wb")
            for c, e in zip(speech.numpy(), enhanced.numpy(), strict=True)
        ]
        assert ours == pytest.approx(theirs, abs=0.3)


def test_intelligibility_loss_is_stoi_but_for_its_frames(speech: Tensor, noise: Tensor):
    pystoi = pytest.importorskip("pystoi", reason="the extra 'evaluate' is not installed")
    intelligibility, clean = IntelligibilityLoss(), analyze_torch(speech)
    assert intelligibility(clean, clean).max() < 1e-3
    for share in (0.03, 0.1, 0.3, 1.0, 3.0):
        enhanced = speech + share * noise
        ours = 1 - intelligibility(0.3 * analyze_torch(enhanced), clean).numpy()
        theirs = [
            pystoi.stoi(c, e, 16_000) for c, e in zip(speech.numpy(), enhanced.numpy(), strict=True)
        ]
        assert ours == pytest.approx(theirs, abs=0.04)


@pytest.mark.slow
def test_quality_is_rated_as_dnsmos_does(speech: Tensor, noise: Tensor):
    dnsmos = pytest.importorskip("speechmos.dnsmos", reason="the extra 'evaluate' is missing")
    judge = Dnsmos()
    length = 144_160  # of the one window that it rates
    for share in (0.03, 1.0):
        samples = (speech[0] + share * noise[0]).repeat(9)[:length].clamp(-1, 1)
        theirs = dnsmos.run(samples.numpy(), 16_000)
        expected = [theirs[f"{name}_mos"] for name in ("sig", "bak", "ovrl")]
        assert judge(samples[None])[0].numpy() == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_the_judge_has_the_gradients_of_plain_convolutions(speech: Tensor, noise: Tensor):
    """Its first layer is a matrix product on a CPU, and nothing else of it changes."""
    judge = Dnsmos()
    by_product, by_convolution = (
        (speech + 0.3 * noise)[:, :16_000].clone().requires_grad_() for _ in range(2)
    )
    found = judge(by_product)
    found.sum().backward()
    kernel, bias = judge.kernels[0], judge.biases[0]
    judge._first_layer = lambda x: torch.conv2d(x[:, None], kernel, bias, padding=1)
    expected = judge(by_convolution)
    expected.sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert by_product.grad is not None and by_convolution.grad is not None
    difference = (by_product.grad - by_convolution.grad).norm() / by_convolution.grad.norm()
    assert difference < 1e-3


def test_without_the_judge_its_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gtcrn_cli.training.dnsmos.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"gtcrn-cli\[train\]"):
        EnhancementLoss(quality=1.0)


@pytest.mark.slow
def test_nothing_is_better_than_clean_speech(speech: Tensor, noise: Tensor):
    quality, noisy = QualityLoss(), speech + 0.3 * noise
    assert (quality(speech, speech) == 0).all()
    assert (quality(speech, noisy) == 0).all()
    assert (quality(noisy, speech) > 0.1).all()


def test_bands_of_hearing_fit_together():
    perceptual = PerceptualLoss()
    assert sum(BAND_BINS) == WINDOW // 2
    assert perceptual.widths.sum() == pytest.approx(bark_of(8000.0), abs=0.5)


def bark_of(frequency_hz: float) -> float:
    """The critical-band scale (Zwicker & Terhardt 1980)."""
    return 13 * np.arctan(0.00076 * frequency_hz) + 3.5 * np.arctan((frequency_hz / 7500) ** 2)
