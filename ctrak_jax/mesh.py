"""Devices: every mesh, shard_map, collective and device placement of the package.

The mathematics is written for one sample and knows no device. Here plain functions over a leading
sample axis are split over devices; with one device they are compiled as they are.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ctrak_jax.errors import UsageError

SAMPLES = "samples"


def local_mesh(devices: int | None = None) -> Mesh:
    """A one-axis mesh over the first ``devices`` local devices (all by default).

    Raises:
        UsageError: more devices are asked for than there are.
    """
    found = jax.local_devices()
    if devices is not None and devices > len(found):
        raise UsageError(f"run.devices={devices}, but this process has {len(found)} device(s).")
    return Mesh(np.array(found[:devices]), (SAMPLES,))


def topology_mesh(topology: str) -> Mesh:
    """A one-axis mesh over the devices of a TPU topology that need not be there: programs can be
    compiled for it. libtpu must be found (TPU_LIBRARY_PATH).

    Raises:
        UsageError: libtpu knows no such topology.
    """
    # The two cores of a v4 chip work as one device; its compiler alone has to be told.
    given = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        found = topologies.get_topology_desc(topology, "tpu", **given).devices
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(f"--topology {topology}: {reason}.") from None
    return Mesh(np.array(found), (SAMPLES,))


def chips_of(mesh: Mesh) -> int:
    """The chips that a topology's devices make up: some generations have two devices a chip."""
    return len({tuple(device.coords) for device in mesh.devices.flat})


def described(tree: Any, mesh: Mesh, *, split: bool) -> Any:
    """Shapes and dtypes alone, as arguments to compile for ``mesh`` with: split over samples, or
    the same on every device."""
    sharding = NamedSharding(mesh, PartitionSpec(SAMPLES) if split else PartitionSpec())
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def over_samples(fn: Callable[[Any, Any], Any], mesh: Mesh) -> Callable[[Any, Any], Any]:
    """Compile ``fn(shared, batch) -> rows``, split over the samples of ``batch``.

    ``shared`` is replicated; every leaf of ``batch`` and of the result leads with the sample axis,
    a multiple of the number of devices. No collectives: samples do not meet.
    """
    if mesh.size == 1:
        return jax.jit(fn)
    return jax.jit(
        jax.shard_map(
            fn,
            mesh=mesh,
            in_specs=(PartitionSpec(), PartitionSpec(SAMPLES)),
            out_specs=PartitionSpec(SAMPLES),
            check_vma=False,
        )
    )


def put_replicated(tree: Any, mesh: Mesh) -> Any:
    """The same values on every device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def put_batches(tree: Any, mesh: Mesh) -> Any:
    """Stacked training batches [step, batch, ...], the batch axis split over devices."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec(None, SAMPLES)))


def padded(rows: np.ndarray, multiple: int) -> np.ndarray:
    """Row numbers extended to a multiple by repeating the last one, so that shapes stay fixed."""
    return np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % multiple, axis=0)])
