"""Every engine gives the same sound, in whatever pieces, and leaves the caller's state alone."""

from __future__ import annotations

import copy
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.sound import si_sdr_db
from support.states import to_native_state, to_torch_state

from gtcrn_cli.enhancement.engines import ENGINES, Engine, State, TorchEngine, load_engine
from gtcrn_cli.enhancement.stft import STFT
from gtcrn_cli.errors import UserError
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.config import GTCRNConfig
from gtcrn_cli.network.level import raise_faint
from gtcrn_cli.signals import Spectrum

ATOL = 1e-4


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, shipped: Checkpoint) -> Engine:
    return load_engine(shipped, request.param)


@pytest.fixture(scope="module")
def spectrum(noisy: np.ndarray) -> Spectrum:
    """3 s of the example, ``[1, T, 257]``."""
    return STFT(16_000).analyze(noisy[:48_000], None)[0]


def in_pieces(engine: Engine, spectrum: Spectrum, sizes: list[int]) -> tuple[Spectrum, State]:
    masks, state, start = [], None, 0
    while start < spectrum.shape[1]:
        size = sizes[len(masks) % len(sizes)]
        mask, state = engine.mask(spectrum[:, start : start + size], state)
        masks.append(mask)
        start += size
    return np.concatenate(masks, axis=1), state


def enhanced(engine: Engine, samples: np.ndarray) -> np.ndarray:
    """Samples ``[N, C]`` through STFT, mask and overlap-add."""
    stft = STFT(16_000)
    spectrum, _ = stft.analyze(samples, None)
    mask, _ = engine.mask(spectrum, None)
    return stft.synthesize(mask * spectrum, None)[0][stft.hop :]


def leaves(state: State) -> list[torch.Tensor]:
    network, _ = state
    blocks = (*network.encoder, *network.decoder)
    return [part for block in blocks for part in block] + list(network.dual_path)


@pytest.mark.parametrize("sizes", [[1], [7], [1, 2, 40, 3]], ids=str)
def test_the_mask_does_not_depend_on_frames_per_call(
    engine: Engine, spectrum: Spectrum, sizes: list[int]
) -> None:
    spectrum = spectrum[:, :80]
    whole, _ = engine.mask(spectrum, None)
    pieces, _ = in_pieces(engine, spectrum, sizes)
    np.testing.assert_allclose(pieces, whole, atol=1e-5)
    if engine.name == "native":
        np.testing.assert_array_equal(pieces, whole)


@pytest.mark.parametrize("name", ENGINES)
def test_published_output(name: str, published: tuple[Checkpoint, np.ndarray, np.ndarray]) -> None:
    checkpoint, noisy, expected = published
    output = enhanced(load_engine(checkpoint, name), noisy)
    np.testing.assert_allclose(output, expected[: len(output)], atol=1e-5)


def test_state_is_not_written_to(engine: Engine, spectrum: Spectrum) -> None:
    _, state = engine.mask(spectrum[:, :20], None)
    kept = copy.deepcopy(state)
    first, _ = engine.mask(spectrum[:, 20:40], state)
    again, _ = engine.mask(spectrum[:, 20:40], state)
    from_copy, _ = engine.mask(spectrum[:, 20:40], kept)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, from_copy)


def test_input_is_not_written_to(engine: Engine, spectrum: Spectrum) -> None:
    before = spectrum.copy()
    engine.mask(spectrum, None)
    np.testing.assert_array_equal(spectrum, before)


def test_channels_are_streams_of_their_own(engine: Engine, spectrum: Spectrum) -> None:
    half = spectrum.shape[1] // 2
    pair = np.concatenate([spectrum[:, :half], spectrum[:, -half:]])
    together, _ = in_pieces(engine, pair, [11])
    for channel in (0, 1):
        alone, _ = engine.mask(pair[channel : channel + 1], None)
        np.testing.assert_allclose(together[channel], alone[0], atol=1e-5)


def test_noncontiguous_input(engine: Engine, spectrum: Spectrum) -> None:
    strided = np.repeat(spectrum, 2, axis=-1)[..., ::2]
    np.testing.assert_array_equal(engine.mask(strided, None)[0], engine.mask(spectrum, None)[0])


