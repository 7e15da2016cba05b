"""The names that others build on: which there are, what they promise, and the examples of both."""

from __future__ import annotations

import doctest
import os
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.places import PROJECT
from support.sound import agreement_db
from support.sound_server import SoundServer

import gtcrn_cli
from gtcrn_cli import Enhancer, Settings, UserError, enhance, load_engine, load_model

EXAMPLES = PROJECT / "examples"
PACKAGE = Path(gtcrn_cli.__file__).parent


def python(*arguments: str | Path, **options) -> subprocess.CompletedProcess[str]:
    environment = options.pop("env", os.environ) | {"PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, **options
    )


def test_the_public_names():
    """Who adds or takes away one says so here and in CHANGELOG.md."""
    assert gtcrn_cli.__all__ == [
        "Enhancer",
        "Settings",
        "UserError",
        "__version__",
        "denoise",
        "enhance",
        "load_engine",
        "load_model",
    ]
    assert dir(gtcrn_cli) == gtcrn_cli.__all__
    for name in gtcrn_cli.__all__:
        assert getattr(gtcrn_cli, name)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        gtcrn_cli.nonsense  # noqa: B018


def test_the_import_costs_nothing():
    done = python("-c", "import sys, gtcrn_cli; print('numpy' in sys.modules)")
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", [n for n in gtcrn_cli.__all__ if n != "__version__"])
def test_examples_of_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    thing = getattr(gtcrn_cli, name)
    tests = [test for test in doctest.DocTestFinder().find(thing, name) if test.examples]
    assert tests or issubclass(thing, Exception)
    for test in tests:
        assert doctest.DocTestRunner().run(test).failed == 0


WITH_EXAMPLES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_of_modules(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(import_module(module))
    assert result.attempted
    assert not result.failed


def test_a_whole_array(noisy: np.ndarray):
    """One channel with or without a second dimension; the same as block by block."""
    whole = enhance(noisy, 16_000)
    assert whole.shape == noisy.shape
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(enhance(noisy[:, 0], 16_000), whole[:, 0])
    np.testing.assert_array_equal(enhance(noisy[:, 0].astype(float), 16_000), whole[:, 0])
    with Enhancer(load_engine(load_model()), 16_000) as enhancer:
        blocks = [enhancer.push(noisy[start : start + 999]) for start in range(0, len(noisy), 999)]
        blocks.append(enhancer.flush())
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_settings_and_engine_are_taken(noisy: np.ndarray):
    assert agreement_db(enhance(noisy, 16_000, settings=Settings(strength=0)), noisy) > 100
    plain = enhance(noisy, 16_000, load_engine(load_model("gtcrn-plain")))
    assert agreement_db(plain, enhance(noisy, 16_000)) < 40


@pytest.mark.parametrize("shape", [(0,), (0, 2), (1,), (1, 3)])
def test_hardly_any_samples(shape: tuple[int, ...]):
    assert enhance(np.zeros(shape, np.float32), 48_000).shape == shape


def test_what_is_no_sound_is_refused():
    with pytest.raises(ValueError, match="neither"):
        enhance(np.zeros((2, 2, 2)), 16_000)
    with pytest.raises(ValueError, match="full scale"):
        enhance(np.zeros(100, np.int16), 16_000)
    with pytest.raises(UserError, match="7000"):
        enhance(np.zeros(100), 7_000)
    with pytest.raises(UserError, match=r"give samples\.T"):
        enhance(np.zeros((2, 16_000)), 16_000)


def test_an_engine_goes_to_another_process(noisy: np.ndarray):
    engine = pickle.loads(pickle.dumps(load_engine(load_model())))
    np.testing.assert_array_equal(enhance(noisy, 16_000, engine), enhance(noisy, 16_000))


def test_a_context_forgets_its_stream(noisy: np.ndarray):
    enhancer = Enhancer(load_engine(load_model()), 16_000)
    outputs = []
    for _ in range(2):
        with enhancer:
            outputs.append(enhancer.push(noisy))
    np.testing.assert_array_equal(*outputs)


def test_the_example_of_a_file(tmp_path: Path):
    done = python(EXAMPLES / "enhance_file.py", EXAMPLES / "noisy.wav", tmp_path / "clean.wav")
    assert done.stdout.startswith("6.5 s, the level is "), done.stderr
    assert soundfile.info(tmp_path / "clean.wav").frames == 104_000
    again = python(EXAMPLES / "enhance_file.py", EXAMPLES / "noisy.wav", tmp_path / "clean.wav")
    assert again.returncode == 1
    assert "exists" in again.stderr.strip().splitlines()[-1]


def test_the_example_of_a_folder(tmp_path: Path, noisy: np.ndarray):
    (tmp_path / "in").mkdir()
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "in" / name, noisy[:8000], 16_000)
    done = python(EXAMPLES / "enhance_folder.py", tmp_path / "in", tmp_path / "out")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["a.wav", "b.wav"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav"]


@pytest.mark.soundserver
def test_the_example_of_a_live_wire(sound_server: SoundServer):
    """Through a sound card that plays nothing: it runs, and hears the silence."""
    done = python(EXAMPLES / "live_wire.py", "0.5", env=sound_server.env)
    assert done.stdout == "peak of what was played: 0.000\n", done.stderr
