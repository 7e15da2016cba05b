"""Sketches to samples, a batch at a time, on the device that trains.

What `mixtures` does to one example with SciPy is done here to all of a batch with torch: clips are
gathered from the corpora, which lie in the device's memory; whatever is linear (rooms, equalisers,
microphones, band limits) is one product of spectra; levels, gains, clipping and coding follow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..evaluation.recordings import Mono
from ..network.config import SAMPLE_RATE
from .corpora import Corpora
from .effects import ACTIVE_DB, EARLY_MS
from .sketches import SPEEDS, Sketch

LONGEST_RESPONSE = 24_000  # samples of a room or a microphone: 1.5 s
BLOCK = SAMPLE_RATE * 20 // 1000  # of which levels are measured
MOST_HARMONICS = 30


class Renderer(nn.Module):
    """Makes ``(noisy, clean)`` of a `Sketch`.

    Parameters
    ----------
    corpora
        Its clips are copied to the device, two bytes a sample.
    """

    samples: Tensor
    rooms: Tensor
    microphones: Tensor

    def __init__(self, corpora: Corpora) -> None:
        super().__init__()
        joined = np.concatenate([corpora.speech.samples, corpora.noise.samples])
        self.register_buffer("samples", torch.from_numpy(joined))
        offset = len(corpora.speech.samples)
        starts = np.concatenate([corpora.speech.starts, corpora.noise.starts + offset])
        gains = np.concatenate([corpora.speech.gains, corpora.noise.gains])
        order = np.argsort(starts)
        # On the CPU, where pieces come from.
        self.starts, self.gains = (torch.from_numpy(each[order]) for each in (starts, gains))
        self.register_buffer("rooms", _table(corpora.rooms))
        self.register_buffer("microphones", _table(corpora.microphones))

    @torch.no_grad()
    def forward(self, sketch: Sketch) -> tuple[Tensor, Tensor]:
        """Noisy and clean samples, ``[B, N]`` each; a sketch gives the same ones again."""
        device = self.samples.device
        random = torch.Generator(device).manual_seed(sketch.seed)
        does = dict(zip(sketch.names, sketch.table.to(device), strict=True))
        count, length = len(does["snr_db"]), sketch.length
        voices, noise = self._gather(sketch, count)
        noise = noise + made_noises(sketch, count, random)
        voices = torch.where(does["whisper"][:, None] > 0, whispered(voices, random), voices)

        size = length + LONGEST_RESPONSE
        frequency_hz = torch.fft.rfftfreq(size, 1 / SAMPLE_RATE, device=device)
        to_voice, early, to_noise = self._rooms(does, size, random)
        of_device = self._device(does, frequency_hz, size, random)
        spectrum = torch.fft.rfft(voices, size) * of_device
        spectrum = spectrum * equaliser(does["voice_equaliser"], frequency_hz, random)
        noise_spectrum = torch.fft.rfft(noise, size) * of_device * torch.fft.rfft(to_noise)
        noise_spectrum = noise_spectrum * equaliser(does["noise_equaliser"], frequency_hz, random)
        heard = torch.fft.irfft(spectrum * torch.fft.rfft(to_voice), size)[:, :length]
        clean = torch.fft.irfft(spectrum * torch.fft.rfft(early), size)[:, :length]
        noise = torch.fft.irfft(noise_spectrum, size)[:, :length]

        clean = torch.where(does["nearly_clean"][:, None] > 0, heard, clean)
        silent = does["noise_only"] > 0
        noise_db = torch.where(silent, -30.0, active_level_db(heard) - does["snr_db"])
        noise = at_level(noise, noise_db)
        noise = noise * gain_curves(does["noise_step"], length, random)
        both = torch.stack([heard + noise, clean])
        both = both * gain_curves(does["both_step"], length, random)
        loudness_db = active_level_db(torch.where(silent[:, None], both[0], both[1]))
        both = both * to_gain(does["level_db"] - loudness_db)[:, None]
        both = both / both.abs().amax(dim=(0, 2)).clamp(min=1.0)[:, None]
        return self._damage(both[0], does, random), both[1].contiguous()

    def _gather(self, sketch: Sketch, count: int) -> tuple[Tensor, Tensor]:
        """The talkers and the recorded noises of each example, ``[B, N]`` each."""
        device, length = self.samples.device, sketch.length
        sums = torch.zeros(2, count, length, device=device)
        speeds = sketch.tracks[:, 2].long()
        owner = sketch.pieces[:, 0]
        for number, speed in enumerate(SPEEDS):
            chosen = torch.nonzero(speeds == number)[:, 0]
            if not len(chosen):
                continue
            size = round(length * speed)
            place = torch.full((len(speeds),), -1)
            place[chosen] = torch.arange(len(chosen))
            mine = sketch.pieces[place[owner] >= 0]
            rows = self._rows(place[mine[:, 0]], mine, len(chosen), size)
            if size != length:
                rows = _resized(rows, length)
            example, is_noise, _, gain_db = sketch.tracks[chosen].float().to(device).unbind(1)
            # Talkers are as loud as their loudest sample, noises by their power.
            rows = (
                rows
                * torch.where(
                    is_noise > 0,
                    rows.square().mean(1).add(1e-12).rsqrt(),
                    1 / rows.abs().amax(1).clamp(min=1e-3),
                )[:, None]
            )
            rows = rows * to_gain(gain_db)[:, None]
            sums.view(2 * count, length).index_add_(0, (is_noise * count + example).long(), rows)
        return sums[0], sums[1]

    def _rows(self, row: Tensor, pieces: Tensor, count: int, size: int) -> Tensor:
        """Copy pieces out of the corpora into `count` rows of `size` samples; else zeros."""
        device = self.samples.device
        # As one long row: where each piece begins is in order, so a search tells whose a sample is.
        begins = row * size + pieces[:, 1]
        order = torch.argsort(begins)
        begins, ends = begins[order], (begins + pieces[:, 3])[order]
        clips = torch.searchsorted(self.starts, pieces[order, 2], right=True) - 1
        tables = (begins, ends, pieces[order, 2] - begins, self.gains[clips] / 32768)
        begins, ends, sources, gains = (t.to(device, non_blocking=True) for t in tables)
        at = torch.arange(count * size, device=device)
        piece = torch.searchsorted(begins, at, right=True) - 1
        known = piece.clamp(min=0)
        filled = (piece >= 0) & (at < ends[known])
        index = torch.where(filled, at + sources[known], 0)
        return (self.samples[index].float() * filled * gains[known]).view(count, size)

    def _rooms(
        self, does: dict[str, Tensor], size: int, random: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From the talker, its early part, and from the noise: ``[B, size]`` each."""
        made = does["room"][:, None] > 0
        direct = torch.zeros(len(made), size, device=made.device)
        direct[:, 0] = 1
        found = []
        for _ in range(2):
            tail = F.pad(made_rooms(does["t60_s"], random), (0, size - SAMPLE_RATE))
            response = torch.where(made, tail, direct)
            if len(self.rooms):
                which = torch.randint(
                    len(self.rooms), (len(made),), generator=random, device=made.device
                )
                known = _around(self.rooms[which], size)
                response = torch.where(does["measured_room"][:, None] > 0, known, response)
            found.append(response)
        at = torch.arange(size, device=made.device)
        end, fade = EARLY_MS * SAMPLE_RATE // 1000, 80
        shape = ((end - at) / fade).clamp(0, 1)
        shape[size - LONGEST_RESPONSE // 2 :] = 1  # what comes before the direct sound
        return found[0], found[0] * shape, found[1]

    def _device(
        self, does: dict[str, Tensor], frequency_hz: Tensor, size: int, random: torch.Generator
    ) -> Tensor:
        """The response of a microphone and of a connection, ``[B, size // 2 + 1]``."""
        device = frequency_hz.device
        s = 1j * torch.tan(torch.pi * (frequency_hz / SAMPLE_RATE).clamp(max=0.4999))
        response = butterworth(s, does["lowpass_hz"], 8)
        response = response * butterworth(1 / (s + 1e-9), does["highpass_hz"], 2, high=True)
        if len(self.microphones):
            count = len(response)
            which = torch.randint(len(self.microphones), (count,), generator=random, device=device)
            known = torch.fft.rfft(_around(self.microphones[which], size))
            response = torch.where(does["microphone"][:, None] > 0, known * response, response)
        return response

    def _damage(self, noisy: Tensor, does: dict[str, Tensor], random: torch.Generator) -> Tensor:
        """Clipping and lossy coding, which the clean part is spared."""
        count = len(noisy)
        share = torch.rand(count, generator=random, device=noisy.device)
        limit = noisy.abs().amax(1) * 0.8 * 0.08**share  # 0.064 to 0.8 of the peak
        limit = torch.where(does["clipping"] > 0, limit, 2.0)[:, None]
        noisy = noisy.clamp(-limit, limit)
        kind = torch.rand(count, generator=random, device=noisy.device)
        noisy = torch.where((does["codec"] > kind * 4)[:, None], companded(noisy), noisy)
        return torch.where(
            ((does["codec"] > 0) & (kind >= 0.25))[:, None], coded(noisy, random), noisy
        )


def _table(responses: Sequence[Mono]) -> Tensor:
    """Impulse responses as rows, the largest sample of each first, what is before it at the end."""
    rows = [np.zeros((0, LONGEST_RESPONSE), np.float32)]
    for response in responses:
        row = np.zeros(LONGEST_RESPONSE, np.float32)
        start = int(np.abs(response).argmax())
        after = response[start : start + LONGEST_RESPONSE * 3 // 4]
        before = response[max(0, start - LONGEST_RESPONSE // 4) : start]
        row[: len(after)] = after
        row[LONGEST_RESPONSE - len(before) :] = before
        rows.append(row[None])
    return torch.from_numpy(np.concatenate(rows))


def _around(rows: Tensor, size: int) -> Tensor:
    """Rows of `_table`, longer: what is before the largest sample stays at the end."""
    split = LONGEST_RESPONSE * 3 // 4
    gap = rows.new_zeros(len(rows), size - LONGEST_RESPONSE)
    return torch.cat([rows[:, :split], gap, rows[:, split:]], dim=1)


def _resized(rows: Tensor, length: int) -> Tensor:
    """``[K, M] -> [K, length]``, the same sound in another time: a tape at another speed."""
    size = rows.shape[1]
    spectrum = torch.fft.rfft(rows)
    bins = length // 2 + 1
    spectrum = spectrum[:, :bins] if size > length else F.pad(spectrum, (0, bins - size // 2 - 1))
    return torch.fft.irfft(spectrum * (length / size), length)


def to_gain(level_db: Tensor) -> Tensor:
    """Amplitude ratios from decibels."""
    return 10 ** (level_db / 20)


def active_level_db(samples: Tensor) -> Tensor:
    """`effects.active_level_db` of each row, ``[B, N] -> [B]``; -120 for silence."""
    length = samples.shape[1] // BLOCK * BLOCK
    energy = samples[:, :length].unflatten(1, (-1, BLOCK)).square().mean(2)
    active = (energy > energy.amax(1, keepdim=True) * 10 ** (ACTIVE_DB / 10)).float()
    mean = (energy * active).sum(1) / active.sum(1).clamp(min=1)
    return 10 * torch.log10(mean.clamp(min=1e-12))


def at_level(samples: Tensor, level_db: Tensor) -> Tensor:
    """Each row scaled to an RMS; what is silent stays silent."""
    rms = samples.square().mean(1).sqrt()
    gain = torch.where(rms > 1e-6, to_gain(level_db) / rms.clamp(min=1e-6), 0.0)
    return samples * gain[:, None]


def gain_curves(wanted: Tensor, length: int, random: torch.Generator) -> Tensor:
    """Gains that step once, or glide, by up to 15 dB, ``[B, length]``; ones where not wanted."""
    device, count = wanted.device, len(wanted)
    step, at, kind = torch.rand(3, count, 1, generator=random, device=device)
    widths = torch.tensor([0.005, 0.1, 1.0], device=device) * SAMPLE_RATE
    width = widths[(kind * 3).long().clamp(max=2)]
    time = torch.arange(length, device=device)
    ramp = ((time - (0.1 + 0.8 * at) * length) / width).clamp(0, 1)
    return to_gain((30 * step - 15) * ramp * wanted[:, None])


def equaliser(wanted: Tensor, frequency_hz: Tensor, random: torch.Generator) -> Tensor:
    """`effects.equalise` as a response for each example, ``[B, F]``; ones where not wanted."""
    factors = 0.75 * torch.rand(4, len(wanted), 1, generator=random, device=wanted.device) - 0.375
    b1, b2, a1, a2 = factors * wanted[:, None]
    z = torch.exp(-2j * torch.pi * frequency_hz / SAMPLE_RATE)
    return (1 + b1 * z + b2 * z**2) / (1 + a1 * z + a2 * z**2)


def butterworth(s: Tensor, cutoff_hz: Tensor, order: int, high: bool = False) -> Tensor:
    """The response of digital Butterworth filters of even order, ``[B, F]``; ones where 0 Hz.

    `s` is ``j tan(pi f / rate)``, the analog frequency of the bilinear transform, or its inverse
    for high-pass filters.
    """
    edge = torch.tan(torch.pi * cutoff_hz / SAMPLE_RATE).clamp(min=1e-6)[:, None]
    scaled = s * edge if high else s / edge
    response = torch.ones_like(scaled)
    for pair in range(order // 2):
        damping = 2 * math.sin(math.pi * (2 * pair + 1) / (2 * order))
        response = response / (scaled.square() + damping * scaled + 1)
    response = torch.nan_to_num(response, nan=0.0, posinf=0.0, neginf=0.0)
    return torch.where(cutoff_hz[:, None] > 0, response, torch.ones_like(response))


def made_rooms(t60_s: Tensor, random: torch.Generator) -> Tensor:
    """`effects.made_room` for each example, ``[B, SAMPLE_RATE]``."""
    device, count, size = t60_s.device, len(t60_s), SAMPLE_RATE
    time_s = torch.arange(size, device=device) / SAMPLE_RATE
    onset, damping, ratio = torch.rand(3, count, 1, generator=random, device=device)
    density = (time_s / (0.02 + 0.04 * onset)).square().clamp(max=1)
    tail = torch.randn(count, size, generator=random, device=device)
    tail = tail * (torch.rand(count, size, generator=random, device=device) < density)
    tail = tail * 10 ** (-3 * time_s / t60_s[:, None])
    damping = 0.5 * damping
    z = torch.exp(-2j * torch.pi * torch.fft.rfftfreq(2 * size, device=device))
    tail = torch.fft.irfft(torch.fft.rfft(tail, 2 * size) * (1 - damping) / (1 - damping * z))
    tail = tail[:, :size].clone()
    tail[:, : SAMPLE_RATE // 1000] = 0
    level = to_gain(3 - 18 * ratio)
    tail = tail * level / tail.square().sum(1, keepdim=True).sqrt().clamp(min=1e-9)
    tail[:, 0] = 1
    return tail


def coloured(count: int, length: int, random: torch.Generator) -> Tensor:
    """Gaussian noise whose spectrum falls (or rises) by a random power of the frequency."""
    device = random.device
    falloff = 1.5 * torch.rand(count, 1, generator=random, device=device) - 0.3
    bins = length // 2 + 1
    parts = torch.randn(2, count, bins, generator=random, device=device)
    level = torch.arange(bins, device=device).clamp(min=1) ** -falloff
    noise = torch.fft.irfft(torch.complex(parts[0] * level, parts[1] * level), length)
    return noise / noise.abs().amax(1, keepdim=True).clamp(min=1e-9)


def made_noises(sketch: Sketch, count: int, random: torch.Generator) -> Tensor:
    """Coloured noise, hum with its harmonics, clicks and bursts, ``[B, N]``."""
    device, length, made = random.device, sketch.length, len(sketch.made)
    total = torch.zeros(count, length, device=device)
    if not made:
        return total
    example, kind, gain_db = sketch.made.float().to(device).unbind(1)
    noise = coloured(made, length, random)
    time_s = torch.arange(length, device=device) / SAMPLE_RATE

    def uniform(low: float, high: float) -> Tensor:
        values = torch.rand(made, 1, generator=random, device=device)
        return low + (high - low) * values

    mains = torch.where(uniform(0, 1) < 0.5, 50.0, 60.0)
    base_hz = torch.where(uniform(0, 1) < 2 / 3, mains, uniform(80, 400))
    most, slope = uniform(3, MOST_HARMONICS), uniform(0.3, 1.5)
    hum = torch.zeros_like(noise)
    for order in range(1, MOST_HARMONICS):
        weight = order**-slope * ((order <= most) & (order * base_hz < SAMPLE_RATE / 2))
        hum += weight * torch.sin(2 * torch.pi * (order * base_hz * time_s + uniform(0, 1)))
    chance = torch.rand(made, length, generator=random, device=device)
    clicks = (chance < uniform(2, 30) / SAMPLE_RATE) * torch.randn(
        made, length, generator=random, device=device
    )
    decay = torch.exp(-torch.arange(400, device=device) / uniform(5, 80))
    ring = coloured(made, 400, random) * decay
    clicks = torch.fft.irfft(torch.fft.rfft(clicks) * torch.fft.rfft(ring, length), length)
    clicks = clicks + 1e-4 * noise
    waits = -torch.log(torch.rand(made, 200, generator=random, device=device) + 1e-9) * 0.4
    on = torch.searchsorted(waits.cumsum(1), time_s.expand(made, -1).contiguous()) % 2
    frequency_hz = torch.fft.rfftfreq(length, 1 / SAMPLE_RATE, device=device)
    lag = 2j * torch.pi * frequency_hz * uniform(0.002, 0.05)
    smooth = torch.fft.rfft(on.float()) / (1 + lag)
    bursts = noise * torch.fft.irfft(smooth, length)
    by_kind = torch.stack([noise, hum, clicks, bursts])
    rows = by_kind[kind.long(), torch.arange(made, device=device)]
    total.index_add_(0, example.long(), at_level(rows, gain_db))
    return total


def whispered(samples: Tensor, random: torch.Generator) -> Tensor:
    """Speech without a voice: its envelope on noise, and, as breath has it, weaker low formants."""
    window = torch.hann_window(512, device=samples.device)
    spectrum = torch.stft(samples, 512, 128, window=window, return_complex=True)
    envelope = F.avg_pool1d(
        spectrum.abs().square().transpose(1, 2).flatten(0, 1)[:, None], 9, 1, 4
    )[:, 0]
    envelope = envelope.view(len(samples), -1, spectrum.shape[1]).transpose(1, 2).sqrt()
    noise = torch.randn(samples.shape, generator=random, device=samples.device)
    breath = torch.stft(noise, 512, 128, window=window, return_complex=True)
    hz = torch.linspace(0, SAMPLE_RATE / 2, spectrum.shape[1], device=samples.device)
    flatter = (hz / (hz + 800)).clamp(min=0.05) * (1 + hz / 2000)
    whisper = torch.istft(
        breath * envelope * flatter[:, None], 512, 128, window=window, length=samples.shape[1]
    )
    peak = samples.abs().amax(1, keepdim=True)
    return whisper * peak / whisper.abs().amax(1, keepdim=True).clamp(min=1e-9)


def companded(samples: Tensor) -> Tensor:
    """mu-law with 8 bits and back (G.711)."""
    mu = 255.0
    code = samples.sign() * torch.log1p(mu * samples.abs().clamp(max=1)) / math.log1p(mu)
    code = torch.round(code * 127) / 127
    return code.sign() * torch.expm1(code.abs() * math.log1p(mu)) / mu


def coded(samples: Tensor, random: torch.Generator) -> Tensor:
    """What transform codecs of a low rate leave: coarse steps in each band, holes, birdies."""
    window = torch.hann_window(640, device=samples.device)
    spectrum = torch.stft(samples, 640, 320, window=window, return_complex=True)
    power = spectrum.abs().square().transpose(1, 2).flatten(0, 1)[:, None]
    power = F.avg_pool1d(power, 17, 1, 8)[:, 0]
    level = power.view(len(samples), -1, spectrum.shape[1]).transpose(1, 2).sqrt()
    steps = torch.rand(len(samples), 1, 1, generator=random, device=samples.device)
    step = level * (0.3 + 1.2 * steps) + 1e-9
    parts = torch.round(torch.view_as_real(spectrum) / step[..., None]) * step[..., None]
    rounded = torch.view_as_complex(parts)
    return torch.istft(rounded, 640, 320, window=window, length=samples.shape[1])
