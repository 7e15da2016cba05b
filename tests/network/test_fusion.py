"""Every way of taking skips: its formula, and all that holds for the network, in both engines."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.models import untrained
from support.states import to_native_state
from torch.nn import functional as F

from gtcrn_cli.enhancement.engines import ENGINES, Engine, load_engine
from gtcrn_cli.enhancement.enhancer import Enhancer
from gtcrn_cli.enhancement.stft import STFT
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.config import INPUT, GTCRNConfig
from gtcrn_cli.network.fusion import Fusion, SkipCache, align
from gtcrn_cli.network.model import GTCRN
from gtcrn_cli.signals import Spectrum

EXACT = [
    "none",
    "add",
    "concat",
    "attention",
    "gated",
    "hybrid",
    "none,add,gated,none,concat",
    "concat,none,attention,gated,none",
    "add+dense",
    "concat+dense",
    "attention+dense",
    "gated+dense",
    "hybrid+dense",
    "add+input",
    "concat+input",
    "attention+input",
    "hybrid+dense+input",
    "add+compress=4",
    "concat+compress=1",
    "gated+compress=15",
    "add+dense+input+compress=12",
    "hybrid+dense+input+compress=4",
    "add+levels=0,1",
    "attention+input+levels=2,4",
    "add+dense+levels=1,4",
]
HALF_PRECISION = [
    "add+float16",
    "add+bfloat16",
    "gated+bfloat16",
    "concat+dense+input+bfloat16",
    "hybrid+dense+input+compress=6+levels=0,1,3+float16",
]
ALL = EXACT + HALF_PRECISION
USUAL = ("none", "add", "concat", "hybrid+dense", "gated+compress=15", "attention+input+levels=2,4")
USUAL += ("concat+dense+input+bfloat16",)
EACH = [pytest.param(name, marks=[] if name in USUAL else pytest.mark.slow) for name in ALL]

pytestmark = pytest.mark.xdist_group("fusion")  # the networks are made once


def tolerance(name: str) -> float:
    """A number that lies between two of half precision may be rounded either way."""
    if "bfloat16" in name:
        return 2e-2
    return 4e-3 if "float16" in name else 1e-5


@pytest.fixture(scope="module", params=EACH)
def checkpoint(request: pytest.FixtureRequest) -> Checkpoint:
    return untrained(GTCRNConfig.parse(request.param))


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, checkpoint: Checkpoint) -> Engine:
    return load_engine(checkpoint, request.param)


@pytest.fixture(scope="module")
def spectrum(noisy: np.ndarray) -> Spectrum:
    """Two streams of 50 frames: speech in noise."""
    pair = np.concatenate([noisy[16_000:28_800], noisy[40_000:52_800]], axis=1)
    return STFT(16_000).analyze(pair, None)[0]


def test_engines_agree(checkpoint: Checkpoint, spectrum: Spectrum) -> None:
    native, reference = (load_engine(checkpoint, n).mask(spectrum, None)[0] for n in ENGINES)
    np.testing.assert_allclose(native, reference, atol=tolerance(checkpoint.config.name))


@pytest.mark.parametrize("name", HALF_PRECISION)
def test_engines_round_alike(name: str, spectrum: Spectrum) -> None:
    """They agree far better than either does with a network that does not round."""
    rounded = untrained(GTCRNConfig.parse(name))
    exact = replace(rounded, config=replace(rounded.config, skip_dtype="float32"))
    native, reference, unrounded = (
        load_engine(checkpoint, engine).mask(spectrum, None)[0]
        for checkpoint, engine in ((rounded, "native"), (rounded, "torch"), (exact, "torch"))
    )
    of_rounding = np.sqrt(np.mean(np.abs(unrounded - reference) ** 2))
    assert of_rounding > 1e-6
    assert np.sqrt(np.mean(np.abs(native - reference) ** 2)) < of_rounding / 4


def test_frames_per_call_do_not_matter(engine: Engine, spectrum: Spectrum) -> None:
    whole, _ = engine.mask(spectrum, None)
    pieces, state, start = [], None, 0
    for frames in (1, 2, 1, 30, 16):
        piece, state = engine.mask(spectrum[:, start : start + frames], state)
        pieces.append(piece)
        start += frames
    atol = 0 if engine.name == "native" else tolerance(engine.checkpoint.config.name)
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, atol=atol)


def test_looks_at_no_later_frame(engine: Engine, spectrum: Spectrum) -> None:
    changed = spectrum.copy()
    changed[:, 20:] *= 3
    before, after = engine.mask(spectrum, None)[0], engine.mask(changed, None)[0]
    np.testing.assert_array_equal(before[:, :20], after[:, :20])
    assert np.abs(before[:, 20] - after[:, 20]).max() > 1e-3


def test_streams_do_not_meet(engine: Engine, spectrum: Spectrum) -> None:
    together, _ = engine.mask(spectrum, None)
    alone, _ = engine.mask(spectrum[1:], None)
    np.testing.assert_allclose(together[1:], alone, atol=tolerance(engine.checkpoint.config.name))


def test_state_is_left_alone_and_is_all_there_is(engine: Engine, spectrum: Spectrum) -> None:
    _, state = engine.mask(spectrum[:, :20], None)
    kept = copy.deepcopy(state)
    engine.mask(spectrum[:, 30:], state)  # a fork of the stream that must leave no trace
    first, _ = engine.mask(spectrum[:, 20:30], state)
    again, _ = engine.mask(spectrum[:, 20:30], kept)
    np.testing.assert_array_equal(first, again)


def test_a_stream_can_change_engines(checkpoint: Checkpoint, spectrum: Spectrum) -> None:
    native, reference = (load_engine(checkpoint, name) for name in ENGINES)
    whole, _ = native.mask(spectrum, None)
    _, state = reference.mask(spectrum[:, :33], None)
    rest, _ = native.mask(spectrum[:, 33:], to_native_state(state))
    np.testing.assert_allclose(rest, whole[:, 33:], atol=tolerance(checkpoint.config.name))


def test_comes_back_as_it_was_saved(
    checkpoint: Checkpoint, spectrum: Spectrum, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path / "m.safetensors")
    loaded = Checkpoint.load(tmp_path / "m.safetensors")
    assert loaded.config == checkpoint.config
    for name in ENGINES:
        expected, _ = load_engine(checkpoint, name).mask(spectrum[:, :9], None)
        actual, _ = load_engine(loaded, name).mask(spectrum[:, :9], None)
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", ["hybrid+dense+input+compress=4", "add+bfloat16"])
def test_blocks_of_samples_do_not_matter(name: str, noisy: np.ndarray) -> None:
    engine = load_engine(untrained(GTCRNConfig.parse(name)))
    outputs = []
    for size in (16_000, 77):
        enhancer = Enhancer(engine, 16_000)
        blocks = [enhancer.push(noisy[n : n + size]) for n in range(0, 16_000, size)]
        # The last block of 77 reaches beyond 16,000.
        outputs.append(np.concatenate([*blocks, enhancer.flush()])[:15_000])
    np.testing.assert_array_equal(*outputs)


@pytest.mark.parametrize("name", EACH)
def test_every_parameter_learns(name: str) -> None:
    network = GTCRN(GTCRNConfig.parse(name))
    spectrum = torch.randn(2, 12, 257, 2, generator=torch.Generator().manual_seed(1))
    network(spectrum)[0].square().mean().backward()
    idle = [
        key
        for key, p in network.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    # What every convolution before a BatchNorm has: a bias that the BatchNorm takes away again.
    assert [key for key in idle if "fusions" in key or "cache" in key] == []


def test_add_has_the_names_and_the_numbers_of_the_published_network() -> None:
    names = GTCRN().state_dict()
    assert not [name for name in names if "fusion" in name or "cache" in name]
    d, e = torch.randn(2, 1, 16, 3, 33)
    assert torch.equal(Fusion(GTCRNConfig(), 2)(d, {2: e}), d + e)


@pytest.mark.parametrize(("bands", "to"), [(129, 65), (65, 33), (33, 65), (65, 65)])
def test_align_is_linear_interpolation(bands: int, to: int) -> None:
    x = torch.randn(2, 5, 4, bands)
    expected = F.interpolate(x, (4, to), mode="bilinear", align_corners=True)
    assert torch.allclose(align(x, to), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["concat", "attention", "gated"])
@pytest.mark.parametrize("level", [0, 3])
def test_formulas(kind: str, level: int) -> None:
    fusion = Fusion(GTCRNConfig(kind), level)
    d, e = torch.randn(2, 1, 16, 3, 65 if level == 0 else 33)
    with torch.no_grad():
        y = fusion(d, {level: e})[0, :, 1, 7].numpy()
    d, e = d[0, :, 1, 7].numpy(), e[0, :, 1, 7].numpy()
    (matrix, bias) = (p.detach().numpy().squeeze() for p in fusion.parameters())
    if kind == "concat":
        expected = matrix @ np.concatenate([d, e]) + bias
    else:
        alpha = 1 / (1 + np.exp(-(matrix @ np.concatenate([e, d]) + bias)))
        assert alpha.shape == (() if kind == "attention" else (16,))
        expected = alpha * e + (1 - alpha) * d
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_dense_takes_every_level_and_the_input() -> None:
    """Changing any one source changes the result, at that place in frequency and time only."""
    config = GTCRNConfig("add", dense=True, skip_input=True)
    fusion = Fusion(config, 0)
    shapes = {INPUT: (9, 65), 0: (16, 65), **dict.fromkeys((1, 2, 3, 4), (16, 33))}
    skips = {n: torch.randn(1, c, 3, bands) for n, (c, bands) in shapes.items()}
    d = torch.randn(1, 16, 3, 65)
    with torch.no_grad():
        before = fusion(d, dict(skips))
        for source, skip in skips.items():
            changed = skip.clone()
            changed[:, :, 1, 10] += 1
            after = fusion(d, {**skips, source: changed})
            _, _, frames, bands = torch.nonzero((after - before).abs() > 1e-6, as_tuple=True)
            assert set(frames.tolist()) == {1}
            assert set(bands.tolist()) == ({10} if source < 1 else {19, 20, 21})


@pytest.mark.parametrize("name", ["add", "hybrid+dense+input+compress=4", "gated+float16"])
def test_skips_are_freed_as_soon_as_they_are_taken(name: str) -> None:
    config = GTCRNConfig.parse(name)
    network = GTCRN(config).eval()
    alive: dict[int, weakref.ref] = {}
    after_level: list[set[int]] = []

    def remember(module: torch.nn.Module, inputs: tuple) -> None:
        alive.update({source: weakref.ref(skip) for source, skip in inputs[1].items()})

    def look(module: torch.nn.Module, inputs: tuple) -> None:
        after_level.append({source for source, skip in alive.items() if skip() is not None})

    network.decoder.register_forward_pre_hook(remember)
    for block in network.decoder.de_convs:
        block.register_forward_pre_hook(look)  # its skips have just been taken
    with torch.inference_mode():
        network(torch.randn(1, 3, 257, 2))
    later = [{n for lower in range(level) for n in config.sources(lower)} for level in range(5)]
    assert after_level == later[::-1]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_cached_as_such_and_does_not_stop_gradients(dtype: str) -> None:
    cache = SkipCache(GTCRNConfig("add", skip_dtype=dtype))
    x = torch.tensor([1 / 3, -1e-7, 1e6]).reshape(1, 1, 1, 3).requires_grad_()
    skips: dict[int, torch.Tensor] = {}
    cache.eval().keep(skips, 1, x.detach())
    assert str(skips[1].dtype) == f"torch.{dtype}"
    assert torch.isfinite(skips[1]).all()
    cached = skips[1].float()
    cache.train().keep(skips, 1, x)
    assert torch.equal(skips[1], cached)
    (skips[1][..., :2] * 1e-12).sum().backward()
    assert torch.allclose(x.grad[..., :2], torch.tensor(1e-12))
