"""A real Dask scheduler with worker processes, and stores that are not local."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from support.batches import killing_who_reads, sparse_recording
from support.waiting import wait_for

from gtcrn_cli.batch.jobs import LocalWorkers, Model, Workers
from gtcrn_cli.batch.plan import Order
from gtcrn_cli.batch.run import run_batch
from gtcrn_cli.batch.storage import delivered
from gtcrn_cli.errors import MissingExtraError, UserError
from gtcrn_cli.network.checkpoint import Checkpoint

distributed = pytest.importorskip("distributed")
from gtcrn_cli.batch.cluster import ClusterWorkers  # noqa: E402


@pytest.fixture(scope="module")
def model(shipped: Checkpoint) -> Model:
    return Model(shipped)


@pytest.fixture(scope="session")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Two workers, each a process of its own, on loopback."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
    ) as cluster:
        yield cluster


@pytest.fixture
def source(tmp_path: Path, noisy: np.ndarray) -> Path:
    (tmp_path / "in" / "folder").mkdir(parents=True)
    for index in range(6):
        soundfile.write(tmp_path / "in" / "folder" / f"{index}.wav", noisy, 16_000)
    return tmp_path / "in"


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".gtcrn")
    }


@pytest.mark.slow
def test_the_command_does_the_same_on_a_cluster(source: Path, model: Model, cluster, tmp_path):
    command = [sys.executable, "-m", "gtcrn_cli", "batch", source, tmp_path / "out"]
    command += ["--cluster", cluster.scheduler_address]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "6 enhanced" in done.stderr
    here = Order(str(source), str(tmp_path / "here"))
    run_batch(here, model, lambda model: LocalWorkers(model, 1))
    assert tree(tmp_path / "out") == tree(tmp_path / "here")


@pytest.mark.slow
def test_the_files_of_a_lost_worker_are_done_elsewhere(
    source: Path, model: Model, cluster, tmp_path
):
    sparse_recording(source / "long.wav", 600)

    def hire(model: Model) -> Workers:
        return ClusterWorkers(model, cluster.scheduler_address)

    order = Order(str(source), str(tmp_path / "out"))
    with killing_who_reads(source / "long.wav", os.getpid(), times=1) as killed:
        result = run_batch(order, model, hire)
    assert len(killed) == 1
    assert result.count("done") == 7
    assert not result.failures
    assert soundfile.info(tmp_path / "out" / "long.wav").frames == 600 * 16_000
    assert len(tree(tmp_path / "out")) == 7


@pytest.mark.slow
def test_a_file_that_kills_every_worker_fails_alone(source: Path, model: Model, cluster, tmp_path):
    sparse_recording(source / "deadly.wav", 3600)

    def hire(model: Model) -> Workers:
        return ClusterWorkers(model, cluster.scheduler_address)

    with (
        distributed.Client(cluster.scheduler_address, set_as_default=False) as client,
        killing_who_reads(source / "deadly.wav", os.getpid()) as killed,
    ):
        client.run_on_scheduler(_allow_one_failure)
        result = run_batch(Order(str(source), str(tmp_path / "out")), model, hire)
    assert 2 <= len(killed) <= 4  # twice, and Dask tries each on two workers
    assert result.count("done") == 6
    assert [Path(entry.input).name for entry in result.failures] == ["deadly.wav"]
    assert "worker died" in result.failures[0].reason


def _allow_one_failure(dask_scheduler: distributed.Scheduler) -> None:
    dask_scheduler.allowed_failures = 1


@pytest.fixture
def inproc() -> Iterator[str]:
    """A scheduler and a worker in this process, for the store that is in this process."""
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the manifests of remote outputs are kept."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_a_store_as_input_and_output(source: Path, model: Model, inproc: str, state_dir):
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.put(str(source / "folder"), "/bucket/in/deep/", recursive=True)
    files.pipe("/bucket/in/cut.flac", b"fLaC" + bytes(50))

    def hire(model: Model) -> Workers:
        return ClusterWorkers(model, inproc)

    order = Order("memory://bucket/in", "memory://bucket/out", format="flac")
    first = run_batch(order, model, hire)
    assert first.count("done") == 6
    (failed,) = first.failures
    assert failed.input == "memory://bucket/in/cut.flac"
    assert "cannot read memory://bucket/in/cut.flac" in failed.reason  # no temporary name
    made = files.find("/bucket/out")
    assert len(made) == 6
    assert all(path.endswith(".flac") for path in made)
    assert all(e.output.startswith("memory://") for e in first.entries if e.status == "done")
    files.rm_file(made[0])
    second = run_batch(order, model, hire)
    assert (second.count("done"), second.count("unchanged")) == (1, 5)
    files.store.clear()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    """An S3 server on loopback with one bucket."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.mkdir("bucket")
    yield files
    server.stop()


@pytest.mark.slow
def test_s3_with_worker_processes(source: Path, s3, state_dir, tmp_path: Path):
    for name in "ab":
        s3.put(str(source / "folder" / "0.wav"), f"bucket/in/folder/{name}.wav")
    command = [sys.executable, "-m", "gtcrn_cli", "batch"]
    command += ["s3://bucket/in", "s3://bucket/out", "--jobs", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    s3.invalidate_cache()
    assert sorted(s3.find("bucket/out")) == [f"bucket/out/folder/{i}.wav" for i in "ab"]
    s3.get("bucket/out/folder/a.wav", str(tmp_path / "0.wav"))
    assert soundfile.info(tmp_path / "0.wav").frames == 104_000
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.stderr == "gtcrn: 0 enhanced; 2 unchanged\n"
    with pytest.raises(FileNotFoundError), delivered("s3://no-such-bucket/out/x") as path:
        path.touch()
    assert not s3.exists("no-such-bucket")  # a slip of the pen makes no bucket


def test_no_scheduler_is_one_line(model: Model, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("gtcrn_cli.batch.cluster.PATIENCE_S", 0.5)
    with pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"):
        ClusterWorkers(model, "tcp://127.0.0.1:1")
    with pytest.raises(UserError, match="no Dask scheduler answers at nonsense"):
        ClusterWorkers(model, "nonsense://x")


@pytest.mark.cluster
def test_a_scheduler_without_workers_is_one_line(model: Model, monkeypatch):
    monkeypatch.setattr("gtcrn_cli.batch.cluster.PATIENCE_S", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        pytest.raises(UserError, match="has no workers yet"),
    ):
        ClusterWorkers(model, empty.scheduler_address)


@pytest.mark.slow
@pytest.mark.cluster
def test_a_cluster_that_goes_away_ends_it(source: Path, model: Model, tmp_path: Path):
    sparse_recording(source / "long.wav", 7200)
    out = tmp_path / "out"
    gone = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
    )

    def leave() -> None:
        wait_for(lambda: list(out.glob(".*.part")) != [])
        gone.close()

    leaving = threading.Thread(target=leave)
    leaving.start()
    with pytest.raises(UserError, match="went away"):
        run_batch(
            Order(str(source), str(out)),
            model,
            lambda model: ClusterWorkers(model, gone.scheduler_address),
        )
    leaving.join()


def test_without_the_extra_it_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "gtcrn_cli.batch.cluster")
    with pytest.raises(MissingExtraError, match=r"gtcrn-cli\[cluster\]"):
        __import__("gtcrn_cli.batch.cluster")
