"""Video and containers that only ffmpeg knows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.sound import si_sdr_db
from support.tagged import copy

from gtcrn_cli.audio import ffmpeg
from gtcrn_cli.audio.opening import Output
from gtcrn_cli.enhancement.engines import Engine, load_engine
from gtcrn_cli.enhancement.enhancer import Settings
from gtcrn_cli.enhancement.pipeline import denoise
from gtcrn_cli.errors import ReadError, UserError
from gtcrn_cli.network.checkpoint import Checkpoint
from gtcrn_cli.signals import lag

pytestmark = pytest.mark.slow  # ffmpeg runs in each

needs_ffmpeg = pytest.mark.skipif(
    not ffmpeg.is_installed(), reason="ffmpeg and ffprobe are not on the PATH"
)
MAX_AV_ERROR_S = 0.03


@pytest.fixture(scope="module")
def engine(shipped: Checkpoint) -> Engine:
    return load_engine(shipped)


def run(*arguments: str | Path) -> None:
    subprocess.run(["ffmpeg", "-v", "error", *map(str, arguments)], check=True, timeout=60)


@pytest.fixture(scope="module")
def video(noisy_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture, speech that starts half a second late, another track, subtitles, a title."""
    folder = tmp_path_factory.mktemp("video")
    (folder / "words.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    path = folder / "talk.mp4"
    run(
        *("-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=7"),
        *("-itsoffset", "0.5", "-i", noisy_path, "-f", "lavfi", "-i", "sine=duration=7"),
        *("-i", folder / "words.srt"),
        *("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-c:v", "mpeg4", "-c:a", "aac"),
        *("-c:s", "mov_text", "-metadata", "title=A talk", "-metadata:s:a:0", "language=deu"),
        path,
    )
    return path


def probe(path: Path) -> dict:
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_format", path]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def packets_digest(path: Path, stream: str) -> str:
    """Of what is stored, undecoded."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-map", f"0:{stream}", "-c", "copy"]
    command += ["-f", "streamhash", "-"]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def decoded(path: Path) -> np.ndarray:
    """The first sound track at 16 kHz, in time with the picture."""
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a:0"]
    command += ["-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", "16000"]
    found = subprocess.run([*command, "-f", "f32le", "-"], capture_output=True, check=True)
    return np.frombuffer(found.stdout, "<f4")


def lag_s(late: np.ndarray, early: np.ndarray) -> float:
    return lag(late, early, 16_000) / 16_000


@needs_ffmpeg
@pytest.mark.slow
def test_a_video_keeps_all_but_its_noise(video: Path, engine: Engine, clean, tmp_path: Path):
    target = tmp_path / "out.mp4"
    summary = denoise(str(video), str(target), engine)
    before, after = probe(video), probe(target)
    assert packets_digest(target, "v") == packets_digest(video, "v")
    assert packets_digest(target, "a:1") == packets_digest(video, "a:1")
    kinds = [stream["codec_type"] for stream in after["streams"]]
    assert sorted(kinds) == sorted(stream["codec_type"] for stream in before["streams"])
    assert after["format"]["tags"]["title"] == "A talk"
    sound = next(stream for stream in after["streams"] if stream["codec_type"] == "audio")
    assert sound["tags"]["language"] == "deu"
    assert sound["codec_name"] == "aac"
    assert abs(lag_s(decoded(target), decoded(video))) < MAX_AV_ERROR_S
    speech = decoded(target)[8_000 : 8_000 + len(clean)]
    assert si_sdr_db(speech, clean) > si_sdr_db(decoded(video)[8_000:][: len(clean)], clean) + 3
    assert any("2 sound tracks" in note for note in summary.notes)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


@needs_ffmpeg
def test_a_video_gives_a_sound_file(video: Path, engine: Engine, tmp_path: Path):
    target = tmp_path / "out.flac"
    summary = denoise(str(video), str(target), engine, Settings(strength=0))
    info = soundfile.info(target)
    assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
    assert info.frames == round(summary.duration_s * 16_000)
    assert abs(lag_s(soundfile.read(target)[0], decoded(video))) < 0.001


CONTAINERS = ["m4a", "mkv"]
CONTAINERS += [
    pytest.param(ending, marks=pytest.mark.slow)
    for ending in ("aac", "wma", "wv", "webm", "ts", "avi")
]


@needs_ffmpeg
@pytest.mark.parametrize("ending", CONTAINERS)
@pytest.mark.slow
def test_containers_go_in_and_come_out(ending: str, video: Path, engine: Engine, tmp_path: Path):
    source, target = tmp_path / f"in.{ending}", tmp_path / f"out.{ending}"
    if f".{ending}" in ffmpeg.SOUND_CONTAINERS or ending == "webm":
        picture = ["-vn"]
    else:
        picture = ["-map", "0:v", "-map", "0:a:0", "-c:v", "mpeg4"]
    run("-i", video, "-t", "3", "-ac", "2", "-ar", "48000", "-sn", *picture, source)
    summary = denoise(str(source), str(target), engine, Settings(strength=0))
    assert (summary.sample_rate, summary.channels) == (48_000, 2)
    before, after = probe(source)["streams"], probe(target)["streams"]
    assert {s["codec_name"] for s in after} == {s["codec_name"] for s in before}
    noisy, same = decoded(source), decoded(target)
    shift = lag_s(same, noisy)
    assert abs(shift) < 0.1
    assert abs(len(same) - len(noisy)) < 0.1 * 16_000
    again = tmp_path / f"again.{ending}"
    denoise(str(source), str(again), engine, Settings(strength=0))
    assert again.read_bytes() == target.read_bytes()


@needs_ffmpeg
def test_sound_becomes_a_container_with_its_tags(engine: Engine, noisy, tmp_path: Path):
    source = tmp_path / "in.flac"
    with soundfile.SoundFile(source, "w", 16_000, 1) as file:
        file.title = "A title"
        file.write(noisy)
    denoise(str(source), str(tmp_path / "out.m4a"), engine)
    assert probe(tmp_path / "out.m4a")["format"]["tags"]["title"] == "A title"


@needs_ffmpeg
def test_what_is_no_recording_is_one_line(engine: Engine, video: Path, tmp_path: Path):
    (tmp_path / "text.mp4").write_text("This is no video.\n" * 100)
    run("-i", video, "-map", "0:v", "-c", "copy", tmp_path / "mute.mp4")
    (tmp_path / "list.mp4").write_text("#EXTM3U\nhttp://127.0.0.1:9/x.mp4\n")
    before = sorted(tmp_path.iterdir())
    for name, message in {
        "text.mp4": "neither libsndfile nor ffmpeg",
        "mute.mp4": "no sound track",
        "list.mp4": "neither libsndfile nor ffmpeg",
    }.items():
        with pytest.raises(UserError, match=message):
            denoise(str(tmp_path / name), str(tmp_path / "out.mp4"), engine)
    assert sorted(tmp_path.iterdir()) == before


@needs_ffmpeg
def test_an_output_is_there_whole_or_not_at_all(
    engine: Engine, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "out.mp4"
    target.write_text("mine")
    with pytest.raises(UserError, match="--overwrite"):
        denoise(str(video), str(target), engine)

    def stop(seconds: float, total: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        denoise(str(video), str(target), engine, output=Output(overwrite=True), progress=stop)
    monkeypatch.setitem(ffmpeg.CONTAINERS, ".mp4", "no_such_muxer")
    with pytest.raises(UserError, match="ffmpeg says"):
        denoise(str(video), str(target), engine, output=Output(overwrite=True))
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert target.read_text() == "mine"


def test_without_ffmpeg_it_is_said(
    engine: Engine, noisy_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "in.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(UserError, match="with ffmpeg on the PATH"):
        denoise(str(tmp_path / "in.mp4"), str(tmp_path / "out.wav"), engine)
    with pytest.raises(UserError, match=r"writing \.mp4 needs ffmpeg"):
        denoise(str(noisy_path), str(tmp_path / "out.mp4"), engine)
    denoise(str(noisy_path), str(tmp_path / "out.wav"), engine)  # the rest works


@pytest.mark.slow
@needs_ffmpeg
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    """60 s at 192 kHz are 46 MB as samples."""
    code = (
        "import re, sys; from pathlib import Path;"
        "from gtcrn_cli.enhancement.pipeline import denoise;"
        "from gtcrn_cli.enhancement.engines import load_engine;"
        "from gtcrn_cli.network.checkpoint import load_model;"
        "denoise(sys.argv[1], sys.argv[2], load_engine(load_model()));"
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    peaks = []
    for duration_s in (5, 60):
        source, target = tmp_path / f"{duration_s}.mka", tmp_path / f"out{duration_s}.mka"
        tone = f"sine=sample_rate=192000:duration={duration_s}"
        run("-f", "lavfi", "-i", tone, "-c:a", "pcm_s16le", source)
        command = [sys.executable, "-c", code, str(source), str(target)]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        peaks.append(1024 * int(done.stdout))
        assert float(probe(target)["format"]["duration"]) == pytest.approx(duration_s, abs=0.01)
    assert peaks[1] - peaks[0] < 30e6


@needs_ffmpeg
def test_every_track_keeps_its_language_and_title(noisy_path: Path, tmp_path: Path, engine: Engine):
    (tmp_path / "words.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHello\n")
    run(
        *("-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=1", "-t", "1"),
        *("-i", noisy_path, "-i", tmp_path / "words.srt"),
        *("-map", "0", "-map", "1", "-map", "1", "-map", "2", "-map", "2", "-c:v", "mpeg4"),
        *("-c:a", "aac", "-c:s", "srt", "-metadata:s:v:0", "title=Picture"),
        *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"),
        *("-metadata:s:a:1", "title=Comment", "-metadata:s:s:0", "language=eng"),
        *("-metadata:s:s:1", "language=fra", "-t", "1", tmp_path / "in.mkv"),
    )
    denoise(str(tmp_path / "in.mkv"), str(tmp_path / "out.mkv"), engine)

    def tags(path: Path) -> list[tuple[str, str, str]]:
        return sorted(
            (s["codec_type"], s.get("tags", {}).get("language"), s.get("tags", {}).get("title"))
            for s in probe(path)["streams"]
        )

    assert tags(tmp_path / "out.mkv") == tags(tmp_path / "in.mkv")


@needs_ffmpeg
@pytest.mark.parametrize("ending", [".mov", ".mp4"])
def test_the_timecode_of_a_camera_stays(ending: str, noisy_path: Path, tmp_path: Path, engine):
    run(
        *("-f", "lavfi", "-i", "testsrc=size=160x120:rate=25:duration=1", "-i", noisy_path),
        *("-t", "1", "-c:v", "mpeg4", "-c:a", "aac", "-timecode", "01:02:03:04"),
        tmp_path / f"in{ending}",
    )
    summary = denoise(str(tmp_path / f"in{ending}"), str(tmp_path / f"out{ending}"), engine)
    codes = [s.get("tags", {}).get("timecode") for s in probe(tmp_path / f"out{ending}")["streams"]]
    assert "01:02:03:04" in codes
    assert not [note for note in summary.notes if "data" in note]


@needs_ffmpeg
def test_a_container_that_cannot_tell_its_delay_is_said(engine: Engine, noisy, tmp_path: Path):
    source = tmp_path / "in.wav"
    soundfile.write(source, noisy, 16_000)
    sound = soundfile.read(source)[0]
    said = denoise(str(source), str(tmp_path / "out.aac"), engine, Settings(strength=0)).notes
    late = round(lag_s(decoded(tmp_path / "out.aac"), sound) * 16_000)
    assert late > 0
    assert any(f"players give {late} samples" in note for note in said)
    notes = denoise(str(source), str(tmp_path / "out.m4a"), engine, Settings(strength=0)).notes
    assert abs(lag_s(decoded(tmp_path / "out.m4a"), sound)) < 1 / 16_000
    assert not any("players give" in note for note in notes)


@needs_ffmpeg
@pytest.mark.parametrize("encoder", ["libopus", "libvorbis"])
def test_sound_of_a_webm_starts_where_it_started(
    encoder: str, engine: Engine, noisy_path: Path, tmp_path: Path
):
    source, target = tmp_path / "in.webm", tmp_path / "out.wav"
    run("-i", noisy_path, "-ar", "48000", "-c:a", encoder, source)
    denoise(str(source), str(target), engine, Settings(strength=0))
    command = ["ffmpeg", "-v", "error", "-i", str(source), "-f", "f32le", "-"]
    plain = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, "<f4")
    ours, rate = soundfile.read(target)
    assert rate == 48_000
    assert lag_s(ours, plain) == 0
    assert len(ours) == len(plain)


@needs_ffmpeg
@pytest.mark.parametrize("is_told", [True, False])
def test_times_that_cannot_be_right_do_not_make_days_of_silence(
    is_told: bool, noisy: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Far more than a container tells, or than so few bytes can hold, is no sound."""
    soundfile.write(tmp_path / "a.wav", noisy, 16_000)
    run("-i", tmp_path / "a.wav", tmp_path / "a.m4a")
    source = ffmpeg.MediaSource(tmp_path / "a.m4a")
    monkeypatch.setattr(ffmpeg, "BEYOND_S", 1.0)
    monkeypatch.setattr(ffmpeg, "LEAST_BYTES_PER_S", 1_000_000)
    source.length = 16_000 if is_told else None
    got = 0
    with pytest.raises(ReadError, match="is damaged: by its times it would be far too long"):
        for block in source.blocks(4_000):
            got += len(block)
    assert got <= 3 * 16_000


def noise(path: Path, rate: int, channels: int, seconds: float = 0.3) -> Path:
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.1, 0.1, (round(seconds * rate), channels)), rate)
    return path


