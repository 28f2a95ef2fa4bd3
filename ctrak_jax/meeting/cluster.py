"""What a cluster says of the processes: JAX's detection, and what Slurm's variables lack."""

import logging
import os
from typing import NamedTuple

from ctrak_jax.errors import UsageError

STEP = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")
"""The variables of a process of a Slurm step, as JAX reads them."""
BY_HAND = "or give --coordinator, --processes and --process"
logger = logging.getLogger("ctrak")


class Membership(NamedTuple):
    """Where the first process is (host:port), how many there are, which one this is, and what says
    so."""

    coordinator: str
    processes: int
    process: int
    source: str


def found() -> Membership:
    """This process's place in the cluster that JAX finds.

    Raises:
        UsageError: it finds none, or half of one.
    """
    from jax._src.clusters import ClusterEnv

    try:
        coordinator, processes, process, _ = ClusterEnv.auto_detect_unset_distributed_params(
            os.environ.get("JAX_COORDINATOR_ADDRESS"), None, None, None, None, 300
        )
    except Exception as error:  # whatever variables, metadata servers and Kubernetes answer
        raise UsageError(
            f"--distributed: what the cluster says cannot be read ({_line(error)}); {_slurm()}"
            f"start the command by the cluster's own launcher, {BY_HAND}."
        ) from None
    if coordinator is None or processes is None or process is None:
        raise UsageError(f"--distributed: {_slurm() or _none()}{BY_HAND}.")
    if not 0 <= process < processes:
        raise UsageError(
            f"--distributed: the cluster says that this is process {process} of {processes}; "
            f"{_slurm()}{BY_HAND}."
        )
    source = _set(STEP) if all(name in os.environ for name in STEP) else "the cluster"
    text = "process %d of %d, the first one at %s (by %s)"
    logger.info(text, process, processes, coordinator, source)
    return Membership(coordinator, processes, process, source)


def warn_of_tasks() -> None:
    """Several tasks of a Slurm step that do not join would each do the whole run."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks.isdecimal() and int(tasks) > 1:
        logger.warning(
            "this Slurm step has %s tasks (SLURM_STEP_NUM_TASKS), and each does the whole run in "
            "the same folder; add --distributed, or use --ntasks 1",
            tasks,
        )


def _slurm() -> str:
    """What there is of Slurm's variables and what is missing, as the beginning of a sentence."""
    if not any(name.startswith("SLURM_") for name in os.environ):
        return ""
    missing = [name for name in STEP if name not in os.environ]
    if not missing:
        return f"Slurm's variables are {_set(STEP)}; "
    there = _set([name for name in STEP if name in os.environ]) or "others of Slurm alone"
    return (
        f"Slurm's variables are {there}, without {', '.join(missing)}: this command runs in no "
        "Slurm step. Start it with srun (in the batch script or in the allocation), "
    )


def _none() -> str:
    return (
        "no cluster that JAX knows (TPU pod, Slurm, Open MPI, Kubernetes) has started this "
        "process; start it by the cluster's launcher, "
    )


def _set(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"{name}={os.environ[name]}" for name in names)


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0].rstrip(".")
