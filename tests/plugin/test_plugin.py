"""The plugin as any host uses it, through its binary interface."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support.host import Instance, Library
from typer.testing import CliRunner

from gtcrn_cli import Settings, UserError, enhance, load_engine
from gtcrn_cli.cli import app
from gtcrn_cli.enhancement.stft import window_length
from gtcrn_cli.errors import MissingExtraError
from gtcrn_cli.native.machine_code import cache_file
from gtcrn_cli.network.checkpoint import load_model
from gtcrn_cli.plugin import build
from gtcrn_cli.plugin.pipewire import configuration, configuration_place, install, remove
from gtcrn_cli.signals import Samples


@pytest.fixture(scope="module")
def library(plugin: Path) -> Library:
    return Library(plugin)


RATES = [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000]


@pytest.mark.parametrize("sample_rate", RATES)
def test_every_rate(library: Library, noisy: Samples, sample_rate: int):
    samples = noisy[:20_000]
    window = window_length(sample_rate)
    instance = Instance(library, "gtcrn_mono", sample_rate)
    heard = instance.run(np.concatenate([samples, np.zeros((window, 1), np.float32)]))
    assert instance.latency == window
    assert np.abs(heard[window:] - enhance(samples, sample_rate)).max() < 1e-6


@pytest.mark.parametrize("sample_rate", [37_813, 47_999, 8_001, 191_999, 30_011])
def test_odd_rates_work_with_a_window_near_32_ms(
    library: Library, noisy: Samples, sample_rate: int
):
    instance = Instance(library, "gtcrn_mono", sample_rate)
    instance.set(strength=0, high_band=1)
    heard = instance.run(noisy[:20_000])
    window = int(instance.latency)
    assert abs(window / sample_rate - 0.032) < 0.0007
    assert np.abs(heard[window:] - noisy[: 20_000 - window]).max() < 2e-6


@pytest.mark.parametrize("sizes", [[1], [7, 1000, 3], [480], [768], [5000]])
def test_blocks_of_any_length(library: Library, noisy: Samples, sizes: list[int]):
    samples = np.repeat(noisy[:6_000], 2, axis=1) * np.float32([1, 0.5])
    expected = Instance(library, "gtcrn_stereo", 48_000).run(samples)
    instance = Instance(library, "gtcrn_stereo", 48_000)
    heard = instance.run(samples, sizes=sizes)
    np.testing.assert_array_equal(heard, expected)


def test_in_place_and_with_channels_that_change_places(library: Library, noisy: Samples):
    """A host may hand over one buffer as the input of a channel and the output of another."""
    samples = np.repeat(noisy[:6_000], 2, axis=1) * np.float32([1, 0.5])
    expected = Instance(library, "gtcrn_stereo", 48_000).run(samples)
    instance = Instance(library, "gtcrn_stereo", 48_000)
    np.testing.assert_array_equal(instance.run(samples, in_place=True), expected)
    instance.activate()
    np.testing.assert_array_equal(instance.run(samples, crossed=True), expected[:, ::-1])


def test_instances_do_not_disturb_each_other_and_start_anew(library: Library, noisy: Samples):
    one, other = (Instance(library, "gtcrn_mono", 48_000) for _ in range(2))
    expected = one.run(noisy[:9_000])
    other.run(-noisy[500:9_000])
    one.run(noisy[:5_000])
    one.activate()
    heard = []
    for begin in range(0, 9_000, 900):
        heard.append(one.run(noisy[begin : begin + 900]))
        other.run(noisy[:900])
    np.testing.assert_array_equal(np.concatenate(heard), expected)


def test_damage_and_odd_settings_leave_no_trace(library: Library, noisy: Samples):
    instance = Instance(library, "gtcrn_mono", 48_000)
    instance.set(limit=np.nan, strength=7, high_band=-3)
    damaged = noisy[:9_000].copy()
    damaged[3_000:3_010] = np.nan
    damaged[4_000] = np.inf
    heard = instance.run(damaged)
    assert np.isfinite(heard).all()
    clean = np.where(np.isfinite(damaged), damaged, np.float32(0))
    expected = Instance(library, "gtcrn_mono", 48_000).run(clean)
    np.testing.assert_array_equal(heard, expected)


@pytest.mark.parametrize("sample_rate", [0, 7_999, 192_001])
def test_a_rate_that_is_not_supported_gives_no_instance(library: Library, sample_rate: int):
    with pytest.raises(RuntimeError):
        Instance(library, "gtcrn_mono", sample_rate)


def test_what_never_was_may_be_cleaned_up(library: Library):
    """As ffmpeg does where it got no instance."""
    library.descriptor("gtcrn_mono").contents.cleanup(None)


def test_there_are_two_labels(library: Library):
    assert library.labels == ["gtcrn_mono", "gtcrn_stereo"]


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_it_calls_nothing_that_locks_or_touches_a_file(library: Library):
    """Allocation is for `instantiate` and `cleanup`; the rest is arithmetic."""
    told = subprocess.run(
        ["nm", "-D", library.path], capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[-1].split("@")[0] for line in told.splitlines() if " U " in line}
    arithmetic = {"cos", "sin", "sincos", "lrint", "powf", "rintf", "memset", "memcpy"}
    assert names <= {"aligned_alloc", "calloc", "free"} | arithmetic
    assert [line for line in told.splitlines() if " T " in line] == [
        line for line in told.splitlines() if line.endswith("ladspa_descriptor")
    ]


def test_another_model_goes_in(tmp_path: Path, library: Library, noisy: Samples):
    build.build_plugin(load_model("gtcrn-plain"), tmp_path / "plain.so")
    samples = np.concatenate([noisy[:9_000], np.zeros((512, 1), np.float32)])
    heard = Instance(Library(tmp_path / "plain.so"), "gtcrn_mono", 16_000).run(samples)
    plain = load_engine(load_model("gtcrn-plain"))
    assert np.abs(heard[512:] - enhance(noisy[:9_000], 16_000, plain)).max() < 1e-6
    assert np.abs(heard[512:] - enhance(noisy[:9_000], 16_000, settings=Settings())).max() > 1e-3


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other CPUs are not asked")
@pytest.mark.parametrize(
    "need", [{"CPU_LEAF_1_ECX": "(1u << 16)"}, {"CPU_XCR0": "(1u << 31)"}], ids=str
)
def test_no_instance_on_a_cpu_that_lacks_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: dict[str, str], library: Library
):
    """Both bits are reserved, so that no CPU has them set."""
    needs = build._needs() | need
    monkeypatch.setattr(build, "_needs", lambda: needs)
    build.build_plugin(load_model(), tmp_path / "later.so")
    with pytest.raises(RuntimeError, match="no instance"):
        Instance(Library(tmp_path / "later.so"), "gtcrn_mono", 48_000)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ziglang") is None, reason="ziglang is not installed")
def test_with_the_compiler_of_the_extra(
    tmp_path: Path, noisy: Samples, monkeypatch: pytest.MonkeyPatch, library: Library
):
    monkeypatch.setenv("CC", f"{sys.executable} -m ziglang cc")
    build.build_plugin(load_model(), tmp_path / "zig.so")
    samples = np.repeat(noisy[:9_000], 2, axis=1)
    heard = Instance(Library(tmp_path / "zig.so"), "gtcrn_stereo", 44_100).run(samples)
    expected = Instance(library, "gtcrn_stereo", 44_100).run(samples)
    assert np.abs(heard - expected).max() < 1e-6


def test_an_existing_file_is_kept(tmp_path: Path, library: Library):
    (tmp_path / "mine.so").write_text("mine")
    with pytest.raises(UserError, match="exists"):
        build.build_plugin(load_model(), tmp_path / "mine.so")
    assert (tmp_path / "mine.so").read_text() == "mine"


def test_without_a_compiler_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"C compiler .* pip install 'gtcrn-cli\[plugin\]'"):
        build.build_plugin(load_model(), tmp_path / "gtcrn.so")
    assert list(tmp_path.iterdir()) == []


def test_what_the_compiler_says_is_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bad").write_text("#!/bin/sh\necho 'no room on device' >&2\nexit 3\n")
    (tmp_path / "bad").chmod(0o755)
    monkeypatch.setenv("CC", str(tmp_path / "bad"))
    with pytest.raises(UserError, match="cannot build the plugin: no room on device"):
        build.build_plugin(load_model(), tmp_path / "gtcrn.so")
    assert not (tmp_path / "gtcrn.so").exists()


def test_the_command_says_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(build, "build_plugin", lambda checkpoint, target, overwrite: None)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["plugin"])
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == "gtcrn: wrote gtcrn.so, with gtcrn_mono and gtcrn_stereo in it\n"


def test_installed_and_removed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: Library
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_file().parent.parent))  # compiled there already
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    plugin, place = install(load_model())
    assert place == configuration_place()
    assert str(plugin) in place.read_text()
    assert Library(plugin).labels == ["gtcrn_mono", "gtcrn_stereo"]
    assert install(load_model()) == [plugin, place]  # again, over its own files
    place.write_text("# mine\n")
    with pytest.raises(UserError, match="not gtcrn's"):
        install(load_model())
    assert remove() == [plugin]
    assert place.read_text() == "# mine\n"
    assert remove() == []


def test_the_configuration_names_the_plugin(tmp_path: Path):
    text = configuration(tmp_path / 'a "b".so')
    assert r"a \"b\".so" in text
    assert "Audio/Source" in text and "gtcrn_mono" in text