@needs_ffmpeg
@pytest.mark.parametrize(
    ("rate", "ending", "now"),
    [
        (192_000, ".m4a", 96_000),
        (37_800, ".m4a", None),
        (44_100, ".webm", 48_000),
        (96_000, ".mp2", 48_000),
        (44_100, ".m4a", 44_100),
    ],
)
def test_a_rate_that_an_encoder_does_not_know_is_said(
    rate: int, ending: str, now: int | None, tmp_path: Path
):
    target = tmp_path / f"out{ending}"
    notes = copy(noise(tmp_path / "in.wav", rate, 1), target)
    made = int(probe(target)["streams"][0]["sample_rate"])
    assert now in (None, made)
    said = [note for note in notes if f"no {rate} Hz" in note]
    assert len(said) == (made != rate)
    assert all(f"written at {made} Hz" in note for note in said)


@needs_ffmpeg
@pytest.mark.parametrize("rate", [16_000, pytest.param(48_000, marks=pytest.mark.slow)])
def test_six_channels_of_aac_go_through_a_transport_stream(rate: int, tmp_path: Path):
    run("-i", noise(tmp_path / "in.wav", rate, 6), "-c:a", "aac", tmp_path / "in.ts")
    copy(tmp_path / "in.ts", tmp_path / "out.ts")
    sound = probe(tmp_path / "out.ts")["streams"][0]
    assert (sound["channels"], sound["sample_rate"]) == (6, str(rate))


