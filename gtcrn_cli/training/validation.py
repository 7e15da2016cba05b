"""What validation hears, and what it says."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..network.config import SAMPLE_RATE
from ..network.model import GTCRN
from .corpora import Corpora
from .losses import EnhancementLoss, si_snr_log10
from .mixtures import mixture
from .perceptual import PerceptualLoss, wideband_pesq
from .plan import VALID
from .recipe import Recipe
from .stft import analyze_torch, synthesize_torch

VALIDATION_SEED = 0
VALIDATION_S = 5.0
VALIDATION_KINDS = ("noisy", "clean")  # folders of what is written


def stack(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, Tensor]:
    """Examples to a batch."""
    noisy, clean = zip(*pairs, strict=True)
    return torch.from_numpy(np.stack(noisy)), torch.from_numpy(np.stack(clean))


def validation_set(corpora: Corpora, seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Examples of held-out speakers and noises, the same in every run with that seed.

    By turns a plain one (one noise at 0-17.5 dB, as public test sets have it) and one of all that
    training makes; only such as have speech in noise, of `VALIDATION_S` each.
    """
    plain = Recipe().only(snr_db=(0, 17.5), level_db=(-35, -15))
    hard = replace(
        Recipe(),
        noise_only=0.0,
        nearly_clean=0.0,
        plain=0.0,
        speed=0.0,
        # What came into the recipe later is left out, so that scores of all weights compare.
        quiet_reply=0.0,
        whisper=0.0,
        far_away=0.0,
        clipping=0.04,
    )
    length = round(VALIDATION_S * SAMPLE_RATE)
    return stack(
        mixture(corpora, hard if i % 2 else plain, length, (seed, VALID, i)) for i in range(count)
    )


def require_no_validation_set(folder: Path) -> None:
    """Refuse a folder that has files where `write_validation_set` would write its own.

    Raises
    ------
    UserError
        It has.
    """
    for kind in VALIDATION_KINDS:
        if (folder / kind).is_dir() and any((folder / kind).iterdir()):
            raise UserError(f"{folder / kind} has files in it already: give another folder")


def write_validation_set(folder: Path, examples: tuple[Tensor, Tensor]) -> None:
    """Write float WAV in ``noisy/`` and ``clean/``, for `gtcrn evaluate`: all of it or nothing.

    Raises
    ------
    UserError
        There are files already, or they cannot be written.
    """
    require_no_validation_set(folder)
    missing = list(takewhile(lambda place: not place.exists(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".writing-", dir=folder) as partial:
            for kind, batch in zip(VALIDATION_KINDS, examples, strict=True):
                (Path(partial) / kind).mkdir()
                for number, samples in enumerate(batch.numpy()):
                    (Path(partial) / kind / f"{number:04d}.wav").write_bytes(_wav(samples))
            for kind in VALIDATION_KINDS:
                with suppress(FileNotFoundError):
                    (folder / kind).rmdir()  # it is empty
            for kind in VALIDATION_KINDS:
                (Path(partial) / kind).rename(folder / kind)
    except BaseException as error:
        for place in missing:
            with suppress(OSError):
                place.rmdir()
        if isinstance(error, OSError):
            raise UserError(f"cannot write to {folder}: {error.strerror or error}") from None
        raise


def _wav(samples: np.ndarray) -> bytes:
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, samples, SAMPLE_RATE, format="WAV", subtype="FLOAT")
    return content.getvalue()


@torch.no_grad()
def validate(
    network: GTCRN, ema: dict[str, Tensor], examples: tuple[Tensor, Tensor], device: str
) -> dict[str, float]:
    """Scores of the averaged weights on `validation_set`."""
    judged = GTCRN(network.config).to(device)
    judged.load_state_dict(ema)
    judged.eval()
    losses, si_snr_db, pesq = [], [], []
    loss_of, disturbance_of = EnhancementLoss().to(device), PerceptualLoss().to(device)
    for noisy, clean in zip(*(t.split(8) for t in examples), strict=True):
        noisy, clean = analyze_torch(noisy.to(device)), analyze_torch(clean.to(device))
        enhanced, _ = judged(noisy)
        losses.append(float(loss_of(enhanced, clean, noisy)[0]) * len(noisy))
        ratio = si_snr_log10(synthesize_torch(enhanced), synthesize_torch(clean))
        si_snr_db.append(10 * float(ratio.sum()))
        pesq.append(float(wideband_pesq(disturbance_of(enhanced, clean)).sum()))
    sums = {"valid_loss": sum(losses), "valid_si_sdr_db": sum(si_snr_db), "valid_pesq": sum(pesq)}
    return {name: value / len(examples[0]) for name, value in sums.items()}
