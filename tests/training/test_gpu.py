"""What a GPU trains with: the same network, examples of the same kind. All of it runs on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal

from gtcrn_cli.training.clips import Clip, list_clips, rehearsal
from gtcrn_cli.training.corpora import Corpora, load_corpus
from gtcrn_cli.training.effects import active_level_db as active_level_db_of
from gtcrn_cli.training.loop import own_device
from gtcrn_cli.training.losses import EnhancementLoss, held_back, snr_log10
from gtcrn_cli.training.recipe import Recipe
from gtcrn_cli.training.rendering import (
    LONGEST_RESPONSE,
    Renderer,
    active_level_db,
    butterworth,
    companded,
    whispered,
)
from gtcrn_cli.training.sketches import Drawing, sketch

RATE = 16_000
LENGTH = 2 * RATE


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    cache = tmp_path_factory.mktemp("cache")
    room = np.zeros(4_000, np.float32)
    room[[100, 900, 2_500]] = 1, 0.5, 0.25
    kinds = (
        load_corpus([c for c in list_clips(rehearsal(kind), kind) if not c.valid], cache, str)
        for kind in ("speech", "noise")
    )
    return Corpora(*kinds, [room], [np.eye(1, 50, 3, dtype=np.float32)[0]])


def render(corpora: Corpora, recipe: Recipe, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return Renderer(corpora)(sketch(corpora, recipe, LENGTH, count, (1, 2)))


def test_a_batch_has_the_levels_that_were_asked_for(corpora: Corpora):
    recipe = Recipe().only(snr_db=(6, 6), level_db=(-30, -30))
    noisy, clean = render(corpora, recipe)
    assert noisy.shape == clean.shape == (4, LENGTH)
    assert torch.allclose(active_level_db(clean), torch.tensor(-30.0), atol=0.05)
    noise_db = 10 * torch.log10((noisy - clean).square().mean(1))
    assert torch.allclose(noise_db, torch.tensor(-36.0), atol=0.1)


def test_all_effects_at_once_stay_finite_and_within_full_scale(corpora: Corpora):
    everything = Recipe(
        plain=0, noise_only=0.2, nearly_clean=0.2, room=1, equaliser=1, microphone=1, bandlimit=1,
        codec=1, gain_step=1, clipping=1, whisper=0.5, quiet_reply=1, babble=0.3, made_noise=0.4,
    )  # fmt: skip
    noisy, clean = render(corpora, everything, 12)
    assert torch.isfinite(noisy).all() and torch.isfinite(clean).all()
    assert clean.abs().max() <= 1.0001 and noisy.abs().max() < 1.5
    assert noisy.square().mean(1).min() > 0


def test_the_same_seed_makes_the_same_batch_and_another_one_another(corpora: Corpora):
    renderer = Renderer(corpora)
    one, two, other = (
        renderer(sketch(corpora, Recipe(), LENGTH, 2, seed)) for seed in ((1, 2), (1, 2), (1, 3))
    )
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])


def test_noise_alone_has_nothing_to_be_found_in_it(corpora: Corpora):
    noisy, clean = render(corpora, Recipe().only(noise_only=1.0))
    assert clean.abs().max() == 0 and noisy.abs().amax(1).min() > 0


def test_clips_lie_where_they_were_drawn(corpora: Corpora):
    """At the speed they were recorded with, sample by sample; what is beyond a clip is silence."""
    drawing = Drawing(corpora, Recipe().only(), LENGTH)
    track = drawing.track(0, False, 0, 0.0)
    drawing.pieces.append((track, 1_000, int(corpora.speech.starts[2]), 5_000))
    drawing.rows.append({"snr_db": 0.0})
    voices, noise = Renderer(corpora)._gather(drawing.finish(0), 1)
    clip = corpora.speech.clip(2)[:5_000]
    expected = np.zeros(LENGTH, np.float32)
    expected[1_000:6_000] = clip / np.abs(clip).max()
    np.testing.assert_allclose(voices[0], expected, atol=1e-6)
    assert noise.abs().max() == 0


def test_faint_clips_stay_faint_beside_loud_ones(corpora: Corpora, tmp_path: Path):
    """They are kept at a larger scale, for 16 bits are few."""
    levels = (0.8, 0.01)
    for level in levels:
        soundfile.write(tmp_path / f"{level}.wav", np.full(RATE, level), RATE, "FLOAT")
    clips = [Clip(tmp_path / f"{level}.wav", 0, -1, "", "", False) for level in levels]
    speech = load_corpus(clips, tmp_path / "cache", str)
    both = Corpora(speech, corpora.noise)
    drawing = Drawing(both, Recipe().only(), LENGTH)
    track = drawing.track(0, False, 0, 0.0)
    for number in range(2):
        drawing.pieces.append((track, number * RATE, int(speech.starts[number]), RATE))
    drawing.rows.append({"snr_db": 0.0})
    voices, _ = Renderer(both)._gather(drawing.finish(0), 1)
    np.testing.assert_allclose(voices[0, :RATE], 1, rtol=1e-3)
    np.testing.assert_allclose(voices[0, RATE:], 0.01 / 0.8, rtol=1e-3)


def test_a_tape_at_another_speed_is_another_pitch(corpora: Corpora):
    tone = np.round(8_000 * np.sin(2 * np.pi * 1_000 * np.arange(4 * RATE) / RATE)).astype(np.int16)
    drawing = Drawing(corpora, Recipe().only(), LENGTH)
    track = drawing.track(0, False, 1, 0.0)  # 0.8 of the speed
    drawing.pieces.append((track, 0, 0, round(0.8 * LENGTH)))
    drawing.rows.append({"snr_db": 0.0})
    renderer = Renderer(corpora)
    renderer.samples[: len(tone)] = torch.from_numpy(tone)
    voices, _ = renderer._gather(drawing.finish(0), 1)
    assert np.abs(np.fft.rfft(voices[0].numpy())).argmax() * RATE / LENGTH == 800


def test_filters_are_those_of_scipy():
    hz = torch.fft.rfftfreq(512, 1 / RATE)
    s = 1j * torch.tan(torch.pi * (hz / RATE).clamp(max=0.4999))
    for order, cutoff_hz, kind in ((8, 3_400.0, "lowpass"), (2, 200.0, "highpass")):
        given = s if kind == "lowpass" else 1 / (s + 1e-9)
        cutoff = torch.tensor([cutoff_hz, 0.0])
        ours = butterworth(given, cutoff, order, high=kind == "highpass")
        sections = signal.butter(order, cutoff_hz, kind, fs=RATE, output="sos")
        _, theirs = signal.sosfreqz(sections, hz[1:-1].numpy(), fs=RATE)
        np.testing.assert_allclose(ours[0, 1:-1], theirs, atol=1e-4)
        assert torch.equal(ours[1], torch.ones_like(ours[1]))


def test_levels_and_coding_are_those_of_the_other_way():
    samples = np.random.default_rng(1).normal(size=(2, 8_000)).astype(np.float32) * 0.1
    samples[1, 4_000:] *= 1e-4
    ours = active_level_db(torch.from_numpy(samples))
    np.testing.assert_allclose(ours, [active_level_db_of(row) for row in samples], atol=1e-3)
    error = companded(torch.from_numpy(samples)) - torch.from_numpy(samples)
    assert 25 < 10 * np.log10(np.square(samples).sum() / error.square().sum()) < 45


def test_a_whisper_has_the_envelope_and_no_pitch(corpora: Corpora):
    time_s = np.arange(RATE) / RATE
    hum = sum(np.sin(2 * np.pi * 125 * k * time_s) / k for k in range(1, 20))
    voiced = torch.from_numpy(np.float32(hum / np.abs(hum).max()))[None]
    breath = whispered(voiced, torch.Generator().manual_seed(1))
    assert breath.abs().max() == pytest.approx(float(voiced.abs().max()), rel=1e-3)
    # A voice's spectrum stands out at its harmonics, a whisper's does not.
    peaks = [
        np.abs(np.fft.rfft(x[0].numpy()))[125 : 10 * 125 : 125].sum()
        / np.abs(np.fft.rfft(x[0].numpy()))[125 : 10 * 125].sum()
        for x in (voiced, breath)
    ]
    assert peaks[0] > 0.5 > 0.05 > peaks[1]


def test_responses_are_kept_around_their_loudest_sample(corpora: Corpora):
    rooms = Renderer(corpora).rooms
    assert rooms.shape == (1, LONGEST_RESPONSE)
    assert rooms[0, [0, 800, 2_400]].tolist() == [1, 0.5, 0.25]


def test_no_example_pulls_harder_than_three_of_the_middle():
    gradient = torch.ones(9, 5, 2)
    gradient[0] *= 1e6
    gradient[1] *= 2
    examples = torch.zeros(9, 5, 2, requires_grad=True)
    (held_back(examples) * gradient).sum().backward()
    held = examples.grad
    assert torch.allclose(held[0], torch.full((5, 2), 3.0)) and torch.equal(held[1:], gradient[1:])


def test_dnsmos_counts_beside_the_other_terms_in_a_large_batch():
    """Its gradient is hundreds of times as long, and is not held against theirs."""
    torch.manual_seed(1)
    clean = torch.randn(8, 300, 257, 2) * 0.02
    noisy = clean + torch.randn_like(clean) * 0.01
    loss = EnhancementLoss()
    loss.quality = lambda heard, meant: 1e3 * (heard - meant).square().mean(dim=1)
    lengths = []
    for loss.quality_weight in (0.0, 1e6):
        enhanced = noisy.clone().requires_grad_()
        loss(enhanced, clean, noisy)[0].backward()
        lengths.append(enhanced.grad.flatten(1).norm(dim=1))
    without, judged = lengths  # it judges one of the eight
    assert judged.max() > 30 * without.max()
    assert torch.allclose(judged.sort()[0][:-1], without.sort()[0][:-1], rtol=0.5)


def test_a_perfect_example_leaves_the_batch_its_gradient():
    torch.manual_seed(1)
    clean = torch.randn(9, 40, 257, 2) * 0.02
    noisy = clean + torch.randn_like(clean) * 0.01
    enhanced = noisy.clone()
    enhanced[0] = clean[0] * (1 + 1e-6)  # as good as it gets, where a logarithm is steepest
    enhanced.requires_grad_()
    EnhancementLoss()(enhanced, clean, noisy)[0].backward()
    norms = enhanced.grad.flatten(1).norm(dim=1)
    assert norms[0] <= 3.5 * norms[1:].median()
    assert snr_log10(clean.flatten(1), clean.flatten(1)).max() <= 3.51


def test_each_process_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert own_device("cuda") == "cuda:3"
    assert own_device("cuda:1") == "cuda:1" and own_device("cpu") == "cpu"
    monkeypatch.delenv("LOCAL_RANK")
    assert own_device("cuda") == "cuda"


SAME_NETWORK = """
import copy, torch
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.model import GTCRN
from gtcrn_cli.training.fast.gpu import use_gpu_layers

torch.manual_seed(0)
plain = GTCRN(GTCRNConfig.parse("concat+dense+input")).train()
for module in plain.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.eval()
        module.running_mean.normal_(std=0.1)
        module.running_var.uniform_(0.5, 2)
fast = copy.deepcopy(plain)
use_gpu_layers(fast)
x = torch.randn(1, 2, 257, 2) * 0.3
weight = torch.randn(1, 2, 257, 2)
outputs = [network(x)[0] for network in (plain, fast)]
for y in outputs:
    (y * weight).sum().backward()
torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-4)
for (name, a), b in zip(plain.named_parameters(), fast.parameters(), strict=True):
    if a.requires_grad:
        torch.testing.assert_close(b.grad, a.grad, atol=1e-4, rtol=1e-3, msg=name)
"""


@pytest.mark.slow
def test_layers_for_a_gpu_compute_the_same_and_learn_the_same():
    """Triton's interpreter runs the kernels of the GRUs on a CPU."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", SAME_NETWORK], cwd=root, env=environment, capture_output=True,
        text=True, timeout=120,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
