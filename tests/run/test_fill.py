"""Filling stores: rows job by job, and where the command's time ends."""

from collections.abc import Callable

import numpy as np
import pytest

from ctrak_jax import log
from ctrak_jax.errors import OutOfTime
from ctrak_jax.log import StageRecord, deadline
from ctrak_jax.run.fill import Computed, FillJob, fill
from tests.store.stores import CHUNK, ROWS, create, values


@pytest.fixture
def limit():
    """Sets a limit that is gone after the test."""
    yield deadline.set
    deadline.set(float("inf"))


def jobs(chunks: list[range]) -> list[FillJob]:
    return [FillJob((chunk,), ("features",)) for chunk in chunks]


def test_a_piece_at_a_time_comes_to_the_same_rows(tmp_path, limit):
    """Time that is over at once: every command writes what it has begun, one job, then ends; the
    last one has nothing to end for."""
    chunks = -(-ROWS // CHUNK)
    begun: list[int] = []

    def dispatch(job: FillJob) -> Callable[[], Computed]:
        begun.append(job.first)
        rows = job.chunks[0]
        return lambda: {"features": {"features": values()[rows.start : rows.stop]}}

    for done in range(1, chunks + 1):
        store, record = create(tmp_path / "store"), StageRecord()
        arguments = {"features": store}, jobs(store.missing), dispatch, "fill", record
        limit(0.0)
        if done < chunks:
            with pytest.raises(OutOfTime, match="0 minutes"):
                fill(*arguments)
        else:
            fill(*arguments)
        assert len(create(tmp_path / "store").missing) == chunks - done
        assert len(begun) == done, "no job is begun that is not written"
    np.testing.assert_array_equal(create(tmp_path / "store").read(), values())


def test_with_time_left_nothing_ends(tmp_path, limit):
    limit(60.0)
    store = create(tmp_path / "store")

    def dispatch(job: FillJob) -> Callable[[], Computed]:
        rows = job.chunks[0]
        return lambda: {"features": {"features": values()[rows.start : rows.stop]}}

    fill({"features": store}, jobs(store.missing), dispatch, "fill", StageRecord())
    assert not create(tmp_path / "store").missing


def test_what_ran_out_of_time_is_an_interrupted_stage(tmp_path, limit):
    limit(0.0)
    with pytest.raises(OutOfTime), log.stage(tmp_path, "some stage"):
        deadline.check()
    assert '"status": "interrupted"' in (tmp_path / "log.jsonl").read_text()
