"""Filling feature stores: one loop for whatever computes their rows."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ctrak_jax.log import StageRecord, deadline, logger, meter
from ctrak_jax.store import FeatureStore


class FillJob(NamedTuple):
    """Whole chunks of rows that are computed at once.

    Attributes:
        chunks: the rows.
        stores: those that they are written to where they lack a chunk.
        program: the stores whose rows one program computes, these among them.
        of: names what is computed, where jobs differ by more than their program.
    """

    chunks: tuple[range, ...]
    stores: tuple[str, ...]
    program: tuple[str, ...] = ()
    of: str = ""

    @property
    def kind(self) -> str:
        """The same of jobs whose rows take equally long."""
        return " ".join((self.of, *self.program))

    @property
    def first(self) -> int:
        return self.chunks[0].start

    @property
    def rows(self) -> int:
        return sum(map(len, self.chunks))


Computed = Mapping[str, Mapping[str, np.ndarray]]
"""Store -> array name -> the rows of a job, chunk by chunk."""


def fill(
    stores: Mapping[str, FeatureStore],
    jobs: Sequence[FillJob],
    dispatch: Callable[[FillJob], Callable[[], Computed]],
    title: str,
    record: StageRecord,
) -> None:
    """Compute and write the rows that the stores lack.

    The devices compute a job while the one before it is fetched and written. Where the command's
    time is up, what the devices compute is written, and no further job is started.

    Args:
        stores: by name.
        jobs: in order.
        dispatch: starts a job on the devices; what it returns waits for the rows.
        title: of the progress bar.
        record: counts the rows.

    Raises:
        OutOfTime: rows are still missing, and the time is up.
    """
    missing = {name: set(store.missing) for name, store in stores.items()}

    def write(job: FillJob, fetch: Callable[[], Computed]) -> None:
        computed, first = fetch(), 0
        for chunk in job.chunks:
            part = slice(first, first + len(chunk))
            first += len(chunk)
            for name in job.stores:
                if chunk in missing[name]:
                    arrays = computed[name].items()
                    stores[name].write(chunk, {array: rows[part] for array, rows in arrays})
            logger.debug("computed rows %d..%d", chunk.start, chunk.stop - 1)
        record.samples += job.rows
        bar.advance(job.rows, job.kind)

    try:
        rows: Counter[str] = Counter()
        for job in jobs:
            rows[job.kind] += job.rows
        with meter(title, rows) as bar:
            before: tuple[FillJob, Callable[[], Computed]] | None = None
            for job in jobs:
                if deadline.passed and before is not None:
                    write(*before)
                    before = None
                    deadline.check()
                started = job, dispatch(job)
                if before is not None:
                    write(*before)
                before = started
            if before is not None:
                write(*before)
    finally:
        for store in stores.values():
            store.flush()
