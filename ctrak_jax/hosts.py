"""Several processes: who takes part, what is this one's share, and where they wait for each other.

Every process featurizes its own share of the samples on its own devices and writes its own rows: no
step waits for another host, and a host that is lost costs its own chunk. The processes meet between
stages, where sums over all samples are reduced, and where their top lists become one. The first one
does what is done once: training, images of the queries, the report, and solving in memory.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from ctrak_jax import meeting
from ctrak_jax.errors import HostError, UsageError
from ctrak_jax.meeting import cluster
from ctrak_jax.progress import Process

Item = TypeVar("Item")
PATIENT = meeting.Limits()
JAX_SECONDS = 600
"""After the limit of a barrier, until JAX itself ends processes whose others are gone."""


def join(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    limits: meeting.Limits = PATIENT,
) -> None:
    """Join the other processes; before any other use of JAX.

    Args:
        coordinator: host:port of the first process; where all three are ``None`` the cluster says
            (TPU pod, Slurm, MPI, Kubernetes).
        processes: how many.
        process: this one, from 0.
        limits: how long they wait for each other.

    Raises:
        UsageError: these are no process's, or the cluster does not say them.
        HostError: the others have not come in time.
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
    source = ""
    if coordinator is None or processes is None or process is None:
        coordinator, processes, process, source = cluster.found()
    alone = True
    if processes > 1:
        try:
            alone = meeting.join(coordinator, processes, process, limits).alone
        except HostError as error:
            raise HostError(f"{error}{source and f' {coordinator} is by {source}.'}") from None
    # Gloo tells its connections on stdout, which belongs to the command's result.
    sys.stdout = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), 1)
    try:
        # A process that is alone on its machine uses all of its devices. JAX's own heartbeats end
        # processes by SIGABRT: the meeting notices first.
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            cluster_detection_method="deactivate" if alone else None,
            heartbeat_timeout_seconds=int(limits.barrier) + JAX_SECONDS,
        )
        # JAX takes SIGTERM for a notice that nothing here asks about: it would end nothing.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    except (ValueError, RuntimeError) as error:
        raise HostError(
            f"--distributed: JAX cannot join the other processes at {coordinator} "
            f"({str(error).splitlines()[0].rstrip('.')})."
        ) from None


def finish() -> None:
    """Wait until every process has done its part, and leave the meeting."""
    if count() > 1:
        participant = meeting.this_process()
        participant.barrier("end")
        participant.finish()


def leave(status: int, reason: str) -> None:
    """End this process at once, and the others: at a normal exit they would wait for each other."""
    meeting.leave(reason, status)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def joined() -> bool:
    """Has :func:`join` been called?"""
    return jax.distributed.is_initialized()


def count() -> int:
    """How many processes take part."""
    return jax.process_count()


def this() -> Process:
    """Which process this is."""
    return Process(jax.process_index(), jax.process_count())


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

    barrier("arrays joined up")
    lengths = multihost_utils.process_allgather(np.asarray(values.shape[axis]))
    width = [(0, 0)] * values.ndim
    width[axis] = (0, int(lengths.max()) - values.shape[axis])
    found = multihost_utils.process_allgather(np.pad(values, width))
    cut = [np.take(a, np.arange(n), axis) for a, n in zip(found, lengths, strict=True)]
    return np.concatenate(cut, axis)


def barrier(name: str) -> None:
    """Wait until every process is here; one that is late for too long ends them all.

    Raises:
        HostError: the first process does not answer.
    """
    if count() > 1:
        meeting.this_process().barrier(name)


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
