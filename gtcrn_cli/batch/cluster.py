"""Workers of a Dask cluster."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial

from .. import __version__
from ..errors import MissingExtraError, UserError
from .jobs import Job, Model, Outcome, Workers, prepare, process

try:
    from distributed import Client, Worker, WorkerPlugin
    from distributed.scheduler import KilledWorker
except ImportError:
    raise MissingExtraError("--cluster", "cluster") from None

PATIENCE_S = 10
COUNT_EVERY_S = 5
NO_WORKERS = "has no workers yet: start some with 'dask worker'"


class _Prepare(WorkerPlugin):
    """Runs on every worker that there is, and on every one that joins or comes back."""

    name = "gtcrn"

    def __init__(self, version: str, load: Callable[[], None]) -> None:
        self.version = version
        self.load = load

    def setup(self, worker: Worker) -> None:
        if self.version != __version__:
            raise UserError(f"a worker has gtcrn-cli {__version__}, not {self.version}")
        self.load()


class ClusterWorkers(Workers):
    """The workers of the Dask scheduler at `address`.

    A worker that is lost is Dask's business: what it was at is done by another. Only after the
    scheduler's ``allowed-failures`` deaths over the same job is that job called `lost`.

    Raises
    ------
    UserError
        There is no scheduler, it has no workers, or they cannot load the model.
    """

    lost = (KilledWorker,)

    def __init__(self, model: Model, address: str) -> None:
        self.model = model
        try:
            self._client = Client(address, timeout=PATIENCE_S, set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise UserError(f"no Dask scheduler answers at {address}: {error}") from None
        try:
            self._client.wait_for_workers(1, timeout=PATIENCE_S)
            plugin = _Prepare(__version__, partial(prepare, model))
            self._client.register_plugin(plugin)
        except TimeoutError:
            self._client.close()
            raise UserError(f"the Dask scheduler at {address} {NO_WORKERS}") from None
        except (UserError, ImportError) as error:
            self._client.close()
            raise UserError(f"the workers at {address} cannot start: {error}") from None
        self._executor = self._client.get_executor(pure=False)
        self._count, self._counted = 1, -math.inf

    @property
    def count(self) -> int:
        """See `Workers`; changes as workers come and go."""
        if time.monotonic() - self._counted > COUNT_EVERY_S:
            self._count = max(1, sum(self._client.nthreads().values()))
            self._counted = time.monotonic()
        return self._count

    def submit(self, jobs: Sequence[Job]) -> Future[list[Outcome]]:
        """See `Workers`."""
        return self._executor.submit(process, jobs)

    def renew(self) -> None:
        """See `Workers`: Dask does it."""

    def close(self, at_once: bool) -> None:
        """See `Workers`. A job that has begun is finished by its worker nevertheless."""
        self._executor.shutdown(wait=not at_once)
        self._client.close()
