"""How commands end when their streams are closed or full, a reader leaves, or a signal comes."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.batches import sparse_recording
from support.places import PROJECT
from support.waiting import wait_for
from typer.testing import CliRunner

from gtcrn_cli.cli import app, conduct
from gtcrn_cli.native import machine_code

# The command line, whose own process has the code at hand that the compiler would take long for.
COMPILES_AT_ONCE = """
from pathlib import Path
from gtcrn_cli.cli import main
from gtcrn_cli.native import machine_code
if __name__ == "__main__":
    machine_code.compile_kernel = lambda: Path("code").read_bytes()
    main()
"""
COMMAND = f"'{sys.executable}' -m gtcrn_cli"
NOISY = PROJECT / "examples" / "noisy.wav"


def shell(words: str, folder: Path) -> tuple[int, str]:
    """Exit code and stderr of a command line; ``gtcrn`` is what is tested."""
    line = f'set -o pipefail; gtcrn() {{ {COMMAND} "$@"; }}; {words.replace("NOISY", str(NOISY))}'
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    ended = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True
    )
    return ended.returncode, ended.stderr


needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("gtcrn models >&-", 1, "stdout is closed"),
        ("gtcrn denoise - out.wav <&-", 1, "stdin is closed"),
        ("gtcrn batch - out <&-", 1, "stdin is closed"),
        ("gtcrn denoise NOISY - --format flac >&-", 1, "stdout is closed"),
        ("gtcrn denoise NOISY out.wav <&- >&- 2>&-", 0, ""),
        pytest.param("gtcrn --help >/dev/full", 1, "No space left", marks=needs_full),
        pytest.param("gtcrn denoise NOISY - >/dev/full", 1, "No space left", marks=needs_full),
        pytest.param("gtcrn models 2>/dev/full", 0, "", marks=needs_full),
        pytest.param("gtcrn denoise no.wav out.wav 2>/dev/full", 1, "", marks=needs_full),
        ("gtcrn models show gtcrn | true", 141, ""),
        ("gtcrn denoise NOISY - | head -c 10 >/dev/null", 141, ""),
    ],
)
@pytest.mark.slow
def test_closed_and_full_streams_are_one_line(words: str, code: int, said: str, tmp_path: Path):
    ended, stderr = shell(words, tmp_path)
    assert ended == code, stderr
    assert "Traceback" not in stderr
    assert said in stderr and len(stderr.splitlines()) == (1 if said else 0)
    whole = ["out.wav"] if code == 0 and "out.wav" in words else []
    assert [path.name for path in tmp_path.iterdir()] == whole


@pytest.mark.parametrize(
    ("number", "command", "said"),
    [
        (signal.SIGTERM, ("denoise", "long.wav", "out.wav"), "stopped by SIGTERM"),
        (signal.SIGHUP, ("denoise", "long.wav", "out.wav"), "stopped by SIGHUP"),
        (signal.SIGINT, ("denoise", "long.wav", "out.wav"), "stopped"),
        (signal.SIGTERM, ("batch", "long", "out", "-j", "1"), "the same command goes on from here"),
    ],
)
@pytest.mark.slow
def test_a_signal_ends_a_command_with_one_line_and_no_half_output(
    number: signal.Signals, command: tuple[str, ...], said: str, tmp_path: Path
):
    (tmp_path / "long").mkdir()
    sparse_recording(tmp_path / "long" / "long.wav", 20_000)
    (tmp_path / "long.wav").symlink_to("long/long.wav")
    process = subprocess.Popen(
        [sys.executable, "-m", "gtcrn_cli", *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: any(part.stat().st_size > 1000 for part in tmp_path.rglob(".*.part")), 60)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert len(stderr.splitlines()) == 1 and said in stderr
    assert {path.name for path in tmp_path.rglob("*")} <= {
        *("long", "long.wav", "out", ".gtcrn-batch.jsonl")
    }


@pytest.mark.slow
def test_nohup_is_obeyed(tmp_path: Path):
    sparse_recording(tmp_path / "long.wav", 500)
    words = (
        f"(trap '' HUP; exec {COMMAND} denoise long.wav out.wav) & pid=$!; "
        "while ! ls .*.part >/dev/null 2>&1; do sleep 0.01; done; kill -HUP $pid; wait $pid"
    )
    assert shell(words, tmp_path) == (0, "")
    assert (tmp_path / "out.wav").exists()


@pytest.mark.slow
def test_a_batch_without_a_cache_compiles_once(tmp_path: Path):
    """Cron jobs and containers may have no home: then the workers share what the parent made."""
    (tmp_path / "in").mkdir()
    for name in "abcd":
        shutil.copy(NOISY, tmp_path / "in" / f"{name}.wav")
    (tmp_path / "file").touch()
    (tmp_path / "code").write_bytes(machine_code.object_code())
    (tmp_path / "command.py").write_text(COMPILES_AT_ONCE)
    words = f"XDG_CACHE_HOME=$PWD/file '{sys.executable}' command.py batch in out -j 3 -q"
    code, stderr = shell(words, tmp_path)
    assert code == 0
    assert stderr.count("compiling") == 1
    assert len(list((tmp_path / "out").glob("*.wav"))) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="how to be nobody")
@pytest.mark.parametrize(
    "words",
    [
        "nobody denoise NOISY out.wav && test -s out.wav",
        "nobody batch in out -j 1 && test -s out/noisy.wav",
        "nobody models && nobody doctor --precompile",
        "unset XDG_CACHE_HOME; ! nobody doctor --precompile 2>said && grep 'set HOME or X' said",
    ],
)
def test_who_has_no_home_is_served_all_the_same(words: str, tmp_path: Path):
    """A container may run as a user that the system does not know."""
    (tmp_path / "nobody.py").write_text(
        "import os, pwd, sys\n"
        "from gtcrn_cli.cli import main\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n"
        "if __name__ == '__main__': main()\n"
    )
    (tmp_path / "code").mkdir()
    shutil.copy(machine_code.cache_file(), tmp_path / "code")  # as --precompile has it in an image
    (tmp_path / "in").mkdir()
    shutil.copy(NOISY, tmp_path / "in")
    nobody = (
        "mkdir cache && mv code cache/gtcrn && export XDG_CACHE_HOME=$PWD/cache; unset HOME; "
        f"nobody() {{ env -u XDG_DATA_HOME '{sys.executable}' nobody.py \"$@\"; }}; "
    )
    code, said = shell(nobody + words, tmp_path)
    assert (code, said.count("Traceback")) == (0, 0)


def test_precompiling_says_where_the_code_is_kept_and_fails_where_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = CliRunner().invoke(app, ["doctor", "--precompile"])
    assert kept.exit_code == 0 and str(machine_code.cache_file()) in kept.stderr
    (tmp_path / "file").touch()
    monkeypatch.setattr(machine_code, "load_kernel", lambda: None)
    monkeypatch.setattr(machine_code, "_folder", tmp_path / "file")
    assert not machine_code.can_keep()
    failed = CliRunner().invoke(app, ["doctor", "--precompile"])
    assert "XDG_CACHE_HOME" in str(failed.exception)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize(
    "words", ["cat talk.m4a | gtcrn denoise - a.wav", "gtcrn denoise - a.wav <talk.m4a"]
)
@pytest.mark.slow
def test_stdin_takes_what_a_file_may_be(words: str, tmp_path: Path):
    coded = ["ffmpeg", "-v", "error", "-i", str(NOISY), "-c:a", "alac", str(tmp_path / "talk.m4a")]
    subprocess.run(coded, check=True)
    assert shell(words, tmp_path) == (0, "")
    assert shell("gtcrn denoise talk.m4a b.wav", tmp_path) == (0, "")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    code, said = shell("head -c 999 talk.m4a | gtcrn denoise - c.wav", tmp_path)
    assert code == 1 and "stdin" in said and "/tmp" not in said


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_format_that_ffmpeg_cannot_write_says_what_to_do(tmp_path: Path):
    code, said = shell("gtcrn denoise NOISY a.amr", tmp_path)
    assert code == 0 or (code == 1 and "choose another ending" in said)
    assert (tmp_path / "a.amr").exists() == (code == 0)


@pytest.mark.parametrize(
    "place", [tempfile.TemporaryFile, tempfile.TemporaryDirectory, tempfile.NamedTemporaryFile]
)
def test_no_temporary_folder_is_one_line(
    place: Callable[[], object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/nowhere"])
    code, line = conduct._outcome(place, [])
    assert code == 1
    assert "temporary" in str(line) and "set TMPDIR" in str(line)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE])
def test_what_is_taken_away_during_the_work_is_one_line(number: int):
    def work() -> None:
        raise OSError(number, os.strerror(number), "talk.wav")

    assert conduct._outcome(work, []) == (1, f"talk.wav: {os.strerror(number)}")


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("utf-8", b"caf\xe9 \xc3\xbc \xe2\x82\xac"), ("latin-1", b"caf\xe9 \xfc \\u20ac")],
)
def test_names_go_out_as_they_are(encoding: str, written: bytes, monkeypatch: pytest.MonkeyPatch):
    stdout = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stdout, encoding))
    conduct._open_streams()
    print(os.fsdecode(b"caf\xe9") + " ü €", end="", flush=True)
    assert stdout.getvalue() == written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "--callers", "1", "--plot", "a.svg"], "--plot is for the table"),
        (["bench", "--callers", "1", "--only", "gtcrn"], "--only is for the table"),
        (["bench", "--callers", "1", "--repeats", "2"], "--repeats is for the table"),
        (["doctor", "--input", "usb"], "--input is for --loopback"),
        (["doctor", "--output", "usb"], "--output is for --loopback"),
        (["doctor", "--rate", "48000"], "--rate is for --loopback"),
        (["doctor", "--low-latency"], "--low-latency is for --loopback"),
        (["doctor", "--precompile", "--loopback"], "beside --precompile"),
        (["doctor", "--virtual-mic", "add", "--json"], "beside --virtual-mic"),
        (["plugin", "--pipewire", "--model", "gtcrn"], "--model is for making a plugin"),
        (["plugin", "--remove", "--overwrite"], "--overwrite is for making a plugin"),
        (
            ["train", "a", "--speech=b", "--noise=c", "--write-validation=d", "--steps=5"],
            "--steps is for training",
        ),
    ],
)
def test_options_that_would_do_nothing_are_refused(words: list[str], said: str, tmp_path: Path):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    "words",
    [
        ["compare", "a.wav", "--start"],
        ["compare", "a.wav", "--duration"],
        ["denoise", "a.wav", "b.wav", "--strength"],
        ["bench", "--seconds"],
        ["live", "--duration"],
        ["live", "--latency"],
    ],
)
def test_numbers_are_finite(words: list[str], number: str):
    result = CliRunner().invoke(app, [*words, number])
    assert result.exit_code == 2, result.output
