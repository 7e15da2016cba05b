"""Evaluation: measures against known signals, pairing, tables, the command."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.places import REFERENCE
from support.sound import si_sdr_db
from typer.testing import CliRunner

pytest.importorskip("pesq", reason="the extra 'evaluate' is not installed")
pytest.importorskip("pystoi", reason="the extra 'evaluate' is not installed")
pytest.importorskip("speechmos", reason="the extra 'evaluate' is not installed")

from gtcrn_cli.cli import app
from gtcrn_cli.errors import UserError
from gtcrn_cli.evaluation import measures
from gtcrn_cli.evaluation import scoring as evaluation
from gtcrn_cli.evaluation.scoring import Mean, Result, find_trials, score
from gtcrn_cli.network.checkpoint import import_model

RATE = 16_000


def test_a_clean_signal_gets_the_best_scores(clean: np.ndarray, noisy: np.ndarray):
    best = score(clean[:, 0], clean[:, 0], noisy[:, 0], with_dnsmos=False)
    assert best["WB-PESQ"] > 4.6 and best["NB-PESQ"] > 4.5
    assert best["STOI"] == pytest.approx(1, abs=1e-4) == best["ESTOI"]
    assert best["SI-SDR dB"] > 100


def test_si_sdr_and_snr_of_known_noise():
    rng = np.random.default_rng(0)
    target = rng.normal(size=RATE).astype(np.float32)
    noise = rng.normal(size=RATE).astype(np.float32)
    noise -= target * (noise @ target) / (target @ target)  # at right angles
    estimate = (target + 0.1 * noise * np.linalg.norm(target) / np.linalg.norm(noise)) * 0.5
    assert measures.si_sdr_db(estimate, target) == pytest.approx(20, abs=0.01)
    assert measures.si_sdr_db(estimate, target) == pytest.approx(si_sdr_db(estimate, target))
    assert measures.snr_db(2 * estimate, target) == pytest.approx(20, abs=0.01)


def test_silence_has_no_scores_rather_than_wrong_ones(clean: np.ndarray):
    silence = np.zeros(2 * RATE, np.float32)
    scores = score(silence, silence, silence, with_dnsmos=False)
    assert all(math.isnan(value) for value in scores.values())


@pytest.mark.slow
def test_dnsmos_prefers_clean_speech(clean: np.ndarray, noisy: np.ndarray):
    better = measures.dnsmos_scores(clean[:, 0])
    worse = measures.dnsmos_scores(noisy[:, 0])
    assert set(better) == {"DNSMOS OVRL", "DNSMOS SIG", "DNSMOS BAK", "DNSMOS P.808"}
    assert better["DNSMOS OVRL"] > worse["DNSMOS OVRL"]


def test_confidence_interval_of_a_known_sample():
    mean = Mean.of([1.0, 2.0, 3.0, math.nan])
    assert mean.value == 2 and mean.count == 3
    assert mean.margin == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert math.isnan(Mean.of([5.0]).margin) and Mean.of([]).count == 0
    assert str(Mean.of([5.0])) == "5.000" and str(Mean.of([])) == "-"


@pytest.fixture
def folders(tmp_path: Path, clean: np.ndarray, noisy: np.ndarray) -> Path:
    """Two pairs, in a subfolder, at two rates and in two formats."""
    for kind, samples in (("noisy", noisy), ("clean", clean)):
        (tmp_path / kind / "sub").mkdir(parents=True)
        soundfile.write(tmp_path / kind / "one.wav", samples[: 3 * RATE], RATE)
        stereo = np.repeat(np.repeat(samples[: 2 * RATE], 3, axis=0), 2, axis=1)  # held samples
        soundfile.write(tmp_path / kind / "sub" / "two.flac", stereo, 3 * RATE)
    return tmp_path


def run(*arguments: object) -> str:
    """The command's stdout."""
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_pairs_are_found_by_their_names(folders: Path):
    trials = find_trials(folders / "noisy", folders / "clean")
    assert [t.name for t in trials] == ["one", "sub/two"]
    (folders / "clean" / "one.wav").unlink()
    with pytest.raises(UserError, match=r"1 of 2 noisy files have no clean one .* example one"):
        find_trials(folders / "noisy", folders / "clean")
    with pytest.raises(UserError, match="no such file or folder"):
        find_trials(folders / "nowhere", None)


def test_command_improves_the_example(folders: Path):
    text = run(folders / "noisy", folders / "clean", "--format", "json", "--no-dnsmos", "-j", 1)
    report = json.loads(text)
    assert [f["file"] for f in report["files"]] == ["one", "sub/two"]
    for measure in ("WB-PESQ", "SI-SDR dB"):
        means = report["means"][measure]
        assert means["enhanced"]["mean"] > means["noisy"]["mean"]
    assert report["means"]["SNR gain dB"]["noisy"]["mean"] == 0


@pytest.mark.slow
def test_outputs_of_other_tools_and_two_processes(folders: Path):
    target = folders / "scores.csv"
    run(folders / "noisy", folders / "clean", "--enhanced", folders / "clean",
        "--no-dnsmos", "-j", 2, "--format", "csv", "-o", target)  # fmt: skip
    with target.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["one", "sub/two"]
    assert all(float(row["enhanced STOI"]) > 0.9999 > float(row["noisy STOI"]) for row in rows)
    result = CliRunner().invoke(
        app, ["evaluate", str(folders / "noisy"), str(folders / "clean"), "-o", str(target)]
    )
    assert isinstance(result.exception, UserError) and "--overwrite" in str(result.exception)


@pytest.mark.slow
def test_without_clean_originals_only_dnsmos(folders: Path):
    text = run(folders / "noisy" / "one.wav", "-j", 1)
    assert "DNSMOS OVRL" in text and "PESQ" not in text
    result = CliRunner().invoke(app, ["evaluate", str(folders / "noisy"), "--no-dnsmos"])
    assert result.exit_code == 2


def test_unequal_lengths_and_short_files_are_refused(folders: Path, clean: np.ndarray):
    soundfile.write(folders / "clean" / "one.wav", clean[:RATE], RATE)
    trials = find_trials(folders / "noisy", folders / "clean", folders / "noisy")
    with pytest.raises(UserError, match="one: noisy, clean and enhanced are not equally long"):
        list(evaluation.evaluate(trials, None, with_dnsmos=False))
    for kind in ("noisy", "clean"):
        soundfile.write(folders / kind / "one.wav", clean[: RATE // 4], RATE)
    with pytest.raises(UserError, match="shorter than"):
        list(evaluation.evaluate(trials, None, with_dnsmos=False))


def test_markdown_has_a_row_for_each_measure():
    results = [
        Result("a", {"STOI": 0.5}, {"STOI": 0.75}),
        Result("b", {"STOI": 0.7}, {"STOI": 0.85}),
    ]
    assert "| STOI | 0.600 ± 1.271 | 0.800 ± 0.635 | 2 |" in evaluation.as_markdown(results)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no ../shared/reference beside the project")
def test_published_checkpoints_come_out_as_published():
    """The reference outputs, judged as another tool's, score as what we make ourselves."""
    checkpoint = import_model(REFERENCE / "model_trained_on_vctk.tar")
    ours = evaluation.enhance_file(REFERENCE / "noisy.wav", checkpoint)
    theirs = evaluation.read_mono(REFERENCE / "enhanced_vctk.wav")
    assert measures.si_sdr_db(ours, theirs) > 60
