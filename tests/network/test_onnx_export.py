"""The exported file does what we do, here and in sherpa-onnx."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.models import untrained
from support.sound import si_sdr_db
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.enhancement.engines import load_engine
from gtcrn_cli.enhancement.enhancer import enhance
from gtcrn_cli.enhancement.stft import STFT
from gtcrn_cli.errors import MissingExtraError, UserError
from gtcrn_cli.network import onnx_export as exporting
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.config import GTCRNConfig

pytestmark = pytest.mark.slow  # each exports


@pytest.fixture(scope="session")
def exported(shipped: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "gtcrn.onnx"
    assert exporting.export(shipped, path) < 1e-5
    return path


def test_same_as_the_native_engine(exported: Path, shipped: Checkpoint, noisy: np.ndarray) -> None:
    spectrum, _ = STFT(16_000).analyze(noisy[:32_000], None)
    mask, _ = load_engine(shipped).mask(spectrum, None)
    frames = spectrum[0].view(np.float32).reshape(-1, 257, 2)
    enhanced = exporting.run_frames(exporting.open_session(str(exported)), frames)
    expected = (mask * spectrum)[0].view(np.float32).reshape(-1, 257, 2)
    np.testing.assert_allclose(enhanced, expected, atol=1e-3)  # of values up to 60


@pytest.mark.parametrize("name", ["caf\udce9", "a\nb"])
def test_names_that_are_no_text_are_escaped(name: str, shipped: Checkpoint) -> None:
    """A card may say what a model was fitted to, whatever the folder was called."""
    onnx = pytest.importorskip("onnx")
    named = replace(shipped, card={"description": name})
    model = onnx.ModelProto()
    onnx.helper.set_model_props(model, exporting._metadata(named))
    comments = [prop.value for prop in model.metadata_props if prop.key == "comment"]
    assert comments == [name.encode("unicode_escape").decode()]


def test_signature_is_what_the_documentation_says(exported: Path) -> None:
    session = exporting.open_session(str(exported))
    inputs = {node.name: tuple(node.shape) for node in session.get_inputs()}
    outputs = {node.name: tuple(node.shape) for node in session.get_outputs()}
    assert inputs == exporting.SHAPES
    assert list(outputs) == exporting.OUTPUTS
    assert list(outputs.values()) == list(inputs.values())


@pytest.mark.slow
def test_sherpa_onnx_runs_it(exported: Path, shipped: Checkpoint, noisy: np.ndarray) -> None:
    sherpa = pytest.importorskip("sherpa_onnx")
    config = sherpa.OfflineSpeechDenoiserConfig(
        model=sherpa.OfflineSpeechDenoiserModelConfig(
            gtcrn=sherpa.OfflineSpeechDenoiserGtcrnModelConfig(model=str(exported)), num_threads=1
        )
    )
    theirs = sherpa.OfflineSpeechDenoiser(config).run(noisy[:, 0].tolist(), 16_000)
    assert theirs.sample_rate == 16_000
    ours = enhance(noisy, 16_000, load_engine(shipped))[:, 0]
    # It frames the ends in its own way, and what the network heard first fades within a second.
    inner = slice(16_000, len(theirs.samples) - 512)
    assert si_sdr_db(np.array(theirs.samples)[inner], ours[inner]) > 50


@pytest.mark.parametrize(
    "name",
    [
        "hybrid",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in (
                "none",
                "concat",
                "attention+dense+input+levels=0,2",
                "none,attention,add,gated,concat+compress=4",
                "add+dense+levels=0,3",
                "attention+float16",
                "concat+dense+input+compress=6+bfloat16",
            )
        ),
    ],
)
def test_every_way_of_skip_fusion(name: str, tmp_path: Path) -> None:
    """`export` itself compares with torch; the signature is that of the published network."""
    config = GTCRNConfig.parse(name)
    exporting.export(untrained(config), tmp_path / "m.onnx")
    session = exporting.open_session(str(tmp_path / "m.onnx"))
    assert {node.name: tuple(node.shape) for node in session.get_inputs()} == exporting.SHAPES


@pytest.mark.slow
def test_exported_skips_are_rounded(noisy: np.ndarray) -> None:
    rounded = untrained(GTCRNConfig.parse("add+bfloat16"))
    exact = replace(rounded, config=GTCRNConfig())
    frames = STFT(16_000).analyze(noisy[16_000:24_000], None)[0][0].view(np.float32)
    outputs = [
        exporting.run_frames(
            exporting.open_session(exporting.to_onnx(model)), frames.reshape(-1, 257, 2)
        )
        for model in (rounded, exact)
    ]
    reference, _ = load_engine(rounded).mask(frames.view(np.complex64)[None], None)
    expected = (reference[0] * frames.view(np.complex64)).view(np.float32).reshape(-1, 257, 2)
    errors = [np.sqrt(np.mean((output - expected) ** 2)) for output in outputs]
    assert errors[0] < errors[1] / 4


def test_command(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "to_onnx", lambda checkpoint: exported.read_bytes())
    target = tmp_path / "m.onnx"
    result = CliRunner().invoke(app, ["export", str(target)])
    assert result.exit_code == 0
    assert "of torch over 100 frames" in result.stderr
    assert target.stat().st_size > 100_000
    before = target.read_bytes()
    refused = CliRunner().invoke(app, ["export", str(target)])
    assert isinstance(refused.exception, UserError)
    assert "add --overwrite" in str(refused.exception)
    assert target.read_bytes() == before
    assert CliRunner().invoke(app, ["export", str(target), "--overwrite"]).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_what_differs_from_torch_is_not_written(
    exported: Path, shipped: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "to_onnx", lambda checkpoint: exported.read_bytes())
    louder = {name: w * np.float32(1.01) for name, w in shipped.weights.items()}
    with pytest.raises(UserError, match="not written"):
        exporting.export(replace(shipped, weights=louder), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_without_the_extra(shipped: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"gtcrn-cli\[export\]"):
        exporting.to_onnx(shipped)
