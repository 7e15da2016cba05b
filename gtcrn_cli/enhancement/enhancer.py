"""`Enhancer`: samples in, enhanced samples out, aligned and of the same length.

    enhancer = Enhancer(load_engine(load_model()), sample_rate=48_000, channels=2)
    for block in source:
        sink.write(enhancer.push(block))
    sink.write(enhancer.flush())

Everything a user can turn is a gain on the noisy spectrum, beside the mask and in the same frame.
What is kept of the noise is therefore in phase with the enhanced speech, whatever the setting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np

from ..errors import UserError
from ..network.config import BINS
from ..signals import Samples, Spectrum
from .engines import Chain, Engine, ParallelChain, State, default_engine
from .stft import STFT, network_bins

HighBand = Literal["gate", "keep", "mute"]  # in the order of `native.chain`

_HIGH_BANDS = {name: number for number, name in enumerate(get_args(HighBand))}
MAX_CHANNELS = 64
LOUDEST = 1e5  # as `native.chain` has it
PIECE_FRAMES = 32  # frames at a time: bounds memory however long a pushed block is

GATE_BINS = slice(192, BINS)  # 6-8 kHz: what the gain above 8 kHz is drawn from
GATE_RELEASE = 4  # frames (64 ms) over which the gate closes


def strength_of_limit(atten_limit_db: float) -> float:
    """The strength at which noise is lowered by at most `atten_limit_db`.

    Of noise that the network removes wholly, ``1 - strength`` stays: ``10^(-dB/20)``.
    """
    if not atten_limit_db >= 0:
        raise UserError(f"an attenuation limit of {atten_limit_db} dB is below 0")
    return 1.0 - 10.0 ** (-atten_limit_db / 20.0)


@dataclass(frozen=True)
class Settings:
    """How to enhance, apart from the model.

    Attributes
    ----------
    strength
        0 leaves the input as it is, 1 removes all the noise that the network finds; in between,
        ``1 - strength`` of it stays.
    high_band
        What happens above 8 kHz, where the network is deaf: ``gate`` follows what the mask does
        at 6-8 kHz, so that hiss goes and sibilants stay; ``keep``; ``mute``.
    linked
        One mask from all channels together (`linked_mix`) for each of them, so that the stereo
        image stays where it was. Otherwise every channel is enhanced on its own.

    Raises
    ------
    UserError
        A strength outside of 0-1, or no such high band.

    Examples
    --------
    Lower the noise by at most 12 dB, with one mask for all channels:

    >>> from gtcrn_cli import Settings
    >>> Settings(strength=1 - 10 ** (-12 / 20), linked=True).high_band
    'gate'
    """

    strength: float = 1.0
    high_band: HighBand = "gate"
    linked: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise UserError(f"a strength of {self.strength} is outside of 0-1")
        if self.high_band not in get_args(HighBand):
            raise UserError(f"no high band {self.high_band!r}: gate, keep or mute")


class Enhancer:
    """Removes noise from one stream of speech, block by block.

    As a context it forgets the stream at its end, so that it can serve another one.

    Parameters
    ----------
    engine
        Runs the network; may be shared by any number of enhancers.
    sample_rate
        In Hz, 8,000 to 192,000.
    channels
        1 to 64.
    settings
        How; may be replaced while the stream runs (but for `linked`).
    threads
        How many may work on the channels of a block at the same time, which pays for long ones.

    Attributes
    ----------
    latency
        In samples, one window: the longest time from a sample's entry to its exit.
    replaced
        Samples of the stream so far that were no sound (NaN, infinite, beyond 100 dB full scale)
        and that silence took the place of; after its end, until another one begins, of all of it.

    Raises
    ------
    UserError
        A sample rate or a number of channels that is not supported, or no thread at all.

    Examples
    --------
    One second of silence at 48 kHz in blocks of 10 ms:

    >>> import numpy as np
    >>> from gtcrn_cli import Enhancer, load_engine, load_model
    >>> with Enhancer(load_engine(load_model()), sample_rate=48_000, channels=2) as enhancer:
    ...     blocks = [enhancer.push(np.zeros((480, 2), np.float32)) for _ in range(100)]
    ...     blocks.append(enhancer.flush())
    >>> sum(map(len, blocks))
    48000
    """

    def __init__(
        self,
        engine: Engine,
        sample_rate: int,
        channels: int = 1,
        settings: Settings | None = None,
        threads: int = 1,
    ) -> None:
        if not 1 <= channels <= MAX_CHANNELS:
            raise UserError(f"{channels} channels: gtcrn takes 1 to {MAX_CHANNELS}")
        if threads < 1:
            raise UserError(f"{threads} threads: it takes at least one")
        self.engine = engine
        self.channels = channels
        self.settings = settings or Settings()
        self._linked = self.settings.linked and channels > 1
        self._stft = STFT(sample_rate)
        independent = channels if threads > 1 and not self._linked else 1
        self._chain = _chain_of(engine, self._stft.window, channels, min(threads, independent))
        self.replaced = 0
        self.reset()

    def __enter__(self) -> Enhancer:
        return self

    def __exit__(self, *error: object) -> None:
        self.reset()

    @property
    def sample_rate(self) -> int:
        """The sample rate of the stream in Hz."""
        return self._stft.sample_rate

    @property
    def latency(self) -> int:
        """The delay from input to output in samples: one window."""
        return self._stft.window

    @property
    def hop(self) -> int:
        """The block length in samples at which every push completes exactly one frame."""
        return self._stft.hop

    def reset(self) -> None:
        """Forget the stream: the next block starts a new one, in silence."""
        self._pending = np.zeros((0, self.channels), np.float32)  # less than a hop
        self._stream: Any = None  # the chain's state
        self._analysis: Samples | None = None
        self._network: State | None = None
        self._gate: Samples | None = None
        self._synthesis: Samples | None = None
        self._taken = 0  # samples pushed
        self._given = 0  # samples returned

    def push(self, block: Samples) -> Samples:
        """Take in a block and return what it completes.

        Parameters
        ----------
        block
            Samples ``[N, C]`` of any length N >= 0, of a floating-point type; full scale is -1 to
            1.

        Returns
        -------
        Samples ``[M, C]`` that follow those returned before; the first is the stream's first.
        How long M is depends on the hops completed, what is in it does not.

        Raises
        ------
        ValueError
            The block has another shape, or holds integers: divide those by their full scale.
        """
        if block.ndim != 2 or block.shape[1] != self.channels:
            raise ValueError(f"a block of shape {block.shape}, not [N, {self.channels}]")
        block = _floats(block)
        if self._taken == 0:
            self.replaced = 0
        self._taken += len(block)
        enhanced = self._advance(block)
        self._given += len(enhanced)
        return enhanced

    def flush(self) -> Samples:
        """End the stream: return its remaining samples, and be ready for a new one."""
        # Frame t completes the samples before t * hop, so the last sample needs this many frames:
        frames = math.ceil(self._taken / self._stft.hop) + 1
        missing = frames * self._stft.hop - self._taken
        left = self._taken - self._given
        rest = self._advance(np.zeros((missing, self.channels), np.float32))[:left]
        self.reset()
        return rest

    def _sound_only(self, block: Samples) -> Samples:
        """One NaN would stay in the recurrent state for ever."""
        if np.abs(block).max(initial=0) <= LOUDEST:  # false for NaN as well
            return block
        sound = np.abs(block) <= LOUDEST
        self.replaced += int(np.count_nonzero(~sound))
        return np.where(sound, block, np.float32(0))

    def _advance(self, block: Samples) -> Samples:
        return self._advance_in_pieces(block) if self._chain is None else self._advance_whole(block)

    def _advance_whole(self, block: Samples) -> Samples:
        """All the hops that there are, in one call of what is compiled."""
        assert self._chain is not None
        hop = self._stft.hop
        if len(self._pending):
            block = np.concatenate([self._pending, block])
        whole = len(block) // hop * hop
        self._pending = block[whole:].copy()
        if whole == 0:
            return block[:0]
        starts = self._stream is None
        enhanced, self._stream, replaced = self._chain.advance(
            np.ascontiguousarray(block[:whole]),
            self._stream,
            self.settings.strength,
            _HIGH_BANDS[self.settings.high_band],
            self._linked,
        )
        self.replaced += replaced
        # The first frame completes only the hop before the stream's first sample.
        return enhanced[hop:] if starts else enhanced

    def _advance_in_pieces(self, block: Samples) -> Samples:
        """The same in numpy: for the torch engine, and for windows without fast code."""
        block = self._sound_only(block)
        piece = PIECE_FRAMES * self._stft.hop
        pieces = [self._enhance(block[i : i + piece]) for i in range(0, len(block), piece)]
        return np.concatenate(pieces) if pieces else block[:0]

    def _enhance(self, block: Samples) -> Samples:
        starts = self._synthesis is None
        spectrum, self._analysis = self._stft.analyze(block, self._analysis)  # [C, T, bins]
        if spectrum.shape[1] == 0:
            return block[:0]
        self._apply_mask(spectrum)
        enhanced, self._synthesis = self._stft.synthesize(spectrum, self._synthesis)
        # The first frame completes only the hop before the stream's first sample.
        return enhanced[self._stft.hop :] if starts else enhanced

    def _apply_mask(self, spectrum: Spectrum) -> None:
        """Multiply with the mask, in place; also above 8 kHz, as the settings say."""
        noisy = linked_mix(spectrum) if self._linked else spectrum
        noisy = network_bins(noisy)  # [C or 1, T, 257]
        mask, self._network = self.engine.mask(noisy, self._network)
        floor = np.float32(1 - self.settings.strength)
        strength = np.float32(self.settings.strength)

        if spectrum.shape[-1] > BINS:
            spectrum[..., BINS:] *= floor + strength * self._high_band_gain(mask)
        low = spectrum[..., :BINS]
        low *= floor + strength * mask[..., : low.shape[-1]]

    def _high_band_gain(self, mask: Spectrum) -> Samples:
        """The gain above 8 kHz: ``[C, T, 1]``."""
        channels, count, _ = mask.shape
        if self.settings.high_band != "gate":
            open_wide = self.settings.high_band == "keep"
            return np.full((channels, count, 1), open_wide, np.float32)
        openness = np.minimum(np.abs(mask[..., GATE_BINS]).mean(-1), 1)  # [C, T]
        if self._gate is None:
            self._gate = np.zeros((channels, GATE_RELEASE - 1), np.float32)
        recent = np.concatenate([self._gate, openness], axis=1)
        self._gate = recent[:, count:]
        mean = sum(recent[:, n : n + count] for n in range(GATE_RELEASE)) / np.float32(GATE_RELEASE)
        # Opens at once, so that no sibilant loses its onset; closes over a few frames.
        return np.maximum(openness, mean)[..., None]


def _floats(samples: Samples) -> Samples:
    """Samples as the network takes them. Integers would be beyond full scale, and never speech."""
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples of {samples.dtype}: divide by their full scale to get -1 to 1")
    return np.asarray(samples, np.float32)


def _chain_of(
    engine: Engine, window: int, channels: int, threads: int
) -> Chain | ParallelChain | None:
    """What runs the whole stream, where the engine has it; others have a mask to give."""
    if not hasattr(engine, "chain") or (chain := engine.chain(window, channels)) is None:
        return None
    if threads == 1:
        return cast(Chain, chain)
    sizes = [len(part) for part in np.array_split(range(channels), threads)]
    return ParallelChain([engine.chain(window, size) for size in sizes], sizes)


def linked_mix(spectrum: Spectrum) -> Spectrum:
    """One channel for all, in which nothing that is in a channel cancels.

    In every frame the channels are turned to the polarity of the strongest one and averaged. Where
    they cancel all the same (microphones half a wavelength apart), the level is held at what the
    mean of channels that have nothing in common would have: the root of the mean power over the
    number of channels. Of equal channels the mix is exactly one of them.

    Parameters
    ----------
    spectrum
        ``[C, T, bins]``.

    Returns
    -------
    ``[1, T, bins]``
    """
    count = len(spectrum)
    frames = np.arange(spectrum.shape[1])
    power = np.square(spectrum.real) + np.square(spectrum.imag)  # [C, T, bins]
    strongest = spectrum[power.sum(axis=-1).argmax(axis=0), frames]  # [T, bins]
    alike = np.einsum("ctb,tb->ct", spectrum, strongest.conj()).real
    sign = np.where(alike < 0, np.float32(-1), np.float32(1))  # [C, T]
    mix = np.einsum("ctb,ct->tb", spectrum, sign) / np.float32(count)
    level = np.abs(mix)
    floor = np.sqrt(power.mean(axis=0) / np.float32(count))
    low = level < floor
    # Where nothing at all is left of it, the strongest channel has the phase.
    phase_of = np.where(level > 1e-3 * floor, mix, strongest)[low]
    mix[low] = phase_of * (floor[low] / np.maximum(np.abs(phase_of), np.float32(1e-30)))
    return mix[None]


def enhance(
    samples: Samples,
    sample_rate: int,
    engine: Engine | None = None,
    settings: Settings | None = None,
) -> Samples:
    """Remove the noise from a whole recording.

    Parameters
    ----------
    samples
        ``[N, C]``, or ``[N]`` for one channel; N may be 0. Full scale is -1 to 1.
    sample_rate
        In Hz, 8,000 to 192,000.
    engine
        Runs the network; the native engine with the default model if ``None``.
    settings
        How; all the noise that the network finds goes if ``None``.

    Returns
    -------
    float32 samples of the same shape, in time with the input.

    Raises
    ------
    UserError
        A sample rate or a number of channels that is not supported.
    ValueError
        Samples that have neither of these shapes, or that are no numbers between -1 and 1 but
        integers: divide those by their full scale.

    Examples
    --------
    >>> import numpy as np
    >>> from gtcrn_cli import enhance
    >>> enhance(np.zeros((48_000, 2), np.float32), sample_rate=48_000).shape
    (48000, 2)
    """
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2):
        raise ValueError(f"samples of shape {samples.shape}, neither [N] nor [N, C]")
    block = _floats(samples[:, None] if samples.ndim == 1 else samples)
    if block.shape[1] > MAX_CHANNELS >= len(block):
        raise UserError(f"samples of shape {samples.shape}: [N, C] is wanted, so give samples.T")
    enhancer = Enhancer(engine or default_engine(), sample_rate, block.shape[1], settings)
    enhanced = np.concatenate([enhancer.push(block), enhancer.flush()])
    return enhanced.reshape(samples.shape)