@needs_ffmpeg
@pytest.mark.parametrize(("channels", "ending"), [(4, ".mp2"), (6, ".ts"), (3, ".avi")])
def test_channels_are_not_mixed(channels: int, ending: str, tmp_path: Path):
    source = noise(tmp_path / "in.wav", 48_000, channels)
    with pytest.raises(UserError, match=f"would have 2 of {channels} channels"):
        copy(source, tmp_path / f"out{ending}")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@needs_ffmpeg
@pytest.mark.parametrize(
    "ending",
    [
        *(".mp2", ".wma", ".avi"),
        *(
            pytest.param(e, marks=pytest.mark.slow)
            for e in (".ac3", ".eac3", ".ts", ".mpg", ".m4a")
        ),
    ],
)
def test_a_bit_rate_that_is_asked_for_is_used(ending: str, tmp_path: Path):
    source = noise(tmp_path / "in.wav", 48_000, 2, 1.0)
    sizes = []
    for kbits in (96, 192):
        target = tmp_path / f"{kbits}{ending}"
        copy(source, target, bit_rate=1000 * kbits)
        sizes.append(target.stat().st_size)
    assert 1.6 < sizes[1] / sizes[0] < 2.4


@needs_ffmpeg
@pytest.mark.parametrize("ending", [".mp2", ".ts"])
def test_a_bit_rate_that_an_encoder_does_not_know_is_said(ending: str, tmp_path: Path):
    with pytest.raises(UserError, match="give another --bitrate"):
        copy(noise(tmp_path / "in.wav", 48_000, 1), tmp_path / f"out{ending}", bit_rate=101_000)
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@needs_ffmpeg
@pytest.mark.parametrize("ending", [".wv", ".tta", ".mka", ".mov", ".m4a"])
def test_what_has_no_bit_rate_is_not_given_one(ending: str, tmp_path: Path):
    source = noise(tmp_path / "in.wav", 48_000, 1)
    if ending not in (".wv", ".tta"):  # which get a lossless track where they have one
        codec = {".mka": "flac", ".mov": "pcm_s16le", ".m4a": "alac"}[ending]
        run("-i", source, "-c:a", codec, tmp_path / f"in{ending}")
        source = tmp_path / f"in{ending}"
    with pytest.raises(UserError, match="no bit rate: leave out --bitrate"):
        copy(source, tmp_path / f"out{ending}", bit_rate=64_000)
    assert not list(tmp_path.glob("*out*"))


@needs_ffmpeg
@pytest.mark.parametrize("ending", [".m4a", ".mka"])
def test_a_link_has_the_ending_that_counts(ending: str, tmp_path: Path):
    """What it leads to may be called anything."""
    source = noise(tmp_path / "in.wav", 48_000, 1)
    (tmp_path / f"out{ending}").symlink_to("blob")
    copy(source, tmp_path / f"out{ending}")
    assert probe(tmp_path / "blob")["streams"][0]["codec_type"] == "audio"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blob", "in.wav", f"out{ending}"]


@needs_ffmpeg
@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt, OSError])
def test_a_failure_at_the_start_leaves_nothing(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> None:
        raise error

    source = noise(tmp_path / "in.wav", 48_000, 1)
    monkeypatch.setattr(ffmpeg, "_start", fail)
    with pytest.raises(error):
        copy(source, tmp_path / "out.m4a")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]
