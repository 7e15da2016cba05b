"""Evaluation: measures against known signals, pairing, tables, the command."""

from __future__ import annotations

import csv
import json
import math
import sys
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
from gtcrn_cli.cli.evaluate import FormatChoice, _collect, writer_of
from gtcrn_cli.enhancement.engines import load_engine
from gtcrn_cli.errors import UserError
from gtcrn_cli.evaluation import judging, measures, recordings
from gtcrn_cli.evaluation import scoring as evaluation
from gtcrn_cli.evaluation.judging import Trial, TrialResult, judge, score
from gtcrn_cli.evaluation.scoring import Failure, Mean, find_trials
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.network.importing import import_model

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


@pytest.mark.slow
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
    trial = find_trials(folders / "noisy", folders / "clean", folders / "noisy")[0]
    with pytest.raises(UserError, match="one: noisy, clean and enhanced are not equally long"):
        judge(trial, None, with_dnsmos=False)
    for kind in ("noisy", "clean"):
        soundfile.write(folders / kind / "one.wav", clean[: RATE // 4], RATE)
    with pytest.raises(UserError, match="shorter than"):
        judge(trial, None, with_dnsmos=False)


@pytest.mark.slow
def test_what_cannot_be_judged_is_named_and_the_rest_stays(folders: Path, clean: np.ndarray):
    """Too short, of other lengths, cut off, no sound at all; and NaN, which is silence."""
    pieces = clean[: 2 * RATE]
    for kind in ("noisy", "clean"):
        soundfile.write(folders / kind / "short.wav", clean[:1000], RATE)
        length = {"noisy": 2 * RATE, "clean": RATE}[kind]
        soundfile.write(folders / kind / "length.wav", pieces[:length], RATE)
        (folders / kind / "text.wav").write_bytes(b"This is no sound.")
        damaged = pieces.copy()
        damaged[1000:1010], damaged[2000] = np.nan, 1e30
        soundfile.write(folders / kind / "nan.wav", damaged, RATE, "FLOAT")
        soundfile.write(folders / kind / "cut.wav", pieces, RATE)
        cut = folders / kind / "cut.wav"
        cut.write_bytes(cut.read_bytes()[:-RATE])
    target = folders / "scores.csv"
    result = CliRunner().invoke(
        app,
        [
            "evaluate",
            str(folders / "noisy"),
            str(folders / "clean"),
            "--no-dnsmos",
            "--enhanced",
            str(folders / "noisy"),
            "-j",
            "1",
            "-o",
            str(target),
        ],
    )
    assert result.exit_code == 1
    failed = [line.partition("not judged: ")[2] for line in result.stderr.splitlines()]
    assert len(failed) == 4 and "Traceback" not in result.stderr
    for name in ("short", "length", "text.wav", "cut.wav"):
        assert any(name in line for line in failed)
    with target.open() as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert set(rows) == {"nan", "one", "sub/two"}
    assert float(rows["nan"]["noisy WB-PESQ"]) > 4.6


@pytest.mark.slow
def test_a_worker_that_dies_takes_one_file_with_it(folders: Path, monkeypatch: pytest.MonkeyPatch):
    """PESQ can end the process; here a package of that name that does so for two-second files."""
    package = folders / "site" / "pesq"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import os\n"
        "class PesqError(Exception): pass\n"
        "def pesq(rate, target, estimate, band):\n"
        "    return os._exit(1) if len(target) == 2 * rate else 2.5\n"
    )
    monkeypatch.syspath_prepend(package.parent)  # which workers take over
    trials = find_trials(folders / "noisy", folders / "clean", folders / "noisy")
    outcomes = list(evaluation.evaluate(trials[::-1], None, with_dnsmos=False))
    assert [type(outcome) for outcome in outcomes] == [Failure, TrialResult]
    assert "died" in outcomes[0].reason
    assert outcomes[1].noisy["WB-PESQ"] == 2.5


def test_long_recordings_are_scored_in_windows(
    tmp_path: Path, clean: np.ndarray, noisy: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    """As PESQ wants them; SI-SDR is of the whole, and all of the sound is in some window."""
    lengths: list[int] = []
    fake = {"WB-PESQ": lambda estimate, clean: lengths.append(len(estimate)) or len(lengths)}
    monkeypatch.setattr(judging, "BY_WINDOW", fake)
    for kind, samples in (("noisy", noisy), ("clean", clean)):
        soundfile.write(tmp_path / f"{kind}.wav", np.tile(samples, (20, 1)), RATE, "FLOAT")
    trial = Trial("a", tmp_path / "noisy.wav", tmp_path / "clean.wav", tmp_path / "noisy.wav")
    result = judge(trial, None, with_dnsmos=False)
    assert lengths[::2] == lengths[1::2]
    assert sum(lengths[::2]) == 20 * len(noisy)
    assert all(10 * RATE <= length <= 30 * RATE for length in lengths)
    weighted = sum(n * length for n, length in zip(range(1, 99, 2), lengths[::2], strict=False))
    assert result.noisy["WB-PESQ"] == pytest.approx(weighted / sum(lengths[::2]))
    assert result.noisy["SI-SDR dB"] == pytest.approx(si_sdr_db(noisy, clean), abs=1e-6)


def test_blocks_give_what_the_whole_gives(tmp_path: Path, noisy: np.ndarray):
    samples = np.repeat(noisy, 2, axis=1)
    whole = recordings.to_mono(samples, 44_100)
    parts = recordings.to_mono_blocks(iter(np.array_split(samples, 37)), 44_100)
    assert np.array_equal(np.concatenate(list(parts)), whole)


def test_the_ending_tells_the_format_and_an_option_overrules_it():
    results = [TrialResult("a", {"STOI": 0.5}, {"STOI": 0.75})]
    for choice, name, begin in (
        (None, None, "| measure"),
        (None, "scores.md", "| measure"),
        (None, "scores.CSV", "file,"),
        (None, "scores.json", "{"),
        ("csv", "scores.txt", "file,"),
        ("json", "scores.csv", "{"),
    ):
        as_text = writer_of(choice and FormatChoice(choice), name and Path(name))
        assert as_text(results).startswith(begin)
    with pytest.raises(UserError, match=r"scores\.xlsx.*--format"):
        writer_of(None, Path("scores.xlsx"))


@pytest.mark.parametrize("ending", ["md", "csv", "json"])
@pytest.mark.parametrize("to_file", [False, True])
def test_scores_of_files_whose_names_are_no_text_are_kept(
    ending: str, to_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    results = [TrialResult("caf\udce9 ü", {"STOI": 0.5}, {"STOI": 0.75})]
    target = tmp_path / f"scores.{ending}"
    _collect(results, writer_of(None, target), target if to_file else None)
    text = target.read_text("utf-8") if to_file else capsys.readouterr().out
    assert "0.5" in text
    assert ("caf\\udce9 ü" in text) == (ending != "md")
    if ending == "json":
        assert json.loads(text)["files"][0]["file"] == "caf\udce9 ü"


@pytest.mark.parametrize("engine", ["typo", "torch"])
def test_an_engine_that_is_not_there_is_said_before_any_process_starts(
    engine: str, shipped: Checkpoint, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("pebble.ProcessPool", None)
    with pytest.raises(UserError, match=r"no engine 'typo'|the torch engine needs an extra"):
        next(evaluation.evaluate([Trial("a", Path("a.wav"))], shipped, engine))


def test_names_that_cannot_be_told_apart_are_refused(folders: Path):
    soundfile.write(folders / "noisy" / "one.flac", np.zeros(RATE), RATE)
    with pytest.raises(UserError, match=r"one\.flac and one\.wav differ in nothing but"):
        find_trials(folders / "noisy", folders / "clean")


def test_markdown_has_a_row_for_each_measure():
    results = [
        TrialResult("a", {"STOI": 0.5}, {"STOI": 0.75}),
        TrialResult("b", {"STOI": 0.7}, {"STOI": 0.85}),
    ]
    assert "| STOI | 0.600 ± 1.271 | 0.800 ± 0.635 | 2 |" in evaluation.as_markdown(results)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no ../shared/reference beside the project")
def test_published_checkpoints_come_out_as_published():
    """The reference outputs, judged as another tool's, score as what we make ourselves."""
    checkpoint = import_model(REFERENCE / "model_trained_on_vctk.tar")
    engine = load_engine(checkpoint)
    ours = np.concatenate(list(judging.enhanced_mono(REFERENCE / "noisy.wav", engine)))
    theirs = recordings.read_mono(REFERENCE / "enhanced_vctk.wav")
    assert measures.si_sdr_db(ours, theirs) > 60
