"""A training run that resumes where it was stopped: checkpoints by Orbax in a folder of its own."""

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ctrak_jax import devices, hosts
from ctrak_jax.errors import StoreError
from ctrak_jax.log import deadline, logger, meter
from ctrak_jax.models.training import Trainer, TrainState
from ctrak_jax.store.files import read_json, write_atomically
from ctrak_jax.typing import Params, PRNGKey


class Chunking(NamedTuple):
    """How many steps, how many of them a call, and how many between two checkpoints."""

    steps: int
    scan: int
    checkpoint_every: int


class FitResult(NamedTuple):
    """The averaged parameters, the mean loss of the last call, the steps done here."""

    params: Params
    loss: float
    steps: int


def refuse_other(folder: Path, inputs: Mapping[str, Any], made_from: Mapping[str, Any]) -> None:
    """Refuse to resume what was made from other inputs."""
    differing = sorted(k for k in inputs if made_from.get(k) != inputs[k])
    if differing:
        raise StoreError(
            f"{folder} was made from other settings ({', '.join(differing)} differ); use another "
            "--out, or delete the run to make it anew."
        )


def claim(folder: Path, inputs: Mapping[str, Any]) -> None:
    """Mark a folder of checkpoints as made from ``inputs``, unless it is there from others."""
    made_from = folder / "inputs.json"
    if made_from.exists():
        refuse_other(folder, inputs, read_json(made_from, "train"))
    elif folder.exists():
        raise StoreError(f"{made_from} is missing; delete {folder} to train from the start.")
    write_atomically(made_from, json.dumps(inputs))


def checkpointed(
    trainer: Trainer,
    params: Params,
    batches: Callable[[int, int], tuple[Any, ...]],
    chunking: Chunking,
    *,
    key: PRNGKey,
    folder: Path,
    inputs: Mapping[str, Any],
    mesh: Mesh,
    title: str,
    too_fast: str,
) -> FitResult:
    """Train to the end, from the last checkpoint in ``folder`` where there is one.

    Args:
        batches: stacked batches of steps ``first ... first + count - 1``, read ahead in a thread.
        key: of every random number of the training.
        inputs: what the run is made from, as JSON.
        too_fast: the setting to lower where the loss is not finite.

    Raises:
        OutOfTime: the time is up; a checkpoint of the last call is kept.
    """
    import orbax.checkpoint as ocp

    # Each part of the state needs buffers of its own: the training call donates them.
    state = jax.tree.map(jnp.copy, trainer.init(params))
    folder = folder.resolve()
    claim(folder, inputs)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=1, create=False, multiprocessing_options=hosts.checkpoints()
    )
    loss = float("nan")

    def stretch(first: int) -> tuple[Any, ...]:
        return batches(first, min(chunking.scan, chunking.steps - first))

    with ocp.CheckpointManager(folder, options=options) as manager, ThreadPoolExecutor(1) as ahead:
        latest = manager.latest_step()
        if latest is not None:
            state = _restore(manager, latest, state, folder)
            logger.info("training resumes from step %d", latest)
        begun = step = latest or 0
        state, drawn_by = devices.put_replicated((state, jax.random.key_data(key)), mesh)
        following = ahead.submit(stretch, step) if step < chunking.steps else None
        with meter(title, chunking.steps, step) as bar:
            while following is not None:
                batch = devices.put_batches(following.result(), mesh)
                count = batch[0].shape[0]
                state, mean_loss = trainer.run(state, drawn_by, *batch)
                step += count
                ends = step == chunking.steps
                following = None if ends else ahead.submit(stretch, step)
                loss = float(mean_loss)
                if not jnp.isfinite(loss):
                    raise StoreError(
                        f"training loss became {loss} before step {step}; lower {too_fast}."
                    )
                bar.advance(count)
                late = deadline.passed
                if not ends and (late or step % chunking.checkpoint_every == 0):
                    manager.save(step, args=ocp.args.StandardSave(hosts.savable(state)))
                if late and not ends:
                    manager.wait_until_finished()
                    deadline.check()
        manager.wait_until_finished()
    return FitResult(state.average, loss, step - begun)


def _restore(manager: Any, step: int, state: TrainState, folder: Path) -> TrainState:
    import orbax.checkpoint as ocp

    try:
        return cast(TrainState, manager.restore(step, args=ocp.args.StandardRestore(state)))
    except Exception as error:  # Orbax raises many kinds for damaged files
        reason = str(error).partition("\n")[0]
        raise StoreError(
            f"{folder}/{step}: the training checkpoint cannot be read ({reason}); delete "
            f"{folder} to train from the start."
        ) from error
