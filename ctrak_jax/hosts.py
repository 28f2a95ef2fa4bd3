"""Several processes: who takes part, what is this one's share, and where they wait for each other.

Every process featurizes its own share of the samples on its own devices and writes its own rows: no
step waits for another host, and a host that is lost costs its own chunk. The processes meet between
stages, where sums over all samples are reduced, and where their top lists become one. The first one
does what is done once: training, images of the queries, the report, and solving in memory.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from ctrak_jax.errors import UsageError

Item = TypeVar("Item")


def join(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Join the other processes; before any other use of JAX.

    Args:
        coordinator: host:port of the first process; where all three are ``None`` the cluster says
            (TPU pod, Slurm, MPI, Kubernetes).
        processes: how many.
        process: this one, from 0.
    """
    given = [value is not None for value in (coordinator, processes, process)]
    if any(given) and not all(given):
        raise UsageError(
            f"--coordinator={coordinator}, --processes={processes}, --process={process}: give all "
            "three, or none of them on a cluster that JAX knows (TPU pod, Slurm, MPI, Kubernetes)."
        )
    if process is not None and not 0 <= process < (processes or 0):
        raise UsageError(
            f"--process={process} must be at least 0 and below --processes={processes}."
        )
    # Gloo tells its connections on stdout, which belongs to the command's result.
    sys.stdout = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), 1)
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"--distributed: the other processes cannot be joined "
            f"({str(error).splitlines()[0].rstrip('.')}); give --coordinator, --processes and "
            "--process."
        ) from None


def leave(status: int) -> None:
    """End this process at once: at a normal exit it would wait for the others, and they for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def joined() -> bool:
    """Has :func:`join` been called?"""
    return jax.distributed.is_initialized()


def count() -> int:
    """How many processes take part."""
    return jax.process_count()


def is_first() -> bool:
    """Is this the process that does what is done once?"""
    return jax.process_index() == 0


def share(items: Sequence[Item]) -> list[Item]:
    """This process's part of a list that is the same in all of them."""
    return list(items[jax.process_index() :: count()])


def part(count: int, chunk: int) -> range:
    """This process's consecutive rows of ``count`` that are kept in chunks: whole chunks."""
    chunks, processes = -(-count // chunk), jax.process_count()
    first, last = (chunks * (jax.process_index() + i) // processes * chunk for i in (0, 1))
    return range(min(first, count), min(last, count))


def joined_up(values: np.ndarray, axis: int) -> np.ndarray:
    """In every process the arrays of all end to end along ``axis``; their lengths may differ."""
    if count() == 1:
        return values
    from jax.experimental import multihost_utils

    lengths = multihost_utils.process_allgather(np.asarray(values.shape[axis]))
    width = [(0, 0)] * values.ndim
    width[axis] = (0, int(lengths.max()) - values.shape[axis])
    found = multihost_utils.process_allgather(np.pad(values, width))
    cut = [np.take(a, np.arange(n), axis) for a, n in zip(found, lengths, strict=True)]
    return np.concatenate(cut, axis)


def barrier(name: str) -> None:
    """Wait until every process is here."""
    if count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def checkpoints() -> Any:
    """Orbax's options that make a checkpoint this process's own business."""
    from orbax.checkpoint.options import MultiprocessingOptions

    if count() == 1:
        return MultiprocessingOptions()
    me = jax.process_index()
    return MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
    )


def savable(tree: Any) -> Any:
    """What Orbax takes from one process among several: host arrays."""
    return jax.tree.map(np.asarray, tree)


def checkpointer() -> Any:
    """Orbax's checkpointer of one pytree."""
    import orbax.checkpoint as ocp

    return ocp.StandardCheckpointer(multiprocessing_options=checkpoints())
