"""Devices: every mesh, shard_map, collective and device placement of the package.

The mathematics is written for one sample and knows no device. Here plain functions over a leading
sample axis are split over devices; with one device they are compiled as they are.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ctrak_jax import fisher
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
            in_specs=(PartitionSpec(), PartitionSpec(mesh.axis_names)),
            out_specs=PartitionSpec(mesh.axis_names),
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


def memory(mesh: Mesh) -> int:
    """Bytes that a solve may take of one device: half of its own, or of its share of the host."""
    stats = mesh.devices.flat[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] // 2
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // (2 * mesh.size)


class SampleSum:
    """Sums over samples of ``fn(shared, rows)``, the rows split over all axes of a mesh.

    Every device adds into an accumulator of its own, ``add``, where devices do not meet; ``flush``
    reduces the accumulators, once. On a mesh of several axes, outermost first, the sum is scattered
    over the inner ones, so that every device carries a share of it alone over the slow outer one,
    and gathered again.
    """

    def __init__(self, fn: fisher.RowFn, mesh: Mesh) -> None:
        split, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
        outer, *inner = mesh.axis_names

        def add(total: jax.Array, shared: Any, rows: jax.Array) -> jax.Array:
            return total + fn(shared, rows)[None]

        def flush(total: jax.Array) -> jax.Array:
            part = total[0]
            if not inner:
                return jax.lax.psum(part, outer)
            axes, last = tuple(inner), part.ndim - 1
            share = jax.lax.psum_scatter(part, axes, scatter_dimension=last, tiled=True)
            return jax.lax.all_gather(jax.lax.psum(share, outer), axes, axis=last, tiled=True)

        def shard(fn: Callable[..., jax.Array], specs: tuple, out: PartitionSpec, **donated):
            mapped = jax.shard_map(fn, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
            return jax.jit(mapped, **donated)

        self.add = shard(add, (split, whole, split), split, donate_argnums=0)
        self.flush = shard(flush, (split,), whole)
        self._fn, self._mesh = fn, mesh
        self._sharding = NamedSharding(mesh, split)

    def accumulators(self, shared: Any, rows: Any) -> jax.ShapeDtypeStruct:
        """What :attr:`add` adds into, by its other arguments: [device, ...]."""
        one = jax.eval_shape(self._fn, shared, rows)
        shape = (self._mesh.size, *one.shape)
        return jax.ShapeDtypeStruct(shape, one.dtype, sharding=self._sharding)

    def zeros(self, shared: Any, rows: Any) -> jax.Array:
        """Empty accumulators."""
        like = self.accumulators(shared, rows)
        return jnp.zeros(like.shape, like.dtype, device=self._sharding)


class ShardedRows:
    """:class:`ctrak_jax.fisher.Rows` whose sums run over a mesh.

    Args:
        blocks: opens all rows, in order; a block is overwritten when the next is asked for.
        block: rows of a block, the last one may have fewer. resident: read them once and keep
            them on the devices, n k / devices floats each.
    """

    def __init__(
        self,
        mesh: Mesh,
        n: int,
        k: int,
        blocks: Callable[[], Iterable[fisher.Block]],
        *,
        block: int,
        resident: bool,
    ) -> None:
        self.n, self.k = n, k
        self._mesh, self._read = mesh, blocks
        self._size = block + -block % mesh.size
        self._resident = resident
        self._kept: list[tuple[range, jax.Array]] = []
        self._sums: dict[fisher.RowFn, SampleSum] = {}
        self._maps: dict[fisher.RowFn, Callable[[Any, Any], Any]] = {}

    def blocks(self) -> Iterator[fisher.Block]:
        yield from self._read()

    def total(self, fn: fisher.RowFn, shared: Any) -> jax.Array:
        summed = self._sums.setdefault(fn, SampleSum(fn, self._mesh))
        shared, total = put_replicated(shared, self._mesh), None
        for _, rows in self._placed():
            if total is None:
                total = summed.zeros(shared, rows)
            total = summed.add(total, shared, rows)
            if not self._resident:
                jax.block_until_ready(total)  # the block's memory is about to be written to
        if total is None:
            raise ValueError("There are no rows to sum over.")
        return summed.flush(total)

    def each(self, fn: fisher.RowFn, shared: Any) -> Iterator[fisher.Block]:
        mapped = self._maps.setdefault(fn, over_samples(fn, self._mesh))
        shared = put_replicated(shared, self._mesh)
        for place, rows in self._placed():
            yield fisher.Block(place, np.asarray(mapped(shared, rows))[: len(place)])

    def _placed(self) -> Iterator[tuple[range, jax.Array]]:
        """All blocks on the devices, filled up with zero rows to one shape."""
        if self._kept:
            yield from self._kept
            return
        split = NamedSharding(self._mesh, PartitionSpec(self._mesh.axis_names))
        kept = []
        for place, features in self._read():
            features = np.asarray(features, np.float32)
            if self._resident or len(place) < self._size:
                filled = np.zeros((self._size, self.k), np.float32)
                filled[: len(place)] = features
                features = filled
            placed = jax.device_put(features, split)
            if self._resident:
                kept.append((place, placed))
            yield place, placed
        self._kept = kept
