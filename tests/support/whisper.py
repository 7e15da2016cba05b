"""A Whisper that knows eight words and understands none: tiny, made here, of CTranslate2's form."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WORDS = ("cat", "dog", "bird", "fish", "horse", "sheep", "goat", "mouse")
SPECIAL = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nocaptions|>",
    "<|notimestamps|>",
    *(f"<|{step / 50:.2f}|>" for step in range(1501)),
)
BANDS, WIDTH, FRAMES, TOKENS = 80, 16, 1500, 448


def write_whisper(folder: Path, seed: int = 0, bands: int = BANDS) -> Path:
    """Random weights, so it babbles, but always the same of the same sound."""
    from ctranslate2.specs import WhisperSpec
    from tokenizers import Tokenizer, decoders, models

    rng = np.random.default_rng(seed)
    vocabulary = [*(f" {word}" for word in WORDS), *SPECIAL]
    folder.mkdir(parents=True, exist_ok=True)
    spec = WhisperSpec(1, 1, 1, 1)

    def numbers(*shape: int) -> np.ndarray:
        return rng.normal(0, shape[-1] ** -0.5, shape).astype(np.float32)

    def linear(layer: object, out: int, into: int) -> None:
        layer.weight, layer.bias = numbers(out, into), np.zeros(out, np.float32)

    def norm(layer: object) -> None:
        layer.gamma, layer.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    def attention(layer: object, *outs: int) -> None:
        norm(layer.layer_norm)
        for part, out in zip(layer.linear, outs, strict=True):
            linear(part, out, WIDTH)

    for convolution, into in ((spec.encoder.conv1, bands), (spec.encoder.conv2, WIDTH)):
        convolution.weight = numbers(WIDTH, into, 3)
        convolution.bias = np.zeros(WIDTH, np.float32)
    for part, positions in ((spec.encoder, FRAMES), (spec.decoder, TOKENS)):
        part.position_encodings.encodings = numbers(positions, WIDTH)
        norm(part.layer_norm)
        attention(part.layer[0].self_attention, 3 * WIDTH, WIDTH)
        norm(part.layer[0].ffn.layer_norm)
        linear(part.layer[0].ffn.linear_0, 4 * WIDTH, WIDTH)
        linear(part.layer[0].ffn.linear_1, WIDTH, 4 * WIDTH)
    attention(spec.decoder.layer[0].attention, WIDTH, 2 * WIDTH, WIDTH)
    spec.decoder.embeddings.weight = numbers(len(vocabulary), WIDTH)
    linear(spec.decoder.projection, len(vocabulary), WIDTH)
    spec.decoder.projection.weight *= 4  # so that it is of two minds less often,
    spec.decoder.projection.bias[len(WORDS) + 1 :] = -100  # and says nothing but words
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [len(WORDS)]
    spec.config.alignment_heads = [[0, 0]]
    spec.config.lang_ids = []
    spec.register_vocabulary(vocabulary)
    spec.validate()
    spec.save(str(folder))

    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(ids, "<|nocaptions|>"))
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
