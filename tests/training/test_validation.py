"""What validation hears is written whole or not at all, and made of what is held out alone."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from gtcrn_cli.cli import app
from gtcrn_cli.errors import UserError
from gtcrn_cli.training import validation
from gtcrn_cli.training.validation import write_validation_set

EXAMPLES = (torch.full((3, 100), 0.25), torch.full((3, 100), 0.5))


def test_a_full_disk_leaves_nothing_and_does_not_block_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write, written = Path.write_bytes, []

    def write_until_full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    with monkeypatch.context() as full:
        full.setattr(Path, "write_bytes", write_until_full)
        with pytest.raises(UserError, match=r"cannot write to .*set: No space left"):
            write_validation_set(tmp_path / "new" / "set", EXAMPLES)
    assert len(written) == 5 and not list(tmp_path.iterdir())
    (tmp_path / "new" / "set" / "clean").mkdir(parents=True)  # an empty folder is in nobody's way
    write_validation_set(tmp_path / "new" / "set", EXAMPLES)
    for kind, level in (("noisy", 0.25), ("clean", 0.5)):
        files = sorted((tmp_path / "new" / "set" / kind).iterdir())
        assert [path.name for path in files] == ["0000.wav", "0001.wav", "0002.wav"]
        assert soundfile.read(files[2])[0] == pytest.approx(np.full(100, level))
    with pytest.raises(UserError, match="has files in it already"):
        write_validation_set(tmp_path / "new" / "set", EXAMPLES)


def test_only_what_is_held_out_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(validation, "validation_set", lambda *_: EXAMPLES)
    soundfile.write(tmp_path / "a.wav", np.full(1_000, 0.1), 16_000)
    columns = "file\tstart\tsamples\tsource\tspeaker\tsplit\n"
    rows = "a.wav\t0\t-1\ts\tann\tvalid\nmissing.wav\t0\t-1\ts\tben\ttrain\n"
    (tmp_path / "index.tsv").write_text(columns + rows)
    index = str(tmp_path / "index.tsv")
    options = ["--speech", index, "--noise", index, "--write-validation", str(tmp_path / "set")]
    result = CliRunner().invoke(app, ["train", str(tmp_path / "run"), *options])
    assert result.exit_code == 0, result.output
    assert "missing" not in result.output and (tmp_path / "set" / "noisy" / "0000.wav").exists()
