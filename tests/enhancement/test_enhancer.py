"""What a user hears of the front end: nothing. Aligned, exact, seamless, at every rate."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sound import agreement_db, si_sdr_db

from gtcrn_cli.enhancement.engines import Engine, State, load_engine
from gtcrn_cli.enhancement.enhancer import Enhancer, Settings, linked_mix, strength_of_limit
from gtcrn_cli.errors import UserError
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.signals import Samples, Spectrum

ALL_RATES = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000)


class FixedMask:
    """An engine that has made up its mind: the same mask for every frame."""

    name = "fixed"

    def __init__(self, mask: complex = 1.0) -> None:
        self.checkpoint = Checkpoint({})
        self._mask = mask

    def mask(self, spectrum: Spectrum, state: State | None) -> tuple[Spectrum, State]:
        return np.full_like(spectrum, self._mask), None


def noise(length: int, channels: int = 1, seed: int = 0) -> Samples:
    generator = np.random.default_rng(seed)
    return 0.1 * generator.standard_normal((length, channels), np.float32)


def enhance(enhancer: Enhancer, blocks: Iterable[Samples]) -> Samples:
    return np.concatenate([*map(enhancer.push, blocks), enhancer.flush()])


def cut(samples: Samples, size: int) -> list[Samples]:
    return [samples[i : i + size] for i in range(0, len(samples), size)]


@pytest.fixture(scope="module")
def engine(shipped: Checkpoint) -> Engine:
    return load_engine(shipped)


@pytest.mark.parametrize("length", [0, 1, 255, 256, 257, 16_001])
def test_cuts_into_blocks_do_not_matter(engine: Engine, length: int):
    samples = noise(length, 2)
    whole = enhance(Enhancer(engine, 16_000, 2), [samples])
    assert whole.shape == samples.shape
    for size in (1, 7, 160, 256, 1000):
        parts = enhance(Enhancer(engine, 16_000, 2), cut(samples, size))
        assert parts.shape == samples.shape
        assert np.abs(parts - whole).max(initial=0) < 1e-5


@settings(max_examples=25)
@given(st.lists(st.integers(0, 900), max_size=12), st.sampled_from(ALL_RATES))
def test_any_cuts_give_back_every_sample_in_its_place(sizes: list[int], sample_rate: int):
    samples = noise(sum(sizes))
    blocks = np.split(samples, np.cumsum(sizes)[:-1]) if sizes else []
    enhanced = enhance(Enhancer(FixedMask(), sample_rate), blocks)
    assert enhanced.shape == samples.shape
    assert np.abs(enhanced - samples).max(initial=0) < 1e-6


@pytest.mark.parametrize("sample_rate", ALL_RATES)
def test_an_identity_network_changes_nothing(sample_rate: int):
    samples = noise(sample_rate // 5 + 3, 2)
    enhanced = enhance(Enhancer(FixedMask(), sample_rate, 2), [samples])
    assert enhanced.shape == samples.shape
    assert agreement_db(enhanced, samples) > 100


@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 48_000])
def test_an_impulse_leaves_one_latency_after_it_came(sample_rate: int):
    enhancer = Enhancer(FixedMask(), sample_rate)
    delays = []
    for at in range(3 * enhancer.hop, 5 * enhancer.hop):
        if at % enhancer.hop not in (0, 1, enhancer.hop - 1):
            continue
        enhancer.reset()
        stream = np.zeros((8 * enhancer.hop, 1), np.float32)
        stream[at] = 1
        given = 0
        for taken, sample in enumerate(stream, start=1):
            out = enhancer.push(sample[None])
            if np.abs(out).max(initial=0) > 0.5:
                position = given + int(np.abs(out).argmax())
                assert position == at
                delays.append(taken - at)
                break
            given += len(out)
    assert max(delays) == enhancer.latency


def test_no_push_waits_for_more_than_the_latency(engine: Engine):
    enhancer = Enhancer(engine, 16_000)
    taken = given = 0
    for block in cut(noise(5000), 160):
        taken += len(block)
        given += len(enhancer.push(block))
        assert taken - given < enhancer.latency


def test_enhances(engine: Engine, noisy: Samples, clean: Samples):
    enhanced = enhance(Enhancer(engine, 16_000), [noisy])
    assert si_sdr_db(enhanced, clean) > si_sdr_db(noisy, clean) + 5


@pytest.mark.parametrize(
    ("sample_rate", "least_db"),
    [(8_000, 20), (22_050, 26), (24_000, 51), (32_000, 51), (44_100, 26), (48_000, 51)],
)
def test_rates_agree_with_16_khz(engine: Engine, noisy: Samples, sample_rate: int, least_db: float):
    """Bins of 44.1 kHz and its half are off by 0.2 %; 8 kHz lacks what lies above 4."""
    common = min(sample_rate, 16_000)
    at_16 = enhance(Enhancer(engine, 16_000), [noisy])
    other = enhance(Enhancer(engine, sample_rate), [resample(noisy, 16_000, sample_rate)])
    agreement = agreement_db(resample(other, sample_rate, common), resample(at_16, 16_000, common))
    assert agreement > least_db


def resample(samples: Samples, rate: int, new_rate: int) -> Samples:
    """Band-limited, by zero-padding or cutting the spectrum of the whole."""
    length = round(len(samples) * new_rate / rate)
    spectrum = np.fft.rfft(samples.astype(float), axis=0)
    return (np.fft.irfft(spectrum, length, axis=0) * length / len(samples)).astype(np.float32)


def test_strength_0_is_the_input(engine: Engine, noisy: Samples):
    enhanced = enhance(Enhancer(engine, 16_000, 1, Settings(strength=0)), [noisy])
    assert agreement_db(enhanced, noisy) > 100


def test_strength_mixes_in_phase(engine: Engine, noisy: Samples):
    full = enhance(Enhancer(engine, 16_000), [noisy])
    some = enhance(Enhancer(engine, 16_000, 1, Settings(strength=0.7)), [noisy])
    assert agreement_db(some, 0.3 * noisy + 0.7 * full) > 80


@pytest.mark.parametrize("limit_db", [0, 6, 20, 60])
@pytest.mark.parametrize("sample_rate", [16_000, 48_000])
def test_attenuation_limit_is_the_floor_of_the_noise(limit_db: float, sample_rate: int):
    everything_is_noise = FixedMask(0)
    samples = noise(sample_rate)
    enhancer = Enhancer(
        everything_is_noise, sample_rate, 1, Settings(strength=strength_of_limit(limit_db))
    )
    enhanced = enhance(enhancer, [samples])
    removed_db = 10 * np.log10(np.mean(samples**2) / np.mean(enhanced**2))
    assert removed_db == pytest.approx(limit_db, abs=0.1)


def test_strength_can_change_while_it_runs():
    enhancer = Enhancer(FixedMask(0), 16_000)
    silent = enhancer.push(noise(16_000))
    enhancer.settings = replace(enhancer.settings, strength=0)
    loud = enhancer.push(noise(16_000))[2 * enhancer.hop :]
    assert np.abs(silent).max() < 1e-6
    assert np.abs(loud).max() > 0.1


def band_level_db(samples: Samples, sample_rate: int, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(samples[:, 0])) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / sample_rate)
    return float(10 * np.log10(spectrum[(hz >= low_hz) & (hz < high_hz)].mean() + 1e-20))


def test_high_band_is_gated_kept_or_muted(engine: Engine):
    hiss = noise(2 * 48_000)
    levels = {}
    for high_band in ("gate", "keep", "mute"):
        enhancer = Enhancer(engine, 48_000, 1, Settings(high_band=high_band))
        enhanced = enhance(enhancer, [hiss])[24_000:]
        levels[high_band] = band_level_db(enhanced, 48_000, 9_000, 23_000)
    before = band_level_db(hiss[24_000:], 48_000, 9_000, 23_000)
    assert levels["keep"] == pytest.approx(before, abs=0.1)
    assert levels["gate"] < before - 10
    assert levels["mute"] < before - 60


def test_channels_are_enhanced_on_their_own(engine: Engine, noisy: Samples):
    both = np.hstack([noisy, noise(len(noisy))])
    enhanced = enhance(Enhancer(engine, 16_000, 2), [both])
    alone = enhance(Enhancer(engine, 16_000), [noisy])
    assert agreement_db(enhanced[:, :1], alone) > 80


def test_linked_channels_keep_the_stereo_image(engine: Engine, noisy: Samples):
    panned = noisy * np.array([[1.0, 0.25]], np.float32)
    enhanced = enhance(Enhancer(engine, 16_000, 2, Settings(linked=True)), [panned])
    assert agreement_db(enhanced[:, 1], 0.25 * enhanced[:, 0]) > 100
    assert np.sum(enhanced**2) < np.sum(panned**2)


TURNED = {
    "two channels": [1, -1],
    "the weaker one turned": [1, -0.3],
    "the stronger one turned": [0.3, -1],
    "three channels": [1, 1, -1],
    "five channels": [-1, 1, -1, 1, -1],
    "one silent": [1, -1, 0],
    "all but one silent": [0, 0, -1, 0],
}


@pytest.mark.parametrize("gains", TURNED.values(), ids=TURNED)
def test_linked_channels_of_turned_polarity_keep_their_speech(
    engine: Engine, noisy: Samples, clean: Samples, gains: list[float]
):
    """A plug wired the wrong way round; the noise differs from channel to channel."""
    rng = np.random.default_rng(0)
    gain = np.array(gains, np.float32)
    noise = 0.003 * rng.standard_normal((len(clean), len(gain))).astype(np.float32)
    enhanced = enhance(
        Enhancer(engine, 16_000, len(gain), Settings(linked=True)), [clean * gain + noise]
    )
    for channel in np.flatnonzero(gain):
        speech = gain[channel] * clean[:, 0]
        kept = np.dot(enhanced[:, channel], speech) / np.dot(speech, speech)
        assert -1 < 20 * np.log10(kept) < 0.5


def test_the_mix_of_linked_channels():
    """Equal channels are what one of them is; none cancels; none at all gives silence."""
    rng = np.random.default_rng(0)
    one = rng.standard_normal((1, 9, 257, 2)).astype(np.float32).view(np.complex64)[..., 0]
    other = rng.standard_normal((1, 9, 257, 2)).astype(np.float32).view(np.complex64)[..., 0]
    np.testing.assert_array_equal(linked_mix(np.concatenate([one, one])), one)
    np.testing.assert_allclose(linked_mix(np.concatenate([one, -one])), one, rtol=1e-6)
    opposed = one.copy()
    opposed[..., 200:] *= -1  # alike below, opposed above: microphones apart
    mixed = np.abs(linked_mix(np.concatenate([one, opposed])))
    np.testing.assert_allclose(mixed[..., :200], np.abs(one[..., :200]), rtol=1e-5)
    np.testing.assert_allclose(mixed[..., 200:], np.abs(one[..., 200:]) / np.sqrt(2), rtol=1e-5)
    unlike = np.concatenate([one, other])
    power = np.mean(np.abs(unlike) ** 2, axis=0)
    assert (np.abs(linked_mix(unlike))[0] ** 2 >= 0.999 * power / 2).all()
    assert not linked_mix(np.zeros((3, 4, 257), np.complex64)).any()
    assert linked_mix(unlike[:, :0]).shape == (1, 0, 257)


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_sound_becomes_silence(engine: Engine, noisy: Samples, damage: float):
    damaged = noisy.copy()
    damaged[1000:1010] = damage
    silenced = noisy.copy()
    silenced[1000:1010] = 0
    enhancer = Enhancer(engine, 16_000)
    enhanced = enhance(enhancer, [damaged])
    assert enhancer.replaced == 10
    assert np.array_equal(enhanced, enhance(Enhancer(engine, 16_000), [silenced]))


def test_what_was_replaced_is_counted_for_each_stream(engine: Engine, noisy: Samples):
    damaged = noisy.copy()
    damaged[1000] = np.nan
    enhancer = Enhancer(engine, 16_000)
    with enhancer:
        enhance(enhancer, [damaged])
    assert enhancer.replaced == 1  # until the next one begins
    enhance(enhancer, [noisy])
    assert enhancer.replaced == 0


@pytest.mark.parametrize("kind", [np.int16, np.uint8, np.int32, bool])
def test_integers_are_refused_and_cost_nothing(engine: Engine, noisy: Samples, kind: type):
    enhancer = Enhancer(engine, 16_000)
    with pytest.raises(ValueError, match="full scale"):
        enhancer.push(np.zeros((160, 1), kind))
    assert np.array_equal(enhance(enhancer, [noisy]), enhance(Enhancer(engine, 16_000), [noisy]))


def test_threads_may_have_an_enhancer_each(engine: Engine, noisy: Samples):
    """All with one engine, at their own rates."""
    shapes = [(16_000, 1), (48_000, 2), (8_000, 1), (44_100, 1)]

    def run(shape: tuple[int, int]) -> Samples:
        sample_rate, channels = shape
        blocks = np.array_split(np.repeat(noisy, channels, axis=1)[:32_000], 77)
        return enhance(Enhancer(engine, sample_rate, channels), blocks)

    alone = [run(shape) for shape in shapes]
    with ThreadPoolExecutor(len(shapes)) as pool:
        together = list(pool.map(run, shapes))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_flushed_enhancer_starts_anew(engine: Engine, noisy: Samples):
    enhancer = Enhancer(engine, 16_000)
    first = enhance(enhancer, [noisy])
    assert np.array_equal(enhance(enhancer, [noisy]), first)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_rate": 4_000}, "sample rate"),
        ({"sample_rate": 16_000, "channels": 0}, "channels"),
        ({"sample_rate": 16_000, "channels": 65}, "channels"),
        ({"sample_rate": 16_000, "threads": 0}, "threads"),
    ],
)
def test_limits_are_told(arguments: dict, message: str):
    with pytest.raises(UserError, match=message):
        Enhancer(FixedMask(), **arguments)


@pytest.mark.parametrize("bad", [{"strength": 1.1}, {"strength": -0.1}, {"high_band": "lift"}])
def test_impossible_settings_are_told(bad: dict):
    with pytest.raises(UserError):
        Settings(**bad)