SOUNDS = {
    "silence": lambda t: np.zeros_like(t),
    "denormals": lambda t: 1e-40 * np.sin(t),
    "whisper": lambda t: 1e-8 * np.random.default_rng(0).standard_normal(len(t)),
    "square wave": lambda t: np.sign(np.sin(2000 * t)),
    "DC": lambda t: np.ones_like(t),
    "click": lambda t: (t == t[999]).astype(float),
    "noise": lambda t: np.random.default_rng(0).uniform(-1, 1, len(t)),
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_the_same_for_every_kind_of_sound(sound: str, shipped: Checkpoint) -> None:
    samples = SOUNDS[sound](np.arange(32_000) / 16_000).astype(np.float32)[:, None]
    native, reference = (enhanced(load_engine(shipped, name), samples) for name in ENGINES)
    assert np.isfinite(native).all()
    np.testing.assert_allclose(native, reference, atol=ATOL)


@pytest.mark.parametrize("peak_db", [-80, -60, -50])
def test_faint_speech_is_kept(engine: Engine, clean: np.ndarray, peak_db: float) -> None:
    """Below -40 dB the network would take more and more of it for noise."""
    clean = np.tile(clean[:64_000], (3, 1))
    noise = np.random.default_rng(3).standard_normal(clean.shape).astype(np.float32)
    noise *= np.sqrt(np.square(clean).mean()) * np.float32(0.3)
    gain = np.float32(10 ** (peak_db / 20) / np.abs(clean).max())
    settled = slice(128_000, 190_000)
    usual = si_sdr_db(enhanced(engine, clean + noise)[settled, 0], clean[settled, 0])
    faint = enhanced(engine, gain * (clean + noise))[settled, 0]
    assert si_sdr_db(faint, clean[settled, 0]) > usual - 1.5


def test_what_is_not_faint_is_not_raised(spectrum: Spectrum) -> None:
    raised, _ = raise_faint(spectrum, None)
    np.testing.assert_array_equal(raised, spectrum)


def test_a_stream_can_change_engines(shipped: Checkpoint, spectrum: Spectrum) -> None:
    native, reference = load_engine(shipped, "native"), load_engine(shipped, "torch")
    whole, _ = reference.mask(spectrum, None)
    for frames in (1, 7, 33):
        _, state = native.mask(spectrum[:, :frames], None)
        rest, _ = reference.mask(spectrum[:, frames:], to_torch_state(state))
        np.testing.assert_allclose(rest, whole[:, frames:], atol=ATOL)
        _, state = reference.mask(spectrum[:, :frames], None)
        rest, _ = native.mask(spectrum[:, frames:], to_native_state(state))
        np.testing.assert_allclose(rest, whole[:, frames:], atol=ATOL)


def test_states_are_equal(shipped: Checkpoint, spectrum: Spectrum) -> None:
    pair = np.concatenate([spectrum[:, :71], spectrum[:, -71:]])
    _, native = load_engine(shipped, "native").mask(pair, None)
    _, reference = load_engine(shipped, "torch").mask(pair, None)
    for ours, theirs in zip(leaves(to_torch_state(native)), leaves(reference), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=ATOL)
    np.testing.assert_allclose(to_torch_state(native)[1], reference[1], rtol=1e-4)
    back = to_torch_state(to_native_state(to_torch_state(native)))
    for ours, again in zip(leaves(to_torch_state(native)), leaves(back), strict=True):
        assert torch.equal(ours, again)


def test_threads_do_not_touch_each_other(shipped: Checkpoint, spectrum: Spectrum) -> None:
    engine = load_engine(shipped, "native")
    inputs = [np.ascontiguousarray(np.roll(spectrum, 17 * n, axis=1)) for n in range(4)]
    expected = [engine.mask(noisy, None)[0] for noisy in inputs]
    results: dict[int, Spectrum] = {}

    def run(n: int) -> None:
        results[n] = in_pieces(engine, inputs[n], [1])[0]

    threads = [threading.Thread(target=run, args=[n]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, mask in enumerate(expected):
        np.testing.assert_array_equal(results[n], mask)


def test_arrays_that_do_not_fit_are_refused(shipped: Checkpoint, spectrum: Spectrum) -> None:
    """Compiled code would read beyond them."""
    engine = load_engine(shipped)
    _, state = engine.mask(spectrum, None)
    with pytest.raises(ValueError, match="do not fit"):
        engine.mask(spectrum[..., :-1], None)
    with pytest.raises(ValueError, match="do not fit"):
        engine.mask(np.repeat(spectrum, 2, axis=0), state)


def test_native_is_the_default(shipped: Checkpoint) -> None:
    assert load_engine(shipped).name == "native"


def test_what_cannot_be_had_says_so(shipped: Checkpoint) -> None:
    with pytest.raises(UserError, match="no engine 'abacus': choose from native, torch"):
        load_engine(shipped, "abacus")
    with pytest.raises(UserError, match="add --engine torch"):
        load_engine(shipped, "native", "cuda")
    with pytest.raises(UserError, match="torch cannot use the device 'nowhere'"):
        TorchEngine(shipped, "nowhere")


@pytest.mark.parametrize("name", ENGINES)
def test_weights_of_another_network_are_refused(name: str, shipped: Checkpoint) -> None:
    incomplete = dict(shipped.weights)
    del incomplete["dpgrnn2.inter_fc.weight"]
    with pytest.raises(UserError, match=r"do not fit.*dpgrnn2\.inter_fc\.weight"):
        load_engine(replace(shipped, weights=incomplete), name)
    larger = {name: np.repeat(w, 2, axis=0) for name, w in shipped.weights.items()}
    with pytest.raises(UserError, match="do not fit"):
        load_engine(replace(shipped, weights=larger), name)
    with pytest.raises(UserError, match=r"do not fit the network 'add': it has no decoder"):
        load_engine(replace(shipped, config=GTCRNConfig()), name)
    variance = "encoder.en_convs.0.bn.running_var"
    negative = {**shipped.weights, variance: -shipped.weights[variance]}
    with pytest.raises(UserError, match="variance"):
        load_engine(replace(shipped, weights=negative), name)
