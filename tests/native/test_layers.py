"""The claims of the kernel that the parity of engines does not show."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
from numba import njit, types

from gtcrn_cli.enhancement.engines import load_engine
from gtcrn_cli.enhancement.stft import STFT
from gtcrn_cli.native import activations
from gtcrn_cli.native.bands import audible
from gtcrn_cli.native.layout import STATE
from gtcrn_cli.native.simd import FLOATS, Floats, load8, load16, splat16, store
from gtcrn_cli.native.state import split_state
from gtcrn_cli.network.checkpoint import Checkpoint

TINIEST_NORMAL = np.finfo(np.float32).tiny


def tanh_of_16(x: Floats, y: Floats) -> None:
    store(y, 0, activations.tanh(load16(x, 0)))


def prelu_of_16(x: Floats, y: Floats) -> None:
    store(y, 0, activations.prelu(load16(x, 0), splat16(0.25)))


def audible_of_16(x: Floats, y: Floats) -> None:
    store(y, 0, audible(load8(x, 0)))
    store(y, 8, audible(load8(x, 8)))


def compiled(function: Callable[[Floats, Floats], None]) -> Callable[[np.ndarray], np.ndarray]:
    """`function` of a vector as one of an array ``[N, 16]``."""
    signature = types.void(FLOATS, FLOATS)
    options = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    result = njit(signature, **options)(function).get_compile_result(signature)
    native = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 4)(
        result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
    )

    def apply(x: np.ndarray) -> np.ndarray:
        y, unused = np.empty_like(x), np.empty(2)
        for row_in, row_out in zip(x, y, strict=True):
            native(*[unused.ctypes.data] * 2, row_in.ctypes.data, row_out.ctypes.data)
        return y

    apply.library = result.library  # type: ignore[attr-defined]  # or its code is freed
    return apply


def test_tanh_is_as_exact_as_it_says() -> None:
    x = np.concatenate([np.linspace(-12, 12, 16_000), np.geomspace(1e-30, 1e30, 1_600)])
    x = x.astype(np.float32).reshape(-1, 16)
    y = compiled(tanh_of_16)(x)
    np.testing.assert_allclose(y, np.tanh(x.astype(float)), rtol=5e-7)


def test_prelu() -> None:
    x = np.linspace(-2, 2, 16, dtype=np.float32)[None]
    np.testing.assert_allclose(compiled(prelu_of_16)(x), np.where(x > 0, x, x / 4))


@pytest.mark.parametrize("level", [0, 1e-30, 1e-40])
def test_silence_after_speech_leaves_no_denormal_numbers(
    shipped: Checkpoint, noisy: np.ndarray, level: float
) -> None:
    """They would make every frame many times slower on some CPUs, from a minute of silence on."""
    engine = load_engine(shipped)
    spectrum, _ = STFT(16_000).analyze(noisy[:32_000], None)
    _, state = engine.mask(spectrum, None)
    quiet = np.full((1, 100, 257), level, np.complex64)
    for _ in range(60):
        mask, state = engine.mask(quiet, state)
        for numbers in (state, mask.view(np.float32)):
            assert not ((numbers != 0) & (np.abs(numbers) < TINIEST_NORMAL)).any()


def test_what_is_far_below_all_sound_is_silence_to_the_network() -> None:
    """So that nothing is multiplied that is denormal, or becomes so."""
    x = np.float32([[0, 1e-45, -1e-40, 1e-38, -1e-30, 1e-15, -1e-10, 0.5] * 2])
    expected = np.where(np.abs(x) < 1e-20, 0, x)
    np.testing.assert_array_equal(compiled(audible_of_16)(x), expected)


def test_nothing_drifts(shipped: Checkpoint, noisy: np.ndarray) -> None:
    """After a minute the state is torch's, though no rounding was ever put right."""
    spectrum, _ = STFT(16_000).analyze(noisy[:96_000], None)
    native, reference = load_engine(shipped), load_engine(shipped, "torch")
    ours = theirs = None
    for _ in range(10):
        _, ours = native.mask(spectrum, ours)
        _, theirs = reference.mask(spectrum, theirs)
    blocks, hidden = split_state(ours)
    network, level = theirs
    np.testing.assert_allclose(ours[:, STATE.level], level, rtol=1e-4)
    for our, their in zip(blocks, (*network.encoder, *network.decoder), strict=True):
        np.testing.assert_allclose(our[0], their.history, atol=1e-4)
        np.testing.assert_allclose(our[1], their.hidden, atol=1e-4)
    for our, their in zip(hidden, network.dual_path, strict=True):
        np.testing.assert_allclose(our, their, atol=1e-4)
